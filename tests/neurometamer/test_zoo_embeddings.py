"""Networks whose output is an embedding: metamers and activations work, classes are refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer import commands
from neurometamer.errors import InputError
from neurometamer.evaluation.recognizability import recognition_table
from neurometamer.evaluation.sets import metamer_set
from neurometamer.store import read_table
from neurometamer.zoo import MODELS, check_network, load_model
from stimuli_gen import (
    controversial_images,
    judge,
    model_metamers,
    null_distribution,
    predict,
    stage_model,
)
from stimuli_gen.stimuli import StimulusSet

MESSAGE = "has no classes: the output is an embedding or a map; give a network with classes"


def _network(seed, has_classes=False):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 6)
    return stage_model(nn.Sequential(*layers), name=f"net{seed}", has_classes=has_classes)


@pytest.fixture(scope="module")
def photographs():
    images = np.random.default_rng(0).random((4, 3, 32, 32), dtype="float32")
    table = pd.DataFrame({"id": list("abcd"), "kind": "RE", "reference_id": list("abcd")})
    return StimulusSet(images=images, table=table)


def test_what_needs_classes_refuses_an_embedding(photographs):
    embedding = _network(0)
    table = photographs.table.assign(kind="metamer", id=list("efgh"))
    metamers = StimulusSet(images=1 - np.asarray(photographs.images), table=table)
    with pytest.raises(InputError, match=rf"net0 {MESSAGE}"):
        predict(embedding, photographs.images)
    with pytest.raises(InputError, match=MESSAGE):
        embedding.probabilities(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match=rf"net1 {MESSAGE}"):
        controversial_images([_network(0, True), _network(1)], photographs, steps=1)
    with pytest.raises(InputError, match=MESSAGE):
        recognition_table(
            [_network(2, True), embedding],
            [metamer_set(photographs, metamers, members=["other"], stage="1")],
            ways=[1000],
            include_untrained=True,
        )
    with pytest.raises(InputError, match=MESSAGE):
        check_network("clip_resnet50", weights="random", images="nowhere")


def test_metamers_of_an_embedding_are_judged_by_their_match_alone(photographs):
    embedding = _network(0)
    made = model_metamers([embedding], photographs, stage="1", steps=300, seed=0)
    table = made.table
    assert table["same_class_1000"].isna().all()
    assert not table["why_not"].str.contains("says").any()
    assert table["success"].tolist() == (table["loss_png"] <= table["max_error"]).tolist() or (
        table["success"].all()
    )
    null = null_distribution(embedding, photographs, ["1"])
    judged = judge([(embedding, "1")], photographs, made, nulls=[null])
    assert judged["png_spearman_above_null"].notna().all()
    assert judged["png_same_class"].isna().all() and judged["valid"].isna().all()
    assert (judged["class_criterion"] == "none").all()
    assert judged["why_not"].str.contains("has no classes: its output is an embedding").all()
    # the same weights, called classes, have the same match
    twin = model_metamers([_network(0, True)], photographs, stage="1", steps=300, seed=0)
    assert np.array_equal(twin.images, made.images)
    assert twin.table["same_class_1000"].notna().all()


def test_files_of_an_embedding_are_mended_by_their_match_alone(photographs):
    exact = model_metamers([_network(0)], photographs, stage="1", steps=400, seed=0)
    limit = float(exact.table[["loss_float", "loss_png"]].mean(axis=1).median())
    made = model_metamers([_network(0)], photographs, stage="1", steps=400, seed=0, max_error=limit)
    assert made.table["file_steps"].gt(0).any()  # good in float, not once rounded
    assert made.table["loss_png"].lt(exact.table["loss_png"]).any()
    assert made.table["same_class_1000"].isna().all()


def test_the_entries_without_classes_are_embeddings():
    without = [name for name, entry in MODELS.items() if not entry.has_classes]
    assert without == ["alexnet_gn_ipcl", "clip_resnet50", "clip_vit_base"]
    model = load_model("clip_resnet50", weights="random", device="cpu")
    assert not model.has_classes
    final = model.activations(torch.rand(1, 3, 224, 224), ["layer4", "final"])
    assert final["layer4"].shape == (1, 2048, 7, 7) and final["final"].shape == (1, 1024)
    assert "output: an embedding: it has no classes" in commands.models_show("clip_vit_base")


def test_rdms_of_an_embedding_and_an_embedding_in_a_toml_file(tmp_path):
    (tmp_path / "network.py").write_text(
        "from torch import nn\n\n"
        "def encoder():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), "
        "nn.Linear(2116, 6))\n"
    )
    own = tmp_path / "own.toml"
    own.write_text('import = "network.py:encoder"\nsize = 48\noutput = "embedding"\n')
    assert not load_model(str(own), weights="random", device="cpu").has_classes
    own.write_text('import = "network.py:encoder"\nsize = 48\noutput = "numbers"\n')
    with pytest.raises(InputError, match="unknown output 'numbers'"):
        load_model(str(own), weights="random", device="cpu")
    own.write_text('import = "network.py:encoder"\nsize = 48\noutput = "embedding"\n')
    (tmp_path / "photographs").mkdir()
    random = np.random.default_rng(0)
    for name in ("cat", "cup", "dog", "hat"):
        levels = random.integers(0, 256, (60, 60, 3), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / "photographs" / f"{name}.png")
    photographs = tmp_path / "photographs"
    out = tmp_path / "rdms.h5"
    assert commands.rdm(out, model=str(own), images=[photographs], weights="random").is_file()
    commands.stimuli_metamer(
        str(own),
        images=photographs,
        out=tmp_path / "made",
        stage="1",
        steps=2,
        weights="random",
    )
    table = read_table(tmp_path / "made" / "stimuli.csv")
    assert table["same_class_1000"].isna().all() and len(table) == 4
    with pytest.raises(InputError, match=MESSAGE):
        commands.stimuli_noise(
            model=str(own), images=photographs, out=tmp_path / "noise", weights="random"
        )
