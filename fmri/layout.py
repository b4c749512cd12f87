"""What a BIDS data set holds: runs with their events and confounds, ROIs, and what is wrong.

Raw data and the derivatives of fMRIPrep are walked once and matched by the labels in their names.
Headers, sidecars and tables are read; voxels are not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fmri.bids import run_number
from fmri.bids_tree import BidsFile, BidsTree, RunKey, natural, run_words
from fmri.bold import BoldRun, read_runs
from fmri.confounds import PREPARED, strategy_confounds
from fmri.layout_checks import (
    ERROR,
    NOTE,
    Facts,
    Findings,
    check_confounds,
    check_events,
    check_image,
    check_rois,
    tell_lacking_regions,
)
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.store import read_json
from neurometamer.summaries import short_repr

FORMATS = {
    ".nii": "volume",
    ".nii.gz": "volume",
    ".func.gii": "surface",
    ".mgh": "surface",
    ".mgz": "surface",
    ".dtseries.nii": "cifti",
}
"""Ending of a file of time series → what it holds."""

REGIONS = {
    "mask": "mask",
    "dseg": "dseg",
    "probseg": "probabilities",
    ".label.gii": "labels",
    ".annot": "labels",
    ".label": "labels",
    ".dlabel.nii": "labels",
}
"""Suffix or ending of a file of regions → what it holds."""

CHOICES = {
    "sessions": "ses",
    "runs": "run",
    "task": "task",
    "space": "space",
    "resolution": "res",
    "desc": "desc",
    "echo": "echo",
}
"""Argument of `find_dataset` → the label that it chooses by."""

VARIANTS = ("acq", "ce", "rec", "dir")
"""Labels of runs beside subject, session, task and number."""

WITHOUT = "none"
"""What an argument is for files whose names do not have the label."""

LACKING = "not preprocessed"
"""What a run of the data set is called that has no image among the derivatives."""

_SPELLED_OUT = 5
"""Problems alike of which every one is written out; of more, their files and the first."""

_RUN = ("subject", "session", "task", "run", "variant")
_LABELS = ("space", "resolution", "hemisphere", "desc", "echo", "format")
_FILES = ("bold", "events", "confounds", "brain_mask")

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
        cannot be read. Files: bold, events, confounds, brain_mask; empty where there is none.
    rois : pandas.DataFrame
        One row a file of regions: subject, session, kind (mask, dseg, probabilities, labels, or
        given), name, space, resolution, hemisphere, file, table (the names of labels).
    stimuli : pandas.DataFrame
        Which stimulus ids appear in which run: subject, session, task, run, variant, id, n_events.
    problems : pandas.DataFrame
        What is missing, empty or contradicts: severity (error: the run cannot be used; note),
        problem (in a few words), subject, file, message (with what to do).

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

    def _summary(self) -> dict[str, Any]:
        errors = self.problems["severity"] == ERROR
        return {
            "dataset": str(self.dataset),
            "derivatives": None if self.derivatives is None else str(self.derivatives),
            "subjects": list(self.subjects),
            "runs": len(self.runs),
            "tasks": sorted(self.runs["task"].unique()),
            "spaces": sorted(space or WITHOUT for space in self.runs["space"].unique()),
            "stimuli": self.stimuli["id"].nunique(),
            "rois": len(self.rois),
            "errors": int(errors.sum()),
            "notes": int((~errors).sum()),
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
        broken = set(errors["file"]) - {""}
        columns = self.runs[["bold", "events", "confounds"]]
        return ~columns.isin(broken).any(axis=1)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Give all tables.

        Returns
        -------
        dict of str to pandas.DataFrame
            By the names runs, stimuli, rois and problems.
        """
        names = ("runs", "stimuli", "rois", "problems")
        return {name: getattr(self, name) for name in names}

    def describe(self) -> list[str]:
        """Say in lines what was found, which stimuli appear in which run, and what is wrong.

        Returns
        -------
        list of str
            The data set; a line for all runs alike; a line for all runs with the same stimuli; a
            line for all regions alike; a line for all problems alike.
        """
        n_usable = int(self.usable.sum())
        lines = [
            f"{self.derivatives or self.dataset}{' by ' + self.pipeline if self.pipeline else ''}: "
            f"{len(self.runs)} images of {len(self.subjects)} subjects, {n_usable} without errors"
        ]
        kinds = ["task", *_LABELS]
        for labels, rows in self.runs.groupby(kinds, sort=False):
            named = [f"{name} {label}" for name, label in zip(kinds, labels, strict=True) if label]
            facts = [_span("volumes", rows["n_volumes"]), _span("repetition time (s)", rows["t_r"])]
            facts += [f"{int(rows[name].ne('').sum())} {name}" for name in ("events", "confounds")]
            subjects = list(dict.fromkeys(rows["subject"]))
            lines.append(
                f"{', '.join(named)}: {len(subjects)} subjects ({name_ids(subjects)}), "
                f"{_span('images each', rows.groupby('subject').size())}; {', '.join(facts)}"
            )
        return [*lines, *self._stimulus_lines(), *self._region_lines(), *self._problem_lines()]

    def _stimulus_lines(self) -> list[str]:
        alike: dict[tuple[str, ...], list[str]] = {}
        for labels, rows in self.stimuli.groupby(list(_RUN), sort=False):
            named = zip(("sub", "ses", "task", "run"), labels[:4], strict=True)
            run = " ".join(f"{key}-{label}" for key, label in named if label)
            alike.setdefault(tuple(sorted(rows["id"], key=natural)), []).append(run)
        lines = []
        for ids, runs in alike.items():
            lines.append(f"{len(ids)} stimuli ({name_ids(ids)}) in {name_ids(runs, 2)}")
        return lines

    def _region_lines(self) -> list[str]:
        kinds = ["kind", "name", "space", "resolution", "hemisphere"]
        lines = []
        for labels, rows in self.rois.groupby(kinds, sort=False):
            words = " ".join(label for label in labels if label)
            lines.append(f"regions: {words} of {rows['subject'].nunique()} subjects")
        return lines

    def _problem_lines(self) -> list[str]:
        lines = []
        for severity in (ERROR, NOTE):
            of_severity = self.problems[self.problems["severity"] == severity]
            for problem, rows in of_severity.groupby("problem", sort=False):
                messages = rows["message"].tolist()
                if len(messages) > _SPELLED_OUT:
                    names = [Path(file).name for file in rows["file"] if file]
                    lines.append(f"{severity}: {problem}: {len(messages)} times: {name_ids(names)}")
                    messages = messages[:1]
                lines += [f"{severity}: {problem}: {message}" for message in messages]
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
            Rows of `runs`, in the order of sessions and runs.

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
        for column, value in {"task": task, "space": space}.items():
            if not value:
                continue
            known = [name or WITHOUT for name in dict.fromkeys(rows[column])]
            if value not in known:
                raise unknown_name(f"{column} of sub-{label}", value, known)
            rows = rows[rows[column].replace("", WITHOUT) == value]
        for column in ("task", "space", "hemisphere", "format"):
            names = [name or WITHOUT for name in dict.fromkeys(rows[column])]
            if len(names) > 1:
                raise InputError(
                    f"sub-{label} has images of several {column}s: {name_ids(names)}; choose one "
                    f"({column})."
                )
        files = {"", *rows["bold"], *rows["events"], *rows["confounds"]} - {""}
        of_rows = self.problems["file"].isin(files) & (self.problems["severity"] == ERROR)
        messages = self.problems["message"][of_rows].tolist()
        if messages:
            more = f" ({len(messages)} things in all, see problems)" if messages[1:] else ""
            raise InputError(messages[0] + more)
        return rows

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
            By the names bold, events and confounds; the last is empty where no run has any.

        Raises
        ------
        InputError
            See `select`; and when some runs have confounds and others have none.
        """
        rows = self.select(subject, task=task, space=space)
        files = {}
        for name in ("bold", "events", "confounds"):
            files[name] = [Path(file) for file in rows[name] if file]
        n_confounds = len(files["confounds"])
        if 0 < n_confounds < len(rows):
            raise InputError(
                f"{len(rows) - n_confounds} of {len(rows)} runs of sub-{rows['subject'].iloc[0]} "
                "have no table of confounds; add them, or leave these runs out (runs, sessions)."
            )
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
        given = self.rois["kind"].eq("given") & self.rois["subject"].eq(label)
        rows = self.rois[given]
        return {name: Path(file) for name, file in zip(rows["name"], rows["file"], strict=True)}

    def read_runs(
        self,
        subject: str,
        *,
        task: str = "",
        space: str = "",
        columns: Sequence[str] = (),
        strategy: Sequence[str] = (),
        t_r: float | None = None,
        affine: str = "agree",
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
        t_r : float, optional
            Repetition time in seconds, where header and sidecar disagree.
        affine : {"agree", "sform", "qform"}
            Which transform of the headers places the voxels, see `fmri.read_run`.
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
            When a run of the data set has no preprocessed image.
        """
        files = self.files(subject, task=task, space=space)
        of_subject = self.problems["subject"] == subject.removeprefix("sub-")
        lacking = self.problems["problem"].eq(LACKING) & of_subject
        for message in self.problems["message"][lacking]:
            warnings.warn(message, stacklevel=2)
        if strategy and columns:
            raise InputError(
                f"confounds by columns ({name_ids(columns)}) and by strategy "
                f"({name_ids(strategy)}); give one of the two."
            )
        if (strategy or columns) and not files["confounds"]:
            raise InputError(
                f"the runs of sub-{subject.removeprefix('sub-')} have no tables of confounds; give "
                "derivatives that hold them, or ask for none."
            )
        confounds: list[Any] = list(files["confounds"])
        if strategy:
            pairs = zip(files["confounds"], files["bold"], strict=True)
            confounds = [
                strategy_confounds(file, strategy, image=image, **options) for file, image in pairs
            ]
        return read_runs(
            files["bold"],
            files["events"],
            confounds or None,
            t_r=t_r,
            columns=PREPARED if strategy else columns or None,
            condition_column=self.id_column,
            affine=affine,
        )


