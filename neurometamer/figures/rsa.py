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
from neurometamer.figures.layout import (
    Names,
    Ticks,
    color_scale,
    legend_plan,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.matrices import colored_squares
from neurometamer.figures.rdms import (
    arrange_stimuli,
    banded_rdms,
    rdm_pairs,
    stimulus_order,
    stimulus_scatter,
)
from neurometamer.figures.region_models import best_layer_marks, hierarchy_lines, model_marks
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    HATCHES,
    HUES,
    INK,
    PAIRS,
    PALE,
    describe_methods,
    describe_sizes,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
    order_representations,
    save_figure_and_table,
)
from neurometamer.figures.tables import (
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
    one_image_type,
    people_of,
    refuse_repeats,
    spread_over,
    stars,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "arrange_stimuli",
    "banded_rdms",
    "best_layer_marks",
    "hierarchy_lines",
    "image_type_bars",
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
def image_type_bars(
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
    >>> from neurometamer.figures.rsa import image_type_bars
    >>> rows = {"system": "network", "subject": "", "representation": "late"}
    >>> rows["pair"] = ["RE-AN", "RE-AI"]
    >>> values = {"value": [0.1, 0.6], "ci_low": [0.0, 0.5], "ci_high": [0.2, 0.7]}
    >>> table = pd.DataFrame({**rows, "quantity": "similarity", **values})
    >>> figure = image_type_bars(table, system="network")
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['RE–AN', 'RE–AI']
    """
    need_columns(
        table,
        "image_types",
        ("system", "subject", "representation", "pair", "quantity", "value", "ci_low", "ci_high"),
    )
    if quantity not in QUANTITIES:
        raise unknown_name("quantity", quantity, QUANTITIES)
    rows = names_as_text(table, "system", "subject", "representation", "pair", "quantity")
    rows = rows[(rows["system"] == system) & (rows["quantity"] == quantity)]
    need_columns(rows, f"image_types ({system}, {quantity})", ())
    refuse_repeats(rows, "image_types", ("representation", "pair", "subject"))
    if quantity == "difference":  # a ceiling bounds a similarity
        rows = rows.drop(columns=["ceiling_low", "ceiling_high", "ceiling"], errors="ignore")
    places, pairs, subjects = (
        order_representations(rows["representation"]),
        list(dict.fromkeys(rows["pair"])),
        people_of(rows),
    )
    over_subjects, names = combine_subjects(rows, ("representation", "pair"), "value"), Names()
    single = rows[rows["subject"] != MEAN] if len(subjects) > 1 else rows.iloc[:0]
    bands = -(-len(places) // _MOST_PLACES)
    across = -(-len(places) // bands)
    plan = plan_ticks(names, places, max(0.3 * len(pairs) + 0.2, 4.2 / across), 1.2)
    width = page_width(max(plan.width * across + 0.75, 5.0), stamp)
    note = join_note(*_kind_words(rows, over_subjects, subjects), names.note)
    handles, labels = _kind_legend(rows, single, pairs, subjects)
    height = (2.1 + plan.height) * bands + legend_plan(labels, width)[1]
    # Intervals of single subjects are not drawn and take no room.
    drawn = [numbers_of(over_subjects, column) for column in _LEVELS]
    limits = axis_limits([numbers_of(rows, "value"), *drawn])
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        panels = figure.subplots(bands, 1, sharey=True, squeeze=False)[:, 0]
        for band, panel in enumerate(panels):
            here = slice(band * across, (band + 1) * across)
            _draw_kinds(panel, over_subjects, single, places[here], pairs, subjects)
            ticks = Ticks(
                names=plan.names[here],
                width=plan.width,
                height=plan.height,
            )
            finish_axes(panel, ticks, QUANTITIES[quantity])
            beside = 0.4 if across < 3 else 0.0  # few bars are not made fat
            panel.set_xlim(-0.5 - beside, across - 0.5 + beside)
        panels[0].set_ylim(limits)
        top_legend(figure, handles, labels, width, stamp)
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
    bar = "Bar: the value" if len(subjects) < 2 else "Bar: the mean over subjects"
    if made.any():
        bar += ", computed for this figure, without interval"
    whisker = ""
    if np.isfinite(numbers_of(over_subjects, "ci_low")).any():
        whisker = "Whisker: its interval"
        kinds = each_name(over_subjects, "interval", ", ")
        if kinds:
            whisker += f" ({kinds})"
    elif not made.all():
        whisker = "No interval in the table"
    missing = ~np.isfinite(numbers_of(over_subjects, "value"))
    return [
        bar,
        whisker,
        f"Method: {describe_methods(over_subjects) or 'not named in the table'}",
        family_note(over_subjects),
        ceiling_note(rows),
        describe_sizes(rows),
        "No value: no bar" if missing.any() else "",
    ]


def _null_ends(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Give the ends of the null's 95 %: two-sided, or from 0 to where 95 % lie below."""
    if "null_low" in rows.columns and "null_high" in rows.columns:
        low = numbers_of(rows, "null_low")
        high = numbers_of(rows, "null_high")
        return low, high
    high = numbers_of(rows, "null_95")
    is_known = np.isfinite(high)
    low = np.where(is_known, 0.0, np.nan)
    return low, high


def _has_ceiling(rows: pd.DataFrame) -> bool:
    low = numbers_of(rows, "ceiling_low")
    high = numbers_of(rows, "ceiling_high")
    is_known = np.isfinite(low + high)
    return bool(is_known.any())


def _kind_legend(
    rows: pd.DataFrame, single: pd.DataFrame, pairs: Sequence[str], subjects: Sequence[str]
) -> tuple[list[Any], list[str]]:
    """Explain the bars, the null, the ceiling and the marks of subjects."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(**_bar_style(pair, rank)) for rank, pair in enumerate(pairs)]
    names = [PAIRS.get(pair, pair) for pair in pairs]
    if np.isfinite(_null_ends(rows)[1]).any():
        handles.append(Patch(**_NULL))
        two_sided = "null_low" in rows.columns and "null_high" in rows.columns
        edge = "" if two_sided else " lie below the upper edge"
        names.append(f"95 % of the permutation null{edge}")
    if _has_ceiling(rows):
        handles.append(Patch(**_CEILING))
        names.append("noise ceiling")
    if single.empty:
        return handles, names
    if len(subjects) > len(PEOPLE):
        handles.append(Line2D([], [], marker="o", **_DOT))
        names.append(f"each of {len(subjects)} subjects")
    else:
        for subject, shape in zip(subjects, PEOPLE):
            handles.append(Line2D([], [], marker=shape, **_DOT))
            names.append(subject)
    return handles, names


_DOT: dict[str, Any] = {
    "linestyle": "",
    "markersize": 4.2,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
}


def _bar_style(pair: str, rank: int) -> dict[str, Any]:
    other_hatches = ("", "////", "xxxx")
    return {
        "facecolor": COLORS.get(pair, HUES[(rank + 2) % len(HUES)]),
        "edgecolor": "white",
        "hatch": HATCHES.get(pair, other_hatches[rank % 3]),
        "linewidth": 0,
    }


def _draw_kinds(
    axes: Axes,
    over_subjects: pd.DataFrame,
    single: pd.DataFrame,
    places: Sequence[str],
    pairs: Sequence[str],
    subjects: Sequence[str],
) -> None:
    here, step = list(places), 0.8 / len(pairs)
    middle = (len(pairs) - 1) / 2
    n_people = len(subjects)
    shapes = PEOPLE[:n_people] if n_people <= len(PEOPLE) else "o" * n_people
    shifts = spread_over(n_people, 0.3 * step)
    for rank, pair in enumerate(pairs):
        shift = (rank - middle) * step
        x = np.arange(len(here)) + shift
        of_pair = over_subjects[over_subjects["pair"] == pair]
        of_pair = of_pair.set_index("representation").reindex(here)
        values = numbers_of(of_pair, "value")
        low, high = numbers_of(of_pair, "ci_low"), numbers_of(of_pair, "ci_high")
        null_low, null_high = _null_ends(of_pair)
        ceiling_low = numbers_of(of_pair, "ceiling_low")
        ceiling_high = numbers_of(of_pair, "ceiling_high")
        _draw_bands(axes, x, step, null_low, null_high, _NULL)
        _draw_bands(axes, x, step, ceiling_low, ceiling_high, _CEILING)
        axes.bar(x, values, 0.74 * step, zorder=2, **_bar_style(pair, rank))
        people = single[single["pair"] == pair]
        for subject, shape, beside in zip(subjects, shapes, shifts, strict=True):
            own = people[people["subject"] == subject]
            own = own.set_index("representation").reindex(here)
            heights = own["value"].astype(float)
            axes.plot(x + beside, heights, marker=shape, zorder=5, **_DOT)
        highest = people.groupby("representation")["value"].max().reindex(here)
        tops = np.array([values, high, highest.to_numpy(dtype=float), np.zeros(len(x))])
        marks = stars(numbers_of(of_pair, "p_corrected", "q"))
        for i, word in enumerate(marks):
            draw_whisker(axes, x[i], float(low[i]), float(high[i]), 0.2 * step)
            draw_star(axes, x[i], float(np.nanmax(tops[:, i])), word)


def _draw_bands(
    axes: Axes,
    x: np.ndarray,
    width: float,
    low: np.ndarray,
    high: np.ndarray,
    style: dict[str, Any],
) -> None:
    from matplotlib.patches import Rectangle

    left, height = x - width / 2, high - low
    for i in np.flatnonzero(np.isfinite(height)):
        corner = (left[i], low[i])
        band = Rectangle(corner, width, height[i], zorder=1, **style)
        axes.add_patch(band)


# ------------------------------------------------------------------------------------ layers x ROIs


@checked
def layer_roi_panels(
    table: pd.DataFrame, *, image_type: str | None = None, stamp: str = ""
) -> Figure:
    """Draw layers × ROIs as one matrix for the mean over subjects and one for each subject.

    Parameters
    ----------
    table : DataFrame
        Columns subject (``mean``: over subjects), roi, layer, similarity (of ``layer_roi.csv``).
        Used when there: q or p_corrected, family, correction; ceiling_low, ceiling_high, ceiling;
        kind, method, n.
    image_type : str, optional
        Which images; needed when the table holds several image types.
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
    rows = names_as_text(
        one_image_type(table, "layer by ROI", image_type), "subject", "roi", "layer"
    )
    refuse_repeats(rows, "layer by ROI", ("subject", "roi", "layer"))
    rois, layers = order_representations(rows["roi"]), list(dict.fromkeys(rows["layer"]))
    people = people_of(rows)
    average = rows.iloc[:0]
    if len(people) != 1:
        average = combine_subjects(rows, ("roi", "layer"), "similarity")
    parts = {}
    if len(average):
        parts[f"mean of {len(people)} subjects" if people else MEAN] = average
    for subject in people:
        parts[subject] = rows[rows["subject"] == subject]
    ceiling = _has_ceiling(rows)
    grids = [_grid(part, layers, rois, ceiling) for part in parts.values()]
    names = Names()
    plan = plan_ticks(names, rois, 0.52, 0.9)
    lines = [names.fit(layer, 2.2, 8, 1) for layer in layers]
    edges = np.arange(len(layers), dtype=float) - 0.5
    if ceiling:
        # The rows of the ceiling stand a little apart.
        lines += ["noise ceiling, upper", "noise ceiling, lower"]
        edges = np.append(edges, edges[-1] + np.array([1.3, 2.3]))
    left = widest(lines, 8) + 0.2
    panel_width = plan.width * len(rois) + 0.15
    across = max(1, min(len(parts), int((11.5 - left) / panel_width)))
    down = -(-len(parts) // across)
    width = page_width(max(left + across * panel_width + 0.85, 4.8), stamp)
    titles = [names.fit(part, plan.width * len(rois), 10, 2, bold=True) for part in parts]
    note = join_note(*_matrix_words(rows, average, grids, ceiling), names.note)
    height = down * (0.215 * (len(lines) + 0.3 * ceiling) + plan.height + 0.45)
    known = np.concatenate([values.ravel() for values, _ in grids])
    scale = color_scale(known)
    with figure_style():
        figure = new_figure(width, height, stamp, note)
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for rank, (panel, grid, title) in enumerate(zip(panels, grids, titles)):
            drawn = _draw_grid(panel, grid, edges, scale, len(layers))
            panel.set_xticks(range(len(rois)), plan.names, parse_math=False, fontsize=8)
            named = lines if rank % across == 0 else [""] * len(lines)
            panel.set_yticks(edges + 0.5, named)
            panel.tick_params(
                length=0,
                labeltop=True,
                labelbottom=False,
                labelsize=8,
                pad=2,
            )
            panel.set_title(title, parse_math=False)
        for panel in panels[len(parts) :]:
            panel.set_axis_off()
        shrink = min(1, 3 / height)
        bar = figure.colorbar(
            drawn,
            ax=panels.tolist(),
            aspect=25,
            pad=0.02,
            shrink=shrink,
        )
        bar.set_label(QUANTITIES["similarity"])
        return figure


def _grid(
    part: pd.DataFrame, layers: Sequence[str], rois: Sequence[str], ceiling: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Arrange similarities and corrected p.

    The rows of the ceiling (upper, lower) come below the layers.
    """
    tested = part.assign(_p=numbers_of(part, "p_corrected", "q"))
    arranged = []
    for column in ("similarity", "_p"):
        wide = tested.pivot(
            index="layer",
            columns="roi",
            values=column,
        )
        wide = wide.reindex(index=list(layers), columns=list(rois))
        arranged.append(wide.to_numpy(dtype=float))
    values, p = arranged
    if not ceiling:
        return values, p
    first = part.drop_duplicates("roi")
    first = first.set_index("roi").reindex(list(rois))
    high = numbers_of(first, "ceiling_high")
    low = numbers_of(first, "ceiling_low")
    ends = np.array([high, low])
    without_p = np.full(ends.shape, np.nan)
    values = np.vstack([values, ends])
    p = np.vstack([p, without_p])
    return values, p


def _matrix_words(
    rows: pd.DataFrame,
    average: pd.DataFrame,
    grids: Sequence[tuple[np.ndarray, np.ndarray]],
    ceiling: bool,
) -> list[str]:
    compared = "Similarity of the RDMs of layers and ROIs"
    kinds = each_name(rows, "kind")
    if kinds and kinds != "all":
        compared += f" for {kinds} images"
    words = [
        compared,
        "Frame: the highest layer of the ROI, chosen and told from the same data",
        family_note(rows),
    ]
    if len(average) and average["made_here"].astype(bool).any():
        words.append("The mean over subjects was computed for this figure, without p")
    if not all(np.isfinite(values).all() for values, _ in grids):
        words.append("–: no value")
    if ceiling:
        words.append(ceiling_note(rows))
    return [*words, describe_sizes(rows)]


def _draw_grid(
    axes: Axes,
    grid: tuple[np.ndarray, np.ndarray],
    edges: np.ndarray,
    scale: tuple[float, float],
    n_layers: int,
) -> Any:
    from matplotlib.patches import Rectangle

    values, p = grid
    n_columns = values.shape[1]
    drawn = colored_squares(axes, values, np.arange(n_columns) - 0.5, edges, scale, 0.8)
    axes.set_xlim(-0.5, n_columns - 0.5)
    axes.set_ylim(edges[-1] + 1.02, -0.52)
    axes.spines[:].set_visible(False)
    # A ROI without values has no highest layer: nothing equals -inf.
    best = np.nanmax(values[:n_layers], axis=0, initial=-np.inf)
    middle = 0.45 * scale[0] + 0.55 * scale[1]
    for row, column in np.ndindex(values.shape):
        value, y = float(values[row, column]), float(edges[row]) + 0.5
        color = "white" if value <= middle else "black"
        framed = row < n_layers and value == best[column]
        word = format_number(value)
        if np.isfinite(value):
            (star,) = stars(p[row, column : column + 1])
            word += star
        text = axes.text(
            column,
            y,
            word,
            ha="center",
            va="center_baseline",
            color=color,
            fontweight="bold" if framed else "normal",
            fontsize=7.5,
        )
        text.set_in_layout(False)
        if framed:
            corner = (column - 0.45, y - 0.4)
            frame = Rectangle(
                corner,
                0.9,
                0.8,
                fill=False,
                edgecolor=color,
                linewidth=1.5,
            )
            axes.add_patch(frame)
    return drawn
