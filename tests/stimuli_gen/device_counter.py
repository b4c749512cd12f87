"""The pretended device itself: what it counts, refuses, and computes.

`test_device` runs this file in a process of its own.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from stimuli_gen import resolve_device
from tests.helpers.pretended_device import (
    MemoryRunsOut,
    PretendedTensor,
    counted,
    install,
    listening,
    with_memory,
    without_float64,
)

DEVICE = install()


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(4, 3, 8, 8).to(DEVICE)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 5))


STAYS = {
    "zeros": lambda images: torch.zeros(3, device=DEVICE),
    "full": lambda images: torch.full((3,), 2.0, device=DEVICE),
    "arange": lambda images: torch.arange(3, device=DEVICE),
    "sum": lambda images: images.sum(),
    "a number": lambda images: images * 2.0,
    "a number without dimensions": lambda images: images * torch.tensor(2.0),
    "one place": lambda images: images.clone().__setitem__(0, 1.0),
    "where": lambda images: torch.where(images > 0, images, images),
    "another type": lambda images: images.to(torch.bfloat16),
    "transform": lambda images: torch.fft.irfft2(torch.fft.rfft2(images)),
}
COPIES_THERE = {
    "tensor": lambda images: torch.tensor([1.0, 2.0], device=DEVICE),
    "as_tensor": lambda images: torch.as_tensor([1.0, 2.0], device=DEVICE),
    "from numpy": lambda images: torch.from_numpy(np.zeros(3)).to(DEVICE),
    "copy_": lambda images: images.copy_(torch.zeros(4, 3, 8, 8)),
    "a row": lambda images: images.__setitem__(0, torch.zeros(3, 8, 8)),
    "a number of the host": lambda images: torch.where(images > 0, images, torch.tensor(0.0)),
    "places of the host": lambda images: images[torch.tensor([0, 2])],
}
WAITS = {
    "item": lambda images: images.sum().item(),
    "tolist": lambda images: images.sum((1, 2, 3)).tolist(),
    "float": lambda images: float(images.sum()),
    "bool": lambda images: bool((images > 0).any()),
    "cpu": lambda images: images.cpu(),
    "copy_": lambda images: torch.zeros(4, 3, 8, 8).copy_(images),
    "nonzero": lambda images: images.nonzero(),
    "by booleans": lambda images: images[images > 0],
    "set by booleans": lambda images: images.__setitem__(images > 0, 1.0),
    "unique": lambda images: images.unique(),
    "equal": lambda images: torch.equal(images, images),
    "synchronize": lambda images: torch.pretended.synchronize(),
}


@pytest.mark.parametrize("what", STAYS)
def test_work_of_the_device_is_free(what, images):
    with counted() as traffic:
        STAYS[what](images)
    assert (traffic.to_device, traffic.waits, traffic.from_device) == (0, 0, 0)
    assert traffic.n_operators > 0


@pytest.mark.parametrize("what", COPIES_THERE)
def test_copies_to_the_device_are_counted(what, images):
    with counted() as traffic:
        COPIES_THERE[what](images)
    assert (traffic.to_device, traffic.waits) == (1, 0), traffic.listed()


@pytest.mark.parametrize("what", WAITS)
def test_waiting_for_the_device_is_counted(what, images):
    with counted() as traffic:
        WAITS[what](images)
    assert (traffic.to_device, traffic.waits) == (0, 1), traffic.listed()


def test_a_copy_back_without_waiting_is_no_wait(images):
    with counted() as traffic:
        host = torch.empty(images.shape).copy_(images, non_blocking=True)
    assert (traffic.from_device, traffic.waits) == (1, 0)
    assert type(host) is torch.Tensor and torch.equal(host, images.cpu())


def test_places_name_the_line_that_asked(images):
    with counted() as traffic:
        images.sum().item()
    ((kind, place, operator), times), *_ = traffic.places.most_common(1)
    assert place.startswith("tests/stimuli_gen/device_counter.py:") and times == 1
    assert operator == "aten._local_scalar_dense.default" and kind in ("waits", "from_device")


def test_a_mixture_of_devices_is_refused(images):
    with pytest.raises(RuntimeError, match="same device, but found at least two devices"):
        images + torch.ones(4, 3, 8, 8)
    with pytest.raises(RuntimeError, match="same device"):
        network()(images)
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        images.numpy()


def test_networks_gradients_and_trainings_are_those_of_the_cpu(images):
    results = []
    for device in (torch.device("cpu"), DEVICE):
        module = copy.deepcopy(network()).to(device)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        leaf = images.cpu().to(device).requires_grad_(True)
        for _ in range(3):
            optimizer.zero_grad()
            loss = module(leaf).square().mean()
            loss.backward()
            optimizer.step()
        assert leaf.grad.device.type == device.type
        results.append([leaf.grad.cpu(), *(value.cpu() for value in module.state_dict().values())])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch calls its own
def test_derivatives_of_other_kinds(images):
    def cubes(values):
        return values.pow(3).sum()

    plain = images.cpu()
    for on, values in (("device", images), ("host", plain)):
        product = torch.autograd.functional.hvp(cubes, values, values)[1]
        tangent = torch.func.jvp(cubes, (values,), (values,))[1]
        rows = torch.func.vmap(cubes)(values)
        assert torch.allclose(product.cpu(), 6 * plain.square()), on
        assert torch.allclose(tangent.cpu(), 3 * plain.pow(3).sum(), rtol=1e-4), on
        assert torch.allclose(rows.cpu(), plain.pow(3).sum((1, 2, 3)), rtol=1e-4), on


def test_changes_of_a_part_reach_the_whole(images):
    whole = images.clone()
    whole[1].mul_(0)
    whole.view(4, -1)[2] = 5.0
    assert whole[1].abs().sum().item() == 0 and whole[2].mean().item() == 5
    doubled = torch.empty_like(images)
    assert torch.add(images, images, out=doubled) is doubled
    assert torch.equal(doubled.cpu(), 2 * images.cpu())


def test_float64_is_refused_where_the_device_has_none(images):
    with without_float64():
        for make in (images.double, lambda: torch.zeros(2, dtype=torch.float64, device=DEVICE)):
            with pytest.raises(TypeError, match="doesn't support float64"):
                make()
    assert images.double().dtype == torch.float64


def test_memory_runs_out_where_it_is_asked_to(images):
    module = network().to(DEVICE)
    runs_out = MemoryRunsOut("convolution.default", at={1})
    with listening(runs_out):
        module(images)
        with pytest.raises(torch.OutOfMemoryError, match="pretended out of memory"):
            module(images)
        module(images)
    assert (runs_out.calls, runs_out.failures) == (3, 1)
    with pytest.raises(RuntimeError, match="does not know its memory"):
        torch.pretended.mem_get_info()
    with with_memory(10**9):
        assert torch.pretended.mem_get_info() == (10**9, 10**9)


def test_the_device_is_found_by_its_name():
    assert resolve_device("pretended") == torch.device("pretended")
    assert resolve_device("auto").type == "pretended"
    assert isinstance(torch.zeros(1, device=resolve_device("pretended:0")), PretendedTensor)
