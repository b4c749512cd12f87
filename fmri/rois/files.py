"""Files of regions: masks, label images with their names, maps, labels of vertices, parcels.

Each ending has one reader, which gives maps on the file's own grid and the names of their labels.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fmri.bids import find_reader, plain_name, sidecar_files
from fmri.cifti import open_cifti, read_cifti_series
from fmri.grids import Grid, surface_grid, volume_grid
from fmri.rois.atlases import LABELS_OF
from fmri.surfaces import (
    SURFACE_READERS,
    is_overlay,
    one_side,
    read_overlay,
)
from fmri.volumes import open_nifti, stored_values
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.reading import reading
from neurometamer.store import read_table

File = str | os.PathLike[str]

SAME_VALUE = 1e-4
"""Share of the largest value by which values of a mask may differ.

Masks of other programs are scaled.
"""

_LABEL_TABLES = (".tsv", ".csv", ".txt", ".lut", ".ctab")
_WHOLE = 1e-3
"""Largest distance of a label from a whole number; scaled images are rounded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RegionFile:
    """An opened file of regions.

    Parameters
    ----------
    path : Path
        The file.
    grid : Grid
        Where it has values.
    read : callable
        ``read(number)`` gives one map, an array of the shape of the grid.
    maps : tuple of str
        Names of its maps, empty where they have none.
    names : callable
        ``names(number)`` gives the names of the labels of a map (label → name), or None where the
        file has no table.
    is_label : bool
        Whether the file says that it holds labels.
    """

    path: Path
    grid: Grid
    read: Callable[[int], np.ndarray]
    maps: tuple[str, ...] = ("",)
    names: Callable[[int], Mapping[int, str] | None]
    is_label: bool = False


# ------------------------------------------------------------------------------------------ readers


def _no_names(number: int) -> None:
    return None


def _open_volume(path: Path, like: Grid, affine: str) -> RegionFile:
    image = open_nifti(path)
    shape = [int(size) for size in image.shape]
    if len(shape) not in (3, 4):
        raise InputError(f"{path.name} is {len(shape)}-D; a mask must be 3-D, give one volume.")
    n_maps = shape[3] if len(shape) == 4 else 1

    @lru_cache(maxsize=1)  # several labels of one image
    def read(number: int) -> np.ndarray:
        with stored_values(path, image) as stored:
            values = stored[..., number] if len(shape) == 4 else stored
            return np.asarray(values)

    return RegionFile(
        path=path,
        grid=volume_grid(path, affine),
        read=read,
        maps=("",) * n_maps,
        names=lambda number: names_beside(path),
    )


def _open_freesurfer(path: Path, like: Grid, affine: str) -> RegionFile:
    if not is_overlay(path):
        return _open_volume(path, like, affine)
    values = read_overlay(path)
    side = one_side(path, like.n_vertices)
    return RegionFile(
        path=path,
        grid=surface_grid(path, {side: values.shape[1]}),
        read=values.__getitem__,
        maps=("",) * len(values),
        names=lambda number: names_beside(path),
    )


def _open_gifti(path: Path, like: Grid, affine: str) -> RegionFile:
    import nibabel

    with reading(path, "a readable GIfTI file") as plain:
        image: Any = nibabel.load(plain)
        intents = [array.intent for array in getattr(image, "darrays", [])]
    if _LABEL_INTENT in intents:
        return _open_vertex_labels(path, like, affine)
    values = SURFACE_READERS["maps"][".gii"](path)
    side = one_side(path, like.n_vertices)
    return RegionFile(
        path=path,
        grid=surface_grid(path, {side: values.shape[1]}),
        read=values.__getitem__,
        maps=("",) * len(values),
        names=lambda number: names_beside(path),
    )


_LABEL_INTENT = 1002
"""Code of the intent NIFTI_INTENT_LABEL."""


def _open_vertex_labels(path: Path, like: Grid, affine: str) -> RegionFile:
    regions = find_reader(SURFACE_READERS["labels"], path, "labels of vertices")(path)
    side = one_side(path, like.n_vertices)
    names, keys = np.unique(regions.astype(str), return_inverse=True)
    # the empty name, of vertices in no region, sorts first
    first = 0 if len(names) and names[0] == "" else 1
    table = {number + first: str(name) for number, name in enumerate(names) if name}
    return RegionFile(
        path=path,
        grid=surface_grid(path, {side: len(regions)}),
        read=lambda number: keys.reshape(-1) + first,
        names=lambda number: table,
        is_label=True,
    )


