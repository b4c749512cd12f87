"""Regions from files, labels, thresholds, atlases and expressions, against nilearn and nibabel."""

from __future__ import annotations

import shutil
import warnings

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmri import estimate_betas, parse_region, read_regions, read_run
from fmri.grids import surface_grid
from fmri.rois.algebra import region_text
from fmri.rois.regions import names_file, region_files
from neurometamer.errors import InputError

MNI = np.array([[2.0, 0, 0, -18], [0, 2, 0, -20], [0, 0, 2, -12], [0, 0, 0, 1]])
SHAPE = (18, 20, 12)


def save(path, values, affine=MNI, code=2):
    image = nibabel.Nifti1Image(values, affine)
    image.set_sform(affine, code)
    image.set_qform(None, 0)
    nibabel.save(image, path)
    return path


@pytest.fixture
def brain(tmp_path):
    """A folder with an image of the grid, a label image with its names, and a probability map."""
    rng = np.random.default_rng(0)
    labels = np.zeros(SHAPE, dtype=np.int16)
    for number, label in enumerate((1, 2, 12, 130, 1021)):  # beyond 127, and with gaps
        labels[3 * number : 3 * number + 3, 4:9, 3:8] = label
    save(tmp_path / "sub-01_dseg.nii.gz", labels)
    (tmp_path / "sub-01_dseg.tsv").write_text(
        "index\tname\n0\tBackground\n1\tV1v\n2\tV1d\n12\tLO1\n130\tLO2\n1021\trh.V1\n"
    )
    save(tmp_path / "prob.nii.gz", rng.random(SHAPE).astype(np.float32))
    save(tmp_path / "image.nii.gz", np.zeros(SHAPE, dtype=np.float32))
    return tmp_path


