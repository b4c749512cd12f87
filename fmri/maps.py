"""Maps over voxels or vertices as NIfTI and GIfTI, meshes, and responses of vertices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import file_labels, find_reader
from fmri.bold import open_nifti
from fmri.patterns import Patterns
from fmri.rois import read_masks
from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import reading
from neurometamer.store import atomic_path, read_table


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


@checked
def read_mesh(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read a surface.

    Parameters
    ----------
    path : path-like
        GIfTI (``.surf.gii``) or FreeSurfer geometry (``lh.white``).

    Returns
    -------
    points : ndarray of float64, shape (n_vertices, 3)
        Coordinates in mm.
    triangles : ndarray of int64, shape (n_triangles, 3)
        Corners.

    Raises
    ------
    InputError
        When the file is missing or no surface.

    Examples
    --------
    >>> import nibabel
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "lh.white"
    >>> corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> nibabel.freesurfer.write_geometry(file, corners, np.array([[0, 1, 2]]))
    >>> points, triangles = read_mesh(file)
    >>> points.shape, triangles.tolist()
    ((3, 3), [[0, 1, 2]])
    """
    read = find_reader(SURFACE_READERS["mesh"], path, "a mesh")
    return read(path)


def _read_freesurfer_mesh(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    from nibabel.freesurfer import read_geometry

    with reading(path, "GIfTI or FreeSurfer geometry"):
        points, triangles, *_ = read_geometry(str(path))
    return points.astype(np.float64), triangles.astype(np.int64)


def _read_gifti_mesh(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    image = _open_gifti(path)
    with reading(path, "a readable surface"):
        points = image.agg_data("NIFTI_INTENT_POINTSET")
        triangles = image.agg_data("NIFTI_INTENT_TRIANGLE")
    if not (isinstance(points, np.ndarray) and isinstance(triangles, np.ndarray)):
        raise InputError(
            f"{path} holds no surface (one set of points and one of triangles); give a .surf.gii "
            "file."
        )
    return points.astype(np.float64), triangles.astype(np.int64)


def _open_gifti(path: str | os.PathLike[str]) -> Any:
    import nibabel

    with reading(path, "a readable GIfTI file"):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.GiftiImage):
        raise InputError(f"{path} is a {type(image).__name__}, not GIfTI; give a .gii file.")
    return image


@checked
def read_surface_patterns(
    values: str | os.PathLike[str],
    table: str | os.PathLike[str],
    *,
    subject: str = "",
    roi: str = "surface",
    hemisphere: str | None = None,
    labels: str | os.PathLike[str] | None = None,
) -> Patterns:
    r"""Read responses of vertices: one map an observation, and a table that says which is which.

    Parameters
    ----------
    values : path-like
        GIfTI (``.func.gii``), one data array an observation; NaN throughout for vertices without
        data.
    table : path-like
        CSV or TSV, one row a data array, with the column condition; presentation, run and session
        where known.
    subject, roi : str
        Names.
    hemisphere : {"L", "R"}, optional
        By default what the file name says (``hemi-L``, ``lh.``); else the voxels get no such
        column.
    labels : path-like, optional
        Regions of the vertices, GIfTI (``.label.gii``) or FreeSurfer (``.annot``): `roi` is then
        the name of the label, and vertices without one (``???``, ``unknown``, ``Medial_wall`` or
        label 0) are left out.

    Returns
    -------
    Patterns
        Vertex number as voxel index i; vertices with NaN are left out.

    Raises
    ------
    InputError
        When a file cannot be read, rows and data arrays differ in number, a vertex has values in
        some rows only, or labels are of another surface.

    See Also
    --------
    fmri.join_regions : Put both hemispheres side by side.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> file = write_surface_map(folder / "lh.func.gii", np.array([0.5, np.nan, 1.5]))
    >>> _ = (folder / "maps.csv").write_text("condition\ncat\n")
    >>> patterns = read_surface_patterns(file, folder / "maps.csv")
    >>> patterns.values.tolist(), patterns.voxels["i"].tolist()
    ([[0.5, 1.5]], [0, 2])
    """
    rows = read_table(table, required=["condition"])
    read = find_reader(SURFACE_READERS["maps"], values, "responses of vertices")
    data = read(values)
    if len(data) != len(rows):
        raise InputError(
            f"{values} has {len(data)} data arrays but {Path(table).name} has {len(rows)} rows; "
            "give the table of these data arrays, one row each."
        )
    known = np.isfinite(data)
    in_all = known.all(axis=0)
    in_some = known.any(axis=0)
    partly = np.flatnonzero(in_some & ~in_all).tolist()
    if partly:
        raise InputError(
            f"vertices with values in some maps only: {name_ids(partly)}; set them to NaN in all, "
            "or fill."
        )
    regions = np.full(data.shape[1], roi, dtype=object)
    if labels is not None:
        if not Path(labels).is_file():
            raise InputError(f"{labels} does not exist; give a .label.gii or .annot file.")
        read_labels = find_reader(SURFACE_READERS["labels"], labels, "labels of vertices")
        regions = read_labels(labels)
        if len(regions) != data.shape[1]:
            raise InputError(
                f"{Path(labels).name} has labels of {len(regions)} vertices but there are "
                f"responses of {data.shape[1]}; give the labels of the same surface."
            )
    kept = np.flatnonzero(in_all & (regions != ""))
    voxels = pd.DataFrame({"subject": subject, "roi": regions[kept], "i": kept, "j": 0, "k": 0})
    side = hemisphere
    if side is None:
        start = Path(values).name.split(".")[0]
        side = file_labels(values).get("hemi") or {"lh": "L", "rh": "R"}.get(start, "")
        side = side if side in ("L", "R") else ""
    if side:
        voxels = voxels.assign(hemisphere=side)
    rows = rows.assign(condition=rows["condition"].astype(str))
    if "presentation" not in rows:
        rows = rows.assign(presentation=rows.groupby("condition").cumcount() + 1)
    for name in ("run", "session"):
        known = rows.get(name, pd.Series("", index=rows.index)).astype(object)
        rows[name] = known.where(known.notna(), "")
    return Patterns(
        values=data[:, kept],
        observations=rows,
        voxels=voxels,
        provenance={"n_vertices": data.shape[1]},
    )


_NO_LABEL = ("???", "unknown", "medial_wall")


def _read_gifti_maps(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one value a vertex of each data array: (n_arrays, n_vertices) float32."""
    image = _open_gifti(path)
    arrays = [np.asarray(array.data, dtype=np.float32) for array in image.darrays]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        raise InputError(
            f"{path} must hold data arrays of one value a vertex, all of one length, not of the "
            f"shapes {name_ids(shapes)}; give a .func.gii file."
        )
    return np.array(arrays)


def _read_gifti_labels(path: str | os.PathLike[str]) -> np.ndarray:
    image = _open_gifti(path)
    keys = image.agg_data("NIFTI_INTENT_LABEL")
    if not isinstance(keys, np.ndarray) or keys.ndim != 1:
        raise InputError(
            f"{path} does not hold one label a vertex; give a .label.gii or .annot file."
        )
    names = image.labeltable.get_labels_as_dict()
    names.pop(0, None)
    return _named_regions(keys, names)


def _read_annotation(path: str | os.PathLike[str]) -> np.ndarray:
    from nibabel.freesurfer import read_annot

    try:
        keys, _, names = read_annot(str(path))
    except Exception as error:
        raise InputError(
            f"{path} is not a readable FreeSurfer annotation ({error}); copy or make it again."
        ) from error
    return _named_regions(keys, {number: name.decode() for number, name in enumerate(names)})


def _named_regions(keys: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """Name the region of each vertex; empty where there is none."""
    named = {key: name for key, name in names.items() if name.lower() not in _NO_LABEL}
    regions = [named.get(int(key), "") for key in keys]
    return np.array(regions, dtype=object)


SURFACE_READERS: dict[str, dict[str, Callable[[str | os.PathLike[str]], Any]]] = {
    "mesh": {
        ".gii": _read_gifti_mesh,
        "": _read_freesurfer_mesh,
    },
    "maps": {
        ".gii": _read_gifti_maps,
    },
    "labels": {
        ".gii": _read_gifti_labels,
        ".annot": _read_annotation,
    },
}
"""What a file of a surface holds → its ending → its reader. Meshes are points (n_vertices, 3) and
triangles, maps (n_maps, n_vertices) float32, labels (n_vertices,) names of regions or ``""``. The
ending ``""`` is for all others. A format is added by an entry here."""


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
