"""What is kept so that a stopped run goes on: records with checksums and finished pieces.

A lock names the process that works in a folder.

A file that is kept has one of three states. It is good, and used. It is damaged, and made again,
with a note. Or it is another's, and refused.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import inspect
import logging
import os
import socket
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from neurometamer.errors import DamagedFile, FolderInUse, InputError, OutputError, name_ids
from neurometamer.provenance import digest
from neurometamer.reading import check_plain_file
from neurometamer.store import file_name, parse_table, read_json, write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

PIECES = ".finished"
"""Folder of finished pieces, inside a folder of results."""

CHECKSUM = "checksum"
"""Key of a record that holds the digest of all others."""

FOLDER_LOCK = ".lock"
"""Lock file of a folder of results; a study's is in its state folder."""

_SEAL = "# checksum of all above: "
_LOG = logging.getLogger(__name__)


def note_remade(path: str | os.PathLike[str]) -> None:
    """Report that a damaged file is not used and is made again.

    The note is shown on the terminal unless logging is set up otherwise.

    Parameters
    ----------
    path : path-like
        The file.
    """
    _LOG.warning("%s is damaged or incomplete; it is not used and is made again.", path)


# ----------------------------------------------------------------------------- files with checksums


def write_record(path: str | os.PathLike[str], record: Mapping[str, Any]) -> Path:
    """Write a JSON object with a checksum, atomically.

    Parameters
    ----------
    path : path-like
        Final file.
    record : mapping
        JSON-able; the key ``checksum`` is added.

    Returns
    -------
    Path
        The file.
    """
    checksum = digest(dict(record))
    return write_json(path, {**record, CHECKSUM: checksum})


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object written by `write_record`.

    Parameters
    ----------
    path : path-like
        An existing file.

    Returns
    -------
    dict
        What was written.

    Raises
    ------
    DamagedFile
        When it does not hold what was written.
    InputError
        When there is no such file.
    """
    check_plain_file(path)
    with contextlib.suppress(InputError):
        record = read_json(path)
        if isinstance(record, dict) and record.pop(CHECKSUM, None) == digest(record):
            return record
    raise DamagedFile(f"{path} is damaged: it does not hold what was written; make it again.")


def write_sealed(path: str | os.PathLike[str], text: str) -> Path:
    """Write text with a checksum on a last line of its own, atomically.

    Parameters
    ----------
    path : path-like
        Final file.
    text : str
        Its contents, ending with a new line.

    Returns
    -------
    Path
        The file.
    """
    checksum = _checksum(text.encode())
    return write_text(path, f"{text}{_SEAL}{checksum}\n")


def read_sealed(path: str | os.PathLike[str]) -> str:
    """Read text written by `write_sealed`.

    Parameters
    ----------
    path : path-like
        An existing file.

    Returns
    -------
    str
        What was written, without the checksum.

    Raises
    ------
    DamagedFile
        When it does not hold what was written.
    """
    contents = check_plain_file(path).read_bytes()
    text, _, written = contents.rpartition(_SEAL.encode())
    if written != f"{_checksum(text)}\n".encode():
        raise DamagedFile(f"{path} is damaged: it does not hold what was written; make it again.")
    return text.decode("utf-8")


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


# ---------------------------------------------------------------------------- who works in a folder


_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_OURS: ContextVar[frozenset[str]] = ContextVar("ours", default=frozenset())
"""Folders in which this call works, by their locks."""


@contextlib.contextmanager
def alone_in(folder: str | os.PathLike[str], lock: str = FOLDER_LOCK) -> Iterator[None]:
    """Keep all others out of a folder for as long as the block lasts.

    Parameters
    ----------
    folder : path-like
        A folder of results; made when missing, and removed when the block leaves nothing in it.
    lock : str
        Its lock file, inside the folder.

    Yields
    ------
    None
        What the block calls may work in the folder, too.

    Raises
    ------
    FolderInUse
        When another process, or another thread, works there.
    InputError
        When it is no folder.

    See Also
    --------
    writes_into : The same for a whole function.
    """
    target = Path(folder)
    name = os.path.realpath(target / lock)
    if name in _OURS.get():
        yield
        return
    if target.exists() and not target.is_dir():
        raise InputError(f"{folder} is not a folder; choose another --out.")
    with only_process(target / lock, folder):
        token = _OURS.set(_OURS.get() | {name})
        try:
            yield
        finally:
            _OURS.reset(token)


def writes_into(
    argument: str,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Let a function work alone in the folder that it writes into.

    Every command that fills a folder is such a function. The folder of its argument ``images`` is
    refused: what is written there would pass for the user's own images from then on.

    Parameters
    ----------
    argument : str
        Name of its argument with the folder; None as its value means that no folder is written.

    Returns
    -------
    callable
        A decorator.
    """

    def _decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def _alone(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            given = signature.bind(*args, **kwargs)
            folder = given.arguments.get(argument)
            if not isinstance(folder, (str, os.PathLike)):
                # no folder, or the function refuses it by name
                return function(*args, **kwargs)
            refuse_folder_of_images(folder, given.arguments.get("images"))
            with alone_in(folder):
                return function(*args, **kwargs)

        return _alone

    return _decorate


def refuse_folder_of_images(folder: str | os.PathLike[str], images: object) -> None:
    """Refuse to write into a folder of images that are read.

    Parameters
    ----------
    folder : path-like
        Where to write.
    images : object
        Path of images, or a list of these; anything else is passed over.

    Raises
    ------
    InputError
        When one is the folder.
    """
    given = [images] if isinstance(images, (str, os.PathLike)) else images
    if not isinstance(given, (list, tuple)):
        return
    for path in given:
        if isinstance(path, (str, os.PathLike)) and os.path.realpath(path) == os.path.realpath(
            folder
        ):
            raise InputError(
                f"{os.fspath(folder)} holds the images that are read (--images); choose another "
                "folder to write into (--out)."
            )


@contextlib.contextmanager
def only_process(lock: Path, folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a lock for as long as the block lasts; the system releases it when the process dies.

    Parts of files that a process left that was killed while it held the lock are removed.

    Parameters
    ----------
    lock : Path
        Lock file; made when missing, with its folder. While it is held it says who holds it.
    folder : path-like
        What it stands for, for the message.

    Yields
    ------
    None
        The block runs alone: threads of this process are kept out, too.

    Raises
    ------
    FolderInUse
        When another process holds it.
    InputError
        When something else than a lock file has its name.
    OutputError
        When the system refuses to make it.
    """
    parents = [lock.parent, *lock.parent.parents]
    made = [parent for parent in parents if not parent.exists()]
    try:
        handle, died = _hold(lock, folder)
    except OSError as error:
        raise OutputError(error.errno, error.strerror or str(error), str(folder)) from error
    try:
        name = _own_name()
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, name.encode())
        if died is not None:
            _remove_parts(Path(folder), since=died)
        yield
    finally:
        if os.name == "posix":
            # before it is released, so that nobody gets a lock that is removed then
            lock.unlink(missing_ok=True)
            os.close(handle)
        else:  # Windows removes no file that is open
            os.close(handle)
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)
        for parent in made:
            with contextlib.suppress(OSError):  # not empty: something was made there
                parent.rmdir()


def _remove_parts(folder: Path, *, since: float) -> None:
    """Remove parts of files from a time on, but none from a folder in which another works."""
    for parent, folders, files in os.walk(folder):
        free = [name for name in folders if not who_holds(Path(parent, name, FOLDER_LOCK))]
        folders[:] = free
        for name in files:
            part = Path(parent, name)
            with contextlib.suppress(OSError):
                if name.startswith(".part-") and part.stat().st_mtime >= since:
                    part.unlink()


def _hold(lock: Path, folder: str | os.PathLike[str]) -> tuple[int, float | None]:
    """Open and lock the file of this name; say since when a process that died held it, if one did.

    A file that its last holder removed in between is released.
    """
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = _open_lock(lock, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # its last holder has just removed the empty folder
            continue
        if not _lock(handle, exclusive=True):
            holder = _holder(handle)
            os.close(handle)
            raise FolderInUse(
                f"{holder} is working in {folder}; wait until it has ended, or choose another "
                "--out."
            )
        with contextlib.suppress(FileNotFoundError):
            seen = os.fstat(handle)
            if lock.stat().st_ino == seen.st_ino:
                os.ftruncate(handle, 0)
                return handle, seen.st_mtime if seen.st_size else None
        os.close(handle)


def who_holds(lock: Path) -> str:
    """Return the name of the other process that holds a lock.

    Parameters
    ----------
    lock : Path
        See `only_process`.

    Returns
    -------
    str
        Empty when nobody does, or this process itself.
    """
    if not lock.exists():
        return ""
    handle = _open_lock(lock, os.O_RDONLY)
    try:
        if _lock(handle, exclusive=False):
            return ""
        holder = _holder(handle)
        return "" if holder == _own_name() else holder
    finally:
        os.close(handle)


def _open_lock(lock: Path, flags: int) -> int:
    """Open a lock file without following a link, so that nobody's file is emptied through one."""
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(lock, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise InputError(
                f"{lock} is not a lock file but a link, folder or pipe; remove it."
            ) from None
        raise
    seen = os.fstat(handle)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
        os.close(handle)
        raise InputError(f"{lock} is not a lock file of its own; remove it.")
    return handle


def _lock(handle: int, *, exclusive: bool) -> bool:
    """Try to lock, and return whether that worked.

    Where the file system knows no locks, every process may work, with a note.
    """
    if os.name == "nt":
        import msvcrt

        os.lseek(handle, _WINDOWS_BYTE, os.SEEK_SET)
        try:  # all locks of Windows are exclusive
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    import fcntl

    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _LOG.warning(
            "this file system knows no locks (%s): start no second process in this folder.",
            error.strerror,
        )
    return True


_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of network file systems that are mounted without locks."""

_WINDOWS_BYTE = 2**20
"""The byte that is locked on Windows: far behind the name of the holder, which others read."""


def _holder(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    contents = os.read(handle, 500)
    name = contents.decode("utf-8", "replace").strip()
    return name or "another process"


def _own_name() -> str:
    number = os.getpid()
    machine = socket.gethostname()
    return f"process {number} on {machine}"


def refuse_links_out(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder with links that lead out of it.

    The links of a folder that somebody else packed may point anywhere.

    Parameters
    ----------
    folder : path-like
        A folder of results; it may itself be a link, and need not exist.

    Raises
    ------
    InputError
        When a link in it, at any depth, points outside.
    """
    root = Path(os.path.realpath(folder))
    outside = []
    for parent, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(parent, name)
            if not path.is_symlink():
                continue
            target = Path(os.path.realpath(path))
            if not target.is_relative_to(root):
                outside.append(path.relative_to(root).as_posix())
    if outside:
        raise InputError(
            f"{folder} holds links that lead out of it, which are not followed: "
            f"{name_ids(sorted(outside))}; replace each by the file or folder itself."
        )


# ------------------------------------------------------------------------------- folders of results


def claim_folder(
    out: Path,
    analysis: str,
    recipe: Mapping[str, Any],
    *,
    inputs: Sequence[str] = ("digests",),
    record: str = "provenance.json",
) -> None:
    """Refuse a folder of another analysis, then mark it as one of this analysis.

    Parameters
    ----------
    out : Path
        The folder; made when missing.
    analysis : str
        What it is for, e.g. ``"recognition"``.
    recipe : mapping
        Provenance, with ``settings`` and `inputs`; written as `record`, not ``finished``.
    inputs : sequence of str
        Parts of the recipe that say what went in.
    record : str
        Name of the file.

    Raises
    ------
    InputError
        When the folder holds other results, files of somebody else, or links that lead out of it.
    """
    path = out / record
    refuse_links_out(out)
    new = {**recipe, "analysis": analysis}
    if path.is_file():
        old = _claimed(path, analysis)
        differing = [] if old is None else _differences(old, new, inputs)
        if differing:
            raise InputError(
                f"{out} holds another analysis (other {name_ids(differing)}); choose another --out."
            )
    elif out.is_dir():
        # a lock and parts of files are there only while somebody writes
        others = []
        for entry in out.iterdir():
            if entry.name != FOLDER_LOCK and not entry.name.startswith(".part-"):
                others.append(entry.name)
        if others:
            raise InputError(
                f"{out} holds other files ({name_ids(sorted(others))}); choose an empty or new "
                "folder."
            )
    write_record(path, {**new, "finished": False})


def _claimed(path: Path, analysis: str) -> dict[str, Any] | None:
    """Read the analysis that claimed a folder; None when its record is ours and damaged."""
    other = InputError(
        f"{path.parent} holds something else than an analysis of {analysis}; choose another --out."
    )
    try:
        record = read_record(path)
    except DamagedFile:
        text = check_plain_file(path).read_text(encoding="utf-8", errors="replace")
        if CHECKSUM not in text or f'"analysis": "{analysis}"' not in text:
            raise other from None
        note_remade(path)
        return None
    if record.get("analysis") != analysis:
        raise other
    return record


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], inputs: Sequence[str]
) -> list[str]:
    """Name the settings of two records that differ, and ``data`` where what went in does."""
    before = old.get("settings", {})
    differing = []
    for name, value in new["settings"].items():
        if digest(before.get(name)) != digest(value):
            differing.append(name)
    for name in inputs:
        if digest(old.get(name)) != digest(new.get(name)):
            return [*differing, "data"]
    return differing


def kept_piece(
    out: Path,
    name: str,
    key: Sequence[Any],
    make: Callable[[], pd.DataFrame],
    *,
    text: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table that an earlier run finished, or make and keep it.

    Parameters
    ----------
    out : Path
        Folder of results.
    name : str
        Name of the kind of piece.
    key : sequence
        Everything that the piece depends on.
    make : callable
        Makes the table.
    text : sequence of str
        Columns that hold names.

    Returns
    -------
    pandas.DataFrame
        As it is read from the disk, also when it was just made: a run that was stopped gives the
        same numbers. A damaged piece is made again, with a note.
    """
    path = out / PIECES / f"{file_name(name)}-{digest(list(key))}.csv"
    contents = None
    if path.is_file():
        try:
            contents = read_sealed(path)
        except DamagedFile:
            note_remade(path)
    if contents is None:
        contents = make().to_csv(index=False, lineterminator="\n")
        write_sealed(path, contents)
    return parse_table(contents, path, text=text)
