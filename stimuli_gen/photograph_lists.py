"""List photographs of folders, folders of classes, tables and lists of files, and name them."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from neurometamer.arguments import shown
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.store import TEXT_COLUMNS, folded_name, read_table
from stimuli_gen.conversion import readable_suffixes

NAMES = (
    *TEXT_COLUMNS,
    "note",
    "target_name",
    "top1_name",
    "why_not",
    "model",
    "weights",
    "stage",
    "bits",
    "icc",
)
"""Columns of a table of images that are text, whatever they look like."""
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
_OTHER_IMAGES = re.compile(
    r"\.(heic|heif|avif|jp2|j2k|jpeg2000|jxl|jxr|svg|eps|ai|wmf|emf|dng|cr2|cr3|nef|arw|raf|orf|rw2"
    r"|raw|exr|hdr|xcf|bpg)"
)
"""Endings of image formats that may not be readable here; other files in a folder are taken for no
images."""
_COMMON = (".png", ".jpg", ".jpeg", ".tif", ".bmp", ".webp", ".gif")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Photographs that were found, before any is read.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a photograph: file (full path), id, and what a table of the user adds, or, in
        folders of classes, category.
    shown : sequence of str
        The files as they are named in tables: relative to the folder.
    notes : mapping of str to list of str
        ``left_out``: what of a folder was not taken, and why. ``layout``: what categories and ids
        were made of. Both are absent where there is nothing to tell.
    """

    table: pd.DataFrame
    shown: Sequence[str]
    notes: Mapping[str, list[str]] = field(default_factory=dict)