def _open_label(path: Path, like: Grid, affine: str) -> RegionFile:
    """Open a FreeSurfer label: a list of vertices, each with a value that may be a probability."""
    side = one_side(path, like.n_vertices)
    if like.is_volume or side not in like.n_vertices:
        there = name_ids(like.n_vertices) or "none, but voxels"
        raise InputError(
            f"{path.name} lists vertices of hemisphere {side}; {like.name} has {there}."
        )
    n_vertices = like.n_vertices[side]
    with reading(path, "a FreeSurfer label") as plain:
        lines = plain.read_text(encoding="latin-1").splitlines()
        rows = [line.split() for line in lines[2:] if line.strip()]
        promised = int(lines[1])
        vertices = np.array([int(row[0]) for row in rows], dtype=np.int64)
        stored = np.array([float(row[4]) for row in rows])
    if promised != len(rows):
        raise InputError(
            f"{path} promises {promised} vertices and lists {len(rows)}; it is cut off: copy it "
            "again."
        )
    beyond = vertices[(vertices < 0) | (vertices >= n_vertices)].tolist()
    if beyond:
        raise InputError(
            f"{path.name} lists vertices {name_ids(beyond)} but {like.name} has {n_vertices} in "
            f"hemisphere {side}; give the label of the same mesh."
        )
    values = np.full(n_vertices, np.nan)
    values[vertices] = stored
    inside = np.zeros(n_vertices)
    inside[vertices] = 1
    return RegionFile(
        path=path,
        grid=surface_grid(path, {side: n_vertices}),
        read=(inside, values).__getitem__,
        maps=("members", "values"),
        names=_no_names,
    )


def _open_cifti(path: Path, like: Grid, affine: str) -> RegionFile:
    import nibabel

    opened = open_cifti(path)
    rows = opened.rows
    everywhere = np.ones(opened.grid.shape, dtype=bool)
    tables = None
    if isinstance(rows, nibabel.cifti2.LabelAxis):
        tables = []
        for labels in rows.label:
            tables.append({int(key): str(name) for key, (name, _) in labels.items() if key})
    return RegionFile(
        path=path,
        grid=opened.grid,
        read=lambda number: read_cifti_series(path, everywhere)[number],
        maps=tuple(str(name) for name in getattr(rows, "name", [""] * len(rows))),
        names=_no_names if tables is None else tables.__getitem__,
        is_label=tables is not None,
    )


RegionReader = Callable[[Path, Grid, str], RegionFile]

ROI_READERS: dict[str, RegionReader] = {
    ".nii": _open_volume,
    ".nii.gz": _open_volume,
    ".mgh": _open_freesurfer,
    ".mgz": _open_freesurfer,
    ".gii": _open_gifti,
    ".annot": _open_vertex_labels,
    ".label": _open_label,
    ".dlabel.nii": _open_cifti,
    ".dscalar.nii": _open_cifti,
    "": _open_volume,
}
"""Ending of a file of regions → its reader, called with the file, the grid of the series and the
transform that counts; ``""`` is for all other endings. A format is added by an entry here."""


