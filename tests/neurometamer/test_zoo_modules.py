"""Any torch module in three lines: what comes out of networks, and what they see."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import Preprocessing, model_metamers, stage_model
from stimuli_gen.stimuli import StimulusSet


def _plain(n_classes=10, side=48, n_channels=3):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(n_channels, 4, 3, stride=2), nn.ReLU(inplace=True))
    second = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(inplace=True))
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    return nn.Sequential(first, second, pooled, nn.Linear(24, n_classes))


def _seen(side):
    half, quarter = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    return Preprocessing(
        size=(side, side), resize=side, interpolation="bilinear", mean=half, std=quarter
    )


class _Gives(nn.Module):
    """A network whose output lies in something."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.net = kind, _plain()

    def forward(self, images):
        maps = self.net[1](self.net[0](images))
        features = self.net[2](maps)
        logits = self.net[3](features)
        if self.kind == "tuple":
            return logits, maps
        return {"features": features, "logits": logits}


class _Gray(nn.Module):
    def forward(self, images):
        return images.mean(dim=1, keepdim=True)


class _Tokens(nn.Module):
    """Patches as tokens, with a class token before them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        self.first = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, images):
        grid = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(len(grid), -1, -1), grid], dim=1)
        return self.head(self.block(tokens)[:, 0])


MODULES = {
    "tuple": (lambda: _Gives("tuple"), "net.1", 48, (6, 11, 11)),
    "dict": (lambda: _Gives("dict"), "net.1", 48, (6, 11, 11)),
    "in-place activation": (_plain, "0.0", 48, (4, 23, 23)),
    "DataParallel": (lambda: nn.DataParallel(_plain()), "module.1", 48, (6, 11, 11)),
    "compiled": (lambda: torch.compile(_plain()), "_orig_mod.1", 48, (6, 11, 11)),
    "10 classes": (_plain, "1", 48, (6, 11, 11)),
    "1 class": (lambda: _plain(n_classes=1), "1", 48, (6, 11, 11)),
    "no classes": (_plain, "1", 48, (6, 11, 11)),
    "1 channel": (lambda: nn.Sequential(_Gray(), _plain(n_channels=1)), "1.1", 48, (6, 11, 11)),
    "token grid": (_Tokens, "block", 48, (37, 8)),
    "299 pixels": (_plain, "1", 299, (6, 74, 74)),
}


@pytest.mark.parametrize("kind", MODULES)
def test_any_module_makes_a_metamer(kind):
    build, path, side, shape = MODULES[kind]
    has_classes = kind != "no classes"
    model = stage_model(
        build(), stages={"mine": path}, preprocessing=_seen(side), has_classes=has_classes
    )
    images = np.random.default_rng(0).random((2, 3, side, side), dtype="float32")
    values = model.activations(torch.from_numpy(images), ["mine"])["mine"]
    assert tuple(values.shape) == (2, *shape)
    if kind == "in-place activation":
        assert (values < 0).any()  # the ReLU after it does not reach what the stage gave
    table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    photographs = StimulusSet(images=images, table=table)
    made = model_metamers([model], photographs, stage="mine", steps=2, seed=0)
    assert np.isfinite(made.table["loss_png"]).all() and len(made) == 2
    assert made.table["same_class_1000"].isna().all() == (not has_classes)


def test_a_module_of_one_channel_alone_says_what_to_put_before_it():
    with pytest.raises(InputError, match=r"sees 1 channel\(s\), images have 3: put a module befo"):
        stage_model(_plain(n_channels=1), preprocessing=_seen(48))
