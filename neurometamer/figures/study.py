"""Figures of a study: tables and arrays in, matplotlib figures out.

Every figure is a `matplotlib.figure.Figure` built without pyplot, so no global state is touched and
no display is needed. Every figure takes a `stamp` ("simulated cortex", "untrained network …") that
is drawn above the data, so that no figure leaves without saying what it shows. Colors are those of
Okabe & Ito, and kinds differ in shape too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.figures.layout import Page, image_levels, top_legend
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    INK,
    KINDS,
    MARKERS,
    PALE,
    clip_name,
    describe_methods,
    figure_style,
    format_number,
    join_note,
    name_axis,
    names_height,
    need_columns,
    new_figure,
    order_representations,
    panel_grid,
    save_figure,
)
from neurometamer.figures.tables import draw_whisker, is_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "MOST_METAMERS",
    "answer_marks",
    "encoding_bars",
    "metamer_sheet",
    "save_figure",
    "stimulus_sheet",
]

MISSED = "#B00020"
"""Color of an image that missed its criterion, or is seen as something else."""

SAME = "#00664B"
"""Color of a metamer that is seen as its photograph."""

MOST_METAMERS = 8
"""Photographs on a sheet of metamers."""


# --------------------------------------------------------------------------------- the first screen


ANSWER_WIDTH = 4.3
"""Inches: about the width of a phone, so that the figure is read there at its own size."""

MOST_NAMES = 16
"""Places that are all named; of more, every second, third … is."""

HOLLOW: dict[str, Any] = {
    "marker": "o",
    "markerfacecolor": "white",
    "color": FAINT,
}
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "perception": (
        "fooling image nearer",
        {
            "marker": "o",
            "color": COLORS["AI"],
        },
    ),
    "decision": (
        "noise nearer",
        {
            "marker": "s",
            "color": COLORS["AN"],
        },
    ),
    "undecided": ("undecided", HOLLOW),
    "not tested": (
        "not tested",
        {
            "marker": "x",
            "color": FAINT,
        },
    ),
    "above chance": (
        "above chance",
        {
            "marker": "o",
            "color": COLORS["RE"],
        },
    ),
    "not above chance": ("not above chance", HOLLOW),
}
"""What a test says, to its words and its mark."""


@checked
def answer_marks(table: pd.DataFrame, *, title: str, label: str, stamp: str = "") -> Figure:
    """Draw one number in each place with its interval, marked by what its test says.

    Parameters
    ----------
    table : DataFrame
        One row a place, in order: place, value, ci_low, ci_high, follows (a key of `ANSWERS`).
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

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures.study import answer_marks
    >>> rows = {"representation": ["V1", "LO"], "value": [0.4, 0.1]}
    >>> rows |= {"ci_low": [0.1, -0.2], "ci_high": 0.7}
    >>> table = pd.DataFrame({**rows, "follows": ["perception", "undecided"]})
    >>> figure = answer_marks(table, title="Cortex", label="RE–AI minus RE–AN")
    >>> figure.axes[0].get_title(loc="left")
    'Cortex'
    """
    need_columns(table, "answer", ("representation", "value", "ci_low", "ci_high", "follows"))
    names = table["representation"].astype(str).tolist()
    step = -(-len(names) // MOST_NAMES)
    names = [name if place % step == 0 else "" for place, name in enumerate(names)]
    values = table[["value", "ci_low", "ci_high"]].to_numpy(dtype=float)
    width = ANSWER_WIDTH - 0.7
    with figure_style():
        figure = new_figure(ANSWER_WIDTH, 2.2 + names_height(names, width), stamp, "")
        axes = figure.subplots()
        for x, (_, low, high) in enumerate(values):
            draw_whisker(axes, x, low, high, 0.12)
        for said, (words, style) in ANSWERS.items():
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
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.grid(axis="y")
        name_axis(axes, names, width)
        axes.set_ylabel(label, parse_math=False)
        axes.set_title(title, loc="left", parse_math=False)
        figure.legend(
            loc="outside lower left",
            ncols=2,
            fontsize=8,
            handletextpad=0.3,
        )
        return figure


# ------------------------------------------------------------------------------------------ stimuli


class ImageRows(Protocol):
    """Images by row: an array, or images on disk that are read when indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> np.ndarray: ...


