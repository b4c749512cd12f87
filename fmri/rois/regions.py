"""Regions of interest on the grid of a series: from files, labels, thresholds and expressions."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import find_reader
from fmri.grids import Grid, volume_grid
from fmri.rois.algebra import Source, parse_region, sources_of
from fmri.rois.files import label_table, split_label
from fmri.rois.reader import RegionReader, tree_of
from fmri.series import SERIES_READERS, open_series
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest
from neurometamer.summaries import short_repr

File = str | os.PathLike[str]

RESAMPLE = ("never", "nearest")
"""What to do with a file of regions on another grid: refuse it, or take the nearest voxel."""

ROI_OPTIONS = ("resample", "space", "brain_mask", "only")
"""Options of `read_regions` that commands and studies take."""

_USUAL = {"n_lost": 0, "n_outside": -1, "resample": "never"}


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Regions:
    """Regions on one grid, and what was found out about them.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape of the grid
        Region to mask, none empty.
    grid : Grid
        Where they lie.
    table : pandas.DataFrame
        One row a region: roi, definition (with file names, without folders; empty for an array),
        file (name of the one file that it is, else empty), n_voxels (or vertices),
        n_lost (voxels or vertices of its files that the grid lacks), n_outside (outside the brain
        mask; −1 where none was given), resample (``"nearest"`` where a file was resampled, else
        ``"never"``).
    pool : ndarray of bool, shape of the grid, optional
        Where noise regressors may come from beside the regions: the brain mask, or regions that are
        not wanted.

    Examples
    --------
    >>> from fmri.grids import Grid
    >>> grid = Grid(name="a.nii", shape=(2, 2, 1), affine=np.eye(4))
    >>> regions = read_regions({"V1": np.array([[[True], [False]], [[True], [True]]])}, grid)
    >>> regions.record()["V1"]["n_voxels"]
    3
    """

    masks: Mapping[str, np.ndarray]
    grid: Grid
    table: pd.DataFrame
    pool: np.ndarray | None = None

    def _summary(self) -> dict[str, Any]:
        sizes = {name: int(mask.sum()) for name, mask in self.masks.items()}
        return {"grid": self.grid.name, "n_voxels": sizes}

    def record(self) -> dict[str, dict[str, Any]]:
        """Write the regions down for a provenance.

        Returns
        -------
        dict of str to dict
            Region to digest and n_voxels, and what else there is to say: definition (where it is
            more than a file), n_lost, n_outside, resample.
        """
        record = {}
        for row in self.table.to_dict("records"):
            name = str(row["roi"])
            of_region = {"digest": digest(self.masks[name]), "n_voxels": row["n_voxels"]}
            # of a plain file on the grid of the images there is no more to say
            for key, usual in {"definition": row["file"], **_USUAL}.items():
                if row[key] != usual:
                    of_region[key] = row[key]
            record[name] = of_region
        return record


@checked
def read_regions(
    regions: Mapping[str, str | os.PathLike[str] | np.ndarray],
    like: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Grid,
    *,
    affine: str = "agree",
    resample: str = "never",
    space: str = "",
    brain_mask: str | os.PathLike[str] | None = None,
    only: Sequence[str] = (),
    folder: str | os.PathLike[str] = "",
    with_pool: bool = False,
) -> Regions:
    """Read regions and place them on the grid of a series.

    Parameters
    ----------
    regions : mapping of str to str, path-like or ndarray of bool
        Region to its definition: a file; a label of it (``aparc.nii.gz:lh.V1``,
        ``dseg.nii.gz:12``, ``lh.aparc.annot:cuneus``); a threshold of a map
        (``prob.nii.gz > 0.5``, ``maps.dscalar.nii:faces > 2.3``); ``sphere(x, y, z, radius)`` in mm
        of MNI space; ``wang15(LO1)`` or ``benson14(V1)`` of an installed neuropythy; the name of
        another region; or an expression of these (`parse_region`). Paths are files, whatever their
        names.
    like : path-like, sequence of path-like, or Grid
        A BOLD image (or any image on the same grid), the files of both hemispheres, or a grid.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.
    resample : {"never", "nearest"}
        What to do with a volume on another grid: refuse it, or take the nearest voxel.
    space : str
        Space of the series, such as ``"T1w"`` or ``"MNI152NLin2009cAsym"``, where its name and
        header do not say it.
    brain_mask : path-like, optional
        Mask of the brain on the grid of the series: how much of each region lies outside is told,
        and noise regressors come from all of its voxels that the task does not explain.
    only : sequence of str
        Regions that are wanted; the others are only parts of their expressions. Empty: all.
    folder : path-like
        Where relative names of files start; by default the current folder.
    with_pool : bool
        Whether regions that `only` leaves out are read, too, for noise regressors, where no brain
        mask is given.

    Returns
    -------
    Regions
        In the order given. Regions may overlap, with a warning.

    Raises
    ------
    InputError
        When a definition cannot be parsed, a file cannot be read or lies on another grid or in
        another space, a label is unknown, or a region is empty.

    Warns
    -----
    UserWarning
        When regions share voxels, lie partly outside the grid or the brain, a name says one
        hemisphere and most voxels lie in the other, a file names another subject, a label has no
        name, a file is resampled from a mirrored grid, or an atlas of neuropythy is read.

    Examples
    --------
    >>> import nibabel
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "dseg.nii.gz"
    >>> labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    >>> nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), file)
    >>> regions = read_regions({"LO": f"{file}:4 + {file}:5", "high": f"{file} > 5.5"}, file)
    >>> {name: np.flatnonzero(mask).tolist() for name, mask in regions.masks.items()}
    {'LO': [4, 5], 'high': [6, 7]}
    """
    if not regions:
        raise InputError("no ROI masks; give at least one as NAME=FILE.")
    if resample not in RESAMPLE:
        raise unknown_name("resample", resample, RESAMPLE)
    grid = like if isinstance(like, Grid) else grid_of(like, affine)
    if space:
        grid = replace(grid, space=space)
    arrays = {name: mask for name, mask in regions.items() if isinstance(mask, np.ndarray)}
    if arrays:
        check_masks(arrays, grid.shape)
    reader = RegionReader(regions, grid, affine, resample, Path(folder))
    inside = None
    if brain_mask is not None:
        inside = reader.placed(reader.file(os.fspath(brain_mask)), "")
    masks, rows = {}, []
    for name in only or regions:
        if name not in regions:
            raise unknown_name("ROI", name, regions)
        mask = reader.region(name)
        masks[name] = mask
        definition, file = reader.definition(name)
        if definition and not file and not mask.any():
            raise InputError(
                f"ROI '{name}' is empty: its definition {definition} selects nothing; check its "
                "parts, or leave the region out."
            )
        row = {
            "roi": name,
            "definition": definition,
            "file": file,
            "n_voxels": int(mask.sum()),
            "n_lost": reader.n_lost[name],
            "n_outside": -1 if inside is None else int(np.sum(mask & ~inside)),
            "resample": "nearest" if name in reader.resampled else "never",
        }
        rows.append(row)
    _check_filled(masks)
    pool = inside
    others = [name for name in regions if name not in masks]
    if with_pool and inside is None and others:
        pool = np.logical_or.reduce([reader.region(name) for name in others])
    result = Regions(masks=masks, grid=grid, table=pd.DataFrame(rows), pool=pool)
    # whoever gives an array knows what is in it
    defined = [name for name in masks if name not in arrays]
    _tell_doubts(result, defined, reader)
    return result


@checked
def read_masks(
    masks: Mapping[str, str | os.PathLike[str]],
    like: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    affine: str = "agree",
) -> dict[str, np.ndarray]:
    """Read ROI masks and check that they lie on the grid of a BOLD image.

    Parameters
    ----------
    masks : mapping of str to str or path-like
        ROI name to its file or definition, as for `read_regions`.
    like : path-like or sequence of path-like
        A BOLD image (or any image on the same grid), or the files of both hemispheres.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Returns
    -------
    dict of str to ndarray of bool, shape (i, j, k)
        Name to mask, in the order given; of shape (n_places,) for surfaces. Masks may overlap, with
        a warning.

    Raises
    ------
    InputError
        As `read_regions`; nothing is resampled.

    Warns
    -----
    UserWarning
        As `read_regions`.

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
    >>> masks = read_masks(simulated.masks, simulated.bold[0])
    >>> {name: int(mask.sum()) for name, mask in masks.items()}
    {'V1': 8}
    """
    return dict(read_regions(masks, like, affine=affine).masks)


def grid_of(like: File | Sequence[File], affine: str = "agree") -> Grid:
    """Read the grid of an image, of a series, or of the series of both hemispheres.

    Parameters
    ----------
    like : path-like or sequence of path-like
        One file, or the left and the right hemisphere.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Returns
    -------
    Grid
        Of a volume, 3-D or 4-D, of surfaces or of CIFTI.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    if isinstance(like, str | os.PathLike):
        like = [like]
    first = like[0]
    reader = find_reader(SERIES_READERS, first, "a series")
    if reader is SERIES_READERS[""]:
        return volume_grid(first, affine)
    header = open_series(like, affine)
    return header.grid


