"""Expressions over regions: text becomes a tree of sources, thresholds and set operations.

An expression is parsed and never evaluated as code. ``&`` binds closer than ``+`` and ``-``, which
go from left to right; thresholds bind closest.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name

Array = np.ndarray

OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "+": lambda left, right: left | right,
    "-": lambda left, right: left & ~right,
    "&": lambda left, right: left & right,
}
"""Sign → what it makes of two masks: union, difference, intersection."""

COMPARISONS: dict[str, Callable[[Array, float | Array], Array]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
"""Sign → where a map is above or below a number, or another map."""

CALLS = {"sphere": (4, 4), "wang15": (1, 1), "benson14": (1, 1)}
"""Name of a region that is no file → fewest and most arguments."""

_DEEPEST = 50
_MOST_SHOWN = 200
"""Characters of an expression that messages repeat."""
_MOST_TOKENS = 400
_TOKEN = re.compile(
    r"\s*(?:(?P<quoted>\"[^\"]*\"|'[^']*')|(?P<sign>>=|<=|[<>(),]|[-+&](?=[\s(]|$))|"
    r"(?P<word>[^\s\"'<>(),]+))"
)


@dataclass(frozen=True)
class Source:
    """A file, with a label after a colon or without, or the name of another region.

    Parameters
    ----------
    text : str
        As written, without quotes.
    position : int
        Of its first character in the expression.
    """

    text: str
    position: int


@dataclass(frozen=True)
class Call:
    """A region that is no file.

    Parameters
    ----------
    name : str
        One of `CALLS`.
    arguments : tuple of str
        As written.
    position : int
        Of its first character in the expression.
    """

    name: str
    arguments: tuple[str, ...]
    position: int


@dataclass(frozen=True)
class Threshold:
    """Where a map lies above or below a number or another map.

    Parameters
    ----------
    map : Source
        Values.
    sign : str
        One of `COMPARISONS`.
    limit : float or Source
        Number, or a map on the same grid.
    """

    map: Source
    sign: str
    limit: float | Source


@dataclass(frozen=True)
class Operation:
    """Two regions and what is made of them.

    Parameters
    ----------
    sign : str
        One of `OPERATIONS`.
    left, right : Node
        Regions.
    """

    sign: str
    left: Node
    right: Node


Node = Source | Call | Threshold | Operation


@checked
def parse_region(text: str) -> Node:
    """Parse the definition of a region.

    Parameters
    ----------
    text : str
        Sources (``V1.nii.gz``, ``dseg.nii.gz:12``, the name of another region; in quotes where they
        hold spaces, commas or brackets), thresholds (``prob.nii.gz > 0.5``), spheres
        (``sphere(-42, -70, -8, 10)``), joined by ``+`` (union), ``-`` (difference) and ``&``
        (intersection) with spaces around them, and brackets.

    Returns
    -------
    Source, Call, Threshold or Operation
        The tree.

    Raises
    ------
    InputError
        When it cannot be parsed, with the place in the text.

    Examples
    --------
    >>> tree = parse_region("(intact.nii.gz > 2) - (moving.nii.gz > 1.97)")
    >>> tree.sign, tree.left.limit, tree.right.map.text
    ('-', 2.0, 'moving.nii.gz')
    >>> try:
    ...     parse_region("LO1 + + LO2")
    ... except ValueError as error:
    ...     print(error)
    LO1 + + LO2: at character 7, '+ LO2': a region is expected here.
    """
    parser = _Parser(text)
    tree = parser._sum(0)
    if parser.kind:
        raise parser._fault("+, -, & or the end is expected here; put a name with spaces in quotes")
    return tree


def sources_of(tree: Node) -> Iterator[Source]:
    """Go over the sources of a tree.

    Parameters
    ----------
    tree : Node
        From `parse_region`.

    Yields
    ------
    Source
        From left to right.

    Examples
    --------
    >>> [source.text for source in sources_of(parse_region("LO1 + (p.nii > 0.5)"))]
    ['LO1', 'p.nii']
    """
    if isinstance(tree, Source):
        yield tree
    elif isinstance(tree, Threshold):
        yield tree.map
        if isinstance(tree.limit, Source):
            yield tree.limit
    elif isinstance(tree, Operation):
        yield from sources_of(tree.left)
        yield from sources_of(tree.right)


def plain_sources(tree: Node) -> Iterator[Source]:
    """Go over the sources that are regions themselves, not maps with a threshold.

    Parameters
    ----------
    tree : Node
        From `parse_region`.

    Yields
    ------
    Source
        From left to right.

    Examples
    --------
    >>> [source.text for source in plain_sources(parse_region("LO1 + (p.nii > 0.5)"))]
    ['LO1']
    """
    if isinstance(tree, Source):
        yield tree
    elif isinstance(tree, Operation):
        yield from plain_sources(tree.left)
        yield from plain_sources(tree.right)


def region_text(tree: Node) -> str:
    """Write a tree as text, with the names of files without their folders.

    Parameters
    ----------
    tree : Node
        From `parse_region`.

    Returns
    -------
    str
        An expression that parses to the same tree, but for the folders.

    Examples
    --------
    >>> region_text(parse_region("(/data/lo.nii.gz:1 + LO2) & sphere(0, -90, 0, 8)"))
    '(lo.nii.gz:1 + LO2) & sphere(0, -90, 0, 8)'
    """
    if isinstance(tree, Source):
        name = Path(tree.text).name or tree.text
        if not re.search(r"[\s<>(),\"']", name) and name not in OPERATIONS:
            return name
        return f"'{name}'" if '"' in name else f'"{name}"'
    if isinstance(tree, Call):
        inside = ", ".join(tree.arguments)
        return f"{tree.name}({inside})"
    if isinstance(tree, Threshold):
        limit = tree.limit if isinstance(tree.limit, Source) else None
        number = f"{tree.limit:g}" if limit is None else region_text(limit)
        return f"{region_text(tree.map)} {tree.sign} {number}"
    sides = []
    for side in (tree.left, tree.right):
        text = region_text(side)
        is_plain = isinstance(side, (Source, Call))
        sides.append(text if is_plain else f"({text})")
    return f" {tree.sign} ".join(sides)


class _Parser:
    """Reads tokens from left to right; `kind` and `value` are those of the next one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
        self.end = self.count = 0
        self.kind = self.value = ""
        self.position = 0
        self._advance()

    def _advance(self) -> str:
        """Go to the next token, and give the value of the one before."""
        value = self.value
        self.position = self.end
        rest = self.text[self.end :]
        left = rest.lstrip()
        self.position += len(rest) - len(left)
        self.kind = self.value = ""
        if not left:
            return value
        self.count += 1
        if self.count > _MOST_TOKENS:
            raise self._fault(f"more than {_MOST_TOKENS} names and signs; split the expression")
        token = _TOKEN.match(self.text, self.position)
        if token is None:
            raise self._fault("a quote is not closed")
        self.kind = str(token.lastgroup)
        self.value = token[self.kind]
        self.end = token.end()
        return value

    def _fault(self, what: str) -> InputError:
        """Build the error that points at the next token."""
        rest = self.text[self.position : self.position + 30]
        where = f"at character {self.position + 1}, '{rest}'" if rest else "at its end"
        return InputError(f"{self.shown}: {where}: {what}.")

    def _sum(self, depth: int) -> Node:
        """Parse unions and differences."""
        if depth > _DEEPEST:
            raise self._fault(f"more than {_DEEPEST} brackets in each other")
        tree = self._product(depth)
        while self.kind == "sign" and self.value in ("+", "-"):
            sign = self._advance()
            right = self._product(depth)
            tree = Operation(sign, tree, right)
        return tree

    def _product(self, depth: int) -> Node:
        """Parse intersections."""
        tree = self._region(depth)
        while self.kind == "sign" and self.value == "&":
            sign = self._advance()
            right = self._region(depth)
            tree = Operation(sign, tree, right)
        return tree

    def _region(self, depth: int) -> Node:
        """Parse a bracket, a source, a threshold or a call."""
        if self.kind == "sign" and self.value == "(":
            self._advance()
            tree = self._sum(depth + 1)
            self._close()
            return tree
        source = self._source("a region")
        if self.kind != "sign":
            return source
        if self.value == "(":
            name = source.text
            if name not in CALLS:
                where = f"kind of region at character {source.position + 1} of '{self.shown}':"
                raise unknown_name(where, name, CALLS)
            arguments: list[str] = []
            while not arguments or (self.kind == "sign" and self.value == ","):
                self._advance()
                argument = self._source("an argument")
                arguments.append(argument.text)
            fewest, most = CALLS[name]
            if not fewest <= len(arguments) <= most:
                self.position = source.position
                raise self._fault(f"{name} takes {most} argument(s), not {len(arguments)}")
            self._close()
            return Call(name, tuple(arguments), source.position)
        if self.value not in COMPARISONS:
            return source
        sign = self._advance()
        limit = self._source("a number or a map")
        try:
            number = float(limit.text)
        except ValueError:
            return Threshold(source, sign, limit)
        if not np.isfinite(number):
            self.position = limit.position
            raise self._fault("a finite number is expected here")
        return Threshold(source, sign, number)

    def _source(self, what: str) -> Source:
        """Parse a word or a quoted text."""
        if self.kind not in ("word", "quoted"):
            raise self._fault(f"{what} is expected here")
        position = self.position
        text = self.value
        if self.kind == "quoted":
            text = text[1:-1]
        if not text.strip():
            raise self._fault(f"{what} is expected here")
        self._advance()
        return Source(text, position)

    def _close(self) -> None:
        """Parse a closing bracket."""
        if self.value != ")" or self.kind != "sign":
            raise self._fault("a closing bracket is expected here")
        self._advance()