@checked
def find_dataset(
    dataset: str | os.PathLike[str],
    derivatives: str | os.PathLike[str] | None = None,
    *,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    runs: Sequence[str] = (),
    task: str | None = None,
    space: str | None = None,
    resolution: str | None = None,
    desc: str | None = None,
    echo: str | None = None,
    id_column: str = "trial_type",
    t_r: float | None = None,
    affine: str = "agree",
    rois: Mapping[str, str] | None = None,
) -> Layout:
    """Find the runs, events, confounds and ROIs of a BIDS data set, and what is wrong with them.

    Parameters
    ----------
    dataset : path-like
        Folder of the BIDS data set: events, sidecars, and images where there are no derivatives.
    derivatives : path-like, optional
        Folder of fMRIPrep's output: images, confounds, masks.
    subjects : sequence of str
        Only these labels, with or without ``sub-``; all when empty.
    sessions : sequence of str
        Only these labels, with or without ``ses-``; all when empty.
    runs : sequence of str
        Only these labels, with or without ``run-``; all when empty.
    task : str, optional
        Only images of this task.
    space : str, optional
        Only images in this space; ``"none"`` for those whose names have no label ``space``.
    resolution : str, optional
        Only images with this label ``res`` (volumes) or ``den`` (surfaces); ``"none"`` for those
        without it.
    desc : str, optional
        Only images with this label ``desc``, such as ``"preproc"``; ``"none"`` for those without
        it.
    echo : str, optional
        Only images of this echo; ``"none"`` for those without the label.
    id_column : str
        Column of the events that holds the stimulus ids: ``"trial_type"``, ``"stim_file"``, or any
        other; of files the id is the name without folder and ending.
    t_r : float, optional
        Repetition time in seconds, where header and sidecar disagree.
    affine : {"agree", "sform", "qform"}
        Which transform of the headers places the voxels, see `fmri.read_run`.
    rois : mapping of str to str, optional
        ROI to the file of its mask; ``{subject}`` stands for the label of a subject, and ``*`` for
        anything.

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
    taken: the problem lists them.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> try:
    ...     find_dataset(mkdtemp())
    ... except InputError as error:
    ...     print(str(error).split(": ")[1])
    it has no folder sub-… (it is empty).
    """
    raw = BidsTree(dataset)
    images = raw if derivatives is None else BidsTree(derivatives)
    findings = Findings()
    pipeline = _describe_folders(raw, images, findings)
    wanted = _wanted_subjects(raw, images, subjects)
    chosen = {
        "sessions": [name.removeprefix("ses-") for name in sessions],
        "runs": [run_number(name.removeprefix("run-")) for name in runs],
        "task": [] if task is None else [task.removeprefix("task-")],
        "space": [] if space is None else [space],
        "resolution": [] if resolution is None else [resolution],
        "desc": [] if desc is None else [desc],
        "echo": [] if echo is None else [echo],
    }
    in_raw = raw.files(wanted)
    in_images = in_raw if images is raw else images.files(wanted)
    series = _narrowed(_series(in_images), chosen, images.root)
    if images is not raw:
        of_task = {name: chosen[name] for name in ("sessions", "runs", "task")}
        _compare_runs(_series(in_raw), series, of_task, wanted, findings)
    _check_candidates(series, findings)
    facts = Facts(raw=raw, images=images, id_column=id_column, t_r=t_r, affine=affine)
    run_rows, stimulus_rows = _run_tables(series, in_images, facts, findings)
    roi_rows = _found_regions([*in_raw, *(in_images if images is not raw else [])], images)
    with_runs = list(dict.fromkeys(row["subject"] for row in run_rows))
    roi_rows += check_rois(rois or {}, with_runs, findings)
    tell_lacking_regions(roi_rows, with_runs, findings)
    return Layout(
        dataset=Path(dataset),
        derivatives=None if derivatives is None else Path(derivatives),
        pipeline=pipeline,
        id_column=id_column,
        runs=pd.DataFrame(run_rows, columns=RUN_COLUMNS).astype({"n_volumes": "Int64"}),
        rois=pd.DataFrame(roi_rows, columns=REGION_COLUMNS),
        stimuli=pd.DataFrame(stimulus_rows, columns=STIMULUS_COLUMNS),
        problems=pd.DataFrame(findings.rows, columns=PROBLEM_COLUMNS),
    )


