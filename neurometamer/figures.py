"""Figures: tables and arrays in, matplotlib figures out; nothing here knows the code that made the numbers.

Every figure is a `matplotlib.figure.Figure` built without pyplot, so no global state is touched and no display is
needed. Every figure takes a `stamp` ("simulated cortex", "untrained network …") that is drawn above the data, so that
no figure leaves without saying what it shows. Colors are those of Okabe & Ito, and kinds differ in shape too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.figure_style import (
    COLORS,
    FAINT,
    HATCHES,
    INK,
    KINDS,
    MARKERS,
    MATRIX_COLORMAP,
    PAIRS,
    PALE,
    RDM_COLORMAP,
    STAMP,
    clip_name,
    describe_methods,
    describe_sizes,
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
from neurometamer.store import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "encoding_bars",
    "layer_roi_lines",
    "layer_roi_matrix",
    "percentile_rdm",
    "rdm_heatmaps",
    "save_figure",
    "similarity_bars",
    "stimulus_sheet",
]


# ------------------------------------------------------------------------------------------------------ stimuli


def stimulus_sheet(
    images: np.ndarray,
    table: pd.DataFrame,
    *,
    first: int = 0,
    limit: int = 16,
    blocks: int = 2,
    stamp: str = "",
) -> Figure:
    """Show the photographs with the images made from them, one row a photograph, in columns RE, AN, AI.

    Under each image stand the network's top-1 class and the confidence on the saved 8-bit file; an image that missed
    its criterion has a dashed frame and a cross.

    Parameters
    ----------
    images : ndarray, shape (n, 3, height, width)
        In [0, 1]; image i belongs to row i of `table`.
    table : DataFrame
        Columns id, kind, reference_id; used when there: top1_name, target_name, confidence_png, success.
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
    """
    need_columns(table, "stimulus", ("id", "kind", "reference_id"))
    if len(images) != len(table):
        raise InputError(f"{len(images)} images came with a table of {len(table)} rows; one row an image is needed.")
    everyone = list(dict.fromkeys(table["reference_id"].astype(str)))
    shown = everyone[first : first + limit]
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    rows_at = {(str(row.reference_id), row.kind): index for index, row in enumerate(table.itertuples())}
    with figure_style():
        sheet = _Sheet(len(shown), len(kinds), blocks, stamp, len(everyone))
        for rank, name in enumerate(shown):
            sheet.name_row(rank, name)
            for column, kind in enumerate(kinds):
                index = rows_at.get((name, kind))
                if index is None:
                    sheet.empty(rank, column)
                else:
                    sheet.image(rank, column, images[index], table.iloc[index])
        sheet.name_columns(kinds)
        return sheet.figure


class _Sheet:
    """Places images on a page by hand (inches from the top left), because hundreds of axes stall a layout engine."""

    side, gap, caption, margin = 1.22, 0.14, 0.42, 0.3

    def __init__(self, n_rows: int, n_kinds: int, blocks: int, stamp: str, n_all: int) -> None:
        from matplotlib.figure import Figure

        self.blocks = max(1, min(blocks, n_rows))
        self.per_block = -(-n_rows // self.blocks)
        self.block_width = self.margin + n_kinds * (self.side + self.gap) + 0.12
        self.top = 0.5 + 0.36 * bool(stamp)
        self.width = self.blocks * self.block_width
        self.height = self.top + self.per_block * (self.side + self.caption) + 0.3
        self.figure = Figure(figsize=(self.width, self.height), facecolor="white")
        if stamp:
            self.figure.text(0.985, 1 - 0.1 / self.height, stamp.upper(), ha="right", va="top", **STAMP)
        text = "✗ dashed frame: the criterion was not met on the saved file. p: the network's confidence there."
        if n_rows < n_all:
            text = f"{n_rows} of {n_all} photographs are shown, {n_all - n_rows} are not.  {text}"
        self.figure.text(0.1 / self.width, 0.08 / self.height, text, fontsize=7.5, color=FAINT, va="bottom")

    def _corner(self, rank: int, column: int) -> tuple[float, float]:
        block, row = divmod(rank, self.per_block)
        left = block * self.block_width + self.margin + column * (self.side + self.gap)
        return left, self.top + row * (self.side + self.caption)

    def _axes(self, rank: int, column: int) -> Axes:
        left, top = self._corner(rank, column)
        box = (left / self.width, 1 - (top + self.side) / self.height, self.side / self.width, self.side / self.height)
        axes = self.figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def _text(self, left: float, top: float, text: str, **style: Any) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, parse_math=False, **style)

    def name_row(self, rank: int, name: str) -> None:
        left, top = self._corner(rank, 0)
        text = name if len(name) <= 20 else name[:19] + "…"
        where = {"rotation": 90, "ha": "right", "va": "center"}
        self._text(left - 0.06, top + self.side / 2, text, fontsize=8, fontweight="bold", **where)

    def name_columns(self, kinds: Sequence[str]) -> None:
        for block in range(self.blocks):
            for column, kind in enumerate(kinds):
                left, top = self._corner(block * self.per_block, column)
                where = {"ha": "center", "va": "bottom", "fontsize": 8, "linespacing": 1.1}
                words = KINDS[kind].replace("\n", " ").replace("adversarial ", "")
                self._text(left + self.side / 2, top - 0.05, f"{kind}\n{words}", color=COLORS[kind], **where)

    def empty(self, rank: int, column: int) -> None:
        axes = self._axes(rank, column)
        axes.text(0.5, 0.5, "none", ha="center", va="center", color=FAINT, fontsize=8)
        axes.spines[:].set(visible=True, color=PALE)

    def image(self, rank: int, column: int, image: np.ndarray, row: pd.Series) -> None:
        axes = self._axes(rank, column)
        axes.imshow(np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1), interpolation="antialiased", aspect="auto")
        failed = _failed(row)
        if failed:
            axes.spines[:].set(visible=True, color="#B00020", linewidth=2, linestyle=(0, (3, 1.5)))
        left, top = self._corner(rank, column)
        style = {"ha": "center", "va": "top", "fontsize": 7, "linespacing": 1.15}
        style |= {"color": "#B00020", "fontweight": "bold"} if failed else {}
        self._text(left + self.side / 2, top + self.side + 0.035, _caption(row, failed), **style)


def _failed(row: pd.Series) -> bool:
    """Read `success` as a CSV or an HDF5 table may hold it; an image without a verdict has not failed."""
    value = row.get("success")
    return value is not None and not pd.isna(value) and str(value).lower() in ("false", "0", "0.0")


def _caption(row: pd.Series, failed: bool) -> str:
    name, target, confidence = (row.get(key) for key in ("top1_name", "target_name", "confidence_png"))
    first = "" if name is None or pd.isna(name) else clip_name(name, 20)
    missed = failed and target is not None and not pd.isna(target) and str(target) not in ("", str(name))
    second = "" if confidence is None or pd.isna(confidence) else f"p = {format_number(float(confidence), 3)}"
    if missed:
        second = second.replace("p =", "p(target) =")
    return "\n".join(part for part in (first, ("✗ " if failed else "") + second) if part.strip())


# --------------------------------------------------------------------------------------------------------- RDMs


def percentile_rdm(rdm: np.ndarray) -> np.ndarray:
    """Replace the dissimilarities of one RDM by their percentile rank among its pairs, ties averaged.

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


