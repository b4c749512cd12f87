"""Figures of recognition experiments: tables in, matplotlib figures out.

Proportions correct are drawn from 0 to 1 with chance as a dotted line. Observers differ in color,
marker and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.figures.layout import top_legend
from neurometamer.figures.style import (
    FAINT,
    HUES,
    INK,
    SIGNS,
    clip_name,
    figure_style,
    join_note,
    name_axis,
    names_height,
    need_columns,
    new_figure,
    panel_grid,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHARE_COLORMAP = "cividis"


def _line_style(name: str, rank: int) -> dict[str, Any]:
    if name == "people":
        return {
            "color": INK,
            "marker": "o",
            "linestyle": "-",
        }
    return {
        "color": HUES[rank % len(HUES)],
        "marker": SIGNS[rank % len(SIGNS)],
        "linestyle": (0, (5, 2)),
    }


def _add_legend(figure: Figure, axes: Sequence[Axes], width: float, stamp: str) -> None:
    handle_of: dict[str, Any] = {}
    for panel in axes:
        handles, labels = panel.get_legend_handles_labels()
        for label, handle in zip(labels, handles):
            handle_of[label] = handle
    handles = list(handle_of.values())
    labels = list(handle_of)
    top_legend(figure, handles, labels, width, stamp)


def _panels(
    ticks: Sequence[str], lines: Sequence[str], titles: Sequence[str], note: str, stamp: str
) -> tuple[Figure, list[Axes], float, int]:
    """Make panels with an x axis of names; given are also the width of each and how many a row."""
    n_panels = len(titles)
    per_row, width = min(3, n_panels), max(2.7, 0.36 * len(ticks))
    if n_panels == 1:
        width = max(width, 4.2)
    longest = max(len(name) for name in lines)
    slot = 0.6 + 0.085 * longest
    columns = max(1, min(len(lines), int(width * per_row / slot)))
    n_rows = -(-n_panels // per_row)
    legend_rows = -(-len(lines) // columns)
    height = (2.1 + names_height(ticks, width)) * n_rows + 0.2 * legend_rows
    if stamp:
        height += 0.34
    figure = new_figure(width * per_row + 0.7, height, "", note)
    axes = panel_grid(figure, n_panels, per_row)
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(clip_name(title, int((width - 0.4) / 0.085)), parse_math=False)
        panel.grid(axis="y")
        name_axis(panel, ticks, width)
    return figure, axes, width, per_row


@checked
def recognition_lines(
    table: pd.DataFrame, *, panels: str = "model", chance: float = 1 / 16, stamp: str = ""
) -> Figure:
    """Draw shares of correct answers over stages, with standard errors and intervals.

    Parameters
    ----------
    table : DataFrame
        Columns observer, network, model, stage, proportion, sem; ci_low and ci_high are drawn as
        bands, n and the methods are named when there.
    panels : {"model", "observer"}
        One panel a model with a line an observer, or the other way round.
    chance : float
        Share of correct answers of a guesser.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Whiskers: one standard error to each side.

    Raises
    ------
    InputError
        When columns or rows are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import recognition_lines
    >>> observers = {"observer": ["human"] * 2 + ["network"] * 2, "network": ["", "", "vgg", "vgg"]}
    >>> table = pd.DataFrame({**observers, "model": "alexnet", "stage": ["early", "late"] * 2})
    >>> table["proportion"] = [0.9, 0.4, 0.8, 0.2]
    >>> figure = recognition_lines(table.assign(sem=0.05))
    >>> [text.get_text() for text in figure.legends[0].get_texts()]
    ['people', 'vgg']
    """
    need_columns(table, "curves", ("observer", "network", "model", "stage", "proportion", "sem"))
    network = table["network"].fillna("").astype(str)
    observer_names = network.where(table["observer"] == "network", "people")
    rows = table.assign(observer=observer_names, model=table["model"].astype(str))
    rows["stage"] = rows["stage"].astype(str)
    by, lines = ("model", "observer") if panels == "model" else ("observer", "model")
    titles, names = list(dict.fromkeys(rows[by])), list(dict.fromkeys(rows[lines]))
    stages = list(dict.fromkeys(rows["stage"]))
    parts = []
    if np.isfinite(rows["sem"].astype(float)).any():
        whiskers = "Whiskers: ± 1 s.e.m."
        if "sem_method" in rows.columns:
            methods = dict.fromkeys(rows["sem_method"])
            whiskers += f" {', '.join(methods)}"
        parts.append(whiskers)
    if "method" in rows.columns and rows["method"].notna().any():
        parts.append(f"Bands: {rows['method'].dropna().iloc[0]}")
    people = rows[rows["observer"] == "people"]
    if "n" in rows.columns and len(people):
        parts.append(f"n = {int(people['n'].max())} people")
    note = join_note(*parts, f"Dotted: chance, {chance:.3g}")
    with figure_style():
        figure, axes, width, per_row = _panels(stages, names, titles, note, stamp)
        for panel, title in zip(axes, titles, strict=True):
            for rank, name in enumerate(names):
                own = rows[(rows[by] == title) & (rows[lines] == name)]
                own = own.drop_duplicates("stage").set_index("stage").reindex(stages)
                style = _line_style(name, rank)
                if lines == "model":
                    style["linestyle"] = "-"
                _draw_line(panel, own, name, style)
            panel.axhline(
                chance,
                color=FAINT,
                linewidth=1,
                linestyle=":",
            )
        for panel in axes[::per_row]:
            panel.set_ylabel("proportion correct")
            panel.set_ylim(-0.03, 1.03)
        _add_legend(figure, axes, width * per_row, stamp)
        return figure


def _interval(own: pd.DataFrame) -> tuple[np.ndarray, np.ndarray] | None:
    if "ci_low" not in own.columns or "ci_high" not in own.columns:
        return None
    low = own["ci_low"]
    high = own["ci_high"]
    return low.to_numpy(dtype=float), high.to_numpy(dtype=float)


def _draw_line(axes: Axes, own: pd.DataFrame, name: str, style: dict[str, Any]) -> None:
    values = own["proportion"].to_numpy(dtype=float)
    if not np.isfinite(values).any():
        return
    x = np.arange(len(own))
    interval = _interval(own)
    if interval is not None:
        axes.fill_between(
            x,
            *interval,
            color=style["color"],
            alpha=0.13,
            linewidth=0,
        )
    errors = own["sem"].to_numpy(dtype=float)
    known = np.isfinite(errors) & np.isfinite(values)
    low, high = (values - errors)[known], (values + errors)[known]
    axes.vlines(x[known], low, high, color=style["color"], linewidth=1.1)
    axes.plot(
        x,
        values,
        markersize=4.5,
        linewidth=1.4,
        label=clip_name(name, 34),
        **style,
    )


@checked
def confusion_matrices(table: pd.DataFrame, *, stamp: str = "") -> Figure:
    """Draw confusion matrices of one observer: models in rows, stages in columns.

    Parameters
    ----------
    table : DataFrame
        Columns model, stage, truth, response and share, of one observer.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        True categories down, answers across; empty where a category was not shown.

    Raises
    ------
    InputError
        When columns or rows are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import confusion_matrices
    >>> pairs = {"truth": ["cat", "cat", "dog", "dog"], "response": ["cat", "dog"] * 2}
    >>> table = pd.DataFrame({"model": "alexnet", "stage": "late", **pairs})
    >>> figure = confusion_matrices(table.assign(share=[0.75, 0.25, 0.5, 0.5]))
    >>> figure.axes[0].images[0].get_array().tolist()
    [[0.75, 0.25], [0.5, 0.5]]
    """
    need_columns(table, "confusion", ("model", "stage", "truth", "response", "share"))
    table = table.astype(
        {
            "model": str,
            "stage": str,
            "truth": str,
        }
    )
    models, stages, categories = (
        list(dict.fromkeys(table[name])) for name in ("model", "stage", "truth")
    )
    large = len(models) * len(stages) == 1
    listed = "" if large else f"Order in both directions: {', '.join(categories)}"
    note = join_note(
        "Share of the trials of each true category (down) that got each answer (across)", listed
    )
    # All matrices are tiles of one image: an axes each would take a minute to arrange.
    size, gap = len(categories), 0 if large else 2
    step = size + gap
    shares = np.full((step * len(models) - gap, step * len(stages) - gap), np.nan)
    for (model, stage), own in table.groupby(["model", "stage"], sort=False):
        wide = own.pivot(
            index="truth",
            columns="response",
            values="share",
        )
        wide = wide.reindex(index=categories, columns=categories)
        top, left = step * models.index(model), step * stages.index(stage)
        shares[top : top + size, left : left + size] = wide.to_numpy(dtype=float)
    middle = (size - 1) / 2
    side = 3.4 if large else 1.35
    width, height = max(side * len(stages) + 1.8, 5.2), side * len(models) + 0.6
    with figure_style():
        figure = new_figure(width, height, stamp, note)
        axes = figure.subplots()
        axes.spines[:].set_visible(False)
        drawn = axes.imshow(
            np.ma.masked_invalid(shares),
            cmap=SHARE_COLORMAP,
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
        across = [clip_name(stage, 16) for stage in stages]
        down = [clip_name(model, 20) for model in models]
        axes.set_xticks([k * step + middle for k in range(len(stages))], across, parse_math=False)
        axes.set_yticks([k * step + middle for k in range(len(models))], down, parse_math=False)
        axes.tick_params(
            length=0,
            labeltop=True,
            labelbottom=False,
        )
        if large:
            axes.set_title(f"{models[0]}, {stages[0]}", parse_math=False)
            axes.set_xticks(range(size), categories, rotation=90, fontsize=7)
            axes.set_yticks(range(size), categories, fontsize=7)
        figure.colorbar(
            drawn,
            ax=axes,
            aspect=30,
            pad=0.02,
        ).set_label("share of trials")
        return figure


@checked
def consistency_lines(
    table: pd.DataFrame, *, everywhere: str = "all stages", stamp: str = ""
) -> Figure:
    """Draw the mean error consistency of pairs of observers over stages, one panel a model.

    Parameters
    ----------
    table : DataFrame
        Columns model, stage, pair, kappa, n_pairs; ci_low and ci_high are drawn as whiskers, and
        method is named, when there.
    everywhere : str
        The name of the rows over all stages; drawn last, apart.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Zero: as if errors were independent; one: the same errors.

    Raises
    ------
    InputError
        When columns or rows are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import consistency_lines
    >>> table = pd.DataFrame({"stage": ["early", "late", "all stages"], "kappa": [0.5, 0.2, 0.4]})
    >>> table = table.assign(model="alexnet", pair="human-human", n_pairs=3)
    >>> axes = consistency_lines(table).axes[0]
    >>> [label.get_text() for label in axes.get_xticklabels()], axes.get_ylabel()
    (['early', 'late', 'all stages'], 'error consistency κ')
    """
    need_columns(table, "error consistency", ("model", "stage", "pair", "kappa", "n_pairs"))
    table = table.astype(
        {
            "model": str,
            "pair": str,
            "stage": str,
        }
    )
    models, pairs = list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["pair"]))
    stages = [name for name in dict.fromkeys(table["stage"]) if name != everywhere]
    stages.append(everywhere)
    methods = list(dict.fromkeys(table["method"].dropna())) if "method" in table.columns else []
    note = join_note(
        "Mean kappa of the pairs: 0 as if errors were independent, 1 the same errors (Geirhos et "
        "al. 2020). Pairs without a value, both always right or both always wrong, are left out",
        f"{everywhere}: against independent errors within each stage",
        f"Whiskers: {methods[0]}" if methods else "",
    )
    # Whiskers of a stage stand beside each other.
    step = min(0.08, 0.5 / len(pairs))
    with figure_style():
        figure, axes, width, per_row = _panels(stages, pairs, models, note, stamp)
        for panel, model in zip(axes, models, strict=True):
            for rank, pair in enumerate(pairs):
                own = table[(table["model"] == model) & (table["pair"] == pair)]
                own = own.drop_duplicates("stage").set_index("stage").reindex(stages)
                style = _line_style("people" if pair == "human-human" else pair, rank)
                shift = (rank - (len(pairs) - 1) / 2) * step
                _draw_consistency(panel, own, shift, style)
                panel.plot(
                    [],
                    [],
                    label=clip_name(pair, 40),
                    markersize=4.5,
                    **style,
                )
            panel.axhline(0, color=INK, linewidth=0.8)
        for panel in axes[::per_row]:
            panel.set_ylabel("error consistency κ")
        _add_legend(figure, axes, width * per_row, stamp)
        return figure


def _draw_consistency(axes: Axes, own: pd.DataFrame, shift: float, style: dict[str, Any]) -> None:
    """Draw one kind of pair: a line over the stages.

    The last row, over all stages, is drawn apart.
    """
    values = own["kappa"].to_numpy(dtype=float)
    places = np.arange(len(own))
    x = places + shift
    color = style["color"]
    interval = _interval(own)
    if interval is not None:
        low, high = interval
        known = np.isfinite(low) & np.isfinite(high)
        axes.vlines(
            x[known],
            low[known],
            high[known],
            color=color,
            linewidth=1.1,
        )
    axes.plot(x[:-1], values[:-1], markersize=4.5, **style)
    last = slice(-1, None)
    axes.plot(
        x[last],
        values[last],
        markersize=6,
        color=color,
        marker=style["marker"],
    )


@checked
def scatter_points(table: pd.DataFrame) -> pd.DataFrame:
    """Put people's recognition of each model's stages beside that of networks.

    Only networks that the images were not made for are taken.

    Parameters
    ----------
    table : DataFrame
        Columns observer, network, model, stage, proportion.

    Returns
    -------
    DataFrame
        Model, stage, proportion_human, proportion_others (the mean over those networks) and
        n_networks.

    Raises
    ------
    InputError
        When columns are missing, or no point has both.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import scatter_points
    >>> observers = {"observer": ["human"] * 2 + ["network"] * 2, "network": ["", "", "vgg", "vgg"]}
    >>> table = pd.DataFrame({**observers, "model": "alexnet", "stage": ["early", "late"] * 2})
    >>> table["proportion"] = [0.9, 0.4, 0.8, 0.2]
    >>> scatter_points(table)[["stage", "proportion_human", "proportion_others"]].values.tolist()
    [['early', 0.9, 0.8], ['late', 0.4, 0.2]]
    """
    need_columns(table, "curves", ("observer", "network", "model", "stage", "proportion"))
    key = ["model", "stage"]
    human = table.loc[table["observer"] == "human", [*key, "proportion"]]
    others = table[(table["observer"] == "network") & (table["network"] != table["model"])]
    mean = others.groupby(key, sort=False, as_index=False)["proportion"].mean()
    both = human.merge(mean, on=key, suffixes=("_human", "_others"))
    need_columns(both, "people and other networks", ())
    return both.assign(n_networks=others["network"].nunique())


@checked
def curve_scatter(table: pd.DataFrame, *, stamp: str = "") -> Figure:
    """Draw people's recognition of each model's stages against that of networks.

    Only networks that the images were not made for are taken.

    Parameters
    ----------
    table : DataFrame
        Columns observer, network, model, stage, proportion.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        One point a model and stage: the mean over other networks across, people up (Feather et al.
        2023).

    Raises
    ------
    InputError
        When columns are missing, or no point has both.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import curve_scatter
    >>> observers = {"observer": ["human"] * 2 + ["network"] * 2, "network": ["", "", "vgg", "vgg"]}
    >>> table = pd.DataFrame({**observers, "model": "alexnet", "stage": ["early", "late"] * 2})
    >>> table["proportion"] = [0.9, 0.4, 0.8, 0.2]
    >>> axes = curve_scatter(table).axes[0]
    >>> [line.tolist() for line in axes.lines[0].get_data()]
    [[0.8, 0.2], [0.9, 0.4]]
    """
    both = scatter_points(table)
    n = int(both["n_networks"].iloc[0])
    mean = "one network" if n == 1 else f"mean over {n} networks"
    note = join_note(f"One point a model and stage; {mean}, without the images' own network")
    with figure_style():
        figure = new_figure(4.6, 3.6 + 0.34 * bool(stamp), "", note)
        axes = figure.subplots()
        for rank, (model, own) in enumerate(both.groupby("model", sort=False)):
            style = _line_style(str(model), rank)
            style["linestyle"] = ""
            axes.plot(
                own["proportion_others"],
                own["proportion_human"],
                markersize=5,
                label=clip_name(model, 34),
                **style,
            )
        axes.plot(
            [0, 1],
            [0, 1],
            color=FAINT,
            linewidth=0.8,
            linestyle=":",
        )
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_aspect("equal")
        axes.set_xlabel("proportion correct, other networks")
        axes.set_ylabel("proportion correct, people")
        axes.grid()
        _add_legend(figure, [axes], 4.2, stamp)
        return figure
