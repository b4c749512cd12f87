"""Published layouts: small files as the data sets document them, written here, and read back."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from fmri import read_patterns, read_published, write_patterns
from fmri.betas.single_trials import check_independent_runs, chosen_on_all_runs
from fmri.formats import FORMATS, plan_published
from neurometamer.errors import InputError
from neurometamer.rsa import pattern_rdms

GRID = (5, 6, 4)
N_TRIALS = 750
LABELS = {"V1v": 1, "V1d": 2, "hV4": 7, "ecc4+": 9}


# ---------------------------------------------------------------------------------------- writers


def write_nsd(root: Path, chunks="voxel", design="table", n_sessions=2) -> tuple[Path, np.ndarray]:
    """Write a small tree of NSD; return the folder of betas and those, X × Y × Z × trials × sessions."""
    rng = np.random.default_rng(4)
    folder = root / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    rois = root / "nsddata/ppdata/subj01/func1pt8mm/roi"
    names = root / "nsddata/freesurfer/subj01/label"
    for made in (folder, rois, names):
        made.mkdir(parents=True)
    stored = rng.integers(-3000, 3000, size=(n_sessions, N_TRIALS, *GRID[::-1])).astype(np.int16)
    stored[:, :, 0, 0, 0] = 0  # outside of the brain mask
    layout = {"voxel": (N_TRIALS, 1, 1, 1), "trial": (1, *GRID[::-1]), "none": None}[chunks]
    for session in range(n_sessions):
        with h5py.File(folder / f"betas_session{session + 1:02d}.hdf5", "w") as file:
            file.create_dataset("betas", data=stored[session], chunks=layout)
    codes = np.zeros(GRID, dtype=np.int16) - 1
    codes[1:4, 2:5, 1:3] = 0
    codes[1, 2, 1], codes[3, 4, 2], codes[2, 2, 1] = 1, 1, 2
    codes[2, 3:5, 1], codes[3, 2, 2] = 7, 9
    affine = np.diag([-1.8, 1.8, 1.8, 1.0])
    nibabel.save(nibabel.Nifti1Image(codes, affine), rois / "prf-visualrois.nii.gz")
    general = (codes >= 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(general, affine), rois / "nsdgeneral.nii.gz")
    lines = ["0 Unknown", *(f"{code} {name}" for name, code in LABELS.items()), ""]
    (names / "prf-visualrois.mgz.ctab").write_text("\n".join(lines))
    (names / "Kastner2015.mgz.ctab").write_text("1 V1v\tvisual area 1\n")
    write_design(root, design, n_sessions)
    betas = stored.reshape(n_sessions * N_TRIALS, *GRID[::-1]).transpose(3, 2, 1, 0)
    return folder, betas / np.float32(300)


def write_design(root: Path, design: str, n_sessions: int) -> None:
    """Write which image was shown when: as table, as MATLAB file, or both."""
    rng = np.random.default_rng(7)
    order = rng.integers(1, 500, size=n_sessions * N_TRIALS)
    images = rng.choice(73000, size=(8, 10000)) + 1
    if design in ("matlab", "both"):
        folder = root / "nsddata/experiments/nsd"
        folder.mkdir(parents=True)
        savemat(
            folder / "nsd_expdesign.mat",
            {"masterordering": order[None].astype(np.float64), "subjectim": images.astype(float)},
        )
    if design in ("table", "both"):
        folder = root / "nsddata/ppdata/subj01/behav"
        folder.mkdir(parents=True)
        runs = np.repeat(np.arange(1, 13), [63, 62] * 6)
        table = pd.DataFrame(
            {
                "SUBJECT": 1,
                "SESSION": np.repeat(np.arange(1, n_sessions + 1), N_TRIALS),
                "RUN": np.tile(runs, n_sessions),
                "73KID": images[0, order - 1],
                "10KID": order,
                "RT": np.nan,
            }
        )
        table.to_csv(folder / "responses.tsv", sep="\t", index=False)


def write_bdata(path: Path, old=False, chunks=None) -> np.ndarray:
    """Write a BData file of 12 samples and 7 voxels; return the voxels."""
    rng = np.random.default_rng(1)
    voxels = rng.normal(size=(12, 7))
    stimuli = np.array([1, 2, 3, np.nan] * 3)
    matrix = np.column_stack([voxels, np.repeat([1, 2, 3], 4), np.repeat([1, 2], 6), stimuli])
    nothing = np.full(10, np.nan)
    marks = {
        "VoxelData": [1] * 7,
        "Run": {7: 1},
        "Session": {8: 1},
        "stimulus_name": {9: 1},
        "ROI_V1": [1, 1, 0, 0, 0, 0, 1],
        "ROI_LO": [0, 0, 0, 1, 1, 0, 0],
        "voxel_i": [4, 5, 6, 7, 8, 9, 10],
        "voxel_j": [1] * 7,
        "voxel_k": [0, 2, 0, 2, 0, 2, 0],
    }
    rows = []
    for marked in marks.values():
        row = nothing.copy()
        if isinstance(marked, dict):
            row[list(marked)] = list(marked.values())
        else:
            row[:7] = marked
        rows.append(row)
    about = "metaData" if old else "metadata"
    with h5py.File(path, "w") as file:
        file.create_dataset("dataSet" if old else "dataset", data=matrix, chunks=chunks)
        file[f"{about}/key"] = [name.encode() for name in marks]
        file[f"{about}/description"] = [b"about"] * len(marks)
        file[f"{about}/value"] = np.array(rows)
        for number, label in ((1, b"n01_cat"), (2, b"n02_cup"), (3, b"n03_dog")):
            file[f"vmap/stimulus_name/{float(number)}"] = label
    return voxels


def write_things(folder: Path, subject="01", pickled=False) -> tuple[np.ndarray, pd.DataFrame]:
    """Write THINGS-fMRI in table format, in the layout of ``DataFrame.to_hdf``."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(9, 20))
    ids = np.arange(100, 109)
    rng.shuffle(ids)
    with h5py.File(folder / f"sub-{subject}_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group.attrs["pandas_type"] = np.bytes_("frame")
        group["axis1"] = np.arange(9)
        group["block0_values"] = values
        if pickled:
            names = group.create_dataset("block0_items", (1,), dtype=h5py.vlen_dtype(np.uint8))
            names[0] = np.frombuffer(b"\x80\x05nothing is unpickled.", dtype=np.uint8)
        else:
            group["block0_items"] = [str(number).encode() for number in range(20)]
        group["block1_items"] = [b"voxel_id"]
        group["block1_values"] = ids[:, None]
    voxels = pd.DataFrame({"voxel_id": ids, "voxel_x": np.arange(9), "voxel_y": 3, "voxel_z": 5})
    voxels["nc_testset"] = np.linspace(0, 40, 9)
    voxels["prf-size"] = 1.5
    voxels["V1"] = [1, 0, 0, 1, 0, 0, 1, 0, 0]
    voxels["glasser-FFC"] = [0, 0, 0, 1, 1, 0, 0, 0, 0]
    voxels["subject_id"] = 1
    voxels = voxels.sample(frac=1, random_state=0)  # not in the order of the responses
    voxels.to_csv(folder / f"sub-{subject}_VoxelMetadata.csv", index=False)
    trials = pd.DataFrame(
        {
            "trial_type": ["train"] * 15 + ["test"] * 5,
            "session": np.repeat([1, 2], 10),
            "run": np.tile(np.repeat([1, 2], 5), 2),
            "stimulus": [f"dog_{number % 15:02d}b.jpg" for number in range(20)],
            "concept": "dog",
        }
    )
    trials.to_csv(folder / f"sub-{subject}_StimulusMetadata.csv", index=False)
    table = pd.DataFrame(values, index=ids)
    return table.loc[voxels["voxel_id"]].to_numpy(), voxels.reset_index(drop=True)


def write_maps(root: Path, subject="01") -> tuple[np.ndarray, dict[str, str]]:
    """Write maps of two sessions as LAION-fMRI does, and two masks."""
    rng = np.random.default_rng(3)
    affine = np.diag([1.8, 1.8, 1.8, 1.0])
    parts = []
    for session in ("01", "02"):
        folder = root / f"sub-{subject}" / f"ses-{session}" / "func"
        folder.mkdir(parents=True)
        start = f"sub-{subject}_ses-{session}_task-images"
        data = rng.normal(size=(*GRID, 8)).astype(np.float32)
        name = f"{start}_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz"
        nibabel.save(nibabel.Nifti1Image(data, affine), folder / name)
        other = f"{start}_space-T1w_stat-rsquare_desc-R2_statmap.nii.gz"
        nibabel.save(nibabel.Nifti1Image(data[..., 0], affine), folder / other)
        trials = {
            "session": session,
            "run": np.repeat([1, 2], 4),
            "beta_index": np.arange(8),
            "label": [f"shared_{number % 5}.jpg" for number in range(8)],
        }
        table = folder / f"{start}_desc-SingletrialBetas_trials.tsv"
        pd.DataFrame(trials).to_csv(table, sep="\t", index=False)
        parts.append(data)
    masks = {}
    for number, name in enumerate(("V1", "V2")):
        mask = np.zeros(GRID, dtype=np.uint8)
        mask[1:3, 1 + 2 * number : 3 + 2 * number, 2] = 1
        masks[name] = str(root / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, affine), masks[name])
    return np.concatenate(parts, axis=3), masks


