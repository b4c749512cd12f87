"""Matrices of numbers, one a cell.

They show who recognizes which metamers, how far representations are, and observers by generator.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Fig. 5: evaluators by sets, dashed where the evaluator took
part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.layout import Names, fits, page_width, widest
from neurometamer.figures.style import (
    FAINT,
    MATRIX_COLORMAP,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
)
from neurometamer.figures.tables import (
    COUNTS,
    MEAN_OF_EVALUATORS,
    SET_KEY,
    are_true,
    gather_notes,
    is_true,
    names_as_text,
    of_state,
    one_measure,
    order_sets,
    refuse_repeats,
    set_names,
    share_title,
    share_words,
    state_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

Group = tuple[str, int]
"""A name and how many rows or columns it stands over."""
_ROW, _COLUMN, _HEAD = 8.5, 8.0, 8.5
"""Sizes of the names of rows, columns and groups, points."""
_GAP, _GROUP_GAP = 0.09, 0.05
"""Before cells that are set apart, and between groups, inches."""
_HATCHED: dict[str, Any] = {
    "facecolor": "#f2f2f2",
    "edgecolor": "#bdbdbd",
    "hatch": "////",
    "linewidth": 0,
}
_DASHES = (0, (3, 1.6))
_RANDOM = " (random weights)"


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """What is drawn: a cell without value is hatched; `second` stands small under the number."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    words: np.ndarray
    dashed: np.ndarray
    second: np.ndarray | None = None
    heads: Sequence[Group] = ()
    sides: Sequence[Group] = ()
    apart: tuple[int, int] = (0, 0)
    footer: tuple[str, Sequence[str]] = ("", ())
    axis_names: tuple[str, str] = ("", "")


# ------------------------------------------------------------------------------------------ drawing


def _edges(n: int, apart: int, groups: Sequence[Group], inches: float) -> np.ndarray:
    """Find left or upper edges of cells of some inches.

    There is room before what is set apart and between groups.
    """
    edges = np.arange(n, dtype=float)
    if apart:
        start = n - apart
        edges[start:] += _GAP / inches
    sizes = [size for _, size in groups]
    ends = np.cumsum(sizes)
    gap = _GROUP_GAP / inches
    for end in ends[:-1]:
        edges[end:] += gap
    return edges


def _column_width(cells: _Cells, limit: float) -> float:
    """Choose the narrowest columns in which all names fit; those that never fit get numbers."""
    widths = [0.6, 0.75, 0.9, 1.1, 1.3]
    allowed = [width for width in widths if width * len(cells.columns) <= limit] or widths[:1]
    tries = [(1, width) for width in allowed if width <= 0.9]
    tries += [(2, width) for width in allowed]
    for level, width in tries:
        fit = []
        for name in cells.columns:
            fit.append(fits(name, width - 0.06, _COLUMN, 4, level=level))
        for head, size in cells.heads:
            fit.append(fits(head, size * width - 0.1, _HEAD, 4, True, level=level))
        if all(fit):
            return width
    return allowed[-1]