def test_label_images_give_the_regions_of_nilearn(brain):
    from nilearn.maskers import NiftiLabelsMasker

    rng = np.random.default_rng(1)
    series = rng.normal(size=(*SHAPE, 5))
    image = nibabel.Nifti1Image(series, MNI)
    labels = nibabel.load(brain / "sub-01_dseg.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice of nilearn
        masker = NiftiLabelsMasker(labels, standardize=None).fit()
        means = masker.transform(image)
    names = ["V1v", "V1d", "LO1", "LO2", "rh.V1"]
    regions = read_regions(
        {name: f"sub-01_dseg.nii.gz:{name}" for name in names},
        brain / "image.nii.gz",
        folder=brain,
    )
    ours = np.array([series[mask].mean(axis=0) for mask in regions.masks.values()]).T
    np.testing.assert_allclose(ours, means, rtol=1e-10)  # sums in another order
    numbers = {
        name: f"sub-01_dseg.nii.gz:{key}" for name, key in zip("abcde", (1, 2, 12, 130, 1021))
    }
    by_number = read_regions(numbers, brain / "image.nii.gz", folder=brain)
    for mask, other in zip(regions.masks.values(), by_number.masks.values(), strict=True):
        np.testing.assert_array_equal(mask, other)


def test_names_come_from_bids_tables_and_color_tables(brain, monkeypatch):
    root = brain / "derivatives"
    (root / "sub-01" / "anat").mkdir(parents=True)
    (root / "dataset_description.json").write_text("{}")
    shutil.copy(brain / "sub-01_dseg.tsv", root / "desc-aparcaseg_dseg.tsv")
    image = root / "sub-01" / "anat" / "sub-01_desc-aparcaseg_dseg.nii.gz"
    shutil.copy(brain / "sub-01_dseg.nii.gz", image)
    like = brain / "image.nii.gz"
    assert read_regions({"LO": f"{image}:LO1"}, like).masks["LO"].sum() == 75
    aparc = brain / "aparc.nii.gz"
    shutil.copy(image, aparc)
    with pytest.raises(InputError, match=r"'LO': 'ctx-lh-LO1' is no number, and nothing names the"):
        read_regions({"LO": f"{aparc}:ctx-lh-LO1"}, like)
    colors = "#No. Label Name: R G B A\n\n0 Unknown 0 0 0 0\n12  ctx-lh-LO1  25 5 25 0\n"
    (brain / "freesurfer").mkdir()
    (brain / "freesurfer" / "FreeSurferColorLUT.txt").write_text(colors)
    monkeypatch.setenv("FREESURFER_HOME", str(brain / "freesurfer"))
    with pytest.warns(UserWarning, match=r"labels without a name in its table: 1, 2, 130, 1021"):
        regions = read_regions({"LO": f"{aparc}:ctx-lh-LO1"}, like)
    assert regions.masks["LO"].sum() == 75
    with pytest.raises(
        InputError, match=r"unknown label of aparc.nii.gz 'ctx-lh-LO2'; did you mean"
    ):
        read_regions({"LO": f"{aparc}:ctx-lh-LO2"}, like)
    with pytest.warns(UserWarning, match=r"label 130 has no name in the table of aparc.nii.gz"):
        read_regions({"LO": f"{aparc}:130"}, like)
    with pytest.raises(InputError, match=r"aparc.nii.gz has no label 7; it holds 0, 1, 2, 12, 130"):
        read_regions({"LO": f"{aparc}:7"}, like)


def test_labels_without_a_name_and_labels_of_one_name_are_told(brain):
    image = brain / "sub-01_dseg.nii.gz"
    like = brain / "image.nii.gz"
    table = image.with_name("sub-01_dseg.tsv")
    table.write_text("index\tname\n1\t\n2\tnan\n12\tNA\n130\tLO\n1021\tLO\n")
    values = nibabel.load(image).get_fdata()
    unnamed = pytest.warns(UserWarning, match="labels without a name in its table: 1; they are in")
    joined = pytest.warns(UserWarning, match=r"'LO' is the name of 2 labels of .* \(130, 1021\)")
    with unnamed, joined:
        mask = read_regions({"LO": f"{image}:LO"}, like).masks["LO"]
    assert np.array_equal(mask, np.isin(values, (130, 1021)))
    for name, label in (("nan", 2), ("NA", 12)):
        with pytest.warns(UserWarning, match="labels without a name in its table: 1; they are in"):
            mask = read_regions({"X": f"{image}:{name}"}, like).masks["X"]
        assert np.array_equal(mask, values == label)
    with pytest.warns(UserWarning, match=r"label 1 has no name in the table"):
        assert read_regions({"X": f"{image}:1"}, like).masks["X"].any()


def test_volumes_of_freesurfer_are_read(brain):
    labels = nibabel.load(brain / "sub-01_dseg.nii.gz")
    values = np.asarray(labels.dataobj).astype(np.int32)
    nibabel.save(nibabel.MGHImage(values, labels.affine), brain / "aparc.mgz")
    (brain / "aparc.txt").write_text(
        "12 LO1 0 0 0 0\n1 a 0 0 0 0\n2 b 0 0 0 0\n130 c 0 0 0 0\n1021 d\n"
    )
    masks = read_regions({"LO": "aparc.mgz:LO1"}, brain / "image.nii.gz", folder=brain).masks
    np.testing.assert_array_equal(masks["LO"], values == 12)


def test_expressions_are_sets_of_voxels(brain):
    like, label = brain / "image.nii.gz", "sub-01_dseg.nii.gz"
    values = np.asarray(nibabel.load(brain / label).dataobj)
    probability = np.asarray(nibabel.load(brain / "prob.nii.gz").dataobj)
    other = save(brain / "other t.nii.gz", 1 - probability)
    definitions = {
        "LO": "LO1 + LO2",
        "LO1": f"{label}:LO1",
        "LO2": f"{label}:130",
        "core": "LO & (prob.nii.gz > 0.5)",
        "rest": "LO - prob.nii.gz > 0.5",
        "faces": "(prob.nii.gz >= 'other t.nii.gz') - (prob.nii.gz <= 0.75) & LO1",
    }
    with pytest.warns(UserWarning, match=r"share"):
        regions = read_regions(definitions, like, folder=brain)
    union = (values == 12) | (values == 130)
    expected = {
        "LO": union,
        "core": union & (probability > 0.5),
        "rest": union & ~(probability > 0.5),
        "faces": (probability >= nibabel.load(other).get_fdata())
        & ~((probability <= 0.75) & (values == 12)),
    }
    for name, mask in expected.items():
        np.testing.assert_array_equal(regions.masks[name], mask, err_msg=name)
    assert list(regions.masks) == list(definitions)
    only = read_regions(definitions, like, folder=brain, only=["LO"])
    assert list(only.masks) == ["LO"] and only.table["definition"].tolist() == ["LO1 + LO2"]
    assert [file.name for file in region_files(definitions, "rest", brain)] == ["prob.nii.gz"]
    assert [file.name for file in region_files(definitions, "LO1", brain)] == [
        "sub-01_dseg.nii.gz",
        "sub-01_dseg.tsv",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("LO1 + + LO2", r"ROI 'x': LO1 \+ \+ LO2: at character 7, '\+ LO2': a region is expected"),
        ("LO1 LO2", r"at character 5, 'LO2': \+, -, & or the end is expected"),
        ("(LO1 + LO2", "at its end: a closing bracket is expected"),
        ("prob.nii.gz >", "at its end: a number or a map is expected"),
        ("prob.nii.gz > nan", "'nan': a finite number is expected"),
        ("sphere(1, 2, 3)", r"sphere takes 4 argument\(s\), not 3"),
        ("box(1)", "unknown kind of region at character 1 of 'box.1.': 'box'"),
        ("'a.nii", "at character 1, ''a.nii': a quote is not closed"),
        ("LO3", "unknown region or file 'LO3'"),
        ("__import__('os')", "at character 1|unknown kind of region"),
        ("x", "unknown region or file 'x'|regions are defined by each other"),
        ("y", "regions are defined by each other: x → y → x"),
        ("prob.nii.gz > 2", "nothing is left of prob.nii.gz > 2; the map holds"),
        ("prob.nii.gz", r'not a binary mask; it holds .* Give a threshold \("prob.nii.gz > 0.5"\)'),
        ("sub-01_dseg.nii.gz", r'Name one of its labels \("sub-01_dseg.nii.gz:Background"\)'),
        ("prob.nii.gz:1", "holds fractions, not labels; give a threshold"),
        ("gone.nii.gz:1", "gone.nii.gz does not exist"),
        ("(" * 60 + "LO1", "more than 50 brackets"),
        (" + ".join(["LO1"] * 400), "more than 400 names and signs"),
        ("LO1 - LO1", "ROI 'x' is empty: its definition LO1 - LO1 selects nothing"),
        ("lh.V1.label", "lists vertices of hemisphere L; image.nii.gz has none, but voxels"),
        ("wang15(V1)", "an atlas of fsaverage, and image.nii.gz is not on it"),
    ],
)
def test_bad_definitions_are_told_in_one_line(brain, text, message):
    (brain / "lh.V1.label").write_text("#!ascii label\n1\n3 0 0 0 1\n")
    definitions = {"x": text, "y": "x + LO1", "LO1": "sub-01_dseg.nii.gz:LO1"}
    with pytest.raises(InputError, match=message) as caught:
        read_regions(definitions, brain / "image.nii.gz", folder=brain, only=["x"])
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="ab.+-&()>< '\",:1x", max_size=30))
@settings(max_examples=300)
def test_any_text_is_parsed_or_refused(text):
    try:
        tree = parse_region(text)
    except InputError:
        return
    assert region_text(parse_region(region_text(tree))) == region_text(tree)


