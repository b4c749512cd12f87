"""Regions of interest: binary masks on the grid of the BOLD images, checked and never resampled."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fmri.bids import file_labels
from fmri.grids import check_same_grid
from fmri.surfaces import named_hemisphere
from fmri.volumes import image_affine, open_nifti, stored_values
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids

SAME_VALUE = 1e-4
"""Share of the largest value by which values of a mask may differ.

Masks of other programs are scaled.
"""


@checked
def read_masks(
    masks: Mapping[str, str | os.PathLike[str]],
    like: str | os.PathLike[str],
    *,
    affine: str = "agree",
) -> dict[str, np.ndarray]:
    """Read ROI masks and check that they lie on the grid of a BOLD image.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI name to 3-D NIfTI mask: 0 and one other value of 1 or more, such as 1 or 255.
    like : path-like
        A BOLD image (or any image on the same grid).
    affine : {"agree", "sform", "qform"}
        See `fmri.bold.image_affine`.

    Returns
    -------
    dict of str to ndarray of bool, shape (i, j, k)
        Name to mask, in the order given. Masks may overlap, with a warning.

    Raises
    ------
    InputError
        When a mask cannot be read, lies on another grid, holds more than two values, or has no
        voxel.

    Warns
    -----
    UserWarning
        When masks share voxels, when a name says one hemisphere and most voxels have the x
        coordinate of the other, or the name of the file says the other, or when a file name says
        another subject than that of `like`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> masks = read_masks(simulated.masks, simulated.bold[0])
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'V1': 8}
    """
    if not masks:
        raise InputError("no ROI masks; give at least one as NAME=FILE.")
    arrays = {}
    for name, path in masks.items():
        if not str(name).strip():
            raise InputError(f"the mask {path} has no ROI name; give NAME=FILE.")
        check_same_grid(path, like, affine=affine)
        mask = _read_mask(str(name), Path(path))
        _tell_hemisphere(str(name), Path(path), mask, affine)
        arrays[str(name)] = mask
        theirs, ours = file_labels(path).get("sub"), file_labels(like).get("sub")
        if theirs and ours and theirs != ours:
            warnings.warn(
                f"ROI '{name}': {Path(path).name} names sub-{theirs}, but the images are of "
                f"sub-{ours}. Check the mask.",
                stacklevel=2,
            )
    for (name, first), (other, second) in itertools.combinations(arrays.items(), 2):
        shared = int(np.sum(first & second))
        if shared and np.array_equal(first, second):
            warnings.warn(
                f"ROIs '{name}' and '{other}' are the same {shared} voxels; check the files of the "
                "masks.",
                stacklevel=2,
            )
        elif shared:
            warnings.warn(
                f"ROIs '{name}' and '{other}' share {shared} voxels (of {int(first.sum())} and "
                f"{int(second.sum())}); what is found in these regions is not independent.",
                stacklevel=2,
            )
    return arrays


def _tell_hemisphere(name: str, path: Path, mask: np.ndarray, affine: str) -> None:
    """Warn where a name says one hemisphere and most voxels lie in the other.

    In NIfTI, x < 0 mm is left.
    """
    by_name = named_hemisphere(name)
    by_file = named_hemisphere(path.name.split(".nii")[0])
    if by_name and by_file and by_name != by_file:
        warnings.warn(
            f"ROI '{name}' and its file {path.name} name different hemispheres; check which mask "
            "belongs to it.",
            stacklevel=2,
        )
    side = by_name or by_file
    image = open_nifti(path)
    codes = [int(image.header[name]) for name in ("sform_code", "qform_code")]
    if not side or max(codes) <= 0:
        return
    transform = image_affine(path, image, affine)
    x = np.argwhere(mask) @ transform[0, :3] + transform[0, 3]
    if side == "L":
        there, sign = "left", ">"
        wrong = int(np.sum(x > 0))
    else:
        there, sign = "right", "<"
        wrong = int(np.sum(x < 0))
    if 2 * wrong > len(x):
        warnings.warn(
            f"ROI '{name}' ({path.name}) is called {there}, but {wrong} of its {len(x)} voxels lie "
            f"at x {sign} 0 mm (mean x {x.mean():.1f} mm), in the other hemisphere. Check whether "
            "mask or images are mirrored.",
            stacklevel=2,
        )


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
            raise InputError(
                f"ROI '{name}' has a mask of type {mask.dtype}; give booleans (read_masks makes "
                "them)."
            )
        if mask.shape != tuple(shape):
            raise InputError(
                f"ROI '{name}' has a mask of shape {mask.shape} but the images have "
                f"{tuple(shape)}; give a mask on their grid."
            )
    _check_filled(masks)
    return dict(masks)


def voxel_table(
    masks: Mapping[str, np.ndarray], subject: str
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
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
        Columns subject, roi, i, j, k; regions in order, voxels in C order; a voxel in two regions
        has two rows.
    union : ndarray of bool, shape (i, j, k)
        Voxels in any region.
    positions : ndarray of int, shape (n_rows,)
        Position of each row's voxel among those of `union` (C order).
    """
    union = np.logical_or.reduce(list(masks.values()))
    numbers = np.full(union.shape, -1, dtype=np.int64)
    numbers[union] = np.arange(int(union.sum()))
    tables, positions = [], []
    for name, mask in masks.items():
        index = np.argwhere(mask)
        table = pd.DataFrame(index, columns=["i", "j", "k"])
        table.insert(0, "subject", subject)
        table.insert(1, "roi", name)
        tables.append(table)
        positions.append(numbers[mask])
    voxels = pd.concat(tables, ignore_index=True)
    return voxels, union, np.concatenate(positions)


def _read_mask(name: str, path: Path) -> np.ndarray:
    image = open_nifti(path)
    with stored_values(path, image) as stored:
        values = np.asarray(stored)
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    if values.ndim != 3:
        raise InputError(
            f"ROI '{name}': {path.name} is {values.ndim}-D; a mask must be 3-D, give one volume."
        )
    if np.isinf(values).any():
        raise InputError(f"ROI '{name}': {path.name} holds infinite values; save 0 and 1.")
    top = np.max(values)
    most = SAME_VALUE * top
    mask = np.abs(values - top) <= most
    outside = np.abs(values) <= most
    is_binary = top >= 1 - SAME_VALUE and np.all(mask | outside)
    if top != 0 and not is_binary:
        held = name_ids(np.unique(values))
        raise InputError(
            f"ROI '{name}': {path.name} is not a binary mask; it holds {held}. Save one mask a "
            "region with 0 and 1 (threshold a probability map, split a label image)."
        )
    mask &= values > 0
    _check_filled({name: mask})
    return mask


def _check_filled(masks: Mapping[str, np.ndarray]) -> None:
    empty = [name for name, mask in masks.items() if not mask.any()]
    if empty:
        raise InputError(
            f"ROI(s) without any voxel: {name_ids(empty)}; check the mask file or leave the region "
            "out."
        )
