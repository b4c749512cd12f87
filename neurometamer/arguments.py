"""Types at the public door: what a package exports checks its arguments against its own annotations.

A function that is taken from `neurometamer`, `stimuli_gen` or `fmri` refuses an argument of another type than its
signature says, by the argument's name, before any work. Inside, modules import from each other and nothing is checked
twice.
"""

from __future__ import annotations

import ast
import collections.abc
import dataclasses
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from neurometamer.store import InputError

_ITERABLES = (
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Collection,
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Set,
)
_NUMBERS: Mapping[type, tuple[type, ...]] = {int: (Integral,), float: (Real,), bool: (bool, np.bool_)}
_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type(None): "None",
    np.ndarray: "an array",
    os.PathLike: "a path",
}


def checked_door(
    attached: tuple[Callable[[str], Any], Callable[[], list[str]], list[str]],
    package: str,
    *,
    own_checks: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Let the functions of a lazily loaded package check the types of their arguments.

    Parameters
    ----------
    attached : tuple
        What ``lazy_loader.attach`` gave: ``__getattr__``, ``__dir__`` and ``__all__``.
    package : str
        Its name.
    own_checks : mapping of str to sequence of str, optional
        Function to the arguments whose type it checks itself, because it has more to say about them.

    Returns
    -------
    tuple
        The same three; functions come with the check, classes and values as they are.
    """
    load, names, exported = attached

    def _get(name: str) -> Any:
        value = load(name)
        if inspect.isfunction(value):
            value = _checked(value, package, (own_checks or {}).get(name, ()))
            setattr(sys.modules[package], name, value)  # in place of what lazy_loader keeps there
        return value

    return _get, names, exported


def _checked(function: Callable[..., Any], package: str, skipped: Sequence[str]) -> Callable[..., Any]:
    @functools.wraps(function)
    def _call(*args: Any, **kwargs: Any) -> Any:
        check_arguments(function, args, kwargs, skipped)
        return function(*args, **kwargs)

    _call.__module__ = package  # where pickle finds it again
    return _call


def check_arguments(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    skipped: Sequence[str] = (),
) -> None:
    """Compare arguments with the annotations of a function.

    Parameters
    ----------
    function : callable
        Its annotations are read; what has none, or one that is not understood, is not checked.
    args : tuple
        Positional arguments.
    kwargs : mapping
        Keyword arguments.
    skipped : sequence of str
        Names of arguments that are not checked here.

    Raises
    ------
    InputError
        For the first argument of another type; its name, the types that it may have and what came are named.
    """
    signature, annotations = inspect.signature(function), _annotations(function)
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:  # a name that the function does not know: Python says it when the function is called
        return
    for name, value in given.items():
        parameter = signature.parameters[name]
        if name in skipped or name not in annotations or parameter.kind is parameter.VAR_KEYWORD:
            continue
        values = value if parameter.kind is parameter.VAR_POSITIONAL else (value,)
        for one in values:
            if one is not parameter.default and not fits(one, annotations[name]):
                raise InputError(
                    f"{function.__name__}: {name} must be {type_words(annotations[name])}, not {_shown(one)}."
                )


def check_fields(made: Any) -> None:
    """Compare the fields of a dataclass with its annotations; to be called first in its ``__post_init__``.

    Parameters
    ----------
    made : object
        Of a dataclass.

    Raises
    ------
    InputError
        For the first field of another type.
    """
    kind: Any = type(made)
    annotations = _annotations(kind)
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        if field.init and value is not field.default and not fits(value, annotations.get(field.name, Any)):
            raise InputError(
                f"{type(made).__name__}: {field.name} is of the wrong type; it must be "
                f"{type_words(annotations[field.name])}, not {_shown(value)}."
            )


@functools.cache
def _annotations(function: Any) -> dict[str, Any]:
    """Read annotations, also those whose names are imported for type checkers only."""
    module = sys.modules[function.__module__]
    names = dict(vars(module))
    try:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                exec(compile(ast.Module(node.body, []), str(module.__file__), "exec"), names)
        return typing.get_type_hints(function, names)
    except (ImportError, NameError, OSError, TypeError):  # an optional package that is not there, no source …
        return {}


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value is of the type of an annotation.

    Parameters
    ----------
    value : object
        Anything.
    annotation : object
        A type, union, literal, or collection of these. Arrays may be given as lists, and numbers as NumPy scalars.

    Returns
    -------
    bool
        True, too, for annotations that are not understood.

    Examples
    --------
    >>> fits(3, float), fits("3", float), fits("abc", Sequence := collections.abc.Sequence[str]), fits(["a"], Sequence)
    (True, False, False, True)
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is typing.Literal:
        return isinstance(value, tuple({type(one) for one in inner}))
    kind = origin or annotation
    if kind in (None, type(None)):
        return value is None
    if not isinstance(kind, type) or kind in (Any, object):
        return True
    if kind in _NUMBERS:
        return isinstance(value, _NUMBERS[kind])
    if kind is np.ndarray:
        return (hasattr(value, "__array__") and not _is_table(value)) or isinstance(value, (list, tuple))
    if kind is collections.abc.Callable:
        return callable(value)
    if kind in _ITERABLES:
        return _fits_iterable(value, kind, inner)
    return getattr(kind, "_is_protocol", False) or isinstance(value, kind)


def _is_table(value: Any) -> bool:
    return hasattr(value, "columns")  # a DataFrame, without importing pandas


def _fits_iterable(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") or _is_table(value):
        return False
    if kind is collections.abc.Sequence and (isinstance(value, Mapping) or not hasattr(value, "__len__")):
        return False
    if getattr(value, "ndim", 1) == 0:
        return False
    if not inner or not hasattr(value, "__len__"):
        return True
    if kind is tuple and Ellipsis not in inner:
        return all(map(fits, value, inner))  # how many there must be, the function says better
    elements = value if isinstance(value, (list, tuple)) else list(value)[:1]  # an array has one type
    return all(fits(one, inner[0]) for one in elements)


def type_words(annotation: Any) -> str:
    """Say a type in words.

    Parameters
    ----------
    annotation : object
        See `fits`.

    Returns
    -------
    str
        For a message.

    Examples
    --------
    >>> type_words(str | None), type_words(collections.abc.Sequence[int])
    ('text or None', 'a sequence (a whole number each)')
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_words(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_words, inner)))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    kind = origin or annotation
    if kind in _WORDS:
        return _WORDS[kind]
    if kind is collections.abc.Callable:
        return "a function"
    if kind in _ITERABLES:
        each = list(dict.fromkeys(type_words(one) for one in inner if one is not Ellipsis))
        return f"a sequence ({', '.join(each)} each)" if len(each) == 1 else "a sequence"
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "a mapping"
    return f"a {getattr(kind, '__name__', str(kind))}"


def _shown(value: Any) -> str:
    """Show what came, shortly."""
    if value is None or isinstance(value, (bool, int, float, str)):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}…"
    return f"a {type(value).__name__}"
