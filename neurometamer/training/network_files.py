"""The file ``network.toml`` that a training leaves: the trained network wherever one is named."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from datetime import date
from datetime import time as time_of_day
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError
from neurometamer.training.recipes import ADVERSARIAL, RANDOM, TrainingRecipe

if TYPE_CHECKING:
    from neurometamer.zoo.table import ModelEntry


def network_facts(
    entry: ModelEntry, folder: Path, class_names: Sequence[str], recipe: TrainingRecipe
) -> dict[str, Any]:
    """Describe a trained network by the keys of `neurometamer.zoo.read_own_network`.

    Parameters
    ----------
    entry : ModelEntry
        What was built.
    folder : Path
        Folder of the TOML file and the weights.
    class_names : sequence of str
        Names of the outputs.
    recipe : TrainingRecipe
        How it was trained.

    Returns
    -------
    dict
        Keys of the file to their values.
    """
    cut = entry.preprocessing
    facts: dict[str, Any] = {}
    if entry.library == "python":
        place, _, name = entry.architecture.rpartition(":")
        if place.endswith(".py"):
            place = os.path.relpath(place, folder)
        facts["import"] = f"{place}:{name}"
    else:
        facts |= {"library": entry.library, "architecture": entry.architecture}
    training = "standard"
    if recipe.perturbation in ADVERSARIAL:
        training = "adversarial"
        norm = recipe.perturbation.rpartition("_")[2]
        facts |= {"threat": norm.capitalize(), "epsilon": f"{recipe.radius:g}"}
    elif recipe.perturbation in RANDOM:
        training = "random-perturbation"
    elif recipe.perturbation != "none":
        training = "corruptions"
    weights = folder / "best.safetensors"
    return facts | {
        "weights": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "training": training,
        "color": "gray" if recipe.color == "gray" else "rgb",
        "mean": cut.mean,
        "std": cut.std,
        "size": cut.size,
        "resize": cut.resize,
        "interpolation": cut.interpolation,
        "class_names": class_names,
    }


def toml_text(facts: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write keys and tables as TOML.

    Parameters
    ----------
    facts : mapping of str to object
        Texts, numbers, truth values, sequences and mappings of them.
    tables : mapping of str to mapping
        Title to keys; empty ones are left out.

    Returns
    -------
    str
        What ``tomllib`` reads as it was.

    Raises
    ------
    InputError
        When a text has characters that no file can hold, such as those of a file name of another
        encoding, or a value has no form in TOML.

    Examples
    --------
    >>> print(toml_text({"name": "r1", "mean": (0.5, 1)}, {"arguments": {"deep": True}}), end="")
    name = "r1"
    mean = [0.5, 1]
    <BLANKLINE>
    [arguments]
    deep = true
    """
    lines = [f"{_key(key)} = {_toml(value)}" for key, value in facts.items()]
    for title, table in tables.items():
        if table:
            lines += ["", f"[{_key(title)}]"]
        for key, value in table.items():
            lines.append(f"{_key(key)} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"{value!a} is no text in UTF-8, which TOML files are; rename it."
            ) from None
        # JSON escapes all that TOML does but the character of deletion
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = [f"{_key(str(key))} = {_toml(own)}" for key, own in value.items()]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, (int, float, date, time_of_day)):
        return str(value)
    raise InputError(f"{type(value).__name__} has no form in TOML; give text, numbers or lists.")


def _key(name: str) -> str:
    """Write a key, in quotes where it needs them."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _toml(name)