def _span(what: str, values: pd.Series) -> str:
    """Write the smallest and the largest of numbers."""
    known = values.dropna()
    if known.empty:
        return f"{what} unknown"
    low, high = known.min(), known.max()
    return f"{what} {low:g}" if low == high else f"{what} {low:g} to {high:g}"


# -------------------------------------------------------------------------------- files and matches


def _describe_folders(raw: BidsTree, images: BidsTree, findings: Findings) -> str:
    """Read dataset_description.json of both folders; tell of derivatives that were not named."""
    pipeline = ""
    for tree in dict.fromkeys((raw, images)):
        file = tree.root / "dataset_description.json"
        if not file.is_file():
            findings.add(
                NOTE,
                "description",
                f"{tree.root} has no dataset_description.json; sidecars are looked for up to the "
                "folder of the folders sub-….",
                file=file,
            )
            continue
        with findings.watch(NOTE, "description", file=file):
            description = read_json(file)
            if not isinstance(description, Mapping):
                raise InputError(f"{file} holds no JSON object; correct it.")
            made_by = description.get("GeneratedBy")
            if isinstance(made_by, list) and made_by and isinstance(made_by[0], Mapping):
                names = [str(made_by[0].get(key, "")) for key in ("Name", "Version")]
                pipeline = " ".join(names).strip()
    if images is raw:
        inner = sorted(raw.root.glob("derivatives/*/sub-*"))
        folders = dict.fromkeys(folder.parent.name for folder in inner)
        if folders:
            findings.add(
                NOTE,
                "derivatives",
                f"{raw.root} has derivatives ({name_ids(folders)}), and the raw images are listed; "
                f"for the others give derivatives ({inner[0].parent}).",
            )
    return pipeline


