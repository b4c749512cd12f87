"""Commands of RSA that draw: pages load nothing, captions name their CSV, and the CSV is what is
drawn.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.spatial import ConvexHull

from fmri.patterns import Patterns, write_patterns
from neurometamer import commands
from neurometamer.commands.drawing import list_pictures, read_pictures
from neurometamer.commands.rdms import read_labelled, split_labels
from neurometamer.errors import InputError
from neurometamer.figures.rsa import arrange_stimuli, map_table
from neurometamer.report.image_types import write_image_type_figures
from neurometamer.report.rsa import SIMULATED, UNTRAINED, find_stamps, rdm_stamps
from neurometamer.report.searchlight import find_hemisphere
from neurometamer.rsa.compute import (
    label_rdms,
    read_rdms,
    select_image_type,
    take_conditions,
    write_rdms,
)
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.store import read_table

QUICK = {"n_resamples": 30, "n_permutations": 49}
NAMES = [f"im{i:02d}" for i in range(8)]
KINDS = ("RE", "AN", "AI")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurometamer.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def checked_page(folder: Path) -> str:
    """Check what holds for every page, and give its text."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert not re.search(r'src="(?!data:)', text)
    shown = re.findall(r'<figure id="figure-([^"]+)">', text)
    files = {one.stem for one in (folder / "figures").glob("*.svg")}
    assert set(shown) == files == {one.stem for one in (folder / "figures").glob("*.png")}
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.S)
    assert len(captions) == len(shown)
    screen = text[text.index('id="answer"') : text.index("<nav ")]
    assert re.search(r'<p class="headline">[^<]{20,}</p>', screen)
    assert '<figure id="figure-' in screen
    methods = (folder / "methods.txt").read_text(encoding="utf-8").strip().split("\n\n")
    assert len(methods) >= 2
    assert methods[-1].startswith("Software: neurometamer ")
    assert all(part in unescape(text) for part in methods)
    assert "@misc{neurometamer" in (folder / "references.bib").read_text(encoding="utf-8")
    assert not re.search(r"\(s\)|\b1 \w+s\b (?:of|over|in)\b", screen)
    for caption in captions:
        named = re.findall(r"figures/[\w.-]+\.csv", caption)
        assert named, caption
        assert all((folder / one).is_file() for one in named)
    return text


def same_table(path: Path, table: pd.DataFrame) -> None:
    """Compare a CSV with what it should hold, as written and read again."""
    found = read_table(path)
    assert list(found.columns) == list(table.columns)
    for name in found.columns:
        if pd.api.types.is_numeric_dtype(found[name]) and pd.api.types.is_numeric_dtype(
            table[name]
        ):
            np.testing.assert_allclose(found[name], table[name].astype(float), rtol=1e-12)
        else:
            texts = [
                column.astype(object).where(column.notna(), "").astype(str).tolist()
                for column in (found[name], table[name])
            ]
            assert texts[0] == texts[1], name


def stimulus_table() -> pd.DataFrame:
    ids = [name if kind == "RE" else f"{name}_{kind}" for kind in KINDS for name in NAMES]
    category = (["dog"] * 4 + ["car"] * 4) + [""] * 16
    rows = {"id": ids, "kind": np.repeat(KINDS, 8), "reference_id": NAMES * 3, "category": category}
    return pd.DataFrame(rows).assign(file=[f"png/{one}.png" for one in ids])


