import numpy as np
import pytest
import torch
from goals import GOALS, at_half, descend_with, towards_goal
from goals import move_to_goals as run

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from stimuli_gen.adversarial import class_objective
from stimuli_gen.stimuli import from_8bit, to_8bit
from stimuli_gen.synthesis.constraints import BALLS
from stimuli_gen.synthesis.loop import Start, shown


def test_every_image_stops_on_its_own_step():
    results = run(list(GOALS))
    for stimulus_id in ("near", "far", "there", "dark"):
        distance = abs(GOALS[stimulus_id] - 0.5)
        expected = 0 if distance < 0.01 else int(np.ceil(np.log(0.01 / distance) / np.log(0.8)))
        # the 8-bit version must be as near: rounding may take a few steps more
        assert expected <= results[stimulus_id].steps <= expected + 6, stimulus_id
        np.testing.assert_allclose(
            results[stimulus_id].image,
            GOALS[stimulus_id] + (0.5 - GOALS[stimulus_id]) * 0.8 ** results[stimulus_id].steps,
            rtol=1e-5,
        )
        assert (
            results[stimulus_id].reached
            and min(results[stimulus_id].score, results[stimulus_id].score_shown) >= -0.01
        )
    assert not results["out"].reached and results["out"].steps == 40  # beyond the box
    np.testing.assert_array_equal(results["out"].image, 1)
    assert results["out"].score == -0.5


def test_best_or_last_iterate_of_an_image_that_was_given_up():
    overshooting = {"step_rule": "sign", "step_size": 0.3, "max_steps": 1}
    best, last = (run(["near"], keep=keep, **overshooting)["near"] for keep in ("best", "last"))
    np.testing.assert_allclose(best.image, 0.5)
    np.testing.assert_allclose(last.image, 0.8)
    assert best.score == pytest.approx(-0.1) and best.score_shown == pytest.approx(
        -0.1, abs=0.6 / 255
    )
    assert last.score == pytest.approx(-0.2)


def test_step_rules_have_their_length():
    for rule, length in (("l2", 0.05 / np.sqrt(12)), ("sign", 0.05), ("raw", 2 * 0.4 * 0.05)):
        results = run(["far"], step_rule=rule, step_size=0.05, max_steps=1, keep="last")["far"]
        np.testing.assert_allclose(results.image, 0.5 + length, rtol=1e-5)


