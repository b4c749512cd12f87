"""The page of ``neurometamer train``: what the trained network withstands, and how it was trained.

It computes nothing of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from neurometamer.errors import count_text
from neurometamer.figures import training as figures
from neurometamer.figures.style import format_number
from neurometamer.report.methods import software_text
from neurometamer.report.page import (
    FigureEntry,
    Lead,
    PageContent,
    Section,
    borrow_figure,
    draw_sections,
    folded_grid,
    settings_grids,
    table_figure,
    write_page,
)
from neurometamer.training.recipes import AUGMENTATIONS

PAGE = "report.html"
PARTS = (("settings", "Settings"), ("versions", "Versions"))
WORKS_USED: Mapping[str, str] = {
    "madry2018": "attacks by projected gradient descent",
    "feather2023": "random perturbations of a fixed size",
    "jang2021": "noise by the ratio of signal to signal and noise",
}
"""Key of a work to what is used of it."""
OF_PERTURBATION = {
    "random_l2": "feather2023",
    "random_linf": "feather2023",
    "gaussian_noise": "jang2021",
    "fourier_noise": "jang2021",
}
"""Perturbation of a training to the work that it comes from; attacks are in every page."""
RECIPE_WORDS = {
    "adversarial_l2": "attacked within an L2 radius of {radius:g} ({attack_steps} steps of "
    "{attack_step_size:g})",
    "adversarial_linf": "attacked within an L∞ radius of {radius:g} ({attack_steps} steps of "
    "{attack_step_size:g})",
    "random_l2": "moved in random directions by an L2 length of {radius:g}",
    "random_linf": "moved to random corners at an L∞ distance of {radius:g}",
    "blur": "blurred by Gaussians (the settings say how)",
    "gaussian_noise": "mixed with Gaussian noise (SSNR {ssnrs})",
    "fourier_noise": "mixed with Fourier noise (SSNR {ssnrs})",
}
"""Perturbation to what was done to the training images; in braces are settings of the recipe."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPage:
    """What the page of ``neurometamer train`` is made of.

    Parameters
    ----------
    curves : pandas.DataFrame
        ``curves.csv``.
    log : pandas.DataFrame
        ``log.csv``.
    record : mapping
        ``provenance.json``: settings, class_names, n_training, n_validation, versions.
    """

    curves: pd.DataFrame
    log: pd.DataFrame
    record: Mapping[str, Any]

    @property
    def n_classes(self) -> int:
        """Count the classes.

        Returns
        -------
        int
            Number of classes.
        """
        return len(self.record["class_names"])


FIGURES: dict[str, FigureEntry[TrainingPage]] = {
    "accuracy": table_figure(
        "accuracy",
        section="accuracy",
        table=lambda page: page.curves,
        plot=lambda table, page: figures.accuracy_lines(table, chance=1 / page.n_classes),
        caption="Accuracy on validation images that are attacked, blurred, and perturbed as in the "
        "training, by strength; the leftmost are as they are.",
        alt="Lines of accuracy over strength, one panel a perturbation; the values are in "
        "curves.csv.",
    ),
    "training": table_figure(
        "training",
        section="training",
        table=lambda page: page.log,
        plot=lambda table, page: figures.training_lines(table),
        caption="Loss and accuracy over the epochs of the training.",
        alt="Lines of loss and accuracy over epochs; the values are in log.csv.",
    ),
}
"""The figures of the page, in order."""


