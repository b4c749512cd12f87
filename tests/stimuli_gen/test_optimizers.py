import itertools

import numpy as np
import pytest
import torch
from goals import descend_with

from neurometamer.errors import InputError
from stimuli_gen.synthesis.loop import Start
from stimuli_gen.synthesis.optimizers import LBFGS_MEMORY, PARAMETRIZATIONS

GIVEN = {"threshold": torch.inf, "step_rule": "raw", "keep": "last", "batch_size": 2}


def bowl(scales, goal):
    """Σ scale (x - goal)² with its own goal for each image; L-BFGS must see through the scales."""

    def evaluate(images, context):
        loss = (scales * (images - context["goal"].view(-1, 1, 1, 1)).square()).flatten(1).sum(1)
        return loss, -loss.detach()

    return evaluate


def start(goals):
    return lambda stimulus_id: Start(
        image=np.full((3, 4, 4), 0.5, np.float32),
        context={"goal": np.array(goals[stimulus_id], np.float32)},
    )


def test_momentum_agrees_with_torch():
    goals = {"a": 0.7, "b": 0.3, "c": 0.55}
    results = descend_with(
        bowl(1.0, None),
        list(goals),
        start(goals),
        **GIVEN,
        optimizer="momentum",
        step_size=0.02,
        max_steps=9,
    )
    for stimulus_id, goal in goals.items():
        image = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
        peer = torch.optim.SGD([image], lr=0.02, momentum=0.9)
        for _ in range(9):
            peer.zero_grad()
            (image - goal).square().sum().backward()
            peer.step()
        np.testing.assert_allclose(results[stimulus_id].image, image.detach().numpy()[0], rtol=1e-5)


def test_lbfgs_agrees_with_torch_where_no_step_is_cut():
    """Both are algorithm 7.4 without a line search.

    The first step has the same length, and none is cut.
    """
    scales = torch.linspace(0.5, 4, 48).view(3, 4, 4)
    goals = {"a": 0.62, "b": 0.41}
    objective = bowl(scales, None)
    steps = LBFGS_MEMORY // 2
    for stimulus_id, goal in goals.items():
        image = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
        first = None

        def closure(image=image, goal=goal):
            image.grad = None
            loss = (scales * (image - goal).square()).sum()
            loss.backward()
            return loss

        closure()
        first = float(image.grad.norm())
        # torch makes its first step min(1, 1 / |g|_1) · rate · g; ours is `step_size` long: choose
        # the rate to agree
        length = 0.5
        rate = length / (first * min(1.0, 1 / float(image.grad.abs().sum())))
        peer = torch.optim.LBFGS([image], lr=rate, max_iter=1, history_size=LBFGS_MEMORY)
        peer.step(closure)
        peer.param_groups[0]["lr"] = 1.0
        for _ in range(steps - 1):
            peer.step(closure)
        results = descend_with(
            objective,
            [stimulus_id],
            start(goals),
            **GIVEN,
            optimizer="lbfgs",
            max_steps=steps,
            step_size=lambda step, first=length: 9.0 if step else first,
            project=lambda images: images,
        )[stimulus_id]
        np.testing.assert_allclose(results.image, image.detach().numpy()[0], atol=2e-5)


def test_lbfgs_needs_far_fewer_steps_than_descent_in_a_narrow_valley():
    scales = torch.logspace(0, 2, 48).view(3, 4, 4)
    goals = {
        stimulus_id: level / 255
        for stimulus_id, level in zip("abcde", (180, 90, 128, 25, 230), strict=True)
    }  # 8-bit levels
    given = {**GIVEN, "threshold": -1e-6, "max_steps": 2000}
    quick = descend_with(
        bowl(scales, None), list(goals), start(goals), **given, optimizer="lbfgs", step_size=0.5
    )
    plain = descend_with(
        bowl(scales, None), list(goals), start(goals), **given, optimizer="sgd", step_size=0.009
    )
    for stimulus_id in goals:
        assert quick[stimulus_id].score >= -1e-6 and quick[stimulus_id].steps <= 80
        if stimulus_id != "c":
            assert plain[stimulus_id].steps > 2 * quick[stimulus_id].steps
    alone = descend_with(
        bowl(scales, None), ["d"], start(goals), **given, optimizer="lbfgs", step_size=0.5
    )["d"]
    np.testing.assert_array_equal(alone.image, quick["d"].image)  # every image has its own pairs


