"""Figures of the evaluation of metamers: tables in, matplotlib figures out.

Every number stands beside the share of metamers that are valid, and states are never joined: what
failed, and what nobody judged, is drawn apart. Sets differ in color and in marker or hatching.

References
----------
Boehm et al. (2025). arXiv 2504.01739: Fig. 3 (`recognizability_lines`), Fig. 4 (`quality_bars`),
Fig. 5 (`divergence_heatmap`), Fig. 6 (`epsilon_bars`), Table 5 (`set_differences`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.examples import example_sheet
from neurometamer.figures.labels import (
    TICK,
    Names,
    legend_plan,
    name_ticks,
    page_width,
    plan_ticks,
    top_legend,
    widest,
)
from neurometamer.figures.matrices import (
    divergence_heatmap,
    observer_matrix,
    recognizability_matrix,
)
from neurometamer.figures.quality import quality_bars
from neurometamer.figures.sets import (
    COUNTS,
    SET_KEY,
    STATES,
    gather_notes,
    measure_words,
    one_measure,
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
    SIGNS,
    figure_style,
    format_number,
    join_note,
    need_columns,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "divergence_heatmap",
    "epsilon_bars",
    "example_sheet",
    "observer_bars",
    "observer_matrix",
    "quality_bars",
    "recognizability_lines",
    "recognizability_matrix",
    "set_differences",
]

MOST_LINES = 21
"""More sets cannot be told apart by color, marker and dashes."""
_STYLES = ("-", (0, (5, 2)), (0, (1, 1.2)))
_SMALL = 7.0


def _look(place: int) -> dict[str, Any]:
    """Color, marker and line of the nth of several sets."""
    n = len(HUES)
    return {
        "color": HUES[place % n],
        "marker": SIGNS[place % n],
        "linestyle": _STYLES[place // n % len(_STYLES)],
    }


def _whiskers(
    axes: Axes,
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    color: str,
    *,
    upright: bool = True,
) -> None:
    """Draw intervals where both ends are known."""
    known = np.isfinite(low) & np.isfinite(high)
    draw = axes.vlines if upright else axes.hlines
    draw(x[known], low[known], high[known], color=color, linewidth=1.2)


def _say(axes: Axes, text: str) -> None:
    """Write where there is nothing to draw."""
    axes.text(
        0.5,
        0.5,
        text,
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=FAINT,
        fontsize=8.5,
    )


# -------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One panel of lines over stages, and the rows of words under it."""

    title: str
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    words: np.ndarray
    words_title: str
    hollow: bool = False
    empty: str = ""


def _draw_lines(
    panels: Sequence[Sequence[_Panel | None]],
    lines: Sequence[str],
    ticks: Sequence[str],
    names: Names,
    *,
    label: str,
    axis: str = "",
    chance: float | None = None,
    note: Sequence[str],
    stamp: str,
) -> Figure:
    """Draw rows of panels: lines over ticks, and words for each point under each panel.

    All panels have the same lines.
    """
    down, across = len(panels), len(panels[0])
    longest = max(widest([*panel.words.ravel(), ""], _SMALL) for panel in _there(panels))
    plan = plan_ticks(
        names, ticks, max(0.55, longest + 0.1, (3.6 if across == 1 else 2.4) / len(ticks))
    )
    width = max(plan.width * len(ticks), 1.0) * across + 0.6 * across + 0.3
    width = page_width(width, stamp)
    labels = [names.fit(line, width - 1, 8.5, 2) for line in lines]
    strip = 0.14 * (len(lines) + 1)
    height = (2.4 + plan.height + strip + 0.2 * bool(axis)) * down + legend_plan(labels, width)[1]
    titles = {
        panel.title: "\n".join(
            names.fit(part, width / across - 0.7, 10, 1, bold=True)
            for part in panel.title.split("\n")
        )
        for panel in _there(panels)
    }
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", join_note(*note, names.note))
        grid = figure.add_gridspec(2 * down, across, height_ratios=[2.0, strip] * down)
        handles: list[Any] = []
        for row, column in np.ndindex(down, across):
            panel = panels[row][column]
            if panel is None:
                continue
            axes = figure.add_subplot(grid[2 * row, column])
            drawn = _draw_panel(axes, panel, chance)
            handles = handles or drawn
            name_ticks(axes, plan)
            axes.set_title(titles[panel.title], parse_math=False)
            axes.set_xlabel(axis, parse_math=False)
            if column == 0 or panels[row][column - 1] is None:
                axes.set_ylabel(label, parse_math=False)
            _draw_words(figure.add_subplot(grid[2 * row + 1, column]), panel)
        top_legend(figure, handles, labels, width, stamp)
        return figure


