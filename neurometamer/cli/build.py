"""Commands from functions: their parameters become options, their docstrings the help.

Parameters that are options dataclasses, and ``**options`` that another function takes
(`neurometamer.arguments.KeywordsOf`), become an option for each field. Only what was given on the
command line is passed on, so defaults stay in the functions.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cyclopts

from neurometamer.arguments import KeywordsOf, evaluate
from neurometamer.cli.choices import SHOWN_ONLY, check_value, names_for
from neurometamer.cli.sources import described, import_function
from neurometamer.cli.words import flag_of, help_text, parameter_texts
from neurometamer.errors import InputError, duplicates, name_ids

OUT_IS_OPTIONAL = ("run", "fmri layout", "evaluate check-table")
"""Commands that do without ``--out``; others need it where the function does not."""

WITH_MODE = (
    "stimuli noise",
    "stimuli interference",
    "stimuli control",
    "stimuli metamer",
    "stimuli controversial",
    "stimuli divergent",
)
"""Commands that know `RunOptions.mode`; others only run networks."""

EMPTY = inspect.Parameter.empty


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
    n_parts : int
        Number of parts of a value such as LOW:HIGH.
    may_be_none : bool
        Whether the word none stands for no value, of those with parts.
    """

    kind: type
    several: bool = False
    marks: str = ""
    n_parts: int = 2
    may_be_none: bool = False

    @property
    def shape(self) -> str:
        """How a value of several parts is written; empty for a single value."""
        if self.marks == "=":
            return "NAME=FILE" if self.kind is Path else "NAME=VALUE"
        written = ":".join("ABCDEFGH"[: self.n_parts]) if self.marks else ""
        return f"{written} or none" if self.may_be_none else written

    def value(self, flag: str, word: str) -> Any:
        """Read one value; what is no number is an `InputError`."""
        try:
            return self.kind(word)
        except ValueError:
            wanted = "a whole number" if self.kind is int else "a number"
            raise InputError(f"{flag} is '{word}'; give {wanted}.") from None

    def pairs(self, flag: str, words: Sequence[str]) -> Any:
        """Read values of several parts: a dict of NAME=VALUE, or tuples such as LOW:HIGH."""
        if self.may_be_none and [word.lower() for word in words] == ["none"]:
            return None
        is_mapping = self.marks == "="
        n_parts = 2 if is_mapping else self.n_parts
        parts: list[list[str]] = []
        for word in words:
            cut = word.split("=", 1) if is_mapping else re.split(f"[{self.marks}]", word)
            if len(cut) != n_parts or not all(cut):
                raise InputError(f"{flag} is '{word}'; give {self.shape}.")
            parts.append(cut)
        if not is_mapping:
            read = [tuple(self.value(flag, part) for part in cut) for cut in parts]
            return read if self.several else read[0]
        if again := duplicates(name for name, _ in parts):
            raise InputError(f"{flag} names {name_ids(again)} more than once; give each once.")
        return {name: self.value(flag, value) for name, value in parts}


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
        """The option with its dashes, such as ``--batch-size``."""
        return flag_of(self.name)

    @property
    def shown_default(self) -> str:
        """The default as it would be given; empty where none is shown."""
        default = self.default
        if default is EMPTY or default is None or default is False or isinstance(default, Mapping):
            return ""
        if default is True:
            return self.flag
        if not isinstance(default, (list, tuple)):
            return str(default)
        mark = self.form.marks[0] if self.form.marks and not self.form.several else " "
        return mark.join(map(str, default))

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

    def convert(self, *given: Any) -> Any:
        """Make a value of the type that cyclopts knows; those of several parts stay words."""
        words = [token.value for token in given[-1]]
        value = self.read(words)
        if not self.form.marks:
            return value
        return words if self.form.several else words[0]


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
    names = [option.name for option in options]
    for number, option in enumerate(options):
        option = options[number] = replace(option, help=help_text(option.help, names))
        is_lost = option.name == "out" and option.default is None
        if is_lost and command not in OUT_IS_OPTIONAL:
            options[number] = replace(option, default=EMPTY)
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
        is_open = type(None) in typing.get_args(hint)
        if is_open and form.marks == ":/" and default not in (None, EMPTY):
            form = replace(form, may_be_none=True)
        if type(default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS" or (only and default is EMPTY):
            default = None
        is_word = takes_words and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        text, listed = texts.get(name, ("", []))
        text = text.strip()
        names = names_for(command, name)
        described = [f"{key}: {words}" for key, words in names.items() if words]
        if form.marks and form.shape not in text:
            described.append(f"Written {form.shape}.")
        option = Option(
            name=name,
            owner=owner,
            form=form,
            default=default,
            help=" ".join([text, "; ".join(described)]).strip(),
            names=list(names) or listed,
            positional=is_word and not (form.several and bool(options)),
        )
        options.append(option)
        takes_words = is_word and not form.several


def _add_passed(command: str, hint: Any, options: list[Option], left_out: list[str]) -> None:
    """Add the options of those who take the further keyword arguments of a function."""
    for passed in typing.get_args(hint):
        if not isinstance(passed, KeywordsOf):
            continue
        try:
            taker = described(passed.target)
        except ImportError:  # a library is not there: the command says so when it runs
            continue
        known = passed.names or tuple(inspect.signature(taker).parameters)
        taken = [name for name in known if name not in passed.without]
        _add_options(command, taker, (), taken, options, left_out)


def _options_class(hint: Any) -> Any:
    """Give the options dataclass that an annotation names, if it names nothing else."""
    members = _members(hint)
    if len(members) == 1 and dataclasses.is_dataclass(members[0]):
        return members[0]
    return None


def _members(hint: Any) -> tuple[Any, ...]:
    """Give the members of a union, or the annotation alone; None is left out."""
    origin = typing.get_origin(hint)
    if origin is not typing.Union and origin is not types.UnionType:
        return (hint,)
    members = typing.get_args(hint)
    return tuple(member for member in members if member is not type(None))


def _hint(target: Any, annotation: Any) -> Any:
    """Evaluate an annotation without importing what it names."""
    return evaluate(annotation, target.__module__, tolerant=True)


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
    >>> form_of(int | None).kind, form_of(tuple[int, int]).marks
    (<class 'int'>, ':/')
    """
    members = _members(hint)
    if len(members) > 1:
        forms = [form for member in members if (form := form_of(member)) is not None]
        # lists, then paths, then text, then others
        ranks = [
            lambda form: form.several and not form.marks,
            lambda form: form.kind is Path and not form.marks,
            lambda form: form.kind is str and not form.marks,
            lambda form: True,
        ]
        for is_wanted in ranks:
            for form in filter(is_wanted, forms):
                return form
        return None
    (hint,) = members
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return form_of(inner[0])
    if hint in (bool, int, float, str):
        return Form(hint)
    if isinstance(origin or hint, type) and issubclass(origin or hint, os.PathLike):
        return Form(Path)
    if origin is tuple and Ellipsis not in inner:
        return Form(inner[0], marks=":/", n_parts=len(inner))
    if origin in (collections.abc.Mapping, dict):
        element = form_of(inner[1])
        kind = str if element is None else element.kind
        return Form(kind, several=True, marks="=")
    if origin in (collections.abc.Sequence, list, tuple) and inner:
        element = form_of(inner[0])
        return None if element is None else replace(element, several=True)
    return None


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

    parameters = []
    for option in sorted(options, key=lambda option: not option.positional):
        parameters.append(parameter_of(option))
    signature = inspect.Signature(parameters)

    def _command(*words: Any, **given: Any) -> int:
        bound = signature.bind(*words, **given)
        arguments = arguments_of(function, options, bound.arguments)
        return call(function, arguments)

    _command.__signature__ = signature  # type: ignore[attr-defined]
    _command.__annotations__ = {option.name: option.annotation for option in parameters}
    _command.__name__ = function.__name__
    _command.option_names = [option.name for option in options]  # type: ignore[attr-defined]
    _command.__doc__ = None
    return _command


def parameter_of(option: Option) -> inspect.Parameter:
    """Describe an option to cyclopts, which cuts the words; `Option.read` makes the values.

    Parameters
    ----------
    option : Option
        Option of a command.

    Returns
    -------
    inspect.Parameter
        Annotated with what cyclopts needs to know.
    """
    form = option.form
    is_flag = form.kind is bool
    hint: Any = str if form.marks else form.kind
    words: dict[str, Any] = {}
    is_open = bool(option.names) and option.name in (*SHOWN_ONLY, "device")
    if option.names and not form.marks:
        hint = typing.Literal.__getitem__(tuple(option.names))
        if is_open:  # cyclopts would refuse what `read` lets through
            hint = hint | str
    hint = list[hint] if form.several else hint
    default: Any = EMPTY
    if is_flag:
        default = False
    elif option.default is not EMPTY:
        default = None
        hint = hint | None
    shown = option.shown_default
    known = inspect.signature(cyclopts.Parameter).parameters
    if is_open and "metavar" in known:
        words["metavar"] = "NAME..." if form.several else "NAME"
    asked = cyclopts.Parameter(
        name=option.flag,
        help=option.help,
        converter=None if is_flag else option.convert,
        negative=None if is_flag and option.default is not False else (),
        show_default=(lambda _: shown) if shown else False,
        consume_multiple=form.several,
        required=option.default is EMPTY,
        **words,
    )
    kind: Any = inspect.Parameter.KEYWORD_ONLY
    if option.positional:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    annotation = typing.Annotated[hint, asked]
    return inspect.Parameter(option.name, kind, default=default, annotation=annotation)


def arguments_of(
    function: Callable[..., Any], options: Sequence[Option], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Put given values into the arguments of a function, those of fields into their dataclass.

    Parameters
    ----------
    function : callable
        What the command calls.
    options : sequence of Option
        Options of the command.
    given : mapping of str to object
        Option to its value, as `Option.convert` gave it.

    Returns
    -------
    dict of str to object
        Arguments that were given; others keep the defaults of the function.
    """
    arguments: dict[str, Any] = {}
    fields: dict[tuple[str, ...], dict[str, Any]] = {}
    for option in options:
        if option.name not in given:
            continue
        value = given[option.name]
        if option.form.several and not value:
            raise InputError(f"{option.flag} needs a value; give one, or leave it out.")
        if option.form.marks:
            value = option.read(value if option.form.several else [value])
        if option.owner:
            fields.setdefault(option.owner, {})[option.name] = value
        else:
            arguments[option.name] = value
    target = inspect.unwrap(function)
    for name in {owner[0]: None for owner in fields}:
        parameter = inspect.signature(target).parameters[name]
        kind = _options_class(_hint(target, parameter.annotation))
        arguments[name] = _filled(kind, parameter.default, (name,), fields)
    return arguments


def _filled(
    kind: Any, default: Any, owner: tuple[str, ...], fields: Mapping[tuple[str, ...], Any]
) -> Any:
    """Make an options dataclass of the fields that were given."""
    values = dict(fields.get(owner, {}))
    parameters = inspect.signature(kind).parameters
    for deeper in fields:
        if deeper[:-1] == owner:
            inner = _options_class(_hint(kind, parameters[deeper[-1]].annotation))
            values[deeper[-1]] = _filled(inner, None, deeper, fields)
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return replace(default, **values)
    return kind(**values)
