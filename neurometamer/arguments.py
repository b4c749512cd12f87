"""Types of arguments: what a package exports checks its arguments against its annotations.

A public function is marked with `checked` or `checked_with`: it refuses an argument of another type
than its signature says, by the argument's name, before any work, from wherever it was imported.
Lists, tensors and columns become arrays where an array is asked for, and arrays become lists where
a sequence is. What annotations cannot say, such as shapes and the columns of tables, is said to
`checked_with`.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import os
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neurometamer.errors import InputError, need_columns, unknown_name

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Options = TypeVar("_Options")

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
_NUMBERS: Mapping[type, tuple[type, ...]] = {
    int: (Integral,),
    float: (Real,),
    bool: (bool, np.bool_),
}
_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    type(None): "None",
    np.ndarray: "an array",
    os.PathLike: "a path",
}
_NOT_NUMBERS: Mapping[str, str] = {
    "U": "text",
    "T": "text",
    "S": "bytes",
    "O": "objects",
    "c": "complex numbers",
}
"""Kind of a NumPy type to its name in messages."""

_OPENERS: Mapping[str, str] = {
    "Activations": "read_activations",
    "DataFrame": "pandas.read_csv",
    "NullDistribution": "stimuli_gen.read_null",
    "Patterns": "fmri.read_patterns",
    "RDMs": "read_rdms",
    "StimulusSet": "stimuli_gen.read_stimuli",
}
"""Type to the function that reads it, for users who give the path of a file."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns that a table must have.

    Parameters
    ----------
    name : str
        What messages call the table.
    cure : str
        A sentence that says where such a table comes from.
    columns : tuple of str
        Their names.
    """

    name: str
    cure: str
    columns: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class KeywordsOf:
    """Say which function or dataclass takes the further keyword arguments of a function.

    It stands in the annotation of ``**options``; the command line makes an option of each.

    Parameters
    ----------
    target : str
        ``MODULE:NAME`` of the function or dataclass.
    names : tuple of str
        Arguments of the target that may be given; all when empty.
    without : tuple of str
        Arguments of the target that may not be given.

    Examples
    --------
    >>> Options = typing.Annotated[Any, KeywordsOf("stimuli_gen.presets:Recipe", ("steps",))]
    >>> typing.get_args(Options)[1].names
    ('steps',)
    """

    target: str
    names: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


def from_options(kind: type[_Options], options: Mapping[str, Any], what: str) -> _Options:
    """Make a dataclass of further keyword arguments.

    Parameters
    ----------
    kind : type
        A dataclass with keywords only.
    options : mapping
        Fields to values; others have their defaults.
    what : str
        What they are, for the message.

    Returns
    -------
    object
        Of that kind.

    Raises
    ------
    InputError
        When a name is none of its fields; the dataclass refuses wrong values.

    Examples
    --------
    >>> from neurometamer.run_options import RunOptions
    >>> from_options(RunOptions, {"batch_size": 4}, "setting of a run").batch_size
    4
    """
    known = [field.name for field in dataclasses.fields(typing.cast(Any, kind))]
    for name in options:
        if name not in known:
            raise unknown_name(what, name, known)
    return kind(**options)


@dataclasses.dataclass(frozen=True)
class _Rules:
    """Arguments of `checked_with` for one function."""

    own: Sequence[str] = ()
    unbounded: Sequence[str] = ()
    finite: Sequence[str] = ()
    whole: Sequence[str] = ()
    shapes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    tables: Mapping[str, Columns] = dataclasses.field(default_factory=dict)


def checked(function: _Function) -> _Function:
    """Let a public function check its arguments against its annotations, before any work.

    Parameters
    ----------
    function : callable
        What is decorated.

    Returns
    -------
    callable
        The function with the check; see `checked_with` for what annotations cannot say.

    Examples
    --------
    >>> @checked
    ... def largest(values: np.ndarray, axis: int = 0) -> np.ndarray:
    ...     return values.max(axis=axis)
    >>> largest([[1, 2], [3, 0]]).tolist()
    [3, 2]
    >>> largest([[1, 2], [3, 0]], axis="rows")
    Traceback (most recent call last):
        ...
    neurometamer.errors.InputError: largest: axis must be a whole number, not 'rows'.
    """
    return _checked(function, _Rules())


def checked_with(
    *,
    own: Sequence[str] = (),
    unbounded: Sequence[str] = (),
    finite: Sequence[str] = (),
    whole: Sequence[str] = (),
    shapes: Mapping[str, str] | None = None,
    tables: Mapping[str, Columns] | None = None,
) -> Callable[[_Function], _Function]:
    """Let a public function check its arguments against its annotations and what these cannot say.

    Parameters
    ----------
    own : sequence of str
        Arguments that the function checks itself, because it has more to say about them.
    unbounded : sequence of str
        Numbers that may be infinite.
    finite : sequence of str
        Arrays that may not hold NaN or infinite values.
    whole : sequence of str
        Arrays of whole numbers, such as rows.
    shapes : mapping of str to str, optional
        Argument to its axes, such as ``"n units"``. An axis of a name has one length in all
        arguments, one that is a number has this length, and ``"... n"`` lets any axes come before.
    tables : mapping of str to Columns, optional
        Argument to the columns that it must have.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> @checked_with(shapes={"x": "n units", "w": "n"})
    ... def weigh(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    ...     return x.T @ w
    >>> weigh([[1, 2], [3, 0]], [1, 2, 3])
    Traceback (most recent call last):
        ...
    neurometamer.errors.InputError: weigh: w must have the shape (n), not (3); n is 2 in x.
    """
    rules = _Rules(own, unbounded, finite, whole, shapes or {}, tables or {})
    return functools.partial(_checked, rules=rules)


def _checked(function: _Function, rules: _Rules) -> _Function:
    @functools.wraps(function)
    def _call(*args: Any, **kwargs: Any) -> Any:
        checked_args, checked_kwargs = _checked_arguments(function, args, kwargs, rules)
        return function(*checked_args, **checked_kwargs)

    return typing.cast(_Function, _call)


def _checked_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], rules: _Rules
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    signature = _signature(function)
    annotations = _annotations(function)
    try:
        bound = signature.bind_partial(*args, **kwargs)
    except TypeError:
        unknown = [name for name in kwargs if name not in signature.parameters]
        if unknown:
            what = f"argument of {function.__name__}"
            raise unknown_name(what, unknown[0], list(signature.parameters)) from None
        # too many, or one twice: Python says it when the function is called
        return args, kwargs
    given = bound.arguments
    changed = False
    for name, value in given.items():
        parameter = signature.parameters[name]
        if name in rules.own or name not in annotations:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            check_keywords(value, annotations[name], function)
            continue
        where = f"{function.__name__}: {name}"
        annotation = annotations[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            for element in value:
                _check(element, annotation, where)
        elif value is not parameter.default:
            _check(value, annotation, where)
            given[name] = converted(value, annotation, where)
            changed |= given[name] is not value
            _check_number(given[name], where, is_unbounded=name in rules.unbounded)
    _check_contents(function.__name__, given, rules)
    if changed:
        return bound.args, bound.kwargs
    return args, kwargs


def check_keywords(given: Mapping[str, Any], annotation: Any, function: Callable[..., Any]) -> None:
    """Refuse further keyword arguments that none of those takes whom `KeywordsOf` names.

    Parameters
    ----------
    given : mapping of str to object
        The further keyword arguments.
    annotation : object
        That of ``**options``; without `KeywordsOf` nothing is refused.
    function : callable
        Whose they are.

    Raises
    ------
    InputError
        For the first that is unknown, with the nearest.
    """
    targets = [part for part in typing.get_args(annotation) if isinstance(part, KeywordsOf)]
    known = list(_signature(function).parameters)[:-1]
    for target in targets:
        taken = target.names
        if not taken:
            module, name = target.target.split(":")
            taker = getattr(importlib.import_module(module), name)
            taken = tuple(_signature(taker).parameters)
        known += [name for name in taken if name not in target.without]
    for name in given:
        if targets and name not in known:
            raise unknown_name(f"argument of {function.__name__}", name, known)


def _check(value: Any, annotation: Any, where: str) -> None:
    if not fits(value, annotation):
        message = f"{where} must be {type_words(annotation)}, not {shown(value)}"
        opener = _OPENERS.get(getattr(annotation, "__name__", ""))
        if opener and isinstance(value, (str, os.PathLike)):
            message = f"{message}; {opener} opens files"
        raise InputError(f"{message}.")


def _check_number(value: Any, where: str, *, is_unbounded: bool) -> None:
    if not isinstance(value, Real):
        return
    is_infinite = abs(value) == float("inf")
    if value != value or (is_infinite and not is_unbounded):
        raise InputError(f"{where} is {float(value)}; it must be a finite number.")


def _check_contents(function: str, given: Mapping[str, Any], rules: _Rules) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, axes in rules.shapes.items():
        if given.get(name) is not None:
            shape = np.shape(given[name])
            _check_shape(shape, axes.split(), sizes, function, name)
    for name in rules.finite:
        values = given.get(name)
        if values is not None and not np.isfinite(values).all():
            n_wrong = int((~np.isfinite(values)).sum())
            raise InputError(
                f"{function}: {name} has {n_wrong} values that are NaN or infinite; leave them out."
            )
    for name in rules.whole:
        values = given.get(name)
        dtype = np.asarray(values).dtype
        if values is not None and dtype.kind not in "iu":
            raise InputError(f"{function}: {name} must be whole numbers, not {dtype}.")
    for name, needed in rules.tables.items():
        if given.get(name) is not None:
            need_columns(given[name], needed.columns, needed.name, needed.cure)


def _check_shape(
    shape: tuple[int, ...],
    axes: list[str],
    sizes: dict[str, tuple[int, str]],
    function: str,
    name: str,
) -> None:
    """Compare a shape with the names of its axes.

    Remember how long each axis is and where that was seen.
    """
    named = axes[1:] if axes[0] == "..." else axes
    expected_shape = ", ".join(axes)
    given_shape = ", ".join(str(length) for length in shape)
    wanted = f"{function}: {name} must have the shape ({expected_shape}), not ({given_shape})"
    n_before = len(shape) - len(named)
    if n_before < 0 or (n_before > 0 and named is axes):
        raise InputError(f"{wanted}.")
    for axis, length in zip(named, shape[n_before:], strict=True):
        if axis.isdigit():
            if length != int(axis):
                raise InputError(f"{wanted}.")
            continue
        expected, other = sizes.setdefault(axis, (length, name))
        if length != expected:
            raise InputError(f"{wanted}; {axis} is {expected} in {other}.")
        if not length:
            raise InputError(f"{wanted}: {axis} is 0; give at least 1.")


_signature = functools.cache(inspect.signature)


def converted(value: Any, annotation: Any, where: str) -> Any:
    """Turn lists, tensors and columns into what an annotation says.

    An annotation of an array gives a NumPy array, one of a sequence a list.

    Parameters
    ----------
    value : object
        What fits the annotation.
    annotation : object
        See `fits`.
    where : str
        What the messages call the value.

    Returns
    -------
    object
        The value itself where nothing had to be done; images and responses on disk stay there.

    Raises
    ------
    InputError
        When rows have different lengths, values are no numbers, or some are masked.
    """
    origin = typing.get_origin(annotation)
    inner = typing.get_args(annotation)
    if origin is typing.Annotated:
        return converted(value, inner[0], where)
    if origin in (typing.Union, types.UnionType):
        is_list = isinstance(value, (list, tuple))
        if isinstance(value, (str, int, float)) or (is_list and np.ndarray not in inner):
            return value
        kinds = [kind for kind in inner if fits(value, kind)]
        kinds.sort(key=lambda kind: (kind is np.ndarray) == is_list)  # a list may be a sequence
        return converted(value, kinds[0], where) if kinds else value
    if annotation is np.ndarray:
        return _as_array(value, where)
    if annotation in _NUMBERS and _is_one_number(value):
        return value.item()
    # other mappings than dict may read from disk
    if origin is not None and inner[-1:] == (np.ndarray,) and isinstance(value, dict):
        arrays = {}
        for key, array in value.items():
            arrays[key] = _as_array(array, f"{where}[{key!r}]")
        is_changed = any(arrays[key] is not value[key] for key in arrays)
        return arrays if is_changed else value
    # `if not names` in a function must not meet an array
    if origin is collections.abc.Sequence and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _as_array(value: Any, where: str) -> Any:
    if type(value) is not np.ndarray and not isinstance(value, np.memmap):
        if np.ma.is_masked(value):
            raise InputError(f"{where} has masked values; fill them, or leave them out.")
        if hasattr(value, "detach"):  # a tensor, perhaps of another device or with a gradient
            value = value.detach().cpu()
        elif hasattr(value, "shape") and hasattr(value, "__getitem__"):
            is_in_memory = isinstance(value, (np.ndarray, np.generic))
            if not is_in_memory and not hasattr(value, "to_numpy"):
                return value  # read part by part, such as data sets of h5py and our stored images
        try:
            value = np.asarray(value)
        except (TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{where} cannot be made an array: {reason} Give rows of equal length."
            ) from error
    if value.dtype.kind not in "biuf":
        words = _NOT_NUMBERS.get(value.dtype.kind, str(value.dtype))
        raise InputError(f"{where} must be numbers, not {words}.")
    return value


def check_fields(made: Any) -> None:
    """Compare the fields of a dataclass with its annotations.

    Call it first in ``__post_init__``.

    Parameters
    ----------
    made : object
        Instance of a dataclass.

    Raises
    ------
    InputError
        For the first field of another type.
    """
    kind: Any = type(made)
    annotations = _annotations(kind)
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        is_given = field.init and value is not field.default
        if is_given and not fits(value, annotations.get(field.name, Any)):
            raise InputError(
                f"{kind.__name__}: {field.name} is of the wrong type; it must be "
                f"{type_words(annotations[field.name])}, not {shown(value)}."
            )
        if isinstance(value, Real) and value != value:
            raise InputError(f"{kind.__name__}: {field.name} is nan; it must be a number.")


@functools.cache
def _annotations(function: Any) -> dict[str, Any]:
    """Evaluate the annotations that can be; others leave their parameter unchecked."""
    module = function.__module__
    given = inspect.get_annotations(function)
    annotations = {}
    for name, annotation in given.items():
        # an optional package that is not there, no source …
        with contextlib.suppress(ImportError, NameError, OSError, TypeError):
            annotations[name] = evaluate(annotation, module)
    return annotations


def evaluate(annotation: Any, module_name: str, *, tolerant: bool = False) -> Any:
    """Evaluate an annotation, also with names that its module imports for type checkers only.

    Parameters
    ----------
    annotation : object
        Text; anything else is given back.
    module_name : str
        Module where it stands; it need not be imported.
    tolerant : bool
        Whether a name of a module that is not imported yet stands for an empty class of its name,
        so that nothing is imported; otherwise it is imported.

    Returns
    -------
    object
        See `fits`.

    Raises
    ------
    ImportError
        When a package is not there.
    NameError
        When the module does not know a name.

    Examples
    --------
    >>> evaluate("Mapping[str, int] | None", "neurometamer.arguments")
    collections.abc.Mapping[str, int] | None
    """
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules.get(module_name)
    names = {} if module is None else dict(vars(module))
    for node in ast.walk(ast.parse(annotation, mode="eval")):
        if not isinstance(node, ast.Name) or node.id in names or hasattr(builtins, node.id):
            continue
        line = _imports(module_name).get(node.id)
        origin = getattr(line, "module", None)
        if tolerant and (line is None or (origin and origin not in sys.modules)):
            names[node.id] = type(node.id, (), {})
        elif line is not None:
            exec(compile(ast.Module([line], []), module_name, "exec"), names)
    return eval(annotation, names)


@functools.cache
def _imports(module_name: str) -> dict[str, ast.stmt]:
    """Find the import of each name in the source of a module, those for type checkers included."""
    spec = importlib.util.find_spec(module_name)
    if spec is None or spec.origin is None:
        return {}
    lines = list(ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body)
    for node in list(lines):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            lines += node.body
    imports: dict[str, ast.stmt] = {}
    for line in lines:
        if isinstance(line, (ast.Import, ast.ImportFrom)):
            imports |= {(alias.asname or alias.name): line for alias in line.names}
    return imports


def fits(value: Any, annotation: Any) -> bool:
    """Return whether a value is of the type of an annotation.

    Parameters
    ----------
    value : object
        Anything.
    annotation : object
        A type, union, literal, or collection of these. Arrays may be given as lists, and numbers as
        NumPy scalars.

    Returns
    -------
    bool
        True, too, for annotations that are not understood.

    Examples
    --------
    >>> fits(3, float), fits("3", float)
    (True, False)
    >>> strings = collections.abc.Sequence[str]
    >>> fits("abc", strings), fits(["a"], strings)
    (False, True)
    """
    origin = typing.get_origin(annotation)
    inner = typing.get_args(annotation)
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, kind) for kind in inner)
    if origin is typing.Literal:
        return isinstance(value, tuple(map(type, inner)))
    kind = origin or annotation
    if kind in (None, type(None)):
        return value is None
    if not isinstance(kind, type) or kind in (Any, object):
        return True
    if kind in _NUMBERS:
        number = value.item() if _is_one_number(value) else value
        if isinstance(number, bool) and kind is not bool:
            return False
        return isinstance(number, _NUMBERS[kind])
    if kind is collections.abc.Callable:
        return callable(value)
    return _fits_class(value, kind, inner)


def _fits_class(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if kind is np.ndarray:
        if isinstance(value, (list, tuple)):
            return True
        is_array = hasattr(value, "__array__") and not _is_table(value)
        return is_array and getattr(value, "ndim", 1) > 0
    if kind in _ITERABLES:
        return _fits_iterable(value, kind, inner)
    if len(inner) == 2 and isinstance(value, Mapping) and issubclass(kind, Mapping):
        keys_fit = all(fits(key, inner[0]) for key in value)
        if not keys_fit or not isinstance(value, dict):  # its values may be read from disk
            return keys_fit
        return all(fits(element, inner[1]) for element in value.values())
    if getattr(kind, "_is_protocol", False):
        names = [name for name in vars(kind) if not name.startswith("_")]
        return all(hasattr(value, name) for name in names)
    return isinstance(value, kind)


def _is_one_number(value: Any) -> bool:
    """Return whether a value is an array or tensor without an axis, which stands for a number."""
    if isinstance(value, np.generic) or not hasattr(value, "item"):
        return False
    return getattr(value, "ndim", None) == 0


def _is_table(value: Any) -> bool:
    return hasattr(value, "columns")  # a DataFrame, without importing pandas


def _fits_iterable(value: Any, kind: type, inner: tuple[Any, ...]) -> bool:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") or _is_table(value):
        return False
    is_sequence = not isinstance(value, Mapping) and hasattr(value, "__len__")
    if kind in (collections.abc.Sequence, list, tuple) and not is_sequence:
        return False
    if getattr(value, "ndim", 1) == 0:
        return False
    if not inner or not hasattr(value, "__len__"):
        return True
    if kind is tuple and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(fits, value, inner))
    is_array = not isinstance(value, (list, tuple))
    has_one_type = is_array and str(getattr(value, "dtype", "")) != "object"
    elements = list(value)[:1] if has_one_type else value
    if set(map(type, elements)) == {inner[0]}:  # thousands of ids
        return True
    return all(fits(element, inner[0]) for element in elements)


def type_words(annotation: Any) -> str:
    """Write a type in words.

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
    origin = typing.get_origin(annotation)
    inner = typing.get_args(annotation)
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
        words = "a sequence"
        if kind is tuple and inner and Ellipsis not in inner:
            words = f"a sequence of {len(inner)}"
        each = {type_words(element) for element in inner if element is not Ellipsis}
        return f"{words} ({each.pop()} each)" if len(each) == 1 else words
    if isinstance(kind, type) and issubclass(kind, Mapping):
        if len(inner) == 2 and inner[1] not in (Any, object):
            return f"a mapping of {type_words(inner[0])} to {type_words(inner[1])}"
        return "a mapping"
    return f"a {getattr(kind, '__name__', str(kind))}"


def shown(value: Any) -> str:
    """Show a value on one short line.

    Parameters
    ----------
    value : object
        Anything.

    Returns
    -------
    str
        For a message.

    Examples
    --------
    >>> shown("spearman"), shown([1, "a"]), shown(np.zeros(3))
    ("'spearman'", "[1, 'a']", 'a ndarray')
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        plain = value.item() if isinstance(value, np.generic) else value
        text = repr(plain)
    elif isinstance(value, (list, tuple, dict, set)):
        words = reprlib.repr(value).split()
        text = " ".join(words)
    elif getattr(value, "ndim", 1) == 0:
        return "a single number"
    else:
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"
