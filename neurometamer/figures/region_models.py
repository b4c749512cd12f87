"""Models of a region: best layer, weighted layers, and the order of regions.

Weighted layers stand beside the best layer and the average.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.figures.labels import (
    Names,
    legend_plan,
    name_ticks,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.rsa_parts import (
    MEAN,
    QUANTITIES,
    axis_limits,
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
    FAINT,
    HUES,
    INK,
    describe_sizes,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
    order_places,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL_MARKS = {"weighted": ("s", HUES[0]), "best layer": ("^", HUES[1]), "average": ("D", HUES[2])}
"""Marker and color of each model."""


@checked
def best_layer_marks(table: pd.DataFrame, *, kind: str | None = None, stamp: str = "") -> Figure:
    """Draw the best layer of each ROI as chosen and measured on the same data.

    Beside it stands its value on other data.

    Parameters
    ----------
    table : DataFrame
        Columns roi, subject, layer, score, ci_low, ci_high, naive_layer, naive_score (of
        ``best_layer.csv``). Used when there: kind, method, n.
    kind : str, optional
        Which images; needed when the table holds several kinds.
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
        one_kind(table, "best layer", kind), "roi", "subject", "layer", "naive_layer"
    )
    refuse_repeats(rows, "best layer", ("roi", "subject"))
    long = pd.concat(
        [
            rows.assign(model="naive", score=rows["naive_score"], ci_low=np.nan, ci_high=np.nan),
            rows.assign(model="cross-validated"),
        ]
    )
    over_subjects = combine_subjects(rows, ("roi",), "score").set_index("roi")
    layers_of_roi = zip(over_subjects.index, over_subjects["layer"], over_subjects["naive_layer"])
    heads = {
        roi: f"{roi}\n{layer}\n({naive})"
        for roi, layer, naive in layers_of_roi
        if isinstance(layer, str)
    }
    note = (
        _whose_words(rows, "its two values joined"),
        "Naive: the layer is chosen and scored on the same data, which is too high",
        "Under each ROI: the layer chosen most often in cross-validation, in brackets the naive one"
        if heads
        else "",
        _interval_words(rows),
        describe_sizes(rows),
    )
    looks = {"naive": ("o", "white"), "cross-validated": ("o", HUES[0])}
    return _paired(long, looks, heads, note, stamp)


def _whose_words(rows: pd.DataFrame, joined: str) -> str:
    """Say whose values the marks are."""
    people = people_of(rows)
    if len(people) == 1:
        return f"Subject {people[0]}"
    return f"Large: mean over subjects; small: each subject, {joined}"


def _interval_words(rows: pd.DataFrame) -> str:
    if not np.isfinite(numbers_of(rows, "ci_low")).any():
        return "No interval in the table"
    return (
        "Whisker: interval of the large mark. Method: "
        f"{each_name(rows, 'method') or 'not named in the table'}"
    )


