import copy

import pytest
import torch
from torch import nn

from stimuli_gen import Preprocessing, stage_model
from stimuli_gen.derivatives import FirstConv2d, quicken

SHAPES = {
    "alexnet": (nn.Conv2d(3, 16, 11, 4, 2), (64, 60)),
    "resnet": (nn.Conv2d(3, 16, 7, 2, 3, bias=False), (33, 40)),
    "squeezenet": (nn.Conv2d(3, 16, 7, 2), (35, 36)),
    "patches": (nn.Conv2d(3, 16, 8, 8), (32, 45)),  # the last pixels reach no kernel
    "gray": (nn.Conv2d(1, 4, 3, 2, 1), (20, 21)),
    "wide margin": (nn.Conv2d(4, 4, 3, 3, 3), (17, 16)),
}


@pytest.mark.parametrize("precision", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SHAPES)
def test_the_forward_pass_is_the_same_and_the_gradient_is_the_same_sum(name, precision):
    module, size = SHAPES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = copy.deepcopy(module).to(precision).requires_grad_(False)
        images = torch.rand((3, plain.in_channels, *size), dtype=precision)
        weights = torch.randn_like(plain(images))
    quick = nn.Sequential(copy.deepcopy(plain))
    quicken(quick)
    assert type(quick[0]) is FirstConv2d
    results = []
    for network in (plain, quick):
        given = images.clone().contiguous(memory_format=torch.channels_last).requires_grad_(True)
        output = network(given)
        results.append((output.detach(), *torch.autograd.grad((output * weights).sum(), given)))
    assert torch.equal(results[0][0], results[1][0])
    # another order of summation
    within = 1e-12 if precision == torch.float64 else 2e-6
    assert (results[0][1] - results[1][1]).abs().max() <= within * results[0][1].abs().max()


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 8, 3),  # stride 1: nothing to gain
        nn.Conv2d(3, 8, 1, 2),  # skips pixels
        nn.Conv2d(8, 8, 3, 2),  # not a first one
        nn.Conv2d(3, 9, 3, 2, groups=3),
        nn.Conv2d(3, 8, 3, 2, dilation=2),
        nn.Conv2d(3, 8, (3, 5), 2),
        nn.Conv2d(3, 8, 3, 2, padding=(1, 0)),
        nn.Conv2d(3, 8, 3, 2, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 8, 3, padding="same"),
    ],
)
def test_other_convolutions_are_left_alone(module):
    holder = nn.Sequential(module)
    quicken(holder)
    assert type(holder[0]) is nn.Conv2d


def test_weights_that_learn_get_their_gradient():
    quick = nn.Sequential(nn.Conv2d(3, 8, 3, 2))
    quicken(quick)
    images = torch.rand(2, 3, 9, 9, requires_grad=True)
    quick(images).sum().backward()
    assert quick[0].weight.grad is not None and images.grad is not None


def test_the_callers_network_stays_plain_and_the_digest_is_that_of_the_plain_one():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 8, 7, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 13 * 13, 5)
        )
    sees = Preprocessing(
        size=(32, 32), resize=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    settings = {
        "stages": {"relu": "1"},
        "preprocessing": sees,
        "class_names": list("abcde"),
        "weights": "random",
    }
    model = stage_model(network, **settings, name="small", trained=False)
    assert type(network[0]) is nn.Conv2d and type(model.network[0]) is FirstConv2d
    before = model.digest
    model.network[0].__class__ = nn.Conv2d
    again = stage_model(network, **settings, name="small", trained=False)
    again.network[0].__class__ = nn.Conv2d
    assert again.digest == before
