"""Figures: tables and arrays in, matplotlib figures out; nothing here knows the code that made the numbers.

Every figure is a `matplotlib.figure.Figure` built without pyplot, so no global state is touched and
no display is needed. Every figure takes a `stamp` ("simulated cortex", "untrained network …") that
is drawn above the data, so that no figure leaves without saying what it shows. Colors are those of
Okabe & Ito, and kinds differ in shape too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.labels import top_legend
from neurometamer.figures.metamers import MOST_METAMERS, metamer_sheet
from neurometamer.figures.pages import stimulus_sheet
from neurometamer.figures.style import (
    COLORS,
    INK,
    MARKERS,
    describe_methods,
    figure_style,
    join_note,
    name_axis,
    names_height,
    need_columns,
    new_figure,
    order_places,
    panel_grid,
    save_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MOST_METAMERS", "encoding_bars", "metamer_sheet", "save_figure", "stimulus_sheet"]


# ----------------------------------------------------------------------------------------- encoding


@checked
def encoding_bars(table: pd.DataFrame, *, stamp: str = "") -> Figure:
    """Draw encoding accuracy over layers, one panel a ROI, one line for each kind of test image.

    Parameters
    ----------
    table : DataFrame
        Columns subject, roi, layer, test (RE, AI, AN), r; scheme, method and n_train are named when
        there.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Mean over subjects as a line, each subject as a dot.

    Raises
    ------
    InputError
        When columns or rows are missing.
    """
    need_columns(table, "encoding", ("subject", "roi", "layer", "test", "r"))
    table = table[table["subject"] != "mean"]
    rois, layers = order_places(table["roi"]), list(dict.fromkeys(table["layer"].astype(str)))
    per_row, width = min(3, len(rois)), max(2.5, 0.3 * len(layers))
    n_subjects = table["subject"].nunique()
    over = (
        f"mean over {n_subjects} subjects; small symbols: each subject"
        if n_subjects > 1
        else "the only subject"
    )
    about = f"Trained on RE. Lines: {over}; no interval is drawn"
    method = describe_methods(table)
    with figure_style():
        note = join_note(about, f"Method: {method}" if method else "")
        height = (1.85 + names_height(layers, width)) * -(-len(rois) // per_row) + 0.34 * bool(
            stamp
        )
        figure = new_figure(width * per_row + 0.7, height, "", note)
        panels = panel_grid(figure, len(rois), per_row)
        for panel, roi in zip(panels, rois, strict=True):
            _draw_tests(panel, table[table["roi"] == roi], layers)
            name_axis(panel, layers, width)
            panel.set_title(roi, parse_math=False)
        for panel in panels[::per_row]:
            panel.set_ylabel("prediction accuracy, r")
        handles, labels = panels[0].get_legend_handles_labels()
        top_legend(figure, handles, labels, width * per_row, stamp)
        return figure


def _draw_tests(axes: Axes, rows: pd.DataFrame, layers: Sequence[str]) -> None:
    for shift, test in ((-0.12, "RE"), (0.0, "AI"), (0.12, "AN")):
        of_test = rows[rows["test"] == test]
        if of_test.empty:
            continue
        mean = of_test.groupby("layer", sort=False)["r"].mean().reindex(list(layers))
        style: dict[str, Any] = {"color": COLORS[test], "marker": MARKERS[test]}
        x = np.array([layers.index(layer) for layer in of_test["layer"].astype(str)])
        axes.plot(
            x + shift,
            of_test["r"],
            linestyle="",
            markersize=2.4,
            alpha=0.55,
            markeredgewidth=0,
            **style,
        )
        name = "test on held-out RE" if test == "RE" else f"test on {test}"
        axes.plot(
            np.arange(len(layers)) + shift, mean, markersize=4.5, linewidth=1.4, label=name, **style
        )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y")
