"""Figures of how metamers look: a sheet of examples, and their image quality.

Each metamer on the sheet has its state and the number of evaluators that recognize it; image
quality has one panel a metric and bars of sets.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Fig. 4 (`quality_bars`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.figures.layout import (
    TICK,
    Names,
    Page,
    fit_size,
    image_levels,
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
    figure_style,
    join_note,
    need_columns,
    new_figure,
)
from neurometamer.figures.tables import (
    COUNTS,
    SET_KEY,
    STATES,
    gather_notes,
    names_as_text,
    of_state,
    order_sets,
    order_stages,
    refuse_repeats,
    set_names,
    share_title,
    share_words,
    state_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_COLUMNS = 8
_SIZES = (9, 8.5, 8, 7.5, 7, 6.5, 6, 5.5, 5)
_MARKS: dict[str, tuple[str, dict[str, Any]]] = {
    "valid": (
        "✓ valid",
        {
            "color": "#00664B",
            "linewidth": 1.4,
        },
    ),
    "failed": (
        "✗ failed",
        {
            "color": "#B00020",
            "linewidth": 1.8,
            "linestyle": (0, (3, 1.5)),
        },
    ),
    "not judged": (
        "? not judged",
        {
            "color": FAINT,
            "linewidth": 1.4,
            "linestyle": (0, (1, 1.3)),
        },
    ),
}


@checked
def example_sheet(
    photographs: Mapping[str, np.ndarray],
    pictures: Mapping[tuple[str, str], np.ndarray],
    table: pd.DataFrame,
    *,
    stamp: str = "",
) -> Figure:
    """Show photographs in the first row, and below each its metamers, one row a set.

    Parameters
    ----------
    photographs : mapping of str to ndarray
        Reference id → photograph, (3, height, width) in [0, 1].
    pictures : mapping of (str, str) to ndarray
        (Row, reference id) → metamer, likewise.
    table : DataFrame
        Columns row (name of the set, with stage and setting), reference_id, state (valid, failed,
        not judged), n_seen and n_asked (evaluators without part that recognize the metamer, and all
        of them).
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        One column a photograph, at most 8; rows in the order of the table. States differ in frame,
        mark and word.

    Raises
    ------
    InputError
        When columns, rows or images are missing, a state is unknown, or a place has several rows.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.figures.evaluation import example_sheet
    >>> gray = np.full((3, 8, 8), 0.5)
    >>> row = {"row": "A late", "reference_id": "cat", "state": "valid", "n_seen": 2, "n_asked": 3}
    >>> figure = example_sheet({"cat": gray}, {("A late", "cat"): gray}, pd.DataFrame([row]))
    >>> len(figure.axes)
    1
    """
    need_columns(table, "examples", ("row", "reference_id", "state", "n_seen", "n_asked"))
    rows = table.astype(
        {
            "row": str,
            "reference_id": str,
            "state": str,
        }
    )
    refuse_repeats(rows, "examples", ("row", "reference_id"))
    for state in rows["state"]:
        if state not in STATES:
            raise unknown_name("state", state, STATES)
    names = list(dict.fromkeys(rows["row"]))
    everyone = list(dict.fromkeys(rows["reference_id"]))
    shown = everyone[:MOST_COLUMNS]
    rows = rows[rows["reference_id"].isin(shown)]
    wanted = list(zip(rows["row"], rows["reference_id"], strict=True))
    missing = [reference for reference in shown if reference not in photographs]
    if missing:
        raise InputError(f"no picture of the photograph(s) {name_ids(missing)}; give one each.")
    lost = [" · ".join(key) for key in wanted if key not in pictures]
    if lost:
        raise InputError(f"no picture of the metamer(s) {name_ids(lost)}; give one each.")
    with figure_style():
        page = _ExamplePage(shown, names, len(everyone), stamp)
        for column, reference in enumerate(shown):
            page.picture(0, column, photographs[reference], "", FAINT)
        for (name, reference), (_, row) in zip(wanted, rows.iterrows(), strict=True):
            place = (names.index(name) + 1, shown.index(reference))
            page.metamer(*place, pictures[name, reference], row)
        for rank, name in enumerate(names):
            for column, reference in enumerate(shown):
                if (name, reference) not in wanted:
                    page.empty(rank + 1, column)
        page.set_limits()
        return page.figure


class _ExamplePage(Page):
    """Places one row of photographs and one row of metamers a set.

    Names of rows stand left of them.
    """

    side, gap, caption, margin, head = 1.4, 0.16, 0.42, 1.75, 0.34

    def __init__(self, columns: Sequence[str], rows: Sequence[str], n_all: int, stamp: str) -> None:
        width = self.margin + len(columns) * (self.side + self.gap) + 0.06
        width = page_width(max(width, 4.6), stamp)
        note = (
            "Frame and word: whether a metamer met the criteria (valid: solid, failed: dashed, not "
            "judged: dotted). Last line: how many of the evaluators that took no part recognize it."
        )
        if len(columns) < n_all:
            note = f"{len(columns)} of {n_all} photographs are shown. {note}"
        note = textwrap.fill(note, int(width * 15.5))
        heads = []
        for name in columns:
            heads.append(fit_size(name, self.side + 0.08, self.head, _SIZES, bold=True))
        lines = max(words.count("\n") + 1 for words, _ in heads)
        top = 0.12 + 0.14 * lines + 0.36 * bool(stamp)
        inner = (len(rows) + 1) * (self.side + self.caption) - 0.32
        height = top + inner + 0.1 + 0.155 * (note.count("\n") + 1)
        super().__init__(width, height, top, stamp, note)
        for column, (words, size) in enumerate(heads):
            left, first = self._corner(0, column)
            self.text(
                left + self.side / 2,
                first - 0.05,
                words,
                linespacing=1.1,
                ha="center",
                va="bottom",
                fontsize=size,
                fontweight="bold",
            )

        for row, name in enumerate(["photographs", *rows]):
            _, first = self._corner(row, 0)
            height = self.side + 0.3 * (row > 0)
            words, size = fit_size(name, self.margin - 0.2, height, _SIZES, bold=True)
            self.text(
                0.1,
                first,
                words,
                linespacing=1.15,
                ha="left",
                va="top",
                fontsize=size,
                fontweight="bold",
            )

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        width = self.side + self.gap
        height = self.side + self.caption
        left = self.margin + column * width
        top = self.top + row * height
        if row > 0:
            top -= 0.32  # photographs have no words below them
        return left, top

    def picture(self, row: int, column: int, image: np.ndarray, words: str, color: str) -> None:
        left, top = self._corner(row, column)
        # White stands beside an image that is not square.
        levels = image_levels(image)
        height, width = levels.shape[:2]
        side = max(height, width)
        above = (side - height) // 2
        below = side - height - above
        before = (side - width) // 2
        behind = side - width - before
        margins = ((above, below), (before, behind), (0, 0))
        levels = np.pad(levels, margins, constant_values=255)
        self.image(left, top, self.side, levels, interpolation="antialiased")
        if words:
            self.text(
                left + self.side / 2,
                top + self.side + 0.05,
                words,
                color=color,
                ha="center",
                va="top",
                fontsize=7.5,
                linespacing=1.15,
            )

    def metamer(self, row: int, column: int, image: np.ndarray, about: pd.Series) -> None:
        word, style = _MARKS[about["state"]]
        seen_by = "nobody asked"
        n_seen, n_asked = about["n_seen"], about["n_asked"]
        if pd.notna(n_seen) and pd.notna(n_asked) and int(n_asked) > 0:
            seen_by = f"{int(n_seen)} of {int(n_asked)} see it"
        self.picture(row, column, image, f"{word}\n{seen_by}", style["color"])
        left, top = self._corner(row, column)
        self.frame(left - 0.025, top - 0.025, self.side + 0.05, **style)

    def empty(self, row: int, column: int) -> None:
        left, top = self._corner(row, column)
        self.say_none(left, top, self.side)


# ------------------------------------------------------------------------------------ image quality


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
    rows = names_as_text(of_state(table, "image quality", validity), *SET_KEY)
    refuse_repeats(rows, "image quality", (*SET_KEY, "metric"))
    keys = order_sets(rows)
    sets = list(dict.fromkeys(set_name for set_name, _, _ in keys))
    several = rows["setting"].nunique() > 1
    # Stages with their settings, in order, each once.
    known = list(dict.fromkeys((stage, setting) for _, stage, setting in keys))
    stages = order_stages([stage for stage, _ in known])
    slots = sorted(known, key=lambda slot: stages.index(slot[0]))
    slot_names = [f"{stage}\n{setting}" if several else stage for stage, setting in slots]
    names = Names()
    metrics = list(dict.fromkeys(rows["metric"]))
    plan = plan_ticks(names, slot_names, max(0.5, 0.15 * len(sets) + 0.1, 1.7 / len(slots)))
    bars = _Bars(
        sets=sets,
        slots=slots,
        width=min(0.84 / len(sets), 0.5 / plan.width),
    )
    panel_width = plan.width * len(slots) + 0.65
    n_panels = len(metrics) + 1
    per_row = max(1, min(5, int(12.5 / panel_width), n_panels))
    n_rows = -(-n_panels // per_row)
    width = page_width(max(panel_width * per_row, 4.6), stamp)
    labels = [names.fit(set_name, width - 1, TICK, 2) for set_name in sets]
    handles: list[Any] = [Patch(**_style(rank)) for rank in range(len(sets))]
    if np.isfinite(rows["photograph_value"].astype(float)).any():
        labels.append("photographs")
        handles.append(
            Line2D(
                [],
                [],
                color=INK,
                linewidth=1.3,
                linestyle=_DOTS,
            )
        )
    height = (1.55 + plan.height) * n_rows + legend_plan(labels, width)[1]
    note = join_note(*_quality_note(rows, validity, several), names.note)
    with figure_style():
        figure = new_figure(width, height + 0.34 * bool(stamp), "", note)
        panels = figure.subplots(n_rows, per_row, squeeze=False).ravel().tolist()
        for axes, metric in zip(panels, metrics, strict=False):
            of_metric = rows[rows["metric"] == metric]
            axes.set_title(
                f"{of_metric['name'].iloc[0]} {of_metric['arrow'].iloc[0]}", parse_math=False
            )
            if not _say_why_skipped(axes, of_metric, panel_width - 0.75):
                _draw_metric(axes, of_metric, bars)
                name_ticks(axes, plan)
        of_sets = rows.drop_duplicates(list(SET_KEY))
        _draw_share(panels[len(metrics)], of_sets, bars, validity, plan.width)
        name_ticks(panels[len(metrics)], plan)
        for axes in panels[n_panels:]:
            axes.set_axis_off()
        top_legend(figure, handles, labels, width, stamp)
        return figure


def _quality_note(rows: pd.DataFrame, validity: str, several: bool) -> list[str]:
    parts = [
        f"{state_words(validity)}. ↑ higher is better, ↓ lower is better. Whiskers: interval over "
        "images",
    ]
    is_skipped = _skipped(rows)
    ran = rows[~is_skipped]
    drawn = ran[["value", "low", "high"]]
    is_infinite = np.isinf(drawn.to_numpy(dtype=float))
    if is_infinite.any():
        parts.append("∞: infinite, as some images equal their photographs; drawn up to the edge")
    setting = rows["setting"].iloc[0]
    if setting and not several:
        parts.append(f"Setting: {setting}")
    names = ran["name"].tolist()
    notes = gather_notes(ran, set_names(ran), names)
    parts.append(notes)
    if "scale" in rows.columns:
        first = rows.drop_duplicates("metric")
        scales = [f"{name}: {scale}" for name, scale in zip(first["name"], first["scale"])]
        parts.append(f"Scales. {'; '.join(scales)}")
    return parts


def _skipped(rows: pd.DataFrame) -> pd.Series:
    """Tell which rows are of a metric that could not run; its note says why.

    In a table without the column ``skipped``, these are the rows with a note in place of a value.
    """
    if "skipped" in rows.columns:
        texts = names_as_text(rows, "skipped")["skipped"]
        said = texts.str.lower()
        return ~said.isin(["", "false", "0", "0.0"])
    notes = names_as_text(rows, "note")["note"]
    has_note = notes != ""
    is_missing = rows["value"].isna()
    return is_missing & has_note


def _style(rank: int) -> dict[str, Any]:
    """Choose color and hatching of the nth set.

    Sets of one color differ in hatching, and neighbors in both.
    """
    n = len(HUES)
    return {
        "facecolor": HUES[rank % n],
        "edgecolor": "white",
        "linewidth": 0,
        "hatch": _BARS[(rank + rank // n) % len(_BARS)],
    }


@dataclass(frozen=True, kw_only=True)
class _Bars:
    """Where the bars of a panel stand."""

    sets: Sequence[str]
    slots: Sequence[tuple[str, str]]
    width: float

    def places(self, rows: pd.DataFrame) -> np.ndarray:
        middle = len(self.sets) / 2 - 0.5
        places = []
        for set_name, stage, setting in zip(rows["set"], rows["stage"], rows["setting"]):
            slot = self.slots.index((stage, setting))
            shift = (self.sets.index(set_name) - middle) * self.width
            places.append(slot + shift)
        return np.array(places)

    def draw(self, axes: Axes, rows: pd.DataFrame, heights: np.ndarray) -> None:
        places = self.places(rows)
        known = np.isfinite(heights)
        for rank, set_name in enumerate(self.sets):
            own = known & (rows["set"] == set_name).to_numpy()
            axes.bar(
                places[own],
                heights[own],
                width=0.92 * self.width,
                **_style(rank),
            )


def _draw_metric(axes: Axes, rows: pd.DataFrame, bars: _Bars) -> None:
    value, low, high, before = (
        rows[column].to_numpy(dtype=float)
        for column in ("value", "low", "high", "photograph_value")
    )
    # The axis holds 0 and all finite values.
    numbers = np.concatenate([value, low, high, before])
    finite = numbers[np.isfinite(numbers)]
    bottom, top = min(finite.min(initial=0), 0), max(finite.max(initial=0), 0)
    room = 0.06 * (top - bottom) or 1.0
    if top > 0 or bottom == 0:
        top += room
    if bottom < 0:
        bottom -= room
    axes.set_ylim(float(bottom), float(top))
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
    where: dict[str, Any] = {
        "ha": "center",
        "fontsize": 8,
        "color": INK,
    }
    box = {
        "boxstyle": "round,pad=0.1",
        "facecolor": "white",
        "edgecolor": "none",
    }
    for place, bar in zip(places, value, strict=True):
        if np.isnan(bar):
            axes.text(place, 0, "–", va="bottom", **where)
        elif np.isinf(bar):
            axes.text(
                place,
                0.97 * top,
                "∞",
                va="top",
                bbox=box,
                **where,
            )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y")


def _say_why_skipped(axes: Axes, rows: pd.DataFrame, inches: float) -> bool:
    """Write why a metric could not run, where its bars would stand; False where one set has it."""
    notes = set(names_as_text(rows, "note").loc[_skipped(rows), "note"])
    if not notes or not rows["value"].isna().all():
        return False
    reasons = []
    for note in sorted(notes):
        # Of a set without a valid metamer that is told too, after the same words.
        if not any(note != other and note.startswith(other) for other in notes):
            reasons.append(note)
    words = "; ".join(reasons)
    axes.set_axis_off()
    words, size = fit_size(words, inches, 1.3, (8, 7.5, 7, 6.5, 6, 5.5))
    axes.text(
        0.5,
        0.5,
        words,
        transform=axes.transAxes,
        parse_math=False,
        ha="center",
        va="center",
        fontsize=size,
        color=FAINT,
        bbox={
            "boxstyle": "round,pad=0.4",
            "facecolor": "#f2f2f2",
            "edgecolor": "none",
        },
    )
    return True


def _draw_share(axes: Axes, rows: pd.DataFrame, bars: _Bars, validity: str, inches: float) -> None:
    """Draw the share of metamers in a state, with the counts above the bars."""
    axes.set_title(share_title(validity))
    axes.set_ylim(0, 1.45)
    axes.set_yticks([0, 0.5, 1])
    words, shares = [], []
    for _, row in rows.iterrows():
        text = share_words(row, validity)
        part, _, whole = text.partition("/")
        words.append(text)
        shares.append(int(part) / int(whole) if whole not in ("", "0") else 0.0)
    bars.draw(axes, rows, np.array(shares))
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
