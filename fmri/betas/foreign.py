"""Betas made elsewhere, read with the ids of their stimuli and cut to regions.

Ids come from what the program wrote (`fmri.betas.programs`), or from a table with one row a volume.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fmri.betas.programs import BETA_READERS, BetaImages
from fmri.bids import file_labels
from fmri.patterns import Patterns
from fmri.rois.regions import read_masks, voxel_table
from fmri.tables import NO_TRIAL_TYPE
from fmri.unusable import UNUSABLE, finite_voxels
from fmri.volumes import image_affine, open_nifti
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest_file, provenance
from neurometamer.reading import reading
from neurometamer.store import read_table

ID_COLUMNS = ("condition", "trial_type", "label", "stim_id", "stimulus")
"""Columns of a table of volumes that are taken for the ids, the first that is there."""

_SAME_GRID = 1e-3


@checked
def read_beta_images(
    path: str | os.PathLike[str],
    masks: Mapping[str, str | os.PathLike[str]],
    *,
    volumes: str | os.PathLike[str] | pd.DataFrame | None = None,
    condition_column: str = "",
    subject: str = "",
    grid: str | os.PathLike[str] | None = None,
    unusable: str = "refuse",
) -> Patterns:
    """Read betas that another program made, and cut regions out of them.

    Parameters
    ----------
    path : path-like
        What an entry of `BETA_READERS` recognizes.
    masks : mapping of str to path-like
        ROI name to NIfTI mask on the grid of the betas.
    volumes : path-like or DataFrame, optional
        Table with one row a volume: the ids, and ``run`` and ``session`` where there are any. Rows
        without an id (``n/a``) are left out. By default what the program wrote.
    condition_column : str
        Column of `volumes` with the ids; by default the first of `ID_COLUMNS` that is there.
    subject : str
        Label of the subject; by default what the file name says, else ``"01"``.
    grid : path-like, optional
        NIfTI image that has the grid of betas whose file has none (GLMsingle's): its data, or a
        mask. Betas of a list of voxels are placed where it is not 0, in C order. By default the
        first mask, for betas of whole volumes.
    unusable : {"refuse", "drop"}
        What to do with voxels of a mask without finite betas.

    Returns
    -------
    Patterns
        One observation a volume with an id. Of GLMsingle's files the table of voxels has
        ``hrf_index`` (HRFindex) and ``fraction`` (FRACvalue) where the file has them, and the
        provenance says how many voxels have which shape, the number of noise regressors (pcnum)
        and the quartiles of the fractions.

    Raises
    ------
    InputError
        When nothing recognizes the path, ids are missing, or masks lie on another grid.

    Examples
    --------
    >>> import nibabel
    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> image = nibabel.Nifti1Image(np.ones((2, 2, 1, 3), dtype=np.float32), np.eye(4))
    >>> nibabel.save(image, folder / "betas.nii")
    >>> nibabel.save(image.slicer[..., 0], folder / "V1.nii")
    >>> table = pd.DataFrame({"condition": ["cat", "cup", "cat"], "run": ["1", "1", "2"]})
    >>> patterns = read_beta_images(folder / "betas.nii", {"V1": folder / "V1.nii"}, volumes=table)
    >>> patterns.values.shape, patterns.observations["presentation"].tolist()
    ((3, 4), [1, 1, 2])
    """
    file = Path(path)
    if unusable not in UNUSABLE:
        raise unknown_name("unusable", unusable, UNUSABLE)
    known = [name for name, reader in BETA_READERS.items() if reader.recognizes(file)]
    if not known:
        helps = "; ".join(f"{name}: {reader.help}" for name, reader in BETA_READERS.items())
        what = "" if file.exists() else " does not exist, and"
        raise InputError(f"{path}{what} is not recognized as betas; give one of {helps}.")
    images = BETA_READERS[known[0]].open(file)
    observations, numbers = _observations_of(file, images, volumes, condition_column)
    regions, affine, placed = _on_grid(file, images, masks, grid)
    label = subject or file_labels(file).get("sub", "01")
    voxels, union, position = voxel_table(regions, label)
    outside = union & ~placed
    if outside.any() and unusable == "refuse":
        raise InputError(
            f"{int(outside.sum())} voxel(s) of the masks are not among those of {file.name}; cut "
            'the masks, or unusable="drop" (--unusable drop).'
        )
    inside = union & placed
    wanted = inside if len(images.shape) == 3 else inside[placed]
    values = np.full((len(numbers), int(union.sum())), np.nan)
    values[:, inside[union]] = images.read(wanted, numbers)
    values = values[:, position]
    keep = finite_voxels(file.name, values, voxels, unusable)
    chosen = voxels[keep]
    index = tuple(chosen[["i", "j", "k"]].to_numpy().T)
    for column, of_voxels in images.maps.items():
        volume = np.full(placed.shape, np.nan)
        volume[placed] = of_voxels.ravel()
        chosen = chosen.assign(**{column: volume[index]})
    record = provenance(
        {"units": images.units or "unknown", "unusable": unusable},
        step="read_beta_images",
        program=known[0],
        file=file.name,
        file_digest=digest_file(file) if file.is_file() else None,
        grid={"shape": list(placed.shape), "affine": affine.tolist()},
    )
    return Patterns(
        values=values[:, keep],
        observations=observations,
        voxels=chosen,
        provenance={**record, **images.record(chosen)},
    )


def _on_grid(
    file: Path,
    images: BetaImages,
    masks: Mapping[str, str | os.PathLike[str]],
    grid: str | os.PathLike[str] | None,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Read masks; return the affine of their grid, and its voxels that have betas, too."""
    if not masks:
        raise InputError("no masks given; give masks (--masks NAME=FILE), one for each ROI.")
    first = next(iter(masks.values()))
    regions = read_masks(masks, first)
    like = first if grid is None else grid
    affine = image_affine(like, open_nifti(like)) if images.affine is None else images.affine
    if len(images.shape) == 3:
        placed = np.ones(images.shape, dtype=bool)
    elif grid is None:
        raise InputError(
            f"{file.name} holds a list of {images.shape[0]} voxels; give the mask that made the "
            "list: grid (--grid FILE)."
        )
    else:
        image = open_nifti(grid)
        with reading(grid, "a NIfTI image"):
            placed = np.asarray(image.dataobj) != 0
        if placed.ndim != 3 or int(placed.sum()) != images.shape[0]:
            raise InputError(
                f"{file.name} holds {images.shape[0]} voxels, but {Path(grid).name} (grid, --grid) "
                f"has the shape {placed.shape} and {int(placed.sum())} voxels that are not 0; give "
                "the mask that made the list."
            )
    for name, mask in masks.items():
        image = open_nifti(mask)
        own = image_affine(mask, image)
        if tuple(image.shape[:3]) != placed.shape or np.abs(own - affine).max() > _SAME_GRID:
            raise InputError(
                f"ROI '{name}': {Path(mask).name} has the grid {tuple(image.shape[:3])} and affine "
                f"{own.round(3).tolist()}, but the betas of {file.name} {placed.shape} and "
                f"{affine.round(3).tolist()}; resample the mask yourself (nearest neighbor), or "
                "give the image that has their grid (grid, --grid)."
            )
    return regions, affine, placed


def _observations_of(
    file: Path,
    images: BetaImages,
    volumes: str | os.PathLike[str] | pd.DataFrame | None,
    condition_column: str,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Label the volumes that have an id; returns the table and their numbers."""
    table = images.table
    if isinstance(volumes, pd.DataFrame):
        table = volumes
    elif volumes is not None:
        table = read_table(volumes, text=[*ID_COLUMNS, condition_column, "run", "session"])
    if table is None:
        raise InputError(
            f"{file.name} does not say which stimulus each volume belongs to; give a table with "
            "one row a volume: volumes (--volumes FILE)."
        )
    if len(table) != images.n_volumes:
        raise InputError(
            f"{file.name} has {images.n_volumes} volumes, but the table of volumes {len(table)} "
            "rows; give one row a volume (n/a as the id of those that are no stimulus)."
        )
    return label_volumes(table, condition_column, file.name)


def label_volumes(
    table: pd.DataFrame, condition_column: str, what: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Label the volumes that have an id.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a volume.
    condition_column : str
        Column with the ids; empty: the first of `ID_COLUMNS` that is there.
    what : str
        What has the volumes, for messages.

    Returns
    -------
    observations : pandas.DataFrame
        ``condition``, ``presentation`` (counted), ``run``, ``session`` and ``volume``.
    numbers : ndarray of int
        Numbers of these volumes.

    Raises
    ------
    InputError
        When the column is missing, or no volume has an id.
    """
    present = [name for name in ID_COLUMNS if name in table.columns]
    column = condition_column or (present[0] if present else "")
    if column not in table.columns:
        raise InputError(
            f"the table of volumes has no column '{column or ID_COLUMNS[0]}' but "
            f"{name_ids(table.columns, 10)}; name the one with the ids: condition_column "
            "(--condition-column)."
        )
    ids = table[column].astype(object)
    ids = ids.where(ids.notna(), NO_TRIAL_TYPE).map(lambda name: str(name).strip())
    numbers = np.flatnonzero(~ids.isin([NO_TRIAL_TYPE, ""]))
    if not len(numbers):
        raise InputError(f"no volume of {what} has an id; correct the table of volumes.")
    observations = pd.DataFrame({"condition": ids.to_numpy()[numbers]})
    for name in ("run", "session"):
        values = pd.Series([""] * len(table), dtype=object)
        if name in table.columns:
            values = table[name].astype(object)
            values = values.where(values.notna(), "").map(str)
        observations[name] = values.to_numpy()[numbers]
    counts = observations.groupby("condition").cumcount() + 1
    observations.insert(1, "presentation", counts)
    observations["volume"] = numbers
    return observations, numbers
