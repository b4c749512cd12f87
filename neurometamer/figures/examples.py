"""A sheet of examples: photographs above metamers of each set.

Each metamer has its state and the number of evaluators that recognize it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.figures.labels import fit_size, page_width
from neurometamer.figures.pages import Page
from neurometamer.figures.sets import STATES, refuse_repeats
from neurometamer.figures.style import FAINT, figure_style, need_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_COLUMNS = 8
_SIZES = (9, 8.5, 8, 7.5, 7, 6.5, 6, 5.5, 5)
_MARKS: dict[str, tuple[str, dict[str, Any]]] = {
    "valid": ("✓ valid", {"color": "#00664B", "linewidth": 1.4}),
    "failed": ("✗ failed", {"color": "#B00020", "linewidth": 1.8, "linestyle": (0, (3, 1.5))}),
    "not judged": ("? not judged", {"color": FAINT, "linewidth": 1.4, "linestyle": (0, (1, 1.3))}),
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
    rows = table.assign(
        **{column: table[column].astype(str) for column in ("row", "reference_id", "state")}
    )
    refuse_repeats(rows, "examples", ("row", "reference_id"))
    if unknown := [state for state in dict.fromkeys(rows["state"]) if state not in STATES]:
        raise unknown_name("state", unknown[0], STATES)
    everyone, names = (list(dict.fromkeys(rows[column])) for column in ("reference_id", "row"))
    shown = everyone[:MOST_COLUMNS]
    rows = rows[rows["reference_id"].isin(shown)]
    wanted = list(zip(rows["row"], rows["reference_id"], strict=True))
    if missing := [reference for reference in shown if reference not in photographs]:
        raise InputError(f"no picture of the photograph(s) {name_ids(missing)}.")
    if lost := [" · ".join(key) for key in wanted if key not in pictures]:
        raise InputError(f"no picture of the metamer(s) {name_ids(lost)}.")
    with figure_style():
        page = _ExamplePage(shown, names, len(everyone), stamp)
        for column, reference in enumerate(shown):
            page.picture(0, column, photographs[reference], "", FAINT)
        for (name, reference), (_, row) in zip(wanted, rows.iterrows(), strict=True):
            page.metamer(
                names.index(name) + 1, shown.index(reference), pictures[name, reference], row
            )
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
        width = page_width(
            max(self.margin + len(columns) * (self.side + self.gap) + 0.06, 4.6), stamp
        )
        shown = f"{len(columns)} of {n_all} photographs are shown. " if len(columns) < n_all else ""
        note = shown + (
            "Frame and word: whether a metamer met the criteria (valid: solid, failed: dashed, not "
            "judged: dotted). Last line: how many of the evaluators that took no part recognize it."
        )
        note = textwrap.fill(note, int(width * 15.5))
        self._heads = [
            fit_size(name, self.side + 0.08, self.head, _SIZES, bold=True) for name in columns
        ]
        lines = max(words.count("\n") + 1 for words, _ in self._heads)
        top = 0.12 + 0.14 * lines + 0.36 * bool(stamp)
        inner = (len(rows) + 1) * (self.side + self.caption) - 0.32
        super().__init__(
            width, top + inner + 0.1 + 0.155 * (note.count("\n") + 1), top, stamp, note
        )
        self._name(rows)

    def _name(self, rows: Sequence[str]) -> None:
        for column, (words, size) in enumerate(self._heads):
            left, first = self._corner(0, column)
            where: dict[str, Any] = {
                "ha": "center",
                "va": "bottom",
                "fontsize": size,
                "fontweight": "bold",
            }
            self.text(left + self.side / 2, first - 0.05, words, linespacing=1.1, **where)
        for row, name in enumerate(["photographs", *rows]):
            _, first = self._corner(row, 0)
            words, size = fit_size(
                name, self.margin - 0.2, self.side + 0.3 * (row > 0), _SIZES, bold=True
            )
            where = {"ha": "left", "va": "top", "fontsize": size, "fontweight": "bold"}
            self.text(0.1, first, words, linespacing=1.15, **where)

    def _corner(self, row: int, column: int) -> tuple[float, float]:
        # Photographs have no words below them.
        top = self.top + row * (self.side + self.caption) - 0.32 * (row > 0)
        return self.margin + column * (self.side + self.gap), top

    def _frame(self, row: int, column: int, **style: Any) -> None:
        from matplotlib.patches import Rectangle

        left, top = self._corner(row, column)
        self.axes.add_patch(
            Rectangle(
                (left - 0.025, top - 0.025), self.side + 0.05, self.side + 0.05, fill=False, **style
            )
        )

    def picture(self, row: int, column: int, image: np.ndarray, words: str, color: str) -> None:
        left, top = self._corner(row, column)
        self.image(left, top, self.side, _pixels(image), interpolation="antialiased")
        where: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7.5, "linespacing": 1.15}
        if words:
            self.text(left + self.side / 2, top + self.side + 0.05, words, color=color, **where)

    def metamer(self, row: int, column: int, image: np.ndarray, about: pd.Series) -> None:
        word, style = _MARKS[about["state"]]
        seen, asked_of = about["n_seen"], about["n_asked"]
        if pd.isna(seen) or pd.isna(asked_of) or int(asked_of) == 0:
            seen_by = "nobody asked"
        else:
            seen_by = f"{int(seen)} of {int(asked_of)} see it"
        self.picture(row, column, image, f"{word}\n{seen_by}", style["color"])
        self._frame(row, column, **style)

    def empty(self, row: int, column: int) -> None:
        left, top = self._corner(row, column)
        where: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": FAINT}
        self.text(left + self.side / 2, top + self.side / 2, "none", **where)


def _pixels(image: np.ndarray) -> np.ndarray:
    """Turn an image into 8-bit levels, with white beside it where it is not square."""
    values = np.asarray(image)
    if values.ndim != 3 or values.shape[0] != 3:
        raise InputError(f"images must have the shape (3, height, width), not {values.shape}.")
    levels = np.rint(255 * np.clip(np.moveaxis(values, 0, -1), 0, 1)).astype(np.uint8)
    height, width = levels.shape[:2]
    side = max(height, width)
    above, before = (side - height) // 2, (side - width) // 2
    around = ((above, side - height - above), (before, side - width - before), (0, 0))
    return np.pad(levels, around, constant_values=255)