@pytest.mark.parametrize(
    ("definition", "is_file"),
    [
        ("*_V1.nii.gz", True),
        ("anat/*_dseg.nii.gz:V1", True),
        ("a folder/*_V1.nii", True),
        ("dseg.nii.gz:V1", False),
    ],
)
def test_a_star_goes_with_a_file_or_a_label_of_it(definition, is_file):
    assert names_file(definition) == is_file


@pytest.mark.parametrize("definition", ["*_prob.nii.gz > 0.5", "a*.nii.gz:1 + a*.nii.gz:2"])
def test_a_star_in_more_than_a_file_is_refused(definition):
    with pytest.raises(InputError, match=r"'\*' goes with FILE or FILE:LABEL alone"):
        names_file(definition)


def test_spheres_are_distances_in_mm_and_need_mni_space(brain):
    like = brain / "image.nii.gz"
    with pytest.raises(
        InputError, match=r"MNI coordinates cannot be used here: image.nii.gz does not"
    ):
        read_regions({"LO": "sphere(0, 0, 0, 5)"}, like)
    native = save(brain / "sub-01_space-T1w_bold.nii.gz", np.zeros(SHAPE, dtype=np.uint8), code=1)
    with pytest.raises(InputError, match=r"sub-01_space-T1w_bold.nii.gz is in the space T1w"):
        read_regions({"LO": "sphere(0, 0, 0, 5)"}, native)
    mask = read_regions({"LO": "sphere(-4, 2, 0, 5)"}, like, space="MNI152NLin6Asym").masks["LO"]
    points = np.argwhere(np.ones(SHAPE)) @ MNI[:3, :3].T + MNI[:3, 3]
    near = ((points - [-4, 2, 0]) ** 2).sum(axis=1) <= 25
    np.testing.assert_array_equal(mask, near.reshape(SHAPE))
    with pytest.raises(
        InputError, match=r"'LO' is empty: its definition sphere.0, 900, 0, 5. selects"
    ):
        read_regions({"LO": "sphere(0, 900, 0, 5)"}, like, space="MNI152")