# -------------------------------------------------------------------------------------------- NSD


@pytest.mark.parametrize("chunks", ["voxel", "trial", "none"])
def test_nsd_betas_are_those_at_the_voxels_of_the_roi_files(tmp_path, chunks):
    folder, betas = write_nsd(tmp_path, chunks)
    patterns = read_published(folder, rois=["V1=V1v + V1d", "hV4", "wide=prf-visualrois:ecc4+"])
    assert patterns.rois == ("V1", "hV4", "wide")
    assert patterns.subject == "subj01"
    ijk = patterns.voxels[["i", "j", "k"]].to_numpy()
    assert ijk.tolist() == [[1, 2, 1], [2, 2, 1], [3, 4, 2], [2, 3, 1], [2, 4, 1], [3, 2, 2]]
    np.testing.assert_array_equal(patterns.values, betas[tuple(ijk.T)].T)  # divided alike
    assert patterns.values.dtype == np.float32
    table = pd.read_csv(tmp_path / "nsddata/ppdata/subj01/behav/responses.tsv", sep="\t")
    assert patterns.observations["condition"].tolist() == table["73KID"].map(str).tolist()
    assert patterns.observations["run"].tolist() == table["RUN"].map(str).tolist()
    assert patterns.observations["session"].tolist() == ["01"] * N_TRIALS + ["02"] * N_TRIALS
    assert patterns.provenance["grid"]["shape"] == list(GRID)
    file = write_patterns(patterns, tmp_path / "patterns.h5")
    assert read_patterns(file).digest == patterns.digest


