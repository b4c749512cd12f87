"""Checks of networks: a wrong preprocessing is caught by what a network says to a known picture."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from neurometamer.cli import main
from neurometamer.errors import InputError
from neurometamer.zoo import (
    MODEL_SETS,
    MODELS,
    check_network,
    fingerprint,
    load_model,
    record_fingerprint,
)
from neurometamer.zoo.checking import class_numbers
from neurometamer.zoo.fingerprints import differs, probe_picture, recorded_fingerprint
from stimuli_gen import stage_model


@pytest.fixture(autouse=True)
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROMETAMER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fingerprints.json"


@pytest.fixture(scope="module")
def lite():
    return load_model("efficientnet_lite0", device="cpu")


def test_the_networks_whose_weights_are_at_hand_are_verified(lite):
    assert not differs(fingerprint(lite), recorded_fingerprint(lite))
    for number in (1, 2):
        check = check_network(f"efficientnet_lite{number}", device="cpu")
        assert (check.preprocessing, check.problems) == ("verified", ())


@pytest.mark.parametrize(
    "changed",
    [
        {"mean": (0.485, 0.456, 0.406)},
        {"mean": (0.51, 0.51, 0.51)},
        {"std": (0.229, 0.224, 0.225)},
        {"std": (0.51, 0.51, 0.51)},
        {"resize": 254},
        {"resize": 224},
        {"interpolation": "bilinear"},
    ],
)
def test_every_change_of_preprocessing_changes_the_fingerprint(lite, changed):
    wrong = replace(lite, preprocessing=replace(lite.preprocessing, **changed))
    assert differs(fingerprint(wrong), recorded_fingerprint(wrong))


def test_another_order_of_channels_changes_the_fingerprint(lite):
    swapped = torch.nn.Sequential(_Swapped(), lite.network)
    wrong = stage_model(
        swapped,
        stages={"out": "1.classifier"},
        preprocessing=lite.preprocessing,
        class_names=lite.class_names,
        name="swapped",
        weights="x",
        trained=True,
    )
    assert differs(fingerprint(wrong), recorded_fingerprint(lite))


class _Swapped(torch.nn.Module):
    def forward(self, images):
        return images.flip(1)


def test_the_known_picture_goes_the_way_of_a_photograph(lite):
    pixels = np.asarray(probe_picture())
    assert pixels.shape == (340, 420, 3)
    # every channel says something that the others do not
    assert np.abs(np.corrcoef(pixels.reshape(-1, 3).T)[np.triu_indices(3, 1)]).max() < 0.5
    images = torch.from_numpy(lite.preprocessing.cut(probe_picture()))[None]
    logits = lite.logits(images)[0].detach().numpy()
    places = np.linspace(0, 999, 16).round().astype(int)
    # rounded to 5 digits
    assert np.allclose(fingerprint(lite), logits[places], atol=1e-5)


def test_weights_are_unverified_until_somebody_recorded_them(records, tmp_path):
    state = load_model("squeezenet1_0", weights="random", seed=2, device="cpu").network.state_dict()
    file = tmp_path / "mine.pth"
    torch.save(state, file)
    assert check_network("squeezenet1_0", weights=file).preprocessing == "unverified"
    assert not records.exists()
    assert check_network("squeezenet1_0", weights=file, record=True).preprocessing == "verified"
    assert check_network("squeezenet1_0", weights=file).preprocessing == "verified"
    (record,) = json.loads(records.read_text()).values()
    assert record["name"] == "squeezenet1_0" and len(record["logits"]) == 16
    right = load_model("squeezenet1_0", weights=file, device="cpu")
    wrong = replace(right, preprocessing=replace(right.preprocessing, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(InputError, match="says something else to the known picture"):
        record_fingerprint(wrong)
    with pytest.raises(InputError, match="has random weights; give trained ones to record"):
        check_network("squeezenet1_0", weights="random", record=True)
    records.write_text("[1]")
    with pytest.raises(InputError, match=r"fingerprints\.json holds no fingerprints; remove it"):
        check_network("squeezenet1_0", weights=file)


def _command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["neurometamer", "models", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_a_wrong_mean_is_told_on_the_command_line(tmp_path, monkeypatch, capsys):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('like = "efficientnet_lite0"\npixels = "imagenet"\n')
    assert _command(monkeypatch, "check", wrong) == 1
    shown = capsys.readouterr()
    assert "preprocessing: wrong" in shown.out
    assert "correct mean, std, resizing" in shown.err
    assert check_network("efficientnet_lite0_grey").preprocessing == "verified"
    assert _command(monkeypatch, "check", "efficientnet_lite0") == 0
    shown = capsys.readouterr().out
    assert "parameters: 4,652,008" in shown
    assert "stage blocks.3: 80 x 14 x 14" in shown
    assert "middle: blocks.3.2" in shown
    wrong.write_text('like = "efficientnet_lite0"\nparameters = 7\ndepths = ["a", "b", "c"]\n')
    assert _command(monkeypatch, "check", wrong) == 1
    shown = capsys.readouterr().err
    assert "4,652,008 parameters, not 7" in shown
    assert "are blocks.1.1, blocks.3.2, blocks.5.1, not a, b, c" in shown


def test_what_is_known_and_what_is_not_is_shown(monkeypatch, capsys):
    assert _command(monkeypatch, "show", "resnet18_robust") == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["architecture"] == "torchvision resnet18"
    assert lines["training"] == "adversarial (trained on adversarial images), Linf, epsilon 4/255"
    assert lines["early, middle, late"] == "layer1.1, layer2.1, layer3.1"
    assert (lines["SHA-256"], lines["license"]) == ("not known", "MIT (RobustBench)")
    _command(monkeypatch, "list")
    shown = capsys.readouterr().out
    assert max(map(len, shown.partition("set:")[0].splitlines())) <= 100
    for name in MODELS:
        assert f"{name} " in shown
    assert "set:transformers: deit_small, vit_base, swin_base, xcit_small" in shown
    _command(monkeypatch, "list", "--csv")
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table.set_index("name").loc["cornet_s", "parameters"] == 53416616
    _command(monkeypatch, "fetch", "alexnet_random", "efficientnet_lite2")
    assert capsys.readouterr().out.strip().endswith(MODELS["efficientnet_lite2"].weights_file)
    assert _command(monkeypatch, "fetch", "set:vit", "--offline") == 2
    assert "the weights of vit_base are not on this machine, and downloads are off" in (
        capsys.readouterr().err
    )


@pytest.mark.data
def test_top_1_of_labeled_images(lite, shared_data, tmp_path):
    listing = tmp_path / "labels.csv"
    lines = (shared_data / "photos_ccby" / "labels.csv").read_text().splitlines()
    first = [line.replace("photo_", f"{shared_data}/photos_ccby/photo_", 1) for line in lines[1:41]]
    listing.write_text("\n".join([lines[0], *first]))
    check = check_network("efficientnet_lite0", images=listing, device="cpu")
    # .89 to .90 on samples of 250 photographs
    assert check.n_labeled == 40 and check.top1 > 0.75
    assert f"top-1: {check.top1:.3f} of 40 images" in check.describe()
    folders = tmp_path / "folders"
    for line in lines[1:7]:
        file, _, _, name, *_ = line.split(",")
        folder = folders / name.replace("_", " ")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).symlink_to(shared_data / "photos_ccby" / file)
    named = check_network("efficientnet_lite0", images=folders, device="cpu")
    assert named.n_labeled == 6
    (folders / "no such thing").mkdir()
    (folders / "no such thing" / file).symlink_to(shared_data / "photos_ccby" / file)
    with pytest.raises(
        InputError, match=r"category no such thing .* is no class of efficientnet_lite0, or"
    ):
        check_network("efficientnet_lite0", images=folders, device="cpu")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / file).symlink_to(shared_data / "photos_ccby" / file)
    with pytest.raises(InputError, match="has no labels; give one of the columns imagenet_index"):
        check_network("efficientnet_lite0", images=flat, device="cpu")


def _own(folder, name, layers, settings=""):
    (folder / "own.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(" + layers + ")\n"
    )
    file = folder / f"{name}.toml"
    pixels = 'pixels = "half"\nsize = 16\nresize = 16\n'
    file.write_text(f'import = "own.py:build"\n{pixels}{settings}')
    return file


def test_the_stages_of_a_network_with_few_units_of_depth_are_listed(tmp_path):
    file = _own(tmp_path, "small", "nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(392, 3)")
    check = check_network(str(file), weights="random")
    assert check.stages["stage"].tolist() == ["1", "3"] and not check.problems
    assert check.depths == {"middle": "1", "late": "3"}
    assert check.notes == (
        "early: small has 2 units of depth, so 0.2 is before the first; name one (1, 3).",
    )
    assert check.describe()[5] == "output: 3 classes"


@pytest.mark.parametrize("settings", ["", "class_names = []\n", 'output = "embedding"\n'])
def test_a_network_without_classes_is_checked(tmp_path, settings):
    file = _own(tmp_path, "maps", "nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3)", settings)
    check = check_network(str(file), weights="random")
    assert check.output == "no classes" and check.stages["shape"].iloc[-1] == "4 x 12 x 12"
    (tmp_path / "images" / "a").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "images" / "a" / "x.png")
    with pytest.raises(InputError, match="maps has no classes"):
        check_network(str(file), weights="random", images=tmp_path / "images")


def test_classes_are_called_by_their_names_also_where_these_are_numbers(tmp_path):
    names = ["0", "1", "10", "2", "c_4"]
    file = _own(tmp_path, "digits", "nn.Flatten(), nn.Linear(768, 5)", f"class_names = {names}\n")
    model = load_model(str(file), weights="random", device="cpu")
    table = pd.DataFrame({"id": ["a", "b", "c"], "category": ["10", "2", "c_4"]})
    photographs = SimpleNamespace(table=table)
    assert class_numbers(model, photographs, "x") == [2, 3, 4]
    table["imagenet_index"] = ["2", "3", "4"]
    assert class_numbers(model, photographs, "x") == [2, 3, 4]


def test_a_set_is_shown_and_not_checked_as_one(monkeypatch, capsys):
    assert _command(monkeypatch, "show", "set:cnn") == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.startswith("name: ")] == [
        f"name: {name}" for name in MODEL_SETS["set:cnn"]
    ]
    assert _command(monkeypatch, "check", "set:cnn") == 2
    assert "set:cnn is a set of networks, and one is asked for; name one of them: convnext" in (
        capsys.readouterr().err
    )
