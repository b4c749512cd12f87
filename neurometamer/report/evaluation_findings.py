"""What an evaluation of metamers found, in sentences, and a photograph with its metamers.

Nothing is computed here but counts and orders of what the tables hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import count_text, name_ids
from neurometamer.evaluation.sets import MetamerSet, states_of
from neurometamer.figures.style import format_number, p_text
from neurometamer.figures.tables import MEAN_OF_EVALUATORS, are_true
from neurometamer.report.methods import TARGETS, class_asked
from neurometamer.report.page import Answer, Example, example_image


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page of an evaluation is made of.

    Parameters
    ----------
    folder : Path
        Folder of the page.
    tables : mapping of str to DataFrame
        As `neurometamer.commands.evaluate_metamer_sets` writes them.
    record : mapping
        Provenance.
    sets : sequence of MetamerSet
        What was evaluated.
    validity : str
        State of the metamers that results speak of: ``"valid"``, or ``"not judged"`` where nobody
        judged.
    stamp : str
        What every figure must say; may be empty.
    """

    folder: Path
    tables: Mapping[str, pd.DataFrame]
    record: Mapping[str, Any]
    sets: Sequence[MetamerSet]
    validity: str
    stamp: str

    def has(self, name: str) -> bool:
        """Tell whether a table has rows.

        Parameters
        ----------
        name : str
            Name of the table.

        Returns
        -------
        bool
            False where it was not made.
        """
        if name not in self.tables:
            return False
        return len(self.tables[name]) > 0

    def rows(self, name: str) -> pd.DataFrame:
        """Select the rows of a table that are of metamers in the state that results speak of.

        Parameters
        ----------
        name : str
            Name of a table with the column validity.

        Returns
        -------
        pandas.DataFrame
            May be empty.
        """
        table = self.tables[name]
        return table[table["validity"] == self.validity]

    def asked(self, part: str) -> bool:
        """Tell whether a part of the evaluation was asked for.

        Parameters
        ----------
        part : str
            Such as ``"quality"``.

        Returns
        -------
        bool
            By the settings.
        """
        return part in self.record["settings"]["parts"]


def with_value(rows: pd.DataFrame, column: str = "value") -> pd.DataFrame:
    """Select the rows with a finite value.

    Parameters
    ----------
    rows : pandas.DataFrame
        With the column.
    column : str
        Its name.

    Returns
    -------
    pandas.DataFrame
        May be empty.
    """
    values = rows[column].astype(float)
    return rows[np.isfinite(values)]


