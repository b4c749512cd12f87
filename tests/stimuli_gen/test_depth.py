"""Test which stage a fraction of depth means.

The networks are known architectures with random weights, and small ones made for the tests.
"""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import (
    Preprocessing,
    StimulusSet,
    depth_units,
    model_metamers,
    resolve_stage,
    stage_model,
)
from stimuli_gen.depth import find_stage

DEPTHS = (0.2, 0.5, 0.8)
PLAIN = Preprocessing(
    size=(32, 32), resize=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)


def staged(network, stage, n_classes=10):
    return stage_model(
        network,
        stages={stage: stage},
        preprocessing=PLAIN,
        class_names=[str(i) for i in range(n_classes)],
        name="small",
        weights="random",
        trained=False,
    )


def at_depths(units):
    return [units[int(fraction * len(units) + 0.5) - 1] for fraction in DEPTHS]


# ------------------------------------------------------------------------------------ architectures

ARCHITECTURES = [
    ("torchvision", "alexnet", 8, "features.4 features.9 classifier.2"),
    ("torchvision", "vgg19_bn", 19, "features.12 features.32 features.48"),
    ("torchvision", "resnet18", 8, "layer1.1 layer2.1 layer3.1"),
    ("torchvision", "resnext50_32x4d", 16, "layer1.2 layer3.0 layer3.5"),
    ("torchvision", "googlenet", 9, "inception3b inception4c inception4e"),
    ("torchvision", "inception_v3", 11, "Mixed_5c Mixed_6c Mixed_7a"),
    ("torchvision", "squeezenet1_0", 8, "features.4 features.7 features.9"),
    ("torchvision", "mobilenet_v2", 17, "features.3 features.9 features.14"),
    ("torchvision", "efficientnet_b0", 16, "features.2.1 features.4.2 features.6.1"),
    ("torchvision", "shufflenet_v2_x1_0", 16, "stage2.2 stage3.3 stage4.0"),
    (
        "torchvision",
        "regnet_y_400mf",
        16,
        "trunk_output.block2.block2-1 trunk_output.block3.block3-3 trunk_output.block4.block4-2",
    ),
    ("torchvision", "convnext_tiny", 18, "features.3.0 features.5.2 features.5.7"),
    (
        "torchvision",
        "vit_b_16",
        12,
        " ".join(f"encoder.layers.encoder_layer_{i}" for i in (1, 5, 9)),
    ),
    ("torchvision", "swin_t", 12, "features.1.1 features.5.1 features.5.5"),
    (
        "torchvision",
        "densenet121",
        58,
        " ".join(
            f"features.denseblock{block}.denselayer{layer}"
            for block, layer in ((2, 6), (3, 11), (4, 4))
        ),
    ),
    ("timm", "levit_128s", 11, "stages.0.blocks.1 stages.1.blocks.2 stages.2.blocks.1"),
    ("timm", "regnety_002", 13, "s3.b1 s4.b1 s4.b4"),
    ("timm", "deit_small_patch16_224", 12, "blocks.1 blocks.5 blocks.9"),
    ("timm", "deit_tiny_distilled_patch16_224", 12, "blocks.1 blocks.5 blocks.9"),
    ("timm", "xcit_nano_12_p16_224", 12, "blocks.1 blocks.5 blocks.9"),
    (
        "timm",
        "swin_base_patch4_window7_224",
        24,
        "layers.2.blocks.0 layers.2.blocks.7 layers.2.blocks.14",
    ),
    ("timm", "tf_efficientnet_lite0", 16, "blocks.1.1 blocks.3.2 blocks.5.1"),
    ("timm", "inception_v4", 19, "features.6 features.12 features.17"),
    ("timm", "resnet50_clip", 16, "stages.0.2 stages.2.0 stages.2.5"),
    (
        "timm",
        "efficientvit_m0",
        38,
        "stages.1.downsample.res2.0 stages.1.blocks.1.ffn1 stages.2.blocks.1.ffn0",
    ),
    ("timm", "volo_d1_224", 18, "network.0.3 network.3.0 network.3.5"),
    ("timm", "xception41", 13, "blocks.2 blocks.6 blocks.9"),
]