@checked
def stimulus_sheet(
    images: ImageRows,
    table: pd.DataFrame,
    *,
    first: int = 0,
    limit: int = 16,
    blocks: int = 2,
    stamp: str = "",
) -> Figure:
    """Show the photographs with the images made from them.

    There is one row a photograph, with the columns RE, AN and AI.

    Under each image stand the network's top-1 class and the confidence on the saved 8-bit file; an
    image that missed its criterion has a dashed frame and a cross.

    Parameters
    ----------
    images : ndarray or images on disk, shape (n, 3, height, width)
        In [0, 1]; image i belongs to row i of `table`. Only those that are shown are read.
    table : DataFrame
        Columns id, kind, reference_id; used when there: top1_name, target_name, confidence_png,
        success.
    first : int
        The first photograph of this sheet, to draw large sets on several sheets.
    limit : int
        At most so many photographs; the sheet says how many are not shown.
    blocks : int
        Blocks of rows side by side.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        About 9 inches wide for two blocks.

    Raises
    ------
    InputError
        When columns are missing or images and rows differ in number.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.figures.study import stimulus_sheet
    >>> rows = {"id": ["cat", "cat_ai"], "kind": ["RE", "AI"], "reference_id": "cat"}
    >>> figure = stimulus_sheet(np.full((2, 3, 8, 8), 0.5), pd.DataFrame(rows))
    >>> len(figure.axes)
    1
    """
    need_columns(table, "stimulus", ("id", "kind", "reference_id"))
    if len(images) != len(table):
        raise InputError(
            f"{len(images)} images came with a table of {len(table)} rows; give one row an image."
        )
    photographs = table["reference_id"].astype(str)
    everyone = list(dict.fromkeys(photographs))
    shown = everyone[first : first + limit]
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    rows_at = {key: index for index, key in enumerate(zip(photographs, table["kind"]))}
    notes = []
    n_shown, n_all = len(shown), len(everyone)
    if n_shown < n_all:
        notes.append(f"{n_shown} of {n_all} photographs are shown, {n_all - n_shown} are not.")
    drawn = table[photographs.isin(shown)]
    if any(_failed(row) for _, row in drawn.iterrows()):
        notes.append("✗ dashed frame: the criterion was not met on the saved file.")
    if "confidence_png" in drawn.columns and drawn["confidence_png"].notna().any():
        notes.append("p: the network's confidence in the class, on the saved file.")
    with figure_style():
        sheet = _PhotographPage(len(shown), kinds, blocks, stamp, "  ".join(notes))
        for rank, name in enumerate(shown):
            sheet.name_row(rank, name)
            for column, kind in enumerate(kinds):
                index = rows_at.get((name, kind))
                if index is None:
                    sheet.empty(rank, column)
                else:
                    sheet.photograph(rank, column, images[index], table.iloc[index])
        sheet.name_columns()
        sheet.set_limits()
        return sheet.figure