def test_rounding_is_the_same_as_for_files():
    images = np.random.default_rng(0).random((4, 3, 50, 50), dtype=np.float32)
    images[0, 0, 0] = (np.arange(50, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    np.testing.assert_array_equal(
        shown(torch.from_numpy(images)).numpy(), from_8bit(to_8bit(images))
    )


@pytest.mark.parametrize("name", ["lite0", "alexnet"])
def test_an_image_alone_in_a_batch_and_shuffled_is_the_same(name, request):
    model = request.getfixturevalue(name)
    ids = [f"image {i}" for i in range(4)]

    def prepare(stimulus_id):
        random = generator(0, stimulus_id)
        image = random.uniform(0, 1, (3, 224, 224)).astype(np.float32)
        return Start(image=image, context={"target": random.integers(1000), "anchor": image})

    def make(some):
        objective = class_objective(model, "log_probability", 1e-3)
        return descend_with(
            objective,
            some,
            prepare,
            threshold=2,
            step_size=1.0,
            max_steps=2,
            keep="last",
            batch_size=3,
        )

    together, shuffled, alone = make(ids), make(ids[::-1]), make(ids[3:])
    for stimulus_id in ids:
        np.testing.assert_array_equal(together[stimulus_id].image, shuffled[stimulus_id].image)
        assert together[stimulus_id].score_shown == shuffled[stimulus_id].score_shown
    np.testing.assert_array_equal(together["image 3"].image, alone["image 3"].image)
    assert np.abs(together["image 3"].image - prepare("image 3").image).max() > 0


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path):
    ids = ["near", "far", "dark", "out"]
    uninterrupted = run(ids)
    keys = {stimulus_id: f"key-{stimulus_id}" for stimulus_id in ids}

    def kill(done, total):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(ids, keys=keys, resume=tmp_path, progress=kill)
    assert len(list(tmp_path.iterdir())) == 2
    begun, steps_taken = [], []

    def prepare(stimulus_id):
        begun.append(stimulus_id)
        return at_half(stimulus_id)

    again = descend_with(
        towards_goal,
        ids,
        prepare,
        threshold=-0.01,
        step_size=0.1,
        max_steps=40,
        step_rule="raw",
        batch_size=2,
        keys=keys,
        resume=tmp_path,
        progress=lambda *done: steps_taken.append(done),
    )
    assert len(set(begun)) == 2 and steps_taken == [(2, 4), (3, 4), (4, 4)]
    assert list(again) == ids
    for stimulus_id in ids:
        np.testing.assert_array_equal(again[stimulus_id].image, uninterrupted[stimulus_id].image)
        assert (again[stimulus_id].steps, again[stimulus_id].score, again[stimulus_id].reached) == (
            uninterrupted[stimulus_id].steps,
            uninterrupted[stimulus_id].score,
            uninterrupted[stimulus_id].reached,
        )
    damaged = tmp_path / "key-far.h5"
    damaged.write_bytes(damaged.read_bytes()[:100])  # a damaged file is made again
    np.testing.assert_array_equal(
        run(ids, keys=keys, resume=tmp_path)["far"].image, uninterrupted["far"].image
    )


def test_a_loss_that_is_not_finite_names_step_and_stimulus(tmp_path):
    def bad(images, context):
        loss, score = towards_goal(images, context)
        return torch.where(
            context["goal"] < 0.2, (images.flatten(1).amin(1) - 0.3).log(), loss
        ), score

    with pytest.raises(
        InputError, match=r"the loss of 'dark' is (nan|-inf) at step \d+; use a smaller step size"
    ):
        descend_with(
            bad,
            ["there", "dark"],
            at_half,
            threshold=-0.01,
            step_size=0.1,
            max_steps=9,
            step_rule="sign",
            keys={"there": "t", "dark": "d"},
            resume=tmp_path,
        )
    assert (tmp_path / "t.h5").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"step_rule": "adam"}, "unknown step rule 'adam'"),
        ({"keep": "first"}, "unknown iterate to keep 'first'"),
        ({"step_size": 0}, "must be positive"),
        ({"max_steps": 0}, "must be positive"),
        ({"resume": "somewhere"}, "needs keys"),
    ],
)
def test_bad_settings_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        run(["near"], **change)
    with pytest.raises(InputError, match=r"duplicate stimulus id\(s\): near"):
        run(["near", "near"])


# ------------------------------------------------------------------- several objectives, optimizers


def pulls(goals, record=None):
    """One quadratic objective a goal; `record` hears which one was asked."""

    def objective(number, goal):
        def evaluate(images, context):
            if record is not None and images.requires_grad:
                record.append(number)
            difference = images - goal
            return difference.square().flatten(1).sum(1), -difference.abs().flatten(1).amax(1)

        return evaluate

    return [objective(number, goal) for number, goal in enumerate(goals)]


def test_objectives_in_turn_follow_one_another_and_end_where_arithmetic_says():
    requests = []
    given = {
        "threshold": torch.inf,
        "step_size": 0.1,
        "step_rule": "raw",
        "keep": "last",
        "batch_size": 1,
    }
    more = {"max_steps": 13, "solver": "round_robin", "turn": 3}
    results = descend_with(pulls([0.2, 0.7], requests), ["near"], at_half, **given, **more)
    assert requests[:13] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0]
    value = 0.5
    for number in requests[:13]:
        value += 0.2 * ((0.2, 0.7)[number] - value)
    np.testing.assert_allclose(results["near"].image, value, rtol=1e-5)
    assert results["near"].score == pytest.approx(
        -max(abs(value - 0.2), abs(value - 0.7)), rel=1e-4
    )  # the worst counts
    joint = descend_with(pulls([0.2, 0.7]), ["near"], at_half, **given, max_steps=40)["near"]
    np.testing.assert_allclose(joint.image, 0.45, rtol=1e-5)  # the sum is lowest at the mean


def test_joint_gradients_are_the_sum_of_the_single_ones():
    given = {
        "threshold": torch.inf,
        "step_size": 0.01,
        "step_rule": "raw",
        "keep": "last",
        "max_steps": 1,
    }
    goals = [0.2, 0.7, 0.9]

    def change(objective):
        return descend_with(objective, ["near"], at_half, **given)["near"].image - 0.5

    np.testing.assert_allclose(
        change(pulls(goals)), sum(change(pulls([goal])) for goal in goals), rtol=1e-5
    )