def build(library, name):
    module = pytest.importorskip(library)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if library == "timm":
        return module.create_model(name)
    return module.models.get_model(name, **options)


def on_meta(library, name):
    """Make a network of shapes only, which is all that a graph needs.

    Some networks compute numbers while they are built.
    """
    try:
        with torch.device("meta"):
            return build(library, name)
    except (NotImplementedError, RuntimeError):
        return build(library, name)


@pytest.mark.parametrize(("library", "name", "count", "places"), ARCHITECTURES)
def test_units_are_the_blocks_of_known_architectures(library, name, count, places):
    network = on_meta(library, name)
    size = (299, 299) if name == "inception_v3" else (224, 224)
    training = [path for path, module in network.named_modules() if module.training]
    units = depth_units(network, size)
    assert (len(units), at_depths(units)) == (count, places.split())
    assert [
        path for path, module in network.named_modules() if module.training
    ] == training  # put back
    if name != "densenet121":
        assert_cuts(network, units, size)


def assert_cuts(network, units, size):
    """Cut the gradient at each of three units: none may reach the image any more."""
    for path in dict.fromkeys(at_depths(units)):
        with torch.device(next(network.parameters()).device):
            image = torch.zeros(1, 3, *size, requires_grad=True)
        hook = network.get_submodule(path).register_forward_hook(
            lambda _, __, output: output.detach()
        )
        output = network.eval()(image)
        hook.remove()
        if output.requires_grad:  # by the weights of later layers
            (gradient,) = torch.autograd.grad(output.sum(), image, allow_unused=True)
            assert gradient is None, path


# -------------------------------------------------------------------------------- CORnet-S, by hand


class Area(nn.Module):
    """A recurrent area of CORnet-S (Kubilius et al. 2019).

    One bottleneck runs several times, with a skip.
    """

    scale = 2

    def __init__(self, n_in, n_out, times):
        super().__init__()
        self.times, inside = times, n_out * self.scale
        self.conv_input = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.skip = nn.Conv2d(n_out, n_out, 1, stride=2, bias=False)
        self.norm_skip = nn.BatchNorm2d(n_out)
        self.conv1, self.nonlin1 = nn.Conv2d(n_out, inside, 1, bias=False), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(inside, inside, 3, stride=2, padding=1, bias=False)
        self.nonlin2 = nn.ReLU(inplace=True)
        self.conv3, self.nonlin3 = nn.Conv2d(inside, n_out, 1, bias=False), nn.ReLU(inplace=True)
        self.output = nn.Identity()
        for time in range(times):
            for number, channels in enumerate((inside, inside, n_out), start=1):
                setattr(self, f"norm{number}_{time}", nn.BatchNorm2d(channels))

    def forward(self, images):
        values = self.conv_input(images)
        for time in range(self.times):
            skip = self.norm_skip(self.skip(values)) if time == 0 else values
            self.conv2.stride = (2, 2) if time == 0 else (1, 1)
            values = self.nonlin1(getattr(self, f"norm1_{time}")(self.conv1(values)))
            values = self.nonlin2(getattr(self, f"norm2_{time}")(self.conv2(values)))
            values = getattr(self, f"norm3_{time}")(self.conv3(values))
            values = self.output(self.nonlin3(values + skip))
        return values


