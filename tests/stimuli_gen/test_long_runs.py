"""Test what a long run must survive.

It is stopped anywhere, runs out of memory, or follows wrong drafts.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from goals import GOALS, descend_with, move_to_goals, towards_goal

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.resume import only_process
from neurometamer.store import read_hdf5_attributes, write_hdf5
from stimuli_gen.adversarial import class_objective
from stimuli_gen.synthesis.checkpoint import Checkpoint, deferred_interrupt
from stimuli_gen.synthesis.loop import Start

HELPERS = Path(__file__).parents[1] / "helpers"
KEYS = {stimulus_id: f"key-{stimulus_id}" for stimulus_id in GOALS}
run = partial(move_to_goals, batch_size=8)


def same(results, other):
    assert list(results) == list(other)
    for result in results:
        np.testing.assert_array_equal(results[result].image, other[result].image)
        for name in ("steps", "score", "score_shown", "reached"):
            assert getattr(results[result], name) == getattr(other[result], name), (result, name)


# ------------------------------------------------------------------------------------ interruptions

OPTIMIZERS = {
    "sgd": {},
    "adam": {"optimizer": "adam", "step_size": 0.02, "keep": "last"},
    "momentum in Fourier space": {
        "optimizer": "momentum",
        "step_size": 0.01,
        "parametrization": "fourier",
    },
    "lbfgs": {"optimizer": "lbfgs", "step_size": 0.1},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("after", [1, 7, 12])
def test_ctrl_c_keeps_unfinished_images_and_they_end_the_same(tmp_path, name, after):
    more = OPTIMIZERS[name] | {"batch_size": 4}
    uninterrupted = run(list(GOALS), **more)
    passes = []

    def press(seen):
        passes.append(seen)
        if seen.number == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(list(GOALS), **more, keys=KEYS, resume=tmp_path, on_step=press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert passes[-1].number == after  # nothing more was computed
    at_work = {stimulus_id: steps + 1 for stimulus_id, steps in passes[-1].steps.items()}
    again = []
    same(run(list(GOALS), **more, keys=KEYS, resume=tmp_path, on_step=again.append), uninterrupted)
    for stimulus_id, steps in again[0].steps.items():
        assert steps == at_work.get(stimulus_id, 0), "goes on where it was"
    assert not list(tmp_path.glob("*.state.h5")), "finished images leave no state behind"


def test_a_second_ctrl_c_does_not_wait_and_threads_are_left_alone():
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as wish:
        os.kill(os.getpid(), signal.SIGINT)
        assert wish.requested
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    results = []

    def in_thread():
        with deferred_interrupt():
            results.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert results == [signal.default_int_handler]


def test_sigterm_saves_as_ctrl_c_does_and_ends_with_143(tmp_path):
    uninterrupted = run(list(GOALS), optimizer="adam", step_size=0.02, batch_size=4)
    code = textwrap.dedent(KILLED).format(
        helpers=str(HELPERS), after=9, folder=str(tmp_path), signal=15
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 143, ended.stderr
    assert not list(tmp_path.glob(".part-*")) and not (tmp_path / "lock").exists()
    seen = []
    more = {
        "optimizer": "adam",
        "step_size": 0.02,
        "keys": KEYS,
        "resume": tmp_path,
        "batch_size": 4,
    }
    same(run(list(GOALS), **more, on_step=seen.append), uninterrupted)
    assert seen[0].steps["far"] == 9  # the ninth pass was saved, not lost
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_handlers_of_others_are_left_alone():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("theirs"))
    try:
        with deferred_interrupt() as wish:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["theirs"] and not wish.requested


def test_two_processes_do_not_make_the_same_images(tmp_path):
    with only_process(tmp_path / "lock", tmp_path):
        code = textwrap.dedent(KILLED).format(
            helpers=str(HELPERS), after=9, folder=str(tmp_path), signal=9
        )
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"process {os.getpid()} on" in second.stderr and "is working in" in second.stderr


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX ones")
def test_kept_images_are_not_read_through_links_that_lead_out(tmp_path):
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    run(["near"], keys=KEYS, resume=kept)
    elsewhere.mkdir()
    (kept / "key-near.h5").rename(elsewhere / "key-near.h5")
    (kept / "key-near.h5").symlink_to(elsewhere / "key-near.h5")
    with pytest.raises(
        InputError, match=r"links that lead out of it, which are not followed: key-near\.h5"
    ):
        run(["near"], keys=KEYS, resume=kept)


def test_a_finished_image_with_a_flipped_bit_is_made_again(tmp_path, caplog):
    more = {"keys": KEYS, "resume": tmp_path}
    uninterrupted = run(["near", "far"], **more)
    (path,) = tmp_path.glob("key-far.h5")
    contents = path.read_bytes()
    for place in range(0, len(contents), len(contents) // 12):
        path.write_bytes(contents[:place] + bytes([contents[place] ^ 32]) + contents[place + 1 :])
        same(run(["near", "far"], **more), uninterrupted)
    assert "key-far.h5 is damaged" in caplog.text
    path.unlink()
    write_hdf5(
        path,
        arrays={"image": np.full((3, 2, 2), 1.5, np.float32)},
        attributes=read_hdf5_attributes(tmp_path / "key-near.h5"),
    )
    same(run(["near", "far"], **more), uninterrupted)  # out of range, with a good checksum


KILLED = """
import sys, numpy as np
sys.path.insert(0, {helpers!r})
import stimuli_gen.synthesis.checkpoint as journal
from goals import GOALS, move_to_goals
journal.SAVE_EVERY_S = 0.0
import stimuli_gen.synthesis.loop as descent
plain = journal.Checkpoint
descent.Checkpoint = lambda folder, keys: plain(folder, keys, every_s=0.0)
def watch(seen):
    if seen.number == {after}:
        import os; os.kill(os.getpid(), {signal})
