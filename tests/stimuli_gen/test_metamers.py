"""Metamers against closed forms, torch's own loop, and what the papers' numbers are."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from neurometamer.store import SEAL_SIZE
from stimuli_gen import (
    PRESETS,
    Penalty,
    Preprocessing,
    StimulusSet,
    at_size,
    confirm_metamers,
    greyscale_view,
    load_photographs,
    match_stages,
    model_metamers,
    read_stimuli,
    resolve_stage,
    stage_model,
    write_stimuli,
)
from stimuli_gen.matching import metamer_objectives
from stimuli_gen.presets import STARTS, draw_shifts, make_recipe

SIZE = 32
PLAIN = Preprocessing(
    size=(SIZE, SIZE), resize=SIZE, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
)


def staged(network, stages, name="tiny", n_classes=10):
    return stage_model(
        network,
        stages={stage: stage for stage in stages},
        preprocessing=PLAIN,
        name=name,
        weights="random",
        trained=False,
        class_names=[f"class {i}" for i in range(n_classes)],
    )


def small_net(seed, name="tiny", inplace=True):
    """Four convolutions and a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = []
        for inside, outside, stride in ((3, 16, 1), (16, 24, 2), (24, 32, 2), (32, 32, 2)):
            layers += [
                nn.Conv2d(inside, outside, 3, stride=stride, padding=1),
                nn.ReLU(inplace=inplace),
            ]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 10))
    return staged(network, [*map(str, range(8)), "9"], name=name)


@pytest.fixture(scope="module")
def tiny():
    return small_net(0)


@pytest.fixture(scope="module")
def other():
    return small_net(1, name="other")


@pytest.fixture(scope="module")
def pictures():
    """Smooth images in [0.1, 0.9], as photographs are."""
    coarse = torch.from_numpy(
        np.random.default_rng(0).uniform(0.1, 0.9, (5, 3, 6, 6)).astype(np.float32)
    )
    images = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear").numpy()
    return photographs_of(images)


def photographs_of(images):
    ids = [f"picture {i}" for i in range(len(images))]
    return StimulusSet(
        images=images, table=pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    )


def quick(**more):
    return {"preset": "fast", "steps": 30, "run": RunOptions(batch_size=2), **more}


# ------------------------------------------------------------------------------------- closed forms


