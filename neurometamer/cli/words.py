"""Texts of the command line: docstrings and messages in the words of options.

A docstring speaks to those who write Python. Its parameters become options here, what it quotes
loses its quotation marks, and what refers to functions and tables is left out.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

_NAME = "(?<!`)`[^`]+`(?!`)"
_NAMES = f"{_NAME}(?:(?:,| and|, and| or) {_NAME})*"
_REFERENCES = (
    rf" \((?:see |one of |fields of )?{_NAMES}\)",
    rf"^(?:One|Some) of {_NAMES}[.;:] ?",
    rf"(?:[,;]? (?:see|one of|some of)|, of) {_NAMES}(?=[.;,:)]|$)",
    rf"(?:(?<=^)|(?<=[.;] ))[Ss]ee {_NAMES}[.;] ?",
)
"""What refers to Python and can be left out of a sentence."""


def flag_of(name: str) -> str:
    """Write the name of a parameter as an option.

    Parameters
    ----------
    name : str
        Such as ``batch_size``.

    Returns
    -------
    str
        Such as ``--batch-size``.
    """
    words = name.replace("_", "-")
    return f"--{words}"


def in_words_of_options(message: str, names: Collection[str]) -> str:
    """Write the names of parameters in a message as the options of a command.

    Parameters
    ----------
    message : str
        Message of an error, in the words of Python.
    names : collection of str
        Parameters that the command has as options.

    Returns
    -------
    str
        The message for the command line.

    Examples
    --------
    >>> in_words_of_options("f: step_size is 0; give interval='none'.", ["step_size", "interval"])
    '--step-size is 0; give --interval none.'
    >>> in_words_of_options("give t_r (--t-r), in seconds", ["t_r"])
    'give --t-r, in seconds'
    >>> in_words_of_options("without noise (n_noise, --n-noise)", ["n_noise"])
    'without noise (--n-noise)'
    """
    for name in sorted(names, key=len, reverse=True):
        flag = flag_of(name)
        message = re.sub(rf"(?<![\w./-]){name}(?: \({flag}\)|, {flag}(?=\)))", flag, message)
        message = re.sub(rf"^(\w+: )?{name}(?= (is|must) |, the )", flag, message)
    message = _with_flags(message, names)
    message = re.sub(r"(--[\w-]+) True\b", r"\1", message)  # a flag takes no value
    return re.sub(r"(--[\w-]+(?: [\w.-]+)?) \(\1\)", r"\1", message)


def _with_flags(text: str, names: Collection[str]) -> str:
    """Write ``name=value`` and names of several words as options, the longest first."""
    before = r"(?<![\w./'\"=-])"
    for name in sorted(names, key=len, reverse=True):
        flag = flag_of(name)
        text = re.sub(rf"{before}{name}=None\b", f"{flag} none", text)
        text = re.sub(rf"{before}{name}=['\"]?([\w.-]+)['\"]?(?<!\.)", rf"{flag} \1", text)
        if "_" in name:
            text = re.sub(rf"{before}{name}(?![\w./'\"=-]*[\w'\"/=])", flag, text)
    return text


def help_text(text: str, names: Collection[str] = ()) -> str:
    """Write a text of a docstring on one line, in the words of the command line.

    Parameters
    ----------
    text : str
        With marks of code: parameters and names of Python in one backtick, values in two.
    names : collection of str
        Parameters that the command has as options.

    Returns
    -------
    str
        Without marks.

    Examples
    --------
    >>> help_text("Not with `n_sets`, see `plan_sets`; or ``seed=1``.", ["n_sets", "seed"])
    'Not with --n-sets; or --seed 1.'
    """
    text = " ".join(text.split())

    def left_out(match: re.Match[str]) -> str:
        is_option = any(name in names for name in re.findall("`([^`]+)`", match[0]))
        return match[0] if is_option else ""

    for pattern in _REFERENCES:
        text = re.sub(pattern, left_out, text)
    for name in names:
        text = re.sub(f"(?<!`)`{name}`(?!`)", flag_of(name), text)
    text = re.sub('``"([^`"]*)"``', r"\1", text)
    text = text[:1].upper() + text[1:]
    return _with_flags(text.replace("`", ""), names)


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
    root = Path(__file__).parents[2]
    file = root / f"{module.replace('.', '/')}.py"
    source = file.read_text(encoding="utf-8")
    pattern = rf'^def {name}\(.*?"""(.*?)\n'
    match = re.search(pattern, source, re.S | re.M)
    if match is None:
        return ""
    return help_text(match.group(1).removesuffix('"""'))


def parameter_texts(target: Any) -> dict[str, tuple[str, list[str]]]:
    """Read what a docstring says of each parameter, or the docstrings of a dataclass's fields.

    Parameters
    ----------
    target : callable
        A function or dataclass with a docstring in the style of numpydoc.

    Returns
    -------
    dict of str to (str, list of str)
        Parameter to its description with its marks of code, and the values that its type lists, as
        ``{"a", "b"}``.
    """
    texts: dict[str, tuple[str, list[str]]] = {}
    source = ""
    with suppress(OSError, TypeError):  # of a module that is not imported
        source = inspect.getsource(target) if inspect.isclass(target) else ""
    if source:
        (definition,) = ast.parse(source).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                words = str(getattr(text.value, "value", ""))
                texts[ast.unparse(field.target)] = (words, [])
    lines = sections_of(inspect.getdoc(target) or "").get("Parameters", "").splitlines()
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
                texts[name] = (f"{before} {line.strip()}", values)
    return texts


def sections_of(doc: str) -> dict[str, str]:
    """Cut a docstring at its headings; what comes before them is under an empty name."""
    first, *cut = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.M)
    sections = {"": first}
    for name, text in zip(cut[::2], cut[1::2]):
        sections[name] = text
    return sections


def help_of(place: str, function: Callable[..., Any], names: Collection[str] = ()) -> str:
    """Write the text at the head of a command's help.

    Parameters
    ----------
    place : str
        ``MODULE:NAME`` of the function.
    function : callable
        The function.
    names : collection of str
        Parameters that the command has as options.

    Returns
    -------
    str
        Its docstring without parameters and examples, and its name in Python.
    """
    parts = sections_of(inspect.getdoc(function) or "")
    paragraphs = parts[""].strip().split("\n\n")
    for name in ("Returns", "Notes"):
        if name in parts:
            words = parts[name].strip()
            if name == "Returns":
                words = re.split(r"\n(?=\S)", words.partition("\n")[2])[0]
            paragraphs.append(f"{name}: {words}")
    texts = [help_text(paragraph, names) for paragraph in paragraphs]
    return "\n\n".join([*texts, f"Python: {place.replace(':', '.')}"])
