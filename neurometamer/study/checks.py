"""What can be known before any work: whether the tests that the settings ask for suit these subjects and images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurometamer.store import InputError, check_file_names, name_ids
from neurometamer.study.brain_steps import open_runs, subject_names
from neurometamer.study.plan import Workspace
from neurometamer.study.result_steps import kind_options

if TYPE_CHECKING:
    from fmri.patterns import Patterns

SUBSAMPLED = ("spearman", "pearson")
"""Measures whose RDMs can be computed again from a part of the units."""


def check_tests(work: Workspace) -> None:
    """Refuse tests that this study cannot give.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files; nothing needs to be done yet.

    Raises
    ------
    InputError
        When an interval needs more subjects, a null needs sessions or classes that the study does not know, or
        measure and interval or data do not suit each other. The key of the settings is named.
    """
    _check_names(work)
    _check_interval(work)
    if work.settings.rsa.measure == "poisson" and subject_names(work):
        raise InputError(
            "rsa.measure: 'poisson' takes rates of zero or more, and betas of voxels are negative too; use another "
            'measure, or brain.source = "none".'
        )
    if work.settings.rsa.null == "class":
        _check_classes(work)
    if work.settings.rsa.null == "session":
        _check_sessions(work)


def _check_names(work: Workspace) -> None:
    """Refuse names that do not go together, such as a comparator for which an interval is not defined."""
    try:
        for system in ("network", "brain"):
            kind_options(work, system, {kind: ("RE", kind) for kind in ("AN", "AI")})
    except InputError as error:
        raise InputError(f"rsa: {error}") from None


def _check_interval(work: Workspace) -> None:
    from neurometamer.rsa.kind_options import subjects_needed
    from neurometamer.rsa.kind_tests import OVER_SUBJECTS

    rsa, subjects = work.settings.rsa, subject_names(work)
    if rsa.interval in OVER_SUBJECTS and len(subjects) < (needed := subjects_needed(rsa.confidence)):
        raise InputError(
            f"rsa.interval: '{rsa.interval}' at {rsa.confidence:.0%} needs at least {needed} subjects; the study has "
            f"{len(subjects)} ({name_ids(subjects) or 'no brain'}). Use 'stimuli', which resamples photographs."
        )
    if rsa.interval == "subsample" and rsa.measure not in SUBSAMPLED:
        raise InputError(
            f"rsa.interval: 'subsample' is there for the measures {' and '.join(SUBSAMPLED)}, not '{rsa.measure}'."
        )


def _check_classes(work: Workspace) -> None:
    from neurometamer.rsa.kind_nulls import class_labels

    try:
        class_labels(expected_stimuli(work))
    except InputError as error:
        raise InputError(
            f"rsa.null: 'class' needs the column category of the images, at least two classes: {error}"
        ) from None


def _check_sessions(work: Workspace) -> None:
    from neurometamer.rsa.kind_nulls import session_labels

    if work.settings.brain.source != "bold":
        told = {"simulated": "the simulated cortex has none", "none": "there is no brain"}
        raise InputError(
            f"rsa.null: 'session' needs subjects scanned in several sessions, and "
            f"{told[work.settings.brain.source]}; use 'free' or 'class'."
        )
    table = expected_stimuli(work)
    try:
        found = {name: session_labels(_shown(work, name), table) for name in subject_names(work)}
    except InputError as error:
        raise InputError(f"rsa.null: 'session': {error} (Sessions are the ses- of the file names.)") from None
    first, *others = found.values()
    if work.settings.rsa.combine == "joint" and any(one != first for one in others):
        raise InputError(
            "rsa.combine: 'joint' permutes the photographs of all subjects alike, and sessions differ between the "
            f"subjects ({name_ids(found)}); combine their p by 'all', 'fisher' or 'stouffer'."
        )


def _shown(work: Workspace, subject: str) -> Patterns:
    """Say what a subject saw in which session, as patterns of one voxel that are all zero."""
    from fmri.patterns import Patterns

    events = [
        pd.DataFrame({"condition": run.events["trial_type"].astype(str), "run": run.run, "session": run.session})
        for run in open_runs(work, subject)
    ]
    rows = pd.concat(events, ignore_index=True)
    rows = rows.assign(presentation=rows.groupby("condition").cumcount() + 1)
    voxel = pd.DataFrame({"subject": [subject], "roi": "none", "i": 0, "j": 0, "k": 0})
    return Patterns(values=np.zeros((len(rows), 1)), observations=rows, voxels=voxel)


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
    from stimuli_gen.photograph_lists import list_photographs
    from stimuli_gen.stimuli import read_stimuli

    images = work.settings.images
    if images.ready:
        source = work.source(images.ready)
        if source.is_dir():
            return read_stimuli(source, in_memory=False).table
        table = list_photographs(source).table
        kind = table["kind"].fillna("RE") if "kind" in table else "RE"
        reference = table["reference_id"].fillna(table["id"]) if "reference_id" in table else table["id"]
        return table.assign(kind=kind, reference_id=reference)
    photographs = _photographs(work)
    parts = [photographs.assign(kind="RE", reference_id=photographs["id"])]
    parts += [
        photographs.assign(id=photographs["id"] + f"_{kind}", kind=kind, reference_id=photographs["id"])
        for kind in ("AN", "AI")
    ]
    table = pd.concat(parts, ignore_index=True)
    check_file_names(table["id"])
    return table


def _photographs(work: Workspace) -> pd.DataFrame:
    from stimuli_gen.photograph_lists import list_photographs
    from stimuli_gen.regular import PACKAGED

    if work.settings.images.source == "packaged":
        return pd.DataFrame({"id": list(PACKAGED), "category": [category for _, _, category in PACKAGED.values()]})
    table = list_photographs(work.source(work.settings.images.source)).table
    check_file_names(table["id"])
    return table
