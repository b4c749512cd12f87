"""Figures of representational similarity: kinds of images by place, and layers by region.

Tables and arrays in, matplotlib figures out. Subjects differ in marker, what is compared in color
and hatching, and places have one order everywhere: V1, V2, V3, V4, LO, others as they come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import unknown_name
from neurometamer.figures.brain_maps import map_table, searchlight_surface, searchlight_volume
from neurometamer.figures.labels import (
    Names,
    Ticks,
    legend_plan,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.rdms import (
    arrange_stimuli,
    banded_rdms,
    rdm_pairs,
    stimulus_order,
    stimulus_scatter,
)
from neurometamer.figures.region_models import best_layer_marks, hierarchy_lines, model_marks
from neurometamer.figures.rsa_parts import (
    MEAN,
    PEOPLE,
    QUANTITIES,
    axis_limits,
    ceiling_note,
    combine_subjects,
    draw_star,
    draw_whisker,
    each_name,
    family_note,
    finish_axes,
    names_as_text,
    numbers_of,
    one_kind,
    people_of,
    spread_over,
    stars,
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
    save_figure_and_table,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "arrange_stimuli",
    "banded_rdms",
    "best_layer_marks",
    "hierarchy_lines",
    "kind_bars",
    "layer_roi_panels",
    "map_table",
    "model_marks",
    "rdm_pairs",
    "save_figure_and_table",
    "searchlight_surface",
    "searchlight_volume",
    "stimulus_order",
    "stimulus_scatter",
]

_NULL: dict[str, Any] = {
    "facecolor": PALE,
    "edgecolor": FAINT,
    "linewidth": 0.6,
    "linestyle": (0, (2, 1.5)),
}
_CEILING: dict[str, Any] = {
    "facecolor": "#eaf3fa",
    "edgecolor": "#6b8fa8",
    "linewidth": 0.6,
    "hatch": "....",
}
_MOST_PLACES = 12


# -------------------------------------------------------------------------------------------- kinds


@checked
def kind_bars(
    table: pd.DataFrame, *, system: str = "brain", quantity: str = "similarity", stamp: str = ""
) -> Figure:
    """Draw similarities of kinds (RE-AN, RE-AI), or their difference, over ROIs or layers.

    Parameters
    ----------
    table : DataFrame
        Columns system, subject (``mean``: over subjects), place, pair, quantity, value, ci_low,
        ci_high (of ``image_types.csv``). Used when there: p_corrected, correction, family;
        interval, method, n; null_low and null_high, or null_95; ceiling_low, ceiling_high, ceiling.
    system : str
        ``"brain"`` or ``"network"``.
    quantity : {"similarity", "difference"}
        Which rows.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        A bar for the combined value with its interval, a mark a subject, bands for the null and the
        noise ceiling.

    Raises
    ------
    InputError
        When columns or rows are missing, or a bar has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.rsa import kind_bars
    >>> rows = {"system": "network", "subject": "", "place": "late", "pair": ["RE-AN", "RE-AI"]}
    >>> values = {"value": [0.1, 0.6], "ci_low": [0.0, 0.5], "ci_high": [0.2, 0.7]}
    >>> table = pd.DataFrame({**rows, "quantity": "similarity", **values})
    >>> figure = kind_bars(table, system="network")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['RE–AN', 'RE–AI']
    """
    need_columns(
        table,
        "image_types",
        ("system", "subject", "place", "pair", "quantity", "value", "ci_low", "ci_high"),
    )
    if quantity not in QUANTITIES:
        raise unknown_name("quantity", quantity, QUANTITIES)
    rows = names_as_text(table, "system", "subject", "place", "pair", "quantity")
    rows = rows[(rows["system"] == system) & (rows["quantity"] == quantity)]
    need_columns(rows, f"image_types ({system}, {quantity})", ())
    refuse_repeats(rows, "image_types", ("place", "pair", "subject"))
    if quantity == "difference":  # a ceiling bounds a similarity
        rows = rows.drop(columns=["ceiling_low", "ceiling_high", "ceiling"], errors="ignore")
    places, pairs, subjects = (
        order_places(rows["place"]),
        list(dict.fromkeys(rows["pair"])),
        people_of(rows),
    )
    over_subjects, names = combine_subjects(rows, ("place", "pair"), "value"), Names()
    single = rows[rows["subject"] != MEAN] if len(subjects) > 1 else rows.iloc[:0]
    bands = -(-len(places) // _MOST_PLACES)
    across = -(-len(places) // bands)
    plan = plan_ticks(names, places, max(0.3 * len(pairs) + 0.2, 4.2 / across), 1.2)
    width = page_width(max(plan.width * across + 0.75, 5.0), stamp)
    note = join_note(*_kind_words(rows, over_subjects, subjects), names.note)
    entries = [PAIRS.get(pair, pair) for pair in pairs]
    entries += [words for _, words in _legend_entries(rows, single, subjects)]
    height = (2.1 + plan.height) * bands + legend_plan(entries, width)[1]
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        panels = figure.subplots(bands, 1, sharey=True, squeeze=False)[:, 0]
        for band, panel in enumerate(panels):
            here = places[band * across : (band + 1) * across]
            _draw_kinds(panel, over_subjects, single, here, pairs, subjects)
            shown = plan.names[band * across : (band + 1) * across]
            finish_axes(
                panel,
                Ticks(names=shown, width=plan.width, height=plan.height),
                QUANTITIES[quantity],
            )
            beside = 0.4 if across < 3 else 0.0  # few bars are not made fat
            panel.set_xlim(-0.5 - beside, across - 0.5 + beside)
        # intervals of single subjects are not drawn and take no room
        panels[0].set_ylim(
            axis_limits(
                [
                    numbers_of(rows, "value"),
                    *(numbers_of(over_subjects, column) for column in _LEVELS),
                ]
            )
        )
        top_legend(figure, *_kind_legend(rows, single, pairs, subjects), width, stamp)
        return figure


_LEVELS = (
    "value",
    "ci_low",
    "ci_high",
    "ceiling_low",
    "ceiling_high",
    "null_low",
    "null_high",
    "null_95",
)


def _kind_words(
    rows: pd.DataFrame, over_subjects: pd.DataFrame, subjects: Sequence[str]
) -> list[str]:
    made = over_subjects["made_here"].astype(bool)
    bar_words = "the value" if len(subjects) < 2 else "the mean over subjects"
    drawn = np.isfinite(numbers_of(over_subjects, "ci_low")).any()
    kinds = each_name(over_subjects, "interval", ", ")
    return [
        f"Bar: {bar_words}"
        + (", computed for this figure, without interval" if made.any() else ""),
        (f"Whisker: its interval ({kinds})" if kinds else "Whisker: its interval")
        if drawn
        else ""
        if made.all()
        else "No interval in the table",
        f"Method: {describe_methods(over_subjects) or 'not named in the table'}",
        family_note(over_subjects),
        ceiling_note(rows),
        describe_sizes(rows),
        "No value: no bar" if not np.isfinite(numbers_of(over_subjects, "value")).all() else "",
    ]


def _null_ends(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Give the ends of the null's 95 %: two-sided, or from 0 to where 95 % lie below."""
    if {"null_low", "null_high"} <= set(rows.columns):
        return numbers_of(rows, "null_low"), numbers_of(rows, "null_high")
    high = numbers_of(rows, "null_95")
    return np.where(np.isfinite(high), 0.0, np.nan), high


