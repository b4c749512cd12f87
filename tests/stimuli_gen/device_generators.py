"""Every generator on the pretended device: what crosses, what is wasted, what memory may do.

`test_device` runs this file in a process of its own.
"""

import os
import signal
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from goals import descend_with
from torch import nn

from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Limits,
    Preprocessing,
    Progress,
    StimulusSet,
    adversarial_interference,
    adversarial_noise,
    attack_images,
    controversial_images,
    controversial_representations,
    divergent_metamers,
    eigendistortions,
    greedy_interference,
    model_metamers,
    null_distribution,
    stage_model,
)
from stimuli_gen.eigendistortions import rayleigh_quotients
from stimuli_gen.jacobians import Spectrum, krylov_pair, solve_by_jacobian
from stimuli_gen.matching import shifted
from stimuli_gen.synthesis.batch import LOOK_EVERY
from stimuli_gen.synthesis.loop import Start
from stimuli_gen.synthesis.objectives import Progressing
from tests.helpers.pretended_device import (
    MemoryRunsOut,
    counted,
    install,
    listening,
    with_memory,
    without_float64,
)

DEVICE = install()
HOST = torch.device("cpu")
PLAIN = Preprocessing(
    size=(16, 16), resize=16, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)
N = 8


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(device=DEVICE, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3, 2), nn.Softplus(), nn.Conv2d(6, 8, 3), nn.Tanh()]
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)]
    return stage_model(
        nn.Sequential(*layers),
        stages={"early": "1", "late": "3"},
        preprocessing=PLAIN,
        class_names=list("abcd"),
        name=f"small{seed}",
        weights="random",
        trained=False,
        device=device,
    )


@pytest.fixture(scope="module")
def photographs():
    images = np.random.default_rng(0).uniform(0.2, 0.8, (N, 3, 16, 16)).astype(np.float32)
    ids = [f"p{number}" for number in range(N)]
    return StimulusSet(
        images=images, table=pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    )


def metamers(models, references, steps, run=None, **settings):
    settings = {"stage": "late", "preset": "pixels", "file_rounds": 0} | settings
    return model_metamers(models[0], references, steps=steps, run=run, **settings)


def interference(models, references, steps, run=None, **settings):
    settings = {"confidence": 0.99} | settings
    return adversarial_interference(models[0], references, max_steps=steps, run=run, **settings)


def noise(models, references, steps, run=None, **settings):
    settings = {"confidence": 0.99} | settings
    return adversarial_noise(models[0], references, max_steps=steps, run=run, **settings)


def attack(models, references, steps, run=None, **settings):
    return attack_images(models[0], references, "pgd_l2", steps=steps, run=run, **settings)


def in_turn(models, references, steps, run=None):
    return model_metamers(
        models,
        references,
        stage="late",
        preset="pixels",
        steps=steps,
        run=run,
        solver="round_robin",
    )


def representations(models, references, steps, run=None):
    return controversial_representations(models, references, stage="late", max_steps=steps, run=run)


BOUNDED = Limits(ball="l2", radius=3.0, mask=np.tri(16))
PROGRESS = {"objective": "probability", "pull": 0, "step_rule": Progress()}
CANNOT_FINISH = {
    "metamers": metamers,
    "with Adam in Fourier space": partial(metamers, preset="fast"),
    "as Feather 2023": partial(metamers, preset="feather2023"),
    "as Boehm 2025": partial(metamers, preset="boehm2025"),
    "with L-BFGS": partial(metamers, optimizer="lbfgs"),
    "shifted": partial(metamers, jitter=2),
    "in turn": in_turn,
    "in a ball": partial(metamers, ball="l2", radius=2.0),
    "attack": attack,
    "two representations": representations,
}
MAY_FINISH = {
    "metamers": partial(metamers, max_error=1e-5),
    "interference": interference,
    "interference in a mask": partial(interference, limits=BOUNDED),
    "noise": noise,
    "noise by progress": partial(noise, **PROGRESS),
    "attack that stops": partial(attack, stop_early=True, radius=1e-3),
}


