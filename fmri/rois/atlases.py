"""Regions that are no files of the user: spheres, and atlases of an installed neuropythy."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from pathlib import Path

import numpy as np

from fmri.grids import Grid, surface_grid
from fmri.surfaces import read_overlay
from neurometamer.errors import InputError, unknown_name

LABELS_OF = {
    "wang15_mplbl": [
        "V1v",
        "V1d",
        "V2v",
        "V2d",
        "V3v",
        "V3d",
        "hV4",
        "VO1",
        "VO2",
        "PHC1",
        "PHC2",
        "MST",
        "hMT",
        "LO2",
        "LO1",
        "V3b",
        "V3a",
        "IPS0",
        "IPS1",
        "IPS2",
        "IPS3",
        "IPS4",
        "IPS5",
        "SPL1",
        "FEF",
    ],
    "benson14_varea": [
        "V1",
        "V2",
        "V3",
        "hV4",
        "VO1",
        "VO2",
        "LO1",
        "LO2",
        "TO1",
        "TO2",
        "V3b",
        "V3a",
    ],
}
"""Name of a map as neuropythy writes it → the regions that its labels 1, 2, … are."""

ATLASES = {
    "wang15": ("wang15_mplbl", "Wang, Mruczek, Arcaro & Kastner (2015) Cerebral Cortex 25, 3911"),
    "benson14": (
        "benson14_varea",
        "Benson, Butt, Brainard & Aguirre (2014) PLoS Computational Biology 10, e1003538",
    ),
}
"""Atlas that an installed neuropythy holds → name of its map, and what to cite."""

_NESTED = (642, 2562, 10242, 40962, 163842)
"""Numbers of vertices of fsaverage3 to fsaverage: the first of each are the smaller one's."""


def sphere_mask(center: tuple[float, float, float], radius: float, like: Grid) -> np.ndarray:
    """Find the voxels whose centers lie in a sphere.

    Parameters
    ----------
    center : tuple of float
        x, y, z in mm.
    radius : float
        In mm, > 0; the surface belongs to the sphere.
    like : Grid
        A volume in the space of the coordinates.

    Returns
    -------
    ndarray of bool, shape (i, j, k)
        The mask; it may be empty.

    Raises
    ------
    InputError
        When the grid is no volume in an MNI space.

    Examples
    --------
    >>> grid = Grid(name="a", shape=(5, 5, 5), affine=np.diag([2.0, 2, 2, 1]), space="MNI152")
    >>> int(sphere_mask((4, 4, 4), 2, grid).sum())
    7
    """
    if like.affine is None or not like.is_volume:
        raise InputError(
            f"a sphere in mm needs a volume, but {like.name} is of surfaces; give labels of "
            "vertices."
        )
    if not like.is_mni:
        where = f"is in the space {like.space}" if like.space else "does not say its space"
        raise InputError(
            f"MNI coordinates cannot be used here: {like.name} {where}. Give images in an MNI "
            "space (space-MNI… in their names), or say that they are: "
            'space="MNI152NLin2009cAsym" (--space).'
        )
    are_finite = np.isfinite([*center, radius]).all()
    if not are_finite or radius <= 0:
        raise InputError(f"a sphere needs x, y, z in mm and a radius above 0, not {radius:g} mm.")
    index = np.indices(like.shape).reshape(3, -1)
    turn, shift = like.affine[:3, :3], like.affine[:3, 3:]
    points = turn @ index + shift
    middle = np.array(center)[:, None]
    distances = np.linalg.norm(points - middle, axis=0)
    inside = np.asarray(distances <= radius + 1e-9)
    return inside.reshape(like.shape)


def atlas_mask(atlas: str, region: str, like: Grid) -> tuple[np.ndarray, Grid]:
    """Find a region of an atlas of fsaverage in an installed neuropythy.

    Parameters
    ----------
    atlas : str
        One of `ATLASES`.
    region : str
        One of `LABELS_OF`; ``"V1"``, ``"V2"`` and ``"V3"`` of ``wang15`` are their ventral and
        dorsal parts together.
    like : Grid
        Surfaces of fsaverage, or of fsaverage3 to fsaverage6, whose vertices are its first.

    Returns
    -------
    mask : ndarray of bool, shape (n_places,)
        Both hemispheres, as far as `like` has them.
    grid : Grid
        Its grid.

    Raises
    ------
    InputError
        When neuropythy is not installed, the grid is another, or the region is unknown.

    Warns
    -----
    UserWarning
        Always: with the license of neuropythy, and what to cite.
    """
    stem, citation = ATLASES[atlas]
    is_other = bool(like.space) and not like.space.startswith("fsaverage")
    sizes = set(like.n_vertices.values())
    if like.is_volume or is_other or not sizes <= set(_NESTED):
        raise InputError(
            f"{atlas}({region}) is an atlas of fsaverage, and {like.name} is not on it; give its "
            "labels as a file on the grid of the images (neuropythy atlas writes them)."
        )
    names = LABELS_OF[stem]
    parts_of = (region, f"{region}v", f"{region}d")
    wanted = [name for name in names if name in parts_of]
    if not wanted:
        raise unknown_name(f"region of {atlas}", region, names)
    spec = importlib.util.find_spec("neuropythy")  # which is not imported
    folders = spec.submodule_search_locations if spec else None
    files: dict[str, Path] = {}
    for folder in folders or []:
        surfaces = Path(folder, "lib/data/fsaverage/surf")
        for file in sorted(surfaces.glob(f"[lr]h.{stem}.*mgz")):
            side = file.name[0].upper()
            files[side] = file
    if len(files) < 2:
        raise InputError(
            f"no map {stem} of an installed neuropythy; install it (pip install neuropythy, "
            "license AGPL-3.0), or give your own file of labels."
        )
    keys = [names.index(name) + 1 for name in wanted]
    parts = []
    for side, n_vertices in like.n_vertices.items():
        maps = read_overlay(files[side])
        labels = maps[0]
        if len(labels) < n_vertices:
            raise InputError(f"{files[side]} has {len(labels)} vertices; install neuropythy again.")
        part = np.isin(labels[:n_vertices], keys)
        parts.append(part)
    try:
        version = importlib.metadata.version("neuropythy")
    except importlib.metadata.PackageNotFoundError:
        version = "(unknown version)"
    warnings.warn(
        f"{atlas} is read from the installed neuropythy {version} (license AGPL-3.0); cite "
        f"{citation}.",
        stacklevel=2,
    )
    return np.concatenate(parts), surface_grid(atlas, like.n_vertices, like.space)