def test_lbfgs_never_steps_further_than_the_limit():
    goals = {"a": 1.0}
    seen = []
    descend_with(
        bowl(torch.logspace(0, 2, 48).view(3, 4, 4), None),
        ["a"],
        start(goals),
        **GIVEN,
        optimizer="lbfgs",
        step_size=0.05,
        max_steps=30,
        on_frame=lambda stimulus_id, step, image: seen.append((step, image)),
    )
    for (step, image), (later, other) in itertools.pairwise(seen):
        assert np.linalg.norm(other - image) <= 0.05 * (later - step) * (1 + 1e-4)


@pytest.mark.parametrize(
    "change", [{"step_rule": "l2"}, {"parametrization": "fourier"}, {"solver": "round_robin"}]
)
def test_lbfgs_is_refused_where_it_measures_nothing(change):
    with pytest.raises(InputError, match="L-BFGS measures curvature along its own steps"):
        descend_with(
            bowl(1.0, None),
            ["a"],
            start({"a": 1.0}),
            **{**GIVEN, **change},
            optimizer="lbfgs",
            step_size=1,
            max_steps=2,
        )


# --------------------------------------------------------------------------------- parametrizations


def test_the_fourier_map_has_its_adjoint_and_its_scale():
    shape = torch.Size((2, 3, 24, 20))
    space = PARAMETRIZATIONS["fourier"](shape, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    pixels, inner = (torch.randn(shape, generator=random) for _ in range(2))
    forward, backward = (space.push(inner) * pixels).sum(), (inner * space.pull(pixels)).sum()
    assert float(forward) == pytest.approx(float(backward), rel=1e-4)
    many = torch.randn((400, 3, 24, 20), generator=random)
    assert float(space.push(many).square().mean()) == pytest.approx(
        1, rel=0.03
    )  # mean squared singular value
    np.testing.assert_allclose(
        space.push(2 * inner + pixels), 2 * space.push(inner) + space.push(pixels), atol=1e-4
    )


def test_in_fourier_space_coarse_and_light_come_before_fine_and_colored():
    """One step toward a picture of one wave: its length is the squared gain of that wave."""
    shape = (1, 3, 32, 32)
    space = PARAMETRIZATIONS["fourier"](torch.Size(shape), torch.device("cpu"))
    x = torch.arange(32) / 32

    def moved(waves, color):
        wave = torch.cos(2 * torch.pi * waves * x).expand(32, 32) * torch.tensor(color).view(
            1, 3, 1, 1
        )
        wave = wave / wave.norm()
        change = space.push(space.pull(wave))
        torch.testing.assert_close(
            change, wave * (change * wave).sum(), atol=1e-4, rtol=1e-4
        )  # waves do not mix
        return float((change * wave).sum())

    light, color = [1.0, 1.0, 1.0], [1.0, 0.0, -1.0]
    assert moved(2, light) / moved(8, light) == pytest.approx(16, rel=1e-3)  # gain 1/f, twice
    assert moved(2, light) / moved(2, color) == pytest.approx((0.38 / 0.11) ** 2, rel=1e-3)


def test_a_step_in_fourier_space_descends():
    goals = {"a": 0.8, "b": 0.2}
    given = {**GIVEN, "step_rule": "raw", "optimizer": "adam", "max_steps": 60}
    results = descend_with(
        bowl(1.0, None),
        list(goals),
        start(goals),
        **given,
        step_size=0.02,
        parametrization="fourier",
    )
    for stimulus_id, goal in goals.items():
        assert np.abs(results[stimulus_id].image - goal).max() < 0.1 * abs(0.5 - goal)
    with pytest.raises(InputError, match="unknown parametrization 'wavelet'"):
        descend_with(
            bowl(1.0, None), ["a"], start(goals), **given, step_size=0.02, parametrization="wavelet"
        )
