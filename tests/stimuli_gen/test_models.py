import copy

import numpy as np
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import (
    Preprocessing,
    at_size,
    check_model,
    greyscale_view,
    predict,
    resolve_device,
    stage_model,
)
from stimuli_gen.batches import padded_batches
from stimuli_gen.controls import LUMA, grayscale
from stimuli_gen.fast import fast_model

TINY = Preprocessing(
    size=(8, 8), resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)


class Net(nn.Module):
    def __init__(self, n_classes=4):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 5, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(5, n_classes)
        self.ran = 0

    def forward(self, x):
        x = self.relu(self.conv2(self.relu(self.conv(x))))
        self.ran += 1
        return self.head(x.mean(dim=(2, 3)))


def stage(network=None, stages=None, n_classes=4, **more):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = Net() if network is None else network
    stages = {"conv": "conv", "head": "head", "softmax": "softmax"} if stages is None else stages
    names = [f"c{i}" for i in range(n_classes)]
    given = {"preprocessing": TINY, "name": "tiny", "weights": "random", "trained": False} | more
    return stage_model(network, stages=stages, class_names=names, **given)


def pictures(n, size, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).random((n, 3, size, size), dtype=np.float32)
    )


def test_in_place_operations_do_not_reach_recorded_activations(alexnet, alexnet_module):
    images = pictures(2, 224)
    reference = copy.deepcopy(alexnet_module).eval()
    for module in reference.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1)
        for v in (alexnet.preprocessing.mean, alexnet.preprocessing.std)
    )
    with torch.no_grad():
        normalized = (images - mean) / std
        conv1 = reference.features[0](normalized)
        features = reference.features(normalized).flatten(1)
        activations = alexnet.activations(images, ["probability", "relu1", "conv1", "fc6"])
        assert list(activations) == ["probability", "relu1", "conv1", "fc6"]
        close = {"rtol": 1e-4, "atol": 1e-6}  # channels-last kernels round differently
        torch.testing.assert_close(activations["conv1"], conv1, **close)
        torch.testing.assert_close(activations["relu1"], conv1.relu(), **close)
        torch.testing.assert_close(activations["fc6"], reference.classifier[1](features), **close)
        torch.testing.assert_close(
            activations["probability"], reference(normalized).softmax(1), **close
        )
    assert activations["conv1"].min() < 0