def _paired(
    rows: pd.DataFrame,
    looks: dict[str, tuple[str, str]],
    heads: dict[str, str],
    note: Sequence[str],
    stamp: str,
    differences: pd.DataFrame | None = None,
) -> Figure:
    """Draw scores of models side by side in each ROI, joined within subjects.

    Their differences stand below.
    """
    rois, subjects, names = order_places(rows["roi"]), people_of(rows), Names()
    over_subjects = combine_subjects(rows, ("roi", "model"), "score")
    plan = plan_ticks(names, [heads.get(roi, roi) for roi in rois], max(0.85, 4.2 / len(rois)), 1.5)
    width = page_width(max(plan.width * len(rois) + 0.75, 5.0), stamp)
    contrasts = [] if differences is None else list(dict.fromkeys(differences["contrast"]))
    entries = [*looks, *contrasts]
    made = (
        "The mean over subjects was computed for this figure"
        if over_subjects["made_here"].astype(bool).any()
        else ""
    )
    height = (
        2.5 + plan.height + legend_plan(entries, width)[1] + (1.9 + plan.height) * bool(contrasts)
    )
    with figure_style():
        figure = new_figure(
            width, height + 0.34 * bool(stamp), "", join_note(*note, made, names.note)
        )
        panels = figure.subplots(1 + bool(contrasts), 1, squeeze=False)[:, 0]
        handles = _draw_models(
            panels[0], rows[rows["subject"] != MEAN], over_subjects, rois, looks, len(subjects) > 1
        )
        # intervals of single subjects are not drawn and take no room
        drawn = (numbers_of(over_subjects, column) for column in ("score", "ci_low", "ci_high"))
        panels[0].set_ylim(axis_limits([numbers_of(rows, "score"), *drawn]))
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
    looks: dict[str, tuple[str, str]],
    several: bool,
) -> list[Any]:
    shifts = spread_over(len(looks), 0.26)
    for place, roi in enumerate(rois):
        own = single[single["roi"] == roi].pivot(index="subject", columns="model", values="score")
        for line in own.reindex(columns=list(looks)).to_numpy(dtype=float) if several else ():
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
    for (model, (marker, face)), shift in zip(looks.items(), shifts):
        of_model = (
            over_subjects[over_subjects["model"] == model].set_index("roi").reindex(list(rois))
        )
        x = np.arange(len(rois)) + shift
        style: dict[str, Any] = {
            "linestyle": "",
            "markersize": 8,
            "markeredgecolor": INK,
            "zorder": 3,
        }
        handles += axes.plot(
            x, of_model["score"].astype(float), marker=marker, markerfacecolor=face, **style
        )
        for place, low, high in zip(
            x, numbers_of(of_model, "ci_low"), numbers_of(of_model, "ci_high")
        ):
            draw_whisker(axes, place, low, high)
    return handles


def _draw_differences(
    axes: Axes, rows: pd.DataFrame, rois: Sequence[str], contrasts: Sequence[str]
) -> list[Any]:
    over_subjects, handles = combine_subjects(rows, ("roi", "contrast"), "difference"), []
    for rank, (contrast, shift) in enumerate(zip(contrasts, spread_over(len(contrasts), 0.26))):
        own = (
            over_subjects[over_subjects["contrast"] == contrast]
            .set_index("roi")
            .reindex(list(rois))
        )
        x, values = np.arange(len(rois)) + shift, own["difference"].to_numpy(dtype=float)
        style: dict[str, Any] = {
            "linestyle": "",
            "markersize": 6,
            "color": HUES[(rank + 3) % len(HUES)],
            "zorder": 3,
        }
        handles += axes.plot(
            x, values, marker=("v", "P", "X", "<")[rank % 4], markeredgecolor=INK, **style
        )
        low, high = numbers_of(own, "ci_low"), numbers_of(own, "ci_high")
        for i, word in enumerate(stars(numbers_of(own, "p_corrected", "q"))):
            draw_whisker(axes, x[i], low[i], high[i])
            if word:
                draw_star(axes, x[i], float(np.nanmax([values[i], high[i]])), word)
    ends = [numbers_of(over_subjects, column) for column in ("difference", "ci_low", "ci_high")]
    farthest = float(np.nanmax(np.abs(np.concatenate([*ends, np.zeros(1)])))) or 0.1
    axes.set_ylim(-1.2 * farthest, 1.2 * farthest)
    return handles