class _PhotographPage(Page):
    """Places photographs and the images made from them in blocks of rows."""

    side, gap, caption, margin = 1.22, 0.14, 0.42, 0.3

    def __init__(
        self, n_rows: int, kinds: Sequence[str], blocks: int, stamp: str, note: str
    ) -> None:
        self.kinds = kinds
        self.blocks = max(1, min(blocks, n_rows))
        self.per_block = -(-n_rows // self.blocks)
        self.block_width = self.margin + len(kinds) * (self.side + self.gap) + 0.12
        top = 0.86 if stamp else 0.5
        inner = self.per_block * (self.side + self.caption)
        height = top + inner + 0.3
        width = max(self.blocks * self.block_width, 3.2)
        super().__init__(width, height, top, stamp, note)

    def _corner(self, rank: int, column: int) -> tuple[float, float]:
        block, row = divmod(rank, self.per_block)
        start = block * self.block_width + self.margin
        left = start + column * (self.side + self.gap)
        top = self.top + row * (self.side + self.caption)
        return left, top

    def name_row(self, rank: int, name: str) -> None:
        left, top = self._corner(rank, 0)
        self.text(
            left - 0.06,
            top + self.side / 2,
            name if len(name) <= 20 else name[:19] + "…",
            fontsize=8,
            fontweight="bold",
            rotation=90,
            ha="right",
            va="center",
        )

    def name_columns(self) -> None:
        for block in range(self.blocks):
            for column, kind in enumerate(self.kinds):
                left, above = self._corner(block * self.per_block, column)
                words = KINDS[kind].replace("\n", " ").replace("adversarial ", "")
                self.text(
                    left + self.side / 2,
                    above - 0.05,
                    f"{kind}\n{words}",
                    color=COLORS[kind],
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    linespacing=1.1,
                )

    def empty(self, rank: int, column: int) -> None:
        left, top = self._corner(rank, column)
        self.say_none(left, top, self.side)
        self.frame(left, top, self.side, color=PALE)

    def photograph(self, rank: int, column: int, image: np.ndarray, row: pd.Series) -> None:
        left, top = self._corner(rank, column)
        self.image(left, top, self.side, image_levels(image), interpolation="antialiased")
        style: dict[str, Any] = {
            "ha": "center",
            "va": "top",
            "fontsize": 7,
            "linespacing": 1.15,
        }
        known = row.dropna()
        name = str(known.get("top1_name", ""))
        letter, mark = "p", ""
        if _failed(row):
            mark = "✗ "
            if str(known.get("target_name", "")) not in ("", name):
                letter = "p(target)"
            self.frame(
                left,
                top,
                self.side,
                color=MISSED,
                linewidth=2,
                linestyle=(0, (3, 1.5)),
            )
            style["color"] = MISSED
            style["fontweight"] = "bold"
        lines = [clip_name(name, 20), mark]
        if "confidence_png" in known:
            number = format_number(float(known["confidence_png"]), 3)
            lines[1] = f"{mark}{letter} = {number}"
        caption = "\n".join(line for line in lines if line.strip())
        self.text(left + self.side / 2, top + self.side + 0.035, caption, **style)


def _failed(row: pd.Series) -> bool:
    """Tell whether an image missed its criterion; one without a value has not."""
    success = row.get("success")
    if pd.isna(success) or str(success) == "":
        return False
    return not is_true(success)


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
    table = table.assign(layer=table["layer"].astype(str))
    rois, layers = order_representations(table["roi"]), list(dict.fromkeys(table["layer"]))
    per_row, width = min(3, len(rois)), max(2.5, 0.3 * len(layers))
    over = "the only subject"
    n_subjects = table["subject"].nunique()
    if n_subjects > 1:
        over = f"mean over {n_subjects} subjects; small symbols: each subject"
    method = describe_methods(table)
    note = join_note(
        f"Trained on RE. Lines: {over}; no interval is drawn",
        f"Method: {method}" if method else "",
    )
    height = (1.85 + names_height(layers, width)) * -(-len(rois) // per_row)
    if stamp:
        height += 0.34
    shifts = {
        "RE": -0.12,
        "AI": 0.0,
        "AN": 0.12,
    }
    with figure_style():
        figure = new_figure(width * per_row + 0.7, height, "", note)
        panels = panel_grid(figure, len(rois), per_row)
        for panel, roi in zip(panels, rois, strict=True):
            for test, shift in shifts.items():
                rows = table[(table["roi"] == roi) & (table["test"] == test)]
                if rows.empty:
                    continue
                style: dict[str, Any] = {
                    "color": COLORS[test],
                    "marker": MARKERS[test],
                }
                x = np.array([layers.index(layer) for layer in rows["layer"]])
                panel.plot(
                    x + shift,
                    rows["r"],
                    linestyle="",
                    markersize=2.4,
                    alpha=0.55,
                    markeredgewidth=0,
                    **style,
                )
                panel.plot(
                    np.arange(len(layers)) + shift,
                    rows.groupby("layer", sort=False)["r"].mean().reindex(layers),
                    markersize=4.5,
                    linewidth=1.4,
                    label="test on held-out RE" if test == "RE" else f"test on {test}",
                    **style,
                )
            panel.axhline(0, color=INK, linewidth=0.8)
            panel.grid(axis="y")
            name_axis(panel, layers, width)
            panel.set_title(roi, parse_math=False)
        for panel in panels[::per_row]:
            panel.set_ylabel("prediction accuracy, r")
        handles, labels = panels[0].get_legend_handles_labels()
        top_legend(figure, handles, labels, width * per_row, stamp)
        return figure


# ----------------------------------------------------------------------------------------- metamers


@checked
def metamer_sheet(
    images: Mapping[str, np.ndarray],
    photographs: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    *,
    evaluator: str,
    stamp: str = "",
) -> Figure:
    """Show photographs, and below each the metamers of each set of networks.

    Under each image stands what an evaluator says to it.

    Parameters
    ----------
    images : mapping of str to ndarray
        ``"<set> <id>"`` → metamer, (3, height, width) in [0, 1].
    photographs : mapping of str to ndarray
        Reference id → photograph, likewise; at most `MOST_METAMERS` are shown.
    table : DataFrame
        Columns set, id, reference_id, evaluator, evaluator_says, evaluator_says_photograph,
        p_photograph, same_class, p.
    evaluator : str
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
    >>> said = {"evaluator": "B", "evaluator_says": "cat", "evaluator_says_photograph": "cat"}
    >>> row = {"set": "A", "id": "a_metamer", "reference_id": "a", "p_photograph": 0.9, "p": 0.7}
    >>> gray = np.full((3, 8, 8), 0.5)
    >>> table = pd.DataFrame([{**row, **said, "same_class": True}])
    >>> figure = metamer_sheet({"A a_metamer": gray}, {"a": gray}, table, evaluator="B")
    >>> len(figure.axes)
    1
    """
    columns = (
        "set",
        "id",
        "reference_id",
        "evaluator",
        "evaluator_says",
        "evaluator_says_photograph",
        "p_photograph",
        "same_class",
        "p",
    )
    need_columns(table, "metamer", columns)
    rows = table[table["evaluator"] == evaluator]
    need_columns(rows, f"metamer ({evaluator})", ())
    shown = list(dict.fromkeys(rows["reference_id"].astype(str)))[:MOST_METAMERS]
    sets = list(dict.fromkeys(rows["set"].astype(str)))
    missing = [reference for reference in shown if reference not in photographs]
    if missing:
        raise InputError(f"no picture of the photograph(s) {name_ids(missing)}; give one each.")
    with figure_style():
        page = _MetamerPage(shown, sets, evaluator, stamp)
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

    def __init__(
        self, names: Sequence[str], sets: Sequence[str], evaluator: str, stamp: str
    ) -> None:
        note = (
            f"Under each image: the first class of {evaluator}, and its probability of the class "
            "it "
            "gives the photograph."
        )
        top = 0.3 + 0.36 * bool(stamp)
        width = max(self.margin + len(names) * (self.side + self.gap) + 0.1, 6.0)
        height = top + (len(sets) + 1) * (self.side + self.caption) + 0.25
        super().__init__(width, height, top, stamp, note)
        for column, name in enumerate(names):
            left, first = self._corner(0, column)
            self.text(
                left + self.side / 2,
                first - 0.05,
                clip_name(name, 20),
                ha="center",
                va="bottom",
                fontsize=8.5,
                fontweight="bold",
            )
        made_for = [name.replace("+", "\n+ ") for name in sets]
        for row, words in enumerate(
            ["photographs", *(f"metamers of\n{name}" for name in made_for)]
        ):
            _, first = self._corner(row, 0)
            self.text(
                self.margin - 0.06,
                first + self.side / 2,
                words,
                rotation=90,
                ha="right",
                va="center",
                multialignment="center",
                fontsize=7.5,
                fontweight="bold",
            )

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        left = self.margin + column * (self.side + self.gap)
        top = self.top + row * (self.side + self.caption)
        return left, top

    def photograph(self, column: int, image: np.ndarray, row: pd.Series) -> None:
        words = str(row["evaluator_says_photograph"])
        p = float(row["p_photograph"])
        self._draw(0, column, image, words, p, FAINT)

    def metamer(self, rank: int, column: int, image: np.ndarray, row: pd.Series) -> None:
        mark, color = "✗", MISSED
        if is_true(row["same_class"]):
            mark, color = "✓", SAME
        words = f"{mark} {clip_name(row['evaluator_says'], 20)}"
        self._draw(rank, column, image, words, float(row["p"]), color)

    def _draw(
        self, row: int, column: int, image: np.ndarray, words: str, p: float, color: str
    ) -> None:
        left, top = self._corner(row, column)
        self.image(left, top, self.side, image_levels(image), interpolation="antialiased")
        number = f"= {format_number(p, 3)}" if p >= 0.0005 else "< .001"
        self.text(
            left + self.side / 2,
            top + self.side + 0.04,
            f"{clip_name(words, 22)}\np {number}",
            color=color,
            ha="center",
            va="top",
            fontsize=7.5,
            linespacing=1.15,
        )
