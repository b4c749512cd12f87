"""Networks and photographs to measure with, and what this version of the project can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bars import NotAvailable, Setup
from neurometamer.errors import InputError
from neurometamer.zoo import imagenet_classes, load_model
from stimuli_gen import (
    Preprocessing,
    StagedModel,
    StimulusSet,
    load_photographs,
    packaged_photographs,
    stage_model,
)
from stimuli_gen.presets import Recipe

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalized(nn.Module):
    """A network that takes images in [0, 1], as peers want it.

    Parameters
    ----------
    network : torch.nn.Module
        Takes normalized images.
    mean, std : tuple of float
        Of its preprocessing.
    """

    def __init__(
        self, network: nn.Module, mean: tuple[float, ...] = _MEAN, std: tuple[float, ...] = _STD
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Run the network on images (b, 3, height, width) in [0, 1]."""
        return self.network((images - self.mean) / self.std)


def loaded(architecture: str, seed: int = 0) -> nn.Module:
    """Build a torchvision network with random weights, in evaluation mode, as a user has it: weights trainable.

    Batch norms get the statistics of noise images; with those of a new network activations would
    explode.
    """
    from torchvision.models import get_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = get_model(architecture, weights=None)
        norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
        if norms:
            for one in norms:
                one.momentum = None  # the running statistics become those of all batches seen
            with torch.no_grad():
                network.train()(torch.randn(8, 3, 224, 224))
        return network.eval()


def frozen(architecture: str, seed: int = 0) -> nn.Module:
    """Build the same with frozen weights."""
    return loaded(architecture, seed).requires_grad_(False)


def staged(architecture: str, stages: tuple[str, ...], seed: int = 0) -> StagedModel:
    """Build ours of the same network."""
    return stage_model(
        loaded(architecture, seed),
        stages={path: path for path in stages},
        preprocessing=Preprocessing(
            size=(224, 224), resize=256, interpolation="bilinear", mean=_MEAN, std=_STD
        ),
        class_names=imagenet_classes(),
        name=f"{architecture}_{seed}",
        weights=f"random (untrained, seed {seed})",
        trained=False,
    )


def trained(name: str, setup: Setup) -> StagedModel:
    """Load a trained network; SqueezeNet's weights lie with the real data sets."""
    try:
        if name != "squeezenet1_0":
            return load_model(name, device="cpu")
        if setup.data is None:
            raise NotAvailable(
                "SqueezeNet's weights: set NEUROMETAMER_TEST_DATA to the folder of the data sets"
            )
        return load_model(
            name, weights=setup.data / "weights" / "squeezenet1_0_imagenet.npz", device="cpu"
        )
    except InputError as error:
        raise NotAvailable(str(error)) from error


def photographs(setup: Setup, preprocessing: Preprocessing, n: int) -> StimulusSet:
    """Load CC BY photographs with an ImageNet label (column ``imagenet_index``), or the packaged ones without."""
    if setup.data is None:
        found = packaged_photographs(preprocessing)
    else:
        found = load_photographs(setup.data / "photos_ccby" / "labels.csv", preprocessing)
    rows = np.linspace(0, len(found) - 1, min(n, len(found))).round().astype(int)
    return found.select(ids=[found.ids[row] for row in rows])


def tensor(stimuli: StimulusSet) -> Tensor:
    """Give the images as a tensor (n, 3, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(stimuli.images[slice(0, len(stimuli))]))


# ------------------------------------------------------------------------- what this version can do


DESCENT_ONLY: dict[str, Any] = {"file_rounds": 0}
"""Arguments of `model_metamers` that leave out what no peer does: mending images whose 8-bit version fails."""


def has_modes() -> bool:
    """Tell whether the generators have the modes exact and fast."""
    return find_spec("stimuli_gen.fast") is not None


def fast() -> dict[str, str]:
    """Give the argument that chooses the fast mode; `NotAvailable` where this version has none."""
    if not has_modes():
        raise NotAvailable("fast mode is not in this version")
    return {"mode": "fast"}


def fast_told(model: StagedModel) -> str:
    """Say what the fast mode does here: a machine without bfloat16 has only folded batch norms."""
    from stimuli_gen.fast import fast_notice

    return fast_notice(model)


def precision(case: str, model: StagedModel) -> torch.dtype:
    """Name the number format in which a case does most of its work."""
    if not case.startswith("fast"):
        return torch.float32
    from stimuli_gen.fast import bfloat16_support

    return torch.bfloat16 if bfloat16_support(model.device)[0] else torch.float32


def setting(name: str, value: Any, known: Any = None) -> dict[str, Any]:
    """Give a setting of a metamer's recipe; `NotAvailable` where this version lacks the field or the choice."""
    if name not in {one.name for one in fields(Recipe)}:
        raise NotAvailable(f"recipes have no {name} in this version")
    if known is not None and value not in known:
        raise NotAvailable(f"{name} '{value}' is not in this version")
    return {name: value}


def peer(load: Callable[[], Any], package: str) -> Any:
    """Import a peer; `NotAvailable` where it is not installed."""
    try:
        return load()
    except ImportError as error:
        raise NotAvailable(
            f"{package} is not installed ({error}); `make bench` installs it"
        ) from error
