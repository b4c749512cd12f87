"""Figures of the evaluation of metamers: tables in, matplotlib figures out.

Every number stands beside the share of metamers that are valid, and states are never joined: what
failed, and what nobody judged, is drawn apart. Sets differ in color and in marker or hatching.

References
----------
Boehm et al. (2025). arXiv 2504.01739: Fig. 3 (`recognizability_lines`), Fig. 4 (`quality_bars`),
Fig. 5 (`divergence_heatmap`), Fig. 6 (`epsilon_bars`), Table 5 (`set_differences`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.layout import (
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
from neurometamer.figures.metamers import example_sheet, quality_bars
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
from neurometamer.figures.tables import (
    COUNTS,
    SET_KEY,
    STATES,
    gather_notes,
    measure_words,
    names_as_text,
    one_measure,
    order_sets,
    order_stages,
    refuse_repeats,
    set_names,
    share_title,
    share_words,
    spread_over,
    state_words,
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


def _line_style(rank: int) -> dict[str, Any]:
    """Color, marker and line of the nth of several sets."""
    n = len(HUES)
    return {
        "color": HUES[rank % n],
        "marker": SIGNS[rank % n],
        "linestyle": _STYLES[rank // n % len(_STYLES)],
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
    x, low, high = x[known], low[known], high[known]
    if upright:
        axes.vlines(x, low, high, color=color, linewidth=1.2)
    else:
        axes.hlines(x, low, high, color=color, linewidth=1.2)


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
    present = [panel for row in panels for panel in row if panel is not None]
    longest = max(widest(panel.words.ravel().tolist(), _SMALL) for panel in present)
    room = 3.6 if across == 1 else 2.4
    plan = plan_ticks(names, ticks, max(0.55, longest + 0.1, room / len(ticks)))
    width = max(plan.width * len(ticks), 1.0) * across + 0.6 * across + 0.3
    width = page_width(width, stamp)
    labels = [names.fit(line, width - 1, 8.5, 2) for line in lines]
    strip = 0.14 * (len(lines) + 1)
    height = (2.4 + plan.height + strip + 0.2 * bool(axis)) * down + legend_plan(labels, width)[1]
    titles = {}
    for panel in present:
        parts = panel.title.split("\n")
        fitted = [names.fit(part, width / across - 0.7, 10, 1, bold=True) for part in parts]
        titles[panel.title] = "\n".join(fitted)
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", join_note(*note, names.note))
        grid = figure.add_gridspec(2 * down, across, height_ratios=[2.0, strip] * down)
        handles: list[Any] = []
        for row, column in np.ndindex(down, across):
            drawn = panels[row][column]
            if drawn is None:
                continue
            axes = figure.add_subplot(grid[2 * row, column])
            marks = _draw_panel(axes, drawn, chance)
            handles = handles or marks
            name_ticks(axes, plan)
            axes.set_title(titles[drawn.title], parse_math=False)
            axes.set_xlabel(axis, parse_math=False)
            if column == 0 or panels[row][column - 1] is None:
                axes.set_ylabel(label, parse_math=False)
            _draw_words(figure.add_subplot(grid[2 * row + 1, column]), drawn)
        top_legend(figure, handles, labels, width, stamp)
        return figure


def _draw_panel(axes: Axes, panel: _Panel, chance: float | None) -> list[Any]:
    n_lines, n_ticks = panel.values.shape
    x = np.arange(n_ticks)
    # Marks of a tick stand beside each other around it.
    step = min(0.09, 0.5 / max(n_lines, 1))
    handles = []
    for line in range(n_lines):
        places = x + (line - (n_lines - 1) / 2) * step
        style = _line_style(line)
        if panel.hollow:
            style["markerfacecolor"] = "white"
        _whiskers(axes, places, panel.low[line], panel.high[line], style["color"])
        handles += axes.plot(
            places,
            panel.values[line],
            markersize=5,
            linewidth=1.3,
            **style,
        )
    if chance is not None:
        axes.axhline(
            chance,
            color=FAINT,
            linewidth=1,
            linestyle=":",
        )
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
    axes.set_xlim(-0.5, n_ticks - 0.5)
    axes.set_ylim(n_lines - 0.4, -1.5)
    text_style: dict[str, Any] = {
        "fontsize": _SMALL,
        "va": "center_baseline",
    }
    axes.text(
        -0.5,
        -1,
        panel.words_title,
        color=FAINT,
        ha="left",
        **text_style,
    )
    for line in range(n_lines):
        marker = _line_style(line)
        marker["linestyle"] = ""
        if panel.hollow:
            marker["markerfacecolor"] = "white"
        axes.plot(
            [-0.48],
            [line],
            markersize=3.5,
            clip_on=False,
            **marker,
        )
        for tick in range(n_ticks):
            words = panel.words[line, tick]
            axes.text(
                tick,
                line,
                words,
                color=INK,
                ha="center",
                **text_style,
            )


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
    rows = names_as_text(table, *SET_KEY)
    refuse_repeats(rows, "curves", (*SET_KEY, "validity"))
    settings = list(dict.fromkeys(rows["setting"]))
    everyone = list(dict.fromkeys(rows["set"]))
    sets, stages = everyone[:MOST_LINES], order_stages(rows["stage"].tolist())
    states = [state for state in STATES if (rows["validity"] == state).any()]
    panels = []
    for setting in settings:
        of_setting = rows[rows["setting"] == setting]
        title = f"{setting}\n" if len(settings) > 1 else ""
        row: list[_Panel | None] = []
        for state in states:
            own = of_setting[of_setting["validity"] == state]
            if own.empty:
                row.append(None)
                continue
            words = [share_words(about, state) for _, about in own.iterrows()]
            panel = _panel(
                own.assign(words=words),
                "set",
                sets,
                "stage",
                stages,
                title=title + (state if state == "not judged" else f"{state} metamers"),
                words_title=share_title(state),
                hollow=state != "valid",
            )
            row.append(panel)
        panels.append(row)
    if len(states) == 1:
        # Settings stand beside each other, in rows of equal length.
        flat = [panel for (panel,) in panels]
        per_row = min(3, len(flat))
        flat += [None] * (-len(flat) % per_row)
        panels = [flat[start : start + per_row] for start in range(0, len(flat), per_row)]
    note = [
        f"Share recognized by evaluators that took no part, {measure_words(rows)}".rstrip(", "),
        "Whiskers: interval over images",
        _spread(rows),
        f"Dotted: chance, {chance:.3g}",
    ]
    if len(settings) == 1 and settings[0]:
        note.append(f"Setting: {settings[0]}")
    if len(sets) < len(everyone):
        note.append(f"{len(sets)} of {len(everyone)} sets are shown")
    whose = [f"{state} metamers" for state in rows["validity"]]
    note.append(gather_notes(rows, set_names(rows), whose))
    return _draw_lines(
        panels,
        sets,
        stages,
        Names(),
        label="share recognized",
        chance=chance,
        note=note,
        stamp=stamp,
    )


def _panel(
    rows: pd.DataFrame,
    line_column: str,
    lines: Sequence[str],
    tick_column: str,
    ticks: Sequence[str],
    *,
    missing: str = "",
    **about: Any,
) -> _Panel:
    """Arrange value, low, high and words as lines × ticks."""
    wide = {}
    for column in ("value", "low", "high", "words"):
        pivoted = rows.pivot(
            index=line_column,
            columns=tick_column,
            values=column,
        )
        wide[column] = pivoted.reindex(index=list(lines), columns=list(ticks))
    values = wide["value"].to_numpy(dtype=float)
    return _Panel(
        values=values,
        low=wide["low"].to_numpy(dtype=float),
        high=wide["high"].to_numpy(dtype=float),
        words=wide["words"].astype(object).fillna(missing).to_numpy(),
        empty="" if np.isfinite(values).any() else "no value to draw",
        **about,
    )


def _spread(rows: pd.DataFrame) -> str:
    """Say how far evaluators differ."""
    if "sd" not in rows.columns or "n_averaged" not in rows.columns:
        return ""
    known = rows.dropna(subset=["sd", "n_averaged"])
    if known.empty:
        return ""
    deviations = [format_number(known["sd"].min()), format_number(known["sd"].max())]
    sizes = [str(int(known["n_averaged"].min())), str(int(known["n_averaged"].max()))]
    ends = " to ".join(dict.fromkeys(deviations))
    return f"s.d. over evaluators: {ends} ({' to '.join(dict.fromkeys(sizes))} evaluators)"


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
    rows = table.astype(
        {
            "a": str,
            "b": str,
        }
    )
    refuse_repeats(rows, "interaction", ("a", "b"))
    over, lines = list(dict.fromkeys(rows["a"])), list(dict.fromkeys(rows["b"]))
    shown = lines[:MOST_LINES]
    sizes = []
    for counts in zip(rows["n_generators"], rows["n_images"]):
        sizes.append(" × ".join("–" if pd.isna(count) else str(int(count)) for count in counts))
    panel = _panel(
        rows.assign(words=sizes),
        "b",
        shown,
        "a",
        over,
        missing="–",
        title="",
        words_title="generators × images",
    )
    first, second = str(rows["factor_a"].iloc[0]), str(rows["factor_b"].iloc[0])
    note = [f"{label.capitalize()} by {first} (across) and {second} (lines). Whiskers: interval"]
    if len(shown) < len(lines):
        note.append(f"{len(shown)} of {len(lines)} lines are shown")
    return _draw_lines(
        [[panel]],
        [f"{second}: {line}" for line in shown],
        over,
        Names(),
        label=label,
        axis=first,
        note=note,
        stamp=stamp,
    )


# ------------------------------------------------------------------------------------ dots and rows


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows downwards, sets apart with their name above.

    `places` are those of the keys; `names` are (position, name, whether it is a set's).
    """

    keys: Sequence[tuple[str, str]]
    places: np.ndarray
    names: Sequence[tuple[float, str, bool]]


