"""Find the stage at a fraction of a network's depth, the same way for every architecture.

Boehm et al. (2025) match metamers at 20, 50 and 80 % of a network's depth and do not say what the
unit of depth is. Here it is the repeated block (of residual nets, transformers, MobileNets,
Inceptions, fire modules …), in the order in which blocks run, or, of a network without blocks
(AlexNet, VGG), the layer with weights. Of N units that run, the fraction p is the unit number
floor(p·N + 0.5), counted from 1, at its output, after its activation.

A unit's output must be a cut of the network: every path from the image to the logits passes through
it, so that it holds all that the network knows of the image at that depth. The branch of an
Inception module is none, the module is one. This is read from the graph of gradients of one forward
pass, not from the names or classes of modules.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from stimuli_gen.batches import for_one_image, gradients_on, out_of_memory
from stimuli_gen.models import SOFTMAX, StagedModel, device_of

_LOG = logging.getLogger(__name__)

DEPTHS = {"early": 0.2, "middle": 0.5, "late": 0.8}
"""Names of fractions of depth (Boehm et al. 2025)."""

NO_CUTS: Mapping[str, str] = {
    "_DenseLayer": "a dense layer is no cut: later layers of its block also see earlier ones; it "
    "is the unit all the "
    "same, because the dense layers of DenseNet are what the paper's depth counts",
}
"""Class of a module whose output is no cut of its network → why it is a unit nevertheless."""

_SAME_AS = {"DenseLayer": "_DenseLayer"}  # timm's and torchvision's
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
_NO_BLOCKS = ("PatchMerging", "ClassAttention", "LayerScaleBlockClassAttn", "ClassBlock")
"""Beginnings of class names of what stands among or after the blocks and is none: what shrinks the
map in torchvision's Swin, and class attention (XCiT, CaiT, VOLO), which reads out one token."""
_FEWEST_BLOCKS = 3
_ACTIVATIONS = (
    "Relu",
    "Gelu",
    "Silu",
    "Hardtanh",
    "Hardswish",
    "LeakyRelu",
    "Elu",
    "Tanh",
    "Sigmoid",
    "Threshold",
)
_TRANSPARENT = (
    "NativeBatchNorm",
    "CudnnBatchNorm",
    "NativeGroupNorm",
    "NativeLayerNorm",
    "View",
    "UnsafeView",
)


@dataclass(frozen=True, kw_only=True)
class FoundStage:
    """A stage that was asked for.

    Parameters
    ----------
    name : str
        The model's name of the stage, or the module path where it has none.
    path : str
        Module path.
    note : str
        What must be known of it; empty for nothing.
    """

    name: str
    path: str
    note: str = ""


@checked
def depth_units(
    network: nn.Module | StagedModel, size: tuple[int, int] = (224, 224)
) -> tuple[str, ...]:
    """List the units in which a network's depth is counted.

    Parameters
    ----------
    network : torch.nn.Module or StagedModel
        Any network; one gray image is passed through it, in evaluation mode.
    size : tuple of int
        (height, width) in pixels of the image for a plain module; a `StagedModel` knows its own.

    Returns
    -------
    tuple of str
        Module paths in the order in which they put out: blocks, or outputs of layers with weights
        (their activation, where a module follows that is one).

    Raises
    ------
    InputError
        When most of the network has no cut, so that there is no unit of depth.

    Examples
    --------
    >>> from torch import nn
    >>> layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    >>> depth_units(nn.Sequential(*layers), size=(4, 4))
    ('1', '3')
    """
    units = _units(_pass(network, size))
    return tuple(units)


@checked
def resolve_stage(model: StagedModel, stage: str | float) -> tuple[str, str]:
    """Find a stage by name or by fraction of depth.

    Parameters
    ----------
    model : StagedModel
        The network.
    stage : str or float
        A stage of the model, a module path of its network, ``"early"``, ``"middle"``, ``"late"``
        (see `DEPTHS`), or a fraction in (0, 1], also as text.

    Returns
    -------
    name : str
        The model's name of the stage, or the module path where it has none.
    path : str
        Module path.

    Raises
    ------
    InputError
        When the name is unknown, or the fraction out of range or before the first unit, or the
        network has no units.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import resolve_stage, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> resolve_stage(model, "middle"), resolve_stage(model, 1.0)
    (('1', '1'), ('3', '3'))
    """
    resolved = find_stage(model, stage)
    return resolved.name, resolved.path


