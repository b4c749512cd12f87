"""Where a series or a map has its values: the voxels of a volume, or the vertices of surfaces.

A grid is known from headers alone. Two files belong together when their grids are the same;
nothing is resampled unless that is asked for.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import file_labels
from fmri.volumes import AFFINE_TOLERANCE_MM, corner_distance, image_affine, open_nifti
from neurometamer.errors import InputError, name_ids

SIDES = {"L": "left", "R": "right"}
"""Hemisphere, as BIDS and the voxel tables name it, to the word for it."""

PLACE_COLUMNS = ("hemisphere", "i", "j", "k")

_CODES = {1: "scanner", 3: "Talairach", 4: "MNI152"}
"""What the sform code of a NIfTI header says about its space."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """The places of one file or of the two hemispheres of a run.

    Parameters
    ----------
    name : str
        File, for messages.
    shape : tuple of int
        Shape of an array over the places: (i, j, k) of a volume, else (n_places,), where the left
        hemisphere comes before the right.
    affine : ndarray, shape (4, 4), optional
        Of a volume, or of the voxels of a CIFTI file: voxel indices to mm.
    places : pandas.DataFrame, optional
        Of surfaces and CIFTI, one row a place: hemisphere (``"L"``, ``"R"``, or empty for voxels),
        i (vertex), j and k (0 for vertices).
    n_vertices : mapping of str to int
        Hemisphere to the number of vertices of its whole mesh.
    space : str
        Label of ``space-`` or ``tpl-`` in the file name, else what the header says (``"MNI152"``,
        ``"Talairach"``, ``"scanner"``), else empty.
    has_place : bool
        Whether the header says where the voxels lie.
    """

    name: str
    shape: tuple[int, ...]
    affine: np.ndarray | None = None
    places: pd.DataFrame | None = None
    n_vertices: Mapping[str, int] = field(default_factory=dict)
    space: str = ""
    has_place: bool = True

    @property
    def is_volume(self) -> bool:
        """Whether the places are the voxels of one volume.

        Returns
        -------
        bool
            False for surfaces and CIFTI.
        """
        return self.places is None

    @property
    def is_mni(self) -> bool:
        """Whether coordinates are those of an MNI template, as far as names and headers say.

        Returns
        -------
        bool
            True for any of its versions.
        """
        return self.space.startswith("MNI")

    def record(self) -> dict[str, Any]:
        """Write the grid down for a provenance.

        Returns
        -------
        dict
            ``shape``, ``affine`` (None for surfaces), ``space``, and ``n_vertices`` of surfaces.
        """
        affine = None if self.affine is None else self.affine.tolist()
        record: dict[str, Any] = {"shape": list(self.shape), "affine": affine}
        if not self.is_volume:
            record |= {"n_vertices": dict(self.n_vertices), "space": self.space}
        return record


def space_of(path: str | os.PathLike[str], code: int = 0) -> str:
    """Read in which space an image lies.

    Parameters
    ----------
    path : path-like
        The image; ``space-`` or ``tpl-`` of its name counts first.
    code : int
        sform or qform code of its header.

    Returns
    -------
    str
        Empty where nothing says it.

    Examples
    --------
    >>> space_of("sub-01_space-T1w_bold.nii.gz", 4), space_of("wsub01.nii", 4), space_of("a.nii")
    ('T1w', 'MNI152', '')
    """
    labels = file_labels(path)
    return labels.get("space") or labels.get("tpl") or _CODES.get(code, "")


def volume_grid(path: str | os.PathLike[str], affine: str = "agree") -> Grid:
    """Read the grid of a NIfTI image from its header.

    Parameters
    ----------
    path : path-like
        The image.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Returns
    -------
    Grid
        Of its first three dimensions.

    Raises
    ------
    InputError
        When it is no image of a volume, or its header contradicts itself.
    """
    image = open_nifti(path)
    if len(image.shape) < 3:
        raise InputError(f"{Path(path).name} is {len(image.shape)}-D; give an image of a volume.")
    transform = image_affine(path, image, affine)
    header = image.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    code = max(codes)
    i, j, k = map(int, image.shape[:3])
    return Grid(
        name=Path(path).name,
        shape=(i, j, k),
        affine=transform,
        space=space_of(path, code),
        has_place=code > 0,
    )


def surface_grid(
    path: str | os.PathLike[str], sides: Mapping[str, int], space: str | None = None
) -> Grid:
    """Build the grid of whole meshes.

    Parameters
    ----------
    path : path-like
        File, for messages; by default its name says the space.
    sides : mapping of str to int
        Hemisphere to its number of vertices.
    space : str, optional
        Label of the space.

    Returns
    -------
    Grid
        All vertices, left before right.

    Examples
    --------
    >>> grid = surface_grid("sub-01_hemi-L_space-fsaverage5_bold.func.gii", {"L": 3, "R": 2})
    >>> grid.shape, grid.space, grid.places["i"].tolist()
    ((5,), 'fsaverage5', [0, 1, 2, 0, 1])
    """
    ordered = {side: sides[side] for side in sorted(sides)}
    parts = []
    for side, n_vertices in ordered.items():
        index = np.arange(n_vertices)
        parts.append(pd.DataFrame({"hemisphere": side, "i": index, "j": 0, "k": 0}))
    return Grid(
        name=Path(path).name,
        shape=(sum(ordered.values()),),
        places=pd.concat(parts, ignore_index=True),
        n_vertices=ordered,
        space=space_of(path) if space is None else space,
    )


def join_hemispheres(grids: Sequence[Grid]) -> Grid:
    """Put the grids of the two hemispheres of one run side by side.

    Parameters
    ----------
    grids : sequence of Grid
        Left, right; or one of any kind, which is returned.

    Returns
    -------
    Grid
        Of all.
    """
    first = grids[0]
    if len(grids) == 1:
        return first
    sides: dict[str, int] = {}
    for grid in grids:
        sides |= grid.n_vertices
    joined = surface_grid(first.name, sides, first.space)
    names = [grid.name for grid in grids]
    both = " and ".join(names)
    return replace(joined, name=both)


def affine_text(affine: np.ndarray) -> str:
    """Write an affine on one line.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        Voxel indices to mm.

    Returns
    -------
    str
        Its three rows, separated by semicolons, in brackets.

    Examples
    --------
    >>> affine_text(np.diag([2.0, 2.0, 2.5, 1.0]))
    '[2 0 0 0; 0 2 0 0; 0 0 2.5 0]'
    """
    rows = []
    for row in affine[:3]:
        numbers = [f"{value + 0.0:.6g}" for value in row]
        line = " ".join(numbers)
        rows.append(line)
    joined = "; ".join(rows)
    return f"[{joined}]"


def are_mirrored(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether one of two affines exchanges left and right with respect to the other.

    Parameters
    ----------
    first, second : ndarray, shape (4, 4)
        Voxel indices to mm.

    Returns
    -------
    bool
        Whether their determinants differ in sign.
    """
    of_first = np.linalg.det(first[:3, :3])
    of_second = np.linalg.det(second[:3, :3])
    return bool(of_first * of_second < 0)