def test_turns_go_by_the_image_not_by_its_companions():
    """Images that stop at different steps leave their slots.

    The next images are then at another turn than the rest.
    """

    def objectives():
        def first(images, context):
            return towards_goal(images, context)

        def second(images, context):
            loss, score = towards_goal(images, context)
            return loss + (images - 0.3).square().flatten(1).sum(1), score

        return [first, second]

    given = {
        "threshold": -0.12,
        "step_size": 0.03,
        "max_steps": 25,
        "step_rule": "raw",
        "keep": "last",
    }
    given |= {"solver": "round_robin", "turn": 2, "optimizer": "adam", "batch_size": 2}
    together = descend_with(objectives(), list(GOALS), at_half, **given)
    assert len({result.steps for result in together.values()}) > 2
    assert all(result.steps % 4 == 0 or result.steps == 25 for result in together.values())
    for stimulus_id in GOALS:
        alone = descend_with(objectives(), [stimulus_id], at_half, **given)[stimulus_id]
        np.testing.assert_array_equal(alone.image, together[stimulus_id].image)
        assert (alone.steps, alone.score, alone.reached) == (
            together[stimulus_id].steps,
            together[stimulus_id].score,
            together[stimulus_id].reached,
        )


def test_adam_agrees_with_torch():
    given = {
        "threshold": torch.inf,
        "step_size": 0.02,
        "max_steps": 30,
        "step_rule": "raw",
        "keep": "last",
    }
    results = descend_with(
        towards_goal, ["far", "dark", "near"], at_half, **given, optimizer="adam", batch_size=2
    )
    for stimulus_id in ("far", "dark", "near"):
        image = torch.full((1, 3, 2, 2), 0.5, requires_grad=True)
        adam = torch.optim.Adam([image], lr=0.02)
        for _ in range(30):
            adam.zero_grad()
            (image - GOALS[stimulus_id]).square().sum().backward()
            adam.step()
        # the same formula, operations in another order: float32 rounding of 30 steps
        np.testing.assert_allclose(results[stimulus_id].image, image.detach().numpy()[0], rtol=1e-5)


def test_a_schedule_is_asked_for_each_image_by_its_own_steps():
    lengths = [0.1, 0.05, 0.02]
    given = {
        "threshold": torch.inf,
        "max_steps": 3,
        "step_rule": "sign",
        "keep": "last",
        "batch_size": 1,
    }
    results = descend_with(
        towards_goal, ["far", "dark"], at_half, step_size=lambda step: lengths[step], **given
    )
    np.testing.assert_allclose(results["far"].image, 0.5 + sum(lengths), rtol=1e-6)
    np.testing.assert_allclose(results["dark"].image, 0.5 - sum(lengths), rtol=1e-5)


def test_balls_are_nearest_points_and_leave_what_is_inside_alone():
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.uniform(0, 1, (4, 3, 5, 5)).astype(np.float32))
    center = torch.from_numpy(random.uniform(0, 1, (4, 3, 5, 5)).astype(np.float32))
    change = (images - center).flatten(1)
    l2, linf = BALLS["l2"](images, center, 0.7), BALLS["linf"](images, center, 0.1)
    np.testing.assert_allclose((l2 - center).flatten(1).norm(dim=1), 0.7, rtol=1e-5)
    cosine = torch.nn.functional.cosine_similarity((l2 - center).flatten(1), change)
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)
    np.testing.assert_allclose(
        linf, np.clip(images.numpy(), center.numpy() - 0.1, center.numpy() + 0.1)
    )
    for rule, radius in (("l2", 100_000.0), ("linf", 1.0), ("none", 0.1)):
        assert torch.equal(BALLS[rule](images, center, radius), images)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"optimizer": "newton"}, "unknown optimizer 'newton'"),
        ({"solver": "both"}, "unknown solver 'both'"),
        ({"turn": 0}, "one step a turn"),
        ({"solver": "round_robin", "keep": "best"}, "no best iterate"),
    ],
)
def test_bad_settings_of_several_objectives_are_refused(change, match):
    given = {"threshold": torch.inf, "step_size": 0.1, "max_steps": 3}
    with pytest.raises(InputError, match=match):
        descend_with(pulls([0.2, 0.7]), ["near"], at_half, **(given | change))
