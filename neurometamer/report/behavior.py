"""One self-contained HTML page from the tables of a recognition experiment.

It computes nothing of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import count_text
from neurometamer.figures import behavior as figures
from neurometamer.figures.style import format_number, p_text
from neurometamer.report.methods import software_text
from neurometamer.report.page import (
    Answer,
    Drawing,
    FigureEntry,
    Lead,
    PageContent,
    Section,
    borrow_figure,
    draw_sections,
    drawing_of,
    folded_grid,
    settings_grids,
    table_figure,
    write_page,
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
        As `neurometamer.commands.behavior_analyze` writes them.
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
    shown = []
    for name, caption in CAPTIONS.items():
        if len(tables.get(name, ())):
            grid = folded_grid(tables[name], caption, f"{name}.csv", limit=LONG_TABLE, name=name)
            shown.append(grid)
    made = {name for name, table in tables.items() if len(table)}
    works = {}
    for key, use in WORKS_USED.items():
        if key not in OF_TABLE or OF_TABLE[key] in made:
            works[key] = use
    page = ExperimentPage(
        tables=tables,
        record=record,
        stamp=stamp,
    )
    absent = [text for name, text in ABSENT.items() if name not in tables]
    sections = [
        Section(
            key="figures",
            title="Figures",
            text=absent,
        )
    ]
    sections = draw_sections(folder, sections, FIGURES, page)
    charts, sections = borrow_figure(sections, ["figures"])
    content = PageContent(
        record=record,
        lead=_lead_text(tables),
        first=Lead(headlines=first_sentences(tables, record, stamp), charts=charts),
        stamps=[(stamp.capitalize(), SIMULATED)] if stamp else [],
        answers=_answers(tables),
        sections=sections,
        tables=shown,
        settings=settings_grids(record, PARTS),
        methods=methods_text(tables, record, stamp),
        works=works,
    )
    return write_page(folder / "report.html", "behavior.html", content)


SIMULATED = "the answers come from a simulation with known truth and say nothing about vision."
"""What the stamp of simulated observers means."""

ABSENT = {
    "confusion": "No confusion matrices: the table holds proportions, not answers.",
    "error_consistency": "No error consistency: it needs single trials of two observers or more.",
    "human_network": "No correlation with other networks: it needs single trials of networks known "
    "by name.",
}


# -------------------------------------------------------------------------------------------- words


def _lead_text(tables: Mapping[str, pd.DataFrame]) -> str:
    """Count people, models, stages and networks, and what was left out."""
    curves = tables["curves"]
    parts = []
    people = curves[curves["observer"] == "human"]
    if len(people):
        parts.append(count_text(int(people["n"].max()), "person", "people"))
    models = count_text(curves["model"].nunique(), "model")
    parts.append(f"{models}, {count_text(curves['stage'].nunique(), 'stage')}")
    networks = curves.loc[curves["observer"] == "network", "network"].astype(str)
    if len(networks):
        names = list(dict.fromkeys(networks))
        parts.append(f"answers of {count_text(len(names), 'network')}: {', '.join(names)}")
    left = tables["exclusions"]
    n_observers = int((left["what"] == "observer").sum())
    n_trials = int(left.loc[left["what"] == "trials", "n_trials"].sum())
    lost = []
    if n_observers:
        lost.append(count_text(n_observers, "observer"))
    if n_trials:
        lost.append(count_text(n_trials, "trial"))
    if lost:
        parts.append(f"left out: {', '.join(lost)}")
    return "; ".join(parts) + "."


def first_sentences(
    tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any], stamp: str = ""
) -> list[str]:
    """Say, by the main effects, whose images are recognized more often.

    With one model, the text says how recognition changes over the stages.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Needs curves and anova, as `neurometamer.commands.behavior_analyze` writes them.
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
    curves, anova = tables["curves"], tables["anova"]
    kind, who = "network", "networks"
    if (curves["observer"] == "human").any():
        kind, who = "human", "people"
    if stamp:
        who = f"simulated {who}"
    own, tests = curves[curves["observer"] == kind], anova[anova["observer"] == kind]
    # A test of two models is named by both.
    names = dict.fromkeys(own["model"].astype(str))
    models_of = {
        f"{first} vs {second}": (first, second) for first, second in permutations(names, 2)
    }
    pairs = tests[(tests["source"] == "model") & tests["models"].isin(list(models_of))]
    if pairs.empty:
        stages = tests[tests["source"] == "stage"]
        guess = format_number(1 / len(record["settings"]["categories"]))
        sentences = []
        for model, rows in own.groupby("model", sort=False):
            of_model = stages[stages["models"].astype(str) == str(model)]
            known = rows.dropna(subset=["proportion"]).drop_duplicates("stage")
            ends = []
            for _, row in known.iloc[[0, -1]].iterrows():
                ends.append(f"{format_number(row['proportion'])} at {row['stage']}")
            said = "stages were not tested"
            if len(of_model) and np.isfinite(of_model["p_gg"].iloc[0]):
                said = f"effect of stage: p {p_text(float(of_model['p_gg'].iloc[0]))}"
            sentences.append(
                f"{who.capitalize()} recognize images of {model}: {', '.join(ends)} (a guesser: "
                f"{guess}; {said})."
            )
        return sentences
    if len(pairs) > MOST_PAIRS:
        clear = int((pairs["p"] < ALPHA).sum())
        return [
            f"In {clear or 'none'} of {len(pairs)} pairs of models {who} recognize the images of "
            "one more often (main effect of the model, p < .05, uncorrected)."
        ]
    sentences = []
    for models, p in zip(pairs["models"], pairs["p"]):
        sentences.append(_pair_sentence(models_of[models], float(p), own, who))
    return sentences


