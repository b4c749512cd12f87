"""Figures of many images, placed by hand in one axes.

An axes for each image, and arranging them, takes seconds.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    KINDS,
    PALE,
    RDM_COLORMAP,
    STAMP,
    clip_name,
    figure_style,
    format_number,
    need_columns,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Page:
    """A figure whose parts are placed in inches from the top left.

    Parameters
    ----------
    width, height, top : float
        Width and height of the figure, and margin above its parts, in inches.
    stamp, note : str
        Above and below the parts; the note is wrapped, and further lines make the figure higher.
    """

    def __init__(self, width: float, height: float, top: float, stamp: str, note: str) -> None:
        from matplotlib.figure import Figure

        note = textwrap.fill(note, int(width * 15.5))
        height += 0.155 * note.count("\n")
        self.width, self.height, self.top = width, height, top
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1 - top / height))
        self.axes.set_axis_off()
        if stamp:
            self.figure.text(0.985, 1 - 0.1 / height, stamp.upper(), ha="right", va="top", **STAMP)
        style: dict[str, Any] = {
            "fontsize": 7.5,
            "color": FAINT,
            "va": "bottom",
            "linespacing": 1.25,
        }
        self.figure.text(0.1 / width, 0.08 / height, note, **style)

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write at a place.

        Parameters
        ----------
        left, top : float
            Inches from the top left.
        text : str
            What.
        **style : object
            Arguments of matplotlib's text.
        """
        self.figure.text(left / self.width, 1 - top / self.height, text, parse_math=False, **style)

    def image(self, left: float, top: float, side: float, pixels: np.ndarray, **style: Any) -> None:
        """Draw a square image.

        Parameters
        ----------
        left, top, side : float
            Inches from the top left, and its side.
        pixels : ndarray
            (height, width, 3) uint8, or (height, width) for a color map.
        **style : object
            Arguments of matplotlib's imshow.
        """
        self.axes.imshow(
            pixels, aspect="auto", extent=(left, left + side, top + side, top), **style
        )

    def percentile_bar(self, top: float, bottom: float) -> None:
        """Draw the scale of percentiles at the right edge.

        Parameters
        ----------
        top, bottom : float
            Top and bottom of the heat maps, inches from the top.
        """
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        length = min(3, 0.8 * (bottom - top))
        low = 1 - (top + bottom + length) / 2 / self.height
        axes = self.figure.add_axes(
            (1 - 0.62 / self.width, low, 0.12 / self.width, length / self.height)
        )
        bar = self.figure.colorbar(
            ScalarMappable(Normalize(0, 100), RDM_COLORMAP), cax=axes, ticks=[0, 50, 100]
        )
        bar.set_label("dissimilarity, percentile", labelpad=1)

    def set_limits(self) -> None:
        """Let one unit of the axes be an inch of the page.

        This comes last, since every image sets the limits again.
        """
        self.axes.set(xlim=(0, self.width), ylim=(self.height, self.top))


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
            f"{len(images)} images came with a table of {len(table)} rows; one row an image is "
            "needed."
        )
    everyone = list(dict.fromkeys(table["reference_id"].astype(str)))
    shown = everyone[first : first + limit]
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    rows_at = {
        (str(row.reference_id), row.kind): index for index, row in enumerate(table.itertuples())
    }
    with figure_style():
        note = _sheet_note(
            table[table["reference_id"].astype(str).isin(shown)], len(shown), len(everyone)
        )
        sheet = _PhotographPage(len(shown), len(kinds), blocks, stamp, note)
        for rank, name in enumerate(shown):
            sheet.name_row(rank, name)
            for column, kind in enumerate(kinds):
                index = rows_at.get((name, kind))
                if index is None:
                    sheet.empty(rank, column)
                else:
                    sheet.photograph(rank, column, images[index], table.iloc[index])
        sheet.name_columns(kinds)
        sheet.set_limits()
        return sheet.figure


