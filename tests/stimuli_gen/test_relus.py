"""Test the ReLUs that a stage ends in, and the gradient straight through them.

The class names of the modules do not matter.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from stimuli_gen import Preprocessing, StimulusSet, model_metamers, stage_model
from stimuli_gen.matching import match_stages

PLAIN = Preprocessing(
    size=(64, 64), resize=64, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)


def staged(network, stages):
    torch.manual_seed(0)
    return stage_model(
        network,
        stages={stage: stage for stage in stages.split()},
        preprocessing=PLAIN,
        class_names=[str(i) for i in range(1000)],
        name="net",
        weights="random",
        trained=False,
    )


def architecture(name):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, **options)


@pytest.mark.parametrize(
    ("name", "ends_in_relu", "does_not"),
    [
        ("resnet18", "relu layer1 layer2.0 layer3 layer4", "conv1 bn1 maxpool avgpool fc"),
        ("squeezenet1_0", "features.1 features.3 features.7 features.12", "features.0 features.2"),
        ("googlenet", "conv1 inception3a inception4e inception5b", "maxpool1 avgpool fc"),
        ("alexnet", "features.1 features.4 classifier.2", "features.0 features.2 classifier.6"),
        ("shufflenet_v2_x1_0", "conv1 stage2 stage4.0", "maxpool stage3.1 fc"),
    ],
)
def test_stages_that_end_in_a_relu(name, ends_in_relu, does_not):
    network = architecture(name)
    order = [
        path for path, _ in network.named_modules() if path in f"{ends_in_relu} {does_not}".split()
    ]
    ran = [path for path in order if path not in ("maxpool1",)] if name == "googlenet" else order
    model = staged_in_order(network, ran)
    (match,) = match_stages(model, list(model.stages), straight_through_relu=True)
    assert set(match.straight_through) == set(ends_in_relu.split())


def staged_in_order(network, paths):
    """Stages in the order in which they run; nested ones end after what is in them."""
    calls, hooks = [], []
    for path in paths:
        module = network.get_submodule(path)
        hooks.append(module.register_forward_hook(lambda _, __, ___, path=path: calls.append(path)))
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    return staged(
        network, " ".join(dict.fromkeys(path for path in calls if calls.count(path) == 1))
    )


class Residual(nn.Module):
    """A block with a skip, whose ReLU is a module, a function, or in place."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv1, self.conv2 = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=how == "in place")

    def before(self, values):
        return self.conv2(torch.relu(self.conv1(values))) + values

    def forward(self, values):
        values = self.before(values)
        if self.how == "function":
            return nn.functional.relu(values)
        if self.how == "method":
            return values.clamp_min(0)
        if self.how == "fire":
            left, right = values.chunk(2, dim=1)
            return torch.cat([nn.functional.relu(right), self.relu(left)], dim=1)
        return self.relu(values)


def small(how):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2),
        nn.ReLU(),
        Residual(how),
        nn.Conv2d(6, 6, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 1000),
    )


@pytest.mark.parametrize("how", ["module", "in place", "function", "method", "fire"])
def test_the_gradient_of_a_block_passes_its_last_relu_and_no_other(how):
    model = staged(small(how), "2 3")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain, straight = (
        match_stages(model, "2", straight_through_relu=through)[0] for through in (False, True)
    )
    assert torch.equal(plain.activations(images)["2"], straight.activations(images)["2"])
    weights = torch.randn(
        plain.activations(images)["2"].shape, generator=torch.Generator().manual_seed(2)
    )

    def before_the_relu(images):
        network = model.network
        values = network[2].before(network[1](network[0]((images - 0.5) / 0.25)))
        if how == "fire":
            values = torch.cat(values.chunk(2, dim=1)[::-1], dim=1)
        return values.permute(0, 2, 3, 1).flatten(1)

    def gradient(run):
        tracked = images.clone().requires_grad_(True)
        return torch.autograd.grad((run(tracked) * weights).sum(), tracked)[0]

    through = gradient(lambda tracked: straight.activations(tracked)["2"])
    torch.testing.assert_close(through, gradient(before_the_relu))
    assert (gradient(lambda tracked: plain.activations(tracked)["2"]) - through).abs().max() > 0.01
    (both,) = match_stages(model, ["2", "3"], straight_through_relu=True)
    later = torch.autograd.grad(both.activations(images.requires_grad_(True))["3"].sum(), images)[0]
    ordinary = torch.autograd.grad(model.activations(images, ["3"])["3"].sum(), images)[0]
    torch.testing.assert_close(later, ordinary)


class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


class Activation(nn.Module):
    def forward(self, values):
        return Hidden.apply(values)


def ending_in(activation):
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1000))
    return nn.Sequential(nn.Conv2d(3, 6, 3, 2), activation, *head)


