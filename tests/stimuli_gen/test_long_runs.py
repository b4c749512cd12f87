"""What a long run must survive: being stopped anywhere, running out of memory, drafts that are wrong."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.resume import only_process
from neurometamer.store import read_hdf5_attributes, write_hdf5
from stimuli_gen import descend
from stimuli_gen.adversarial import _class_objective
from stimuli_gen.synthesis.checkpoint import Journal, deferred_interrupt
from stimuli_gen.synthesis.loop import Start

GOALS = {"near": 0.6, "far": 0.9, "there": 0.5, "dark": 0.1, "out": 1.5, "low": 0.3}
KEYS = {one: f"key-{one}" for one in GOALS}


def towards_goal(images, context):
    difference = images - context["goal"].view(-1, 1, 1, 1)
    return difference.square().flatten(1).sum(1), -difference.abs().flatten(1).amax(1)


def at_half(one):
    return Start(
        image=np.full((3, 2, 2), 0.5, np.float32),
        context={"goal": np.array(GOALS[one], np.float32)},
    )


def run(ids, objective=towards_goal, **more):
    given = {
        "threshold": -0.01,
        "step_size": 0.1,
        "max_steps": 40,
        "step_rule": "raw",
        "batch_size": 8,
    }
    return descend(objective, ids, at_half, **(given | more))


def same(found, other):
    assert list(found) == list(other)
    for one in found:
        np.testing.assert_array_equal(found[one].image, other[one].image)
        for name in ("steps", "score", "score_shown", "reached"):
            assert getattr(found[one], name) == getattr(other[one], name), (one, name)


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
    whole = run(list(GOALS), **more)
    passes = []

    def press(seen):
        passes.append(seen)
        if seen.number == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(list(GOALS), **more, keys=KEYS, resume=tmp_path, watch=press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert passes[-1].number == after  # nothing more was computed
    at_work = {one: steps + 1 for one, steps in passes[-1].steps.items()}
    again = []
    same(run(list(GOALS), **more, keys=KEYS, resume=tmp_path, watch=again.append), whole)
    for one, steps in again[0].steps.items():
        assert steps == at_work.get(one, 0), "goes on where it was"
    assert not list(tmp_path.glob("*.state.h5")), "finished images leave no state behind"


def test_a_second_ctrl_c_does_not_wait_and_threads_are_left_alone():
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as wish:
        os.kill(os.getpid(), signal.SIGINT)
        assert wish.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    found = []

    def in_thread():
        with deferred_interrupt():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_sigterm_saves_as_ctrl_c_does_and_ends_with_143(tmp_path):
    whole = run(list(GOALS), optimizer="adam", step_size=0.02, batch_size=4)
    code = textwrap.dedent(KILLED).format(
        here=str(Path(__file__).parent), after=9, folder=str(tmp_path), signal=15
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
    same(run(list(GOALS), **more, watch=seen.append), whole)
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
    assert heard == ["theirs"] and not wish.asked


def test_two_processes_do_not_make_the_same_images(tmp_path):
    with only_process(tmp_path / "lock", tmp_path):
        code = textwrap.dedent(KILLED).format(
            here=str(Path(__file__).parent), after=9, folder=str(tmp_path), signal=9
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
    whole = run(["near", "far"], **more)
    (path,) = tmp_path.glob("key-far.h5")
    contents = path.read_bytes()
    for place in range(0, len(contents), len(contents) // 12):
        path.write_bytes(contents[:place] + bytes([contents[place] ^ 32]) + contents[place + 1 :])
        same(run(["near", "far"], **more), whole)
    assert "key-far.h5 is damaged" in caplog.text
    path.unlink()
    write_hdf5(
        path,
        arrays={"image": np.full((3, 2, 2), 1.5, np.float32)},
        attributes=read_hdf5_attributes(tmp_path / "key-near.h5"),
    )
    same(run(["near", "far"], **more), whole)  # out of range, with a good checksum


KILLED = """
import sys, numpy as np
sys.path.insert(0, {here!r})
import stimuli_gen.synthesis.checkpoint as journal
from test_long_runs import GOALS, KEYS, run
journal.SAVE_EVERY_S = 0.0
import stimuli_gen.synthesis.loop as descent
plain = journal.Journal
descent.Journal = lambda folder, keys: plain(folder, keys, every_s=0.0)
def watch(seen):
    if seen.number == {after}:
        import os; os.kill(os.getpid(), {signal})
