"""Load networks by name, with their stages and preprocessing.

A model is loaded with its default weights, with a file of the user's, or with random weights (then
everything made with it says "untrained").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest_file
from neurometamer.zoo.fetching import fetch_weights, find_weights
from neurometamer.zoo.random_weights import RANDOM_WEIGHTS, randomize
from neurometamer.zoo.sources import build_network, find_entry, model_entry
from neurometamer.zoo.table import (
    GREY,
    MODEL_SETS,
    MODELS,
    NO_FILE,
    ModelEntry,
    Weights,
    expand_sets,
    imagenet_classes,
)
from neurometamer.zoo.weights import load_into, read_weights

if TYPE_CHECKING:
    import pandas as pd

    from neurometamer.zoo.table import ModelEntry
    from stimuli_gen.models import StagedModel


@checked
def list_models() -> pd.DataFrame:
    """Tabulate the known models.

    Returns
    -------
    pandas.DataFrame
        One row a model: name, title, library, architecture, parameters, input_size (px), stages,
        depths (modules at 20, 50 and 80 % of depth), output (classes or embedding), training,
        threat, epsilon, offline (weights
        come from the package index), available (default weights are on this machine now, or it
        needs none), weights_tag, weights_file, weights_url,
        sha256, license, reference, cites (keys of `neurometamer.zoo.table.WORKS`), notes, sets.

    Examples
    --------
    >>> table = list_models()
    >>> table.loc[table["name"] == "alexnet", ["library", "input_size"]].values.tolist()
    [['torchvision', 224]]
    """
    import pandas as pd

    rows = []
    for name, entry in MODELS.items():
        sets = [known for known, members in MODEL_SETS.items() if name in members]
        is_here = entry.training == "none" or find_weights(entry) is not None
        rows.append(
            {
                "name": name,
                "title": entry.title,
                "library": entry.library,
                "architecture": entry.architecture,
                "parameters": entry.parameters,
                "input_size": entry.preprocessing.size[0],
                "stages": " ".join(entry.stages),
                "depths": " ".join(entry.depths),
                "output": entry.output,
                "training": entry.training,
                "threat": entry.threat,
                "epsilon": entry.epsilon,
                "offline": bool(entry.weights_package),
                "available": is_here,
                "weights_tag": entry.weights_tag,
                "weights_file": entry.weights_file,
                "weights_url": entry.weights_url,
                "sha256": entry.sha256,
                "license": entry.license,
                "reference": entry.reference,
                "cites": " ".join(entry.cites),
                "notes": entry.notes,
                "sets": " ".join(sets),
            }
        )
    return pd.DataFrame(rows)


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
        See `neurometamer.zoo.model_entry`: a key of `MODELS`, ``timm:NAME``, ``torchvision:NAME``,
        ``robustbench:CORPUS/THREAT/NAME`` or a TOML file; with `GREY` at its end, a view of it that
        sees luminance only.
    weights : str or path
        ``"default"`` (those of the entry), ``"random"`` (Kaiming normal, see `randomize`), or a
        file: ``.pth``/``.pt`` state dict, ``.npz``, ``.safetensors``.
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
    from stimuli_gen.matching import greyscale_view
    from stimuli_gen.models import resolve_device, stage_model

    known_as, entry = find_entry(name)
    target = resolve_device(device)
    is_default = str(weights) == "default"
    is_random = str(weights) == "random" or (is_default and entry.training == "none")
    network = build_network(name, entry)
    if is_random:
        randomize(network, seed)
        tag = f"random (untrained, {RANDOM_WEIGHTS}, seed {seed})"
    elif is_default and entry.library == "robustbench":
        tag = f"{entry.training} ({known_as})"  # robustbench has read them
    elif is_default:
        path = find_weights(entry) or fetch_weights(name)
        refuse_other_file(path, entry)
        load_into(network, read_weights(path), entry, path)
        tag = f"{_kind_of_weights(entry)} ({path.name})"
    else:
        path = Path(weights)
        load_into(network, read_weights(path), entry, path)
        tag = f"file {path.name} ({digest_file(path)})"
    model = stage_model(
        network,
        stages=entry.stages or None,
        preprocessing=entry.preprocessing,
        class_names=entry.classes() or None,
        name=known_as,
        weights=tag,
        trained=not is_random,
        has_classes=None if entry.has_classes else False,
        device=target,
    )
    if entry.color == "gray":
        if name.endswith(GREY):
            raise InputError(
                f"{known_as} sees luminance only, as it was trained; leave '{GREY}' out of {name}."
            )
        view = greyscale_view(model)
        model = replace(view, name=known_as, weights=f"{tag}, sees luminance (Rec. 601)")
    return greyscale_view(model) if name.endswith(GREY) else model


def refuse_other_file(path: Path, entry: ModelEntry) -> None:
    """Refuse the weights of a user's network where they are not those that its file names.

    Parameters
    ----------
    path : Path
        The weights.
    entry : ModelEntry
        The entry; those of the table were compared when they were downloaded.

    Raises
    ------
    InputError
        When the digest is another.
    """
    if not entry.sha256 or not Path(entry.weights_file).is_absolute():
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(entry.sha256.lower()):
        raise InputError(
            f"{path} has the SHA-256 {digest[:12]}…, not {entry.sha256[:12]}… as the TOML file "
            "says: it is damaged, or of another training; copy it again, or repeat the command "
            "that made it, which goes on from its checkpoint."
        )


def _kind_of_weights(entry: ModelEntry) -> str:
    """Say what default weights were trained on, as far as it is known: a user's are no ImageNet."""
    kind = "" if entry.training == "standard" else entry.training
    if Path(entry.weights_file).is_absolute():
        images = f"trained on {entry.trained_on}" if entry.trained_on else ""
        return ", ".join(filter(None, (kind, images))) or "own"
    if kind:
        return kind
    if entry.classes is imagenet_classes:
        return "imagenet"
    return entry.weights_tag or entry.training


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
        See `load_model`; names of `MODEL_SETS` stand for their members.
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
    names = expand_sets(names)
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
        See `load_model`.
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
    is_path = is_path and front not in names
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