def kind_rdms(places: dict[str, list[str]], seed: int = 0, **more: object):
    table, n = stimulus_table(), len(next(iter(places.values())))
    vectors = np.random.default_rng(seed).random((n, 24 * 23 // 2)) + 0.1
    patterns = {name: list(table[name]) for name in ("kind", "reference_id")}
    return label_rdms(
        vectors,
        conditions=list(table["id"]),
        rdm_descriptors=places,
        pattern_descriptors=patterns,
        measure="1 - Spearman",
        **more,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of three kinds with their table, RDMs of three subjects and of a random network."""
    table = stimulus_table()
    (tmp_path / "png").mkdir()
    random = np.random.default_rng(0)
    for one in table["file"]:
        Image.fromarray(random.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / one)
    table.to_csv(tmp_path / "stimuli.csv", index=False)
    people = {
        "subject": ["s1", "s1", "s2", "s2", "s3", "s3"],
        "roi": ["V1", "LO"] * 3,
        "system": ["brain"] * 6,
    }
    write_rdms(kind_rdms(people), tmp_path / "brain.h5")
    stages = {"stage": ["conv1", "fc"], "system": ["network"] * 2, "model": ["net"] * 2}
    told = {"weights": ["random (untrained, seed 0)"] * 2}
    write_rdms(kind_rdms(stages | told, 1, provenance={"trained": False}), tmp_path / "network.h5")
    return tmp_path


# -------------------------------------------------------------------------------------------- kinds


def test_kinds_are_drawn_by_system_and_quantity(folder):
    out = folder / "page"
    done = run(
        "image-types",
        "--rdms",
        folder / "brain.h5",
        folder / "network.h5",
        "--out",
        folder / "image_types.csv",
        "--figures",
        out,
        "--n-resamples",
        30,
        "--n-permutations",
        49,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(folder / "image_types.csv"), str(out / "index.html")]
    table = read_table(folder / "image_types.csv")
    text = checked_page(out)
    assert "Untrained network (random weights):</strong>" in text
    assert "8 photographs; 3 subjects" in text
    assert table["method"].iloc[0] in unescape(text)
    names = {
        f"image_types_{system}_{quantity}"
        for system in ("brain", "network")
        for quantity in ("similarity", "difference")
    }
    answers = {"answer_brain", "answer_network"}
    assert {one.stem for one in (out / "figures").glob("*.csv")} == names | answers
    for name in names:
        system, quantity = name.removeprefix("image_types_").split("_")
        own = table[(table["system"] == system) & (table["quantity"] == quantity)]
        assert len(own) > 0
        same_table(out / "figures" / f"{name}.csv", own)
    same_table(out / "image_types.csv", table)
    assert set(json.loads((out / "image_types.json").read_text())["inputs"]) == {
        "brain.h5",
        "network.h5",
    }


def test_two_networks_get_figures_of_their_own_and_what_is_not_there_is_told(folder):
    write_rdms(read_rdms(folder / "network.h5"), folder / "other.h5")
    table = commands.image_types(
        rdms=[folder / "network.h5", folder / "other.h5"], figures=folder / "page", **QUICK
    )
    text = checked_page(folder / "page")
    assert "Regions" not in text and "of a brain" not in text
    screen = text[text.index('id="answer"') : text.index("<nav ")]
    assert '<figure id="figure-image_types_network_1_difference">' in screen
    assert "network.h5: In 0 of 2 layers" in text and "other.h5: In 0 of 2 layers" in text
    numbered = read_table(folder / "page" / "figures" / "image_types_network_2_difference.csv")
    assert set(numbered["source"]) == {"other.h5"}
    assert len(numbered) == len(table) / 2 / 3


def test_bands_of_the_null_in_the_table_are_in_the_figure_and_its_numbers(folder):
    table = commands.image_types(rdms=[folder / "brain.h5"], **QUICK).assign(
        null_low=-0.25, null_high=0.25
    )
    write_image_type_figures(
        folder / "page",
        table,
        options=ImageTypeOptions(**QUICK),
        settings={},
        rdms=[folder / "brain.h5"],
    )
    assert (
        read_table(folder / "page" / "figures" / "image_types_brain_similarity.csv")["null_high"]
        == 0.25
    ).all()
    checked_page(folder / "page")


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            {"perception": ("RE", "AN"), "decision": ("RE", "AI")},
            "RE–AN is above RE–AI in 0, below it in 0, undecided",
        ),
        (
            {"perception": ("RE", "AI"), "decision": None},
            "an image made to fool the network is near its photograph",
        ),
        (
            {"perception": None, "decision": ("AN", "AI")},
            "In 0 of 2 regions AN–AI is above chance.",
        ),
    ],
)
def test_other_pairs_of_kinds_have_sentences_of_their_own(folder, pairs, said):
    options = ImageTypeOptions(**pairs, **QUICK)
    table = compare_image_types(read_rdms(folder / "brain.h5"), options=options).assign(
        source="brain.h5"
    )
    write_image_type_figures(
        folder / "page", table, options=options, settings={}, rdms=[folder / "brain.h5"]
    )
    assert said in checked_page(folder / "page")


def test_kinds_without_a_system_are_not_drawn(folder):
    write_rdms(kind_rdms({"name": ["a", "b"]}), folder / "unknown.h5")
    with pytest.raises(
        InputError, match=r"name neither brain nor network.*give them rdm_descriptors system"
    ):
        commands.image_types(
            folder / "k.csv", rdms=[folder / "unknown.h5"], figures=folder / "page", **QUICK
        )
    assert (folder / "k.csv").is_file()  # the numbers are kept
    assert not (folder / "page").exists()


# ------------------------------------------------------------------------------------------- layers


def layer_inputs(
    folder: Path, rois: tuple[str, ...] = ("V1", "V4", "LO"), n: int = 10
) -> tuple[Path, list[Path]]:
    random, names = np.random.default_rng(0), [f"im{i:02d}" for i in range(n)]
    layers = random.random((4, n * (n - 1) // 2))
    network = label_rdms(
        layers,
        conditions=names,
        rdm_descriptors={"stage": [f"layer{i}" for i in range(4)], "weights": ["default"] * 4},
        measure="x",
    )
    files = []
    for subject in ("S1", "S2"):
        vectors = [layers[k] + 0.5 * random.random(layers.shape[1]) for k in range(len(rois))]
        places = {"subject": [subject] * len(rois), "roi": list(rois)}
        files.append(
            write_rdms(
                label_rdms(
                    np.array(vectors), conditions=names, rdm_descriptors=places, measure="x"
                ),
                folder / f"{subject}.h5",
            )
        )
    return write_rdms(network, folder / "layers.h5"), files


def test_layers_are_drawn_from_their_tables(tmp_path):
    network, brain = layer_inputs(tmp_path)
    out = commands.layers(network, brain, tmp_path / "out", n_resamples=10, n_permutations=49)
    text = checked_page(out)
    assert 'class="stamp"' not in text
    drawn = {
        "layer_roi_panels": "layer_roi",
        "best_layer_marks": "best_layer",
        "model_marks": "weighted",
        "model_marks_difference": "weighted_difference",
        "hierarchy_lines": "hierarchy",
    }
    for figure, table in drawn.items():
        assert (out / "figures" / f"{figure}.csv").read_bytes() == (
            out / f"{table}.csv"
        ).read_bytes()
    assert {one.stem for one in (out / "figures").glob("*.csv")} == set(drawn)
    assert "4 layers, 3 regions, 2 subjects, 10 stimuli" in text


def test_two_regions_have_no_hierarchy_and_the_page_says_so(tmp_path):
    network, brain = layer_inputs(tmp_path, ("V1", "LO"))
    out = commands.layers(network, brain, tmp_path / "out", n_resamples=0, n_permutations=19)
    assert "The order of regions is not tested: that needs at least 3 regions." in checked_page(out)
    assert not (out / "figures" / "hierarchy_lines.svg").exists()


def as_others_write(rdms, path: Path) -> Path:
    """Write RDMs as a laboratory with another program does: numbers, ids, no subject, no region."""
    content = {"rdms": np.squeeze(rdms.get_matrices())}
    ids = np.array(rdms.pattern_descriptors["condition"])
    if path.suffix == ".mat":
        savemat(path, content | {"ids": ids.astype(object)})
    elif path.suffix == ".csv":
        pd.DataFrame(content["rdms"], columns=ids).to_csv(path, index=False)
    else:
        np.savez(path, ids=ids, **content)
    return path


def test_files_of_others_get_subject_and_region_beside_them(tmp_path):
    network, brain = layer_inputs(tmp_path)
    both = [read_rdms(one) for one in brain]
    expected = commands.layers(network, brain, tmp_path / "ours", n_resamples=0, n_permutations=19)
    parts = []
    for rdms, suffixes in zip(
        both, ((".mat", ".npz", ".csv"), (".npz", ".csv", ".mat")), strict=True
    ):
        for i, suffix in enumerate(suffixes):
            subject, roi = (str(rdms.rdm_descriptors[one][i]) for one in ("subject", "roi"))
            order = np.random.default_rng(i).permutation(rdms.n_cond)
            one = take_conditions(rdms.subset("roi", roi), order)
            parts.append(
                f"{as_others_write(one, tmp_path / f'{subject}_{roi}{suffix}')}={subject}:{roi}"
            )
    done = run(
        "layers",
        network,
        "--brain",
        *parts,
        "--out",
        tmp_path / "theirs",
        "--n-resamples",
        0,
        "--n-permutations",
        19,
    )
    assert done.returncode == 0, done.stderr
    key = ["roi", "subject", "layer"]
    for name in ("similarity", "p"):
        ours, theirs = (
            read_table(path / "layer_roi.csv").set_index(key)[name].sort_index()
            for path in (expected, tmp_path / "theirs")
        )
        pd.testing.assert_series_equal(ours, theirs, check_index=True, rtol=1e-9)
    inputs = json.loads((tmp_path / "theirs" / "layers.json").read_text())["inputs"]
    assert set(inputs) == {"layers.h5", *(Path(one.split("=")[0]).name for one in parts)}


def test_numbers_without_ids_take_those_of_a_table(tmp_path):
    network, brain = layer_inputs(tmp_path, ("V1", "LO"))
    expected = commands.layers(network, brain, tmp_path / "ours", n_resamples=0, n_permutations=0)
    parts = []
    for path in brain:
        rdms = read_rdms(path)
        np.savez(tmp_path / f"{path.stem}.npz", rdms=rdms.get_matrices())
        parts.append(f"{tmp_path / path.stem}.npz={path.stem}:V1,LO")
    with pytest.raises(InputError, match="names no conditions; give their ids"):
        commands.layers(network, parts, tmp_path / "theirs", n_resamples=0, n_permutations=0)
    pd.DataFrame({"file": [f"im{i:02d}.png" for i in range(10)]}).to_csv(
        tmp_path / "ids.csv", index=False
    )
    found = commands.layers(
        network,
        parts,
        tmp_path / "theirs",
        ids=tmp_path / "ids.csv",
        n_resamples=0,
        n_permutations=0,
    )
    assert (found / "layer_roi.csv").read_bytes() == (expected / "layer_roi.csv").read_bytes()


def test_names_of_several_rdms_in_a_file(tmp_path):
    _, brain = layer_inputs(tmp_path)
    many = as_others_write(read_rdms(brain[0]), tmp_path / "many.npz")
    named = read_labelled(f"{many}=S1:V1,V4,LO")
    assert named.rdm_descriptors["roi"] == ["V1", "V4", "LO"]
    assert set(named.rdm_descriptors["subject"]) == {"S1"}
    assert read_labelled(f"{many}=*:V1").rdm_descriptors["subject"] == [
        "rdms 1",
        "rdms 2",
        "rdms 3",
    ]
    odd = tmp_path / "a=b.h5"
    odd.write_bytes(brain[0].read_bytes())
    assert split_labels(odd) == (odd, None)
    with pytest.raises(
        InputError, match=r"3 RDMs, but S1:V1 names more than one.*many\.npz=S1,S2:V1"
    ):
        read_labelled(f"{many}=S1:V1")
    with pytest.raises(InputError, match=r"3 RDM\(s\), but 'V1,V4' is 2 name"):
        read_labelled(f"{many}=S1:V1,V4")


def test_brain_files_without_names_say_what_to_write(tmp_path):
    network, brain = layer_inputs(tmp_path)
    one = as_others_write(read_rdms(brain[0]).subset("roi", "V1"), tmp_path / "v1.npz")
    with pytest.raises(
        InputError, match=r"name no subject and no roi; .*--brain '.*v1\.npz=S1:V1'"
    ):
        commands.layers(network, [one], tmp_path / "out")
    many = as_others_write(read_rdms(brain[0]), tmp_path / "many.npz")
    with pytest.raises(InputError, match=r"--brain '.*many\.npz=\*:V1' \(\* takes their 3 names"):
        commands.layers(network, [many], tmp_path / "out")
    for text in (f"{one}=S1", f"{one}=S1:", f"{one}=:V1"):
        with pytest.raises(
            InputError, match="does not name subject and region; write FILE=subject:roi"
        ):
            commands.layers(network, [text], tmp_path / "out")
    with pytest.raises(InputError, match="does not exist"):
        commands.layers(network, [f"{tmp_path}/nowhere.npz=S1:V1"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------- searchlight


@pytest.fixture
def scan(tmp_path: Path) -> dict[str, Path]:
    """Patterns of 8 conditions in a small volume, its mask, and a model."""
    random = np.random.default_rng(9)
    mask, affine = np.ones((6, 6, 4), dtype=bool), np.diag([3.0, 3, 3, 1])
    mask[0] = False
    features = random.normal(size=(8, 5))
    clean = features @ random.normal(size=(5, int(mask.sum())))
    values = np.concatenate([clean + 0.3 * random.normal(size=clean.shape) for _ in range(2)])
    rows = {"condition": NAMES * 2, "presentation": np.repeat([1, 2], 8), "run": "1", "session": ""}
    places = pd.DataFrame({"subject": "S1", "roi": "all", **dict(zip("ijk", np.argwhere(mask).T))})
    grid = {"grid": {"shape": list(mask.shape), "affine": affine.tolist()}}
    held = Patterns(values=values, observations=pd.DataFrame(rows), voxels=places, provenance=grid)
    write_patterns(held, tmp_path / "p.h5")
    nibabel.save(nibabel.Nifti1Image(mask.astype("uint8"), affine), tmp_path / "mask.nii.gz")
    distances = np.linalg.norm(features[:, None] - features, axis=2)[np.newaxis]
    model = label_rdms(
        distances, conditions=NAMES, rdm_descriptors={"stage": ["conv1"]}, measure="x"
    )
    write_rdms(model, tmp_path / "model.h5")
    bad = label_rdms(
        distances, conditions=NAMES, rdm_descriptors={"stage": ["../escaped"]}, measure="x"
    )
    write_rdms(bad, tmp_path / "bad.h5")
    return {
        "patterns": tmp_path / "p.h5",
        "mask": tmp_path / "mask.nii.gz",
        "model_rdms": tmp_path / "model.h5",
    }


def test_maps_are_drawn_with_their_family_wise_p(scan, tmp_path):
    out = commands.searchlight(
        tmp_path / "maps", **scan, reliability=True, n_permutations=49, radius_mm=5, space="MNI"
    )
    text = checked_page(out)
    assert {one.stem for one in (out / "figures").glob("*.csv")} == {"map_conv1", "map_reliability"}
    for name in ("conv1", "reliability"):
        n = int((read_table(out / "figures" / f"map_{name}.csv")["p_family"] < 0.05).sum())
        assert f"{n} places with family-wise p &lt; .05." in text
    assert "a volume in MNI space" in text
    for name in ("conv1", "reliability"):
        image, p = (nibabel.load(out / f"{name}{end}.nii.gz") for end in ("", "_p_family"))
        expected = map_table(image.get_fdata(), image.affine, p_family=p.get_fdata())
        found = read_table(out / "figures" / f"map_{name}.csv")
        assert list(found.columns) == ["i", "j", "k", "x", "y", "z", "value", "p_family"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert json.loads((out / "conv1.json").read_text())["settings"]["space"] == "MNI"


def test_without_permutations_maps_are_called_not_tested(scan, tmp_path):
    out = commands.searchlight(tmp_path / "maps", **scan, radius_mm=5)
    assert "Not tested (permutations: 0)." in checked_page(out)
    assert "p_family" not in read_table(out / "figures" / "map_conv1.csv")


def write_sphere(path: Path) -> Path:
    normal = np.random.default_rng(0).normal(size=(120, 3))
    points = 30 * normal / np.linalg.norm(normal, axis=1, keepdims=True)
    parts = [
        nibabel.gifti.GiftiDataArray(points.astype("f4"), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(
            ConvexHull(points).simplices.astype("i4"), intent="NIFTI_INTENT_TRIANGLE"
        ),
    ]
    nibabel.save(nibabel.GiftiImage(darrays=parts), path)
    return path


def test_a_mesh_needs_its_hemisphere(tmp_path):
    values = np.random.default_rng(1).normal(size=(16, 120)).astype("f4")
    arrays = [nibabel.gifti.GiftiDataArray(one, intent="NIFTI_INTENT_NONE") for one in values]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), tmp_path / "betas.func.gii")
    pd.DataFrame({"condition": NAMES * 2}).to_csv(tmp_path / "rows.csv", index=False)
    given = {
        "betas": tmp_path / "betas.func.gii",
        "table": tmp_path / "rows.csv",
        "reliability": True,
        "radius_mm": 15,
    }
    plain = write_sphere(tmp_path / "cortex.surf.gii")
    with pytest.raises(
        InputError, match=r"name cortex\.surf\.gii does not name the hemisphere; write --hemisphere"
    ):
        commands.searchlight(tmp_path / "maps", mesh=plain, **given)
    with pytest.raises(InputError, match="unknown hemisphere 'lefft'; did you mean 'left'"):
        commands.searchlight(tmp_path / "maps", mesh=plain, hemisphere="lefft", **given)
    with pytest.raises(InputError, match="--space MNI is of a volume"):
        commands.searchlight(tmp_path / "maps", mesh=plain, hemisphere="left", space="MNI", **given)
    assert not (tmp_path / "maps").exists()
    out = commands.searchlight(
        tmp_path / "maps", mesh=write_sphere(tmp_path / "a_hemi-R_white.surf.gii"), **given
    )
    assert "the right hemisphere" in checked_page(out)
    found = read_table(out / "figures" / "map_reliability.csv")
    written = nibabel.load(out / "reliability.func.gii").darrays[0].data
    np.testing.assert_allclose(found["value"], written[found["vertex"]], atol=1e-6)
    assert len(found) == np.isfinite(written).sum()


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("lh.white", "left"),
        ("rh.pial", "right"),
        ("sub-01_hemi-L_white.surf.gii", "left"),
        ("fs_LR.R.midthickness.surf.gii", "right"),
    ],
)
def test_file_names_tell_hemispheres(name, side):
    assert find_hemisphere(name) == side
    other = {"left": "right", "right": "left"}[side]
    with pytest.raises(
        InputError, match=f"--hemisphere {other}, but {name} is named as the {side} one"
    ):
        find_hemisphere(name, other)


def test_maps_that_cannot_be_drawn_are_refused_before_anything_is_computed(scan, tmp_path):
    with pytest.raises(InputError, match=r"unknown space 'mni'.*Known: native, MNI"):
        commands.searchlight(tmp_path / "maps", **scan, space="mni")
    with pytest.raises(InputError, match="--hemisphere is of a mesh"):
        commands.searchlight(tmp_path / "maps", **scan, hemisphere="left")
    with pytest.raises(
        InputError, match=r"map '\.\./escaped' gives its files their names.*rename the model's RDM"
    ):
        commands.searchlight(tmp_path / "maps", **{**scan, "model_rdms": tmp_path / "bad.h5"})
    done = run(
        "searchlight",
        "--patterns",
        scan["patterns"],
        "--mask",
        scan["mask"],
        "--model-rdms",
        scan["model_rdms"],
        "--out",
        tmp_path / "maps",
        "--space",
        "mni",
    )
    assert done.returncode == 2
    assert "unknown value of --space 'mni'. Known: native, MNI" in done.stderr
    assert not (tmp_path / "maps").exists()
    assert not list(tmp_path.glob("escaped*"))


# --------------------------------------------------------------------------------------------- draw


def test_rdms_of_several_kinds_are_drawn_with_the_images_of_all(folder):
    out = folder / "page"
    done = run(
        "draw",
        folder / "brain.h5",
        "--images",
        folder / "stimuli.csv",
        "--out",
        out,
        "--bands",
        "kind",
        "--place",
        "mean",
        "V1",
    )
    assert done.returncode == 0, done.stderr
    text = checked_page(out)
    assert "The mean RDM over subjects was computed" in text
    rdms = read_rdms(folder / "brain.h5")
    mean = rdms.get_matrices()[::2].mean(axis=0)
    pairs = read_table(out / "figures" / "rdms_1.csv")
    assert len(pairs) == 24 * 23 // 2
    assert set(pairs["row"]) == {"mean"}
    assert set(pairs["column"]) == {"V1"}
    np.testing.assert_allclose(pairs["dissimilarity"], mean[np.triu_indices(24, 1)], rtol=1e-12)
    places = read_table(out / "figures" / "scatter_01_mean_V1.csv")
    expected = arrange_stimuli(mean, rdms.pattern_descriptors["condition"])
    np.testing.assert_allclose(places[["x", "y"]], expected[["x", "y"]], atol=1e-9)
    assert places["kind"].value_counts().to_dict() == dict.fromkeys(KINDS, 8)
    scores = read_table(out / "scatter.csv")
    assert scores["score"].tolist() == pytest.approx([expected["score"][0]])
    assert scores["file"].tolist() == ["figures/scatter_01_mean_V1.csv"]


def test_regular_images_alone_and_categories_of_their_photographs(folder):
    rdms = read_rdms(folder / "brain.h5")
    write_rdms(select_image_type(rdms, "RE"), folder / "regular.h5")
    commands.draw(
        folder / "regular.h5",
        [folder / "stimuli.csv"],
        folder / "page",
        place=["s2", "LO"],
        embedding="tsne",
    )
    checked_page(folder / "page")
    places = read_table(folder / "page" / "figures" / "scatter_01_s2_LO.csv")
    assert places["id"].tolist() == NAMES
    assert places["category"].tolist() == ["dog"] * 4 + ["car"] * 4
    assert places["method"].str.contains("t-SNE").all()
    commands.draw(folder / "brain.h5", [folder / "stimuli.csv"], folder / "all", place=["s1", "V1"])
    made = read_table(folder / "all" / "figures" / "scatter_01_s1_V1.csv").set_index("id")[
        "category"
    ]
    assert made["im00_AN"] == "dog"  # of the photograph
    assert made["im07_AI"] == "car"


def test_many_rdms_are_capped_and_the_page_and_the_console_tell(folder):
    stages = {"stage": [f"layer{i}" for i in range(50)], "model": ["net"] * 50}
    write_rdms(select_image_type(kind_rdms(stages), "RE"), folder / "deep.h5")
    done = run("draw", folder / "deep.h5", "--images", folder / "png", "--out", folder / "page")
    assert done.returncode == 0, done.stderr
    text = checked_page(folder / "page")
    told = "Arrangements of 12 of 50 RDMs; not of net layer12, net layer13"
    assert told in text
    assert told in done.stderr
    assert (
        "Heat maps of 48 of 50 RDMs; not of net layer48, net layer49. Choose with --place." in text
    )
    assert len(list((folder / "page" / "figures").glob("scatter_*.svg"))) == 12
    pairs = read_table(folder / "page" / "figures" / "rdms_1.csv")
    assert pairs.groupby("column").size().eq(28).all()
    assert pairs["column"].nunique() == 48
    assert "Neither the RDMs nor the images name categories" not in text  # the RDMs tell kinds


def test_figures_of_an_earlier_run_are_not_left_beside_a_new_page(folder):
    commands.draw(folder / "brain.h5", [folder / "stimuli.csv"], folder / "page", place=["s1"])
    mine = folder / "page" / "figures" / "mine.csv"
    mine.write_text("kept")
    commands.draw(
        folder / "brain.h5", [folder / "stimuli.csv"], folder / "page", place=["s2", "V1"]
    )
    checked_page(folder / "page")
    names = {one.name for one in (folder / "page" / "figures").glob("*.csv")}
    assert names == {"mine.csv", "rdms_1.csv", "scatter_01_s2_V1.csv"}


@pytest.mark.parametrize("suffix", [".mat", ".npz", ".csv"])
def test_rdms_of_others_are_drawn_as_ours(folder, suffix):
    rdms = select_image_type(read_rdms(folder / "brain.h5"), "RE")
    one = rdms.subset("subject", "s1").subset("roi", "V1")
    path = as_others_write(one, folder / f"theirs{suffix}")
    commands.draw(path, [folder / "png"], folder / "page")
    text = checked_page(folder / "page")
    assert "Neither the RDMs nor the images name categories" in text
    assert "dissimilarity: not named" in text
    pairs = read_table(folder / "page" / "figures" / "rdms_1.csv")
    np.testing.assert_allclose(pairs["dissimilarity"], one.dissimilarities[0], rtol=1e-9)


def test_what_cannot_be_drawn_is_named(folder):
    images = [folder / "stimuli.csv"]
    with pytest.raises(InputError, match="no images given; use --images"):
        commands.draw(folder / "brain.h5", [], folder / "page")
    few = stimulus_table()
    few[~few["id"].isin(["im02", "im05_AN"])].to_csv(folder / "few.csv", index=False)
    with pytest.raises(
        InputError,
        match=r"no image of im02, im05_AN; --images holds .* a table with the columns id",
    ):
        commands.draw(folder / "brain.h5", [folder / "few.csv"], folder / "page")
    with pytest.raises(InputError, match="images of the same id: im00"):
        commands.draw(folder / "brain.h5", [*images, folder / "few.csv"], folder / "page")
    with pytest.raises(InputError, match="no category of im00"):
        commands.draw(folder / "brain.h5", [folder / "png"], folder / "page", bands="category")
    with pytest.raises(InputError, match="unknown bands 'kinds'; did you mean 'kind'"):
        commands.draw(folder / "brain.h5", images, folder / "page", bands="kinds")
    with pytest.raises(InputError, match="unknown representation 'V2'"):
        commands.draw(folder / "brain.h5", images, folder / "page", place=["V2"])
    with pytest.raises(InputError, match="unknown arrangement 'msd'; did you mean 'mds'"):
        commands.draw(folder / "brain.h5", images, folder / "page", embedding="msd")
    with pytest.raises(InputError, match="perplexity is of embedding 'tsne'"):
        commands.draw(folder / "brain.h5", images, folder / "page", perplexity=3)
    lost = stimulus_table().assign(file="png/nowhere.png")
    lost.to_csv(folder / "lost.csv", index=False)
    with pytest.raises(
        InputError, match=r"nowhere\.png does not exist; the column file is relative to its table"
    ):
        commands.draw(folder / "brain.h5", [folder / "lost.csv"], folder / "page")
    (folder / "png" / "im00.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InputError, match=r"im00\.png cannot be decoded"):
        commands.draw(folder / "brain.h5", images, folder / "page")
    pd.DataFrame({"name": NAMES}).to_csv(folder / "names.csv", index=False)
    with pytest.raises(InputError, match="neither a column id nor file; it has name"):
        commands.draw(folder / "brain.h5", images, folder / "page", ids=folder / "names.csv")
    assert not (folder / "page").exists()


def test_names_of_places_never_leave_the_folder(folder):
    write_rdms(kind_rdms({"subject": ["../../s1"], "roi": ["a/b"]}), folder / "odd.h5")
    commands.draw(folder / "odd.h5", [folder / "stimuli.csv"], folder / "deep" / "page")
    assert {one.name for one in (folder / "deep").iterdir()} == {"page"}
    assert (folder / "deep" / "page" / "figures" / "scatter_01_s1_a_b.svg").is_file()


def test_pictures_are_whole_and_small(folder):
    Image.new("RGB", (800, 200), (255, 0, 0)).save(folder / "png" / "wide.png")
    table = list_pictures([folder / "png"])
    picture = read_pictures(table, ["wide"])["wide"]
    assert picture.shape == (3, 48, 192)
    assert picture[0].min() == 1.0


def test_a_study_is_drawn_with_its_stamps(small_study, tmp_path):
    """Files of a study say through it that its cortex is simulated and its network untrained."""
    page = commands.draw(
        small_study / "rdms" / "brain.h5",
        [small_study / "stimuli"],
        tmp_path / "page",
        place=["V1", "mean"],
    )
    text = checked_page(page.parent)
    assert "Simulated cortex:</strong>" in text
    assert "Untrained network (random weights):</strong>" in text
    network = small_study / "rdms" / "network.h5"
    assert rdm_stamps(read_rdms(network), network) == [UNTRAINED]


def test_stamps_are_found_wherever_a_record_tells():
    assert find_stamps({"trained": [True, False]}) == [UNTRAINED]
    assert (
        find_stamps({"weights": "random (untrained, seed 3)", "trained": True}) == []
    )  # a name says nothing
    assert find_stamps({"a": {"b": [{"trained": False}]}}, {"data": "simulated"}) == [
        SIMULATED,
        UNTRAINED,
    ]
    assert (
        find_stamps({"trained": True, "weights": "default", "source": "bold"}, "text", None) == []
    )


@pytest.mark.data
def test_92_images_are_drawn_from_the_file_of_another_laboratory(shared_data, tmp_path):
    labels = shared_data / "images92" / "labels.csv"
    source = f"{shared_data / 'rdms92.h5'}=*:IT"
    given = {"variable": "cichy2014/IT", "ids": labels, "measure": "pearson"}
    page = commands.draw(
        source, [labels], tmp_path / "page", place=["mean"], bands="category", **given
    )
    text = checked_page(page.parent)
    assert "15 RDMs over 92 stimuli; dissimilarity: 1 - Pearson." in text
    with h5py.File(shared_data / "rdms92.h5") as file:
        mean = file["cichy2014/IT"][...].astype(float).mean(axis=0)
    pairs = read_table(page.parent / "figures" / "rdms_1.csv")
    np.testing.assert_allclose(pairs["dissimilarity"], mean[np.triu_indices(92, 1)], rtol=1e-6)
    places = read_table(page.parent / "figures" / "scatter_01_mean_IT.csv")
    assert len(places) == 92
    assert places["category"].nunique() == 6
    points = places.set_index("category")[["x", "y"]]
    faces, rest = points.loc[["human face"]], points.drop("human face")
    center = faces.mean()
    near, far = (np.linalg.norm(one - center, axis=1).mean() for one in (faces, rest))
    assert near < 0.5 * far  # faces lie together