def _plan_rows(names: Names, keys: Sequence[tuple[str, str]]) -> _Rows:
    places, labels, y = [], [], 0.0
    for set_name in dict.fromkeys(name for name, _ in keys):
        labels.append((y, names.fit(set_name, 3.2, TICK, 1, bold=True), True))
        y += 0.75
        for name, stage in keys:
            if name == set_name:
                places.append(y)
                labels.append((y, names.fit(stage, 3.2, TICK, 1), False))
                y += 1.1
        y += 0.15
    return _Rows(
        keys=keys,
        places=np.array(places),
        names=labels,
    )


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
    rows, measure = one_measure(
        table,
        "restricted images",
        ways=ways,
        rule=rule,
        validity=validity,
    )
    refuse_repeats(rows, "restricted images", SET_KEY)
    baseline = str(rows["baseline"].iloc[0])
    settings = list(dict.fromkeys([baseline, *rows["setting"]]))
    settings = [setting for setting in settings if (rows["setting"] == setting).any()]
    keys = list(dict.fromkeys((name, stage) for name, stage, _ in order_sets(rows)))
    names = Names()
    plan = _plan_rows(names, keys)
    sizes = []
    for row in rows.to_dict("records"):
        size = f"n = {int(row['n'])}"
        if not np.isfinite(row["value"]):
            size = f"– {size}"
        if "n_images" in row:
            size += f" of {int(row['n_images'])}"
        if row["setting"] != row["baseline"]:
            size += f", {int(row['n_paired'])} paired"
        sizes.append(size)
    rows = rows.assign(size=sizes)
    left = widest([text for _, text, _ in plan.names], TICK, bold=True) + 0.2
    right = widest(rows["size"].tolist(), _SMALL) + 0.1
    row_height = max(0.3, 0.14 * len(settings) + 0.1)
    width = page_width(left + right + 4.6, stamp)
    labels = [names.fit(setting, width - 1, TICK, 1) for setting in settings]
    last, _, _ = plan.names[-1]
    height = row_height * (last + 1.2) + 0.8 + legend_plan(labels, width)[1]
    note = join_note(
        f"Left: mean over evaluators that took no part, {measure}",
        f"Right: difference to '{baseline}' over the photographs that both have, with its interval "
        "over photographs",
        state_words(validity),
        "–: no value",
        names.note,
    )
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        panels = figure.subplots(1, 3, sharey=True, width_ratios=[2.2, 2.2, right])
        handles = []
        for rank, shift in enumerate(spread_over(len(settings), 0.3)):
            own = rows[rows["setting"] == settings[rank]]
            handles.append(_draw_setting(panels, own, plan, shift, _line_style(rank)))
        _finish_rows(panels, plan, baseline)
        if not np.isfinite(rows["difference"].astype(float)).any():
            panels[1].set_xlim(-1, 1)
        top_legend(figure, handles, labels, width, stamp)
        return figure


