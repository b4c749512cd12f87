"""Short texts of long objects: what `repr` shows of settings, image sets, patterns and networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import MISSING, fields
from itertools import islice
from typing import Any, TypeVar

LONGEST = 400
"""Characters of a summary."""
_WORD = 60
"""Characters of one value in it."""
_NAMED = 3
"""Names of a longer list that are shown."""
_ID_COLUMNS = ("id", "condition", "roi", "name")

Class = TypeVar("Class", bound=type)


def short_repr(cls: Class) -> Class:
    """Give a dataclass a `repr` of at most `LONGEST` characters.

    It shows shapes, names, and values that differ from the default; of a class with a method
    ``_summary``, the values that it returns by name.

    Parameters
    ----------
    cls : type
        A dataclass.

    Returns
    -------
    type
        The same, with another ``__repr__``.

    Examples
    --------
    >>> import numpy as np
    >>> from dataclasses import dataclass
    >>> @short_repr
    ... @dataclass
    ... class Responses:
    ...     values: np.ndarray
    ...     names: tuple = ()
    ...     seed: int = 0
    >>> Responses(np.zeros((3, 5)), names=("a", "b", "c", "d", "e"))
    Responses(values=float64 (3, 5), names=5: a, b, c …)
    """

    def _shown(self: Any) -> str:
        if hasattr(self, "_summary"):
            return summarize(type(self).__name__, self._summary().items())
        values = {}
        for field in fields(self):
            default = field.default
            if default is MISSING and field.default_factory is not MISSING:
                default = field.default_factory()
            value = getattr(self, field.name)
            if not is_same(value, default):
                values[field.name] = value
        return summarize(type(self).__name__, values.items())

    cls.__repr__ = _shown  # type: ignore[assignment]
    return cls


def is_same(value: Any, default: Any) -> bool:
    """Return whether a setting has its default value.

    Parameters
    ----------
    value, default : object
        Arrays and tables are never the same.

    Returns
    -------
    bool
        True for equal values of one type.
    """
    if value is default:
        return True
    are_mappings = isinstance(value, Mapping) and isinstance(default, Mapping)
    if are_mappings and not value and not default:
        return True
    if type(value) is not type(default) or hasattr(value, "shape"):
        return False
    return bool(value == default)


def summarize(name: str, values: Iterable[tuple[str, Any]]) -> str:
    """Write ``Name(field=value, …)`` with short values, and leave out values that do not fit.

    Parameters
    ----------
    name : str
        Name of the type.
    values : iterable of (str, object)
        Names and values of the fields, the most important first.

    Returns
    -------
    str
        At most `LONGEST` characters.
    """
    parts = [f"{field}={describe(value)}" for field, value in values]
    listed = ", ".join(parts)
    n_left_out = 0
    while len(f"{name}({listed})") > LONGEST:
        n_left_out += 1
        shown = parts[: len(parts) - n_left_out]
        listed = ", ".join([*shown, f"and {n_left_out} more"])
    return f"{name}({listed})"


def describe(value: Any) -> str:
    """Describe one value in a few words.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    str
        Type and shape of an array, rows and names of a table, number and first names of a list,
        else its `repr`, cut.
    """
    if hasattr(value, "columns") and hasattr(value, "iloc"):
        columns = _names([str(name) for name in value.columns])
        known = [name for name in _ID_COLUMNS if name in value.columns]
        rows = ""
        if known and len(value):
            ids = dict.fromkeys(value[known[0]])
            names = _names([str(name) for name in ids])
            rows = f", {known[0]} {names}"
        return f"<{len(value)} rows{rows}; columns {columns}>"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = str(value.dtype).removeprefix("torch.")
        return f"{kind} {tuple(value.shape)}"
    if hasattr(value, "named_parameters"):
        return type(value).__name__
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    if isinstance(value, (list, tuple, Set, Mapping)):
        if len(value) <= _NAMED and len(repr(value)) <= _WORD:
            return _cut(repr(value), _WORD)
        first = []
        for element in islice(value, _NAMED + 1):
            text = element if isinstance(element, str) else describe(element)
            first.append(_cut(text, _WORD // 3))
        names = _names(first)
        return f"{len(value)}: {names}"
    text = repr(value)
    return _cut(text, LONGEST // 2 if "(" in text else _WORD)


def _names(names: list[str]) -> str:
    shown = names[:_NAMED]
    listed = ", ".join(_cut(name, _WORD // 2) for name in shown)
    if len(names) > _NAMED:
        return f"{listed} …"
    return listed


def _cut(text: str, length: int) -> str:
    words = text.split()
    line = " ".join(words)
    if len(line) <= length:
        return line
    return f"{line[: length - 1]}…"
