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

from neurometamer.figures.metamers import metamer_sheet
from neurometamer.figures.pages import percentile_rdm, rdm_heatmaps, stimulus_sheet
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    HATCHES,
    INK,
    MARKERS,
    MATRIX_COLORMAP,
    PAIRS,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "encoding_bars",
    "layer_roi_lines",
    "layer_roi_matrix",
    "metamer_sheet",
    "percentile_rdm",
    "rdm_heatmaps",
    "save_figure",
    "similarity_bars",
    "stimulus_sheet",
]


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
    about = (
        f"Trained on RE. Lines: mean over {n_subjects} subject(s); small symbols: each subject; no interval is drawn"
    )
    method = describe_methods(table)
    with figure_style():
        note = join_note(about, f"Method: {method}" if method else "")
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
