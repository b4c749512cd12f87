"""Find the ReLUs that a stage ends in by what it computes, and keep their inputs.

A stage may be a ReLU module, call ``torch.nn.functional.relu`` itself, or be a block whose last operation is one; the
output of a fire or Inception module is several of them put together. All are found in one forward pass, whatever the
classes of the modules are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from stimuli_gen.batches import for_one_image, gradients_on
from stimuli_gen.staged import SOFTMAX, StagedModel

_RELUS = {functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CLAMPS = {torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_}
_LOWER_CLAMPS = {torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_}
_REARRANGE = {
    torch.cat, torch.concat, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.chunk, torch.split,
    torch.clone, Tensor.flatten, Tensor.reshape, Tensor.view, Tensor.permute, Tensor.transpose, Tensor.chunk,
    Tensor.split, Tensor.contiguous, Tensor.clone,
}  # fmt: skip
"""Operations that put numbers elsewhere and do not change them."""
_HIDDEN = ("ReluBackward", "ThresholdBackward", "ClampMinBackward", "CompiledFunctionBackward")
"""Gradients of operations that end a stage although no call of them was seen: a compiled or scripted module."""


@dataclass(frozen=True, eq=False)
class Relu:
    """The output of a ReLU.

    Parameters
    ----------
    number : int
        Of its call among the calls of ReLUs in one forward pass of the stage.
    """

    number: int


@dataclass(frozen=True, eq=False)
class Rearranged:
    """Outputs of ReLUs, laid out in another way.

    Parameters
    ----------
    function : callable
        One of `_REARRANGE`.
    args : tuple
        Its arguments, with `Relu` or `Rearranged` in place of tensors.
    kwargs : mapping
        Its keyword arguments.
    part : int, optional
        Which tensor, where the function gives several.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    part: int | None = None


Ending = Relu | Rearranged
"""How the output of a stage is made of the outputs of ReLUs."""


def relu_endings(model: StagedModel) -> tuple[dict[str, Ending], tuple[str, ...]]:
    """Find the stages of a network that end in a ReLU.

    Parameters
    ----------
    model : StagedModel
        The network; one grey image is passed through it.

    Returns
    -------
    endings : dict of str to Ending
        Stage → how its output is made of outputs of ReLUs, for the stages that end in some.
    undecided : tuple of str
        Stages that seem to end in one, or in an operation of unknown kind, inside a compiled module or a hand-written
        autograd function, where the ReLU's input cannot be seen.
    """
    endings: dict[str, Ending] = {}
    undecided: list[str] = []

    def _judge(stage: str, watch: _Watch, output: Tensor) -> None:
        ending = watch.ending(output)
        if ending is not None:
            endings[stage] = ending
        elif _hides_operation(output):
            undecided.append(stage)

    image = torch.full((1, 3, *model.preprocessing.size), 0.5, device=model.device)
    paths = {stage: path for stage, path in model.stages.items() if path != SOFTMAX}
    here = for_one_image(model.preprocessing.size, model.device)
    with here, gradients_on(), _watched(model.network, paths, lambda _: _Watch(), _judge):
        model.logits(image.clone().requires_grad_(True))
    return endings, tuple(undecided)


def _hides_operation(output: Tensor) -> bool:
    node = output.grad_fn
    written = getattr(type(node), "_forward_cls", None)  # of a hand-written autograd function
    foreign = written is not None and not written.__module__.startswith("stimuli_gen.")
    return node is not None and (foreign or node.name().startswith(_HIDDEN))


@contextmanager
def relu_inputs(
    network: nn.Module, paths: Mapping[str, str], endings: Mapping[str, Ending]
) -> Iterator[dict[str, Tensor]]:
    """Keep what the ReLUs at the end of stages get, while the network runs inside the block.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    paths : mapping of str to str
        Stage → module path.
    endings : mapping of str to Ending
        What `relu_endings` found, for the stages wanted.

    Yields
    ------
    dict of str to Tensor
        Filled by the run: stage → what its output would be without these ReLUs.
    """
    inputs: dict[str, Tensor] = {}

    def _keep(stage: str, watch: _Inputs, _: Tensor) -> None:
        inputs[stage] = _lay_out(endings[stage], watch.kept)

    wanted = {stage: paths[stage] for stage in endings}
    with _watched(network, wanted, lambda stage: _Inputs(set(_numbers(endings[stage]))), _keep):
        yield inputs