ALPHA, MOST_PAIRS = 0.05, 3
"""P below which a sentence says that something differs, and the pairs of models with a sentence
each."""


def _pair_sentence(models: tuple[str, str], p: float, curves: pd.DataFrame, who: str) -> str:
    """Compare two models over the stages that both have.

    The higher one is named only where the test is clear.
    """
    wide = curves.pivot_table(
        index="stage",
        columns="model",
        values="proportion",
    )
    wide = wide.reindex(columns=list(models)).dropna()
    whether = f"Whether {who} recognize images of {models[0]} or of {models[1]} more often"
    if not np.isfinite(p) or len(wide) == 0:
        return f"{whether} was not tested."
    if p >= ALPHA:
        return f"{whether} is undecided (p {p_text(p)})."
    means = wide.mean()
    more, less = models
    if means[more] <= means[less]:
        more, less = less, more
    high = format_number(float(means[more]))
    low = format_number(float(means[less]))
    return (
        f"{who.capitalize()} recognize images of {more} more often than those of {less}: {high} "
        f"against {low}, mean over stages (main effect of the model, p {p_text(p)}, uncorrected)."
    )


def methods_text(
    tables: Mapping[str, pd.DataFrame], record: Mapping[str, Any], stamp: str
) -> list[str]:
    """Write the methods of an experiment in paragraphs.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `neurometamer.commands.behavior_analyze` writes them.
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
    answers = "Simulated answers" if stamp else "Answers"
    data = f"{answers} were analyzed: {_lead_text(tables)}"
    if trials:
        rules = [f"{name} = {value:.3g}" for name, value in settings["screening"].items()]
        data += f" Observers and trials were screened by fixed rules ({', '.join(rules)})."
    kinds = dict.fromkeys(tables["anova"]["analysis"].astype(str))
    tests = (
        "Proportions correct were compared by repeated-measures analyses of variance "
        f"({', '.join(kinds)}), p corrected for lack of sphericity by Greenhouse and Geisser where "
        "there are more than two levels. The same F were also judged by "
        f"{count_text(settings['n_permutations'], 'shuffle')} of the labels."
    )
    if "posthoc" in tables:
        how = settings["correction"]
        corrected = "not corrected" if how == "none" else f"corrected ({how})"
        tests += f" Post-hoc paired t tests were {corrected}."
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


def _answers(tables: Mapping[str, pd.DataFrame]) -> list[Answer]:
    """Give each analysis of models, or of people and a network, with F and the p beside it."""
    anova, shuffled = tables["anova"], tables["permutation"]
    keys = ["analysis", "observer", "models", "source"]
    beside = {}
    for row in shuffled.to_dict("records"):
        key = tuple(row[name] for name in keys)
        beside[key] = format_p(row["p"], int(row["n_permutations"]))
    found = []
    for row in anova[anova["source"].isin(["model", "observer"])].to_dict("records"):
        title = row["models"]
        if row["source"] == "observer":
            title = f"{row['observer']}, images of {row['models']}"
        number = (
            f"F({int(row['df1'])}, {int(row['df2'])}) = {row['F']:.2f}, η²p = "
            f"{format_number(row['eta2_p'])}"
        )
        stages = count_text(int(row["n_stages"]), "stage")
        text = f"Main effect of {row['source']}, {stages}, n = {row['n']}; {format_p(row['p'])}"
        key = tuple(row[name] for name in keys)
        if key in beside:
            text += f"; shuffled labels: {beside[key]}"
        found.append(
            Answer(
                title=title,
                number=number,
                text=f"{text}.",
            )
        )
    return found


# ------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True, kw_only=True, eq=False)
class ExperimentPage:
    """What the page of an experiment is made of.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As `neurometamer.commands.behavior_analyze` writes them.
    record : mapping
        Provenance.
    stamp : str
        What every figure must say; may be empty.
    """

    tables: Mapping[str, pd.DataFrame]
    record: Mapping[str, Any]
    stamp: str

    def has_above(self, table: str, column: str, least: float) -> bool:
        """Tell whether a column of a table has a number above another.

        Parameters
        ----------
        table, column : str
            Names.
        least : float
            The other.

        Returns
        -------
        bool
            False where the table was not made.
        """
        if table not in self.tables:
            return False
        return bool((self.tables[table][column].astype(float) > least).any())


CURVE_CAPTIONS = {
    "observer": "Recognition of each model's images over stages, one panel an observer.",
    "model": "Recognition over stages, one panel a model, one line an observer.",
}
"""What the panels are, to the caption."""


def draw_curves(page: ExperimentPage, panels: str) -> Iterator[Drawing]:
    """Draw recognition over stages.

    Parameters
    ----------
    page : ExperimentPage
        What the page is made of.
    panels : str
        What has a panel of its own, a key of `CURVE_CAPTIONS`.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    curves = page.tables["curves"]
    figure = figures.recognition_lines(
        curves,
        panels=panels,
        chance=1 / len(page.record["settings"]["categories"]),
        stamp=page.stamp,
    )
    values = []
    for (kind, network, model), own in curves.groupby(["observer", "network", "model"], sort=False):
        shares = zip(own["stage"], own["proportion"])
        listed = ", ".join(f"{stage} {format_number(share)}" for stage, share in shares)
        values.append(f"{network or kind}, {model}: {listed}")
    alt = f"Proportion correct. {'; '.join(values)}."
    yield drawing_of(curves, f"curves_by_{panels}", figure, CURVE_CAPTIONS[panels], alt)


