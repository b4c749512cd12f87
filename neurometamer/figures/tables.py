"""Tables as figures read them: rows chosen and refused, their notes, and the marks drawn from them.

Sets of metamers have one measure, stages in order, and shares of valid metamers. Rows of RSA have
values over subjects and of each, and marks of p with their family.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.figures.layout import Ticks, name_ticks
from neurometamer.figures.style import INK, need_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGE_ORDER = ("early", "middle", "late")
STATES = ("valid", "failed", "not judged")
MEAN_OF_EVALUATORS = "mean of evaluators"
"""The name of rows that average over evaluators."""
SET_KEY = ("set", "stage", "setting")
COUNTS = ("n_valid", "n_failed", "n_not_judged")


def order_stages(names: Sequence[object]) -> list[str]:
    """Put stages in the order early, middle, late; others follow as they come.

    Parameters
    ----------
    names : sequence
        Names, repeated or not.

    Returns
    -------
    list of str
        Each name once.

    Examples
    --------
    >>> order_stages(["late", "layer3", "early"])
    ['early', 'late', 'layer3']
    """
    present = list(dict.fromkeys(map(str, names)))
    known = [name for name in STAGE_ORDER if name in present]
    return known + [name for name in present if name not in STAGE_ORDER]


def order_sets(rows: pd.DataFrame) -> list[tuple[str, str, str]]:
    """List the sets of metamers of a table.

    Sets come in the order of the table, and within each its stages in order, and settings.

    Parameters
    ----------
    rows : DataFrame
        Columns set, stage and setting, as text.

    Returns
    -------
    list of tuple
        (set, stage, setting), each once.
    """
    names = dict.fromkeys(rows["set"])
    stages = order_stages(rows["stage"].tolist())
    settings = dict.fromkeys(rows["setting"])
    known = set(rows[list(SET_KEY)].itertuples(index=False, name=None))
    keys = itertools.product(names, stages, settings)
    return [key for key in keys if key in known]


def is_true(value: object) -> bool:
    """Read a yes or no as a CSV or an HDF5 table may hold it.

    Parameters
    ----------
    value : object
        Bool, number or text.

    Returns
    -------
    bool
        False for what is missing.

    Examples
    --------
    >>> is_true("True"), is_true(0.0), is_true(None)
    (True, False, False)
    """
    return str(value).lower() in ("true", "1", "1.0", "yes")


def are_true(column: pd.Series) -> pd.Series:
    """Read a column of truth values; see `is_true`.

    Parameters
    ----------
    column : Series
        Boolean, numbers or text.

    Returns
    -------
    Series
        Boolean.
    """
    return column.map(is_true).astype(bool)


def names_in(values: Iterable[object]) -> list[str]:
    """List the names that the cells of a column hold.

    Parameters
    ----------
    values : iterable of object
        Lists of names, in memory or as JSON; a missing cell has none.

    Returns
    -------
    list of str
        Each name once.

    Examples
    --------
    >>> names_in(['["V1", "V2"]', "[]", ["V2", "LO"], None])
    ['V1', 'V2', 'LO']
    """
    names: dict[str, None] = {}
    for value in values:
        if isinstance(value, str):
            held = json.loads(value) if value.startswith("[") else [value]
        elif isinstance(value, Sequence):
            held = value
        else:
            held = []
        names |= {str(name): None for name in held if name}
    return list(names)


def facts_in(cell: object) -> Mapping[str, Any]:
    """Read the mapping that a cell of a column holds.

    Parameters
    ----------
    cell : object
        A mapping, in memory or as JSON; a missing cell has none.

    Returns
    -------
    mapping
        Empty where there is none.

    Raises
    ------
    InputError
        When the cell holds anything else.

    Examples
    --------
    >>> facts_in('{"V1": [1.25, "conv1"]}'), facts_in(None)
    ({'V1': [1.25, 'conv1']}, {})
    """
    if isinstance(cell, Mapping):
        return cell
    if cell is None or cell != cell or cell == "":  # NaN differs from itself
        return {}
    facts: object = cell
    if isinstance(cell, str):
        with contextlib.suppress(ValueError):
            facts = json.loads(cell)
    if not isinstance(facts, Mapping):
        raise InputError(f"a cell holds {cell!r}; it needs a JSON object, such as {{}}.")
    return facts


def one_measure(
    table: pd.DataFrame, what: str, *, ways: int | None, rule: str | None, validity: str
) -> tuple[pd.DataFrame, str]:
    """Choose the rows of one number of ways, one rule and one state.

    Parameters
    ----------
    table : DataFrame
        Columns ways, rule, validity, set, stage and setting.
    what : str
        Name of the table in messages.
    ways : int, optional
        The first in the table by default.
    rule : str, optional
        The first of these ways by default.
    validity : str
        State of the metamers.

    Returns
    -------
    tuple of (DataFrame, str)
        The rows, and words for the measure.

    Raises
    ------
    InputError
        When no row is left.
    """
    rows = names_as_text(table, *SET_KEY)
    if ways is None:
        ways = int(rows["ways"].iloc[0])
    rows = rows[rows["ways"].astype(int) == ways]
    need_columns(rows, f"{what} ({ways} ways)", ())
    if rule is None:
        rule = str(rows["rule"].iloc[0])
    rows = rows[rows["rule"].astype(str) == rule]
    need_columns(rows, f"{what} ({ways} ways, {rule})", ())
    return of_state(rows, what, validity), measure_words(rows)


def of_state(rows: pd.DataFrame, what: str, validity: str) -> pd.DataFrame:
    """Choose the rows of metamers in one state.

    Parameters
    ----------
    rows : DataFrame
        With the column validity.
    what : str
        Name of the table in messages.
    validity : {"valid", "failed", "not judged"}
        The state.

    Returns
    -------
    DataFrame
        At least one row.

    Raises
    ------
    InputError
        When the state is unknown, or no metamer is in it; those that there are are named.
    """
    if validity not in STATES:
        raise unknown_name("state", validity, STATES)
    chosen = rows[rows["validity"] == validity]
    if chosen.empty:
        there = name_ids(dict.fromkeys(rows["validity"])) or "none"
        raise InputError(
            f"the {what} table has no rows of {validity} metamers to draw; it has: {there}. Give "
            "one of these as validity."
        )
    return chosen


def measure_words(rows: pd.DataFrame) -> str:
    """Name the measure of recognition that rows hold.

    Parameters
    ----------
    rows : DataFrame
        With or without the columns ways, rule and target.

    Returns
    -------
    str
        Such as ``1,000 ways (all classes); wanted class: the evaluator's own``.
    """
    targets = {
        "own": "the evaluator's own of the photograph",
        "truth": "the ground truth",
        "generator": "that of the networks that took part",
    }
    first = rows.iloc[0]
    parts = []
    if "ways" in rows.columns and "rule" in rows.columns:
        parts.append(f"{int(first['ways']):,} ways ({first['rule']})")
    if "target" in rows.columns:
        target = first["target"]
        parts.append(f"wanted class: {targets.get(target, target)}")
    return "; ".join(parts)


def refuse_repeats(rows: pd.DataFrame, what: str, key: Sequence[str]) -> None:
    """Refuse a table with several rows for one mark of the figure.

    Parameters
    ----------
    rows : DataFrame
        With the columns of `key`.
    what : str
        Name of the table.
    key : sequence of str
        Columns that tell the marks apart.

    Raises
    ------
    InputError
        Naming the first.
    """
    again = rows[rows.duplicated(list(key))]
    if len(again):
        row = again.iloc[0]
        first = ", ".join(f"{name} '{row[name]}'" for name in key)
        raise InputError(
            f"the {what} table has several rows for {first}; give the rows of one measure and "
            "target at a time."
        )


def share_words(row: pd.Series, validity: str) -> str:
    """Say how many of a set's metamers are in a state.

    Parameters
    ----------
    row : Series
        With n_valid, n_failed and n_not_judged.
    validity : str
        The state.

    Returns
    -------
    str
        Such as ``12/16``: of those that were judged; of all, for those that were not.
    """
    if row[list(COUNTS)].isna().any():
        return "–"
    valid, failed, unknown = (int(row[name]) for name in COUNTS)
    judged = valid + failed
    every = judged + unknown
    if validity == "not judged":
        return f"{unknown}/{every}"
    if validity == "valid":
        return f"{valid}/{judged}"
    return f"{failed}/{judged}"


def share_title(validity: str) -> str:
    """Name what `share_words` says.

    Parameters
    ----------
    validity : str
        The state.

    Returns
    -------
    str
        Such as ``valid of judged``.
    """
    return "not judged of all" if validity == "not judged" else f"{validity} of judged"


def state_words(validity: str) -> str:
    """Say which metamers a figure shows.

    Parameters
    ----------
    validity : str
        The state.

    Returns
    -------
    str
        Such as ``Valid metamers only``.
    """
    if validity == "not judged":
        return "Metamers that nobody judged"
    return f"{validity.capitalize()} metamers only"


def set_names(rows: pd.DataFrame) -> list[str]:
    """Name the set of each row in a note.

    Stage and setting are named too where there are several.

    Parameters
    ----------
    rows : DataFrame
        Columns set, stage and setting, as text.

    Returns
    -------
    list of str
        One name a row.
    """
    columns = ["set", "stage"]
    if rows["setting"].nunique() > 1:
        columns.append("setting")
    names = []
    for parts in rows[columns].itertuples(index=False, name=None):
        names.append(" ".join(filter(None, parts)))
    return names


def gather_notes(rows: pd.DataFrame, places: Sequence[str], who: Sequence[str]) -> str:
    """Join what the column ``note`` says, each text once with whom it is said of.

    Parameters
    ----------
    rows : DataFrame
        With or without a column note.
    places : sequence of str
        The set of each row.
    who : sequence of str
        What each row is of in its set.

    Returns
    -------
    str
        Empty when there is nothing to tell.
    """
    if "note" not in rows.columns:
        return ""
    notes = names_as_text(rows, "note")["note"]
    said_of: dict[str, dict[str, list[str]]] = {}
    for note, place, name in zip(notes, places, who, strict=True):
        if note:
            said = said_of.setdefault(note.rstrip("."), {})
            said.setdefault(place, []).append(name)
    n_rows = collections.Counter(places)
    sentences = []
    for note, names_at in said_of.items():
        whom = []
        everywhere = len(names_at) == len(n_rows)
        for place, names in names_at.items():
            if len(names) == n_rows[place]:
                whom.append(place)
            else:
                whom.append(f"{name_ids(dict.fromkeys(names))} of {place}")
                everywhere = False
        sentences.append(note if everywhere else f"{name_ids(whom)}: {note}")
    return ". ".join(sentences)


# ---------------------------------------------------------------------------------- rows of RSA


MEAN = "mean"
"""In the column ``subject``: over subjects."""
PEOPLE = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of subjects; more than these are drawn alike."""
QUANTITIES = {
    "similarity": "similarity of RDMs",
    "difference": "difference of similarities",
}
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
    texts = {}
    for name in columns:
        if name in table.columns:
            known = table[name].astype(object).fillna("")
            texts[name] = known.astype(str)
    return table.assign(**texts)