def _wanted_subjects(raw: BidsTree, images: BidsTree, subjects: Sequence[str]) -> list[str]:
    known = sorted({*raw.subjects, *images.subjects}, key=natural)
    labels = [name.removeprefix("sub-") for name in subjects]
    for label in labels:
        if label not in known:
            raise unknown_name(f"subject of {raw.root}", label, known)
    return list(dict.fromkeys(labels)) or known


def _series(files: Sequence[BidsFile]) -> list[BidsFile]:
    """Choose the files that hold time series; old versions of fMRIPrep leave out the last word."""
    series = []
    for file in files:
        is_named = file.suffix == "bold" or (not file.suffix and file.ending == ".func.gii")
        if is_named and file.ending in FORMATS:
            series.append(file)
    return series


def _label(file: BidsFile, key: str) -> str:
    """Read a label; the resolution of a surface is its density, and a run is a number."""
    if key == "res":
        return file.labels.get("res", file.labels.get("den", ""))
    if key == "run":
        return run_number(file.labels.get("run", ""))
    return file.labels.get(key, "")


def _narrowed(
    series: list[BidsFile], chosen: Mapping[str, Sequence[str]], root: Path
) -> list[BidsFile]:
    """Keep the images that were chosen by their labels."""
    if not series:
        raise InputError(
            f"{root} has no images of time series (sub-…_bold.nii.gz, _bold.func.gii, "
            "_bold.dtseries.nii) of these subjects; give the folder that holds them."
        )
    for argument, labels in chosen.items():
        if not labels:
            continue
        key = CHOICES[argument]
        there = [_label(file, key) or WITHOUT for file in series]
        for label in labels:
            if label not in there:
                raise unknown_name(f"{argument} in {root}", label, dict.fromkeys(there))
        pairs = zip(series, there, strict=True)
        series = [file for file, label in pairs if label in labels]
    return series


