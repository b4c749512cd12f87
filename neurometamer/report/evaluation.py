"""One self-contained HTML page from the tables of an evaluation.

The page only counts and orders; it computes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import count_text, name_ids
from neurometamer.evaluation.model_sets import RATERS
from neurometamer.evaluation.sets import MetamerSet
from neurometamer.figures import evaluation as figures
from neurometamer.report.evaluation_findings import (
    Report,
    answers,
    headlines,
    lead_examples,
    of_first,
    rows_where,
    seen_by_others,
    target_text,
    with_value,
)
from neurometamer.report.methods import class_asked, evaluation_methods, evaluation_works
from neurometamer.report.page import (
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
    table_grid,
    write_page,
)

PARTS = (
    ("settings", "Settings"),
    ("sets", "Digests of the sets"),
    ("evaluators", "Evaluators"),
    ("generators", "Generators"),
    ("versions", "Versions"),
)
MOST_IMAGES, MOST_ROWS = 8, 12
"""Of the sheet of examples."""

CAPTIONS: Mapping[str, str] = {
    "validity": "Metamers that meet the criteria of Feather et al. (2023)",
    "recognizability": "Recognizability, each evaluator and their mean",
    "curves": "Mean recognizability over stages",
    "epsilon": "How far images could move",
    "quality": "Image quality",
    "divergence": "Divergence of representational distances",
    "observer_matrix": "Each network's metamers, judged by each other",
    "observer_conditions": "Recognizability by what networks were trained on",
    "observer_tests": "Effects and their interaction",
    "set_scores": "Scores of the sets",
    "set_differences": "Sets with a network against sets without it",
    "set_regression": "Regression on membership and size",
    "recognition": "Every answer of every evaluator",
}


LEADING = ("recognizability", "observers", "sets", "quality", "divergence")
"""Sections whose first figure may stand on the first screen; the first part that was run is
taken."""


def write_report(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    record: Mapping[str, Any],
    *,
    sets: Sequence[MetamerSet] = (),
) -> Path:
    """Draw the figures and write the page.

    Parameters
    ----------
    folder : Path
        Gets ``figures/*.svg``, ``figures/*.png``, ``figures/*.csv`` (what each figure shows),
        ``methods.txt``, ``references.bib`` and ``report.html``.
    tables : mapping of str to DataFrame
        As `neurometamer.commands.evaluate_metamer_sets` writes them.
    record : mapping
        Provenance: settings, notes, versions, digests.
    sets : sequence of MetamerSet
        For the sheet of examples.

    Returns
    -------
    Path
        The page; it loads nothing and needs no JavaScript.
    """
    judged = bool((tables["validity"]["n_not_judged"] < tables["validity"]["n_images"]).any())
    stamps = _stamps(record, judged, sets)
    report = Report(
        folder=folder,
        tables=tables,
        record=record,
        sets=sets,
        validity="valid" if judged else "not judged",
        stamp=" · ".join(name.lower() for name, _ in stamps),
    )
    parts = [section for make in SECTIONS.values() if (section := make(report)) is not None]
    sections = draw_sections(folder, parts, FIGURES, report)
    charts, sections = borrow_figure(sections, LEADING)
    grids = []
    for name, caption in CAPTIONS.items():
        if report.has(name):
            grids.append(folded_grid(tables[name], caption, f"{name}.csv", name=name))
    validity = tables["validity"]
    names, stages = dict.fromkeys(validity["set"]), dict.fromkeys(validity["stage"])
    evaluators = list(record.get("evaluators", {}))
    counted = (
        f"{count_text(len(names), 'set')} of networks ({name_ids(names)}), "
        f"{count_text(len(stages), 'stage')} ({name_ids(stages)})"
    )
    judged_by = f"{count_text(len(evaluators), 'network')}: {name_ids(evaluators, 8)}"
    low, high = int(validity["n_images"].min()), int(validity["n_images"].max())
    images = count_text(low, "photograph") if low == high else f"{low} to {high} photographs"
    if len(validity) > 1:
        images += " each"
    content = PageContent(
        record=record,
        lead=f"{counted}, {images}; judged by {judged_by}.",
        first=Lead(
            headlines=headlines(report),
            charts=charts,
            examples=lead_examples(report),
        ),
        stamps=stamps,
        answers=answers(report),
        sections=sections,
        tables=grids,
        settings=settings_grids(record, PARTS),
        methods=evaluation_methods(record, tables, sets, judged),
        works=evaluation_works(record, sets),
    )
    return write_page(folder / "report.html", "evaluation.html", content)


def _stamps(
    record: Mapping[str, Any], judged: bool, sets: Sequence[MetamerSet]
) -> list[tuple[str, str]]:
    stamps = []
    untrained: dict[str, None] = {}
    for name, network in record.get("evaluators", {}).items():
        if network.get("trained") is False:
            untrained[name] = None
    for metamers in sets:
        untrained |= dict.fromkeys(metamers.untrained)
    if untrained:
        meaning = f"{name_ids(untrained)}: random weights, never trained."
        stamps.append(("Untrained networks", meaning))
    if not judged:
        meaning = (
            "no null distribution was given, so nobody knows which images are metamers; make one "
            "with 'neurometamer stimuli null' and give it with --nulls."
        )
        stamps.append(("Validity not judged", meaning))
    priors = {}
    for metamers in sets:
        if metamers.image_prior not in ("", "none"):
            priors[metamers.name] = metamers.image_prior
    if priors:
        were = "was" if len(priors) == 1 else "were"
        meaning = (
            f"{name_ids(priors)} {were} made with a prior "
            f"({'; '.join(dict.fromkeys(priors.values()))}), which makes metamers easier to "
            "recognize whatever the network responds to."
        )
        stamps.append(("Natural-image prior", meaning))
    return stamps


# ----------------------------------------------------------------------------------------- sections


def _validity_section(report: Report) -> Section:
    of_whom = "all images: nobody judged them."
    if report.validity == "valid":
        of_whom = "valid metamers; failed ones stand apart."
    table = report.tables["validity"]
    text = (
        f"A metamer is valid when every network of its set gives it {class_asked(table)} and "
        "matches it better than any pair of different photographs (Spearman, Pearson and "
        "signal-to-noise ratio above the largest of the null), in the saved 8-bit picture. "
        f"Numbers on this page are of {of_whom}"
    )
    if (table["members"] == table["set"]).all():
        table = table.drop(columns="members")
    grid = folded_grid(table, CAPTIONS["validity"], "validity.csv", limit=40)
    return Section(
        key="validity",
        title="Validity first",
        text=[text],
        grids=[grid],
    )


def _observer_section(report: Report) -> Section | None:
    if not report.has("observer_matrix"):
        return None
    text = (
        "Metamers of each network, judged by each other; what a network says to its own is marked "
        "and in no mean. Over images, an effect speaks of other photographs but of these networks; "
        "over generators, of other networks, which needs many of them (p_min is the smallest p "
        "that so few can give)."
    )
    columns = [
        "stage",
        "setting",
        "ways",
        "rule",
        "effect",
        "contrast",
        "unit",
        "value",
        "low",
        "high",
        "p",
        "p_min",
        "p_holm",
        "n_generators",
        "n_images",
        "note",
    ]
    table = report.tables["observer_tests"][columns]
    grid = folded_grid(table, CAPTIONS["observer_tests"], "observer_tests.csv", limit=40)
    return Section(
        key="observers",
        title="Networks as observers",
        text=[text],
        grids=[grid],
    )


def _set_section(report: Report) -> Section | None:
    if not report.asked("sets"):
        return None
    scores = report.tables["set_scores"]
    held_out = scores.loc[scores["raters"] == "held-out", "held_out"]
    same = ""
    if len(held_out):
        same = f"by the same evaluators, which are in none ({held_out.iloc[0]}), and "
    text = (
        f"Every set is scored {same}by all evaluators but its own networks, as Boehm et al. (2025) "
        f"do; the latter change with the set. What counts is {target_text(report)}. A difference "
        "in means says how much better sets with a network are than sets without it; the "
        "regression parts that from the size of the set."
    )
    grids = []
    if report.has("set_regression"):
        table, caption = report.tables["set_regression"], CAPTIONS["set_regression"]
        grids.append(folded_grid(table, caption, "set_regression.csv", limit=40))
    return Section(
        key="sets",
        title="Sets of networks",
        text=[text],
        grids=grids,
    )


def _divergence_section(report: Report) -> Section | None:
    if not report.asked("divergence"):
        return None
    text = [
        "Distances among photographs (RR) and among their metamers (MM), in each evaluator at the "
        "depth of the set: 0 where their distributions are the same, 1 where they do not meet. The "
        "value is never quite 0; the null, made by exchanging photograph and metamer, says how "
        "large it gets by chance."
    ]
    if with_value(_headline_divergence(report)).empty:
        text.append("No set has enough metamers for distances.")
    return Section(
        key="divergence",
        title="Divergence of representational distances",
        text=text,
    )


SECTIONS: dict[str, Callable[[Report], Section | None]] = {
    "validity": _validity_section,
    "recognizability": lambda report: (
        Section(
            key="recognizability",
            title="Recognizability",
            text=[
                f"Share of metamers that an evaluator gives {target_text(report)}. Networks that "
                "took part are marked and are in no mean."
            ],
        )
        if report.asked("recognizability")
        else None
    ),
    "epsilon": lambda report: (
        Section(
            key="epsilon",
            title="How far images could move",
            text=[
                "Differences are paired over photographs that are in the same state in both "
                "settings."
            ],
        )
        if report.has("epsilon")
        else None
    ),
    "observers": _observer_section,
    "sets": _set_section,
    "quality": lambda report: (
        Section(
            key="quality",
            title="Image quality",
            grids=[
                table_grid(
                    report.tables["quality"].drop_duplicates("metric")[["name", "arrow", "scale"]],
                    "Metrics, their direction and scale",
                    "quality.csv",
                )
            ],
        )
        if report.asked("quality")
        else None
    ),
    "divergence": _divergence_section,
}
"""The words and tables of the parts of the page, in order; None where a part was not run."""


# ------------------------------------------------------------------------------------------ figures


def draw_examples(report: Report) -> Iterator[Drawing]:
    """Draw up to 8 photographs and their metamers, with how many networks see the same in them.

    Parameters
    ----------
    report : Report
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    shown = list(report.sets)[:MOST_ROWS]
    several = len({metamers.setting for metamers in shown}) > 1
    names: list[str] = []
    for metamers in shown:
        names += metamers.table["reference_id"].tolist()
    counts = pd.Series(names).value_counts(sort=False)
    ids = counts.index[counts == counts.max()].astype(str).tolist()[:MOST_IMAGES]
    photographs: dict[str, np.ndarray] = {}
    pictures: dict[tuple[str, str], np.ndarray] = {}
    rows = []
    for metamers in shown:
        parts = [metamers.name, metamers.stage, metamers.setting if several else ""]
        label = " · ".join(filter(None, parts))
        seen = seen_by_others(report, metamers)
        for row, name in enumerate(metamers.table["reference_id"]):
            if name not in ids:
                continue
            photographs.setdefault(name, metamers.references[row])
            pictures[label, name] = metamers.pictures[row]
            n_seen, n_asked = seen.get(name, (0, 0))
            rows.append(
                {
                    "row": label,
                    "reference_id": name,
                    "state": metamers.states[row],
                    "n_seen": n_seen,
                    "n_asked": n_asked,
                }
            )
    table = pd.DataFrame(rows)
    figure = figures.example_sheet(photographs, pictures, table, stamp=report.stamp)
    caption = (
        "Photographs and metamers, with their state and who recognizes them; compressed on this "
        "page."
    )
    n_more = len(report.sets) - len(shown)
    if n_more:
        are = "is" if n_more == 1 else "are"
        caption += f" {count_text(n_more, 'more set')} {are} not shown."
    alt = (
        f"Sheet of {len(ids)} photographs and their metamers; states and answers are in "
        "recognition.csv."
    )
    yield drawing_of(table, "examples", figure, caption, alt, small=True)


def draw_recognizability(report: Report) -> Iterator[Drawing]:
    """Draw curves over stages and the matrix of evaluators, for each measure.

    Parameters
    ----------
    report : Report
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    curves, table = report.tables["curves"], report.rows("recognizability")
    measures = curves[["ways", "rule"]].drop_duplicates()
    for ways, rule in measures.itertuples(index=False, name=None):
        measure = {
            "ways": ways,
            "rule": rule,
        }
        name, words = f"{ways}_{rule}", f"16 categories ({rule})"
        if ways == 1000:
            name, words = f"{ways}", "1,000 classes"
        own = rows_where(curves, measure)
        if len(with_value(own)):
            figure = figures.recognizability_lines(own, chance=1 / ways, stamp=report.stamp)
            caption = f"Mean of the evaluators that took no part, over stages; {words}."
            alt = "Lines; the values are in curves.csv."
            yield drawing_of(own, f"curves_{name}", figure, caption, alt)
        figure = figures.recognizability_matrix(
            report.tables["recognizability"],
            ways=ways,
            rule=rule,
            validity=report.validity,
            stamp=report.stamp,
        )
        caption = f"Each evaluator; {words}."
        alt = "Matrix of evaluators by sets and stages; the values are in recognizability.csv."
        shown = rows_where(table, measure)
        yield drawing_of(shown, f"recognizability_{name}", figure, caption, alt)


def draw_observers(report: Report) -> Iterator[Drawing]:
    """Draw generators by evaluators, and the effects of the factors, by stage and setting.

    Parameters
    ----------
    report : Report
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    bars, matrix = report.tables["observer_conditions"], report.rows("observer_matrix")
    matrix = matrix[matrix["evaluator"] != "mean of evaluators"]
    first = matrix[["ways", "rule"]].drop_duplicates().head(1)
    context = ["stage", "setting", "ways", "rule"]
    number = 0
    for _, shown in matrix.merge(first)[context].drop_duplicates().iterrows():
        key = {str(name): value for name, value in shown.items()}
        words = f"{key['stage']}, {key['setting']}, {key['ways']} classes"
        own = rows_where(matrix, key)
        figure = figures.observer_matrix(own, stamp=report.stamp)
        alt = "Matrix of generators by evaluators; the values are in observer_matrix.csv."
        caption = f"Generators and evaluators: {words}."
        yield drawing_of(own, f"observers_{number}", figure, caption, alt)
        number += 1
        cells = rows_where(bars, key)
        if len(with_value(cells)):
            figure = figures.observer_bars(cells, stamp=report.stamp)
            caption = f"{cells['factor_a'].iloc[0]} and {cells['factor_b'].iloc[0]}: {words}."
            alt = "Lines with intervals; the values are in observer_conditions.csv."
            yield drawing_of(cells, f"observers_{number}", figure, caption, alt)
            number += 1


def draw_set_differences(report: Report) -> Iterator[Drawing]:
    """Draw what each network adds to the sets that hold it, for each kind of score.

    Parameters
    ----------
    report : Report
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    table = report.tables["set_differences"]
    groups = table.groupby(["stage", "setting", "ways", "raters"], sort=False)
    for number, ((stage, setting, ways, raters), own) in enumerate(groups):
        figure = figures.set_differences(own, stamp=report.stamp)
        caption = (
            f"Difference in means, {stage}, {setting}, {ways} classes; rated by "
            f"{RATERS[str(raters)]}."
        )
        alt = "Marks with intervals; the values are in set_differences.csv."
        yield drawing_of(own, f"set_differences_{number}", figure, caption, alt)


def _headline_divergence(report: Report) -> pd.DataFrame:
    rows = report.rows("divergence")
    return rows[rows["headline"].astype(bool)]


FIGURES: dict[str, FigureEntry[Report]] = {
    "examples": FigureEntry(
        section="validity",
        draw=draw_examples,
        applies=lambda report: len(report.sets) > 0,
    ),
    "recognizability": FigureEntry(
        section="recognizability",
        draw=draw_recognizability,
    ),
    "epsilon": table_figure(
        "epsilon",
        section="epsilon",
        # one state is drawn, and the first ways and rule
        table=lambda report: rows_where(
            of_first(report.tables["epsilon"], "ways", "rule"), {"validity": report.validity}
        ),
        plot=lambda shown, report: figures.epsilon_bars(
            report.tables["epsilon"], validity=report.validity, stamp=report.stamp
        ),
        caption="Metamers whose pixels could move only so far, against those that could move "
        "freely.",
        alt="Marks with intervals; the values are in epsilon.csv.",
    ),
    "observers": FigureEntry(
        section="observers",
        draw=draw_observers,
    ),
    "set_differences": FigureEntry(
        section="sets",
        draw=draw_set_differences,
        applies=lambda report: report.has("set_differences"),
    ),
    "quality": table_figure(
        "quality",
        section="quality",
        table=lambda report: report.rows("quality"),
        plot=lambda shown, report: figures.quality_bars(
            report.tables["quality"], validity=report.validity, stamp=report.stamp
        ),
        caption="Metamers beside their photographs; arrows say what is better.",
        alt="Bars, one panel a metric; the values are in quality.csv.",
    ),
    "divergence": table_figure(
        "divergence",
        section="divergence",
        table=_headline_divergence,
        plot=lambda shown, report: figures.divergence_heatmap(
            report.tables["divergence"], validity=report.validity, stamp=report.stamp
        ),
        caption="RR–MM divergence of each set in each evaluator.",
        alt="Matrix of evaluators by sets and stages; the values are in divergence.csv.",
        applies=lambda report: len(with_value(_headline_divergence(report))) > 0,
    ),
}
"""The figures of the page, in order."""
