"""A network that is given without stages, preprocessing, class names or a name works everywhere."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import (
    Preprocessing,
    adversarial_interference,
    adversarial_noise,
    attack_images,
    choose_targets,
    confirm_attacks,
    confirm_metamers,
    confirm_saved,
    greedy_interference,
    judge,
    model_metamers,
    null_distribution,
    packaged_photographs,
    read_stimuli,
    same_class,
    stage_model,
    write_stimuli,
)
from stimuli_gen.models import IMAGENET_MEAN, IMAGENET_STD


class Small(nn.Module):
    """A network of 10 outputs whose first linear layer fits images of 32 pixels only."""

    def __init__(self, n_classes=10, *, wrap=lambda logits: logits):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(4, 6, 3, stride=2)
        self.head = nn.Linear(6 * 7 * 7, n_classes)
        self.wrap = wrap

    def forward(self, images):
        maps = self.act(self.first(images))
        return self.wrap(self.head(self.second(maps).tanh().flatten(1)))


def seeded(*arguments, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small(*arguments, **options)


@pytest.fixture(scope="module")
def alone():
    return stage_model(seeded())


@pytest.fixture(scope="module")
def photographs(alone):
    return packaged_photographs(alone.preprocessing).select(ids=["camera", "moon", "cat"])


def test_every_default_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        model = stage_model(seeded())
    assert (model.name, model.weights, model.trained) == ("Small", "unknown weights", False)
    assert model.class_names == tuple(map(str, range(10))) and model.n_classes == 10
    assert model.stages == {"act": "act", "second": "second", "head": "head"}
    assert model.preprocessing == Preprocessing(
        size=(32, 32), resize=36, interpolation="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    assert len(model.assumed) == 6
    for number, word in enumerate(
        ("name", "preprocessing", "class_names", "weights", "trained", "stages")
    ):
        assert model.assumed[number].startswith(word)
        assert model.assumed[number] in caplog.text


def test_what_is_given_is_not_assumed(alone, caplog):
    with caplog.at_level(logging.WARNING):
        model = stage_model(
            seeded(),
            stages=alone.stages,
            preprocessing=alone.preprocessing,
            class_names=alone.class_names,
            name="Small",
            weights="mine",
            trained=True,
        )
    assert model.assumed == () and not caplog.text and model.trained
    assert model.digest == alone.digest  # neither name nor the way of saying it changes the numbers


def test_a_network_says_its_own_preprocessing():
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", depth=3, num_classes=7)
    preprocessing = stage_model(network).preprocessing
    config = network.pretrained_cfg
    assert preprocessing.size == config["input_size"][1:]
    assert preprocessing.mean == config["mean"] != IMAGENET_MEAN
    assert preprocessing.interpolation == config["interpolation"] == "bicubic"
    assert preprocessing.resize == int(224 / config["crop_pct"])
    smaller = timm.create_model("vit_tiny_patch16_224", depth=3, num_classes=7, img_size=64)
    assert stage_model(smaller).preprocessing.size == (64, 64)  # the configuration says 224
    assert stage_model(smaller).stages == {f"blocks.{i}": f"blocks.{i}" for i in range(3)}


@pytest.mark.parametrize(
    ("network", "match"),
    [
        (nn.Conv2d(1, 2, 3), "first convolution sees 1 channel.*give the network's preprocessing"),
        (nn.Conv2d(3, 2, 3), r"no module inside it has weights and runs; name stages"),
        (
            seeded(wrap=lambda logits: (logits, 2 * logits)),
            "gives a tuple .* its output is not clear; put",
        ),
        (nn.Linear(7, 2), "cannot run on images of .*No input of 224 x 224, .* works either"),
    ],
)
def test_no_default_is_an_error_that_says_what_to_give(network, match):
    with pytest.raises(InputError, match=match):
        stage_model(network)


def test_outputs_of_other_types_are_counted():
    assert stage_model(seeded(5, wrap=lambda logits: {"logits": logits})).n_classes == 5
    assert stage_model(seeded(5, wrap=lambda logits: (logits,))).n_classes == 5


def test_adversarial_images(alone, photographs, tmp_path):
    noise = adversarial_noise(alone, photographs, target="random", max_steps=300, confidence=0.3)
    interference = adversarial_interference(
        alone, photographs, target="least_likely", max_steps=300, confidence=0.3
    )
    greedy = greedy_interference(alone, photographs, confidence=0.15, max_tries=400)
    for number, stimuli in enumerate((noise, interference, greedy)):
        assert stimuli.table["success"].any()
        assert (stimuli.table["target_name"] == stimuli.table["target_index"].astype(str)).all()
        assert (stimuli.table["note"] == "untrained network").all()
        folder = write_stimuli(stimuli, tmp_path / str(number))
        again = confirm_saved(alone, read_stimuli(folder), folder)
        pd.testing.assert_series_equal(again.table["top1_name"], stimuli.table["top1_name"])
        assert list(again.table["success"]) == list(stimuli.table["success"])


def test_attacks_and_targets(alone, photographs, tmp_path):
    attacked = attack_images(alone, photographs, "pgd_l2", steps=20)
    assert attacked.table["success"].all()
    folder = write_stimuli(attacked, tmp_path)
    again = confirm_attacks(alone, read_stimuli(folder), folder)
    assert list(again.table["top1_name"]) == list(attacked.table["top1_name"])
    assert choose_targets("7", photographs, alone) == dict.fromkeys(photographs.ids, 7)
    categories = {index: "even" if index % 2 == 0 else "odd" for index in range(10)}
    plain = replace(photographs, table=photographs.table.assign(category=""))
    chosen = choose_targets("another_category", plain, alone, categories=categories)
    own = choose_targets("own", plain, alone)
    assert all((chosen[name] + own[name]) % 2 == 1 for name in plain.ids)


def test_metamers_and_their_criteria(alone, photographs, tmp_path):
    null = null_distribution(alone, photographs, stages=["second"], n_pairs=3)
    metamers = model_metamers(
        alone, photographs, stage="second", max_error=0.2, steps=300, nulls=[null]
    )
    folder = write_stimuli(metamers, tmp_path)
    again = confirm_metamers(alone, read_stimuli(folder), photographs, folder, nulls=[null])
    assert list(again.table["success"]) == list(metamers.table["success"])
    table = judge([(alone, "second")], photographs, metamers, nulls=[null])
    assert table["float_same_class_1000"].notna().all()
    assert table["float_same_class_16"].isna().all()  # the 16 categories need ImageNet's classes
    assert set(table["png_top1"]) <= set(alone.class_names)
    pairs = same_class(alone, photographs.images, np.asarray(metamers.images))
    assert pairs["same_class_16"].isna().all() and pairs["same_class_1000"].notna().all()


class Answer:
    """What is no tuple, no mapping and no dataclass, as libraries have it."""

    def __init__(self, logits):
        self.logits = logits


def test_any_object_with_logits_is_understood(alone):
    wrapped = stage_model(seeded(wrap=Answer))
    images = torch.rand(2, 3, 32, 32)
    assert wrapped.n_classes == 10 and wrapped.has_classes
    assert torch.equal(wrapped.logits(images), alone.logits(images))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: logits[:, :, None, None].expand(-1, -1, 2, 3),
        lambda logits: (logits[:, :, None, None].expand(-1, -1, 2, 3), None),
    ],
)
def test_a_network_that_gives_a_map_has_no_classes(wrap):
    model = stage_model(seeded(wrap=wrap))
    assert not model.has_classes and model.class_names == () and model.n_classes == 0
    assert "it has no classes: it gives (1, 10, 2, 3) for one image" in model.assumed
    assert list(model.stages) == ["act", "second", "head"]
    assert model.logits(torch.rand(2, 3, 32, 32)).shape == (2, 60)
    images = packaged_photographs(model.preprocessing)
    images = images.select(ids=images.ids[:1])
    made = model_metamers(model, images, stage="act", seed=0, steps=2, preset="fast")
    assert "top1_name" not in made.table or not made.table["top1_name"].astype(bool).any()
    with pytest.raises(InputError, match="has no classes: the output is an embedding or a map"):
        model.probabilities(torch.rand(1, 3, 32, 32))


def test_no_class_names_are_no_classes():
    model = stage_model(seeded(), class_names=())
    assert not model.has_classes and model.logits(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    for arguments in ({"class_names": ()}, {"wrap": lambda logits: logits[:, :, None, None]}):
        network = seeded(wrap=arguments.pop("wrap", lambda logits: logits))
        with pytest.raises(InputError, match="said to have classes, and has no row"):
            stage_model(network, has_classes=True, **arguments)
    with pytest.raises(InputError, match=r"a tensor of \(\) for one image, so its output is not"):
        stage_model(seeded(wrap=lambda logits: logits.mean()))
    with pytest.raises(InputError, match=r"a tuple \(0 \(1, 10\), 1 \(1, 3\)\).* is not clear"):
        stage_model(seeded(wrap=lambda logits: (logits, logits[:, :3])), class_names=())


def test_a_network_without_weights_needs_named_stages():
    pixels = nn.Sequential(nn.Flatten())
    with pytest.raises(InputError, match="no module inside it has weights and runs"):
        stage_model(pixels)
    assert stage_model(pixels, stages={"pixels": "0"}, class_names=()).digest
