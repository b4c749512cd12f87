"""Figures of a study: tables and arrays in, matplotlib figures out.

Every figure is a `matplotlib.figure.Figure` built without pyplot, so no global state is touched and
no display is needed. Every figure takes a `stamp` ("simulated cortex", "untrained network …") that
is drawn above the data, so that no figure leaves without saying what it shows. Colors are those of
Okabe & Ito, and kinds differ in shape too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.figures.labels import top_legend
from neurometamer.figures.pages import Page, stimulus_sheet
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    INK,
    MARKERS,
    clip_name,
    describe_methods,
    figure_style,
    format_number,
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


SAME, OTHER = "#00664B", "#B00020"
MOST_METAMERS = 8
"""Photographs on a sheet of metamers."""


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

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.study import encoding_bars
    >>> rows = {"subject": "S1", "roi": ["V1", "V1", "LO", "LO"], "layer": ["early", "late"] * 2}
    >>> figure = encoding_bars(pd.DataFrame({**rows, "test": "RE", "r": [0.4, 0.2, 0.1, 0.3]}))
    >>> [axes.get_title() for axes in figure.axes]
    ['V1', 'LO']
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


@checked
def metamer_sheet(
    images: Mapping[str, np.ndarray],
    photographs: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    *,
    judge: str,
    stamp: str = "",
) -> Figure:
    """Show photographs, and below each the metamers of each set of networks.

    Under each image stands what a judge says to it.

    Parameters
    ----------
    images : mapping of str to ndarray
        ``"<set> <id>"`` → metamer, (3, height, width) in [0, 1].
    photographs : mapping of str to ndarray
        Reference id → photograph, likewise; at most `MOST_METAMERS` are shown.
    table : DataFrame
        Columns set, id, reference_id, judge, judge_says, judge_says_photograph, p_photograph,
        same_class, p.
    judge : str
        Whose rows are shown.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        One column a photograph. A class that is not the photograph's is marked with a cross.

    Raises
    ------
    InputError
        When columns, rows or images are missing.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.figures.study import metamer_sheet
    >>> said = {"judge": "B", "judge_says": "cat", "judge_says_photograph": "cat"}
    >>> row = {"set": "A", "id": "a_metamer", "reference_id": "a", "p_photograph": 0.9, "p": 0.7}
    >>> gray = np.full((3, 8, 8), 0.5)
    >>> table = pd.DataFrame([{**row, **said, "same_class": True}])
    >>> figure = metamer_sheet({"A a_metamer": gray}, {"a": gray}, table, judge="B")
    >>> len(figure.axes)
    1
    """
    columns = (
        "set",
        "id",
        "reference_id",
        "judge",
        "judge_says",
        "judge_says_photograph",
        "p_photograph",
        "same_class",
    )
    need_columns(table, "metamer", (*columns, "p"))
    rows = table[table["judge"] == judge]
    need_columns(rows, f"metamer ({judge})", ())
    shown = list(dict.fromkeys(rows["reference_id"].astype(str)))[:MOST_METAMERS]
    sets = list(dict.fromkeys(rows["set"].astype(str)))
    if missing := [reference for reference in shown if reference not in photographs]:
        raise InputError(f"no picture of the photograph '{missing[0]}'.")
    with figure_style():
        page = _MetamerPage(shown, sets, judge, stamp)
        for column, name in enumerate(shown):
            of_photograph = rows[rows["reference_id"] == name]
            page.photograph(column, photographs[name], of_photograph.iloc[0])
            for rank, set_name in enumerate(sets):
                for _, row in of_photograph[of_photograph["set"] == set_name].iterrows():
                    page.metamer(rank + 1, column, images[f"{set_name} {row['id']}"], row)
        page.set_limits()
        return page.figure


class _MetamerPage(Page):
    """Places one row of photographs and one row of metamers a set."""

    side, gap, caption, margin = 1.5, 0.14, 0.44, 0.55

    def __init__(self, names: Sequence[str], sets: Sequence[str], judge: str, stamp: str) -> None:
        note = (
            f"Under each image: the first class of {judge}, and its probability of the class it "
            "gives the photograph."
        )
        top = 0.3 + 0.36 * bool(stamp)
        width = max(self.margin + len(names) * (self.side + self.gap) + 0.1, 6.0)
        super().__init__(
            width, top + (len(sets) + 1) * (self.side + self.caption) + 0.25, top, stamp, note
        )
        for column, name in enumerate(names):
            left, first = self._corner(0, column)
            where = {"ha": "center", "va": "bottom", "fontsize": 8.5, "fontweight": "bold"}
            self.text(left + self.side / 2, first - 0.05, clip_name(name, 20), **where)
        for row, row_name in enumerate(["photographs", *sets]):
            _, first = self._corner(row, 0)
            words = row_name if row == 0 else "metamers of\n" + row_name.replace("+", "\n+ ")
            where = {
                "rotation": 90,
                "ha": "right",
                "va": "center",
                "fontsize": 7.5,
                "fontweight": "bold",
            }
            self.text(
                self.margin - 0.06, first + self.side / 2, words, multialignment="center", **where
            )

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        return self.margin + column * (self.side + self.gap), self.top + row * (
            self.side + self.caption
        )

    def photograph(self, column: int, image: np.ndarray, row: pd.Series) -> None:
        self._draw(0, column, image, str(row["judge_says_photograph"]), row["p_photograph"], FAINT)

    def metamer(self, rank: int, column: int, image: np.ndarray, row: pd.Series) -> None:
        same = str(row["same_class"]) == "True"
        words = ("✓ " if same else "✗ ") + clip_name(row["judge_says"], 20)
        self._draw(rank, column, image, words, row["p"], SAME if same else OTHER)

    def _draw(
        self, row: int, column: int, image: np.ndarray, words: str, p: float, color: str
    ) -> None:
        left, top = self._corner(row, column)
        pixels = np.rint(255 * np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1)).astype(
            np.uint8
        )
        self.image(left, top, self.side, pixels, interpolation="antialiased")
        number = f"= {format_number(float(p), 3)}" if float(p) >= 0.0005 else "< .001"
        caption = f"{clip_name(words, 22)}\np {number}"
        where = {"ha": "center", "va": "top", "fontsize": 7.5, "linespacing": 1.15}
        self.text(left + self.side / 2, top + self.side + 0.04, caption, color=color, **where)
