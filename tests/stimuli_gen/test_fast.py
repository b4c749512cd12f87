from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import Preprocessing, stage_model
from stimuli_gen.fast import bfloat16_support, draft_model, fast_model, fast_notice


def pictures(model, n=1):
    return torch.from_numpy(
        np.random.default_rng(0).random((n, 3, *model.preprocessing.size), dtype=np.float32)
    )


def off(expected, computed):
    return float(torch.linalg.vector_norm(computed - expected) / torch.linalg.vector_norm(expected))


@pytest.fixture(scope="module")
def resnet():
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet18(weights=None)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.1)
    return stage_model(
        network,
        stages={"bn1": "bn1", "conv": "layer1.0.conv1", "layer2": "layer2", "fc": "fc"},
        preprocessing=Preprocessing(
            size=(64, 64), resize=64, interpolation="bilinear", mean=(0.5,) * 3, std=(0.2,) * 3
        ),
        class_names=[str(i) for i in range(1000)],
        name="resnet18",
        weights="random",
        trained=False,
    )


@pytest.mark.parametrize(("which", "n_folded"), [("resnet", 19), ("lite0", 49), ("squeezenet", 0)])
def test_float32_is_the_same_network(which, n_folded, request):
    model = request.getfixturevalue(which)
    fast, images = fast_model(model, precision="float32"), pictures(model)
    assert len(fast.folded) == n_folded  # of ResNet-18's 20, one convolution is a stage
    assert fast.digest != model.digest and fast.stages == model.stages
    with torch.no_grad():
        expected, computed = (
            network.activations(images, list(model.stages)) for network in (model, fast)
        )
    assert max(off(expected[stage], computed[stage]) for stage in expected) < 1e-4


@pytest.mark.parametrize(
    ("which", "least"), [("resnet", 0.99), ("lite0", 0.98), ("squeezenet", 0.99)]
)
def test_bfloat16_is_near_and_gives_float32(which, least, request):
    model = request.getfixturevalue(which)
    fast, images = fast_model(model, precision="bfloat16"), pictures(model)
    stage = list(model.stages)[2]
    gradients = []
    for network in (model, fast):
        seen = images.clone().requires_grad_(True)
        computed = network.activations(seen, [stage])[stage]
        assert computed.dtype == network.logits(images).dtype == torch.float32
        gradients.append(torch.autograd.grad(computed.square().sum(), seen)[0])
    assert gradients[1].dtype == torch.float32 and torch.isfinite(gradients[1]).all()
    assert torch.corrcoef(torch.stack(gradients).flatten(1))[0, 1] > least  # Lite0: 0.985
    with torch.no_grad():
        expected, computed = (
            network.activations(images, [stage])[stage] for network in (model, fast)
        )
    # A bfloat16 has 8 bits: 2^-9 of rounding a layer. Early stages pass few layers, so 5 % is far
    # above it.
    assert off(expected, computed) < 0.05


def test_without_bfloat16_it_is_float32(resnet, monkeypatch):
    monkeypatch.setattr("stimuli_gen.fast._cpu_has", lambda _: False)
    assert bfloat16_support("cpu")[0] is False
    assert fast_model(resnet).precision == "float32"
    assert fast_notice(resnet).startswith("float32: this CPU has no bfloat16")
    assert "19 BatchNorms folded" in fast_notice(fast_model(resnet))


def test_what_cannot_be_asked_for(resnet):
    fast = fast_model(resnet, precision="float32")
    with pytest.raises(InputError, match="contains the BatchNorm after it"):
        replace(fast, stages={"a": "conv1"})
    with pytest.raises(InputError, match="a fast copy already"):
        fast_model(fast)
    with pytest.raises(InputError, match="unknown precision 'float16'"):
        fast_model(resnet, precision="float16")


@pytest.mark.parametrize(("supported", "level"), [(True, "INFO"), (False, "WARNING")])
def test_the_fast_mode_says_what_it_computes_in(supported, level, resnet, monkeypatch, caplog):
    monkeypatch.setattr("stimuli_gen.fast._cpu_has", lambda _: supported)
    with caplog.at_level("INFO", logger="stimuli_gen"):
        assert draft_model(resnet, "exact") is None and not caplog.records
        draft = draft_model(resnet, "fast")
    assert draft.precision == ("bfloat16" if supported else "float32")
    (record,) = caplog.records
    assert record.levelname == level and f"resnet18: {draft.precision}" in record.getMessage()
    with pytest.raises(InputError, match="unknown mode 'quick'"):
        draft_model(resnet, "quick")


def test_strided_depthwise_convolutions_stay_in_float32_inside_a_bfloat16_network(lite0):
    """On a CPU they crawl in bfloat16."""
    draft = fast_model(lite0, precision="bfloat16")
    kinds = {
        (max(module.stride) > 1, str(module.weight.dtype))
        for module in draft.network.modules()
        if isinstance(module, nn.Conv2d) and module.groups > 1
    }
    assert kinds == {(True, "torch.float32"), (False, "torch.bfloat16")}
