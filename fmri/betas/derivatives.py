"""Betas and contrasts as BIDS derivatives: statistical maps, tables of trials, sidecars."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.contrasts import STATISTICS, ContrastMaps, contrast_label, write_map
from fmri.betas.foreign import ID_COLUMNS, label_volumes
from fmri.betas.images import beta_images
from fmri.bids import file_labels
from fmri.formats.statmaps import chosen_in_maps, cut_maps, map_files, read_trials, table_of
from fmri.patterns import Patterns
from fmri.unusable import UNUSABLE, finite_voxels
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest_file, plain_value, provenance
from neurometamer.resume import writes_into
from neurometamer.store import read_json, write_json, write_table

_MAP = "_stat-effect_desc-Singletrial_statmap"
_TABLE = "_desc-Singletrial_trials.tsv"
_ENDING = re.compile(r"(\.func\.gii|\.dscalar\.nii|\.nii|\.nii\.gz)$")
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
    den: str = "",
    like: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write betas as BIDS derivatives, one map a session (and hemisphere).

    Parameters
    ----------
    patterns : Patterns
        Of one subject, from `estimate_betas` or another source whose provenance holds the grid.
    folder : path-like
        Root of the derivatives; gets ``dataset_description.json`` and, in
        ``sub-XX/[ses-YY/]func``, ``…_stat-effect_desc-Singletrial_statmap.nii.gz`` (float32, one
        volume a trial, NaN where nothing was estimated), the same with ``.json``, and
        ``…_desc-Singletrial_trials.tsv`` (row n describes volume n; ``beta_index`` counts from 0).
        Of surfaces the maps are ``…_hemi-L_…_statmap.func.gii`` and ``hemi-R``, one data array a
        trial, of CIFTI ``…_statmap.dscalar.nii``, one row a trial.
    task, space, den : str
        Labels of the file names; `space` and `den` (density of a mesh, such as ``"91k"``) may be
        empty: then the space of surfaces is that of their series.
    like : path-like, optional
        For betas of CIFTI: one of their series (``.dtseries.nii`` or ``.dscalar.nii``), whose
        vertices and voxels the maps get.

    Returns
    -------
    list of Path
        The maps, in order of sessions, left before right.

    Raises
    ------
    InputError
        When a label is no BIDS label, the patterns carry no grid, `like` is needed and not given,
        or regions disagree about a voxel.

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
    space = space or str(patterns.provenance.get("grid", {}).get("space", ""))
    _check_labels([subject, task, *filter(None, [space, den, *sessions])])
    images = beta_images(patterns, like)
    root = Path(folder)
    _describe(root, "Single-trial betas")
    maps = []
    for session in sessions:
        rows = np.flatnonzero(patterns.observations["session"] == session)
        start = f"sub-{subject}"
        target = root / start
        if session:
            start += f"_ses-{session}"
            target = target / f"ses-{session}"
        start += f"_task-{task}"
        trials = patterns.observations.iloc[rows].reset_index(drop=True)
        trials.insert(0, "beta_index", np.arange(len(trials)))
        write_table(target / "func" / f"{start}{_TABLE}", trials)
        settings = patterns.provenance.get("settings", {})
        sidecar = {
            "Units": settings.get("units", "unknown"),
            "Subject": patterns.subject,
            "Provenance": plain_value(dict(patterns.provenance)),
        }
        for image in images:
            entities = {**image.labels, "space": space, "den": den}
            chosen = [f"_{key}-{label}" for key, label in entities.items() if label]
            name = "".join([start, *chosen, _MAP])
            path = target / "func" / f"{name}{image.ending}"
            maps.append(image.write_rows(path, patterns, rows))
            write_json(target / "func" / f"{name}.json", sidecar)
    return maps


def _check_labels(labels: Sequence[str]) -> None:
    if wrong := [repr(label) for label in labels if not _LABEL.fullmatch(label)]:
        raise InputError(f"{name_ids(wrong)} are no BIDS labels; use letters and digits.")


def _describe(root: Path, name: str) -> None:
    """Write the description of the derivatives, where there is none."""
    description = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "neurometamer"}],
    }
    file = root / "dataset_description.json"
    if not file.exists():
        write_json(file, description)


@writes_into("folder")
@checked
def write_bids_contrast(
    maps: ContrastMaps,
    folder: str | os.PathLike[str],
    *,
    subject: str,
    session: str = "",
    task: str = "images",
    space: str = "",
) -> list[Path]:
    """Write the maps of a contrast as BIDS derivatives.

    Parameters
    ----------
    maps : ContrastMaps
        From `estimate_contrast`.
    folder : path-like
        Root of the derivatives; gets ``dataset_description.json`` and, in
        ``sub-XX/[ses-YY/]func``, ``…_contrast-aVsB_stat-effect_statmap.nii.gz`` (and ``stat-t``,
        ``stat-z``; of surfaces and CIFTI ``.dscalar.nii``; float32, NaN where nothing was
        estimated), each with a ``.json``.
    subject, session, task, space : str
        Labels of the file names; `session` (empty for several) and `space` may be empty.

    Returns
    -------
    list of Path
        The maps: effect, t, z.

    Raises
    ------
    InputError
        When a label is no BIDS label, or another contrast was written under the same name.

    Notes
    -----
    The label of the contrast holds its conditions, not their weights: ``"(face + body) / 2 -
    house"`` is ``faceBodyVsHouse``. The weights are in the ``.json``.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> values = np.array([1.0, -2.0])
    >>> maps = ContrastMaps(
    ...     effect=values,
    ...     t=values,
    ...     z=values,
    ...     mask=np.ones((2, 1, 1), dtype=bool),
    ...     affine=np.eye(4),
    ...     provenance={"settings": {"contrast": "face > house"}},
    ... )
    >>> write_bids_contrast(maps, mkdtemp(), subject="01")[1].name
    'sub-01_task-images_contrast-faceVsHouse_stat-t_statmap.nii.gz'
    """
    settings = maps.provenance["settings"]
    label = subject.removeprefix("sub-")
    _check_labels([label, task, *filter(None, [space, session])])
    root = Path(folder)
    target = root / f"sub-{label}"
    if session:
        target = target / f"ses-{session}"
    entities = {
        "sub": label,
        "ses": session,
        "task": task,
        "space": space,
        "contrast": contrast_label(settings["contrast"]),
    }
    start = "_".join(f"{key}-{value}" for key, value in entities.items() if value)
    ends = [f"stat-{name}_statmap" for name in STATISTICS]
    paths = [target / "func" / f"{start}_{end}{maps.ending}" for end in ends]
    sidecars = [target / "func" / f"{start}_{end}.json" for end in ends]
    for sidecar in sidecars:
        held = read_json(sidecar) if sidecar.is_file() else {}
        written = held.get("Contrast") if isinstance(held, Mapping) else None
        if written not in (None, settings["contrast"]):
            raise InputError(
                f"{sidecar} is of the contrast '{written}', not of '{settings['contrast']}'; give "
                "another folder."
            )
    _describe(root, "Contrasts")
    units = {"effect": settings.get("units", "unknown"), "t": "arbitrary", "z": "arbitrary"}
    for statistic, path, sidecar in zip(STATISTICS, paths, sidecars, strict=True):
        write_map(maps, statistic, path)
        about = {
            "Contrast": settings["contrast"],
            "Weights": settings.get("weights", {}),
            "Units": units[statistic],
            "Provenance": plain_value(dict(maps.provenance)),
        }
        write_json(sidecar, about)
    return paths


@checked
def read_bids_betas(
    folder: str | os.PathLike[str],
    masks: Mapping[str, str | os.PathLike[str]],
    *,
    subject: str = "",
    condition_column: str = "",
    unusable: str = "refuse",
) -> Patterns:
    """Read single-trial maps from BIDS derivatives, all sessions of a subject.

    Parameters
    ----------
    folder : path-like
        Root of the derivatives.
    masks : mapping of str to path-like
        ROI name to its file or definition on the grid of the maps, see `fmri.read_regions`.
    subject : str
        Label, with or without ``sub-``; by default that of the only subject.
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
        When there is no map of the subject, no subject is named and there are several, a map has no
        table or several, or table and map disagree.

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
    if not label:
        subjects = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
        if len(subjects) != 1:
            raise InputError(
                f"{root} has {len(subjects)} subjects ({name_ids(subjects) or 'no folder sub-…'}); "
                "give the root of the derivatives, and one of its subjects (subject, --subject)."
            )
        label = subjects[0].removeprefix("sub-")
    own = root / f"sub-{label}"
    images = []
    if own.is_dir():
        found = map_files(own)
        # maps of contrasts are of no trial
        images = [files for files in found if "contrast" not in file_labels(files[0])]
    if not images:
        raise InputError(
            f"{root} has no …_stat-effect_…_statmap.nii.gz of sub-{label}, nor .func.gii or "
            ".dscalar.nii; give the root of the "
            "derivatives, and one of its subjects (subject, --subject)."
        )
    if not masks:
        raise InputError("no masks given; give masks (--masks NAME=FILE), one for each ROI.")
    tables = []
    for files in images:
        text = [*ID_COLUMNS, condition_column, "run", "session"]
        table = read_trials(table_of(files[0]), files, text=text)
        if "session" not in table.columns:
            table = table.assign(session=file_labels(files[0]).get("ses", ""))
        tables.append(table)
    trials = pd.concat(tables, ignore_index=True)
    observations, numbers = label_volumes(trials, condition_column, f"the maps of sub-{label}")
    if "presentation" in trials.columns:
        observations = observations.drop(columns="presentation")
    maps = cut_maps(images, {name: [str(path)] for name, path in masks.items()}, label)
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
        provenance=_record(list(itertools.chain(*images)), maps.grid, unusable),
    )


def _record(files: list[Path], grid: Mapping[str, Any], unusable: str) -> dict[str, Any]:
    """Take the provenance that the sidecar of the first map holds, or say what was read."""
    names = [path.name for path in files]
    sidecar = files[0].with_name(re.sub(_ENDING, ".json", files[0].name))
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