def _compare_runs(
    raw_series: Sequence[BidsFile],
    series: Sequence[BidsFile],
    chosen: Mapping[str, Sequence[str]],
    subjects: Sequence[str],
    findings: Findings,
) -> None:
    """Tell of runs that were scanned and have no preprocessed image."""
    there = {file.run_key for file in series}
    lacking: dict[RunKey, Path] = {}
    for file in raw_series:
        pairs = chosen.items()
        is_chosen = all(
            not labels or (_label(file, CHOICES[argument]) or WITHOUT) in labels
            for argument, labels in pairs
        )
        if is_chosen and file.run_key not in there:
            lacking.setdefault(file.run_key, file.path)
    for key, path in lacking.items():
        findings.add(
            NOTE,
            LACKING,
            f"{run_words(key)} is in the data set but has no image among the derivatives; "
            "preprocess it, or leave it out.",
            subject=dict(key)["sub"],
            file=path,
        )
    with_images = {file.labels.get("sub", "") for file in [*raw_series, *series]}
    for subject in subjects:
        if subject not in with_images:
            findings.add(
                NOTE, "no images", f"sub-{subject} has no images of time series.", subject=subject
            )


def _check_candidates(series: Sequence[BidsFile], findings: Findings) -> None:
    """Refuse to choose among several images of one run, space and hemisphere."""
    groups: dict[tuple[Any, ...], list[BidsFile]] = {}
    for file in series:
        place = (_label(file, "space"), _label(file, "hemi"), FORMATS[file.ending])
        groups.setdefault((file.run_key, *place), []).append(file)
    for (key, *_), files in groups.items():
        if len(files) == 1:
            continue
        ways = []
        for argument in ("desc", "echo", "resolution"):
            labels = dict.fromkeys(_label(file, CHOICES[argument]) or WITHOUT for file in files)
            if len(labels) > 1:
                ways.append(f"{argument} ({name_ids(labels)})")
        names = name_ids(file.path.name for file in files)
        cure = f"choose by {', '.join(ways)}" if ways else "keep one of them"
        for file in files:
            findings.add(
                ERROR,
                "several images",
                f"{run_words(key)}: {len(files)} images fit: {names}; {cure}.",
                subject=file.labels.get("sub", ""),
                file=file.path,
            )