def _legend_entries(
    rows: pd.DataFrame, single: pd.DataFrame, subjects: Sequence[str]
) -> list[tuple[str, str]]:
    """List what the legend has beside the pairs: null, ceiling or people, and its words."""
    two = {"null_low", "null_high"} <= set(rows.columns)
    entries = []
    if np.isfinite(_null_ends(rows)[1]).any():
        edge = "" if two else " lie below the upper edge"
        entries.append(("null", f"95 % of the permutation null{edge}"))
    if np.isfinite(numbers_of(rows, "ceiling_low") + numbers_of(rows, "ceiling_high")).any():
        entries.append(("ceiling", "noise ceiling"))
    if single.empty:
        return entries
    people = subjects if len(subjects) <= len(PEOPLE) else [f"each of {len(subjects)} subjects"]
    return [*entries, *(("people", words) for words in people)]


def _kind_legend(
    rows: pd.DataFrame, single: pd.DataFrame, pairs: Sequence[str], subjects: Sequence[str]
) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(**_bar_style(pair, rank)) for rank, pair in enumerate(pairs)]
    names = [PAIRS.get(pair, pair) for pair in pairs]
    shapes = iter(PEOPLE if len(subjects) <= len(PEOPLE) else "o")
    for entry, words in _legend_entries(rows, single, subjects):
        if entry == "people":
            handles.append(Line2D([], [], marker=next(shapes), **_DOT))
        else:
            handles.append(Patch(**(_NULL if entry == "null" else _CEILING)))
        names.append(words)
    return handles, names


