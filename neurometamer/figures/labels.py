"""Names on figures: their width, their line breaks, and numbers for names that fit nowhere."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.figures.style import STAMP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BREAKS = (r"(?<=\s)|(?=\+)", r"(?<=[_\-.:,|·])|(?=/)")
"""Where a name may be broken: first between words and members of a set, then within them."""
TICK = 8.5
"""Size of the names of ticks and in legends, points."""


@functools.lru_cache(maxsize=20_000)
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Measure one line of text without drawing it.

    Parameters
    ----------
    text : str
        The line.
    size : float
        Size of the font, points.
    bold : bool
        Heavy letters.

    Returns
    -------
    float
        Inches, with 3 % for the rounding of letters to pixels.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return 1.03 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def widest(texts: Sequence[str], size: float, bold: bool = False) -> float:
    """Measure the widest line of several texts.

    Parameters
    ----------
    texts : sequence of str
        With or without line breaks.
    size : float
        Size of the font, points.
    bold : bool
        Heavy letters.

    Returns
    -------
    float
        Inches; 0 for none.
    """
    return max(
        (text_width(line, size, bold) for text in texts for line in text.split("\n")), default=0.0
    )


def wrap_name(text: str, width: float, size: float, bold: bool = False) -> str:
    """Break a name into lines: between words or members of a set, else within them, else anywhere.

    Parameters
    ----------
    text : str
        The name; its own line breaks stay.
    width : float
        Width of a line, inches.
    size : float
        Size of the font, points.
    bold : bool
        Heavy letters.

    Returns
    -------
    str
        All of the name.

    Examples
    --------
    >>> wrap_name("squeezenet1_0+resnet50", 1.0, 9).split()
    ['squeezenet1_0', '+resnet50']
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines.append("")
        for piece in _pieces(paragraph, width, size, bold):
            if lines[-1] and text_width((lines[-1] + piece).strip(), size, bold) > width:
                lines.append(piece.lstrip())
            else:
                lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _pieces(text: str, width: float, size: float, bold: bool, level: int = 0) -> Iterator[str]:
    """Cut a text into pieces, each as large as fits."""
    for piece in filter(None, re.split(_BREAKS[level], text) if level < len(_BREAKS) else text):
        if level < len(_BREAKS) and text_width(piece.strip(), size, bold) > width:
            yield from _pieces(piece, width, size, bold, level + 1)
        else:
            yield piece


def fits(
    text: str, width: float, size: float, lines: int, bold: bool = False, *, level: int = 2
) -> bool:
    """Tell whether a name fits without being broken within its parts.

    Parameters
    ----------
    text : str
        The name.
    width : float
        Width of a line, inches.
    size : float
        Size of the font, points.
    lines : int
        Most lines.
    bold : bool
        Heavy letters.
    level : int
        1: words and members of a set stay whole; 2: they may be broken where they have underscores
        and the like.

    Returns
    -------
    bool
        True when it does.
    """
    parts = re.split(_BREAKS[0], text)
    if level > 1:
        parts = [word for part in parts for word in re.split(_BREAKS[1], part)]
    all_fit = widest([part.strip() for part in parts], size, bold) <= width
    return all_fit and wrap_name(text, width, size, bold).count("\n") < lines


def fit_size(
    text: str, width: float, height: float, sizes: Sequence[float], bold: bool = False
) -> tuple[str, float]:
    """Find the largest letters in which a name fits into a box.

    Parameters
    ----------
    text : str
        The name.
    width, height : float
        Width and height of the box, inches.
    sizes : sequence of float
        Sizes to try, largest first.
    bold : bool
        Heavy letters.

    Returns
    -------
    tuple of (str, float)
        The name in lines, and the size. What does not fit even in the smallest is cut, with an
        ellipsis.
    """
    for size in sizes:
        wrapped = wrap_name(text, width, size, bold)
        if (wrapped.count("\n") + 1) * size * 1.2 / 72 <= height:
            return wrapped, size
    lines = wrapped.split("\n")[: max(1, int(height * 72 / size / 1.2))]
    return "\n".join([*lines[:-1], lines[-1][:-1] + "…"]), size