def test_a_linear_networks_metamer_is_the_start_with_the_row_space_of_the_photograph(pictures):
    """‖Wx - Wx₀‖ has no gradient in the null space of W.

    So descent keeps the start's part there, to rounding.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Linear(3 * SIZE * SIZE, 20, bias=False)
        # seeded too: where rounding to 8 bits changes the class, the image is mended
        classes = nn.Linear(20, 10)
    model = staged(nn.Sequential(nn.Flatten(), head, classes), ["1", "2"])
    weights = head.weight.detach().numpy().astype(np.float64)
    to_row_space = np.linalg.pinv(weights) @ weights
    made = model_metamers(
        model,
        pictures,
        stage="1",
        preset="fast",
        start="normal",
        steps=300,
        step_rule="l2",
        optimizer="sgd",
        step_size=1.0,
        schedule="exponential",
        last_step_size=1e-4,
        parametrization="pixels",
    )
    for stimulus_id, image, photograph in zip(
        pictures.ids, made.images, pictures.images, strict=True
    ):
        start = 0.5 + 0.05 * generator(0, "metamer start", stimulus_id).standard_normal(
            photograph.shape
        )
        expected = start.ravel() + to_row_space @ (photograph.ravel() - start.ravel())
        assert expected.min() > 0 and expected.max() < 1  # or clipping would leave the closed form
        # last step 1e-4 long, and float32 pixels over 300 steps
        np.testing.assert_allclose(image.ravel(), expected, atol=2e-4)
    assert (made.table["loss_float"] < 1e-3).all()
    assert (made.table["loss_png"] < 0.05).all() and (
        made.table["loss_png"] > made.table["loss_float"]
    ).all()


def test_a_greyscale_views_metamer_is_grey_and_as_near(tiny, pictures):
    view = greyscale_view(tiny)
    plain = {
        "start": "constant",
        "step_rule": "l2",
        "optimizer": "sgd",
        "step_size": 0.3,
        "parametrization": "pixels",
    }
    made = model_metamers(view, pictures, stage="5", **quick(steps=12, **plain))
    assert (
        made.provenance["models"][0]["name"] == "tiny_grey"
        and made.provenance["models"][0]["digest"] == view.digest
    )
    assert (
        0.01 < np.abs(made.images[:] - 0.5).max() < 0.5
        and np.ptp(made.images[:], axis=1).max() == 0
    )
    with torch.no_grad():
        ours, theirs = (
            view.activations(torch.from_numpy(stimuli.images), ["5"])["5"]
            for stimuli in (made, pictures)
        )
    error = ((ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)).numpy()
    np.testing.assert_allclose(made.table["loss_float"], error, rtol=1e-5)
    assert (error < 1).all()
    held = model_metamers(
        view,
        pictures,
        stage="5",
        **quick(steps=12, **plain, ball="linf", radius=0.2, center="start"),
    )
    moved = (held.images[:] - 0.5) / np.array([0.299, 0.587, 0.114]).reshape(
        1, 3, 1, 1
    )  # along the weights of the luma
    inside = np.abs(held.images[:] - 0.5).max(axis=1, keepdims=True) < 0.199
    assert inside.any() and np.ptp(np.where(inside, moved, 0), axis=1).max() < 1e-5


def test_a_metamer_of_a_stage_matches_all_later_stages(tiny, pictures):
    made = model_metamers(tiny, pictures, stage="3", preset="fast", steps=600)
    with torch.no_grad():
        stages = list(tiny.stages)
        ours, theirs = (
            tiny.activations(torch.from_numpy(stimuli.images), stages)
            for stimuli in (made, pictures)
        )
    error = {
        stage: (
            (ours[stage] - theirs[stage]).flatten(1).norm(dim=1)
            / theirs[stage].flatten(1).norm(dim=1)
        ).numpy()
        for stage in stages
    }
    np.testing.assert_allclose(made.table["loss_float"], error["3"], rtol=1e-4)
    assert all((error[stage] < 0.03).all() for stage in ("3", "4", "5", "6", "7", "9")), error
    assert made.table["same_class_1000"].all() and made.table["success"].all()


# --------------------------------------------------------------------------------- several networks


def gradient(objectives, images, context):
    total = torch.zeros_like(images)
    for objective in objectives:
        tracked = images.clone().requires_grad_(True)
        total += torch.autograd.grad(objective(tracked, context)[0].sum(), tracked)[0]
    return total


def test_gradients_of_a_set_are_the_sum_of_the_single_ones_and_penalties_count_once(
    tiny, other, pictures
):
    images = torch.from_numpy(
        np.random.default_rng(1).uniform(0, 1, (5, 3, SIZE, SIZE)).astype(np.float32)
    )
    penalty = Penalty(kind="total_variation", weight=1e-3, power=2.0)
    matches = match_stages([tiny, other], "5")
    context = {}
    for match in matches:
        context |= match.anchors(torch.from_numpy(pictures.images))
    in_sum = replace(PRESETS["fast"], penalties=[penalty])
    joint = gradient(metamer_objectives(matches, in_sum), images, context)
    alone = [
        gradient(metamer_objectives([match], PRESETS["fast"]), images, context) for match in matches
    ]
    tracked = images.clone().requires_grad_(True)
    (smooth,) = torch.autograd.grad(penalty(tracked).sum(), tracked)
    torch.testing.assert_close(joint, alone[0] + alone[1] + smooth)
    turns = metamer_objectives(matches, replace(PRESETS["boehm2025"], penalties=[penalty]))
    torch.testing.assert_close(gradient(turns, images, context), alone[0] + alone[1] + 2 * smooth)


@pytest.mark.parametrize("solver", ["round_robin", "joint"])
def test_a_set_is_matched_together(tiny, other, pictures, solver):
    small = {"preset": "boehm2025", "start": "uniform", "steps": 60, "turn": 5, "solver": solver}
    made = model_metamers(
        [tiny, other], pictures, stage={"tiny": "5", "other": "late"}, **small
    ).table
    assert set(made["stage_tiny"]) == {"5"} and set(made["stage_other"]) == {
        "7"
    }  # 4th of 5 layers, after its ReLU
    assert set(made["steps"]) == {120 if solver == "round_robin" else 60}
    assert (made[["loss_float_tiny", "loss_float_other"]] < 0.25).all(axis=None)
    assert set(made["model"]) == {"tiny+other"}
    alone = model_metamers(tiny, pictures, stage="5", **small)
    judged = match_stages(other, "late")[0]
    with torch.no_grad():
        context = judged.anchors(torch.from_numpy(pictures.images))
        stranger = judged.error(torch.from_numpy(alone.images), context).numpy()
    assert (
        stranger > made["loss_float_other"]
    ).all()  # a network that was not asked is matched less well


def test_several_stages_and_weights_of_one_network(tiny, pictures):
    images = torch.from_numpy(
        np.random.default_rng(1).uniform(0, 1, (5, 3, SIZE, SIZE)).astype(np.float32)
    )
    (both,) = match_stages(tiny, ["7", "3"], stage_weights=[1, 3])
    assert both.stages == ("3", "7") and both.weights == (0.75, 0.25) and both.stage == "3+7"
    photographs = torch.from_numpy(pictures.images)
    single = [match_stages(tiny, stage)[0] for stage in ("3", "7")]
    expected = [match.error(images, match.anchors(photographs)) for match in single]
    torch.testing.assert_close(
        both.error(images, both.anchors(photographs)), 0.75 * expected[0] + 0.25 * expected[1]
    )
    assert set(model_metamers(tiny, pictures, stage=["7", "3"], **quick()).table["stage"]) == {
        "3+7"
    }


# --------------------------------------------------------------------------------- straight-through


@pytest.mark.parametrize("inplace", [True, False])
def test_a_straight_through_relu_has_the_forward_of_a_relu_and_the_gradient_of_the_identity(
    pictures, inplace
):
    model = small_net(0, inplace=inplace)
    images = torch.from_numpy(
        np.random.default_rng(1).uniform(0, 1, (5, 3, SIZE, SIZE)).astype(np.float32)
    )
    photographs = torch.from_numpy(pictures.images)
    plain, straight = (
        match_stages(model, "3", straight_through_relu=how)[0] for how in (False, True)
    )
    assert (plain.straight_through, straight.straight_through) == ((), ("3",))
    assert torch.equal(plain.activations(images)["3"], straight.activations(images)["3"])

    def by_hand(images):
        """Compute the gradient through layers 0 to 2, which give the input of the ReLU.

        The error's gradient for the ReLU's output is handed to its input.
        """
        layers = list(model.network.children())
        before = layers[2](torch.relu(layers[0](images)))
        after = torch.relu(before).detach().requires_grad_(True)
        goal = torch.relu(layers[2](torch.relu(layers[0](photographs))))
        error = (after - goal).flatten(1).norm(dim=1) / goal.flatten(1).norm(dim=1)
        (outside,) = torch.autograd.grad(error.sum(), after)
        return before, outside

    tracked = images.clone().requires_grad_(True)
    before, outside = by_hand(tracked)
    (expected,) = torch.autograd.grad(before, tracked, grad_outputs=outside)
    results = {}
    for name, match in (("plain", plain), ("straight", straight)):
        again = images.clone().requires_grad_(True)
        (results[name],) = torch.autograd.grad(
            match.error(again, match.anchors(photographs)).sum(), again
        )
    torch.testing.assert_close(results["straight"], expected)
    assert (results["plain"] - expected).abs().max() > 0.01 * expected.abs().max()
    (deeper,) = match_stages(model, ["3", "7"], straight_through_relu=True)
    again = images.clone().requires_grad_(True)
    (through,) = torch.autograd.grad(deeper.activations(again)["7"].sum(), again)
    again = images.clone().requires_grad_(True)
    (ordinary,) = torch.autograd.grad(model.activations(again, ["6"])["6"].sum(), again)
    torch.testing.assert_close(through, ordinary)  # only the matched ReLUs' own branch is straight


def test_a_stage_that_is_no_relu_is_recorded_or_refused(tiny, pictures):
    assert set(
        model_metamers(tiny, pictures, stage="5", **quick(straight_through_relu=True)).table[
            "straight_through"
        ]
    ) == {"tiny: 5"}
    made = model_metamers(tiny, pictures, stage="4", preset="feather2023", steps=2)
    assert set(made.table["straight_through"]) == {"not applicable"}
    with pytest.raises(
        InputError, match="needs a stage that ends in a ReLU; these do not: tiny: 4"
    ):
        model_metamers(tiny, pictures, stage="4", **quick(straight_through_relu=True))


# --------------------------------------------------------------------------------- the loop's rules


@pytest.mark.parametrize("preset", ["boehm2025", "fast"])
def test_an_image_does_not_depend_on_its_companions_and_a_killed_run_ends_the_same(
    tiny, other, pictures, tmp_path, preset
):
    given = {"stage": "5", "preset": preset, "steps": 12, "run": RunOptions(batch_size=2)}
    uninterrupted = model_metamers([tiny, other], pictures, **given)
    alone = model_metamers([tiny, other], pictures.select(ids=["picture 3"]), **given)
    shuffled = model_metamers([tiny, other], pictures.select(ids=list(pictures.ids[::-1])), **given)
    np.testing.assert_array_equal(alone.images[0], uninterrupted.images[3])
    np.testing.assert_array_equal(shuffled.images[::-1], uninterrupted.images)
    pd.testing.assert_frame_equal(shuffled.table[::-1].reset_index(drop=True), uninterrupted.table)

    class KilledError(Exception):
        pass

    def kill(done, total):
        if done == 3:
            raise KilledError

    with pytest.raises(KilledError):
        model_metamers(
            [tiny, other],
            pictures,
            **{**given, "run": RunOptions(batch_size=2, resume=tmp_path, progress=kill)},
        )
    counts = []
    again = model_metamers(
        [tiny, other],
        pictures,
        **{
            **given,
            "run": RunOptions(
                batch_size=2, resume=tmp_path, progress=lambda *done: counts.append(done)
            ),
        },
    )
    assert counts[0] == (3, 5)
    np.testing.assert_array_equal(again.images, uninterrupted.images)
    pd.testing.assert_frame_equal(again.table, uninterrupted.table)


def test_an_image_that_is_good_enough_is_finished_early_on_its_8_bit_version(tiny, pictures):
    made = model_metamers(tiny, pictures, stage="5", preset="fast", steps=400, max_error=0.1).table
    assert (made["steps"] < 400).all() and made["success"].all()
    assert (made[["loss_float", "loss_png"]] <= 0.1).all(axis=None)
    missed = model_metamers(tiny, pictures, stage="5", preset="fast", steps=3, max_error=0.1).table
    assert not missed["success"].any()
    assert missed["why_not"].str.contains(r"tiny: loss 0\.\d+ above 0\.1").all()


@pytest.mark.parametrize(
    ("preset", "key"),
    [
        ("feather2023", "eb8d026d37a95438"),
        ("boehm2025", "4ce3ecee96516397"),
        ("fast", "af9570421847f148"),
    ],
)
def test_images_that_earlier_versions_finished_are_found_again(tmp_path, preset, key):
    """Later options have defaults that leave the digest as it was.

    The digests here are of before there were any.
    """
    head = nn.Linear(192, 10, bias=False)
    head.weight.data = torch.linspace(-0.1, 0.1, 1920).reshape(10, 192)
    model = stage_model(
        nn.Sequential(nn.Flatten(), head),
        stages={"1": "1"},
        name="line",
        weights="counted",
        trained=False,
        preprocessing=Preprocessing(
            size=(8, 8), resize=8, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
        ),
        class_names=[f"class {i}" for i in range(10)],
    )
    images = np.linspace(0.1, 0.9, 192, dtype=np.float32).reshape(1, 3, 8, 8)
    photographs = StimulusSet(
        images=images, table=pd.DataFrame({"id": ["one"], "kind": "RE", "reference_id": ["one"]})
    )
    given = {"stage": "1", "preset": preset, "start": "constant", "steps": 2}
    given["run"] = RunOptions(resume=tmp_path)
    given |= (
        {"parametrization": "pixels"} if preset == "fast" else {}
    )  # which steps in Fourier space since
    model_metamers(model, photographs, **given)
    assert (tmp_path / f"{key}.h5").is_file()
    model_metamers(model, photographs, **{**given, "jitter": 0, "parametrization": "pixels"})
    assert len(list(tmp_path.iterdir())) == 1
    model_metamers(model, photographs, **given, jitter=1)
    model_metamers(model, photographs, **{**given, "parametrization": "fourier"})
    assert len(list(tmp_path.glob("*.h5"))) == 3


def test_written_pngs_are_judged_again(tiny, pictures, tmp_path):
    made = model_metamers(tiny, pictures, stage="5", **quick(steps=100))
    write_stimuli(made, tmp_path)
    confirmed = confirm_metamers(tiny, made, pictures, tmp_path)
    assert confirmed.table["confirmed"].all() and not made.table["confirmed"].any()
    pd.testing.assert_frame_equal(
        confirmed.table.drop(columns="confirmed"), made.table.drop(columns="confirmed")
    )
    with pytest.raises(InputError, match="made for other networks"):
        confirm_metamers(small_net(2), made, pictures, tmp_path)


# ------------------------------------------------------------------------------ ways to take a step


@pytest.mark.parametrize(
    "way",
    [
        {
            "optimizer": "lbfgs",
            "step_size": 0.5,
            "last_step_size": 0.5,
            "parametrization": "pixels",
        },
        {
            "optimizer": "momentum",
            "step_rule": "l2",
            "step_size": 0.1,
            "last_step_size": 1e-3,
            "parametrization": "pixels",
        },
        {"parametrization": "pixels"},
        {"parametrization": "fourier"},
    ],
)
def test_every_optimizer_and_space_ends_at_a_match(tiny, other, pictures, way):
    made = model_metamers([tiny, other], pictures, stage="5", preset="fast", steps=60, **way)
    assert (made.table[["loss_float_tiny", "loss_float_other"]] < 0.1).all(axis=None)
    assert made.provenance["settings"] | way == made.provenance["settings"]


def test_jitter_shifts_what_the_networks_see_and_each_image_draws_its_own(tiny, pictures):
    (match,) = match_stages(tiny, "5")
    recipe = make_recipe("fast", {"jitter": 3})
    (objective,) = metamer_objectives([match], recipe)
    shifts = np.stack(
        [draw_shifts(3, 50, generator(0, "jitter", stimulus_id)) for stimulus_id in pictures.ids]
    )
    assert len({shift.tobytes() for shift in shifts}) == 5
    assert set(np.unique(shifts)) == set(range(-3, 4))
    images = torch.from_numpy(
        np.random.default_rng(1).uniform(0, 1, (5, 3, SIZE, SIZE)).astype(np.float32)
    )
    steps = torch.tensor([0, 4, 4, 49, 60])  # 60: a place without an image counts on
    anchors = match.anchors(torch.from_numpy(pictures.images))
    context = {**anchors, "shifts": torch.from_numpy(shifts), "step": steps}
    moved = np.stack(
        [
            np.roll(image, tuple(shift[min(step, 49)]), axis=(1, 2))
            for image, shift, step in zip(images.numpy(), shifts, steps.tolist(), strict=True)
        ]
    )
    tracked = images.clone().requires_grad_(True)
    expected = match.error(torch.from_numpy(moved), anchors)
    torch.testing.assert_close(objective(tracked, context)[0].detach(), expected)
    torch.testing.assert_close(
        objective(images, context)[0], match.error(images, anchors)
    )  # judged where it stands


def test_a_jittered_metamer_matches_when_it_is_moved(tiny, pictures):
    given = {"stage": "late", "preset": "fast", "steps": 80, "run": RunOptions(batch_size=4)}
    still, shaken = (model_metamers(tiny, pictures, **given, **way) for way in ({}, {"jitter": 2}))
    (match,) = match_stages(tiny, "late")
    anchors = match.anchors(torch.from_numpy(pictures.images))
    moved = [
        match.error(
            torch.from_numpy(stimuli.images).roll((down, right), dims=(2, 3)), anchors
        ).numpy()
        for stimuli in (still, shaken)
        for down, right in ((2, 0), (-1, 1), (0, -2))
    ]
    assert np.mean(moved[3:]) < 0.8 * np.mean(moved[:3])
    alone = model_metamers(tiny, pictures.select(ids=["picture 3"]), **given, jitter=2)
    np.testing.assert_array_equal(alone.images[0], shaken.images[3])


def test_early_stop_of_a_jittered_image_is_asked_of_the_image_itself(tiny, pictures):
    made = model_metamers(
        tiny, pictures, stage="late", preset="fast", steps=300, jitter=1, max_error=0.05
    ).table
    assert made["success"].all() and made["steps"].between(1, 299).all()
    assert (made[["loss_float", "loss_png"]] <= 0.05).all(axis=None)


def test_passes_and_frames_are_told(tiny, pictures):
    heard, frames = [], []
    model_metamers(
        tiny,
        pictures,
        stage="5",
        **quick(
            steps=8,
            run=RunOptions(
                batch_size=2,
                on_step=heard.append,
                on_frame=lambda *frame: frames.append(frame),
            ),
        ),
    )
    assert heard[-1].done == heard[-1].total == 5
    assert {stimulus_id for heard_pass in heard for stimulus_id in heard_pass.losses} == set(
        pictures.ids
    )
    assert {(stimulus_id, step) for stimulus_id, step, _ in frames} >= {
        (stimulus_id, step) for stimulus_id in pictures.ids for step in (0, 1, 2, 4, 8)
    }


# ------------------------------------------------------------------------- starts, balls, penalties


def test_starts():
    photograph = np.random.default_rng(0).uniform(0, 1, (3, 40, 40)).astype(np.float32)
    random = {name: np.random.default_rng(1) for name in STARTS}
    made = {name: start(photograph, random[name], 0.5, 0.1) for name, start in STARTS.items()}
    assert made["normal"].mean() == pytest.approx(0.5, abs=0.01) and made[
        "normal"
    ].std() == pytest.approx(0.1, rel=0.05)
    assert 0.39 < made["uniform"].min() < 0.41 and 0.59 < made["uniform"].max() < 0.61
    assert np.abs(made["l1_ball"] - 0.5).sum() <= 0.1 and (
        made["l1_ball"] < 0.5
    ).mean() == pytest.approx(0.5, abs=0.05)
    assert (made["constant"] == 0.5).all() and made["reference"] is photograph
    # uniform in the ball of d dimensions: P(radius share < r) = r^d, so in 2 dimensions a mean of
    # 2/3
    two = [
        np.abs(STARTS["l1_ball"](np.zeros(2), random["l1_ball"], 0.0, 1.0)).sum()
        for _ in range(4000)
    ]
    assert np.mean(two) == pytest.approx(2 / 3, abs=0.015)


def test_a_ball_holds_the_image_near_its_center(tiny, pictures):
    own = {"stage": "5", **quick(ball="linf", radius=0.02, start="uniform", start_spread=0.1)}
    near_photograph = model_metamers(tiny, pictures, **own, center="reference")
    assert np.abs(near_photograph.images - pictures.images).max() <= 0.02 + 1e-6
    gray = np.full((3, SIZE, SIZE), 0.5, np.float32)
    del own["start"]
    near_start = model_metamers(tiny, pictures, **own, start_images=gray)
    assert np.abs(near_start.images - 0.5).max() == pytest.approx(0.02, abs=1e-6)
    same = model_metamers(tiny, pictures, stage="5", **quick(start="reference", steps=1))
    assert (same.table["loss_float"] < 0.2).all()


def test_penalties_by_their_formulas():
    images = np.random.default_rng(0).uniform(0, 1, (2, 3, 7, 9))
    right, down = (
        np.diff(images, axis=axis, append=np.take(images, [-1], axis)) for axis in (3, 2)
    )
    tensor = torch.from_numpy(images)
    for power in (1.0, 2.0, 3.0):
        expected = 0.3 * ((255 * right) ** 2 + (255 * down) ** 2) ** (power / 2)
        results = Penalty(kind="total_variation", weight=0.3, power=power, pixel_scale=255)(tensor)
        np.testing.assert_allclose(results, expected.sum(axis=(1, 2, 3)), rtol=1e-6)
    results = Penalty(kind="alpha_norm", weight=2.0, power=6.0, pixel_scale=255)(tensor)
    np.testing.assert_allclose(
        results, 2 * ((255 * (images - 0.5)) ** 6).sum(axis=(1, 2, 3)), rtol=1e-10
    )
    results = Penalty(kind="range", weight=1.0, power=2.0, low=0.2, high=0.7)(tensor)
    outside = np.maximum(0.2 - images, 0) + np.maximum(images - 0.7, 0)
    np.testing.assert_allclose(results, (outside**2).sum(axis=(1, 2, 3)), rtol=1e-10)
    flat = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    Penalty(kind="total_variation", weight=1.0, power=1.0)(flat).sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_total_variation_smooths(tiny, pictures):
    rough, smooth = (
        model_metamers(tiny, pictures, stage="5", **quick(steps=100), penalties=penalties).images
        for penalties in ((), [Penalty(kind="total_variation", weight=1e-2, power=2.0)])
    )
    assert np.abs(np.diff(smooth)).mean() < 0.7 * np.abs(np.diff(rough)).mean()


# ------------------------------------------------------------------------------------------ presets


def test_presets_hold_the_papers_numbers():
    feather, boehm = PRESETS["feather2023"], PRESETS["boehm2025"]
    assert (feather.start, feather.start_level, feather.start_spread) == ("normal", 0.5, 0.05)
    lengths = [feather.step_length(step, 1) for step in range(feather.total_steps(1))]
    assert len(lengths) == 24_000
    np.testing.assert_array_equal(
        np.reshape(lengths, (8, 3000)), np.repeat(0.5 ** np.arange(8), 3000).reshape(8, 3000)
    )
    assert (feather.ball, feather.radius, feather.center) == ("l2", 100_000.0, "start")
    assert feather.straight_through_relu and not boehm.straight_through_relu
    assert {(recipe.step_rule, recipe.optimizer) for recipe in (feather, boehm)} == {("l2", "sgd")}
    assert (boehm.start, boehm.start_level, boehm.start_spread) == ("l1_ball", 0.5, 0.1)
    assert (boehm.solver, boehm.turn, boehm.ball) == ("round_robin", 10, "none")
    assert [boehm.total_steps(n) for n in (1, 4)] == [40_000, 160_000]
    lengths = np.array([boehm.step_length(step, 4) for step in range(0, 160_000, 40)])
    assert len(lengths) == 4000 and lengths[0] == 1 and lengths[-1] == pytest.approx(0.005)
    np.testing.assert_allclose(lengths[1:] / lengths[:-1], 0.998676, atol=5e-7)
    assert boehm.step_length(39, 4) == 1 > boehm.step_length(40, 4)
    assert make_recipe("boehm2025", {"budget": "total"}).total_steps(4) == 40_000
    assert all(recipe.open_choices for recipe in PRESETS.values())


def test_a_preset_can_be_overridden_and_is_recorded(tiny, pictures):
    made = model_metamers(
        tiny,
        pictures,
        stage="5",
        preset="boehm2025",
        steps=3,
        start="constant",
        seed=4,
        suffix="_b",
    )
    settings = made.provenance["settings"]
    assert (
        settings["preset"] == "boehm2025"
        and settings["steps"] == 3
        and settings["start"] == "constant"
    )
    assert settings["last_step_size"] == 0.005 and settings["open_choices"] == list(
        PRESETS["boehm2025"].open_choices
    )
    assert made.ids[0] == "picture 0_metamer_b" and set(made.table["kind"]) == {"metamer"}
    assert settings["stages"] == {"tiny": ["5"]}


def test_the_same_start_for_every_stage(tiny, pictures):
    still = {"preset": "feather2023", "steps": 1, "step_size": 1e-9, "schedule": "constant"}
    ends = [model_metamers(tiny, pictures, stage=stage, **still) for stage in ("3", "7")]
    np.testing.assert_allclose(ends[0].images, ends[1].images, atol=1e-6)
    assert len({image.tobytes() for image in ends[0].images}) == 5


# -------------------------------------------------------------------------------------------- depth


def test_stages_by_name_path_and_depth(tiny):
    assert (
        resolve_stage(tiny, "late")
        == resolve_stage(tiny, 0.8)
        == resolve_stage(tiny, "0.8")
        == ("7", "7")
    )
    assert resolve_stage(tiny, 1.0) == ("9", "9")
    renamed = stage_model(
        tiny.network,
        stages={"last": "9"},
        preprocessing=PLAIN,
        name="renamed",
        weights="random",
        trained=False,
        class_names=tiny.class_names,
    )
    assert resolve_stage(renamed, 1.0) == ("last", "9") and resolve_stage(renamed, "5") == (
        "5",
        "5",
    )


# --------------------------------------------------------------------------------------- bad inputs


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"stage": "conv"}, "unknown stage of tiny 'conv'"),
        ({"stage": 1.5}, "depth 1.5 is out of range"),
        ({"stage": 0.01}, "before the first"),
        ({"stage": ["5", "5"]}, "asked for more than once"),
        ({"stage": {"tony": "5"}}, "not for each or for others: tiny, tony"),
        ({"stage_weights": [1, 2]}, r"1 stage\(s\) and 2 weight\(s\)"),
        ({"preset": "boehm2024"}, "unknown preset 'boehm2024'"),
        ({"step_sise": 1}, "unknown setting of a metamer 'step_sise'"),
        ({"step_size": -1}, "step_size must be above 0"),
        ({"steps": "many"}, "wrong type"),
        ({"start": "image"}, "go together"),
        (
            {"start_images": {"picture 0": np.full((3, SIZE, SIZE), 0.5)}},
            "no start image for picture 1",
        ),
        (
            {"start_images": np.zeros((3, 8, 8), np.float32)},
            "the start image of 'picture 0' must be",
        ),
        ({"start_images": np.full((3, SIZE, SIZE), 2.0)}, "the start image of 'picture 0' must be"),
        ({"max_error": 0}, "max_error must be above 0"),
        ({"parametrization": "furier"}, "did you mean 'fourier'"),
        ({"jitter": -1}, "jitter must not be negative"),
        ({"jitter": 1.5}, "whole number of pixels, not 1.5"),
        (
            {
                "optimizer": "lbfgs",
                "parametrization": "fourier",
                "solver": "round_robin",
                "jitter": 2,
            },
            "'lbfgs' needs parametrization='pixels', not 'fourier', solver='joint', not "
            "'round_robin', jitter=0, not 2",
        ),
        ({"optimizer": "lbfgs", "step_rule": "l2"}, "needs step_rule='raw', not 'l2'"),
        ({"optimizer": "newton"}, "unknown optimizer"),
    ],
)
def test_bad_settings_are_refused(tiny, pictures, change, match):
    with pytest.raises(InputError, match=match):
        model_metamers(tiny, pictures, **{"stage": "5", **quick(), **change})


def test_networks_and_photographs_that_do_not_fit_are_refused(tiny, pictures, tmp_path):
    larger = Preprocessing(
        size=(48, 48), resize=48, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    pooled = nn.Sequential(nn.Conv2d(3, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    big = stage_model(
        pooled,
        stages={"0": "0"},
        preprocessing=larger,
        name="big",
        weights="random",
        trained=False,
        class_names=tiny.class_names,
    )
    with pytest.raises(InputError, match=r"different sizes \(tiny 32 x 32, big 48 x 48\)"):
        model_metamers([tiny, big], pictures, stage="late")
    small = at_size(big, SIZE)
    assert small.preprocessing.size == (SIZE, SIZE) and small.preprocessing.resize == SIZE
    assert (
        "loss_png_big" in model_metamers([tiny, small], pictures, stage=1.0, **quick(steps=1)).table
    )
    with pytest.raises(InputError, match="tiny cannot see 48 x 48 pixels"):
        at_size(tiny, 48)
    with pytest.raises(InputError, match="same name: tiny"):
        model_metamers([tiny, small_net(1)], pictures, stage="late")
    with pytest.raises(InputError, match="at least one network"):
        model_metamers([], pictures, stage="late")
    with pytest.raises(InputError, match="big sees"):
        model_metamers(big, pictures, stage="0")
    made = model_metamers(tiny, pictures, stage="5", **quick(steps=1))
    with pytest.raises(InputError, match=r"kind RE\), not metamer"):
        model_metamers(tiny, made, stage="5")
    write_stimuli(photographs_of(pictures.images), tmp_path)
    foreign = (tmp_path / "stimuli.h5").read_bytes()[
        SEAL_SIZE:
    ]  # without its checksum, as of another program
    (tmp_path / "stimuli.h5").write_bytes(foreign)
    with h5py.File(tmp_path / "stimuli.h5", "r+") as file:
        file["images"][1] = 3.0
    with pytest.raises(InputError, match="'picture 1' leaves"):
        model_metamers(tiny, read_stimuli(tmp_path, in_memory=False), stage="5", **quick())
    with pytest.raises(InputError, match="unknown penalty 'tv'"):
        Penalty(kind="tv", weight=1.0, power=2.0)
    with pytest.raises(InputError, match="must not be negative"):
        Penalty(kind="range", weight=-1.0, power=2.0)


def test_activations_that_are_all_zero_are_refused(pictures):
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 30 * 30, 10))
    nn.init.constant_(dead[0].bias, -100.0)

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = dead
            self.way = nn.Linear(3 * SIZE * SIZE, 10)

        def forward(self, images):
            return self.inner(images) + self.way(images.flatten(1))

    model = staged(Around(), ["inner.1"], name="dead")
    with pytest.raises(
        InputError, match=r"dead: inner\.1: activations are all zero for picture 0, picture 1"
    ):
        model_metamers(model, pictures, stage="inner.1", **quick())


# -------------------------------------------------------------------------------- a trained network


@pytest.mark.data
def test_lite0_sees_the_photograph_in_its_metamer(lite0, shared_data):
    files = sorted((shared_data / "photos_ccby").glob("*.jpg"))[:2]
    photographs = load_photographs(files, lite0.preprocessing)
    made = model_metamers(
        lite0, photographs, stage="late", preset="fast", steps=40, run=RunOptions(batch_size=2)
    )
    assert set(made.table["stage"]) == {"blocks.5.1"}
    assert (made.table["loss_float"] < 0.5).all() and made.table["success"].all()
    assert (made.table["loss_png"] - made.table["loss_float"]).abs().max() < 0.02
    # and it does not look like it: further away in pixels than a strongly blurred copy would be
    assert (np.abs(made.images - photographs.images).mean(axis=(1, 2, 3)) > 0.05).all()


@pytest.mark.data
def test_a_metamer_of_a_trained_networks_stage_matches_its_later_stages(squeezenet, shared_data):
    """Make metamers from starts near the photograph, so that few steps reach a small error.

    Later stages then see nearly the same.
    """
    files = sorted((shared_data / "photos_ccby").glob("*.jpg"))[:2]
    photographs = load_photographs(files, squeezenet.preprocessing)
    random = np.random.default_rng(0)
    starts = {
        stimulus_id: np.clip(photograph + random.normal(0, 0.1, photograph.shape), 0, 1).astype(
            np.float32
        )
        for stimulus_id, photograph in zip(photographs.ids, photographs.images, strict=True)
    }
    made = model_metamers(
        squeezenet,
        photographs,
        stage="features.4",
        preset="fast",
        steps=50,
        start_images=starts,
        run=RunOptions(batch_size=2),
    )
    before, ours, theirs = (
        squeezenet.activations(torch.from_numpy(images), list(squeezenet.stages))
        for images in (np.stack(list(starts.values())), made.images, photographs.images)
    )

    def error(results, stage):
        return (
            (results[stage] - theirs[stage]).flatten(1).norm(dim=1)
            / theirs[stage].flatten(1).norm(dim=1)
        ).numpy()

    np.testing.assert_allclose(made.table["loss_float"], error(ours, "features.4"), rtol=1e-3)
    for stage in list(squeezenet.stages)[2:]:
        assert (error(ours, stage) < 0.3).all() and (
            error(ours, stage) < 0.4 * error(before, stage)
        ).all(), stage
    assert made.table["success"].all()


@pytest.mark.data
def test_a_draft_in_bfloat16_ends_where_the_network_itself_does(squeezenet, shared_data):
    pytest.importorskip("stimuli_gen.fast")
    files = sorted((shared_data / "photos_ccby").glob("*.jpg"))[:1]
    photographs = load_photographs(files, squeezenet.preprocessing)
    given = {"stage": "features.4", "preset": "fast", "steps": 40}
    exact, fast = (
        model_metamers(squeezenet, photographs, **given, run=RunOptions(batch_size=1, mode=mode))
        for mode in ("exact", "fast")
    )
    assert not np.array_equal(exact.images, fast.images)
    assert (fast.table["loss_float"] < 1.1 * exact.table["loss_float"]).all()
    assert (exact.table["mode"][0], fast.table["mode"][0]) == ("exact", "fast")
    settings = fast.provenance["settings"]
    assert (
        settings["mode"] == "fast"
        and settings["finish"] == 0.1
        and "mode" not in exact.provenance["settings"]
    )
    assert settings["drafts"]["squeezenet1_0"]["precision"] == fast.table["draft_precision"][0]
    (match,) = match_stages(
        squeezenet, "features.4"
    )  # what is written is judged by the network itself
    error = match.error(
        torch.from_numpy(fast.images), match.anchors(torch.from_numpy(photographs.images))
    )
    np.testing.assert_allclose(fast.table["loss_float"], error.detach().numpy(), rtol=1e-4)
    uninterrupted = model_metamers(
        squeezenet, photographs, **given, run=RunOptions(batch_size=1, mode="fast"), finish=1.0
    )
    np.testing.assert_array_equal(uninterrupted.images, exact.images)
