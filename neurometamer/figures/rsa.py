"""Figures of representational similarity: kinds by place, layers by region, models of a region, hierarchy.

Tables in, matplotlib figures out. Subjects differ in marker, what is compared in color and hatching or marker, and
places have one order everywhere: V1, V2, V3, V4, LO, others as they come.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.figures.labels import (
    Names,
    Ticks,
    legend_plan,
    name_ticks,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.sets import refuse_repeats
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    HATCHES,
    HUES,
    INK,
    MATRIX_COLORMAP,
    PAIRS,
    PALE,
    describe_methods,
    describe_sizes,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
    order_places,
)
from neurometamer.store import InputError, name_ids, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEAN = "mean"
"""In the column ``subject``: over subjects."""
PEOPLE = ("o", "s", "^", "D", "v", "P", "X")
"""Markers of subjects; more than these are drawn alike."""
MODEL_MARKS = {"weighted": ("s", HUES[0]), "best layer": ("^", HUES[1]), "average": ("D", HUES[2])}
QUANTITIES = {"similarity": "similarity of RDMs", "difference": "difference of similarities"}
_NULL: dict[str, Any] = {"facecolor": PALE, "edgecolor": FAINT, "linewidth": 0.6, "linestyle": (0, (2, 1.5))}
_CEILING: dict[str, Any] = {"facecolor": "#eaf3fa", "edgecolor": "#6b8fa8", "linewidth": 0.6, "hatch": "...."}
_MOST_PLACES = 12


# --------------------------------------------------------------------------------------------------------- shared


def _text(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Make names text, as they are read from a file or made here."""
    known = {name: table[name].astype(object).fillna("").astype(str) for name in columns if name in table.columns}
    return table.assign(**known)


def _one_kind(table: pd.DataFrame, what: str, kind: str | None) -> pd.DataFrame:
    """Choose the rows of one kind of images; a table of one kind needs no choice."""
    if "kind" not in table.columns:
        return table
    rows = _text(table, "kind")
    known = list(dict.fromkeys(rows["kind"]))
    if kind is None and len(known) > 1:
        raise InputError(f"the {what} table holds the kinds {', '.join(known)}; say which to draw (kind='{known[0]}').")
    chosen = known[0] if kind is None else kind
    if chosen not in known:
        raise unknown_name("kind", chosen, known)
    return rows[rows["kind"] == chosen]


def _subjects(rows: pd.DataFrame) -> list[str]:
    return [one for one in dict.fromkeys(rows["subject"]) if one not in (MEAN, "combined")]


def _marker(subjects: Sequence[str], subject: str) -> str:
    return PEOPLE[subjects.index(subject)] if len(subjects) <= len(PEOPLE) else "o"


def _combined(rows: pd.DataFrame, key: Sequence[str], value: str) -> pd.DataFrame:
    """Take the row over subjects of each group; a single subject's where there is one; else the mean, without interval.

    The column ``made_here`` tells which were averaged here.
    """
    found = []
    for _, part in rows.groupby(list(key), sort=False):
        own = part[part["subject"] == MEAN]
        if len(own) or len(part) == 1:
            found.append((own if len(own) else part).iloc[0].to_dict() | {"made_here": False})
        else:
            words = {name: part.iloc[0][name] for name in (*key, "ceiling_low", "ceiling_high") if name in part.columns}
            found.append({**words, "subject": MEAN, value: part[value].astype(float).mean(), "made_here": True})
    return pd.DataFrame(found).reindex(columns=[*rows.columns, "made_here"])


def _column(rows: pd.DataFrame, *names: str) -> np.ndarray:
    """Give the numbers of the first of some columns that is there; NaN where none is."""
    name = next((one for one in names if one in rows.columns), None)
    return np.full(len(rows), np.nan) if name is None else rows[name].to_numpy(dtype=float)


def _stars(p: np.ndarray) -> list[str]:
    return ["*" if np.isfinite(one) and one < 0.05 else "" for one in p]


def _family_note(rows: pd.DataFrame, drawn: str = "*") -> str:
    """Say what a mark of p means: corrected how, over which family; never of p that are not corrected."""
    corrected = _column(rows, "p_corrected", "q")
    if not np.isfinite(corrected).any():
        return "p is not corrected in this table, so none is marked" if np.isfinite(_column(rows, "p")).any() else ""
    told = rows[np.isfinite(corrected)]
    how = _each(told, "correction") or ("FDR" if "p_corrected" not in rows.columns else "")
    families = _each(told, "family", " or ")
    return f"{drawn}: corrected p < .05 ({', '.join(filter(None, (how, families and f'over {families}')))})"