def rdm_heatmaps(
    matrices: np.ndarray,
    *,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    conditions: Sequence[str] = (),
    columns_per_band: int = 6,
    stamp: str = "",
) -> Figure:
    """Draw a grid of RDMs, each scaled to the percentiles of its own pairs, with one color bar.

    Parameters
    ----------
    matrices : ndarray, shape (n_rows, n_columns, n_conditions, n_conditions)
        Dissimilarities; the same conditions in the same order everywhere.
    row_titles : sequence of str
        E.g. the kinds RE, AN, AI.
    column_titles : sequence of str
        E.g. layers or ROIs.
    conditions : sequence of str
        Names of the conditions; drawn beside the first column for up to 16.
    columns_per_band : int
        Longer grids are folded into bands of about equal length.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Rank-scaled heat maps, as is usual for RSA (Kriegeskorte et al. 2008).

    Raises
    ------
    InputError
        When titles or conditions do not fit the matrices.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    matrices = np.asarray(matrices, dtype=float)
    n_rows, n_columns, n = matrices.shape[:3]
    if matrices.shape != (len(row_titles), len(column_titles), n, n) or (conditions and len(conditions) != n):
        raise InputError(
            f"RDMs of shape {matrices.shape} came with {len(row_titles)} row titles, {len(column_titles)} column "
            f"titles and {len(conditions)} conditions."
        )
    n_bands = -(-n_columns // columns_per_band)
    width = -(-n_columns // n_bands)
    named = 0 < len(conditions) <= 16
    note = "Percentile of each dissimilarity among the pairs of its own RDM; same order of photographs everywhere"
    with figure_style():
        size = (1.42 * width + 1.0 + 0.9 * named, 1.42 * n_bands * n_rows + 0.35 * n_bands)
        figure = new_figure(max(size[0], 4.6), size[1], stamp, note + ("." if named else f" ({n} photographs)."))
        # One low empty row between bands keeps them apart.
        heights = (([1.0] * n_rows + [0.12]) * n_bands)[:-1]
        panels: Any = figure.subplots(len(heights), width, squeeze=False, gridspec_kw={"height_ratios": heights})
        colors = ScalarMappable(Normalize(0, 100), RDM_COLORMAP)
        for line, column_in_band in np.ndindex(panels.shape):
            axes, (band, row) = panels[line, column_in_band], divmod(line, n_rows + 1)
            column = band * width + column_in_band if row < n_rows else n_columns
            if column >= n_columns:
                axes.set_axis_off()
                continue
            _draw_rdm(axes, matrices[row, column])
            if row == 0:
                axes.set_title(column_titles[column], fontsize=9, parse_math=False)
            if column_in_band == 0:
                _name_rdm(axes, row_titles[row], conditions if named else ())
        bar = figure.colorbar(colors, ax=panels, shrink=min(1, 3 / size[1]), aspect=25, pad=0.015, ticks=[0, 50, 100])
        bar.set_label("dissimilarity, percentile")
        return figure


def _draw_rdm(axes: Axes, rdm: np.ndarray) -> None:
    axes.set(xticks=[], yticks=[], facecolor=PALE)
    axes.spines[:].set_visible(False)
    axes.imshow(percentile_rdm(rdm), cmap=RDM_COLORMAP, vmin=0, vmax=100, interpolation="nearest")


def _name_rdm(axes: Axes, title: str, conditions: Sequence[str]) -> None:
    axes.set_ylabel(title, fontsize=10, fontweight="bold", parse_math=False)
    names = [clip_name(name, 14) for name in conditions]
    axes.set_yticks(range(len(names)), names, fontsize=6, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=2)


# --------------------------------------------------------------------------------------------------- similarity


def similarity_bars(table: pd.DataFrame, *, system: str = "brain", stamp: str = "") -> Figure:
    """Draw RE–AN and RE–AI similarity as paired bars: one panel a subject over ROIs, or one panel over layers.

    Parameters
    ----------
    table : DataFrame
        Columns system, subject, place, pair, similarity, ci_low, ci_high; method and n are named when there.
    system : str
        ``"brain"`` (Zhang et al. 2021, Fig. 3) or ``"network"`` (their Fig. 5).
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Bars with interval whiskers and a zero line.

    Raises
    ------
    InputError
        When columns are missing or no row belongs to `system`.
    """
    need_columns(table, "similarity", ("system", "subject", "place", "pair", "similarity", "ci_low", "ci_high"))
    rows = table[(table["system"] == system) & table["pair"].isin(list(PAIRS))]
    need_columns(rows, f"similarity ({system})", ())
    rows = rows.assign(subject=rows["subject"].fillna("").astype(str), place=rows["place"].astype(str))
    places, subjects = order_places(rows["place"]), list(dict.fromkeys(rows["subject"]))
    per_row = min(len(subjects), 4)
    width = max(0.56 * len(places), 5.2 if len(subjects) == 1 else 2.3)
    note = join_note(
        "Whiskers: interval. Method: " + (describe_methods(rows) or "not named in the table"), describe_sizes(rows)
    )
    with figure_style():
        figure = new_figure(
            width * per_row + 0.7, (2.6 + names_height(places, width)) * -(-len(subjects) // per_row), stamp, note
        )
        panels = panel_grid(figure, len(subjects), per_row)
        for panel, subject in zip(panels, subjects, strict=True):
            _draw_pairs(panel, rows[rows["subject"] == subject], places)
            name_axis(panel, places, width)
            panel.set_title(subject, parse_math=False)
        for panel in panels[::per_row]:
            panel.set_ylabel("similarity of RDMs")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return figure


def _draw_pairs(axes: Axes, rows: pd.DataFrame, places: Sequence[str]) -> None:
    """Draw two bars a place; whiskers as lines, because a bootstrap interval need not contain its estimate."""
    for shift, pair in ((-0.2, "RE-AN"), (0.2, "RE-AI")):
        of_pair = rows[rows["pair"] == pair].drop_duplicates("place").set_index("place").reindex(list(places))
        x = np.arange(len(places)) + shift
        style: dict[str, Any] = {
            "facecolor": COLORS[pair],
            "edgecolor": "white",
            "hatch": HATCHES[pair],
            "linewidth": 0,
        }
        axes.bar(x, of_pair["similarity"].astype(float), 0.38, label=PAIRS[pair], **style)
        low, high = of_pair["ci_low"].to_numpy(dtype=float), of_pair["ci_high"].to_numpy(dtype=float)
        known = np.isfinite(low) & np.isfinite(high)
        axes.vlines(x[known], low[known], high[known], color=INK, linewidth=1.1)
        for ends in (low, high):
            axes.hlines(ends[known], x[known] - 0.07, x[known] + 0.07, color=INK, linewidth=1.1)
    axes.axhline(0, color=INK, linewidth=0.9)
    axes.grid(axis="y")


# --------------------------------------------------------------------------------------------------- layer x ROI


def _mean_rows(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Rows of the mean over subjects; where a table has none, the mean of the subjects' rows."""
    need_columns(table, "layer by ROI", ("subject", "roi", "layer", "similarity"))
    rows = table[table["kind"] == kind] if "kind" in table.columns else table
    need_columns(rows, f"layer by ROI ({kind})", ())
    if (rows["subject"] == "mean").any():
        return rows[rows["subject"] == "mean"]
    numbers = [c for c in ("similarity", "ceiling_low", "ceiling_high") if c in rows.columns]
    return rows.groupby(["roi", "layer"], sort=False, as_index=False)[numbers].mean().assign(subject="mean")


