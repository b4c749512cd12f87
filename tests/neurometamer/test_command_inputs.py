"""What commands refuse before they load a network or read an image, and stages named by depth."""

from __future__ import annotations

import os
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmri.patterns import Patterns, write_patterns
from neurometamer import cli, commands
from neurometamer.activations import compute_activations
from neurometamer.errors import InputError
from neurometamer.rsa.compute import label_rdms, read_rdms, write_rdms
from neurometamer.store import read_table, write_hdf5
from neurometamer.zoo import load_model
from stimuli_gen.photographs import load_photographs
from stimuli_gen.stimuli import write_stimuli

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
        "run-sets": lambda: commands.evaluate_run_sets(out / "jobs", **both),
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


def _rdms_of(kinds, path):
    ids = [f"{kind}{number}" for kind in kinds for number in range(6)]
    names = {
        "kind": [name[:2] for name in ids],
        "reference_id": [f"RE{name[2:]}" for name in ids],
    }
    n_pairs = len(ids) * (len(ids) - 1) // 2
    rdms = label_rdms(
        np.random.default_rng(0).random((1, n_pairs)),
        conditions=ids,
        rdm_descriptors={"system": ["network"], "stage": ["late"]},
        pattern_descriptors=names,
        measure="euclidean",
    )
    return write_rdms(rdms, path)


@pytest.mark.parametrize(
    ("kinds", "lacking", "option", "left"),
    [(("RE", "AI"), "AN", "decision", "RE-AI"), (("RE", "AN"), "AI", "perception", "RE-AN")],
)
def test_image_types_without_one_type_names_the_cure(
    kinds, lacking, option, left, tmp_path, monkeypatch, capsys
):
    file = _rdms_of(kinds, tmp_path / "rdms.h5")
    words = ["image-types", "--rdms", str(file), "--out", str(tmp_path / "tests.csv")]
    words += ["--n-resamples", "20", "--n-permutations", "20"]
    monkeypatch.setattr(sys, "argv", ["neurometamer", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    said = capsys.readouterr().err
    assert done.value.code == 2
    assert f"no stimulus is of the image type {lacking}, which RE-{lacking} compares" in said
    assert f"leave that pair out with --{option} none" in said
    monkeypatch.setattr(sys, "argv", ["neurometamer", *words, f"--{option}", "none"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0, capsys.readouterr().err
    assert read_table(tmp_path / "tests.csv")["pair"].tolist() == [left]


def test_two_pairs_that_lack_types_are_an_unknown_name(tmp_path):
    file = _rdms_of(("RE", "MM"), tmp_path / "rdms.h5")
    with pytest.raises(InputError, match=r"unknown .*'AN'"):
        commands.image_types(tmp_path / "t.csv", rdms=[file])


@pytest.mark.skipif(os.name != "posix", reason="symbolic links are POSIX ones")
def test_an_output_that_is_a_broken_link_is_refused_before_work(tmp_path, monkeypatch, capsys):
    link = tmp_path / "table.csv"
    link.symlink_to(tmp_path / "elsewhere.csv")
    words = ["compare", "nowhere.h5", "nowhere.h5", "--out", str(link)]
    monkeypatch.setattr(sys, "argv", ["neurometamer", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    assert "table.csv is a broken symbolic link (to " in capsys.readouterr().err
    file = _rdms_of(("RE", "AN"), tmp_path / "rdms.h5")
    with pytest.raises(InputError, match="broken symbolic link"):
        commands.compare(file, file, link, image_type="RE", n_resamples=0)
    assert not (tmp_path / "elsewhere.csv").exists()


def test_a_null_that_is_another_file_is_named_by_what_it_holds(tmp_path, photographs):
    random = np.random.default_rng(0)
    rdms = _rdms_of(("RE", "AN"), tmp_path / "rdms.h5")
    network = load_model(NETWORK, weights="random")
    stimuli = load_photographs(photographs, network.preprocessing)
    responses = tmp_path / "responses.h5"
    compute_activations(network, stimuli, stages=["early"], path=responses)
    patterns = Patterns(
        values=random.random((4, 3)),
        observations=pd.DataFrame(
            {"condition": list("abcd"), "presentation": 1, "run": "1", "session": ""}
        ),
        voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(3), "j": 0, "k": 0}),
    )
    brain = write_patterns(patterns, tmp_path / "S1.h5")
    made = write_stimuli(stimuli, tmp_path / "stimuli") / "stimuli.h5"
    other = write_hdf5(tmp_path / "other.h5", arrays={"x": np.zeros(2)})
    for file, held in (
        (rdms, "RDMs"),
        (responses, "activations"),
        (brain, "patterns"),
        (made, "stimuli"),
        (other, "x"),
    ):
        expected = f"is no file of 'neurometamer stimuli null': it holds {held}; give another"
        with pytest.raises(InputError, match=expected):
            commands.stimuli_metamer(
                NETWORK,
                stage="late",
                images=photographs,
                out=tmp_path / "m",
                weights="random",
                nulls=[file],
            )


def test_a_folder_of_images_is_not_written_into(photographs):
    before = sorted(photographs.iterdir())
    calls = {
        "interference": commands.stimuli_interference,
        "control": lambda **given: commands.stimuli_control("pgd_l2", **given),
        "eigendistortion": lambda **given: commands.stimuli_eigendistortion(stage="late", **given),
    }
    for make in calls.values():
        with pytest.raises(InputError, match=r"holds the images that are read .* choose another"):
            make(model=NETWORK, images=photographs, out=photographs / ".." / "photographs")
    with pytest.raises(InputError, match="holds the images that are read"):
        commands.stimuli_metamer(NETWORK, stage="late", images=photographs, out=photographs)
    assert sorted(photographs.iterdir()) == before
