"""Surfaces: meshes, responses and labels of vertices, and time series on them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.parsers.expat import ParserCreate

import numpy as np
import pandas as pd

from fmri.bids import TR_RANGE_S, file_labels, find_reader
from fmri.grids import SIDES, SeriesHeader, surface_grid
from fmri.patterns import Patterns
from fmri.volumes import load_mgh, stored_values
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import reading
from neurometamer.store import read_table


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
    >>> from fmri import write_surface_map
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
    side = hemisphere_of(values) if hemisphere is None else hemisphere
    if side:
        voxels = voxels.assign(hemisphere=side)
    rows = rows.assign(condition=rows["condition"].astype(str))
    if "presentation" not in rows:
        rows = rows.assign(presentation=rows.groupby("condition").cumcount() + 1)
    for name in ("run", "session"):
        nothing = pd.Series("", index=rows.index)
        known = rows.get(name, nothing).astype(object)
        rows[name] = known.where(known.notna(), "")
    return Patterns(
        values=data[:, kept],
        observations=rows,
        voxels=voxels,
        provenance={"n_vertices": data.shape[1]},
    )


_NO_LABEL = ("???", "unknown", "medial_wall")
_GEOMETRY = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")
"""Intents of data arrays that are no values of vertices."""


def _read_gifti_maps(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one value a vertex of each data array: (n_arrays, n_vertices) float32."""
    import nibabel

    image = _open_gifti(path)
    with reading(path, "a readable GIfTI file"):
        arrays = [np.asarray(array.data, dtype=np.float32) for array in image.darrays]
    shapes = [array.shape for array in arrays]
    codes = nibabel.nifti1.intent_codes.niistring
    is_surface = any(codes[array.intent] in _GEOMETRY for array in image.darrays)
    if len(arrays) == 1 and arrays[0].ndim == 2 and not is_surface:
        return np.ascontiguousarray(arrays[0].T)
    if len(set(shapes)) != 1 or len(shapes[0]) != 1 or is_surface:
        raise _no_maps(path, shapes)
    return np.array(arrays)


def _no_maps(path: str | os.PathLike[str], shapes: Iterable[tuple[int, ...]]) -> InputError:
    return InputError(
        f"{path} must hold data arrays of one value a vertex, all of one length, not of the shapes "
        f"{name_ids(shapes)}; give a .func.gii file."
    )


def _read_gifti_labels(path: str | os.PathLike[str]) -> np.ndarray:
    image = _open_gifti(path)
    with reading(path, "a readable GIfTI file"):
        keys = image.agg_data("NIFTI_INTENT_LABEL")
        names = image.labeltable.get_labels_as_dict()
    if not isinstance(keys, np.ndarray) or keys.ndim != 1:
        raise InputError(
            f"{path} does not hold one label a vertex; give a .label.gii or .annot file."
        )
    names.pop(0, None)
    return _named_regions(path, keys, names)


def _read_annotation(path: str | os.PathLike[str]) -> np.ndarray:
    from nibabel.freesurfer import read_annot

    with reading(path, "a readable FreeSurfer annotation"), warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged table of colors
        keys, _, names = read_annot(str(path))
        by_key = {number: name.decode() for number, name in enumerate(names)}
    return _named_regions(path, keys, by_key)


def _named_regions(
    path: str | os.PathLike[str], keys: np.ndarray, names: Mapping[int, str]
) -> np.ndarray:
    """Name the region of each vertex; empty where there is none."""
    unique, position = np.unique(keys, return_inverse=True)
    used = [int(key) for key in unique]
    unnamed = [key for key in used if key > 0 and key not in names]
    if unnamed:
        warnings.warn(
            f"{Path(path).name}: vertices have labels without a name in its table: "
            f"{name_ids(unnamed)}; they are in no region.",
            stacklevel=2,
        )
    regions = []
    for key in used:
        name = str(names.get(key, ""))
        if name.lower() in _NO_LABEL:
            name = ""
        regions.append(name)
    return np.array(regions, dtype=object)[position.reshape(-1)]


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


# -------------------------------------------------------------------------------------- hemispheres

_WORDS = {"lh": "L", "rh": "R", "left": "L", "right": "R", "l": "L", "r": "R"}

_OTHER_NAMES = (
    (r"(?<=hemi-)[LR](?=[_.])", {"L": "R", "R": "L"}),
    (r"(?<![A-Za-z])[lr]h(?=[._])", {"lh": "rh", "rh": "lh"}),
    (r"(?<=[.])[LR](?=[.])", {"L": "R", "R": "L"}),
)
"""How the names of the two hemispheres' files differ: in BIDS, FreeSurfer and the HCP."""


