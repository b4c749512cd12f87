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
from neurometamer.figures.labels import Names, fits, page_width, widest
from neurometamer.figures.sets import (
    COUNTS,
    MEAN,
    SET_KEY,
    gather_notes,
    is_true,
    of_state,
    one_measure,
    order_sets,
    refuse_repeats,
    set_names,
    share_title,
    share_words,
    state_words,
    text_columns,
)
from neurometamer.figures.style import (
    FAINT,
    MATRIX_COLORMAP,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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


def _places(n: int, apart: int, groups: Sequence[Group], inches: float) -> np.ndarray:
    """Find left or upper edges of cells of some inches.

    There is room before what is set apart and between groups.
    """
    edges = np.arange(n, dtype=float)
    if apart:
        edges[n - apart :] += _GAP / inches
    for end in np.cumsum([size for _, size in groups])[:-1]:
        edges[end:] += _GROUP_GAP / inches
    return edges


def _column_width(cells: _Cells, limit: float) -> float:
    """Choose the narrowest columns in which all names fit; those that never fit get numbers."""
    widths = [0.6, 0.75, 0.9, 1.1, 1.3]
    allowed = [width for width in widths if width * len(cells.columns) <= limit] or widths[:1]
    for level, width in [(1, width) for width in allowed if width <= 0.9] + [
        (2, width) for width in allowed
    ]:
        names = all(fits(name, width - 0.06, _COLUMN, 4, level=level) for name in cells.columns)
        heads = all(
            fits(head, size * width - 0.1, _HEAD, 4, True, level=level)
            for head, size in cells.heads
        )
        if names and heads:
            return width
    return allowed[-1]


def _draw(
    cells: _Cells, scale: tuple[float, float], label: str, note: Sequence[str], stamp: str
) -> Figure:
    names = Names()
    rows = [names.fit(name, 2.6, _ROW, 2) for name in cells.rows]
    left = widest([*rows, cells.footer[0]], _ROW) + 0.02
    height = 0.36 if any("\n" in name for name in rows) or cells.second is not None else 0.27
    y = _places(len(rows), cells.apart[0], cells.sides, height)
    sides = [
        (names.fit(name, 1.2, _HEAD, max(1, int(size * height / 0.15)), bold=True), size)
        for name, size in cells.sides
    ]
    side = widest([name for name, _ in sides], _HEAD, bold=True) + 0.25 if sides else 0.0
    margin = left + side + 0.25 + 0.2 * bool(cells.axis_names[0])
    width = _column_width(cells, 13)
    x = _places(len(cells.columns), cells.apart[1], cells.heads, width)
    columns = [names.fit(name, width - 0.06, _COLUMN, 4) for name in cells.columns]
    heads = [
        (names.fit(name, size * width - 0.1, _HEAD, 4, bold=True), size)
        for name, size in cells.heads
    ]
    head_names = [name for name, _ in heads]
    above = 0.15 + _text_height(columns) + _text_height(head_names)
    named = bool(cells.axis_names[0])
    below = y[-1] + 1 + bool(cells.footer[0])
    page = page_width(max(margin + width * (x[-1] + 1), 4.6), stamp)
    right = (page - margin) / width
    with figure_style():
        figure = new_figure(
            page, above + height * below + 0.2 * named + 0.75, stamp, join_note(*note, names.note)
        )
        axes = figure.subplots()
        axes.set(xlim=(-0.02, right), ylim=(below + 0.02, -0.02))
        axes.spines[:].set_visible(False)
        axes.set_xticks(x + 0.5, columns, parse_math=False, fontsize=_COLUMN)
        ticks, labels = [*(y + 0.5)], [*rows]
        if cells.footer[0]:
            ticks, labels = [*ticks, below - 0.5], [*labels, cells.footer[0]]
        axes.set_yticks(ticks, labels, parse_math=False, fontsize=_ROW)
        axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=3)
        drawn = _draw_cells(axes, cells, x, y, (width, height), scale)
        for place, words in zip(x, cells.footer[1]):
            axes.text(
                place + 0.5, below - 0.5, words, ha="center", va="center", fontsize=7.5, color=FAINT
            )
        _draw_groups(axes, heads, x, _text_height(columns) + 0.09, across=True)
        _draw_groups(axes, sides, y, left + 0.13, across=False)
        _name_axes(axes, cells.axis_names, above, left + side)
        _color_bar(figure, axes, drawn, label, (page - margin, height * below))
        return figure


