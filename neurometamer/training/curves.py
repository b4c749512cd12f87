"""Accuracy of a trained network on clear, attacked, blurred and noisy images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, unknown_name
from neurometamer.run_options import RunOptions
from neurometamer.training.cuts import Cuts, batches, image_seed
from neurometamer.training.networks import PixelNetwork, copied_for_training, memory_for
from neurometamer.training.perturbations import (
    Batch,
    check_radius,
    check_sigma,
    perturb,
)
from neurometamer.training.pictures import LabeledImages
from neurometamer.training.recipes import ADVERSARIAL, RANDOM, TrainingRecipe
from stimuli_gen.batches import images_at_once
from stimuli_gen.models import resolve_device
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.precision import float32_products
from stimuli_gen.transfers import send

_LEVELS = {
    **dict.fromkeys((*ADVERSARIAL, *RANDOM), "radius"),
    "blur": "sigmas",
    "gaussian_noise": "ssnrs",
    "fourier_noise": "ssnrs",
}
"""Perturbation → field of the recipe that a curve goes over."""

Change = Callable[[nn.Module, Batch], Tensor]


def accuracy(
    network: nn.Module,
    cuts: Cuts,
    batch_size: int | None,
    workers: int = 0,
    change: Change | None = None,
    n_tries: int = 1,
) -> float:
    """Measure the share of images that a network classifies rightly, in every try.

    Parameters
    ----------
    network : torch.nn.Module
        Pixels in, logits out.
    cuts : Cuts
        Images.
    batch_size : int, optional
        Images at a time; see `stimuli_gen.batches.images_at_once` for None.
    workers : int
        Processes that decode, see `neurometamer.training.pictures.batches`.
    change : callable, optional
        Called with network and batch before each pass.
    n_tries : int
        Times that each image is changed and classified; it must be right every time.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        When memory does not hold so many images.
    """
    n_images = len(cuts)
    device = next(network.parameters()).device
    size = images_at_once(batch_size, device)
    rows = []
    for first in range(0, n_images, size):
        last = min(first + size, n_images)
        rows.append(list(range(first, last)))
    was_training = network.training
    network.eval()
    n_right: Tensor | int = 0
    loaded = batches(cuts, rows, -1, workers=workers, device=device)
    classes = torch.tensor(cuts.images.labels, dtype=torch.long).to(device)
    for own, pixels in zip(rows, loaded, strict=True):
        images = send(pixels, device)
        labels = classes[own[0] : own[0] + len(own)]
        right = torch.ones(len(own), dtype=torch.bool, device=device)
        for number in range(n_tries):
            seeds = [image_seed(cuts.seed, row, number, 6) for row in own]
            batch = Batch(
                images=images,
                labels=labels,
                seeds=np.array(seeds),
                places=np.arange(len(own)),
                n_whole=len(own),
            )
            with memory_for(len(own), device, "give a smaller batch_size (--batch-size)"):
                seen = images if change is None else change(network, batch)
                with torch.no_grad():
                    said = network(seen).argmax(dim=1)
            right &= said == labels
        n_right = n_right + right.sum()
    network.train(was_training)
    return int(n_right) / n_images


@checked_with(own=("network",))
def accuracy_curve(
    network: nn.Module,
    images: LabeledImages,
    preprocessing: Preprocessing,
    perturbation: str,
    levels: Sequence[float],
    *,
    attack_steps: int = 50,
    restarts: int = 1,
    color: str = "rgb",
    seed: int = 0,
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Measure accuracy at several levels of a perturbation.

    Parameters
    ----------
    network : torch.nn.Module
        Takes normalized images, returns logits.
    images : LabeledImages
        Images that it was not trained on.
    preprocessing : Preprocessing
        Of the network.
    perturbation : str
        See `neurometamer.training.PERTURBATIONS`.
    levels : sequence of float
        Radii (pixels in [0, 1]) of attacks and random perturbations, sigmas (pixels) of blur, SSNRs
        of noise. No perturbation at radius 0, sigma 0 and SSNR 1.
    attack_steps : int
        Steps of an attack, each 2.5 times the radius divided by their number.
    restarts : int
        Random starts of an attack, or draws; an image counts where the network is right every time.
    color : str
        What the network sees of color, see `neurometamer.training.COLORS`; a network of
        `train_network` with ``one_channel`` takes color images: ``rgb``.
    seed : int
        Of the draws.
    run : RunOptions, optional
        Device and images at a time.

    Returns
    -------
    pandas.DataFrame
        perturbation, level, accuracy, its 95 % interval (Wilson) over images (low, high), n_images,
        attack_steps, restarts.

    Raises
    ------
    InputError
        When a name is unknown or a level makes no sense.

    Examples
    --------
    >>> levels = np.zeros((4, 3, 16, 16), dtype=np.uint8)
    >>> images = LabeledImages(levels=levels, labels=[0, 1, 0, 1], class_names=("cat", "cup"))
    >>> gray = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> preprocessing = Preprocessing(size=(16, 16), resize=16, interpolation="bilinear", **gray)
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    >>> network = nn.Sequential(*layers)
    >>> accuracy_curve(network, images, preprocessing, "blur", [0, 1])["accuracy"].tolist()
    [0.5, 0.5]
    """
    from scipy.stats import binomtest

    if perturbation not in _LEVELS:
        raise unknown_name("perturbation", perturbation, _LEVELS)
    if restarts < 1 or attack_steps < 1:
        raise InputError(
            f"restarts is {restarts} and attack_steps {attack_steps}; give at least 1."
        )
    run = RunOptions() if run is None else run
    if perturbation == "blur":
        for sigma in levels:
            check_sigma(sigma, preprocessing.size)
    device = resolve_device(run.device)
    private = copied_for_training(network)
    pixels = PixelNetwork(private, preprocessing, color, len(images.class_names)).to(device)
    cuts = Cuts(images, preprocessing, "none", seed)
    is_attack = perturbation in ADVERSARIAL
    changes: dict[float, Change | None] = {}
    for level in levels:  # all are checked before the first is measured
        is_none = level == (1 if perturbation.endswith("noise") else 0)
        changes[level] = None
        if not is_none:
            recipe = _recipe(perturbation, float(level), attack_steps, seed)
            check_radius(recipe, preprocessing.size)
            changes[level] = partial(_perturbed, recipe=recipe)
    rows = []
    for level in levels:
        change = changes[level]
        is_none = change is None
        tries = 1 if is_none else restarts
        with float32_products():
            right = accuracy(pixels, cuts, run.batch_size, change=change, n_tries=tries)
        n_right = round(right * len(images))
        interval = binomtest(n_right, len(images)).proportion_ci(method="wilson")
        row = {
            "perturbation": perturbation,
            "level": float(level),
            "accuracy": right,
            "low": float(interval.low),
            "high": float(interval.high),
            "n_images": len(images),
            "attack_steps": attack_steps if is_attack and not is_none else 0,
            "restarts": tries,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def _perturbed(network: nn.Module, batch: Batch, recipe: TrainingRecipe) -> Tensor:
    return perturb(network, batch, recipe)


def _recipe(perturbation: str, level: float, attack_steps: int, seed: int) -> TrainingRecipe:
    """Make the recipe of one level of a perturbation."""
    field = _LEVELS[perturbation]
    value: Any = level if field == "radius" else (level,)
    changes: dict[str, Any] = {"perturbation": perturbation, field: value, "seed": seed}
    if perturbation in ADVERSARIAL:
        changes["attack_steps"] = attack_steps
        step_size = 2.5 * level / attack_steps
        # signs of gradients: all longer steps leave [0, 1]
        changes["attack_step_size"] = (
            min(step_size, 1.0) if perturbation == ADVERSARIAL[1] else step_size
        )
    return TrainingRecipe(**changes)