def _there(panels: Sequence[Sequence[_Panel | None]]) -> list[_Panel]:
    return [panel for row in panels for panel in row if panel is not None]


def _draw_panel(axes: Axes, panel: _Panel, chance: float | None) -> list[Any]:
    x = np.arange(panel.values.shape[1])
    handles = []
    # n marks stand beside each other around 0.
    n = len(panel.values)
    shifts = (np.arange(n) - (n - 1) / 2) * min(0.09, 0.5 / max(n, 1))
    for place, shift in enumerate(shifts):
        style = _look(place) | ({"markerfacecolor": "white"} if panel.hollow else {})
        _whiskers(axes, x + shift, panel.low[place], panel.high[place], style["color"])
        handles += axes.plot(x + shift, panel.values[place], markersize=5, linewidth=1.3, **style)
    if chance is not None:
        axes.axhline(chance, color=FAINT, linewidth=1, linestyle=":")
        axes.set_ylim(-0.03, 1.03)
    elif panel.empty:
        axes.set_yticks([])
    if panel.empty:
        _say(axes, panel.empty)
    axes.grid(axis="y")
    return handles


def _draw_words(axes: Axes, panel: _Panel) -> None:
    """Write a row of words for each line, in its color and after its marker."""
    n_lines, n_ticks = panel.words.shape
    axes.set_axis_off()
    axes.set(xlim=(-0.5, n_ticks - 0.5), ylim=(n_lines - 0.4, -1.5))
    style: dict[str, Any] = {"fontsize": _SMALL, "va": "center_baseline"}
    axes.text(-0.5, -1, panel.words_title, color=FAINT, ha="left", **style)
    for line in range(n_lines):
        marker = (
            _look(line) | {"linestyle": ""} | ({"markerfacecolor": "white"} if panel.hollow else {})
        )
        axes.plot([-0.48], [line], markersize=3.5, clip_on=False, **marker)
        for tick in range(n_ticks):
            axes.text(tick, line, panel.words[line, tick], color=INK, ha="center", **style)


@checked
def recognizability_lines(table: pd.DataFrame, *, chance: float, stamp: str = "") -> Figure:
    """Draw curves of recognizability over stages, one line a set (Boehm et al. 2025, Fig. 3).

    Parameters
    ----------
    table : DataFrame
        Columns set, stage, setting, validity, value, low, high, n_valid, n_failed, n_not_judged, of
        one measure; ways, rule, target, sd, n_averaged and note are shown when there.
    chance : float
        Share recognized by a guesser.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Settings and states (valid, failed, not judged) have panels of their own; under each panel
        stands, for every point, how many metamers are in that state.

    Raises
    ------
    InputError
        When columns or rows are missing, or a point has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import recognizability_lines
    >>> rows = {"set": "A", "stage": ["early", "late"], "setting": "", "validity": "valid"}
    >>> values = {"value": [0.9, 0.4], "low": [0.8, 0.3], "high": [1.0, 0.5]}
    >>> counts = {"n_valid": 12, "n_failed": 0, "n_not_judged": 0}
    >>> figure = recognizability_lines(pd.DataFrame({**rows, **values, **counts}), chance=1 / 16)
    >>> len(figure.axes) > 0
    True
    """
    need_columns(table, "curves", (*SET_KEY, "validity", "value", "low", "high", *COUNTS))
    rows = text_columns(table)
    refuse_repeats(rows, "curves", (*SET_KEY, "validity"))
    settings, everyone = (list(dict.fromkeys(rows[column])) for column in ("setting", "set"))
    sets, stages = everyone[:MOST_LINES], order_stages(rows["stage"].tolist())
    states = [state for state in STATES if (rows["validity"] == state).any()]
    made = [
        [_state_panel(rows, sets, stages, setting, state, len(settings) > 1) for state in states]
        for setting in settings
    ]
    if len(states) == 1:
        flat = [row[0] for row in made]
        per_row = min(3, len(flat))
        made = [
            (flat[at : at + per_row] + [None] * per_row)[:per_row]
            for at in range(0, len(flat), per_row)
        ]
    note = (
        f"Share recognized by evaluators that took no part, {measure_words(rows)}".rstrip(", "),
        "Whiskers: interval over images",
        _spread(rows),
        f"Dotted: chance, {chance:.3g}",
        f"Setting: {settings[0]}" if len(settings) == 1 and settings[0] else "",
        f"{len(sets)} of {len(everyone)} sets are shown" if len(sets) < len(everyone) else "",
        gather_notes(rows, set_names(rows), [f"{state} metamers" for state in rows["validity"]]),
    )
    return _draw_lines(
        made, sets, stages, Names(), label="share recognized", chance=chance, note=note, stamp=stamp
    )


