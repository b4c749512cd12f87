"""Extraction: the values of some voxels out of large files, each byte read at most once.

What is in memory is the values wanted and one slab of the file.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.volumes import PACKED, check_4d, open_nifti
from neurometamer.arguments import check_fields, checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import check_promise, check_room, one_line

if TYPE_CHECKING:
    import h5py

_SLAB_BYTES = 2**22
"""Bytes of a file that are read at once."""

_GAP_BYTES = 2**15
"""Bytes between two voxels that are read rather than skipped."""

_BLOCK_BYTES = 2**18
"""Bytes of voxels that are scaled at once."""

_BOX_BYTES = 2**20
"""Bytes of chunks that are read together: more than the cache of a processor holds take longer."""

_READ_S = 2e-5
"""Seconds that a call of HDF5 takes, whatever it reads."""
_CHUNK_S = 5e-6
"""Seconds that HDF5 takes to find a chunk."""
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

    The whole series is never in memory at once. Of a ``.nii`` file, only the parts of each volume
    with wanted voxels are read; a ``.nii.gz`` file is unpacked once, by the package isal where it
    is installed (twice to three times as fast), and its checksum is compared.

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
    try:
        if is_scaled:
            _fill(values, file, raw, places, (slope, inter))
        else:
            _fill(values, file, raw, places, (1.0, 0.0))
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever zlib, isal or the system make of a damaged file
        raise InputError(
            f"{path} is cut off or damaged ({one_line(error)}); copy or convert it again."
        ) from error
    if is_scaled:
        return StoredSeries(values=values)
    return StoredSeries(values=values, slope=slope, inter=inter)


def _fill(
    values: np.ndarray, file: Path, raw: Any, places: np.ndarray, scale: tuple[float, float]
) -> None:
    """Take places out of each volume of an image, and scale them, some volumes at a time."""
    from nibabel.openers import ImageOpener

    if raw.offset < 0:
        raise ValueError(f"its values begin at byte {raw.offset}")
    n_rows = len(values)
    n_values = math.prod(raw.shape) // n_rows
    is_packed = file.suffix.lower() in PACKED
    spans = _spans(places, raw.dtype.itemsize, n_values if is_packed else None)
    gather = _Gather.of(places, spans, raw.dtype)
    n_block = max(1, _BLOCK_BYTES // max(1, len(places) * raw.dtype.itemsize))
    block = np.empty((min(n_block, n_rows), len(places)), dtype=raw.dtype)
    opened: Any = partial(open, buffering=0)
    if is_packed:
        opened = ImageOpener
    if file.suffix.lower() == ".gz":  # isal where it is installed; nibabel knows the other packers
        library = "isal.igzip" if importlib.util.find_spec("isal") else "gzip"
        opened = importlib.import_module(library).open
    with opened(str(file), "rb") as stream:
        if is_packed:
            stream.seek(raw.offset)
        for first in range(0, n_rows, len(block)):
            rows = block[: n_rows - first]
            for number, row in enumerate(rows, start=first):
                begin = raw.offset + number * n_values * raw.dtype.itemsize
                gather.take(stream, None if is_packed else begin, row)
            values[first : first + len(rows)] = _scaled(rows, *scale)
        while is_packed and stream.read(_SLAB_BYTES):  # to the checksum at its end
            pass


# ----------------------------------------------------------------------------------- rows of a file


def _spans(places: np.ndarray, itemsize: int, n_packed: int | None) -> list[tuple[int, int]]:
    """Give the parts (start, stop) of a row that are read, none larger than a slab.

    Short gaps between places are read, too; of a packed row, everything is.
    """
    if n_packed is not None:
        wholes = [(0, n_packed)]
    else:
        in_order = np.sort(places)
        is_far = np.diff(in_order) > _GAP_BYTES // itemsize
        parts = np.split(in_order, np.flatnonzero(is_far) + 1)
        wholes = [(int(part[0]), int(part[-1]) + 1) for part in parts if part.size]
    step = max(1, _SLAB_BYTES // itemsize)
    spans = []
    for start, stop in wholes:
        for first in range(start, stop, step):
            spans.append((first, min(first + step, stop)))
    return spans


@dataclass(frozen=True, kw_only=True)
class _Gather:
    """How places are taken out of one row of a file after the other.

    Reading a row into a buffer that stays in the cache of the processor, and taking from there, is
    faster than taking from a mapped file, whose pages the processor meets one by one.

    Attributes
    ----------
    parts : list of tuple
        Byte in the row, buffer as bytes and as values, places in it, and columns where they go.
    row : ndarray
        Values in the order of the file.
    back : ndarray of int, or None
        Where a place is in `row`; None where the only part gives them in their own order.
    """

    parts: list[tuple[int, memoryview, np.ndarray, np.ndarray, slice]]
    row: np.ndarray
    back: np.ndarray | None

    @classmethod
    def of(
        cls, places: np.ndarray, spans: Sequence[tuple[int, int]], dtype: np.dtype[Any]
    ) -> _Gather:
        """Plan reading of spans that hold all places."""
        in_order, back = places, None
        if len(spans) > 1:
            order = np.argsort(places, kind="stable")
            in_order = places[order]
            back = np.argsort(order)
        sizes = [stop - start for start, stop in spans]
        buffer = np.empty(max(sizes, default=0), dtype=dtype)
        parts = []
        for (start, stop), size in zip(spans, sizes, strict=True):
            columns = slice(0, len(places))
            if back is not None:
                columns = slice(*np.searchsorted(in_order, [start, stop]).tolist())
            stored = buffer[:size]
            inside = in_order[columns] - start
            as_bytes = stored.view(np.uint8).data
            parts.append((start * dtype.itemsize, as_bytes, stored, inside, columns))
        return cls(parts=parts, row=np.empty(len(places), dtype=dtype), back=back)

    def take(self, stream: Any, begin: int | None, values: np.ndarray) -> None:
        """Fill in the values of the row that begins at a byte, or of the next one of a stream."""
        row = values if self.back is None else self.row
        for start, as_bytes, stored, inside, columns in self.parts:
            if begin is not None:
                stream.seek(begin + start)
            left = as_bytes
            while left:
                n_read = stream.readinto(left)
                if not n_read:
                    raise EOFError("it ends before the last value")
                left = left[n_read:]
            stored.take(inside, out=row[columns], mode="clip")
        if self.back is not None:
            row.take(self.back, out=values, mode="clip")


# --------------------------------------------------------------------------------------------- HDF5


@dataclass(frozen=True, kw_only=True)
class _Box:
    """A part of the axes of voxels that is read at once.

    Attributes
    ----------
    start, shape : tuple of int
        Along each axis of voxels.
    columns : ndarray of int
        Which of the voxels wanted lie in it.
    places : ndarray of int
        Where they lie in it, in C order.
    """

    start: tuple[int, ...]
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
        offsets = None if axis else _row_offsets(dataset)
        by_chunk = partial(_read_chunks, axis)
        read = by_chunk if offsets is None else partial(_read_rows, offsets)
        read(dataset, places, wanted, values)
    except (EOFError, OSError, ValueError) as error:
        raise InputError(
            f"{dataset.file.filename} is cut off or damaged ({one_line(error)}); copy it again."
        ) from error
    return values


def _row_offsets(dataset: h5py.Dataset) -> np.ndarray | None:
    """Give the byte of the file where each observation begins.

    None where an observation does not lie in one piece, or where HDF5 has to unpack it.
    """
    import h5py

    file = dataset.file
    if file.driver != "sec2" or file.mode != "r" or file.userblock_size:
        return None
    created = dataset.id.get_create_plist()
    n_rows, *space = dataset.shape
    row_bytes = math.prod(space) * dataset.dtype.itemsize
    numbers = np.arange(n_rows)
    if created.get_layout() == h5py.h5d.CONTIGUOUS:
        begin = dataset.id.get_offset()
        if begin is None or created.get_external_count():
            return None
        return begin + numbers * row_bytes
    is_whole = dataset.chunks is not None and list(dataset.chunks[1:]) == space
    if not is_whole or created.get_nfilters() or not hasattr(dataset.id, "chunk_iter"):
        return None
    step = dataset.chunks[0]
    offsets = np.full(math.ceil(n_rows / step), -1)

    def note(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0] // step] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    if offsets.min() < 0:  # one that was never written
        return None
    return offsets[numbers // step] + numbers % step * row_bytes


def _read_rows(
    offsets: np.ndarray,
    dataset: h5py.Dataset,
    places: np.ndarray,
    wanted: np.ndarray,
    values: np.ndarray,
) -> None:
    """Fill in values of observations that lie in one piece each, in the order of the file."""
    gather = _Gather.of(places, _spans(places, dataset.dtype.itemsize, None), dataset.dtype)
    row = np.empty(len(places), dtype=dataset.dtype)
    of_wanted = offsets[wanted]
    latest = None
    with Path(dataset.file.filename).open("rb", buffering=0) as stream:
        for position in np.argsort(of_wanted, kind="stable"):
            begin = int(of_wanted[position])
            if begin != latest:
                gather.take(stream, begin, row)
                latest = begin
            values[position] = row


def _read_chunks(
    axis: int, dataset: h5py.Dataset, places: np.ndarray, wanted: np.ndarray, values: np.ndarray
) -> None:
    """Fill in values box by box; a box is read once for all observations of a block."""
    import h5py

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
    in_file = dataset.id.get_space()
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
                start = (*box.start[:axis], first, *box.start[axis:])
                size = (*box.shape[:axis], last - first, *box.shape[axis:])
                n_stored = math.prod(size)
                stored = buffer[:n_stored].reshape(size)
                # without the layers of h5py above it, which take longer than reading a chunk
                in_file.select_hyperslab(start, size)
                dataset.id.read(h5py.h5s.create_simple(size), in_file, stored)
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
    """Choose which chunks are read together.

    Each alone, neighbors along the last axis, along the last two and so on up to one box around
    all: what takes least by the time of a call, of a chunk and of a byte.
    """
    index = np.array(np.unravel_index(places, space))
    widths = np.array(cells)[:, np.newaxis]
    of_cells = index // widths
    order = np.lexsort(of_cells[::-1])
    of_cells = of_cells[:, order]
    steps = np.diff(of_cells, axis=1)
    cell_bytes = math.prod(cells) * row_bytes
    least = math.inf
    for n_apart in range(len(space), -1, -1):
        is_break = (steps[:n_apart] != 0).any(axis=0)
        if n_apart < len(space):
            is_break |= steps[n_apart] > 1
        begins = np.append(0, np.flatnonzero(is_break) + 1)
        lowest = np.minimum.reduceat(of_cells, begins, axis=1)
        highest = np.maximum.reduceat(of_cells, begins, axis=1)
        n_cells = np.prod(highest - lowest + 1, axis=0)
        largest = int(n_cells.max()) * cell_bytes
        n_merged = max(1, _SLAB_BYTES // largest)
        n_reads = len(begins) * math.ceil(n_row_chunks / n_merged)
        n_chunks = int(n_cells.sum()) * n_row_chunks
        cost = n_reads * _READ_S + n_chunks * (_CHUNK_S + cell_bytes / _BYTES_PER_S)
        is_too_large = n_apart < len(space) and largest > _BOX_BYTES
        if cost < least and not is_too_large:
            least = cost
            chosen = begins, lowest, highest
    begins, lowest, highest = chosen
    start = lowest * widths
    stop = np.minimum((highest + 1) * widths, np.array(space)[:, np.newaxis])
    shape = stop - start
    sizes = np.diff(begins, append=len(places))
    box_of = np.repeat(np.arange(len(begins)), sizes)
    inside = np.zeros(len(places), dtype=np.int64)
    for along, first, length in zip(index[:, order], start, shape, strict=True):
        inside = inside * length[box_of] + along - first[box_of]
    boxes = []
    for number, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
        part = slice(begin, begin + size)
        boxes.append(
            _Box(
                start=tuple(start[:, number].tolist()),
                shape=tuple(shape[:, number].tolist()),
                columns=order[part],
                places=inside[part],
            )
        )
    return boxes