def one_image_type(table: pd.DataFrame, what: str, image_type: str | None) -> pd.DataFrame:
    """Choose the rows of one image type; a table of one needs no choice.

    Parameters
    ----------
    table : DataFrame
        With or without a column kind.
    what : str
        Its name in messages.
    image_type : str, optional
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
    if image_type is None and len(known) > 1:
        raise InputError(
            f"the {what} table holds the image types {', '.join(known)}; give the one to draw, "
            f"such as image_type='{known[0]}'."
        )
    chosen = known[0] if image_type is None else image_type
    if chosen not in known:
        raise unknown_name("image type", chosen, known)
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
    people = []
    for subject in dict.fromkeys(rows["subject"]):
        if subject not in (MEAN, "combined"):
            people.append(subject)
    return people


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
    kept = [name for name in (*key, "ceiling_low", "ceiling_high") if name in rows.columns]
    summaries: list[dict[Any, Any]] = []
    for _, part in rows.groupby(list(key), sort=False):
        over_subjects = part[part["subject"] == MEAN]
        if len(over_subjects):
            summary = over_subjects.iloc[0].to_dict()
        elif len(part) == 1:
            summary = part.iloc[0].to_dict()
        else:
            summary = part.iloc[0][kept].to_dict()
            summary[value] = part[value].astype(float).mean()
            summary["subject"] = MEAN
        averaged = len(part) > 1 and over_subjects.empty
        summaries.append(summary | {"made_here": averaged})
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
    for name in names:
        if name in rows.columns:
            column = rows[name]
            return column.to_numpy(dtype=float)
    return np.full(len(rows), np.nan)


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
    is_known = np.isfinite(p)
    is_small = p < 0.05
    signs = np.where(is_known & is_small, "*", "")
    return signs.tolist()


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
    words = rows[column].dropna().astype(str)
    names = [name for name in dict.fromkeys(words) if name]
    text = between.join(names[:4])
    n_more = len(names) - 4
    if n_more > 0:
        text += f" and {n_more} more"
    return text


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
        has_p = np.isfinite(numbers_of(rows, "p")).any()
        return "P is not corrected in this table, so none is marked" if has_p else ""
    tested = rows[np.isfinite(corrected)]
    parts = [each_name(tested, "correction")]
    if not parts[0] and "p_corrected" not in rows.columns:
        parts = ["Benjamini-Hochberg"]
    if "family" in tested.columns:
        # Subjects have families of their own, which need no line each.
        family = tested["family"].dropna().astype(str)
        family = family.str.replace(r"\b(subject|model|contrast) [^,]+", r"each \1", regex=True)
        families = each_name(family.to_frame("family"), "family", " or ")
        parts.append(f"over {families}" if families else "")
    return f"*: corrected p < .05 ({', '.join(filter(None, parts))})"


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
    if not (np.isfinite(low) and np.isfinite(high)):
        return
    style: dict[str, Any] = {
        "color": INK,
        "linewidth": 1.2,
        "zorder": 4,
    }
    axes.vlines(x, low, high, **style)
    axes.hlines([low, high], x - half, x + half, **style)


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
        axes.annotate(
            word,
            (x, y),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=11,
            fontweight="bold",
        )


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
    low = 0.0
    high = 0.0
    for part in values:
        low = float(np.nanmin(part, initial=low))
        high = float(np.nanmax(part, initial=high))
    if high - low < 1e-9:
        return -0.1, 1.0
    room = 0.12 * (high - low)
    if low < 0:
        low -= room
    return low, high + room


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
    if n == 1:
        return np.zeros(1)
    return np.linspace(-half, half, n)
