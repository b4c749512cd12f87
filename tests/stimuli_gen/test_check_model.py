"""Any network can be used, is checked before it is, and its owner's copy of it stays as it was."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    StimulusSet,
    adversarial_noise,
    check_model,
    model_metamers,
    predict,
    read_stimuli,
    resolve_stage,
    stage_model,
    write_stimuli,
)
from stimuli_gen.models import StagedModel

SEES = Preprocessing(
    size=(32, 32), resize=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)
TELLS = {
    "name": "net",
    "weights": "random",
    "class_names": [f"class {i}" for i in range(10)],
    "trained": False,
}


class Net(nn.Module):
    """Two convolutions and a classifier; tests change what is done on the way."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 5, stride=3)
        self.norm = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2)
        self.relu = nn.ReLU()
        self.head = nn.Linear(8, 10)

    def forward(self, images):
        return self.head(self.between(self.features(images)).mean(dim=(2, 3)))

    def features(self, images):
        return self.relu(self.conv2(self.relu(self.norm(self.conv(images)))))

    def between(self, values):
        return values


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build()


def vit():
    from torchvision.models import VisionTransformer

    network = VisionTransformer(
        32, 8, num_layers=4, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=10
    )
    nn.init.normal_(network.heads.head.weight)  # torchvision's is zero
    return network


def resnet(block="BasicBlock", **more):
    from torchvision.models import resnet as nets

    network = nets.ResNet(getattr(nets, block), [2, 2, 2, 2], num_classes=10, **more)
    return network.to(memory_format=torch.channels_last if more else torch.contiguous_format)


def shufflenet():
    from torchvision.models import shufflenet_v2_x0_5

    network = shufflenet_v2_x0_5(num_classes=10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(
        torch.rand(8, 3, 32, 32)
    )  # statistics of noise; with those of birth the output hardly depends on the image
    network.fc.weight.data *= 0.1  # else it is certain of its class at once
    return network


class Wandering(Net):
    """A network whose path depends on the image, which torch.fx cannot trace.

    One layer is for training only.
    """

    def __init__(self):
        super().__init__()
        self.dark, self.light = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.auxiliary = nn.Linear(8, 10)

    def between(self, results):
        if results.mean() > 1e6:
            results = self.light(results)
        for _ in range(1 + int(results.amax() > 1e6)):
            results = self.dark(results)
        return results


def staged(network, stages=("conv",), preprocessing=SEES, **more):
    stages = stages if isinstance(stages, dict) else {stage: stage for stage in stages}
    return stage_model(network, stages=stages, preprocessing=preprocessing, **{**TELLS, **more})


@pytest.fixture(scope="module")
def pictures():
    """Two smooth images in [0.1, 0.9], as photographs are."""
    coarse = torch.from_numpy(
        np.random.default_rng(0).uniform(0.1, 0.9, (2, 3, 6, 6)).astype(np.float32)
    )
    images = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear").numpy()
    table = pd.DataFrame(
        {"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"], "category": "none"}
    )
    return StimulusSet(images=images, table=table)


# -------------------------------------------------------------------------------------- any network

NETWORKS = {
    # early, middle, late, and 0.6 of the depth
    "vit": (vit, "encoder.ln", [f"encoder.layers.encoder_layer_{i}" for i in (0, 1, 2, 1)]),
    "resnet": (resnet, "conv1", ["layer1.1", "layer2.1", "layer3.1", "layer3.0"]),
    "resnext": (
        lambda: resnet("Bottleneck", groups=4, width_per_group=8),
        "conv1",
        ["layer1.1", "layer2.1", "layer3.1", "layer3.0"],
    ),
    "shufflenet": (shufflenet, "conv1", ["stage2.2", "stage3.3", "stage4.0", "stage3.5"]),
    "control flow": (Wandering, "conv", ["conv", "conv2", "dark", "conv2"]),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_stimuli_for_any_network_and_its_owner_finds_it_unchanged(kind, pictures, tmp_path):
    build, named, resolved = NETWORKS[kind]
    network = seeded(build)
    before = everything(network)
    model = staged(network, [named], name=kind)
    assert [
        resolve_stage(model, depth)[1] for depth in ("early", "middle", "late", 0.6)
    ] == resolved
    made = model_metamers(
        model,
        pictures,
        stage=["middle", "late"],
        preset="fast",
        steps=3,
        run=RunOptions(batch_size=2),
        file_rounds=0,
    )
    assert made.table["loss_float"].between(0, 10).all() and (made.table["steps"] == 3).all()
    assert (made.table["stage"] == "+".join(resolved[1:3])).all()
    noise = adversarial_noise(
        model, pictures, max_steps=2, confidence=0.999, run=RunOptions(batch_size=2)
    )
    begun = adversarial_noise(
        model, pictures, max_steps=1, confidence=0.999, run=RunOptions(batch_size=2), step_size=1e-6
    )
    assert (noise.table["confidence_float"] > begun.table["confidence_float"]).all()
    assert everything(network) == before
    write_stimuli(made, tmp_path)
    assert read_stimuli(tmp_path).provenance["models"][0]["modules"] == {
        path_of_stage: path_of_stage for path_of_stage in resolved[1:3]
    }


def everything(network):
    """List all that an owner could find changed, down to where in memory each number is."""
    weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        "values": {name: weight.detach().numpy().tobytes() for name, weight in weights.items()},
        "tensors": {
            name: (
                id(weight),
                weight.data_ptr(),
                weight.stride(),
                weight.dtype,
                weight.requires_grad,
                weight.grad,
                weight._version,
            )
            for name, weight in weights.items()
        },
        "modules": {
            path: (
                id(module),
                module.training,
                sorted(vars(module)),
                *(list(value) for name, value in vars(module).items() if "_hooks" in name),
            )
            for path, module in network.named_modules()
        },
    }


