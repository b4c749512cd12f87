"""Betas as BIDS derivatives: statistical maps of single trials, tables of trials, sidecars."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.foreign import ID_COLUMNS, label_volumes
from fmri.bids import file_labels
from fmri.formats.statmaps import chosen_in_maps, cut_maps, map_files, read_trials, table_of
from fmri.patterns import Patterns
from fmri.unusable import UNUSABLE, finite_voxels
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest_file, plain_value, provenance
from neurometamer.resume import writes_into
from neurometamer.store import atomic_path, read_json, write_json, write_table

_MAP = "_stat-effect_desc-Singletrial_statmap"
_TABLE = "_desc-Singletrial_trials.tsv"
_LABEL = re.compile("[A-Za-z0-9]+")
BIDS_VERSION = "1.10.0"


@writes_into("folder")
@checked
def write_bids_betas(
    patterns: Patterns,
    folder: str | os.PathLike[str],
    *,
    task: str = "images",
    space: str = "",
) -> list[Path]:
    """Write betas as BIDS derivatives, one map a session.

    Parameters
    ----------
    patterns : Patterns
        Of one subject, from `estimate_betas` or another source whose provenance holds the grid.
    folder : path-like
        Root of the derivatives; gets ``dataset_description.json`` and, in
        ``sub-XX/[ses-YY/]func``, ``…_stat-effect_desc-Singletrial_statmap.nii.gz`` (float32, one
        volume a trial, NaN where nothing was estimated), the same with ``.json``, and
        ``…_desc-Singletrial_trials.tsv`` (row n describes volume n; ``beta_index`` counts from 0).
    task, space : str
        Labels of the file names; `space` may be empty.

    Returns
    -------
    list of Path
        The maps, in order of sessions.

    Raises
    ------
    InputError
        When a label is no BIDS label, the patterns carry no grid, or regions disagree about a
        voxel.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_patterns
    >>> patterns = simulate_patterns(
    ...     mkdtemp(),
    ...     subjects=["01"],
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )["sub-01"]
    >>> [path.name for path in write_bids_betas(patterns, mkdtemp())]
    ['sub-01_task-images_stat-effect_desc-Singletrial_statmap.nii.gz']
    """
    subject = patterns.subject.removeprefix("sub-")
    sessions = list(dict.fromkeys(patterns.observations["session"]))
    labels = [subject, task, *filter(None, [space, *sessions])]
    if wrong := [label for label in labels if not _LABEL.fullmatch(label)]:
        raise InputError(f"{name_ids(wrong)} are no BIDS labels; use letters and digits.")
    places, columns, grid = volume_places(patterns)
    root = Path(folder)
    description = {
        "Name": "Single-trial betas",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "neurometamer"}],
    }
    if not (root / "dataset_description.json").exists():
        write_json(root / "dataset_description.json", description)
    maps = []
    for session in sessions:
        rows = np.flatnonzero(patterns.observations["session"] == session)
        start = f"sub-{subject}"
        target = root / start
        if session:
            start += f"_ses-{session}"
            target = target / f"ses-{session}"
        start += f"_task-{task}"
        name = f"{start}_space-{space}{_MAP}" if space else f"{start}{_MAP}"
        path = target / "func" / f"{name}.nii.gz"
        write_map(path, patterns.values[rows][:, columns], places, grid)
        trials = patterns.observations.iloc[rows].reset_index(drop=True)
        trials.insert(0, "beta_index", np.arange(len(trials)))
        write_table(target / "func" / f"{start}{_TABLE}", trials)
        settings = patterns.provenance.get("settings", {})
        sidecar = {
            "Units": settings.get("units", "unknown"),
            "Subject": patterns.subject,
            "Provenance": plain_value(dict(patterns.provenance)),
        }
        write_json(target / "func" / f"{name}.json", sidecar)
        maps.append(path)
    return maps


def volume_places(patterns: Patterns) -> tuple[np.ndarray, np.ndarray, Mapping[str, Any]]:
    """Find where the voxels of patterns lie in a volume.

    Parameters
    ----------
    patterns : Patterns
        With a grid in their provenance.

    Returns
    -------
    places : ndarray of int, shape (n_places,)
        Positions in the volume, in Fortran order.
    columns : ndarray of int, shape (n_places,)
        Column of the values of each.
    grid : mapping
        ``shape`` and ``affine``.

    Raises
    ------
    InputError
        Without a grid, or when two regions disagree about a voxel.
    """
    grid = patterns.provenance.get("grid")
    if grid and grid["affine"] is None:
        raise InputError(
            f"these patterns are of vertices ({name_ids(patterns.rois)}), not of a volume; write "
            "them with write_patterns (fmri patterns --out)."
        )
    if not grid:
        raise InputError(
            f"these patterns ({len(patterns)} observations of {name_ids(patterns.rois)}) carry no "
            "voxel grid; give patterns that estimate_betas made."
        )
    shape = tuple(int(size) for size in grid["shape"])
    index = patterns.voxels[["i", "j", "k"]].to_numpy()
    numbers = np.ravel_multi_index(tuple(index.T), shape, order="F")
    places, first, back = np.unique(numbers, return_index=True, return_inverse=True)
    if not np.array_equal(patterns.values[:, first][:, back], patterns.values):
        raise InputError(
            f"two of the regions {name_ids(patterns.rois)} hold different values for the same "
            "voxel; write them to two folders."
        )
    return places, first, grid


def write_map(path: Path, values: np.ndarray, places: np.ndarray, grid: Mapping[str, Any]) -> None:
    """Write values as a 4-D image, one volume at a time: the 4-D array is never in memory.

    Parameters
    ----------
    path : Path
        ``.nii.gz``.
    values : ndarray, shape (n_volumes, n_places)
        Written as float32.
    places : ndarray of int, shape (n_places,)
        Positions in the volume, in Fortran order; NaN elsewhere.
    grid : mapping
        ``shape`` and ``affine``.
    """
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


@checked
def read_bids_betas(
    folder: str | os.PathLike[str],
    masks: Mapping[str, str | os.PathLike[str]],
    *,
    subject: str,
    condition_column: str = "",
    unusable: str = "refuse",
) -> Patterns:
    """Read single-trial maps from BIDS derivatives, all sessions of a subject.

    Parameters
    ----------
    folder : path-like
        Root of the derivatives.
    masks : mapping of str to path-like
        ROI name to NIfTI mask on the grid of the maps.
    subject : str
        Label, with or without ``sub-``.
    condition_column : str
        Column of ``…_trials.tsv`` with the ids; by default ``condition``, else those of
        `fmri.betas.foreign.ID_COLUMNS`.
    unusable : {"refuse", "drop"}
        What to do with voxels of a mask without betas.

    Returns
    -------
    Patterns
        Of maps that `write_bids_betas` wrote: the same observations and voxels, values in float32's
        precision, the provenance of the first session with that of the maps.

    Raises
    ------
    InputError
        When there is no map of the subject, a map has no table or several, or table and map
        disagree.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import estimate_betas, read_runs, simulate_subject
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
    >>> runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    >>> folder = Path(mkdtemp())
    >>> _ = write_bids_betas(estimate_betas(runs, simulated.masks), folder)
    >>> read_bids_betas(folder, simulated.masks, subject="01").values.shape
    (8, 8)
    """
    if unusable not in UNUSABLE:
        raise unknown_name("unusable", unusable, UNUSABLE)
    root = Path(folder)
    label = subject.removeprefix("sub-")
    own = root / f"sub-{label}"
    files = map_files(own) if own.is_dir() else []
    if not files:
        raise InputError(
            f"{root} has no …_stat-effect_…_statmap.nii.gz of sub-{label}; give the root of the "
            "derivatives, and one of its subjects (subject, --subject)."
        )
    if not masks:
        raise InputError("no masks given; give masks (--masks NAME=FILE), one for each ROI.")
    tables = []
    for file in files:
        text = [*ID_COLUMNS, condition_column, "run", "session"]
        table = read_trials(table_of(file), file, text=text)
        if "session" not in table.columns:
            table = table.assign(session=file_labels(file).get("ses", ""))
        tables.append(table)
    trials = pd.concat(tables, ignore_index=True)
    observations, numbers = label_volumes(trials, condition_column, f"the maps of sub-{label}")
    if "presentation" in trials.columns:
        observations = observations.drop(columns="presentation")
    maps = cut_maps(files, {name: [str(path)] for name, path in masks.items()}, label)
    values = np.empty((len(trials), len(maps.voxels)))
    maps.read(values)
    values = values[numbers]
    keep = finite_voxels(f"the maps of sub-{label}", values, maps.voxels, unusable)
    known = observations.drop(columns="volume")
    more = trials.iloc[numbers].reset_index(drop=True)
    added = [name for name in more.columns if name not in (*known.columns, "beta_index")]
    names = ["condition", "presentation", "run", "session"]
    joined = pd.concat([known, more[added]], axis=1)
    return Patterns(
        values=values[:, keep],
        observations=joined[[*names, *[name for name in joined.columns if name not in names]]],
        voxels=maps.voxels[keep],
        provenance=_record(files, maps.grid, unusable),
    )


def _record(files: list[Path], grid: Mapping[str, Any], unusable: str) -> dict[str, Any]:
    """Take the provenance that the sidecar of the first map holds, or say what was read."""
    names = [path.name for path in files]
    sidecar = files[0].with_name(re.sub(r"\.nii(\.gz)?$", ".json", files[0].name))
    if sidecar.is_file():
        held = read_json(sidecar)
        if isinstance(held, Mapping) and isinstance(held.get("Provenance"), Mapping):
            return {**held["Provenance"], "maps": names}
    return provenance(
        {"units": "unknown", "unusable": unusable},
        step="read_bids_betas",
        maps=names,
        file_digests=[digest_file(path) for path in files],
        grid=dict(grid),
        chosen_on_all_runs=chosen_in_maps(files),
    )
