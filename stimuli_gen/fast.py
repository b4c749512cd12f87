"""The same network, faster: folded BatchNorm and weights cast once to bfloat16.

BatchNorm in evaluation is an affine map of each channel, so it is folded into the weights of the
convolution before it (Jacob et al. 2018, section 3.2). Numbers differ from the exact network's: by
float32 rounding when only folded, by about one part in a hundred in bfloat16, which keeps 8 bits of
each number. So what was found with a fast network is finished and judged with the exact one.
"""

from __future__ import annotations

import copy
import logging
from collections import Counter, OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from neurometamer.errors import InputError, unknown_name
from neurometamer.run_options import MODES
from stimuli_gen.batches import for_one_image, gradients_on
from stimuli_gen.derivatives import graph_nodes
from stimuli_gen.models import StagedModel

_LOG = logging.getLogger(__name__)
_SAME = 1e-4
"""Largest relative difference (L2) that counts as rounding of folded weights; measured: 1e-7 to
3e-6."""


# ------------------------------------------------------------------------------------- this machine


def bfloat16_support(device: str | torch.device) -> tuple[bool, str]:
    """Say whether a device computes in bfloat16 itself, without emulation.

    Parameters
    ----------
    device : str or torch.device
        Where the network is.

    Returns
    -------
    supported : bool
        True when its instructions include products of bfloat16 matrices.
    reason : str
        Why, for the user. Taken from what the device says of itself; nothing is timed.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        if torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False):
            return True, "this GPU computes in bfloat16"
        return False, "this GPU has no bfloat16 arithmetic"
    if kind == "mps":
        try:
            number = torch.ones(1, 1, dtype=torch.bfloat16, device="mps")
            works = bool((number @ number).item() == 1)
        except (RuntimeError, TypeError):  # macOS before 14
            works = False
        if works:
            return True, "this GPU computes in bfloat16"
        return False, "this GPU or this macOS has no bfloat16 arithmetic"
    if kind != "cpu":
        return False, f"bfloat16 on '{kind}' is not known"
    for name, flag in _CPU_FLAGS.items():
        if _cpu_has(flag):
            return True, f"this CPU computes in bfloat16 ({name})"
    return False, "this CPU has no bfloat16 arithmetic (neither AMX nor AVX512-BF16 nor ARM's BF16)"


def _cpu_has(flag: str) -> bool:
    """Ask torch for a capability of the CPU; versions of torch differ in what they can say."""
    get_capabilities = getattr(torch.cpu, "get_capabilities", dict)
    capabilities: dict[str, Any] = get_capabilities()
    if capabilities.get(flag, False):
        return True
    name = _CPU_PROBES.get(flag, "")
    probe = getattr(torch.cpu, name, None)
    if probe is None:
        return False
    return bool(probe())


_CPU_FLAGS = {"AMX": "amx_bf16", "AVX512-BF16": "avx512_bf16", "ARM BF16": "bf16"}
_CPU_PROBES = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}


def fast_notice(model: StagedModel) -> str:
    """Say in one line what the fast mode does with a network on this machine.

    Parameters
    ----------
    model : StagedModel
        Made by `fast_model`, or an exact one of which a fast one would be made.

    Returns
    -------
    str
        Precision and why.
    """
    supported, reason = bfloat16_support(model.device)
    folded = ""
    if model.folded:
        folded = f", {len(model.folded)} BatchNorms folded"
    by_default = model.precision is None and supported
    if model.precision == "bfloat16" or by_default:
        return f"bfloat16, finished in float32: {reason}{folded}"
    if supported:
        reason = f"{model.name} does not run in bfloat16, or float32 was asked for"
    return f"float32: {reason}{folded}"


# ----------------------------------------------------------------------------------------- the copy


def fast_model(
    model: StagedModel, *, precision: Literal["bfloat16", "float32"] | None = None
) -> StagedModel:
    """Make a private copy of a network that computes nearly the same thing faster.

    Parameters
    ----------
    model : StagedModel
        The exact network; it is not touched.
    precision : {"bfloat16", "float32"}, optional
        Type of weights and activations inside the network. By default bfloat16 where the device
        computes in it and the network runs in it, else float32. Images, logits, activations and
        gradients are float32 in any case.

    Returns
    -------
    StagedModel
        Same stages and paths. BatchNorm is folded into convolutions (float32 rounding, checked on
        an image; where it is not the same within 1e-4, nothing is folded). A convolution that is a
        stage is not folded, and one that was folded cannot be made a stage later. Its digest
        differs from the exact network's.

    Raises
    ------
    InputError
        When the precision is unknown, or bfloat16 is asked for and the network does not run in it.
    """
    if precision not in (None, "bfloat16", "float32"):
        raise unknown_name("precision", str(precision), ["bfloat16", "float32"])
    if model.precision is not None:
        raise InputError(f"{model.name} is a fast copy already; make one of the exact network.")
    with for_one_image(model.preprocessing.size, model.device), gradients_on():
        fast = replace(_folded(model), precision="float32")
        supported, _ = bfloat16_support(model.device)
        if precision == "float32" or (precision is None and not supported):
            return fast
        network = copy.deepcopy(fast.network).to(torch.bfloat16)
        for path, module in network.named_modules():
            # measured forward and backward, 4 images: 58 ms in bfloat16, 6.5 ms in float32 (96
            # channels, 3 x 3, stride 2)
            is_grouped = isinstance(module, nn.Conv2d) and module.groups > 1
            if model.device.type == "cpu" and is_grouped and max(module.stride) > 1:
                exact = fast.network.get_submodule(path)
                module.float().load_state_dict(exact.state_dict())
                module.register_forward_pre_hook(lambda _, given: (given[0].float(), *given[1:]))
                module.register_forward_hook(lambda _, __, output: output.bfloat16())
        halved = replace(fast, network=network, precision="bfloat16")
        why = ""
        try:
            image = _test_image(model).requires_grad_(True)
            energy = halved.logits(image).square().sum()
            (gradient,) = torch.autograd.grad(energy, image)
            if not torch.isfinite(gradient).all():
                why = "its gradient is not finite"
        except RuntimeError as error:
            # an operation that has no bfloat16 kernel, or a constant in float32
            why = str(error).splitlines()[0]
        if not why:
            return halved
        if precision == "bfloat16":
            raise InputError(
                f"{model.name} does not run in bfloat16 ({why}); use precision float32."
            )
        return fast


def _test_image(model: StagedModel) -> Tensor:
    """Make an image of noise, always the same; torch's random numbers are not touched."""
    random = np.random.default_rng(0)
    noise = random.random((1, 3, *model.preprocessing.size), dtype=np.float32)
    return torch.from_numpy(noise).to(model.device)


