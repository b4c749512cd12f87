"""Images of betas: volumes, surfaces (one file a hemisphere) and CIFTI, one map an observation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import find_reader
from fmri.cifti import open_cifti
from fmri.grids import PLACE_COLUMNS, SIDES
from fmri.patterns import Patterns
from fmri.series import SERIES_READERS
from neurometamer.errors import InputError, name_ids
from neurometamer.store import atomic_path

_CIFTI = SERIES_READERS[".dscalar.nii"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BetaImage:
    """One of the images that hold betas: all of a volume or of CIFTI, or those of a hemisphere.

    Parameters
    ----------
    ending : str
        Of its file, with the dot.
    columns : ndarray of int, shape (n_places,)
        Columns of the values that it holds, each place once.
    places : ndarray of int, shape (n_places,)
        Where in a map they lie.
    write : callable
        ``write(path, values, places, conditions)`` writes values of shape (n_maps, n_places) as
        float32, NaN elsewhere.
    labels : mapping of str to str
        BIDS labels that tell it from others, such as ``{"hemi": "L"}``.
    """

    ending: str
    columns: np.ndarray
    places: np.ndarray
    write: Callable[[Path, np.ndarray, np.ndarray, Sequence[str]], None]
    labels: Mapping[str, str] = field(default_factory=dict)

    def write_rows(self, path: Path, patterns: Patterns, rows: np.ndarray) -> Path:
        """Write some observations of the patterns that the image is of.

        Parameters
        ----------
        path : Path
            With the ending of the image.
        patterns : Patterns
            As given to `beta_images`.
        rows : ndarray of int
            Numbers of the observations.

        Returns
        -------
        Path
            The file.
        """
        conditions = patterns.observations["condition"].iloc[rows].tolist()
        values = patterns.values[np.ix_(rows, self.columns)]
        self.write(path, values, self.places, conditions)
        return path


def beta_images(patterns: Patterns, like: str | os.PathLike[str] | None = None) -> list[BetaImage]:
    """Find the images that hold patterns, by the grid in their provenance.

    Parameters
    ----------
    patterns : Patterns
        With a grid in their provenance.
    like : path-like, optional
        For betas of CIFTI: a file with their vertices and voxels (``.dtseries.nii`` or
        ``.dscalar.nii``), such as one of the series that they were estimated from.

    Returns
    -------
    list of BetaImage
        One of a volume or of CIFTI; of surfaces one a hemisphere, left before right.

    Raises
    ------
    InputError
        Without a grid, when two regions disagree about a voxel, or when `like` is needed and not
        given, or has other places.
    """
    grid = patterns.provenance.get("grid")
    if not grid:
        raise InputError(
            f"these patterns ({len(patterns)} observations of {name_ids(patterns.rois)}) carry no "
            "voxel grid; give patterns that estimate_betas made."
        )
    shape = tuple(int(size) for size in grid["shape"])
    index = patterns.voxels[["i", "j", "k"]].to_numpy()
    if len(shape) == 3:
        numbers = np.ravel_multi_index(tuple(index.T), shape, order="F")
        columns, places = _once(patterns, numbers, np.arange(len(numbers)))
        write = partial(_write_volume, grid)
        return [BetaImage(ending=".nii.gz", columns=columns, places=places, write=write)]
    n_vertices = grid["n_vertices"]
    n_all = sum(n_vertices.values())
    if like is not None and find_reader(SERIES_READERS, like, "a series") is not _CIFTI:
        like = None
    if like is None and (grid["affine"] is not None or shape != (n_all,)):
        raise InputError(
            f"these betas of {name_ids(patterns.rois)} are of CIFTI, and only a file knows all of "
            "its vertices and voxels; give one of the series (like), a .dtseries.nii or "
            ".dscalar.nii."
        )
    if like is not None:
        return [_cifti_image(patterns, like)]
    images = []
    for side, length in n_vertices.items():
        own = np.flatnonzero(patterns.voxels["hemisphere"] == side)
        columns, places = _once(patterns, index[own, 0], own)
        image = BetaImage(
            ending=".func.gii",
            columns=columns,
            places=places,
            write=partial(_write_gifti, int(length), side),
            labels={"hemi": side},
        )
        images.append(image)
    return images


def _once(
    patterns: Patterns, numbers: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Take each place once; returns columns and places. Regions that share one must agree."""
    places, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    own = patterns.values[:, columns]
    if not np.array_equal(own[:, first][:, back], own):
        raise InputError(
            f"two of the regions {name_ids(patterns.rois)} hold different values for the same "
            "voxel; write them to two folders."
        )
    return columns[first], places