def _draw(
    cells: _Cells, scale: tuple[float, float], label: str, note: Sequence[str], stamp: str
) -> Figure:
    names = Names()
    footer, footers = cells.footer
    rows = [names.fit(name, 2.6, _ROW, 2) for name in cells.rows]
    left = widest([*rows, footer], _ROW) + 0.02
    height = 0.27
    if cells.second is not None or "\n" in "".join(rows):
        height = 0.36
    y = _edges(len(rows), cells.apart[0], cells.sides, height)
    sides = []
    for name, size in cells.sides:
        lines = max(1, int(size * height / 0.15))
        sides.append((names.fit(name, 1.2, _HEAD, lines, bold=True), size))
    side = widest([name for name, _ in sides], _HEAD, bold=True) + 0.25 if sides else 0.0
    named = bool(cells.axis_names[0])
    margin = left + side + 0.25 + 0.2 * named
    width = _column_width(cells, 13)
    x = _edges(len(cells.columns), cells.apart[1], cells.heads, width)
    columns = [names.fit(name, width - 0.06, _COLUMN, 4) for name in cells.columns]
    heads = []
    for name, size in cells.heads:
        heads.append((names.fit(name, size * width - 0.1, _HEAD, 4, bold=True), size))
    above = 0.15 + _text_height(columns) + _text_height([name for name, _ in heads])
    below = y[-1] + 1 + bool(footer)
    page = page_width(max(margin + width * (x[-1] + 1), 4.6), stamp)
    room = page - margin
    with figure_style():
        inches = above + height * below + 0.2 * named + 0.75
        figure = new_figure(page, inches, stamp, join_note(*note, names.note))
        axes = figure.subplots()
        axes.set(xlim=(-0.02, room / width), ylim=(below + 0.02, -0.02))
        axes.spines[:].set_visible(False)
        axes.set_xticks(x + 0.5, columns, parse_math=False, fontsize=_COLUMN)
        ticks, labels = [*(y + 0.5)], [*rows]
        if footer:
            ticks.append(below - 0.5)
            labels.append(footer)
        axes.set_yticks(ticks, labels, parse_math=False, fontsize=_ROW)
        axes.tick_params(
            length=0,
            labeltop=True,
            labelbottom=False,
            pad=3,
        )
        drawn = _draw_cells(axes, cells, x, y, (width, height), scale)
        where: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": 7.5,
            "color": FAINT,
        }
        for place, words in zip(x, footers):
            axes.text(place + 0.5, below - 0.5, words, **where)
        _draw_groups(axes, heads, x, _text_height(columns) + 0.09, across=True)
        _draw_groups(axes, sides, y, left + 0.13, across=False)
        if named:
            _name_axes(axes, cells.axis_names, above, left + side)
        # The scale below the cells is as long and as thick in every figure.
        length = min(3.0, room)
        bar = figure.colorbar(
            drawn,
            ax=axes,
            location="bottom",
            shrink=length / room,
            aspect=length / 0.09,
            pad=0.06 / (height * below),
        )
        bar.set_label(label, fontsize=_ROW, parse_math=False)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        return figure


def _text_height(texts: Sequence[str]) -> float:
    """Inches that the tallest of some names takes, with room around it."""
    if not texts:
        return 0.0
    lines = max(text.count("\n") + 1 for text in texts)
    return 0.07 + 0.135 * lines


def _draw_cells(
    axes: Axes,
    cells: _Cells,
    x: np.ndarray,
    y: np.ndarray,
    size: tuple[float, float],
    scale: tuple[float, float],
) -> Any:
    """Draw cells of a size in inches; returned is what the color bar explains."""
    from matplotlib.patches import Rectangle

    filled = np.isfinite(cells.values)
    drawn = colored_squares(axes, cells.values, x, y, scale)
    middle = 0.45 * scale[0] + 0.55 * scale[1]
    across, down = 0.045 / size[0], 0.03 / size[1]
    n_rows, n_columns = cells.values.shape
    for row, column in np.ndindex(n_rows, n_columns):
        left, top = float(x[column]), float(y[row])
        dark = filled[row, column] and cells.values[row, column] <= middle
        color = "white" if dark else "black"
        if not filled[row, column] and cells.words[row, column]:
            corner = (left + across / 3, top + down / 3)
            hatched = Rectangle(corner, 1 - across / 1.5, 1 - down / 1.5, **_HATCHED)
            axes.add_patch(hatched)
        if cells.dashed[row, column]:
            frame = Rectangle(
                (left + across, top + down),
                1 - 2 * across,
                1 - 2 * down,
                fill=False,
                edgecolor=color,
                linewidth=1.3,
                linestyle=_DASHES,
            )
            axes.add_patch(frame)
        small = "" if cells.second is None else str(cells.second[row, column])
        is_apart = row >= n_rows - cells.apart[0] or column >= n_columns - cells.apart[1]
        in_middle: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": color}
        number = axes.text(
            left + 0.5,
            top + 0.5 - 0.15 if small else top + 0.5,
            str(cells.words[row, column]),
            fontsize=8,
            fontweight="bold" if is_apart else "normal",
            **in_middle,
        )
        number.set_in_layout(False)  # inside its cell anyway; measuring hundreds takes long
        if small:
            under = axes.text(left + 0.5, top + 0.5 + 0.25, small, fontsize=6.5, **in_middle)
            under.set_in_layout(False)
    return drawn


