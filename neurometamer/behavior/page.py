"""One self-contained HTML page from the tables of a recognition experiment; it computes nothing of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.figures import behavior as draw
from neurometamer.figures.style import count_text, format_number
from neurometamer.page import (
    Answer,
    Picture,
    citations,
    embed_figure,
    p_text,
    settings_grids,
    table_grid,
    write_page,
)
from neurometamer.references import bibtex
from neurometamer.store import write_text

LONG_TABLE = 40
"""Tables with more rows are cut on the page; the CSV has them all."""
MOST_NETWORKS = 4
"""Networks whose confusion matrices are drawn; the CSV has them all."""

CAPTIONS: Mapping[str, str] = {
    "screening": "Observers, what the rules looked at, and who is left out",
    "exclusions": "Everything that is left out, and why",
    "curves": "Proportion correct at each model and stage",
    "anova": "Analyses of variance",
    "permutation": "The same effects, judged by shuffled labels",
    "posthoc": "Post-hoc paired t tests",
    "error_consistency": "Error consistency, mean over pairs",
    "human_network": "People's curves and those of networks that did not make the images",
}

PARTS = (("settings", "Settings"), ("digests", "Digests of the data"), ("versions", "Versions"))

WORKS_USED: Mapping[str, str] = {
    "feather2023": "the experiment, its analyses of variance and its shuffled labels",
    "geirhos2020": "error consistency",
    "greenhouse1959": "correction for lack of sphericity",
    "vallat2018": "the program that computes the analyses of variance",
    "morey2008": "standard errors without differences between people",
}
"""Key of a work to what is used of it."""

OF_TABLE = {
    "geirhos2020": "error_consistency",
    "greenhouse1959": "anova",
    "vallat2018": "anova",
}
"""Works that one table alone rests on."""


def write_report(folder: Path, tables: Mapping[str, pd.DataFrame], told: Mapping[str, Any], *, stamp: str = "") -> Path:
    """Draw the figures and write the page.

    Parameters
    ----------
    folder : Path
        Gets ``figures/*.svg``, ``figures/*.png`` and ``report.html``.
    tables : mapping of str to DataFrame
        As `neurometamer.behavior.analyze_recognition` writes them.
    told : mapping
        Provenance: settings, notes, versions, digests.
    stamp : str
        What every figure and the page must say, of simulated observers for example; empty for nothing.

    Returns
    -------
    Path
        The page; it loads nothing and needs no JavaScript.
    """
    shown = [
        table_grid(tables[name], caption, f"{name}.csv", limit=LONG_TABLE, name=name)
        for name, caption in CAPTIONS.items()
        if len(tables.get(name, ()))
    ]
    version = str(told.get("versions", {}).get("neurometamer", ""))
    made = {name for name, table in tables.items() if len(table)}
    works = {key: use for key, use in WORKS_USED.items() if OF_TABLE.get(key, "") in {"", *made}}
    write_text(folder / "references.bib", bibtex(works, version))
    return write_page(
        folder / "report.html",
        "behavior.html",
        version=version,
        lead=_lead(tables),
        stamp=stamp,
        answers=[Answer(title=title, number=number, text=text) for title, number, text in _answers(tables)],
        pictures=_pictures(folder, tables, told, stamp),
        absent=[text for name, text in ABSENT.items() if name not in tables],
        grids=shown,
        notes=[str(note) for note in told.get("notes", ())],
        settings=settings_grids(told, PARTS),
        references=citations(works),
        bibtex=bibtex(works, version),
    )


ABSENT = {
    "confusion": "No confusion matrices: the table holds proportions, not answers.",
    "error_consistency": "No error consistency: it needs single trials of two observers or more.",
    "human_network": "No correlation with other networks: it needs single trials of networks known by name.",
}


# ----------------------------------------------------------------------------------------------------------- words


def _lead(tables: Mapping[str, pd.DataFrame]) -> str:
    curves = tables["curves"]
    kinds = {kind: own for kind, own in curves.groupby("observer", sort=False)}
    models, stages = curves["model"].nunique(), curves["stage"].nunique()
    parts = [f"{count_text(models, 'model')}, {count_text(stages, 'stage')}"]
    if "human" in kinds:
        parts.insert(0, count_text(int(kinds["human"]["n"].max()), "person", "people"))
    if "network" in kinds:
        names = list(dict.fromkeys(kinds["network"]["network"].astype(str)))
        parts.append(f"answers of {count_text(len(names), 'network')}: {', '.join(names)}")
    left = tables["exclusions"]
    persons = left[left["what"] == "observer"]
    trials = left[left["what"] == "trials"]["n_trials"].sum()
    if len(persons) or trials:
        parts.append(f"left out: {count_text(len(persons), 'observer')}, {count_text(int(trials), 'trial')}")
    return "; ".join(parts) + "."


def format_p(p: float, n_permutations: int = 0) -> str:
    """Write a p value; the smallest that shuffles can give is written as such.

    Parameters
    ----------
    p : float
        The value.
    n_permutations : int
        Shuffles behind it; 0 for none.

    Returns
    -------
    str
        ``"p = .034"``, ``"p < .001"`` or, of shuffles, ``"p ≤ 1/10001"``.

    Examples
    --------
    >>> format_p(0.0342), format_p(1e-9), format_p(1 / 10001, 10000)
    ('p = .034', 'p < .001', 'p ≤ 1/10001')
    """
    if not np.isfinite(p):
        return "p –"
    if n_permutations and p <= 1 / (1 + n_permutations):
        return f"p ≤ 1/{1 + n_permutations}"
    return f"p {p_text(p)}"


def _answers(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str, str]]:
    """Each analysis of two models, and of people and a network, in a line: title, F, and what stands beside it."""
    anova, shuffled = tables["anova"], tables["permutation"]
    keys = ["analysis", "observer", "models", "source"]
    beside = shuffled.set_index(keys)[["p", "n_permutations"]]
    out = []
    for row in anova[anova["source"].isin(["model", "observer"])].to_dict("records"):
        key = tuple(row[name] for name in keys)
        title = row["models"] if row["source"] == "model" else f"{row['observer']}, images of {row['models']}"
        number = f"F({int(row['df1'])}, {int(row['df2'])}) = {row['F']:.2f}, η²p = {format_number(row['eta2_p'])}"
        stages = count_text(int(row["n_stages"]), "stage")
        text = f"Main effect of {row['source']}, {stages}, n = {row['n']}; {format_p(row['p'])}"
        if key in beside.index:
            text += f"; shuffled labels: {format_p(beside.loc[key, 'p'], int(beside.loc[key, 'n_permutations']))}"
        out.append((title, number, text + "."))
    return out


# -------------------------------------------------------------------------------------------------------- pictures


def _pictures(folder: Path, tables: Mapping[str, pd.DataFrame], told: Mapping[str, Any], stamp: str) -> list[Picture]:
    curves = tables["curves"]
    chance = 1 / len(told["settings"]["categories"])
    out = []
    if curves["model"].nunique() > 1:
        figure = draw.recognition_lines(curves, panels="observer", chance=chance, stamp=stamp)
        text = "Recognition of each model's images over stages, one panel an observer."
        out.append(embed_figure(folder, "curves_by_observer", figure, text, _spoken(curves)))
    figure = draw.recognition_lines(curves, panels="model", chance=chance, stamp=stamp)
    text = "Recognition over stages, one panel a model, one line an observer."
    out.append(embed_figure(folder, "curves_by_model", figure, text, _spoken(curves)))
    if "error_consistency" in tables and tables["error_consistency"]["kappa"].notna().any():
        figure = draw.consistency_lines(tables["error_consistency"], stamp=stamp)
        text = "Do observers err on the same images? Error consistency over stages, one panel a model."
        alt = "Lines of error consistency; the values are in error_consistency.csv."
        out.append(embed_figure(folder, "error_consistency", figure, text, alt))
    if "human_network" in tables and (tables["human_network"]["n_points"] > 0).any():
        figure = draw.curve_scatter(curves, stamp=stamp)
        text = "People against networks that the images were not made for."
        alt = "Scatter of proportions correct; the values are in curves.csv."
        out.append(embed_figure(folder, "people_and_networks", figure, text, alt))
    return out + _confusion_pictures(folder, tables.get("confusion", pd.DataFrame()), stamp)


def _confusion_pictures(folder: Path, table: pd.DataFrame, stamp: str) -> list[Picture]:
    out: list[Picture] = []
    if table.empty:
        return out
    groups = list(table.groupby(["observer", "network"], sort=False))
    groups.sort(key=lambda group: group[0][0] != "human")
    for place, ((kind, network), own) in enumerate(groups[: 1 + MOST_NETWORKS]):
        who = "people" if kind == "human" else str(network)
        text = f"Answers of {who} to each true category, at each model and stage."
        alt = f"Confusion matrices of {who}; the values are in confusion.csv."
        figure = draw.confusion_matrices(own, stamp=stamp)
        out.append(embed_figure(folder, f"confusion_{place}", figure, text, alt, raster=True))
    return out


def _spoken(curves: pd.DataFrame) -> str:
    """Say a figure's numbers in words, for those who cannot see it."""
    lines = []
    for (kind, network, model), own in curves.groupby(["observer", "network", "model"], sort=False):
        values = ", ".join(f"{stage} {format_number(value)}" for stage, value in zip(own["stage"], own["proportion"]))
        lines.append(f"{network or kind}, {model}: {values}")
    return "Proportion correct. " + "; ".join(lines) + "."
