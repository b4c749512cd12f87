"""What a BIDS data set holds: runs with their events and confounds, ROIs, and what is wrong.

Raw data and the derivatives of fMRIPrep are walked once and matched by the labels in their names.
Headers, sidecars and tables are read; voxels are not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from fmri.bold import BoldRun, read_runs
from fmri.confounds import ConfoundOptions
from fmri.layout.checks import (
    ERROR,
    Facts,
    Findings,
    check_rois,
    tell_lacking_regions,
    tell_lacking_sessions,
)
from fmri.layout.files import (
    LACKING,
    WITHOUT,
    check_candidates,
    check_folders,
    compare_runs,
    describe_folders,
    found_regions,
    narrowed,
    run_tables,
    series_of,
    tell_empty_subjects,
)
from fmri.layout.options import OF_RUNS, layout_options
from fmri.layout.tree import BidsTree, natural
from neurometamer.arguments import KeywordsOf, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.summaries import short_repr

_SPELLED_OUT = 5
"""Problems alike of which every one is written out; of more, their files and the first."""

_RUN = ("subject", "session", "task", "run", "variant")
_LABELS = ("space", "resolution", "hemisphere", "desc", "echo", "format")
_FILES = ("bold", "events", "confounds", "mixing", "brain_mask")

RUN_COLUMNS = (*_RUN, *_LABELS, "n_volumes", "t_r", "n_events", *_FILES)
STIMULUS_COLUMNS = (*_RUN, "id", "n_events")
REGION_COLUMNS = (
    "subject",
    "session",
    "kind",
    "name",
    "space",
    "resolution",
    "hemisphere",
    "file",
    "table",
)
PROBLEM_COLUMNS = ("severity", "problem", "subject", "file", "message")


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """What was found in a BIDS data set, from `find_dataset`.

    Parameters
    ----------
    dataset : Path
        Folder of the data set.
    derivatives : Path or None
        Folder of the preprocessed data; None where the images are those of the data set itself.
    pipeline : str
        What made the images, as ``dataset_description.json`` says; may be empty.
    id_column : str
        Column of the events that holds the stimulus ids.
    runs : pandas.DataFrame
        One row an image of time series. Labels: subject, session, task, run, variant (acq, ce, rec,
        dir), space, resolution (res or den), hemisphere, desc, echo; empty where the name has none.
        Facts: format (volume, surface, cifti), n_volumes, t_r (s), n_events; missing where they
        cannot be read. Files: bold, events, confounds, mixing (tedana's components), brain_mask;
        empty where there is none.
    rois : pandas.DataFrame
        One row a file of regions: subject, session, kind (mask, dseg, probabilities, labels, or
        given), name, space, resolution, hemisphere, file, table (the names of labels).
    stimuli : pandas.DataFrame
        Which stimulus ids appear in which run: subject, session, task, run, variant, id, n_events.
    problems : pandas.DataFrame
        What is missing, empty or contradicts: severity (error: the run cannot be used; note),
        problem (in a few words), subject, file, message (with what to do).
    t_r : float, optional
        Repetition time in seconds that was given, where header and sidecar disagree.
    affine : {"agree", "sform", "qform"}
        Which transform of the headers places the voxels.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp()) / "sub-01" / "func"
    >>> folder.mkdir(parents=True)
    >>> for name in ("run-1_bold.nii.gz", "run-1_events.tsv"):
    ...     (folder / f"sub-01_task-images_{name}").touch()
    >>> layout = find_dataset(folder.parents[1])
    >>> layout.problems[layout.problems["severity"] == "error"]["problem"].tolist()
    ['image is not here', 'events']
    """

    dataset: Path
    derivatives: Path | None
    pipeline: str
    id_column: str
    runs: pd.DataFrame
    rois: pd.DataFrame
    stimuli: pd.DataFrame
    problems: pd.DataFrame
    t_r: float | None = None
    affine: str = "agree"

    def _summary(self) -> dict[str, Any]:
        errors = self.problems["severity"] == ERROR
        n_errors = int(errors.sum())
        spaces = self.runs["space"].replace("", WITHOUT)
        return {
            "dataset": str(self.dataset),
            "derivatives": None if self.derivatives is None else str(self.derivatives),
            "subjects": list(self.subjects),
            "runs": len(self.runs),
            "tasks": sorted(self.runs["task"].unique()),
            "spaces": sorted(spaces.unique()),
            "stimuli": self.stimuli["id"].nunique(),
            "rois": len(self.rois),
            "errors": n_errors,
            "notes": len(errors) - n_errors,
        }

    @property
    def subjects(self) -> tuple[str, ...]:
        """Labels of the subjects with images.

        Returns
        -------
        tuple of str
            Without ``sub-``, numbers by their size.
        """
        return tuple(dict.fromkeys(self.runs["subject"]))

    @property
    def usable(self) -> pd.Series:
        """Which images have no error, their events and confounds neither.

        Returns
        -------
        pandas.Series of bool
            One value a row of `runs`.
        """
        errors = self.problems[self.problems["severity"] == ERROR]
        broken = errors["file"][errors["file"] != ""]
        files = self.runs[["bold", "events", "confounds", "mixing"]]
        return ~files.isin(broken.tolist()).any(axis=1)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Give all tables.

        Returns
        -------
        dict of str to pandas.DataFrame
            By the names runs, stimuli, rois and problems.
        """
        return {
            "runs": self.runs,
            "stimuli": self.stimuli,
            "rois": self.rois,
            "problems": self.problems,
        }

    def describe(self) -> list[str]:
        """Say in lines what was found, which stimuli appear in which run, and what is wrong.

        Returns
        -------
        list of str
            The data set; a line for all runs alike; a line for all runs with the same stimuli; a
            line for all regions alike; a line for each problem, or of many alike their files and
            the first.
        """
        images = self.derivatives or self.dataset
        by = f" by {self.pipeline}" if self.pipeline else ""
        n_usable = int(self.usable.sum())
        lines = [
            f"{images}{by}: {len(self.runs)} images of {len(self.subjects)} subjects, "
            f"{n_usable} without errors"
        ]
        of_image = ["task", *_LABELS]
        for labels, rows in self.runs.groupby(of_image, sort=False):
            subjects = list(dict.fromkeys(rows["subject"]))
            each = rows.groupby("subject").size()
            facts = [
                f"{len(subjects)} subjects ({name_ids(subjects)})",
                _span("images each", each),
                _span("volumes", rows["n_volumes"]),
                _span("repetition time (s)", rows["t_r"]),
            ]
            for name in ("events", "confounds", "mixing"):
                n_tables = int(rows[name].ne("").sum())
                if n_tables or name != "mixing":
                    facts.append(f"{n_tables} {name}")
            lines.append(f"{_named(of_image, labels)}: {', '.join(facts)}")
        alike: dict[tuple[str, ...], list[str]] = {}
        for labels, rows in self.stimuli.groupby(list(_RUN), sort=False):
            ids = sorted(rows["id"], key=natural)
            run = _named(_RUN, labels).replace(",", "")
            alike.setdefault(tuple(ids), []).append(run)
        for stimuli, runs in alike.items():
            shown = name_ids(runs, 2)
            lines.append(f"{len(stimuli)} stimuli ({name_ids(stimuli)}) in {shown}")
        of_region = ["kind", "name", "space", "resolution", "hemisphere"]
        for labels, rows in self.rois.groupby(of_region, sort=False):
            region = _named(of_region, labels)
            n_subjects = rows["subject"].nunique()
            lines.append(f"region: {region}, of {n_subjects} subjects")
        # errors before notes
        for (severity, problem), rows in self.problems.groupby(["severity", "problem"]):
            start = f"{severity}: {problem}"
            messages = list(dict.fromkeys(rows["message"]))
            if len(messages) > _SPELLED_OUT:
                names = [Path(file).name for file in rows["file"] if file]
                lines.append(f"{start}: {len(messages)} times: {name_ids(names)}; the first:")
                messages = messages[:1]
            for message in messages:
                lines.append(f"{start}: {message}")
        return lines

    def select(self, subject: str, *, task: str = "", space: str = "") -> pd.DataFrame:
        """Choose the images of one subject, one for each run.

        Parameters
        ----------
        subject : str
            Label, with or without ``sub-``.
        task, space : str
            Only these, where the layout holds several.

        Returns
        -------
        pandas.DataFrame
            Rows of `runs`, in the order of sessions and runs; of surfaces those of the left
            hemisphere, where there are both.

        Raises
        ------
        InputError
            When there is none, several fit one run, tasks are mixed, or an image, its events or its
            confounds cannot be used.
        """
        label = subject.removeprefix("sub-")
        if label not in self.subjects:
            raise unknown_name("subject", label, self.subjects)
        rows = self.runs[self.runs["subject"] == label]
        for column, wanted in {"task": task, "space": space}.items():
            there = rows[column].replace("", WITHOUT)
            if wanted and wanted not in set(there):
                raise unknown_name(f"{column} of sub-{label}", wanted, dict.fromkeys(there))
            if wanted:
                rows = rows[there == wanted]
        for column, option in {"task": "task", "space": "space", "format": "space"}.items():
            names = dict.fromkeys(rows[column].replace("", WITHOUT))
            if len(names) > 1:
                raise InputError(
                    f"sub-{label} has images of several {column}s: {name_ids(names)}; choose one "
                    f"({option}, --{option})."
                )
        files = {*rows["bold"], *rows["events"], *rows["confounds"], *rows["mixing"]} - {""}
        errors = self.problems[self.problems["severity"] == ERROR]
        messages = list(dict.fromkeys(errors["message"][errors["file"].isin(files)]))
        if messages:
            more = ""
            if messages[1:]:
                more = f" ({len(messages)} things in all: 'neurometamer fmri layout' lists them)"
            raise InputError(messages[0] + more)
        # the right hemisphere is found beside the left one
        return rows[~rows.duplicated(list(_RUN))]

    def files(self, subject: str, *, task: str = "", space: str = "") -> dict[str, list[Path]]:
        """Name the files of one subject, one for each run.

        Parameters
        ----------
        subject : str
            Label, with or without ``sub-``.
        task, space : str
            Only these, where the layout holds several.

        Returns
        -------
        dict of str to list of Path
            By the names bold, events, confounds and mixing; confounds are empty where no run has
            any, mixing where not all have it.

        Raises
        ------
        InputError
            See `select`; and when some runs have confounds and others have none.
        """
        rows = self.select(subject, task=task, space=space)
        files = {}
        for name in ("bold", "events", "confounds", "mixing"):
            files[name] = [Path(file) for file in rows[name] if file]
        n_lacking = len(rows) - len(files["confounds"])
        if 0 < n_lacking < len(rows):
            raise InputError(
                f"{n_lacking} of {len(rows)} runs of sub-{subject.removeprefix('sub-')} have no "
                "table of confounds; add them, or choose other runs (runs, --runs; sessions, "
                "--sessions)."
            )
        if len(files["mixing"]) < len(rows):
            files["mixing"] = []
        return files

    def masks(self, subject: str) -> dict[str, Path]:
        """Name the files of the ROIs that were given as patterns.

        Parameters
        ----------
        subject : str
            Label, with or without ``sub-``.

        Returns
        -------
        dict of str to Path
            ROI to file, in the order given; those without a file are left out.
        """
        label = subject.removeprefix("sub-")
        files = {}
        for row in self.rois.to_dict("records"):
            is_given = row["kind"] == "given"
            if is_given and row["subject"] == label:
                roi = str(row["name"])
                files[roi] = Path(row["file"])
        return files

    def read_runs(
        self,
        subject: str,
        *,
        task: str = "",
        space: str = "",
        columns: Sequence[str] = (),
        strategy: Sequence[str] = (),
        hemispheres: str = "both",
        **options: Any,
    ) -> list[BoldRun]:
        """Open the runs of one subject, checked, with their confounds.

        Parameters
        ----------
        subject : str
            Label, with or without ``sub-``.
        task, space : str
            Only these, where the layout holds several.
        columns : sequence of str
            Confounds to use, by names or patterns such as ``"a_comp_cor_0*"``; by default the six
            motion parameters.
        strategy : sequence of str
            Instead: nilearn's strategies, see `fmri.confounds.strategy_confounds`.
        hemispheres : {"both", "one"}
            Whether series on a surface need the file of the other hemisphere.
        **options : object
            Parameters of the strategies.

        Returns
        -------
        list of BoldRun
            In the order of sessions and runs.

        Raises
        ------
        InputError
            When the files cannot be used, or confounds are asked for and there are none.

        Warns
        -----
        UserWarning
            When a run of the data set has no preprocessed image, or preprocessed runs have no
            confounds.
        """
        files = self.files(subject, task=task, space=space)
        of_subject = self.problems["subject"] == subject.removeprefix("sub-")
        lacking = self.problems["problem"].eq(LACKING) & of_subject
        for message in self.problems["message"][lacking]:
            warnings.warn(message, stacklevel=2)
        chosen = ConfoundOptions(strategy=strategy, strategy_options=options)
        name = f"sub-{subject.removeprefix('sub-')}"
        has_confounds = bool(files["confounds"] or (files["mixing"] and "tedana" in strategy))
        if (strategy or columns) and not has_confounds:
            raise InputError(
                f"the runs of {name} have no tables of confounds; give derivatives that hold them "
                "(derivatives, --derivatives), or ask for none."
            )
        if self.derivatives is not None and not has_confounds:
            warnings.warn(
                f"the runs of {name} have no tables of confounds; none are in the model.",
                stacklevel=2,
            )
        confounds, used = chosen.choose(files["confounds"], files["bold"], files["mixing"], columns)
        return read_runs(
            files["bold"],
            files["events"],
            confounds,
            t_r=self.t_r,
            columns=used,
            condition_column=self.id_column,
            affine=self.affine,
            hemispheres=hemispheres,
        )


