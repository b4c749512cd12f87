"""Small networks of scikit-learn's digits in four trainings, for T2 and T3.

Sizes and epochs were found on the validation images of seed 0 and are the same for all seeds. The
radius of the attacks is found by `find_radius`, on validation images too. Digits are split image by
image, in the same way for all seeds: networks of one seed can judge images of another's test part.
A seed is that of first weights, order and draws.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.provenance import digest
from neurometamer.store import read_json, write_json

if TYPE_CHECKING:
    from torch import nn

    from neurometamer.training import LabeledImages
    from stimuli_gen import Preprocessing

KEPT = "NEUROMETAMER_BENCH_RUNS"
"""Environment variable: a folder that keeps the trainings, so that T2 and T3 share them."""
SIZE = 32
N_CLASSES = 10
N_SEEDS = 5
COMMON = {"train_batch_size": 100, "augment": "none", "optimizer": "adamw", "learning_rate": 0.002}
N_EPOCHS = 12
N_ADVERSARIAL = 16
N_WARMUP = 4
"""Epochs of adversarial training, and those in which the learning rate rises. It goes on from the
weights of the standard network: from first weights two of five networks never left chance."""
SIGMAS = (0.0, 2.0, 4.0, 6.0, 8.0)
"""Blurs of the blur training, pixels."""
RADII = tuple(round(0.01 * number, 2) for number in range(10, 21))
"""L∞ radii that are tried, pixels in [0, 1]."""
QUICK_RADIUS = 0.13
"""What was found for five seeds."""
LOST = 0.15
"""Accuracy on validation images that no standard network may exceed at the radius."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Networks of all seeds, and the images of each.

    Attributes
    ----------
    radius : float
        Of adversarial training, random perturbations and attacks.
    parts : mapping of str to LabeledImages
        training, validation, test.
    networks : sequence of mapping
        Of each seed: training to network.
    """

    radius: float
    parts: Mapping[str, LabeledImages]
    networks: Sequence[Mapping[str, nn.Module]]


def digit_network(seed: int) -> nn.Module:
    """Build a network of four convolutions, a mean over positions and a linear layer.

    Parameters
    ----------
    seed : int
        Of its weights.

    Returns
    -------
    torch.nn.Module
        For 32 pixels and ten classes; behind the mean no position is left.
    """
    from torch import nn

    return _seeded(
        seed,
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(64, N_CLASSES),
        ),
    )


def flat_network(seed: int) -> nn.Module:
    """Build another architecture: positions are kept to the end, two linear layers.

    Parameters
    ----------
    seed : int
        Of its weights.

    Returns
    -------
    torch.nn.Module
        For 32 pixels and ten classes.
    """
    from torch import nn

    return _seeded(
        seed,
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * (SIZE // 8) ** 2, 128),
            nn.ReLU(),
            nn.Linear(128, N_CLASSES),
        ),
    )


def pooling_network(seed: int) -> nn.Module:
    """Build another architecture: overlapping filters, other activations, pooling.

    Parameters
    ----------
    seed : int
        Of its weights.

    Returns
    -------
    torch.nn.Module
        For 32 pixels and ten classes.
    """
    from torch import nn

    return _seeded(
        seed,
        lambda: nn.Sequential(
            nn.Conv2d(3, 32, 7, stride=2, padding=3),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.GELU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.GELU(),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, N_CLASSES),
        ),
    )


def dense_network(seed: int) -> nn.Module:
    """Build a network without convolutions.

    Parameters
    ----------
    seed : int
        Of its weights.

    Returns
    -------
    torch.nn.Module
        For 32 pixels and ten classes.
    """
    from torch import nn

    return _seeded(
        seed,
        lambda: nn.Sequential(
            nn.Flatten(),
            nn.Linear(3 * SIZE * SIZE, 128),
            nn.GELU(),
            nn.Linear(128, 64),
            nn.GELU(),
            nn.Linear(64, N_CLASSES),
        ),
    )


def _seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def preprocessing() -> Preprocessing:
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


def recipes(radius: float) -> Mapping[str, Mapping[str, Any]]:
    """List the trainings beside the standard one.

    Parameters
    ----------
    radius : float
        Of attacks and random perturbations, pixels in [0, 1].

    Returns
    -------
    mapping of str to mapping
        Training to settings.
    """
    return {
        "adversarial": {
            "epochs": N_ADVERSARIAL,
            "warmup_epochs": N_WARMUP,
            "perturbation": "adversarial_linf",
            "radius": radius,
            "attack_step_size": radius / 2,
            "attack_steps": 3,
            "random_start": False,
        },
        "random": {"epochs": N_EPOCHS, "perturbation": "random_linf", "radius": radius},
        "blur": {"epochs": N_EPOCHS, "perturbation": "blur", "sigmas": SIGMAS},
    }


def train(
    network: nn.Module, parts: Mapping[str, LabeledImages], seed: int, **recipe: Any
) -> nn.Module:
    """Train a network.

    Parameters
    ----------
    network : torch.nn.Module
        With its first weights.
    parts : mapping of str to LabeledImages
        training, validation.
    seed : int
        Of the draws.
    **recipe : object
        Settings in place of `COMMON`.

    Returns
    -------
    torch.nn.Module
        Of the epoch that was best on validation images.
    """
    from neurometamer.training import train_network

    kept = os.environ.get(KEPT)
    with contextlib.ExitStack() as stack:
        if kept is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = Path(kept) / f"{seed}-{digest(recipe)[:12]}-{weights_digest(network)[:12]}"
        trained = train_network(
            network,
            parts["training"],
            parts["validation"],
            out=folder,
            preprocessing=preprocessing(),
            **{**COMMON, "epochs": N_EPOCHS, **recipe, "seed": seed},
        )
    return trained.network


def kept_result(key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """Read a result of an earlier run, or make and keep it where a folder is given.

    Parameters
    ----------
    key : mapping
        Everything that the result follows from.
    make : callable
        Makes the result, which JSON must hold.

    Returns
    -------
    object
        The result.
    """
    folder = os.environ.get(KEPT)
    if folder is None:
        return make()
    path = Path(folder) / f"{digest(key)}.json"
    if not path.is_file():
        write_json(path, {"key": key, "result": make()})
    return read_json(path)["result"]


def weights_digest(network: nn.Module) -> str:
    """Hash the weights of a network.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    return digest(*[value.numpy() for value in network.state_dict().values()])