def find_stage(model: StagedModel, stage: str | float) -> FoundStage:
    """Find a stage as `resolve_stage` does, and say what must be known of it.

    Parameters
    ----------
    model : StagedModel
        The network.
    stage : str or float
        See `resolve_stage`.

    Returns
    -------
    FoundStage
        With a note, which is logged as a warning too, where the unit of depth is no cut, or its
        activation is not in it.

    Raises
    ------
    InputError
        As `resolve_stage`.
    """
    if isinstance(stage, str) and stage in model.stages:
        return FoundStage(name=stage, path=model.stages[stage])
    if isinstance(stage, str) and stage and stage in dict(model.network.named_modules()):
        return FoundStage(name=stage, path=stage)
    try:
        fraction = DEPTHS.get(stage) if isinstance(stage, str) else stage
        fraction = float(stage if fraction is None else fraction)
    except (TypeError, ValueError):
        raise unknown_name(f"stage of {model.name}", str(stage), [*DEPTHS, *model.stages]) from None
    if not 0 < fraction <= 1:
        raise InputError(
            f"depth {fraction:g} is out of range; give a fraction above 0 and at most 1, or a "
            "stage name."
        )
    units = _units(_pass(model))
    number = math.floor(fraction * len(units) + 0.5)
    if number < 1:
        raise InputError(
            f"{model.name} has {len(units)} units of depth, so {fraction:g} is before the first; "
            f"name one ({name_ids(units)})."
        )
    path = list(units)[number - 1]
    note = units[path]
    if note:
        _LOG.warning("%s at %s: %s.", model.name, path, note)
    names = [name for name, known in model.stages.items() if known == path]
    return FoundStage(name=names[0] if names else path, path=path, note=note)


def at_stages(
    model: StagedModel, stages: Sequence[str | float]
) -> tuple[StagedModel, tuple[str, ...]]:
    """Find several stages by name or by fraction of depth, and a model that names them all.

    Parameters
    ----------
    model : StagedModel
        The network.
    stages : sequence of str or float
        See `resolve_stage`; those that are the same are taken once.

    Returns
    -------
    model : StagedModel
        The same where it names all of them; else a view of its network with these stages only.
    stages : tuple of str
        Their names, early to late.

    Raises
    ------
    InputError
        As `resolve_stage`.
    """
    name_of = {}
    for stage in stages:
        unit = find_stage(model, stage)
        name_of[unit.path] = unit.name
    names = set(name_of.values())
    if names <= set(model.stages):
        return model, tuple(name for name in model.stages if name in names)
    ordered = {name_of[path]: path for path in run_order(model, tuple(name_of))}
    return replace(model, stages=ordered), tuple(ordered)


def stages_at_cuts(model: StagedModel) -> dict[str, str]:
    """List the units of depth that every path from the image to the logits passes, as stages.

    Parameters
    ----------
    model : StagedModel
        The network; one gray image is passed through it.

    Returns
    -------
    dict of str to str
        Module path → the same path, in the order in which the modules run. Where no unit is such a
        cut (the dense layers of DenseNet), all units.

    Raises
    ------
    InputError
        When the network has no units of depth.
    """
    seen = _pass(model)
    units = _units(seen)
    cuts = [path for path in units if path in seen.cuts]
    return {path: path for path in cuts or units}


