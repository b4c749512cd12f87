"""Reading files that others wrote: what is checked before, and one wrapper for whatever goes wrong.

Nothing here trusts a header. A file must be a plain file, may not promise more than it holds, and
an HDF5 file may not take its contents from anywhere else. Imports nothing of ours but the errors.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from neurometamer.errors import InputError, name_ids

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
    except (OSError, ValueError) as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise InputError(
            f"{path} does not exist." if missing else f"{path} cannot be opened: {error}."
        ) from None
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
            f"{path} says that it holds more than fits in memory; it is damaged or too large."
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
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
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
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if hasattr(os, "sysconf")
        else 2**63
    )
    if n_bytes > memory:
        part = f"{path}: '{name}'" if name else f"{path}"
        raise InputError(
            f"{part} says that it holds {n_bytes / 2**30:.0f} GiB, more than this machine's memory "
            f"({memory / 2**30:.0f} GiB); it is damaged or too large."
        )


GZIP_LIMIT = 1032
"""Bytes that gzip can make of one."""


def check_promise(path: Location, n_bytes: int) -> None:
    """Refuse a file whose header promises more values than so many bytes can hold.

    Parameters
    ----------
    path : path-like
        An existing file; the suffix ``.gz`` means that it is compressed.
    n_bytes : int
        Size of the values that the header promises.

    Raises
    ------
    InputError
        When the file is too short for them.
    """
    size = check_plain_file(path).stat().st_size
    most = size * GZIP_LIMIT if Path(path).suffix == ".gz" else size
    if n_bytes > most:
        raise InputError(
            f"{path} promises {n_bytes} bytes of values, more than its {size} bytes can hold; it "
            "is cut off or damaged."
        )


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
    with reading(path, "a NumPy file") as plain, plain.open("rb") as file:
        _check_array(file, plain.stat().st_size, path, "")


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
        check_room(sum(member.file_size for member in members), path)
        for member in members:
            with archive.open(member) as file:
                _check_array(file, member.file_size, path, member.filename.removesuffix(".npy"))


def _check_array(file: IO[bytes], size: int, path: Location, name: str) -> None:
    major, _ = np.lib.format.read_magic(file)
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    shape, _, dtype = read_header[min(major, 2)](file)
    part = f"{path}: '{name}'" if name else f"{path}"
    if dtype.hasobject:
        raise InputError(f"{part} holds Python objects, which are not read.")
    promised = math.prod(shape) * dtype.itemsize
    if promised > size:
        raise InputError(
            f"{part} promises {promised} bytes in a file of {size}; it is cut off or damaged."
        )


# --------------------------------------------------------------------------------------------- HDF5


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
        if fault := _fault_of(data, size):
            faults.setdefault(fault, []).append(name)
        elif data.size:
            check_room(data.size * data.dtype.itemsize, path, name)
    for fault, names in faults.items():
        raise InputError(
            f"{path}: {fault}: {name_ids(names)}; copy the data themselves into one file."
        )


def _datasets(file: h5py.File, faults: dict[str, list[str]]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Walk over every data set once; links out of the file are noted and not followed."""
    import h5py

    waiting, seen = [("", file)], set()
    while waiting:
        path, group = waiting.pop()
        for key in group:
            name, link = f"{path}/{key}".lstrip("/"), group.get(key, getlink=True)
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
    pairs = zip(data.shape, data.chunks, strict=True)
    expected = math.prod(-(-length // chunk) for length, chunk in pairs)
    if data.id.get_num_chunks() != expected:
        return "data that were never written, at least in part"
    return ""