def grid_difference(own: Grid, like: Grid) -> str:
    """Say in what two grids differ.

    Parameters
    ----------
    own, like : Grid
        Two grids.

    Returns
    -------
    str
        Empty when they are the same: equal shapes, and affines that place no corner of the volume
        more than 0.1 mm apart (`fmri.volumes.AFFINE_TOLERANCE_MM`); for surfaces the same vertices
        and voxels. Else a clause whose subject is `own`, with both affines.
    """
    if own.is_volume != like.is_volume:
        kinds = ["a volume" if grid.is_volume else "of surfaces" for grid in (own, like)]
        return f"is {kinds[0]} but {like.name} is {kinds[1]}"
    if own.is_volume:
        assert own.affine is not None and like.affine is not None
        both = f"{affine_text(own.affine)} against {affine_text(like.affine)}"
        if own.shape != like.shape:
            shapes = f"the grid {own.shape} but {like.name} has {like.shape}"
            return f"has {shapes}, with the affines {both}"
        away = corner_distance(own.affine, like.affine, own.shape)
        if away <= AFFINE_TOLERANCE_MM:
            return ""
        mirrored = ""
        if are_mirrored(own.affine, like.affine):
            mirrored = "; they are mirror images of each other: left and right are exchanged"
        differences = np.abs(own.affine - like.affine)
        largest = float(differences.max())
        return (
            f"and {like.name} have the same shape but another affine (largest difference "
            f"{largest:.4g}), {both}, and place voxels up to {away:.3g} mm apart{mirrored}"
        )
    for side in sorted(set(own.n_vertices) | set(like.n_vertices)):
        ours, theirs = own.n_vertices.get(side, 0), like.n_vertices.get(side, 0)
        if ours != theirs:
            return (
                f"has {ours} vertices in the {SIDES[side]} hemisphere but {like.name} has {theirs}"
            )
    if own.space and like.space and own.space != like.space:
        return f"is in the space {own.space} but {like.name} is in {like.space}"
    assert own.places is not None and like.places is not None
    if not own.places.equals(like.places):
        return f"has other places ({own.shape[0]}) than {like.name} ({like.shape[0]})"
    return ""