def test_torch_fx_cannot_trace_what_hooks_can(pictures):
    network = seeded(Wandering)
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(network)
    assert (
        staged(network, ["dark"])
        .activations(torch.from_numpy(pictures.images), ["dark"])["dark"]
        .shape[1]
        == 8
    )


def test_tokens_of_a_transformer_and_the_paths_of_named_stages(pictures):
    model = staged(seeded(vit), {"tokens": "encoder.layers.encoder_layer_1", "norm": "encoder.ln"})
    images = torch.from_numpy(pictures.images)
    assert model.activations(images, ["tokens"])["tokens"].shape == (2, 1 + 16, 16)
    with (
        torch.no_grad()
    ):  # attention without gradients would not call its modules, were there no hooks
        alone = model.activations(images[1:], ["tokens"])["tokens"]
    torch.testing.assert_close(
        alone[0], model.activations(images, ["tokens"])["tokens"][1], rtol=1e-5, atol=1e-5
    )
    made = model_metamers(
        model,
        pictures,
        stage="middle",
        preset="fast",
        steps=3,
        run=RunOptions(batch_size=2),
        file_rounds=0,
    )
    assert (made.table["stage"] == "tokens").all()
    assert made.provenance["models"][0]["modules"] == {"tokens": "encoder.layers.encoder_layer_1"}
    further = model_metamers(
        model,
        pictures,
        stage="middle",
        preset="fast",
        steps=9,
        run=RunOptions(batch_size=2),
        file_rounds=0,
    )
    assert (further.table["loss_float"] < made.table["loss_float"]).all()


def test_a_network_that_keeps_results_of_an_earlier_pass():
    class Keeping(Net):
        def between(self, values):
            self.seen = values
            return values

    network = seeded(Keeping)
    network(torch.zeros(1, 3, 32, 32))
    kept, value = network.seen, network.seen.detach().clone()
    staged(network)
    assert network.seen is kept and torch.equal(kept, value) and kept.grad_fn is not None
    network.seen = [kept]
    with pytest.raises(
        InputError, match="net cannot be copied; delete what it keeps beside its weights"
    ):
        staged(network)