keys = {{name: f"key-{{name}}" for name in GOALS}}
settings = dict(optimizer="adam", step_size=0.02, keys=keys, resume={folder!r}, batch_size=4)
move_to_goals(list(GOALS), on_step=watch, **settings)
"""


def test_a_killed_process_loses_nothing_that_was_saved(tmp_path):
    uninterrupted = run(list(GOALS), optimizer="adam", step_size=0.02, batch_size=4)
    code = textwrap.dedent(KILLED).format(
        helpers=str(HELPERS), after=9, folder=str(tmp_path), signal=9
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.glob("*.state.h5"))
    seen = []
    more = {
        "optimizer": "adam",
        "step_size": 0.02,
        "keys": KEYS,
        "resume": tmp_path,
        "batch_size": 4,
    }
    same(run(list(GOALS), **more, on_step=seen.append), uninterrupted)
    assert seen[0].steps["far"] == 8  # saved after the eighth pass; the ninth was killed


@pytest.mark.parametrize("harm", ["cut", "empty", "other settings"])
def test_a_state_that_cannot_be_used_is_not(tmp_path, harm):
    uninterrupted = run(["far"], optimizer="adam", step_size=0.02)
    with pytest.raises(KeyboardInterrupt):
        run(
            ["far"],
            optimizer="adam" if harm != "other settings" else "momentum",
            step_size=0.02,
            keys=KEYS,
            resume=tmp_path,
            on_step=lambda seen: os.kill(os.getpid(), signal.SIGINT),
        )
    (state,) = tmp_path.glob("*.state.h5")
    if harm != "other settings":
        state.write_bytes(state.read_bytes()[:600] if harm == "cut" else b"")
    same(run(["far"], optimizer="adam", step_size=0.02, keys=KEYS, resume=tmp_path), uninterrupted)


def test_states_are_saved_at_most_so_often(tmp_path):
    often, never = Checkpoint(tmp_path, {}, every_s=0.0), Checkpoint(tmp_path, {}, every_s=3600.0)
    assert (
        often.due()
        and often.due()
        and not never.due()
        and not Checkpoint(None, None, every_s=0.0).due()
    )


# -------------------------------------------------------------------------------- places and memory


def counting(sizes, limit=None):
    def objective(images, context):
        sizes.append(len(images))
        if limit is not None and len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return towards_goal(images, context)

    return objective


def test_chunks_without_images_are_dropped():
    ids, sizes, seen = list(GOALS), [], []
    run(ids, counting(sizes), on_step=seen.append, threshold=-0.01, batch_size=8)
    assert set(sizes) == {4}
    assert len(seen[0].steps) == 6 and len(seen[-1].steps) == 1  # 'out' never arrives
    alone = [pass_ for pass_ in seen if len(pass_.steps) <= 4]
    evaluated = len(sizes) * 4
    assert (
        evaluated < 8 * len(seen) and len(alone) > 10
    )  # with eight places to the end it would be all of these


@pytest.mark.parametrize("batch_size", [4, 5, 16])
def test_on_a_cpu_the_batch_size_changes_nothing(batch_size, lite0):
    ids = [f"image {i}" for i in range(6)]

    def prepare(stimulus_id):
        random = generator(0, stimulus_id)
        image = random.uniform(0, 1, (3, 224, 224)).astype(np.float32)
        return Start(image=image, context={"target": random.integers(1000), "anchor": image})

    def make(size):
        objective = class_objective(lite0, "log_probability", 1e-3)
        return descend_with(
            objective,
            ids,
            prepare,
            threshold=2,
            step_size=1.0,
            max_steps=1,
            keep="last",
            batch_size=size,
        )

    made = make(batch_size)
    same(made, make(8))
    assert list(made) == ids and all(result.steps == 1 for result in made.values())


def test_running_out_of_memory_halves_the_chunk_and_changes_nothing():
    sizes, seen = [], []
    results = run(list(GOALS), counting(sizes, limit=1), on_step=seen.append)
    same(results, run(list(GOALS)))
    assert sizes[:3] == [4, 2, 1] and set(sizes[20:]) == {1}
    assert seen[-1].n_computed == 1
    with pytest.raises(
        InputError, match=r"not enough memory on cpu for one image of \(2, 2\) pixels"
    ):
        run(list(GOALS), counting([], limit=0))


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(images, context):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(["near"], broken)


# ------------------------------------------------------------------------------------------- drafts


def biased(requests, shift):
    """A draft whose minimum is elsewhere."""

    def draft(images, context):
        if images.requires_grad:
            requests.append("draft")
        return towards_goal(images, {"goal": context["goal"] + shift})

    return draft


def exact(requests):
    def objective(images, context):
        if images.requires_grad:
            requests.append("exact")
        return towards_goal(images, context)

    return objective


def test_a_draft_never_has_the_last_word():
    requests = []
    given = {"threshold": -0.01, "max_steps": 60, "finish": 0.2, "keep": "last"}
    results = run(["far"], exact(requests), draft=biased(requests, 0.05), **given)["far"]
    assert results.reached and abs(results.image - 0.9).max() <= 0.01 + 1e-6
    turn = requests.index("exact")
    assert turn > 0 and set(requests[:turn]) == {"draft"} and set(requests[turn:]) == {"exact"}
    assert (
        turn < 48
    )  # the draft was content before its share of the steps was used up, and handed over


def test_without_a_threshold_the_draft_has_its_share_of_the_steps():
    requests = []
    given = {"threshold": torch.inf, "max_steps": 20, "finish": 0.25, "keep": "last"}
    results = run(["far"], exact(requests), draft=biased(requests, 0.05), **given)["far"]
    assert requests[:20] == ["draft"] * 15 + ["exact"] * 5 and results.steps == 20
    value = 0.5
    for step in range(20):
        value += 0.2 * ((0.95 if step < 15 else 0.9) - value)
    np.testing.assert_allclose(results.image, value, rtol=1e-5)
    assert results.score == pytest.approx(value - 0.9, rel=1e-3) or results.score == pytest.approx(
        0.9 - value, rel=1e-3
    )


def test_the_best_iterate_is_one_that_the_exact_objective_saw():
    def flattering(images, context):
        loss, score = towards_goal(images, context)
        return loss, score.clamp(
            max=-0.02
        ) + 0.0  # says the same, and better scores only while drafting

    given = {
        "threshold": -0.001,
        "max_steps": 10,
        "finish": 0.3,
        "keep": "best",
        "step_rule": "sign",
        "step_size": 0.11,
    }
    results = run(["near"], draft=flattering, **given)["near"]
    assert results.score == pytest.approx(-float(np.abs(results.image - 0.6).max()), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"draft": []}, r"0 draft\(s\) of 1 objective"),
        ({"draft": towards_goal, "finish": 0.0}, r"must be in \(0, 1\]"),
        ({"rescore": True, "keep": "best"}, "no best iterate"),
    ],
)
def test_bad_drafts_are_refused(change, match):
    with pytest.raises(InputError, match=match):
        run(["near"], **change)


def test_a_score_that_is_not_the_images_own_is_computed_again():
    def shifted(images, context):
        loss, score = towards_goal(images, context)
        return loss, score + (
            1.0 if images.requires_grad else 0.0
        )  # as jitter: another score while it moves

    results = run(["far", "near"], shifted, rescore=True, keep="last")
    same(results, run(["far", "near"], keep="last"))
    moved = run(["far", "near"], shifted, keep="last")
    assert moved["far"].score != results["far"].score  # without rescoring it is the other one


# ----------------------------------------------------------------------------------- watch and film


def test_who_watches_hears_losses_and_who_films_sees_the_way():
    seen, frames = [], {}

    def film(stimulus_id, step, image):
        frames.setdefault(stimulus_id, {})[step] = image.copy()

    results = run(["far", "out"], on_step=seen.append, on_frame=film, max_steps=40)
    assert [step_pass.number for step_pass in seen] == list(range(1, 42))
    assert seen[0].losses["far"] == pytest.approx(12 * 0.4**2, rel=1e-5) and seen[0].total == 2
    assert seen[-1].done == 2 and set(seen[-1].steps) == {"out"} and seen[-1].steps["out"] == 40
    assert sorted(frames["out"])[:8] == [0, 1, 2, 3, 4, 5, 6, 7] and max(frames["out"]) == 40
    assert len(frames["out"]) < 25  # in geometric progression
    np.testing.assert_array_equal(frames["far"][0], 0.5)
    np.testing.assert_array_equal(frames["far"][results["far"].steps], results["far"].image)


def test_objectives_know_the_steps_of_each_image():
    heard = []

    def objective(images, context):
        if images.requires_grad:
            heard.append(context["step"].tolist())
        return towards_goal(images, context)

    run(["near", "far"], objective, max_steps=3, threshold=torch.inf, batch_size=2, keep="last")
    assert heard == [[0, 0], [1, 1], [2, 2], [3, 3]]
