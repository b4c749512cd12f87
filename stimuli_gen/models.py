"""A frozen network with its preprocessing and its ordered stages."""

from __future__ import annotations

import copy
import logging
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from neurometamer.arguments import check_fields, checked, checked_with
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr
from stimuli_gen.batches import for_one_image, gradients_on, host_batches, out_of_memory
from stimuli_gen.derivatives import differentiable_once, graph_nodes, normalize, quicken
from stimuli_gen.photographs import INTERPOLATIONS, Preprocessing
from stimuli_gen.precision import has_float64
from stimuli_gen.stored_images import ImagesOnDisk

SOFTMAX = "softmax"
"""A stage with this path is the softmax of the network's output."""

UNKNOWN_WEIGHTS = "unknown weights"
"""Tag of weights that `stage_model` is told nothing about."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_LOG = logging.getLogger(__name__)
_INPUT_SIZES = (224, 299, 256, 32, 64, 96, 128, 160, 192, 384, 512)
"""Sides of square inputs (pixels) that are tried in this order where a network does not say its
own."""
_SIZES_OF_CLASSES = {"Inception3": 299, "InceptionV3": 299, "InceptionV4": 299}
_SHARE_CUT = 0.875
"""Input size over the shorter side of the resized photograph: 224 of 256 pixels."""
_SCRIPTED = (torch.jit.ScriptModule, torch.jit.ScriptFunction)
_SHAPELESS = (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)
_LARGEST = 2.0
"""Of a mean or std for pixels in [0, 1]; those for pixels of 0 to 255 are around 100."""


class _Reached(Exception):
    """Leave the forward pass: every stage asked for is recorded."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class StagedModel:
    """A frozen network in evaluation mode, what its input must look like, and its stages.

    Build it with `stage_model`, which copies and freezes the network and checks the stages.

    Parameters
    ----------
    network : torch.nn.Module
        Takes normalized images, returns logits (b, n_classes), alone or in a tuple, list, mapping
        or any object: there it is the entry or attribute ``logits``, else the only tensor of that
        shape. Without classes it returns a tensor of any shape (b, …), alone or as the only one.
    stages : mapping of str to str
        Stage name to module path, early to late. The path ``"softmax"`` is the softmax of the
        output.
    preprocessing : Preprocessing
        Input size, resize rule, mean and std.
    class_names : tuple of str
        Names of the classes, one an output; none for a network without classes whose outputs
        nobody numbers.
    name, weights : str
        What to call the network and its weights in tables.
    trained : bool
        False stamps "untrained" on everything made with it.
    has_classes : bool
        False for a network whose outputs are an embedding or a map and no classes: what needs
        classes refuses it.
    precision : {"bfloat16", "float32"}, optional
        Type that the weights of a fast copy (`stimuli_gen.fast.fast_model`) were cast to. Images,
        activations, logits and gradients are float32 in any case. Not given for the exact network.
    folded : frozenset of str
        Paths of a fast copy's convolutions that contain the BatchNorm after them, so cannot be
        stages.
    luma : tuple of float, optional
        Weights, in a grayscale view (`stimuli_gen.greyscale_view`), of red, green and blue in the
        gray value that all three channels of the network get. Not given for a network that sees
        color.
    assumed : tuple of str
        What `stage_model` assumed because it was not given, one sentence an argument.
    once : tuple of str
        Names of hand-written operations in the network whose second derivatives are wrong or
        unknown, as `stage_model` found them: gradients are right, but differentiating them again is
        refused.

    Notes
    -----
    Derivatives of any order are those of the network (`torch.func`, `torch.autograd.functional`).
    Torch's fused attention has first derivatives in reverse mode only, and says so; inside
    ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`` it has all.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> images = torch.rand(2, 3, 32, 32)
    >>> model.logits(images).shape, model.activations(images, ["1"])["1"].shape
    (torch.Size([2, 5]), torch.Size([2, 4, 15, 15]))
    """

    network: nn.Module
    stages: Mapping[str, str]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    name: str
    weights: str
    trained: bool
    has_classes: bool = True
    precision: Literal["bfloat16", "float32"] | None = None
    folded: frozenset[str] = frozenset()
    luma: tuple[float, float, float] | None = None
    once: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "stages", dict(self.stages))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        if not self.stages:
            raise InputError(f"{self.name} has no stages; name at least one stage.")
        modules = [path for path, _ in self.network.named_modules() if path]
        for path in self.stages.values():
            if path != SOFTMAX and path not in modules:
                raise unknown_name(f"module of {self.name}", path, modules)
            if path in self.folded:
                raise InputError(
                    f"{self.name}: '{path}' of this fast copy contains the BatchNorm after it; "
                    "choose stages before making the copy."
                )
        weights = self.network.parameters()
        is_double = any(weight.dtype == torch.float64 for weight in weights)
        kind = torch.float64 if is_double else torch.float32
        # made once and here, so that a pass copies nothing to the device
        vars(self)["_constants"] = self._mean_and_std(self.device, kind)

    def _mean_and_std(self, device: torch.device, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False):  # what is made in it could not be differentiated through
            mean = torch.tensor(self.preprocessing.mean, dtype=kind, device=device)
            std = torch.tensor(self.preprocessing.std, dtype=kind, device=device)
        return mean.view(1, 3, 1, 1), std.view(1, 3, 1, 1)

    @property
    def n_classes(self) -> int:
        """Number of outputs.

        Returns
        -------
        int
            As many as class names; 0 for a network without classes whose outputs nobody numbers.
        """
        return len(self.class_names)

    @property
    def device(self) -> torch.device:
        """Device of the weights.

        Returns
        -------
        torch.device
            The CPU for a network without weights.
        """
        return device_of(self.network)

    @cached_property
    def digest(self) -> str:
        """Hash weights, modules and their settings, preprocessing, stages and luma.

        The hash is the same on every device.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        stages = list(self.stages.items())
        return self._hash(stages)

    @cached_property
    def network_digest(self) -> str:
        """Hash of all but the stages: the same for all views of one network at one size.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        return self._hash([])

    def _hash(self, stages: list[tuple[str, str]]) -> str:
        weights: list[Any] = []
        for name, value in self.network.state_dict().items():
            if not name.endswith("num_batches_tracked"):  # changes nothing in evaluation
                weights += [name, value.detach().cpu().contiguous().float().numpy()]
        kinds = []
        for path, module in self.network.named_modules():
            kind = getattr(module, "digest_name", type(module).__name__)
            # stride, padding, epsilon … change the outputs of the same weights; addresses change
            # by process
            details = re.sub(" at 0x[0-9a-f]+", "", module.extra_repr())
            kinds.append([path, kind, details])
        fast = [] if self.precision is None else [f"fast, {self.precision}"]
        gray = [] if self.luma is None else [f"gray, {self.luma}"]
        return digest(kinds, asdict(self.preprocessing), stages, *weights, *fast, *gray)

    def logits(self, images: Tensor) -> Tensor:
        """Run the network.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1], of the size that the preprocessing gives.

        Returns
        -------
        Tensor
            (b, n_classes); of a network without classes its output, one row an image;
            differentiable with respect to the images.
        """
        output = _logits_in(self.network(self._normalized(images)), self.n_classes)
        if not self.has_classes and isinstance(output, Tensor) and output.ndim > 2:
            output = output.flatten(1)
        if self.precision == "bfloat16":
            return output.float()
        return output

    def probabilities(self, images: Tensor) -> Tensor:
        """Run the network and its softmax.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].

        Returns
        -------
        Tensor
            (b, n_classes), rows sum to 1.

        Raises
        ------
        InputError
            When the network has no classes.
        """
        refuse_embeddings(self)
        logits = self.logits(images)
        return logits.softmax(dim=1)

    def activations(self, images: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """Run the network up to the deepest of some stages and return what they put out.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].
        stages : sequence of str
            Stage names, in any order.

        Returns
        -------
        dict of str to Tensor
            Stage → (b, …) as the module gives it, contiguous, in the order asked for;
            differentiable. Later in-place operations of the network do not reach them.

        Raises
        ------
        InputError
            When a stage is unknown.
        """
        outputs = self.stage_outputs(images, stages)
        return {stage: values.contiguous() for stage, values in outputs.items()}

    def stage_module(self, stage: str) -> nn.Module:
        """Make a torch module from images to one stage.

        It is for libraries that want a module (plenoptic, captum …).

        Parameters
        ----------
        stage : str
            Name of a stage.

        Returns
        -------
        torch.nn.Module
            Takes images (b, 3, height, width) in [0, 1], returns `activations`; frozen, in
            evaluation mode.

        Raises
        ------
        InputError
            When the stage is unknown.
        """
        if stage not in self.stages:
            raise unknown_name(f"stage of {self.name}", stage, self.stages)
        module = _Stage(self, stage)
        return module.eval()

    def stage_outputs(self, images: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """Compute `activations` in whatever memory order the modules give them.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].
        stages : sequence of str
            Stage names, in any order.

        Returns
        -------
        dict of str to Tensor
            Stage → (b, …), for example channels-last after a convolution.

        Raises
        ------
        InputError
            When a stage is unknown.
        """
        unknown = [stage for stage in stages if stage not in self.stages]
        if unknown:
            raise unknown_name(f"stage of {self.name}", unknown[0], self.stages)
        order = [stage for stage in self.stages if stage in set(stages)]
        if not order:
            return {}
        recorded: dict[str, Tensor] = {}

        def _record(_: nn.Module, __: Any, output: Any, *, stage: str) -> None:
            if stage == order[-1]:
                recorded[stage] = output
                raise _Reached
            recorded[stage] = output.clone()  # the network may overwrite its own

        with ExitStack() as hooks, suppress(_Reached):
            for stage in order:
                if self.stages[stage] != SOFTMAX:
                    module = self.network.get_submodule(self.stages[stage])
                    hook = partial(_record, stage=stage)
                    hooks.callback(module.register_forward_hook(hook).remove)
            logits = self.logits(images)
            for stage in order:
                if self.stages[stage] == SOFTMAX:
                    recorded[stage] = logits.softmax(dim=1)
        if self.precision == "bfloat16":
            return {stage: recorded[stage].float() for stage in stages}
        return {stage: recorded[stage] for stage in stages}

    def _normalized(self, images: Tensor) -> Tensor:
        height, width = self.preprocessing.size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, height, width):
            raise InputError(
                f"{self.name} sees images of (b, 3, {height}, {width}), not "
                f"{tuple(images.shape)}; load them with its preprocessing."
            )
        if self.luma is not None:
            red, green, blue = self.luma
            gray = images[:, 0:1] * red + images[:, 1:2] * green + images[:, 2:3] * blue
            images = gray.expand(-1, 3, -1, -1)
        mean, std = vars(self)["_constants"]
        if mean.device != images.device or mean.dtype != images.dtype:
            mean, std = self._mean_and_std(images.device, images.dtype)
        if self.once:
            names = f"{self.name}: {name_ids(self.once)}"
            images = differentiable_once(images, names)
        normalized = normalize(images, mean, std)
        if self.precision == "bfloat16":
            return normalized.bfloat16()
        return normalized


def refuse_embeddings(*models: StagedModel) -> None:
    """Refuse networks without classes where classes are needed.

    Parameters
    ----------
    *models : StagedModel
        Networks.

    Raises
    ------
    InputError
        When the outputs of one are an embedding.
    """
    without = [model.name for model in models if not model.has_classes]
    if without:
        raise InputError(
            f"{name_ids(without)} has no classes: the output is an embedding or a map; give a "
            "network with classes, or match and compare its stages."
        )


def device_of(network: nn.Module) -> torch.device:
    """Find the device of a network's weights.

    Parameters
    ----------
    network : torch.nn.Module
        Any network.

    Returns
    -------
    torch.device
        The CPU for a network without weights.
    """
    for weight in network.parameters():
        return weight.device
    return torch.device("cpu")


def _entries(output: Any) -> dict[str, Any]:
    """Name what is in a tuple, list, mapping or dataclass."""
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if isinstance(output, (tuple, list)):
        numbers = [str(number) for number in range(len(output))]
        names = getattr(output, "_fields", numbers)
        return dict(zip(names, output, strict=True))
    if is_dataclass(output):
        return dict(vars(output))
    if hasattr(output, "logits"):
        return {"logits": output.logits}
    return {}


def _logits_in(output: Any, n_classes: int) -> Any:
    """Take the logits out of what a network returns; where they are not clear, return it all.

    The number of classes is 0 where it is not known, or there are none.
    """
    if isinstance(output, Tensor):
        return output
    named = _entries(output)
    if isinstance(named.get("logits"), Tensor):
        return named["logits"]
    tensors = {id(value): value for value in named.values() if isinstance(value, Tensor)}
    rows = [value for value in tensors.values() if value.ndim == 2]
    if n_classes:
        rows = [value for value in rows if value.shape[1] == n_classes]
    elif not rows:
        rows = list(tensors.values())
    return rows[0] if len(rows) == 1 else output


class _Stage(nn.Module):
    """A network up to one stage."""

    def __init__(self, model: StagedModel, stage: str) -> None:
        super().__init__()
        self._model = model
        self._stage = stage
        self.network = model.network

    def forward(self, images: Tensor) -> Tensor:
        activations = self._model.activations(images, [self._stage])
        return activations[self._stage]


# ------------------------------------------------------------------------------------------- making


@checked_with(own=("network",))
def stage_model(
    network: nn.Module,
    *,
    stages: Mapping[str, str] | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    weights: str = UNKNOWN_WEIGHTS,
    trained: bool | None = None,
    has_classes: bool | None = None,
    device: str | torch.device = "cpu",
) -> StagedModel:
    """Make a `StagedModel` of a private copy of a network; the caller's module is not touched.

    Parameters
    ----------
    network : torch.nn.Module
        Any network that takes normalized images and returns logits, an embedding or a map, alone or
        among other things (see `StagedModel`). Of a `torch.nn.DataParallel`, and of a compiled
        module, the network inside is taken.
    stages : mapping of str to str, optional
        Stage name → module path, early to late; ``"softmax"`` for the softmax of the output. By
        default the units of depth (`stimuli_gen.depth_units`) through which every path from the
        image to the logits passes, each under its module path, in the order in which they run.
    preprocessing : Preprocessing, optional
        Preprocessing of the network. By default what timm's ``pretrained_cfg`` says, where the
        network has one; else ImageNet's mean and standard deviation, bilinear, at 224 pixels or,
        where the network does not run on these, the first common input size at which it does.
    class_names : sequence of str, optional
        Names of the classes, one an output; empty for a network without classes. By default a row
        of outputs is numbered from 0.
    name : str, optional
        Name of the network in tables; by default that of its class.
    weights : str
        Name of the weights in tables.
    trained : bool, optional
        Whether the weights were trained. By default False, so that nothing made with weights of
        unknown origin passes for the work of a trained network.
    has_classes : bool, optional
        Whether the outputs are classes; False for an embedding. By default they are where
        `class_names` names them or the output is a row, (1, n) for one image.
    device : str or torch.device
        Where the copy goes.

    Returns
    -------
    StagedModel
        In evaluation mode, float32, frozen, channels-last (faster convolutions), and checked. Its
        ``assumed`` lists every default that was used; the same is logged as a warning.

    Raises
    ------
    InputError
        When the network is no module or cannot be copied, the device is not there, no default can
        be found, or see `check_model`.

    Examples
    --------
    >>> from torch import nn
    >>> from stimuli_gen import stage_model
    >>> layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    >>> model = stage_model(nn.Sequential(*layers, nn.Linear(4, 10)))
    >>> model.name, model.stages, model.preprocessing.size
    ('Sequential', {'1': '1', '4': '4'}, (224, 224))
    >>> model.class_names[:3], model.trained
    (('0', '1', '2'), False)
    """
    if isinstance(device, str) or device.type == "cuda":
        device = resolve_device(str(device))
    network, front = unwrapped(network)
    if stages is not None and front:
        stages = {stage: path.removeprefix(front) for stage, path in stages.items()}
    label = type(network).__name__ if name is None else name
    with torch.inference_mode(False):  # weights made in it could not be differentiated through
        private = _copied(network, label).float().eval().requires_grad_(False)
        private = private.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assumed = [f"name is '{label}', its class"] if name is None else []
    if preprocessing is None:
        preprocessing = _usual_preprocessing(private, label)
        height, width = preprocessing.size
        assumed.append(
            f"preprocessing is resize to {preprocessing.resize} pixels "
            f"({preprocessing.interpolation}), center {height} x {width}, mean "
            f"{preprocessing.mean}, std {preprocessing.std}"
        )
    class_names, supposed = _classes(private, label, preprocessing, class_names, has_classes)
    assumed += supposed
    if weights == UNKNOWN_WEIGHTS:
        assumed.append(f"weights are called '{UNKNOWN_WEIGHTS}'")
    if trained is None:
        assumed.append("trained is False; say trained=True where the weights were trained")
    quicken(private)
    model = StagedModel(
        network=private,
        stages={SOFTMAX: SOFTMAX} if stages is None else stages,
        preprocessing=preprocessing,
        class_names=tuple(class_names),
        name=label,
        weights=weights,
        trained=bool(trained),
        has_classes=bool(class_names) if has_classes is None else has_classes,
    )
    if stages is None:
        from stimuli_gen.depth import stages_at_cuts  # a module that needs StagedModel

        _check_settings(model)
        model = replace(model, stages=stages_at_cuts(model))
        assumed.append(f"stages are its units of depth: {name_ids(model.stages)}")
    check_model(model)
    if assumed:
        _LOG.warning("%s: assumed that %s.", label, "; ".join(assumed))
    return replace(model, once=_differentiable_once(model), assumed=tuple(assumed))


def _classes(
    network: nn.Module,
    name: str,
    preprocessing: Preprocessing,
    class_names: Sequence[str] | None,
    has_classes: bool | None,
) -> tuple[tuple[str, ...], list[str]]:
    """Name the classes, if there are any, and say what is assumed of them."""
    if class_names:
        return tuple(class_names), []
    assumed = []
    numbers, output = _numbered_outputs(network, name, preprocessing.size)
    names = numbers if class_names is None else ()
    if has_classes and not names:
        raise InputError(
            f"{name} is said to have classes, and has no row of outputs or class_names is empty; "
            "leave has_classes out, or give a module around it that returns logits (1, n_classes)."
        )
    if names:
        what = "outputs" if has_classes is False else "class_names"
        assumed.append(f"{what} are the numbers 0 to {len(names) - 1}")
    elif class_names is None and has_classes is None:
        assumed.append(f"it has no classes: it gives {output} for one image")
    return names, assumed


def unwrapped(network: nn.Module) -> tuple[nn.Module, str]:
    """Take a network out of what runs it on several devices or compiles it.

    Parameters
    ----------
    network : torch.nn.Module
        A network, or a `torch.nn.DataParallel`, `torch.nn.parallel.DistributedDataParallel` or
        compiled module around it.

    Returns
    -------
    network : torch.nn.Module
        The network.
    front : str
        What stands before the paths of its modules in the wrapper.
    """
    front = ""
    while True:
        if isinstance(network, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            network, front = network.module, f"{front}module."
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):  # torch.compile
            network, front = inner, f"{front}_orig_mod."
        else:
            return network, front


def _usual_preprocessing(network: nn.Module, name: str) -> Preprocessing:
    """Read the preprocessing that a network says it has, or take ImageNet's.

    The input size is the one that the network says, or the first one at which it runs.
    """
    config = getattr(network, "pretrained_cfg", None)
    if not isinstance(config, Mapping):
        config = {}
    own = getattr(network, "image_size", None)
    own = _SIZES_OF_CLASSES.get(type(network).__name__, own)
    sizes = []
    if "input_size" in config:
        _, height, width = config["input_size"]
        sizes.append((height, width))
    if isinstance(own, int):
        sizes.append((own, own))
    sizes += [(side, side) for side in _INPUT_SIZES]
    refusals = []
    for size in dict.fromkeys(sizes):
        try:
            _gray_output(network, size)
        except Exception as error:  # a user's code may raise anything
            if out_of_memory(error):
                raise
            refusals.append(_refusal(name, network, size, error))
        else:
            break
    else:
        tried = ", ".join(f"{height} x {width}" for height, width in dict.fromkeys(sizes))
        raise InputError(
            f"{refusals[0]} No input of {tried} pixels works either; give the network's "
            "preprocessing."
        )
    share = float(config.get("crop_pct") or _SHARE_CUT)
    interpolation = config.get("interpolation")
    if interpolation not in INTERPOLATIONS:
        interpolation = "bilinear"
    return Preprocessing(
        size=size,
        resize=max(int(max(size) / share), *size),
        interpolation=interpolation,
        mean=config.get("mean") or IMAGENET_MEAN,
        std=config.get("std") or IMAGENET_STD,
    )


def _gray_output(network: nn.Module, size: tuple[int, int]) -> Any:
    """Run a network on one image of the mean color."""
    device = device_of(network)
    image = torch.zeros((1, 3, *size), device=device)
    with for_one_image(size, device), _random_states_kept(device), torch.no_grad():
        return network(image)


def _numbered_outputs(
    network: nn.Module, name: str, size: tuple[int, int]
) -> tuple[tuple[str, ...], str]:
    """Name a network's row of outputs by their numbers, and say what it gives for one image.

    There are no names where the output is no row.
    """
    try:
        output = _gray_output(network, size)
    except Exception as error:  # a user's code may raise anything
        if out_of_memory(error):
            raise
        raise _refusal(name, network, size, error) from error
    logits = _logits_in(output, 0)
    if not isinstance(logits, Tensor) or logits.ndim < 2 or len(logits) != 1:
        raise InputError(
            f"{name} gives {_described(output)} for one image, so its output is not clear; put a "
            "module around it whose forward returns logits (1, n_classes), or the one tensor "
            "(1, …) that is its output."
        )
    names = range(logits.shape[1] if logits.ndim == 2 else 0)
    return tuple(str(number) for number in names), str(tuple(logits.shape))


def _differentiable_once(model: StagedModel) -> tuple[str, ...]:
    """Name hand-written operations that torch differentiates only once, or wrongly twice.

    Only a network that has some is tried: a product of its Hessian and a direction, in double
    precision (on the CPU where its device has none), against the difference of two gradients.
    """
    size, device = model.preprocessing.size, model.device
    noise = np.random.default_rng(0).random((2, 1, 3, *size))

    def gradient_of(of: StagedModel, images: Tensor, create_graph: bool = False) -> Tensor:
        energy = of.logits(images).square().sum()
        (gradient,) = torch.autograd.grad(energy, images, create_graph=create_graph)
        return gradient

    with for_one_image(size, device), _random_states_kept(device), gradients_on():
        seen = torch.from_numpy(noise[0].astype(np.float32)).to(device)
        output = model.logits(seen.requires_grad_(True))
        names: dict[str, None] = {}
        for node in graph_nodes(output):
            function = getattr(type(node), "_forward_cls", None)
            if function is not None and not function.__module__.startswith("stimuli_gen."):
                names[function.__name__] = None
        del output
        if not names:
            return ()
        step = 1e-8  # so small that hardly a ReLU switches on the way
        try:
            place = device if has_float64(device) else torch.device("cpu")
            network = copy.deepcopy(model.network).to(place)
            exact = replace(model, network=network.double())
            image, direction = (torch.from_numpy(values).to(place) for values in noise)
            ahead = gradient_of(exact, (image + step * direction).requires_grad_(True))
            behind = gradient_of(exact, (image - step * direction).requires_grad_(True))
            tracked = image.clone().requires_grad_(True)
            gradient = gradient_of(exact, tracked, create_graph=True)
            slope = (gradient * direction).sum()
            (product,) = torch.autograd.grad(slope, tracked, allow_unused=True)
        except (RuntimeError, TypeError, ValueError) as error:
            # it has no double precision, or says that it cannot
            if out_of_memory(error):
                raise
            return tuple(names)
        if product is None:
            product = torch.zeros_like(image)
        expected = (ahead - behind) / (2 * step)
        off = torch.linalg.vector_norm(product - expected)
        length = torch.linalg.vector_norm(expected)
    return () if off <= 1e-3 * length else tuple(names)


def _copied(network: nn.Module, name: str) -> nn.Module:
    """Copy a network, also one that keeps results of an earlier pass.

    Torch refuses to copy such a network.
    """
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{name}: give the network, a torch.nn.Module, not a {type(network).__name__}; load "
            "weights into it first."
        )
    modules = dict(network.named_modules())
    scripted = [path for path, module in modules.items() if isinstance(module, _SCRIPTED)]
    if scripted:
        names = [path or "the network" for path in scripted]
        raise InputError(
            f"{name} is a TorchScript module, whose inside cannot be watched "
            f"({name_ids(names)}); give the Python module that it was made of, with its weights."
        )
    values = dict([*network.named_parameters(), *network.named_buffers()])
    shapeless = [path for path, value in values.items() if isinstance(value, _SHAPELESS)]
    if shapeless:
        raise InputError(
            f"{name}: {name_ids(shapeless)} have no shape yet; run the network on an image first."
        )
    empty = [path for path, value in values.items() if value.is_meta]
    if empty:
        raise InputError(
            f"{name}: {name_ids(empty)} are on the device 'meta', without values; load weights "
            "first."
        )
    kept: list[Tensor] = []
    for module in modules.values():
        kept += [value for value in vars(module).values() if isinstance(value, Tensor)]
    copies = {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}
    try:
        return copy.deepcopy(network, copies)
    except (RuntimeError, TypeError) as error:  # such tensors inside lists, open files, locks …
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{name} cannot be copied; delete what it keeps beside its weights: {reason}"
        ) from error