def open_region_file(path: File, like: Grid, affine: str = "agree") -> RegionFile:
    """Open a file of regions.

    Parameters
    ----------
    path : path-like
        The file; its ending chooses the reader (`ROI_READERS`).
    like : Grid
        Grid of the series that it is for.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.

    Returns
    -------
    RegionFile
        With its values still on disk where they can stay there.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    read = find_reader(ROI_READERS, path, "a file of regions")
    return read(Path(path), like, affine)


# ---------------------------------------------------------------------------------- names of labels


def split_label(text: str) -> tuple[str, str]:
    """Split a source into its file and its label.

    Parameters
    ----------
    text : str
        ``FILE`` or ``FILE:LABEL``.

    Returns
    -------
    tuple of str
        File and label; the label is empty where there is none.

    Examples
    --------
    >>> split_label("C:/rois/aparc.nii.gz:lh.V1"), split_label("V1.nii.gz")
    (('C:/rois/aparc.nii.gz', 'lh.V1'), ('V1.nii.gz', ''))
    """
    endings = sorted((ending for ending in ROI_READERS if ending), key=len, reverse=True)
    joined = "|".join(map(re.escape, endings))
    match = re.match(rf"(?P<file>.*?({joined})):(?P<label>.*)$", text, re.IGNORECASE | re.DOTALL)
    if match is None:
        return text, ""
    return match["file"], match["label"].strip()


def names_beside(path: File) -> dict[int, str] | None:
    """Find the names of the labels of an image.

    Parameters
    ----------
    path : path-like
        The image.

    Returns
    -------
    dict of int to str or None
        Label to name, from the first of: a BIDS table (``_dseg.tsv`` with the columns index and
        name, by the inheritance principle), a table of the same name beside it (``.tsv``, ``.csv``;
        or ``.txt``, ``.lut``, ``.ctab`` in the format of FreeSurfer), the names of neuropythy's
        maps (`LABELS_OF`), ``FreeSurferColorLUT.txt`` beside it or in ``$FREESURFER_HOME``. None
        where there is none.

    Raises
    ------
    InputError
        When a table cannot be read or names a label twice.
    """
    table = label_table(path)
    if table is None:
        for stem, regions in LABELS_OF.items():
            if stem in Path(path).name:
                return dict(enumerate(regions, start=1))
        return None
    if table.suffix in (".tsv", ".csv"):
        columns = read_table(table, required=["index", "name"], text=["name"])
        columns = columns.dropna(subset="name")  # these have their index alone
        written = columns["index"].tolist()
        names = columns["name"].tolist()
    else:
        with reading(table, "a table of labels (number, name, red, green, blue, alpha)") as plain:
            lines = plain.read_text(encoding="latin-1").splitlines()
            cells = [line.split() for line in lines]
            rows = [row for row in cells if row and not row[0].startswith("#")]
            written = [row[0] for row in rows]
            names = [row[1] for row in rows]
    with reading(table, "a table of labels"):
        keys = [int(float(key)) for key in written]
    again = duplicates(keys)
    if again:
        raise InputError(f"{table} names labels twice: {name_ids(again)}; keep one row each.")
    return dict(zip(keys, names, strict=True))


def label_table(path: File) -> Path | None:
    """Find the file that names the labels of an image.

    Parameters
    ----------
    path : path-like
        The image.

    Returns
    -------
    Path or None
        See `names_beside`.
    """
    image = Path(path)
    tables = list(sidecar_files(image, ".tsv"))
    stem = plain_name(image.name)
    for ending in _LABEL_TABLES:
        beside = image.with_name(f"{stem}{ending}")
        if beside.is_file() and beside not in tables:
            tables.insert(0, beside)
    if tables:
        return tables[-1]
    if any(name in image.name for name in LABELS_OF):
        return None
    folders = [image.parent]
    if home := os.environ.get("FREESURFER_HOME"):
        folders.append(Path(home))
    for folder in folders:
        colors = folder / "FreeSurferColorLUT.txt"
        if colors.is_file():
            return colors
    return None


# ----------------------------------------------------------------------------- masks and their maps


def map_of(file: RegionFile, label: str = "") -> np.ndarray:
    """Read the map of a file whose values are compared with a threshold.

    Parameters
    ----------
    file : RegionFile
        The file.
    label : str
        Name of the map, or its number from 1; may be left out where there is one.

    Returns
    -------
    ndarray, shape of the grid
        Values.

    Raises
    ------
    InputError
        When there are several maps and none is named, or the name is unknown.
    """
    name = file.path.name
    if file.path.suffix.lower() == ".label" and not label:
        label = "values"
    if not label and len(file.maps) > 1:
        named = name_ids(map_name or number for number, map_name in enumerate(file.maps, start=1))
        raise InputError(
            f"{name} holds {len(file.maps)} maps; name one, {name}:NUMBER or {name}:NAME (it holds "
            f"{named})."
        )
    if not label:
        return file.read(0)
    if label in file.maps:
        return file.read(file.maps.index(label))
    if label.isdecimal() and 1 <= int(label) <= len(file.maps):
        return file.read(int(label) - 1)
    numbers = [str(number) for number in range(1, len(file.maps) + 1)]
    raise unknown_name(
        f"map of {name}", label, [map_name for map_name in file.maps if map_name] or numbers
    )


def binary_mask(file: RegionFile) -> np.ndarray:
    """Read a file as one binary mask.

    Parameters
    ----------
    file : RegionFile
        Values 0 and one other of 1 or more, such as 1, 255 or 1.00000006.

    Returns
    -------
    ndarray of bool, shape of the grid
        The mask; it may be empty.

    Raises
    ------
    InputError
        When it holds other values, or several maps.
    """
    name = file.path.name
    if file.grid.is_volume and len(file.maps) > 1:
        raise InputError(f"{name} is 4-D; a mask must be 3-D, give one volume.")
    if len(file.maps) > 1 and file.path.suffix.lower() != ".label":
        raise InputError(
            f"{name} holds {len(file.maps)} maps, no mask; name a label, or a map and a threshold."
        )
    values = file.read(0)
    if np.isinf(values).any():
        raise InputError(f"{name} holds infinite values; save 0 and 1.")
    top = np.max(values) if values.size else 0
    most = SAME_VALUE * top
    mask = np.abs(values - top) <= most
    outside = np.abs(values) <= most
    is_binary = top >= 1 - SAME_VALUE and np.all(mask | outside)
    if top == 0 or (is_binary and not file.is_label):
        return mask & (values > 0)
    if np.isnan(values).any():
        cure = "Save 0 and 1, with 0 outside."
    elif np.any(values != np.round(values)):
        cure = f'Give a threshold ("{name} > 0.5"), or save one mask a region with 0 and 1.'
    else:
        known = file.names(0) or {}
        example = next(iter(known.values()), f"{int(top)}")
        cure = f'Name one of its labels ("{name}:{example}"), or save one mask a region with 0 '
        cure += "and 1."
    held = name_ids(np.unique(values))
    raise InputError(f"{name} is not a binary mask; it holds {held}. {cure}")


def label_mask(file: RegionFile, label: str) -> np.ndarray:
    """Find where a label image has a label.

    Parameters
    ----------
    file : RegionFile
        Whole numbers.
    label : str
        Name of the label, or its number.

    Returns
    -------
    ndarray of bool, shape of the grid
        The mask; it may be empty.

    Raises
    ------
    InputError
        When the name is unknown, is in several maps, the number is not in the image, or the values
        are no labels.

    Warns
    -----
    UserWarning
        When a number has no name in the table of the image, labels of the image have none, or the
        name is that of several labels, which are joined.
    """
    name = file.path.name
    known: dict[str, None] = {}
    numbered: set[int] = set()
    for number in range(len(file.maps)):
        table = file.names(number) or {}
        keys = [key for key, region in table.items() if region == label]
        known |= dict.fromkeys(table.values())
        numbered |= set(table)
        if not keys:
            continue
        values = _whole_numbers(file, number)
        present = np.unique(values).tolist()
        unnamed = [key for key in present if key != 0 and key not in table]
        if unnamed:
            warnings.warn(
                f"{name} holds labels without a name in its table: {name_ids(unnamed)}; they are "
                "in no region that is called by a name.",
                stacklevel=2,
            )
        if len(keys) > 1:
            warnings.warn(
                f"'{label}' is the name of {len(keys)} labels of {name} ({name_ids(keys)}); they "
                "are one region.",
                stacklevel=2,
            )
        return np.isin(values, keys)
    if not re.fullmatch(r"-?\d+", label):
        if known:
            raise unknown_name(f"label of {name}", label, known)
        raise InputError(
            f"'{label}' is no number, and nothing names the labels of {name}: put a table beside "
            f"it ({plain_name(name)}.tsv with the columns index and name, or "
            "FreeSurferColorLUT.txt), or give the number."
        )
    values = _whole_numbers(file, 0)
    mask = values == int(label)
    if not mask.any():
        there = name_ids(np.unique(values).tolist(), 12)
        raise InputError(f"{name} has no label {label}; it holds {there}.")
    if known and int(label) not in numbered:
        warnings.warn(
            f"label {label} has no name in the table of {name}; it is taken by its number.",
            stacklevel=2,
        )
    return mask


def _whole_numbers(file: RegionFile, number: int) -> np.ndarray:
    """Read labels; what is not finite is 0."""
    values = np.asarray(file.read(number), dtype=np.float64)
    values = np.where(np.isfinite(values), values, 0)
    whole = np.round(values)
    if values.size and float(np.abs(values - whole).max()) > _WHOLE:
        raise InputError(
            f"{file.path.name} holds fractions, not labels; give a threshold "
            f'("{file.path.name} > 0.5").'
        )
    return whole.astype(np.int64)
