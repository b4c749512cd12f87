"""Files of betas: images of volumes, and the folders that the commands write."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from fmri.betas.images import beta_images
from fmri.patterns import Patterns
from fmri.rois.regions import ROI_OPTIONS, grid_of, read_regions, voxel_table
from fmri.series import read_places
from fmri.unusable import UNUSABLE, finite_voxels
from neurometamer.arguments import KeywordsOf, checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.resume import writes_into
from neurometamer.store import read_json, read_table, write_json, write_table


@writes_into("folder")
@checked
def write_betas(
    patterns: Patterns,
    folder: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
) -> Path:
    """Write betas as an image with one volume (or map) per observation.

    The observation table and the provenance are written beside it.

    Parameters
    ----------
    patterns : Patterns
        From `estimate_betas` (the provenance holds the voxel grid).
    folder : path-like
        Folder that gets ``betas.nii.gz`` (float32; NaN where nothing was estimated, so that a mask
        that reaches beyond the estimated voxels is noticed), ``betas.tsv`` (row n describes volume
        n) and ``betas.json``. Of surfaces the images are ``betas_hemi-L.func.gii`` and
        ``betas_hemi-R.func.gii``, of CIFTI ``betas.dscalar.nii``.
    like : path-like, optional
        For betas of CIFTI: one of their series (``.dtseries.nii`` or ``.dscalar.nii``), whose
        vertices and voxels the image gets.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the patterns carry no grid, `like` is needed and not given, or two regions disagree
        about a voxel.

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
    >>> folder = write_betas(patterns, Path(mkdtemp()) / "betas")
    >>> sorted(path.name for path in folder.iterdir())
    ['betas.json', 'betas.nii.gz', 'betas.tsv']
    """
    images = beta_images(patterns, like)
    target = Path(folder)
    names = []
    for image in images:
        labels = [f"_{key}-{label}" for key, label in image.labels.items()]
        path = target / "".join(["betas", *labels, image.ending])
        image.write_rows(path, patterns, np.arange(len(patterns)))
        names.append(path.name)
    write_table(target / "betas.tsv", patterns.observations)
    record = {
        "subject": patterns.subject,
        "images": names,
        "provenance": dict(patterns.provenance),
    }
    write_json(target / "betas.json", record)
    return target


@checked
def read_betas(
    folder: str | os.PathLike[str],
    masks: Mapping[str, str | os.PathLike[str]],
    *,
    unusable: str = "refuse",
    affine: str = "agree",
    **options: Annotated[Any, KeywordsOf("fmri.rois.regions:read_regions", ROI_OPTIONS)],
) -> Patterns:
    """Read betas written by `write_betas` and cut regions out of them.

    Parameters
    ----------
    folder : path-like
        With ``betas.nii.gz`` (or what `write_betas` writes of surfaces and CIFTI), ``betas.tsv``
        and ``betas.json``.
    masks : mapping of str to str or path-like
        ROI name to its file or definition, as for `read_regions`.
    unusable : {"refuse", "drop"}
        What to do with voxels of a mask for which nothing was estimated.
    affine : {"agree", "sform", "qform"}
        Transform of the masks, see `fmri.volumes.image_affine`.
    **options : object
        Options of `read_regions`: resample, space, brain_mask, only.

    Returns
    -------
    Patterns
        Values are float32, exactly those written.

    Raises
    ------
    InputError
        When a file is missing, table and image disagree, a mask lies on another grid, or a mask
        reaches beyond the estimated voxels and `unusable` is ``"refuse"``.

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
    >>> from fmri import estimate_betas, read_runs
    >>> runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    >>> folder = write_betas(estimate_betas(runs, simulated.masks), Path(mkdtemp()) / "betas")
    >>> read_betas(folder, simulated.masks).values.shape
    (8, 8)
    """
    if unusable not in UNUSABLE:
        raise unknown_name("unusable", unusable, UNUSABLE)
    if not Path(folder).is_dir():
        what = "is a file" if Path(folder).exists() else "does not exist"
        raise InputError(
            f"{folder} {what}; betas (--betas) are a folder that 'neurometamer fmri betas' has "
            "written."
        )
    if not (Path(folder) / "betas.json").exists():
        raise InputError(
            f"{folder} holds no betas: there is no betas.json. Betas (--betas) are a folder that "
            "'neurometamer fmri betas' has written (betas.nii.gz, betas.tsv, betas.json), the root "
            "of BIDS derivatives with single-trial maps, or a file or folder of another program."
        )
    record = read_json(Path(folder) / "betas.json")
    held = record.get("provenance") if isinstance(record, Mapping) else None
    # what was written before surfaces were has no list of images
    names = record.get("images", ["betas.nii.gz"]) if isinstance(held, Mapping) else []
    if (
        not isinstance(held, Mapping)
        or "subject" not in record
        or not isinstance(names, list)
        or not names
    ):
        raise InputError(
            f"{Path(folder) / 'betas.json'} was not written by write_betas; estimate the betas "
            "again."
        )
    observations = read_table(Path(folder) / "betas.tsv", ("condition", "presentation", "run"))
    # pandas reads an empty session as a missing value.
    sessions = observations["session"]
    observations["session"] = sessions.astype(object).where(sessions.notna(), "")
    images = [Path(folder) / Path(str(name)).name for name in names]
    grid = grid_of(images, affine)
    if not grid.is_volume and not grid.space:
        written_on = held.get("grid")
        if isinstance(written_on, Mapping):
            grid = replace(grid, space=str(written_on.get("space", "")))
    regions = read_regions(masks, grid, affine=affine, **options)
    voxels, union, position = voxel_table(regions.masks, str(record["subject"]), regions.grid)
    series = read_places(images, union)
    values = series.astype(np.float32)
    if len(values) != len(observations):
        raise InputError(
            f"{images[0]} has {len(values)} volumes but betas.tsv has {len(observations)} rows; "
            "make the betas again."
        )
    values = values[:, position]
    keep = finite_voxels(str(folder), values, voxels, unusable)
    return Patterns(
        values=values[:, keep],
        observations=observations,
        voxels=voxels[keep],
        provenance={**held, "masks": regions.record()},
    )