@checked
def check_model(model: StagedModel) -> None:
    """Check that a model can be used: run noise forward and backward, and forward once more.

    Parameters
    ----------
    model : StagedModel
        What to check. The noise is always the same. Random states (torch, NumPy, Python) are put
        back, whatever the network draws.

    Raises
    ------
    InputError
        When the network is in training mode or not frozen, mean or std are for another range of
        pixels, weights or output are not finite, the number of outputs differs from the number of
        class names, a stage does not run exactly once, does not give a tensor, or comes out of
        order, no gradient reaches the image, or the same image gives another output the second time
        (compared exactly on a CPU, elsewhere to rounding). The message says what to do.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import check_model, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> check_model(model)  # raises an error if the model cannot be used
    """
    _check_settings(model)
    size, device = model.preprocessing.size, model.device
    noise = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    with for_one_image(size, device), _random_states_kept(device), gradients_on():
        image = torch.from_numpy(noise).to(device).requires_grad_(True)
        with _stages_checked(model):
            try:
                output = model.logits(image)
            except Exception as error:  # a user's code may raise anything
                if isinstance(error, InputError) or out_of_memory(error):
                    raise
                raise _refusal(model.name, model.network, size, error) from error
        _check_output(model, image, output)
        first = output.detach().clone()
        del output  # its graph of gradients: one at a time
        # with gradients, too: without, attention takes another way
        again = model.logits(image).detach()
    if device.type == "cpu":
        is_same = torch.equal(again, first)
    else:  # sums may be taken in another order each time
        is_same = torch.allclose(again, first, rtol=1e-3, atol=1e-4)
    if not is_same:
        raise InputError(
            f"{model.name} gives another output for the same image each time; take what is random "
            "(dropout with training=True, torch.rand) or remembered from pass to pass out of its "
            "forward."
        )