def _state_panel(
    rows: pd.DataFrame,
    sets: Sequence[str],
    stages: Sequence[str],
    setting: str,
    state: str,
    several: bool,
) -> _Panel | None:
    own = rows[(rows["setting"] == setting) & (rows["validity"] == state)]
    if own.empty:
        return None
    words = own.assign(words=[share_words(row, state) for _, row in own.iterrows()])
    wide = {
        column: words.pivot(index="set", columns="stage", values=column).reindex(
            index=list(sets), columns=list(stages)
        )
        for column in ("value", "low", "high", "words")
    }
    values, low, high = (wide[column].to_numpy(dtype=float) for column in ("value", "low", "high"))
    state_words = state if state == "not judged" else f"{state} metamers"
    return _Panel(
        title=f"{setting}\n{state_words}" if several else state_words,
        values=values,
        low=low,
        high=high,
        words=wide["words"].astype(object).fillna("").to_numpy(),
        words_title=share_title(state),
        hollow=state != "valid",
        empty="" if np.isfinite(values).any() else "no value to draw",
    )


def _spread(rows: pd.DataFrame) -> str:
    """Say how far evaluators differ."""
    known = (
        rows.dropna(subset=["sd", "n_averaged"])
        if {"sd", "n_averaged"} <= set(rows.columns)
        else rows.iloc[:0]
    )
    if known.empty:
        return ""
    ends = " to ".join(
        dict.fromkeys(format_number(value) for value in (known["sd"].min(), known["sd"].max()))
    )
    sizes = " to ".join(
        dict.fromkeys(
            str(int(count)) for count in (known["n_averaged"].min(), known["n_averaged"].max())
        )
    )
    return f"s.d. over evaluators: {ends} ({sizes} evaluators)"


@checked
def observer_bars(
    table: pd.DataFrame, *, label: str = "share recognized", stamp: str = ""
) -> Figure:
    """Draw how two factors act together.

    Lines of the second factor run over the levels of the first, with intervals.

    Parameters
    ----------
    table : DataFrame
        Columns a, b (levels), factor_a, factor_b (the factors' names), value, low, high,
        n_generators, n_images.
    label : str
        What the values are.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Parallel lines: the factors do not interact. Under the panel: generators × images of each
        point.

    Raises
    ------
    InputError
        When columns or rows are missing, or a point has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import observer_bars
    >>> rows = {"a": ["clear", "blur"] * 2, "b": ["wide", "wide", "deep", "deep"]}
    >>> factors = {"factor_a": "images", "factor_b": "shape", "n_generators": 2, "n_images": 12}
    >>> values = {"value": [0.9, 0.4, 0.7, 0.5], "low": 0.3, "high": 1.0}
    >>> figure = observer_bars(pd.DataFrame({**rows, **factors, **values}))
    >>> len(figure.axes) > 0
    True
    """
    columns = ("a", "b", "factor_a", "factor_b", "value", "low", "high", "n_generators", "n_images")
    need_columns(table, "interaction", columns)
    rows = table.assign(a=table["a"].astype(str), b=table["b"].astype(str))
    refuse_repeats(rows, "interaction", ("a", "b"))
    over, lines = (list(dict.fromkeys(rows[column])) for column in ("a", "b"))
    rows = rows.assign(words=[_sizes(row) for _, row in rows.iterrows()])
    wide = {
        column: rows.pivot(index="b", columns="a", values=column).reindex(
            index=lines[:MOST_LINES], columns=over
        )
        for column in ("value", "low", "high", "words")
    }
    values, low, high = (wide[column].to_numpy(dtype=float) for column in ("value", "low", "high"))
    first, second = str(rows["factor_a"].iloc[0]), str(rows["factor_b"].iloc[0])
    panel = _Panel(
        title="",
        values=values,
        low=low,
        high=high,
        words=wide["words"].astype(object).fillna("–").to_numpy(),
        words_title="generators × images",
        empty="" if np.isfinite(values).any() else "no value to draw",
    )
    note = (
        f"{label.capitalize()} by {first} (across) and {second} (lines). Whiskers: interval",
        f"{MOST_LINES} of {len(lines)} lines are shown" if len(lines) > MOST_LINES else "",
    )
    named = [f"{second}: {line}" for line in lines[:MOST_LINES]]
    return _draw_lines(
        [[panel]], named, over, Names(), label=label, axis=first, note=note, stamp=stamp
    )