def test_nsd_design_as_table_and_as_matlab_file_say_the_same(tmp_path):
    for design in ("table", "matlab", "both"):
        write_nsd(tmp_path / design, design=design)
    digests = set()
    for design in ("table", "matlab", "both"):
        folder = next((tmp_path / design).glob("nsddata_betas/ppdata/*/*/*"))
        digests.add(read_published(folder, rois=["V1v"]).digest)
    assert len(digests) == 1
    table = tmp_path / "both/nsddata/ppdata/subj01/behav/responses.tsv"
    text = table.read_text().splitlines()
    first = text[1].split("\t")
    first[3] = "1"
    table.write_text("\n".join([text[0], "\t".join(first), *text[2:]]))
    with pytest.raises(InputError, match="differ in which image was shown"):
        read_published(folder, rois=["V1v"])


def test_nsd_reads_some_sessions_and_all_voxels_of_a_file_without_names(tmp_path):
    folder, betas = write_nsd(tmp_path)
    patterns = read_published(folder, "nsd", rois=["nsdgeneral"], sessions=["2"], ids="10KID")
    assert chosen_on_all_runs(patterns.provenance) == ("denoised", "shrunken")
    assert patterns.provenance["version"] == "b3"
    plain = folder.rename(folder.with_name("betas_fithrf"))
    patterns = read_published(plain, "nsd", rois=["nsdgeneral"], sessions=["2"], ids="10KID")
    assert chosen_on_all_runs(patterns.provenance) == ()
    assert patterns.provenance["version"] == "b2"
    assert patterns.values.shape == (N_TRIALS, 3 * 3 * 2)
    ijk = tuple(patterns.voxels[["i", "j", "k"]].to_numpy().T)
    np.testing.assert_array_equal(patterns.values, betas[ijk].T[N_TRIALS:])
    assert max(map(int, patterns.conditions)) < 500