def _refusal(name: str, network: nn.Module, size: tuple[int, int], error: Exception) -> InputError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    height, width = size
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    channels = convolutions[0].in_channels if convolutions else 3
    cure = "it must take such images and nothing else, and return logits"
    if channels != 3:
        cure = (
            f"its first convolution sees {channels} channel(s), images have 3: put a module "
            f"before it that makes {channels} of 3, for example nn.Conv2d(3, {channels}, 1, "
            "bias=False) with the weights of the colors"
        )
    return InputError(
        f"{name} cannot run on images of (1, 3, {height}, {width}): {reason}; {cure}."
    )


def _check_settings(model: StagedModel) -> None:
    """Check what needs no forward pass."""
    cure = "build it with stage_model"
    modules = dict(model.network.named_modules())
    training = [path or "the network" for path, module in modules.items() if module.training]
    if training:
        raise InputError(
            f"{model.name} is in training mode; call .eval(), or {cure} ({name_ids(training)})."
        )
    parameters = dict(model.network.named_parameters())
    trainable = [path for path, weight in parameters.items() if weight.requires_grad]
    if trainable:
        raise InputError(
            f"{model.name} has trainable weights; call .requires_grad_(False), or {cure} "
            f"({name_ids(trainable)})."
        )
    mean, std = model.preprocessing.mean, model.preprocessing.std
    largest = max(abs(value) for value in (*mean, *std))
    if largest > _LARGEST:
        raise InputError(
            f"{model.name}: mean {mean} and std {std} are for pixels of 0 to 255; divide by 255: "
            "pixels are in [0, 1]."
        )
    bad = [path for path, weight in parameters.items() if not torch.isfinite(weight).all()]
    for path, buffer in model.network.named_buffers():
        numbers = torch.view_as_real(buffer) if buffer.is_complex() else buffer
        is_bad = numbers.isnan() | numbers.isposinf()  # not -inf, as in attention's masks
        if is_bad.any():
            bad.append(path)
    if bad:
        raise InputError(
            f"{model.name} has weights that are not finite ({bad[0]}, {len(bad)} in all); load it "
            "again."
        )


