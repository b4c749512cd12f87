"""Models of a region: best layer, weighted layers, and the order of regions.

Weighted layers stand beside the best layer and the average.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.figures.layout import (
    Names,
    legend_plan,
    name_ticks,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.style import (
    FAINT,
    HUES,
    INK,
    SIGNS,
    describe_sizes,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
    order_representations,
)
from neurometamer.figures.tables import (
    MEAN,
    QUANTITIES,
    axis_limits,
    combine_subjects,
    draw_star,
    draw_whisker,
    each_name,
    facts_in,
    family_note,
    finish_axes,
    names_as_text,
    names_in,
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

MODEL_MARKS = {
    "weighted": ("s", HUES[0]),
    "best layer": ("^", HUES[1]),
    "average": ("D", HUES[2]),
}
"""Marker and color of each model."""


@checked
def best_layer_marks(
    table: pd.DataFrame, *, image_type: str | None = None, stamp: str = ""
) -> Figure:
    """Draw the best layer of each ROI as chosen and measured on the same data.

    Beside it stands its value on other data.

    Parameters
    ----------
    table : DataFrame
        Columns roi, subject, layer, score, ci_low, ci_high, naive_layer, naive_score (of
        ``best_layer.csv``). Used when there: kind, method, n.
    image_type : str, optional
        Which images; needed when the table holds several image types.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Open: naive; filled: cross-validated, with its interval. Thin lines join the two of a
        subject.

    Raises
    ------
    InputError
        When columns or rows are missing, or a mark has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.rsa import best_layer_marks
    >>> row = {"roi": "V1", "subject": "S1", "layer": "early", "score": 0.2, "ci_low": 0.1}
    >>> naive = {"ci_high": 0.3, "naive_layer": "late", "naive_score": 0.4}
    >>> figure = best_layer_marks(pd.DataFrame([{**row, **naive}]))
    >>> len(figure.axes)
    1
    """
    columns = (
        "roi",
        "subject",
        "layer",
        "score",
        "ci_low",
        "ci_high",
        "naive_layer",
        "naive_score",
    )
    need_columns(table, "best layer", columns)
    rows = names_as_text(
        one_image_type(table, "best layer", image_type), "roi", "subject", "layer", "naive_layer"
    )
    refuse_repeats(rows, "best layer", ("roi", "subject"))
    naive = rows.assign(
        model="naive",
        score=rows["naive_score"],
        ci_low=np.nan,
        ci_high=np.nan,
    )
    both = pd.concat([naive, rows.assign(model="cross-validated")])
    heads = {}
    for row in combine_subjects(rows, ("roi",), "score").to_dict("records"):
        if isinstance(row["layer"], str):
            heads[row["roi"]] = f"{row['roi']}\n{row['layer']}\n({row['naive_layer']})"
    note = [
        _whose_words(rows, "its two values joined"),
        "Naive: the layer is chosen and scored on the same data, which is too high",
    ]
    if heads:
        note.append(
            "Under each ROI: the layer chosen most often in cross-validation, in brackets the "
            "naive one"
        )
    note += [_interval_words(rows), describe_sizes(rows)]
    marks = {
        "naive": ("o", "white"),
        "cross-validated": ("o", HUES[0]),
    }
    return _paired(both, marks, heads, note, stamp)


def _whose_words(rows: pd.DataFrame, joined: str) -> str:
    """Say whose values the marks are."""
    people = people_of(rows)
    if len(people) == 1:
        return f"Subject {people[0]}"
    return f"Large: mean over subjects; small: each subject, {joined}"


def _interval_words(rows: pd.DataFrame) -> str:
    if not np.isfinite(numbers_of(rows, "ci_low")).any():
        return "No interval in the table"
    method = each_name(rows, "method") or "not named in the table"
    return f"Whisker: interval of the large mark. Method: {method}"


def _paired(
    rows: pd.DataFrame,
    marks: dict[str, tuple[str, str]],
    heads: dict[str, str],
    note: Sequence[str],
    stamp: str,
    differences: pd.DataFrame | None = None,
) -> Figure:
    """Draw scores of models side by side in each ROI, joined within subjects.

    Their differences stand below.
    """
    rois, names = order_representations(rows["roi"]), Names()
    over_subjects = combine_subjects(rows, ("roi", "model"), "score")
    ticks = [heads.get(roi, roi) for roi in rois]
    plan = plan_ticks(names, ticks, max(0.85, 4.2 / len(rois)), 1.5)
    width = page_width(max(plan.width * len(rois) + 0.75, 5.0), stamp)
    contrasts = [] if differences is None else list(dict.fromkeys(differences["contrast"]))
    entries = [*marks, *contrasts]
    made = ""
    if over_subjects["made_here"].astype(bool).any():
        made = "The mean over subjects was computed for this figure"
    height = 2.5 + plan.height + legend_plan(entries, width)[1]
    if contrasts:
        height += 1.9 + plan.height
    single = rows[rows["subject"] != MEAN]
    if len(people_of(rows)) < 2:
        single = single.iloc[:0]
    # Intervals of single subjects are not drawn and take no room.
    drawn = [numbers_of(over_subjects, column) for column in ("score", "ci_low", "ci_high")]
    limits = axis_limits([numbers_of(rows, "score"), *drawn])
    with figure_style():
        words = join_note(*note, made, names.note)
        figure = new_figure(width, height + 0.34 * bool(stamp), "", words)
        panels = figure.subplots(1 + bool(contrasts), 1, squeeze=False)[:, 0]
        handles = _draw_models(panels[0], single, over_subjects, rois, marks)
        panels[0].set_ylim(limits)
        finish_axes(panels[0], plan, QUANTITIES["similarity"])
        if differences is not None:
            handles += _draw_differences(panels[1], differences, rois, contrasts)
            finish_axes(panels[1], plan, "difference")
        top_legend(figure, handles, entries, width, stamp)
        return figure


def _draw_models(
    axes: Axes,
    single: pd.DataFrame,
    over_subjects: pd.DataFrame,
    rois: Sequence[str],
    marks: dict[str, tuple[str, str]],
) -> list[Any]:
    shifts = spread_over(len(marks), 0.26)
    for place, roi in enumerate(rois):
        own = single[single["roi"] == roi].pivot(
            index="subject",
            columns="model",
            values="score",
        )
        for line in own.reindex(columns=list(marks)).to_numpy(dtype=float):
            axes.plot(
                place + shifts,
                line,
                color=FAINT,
                linewidth=0.7,
                marker="o",
                markersize=2.6,
                zorder=2,
            )
    handles = []
    for (model, (marker, face)), shift in zip(marks.items(), shifts):
        of_model = over_subjects[over_subjects["model"] == model]
        of_model = of_model.set_index("roi").reindex(list(rois))
        x = np.arange(len(rois)) + shift
        handles += axes.plot(
            x,
            of_model["score"].astype(float),
            marker=marker,
            markerfacecolor=face,
            linestyle="",
            markersize=8,
            markeredgecolor=INK,
            zorder=3,
        )
        low, high = numbers_of(of_model, "ci_low"), numbers_of(of_model, "ci_high")
        for place in range(len(rois)):
            draw_whisker(axes, x[place], low[place], high[place])
    return handles


def _draw_differences(
    axes: Axes, rows: pd.DataFrame, rois: Sequence[str], contrasts: Sequence[str]
) -> list[Any]:
    over_subjects = combine_subjects(rows, ("roi", "contrast"), "difference")
    shifts = spread_over(len(contrasts), 0.26)
    handles, farthest = [], 0.0
    for rank, contrast in enumerate(contrasts):
        own = over_subjects[over_subjects["contrast"] == contrast]
        own = own.set_index("roi").reindex(list(rois))
        x, values = np.arange(len(rois)) + shifts[rank], numbers_of(own, "difference")
        handles += axes.plot(
            x,
            values,
            marker=("v", "P", "X", "<")[rank % 4],
            markeredgecolor=INK,
            linestyle="",
            markersize=6,
            color=HUES[(rank + 3) % len(HUES)],
            zorder=3,
        )
        low, high = numbers_of(own, "ci_low"), numbers_of(own, "ci_high")
        for i, word in enumerate(stars(numbers_of(own, "p_corrected", "q"))):
            draw_whisker(axes, x[i], low[i], high[i])
            if word:
                draw_star(axes, x[i], float(np.nanmax([values[i], high[i]])), word)
        for ends in (values, low, high):
            farthest = float(np.nanmax(np.abs(ends), initial=farthest))
    farthest = 1.2 * (farthest or 0.1)
    axes.set_ylim(-farthest, farthest)
    return handles


@checked
def model_marks(
    models: pd.DataFrame,
    differences: pd.DataFrame | None = None,
    *,
    image_type: str | None = None,
    stamp: str = "",
) -> Figure:
    """Draw the weighted combination of layers beside the best single layer and the average of all.

    Parameters
    ----------
    models : DataFrame
        Columns roi, subject, model, score, ci_low, ci_high (of ``weighted.csv``). Used when there:
        kind, method, n.
    differences : DataFrame, optional
        Columns roi, subject, contrast, difference, ci_low, ci_high (of
        ``weighted_difference.csv``), drawn in a second panel. Used when there: q or p_corrected,
        family, correction, kind.
    image_type : str, optional
        Which images; needed when the tables hold several image types.
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

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.rsa import model_marks
    >>> rows = {"roi": "V1", "subject": "S1", "model": ["best layer", "weighted layers"]}
    >>> scores = {"score": [0.2, 0.3], "ci_low": [0.1, 0.2], "ci_high": [0.3, 0.4]}
    >>> figure = model_marks(pd.DataFrame({**rows, **scores}))
    >>> len(figure.axes)
    1
    """
    need_columns(models, "models", ("roi", "subject", "model", "score", "ci_low", "ci_high"))
    rows = names_as_text(one_image_type(models, "models", image_type), "roi", "subject", "model")
    refuse_repeats(rows, "models", ("roi", "subject", "model"))
    note = [_whose_words(rows, "its models joined"), _interval_words(rows)]
    if differences is not None:
        columns = ("roi", "subject", "contrast", "difference", "ci_low", "ci_high")
        need_columns(differences, "differences", columns)
        differences = one_image_type(differences, "differences", image_type)
        differences = names_as_text(differences, "roi", "subject", "contrast")
        refuse_repeats(differences, "differences", ("roi", "subject", "contrast"))
        note.append(f"Below: paired differences. {family_note(differences)}")
    note.append(describe_sizes(rows))
    present = list(dict.fromkeys(rows["model"]))
    marks = {model: mark for model, mark in MODEL_MARKS.items() if model in present}
    others = [model for model in present if model not in MODEL_MARKS]
    marks |= dict(zip(others, zip("vPX<>p*h", HUES[3:] + HUES)))
    return _paired(rows, marks, {}, note, stamp, differences)


# ---------------------------------------------------------------------------------------- hierarchy


@checked
def hierarchy_lines(table: pd.DataFrame, *, layers: Sequence[str] = (), stamp: str = "") -> Figure:
    """Draw the preferred layer over ROIs, early to late, one line a subject.

    Parameters
    ----------
    table : DataFrame
        Columns subject (``combined``: over subjects), order, preferred_layers, statistic, value, p
        (of ``hierarchy.csv``; NaN where there is no test). Used when there: left_out, method,
        reason.
    layers : sequence of str
        Names of the layers, early to late; when empty, those that the table names.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        The order of ROIs is that of the test. The legend has each slope, with p where there is one.

    Raises
    ------
    InputError
        When columns or rows are missing, a subject has several rows, or orders differ or cannot be
        read.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.rsa import hierarchy_lines
    >>> row = {"subject": "S1", "order": ["V1", "LO"], "statistic": "slope", "value": 0.8, "p": 0.2}
    >>> layers = {"V1": (1.0, "early"), "LO": (2.0, "late")}
    >>> figure = hierarchy_lines(pd.DataFrame([{**row, "preferred_layers": layers}]))
    >>> len(figure.axes)
    1
    """
    columns = ("subject", "order", "preferred_layers", "statistic", "value", "p")
    need_columns(table, "hierarchy", columns)
    rows = names_as_text(table, "subject", "statistic")
    refuse_repeats(rows, "hierarchy", ("subject",))
    orders = {" < ".join(names_in([cell])): names_in([cell]) for cell in rows["order"]}
    if len(orders) > 1:
        raise InputError(
            f"the hierarchy table holds {len(orders)} orders of regions: {name_ids(orders)}; give "
            "the rows of one."
        )
    (rois,) = orders.values()
    subjects, names = people_of(rows), Names()
    points: list[list[float]] = []
    named: dict[int, str] = {}
    for cell in rows["preferred_layers"]:
        numbers, names_by_number = _preferred(cell, rois)
        points.append(numbers)
        named |= names_by_number
    numbered = dict(enumerate(layers, 1)) or named
    plan = plan_ticks(names, rois, max(0.7, 4.2 / len(rois)), 1.3)
    sides = {number: names.fit(name, 2.0, 8.5, 1) for number, name in sorted(numbered.items())}
    left = widest(list(sides.values()), 8.5)
    width = page_width(max(plan.width * len(rois) + 0.8 + left, 5.0), stamp)
    entries = []
    for row in rows.to_dict("records"):
        entry = f"{row['subject']}: {format_number(float(row['value']))} {row['statistic']}"
        if np.isfinite(float(row["p"])):
            entry += f", p = {format_number(float(row['p']), 3)}"
        entries.append(entry)
    last = rows[-1:]
    left_out = names_in(last["left_out"]) if "left_out" in rows.columns else []
    note = join_note(
        "Preferred layer of each ROI, counted from 1; the test is of the slope over subjects, "
        "one-tailed",
        f"Method: {each_name(last, 'method') or 'not named in the table'}",
        f"Not reliable, left out: {', '.join(left_out)}" if left_out else "",
        each_name(last, "reason"),
        names.note,
    )
    top = float(np.nanmax(np.array(points), initial=max([*sides, 2.0])))
    with figure_style():
        height = max(2.3, 0.2 * top) + plan.height + legend_plan(entries, width)[1]
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        axes = figure.subplots()
        handles = []
        for subject, line in zip(rows["subject"], points):
            style = _line_style(subjects, subject)
            handles += axes.plot(range(len(rois)), line, **style)
        ticks = [f"{name}  {number}" for number, name in sides.items()]
        axes.set_yticks(list(sides), ticks, parse_math=False)
        axes.tick_params(axis="y", labelsize=8.5)
        axes.set(ylim=(0.6, top + 0.4), ylabel="preferred layer")
        axes.grid(axis="y")
        name_ticks(axes, plan)
        top_legend(figure, handles, entries, width, stamp)
        return figure


def _preferred(cell: object, rois: Sequence[str]) -> tuple[list[float], dict[int, str]]:
    """Take the preferred layers of ROIs: numbers, NaN for none, and the layers nearest to them."""
    numbers = []
    names = {}
    preferences = facts_in(cell)
    if others := [roi for roi in preferences if roi not in rois]:
        raise InputError(
            f"preferred_layers names {name_ids(others)}, which the order of regions "
            f"({name_ids(rois)}) does not; give both of one test."
        )
    for roi in rois:
        number, nearest = preferences.get(roi) or (np.nan, "")
        numbers.append(float(number))
        if np.isfinite(number):
            names[round(number)] = str(nearest)
    return numbers, names


def _line_style(subjects: Sequence[str], subject: str) -> dict[str, Any]:
    if subject not in subjects:
        return {
            "color": INK,
            "linewidth": 2.4,
            "marker": "o",
            "markersize": 6,
            "zorder": 5,
        }
    rank = subjects.index(subject)
    dashes = ("-", "--", ":")
    return {
        "color": HUES[rank % len(HUES)],
        "linewidth": 1.1,
        "marker": SIGNS[rank % 7],
        "markersize": 4.5,
        "linestyle": dashes[rank // 7 % 3],
    }
