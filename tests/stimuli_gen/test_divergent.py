"""Maximally different metamers: metamers of one network that are none of another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    confirm_divergent,
    divergent_metamers,
    null_distribution,
    packaged_photographs,
    stage_model,
    write_pictures,
)
from stimuli_gen.divergent import DECIBELS, likeness, what_to_try
from stimuli_gen.similarity import CRITERIA, METRICS

PLAIN = Preprocessing(
    size=(32, 32), resize=36, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)
)


def network(seed, name=""):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (
            nn.Conv2d(3, 8, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 5, stride=3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128, 4),
        )
        module = nn.Sequential(*layers)
    return stage_model(
        module,
        stages={"early": "1", "late": "3"},
        preprocessing=PLAIN,
        class_names=list("abcd"),
        name=name or f"net{seed}",
        weights="random",
        trained=False,
    )


@pytest.fixture(scope="module")
def pair():
    return [network(0), network(1)]


@pytest.fixture(scope="module")
def everyone():
    return packaged_photographs(PLAIN)


@pytest.fixture(scope="module")
def nulls(pair, everyone):
    return [null_distribution(model, everyone, ["late"]) for model in pair]


@pytest.fixture(scope="module")
def made(pair, everyone, nulls):
    photographs = everyone.select(ids=everyone.ids[:4])
    return divergent_metamers(pair, photographs, stage="late", nulls=nulls, steps=400)


def test_likeness_is_that_of_the_criteria(pair, everyone):
    images = torch.from_numpy(everyone.images[:6])
    responses = pair[0].activations(images, ["late"])["late"].flatten(1)  # with ties at zero
    ours = likeness(responses[:3], responses[3:]).detach().numpy()
    numbers = responses.detach().numpy()
    assert (numbers == 0).sum() > 50
    for column, metric in enumerate(CRITERIA):
        expected = METRICS[metric](numbers[3:], numbers[:3])
        unit = DECIBELS if metric == "snr_db_power" else 1
        np.testing.assert_allclose(ours[:, column] * unit, expected, atol=1e-4)  # float32


def test_files_match_in_one_network_and_not_in_the_other(pair, everyone, nulls, made, tmp_path):
    folder = write_pictures(made, tmp_path)
    table = confirm_divergent(pair, made, everyone, folder, nulls=nulls).table
    assert table["success"].all() and table["confirmed"].all()
    assert set(table["model"]) == {"net0"} and set(table["unlike_model"]) == {"net1"}
    assert set(table["kind"]) == {"metamer"} and table["same_class_1000"].all()
    pictures = []
    for name in made.ids:
        levels = np.asarray(Image.open(folder / "png" / f"{name}.png")).transpose(2, 0, 1)
        pictures.append((levels / 255).astype(np.float32))
    references = everyone.images[everyone.rows_of(table["reference_id"])]
    for model, null in zip(pair, nulls, strict=True):
        before, after = (
            model.activations(torch.from_numpy(images), ["late"])["late"].flatten(1).numpy()
            for images in (references, np.stack(pictures))
        )
        for metric in CRITERIA:
            values = METRICS[metric](before, after)
            pairs = null.read("late", metric)
            end = "" if model is pair[0] else "_net1"
            np.testing.assert_allclose(table[f"{metric}_png{end}"], values, rtol=1e-3, atol=1e-3)
            if model is pair[0]:
                assert values.min() > pairs.max()  # better than every pair
            else:
                assert values.max() <= np.median(pairs) + 1e-9
    assert table["unlike_net1"].all()


def test_an_image_does_not_depend_on_its_companions(pair, everyone, nulls, tmp_path):
    given = {"stage": "late", "nulls": nulls, "steps": 30}
    chosen = everyone.select(ids=everyone.ids[:3])
    together = divergent_metamers(pair, chosen, **given)
    alone = divergent_metamers(pair, chosen.select(ids=chosen.ids[1:2]), **given)
    np.testing.assert_array_equal(alone.images[0], together.images[1])

    def stop(step):
        if step.number == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run = RunOptions(resume=tmp_path, on_step=stop)
        divergent_metamers(pair, chosen, **given, run=run)
    resumed = divergent_metamers(pair, chosen, **given, run=RunOptions(resume=tmp_path))
    np.testing.assert_array_equal(resumed.images, together.images)


def test_twins_cannot_be_told_apart(pair, everyone, nulls):
    twin = network(0, name="twin")
    chosen = everyone.select(ids=everyone.ids[:2])
    with pytest.raises(InputError, match="net0 and twin are the same network"):
        divergent_metamers([pair[0], twin], chosen, stage="late", nulls=nulls)
    with torch.no_grad():
        twin.network[0].weight *= 1.0001
    twin = replace(twin)  # its digest is not that of before
    of_twin = null_distribution(twin, everyone, ["late"])
    made = divergent_metamers(
        [pair[0], twin], chosen, stage="late", nulls=[nulls[0], of_twin], steps=200
    )
    assert not made.table["success"].any()
    for text in made.table["why_not"]:
        assert "twin: above the median null pair in" in text or "net0 late: not above" in text
    for advice in made.table["what_to_try"]:
        assert "apart" in advice or "networks of other training" in advice


def test_what_may_help_depends_on_what_failed():
    assert what_to_try("A", "B", True, True, True) == ""
    assert "a larger apart" in what_to_try("A", "B", True, False, False)
    assert "a smaller apart" in what_to_try("A", "B", False, True, False)
    assert "A and B are much alike" in what_to_try("A", "B", False, False, False)
    assert "smaller steps" in what_to_try("A", "B", False, True, True)


def test_a_match_asked_for_by_its_error_is_judged_too(pair, everyone, nulls):
    chosen = everyone.select(ids=everyone.ids[:2])
    given = {"stage": "late", "nulls": nulls, "steps": 2, "max_error": 0.01}
    made = divergent_metamers(pair, chosen, **given)
    assert made.table["why_not"].str.contains("above 0.01").all()
    fast = divergent_metamers(
        pair, chosen, stage="late", nulls=nulls, steps=400, run=RunOptions(mode="fast")
    )
    assert set(fast.table["mode"]) == {"fast"} and fast.table["success"].all()


def test_what_does_not_fit_is_refused(pair, everyone, nulls, made, tmp_path):
    given = {"stage": "late", "nulls": nulls}
    other = null_distribution(pair[1], everyone, ["early"])
    cases = [
        ({"nulls": nulls[:1]}, "0 null distributions of net1 at late are given; make one"),
        ({"nulls": [nulls[0], other]}, "0 null distributions of net1 at late"),
        ({"nulls": [*nulls, other]}, "two null distributions are needed, not 3"),
        ({"nulls": [*nulls, nulls[0]]}, "2 null distributions of net0 at late"),
        ({"solver": "joint"}, "solver say how networks of a set take turns"),
        ({"apart": 0.0}, "apart must be above 0"),
        ({"stage": ["early", "late"]}, "one stage a network is compared"),
        ({"preset": "pixel"}, "unknown preset 'pixel'"),
        ({"null_quantile": 0.0}, "must be above 0 and at most 1"),
        ({"stp": 3}, "unknown setting of a metamer 'stp'"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            divergent_metamers(pair, everyone, **{**given, **options})
    folder = write_pictures(made, tmp_path)
    with pytest.raises(InputError, match=r"made for other networks \(net0, net1\)"):
        confirm_divergent(pair[::-1], made, everyone, folder, nulls=nulls)
    few = replace(nulls[1], pairs=nulls[1].pairs[:9], values=nulls[1].values[..., :9])
    with pytest.raises(InputError, match="other null distributions"):
        confirm_divergent(pair, made, everyone, folder, nulls=[nulls[0], few])