def list_photographs(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Listing:
    """List photographs without reading them.

    Parameters
    ----------
    source : path-like or sequence of path-like
        See `stimuli_gen.load_photographs`.

    Returns
    -------
    Listing
        In order of names for folders, else as given.

    Raises
    ------
    InputError
        When there are none, a table lacks a file or an id, or ids repeat.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        ending = path.suffix.lower()
        if path.is_dir():
            listing = _list_folder(path)
        elif ending in READERS:
            listing = READERS[ending](path)
        elif path.is_file():
            if ending and ending not in readable_suffixes():
                what = f"ending of a list of photographs or an image, in {path.name}:"
                raise unknown_name(what, ending, [*READERS, *_COMMON])
            listing = _list_files([path])
        else:
            raise InputError(
                f"{path} does not exist; give a folder of images, a CSV with the column file, or "
                "image files."
            )
    elif isinstance(source, Sequence) and all(
        isinstance(file, (str, os.PathLike)) for file in source
    ):
        listing = _list_files([Path(file) for file in source])
    else:
        raise InputError(
            "photographs are a folder, a CSV with the column file, or a list of image files, not "
            f"{shown(source)}."
        )
    table = listing.table
    if again := duplicates(table["id"]):
        files = table.loc[table["id"] == again[0], "file"]
        raise InputError(
            f"duplicate stimulus id(s): {name_ids(again)} (for example "
            f"{' and '.join(map(str, files[:2]))}); rename a file or give a CSV with the column "
            "id."
        )
    return listing


def _list_files(files: Sequence[Path]) -> Listing:
    if not files:
        raise InputError(
            "no images in the list; give a folder of images, a CSV with the column file, or image "
            "files."
        )
    columns = {
        "file": pd.Series(list(files), dtype=object),
        "id": [file.stem for file in files],
    }
    return Listing(table=pd.DataFrame(columns), shown=[file.name for file in files])


# ------------------------------------------------------------------------------------------ folders


def _list_folder(folder: Path) -> Listing:
    if (folder / "stimuli.h5").is_file():
        raise InputError(
            f"{folder} holds stimuli of neurometamer (stimuli.h5), not photographs; read it with "
            f"stimuli_gen.read_stimuli, or give {folder / 'png'}."
        )
    files, left_out = _walk(folder)
    if not files:
        beside = f" There is: {'; '.join(left_out)}." if left_out else ""
        raise InputError(f"no images in {folder}; give files such as {', '.join(_COMMON)}.{beside}")
    paths = [file.relative_to(folder) for file in files]
    folders = [path.parts[:-1] for path in paths]
    shared = 0  # outer folders that all files share are left out, unless they are all there is
    while all(len(parts) > shared + 1 for parts in folders):
        names = {parts[shared] for parts in folders}
        if len(names) > 1:
            break
        shared += 1
    inner = [parts[shared:] for parts in folders]
    ids, layout = _ids_and_layout(files, inner)
    table = pd.DataFrame({"file": pd.Series(files, dtype=object), "id": ids})
    if any(inner):
        table["category"] = [parts[0] if parts else "" for parts in inner]
    for line in (*left_out, *layout[1:]):
        level = logging.INFO if _HIDDEN in line else logging.WARNING
        _log_once(level, f"{folder}: {line}")
    notes = {}
    if left_out:
        notes["left_out"] = left_out
    if layout:
        notes["layout"] = layout
    return Listing(table=table, shown=[path.as_posix() for path in paths], notes=notes)


_HIDDEN = "hidden, or of the operating system"
_log_once = cache(logging.getLogger(__name__).log)
"""For choices that may surprise."""


def _walk(folder: Path) -> tuple[list[Path], list[str]]:
    """Find the image files of a folder and of those inside it, and say what was left out."""
    suffixes = readable_suffixes()
    files: list[Path] = []
    left_out: dict[str, list[str]] = {}
    for path in _entries(folder, set()):
        suffix = path.suffix.lower()
        of_system = path.name in _SYSTEM_FOLDERS or path.name.lower() in _SYSTEM_FILES
        if path.name.startswith(".") or of_system:
            reason = _HIDDEN
        elif not path.is_file():
            reason = "no regular file (a broken link or a device)"
        elif suffix in suffixes:
            files.append(path)
            continue
        elif _OTHER_IMAGES.fullmatch(suffix):
            reason = "of a format that cannot be read here (convert them to PNG)"
        else:
            reason = "no image by its ending"
        inside = path.relative_to(folder).as_posix().encode("utf-8", "replace")
        left_out.setdefault(reason, []).append(inside.decode())
    lines = []
    for reason, names in left_out.items():
        lines.append(f"{len(names)} {reason}: {name_ids(names)}")
    return files, lines


def _entries(folder: Path, above: set[tuple[int, int]]) -> Iterator[Path]:
    """List the entries of a folder in order of names, its files first.

    A folder that contains itself by a link is entered once.
    """
    status = folder.stat()
    here = above | {(status.st_dev, status.st_ino)}
    if len(here) == len(above):
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"the folder {folder} cannot be read: {error.strerror}; change its permissions, or "
            "give another."
        ) from error
    inner = [path for path in entries if path.is_dir()]
    yield from (path for path in entries if not path.is_dir())
    for path in inner:
        if path.name.startswith(".") or path.name in _SYSTEM_FOLDERS:
            yield path
        else:
            yield from _entries(path, here)


def _ids_and_layout(
    files: Sequence[Path], inner: Sequence[tuple[str, ...]]
) -> tuple[list[str], list[str]]:
    """Name the photographs of a folder, and say in words what was made of folders inside it."""
    ids = [file.stem for file in files]
    if not any(inner):
        return ids, []
    categories = dict.fromkeys(parts[0] for parts in inner if parts)
    deeper, beside, long_ids = [], [], []
    for name, parts in zip(ids, inner, strict=True):
        long_ids.append("_".join((*parts, name)))
        if len(parts) > 1:
            deeper.append(name)
        if not parts:
            beside.append(name)
    layout = [f"category: the name of the folder ({len(categories)}: {name_ids(categories)})"]
    if deeper:
        layout.append(f"in folders inside those, of the outer one's category: {name_ids(deeper)}")
    if beside:
        layout.append(f"beside the folders, without a category: {name_ids(beside)}")
    folded = {folded_name(name) for name in ids}
    if len(folded) < len(ids):
        ids = long_ids
        layout.append("id: folder and name of the file, because names repeat")
    return ids, layout


# ------------------------------------------------------------------------------------------- tables


def _list_table(path: Path) -> Listing:
    names = list(read_table(path, required=("file",)).columns)
    table = read_table(path, text=names)
    needed = [name for name in ("file", "id") if name in names]
    if table.empty or table[needed].isna().any(axis=None):
        raise InputError(f"{path} has no rows, or rows without a file or an id; fill them.")
    shown = [Path(name).name for name in table["file"]]
    ids = table["id"] if "id" in names else [Path(name).stem for name in table["file"]]
    files = []
    for name in table["file"]:
        file = path.parent / name
        if not (file.name.isascii() or file.exists()) and file.parent.is_dir():
            # macOS and spreadsheets differ in the Unicode normalization of names
            wanted = unicodedata.normalize("NFC", file.name)
            entries = file.parent.iterdir()
            alike = (path for path in entries if unicodedata.normalize("NFC", path.name) == wanted)
            file = next(alike, file)
        files.append(file)
    typed = {}
    for name in [name for name in names if name not in NAMES]:
        column = table[name]
        cells = column.dropna().astype(str)
        if len(cells) and cells.isin(["True", "False"]).all():
            column = column.map({"True": True, "False": False})
        elif all(_NUMBER.fullmatch(cell) for cell in cells):  # 007 is none
            if len(cells) == len(column) and cells.str.fullmatch(r"[+-]?\d{1,18}").all():
                column = column.map(int).astype("int64")
            else:
                column = column.map(float, na_action="ignore").astype("float64")
        typed[name] = column
    if "target" in typed:
        # class indices become whole numbers; a class name may look like any other number
        cells = table["target"].dropna().astype(str)
        integers = cells.str.fullmatch(r"0|[1-9]\d{0,17}").all()
        whole_numbers = len(cells) == len(table) and integers
        typed["target"] = table["target"].astype("int64") if whole_numbers else table["target"]
    table = table.assign(**typed)
    table = table.assign(file=pd.Series(files, dtype=object), id=ids)
    return Listing(table=table, shown=shown)


_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*)?([eE][+-]?\d+)?")


READERS: dict[str, Callable[[Path], Listing]] = {
    ".csv": _list_table,
    ".tsv": _list_table,
}
"""Ending of a file that lists photographs → its reader; a format is added by an entry here."""
