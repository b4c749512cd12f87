"""Voxels without usable responses: refused by region, or dropped and listed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, name_ids

UNUSABLE = ("refuse", "drop")
"""What to do with voxels that are not finite, or the same in all observations."""

WHY = ("", "NaN or infinite", "constant")
"""Why a voxel is unusable, by the number of its reason; 0: it is usable."""


def unusable_reasons(values: np.ndarray) -> np.ndarray:
    """Say which voxels cannot be used.

    Parameters
    ----------
    values : ndarray, shape (n_observations, n_voxels)
        Responses, or a series.

    Returns
    -------
    ndarray of int, shape (n_voxels,)
        Numbers of `WHY`: of voxels that are not finite, or the same in all of several observations.

    Examples
    --------
    >>> unusable_reasons(np.array([[1.0, np.nan, 3.0], [2.0, 4.0, 3.0]])).tolist()
    [0, 1, 2]
    """
    is_finite = np.isfinite(values).all(axis=0)
    is_constant = (values == values[:1]).all(axis=0) & (len(values) > 1)
    return np.select([~is_finite, is_constant], [1, 2])


def unusable_error(what: str, voxels: pd.DataFrame, reasons: np.ndarray) -> InputError:
    """Name the regions with voxels that cannot be used.

    Parameters
    ----------
    what : str
        What holds the responses.
    voxels : pandas.DataFrame
        Table of voxels.
    reasons : ndarray of int, shape (n_voxels,)
        Numbers of `WHY`.

    Returns
    -------
    InputError
        To be raised.
    """
    broken = voxels.assign(why=reasons)[reasons != 0]
    counts = broken.groupby(["roi", "why"], sort=False).size()
    faults = []
    for roi in dict.fromkeys(broken["roi"]):
        for why in (1, 2):
            count = counts.get((roi, why), 0)
            if count:
                faults.append(f"{count} {WHY[why]} in {roi}")
    return InputError(
        f"{what}: voxels of the masks cannot be used: {name_ids(faults)}; cut the masks to the "
        'brain, or unusable="drop" (--unusable drop) to drop and list them.'
    )


def check_regions_left(what: str, voxels: pd.DataFrame, keep: np.ndarray) -> None:
    """Refuse regions that have no usable voxel.

    Parameters
    ----------
    what : str
        What holds the responses.
    voxels : pandas.DataFrame
        Table of voxels.
    keep : ndarray of bool, shape (n_voxels,)
        Voxels that are usable.

    Raises
    ------
    InputError
        Naming the regions.
    """
    left = set(voxels["roi"][keep])
    lost = [roi for roi in dict.fromkeys(voxels["roi"]) if roi not in left]
    if lost:
        raise InputError(
            f"{what}: no usable voxel is left in ROI(s) {name_ids(lost)}; check the masks against "
            "the images."
        )


def dropped_voxels(voxels: pd.DataFrame, reasons: np.ndarray) -> list[dict[str, Any]]:
    """List unusable voxels for provenance.

    Parameters
    ----------
    voxels : pandas.DataFrame
        Table of voxels.
    reasons : ndarray of int, shape (n_voxels,)
        Numbers of `WHY`.

    Returns
    -------
    list of dict
        ``roi``, ``ijk`` and ``why`` of each.
    """
    dropped = []
    for row in np.flatnonzero(reasons):
        voxel = voxels.iloc[row]
        ijk = [int(voxel[axis]) for axis in "ijk"]
        dropped.append({"roi": str(voxel["roi"]), "ijk": ijk, "why": WHY[reasons[row]]})
    return dropped


def finite_voxels(what: str, values: np.ndarray, voxels: pd.DataFrame, unusable: str) -> np.ndarray:
    """Say which voxels have betas, where others were stored as NaN.

    Parameters
    ----------
    what : str
        What holds the betas.
    values : ndarray, shape (n_observations, n_voxels)
        Betas.
    voxels : pandas.DataFrame
        Their table.
    unusable : {"refuse", "drop"}
        What to do with others.

    Returns
    -------
    ndarray of bool, shape (n_voxels,)
        True for voxels to keep.

    Raises
    ------
    InputError
        When others are refused, or nothing is left of a region.
    """
    keep = np.asarray(np.isfinite(values).all(axis=0))
    if not keep.all() and unusable == "refuse":
        counts = voxels[~keep].groupby("roi", sort=False).size()
        lacking = name_ids(f"{roi} {count}" for roi, count in counts.items())
        raise InputError(
            f"{what}: masks reach voxels without betas: {lacking}; use the masks that the betas "
            'were made with, cut these, or unusable="drop" (--unusable drop).'
        )
    check_regions_left(what, voxels, keep)
    return keep