def traffic_of_steps(make, models, references, run, short=16, long=32):
    """Count what the steps cost that a longer run takes more: beginning and end cancel out."""
    traffic = []
    for steps in (short, long):
        with counted() as counts:
            make(models, references, steps, run)
        traffic.append(counts)
    more = traffic[1].places - traffic[0].places
    to_device = traffic[1].to_device - traffic[0].to_device
    return to_device, traffic[1].waits - traffic[0].waits, more


@pytest.fixture(scope="module")
def pair():
    models = [network(), network(seed=1)]
    for model in models:
        assert model.digest  # reads the weights back, once
    return models


@pytest.mark.parametrize("what", CANNOT_FINISH)
def test_steps_neither_copy_nor_wait_where_nothing_can_finish(what, pair, photographs):
    make = CANNOT_FINISH[what]
    to_device, waits, more = traffic_of_steps(make, pair, photographs, RunOptions(), 6, 12)
    assert to_device <= 0 and waits <= 0, more


@pytest.mark.parametrize("look_every", [None, 8])
@pytest.mark.parametrize("what", MAY_FINISH)
def test_steps_wait_once_a_look_where_images_may_finish(what, look_every, pair, photographs):
    make = MAY_FINISH[what]
    run = RunOptions(look_every=look_every)
    short = look_every or 16  # as many as it takes to look as seldom as it may
    to_device, waits, more = traffic_of_steps(make, pair, photographs, run, short, short + 16)
    assert to_device <= 0, more
    assert 0 < waits <= 16 / (look_every or LOOK_EVERY) + 1, more


@pytest.mark.parametrize("look_every", [None, 8])
def test_a_greedy_search_copies_and_waits_once_a_look(look_every, pair, photographs):
    def search(models, references, tries, run):
        greedy_interference(models[0], references, confidence=0.99, max_tries=tries, run=run)

    run = RunOptions(look_every=look_every)
    short = look_every or 16
    costs = traffic_of_steps(search, pair, photographs, run, short, short + 16)
    n_looks = 16 / (look_every or LOOK_EVERY)
    assert costs[:2] == (n_looks, n_looks), costs[2]


def test_krylov_spaces_wait_once_a_restart(photographs):
    """A space of 24 vectors is restarted with 10 of them."""
    factor = torch.randn(2, 60, 60, generator=torch.Generator().manual_seed(0)).double()
    matrix = (factor @ factor.transpose(1, 2)).to(DEVICE)
    start = torch.ones(2, 60, dtype=torch.float64, device=DEVICE)
    nothing = start.new_zeros(2, 0, 60), start.new_zeros(2)
    spectrum = Spectrum(tolerance=1e-300, max_products=24 + 3 * 14 + 1)
    with counted() as traffic:
        krylov_pair(
            lambda vectors: (matrix @ vectors[..., None])[..., 0], start, *nothing, spectrum, True
        )
    assert (traffic.waits, traffic.to_device) == (4, 0), traffic.listed()


def test_a_whole_jacobian_waits_once_an_image(pair, photographs):
    starts = np.random.default_rng(0).normal(size=(N, 1, 3, 16, 16)).astype(np.float32)
    images = photographs.images
    waits = []
    for n in (2, 5):
        with counted() as traffic:
            solve_by_jacobian(pair[0], "early", images[:n], starts[:n], Spectrum(), 64)
        at_solver = [
            times
            for (kind, place, _), times in traffic.places.items()
            if kind == "waits" and "jacobians.py" in place
        ]
        waits.append(sum(at_solver))
    assert waits == [2 + 3, 5 + 3]  # for the rank of each; vectors, values and residuals at the end


def test_changes_are_judged_as_many_at_once_as_memory_allows(pair, photographs):
    changes = np.random.default_rng(0).normal(size=(N, 3, 16, 16)).astype(np.float32)
    with counted() as traffic:
        there = rayleigh_quotients(pair[0], "late", photographs.images, changes)
    assert traffic.from_device == 1, traffic.listed()
    here = rayleigh_quotients(network(HOST), "late", photographs.images, changes)
    np.testing.assert_allclose(there, here, rtol=1e-5)


