"""CIFTI files: vertices of the cortex and voxels in one row a map or a volume."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import TR_RANGE_S
from fmri.grids import Grid, SeriesHeader, space_of
from fmri.volumes import header_notes, stored_values
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import reading

_BLOCK_VALUES = 4_000_000
_SIDES = {"CIFTI_STRUCTURE_CORTEX_LEFT": "L", "CIFTI_STRUCTURE_CORTEX_RIGHT": "R"}


@dataclass(frozen=True, kw_only=True, eq=False)
class CiftiMaps:
    """An opened CIFTI file whose rows are maps or volumes and whose columns are places.

    Parameters
    ----------
    image : nibabel image
        With its values still on disk.
    grid : Grid
        Vertices and voxels of its columns.
    rows : nibabel axis
        What its rows are.
    """

    image: Any
    grid: Grid
    rows: Any


def open_cifti(path: str | os.PathLike[str]) -> CiftiMaps:
    """Open a CIFTI file of grayordinates without its values.

    Parameters
    ----------
    path : path-like
        ``.dtseries.nii``, ``.dscalar.nii`` or ``.dlabel.nii``.

    Returns
    -------
    CiftiMaps
        Image, grid and rows.

    Raises
    ------
    InputError
        When it cannot be read, is cut off, or its columns are no vertices of the cortex or voxels.
    """
    import nibabel

    content = "a readable CIFTI-2 file (.dtseries.nii, .dscalar.nii, .dlabel.nii)"
    with header_notes(path), reading(path, content) as plain, warnings.catch_warnings():
        warnings.simplefilter("error")
        image: Any = nibabel.load(plain)
        if not isinstance(image, nibabel.Cifti2Image):
            raise InputError(f"{path} is a {type(image).__name__}, not CIFTI; correct its name.")
        axes = [image.header.get_axis(number) for number in range(image.ndim)]
        models = axes[-1]
        is_dense = isinstance(models, nibabel.cifti2.BrainModelAxis)
        if len(axes) != 2 or not is_dense:
            raise InputError(
                f"{path} has no vertices and voxels in its columns (parcels or connections are not "
                "read); give the dense file (.dtseries.nii, .dscalar.nii, .dlabel.nii)."
            )
        others = [str(name) for name in models.nvertices if str(name) not in _SIDES]
        if others:
            raise InputError(
                f"{path} has vertices of {name_ids(others)}; only those of the cortex are read."
            )
        is_voxel = np.asarray(models.volume_mask)
        index = np.array(models.voxel, dtype=np.int64)
        index[~is_voxel] = 0
        index[~is_voxel, 0] = np.asarray(models.vertex)[~is_voxel]
        places = pd.DataFrame(index, columns=["i", "j", "k"])
        names = [_SIDES.get(str(name), "") for name in models.name]
        places.insert(0, "hemisphere", np.array(names, dtype=object))
        if places.duplicated().any():
            raise InputError(f"{path} lists vertices or voxels twice; make it again.")
        n_vertices = {}
        for name in sorted(map(str, models.nvertices)):
            side = _SIDES[name]
            n_vertices[side] = int(models.nvertices[name])
        affine = None
        if is_voxel.any():
            affine = np.asarray(models.affine, dtype=np.float64)
        grid = Grid(
            name=Path(path).name,
            shape=(len(places),),
            affine=affine,
            places=places,
            n_vertices=n_vertices,
            space=space_of(path),
        )
        promised = (len(axes[0]), len(models))
        if tuple(image.shape) != promised:
            raise InputError(f"{path} has values of another shape than its header says; copy it.")
    return CiftiMaps(image=image, grid=grid, rows=axes[0])


def brain_models(grid: Grid) -> Any:
    """Describe the places of surfaces or of a CIFTI file as the columns of a CIFTI file.

    Parameters
    ----------
    grid : Grid
        Of no volume.

    Returns
    -------
    nibabel.cifti2.BrainModelAxis
        One column a place, in the order of the grid. Voxels are of the structure ``OTHER``.
    """
    import nibabel

    assert grid.places is not None
    structures = {side: name for name, side in _SIDES.items()}
    names = grid.places["hemisphere"].map(structures).fillna("CIFTI_STRUCTURE_OTHER")
    index = grid.places[["i", "j", "k"]].to_numpy()
    is_vertex = (grid.places["hemisphere"] != "").to_numpy()
    return nibabel.cifti2.BrainModelAxis(
        names.to_numpy(dtype=str),
        voxel=np.where(is_vertex[:, None], -1, index),
        vertex=np.where(is_vertex, index[:, 0], -1),
        affine=grid.affine,
        volume_shape=tuple(int(size) for size in index[~is_vertex].max(axis=0, initial=0) + 1),
        nvertices={structures[side]: number for side, number in grid.n_vertices.items()},
    )


def cifti_header(path: str | os.PathLike[str], affine: str = "agree") -> SeriesHeader:
    """Read what a CIFTI file says of itself.

    Parameters
    ----------
    path : path-like
        ``.dtseries.nii``, or a ``.dscalar.nii`` with one map a volume.
    affine : str
        Not used: CIFTI has one transform.

    Returns
    -------
    SeriesHeader
        With its repetition time where the rows are times in seconds.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    opened = open_cifti(path)
    t_r = None
    if getattr(opened.rows, "unit", "") == "SECOND":
        step = round(float(opened.rows.step), 6)
        t_r = step if TR_RANGE_S[0] <= step <= TR_RANGE_S[1] else None
    return SeriesHeader(n_volumes=len(opened.rows), grid=opened.grid, t_r=t_r)


def read_cifti_series(path: str | os.PathLike[str], mask: np.ndarray) -> np.ndarray:
    """Read the rows of a CIFTI file at some places, block by block of columns.

    Parameters
    ----------
    path : path-like
        ``.dtseries.nii``, ``.dscalar.nii`` or ``.dlabel.nii``.
    mask : ndarray of bool, shape (n_places,)
        True for the places wanted.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_chosen)
        In order of the columns of the file.

    Raises
    ------
    InputError
        When the file is cut off or damaged.
    """
    image = open_cifti(path).image
    n_rows, n_places = image.shape
    step = max(1, _BLOCK_VALUES // n_rows)
    parts = [np.empty((n_rows, 0))]
    with stored_values(path, image) as stored:
        # the values of one place lie side by side in the file
        for first in range(0, n_places, step):
            chosen = mask[first : first + step]
            if chosen.any():
                block = np.asarray(stored[:, first : first + step], dtype=np.float64)
                parts.append(block[:, chosen])
    return np.concatenate(parts, axis=1)
