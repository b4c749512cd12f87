"""How figures are laid out: names in boxes, legends above panels, and pages of many images.

A name is broken into lines, or gets a number where it fits nowhere. Many images are placed by hand
in one axes, because an axes for each, and arranging them, takes seconds.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError
from neurometamer.figures.style import FAINT, PALE, RDM_COLORMAP, STAMP

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

    font = FontProperties(
        family="DejaVu Sans",
        size=size,
        weight="bold" if bold else "normal",
    )
    points, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return 1.03 * points / 72


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
    lines = "\n".join(texts).split("\n")
    return max(text_width(line, size, bold) for line in lines)


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
        line = ""
        for piece in _pieces(paragraph, width, size, bold):
            longer = line + piece
            if line and text_width(longer.strip(), size, bold) > width:
                lines.append(line)
                line = piece.lstrip()
            else:
                line = longer
        lines.append(line)
    return "\n".join(line.strip() for line in lines)


def _pieces(text: str, width: float, size: float, bold: bool, level: int = 0) -> Iterator[str]:
    """Cut a text into pieces, each as large as fits."""
    if level == len(_BREAKS):
        yield from text
        return
    for piece in filter(None, re.split(_BREAKS[level], text)):
        if text_width(piece.strip(), size, bold) > width:
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
    parts = [text]
    for breaks in _BREAKS[:level]:
        finer: list[str] = []
        for part in parts:
            finer += re.split(breaks, part)
        parts = finer
    bare = [part.strip() for part in parts]
    if widest(bare, size, bold) > width:
        return False
    wrapped = wrap_name(text, width, size, bold)
    return wrapped.count("\n") < lines


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
        n_lines = wrapped.count("\n") + 1
        if n_lines * size * 1.2 / 72 <= height:
            return wrapped, size
    n_lines = max(1, int(height * 72 / size / 1.2))
    lines = wrapped.split("\n")[:n_lines]
    lines[-1] = lines[-1][:-1] + "…"
    return "\n".join(lines), size


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
        words = text.split()
        name = " ".join(words)
        following = len(self._numbers) + 1
        number = self._numbers.setdefault(name, following)
        return f"[{number}]"

    @property
    def note(self) -> str:
        """Explain the numbers.

        Returns
        -------
        str
            Empty when every name fitted.
        """
        parts = []
        for name, number in self._numbers.items():
            spaced = name.replace("+", " + ")
            parts.append(f"[{number}] {spaced}")
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
    slot = 0.55 + widest(labels, TICK)
    columns = max(1, min(len(labels), int(width / slot)))
    rows = -(-len(labels) // columns)
    breaks = [label.count("\n") for label in labels]
    row_height = 0.06
    if labels:
        row_height += 0.14 * (max(breaks) + 1)
    return columns, 0.1 + rows * row_height


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
    above = 0.06
    if stamp:
        above += 0.3
        write_stamp(figure, stamp)
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
    words = stamp.upper()
    stamp_width = text_width(words, 8, bold=True)
    needed = stamp_width + 0.4
    return max(width, needed)


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
    for slot in slots:
        room = slot - 0.08
        if all(fits(name, room, TICK, 4) for name in texts):
            break
    wrapped = [names.fit(name, room, TICK, 4) for name in texts]
    lines = max(name.count("\n") + 1 for name in wrapped)
    width = float(slot)
    height = 0.1 + 0.14 * lines
    return Ticks(
        names=wrapped,
        width=width,
        height=height,
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
    n = len(ticks.names)
    places = range(n)
    axes.set_xticks(places, ticks.names, parse_math=False, fontsize=TICK)
    left = -0.5
    right = n - 0.5
    axes.set_xlim(left, right)


# --------------------------------------------------------------------------------- pages of images


def write_stamp(figure: Figure, stamp: str) -> None:
    """Write what every figure of the data must say into the corner at the top right.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Figure of its final size.
    stamp : str
        Empty for none.
    """
    if stamp:
        height = float(figure.get_figheight())
        figure.text(
            0.985,
            1 - 0.1 / height,
            stamp.upper(),
            ha="right",
            va="top",
            parse_math=False,
            **STAMP,
        )


def write_note(figure: Figure, note: str) -> None:
    """Write a note, wrapped already, into the corner at the bottom left.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Figure of its final size.
    note : str
        Its lines.
    """
    width, height = figure.get_size_inches()
    figure.text(
        0.1 / width,
        0.08 / height,
        note,
        parse_math=False,
        fontsize=7.5,
        color=FAINT,
        va="bottom",
        linespacing=1.25,
    )


class Page:
    """A figure whose parts are placed in inches from the top left.

    Parameters
    ----------
    width, height, top : float
        Width and height of the figure, and margin above its parts, in inches.
    stamp, note : str
        Above and below the parts; the note is wrapped, and further lines make the figure higher.
    """

    def __init__(self, width: float, height: float, top: float, stamp: str, note: str) -> None:
        from matplotlib.figure import Figure

        note = textwrap.fill(note, int(width * 15.5))
        height += 0.155 * note.count("\n")
        self.width, self.height, self.top = width, height, top
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1 - top / height))
        self.axes.set_axis_off()
        write_stamp(self.figure, stamp)
        write_note(self.figure, note)

    def say_none(self, left: float, top: float, side: float) -> None:
        """Write into a square that there is nothing to show.

        Parameters
        ----------
        left, top, side : float
            Inches from the top left, and length of a side.
        """
        self.text(
            left + side / 2,
            top + side / 2,
            "none",
            ha="center",
            va="center",
            fontsize=8,
            color=FAINT,
        )

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write at a place.

        Parameters
        ----------
        left, top : float
            Inches from the top left.
        text : str
            What.
        **style : object
            Arguments of matplotlib's text.
        """
        x = left / self.width
        y = 1 - top / self.height
        self.figure.text(x, y, text, parse_math=False, **style)

    def image(self, left: float, top: float, side: float, pixels: np.ndarray, **style: Any) -> None:
        """Draw a square image.

        Parameters
        ----------
        left, top, side : float
            Inches from the top left, and its side.
        pixels : ndarray
            (height, width, 3) uint8, or (height, width) for a color map.
        **style : object
            Arguments of matplotlib's imshow.
        """
        right, bottom = left + side, top + side
        extent = (left, right, bottom, top)
        self.axes.imshow(
            pixels,
            aspect="auto",
            extent=extent,
            **style,
        )

    def frame(self, left: float, top: float, side: float, **style: Any) -> None:
        """Draw the edges of a square.

        Parameters
        ----------
        left, top, side : float
            Inches from the top left, and its side.
        **style : object
            Arguments of matplotlib's Rectangle.
        """
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((left, top), side, side, fill=False, **style))

    def percentile_bar(self, top: float, bottom: float) -> None:
        """Draw the scale of percentiles at the right edge.

        Parameters
        ----------
        top, bottom : float
            Top and bottom of the heat maps, inches from the top.
        """
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        length = min(3, 0.8 * (bottom - top))
        left = 1 - 0.62 / self.width
        low = 1 - (top + bottom + length) / 2 / self.height
        axes = self.figure.add_axes((left, low, 0.12 / self.width, length / self.height))
        colors = ScalarMappable(Normalize(0, 100), RDM_COLORMAP)
        bar = self.figure.colorbar(colors, cax=axes, ticks=[0, 50, 100])
        bar.set_label("dissimilarity, percentile", labelpad=1)

    def set_limits(self) -> None:
        """Let one unit of the axes be an inch of the page.

        This comes last, since every image sets the limits again.
        """
        self.axes.set_xlim(0, self.width)
        self.axes.set_ylim(self.height, self.top)


