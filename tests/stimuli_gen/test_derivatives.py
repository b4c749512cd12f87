"""Derivatives of any order through a `StagedModel`, against finite differences, in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.autograd import functional as reverse

from neurometamer.errors import InputError
from stimuli_gen import Preprocessing, greyscale_view, stage_model
from stimuli_gen.derivatives import FirstConv2d
from stimuli_gen.matching import match_stages

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script:FutureWarning"
)  # torch, of torch.func itself

PLAIN = Preprocessing(
    size=(12, 12), resize=12, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2, padding=1),
        nn.Softplus(),
        nn.Conv2d(6, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.Tanh(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    made = stage_model(
        network,
        stages={"early": "1", "late": "4"},
        preprocessing=PLAIN,
        class_names=list("abcde"),
        name="net",
        weights="random",
        trained=False,
    )
    assert isinstance(made.network[0], FirstConv2d)  # whose gradient is written by hand
    made.network.double()
    return made


@pytest.fixture(scope="module")
def point():
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, 12, 12, generator=generator, dtype=torch.float64)
    return image, torch.randn(image.shape, generator=generator, dtype=torch.float64)


VIEWS = {
    "a stage": lambda model: lambda images: model.activations(images, ["late"])["late"],
    "logits": lambda model: model.logits,
    "grayscale": lambda model: greyscale_view(model).logits,
    "as a module": lambda model: model.stage_module("late"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_first_and_second_derivatives_are_those_of_finite_differences(model, point, view):
    if view == "grayscale":
        model.network.float()
        run = VIEWS[view](model)
        model.network.double()
    else:
        run = VIEWS[view](model)
    image, direction = point
    step = 1e-5

    def error(images):
        return run(images).square().sum()

    def gradient(images):
        images = images.clone().requires_grad_(True)
        return torch.autograd.grad(error(images), images)[0]

    slope = (run(image + step * direction) - run(image - step * direction)) / (2 * step)
    bend = (gradient(image + step * direction) - gradient(image - step * direction)) / (2 * step)
    assert slope.abs().max() > 0.01 and bend.abs().max() > 0.01
    grad, jvp, vjp = torch.func.grad, torch.func.jvp, torch.func.vjp
    close = {"rtol": 1e-5, "atol": 1e-7}
    torch.testing.assert_close(reverse.jvp(run, image, direction)[1], slope, **close)
    torch.testing.assert_close(jvp(run, (image,), (direction,))[1], slope, **close)
    with forward_ad.dual_level():
        dual = run(forward_ad.make_dual(image, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope, **close)
    torch.testing.assert_close(grad(error)(image), gradient(image), **close)
    for results in (
        reverse.hvp(error, image, direction)[1],
        reverse.vhp(error, image, direction)[1],
        jvp(grad(error), (image,), (direction,))[1],
        vjp(grad(error), image)[1](direction)[0],
    ):
        torch.testing.assert_close(results, bend, **close)


def test_whole_hessians_jacobians_and_batches_of_gradients_agree(model, point):
    image, direction = point[0][:1], point[1][:1]
    size = image.numel()

    def run(images):
        return model.activations(images, ["late"])["late"]

    def error(images):
        return run(images).square().sum()

    hessian = torch.func.hessian(error)(image).reshape(size, size)
    expected = reverse.hvp(error, image, direction)[1]
    torch.testing.assert_close((hessian @ direction.flatten()).view_as(image), expected)
    torch.testing.assert_close(hessian, hessian.T)
    torch.testing.assert_close(torch.func.jacrev(run)(image), torch.func.jacfwd(run)(image))
    alone = torch.stack(
        [torch.func.grad(lambda pixels: error(pixels[None]))(pixels) for pixels in point[0]]
    )
    together = torch.func.vmap(torch.func.grad(lambda pixels: error(pixels[None])))(point[0])
    torch.testing.assert_close(together, alone)


def test_third_derivatives_and_gradcheck(model, point):
    image = point[0][:1].clone().requires_grad_(True)

    def error(images):
        return model.activations(images, ["early"])["early"].sin().sum()

    assert torch.autograd.gradcheck(error, image, fast_mode=True)
    assert torch.autograd.gradgradcheck(error, image, fast_mode=True)
    (first,) = torch.autograd.grad(error(image), image, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), image, create_graph=True)
    (third,) = torch.autograd.grad(second.square().sum(), image)
    step = 1e-6 * point[1][:1]

    def of_second(images):
        (once,) = torch.autograd.grad(error(images), images, create_graph=True)
        (twice,) = torch.autograd.grad(once.square().sum(), images)
        return twice.square().sum()

    before, after = (
        of_second((image + sign * step).detach().requires_grad_(True)) for sign in (-1, 1)
    )
    np.testing.assert_allclose(
        (third * step).sum().item(), ((after - before) / 2).item(), rtol=1e-4
    )


def test_a_straight_through_relu_is_differentiable_twice(point):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 5, 2, 1), nn.Softplus(), nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True)
    )
    network.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)])
    model = stage_model(
        network,
        stages={"before": "2", "relu": "3"},
        preprocessing=PLAIN,
        class_names=list("abcde"),
        name="net",
        weights="random",
        trained=False,
    )
    (match,) = match_stages(model, "relu", straight_through_relu=True)
    model.network.double()
    image, direction = point

    def through(images):
        return match.activations(images)["relu"].sum()

    def before(images):
        return model.activations(images, ["before"])["before"].sum()

    torch.testing.assert_close(
        reverse.hvp(through, image, direction)[1], reverse.hvp(before, image, direction)[1]
    )
    assert torch.func.jvp(torch.func.grad(through), (image,), (direction,))[1].abs().max() > 0


def test_stages_come_contiguous_as_other_libraries_want_them(model, point):
    assert model.activations(point[0], ["late", "early"])["early"].is_contiguous()
    assert model.stage_module("early")(point[0]).view(-1).shape == (2 * 6 * 5 * 5,)


def test_eigendistortions_of_plenoptic_are_those_of_the_jacobian(model):
    plenoptic = pytest.importorskip("plenoptic")
    model.network.float()
    try:
        image = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(2))
        results = plenoptic.Eigendistortion(image, model.stage_module("late"))
        results.synthesize(method="power", max_iter=2000)
        jacobian = reverse.jacobian(
            lambda images: model.stage_module("late")(images).flatten(), image
        ).flatten(1)
        largest = torch.linalg.eigvalsh(jacobian @ jacobian.T)[-1]
        torch.testing.assert_close(results.eigenvalues[0], largest, rtol=1e-3, atol=0)
    finally:
        model.network.double()


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values * values

    @staticmethod
    def backward(ctx, gradient):
        (values,) = ctx.saved_tensors
        return 2 * values * gradient


class _Once(_Square):
    backward = staticmethod(torch.autograd.function.once_differentiable(_Square.backward))


class _Forgets(_Square):
    @staticmethod
    def forward(ctx, values):
        ctx.values = values.detach().clone()
        return values * values

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.values * gradient


class _Layer(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, values):
        return self.operation.apply(values)


@pytest.mark.parametrize("operation", [_Square, _Once, _Forgets])
def test_hand_written_operations_are_right_twice_or_refused(operation, point):
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    made = stage_model(
        nn.Sequential(nn.Conv2d(3, 6, 5, 2, 1), _Layer(operation), *head),
        stages={"square": "1"},
        preprocessing=PLAIN,
        class_names=list("abcde"),
        name="net",
        weights="random",
        trained=False,
    )
    made.network.double()
    image, direction = point

    def error(images):
        return made.logits(images).square().sum()

    def gradient(images):
        return torch.autograd.grad(error(images), images)[0]

    ends = [gradient((image + sign * 1e-5 * direction).requires_grad_(True)) for sign in (1, -1)]
    assert all(end.abs().max() > 0 for end in ends)
    if operation is _Square:
        assert made.once == ()
        torch.testing.assert_close(
            reverse.hvp(error, image, direction)[1], (ends[0] - ends[1]) / 2e-5
        )
        return
    assert made.once == (operation.__name__,)
    for again in (reverse.hvp, reverse.vhp, reverse.jvp):
        with pytest.raises(
            InputError,
            match=rf"net: {operation.__name__} \(hand-written\) has no right second deriv",
        ):
            again(error, image, direction) if again is not reverse.jvp else again(
                made.logits, image, direction
            )