def others(models, references):
    nulls = [null_distribution(model, references, ["late"]) for model in models]
    kinds = {
        "controversial": lambda: controversial_images(models, references, max_steps=20),
        "divergent": lambda: divergent_metamers(
            models, references, stage="late", nulls=nulls, steps=20
        ),
        "eigendistortions": lambda: eigendistortions(models[0], references, stage="early"),
        "greedy": lambda: greedy_interference(models[0], references, max_tries=10),
        "fast": lambda: interference(models, references, 20, RunOptions(mode="fast")),
        "files": lambda: metamers(models, references, 20, max_error=0.1, file_rounds=2),
    }
    return {name: make() for name, make in kinds.items()}


def test_every_generator_runs_there_without_float64_and_is_near_the_cpu(photographs):
    """Rounding differs: some hand-written gradients are for CPUs only."""
    makers = CANNOT_FINISH | {f"{name}, may finish": make for name, make in MAY_FINISH.items()}
    on_host = [network(HOST), network(HOST, seed=1)]
    expected = {name: make(on_host, photographs, 4) for name, make in makers.items()}
    with without_float64():
        models = [network(), network(seed=1)]
        for name, make in makers.items():
            images = make(models, photographs, 4).images
            np.testing.assert_allclose(images, expected[name].images, atol=2e-3, err_msg=name)
        for name, made in others(models, photographs.select(ids=["p0", "p1"])).items():
            assert np.isfinite(made.images).all() and len(made) >= 2, name


# -------------------------------------------------------------------------- looks, waste and batches

GOALS = np.linspace(0.05, 0.95, 32, dtype=np.float32)


def march(device, record, **given):
    """Images that walk to their goals in as many steps as these are away."""

    def objective(images, context):
        if images.requires_grad:
            goals, taken = context["goal"].cpu(), context["step"].cpu()
            record.extend(zip(goals.tolist(), taken.tolist(), strict=True))
        difference = images - context["goal"].view(-1, 1, 1, 1)
        return difference.square().flatten(1).sum(1), -difference.abs().flatten(1).amax(1)

    def start(stimulus_id):
        context = {"goal": GOALS[int(stimulus_id)]}
        return Start(image=np.full((3, 4, 4), 0.5, np.float32), context=context)

    given = {"step_size": 0.005, "threshold": -0.02, "max_steps": 400, "step_rule": "sign"} | given
    ids = [str(number) for number in range(len(GOALS))]
    return descend_with(objective, ids, start, device=str(device), **given)


@pytest.mark.parametrize("device", [HOST, DEVICE])
@pytest.mark.parametrize("step_size", [0.005, 0.02])
def test_few_passes_are_for_images_that_are_finished(device, step_size):
    """The field's scenario: a queue four times as long as the batch, all of different length."""
    record = []
    results = march(device, record, step_size=step_size, batch_size=8)
    steps_of = {float(GOALS[int(name)]): result.steps for name, result in results.items()}
    for_nobody = sum(taken > steps_of[goal] for goal, taken in record)
    assert for_nobody <= 0.15 * len(record), for_nobody / len(record)
    assert all(result.reached for result in results.values())


@pytest.fixture(scope="module")
def looked_at_each_step():
    return march(HOST, [], batch_size=4, look_every=1, step_size=0.01)


@pytest.mark.parametrize("look_every", [1, 2, 5])
@pytest.mark.parametrize("device", [HOST, DEVICE])
def test_looking_less_often_changes_no_image(device, look_every, looked_at_each_step):
    results = march(device, [], batch_size=8, look_every=look_every, step_size=0.01)
    for name, result in results.items():
        expected = looked_at_each_step[name]
        np.testing.assert_array_equal(result.image, expected.image)
        assert (result.steps, result.score, result.score_shown) == (
            expected.steps,
            expected.score,
            expected.score_shown,
        )


