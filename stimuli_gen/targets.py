"""Choose the class that the network is to give an adversarial image."""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.provenance import generator
from neurometamer.store import read_table
from stimuli_gen.categories import N_IMAGENET, sixteen_classes
from stimuli_gen.models import StagedModel, predict
from stimuli_gen.stimuli import StimulusSet


@checked
def choose_targets(
    rule: str | int | Mapping[str, Any],
    references: StimulusSet,
    model: StagedModel,
    seed: int = 0,
    categories: Mapping[int, str] | None = None,
) -> dict[str, int]:
    """Choose the class that the network is to give each adversarial image.

    Parameters
    ----------
    rule : str, int or mapping
        ``"own"``: the network's own first choice for the photograph; ``"random"``: any other class,
        drawn for each photograph from its own generator; ``"least_likely"``;
        ``"another_category"``: a random wrong class of another category than the photograph's;
        ``"given"``: the column ``target`` of the table; a class index or name, for all; a CSV file
        with the columns ``id`` and ``target``; or a mapping id → class.
    references : StimulusSet
        Photographs.
    model : StagedModel
        The network.
    seed : int
        Seed of ``"random"`` and ``"another_category"``.
    categories : mapping of int to str, optional
        Class index → category, for ``"another_category"``; classes without a category are never
        chosen, and a photograph's category is that of the network's own first choice. By default
        the column ``category`` of the photographs, where it is filled: classes are then those that
        the network gives to the photographs. Else the 16 categories of
        `stimuli_gen.sixteen_classes`.

    Returns
    -------
    dict of str to int
        Reference id → class index, in the order of `references`.

    Raises
    ------
    InputError
        When a class is unknown or out of range, or ids are missing, repeated or unknown.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import choose_targets, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> choose_targets("3", photographs, model)
    {'a': 3, 'b': 3}
    """
    ids = references.ids
    if isinstance(rule, str) and rule in _RULES:
        return _RULES[rule](references, model, seed, categories)
    return class_indices(_given_targets(rule, references), ids, model.class_names, model.name)


def class_indices(
    given: Mapping[str, Any], ids: Sequence[str], class_names: Sequence[str], name: str
) -> dict[str, int]:
    """Find the classes of targets, one for each photograph.

    Parameters
    ----------
    given : mapping of str to str or int
        Id of a photograph → class.
    ids : sequence of str
        All photographs.
    class_names : sequence of str
        Classes of the network.
    name : str
        The network, for messages.

    Returns
    -------
    dict of str to int
        In the order of the photographs.

    Raises
    ------
    InputError
        When photographs are missing or unknown, or a target is empty or no class.

    Examples
    --------
    >>> class_indices({"a": "dog", "b": "cat"}, ["b", "a"], ["cat", "dog"], "mine")
    {'b': 0, 'a': 1}
    """
    missing = [reference_id for reference_id in ids if reference_id not in given]
    if missing:
        raise InputError(
            f"no target for the photograph(s) {name_ids(missing)}; add a row for each."
        )
    unknown = sorted(set(given) - set(ids))
    if unknown:
        raise InputError(
            f"targets for id(s) that are no photographs: {name_ids(unknown)}; give some of "
            f"{name_ids(ids)}."
        )
    empty = [reference_id for reference_id in ids if pd.isna(given[reference_id])]
    if empty:
        raise InputError(f"the target of the photograph(s) {name_ids(empty)} is empty; fill it in.")
    targets = {}
    for reference_id in ids:
        wanted = given[reference_id]
        targets[reference_id] = class_index(wanted, reference_id, class_names, name)
    return targets