@checked
def find_dataset(
    dataset: str | os.PathLike[str],
    derivatives: str | os.PathLike[str] | None = None,
    *,
    rois: Mapping[str, str] | None = None,
    **options: Annotated[Any, KeywordsOf("fmri.layout.options:LayoutOptions")],
) -> Layout:
    """Find the runs, events, confounds and ROIs of a BIDS data set, and what is wrong with them.

    Parameters
    ----------
    dataset : path-like
        Folder of the BIDS data set: events, sidecars, and images where there are no derivatives.
    derivatives : path-like, optional
        Folder of fMRIPrep's output: images, confounds, masks.
    rois : mapping of str to str, optional
        ROI to the file of its mask, or ``FILE:LABEL``; ``{subject}`` stands for the label of a
        subject, and ``*`` for anything.
    **options : object
        Fields of `fmri.layout.options.LayoutOptions`: subjects, sessions, runs, task, space,
        resolution, desc, echo, id_column, t_r, affine, tedana.

    Returns
    -------
    Layout
        Tables of what was found.

    Raises
    ------
    InputError
        When a folder is no BIDS data set, holds no images of time series, or nothing fits what was
        chosen. All else that is wrong is listed in ``problems``.

    Notes
    -----
    Files belong to one run when their labels sub, ses, task, acq, ce, rec, dir and run are the
    same; ``run-1`` is ``run-01``. Events and sidecars apply by the inheritance principle of BIDS
    (1.9, "The Inheritance Principle"). Of several images that fit one run in one space, none is
    taken: the problem lists them; ``part-phase``, ``part-real`` and ``part-imag`` are not listed.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> try:
    ...     find_dataset(mkdtemp())
    ... except InputError as error:
    ...     print(str(error).split(": ")[1])
    it has no folder sub-… (it is empty).
    """
    wishes = layout_options(options, "find_dataset")
    raw = BidsTree(dataset)
    images = raw if derivatives is None else BidsTree(derivatives)
    findings = Findings()
    pipeline = describe_folders(raw, images, findings)
    known = sorted({*raw.subjects, *images.subjects}, key=natural)
    wanted = [name.removeprefix("sub-") for name in wishes.subjects] or known
    for label in wanted:
        if label not in known:
            raise unknown_name(f"subject of {raw.root}", label, known)
    in_images = images.files(wanted)
    in_raw = [] if images is raw else raw.files(wanted)
    files = [*in_raw, *in_images]
    chosen = wishes.labels()
    components = in_images
    if wishes.tedana is not None:
        components = BidsTree(wishes.tedana).files(wanted)
    series = narrowed(series_of(in_images), chosen, images.root)
    if images is not raw:
        of_runs = {name: chosen[name] for name in chosen if name in OF_RUNS}
        compare_runs(series_of(in_raw), series, of_runs, findings)
    check_folders(series, images.root, findings)
    check_candidates(series, findings)
    facts = Facts(raw=raw, images=images, wishes=wishes)
    run_rows, stimulus_rows = run_tables(series, in_images, components, facts, findings)
    there = list(dict.fromkeys(row["subject"] for row in run_rows))
    tell_empty_subjects(wanted, series_of(files), findings)
    roi_rows = found_regions(files, images, findings)
    roi_rows += check_rois(rois or {}, there, findings)
    tell_lacking_regions(roi_rows, there, findings)
    tell_lacking_sessions(run_rows, findings)
    run_table = pd.DataFrame(run_rows, columns=RUN_COLUMNS)
    return Layout(
        dataset=Path(dataset),
        derivatives=None if derivatives is None else Path(derivatives),
        pipeline=pipeline,
        id_column=wishes.id_column,
        runs=run_table.astype({"n_volumes": "Int64"}),
        rois=pd.DataFrame(roi_rows, columns=REGION_COLUMNS),
        stimuli=pd.DataFrame(stimulus_rows, columns=STIMULUS_COLUMNS),
        problems=pd.DataFrame(findings.rows, columns=PROBLEM_COLUMNS),
        t_r=wishes.t_r,
        affine=wishes.affine,
    )


def _named(names: Sequence[str], labels: Iterable[Any]) -> str:
    """Write labels with what they are labels of; those that are empty are left out."""
    words = []
    for name, label in zip(names, labels, strict=True):
        if label:
            words.append(f"{name} {label}")
    return ", ".join(words)


def _span(what: str, values: pd.Series) -> str:
    """Write the smallest and the largest of numbers."""
    known = values.dropna()
    if known.empty:
        return f"{what} unknown"
    low, high = known.min(), known.max()
    written = f"{low:g}"
    if low != high:
        written = f"{low:g} to {high:g}"
    return f"{what} {written}"
