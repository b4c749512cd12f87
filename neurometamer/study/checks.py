"""What can be known before any work.

The checks say whether files, tables and settings of a study suit each other. What stands in the way
is gathered instead of raised one after the other. Scanned subjects are checked by their headers,
tables and masks alone.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, name_ids
from neurometamer.store import check_file_names
from neurometamer.study.brain_steps import open_runs, subject_names
from neurometamer.study.plan import Workspace
from neurometamer.study.result_steps import kind_options
from neurometamer.study.settings import Subject
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.patterns import Patterns

SUBSAMPLED = ("spearman", "pearson")
"""Measures whose RDMs can be computed again from a part of the units."""

ERROR, NOTE = "error", "note"


@short_repr
@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a study, or odd.

    Parameters
    ----------
    kind : {"error", "note"}
        Errors stop the study, notes do not.
    subject : str
        Whose files it concerns; empty: settings or images.
    file : str
        The file it concerns, as the study file names it; may be empty.
    message : str
        What is wrong and what to do.

    Examples
    --------
    >>> from neurometamer import Problem
    >>> problem = Problem(kind="error", subject="S1", file="m.nii", message="m.nii is missing.")
    >>> print(problem)
    S1: m.nii is missing.
    """

    kind: str
    subject: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" if self.subject else self.message


