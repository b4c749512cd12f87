"""BData: the HDF5 files of the Kamitani lab, one matrix of samples × columns.

Facts are those of bdpy's documentation of the format: ``dataset`` (samples × columns),
``metadata/key`` (names), ``metadata/value`` (names × columns; NaN where a name says nothing of a
column), ``metadata/description``, and ``vmap/NAME/NUMBER``, the labels that the numbers of a column
stand for. Older files write ``dataSet`` and ``metaData``. Columns are voxels (regions are names
``ROI_…`` with the value 1 in their columns) or labels of the samples (``Run``, ``stimulus_name``;
the value 1 in their own column).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fmri.bids import file_labels
from fmri.extraction import read_hdf5_voxels
from fmri.formats.contents import (
    Contents,
    Request,
    chosen_sessions,
    region_table,
    text_of,
    whole_numbers,
)
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.store import open_hdf5

if TYPE_CHECKING:
    import h5py

IDS = "stimulus_name"
"""Column of the stimulus ids where none is named."""

PREFIX = "ROI_"
"""Beginning of the names of regions."""

COORDINATES = ("voxel_i", "voxel_j", "voxel_k")
"""Names of the indices of voxels; without them i counts the columns of the matrix."""


def missing(path: Path) -> str:
    """Say what keeps a path from being a BData file.

    Parameters
    ----------
    path : Path
        A file.

    Returns
    -------
    str
        Empty when nothing does.
    """
    if path.is_dir():
        return "it is a folder, and BData is one file"
    try:
        with open_hdf5(path) as file:
            matrix, about = _parts(file)
            lacking = [
                name for name in (matrix, f"{about}/key", f"{about}/value") if name not in file
            ]
    except InputError as error:
        return str(error).rstrip(".")
    return f"it lacks {name_ids(lacking)}" if lacking else ""


def open_bdata(path: Path, request: Request) -> Contents:
    """Find out what a BData file holds, without reading voxels.

    Parameters
    ----------
    path : Path
        HDF5 file.
    request : Request
        Regions are names of the metadata, with or without ``ROI_``; all that begin so by default.

    Returns
    -------
    Contents
        Samples without a stimulus (NaN) are left out.

    Raises
    ------
    InputError
        When the file is not as documented, or lacks a column or a region.

    Warns
    -----
    UserWarning
        When samples have no stimulus.
    """
    with open_hdf5(path) as file:
        matrix, about = _parts(file)
        data = file[matrix]
        names = [text_of(name) for name in file[about]["key"][...].reshape(-1)]
        values = np.asarray(file[about]["value"][...], dtype=np.float64)
        n_axes = getattr(data, "ndim", 0)
        dtype = getattr(data, "dtype", np.dtype(object))
        if n_axes != 2 or dtype.kind not in "fiu":
            raise InputError(
                f"{path}: the matrix is {dtype} of {n_axes} axes; that of BData is samples × "
                "columns of numbers."
            )
        n_columns = data.shape[1]
        if values.shape != (len(names), n_columns):
            raise InputError(
                f"{path}: metadata have {len(names)} names and values of shape {values.shape}, but "
                f"the matrix has {n_columns} columns; make or copy the file again."
            )
        if again := duplicates(names):
            raise InputError(f"{path}: metadata name {name_ids(again)} more than once.")
        metadata = dict(zip(names, values, strict=True))
        ids = request.ids or IDS
        labels = {"condition": _labels(file, path, data, metadata, ids, needed=True)}
        labels["run"] = _labels(file, path, data, metadata, "Run", needed=True)
        labels["session"] = _labels(file, path, data, metadata, "Session", needed=False)
        chunks, itemsize = data.chunks, data.dtype.itemsize
    table = pd.DataFrame(labels, dtype=object)
    has_stimulus = table["condition"].notna()
    if not has_stimulus.any():
        raise InputError(f"{path}: no sample has a stimulus in the column {ids}.")
    of_stimuli = table[has_stimulus]
    if not has_stimulus.all():
        warnings.warn(
            f"{path.name}: {int((~has_stimulus).sum())} of {len(table)} samples have no stimulus "
            f"in {ids} (NaN) and are left out.",
            stacklevel=2,
        )
    if of_stimuli[["run", "session"]].isna().any(axis=None):
        raise InputError(f"{path}: samples with a stimulus have no run or session (NaN).")
    sessions = list(dict.fromkeys(of_stimuli["session"]))
    chosen = chosen_sessions(sessions, request.sessions, path)
    observations = of_stimuli[of_stimuli["session"].isin(chosen)]
    rows = observations.index.to_numpy()
    voxels, columns = _voxels(path, metadata, request)
    n_read = len(np.unique(columns)) if chunks and chunks[0] > chunks[1] else n_columns
    return Contents(
        observations=observations.reset_index(drop=True),
        voxels=voxels,
        read=partial(_read, path, matrix, rows, columns),
        n_bytes=len(table) * n_read * itemsize,
        dtype=np.dtype(np.float64 if itemsize > 4 else np.float32),
        record={
            "files": [path.name],
            "ids": ids,
            "samples_without_stimulus": int((~has_stimulus).sum()),
        },
    )


def _parts(file: h5py.File) -> tuple[str, str]:
    """Name matrix and metadata as the file writes them."""
    matrix, about = "dataset", "metadata"
    if "dataSet" in file:
        matrix = "dataSet"
    if "metaData" in file:
        about = "metaData"
    return matrix, about


def _labels(
    file: h5py.File,
    path: Path,
    data: h5py.Dataset,
    metadata: Mapping[str, np.ndarray],
    name: str,
    *,
    needed: bool,
) -> list[str | None]:
    """Read a column of labels, as text; None where it is NaN."""
    written = [key for key in metadata if key.lower() == name.lower()]
    if name in metadata:
        written = [name]
    columns = np.zeros(0, dtype=np.int64)
    if len(written) == 1:
        columns = np.flatnonzero(metadata[written[0]] == 1)
    if len(columns) != 1:
        if not needed and not written:
            return [""] * len(data)
        single = [key for key, marks in metadata.items() if np.sum(marks == 1) == 1]
        raise InputError(
            f"{path} has {len(columns)} columns '{name}', and one is needed; columns of labels are "
            f"{name_ids(single, 20) or 'none'} (that of the stimuli: ids, --ids)."
        )
    numbers = np.asarray(data[:, int(columns[0])], dtype=np.float64)
    known: dict[float, str] = {}
    if "vmap" in file and written[0] in file["vmap"]:
        group = file["vmap"][written[0]]
        for number in group:
            known[float(number)] = text_of(group[number][()])
    finite = numbers[np.isfinite(numbers)].tolist()
    lacking = sorted(set(finite) - set(known))
    if known and lacking:
        raise InputError(f"{path}: vmap of '{name}' has no label for {name_ids(lacking)}.")
    labels: list[str | None] = []
    for number in numbers:
        label = None
        if np.isfinite(number):
            label = known.get(float(number), f"{number:.17g}")
        labels.append(label)
    return labels


def _voxels(
    path: Path, metadata: Mapping[str, np.ndarray], request: Request
) -> tuple[pd.DataFrame, np.ndarray]:
    """List the voxels of the regions, and the columns of the matrix that hold them."""
    regions = {}
    for name, marks in metadata.items():
        if name.startswith(PREFIX):
            regions[name] = np.flatnonzero(marks == 1)
    wanted = {}
    for name, parts in request.rois.items():
        full = [part if part in metadata else f"{PREFIX}{part}" for part in parts]
        for part, given in zip(full, parts, strict=True):
            if part not in metadata:
                raise unknown_name("ROI", given, regions)
            regions.setdefault(part, np.flatnonzero(metadata[part] == 1))
        wanted[name.removeprefix(PREFIX)] = full
    for name in regions if not request.rois else ():
        wanted[name.removeprefix(PREFIX)] = [name]
    if not wanted:
        raise InputError(
            f"{path} names no region {PREFIX}…; name some of its metadata (rois, --rois): "
            f"{name_ids(metadata, 20)}."
        )
    n_columns = len(next(iter(metadata.values())))
    coordinates = np.zeros((n_columns, 3), dtype=np.int64)
    coordinates[:, 0] = np.arange(n_columns)
    columns = [regions[part] for part in itertools.chain(*wanted.values())]
    used = np.unique(np.concatenate(columns))
    if all(name in metadata for name in COORDINATES):
        indices = np.stack([metadata[name][used] for name in COORDINATES], axis=1)
        coordinates[used] = whole_numbers(indices, f"{path}: {', '.join(COORDINATES)}")
    subject = request.subject or file_labels(path).get("sub") or path.stem
    return region_table(wanted, regions, coordinates, subject)


def _read(
    path: Path,
    matrix: str,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    progress: Callable[[int, int], None] | None,
) -> None:
    with open_hdf5(path) as file:
        values[...] = read_hdf5_voxels(file[matrix], columns, rows)
    if progress is not None:
        progress(1, 1)
