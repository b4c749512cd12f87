"""Regions of interest: binary masks on the grid of the BOLD images, checked and never resampled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fmri.bold import check_same_grid, open_nifti, stored_values
from neurometamer.store import InputError, name_ids


def read_masks(masks: Mapping[str, str | os.PathLike[str]], like: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read ROI masks and check that they lie on the grid of a BOLD image.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI name to 3-D NIfTI mask (0 and 1 only).
    like : path-like
        A BOLD image (or any image on the same grid).

    Returns
    -------
    dict of str to ndarray of bool, shape (i, j, k)
        In the order given. Masks may overlap.

    Raises
    ------
    InputError
        When a mask cannot be read, lies on another grid, holds other values than 0 and 1, or has no voxel.
    """
    if not masks:
        raise InputError("no ROI masks; give at least one as NAME=FILE.")
    found = {}
    for name, path in masks.items():
        if not str(name).strip():
            raise InputError(f"the mask {path} has no ROI name; give NAME=FILE.")
        check_same_grid(path, like)
        found[str(name)] = _read_mask(str(name), Path(path))
    return found


def check_masks(masks: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Check masks given as arrays: boolean, of the right shape, none empty.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (i, j, k)
        ROI name to mask.
    shape : tuple of int
        The grid of the BOLD images.

    Returns
    -------
    dict of str to ndarray of bool
        The same masks.

    Raises
    ------
    InputError
        When there is none, or one is not boolean, has another shape or no voxel.
    """
    if not masks:
        raise InputError("no ROI masks; give at least one.")
    for name, mask in masks.items():
        if mask.dtype != bool:
            raise InputError(f"ROI '{name}' has a mask of type {mask.dtype}; give booleans (read_masks makes them).")
        if mask.shape != tuple(shape):
            raise InputError(f"ROI '{name}' has a mask of shape {mask.shape} but the images have {tuple(shape)}.")
    _check_filled(masks)
    return dict(masks)


def voxel_table(masks: Mapping[str, np.ndarray], subject: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """List the voxels of all regions, one row per region and voxel.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (i, j, k)
        ROI name to mask.
    subject : str
        Written into each row.

    Returns
    -------
    voxels : pandas.DataFrame
        Columns subject, roi, i, j, k; regions in order, voxels in C order; a voxel in two regions has two rows.
    union : ndarray of bool, shape (i, j, k)
        Voxels in any region.
    place : ndarray of int, shape (n_rows,)
        Position of each row's voxel among those of `union` (C order).
    """
    union = np.logical_or.reduce(list(masks.values()))
    position = np.full(union.shape, -1, dtype=np.int64)
    position[union] = np.arange(int(union.sum()))
    tables, places = [], []
    for name, mask in masks.items():
        index = np.argwhere(mask)
        tables.append(
            pd.DataFrame({"subject": subject, "roi": name, "i": index[:, 0], "j": index[:, 1], "k": index[:, 2]})
        )
        places.append(position[mask])
    return pd.concat(tables, ignore_index=True), union, np.concatenate(places)


def _read_mask(name: str, path: Path) -> np.ndarray:
    image = open_nifti(path)
    with stored_values(path, image) as stored:
        values = np.asarray(stored)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(f"ROI '{name}': {path.name} is {values.ndim}-D; a mask must be 3-D.")
    found = np.unique(values)
    if not np.isin(found, (0, 1)).all():
        raise InputError(
            f"ROI '{name}': {path.name} is not a binary mask; it holds {name_ids(found)}. "
            "Save one mask a region with 0 and 1 (threshold a probability map, split a label image)."
        )
    mask = values == 1
    _check_filled({name: mask})
    return mask


def _check_filled(masks: Mapping[str, np.ndarray]) -> None:
    empty = [name for name, mask in masks.items() if not mask.any()]
    if empty:
        raise InputError(f"ROI(s) without any voxel: {name_ids(empty)}; check the mask file or leave the region out.")
