"""Figures of trained networks: accuracy over levels of perturbations, and the log of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import count_text
from neurometamer.figures.layout import legend_plan, top_legend
from neurometamer.figures.style import (
    FAINT,
    HUES,
    SIGNS,
    clip_name,
    figure_style,
    join_note,
    need_columns,
    new_figure,
    panel_grid,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEVELS = {
    "adversarial_l2": "attack, L2 radius",
    "adversarial_linf": "attack, L∞ radius",
    "random_l2": "random, L2 radius",
    "random_linf": "random corners, L∞ radius",
    "blur": "blur, sigma (pixels)",
    "gaussian_noise": "Gaussian noise, SSNR",
    "fourier_noise": "Fourier noise, SSNR",
}
"""Perturbation to the name of its axis; others are called as they are."""
SHARES = {"accuracy": "training images", "validation_accuracy": "validation images"}
"""Column of a log to what it was measured on."""
_WIDTH = 2.9


@checked
def accuracy_lines(table: pd.DataFrame, *, chance: float | None = None, stamp: str = "") -> Figure:
    """Draw accuracy over the levels of each perturbation, with intervals as bands.

    Parameters
    ----------
    table : DataFrame
        Columns perturbation, level and accuracy, as `neurometamer.training.accuracy_curve` and
        ``curves.csv`` of ``neurometamer train`` have them; low and high are drawn as bands,
        attack_steps, restarts and n_images are named, and of a column network each has a line.
    chance : float, optional
        Share of correct answers of a guesser, dotted.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        One panel a perturbation.

    Raises
    ------
    InputError
        When columns or rows are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import accuracy_lines
    >>> levels = {"perturbation": ["blur"] * 2 + ["adversarial_linf"] * 2, "level": [0, 2, 0, 0.1]}
    >>> figure = accuracy_lines(pd.DataFrame({**levels, "accuracy": [0.9, 0.6, 0.9, 0.1]}))
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['blur, sigma (pixels)', 'attack, L∞ radius']
    """
    need_columns(table, "accuracy", ("perturbation", "level", "accuracy"))
    rows = table.assign(perturbation=table["perturbation"].astype(str))
    panels = list(dict.fromkeys(rows["perturbation"]))
    networks = [""]
    if "network" in rows.columns:
        rows["network"] = rows["network"].astype(str)
        networks = list(dict.fromkeys(rows["network"]))
    width = max(_WIDTH * min(3, len(panels)), 3.6)
    n_rows = -(-len(panels) // 3)
    height = 2.5 * n_rows
    above = stamp
    if len(networks) > 1:  # the legend stands above the panels, and the stamp above it
        above = ""
        height += legend_plan(networks, width)[1] + 0.34 * bool(stamp)
    with figure_style():
        figure = new_figure(width, height, above, accuracy_note(rows, chance))
        axes = panel_grid(figure, len(panels), 3)
        handles: list[Any] = []
        for panel, name in zip(axes, panels, strict=True):
            of_panel = rows[rows["perturbation"] == name]
            lines = []
            for rank, network in enumerate(networks):
                own = of_panel
                if network:
                    own = of_panel[of_panel["network"] == network]
                lines.append(draw_accuracy(panel, own.sort_values("level"), rank))
            handles = handles or lines
            if chance is not None:
                panel.axhline(chance, color=FAINT, linewidth=1, linestyle=":")
            panel.set_xlabel(LEVELS.get(name, name), parse_math=False)
            panel.grid(axis="y")
            if name.endswith("noise"):
                panel.invert_xaxis()
        axes[0].set_ylim(-0.03, 1.03)
        for panel in axes[::3]:
            panel.set_ylabel("accuracy")
        if len(networks) > 1:
            labels = [clip_name(network, 34) for network in networks]
            top_legend(figure, handles, labels, width, stamp)
        return figure


def draw_accuracy(axes: Axes, own: pd.DataFrame, rank: int) -> Any:
    """Draw one network over the levels of one perturbation.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    own : DataFrame
        Its rows, in the order of the levels.
    rank : int
        Which network it is, for color and marker.

    Returns
    -------
    matplotlib.lines.Line2D
        Its line.
    """
    color = HUES[rank % len(HUES)]
    levels = own["level"].to_numpy(dtype=float)
    shares = own["accuracy"].to_numpy(dtype=float)
    if {"low", "high"} <= set(own.columns):
        low = own["low"].to_numpy(dtype=float)
        high = own["high"].to_numpy(dtype=float)
        axes.fill_between(levels, low, high, color=color, alpha=0.15, linewidth=0)
    marker = SIGNS[rank % len(SIGNS)]
    (line,) = axes.plot(levels, shares, color=color, marker=marker, markersize=4.5, linewidth=1.4)
    return line


def accuracy_note(rows: pd.DataFrame, chance: float | None) -> str:
    """Say what bands and attacks are.

    Parameters
    ----------
    rows : DataFrame
        See `accuracy_lines`.
    chance : float, optional
        Share of correct answers of a guesser.

    Returns
    -------
    str
        For the foot of the figure.
    """
    parts = []
    if {"low", "high"} <= set(rows.columns):
        parts.append("Bands: 95 % intervals (Wilson) over images")
    if "n_images" in rows.columns:
        counts = sorted(set(rows["n_images"].astype(int)))
        parts.append(f"n = {' or '.join(map(str, counts))} images")
    if "attack_steps" in rows.columns and rows["attack_steps"].max() > 0:
        steps = count_text(int(rows["attack_steps"].max()), "step")
        starts = ""
        if "restarts" in rows.columns:
            starts = f" from {count_text(int(rows['restarts'].max()), 'random start')}"
        parts.append(f"Attacks: {steps}{starts}")
    if chance is not None:
        parts.append(f"Dotted: chance, {chance:.3g}")
    return join_note(*parts)


@checked
def training_lines(log: pd.DataFrame, *, stamp: str = "") -> Figure:
    """Draw loss and accuracy over the epochs of a training.

    Parameters
    ----------
    log : DataFrame
        Columns epoch, loss, accuracy (of the images as they were trained on) and
        validation_accuracy, as ``log.csv`` of ``neurometamer train``.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Loss on the left, accuracies on the right; the epoch whose weights are kept is marked.

    Raises
    ------
    InputError
        When columns or rows are missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.figures import training_lines
    >>> log = pd.DataFrame({"epoch": [1, 2, 3], "loss": [2.0, 1.0, 0.5]})
    >>> log = log.assign(accuracy=[0.3, 0.6, 0.8], validation_accuracy=[0.4, 0.7, 0.6])
    >>> figure = training_lines(log)
    >>> int(figure.axes[1].lines[-1].get_xdata()[0])
    2
    """
    need_columns(log, "training", ("epoch", "loss", *SHARES))
    epochs = log["epoch"].to_numpy()
    best = epochs[int(np.argmax(log["validation_accuracy"].to_numpy(dtype=float)))]
    note = f"Dotted: epoch {best}, the first of the best validation accuracy, whose weights are "
    note += "kept. Training images are measured as they are trained on, with what is done to them."
    with figure_style():
        width = 6.4
        figure = new_figure(width, 2.7 + 0.34 * bool(stamp), "", note)
        left, right = figure.subplots(1, 2)
        left.plot(epochs, log["loss"], color=HUES[0], marker="o", markersize=3, linewidth=1.4)
        left.set_ylabel("loss of training images")
        left.set_ylim(bottom=0)
        handles = []
        for rank, column in enumerate(SHARES):
            hue = HUES[rank]
            sign = SIGNS[rank]
            handles += right.plot(
                epochs, log[column], color=hue, marker=sign, markersize=3.5, linewidth=1.4
            )
        right.set_ylabel("accuracy")
        right.set_ylim(-0.03, 1.03)
        for axes in (left, right):
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y")
            axes.axvline(best, color=FAINT, linewidth=1, linestyle=":")
        top_legend(figure, handles, list(SHARES.values()), width, stamp)
        return figure
