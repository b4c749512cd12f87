"""Test radii in the wrong unit, networks that cannot be used, and priors of images."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.study.settings import read_settings
from neurometamer.study.template import write_template
from stimuli_gen import (
    PRESETS,
    Limits,
    Penalty,
    Preprocessing,
    StimulusSet,
    adversarial_interference,
    attack_images,
    greedy_interference,
    model_metamers,
    stage_model,
)
from stimuli_gen.presets import image_prior, make_recipe

PLAIN = Preprocessing(
    size=(16, 16), resize=16, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)


def staged(network):
    return stage_model(
        network,
        stages={"relu": "1"},
        preprocessing=PLAIN,
        class_names=list("abcd"),
        name="small",
        weights="random",
        trained=False,
    )


def layers(channels=3):
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)]
    return nn.Sequential(nn.Conv2d(channels, 6, 3, 2), nn.ReLU(), *head)


@pytest.fixture(scope="module")
def model():
    return staged(layers())


@pytest.fixture(scope="module")
def photographs():
    images = np.random.default_rng(0).uniform(0.2, 0.8, (2, 3, 16, 16)).astype(np.float32)
    return StimulusSet(
        images=images,
        table=pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]}),
    )


# -------------------------------------------------------------------------------------------- radii


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda *given: attack_images(*given, "pgd_linf", radius=8, steps=1),
            r"L-infinity .*8/255 = 0\.03137",
        ),
        (
            lambda *given: attack_images(*given, "pgd_l2", radius=765, steps=1),
            r"L2 distance than 27\.7128.*765/255 = 3",
        ),
        (
            lambda *given: adversarial_interference(
                *given, limits=Limits(ball="linf", radius=4), max_steps=1
            ),
            r"4/255 = 0\.01569; for no limit at all",
        ),
        (
            lambda *given: model_metamers(
                *given, stage="relu", preset="pixels", steps=1, ball="linf", radius=8
            ),
            r"8/255 = 0\.03137",
        ),
    ],
)
def test_radii_in_levels_are_refused_with_the_conversion(make, message, model, photographs):
    with pytest.raises(InputError, match=message):
        make(model, photographs)


def test_the_largest_radii_that_mean_something_are_taken(model, photographs):
    assert len(attack_images(model, photographs, "pgd_linf", radius=0.9, steps=1)) == 2
    assert len(attack_images(model, photographs, "pgd_l2", radius=27, steps=1)) == 2
    papers = model_metamers(
        model, photographs, stage="relu", preset="feather2023", steps=1, file_rounds=0
    )
    assert len(papers) == 2  # whose radius of 100,000 is never reached


# ----------------------------------------------------------------------------------------- networks


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_networks_that_cannot_be_used_are_refused_with_the_way_out():
    with pytest.raises(
        InputError,
        match=r"first convolution sees 1 channel\(s\), images have 3: put a module before it",
    ):
        staged(layers(1))
    scripted = torch.jit.trace(layers(), torch.zeros(1, 3, 16, 16))
    with pytest.raises(
        InputError,
        match=r"TorchScript module, whose inside cannot be watched.*give the Python module",
    ):
        staged(scripted)
    with pytest.raises(
        InputError, match=r"cannot run on images of \(1, 3, 16, 16\): .*must take such images"
    ):
        staged(nn.Sequential(nn.Linear(5, 4), nn.ReLU()))


# ------------------------------------------------------------------------------------------- priors


def test_only_the_preset_fast_has_a_prior_and_studies_do_not_use_it(tmp_path):
    assert [name for name, recipe in PRESETS.items() if image_prior(recipe) != "none"] == ["fast"]
    write_template(tmp_path / "study.toml")
    assert image_prior(PRESETS[read_settings(tmp_path / "study.toml").metamers.preset]) == "none"
    smooth = Penalty(kind="total_variation", weight=1e-3, power=2)
    assert image_prior(make_recipe("pixels", {"penalties": [smooth]})) == "total variation"
    assert image_prior(make_recipe("fast", {"penalties": [smooth]})).startswith("Fourier")
    assert image_prior(make_recipe("fast", {"parametrization": "pixels"})) == "none"


@pytest.mark.parametrize(("preset", "prior"), [("pixels", "none"), ("fast", "Fourier steps")])
def test_tables_and_provenance_tell_the_prior(preset, prior, model, photographs):
    made = model_metamers(model, photographs, stage="relu", preset=preset, steps=2, file_rounds=0)
    assert made.table["image_prior"].str.startswith(prior).all()
    assert made.provenance["image_prior"].startswith(prior)


# ------------------------------------------------------------------------------- how work is run


def test_a_generator_runs_where_its_network_is(model, photographs):
    given = {"stage": "relu", "preset": "fast", "steps": 1}
    assert len(model_metamers(model, photographs, **given, run=RunOptions(device="cpu"))) == 2
    elsewhere = RunOptions(device="cuda")
    with pytest.raises(InputError, match=r"run\.device is 'cuda'|'cuda' is not available"):
        model_metamers(model, photographs, **given, run=elsewhere)
    with pytest.raises(InputError, match=r"run\.device is 'cuda'|'cuda' is not available"):
        adversarial_interference(model, photographs, run=elsewhere)
    with pytest.raises(InputError, match="greedy interference has no mode 'fast'"):
        greedy_interference(model, photographs, run=RunOptions(mode="fast"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mode": "quick"}, "unknown mode 'quick'"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number"),
        ({"batch_size": 2.5}, "batch_size is 2.5; give a whole number"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused(change, match):
    with pytest.raises(InputError, match=match):
        RunOptions(**change)
