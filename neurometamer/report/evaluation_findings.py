"""The first screen of the page of an evaluation.

It says in plain words what was found, and shows a photograph with its metamers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.evaluation.sets import MetamerSet, states_of
from neurometamer.figures.sets import is_true
from neurometamer.figures.style import count_text, format_number
from neurometamer.report.page import Example, Picture, embed_figure, example_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEAN = "mean of evaluators"
"""Name of the rows that average over evaluators."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page of an evaluation is made of.

    Parameters
    ----------
    folder : Path
        Folder of the page.
    tables : mapping of str to DataFrame
        As `neurometamer.evaluate_sets` writes them.
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
        return len(self.tables.get(name, ())) > 0

    def picture(
        self,
        name: str,
        figure: Figure,
        caption: str,
        alt: str,
        table: pd.DataFrame,
        *,
        small: bool = False,
    ) -> Picture:
        """Save a figure and its numbers, and put it on the page.

        Parameters
        ----------
        name : str
            Name of the files.
        figure : matplotlib.figure.Figure
            The figure.
        caption, alt : str
            What it shows, and the same for those who cannot see it.
        table : pandas.DataFrame
            What was drawn.
        small : bool
            See `neurometamer.report.page.embed_figure`.

        Returns
        -------
        Picture
            For the page.
        """
        numbers = table.reset_index(drop=True)
        return embed_figure(self.folder, name, figure, caption, alt, table=numbers, small=small)


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
        counted = (
            f"{valid} of {count_text(n, 'image')} "
            f"{'is a valid metamer' if valid == 1 else 'are valid metamers'}."
        )
    else:
        counted = (
            f"Whether {'this image is a metamer' if n == 1 else f'these {n} images are metamers'} "
            "was not judged."
        )
    recognized = _recognized_sentence(report)
    return [counted, recognized] if recognized else [counted]


FEWEST = 5
"""Photographs below which a bootstrap interval is too narrow to compare a share with chance."""


def _recognized_sentence(report: Report) -> str:
    """Compare the shares recognized with guessing, where there are intervals.

    The text is empty where there are no shares.
    """
    if not report.has("curves"):
        return ""
    rows = report.tables["curves"]
    rows = rows[(rows["validity"] == report.validity) & np.isfinite(rows["value"].astype(float))]
    if rows.empty:
        return _single_sentence(report)
    ways, rule = rows["ways"].iloc[0], rows["rule"].iloc[0]
    rows = rows[(rows["ways"] == ways) & (rows["rule"] == rule)]
    chance = 1 / int(ways)
    guess = format_number(chance, 3 if chance < 0.005 else 2)
    low, high = float(rows["value"].min()), float(rows["value"].max())
    ends = " to ".join(dict.fromkeys([format_number(low), format_number(high)]))
    share = f"a share of {ends} of them" if high > 0 else "none of them"
    sentence = f"Networks that took no part recognize {share}; a guesser, {guess}"
    counts = rows["n_valid"] if report.validity == "valid" else rows["n_images"]
    tested = rows[(counts >= FEWEST) & np.isfinite(rows["low"].astype(float))]
    if tested.empty:
        return f"{sentence}. With so few photographs nothing more is claimed."
    above = sum(
        row["low"] > max(chance, _shuffled(report, row)) for row in tested.to_dict("records")
    )
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


def _shuffled(report: Report, row: Mapping[Any, Any]) -> float:
    """Say how often answers would count if each stood beside another photograph's.

    A network that says the same to every image recognizes all of them, and would do so in any
    order.
    """
    hits = report.tables["recognition"]
    keys = ("set", "stage", "setting", "ways", "rule")
    own = rows_where(hits, {name: row[name] for name in keys})
    own = own[
        (states_of(own["valid"]) == report.validity)
        & ~is_true(own["took_part"])
        & own["wanted"].notna()
    ]
    shares = []
    for _, answers in own.groupby("evaluator"):
        wanted, said = (
            answers["wanted"].astype(str).to_numpy(),
            answers["said"].astype(str).to_numpy(),
        )
        same = wanted[:, None] == said
        n = len(same)
        shares.append((same.sum() - np.trace(same)) / (n * (n - 1)) if n > 1 else 1.0)
    return float(np.mean(shares)) if shares else 1.0


def _single_sentence(report: Report) -> str:
    """Say what each network that took no part recognizes.

    This is for sets with too few such networks for a mean.
    """
    rows = report.tables["recognizability"]
    rows = rows[(rows["ways"] == rows["ways"].iloc[0]) & (rows["rule"] == rows["rule"].iloc[0])]
    rows = rows[(rows["validity"] == report.validity) & (rows["evaluator"] != MEAN)]
    rows = rows[~is_true(rows["took_part"]) & np.isfinite(rows["value"].astype(float))]
    if rows.empty:
        return "No network judged them that took no part in making them."
    parts = []
    for name, own in rows.groupby("evaluator", sort=False):
        ends = dict.fromkeys(
            format_number(value) for value in (own["value"].min(), own["value"].max())
        )
        parts.append(f"{name} {' to '.join(ends)}")
    return (
        "Share recognized by networks that took no part, too few for a mean: "
        f"{'; '.join(parts[:3])}."
    )


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
    candidates = [name for name, held in holding.items() if len(held) == most]
    name = max(
        candidates,
        key=lambda name: sum(metamers.states[row] == "valid" for metamers, row in holding[name]),
    )
    (first, row), *_ = held = holding[name]
    examples = [example_image(first.references[row], "A photograph")]
    for metamers, row in held[:3]:
        state = str(metamers.states[row])
        n_seen, n_asked = seen_by_others(report, metamers).get(name, (0, 0))
        others = "network" if n_asked == 1 else "networks"
        said = (
            f"; recognized by {n_seen} of {n_asked} {others} that took no part" if n_asked else ""
        )
        of = "" if len({other.name for other, _ in held}) == 1 else f" of {metamers.name}"
        how = "" if len({other.setting for other, _ in held}) == 1 else f", {metamers.setting}"
        made = (
            f"{'Metamer' if state == 'valid' else 'Meant as a metamer'}{of}, {metamers.stage}{how}"
        )
        examples.append(example_image(metamers.pictures[row], made, f"{state.capitalize()}{said}."))
    return examples


def seen_by_others(report: Report, metamers: MetamerSet) -> dict[str, tuple[int, int]]:
    """Count the evaluators without part that recognize each metamer.

    The choice is among all classes where evaluators were asked so.

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
    hits = report.tables["recognition"]
    rows = hits[(hits["rule"] == hits["rule"].iloc[0]) & ~hits["took_part"].astype(bool)]
    for name, value in metamers.label.items():
        rows = rows[rows[name].astype(str) == value]
    counts = rows.groupby("reference_id")["hit"].agg(["sum", "count"])
    return {str(name): (int(row["sum"]), int(row["count"])) for name, row in counts.iterrows()}


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
        table = table[table[name] == value]
    return table
