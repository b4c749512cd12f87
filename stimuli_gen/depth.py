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
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from stimuli_gen.batches import for_one_image, gradients_on, out_of_memory
from stimuli_gen.models import SOFTMAX, StagedModel

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
    return tuple(_units(_pass(network, size)))


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
    if isinstance(stage, str) and stage in dict(model.network.named_modules()) and stage:
        return FoundStage(name=stage, path=stage)
    try:
        fraction = DEPTHS[stage] if isinstance(stage, str) and stage in DEPTHS else float(stage)
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
            "name one."
        )
    path, note = list(units.items())[number - 1]
    if note:
        _LOG.warning("%s at %s: %s.", model.name, path, note)
    name = next((name for name, known in model.stages.items() if known == path), path)
    return FoundStage(name=name, path=path, note=note)


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
    cuts = {path: path for path in units if path in seen.cuts}
    return cuts or {path: path for path in units}


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
    with for_one_image(model.preprocessing.size, model.device), outputs.noted(), torch.no_grad():
        model.logits(torch.full((1, 3, *model.preprocessing.size), 0.5, device=model.device))
    if wrong := [path for path in wanted if outputs.calls.count(path) != 1]:
        raise InputError(
            f"{model.name}: {name_ids(sorted(wrong))} do not run exactly once in a forward pass; "
            "name a stage that does."
        )
    return (*outputs.calls, *(path for path in paths if path == SOFTMAX))


# --------------------------------------------------------------------------------- one forward pass


class _Outputs:
    """Record modules in the order of their outputs, with their nodes in the graph of gradients."""

    def __init__(self, network: nn.Module, paths: Collection[str]) -> None:
        self._network, self._paths = network, paths
        self.calls: list[str] = []
        self.nodes: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    @contextmanager
    def noted(self) -> Iterator[None]:
        with ExitStack() as hooks:
            for path in self._paths:
                module = self._network.get_submodule(path)
                hooks.callback(module.register_forward_hook(partial(self._note, path=path)).remove)
            yield

    def _note(self, _: nn.Module, __: Any, output: Any, *, path: str) -> None:
        self.calls.append(path)
        if isinstance(output, Tensor):
            self.nodes[path] = output.grad_fn
            self.shapes[path] = tuple(output.shape)


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
        for name, module in self.modules[path].named_modules(prefix=path):
            if name in ran and isinstance(module, _WEIGHTED):
                yield module

    def is_gate(self, path: str) -> bool:
        """Tell whether a module weights channels by what it computes of the channels' means.

        Squeeze-and-excitation gates do so.

        Squeeze-and-excitation gates do so.
        """
        shape = self.shapes.get(path, ())
        if len(shape) != 4 or math.prod(shape[2:]) == 1:
            return False
        inner = [name for name in dict.fromkeys(self.calls) if name.startswith(f"{path}.")]
        weighted = [name for name in inner if isinstance(self.modules[name], _WEIGHTED)]
        of_means = [math.prod(self.shapes.get(name, (0, 0, 0))[2:]) == 1 for name in weighted]
        along_channels = [isinstance(self.modules[name], nn.Conv1d) for name in weighted]
        return bool(weighted) and all(map(any, zip(of_means, along_channels, strict=True)))