def _given_targets(
    rule: str | int | Mapping[str, Any], references: StimulusSet
) -> Mapping[str, Any]:
    """Read the targets that a mapping, the table of photographs or a file gives.

    Any other value is the class for all photographs.
    """
    if isinstance(rule, Mapping):
        return dict(zip(_as_spelled(rule, references.ids), rule.values(), strict=True))
    if isinstance(rule, str) and rule == "given":
        if "target" not in references.table.columns:
            raise InputError(
                "target 'given' needs the column target in the table of photographs; it has none: "
                "add it."
            )
        return dict(zip(references.ids, references.table["target"], strict=True))
    if isinstance(rule, str) and rule.lower().endswith((".csv", ".tsv")):
        return read_targets(rule, references.ids)
    return dict.fromkeys(references.ids, rule)


def read_targets(file: str | Path, ids: Sequence[str]) -> dict[str, str]:
    r"""Read the targets of photographs from a table.

    Parameters
    ----------
    file : path-like
        CSV or TSV with the columns ``id`` and ``target``.
    ids : sequence of str
        The photographs, in whose Unicode normalization ids come back.

    Returns
    -------
    dict of str to str
        Id → target, as the file holds them.

    Raises
    ------
    InputError
        When the file cannot be read, lacks a column, or names an id more than once.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "targets.csv"
    ...     _ = file.write_text("id,target\ncoffee,espresso")
    ...     read_targets(file, ["coffee"])
    {'coffee': 'espresso'}
    """
    table = read_table(file, required=("id", "target"), text=("target",))
    names = _as_spelled(table["id"], ids)
    again = duplicates(names)
    if again:
        raise InputError(f"{file} names id(s) more than once: {name_ids(again)}; keep one row.")
    return dict(zip(names, table["target"], strict=True))


def _as_spelled(names: Iterable[object], ids: Sequence[str]) -> list[str]:
    """Spell names as the ids are, which may be in the other Unicode normalization.

    File systems and editors differ in it.
    """
    spelling = {}
    for stimulus_id in ids:
        spelling[unicodedata.normalize("NFC", stimulus_id)] = stimulus_id
    spelled = []
    for name in names:
        normalized = unicodedata.normalize("NFC", str(name))
        spelled.append(spelling.get(normalized, str(name)))
    return spelled


def _own(references: StimulusSet, model: StagedModel, *_: Any) -> dict[str, int]:
    probabilities = predict(model, references.images)
    chosen = probabilities.argmax(axis=1).tolist()
    return dict(zip(references.ids, chosen, strict=True))


def _least_likely(references: StimulusSet, model: StagedModel, *_: Any) -> dict[str, int]:
    probabilities = predict(model, references.images)
    chosen = probabilities.argmin(axis=1).tolist()
    return dict(zip(references.ids, chosen, strict=True))


def _random(references: StimulusSet, model: StagedModel, seed: int, _: Any) -> dict[str, int]:
    targets = _own(references, model)
    if model.n_classes < 2:
        raise InputError(
            f"target 'random' needs a wrong class, and {model.name} has 1 class; give a network "
            "of at least two."
        )
    for reference_id, first in targets.items():
        draw = int(generator(seed, "target", reference_id).integers(model.n_classes - 1))
        targets[reference_id] = draw + (draw >= first)  # skip the own class
    return targets


def _of_another_category(
    references: StimulusSet, model: StagedModel, seed: int, categories: Mapping[int, str] | None
) -> dict[str, int]:
    """Draw a class of another category than the photograph's, over classes, not over categories."""
    probabilities = predict(model, references.images)
    own = probabilities.argmax(axis=1).tolist()
    known: dict[int, set[str]] = defaultdict(set)
    if categories is None and references.table["category"].astype(str).str.len().any():
        given = _given_categories(references)
        for index, category in zip(own, given, strict=True):
            known[index].add(category)
    else:
        table = categories
        if not table and model.n_classes == N_IMAGENET:
            table = sixteen_classes()
        if not table:
            raise InputError(
                "target 'another_category' needs categories: give the column category in the table "
                "of photographs, or class index → category (the 16 everyday ones are of ImageNet's "
                f"{N_IMAGENET:,} classes, {model.name} has {model.n_classes})."
            )
        for index, category in table.items():
            known[index].add(category)
        given = [table.get(index, "") for index in own]
    wrong = [index for index in known if not 0 <= index < model.n_classes]
    if wrong:
        raise InputError(
            f"categories name the class(es) {name_ids(wrong)}; {model.name} has the classes 0 to "
            f"{model.n_classes - 1}."
        )
    chosen = {}
    for reference_id, first, category in zip(references.ids, own, given, strict=True):
        elsewhere = [index for index in sorted(known) if category not in known[index]]
        others = [index for index in elsewhere if index != first]
        if not others:
            raise InputError(
                f"no class of another category than '{category}' for '{reference_id}'; give "
                "photographs of at least two categories, other targets, or 'random'."
            )
        draw = generator(seed, "target", reference_id).integers(len(others))
        chosen[reference_id] = others[int(draw)]
    return chosen