def test_pixels_of_0_to_255_and_a_network_that_normalizes_itself():
    of_bytes = replace(SEES, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    with pytest.raises(InputError, match=r"are for pixels of 0 to 255; divide by 255"):
        staged(seeded(Net), preprocessing=of_bytes)
    with pytest.raises(InputError, match="divide by 255"):
        staged(seeded(Net), preprocessing=replace(SEES, std=(0.2, 0.2, 58)))
    for std in (0.0, -0.2):
        with pytest.raises(InputError, match=r"std \(.*\) positive"):
            replace(SEES, std=(0.2, std, 0.2))
    first = nn.Conv2d(3, 3, 1)
    first.weight.data = 255 * torch.eye(3)[:, :, None, None]
    first.bias.data = -torch.tensor(of_bytes.mean)
    plain = replace(SEES, mean=(0, 0, 0), std=(1, 1, 1))
    staged(nn.Sequential(first, seeded(Net)), ["1.conv"], preprocessing=plain)
    staged(
        seeded(Net), preprocessing=replace(SEES, mean=(0.41, 0.46, 0.48), std=(1 / 255,) * 3)
    )  # Caffe's


# ------------------------------------------------------------------------------------ what is wrong


def changed(function, module=Net):
    """Build a network that does something else between features and classifier."""
    return seeded(type("Changed", (module,), {"between": lambda self, values: function(values)}))


def python_noise(values):
    return values + random.random() * 1e-3


def numpy_noise(values):
    return values + float(np.random.rand()) * 1e-3  # noqa: NPY002


STOCHASTIC = {
    "dropout": lambda values: nn.functional.dropout(values, 0.5, training=True),
    "torch.rand": lambda values: values + 1e-3 * torch.rand_like(values),
    "numpy": numpy_noise,
    "python": python_noise,
}


@pytest.mark.parametrize("kind", STOCHASTIC)
def test_stochastic_output_is_found_and_nobody_elses_random_numbers_change(kind):
    def states():
        return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    network = changed(STOCHASTIC[kind])
    before, owners = states(), everything(network)
    with pytest.raises(
        InputError, match=r"gives another output for the same image each time; take what is random"
    ):
        staged(network)
    assert states() == before and everything(network) == owners
    staged(changed(lambda values: nn.functional.dropout(values, 0.5, training=False)))
    assert states() == before


def test_what_is_remembered_from_pass_to_pass_is_found():
    passes = []

    def remember(values):
        passes.append(1)
        return values * len(passes)

    with pytest.raises(InputError, match="remembered from pass to pass"):
        staged(changed(remember))
    assert len(passes) == 2  # no more than one additional pass


@torch.no_grad()
def without_gradient(values):
    return values * 2


def one_hot(values):
    return nn.functional.one_hot(values.argmax(dim=1), 8).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("cut", [lambda values: values.detach(), without_gradient, one_hot])
def test_missing_gradient(cut):
    network = changed(cut)
    before = everything(network)
    with pytest.raises(
        InputError, match=r"no gradient reaches the image; remove detach\(\), no_grad\(\), argmax"
    ):
        staged(network)
    assert everything(network) == before


def test_a_check_without_gradients_around_it_does_not_blame_the_network():
    with torch.no_grad():
        staged(seeded(Net))
        assert not torch.is_grad_enabled()


def with_nan(path):
    network = seeded(Net)
    network.get_submodule(path.rpartition(".")[0]).__getattr__(path.rpartition(".")[2]).data.view(
        -1
    )[0] = torch.nan
    return network


@pytest.mark.parametrize("path", ["head.bias", "norm.running_var", "conv2.weight"])
def test_nan_in_weights(path):
    with pytest.raises(
        InputError, match=rf"weights that are not finite \({path}, 1 in all\); load it again"
    ):
        staged(with_nan(path))


def test_nan_in_outputs_and_in_gradients_and_masks_of_minus_infinity():
    with pytest.raises(InputError, match="outputs that are not finite for an image of noise"):
        staged(changed(lambda values: (values - 1e4).log()))
    with pytest.raises(InputError, match="gradient for the image is not finite"):
        staged(changed(lambda values: values + (values.amin().detach() - values.amin()).sqrt()))
    masked = seeded(Net)
    masked.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1), persistent=False)
    staged(masked)
    masked.register_buffer("gain", torch.tensor([torch.inf]))
    with pytest.raises(InputError, match=r"not finite \(gain, 1 in all\)"):
        staged(masked)


def test_modules_in_training_and_trainable_weights_are_named():
    model = staged(seeded(Net))
    model.network.norm.train()
    with pytest.raises(InputError, match=r"training mode; call \.eval\(\).*\(norm\)"):
        check_model(model)
    model.network.eval().conv2.weight.requires_grad_(True)
    with pytest.raises(
        InputError, match=r"trainable weights; call \.requires_grad_\(False\).*\(conv2\.weight\)"
    ):
        check_model(model)
    direct = StagedModel(
        network=seeded(Net).eval(), stages={"conv": "conv"}, preprocessing=SEES, **TELLS
    )
    with pytest.raises(InputError, match=r"trainable weights.*conv\.weight.*\(8 in all\)"):
        check_model(direct)