def _color_bar(
    figure: Figure, axes: Axes, drawn: Any, label: str, size: tuple[float, float]
) -> None:
    """Draw the scale below the cells, as long and as thick in every figure."""
    length = min(3.0, size[0])
    bar = figure.colorbar(
        drawn,
        ax=axes,
        location="bottom",
        shrink=length / size[0],
        aspect=length / 0.09,
        pad=0.06 / size[1],
    )
    bar.set_label(label, fontsize=_ROW, parse_math=False)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _text_height(texts: Sequence[str]) -> float:
    """Inches that the tallest of some names takes, with room around it."""
    return 0.07 + 0.135 * max(text.count("\n") + 1 for text in texts) if texts else 0.0


def _draw_cells(
    axes: Axes,
    cells: _Cells,
    x: np.ndarray,
    y: np.ndarray,
    size: tuple[float, float],
    scale: tuple[float, float],
) -> Any:
    """Draw cells of a size in inches; returned is what the color bar explains."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    filled = np.isfinite(cells.values)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    corners = [square + np.array([x[column], y[row]]) for row, column in np.argwhere(filled)]
    drawn = PolyCollection(
        corners,
        cmap=MATRIX_COLORMAP,
        norm=Normalize(*scale),
        edgecolors="white",
        linewidths=1,
        antialiaseds=False,
    )
    drawn.set_array(cells.values[filled].astype(float))
    axes.add_collection(drawn, autolim=False)
    middle = 0.45 * scale[0] + 0.55 * scale[1]
    across, down = 0.045 / size[0], 0.03 / size[1]
    for row, column in np.ndindex(cells.values.shape):
        left, top = float(x[column]), float(y[row])
        color = "white" if filled[row, column] and cells.values[row, column] <= middle else "black"
        if not filled[row, column] and cells.words[row, column]:
            axes.add_patch(
                Rectangle(
                    (left + across / 3, top + down / 3),
                    1 - across / 1.5,
                    1 - down / 1.5,
                    **_HATCHED,
                )
            )
        if cells.dashed[row, column]:
            frame: dict[str, Any] = {
                "fill": False,
                "edgecolor": color,
                "linewidth": 1.3,
                "linestyle": _DASHES,
            }
            axes.add_patch(
                Rectangle((left + across, top + down), 1 - 2 * across, 1 - 2 * down, **frame)
            )
        _write(axes, cells, row, column, (left + 0.5, top + 0.5), color)
    return drawn


def _write(
    axes: Axes, cells: _Cells, row: int, column: int, place: tuple[float, float], color: str
) -> None:
    small = "" if cells.second is None else str(cells.second[row, column])
    shift = 0.15 if small else 0.0
    bold = row >= len(cells.rows) - cells.apart[0] or column >= len(cells.columns) - cells.apart[1]
    where: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": color}
    weight = "bold" if bold else "normal"
    texts = [
        axes.text(
            place[0],
            place[1] - shift,
            cells.words[row, column],
            fontsize=8,
            fontweight=weight,
            **where,
        ),
        *([axes.text(place[0], place[1] + 0.25, small, fontsize=6.5, **where)] if small else []),
    ]
    for text in texts:
        text.set_in_layout(False)  # inside its cell anyway; measuring hundreds takes long


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
    line, words = _offset(axes, inches, across), _offset(axes, inches + 0.05, across)
    ends = np.cumsum([size for _, size in groups])
    for (name, size), end in zip(groups, ends, strict=True):
        if not name:
            continue
        low, high = places[end - size] + 0.06, places[end - 1] + 0.94
        points = ([low, high], [1, 1]) if across else ([0, 0], [low, high])
        axes.plot(
            *points,
            transform=line,
            color=FAINT,
            linewidth=1,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        where: dict[str, Any] = {
            "fontsize": _HEAD,
            "fontweight": "bold",
            "transform": words,
            "linespacing": 1.1,
        }
        middle = (low + high) / 2
        if across:
            axes.text(middle, 1, name, ha="center", va="bottom", parse_math=False, **where)
        else:
            axes.text(
                0,
                middle,
                name,
                ha="right",
                va="center",
                multialignment="right",
                parse_math=False,
                **where,
            )


def _name_axes(axes: Axes, names: tuple[str, str], above: float, left: float) -> None:
    """Say what rows and columns are, beyond the names of all of them."""
    if names[0]:
        where: dict[str, Any] = {"fontsize": 9, "fontstyle": "italic", "color": FAINT}
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
    single = rows[rows["evaluator"] != MEAN].drop_duplicates("evaluator")
    trained = is_true(single["trained"])
    return {
        evaluator: evaluator if known else evaluator + _RANDOM
        for evaluator, known in zip(single["evaluator"], trained)
    }


def _by_set(rows: pd.DataFrame, evaluators: Sequence[str], column: str) -> pd.DataFrame:
    wide = rows.pivot(index="evaluator", columns=list(SET_KEY), values=column)
    return wide.reindex(index=list(evaluators), columns=pd.MultiIndex.from_tuples(order_sets(rows)))


def _set_heads(rows: pd.DataFrame) -> tuple[list[str], list[Group]]:
    """Name the columns by stage, and by setting where there are several; and the groups by set."""
    keys = order_sets(rows)
    several = rows["setting"].nunique() > 1
    names = [f"{stage}\n{setting}" if several else stage for _, stage, setting in keys]
    sets = [set_name for set_name, _, _ in keys]
    return names, [(set_name, sets.count(set_name)) for set_name in dict.fromkeys(sets)]


def _shares(rows: pd.DataFrame, validity: str) -> list[str]:
    first = rows.drop_duplicates(list(SET_KEY))
    shares = {tuple(row[list(SET_KEY)]): share_words(row, validity) for _, row in first.iterrows()}
    return [shares[key] for key in order_sets(rows)]


def _one_setting(rows: pd.DataFrame) -> str:
    """Name the setting where all sets have the same, so that no column does."""
    names = [setting for setting in dict.fromkeys(rows["setting"]) if setting]
    return f"Setting: {names[0]}" if len(names) == 1 else ""


def _parts_note(dashed: np.ndarray, empty: np.ndarray, left_out: str) -> str:
    frames = f"Dashed frame: took part in making the images{left_out}" if dashed.any() else ""
    hatched = "Hatched: no value" if empty.any() else ""
    return ". ".join(filter(None, (frames, hatched)))


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
    rows, measure = one_measure(table, "recognizability", ways=ways, rule=rule, validity=validity)
    refuse_repeats(rows, "recognizability", ("evaluator", *SET_KEY))
    named = _evaluator_names(rows)
    average = bool((rows["evaluator"] == MEAN).any())
    order = [*named, *([MEAN] if average else [])]
    values = _by_set(rows, order, "value").to_numpy(dtype=float)
    part = _by_set(rows.assign(took_part=is_true(rows["took_part"])), order, "took_part")
    dashed = (part.to_numpy() == True) & (np.array(order) != MEAN)[:, None]  # noqa: E712 - missing is not true
    names, heads = _set_heads(rows)
    cells = _Cells(
        rows=[*named.values(), *([MEAN] if average else [])],
        columns=names,
        heads=heads,
        values=values,
        dashed=dashed,
        words=_numbers(values),
        apart=(int(average), 0),
        footer=(share_title(validity), _shares(rows, validity)),
    )
    note = (
        f"Share recognized, {measure}",
        state_words(validity),
        _one_setting(rows),
        _parts_note(dashed, ~np.isfinite(values), ", and left out of the mean" if average else ""),
        gather_notes(rows, set_names(rows), rows["evaluator"].tolist()),
    )
    return _draw(cells, (0, 1), "share recognized", note, stamp)


def _numbers(values: np.ndarray) -> np.ndarray:
    return np.array([[format_number(value) for value in row] for row in values], dtype=object)


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
    numbers = ("value", "p", "null_95", "degenerate")
    columns = (
        *SET_KEY,
        "evaluator",
        "trained",
        "took_part",
        "validity",
        "comparison",
        "headline",
        *numbers,
        *COUNTS,
    )
    need_columns(table, "divergence", columns)
    rows = text_columns(of_state(table[is_true(table["headline"])], "divergence", validity))
    refuse_repeats(rows, "divergence", ("evaluator", *SET_KEY))
    named = _evaluator_names(rows)
    value, p, null = (
        _by_set(rows, list(named), column).to_numpy(dtype=float) for column in numbers[:3]
    )
    flags = rows.assign(**{column: is_true(rows[column]) for column in ("took_part", "degenerate")})
    dashed = _by_set(flags, list(named), "took_part").to_numpy() == True  # noqa: E712
    degenerate = _by_set(flags, list(named), "degenerate").to_numpy() == True  # noqa: E712
    below = np.isfinite(value) & (p < 0.05)
    words = (
        _numbers(value)
        + np.where(below, "*", "")
        + np.where(degenerate & np.isfinite(value), "†", "")
    )
    second = np.full(null.shape, "", dtype=object)
    for cell in np.argwhere(np.isfinite(null)):
        second[tuple(cell)] = f"({format_number(null[tuple(cell)])})"
    names, heads = _set_heads(rows)
    cells = _Cells(
        rows=list(named.values()),
        columns=names,
        heads=heads,
        values=value,
        words=words,
        second=second,
        dashed=dashed,
        footer=(share_title(validity), _shares(rows, validity)),
    )
    note = (
        f"Jensen-Shannon divergence, base 2, of the distances {_compared(rows)}: 0 the same, 1 "
        "apart",
        "In brackets: 95 % of the permutation null lies below" if (second != "").any() else "",
        "*: p < .05, permutation, not corrected for the number of cells"
        if np.isfinite(p).any()
        else "",
        "†: distances almost equal, kernel widened to one step of the grid"
        if degenerate.any()
        else "",
        state_words(validity),
        _one_setting(rows),
        _parts_note(dashed, ~np.isfinite(value), ""),
        gather_notes(rows, set_names(rows), rows["evaluator"].tolist()),
    )
    return _draw(cells, (0, 1), "divergence", note, stamp)


def _compared(rows: pd.DataFrame) -> str:
    kinds = {
        "RR": "between photographs (RR)",
        "MM": "between metamers (MM)",
        "RM": "photograph to metamer (RM)",
    }
    return " and ".join(
        kinds.get(kind, kind) for kind in str(rows["comparison"].iloc[0]).split("-")
    )


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
    rows = table.assign(
        **{
            column: table[column].astype(object).fillna("").astype(str)
            for column in ("generator", "evaluator")
        }
    )
    rows["self"] = is_true(rows["self"])  # `assign` cannot take this name
    refuse_repeats(rows, "observer", ("generator", "evaluator"))
    (down, sides), (across, heads) = (
        _grouped(rows, column) for column in ("generator", "evaluator")
    )
    wide = {
        column: rows.pivot(index="generator", columns="evaluator", values=column).reindex(
            index=list(down), columns=list(across)
        )
        for column in ("value", "self")
    }
    own = wide["self"].to_numpy() == True  # noqa: E712 - missing is not true
    inner = wide["value"].to_numpy(dtype=float)
    # Add means over rows and columns without cells of oneself.
    others = np.ma.masked_array(inner, own | ~np.isfinite(inner))
    values = np.full((inner.shape[0] + 1, inner.shape[1] + 1), np.nan)
    values[:-1, :-1] = inner
    values[:-1, -1] = others.mean(axis=1).filled(np.nan)
    values[-1, :-1] = others.mean(axis=0).filled(np.nan)
    dashed = np.pad(own, ((0, 1), (0, 1)))
    words = _numbers(values)
    words[-1, -1] = ""
    cells = _Cells(
        rows=[*down, "mean of others"],
        columns=[*across, "mean of others"],
        values=values,
        words=words,
        dashed=dashed,
        sides=_with_last(sides),
        heads=_with_last(heads),
        apart=(1, 1),
        axis_names=("generator", "evaluator"),
    )
    low, high = np.nanmin(inner, initial=0.0), np.nanmax(inner, initial=1.0)
    counts = rows["n"].dropna()
    n = ""
    if not counts.empty:
        least, most = int(counts.min()), int(counts.max())
        n = f"n = {least} a cell" if least == most else f"n = {least} to {most} a cell"
    note = (
        f"{label.capitalize()}; generators down, evaluators across",
        n,
        "Dashed frame: the evaluator took part in generating; left out of the means"
        if own.any()
        else "",
        "Hatched: no value" if not np.isfinite(inner).all() else "",
    )
    return _draw(cells, (float(low), float(high)), label, note, stamp)


def _grouped(rows: pd.DataFrame, what: str) -> tuple[list[str], list[Group]]:
    """Order names by their group, where the table tells groups."""
    first = rows.drop_duplicates(what)
    if f"{what}_group" not in rows.columns:
        return first[what].tolist(), []
    groups = first[f"{what}_group"].astype(object).fillna("").astype(str).tolist()
    known = list(dict.fromkeys(groups))
    names = [
        name
        for group_name in known
        for name, group in zip(first[what], groups)
        if group == group_name
    ]
    return names, [(group_name, groups.count(group_name)) for group_name in known]


def _with_last(groups: Sequence[Group]) -> list[Group]:
    return [*groups, ("", 1)] if groups else []