def test_looking_less_often_changes_no_search(photographs):
    """Images end at different tries, and others take their places."""

    def search(device, **given):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 5)
        model = stage_model(
            nn.Sequential(*layers),
            stages={"relu": "1"},
            preprocessing=PLAIN,
            class_names=list("abcde"),
            name="flat",
            weights="random",
            trained=False,
            device=device,
        )
        frames = {}

        def keep(*frame):
            name, number, image = frame
            frames[name, number] = image

        run = RunOptions(batch_size=4, on_frame=keep, **given)
        made = greedy_interference(
            model, photographs, confidence=0.3, amplitude=15, max_tries=40, run=run
        )
        return made, frames

    expected, frames = search(HOST)
    assert expected.table["success"].nunique() == 2
    for device, given in ((HOST, {"look_every": 5}), (DEVICE, {}), (DEVICE, {"look_every": 7})):
        made, own_frames = search(device, **given)
        np.testing.assert_array_equal(made.images, expected.images)
        for column in ("tries", "accepted", "success", "confidence_float", "confidence_png"):
            assert made.table[column].tolist() == expected.table[column].tolist(), column
        assert own_frames.keys() == frames.keys()
        for name, image in own_frames.items():
            np.testing.assert_array_equal(image, frames[name])


@pytest.mark.parametrize("rounds_alike", [True, False])
def test_a_chunk_gets_narrower_only_where_that_changes_no_bit(rounds_alike):
    """The other objective rounds by its batch shape, as a library that chooses kernels by it."""
    shapes = []

    def objective(images, context):
        if images.requires_grad:
            shapes.append(len(images))
        difference = images - context["goal"].view(-1, 1, 1, 1)
        loss = difference.square().flatten(1).sum(1)
        if not rounds_alike:
            loss = loss * (1 + len(images) * 1e-5)
        return loss, -difference.abs().flatten(1).amax(1)

    def start(stimulus_id):
        goal = np.float32(0.5 + 0.05 * int(stimulus_id))
        return Start(image=np.full((3, 4, 4), 0.5, np.float32), context={"goal": goal})

    given = {"threshold": -0.012, "step_size": 0.01, "max_steps": 99, "step_rule": "sign"}
    ids = [str(number) for number in range(8)]
    descend_with(objective, ids, start, device="pretended", batch_size=8, **given)
    if rounds_alike:
        assert set(shapes) == {8, 4, 3, 2, 1} and shapes == sorted(shapes, reverse=True)
    else:
        assert shapes.count(4) == 1 and shapes[-1] == 8


def test_the_batch_is_as_large_as_memory_allows_unless_the_user_says(photographs):
    n_at_once = []

    def largest(**given):
        n_at_once.clear()
        given |= {"on_step": lambda seen: n_at_once.append(seen.n_computed), "max_steps": 5}
        march(DEVICE, [], **given)
        return max(n_at_once)

    assert largest() == 32  # the device does not tell its memory: what is usual
    with with_memory(2**30):
        assert largest() == 32  # all there are
    with with_memory(2**18):
        assert largest() == 24  # 16 arrays of 3 x 4 x 4 numbers each take a quarter: 21
        assert largest(batch_size=8) == 8


def test_activations_to_photographs_do_not_pass_through_the_host(pair, photographs):
    anchor_bytes = network().activations(torch.zeros(1, 3, 16, 16, device=DEVICE), ["late"])
    assert anchor_bytes["late"].numel() > 100
    with counted() as traffic:
        metamers(pair, photographs, 2, max_error=None)
    copied = [place for kind, place, _ in traffic.places if kind == "from_device"]
    there = [place for place in copied if "metamers.py" in place]
    assert len(there) == 1  # the norms, once for the batch
    line = there[0]
    times = [n for (kind, place, _), n in traffic.places.items() if place == line]
    assert times == [1, 1]  # one copy back, one wait


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path):
    keys = {str(number): f"key-{number}" for number in range(len(GOALS))}
    expected = march(DEVICE, [], optimizer="adam", step_size=0.02)
    looks = []

    def stop(seen):
        looks.append(seen.number)
        if len(looks) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    given = {"optimizer": "adam", "step_size": 0.02, "keys": keys, "resume": tmp_path}
    given["look_every"] = 3
    with pytest.raises(SystemExit):
        march(DEVICE, [], on_step=stop, **given)
    assert list(tmp_path.glob("*.state.h5")) and looks[-1] > len(looks)
    results = march(DEVICE, [], **given)
    for name, result in results.items():
        np.testing.assert_array_equal(result.image, expected[name].image)
        assert result.steps == expected[name].steps