def region_files(regions: Mapping[str, File], name: str, folder: File = "") -> list[Path]:
    """List the files that the definition of a region names, with the tables of their labels.

    Parameters
    ----------
    regions : mapping of str to str or path-like
        As for `read_regions`.
    name : str
        The region.
    folder : path-like
        Where relative names of files start.

    Returns
    -------
    list of Path
        Whether they exist or not; without those of other regions that it names.

    Raises
    ------
    InputError
        When the definition cannot be parsed.
    """
    files = []
    tree = tree_of(regions[name], Path(folder))
    for source in sources_of(tree):
        is_region = source.text in regions and source.text != name
        if is_region:
            continue
        text, label = split_label(source.text)
        relative = Path(text).expanduser()
        path = Path(folder) / relative
        files.append(path)
        table = label_table(path)
        if label and table is not None:
            files.append(table)
    return list(dict.fromkeys(files))


def names_file(definition: str) -> bool:
    """Say whether a definition is the path of a file, or a pattern that files fit.

    Parameters
    ----------
    definition : str
        As for `read_regions`; the path of a file, or of a file with a label, may hold ``*``.

    Returns
    -------
    bool
        False for labels of a file without ``*``, thresholds, spheres, atlases, names of regions and
        expressions.

    Raises
    ------
    InputError
        When ``*`` stands in more than a file with or without a label.

    Examples
    --------
    >>> names_file("rois/sub-*_V1.nii.gz"), names_file("anat/*_dseg.nii.gz:12")
    (True, True)
    >>> names_file("dseg.nii.gz:12"), names_file("LO1 + LO2")
    (False, False)
    """
    if "*" in definition:
        try:
            pattern = parse_region(definition.replace("*", "_"))
        except InputError:
            return True  # a path, such as one with spaces
        if isinstance(pattern, Source):
            return True
        raise InputError(
            f"{definition}: '*' goes with FILE or FILE:LABEL alone; define that as a region of its "
            "own, and name it in the threshold or expression."
        )
    tree = parse_region(definition)
    if not isinstance(tree, Source):
        return False
    text, label = split_label(tree.text)
    return not label and bool(Path(text).suffix)


