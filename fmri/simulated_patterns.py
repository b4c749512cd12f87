"""From conditions and features to the patterns of simulated subjects, through the same files as measured ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmri.betas import estimate_betas
from fmri.bold import read_runs
from fmri.patterns import Patterns
from fmri.reliability import select_voxels
from fmri.simulate import simulate_subject
from neurometamer.arguments import checked
from neurometamer.errors import InputError


@checked
def simulate_patterns(
    folder: str | os.PathLike[str],
    *,
    subjects: Sequence[str],
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
    seed: int,
    select_on: Sequence[str] = (),
    n_per_roi: int | None = None,
    **settings: Any,
) -> dict[str, Patterns]:
    """Simulate subjects, estimate their betas from the files, and choose reliable voxels.

    Parameters
    ----------
    folder : path-like
        Gets one folder a subject with its files (`simulate_subject`).
    subjects : sequence of str
        Labels, with or without ``sub-``.
    conditions : sequence of str
        Stimulus ids.
    features : mapping of str to ndarray, shape (n_conditions, n_features)
        Feature spaces; rows in the order of `conditions`.
    mixing : mapping of str to mapping of str to float
        Region to feature space to weight.
    seed : int
        Of everything drawn.
    select_on : sequence of str
        Conditions by which voxels are chosen, for `n_per_roi`; as in `select_voxels` there is no
        default (Zhang et al., 2021: RE images).
    n_per_roi : int, optional
        Voxels kept in each region, the most reliable ones; all when not given.
    **settings : object
        Passed on to `simulate_subject`: voxels_per_roi, n_runs, noise_sd, sessions, …

    Returns
    -------
    dict of str to Patterns
        ``sub-LABEL`` → betas of a SIMULATED cortex, in the order of `subjects`.

    Raises
    ------
    InputError
        As the functions named above; and when only one of `n_per_roi` and `select_on` is given.
    """
    if (n_per_roi is None) != (not len(select_on)):
        raise InputError(
            f"n_per_roi is {n_per_roi} and select_on names {len(select_on)} conditions; give both "
            "to choose voxels, or "
            "neither to keep all."
        )
    found = {}
    for one in subjects:
        label = f"sub-{str(one).removeprefix('sub-')}"
        subject = simulate_subject(
            Path(folder) / label,
            subject=label,
            conditions=conditions,
            features=features,
            mixing=mixing,
            seed=seed,
            **settings,
        )
        betas = estimate_betas(
            read_runs(subject.bold, subject.events, subject.confounds), subject.masks
        )
        found[label] = (
            select_voxels(betas, conditions=select_on, n_per_roi=n_per_roi) if n_per_roi else betas
        )
    return found
