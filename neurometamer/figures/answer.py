"""The figure of the first screen.

It shows in which layers or regions images that fool the network stay near their photographs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.rsa_parts import draw_whisker
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    INK,
    figure_style,
    names_height,
    need_columns,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.3
"""Inches: about the width of a phone, so that the figure is read there at its own size."""

MOST_NAMES = 16
"""Places that are all named; of more, every second, third … is."""

SIGNS: dict[str, tuple[str, dict[str, Any]]] = {
    "perception": ("fooling image nearer", {"marker": "o", "color": COLORS["AI"]}),
    "decision": ("noise nearer", {"marker": "s", "color": COLORS["AN"]}),
    "undecided": ("undecided", {"marker": "o", "markerfacecolor": "white", "color": FAINT}),
    "not tested": ("not tested", {"marker": "x", "color": FAINT}),
    "above chance": ("above chance", {"marker": "o", "color": COLORS["RE"]}),
    "not above chance": (
        "not above chance",
        {"marker": "o", "markerfacecolor": "white", "color": FAINT},
    ),
}
"""What a test says, to its words and its mark."""


@checked
def answer_marks(table: pd.DataFrame, *, title: str, label: str, stamp: str = "") -> Figure:
    """Draw one number in each place with its interval, marked by what its test says.

    Parameters
    ----------
    table : DataFrame
        One row a place, in order: place, value, ci_low, ci_high, follows (a key of `SIGNS`).
    title, label : str
        Above the axes, and of the y axis.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        About as wide as a phone.

    Raises
    ------
    InputError
        When columns or rows are missing.
    """
    need_columns(table, "answer", ("place", "value", "ci_low", "ci_high", "follows"))
    step = -(-len(table) // MOST_NAMES)
    names = [
        text if place % step == 0 else "" for place, text in enumerate(table["place"].astype(str))
    ]
    with figure_style():
        figure = new_figure(WIDTH, 2.2 + names_height(names, WIDTH - 0.7), stamp, "")
        axes = figure.subplots()
        _draw_signs(axes, table)
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.grid(axis="y")
        axes.set_xticks(range(len(names)), names, parse_math=False)
        if names_height(names, WIDTH - 0.7) > 0.25:
            axes.tick_params(axis="x", labelrotation=40)
            for name in axes.get_xticklabels():
                name.set(ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_ylabel(label, parse_math=False)
        axes.set_title(title, loc="left", parse_math=False)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8, handletextpad=0.3)
        return figure


def _draw_signs(axes: Axes, table: pd.DataFrame) -> None:
    values = table[["value", "ci_low", "ci_high"]].to_numpy(dtype=float)
    for x, (_, low, high) in enumerate(values):
        draw_whisker(axes, x, low, high, 0.12)
    for said, (words, style) in SIGNS.items():
        chosen = np.flatnonzero((table["follows"] == said).to_numpy())
        if len(chosen):
            axes.plot(
                chosen,
                values[chosen, 0],
                linestyle="",
                markersize=7,
                zorder=5,
                label=words,
                **style,
            )
