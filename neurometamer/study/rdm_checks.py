"""What RDMs of a study need of its subjects: sessions, independent runs, regions that all have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fmri.betas.single_trials import check_independent_runs
from fmri.bold import BoldRun
from fmri.patterns import Patterns
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.image_types.nulls import session_labels
from neurometamer.rsa.measures import MEASURES
from neurometamer.study.brain_steps import (
    analyzed_regions,
    given_patterns,
    open_runs,
    scanned,
    subject_names,
)
from neurometamer.study.plan import Workspace
from neurometamer.study.settings import MEASURED_SOURCES


def brain_rdm_faults(work: Workspace) -> Iterator[str]:
    """Say which settings of the cortex' RDMs do not fit what the study has.

    Parameters
    ----------
    work : Workspace
        Settings.

    Yields
    ------
    str
        What is wrong and what to do.
    """
    rsa = work.settings.rsa
    glm = work.settings.glm
    source = work.settings.brain.source
    names = subject_names(work)
    if source == "none" and (rsa.brain_measure or rsa.pooled):
        yield (
            'rsa: brain_measure and pooled are of regions, and brain.source = "none" has none; '
            "leave them out."
        )
        return
    if rsa.residuals and source == "patterns":
        yield (
            f"rsa.residuals: the responses of {name_ids(names)} were estimated before, and have no "
            'time courses; give BOLD runs (brain.source = "bold" or "bids"), or residuals = false, '
            "which takes the noise from presentations."
        )
    if rsa.residuals and glm.zscore != "none":
        yield (
            f"rsa.residuals: betas that are z-scored within each {glm.zscore} have other units "
            'than residuals; give [glm] zscore = "none", or residuals = false.'
        )
    chosen = {"n_noise": 0, "shrinkage": "none"}
    differing = [name for name in chosen if getattr(glm, name) != chosen[name]]
    is_crossvalidated = MEASURES[rsa.of_brain].needs == "folds"
    if is_crossvalidated and differing and not rsa.allow_chosen and source != "patterns":
        yield (
            f"rsa.brain_measure: {rsa.of_brain} takes runs for independent, and [glm] "
            f"{name_ids(differing)} are chosen on all runs together; leave these out, or allow it: "
            "[rsa] allow_chosen = true."
        )
    if rsa.pooled and len(names) < 2:
        yield (
            f"rsa.pooled: voxels are pooled over at least two subjects, and the study has "
            f"{len(names)} ({name_ids(names) or 'none'}); add subjects, or leave pooled out."
        )


def check_compared_subjects(work: Workspace, table: pd.DataFrame) -> None:
    """Refuse subjects that lack independent runs, or regions that pooling needs.

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
    rsa = work.settings.rsa
    source = work.settings.brain.source
    if source not in MEASURED_SOURCES:
        return
    ids = table["id"].astype(str).tolist()
    regions = {}
    for name in subject_names(work):
        if source == "patterns":
            shown = given_patterns(work, name, ids)
            regions[name] = list(shown.rois)
        else:
            shown = events_as_patterns(open_runs(work, name))
            regions[name] = analyzed_regions(work, scanned(work, name))
        if MEASURES[rsa.of_brain].needs == "folds":
            check_independent_runs(shown.provenance, name, rsa.allow_chosen)
            _check_folds(work, name, shown.observations)
    every = dict.fromkeys(roi for rois in regions.values() for roi in rois)
    for name, rois in regions.items():
        lacking = [roi for roi in every if roi not in rois]
        if rsa.pooled and lacking:
            raise InputError(
                f"rsa.pooled: {name} has no ROI(s) {name_ids(lacking)}, which others have; pool "
                "regions that all have (brain.only), or leave pooled out."
            )


def _check_folds(work: Workspace, name: str, observations: pd.DataFrame) -> None:
    """Refuse images of a subject that are in one independent part of the data only."""
    folds = work.settings.rsa.folds
    columns = {"run": ["session", "run"]}.get(folds, [folds])
    if work.settings.brain.source != "patterns" and work.settings.glm.per == "condition":
        columns = ["session"]  # one response an image and session
    ignored = observations["condition"].isin(work.settings.glm.ignore)
    parts = observations.loc[~ignored, ["condition", *columns]].drop_duplicates()
    counts = parts["condition"].value_counts()
    if single := counts.index[counts < 2].tolist():
        raise InputError(
            f"rsa.folds: {name_ids(single)} of {name} are in one {' and '.join(columns)} only, and "
            f"{work.settings.rsa.of_brain} needs each image in two; give folds = "
            '"presentation", or another brain_measure.'
        )


def events_as_patterns(
    runs: list[BoldRun], conditions: list[tuple[str, ...]] | None = None
) -> Patterns:
    """List what a subject saw in which run and session, as patterns of one voxel that are all zero.

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
    parts = []
    for number, run in enumerate(runs):
        names = run.events["trial_type"] if conditions is None else conditions[number]
        columns = {"condition": list(names), "run": run.run, "session": run.session}
        parts.append(pd.DataFrame(columns))
    rows = pd.concat(parts, ignore_index=True)
    presentation = rows.groupby("condition").cumcount() + 1
    voxel = {
        "subject": [runs[0].subject],
        "roi": "none",
        "i": 0,
        "j": 0,
        "k": 0,
    }
    return Patterns(
        values=np.zeros((len(rows), 1)),
        observations=rows.assign(presentation=presentation),
        voxels=pd.DataFrame(voxel),
    )


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
    source = work.settings.brain.source
    if source not in MEASURED_SOURCES:
        reason = "the simulated cortex has none" if source == "simulated" else "there is no brain"
        raise InputError(
            f"rsa.null: 'session' needs subjects scanned in several sessions, and {reason}; use "
            "'free' or 'class'."
        )
    labels = {}
    try:
        for name in subject_names(work):
            if source == "patterns":
                shown = given_patterns(work, name, table["id"].tolist())
            else:
                shown = events_as_patterns(open_runs(work, name))
            labels[name] = session_labels(shown, table)
    except InputError as error:
        raise InputError(
            f"rsa.null: 'session': {error} (Sessions are the ses- of the file names.)"
        ) from None
    first, *others = labels.values()
    if work.settings.rsa.combine == "joint" and any(other != first for other in others):
        raise InputError(
            "rsa.combine: 'joint' permutes the photographs of all subjects alike, and sessions "
            f"differ between the subjects ({name_ids(labels)}); combine their p by 'all', "
            "'fisher' or 'stouffer'."
        )
