"""What the figures of RSA share.

These are rows over subjects, marks of p with their family, whiskers, and limits of axes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, unknown_name
from neurometamer.figures.labels import Ticks, name_ticks
from neurometamer.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN = "mean"
"""In the column ``subject``: over subjects."""
PEOPLE = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of subjects; more than these are drawn alike."""
QUANTITIES = {"similarity": "similarity of RDMs", "difference": "difference of similarities"}
"""What is on the axis."""


def names_as_text(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Make names text, whether they were read from a file or made in this process.

    Parameters
    ----------
    table : DataFrame
        Any.
    *columns : str
        Columns of names; those that are not there are passed over.

    Returns
    -------
    DataFrame
        Missing names are empty.
    """
    known = {
        name: table[name].astype(object).fillna("").astype(str)
        for name in columns
        if name in table.columns
    }
    return table.assign(**known)


def one_kind(table: pd.DataFrame, what: str, kind: str | None) -> pd.DataFrame:
    """Choose the rows of one kind of images; a table of one kind needs no choice.

    Parameters
    ----------
    table : DataFrame
        With or without a column kind.
    what : str
        Its name in messages.
    kind : str, optional
        Which.

    Returns
    -------
    DataFrame
        Its rows.

    Raises
    ------
    InputError
        When there are several and none is chosen, or the chosen one is not there.
    """
    if "kind" not in table.columns:
        return table
    rows = names_as_text(table, "kind")
    known = list(dict.fromkeys(rows["kind"]))
    if kind is None and len(known) > 1:
        raise InputError(
            f"the {what} table holds the kinds {', '.join(known)}; say which to draw "
            f"(kind='{known[0]}')."
        )
    chosen = known[0] if kind is None else kind
    if chosen not in known:
        raise unknown_name("kind", chosen, known)
    return rows[rows["kind"] == chosen]


def people_of(rows: pd.DataFrame) -> list[str]:
    """List the subjects, without the rows over subjects.

    Parameters
    ----------
    rows : DataFrame
        With the column subject.

    Returns
    -------
    list of str
        As they come.
    """
    return [
        subject for subject in dict.fromkeys(rows["subject"]) if subject not in (MEAN, "combined")
    ]


def combine_subjects(rows: pd.DataFrame, key: Sequence[str], value: str) -> pd.DataFrame:
    """Take the row over subjects of each group, or that of the only subject.

    Without either, the mean is taken, without interval and p.

    Parameters
    ----------
    rows : DataFrame
        With the columns subject, `key` and `value`.
    key : sequence of str
        What tells the groups apart.
    value : str
        What is averaged.

    Returns
    -------
    DataFrame
        One row a group; the column made_here tells which were averaged here.
    """
    summaries: list[dict[Any, Any]] = []
    for _, part in rows.groupby(list(key), sort=False):
        own = part[part["subject"] == MEAN]
        if len(own) or len(part) == 1:
            summaries.append((own if len(own) else part).iloc[0].to_dict() | {"made_here": False})
        else:
            kept = [name for name in (*key, "ceiling_low", "ceiling_high") if name in part.columns]
            mean = {value: part[value].astype(float).mean(), "subject": MEAN, "made_here": True}
            summaries.append({name: part.iloc[0][name] for name in kept} | mean)
    return pd.DataFrame(summaries).reindex(columns=[*rows.columns, "made_here"])


def numbers_of(rows: pd.DataFrame, *names: str) -> np.ndarray:
    """Give the numbers of the first of some columns that is there.

    Parameters
    ----------
    rows : DataFrame
        Any.
    *names : str
        Columns, the preferred one first.

    Returns
    -------
    ndarray of float, shape (n_rows,)
        NaN where none is there.
    """
    name = next((column for column in names if column in rows.columns), None)
    return np.full(len(rows), np.nan) if name is None else rows[name].to_numpy(dtype=float)


def stars(p: np.ndarray) -> list[str]:
    """Mark what is below .05.

    Parameters
    ----------
    p : ndarray, shape (n,)
        Corrected p.

    Returns
    -------
    list of str
        ``"*"`` or nothing.
    """
    return ["*" if np.isfinite(value) and value < 0.05 else "" for value in p]


def each_name(rows: pd.DataFrame, column: str, between: str = "; ") -> str:
    """Join the different texts of a column.

    Parameters
    ----------
    rows : DataFrame
        With or without the column.
    column : str
        Which.
    between : str
        What stands between them.

    Returns
    -------
    str
        At most four, and how many more there are.
    """
    if column not in rows.columns:
        return ""
    return _listed(list(rows[column].dropna().astype(str)), between)


def _listed(texts: Sequence[str], between: str) -> str:
    names = list(dict.fromkeys(text for text in texts if text))
    return between.join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def family_note(rows: pd.DataFrame) -> str:
    """Say what a mark of p means: corrected how, over which family. Uncorrected p are never marked.

    Parameters
    ----------
    rows : DataFrame
        p_corrected (or q), correction, family and p are used when there.

    Returns
    -------
    str
        Empty when there is no p at all.
    """
    corrected = numbers_of(rows, "p_corrected", "q")
    if not np.isfinite(corrected).any():
        return (
            "P is not corrected in this table, so none is marked"
            if np.isfinite(numbers_of(rows, "p")).any()
            else ""
        )
    tested = rows[np.isfinite(corrected)]
    how = each_name(tested, "correction") or (
        "" if "p_corrected" in rows.columns else "Benjamini-Hochberg"
    )
    # subjects have families of their own, which need no line each
    texts = tested["family"].dropna().astype(str) if "family" in tested.columns else []
    families = _listed(
        [re.sub(r"\b(subject|model|contrast) [^,]+", r"each \1", text) for text in texts], " or "
    )
    return (
        f"*: corrected p < .05 ({', '.join(filter(None, (how, families and f'over {families}')))})"
    )


def ceiling_note(rows: pd.DataFrame) -> str:
    """Name the convention of the noise ceiling.

    Parameters
    ----------
    rows : DataFrame
        With or without the column ceiling.

    Returns
    -------
    str
        Empty when the table does not tell.
    """
    ceiling = each_name(rows, "ceiling")
    return f"Noise ceiling: {ceiling}" if ceiling else ""


def draw_whisker(axes: Axes, x: float, low: float, high: float, half: float = 0.05) -> None:
    """Draw an interval as lines, because a bootstrap interval need not contain its estimate.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    x, low, high : float
        Place and ends; nothing is drawn where an end is missing.
    half : float
        Half of the width of its ends.
    """
    if np.isfinite(low) and np.isfinite(high):
        axes.vlines(x, low, high, color=INK, linewidth=1.2, zorder=4)
        axes.hlines([low, high], x - half, x + half, color=INK, linewidth=1.2, zorder=4)


def draw_star(axes: Axes, x: float, y: float, word: str) -> None:
    """Write a mark just above a point.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    x, y : float
        The point.
    word : str
        Nothing is drawn when it is empty.
    """
    if word and np.isfinite(y):
        where: dict[str, Any] = {
            "xytext": (0, 1),
            "textcoords": "offset points",
            "ha": "center",
            "va": "bottom",
        }
        axes.annotate(word, (x, y), fontsize=11, fontweight="bold", **where)


def finish_axes(axes: Axes, ticks: Ticks, label: str) -> None:
    """Draw the line at 0 and the grid, and name both axes.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Which.
    ticks : Ticks
        Names of the places at 0, 1, 2 ….
    label : str
        What is drawn.
    """
    axes.axhline(0, color=INK, linewidth=0.9)
    axes.grid(axis="y")
    name_ticks(axes, ticks)
    axes.set_ylabel(label, parse_math=False)


def axis_limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Give an axis room for all that is drawn, for marks of p above it, and for 0.

    Parameters
    ----------
    values : sequence of ndarray
        NaN are passed over.

    Returns
    -------
    tuple of float
        -.1 and 1 where there is nothing to draw.
    """
    known = np.concatenate([*(np.ravel(part) for part in values), np.zeros(1)])
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    if high - low < 1e-9:
        return -0.1, 1.0
    room = 0.12 * (high - low)
    return low - room * (low < 0), high + room


def spread_over(n: int, half: float) -> np.ndarray:
    """Place marks side by side.

    Parameters
    ----------
    n : int
        How many.
    half : float
        How far the outer ones are from the middle.

    Returns
    -------
    ndarray, shape (n,)
        Shifts; 0 for a single one.
    """
    return np.linspace(-half, half, n) if n > 1 else np.zeros(1)
