"""Time series of any kind: a table of readers for volumes, surfaces and CIFTI."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmri.bids import find_reader
from fmri.cifti import cifti_header, open_cifti, read_cifti_series
from fmri.extraction import StoredSeries, read_series, read_voxels
from fmri.grids import SIDES, SeriesHeader, join_hemispheres, volume_grid
from fmri.surfaces import (
    gifti_header,
    mgh_header,
    one_side,
    partner_name,
    read_gifti_series,
    read_mgh_series,
)
from fmri.volumes import check_4d, check_complete, header_tr, open_nifti
from neurometamer.errors import InputError, name_ids, unknown_name

File = str | os.PathLike[str]

HEMISPHERES = ("both", "one")
"""Whether a series on a surface needs that of the other hemisphere."""


@dataclass(frozen=True, kw_only=True)
class SeriesReader:
    """How files of one ending are read.

    Parameters
    ----------
    header : callable
        ``header(path, affine)`` gives the `fmri.grids.SeriesHeader`.
    read : callable
        ``read(path, mask)`` gives the time courses of the places where the mask is True: floats of
        shape (n_volumes, n_chosen).
    open : callable, optional
        ``open(path)`` gives the image of which `fmri.volumes.check_complete` says whether it is cut
        off; None where that is told by reading it.
    one_hemisphere : bool
        Whether each hemisphere has a file of its own.
    """

    header: Callable[[File, str], SeriesHeader]
    read: Callable[[File, np.ndarray], np.ndarray]
    open: Callable[[File], Any] | None = None
    one_hemisphere: bool = False


def volume_header(path: File, affine: str = "agree") -> SeriesHeader:
    """Read what a 4-D NIfTI image says of itself.

    Parameters
    ----------
    path : path-like
        The image.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Returns
    -------
    SeriesHeader
        With its repetition time where the header has one.

    Raises
    ------
    InputError
        When it cannot be read, is not 4-D, or its header contradicts itself.
    """
    image = open_nifti(path)
    shape = check_4d(path, image)
    grid = volume_grid(path, affine)
    t_r = header_tr(image)
    return SeriesHeader(
        n_volumes=shape[3],
        grid=grid,
        t_r=t_r,
        shape=shape,
        # of times, only those in range have a unit that is known
        has_unit=t_r is None or image.header.get_xyzt_units()[1] != "unknown",
        itemsize=image.get_data_dtype().itemsize,
        description=image.header["descrip"].item().decode("latin-1"),
    )


_VOLUME = SeriesReader(header=volume_header, read=read_voxels, open=open_nifti)
_GIFTI = SeriesReader(header=gifti_header, read=read_gifti_series, one_hemisphere=True)
_MGH = SeriesReader(header=mgh_header, read=read_mgh_series, one_hemisphere=True)
_CIFTI = SeriesReader(
    header=cifti_header, read=read_cifti_series, open=lambda path: open_cifti(path).image
)

SERIES_READERS: dict[str, SeriesReader] = {
    ".nii": _VOLUME,
    ".nii.gz": _VOLUME,
    ".gii": _GIFTI,
    ".mgh": _MGH,
    ".mgz": _MGH,
    ".dtseries.nii": _CIFTI,
    ".dscalar.nii": _CIFTI,
    "": _VOLUME,
}
"""Ending of a series → its reader; ``""`` is for all other endings, which `fmri.volumes` opens. A
format is added by an entry here."""


def is_volume(file: File) -> bool:
    """Say by its name whether a series is of a volume.

    Parameters
    ----------
    file : path-like
        File of a series.

    Returns
    -------
    bool
        False for surfaces and CIFTI.

    Examples
    --------
    >>> is_volume("bold.nii.gz"), is_volume("bold.dtseries.nii")
    (True, False)
    """
    return find_reader(SERIES_READERS, file, "a series") is _VOLUME


def hemisphere_files(image: File | Sequence[File], hemispheres: str = "both") -> tuple[Path, ...]:
    """List the files of one run, left before right.

    Parameters
    ----------
    image : path-like or sequence of path-like
        The file of a run, one of its hemispheres, or both.
    hemispheres : {"both", "one"}
        Whether the file of one hemisphere needs its partner, which is found by its name.

    Returns
    -------
    tuple of Path
        One or two.

    Raises
    ------
    InputError
        When the partner is missing, or the two files are not the two hemispheres.
    """
    if hemispheres not in HEMISPHERES:
        raise unknown_name("hemispheres", hemispheres, HEMISPHERES)
    if isinstance(image, str | os.PathLike):
        image = [image]
    files = [Path(file) for file in image]
    readers = [find_reader(SERIES_READERS, file, "a series") for file in files]
    on_surface = all(reader.one_hemisphere for reader in readers)
    if len(files) == 1:
        if not on_surface or hemispheres == "one":
            return tuple(files)
        partner = partner_name(files[0])
        if partner is None or not partner.is_file():
            readers[0].header(files[0], "agree")  # what is wrong with the file itself comes first
            side = one_side(files[0])
            other = SIDES["R" if side == "L" else "L"]
            looked = f" ({partner.name})" if partner else ""
            raise InputError(
                f"{files[0]} is of the {SIDES[side]} hemisphere, and the file of the {other} "
                f'one{looked} is not beside it; give both files, or hemispheres="one" '
                "(--hemispheres one) where there is one."
            )
        files.append(partner)
    sides = {}
    if on_surface:
        sides = {one_side(file): file for file in files}
    if len(files) != 2 or len(sides) != 2:
        names = [file.name for file in files]
        raise InputError(
            f"{name_ids(names)} are not the left and the right hemisphere of one run; give the two "
            "files of a surface, or one volume."
        )
    return sides["L"], sides["R"]


def pair_hemispheres(files: Sequence[File]) -> list[tuple[Path, ...]]:
    """Put the two files of the hemispheres of each run together.

    Parameters
    ----------
    files : sequence of path-like
        Of all runs, in order.

    Returns
    -------
    list of tuple of Path
        One entry a run, in the order of its first file.

    Examples
    --------
    >>> names = ["run-1_hemi-L.func.gii", "run-1_hemi-R.func.gii", "run-2_hemi-R.func.gii"]
    >>> [len(files) for files in pair_hemispheres(names)]
    [2, 1]
    """
    waiting = [Path(file) for file in files]
    runs: list[tuple[Path, ...]] = []
    while waiting:
        file = waiting.pop(0)
        partner = partner_name(file)
        is_surface = find_reader(SERIES_READERS, file, "a series").one_hemisphere
        pair = [file]
        if is_surface and partner in waiting:
            waiting.remove(partner)
            pair.append(partner)
        runs.append(tuple(pair))
    return runs


def open_series(images: Sequence[File], affine: str = "agree") -> SeriesHeader:
    """Read the headers of the files of one run, and compare those of its hemispheres.

    Parameters
    ----------
    images : sequence of path-like
        One file, or the left and the right hemisphere.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Returns
    -------
    SeriesHeader
        Of all; the vertices of the left hemisphere come before those of the right.

    Raises
    ------
    InputError
        When a file cannot be read, or the hemispheres differ in length, repetition time or space.
    """
    headers = []
    for image in images:
        reader = find_reader(SERIES_READERS, image, "a series")
        headers.append(reader.header(image, affine))
    first, last = headers[0], headers[-1]
    for what in ("n_volumes", "t_r"):
        ours, theirs = getattr(first, what), getattr(last, what)
        if ours != theirs:
            raise InputError(
                f"{first.grid.name} has {what} {ours} but {last.grid.name} has {theirs}; give the "
                "two hemispheres of one run."
            )
    if first.grid.space != last.grid.space:
        raise InputError(
            f"{first.grid.name} is in the space '{first.grid.space}' but {last.grid.name} in "
            f"'{last.grid.space}'; give the two hemispheres of one run."
        )
    grid = join_hemispheres([header.grid for header in headers])
    return SeriesHeader(
        n_volumes=first.n_volumes,
        grid=grid,
        t_r=first.t_r,
        shape=first.shape,
        has_unit=first.has_unit,
        itemsize=first.itemsize,
        description=first.description,
    )


def check_files(images: Sequence[File]) -> None:
    """Refuse files of a run that are cut off, where their length says so without reading them.

    Parameters
    ----------
    images : sequence of path-like
        One file, or the left and the right hemisphere. Those of surfaces are not looked at.

    Raises
    ------
    InputError
        See `fmri.volumes.check_complete`.
    """
    for image in images:
        reader = find_reader(SERIES_READERS, image, "a series")
        if reader.open is not None:
            check_complete(image, reader.open(image))


def read_places(images: Sequence[File], mask: np.ndarray) -> np.ndarray:
    """Read the time courses of some places of one run.

    Parameters
    ----------
    images : sequence of path-like
        One file, or the left and the right hemisphere.
    mask : ndarray of bool
        Over the places of the run (`fmri.grids.Grid.shape`): (i, j, k) for a volume, else
        (n_places,), where the left hemisphere comes before the right.

    Returns
    -------
    ndarray of float64, shape (n_volumes, n_chosen)
        In C order of the mask.

    Raises
    ------
    InputError
        When a file is damaged or has other places than the mask.
    """
    if len(images) == 1 and mask.ndim == 3:
        reader = find_reader(SERIES_READERS, images[0], "a series")
        return reader.read(images[0], mask)
    parts = []
    first = 0
    for image in images:
        reader = find_reader(SERIES_READERS, image, "a series")
        header = reader.header(image, "agree")
        n_places = header.grid.shape[0]
        last = first + n_places
        part = mask[first:last]
        if part.shape != (n_places,):
            raise InputError(
                f"{Path(image).name} has {n_places} vertices or voxels but the mask has "
                f"{part.shape}; give a mask on its grid."
            )
        values = reader.read(image, part)
        parts.append(values)
        first = last
    if first != len(mask):
        raise InputError(f"the mask has {len(mask)} places but the series {first}; give its grid.")
    return np.concatenate(parts, axis=1)


def read_stored(images: Sequence[File], mask: np.ndarray) -> StoredSeries:
    """Read the time courses of some places of one run as its file holds them.

    Parameters
    ----------
    images, mask
        See `read_places`.

    Returns
    -------
    StoredSeries
        Whose ``scaled()`` is what `read_places` returns; of a volume in the type of the file.
    """
    reader = find_reader(SERIES_READERS, images[0], "a series")
    if reader is SERIES_READERS[""]:
        return read_series(images[0], mask)
    return StoredSeries(values=read_places(images, mask))
