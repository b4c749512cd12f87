"""T1, T2: what adversarial training costs, and what trainings make of small networks.

Images are scikit-learn's digits at 32 pixels, networks are small (`digit_networks`). What is
measured holds for them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.digit_networks import (
    LOST,
    SIZE,
    kept_result,
    preprocessing,
    trained_networks,
    weights_digest,
)
from benchmarks.timing import clocked

if TYPE_CHECKING:
    from torch import nn

    from neurometamer.training import LabeledImages

SIGMA = 6.0
"""Blur at which standard and blur-trained networks are compared, pixels; fixed on the validation
images of seed 0."""
COMMON = {"train_batch_size": 63, "augment": "none", "optimizer": "adamw", "learning_rate": 0.001}
N_ATTACKED = 150
"""Test images that are attacked; accuracies on clear and blurred images are of all 400."""
ATTACK_STEPS = 50
RESTARTS = 3
LOOK = 10
N_QUERIES = 600
MOST = 0.15
LEAST = 0.5
BOUNDS = {"standard": ("<=", MOST), "adversarial": (">=", LEAST), "random": ("<=", 0.25)}


def small_network(seed: int) -> nn.Module:
    """Build a small network of three convolutions and two linear layers.

    Parameters
    ----------
    seed : int
        Of its weights.

    Returns
    -------
    torch.nn.Module
        For 32 pixels and ten classes.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        channels = (3, 32, 64, 64)
        for n_before, n_after in itertools.pairwise(channels):
            layers += [nn.Conv2d(n_before, n_after, 3, stride=2, padding=1), nn.ReLU()]
        flat = 64 * (SIZE // 8) ** 2
        layers += [nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 10)]
        return nn.Sequential(*layers)


