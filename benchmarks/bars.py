"""What a measured bar is: numbers, each with its bound where there is one."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SENSES: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge}


class NotAvailable(Exception):
    """What is to be measured is not installed, or not in this version of the project."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How to run.

    Attributes
    ----------
    quick : bool
        Small sizes: to see that everything works, not to be quoted.
    data : Path or None
        Folder of the real data sets (photographs, SqueezeNet's weights).
    scratch : Path
        Empty folder for files.
    """

    quick: bool
    data: Path | None
    scratch: Path

    def pick(self, full: int, quick: int) -> int:
        """Choose a size.

        Parameters
        ----------
        full, quick : int
            Of the whole and of the quick run.

        Returns
        -------
        int
            One of them.
        """
        return quick if self.quick else full


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number.

    Attributes
    ----------
    what : str
        What was measured.
    value : float or None
        None where it is not available; `note` says why.
    unit : str
        Of the value.
    sense, bound : str and float, optional
        ``"<="`` or ``">="`` what; without them the number is information.
    note : str
        What the reader must know.
    """

    what: str
    value: float | None
    unit: str = ""
    sense: str = ""
    bound: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the bound is kept; None without bound or value."""
        if self.bound is None or self.value is None:
            return None
        return SENSES[self.sense](self.value, self.bound)

    @property
    def verdict(self) -> str:
        """Say whether the bound is kept, and by how much."""
        if self.value is None:
            return "not available"
        if self.bound is None:
            return ""
        word = "met" if self.met else "MISSED"
        if not self.bound or not self.value:
            return word
        return f"{word} ({self.value / self.bound:.2f} of the bound)"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One thing to measure.

    Attributes
    ----------
    title : str
        In one line.
    run : callable
        `Setup` to rows. May raise `NotAvailable`.
    """

    title: str
    run: Callable[[Setup], Sequence[Row]] = field(repr=False)
