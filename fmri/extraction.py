"""Extraction: the values of some voxels out of large files, each byte read at most once.

What is in memory is the values wanted and one slab of the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fmri.bold import check_4d, open_nifti
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
        return _scaled(self.values[:, voxels], self.slope, self.inter).astype(np.float64)


def _scaled(stored: np.ndarray, slope: float, inter: float) -> np.ndarray:
    from nibabel.volumeutils import apply_read_scaling

    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found as infinite
        return apply_read_scaling(stored, np.float64(slope), np.float64(inter))


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
    return _read_series(path, mask, is_scaled=True).values


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
        values = np.asarray(raw).reshape(shape)[mask.astype(bool)].T
        return StoredSeries(values=values.astype(np.float64))
    indices = np.unravel_index(np.flatnonzero(mask), mask.shape)
    places = np.ravel_multi_index(indices, mask.shape, order="F")
    scale = (float(raw.slope), float(raw.inter))
    file = Path(image.file_map["image"].filename or path)
    dtype = np.dtype(np.float64) if is_scaled else raw.dtype.newbyteorder("=")
    check_promise(file, math.prod(shape) * raw.dtype.itemsize)
    check_room(shape[3] * len(places) * dtype.itemsize, path)
    values = np.empty((shape[3], len(places)), dtype=dtype)
    fill = _fill_unpacked if file.suffix.lower() in _PACKED else _fill_mapped
    try:
        fill(values, file, raw, places, scale if is_scaled else (1.0, 0.0))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever zlib, isal or the system make of a damaged file
        raise InputError(
            f"{path} is cut off or damaged ({one_line(error)}); copy or convert it again."
        ) from error
    if is_scaled:
        return StoredSeries(values=values)
    return StoredSeries(values=values, slope=scale[0], inter=scale[1])


def _fill_mapped(
    values: np.ndarray, file: Path, raw: Any, places: np.ndarray, scale: tuple[float, float]
) -> None:
    """Take places out of each volume of a file that is mapped into memory."""
    shape = (len(values), math.prod(raw.shape) // len(values))
    for first, volumes in _mapped_rows(file, raw.dtype, raw.offset, shape):
        values[first : first + len(volumes)] = _scaled(volumes[:, places], *scale)


def _fill_unpacked(
    values: np.ndarray, file: Path, raw: Any, places: np.ndarray, scale: tuple[float, float]
) -> None:
    """Take places out of each volume of a compressed file, with one buffer for all."""
    n_values = math.prod(raw.shape) // len(values)
    step = max(1, _SLAB_BYTES // raw.dtype.itemsize)
    pieces = []
    for start in range(0, n_values, step):
        stop = min(start + step, n_values)
        columns = np.flatnonzero((places >= start) & (places < stop))
        pieces.append((stop - start, columns, places[columns] - start))
    slab = np.empty(min(step, n_values), dtype=raw.dtype)
    with _unpacked(file) as stream:
        _skip(stream, raw.offset)
        for volume in values:
            for size, columns, inside in pieces:
                _read_into(stream, slab[:size])
                volume[columns] = _scaled(slab[inside], *scale)
        while stream.read(_SLAB_BYTES):  # to the checksum at its end
            pass


def _unpacked(file: Path) -> IO[bytes]:
    """Open a compressed file: isal where it is installed, else the standard library."""
    if file.suffix.lower() != ".gz":
        from nibabel.openers import ImageOpener

        return ImageOpener(str(file), "rb")
    library = "isal.igzip" if importlib.util.find_spec("isal") else "gzip"
    return importlib.import_module(library).open(file, "rb")


def _skip(stream: IO[bytes], n_bytes: int) -> None:
    if n_bytes < 0:
        raise ValueError(f"its values begin at byte {n_bytes}")
    while n_bytes:
        skipped = len(stream.read(min(n_bytes, _SLAB_BYTES)))
        if not skipped:
            raise EOFError("it ends before its values begin")
        n_bytes -= skipped


def _read_into(stream: Any, values: np.ndarray) -> None:
    """Fill an array from a stream."""
    view = memoryview(values.view(np.uint8))
    filled = 0
    while filled < len(view):
        n_read = stream.readinto(view[filled:])
        if not n_read:
            raise EOFError("it ends before the last volume")
        filled += n_read


def _mapped_rows(
    file: str | Path, dtype: np.dtype, offset: int, shape: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray]]:
    """Map a matrix in a file slab by slab, so that the pages read do not pile up in memory."""
    n_rows, row_bytes = shape[0], shape[1] * dtype.itemsize
    step = max(1, _MAPPED_BYTES // max(1, row_bytes))
    for first in range(0, n_rows, step):
        n_here = min(step, n_rows - first)
        start = offset + first * row_bytes
        mapped = np.memmap(file, dtype, "r", start, (n_here, shape[1]))
        yield first, mapped.view(np.ndarray)


# --------------------------------------------------------------------------------------------- HDF5


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A part of the axes of voxels that is read at once.

    Attributes
    ----------
    start, stop : tuple of int
        Along each axis of voxels.
    columns : ndarray of int
        Which of the voxels wanted lie in it.
    places : ndarray of int
        Where they lie in it, in C order.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    columns: np.ndarray
    places: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(np.subtract(self.stop, self.start).tolist())


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
    places = _voxel_places(name, voxels, space)
    n_observations = dataset.shape[axis]
    wanted = np.arange(n_observations) if rows is None else np.asarray(rows, dtype=np.int64)
    outside = wanted[(wanted < 0) | (wanted >= n_observations)]
    if wanted.ndim != 1 or outside.size:
        raise InputError(
            f"{name} has the observations 0 to {n_observations - 1}, but rows has the shape "
            f"{wanted.shape} and asks for {name_ids(outside)}; give a list of those that there are."
        )
    values = np.empty((wanted.size, places.size), dtype=dataset.dtype.newbyteorder("="))
    if not values.size:
        return values
    try:
        offset = _offset_in_file(dataset)
        if offset is None or axis:
            _read_chunks(dataset, places, wanted, axis, values)
            return values
        shape = (n_observations, math.prod(space))
        for first, stored in _mapped_rows(dataset.file.filename, dataset.dtype, offset, shape):
            here = np.flatnonzero((wanted >= first) & (wanted < first + len(stored)))
            for row in here:
                stored[wanted[row] - first].take(places, out=values[row], mode="clip")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{dataset.file.filename} is cut off or damaged ({one_line(error)}); copy it again."
        ) from error
    return values


def _voxel_places(name: str, voxels: np.ndarray, space: tuple[int, ...]) -> np.ndarray:
    """Give the places of voxels in C order of their axes."""
    if voxels.dtype == bool:
        if voxels.shape != space:
            raise InputError(
                f"{name} has voxels on {space} but the mask has the shape {voxels.shape}; give a "
                "mask on the axes of the data set (those of NIfTI may be reversed)."
            )
        return np.flatnonzero(voxels)
    n_voxels = math.prod(space)
    if voxels.dtype.kind not in "iu" or voxels.ndim != 1:
        raise InputError(
            f"{name}: voxels is {voxels.dtype} of shape {voxels.shape}; give a mask of booleans, "
            "or a list of places."
        )
    outside = voxels[(voxels < 0) | (voxels >= n_voxels)]
    if outside.size:
        raise InputError(
            f"{name} has {n_voxels} voxels, but places outside 0 to {n_voxels - 1} are asked for: "
            f"{name_ids(outside)}; give places in C order of {space}."
        )
    return voxels.astype(np.int64)


def _offset_in_file(dataset: h5py.Dataset) -> int | None:
    """Give where a data set that lies in one piece begins; None where HDF5 has to read it."""
    import h5py

    created = dataset.id.get_create_plist()
    if created.get_layout() != h5py.h5d.CONTIGUOUS or created.get_external_count():
        return None
    file = dataset.file
    if file.driver != "sec2" or file.mode != "r" or file.userblock_size:
        return None
    return dataset.id.get_offset()


def _read_chunks(
    dataset: h5py.Dataset, places: np.ndarray, wanted: np.ndarray, axis: int, values: np.ndarray
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
    n_merged = max(1, _SLAB_BYTES // (largest * row_bytes))
    buffer = np.empty(min(n_merged, len(row_chunks)) * step * largest, dtype=values.dtype)
    breaks = np.flatnonzero(np.diff(row_chunks) > 1) + 1
    for neighbors in np.split(row_chunks, breaks):
        for begin in range(0, len(neighbors), n_merged):
            block = neighbors[begin : begin + n_merged]
            first = int(block[0]) * step
            last = min((int(block[-1]) + 1) * step, shape[axis])
            here = np.flatnonzero((wanted >= first) & (wanted < last))
            for box in boxes:
                part = [slice(*ends) for ends in zip(box.start, box.stop, strict=True)]
                part.insert(axis, slice(first, last))
                size = (*box.shape[:axis], last - first, *box.shape[axis:])
                stored = buffer[: math.prod(size)].reshape(size)
                dataset.read_direct(stored, tuple(part))
                of_box = np.moveaxis(stored, axis, 0).reshape(last - first, -1)
                if np.array_equal(wanted[here], np.arange(first, last)):
                    of_box = of_box.take(box.places, axis=1)
                else:
                    of_box = of_box[np.ix_(wanted[here] - first, box.places)]
                values[here[:, None], box.columns] = of_box


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
    grid = tuple(-(-length // cell) for length, cell in zip(space, cells, strict=True))
    numbers = np.ravel_multi_index(of_cells, grid)
    order = np.argsort(numbers, kind="stable")
    breaks = np.flatnonzero(np.diff(numbers[order])) + 1
    each = [_box(index, columns) for columns in np.split(order, breaks)]
    whole = [_box(index, np.arange(len(places)))]
    spans = [int(np.ptp(along)) + 1 for along in of_cells]
    cell_bytes = math.prod(cells) * row_bytes
    costs = []
    for boxes, n_cells in ((each, len(each)), (whole, math.prod(spans))):
        largest = max(math.prod(box.shape) for box in boxes) * row_bytes
        n_blocks = -(-n_row_chunks // max(1, _SLAB_BYTES // largest))
        seconds = n_cells * cell_bytes * n_row_chunks / _BYTES_PER_S
        fits = len(boxes) > 1 or largest <= 8 * _SLAB_BYTES
        costs.append(seconds + len(boxes) * n_blocks * _READ_S if fits else math.inf)
    return each if costs[0] <= costs[1] else whole


def _box(index: tuple[np.ndarray, ...], columns: np.ndarray) -> _Box:
    """Draw the smallest box around some voxels."""
    of_voxels = [along[columns] for along in index]
    start = tuple(int(along.min()) for along in of_voxels)
    stop = tuple(int(along.max()) + 1 for along in of_voxels)
    inside = [along - first for along, first in zip(of_voxels, start, strict=True)]
    shape = tuple(np.subtract(stop, start).tolist())
    places = np.ravel_multi_index(inside, shape)
    return _Box(start=start, stop=stop, columns=columns, places=places)