def test_a_version_of_nsd_that_no_folder_tells_is_told_as_unknown(tmp_path):
    folder, _ = write_nsd(tmp_path)
    own = folder.rename(folder.with_name("betas_mine"))
    record = read_published(own, "nsd", rois=["nsdgeneral"]).provenance
    assert (record["version"], record["folder"]) == ("unknown", "betas_mine")
    with pytest.raises(InputError, match="are perhaps denoised or shrunken by what was chosen"):
        check_independent_runs(record, "S1")
    of = check_independent_runs(record, "S1", allow_chosen=True)
    assert of == " of perhaps denoised or shrunken betas"


def test_published_betas_that_were_chosen_on_all_runs_say_so(tmp_path):
    """THINGS-fMRI and LAION-fMRI; crossvalidated distances refuse them unless asked."""
    (tmp_path / "things").mkdir()
    write_things(tmp_path / "things")
    masks = write_maps(tmp_path / "maps")[1]
    things = read_published(tmp_path / "things")
    maps = read_published(tmp_path / "maps", rois=masks)
    ids = list(things.conditions)
    stimuli = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    for patterns in (things, maps):
        assert chosen_on_all_runs(patterns.provenance) == ("denoised", "shrunken")
        with pytest.raises(InputError, match="are denoised and shrunken by what was chosen on"):
            check_independent_runs(patterns.provenance, "S1")
    with pytest.raises(InputError, match="crossvalidated distances take runs for independent"):
        pattern_rdms({"S1": things}, stimuli, measure="crossnobis", noise="none")


def test_maps_of_a_plain_model_are_not_marked(tmp_path):
    """Their sidecars say how betas were made, whatever the maps are called."""
    masks = write_maps(tmp_path)[1]
    for file in tmp_path.rglob("*_stat-effect_*.nii.gz"):
        sidecar = file.with_name(file.name.replace(".nii.gz", ".json"))
        sidecar.write_text(json.dumps({"Provenance": {"step": "estimate_betas"}}))
    patterns = read_published(tmp_path, rois=masks)
    assert chosen_on_all_runs(patterns.provenance) == ()


@pytest.mark.parametrize(
    ("rois", "message"),
    [
        ([], "which ROIs of subj01"),
        (["V1"], "unknown ROI 'V1'; did you mean 'V1v'"),
        (["streams:early"], "unknown ROI file 'streams'"),
        (["prf-visualrois:V9"], "unknown label of prf-visualrois 'V9'"),
        (["V1=V1v + "], "incomplete"),
        (["V1v", "V1v"], "more than once"),
        (["LO=V1v + LO"], "unknown ROI 'LO'"),
    ],
)
def test_nsd_regions_that_are_not_there_are_named(tmp_path, rois, message):
    folder, _ = write_nsd(tmp_path, n_sessions=1)
    with pytest.raises(InputError, match=message):
        read_published(folder, rois=rois)


