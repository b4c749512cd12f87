"""What the command line takes options and names from: functions, dataclasses and tables.

Modules that import torch are read instead of imported, so that help does not wait for it.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neurometamer.study.defaults import definition_of

HEAVY = ("import torch", "from torch ")
"""How a line at the top of modules begins that are read."""


def import_function(place: str) -> Callable[..., Any]:
    """Import a function.

    Parameters
    ----------
    place : str
        ``MODULE:NAME``.

    Returns
    -------
    callable
        The function.
    """
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def described(place: str) -> Any:
    """Give a function or dataclass, or what looks like it, for its parameters and docstring.

    Parameters
    ----------
    place : str
        ``MODULE:NAME``.

    Returns
    -------
    callable
        Of a module that is read: without a body.

    Raises
    ------
    ImportError
        When a library is not there.
    """
    module, _, name = place.partition(":")
    if not _is_read(module):
        return import_function(place)
    node = definition_of(place)
    is_class = isinstance(node, ast.ClassDef)
    body = [line for line in node.body if is_class and isinstance(line, ast.AnnAssign)]
    docstring = ast.Expr(ast.Constant(ast.get_docstring(node) or ""))
    short = type(node)(**{field: getattr(node, field) for field in node._fields})
    short.decorator_list, short.body = [], [docstring, *body]
    future = ast.ImportFrom("__future__", [ast.alias("annotations")], 0)
    tree = ast.fix_missing_locations(ast.Module([future, short], []))
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(tree, place, "exec"), names)
    made = names[name]
    if is_class:
        made = dataclasses.dataclass(kw_only=True)(made)
    made.__module__ = module
    return made


def names_in(place: str) -> dict[str, str]:
    """List the names of a table, or those that a function lists.

    Parameters
    ----------
    place : str
        ``MODULE:NAME``.

    Returns
    -------
    dict of str to str
        Name to what the table says of it, if it does.

    Raises
    ------
    ImportError
        When a library is not there.
    """
    module, _, attribute = place.partition(":")
    names = {}
    if _is_read(module):
        for line in ast.parse(_source(module)).body:
            if not isinstance(line, ast.AnnAssign) or ast.unparse(line.target) != attribute:
                continue
            written = line.value
            if not isinstance(written, ast.Dict):
                raise ImportError(f"{module}:{attribute} is no dict that is written out")
            for key, entry in zip(written.keys, written.values):
                keywords = entry.keywords if isinstance(entry, ast.Call) else []
                texts = [ast.literal_eval(word.value) for word in keywords if word.arg == "help"]
                assert key is not None
                names[ast.literal_eval(key)] = texts[0] if texts else ""
        return names
    table = getattr(importlib.import_module(module), attribute)
    if callable(table):
        table = table()
    for name in table:
        known = table[name] if isinstance(table, Mapping) else ""
        text = getattr(known, "help", known)
        names[name] = text if isinstance(text, str) else ""
    return names


def _is_read(module: str) -> bool:
    lines = [] if module in sys.modules else _source(module).splitlines()
    return any(line.startswith(HEAVY) for line in lines)


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ImportError(f"there is no module {module}")
    return Path(spec.origin).read_text(encoding="utf-8")