def _ceilings(rows: pd.DataFrame) -> dict[str, tuple[float, float]]:
    if not {"ceiling_low", "ceiling_high"} <= set(rows.columns):
        return {}
    first = rows.drop_duplicates("roi").set_index("roi")[["ceiling_low", "ceiling_high"]].astype(float)
    known = first[np.isfinite(first).all(axis=1)]
    return {str(roi): (float(low), float(high)) for roi, (low, high) in zip(known.index, known.to_numpy())}


def _ceiling_name(rows: pd.DataFrame) -> str:
    names = list(dict.fromkeys(rows["ceiling"].dropna().astype(str))) if "ceiling" in rows.columns else []
    return "Noise ceiling: " + "; ".join(names) if names else ""


def layer_roi_matrix(table: pd.DataFrame, *, kind: str = "RE", stamp: str = "") -> Figure:
    """Draw layers × ROIs as a heat map with the mean similarity in each cell and the ceiling over each ROI.

    Parameters
    ----------
    table : DataFrame
        Columns subject (``"mean"`` for the mean over subjects), roi, layer, similarity; ceiling_low, ceiling_high,
        ceiling, method, kind and n are used when there.
    kind : str
        Which images.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Early layers on top; the best layer of each ROI is framed.

    Raises
    ------
    InputError
        When columns or rows are missing.
    """
    rows = _mean_rows(table, kind)
    rois, layers = order_places(rows["roi"]), list(dict.fromkeys(rows["layer"].astype(str)))
    unique = rows.drop_duplicates(["layer", "roi"])
    values = unique.pivot(index="layer", columns="roi", values="similarity").reindex(index=layers, columns=rois)
    grid, ceilings = values.to_numpy(dtype=float), _ceilings(rows)
    heads = [roi + ("\n" + "–".join(map(format_number, ceilings[roi])) if roi in ceilings else "") for roi in rois]
    under = "Under each ROI: its noise ceiling, low–high" if ceilings else ""
    note = join_note(
        "Mean over subjects; frame: best layer of the ROI", under, _ceiling_name(rows), describe_sizes(rows)
    )
    with figure_style():
        figure = new_figure(max(5.6, 0.95 * len(rois) + 2.2), 0.36 * len(layers) + 1.1, stamp, note)
        axes = figure.subplots()
        drawn = axes.imshow(grid, cmap=MATRIX_COLORMAP, aspect="auto", vmin=float(np.nanmin(grid, initial=0.0)))
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(len(rois)), heads, parse_math=False)
        axes.set_yticks(range(len(layers)), layers, parse_math=False)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        for row, column in np.argwhere(np.isfinite(grid)):
            bright = grid[row, column] > 0.45 * drawn.get_clim()[0] + 0.55 * drawn.get_clim()[1]
            best = grid[row, column] == np.nanmax(grid[:, column])
            style: dict[str, Any] = {
                "color": "black" if bright else "white",
                "fontweight": "bold" if best else "normal",
            }
            axes.text(column, row, format_number(grid[row, column]), ha="center", va="center", **style)
            if best:
                axes.add_patch(_cell_frame(column, row, style["color"]))
        figure.colorbar(drawn, ax=axes, aspect=25, pad=0.02).set_label("similarity of RDMs")
        return figure