def _draw_setting(
    panels: Sequence[Axes], rows: pd.DataFrame, plan: _Rows, shift: float, style: dict[str, Any]
) -> Any:
    own = rows.set_index(["set", "stage"]).reindex(pd.MultiIndex.from_tuples(plan.keys))
    style = {
        **style,
        "linestyle": "",
        "markersize": 5.5,
    }
    value, change, low, high = (
        own[column].to_numpy(dtype=float) for column in ("value", "difference", "low", "high")
    )
    y = plan.places + shift
    (handle,) = panels[0].plot(value, y, **style)
    panels[1].plot(change, y, **style)
    _whiskers(panels[1], y, low, high, style["color"], upright=False)
    for place, size in zip(y, own["size"], strict=True):
        if pd.notna(size):
            panels[2].text(
                0,
                place,
                size,
                fontsize=_SMALL,
                color=style["color"],
                va="center_baseline",
            )
    return handle


def _finish_rows(panels: Sequence[Axes], plan: _Rows, baseline: str) -> None:
    shares, changes, sizes = panels
    places = [place for place, _, _ in plan.names]
    shares.set_yticks(places, [text for _, text, _ in plan.names], parse_math=False)
    for (_, _, is_set), label in zip(plan.names, shares.get_yticklabels(), strict=True):
        label.set(fontsize=TICK, fontweight="bold" if is_set else "normal")
    shares.set_ylim(places[-1] + 0.6, -0.5)
    for axes in (shares, changes):
        axes.locator_params(axis="x", nbins=5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    shares.set_xlim(-0.03, 1.03)
    shares.set_xlabel("share recognized")
    changes.axvline(0, color=INK, linewidth=0.8)
    words = f"difference to {baseline}" if len(baseline) < 26 else "difference to the baseline"
    changes.set_xlabel(words, parse_math=False)
    sizes.set_axis_off()


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
    labels = []
    for name, count in zip(rows["network"], rows["appearances"], strict=True):
        labels.append(f"{names.fit(str(name), 3.2, TICK, 1)}  ({int(count)}{n_sets})")
    left = widest(labels, TICK) + 0.2
    width = page_width(left + 3.8, stamp)
    note = [
        "Mean score of the sets with a network minus that of the sets without it; in brackets: "
        "sets it is in",
        "Whiskers: interval over sets",
        _left_out(table[~known]),
    ]
    n_excluded = int(table["n_excluded"].iloc[0]) if "n_excluded" in table.columns else 0
    if n_excluded:
        note.append(f"{n_excluded} set(s) without a score are left out")
    height = 0.24 * max(len(rows), 2) + 1.1
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", join_note(*note, names.note))
        axes = figure.subplots()
        low, high = rows["low"].to_numpy(dtype=float), rows["high"].to_numpy(dtype=float)
        for place, row in enumerate(rows.to_dict("records")):
            here = slice(place, place + 1)
            x = np.array([place])
            _whiskers(axes, x, low[here], high[here], HUES[0], upright=False)
            style = _mark(row["p_bonferroni"], row["p_fdr"])
            axes.plot([row["difference"]], [place], **style)
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
        marks = {
            "p < .05, Bonferroni": _mark(0.0, 0.0),
            "p < .05, FDR only": _mark(1.0, 0.0),
            "neither": _mark(1.0, 1.0),
        }
        handles = [axes.plot([], [], **style)[0] for style in marks.values()]
        top_legend(figure, handles, list(marks), width, stamp)
        return figure


def _mark(p_bonferroni: float, p_fdr: float) -> dict[str, Any]:
    """Fill the marker, wholly, half or not, by the corrected p."""
    style = {
        "color": HUES[0],
        "marker": "o",
        "markersize": 6.5,
        "linestyle": "",
        "fillstyle": "full",
    }
    if p_bonferroni < 0.05:
        return style
    if p_fdr < 0.05:
        return style | {
            "fillstyle": "left",
            "markerfacecoloralt": "white",
        }
    return style | {"markerfacecolor": "white"}


def _left_out(rows: pd.DataFrame) -> str:
    """Name networks without a difference, and why."""
    networks: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        appearances = row["appearances"]
        reason = "no value"
        if appearances == 0:
            reason = "in no set"
        elif appearances == row.get("n_sets"):
            reason = "in all sets"
        of_reason = networks.setdefault(reason, [])
        of_reason.append(row["network"])
    if not networks:
        return ""
    parts = [f"{reason}: {', '.join(names)}" for reason, names in networks.items()]
    return f"Without a difference, not drawn: {'; '.join(parts)}"