def colored_squares(
    axes: Axes,
    values: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    scale: tuple[float, float],
    line_width: float = 1,
) -> PolyCollection:
    """Draw a square of one unit for each finite value.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    values : ndarray, shape (n_rows, n_columns)
        The values; there is no square where one is missing.
    x, y : ndarray, shape (n_columns,) and (n_rows,)
        Left and upper edges of the squares.
    scale : tuple of float
        Values at the ends of the colors.
    line_width : float
        Width of the white line around each, points.

    Returns
    -------
    matplotlib.collections.PolyCollection
        What a color bar explains.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize

    filled = np.isfinite(values)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    corners = []
    for row, column in np.argwhere(filled):
        corners.append(square + np.array([x[column], y[row]]))
    squares = PolyCollection(
        corners,
        cmap=MATRIX_COLORMAP,
        norm=Normalize(*scale),
        edgecolors="white",
        linewidths=line_width,
        antialiaseds=False,
    )
    squares.set_array(values[filled].astype(float))
    axes.add_collection(squares, autolim=False)
    return squares


def _offset(axes: Axes, inches: float, across: bool) -> Transform:
    """Place things so many inches above the axes, or left of it."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    assert figure is not None
    if across:
        return axes.get_xaxis_transform() + ScaledTranslation(0, inches, figure.dpi_scale_trans)
    return axes.get_yaxis_transform() + ScaledTranslation(-inches, 0, figure.dpi_scale_trans)


def _draw_groups(
    axes: Axes, groups: Sequence[Group], places: np.ndarray, inches: float, *, across: bool
) -> None:
    """Name groups of columns above their names, or groups of rows left of theirs.

    A line runs along each group.
    """
    line_style: dict[str, Any] = {
        "transform": _offset(axes, inches, across),
        "color": FAINT,
        "linewidth": 1,
        "clip_on": False,
        "scalex": False,
        "scaley": False,
    }
    text_style: dict[str, Any] = {
        "fontsize": _HEAD,
        "fontweight": "bold",
        "transform": _offset(axes, inches + 0.05, across),
        "linespacing": 1.1,
        "parse_math": False,
    }
    end = 0
    for name, size in groups:
        start, end = end, end + size
        if not name:
            continue
        low, high = places[start] + 0.06, places[end - 1] + 0.94
        middle = (low + high) / 2
        if across:
            axes.plot([low, high], [1, 1], **line_style)
            axes.text(
                middle,
                1,
                name,
                ha="center",
                va="bottom",
                **text_style,
            )
        else:
            axes.plot([0, 0], [low, high], **line_style)
            axes.text(
                0,
                middle,
                name,
                ha="right",
                va="center",
                multialignment="right",
                **text_style,
            )


def _name_axes(axes: Axes, names: tuple[str, str], above: float, left: float) -> None:
    """Say what rows and columns are, beyond the names of all of them."""
    where: dict[str, Any] = {
        "fontsize": 9,
        "fontstyle": "italic",
        "color": FAINT,
    }
    axes.text(
        0.02,
        1,
        names[1] + " →",
        ha="left",
        va="bottom",
        transform=_offset(axes, above, True),
        **where,
    )
    axes.text(
        0,
        0,
        "← " + names[0],
        ha="right",
        va="top",
        rotation=90,
        transform=_offset(axes, left + 0.1, False),
        **where,
    )


# ---------------------------------------------------------------------------------- sets in columns


def _evaluator_names(rows: pd.DataFrame) -> dict[str, str]:
    """List evaluators as they come, with their names in the figure."""
    is_single = rows["evaluator"] != MEAN_OF_EVALUATORS
    single = rows[is_single].drop_duplicates("evaluator")
    names = {}
    for evaluator, trained in zip(single["evaluator"], single["trained"]):
        name = evaluator
        if not is_true(trained):
            name += _RANDOM
        names[evaluator] = name
    return names


def _by_set(rows: pd.DataFrame, evaluators: Sequence[str], column: str) -> np.ndarray:
    """Arrange a column as evaluators × sets; what is not in the table is missing."""
    wide = rows.pivot(
        index="evaluator",
        columns=list(SET_KEY),
        values=column,
    )
    sets = pd.MultiIndex.from_tuples(order_sets(rows))
    return wide.reindex(index=list(evaluators), columns=sets).to_numpy()


