"""One entry of `zoo.MODELS` is a network everywhere: in Python, commands, help and evaluation."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from neurometamer import commands
from neurometamer.activations import compute_activations
from neurometamer.cli import main
from neurometamer.commands.evaluation import evaluate_metamers
from neurometamer.commands.metamers import stimuli_metamer
from neurometamer.commands.set_evaluation import EvaluationSettings
from neurometamer.commands.stimuli import make_stimuli
from neurometamer.errors import InputError
from neurometamer.evaluation.image_metrics import METRICS, ImageMetric
from neurometamer.evaluation.image_quality import image_quality, measure_images
from neurometamer.evaluation.sets import metamer_set
from neurometamer.rsa.compute import read_rdms
from neurometamer.zoo import LIBRARIES, MODELS, ModelEntry, list_models, load_model
from stimuli_gen import StimulusSet
from stimuli_gen.photographs import Preprocessing

SIDE = 48
RANDOM = {"weights": "random"}


def _small(_: str) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


@pytest.fixture
def dummy(monkeypatch):
    """Two networks of ten classes without names, of a library of their own."""
    entry = ModelEntry(
        library="dummies",
        architecture="small",
        stages={"conv": "0", "relu": "1", "out": "4"},
        preprocessing=Preprocessing(
            size=(SIDE, SIDE),
            resize=SIDE,
            interpolation="bilinear",
            mean=(0.5,) * 3,
            std=(1.0,) * 3,
        ),
        license="none",
        reference="none",
        classes=tuple,
    )
    monkeypatch.setitem(LIBRARIES, "dummies", _small)
    monkeypatch.setitem(MODELS, "dummy", entry)
    monkeypatch.setitem(MODELS, "other_dummy", entry)
    return "dummy"


@pytest.fixture
def photographs(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for name in ("cat", "cup", "dog", "hat"):
        blocks = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8))).save(folder / f"{name}.png")
    return folder


def test_a_network_is_listed_loaded_and_read(dummy, monkeypatch, capsys):
    table = list_models().set_index("name")
    assert table.loc[dummy, ["library", "input_size"]].tolist() == ["dummies", SIDE]
    assert not table.loc[dummy, "available"]
    monkeypatch.setattr("sys.argv", ["neurometamer", "models", "list"])
    with contextlib.suppress(SystemExit):
        main()
    assert dummy in capsys.readouterr().out
    model = load_model(dummy, weights="random")
    assert model.n_classes == 10 and model.trained is False
    images = np.zeros((2, 3, SIDE, SIDE), dtype=np.float32)
    stimuli = StimulusSet(
        images=images,
        table=pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]}),
    )
    activations = compute_activations(model, stimuli)
    assert list(activations.stages) == ["conv", "relu", "out"]
    with pytest.raises(InputError, match="dummy has no default weights; give a file"):
        load_model(dummy)
    with pytest.raises(InputError, match="unknown model 'dumy'; did you mean 'dummy'"):
        load_model("dumy", weights="random")


def test_commands_take_the_network(dummy, photographs, tmp_path):
    table = make_stimuli(
        "noise",
        model=dummy,
        images=photographs,
        out=tmp_path / "noise",
        confidence=0.11,
        max_steps=2,
        **RANDOM,
    )
    assert len(table) == 4
    file = commands.rdm(tmp_path / "rdms.h5", model=dummy, images=[photographs], **RANDOM)
    assert read_rdms(file).n_rdm == 3
    for depth in ("middle", "late"):
        stimuli_metamer(
            dummy,
            stage=depth,
            images=photographs,
            out=tmp_path / depth,
            preset="fast",
            steps=2,
            **RANDOM,
        )
    page = evaluate_metamers(
        [tmp_path / "middle", tmp_path / "late"],
        [dummy, "other_dummy"],
        tmp_path / "evaluation",
        images=[photographs],
        settings=EvaluationSettings(
            parts=("recognizability", "divergence"),
            ways=(1000,),
            include_untrained=True,
            n_resamples=20,
            n_permutations=19,
        ),
        **RANDOM,
    )
    hits = pd.read_csv(page.parent / "recognition.csv")
    assert set(hits["evaluator"]) == {dummy, "other_dummy"} and hits["trained"].dtype == bool
    assert not hits["trained"].any()


def test_a_metric_of_image_quality_is_one_entry(monkeypatch):
    entry = ImageMetric(
        name="Mean",
        better="lower",
        scale="0 to 1",
        needs="image",
        measure=lambda images, _: images.flatten(1).mean(dim=1),
    )
    monkeypatch.setitem(METRICS, "mean", entry)
    images = np.full((2, 3, 48, 48), 0.25, dtype=np.float32)
    assert measure_images(images, images, ["mean"])["mean"].tolist() == [0.25, 0.25]
    table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    made = table.assign(id=["a_m", "b_m"], kind="metamer")
    joined = metamer_set(
        StimulusSet(images=images, table=table),
        StimulusSet(images=images, table=made),
        members=["alexnet"],
    )
    quality = image_quality([joined], metrics=["mean", "lpips"], n_resamples=10)
    quality = quality.set_index("metric")
    assert quality.loc["mean", ["name", "arrow"]].tolist() == ["Mean", "↓"]
    assert np.isclose(quality.loc["mean", "photograph_value"], 64 / 255)
    assert quality["skipped"].tolist() == [False, True]
    assert quality.loc["lpips", "note"].startswith("skipped: weights missing")
    assert EvaluationSettings(metrics=("mean",)).metrics == ("mean",)
    with pytest.raises(InputError, match="unknown image metric 'meen'; did you mean 'mean'"):
        image_quality([joined], metrics=["meen"])