def check_grid(own: Grid, like: Grid, *, cure: str = "") -> None:
    """Refuse two grids that differ.

    Parameters
    ----------
    own, like : Grid
        Two grids.
    cure : str
        What to do about it.

    Raises
    ------
    InputError
        With both shapes or both affines.
    """
    difference = grid_difference(own, like)
    if difference:
        cure = cure or "resample one onto the other yourself (nearest neighbor for masks)"
        raise InputError(f"{own.name} {difference}; {cure}.")


def check_same_grid(
    path: str | os.PathLike[str], like: str | os.PathLike[str], *, affine: str = "agree"
) -> None:
    """Check that two images have the same voxel grid; nothing is ever resampled here.

    Parameters
    ----------
    path, like : path-like
        NIfTI images; the first three dimensions and the affine are compared.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Raises
    ------
    InputError
        When shape or affine disagree (affine: by more than 0.1 mm at a corner of the volume).
    """
    own = volume_grid(path, affine)
    other = volume_grid(like, affine)
    check_grid(own, other)


def check_spaces(own: Grid, like: Grid, *, is_same_grid: bool) -> None:
    """Refuse a volume of another space: coordinates of a template are not those of a person.

    Spaces that are known from the code of a header only count where grids differ, as programs set
    the code carelessly.

    Parameters
    ----------
    own : Grid
        Volume that values are taken from; surfaces are not compared.
    like : Grid
        Grid that they are for.
    is_same_grid : bool
        Whether both have the same voxels.

    Raises
    ------
    InputError
        When the spaces are two, but for two MNI templates.

    Warns
    -----
    UserWarning
        When both are MNI templates, and two of them.
    """
    if not own.space or own.space == like.space or not own.is_volume:
        return
    codes = list(_CODES.values())
    is_guess = own.space in codes
    known = bool(like.space) and not is_guess and like.space not in codes
    if own.is_mni and like.is_mni:
        if known:
            warnings.warn(
                f"{own.name} is in {own.space} and {like.name} in {like.space}, two MNI templates "
                "that differ by millimeters.",
                stacklevel=2,
            )
        return
    of_template = own.is_mni or like.is_mni
    may_differ = own.is_mni or not is_guess
    if known or (of_template and may_differ and not is_same_grid):
        there = f"in {like.space}" if like.space else "in a space that nothing says"
        raise InputError(
            f"{own.name} is in the space {own.space} but {like.name} is {there}; regions of a "
            "template do not fit a person's own brain. Give the region in the space of the images, "
            "or say theirs: space (--space)."
        )