class Findings:
    """Problems in the order in which they were found, each once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    @contextlib.contextmanager
    def watch(self, subject: str = "", file: str = "") -> Iterator[None]:
        """Keep what is raised or warned of while the block runs.

        Parameters
        ----------
        subject, file : str
            What the block looks at.

        Yields
        ------
        None
            An `InputError`, or a file that the system refuses, ends the block and is kept.
        """
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            try:
                yield
            except InputError as error:
                self._add(Problem(ERROR, subject, file, str(error)))
            except OSError as error:
                self._add(
                    Problem(
                        ERROR,
                        subject,
                        file,
                        f"{error.filename or file}: {error.strerror or error}.",
                    )
                )
        for warning in warned:
            self._add(Problem(NOTE, subject, file, str(warning.message)))

    def add_error(self, message: str, subject: str = "", file: str = "") -> None:
        """Keep a problem that was found otherwise.

        Parameters
        ----------
        message : str
            What is wrong and what to do.
        subject, file : str
            What it concerns.
        """
        self._add(Problem(ERROR, subject, file, message))

    def _add(self, problem: Problem) -> None:
        if str(problem) not in map(str, self.problems):
            self.problems.append(problem)

    def has_errors(self, subject: str | None = None, file: str | None = None) -> bool:
        """Tell whether there is an error.

        Parameters
        ----------
        subject, file : str, optional
            Only those that concern these.

        Returns
        -------
        bool
            Notes do not count.
        """
        errors = [problem for problem in self.problems if problem.kind == ERROR]
        of_subject = [problem for problem in errors if subject in (None, problem.subject)]
        return any(file in (None, problem.file) for problem in of_subject)


def raise_errors(problems: Sequence[Problem], limit: int = 10) -> None:
    """Raise all errors among problems as one.

    Parameters
    ----------
    problems : sequence of Problem
        Problems of a study.
    limit : int
        How many to spell out.

    Raises
    ------
    InputError
        When there is an error: the message itself, or all of them, numbered.
    """
    errors = [str(problem) for problem in problems if problem.kind == ERROR]
    if not errors:
        return
    if len(errors) == 1:
        raise InputError(errors[0])
    listed = "\n".join(
        f"({number}) {error}" for number, error in enumerate(errors[:limit], start=1)
    )
    more = "" if len(errors) <= limit else "\n… 'neurometamer check' lists them all."
    raise InputError(f"{len(errors)} things stand in the way of this study:\n{listed}{more}")


def find_problems(work: Workspace) -> list[Problem]:
    """Find all that stands in the way of a study, from settings, headers and tables alone.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files; nothing needs to be done yet.

    Returns
    -------
    list of Problem
        Of settings and images first, then subject by subject.
    """
    findings = Findings()
    _check_models(work, findings)
    table = _check_images(work, findings)
    tests: list[Callable[[Workspace], None]] = [_check_names, _check_interval, _check_measure]
    for test in tests:
        with findings.watch():
            test(work)
    if table is not None:
        _check_with_images(work, table, findings)
    if work.settings.brain.source == "bold":
        check_subjects(work, table, findings)
    if work.settings.rsa.null == "session" and table is not None and not findings.has_errors():
        with findings.watch():
            check_sessions(work, table)
    elif work.settings.rsa.null == "session" and work.settings.brain.source != "bold":
        with findings.watch():
            check_sessions(work, pd.DataFrame())
    return findings.problems


def _check_models(work: Workspace, findings: Findings) -> None:
    """Look up the networks by name, and the files of weights."""
    from neurometamer.zoo import model_entry

    settings = work.settings
    sets = [name for names in settings.metamers.sets for name in names]
    names = [settings.model.name, *settings.transfer.models, *sets]
    names += settings.metamers.judges if sets else ()
    names += (
        [settings.brain.simulation.object_model] if settings.brain.source == "simulated" else []
    )
    for name in dict.fromkeys(names):
        with findings.watch():
            model_entry(name)
    if settings.model.weights not in ("default", "random"):
        with findings.watch(file=settings.model.weights):
            work.source(settings.model.weights)


def _check_images(work: Workspace, findings: Findings) -> pd.DataFrame | None:
    """Look for the files of the images; return the table of the images that the study will have."""
    settings = work.settings
    if not settings.images.ready:
        files = [
            section.target
            for section in (settings.noise, settings.interference)
            if section.target.endswith(".csv")
        ]
        for file in (*files, *([settings.interference.mask] if settings.interference.mask else [])):
            with findings.watch(file=file):
                work.source(file)
    source = settings.images.ready or settings.images.source
    table = None
    with findings.watch(file=source):
        table = expected_stimuli(work)
        if table.empty:
            raise InputError(
                f"{source} holds no images; give a folder of images or a CSV with the column file."
            )
    return table


def _check_with_images(work: Workspace, table: pd.DataFrame, findings: Findings) -> None:
    from fmri.reliability import tell_few_conditions
    from neurometamer.rsa.image_types.nulls import known_classes
    from neurometamer.rsa.sampling import sample_photographs

    if work.settings.rsa.null == "class":
        with findings.watch():
            _check_classes(table)
    if work.settings.rsa.classes == "random":
        with findings.watch():
            # Refuse the claim about other classes where there are too few, before any work.
            names = sorted(table.loc[table["kind"] == "RE", "reference_id"].astype(str))
            sample_photographs(names, known_classes(table), "random", option="rsa.classes:")
    if subject_names(work):
        with findings.watch():
            _check_encoding(work, table)
        with findings.watch():
            selection = work.settings.selection
            if selection.voxels_per_roi:
                tell_few_conditions(int((table["kind"] == selection.kind).sum()))


def _check_encoding(work: Workspace, table: pd.DataFrame) -> None:
    """Refuse settings of the encoding that these images cannot give."""
    from neurometamer.encoding.generalization import check_encoding

    encoding = work.settings.encoding
    n_photographs = int((table["kind"] == "RE").sum())
    if (
        encoding.folds
        and encoding.scheme == "by image"
        and not 2 <= encoding.folds <= n_photographs
    ):
        raise InputError(
            f"encoding.folds is {encoding.folds}, but the study has {n_photographs} photographs; "
            f"give 2 to {n_photographs}, or 0 to leave it open."
        )
    try:
        check_encoding(
            table,
            scheme=encoding.scheme,
            n_folds=encoding.folds or None,
            alphas=encoding.alphas,
            n_permutations=encoding.permutations,
            seed=work.settings.study.seed,
        )
    except InputError as error:
        raise InputError(f"encoding: {str(error).removeprefix('encoding: ')}") from None


def _check_measure(work: Workspace) -> None:
    if work.settings.rsa.measure == "poisson" and subject_names(work):
        raise InputError(
            "rsa.measure: 'poisson' takes rates of zero or more, and betas of voxels are negative "
            "too; use another "
            'measure, or brain.source = "none".'
        )


def _check_names(work: Workspace) -> None:
    """Refuse names that do not go together.

    An example is a comparator for which an interval is not defined.
    """
    try:
        for system in ("network", "brain"):
            kind_options(work, system, {kind: ("RE", kind) for kind in ("AN", "AI")})
    except InputError as error:
        raise InputError(f"rsa: {error}") from None


def _check_interval(work: Workspace) -> None:
    from neurometamer.rsa.image_types.inference import OVER_SUBJECTS
    from neurometamer.rsa.image_types.options import subjects_needed

    rsa, subjects = work.settings.rsa, subject_names(work)
    if rsa.interval in OVER_SUBJECTS and len(subjects) < (
        needed := subjects_needed(rsa.confidence)
    ):
        raise InputError(
            f"rsa.interval: '{rsa.interval}' at {rsa.confidence:.0%} needs at least {needed} "
            f"subjects; the study has {len(subjects)} ({name_ids(subjects) or 'no brain'}). Use "
            "'stimuli', which resamples photographs."
        )
    if rsa.interval == "subsample" and rsa.measure not in SUBSAMPLED:
        raise InputError(
            f"rsa.interval: 'subsample' is there for the measures {' and '.join(SUBSAMPLED)}, not "
            f"'{rsa.measure}'."
        )


def _check_classes(table: pd.DataFrame) -> None:
    from neurometamer.rsa.image_types.nulls import class_labels

    try:
        class_labels(table)
    except InputError as error:
        raise InputError(
            "rsa.null: 'class' needs the column category of the images, at least two classes: "
            f"{error}"
        ) from None


def expected_stimuli(work: Workspace) -> pd.DataFrame:
    """List the images that a study will have, without reading their pixels.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.

    Returns
    -------
    pandas.DataFrame
        Columns id, kind, reference_id and, where it is known, category.
    """
    from stimuli_gen.stimuli import read_stimuli

    images = work.settings.images
    if images.ready:
        source = work.source(images.ready)
        if (source / "stimuli.h5").is_file():
            return read_stimuli(source, in_memory=False).table
        table = _listed(source)
        kind = table["kind"].fillna("RE") if "kind" in table else "RE"
        reference = (
            table["reference_id"].fillna(table["id"]) if "reference_id" in table else table["id"]
        )
        return table.assign(kind=kind, reference_id=reference)
    photographs = _photographs(work)
    parts = [photographs.assign(kind="RE", reference_id=photographs["id"])]
    parts += [
        photographs.assign(
            id=photographs["id"] + f"_{kind}", kind=kind, reference_id=photographs["id"]
        )
        for kind in ("AN", "AI")
    ]
    table = pd.concat(parts, ignore_index=True)
    check_file_names(table["id"])
    return table


def _photographs(work: Workspace) -> pd.DataFrame:
    from stimuli_gen.photographs import PACKAGED

    if work.settings.images.source == "packaged":
        return pd.DataFrame(
            {"id": list(PACKAGED), "category": [category for _, _, category in PACKAGED.values()]}
        )
    table = _listed(work.source(work.settings.images.source))
    check_file_names(table["id"])
    return table


def _listed(source: Path) -> pd.DataFrame:
    """List the images of a folder or CSV, and refuse a list of files that are not there."""
    from stimuli_gen.photograph_lists import list_photographs

    table = list_photographs(source).table
    missing = [str(file) for file in table["file"] if not Path(file).is_file()]
    if missing:
        raise InputError(
            f"{source} lists files that do not exist: {name_ids(missing)}; correct the column file."
        )
    return table


def check_subjects(work: Workspace, table: pd.DataFrame | None, findings: Findings) -> None:
    """Check the files of all scanned subjects.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    table : pandas.DataFrame or None
        Images that the study will have (id, kind, reference_id); None where they are not known.
    findings : Findings
        Gets what is wrong.
    """
    subjects = work.settings.brain.subjects
    listed = Counter(_place(work, file) for subject in subjects for file in subject.bold)
    for subject in subjects:
        again = [Path(file).name for file in subject.bold if listed[_place(work, file)] > 1]
        if again:
            findings.add_error(
                f"BOLD files that are listed more than once: {name_ids(again)}.", subject.id
            )
        _check_subject(work, subject, table, findings)


def _place(work: Workspace, file: str) -> str:
    """Name a file of the study file such that links and other spellings of it are the same."""
    return os.path.realpath(work.base / Path(file).expanduser())


def _check_subject(
    work: Workspace, subject: Subject, table: pd.DataFrame | None, findings: Findings
) -> None:
    for file in (*subject.bold, *subject.events, *subject.confounds, *subject.masks.values()):
        with findings.watch(subject.id, file):
            work.source(file)
    _check_subject_names(subject, findings)
    tables = [_check_run(work, subject, place, findings) for place in range(len(subject.bold))]
    _check_masks(work, subject, findings)
    events = [part for part in tables if part is not None]
    if table is not None and len(events) == len(tables):
        with findings.watch(subject.id):
            check_conditions(work, events, table)
    if findings.has_errors(subject.id):
        return
    with findings.watch(subject.id):
        runs = open_runs(work, subject.id)
        conditions = [
            _check_design(work, subject, file, run, findings)
            for file, run in zip(subject.bold, runs, strict=True)
        ]
        if table is not None and not findings.has_errors(subject.id):
            _check_repeats(work, table, runs, conditions)


def _check_subject_names(subject: Subject, findings: Findings) -> None:
    """Refuse files of another subject."""
    from fmri.bids import check_subject

    for file in (*subject.bold, *subject.events, *subject.confounds):
        with findings.watch(subject.id, file):
            check_subject(subject.id, file)


def _check_masks(work: Workspace, subject: Subject, findings: Findings) -> None:
    from fmri.rois import read_masks
    from neurometamer.rsa.compute import MIN_VOXELS

    like = (
        None if findings.has_errors(subject.id, subject.bold[0]) else work.source(subject.bold[0])
    )
    sizes = {}
    for roi, file in subject.masks.items():
        with findings.watch(subject.id, file):
            mask = work.source(file)
            sizes[roi] = int(
                read_masks({roi: mask}, like or mask, affine=subject.affine)[roi].sum()
            )
    if like is not None and len(sizes) == len(subject.masks):
        with findings.watch(subject.id):
            files = {roi: work.source(file) for roi, file in subject.masks.items()}
            read_masks(files, like, affine=subject.affine)
    for roi, size in sizes.items():
        if size < MIN_VOXELS:
            findings.add_error(
                f"ROI '{roi}' has {size} voxel(s), too few for a pattern; enlarge the mask, or "
                "leave the region out.",
                subject.id,
                subject.masks[roi],
            )


def _check_run(
    work: Workspace, subject: Subject, place: int, findings: Findings
) -> pd.DataFrame | None:
    """Check image, events and confounds of a run each for itself.

    So the fault of one does not hide the fault of the next.

    Returns the events where they can be read.
    """
    from fmri.bids import check_same_labels
    from fmri.tables import checked_confounds, checked_events, read_confounds, read_events

    image = subject.bold[place]
    n_volumes, t_r = _check_image(work, subject, image, findings)
    events = None
    with findings.watch(subject.id, subject.events[place]):
        check_same_labels(subject.events[place], image)
        events = read_events(work.source(subject.events[place]), subject.condition_column)
        if t_r:
            checked_events(events, n_volumes, t_r, Path(image).name)
    if subject.confounds:
        with findings.watch(subject.id, subject.confounds[place]):
            check_same_labels(subject.confounds[place], image)
            file = work.source(subject.confounds[place])
            confounds = read_confounds(file, work.settings.glm.confounds or None, Path(image).name)
            if n_volumes:
                checked_confounds(confounds, n_volumes, Path(image).name)
    return events


def _check_image(
    work: Workspace, subject: Subject, file: str, findings: Findings
) -> tuple[int, float]:
    """Check the header and the sidecars of a BOLD file.

    The result is volumes and repetition time, 0 where unknown.
    """
    from fmri.bids import read_sidecar, repetition_time, slice_times
    from fmri.bold import check_4d, header_tr, image_affine, open_nifti

    n_volumes, t_r, name = 0, 0.0, Path(file).name
    with findings.watch(subject.id, file):
        image = work.source(file)
        opened = open_nifti(image)
        n_volumes = check_4d(image, opened)[3]
        sidecar, header = read_sidecar(image), header_tr(opened)
        t_r = repetition_time(name, header=header, sidecar=sidecar, given=subject.t_r or None)
        slice_times(name, sidecar, t_r, opened.shape)
    if n_volumes:
        with findings.watch(subject.id, file):
            image_affine(image, opened, subject.affine)
    return n_volumes, t_r


def _check_design(
    work: Workspace, subject: Subject, file: str, run: BoldRun, findings: Findings
) -> tuple[str, ...]:
    """Build the design of a run, and name the conditions of its events."""
    from fmri.betas import event_design

    glm = work.settings.glm
    conditions: tuple[str, ...] = ()
    with findings.watch(subject.id, file):
        events, _ = event_design(
            run,
            hrf_model=glm.hrf_model,
            high_pass=glm.high_pass,
            ignore=glm.ignore,
            slice_time_ref=subject.slice_time_ref,
        )
        conditions = tuple(events["trial_type"])
    return conditions


def check_conditions(work: Workspace, events: list[pd.DataFrame], table: pd.DataFrame) -> None:
    """Refuse events that are no stimuli, and stimuli without an event.

    Parameters
    ----------
    work : Workspace
        Settings.
    events : list of pandas.DataFrame
        Events of the runs of one subject, from `fmri.tables.read_events`.
    table : pandas.DataFrame
        The study's images: id, kind.

    Raises
    ------
    InputError
        Naming the ids on both sides and what to do.
    """
    types = pd.concat([part["trial_type"] for part in events]).astype(str)
    shown = types[~types.isin(work.settings.glm.ignore)].unique()
    known = table["id"].astype(str)
    extra = [name for name in shown if name not in set(known)]
    missing = known[~known.isin(shown)]
    images, kinds = work.settings.images, set(table["kind"][missing.index])
    if not extra and not images.ready and kinds and kinds <= {"AN", "AI"}:
        raise InputError(
            "the events show the photographs, but not the AN and AI images that this study would "
            "make of them: "
            f"{name_ids(missing)}. For a study of photographs alone set [images] ready = "
            f'"{images.source}" in '
            "place of source (a folder, or a CSV with the columns file, id and kind, which is RE); "
            "for images that "
            "were made before, [images] ready = the folder or CSV of all images that were shown."
        )
    parts = []
    if extra:
        parts.append(
            f"missing from the images: {name_ids(extra)} (add them to [images] ready, or to [glm] "
            f"ignore{_better_column(events[0], set(known))})"
        )
    if len(missing):
        parts.append(
            f"missing from the events: {name_ids(missing)} (take them out of [images] ready)"
        )
    if parts:
        raise InputError(f"events and images do not hold the same stimuli; {'; '.join(parts)}.")


def _better_column(events: pd.DataFrame, known: set[str]) -> str:
    """Name a column of the events that holds ids of the stimuli, where there is one."""
    from fmri.tables import read_events

    for column in events.columns.difference(["onset", "duration", "trial_type"], sort=False):
        try:
            ids = read_events(events, column)["trial_type"]
        except InputError:
            continue
        if ids.isin(known).mean() > 0.5:
            return f"; the column '{column}' holds ids: condition_column = \"{column}\""
    return ""


def _check_repeats(
    work: Workspace, table: pd.DataFrame, runs: list[BoldRun], conditions: list[tuple[str, ...]]
) -> None:
    """Refuse a selection of voxels for which regular images were not shown often enough."""
    from fmri.reliability import voxel_reliability

    selection = work.settings.selection
    if not selection.voxels_per_roi:
        return
    regular = table["id"][table["kind"] == selection.kind].astype(str).tolist()
    try:
        voxel_reliability(events_as_patterns(runs, conditions), regular)
    except InputError as error:
        raise InputError(f"{error} Or keep all voxels: [selection] voxels_per_roi = 0.") from None


def events_as_patterns(
    runs: list[BoldRun], conditions: list[tuple[str, ...]] | None = None
) -> Patterns:
    """Say what a subject saw in which run and session, as patterns of one voxel that are all zero.

    Parameters
    ----------
    runs : list of BoldRun
        Runs of one subject.
    conditions : list of tuple of str, optional
        What was shown in each run; by default all trial types.

    Returns
    -------
    Patterns
        One observation an event.
    """
    from fmri.patterns import Patterns

    shown = [tuple(run.events["trial_type"]) for run in runs] if conditions is None else conditions
    parts = [
        pd.DataFrame({"condition": list(names), "run": run.run, "session": run.session})
        for run, names in zip(runs, shown, strict=True)
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.assign(presentation=rows.groupby("condition").cumcount() + 1)
    voxel = pd.DataFrame({"subject": [runs[0].subject], "roi": "none", "i": 0, "j": 0, "k": 0})
    return Patterns(values=np.zeros((len(rows), 1)), observations=rows, voxels=voxel)


def check_sessions(work: Workspace, table: pd.DataFrame) -> None:
    """Refuse a null within sessions for subjects without such sessions.

    Sessions must part the photographs.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    table : pandas.DataFrame
        The study's images.

    Raises
    ------
    InputError
        Naming the subject and what to do.
    """
    from neurometamer.rsa.image_types.nulls import session_labels

    if work.settings.brain.source != "bold":
        reason = {"simulated": "the simulated cortex has none", "none": "there is no brain"}
        raise InputError(
            f"rsa.null: 'session' needs subjects scanned in several sessions, and "
            f"{reason[work.settings.brain.source]}; use 'free' or 'class'."
        )
    try:
        labels = {
            name: session_labels(events_as_patterns(open_runs(work, name)), table)
            for name in subject_names(work)
        }
    except InputError as error:
        raise InputError(
            f"rsa.null: 'session': {error} (Sessions are the ses- of the file names.)"
        ) from None
    first, *others = labels.values()
    if work.settings.rsa.combine == "joint" and any(other != first for other in others):
        raise InputError(
            "rsa.combine: 'joint' permutes the photographs of all subjects alike, and sessions "
            "differ between the "
            f"subjects ({name_ids(labels)}); combine their p by 'all', 'fisher' or 'stouffer'."
        )