_DOT: dict[str, Any] = {
    "linestyle": "",
    "markersize": 4.2,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
}


def _bar_style(pair: str, rank: int) -> dict[str, Any]:
    color, hatch = (
        COLORS.get(pair, HUES[(rank + 2) % len(HUES)]),
        HATCHES.get(pair, ("", "////", "xxxx")[rank % 3]),
    )
    return {"facecolor": color, "edgecolor": "white", "hatch": hatch, "linewidth": 0}


def _draw_kinds(
    axes: Axes,
    over_subjects: pd.DataFrame,
    single: pd.DataFrame,
    places: Sequence[str],
    pairs: Sequence[str],
    subjects: Sequence[str],
) -> None:
    step = 0.8 / len(pairs)
    for rank, pair in enumerate(pairs):
        x = np.arange(len(places)) + (rank - (len(pairs) - 1) / 2) * step
        of_pair = (
            over_subjects[over_subjects["pair"] == pair].set_index("place").reindex(list(places))
        )
        low, high = _null_ends(of_pair)
        _bands(axes, x, step, (low, high), _NULL)
        _bands(
            axes,
            x,
            step,
            (numbers_of(of_pair, "ceiling_low"), numbers_of(of_pair, "ceiling_high")),
            _CEILING,
        )
        axes.bar(x, of_pair["value"].astype(float), 0.74 * step, zorder=2, **_bar_style(pair, rank))
        people = single[single["pair"] == pair]
        _draw_people(axes, people, places, x, 0.3 * step, subjects)
        tops = people.groupby("place")["value"].max().reindex(list(places)).to_numpy(dtype=float)
        ends = np.array(
            [of_pair["value"].to_numpy(dtype=float), numbers_of(of_pair, "ci_high"), tops, 0 * x]
        )
        for i, word in enumerate(stars(numbers_of(of_pair, "p_corrected", "q"))):
            draw_whisker(
                axes,
                x[i],
                float(of_pair["ci_low"].iloc[i]),
                float(of_pair["ci_high"].iloc[i]),
                0.2 * step,
            )
            draw_star(axes, x[i], float(np.nanmax(ends[:, i])), word)


def _bands(
    axes: Axes,
    x: np.ndarray,
    width: float,
    ends: tuple[np.ndarray, np.ndarray],
    style: dict[str, Any],
) -> None:
    from matplotlib.patches import Rectangle

    for place, low, high in zip(x, *ends, strict=True):
        if np.isfinite(low) and np.isfinite(high):
            axes.add_patch(
                Rectangle((place - width / 2, low), width, high - low, zorder=1, **style)
            )


def _draw_people(
    axes: Axes,
    rows: pd.DataFrame,
    places: Sequence[str],
    x: np.ndarray,
    half: float,
    subjects: Sequence[str],
) -> None:
    shapes = PEOPLE if len(subjects) <= len(PEOPLE) else "o" * len(subjects)
    for subject, shape, shift in zip(subjects, shapes, spread_over(len(subjects), half)):
        own = (
            rows[rows["subject"] == subject]
            .set_index("place")["value"]
            .reindex(list(places))
            .astype(float)
        )
        axes.plot(x + shift, own, marker=shape, zorder=5, **_DOT)