def _pass(network: nn.Module | StagedModel, size: tuple[int, int] = (224, 224)) -> _Pass:
    """Run a gray image through a network and follow its gradient back from the logits.

    The network is in evaluation mode.

    The network is in evaluation mode.
    """
    module = network.network if isinstance(network, StagedModel) else network
    run = network.logits if isinstance(network, StagedModel) else network
    size = network.preprocessing.size if isinstance(network, StagedModel) else size
    modules = dict(module.named_modules())
    outputs = _Outputs(module, [path for path in modules if path])
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    with for_one_image(size, device), gradients_on(), _evaluating(module), outputs.noted():
        image = torch.full((1, 3, *size), 0.5, device=device, requires_grad=True)
        try:
            logits = run(image)
        except Exception as error:  # a user's code may raise anything
            if isinstance(error, InputError) or out_of_memory(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{type(module).__name__} does not run on images of (1, 3, {size[0]}, {size[1]}): "
                f"{reason}; give the size that it sees."
            ) from error
        if not isinstance(logits, Tensor):
            raise InputError(
                f"{type(module).__name__} gives a {type(logits).__name__}, not logits; give the "
                "StagedModel of it."
            )
        order, users = _between(logits.grad_fn, image)
    cut_nodes = _cuts(order)
    once = {path for path, count in Counter(outputs.calls).items() if count == 1}
    cuts = {path for path in once if outputs.nodes.get(path) in cut_nodes}
    return _Pass(
        name=network.name if isinstance(network, StagedModel) else type(module).__name__,
        modules=modules,
        calls=outputs.calls,
        cuts=frozenset(cuts),
        functional=frozenset(
            path for path in cuts if _activation_follows(outputs.nodes[path], users)
        ),
        shapes=outputs.shapes,
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _between(root: Any, image: Tensor) -> tuple[list[Any], Mapping[Any, list[Any]]]:
    """List the nodes of the graph of gradients between logits and image, and their users.

    Returns
    -------
    order : list
        Nodes from the logits to the image, each before those that its gradient goes to.
    users : mapping
        Node → nodes whose gradient goes to it.
    """
    after: dict[
        Any, list[Any]
    ] = {}  # node → the nodes that its gradient goes to, of those that lead to the image
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
    return order, users


def _cuts(order: list[Any]) -> set[Any]:
    """Find the nodes that every path passes: no edge leads past them."""
    position = {node: number for number, node in enumerate(order)}
    farthest, cuts = 0, set()
    for number, node in enumerate(order):
        if farthest <= number:
            cuts.add(node)
        reached = [position[other] for other, _ in node.next_functions if other in position]
        farthest = max([farthest, *reached])
    return cuts


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
    """List the units of depth in the order in which they run, each with its note."""
    blocks = _blocks(seen)
    if len(blocks) >= _FEWEST_BLOCKS:
        units = dict.fromkeys(blocks, "")
        for path in blocks:
            if path not in seen.cuts:
                units[path] = NO_CUTS[_class_of(seen.modules[path])]
    else:
        units = dict.fromkeys(blocks, "") | _layers(seen, blocks)
    unseen = [
        path
        for path in _weighted(seen)
        if _cut_around(seen, path) is None and not _inside(path, blocks)
    ]
    if not units or 2 * len(unseen) > len(_weighted(seen)):
        raise InputError(
            f"{seen.name} has no units of depth: the outputs of {len(unseen)} of its "
            f"{len(_weighted(seen))} layers lie beside other paths from the image to the logits, "
            "at every level; name a stage instead."
        )
    return {path: units[path] for path in seen.calls if path in units}


def _weighted(seen: _Pass) -> list[str]:
    """List the convolutions and matrix products that ran."""
    return [path for path in dict.fromkeys(seen.calls) if isinstance(seen.modules[path], _WEIGHTED)]


def _cut_around(seen: _Pass, path: str) -> str | None:
    """Find the smallest module around a layer, or the layer itself, whose output is a cut.

    Returns None when that module is the network.

    Returns None when that module is the network.
    """
    while path and path not in seen.cuts:
        path = path.rpartition(".")[0]
    return path or None


def _inside(path: str, blocks: Collection[str]) -> bool:
    return any(path.startswith(f"{block}.") for block in blocks)


def _class_of(module: nn.Module) -> str:
    name = type(module).__name__
    return _SAME_AS.get(name, name)


def _blocks(seen: _Pass) -> list[str]:
    """Find the blocks of a network.

    These are the smallest cuts around parallel paths, and the modules beside them in a list.
    """
    modules, once = (
        seen.modules,
        {path for path, count in Counter(seen.calls).items() if count == 1},
    )
    solid = {_cut_around(seen, path) for path in _weighted(seen) if path not in seen.cuts} - {None}
    kinds = {type(modules[path]) for path in solid if path} - set(_CONTAINERS)
    able = {path for path in once if path in seen.cuts or _class_of(modules[path]) in NO_CUTS}
    able = {
        path
        for path in able
        if not _class_of(modules[path]).startswith(_NO_BLOCKS) and not seen.is_gate(path)
    }
    candidates = {
        path: modules[path]
        for path in able
        if path in solid or type(modules[path]) in kinds or _is_member(seen, path)
    }
    groups = {
        type(module) for path, module in candidates.items() if _is_group(path, candidates, kinds)
    }
    blocks = {path: module for path, module in candidates.items() if type(module) not in groups}
    blocks = {path: module for path, module in blocks.items() if not _inside(path, blocks)}
    if not blocks:
        return []
    counts = Counter(type(module) for module in blocks.values())
    most = counts.most_common(1)[0][0]
    roots = {_root(path) for path, module in blocks.items() if type(module) is most}
    repeated = {
        path for path, module in blocks.items() if path in solid and counts[type(module)] > 1
    }
    return _with_first_sequences(
        seen, [path for path in blocks if _root(path) in roots or path in repeated]
    )


def _is_member(seen: _Pass, path: str) -> bool:
    """Tell whether a module has several layers with weights and belongs to a list of modules."""
    module, parent = seen.modules[path], seen.modules[path.rpartition(".")[0]]
    listed = isinstance(parent, _CONTAINERS) and not isinstance(module, _CONTAINERS)
    return listed and len(list(seen.inside(path))) > 1


def _is_group(
    path: str, candidates: Mapping[str, nn.Module], kinds: Collection[type[nn.Module]]
) -> bool:
    """Tell whether a candidate is a list of blocks.

    A candidate with parallel paths is one only if the blocks in it are no cuts.

    A candidate with parallel paths is one only if the blocks in it are no cuts.
    """
    inside = [module for other, module in candidates.items() if other.startswith(f"{path}.")]
    if type(candidates[path]) in kinds:
        inside = [module for module in inside if _class_of(module) in NO_CUTS]
    return any(count > 1 for count in Counter(map(type, inside)).values())


def _root(path: str) -> str:
    """Name the top-level module of a block; blocks that are top-level themselves stand together."""
    return path.split(".")[0] if "." in path else ""


def _with_first_sequences(seen: _Pass, blocks: list[str]) -> list[str]:
    """Add sequences of several layers before the first block, in the same list, to the blocks.

    V1 of CORnet-S is an example.
    """
    parents = {path.rpartition(".")[0] for path in blocks}
    first = min(seen.calls.index(path) for path in blocks)
    sequences = [
        path
        for path in seen.calls[:first]
        if path in seen.cuts
        and path.rpartition(".")[0] in parents
        and isinstance(seen.modules[path], nn.Sequential)
        and len(list(seen.inside(path))) > 1
    ]
    return [*sequences, *blocks]


def _layers(seen: _Pass, blocks: Collection[str]) -> dict[str, str]:
    """List the outputs of layers with weights outside of blocks.

    Where an activation module follows a layer, the output of the activation counts.
    """
    units: dict[str, str] = {}
    last = ""  # the layer whose activation has not run yet
    for path in seen.calls:
        module = seen.modules[path]
        if path not in seen.cuts or _inside(path, blocks):
            continue
        if isinstance(module, _WEIGHTED):
            last = path
            note = (
                "its activation is a function of the network or serves several layers, so the "
                "stage is before it"
            )
            units[path] = note if path in seen.functional else ""
        elif (
            last
            and type(module).__module__ == "torch.nn.modules.activation"
            and not list(module.children())
        ):
            del units[last]
            units[path], last = "", ""
    return units