def _flags_by_set(rows: pd.DataFrame, evaluators: Sequence[str], column: str) -> np.ndarray:
    """Arrange truth values as evaluators × sets; what is missing is false."""
    flags = rows.assign(**{column: are_true(rows[column])})
    by_set = _by_set(flags, evaluators, column)
    return by_set == True  # noqa: E712 - missing is not true


def _cells_of_sets(
    rows: pd.DataFrame,
    validity: str,
    names: Sequence[str],
    values: np.ndarray,
    words: np.ndarray,
    dashed: np.ndarray,
    **more: Any,
) -> _Cells:
    """Put evaluators in rows, and sets with their stages in columns, over shares of metamers."""
    keys = order_sets(rows)
    several = rows["setting"].nunique() > 1
    sets = [set_name for set_name, _, _ in keys]
    columns = list(SET_KEY)
    of_sets = rows.drop_duplicates(columns)
    shares = {}
    for _, row in of_sets.iterrows():
        key = tuple(row[columns])
        shares[key] = share_words(row, validity)
    return _Cells(
        rows=names,
        columns=[f"{stage}\n{setting}" if several else stage for _, stage, setting in keys],
        heads=[(set_name, sets.count(set_name)) for set_name in dict.fromkeys(sets)],
        values=values,
        words=words,
        dashed=dashed,
        footer=(share_title(validity), [shares[key] for key in keys]),
        **more,
    )


def _set_notes(
    rows: pd.DataFrame, validity: str, dashed: np.ndarray, values: np.ndarray, left_out: str = ""
) -> list[str]:
    """Explain the state, the setting where all sets have the same, frames and hatching."""
    settings = [setting for setting in dict.fromkeys(rows["setting"]) if setting]
    is_complete = np.isfinite(values).all()
    evaluators = rows["evaluator"].tolist()
    notes = gather_notes(rows, set_names(rows), evaluators)
    return [
        state_words(validity),
        f"Setting: {settings[0]}" if len(settings) == 1 else "",
        f"Dashed frame: took part in making the images{left_out}" if dashed.any() else "",
        "" if is_complete else "Hatched: no value",
        notes,
    ]


@checked
def recognizability_matrix(
    table: pd.DataFrame,
    *,
    ways: int | None = None,
    rule: str | None = None,
    validity: str = "valid",
    stamp: str = "",
) -> Figure:
    """Draw how often each evaluator recognizes the metamers of each set.

    Evaluators run down, sets and stages across.

    Parameters
    ----------
    table : DataFrame
        Columns set, stage, setting, evaluator, trained, took_part, ways, rule, validity, value,
        n_valid, n_failed, n_not_judged; target, n_averaged and note are shown when there. Rows of
        ``mean of evaluators`` are set apart.
    ways : int, optional
        1000 or 16; the first in the table by default.
    rule : str, optional
        How classes become categories; the first of these ways by default.
    validity : {"valid", "failed", "not judged"}
        Which metamers.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Shares from 0 to 1. Dashed: the evaluator took part in making the images, and is left out of
        the mean.

    Raises
    ------
    InputError
        When columns or rows are missing, or a cell has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import recognizability_matrix
    >>> row = {"set": "A", "stage": "late", "setting": "", "evaluator": "B", "trained": True}
    >>> measure = {"took_part": False, "ways": 16, "rule": "sum", "validity": "valid", "value": 0.5}
    >>> counts = {"n_valid": 12, "n_failed": 0, "n_not_judged": 0}
    >>> figure = recognizability_matrix(pd.DataFrame([{**row, **measure, **counts}]))
    >>> len(figure.axes) > 0
    True
    """
    columns = (
        *SET_KEY,
        "evaluator",
        "trained",
        "took_part",
        "ways",
        "rule",
        "validity",
        "value",
        *COUNTS,
    )
    need_columns(table, "recognizability", columns)
    rows, measure = one_measure(
        table,
        "recognizability",
        ways=ways,
        rule=rule,
        validity=validity,
    )
    refuse_repeats(rows, "recognizability", ("evaluator", *SET_KEY))
    named = _evaluator_names(rows)
    left_out = ""
    if (rows["evaluator"] == MEAN_OF_EVALUATORS).any():
        named[MEAN_OF_EVALUATORS] = MEAN_OF_EVALUATORS
        left_out = ", and left out of the mean"
    values = _by_set(rows, list(named), "value").astype(float)
    dashed = _flags_by_set(rows, list(named), "took_part")
    if left_out:
        dashed[-1] = False
    cells = _cells_of_sets(
        rows,
        validity,
        list(named.values()),
        values,
        _numbers(values),
        dashed,
        apart=(int(bool(left_out)), 0),
    )
    notes = _set_notes(rows, validity, dashed, values, left_out)
    return _draw(cells, (0, 1), "share recognized", [f"Share recognized, {measure}", *notes], stamp)