def test_the_callers_network_is_left_alone():
    network = Net().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = stage(network)
    model.activations(pictures(1, 8), ["conv"])
    assert network.training and all(weight.requires_grad for weight in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.conv._forward_hooks and network.ran == 0


def test_early_exit_and_hooks_removed_even_on_error():
    model = stage()
    ran = model.network.ran
    model.activations(pictures(1, 8), ["conv"])
    assert model.network.ran == ran  # never came to the end
    model.activations(pictures(1, 8), ["conv", "softmax"])
    assert model.network.ran == ran + 1
    model.network.head.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.activations(pictures(1, 8), ["conv", "softmax"])
    assert not model.network.conv._forward_hooks


def test_activations_carry_the_gradient(alexnet):
    images = pictures(1, 224).requires_grad_(True)
    activations = alexnet.activations(images, ["conv1", "conv5"])
    (gradient,) = torch.autograd.grad(
        activations["conv1"].sum() + activations["conv5"].square().sum(), images
    )
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_token_activations_of_a_transformer():
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=4, depth=2)
    preprocessing = Preprocessing(
        size=(32, 32), resize=32, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    model = stage(
        network, {"block 0": "blocks.0", "block 1": "blocks.1"}, preprocessing=preprocessing
    )
    assert model.activations(pictures(2, 32), ["block 0"])["block 0"].shape == (2, 5, 192)


def test_digest_follows_weights_preprocessing_and_stages():
    model = stage()
    assert model.digest == stage(copy.deepcopy(model.network)).digest
    other = copy.deepcopy(model.network)
    other.conv.bias.data[0] += 1e-6
    assert stage(other).digest != model.digest
    assert stage(model.network, {"conv": "conv"}).digest != model.digest
    dilated = copy.deepcopy(model.network)
    dilated.conv.dilation = dilated.conv.padding = (
        2,
        2,
    )  # same weights, same kinds of modules, other outputs
    assert stage(dilated).digest != model.digest
    softer = Preprocessing(
        size=(8, 8), resize=8, interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    assert stage(model.network, preprocessing=softer).digest != model.digest


def test_a_greyscale_view_sees_what_the_greyscale_control_makes():
    skewed = Preprocessing(
        size=(8, 8), resize=8, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)
    )
    model = stage(preprocessing=skewed, trained=True)
    view, images = greyscale_view(model), pictures(3, 8)
    gray = torch.from_numpy(
        np.stack([grayscale(image, None, 0) for image in images.double().numpy()])
    ).float()
    before = model.activations(gray, list(model.stages))
    for name, activations in view.activations(images, list(model.stages)).items():
        torch.testing.assert_close(
            activations, before[name], rtol=1e-5, atol=1e-6
        )  # float32 rounding of the gray value
        assert not torch.equal(activations, model.activations(images, [name])[name])
    np.testing.assert_allclose(
        predict(view, images.numpy(), 2), predict(model, gray.numpy(), 2), rtol=1e-5
    )
    fast = fast_model(view, precision="float32")
    torch.testing.assert_close(fast.logits(images), view.logits(images), rtol=1e-4, atol=1e-5)


def test_a_greyscale_view_is_a_network_of_its_own():
    model = stage(trained=True)
    digest, view = model.digest, greyscale_view(model)
    assert (view.name, view.weights) == ("tiny_grey", "random, grayscale view (Rec. 601 luma)")
    assert (
        view.trained and view.stages == model.stages and view.preprocessing == model.preprocessing
    )
    assert (
        view.digest != digest == model.digest
        and view.network is model.network
        and model.luma is None
    )
    assert not greyscale_view(stage()).trained
    assert at_size(view, 12).digest == greyscale_view(at_size(model, 12)).digest != view.digest
    assert fast_model(view, precision="float32").luma == view.luma
    with pytest.raises(InputError, match="tiny_grey is a grayscale view already"):
        greyscale_view(view)


@pytest.mark.parametrize("which", ["tiny", "alexnet"])
def test_a_greyscale_views_gradient_has_no_color(which, request):
    """The gradient of any stage is one map times the luma weights.

    So it is 0 along all changes that keep the luma.
    """
    model = stage() if which == "tiny" else request.getfixturevalue("alexnet")
    images = pictures(2, model.preprocessing.size[0]).requires_grad_(True)
    weights = torch.tensor(LUMA["rec601"], dtype=torch.float64).view(1, 3, 1, 1)
    for name, activations in greyscale_view(model).activations(images, list(model.stages)).items():
        (gradient,) = torch.autograd.grad(activations.square().sum(), images, retain_graph=True)
        shares = gradient.double() / weights
        size = shares.abs().max()
        assert size > 0 and (shares - shares[:, :1]).abs().max() < 1e-6 * size, name
        keeps_luma = torch.tensor([0.587, -0.299, 0.0], dtype=torch.float64).view(1, 3, 1, 1)
        assert (gradient.double() * keeps_luma).sum(dim=1).abs().max() < 1e-6 * size


def test_predictions_do_not_depend_on_companions(lite0, photographs):
    alone = predict(lite0, photographs.images[4:5], batch_size=4)
    np.testing.assert_array_equal(alone[0], predict(lite0, photographs.images[:6], batch_size=4)[4])
    sixes = (
        predict(lite0, images, batch_size=6)
        for images in (photographs.images[:6], photographs.images[5::-1])
    )
    np.testing.assert_array_equal(next(sixes), next(sixes)[::-1])
    batches = list(padded_batches(photographs.images[:5], 4, torch.device("cpu")))
    assert [(rows.start, rows.stop, len(batch)) for rows, batch in batches] == [
        (0, 4, 4),
        (4, 5, 4),
    ]


def nan_weights(network):
    network.head.weight.data[0, 0] = float("nan")
    return network


class Detached(Net):
    def forward(self, x):
        return super().forward(x.detach())


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: stage(n_classes=5), r"gives \(1, 4\) for one image but has 5 class names"),
        (
            lambda: stage(stages={"a": "conv1"}),
            "unknown module of tiny 'conv1'; did you mean 'conv'",
        ),
        (lambda: stage(stages={"a": "relu"}), "stage 'a' .relu. runs 2 times"),
        (
            lambda: stage(stages={"a": "head", "b": "conv"}),
            "early to late; the network runs them as b, a",
        ),
        (lambda: stage(stages={"p": "softmax", "b": "conv"}), "the softmax stage is the last one"),
        (
            lambda: stage(nan_weights(Net())),
            r"weights that are not finite \(head.weight, 1 in all\)",
        ),
        (lambda: stage(Detached()), "no gradient reaches the image"),
        (lambda: stage(stages={}), "name at least one stage"),
        (
            lambda: stage().activations(pictures(1, 8), ["covn"]),
            "unknown stage of tiny 'covn'; did you mean 'conv'",
        ),
        (
            lambda: stage().logits(pictures(1, 9)),
            r"sees images of \(b, 3, 8, 8\), not \(1, 3, 9, 9\)",
        ),
        (lambda: resolve_device("gpu"), "unknown device 'gpu'.*auto, cpu, cuda, mps"),
    ],
)
def test_errors_name_the_cure(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_check_model_sees_what_was_changed_later():
    model = stage()
    model.network.train()
    with pytest.raises(InputError, match=r"training mode; call \.eval\(\)"):
        check_model(model)
    model.network.eval().requires_grad_(True)
    with pytest.raises(InputError, match="trainable weights"):
        check_model(model)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there():
    assert resolve_device("auto").type in ("cpu", "mps")
    with pytest.raises(InputError, match="device 'cuda' is not available"):
        resolve_device("cuda")