def image_levels(image: np.ndarray) -> np.ndarray:
    """Turn an image into the levels of an 8-bit picture.

    Parameters
    ----------
    image : ndarray, shape (3, height, width)
        In [0, 1]; what leaves it is cut.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        0 to 255.

    Raises
    ------
    InputError
        For another shape.
    """
    values = np.asarray(image)
    if values.ndim != 3 or values.shape[0] != 3:
        raise InputError(
            f"images must have the shape (3, height, width), not {values.shape}; give others."
        )
    pixels = np.moveaxis(values, 0, -1)
    pixels = np.clip(pixels, 0, 1)
    levels = np.rint(255 * pixels)
    return levels.astype(np.uint8)


def percentile_rdm(rdm: np.ndarray) -> np.ndarray:
    """Replace the dissimilarities of one RDM by percentile ranks among its pairs.

    Ties have the mean of their ranks.

    Parameters
    ----------
    rdm : ndarray, shape (n, n)
        Symmetric; the diagonal is ignored; pairs that are not finite stay missing.

    Returns
    -------
    ndarray, shape (n, n)
        0 (most alike pair) to 100 (most different pair), NaN on the diagonal.
    """
    from scipy.stats import rankdata

    out = np.full(rdm.shape, np.nan)
    pairs = np.tril_indices(len(rdm), -1)
    values = np.asarray(rdm, dtype=float)[pairs]
    known = np.isfinite(values)
    ranks = np.full(values.shape, np.nan)
    last = max(known.sum() - 1, 1)
    ranks[known] = 100 * (rankdata(values[known]) - 1) / last
    out[pairs] = ranks
    out.T[pairs] = ranks
    return out


def color_scale(values: np.ndarray) -> tuple[float, float]:
    """Give the values at the ends of the colors.

    Parameters
    ----------
    values : ndarray
        What is drawn; missing ones are passed over.

    Returns
    -------
    tuple of float
        0 is always within.
    """
    low = float(np.nanmin(values, initial=0.0))
    high = float(np.nanmax(values, initial=0.0))
    if high <= low:
        high = low + 1
    return low, high


def heat_colors() -> dict[str, Any]:
    """Give the settings of `imshow` for a heat map of percentiles.

    Returns
    -------
    dict
        What is missing (and the diagonal) is pale.
    """
    from matplotlib import colormaps

    colors = colormaps[RDM_COLORMAP].with_extremes(bad=PALE)
    return {
        "cmap": colors,
        "vmin": 0,
        "vmax": 100,
        "interpolation": "nearest",
    }