def _numbers(values: np.ndarray) -> np.ndarray:
    words = np.empty(values.shape, dtype=object)
    for row, column in np.ndindex(values.shape):
        words[row, column] = format_number(float(values[row, column]))
    return words


@checked
def divergence_heatmap(table: pd.DataFrame, *, validity: str = "valid", stamp: str = "") -> Figure:
    """Draw how far representations of metamers are from those of photographs.

    Evaluators run down, sets and stages across.

    Parameters
    ----------
    table : DataFrame
        Columns set, stage, setting, evaluator, trained, took_part, validity, comparison, headline,
        value, p, null_95, degenerate, n_valid, n_failed, n_not_judged; note is shown when there.
        Rows with ``headline`` are drawn.
    validity : {"valid", "failed", "not judged"}
        Which metamers.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Jensen-Shannon divergence from 0 to 1, under it the null's 95 %. Dashed: the evaluator took
        part.

    Raises
    ------
    InputError
        When columns or rows are missing, or a cell has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import divergence_heatmap
    >>> row = {"set": "A", "stage": "late", "setting": "", "evaluator": "B", "trained": True}
    >>> state = {"took_part": False, "validity": "valid", "comparison": "RE-metamer"}
    >>> tested = {"headline": True, "value": 0.3, "p": 0.02, "null_95": 0.2, "degenerate": False}
    >>> counts = {"n_valid": 12, "n_failed": 0, "n_not_judged": 0}
    >>> figure = divergence_heatmap(pd.DataFrame([{**row, **state, **tested, **counts}]))
    >>> len(figure.axes) > 0
    True
    """
    columns = (
        *SET_KEY,
        "evaluator",
        "trained",
        "took_part",
        "validity",
        "comparison",
        "headline",
        "value",
        "p",
        "null_95",
        "degenerate",
        *COUNTS,
    )
    need_columns(table, "divergence", columns)
    headline = table[are_true(table["headline"])]
    rows = names_as_text(of_state(headline, "divergence", validity), *SET_KEY)
    refuse_repeats(rows, "divergence", ("evaluator", *SET_KEY))
    named = _evaluator_names(rows)
    evaluators = list(named)
    value, p, null = (
        _by_set(rows, evaluators, column).astype(float) for column in ("value", "p", "null_95")
    )
    dashed = _flags_by_set(rows, evaluators, "took_part")
    degenerate = _flags_by_set(rows, evaluators, "degenerate")
    known = np.isfinite(value)
    words = _numbers(value)
    words[known & (p < 0.05)] += "*"
    words[known & degenerate] += "†"
    second = np.full(null.shape, "", dtype=object)
    for row, column in np.argwhere(np.isfinite(null)):
        second[row, column] = f"({format_number(null[row, column])})"
    cells = _cells_of_sets(
        rows,
        validity,
        list(named.values()),
        value,
        words,
        dashed,
        second=second,
    )
    kinds = {
        "RR": "between photographs (RR)",
        "MM": "between metamers (MM)",
        "RM": "photograph to metamer (RM)",
    }
    compared = [kinds.get(kind, kind) for kind in str(rows["comparison"].iloc[0]).split("-")]
    note = [
        f"Jensen-Shannon divergence, base 2, of the distances {' and '.join(compared)}: 0 the "
        "same, 1 apart",
    ]
    if np.isfinite(null).any():
        note.append("In brackets: 95 % of the permutation null lies below")
    if np.isfinite(p).any():
        note.append("*: p < .05, permutation, not corrected for the number of cells")
    if degenerate.any():
        note.append("†: distances almost equal, kernel widened to one step of the grid")
    note += _set_notes(rows, validity, dashed, value)
    return _draw(cells, (0, 1), "divergence", note, stamp)


