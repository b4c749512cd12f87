"""Betas made elsewhere: small files as each program writes them, and BIDS derivatives."""

from __future__ import annotations

import json

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import (
    SingleTrialOptions,
    estimate_betas,
    read_beta_images,
    read_bids_betas,
    read_published,
    read_runs,
    write_bids_betas,
)
from fmri.betas.single_trials import chosen_on_all_runs
from neurometamer.errors import InputError

SHAPE = (4, 3, 2)
AFFINE = np.diag([2.0, 2.0, 2.5, 1.0])


@pytest.fixture
def betas():
    return np.random.default_rng(0).normal(size=(*SHAPE, 6)).astype(np.float32)


@pytest.fixture
def masks(tmp_path):
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1:3, 1, :] = 1
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "V1.nii")
    return {"V1": tmp_path / "V1.nii"}


@pytest.fixture
def table():
    return pd.DataFrame({"label": list("abcabn"), "run": [1, 1, 1, 2, 2, 2]}).replace("n", "n/a")


def expected(betas, volumes):
    return betas[1:3, 1][:, :, volumes].reshape(4, -1).T


def test_a_table_gives_the_ids_of_any_image(betas, masks, table, tmp_path):
    image = tmp_path / "sub-07_betas.nii.gz"
    nibabel.save(nibabel.Nifti1Image(betas, AFFINE), image)
    table.to_csv(tmp_path / "volumes.tsv", sep="\t", index=False)
    for volumes in (table, tmp_path / "volumes.tsv"):
        patterns = read_beta_images(image, masks, volumes=volumes)
        np.testing.assert_array_equal(patterns.values, expected(betas, [0, 1, 2, 3, 4]))
        shown = patterns.observations[["condition", "presentation", "run"]]
        assert shown.to_numpy().tolist() == [
            ["a", 1, "1"],
            ["b", 1, "1"],
            ["c", 1, "1"],
            ["a", 2, "2"],
            ["b", 2, "2"],
        ]
    assert patterns.subject == "07"
    for change, message in (
        ({"volumes": None}, "does not say which stimulus"),
        ({"volumes": table[:4]}, "6 volumes, but the table of volumes 4 rows"),
        ({"condition_column": "image"}, "no column 'image'"),
        ({"volumes": table.assign(label="n/a")}, "no volume of"),
        ({"unusable": "keep"}, "unusable 'keep'"),
    ):
        with pytest.raises(InputError, match=message):
            read_beta_images(image, masks, **({"volumes": table} | change))