def test_stages_are_listed_on_error(pictures):
    model = staged(seeded(vit), {"tokens": "encoder.layers.encoder_layer_1", "norm": "encoder.ln"})
    with pytest.raises(
        InputError,
        match=r"unknown stage of net 'toknes'; did you mean 'tokens'.*early.*tokens, norm",
    ):
        resolve_stage(model, "toknes")
    with pytest.raises(InputError, match=r"unknown stage of net 'head'.*tokens, norm"):
        model.activations(torch.from_numpy(pictures.images), ["head"])
    with pytest.raises(InputError, match=r"unknown module of net 'encoder.layer'.*encoder.layers"):
        staged(seeded(vit), ["encoder.layer"])
    with pytest.raises(
        InputError, match=r"stage 'auxiliary' .auxiliary. is not called in a forward pass; name one"
    ):
        staged(seeded(Wandering), ["auxiliary"])
    with pytest.raises(
        InputError, match=r"stage 'attention' gives a tuple, not a tensor; name a module inside it"
    ):
        staged(seeded(vit), {"attention": "encoder.layers.encoder_layer_0.self_attention"})
    with pytest.raises(
        InputError,
        match=r"net: give the network, a torch.nn.Module, not a OrderedDict; load weights",
    ):
        staged(seeded(Net).state_dict())


@pytest.mark.parametrize("build", [Net, vit], ids=["convolutions", "vit"])
def test_checking_an_owners_network_itself_leaves_it_as_it_was(build, pictures):
    network = seeded(build).eval().requires_grad_(False)
    heard = []
    handle = network.register_forward_hook(lambda *_: heard.append(1))
    stage = "conv" if build is Net else "encoder.ln"
    model = StagedModel(network=network, stages={stage: stage}, preprocessing=SEES, **TELLS)
    before, kept = everything(network), predict(model, pictures.images)
    heard.clear()
    check_model(model)
    assert everything(network) == before and len(heard) == 2
    handle.remove()
    network.register_forward_pre_hook(lambda *_: 1 / 0)
    before = everything(network)
    with pytest.raises(InputError, match="division by zero"):
        check_model(model)
    assert everything(network) == before
    network._forward_pre_hooks.clear()
    np.testing.assert_array_equal(predict(model, pictures.images), kept)


# ----------------------------------------------------------------- what a network returns or raises


class Returns(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.conv, self.pool, self.form = nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), form

    def forward(self, images):
        features = self.conv(images)
        return self.form(self.pool(features).flatten(1), features)


class Both(NamedTuple):
    features: torch.Tensor
    logits: torch.Tensor


FORMS = {
    "tuple": lambda logits, features: (features, logits),
    "list": lambda logits, features: [logits, None],
    "mapping": lambda logits, features: {"features": features, "out": logits},
    "by name": lambda logits, features: {"logits": logits, "others": logits + 1},
    "named tuple": lambda logits, features: Both(logits + 1, logits),
    "the same twice": lambda logits, features: (logits, logits),
}


@pytest.mark.parametrize("form", FORMS)
def test_logits_among_other_things_are_found(form, pictures):
    torch.manual_seed(0)
    network = Returns(FORMS[form])
    plain = Returns(lambda logits, features: logits)
    plain.load_state_dict(network.state_dict())
    results, expected = (predict(staged(network), pictures.images) for network in (network, plain))
    np.testing.assert_array_equal(results, expected)


def _raise(error):
    raise error


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            lambda logits, _: (logits, logits + 1),
            r"gives a tuple \(0 \(1, 10\), 1 \(1, 10\)\).* put a module around it",
        ),
        (lambda logits, _: {"a": logits[0]}, r"gives a dict \(a \(10,\)\) for one image"),
        (lambda logits, _: None, "gives nothing for one image"),
        (
            lambda logits, _: logits[:, :4],
            r"gives \(1, 4\) .* has 10 class names; give one name for each output",
        ),
        (
            lambda _, features: features,
            r"gives \(1, 10, \d+, \d+\) .* a row of numbers: put a module around it",
        ),
        (
            lambda *_: _raise(KeyError("mask")),
            "cannot run on images of .*'mask'; it must take such images",
        ),
        (lambda *_: _raise(ImportError("no xformers")), "cannot run on images of .*no xformers"),
        (lambda *_: _raise(ZeroDivisionError("by zero")), "cannot run on images of .*by zero"),
    ],
)
def test_outputs_without_clear_logits_and_any_error_are_told(form, message):
    with pytest.raises(InputError, match=message):
        staged(Returns(form))


def test_networks_without_values_and_devices_that_are_not_there_are_told():
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))
    with pytest.raises(InputError, match="have no shape yet; run the network on an image first"):
        staged(nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), head=nn.Sequential(*head))))
    with torch.device("meta"):
        empty = Returns(FORMS["tuple"])
    with pytest.raises(
        InputError, match=r"conv\.weight, conv\.bias are on the device 'meta', without values"
    ):
        staged(empty)
    for device in ("cuda:99", torch.device("cuda:99")):
        with pytest.raises(InputError, match="device 'cuda:99' is not available on this machine"):
            staged(Returns(FORMS["tuple"]), device=device)
