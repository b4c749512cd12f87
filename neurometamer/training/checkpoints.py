"""Checkpoints of a training: one safetensors file, with a state and a digest of all of it.

The checkpoint before the newest is kept: a damaged one costs the steps between the two. Nothing is
pickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurometamer.errors import DamagedFile, InputError
from neurometamer.reading import reading
from neurometamer.store import atomic_path

CHECKPOINT = "checkpoint.safetensors"
BEFORE = "checkpoint-before.safetensors"
_LOG = logging.getLogger(__name__)


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors, atomically.

    Parameters
    ----------
    path : Path
        The file.
    tensors : mapping of str to Tensor
        On any device; tensors that share their memory are written once each.
    metadata : mapping of str to str, optional
        Texts to keep with them.
    """
    from safetensors.torch import save

    memories = set()
    own = {}
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in memories:
            value = value.clone()
        memories.add(value.untyped_storage().data_ptr())
        own[name] = value
    content = save(own, None if metadata is None else dict(metadata))
    with atomic_path(path) as part:
        part.write_bytes(content)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read weights that a run has written.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to Tensor
        State dict.

    Raises
    ------
    InputError
        When the file is missing or damaged.
    """
    from safetensors.torch import load

    with reading(path, "a safetensors file of a training"):
        return load(path.read_bytes())


def digest_tensors(tensors: Mapping[str, Tensor], *texts: str) -> str:
    """Hash tensors with their names, types and shapes, and texts.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        On the CPU or another device.
    *texts : str
        What else belongs to them.

    Returns
    -------
    str
        SHA-256, 64 hexadecimal digits; the order of the tensors does not matter.
    """
    state = hashlib.sha256(json.dumps(texts).encode())
    for name, value in sorted(tensors.items()):
        state.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        if len(flat):
            state.update(flat.view(torch.uint8).numpy().data)
    return state.hexdigest()


def write_checkpoint(
    folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], run: str
) -> None:
    """Write a checkpoint; the one that was the newest is kept as the one before.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    tensors : mapping of str to Tensor
        All that is needed to go on.
    state : mapping of str to object
        JSON-able.
    run : str
        Identity of the run.
    """
    text = json.dumps(dict(state))
    sealed = digest_tensors(tensors, text, run)
    if (folder / CHECKPOINT).is_file():
        (folder / CHECKPOINT).replace(folder / BEFORE)
    metadata = {"state": text, "run": run, "digest": sealed}
    write_safetensors(folder / CHECKPOINT, tensors, metadata)


def read_checkpoint(
    folder: Path, run: str, *, tidy: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the newest checkpoint that is sound; damaged ones are told.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    run : str
        Identity of the run.
    tidy : bool
        Whether to remove damaged ones, and to tell of them.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU.
    state : dict
        What was written with them; None in place of both where there is no sound checkpoint.

    Raises
    ------
    InputError
        When a sound one is another run's.
    """
    for path in (folder / CHECKPOINT, folder / BEFORE):
        if not os.path.lexists(path):
            continue
        try:
            tensors, state, owner = _sealed(path)
        except InputError as error:
            if tidy:
                _LOG.warning("%s It is not used.", error)
                if path.is_file() or path.is_symlink():
                    path.unlink()
            continue
        if owner != run:
            raise InputError(
                f"{path} is the checkpoint of another run; remove it, or choose another --out."
            )
        return tensors, state
    return None


def _sealed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Read one checkpoint: tensors, state, and whose it is."""
    from safetensors import safe_open

    tensors = {}
    with reading(path, "a checkpoint of a training"):
        with safe_open(path, framework="pt") as file:
            kept = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                tensors[name] = file.get_tensor(name)
        text, run = kept["state"], kept["run"]
        if kept["digest"] != digest_tensors(tensors, text, run):
            raise DamagedFile(f"{path} is damaged: it does not hold what was written.")
        return tensors, json.loads(text), run


def in_part(part: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Take the values of one part of a checkpoint, such as those of the network.

    Parameters
    ----------
    part : str
        What stands before the slash in their names.
    tensors : mapping of str to object
        All values.

    Returns
    -------
    dict of str to object
        Names without the part.
    """
    front = f"{part}/"
    own = {}
    for name, value in tensors.items():
        if name.startswith(front):
            own[name.removeprefix(front)] = value
    return own


def optimizer_values(optimizer: torch.optim.Optimizer, names: Sequence[str]) -> dict[str, Any]:
    """Name what an optimizer remembers of each weight.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer, of one group.
    names : sequence of str
        Names of its weights, in its order.

    Returns
    -------
    dict of str to object
        ``<weight>/<value>`` to a tensor or a number.
    """
    values = {}
    for place, remembered in optimizer.state_dict()["state"].items():
        for key, value in remembered.items():
            if value is not None:
                values[f"{names[place]}/{key}"] = value
    return values


def load_optimizer(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter], values: Mapping[str, Any]
) -> None:
    """Give an optimizer what it remembered, see `optimizer_values`.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        The optimizer, of one group.
    weights : mapping of str to torch.nn.Parameter
        Its weights, in its order.
    values : mapping of str to object
        What it remembered.
    """
    places = {name: place for place, name in enumerate(weights)}
    state: dict[int, dict[str, Any]] = {}
    for label, value in values.items():
        name, _, key = label.rpartition("/")
        if key != "step" and isinstance(value, Tensor) and value.shape == weights[name].shape:
            # laid out in memory as the weight is
            value = torch.empty_like(weights[name], requires_grad=False).copy_(value)
        state.setdefault(places[name], {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