def nearest_voxels(own: Grid, like: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Find, for each voxel of a volume, the voxel of another volume that is nearest to its center.

    Parameters
    ----------
    own : Grid
        Volume that values are taken from.
    like : Grid
        Volume whose voxels get values.

    Returns
    -------
    index : ndarray of int, shape (3, n_voxels)
        Nearest voxel of `own` to each voxel of `like`, in C order.
    inside : ndarray of bool, shape (n_voxels,)
        Whether there is one; where not, the index is 0.

    Notes
    -----
    Equal to ``nilearn.image.resample_to_img(..., interpolation="nearest")``, but for the outer half
    of the first and last voxels of the file, which nilearn (scipy) leaves out.
    """
    assert own.affine is not None and like.affine is not None
    transform = np.linalg.inv(own.affine) @ like.affine
    centers = np.indices(like.shape).reshape(3, -1)
    exact = transform[:3, :3] @ centers + transform[:3, 3:]
    # affines are rounded: a center in the middle stays on one side
    index = np.floor(exact + 0.5 + 1e-6).astype(np.int64)
    sizes = np.array(own.shape)[:, None]
    in_range = (index >= 0) & (index < sizes)
    inside = np.asarray(in_range.all(axis=0))
    return np.where(inside, index, 0), inside


def places_in(own: Grid, like: Grid) -> np.ndarray:
    """Find the places of one surface grid in another.

    Parameters
    ----------
    own : Grid
        Grid that values are taken from.
    like : Grid
        Grid whose places get values.

    Returns
    -------
    ndarray of int, shape (n_places,)
        Position in `own` of each place of `like`; −1 where it has none.

    Raises
    ------
    InputError
        When a hemisphere has another number of vertices, when they share no hemisphere, or when
        both have voxels of different affines.
    """
    assert own.places is not None and like.places is not None
    shared = [side for side in own.n_vertices if side in like.n_vertices]
    if not shared:
        sides = [SIDES[side] for side in own.n_vertices]
        there = [SIDES[side] for side in like.n_vertices]
        raise InputError(
            f"{own.name} is of the {name_ids(sides)} hemisphere, but {like.name} has only the "
            f"{name_ids(there)}; give the file of the other hemisphere, too."
        )
    for side in shared:
        ours, theirs = own.n_vertices[side], like.n_vertices[side]
        if ours != theirs:
            raise InputError(
                f"{own.name} has {ours} vertices in the {SIDES[side]} hemisphere but {like.name} "
                f"has {theirs}; give the file of the same mesh."
            )
    if own.affine is not None and like.affine is not None:
        away = float(np.abs(own.affine - like.affine).max())
        if away > 1e-3:
            raise InputError(
                f"the voxels of {own.name} have the affine {affine_text(own.affine)}, those of "
                f"{like.name} {affine_text(like.affine)}; give files of one space."
            )
    names = list(PLACE_COLUMNS)
    keys = pd.MultiIndex.from_frame(own.places[names])
    wanted = pd.MultiIndex.from_frame(like.places[names])
    return keys.get_indexer(wanted)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesHeader:
    """What a series says of itself without its values.

    Parameters
    ----------
    n_volumes : int
        Number of time points.
    grid : Grid
        Where it has values.
    t_r : float, optional
        Repetition time in seconds; None where the header says nothing that could be one.
    shape : tuple of int
        Of the image (i, j, k, volumes), to compare the number of slices with; empty for surfaces.
    has_unit : bool
        Whether the header says the unit of `t_r`.
    itemsize : int
        Bytes of a value as it is read.
    description : str
        Free text of the header.
    """

    n_volumes: int
    grid: Grid
    t_r: float | None = None
    shape: tuple[int, ...] = ()
    has_unit: bool = True
    itemsize: int = 8
    description: str = ""