def find_radius(networks: Sequence[nn.Module], images: LabeledImages) -> float:
    """Find the radius at which standard networks are lost.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        Standard networks, one a seed.
    images : LabeledImages
        Validation images.

    Returns
    -------
    float
        The smallest of `RADII` at which none of them is right more often than `LOST` under 20 steps
        of PGD.
    """
    from neurometamer.training import accuracy_curve

    def is_lost(network: nn.Module, radius: float) -> bool:
        attacked = "adversarial_linf", [radius]
        curve = accuracy_curve(network, images, preprocessing(), *attacked, attack_steps=20)
        return float(curve["accuracy"].iloc[0]) <= LOST

    for radius in RADII:
        if all(is_lost(network, radius) for network in networks):
            return radius
    raise RuntimeError(f"no radius up to {RADII[-1]} is too much for all standard networks")


@cache
def trained_networks(quick: bool) -> Trained:
    """Train the networks of all seeds, once a process.

    Parameters
    ----------
    quick : bool
        Only seed 0, at the radius `QUICK_RADIUS`.

    Returns
    -------
    Trained
        The networks.
    """
    from neurometamer.training import digit_images

    parts = digit_images(size=SIZE)
    networks = []
    for seed in range(1 if quick else N_SEEDS):
        networks.append({"standard": train(digit_network(seed), parts, seed)})
    radius = QUICK_RADIUS
    if not quick:
        radius = find_radius([trained["standard"] for trained in networks], parts["validation"])
    for seed, trained in enumerate(networks):
        for name, recipe in recipes(radius).items():
            first = digit_network(seed)
            if name == "adversarial":
                first = trained["standard"]
            trained[name] = train(first, parts, seed, **recipe)
    return Trained(radius=radius, parts=parts, networks=networks)