def _sizes(row: pd.Series) -> str:
    known = [row["n_generators"], row["n_images"]]
    return " × ".join("–" if pd.isna(count) else str(int(count)) for count in known)


# ------------------------------------------------------------------------------------ dots and rows


def _row_names(
    names: Names, keys: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, list[tuple[float, str, bool]]]:
    """Place rows downwards, sets apart with their name above.

    The result is the positions of `keys`, and (position, name, is a set) of each label.
    """
    places, labels, y = [], [], 0.0
    for set_name in dict.fromkeys(name for name, _ in keys):
        labels.append((y, names.fit(set_name, 3.2, TICK, 1, bold=True), True))
        y += 0.75
        for _, stage in [key for key in keys if key[0] == set_name]:
            places.append(y)
            labels.append((y, names.fit(stage, 3.2, TICK, 1), False))
            y += 1.1
        y += 0.15
    return np.array(places), labels


@checked
def epsilon_bars(
    table: pd.DataFrame,
    *,
    ways: int | None = None,
    rule: str | None = None,
    validity: str = "valid",
    stamp: str = "",
) -> Figure:
    """Draw how far images could move against how well they are recognized.

    The figure is that of Boehm et al. (2025), Fig. 6.

    Parameters
    ----------
    table : DataFrame
        Columns set, stage, setting, ways, rule, validity, value, n, baseline, difference, low,
        high, n_paired; n_images and target are shown when there.
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
        Left, one mark a setting; right, its paired difference to the baseline with interval.

    Raises
    ------
    InputError
        When columns or rows are missing, or a mark has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import epsilon_bars
    >>> rows = {"set": "A", "stage": "late", "setting": ["free", "8/255"], "ways": 16}
    >>> values = {"rule": "sum", "validity": "valid"}
    >>> values |= {"value": [0.4, 0.8], "n": 12, "baseline": "free"}
    >>> change = {"difference": [0.0, 0.4], "low": [0.0, 0.2], "high": [0.0, 0.6], "n_paired": 12}
    >>> figure = epsilon_bars(pd.DataFrame({**rows, **values, **change}))
    >>> len(figure.axes)
    3
    """
    numbers = ("value", "n", "baseline", "difference", "low", "high", "n_paired")
    need_columns(table, "restricted images", (*SET_KEY, "ways", "rule", "validity", *numbers))
    rows, measure = one_measure(table, "restricted images", ways=ways, rule=rule, validity=validity)
    refuse_repeats(rows, "restricted images", SET_KEY)
    baseline = str(rows["baseline"].iloc[0])
    present = list(dict.fromkeys(rows["setting"]))
    settings = sorted(present, key=lambda setting: setting != baseline)
    keys = list(dict.fromkeys((name, stage) for name, stage, _ in order_sets(rows)))
    names = Names()
    places, row_labels = _row_names(names, keys)
    left = widest([text for _, text, _ in row_labels], TICK, bold=True) + 0.2
    rows = rows.assign(size=[_sample_size(row) for _, row in rows.iterrows()])
    right = widest(rows["size"].tolist(), _SMALL) + 0.1
    row_height = max(0.3, 0.14 * len(settings) + 0.1)
    width = page_width(left + right + 4.6, stamp)
    labels = [names.fit(setting, width - 1, TICK, 1) for setting in settings]
    note = (
        f"Left: mean over evaluators that took no part, {measure}",
        f"Right: difference to '{baseline}' over the photographs that both have, with its interval "
        "over photographs",
        state_words(validity),
        "–: no value",
    )
    with figure_style():
        height = row_height * (row_labels[-1][0] + 1.2) + 0.8 + legend_plan(labels, width)[1]
        figure = new_figure(width, height + 0.34 * bool(stamp), "", join_note(*note, names.note))
        panels = figure.subplots(1, 3, sharey=True, width_ratios=[2.2, 2.2, right])
        # Spread n marks over the height of a row.
        n = len(settings)
        spaced = np.linspace(-0.3, 0.3, n) if n > 1 else np.zeros(1)
        handles = [
            _draw_setting(
                panels, rows[rows["setting"] == setting], keys, places + shift, _look(rank)
            )
            for rank, (setting, shift) in enumerate(zip(settings, spaced, strict=True))
        ]
        _finish_rows(panels, row_labels, baseline)
        if not np.isfinite(rows["difference"].astype(float)).any():
            panels[1].set_xlim(-1, 1)
        top_legend(figure, handles, labels, width, stamp)
        return figure


