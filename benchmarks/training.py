"""T1, T2: what adversarial training costs, and what trainings make of small networks.

Images are scikit-learn's digits at 32 pixels, and synthetic color digits (digits in a hue that
agrees with their class, on crops of photographs); networks are small. What is measured holds for
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.timing import clocked

if TYPE_CHECKING:
    from torch import nn

    from neurometamer.training import LabeledImages

SIZE = 32
RADIUS = 0.15
"""L∞ radius of training and attacks, pixels in [0, 1]."""
SIGMA = 5.0
"""Blur at which standard and blur-trained networks are compared, fixed beforehand, pixels."""
SIGMAS = (0.0, 2.0, 4.0, 6.0)
COMMON = {"train_batch_size": 63, "augment": "none", "optimizer": "adamw", "learning_rate": 0.001}
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    "standard": {"epochs": 20},
    "adversarial": {
        "epochs": 60,
        "perturbation": "adversarial_linf",
        "radius": RADIUS,
        "attack_step_size": RADIUS / 2,
        "attack_steps": 3,
        "random_start": False,
        "learning_rate": 0.0005,
    },
    "random": {"epochs": 20, "perturbation": "random_linf", "radius": RADIUS},
    "blur": {"epochs": 20, "perturbation": "blur", "sigmas": SIGMAS},
}
N_SEEDS = 5
ATTACK_STEPS = 50
RESTARTS = 3


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


def preprocessing() -> Any:
    """Make the preprocessing of the small networks.

    Returns
    -------
    Preprocessing
        32 pixels, mean and standard deviation of one half.
    """
    from stimuli_gen import Preprocessing

    half = (0.5, 0.5, 0.5)
    return Preprocessing(
        size=(SIZE, SIZE), resize=SIZE, interpolation="bilinear", mean=half, std=half
    )


def train_all(
    parts: Mapping[str, LabeledImages], folder: Path, seed: int, **more: Any
) -> dict[str, nn.Module]:
    """Train a network of each kind from the same first weights.

    Parameters
    ----------
    parts : mapping of str to LabeledImages
        training, validation.
    folder : Path
        For what is written.
    seed : int
        Of weights and draws.
    **more : object
        Settings of all recipes.

    Returns
    -------
    dict of str to torch.nn.Module
        Training to network.
    """
    from neurometamer.training import train_network

    networks = {}
    for name, recipe in TRAININGS.items():
        trained = train_network(
            small_network(seed),
            parts["training"],
            parts["validation"],
            out=folder / f"{name}-{seed}",
            preprocessing=preprocessing(),
            **{**COMMON, **recipe, "seed": seed, **more},
        )
        networks[name] = trained.network
    return networks


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
        "radius": RADIUS,
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
        How to run.

    Returns
    -------
    sequence of Row
        Accuracies of each training, means over seeds.
    """
    import torch

    from neurometamer.training import accuracy_curve, digit_images

    torch.set_num_threads(1)
    n_seeds = setup.pick(N_SEEDS, 1)
    more = {"epochs": 2} if setup.quick else {}
    restarts = setup.pick(RESTARTS, 1)
    cut = preprocessing()
    clear: dict[str, list[float]] = {name: [] for name in TRAININGS}
    attacked: dict[str, list[float]] = {name: [] for name in TRAININGS}
    black_box: list[float] = []
    blurred: dict[str, list[float]] = {name: [] for name in TRAININGS}
    for seed in range(n_seeds):
        parts = digit_images(size=SIZE, seed=seed)
        networks = train_all(parts, setup.scratch, seed, **more)
        for name, network in networks.items():
            curve = accuracy_curve(
                network,
                parts["test"],
                cut,
                "adversarial_linf",
                [0, RADIUS],
                attack_steps=setup.pick(ATTACK_STEPS, 5),
                restarts=restarts,
                seed=seed,
            )
            clear[name].append(curve["accuracy"].iloc[0])
            attacked[name].append(curve["accuracy"].iloc[1])
            of_blur = accuracy_curve(network, parts["test"], cut, "blur", [SIGMA], seed=seed)
            blurred[name].append(of_blur["accuracy"].iloc[0])
        robust = networks["adversarial"]
        black_box.append(_random_search(robust, parts["test"], setup.pick(1000, 50), seed))
    rows = []
    bounds = {"standard": ("<=", 0.15), "adversarial": (">=", 0.5), "random": ("<=", 0.25)}
    for name in TRAININGS:
        sense, bound = bounds.get(name, ("", None))
        note = f"{_listed(attacked[name])}; clear images {np.mean(clear[name]):.3f}"
        rows.append(
            Row(
                what=f"{name}: accuracy under PGD, L∞ {RADIUS}, {ATTACK_STEPS} × {restarts}",
                value=float(np.mean(attacked[name])),
                sense=sense,
                bound=bound,
                note=f"seeds: {note}",
            )
        )
    lead = np.array(attacked["adversarial"]) - np.array(black_box)
    rows.append(
        Row(
            what="adversarial: PGD's accuracy above that of a random search (no masking)",
            value=float(lead.mean()),
            sense="<=",
            bound=0.03,
            note=f"random search of squares, {setup.pick(1000, 50)} queries; {_listed(lead)}",
        )
    )
    gain = np.array(blurred["blur"]) - np.array(blurred["standard"])
    rows.append(
        Row(
            what=f"blur: accuracy at sigma {SIGMA:g} above the standard network's",
            value=float(gain.mean()),
            sense=">=",
            bound=0.2,
            note=f"seeds: {_listed(gain)}; standard {np.mean(blurred['standard']):.3f}",
        )
    )
    return rows


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _random_search(network: nn.Module, images: LabeledImages, n_queries: int, seed: int) -> float:
    """Measure accuracy under a search without gradients: squares at the edge of the L∞ ball.

    A square of random size and signs is kept where it lowers the margin (Andriushchenko et al.
    2020, Square Attack, with a simple schedule of sizes).
    """
    import torch

    assert images.levels is not None
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.from_numpy(images.levels).float() / 255
    labels = torch.from_numpy(images.labels)

    def margin(changed: Any) -> Any:
        with torch.no_grad():
            logits = network((changed - 0.5) / 0.5)
        own = logits.gather(1, labels[:, None])[:, 0]
        return own - logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)

    stripes = torch.randint(0, 2, (len(pixels), 3, 1, SIZE), generator=generator) * 2 - 1
    best = (pixels + RADIUS * stripes).clamp(0, 1)
    lowest = margin(best)
    for query in range(n_queries):
        side = max(1, round(SIZE * 0.5 * (1 - query / n_queries)))
        top, left = torch.randint(0, SIZE - side + 1, (2,), generator=generator).tolist()
        signs = torch.randint(0, 2, (len(pixels), 3, 1, 1), generator=generator) * 2 - 1
        tried = best.clone()
        window = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
        tried[window] = (pixels[window] + RADIUS * signs).clamp(0, 1)
        value = margin(tried)
        better = value < lowest
        best[better] = tried[better]
        lowest = torch.minimum(lowest, value)
    return float((lowest > 0).float().mean())