def cornet_s(width=4):
    v1 = nn.Sequential()
    v1.add_module("conv1", nn.Conv2d(3, width, 7, 2, 3, bias=False))
    v1.add_module("norm1", nn.BatchNorm2d(width))
    v1.add_module("nonlin1", nn.ReLU(inplace=True))
    v1.add_module("pool", nn.MaxPool2d(3, 2, 1))
    v1.add_module("conv2", nn.Conv2d(width, width, 3, 1, 1, bias=False))
    v1.add_module("norm2", nn.BatchNorm2d(width))
    v1.add_module("nonlin2", nn.ReLU(inplace=True))
    v1.add_module("output", nn.Identity())
    decoder = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10), nn.Identity()
    )
    network = nn.Sequential()
    for name, area in (
        ("V1", v1),
        ("V2", Area(width, 2 * width, 2)),
        ("V4", Area(2 * width, 4 * width, 4)),
        ("IT", Area(4 * width, 8 * width, 2)),
        ("decoder", decoder),
    ):
        network.add_module(name, area)
    return network


@pytest.mark.parametrize("prefix", ["", "module."])
def test_cornet_s_gives_v1_v2_and_v4(prefix):
    network = cornet_s()
    if prefix:
        network = nn.Sequential()
        network.add_module("module", cornet_s())
    assert depth_units(network, (64, 64)) == tuple(
        f"{prefix}{area}" for area in ("V1", "V2", "V4", "IT")
    )
    model = staged(network, f"{prefix}V2")
    assert [resolve_stage(model, depth)[1] for depth in ("early", "middle", "late")] == [
        f"{prefix}{area}" for area in ("V1", "V2", "V4")
    ]


# ------------------------------------------------------------------------------------- what is told


class Functional(nn.Module):
    """Five layers, ReLUs as functions, and modules that never run."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3, 2)
        self.relu = nn.ReLU()
        self.auxiliary = nn.Linear(4, 4)
        self.conv3, self.fc1, self.fc2 = nn.Conv2d(4, 4, 3), nn.Linear(4, 8), nn.Linear(8, 10)
        self.unused = nn.ReLU()

    def forward(self, images):
        values = torch.relu(self.conv1(images))
        values = self.relu(self.conv2(values))
        values = nn.functional.relu(self.conv3(values)).amax(dim=(2, 3))
        return self.fc2(nn.functional.relu(self.fc1(values)))


def test_functional_activations_are_told_and_unused_modules_are_no_unit(caplog):
    model = staged(Functional(), "conv1")
    assert depth_units(model) == ("conv1", "relu", "conv3", "fc1", "fc2")
    with caplog.at_level(logging.WARNING):
        assert "before it" in find_stage(model, 0.2).note
    assert "small at conv1: its activation is a function of the network" in caplog.text
    assert find_stage(model, 0.4).note == find_stage(model, 1.0).note == ""


class Dense(nn.Module):
    """Layers that all see the image: no unit but the last is a cut."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(3 * 2**place, 3 * 2**place, 3, padding=1) for place in range(4)
        )
        self.head = nn.Linear(48, 10)

    def forward(self, images):
        for layer in self.layers:
            images = torch.cat([images, layer(images)], dim=1)
        return self.head(images.mean(dim=(2, 3)))


def test_a_network_without_cuts_is_refused_with_the_numbers():
    with pytest.raises(
        InputError,
        match=r"outputs of 4 of its 5 layers lie beside other paths.*name a stage instead",
    ):
        resolve_stage(staged(Dense(), "layers.1"), "middle")


def test_dense_layers_are_units_and_metamers_say_that_they_are_no_cuts():
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.DenseNet(
        growth_rate=4, block_config=(2, 3), num_init_features=8, bn_size=2, num_classes=10
    )
    model = staged(network, "features.conv0")
    images = np.random.default_rng(0).uniform(0.2, 0.8, (1, 3, 32, 32)).astype(np.float32)
    table = pd.DataFrame({"id": ["a"], "kind": "RE", "reference_id": ["a"], "category": ""})
    made = model_metamers(
        model,
        StimulusSet(images=images, table=table),
        stage="middle",
        preset="fast",
        steps=1,
        file_rounds=0,
    )
    assert made.table["stage"][0] == "features.denseblock2.denselayer1"
    assert (
        "untrained network; small at features.denseblock2.denselayer1: a dense layer is no cut"
        in made.table["note"][0]
    )
    assert "no cut" in made.provenance["models"][0]["notes"][0]