# -------------------------------------------------------------------------------------------- modes


def draft_model(model: StagedModel, mode: str) -> StagedModel | None:
    """Find the network that is followed first.

    Parameters
    ----------
    model : StagedModel
        The exact network.
    mode : {"exact", "fast"}
        ``exact``: the network itself, at every step. ``fast``: its fast copy (see `fast_model`)
        until the copy is content or the last tenth of the steps begins, then the network itself,
        which alone says what is finished. What the copy computes in is logged: as a warning where
        the device has no bfloat16, as information else.

    Returns
    -------
    StagedModel or None
        None in the exact mode.

    Raises
    ------
    InputError
        When the mode is unknown.
    """
    if mode not in MODES:
        raise unknown_name("mode", mode, MODES)
    if mode == "exact":
        return None
    fast = fast_model(model)
    # a warning is shown without being asked
    level = logging.INFO if fast.precision == "bfloat16" else logging.WARNING
    _LOG.log(level, "fast mode, %s: %s.", model.name, fast_notice(fast))
    return fast


# ------------------------------------------------------------------------------------------ folding


@dataclass
class _Pair:
    """A convolution and the BatchNorm that alone sees its output."""

    convolution: str
    norm: str
    weight: Tensor
    bias: Tensor
    node: Any
    """The convolution's place in the graph of gradients; the norm must be the only one that uses
    it."""