class _PhotographPage(Page):
    """Places photographs and the images made from them in blocks of rows."""

    side, gap, caption, margin = 1.22, 0.14, 0.42, 0.3

    def __init__(self, n_rows: int, n_kinds: int, blocks: int, stamp: str, note: str) -> None:
        self.blocks = max(1, min(blocks, n_rows))
        self.per_block = -(-n_rows // self.blocks)
        self.block_width = self.margin + n_kinds * (self.side + self.gap) + 0.12
        top = 0.5 + 0.36 * bool(stamp)
        height = top + self.per_block * (self.side + self.caption) + 0.3
        width = max(self.blocks * self.block_width, 3.2)
        super().__init__(width, height, top, stamp, note)

    def _frame(self, rank: int, column: int, **style: Any) -> None:
        from matplotlib.patches import Rectangle

        self.axes.add_patch(
            Rectangle(self._corner(rank, column), self.side, self.side, fill=False, **style)
        )

    def _corner(self, rank: int, column: int) -> tuple[float, float]:
        block, row = divmod(rank, self.per_block)
        left = block * self.block_width + self.margin + column * (self.side + self.gap)
        return left, self.top + row * (self.side + self.caption)

    def name_row(self, rank: int, name: str) -> None:
        left, top = self._corner(rank, 0)
        text = name if len(name) <= 20 else name[:19] + "…"
        where = {"rotation": 90, "ha": "right", "va": "center"}
        self.text(left - 0.06, top + self.side / 2, text, fontsize=8, fontweight="bold", **where)

    def name_columns(self, kinds: Sequence[str]) -> None:
        for block in range(self.blocks):
            for column, kind in enumerate(kinds):
                left, top = self._corner(block * self.per_block, column)
                where = {"ha": "center", "va": "bottom", "fontsize": 8, "linespacing": 1.1}
                words = KINDS[kind].replace("\n", " ").replace("adversarial ", "")
                self.text(
                    left + self.side / 2,
                    top - 0.05,
                    f"{kind}\n{words}",
                    color=COLORS[kind],
                    **where,
                )

    def empty(self, rank: int, column: int) -> None:
        left, top = self._corner(rank, column)
        where = {"ha": "center", "va": "center"}
        self.text(
            left + self.side / 2, top + self.side / 2, "none", color=FAINT, fontsize=8, **where
        )
        self._frame(rank, column, color=PALE)

    def photograph(self, rank: int, column: int, image: np.ndarray, row: pd.Series) -> None:
        left, top = self._corner(rank, column)
        pixels = np.rint(255 * np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1)).astype(
            np.uint8
        )
        self.image(left, top, self.side, pixels, interpolation="antialiased")
        failed = _failed(row)
        if failed:
            self._frame(rank, column, color="#B00020", linewidth=2, linestyle=(0, (3, 1.5)))
        style = {"ha": "center", "va": "top", "fontsize": 7, "linespacing": 1.15}
        style |= {"color": "#B00020", "fontweight": "bold"} if failed else {}
        self.text(left + self.side / 2, top + self.side + 0.035, _caption(row, failed), **style)


def _sheet_note(table: pd.DataFrame, n_shown: int, n_all: int) -> str:
    """Explain the marks that the sheet has, and say how many photographs it leaves out."""
    parts = []
    if n_shown < n_all:
        parts.append(f"{n_shown} of {n_all} photographs are shown, {n_all - n_shown} are not.")
    if any(_failed(row) for _, row in table.iterrows()):
        parts.append("✗ dashed frame: the criterion was not met on the saved file.")
    if "confidence_png" in table.columns and table["confidence_png"].notna().any():
        parts.append("p: the network's confidence in the class, on the saved file.")
    return "  ".join(parts)


def _failed(row: pd.Series) -> bool:
    """Read `success` as a CSV or an HDF5 table may hold it.

    An image without a value has not failed.
    """
    value = row.get("success")
    return value is not None and not pd.isna(value) and str(value).lower() in ("false", "0", "0.0")


def _caption(row: pd.Series, failed: bool) -> str:
    name, target, confidence = (
        row.get(key) for key in ("top1_name", "target_name", "confidence_png")
    )
    first = "" if name is None or pd.isna(name) else clip_name(name, 20)
    missed = (
        failed and target is not None and not pd.isna(target) and str(target) not in ("", str(name))
    )
    second = (
        ""
        if confidence is None or pd.isna(confidence)
        else f"p = {format_number(float(confidence), 3)}"
    )
    if missed:
        second = second.replace("p =", "p(target) =")
    return "\n".join(part for part in (first, ("✗ " if failed else "") + second) if part.strip())


# --------------------------------------------------------------------------------------------- RDMs


def percentile_rdm(rdm: np.ndarray) -> np.ndarray:
    """Replace the dissimilarities of one RDM by percentile ranks among its pairs.

    Ties have the mean of their ranks.

    Parameters
    ----------
    rdm : ndarray, shape (n, n)
        Symmetric; the diagonal is ignored; pairs that are not finite stay missing.

    Returns
    -------
    ndarray, shape (n, n)
        0 (most alike pair) to 100 (most different pair), NaN on the diagonal.
    """
    from scipy.stats import rankdata

    out = np.full(rdm.shape, np.nan)
    pairs = np.tril_indices(len(rdm), -1)
    values = np.asarray(rdm, dtype=float)[pairs]
    known = np.isfinite(values)
    ranks = np.full(values.shape, np.nan)
    ranks[known] = 100 * (rankdata(values[known]) - 1) / max(known.sum() - 1, 1)
    out[pairs] = ranks
    out.T[pairs] = ranks
    return out


def heat_colors() -> dict[str, Any]:
    """Give the settings of `imshow` for a heat map of percentiles.

    Returns
    -------
    dict
        What is missing (and the diagonal) is pale.
    """
    from matplotlib import colormaps

    colors = colormaps[RDM_COLORMAP].with_extremes(bad=PALE)
    return {"cmap": colors, "vmin": 0, "vmax": 100, "interpolation": "nearest"}
