"""Checks of scanned subjects before any work.

They need only headers, tables and masks.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, name_ids
from neurometamer.study.brain_steps import open_runs, subject_names
from neurometamer.study.plan import Workspace
from neurometamer.study.problems import Findings
from neurometamer.study.settings import Subject

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.patterns import Patterns


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
    _check_names(subject, findings)
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


def _check_names(subject: Subject, findings: Findings) -> None:
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
