"""Extraction: the values of some voxels out of large files, each byte read at most once.

What is in memory is the values wanted and one slab of the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.volumes import check_4d, open_nifti
from neurometamer.arguments import check_fields, checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import check_promise, check_room, one_line

if TYPE_CHECKING:
    import h5py

_SLAB_BYTES = 2**22
"""Bytes of a file that are read at once."""

_MAPPED_BYTES = 2**25
"""Bytes of a file that are mapped into memory at once."""

_PACKED = (".gz", ".bz2", ".zst")
"""Endings of compressed files."""

_READ_S = 5e-5
"""Seconds that a call of HDF5 takes, whatever it reads."""
_BYTES_PER_S = 1e9
"""Bytes that HDF5 unpacks in a second."""


# -------------------------------------------------------------------------------------------- NIfTI


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredSeries:
    """Time courses of some voxels as a file holds them: two bytes a value where it has integers.

    Parameters
    ----------
    values : ndarray, shape (n_volumes, n_voxels)
        In the type of the file.
    slope, inter : float
        What turns them into the values of the image: ``values * slope + inter``.

    Examples
    --------
    >>> series = StoredSeries(values=np.array([[1, 2], [3, 4]], dtype=np.int16), slope=0.5)
    >>> series.scaled().tolist(), series.scaled(slice(1, 2)).tolist()
    ([[0.5, 1.0], [1.5, 2.0]], [[1.0], [2.0]])
    """

    values: np.ndarray
    slope: float = 1.0
    inter: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    def scaled(self, voxels: slice = slice(None)) -> np.ndarray:
        """Give values of the image.

        Parameters
        ----------
        voxels : slice
            Of which columns; by default of all.

        Returns
        -------
        ndarray of float64, shape (n_volumes, n_voxels)
            The same bits that nibabel gives.
        """
        stored = self.values[:, voxels]
        values = _scaled(stored, self.slope, self.inter)
        return values.astype(np.float64)


def _scaled(stored: np.ndarray, slope: float, inter: float) -> np.ndarray:
    from nibabel.volumeutils import apply_read_scaling

    factor = np.float64(slope)
    shift = np.float64(inter)
    # what overflows is found as infinite
    with np.errstate(over="ignore", invalid="ignore"):
        return apply_read_scaling(stored, factor, shift)


@checked_with(shapes={"mask": "i j k"})
def read_voxels(path: str | os.PathLike[str], mask: np.ndarray) -> np.ndarray:
    """Read the time courses of some voxels, slab by slab of volumes.

    The whole series is never in memory at once. A ``.nii`` file is mapped into memory, so that only
    the pages with wanted voxels are read; a ``.nii.gz`` file is unpacked once, by the package isal
    where it is installed (twice to three times as fast), and its checksum is compared.

    Parameters
    ----------
    path : path-like
        4-D NIfTI image.
    mask : ndarray of bool, shape (i, j, k)
        True for the voxels wanted.

    Returns
    -------
    ndarray of float, shape (n_volumes, n_voxels)
        Voxels in C order of the mask, as in nilearn's ``NiftiMasker``; scaled as the header says.

    Raises
    ------
    InputError
        When the file is cut off or damaged, or the mask has another shape.

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
    >>> from fmri import read_masks
    >>> mask = read_masks(simulated.masks, simulated.bold[0])["V1"]
    >>> read_voxels(simulated.bold[0], mask).shape
    (30, 8)
    """
    series = _read_series(path, mask, is_scaled=True)
    return series.values


@checked_with(shapes={"mask": "i j k"})
def read_series(path: str | os.PathLike[str], mask: np.ndarray) -> StoredSeries:
    """Read the time courses of some voxels as the file holds them, often a quarter of the memory.

    Parameters
    ----------
    path, mask
        See `read_voxels`.

    Returns
    -------
    StoredSeries
        Whose ``scaled()`` is what `read_voxels` returns.

    Raises
    ------
    InputError
        See `read_voxels`.
    """
    return _read_series(path, mask, is_scaled=False)


def _read_series(
    path: str | os.PathLike[str], mask: np.ndarray, *, is_scaled: bool
) -> StoredSeries:
    from nibabel.arrayproxy import ArrayProxy

    image = open_nifti(path)
    shape = check_4d(path, image)
    if mask.shape != shape[:3]:
        raise InputError(
            f"{Path(path).name} has the grid {shape[:3]} but the mask has {mask.shape}; give a "
            "mask on the grid of the image."
        )
    raw: Any = image.dataobj
    if not isinstance(raw, ArrayProxy) or raw.order != "F":  # of a reader that holds them in memory
        whole = np.asarray(raw, dtype=np.float64)
        whole = whole.reshape(shape)
        values = whole[mask.astype(bool)]
        return StoredSeries(values=values.T)
    inside = np.flatnonzero(mask)
    indices = np.unravel_index(inside, mask.shape)
    places = np.ravel_multi_index(indices, mask.shape, order="F")
    slope = float(raw.slope)
    inter = float(raw.inter)
    file = Path(image.file_map["image"].filename or path)
    dtype = raw.dtype.newbyteorder("=")
    if is_scaled:
        dtype = np.dtype(np.float64)
    n_promised = math.prod(shape)
    check_promise(file, n_promised * raw.dtype.itemsize)
    n_wanted = shape[3] * len(places)
    check_room(n_wanted * dtype.itemsize, path)
    values = np.empty((shape[3], len(places)), dtype=dtype)
    fill = _fill_unpacked if file.suffix.lower() in _PACKED else _fill_mapped
    try:
        if is_scaled:
            fill(values, file, raw, places, (slope, inter))
        else:
            fill(values, file, raw, places, (1.0, 0.0))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever zlib, isal or the system make of a damaged file
        raise InputError(
            f"{path} is cut off or damaged ({one_line(error)}); copy or convert it again."
        ) from error
    if is_scaled:
        return StoredSeries(values=values)
    return StoredSeries(values=values, slope=slope, inter=inter)


def _fill_mapped(
    values: np.ndarray, file: Path, raw: Any, places: np.ndarray, scale: tuple[float, float]
) -> None:
    """Take places out of each volume of a file that is mapped into memory.

    Slab by slab, so that the pages read do not pile up in memory.
    """
    n_rows = len(values)
    n_values = math.prod(raw.shape) // n_rows
    row_bytes = n_values * raw.dtype.itemsize
    step = max(1, _MAPPED_BYTES // max(1, row_bytes))
    for first in range(0, n_rows, step):
        n_here = min(step, n_rows - first)
        start = raw.offset + first * row_bytes
        mapped = np.memmap(file, raw.dtype, "r", start, (n_here, n_values))
        volumes = mapped.view(np.ndarray)
        here = slice(first, first + n_here)
        # without a name: its memory is free again before the next slab
        values[here] = _scaled(volumes[:, places], *scale)


def _fill_unpacked(
    values: np.ndarray, file: Path, raw: Any, places: np.ndarray, scale: tuple[float, float]
) -> None:
    """Take places out of each volume of a compressed file, with one buffer for all."""
    from nibabel.openers import ImageOpener

    n_values = math.prod(raw.shape) // len(values)
    step = max(1, _SLAB_BYTES // raw.dtype.itemsize)
    pieces = []
    for start in range(0, n_values, step):
        stop = min(start + step, n_values)
        is_here = (places >= start) & (places < stop)
        columns = np.flatnonzero(is_here)
        size = stop - start
        inside = places[columns] - start
        pieces.append((size, columns, inside))
    largest = min(step, n_values)
    slab = np.empty(largest, dtype=raw.dtype)
    # isal where it is installed; nibabel knows the other packers
    opened: Any = ImageOpener
    if file.suffix.lower() == ".gz":
        library = "isal.igzip" if importlib.util.find_spec("isal") else "gzip"
        opened = importlib.import_module(library).open
    with opened(str(file), "rb") as stream:
        if raw.offset < 0:
            raise ValueError(f"its values begin at byte {raw.offset}")
        stream.seek(raw.offset)
        for volume in values:
            for size, columns, inside in pieces:
                view = slab[:size].view(np.uint8).data
                while view:
                    n_read = stream.readinto(view)
                    if not n_read:
                        raise EOFError("it ends before the last volume")
                    view = view[n_read:]
                wanted = slab[inside]
                volume[columns] = _scaled(wanted, *scale)
        while stream.read(_SLAB_BYTES):  # to the checksum at its end
            pass


# --------------------------------------------------------------------------------------------- HDF5


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A part of the axes of voxels that is read at once.

    Attributes
    ----------
    start, stop, shape : tuple of int
        Along each axis of voxels.
    columns : ndarray of int
        Which of the voxels wanted lie in it.
    places : ndarray of int
        Where they lie in it, in C order.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    shape: tuple[int, ...]
    columns: np.ndarray
    places: np.ndarray


@checked_with(whole=("rows",))
def read_hdf5_voxels(
    dataset: h5py.Dataset,
    voxels: np.ndarray,
    rows: Sequence[int] | np.ndarray | None = None,
    *,
    axis: int = 0,
) -> np.ndarray:
    """Read some voxels of some observations from an HDF5 data set, as it is stored there.

    How the data set is laid out (in one piece, in chunks of observations or of voxels) decides how
    it is read: no chunk is unpacked twice, and HDF5 is never asked for single elements.

    Parameters
    ----------
    dataset : h5py.Dataset
        Real numbers; one axis holds observations (trials, volumes), all others are voxels. From a
        file opened with `neurometamer.store.open_hdf5`.
    voxels : ndarray of bool or int
        Which voxels. Booleans: a mask with the shape of the axes of voxels. Whole numbers: places
        in C order of these axes, in any order, repeated ones too; for axes in the order of the
        file, ``numpy.ravel_multi_index`` makes them from indices.
    rows : sequence of int, optional
        Which observations, in any order, repeated ones too; by default all.
    axis : int
        Axis of the observations: 0 for trials × voxels, -1 for voxels × trials.

    Returns
    -------
    ndarray, shape (n_rows, n_voxels)
        Values of the type of the data set, in the byte order of this machine, neither scaled nor
        checked. Columns are in C order of the mask, or in the order of the places.

    Raises
    ------
    InputError
        When mask, places, rows or axis do not belong to the data set, it does not hold real
        numbers, or the file is damaged.

    Examples
    --------
    >>> import h5py
    >>> file = h5py.File("example.h5", "w", driver="core", backing_store=False)
    >>> values = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    >>> betas = file.create_dataset("betas", data=values, chunks=(1, 3, 2))
    >>> read_hdf5_voxels(betas, [[True, False], [False, False], [True, True]])
    array([[ 0,  4,  5],
           [ 6, 10, 11],
           [12, 16, 17],
           [18, 22, 23]], dtype=int16)
    >>> read_hdf5_voxels(betas, [5, 0], rows=[3, 1])
    array([[23, 18],
           [11,  6]], dtype=int16)
    """
    name = f"{Path(dataset.file.filename).name}: '{dataset.name}'"
    if dataset.dtype.kind not in "iuf" or not -dataset.ndim <= axis < dataset.ndim:
        raise InputError(
            f"{name} holds {dataset.dtype} on {dataset.ndim} axes; give a data set of real numbers "
            f"that has the axis {axis} of observations."
        )
    axis %= dataset.ndim
    space = dataset.shape[:axis] + dataset.shape[axis + 1 :]
    n_voxels = math.prod(space)
    places = voxels
    if voxels.dtype == bool:
        if voxels.shape != space:
            raise InputError(
                f"{name} has voxels on {space} but the mask has the shape {voxels.shape}; give a "
                "mask on the axes of the data set (those of NIfTI may be reversed)."
            )
        places = np.flatnonzero(voxels)
    elif voxels.dtype.kind not in "iu" or voxels.ndim != 1:
        raise InputError(
            f"{name}: voxels is {voxels.dtype} of shape {voxels.shape}; give a mask of booleans, "
            "or a list of places."
        )
    outside = places[(places < 0) | (places >= n_voxels)]
    if outside.size:
        raise InputError(
            f"{name} has {n_voxels} voxels, but places outside 0 to {n_voxels - 1} are asked for: "
            f"{name_ids(outside)}; give places in C order of {space}."
        )
    places = places.astype(np.int64)
    n_observations = dataset.shape[axis]
    if rows is None:
        rows = np.arange(n_observations)
    wanted = np.asarray(rows, dtype=np.int64)
    is_outside = (wanted < 0) | (wanted >= n_observations)
    outside = wanted[is_outside]
    if wanted.ndim != 1 or outside.size:
        raise InputError(
            f"{name} has the observations 0 to {n_observations - 1}, but rows has the shape "
            f"{wanted.shape} and asks for {name_ids(outside)}; give a list of those that there are."
        )
    native = dataset.dtype.newbyteorder("=")
    size = (wanted.size, places.size)
    values = np.empty(size, dtype=native)
    if not values.size:
        return values
    try:
        pieces = None if axis else _pieces_in_file(dataset)
        read = partial(_read_pieces, pieces) if pieces else partial(_read_chunks, axis)
        read(dataset, places, wanted, values)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{dataset.file.filename} is cut off or damaged ({one_line(error)}); copy it again."
        ) from error
    return values


def _pieces_in_file(dataset: h5py.Dataset) -> list[tuple[int, int, int]] | None:
    """Give (first, last, offset) of the observations that lie side by side in the file.

    None where they do not, or where HDF5 has to unpack them.
    """
    import h5py

    file = dataset.file
    if file.driver != "sec2" or file.mode != "r" or file.userblock_size:
        return None
    created = dataset.id.get_create_plist()
    n_rows, *space = dataset.shape
    row_bytes = math.prod(space) * dataset.dtype.itemsize
    most = max(1, _MAPPED_BYTES // row_bytes)
    pieces: list[tuple[int, int, int]] = []
    if created.get_layout() == h5py.h5d.CONTIGUOUS:
        begin = dataset.id.get_offset()
        if begin is None or created.get_external_count():
            return None
        step = most
        for first in range(0, n_rows, step):
            last = min(first + step, n_rows)
            pieces.append((first, last, begin + first * row_bytes))
        return pieces
    is_whole = dataset.chunks is not None and list(dataset.chunks[1:]) == space
    if not is_whole or created.get_nfilters():
        return None
    step = dataset.chunks[0]
    for first in range(0, n_rows, step):
        chunk = dataset.id.get_chunk_info_by_coord((first, *[0] * len(space)))
        if chunk.byte_offset is None:
            return None
        begin = chunk.byte_offset
        last = min(first + step, n_rows)
        if pieces:
            earlier, end, offset = pieces[-1]
            follows = begin == offset + (end - earlier) * row_bytes
            if follows and last - earlier <= most:  # a chunk beside the one before
                pieces.pop()
                first, begin = earlier, offset
        pieces.append((first, last, begin))
    return pieces


def _read_pieces(
    pieces: Sequence[tuple[int, int, int]],
    dataset: h5py.Dataset,
    places: np.ndarray,
    wanted: np.ndarray,
    values: np.ndarray,
) -> None:
    """Fill in values from pieces of the file that are mapped into memory."""
    n_voxels = math.prod(dataset.shape[1:])
    for first, last, offset in pieces:
        is_here = (wanted >= first) & (wanted < last)
        here = np.flatnonzero(is_here)
        if not here.size:
            continue
        shape = (last - first, n_voxels)
        mapped = np.memmap(dataset.file.filename, dataset.dtype, "r", offset, shape)
        stored = mapped.view(np.ndarray)
        span = slice(here[0], here[-1] + 1)
        if np.array_equal(wanted[span], np.arange(first, last)):
            values[span] = stored[:, places]
        else:
            local = wanted[here] - first
            values[here] = stored[local[:, None], places]


def _read_chunks(
    axis: int, dataset: h5py.Dataset, places: np.ndarray, wanted: np.ndarray, values: np.ndarray
) -> None:
    """Fill in values box by box; a box is read once for all observations of a block."""
    shape = dataset.shape
    # what lies in one piece is read an observation at a time
    chunks = dataset.chunks or (*shape[:axis], 1, *shape[axis + 1 :])
    step = chunks[axis]
    row_chunks = np.unique(wanted // step)
    row_bytes = step * dataset.dtype.itemsize
    space = shape[:axis] + shape[axis + 1 :]
    cells = chunks[:axis] + chunks[axis + 1 :]
    boxes = _boxes(places, space, cells, row_bytes, len(row_chunks))
    largest = max(math.prod(box.shape) for box in boxes)
    box_bytes = largest * row_bytes
    n_merged = max(1, _SLAB_BYTES // box_bytes)
    n_merged = min(n_merged, len(row_chunks))
    buffer = np.empty(n_merged * step * largest, dtype=values.dtype)
    is_gap = np.diff(row_chunks) > 1
    breaks = np.flatnonzero(is_gap) + 1
    for neighbors in np.split(row_chunks, breaks):
        for begin in range(0, len(neighbors), n_merged):
            block = neighbors[begin : begin + n_merged]
            first = int(block[0]) * step
            last = int(block[-1]) * step + step
            last = min(last, shape[axis])
            is_here = (wanted >= first) & (wanted < last)
            here = np.flatnonzero(is_here)
            span = slice(here[0], here[-1] + 1)
            is_span = np.array_equal(wanted[span], np.arange(first, last))
            for box in boxes:
                ends = zip(box.start, box.stop, strict=True)
                part = list(itertools.starmap(slice, ends))
                part.insert(axis, slice(first, last))
                size = (*box.shape[:axis], last - first, *box.shape[axis:])
                n_stored = math.prod(size)
                stored = buffer[:n_stored].reshape(size)
                dataset.read_direct(stored, tuple(part))
                of_box = np.moveaxis(stored, axis, 0)
                of_box = of_box.reshape(last - first, -1)
                if is_span:
                    values[span, box.columns] = of_box[:, box.places]
                else:
                    local = wanted[here] - first
                    chosen = np.ix_(local, box.places)
                    values[here[:, None], box.columns] = of_box[chosen]


def _boxes(
    places: np.ndarray,
    space: tuple[int, ...],
    cells: tuple[int, ...],
    row_bytes: int,
    n_row_chunks: int,
) -> list[_Box]:
    """Choose between reading each chunk that holds voxels, and one box around all of them."""
    index = np.unravel_index(places, space)
    of_cells = [along // cell for along, cell in zip(index, cells, strict=True)]
    grid = [math.ceil(length / cell) for length, cell in zip(space, cells, strict=True)]
    numbers = np.ravel_multi_index(of_cells, grid)
    order = np.argsort(numbers, kind="stable")
    steps = np.diff(numbers[order])
    breaks = np.flatnonzero(steps) + 1
    groups = np.split(order, breaks)
    each = [_box(index, columns, space, cells) for columns in groups]
    whole = [_box(index, np.arange(len(places)), space, cells)]
    spans = [int(np.ptp(along)) + 1 for along in of_cells]
    cell_bytes = math.prod(cells) * row_bytes
    costs = []
    plans = ((each, len(each)), (whole, math.prod(spans)))
    for boxes, n_cells in plans:
        sizes = [math.prod(box.shape) for box in boxes]
        largest = max(sizes) * row_bytes
        n_merged = max(1, _SLAB_BYTES // largest)
        n_reads = len(boxes) * math.ceil(n_row_chunks / n_merged)
        n_bytes = n_cells * cell_bytes * n_row_chunks
        cost = n_bytes / _BYTES_PER_S + n_reads * _READ_S
        costs.append(cost)
    is_too_large = largest > 8 * _SLAB_BYTES
    if costs[0] <= costs[1] or is_too_large:
        return each
    return whole


def _box(
    index: tuple[np.ndarray, ...],
    columns: np.ndarray,
    space: tuple[int, ...],
    cells: tuple[int, ...],
) -> _Box:
    """Draw the smallest box of whole chunks around some voxels."""
    start, stop, inside = [], [], []
    for along, length, cell in zip(index, space, cells, strict=True):
        of_voxels = along[columns]
        lowest = int(of_voxels.min())
        highest = int(of_voxels.max())
        first = lowest - lowest % cell
        last = highest - highest % cell + cell
        start.append(first)
        stop.append(min(last, length))
        inside.append(of_voxels - first)
    lengths = np.subtract(stop, start)
    shape = tuple(lengths.tolist())
    places = np.ravel_multi_index(inside, shape)
    return _Box(
        start=tuple(start),
        stop=tuple(stop),
        shape=shape,
        columns=columns,
        places=places,
    )