def _draw_setting(
    panels: Sequence[Axes],
    rows: pd.DataFrame,
    keys: Sequence[tuple[str, str]],
    y: np.ndarray,
    style: dict[str, Any],
) -> Any:
    own = rows.set_index(["set", "stage"]).reindex(pd.MultiIndex.from_tuples(keys))
    style = {**style, "linestyle": "", "markersize": 5.5}
    value, change, low, high = (
        own[column].to_numpy(dtype=float) for column in ("value", "difference", "low", "high")
    )
    (handle,) = panels[0].plot(value, y, **style)
    panels[1].plot(change, y, **style)
    _whiskers(panels[1], y, low, high, style["color"], upright=False)
    for place, (_, row) in zip(y, own.iterrows(), strict=True):
        if pd.notna(row["size"]):
            panels[2].text(
                0, place, row["size"], fontsize=_SMALL, color=style["color"], va="center_baseline"
            )
    return handle


def _sample_size(row: pd.Series) -> str:
    paired = "" if row["setting"] == row["baseline"] else f", {int(row['n_paired'])} paired"
    missing = "" if np.isfinite(row["value"]) else "– "
    of_all = f" of {int(row['n_images'])}" if "n_images" in row else ""
    return f"{missing}n = {int(row['n'])}{of_all}{paired}"


def _finish_rows(
    panels: Sequence[Axes], labels: Sequence[tuple[float, str, bool]], baseline: str
) -> None:
    panels[0].set_yticks(
        [place for place, _, _ in labels], [text for _, text, _ in labels], parse_math=False
    )
    for (_, _, is_set), label in zip(labels, panels[0].get_yticklabels(), strict=True):
        label.set(fontsize=TICK, fontweight="bold" if is_set else "normal")
    panels[0].set_ylim(labels[-1][0] + 0.6, -0.5)
    for axes in panels[:2]:
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    panels[0].set_xlim(-0.03, 1.03)
    panels[0].set_xlabel("share recognized")
    panels[1].axvline(0, color=INK, linewidth=0.8)
    words = f"difference to {baseline}" if len(baseline) < 26 else "difference to the baseline"
    panels[1].set_xlabel(words, parse_math=False)
    panels[2].set_axis_off()