def run_order(model: StagedModel, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Order modules as they run, early to late.

    Parameters
    ----------
    model : StagedModel
        The network; one gray image is passed through it.
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
    wanted = [path for path in paths if path != SOFTMAX]
    outputs = _Outputs(model.network, wanted)
    size = model.preprocessing.size
    image = torch.full((1, 3, *size), 0.5, device=model.device)
    with for_one_image(size, model.device), outputs.noted(), torch.no_grad():
        model.logits(image)
    wrong = [path for path in wanted if outputs.calls.count(path) != 1]
    if wrong:
        raise InputError(
            f"{model.name}: {name_ids(sorted(wrong))} do not run exactly once in a forward pass; "
            "name a stage that does."
        )
    last = [path for path in paths if path == SOFTMAX]
    return (*outputs.calls, *last)


# --------------------------------------------------------------------------------- one forward pass


class _Outputs:
    """Record modules in the order of their outputs, with their nodes in the graph of gradients."""

    def __init__(self, network: nn.Module, paths: Collection[str]) -> None:
        self._network = network
        self._paths = paths
        self.calls: list[str] = []
        self.nodes: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the outputs of the network, which is put into evaluation mode for that while."""

        def note(_: nn.Module, __: Any, output: Any, *, path: str) -> None:
            self.calls.append(path)
            if isinstance(output, Tensor):
                self.nodes[path] = output.grad_fn
                self.shapes[path] = tuple(output.shape)

        with ExitStack() as hooks:
            for part in self._network.modules():
                if part.training:
                    put_back = partial(setattr, part, "training", True)
                    hooks.callback(put_back)
            self._network.eval()
            for path in self._paths:
                module = self._network.get_submodule(path)
                watch = partial(note, path=path)
                hook = module.register_forward_hook(watch)
                hooks.callback(hook.remove)
            yield


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pass:
    """What one forward pass shows of a network."""

    name: str
    modules: Mapping[str, nn.Module]
    calls: list[str]
    """Paths in the order of their outputs."""
    cuts: frozenset[str]
    """Paths of modules that run once and whose output is on every path from image to logits."""
    functional: frozenset[str] = field(default_factory=frozenset)
    """Cuts that an activation follows, be it a module or not."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the outputs."""

    def inside(self, path: str) -> Iterator[nn.Module]:
        """Give the modules with weights inside a module that ran."""
        ran = set(self.calls)
        top = self.modules[path]
        modules = top.named_modules(prefix=path)
        for name, module in modules:
            is_weighted = isinstance(module, _WEIGHTED)
            if is_weighted and name in ran:
                yield module

    def is_gate(self, path: str) -> bool:
        """Tell whether a module weights channels by what it computes of the channels' means.

        Squeeze-and-excitation gates do so.
        """
        shape = self.shapes.get(path, ())
        if len(shape) != 4 or math.prod(shape[2:]) == 1:
            return False
        weighted = [name for name in self.weighted() if name.startswith(f"{path}.")]
        for name in weighted:
            of_mean = math.prod(self.shapes.get(name, (0, 0, 0))[2:]) == 1
            along_channels = isinstance(self.modules[name], nn.Conv1d)
            if not of_mean and not along_channels:
                return False
        return bool(weighted)

    def weighted(self) -> list[str]:
        """List the convolutions and matrix products that ran."""
        weighted = []
        for path in dict.fromkeys(self.calls):
            module = self.modules[path]
            if isinstance(module, _WEIGHTED):
                weighted.append(path)
        return weighted


def _pass(network: nn.Module | StagedModel, size: tuple[int, int] = (224, 224)) -> _Pass:
    """Run a gray image through a network and follow its gradient back from the logits.

    The network is in evaluation mode.
    """
    module: nn.Module
    if isinstance(network, StagedModel):
        module, run, name = network.network, network.logits, network.name
        size = network.preprocessing.size
    else:
        module, run, name = network, network, type(network).__name__
    kind = type(module).__name__
    modules = dict(module.named_modules())
    paths = [path for path in modules if path]
    outputs = _Outputs(module, paths)
    device = device_of(module)
    with for_one_image(size, device), gradients_on(), outputs.noted():
        image = torch.full((1, 3, *size), 0.5, device=device, requires_grad=True)
        try:
            logits = run(image)
        except Exception as error:  # a user's code may raise anything
            if isinstance(error, InputError) or out_of_memory(error):
                raise
            lines = str(error).splitlines() or [type(error).__name__]
            raise InputError(
                f"{kind} does not run on images of (1, 3, {size[0]}, {size[1]}): "
                f"{lines[0]}; give the size that it sees."
            ) from error
        if not isinstance(logits, Tensor):
            given = type(logits).__name__
            raise InputError(f"{kind} gives a {given}, not logits; give the StagedModel of it.")
        cut_nodes, users = _between(logits.grad_fn, image)
    n_calls = Counter(outputs.calls)
    once = {path for path, count in n_calls.items() if count == 1}
    cuts = {path for path in once if outputs.nodes.get(path) in cut_nodes}
    functional = {path for path in cuts if _activation_follows(outputs.nodes[path], users)}
    return _Pass(
        name=name,
        modules=modules,
        calls=outputs.calls,
        cuts=frozenset(cuts),
        functional=frozenset(functional),
        shapes=outputs.shapes,
    )


def _between(root: Any, image: Tensor) -> tuple[set[Any], Mapping[Any, list[Any]]]:
    """Walk the graph of gradients between logits and image.

    Returns
    -------
    cuts : set
        Nodes that every path passes: no edge leads past them.
    users : mapping
        Node → nodes whose gradient goes to it.
    """
    # node → the nodes that its gradient goes to, of those that lead to the image
    after: dict[Any, list[Any]] = {}
    done: list[Any] = []
    waiting = [(root, False)]
    while waiting:
        node, left = waiting.pop()
        if left:
            below = [other for other, _ in node.next_functions if other in after]
            if below or getattr(node, "variable", None) is image:
                after[node] = below
                done.append(node)
        elif node not in after:
            waiting.append((node, True))
            waiting += [(other, False) for other, _ in node.next_functions if other is not None]
    order = list(dict.fromkeys(done))[::-1]
    users: dict[Any, list[Any]] = defaultdict(list)
    for node in order:
        for other in dict.fromkeys(after[node]):
            users[other].append(node)
    position = {node: number for number, node in enumerate(order)}
    farthest = 0
    cuts = set()
    for number, node in enumerate(order):
        if farthest <= number:
            cuts.add(node)
        for other, _ in node.next_functions:
            farthest = max(farthest, position.get(other, 0))
    return cuts, users


def _activation_follows(node: Any, users: Mapping[Any, list[Any]]) -> bool:
    """Tell whether the next operation on an output, except normalization, is an activation."""
    while len(users.get(node, ())) == 1:
        (node,) = users[node]
        if node.name().startswith(_ACTIVATIONS):
            return True
        if not node.name().startswith(_TRANSPARENT):
            return False
    return False


# -------------------------------------------------------------------------------------------- units


def _units(seen: _Pass) -> dict[str, str]:
    """List the units of depth in the order in which they run, each with its note.

    Where blocks are few, these are also the outputs of layers with weights outside of them, and of
    the activation modules that follow such layers.
    """
    blocks = _blocks(seen)
    are_few = len(blocks) < _FEWEST_BLOCKS
    units = dict.fromkeys(blocks, "")
    for path in blocks:
        if path not in seen.cuts and not are_few:
            name = _class_of(seen.modules[path])
            units[path] = NO_CUTS[name]
    cuts = [path for path in seen.calls if path in seen.cuts]
    beside = [path for path in cuts if not _inside(path, blocks)]
    layers: dict[str, str] = {}
    last = ""  # the layer whose activation has not run yet
    for path in beside if are_few else []:
        module = seen.modules[path]
        is_activation = type(module).__module__ == "torch.nn.modules.activation"
        if isinstance(module, _WEIGHTED):
            last = path
            note = (
                "its activation is a function of the network or serves several layers, so the "
                "stage is before it"
            )
            layers[path] = note if path in seen.functional else ""
        elif last and is_activation and not list(module.children()):
            del layers[last]
            layers[path] = ""
            last = ""
    units |= layers
    weighted = seen.weighted()
    unseen = []
    for path in weighted:
        around = _cut_around(seen, path)
        if not around and not _inside(path, blocks):
            unseen.append(path)
    if not weighted:
        raise InputError(
            f"{seen.name} has no units of depth: no module inside it has weights and runs; name "
            "stages (stages={NAME: MODULE PATH}), or put it into a torch.nn.Sequential."
        )
    if not units or 2 * len(unseen) > len(weighted):
        passed = name_ids(dict.fromkeys(cuts)) or "none"
        raise InputError(
            f"{seen.name} has no units of depth: the outputs of {len(unseen)} of its "
            f"{len(weighted)} layers lie beside other paths from the image to the logits, "
            f"at every level; name a stage instead. Modules that every path passes: {passed}."
        )
    return {path: units[path] for path in seen.calls if path in units}


def _cut_around(seen: _Pass, path: str) -> str | None:
    """Find the smallest module around a layer, or the layer itself, whose output is a cut.

    Returns None when that module is the network.
    """
    while path and path not in seen.cuts:
        path = _parent(path)
    return path or None


def _inside(path: str, blocks: Collection[str]) -> bool:
    starts = [f"{block}." for block in blocks]
    return path.startswith(tuple(starts))


def _class_of(module: nn.Module) -> str:
    name = type(module).__name__
    return _SAME_AS.get(name, name)


def _blocks(seen: _Pass) -> list[str]:
    """Find the blocks of a network.

    These are the smallest cuts around parallel paths, and the modules beside them in a list.
    """
    around = {_cut_around(seen, path) for path in seen.weighted() if path not in seen.cuts}
    solid = {path for path in around if path}
    kinds = {type(seen.modules[path]) for path in solid} - set(_CONTAINERS)
    candidates = _candidates(seen, solid, kinds)
    groups = set()  # of candidates that are lists of blocks
    for path, module in candidates.items():
        inside = [other for name, other in candidates.items() if name.startswith(f"{path}.")]
        if type(module) in kinds:  # with parallel paths: only if the blocks in it are no cuts
            inside = [other for other in inside if _class_of(other) in NO_CUTS]
        if len({type(other) for other in inside}) < len(inside):
            groups.add(type(module))
    blocks = {path: module for path, module in candidates.items() if type(module) not in groups}
    blocks = {path: module for path, module in blocks.items() if not _inside(path, blocks)}
    if not blocks:
        return []
    counts = Counter(type(module) for module in blocks.values())
    ((most, _),) = counts.most_common(1)
    roots = {_root(path) for path, module in blocks.items() if type(module) is most}
    kept = []
    for path, module in blocks.items():
        is_repeated = path in solid and counts[type(module)] > 1
        if _root(path) in roots or is_repeated:
            kept.append(path)
    # sequences of several layers before the first block, in the same list, as V1 of CORnet-S
    parents = {_parent(path) for path in kept}
    first = min(seen.calls.index(path) for path in kept)
    sequences = []
    for path in seen.calls[:first]:
        is_beside = path in seen.cuts and _parent(path) in parents
        is_sequence = isinstance(seen.modules[path], nn.Sequential)
        if is_beside and is_sequence and len(list(seen.inside(path))) > 1:
            sequences.append(path)
    return [*sequences, *kept]


def _candidates(
    seen: _Pass, solid: Collection[str], kinds: Collection[type[nn.Module]]
) -> dict[str, nn.Module]:
    """List the modules that may be blocks: parallel paths, and members of a list of modules."""
    candidates = {}
    n_calls = Counter(seen.calls)
    once = [path for path, count in n_calls.items() if count == 1]
    for path in once:
        module = seen.modules[path]
        name = _class_of(module)
        is_able = path in seen.cuts or name in NO_CUTS
        if not is_able or name.startswith(_NO_BLOCKS) or seen.is_gate(path):
            continue
        parent = seen.modules[_parent(path)]
        is_listed = isinstance(parent, _CONTAINERS)
        is_member = is_listed and not isinstance(module, _CONTAINERS)
        if (
            path in solid
            or type(module) in kinds
            or (is_member and len(list(seen.inside(path))) > 1)
        ):
            candidates[path] = module
    return candidates


def _root(path: str) -> str:
    """Name the top-level module of a block; blocks that are top-level themselves stand together."""
    root, dot, _ = path.partition(".")
    if not dot:
        return ""
    return root


def _parent(path: str) -> str:
    parent, _, _ = path.rpartition(".")
    return parent