def _each(rows: pd.DataFrame, column: str, between: str = "; ") -> str:
    if column not in rows.columns:
        return ""
    names = list(dict.fromkeys(one for one in rows[column].dropna().astype(str) if one))
    shown = between.join(names[:4])
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _ceiling_note(rows: pd.DataFrame) -> str:
    return f"Noise ceiling: {_each(rows, 'ceiling')}" if _each(rows, "ceiling") else ""


def _whisker(axes: Axes, x: float, low: float, high: float, half: float = 0.05) -> None:
    """Draw an interval as lines, because a bootstrap interval need not contain its estimate."""
    if np.isfinite(low) and np.isfinite(high):
        axes.vlines(x, low, high, color=INK, linewidth=1.2, zorder=4)
        axes.hlines([low, high], x - half, x + half, color=INK, linewidth=1.2, zorder=4)


def _star(axes: Axes, x: float, y: float, word: str) -> None:
    if word and np.isfinite(y):
        where: dict[str, Any] = {"xytext": (0, 1), "textcoords": "offset points", "ha": "center", "va": "bottom"}
        axes.annotate(word, (x, y), fontsize=11, fontweight="bold", annotation_clip=False, **where)


def _finish(axes: Axes, ticks: Ticks, label: str) -> None:
    axes.axhline(0, color=INK, linewidth=0.9)
    axes.grid(axis="y")
    name_ticks(axes, ticks)
    if label:
        axes.set_ylabel(label, parse_math=False)


