"""One self-contained HTML page from the tables of an evaluation.

The page only counts and orders; it computes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.errors import name_ids
from neurometamer.evaluation.model_sets import RATERS
from neurometamer.evaluation.sets import MetamerSet
from neurometamer.figures import evaluation as draw
from neurometamer.figures.style import count_text, format_number
from neurometamer.report.evaluation_findings import (
    Report,
    headlines,
    lead_examples,
    rows_where,
    seen_by_others,
)
from neurometamer.report.evaluation_methods import TARGETS, cited_works, methods_text
from neurometamer.report.page import (
    Answer,
    Grid,
    Lead,
    Picture,
    Section,
    borrow_figure,
    folded_grid,
    p_text,
    settings_grids,
    table_grid,
    write_page,
    write_sources,
)

if TYPE_CHECKING:
    pass

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
        As `neurometamer.evaluate_sets` writes them.
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
    makers: tuple[Callable[[Report], Section | None], ...] = (
        _validity_section,
        _recognition_section,
        _epsilon_section,
        _observer_section,
        _set_section,
        _quality_section,
        _divergence_section,
    )
    sections = [section for make in makers if (section := make(report)) is not None]
    charts, sections = borrow_figure(sections, LEADING)
    version = str(record.get("versions", {}).get("neurometamer", ""))
    methods = methods_text(record, tables, sets, judged)
    grids = [
        folded_grid(tables[name], caption, f"{name}.csv", name=name)
        for name, caption in CAPTIONS.items()
        if report.has(name)
    ]
    answers = [
        Answer(title=title, number=number, text=text) for title, number, text in _answers(report)
    ]
    return write_page(
        folder / "report.html",
        "evaluation.html",
        lead=_lead(report),
        first=Lead(headlines=headlines(report), charts=charts, examples=lead_examples(report)),
        stamps=stamps,
        answers=answers,
        sections=sections,
        tables=grids,
        notes=[str(note) for note in record.get("notes", ())],
        settings=settings_grids(record, PARTS),
        **write_sources(folder, methods, cited_works(record, sets), version),
    )


LEADING = ("recognizability", "observers", "sets", "quality", "divergence")
"""Sections whose first figure may stand on the first screen; the first part that was run is
taken."""


# -------------------------------------------------------------------------------------------- words


def _stamps(
    record: Mapping[str, Any], judged: bool, sets: Sequence[MetamerSet]
) -> list[tuple[str, str]]:
    out = []
    judges = [
        name
        for name, network in record.get("evaluators", {}).items()
        if network.get("trained") is False
    ]
    makers = [name for metamers in sets for name in metamers.untrained]
    if untrained := list(dict.fromkeys([*judges, *makers])):
        out.append(("Untrained networks", f"{name_ids(untrained)}: random weights, never trained."))
    if not judged:
        out.append(
            (
                "Validity not judged",
                "no null distribution was given, so nobody knows which images are metamers; make "
                "one with 'neurometamer stimuli null' and give it with --nulls.",
            )
        )
    if priors := {
        metamers.name: metamers.image_prior
        for metamers in sets
        if metamers.image_prior not in ("", "none")
    }:
        how = "; ".join(dict.fromkeys(priors.values()))
        were = "was" if len(priors) == 1 else "were"
        words = (
            f"{name_ids(priors)} {were} made with a prior ({how}), which makes metamers easier to "
            "recognize whatever the network responds to."
        )
        out.append(("Natural-image prior", words))
    return out


def _with_interval(row: pd.Series) -> str:
    return (
        f"{format_number(row['value'])} [{format_number(row['low'])}, {format_number(row['high'])}]"
    )


def _lead(report: Report) -> str:
    table = report.tables["validity"]
    names, stages = (list(dict.fromkeys(table[name])) for name in ("set", "stage"))
    judges = list(report.record.get("evaluators", {}))
    low, high = int(table["n_images"].min()), int(table["n_images"].max())
    images = count_text(low, "photograph") if low == high else f"{low} to {high} photographs"
    each = " each" if len(table) > 1 else ""
    return (
        f"{count_text(len(names), 'set')} of networks ({name_ids(names)}), "
        f"{count_text(len(stages), 'stage')} ({name_ids(stages)}), {images}{each}; judged by "
        f"{count_text(len(judges), 'network')}: {name_ids(judges, 8)}."
    )


def _answers(report: Report) -> list[tuple[str, str, str]]:
    makers = (
        _validity_answer,
        _recognition_answers,
        _divergence_answer,
        _observer_answer,
        _set_answer,
    )
    return [answer for make in makers for answer in make(report)]


def _validity_answer(report: Report) -> list[tuple[str, str, str]]:
    table = report.tables["validity"]
    n, valid = int(table["n_images"].sum()), int(table["n_valid"].sum())
    if report.validity == "not judged":
        return [
            (
                "How many are metamers?",
                "not judged",
                "No null distribution was given; all images count alike.",
            )
        ]
    worst = table.sort_values("pass_both", kind="stable").iloc[0]
    text = (
        "Same one of 16 classes, and a better match than any pair of different photographs, for "
        f"every network of the set, in the saved picture. Fewest: {worst['set']}, "
        f"{worst['stage']}, {int(worst['n_valid'])} of {int(worst['n_images'])}."
    )
    return [("How many are metamers?", f"{valid} of {n} valid", text)]


def _recognition_answers(report: Report) -> list[tuple[str, str, str]]:
    out: list[tuple[str, str, str]] = []
    if not report.has("curves"):
        return out
    table = report.tables["curves"]
    rows = table[(table["validity"] == report.validity) & np.isfinite(table["value"].astype(float))]
    first = rows["rule"].drop_duplicates().head(1).tolist()
    for stage, own in rows[rows["rule"].isin(first)].groupby("stage", sort=False):
        ordered = own.sort_values("value", ascending=False, kind="stable")
        best = ordered.iloc[0]
        rest = "; ".join(
            f"{row['set']} {format_number(row['value'])}" for _, row in ordered.iloc[1:6].iterrows()
        )
        words = "1,000 classes" if best["ways"] == 1000 else "16 categories"
        text = (
            f"{best['set']}: share that networks that took no part give {_target(report)}; {words}."
        )
        out.append(
            (
                f"Most recognized, stage {stage}",
                _with_interval(best),
                f"{text} Then {rest}." if rest else text,
            )
        )
    return out


def _divergence_answer(report: Report) -> list[tuple[str, str, str]]:
    if not report.has("divergence"):
        return []
    table = report.tables["divergence"]
    rows = table[table["headline"].astype(bool) & (table["validity"] == report.validity)]
    rows = rows[np.isfinite(rows["value"].astype(float))]
    if rows.empty:
        return []
    low, high = rows["value"].min(), rows["value"].max()
    more = int((rows["p"] < 0.05).sum())
    text = (
        "Jensen–Shannon divergence (base 2) between distances among photographs and among their "
        "metamers, "
        f"{len(rows)} evaluators × sets. Larger than by chance (p < .05, uncorrected): {more}."
    )
    return [
        (
            "Are metamers as far apart as photographs?",
            f"{format_number(low)} to {format_number(high)}",
            text,
        )
    ]


def _observer_answer(report: Report) -> list[tuple[str, str, str]]:
    if not report.has("observer_tests"):
        return []
    table = report.tables["observer_tests"]
    rows = table[
        (table["effect"] == "interaction")
        & (table["validity"] == report.validity)
        & (table["unit"] == "images")
    ]
    out = []
    for _, row in rows.drop_duplicates(["stage"]).iterrows():
        if np.isfinite(row["value"]):
            text = f"{row['contrast']}; over images: p {p_text(row['p'])}."
            out.append(
                (
                    f"Do the two factors act together, stage {row['stage']}?",
                    _with_interval(row),
                    text,
                )
            )
    return out


def _set_answer(report: Report) -> list[tuple[str, str, str]]:
    if not report.has("set_differences"):
        return []
    rows = report.tables["set_differences"]
    rows = rows[(rows["ways"] == rows["ways"].iloc[0]) & (rows["raters"] == rows["raters"].iloc[0])]
    known = rows[np.isfinite(rows["difference"].astype(float))]
    if known.empty:
        return []
    best = known.loc[known["difference"].abs().idxmax()]
    clear = known.loc[known["p_bonferroni"] < 0.05, "network"].tolist()
    text = (
        f"Difference in means, signed; {int(best['n_sets'])} sets. Clear after Bonferroni: "
        f"{name_ids(clear) or 'none'}."
    )
    return [
        (
            "Which network matters most?",
            f"{best['network']}: {format_number(best['difference'])}",
            text,
        )
    ]


# ----------------------------------------------------------------------------------------- sections


def _asked(report: Report, part: str) -> bool:
    return part in report.record["settings"]["parts"]


def _validity_section(report: Report) -> Section:
    text = [
        "A metamer is valid when every network of its set gives it the photograph's one of 16 "
        "classes, and matches it better than any pair of different photographs (Spearman, Pearson "
        "and signal-to-noise ratio above the largest of the null), in the saved 8-bit picture. "
        "Numbers on this page are of "
        + (
            "valid metamers; failed ones stand apart."
            if report.validity == "valid"
            else "all images: nobody judged them."
        )
    ]
    table = report.tables["validity"]
    shown = table.drop(columns="members") if (table["members"] == table["set"]).all() else table
    grid = folded_grid(shown, CAPTIONS["validity"], "validity.csv", limit=40)
    pictures = [_examples(report)] if report.sets else []
    return Section(
        key="validity", title="Validity first", text=text, grids=[grid], pictures=pictures
    )


def _examples(report: Report) -> Picture:
    """Draw up to 8 photographs and their metamers, with how many networks see the same in them."""
    shown = list(report.sets)[:MOST_ROWS]
    several = len({metamers.setting for metamers in shown}) > 1
    labels = [
        " · ".join(
            filter(None, [metamers.name, metamers.stage, metamers.setting if several else ""])
        )
        for metamers in shown
    ]
    everywhere = pd.Series(
        [name for metamers in shown for name in metamers.table["reference_id"]]
    ).value_counts(sort=False)
    most = everywhere.max()
    ids = [str(name) for name, count in everywhere.items() if count == most][:MOST_IMAGES]
    photographs: dict[str, np.ndarray] = {}
    pictures: dict[tuple[str, str], np.ndarray] = {}
    rows = []
    for label, metamers in zip(labels, shown, strict=True):
        seen = seen_by_others(report, metamers)
        for row, (name, state) in enumerate(
            zip(metamers.table["reference_id"], metamers.states, strict=True)
        ):
            if name in ids:
                photographs.setdefault(name, metamers.references[row])
                pictures[label, name] = metamers.pictures[row]
                n_seen, n_asked = seen.get(name, (0, 0))
                rows.append(
                    {
                        "row": label,
                        "reference_id": name,
                        "state": state,
                        "n_seen": n_seen,
                        "n_asked": n_asked,
                    }
                )
    table = pd.DataFrame(rows)
    figure = draw.example_sheet(photographs, pictures, table, stamp=report.stamp)
    n_more = len(report.sets) - len(shown)
    rest = (
        f" {count_text(n_more, 'more set')} {'is' if n_more == 1 else 'are'} not shown."
        if n_more
        else ""
    )
    caption = (
        "Photographs and metamers, with their state and who recognizes them; compressed on this "
        f"page.{rest}"
    )
    alt = (
        f"Sheet of {len(ids)} photographs and their metamers; states and answers are in "
        "recognition.csv."
    )
    return report.picture("examples", figure, caption, alt, table, small=True)


def _target(report: Report) -> str:
    """Say which class counts as recognized, and that of the paper where it is another."""
    target = report.record["settings"]["target"]
    words = TARGETS[target]
    if target == "generator":
        return words
    return f"{words} (Boehm et al. 2025 count that of the generating networks: target generator)"


def _recognition_section(report: Report) -> Section | None:
    title = "Recognizability"
    if not _asked(report, "recognizability"):
        return None
    text = (
        f"Share of metamers that an evaluator gives {_target(report)}. "
        "Networks that took part are marked and are in no mean."
    )
    curves, table = report.tables["curves"], report.tables["recognizability"]
    pictures = []
    for ways, rule in curves[["ways", "rule"]].drop_duplicates().itertuples(index=False, name=None):
        name = f"{ways}" if ways == 1000 else f"{ways}_{rule}"
        words = "1,000 classes" if ways == 1000 else f"16 categories ({rule})"
        own = curves[(curves["ways"] == ways) & (curves["rule"] == rule)]
        if np.isfinite(own["value"].astype(float)).any():
            figure = draw.recognizability_lines(own, chance=1 / ways, stamp=report.stamp)
            caption = f"Mean of the evaluators that took no part, over stages; {words}."
            alt = "Lines; the values are in curves.csv."
            pictures.append(report.picture(f"curves_{name}", figure, caption, alt, own))
        figure = draw.recognizability_matrix(
            table, ways=ways, rule=rule, validity=report.validity, stamp=report.stamp
        )
        caption = f"Each evaluator; {words}."
        alt = "Matrix of evaluators by sets and stages; the values are in recognizability.csv."
        shown = table[
            (table["ways"] == ways)
            & (table["rule"] == rule)
            & (table["validity"] == report.validity)
        ]
        pictures.append(report.picture(f"recognizability_{name}", figure, caption, alt, shown))
    return Section(key="recognizability", title=title, text=[text], pictures=pictures)


def _epsilon_section(report: Report) -> Section | None:
    if not report.has("epsilon"):
        return None
    figure = draw.epsilon_bars(
        report.tables["epsilon"], validity=report.validity, stamp=report.stamp
    )
    caption = "Metamers whose pixels could move only so far, against those that could move freely."
    alt = "Marks with intervals; the values are in epsilon.csv."
    # Give the rows that the figure of restricted images draws: one state, first ways and rule.
    table = report.tables["epsilon"]
    rows = table[table["ways"] == table["ways"].iloc[0]]
    of_first_measure = rows[
        (rows["rule"] == rows["rule"].iloc[0]) & (rows["validity"] == report.validity)
    ]
    picture = report.picture(
        "epsilon",
        figure,
        caption,
        alt,
        of_first_measure,
    )
    text = "Differences are paired over photographs that are in the same state in both settings."
    return Section(
        key="epsilon", title="How far images could move", text=[text], pictures=[picture]
    )


def _quality_section(report: Report) -> Section | None:
    title = "Image quality"
    if not _asked(report, "quality"):
        return None
    figure = draw.quality_bars(
        report.tables["quality"], validity=report.validity, stamp=report.stamp
    )
    alt = "Bars, one panel a metric; the values are in quality.csv."
    table = report.tables["quality"]
    caption = "Metamers beside their photographs; arrows say what is better."
    shown = table[table["validity"] == report.validity]
    picture = report.picture("quality", figure, caption, alt, shown)
    scales = table.drop_duplicates("metric")[["name", "arrow", "scale"]]
    grid = table_grid(scales, "Metrics, their direction and scale", "quality.csv")
    return Section(key="quality", title=title, pictures=[picture], grids=[grid])


def _divergence_section(report: Report) -> Section | None:
    title = "Divergence of representational distances"
    if not _asked(report, "divergence"):
        return None
    text = (
        "Distances among photographs (RR) and among their metamers (MM), in each evaluator at the "
        "depth of the set: 0 where their distributions are the same, 1 where they do not meet. The "
        "value is never quite 0; the null, made by exchanging photograph and metamer, says how "
        "large it gets by chance."
    )
    table = report.tables["divergence"]
    rows = table[table["headline"].astype(bool) & (table["validity"] == report.validity)]
    if not np.isfinite(rows["value"].astype(float)).any():
        return Section(
            key="divergence", title=title, text=[text, "No set has enough metamers for distances."]
        )
    figure = draw.divergence_heatmap(table, validity=report.validity, stamp=report.stamp)
    alt = "Matrix of evaluators by sets and stages; the values are in divergence.csv."
    picture = report.picture(
        "divergence", figure, "RR–MM divergence of each set in each evaluator.", alt, rows
    )
    return Section(key="divergence", title=title, text=[text], pictures=[picture])


def _observer_section(report: Report) -> Section | None:
    if not report.has("observer_matrix"):
        return None
    text = (
        "Metamers of each network, judged by each other; what a network says to its own is marked "
        "and in no mean. Over images, an effect speaks of other photographs but of these networks; "
        "over generators, of other networks, which needs many of them (p_min is the smallest p "
        "that so few can give)."
    )
    matrix, bars = report.tables["observer_matrix"], report.tables["observer_conditions"]
    matrix = matrix[
        (matrix["validity"] == report.validity) & (matrix["evaluator"] != "mean of evaluators")
    ]
    pictures: list[Picture] = []
    context = ["stage", "setting", "ways", "rule"]
    first = matrix[["ways", "rule"]].drop_duplicates().head(1)
    for key in matrix.merge(first)[context].drop_duplicates().itertuples(index=False, name=None):
        words = f"{key[0]}, {key[1]}, {key[2]} classes"
        own = rows_where(matrix, dict(zip(context, key, strict=True)))
        figure = draw.observer_matrix(own, stamp=report.stamp)
        alt = "Matrix of generators by evaluators; the values are in observer_matrix.csv."
        caption = f"Generators and evaluators: {words}."
        pictures.append(report.picture(f"observers_{len(pictures)}", figure, caption, alt, own))
        cells = rows_where(bars, dict(zip(context, key, strict=True)))
        if np.isfinite(cells["value"].astype(float)).any():
            figure = draw.observer_bars(cells, stamp=report.stamp)
            caption = f"{cells['factor_a'].iloc[0]} and {cells['factor_b'].iloc[0]}: {words}."
            alt = "Lines with intervals; the values are in observer_conditions.csv."
            pictures.append(
                report.picture(f"observers_{len(pictures)}", figure, caption, alt, cells)
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
        key="observers", title="Networks as observers", text=[text], pictures=pictures, grids=[grid]
    )


def _set_section(report: Report) -> Section | None:
    if not _asked(report, "sets"):
        return None
    title, scores = "Sets of networks", report.tables["set_scores"]
    held_out = scores.loc[scores["raters"] == "held-out", "held_out"]
    same = (
        f"by the same evaluators, which are in none ({held_out.iloc[0]}), and "
        if len(held_out)
        else ""
    )
    text = (
        f"Every set is scored {same}by all evaluators but its own networks, as Boehm et al. (2025) "
        f"do; the latter change with the set. What counts is {_target(report)}. A difference in "
        "means says how much better sets with a network are than sets without it; the regression "
        "parts that from the size of the set."
    )
    pictures: list[Picture] = []
    if report.has("set_differences"):
        table = report.tables["set_differences"]
        groups = table.groupby(["stage", "setting", "ways", "raters"], sort=False)
        for (stage, setting, ways, raters), own in groups:
            name = f"set_differences_{len(pictures)}"
            caption = (
                f"Difference in means, {stage}, {setting}, {ways} classes; rated by "
                f"{RATERS[str(raters)]}."
            )
            figure = draw.set_differences(own, stamp=report.stamp)
            alt = "Marks with intervals; the values are in set_differences.csv."
            pictures.append(report.picture(name, figure, caption, alt, own))
    grids: list[Grid] = [
        folded_grid(report.tables[name], CAPTIONS[name], f"{name}.csv", limit=40)
        for name in ("set_regression",)
        if report.has(name)
    ]
    return Section(key="sets", title=title, text=[text], pictures=pictures, grids=grids)