def rows_where(table: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """Select the rows whose columns have these values.

    Parameters
    ----------
    table : pandas.DataFrame
        Any.
    values : mapping of str to object
        Column to value.

    Returns
    -------
    pandas.DataFrame
        May be empty.
    """
    for name, value in values.items():
        equal = table[name] == value
        table = table[equal]
    return table


def of_first(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Select the rows that have the first row's values.

    Parameters
    ----------
    rows : pandas.DataFrame
        At least one.
    *columns : str
        Whose values.

    Returns
    -------
    pandas.DataFrame
        The first row and those like it.
    """
    for name in columns:
        rows = rows[rows[name] == rows[name].iloc[0]]
    return rows


def target_text(report: Report) -> str:
    """Say which class counts as recognized, and that of the paper where it is another.

    Parameters
    ----------
    report : Report
        With settings.

    Returns
    -------
    str
        Within a sentence.
    """
    target = report.record["settings"]["target"]
    if target == "generator":
        return TARGETS[target]
    return (
        f"{TARGETS[target]} (Boehm et al. 2025 count that of the generating networks: target "
        "generator)"
    )


# ---------------------------------------------------------------------------------------- headlines


def headlines(report: Report) -> list[str]:
    """Say how many metamers are valid, and how well networks that took no part recognize them.

    Parameters
    ----------
    report : Report
        Needs the table validity.

    Returns
    -------
    list of str
        One or two sentences.
    """
    table = report.tables["validity"]
    n, valid = int(table["n_images"].sum()), int(table["n_valid"].sum())
    if report.validity == "valid":
        are = "is a valid metamer" if valid == 1 else "are valid metamers"
        sentences = [f"{valid} of {count_text(n, 'image')} {are}."]
    else:
        these = "this image is a metamer" if n == 1 else f"these {n} images are metamers"
        sentences = [f"Whether {these} was not judged."]
    if not report.has("curves"):
        return sentences
    curves = with_value(report.rows("curves"))
    if len(curves):
        return [*sentences, _recognized_sentence(report, curves)]
    # too few networks took no part for a mean: each is named
    table = report.tables["recognizability"]
    first = {"ways": table["ways"].iloc[0]}
    first["rule"] = rows_where(table, first)["rule"].iloc[0]
    rows = rows_where(table, {**first, "validity": report.validity})
    rows = rows[(rows["evaluator"] != MEAN_OF_EVALUATORS) & ~are_true(rows["took_part"])]
    rows = with_value(rows)
    if rows.empty:
        return [*sentences, "No network judged them that took no part in making them."]
    parts = []
    for name, own in rows.groupby("evaluator", sort=False):
        ends = [format_number(own["value"].min()), format_number(own["value"].max())]
        parts.append(f"{name} {' to '.join(dict.fromkeys(ends))}")
    sentences.append(
        "Share recognized by networks that took no part, too few for a mean: "
        f"{'; '.join(parts[:3])}."
    )
    return sentences


FEWEST = 5
"""Photographs below which a bootstrap interval is too narrow to compare a share with chance."""


def _recognized_sentence(report: Report, rows: pd.DataFrame) -> str:
    """Compare the shares recognized with guessing, where there are intervals."""
    ways, rule = rows["ways"].iloc[0], rows["rule"].iloc[0]
    rows = rows[(rows["ways"] == ways) & (rows["rule"] == rule)]
    chance = 1 / int(ways)
    guess = format_number(chance, 3 if chance < 0.005 else 2)
    low, high = float(rows["value"].min()), float(rows["value"].max())
    ends = " to ".join(dict.fromkeys([format_number(low), format_number(high)]))
    share = f"a share of {ends} of them" if high > 0 else "none of them"
    sentence = f"Networks that took no part recognize {share}; a guesser, {guess}"
    counts = rows["n_valid"] if report.validity == "valid" else rows["n_images"]
    tested = with_value(rows[counts >= FEWEST], "low")
    if tested.empty:
        return f"{sentence}. With so few photographs nothing more is claimed."
    answered = report.tables["recognition"]
    is_counted = (states_of(answered["valid"]) == report.validity) & answered["wanted"].notna()
    answered = answered[is_counted & ~are_true(answered["took_part"])]
    keys = ("set", "stage", "setting", "ways", "rule")
    above = 0
    for row in tested.to_dict("records"):
        own = rows_where(answered, {name: row[name] for name in keys})
        # Answers are shuffled, too: a network that says the same to every image recognizes all of
        # them, and would do so in any order.
        shuffled = []
        for _, answers in own.groupby("evaluator"):
            wanted = answers["wanted"].astype(str).to_numpy()
            said = answers["said"].astype(str).to_numpy()
            same = wanted[:, None] == said
            n = len(same)
            of_others = same.sum() - np.trace(same)
            shuffled.append(of_others / (n * (n - 1)) if n > 1 else 1.0)
        by_shuffling = float(np.mean(shuffled)) if shuffled else 1.0
        above += row["low"] > max(chance, by_shuffling)
    than = (
        "clearly more than guessing, or than the same answers shuffled, by the interval over "
        "photographs"
    )
    if len(rows) == 1:
        return f"{sentence}. That is {'' if above else 'not '}{than}."
    few = len(rows) - len(tested)
    left = f"; in {few} of them the photographs are too few to say" if few else ""
    return (
        f"{sentence}. In {above or 'none'} of {len(rows)} groups of metamers that is {than}{left}."
    )


# ----------------------------------------------------------------------------------------- examples


def lead_examples(report: Report) -> list[Example]:
    """Show one photograph and up to 3 metamers of it, with who recognizes them.

    Parameters
    ----------
    report : Report
        With sets.

    Returns
    -------
    list of Example
        Empty where there are no sets.
    """
    holding: dict[str, list[tuple[MetamerSet, int]]] = {}
    for metamers in report.sets:
        for row, name in enumerate(metamers.table["reference_id"].astype(str)):
            holding.setdefault(name, []).append((metamers, row))
    if not holding:
        return []
    most = max(len(held) for held in holding.values())
    n_valid = {}
    for name, held in holding.items():
        if len(held) == most:
            n_valid[name] = sum(metamers.states[row] == "valid" for metamers, row in held)
    name = max(n_valid, key=lambda candidate: n_valid[candidate])
    held = holding[name]
    several_sets = len({metamers.name for metamers, _ in held}) > 1
    several_settings = len({metamers.setting for metamers, _ in held}) > 1
    first, first_row = held[0]
    examples = [example_image(first.references[first_row], "A photograph")]
    for metamers, row in held[:3]:
        state = str(metamers.states[row])
        title = "Metamer" if state == "valid" else "Meant as a metamer"
        if several_sets:
            title += f" of {metamers.name}"
        title += f", {metamers.stage}"
        if several_settings:
            title += f", {metamers.setting}"
        text = state.capitalize()
        n_seen, n_asked = seen_by_others(report, metamers).get(name, (0, 0))
        if n_asked:
            others = "network" if n_asked == 1 else "networks"
            text += f"; recognized by {n_seen} of {n_asked} {others} that took no part"
        examples.append(example_image(metamers.pictures[row], title, f"{text}."))
    return examples


def seen_by_others(report: Report, metamers: MetamerSet) -> dict[str, tuple[int, int]]:
    """Count the evaluators that took no part and recognize each metamer.

    Answers are those by the first rule of the table.

    Parameters
    ----------
    report : Report
        With the table recognition, where anybody was asked.
    metamers : MetamerSet
        The metamers.

    Returns
    -------
    dict of str to (int, int)
        Photograph to how many recognize its metamer, and how many were asked.
    """
    if not report.has("recognition"):
        return {}
    rows = of_first(report.tables["recognition"], "rule")
    rows = rows[~rows["took_part"].astype(bool)]
    for name, value in metamers.label.items():
        rows = rows[rows[name].astype(str) == value]
    counts = rows.groupby("reference_id")["hit"].agg(["sum", "count"])
    seen = {}
    for photograph, row in counts.iterrows():
        seen[str(photograph)] = (int(row["sum"]), int(row["count"]))
    return seen


# ------------------------------------------------------------------------------------------ answers


def answers(report: Report) -> list[Answer]:
    """Put into sentences what the tables say, one card a question.

    Parameters
    ----------
    report : Report
        With the table validity.

    Returns
    -------
    list of Answer
        Those that the tables can give.
    """
    table = report.tables["validity"]
    why = "No null distribution was given"
    if table["pass_above_null"].notna().any():
        why = "An embedding has no classes to judge by"
    number, text = "not judged", f"{why}; all images count alike."
    if report.validity == "valid":
        n, valid = int(table["n_images"].sum()), int(table["n_valid"].sum())
        worst = table.sort_values("pass_both", kind="stable").iloc[0]
        number = f"{valid} of {n} valid"
        text = (
            f"Every network of the set gives it {class_asked(table)} and matches it better than "
            f"any pair of different photographs, in the saved picture. Fewest: {worst['set']}, "
            f"{worst['stage']}, {int(worst['n_valid'])} of {int(worst['n_images'])}."
        )
    found = [
        Answer(
            title="How many are metamers?",
            number=number,
            text=text,
        )
    ]
    for name, answers_of in ANSWERS.items():
        if report.has(name):
            found += answers_of(report)
    return found


def _with_interval(row: pd.Series) -> str:
    value = format_number(row["value"])
    low = format_number(row["low"])
    high = format_number(row["high"])
    return f"{value} [{low}, {high}]"


def _recognition_answers(report: Report) -> list[Answer]:
    rows = with_value(report.rows("curves"))
    if rows.empty:
        return []
    found = []
    for stage, own in of_first(rows, "rule").groupby("stage", sort=False):
        ordered = own.sort_values("value", ascending=False, kind="stable")
        best = ordered.iloc[0]
        words = "1,000 classes" if best["ways"] == 1000 else "16 categories"
        text = (
            f"{best['set']}: share that networks that took no part give {target_text(report)}; "
            f"{words}."
        )
        rest = []
        for _, row in ordered.iloc[1:6].iterrows():
            rest.append(f"{row['set']} {format_number(row['value'])}")
        if rest:
            text += f" Then {'; '.join(rest)}."
        title = f"Most recognized, stage {stage}"
        found.append(
            Answer(
                title=title,
                number=_with_interval(best),
                text=text,
            )
        )
    return found


def _divergence_answers(report: Report) -> list[Answer]:
    rows = report.rows("divergence")
    rows = with_value(rows[rows["headline"].astype(bool)])
    if rows.empty:
        return []
    low, high = rows["value"].min(), rows["value"].max()
    more = int((rows["p"] < 0.05).sum())
    text = (
        "Jensen–Shannon divergence (base 2) between distances among photographs and among their "
        f"metamers, {len(rows)} evaluators × sets. Larger than by chance (p < .05, uncorrected): "
        f"{more}."
    )
    return [
        Answer(
            title="Are metamers as far apart as photographs?",
            number=f"{format_number(low)} to {format_number(high)}",
            text=text,
        )
    ]


def _observer_answers(report: Report) -> list[Answer]:
    rows = rows_where(
        report.rows("observer_tests"),
        {
            "effect": "interaction",
            "unit": "images",
        },
    )
    found = []
    for _, row in with_value(rows.drop_duplicates(["stage"])).iterrows():
        found.append(
            Answer(
                title=f"Do the two factors act together, stage {row['stage']}?",
                number=_with_interval(row),
                text=f"{row['contrast']}; over images: p {p_text(row['p'])}.",
            )
        )
    return found


def _set_answers(report: Report) -> list[Answer]:
    table = report.tables["set_differences"]
    first = {name: table[name].iloc[0] for name in ("ways", "raters")}
    known = with_value(rows_where(table, first), "difference")
    if known.empty:
        return []
    best = known.iloc[int(known["difference"].abs().to_numpy(dtype=float).argmax())]
    clear = known.loc[known["p_bonferroni"] < 0.05, "network"].tolist()
    text = (
        f"Difference in means, signed; {int(best['n_sets'])} sets. Clear after Bonferroni: "
        f"{name_ids(clear) or 'none'}."
    )
    return [
        Answer(
            title="Which network matters most?",
            number=f"{best['network']}: {format_number(best['difference'])}",
            text=text,
        )
    ]


ANSWERS: Mapping[str, Callable[[Report], list[Answer]]] = {
    "curves": _recognition_answers,
    "divergence": _divergence_answers,
    "observer_tests": _observer_answers,
    "set_differences": _set_answers,
}
"""Name of a table to what makes the answers that it gives, in the order of the page."""
