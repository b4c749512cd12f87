"""Betas of single trials as BIDS statistical maps, as LAION-fMRI publishes them.

``…_stat-effect_…_statmap.nii.gz`` is 4-D with a volume a trial (of surfaces ``.func.gii``, one file
a hemisphere, of CIFTI ``.dscalar.nii``); ``…_trials.tsv`` beside it has one row a volume
(LAION-fMRI: ``session``, ``run``, ``beta_index`` from 0, and ``label``, the file name of the
image). A table belongs to the map whose name holds all of its labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.single_trials import chosen_on_all_runs
from fmri.bids import file_labels
from fmri.formats.contents import Contents, Request, chosen_sessions, only_subject
from fmri.grids import check_grid
from fmri.rois.regions import grid_of, read_masks, voxel_table
from fmri.series import open_series, pair_hemispheres, read_places
from fmri.surfaces import partner_name
from fmri.tables import PICTURES
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.store import read_json, read_table

IDS = ("label", "condition")
"""Columns of the stimulus ids where none is named: the first that a table has."""

_MAPS = tuple(f"_statmap{ending}" for ending in (".nii", ".nii.gz", ".func.gii", ".dscalar.nii"))
CHOSEN = {"SingletrialBetas": ("denoised", "shrunken")}
"""Label ``desc`` → what was chosen on all runs of a session: LAION-fMRI's are GLMsingle's betas,
with noise regressors and ridge fractions."""

_TABLE = "_trials.tsv"


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """Maps of one subject on one grid, and the voxels of regions in them.

    Parameters
    ----------
    images : tuple of tuple of Path
        The maps: one file, or those of the two hemispheres.
    voxels : pandas.DataFrame
        As of `fmri.Patterns`.
    union : ndarray of bool, shape (i, j, k) or (n_places,)
        Voxels in any region.
    positions : ndarray of int, shape (n_rows,)
        Position of each row of `voxels` among those of `union`.
    grid : mapping
        See `fmri.grids.Grid.record`.
    """

    images: tuple[tuple[Path, ...], ...]
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
        for done, files in enumerate(self.images, start=1):
            of_union = read_places(files, self.union)
            last = first + len(of_union)
            values[first:last] = of_union[:, self.positions]
            first = last
            if progress is not None:
                progress(done, len(self.images))


def cut_maps(
    images: Sequence[tuple[Path, ...]], masks: Mapping[str, Sequence[str]], subject: str
) -> Maps:
    """Find the voxels of regions in maps of one subject; no map is read.

    Parameters
    ----------
    images : sequence of tuple of Path
        At least one map: its file, or those of its hemispheres.
    masks : mapping of str to sequence of str
        Region to the masks that it joins.
    subject : str
        Written into the table of voxels.

    Returns
    -------
    Maps
        In the order of `images`.

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
    grids = [grid_of(files) for files in images]
    for grid in grids:
        check_grid(grid, grids[0])
    read = iter(read_masks(named, images[0]).values())
    regions = {}
    for name, parts in masks.items():
        own = list(itertools.islice(read, len(parts)))
        regions[name] = np.logical_or.reduce(own)
    voxels, union, positions = voxel_table(regions, subject, grids[0])
    return Maps(
        images=tuple(images),
        voxels=voxels,
        union=union,
        positions=positions,
        grid=grids[0].record(),
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
    images = map_files(path)
    if not images:
        return "there is no …_stat-effect_…_statmap.nii.gz"
    for file, *_ in images:
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
    images = map_files(path)
    subjects = [file_labels(files[0]).get("sub", "") for files in images]
    subject = only_subject(list(dict.fromkeys(subjects)), request.subject, path)
    by_session: dict[str, tuple[Path, ...]] = {}
    for name, files in zip(subjects, images, strict=True):
        label = file_labels(files[0]).get("ses", "")
        if name == subject and label in by_session:
            raise InputError(
                f"{path} holds several maps of session '{label}': {by_session[label][0].name} and "
                f"{files[0].name}; give the path of one."
            )
        if name == subject:
            by_session[label] = files
    sessions = chosen_sessions(list(by_session), request.sessions, path)
    if not request.rois:
        raise InputError(
            f"{path} says nothing of regions; give masks on the grid of the maps: rois "
            "(--rois NAME=FILE)."
        )
    chosen = [by_session[session] for session in sessions]
    given = list(itertools.chain(*request.rois.values()))
    if again := duplicates(given):
        raise InputError(f"masks given more than once: {name_ids(again)}; give each once.")
    maps = cut_maps(chosen, request.rois, subject)
    tables = []
    for session, files in zip(sessions, chosen, strict=True):
        tables.append(_observations(files, session, request.ids))
    every = list(itertools.chain(*chosen))
    return Contents(
        observations=pd.concat(tables, ignore_index=True),
        voxels=maps.voxels,
        read=maps.read,
        n_bytes=sum(file.stat().st_size for file in every),
        dtype=np.dtype(np.float32),
        record={
            "files": [file.name for file in every],
            "ids": request.ids,
            "grid": dict(maps.grid),
            "chosen_on_all_runs": chosen_in_maps(every),
        },
    )


def map_files(path: Path) -> list[tuple[Path, ...]]:
    """Find the maps of effects.

    Parameters
    ----------
    path : Path
        Folder, or one map.

    Returns
    -------
    list of tuple of Path
        One a map, in order of their paths: its file, or those of the two hemispheres; of a folder,
        all below it.
    """
    candidates = [path, *filter(None, [partner_name(path)])]
    if path.is_dir():
        candidates = sorted(path.rglob("*_stat-effect_*"))
    files = []
    for file in candidates:
        labels = file_labels(file)
        is_map = file.name.endswith(_MAPS) and file.is_file()
        if is_map and labels.get("stat") == "effect":
            files.append(file)
    images = []
    for pair in pair_hemispheres(files):
        images.append(tuple(sorted(pair)))
    return images


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
        ending = next(ending for ending in _MAPS if file.name.endswith(ending))
        sidecar = file.with_name(f"{file.name.removesuffix(ending)}_statmap.json")
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
    path: Path, images: Sequence[Path], *, required: Sequence[str] = (), text: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table of trials, and check that it is that of a map.

    Parameters
    ----------
    path : Path
        The table.
    images : sequence of Path
        The map: its file, or those of its hemispheres.
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
    n_volumes = open_series(images).n_volumes
    if len(table) != n_volumes:
        raise InputError(
            f"{path} has {len(table)} rows, but {images[0].name} has {n_volumes} volumes; fetch "
            "both again."
        )
    if "beta_index" in table and table["beta_index"].tolist() != list(range(n_volumes)):
        raise InputError(
            f"{path}: beta_index is not 0 to {n_volumes - 1} in order; fetch it again."
        )
    return table


def _observations(files: Sequence[Path], session: str, ids: str) -> pd.DataFrame:
    """Read the images, runs and session of the volumes of one map."""
    path = table_of(files[0])
    if not ids:
        present = read_table(path, required=["run"]).columns
        ids = next((name for name in IDS if name in present), IDS[0])
    table = read_trials(path, files, required=[ids, "run"])
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