def _cell_frame(column: int, row: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.46, row - 0.43), 0.92, 0.86, fill=False, edgecolor=color, linewidth=1.6)


def layer_roi_lines(table: pd.DataFrame, *, kind: str = "RE", stamp: str = "") -> Figure:
    """Draw similarity over layers, one panel a ROI, with its interval and the noise ceiling as bands.

    Parameters
    ----------
    table : DataFrame
        As for `layer_roi_matrix`, with ci_low and ci_high.
    kind : str
        Which images.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Mean over subjects as a line, each subject as small dots.

    Raises
    ------
    InputError
        When columns or rows are missing.
    """
    mean = _mean_rows(table, kind)
    single = table[(table["subject"] != "mean") & ((table["kind"] == kind) if "kind" in table.columns else True)]
    rois, layers = order_places(mean["roi"]), list(dict.fromkeys(mean["layer"].astype(str)))
    ceilings, per_row = _ceilings(mean), min(3, len(rois))
    about = "Line: mean over subjects, band around it: interval; dots: subjects; gray: noise ceiling"
    note = join_note(about, describe_methods(mean), _ceiling_name(mean), describe_sizes(mean))
    width = max(2.5, 0.3 * len(layers))
    with figure_style():
        figure = new_figure(
            width * per_row + 0.7, (1.85 + names_height(layers, width)) * -(-len(rois) // per_row), stamp, note
        )
        panels = panel_grid(figure, len(rois), per_row)
        for panel, roi in zip(panels, rois, strict=True):
            of_roi = mean[mean["roi"] == roi].drop_duplicates("layer").set_index("layer").reindex(layers)
            if roi in ceilings:
                panel.axhspan(*ceilings[roi], color="#bdbdbd", alpha=0.55, linewidth=0)
            if {"ci_low", "ci_high"} <= set(of_roi.columns):
                low, high = (of_roi[name].to_numpy(dtype=float) for name in ("ci_low", "ci_high"))
                panel.fill_between(range(len(layers)), low, high, color=COLORS["AI"], alpha=0.2, linewidth=0)
            dots = single[single["roi"] == roi]
            x = [layers.index(layer) for layer in dots["layer"].astype(str)]
            panel.plot(x, dots["similarity"], linestyle="", marker=".", markersize=3.5, color=FAINT)
            panel.plot(range(len(layers)), of_roi["similarity"], color=COLORS["AI"], marker="o", markersize=4)
            panel.axhline(0, color=INK, linewidth=0.8)
            panel.grid(axis="y")
            panel.set_title(roi, parse_math=False)
            name_axis(panel, layers, width)
        for panel in panels[::per_row]:
            panel.set_ylabel("similarity of RDMs")
        return figure


# ----------------------------------------------------------------------------------------------------- encoding


def encoding_bars(table: pd.DataFrame, *, stamp: str = "") -> Figure:
    """Draw encoding accuracy over layers, one panel a ROI, one line for each kind of test image.

    Parameters
    ----------
    table : DataFrame
        Columns subject, roi, layer, test (RE, AI, AN), r; scheme, method and n_train are named when there.
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
    about = f"Lines: mean over {n_subjects} subject(s); small symbols: each subject"
    with figure_style():
        note = join_note("Trained on RE. " + about, describe_methods(table))
        figure = new_figure(
            width * per_row + 0.7, (1.85 + names_height(layers, width)) * -(-len(rois) // per_row), stamp, note
        )
        panels = panel_grid(figure, len(rois), per_row)
        for panel, roi in zip(panels, rois, strict=True):
            _draw_tests(panel, table[table["roi"] == roi], layers)
            name_axis(panel, layers, width)
            panel.set_title(roi, parse_math=False)
        for panel in panels[::per_row]:
            panel.set_ylabel("prediction accuracy, r")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=3)
        return figure


def _draw_tests(axes: Axes, rows: pd.DataFrame, layers: Sequence[str]) -> None:
    for shift, test in ((-0.12, "RE"), (0.0, "AI"), (0.12, "AN")):
        of_test = rows[rows["test"] == test]
        if of_test.empty:
            continue
        mean = of_test.groupby("layer", sort=False)["r"].mean().reindex(list(layers))
        style: dict[str, Any] = {"color": COLORS[test], "marker": MARKERS[test]}
        x = np.array([layers.index(layer) for layer in of_test["layer"].astype(str)])
        axes.plot(x + shift, of_test["r"], linestyle="", markersize=2.4, alpha=0.55, markeredgewidth=0, **style)
        name = "test on held-out RE" if test == "RE" else f"test on {test}"
        axes.plot(np.arange(len(layers)) + shift, mean, markersize=4.5, linewidth=1.4, label=name, **style)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y")