# ------------------------------------------------------------------------------------ layers x ROIs


@checked
def layer_roi_panels(table: pd.DataFrame, *, kind: str | None = None, stamp: str = "") -> Figure:
    """Draw layers × ROIs as one matrix for the mean over subjects and one for each subject.

    Parameters
    ----------
    table : DataFrame
        Columns subject (``mean``: over subjects), roi, layer, similarity (of ``layer_roi.csv``).
        Used when there: q or p_corrected, family, correction; ceiling_low, ceiling_high, ceiling;
        kind, method, n.
    kind : str, optional
        Which images; needed when the table holds several kinds.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Early layers on top, one color scale; the best layer of each ROI is framed, corrected p <
        .05 has a ``*``.

    Raises
    ------
    InputError
        When columns or rows are missing, or a cell has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.rsa import layer_roi_panels
    >>> rows = {"subject": "S1", "roi": ["V1", "V1", "LO", "LO"], "layer": ["early", "late"] * 2}
    >>> figure = layer_roi_panels(pd.DataFrame({**rows, "similarity": [0.4, 0.2, 0.1, 0.3]}))
    >>> figure.axes[0].get_title()
    'S1'
    """
    need_columns(table, "layer by ROI", ("subject", "roi", "layer", "similarity"))
    rows = names_as_text(one_kind(table, "layer by ROI", kind), "subject", "roi", "layer")
    refuse_repeats(rows, "layer by ROI", ("subject", "roi", "layer"))
    rois, layers = order_places(rows["roi"]), list(dict.fromkeys(rows["layer"]))
    people = people_of(rows)
    average = (
        combine_subjects(rows, ("roi", "layer"), "similarity")
        if len(people) != 1
        else rows.iloc[:0]
    )
    parts = {f"mean of {len(people)} subjects" if people else MEAN: average} if len(average) else {}
    parts |= {subject: rows[rows["subject"] == subject] for subject in people}
    ceiling = bool(
        np.isfinite(numbers_of(rows, "ceiling_low") + numbers_of(rows, "ceiling_high")).any()
    )
    grids = [_grid(part, layers, rois, ceiling) for part in parts.values()]
    names = Names()
    plan = plan_ticks(names, rois, 0.52, 0.9)
    lines = [names.fit(layer, 2.2, 8, 1) for layer in layers] + [
        "noise ceiling, upper",
        "noise ceiling, lower",
    ] * ceiling
    left = widest(lines, 8) + 0.2
    across = max(1, min(len(parts), int((11.5 - left) / (plan.width * len(rois) + 0.15))))
    down = -(-len(parts) // across)
    width = page_width(max(left + across * (plan.width * len(rois) + 0.15) + 0.85, 4.8), stamp)
    titles = [names.fit(part, plan.width * len(rois), 10, 2, bold=True) for part in parts]
    note = join_note(*_matrix_words(rows, average, grids, ceiling), names.note)
    height = down * (0.215 * (len(lines) + 0.3 * ceiling) + plan.height + 0.45)
    with figure_style():
        figure = new_figure(width, height, stamp, note)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for rank, (panel, grid, title) in enumerate(zip(panels, grids, titles)):
            drawn = _draw_grid(panel, grid, _scale(grids), ceiling)
            panel.set_xticks(range(len(rois)), plan.names, parse_math=False, fontsize=8)
            panel.set_yticks(
                _row_places(len(layers), ceiling),
                lines if rank % across == 0 else [""] * len(lines),
            )
            panel.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=8, pad=2)
            panel.set_title(title, parse_math=False)
        for panel in panels[len(parts) :]:
            panel.set_axis_off()
        bar = figure.colorbar(
            drawn, ax=panels.tolist(), aspect=25, pad=0.02, shrink=min(1, 3 / height)
        )
        bar.set_label(QUANTITIES["similarity"])
        return figure