def test_nsd_files_that_are_not_as_documented_are_refused(tmp_path):
    folder, _ = write_nsd(tmp_path, n_sessions=1)
    file = folder / "betas_session01.hdf5"
    kept = file.read_bytes()
    with h5py.File(file, "r+") as opened:
        data = opened["betas"][...]
        del opened["betas"]
        opened["betas"] = data.astype(np.float32)
    with pytest.raises(InputError, match="'betas' is float32 of 4 axes"):
        read_published(folder, rois=["V1v"])
    with h5py.File(file, "r+") as opened:
        del opened["betas"]
        opened["betas"] = data.transpose(0, 3, 2, 1)
    with pytest.raises(InputError, match=r"'betas' has the grid \(5, 6, 4\)"):
        read_published(folder, rois=["V1v"])
    with h5py.File(file, "r+") as opened:
        del opened["betas"]
        opened["betas"] = data[:-1]
    with pytest.raises(InputError, match="holds 749 trials"):
        read_published(folder, rois=["V1v"])
    file.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(InputError, match=r"betas_session01.hdf5 is not an HDF5 file"):
        read_published(folder, rois=["V1v"])
    file.write_bytes(kept)
    with pytest.raises(InputError, match="no session 3; it has 01"):
        read_published(folder, rois=["V1v"], sessions=["3"])
    codes = tmp_path / "nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"
    codes.write_text("1 V1v\n2 V1d\n")
    with pytest.raises(InputError, match=r"holds code\(s\) 7, 9 that no .ctab names"):
        read_published(folder, rois=["V1v"])
    text = codes.read_text()
    codes.unlink()
    with pytest.raises(InputError, match=r"holds code\(s\) 1, 2, 7, 9 that no .ctab names"):
        read_published(folder, rois=["prf-visualrois"])
    codes.write_text(text)
    codes.write_text("V1v 1\n")
    with pytest.raises(InputError, match="line 1"):
        read_published(folder, rois=["V1v"])
    (tmp_path / "nsddata/ppdata/subj01/behav/responses.tsv").unlink()
    with pytest.raises(InputError, match=r"nothing says which images \(73KID\) subj01 saw"):
        read_published(folder, rois=["V1v"])
    with pytest.raises(InputError, match="does not lie in nsddata_betas/ppdata/subjNN"):
        read_published(shutil.move(folder, tmp_path / "betas"), "nsd", rois=["V1v"])


def test_voxels_outside_of_the_brain_mask_are_refused_or_dropped_and_listed(tmp_path):
    folder, _ = write_nsd(tmp_path, n_sessions=1)
    roi = tmp_path / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones(GRID, np.int16), np.eye(4)), roi)
    with pytest.raises(InputError, match="1 constant in nsdgeneral"):
        read_published(folder, rois=["nsdgeneral"])
    patterns = read_published(folder, rois=["nsdgeneral"], unusable="drop")
    assert len(patterns.voxels) == np.prod(GRID) - 1
    assert patterns.provenance["dropped"] == [
        {"roi": "nsdgeneral", "ijk": [0, 0, 0], "why": "constant"}
    ]


# ------------------------------------------------------------------------------------------ BData


def test_a_file_that_is_cut_off_is_called_damaged_before_all_else(tmp_path):
    path = tmp_path / "Subject1.h5"
    write_bdata(path, False, None)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"Subject1.h5 is damaged or cut off \(.*truncated"):
        read_published(path)


@pytest.mark.parametrize(("old", "chunks"), [(False, None), (True, (4, 3)), (False, (12, 1))])
def test_bdata_samples_without_a_stimulus_are_left_out(tmp_path, old, chunks):
    path = tmp_path / "Subject1.h5"
    voxels = write_bdata(path, old, chunks)
    with pytest.warns(UserWarning, match="3 of 12 samples have no stimulus"):
        patterns = read_published(path)
    rows = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    np.testing.assert_array_equal(patterns.select(roi="V1").values, voxels[rows][:, [0, 1, 6]])
    np.testing.assert_array_equal(patterns.select(roi="LO").values, voxels[rows][:, [3, 4]])
    assert patterns.observations["condition"].tolist() == ["n01_cat", "n02_cup", "n03_dog"] * 3
    assert patterns.observations["run"].tolist() == list("111222333")
    assert patterns.observations["session"].tolist() == list("111112222")
    assert patterns.voxels[["i", "j", "k"]].to_numpy()[2].tolist() == [10, 1, 0]
    assert patterns.subject == "Subject1"


