"""Reading files that others wrote: what is checked before, and one wrapper for whatever goes wrong.

Nothing here trusts a header. A file must be a plain file, may not promise more than it holds, and
an HDF5 file may not take its contents from anywhere else. Imports nothing of ours but the errors.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import math
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from neurometamer.errors import DamagedFile, InputError, duplicates, name_ids

if TYPE_CHECKING:
    import h5py

Location = str | os.PathLike[str]

Files = Sequence[str | Path]
"""Several files of one kind, as commands take them."""


def check_plain_file(path: Location) -> Path:
    """Refuse what is not a file with bytes on disk, before anything is opened.

    Parameters
    ----------
    path : path-like
        An input. A link to a file is a file.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    InputError
        When it does not exist, is a folder, or is a pipe or a device (reading one could wait for
        ever).
    """
    try:
        mode = Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path} does not exist; correct its name.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened: {error}; correct its name.") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; give a file.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is a pipe or a device; give a file on disk.")
    return Path(path)


@contextlib.contextmanager
def reading(path: Location, content: str = "a readable file") -> Iterator[Path]:
    """Turn whatever goes wrong while a file is read into an `InputError` that names the file.

    Parameters
    ----------
    path : path-like
        The file. It is checked by `check_plain_file` first.
    content : str
        What it should be, for the message, with its article, e.g. ``"a NIfTI image"``.

    Yields
    ------
    Path
        The file, to be read in the block; nothing else belongs there.

    Raises
    ------
    InputError
        Whatever the reader raised; an `InputError` of the block itself is passed on.

    Examples
    --------
    >>> import json, re, tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".json") as file:
    ...     try:
    ...         with reading(file.name, "a JSON file") as path:
    ...             json.loads(path.read_text())
    ...     except InputError as error:
    ...         message = str(error).replace(file.name, "FILE")
    ...         print(re.sub(r"[(].*[)]", "(...)", message))
    FILE is not a JSON file, or is damaged (...); make or copy it again.
    """
    plain = check_plain_file(path)
    try:
        yield plain
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{path} may not be read by this user; change its permissions.") from None
    except MemoryError:
        raise InputError(
            f"{path} says that it holds more than fits in memory; it is damaged, or too large: "
            "copy it again, or give less."
        ) from None
    except Exception as error:
        said = one_line(error)
        raise InputError(
            f"{path} is not {content}, or is damaged ({said}); make or copy it again."
        ) from error


def one_line(error: BaseException) -> str:
    """Say what an exception says, on one line of at most 300 characters.

    Parameters
    ----------
    error : BaseException
        Exception of any library.

    Returns
    -------
    str
        Its text, or its type where it has none.
    """
    words = str(error).split()
    text = " ".join(words).rstrip(".")
    if not text:
        return type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


def check_room(n_bytes: int, path: Location, name: str = "") -> None:
    """Refuse to read more than the machine's memory, before it is allocated.

    Parameters
    ----------
    n_bytes : int
        What the header promises.
    path : path-like
        The file.
    name : str
        Which part of it.

    Raises
    ------
    InputError
        When it exceeds the physical memory.
    """
    memory = machine_memory()
    if n_bytes > memory:
        part = f"{path}: '{name}'" if name else f"{path}"
        raise InputError(
            f"{part} says that it holds {n_bytes / 2**30:.0f} GiB, more than this machine's memory "
            f"({memory / 2**30:.0f} GiB); it is damaged, or too large: copy it again, or give "
            "less."
        )


def machine_memory() -> int:
    """Give the physical memory of this machine.

    Returns
    -------
    int
        Bytes; more than any machine has where the system does not say it.
    """
    if not hasattr(os, "sysconf"):
        return 2**63
    n_pages = os.sysconf("SC_PHYS_PAGES")
    return os.sysconf("SC_PAGE_SIZE") * n_pages


GZIP_LIMIT = 1032
"""Bytes that gzip can make of one."""


def check_promise(path: Location, n_bytes: int) -> None:
    """Refuse a file whose header promises more values than so many bytes can hold.

    Parameters
    ----------
    path : path-like
        An existing file; the suffixes ``.gz`` and ``.mgz`` mean that it is compressed. Those of
        other packers (``.bz2``, ``.zst``) can hold any amount, and are only checked to be files.
    n_bytes : int
        Size of the values that the header promises.

    Raises
    ------
    InputError
        When the file is too short for them.
    """
    size = check_plain_file(path).stat().st_size
    if Path(path).suffix in (".bz2", ".zst"):
        return
    most = size * GZIP_LIMIT if Path(path).suffix in (".gz", ".mgz") else size
    if n_bytes > most:
        raise InputError(
            f"{path} promises {n_bytes} bytes of values, more than its {size} bytes can hold; it "
            "is cut off or damaged; copy it again."
        )


# ------------------------------------------------------------------------------------------- tables


def check_cells(
    contents: str,
    path: Location,
    separator: str,
    *,
    quoted: bool,
    used: set[str] | None,
) -> None:
    """Refuse used columns of one name, and rows that are cut short.

    pandas reads both without an error.

    Parameters
    ----------
    contents : str
        Text of a table.
    path : path-like
        Its file, for the messages.
    separator : str
        What separates the cells of a row.
    quoted : bool
        Whether double quotes may enclose cells that hold separators or line ends.
    used : set of str or None
        Columns that are used; None for all.

    Raises
    ------
    InputError
        With the columns, or the first line that is short.
    """
    if quoted and '"' in contents:
        rows = list(csv.reader(io.StringIO(contents), delimiter=separator))
        header = next((row for row in rows if row), [])
        counts = [len(row) for row in rows]
        _check_quotes(rows, path, separator, header)
    else:
        lines = contents.split("\n")
        first = next((line for line in lines if line.strip()), "")
        header = first.split(separator)
        counts = []
        for line in lines:
            counts.append(line.count(separator) + 1 if line.strip("\r") else 0)
    names = [_without_quote(name.strip()) for name in header]
    counted = [name for name in names if name and (used is None or name in used)]
    again = []
    for name in duplicates(counted):
        try:  # a first row of numbers is no header; a reader that needs one refuses it
            float(name)
        except ValueError:
            again.append(name)
    if again:
        raise InputError(
            f"{path} has more than one column called {name_ids(again)}; give each its own name."
        )
    short = [row for row, count in enumerate(counts) if 0 < count < len(names)]
    if short:
        row = short[0]
        raise InputError(
            f"{path}: line {row + 1} has {counts[row]} cell(s), the header {len(names)}, as in a "
            f"file that is cut off ({len(short)} such line(s)); fill up each of them: n/a for what "
            "is missing."
        )


def _check_quotes(
    rows: Sequence[Sequence[str]],
    path: Location,
    separator: str,
    header: Sequence[str],
) -> None:
    """Refuse a cell that holds the end of its row and the beginning of a later one.

    There, a quote was not closed. Text of several lines is allowed where it does not look like
    that.
    """
    n_columns = len(header)
    if n_columns < 3:
        return
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            if "\n" not in cell:
                continue
            first, *between, last = (line.count(separator) for line in cell.split("\n"))
            are_rows = set(between) <= {n_columns - 1}
            if are_rows and first == n_columns - 1 - column and last == column:
                raise InputError(
                    f"{path}: row {number} of '{header[column]}' runs over several lines, as after "
                    f"a double quote that is not closed ({cell[:30]!r}…); remove the quote, or "
                    "save the table as .tsv."
                )


def without_quotes(contents: str) -> str:
    """Remove the quotes around whole cells of tab-separated text, which some programs write.

    Parameters
    ----------
    contents : str
        Text of a table.

    Returns
    -------
    str
        The same, where no cell is in quotes.
    """
    if '"' not in contents:
        return contents
    lines = []
    for line in contents.split("\n"):
        cells = [_without_quote(cell) for cell in line.split("\t")]
        lines.append("\t".join(cells))
    return "\n".join(lines)


def _without_quote(cell: str) -> str:
    is_quoted = len(cell) > 1 and cell[0] == '"' and cell[-1] == '"'
    if not is_quoted:
        return cell
    inner = cell[1:-1]
    return inner.replace('""', '"')


# -------------------------------------------------------------------------------------------- NumPy


def check_npy(path: Location) -> None:
    """Refuse a ``.npy`` file whose header promises more than the file holds.

    Parameters
    ----------
    path : path-like
        An existing file.

    Raises
    ------
    InputError
        When it is no ``.npy`` file, holds Python objects, or is cut off.
    """
    with reading(path, "a NumPy file") as plain:
        size = plain.stat().st_size
        with plain.open("rb") as file:
            _check_array(file, size, path, "")


def check_npz(path: Location) -> None:
    """Refuse a ``.npz`` file of which an array's header promises more than its member holds.

    Parameters
    ----------
    path : path-like
        An existing file.

    Raises
    ------
    InputError
        When it is no ``.npz`` file, holds Python objects, or unpacks to more than the memory.
    """
    with reading(path, "a NumPy file") as plain, zipfile.ZipFile(plain) as archive:
        members = archive.infolist()
        n_bytes = sum(member.file_size for member in members)
        check_room(n_bytes, path)
        for member in members:
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                _check_array(file, member.file_size, path, name)


def _check_array(file: IO[bytes], size: int, path: Location, name: str) -> None:
    major, _ = np.lib.format.read_magic(file)
    if major == 1:
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    part = f"{path}: '{name}'" if name else f"{path}"
    if dtype.hasobject:
        raise InputError(
            f"{part} holds Python objects, which are not read; save numbers in it, or text."
        )
    promised = math.prod(shape) * dtype.itemsize
    if promised > size:
        raise InputError(
            f"{part} promises {promised} bytes in a file of {size}; it is cut off or damaged; copy "
            "it again."
        )


# --------------------------------------------------------------------------------------------- HDF5


SEAL_SIZE = 512
"""Bytes before the contents of an HDF5 file of ours: the smallest user block that HDF5 knows."""

SEAL = b"neurometamer sha256 of all after byte 512: "
"""How the user block begins; the checksum follows."""


def hdf5_checksum(file: IO[bytes]) -> str:
    """Compute the checksum of an HDF5 file of ours.

    Parameters
    ----------
    file : binary file
        Open for reading.

    Returns
    -------
    str
        SHA-256 of all that follows the user block, in hexadecimal digits.
    """
    file.seek(SEAL_SIZE)
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def check_seal(path: Path) -> None:
    """Compare an HDF5 file with its checksum.

    Parameters
    ----------
    path : Path
        An existing file. Files of others have no checksum and pass, unless they are empty.

    Raises
    ------
    DamagedFile
        When its contents are not those that were written.
    """
    with path.open("rb") as file:
        head = file.read(SEAL_SIZE)
        is_cut_off = SEAL.startswith(head) or not head.strip(b"\0")
        if not head.startswith(SEAL) and not is_cut_off:
            return
        written = head[len(SEAL) :].rstrip(b"\0")
        is_sound = len(head) == SEAL_SIZE and not is_cut_off
        if not is_sound or written != hdf5_checksum(file).encode():
            raise DamagedFile(
                f"{path} is damaged: its contents are not what was written; make or copy it again."
            )


def check_own_contents(file: h5py.File, path: Location) -> None:
    """Refuse an HDF5 file that takes contents from outside or lacks promised contents.

    Parameters
    ----------
    file : h5py.File
        Opened for reading.
    path : path-like
        Its name, for the message.

    Raises
    ------
    InputError
        When it has external links, virtual data, external raw storage, data sets (or chunks of
        them) that were never written, which HDF5 would read as zeros, or more than fits in memory.
    """
    faults: dict[str, list[str]] = {}
    size = Path(path).stat().st_size
    for name, data in _datasets(file, faults):
        fault = _fault_of(data, size)
        if fault:
            faults.setdefault(fault, []).append(name)
        elif data.size:
            n_bytes = data.size * data.dtype.itemsize
            check_room(n_bytes, path, name)
    for fault, names in faults.items():
        raise InputError(
            f"{path}: {fault}: {name_ids(names)}; copy the data themselves into one file."
        )


def _datasets(file: h5py.File, faults: dict[str, list[str]]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Walk over every data set once; links out of the file are noted and not followed."""
    import h5py

    waiting = [("", file)]
    seen = set()
    while waiting:
        path, group = waiting.pop()
        for key in group:
            name = f"{path}/{key}".lstrip("/")
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.SoftLink):
                continue  # what it points to is in this file, and visited there
            if not isinstance(link, h5py.HardLink):
                faults.setdefault("data outside the file (external link)", []).append(name)
                continue
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append((name, item))
            elif isinstance(item, h5py.Dataset):
                yield name, item


def _fault_of(data: h5py.Dataset, file_size: int) -> str:
    """Return why a data set does not hold its values; empty when it does."""
    import h5py

    created = data.id.get_create_plist()
    if created.get_layout() == h5py.h5d.VIRTUAL:
        return "data outside the file (virtual data set)"
    if created.get_external_count():
        return "data outside the file (external storage)"
    if data.shape is None or data.size == 0:
        return ""
    stored = data.id.get_storage_size()
    if not stored:
        return "data that were never written"
    if stored > file_size:
        return "more data promised than the file holds"
    if data.chunks is None:
        return ""
    n_chunks = 1
    for length, chunk in zip(data.shape, data.chunks, strict=True):
        n_chunks *= -(-length // chunk)  # rounded up
    if data.id.get_num_chunks() != n_chunks:
        return "data that were never written, at least in part"
    return ""