def _given_categories(references: StimulusSet) -> list[str]:
    given = [str(category) for category in references.table["category"]]
    missing = []
    for reference_id, category in zip(references.ids, given, strict=True):
        if not category:
            missing.append(reference_id)
    if missing:
        raise InputError(
            f"target 'another_category': no category is given for {name_ids(missing)}; fill in "
            "the column category for all photographs, or for none."
        )
    if len(set(given)) == 1:
        raise InputError(
            f"target 'another_category': all photographs are of the category '{given[0]}'; give "
            "photographs of at least two categories, other targets, or 'random'."
        )
    return given


_RULES: Mapping[str, Callable[..., dict[str, int]]] = {
    "own": _own,
    "random": _random,
    "least_likely": _least_likely,
    "another_category": _of_another_category,
}
"""Photographs, network, seed and categories → targets by id."""


def class_index(wanted: Any, stimulus_id: str, class_names: Sequence[str], model: str) -> int:
    """Find a class by index or by its exact name.

    Parameters
    ----------
    wanted : object
        Index or name.
    stimulus_id : str
        Whose target it is, for the message.
    class_names : sequence of str
        Classes of the network.
    model : str
        Name of the network.

    Returns
    -------
    int
        Its index.

    Raises
    ------
    InputError
        When it is unknown or out of range, or a name stands for several.

    Examples
    --------
    >>> from stimuli_gen.targets import class_index
    >>> class_index("dog", "photo", ["cat", "dog"], "net")
    1
    """
    text = str(wanted).strip()
    indices = [index for index, name in enumerate(class_names) if name == text]
    if len(indices) > 1:
        raise InputError(
            f"target '{text}' of '{stimulus_id}' names {len(indices)} classes; use an index: "
            f"{indices}."
        )
    if indices:
        return indices[0]
    try:
        number = float(text)
    except ValueError:
        near = difflib.get_close_matches(text, class_names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        rules = ", ".join([*_RULES, "given"])
        raise InputError(
            f"unknown target '{text}' of '{stimulus_id}'; {hint}Give a class name or an index "
            f"from 0 to {len(class_names) - 1}, a rule ({rules}), or a CSV file with the columns "
            "id and target."
        ) from None
    in_range = 0 <= number < len(class_names)
    if not in_range or number != int(number):
        raise InputError(
            f"target {text} of '{stimulus_id}' is out of range; {model} has the classes 0 to "
            f"{len(class_names) - 1}."
        )
    return int(number)


def refuse_own_class(
    model: StagedModel, references: StimulusSet, targets: Mapping[str, int]
) -> None:
    """Check that no target is what the network says anyhow.

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs.
    targets : mapping of str to int
        Reference id → class.

    Raises
    ------
    InputError
        When one is; the message names the photographs.
    """
    own = _own(references, model)
    same = [name for name in references.ids if own[name] == targets[name]]
    if same:
        raise InputError(
            f"the target is the network's own class for {name_ids(same)}; interference needs a "
            "wrong class: choose another, or the target 'random'."
        )