def write_training_page(
    folder: Path, curves: pd.DataFrame, log: pd.DataFrame, record: Mapping[str, Any]
) -> Path:
    """Draw the figures of a training and write its page.

    Parameters
    ----------
    folder : Path
        Gets ``report.html``, ``methods.txt``, ``references.bib`` and ``figures/accuracy`` and
        ``figures/training`` as SVG, PNG and CSV.
    curves, log : pandas.DataFrame
        ``curves.csv`` and ``log.csv`` of the folder.
    record : mapping
        ``provenance.json`` of the folder.

    Returns
    -------
    Path
        The page; it loads nothing and needs no JavaScript.
    """
    page = TrainingPage(curves=curves, log=log, record=record)
    sections = [
        Section(key="accuracy", title="What the network withstands"),
        Section(key="training", title="The training"),
    ]
    sections = draw_sections(folder, sections, FIGURES, page)
    charts, sections = borrow_figure(sections, ["accuracy"])
    recipe = record["settings"]
    used = {"madry2018", OF_PERTURBATION.get(recipe["perturbation"], "madry2018")}
    content = PageContent(
        record=record,
        lead=f"{record['n_training']} training images and {record['n_validation']} validation "
        f"images of {count_text(page.n_classes, 'class', 'classes')}; {_trained_on(recipe)}.",
        first=Lead(headlines=headlines(page), charts=charts),
        sections=sections,
        tables=[
            folded_grid(curves, "Accuracy by perturbation and level", "curves.csv", name="curves"),
            folded_grid(log, "Epochs", "log.csv", name="log"),
        ],
        settings=settings_grids(record, PARTS),
        methods=[methods_sentence(page), software_text(record)],
        works={key: use for key, use in WORKS_USED.items() if key in used},
    )
    return write_page(
        folder / PAGE,
        "rsa.html",
        content,
        command="neurometamer train",
        question="What does this network withstand?",
    )


def headlines(page: TrainingPage) -> list[str]:
    """Say how accurate the network is on clear images, and at the strongest of each perturbation.

    Parameters
    ----------
    page : TrainingPage
        Its tables.

    Returns
    -------
    list of str
        One sentence a perturbation, with the 95 % intervals of the table.
    """
    sentences = []
    for name, own in page.curves.groupby("perturbation", sort=False):
        # ratios of signal to noise fall as the noise grows
        ordered = own.sort_values("level", ascending=not str(name).endswith("noise"))
        clear, strongest = ordered.iloc[0], ordered.iloc[-1]
        axis = figures.LEVELS.get(str(name), str(name))
        shares = []
        for row in (strongest, clear):
            low, high = (format_number(row[end]) for end in ("low", "high"))
            shares.append(f"{format_number(row['accuracy'])} [{low}, {high}]")
        sentences.append(
            f"{axis[0].upper()}{axis[1:]} {strongest['level']:.3g}: accuracy {shares[0]}, on clear "
            f"images {shares[1]}."
        )
    return sentences


def _trained_on(recipe: Mapping[str, Any]) -> str:
    """Say what the network saw while it was trained."""
    name = recipe["perturbation"]
    if name == "none":
        seen = "images as they are"
    else:
        values = dict(recipe, ssnrs=", ".join(f"{ratio:g}" for ratio in recipe["ssnrs"]))
        seen = f"images {RECIPE_WORDS.get(name, name).format(**values)}"
    colors = {"gray": ", in gray", "one_channel": ", in gray (one channel)"}
    return f"trained on {seen}{colors.get(recipe['color'], '')}"


def methods_sentence(page: TrainingPage) -> str:
    """Write the training as a paragraph for a manuscript.

    Parameters
    ----------
    page : TrainingPage
        Its record.

    Returns
    -------
    str
        What was trained on what, how long, how steps were taken, and what was kept.
    """
    recipe = page.record["settings"]
    schedule = {"constant": "a constant learning rate of", "step": "a learning rate of"}
    rate = schedule.get(recipe["schedule"], "a cosine schedule from a learning rate of")
    falls = ""
    if recipe["schedule"] == "step":
        falls = f" (times {recipe['step_factor']:g} every {recipe['step_epochs']} epochs)"
    optimizer = {"sgd": f"SGD with momentum {recipe['momentum']:g}", "adamw": "AdamW"}
    n_epochs = count_text(recipe["epochs"], "epoch")
    return (
        f"The network was {_trained_on(recipe)}, cut to {AUGMENTATIONS[recipe['augment']]}, for "
        f"{n_epochs} in batches of "
        f"{recipe['train_batch_size']}, by {optimizer[recipe['optimizer']]}, weight decay "
        f"{recipe['weight_decay']:g} and {rate} {recipe['learning_rate']:g}{falls}. The weights "
        "of the first epoch of the best accuracy on clear validation images were kept. Accuracy "
        "under attack is that under projected gradient descent from a random start within the "
        "radius, accuracy under blur that of images blurred by a Gaussian, accuracy under noise "
        "and random perturbations that of images with one draw each; intervals are "
        "Wilson's, over images. The validation images chose the epoch, which favors them."
    )
