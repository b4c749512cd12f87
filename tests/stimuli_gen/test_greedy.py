import os
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    confirm_saved,
    greedy,
    greedy_interference,
    predict,
    read_stimuli,
    stage_model,
    write_stimuli,
)
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.synthesis.checkpoint import Checkpoint

IDS = ["camera", "motorcycle", "moon"]


class Small(torch.nn.Module):
    """A smooth classifier of 4 classes that a search can fool within some hundred tries."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3 * 6 * 6, 4)
        with torch.no_grad():
            random = np.random.default_rng(0)
            self.layer.weight.copy_(torch.from_numpy(2 * random.standard_normal((4, 108))))

    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.fixture(scope="module")
def small():
    wanted = Preprocessing(
        size=(6, 6), resize=6, interpolation="bilinear", mean=(0.5,) * 3, std=(1.0,) * 3
    )
    return stage_model(
        Small(),
        stages={"layer": "layer"},
        preprocessing=wanted,
        class_names=["a", "b", "c", "d"],
        name="small",
        weights="",
        trained=True,
    )


@pytest.fixture(scope="module")
def references(photographs):
    levels = np.random.default_rng(3).integers(60, 200, (3, 3, 6, 6))
    return replace(photographs.select(ids=IDS), images=(levels / 255).astype(np.float32))


def by_hand(model, image, target, stimulus_id, *, confidence, seed, shared=False):
    """The procedure as the paper tells it, one image, one candidate at a time."""
    random = generator(seed, "greedy", f"{stimulus_id}_AI")

    def probability(picture):
        return torch.log_softmax(
            model.logits(torch.from_numpy(picture)[None].repeat(4, 1, 1, 1)), 1
        )[0, target].item()

    tries = accepted = 0
    best = probability(image)
    while (
        np.exp(best) <= confidence
        or np.exp(probability(np.rint(image * 255) / np.float32(255))) <= confidence
    ):
        drawn = random.random((1 if shared else 3, 6, 6), dtype=np.float32)
        candidate = np.clip(image + (2 * drawn - 1) * np.float32(5 / 255), 0, 1)
        tries += 1
        if (results := probability(candidate)) > best:
            image, best, accepted = candidate, results, accepted + 1
    return image, tries, accepted


@pytest.mark.parametrize("shared", [False, True])
def test_the_search_is_that_of_the_paper_whatever_the_company(small, references, shared, tmp_path):
    options = {
        "seed": 2,
        "run": RunOptions(batch_size=4),
        "target": "least_likely",
        "shared_channels": shared,
    }
    made = greedy_interference(small, references, **options)
    table = made.table
    assert made.ids == tuple(f"{stimulus_id}_AI" for stimulus_id in IDS)
    for row, stimulus_id in enumerate(IDS):
        index = table["target_index"][row]
        image, tries, accepted = by_hand(
            small,
            references.images[row],
            index,
            stimulus_id,
            confidence=0.5 + 0.5e-4,
            seed=2,
            shared=shared,
        )
        assert (table["tries"][row], table["accepted"][row]) == (tries, accepted)
        np.testing.assert_allclose(made.images[row], image, atol=1e-6)
        change = made.images[row] - references.images[row]
        assert np.allclose(change, change[:1], atol=1e-6) == shared
    assert table["success"].all() and (table["confidence_png"] > 0.5).all()
    assert (table["top1_index"] == table["target_index"]).all() and (
        table["accepted"] < table["tries"]
    ).all()
    backwards = greedy_interference(
        small, references.select(ids=IDS[::-1]), **(options | {"run": RunOptions(batch_size=4)})
    )
    np.testing.assert_array_equal(backwards.images[::-1], made.images)

    write_stimuli(made, tmp_path)
    confirmed = confirm_saved(small, read_stimuli(tmp_path), tmp_path).table
    assert confirmed["success"].all() and confirmed["confirmed"].all()


def test_finished_images_are_kept_and_given_up_ones_explained(small, references, tmp_path):
    options = {"seed": 5, "run": RunOptions(batch_size=2), "target": "least_likely"}
    uninterrupted = greedy_interference(small, references, **options)

    class Killed(Exception):
        pass

    def kill(done, total):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        greedy_interference(
            small,
            references,
            **(options | {"run": replace(options["run"], resume=tmp_path, progress=kill)}),
        )
    assert len(list(tmp_path.iterdir())) == 2
    heard = []
    resumed = greedy_interference(
        small,
        references,
        **(
            options
            | {
                "run": RunOptions(
                    batch_size=2, resume=tmp_path, progress=lambda *counts: heard.append(counts)
                )
            }
        ),
    )
    assert heard == [(2, 3), (3, 3)]
    assert resumed.digest == uninterrupted.digest

    short = greedy_interference(small, references, **(options | {"max_tries": 3})).table
    assert (short["tries"] == 3).all() and not short["success"].any()
    assert short["why_not"].str.contains("after 3 steps, below 0.5").all()


# -------------------------------------------------------------------------- stopped within an image


@pytest.mark.parametrize("after", [1, 2, 30])
def test_ctrl_c_keeps_unfinished_images_and_they_end_the_same(small, references, after, tmp_path):
    options = {"seed": 5, "run": RunOptions(batch_size=2), "target": "least_likely"}
    uninterrupted = greedy_interference(small, references, **options)
    assert uninterrupted.table["tries"].max() > 30
    heard = []

    def press(seen):
        heard.append(seen)
        if seen.number == after:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        greedy_interference(
            small,
            references,
            **(options | {"run": replace(options["run"], resume=tmp_path, on_step=press)}),
        )
    assert heard[-1].number == after and list(tmp_path.glob("*.state.h5"))
    again = []
    resumed = greedy_interference(
        small,
        references,
        **(options | {"run": replace(options["run"], resume=tmp_path, on_step=again.append)}),
    )
    assert resumed.digest == uninterrupted.digest
    for stimulus_id, tries in heard[-1].steps.items():
        assert again[0].steps.get(stimulus_id, tries + 1) == tries + 1  # goes on where it was
    assert len(again) < uninterrupted.table["tries"].sum() and not list(tmp_path.glob("*.state.h5"))


@pytest.mark.parametrize("harm", ["none", "cut"])
def test_a_killed_search_goes_on_from_what_was_saved(
    small, references, harm, monkeypatch, tmp_path
):
    """Saved after every try here; a state that cannot be read is not used."""
    options = {"seed": 5, "run": RunOptions(batch_size=4), "target": "least_likely"}
    uninterrupted = greedy_interference(small, references, **options)

    class Killed(Exception):
        pass

    def kill(seen):
        if seen.number == 12:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(greedy, "Checkpoint", partial(Checkpoint, every_s=0.0))
        greedy_interference(
            small,
            references,
            **(options | {"run": replace(options["run"], resume=tmp_path, on_step=kill)}),
        )
    states = list(tmp_path.glob("*.state.h5"))
    assert states
    if harm == "cut":
        for state in states:
            state.write_bytes(state.read_bytes()[:500])
    again = []
    assert (
        greedy_interference(
            small,
            references,
            **(options | {"run": replace(options["run"], resume=tmp_path, on_step=again.append)}),
        ).digest
        == uninterrupted.digest
    )
    assert set(again[0].steps.values()) == (
        {11} if harm == "none" else {0}
    )  # eleven passes were saved


def test_who_watches_sees_the_probability_rise_and_who_films_the_images(
    small, references, tmp_path
):
    passes, frames = [], []
    options = {"seed": 5, "run": RunOptions(batch_size=2), "target": "least_likely"}
    made = greedy_interference(
        small,
        references,
        **(
            options
            | {
                "run": RunOptions(
                    batch_size=2,
                    on_step=passes.append,
                    on_frame=lambda *frame: frames.append(frame),
                )
            }
        ),
    )
    assert made.digest == greedy_interference(small, references, **options).digest
    assert (passes[-1].done, passes[-1].total, passes[-1].number) == (3, 3, len(passes))
    for row, stimulus_id in enumerate(IDS):
        tries = [seen.steps[stimulus_id] for seen in passes if stimulus_id in seen.steps]
        losses = [seen.losses[stimulus_id] for seen in passes if stimulus_id in seen.losses]
        assert tries == list(range(made.table["tries"][row] + 1))
        assert (np.diff(losses) <= 0).all() and np.exp(-losses[-1]) == pytest.approx(
            made.table["confidence_float"][row]
        )
        shown = {step: image for name, step, image in frames if name == stimulus_id}
        last = made.table["tries"][row]
        assert set(shown) == {
            step for step in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if step < last
        } | {last}
        np.testing.assert_array_equal(shown[0], references.images[row])
        np.testing.assert_array_equal(shown[last], made.images[row])


def test_probability_of_a_trained_network_only_rises(lite0, photographs):
    references = photographs.select(ids=IDS[:2])
    made = [
        greedy_interference(
            lite0, references, max_tries=tries, run=RunOptions(batch_size=2), target="random"
        )
        for tries in (1, 6)
    ]
    assert (made[1].table["confidence_float"] >= made[0].table["confidence_float"]).all()
    assert (made[1].table["accepted"] >= 1).all()
    start = predict(lite0, references.images)[[0, 1], made[1].table["target_index"].to_numpy(int)]
    assert (made[1].table["confidence_float"] > start).all()
    change = np.abs(made[1].images - references.images).max(axis=(1, 2, 3))
    assert (change <= made[1].table["accepted"] * 5 / 255 + 1e-6).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"confidence": 1.0}, "confidence .* between 0 and 1"),
        ({"amplitude": 0}, "amplitude .* between 0 and 255"),
        ({"max_tries": 0}, "at least 1"),
        ({"target": "own"}, "network's own class"),
    ],
)
def test_bad_settings_are_refused(small, references, options, match):
    with pytest.raises(InputError, match=match):
        greedy_interference(small, references, **options)
