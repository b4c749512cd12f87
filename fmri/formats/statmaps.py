"""Betas of single trials as BIDS statistical maps, as LAION-fMRI publishes them.

``…_stat-effect_…_statmap.nii.gz`` is 4-D with a volume a trial; ``…_trials.tsv`` beside it has one
row a volume (LAION-fMRI: ``session``, ``run``, ``beta_index`` from 0, and ``label``, the file name
of the image). A table belongs to the map whose name holds all of its labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fmri.bids import file_labels
from fmri.extraction import read_voxels
from fmri.formats.contents import Contents, Request, chosen_sessions, only_subject
from fmri.grids import check_same_grid
from fmri.rois.regions import read_masks, voxel_table
from fmri.tables import PICTURES
from fmri.volumes import check_4d, image_affine, open_nifti
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.store import read_table

IDS = ("label", "condition")
"""Columns of the stimulus ids where none is named: the first that a table has."""

_MAP = "_statmap.nii"
_TABLE = "_trials.tsv"


def missing(path: Path) -> str:
    """Say what keeps a path from being single-trial maps in BIDS.

    Parameters
    ----------
    path : Path
        Folder of a subject or a session, or one map.

    Returns
    -------
    str
        Empty when nothing does.
    """
    files = _map_files(path)
    if not files:
        return "there is no …_stat-effect_…_statmap.nii.gz"
    for file in files:
        if not _tables_of(file):
            return f"there is no …_trials.tsv for {file.name}"
    return ""


def open_maps(path: Path, request: Request) -> Contents:
    """Find out what maps of single trials hold, without reading them.

    Parameters
    ----------
    path : Path
        Folder of a subject or a session, or one map.
    request : Request
        Regions are masks (NIfTI, on the grid of the maps): ``NAME=FILE``, or ``NAME=FILE + FILE``.

    Returns
    -------
    Contents
        Maps in order of their names.

    Raises
    ------
    InputError
        When maps and tables disagree, or no mask is given.
    """
    found = _map_files(path)
    named = [file_labels(file).get("sub", "") for file in found]
    subjects = list(dict.fromkeys(named))
    subject = only_subject(subjects, request.subject, path)
    files: dict[str, Path] = {}
    for file in found:
        labels = file_labels(file)
        if labels.get("sub", "") == subject:
            label = labels.get("ses", "")
            if label in files:
                raise InputError(
                    f"{path} holds several maps of session '{label}': {files[label].name} and "
                    f"{file.name}; give the path of one."
                )
            files[label] = file
    sessions = chosen_sessions(list(files), request.sessions, path)
    if not request.rois:
        raise InputError(
            f"{path} says nothing of regions; give masks on the grid of the maps: rois "
            "(--rois NAME=FILE)."
        )
    chosen = [files[session] for session in sessions]
    given = list(itertools.chain(*request.rois.values()))
    if again := duplicates(given):
        raise InputError(f"masks given more than once: {name_ids(again)}; give each once.")
    masks = {}
    for name, parts in request.rois.items():
        to_join = {name: parts[0]}
        for part in parts[1:]:
            to_join[f"{name} ({part})"] = part
        joined = read_masks(to_join, chosen[0])
        masks[name] = np.logical_or.reduce(list(joined.values()))
    tables, n_bytes = [], 0
    for session, file in zip(sessions, chosen, strict=True):
        check_same_grid(file, chosen[0])
        tables.append(_trials(file, session, request.ids))
        n_bytes += file.stat().st_size
    voxels, union, position = voxel_table(masks, subject)
    image = open_nifti(chosen[0])
    affine = image_affine(chosen[0], image)
    grid = {
        "shape": [int(size) for size in image.shape[:3]],
        "affine": affine.tolist(),
    }
    n_rows = [len(table) for table in tables]
    return Contents(
        observations=pd.concat(tables, ignore_index=True),
        voxels=voxels,
        read=partial(_read, chosen, n_rows, union, position),
        n_bytes=n_bytes,
        dtype=np.dtype(np.float32),
        record={"files": [file.name for file in chosen], "ids": request.ids, "grid": grid},
    )


def _map_files(path: Path) -> list[Path]:
    """Find the 4-D maps of effects."""
    candidates = [path]
    if path.is_dir():
        candidates = sorted(path.rglob("*_stat-effect_*"))
    files = []
    for file in candidates:
        labels = file_labels(file)
        is_map = _MAP in file.name and file.is_file()
        if is_map and labels.get("stat") == "effect":
            files.append(file)
    return files


def _tables_of(file: Path) -> list[Path]:
    """Find the tables beside a map whose labels its name holds."""
    of_map = file_labels(file)
    tables = []
    for table in sorted(file.parent.glob(f"*{_TABLE}")):
        labels = file_labels(table)
        if labels.items() <= of_map.items():
            tables.append(table)
    return tables


def _trials(file: Path, session: str, ids: str) -> pd.DataFrame:
    """Read the table of one map."""
    tables = _tables_of(file)
    if len(tables) != 1:
        names = [table.name for table in tables]
        raise InputError(
            f"{file.name} has {len(tables)} tables of trials ({name_ids(names) or 'none'}); keep "
            f"the one whose name is that of the map, …{_TABLE}."
        )
    path = tables[0]
    if not ids:
        present = read_table(path, required=["run"]).columns
        ids = next((name for name in IDS if name in present), IDS[0])
    table = read_table(path, required=[ids, "run"], text=[ids, "run"], once=[ids, "run"])
    n_volumes = check_4d(file, open_nifti(file))[3]
    if len(table) != n_volumes:
        raise InputError(
            f"{path} has {len(table)} rows, but {file.name} has {n_volumes} volumes; fetch both "
            "again."
        )
    if "beta_index" in table and table["beta_index"].tolist() != list(range(n_volumes)):
        raise InputError(
            f"{path}: beta_index is not 0 to {n_volumes - 1} in order; fetch it again."
        )
    if table[[ids, "run"]].isna().any(axis=None):
        raise InputError(f"{path}: rows without {ids} or run; fill them.")
    conditions = []
    for name in table[ids]:
        stem = Path(name)
        conditions.append(stem.stem if stem.suffix.lower() in PICTURES else name)
    if len(set(conditions)) != table[ids].nunique():
        raise InputError(f"{path}: images of '{ids}' differ in folder or ending only; rename them.")
    columns = {"condition": conditions, "run": table["run"], "session": session}
    return pd.DataFrame(columns, dtype=object)


def _read(
    files: Sequence[Path],
    n_rows: Sequence[int],
    union: np.ndarray,
    position: np.ndarray,
    values: np.ndarray,
    progress: Callable[[int, int], None] | None,
) -> None:
    first = 0
    for done, file in enumerate(files):
        last = first + n_rows[done]
        of_union = read_voxels(file, union)
        of_regions = of_union[:, position]
        values[first:last] = of_regions
        first = last
        if progress is not None:
            progress(done + 1, len(files))