@checked
def set_differences(table: pd.DataFrame, *, stamp: str = "") -> Figure:
    """Draw what each network adds to the sets that hold it.

    The numbers are signed differences in means (Boehm et al. 2025, Table 5).

    Parameters
    ----------
    table : DataFrame
        Columns network, appearances, difference, low, high, p_bonferroni, p_fdr; n_sets and
        n_excluded are shown when there.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Largest on top. Filled: p < .05 after Bonferroni; half: only after Benjamini-Hochberg;
        hollow: neither.

    Raises
    ------
    InputError
        When columns or rows are missing, or a network has several rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import set_differences
    >>> rows = {"network": ["A", "B"], "appearances": [5, 6], "difference": [0.1, -0.05]}
    >>> tests = {"low": [0.0, -0.1], "high": [0.2, 0.0], "p_bonferroni": [0.04, 1.0]}
    >>> figure = set_differences(pd.DataFrame({**rows, **tests, "p_fdr": [0.02, 0.3]}))
    >>> len(figure.axes)
    1
    """
    columns = ("network", "appearances", "difference", "low", "high", "p_bonferroni", "p_fdr")
    need_columns(table, "differences", columns)
    refuse_repeats(table, "differences", ("network",))
    known = np.isfinite(table["difference"].astype(float))
    rows = table[known].sort_values("difference", ascending=False, kind="stable")
    n_sets = f" of {int(table['n_sets'].iloc[0])}" if "n_sets" in table.columns else ""
    names = Names()
    counts = [f"  ({int(count)}{n_sets})" for count in rows["appearances"]]
    labels = [
        names.fit(str(name), 3.2, TICK, 1) + count
        for name, count in zip(rows["network"], counts, strict=True)
    ]
    left = widest(labels, TICK) + 0.2
    width = page_width(left + 3.8, stamp)
    n = int(table["n_excluded"].iloc[0]) if "n_excluded" in table.columns else 0
    excluded = f"{n} set(s) without a score are left out" if n else ""
    note = (
        "Mean score of the sets with a network minus that of the sets without it; in brackets: "
        "sets it is in",
        "Whiskers: interval over sets",
        _left_out(table[~known]),
        excluded,
        names.note,
    )
    with figure_style():
        figure = new_figure(
            width, 0.24 * max(len(rows), 2) + 1.1 + 0.34 * bool(stamp), "", join_note(*note)
        )
        axes = figure.subplots()
        for place, (_, row) in enumerate(rows.iterrows()):
            ends = [np.array([float(row[column])]) for column in ("low", "high")]
            _whiskers(axes, np.array([place]), ends[0], ends[1], HUES[0], upright=False)
            axes.plot([row["difference"]], [place], **_mark(row))
        axes.set_yticks(range(len(rows)), labels, parse_math=False, fontsize=TICK)
        axes.set_ylim(max(len(rows), 1) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_xlabel("difference in mean score, Δ")
        if rows.empty:
            axes.set_xticks([])
            _say(axes, "no network has a difference")
        else:
            axes.axvline(0, color=INK, linewidth=0.8)
        _legend_of_p(figure, axes, width, stamp)
        return figure


def _mark(row: pd.Series | Mapping[str, float]) -> dict[str, Any]:
    """Fill the marker, wholly, half or not, by the corrected p."""
    filled = "full" if row["p_bonferroni"] < 0.05 else "left" if row["p_fdr"] < 0.05 else "none"
    style = {
        "color": HUES[0],
        "marker": "o",
        "markersize": 6.5,
        "linestyle": "",
        "fillstyle": filled,
    }
    return (
        style
        | ({"markerfacecoloralt": "white"} if filled == "left" else {})
        | ({"markerfacecolor": "white", "fillstyle": "full"} if filled == "none" else {})
    )


def _legend_of_p(figure: Figure, axes: Axes, width: float, stamp: str) -> None:
    kinds = {
        "p < .05, Bonferroni": (0.0, 0.0),
        "p < .05, FDR only": (1.0, 0.0),
        "neither": (1.0, 1.0),
    }
    handles = [
        axes.plot([], [], **_mark({"p_bonferroni": a, "p_fdr": b}))[0] for a, b in kinds.values()
    ]
    top_legend(figure, handles, list(kinds), width, stamp)


def _left_out(rows: pd.DataFrame) -> str:
    """Name networks without a difference, and why."""
    if rows.empty:
        return ""
    n = rows["n_sets"] if "n_sets" in rows.columns else pd.Series(np.nan, rows.index)
    why = np.where(
        rows["appearances"] == 0,
        "in no set",
        np.where(rows["appearances"] == n, "in all sets", "no value"),
    )
    parts = (
        f"{reason}: {', '.join(rows['network'][why == reason])}" for reason in dict.fromkeys(why)
    )
    return f"Without a difference, not drawn: {'; '.join(parts)}"