def _scale(grids: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Give the ends of the colors: 0 is always within."""
    known = np.concatenate([grid[0].ravel() for grid in grids])
    low, high = float(np.nanmin(known, initial=0.0)), float(np.nanmax(known, initial=0.0))
    return low, high if high > low else low + 1


def _row_places(n_layers: int, ceiling: bool) -> np.ndarray:
    """Place rows at 0, 1, 2 …; those of the ceiling a little apart."""
    return np.array([*range(n_layers), *([n_layers + 0.3, n_layers + 1.3] if ceiling else [])])


def _grid(
    part: pd.DataFrame, layers: Sequence[str], rois: Sequence[str], ceiling: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Arrange similarities and corrected p.

    The rows of the ceiling (upper, lower) come below the layers.
    """
    wide = part.assign(_p=numbers_of(part, "p_corrected", "q"))
    values, p = (
        wide.pivot(index="layer", columns="roi", values=column).reindex(
            index=list(layers), columns=list(rois)
        )
        for column in ("similarity", "_p")
    )
    grid, corrected = values.to_numpy(dtype=float), p.to_numpy(dtype=float)
    if ceiling:
        first = part.drop_duplicates("roi").set_index("roi").reindex(list(rois))
        ends = np.array([numbers_of(first, "ceiling_high"), numbers_of(first, "ceiling_low")])
        grid, corrected = (
            np.vstack([grid, ends]),
            np.vstack([corrected, np.full(ends.shape, np.nan)]),
        )
    return grid, corrected


def _matrix_words(
    rows: pd.DataFrame,
    average: pd.DataFrame,
    grids: Sequence[tuple[np.ndarray, np.ndarray]],
    ceiling: bool,
) -> list[str]:
    made = len(average) > 0 and bool(average["made_here"].astype(bool).any())
    kinds = each_name(rows, "kind")
    return [
        "Similarity of the RDMs of layers and "
        f"ROIs{f' for {kinds} images' if kinds and kinds != 'all' else ''}",
        "Frame: the highest layer of the ROI, chosen and told from the same data",
        family_note(rows),
        "The mean over subjects was computed for this figure, without p" if made else "",
        "–: no value" if any(not np.isfinite(grid[0]).all() for grid in grids) else "",
        ceiling_note(rows) if ceiling else "",
        describe_sizes(rows),
    ]


def _draw_grid(
    axes: Axes, grid: tuple[np.ndarray, np.ndarray], scale: tuple[float, float], ceiling: bool
) -> Any:
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    values, p = grid
    n_layers = len(values) - 2 * ceiling
    places, filled = _row_places(n_layers, ceiling), np.isfinite(values)
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = [square + np.array([column, places[row]]) for row, column in np.argwhere(filled)]
    drawn = PolyCollection(
        corners,
        cmap=MATRIX_COLORMAP,
        norm=Normalize(*scale),
        edgecolors="white",
        linewidths=0.8,
        antialiaseds=False,
    )
    drawn.set_array(values[filled])
    axes.add_collection(drawn, autolim=False)
    axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(places[-1] + 0.52, -0.52))
    axes.spines[:].set_visible(False)
    best = np.where(
        filled[:n_layers].any(axis=0), np.nanmax(values[:n_layers], axis=0, initial=-np.inf), np.nan
    )
    for row, column in np.ndindex(values.shape):
        value, middle = float(values[row, column]), float(places[row])
        bright = value > 0.45 * scale[0] + 0.55 * scale[1] or not filled[row, column]
        color, framed = "black" if bright else "white", row < n_layers and value == best[column]
        style: dict[str, Any] = {
            "color": color,
            "fontweight": "bold" if framed else "normal",
            "fontsize": 7.5,
        }
        word = format_number(value)
        word += stars(p[row, column : column + 1])[0] if filled[row, column] else ""
        text = axes.text(column, middle, word, ha="center", va="center_baseline", **style)
        text.set_in_layout(False)
        if framed:
            frame: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": 1.5}
            axes.add_patch(Rectangle((column - 0.45, middle - 0.4), 0.9, 0.8, **frame))
    return drawn