def test_glmsingle_writes_hdf5(betas, masks, table, tmp_path):
    random = np.random.default_rng(8)
    file = tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.hdf5"
    with h5py.File(file, "w") as written:
        written["betasmd"] = betas
        written["pcnum"] = 3
        written["FRACvalue"] = fractions = random.uniform(0.1, 1, SHAPE)
        written["HRFindex"] = shapes = random.integers(0, 3, SHAPE)
    patterns = read_beta_images(file, masks, volumes=table)
    index = tuple(patterns.voxels[["i", "j", "k"]].to_numpy().T)
    np.testing.assert_array_equal(patterns.voxels["fraction"], fractions[index])
    np.testing.assert_array_equal(patterns.voxels["hrf_index"], shapes[index])
    once = ~patterns.voxels.duplicated(["i", "j", "k"]).to_numpy()
    names, counts = np.unique(shapes[index][once], return_counts=True)
    told = patterns.provenance["hrf"]["n_voxels"]
    assert told == {f"HRFindex {name}": count for name, count in zip(names, counts, strict=True)}
    assert patterns.provenance["noise"] == {"n_regressors": 3}
    # six decimals are kept
    quarters = np.quantile(fractions[index][once], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(patterns.provenance["shrinkage"]["fractions"], quarters, atol=1e-6)
    np.testing.assert_array_equal(patterns.values, expected(betas, [0, 1, 2, 3, 4]))
    assert chosen_on_all_runs(patterns.provenance) == ("denoised", "shrunken")
    # fitted on a list of voxels: the mask that made the list says where they lie
    brain = np.zeros(SHAPE, dtype=np.uint8)
    brain[1:] = 1
    nibabel.save(nibabel.Nifti1Image(brain, AFFINE), tmp_path / "brain.nii")
    listed = tmp_path / "TYPEB_FITHRF.hdf5"
    with h5py.File(listed, "w") as written:
        written["betasmd"] = betas[brain > 0].reshape(-1, 1, 1, 6)
        written["HRFindex"] = shapes[brain > 0].reshape(-1, 1, 1)
    placed = read_beta_images(listed, masks, volumes=table, grid=tmp_path / "brain.nii")
    np.testing.assert_array_equal(placed.values, patterns.values)
    assert chosen_on_all_runs(placed.provenance) == ()
    assert placed.provenance["hrf"] == patterns.provenance["hrf"]
    assert "fraction" not in placed.voxels and "noise" not in placed.provenance
    for name, wrong, message in (
        ("FRACvalue", np.ones(4), r"'FRACvalue' has the shape \(4,\), but 'betasmd'"),
        ("pcnum", [1, 2], r"'pcnum' has the shape \(2,\)"),
    ):
        spoiled = tmp_path / f"TYPED_{name}.hdf5"
        with h5py.File(spoiled, "w") as written:
            written["betasmd"] = betas
            written[name] = wrong
        with pytest.raises(InputError, match=message):
            read_beta_images(spoiled, masks, volumes=table)
    with pytest.raises(InputError, match="a list of 18 voxels; give the mask"):
        read_beta_images(listed, masks, volumes=table)
    with pytest.raises(InputError, match=r"holds 18 voxels, but V1\.nii"):
        read_beta_images(listed, masks, volumes=table, grid=masks["V1"])


def test_pickled_glmsingle_is_refused_with_the_reason(masks, table, tmp_path):
    file = tmp_path / "TYPED_FITHRF_GLMDENOISE_RR.npy"
    np.save(file, {"betasmd": 1}, allow_pickle=True)
    with pytest.raises(InputError, match=r"pickled Python objects.*wanthdf5"):
        read_beta_images(file, masks, volumes=table)


def spm_folder(folder, betas, names):
    from scipy.io import savemat

    folder.mkdir()
    for number in range(betas.shape[3]):
        image = nibabel.Nifti1Image(betas[..., number], AFFINE)
        nibabel.save(image, folder / f"beta_{number + 1:04d}.nii")
    savemat(folder / "SPM.mat", {"SPM": {"xX": {"name": np.array(names, dtype=object)}}})
    return folder


def test_spm_names_its_betas(betas, masks, tmp_path):
    names = [
        "Sn(1) cat*bf(1)",
        "Sn(1) cup one*bf(1)",
        "Sn(1) R1",
        "Sn(2) cat*bf(1)",
        "Sn(2) catxrt^1*bf(1)",
        "Sn(2) constant",
    ]
    folder = spm_folder(tmp_path / "spm", betas, names)
    patterns = read_beta_images(folder, masks, subject="S1")
    np.testing.assert_array_equal(patterns.values, expected(betas, [0, 1, 3]))
    shown = patterns.observations[["condition", "presentation", "run"]]
    assert shown.to_numpy().tolist() == [["cat", 1, "1"], ["cup one", 1, "1"], ["cat", 2, "2"]]
    (folder / "beta_0003.nii").unlink()
    with pytest.raises(InputError, match=r"5 files beta_.* for the 6 columns"):
        read_beta_images(folder, masks)
    (folder / "SPM.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    with pytest.raises(InputError, match=r"MATLAB 7\.3"):
        read_beta_images(folder, masks)
    (folder / "SPM.mat").write_bytes(b"nonsense" * 20)
    with pytest.raises(InputError, match=r"is not an SPM\.mat"):
        read_beta_images(folder, masks)


def test_afni_labels_its_subbricks(betas, masks, tmp_path):
    labels = ["Full_Fstat", "cat#0_Coef", "cat#0_Tstat", "cup#0_Coef", "cat#1_Coef", "cat_Fstat"]
    joined = "~".join(labels)
    text = (
        '<?xml version="1.0" ?>\n<AFNI_attributes self_idcode="x" ni_form="ni_group" >\n'
        '<AFNI_atr ni_type="String" ni_dimen="1" atr_name="BRICK_LABS" >\n'
        f' "{joined}"\n</AFNI_atr>\n</AFNI_attributes>\n'
    )
    image = nibabel.Nifti1Image(betas, AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("afni", text.encode()))
    nibabel.save(image, tmp_path / "stats.nii")
    head = tmp_path / "stats+orig.HEAD"
    head.write_text(_afni_header(joined))
    # AFNI's grid runs from left to right and front to back: x and y change sign
    (tmp_path / "stats+orig.BRIK").write_bytes(betas.astype("<f4").tobytes(order="F"))
    for file in (tmp_path / "stats.nii", head):
        patterns = read_beta_images(file, masks)
        np.testing.assert_array_equal(patterns.values, expected(betas, [1, 3, 4]))
        assert list(patterns.observations["condition"]) == ["cat", "cup", "cat"]
        assert list(patterns.observations["presentation"]) == [1, 1, 2]


def _afni_header(labels):
    attributes = {
        "DATASET_RANK": ("integer", "3 6"),
        "DATASET_DIMENSIONS": ("integer", "4 3 2 0 0"),
        "TYPESTRING": ("string", "3DIM_HEAD_FUNC"),
        "SCENE_DATA": ("integer", "0 11 1"),
        "ORIENT_SPECIFIC": ("integer", "1 2 4"),
        "ORIGIN": ("float", "0 0 0"),
        "DELTA": ("float", "-2 -2 2.5"),
        "BRICK_TYPES": ("integer", " ".join(["3"] * 6)),
        "BRICK_FLOAT_FACS": ("float", " ".join(["0"] * 6)),
        "BYTEORDER_STRING": ("string", "LSB_FIRST"),
        "TEMPLATE_SPACE": ("string", "ORIG"),
        "BRICK_LABS": ("string", labels),
        "IJK_TO_DICOM_REAL": ("float", "-2 0 0 0 0 -2 0 0 0 0 2.5 0"),
    }
    lines = []
    for name, (kind, value) in attributes.items():
        count = len(value) + 1 if kind == "string" else len(value.split())
        text = f"'{value}~" if kind == "string" else f" {value}"
        lines.append(f"\ntype = {kind}-attribute\nname = {name}\ncount = {count}\n{text}\n")
    return "".join(lines)


def test_masks_on_another_grid_and_unknown_files_are_refused(betas, masks, table, tmp_path):
    image = tmp_path / "betas.nii"
    moved = AFFINE.copy()
    moved[0, 3] = 2
    nibabel.save(nibabel.Nifti1Image(betas, moved), image)
    with pytest.raises(InputError, match="resample the mask yourself"):
        read_beta_images(image, masks, volumes=table)
    with pytest.raises(InputError, match=r"glmsingle: .*spm: .*afni: "):
        read_beta_images(tmp_path / "betas.mat", masks)
    betas[1, 1, 0, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(betas, AFFINE), image)
    with pytest.raises(InputError, match="without betas: V1 1"):
        read_beta_images(image, masks, volumes=table)
    kept = read_beta_images(image, masks, volumes=table, unusable="drop")
    assert kept.values.shape == (5, 3)
    nibabel.save(nibabel.Nifti1Image(np.full_like(betas, np.nan), AFFINE), image)
    with pytest.raises(InputError, match=r"no usable voxel is left in ROI\(s\) V1"):
        read_beta_images(image, masks, volumes=table, unusable="drop")
    nibabel.save(nibabel.Nifti1Image(betas, AFFINE), image)
    image.write_bytes(image.read_bytes()[:700])
    with pytest.raises(InputError):
        read_beta_images(image, masks, volumes=table)


def test_derivatives_are_read_back_equal(simulated, simulated_patterns, tmp_path):
    maps = write_bids_betas(simulated_patterns, tmp_path, space="T1w")
    assert [path.relative_to(tmp_path).as_posix() for path in maps] == [
        "sub-01/func/sub-01_task-images_space-T1w_stat-effect_desc-Singletrial_statmap.nii.gz"
    ]
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    again = read_bids_betas(tmp_path, simulated.masks, subject="sub-01")
    np.testing.assert_array_equal(again.values, simulated_patterns.values.astype(np.float32))
    pd.testing.assert_frame_equal(again.observations, simulated_patterns.observations)
    pd.testing.assert_frame_equal(again.voxels, simulated_patterns.voxels)
    assert again.provenance["settings"] == simulated_patterns.provenance["settings"]
    trials = pd.read_csv(next(tmp_path.rglob("*_trials.tsv")), sep="\t")
    assert trials["beta_index"].tolist() == list(range(len(simulated_patterns)))
    with pytest.raises(InputError, match=r"no .*statmap\.nii\.gz of sub-02"):
        read_bids_betas(tmp_path, simulated.masks, subject="02")
    with pytest.raises(InputError, match="no BIDS labels"):
        write_bids_betas(simulated_patterns, tmp_path, task="my task")


def names_of(masks):
    return {name: str(path) for name, path in masks.items()}


def test_sessions_have_maps_of_their_own(betas, masks, tmp_path):
    for session in ("01", "02"):
        folder = tmp_path / "sub-1" / f"ses-{session}" / "func"
        folder.mkdir(parents=True)
        start = f"sub-1_ses-{session}_task-images"
        image = nibabel.Nifti1Image(betas + int(session), AFFINE)
        name = f"{start}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        nibabel.save(image, folder / name)
        trials = pd.DataFrame({"beta_index": range(6), "run": 1, "label": list("abcdef")})
        trials.to_csv(folder / f"{start}_desc-SingletrialBetas_trials.tsv", sep="\t", index=False)
    patterns = read_bids_betas(tmp_path, masks, subject="1")
    both = [expected(betas + session, range(6)) for session in (1, 2)]
    np.testing.assert_array_equal(patterns.values, np.concatenate(both))
    assert patterns.observations["session"].tolist() == ["01"] * 6 + ["02"] * 6
    assert patterns.observations["presentation"].tolist() == [1] * 6 + [2] * 6
    written = write_bids_betas(patterns, tmp_path / "again")
    assert [path.parts[-3] for path in written] == ["ses-01", "ses-02"]
    published = read_published(tmp_path / "sub-1", "statmaps", rois=names_of(masks))
    np.testing.assert_array_equal(published.values, patterns.values)
    assert published.conditions == patterns.conditions
    table = next(folder.glob("*_trials.tsv"))
    text = table.read_text()
    table.write_text(text.replace("\n0\t", "\n1\t"))
    with pytest.raises(InputError, match="beta_index is not 0 to 5 in order"):
        read_bids_betas(tmp_path, masks, subject="1")
    table.write_text(text)
    table.rename(table.with_name("sub-1_ses-03_trials.tsv"))
    with pytest.raises(InputError, match="0 tables of trials"):
        read_bids_betas(tmp_path, masks, subject="1")


def test_shrunken_betas_are_refused_for_crossvalidated_distances(simulated, tmp_path):
    from neurometamer.rsa import compute_rdms, pattern_rdms, run_responses

    runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    masks = {"V1": simulated.masks["V1"]}
    options = SingleTrialOptions(shrinkage=0.5)
    betas = estimate_betas(runs, masks, noise_model="ols", single_trials=options)
    write_bids_betas(betas, tmp_path)
    again = read_bids_betas(tmp_path, masks, subject="01")
    ids = list(betas.conditions)
    stimuli = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    for patterns in (betas, again):
        with pytest.raises(InputError, match=r"these betas are shrunken.*--allow-chosen"):
            pattern_rdms({"S1": patterns}, stimuli, measure="crossnobis", noise="none")
        with pytest.raises(InputError, match=r"searchlight: .* shrunken"):
            run_responses(patterns, patterns.values, noise="none")
    allowed = {"measure": "crossnobis", "noise": "none", "allow_chosen": True}
    for rdms in (
        pattern_rdms({"S1": betas}, stimuli, **allowed),
        compute_rdms({"S1": betas}, **allowed),
    ):
        assert rdms.dissimilarity_measure == "crossnobis of shrunken betas"
    assert compute_rdms({"S1": betas}).dissimilarity_measure == "1 - Spearman"