def _limits(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Give an axis room for all that is drawn, marks of p above it, and 0."""
    known = np.concatenate([np.ravel(one) for one in values] + [np.zeros(1)])
    low, high = float(np.nanmin(known)), float(np.nanmax(known))
    if high - low < 1e-9:
        return -0.1, 1.0
    room = 0.12 * (high - low)
    return low - room * (low < 0), high + room


# ----------------------------------------------------------------------------------------------------------- kinds


def kind_bars(table: pd.DataFrame, *, system: str = "brain", quantity: str = "similarity", stamp: str = "") -> Figure:
    """Draw similarities of kinds (RE-AN, RE-AI), or their difference, over ROIs or layers.

    Parameters
    ----------
    table : DataFrame
        Columns system, subject (``mean``: over subjects), place, pair, quantity, value, ci_low, ci_high (of
        ``kinds.csv``). Used when there: p_corrected, correction, family; interval, method, n; null_low and null_high,
        or null_95; ceiling_low, ceiling_high, ceiling.
    system : str
        ``"brain"`` or ``"network"``.
    quantity : {"similarity", "difference"}
        Which rows.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        A bar for the combined value with its interval, a mark a subject, bands for the null and the noise ceiling.

    Raises
    ------
    InputError
        When columns or rows are missing, or a bar has several rows.
    """
    need_columns(table, "kinds", ("system", "subject", "place", "pair", "quantity", "value", "ci_low", "ci_high"))
    if quantity not in QUANTITIES:
        raise unknown_name("quantity", quantity, QUANTITIES)
    rows = _text(table, "system", "subject", "place", "pair", "quantity")
    rows = rows[(rows["system"] == system) & (rows["quantity"] == quantity)]
    need_columns(rows, f"kinds ({system}, {quantity})", ())
    refuse_repeats(rows, "kinds", ("place", "pair", "subject"))
    places, pairs, subjects = order_places(rows["place"]), list(dict.fromkeys(rows["pair"])), _subjects(rows)
    whole, names = _combined(rows, ("place", "pair"), "value"), Names()
    single = rows[rows["subject"] != MEAN] if len(subjects) > 1 else rows.iloc[:0]
    bands = -(-len(places) // _MOST_PLACES)
    across = -(-len(places) // bands)
    plan = plan_ticks(names, places, max(0.3 * len(pairs) + 0.2, 4.2 / across), 1.2)
    width = page_width(max(plan.width * across + 0.75, 5.0), stamp)
    note = join_note(*_kind_words(rows, whole, subjects), names.note)
    entries = [*(PAIRS.get(one, one) for one in pairs), *_legend_words(rows, single, subjects)]
    height = (2.1 + plan.height) * bands + legend_plan(entries, width)[1]
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        panels = figure.subplots(bands, 1, sharey=True, squeeze=False)[:, 0]
        for band, panel in enumerate(panels):
            here = places[band * across : (band + 1) * across]
            _draw_kinds(panel, whole, single, here, pairs, subjects)
            shown = plan.names[band * across : (band + 1) * across]
            _finish(panel, Ticks(names=shown, width=plan.width, height=plan.height), QUANTITIES[quantity])
            panel.set_xlim(-0.5, across - 0.5)
        panels[0].set_ylim(_limits([_column(rows, one) for one in _LEVELS]))
        top_legend(figure, *_kind_legend(rows, single, pairs, subjects), width, stamp)
        return figure


_LEVELS = ("value", "ci_low", "ci_high", "ceiling_low", "ceiling_high", "null_low", "null_high", "null_95")


def _kind_words(rows: pd.DataFrame, whole: pd.DataFrame, subjects: Sequence[str]) -> list[str]:
    made = whole["made_here"].astype(bool)
    one = "the value" if len(subjects) < 2 else "the mean over subjects"
    drawn = np.isfinite(_column(whole, "ci_low")).any()
    kinds = _each(whole, "interval", ", ")
    return [
        f"Bar: {one}" + (", computed for this figure, without interval" if made.any() else ""),
        (f"whisker: its interval ({kinds})" if kinds else "whisker: its interval") if drawn else "no interval is drawn",
        f"Method: {describe_methods(whole) or 'not named in the table'}",
        _family_note(whole), _ceiling_note(rows), describe_sizes(rows),
        "No value: no bar" if not np.isfinite(_column(whole, "value")).all() else "",
    ]  # fmt: skip


def _null_ends(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Give the ends of the null's 95 %: two-sided, or from 0 to where 95 % lie below."""
    if {"null_low", "null_high"} <= set(rows.columns):
        return _column(rows, "null_low"), _column(rows, "null_high")
    high = _column(rows, "null_95")
    return np.where(np.isfinite(high), 0.0, np.nan), high


def _legend_words(rows: pd.DataFrame, single: pd.DataFrame, subjects: Sequence[str]) -> list[str]:
    two = {"null_low", "null_high"} <= set(rows.columns)
    words = []
    if np.isfinite(_null_ends(rows)[1]).any():
        words.append("95 % of the permutation null" + ("" if two else " lie below the upper edge"))
    if np.isfinite(_column(rows, "ceiling_high")).any():
        words.append("noise ceiling")
    if single.empty:
        return words
    return [*words, *(subjects if len(subjects) <= len(PEOPLE) else [f"each of {len(subjects)} subjects"])]


def _kind_legend(
    rows: pd.DataFrame, single: pd.DataFrame, pairs: Sequence[str], subjects: Sequence[str]
) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    words = _legend_words(rows, single, subjects)
    handles: list[Any] = [Patch(**_bar_style(one, rank)) for rank, one in enumerate(pairs)]
    handles += [Patch(**_NULL) for one in words if one.startswith("95 % of")]
    handles += [Patch(**_CEILING) for one in words if one == "noise ceiling"]
    people = words[len(handles) - len(pairs) :]
    shapes = PEOPLE if len(subjects) <= len(PEOPLE) else "o"
    handles += [Line2D([], [], marker=shape, **_DOT) for _, shape in zip(people, shapes)]
    return handles, [*(PAIRS.get(one, one) for one in pairs), *words]


_DOT: dict[str, Any] = {
    "linestyle": "", "markersize": 4.2, "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 0.8,
}  # fmt: skip


def _bar_style(pair: str, rank: int) -> dict[str, Any]:
    color, hatch = COLORS.get(pair, HUES[(rank + 2) % len(HUES)]), HATCHES.get(pair, ("", "////", "xxxx")[rank % 3])
    return {"facecolor": color, "edgecolor": "white", "hatch": hatch, "linewidth": 0}


def _draw_kinds(
    axes: Axes, whole: pd.DataFrame, single: pd.DataFrame, places: Sequence[str], pairs: Sequence[str],
    subjects: Sequence[str],
) -> None:  # fmt: skip
    step = 0.8 / len(pairs)
    for rank, pair in enumerate(pairs):
        x = np.arange(len(places)) + (rank - (len(pairs) - 1) / 2) * step
        of_pair = whole[whole["pair"] == pair].set_index("place").reindex(list(places))
        low, high = _null_ends(of_pair)
        _bands(axes, x, step, (low, high), _NULL)
        _bands(axes, x, step, (_column(of_pair, "ceiling_low"), _column(of_pair, "ceiling_high")), _CEILING)
        axes.bar(x, of_pair["value"].astype(float), 0.74 * step, zorder=2, **_bar_style(pair, rank))
        people = single[single["pair"] == pair]
        _draw_people(axes, people, places, x, 0.3 * step, subjects)
        tops = people.groupby("place")["value"].max().reindex(list(places)).to_numpy(dtype=float)
        ends = np.array([of_pair["value"].to_numpy(dtype=float), _column(of_pair, "ci_high"), tops, 0 * x])
        for i, word in enumerate(_stars(_column(of_pair, "p_corrected", "q"))):
            _whisker(axes, x[i], float(of_pair["ci_low"].iloc[i]), float(of_pair["ci_high"].iloc[i]), 0.2 * step)
            _star(axes, x[i], float(np.nanmax(ends[:, i])), word)


def _bands(axes: Axes, x: np.ndarray, width: float, ends: tuple[np.ndarray, np.ndarray], style: dict[str, Any]) -> None:
    from matplotlib.patches import Rectangle

    for place, low, high in zip(x, *ends, strict=True):
        if np.isfinite(low) and np.isfinite(high):
            axes.add_patch(Rectangle((place - width / 2, low), width, high - low, zorder=1, **style))


def _draw_people(
    axes: Axes, rows: pd.DataFrame, places: Sequence[str], x: np.ndarray, half: float, subjects: Sequence[str]
) -> None:
    shifts = np.linspace(-half, half, len(subjects)) if len(subjects) > 1 else np.zeros(1)
    for subject, shift in zip(subjects, shifts):
        own = rows[rows["subject"] == subject].set_index("place")["value"].reindex(list(places)).astype(float)
        axes.plot(x + shift, own, marker=_marker(subjects, subject), zorder=5, **_DOT)


# ------------------------------------------------------------------------------------------------------ layers x ROIs


def layer_roi_panels(table: pd.DataFrame, *, kind: str | None = None, stamp: str = "") -> Figure:
    """Draw layers × ROIs as one matrix for the mean over subjects and one for each subject.

    Parameters
    ----------
    table : DataFrame
        Columns subject (``mean``: over subjects), roi, layer, similarity (of ``layer_roi.csv``). Used when there: q or
        p_corrected, family, correction; ceiling_low, ceiling_high, ceiling; kind, method, n.
    kind : str, optional
        Which images; needed when the table holds several kinds.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Early layers on top, one color scale; the best layer of each ROI is framed, corrected p < .05 has a ``*``.

    Raises
    ------
    InputError
        When columns or rows are missing, or a cell has several rows.
    """
    need_columns(table, "layer by ROI", ("subject", "roi", "layer", "similarity"))
    rows = _text(_one_kind(table, "layer by ROI", kind), "subject", "roi", "layer")
    refuse_repeats(rows, "layer by ROI", ("subject", "roi", "layer"))
    rois, layers = order_places(rows["roi"]), list(dict.fromkeys(rows["layer"]))
    people = _subjects(rows)
    average = _combined(rows, ("roi", "layer"), "similarity") if len(people) != 1 else rows.iloc[:0]
    parts = {f"mean of {len(people)} subjects" if people else MEAN: average} if len(average) else {}
    parts |= {one: rows[rows["subject"] == one] for one in people}
    ceiling = bool(np.isfinite(_column(rows, "ceiling_high")).any())
    grids = [_grid(part, layers, rois, ceiling) for part in parts.values()]
    names = Names()
    plan = plan_ticks(names, rois, 0.52, 0.9)
    lines = [names.fit(one, 2.2, 8, 1) for one in layers] + ["noise ceiling, upper", "noise ceiling, lower"] * ceiling
    left = widest(lines, 8) + 0.2
    across = max(1, min(len(parts), int((11.5 - left) / (plan.width * len(rois) + 0.15))))
    down = -(-len(parts) // across)
    width = page_width(max(left + across * (plan.width * len(rois) + 0.15) + 0.85, 4.8), stamp)
    titles = [names.fit(one, plan.width * len(rois), 10, 2, bold=True) for one in parts]
    note = join_note(*_matrix_words(rows, average, grids, ceiling), names.note)
    height = down * (0.215 * (len(lines) + 0.3 * ceiling) + plan.height + 0.45)
    scale = _limits([grid[0] for grid in grids])
    with figure_style():
        figure = new_figure(width, height, stamp, note)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for rank, (panel, grid, title) in enumerate(zip(panels, grids, titles)):
            drawn = _draw_grid(panel, grid, (float(min(scale[0], 0)), _highest(grids)), ceiling)
            panel.set_xticks(range(len(rois)), plan.names, parse_math=False, fontsize=8)
            panel.set_yticks(_row_places(len(layers), ceiling), lines if rank % across == 0 else [""] * len(lines))
            panel.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8, pad=2)
            panel.set_title(title, parse_math=False)
        for panel in panels[len(parts) :]:
            panel.set_axis_off()
        bar = figure.colorbar(drawn, ax=panels.tolist(), aspect=25, pad=0.02, shrink=min(1, 3 / height))
        bar.set_label(QUANTITIES["similarity"])
        return figure


def _highest(grids: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    known = np.concatenate([grid[0].ravel() for grid in grids])
    return float(np.nanmax(known, initial=0.0)) or 1.0


def _row_places(n_layers: int, ceiling: bool) -> np.ndarray:
    """Place rows at 0, 1, 2 …; those of the ceiling a little apart."""
    return np.array([*range(n_layers), *([n_layers + 0.3, n_layers + 1.3] if ceiling else [])])


def _grid(
    part: pd.DataFrame, layers: Sequence[str], rois: Sequence[str], ceiling: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Arrange similarities, and corrected p; rows of the ceiling (upper, lower) below the layers."""
    wide = part.assign(_p=_column(part, "p_corrected", "q"))
    values, p = (
        wide.pivot(index="layer", columns="roi", values=one).reindex(index=list(layers), columns=list(rois))
        for one in ("similarity", "_p")
    )
    grid, corrected = values.to_numpy(dtype=float), p.to_numpy(dtype=float)
    if ceiling:
        first = part.drop_duplicates("roi").set_index("roi").reindex(list(rois))
        ends = np.array([_column(first, "ceiling_high"), _column(first, "ceiling_low")])
        grid, corrected = np.vstack([grid, ends]), np.vstack([corrected, np.full(ends.shape, np.nan)])
    return grid, corrected


def _matrix_words(
    rows: pd.DataFrame, average: pd.DataFrame, grids: Sequence[tuple[np.ndarray, np.ndarray]], ceiling: bool
) -> list[str]:
    made = len(average) > 0 and bool(average["made_here"].astype(bool).any())
    kinds = _each(rows, "kind")
    return [
        f"Similarity of the RDMs of layers and ROIs{f' for {kinds} images' if kinds and kinds != 'all' else ''}",
        "frame: the highest layer of the ROI, chosen and told from the same data", _family_note(rows),
        "The mean over subjects was computed for this figure, without p" if made else "",
        "–: no value" if any(not np.isfinite(grid[0]).all() for grid in grids) else "",
        _ceiling_note(rows) if ceiling else "", describe_sizes(rows),
    ]  # fmt: skip


def _draw_grid(axes: Axes, grid: tuple[np.ndarray, np.ndarray], scale: tuple[float, float], ceiling: bool) -> Any:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    values, p = grid
    n_layers = len(values) - 2 * ceiling
    places, filled = _row_places(n_layers, ceiling), np.isfinite(values)
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = [square + np.array([column, places[row]]) for row, column in np.argwhere(filled)]
    drawn = PolyCollection(
        corners, cmap=MATRIX_COLORMAP, norm=Normalize(*scale), edgecolors="white", linewidths=0.8, antialiaseds=False
    )
    drawn.set_array(values[filled])
    axes.add_collection(drawn, autolim=False)
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(places[-1] + 0.52, -0.52))
    axes.spines[:].set_visible(False)
    best = np.where(filled[:n_layers].any(axis=0), np.nanmax(values[:n_layers], axis=0, initial=-np.inf), np.nan)
    for row, column in np.ndindex(values.shape):
        bright = values[row, column] > 0.45 * scale[0] + 0.55 * scale[1] or not filled[row, column]
        color, framed = "black" if bright else "white", row < n_layers and values[row, column] == best[column]
        style: dict[str, Any] = {"color": color, "fontweight": "bold" if framed else "normal", "fontsize": 7.5}
        word = format_number(values[row, column]) + _stars(p[row, column : column + 1])[0]
        text = axes.text(column, places[row], word, ha="center", va="center_baseline", **style)
        text.set_in_layout(False)
        if framed:
            frame: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": 1.5}
            axes.add_patch(Rectangle((column - 0.45, places[row] - 0.4), 0.9, 0.8, **frame))
    return drawn


# --------------------------------------------------------------------------------------------- models of a region


def best_layer_marks(table: pd.DataFrame, *, kind: str | None = None, stamp: str = "") -> Figure:
    """Draw the best layer of each ROI as chosen and told on the same data, beside what it is worth on other data.

    Parameters
    ----------
    table : DataFrame
        Columns roi, subject, layer, score, ci_low, ci_high, naive_layer, naive_score (of ``best_layer.csv``). Used
        when there: kind, method, n.
    kind : str, optional
        Which images; needed when the table holds several kinds.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Open: naive; filled: cross-validated, with its interval. Thin lines join the two of a subject.

    Raises
    ------
    InputError
        When columns or rows are missing, or a mark has several rows.
    """
    columns = ("roi", "subject", "layer", "score", "ci_low", "ci_high", "naive_layer", "naive_score")
    need_columns(table, "best layer", columns)
    rows = _text(_one_kind(table, "best layer", kind), "roi", "subject", "layer", "naive_layer")
    refuse_repeats(rows, "best layer", ("roi", "subject"))
    long = pd.concat(
        [
            rows.assign(model="naive", score=rows["naive_score"], ci_low=np.nan, ci_high=np.nan),
            rows.assign(model="cross-validated"),
        ]
    )
    whole = _combined(rows, ("roi",), "score").set_index("roi")
    heads = {
        roi: f"{roi}\n{whole.loc[roi, 'layer']}\n({whole.loc[roi, 'naive_layer']})"
        for roi in order_places(rows["roi"])
        if isinstance(whole.loc[roi, "layer"], str)
    }
    note = (
        "Large: mean over subjects, or the only subject; small: each subject, its two values joined",
        "naive: the layer is chosen and scored on the same data, which is too high",
        "Under each ROI: the layer chosen most often in cross-validation, in brackets the naive one" if heads else "",
        _interval_words(rows), describe_sizes(rows),
    )  # fmt: skip
    looks = {"naive": ("o", "white"), "cross-validated": ("o", HUES[0])}
    return _paired(long, looks, heads, note, stamp)


def _interval_words(rows: pd.DataFrame) -> str:
    if not np.isfinite(_column(rows, "ci_low")).any():
        return "No interval in the table"
    return f"Whisker: interval of the large mark. Method: {_each(rows, 'method') or 'not named in the table'}"


def _paired(
    rows: pd.DataFrame, looks: dict[str, tuple[str, str]], heads: dict[str, str], note: Sequence[str], stamp: str,
    differences: pd.DataFrame | None = None,
) -> Figure:  # fmt: skip
    """Draw scores of models side by side in each ROI, joined within subjects; below them their differences."""
    rois, subjects, names = order_places(rows["roi"]), _subjects(rows), Names()
    whole = _combined(rows, ("roi", "model"), "score")
    plan = plan_ticks(names, [heads.get(one, one) for one in rois], max(0.85, 4.2 / len(rois)), 1.5)
    width = page_width(max(plan.width * len(rois) + 0.75, 5.0), stamp)
    contrasts = [] if differences is None else list(dict.fromkeys(differences["contrast"]))
    entries = [*looks, *contrasts]
    made = "The mean over subjects was computed for this figure" if whole["made_here"].astype(bool).any() else ""
    height = 2.5 + plan.height + legend_plan(entries, width)[1] + (1.9 + plan.height) * bool(contrasts)
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", join_note(*note, made, names.note))
        panels = figure.subplots(1 + bool(contrasts), 1, squeeze=False)[:, 0]
        handles = _draw_models(panels[0], rows[rows["subject"] != MEAN], whole, rois, looks, len(subjects) > 1)
        panels[0].set_ylim(_limits([_column(rows, one) for one in ("score", "ci_low", "ci_high")]))
        _finish(panels[0], plan, QUANTITIES["similarity"])
        if differences is not None:
            handles += _draw_differences(panels[1], differences, rois, contrasts)
            _finish(panels[1], plan, "difference")
        top_legend(figure, handles, entries, width, stamp)
        return figure


def _spread(n: int, half: float) -> np.ndarray:
    return np.linspace(-half, half, n) if n > 1 else np.zeros(1)


def _draw_models(
    axes: Axes, single: pd.DataFrame, whole: pd.DataFrame, rois: Sequence[str], looks: dict[str, tuple[str, str]],
    several: bool,
) -> list[Any]:  # fmt: skip
    shifts = _spread(len(looks), 0.26)
    for place, roi in enumerate(rois):
        own = single[single["roi"] == roi].pivot(index="subject", columns="model", values="score")
        for line in own.reindex(columns=list(looks)).to_numpy(dtype=float) if several else ():
            axes.plot(place + shifts, line, color=FAINT, linewidth=0.7, marker="o", markersize=2.6, zorder=2)
    handles = []
    for (model, (marker, face)), shift in zip(looks.items(), shifts):
        of_model = whole[whole["model"] == model].set_index("roi").reindex(list(rois))
        x = np.arange(len(rois)) + shift
        style: dict[str, Any] = {"linestyle": "", "markersize": 8, "markeredgecolor": INK, "zorder": 3}
        handles += axes.plot(x, of_model["score"].astype(float), marker=marker, markerfacecolor=face, **style)
        for place, low, high in zip(x, _column(of_model, "ci_low"), _column(of_model, "ci_high")):
            _whisker(axes, place, low, high)
    return handles


def _draw_differences(axes: Axes, rows: pd.DataFrame, rois: Sequence[str], contrasts: Sequence[str]) -> list[Any]:
    whole, handles = _combined(rows, ("roi", "contrast"), "difference"), []
    for rank, (contrast, shift) in enumerate(zip(contrasts, _spread(len(contrasts), 0.26))):
        own = whole[whole["contrast"] == contrast].set_index("roi").reindex(list(rois))
        x, values = np.arange(len(rois)) + shift, own["difference"].to_numpy(dtype=float)
        style: dict[str, Any] = {"linestyle": "", "markersize": 6, "color": HUES[(rank + 3) % len(HUES)], "zorder": 3}
        handles += axes.plot(x, values, marker=("v", "P", "X", "<")[rank % 4], markeredgecolor=INK, **style)
        low, high = _column(own, "ci_low"), _column(own, "ci_high")
        for i, word in enumerate(_stars(_column(own, "p_corrected", "q"))):
            _whisker(axes, x[i], low[i], high[i])
            if word:
                _star(axes, x[i], float(np.nanmax([values[i], high[i]])), word)
    axes.set_ylim(_around_zero([_column(whole, one) for one in ("difference", "ci_low", "ci_high")]))
    return handles


def _around_zero(values: Sequence[np.ndarray]) -> tuple[float, float]:
    farthest = float(np.nanmax(np.abs(np.concatenate([*values, np.zeros(1)])))) or 0.1
    return -1.2 * farthest, 1.2 * farthest


def model_marks(
    models: pd.DataFrame, differences: pd.DataFrame | None = None, *, kind: str | None = None, stamp: str = ""
) -> Figure:
    """Draw the weighted combination of layers beside the best single layer and the average of all.

    Parameters
    ----------
    models : DataFrame
        Columns roi, subject, model, score, ci_low, ci_high (of ``weighted.csv``). Used when there: kind, method, n.
    differences : DataFrame, optional
        Columns roi, subject, contrast, difference, ci_low, ci_high (of ``weighted_difference.csv``), drawn in a second
        panel. Used when there: q or p_corrected, family, correction, kind.
    kind : str, optional
        Which images; needed when the tables hold several kinds.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Models differ in marker and color; thin lines join the models of a subject.

    Raises
    ------
    InputError
        When columns or rows are missing, or a mark has several rows.
    """
    need_columns(models, "models", ("roi", "subject", "model", "score", "ci_low", "ci_high"))
    rows = _text(_one_kind(models, "models", kind), "roi", "subject", "model")
    refuse_repeats(rows, "models", ("roi", "subject", "model"))
    if differences is not None:
        need_columns(differences, "differences", ("roi", "subject", "contrast", "difference", "ci_low", "ci_high"))
        differences = _text(_one_kind(differences, "differences", kind), "roi", "subject", "contrast")
        refuse_repeats(differences, "differences", ("roi", "subject", "contrast"))
    found = list(dict.fromkeys(rows["model"]))
    order = [one for one in MODEL_MARKS if one in found] + [one for one in found if one not in MODEL_MARKS]
    others = zip([one for one in order if one not in MODEL_MARKS], zip("vPX<>p*h", HUES[3:] + HUES))
    looks = {one: MODEL_MARKS[one] for one in order if one in MODEL_MARKS} | dict(others)
    note = (
        "Large: mean over subjects, or the only subject; small: each subject, its models joined",
        _interval_words(rows),
        "" if differences is None else f"Below: paired differences. {_family_note(differences)}",
        describe_sizes(rows),
    )
    return _paired(rows, looks, {}, note, stamp, differences)


# ------------------------------------------------------------------------------------------------------- hierarchy


def hierarchy_lines(table: pd.DataFrame, *, layers: Sequence[str] = (), stamp: str = "") -> Figure:
    """Draw the preferred layer over ROIs, early to late, one line a subject.

    Parameters
    ----------
    table : DataFrame
        Columns subject (``combined``: over subjects), order, preferred_layers, statistic, value, p (of
        ``hierarchy.csv``). Used when there: p_min, method, reason.
    layers : sequence of str
        Names of the layers, early to late; when empty, those that the table names.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        The order of ROIs is that of the test. The legend has each statistic with its p.

    Raises
    ------
    InputError
        When columns or rows are missing, a subject has several rows, or orders differ or cannot be read.
    """
    need_columns(table, "hierarchy", ("subject", "order", "preferred_layers", "statistic", "value", "p"))
    rows = _text(table, "subject", "order", "preferred_layers", "statistic")
    refuse_repeats(rows, "hierarchy", ("subject",))
    orders = list(dict.fromkeys(rows["order"]))
    if len(orders) > 1:
        raise InputError(f"the hierarchy table holds {len(orders)} orders of regions: {name_ids(orders)}; draw one.")
    rois, subjects, names = orders[0].split(" < "), _subjects(rows), Names()
    read = [_preferred(text, rois) for text in rows["preferred_layers"]]
    told = dict(enumerate(layers, 1)) or {key: name for _, found in read for key, name in found.items()}
    plan = plan_ticks(names, rois, max(0.7, 4.2 / len(rois)), 1.3)
    sides = {number: names.fit(name, 2.0, 8.5, 1) for number, name in sorted(told.items())}
    width = page_width(max(plan.width * len(rois) + 0.8 + widest(list(sides.values()), 8.5), 5.0), stamp)
    entries = [_verdict(row) for row in rows.to_dict("records")]
    least = _column(rows, "p_min")
    note = join_note(
        "Preferred layer of each ROI, counted from 1; later ROIs that prefer later layers rise", _each(rows, "method"),
        f"p is one-tailed; the least that these data could give is {format_number(np.nanmin(least), 3)}"
        if np.isfinite(least).any() else "p is one-tailed", _each(rows, "reason"), names.note,
    )  # fmt: skip
    points = np.array([line for line, _ in read])
    top = max([*sides, *points[np.isfinite(points)], 2.0])
    with figure_style():
        height = max(2.3, 0.2 * top) + plan.height + legend_plan(entries, width)[1]
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        axes = figure.subplots()
        handles = []
        for subject, line in zip(rows["subject"], points):
            style = _line_style(subjects, subject)
            handles += axes.plot(range(len(rois)), line, **style)
        axes.set_yticks(list(sides), [f"{name}  {number}" for number, name in sides.items()], parse_math=False)
        axes.tick_params(axis="y", labelsize=8.5)
        axes.set(ylim=(0.6, top + 0.4), ylabel="preferred layer")
        axes.grid(axis="y")
        name_ticks(axes, plan)
        top_legend(figure, handles, entries, width, stamp)
        return figure


def _preferred(text: str, rois: Sequence[str]) -> tuple[list[float], dict[int, str]]:
    """Read ``"V1: 1.25 (conv1); V2: …"``: numbers, and the names of the layers nearest to them; empty is missing."""
    if not text:
        return [np.nan] * len(rois), {}
    pattern = "; ".join(rf"{re.escape(roi)}: (nan|[\d.]+) \((.*)\)" for roi in rois)
    found = re.fullmatch(pattern, text)
    if found is None:
        raise InputError(f"preferred_layers {text!r} is not of the form '{rois[0]}: 1.25 (layer); …' for {rois}.")
    numbers = [float(one) for one in found.groups()[::2]]
    pairs = zip(numbers, found.groups()[1::2])
    return numbers, {round(number): name for number, name in pairs if np.isfinite(number)}


def _verdict(row: dict[str, Any]) -> str:
    p = f"p = {format_number(float(row['p']), 3)}"
    return f"{row['subject']}: {row['statistic']} {format_number(float(row['value']))}, {p}"


def _line_style(subjects: Sequence[str], subject: str) -> dict[str, Any]:
    if subject not in subjects:
        return {"color": INK, "linewidth": 2.4, "marker": "o", "markersize": 6, "zorder": 5}
    rank = subjects.index(subject)
    marker = ("s", "^", "D", "v", "P", "X", "<")[rank % 7]
    dashes = ("-", "--", ":")[rank // 7 % 3]
    return {"color": HUES[rank % len(HUES)], "linewidth": 1.1, "marker": marker, "markersize": 4.5, "linestyle": dashes}
