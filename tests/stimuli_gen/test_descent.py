import numpy as np
import pytest
import torch

from neurometamer.store import InputError, generator
from stimuli_gen import descend
from stimuli_gen.adversarial import _class_objective
from stimuli_gen.descent import Start, shown
from stimuli_gen.stimuli import from_8bit, to_8bit

GOALS = {"near": 0.6, "far": 0.9, "there": 0.5, "dark": 0.1, "out": 1.5}


def towards_goal(images, context):
    """Loss ‖image - goal‖² and score -max|image - goal|: every iterate is known in closed form."""
    difference = images - context["goal"].view(-1, 1, 1, 1)
    return difference.square().flatten(1).sum(1), -difference.abs().flatten(1).amax(1)


def at_half(one):
    image = np.full((3, 2, 2), 0.5, np.float32)
    return Start(image=image, context={"goal": np.array(GOALS[one], np.float32)})


def run(ids, **more):
    given = {"threshold": -0.01, "step_size": 0.1, "max_steps": 40, "step_rule": "raw", "batch_size": 2}
    return descend(towards_goal, ids, at_half, **(given | more))


def test_every_image_stops_on_its_own_step():
    found = run(list(GOALS))
    for one in ("near", "far", "there", "dark"):
        distance = abs(GOALS[one] - 0.5)
        expected = 0 if distance < 0.01 else int(np.ceil(np.log(0.01 / distance) / np.log(0.8)))
        # the 8-bit version must be as near: rounding may take a few steps more
        assert expected <= found[one].steps <= expected + 6, one
        np.testing.assert_allclose(
            found[one].image, GOALS[one] + (0.5 - GOALS[one]) * 0.8 ** found[one].steps, rtol=1e-5
        )
        assert found[one].reached and min(found[one].score, found[one].score_shown) >= -0.01
    assert not found["out"].reached and found["out"].steps == 40  # beyond the box
    np.testing.assert_array_equal(found["out"].image, 1)
    assert found["out"].score == -0.5


def test_best_or_last_iterate_of_an_image_that_was_given_up():
    overshooting = {"step_rule": "sign", "step_size": 0.3, "max_steps": 1}
    best, last = (run(["near"], keep=keep, **overshooting)["near"] for keep in ("best", "last"))
    np.testing.assert_allclose(best.image, 0.5)
    np.testing.assert_allclose(last.image, 0.8)
    assert best.score == pytest.approx(-0.1) and best.score_shown == pytest.approx(-0.1, abs=0.6 / 255)
    assert last.score == pytest.approx(-0.2)


def test_step_rules_have_their_length():
    for rule, length in (("l2", 0.05 / np.sqrt(12)), ("sign", 0.05), ("raw", 2 * 0.4 * 0.05)):
        found = run(["far"], step_rule=rule, step_size=0.05, max_steps=1, keep="last")["far"]
        np.testing.assert_allclose(found.image, 0.5 + length, rtol=1e-5)


def test_rounding_is_the_same_as_for_files():
    images = np.random.default_rng(0).random((4, 3, 50, 50), dtype=np.float32)
    images[0, 0, 0] = (np.arange(50, dtype=np.float32) + np.float32(0.5)) / np.float32(255)
    np.testing.assert_array_equal(shown(torch.from_numpy(images)).numpy(), from_8bit(to_8bit(images)))


@pytest.mark.parametrize("name", ["lite0", "alexnet"])
def test_an_image_alone_in_a_batch_and_shuffled_is_the_same(name, request):
    model = request.getfixturevalue(name)
    ids = [f"image {i}" for i in range(4)]

    def prepare(one):
        random = generator(0, one)
        image = random.uniform(0, 1, (3, 224, 224)).astype(np.float32)
        return Start(image=image, context={"target": random.integers(1000), "anchor": image})

    def make(some):
        objective = _class_objective(model, "log_probability", 1e-3)
        return descend(objective, some, prepare, threshold=2, step_size=1.0, max_steps=2, keep="last", batch_size=3)

    together, shuffled, alone = make(ids), make(ids[::-1]), make(ids[3:])
    for one in ids:
        np.testing.assert_array_equal(together[one].image, shuffled[one].image)
        assert together[one].score_shown == shuffled[one].score_shown
    np.testing.assert_array_equal(together["image 3"].image, alone["image 3"].image)
    assert np.abs(together["image 3"].image - prepare("image 3").image).max() > 0


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path):
    ids = ["near", "far", "dark", "out"]
    whole = run(ids)
    keys = {one: f"key-{one}" for one in ids}

    def kill(done, total):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(ids, keys=keys, resume=tmp_path, progress=kill)
    assert len(list(tmp_path.iterdir())) == 2
    begun, told = [], []

    def prepare(one):
        begun.append(one)
        return at_half(one)

    again = descend(
        towards_goal, ids, prepare, threshold=-0.01, step_size=0.1, max_steps=40, step_rule="raw", batch_size=2,
        keys=keys, resume=tmp_path, progress=lambda *done: told.append(done),
    )  # fmt: skip
    assert len(set(begun)) == 2 and told == [(2, 4), (3, 4), (4, 4)]
    assert list(again) == ids
    for one in ids:
        np.testing.assert_array_equal(again[one].image, whole[one].image)
        assert (again[one].steps, again[one].score, again[one].reached) == (
            whole[one].steps,
            whole[one].score,
            whole[one].reached,
        )
    damaged = tmp_path / "key-far.h5"
    damaged.write_bytes(damaged.read_bytes()[:100])  # a damaged file is made again
    np.testing.assert_array_equal(run(ids, keys=keys, resume=tmp_path)["far"].image, whole["far"].image)


def test_a_loss_that_is_not_finite_names_step_and_stimulus(tmp_path):
    def bad(images, context):
        loss, score = towards_goal(images, context)
        return torch.where(context["goal"] < 0.2, (images.flatten(1).amin(1) - 0.3).log(), loss), score

    with pytest.raises(InputError, match=r"the loss of 'dark' is (nan|-inf) at step \d+; use a smaller step size"):
        descend(
            bad, ["there", "dark"], at_half, threshold=-0.01, step_size=0.1, max_steps=9, step_rule="sign",
            keys={"there": "t", "dark": "d"}, resume=tmp_path,
        )  # fmt: skip
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
