"""The errors that a user can cause or meet, and the words of their messages.

This module imports nothing of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


class InputError(ValueError):
    """What the user gave cannot be used; the message says what, which ids, and what to do.

    The command line prints the message as one line and exits with code 2.

    Examples
    --------
    >>> raise InputError("1 condition; give at least 4.")
    Traceback (most recent call last):
        ...
    neurometamer.errors.InputError: 1 condition; give at least 4.
    """


class DamagedFile(InputError):
    """A file of ours does not hold what was written: its checksum does not match.

    Whoever can make the contents again does so; for everybody else it is an `InputError` that names
    the file.
    """


class HoldsCode(InputError):
    """A file holds more than numbers, and reading it would run code from it."""


class FolderInUse(InputError):
    """Another process works in the folder; the message says which."""


class OutputError(OSError):
    """The system refused to write an output file.

    It keeps the system's number and words; ``filename`` is the file that should have been written.
    """


class Terminated(SystemExit):
    """The process was asked to end (SIGTERM, as Slurm and Docker send it); the exit code is 143."""

    def __init__(self) -> None:
        super().__init__(143)


def terminate(*_: object) -> None:
    """Handle SIGTERM as an exception, so that all that is open is saved and closed.

    Parameters
    ----------
    *_ : object
        Number of the signal and frame, as `signal.signal` gives them.

    Raises
    ------
    Terminated
        Always.
    """
    raise Terminated


def name_ids(ids: Iterable[object], limit: int = 5) -> str:
    """List at most `limit` ids and say how many there are in all.

    Parameters
    ----------
    ids : iterable
        The ids concerned.
    limit : int
        Largest number of ids in the text.

    Returns
    -------
    str
        For example ``"a, b, c, d, e … (12 in all)"``.

    Examples
    --------
    >>> name_ids(["a", "b", "c"], limit=2)
    'a, b … (3 in all)'
    """
    names = [str(name) for name in ids]
    shown = ", ".join(names[:limit])
    if len(names) <= limit:
        return shown
    return f"{shown} … ({len(names)} in all)"


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Build the error for a name that is not among the choices: the nearest first, then all.

    Parameters
    ----------
    kind : str
        What the name should have been, e.g. ``"model"``.
    name : str
        What came.
    choices : iterable of str
        What is known.

    Returns
    -------
    InputError
        To be raised by the caller.

    Examples
    --------
    >>> str(unknown_name("model", "alexnett", ["alexnet", "squeezenet1_0"]))
    "unknown model 'alexnett'; did you mean 'alexnet'? Known: alexnet, squeezenet1_0"
    """
    known = [str(choice) for choice in choices]
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = "."
    if nearest:
        hint = f"; did you mean '{nearest[0]}'?"
    listed = ", ".join(known)
    return InputError(f"unknown {kind} '{name}'{hint} Known: {listed}")


def duplicates(ids: Iterable[object]) -> list[str]:
    """Return the ids that occur more than once, each once, in order of first repetition.

    Parameters
    ----------
    ids : iterable
        Ids to look at; compared as text.

    Returns
    -------
    list of str
        Empty when all are unique.

    Examples
    --------
    >>> duplicates(["a", "b", "a", 1, "1"])
    ['a', '1']
    """
    seen: set[str] = set()
    again: dict[str, None] = {}
    for name in map(str, ids):
        if name in seen:
            again[name] = None
        seen.add(name)
    return list(again)


def need_columns(table: pd.DataFrame, columns: Iterable[str], name: str, cure: str = "") -> None:
    """Refuse a table that lacks columns.

    Parameters
    ----------
    table : pandas.DataFrame
        What came.
    columns : iterable of str
        Columns that it must have.
    name : str
        What the message calls it: ``"the stimulus table"``, or the path of its file.
    cure : str
        A sentence that says where such a table comes from, or what the columns are.

    Raises
    ------
    InputError
        With the columns that are missing and those that are there.

    Examples
    --------
    >>> import pandas as pd
    >>> trials = pd.DataFrame({"a": [1]})
    >>> need_columns(trials, ["a", "b"], "the table", "Add what is missing.")
    Traceback (most recent call last):
        ...
    neurometamer.errors.InputError: the table lacks the column(s) b; it has a. Add what is missing.
    """
    missing = [column for column in dict.fromkeys(columns) if column not in table.columns]
    if not missing:
        return
    present = name_ids(table.columns, 20) or "none"
    message = f"{name} lacks the column(s) {name_ids(missing)}; it has {present}."
    if cure:
        message = f"{message} {cure}"
    raise InputError(message)


def count_text(number: int, noun: str, plural: str = "") -> str:
    """Write a number of things, singular or plural.

    Parameters
    ----------
    number : int
        How many.
    noun : str
        The thing, singular.
    plural : str
        Its plural, where that is not the noun with an s.

    Returns
    -------
    str
        Number and noun.

    Examples
    --------
    >>> count_text(1, "ROI"), count_text(3, "ROI"), count_text(2, "person", "people")
    ('1 ROI', '3 ROIs', '2 people')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number} {plural or f'{noun}s'}"
