"""Find the ReLUs that a stage ends in by what it computes, and keep their inputs.

A stage may be a ReLU module, call ``torch.nn.functional.relu`` itself, or be a block whose last
operation is one; the output of a fire or Inception module is several of them put together. All are
found in one forward pass, whatever the classes of the modules are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from stimuli_gen.batches import for_one_image, gradients_on
from stimuli_gen.models import SOFTMAX, StagedModel

_RELUS = {functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_CLAMPS = {
    torch.clamp,
    torch.clamp_,
    Tensor.clamp,
    Tensor.clamp_,
    torch.clip,
    torch.clip_,
    Tensor.clip,
    Tensor.clip_,
}
_LOWER_CLAMPS = {torch.clamp_min, torch.clamp_min_, Tensor.clamp_min, Tensor.clamp_min_}
_THRESHOLDS = {functional.threshold, torch.threshold, torch.threshold_}
_MAXIMA = {torch.maximum, Tensor.maximum, torch.max, Tensor.max, torch.fmax, Tensor.fmax}
_BOUNDED = {functional.relu6, functional.hardtanh, functional.hardtanh_, *_CLAMPS}
"""Operations that are no ReLU although they may look like one on a single image."""
_REARRANGE = {
    torch.cat,
    torch.concat,
    torch.concatenate,
    torch.stack,
    torch.hstack,
    torch.vstack,
    torch.dstack,
    torch.flatten,
    torch.unflatten,
    torch.reshape,
    torch.squeeze,
    torch.unsqueeze,
    torch.permute,
    torch.transpose,
    torch.swapaxes,
    torch.swapdims,
    torch.movedim,
    torch.moveaxis,
    torch.chunk,
    torch.split,
    torch.tensor_split,
    torch.unbind,
    torch.select,
    torch.narrow,
    torch.roll,
    torch.flip,
    torch.clone,
    functional.pad,
    functional.channel_shuffle,
    functional.pixel_shuffle,
    functional.pixel_unshuffle,
    Tensor.flatten,
    Tensor.unflatten,
    Tensor.reshape,
    Tensor.view,
    Tensor.squeeze,
    Tensor.unsqueeze,
    Tensor.permute,
    Tensor.transpose,
    Tensor.swapaxes,
    Tensor.swapdims,
    Tensor.movedim,
    Tensor.moveaxis,
    Tensor.chunk,
    Tensor.split,
    Tensor.tensor_split,
    Tensor.unbind,
    Tensor.select,
    Tensor.narrow,
    Tensor.roll,
    Tensor.flip,
    Tensor.expand,
    Tensor.contiguous,
    Tensor.clone,
    Tensor.__getitem__,
    vars(torch._C.TensorBase)["T"].__get__,
    vars(torch._C.TensorBase)["mT"].__get__,
}
"""Operations that put numbers elsewhere and do not change them."""
_HIDDEN = ("ReluBackward", "ThresholdBackward", "ClampMinBackward", "CompiledFunctionBackward")
"""Gradients of operations that end a stage although no call of them was seen: a compiled or
scripted module."""

Ending = frozenset[int]
"""The ReLUs that the output of a stage is made of: numbers of their calls among those in one pass
of the stage."""


def relu_endings(model: StagedModel) -> tuple[dict[str, Ending], tuple[str, ...]]:
    """Find the stages of a network that end in a ReLU.

    Parameters
    ----------
    model : StagedModel
        The network; one gray image is passed through it.

    Returns
    -------
    endings : dict of str to Ending
        Stage → the ReLUs that its output is made of, for the stages that end in some.
    undecided : tuple of str
        Stages that seem to end in one: in an operation that came out as a ReLU does and is not
        known to be one, or in one of unknown kind, inside a compiled module or a hand-written
        autograd function, where the ReLU's input cannot be seen.
    """
    endings: dict[str, Ending] = {}
    undecided: list[str] = []

    def _judge(stage: str, watch: _Following, output: Tensor) -> None:
        ending = watch.ending(output)
        if ending is not None:
            endings[stage] = ending
            return
        node = output.grad_fn
        written = getattr(type(node), "_forward_cls", None)  # of a hand-written autograd function
        hidden = written is not None and not written.__module__.startswith("stimuli_gen.")
        if node is not None and node.name().startswith(_HIDDEN):
            hidden = True
        if hidden or watch.seems_relu(output):
            undecided.append(stage)

    size = model.preprocessing.size
    image = torch.full((1, 3, *size), 0.5, device=model.device)
    paths = {stage: path for stage, path in model.stages.items() if path != SOFTMAX}
    watched = _watched(model.network, paths, lambda _: _Following(), _judge)
    with for_one_image(size, model.device), gradients_on(), watched:
        model.logits(image.clone().requires_grad_(True))
    return endings, tuple(undecided)


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

    def _keep(stage: str, watch: _Following, output: Tensor) -> None:
        before = watch.before(output)
        if before is not None:
            inputs[stage] = before

    wanted = {}
    for stage in endings:
        wanted[stage] = paths[stage]

    def _follow(stage: str) -> _Following:
        ending = endings[stage]
        return _Following(ending)

    with _watched(network, wanted, _follow, _keep):
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

    def begin(_: nn.Module, __: Any, *, stage: str) -> None:
        mode = watch(stage)
        mode.__enter__()
        at_work.append(mode)

    def end(_: nn.Module, __: Any, output: Tensor, *, stage: str) -> None:
        mode = at_work.pop()
        mode.__exit__(None, None, None)
        done(stage, mode, output)

    with ExitStack() as hooks:
        for stage, path in paths.items():
            module = network.get_submodule(path)
            before = module.register_forward_pre_hook(partial(begin, stage=stage))
            after = module.register_forward_hook(partial(end, stage=stage))
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        try:
            yield
        finally:  # of a pass that failed inside a stage
            while at_work:
                at_work.pop().__exit__(None, None, None)


class _Following(TorchFunctionMode):
    """Follow outputs of ReLUs through operations that only lay them out in another way.

    Parameters
    ----------
    wanted : frozenset of int, optional
        Numbers of the ReLUs whose inputs are kept and laid out as their outputs are. By default no
        inputs are kept, and it is found out which ReLUs an output is made of.
    """

    def __init__(self, wanted: Ending | None = None) -> None:
        super().__init__()
        self._wanted = wanted
        self._n_relus = 0
        self._known: dict[int, tuple[Tensor, int, Ending, Tensor | None]] = {}
        """By address of a tensor: itself, its version, the ReLUs that it is made of, and what it
        would be without."""
        self._seeming: dict[int, Tensor] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        source = _relu_input(func, args, kwargs)
        if source is not None:
            return self._relu(source, func, args, kwargs)
        made_of = None
        if func in _REARRANGE:
            made_of = self._made_of(func, args, kwargs)
        before: list[Tensor] = []
        if self._wanted is None and func not in _BOUNDED:
            given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            # the operation may overwrite them
            before = [value.detach().clone() for value in given if value.is_floating_point()]
        result = func(*args, **kwargs)
        if made_of is not None and isinstance(result, Tensor):
            self._note(result, *made_of)
        elif made_of is not None:
            ending, without = made_of
            for part, tensor in enumerate(result):
                self._note(tensor, ending, None if without is None else without[part])
        elif isinstance(result, Tensor) and result.requires_grad:
            kind = (result.shape, result.dtype)
            alike = [tensor for tensor in before if (tensor.shape, tensor.dtype) == kind]
            with_negative = [tensor for tensor in alike if (tensor < 0).any()]
            positive_parts = (tensor.clamp(min=0) for tensor in with_negative)
            if any(torch.equal(result.detach(), positive) for positive in positive_parts):
                self._seeming[id(result)] = result
        return result

    def _relu(
        self,
        source: Tensor,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        number = self._n_relus
        self._n_relus += 1
        before = None
        if self._wanted and number in self._wanted:
            before = source.clone()  # the operation may overwrite its input
        result = func(*args, **kwargs)
        # without a gradient it is inside a hand-written autograd function, whose input has none
        # there
        has_gradient = self._wanted is None and result.requires_grad
        if before is not None or has_gradient:
            ending = frozenset([number])
            self._note(result, ending, before)
        return result

    def _made_of(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Ending, Any] | None:
        """Find the ReLUs that the tensors consist of, and apply the function to their inputs.

        Returns None where a tensor does not come from a ReLU.
        """
        numbers: set[int] = set()
        try:
            without = self._without((tuple(args), dict(kwargs)), numbers)
        except LookupError:
            return None
        laid_out = None
        if self._wanted is not None:
            other_args, other_kwargs = without
            laid_out = func(*other_args, **other_kwargs)
        if not numbers:
            return None
        return frozenset(numbers), laid_out

    def _without(self, value: Any, numbers: set[int]) -> Any:
        """Put what ReLUs got in place of what they gave, wherever it is in an argument."""
        if isinstance(value, Tensor):
            _, version, ending, before = self._known[id(value)]
            if version != value._version:
                raise LookupError
            numbers |= ending
            return before
        if isinstance(value, (tuple, list)):
            items = [self._without(item, numbers) for item in value]
            return tuple(items)
        if isinstance(value, dict):
            entries = {}
            for name, item in value.items():
                entries[name] = self._without(item, numbers)
            return entries
        return value

    def _note(self, result: Tensor, ending: Ending, before: Tensor | None) -> None:
        version = result._version
        self._known[id(result)] = (result, version, ending, before)

    def ending(self, output: Tensor) -> Ending | None:
        """Find the ReLUs that a tensor consists of; None where it holds anything else.

        A tensor that was overwritten since gives None, too.
        """
        known = self._known.get(id(output))
        if known is None:
            return None
        _, version, ending, _ = known
        if version != output._version:
            return None
        return ending

    def before(self, output: Tensor) -> Tensor | None:
        """Give what a tensor would be without its ReLUs."""
        if self.ending(output) is None:
            return None
        _, _, _, before = self._known[id(output)]
        return before

    def seems_relu(self, output: Tensor) -> bool:
        """Tell whether a tensor came out of an operation as it would have come out of a ReLU."""
        return id(output) in self._seeming


def _relu_input(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Tensor | None:
    """Give the tensor that a ReLU is applied to; None for another operation."""
    source = args[0] if args else kwargs.get("input")
    if func in _RELUS:
        return source
    if func in _MAXIMA:
        named = [kwargs[name] for name in ("input", "other") if name in kwargs]
        given = [*args, *named]
        if len(given) != 2 or not all(isinstance(value, Tensor) for value in given):
            return None
        for values, other in (given, given[::-1]):
            is_smaller = other.numel() <= values.numel()
            if is_smaller and not other.requires_grad and not other.any():
                return values
        return None
    is_relu = False
    if func in _THRESHOLDS:
        named = [kwargs[name] for name in ("threshold", "value") if name in kwargs]
        is_relu = [*args[1:3], *named] == [0, 0]
    elif func in _CLAMPS or func in _LOWER_CLAMPS:
        lowest = args[1] if len(args) > 1 else kwargs.get("min")
        is_bounded = len(args) > 2 or kwargs.get("max") is not None
        is_relu = isinstance(lowest, (int, float)) and lowest == 0
        if func in _CLAMPS and is_bounded:
            is_relu = False
    return source if is_relu else None
