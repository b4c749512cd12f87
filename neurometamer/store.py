"""Files, tables and arrays on disk.

Everything is written to a temporary neighbor first and moved into place, so a full disk or a killed
process never leaves half a file under a final name. HDF5 files carry a checksum of all their bytes,
which is compared before anything of them is used. Nothing here reads or writes pickles.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import stat
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import (
    InputError,
    OutputError,
    duplicates,
    name_ids,
    need_columns,
)
from neurometamer.provenance import plain_value
from neurometamer.reading import (
    SEAL,
    SEAL_SIZE,
    check_cells,
    check_own_contents,
    check_seal,
    hdf5_checksum,
    reading,
    without_quotes,
)

if TYPE_CHECKING:
    import h5py
    import pandas as pd

TEXT_COLUMNS = (
    "id",
    "reference_id",
    "condition",
    "subject",
    "run",
    "session",
    "trial_type",
    "roi",
    "kind",
    "file",
    "category",
)
"""Columns that hold names: read as text, so that the id ``007`` does not become the number 7."""

MISSING = ("", "n/a", "nan", "NaN")
"""Texts of an empty cell. Other words, such as ``NA`` or ``null``, may be names."""

NO_NAME = ("", "n/a")
"""Texts of an empty cell in a column that holds names: there ``nan`` is one, too."""

_WRITTEN: ContextVar[list[Path] | None] = ContextVar("written", default=None)


# -------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def written_files() -> Iterator[list[Path]]:
    """Collect the files that are written in the block.

    Yields
    ------
    list of Path
        Filled as files get their final names, in that order; a file that is written twice is there
        twice.
    """
    written: list[Path] = []
    token = _WRITTEN.set(written)
    try:
        yield written
    finally:
        _WRITTEN.reset(token)


def refuse_broken_link(path: str | os.PathLike[str]) -> None:
    """Refuse to write through a symbolic link that points to nothing.

    Parameters
    ----------
    path : path-like
        File or folder to be written.

    Raises
    ------
    InputError
        When it is such a link.
    """
    link = Path(path)
    if link.is_symlink() and not link.exists():
        raise InputError(
            f"{path} is a broken symbolic link (to {link.readlink()}); remove the link, or give "
            "another name."
        )


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block ends well.

    Parameters
    ----------
    path : path-like
        Final file. Its folder is created. A link stays, and the file that it points to is written;
        a file that is there keeps its permissions. The temporary name keeps the suffixes of `path`,
        because writers such as nibabel and Pillow choose the format by suffix.

    Yields
    ------
    Path
        Write here. On any error, a full disk included, it is removed and `path` stays as it was.

    Raises
    ------
    InputError
        When `path` is a folder, a pipe or a device, or a link to nothing.
    OutputError
        When the system refuses to write.
    """
    refuse_broken_link(path)
    final = Path(os.path.realpath(path))
    for spelling in (Path(path).absolute(), final):
        is_device = str(spelling).startswith(("/dev/", "/proc/"))
        if is_device and not str(final).startswith("/dev/shm/"):
            raise InputError(f"{path} is a device, not a file; give the name of a file to write.")
    if final.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file to write.")
    if final.exists() and not final.is_file():
        raise InputError(
            f"{path} is a pipe or a device, not a file; give the name of a file to write."
        )
    part: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            mode = stat.S_IMODE(final.stat().st_mode)
        else:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        suffix = "-" + final.name[-100:]
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=suffix, dir=final.parent)
        os.close(handle)
        part = Path(name)
        yield part
        with part.open("r+b") as written:  # Windows syncs no file that is open for reading only
            os.fsync(written.fileno())
        part.chmod(mode)
        part.replace(final)
    except OSError as error:
        raise OutputError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    collected = _WRITTEN.get()
    if collected is not None:
        collected.append(Path(path))


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write UTF-8 text atomically.

    Parameters
    ----------
    path : path-like
        Final file.
    text : str
        Its contents.

    Returns
    -------
    Path
        The file.
    """
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write a JSON file atomically, keys sorted, so that equal values give equal files.

    Parameters
    ----------
    path : path-like
        Final file.
    value : object
        Mappings, sequences, text, numbers, numpy scalars and arrays, paths.

    Returns
    -------
    Path
        The file.
    """
    text = json.dumps(value, indent=2, sort_keys=True, default=plain_value)
    return write_text(path, f"{text}\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    object
        What it holds.

    Raises
    ------
    InputError
        When the file is missing, damaged or not JSON.
    """
    with reading(path, "a JSON file") as plain:
        text = plain.read_text(encoding="utf-8-sig")
        return json.loads(text, object_pairs_hook=_each_key_once)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names a key twice; JSON readers silently take the last."""
    again = duplicates(key for key, _ in pairs)
    if again:
        raise ValueError(f"it names {name_ids(again)} more than once")
    return dict(pairs)


def file_name(stimulus_id: str) -> str:
    """Check that an id can name a file inside the output folder on every system, and return it.

    Letters of any script, spaces and most punctuation can; the id is not changed, so ``é`` of one
    or of two characters stays what it is.

    Parameters
    ----------
    stimulus_id : str
        An id from a table or a file name.

    Returns
    -------
    str
        The same id.

    Raises
    ------
    InputError
        When the id is empty, is longer than 200 bytes in UTF-8, starts with a dot, starts or ends
        with a space, ends with a dot, holds a character that could leave the folder or that Windows
        refuses, or an invisible one, or is a device of Windows such as ``NUL``.

    Examples
    --------
    >>> file_name("狗 1")
    '狗 1'
    """
    reason = _why_no_file_name(stimulus_id)
    if reason:
        raise InputError(
            f"id {stimulus_id!r} cannot name a file: {reason}; rename it, or give a CSV with the "
            "columns file and id."
        )
    return stimulus_id


def _why_no_file_name(name: str) -> str:
    """Return why an id cannot name a file; empty when it can."""
    if not name:
        return "it is empty"
    if name.startswith(".") or name.endswith("."):
        return "it starts or ends with a dot"
    if name != name.strip():
        return "it starts or ends with a space"
    for character in name:
        hidden = character not in _JOINERS and unicodedata.category(character) in _INVISIBLE
        if hidden or character in _RESERVED:
            return f"it holds the character {character!r}"
    if len(name.encode("utf-8")) > _LONGEST_NAME:
        return f"it is longer than {_LONGEST_NAME} bytes"
    if name.partition(".")[0].rstrip().upper() in _DEVICES:
        return "Windows keeps that name for a device"
    return ""


_RESERVED = frozenset('<>:"/\\|?*')
"""Characters that separate folders, or that Windows allows in no file name."""
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that no file name may hold.

Control and format characters, halves of pairs, private and unassigned ones, line ends.
"""
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that are part of words, in Persian and Hindi for example, and of emoji."""
_LONGEST_NAME = 200
"""Bytes; file systems take 255, and temporary names and suffixes are longer than ids."""
_PORTS = "0123456789¹²³"
_DEVICES = frozenset(
    [
        "CON",
        "PRN",
        "AUX",
        "NUL",
        "CONIN$",
        "CONOUT$",
        *(f"COM{number}" for number in _PORTS),
        *(f"LPT{number}" for number in _PORTS),
    ]
)


def check_file_names(ids: Iterable[str]) -> None:
    """Check that each id can name a file, and that no two name the same file.

    On macOS and Windows, names that differ in case or normalization are the same.

    Parameters
    ----------
    ids : iterable of str
        Ids of one set.

    Raises
    ------
    InputError
        When an id cannot name a file (see `file_name`), or ids differ in case or in Unicode
        normalization only.
    """
    names = list(ids)
    wrong = [name for name in names if _why_no_file_name(name)]
    if wrong:
        first = wrong[0]
        reason = _why_no_file_name(first)
        shown = name_ids(repr(name) for name in dict.fromkeys(wrong))
        raise InputError(
            f"id(s) {shown} cannot name a file ({first!r}: {reason}); rename the files, or "
            "give a CSV with the columns file and id."
        )
    pairs = same_file_names(names)
    if pairs:
        shown = name_ids(f"{earlier} and {later}" for earlier, later in pairs)
        earlier, later = pairs[0]
        kind = "case" if earlier.casefold() == later.casefold() else "Unicode normalization"
        raise InputError(
            f"ids that differ in {kind} only: {shown}; their files would overwrite each other on "
            "macOS and Windows. Rename one of each, or give a CSV with the columns file and id."
        )


def same_file_names(ids: Iterable[str]) -> list[tuple[str, str]]:
    """Find ids that name one file on macOS and Windows.

    They differ in case or in Unicode normalization only.

    Parameters
    ----------
    ids : iterable of str
        Ids to look at.

    Returns
    -------
    list of tuple of str
        Each later id with the first one that it would overwrite; equal ids are not listed.

    Examples
    --------
    >>> same_file_names(["Dog", "cat", "dog"])
    [('Dog', 'dog')]
    """
    first: dict[str, str] = {}
    pairs = []
    for name in ids:
        earlier = first.setdefault(folded_name(name), name)
        if earlier != name:
            pairs.append((earlier, name))
    return pairs


def folded_name(name: str) -> str:
    """Return the part of a file name that macOS and Windows compare.

    It has no upper case and one Unicode normalization.

    Parameters
    ----------
    name : str
        A file name or an id.

    Returns
    -------
    str
        Equal for names that overwrite each other.

    Examples
    --------
    >>> folded_name("Caf\u00e9") == folded_name("cafe\u0301")
    True
    """
    decomposed = unicodedata.normalize("NFD", name)
    return unicodedata.normalize("NFC", decomposed.casefold())


# ------------------------------------------------------------------------------------------- tables


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> Path:
    """Write a table atomically as CSV, or TSV by suffix, with full precision.

    Missing values are empty in CSV and ``n/a`` in TSV; lists and mappings are JSON.

    Parameters
    ----------
    path : path-like
        Final file; ``.tsv`` is written the BIDS way.
    table : pandas.DataFrame
        The index is not written.

    Returns
    -------
    Path
        The file.
    """
    separator, missing = ",", ""
    if Path(path).suffix == ".tsv":
        separator, missing = "\t", "n/a"
    table = facts_as_json(table)
    text = table.to_csv(index=False, sep=separator, na_rep=missing, lineterminator="\n")
    return write_text(path, text)


def facts_as_json(table: pd.DataFrame) -> pd.DataFrame:
    """Write cells that hold lists or mappings as JSON, which a reader need not guess at.

    Parameters
    ----------
    table : pandas.DataFrame
        Left unchanged.

    Returns
    -------
    pandas.DataFrame
        The same with texts in these cells.

    Examples
    --------
    >>> import pandas as pd
    >>> facts_as_json(pd.DataFrame({"left_out": [["V3"], []]}))["left_out"].tolist()
    ['["V3"]', '[]']
    """
    from pandas.api.types import infer_dtype

    def _text_of(cell: object) -> object:
        if isinstance(cell, (list, tuple, Mapping)):
            return json.dumps(cell, default=plain_value)
        return cell

    texts = {}
    for name, column in table.items():
        if infer_dtype(column, skipna=True) == "mixed":
            texts[str(name)] = column.map(_text_of)
    return table.assign(**texts) if texts else table


@checked
def read_table(
    path: str | os.PathLike[str],
    required: Sequence[str] = (),
    text: Sequence[str] = (),
    once: Sequence[str] | None = (),
) -> pd.DataFrame:
    r"""Read a CSV or TSV file; columns that hold names (`TEXT_COLUMNS`) stay text.

    Parameters
    ----------
    path : path-like
        The file; the suffix ``.tsv`` means tabs, and cells as BIDS writes them: a double quote is a
        character, unless it opens and closes the whole cell.
    required : sequence of str
        Columns that must be there.
    text : sequence of str
        Further columns that hold names.
    once : sequence of str or None
        Further columns that are used, so that two of one name are refused; None for all columns.

    Returns
    -------
    pandas.DataFrame
        One row a line; numbers to their last digit.

    Raises
    ------
    InputError
        When the file is missing, empty or unreadable, lacks a required column, has a used one
        twice, or has rows that are cut short.

    Notes
    -----
    ``pandas.read_csv`` alone turns the subject ``01`` into the number 1; with ``dtype={"subject":
    str}`` it does not.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "encoding.csv"
    >>> _ = file.write_text("subject,r\n01,0.25\n")
    >>> read_table(file)["subject"].tolist()
    ['01']
    """
    with reading(path, "a readable table") as plain:
        contents = plain.read_text(encoding="utf-8-sig")
    used = None if once is None else [*required, *once]
    table = parse_table(contents, path, text=text, once=used)
    need_columns(table, required, str(path))
    return table


def parse_table(
    contents: str,
    path: str | os.PathLike[str],
    *,
    text: Sequence[str] = (),
    once: Sequence[str] | None = (),
) -> pd.DataFrame:
    """Read the text of a CSV or TSV file.

    Parameters
    ----------
    contents : str
        The text.
    path : path-like
        Where it comes from: the suffix ``.tsv`` means tabs, and messages name it.
    text : sequence of str
        Columns that hold names, beside `TEXT_COLUMNS`.
    once : sequence of str or None
        See `read_table`.

    Returns
    -------
    pandas.DataFrame
        One row a line; numbers to their last digit.

    Raises
    ------
    InputError
        When it is no table.
    """
    import pandas as pd

    is_tsv = Path(path).suffix == ".tsv"
    separator = "\t" if is_tsv else ","
    used = None if once is None else {*TEXT_COLUMNS, *once}
    options: dict[str, Any] = {}
    if is_tsv:
        options["quoting"] = csv.QUOTE_NONE
    # older versions of pandas must be asked for every digit; from 3.1 on it reads them unasked
    version = [int(part) for part in pd.__version__.split(".")[:2]]
    if version < [3, 1]:
        options["float_precision"] = "round_trip"
    with reading(path, "a readable table"), warnings.catch_warnings():
        check_cells(contents, path, separator, quoted=not is_tsv, used=used)
        warnings.simplefilter("error", pd.errors.ParserWarning)
        if is_tsv:
            contents = without_quotes(contents)
        try:
            named = pd.read_csv(io.StringIO(contents), sep=separator, nrows=0, **options)
            missing: dict[Any, Sequence[str]] = dict.fromkeys(named.columns, MISSING)
            missing |= dict.fromkeys((*TEXT_COLUMNS, *text), NO_NAME)
            return pd.read_csv(
                io.StringIO(contents),
                sep=separator,
                index_col=False,
                dtype=dict.fromkeys((*TEXT_COLUMNS, *text), "str"),
                keep_default_na=False,
                na_values=missing,
                **options,
            )
        except pd.errors.ParserWarning:
            raise InputError(
                f"{path} has rows with more cells than its header; give each column a name."
            ) from None


# --------------------------------------------------------------------------------------------- HDF5


class _Sink(io.FileIO):
    """A file that HDF5 can always close.

    The first refusal of the system is kept, and later writes go to memory.

    The HDF5 library cannot close a file that it cannot write (on a full disk): it would crash the
    interpreter at exit. It also reads back what it wrote, and crashes on other bytes; so small
    pieces, which all of its own bookkeeping is, are remembered. Where nothing was written it reads
    zeros, as from a file that it opened itself.
    """

    refusal: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._pieces: dict[int, bytes] = {}  # by their position

    def write(self, data: Any) -> int:
        start = self.tell()
        rest = memoryview(data)
        try:
            while len(rest) and self.refusal is None:
                n_written = super().write(rest)
                rest = rest[n_written:]
        except OSError as error:
            self.refusal = error
        if self.refusal is not None and len(data) <= _PIECE:
            self._pieces.pop(start, None)  # the latest comes last
            self._pieces[start] = bytes(data)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        content = memoryview(buffer).cast("B")
        end = start + len(content)
        n_read = super().readinto(content) or 0
        content[n_read:] = bytes(len(content) - n_read)
        for position, data in self._pieces.items():
            first = max(position, start)
            last = min(position + len(data), end)
            if first < last:
                piece = data[first - position : last - position]
                content[first - start : last - start] = piece
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return self.tell() if size is None else size


_PIECE = 2**20
"""Bytes; longer pieces are data, which HDF5 hands through."""


@contextlib.contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open a new HDF5 file for filling; it gets its name and its checksum only when it is complete.

    Parameters
    ----------
    path : path-like
        Final file.

    Yields
    ------
    h5py.File
        Open for writing.

    Raises
    ------
    OSError
        When the system refuses to write, on a full disk for example.
    """
    import h5py

    with atomic_path(path) as part:
        with _Sink(part, "w+") as sink:
            try:
                with h5py.File(sink, "w", userblock_size=SEAL_SIZE) as file:
                    yield file
            finally:
                if sink.refusal is not None:
                    raise sink.refusal
        _seal(part)


def seal_hdf5(path: str | os.PathLike[str]) -> None:
    """Put a checksum before the contents of an HDF5 file that another library wrote.

    Parameters
    ----------
    path : path-like
        A complete file that nobody reads yet (a part of `atomic_path`). The checksum stands in a
        user block of 512 bytes, which every HDF5 library skips.
    """
    file = Path(path)
    contents = file.read_bytes()
    file.write_bytes(bytes(SEAL_SIZE) + contents)
    _seal(file)


def _seal(path: Path) -> None:
    """Write the checksum of all that follows the user block into it."""
    with path.open("r+b") as file:
        checksum = hdf5_checksum(file)
        block = SEAL + checksum.encode()
        file.seek(0)
        file.write(block.ljust(SEAL_SIZE, b"\0"))


def write_hdf5(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Any] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Write arrays, tables and JSON attributes to one HDF5 file, atomically.

    Parameters
    ----------
    path : path-like
        Final file.
    arrays : mapping of str to ndarray, optional
        One dataset each; ``/`` in a name makes groups. What is no array but has shape, dtype and
        rows, such as images that stay on disk, is read and written block by block.
    tables : mapping of str to DataFrame, optional
        One group each, one dataset a column; text columns are UTF-8.
    attributes : mapping, optional
        Stored as one JSON text each on the root.

    Returns
    -------
    Path
        The file.
    """
    with new_hdf5(path) as file:
        for name, values in (arrays or {}).items():
            is_on_disk = hasattr(values, "shape") and not hasattr(values, "__array_interface__")
            if is_on_disk:  # copied block by block
                data = file.create_dataset(name, shape=values.shape, dtype=values.dtype)
                for start in range(0, len(values), _BLOCK):
                    block = slice(start, start + _BLOCK)
                    data[block] = values[block]
                continue
            array = np.asarray(values)
            if array.dtype.kind in "UOT":
                words = [str(word).encode() for word in array.ravel()]
                array = np.array(words, dtype=bytes).reshape(array.shape)
            file.create_dataset(name, data=array)
        for name, table in (tables or {}).items():
            names = [str(column) for column in table.columns]
            group = file.create_group(name)
            group.attrs["columns"] = json.dumps(names)
            group.attrs["n_rows"] = len(table)
            for column in table.columns:
                _write_column(group, str(column), table[column])
        for name, value in (attributes or {}).items():
            file.attrs[name] = json.dumps(value, sort_keys=True, default=plain_value)
    return Path(path)


_BLOCK = 64
"""Rows that are read and written at once."""


def _write_column(group: Any, name: str, column: pd.Series) -> None:
    """Store one column; text (and mixed) columns keep their missing values as a mask."""
    import h5py
    import pandas as pd

    types = pd.api.types
    missing = column.isna().to_numpy()
    is_extension = types.is_extension_array_dtype(column.dtype)
    if types.is_bool_dtype(column.dtype) and not missing.any():
        group.create_dataset(name, data=column.to_numpy(dtype=bool))
        return
    if types.is_numeric_dtype(column.dtype) and not is_extension:
        group.create_dataset(name, data=column.to_numpy())
        return
    text = []
    for value, is_missing in zip(column, missing, strict=True):
        text.append("" if is_missing else str(value))
    words = np.array(text, dtype=object)
    data = group.create_dataset(name, data=words, dtype=h5py.string_dtype())
    data.attrs["missing"] = np.flatnonzero(missing)


def read_hdf5_table(path: str | os.PathLike[str], name: str) -> pd.DataFrame:
    """Read one table written by `write_hdf5`.

    Parameters
    ----------
    path : path-like
        The file.
    name : str
        The table's group.

    Returns
    -------
    pandas.DataFrame
        Columns in their first order.

    Raises
    ------
    InputError
        When the file or the table is missing.
    """
    import pandas as pd

    with open_hdf5(path) as file:
        if name not in file or "columns" not in file[name].attrs:
            there = ", ".join(file) or "nothing"
            raise InputError(
                f"{path} holds no table '{name}'; it holds {there}. Give the name of one of these."
            )
        group = file[name]
        columns = {}
        for column in json.loads(group.attrs["columns"]):
            data = group[column]
            values = data[...]
            if "missing" in data.attrs:
                values = np.array([word.decode() for word in values], dtype=object)
                values[data.attrs["missing"].astype(int)] = None
            columns[column] = values
        index = pd.RangeIndex(int(group.attrs["n_rows"]))
        return pd.DataFrame(columns, index=index)


def read_hdf5_array(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """Read one array written by `write_hdf5`.

    Parameters
    ----------
    path : path-like
        The file.
    name : str
        The dataset.

    Returns
    -------
    ndarray
        Its values; text comes back as text.

    Raises
    ------
    InputError
        When the file or the dataset is missing.
    """
    with open_hdf5(path) as file:
        if name not in file:
            there = ", ".join(file) or "nothing"
            raise InputError(
                f"{path} holds no array '{name}'; it holds {there}. Give the name of one of these."
            )
        values = file[name][...]
    if values.dtype.kind == "S":
        return np.char.decode(values)
    return values


_CONTENTS = {"dissimilarities": "RDMs", "images": "stimuli"}
"""Dataset to what a file with it holds, where the file does not say so itself."""


def hdf5_content(path: str | os.PathLike[str]) -> str:
    """Say what an HDF5 file holds.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        ``"null distribution"``, ``"activations"``, ``"patterns"``, ``"RDMs"``, ``"stimuli"``, or
        of other files the names of what is in them.

    Raises
    ------
    InputError
        See `open_hdf5`.
    """
    with open_hdf5(path) as file:
        with contextlib.suppress(TypeError, ValueError):
            content = json.loads(file.attrs.get("content", ""))
            if isinstance(content, str):
                return content
        for name, content in _CONTENTS.items():
            if name in file:
                return content
        return name_ids(file) if len(file) else "nothing"


def read_hdf5_attributes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the JSON attributes written by `write_hdf5`.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    dict
        Name to value.
    """
    attributes = {}
    with open_hdf5(path) as file:
        for name, value in file.attrs.items():
            attributes[name] = json.loads(value)
    return attributes


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, checked, with errors that name the file.

    Parameters
    ----------
    path : path-like
        The file. Of ours, the checksum of all bytes is compared. Of others, too, no contents may
        lie elsewhere (`neurometamer.reading.check_own_contents`). A file that passed is not checked
        again until it changes.

    Yields
    ------
    h5py.File
        Open for reading.

    Raises
    ------
    DamagedFile
        When it is ours and its bytes are not those that were written.
    InputError
        When it is missing, is not HDF5, takes contents from elsewhere, or cannot be read.
    """
    import h5py

    with reading(path, "an HDF5 file") as plain:
        seen = plain.stat()
        state = (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        changed = max(seen.st_mtime_ns, seen.st_ctime_ns) / 1e9
        if state not in _SOUND:
            check_seal(plain)
        with h5py.File(plain, "r") as file:
            if state not in _SOUND:
                check_own_contents(file, path)
                # a file that changed just now could change again within the same tick
                if time.time() - changed > _SETTLED_S:
                    _SOUND.add(state)
            yield file


_SOUND: set[tuple[int, ...]] = set()
"""Files that passed the checks, as they were then."""

_SETTLED_S = 2.0
"""Seconds after which a change of a file is sure to show in its time stamp."""
