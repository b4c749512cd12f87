"""The ground floor: errors with a cure, atomic files, tables and arrays on disk, digests, seeds, provenance.

Imports nothing of ours, so that every room can stand on it. Everything is written to a temporary neighbour
first and moved into place, so a full disk or a killed process never leaves half a file under a final name.
Nothing here reads or writes pickles.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TEXT_COLUMNS = ("id", "reference_id", "condition", "subject", "run", "session", "trial_type", "roi", "kind")
"""Columns that hold names: read as text, so that the id ``007`` does not become the number 7."""

MISSING = ("", "n/a", "nan", "NaN")
"""What an empty cell may say. Other words, such as ``NA`` or ``null``, may be names."""


class InputError(ValueError):
    """What the user gave cannot be used; the message says what, which ids, and what to do.

    The command line prints the message as one line and exits with code 2.
    """


def name_ids(ids: Iterable[object], limit: int = 5) -> str:
    """List at most `limit` ids and say how many there are in all.

    Parameters
    ----------
    ids : iterable
        The ids concerned.
    limit : int
        How many to spell out.

    Returns
    -------
    str
        For example ``"a, b, c, d, e … (12 in all)"``.

    Examples
    --------
    >>> name_ids(["a", "b", "c"], limit=2)
    'a, b … (3 in all)'
    """
    names = [str(one) for one in ids]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} … ({len(names)} in all)"


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for a name that is not among the choices: the nearest first, then all.

    Parameters
    ----------
    kind : str
        What the name should have been, e.g. ``"model"``.
    name : str
        What came.
    choices : iterable of str
        What is known.

    Returns
    -------
    InputError
        To be raised by the caller.

    Examples
    --------
    >>> str(unknown_name("model", "alexnett", ["alexnet", "squeezenet1_0"]))
    "unknown model 'alexnett'; did you mean 'alexnet'? Known: alexnet, squeezenet1_0"
    """
    known = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    return InputError(f"unknown {kind} '{name}'{hint} Known: {', '.join(known)}")


def duplicates(ids: Iterable[object]) -> list[str]:
    """Return the ids that occur more than once, each once, in order of first repetition.

    Parameters
    ----------
    ids : iterable
        Ids to look at; compared as text.

    Returns
    -------
    list of str
        Empty when all are unique.
    """
    seen: set[str] = set()
    again: dict[str, None] = {}
    for one in map(str, ids):
        if one in seen:
            again[one] = None
        seen.add(one)
    return list(again)


# ---------------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it into place when the block ends well.

    Parameters
    ----------
    path : path-like
        Final file. Its folder is created. The temporary name keeps the suffixes of `path`, because writers such
        as nibabel and Pillow choose the format by suffix.

    Yields
    ------
    Path
        Write here. On any error, a full disk included, it is removed and `path` stays as it was.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", suffix="-" + final.name, dir=final.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, default=_plain) + "\n")


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
        When the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a JSON file: {error}.") from error


def _plain(value: Any) -> Any:
    """Turn what JSON does not know into what it knows."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def file_name(stimulus_id: str) -> str:
    """Check that an id can name a file inside the output folder, and return it.

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
        When the id is empty, starts with a dot, or holds a character that could leave the folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9_+=@%,()\[\] -][A-Za-z0-9_.+=@%,()\[\] -]{0,199}", stimulus_id):
        raise InputError(
            f"id {stimulus_id!r} cannot name a file; use letters, digits, '_', '-' or '.', not starting with '.'."
        )
    return stimulus_id


# ---------------------------------------------------------------------------------------------------- tables