@checked
def model_marks(
    models: pd.DataFrame,
    differences: pd.DataFrame | None = None,
    *,
    kind: str | None = None,
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
    rows = names_as_text(one_kind(models, "models", kind), "roi", "subject", "model")
    refuse_repeats(rows, "models", ("roi", "subject", "model"))
    if differences is not None:
        need_columns(
            differences,
            "differences",
            ("roi", "subject", "contrast", "difference", "ci_low", "ci_high"),
        )
        differences = names_as_text(
            one_kind(differences, "differences", kind), "roi", "subject", "contrast"
        )
        refuse_repeats(differences, "differences", ("roi", "subject", "contrast"))
    present = list(dict.fromkeys(rows["model"]))
    order = [model for model in MODEL_MARKS if model in present]
    order += [model for model in present if model not in MODEL_MARKS]
    others = zip(
        [model for model in order if model not in MODEL_MARKS], zip("vPX<>p*h", HUES[3:] + HUES)
    )
    looks = {model: MODEL_MARKS[model] for model in order if model in MODEL_MARKS} | dict(others)
    note = (
        _whose_words(rows, "its models joined"),
        _interval_words(rows),
        "" if differences is None else f"Below: paired differences. {family_note(differences)}",
        describe_sizes(rows),
    )
    return _paired(rows, looks, {}, note, stamp, differences)


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
    >>> row = {"subject": "S1", "order": "V1 < V2 < LO", "statistic": "tau-b", "value": 0.8}
    >>> places = "V1: 1.0 (early); V2: 1.5 (early); LO: 2.0 (late)"
    >>> figure = hierarchy_lines(pd.DataFrame([{**row, "preferred_layers": places, "p": 0.2}]))
    >>> len(figure.axes)
    1
    """
    need_columns(
        table, "hierarchy", ("subject", "order", "preferred_layers", "statistic", "value", "p")
    )
    rows = names_as_text(table, "subject", "order", "preferred_layers", "statistic")
    refuse_repeats(rows, "hierarchy", ("subject",))
    orders = list(dict.fromkeys(rows["order"]))
    if len(orders) > 1:
        raise InputError(
            f"the hierarchy table holds {len(orders)} orders of regions: {name_ids(orders)}; draw "
            "one."
        )
    rois, subjects, names = orders[0].split(" < "), people_of(rows), Names()
    read = [_preferred(text, rois) for text in rows["preferred_layers"]]
    numbered = dict(enumerate(layers, 1)) or {
        key: name for _, names_by_number in read for key, name in names_by_number.items()
    }
    plan = plan_ticks(names, rois, max(0.7, 4.2 / len(rois)), 1.3)
    sides = {number: names.fit(name, 2.0, 8.5, 1) for number, name in sorted(numbered.items())}
    width = page_width(
        max(plan.width * len(rois) + 0.8 + widest(list(sides.values()), 8.5), 5.0), stamp
    )
    entries = [_verdict(row) for row in rows.to_dict("records")]
    left_out = each_name(rows[-1:], "left_out")
    note = join_note(
        "Preferred layer of each ROI, counted from 1; the test is of the slope over subjects, "
        "one-tailed",
        f"Method: {each_name(rows[-1:], 'method') or 'not named in the table'}",
        f"Not reliable, left out: {left_out}" if left_out else "",
        each_name(rows[-1:], "reason"),
        names.note,
    )
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
        axes.set_yticks(
            list(sides), [f"{name}  {number}" for number, name in sides.items()], parse_math=False
        )
        axes.tick_params(axis="y", labelsize=8.5)
        axes.set(ylim=(0.6, top + 0.4), ylabel="preferred layer")
        axes.grid(axis="y")
        name_ticks(axes, plan)
        top_legend(figure, handles, entries, width, stamp)
        return figure


def _preferred(text: str, rois: Sequence[str]) -> tuple[list[float], dict[int, str]]:
    """Read ``"V1: 1.25 (conv1); V2: …"``: numbers, and the layers nearest to them.

    Numbers are NaN where the text is empty.
    """
    if not text:
        return [np.nan] * len(rois), {}
    pattern = "; ".join(rf"{re.escape(roi)}: (nan|[\d.]+) \((.*)\)" for roi in rois)
    match = re.fullmatch(pattern, text)
    if match is None:
        raise InputError(
            f"preferred_layers {text!r} is not of the form '{rois[0]}: 1.25 (layer); …' for {rois}."
        )
    numbers = [float(group) for group in match.groups()[::2]]
    pairs = zip(numbers, match.groups()[1::2])
    return numbers, {round(number): name for number, name in pairs if np.isfinite(number)}


def _verdict(row: dict[Any, Any]) -> str:
    p = float(row["p"])
    text = f"{row['subject']}: {format_number(float(row['value']))} {row['statistic']}"
    return f"{text}, p = {format_number(p, 3)}" if np.isfinite(p) else text


def _line_style(subjects: Sequence[str], subject: str) -> dict[str, Any]:
    if subject not in subjects:
        return {"color": INK, "linewidth": 2.4, "marker": "o", "markersize": 6, "zorder": 5}
    rank = subjects.index(subject)
    marker = ("s", "^", "D", "v", "P", "X", "<")[rank % 7]
    dashes = ("-", "--", ":")[rank // 7 % 3]
    return {
        "color": HUES[rank % len(HUES)],
        "linewidth": 1.1,
        "marker": marker,
        "markersize": 4.5,
        "linestyle": dashes,
    }
