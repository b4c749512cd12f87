"""CKA and control RDMs as commands: against the functions they call, end to end with ``compare``,
and bad input.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmri.patterns import Patterns, read_patterns, write_patterns
from neurometamer import commands
from neurometamer.activations import Activations, _new_file, compute_activations, read_activations
from neurometamer.commands.options import ReadingOptions
from neurometamer.commands.rdms import read_blocks
from neurometamer.errors import InputError
from neurometamer.rsa.cka import linear_cka
from neurometamer.rsa.compare import compare_rdms, partial_spearman
from neurometamer.rsa.compute import read_rdms, select_image_type, take_conditions
from neurometamer.rsa.controls import control_rdms
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table
from neurometamer.zoo import load_model
from stimuli_gen.stimuli import read_stimuli

IDS = [f"im{i}" for i in range(9)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurometamer.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write_responses(
    path: Path, ids: list[str], seed: int, stages: tuple[str, ...] = ("conv", "fc")
) -> Activations:
    random = np.random.default_rng(seed)
    arrays = {
        stage: random.normal(size=(len(ids), 6 + 4 * k)).astype("f4")
        for k, stage in enumerate(stages)
    }
    with _new_file(
        path, ids, stages, {"identity": str(seed), "weights": f"random (untrained, seed {seed})"}
    ) as create:
        for stage in stages:
            create(stage, arrays[stage].shape)[...] = arrays[stage]
    return read_activations(path)


def write_brain(path: Path, ids: list[str]) -> Patterns:
    """Two presentations of each image in an order of their own, two regions."""
    values = np.random.default_rng(3).normal(size=(2 * len(ids), 12))
    rows = {
        "condition": ids[::-1] * 2,
        "presentation": np.repeat([1, 2], len(ids)),
        "run": "1",
        "session": "",
    }
    places = pd.DataFrame(
        {"subject": "S1", "roi": ["V1"] * 5 + ["LO"] * 7, "i": range(12), "j": 0, "k": 0}
    )
    write_patterns(Patterns(values=values, observations=pd.DataFrame(rows), voxels=places), path)
    return read_patterns(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_responses(tmp_path / "a.h5", IDS, 0)
    write_responses(tmp_path / "b.h5", IDS[::-1], 1)
    write_brain(tmp_path / "p.h5", IDS)
    table = pd.DataFrame({"id": IDS, "kind": ["RE"] * 5 + ["AN"] * 4, "reference_id": IDS})
    table.to_csv(tmp_path / "stimuli.csv", index=False)
    return {name: tmp_path / name for name in ("a.h5", "b.h5", "p.h5", "stimuli.csv")}


# ---------------------------------------------------------------------------------------------- CKA


@pytest.mark.parametrize("debiased", [False, True])
def test_each_row_is_linear_cka_of_responses_joined_by_id(files, debiased):
    table = commands.cka(files["a.h5"], files["b.h5"], debiased=debiased)
    a, b = read_activations(files["a.h5"]), read_activations(files["b.h5"])
    assert table[["a", "b"]].values.tolist() == [
        [x, y] for x in ("conv", "fc") for y in ("conv", "fc")
    ]
    for row in table.itertuples():
        expected = linear_cka(
            a.read(row.a), b.read(row.b), debiased=debiased, x_ids=a.ids, y_ids=b.ids
        )
        assert row.value == pytest.approx(expected, rel=1e-9)
    assert table["n"].eq(9).all()
    assert table[["n_units_a", "n_units_b"]].values.tolist() == [[6, 6], [6, 10], [10, 6], [10, 10]]
    assert (
        table["method"]
        .str.startswith(f"linear CKA, {'debiased' if debiased else 'biased'} (")
        .all()
    )
    assert table["weights_b"].eq("random (untrained, seed 1)").all()


def test_stages_and_regions_from_the_command_line(files, tmp_path):
    out = tmp_path / "cka.csv"
    done = run("cka", files["a.h5"], files["p.h5"], "--out", out, "--stages", "fc", "V1")
    assert done.returncode == 0, done.stderr
    table = read_table(out, required=["source_a", "a", "source_b", "b", "value", "n", "method"])
    assert table[["source_a", "a", "source_b", "b"]].values.tolist() == [
        ["a.h5", "fc", "p.h5", "S1 V1"]
    ]
    a = read_activations(files["a.h5"])
    conditions, means = read_patterns(files["p.h5"]).select(roi="V1").means()
    assert table["value"][0] == pytest.approx(
        linear_cka(a.read("fc"), means, x_ids=a.ids, y_ids=conditions), rel=1e-9
    )


def test_a_file_with_itself_is_a_symmetric_matrix(files):
    table = commands.cka(files["a.h5"], files["a.h5"])
    matrix = table.pivot(index="a", columns="b", values="value").to_numpy()
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1)


def test_some_images_only(files, tmp_path):
    a, b = read_activations(files["a.h5"]), read_activations(files["b.h5"])
    regular = commands.cka(
        files["a.h5"], files["b.h5"], images=[files["stimuli.csv"]], image_type="RE"
    )
    expected = linear_cka(a.read("conv")[:5], b.read("conv")[::-1][:5])
    assert regular["value"][0] == pytest.approx(expected, rel=1e-9)
    assert regular["n"].eq(5).all()
    write_responses(tmp_path / "few.h5", [*IDS[2:8], "other"], 2)
    with pytest.raises(
        InputError, match=r"missing from few\.h5: im0, im1, im8; missing from a\.h5: other"
    ):
        commands.cka(files["a.h5"], tmp_path / "few.h5")
    assert commands.cka(files["a.h5"], tmp_path / "few.h5", join="inner")["n"].eq(6).all()


def test_networks_by_name_see_the_images(small_study, tmp_path):
    images = small_study / "stimuli"
    given = {
        "images": [images],
        "stages": ["relu5", "V1", "LO"],
        "run": RunOptions(device="cpu"),
        "seed": 3,
        "weights": "random",
    }
    table = commands.cka(
        "alexnet", small_study / "patterns" / "sub-01.h5", tmp_path / "cka.csv", **given
    )
    assert set(table["a"]) == {"relu5"}
    assert set(table["b"]) == {"sub-01 V1", "sub-01 LO"}
    assert table["weights_a"].str.startswith("random (untrained").all()
    network = load_model("alexnet", weights="random", seed=3, device="cpu")
    found = compute_activations(network, read_stimuli(images).as_shown(), stages=["relu5"])
    conditions, means = (
        read_patterns(small_study / "patterns" / "sub-01.h5").select(roi="V1").means()
    )
    expected = linear_cka(found.read("relu5"), means, x_ids=found.ids, y_ids=conditions)
    assert table.set_index("b")["value"]["sub-01 V1"] == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_compared_is_named(files, tmp_path):
    a = files["a.h5"]
    with pytest.raises(
        InputError, match=r"nowhere\.h5 does not exist; give a file of activations or patterns"
    ):
        commands.cka(a, tmp_path / "nowhere.h5")
    with pytest.raises(InputError, match=r"unknown model 'alexnt'; did you mean 'alexnet"):
        commands.cka(a, "alexnt")
    with pytest.raises(InputError, match="alexnet is a network: say what it sees with --images"):
        commands.cka(a, "alexnet", weights="random")
    with pytest.raises(InputError, match="unknown stage or ROI 'fcc'; did you mean 'fc'"):
        commands.cka(a, files["b.h5"], stages=["fcc"])
    with pytest.raises(InputError, match="image_type='RE' needs --images"):
        commands.cka(a, files["b.h5"], image_type="RE")
    with pytest.raises(InputError, match="unknown image type 'AI'"):
        commands.cka(a, files["b.h5"], image_type="AI", images=[files["stimuli.csv"]])
    with pytest.raises(InputError, match="unknown join 'outer'"):
        commands.cka(a, files["b.h5"], join="outer")
    write_responses(tmp_path / "others.h5", [f"x{i}" for i in range(5)], 4)
    with pytest.raises(InputError, match=r"share no image; both need the same ids"):
        commands.cka(a, tmp_path / "others.h5", join="inner")
    write_responses(tmp_path / "three.h5", IDS[:3], 4)
    with pytest.raises(InputError, match="CKA needs at least 4 images; there are 3"):
        commands.cka(tmp_path / "three.h5", tmp_path / "three.h5")
    with pytest.raises(InputError, match="not an HDF5 file"):
        commands.cka(a, files["stimuli.csv"])


# ----------------------------------------------------------------------------------------- controls


def test_controls_go_from_images_into_a_partial_comparison(small_study, tmp_path):
    """The whole way by commands; the numbers are those of the functions."""
    images, rdms = small_study / "stimuli", small_study / "rdms"
    which = ("pixels", "luminance", "gabor")
    done = run("controls", "--images", images, "--which", *which, "--out", tmp_path / "controls.h5")
    assert done.returncode == 0, done.stderr
    found = read_rdms(tmp_path / "controls.h5")
    expected = control_rdms(read_stimuli(images).as_shown(), which)
    assert found.rdm_descriptors["control"] == list(which)
    np.testing.assert_allclose(found.dissimilarities, expected.dissimilarities, atol=1e-12)
    both = (rdms / "network.h5", rdms / "brain.h5")
    done = run(
        "compare",
        *both,
        "--controls",
        tmp_path / "controls.h5",
        "--image-type",
        "RE",
        "--n-resamples",
        0,
        "--out",
        tmp_path / "partial.csv",
    )
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "partial.csv")
    assert table["method"].str.startswith("partial spearman given pixels, luminance, gabor").all()
    regular = [
        select_image_type(one, "RE") for one in (read_rdms(both[0]), read_rdms(both[1]), found)
    ]
    ids = [list(one.pattern_descriptors["condition"]) for one in regular]
    a, b, given = (
        take_conditions(one, [own.index(name) for name in ids[0]]).dissimilarities
        for one, own in zip(regular, ids)
    )
    values = partial_spearman(a, b, controls=given)
    np.testing.assert_allclose(table["similarity"], values.ravel(), atol=1e-10)
    plain = commands.compare(*both, image_type="RE", n_resamples=0)
    assert not np.allclose(plain["similarity"], table["similarity"], atol=1e-3)
    again = compare_rdms(
        read_rdms(both[0]), read_rdms(both[1]), image_type="RE", n_resamples=0, controls=found
    )
    np.testing.assert_allclose(again["similarity"], table["similarity"], atol=1e-12)


@pytest.mark.data
def test_photographs_are_cut_as_the_network_sees_them_and_have_categories(shared_data, tmp_path):
    labels = shared_data / "images92" / "labels.csv"
    path = commands.controls([labels], tmp_path / "c.h5", which=["category", "luminance"])
    found = read_rdms(path)
    assert found.rdm_descriptors["control"] == ["category", "luminance"]
    category = read_table(labels)["category"].tolist()
    assert found.pattern_descriptors["condition"] == [f"img_{i:03d}" for i in range(1, 93)]
    different = np.array([[x != y for y in category] for x in category])
    np.testing.assert_array_equal(found.get_matrices()[0], different)


def test_controls_that_cannot_be_made_are_named(small_study, tmp_path):
    images = [small_study / "stimuli"]
    with pytest.raises(InputError, match="unknown control 'pixel'; did you mean 'pixels'"):
        commands.controls(images, tmp_path / "c.h5", which=["pixel"])
    with pytest.raises(InputError, match="no control asked for; give some of pixels"):
        commands.controls(images, tmp_path / "c.h5", which=[])
    with pytest.raises(InputError, match="has no column 'animal'"):
        commands.controls(images, tmp_path / "c.h5", which=["category"], category="animal")
    with pytest.raises(InputError, match="no images given"):
        commands.controls([], tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()


# ---------------------------------------------------------------------------------- permuted labels


@pytest.fixture
def two_rdms(tmp_path: Path) -> tuple[Path, Path]:
    from neurometamer.rsa.compute import label_rdms, write_rdms

    random = np.random.default_rng(8)
    own, shared = random.normal(size=(2, 9, 6))
    paths = []
    for name, values in (("one", own + shared), ("two", random.normal(size=(9, 6)) + shared)):
        vector = 1 - np.corrcoef(values)[np.triu_indices(9, 1)]
        rdms = label_rdms(
            vector[np.newaxis],
            conditions=IDS,
            rdm_descriptors={"stage": [name]},
            measure="1 - Pearson",
        )
        paths.append(write_rdms(rdms, tmp_path / f"{name}.h5"))
    return paths[0], paths[1]


def test_compare_permutes_labels_freely_or_within_blocks_of_a_table(two_rdms, tmp_path):
    first, second = two_rdms
    pd.DataFrame({"id": IDS, "block": ["a"] * 5 + ["b"] * 4}).to_csv(
        tmp_path / "blocks.csv", index=False
    )
    done = run(
        "compare",
        first,
        second,
        "--out",
        tmp_path / "c.csv",
        "--n-permutations",
        200,
        "--n-resamples",
        0,
        "--blocks",
        tmp_path / "blocks.csv",
        "--seed",
        3,
    )
    assert done.returncode == 0, done.stderr
    row = read_table(tmp_path / "c.csv").iloc[0]
    blocks = dict(zip(IDS, "aaaaabbbb"))
    options = {"n_resamples": 0, "n_permutations": 200, "seed": 3}
    direct = compare_rdms(read_rdms(first), read_rdms(second), blocks=blocks, **options).iloc[0]
    assert row["p"] == direct["p"] and "within 2 blocks" in row["p_method"]
    free = commands.compare(first, second, n_permutations=200, n_resamples=0, seed=3).iloc[0]
    assert free["p"] == compare_rdms(read_rdms(first), read_rdms(second), **options)["p"].iloc[0]
    assert "permuted freely" in free["p_method"]


def test_blocks_that_say_too_little_or_too_much_are_refused(two_rdms, tmp_path):
    file = tmp_path / "blocks.csv"
    pd.DataFrame({"id": ["a", "b"], "block": ["1", None]}).to_csv(file, index=False)
    with pytest.raises(InputError, match=r"blocks\.csv: no block for b"):
        read_blocks(file)
    pd.DataFrame({"id": ["a", "a"], "block": ["1", "2"]}).to_csv(file, index=False)
    with pytest.raises(InputError, match="more than one block for a"):
        read_blocks(file)
    pd.DataFrame({"id": ["a", "a"], "block": [1, 2], "subject": ["S1", "S2"]}).to_csv(
        file, index=False
    )
    assert read_blocks(file) == {"S1": {"a": "1"}, "S2": {"a": "2"}}
    with pytest.raises(InputError, match=r"blocks of subjects \(S1, S2\)"):
        commands.compare(*two_rdms, n_permutations=10, blocks=file)
    pd.DataFrame({"id": IDS[:8], "block": list("aabbaabb")}).to_csv(file, index=False)
    with pytest.raises(InputError, match="no session or class for the stimuli im8"):
        commands.compare(*two_rdms, n_permutations=10, blocks=file)


def test_bits_of_photographs_are_said_in_python_and_on_the_command_line(tmp_path):
    levels = np.random.default_rng(0).integers(0, 4096, (5, 40, 40)).astype(np.uint16)
    for number, one in enumerate(levels):
        Image.fromarray(one).save(tmp_path / f"im{number}.png")
    with pytest.raises(
        InputError,
        match=r"as data of 12 bits do; say how many bits hold data \(bits = 12, --bits 12",
    ):
        commands.controls([tmp_path], tmp_path / "c.h5", which=["pixels"])
    commands.controls(
        [tmp_path], tmp_path / "python.h5", which=["pixels"], reading=ReadingOptions(bits=12)
    )
    done = run(
        "controls",
        "--images",
        tmp_path,
        "--which",
        "pixels",
        "--bits",
        12,
        "--out",
        tmp_path / "shell.h5",
    )
    assert done.returncode == 0, done.stderr
    ours, theirs = (read_rdms(tmp_path / f"{door}.h5") for door in ("python", "shell"))
    assert np.isfinite(ours.dissimilarities).all()
    np.testing.assert_array_equal(ours.dissimilarities, theirs.dissimilarities)