@contextmanager
def _random_states_kept(device: torch.device) -> Iterator[None]:
    """Put back all random states, whatever a network draws from them."""
    states: list[tuple[Callable[[Any], Any], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),  # noqa: NPY002 (kept for the network, not used)
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    if device.type == "mps":
        states.append((torch.mps.set_rng_state, torch.mps.get_rng_state()))
    try:
        yield
    finally:
        for put_back, state in states:
            put_back(state)


@contextmanager
def _stages_checked(model: StagedModel) -> Iterator[None]:
    """Check that the modules of the stages run once each, early to late, and give tensors."""
    calls: list[str] = []

    def note(_: nn.Module, __: Any, output: Any, *, stage: str) -> None:
        if not isinstance(output, Tensor):
            raise InputError(
                f"{model.name}: stage '{stage}' gives a {type(output).__name__}, not a tensor; "
                "name a module inside it."
            )
        calls.append(stage)

    with ExitStack() as hooks:
        for stage, path in model.stages.items():
            if path != SOFTMAX:
                module = model.network.get_submodule(path)
                hooks.callback(module.register_forward_hook(partial(note, stage=stage)).remove)
        yield
    expected = [stage for stage, path in model.stages.items() if path != SOFTMAX]
    for stage in expected:
        if stage not in calls:
            raise InputError(
                f"{model.name}: the module of stage '{stage}' ({model.stages[stage]}) is not "
                "called in a forward pass; name one that is, for example the block around it."
            )
        if calls.count(stage) != 1:
            raise InputError(
                f"{model.name}: the module of stage '{stage}' ({model.stages[stage]}) runs "
                f"{calls.count(stage)} times in one forward pass; name one that runs once, for "
                "example the block around it."
            )
    if calls != expected:
        raise InputError(
            f"{model.name}: list the stages early to late; the network runs them as "
            f"{', '.join(calls)}."
        )
    if SOFTMAX in list(model.stages.values())[:-1]:
        raise InputError(
            f"{model.name}: the softmax stage is the last one, not among {list(model.stages)}; "
            "list "
            "it last."
        )


def _check_output(model: StagedModel, image: Tensor, output: Any) -> None:
    if not isinstance(output, Tensor):
        raise InputError(
            f"{model.name} gives {_described(output)} for one image; the logits, a tensor of (1, "
            f"{model.n_classes or 'n'}), are not clear in it; put a module around it whose forward "
            "returns them alone."
        )
    is_row = output.ndim == 2 and len(output) == 1
    if not is_row or output.shape[1] != (model.n_classes or output.shape[1]):
        cure = "give one name for each output"
        if output.ndim != 2:
            cure = (
                "an image's output must be a row of numbers: put a module around it that makes one"
            )
        raise InputError(
            f"{model.name} gives {tuple(output.shape)} for one image but has {model.n_classes} "
            f"class names; {cure}."
        )
    if not torch.isfinite(output).all():
        raise InputError(
            f"{model.name} gives outputs that are not finite for an image of noise; check "
            "weights, mean, std."
        )
    if not output.requires_grad:
        raise InputError(
            f"{model.name}: no gradient reaches the image; remove detach(), no_grad(), argmax and "
            "whole numbers from its forward."
        )
    try:
        (gradient,) = torch.autograd.grad(output.square().sum(), image)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{model.name}: its gradient cannot be computed; mend its forward: {reason}"
        ) from error
    if not torch.isfinite(gradient).all():
        raise InputError(
            f"{model.name}: the gradient for the image is not finite; check weights, mean, std."
        )


