"""Where results come from: digests of what went in, seeds, versions. Imports nothing of ours."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from neurometamer.errors import InputError

VERSIONED = (
    "neurometamer",
    "numpy",
    "scipy",
    "pandas",
    "torch",
    "torchvision",
    "timm",
    "nibabel",
    "nilearn",
    "rsatoolbox",
    "scikit-learn",
    "scikit-image",
    "h5py",
    "pillow",
    "pingouin",
)
"""Packages whose versions are recorded with every result."""


def digest(*parts: Any) -> str:
    """Hash contents.

    Arrays are hashed by dtype, shape and bytes, tables by their CSV text, the rest by its JSON.

    Parameters
    ----------
    *parts : object
        The contents, in order.

    Returns
    -------
    str
        The first 16 hexadecimal digits of the SHA-256.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    >>> digest("a", "b") == digest("ab")
    False
    """
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype.kind != "O":
            state.update(f"array {part.dtype.str} {part.shape}".encode())
            state.update(np.ascontiguousarray(part).data)
        elif isinstance(part, bytes):
            state.update(b"bytes" + part)
        elif hasattr(part, "to_csv"):
            text = part.to_csv(index=False, lineterminator="\n")
            state.update(b"table" + text.encode())
        else:
            text = json.dumps(part, sort_keys=True, default=plain_value)
            state.update(b"json" + text.encode())
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
        state = hashlib.file_digest(file, "sha256")
    return state.hexdigest()[:16]


def plain_value(value: Any) -> Any:
    """Turn a value that JSON does not know into one that it knows.

    Parameters
    ----------
    value : object
        A numpy scalar or array, path, mapping or set.

    Returns
    -------
    object
        For ``json.dumps(..., default=plain_value)``.

    Raises
    ------
    TypeError
        When it has no plain form.
    """
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


def generator(seed: int, *names: object) -> np.random.Generator:
    """Make the random generator of one item.

    It depends on the seed and the names of the item, never on the order of calls.

    Parameters
    ----------
    seed : int
        The seed of the study.
    *names : object
        Purpose of the numbers, e.g. ``"noise", stimulus_id``.

    Returns
    -------
    numpy.random.Generator
        The same for the same arguments, on every machine.

    Raises
    ------
    InputError
        For a seed below 0.

    Examples
    --------
    >>> bool(generator(0, "noise", "cat").random() == generator(0, "noise", "cat").random())
    True
    """
    if seed < 0:
        raise InputError(f"the seed is {seed}; give a whole number of at least 0.")
    text = "\x1f".join(str(name) for name in names)
    hashed = hashlib.sha256(text.encode()).digest()
    words = np.frombuffer(hashed, dtype=np.uint32)
    return np.random.default_rng([seed, *words.tolist()])


def provenance(settings: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Collect the facts needed to make a result again: settings, inputs, versions, machine.

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

    Examples
    --------
    >>> record = provenance({"measure": "spearman"}, seed=3)
    >>> record["settings"], record["seed"]
    ({'measure': 'spearman'}, 3)
    """
    versions = {}
    for name in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "settings": dict(settings),
        "versions": versions,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        **more,
    }