# ---------------------------------------------------------------------------------------- observers


@checked
def observer_matrix(
    table: pd.DataFrame, *, label: str = "share recognized", stamp: str = ""
) -> Figure:
    """Draw how each evaluator sees what each generator made: generators down, evaluators across.

    Parameters
    ----------
    table : DataFrame
        Columns generator, evaluator, value, n, self (the evaluator took part in generating);
        generator_group and evaluator_group put rows and columns into named groups when there.
    label : str
        What the values are.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        The means, without cells of oneself (dashed), stand apart. The scale goes from 0 to 1 unless
        values leave it.

    Raises
    ------
    InputError
        When columns or rows are missing, or a cell has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import observer_matrix
    >>> pairs = {"generator": ["A", "A", "B", "B"], "evaluator": ["A", "B"] * 2}
    >>> numbers = {"value": [0.9, 0.4, 0.3, 0.8], "n": 12, "self": [True, False, False, True]}
    >>> figure = observer_matrix(pd.DataFrame({**pairs, **numbers}))
    >>> len(figure.axes) > 0
    True
    """
    need_columns(table, "observer", ("generator", "evaluator", "value", "n", "self"))
    rows = names_as_text(table, "generator", "evaluator")
    rows["self"] = are_true(rows["self"])  # `assign` cannot take this name
    refuse_repeats(rows, "observer", ("generator", "evaluator"))
    down, sides = _grouped(rows, "generator")
    across, heads = _grouped(rows, "evaluator")
    values_by_pair = rows.pivot(
        index="generator",
        columns="evaluator",
        values="value",
    )
    self_by_pair = rows.pivot(
        index="generator",
        columns="evaluator",
        values="self",
    )
    inner = values_by_pair.reindex(index=down, columns=across).to_numpy(dtype=float)
    own = self_by_pair.reindex(index=down, columns=across).to_numpy() == True  # noqa: E712 - missing is not true
    # Add means over rows and columns without cells of oneself.
    others = np.ma.masked_array(inner, own | ~np.isfinite(inner))
    values = np.full((len(down) + 1, len(across) + 1), np.nan)
    values[:-1, :-1] = inner
    values[:-1, -1] = others.mean(axis=1).filled(np.nan)
    values[-1, :-1] = others.mean(axis=0).filled(np.nan)
    words = _numbers(values)
    words[-1, -1] = ""
    cells = _Cells(
        rows=[*down, "mean of others"],
        columns=[*across, "mean of others"],
        values=values,
        words=words,
        dashed=np.pad(own, ((0, 1), (0, 1))),
        sides=sides,
        heads=heads,
        apart=(1, 1),
        axis_names=("generator", "evaluator"),
    )
    note = [f"{label.capitalize()}; generators down, evaluators across"]
    counts = rows["n"].dropna()
    if len(counts):
        least, most = int(counts.min()), int(counts.max())
        n = f"{least}" if least == most else f"{least} to {most}"
        note.append(f"n = {n} a cell")
    if own.any():
        note.append("Dashed frame: the evaluator took part in generating; left out of the means")
    if not np.isfinite(inner).all():
        note.append("Hatched: no value")
    low, high = np.nanmin(inner, initial=0.0), np.nanmax(inner, initial=1.0)
    return _draw(cells, (float(low), float(high)), label, note, stamp)


def _grouped(rows: pd.DataFrame, what: str) -> tuple[list[str], list[Group]]:
    """Order names by their group, where the table tells groups; a nameless last is the means'."""
    first = names_as_text(rows.drop_duplicates(what), f"{what}_group")
    if f"{what}_group" not in rows.columns:
        return first[what].tolist(), []
    names: list[str] = []
    groups: list[Group] = []
    for group, members in first.groupby(f"{what}_group", sort=False):
        names += members[what].tolist()
        groups.append((str(group), len(members)))
    return names, [*groups, ("", 1)]
