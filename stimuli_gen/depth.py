"""Find the stage at a fraction of a network's depth, the same way for every architecture.

Boehm et al. (2025) match metamers at 20, 50 and 80 % of a network's depth and do not say what the unit of depth is.
Here it is the repeated block (of residual nets, transformers, MobileNets, DenseNets, fire modules …), in the order in
which blocks run, or, of a network without blocks (AlexNet, VGG), the layer with weights. Of N units that run, the
fraction p is the unit number floor(p·N + 0.5), counted from 1, at its output, after its activation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn

from neurometamer.store import InputError, name_ids, unknown_name
from stimuli_gen.staged import SOFTMAX, StagedModel

DEPTHS = {"early": 0.2, "middle": 0.5, "late": 0.8}
"""Names of fractions of depth (Boehm et al. 2025)."""

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_BETWEEN_BLOCKS = ("PatchMerging",)  # torchvision's Swin lists what shrinks the map among the blocks
_FEWEST_BLOCKS = 3


def depth_units(network: nn.Module, shared: Collection[str] = ()) -> tuple[str, ...]:
    """List the units in which a network's depth is counted.

    Parameters
    ----------
    network : torch.nn.Module
        Any network.
    shared : collection of str
        Paths of activations that serve several layers; the layers' own outputs stand for them.

    Returns
    -------
    tuple of str
        Module paths in the order of registration: blocks, or outputs of layers with weights (their activation, where
        one follows before the next such layer).
    """
    return _blocks(network) or _layers(network, shared)


def _blocks(network: nn.Module) -> tuple[str, ...]:
    """Find modules that repeat inside a list of modules and are no lists of such modules themselves."""
    modules = dict(network.named_modules())
    members = {
        path: module
        for path, module in modules.items()
        if path
        and isinstance(modules[path.rpartition(".")[0]], _CONTAINERS)
        and not isinstance(module, _CONTAINERS)
        and not type(module).__name__.startswith(_BETWEEN_BLOCKS)
        and any(True for _ in module.children())
        and any(isinstance(part, _WEIGHTED) for part in module.modules())
    }
    groups = {path for path in members if _repeats_inside(path, members)}
    blocks = {path: one for path, one in members.items() if path not in groups}
    blocks = {path: one for path, one in blocks.items() if not any(path.startswith(f"{other}.") for other in blocks)}
    if len(blocks) < _FEWEST_BLOCKS:
        return ()
    kind = Counter(type(one) for one in blocks.values()).most_common(1)[0][0]
    roots = {path.split(".")[0] for path, one in blocks.items() if type(one) is kind}
    return tuple(path for path in blocks if path.split(".")[0] in roots)


def _repeats_inside(path: str, members: dict[str, nn.Module]) -> bool:
    kinds = Counter(type(one) for other, one in members.items() if other.startswith(f"{path}."))
    return any(count > 1 for count in kinds.values())


def _layers(network: nn.Module, shared: Collection[str] = ()) -> tuple[str, ...]:
    """List the outputs of convolutions and matrix products, after the activation that follows unless it is shared."""
    leaves = [(path, one) for path, one in network.named_modules() if path and not any(True for _ in one.children())]
    found: list[str] = []
    activated = True
    for path, one in leaves:
        if isinstance(one, _WEIGHTED):
            found.append(path)
            activated = False
        elif not activated and path not in shared and type(one).__module__ == "torch.nn.modules.activation":
            found[-1] = path
            activated = True
    return tuple(found)


def resolve_stage(model: StagedModel, stage: str | float) -> tuple[str, str]:
    """Find a stage by name or by fraction of depth.

    Parameters
    ----------
    model : StagedModel
        The network.
    stage : str or float
        A stage of the model, a module path of its network, ``"early"``, ``"middle"``, ``"late"`` (see `DEPTHS`), or
        a fraction in (0, 1], also as text.

    Returns
    -------
    name : str
        The model's name of the stage, or the module path where it has none.
    path : str
        Module path.

    Raises
    ------
    InputError
        When the name is unknown, or the fraction out of range or before the first unit.
    """
    if isinstance(stage, str) and stage in model.stages:
        return stage, model.stages[stage]
    if isinstance(stage, str) and stage in dict(model.network.named_modules()) and stage:
        return stage, stage
    try:
        fraction = DEPTHS[stage] if isinstance(stage, str) and stage in DEPTHS else float(stage)
    except ValueError:
        raise unknown_name(f"stage of {model.name}", str(stage), [*DEPTHS, *model.stages]) from None
    if not 0 < fraction <= 1:
        raise InputError(f"depth {fraction:g} is out of range; give a fraction above 0 and at most 1, or a stage name.")
    units = _units_in_order(model)
    number = math.floor(fraction * len(units) + 0.5)
    if number < 1:
        raise InputError(
            f"{model.name} has {len(units)} units of depth, so {fraction:g} is before the first; name one."
        )
    path = units[number - 1]
    return next((name for name, known in model.stages.items() if known == path), path), path


def _units_in_order(model: StagedModel) -> tuple[str, ...]:
    """List the units of depth as they run; those that never do (heads for training only) have no depth."""
    units = depth_units(model.network)
    calls = _runs(model, units)
    if shared := [path for path, runs in Counter(calls).items() if runs > 1]:  # one nn.ReLU for all layers, say
        units = depth_units(model.network, shared)
        calls = _runs(model, units)
    _check_once(model, set(calls), calls)
    return tuple(calls)


def run_order(model: StagedModel, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Order modules as they run, early to late.

    Parameters
    ----------
    model : StagedModel
        The network; one grey image is passed through it.
    paths : tuple of str
        Module paths, and ``"softmax"`` for the softmax of the output.

    Returns
    -------
    tuple of str
        The same, ordered by when they put out.

    Raises
    ------
    InputError
        When one does not run exactly once.
    """
    calls = _runs(model, paths)
    _check_once(model, [path for path in paths if path != SOFTMAX], calls)
    return (*calls, *(path for path in paths if path == SOFTMAX))


def _check_once(model: StagedModel, paths: Collection[str], calls: Sequence[str]) -> None:
    if wrong := [path for path in paths if calls.count(path) != 1]:
        raise InputError(
            f"{model.name}: {name_ids(sorted(wrong))} do not run exactly once in a forward pass; "
            "name a stage that does."
        )


def _runs(model: StagedModel, paths: Sequence[str]) -> list[str]:
    """Run the network once and list the modules each time they put out."""
    calls: list[str] = []

    def _note(_: nn.Module, __: Any, ___: Any, *, path: str) -> None:
        calls.append(path)

    with ExitStack() as hooks, torch.no_grad():
        for path in paths:
            if path != SOFTMAX:
                module = model.network.get_submodule(path)
                hooks.callback(module.register_forward_hook(partial(_note, path=path)).remove)
        model.logits(torch.full((1, 3, *model.preprocessing.size), 0.5, device=model.device))
    return calls