# ------------------------------------------------------------------------------------------- tables


def _run_tables(
    series: Sequence[BidsFile], files: Sequence[BidsFile], facts: Facts, findings: Findings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read what is known of each image, and which stimuli appear in each run."""
    of_run: dict[RunKey, list[BidsFile]] = {}
    for file in files:
        of_run.setdefault(file.run_key, []).append(file)
    in_order = sorted(series, key=_order)
    run_rows = []
    stimulus_rows: dict[RunKey, list[dict[str, Any]]] = {}
    for file in in_order:
        beside = of_run[file.run_key]
        n_volumes, t_r = check_image(file, FORMATS[file.ending], facts, findings)
        events_file, ids = check_events(file, n_volumes, t_r, facts, findings)
        confounds = check_confounds(file, beside, n_volumes, facts, findings)
        variant = [f"{key}-{label}" for key, label in file.run_key if key in VARIANTS]
        which = {
            "subject": file.labels.get("sub", ""),
            "session": file.labels.get("ses", ""),
            "task": file.labels.get("task", ""),
            "run": file.labels.get("run", ""),
            "variant": "_".join(variant),
        }
        row = {
            **which,
            "space": _label(file, "space"),
            "resolution": _label(file, "res"),
            "hemisphere": _label(file, "hemi"),
            "desc": _label(file, "desc"),
            "echo": _label(file, "echo"),
            "format": FORMATS[file.ending],
            "n_volumes": n_volumes or None,
            "t_r": t_r or float("nan"),
            "n_events": sum(ids.values()),
            "bold": str(file.path),
            "events": events_file,
            "confounds": confounds,
            "brain_mask": _brain_mask(file, beside),
        }
        run_rows.append(row)
        counts = ids.items()
        stimulus_rows[file.run_key] = [{**which, "id": name, "n_events": n} for name, n in counts]
    return run_rows, [row for rows in stimulus_rows.values() for row in rows]


def _order(file: BidsFile) -> list[Any]:
    """Sort images by subject, session, task, run and space."""
    return [natural(_label(file, key)) for key in ("sub", "ses", "task", "run", "space", "hemi")]


def _brain_mask(file: BidsFile, beside: Sequence[BidsFile]) -> str:
    """Find the mask of the brain on the grid of an image."""
    for other in beside:
        is_brain = other.suffix == "mask" and other.labels.get("desc") == "brain"
        same = [_label(other, key) == _label(file, key) for key in ("space", "res")]
        if is_brain and all(same):
            return str(other.path)
    return ""


def _found_regions(files: Sequence[BidsFile], images: BidsTree) -> list[dict[str, Any]]:
    """List masks, label images and label files; masks of the brain of a run belong to the run."""
    rows = []
    for file in files:
        kind = REGIONS.get(file.ending) or REGIONS.get(file.suffix, "")
        is_image = file.ending in (".nii", ".nii.gz") or file.ending in REGIONS
        of_run = "task" in file.labels and file.labels.get("desc") == "brain"
        if not kind or not is_image or of_run:
            continue
        names = [file.labels.get(key, "") for key in ("label", "roi", "atlas", "seg", "desc")]
        tables = images.inherited(file.labels, suffix=file.suffix, ending=".tsv")
        row = {
            "subject": file.labels.get("sub", ""),
            "session": file.labels.get("ses", ""),
            "kind": kind,
            "name": next((name for name in names if name), file.suffix),
            "space": _label(file, "space"),
            "resolution": _label(file, "res"),
            "hemisphere": _label(file, "hemi"),
            "file": str(file.path),
            "table": str(tables[0].path) if tables else "",
        }
        rows.append(row)
    return rows