def _tell_doubts(regions: Regions, defined: Sequence[str], reader: RegionReader) -> None:
    """Warn of regions that reach beyond the grid or the brain, are another's, or share voxels."""
    for row in regions.table.to_dict("records"):
        roi, n_voxels = row["roi"], row["n_voxels"]
        n_lost, n_outside = row["n_lost"], row["n_outside"]
        if n_lost:
            warnings.warn(
                f"ROI '{roi}' reaches beyond {regions.grid.name}: {n_lost} voxels or vertices of "
                f"its files are not there ({n_voxels} are left).",
                stacklevel=3,
            )
        if n_outside == n_voxels:
            raise InputError(
                f"ROI '{roi}' lies wholly outside the brain mask ({n_voxels} voxels); check "
                "whether both are of one grid and subject."
            )
        if n_outside > 0:
            warnings.warn(
                f"ROI '{roi}': {n_outside} of {n_voxels} voxels lie outside the brain mask; leave "
                "them out (& the brain mask) where they hold no signal.",
                stacklevel=3,
            )
    for name in defined:
        reader.tell_hemisphere(name)
        reader.tell_subject(name)
    for name, other in itertools.combinations(defined, 2):
        first, second = regions.masks[name], regions.masks[other]
        shared = int(np.sum(first & second))
        if shared and np.array_equal(first, second):
            warnings.warn(
                f"ROIs '{name}' and '{other}' are the same {shared} voxels; check the files of the "
                "masks.",
                stacklevel=3,
            )
        elif shared:
            warnings.warn(
                f"ROIs '{name}' and '{other}' share {shared} voxels (of {int(first.sum())} and "
                f"{int(second.sum())}); what is found in these regions is not independent.",
                stacklevel=3,
            )


