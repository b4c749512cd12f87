"""Betas of single trials as BIDS statistical maps, as LAION-fMRI publishes them.

``…_stat-effect_…_statmap.nii.gz`` is 4-D with a volume a trial; ``…_trials.tsv`` beside it has one
row a volume (LAION-fMRI: ``session``, ``run``, ``beta_index`` from 0, and ``label``, the file name
of the image). A table belongs to the map whose name holds all of its labels.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.single_trials import chosen_on_all_runs
from fmri.bids import file_labels
from fmri.extraction import read_voxels
from fmri.formats.contents import Contents, Request, chosen_sessions, only_subject
from fmri.grids import check_same_grid
from fmri.rois.regions import read_masks, voxel_table
from fmri.tables import PICTURES
from fmri.volumes import check_4d, image_affine, open_nifti
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.store import read_json, read_table

IDS = ("label", "condition")
"""Columns of the stimulus ids where none is named: the first that a table has."""

CHOSEN = {"SingletrialBetas": ("denoised", "shrunken")}
"""Label ``desc`` → what was chosen on all runs of a session: LAION-fMRI's are GLMsingle's betas,
with noise regressors and ridge fractions."""

_MAP = "_statmap.nii"
_TABLE = "_trials.tsv"


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """Maps of one subject on one grid, and the voxels of regions in them.

    Parameters
    ----------
    files : tuple of Path
        The maps.
    voxels : pandas.DataFrame
        As of `fmri.Patterns`.
    union : ndarray of bool, shape (i, j, k)
        Voxels in any region.
    positions : ndarray of int, shape (n_rows,)
        Position of each row of `voxels` among those of `union`.
    grid : mapping
        ``shape`` and ``affine``.
    """

    files: tuple[Path, ...]
    voxels: pd.DataFrame
    union: np.ndarray
    positions: np.ndarray
    grid: Mapping[str, Any]

    def read(self, values: np.ndarray, progress: Callable[[int, int], None] | None = None) -> None:
        """Read the voxels of all maps.

        Parameters
        ----------
        values : ndarray, shape (n_volumes, n_rows)
            Filled, map after map.
        progress : callable, optional
            Called as ``progress(done, total)`` after each map.
        """
        first = 0
        for done, file in enumerate(self.files, start=1):
            of_union = read_voxels(file, self.union)
            last = first + len(of_union)
            values[first:last] = of_union[:, self.positions]
            first = last
            if progress is not None:
                progress(done, len(self.files))


def cut_maps(files: Sequence[Path], masks: Mapping[str, Sequence[str]], subject: str) -> Maps:
    """Find the voxels of regions in maps of one subject; no map is read.

    Parameters
    ----------
    files : sequence of Path
        At least one map.
    masks : mapping of str to sequence of str
        Region to the masks that it joins.
    subject : str
        Written into the table of voxels.

    Returns
    -------
    Maps
        In the order of `files`.

    Raises
    ------
    InputError
        When maps or masks lie on different grids.
    """
    named = {}
    for name, parts in masks.items():
        for part in parts:
            label = name if part == parts[0] else f"{name} ({part})"
            named[label] = part
    for file in files:
        check_same_grid(file, files[0])
    read = iter(read_masks(named, files[0]).values())
    regions = {}
    for name, parts in masks.items():
        own = list(itertools.islice(read, len(parts)))
        regions[name] = np.logical_or.reduce(own)
    voxels, union, positions = voxel_table(regions, subject)
    affine = image_affine(files[0], open_nifti(files[0]))
    return Maps(
        files=tuple(files),
        voxels=voxels,
        union=union,
        positions=positions,
        grid={"shape": list(union.shape), "affine": affine.tolist()},
    )


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
    files = map_files(path)
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
    found = map_files(path)
    subjects = list(dict.fromkeys(file_labels(file).get("sub", "") for file in found))
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
    maps = cut_maps(chosen, request.rois, subject)
    tables = []
    for session, file in zip(sessions, chosen, strict=True):
        tables.append(_observations(file, session, request.ids))
    return Contents(
        observations=pd.concat(tables, ignore_index=True),
        voxels=maps.voxels,
        read=maps.read,
        n_bytes=sum(file.stat().st_size for file in chosen),
        dtype=np.dtype(np.float32),
        record={
            "files": [file.name for file in chosen],
            "ids": request.ids,
            "grid": dict(maps.grid),
            "chosen_on_all_runs": chosen_in_maps(chosen),
        },
    )


def map_files(path: Path) -> list[Path]:
    """Find the maps of effects.

    Parameters
    ----------
    path : Path
        Folder, or one map.

    Returns
    -------
    list of Path
        In order of their paths; of a folder, all below it.
    """
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


def chosen_in_maps(files: Sequence[Path]) -> list[str]:
    """Say what was chosen on all runs together in the making of maps.

    Parameters
    ----------
    files : sequence of Path
        The maps.

    Returns
    -------
    list of str
        What their sidecars say where they hold a provenance, else what `CHOSEN` says of their label
        ``desc``.

    Examples
    --------
    >>> chosen_in_maps([Path("sub-01_stat-effect_desc-SingletrialBetas_statmap.nii.gz")])
    ['denoised', 'shrunken']
    """
    words: set[str] = set()
    for file in files:
        sidecar = file.with_name(re.sub(r"\.nii(\.gz)?$", ".json", file.name))
        held = read_json(sidecar) if sidecar.is_file() else {}
        if isinstance(held, Mapping) and "Provenance" in held:
            words |= set(chosen_on_all_runs(held["Provenance"]))
        else:
            words |= set(CHOSEN.get(file_labels(file).get("desc", ""), ()))
    return sorted(words)


def _tables_of(file: Path) -> list[Path]:
    """Find the tables beside a map whose labels its name holds."""
    of_map = file_labels(file)
    tables = []
    for table in sorted(file.parent.glob(f"*{_TABLE}")):
        labels = file_labels(table)
        if labels.items() <= of_map.items():
            tables.append(table)
    return tables


def table_of(file: Path) -> Path:
    """Find the one table of trials of a map.

    Parameters
    ----------
    file : Path
        The map.

    Returns
    -------
    Path
        ``…_trials.tsv`` beside it, all of whose labels are labels of the map.

    Raises
    ------
    InputError
        When there is none, or several.
    """
    tables = _tables_of(file)
    if len(tables) != 1:
        names = [table.name for table in tables]
        raise InputError(
            f"{file.name} has {len(tables)} tables of trials ({name_ids(names) or 'none'}); keep "
            f"the one whose name is that of the map, …{_TABLE}."
        )
    return tables[0]


def read_trials(
    path: Path, file: Path, *, required: Sequence[str] = (), text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table of trials, and check that it is that of a map.

    Parameters
    ----------
    path : Path
        The table.
    file : Path
        The map.
    required, text : sequence of str
        See `neurometamer.store.read_table`; what is required is text.

    Returns
    -------
    pandas.DataFrame
        One row a volume.

    Raises
    ------
    InputError
        When columns are missing, or rows are not the volumes of the map in their order.
    """
    table = read_table(path, required=required, text=[*required, *text], once=required)
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
    return table


def _observations(file: Path, session: str, ids: str) -> pd.DataFrame:
    """Read the images, runs and session of the volumes of one map."""
    path = table_of(file)
    if not ids:
        present = read_table(path, required=["run"]).columns
        ids = next((name for name in IDS if name in present), IDS[0])
    table = read_trials(path, file, required=[ids, "run"])
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
