"""What commands refuse before they load a network or read an image, and stages named by depth."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from neurometamer import commands
from neurometamer.errors import InputError
from neurometamer.rsa.compute import read_rdms

NETWORK = "squeezenet1_0"


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        levels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"p{number}.png")
    return folder


def _calls(out, **network):
    """Each command that loads a network and reads images, with these images and weights."""
    one = {**network, "images": network["images"][0]}
    both = {"weights": network["weights"], "images": network["images"]}
    evaluating = dict(both)
    return {
        "rdm": lambda: commands.rdm(out / "r.h5", model=NETWORK, **both),
        "encode": lambda: commands.encode(out / "e.csv", model=NETWORK, patterns=["p.h5"], **both),
        "cka": lambda: commands.cka(NETWORK, NETWORK, **both),
        "noise": lambda: commands.stimuli_noise(model=NETWORK, out=out / "n", **one),
        "interference": lambda: commands.stimuli_interference(model=NETWORK, out=out / "i", **one),
        "control": lambda: commands.stimuli_control("pgd_l2", model=NETWORK, out=out / "c", **one),
        "metamer": lambda: commands.stimuli_metamer(NETWORK, stage="late", out=out / "m", **one),
        "null": lambda: commands.stimuli_null(
            out / "null.h5", model=NETWORK, stages=["late"], **both
        ),
        "run-sets": lambda: commands.evaluate_run_sets(out / "jobs", **evaluating),
    }


@pytest.fixture
def bad_weights(tmp_path):
    """A file of weights that cannot be loaded, so that loading a network is an error."""
    file = tmp_path / "weights.pth"
    file.write_text("no weights")
    commands.evaluate_plan_sets(
        [NETWORK, "alexnet", "efficientnet_lite0"], tmp_path / "jobs", n_sets=1, sizes=(2, 2)
    )
    return file


NAMES = sorted(_calls(None, images=[None], weights=None))


@pytest.mark.parametrize("name", NAMES)
def test_images_that_are_not_there_are_told_before_a_network_is_loaded(name, tmp_path, bad_weights):
    weights = bad_weights if name != "run-sets" else f"{NETWORK}={bad_weights}"
    calls = _calls(tmp_path, images=[str(tmp_path / "nowhere")], weights=str(weights))
    with pytest.raises(InputError, match=r"nowhere does not exist; give a folder of images"):
        calls[name]()


@pytest.mark.parametrize("name", ["rdm", "metamer", "null"])
def test_photographs_that_a_table_names_are_looked_for_first(name, tmp_path, bad_weights):
    (tmp_path / "photographs.csv").write_text("file\nlost.png\n")
    images = [str(tmp_path / "photographs.csv")]
    calls = _calls(tmp_path, images=images, weights=str(bad_weights))
    with pytest.raises(InputError, match=r"image\(s\) lost.png; .*lost.png does not exist"):
        calls[name]()


def test_networks_are_refused_before_images(tmp_path):
    with pytest.raises(InputError, match="unknown model 'alexnett'; did you mean 'alexnet'"):
        commands.rdm(tmp_path / "r.h5", model="alexnett", images=["nowhere"])


def test_rdms_of_stages_named_by_depth(tmp_path, photographs):
    network = {"model": NETWORK, "weights": "random", "images": [photographs]}
    by_depth = commands.rdm(tmp_path / "a.h5", stages=["late", "early"], **network)
    rdms = read_rdms(by_depth)
    # fire modules are its 8 units of depth: the second and the sixth
    assert list(rdms.rdm_descriptors["stage"]) == ["features.4", "features.9"]
    by_name = commands.rdm(tmp_path / "b.h5", stages=["features.4", "features.9"], **network)
    np.testing.assert_array_equal(rdms.dissimilarities, read_rdms(by_name).dissimilarities)


def test_cka_of_stages_named_by_depth(photographs):
    seen = {"weights": "random", "images": [photographs]}
    by_depth = commands.cka(NETWORK, NETWORK, stages=["early", "1.0"], **seen)
    assert by_depth[["a", "b"]].drop_duplicates().shape[0] == 4
    diagonal = by_depth[by_depth["a"] == by_depth["b"]]
    assert diagonal["a"].tolist()[0] == "features.4"
    np.testing.assert_allclose(diagonal["value"], 1, atol=1e-6)  # a stage with itself, float32


@pytest.mark.parametrize("command", ["rdm", "cka"])
def test_unknown_stages_are_refused_before_images_are_read(command, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    asked = {"weights": "random", "images": [tmp_path], "stages": ["midle"]}
    with pytest.raises(InputError, match="'midle'; did you mean 'middle'"):
        if command == "rdm":
            commands.rdm(tmp_path / "r.h5", model=NETWORK, **asked)
        else:
            commands.cka(NETWORK, NETWORK, **asked)
