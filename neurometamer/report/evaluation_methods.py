"""A methods section for an evaluation of metamers, and the works to cite.

Both are written from the settings and the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from neurometamer.evaluation.sets import MetamerSet
from neurometamer.figures.style import count_text
from neurometamer.report.methods import software_text
from neurometamer.report.references import NETWORKS

WORKS_USED: Mapping[str, str] = {
    "boehm2025": "recognizability, image metrics, divergence, sets of networks; what it leaves "
    "open is a setting here",
    "feather2023": "the two criteria of a valid metamer, 16 categories",
    "geirhos2018": "the 16 categories",
    "jeon2025": "networks as cross-validated observers; no numbers are published",
    "detlefsen2022": "definitions of the image metrics",
    "holm1979": "correction of p for the effects of factors",
}
"""Key of a work to what is used of it; those of parts that were not asked for are not cited."""

OF_PART = {"jeon2025": "observers", "detlefsen2022": "quality", "holm1979": "observers"}
"""Works that one part alone rests on."""

TARGETS = {
    "own": "the class that the evaluator itself gives the photograph",
    "truth": "the ground truth",
    "generator": "the class that the generating networks give the photograph, as Boehm et al. "
    "(2025) count",
}
"""Target to the class that counts as recognized."""


def cited_works(record: Mapping[str, Any], sets: Sequence[MetamerSet]) -> dict[str, str]:
    """Name the works whose methods and networks an evaluation used.

    Parameters
    ----------
    record : mapping
        Provenance.
    sets : sequence of MetamerSet
        What was evaluated.

    Returns
    -------
    dict of str to str
        Key of `neurometamer.report.references.WORKS` to what is used of it.
    """
    parts = record["settings"]["parts"]
    works = {key: use for key, use in WORKS_USED.items() if OF_PART.get(key, parts[0]) in parts}
    names = [
        *record.get("evaluators", {}),
        *record.get("generators", {}),
        *(network for each in sets for network in each.members),
    ]
    known = [name.removesuffix("_grey") for name in dict.fromkeys(names)]
    networks = {NETWORKS[name]: "architecture of a network" for name in known if name in NETWORKS}
    torch = {"paszke2019": "networks"} if "torch" in record.get("versions", {}) else {}
    return works | networks | torch


def methods_text(
    record: Mapping[str, Any],
    tables: Mapping[str, pd.DataFrame],
    sets: Sequence[MetamerSet],
    judged: bool,
) -> list[str]:
    """Write the methods of an evaluation in paragraphs.

    Parameters
    ----------
    record : mapping
        Provenance.
    tables : mapping of str to pandas.DataFrame
        As `neurometamer.evaluate_sets` writes them.
    sets : sequence of MetamerSet
        What was evaluated.
    judged : bool
        Whether anybody judged which images are valid.

    Returns
    -------
    list of str
        Metamers, evaluators, what was measured, and software; parts that were not asked for are
        left out.
    """
    parts = record["settings"]["parts"]
    measured = {
        "recognizability": _recognized,
        "quality": _looked,
        "divergence": _diverged,
        "sets": _compared,
        "observers": _observed,
    }
    texts = [_metamers(tables["validity"], sets, judged), _evaluators(record)]
    texts += [make(record["settings"], tables) for name, make in measured.items() if name in parts]
    return [*filter(None, [*texts, software_text(record)])]


def _metamers(validity: pd.DataFrame, sets: Sequence[MetamerSet], judged: bool) -> str:
    names, stages = (
        ", ".join(dict.fromkeys(validity[name].astype(str))) for name in ("set", "stage")
    )
    low, high = int(validity["n_images"].min()), int(validity["n_images"].max())
    size = count_text(high, "photograph") if low == high else f"{low} to {high} photographs"
    at = "stages" if validity["stage"].nunique() > 1 else "stage"
    text = f"Metamers of {size} were evaluated, made for {names} at {at} {stages}."
    priors = list(
        dict.fromkeys(
            metamers.image_prior for metamers in sets if metamers.image_prior not in ("", "none")
        )
    )
    if priors:
        text += f" A prior of natural images was used in making them: {'; '.join(priors)}."
    if not judged:
        return f"{text} Their validity was not judged, so all images entered."
    n, valid = int(validity["n_images"].sum()), int(validity["n_valid"].sum())
    return (
        f"{text} A metamer was valid when, in its 8-bit file, every network of its set gave it the "
        "photograph's one of 16 classes and responded to it more alike than to any pair of "
        "different photographs of the null distribution (Spearman, Pearson, signal-to-noise "
        f"ratio); {valid} of {n} were. Numbers are of these; failed ones are told apart."
    )


def _evaluators(record: Mapping[str, Any]) -> str:
    networks = record.get("evaluators", {})
    if not networks:
        return ""
    named = ", ".join(
        f"{name} (weights: {network.get('weights') or 'not named'})"
        for name, network in networks.items()
    )
    return f"Evaluators were {named}, each with its own preprocessing."


def _recognized(settings: Mapping[str, Any], _tables: Mapping[str, pd.DataFrame]) -> str:
    ways = [
        f"{n_ways:,} classes" if n_ways == 1000 else f"{n_ways} categories"
        for n_ways in settings["ways"]
    ]
    rules = f" (by {', '.join(settings['rules'])})" if 16 in settings["ways"] else ""
    return (
        "A metamer counted as recognized where an evaluator gave it "
        f"{TARGETS[settings['target']]}, of {' and of '.join(ways)}{rules}. Evaluators that took "
        f"part in making the images entered no mean. {_interval(settings)}"
    )


def _interval(settings: Mapping[str, Any]) -> str:
    if not settings["n_resamples"]:
        return "No intervals were computed."
    return (
        f"Intervals ({100 * settings['confidence']:g} %) are percentile bootstraps over "
        f"photographs ({settings['n_resamples']} resamples)."
    )


def _looked(_settings: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> str:
    rows = tables["quality"]
    known = rows[rows["value"].notna()]
    names = ", ".join(dict.fromkeys(known["name"].astype(str)))
    return f"Image quality was measured against the photographs by {names}." if names else ""


def _diverged(settings: Mapping[str, Any], _tables: Mapping[str, pd.DataFrame]) -> str:
    shuffles = settings["n_permutations"]
    test = (
        f"p is from {shuffles} exchanges of photograph and metamer"
        if shuffles
        else "it was not tested"
    )
    return (
        "Distances among the responses of an evaluator to photographs and among those to metamers "
        f"were compared by the Jensen–Shannon divergence (base 2) of their distributions; {test}."
    )


def _compared(settings: Mapping[str, Any], _tables: Mapping[str, pd.DataFrame]) -> str:
    held_out = ", ".join(settings["held_out"])
    raters = f"the held-out evaluators {held_out}" if held_out else "evaluators that are in no set"
    return (
        f"Sets of networks were scored by {raters}, and by all evaluators but their own networks. "
        "The effect of a network is the mean score of sets with it minus that of sets without it, "
        "with p corrected by Bonferroni; a linear regression parts it from the size of the set."
    )


def _observed(settings: Mapping[str, Any], _tables: Mapping[str, pd.DataFrame]) -> str:
    first, second = settings["factors"]
    return (
        f"Metamers of each network were judged by all others; effects of {first} and {second} and "
        "their interaction were tested over photographs and over generating networks by "
        "permutation, corrected by Holm's method."
    )
