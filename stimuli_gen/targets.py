"""Which class an adversarial image shall be given by the network."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.provenance import generator
from neurometamer.store import read_table
from stimuli_gen.categories import N_IMAGENET, sixteen_classes
from stimuli_gen.models import StagedModel, predict
from stimuli_gen.stimuli import StimulusSet

TARGET_RULES = ("own", "random", "least_likely", "another_category", "given")


@checked
def choose_targets(
    rule: str | int | Mapping[str, Any],
    references: StimulusSet,
    model: StagedModel,
    seed: int = 0,
    categories: Mapping[int, str] | None = None,
) -> dict[str, int]:
    """Choose the class that each adversarial image shall be given by the network.

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
        Of ``"random"`` and ``"another_category"``.
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
    """
    ids = references.ids
    if isinstance(rule, str) and rule in ("own", "random", "least_likely"):
        return _targets_by_network(rule, references, model, seed)
    if isinstance(rule, str) and rule == "another_category":
        return _of_another_category(categories, references, model, seed)
    rule = _given_targets(rule, references)
    if missing := [one for one in ids if one not in rule]:
        raise InputError(
            f"no target for the photograph(s) {name_ids(missing)}; add a row for each."
        )
    if unknown := [one for one in rule if one not in set(ids)]:
        raise InputError(
            f"targets for id(s) that are no photographs: {name_ids(unknown)}; known: "
            f"{name_ids(ids)}."
        )
    if empty := [one for one in ids if pd.isna(rule[one])]:
        raise InputError(f"the target of the photograph(s) {name_ids(empty)} is empty; fill it in.")
    return {one: _class_index(rule[one], one, model) for one in ids}


def _given_targets(
    rule: str | int | Mapping[str, Any], references: StimulusSet
) -> Mapping[str, Any]:
    """Read the targets that a mapping, the photographs' table or a file gives; anything else is a class for all."""
    if isinstance(rule, Mapping):
        return dict(zip(_as_spelled(rule, references.ids), rule.values(), strict=True))
    if isinstance(rule, str) and rule == "given":
        if "target" not in references.table.columns:
            raise InputError(
                "target 'given' needs the column target in the table of photographs; it has none."
            )
        return dict(zip(references.ids, references.table["target"], strict=True))
    if isinstance(rule, str) and (rule.lower().endswith((".csv", ".tsv"))):
        table = read_table(rule, required=("id", "target"), text=("target",))
        names = _as_spelled(table["id"], references.ids)
        if again := duplicates(names):
            raise InputError(f"{rule} names id(s) more than once: {name_ids(again)}.")
        return dict(zip(names, table["target"], strict=True))
    return dict.fromkeys(references.ids, rule)


def _as_spelled(names: Iterable[object], ids: Sequence[str]) -> list[str]:
    """Spell names as the ids are, which may be in the other Unicode normalization: file systems and editors differ."""
    spelled = {unicodedata.normalize("NFC", one): one for one in ids}
    return [spelled.get(unicodedata.normalize("NFC", str(name)), str(name)) for name in names]


def _targets_by_network(
    rule: str, references: StimulusSet, model: StagedModel, seed: int = 0
) -> dict[str, int]:
    found = predict(model, references.images)
    own, least = found.argmax(axis=1), found.argmin(axis=1)
    if rule == "random":
        draws = [
            int(generator(seed, "target", one).integers(model.n_classes - 1))
            for one in references.ids
        ]
        chosen = [
            draw + (draw >= first) for draw, first in zip(draws, own, strict=True)
        ]  # skip the own class
    else:
        chosen = list(own if rule == "own" else least)
    return {one: int(target) for one, target in zip(references.ids, chosen, strict=True)}


def _of_another_category(
    categories: Mapping[int, str] | None, references: StimulusSet, model: StagedModel, seed: int
) -> dict[str, int]:
    """Draw a class of another category than the photograph's, over classes, not over categories."""
    own = [int(one) for one in predict(model, references.images).argmax(axis=1)]
    known: Mapping[int, Collection[str]]
    if categories is None and references.table["category"].astype(str).str.len().any():
        given = _given_categories(references)
        known = {
            index: {given[row] for row, one in enumerate(own) if one == index} for index in own
        }
    else:
        table = categories or _sixteen_of(model)
        given, known = (
            [table.get(index, "") for index in own],
            {index: {name} for index, name in table.items()},
        )
    if wrong := [one for one in known if not 0 <= one < model.n_classes]:
        raise InputError(
            f"categories name the class(es) {name_ids(wrong)}; {model.name} has the classes 0 to "
            f"{model.n_classes - 1}."
        )
    chosen = {}
    for one, first, category in zip(references.ids, own, given, strict=True):
        others = [
            index for index in sorted(known) if index != first and category not in known[index]
        ]
        if not others:
            raise InputError(
                f"no class of another category than '{category}' for '{one}'; give photographs of "
                "at least two "
                "categories, other targets, or 'random'."
            )
        chosen[one] = others[int(generator(seed, "target", one).integers(len(others)))]
    return chosen


def _given_categories(references: StimulusSet) -> list[str]:
    given = [str(one) for one in references.table["category"]]
    if missing := [
        one for one, category in zip(references.ids, given, strict=True) if not category
    ]:
        raise InputError(
            f"target 'another_category': no category is given for {name_ids(missing)}; fill in the "
            "column category "
            "for all photographs, or for none."
        )
    if len(set(given)) == 1:
        raise InputError(
            f"target 'another_category': all photographs are of the category '{given[0]}'; give "
            "photographs of at "
            "least two categories, other targets, or 'random'."
        )
    return given


def _sixteen_of(model: StagedModel) -> dict[int, str]:
    if model.n_classes != N_IMAGENET:
        raise InputError(
            "target 'another_category' needs categories: the column category in the table of "
            "photographs, or class "
            f"index → category (the 16 everyday ones are of ImageNet's {N_IMAGENET:,} classes, "
            f"{model.name} has "
            f"{model.n_classes})."
        )
    return sixteen_classes()


def _class_index(asked: Any, stimulus_id: str, model: StagedModel) -> int:
    """Find a class by index or by its exact name."""
    text = str(asked).strip()
    places = [i for i, name in enumerate(model.class_names) if name == text]
    if len(places) > 1:
        raise InputError(
            f"target '{text}' of '{stimulus_id}' names {len(places)} classes; use an index: "
            f"{places}."
        )
    if places:
        return places[0]
    try:
        number = float(text)
    except ValueError:
        near = difflib.get_close_matches(text, model.class_names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        rules = ", ".join(TARGET_RULES)
        raise InputError(
            f"unknown target '{text}' of '{stimulus_id}'; {hint}Give a class name or an index from "
            "0 to "
            f"{model.n_classes - 1}, a rule ({rules}), or a CSV file with the columns id and "
            "target."
        ) from None
    if number != int(number if np.isfinite(number) else -1) or not 0 <= number < model.n_classes:
        raise InputError(
            f"target {text} of '{stimulus_id}' is out of range; "
            f"{model.name} has the classes 0 to {model.n_classes - 1}."
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
    own = _targets_by_network("own", references, model)
    if same := [one for one in references.ids if own[one] == targets[one]]:
        raise InputError(
            f"the target is the network's own class for {name_ids(same)}; interference needs a "
            "wrong class: "
            "choose another, or the target 'random'."
        )