run(list(GOALS), optimizer="adam", step_size=0.02, keys=KEYS, resume={folder!r}, watch=watch, batch_size=4)
"""


def test_a_killed_process_loses_nothing_that_was_saved(tmp_path):
    whole = run(list(GOALS), optimizer="adam", step_size=0.02, batch_size=4)
    code = textwrap.dedent(KILLED).format(
        here=str(Path(__file__).parent), after=9, folder=str(tmp_path), signal=9
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
    same(run(list(GOALS), **more, watch=seen.append), whole)
    assert seen[0].steps["far"] == 8  # saved after the eighth pass; the ninth was killed


@pytest.mark.parametrize("harm", ["cut", "empty", "other settings"])
def test_a_state_that_cannot_be_used_is_not(tmp_path, harm):
    whole = run(["far"], optimizer="adam", step_size=0.02)
    with pytest.raises(KeyboardInterrupt):
        run(
            ["far"],
            optimizer="adam" if harm != "other settings" else "momentum",
            step_size=0.02,
            keys=KEYS,
            resume=tmp_path,
            watch=lambda seen: os.kill(os.getpid(), signal.SIGINT),
        )
    (state,) = tmp_path.glob("*.state.h5")
    if harm != "other settings":
        state.write_bytes(state.read_bytes()[:600] if harm == "cut" else b"")
    same(run(["far"], optimizer="adam", step_size=0.02, keys=KEYS, resume=tmp_path), whole)


def test_states_are_saved_at_most_so_often(tmp_path):
    often, never = Journal(tmp_path, {}, every_s=0.0), Journal(tmp_path, {}, every_s=3600.0)
    assert (
        often.due()
        and often.due()
        and not never.due()
        and not Journal(None, None, every_s=0.0).due()
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
    run(ids, counting(sizes), watch=seen.append, threshold=-0.01, batch_size=8)
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

    def prepare(one):
        random = generator(0, one)
        image = random.uniform(0, 1, (3, 224, 224)).astype(np.float32)
        return Start(image=image, context={"target": random.integers(1000), "anchor": image})

    def make(size):
        objective = _class_objective(lite0, "log_probability", 1e-3)
        return descend(
            objective,
            ids,
            prepare,
            threshold=2,
            step_size=1.0,
            max_steps=1,
            keep="last",
            batch_size=size,
        )

    same(make(batch_size), make(8))


def test_running_out_of_memory_halves_the_chunk_and_changes_nothing():
    sizes, seen = [], []
    found = run(list(GOALS), counting(sizes, limit=1), watch=seen.append)
    same(found, run(list(GOALS)))
    assert sizes[:3] == [4, 2, 1] and set(sizes[20:]) == {1}
    assert seen[-1].places == 1
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


def biased(asked, shift):
    """A draft whose minimum is elsewhere."""

    def draft(images, context):
        if images.requires_grad:
            asked.append("draft")
        return towards_goal(images, {"goal": context["goal"] + shift})

    return draft


def exact(asked):
    def objective(images, context):
        if images.requires_grad:
            asked.append("exact")
        return towards_goal(images, context)

    return objective


def test_a_draft_never_has_the_last_word():
    asked = []
    given = {"threshold": -0.01, "max_steps": 60, "finish": 0.2, "keep": "last"}
    found = run(["far"], exact(asked), draft=biased(asked, 0.05), **given)["far"]
    assert found.reached and abs(found.image - 0.9).max() <= 0.01 + 1e-6
    turn = asked.index("exact")
    assert turn > 0 and set(asked[:turn]) == {"draft"} and set(asked[turn:]) == {"exact"}
    assert (
        turn < 48
    )  # the draft was content before its share of the steps was used up, and handed over


def test_without_a_threshold_the_draft_has_its_share_of_the_steps():
    asked = []
    given = {"threshold": torch.inf, "max_steps": 20, "finish": 0.25, "keep": "last"}
    found = run(["far"], exact(asked), draft=biased(asked, 0.05), **given)["far"]
    assert asked[:20] == ["draft"] * 15 + ["exact"] * 5 and found.steps == 20
    value = 0.5
    for step in range(20):
        value += 0.2 * ((0.95 if step < 15 else 0.9) - value)
    np.testing.assert_allclose(found.image, value, rtol=1e-5)
    assert found.score == pytest.approx(value - 0.9, rel=1e-3) or found.score == pytest.approx(
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
    found = run(["near"], draft=flattering, **given)["near"]
    assert found.score == pytest.approx(-float(np.abs(found.image - 0.6).max()), abs=1e-6)


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

    found = run(["far", "near"], shifted, rescore=True, keep="last")
    same(found, run(["far", "near"], keep="last"))


# ----------------------------------------------------------------------------------- watch and film


def test_who_watches_hears_losses_and_who_films_sees_the_way():
    seen, frames = [], {}

    def film(one, step, image):
        frames.setdefault(one, {})[step] = image.copy()

    found = run(["far", "out"], watch=seen.append, film=film, max_steps=40)
    assert [one.number for one in seen] == list(range(1, 42))
    assert seen[0].losses["far"] == pytest.approx(12 * 0.4**2, rel=1e-5) and seen[0].total == 2
    assert seen[-1].done == 2 and set(seen[-1].steps) == {"out"} and seen[-1].steps["out"] == 40
    assert sorted(frames["out"])[:8] == [0, 1, 2, 3, 4, 5, 6, 7] and max(frames["out"]) == 40
    assert len(frames["out"]) < 25  # in geometric progression
    np.testing.assert_array_equal(frames["far"][0], 0.5)
    np.testing.assert_array_equal(frames["far"][found["far"].steps], found["far"].image)


def test_objectives_know_the_steps_of_each_image():
    heard = []

    def objective(images, context):
        if images.requires_grad:
            heard.append(context["step"].tolist())
        return towards_goal(images, context)

    run(["near", "far"], objective, max_steps=3, threshold=torch.inf, batch_size=2, keep="last")
    assert heard == [[0, 0], [1, 1], [2, 2], [3, 3]]
