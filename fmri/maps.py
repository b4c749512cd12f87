"""Maps over voxels or vertices: where patterns lie on them, and writing them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fmri.patterns import Patterns
from fmri.rois.regions import read_masks
from fmri.volumes import open_nifti
from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.store import atomic_path


def read_mask(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read one binary mask and its affine.

    Parameters
    ----------
    path : path-like
        3-D NIfTI image of 0 and 1.

    Returns
    -------
    tuple of ndarray
        Mask, bool, shape (i, j, k); affine, shape (4, 4), voxel indices to mm.

    Raises
    ------
    InputError
        When it cannot be read, holds other values or no voxel.
    """
    masks = read_masks({"searchlight": path}, path)
    affine = open_nifti(path).affine
    return masks["searchlight"], np.asarray(affine, dtype=np.float64)


def mask_places(
    patterns: Patterns, mask: np.ndarray, affine: np.ndarray
) -> tuple[Patterns, np.ndarray]:
    """Find where in a mask the voxels of patterns lie.

    Parameters
    ----------
    patterns : Patterns
        Responses; a voxel in two regions is taken once.
    mask : ndarray of bool, shape (i, j, k)
        The places of a map, in C order.
    affine : ndarray, shape (4, 4)
        Affine of the mask.

    Returns
    -------
    patterns : Patterns
        One row a voxel.
    places : ndarray of int, shape (n_voxels,)
        Place of each.

    Raises
    ------
    InputError
        When the patterns were made on another grid or have voxels outside the mask.
    """
    grid = patterns.provenance.get("grid")
    if grid:
        if tuple(grid["shape"]) != mask.shape:
            raise InputError(
                f"the patterns were made on the grid {tuple(grid['shape'])} but the mask has "
                f"{mask.shape}; give a mask on the grid of the BOLD files."
            )
        differences = np.asarray(grid["affine"]) - affine
        away = float(np.abs(differences).max())
        if not away <= 1e-3:
            raise InputError(
                "the mask has another affine than the patterns' BOLD files (largest difference "
                f"{away:.4g}); give a mask on the grid of the BOLD files."
            )
    once = ~patterns.voxels.duplicated(["i", "j", "k"]).to_numpy()
    patterns = patterns.select(voxels=once)
    index = patterns.voxels[["i", "j", "k"]].to_numpy()
    in_range = (index >= 0) & (index < mask.shape)
    on_grid = np.asarray(in_range.all(axis=1))
    fits = on_grid.copy()
    fits[on_grid] = mask[tuple(index[on_grid].T)]
    if not fits.all():
        names = [f"({i}, {j}, {k})" for i, j, k in index[~fits]]
        raise InputError(
            f"voxels of the patterns outside the mask: {name_ids(names)}; give the mask that the "
            "patterns were made with, or a larger one on the same grid."
        )
    position = np.full(mask.shape, -1, dtype=np.int64)
    position[mask] = np.arange(int(mask.sum()))
    return patterns, position[tuple(index.T)]


def vertex_places(patterns: Patterns, n_vertices: int) -> tuple[Patterns, np.ndarray]:
    """Find the vertices of surface patterns on a mesh.

    Parameters
    ----------
    patterns : Patterns
        With the vertex number as voxel index i, as of `read_surface_patterns`.
    n_vertices : int
        Number of vertices of the mesh.

    Returns
    -------
    patterns : Patterns
        One row a vertex.
    places : ndarray of int, shape (n,)
        Vertex of each.

    Raises
    ------
    InputError
        When the patterns are of voxels, or name vertices that the mesh lacks.
    """
    sides = []
    if "hemisphere" in patterns.voxels:
        sides = patterns.voxels["hemisphere"].unique().tolist()
    if len(sides) > 1:
        raise InputError(
            f"the patterns hold vertices of the hemispheres {name_ids(sides)} but a mesh is of "
            "one; give patterns of one hemisphere "
            "(patterns.select(voxels=patterns.voxels['hemisphere'] == 'L'))."
        )
    if (patterns.voxels[["j", "k"]] != 0).any(axis=None):
        raise InputError(
            f"these patterns are of voxels (of {name_ids(patterns.rois)}; j or k is not 0), not of "
            "vertices; give --mask, not --mesh."
        )
    patterns = patterns.select(voxels=~patterns.voxels.duplicated(["i"]).to_numpy())
    vertices = patterns.voxels["i"].to_numpy()
    if beyond := vertices[(vertices < 0) | (vertices >= n_vertices)].tolist():
        raise InputError(
            f"the patterns hold vertices {name_ids(beyond)} but the mesh has {n_vertices} (0 to n "
            "- 1); give the mesh that the responses were sampled on."
        )
    return patterns, vertices


@checked_with(finite=("affine",), shapes={"values": "voxels", "mask": "i j k", "affine": "4 4"})
def write_volume_map(
    path: str | os.PathLike[str], values: np.ndarray, mask: np.ndarray, affine: np.ndarray
) -> Path:
    """Write one value a voxel as NIfTI.

    Parameters
    ----------
    path : path-like
        ``.nii`` or ``.nii.gz``.
    values : ndarray, shape (n_voxels,)
        In C order of the mask.
    mask : ndarray of bool, shape (i, j, k)
        Where they belong; NaN outside.
    affine : ndarray, shape (4, 4)
        Affine of the mask and of the map.

    Returns
    -------
    Path
        The file, float32.

    Raises
    ------
    InputError
        When there is not one value a voxel.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> mask = np.ones((2, 2, 1), dtype=bool)
    >>> file = write_volume_map(Path(mkdtemp()) / "map.nii.gz", np.arange(4.0), mask, np.eye(4))
    >>> open_nifti(file).shape
    (2, 2, 1)
    """
    import nibabel

    if values.shape != (int(mask.sum()),):
        raise InputError(
            f"{len(values)} values for a mask of {int(mask.sum())} voxels; give one a voxel."
        )
    volume = np.full(mask.shape, np.nan, dtype=np.float32)
    volume[mask] = values
    image = nibabel.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as part:
        if Path(path).suffix == ".gz":
            import gzip

            # no time stamp, so that the same map is the same file
            part.write_bytes(gzip.compress(image.to_bytes(), mtime=0))
        else:
            part.write_bytes(image.to_bytes())
    return Path(path)


@checked_with(shapes={"values": "vertices"})
def write_surface_map(path: str | os.PathLike[str], values: np.ndarray, name: str = "") -> Path:
    """Write one value a vertex as GIfTI.

    Parameters
    ----------
    path : path-like
        ``.func.gii``.
    values : ndarray, shape (n_vertices,)
        NaN where there is none.
    name : str
        Name of the map, for viewers.

    Returns
    -------
    Path
        The file, float32.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> write_surface_map(Path(mkdtemp()) / "lh.func.gii", np.array([0.5, np.nan, 1.5])).name
    'lh.func.gii'
    """
    import nibabel

    array = nibabel.gifti.GiftiDataArray(
        np.asarray(values, dtype=np.float32),
        intent="NIFTI_INTENT_NONE",
        datatype="NIFTI_TYPE_FLOAT32",
        meta=nibabel.gifti.GiftiMetaData({"Name": name}),
    )
    image = nibabel.GiftiImage(darrays=[array])
    with atomic_path(path) as part:
        part.write_bytes(image.to_bytes())
    return Path(path)