def _folded(model: StagedModel) -> StagedModel:
    """Copy a network with its BatchNorms folded.

    Nothing is folded where the folded copy does not compute the same.
    """
    private = replace(model, network=copy.deepcopy(model.network))
    image = _test_image(model)
    pairs = []
    for pair in _pairs(private, image):
        if pair.convolution not in model.stages.values():
            pairs.append(pair)
    if not pairs:
        return private
    for pair in pairs:
        convolution = private.network.get_submodule(pair.convolution)
        for name, value in (("weight", pair.weight), ("bias", pair.bias)):
            convolution.register_parameter(name, nn.Parameter(value, requires_grad=False))
        parent, _, name = pair.norm.rpartition(".")
        norm = private.network.get_submodule(pair.norm)
        rest: nn.Module = nn.Identity()
        if type(norm) is not nn.BatchNorm2d:  # timm's has dropout and activation inside
            inside: OrderedDict[str, Any] = OrderedDict(drop=norm.drop, act=norm.act)
            rest = nn.Sequential(inside).eval()
        setattr(private.network.get_submodule(parent), name, rest)  # its path stays valid
    folded = replace(private, folded=frozenset(pair.convolution for pair in pairs))
    stages = list(model.stages)
    with torch.no_grad():
        expected = [model.logits(image), *model.activations(image, stages).values()]
        computed = [folded.logits(image), *folded.activations(image, stages).values()]
    if all(_near(exact, other) for exact, other in zip(expected, computed, strict=True)):
        return folded
    return replace(model, network=copy.deepcopy(model.network))


def _near(expected: Tensor, computed: Tensor) -> bool:
    change = computed - expected
    off = torch.linalg.vector_norm(change.flatten())
    length = torch.linalg.vector_norm(expected.flatten())
    most = _SAME * length
    is_near = off <= most
    return bool(is_near)


def _pairs(model: StagedModel, image: Tensor) -> list[_Pair]:
    """Find convolutions whose output goes to one BatchNorm only, in one forward pass."""
    modules = {
        path: module
        for path, module in model.network.named_modules()
        if path
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and not parametrize.is_parametrized(module)  # as by spectral norm
    }
    outputs: dict[int, tuple[str, Tensor, Tensor, int]] = {}
    runs: Counter[str] = Counter()
    pairs: list[_Pair] = []

    def after_convolution(module: nn.Conv2d, given: Any, output: Tensor, *, path: str) -> None:
        runs[path] += 1
        outputs[id(output)] = (path, given[0].detach().clone(), output, output._version)

    def before_norm(module: nn.BatchNorm2d, given: Any, *, path: str) -> None:
        runs[path] += 1
        known = outputs.get(id(given[0]))
        if known is None:
            return
        convolution, before, output, version = known
        if output is given[0] and output._version == version:
            pair = _fold(modules[convolution], module, before, output)
            if pair is not None:
                pairs.append(_Pair(convolution, path, *pair, output.grad_fn))

    with ExitStack() as hooks:
        for path, module in modules.items():
            if isinstance(module, nn.Conv2d):
                after = partial(after_convolution, path=path)
                hooks.callback(module.register_forward_hook(after).remove)
                continue
            kind = type(module)  # other subclasses of BatchNorm are left alone
            is_timm = kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")
            is_norm = kind is nn.BatchNorm2d or is_timm
            if is_norm and getattr(module, "running_mean", None) is not None:
                before = partial(before_norm, path=path)
                hooks.callback(module.register_forward_pre_hook(before).remove)
        logits = model.logits(image.clone().requires_grad_(True))
    users: Counter[Any] = Counter()
    for node in graph_nodes(logits):
        users.update(other for other, _ in node.next_functions)
    return [
        pair for pair in pairs if runs[pair.convolution] == runs[pair.norm] == users[pair.node] == 1
    ]


def _fold(
    convolution: nn.Conv2d, norm: nn.BatchNorm2d, before: Tensor, output: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Fold a BatchNorm into the convolution before it.

    Returns None where the convolution does more with its weights than convolve (weight norm …).
    """
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return None

    def exact_of(parameter: Tensor | None) -> Any:
        if parameter is None:
            return None
        return parameter.detach().cpu().double()

    folded = fuse_conv_bn_weights(
        exact_of(convolution.weight),
        exact_of(convolution.bias),
        exact_of(mean),
        exact_of(variance),
        norm.eps,
        exact_of(norm.weight),
        exact_of(norm.bias),
    )
    weight, bias = (parameter.detach().to(convolution.weight) for parameter in folded)
    weight = weight.contiguous(memory_format=torch.channels_last)
    probe = copy.copy(convolution)  # shares all but its table of parameters
    probe._parameters = {
        "weight": nn.Parameter(weight, False),
        "bias": nn.Parameter(bias, False),
    }
    with torch.no_grad():
        expected = nn.functional.batch_norm(
            output, mean, variance, norm.weight, norm.bias, False, 0.0, norm.eps
        )
        computed = probe.forward(before)
    if not _near(expected, computed):
        return None
    return weight, bias