def _described(output: Any) -> str:
    """Say what a network returned, with the shapes in it."""
    if output is None:
        return "nothing"
    if isinstance(output, Tensor):
        return f"a tensor of {tuple(output.shape)}"
    shapes = []
    for name, value in _entries(output).items():
        shape = type(value).__name__
        if isinstance(value, Tensor):
            shape = str(tuple(value.shape))
        shapes.append(f"{name} {shape}")
    what = f"a {type(output).__name__}"
    if not shapes:
        return what
    return f"{what} ({name_ids(shapes)})"


@checked
def resolve_device(name: str = "auto") -> torch.device:
    """Find the device asked for.

    Parameters
    ----------
    name : str
        ``cpu``, ``cuda``, ``mps``, ``xpu`` or another type of device that torch knows and finds
        here; ``cuda:1`` is the second GPU. ``auto``: CUDA, else Apple's MPS, else another
        accelerator that torch finds, else the CPU.

    Returns
    -------
    torch.device
        Present on this machine.

    Raises
    ------
    InputError
        When the name is unknown or the device is not there.

    Examples
    --------
    >>> from stimuli_gen import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device(next(kind for kind in _device_types() if _count_devices(kind)))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("device", name, ["auto", "cpu", "cuda", "mps", "cuda:1"]) from None
    if (device.index or 0) >= _count_devices(device.type):
        raise InputError(
            f"device '{name}' is not available on this machine; take 'auto' or 'cpu' as the device."
        )
    return device


def _device_types() -> list[str]:
    """List types of devices, the preferred first; the last is the CPU."""
    types = ["cuda", "mps"]
    known = getattr(torch, "accelerator", None)  # torch 2.6 and later
    accelerator = None if known is None else known.current_accelerator()
    if accelerator is not None:
        types.append(accelerator.type)
    return [*types, "cpu"]


def _count_devices(kind: str) -> int:
    """Count the devices of a type; 0 where torch cannot use it."""
    if kind == "cpu":
        return 1
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = getattr(torch, kind, None)
    if module is None or not hasattr(module, "is_available") or not module.is_available():
        return 0
    return int(module.device_count())


# ------------------------------------------------------------------------------------------ running


def run_on_device_of(model: StagedModel, run: RunOptions | None) -> RunOptions:
    """Say how a generator runs: where its network is.

    Parameters
    ----------
    model : StagedModel
        The network.
    run : RunOptions, optional
        What the caller asked for.

    Returns
    -------
    RunOptions
        The same with the device of the network; the defaults where nothing was asked for.

    Raises
    ------
    InputError
        When another device than that of the network was asked for.
    """
    run = run or RunOptions()
    if run.device != "auto":
        wanted = resolve_device(run.device)
        same_index = wanted.index in (None, model.device.index)
        if wanted.type != model.device.type or not same_index:
            raise InputError(
                f"run.device is {run.device!r}, and {model.name} is on {model.device}; give "
                "'auto', "
                "or load the network on that device."
            )
    return replace(run, device=str(model.device))


@checked_with(shapes={"images": "n 3 height width"})
def predict(
    model: StagedModel, images: np.ndarray | ImagesOnDisk, batch_size: int | None = None
) -> np.ndarray:
    """Compute the class probabilities of images.

    Parameters
    ----------
    model : StagedModel
        The network.
    images : ndarray or StoredImages
        (n, 3, height, width) float32 in [0, 1].
    batch_size : int, optional
        Images a pass; by default 8 on a CPU, elsewhere as many as memory allows
        (`stimuli_gen.batches.fitting_batch`).

    Returns
    -------
    ndarray
        (n, n_classes) float32.

    Raises
    ------
    InputError
        When the network has no classes.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import predict, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> images = np.zeros((2, 3, 32, 32), dtype=np.float32)
    >>> predict(model, images).sum(axis=1).round(4)
    array([1., 1.], dtype=float32)
    """
    refuse_embeddings(model)
    probabilities = np.zeros((len(images), model.n_classes), dtype=np.float32)
    for rows, batch in host_batches(model.probabilities, images, batch_size, model.device):
        probabilities[rows] = batch.numpy()
    return probabilities