def check_masks(masks: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Check masks given as arrays: boolean, of the right shape, none empty.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (i, j, k)
        ROI name to mask.
    shape : tuple of int
        The grid of the BOLD images.

    Returns
    -------
    dict of str to ndarray of bool
        The same masks.

    Raises
    ------
    InputError
        When there is none, or one is not boolean, has another shape or no voxel.
    """
    if not masks:
        raise InputError("no ROI masks; give at least one.")
    for name, mask in masks.items():
        if mask.dtype != bool:
            raise InputError(
                f"ROI '{name}' has a mask of type {mask.dtype}; give booleans (read_masks makes "
                "them)."
            )
        if mask.shape != tuple(shape):
            raise InputError(
                f"ROI '{name}' has a mask of shape {mask.shape} but the images have "
                f"{tuple(shape)}; give a mask on their grid."
            )
    _check_filled(masks)
    return dict(masks)


def voxel_table(
    masks: Mapping[str, np.ndarray], subject: str, grid: Grid | None = None
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """List the voxels of all regions, one row per region and voxel.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (i, j, k) or (n_places,)
        ROI name to mask.
    subject : str
        Written into each row.
    grid : Grid, optional
        Needed for surfaces and CIFTI.

    Returns
    -------
    voxels : pandas.DataFrame
        Columns subject, roi, i, j, k, and hemisphere for surfaces and CIFTI; regions in order,
        voxels in C order; a voxel in two regions has two rows.
    union : ndarray of bool, shape (i, j, k) or (n_places,)
        Voxels in any region.
    positions : ndarray of int, shape (n_rows,)
        Position of each row's voxel among those of `union` (C order).
    """
    union = np.logical_or.reduce(list(masks.values()))
    numbers = np.full(union.shape, -1, dtype=np.int64)
    numbers[union] = np.arange(int(union.sum()))
    tables, positions = [], []
    for name, mask in masks.items():
        if grid is None or grid.places is None:
            table = pd.DataFrame(np.argwhere(mask), columns=["i", "j", "k"])
        else:
            chosen = grid.places[mask].reset_index(drop=True)
            table = chosen[["i", "j", "k", "hemisphere"]]
        table.insert(0, "subject", subject)
        table.insert(1, "roi", name)
        tables.append(table)
        positions.append(numbers[mask])
    voxels = pd.concat(tables, ignore_index=True)
    return voxels, union, np.concatenate(positions)


def _check_filled(masks: Mapping[str, np.ndarray]) -> None:
    empty = [name for name, mask in masks.items() if not mask.any()]
    if empty:
        raise InputError(
            f"ROI(s) without any voxel: {name_ids(empty)}; check the mask file or leave the region "
            "out."
        )