def _write_volume(
    grid: Mapping[str, Any],
    path: Path,
    values: np.ndarray,
    places: np.ndarray,
    conditions: Sequence[str],
) -> None:
    """Write a 4-D image, one volume at a time: the 4-D array is never in memory."""
    import nibabel
    from nibabel.openers import ImageOpener

    shape = tuple(int(size) for size in grid["shape"])
    affine = np.asarray(grid["affine"], dtype=np.float64)
    image = nibabel.Nifti1Image(np.zeros(shape, dtype=np.float32), affine)
    header = image.header.copy()
    header.set_data_shape((*shape, len(values)))
    header["vox_offset"] = 352
    volume = np.full(int(np.prod(shape)), np.nan, dtype="<f4")
    with atomic_path(path) as part, ImageOpener(str(part), "wb") as file:
        header.write_to(file)
        file.write(b"\0" * (352 - file.tell()))
        for row in values:
            volume[places] = row
            file.write(volume.tobytes())


def _write_gifti(
    n_vertices: int,
    side: str,
    path: Path,
    values: np.ndarray,
    places: np.ndarray,
    conditions: Sequence[str],
) -> None:
    """Write one data array a map, of all vertices of a hemisphere."""
    from nibabel import GiftiImage, gifti

    arrays = []
    for row, condition in zip(values, conditions, strict=True):
        of_vertices = np.full(n_vertices, np.nan, dtype=np.float32)
        of_vertices[places] = row
        array = gifti.GiftiDataArray(
            of_vertices,
            intent="NIFTI_INTENT_NONE",
            datatype="NIFTI_TYPE_FLOAT32",
            meta=gifti.GiftiMetaData({"Name": condition}),
        )
        arrays.append(array)
    meta = gifti.GiftiMetaData({"AnatomicalStructurePrimary": f"Cortex{SIDES[side].title()}"})
    with atomic_path(path) as part:
        part.write_bytes(GiftiImage(darrays=arrays, meta=meta).to_bytes())


def _cifti_image(patterns: Patterns, like: str | os.PathLike[str]) -> BetaImage:
    """Find where betas lie among the vertices and voxels of a CIFTI file."""
    import nibabel

    opened = open_cifti(like)
    known = opened.grid.places
    assert known is not None
    keys = pd.MultiIndex.from_frame(known[list(PLACE_COLUMNS)])
    own = pd.MultiIndex.from_frame(patterns.voxels[list(PLACE_COLUMNS)])
    numbers = keys.get_indexer(own)
    there = patterns.provenance["grid"]["n_vertices"]
    if (numbers < 0).any() or dict(opened.grid.n_vertices) != dict(there):
        raise InputError(
            f"{Path(like).name} (like) has other vertices and voxels than these betas "
            f"({dict(opened.grid.n_vertices)} vertices, the betas {dict(there)}); give one of the "
            "series that they were estimated from."
        )
    models = opened.image.header.get_axis(1)

    def _write(
        path: Path, values: np.ndarray, places: np.ndarray, conditions: Sequence[str]
    ) -> None:
        maps = np.full((len(values), len(known)), np.nan, dtype=np.float32)
        maps[:, places] = values
        rows = nibabel.cifti2.ScalarAxis(list(conditions))
        with atomic_path(path) as part:
            nibabel.save(nibabel.Cifti2Image(maps, (rows, models)), part)

    columns, places = _once(patterns, numbers, np.arange(len(numbers)))
    return BetaImage(ending=".dscalar.nii", columns=columns, places=places, write=_write)