def test_shifts_on_the_device_are_those_of_the_cpu():
    images = torch.rand(3, 3, 8, 8, requires_grad=True)
    context = {"shifts": torch.randint(-9, 9, (3, 5, 2)), "step": torch.tensor([0, 2, 9])}
    expected = shifted(images, context)
    weights = torch.rand(expected.shape)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), images)
    there = images.detach().to(DEVICE).requires_grad_(True)
    results = shifted(there, {name: value.to(DEVICE) for name, value in context.items()})
    (of_device,) = torch.autograd.grad((results * weights.to(DEVICE)).sum(), there)
    assert torch.equal(results.detach().cpu(), expected.detach())
    assert torch.equal(of_device.cpu(), gradient)


@pytest.mark.parametrize("scale", [1.0, 1e-25, 0.0])
def test_rates_without_float64_are_those_with_it(scale):
    """In float32, the square of a gradient of 1e-25 is 0."""

    def objective(images, context):
        score = (images * weights).flatten(1).sum(1)
        return -score, 0.5 + 0 * score

    images = torch.rand(2, 3, 4, 4)
    weights = scale * torch.rand(2, 3, 4, 4)
    gradients = []
    for device in (HOST, DEVICE):
        with without_float64():
            rule = Progressing(objective, Progress(), torch.zeros(3, 1, 1, device=device))
            weights = weights.to(device)
            leaf = images.to(device).requires_grad_(True)
            loss, _ = rule(leaf, {})
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        gradients.append(gradient.cpu().numpy())
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=1e-5)


# --------------------------------------------------------------------------------------- out of memory

METAMER_PLACES = {
    "anchors": {"operator": "convolution.default", "within": "anchors"},
    "gradient": {"operator": "convolution_backward"},
    "step": {"operator": "sub.Tensor", "within": "move"},
    "optimizer": {"operator": "zeros_like", "within": "_adam"},
    "first images": {"operator": "repeat", "within": "__init__"},
    "asking whether it is good": {"operator": "convolution.default", "within": "score"},
    "judging": {"operator": "convolution.default", "within": "judge_metamers"},
}
NOISE_PLACES = {
    "gradient": {"operator": "convolution_backward"},
    "step": {"operator": "sub.Tensor", "within": "move"},
    "first images": {"operator": "repeat", "within": "__init__"},
    "asking whether it is good": {"operator": "convolution.default", "within": "score"},
    "judging": {"operator": "convolution.default", "within": "predict"},
}
KINDS = {
    "metamers": (
        partial(metamers, max_error=0.3, optimizer="adam", step_size=0.02),
        METAMER_PLACES,
    ),
    "noise": (partial(noise, confidence=0.3), NOISE_PLACES),
}
CASES = [
    *((kind, place, "once") for kind, (_, places) in KINDS.items() for place in places),
    *(
        (kind, place, "always above four images")
        for kind, place in (
            ("metamers", "anchors"),
            ("metamers", "gradient"),
            ("metamers", "step"),
            ("metamers", "asking whether it is good"),
            ("noise", "gradient"),
            ("noise", "judging"),
        )
    ),
]


@pytest.fixture(scope="module")
def undisturbed(pair, photographs):
    run = RunOptions(batch_size=8)
    return {kind: make(pair, photographs, 12, run) for kind, (make, _) in KINDS.items()}


@pytest.mark.parametrize(("kind", "place", "how"), CASES)
def test_memory_that_runs_out_changes_no_image(kind, place, how, pair, photographs, undisturbed):
    """Chunks of 8 and of 4 round otherwise, here by the last bit; steps may amplify that."""
    make, places = KINDS[kind]
    where = {"above": 4} if how != "once" else {}
    at = range(10**9) if where else {2 if place == "gradient" else 0}
    runs_out = MemoryRunsOut(at=at, **places[place], **where)
    with listening(runs_out):
        made = make(pair, photographs, 12, RunOptions(batch_size=8))
    assert runs_out.failures >= 1
    expected = undisturbed[kind]
    np.testing.assert_allclose(made.images, expected.images, atol=1e-6)
    assert made.table["steps"].tolist() == expected.table["steps"].tolist()
    assert made.table["success"].tolist() == expected.table["success"].tolist()
