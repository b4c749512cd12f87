"""Each kind of entry is added to one table, and the public generators then take it by its name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import (
    Limits,
    Penalty,
    Preprocessing,
    StimulusSet,
    adversarial_interference,
    adversarial_noise,
    attack_images,
    model_metamers,
    stage_model,
)
from stimuli_gen.adversarial import OBJECTIVES
from stimuli_gen.generators import GENERATORS
from stimuli_gen.pgd import ATTACKS, Attack
from stimuli_gen.presets import PENALTIES, PRESETS, PenaltyKind, image_prior, read_penalty
from stimuli_gen.synthesis.constraints import BALLS, Ball
from stimuli_gen.synthesis.optimizers import OPTIMIZERS, STEP_RULES

SIZE = 12
PLAIN = Preprocessing(
    size=(SIZE, SIZE), resize=SIZE, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
)
SHORT = {"stage": "relu", "preset": "pixels", "steps": 3, "file_rounds": 0}


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6 * 25, 4),
        )
    return stage_model(network, stages={"relu": "1"}, preprocessing=PLAIN, name="small")


@pytest.fixture
def photographs():
    levels = np.random.default_rng(0).integers(0, 256, (2, 3, SIZE, SIZE))
    table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    return StimulusSet(images=(levels / 255).astype(np.float32), table=table)


def test_a_new_penalty_is_taken_everywhere(model, photographs, monkeypatch):
    def brightness(images, penalty):
        return (penalty.pixel_scale * images).pow(penalty.power).flatten(1).sum(dim=1)

    entry = PenaltyKind(compute=brightness, power=1.0, prior="darkness", help="sum of the pixels")
    monkeypatch.setitem(PENALTIES, "brightness", entry)
    penalty = read_penalty("brightness:10")
    assert penalty == Penalty(kind="brightness", weight=10.0) and penalty.power == 1.0
    assert image_prior(replace(PRESETS["pixels"], penalties=[penalty])) == "darkness"
    plain = model_metamers(model, photographs, **SHORT)
    dark = model_metamers(model, photographs, **SHORT, penalties=[penalty])
    assert dark.images.mean() < plain.images.mean()
    assert set(dark.table["image_prior"]) == {"darkness"}
    with pytest.raises(InputError, match="unknown penalty 'brightnes'; did you mean 'brightness'"):
        read_penalty("brightnes:1")
    with pytest.raises(InputError, match="did you mean 'total_variation'"):
        Penalty(kind="total_variatoin", weight=1.0)


def test_a_new_objective_is_taken_by_both_generators(model, photographs, monkeypatch):
    heard = []

    def twice_the_logit(logits, target):
        heard.append(len(logits))
        return 2 * OBJECTIVES["logit"](logits, target)

    monkeypatch.setitem(OBJECTIVES, "twice the logit", twice_the_logit)
    for make in (adversarial_noise, adversarial_interference):
        made = make(model, photographs, objective="twice the logit", max_steps=2)
        assert made.provenance["settings"]["objective"] == "twice the logit" and heard
        heard.clear()
        with pytest.raises(InputError, match="unknown objective 'logits'; did you mean 'logit'"):
            make(model, photographs, objective="logits")


def test_a_new_step_rule_is_taken(model, photographs, monkeypatch):
    monkeypatch.setitem(STEP_RULES, "nowhere", torch.zeros_like)
    still = {"step_rule": "nowhere", "max_steps": 3, "confidence": 0.999}
    made = adversarial_interference(model, photographs, **still)
    np.testing.assert_array_equal(made.images, photographs.images)
    kept = model_metamers(model, photographs, **SHORT, step_rule="nowhere", start="reference")
    np.testing.assert_array_equal(kept.images, photographs.images)
    for make in (adversarial_noise, adversarial_interference):
        with pytest.raises(InputError, match="unknown step rule 'nowher'; did you mean 'nowhere'"):
            make(model, photographs, step_rule="nowher")


def test_a_new_optimizer_is_taken(model, photographs, monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "lazy", lambda here, state: torch.zeros_like(here.direction))
    given = {**SHORT, "start": "reference"}
    made = model_metamers(model, photographs, **given, optimizer="lazy")
    np.testing.assert_array_equal(made.images, photographs.images)
    with pytest.raises(InputError, match="unknown optimizer 'lazi'; did you mean 'lazy'"):
        model_metamers(model, photographs, **given, optimizer="lazi")


def test_a_new_constraint_is_taken_by_all_that_limit_images(model, photographs, monkeypatch):
    def brighter(images, anchors, radius):
        return torch.minimum(torch.maximum(images, anchors), anchors + radius)

    ball = Ball(
        project=brighter,
        sample=lambda random, shape, radius: random.uniform(0, radius, shape).astype(np.float32),
        largest=lambda n_values: 1.0,
        name="brightness",
    )
    monkeypatch.setitem(BALLS, "brighter", ball)
    attack = Attack(ball="brighter", radius=0.1, step_rule="sign", help="only brighter")
    monkeypatch.setitem(ATTACKS, "lamp", attack)
    limits = Limits(ball="brighter", radius=0.1)
    sets = [
        adversarial_interference(model, photographs, limits=limits, max_steps=5),
        attack_images(model, photographs, "lamp", steps=5),
        model_metamers(
            model, photographs, **SHORT, ball="brighter", radius=0.1, center="reference"
        ),
    ]
    for made in sets:
        change = made.images - photographs.images
        assert change.min() >= -1e-6 and change.max() <= 0.1 + 1e-6
    with pytest.raises(InputError, match="unknown ball 'brihter'; did you mean 'brighter'"):
        Limits(ball="brihter", radius=0.1)
    with pytest.raises(InputError, match="unknown attack 'lam'; did you mean 'lamp'"):
        attack_images(model, photographs, "lam")
    with pytest.raises(InputError, match="a radius of 2 holds every image"):
        attack_images(model, photographs, "lamp", radius=2.0)


def test_generators_have_one_entry_each(model, photographs):
    options = {
        "noise": {"max_steps": 1},
        "interference": {"max_steps": 1},
        "greedy": {"max_tries": 1},
        "attack": {"steps": 1},
        "metamer": SHORT,
        "eigendistortion": {"stage": "relu"},
    }
    of_two = {name for name, entry in GENERATORS.items() if entry.n_networks == 2}
    assert of_two == {"controversial", "controversial-stage", "divergent"}
    assert set(GENERATORS) == set(options) | of_two
    for name, entry in GENERATORS.items():
        assert entry.defaults["run"] is None and entry.defaults["seed"] == 0 and entry.help
        if name not in of_two:
            made = entry.make(model, photographs, **options[name])
            assert set(made.table["kind"]) == {entry.kind}
