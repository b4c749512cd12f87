"""Tables of sets of metamers as figures read them.

They have one measure, stages in order, and shares of valid metamers.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.figures.style import need_columns

STAGE_ORDER = ("early", "middle", "late")
STATES = ("valid", "failed", "not judged")
MEAN = "mean of evaluators"
"""The name of rows that are averages."""
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
    names, settings = (list(dict.fromkeys(rows[name])) for name in ("set", "setting"))
    stages = order_stages(rows["stage"].tolist())
    known = set(rows[list(SET_KEY)].itertuples(index=False, name=None))
    return [(a, b, c) for a in names for b in stages for c in settings if (a, b, c) in known]


def is_true(column: pd.Series) -> pd.Series:
    """Read truth values as a CSV or an HDF5 table may hold them; missing ones are false.

    Parameters
    ----------
    column : Series
        Boolean, numbers or text.

    Returns
    -------
    Series
        Boolean.
    """
    return column.map(lambda value: str(value).lower() in ("true", "1", "1.0")).astype(bool)


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
    rows = text_columns(table)
    ways = int(rows["ways"].iloc[0]) if ways is None else ways
    rows = rows[rows["ways"].astype(int) == ways]
    need_columns(rows, f"{what} ({ways} ways)", ())
    rule = str(rows["rule"].iloc[0]) if rule is None else rule
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
            f"the {what} table has no rows of {validity} metamers to draw; it has: {there}."
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
    ways = (
        f"{int(first['ways']):,} ways ({first['rule']})"
        if {"ways", "rule"} <= set(rows.columns)
        else ""
    )
    target = (
        f"wanted class: {targets.get(first['target'], first['target'])}"
        if "target" in rows.columns
        else ""
    )
    return "; ".join(filter(None, (ways, target)))


def text_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Make the names of sets, stages and settings text.

    Parameters
    ----------
    table : DataFrame
        Columns set, stage and setting.

    Returns
    -------
    DataFrame
        A copy; missing names are empty.
    """
    return table.assign(
        **{name: table[name].astype(object).fillna("").astype(str) for name in SET_KEY}
    )


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
        first = ", ".join(f"{name} '{again.iloc[0][name]}'" for name in key)
        raise InputError(
            f"the {what} table has several rows for {first}; choose one measure and target at a "
            "time."
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
    if validity == "not judged":
        return f"{unknown}/{valid + failed + unknown}"
    return f"{valid if validity == 'valid' else failed}/{valid + failed}"


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
    return (
        f"{validity.capitalize()} metamers only"
        if validity != "not judged"
        else "Metamers that nobody judged"
    )


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
    key = list(SET_KEY if rows["setting"].nunique() > 1 else SET_KEY[:2])
    return [" ".join(filter(None, parts)) for parts in rows[key].itertuples(index=False, name=None)]


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
    places_of: dict[str, dict[str, list[str]]] = {}
    for note, place, name in zip(
        rows["note"].astype(object).fillna("").astype(str), places, who, strict=True
    ):
        for part in filter(None, note.rstrip(".").split("; ")):
            places_of.setdefault(part, {}).setdefault(place, []).append(name)
    sentences = []
    for note, where in places_of.items():
        everyone = [len(names) == list(places).count(place) for place, names in where.items()]
        names = [
            place if all_of else f"{name_ids(dict.fromkeys(names))} of {place}"
            for (place, names), all_of in zip(where.items(), everyone, strict=True)
        ]
        everywhere = all(everyone) and len(where) == len(set(places))
        sentences.append(note if everywhere else f"{name_ids(names)}: {note}")
    return ". ".join(sentences)