def draw_confusion(page: ExperimentPage) -> Iterator[Drawing]:
    """Draw the answers of people, and of some networks, to each true category.

    Parameters
    ----------
    page : ExperimentPage
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    groups = list(page.tables["confusion"].groupby(["observer", "network"], sort=False))
    groups.sort(key=lambda group: group[0][0] != "human")
    for number, ((kind, network), own) in enumerate(groups[: 1 + MOST_NETWORKS]):
        who = "people" if kind == "human" else str(network)
        text = f"Answers of {who} to each true category, at each model and stage."
        alt = f"Confusion matrices of {who}; the values are in confusion.csv."
        figure = figures.confusion_matrices(own, stamp=page.stamp)
        table = own.reset_index(drop=True)
        yield drawing_of(table, f"confusion_{number}", figure, text, alt, raster=True)


FIGURES: dict[str, FigureEntry[ExperimentPage]] = {
    "curves_by_observer": FigureEntry(
        section="figures",
        draw=partial(draw_curves, panels="observer"),
        applies=lambda page: page.tables["curves"]["model"].nunique() > 1,
    ),
    "curves_by_model": FigureEntry(
        section="figures",
        draw=partial(draw_curves, panels="model"),
    ),
    "error_consistency": table_figure(
        "error_consistency",
        section="figures",
        table=lambda page: page.tables["error_consistency"],
        plot=lambda table, page: figures.consistency_lines(table, stamp=page.stamp),
        caption="Do observers err on the same images? Error consistency over stages, one panel a "
        "model.",
        alt="Lines of error consistency; the values are in error_consistency.csv.",
        applies=lambda page: page.has_above("error_consistency", "kappa", -np.inf),
    ),
    "people_and_networks": table_figure(
        "people_and_networks",
        section="figures",
        table=lambda page: figures.scatter_points(page.tables["curves"]),
        plot=lambda points, page: figures.curve_scatter(page.tables["curves"], stamp=page.stamp),
        caption="People against networks that the images were not made for.",
        alt="Scatter of proportions correct; the values are in curves.csv.",
        applies=lambda page: page.has_above("human_network", "n_points", 0),
    ),
    "confusion": FigureEntry(
        section="figures",
        draw=draw_confusion,
        applies=lambda page: len(page.tables.get("confusion", ())) > 0,
    ),
}
"""The figures of the page, in order."""