def write_table(path: str | os.PathLike[str], table: pd.DataFrame) -> Path:
    """Write a table atomically as CSV (or TSV by suffix), full precision, missing values empty (TSV: ``n/a``).

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
    tabs = Path(path).suffix == ".tsv"
    text = table.to_csv(index=False, sep="\t" if tabs else ",", na_rep="n/a" if tabs else "", lineterminator="\n")
    return write_text(path, text)


def _exact_floats(version: str) -> dict[str, Any]:
    """Make pandas read every digit; from 3.1 on it does by itself, and deprecates being told."""
    major, minor = version.split(".")[:2]
    return {} if (int(major), int(minor)) >= (3, 1) else {"float_precision": "round_trip"}


def read_table(path: str | os.PathLike[str], required: Sequence[str] = (), text: Sequence[str] = ()) -> pd.DataFrame:
    """Read a CSV or TSV file; columns that hold names (`TEXT_COLUMNS`) stay text.

    Parameters
    ----------
    path : path-like
        The file; the suffix ``.tsv`` means tabs.
    required : sequence of str
        Columns that must be there.
    text : sequence of str
        Further columns that hold names.

    Returns
    -------
    pandas.DataFrame
        One row a line.

    Raises
    ------
    InputError
        When the file is missing, empty or unreadable, or lacks a required column.
    """
    import pandas as pd

    sep = "\t" if Path(path).suffix == ".tsv" else ","
    try:
        table = pd.read_csv(
            path,
            sep=sep,
            dtype=dict.fromkeys((*TEXT_COLUMNS, *text), "str"),
            keep_default_na=False,
            na_values=MISSING,
            **_exact_floats(pd.__version__),
        )
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable table: {error}.") from error
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise InputError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(map(str, table.columns))}."
        )
    return table


# ------------------------------------------------------------------------------------------------------ HDF5


class _Sink(io.FileIO):
    """A file that HDF5 can always close: the first refusal of the system is kept, and later writes go to memory.

    The HDF5 library cannot close a file that it cannot write (on a full disk): it would crash the interpreter at exit.
    It also reads back what it wrote, and crashes on other bytes; so small pieces, which all of its own bookkeeping is,
    are remembered. Where nothing was written it reads zeros, as from a file that it opened itself.
    """

    refusal: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._pieces: dict[int, bytes] = {}

    def write(self, data: Any) -> int:
        start, rest = self.tell(), memoryview(data)
        try:
            while len(rest) and self.refusal is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.refusal = error
        if self.refusal is not None and len(data) <= _PIECE:
            self._pieces.pop(start, None)  # the latest comes last
            self._pieces[start] = bytes(data)
        return len(data)

    def readinto(self, buffer: Any) -> int:
        start, found = self.tell(), memoryview(buffer).cast("B")
        there = super().readinto(found) or 0
        found[there:] = bytes(len(found) - there)
        for place, data in self._pieces.items():
            first, last = max(place, start), min(place + len(data), start + len(found))
            if first < last:
                found[first - start : last - start] = data[first - place : last - place]
        return len(found)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.refusal = self.refusal or error
            return self.tell() if size is None else size


_PIECE = 2**20
"""Bytes; longer pieces are data, which HDF5 hands through."""


@contextlib.contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a new HDF5 file for filling; it gets its name only when it is whole.

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

    with atomic_path(path) as part, _Sink(part, "w+") as sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file
        finally:
            if sink.refusal is not None:
                raise sink.refusal


def write_hdf5(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray] | None = None,
    tables: Mapping[str, pd.DataFrame] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Write arrays, tables and JSON attributes to one HDF5 file, atomically.

    Parameters
    ----------
    path : path-like
        Final file.
    arrays : mapping of str to ndarray, optional
        One dataset each; ``/`` in a name makes groups.
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
            file.create_dataset(name, data=_storable(np.asarray(values)))
        for name, table in (tables or {}).items():
            group = file.create_group(name)
            group.attrs["columns"] = json.dumps([str(column) for column in table.columns])
            group.attrs["n_rows"] = len(table)
            for column in table.columns:
                _write_column(group, str(column), table[column])
        for name, value in (attributes or {}).items():
            file.attrs[name] = json.dumps(value, sort_keys=True, default=_plain)
    return Path(path)


def _storable(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "UOT":
        return np.array([str(one).encode() for one in values.ravel()], dtype=bytes).reshape(values.shape)
    return values


def _write_column(group: Any, name: str, column: pd.Series) -> None:
    """Store one column; text (and mixed) columns keep their missing values as a mask."""
    import h5py
    import pandas as pd

    if pd.api.types.is_bool_dtype(column.dtype) and not column.isna().any():
        group.create_dataset(name, data=column.to_numpy(dtype=bool))
    elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_extension_array_dtype(column.dtype):
        group.create_dataset(name, data=column.to_numpy())
    else:
        text = ["" if missing else str(one) for one, missing in zip(column, column.isna(), strict=True)]
        data = group.create_dataset(name, data=np.array(text, dtype=object), dtype=h5py.string_dtype())
        data.attrs["missing"] = np.flatnonzero(column.isna().to_numpy())


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
            raise InputError(f"{path} holds no table '{name}'; it holds {', '.join(map(str, file)) or 'nothing'}.")
        group = file[name]
        columns = {column: _read_column(group[column]) for column in json.loads(group.attrs["columns"])}
        return pd.DataFrame(columns, index=pd.RangeIndex(int(group.attrs["n_rows"])))


def _read_column(data: Any) -> np.ndarray:
    if "missing" not in data.attrs:
        return data[...]
    values = np.array([one.decode() for one in data[...]], dtype=object)
    values[data.attrs["missing"].astype(int)] = None
    return values


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
            raise InputError(f"{path} holds no array '{name}'; it holds {', '.join(map(str, file)) or 'nothing'}.")
        values = file[name][...]
    return np.char.decode(values) if values.dtype.kind == "S" else values


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
    with open_hdf5(path) as file:
        return {name: json.loads(value) for name, value in file.attrs.items()}


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open an HDF5 file for reading, with an error that names the file.

    Parameters
    ----------
    path : path-like
        The file.

    Yields
    ------
    h5py.File
        Open for reading.

    Raises
    ------
    InputError
        When it is missing, is not HDF5, or is damaged where it is read.
    """
    import h5py

    if not Path(path).is_file():
        raise InputError(f"{path} does not exist.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} is not an HDF5 file: {error}.") from error
    with file:
        try:
            yield file
        except InputError:
            raise
        except (OSError, KeyError, RuntimeError, ValueError) as error:  # what h5py raises where a file is damaged
            raise InputError(f"{path} is damaged or of another kind ({error}); make or copy it again.") from error