def test_bdata_is_what_bdpy_writes_and_selects(tmp_path):
    bdpy = pytest.importorskip("bdpy", reason="bdpy is not installed")
    made = bdpy.BData()
    rng = np.random.default_rng(0)
    made.add(rng.normal(size=(30, 50)), "VoxelData")
    made.add(np.repeat([1.0, 2.0, 3.0], 10)[:, None], "Run")
    made.add(rng.integers(1, 4, size=(30, 1)).astype(float), "stimulus_name")
    for name in ("ROI_V1", "ROI_V2"):
        made.add_metadata(name, rng.integers(0, 2, size=50), "", where="VoxelData")
    made.add_vmap("stimulus_name", {1.0: "cat", 2.0: "cup", 3.0: "dog"})
    made.save(str(tmp_path / "sub-07.h5"))
    patterns = read_published(tmp_path / "sub-07.h5", rois=["V1", "V2", "V=ROI_V1 + ROI_V2"])
    for roi, selected in (("V1", "ROI_V1"), ("V2", "ROI_V2"), ("V", "ROI_V1 + ROI_V2")):
        np.testing.assert_array_equal(patterns.select(roi=roi).values, made.select(selected))
    assert patterns.observations["condition"].tolist() == made.get_labels("stimulus_name")
    assert patterns.subject == "07"