def test_what_cannot_be_decided_is_told():
    hidden = ending_in(Activation())
    (match,) = match_stages(staged(hidden, "1"), "1", straight_through_relu=True)
    assert (match.straight_through, match.undecided) == ((), ("1",))
    images = np.random.default_rng(0).uniform(0.2, 0.8, (1, 3, 64, 64)).astype(np.float32)
    table = pd.DataFrame({"id": ["a"], "kind": "RE", "reference_id": ["a"], "category": ""})
    references = StimulusSet(images=images, table=table)
    model = staged(hidden, "0 1")
    assert not match_stages(model, "0", straight_through_relu=True)[
        0
    ].undecided  # our own gradient of a convolution
    made = model_metamers(
        model, references, stage="1", preset="feather2023", steps=1, file_rounds=0
    )
    assert made.table["straight_through"][0] == "undecided at net: 1"
    with pytest.raises(ValueError, match="hidden in a compiled module or a hand-written gradient"):
        model_metamers(
            model, references, stage="1", preset="fast", steps=1, straight_through_relu=True
        )


class WrittenOver(nn.Module):
    def forward(self, values):
        values = values.clamp(min=0)
        values += 1
        return values


def test_a_relu_that_is_written_over_is_not_the_end():
    (match,) = match_stages(staged(ending_in(WrittenOver()), "1"), "1", straight_through_relu=True)
    assert (match.straight_through, match.undecided) == ((), ())


class Laid(nn.Module):
    """A ReLU whose output is laid out in another way.

    The number of images is among the arguments.
    """

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, values):
        n, size = values.shape[0], values.shape[2:]
        before = self.conv(values)
        return LAYOUTS[self.how](before, n, size)


LAYOUTS = {
    "view": lambda values, n, size: (
        torch.relu(values).view(n, 2, 3, *size).transpose(1, 2).reshape(n, 6, *size)
    ),
    "reshape": lambda values, n, size: torch.relu(values).reshape(n, -1),
    "split": lambda values, n, size: torch.cat(torch.split(torch.relu(values), n, dim=0)),
    "shuffle": lambda values, n, size: nn.functional.channel_shuffle(torch.relu(values), 2),
    "index": lambda values, n, size: torch.relu(values)[:, None].squeeze(1)[:, ::2],
    "stack": lambda values, n, size: torch.stack(
        [torch.relu(values), nn.functional.relu(-values)], 1
    ),
    "keywords": lambda values, n, size: torch.cat(
        tensors=[torch.relu(values), torch.relu(-values)], dim=1
    ),
    "threshold": lambda values, n, size: nn.functional.threshold(values, 0, 0),
    "maximum": lambda values, n, size: torch.maximum(torch.zeros(()), values),
    "no ReLU in keywords": lambda values, n, size: torch.flatten(input=values, start_dim=2),
    "half a ReLU in keywords": lambda values, n, size: torch.cat(
        tensors=[torch.relu(values), values], dim=1
    ),
    "where": lambda values, n, size: torch.where(values > 0, values, torch.zeros_like(values)),
    "bounded": lambda values, n, size: nn.functional.relu6(values),
}


@pytest.mark.parametrize("how", LAYOUTS)
def test_a_layout_that_names_the_number_of_images_serves_every_batch(how):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 5, 4), Laid(how), nn.Flatten(), nn.LazyLinear(1000))
    network(torch.zeros(1, 3, 64, 64))
    plain, straight = (
        match_stages(staged(network, "1"), "1", straight_through_relu=inplace)[0]
        for inplace in (False, True)
    )
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    results = straight.activations(images)["1"]
    assert torch.equal(results, plain.activations(images)["1"])
    expected = {"where": ((), ("1",)), "bounded": ((), ())}
    expected |= dict.fromkeys(("no ReLU in keywords", "half a ReLU in keywords"), ((), ()))
    assert (straight.straight_through, straight.undecided) == expected.get(how, (("1",), ()))
    weights = torch.randn(results.shape, generator=torch.Generator().manual_seed(2))
    ordinary, through = (gradient_of(match, images, weights) for match in (plain, straight))
    assert torch.equal(ordinary, through) == (how in expected)


def gradient_of(match, images, weights):
    tracked = images.clone().requires_grad_(True)
    return torch.autograd.grad((match.activations(tracked)["1"] * weights).sum(), tracked)[0]


def test_a_batch_passes_the_channel_shuffle_of_shufflenet():
    model = staged(architecture("shufflenet_v2_x0_5"), "stage2")
    plain, straight = (
        match_stages(model, "stage2", straight_through_relu=inplace)[0] for inplace in (False, True)
    )
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert straight.straight_through == ("stage2",)
    assert torch.equal(plain.activations(images)["stage2"], straight.activations(images)["stage2"])
