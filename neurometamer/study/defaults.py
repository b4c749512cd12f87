"""Defaults, meanings and choices of settings, taken from the functions that the settings are for.

Signatures and docstrings are read from the source files, because importing the functions that make
images would load torch, and a study file must be written and checked without it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

FunctionNode = ast.FunctionDef | ast.ClassDef


def look_up(place: str) -> Any:
    """Import what a place names.

    Parameters
    ----------
    place : str
        Module and name with a colon between them, such as ``"fmri.betas.estimate:UNITS"``.

    Returns
    -------
    object
        Function, class or table.

    Examples
    --------
    >>> look_up("fmri.betas.estimate:NOISE_MODELS")
    ('ar1', 'ols')
    """
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


def choices_of(place: str) -> Collection[str]:
    """Return the names that a table has now, those registered later included.

    Parameters
    ----------
    place : str
        See `look_up`; a mapping from names, or a collection of names. Of RDM measures, only those
        that need nothing but the values.

    Returns
    -------
    collection of str
        In the order of the table.
    """
    table = look_up(place)
    if not isinstance(table, Mapping):
        return tuple(table)
    return tuple(name for name, entry in table.items() if not getattr(entry, "needs", ""))


@functools.cache
def definition_of(place: str) -> FunctionNode:
    """Parse the function, or the dataclass, of a place.

    Parameters
    ----------
    place : str
        See `look_up`.

    Returns
    -------
    ast.FunctionDef or ast.ClassDef
        Its definition.

    Raises
    ------
    LookupError
        When there is none.
    """
    module, name = place.split(":")
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.origin is not None:
        source = Path(spec.origin).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, FunctionNode) and node.name == name:
                return node
    raise LookupError(f"there is no function or class {place}")


def default_of(place: str, parameter: str) -> Any:
    """Return the default of a parameter of a function, or of a field of a dataclass.

    Parameters
    ----------
    place : str
        See `look_up`.
    parameter : str
        Its name.

    Returns
    -------
    object
        Lists and tuples as tuples.

    Raises
    ------
    LookupError
        When there is no such parameter, or it has no default.

    Examples
    --------
    >>> default_of("stimuli_gen.adversarial:adversarial_noise", "noise_sd")
    0.1
    """
    node = definition_of(place)
    defaults: dict[str, ast.expr | None] = {}
    if isinstance(node, ast.ClassDef):
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                defaults[statement.target.id] = statement.value
    else:
        positional = [*node.args.posonlyargs, *node.args.args]
        for argument, value in zip(reversed(positional), reversed(node.args.defaults)):
            defaults[argument.arg] = value
        for argument, keyword_value in zip(node.args.kwonlyargs, node.args.kw_defaults):
            defaults[argument.arg] = keyword_value
    expression = defaults.get(parameter)
    if expression is None:
        raise LookupError(f"{place} has no parameter {parameter} with a default")
    if isinstance(expression, ast.Name):
        return look_up(f"{place.split(':')[0]}:{expression.id}")
    return ast.literal_eval(expression)


def meaning_of(place: str, parameter: str) -> str:
    """Return what the docstring of a function says of a parameter.

    Parameters
    ----------
    place : str
        See `look_up`.
    parameter : str
        Its name.

    Returns
    -------
    str
        The description on one line; empty when there is none.

    Examples
    --------
    >>> meaning_of("stimuli_gen.synthesis.constraints:Limits", "ball")
    'Keep the image within a ball around the photograph.'
    """
    docstring = ast.get_docstring(definition_of(place)) or ""
    lines = inspect.cleandoc(docstring).splitlines()
    words: list[str] = []
    is_described = False
    for line in lines:
        if line.startswith(" "):
            if is_described:
                words += line.split()
            continue
        names, separator, _ = line.partition(" : ")
        is_described = bool(separator) and parameter in names.split(", ")
    return " ".join(words)
