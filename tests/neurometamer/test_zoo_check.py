"""Checks of networks: a wrong preprocessing is caught by what a network says to a known picture."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from neurometamer.cli import main
from neurometamer.errors import InputError
from neurometamer.zoo import MODELS, check_network, fingerprint, load_model, record_fingerprint
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
