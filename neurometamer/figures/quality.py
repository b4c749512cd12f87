"""How metamers look: one panel a metric, bars of sets.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Fig. 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.labels import (
    TICK,
    Names,
    fit_size,
    legend_plan,
    name_ticks,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.sets import (
    COUNTS,
    SET_KEY,
    gather_notes,
    of_state,
    order_sets,
    order_stages,
    refuse_repeats,
    set_names,
    share_title,
    share_words,
    state_words,
    text_columns,
)
from neurometamer.figures.style import (
    FAINT,
    HUES,
    INK,
    figure_style,
    join_note,
    need_columns,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BARS = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")
_SMALL = 7.0
_DOTS = (0, (1, 1))


@checked
def quality_bars(table: pd.DataFrame, *, validity: str = "valid", stamp: str = "") -> Figure:
    """Draw how metamers look, one panel a metric (Boehm et al. 2025, Fig. 4).

    Parameters
    ----------
    table : DataFrame
        Columns set, stage, setting, metric, name, arrow, validity, value, low, high,
        photograph_value, note, n_valid, n_failed, n_not_judged; scale is shown when there.
    validity : {"valid", "failed", "not judged"}
        Which metamers.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Bars with intervals; dotted: the photographs themselves. A metric that could not run has a
        panel that says why; the last panel is the share of metamers in this state.

    Raises
    ------
    InputError
        When columns or rows are missing, or a bar has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import quality_bars
    >>> rows = {"set": ["A", "B"], "stage": "late", "setting": "", "metric": "ssim", "name": "SSIM"}
    >>> values = {"arrow": "↑", "validity": "valid", "value": [0.3, 0.4], "low": 0.2, "high": 0.5}
    >>> counts = {"n_valid": 12, "n_failed": 0, "n_not_judged": 0}
    >>> table = pd.DataFrame({**rows, **values, "photograph_value": None, "note": "", **counts})
    >>> quality_bars(table).axes[0].get_title()
    'SSIM ↑'
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    columns = (
        "metric",
        "name",
        "arrow",
        "validity",
        "value",
        "low",
        "high",
        "photograph_value",
        "note",
    )
    need_columns(table, "image quality", (*SET_KEY, *columns, *COUNTS))
    rows = text_columns(of_state(table, "image quality", validity))
    refuse_repeats(rows, "image quality", (*SET_KEY, "metric"))
    keys = order_sets(rows)
    sets = list(dict.fromkeys(set_name for set_name, _, _ in keys))
    several = rows["setting"].nunique() > 1
    # List stages with their settings, in order, each once.
    known = list(dict.fromkeys((stage, setting) for _, stage, setting in keys))
    stages = order_stages([stage for stage, _ in known])
    slots = sorted(known, key=lambda slot: stages.index(slot[0]))
    names = Names()
    metrics = list(dict.fromkeys(rows["metric"]))
    plan = plan_ticks(
        names,
        [f"{a}\n{b}" if several else a for a, b in slots],
        max(0.5, 0.15 * len(sets) + 0.1, 1.7 / len(slots)),
    )
    bars = _Bars(sets=sets, slots=slots, width=min(0.84 / len(sets), 0.5 / plan.width))
    panel = plan.width * len(slots) + 0.65
    per_row = max(1, min(5, int(12.5 / panel), len(metrics) + 1))
    width = page_width(max(panel * per_row, 4.6), stamp)
    photographs = (
        ["photographs"] if np.isfinite(rows["photograph_value"].astype(float)).any() else []
    )
    labels = [names.fit(set_name, width - 1, TICK, 2) for set_name in sets] + photographs
    n_rows = -(-(len(metrics) + 1) // per_row)
    with figure_style():
        height = (1.55 + plan.height) * n_rows + legend_plan(labels, width)[1]
        note = join_note(*_quality_note(rows, validity, several), names.note)
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        panels = figure.subplots(n_rows, per_row, squeeze=False).ravel().tolist()
        for axes, metric in zip(panels, metrics, strict=False):
            _draw_metric(axes, rows[rows["metric"] == metric], bars, panel - 0.75)
        _draw_share(
            panels[len(metrics)], rows.drop_duplicates(list(SET_KEY)), bars, validity, plan.width
        )
        for axes in panels[: len(metrics) + 1]:
            if axes.axison:
                name_ticks(axes, plan)
        for axes in panels[len(metrics) + 1 :]:
            axes.set_axis_off()
        handles: list[Any] = [Patch(**_style(rank)) for rank in range(len(sets))]
        handles += [Line2D([], [], color=INK, linewidth=1.3, linestyle=_DOTS) for _ in photographs]
        top_legend(figure, handles, labels, width, stamp)
        return figure


def _quality_note(rows: pd.DataFrame, validity: str, several: bool) -> list[str]:
    first = rows.drop_duplicates("metric")
    scales = (
        "; ".join(": ".join(pair) for pair in zip(first["name"], first["scale"]))
        if "scale" in rows.columns
        else ""
    )
    ran = rows[~rows["note"].astype(object).fillna("").astype(str).str.startswith("skipped")]
    endless = np.isinf(ran[["value", "low", "high"]].to_numpy(dtype=float)).any()
    return [
        f"{state_words(validity)}. ↑ higher is better, ↓ lower is better. Whiskers: interval over "
        "images",
        "∞: infinite, as some images equal their photographs; drawn up to the edge"
        if endless
        else "",
        "" if several or not rows["setting"].iloc[0] else f"Setting: {rows['setting'].iloc[0]}",
        gather_notes(ran, set_names(ran), ran["name"].tolist()),
        f"Scales. {scales}" if scales else "",
    ]


def _style(rank: int) -> dict[str, Any]:
    """Choose color and hatching of the nth set.

    Sets of one color differ in hatching, and neighbors in both.
    """
    hatch = _BARS[(rank + rank // len(HUES)) % len(_BARS)]
    return {
        "facecolor": HUES[rank % len(HUES)],
        "edgecolor": "white",
        "linewidth": 0,
        "hatch": hatch,
    }


@dataclass(frozen=True, kw_only=True)
class _Bars:
    """Where the bars of a panel stand."""

    sets: Sequence[str]
    slots: Sequence[tuple[str, str]]
    width: float

    def places(self, rows: pd.DataFrame) -> np.ndarray:
        middle = [
            self.slots.index(slot) for slot in zip(rows["stage"], rows["setting"], strict=True)
        ]
        rank = [list(self.sets).index(set_name) for set_name in rows["set"]]
        return np.array(middle) + (np.array(rank) - (len(self.sets) - 1) / 2) * self.width

    def draw(self, axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
        places = self.places(rows)
        for rank, set_name in enumerate(self.sets):
            own = (rows["set"] == set_name).to_numpy() & np.isfinite(heights)
            axes.bar(places[own], heights[own], width=0.92 * self.width, **_style(rank))


def _draw_metric(axes: Axes, rows: pd.DataFrame, bars: _Bars, inches: float) -> None:
    first = rows.iloc[0]
    axes.set_title(f"{first['name']} {first['arrow']}", parse_math=False)
    notes = {
        reason
        for reason in rows["note"].astype(object).fillna("").astype(str)
        if reason.startswith("skipped")
    }
    value, low, high, before = (
        rows[column].to_numpy(dtype=float)
        for column in ("value", "low", "high", "photograph_value")
    )
    if notes and np.isnan(value).all():
        # Of a set without a valid metamer that is told too, after the same words.
        reasons = sorted(
            reason
            for reason in notes
            if not any(reason != other and reason.startswith(other) for other in notes)
        )
        _say_why(axes, "; ".join(reasons), inches)
        return
    bottom, top = _limits(np.concatenate([value, low, high, before]))
    axes.set_ylim(bottom, top)
    places = bars.places(rows)
    bars.draw(axes, rows, np.minimum(value, top))
    ends = np.isfinite(low) & ~np.isnan(high)
    axes.vlines(places[ends], low[ends], np.minimum(high, top)[ends], color=INK, linewidth=1.1)
    known, half = np.isfinite(before), bars.width / 2
    axes.hlines(
        before[known],
        places[known] - half,
        places[known] + half,
        color=INK,
        linewidth=1.3,
        linestyle=_DOTS,
    )
    where: dict[str, Any] = {"ha": "center", "fontsize": 8, "color": INK}
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    for place, bar in zip(places, value, strict=True):
        if np.isnan(bar):
            axes.text(place, 0, "–", va="bottom", **where)
        elif np.isinf(bar):
            axes.text(place, 0.97 * top, "∞", va="top", bbox=box, **where)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y")


def _say_why(axes: Axes, words: str, inches: float) -> None:
    """Write why a metric could not run, where its bars would stand."""
    axes.set_axis_off()
    words, size = fit_size(words, inches, 1.3, (8, 7.5, 7, 6.5, 6, 5.5))
    box = {"boxstyle": "round,pad=0.4", "facecolor": "#f2f2f2", "edgecolor": "none"}
    where: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": size,
        "color": FAINT,
        "bbox": box,
    }
    axes.text(0.5, 0.5, words, transform=axes.transAxes, parse_math=False, **where)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Find ends of a y axis that holds 0 and all finite values."""
    finite = values[np.isfinite(values)]
    low, high = min(finite.min(initial=0), 0), max(finite.max(initial=0), 0)
    room = 0.06 * (high - low) or 1.0
    return float(low - room * (low < 0)), float(high + room * (high > 0 or low == 0))


def _draw_share(axes: Axes, rows: pd.DataFrame, bars: _Bars, validity: str, inches: float) -> None:
    """Draw the share of metamers in a state, with the counts above the bars."""
    axes.set_title(share_title(validity))
    axes.set_ylim(0, 1.45)
    axes.set_yticks([0, 0.5, 1])
    words = [share_words(row, validity) for _, row in rows.iterrows()]
    parts = [word.partition("/") for word in words]
    shares = np.array([int(a) / int(b) if b.isdigit() and int(b) else 0.0 for a, _, b in parts])
    bars.draw(axes, rows, shares)
    turned = widest(words, _SMALL) > bars.width * inches
    for place, share, word in zip(bars.places(rows), shares, words, strict=True):
        axes.text(
            place,
            share + 0.03,
            word,
            ha="center",
            va="bottom",
            rotation=90 * turned,
            fontsize=_SMALL,
        )
    axes.grid(axis="y")
