"""What all figures share: style, stamp, saving, and how names and numbers are written on them."""

from __future__ import annotations

import contextlib
import os
import sys
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer import errors
from neurometamer.arguments import checked
from neurometamer.errors import InputError, count_text
from neurometamer.store import atomic_path, write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROI_ORDER = ("V1", "V2", "V3", "V4", "LO")
"""Early to late; areas of other names follow in table order."""

KINDS = {
    "RE": "regular",
    "AN": "adversarial\nnoise",
    "AI": "adversarial\ninterference",
}
KIND_NAMES = {
    "RE": "photographs (RE)",
    "AN": "adversarial noise (AN)",
    "AI": "adversarial interference (AI)",
}
"""Kind of image to its name where a page or a caption first says it."""
PAIRS = {
    "RE-AN": "RE–AN",
    "RE-AI": "RE–AI",
}
COLORS = {
    "RE": "#333333",
    "AN": "#D55E00",
    "AI": "#0072B2",
    "RE-AN": "#D55E00",
    "RE-AI": "#0072B2",
}
MARKERS = {
    "RE": "o",
    "AN": "s",
    "AI": "^",
}
HATCHES = {
    "RE-AN": "////",
    "RE-AI": "",
}
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8a7a00")
"""Okabe and Ito's colors without black, which is the color of people and of means. Their yellow is
darkened to be seen on white."""
SIGNS = ("s", "^", "D", "v", "P", "X", "<")
RDM_COLORMAP = "viridis"
MATRIX_COLORMAP = "cividis"
INK, FAINT, PALE = "#222222", "#767676", "#d9d9d9"

STAMP: dict[str, Any] = {
    "fontsize": 8,
    "fontweight": "bold",
    "bbox": {
        "boxstyle": "round,pad=0.3",
        "facecolor": "#FFF3C4",
        "edgecolor": "#8A6D00",
        "linewidth": 0.8,
    },
}

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "image.composite_image": False,
    "svg.hashsalt": "neurometamer",
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}


FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
    "Noto Sans Arabic",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Nirmala UI",
)
"""Fonts of Linux, macOS and Windows for letters that DejaVu Sans lacks. Such letters are Chinese,
Japanese and Korean ones."""


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Draw with our settings whatever the user's matplotlibrc says; theirs are back afterwards.

    Yields
    ------
    None
        While the settings hold.
    """
    from matplotlib import style
    from matplotlib.font_manager import fontManager

    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        from IPython.core.pylabtools import select_figure_formats
        from matplotlib.figure import Figure

        # By itself a notebook draws a figure that a cell ends with only where pyplot was imported.
        formatters = shell.display_formatter.formatters.values()
        if not any(Figure in formatter.type_printers for formatter in formatters):
            select_figure_formats(shell, {"png"})
    # Behind our font are installed ones with letters that it lacks.
    installed = set(fontManager.get_font_names())
    families = [str(STYLE["font.family"])]
    families += [name for name in FALLBACK_FONTS if name in installed]
    with (
        style.context(["default", STYLE | {"font.family": families}]),
        warnings.catch_warnings(),
    ):
        # A box is drawn for a letter that no font here has; tables and pages have the letter
        # itself.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


@checked
def save_figure(figure: Figure, path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write a figure as SVG and as PNG, each atomically; equal figures give equal bytes.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : path-like
        Final name without suffix; ``.svg`` and ``.png`` are added.

    Returns
    -------
    tuple of Path
        The SVG and the PNG (150 dots per inch; raster parts of the SVG have that resolution too).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from matplotlib.figure import Figure
    >>> from neurometamer.figures.study import save_figure
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = save_figure(Figure(figsize=(1, 1)), Path(folder) / "empty")
    >>> [file.name for file in files]
    ['empty.svg', 'empty.png']
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    name = os.fspath(path)
    svg, png = Path(f"{name}.svg"), Path(f"{name}.png")
    engine, canvas, dpi = figure.get_layout_engine(), figure.canvas, figure.dpi
    with figure_style():
        if engine is not None:
            # Arranging takes longer than drawing: once for both files, so that both are laid out
            # alike.
            engine.execute(figure)
            figure.set_layout_engine("none")
        # The canvases themselves, because `Figure.savefig` draws everything a second time to
        # arrange it.
        figure.set_dpi(150)
        with atomic_path(svg) as part:
            FigureCanvasSVG(figure).print_svg(part, metadata={"Date": None})
        figure.set_dpi(150)  # drawing an SVG leaves 72 behind
        with atomic_path(png) as part:
            # Level 6, the default, takes twice as long for files a few percent smaller.
            canvas_png = FigureCanvasAgg(figure)
            canvas_png.print_png(
                part,
                metadata={"Software": None},
                pil_kwargs={"compress_level": 4},
            )
    figure.set_canvas(canvas)
    figure.set_dpi(dpi)
    figure.set_layout_engine(engine)
    return svg, png


@checked
def save_figure_and_table(
    figure: Figure, path: str | os.PathLike[str], table: pd.DataFrame
) -> tuple[Path, Path, Path]:
    """Write a figure and, beside it, the numbers behind it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : path-like
        Final name without suffix; ``.svg``, ``.png`` and ``.csv`` are added.
    table : DataFrame
        What was drawn; the index is not written.

    Returns
    -------
    tuple of Path
        The SVG, the PNG and the CSV.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> from neurometamer.figures.rsa import save_figure_and_table
    >>> table = pd.DataFrame({"layer": ["early", "late"], "r": [0.4, 0.2]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = save_figure_and_table(Figure(figsize=(1, 1)), Path(folder) / "empty", table)
    >>> [file.name for file in files]
    ['empty.svg', 'empty.png', 'empty.csv']
    """
    svg, png = save_figure(figure, path)
    start = os.fspath(path)
    numbers = write_table(f"{start}.csv", table)
    return svg, png, numbers


def new_figure(width: float, height: float, stamp: str, note: str) -> Figure:
    """Make a figure with the stamp above and the note below, outside every axes.

    Parameters
    ----------
    width, height : float
        Inches for the axes; stamp and note come on top of it.
    stamp : str
        Empty for none.
    note : str
        Wrapped to the width; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        Without axes.
    """
    from matplotlib.figure import Figure

    extra = 0.0
    if stamp:
        extra += 0.34
    if note:
        note = textwrap.fill(note, int(width * 15.5))
        extra += 0.155 * (note.count("\n") + 1)
    figure = Figure(
        figsize=(width, height + extra),
        layout="constrained",
        facecolor="white",
    )
    if stamp:
        # suptitle without a height: constrained layout then keeps every axes below it.
        figure.suptitle(
            stamp.upper(),
            x=0.985,
            ha="right",
            parse_math=False,
            **STAMP,
        )
    if note:
        figure.supxlabel(
            note,
            x=0.01,
            ha="left",
            parse_math=False,
            fontsize=7.5,
            color=FAINT,
            linespacing=1.25,
        )
    return figure


def need_columns(table: pd.DataFrame, what: str, columns: Iterable[str]) -> None:
    """Refuse a table that cannot be drawn.

    Parameters
    ----------
    table : DataFrame
        What came.
    what : str
        Its name in the message.
    columns : iterable of str
        Columns it must have.

    Raises
    ------
    InputError
        When columns or rows are missing.
    """
    errors.need_columns(table, columns, f"the {what} table")
    if table.empty:
        raise InputError(f"the {what} table has no rows to draw; give at least one.")


def order_representations(names: Iterable[object]) -> list[str]:
    """Put the names of ROIs in the order V1, V2, V3, V4, LO.

    Other names, those of layers too, keep their order.

    Parameters
    ----------
    names : iterable
        Names, repeated or not.

    Returns
    -------
    list of str
        Each name once.

    Examples
    --------
    >>> order_representations(["LO", "FFA", "V1", "LO"])
    ['V1', 'LO', 'FFA']
    """
    present = list(dict.fromkeys(map(str, names)))
    known = [name for name in ROI_ORDER if name in present]
    return known + [name for name in present if name not in ROI_ORDER]


def clip_name(text: object, length: int) -> str:
    """Cut a class name at its first comma and, if still too long, with an ellipsis.

    Parameters
    ----------
    text : object
        The name.
    length : int
        Most characters.

    Returns
    -------
    str
        The name as drawn.

    Examples
    --------
    >>> clip_name("espresso maker, coffee machine", 20), clip_name("greenhouse", 6)
    ('espresso maker', 'green…')
    """
    first = str(text).split(",")[0]
    name = first.strip()
    if len(name) <= length:
        return name
    start = name[: length - 1]
    return start.rstrip() + "…"


def format_number(value: float, digits: int = 2) -> str:
    """Write .31 and −.05, as papers do for numbers that stay within ±1.

    Parameters
    ----------
    value : float
        The number.
    digits : int
        Decimals.

    Returns
    -------
    str
        A dash for what is not finite.

    Examples
    --------
    >>> format_number(-0.052), format_number(1.0), format_number(-0.001)
    ('−.05', '1.00', '.00')
    """
    if not np.isfinite(value):
        return "–"
    size = abs(value)
    text = f"{size:.{digits}f}"
    is_negative = value < 0 and float(text) > 0
    if digits and size < 1:
        text = text.removeprefix("0")
    if is_negative:
        return f"−{text}"
    return text


def names_height(names: Sequence[str], width: float) -> float:
    """Say how much room the tick names of an x axis take, so that long names do not eat the panel.

    Parameters
    ----------
    names : sequence of str
        One a tick.
    width : float
        Width of the axes, inches.

    Returns
    -------
    float
        Inches; more than .25 when the names would touch side by side and are slanted.
    """
    longest = max(len(name) for name in names)
    needed = longest * 0.085
    room = width / len(names)
    if needed <= room:
        return 0.25
    return 0.25 + 0.052 * longest


def name_axis(axes: Axes, names: Sequence[str], width: float) -> None:
    """Name the ticks of an x axis; slanted when the names would touch.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Whose ticks.
    names : sequence of str
        One a tick, at 0, 1, 2 …
    width : float
        Width of the axes, inches.
    """
    n = len(names)
    axes.set_xticks(range(n), names, parse_math=False)
    height = names_height(names, width)
    if height > 0.25:
        axes.tick_params(axis="x", labelrotation=40)
        labels = axes.get_xticklabels()
        for label in labels:
            label.set(ha="right", rotation_mode="anchor")
    right = n - 0.4
    axes.set_xlim(-0.6, right)


def panel_grid(figure: Figure, n_panels: int, per_row: int) -> list[Axes]:
    """Make panels that share one y axis.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Where.
    n_panels : int
        How many.
    per_row : int
        How many side by side.

    Returns
    -------
    list of matplotlib.axes.Axes
        Left to right, top to bottom.
    """
    n_rows = -(-n_panels // per_row)
    n_columns = min(per_row, n_panels)
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
    panels = grid.ravel().tolist()
    unused = panels[n_panels:]
    for panel in unused:
        panel.set_axis_off()
    return panels[:n_panels]


def describe_sizes(table: pd.DataFrame) -> str:
    """Say how many photographs the rows of a table rest on.

    Parameters
    ----------
    table : DataFrame
        With or without a column n.

    Returns
    -------
    str
        ``"n = 16 photographs"``; empty when the table does not tell.
    """
    if "n" not in table.columns or table["n"].dropna().empty:
        return ""
    n = table["n"]
    low = int(n.min())
    high = int(n.max())
    if low == high:
        words = count_text(low, "photograph")
        return f"n = {words}"
    return f"n = {low} to {high} photographs"


def describe_methods(table: pd.DataFrame) -> str:
    """Name the methods of a table's numbers.

    Parameters
    ----------
    table : DataFrame
        With or without a column method.

    Returns
    -------
    str
        Each method once; empty when the table does not tell.
    """
    if "method" not in table.columns:
        return ""
    methods = table["method"].dropna().astype(str)
    return "; ".join(dict.fromkeys(methods))


def join_note(*parts: str) -> str:
    """Join parts into sentences.

    Parameters
    ----------
    *parts : str
        With or without a full stop; empty ones are dropped.

    Returns
    -------
    str
        Ends with a full stop.
    """
    sentences = [part.rstrip(".") for part in parts if part]
    return ". ".join(sentences) + "."


def probability_text(value: float) -> str:
    """Write a p-value or a probability.

    Parameters
    ----------
    value : float
        In [0, 1].

    Returns
    -------
    str
        Three decimals.

    Examples
    --------
    >>> probability_text(0.0123), probability_text(0.0002), probability_text(1.0)
    ('.012', '< .001', '1.000')
    """
    return "< .001" if value < 0.001 else format_number(value, 3)


def p_text(p: float) -> str:
    """Write a p-value as it stands after the letter.

    Parameters
    ----------
    p : float
        In [0, 1], or NaN.

    Returns
    -------
    str
        With its sign of equality.

    Examples
    --------
    >>> p_text(0.0123), p_text(0.0002)
    ('= .012', '< .001')
    """
    if p < 0.001:
        return probability_text(p)
    return f"= {probability_text(p)}"
