"""By which class a metamer is judged: 16 categories, a network's own classes, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.commands import validity_table
from neurometamer.commands.metamers import of_worst_network, with_validity
from neurometamer.errors import InputError
from neurometamer.evaluation import metamer_set, recognition_table
from neurometamer.report.methods import class_asked
from stimuli_gen import (
    Preprocessing,
    StimulusSet,
    judge,
    null_distribution,
    predict,
    read_stimuli,
    same_class,
    stage_model,
    to_sixteen,
    write_stimuli,
)
from stimuli_gen.categories import CLASS_CRITERIA, class_criterion
from stimuli_gen.criteria import judge_metamers
from stimuli_gen.matching import match_stages
from stimuli_gen.metamers import confirm_metamers, model_metamers

SIZE = 12
CRITERIA_OF = {
    "imagenet": "16 categories",
    "ten": "own classes",
    "sixteen": "own classes",
    "embedding": "none",
}
N_OUTPUTS = {"imagenet": 1000, "ten": 10, "sixteen": 16, "embedding": 10}


def network(name, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten()
        module = nn.Sequential(*layers, nn.Linear(8 * 25, N_OUTPUTS[name]))
    return stage_model(
        module,
        stages={"relu": "1"},
        preprocessing=Preprocessing(
            size=(SIZE, SIZE),
            resize=SIZE,
            interpolation="bilinear",
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        ),
        name=name,
        class_names=[f"{name} {number}" for number in range(N_OUTPUTS[name])],
        has_classes=name != "embedding",
    )


def stimuli(levels, ids, kind, references):
    table = pd.DataFrame({"id": ids, "kind": kind, "reference_id": references})
    return StimulusSet(images=(levels / 255).astype(np.float32), table=table)


@pytest.fixture(scope="module")
def photographs():
    levels = np.random.default_rng(0).integers(0, 256, (12, 3, SIZE, SIZE))
    ids = [f"p{number:02d}" for number in range(len(levels))]
    return stimuli(levels, ids, "RE", ids)


@pytest.fixture(scope="module")
def shown(photographs):
    """Each photograph with a few levels of noise: alike to any network, though not in its class."""
    noise = np.random.default_rng(1).integers(-40, 41, photographs.images.shape)
    levels = np.clip(np.rint(255 * photographs.images) + noise, 0, 255)
    ids = [f"{name}_m" for name in photographs.ids]
    return stimuli(levels, ids, "metamer", list(photographs.ids))


def judged_by(model, photographs, shown):
    null = null_distribution(model, photographs, ["relu"])
    return judge([(model, "relu")], photographs, shown, nulls=[null])


@pytest.mark.parametrize("name", CRITERIA_OF)
def test_valid_is_the_class_of_the_criterion_and_a_match_above_the_null(name, photographs, shown):
    model = network(name)
    judged = judged_by(model, photographs, shown)
    criterion = CRITERIA_OF[name]
    assert class_criterion(model) == criterion and criterion in CLASS_CRITERIA
    assert (judged["class_criterion"] == criterion).all()
    above = judged[[f"png_{part}_above_null" for part in ("spearman", "pearson", "snr_db_power")]]
    assert above.all(axis=None)
    if criterion == "none":
        assert judged["png_same_class"].isna().all() and judged["valid"].isna().all()
        assert judged["why_not"].eq("embedding has no classes: its output is an embedding").all()
        return
    before, after = predict(model, photographs.images), predict(model, shown.images)
    said = np.array(model.class_names)[before.argmax(axis=1)]
    now = np.array(model.class_names)[after.argmax(axis=1)]
    if criterion == "16 categories":
        said, now = to_sixteen(before), to_sixteen(after)
    same = said == now
    assert 0 < same.sum() < len(same)  # else the test would tell nothing
    assert judged["png_same_class"].tolist() == judged["valid"].tolist() == same.tolist()
    for text, is_same, wanted, answer in zip(judged["why_not"], same, said, now, strict=True):
        assert text == ("" if is_same else f"{answer} to the network, not {wanted}")
    pairs = same_class(model, photographs.images, shown.images)
    assert pairs["same_class"].tolist() == same.tolist()


def test_a_match_below_the_null_is_told_whatever_the_class(photographs):
    swapped = photographs.images[::-1]
    ids = [f"{name}_m" for name in photographs.ids]
    other = stimuli(np.rint(255 * swapped), ids, "metamer", list(photographs.ids))
    judged = judged_by(network("ten"), photographs, other)
    assert not judged["valid"].any()
    assert judged["why_not"].str.startswith("not above the null in spearman").all()


def test_a_wrong_class_of_its_own_is_told_once(photographs, shown):
    model = network("ten")
    null = null_distribution(model, photographs, ["relu"])
    matches = match_stages([model], "relu")
    table = shown.table.assign(max_error=np.inf)
    given = replace(shown, table=table)
    judgment = judge_metamers([model], matches, given, photographs, nulls=[null])
    valid = judgment.columns["valid"]
    assert 0 < valid.sum() < len(valid)
    for reasons, is_valid in zip(judgment.reasons["png"], valid, strict=True):
        assert len(reasons) == (0 if is_valid else 1)
        assert is_valid or reasons[0].startswith("ten says ten ")
    assert judgment.columns["same_class_png"].tolist() == valid.tolist()


@pytest.mark.parametrize("name", ["ten", "sixteen"])
def test_metamers_of_own_classes_are_valid_in_the_generator_the_file_and_the_evaluation(
    name, photographs, tmp_path
):
    model = network(name)
    null = null_distribution(model, photographs, ["relu"])
    made = model_metamers(
        model, photographs, stage="relu", preset="pixels", steps=200, nulls=[null], seed=0
    )
    assert made.table["valid"].any()
    assert made.table["valid"].tolist() == made.table["success"].tolist()
    folder = write_stimuli(made, tmp_path / "made")
    again = confirm_metamers(model, read_stimuli(folder), photographs, folder, nulls=[null])
    columns = ["class_criterion", "same_class_png", "above_null_png", "valid", "success"]
    pd.testing.assert_frame_equal(again.table[columns], made.table[columns], check_dtype=False)
    joined = metamer_set(photographs, read_stimuli(folder), folder=folder)
    (row,) = validity_table([joined]).to_dict("records")
    assert row["class_criterion"] == "own classes" and row["n_not_judged"] == 0
    assert row["n_valid"] == made.table["valid"].sum() and row["pass_same_class"] > 0
    summed = [of_worst_network(line) for line in again.table.to_dict("records")]
    assert [line["valid"] for line in summed] == made.table["valid"].tolist()


def test_networks_of_a_set_are_each_asked_by_their_own_criterion(photographs, shown, tmp_path):
    networks = [network("imagenet"), network("ten", seed=1)]
    nulls = [null_distribution(model, photographs, ["relu"]) for model in networks]
    matches = match_stages(networks, "relu")
    folder = write_stimuli(shown, tmp_path / "shown")
    both = with_validity(shown, networks, matches, photographs, folder, nulls)
    assert (both.table["class_criterion_imagenet"] == "16 categories").all()
    assert (both.table["class_criterion_ten"] == "own classes").all()
    joined = metamer_set(photographs, both)
    alone = [judged_by(model, photographs, shown)["valid"] for model in networks]
    assert joined.table["valid"].tolist() == (alone[0] & alone[1]).tolist()
    assert joined.class_criterion == "16 categories+own classes"
    asked = class_asked(validity_table([joined]))
    assert "one of 16 classes" in asked and "not ImageNet's classes" in asked


def test_with_an_embedding_in_the_set_nothing_is_valid(photographs, shown, tmp_path):
    networks = [network("imagenet"), network("embedding")]
    nulls = [null_distribution(model, photographs, ["relu"]) for model in networks]
    matches = match_stages(networks, "relu")
    folder = write_stimuli(shown, tmp_path / "shown")
    both = with_validity(shown, networks, matches, photographs, folder, nulls)
    joined = metamer_set(photographs, both)
    assert set(joined.states) == {"failed", "not judged"}
    assert joined.class_criterion == "16 categories+none"
    assert "were not judged" in class_asked(validity_table([joined]))


def test_tables_of_when_the_16_categories_were_the_only_criterion_are_read(photographs, shown):
    model = network("imagenet")
    judged = judged_by(model, photographs, shown)
    newer = metamer_set(photographs, shown, members=["imagenet"], validity=judged)
    dropped = ["class_criterion", "png_same_class", "float_same_class"]
    older = metamer_set(
        photographs, shown, members=["imagenet"], validity=judged.drop(columns=dropped)
    )
    pd.testing.assert_frame_equal(older.table, newer.table)
    table = shown.table.assign(
        same_class_16_png=judged["png_same_class_16"].to_numpy(), valid=judged["valid"].to_numpy()
    )
    stored = metamer_set(photographs, replace(shown, table=table), members=["imagenet"])
    assert stored.table["same_class"].tolist() == newer.table["same_class"].tolist()
    assert stored.class_criterion == newer.class_criterion == "16 categories"


def test_networks_of_own_classes_recognize_among_these(photographs, shown):
    joined = metamer_set(photographs, shown, members=["ten"])
    evaluators = [replace(network("ten", seed=seed), name=f"ten {seed}") for seed in (1, 2)]
    with pytest.warns(UserWarning, match="classes of their own: 1000 ways are all of these"):
        table = recognition_table(evaluators, [joined], include_untrained=True)
    assert table["ways"].unique().tolist() == [1000]
    mixed = [evaluators[0], network("imagenet")]
    with pytest.raises(InputError, match=r"which .* lack\(s\); use other evaluators"):
        recognition_table(mixed, [joined], include_untrained=True)