# ------------------------------------------------------------------------------------------ identity and seeds


def digest(*parts: Any) -> str:
    """Hash contents: arrays by dtype, shape and bytes, tables by their CSV text, the rest by its JSON.

    Parameters
    ----------
    *parts : object
        Whatever makes up the identity.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256.
    """
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype.kind != "O":
            state.update(f"array {part.dtype.str} {part.shape}".encode())
            state.update(np.ascontiguousarray(part).data)
        elif isinstance(part, bytes):
            state.update(b"bytes" + part)
        elif hasattr(part, "to_csv"):
            state.update(b"table" + part.to_csv(index=False, lineterminator="\n").encode())
        else:
            state.update(b"json" + json.dumps(part, sort_keys=True, default=_plain).encode())
    return state.hexdigest()[:16]


def digest_file(path: str | os.PathLike[str]) -> str:
    """Hash a file's bytes.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def generator(seed: int, *names: object) -> np.random.Generator:
    """Make the random generator of one item: it depends on the seed and the item's name, never on order.

    Parameters
    ----------
    seed : int
        The seed of the study.
    *names : object
        What the numbers are for, e.g. ``"noise", stimulus_id``.

    Returns
    -------
    numpy.random.Generator
        The same for the same arguments, on every machine.

    Examples
    --------
    >>> bool(generator(0, "noise", "cat").random() == generator(0, "noise", "cat").random())
    True
    """
    words = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(words, dtype=np.uint32).tolist()])


def provenance(settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Collect what is needed to make a result again: settings, inputs, versions, machine.

    No absolute paths, user names or host names are recorded.

    Parameters
    ----------
    settings : mapping
        Everything that changes the numbers.
    **more : object
        Digests of inputs, seed, device, model and weights tags.

    Returns
    -------
    dict
        JSON-able.
    """
    versions = {}
    for name in ("neurometamer", "numpy", "scipy", "pandas", "torch", "torchvision", "timm", "nibabel", "nilearn",
                 "rsatoolbox", "scikit-learn", "scikit-image", "h5py", "pillow", "pingouin"):  # fmt: skip
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "settings": dict(settings),
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **more,
    }
