"""One self-contained HTML page from the tables of a recognition experiment.

It computes nothing of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.figures import behavior as draw
from neurometamer.figures.style import count_text, format_number
from neurometamer.report.methods import software_text
from neurometamer.report.page import (
    Answer,
    Lead,
    Picture,
    Section,
    borrow_figure,
    embed_figure,
    folded_grid,
    p_text,
    settings_grids,
    write_page,
    write_sources,
)

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


def write_report(
    folder: Path, tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any], *, stamp: str = ""
) -> Path:
    """Draw the figures and write the page.

    Parameters
    ----------
    folder : Path
        Gets ``figures/*.svg``, ``figures/*.png``, ``figures/*.csv`` (what each figure shows),
        ``methods.txt``, ``references.bib`` and ``report.html``.
    tables : mapping of str to DataFrame
        As `neurometamer.analyze_recognition` writes them.
    record : mapping
        Provenance: settings, notes, versions, digests.
    stamp : str
        What every figure and the page must say, of simulated observers for example; empty for
        nothing.

    Returns
    -------
    Path
        The page; it loads nothing and needs no JavaScript.
    """
    shown = [
        folded_grid(tables[name], caption, f"{name}.csv", limit=LONG_TABLE, name=name)
        for name, caption in CAPTIONS.items()
        if len(tables.get(name, ()))
    ]
    version = str(record.get("versions", {}).get("neurometamer", ""))
    made = {name for name, table in tables.items() if len(table)}
    works = {key: use for key, use in WORKS_USED.items() if OF_TABLE.get(key, "") in {"", *made}}
    figures = Section(
        key="figures",
        title="Figures",
        text=[text for name, text in ABSENT.items() if name not in tables],
        pictures=_pictures(folder, tables, record, stamp),
    )
    charts, sections = borrow_figure([figures], ["figures"])
    answers = [
        Answer(title=title, number=number, text=text) for title, number, text in _answers(tables)
    ]
    return write_page(
        folder / "report.html",
        "behavior.html",
        lead=_lead(tables),
        first=Lead(headlines=first_sentences(tables, record, stamp), charts=charts),
        stamps=[(stamp.capitalize(), SIMULATED)] if stamp else [],
        answers=answers,
        sections=sections,
        tables=shown,
        notes=[str(note) for note in record.get("notes", ())],
        settings=settings_grids(record, PARTS),
        **write_sources(folder, methods_text(tables, record, stamp), works, version),
    )


SIMULATED = "the answers come from a simulation with known truth and say nothing about vision."
"""What the stamp of simulated observers means."""

ABSENT = {
    "confusion": "No confusion matrices: the table holds proportions, not answers.",
    "error_consistency": "No error consistency: it needs single trials of two observers or more.",
    "human_network": "No correlation with other networks: it needs single trials of networks known "
    "by name.",
}


# -------------------------------------------------------------------------------------------- words


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
    lost = {"observer": len(persons), "trial": int(trials)}
    if any(lost.values()):
        parts.append(
            "left out: "
            f"{', '.join(count_text(number, noun) for noun, number in lost.items() if number)}"
        )
    return "; ".join(parts) + "."


def first_sentences(
    tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any], stamp: str = ""
) -> list[str]:
    """Say, by the main effects, whose images are recognized more often.

    With one model, the text says how recognition changes over the stages.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Needs curves and anova, as `neurometamer.analyze_recognition` writes them.
    record : mapping
        Provenance: settings.
    stamp : str
        Stamp of simulated observers; empty for none.

    Returns
    -------
    list of str
        A sentence each; which of two models is higher is said only where its main effect has p <
        .05.
    """
    curves = tables["curves"]
    kind = "human" if (curves["observer"] == "human").any() else "network"
    who = {"human": "people", "network": "networks"}[kind]
    who = f"simulated {who}" if stamp else who
    anova = tables["anova"]
    pairs = anova[(anova["source"] == "model") & (anova["observer"] == kind)]
    pairs = pairs[pairs["models"].astype(str).str.contains(" vs ")]
    own = curves[curves["observer"] == kind]
    if pairs.empty:
        return [
            _stage_sentence(model, rows, anova, who, record)
            for model, rows in own.groupby("model", sort=False)
        ]
    if len(pairs) > MOST_PAIRS:
        clear = int((pairs["p"] < ALPHA).sum())
        return [
            f"In {clear or 'none'} of {len(pairs)} pairs of models {who} recognize the images of "
            "one more often (main effect of the model, p < .05, uncorrected)."
        ]
    return [_pair_sentence(row, own, who) for row in pairs.to_dict("records")]


ALPHA, MOST_PAIRS = 0.05, 3
"""P below which a sentence says that something differs, and the pairs of models with a sentence
each."""


def _pair_sentence(row: Mapping[Any, Any], curves: pd.DataFrame, who: str) -> str:
    """Compare two models over the stages that both have.

    The higher one is named only where the test is clear.
    """
    names = str(row["models"]).split(" vs ")
    wide = (
        curves.pivot_table(index="stage", columns="model", values="proportion")
        .reindex(columns=names)
        .dropna()
    )
    first, second = (float(wide[name].mean()) for name in names)
    whether = f"Whether {who} recognize images of {names[0]} or of {names[1]} more often"
    if not np.isfinite(row["p"]) or len(wide) == 0:
        return f"{whether} was not tested."
    p = f"p {p_text(float(row['p']))}"
    if row["p"] >= ALPHA:
        return f"{whether} is undecided ({p})."
    more, less = names if first > second else names[::-1]
    high, low = (format_number(value) for value in (max(first, second), min(first, second)))
    return (
        f"{who.capitalize()} recognize images of {more} more often than those of {less}: {high} "
        f"against {low}, mean over stages (main effect of the model, {p}, uncorrected)."
    )


def _stage_sentence(
    model: object, rows: pd.DataFrame, anova: pd.DataFrame, who: str, record: Mapping[str, Any]
) -> str:
    """Give the first and the last stage of a model beside a guesser, and the test of all stages."""
    guess = format_number(1 / len(record["settings"]["categories"]))
    ends = rows.dropna(subset=["proportion"]).drop_duplicates("stage")
    first, last = (
        f"{format_number(row['proportion'])} at {row['stage']}"
        for _, row in ends.iloc[[0, -1]].iterrows()
    )
    kind = rows["observer"].iloc[0]
    own = anova[(anova["source"] == "stage") & (anova["observer"] == kind)]
    tests = own[own["models"].astype(str) == str(model)]
    p = float(tests["p_gg"].iloc[0]) if len(tests) else np.nan
    said = f"effect of stage: p {p_text(p)}" if np.isfinite(p) else "stages were not tested"
    return (
        f"{who.capitalize()} recognize images of {model}: {first}, {last} (a guesser: {guess}; "
        f"{said})."
    )


def methods_text(
    tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any], stamp: str
) -> list[str]:
    """Write the methods of an experiment in paragraphs.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `neurometamer.analyze_recognition` writes them.
    record : mapping
        Provenance.
    stamp : str
        Stamp of simulated observers; empty for none.

    Returns
    -------
    list of str
        Data, analyses and software.
    """
    settings = record["settings"]
    trials = "confusion" in tables
    data = f"{'Simulated answers' if stamp else 'Answers'} were analyzed: {_lead(tables)}"
    if trials:
        rules = settings["screening"]
        words = ", ".join(f"{name} = {value:.3g}" for name, value in rules.items())
        data += f" Observers and trials were screened by fixed rules ({words})."
    kinds = dict.fromkeys(tables["anova"]["analysis"].astype(str))
    tests = (
        "Proportions correct were compared by repeated-measures analyses of variance "
        f"({', '.join(kinds)})"
    )
    tests += (
        ", p corrected for lack of sphericity by Greenhouse and Geisser where there are more than "
        "two levels"
    )
    n = settings["n_permutations"]
    tests += f". The same F were also judged by {count_text(n, 'shuffle')} of the labels."
    if "posthoc" in tables:
        how = settings["correction"]
        tests += (
            " Post-hoc paired t tests were "
            f"{'not corrected' if how == 'none' else f'corrected ({how})'}."
        )
    errors = f"Standard errors are {settings['sem']} observers."
    if trials and settings["n_resamples"]:
        errors += (
            f" Bands ({100 * settings['confidence']:g} %) are from "
            f"{count_text(settings['n_resamples'], 'resample')} of the images."
        )
    if "error_consistency" in tables:
        errors += " Error consistency is Cohen's kappa of right and wrong answers on common images."
    return [*filter(None, [data, tests, errors, software_text(record)])]


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
    """Write each analysis of models, or of people and a network, as a line.

    A line has a title, F and the numbers beside it.
    """
    anova, shuffled = tables["anova"], tables["permutation"]
    keys = ["analysis", "observer", "models", "source"]
    beside = shuffled.set_index(keys)[["p", "n_permutations"]]
    out = []
    for row in anova[anova["source"].isin(["model", "observer"])].to_dict("records"):
        key = tuple(row[name] for name in keys)
        title = (
            row["models"]
            if row["source"] == "model"
            else f"{row['observer']}, images of {row['models']}"
        )
        number = (
            f"F({int(row['df1'])}, {int(row['df2'])}) = {row['F']:.2f}, η²p = "
            f"{format_number(row['eta2_p'])}"
        )
        stages = count_text(int(row["n_stages"]), "stage")
        text = f"Main effect of {row['source']}, {stages}, n = {row['n']}; {format_p(row['p'])}"
        if key in beside.index:
            text += (
                "; shuffled labels: "
                f"{format_p(beside.loc[key, 'p'], int(beside.loc[key, 'n_permutations']))}"
            )
        out.append((title, number, text + "."))
    return out


# ----------------------------------------------------------------------------------------- pictures


def _pictures(
    folder: Path, tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any], stamp: str
) -> list[Picture]:
    curves = tables["curves"]
    chance = 1 / len(record["settings"]["categories"])
    out = []
    if curves["model"].nunique() > 1:
        figure = draw.recognition_lines(curves, panels="observer", chance=chance, stamp=stamp)
        text = "Recognition of each model's images over stages, one panel an observer."
        out.append(
            embed_figure(folder, "curves_by_observer", figure, text, _spoken(curves), table=curves)
        )
    figure = draw.recognition_lines(curves, panels="model", chance=chance, stamp=stamp)
    text = "Recognition over stages, one panel a model, one line an observer."
    out.append(embed_figure(folder, "curves_by_model", figure, text, _spoken(curves), table=curves))
    if "error_consistency" in tables and tables["error_consistency"]["kappa"].notna().any():
        table = tables["error_consistency"]
        figure = draw.consistency_lines(table, stamp=stamp)
        text = (
            "Do observers err on the same images? Error consistency over stages, one panel a model."
        )
        alt = "Lines of error consistency; the values are in error_consistency.csv."
        out.append(embed_figure(folder, "error_consistency", figure, text, alt, table=table))
    if "human_network" in tables and (tables["human_network"]["n_points"] > 0).any():
        figure = draw.curve_scatter(curves, stamp=stamp)
        text = "People against networks that the images were not made for."
        alt = "Scatter of proportions correct; the values are in curves.csv."
        out.append(
            embed_figure(
                folder, "people_and_networks", figure, text, alt, table=draw.scatter_points(curves)
            )
        )
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
        numbers = own.reset_index(drop=True)
        out.append(
            embed_figure(
                folder, f"confusion_{place}", figure, text, alt, table=numbers, raster=True
            )
        )
    return out


def _spoken(curves: pd.DataFrame) -> str:
    """Say a figure's numbers in words, for those who cannot see it."""
    lines = []
    for (kind, network, model), own in curves.groupby(["observer", "network", "model"], sort=False):
        values = ", ".join(
            f"{stage} {format_number(value)}"
            for stage, value in zip(own["stage"], own["proportion"])
        )
        lines.append(f"{network or kind}, {model}: {values}")
    return "Proportion correct. " + "; ".join(lines) + "."