@pytest.mark.parametrize("order", ["RAS", "LAS", "rotated"])
def test_nearest_voxels_are_those_of_nilearn(brain, order):
    from nilearn.image import resample_to_img

    rng = np.random.default_rng(2)
    affine = np.array([[1.3, 0, 0, -12], [0, 1.1, 0, -15], [0, 0, 1.7, -9], [0, 0, 0, 1.0]])
    if order == "LAS":
        affine[0] *= -1
    if order == "rotated":
        affine[:3, :3] = affine[:3, :3] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
        affine[:3, 0] *= np.sign(np.linalg.det(affine[:3, :3]))
    mask = (rng.random((17, 19, 11)) > 0.5).astype(np.uint8)
    file = save(brain / "mask.nii.gz", mask, affine)
    like = brain / "image.nii.gz"
    with pytest.raises(InputError) as caught:
        read_regions({"V1": file}, like)
    for text in ("-12", "-18", 'resample="nearest" (--resample nearest)'):  # both affines are shown
        assert text.strip("-") in str(caught.value)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        regions = read_regions({"V1": file}, like, resample="nearest")
    messages = " ".join(str(warning.message) for warning in told)
    assert ("left and right the other way round" in messages) == (order == "LAS")
    # nilearn leaves out the outer half of the first and last voxels: here they are empty
    around = affine.copy()
    around[:3, 3] -= affine[:3, :3].sum(axis=1)
    peer = resample_to_img(
        nibabel.Nifti1Image(np.pad(mask, 1), around),
        nibabel.load(like),
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    np.testing.assert_array_equal(regions.masks["V1"], np.asarray(peer.dataobj) > 0)
    assert regions.record()["V1"]["resample"] == "nearest"


def test_affines_that_are_rounded_are_the_same_and_mirrored_ones_never(brain):
    like = brain / "image.nii.gz"
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[10:12, 3:6, 4] = 1
    rounded = MNI.copy()
    rounded[:3] += 1e-3
    assert read_regions({"V1": save(brain / "a.nii", mask, rounded)}, like).masks["V1"].sum() == 6
    shifted = MNI.copy()
    shifted[0, 3] += 0.3
    with pytest.raises(InputError, match=r"another affine .*\[2 0 0 -17.7; .* up to 0.3 mm apart"):
        read_regions({"V1": save(brain / "b.nii", mask, shifted)}, like)
    mirrored = MNI.copy()
    mirrored[0] *= -1
    with pytest.raises(InputError, match=r"mirror images of each other: left and right are exch"):
        read_regions({"V1": save(brain / "c.nii", mask, mirrored)}, like)


def test_regions_of_a_template_are_refused_in_native_space(brain):
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[4:6, 4:6, 4:6] = 1
    atlas = save(brain / "tpl-MNI152NLin2009cAsym_desc-V1_mask.nii.gz", mask, code=4)
    native = save(brain / "sub-01_space-T1w_bold.nii.gz", mask, code=1)
    unknown = brain / "image.nii.gz"
    with pytest.raises(
        InputError, match=r"in the space MNI152NLin2009cAsym but .* is in T1w; regions"
    ):
        read_regions({"V1": atlas}, native)
    with pytest.raises(InputError, match=r"is in T1w"):
        read_regions({"V1": atlas}, native, resample="nearest")
    assert read_regions({"V1": atlas}, unknown).masks["V1"].sum() == 8
    coarse = save(brain / "coarse.nii.gz", np.zeros((9, 10, 6)), np.diag([4.0, 4, 4, 1]))
    with pytest.raises(InputError, match=r"in a space that nothing says"):
        read_regions({"V1": atlas}, coarse, resample="nearest")
    with pytest.warns(UserWarning, match=r"two MNI templates that differ by millimeters"):
        read_regions({"V1": atlas}, unknown, space="MNI152NLin6Asym")


def test_regions_outside_brain_and_grid_are_told(brain):
    like = brain / "image.nii.gz"
    inside = np.zeros(SHAPE, dtype=np.uint8)
    inside[:, :6] = 255
    save(brain / "brain.nii.gz", inside)
    with pytest.warns(UserWarning, match=r"'LO1': 45 of 75 voxels lie outside the brain mask"):
        regions = read_regions(
            {"LO1": "sub-01_dseg.nii.gz:LO1"}, like, brain_mask=brain / "brain.nii.gz", folder=brain
        )
    assert regions.table["n_outside"].tolist() == [45]
    save(brain / "none.nii.gz", np.roll(inside, 10, axis=1))
    with pytest.raises(InputError, match=r"ROI 'LO1' lies wholly outside the brain mask"):
        read_regions(
            {"LO1": "sub-01_dseg.nii.gz:LO1"}, like, brain_mask=brain / "none.nii.gz", folder=brain
        )
    moved = MNI.copy()
    moved[1, 3] -= 12
    shutil.copy(brain / "sub-01_dseg.tsv", brain / "moved.tsv")
    save(
        brain / "moved.nii.gz",
        np.asarray(nibabel.load(brain / "sub-01_dseg.nii.gz").dataobj),
        moved,
    )
    with pytest.warns(UserWarning, match=r"reaches beyond image.nii.gz: 30 voxels .*45 are left"):
        read_regions({"LO1": "moved.nii.gz:LO1"}, like, resample="nearest", folder=brain)


def test_four_dimensional_maps_need_the_number_of_a_map(brain):
    maps = np.random.default_rng(3).random((*SHAPE, 3)).astype(np.float32)
    save(brain / "maps.nii.gz", maps)
    like = brain / "image.nii.gz"
    masks = read_regions({"x": "maps.nii.gz:2 > 0.9"}, like, folder=brain).masks
    np.testing.assert_array_equal(masks["x"], maps[..., 1] > np.float32(0.9))
    for text, message in {
        "maps.nii.gz": "maps.nii.gz is 4-D; a mask must be 3-D",
        "maps.nii.gz > 0.9": "holds 3 maps; name one, maps.nii.gz:NUMBER",
        "maps.nii.gz:4 > 0.9": "unknown map of maps.nii.gz '4'",
    }.items():
        with pytest.raises(InputError, match=message):
            read_regions({"x": text}, like, folder=brain)


def test_betas_take_definitions_and_record_them(make_run, tmp_path):
    bold, events, mask = make_run()
    labels = np.zeros((4, 5, 3), dtype=np.uint8)
    labels[1:3, 1:4, 1], labels[0] = 200, 3
    save(tmp_path / "dseg.nii", labels, nibabel.load(bold).affine)
    run = read_run(bold, events)
    plain = estimate_betas([run], {"V1": mask})
    named = estimate_betas([run], {"V1": f"{tmp_path / 'dseg.nii'}:200"})
    np.testing.assert_array_equal(named.values, plain.values)
    assert named.provenance["masks"]["V1"]["definition"] == "dseg.nii:200"
    assert named.provenance["masks"]["V1"]["digest"] == plain.provenance["masks"]["V1"]["digest"]


# ------------------------------------------------------------------------------------------ surfaces


def surface_files(folder, side, names, keys):
    """Write one parcellation as GIfTI and as FreeSurfer annotation, and a region as a label."""
    start = {"L": "lh", "R": "rh"}[side]
    colors = np.array([[20 * n + 1, 255 - 3 * n, 7 * n, 0, 0] for n in range(len(names))])
    nibabel.freesurfer.write_annot(
        folder / f"{start}.aparc.annot", keys, colors, names, fill_ctab=True
    )
    table = nibabel.gifti.GiftiLabelTable()
    for number, name in enumerate(names):
        entry = nibabel.gifti.GiftiLabel(key=3 * number, red=0.1 * number, green=0, blue=0, alpha=1)
        entry.label = name
        table.labels.append(entry)
    array = nibabel.gifti.GiftiDataArray((3 * keys).astype(np.int32), intent="NIFTI_INTENT_LABEL")
    image = nibabel.GiftiImage(darrays=[array], labeltable=table)
    nibabel.save(image, folder / f"hemi-{side}_dseg.label.gii")
    vertices = np.flatnonzero(keys == 1)
    lines = [f"{vertex} 0.0 0.0 0.0 {0.1 + 0.8 * (vertex % 2):.2f}" for vertex in vertices]
    text = "\n".join(["#!ascii label", str(len(lines)), *lines])
    (folder / f"{start}.V1.label").write_text(text + "\n")
    return vertices


def test_labels_of_vertices_are_those_of_nibabel(tmp_path):
    rng = np.random.default_rng(4)
    names = ["unknown", "V1", "V2", "LO with space"]
    chosen = {}
    for side, n_vertices in (("L", 60), ("R", 70)):
        keys = rng.integers(0, 4, n_vertices)
        chosen[side] = surface_files(tmp_path, side, names, keys)
    grid = surface_grid("sub-01_hemi-L_bold.func.gii", {"L": 60, "R": 70})
    expected = np.zeros(130, dtype=bool)
    expected[chosen["L"]] = True
    expected[60 + chosen["R"]] = True
    regions = read_regions(
        {
            "annot": "lh.aparc.annot:V1 + rh.aparc.annot:V1",
            "gifti": "hemi-L_dseg.label.gii:V1 + hemi-R_dseg.label.gii:V1",
            "label": "lh.V1.label + rh.V1.label",
            "sure": "lh.V1.label > 0.5",
            "LO": '"lh.aparc.annot:LO with space"',
        },
        grid,
        folder=tmp_path,
        only=["annot"],
    )
    np.testing.assert_array_equal(regions.masks["annot"], expected)
    for text in (
        "hemi-L_dseg.label.gii:V1 + hemi-R_dseg.label.gii:V1",
        "lh.V1.label + rh.V1.label",
    ):
        other = read_regions({"V1": text}, grid, folder=tmp_path)
        np.testing.assert_array_equal(other.masks["V1"], expected)
    sure = read_regions({"V1": "lh.V1.label > 0.5"}, grid, folder=tmp_path).masks["V1"]
    np.testing.assert_array_equal(np.flatnonzero(sure), [v for v in chosen["L"] if v % 2])
    spaced = read_regions({"LO": '"lh.aparc.annot:LO with space"'}, grid, folder=tmp_path)
    assert spaced.masks["LO"].any()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        read_regions({"rhV1": "lh.V1.label"}, grid, folder=tmp_path)
    different, other_side = (str(warning.message) for warning in told)
    assert "'rhV1' and its file lh.V1.label name different hemispheres" in different
    assert "is called right, but 15 of its 15 voxels lie in the other hemisphere" in other_side


def test_bad_labels_of_vertices_are_told(tmp_path):
    keys = np.arange(60) % 3
    surface_files(tmp_path, "L", ["unknown", "V1", "V2"], keys)
    both = surface_grid("a_hemi-L_bold.func.gii", {"L": 60, "R": 60})
    small = surface_grid("a_hemi-L_bold.func.gii", {"L": 50})
    right = surface_grid("a_hemi-R_bold.func.gii", {"R": 60})
    for definition, grid, message in [
        ("lh.aparc.annot:V3", both, "unknown label of lh.aparc.annot 'V3'; did you mean 'V2'"),
        (
            "lh.aparc.annot:V1",
            small,
            "lh.aparc.annot has 60 vertices in the left hemisphere but a_he",
        ),
        ("lh.aparc.annot:V1", right, "is of the left hemisphere, but .* has only the right"),
        ("lh.V1.label", small, "lists vertices 52, 55, 58 but a_hemi-L"),
        ("lh.V1.label", right, "lists vertices of hemisphere L; a_hemi-R_bold.func.gii has R"),
        ("lh.aparc.annot", both, r'is not a binary mask; .*"lh.aparc.annot:V1"'),
        ("sphere(0, 0, 0, 5)", both, "a sphere in mm needs a volume"),
    ]:
        with pytest.raises(InputError, match=message):
            read_regions({"x": definition}, grid, folder=tmp_path)
    cut = tmp_path / "lh.cut.label"
    lines = (tmp_path / "lh.V1.label").read_text().splitlines()
    cut.write_text("\n".join(lines[:-3]))
    with pytest.raises(InputError, match=r"promises 20 vertices and lists 17; it is cut off"):
        read_regions({"x": cut}, both)
    volume = save(tmp_path / "V1.nii.gz", np.ones((2, 2, 2), dtype=np.uint8))
    with pytest.raises(
        InputError, match=r"V1.nii.gz is a volume but a_hemi-L_bold.func.gii is of surf"
    ):
        read_regions({"x": volume}, both)
    image = nibabel.load(tmp_path / "hemi-L_dseg.label.gii")
    image.labeltable.labels.pop()
    nibabel.save(image, tmp_path / "hemi-L_short.label.gii")
    with pytest.warns(
        UserWarning, match=r"labels without a name in its table: 6; they are in no region"
    ):
        read_regions({"x": "hemi-L_short.label.gii:V1"}, both, folder=tmp_path)


FUZZED = (
    "lh.aparc.annot:V1",
    "hemi-L_dseg.label.gii:V1",
    "lh.V1.label",
    "lh.map.mgz > 0",
    "v.nii.gz:1",
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzzed")
    keys = np.arange(60) % 3
    surface_files(folder, "L", ["unknown", "V1", "V2"], keys)
    values = keys.astype(np.float32).reshape(-1, 1, 1)
    nibabel.save(nibabel.MGHImage(values, np.eye(4)), folder / "lh.map.mgz")
    save(folder / "v.nii.gz", (np.arange(60) % 3).astype(np.uint8).reshape(5, 4, 3))
    (folder / "v.tsv").write_text("index\tname\n1\tV1\n2\tV2\n")
    return folder


@pytest.mark.parametrize("definition", FUZZED)
@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_raise_nothing_but_our_error(fuzzed, definition, data):
    file = definition.split(":")[0].split(" ")[0]
    contents = bytearray((fuzzed / file).read_bytes())
    if data.draw(st.booleans()):
        contents = contents[: data.draw(st.integers(0, len(contents) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, len(contents) - 1))
            contents[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = fuzzed / "damaged"
    damaged.mkdir(exist_ok=True)
    (damaged / file).write_bytes(bytes(contents))
    grid = surface_grid("a_hemi-L_bold.func.gii", {"L": 60})
    if file.endswith(".nii.gz"):
        grid = fuzzed / file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            masks = read_regions({"x": definition}, grid, folder=damaged).masks
        except InputError:
            return
    assert masks["x"].any()


# ----------------------------------------------------------------------------------------- real atlas


@pytest.mark.data
def test_the_atlas_volume_gives_its_known_sizes(shared_data, tmp_path):
    atlas = shared_data / "atlas" / "wang15_visual_rois_MNI152_2mm.nii.gz"
    counts = {"V1": 1812, "V2": 1595, "V3": 986, "hV4": 328, "LO1": 227, "LO2": 197}
    definitions = {roi: f"{atlas}:{number}" for number, roi in enumerate(counts, start=1)}
    regions = read_regions({**definitions, "LO": "LO1 + LO2"}, atlas, only=list(counts))
    assert {roi: int(mask.sum()) for roi, mask in regions.masks.items()} == counts
    joined = read_regions({**definitions, "LO": "LO1 + LO2"}, atlas, only=["LO"])
    assert joined.masks["LO"].sum() == 227 + 197
    from nilearn.image import resample_img

    grid = np.diag([3.0, 3, 3, 1])
    grid[:3, 3] = [-78, -112, -70]
    blank = save(tmp_path / "space-MNI152NLin2009cAsym_bold.nii", np.zeros((53, 63, 52)), grid)
    with pytest.warns(
        UserWarning, match=r"stores left and right the other way round than space-MNI"
    ):
        ours = read_regions(definitions, blank, resample="nearest")
    peer = resample_img(
        nibabel.load(atlas),
        target_affine=grid,
        target_shape=(53, 63, 52),
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    values = np.asarray(peer.dataobj)
    for number, mask in enumerate(ours.masks.values(), start=1):
        np.testing.assert_array_equal(mask, values == number)


@pytest.mark.data
def test_maps_in_the_layout_of_neuropythy_give_the_areas_of_the_atlas(
    shared_data, tmp_path, monkeypatch
):
    """The files are laid out and called as in neuropythy 0.13.0."""
    surfaces = tmp_path / "neuropythy" / "lib" / "data" / "fsaverage" / "surf"
    surfaces.mkdir(parents=True)
    (tmp_path / "neuropythy" / "__init__.py").write_text("raise RuntimeError('imported')")
    expected = []
    with h5py.File(shared_data / "atlas" / "visual_rois_fsaverage.h5") as file:
        for side in ("lh", "rh"):
            for stored, name in (
                ("wang15", "wang15_mplbl.v1_0"),
                ("benson14_varea", "benson14_varea.v4_0"),
            ):
                values = file[side][stored][:].astype(np.int32).reshape(-1, 1, 1)
                nibabel.save(nibabel.MGHImage(values, np.eye(4)), surfaces / f"{side}.{name}.mgz")
            expected.append(file[side]["rois_wang15"][:10242])
            expected.append(file[side]["rois_benson14"][:10242])
    grid = surface_grid("sub-01_hemi-L_space-fsaverage5_bold.func.gii", {"L": 10242, "R": 10242})
    with pytest.raises(
        InputError, match=r"no map wang15_mplbl of an installed neuropythy; install"
    ):
        read_regions({"V1": "wang15(V1)"}, grid)
    monkeypatch.syspath_prepend(tmp_path)
    wang = np.concatenate(expected[::2])
    benson = np.concatenate(expected[1::2])
    names = ["V1", "V2", "V3", "hV4", "LO1", "LO2"]
    with pytest.warns(UserWarning, match=r"neuropythy .* \(license AGPL-3.0\); cite Wang"):
        regions = read_regions({name: f"wang15({name})" for name in names}, grid)
    for number, name in enumerate(names, start=1):
        np.testing.assert_array_equal(regions.masks[name], wang == number)
    with pytest.warns(UserWarning, match=r"cite Benson"):
        regions = read_regions({name: f"benson14({name})" for name in names}, grid)
    for number, name in enumerate(names, start=1):
        np.testing.assert_array_equal(regions.masks[name], benson == number)
    whole = surface_grid("a.gii", {"L": 163842, "R": 163842}, "fsaverage")
    file = surfaces / "lh.benson14_varea.v4_0.mgz"
    assert read_regions({"LO": f"{file}:LO1 + {file}:LO2"}, whole).masks["LO"].sum() == 973 + 717
    with pytest.raises(InputError, match=r"unknown region of wang15 'V9'"):
        read_regions({"V9": "wang15(V9)"}, grid)
    other = surface_grid("a_hemi-L_space-fsLR_bold.func.gii", {"L": 32492})
    with pytest.raises(InputError, match=r"is an atlas of fsaverage, and a_hemi-L_space-fsLR"):
        read_regions({"V1": "wang15(V1)"}, other)


def test_regions_are_tables_too(brain):
    regions = read_regions({"LO": "sub-01_dseg.nii.gz:LO1"}, brain / "image.nii.gz", folder=brain)
    assert isinstance(regions.table, pd.DataFrame)
    row = regions.table.iloc[0]
    assert (row["roi"], row["n_voxels"], row["n_lost"], row["resample"]) == ("LO", 75, 0, "never")
    assert "LO" in repr(regions)


@pytest.mark.data
def test_real_masks_are_cut_and_joined(shared_data):
    folder = shared_data / "haxby_1slice" / "sub-001"
    masks = {
        path.name: path for path in sorted(folder.rglob("*res-25mm*")) if "bold" not in path.name
    }
    bold = sorted(folder.rglob("*run-01_res-25mm_bold.nii.gz"))[0]
    files = {
        roi: next(path for name, path in masks.items() if roi in name) for roi in ("vt", "gray")
    }
    values = {roi: np.asarray(nibabel.load(path).dataobj) > 0 for roi, path in files.items()}
    definitions = {**files, "both": "vt & gray", "rest": "gray - vt"}
    regions = read_regions(definitions, bold, only=["both", "rest"])
    np.testing.assert_array_equal(regions.masks["both"], values["vt"] & values["gray"])
    np.testing.assert_array_equal(regions.masks["rest"], values["gray"] & ~values["vt"])
