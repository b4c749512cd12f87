"""THINGS-fMRI: single-trial responses in table format (folder ``betas_csv``).

Facts are those of the data set's notes: ``sub-NN_ResponseData.h5`` is a pandas table in HDF5
("fixed" format) with one row a voxel, a column ``voxel_id`` and a column a trial, in the order of
the rows of ``sub-NN_StimulusMetadata.csv``; ``sub-NN_VoxelMetadata.csv`` has one row a voxel:
``voxel_id``, ``voxel_x``, ``voxel_y``, ``voxel_z`` (indices), noise ceilings, population receptive
fields and one column of 0 and 1 a region.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmri.extraction import read_hdf5_voxels
from fmri.formats.contents import (
    Contents,
    Request,
    chosen_sessions,
    only_subject,
    region_table,
    text_of,
    whole_numbers,
)
from fmri.tables import PICTURES
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.store import open_hdf5, read_table

if TYPE_CHECKING:
    import h5py

IDS = "stimulus"
"""Column of the stimulus ids where none is named."""

COORDINATES = ("voxel_x", "voxel_y", "voxel_z")

CEILINGS = ("nc_singletrial", "nc_testset")
"""Columns of voxels that are kept: noise ceilings, in %."""

CHOSEN = ("denoised", "shrunken")
"""What was chosen on all runs in the making of these betas: components of an independent component
analysis to remove, and the ridge fraction of each voxel (Hebart et al., 2023)."""

KEPT = ("trial_type", "concept")
"""Columns of trials that are kept."""

NO_REGIONS = ("voxel_id", *COORDINATES, *CEILINGS, "splithalf_uncorrected", "splithalf_corrected")

_RESPONSES = re.compile(r"sub-([A-Za-z0-9]+)_ResponseData\.h5$")


def missing(path: Path) -> str:
    """Say what keeps a path from being THINGS-fMRI in table format.

    Parameters
    ----------
    path : Path
        Folder, or the file of responses.

    Returns
    -------
    str
        Empty when nothing does.
    """
    files = _response_files(path)
    if not files:
        return "there is no sub-NN_ResponseData.h5"
    for subject, file in files.items():
        for kind in ("VoxelMetadata", "StimulusMetadata"):
            table = _table_path(file, subject, kind)
            if not table.is_file():
                return f"there is no {table.name}"
    return ""


def open_table(path: Path, request: Request) -> Contents:
    """Find out what the tables of one subject hold, without reading responses.

    Parameters
    ----------
    path : Path
        Folder, or the file of responses.
    request : Request
        Regions are columns of the voxel metadata; by default all columns of 0 and 1 that hold both.

    Returns
    -------
    Contents
        Conditions are names of pictures without their ending.

    Raises
    ------
    InputError
        When tables and responses disagree, or a region is unknown.
    """
    files = _response_files(path)
    subject = only_subject(list(files), request.subject, path)
    file = files[subject]
    trials, rows = _trials(_table_path(file, subject, "StimulusMetadata"), request)
    about = _table_path(file, subject, "VoxelMetadata")
    table = read_table(about, required=["voxel_id", *COORDINATES], once=None)
    members = {}
    wanted = dict(request.rois)
    for name in table.columns:
        present = set(table[name].unique())
        if name in NO_REGIONS or not present <= {0, 1}:
            continue
        members[str(name)] = np.flatnonzero(table[name] == 1)
        # a column of one value, as of an id, is a region only where it is asked for
        if not request.rois and present == {0, 1}:
            wanted[str(name)] = (str(name),)
    if not wanted:
        raise InputError(f"{about} has no column of 0 and 1 that could be a region.")
    coordinates = whole_numbers(table[list(COORDINATES)], f"{about}: {', '.join(COORDINATES)}")
    voxels, numbers = region_table(wanted, members, coordinates, subject)
    for name in CEILINGS:
        if name in table.columns:
            voxels[name] = table[name].to_numpy()[numbers]
    ids = whole_numbers(table["voxel_id"], f"{about}: voxel_id")
    if again := duplicates(ids):
        raise InputError(f"{about}: voxel_id {name_ids(again)} more than once; fetch it again.")
    with open_hdf5(file) as opened:
        block, columns, held = _response_block(file, opened, len(rows), rows)
        rows_of_ids = pd.Index(held)
        if not rows_of_ids.is_unique:
            raise InputError(f"{file} holds voxels more than once; fetch it again.")
        lines = rows_of_ids.get_indexer(ids[numbers])
        if lacking := ids[numbers][lines < 0].tolist():
            raise InputError(
                f"{file} lacks voxel(s) of VoxelMetadata.csv: voxel_id {name_ids(lacking)}; fetch "
                "both again."
            )
        where = str(block.name)
        itemsize = block.dtype.itemsize
        n_bytes = len(np.unique(lines)) * block.shape[1] * itemsize
    return Contents(
        observations=trials,
        voxels=voxels,
        read=partial(_read, file, where, columns, lines),
        n_bytes=n_bytes,
        dtype=np.dtype(np.float64 if itemsize > 4 else np.float32),
        record={
            "files": [file.name, about.name],
            "ids": request.ids or IDS,
            "chosen_on_all_runs": list(CHOSEN),
        },
    )


def _response_files(path: Path) -> dict[str, Path]:
    """Find the files of responses, by subject."""
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    files = {}
    for file in candidates:
        if match := _RESPONSES.match(file.name):
            files[match[1]] = file
    return files


def _table_path(file: Path, subject: str, kind: str) -> Path:
    return file.parent / f"sub-{subject}_{kind}.csv"


def _trials(path: Path, request: Request) -> tuple[pd.DataFrame, np.ndarray]:
    """List the trials of the sessions wanted; say for every trial of the file whether it is one."""
    ids = request.ids or IDS
    needed = [ids, "session", "run"]
    table = read_table(path, required=needed, text=[ids], once=needed)
    if table[needed].isna().any(axis=None):
        raise InputError(f"{path}: rows without {name_ids(needed)}; fetch it again.")
    names = table[ids].map(str)
    endings = "|".join(PICTURES).replace(".", r"\.")
    stems = names.str.replace(rf"({endings})$", "", regex=True, case=False)
    if stems.nunique() != names.nunique():
        raise InputError(f"{path}: pictures of '{ids}' differ in their ending only; rename them.")
    columns = {
        "condition": stems,
        "run": table["run"],
        "session": table["session"].map(str),
    }
    for name in KEPT:
        if name in table.columns and name != ids:
            columns[name] = table[name]
    observations = pd.DataFrame(columns)
    sessions = list(dict.fromkeys(observations["session"]))
    chosen = chosen_sessions(sessions, request.sessions, path)
    is_wanted = observations["session"].isin(chosen)
    kept = observations[is_wanted]
    return kept.reset_index(drop=True), is_wanted.to_numpy()


def _response_block(
    path: Path, file: h5py.File, n_trials: int, is_wanted: np.ndarray
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Find the block of responses, the columns of the trials wanted, and the ids of the voxels.

    pandas writes columns of one type as one block: whole numbers and responses apart, or together.
    """
    from h5py import check_string_dtype

    groups = [group for group in file.values() if "block0_values" in group]
    if len(groups) != 1:
        raise InputError(f"{path} is no pandas table in HDF5 of fixed format; fetch it again.")
    group = groups[0]
    ids, trials = None, None
    for key in group:
        if not re.fullmatch(r"block\d+_values", key):
            continue
        block = group[key]
        # names that pandas has pickled are not unpickled
        names: list[str | None] = [None] * block.shape[1]
        items = group[key.replace("_values", "_items")]
        if items.dtype.kind in "iu" or check_string_dtype(items.dtype):
            names = [text_of(name) for name in items[...].tolist()]
        is_id = np.array([name == "voxel_id" for name in names])
        if is_id.any():
            ids = np.asarray(block[:, int(np.flatnonzero(is_id)[0])])
        if not is_id.all():
            if trials is not None:
                raise InputError(f"{path} holds responses of several types; fetch it again.")
            trials = block, np.flatnonzero(~is_id), [name for name in names if name != "voxel_id"]
    if ids is None or trials is None:
        raise InputError(f"{path} lacks the column voxel_id, or any trial; fetch it again.")
    block, columns, names = trials
    numbered = [name for name in names if name is not None]
    in_order = numbered == [str(number) for number in range(len(names))]
    if len(names) != n_trials or (numbered and not in_order) or block.dtype.kind != "f":
        raise InputError(
            f"{path} holds {len(names)} trials of {block.dtype}, not the columns 0 to "
            f"{n_trials - 1} of numbers that its StimulusMetadata.csv lists; fetch both again."
        )
    return block, columns[is_wanted], whole_numbers(ids, f"{path}: voxel_id")


def _read(
    path: Path,
    name: str,
    columns: np.ndarray,
    lines: np.ndarray,
    values: np.ndarray,
    progress: Callable[[int, int], None] | None,
) -> None:
    with open_hdf5(path) as file:
        block = file[name]
        responses = read_hdf5_voxels(block, lines, columns, axis=-1)
    values[...] = responses
    if progress is not None:
        progress(1, 1)