@contextmanager
def _watched(
    network: nn.Module,
    paths: Mapping[str, str],
    watch: Callable[[str], Any],
    done: Callable[[str, Any, Tensor], None],
) -> Iterator[None]:
    """Watch the operations of some modules, each from its call to its output."""
    at_work: list[TorchFunctionMode] = []

    def _begin(_: nn.Module, __: Any, *, stage: str) -> None:
        mode = watch(stage)
        mode.__enter__()
        at_work.append(mode)

    def _end(_: nn.Module, __: Any, output: Tensor, *, stage: str) -> None:
        mode = at_work.pop()
        mode.__exit__(None, None, None)
        done(stage, mode, output)

    with ExitStack() as hooks:
        for stage, path in paths.items():
            module = network.get_submodule(path)
            hooks.callback(module.register_forward_pre_hook(partial(_begin, stage=stage)).remove)
            hooks.callback(module.register_forward_hook(partial(_end, stage=stage)).remove)
        try:
            yield
        finally:  # of a pass that failed inside a stage
            while at_work:
                at_work.pop().__exit__(None, None, None)


class _Watch(TorchFunctionMode):
    """Follow outputs of ReLUs through operations that only lay them out in another way."""

    def __init__(self) -> None:
        super().__init__()
        self._n_relus = 0
        self._endings: dict[int, tuple[Tensor, int, Ending]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if _is_relu(func, args, kwargs):
            result = func(*args, **kwargs)
            self._note(result, Relu(self._n_relus))
            self._n_relus += 1
            return result
        sources = self._sources(args) if func in _REARRANGE else None
        result = func(*args, **kwargs)
        if sources is not None and isinstance(result, Tensor):
            self._note(result, Rearranged(func, sources, kwargs))
        elif sources is not None:
            for part, one in enumerate(result):
                self._note(one, Rearranged(func, sources, kwargs, part))
        return result

    def _note(self, result: Tensor, ending: Ending) -> None:
        if (
            result.requires_grad
        ):  # else it is inside a hand-written autograd function, whose input has no gradient there
            self._endings[id(result)] = (result, result._version, ending)

    def ending(self, output: Tensor) -> Ending | None:
        """Say how a tensor is made of outputs of ReLUs, if it is and was not written over since."""
        _, version, ending = self._endings.get(id(output), (output, -1, None))
        return ending if version == output._version else None

    def _sources(self, args: Sequence[Any]) -> tuple[Any, ...] | None:
        """Put endings in place of tensors; None when a tensor is no output of a ReLU."""
        sources = []
        for one in args:
            source: Any = one
            if isinstance(one, Tensor):
                source = self.ending(one)
            elif isinstance(one, (list, tuple)):
                source = self._sources(one)
            if source is None:
                return None
            sources.append(source)
        return tuple(sources)


class _Inputs(TorchFunctionMode):
    """Keep what some ReLUs get, counted in the order of their calls."""

    def __init__(self, numbers: set[int]) -> None:
        super().__init__()
        self._numbers, self._n_relus = numbers, 0
        self.kept: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if _is_relu(func, args, kwargs):
            if self._n_relus in self._numbers:
                source = args[0] if args else kwargs["input"]
                self.kept[self._n_relus] = source.clone()  # a ReLU may overwrite its input
            self._n_relus += 1
        return func(*args, **kwargs)


def _is_relu(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if func in _RELUS:
        return True
    lowest = args[1] if len(args) > 1 else kwargs.get("min")
    if func in _LOWER_CLAMPS:
        return isinstance(lowest, (int, float)) and lowest == 0
    bounded = len(args) > 2 or kwargs.get("max") is not None
    return func in _CLAMPS and not bounded and isinstance(lowest, (int, float)) and lowest == 0


def _numbers(ending: Any) -> Iterator[int]:
    """List the ReLUs that an output is made of."""
    if isinstance(ending, Relu):
        yield ending.number
    elif isinstance(ending, Rearranged):
        yield from _numbers(ending.args)
    elif isinstance(ending, tuple):
        for one in ending:
            yield from _numbers(one)


def _lay_out(ending: Any, inputs: Mapping[int, Tensor]) -> Any:
    """Lay the inputs of the ReLUs out as their outputs are."""
    if isinstance(ending, Relu):
        return inputs[ending.number]
    if isinstance(ending, tuple):
        return tuple(_lay_out(one, inputs) for one in ending)
    if isinstance(ending, Rearranged):
        result = ending.function(*_lay_out(ending.args, inputs), **ending.kwargs)
        return result if ending.part is None else result[ending.part]
    return ending