def named_hemisphere(name: str) -> str:
    """Read which hemisphere a name says.

    Parameters
    ----------
    name : str
        Name of a region or of its file.

    Returns
    -------
    str
        ``"L"``, ``"R"``, or empty where it says none, or both, or is one letter alone.

    Examples
    --------
    >>> [named_hemisphere(name) for name in ("lhV1", "V1_R", "LO", "LeftV4", "r")]
    ['L', 'R', '', 'L', '']
    """
    # "lhV1" and "LeftV4" are two words each, "rhinal" is one; "V1_r2" is rather the second run than
    # the right side
    spaced = re.sub(r"^(LH|RH)(?=[A-Z0-9])|^([LR])(?=V[0-9])", r"\1\2 ", name)
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", spaced)
    spaced = re.sub(r"(?<=[0-9])(lh|rh|left|right|l|r)$", r" \1", spaced, flags=re.IGNORECASE)
    spaced = re.sub(r"\b(lh?|rh?|left|right)(?=hemi)", r"\1 ", spaced, flags=re.IGNORECASE)
    words = re.split(r"[^a-z0-9]+", spaced.lower())
    if len(name) == 1:
        return ""
    sides = set()
    for word in words:
        if word in _WORDS:
            sides.add(_WORDS[word])
    if len(sides) == 1:
        return sides.pop()
    return ""


def hemisphere_of(path: str | os.PathLike[str]) -> str:
    """Read of which hemisphere a surface file is.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        ``"L"`` or ``"R"`` as its name says (``hemi-L``, ``lh.``, ``.L.``), else as a GIfTI file
        says (AnatomicalStructurePrimary), else empty.

    Examples
    --------
    >>> hemisphere_of("sub-01_hemi-R_bold.func.gii"), hemisphere_of("lh.V1.label")
    ('R', 'L')
    """
    name = Path(path).name
    label = file_labels(path).get("hemi", "")
    if label in ("L", "R"):
        return label
    for pattern, _ in _OTHER_NAMES:
        words = re.findall(pattern, name)
        sides = {_WORDS[word.lower()] for word in words}
        if len(sides) == 1:
            return sides.pop()
    is_gifti = name.lower().endswith(".gii")
    if is_gifti and Path(path).is_file():
        image = _open_gifti(path)
        parts = [image, *image.darrays]
        for part in parts:
            meta = dict(part.meta or {})
            said = str(meta.get("AnatomicalStructurePrimary", ""))
            for side, word in SIDES.items():
                if said.lower().endswith(word):
                    return side
    return ""


def partner_name(path: str | os.PathLike[str]) -> Path | None:
    """Name the file of the other hemisphere.

    Parameters
    ----------
    path : path-like
        File of one hemisphere.

    Returns
    -------
    Path or None
        In the same folder, whether it exists or not; None where the name does not say a hemisphere.

    Examples
    --------
    >>> partner_name("sub-01_hemi-L_bold.func.gii").name, partner_name("lh.bold.mgz").name
    ('sub-01_hemi-R_bold.func.gii', 'rh.bold.mgz')
    """
    for pattern, other in _OTHER_NAMES:
        own_name = Path(path).name
        side = re.search(pattern, own_name)
        if side:
            name = re.sub(pattern, other[side[0]], own_name)
            return Path(path).with_name(name)
    return None


def one_side(path: str | os.PathLike[str], sides: Mapping[str, int] | None = None) -> str:
    """Read the hemisphere of a surface file, and refuse a file that does not say it.

    Parameters
    ----------
    path : path-like
        The file.
    sides : mapping of str to int, optional
        Hemispheres of the data that it belongs to; where there is one, it is that.

    Returns
    -------
    str
        ``"L"`` or ``"R"``.

    Raises
    ------
    InputError
        When nothing says it.
    """
    side = hemisphere_of(path)
    if side:
        return side
    if sides is not None and len(sides) == 1:
        return next(iter(sides))
    raise InputError(
        f"{path} does not say its hemisphere; rename it with hemi-L or hemi-R, or with lh. or rh. "
        "at its beginning."
    )


# ------------------------------------------------------------------------------------------- series


def gifti_header(path: str | os.PathLike[str], affine: str = "agree") -> SeriesHeader:
    """Read what a GIfTI time series says of itself.

    Parameters
    ----------
    path : path-like
        ``.func.gii``, one data array a volume, or one of shape (n_vertices, n_volumes).
    affine : str
        Not used: surfaces have none.

    Returns
    -------
    SeriesHeader
        Without a repetition time: programs disagree about the unit of TimeStep.

    Raises
    ------
    InputError
        When it cannot be read, or does not say its hemisphere.
    """
    # the tags say it: no value is decoded
    arrays: list[dict[str, str]] = []

    def _note(tag: str, attributes: dict[str, str]) -> None:
        if tag == "DataArray":
            arrays.append(attributes)

    with reading(path, "a readable GIfTI file") as plain, plain.open("rb") as file:
        parser = ParserCreate()
        parser.StartElementHandler = _note
        parser.ParseFile(file)
        shapes = []
        for array in arrays:
            n_axes = int(array["Dimensionality"])
            sizes = [int(array[f"Dim{axis}"]) for axis in range(n_axes)]
            shapes.append(tuple(sizes))
        is_surface = any(array["Intent"] in _GEOMETRY for array in arrays)
    is_matrix = len(shapes) == 1 and len(shapes[0]) == 2
    are_maps = len(set(shapes)) == 1 and len(shapes[0]) == 1
    if is_surface or not (is_matrix or are_maps):
        raise _no_maps(path, shapes)
    n_vertices = shapes[0][0]
    n_volumes = shapes[0][1] if is_matrix else len(shapes)
    grid = surface_grid(path, {one_side(path): n_vertices})
    return SeriesHeader(n_volumes=n_volumes, grid=grid)


