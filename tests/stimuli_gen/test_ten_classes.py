"""A network has the class names that it has, or none: nothing but the 16 categories needs ImageNet."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from stimuli_gen import (
    Preprocessing,
    StimulusSet,
    adversarial_noise,
    check_model,
    choose_targets,
    judge,
    null_distribution,
    same_class,
    stage_model,
    write_pictures,
)
from stimuli_gen.fast import fast_model
from stimuli_gen.generators import GENERATORS

SIZE = 12
NAMES = ["cat", "dog", "bird", "boat", "car", "cup", "tree", "house", "shoe", "lamp"]
PLAIN = Preprocessing(
    size=(SIZE, SIZE), resize=SIZE, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
)
OPTIONS = {
    "noise": {"max_steps": 5},
    "interference": {"max_steps": 5},
    "greedy": {"max_tries": 5},
    "attack": {"steps": 3},
    "metamer": {"stage": "relu", "preset": "fast", "steps": 5},
    "controversial": {"max_steps": 5},
    "controversial-stage": {"stage": "relu", "max_steps": 5},
    "divergent": {"stage": "relu", "steps": 5},
    "eigendistortion": {"stage": "relu"},
}
WITH_PHOTOGRAPHS = ("metamer", "controversial-stage", "divergent", "eigendistortion")


def network(n_classes=10, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(8 * 25, n_classes))


@pytest.fixture(params=["ten names", "no names"])
def model(request):
    names = NAMES if request.param == "ten names" else None
    return stage_model(
        network(), stages={"relu": "1"}, preprocessing=PLAIN, name="ten", class_names=names
    )


@pytest.fixture
def photographs():
    levels = np.random.default_rng(0).integers(0, 256, (3, 3, SIZE, SIZE))
    table = pd.DataFrame({"id": list("abc"), "kind": "RE", "reference_id": list("abc")})
    return StimulusSet(images=(levels / 255).astype(np.float32), table=table)


def inputs(name, model, photographs):
    """What a generator of the table takes: a network or two, photographs, options."""
    options = dict(OPTIONS[name])
    if GENERATORS[name].n_networks == 1:
        return model, photographs, options
    other = stage_model(
        network(seed=1),
        stages={"relu": "1"},
        preprocessing=PLAIN,
        name="other",
        class_names=model.class_names,
    )
    random = np.random.default_rng(1)
    levels = random.integers(0, 256, (6, 3, SIZE, SIZE))
    table = pd.DataFrame({"id": list("uvwxyz"), "kind": "RE", "reference_id": list("uvwxyz")})
    bank = StimulusSet(images=(levels / 255).astype(np.float32), table=table)
    if name == "controversial-stage":
        options["bank"] = bank
    if name == "divergent":
        options["nulls"] = [null_distribution(one, bank, ["relu"]) for one in (model, other)]
    return [model, other], photographs, options


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_makes_and_confirms_images(name, model, photographs, tmp_path):
    entry = GENERATORS[name]
    given, photographs, options = inputs(name, model, photographs)
    made = entry.make(given, photographs, **options)
    n_each = 2 if name == "eigendistortion" else 1
    assert len(made) == 3 * n_each and made.table["success"].dtype == bool
    assert set(made.table["kind"]) == {entry.kind}
    folder = write_pictures(made, tmp_path)
    others = (photographs, folder) if name in WITH_PHOTOGRAPHS else (folder,)
    kept = {key: options[key] for key in ("bank", "nulls") if key in options}
    confirmed = entry.confirm(given, made, *others, **kept)
    assert confirmed.table["confirmed"].all()
    for column in ("target_name", "top1_name", "class_name"):
        if column in confirmed.table:
            assert set(confirmed.table[column]) <= set(model.class_names)


@pytest.mark.parametrize("name", GENERATORS)
def test_provenance_says_whether_the_network_is_trained(name, model, photographs):
    given, photographs, options = inputs(name, model, photographs)
    record = GENERATORS[name].make(given, photographs, **options).provenance
    networks = record.get("models", [record])
    for trained in [network["trained"] for network in networks]:
        assert trained is False


def test_targets_are_names_indices_and_rules(model, photographs):
    assert set(choose_targets(model.class_names[3], photographs, model).values()) == {3}
    assert set(choose_targets(4, photographs, model).values()) == {4}
    for rule in ("own", "random", "least_likely"):
        chosen = choose_targets(rule, photographs, model)
        assert all(0 <= index < 10 for index in chosen.values())
    given = {index: "odd" if index % 2 else "even" for index in range(10)}
    own = choose_targets("own", photographs, model)
    other = choose_targets("another_category", photographs, model, categories=given)
    assert all((own[name] - other[name]) % 2 for name in photographs.ids)
    with pytest.raises(InputError, match="has 10"):
        choose_targets("another_category", photographs, model)
    with pytest.raises(InputError, match="unknown target 'submarine'"):
        choose_targets("submarine", photographs, model)
    with pytest.raises(InputError, match="classes 0 to 9"):
        choose_targets(10, photographs, model)


def test_criteria_of_metamers_need_no_categories(model, photographs):
    null = null_distribution(model, photographs, stages=["relu"])
    made = GENERATORS["metamer"].make(
        model, photographs, **OPTIONS["metamer"], nulls=[null], null_quantile=0.5
    )
    judged = judge([(model, "relu")], photographs, made, nulls=[null])
    classes = same_class(model, photographs.images, made.images)
    assert len(judged) == 3 and "same_class_1000" in classes
    assert classes["same_class_16"].isna().all() and made.table["why_not"].ne("").any()
    check_model(model)
    assert fast_model(model, precision="float32").class_names == model.class_names


def test_a_network_of_one_class_has_no_wrong_one(photographs):
    alone = stage_model(
        network(1), stages={"relu": "1"}, preprocessing=PLAIN, name="one", class_names=["cat"]
    )
    with pytest.raises(InputError, match="one has 1 class"):
        choose_targets("random", photographs, alone)
    made = adversarial_noise(alone, photographs, target="own", max_steps=1)
    assert made.table["success"].all()