class Names:
    """Fits names into boxes; one that does not fit gets a number, which the note explains.

    A name has the same number wherever it stands in a figure.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def fit(self, text: str, width: float, size: float, lines: int, bold: bool = False) -> str:
        """Break a name into lines.

        Parameters
        ----------
        text : str
            The name.
        width : float
            Width of a line, inches.
        size : float
            Size of the font, points.
        lines : int
            Most lines.
        bold : bool
            Heavy letters.

        Returns
        -------
        str
            The name in lines, or its number in brackets.
        """
        wrapped = wrap_name(text, width, size, bold)
        if wrapped.count("\n") < lines:
            return wrapped
        return f"[{self._numbers.setdefault(' '.join(text.split()), len(self._numbers) + 1)}]"

    @property
    def note(self) -> str:
        """Explain the numbers.

        Returns
        -------
        str
            Empty when every name fitted.
        """
        parts = (
            f"[{number}] {' + '.join(name.split('+'))}" for name, number in self._numbers.items()
        )
        return "; ".join(parts)


def legend_plan(labels: Sequence[str], width: float) -> tuple[int, float]:
    """Plan a legend above the panels.

    Parameters
    ----------
    labels : sequence of str
        With or without line breaks.
    width : float
        Room, inches.

    Returns
    -------
    tuple of (int, float)
        Columns that fit side by side, and inches of height.
    """
    columns = max(1, min(len(labels), int(width / (0.55 + widest(labels, TICK)))))
    rows = -(-len(labels) // columns)
    lines = max((label.count("\n") + 1 for label in labels), default=0)
    return columns, 0.1 + rows * (0.06 + lines * 0.14)


def top_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str], width: float, stamp: str
) -> None:
    """Put a legend above the panels, and the stamp above the legend.

    Constrained layout would put both at one place. So `new_figure` gets no stamp, and 0.34 inches
    more in height.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Where.
    handles : sequence of matplotlib artists
        What is explained.
    labels : sequence of str
        By what.
    width : float
        Room, inches.
    stamp : str
        Empty for none.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    height = float(figure.get_figheight())
    above = 0.06 + 0.3 * bool(stamp)
    if stamp:
        figure.text(
            0.985, 1 - 0.1 / height, stamp.upper(), ha="right", va="top", parse_math=False, **STAMP
        )
    columns, _ = legend_plan(labels, width)
    legend = figure.legend(
        list(handles),
        list(labels),
        loc="upper left",
        bbox_to_anchor=(0.05 / width, 1 - above / height),
        ncols=columns,
        fontsize=TICK,
        borderaxespad=0,
        handlelength=1.8,
        columnspacing=1.5,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    above += legend.get_window_extent().height / figure.dpi
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, 0, 1, 1 - above / height))


def page_width(width: float, stamp: str) -> float:
    """Make a page at least as wide as its stamp.

    Parameters
    ----------
    width : float
        Width of what is on it, inches.
    stamp : str
        Empty for none.

    Returns
    -------
    float
        Inches.
    """
    return max(width, text_width(stamp.upper(), 8, bold=True) + 0.4)


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """Names along an x axis.

    Attributes
    ----------
    names : sequence of str
        In lines.
    width : float
        Inches that each may take.
    height : float
        Inches that they take below the axis.
    """

    names: Sequence[str]
    width: float
    height: float


def plan_ticks(names: Names, texts: Sequence[str], least: float, most: float = 1.3) -> Ticks:
    """Choose the narrowest slots in which all names of an x axis fit side by side.

    Parameters
    ----------
    names : Names
        Numbers those that never fit.
    texts : sequence of str
        One a tick.
    least, most : float
        Inches a tick; more than `most` only where `least` is.

    Returns
    -------
    Ticks
        The names in at most 4 lines.
    """
    slots = [least, *np.arange(least + 0.15, most, 0.15), max(least, most)]
    slot = next(
        (
            slot_width
            for slot_width in slots
            if all(fits(name, slot_width - 0.08, TICK, 4) for name in texts)
        ),
        slots[-1],
    )
    wrapped = [names.fit(name, slot - 0.08, TICK, 4) for name in texts]
    return Ticks(
        names=wrapped,
        width=float(slot),
        height=0.1 + 0.14 * max(name.count("\n") + 1 for name in wrapped),
    )


def name_ticks(axes: Axes, ticks: Ticks) -> None:
    """Name the ticks of an x axis, which stand at 0, 1, 2 and so on.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Whose ticks.
    ticks : Ticks
        From `plan_ticks`.
    """
    axes.set_xticks(range(len(ticks.names)), ticks.names, parse_math=False, fontsize=TICK)
    axes.set_xlim(-0.5, len(ticks.names) - 0.5)
