"""Commands from functions: their parameters become options, their docstrings the help.

Parameters that are options dataclasses, and ``**options`` that another function takes
(`neurometamer.arguments.KeywordsOf`), become an option for each field. Only what was given on the
command line is passed on, so defaults stay in the functions.
"""

from __future__ import annotations

import ast
import collections.abc
import dataclasses
import importlib
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cyclopts

from neurometamer.arguments import KeywordsOf
from neurometamer.cli.choices import check_value, names_for
from neurometamer.errors import InputError, duplicates, name_ids

OUT_IS_OPTIONAL = ("run", "evaluate check-table")
"""Commands that do without ``--out``; others need it where the function does not."""

WITH_MODE = ("stimuli noise", "stimuli interference", "stimuli control", "stimuli metamer")
"""Commands that know `RunOptions.mode`; others only run networks."""

EMPTY = inspect.Parameter.empty


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a command.

    Parameters
    ----------
    name : str
        Name of the parameter or field.
    owner : tuple of str
        Parameters and fields that hold it: ``("run",)`` for a field of `run`, empty for a
        parameter of the function and for its further keyword arguments.
    form : Form
        What is written on the command line.
    default : object
        Value without the option; `EMPTY` where the option is needed.
    help : str
        What its docstring says.
    names : list of str
        Names that it takes; any value when empty.
    positional : bool
        Whether the value may be given without the name of the option.
    """

    name: str
    owner: tuple[str, ...]
    form: Form
    default: Any
    help: str
    names: list[str]
    positional: bool = False

    @property
    def flag(self) -> str:
        """The option with its dashes.

        Returns
        -------
        str
            Such as ``--batch-size``.
        """
        return f"--{self.name.strip('_').replace('_', '-')}"

    def read(self, words: Sequence[str]) -> Any:
        """Make a value of what is written.

        Parameters
        ----------
        words : sequence of str
            One, or several of an option that takes several.

        Returns
        -------
        object
            For the function.

        Raises
        ------
        InputError
            When it cannot be read, or is not among the names of the option.
        """
        if self.form.marks:
            return self.form.pairs(self.flag, words)
        values = []
        for word in words:
            value = self.form.value(self.flag, word)
            values.append(check_value(self.flag, value, self.names))
        return values if self.form.several else values[0]


@dataclasses.dataclass(frozen=True)
class Form:
    """What an option looks like on the command line.

    Parameters
    ----------
    kind : type
        Type of a value: str, int, float, bool or Path.
    several : bool
        Whether it takes several values.
    marks : str
        Marks between the parts of a value, ``"="`` for NAME=VALUE; empty for a single value.
    """

    kind: type
    several: bool = False
    marks: str = ""

    def value(self, flag: str, word: str) -> Any:
        """Read one value.

        Parameters
        ----------
        flag : str
            The option, for messages.
        word : str
            What is written.

        Returns
        -------
        object
            Of type `kind`.

        Raises
        ------
        InputError
            When it is no number.
        """
        try:
            return self.kind(word)
        except ValueError:
            wanted = "a whole number" if self.kind is int else "a number"
            raise InputError(f"{flag} is '{word}'; give {wanted}.") from None

    def pairs(self, flag: str, words: Sequence[str]) -> Any:
        """Read values of several parts.

        Parameters
        ----------
        flag : str
            The option, for messages.
        words : sequence of str
            Such as ``NAME=VALUE``, or ``LOW:HIGH``.

        Returns
        -------
        dict, tuple or list of tuple
            Name to value, or the parts.

        Raises
        ------
        InputError
            When a part is missing, or a name comes twice.
        """
        is_mapping = self.marks == "="
        shape = "NAME=VALUE" if is_mapping else "A:B"
        parts = []
        for word in words:
            cut = word.split("=", 1) if is_mapping else re.split(f"[{self.marks}]", word)
            if len(cut) < 2 or not all(cut):
                what = "NAME=FILE" if is_mapping and self.kind is Path else shape
                raise InputError(f"{flag} is '{word}'; give {what}.")
            parts.append(cut)
        if is_mapping:
            if again := duplicates(name for name, _ in parts):
                raise InputError(f"{flag} names {name_ids(again)} more than once; give each once.")
            return {name: self.value(flag, value) for name, value in parts}
        read = [tuple(self.value(flag, part) for part in cut) for cut in parts]
        return read if self.several else read[0]


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


def summary_of(place: str) -> str:
    """Read the first line of a function's docstring without importing its module.

    Parameters
    ----------
    place : str
        ``MODULE:NAME``.

    Returns
    -------
    str
        One line.
    """
    module, _, name = place.partition(":")
    path = Path(__file__).parents[2].joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    match = re.search(rf'^def {name}\(.*?"""(.*?)\n', file.read_text("utf-8"), re.S | re.M)
    return _plain(match.group(1)).removesuffix('"""') if match else ""