def read_gifti_series(path: str | os.PathLike[str], mask: np.ndarray) -> np.ndarray:
    """Read the time courses of some vertices of a GIfTI file.

    Parameters
    ----------
    path : path-like
        ``.func.gii``.
    mask : ndarray of bool, shape (n_vertices,)
        True for the vertices wanted.

    Returns
    -------
    ndarray of float64, shape (n_volumes, n_chosen)
        In order of vertices.
    """
    maps = _read_gifti_maps(path)
    return maps[:, mask].astype(np.float64)


def _open_mgh(path: str | os.PathLike[str]) -> Any:
    with reading(path, "a readable FreeSurfer file (.mgh, .mgz)") as plain:
        image = load_mgh(plain)
        shape = tuple(map(int, image.shape))
        if min(shape) < 1:
            raise InputError(f"{path} has the shape {shape}; copy or make it again.")
    return image


def is_overlay(path: str | os.PathLike[str]) -> bool:
    """Return whether a FreeSurfer file holds values of vertices, not of the voxels of a volume.

    Parameters
    ----------
    path : path-like
        ``.mgh`` or ``.mgz``.

    Returns
    -------
    bool
        True when its second and third dimensions are 1.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    shape = tuple(_open_mgh(path).shape)
    return shape[1:3] == (1, 1)


def mgh_header(path: str | os.PathLike[str], affine: str = "agree") -> SeriesHeader:
    """Read what a FreeSurfer time series of vertices says of itself.

    Parameters
    ----------
    path : path-like
        ``.mgh`` or ``.mgz`` of shape (n_vertices, 1, 1, n_volumes).
    affine : str
        Not used: surfaces have none.

    Returns
    -------
    SeriesHeader
        With its repetition time.

    Raises
    ------
    InputError
        When it cannot be read, is a volume, or does not say its hemisphere.
    """
    image = _open_mgh(path)
    if tuple(image.shape[1:3]) != (1, 1):
        raise InputError(
            f"{path} has the shape {tuple(map(int, image.shape))}: a volume, not values of "
            "vertices; convert it to .nii.gz (mri_convert)."
        )
    n_volumes = int(image.shape[3]) if len(image.shape) == 4 else 1
    with reading(path, "a readable FreeSurfer file (.mgh, .mgz)"):
        zooms = [float(size) for size in image.header.get_zooms()]
    t_r = round(zooms[3] / 1000, 6) if len(zooms) > 3 else 0.0
    grid = surface_grid(path, {one_side(path): int(image.shape[0])})
    known = TR_RANGE_S[0] <= t_r <= TR_RANGE_S[1]
    return SeriesHeader(n_volumes=n_volumes, grid=grid, t_r=t_r if known else None)


def read_mgh_series(path: str | os.PathLike[str], mask: np.ndarray) -> np.ndarray:
    """Read the time courses of some vertices of a FreeSurfer file.

    Parameters
    ----------
    path : path-like
        ``.mgh`` or ``.mgz``.
    mask : ndarray of bool, shape (n_vertices,)
        True for the vertices wanted.

    Returns
    -------
    ndarray of float64, shape (n_volumes, n_chosen)
        In order of vertices.
    """
    image = _open_mgh(path)
    series = []
    with stored_values(path, image) as stored:
        n_volumes = int(stored.shape[3]) if len(stored.shape) == 4 else 1
        for volume in range(n_volumes):
            values = stored[..., volume] if len(stored.shape) == 4 else stored[...]
            of_vertices = np.asarray(values, dtype=np.float64).reshape(-1)
            series.append(of_vertices[mask])
    return np.array(series)


def read_overlay(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the values of all vertices of a FreeSurfer file.

    Parameters
    ----------
    path : path-like
        ``.mgh`` or ``.mgz``.

    Returns
    -------
    ndarray of float64, shape (n_maps, n_vertices)
        One row a map.
    """
    n_vertices = int(_open_mgh(path).shape[0])
    return read_mgh_series(path, np.ones(n_vertices, dtype=bool))