def measure_step(setup: Setup) -> Sequence[Row]:
    """T1.

    Parameters
    ----------
    setup : Setup
        How to run.

    Returns
    -------
    sequence of Row
        CPU seconds of an adversarial step, in plain ones.
    """
    import torch

    from neurometamer.training import LabeledImages, train_network

    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    levels = random.integers(0, 256, (256, 3, SIZE, SIZE)).astype(np.uint8)
    names = tuple("0123456789")
    images = LabeledImages(levels=levels, labels=np.arange(256) % 10, class_names=names)
    few = LabeledImages(levels=levels[:10] // 2, labels=np.arange(10), class_names=names)
    n_attack = 7
    epochs = {"standard": setup.pick(24, 4), "adversarial": setup.pick(6, 2)}
    attacked = {
        "perturbation": "adversarial_linf",
        "radius": 0.15,
        "attack_step_size": 0.03,
        "attack_steps": n_attack,
        "random_start": False,
    }
    recipes: dict[str, dict[str, Any]] = {"standard": {}, "adversarial": attacked}

    def run(name: str, n_epochs: int, number: int) -> float:
        out = setup.scratch / f"{name}-{n_epochs}-{number}"
        settings = {**COMMON, **recipes[name], "train_batch_size": 64, "epochs": n_epochs}
        cpu, _, _ = clocked(
            lambda: train_network(
                small_network(0), images, few, out=out, preprocessing=preprocessing(), **settings
            )
        )
        return cpu

    seconds: dict[str, list[float]] = {name: [] for name in recipes}
    for number in range(setup.pick(5, 1)):
        for name, n_epochs in epochs.items():
            extra = run(name, n_epochs + 1, number) - run(name, 1, number)
            seconds[name].append(extra / n_epochs)
    plain = float(np.median(seconds["standard"]))
    ratio = float(np.median(seconds["adversarial"])) / (plain * (n_attack + 1))
    return [
        Row(
            what="adversarial step, 7 attack steps, against 8 plain steps",
            value=ratio,
            sense="<=",
            bound=0.85,
            note="3 convolutions, 64 images of 32 pixels; CPU seconds of epochs, one thread",
        )
    ]


def measure_trainings(setup: Setup) -> Sequence[Row]:
    """T2.

    Parameters
    ----------
    setup : Setup
        How to run; quick: one seed, fewer images, steps and queries.

    Returns
    -------
    sequence of Row
        Accuracies of each training, means over seeds, and the worst seed where there is a bound.
    """
    import torch

    torch.set_num_threads(1)
    trained = trained_networks(setup.quick)
    options = attack_options(setup)
    rates: dict[str, dict[str, list[float]]] = {}
    for seed, networks in enumerate(trained.networks):
        for name, network in networks.items():
            measured = measure_network(
                network, trained.parts["test"], trained.radius, seed, options
            )
            for what, rate in measured.items():
                rates.setdefault(what, {}).setdefault(name, []).append(rate)
    radius_row = Row(
        what="radius of attacks and trainings (L∞, pixels in [0, 1])",
        value=trained.radius,
        note="given"
        if setup.quick
        else "found on validation images: the smallest at which every standard network is right on "
        f"at most {LOST:.0%} under 20 steps of PGD",
    )
    tries = "{steps} × {restarts}, {n_attacked} images".format(**options)
    rows = [radius_row]
    for name, under_attack in rates["attacked"].items():
        sense, bound = BOUNDS.get(name, ("", None))
        clear = np.mean(rates["clear"][name])
        row = Row(
            what=f"{name}: accuracy under PGD, {tries}",
            value=float(np.mean(under_attack)),
            sense=sense,
            bound=bound,
            note=f"seeds {_listed(under_attack)}; clear images {clear:.3f}",
        )
        rows += [row, *_worst_seed(row, under_attack)]
    for name, under_attack in rates["attacked"].items():
        lead = np.array(under_attack) - np.array(rates["searched"][name])
        row = Row(
            what=f"{name}: PGD's accuracy above that of a black-box search (no masking)",
            value=float(lead.mean()),
            sense="<=",
            bound=0.03,
            note=f"random search of squares, {options['n_queries']} queries; seeds {_listed(lead)}",
        )
        rows += [row, *_worst_seed(row, lead)]
    gain = np.array(rates["blurred"]["blur"]) - np.array(rates["blurred"]["standard"])
    blurred = ", ".join(f"{name} {np.mean(own):.3f}" for name, own in rates["blurred"].items())
    row = Row(
        what=f"blur: accuracy at sigma {SIGMA:g} above the standard network's",
        value=float(gain.mean()),
        sense=">=",
        bound=0.2,
        note=f"seeds {_listed(gain)}; {blurred}",
    )
    return [*rows, row, *_worst_seed(row, gain)]


def attack_options(setup: Setup) -> dict[str, int]:
    """Choose how networks are attacked.

    Parameters
    ----------
    setup : Setup
        How to run.

    Returns
    -------
    dict of str to int
        Images, steps and restarts of PGD, queries of the search.
    """
    return {
        "n_attacked": setup.pick(N_ATTACKED, 100),
        "steps": setup.pick(ATTACK_STEPS, 20),
        "restarts": setup.pick(RESTARTS, 2),
        "n_queries": setup.pick(N_QUERIES, 300),
    }


def measure_network(
    network: nn.Module,
    test: LabeledImages,
    radius: float,
    seed: int,
    options: Mapping[str, int],
) -> dict[str, float]:
    """Measure what a network withstands.

    Parameters
    ----------
    network : torch.nn.Module
        Trained.
    test : LabeledImages
        Test images.
    radius : float
        Of the attacks, L∞.
    seed : int
        Of starts and queries.
    options : mapping of str to int
        See `attack_options`.

    Returns
    -------
    dict of str to float
        Accuracy on images that are clear, blurred, attacked, and searched.
    """
    few = first_images(test, options["n_attacked"])

    def measure() -> dict[str, float]:
        return {
            "clear": _accuracy(network, test, "blur", 0.0),
            "blurred": _accuracy(network, test, "blur", SIGMA),
            "attacked": _under_attack(
                network,
                few,
                radius,
                steps=options["steps"],
                restarts=options["restarts"],
                seed=seed,
            ),
            "searched": _random_search(network, few, radius, options["n_queries"], seed),
        }

    key = {"weights": weights_digest(network), "radius": radius, "seed": seed, "sigma": SIGMA}
    rates: dict[str, float] = kept_result({**key, **options}, measure)
    return rates


def _worst_seed(row: Row, rates: Sequence[float] | np.ndarray) -> list[Row]:
    """Hold the seed that is farthest off against the bound of the mean."""
    if row.bound is None or len(rates) < 2:
        return []
    worst = max(rates) if row.sense == "<=" else min(rates)
    return [replace(row, what=f"{row.what}, worst seed", value=float(worst), note="")]


def _accuracy(
    network: nn.Module, images: LabeledImages, perturbation: str, level: float, **options: Any
) -> float:
    from neurometamer.training import accuracy_curve

    curve = accuracy_curve(network, images, preprocessing(), perturbation, [level], **options)
    return float(curve["accuracy"].iloc[0])


def _under_attack(
    network: nn.Module,
    images: LabeledImages,
    radius: float,
    *,
    steps: int,
    restarts: int,
    seed: int,
) -> float:
    """Measure accuracy under PGD from random starts, looked at every `LOOK` steps.

    An image that was wrong once is not tried again.
    """
    import torch

    from neurometamer.training.networks import PixelNetwork
    from neurometamer.training.perturbations import attack

    assert images.levels is not None
    seen = PixelNetwork(network, preprocessing())
    pixels = torch.from_numpy(images.levels).float() / 255
    labels = torch.from_numpy(images.labels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        is_right = seen(pixels).argmax(dim=1) == labels
    for _ in range(restarts):
        pixels, labels = pixels[is_right], labels[is_right]
        noise = torch.rand(pixels.shape, generator=generator) * 2 - 1
        tried = (pixels + radius * noise).clamp(0, 1)
        for _ in range(steps // LOOK):
            options: dict[str, Any] = {
                "steps": LOOK,
                "step_size": 2.5 * radius / steps,
                "starts": tried,
            }
            tried = attack(seen, pixels, labels, ball="linf", radius=radius, **options)
            with torch.no_grad():
                is_right = seen(tried).argmax(dim=1) == labels
            pixels, labels, tried = pixels[is_right], labels[is_right], tried[is_right]
            if not len(labels):
                return 0.0
        is_right = torch.ones_like(labels, dtype=torch.bool)
    return len(labels) / len(images)


def first_images(images: LabeledImages, n_images: int) -> LabeledImages:
    """Take the first images of a part.

    Parameters
    ----------
    images : LabeledImages
        In memory.
    n_images : int
        How many.

    Returns
    -------
    LabeledImages
        The first ones.
    """
    assert images.levels is not None
    return replace(images, levels=images.levels[:n_images], labels=images.labels[:n_images])


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _random_search(
    network: nn.Module, images: LabeledImages, radius: float, n_queries: int, seed: int
) -> float:
    """Measure accuracy under a search without gradients: squares at the edge of the L∞ ball.

    A square of random size and signs is kept where it lowers the margin (Andriushchenko et al.
    2020, Square Attack, with a simple schedule of sizes). Images that are wrong leave the search.
    """
    import torch

    assert images.levels is not None
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.from_numpy(images.levels).float() / 255
    labels = torch.from_numpy(images.labels)

    def margin(changed: Any, wanted: Any) -> Any:
        with torch.no_grad():
            logits = network((changed - 0.5) / 0.5)
        own = logits.gather(1, wanted[:, None])[:, 0]
        return own - logits.scatter(1, wanted[:, None], -torch.inf).amax(dim=1)

    stripes = torch.randint(0, 2, (len(pixels), 3, 1, SIZE), generator=generator) * 2 - 1
    is_right = margin(pixels, labels) > 0
    best = (pixels + radius * stripes).clamp(0, 1)
    lowest = margin(best, labels)
    for query in range(n_queries):
        left = is_right & (lowest > 0)
        pixels, labels, best = pixels[left], labels[left], best[left]
        lowest, is_right = lowest[left], is_right[left]
        if not len(pixels):
            break
        side = max(1, round(SIZE * 0.5 * (1 - query / n_queries)))
        top, start = torch.randint(0, SIZE - side + 1, (2,), generator=generator).tolist()
        signs = torch.randint(0, 2, (len(pixels), 3, 1, 1), generator=generator) * 2 - 1
        tried = best.clone()
        window = (slice(None), slice(None), slice(top, top + side), slice(start, start + side))
        tried[window] = (pixels[window] + radius * signs).clamp(0, 1)
        value = margin(tried, labels)
        better = value < lowest
        best[better] = tried[better]
        lowest = torch.minimum(lowest, value)
    return int((is_right & (lowest > 0)).sum()) / len(images)