def options_of(command: str, function: Callable[..., Any]) -> tuple[list[Option], list[str]]:
    """List the options of a command.

    Parameters
    ----------
    command : str
        Words of the command.
    function : callable
        What the command calls.

    Returns
    -------
    options : list of Option
        In the order of the parameters.
    left_out : list of str
        Parameters that cannot be written on a command line, such as functions.
    """
    options: list[Option] = []
    left_out: list[str] = []
    _add_options(command, function, (), (), options, left_out)
    return options, left_out


def _add_options(
    command: str,
    target: Any,
    owner: tuple[str, ...],
    only: Sequence[str],
    options: list[Option],
    left_out: list[str],
    shown: Any = None,
) -> None:
    """Add the parameters of a function, or the fields of a dataclass, to the options."""
    target = inspect.unwrap(target)
    texts = parameter_texts(target)
    takes_words = not owner and not only
    for name, parameter in inspect.signature(target).parameters.items():
        if (only and name not in only) or any(option.name == name for option in options):
            continue
        hint = _hint(target, parameter.annotation)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            _add_passed(command, hint, options, left_out)
            continue
        default = parameter.default if shown is None else getattr(shown, name)
        if kind := _options_class(hint):
            inner = default if dataclasses.is_dataclass(default) else None
            fields = [field.name for field in dataclasses.fields(kind)]
            _add_options(command, kind, (*owner, name), fields, options, left_out, inner)
            continue
        form = form_of(hint)
        if form is None or name == "resume" or (name == "mode" and command not in WITH_MODE):
            left_out.append(name)
            continue
        takes_words = takes_words and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        options.append(
            _option(
                command,
                name,
                owner,
                form,
                _default_of(command, name, default, bool(only)),
                *texts.get(name, ("", [])),
                positional=takes_words and not (form.several and bool(options)),
            )
        )
        takes_words = takes_words and not form.several


def _add_passed(command: str, hint: Any, options: list[Option], left_out: list[str]) -> None:
    """Add the options of those who take the further keyword arguments of a function."""
    for passed in typing.get_args(hint):
        if not isinstance(passed, KeywordsOf):
            continue
        try:
            taker = import_function(passed.target)
        except ImportError:  # a library is not there: the command says so when it runs
            continue
        known = passed.names or tuple(inspect.signature(taker).parameters)
        taken = [name for name in known if name not in passed.without]
        _add_options(command, taker, (), taken, options, left_out)


def _default_of(command: str, name: str, default: Any, is_field: bool) -> Any:
    """Give the default of an option; fields need none, and `out` is needed by most commands."""
    if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS" or (is_field and default is EMPTY):
        return None
    if name == "out" and default is None and command not in OUT_IS_OPTIONAL:
        return EMPTY
    return default


def _option(
    command: str,
    name: str,
    owner: tuple[str, ...],
    form: Form,
    default: Any,
    text: str,
    listed: list[str],
    *,
    positional: bool,
) -> Option:
    """Make an option, with the names that it takes and what their table says of them."""
    names = names_for(command, name)
    described = [f"{key}: {words}" for key, words in names.items() if words]
    return Option(
        name=name,
        owner=owner,
        form=form,
        default=default,
        help=" ".join([text, "; ".join(described)]).strip(),
        names=list(names) or listed,
        positional=positional,
    )


def _options_class(hint: Any) -> Any:
    """Give the options dataclass that an annotation names, if it names one."""
    members = typing.get_args(hint) if _is_union(hint) else (hint,)
    classes = [member for member in members if dataclasses.is_dataclass(member)]
    return classes[0] if classes else None


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _hint(target: Any, annotation: Any) -> Any:
    """Evaluate an annotation, with the names that its module imports for type checkers."""
    if not isinstance(annotation, str):
        return annotation
    module = sys.modules[target.__module__]
    names = dict(vars(module))
    try:
        return eval(annotation, names)
    except NameError:
        pass
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), str(module.__file__), "exec"), names)
    return eval(annotation, names)