def change(path: Path, name: str, value) -> None:
    with h5py.File(path, "r+") as file:
        del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "options", "message"),
    [
        ("metadata/value", None, {}, "lacks metadata/value"),
        ("metadata/value", np.zeros((9, 4)), {}, "9 names and values of shape"),
        ("dataset", np.zeros(12), {}, "is float64 of 1 axes"),
        ("metadata/key", [b"Run"] * 9, {}, "name Run more than once"),
        ("vmap/stimulus_name/3.0", None, {}, "vmap of 'stimulus_name' has no label for 3.0"),
        ("vmap", None, {"ids": "picture"}, "0 columns 'picture'.*Run, Session, stimulus_name"),
        ("vmap", None, {"rois": ["V4"]}, "unknown ROI 'V4'"),
        ("vmap", None, {"rois": ["x=V1 + V4"]}, "unknown ROI 'V4'"),
        ("vmap", None, {"sessions": ["9"]}, "no session 9"),
        ("vmap", None, {"unusable": "keep"}, "unknown unusable 'keep'"),
        ("vmap", None, {"max_memory": "1 B"}, "more than max_memory .* 1 B; name"),
        ("vmap", None, {"format": "bdat"}, "unknown format 'bdat'; did you mean 'bdata'"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*samples have no stimulus")
def test_bdata_that_is_not_as_documented_is_refused(tmp_path, name, value, options, message):
    path = tmp_path / "Subject1.h5"
    write_bdata(path)
    change(path, name, value)
    with pytest.raises(InputError, match=message):
        read_published(path, **{"format": "bdata", **options})


# ----------------------------------------------------------------------------------------- THINGS


@pytest.mark.parametrize("pickled", [False, True])
def test_things_voxels_are_joined_by_their_ids(tmp_path, pickled):
    values, voxels = write_things(tmp_path, pickled=pickled)
    patterns = read_published(tmp_path)
    assert patterns.rois == ("V1", "glasser-FFC")
    is_v1 = (voxels["V1"] == 1).to_numpy()
    np.testing.assert_array_equal(patterns.select(roi="V1").values, values[is_v1].T)
    assert patterns.voxels["i"].tolist()[:3] == voxels["voxel_x"][is_v1].tolist()
    assert patterns.voxels["nc_testset"].tolist()[:3] == voxels["nc_testset"][is_v1].tolist()
    assert patterns.conditions[0] == "dog_00b"
    assert patterns.observations["presentation"].tolist() == [1] * 15 + [2] * 5
    assert patterns.observations["trial_type"].tolist() == ["train"] * 15 + ["test"] * 5
    # a column of one value is a region where it is asked for
    assert len(read_published(tmp_path, rois=["subject_id"]).voxels) == 9
    second = read_published(tmp_path, rois=["glasser-FFC"], sessions=["2"])
    is_ffc = (voxels["glasser-FFC"] == 1).to_numpy()
    np.testing.assert_array_equal(second.values, values[is_ffc].T[10:])


def test_things_is_what_pandas_writes(tmp_path):
    pytest.importorskip("tables", reason="PyTables is not installed")
    values, voxels = write_things(tmp_path)
    table = pd.DataFrame(values, columns=[str(number) for number in range(20)])
    table.insert(0, "voxel_id", voxels["voxel_id"])
    table.to_hdf(tmp_path / "sub-01_ResponseData.h5", key="responses", mode="w")
    is_v1 = (voxels["V1"] == 1).to_numpy()
    patterns = read_published(tmp_path, rois=["V1"])
    np.testing.assert_array_equal(patterns.values, values[is_v1].T)


def test_things_tables_that_disagree_are_refused(tmp_path):
    write_things(tmp_path)
    path = tmp_path / "sub-01_ResponseData.h5"
    with h5py.File(path, "r+") as file:
        file["ResponseData/block1_values"][3, 0] = 999
    with pytest.raises(InputError, match=r"lacks voxel\(s\) of VoxelMetadata.csv: voxel_id"):
        read_published(tmp_path)
    write_things(tmp_path)
    trials = tmp_path / "sub-01_StimulusMetadata.csv"
    trials.write_text("\n".join(trials.read_text().splitlines()[:-1]))
    with pytest.raises(InputError, match="holds 20 trials of float64, not the columns 0 to 18"):
        read_published(tmp_path)
    write_things(tmp_path)
    write_things(tmp_path, subject="02")
    with pytest.raises(InputError, match="holds 2 subjects"):
        read_published(tmp_path)
    assert read_published(tmp_path, subject="sub-02").subject == "02"
    with pytest.raises(InputError, match=r"unknown subject .* '03'"):
        read_published(tmp_path, subject="03")
    (tmp_path / "sub-02_VoxelMetadata.csv").unlink()
    with pytest.raises(InputError, match=r"there is no sub-02_VoxelMetadata.csv"):
        read_published(tmp_path, subject="02")


# ------------------------------------------------------------------------------------------- maps


def test_maps_of_two_sessions_are_joined_by_their_tables(tmp_path):
    data, masks = write_maps(tmp_path)
    patterns = read_published(tmp_path / "sub-01", rois=masks)
    for number, name in enumerate(masks):
        inside = data[1:3, 1 + 2 * number : 3 + 2 * number, 2].reshape(4, 16).T
        np.testing.assert_array_equal(patterns.select(roi=name).values, inside)
    assert patterns.conditions == tuple(f"shared_{number}" for number in range(5))
    assert patterns.observations["session"].tolist() == ["01"] * 8 + ["02"] * 8
    assert patterns.observations["presentation"].max() == 4
    for table in (tmp_path / "sub-01").rglob("*_trials.tsv"):
        table.write_text(table.read_text().replace("label", "condition", 1))
    again = read_published(tmp_path / "sub-01", rois=masks)
    assert again.digest == patterns.digest
    both = read_published(
        tmp_path / "sub-01", rois={"V": f"{masks['V1']} + {masks['V2']}"}, sessions=["2"]
    )
    assert both.values.shape == (8, 8)


def test_maps_without_masks_or_with_other_tables_are_refused(tmp_path):
    _, masks = write_maps(tmp_path)
    folder = tmp_path / "sub-01"
    with pytest.raises(InputError, match="says nothing of regions"):
        read_published(folder)
    with pytest.raises(InputError, match="lacks the column"):
        read_published(folder, rois=masks, ids="stimulus")
    table = next(folder.rglob("*ses-01*_trials.tsv"))
    text = table.read_text()
    table.write_text("\n".join(text.splitlines()[:-1]))
    with pytest.raises(InputError, match=r"has 7 rows, but .* has 8 volumes"):
        read_published(folder, rois=masks)
    table.write_text(text.replace("\t0\tshared", "\t1\tshared"))
    with pytest.raises(InputError, match="beta_index is not 0 to 7 in order"):
        read_published(folder, rois=masks)
    table.unlink()
    with pytest.raises(InputError, match=r"there is no …_trials.tsv for sub-01_ses-01"):
        read_published(folder, "statmaps", rois=masks)


# -------------------------------------------------------------------------------------- all layouts


def test_a_path_of_no_layout_is_refused_with_what_each_misses(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_published(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError) as error:
        read_published(tmp_path / "notes.txt")
    assert all(f"{name}: " in str(error.value) for name in FORMATS)
    assert "\n" not in str(error.value)


def test_the_plan_counts_what_is_read_and_reads_nothing(tmp_path):
    folder, _ = write_nsd(tmp_path)
    contents = plan_published(folder, rois=["V1=V1v + V1d", "V1v"])
    assert contents.n_bytes == 2 * N_TRIALS * 3 * 2  # sessions, voxels once, bytes of int16
    assert contents.memory_bytes == 2 * (2 * N_TRIALS) * 5 * 4
    assert contents.plan.startswith("1500 observations in 2 session(s) × 5 voxels of 2 region(s)")


def make_nsd(folder: Path) -> tuple[Path, dict]:
    return write_nsd(folder, n_sessions=1)[0], {"rois": ["V1v", "nsdgeneral"]}


def make_bdata(folder: Path) -> tuple[Path, dict]:
    write_bdata(folder / "Subject1.h5")
    return folder / "Subject1.h5", {}


def make_things(folder: Path) -> tuple[Path, dict]:
    write_things(folder)
    return folder, {}


def make_maps(folder: Path) -> tuple[Path, dict]:
    return folder, {"rois": write_maps(folder)[1]}


@pytest.mark.parametrize(
    ("name", "make"),
    [("nsd", make_nsd), ("bdata", make_bdata), ("things", make_things), ("statmaps", make_maps)],
)
def test_damaged_files_raise_nothing_but_our_errors(tmp_path_factory, name, make):
    root = tmp_path_factory.mktemp(name)
    path, options = make(root)
    contents = {file: file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
    files = list(contents)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(
        which=st.integers(0, len(files) - 1),
        places=st.lists(st.floats(0, 1, exclude_max=True), max_size=8),
        early=st.booleans(),
        byte=st.integers(0, 255),
        keep=st.one_of(st.just(1.0), st.floats(0, 1)),
    )
    def damage(which, places, early, byte, keep):
        file = files[which]
        damaged = bytearray(contents[file])
        span = min(len(damaged), 4000) if early else len(damaged)
        for place in places:
            damaged[int(place * span)] = byte
        file.write_bytes(damaged[: int(keep * len(damaged))])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                read_published(path, name, **options)
        except InputError as error:
            assert "\n" not in str(error)
        finally:
            file.write_bytes(contents[file])

    damage()


def test_a_damaged_matlab_file_of_nsd_is_refused(tmp_path):
    folder, _ = write_nsd(tmp_path, design="matlab", n_sessions=1)
    design = tmp_path / "nsddata/experiments/nsd/nsd_expdesign.mat"
    contents = bytearray(design.read_bytes())
    design.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(InputError, match=r"nsd_expdesign.mat is not a MATLAB file, or is damaged"):
        read_published(folder, rois=["V1v"])
    savemat(design, {"masterordering": np.ones(3)})
    with pytest.raises(InputError, match="lacks subjectim of 2 axes"):
        read_published(folder, rois=["V1v"])
    savemat(design, {"masterordering": np.array([1, 99, 2]), "subjectim": np.ones((8, 4))})
    with pytest.raises(InputError, match="an order of others"):
        read_published(folder, rois=["V1v"])
