"""Images on which networks disagree, below their photographs, with what the networks say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.figures.layout import Page, image_levels
from neurometamer.figures.style import INK, clip_name, figure_style, need_columns
from neurometamer.figures.tables import is_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PHOTOGRAPHS = 8
"""Photographs on a sheet; further ones are not shown."""

MISSED = "#B00020"
"""Color of what missed its criterion."""


@checked
def disagreement_sheet(
    images: Mapping[str, np.ndarray],
    photographs: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    *,
    note: str = "",
    stamp: str = "",
) -> Figure:
    """Show photographs, and below each the images made of it, a row a kind of them.

    Parameters
    ----------
    images : mapping of str to ndarray
        ``"<row> <id>"`` → image, (3, height, width) in [0, 1].
    photographs : mapping of str to ndarray
        Reference id → photograph, likewise; at most `MOST_PHOTOGRAPHS` are shown.
    table : DataFrame
        Columns row, id, reference_id, words (what stands under the image, in lines) and success.
    note : str
        What the words are.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        One column a photograph. An image that missed its criterion has a dashed frame and a cross.

    Raises
    ------
    InputError
        When columns, rows or images are missing.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.figures.disagreement import disagreement_sheet
    >>> row = {"row": "A and B", "id": "a_controversial", "reference_id": "a", "success": True}
    >>> table = pd.DataFrame([{**row, "words": "A: p .80 cat"}])
    >>> gray = np.full((3, 8, 8), 0.5)
    >>> len(disagreement_sheet({"A and B a_controversial": gray}, {"a": gray}, table).axes)
    1
    """
    need_columns(table, "image", ("row", "id", "reference_id", "words", "success"))
    shown = list(dict.fromkeys(table["reference_id"].astype(str)))[:MOST_PHOTOGRAPHS]
    drawn = table[table["reference_id"].astype(str).isin(shown)]
    keys = [f"{row} {name}" for row, name in zip(drawn["row"], drawn["id"], strict=True)]
    if missing := [key for key in keys if key not in images]:
        raise InputError(f"no picture of the image(s) {name_ids(missing)}; give one each.")
    if missing := [name for name in shown if name not in photographs]:
        raise InputError(f"no picture of the photograph(s) {name_ids(missing)}; give one each.")
    rows = list(dict.fromkeys(drawn["row"].astype(str)))
    if not drawn["success"].map(is_true).all():
        note = f"{note} ✗ dashed frame: the criterion was not met on the saved file.".strip()
    lines = max(str(words).count("\n") + 1 for words in drawn["words"])
    with figure_style():
        page = _SheetPage(shown, rows, lines, stamp, note)
        for column, name in enumerate(shown):
            page.picture(0, column, photographs[name], "", success=True)
        for key, row in zip(keys, drawn.to_dict("records"), strict=True):
            place = 1 + rows.index(str(row["row"]))
            column = shown.index(str(row["reference_id"]))
            success = is_true(row["success"])
            page.picture(place, column, images[key], str(row["words"]), success=success)
        page.set_limits()
        return page.figure


class _SheetPage(Page):
    """Places one row of photographs and one row of images a kind."""

    side, gap, margin = 1.5, 0.14, 0.62

    def __init__(
        self, names: Sequence[str], rows: Sequence[str], lines: int, stamp: str, note: str
    ) -> None:
        top = 0.3 + 0.36 * bool(stamp)
        self.caption = 0.14 + 0.14 * lines
        width = max(self.margin + len(names) * (self.side + self.gap) + 0.1, 6.0)
        height = top + self.side + 0.14 + len(rows) * (self.side + self.caption) + 0.25
        super().__init__(width, height, top, stamp, note)
        style: dict[str, Any] = {"ha": "center", "fontweight": "bold"}
        for column, name in enumerate(names):
            left, first = self._corner(0, column)
            middle = left + self.side / 2
            self.text(middle, first - 0.05, clip_name(name, 20), va="bottom", fontsize=8.5, **style)
        for row, name in enumerate(["photographs", *rows]):
            _, first = self._corner(row, 0)
            self.text(
                self.margin / 2,
                first + self.side / 2,
                name.replace("+", "\n+ "),
                rotation=90,
                va="center",
                multialignment="center",
                fontsize=7.5,
                **style,
            )

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        left = self.margin + column * (self.side + self.gap)
        top = self.top
        if row:
            top += self.side + 0.14 + (row - 1) * (self.side + self.caption)
        return left, top

    def picture(
        self, row: int, column: int, image: np.ndarray, words: str, *, success: bool
    ) -> None:
        left, top = self._corner(row, column)
        self.image(left, top, self.side, image_levels(image), interpolation="antialiased")
        color, mark = INK, ""
        if not success:
            color, mark = MISSED, "✗ "
            dashes = (0, (3, 1.5))
            self.frame(left, top, self.side, color=MISSED, linewidth=2, linestyle=dashes)
        self.text(
            left + self.side / 2,
            top + self.side + 0.04,
            mark + words if words else "",
            color=color,
            ha="center",
            va="top",
            fontsize=7.5,
            linespacing=1.15,
        )