def form_of(hint: Any) -> Form | None:
    """Say how a value of a type is written on the command line.

    Parameters
    ----------
    hint : object
        Annotation of a parameter.

    Returns
    -------
    Form or None
        None for what cannot be written, such as functions and arrays.

    Examples
    --------
    >>> form_of(int | None), form_of(tuple[int, int]).marks
    (Form(kind=<class 'int'>, several=False, marks=''), ':/')
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return form_of(inner[0])
    if _is_union(hint):
        forms = [form_of(member) for member in inner if member is not type(None)]
        known = [form for form in forms if form is not None]
        single = [form for form in known if not (form.several or form.marks)]
        lists = [form for form in known if form.several and not form.marks]
        if lists:
            return lists[0]
        paths = [form for form in single if form.kind is Path]
        words = [form for form in single if form.kind is str]
        return next(iter([*paths, *words, *known]), None)
    if hint in (bool, int, float, str):
        return Form(hint)
    if isinstance(origin or hint, type) and issubclass(origin or hint, os.PathLike):
        return Form(Path)
    if origin is tuple and Ellipsis not in inner:
        return Form(inner[0], marks=":/")
    if origin in (collections.abc.Sequence, list, tuple) and inner:
        element = form_of(inner[0])
        return None if element is None else dataclasses.replace(element, several=True)
    if origin in (collections.abc.Mapping, dict):
        element = form_of(inner[1])
        kind = str if element is None else element.kind
        return Form(kind, several=True, marks="=")
    return None


def parameter_texts(target: Any) -> dict[str, tuple[str, list[str]]]:
    """Read what a docstring says of each parameter, or the docstrings of a dataclass's fields.

    Parameters
    ----------
    target : callable
        A function or dataclass with a docstring in the style of numpydoc.

    Returns
    -------
    dict of str to (str, list of str)
        Parameter to its description, and the values that its type lists, as ``{"a", "b"}``.
    """
    texts: dict[str, tuple[str, list[str]]] = {}
    if inspect.isclass(target):
        (body,) = [
            node
            for node in ast.walk(ast.parse(inspect.getsource(target)))
            if isinstance(node, ast.ClassDef)
        ][:1]
        for field, text in zip(body.body, body.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                words = str(getattr(text.value, "value", ""))
                texts[ast.unparse(field.target)] = (_plain(words), [])
    lines = _sections(inspect.getdoc(target) or "").get("Parameters", "").splitlines()
    names: list[str] = []
    for line in lines:
        if line and not line.startswith(" "):
            listed, _, kind = line.partition(" : ")
            names = [name.strip(" *") for name in listed.split(",")]
            values = re.findall(r"\"([^\"]+)\"", kind) if kind.startswith("{") else []
            texts |= {name: ("", values) for name in names}
        else:
            for name in names:
                before, values = texts[name]
                texts[name] = (_plain(f"{before} {line.strip()}"), values)
    return texts


def _sections(doc: str) -> dict[str, str]:
    """Cut a docstring at its headings; what comes before them is under an empty name."""
    cut = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.M)
    return {"": cut[0]} | dict(zip(cut[1::2], cut[2::2]))


def _plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def help_of(place: str, function: Callable[..., Any]) -> str:
    """Write the text at the head of a command's help.

    Parameters
    ----------
    place : str
        ``MODULE:NAME`` of the function.
    function : callable
        The function.

    Returns
    -------
    str
        Its docstring without parameters and examples, and its name in Python.
    """
    parts = _sections(inspect.getdoc(function) or "")
    paragraphs = parts[""].strip().split("\n\n")
    for name in ("Returns", "Notes"):
        if name in parts:
            words = parts[name].strip()
            if name == "Returns":
                words = words.partition("\n")[2]
            paragraphs.append(f"{name}: {_plain(words)}")
    paragraphs.append(f"Python: {place.replace(':', '.')}")
    return "\n\n".join(_plain(part) for part in paragraphs)


def command_of(
    command: str, place: str, call: Callable[[Callable[..., Any], dict[str, Any]], int]
) -> Callable[..., int]:
    """Make a function that cyclopts can parse of a function of ours.

    Parameters
    ----------
    command : str
        Words of the command.
    place : str
        ``MODULE:NAME`` of the function.
    call : callable
        Called with the function and the arguments that were given; returns the exit code.

    Returns
    -------
    callable
        With a parameter for each option.
    """
    function = import_function(place)
    options, _ = options_of(command, function)

    def _command(*words: Any, **given: Any) -> int:
        bound = signature.bind(*words, **given)
        return call(function, _assemble(function, options, bound.arguments))

    positional = [option for option in options if option.positional]
    named = [option for option in options if not option.positional]
    # a parameter without a default may not follow one with a default
    parameters = [
        _parameter(option, inspect.Parameter.POSITIONAL_OR_KEYWORD) for option in positional
    ] + [_parameter(option, inspect.Parameter.KEYWORD_ONLY) for option in named]
    signature = inspect.Signature(parameters)
    _command.__signature__ = signature  # type: ignore[attr-defined]
    _command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    _command.__name__ = function.__name__
    _command.__doc__ = None
    return _command


def _parameter(option: Option, kind: Any) -> inspect.Parameter:
    """Describe an option to cyclopts, which cuts the words; `Option.read` makes the values."""

    def _read(_: Any, tokens: Sequence[Any]) -> Any:
        words = [token.value for token in tokens]
        if option.form.marks:  # what cyclopts gets must be of the annotated type
            option.read(words)
            return words if option.form.several else words[0]
        return option.read(words)

    form = option.form
    is_flag = form.kind is bool
    hint: Any = str if form.marks else form.kind
    if option.names and not form.marks:  # `str`, so that other values come to `Option.read`
        hint = typing.Literal.__getitem__(tuple(option.names)) | str
    hint = list[hint] if form.several else hint
    default: Any = EMPTY
    if option.default is not EMPTY:
        default = False if is_flag else None
        hint = hint if is_flag else hint | None
    asked = cyclopts.Parameter(
        name=option.flag,
        help=option.help,
        converter=None if is_flag else _read,
        negative=() if option.default is False else None,
        show_default=_shown_default(option.default, form),
        consume_multiple=form.several,
        allow_leading_hyphen=form.kind in (int, float),
        required=option.default is EMPTY,
    )
    annotation = typing.Annotated[hint, asked]
    return inspect.Parameter(option.name, kind, default=default, annotation=annotation)


def _shown_default(default: Any, form: Form) -> Any:
    """Write a default as it would be given; False where none is shown."""
    if default is EMPTY or default is None or default is False or isinstance(default, Mapping):
        return False
    if form.marks and not form.several:
        words = form.marks[0].join(map(str, default))
    elif isinstance(default, (list, tuple)):
        words = " ".join(map(str, default))
    else:
        words = str(default)
    return (lambda _: words) if words else False


def _assemble(
    function: Callable[..., Any], options: Sequence[Option], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Put given values into the arguments of a function, those of fields into their dataclass."""
    arguments: dict[str, Any] = {}
    fields: dict[tuple[str, ...], dict[str, Any]] = {}
    for option in options:
        if option.name not in given:
            continue
        value = given[option.name]
        if option.form.marks:
            value = option.read(value if option.form.several else [value])
        if option.owner:
            fields.setdefault(option.owner, {})[option.name] = value
        else:
            arguments[option.name] = value
    target = inspect.unwrap(function)
    for name in dict.fromkeys(owner[0] for owner in fields):
        parameter = inspect.signature(target).parameters[name]
        kind = _options_class(_hint(target, parameter.annotation))
        arguments[name] = _filled(kind, parameter.default, (name,), fields)
    return arguments


def _filled(
    kind: Any, default: Any, owner: tuple[str, ...], fields: Mapping[tuple[str, ...], Any]
) -> Any:
    """Make an options dataclass of the fields that were given."""
    values = dict(fields.get(owner, {}))
    for deeper in fields:
        if len(deeper) == len(owner) + 1 and deeper[:-1] == owner:
            hint = _hint(kind, inspect.signature(kind).parameters[deeper[-1]].annotation)
            values[deeper[-1]] = _filled(_options_class(hint), None, deeper, fields)
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return dataclasses.replace(default, **values)
    return kind(**values)
