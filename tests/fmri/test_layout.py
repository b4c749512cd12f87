"""A BIDS data set with fMRIPrep derivatives is found as it is: matched by labels, told where it
contradicts itself, and read with the confounds that nilearn chooses.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from fmri import estimate_betas, event_design, find_dataset, read_run, read_runs, strategy_confounds
from fmri.confounds import STRATEGIES
from neurometamer.errors import InputError
from neurometamer.store import read_table

SHAPE, N_VOLUMES, T_R = (4, 5, 3), 60, 2.0
MNI = "MNI152NLin2009cAsym"
IDS = ("astronaut", "chelsea_AN", "coffee_AI", "rocket")
N_CONFOUNDS = 200


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_image(path: Path, shape: Sequence[int], seed: int, t_r: float = T_R) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = 1000 + 10 * np.random.default_rng(seed).normal(size=shape)
    image = nibabel.Nifti1Image(data.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if len(shape) == 4:
        image.header.set_zooms((2.0, 2.0, 2.0, t_r))
    nibabel.save(image, path)


def write_mask(path: Path, seed: int = 0) -> None:
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[1:3, 1:4, seed % SHAPE[2]] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([2.0, 2.0, 2.0, 1.0])), path)


def events_table(seed: int = 0) -> pd.DataFrame:
    ids = np.random.default_rng(seed).permutation(IDS)
    table = {
        "onset": [8.0, 32.0, 56.0, 80.0],
        "duration": 2.0,
        "trial_type": ["image"] * 4,
        "stim_file": [f"shown/{name}.png" for name in ids],
        "response_time": ["n/a", 0.7, 0.8, "n/a"],
    }
    return pd.DataFrame(table)


def write_tsv(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")


def confounds_table(seed: int, n_volumes: int = N_VOLUMES) -> tuple[pd.DataFrame, dict]:
    """Make 200 columns named as fMRIPrep names them, n/a in the first rows of derivatives; and what
    its JSON says of the components.
    """
    rng = np.random.default_rng(seed)
    base = ["global_signal", "csf", "white_matter"]
    base += [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    table, described = {}, {}
    for name in base:
        values = rng.normal(size=n_volumes)
        slope = np.diff(values, prepend=np.nan)
        table |= {name: values, f"{name}_derivative1": slope}
        table |= {f"{name}_power2": values**2, f"{name}_derivative1_power2": slope**2}
    speed = np.abs(rng.normal(scale=0.1, size=n_volumes))
    speed[[20, 21, 40]] = 0.9
    speed[0] = np.nan
    table["framewise_displacement"] = speed
    table["std_dvars"] = np.where(
        np.isnan(speed), np.nan, 1 + rng.normal(scale=0.1, size=n_volumes)
    )
    for number in range(3):
        step = np.arange(n_volumes) + 0.5
        table[f"cosine{number:02d}"] = np.cos(np.pi * (number + 1) * step / n_volumes)
    for prefix, masks in {"a": ("combined", "CSF", "WM"), "t": ("",)}.items():
        for number in range(6 * len(masks)):
            name = f"{prefix}_comp_cor_{number:02d}"
            table[name] = rng.normal(size=n_volumes)
            mask = masks[number // 6]
            described[name] = {"Method": "aCompCor" if mask else "tCompCor", "Retained": True}
            if mask:
                described[name]["Mask"] = mask
    for name, volume in {
        "non_steady_state_outlier00": 0,
        "motion_outlier00": 20,
        "motion_outlier01": 21,
        "motion_outlier02": 40,
    }.items():
        table[name] = (np.arange(n_volumes) == volume).astype(int)
    for number in range(N_CONFOUNDS - len(table)):
        table[f"edge_comp_{number:02d}"] = rng.normal(size=n_volumes)
    return pd.DataFrame(table), described


def write_dataset(
    root: Path, subjects: Sequence[str] = ("01", "02"), sessions: Sequence[str] = ("1", "2")
) -> tuple[Path, Path]:
    """Write the data set and its derivatives: two sessions of two runs in three spaces."""
    raw, prep = root / "bids", root / "bids" / "derivatives" / "fmriprep"
    write_json(raw / "dataset_description.json", {"Name": "x", "BIDSVersion": "1.9.0"})
    made_by = [{"Name": "fMRIPrep", "Version": "23.2.1"}]
    described = {"Name": "fMRIPrep", "DatasetType": "derivative", "GeneratedBy": made_by}
    write_json(prep / "dataset_description.json", described)
    # by inheritance: for all images of the task
    write_json(raw / "task-images_bold.json", {"RepetitionTime": T_R, "TaskName": "images"})
    write_tsv(prep / "desc-aparcaseg_dseg.tsv", pd.DataFrame({"index": [2], "name": ["WM"]}))
    seed = 0
    for subject in subjects:
        anat = prep / f"sub-{subject}" / "anat"
        write_mask(anat / f"sub-{subject}_desc-brain_mask.nii.gz")
        write_mask(anat / f"sub-{subject}_desc-aparcaseg_dseg.nii.gz")
        for number, roi in enumerate(("V1", "LO")):
            name = f"sub-{subject}_space-T1w_label-{roi}_mask.nii.gz"
            write_mask(anat / name, number)
        for session in sessions:
            for run in ("1", "2"):
                seed += 1
                _write_run(raw, prep, subject, session, run, seed)
    return raw, prep


def _write_run(raw: Path, prep: Path, subject: str, session: str, run: str, seed: int) -> None:
    """Write a run: ``run-01`` in the data set is ``run-1`` among the derivatives."""
    folders = Path(f"sub-{subject}", f"ses-{session}", "func")
    start = f"sub-{subject}_ses-{session}_task-images"
    scanned = raw / folders / f"{start}_run-0{run}"
    write_image(Path(f"{scanned}_bold.nii.gz"), (*SHAPE, N_VOLUMES), seed)
    write_tsv(Path(f"{scanned}_events.tsv"), events_table(seed))
    done = prep / folders / f"{start}_run-{run}"
    sidecar = {"RepetitionTime": T_R, "StartTime": 0.9, "SliceTimingCorrected": True}
    for space in ("space-T1w", f"space-{MNI}_res-2"):
        image = Path(f"{done}_{space}_desc-preproc_bold.nii.gz")
        write_image(image, (*SHAPE, N_VOLUMES), seed)
        write_json(image.with_name(image.name.replace(".nii.gz", ".json")), sidecar)
        write_mask(Path(f"{done}_{space}_desc-brain_mask.nii.gz"))
        write_image(Path(f"{done}_{space}_boldref.nii.gz"), SHAPE, seed)
    for hemisphere in "LR":
        values = np.zeros((10, N_VOLUMES), dtype=np.float32)
        arrays = [nibabel.gifti.GiftiDataArray(volume) for volume in values.T]
        surface = nibabel.GiftiImage(darrays=arrays[:2])
        nibabel.save(surface, f"{done}_hemi-{hemisphere}_space-fsaverage5_bold.func.gii")
    models = nibabel.cifti2.BrainModelAxis.from_surface(np.arange(10), 10, name="CORTEX_LEFT")
    rows = nibabel.cifti2.SeriesAxis(0, T_R, N_VOLUMES)
    cifti = nibabel.Cifti2Image(np.zeros((N_VOLUMES, 10), dtype=np.float32), (rows, models))
    nibabel.save(cifti, f"{done}_space-fsLR_den-91k_bold.dtseries.nii")
    table, described = confounds_table(seed)
    write_tsv(Path(f"{done}_desc-confounds_timeseries.tsv"), table)
    write_json(Path(f"{done}_desc-confounds_timeseries.json"), described)


RUN = "sub-01_ses-1_task-images_run-1"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Path]:
    return write_dataset(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def small(tmp_path) -> tuple[Path, Path]:
    """One subject of one session, to be spoiled."""
    return write_dataset(tmp_path, subjects=("01",), sessions=("1",))


def errors(layout) -> list[str]:
    return layout.problems["message"][layout.problems["severity"] == "error"].tolist()


def notes(layout) -> list[str]:
    return layout.problems["message"][layout.problems["severity"] == "note"].tolist()


# ----------------------------------------------------------------------------------- what there is


def test_cifti_files_that_are_cut_off_are_listed(small):
    raw, prep = small
    file = next(prep.rglob("*run-1_*.dtseries.nii"))
    file.write_bytes(file.read_bytes()[:-5])
    (message,) = errors(find_dataset(raw, prep, id_column="stim_file"))
    assert file.name in message and "is cut off: its header says" in message


def test_the_whole_tree_is_listed(written):
    raw, prep = written
    layout = find_dataset(raw, prep, id_column="stim_file")
    runs = layout.runs
    assert not errors(layout)
    assert layout.subjects == ("01", "02")
    assert layout.pipeline == "fMRIPrep 23.2.1"
    # 2 subjects × 2 sessions × 2 runs × (2 volumes, 2 hemispheres, 1 CIFTI)
    assert runs["format"].value_counts().to_dict() == {"volume": 16, "surface": 16, "cifti": 8}
    assert set(runs["space"]) == {"T1w", MNI, "fsaverage5", "fsLR"}
    assert set(runs["resolution"]) == {"", "2", "91k"}
    assert set(runs["hemisphere"]) == {"", "L", "R"}
    volumes = runs[runs["format"] == "volume"]
    assert (volumes["n_volumes"] == N_VOLUMES).all()
    assert (volumes["t_r"] == 2.0).all()
    assert runs[runs["format"] != "volume"]["n_volumes"].isna().all()
    assert runs["events"].str.contains("bids/sub-").all()
    assert runs["confounds"].str.endswith("_desc-confounds_timeseries.tsv").all()
    # each file is of the run of its row, and the mask on the grid of the image
    for row in volumes.itertuples():
        start = f"sub-{row.subject}_ses-{row.session}_task-images_run-"
        files = [Path(file).name for file in (row.bold, row.confounds, row.brain_mask)]
        assert all(file.startswith(f"{start}{row.run}_") for file in files)
        assert Path(row.events).name == f"{start}0{row.run}_events.tsv"
        assert row.brain_mask == row.bold.replace("preproc_bold", "brain_mask")
    assert len(repr(layout)) <= 400
    assert "runs=40" in repr(layout)


def test_stimuli_are_told_run_by_run(written):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w", id_column="stim_file", subjects=["sub-02"])
    stimuli = layout.stimuli
    assert set(stimuli["subject"]) == {"02"}
    assert (stimuli.groupby(["session", "run"])["id"].agg(set) == set(IDS)).all()
    assert (stimuli["n_events"] == 1).all()
    by_type = find_dataset(raw, prep, space="T1w")
    assert set(by_type.stimuli["id"]) == {"image"}
    assert (by_type.stimuli["n_events"] == 4).all()


def test_regions_are_listed_with_the_names_of_their_labels(written):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w", rois={"V1": f"{prep}/*/anat/*{{subject}}_*V1_*"})
    regions = layout.rois.set_index(["subject", "name", "kind"]).sort_index()
    segmentation = regions.loc[("01", "aparcaseg", "dseg")]
    assert segmentation["table"] == str(prep / "desc-aparcaseg_dseg.tsv")
    assert regions.loc[("02", "LO", "mask")]["space"] == "T1w"
    assert ("01", "brain", "mask") in regions.index
    assert layout.masks("sub-01") == {
        "V1": prep / "sub-01" / "anat" / "sub-01_space-T1w_label-V1_mask.nii.gz"
    }
    assert not errors(layout)


def test_runs_are_matched_by_labels_and_subjects_by_the_whole_label(tmp_path):
    for subject in ("1", "01"):
        start = tmp_path / f"sub-{subject}" / "func" / f"sub-{subject}_task-x"
        write_image(Path(f"{start}_run-01_bold.nii.gz"), (*SHAPE, N_VOLUMES), 0)
    write_tsv(tmp_path / "sub-1" / "func" / "sub-1_task-x_run-1_events.tsv", events_table())
    layout = find_dataset(tmp_path)
    assert layout.runs.set_index("subject")["n_events"].to_dict() == {"1": 4, "01": 0}
    phase = tmp_path / "sub-1" / "func" / "sub-1_task-x_run-01_part-phase_bold.nii.gz"
    write_image(phase, (*SHAPE, N_VOLUMES), 0)
    assert len(find_dataset(tmp_path).runs) == 2
    assert errors(layout) == [
        "sub-01 task-x run-1 has no events.tsv; add it to " + str(tmp_path) + ", or choose another "
        "task."
    ]


def test_events_and_sidecars_are_inherited(small):
    raw, prep = small
    func = raw / "sub-01" / "ses-1" / "func"
    own = func / "sub-01_ses-1_task-images_run-02_events.tsv"
    (func / "sub-01_ses-1_task-images_run-01_events.tsv").unlink()
    write_tsv(raw / "task-images_events.tsv", events_table(7))
    layout = find_dataset(raw, prep, space="T1w")
    assert layout.runs["events"].tolist() == [str(raw / "task-images_events.tsv"), str(own)]
    nearer = raw / "sub-01" / "sub-01_task-images_events.tsv"
    write_tsv(nearer, events_table(8))
    layout = find_dataset(raw, prep, space="T1w")
    assert layout.runs["events"].tolist() == [str(nearer), str(own)]
    # the sidecar at the root says the time of the raw images, whose headers say another
    for image in func.glob("*_bold.nii.gz"):
        write_image(image, (*SHAPE, N_VOLUMES), 0, t_r=2.2)
    assert find_dataset(raw, t_r=2.0).runs["t_r"].tolist() == [2.0, 2.0]


def test_old_names_of_fmriprep_are_read(small):
    raw, prep = small
    func = prep / "sub-01" / "ses-1" / "func"
    for file in func.glob("*_desc-confounds_timeseries.*"):
        file.rename(func / file.name.replace("timeseries", "regressors"))
    for file in func.glob("*.func.gii"):
        file.rename(func / file.name.replace("_bold.func.gii", ".func.gii"))
    layout = find_dataset(raw, prep)
    assert layout.runs["confounds"].str.endswith("_desc-confounds_regressors.tsv").all()
    assert (layout.runs["format"] == "surface").sum() == 4
    runs = find_dataset(raw, prep, space="T1w").read_runs("01", strategy=["motion"])
    assert [len(run.confounds.columns) for run in runs] == [25, 25]


# ------------------------------------------------------------------------------ what does not agree


def test_several_images_of_a_run_are_an_error_that_lists_them_unless_one_is_chosen(small):
    raw, prep = small
    func = prep / "sub-01" / "ses-1" / "func"
    for run in "12":
        name = f"sub-01_ses-1_task-images_run-{run}_space-T1w_desc-preproc_bold.nii.gz"
        for other in ("_res-2_desc-preproc", "_desc-smoothAROMAnonaggr", "_echo-2_desc-preproc"):
            shutil.copy(func / name, func / name.replace("_desc-preproc", other))
    layout = find_dataset(raw, prep, space="T1w")
    assert len(set(errors(layout))) == 2
    message = errors(layout)[0]
    assert sum("4 images fit: " in line for line in layout.describe()) == 2
    assert "4 images fit: " in message
    assert message.endswith(
        "choose by desc (--desc preproc, smoothAROMAnonaggr), echo (--echo none, 2), resolution "
        "(--resolution none, 2)."
    )
    assert not layout.usable.any()
    with pytest.raises(InputError, match="4 images fit"):
        layout.read_runs("01")
    chosen = find_dataset(raw, prep, space="T1w", desc="preproc", echo="none", resolution="2")
    assert not errors(chosen)
    assert len(chosen.read_runs("01")) == 2
    aroma = find_dataset(raw, prep, space="T1w", desc="smoothAROMAnonaggr")
    run = aroma.read_runs("01", strategy=["ica_aroma", "wm_csf"])[0]
    assert list(run.confounds.columns) == ["csf", "white_matter", "non_steady_state_outlier00"]
    with pytest.raises(InputError, match="cannot be used"):
        chosen.read_runs("01", strategy=["ica_aroma"])


def test_several_spaces_tasks_and_hemispheres_are_to_be_chosen(written):
    raw, prep = written
    layout = find_dataset(raw, prep)
    spaces = rf"images of several spaces: {MNI}, T1w, fsLR.*choose one .space, --space."
    with pytest.raises(InputError, match=spaces):
        layout.read_runs("01")
    assert len(layout.read_runs("01", space="T1w")) == 4
    with pytest.raises(InputError, match="unknown space of sub-01 'T2w'"):
        layout.read_runs("01", space="T2w")
    surfaces = layout.select("01", space="fsaverage5")
    assert surfaces["hemisphere"].tolist() == ["L"] * 4  # the right one is found beside it
    assert layout.files("01", space="fsaverage5")["bold"] == [*map(Path, surfaces["bold"])]
    with pytest.raises(InputError, match=r"unknown subject '3'.*01, 02"):
        layout.read_runs("3")
    with pytest.raises(InputError, match=r"unknown space in .*did you mean 'T1w'"):
        find_dataset(raw, prep, space="T1")
    with pytest.raises(InputError, match=r"unknown subject of .*'1'"):
        find_dataset(raw, prep, subjects=["1"])
    with pytest.raises(InputError, match="unknown argument of find_dataset 'spaces'; did you mean"):
        find_dataset(raw, prep, spaces="T1w")
    with pytest.raises(InputError, match="LayoutOptions: runs is of the wrong type"):
        find_dataset(raw, prep, runs="1")


def test_facts_that_disagree_are_told_with_both_values(small):
    raw, prep = small
    func = prep / "sub-01" / "ses-1" / "func"
    first = func / f"{RUN}_space-T1w_desc-preproc_bold.nii.gz"
    write_json(first.with_name(first.name.replace(".nii.gz", ".json")), {"RepetitionTime": 1.5})
    write_json(raw / "task-images_bold.json", {"RepetitionTime": 2.5})
    table, _ = confounds_table(1, N_VOLUMES - 3)
    write_tsv(func / f"{RUN}_desc-confounds_timeseries.tsv", table)
    events = raw / "sub-01" / "ses-1" / "func" / "sub-01_ses-1_task-images_run-02_events.tsv"
    events.rename(events.with_name(events.name.replace("images", "localizer")))
    layout = find_dataset(raw, prep, space="T1w")
    messages = errors(layout)
    assert any(
        "header says a repetition time of 2 s, but" in text and "1.5 s" in text for text in messages
    )
    assert any("has a repetition time of 2 s, but" in text and "2.5 s" in text for text in messages)
    assert any("has 57 rows but" in text and "60 volumes" in text for text in messages)
    assert any(
        "run-2 has no events.tsv (sub-01_ses-1_task-localizer_run-02_events.tsv is of another task)"
        in text
        for text in messages
    )
    assert not layout.usable.any()
    with pytest.raises(InputError, match="things in all"):
        layout.read_runs("01")


def test_a_pattern_of_an_roi_that_fits_nobody_is_told_once(written):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w", rois={"V4": f"{raw}/*{{subject}}_V4.nii:2"})
    lines = [line for line in layout.describe() if "ROI 'V4'" in line]
    assert len(lines) == 1
    assert "V4.nii:2 of any of the 2 subjects (sub-01, sub-02); correct the pattern" in lines[0]
    assert len(errors(layout)) == 1


def test_what_is_missing_is_told_and_the_rest_is_listed(small):
    raw, prep = small
    func = prep / "sub-01" / "ses-1" / "func"
    for file in func.glob("*run-2*"):
        file.unlink()
    (func / f"{RUN}_desc-confounds_timeseries.tsv").unlink()
    (prep / "dataset_description.json").unlink()
    (raw / "sub-09" / "func").mkdir(parents=True)
    layout = find_dataset(raw, prep, space="T1w", rois={"V4": f"{raw}/V4_{{subject}}.nii"})
    told = " ".join(notes(layout))
    assert "sub-01 ses-1 task-images run-2 is in the data set but has no image" in told
    assert "has no desc-confounds_timeseries.tsv" in told
    assert "has no dataset_description.json" in told
    assert "sub-09 has no images of time series" in told
    assert errors(layout) == [
        f"sub-01: ROI 'V4': there is no {raw}/V4_01.nii; correct the pattern of this ROI, or leave "
        "the subject out."
    ]
    with (
        pytest.warns(UserWarning, match="run-2 is in the data set but has no image"),
        pytest.warns(UserWarning, match="have no tables of confounds; none are in the model"),
    ):
        runs = layout.read_runs("01")
    assert [run.confounds for run in runs] == [None]
    with (
        pytest.warns(UserWarning, match="run-2"),
        pytest.raises(InputError, match="have no tables of confounds"),
    ):
        layout.read_runs("01", strategy=["motion"])


def test_a_region_that_one_subject_lacks_is_told(written, tmp_path):
    raw, _ = written
    shutil.copytree(raw, tmp_path / "bids")
    here = tmp_path / "bids" / "derivatives" / "fmriprep"
    (here / "sub-02" / "anat" / "sub-02_space-T1w_label-LO_mask.nii.gz").unlink()
    layout = find_dataset(tmp_path / "bids", here, space="T1w")
    assert "1 of 2 subjects have 'mask LO T1w', but not sub-02." in notes(layout)


def test_what_differs_between_subjects_and_within_tables_is_noted(written, tmp_path):
    raw, _ = written
    shutil.copytree(raw, tmp_path / "bids")
    here = tmp_path / "bids" / "derivatives" / "fmriprep"
    shutil.rmtree(here / "sub-02" / "ses-2")
    (here / "desc-aparcaseg_dseg.tsv").unlink()
    file = here / "sub-01" / "ses-1" / "func" / f"{RUN}_desc-confounds_timeseries.tsv"
    table = pd.read_csv(file, sep="\t")
    table.loc[30, ["csf", "trans_x"]] = np.nan
    write_tsv(file, table)
    layout = find_dataset(tmp_path / "bids", here, space="T1w")
    told = " ".join(notes(layout))
    assert not errors(layout)
    assert "1 of 2 subjects have session 2, but not sub-02." in told
    assert "missing values (n/a) after its first row in csf, trans_x; such columns" in told
    assert "sub-01_desc-aparcaseg_dseg.nii.gz: no table names its labels" in told
    with pytest.raises(InputError, match=r"missing or non-numeric values .* trans_x; repair"):
        layout.read_runs("01")


def test_a_real_tree_whose_images_are_empty_is_listed(shared_data):
    layout = find_dataset(shared_data / "bids_ds105_layout")
    assert layout.subjects == ("1", "2", "3", "4", "5", "6")
    assert len(layout.runs) == len(list((shared_data / "bids_ds105_layout").rglob("*_bold.nii.gz")))
    assert not layout.usable.any()
    empty = layout.problems[layout.problems["problem"] == "image is not here"]
    assert sorted(empty["file"]) == sorted(layout.runs["bold"])
    assert empty["message"].str.contains("is empty .0 bytes.; fetch").all()
    assert len(empty) == len(layout.problems)
    assert layout.stimuli["id"].nunique() == 8
    assert (layout.runs["n_events"] == 96).all()


def test_real_runs_are_those_that_are_named_one_by_one(shared_data):
    folder = shared_data / "haxby_1slice"
    layout = find_dataset(folder, resolution="none")
    runs = layout.read_runs("001")
    assert [run.run for run in runs] == [f"{number:02d}" for number in range(1, 13)]
    bold = sorted(folder.rglob("*run-??_bold.nii.gz"))
    by_name = read_runs(bold, [Path(f"{str(file)[:-12]}_events.tsv") for file in bold])
    for run, other in zip(runs, by_name, strict=True):
        assert run.image == other.image
        assert (run.t_r, run.n_volumes) == (other.t_r, other.n_volumes) == (2.5, 121)
        pd.testing.assert_frame_equal(run.events, other.events)


# ----------------------------------------------------------------------------------------- confounds


CASES = (
    (("motion",), {}),
    (("motion", "high_pass", "wm_csf"), {"motion": "basic", "wm_csf": "full"}),
    (("global_signal", "motion"), {"global_signal": "power2", "motion": "derivatives"}),
    (("high_pass", "compcor"), {"n_compcor": 4}),
    (("compcor", "high_pass"), {"compcor": "anat_separated", "n_compcor": 3}),
    (("high_pass", "compcor"), {"compcor": "temporal_anat_combined"}),
    (("motion", "scrub"), {"fd_threshold": 0.4, "scrub": 5}),
    (("motion", "scrub"), {"scrub": 0}),
)


@pytest.mark.parametrize(("strategy", "options"), CASES)
def test_strategies_are_those_of_nilearn(written, strategy, options):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w")
    run = layout.read_runs("01", strategy=strategy, **options)[0]
    theirs, kept = load_confounds(str(run.image), strategy=strategy, demean=False, **options)
    names = list(theirs.columns)
    assert list(run.confounds.columns)[: len(names)] == names
    # exactly: the same numbers out of the same file
    np.testing.assert_array_equal(run.confounds[names].to_numpy(), theirs.to_numpy())
    spikes = run.confounds.drop(columns=names)
    left_out = sorted(set(range(N_VOLUMES)) - set(kept))
    assert spikes.to_numpy().T.tolist() == np.eye(N_VOLUMES)[left_out].tolist()
    assert spikes.columns[0] == "non_steady_state_outlier00"
    assert run.drift_in_confounds == any("cosine" in name for name in names)
    assert not (set(spikes.columns) & set(names))


def test_a_regressor_for_a_volume_is_the_volume_left_out(written):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w", id_column="stim_file")
    # the default thresholds of nilearn differ between its versions
    limits = {"scrub": 0, "fd_threshold": 0.5, "std_dvars_threshold": 1.5}
    runs = layout.read_runs("02", strategy=["motion", "scrub"], motion="basic", **limits)[:1]
    _, design = event_design(runs[0])
    spikes = [name for name in design if "outlier" in name]
    assert len(spikes) == 4
    kept = design[spikes].abs().lt(design[spikes].abs().max()).all(axis=1).to_numpy()
    assert kept.sum() == N_VOLUMES - 4
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:3, 1:4, 1] = True
    betas = estimate_betas(runs, {"V1": mask}, noise_model="ols", units="raw")
    series = nibabel.load(runs[0].image).get_fdata()[mask].T[kept]
    fewer = design.drop(columns=spikes).to_numpy()[kept]
    expected = np.linalg.lstsq(fewer, series, rcond=None)[0][:4]
    # two solvers of the same least squares, on values of about 10
    np.testing.assert_allclose(betas.values, expected, rtol=0, atol=1e-8)


def test_the_cosines_of_compcor_take_the_place_of_the_drifts(written):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w", id_column="stim_file")
    with_compcor = layout.read_runs("01", strategy=["compcor"], n_compcor=2)
    without = layout.read_runs("01", strategy=["motion"], motion="basic")
    by_columns = layout.read_runs("01", columns=["a_comp_cor_00", "a_comp_cor_01"])
    for run, has_own in ((with_compcor[0], False), (without[0], True), (by_columns[0], False)):
        names = list(event_design(run, high_pass=0.02)[1].columns)
        assert any(name.startswith("drift_") for name in names) == has_own
        assert any(name.startswith("confound_cosine") for name in names) != has_own
    assert set(with_compcor[0].confounds.columns) == set(by_columns[0].confounds.columns)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:3, 1:4, 1] = True
    for runs, drift in ((with_compcor, "confounds"), (without, "cosine")):
        recorded = estimate_betas(runs, {"V1": mask}).provenance["runs"]
        assert {run["drift"] for run in recorded} == {drift}
        assert all(("cosine00" in run["confounds"]) == (drift == "confounds") for run in recorded)


def test_columns_are_named_by_patterns_and_the_first_row_is_filled(written):
    raw, prep = written
    layout = find_dataset(raw, prep, space="T1w")
    run = layout.read_runs("01", columns=["trans_?", "rot_*_derivative1", "csf"])[0]
    assert list(run.confounds.columns) == [
        *(f"trans_{axis}" for axis in "xyz"),
        *(f"rot_{axis}_derivative1" for axis in "xyz"),
        "csf",
        "non_steady_state_outlier00",
    ]
    table = read_table(layout.runs["confounds"][0])
    assert len(table.columns) == N_CONFOUNDS
    assert np.isnan(table["rot_x_derivative1"][0])
    assert run.confounds["rot_x_derivative1"][0] == table["rot_x_derivative1"][1]
    np.testing.assert_array_equal(run.confounds["csf"], table["csf"])
    by_default = layout.read_runs("01")[0].confounds.columns
    assert len(by_default) == 7  # six of motion, one of the first volume
    with pytest.raises(InputError, match=r"lack the column\(s\) eye_\*"):
        layout.read_runs("01", columns=["eye_*"])


def test_a_run_of_files_obeys_the_same_rules(written):
    raw, prep = written
    row = find_dataset(raw, prep, space="T1w").runs.iloc[0]
    run = read_run(row["bold"], row["events"], row["confounds"], columns=["a_comp_cor_00"])
    assert run.drift_in_confounds
    assert {"cosine00", "cosine01", "cosine02"} < set(run.confounds.columns)


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        (["movement"], {}, "unknown strategy of confounds 'movement'"),
        (
            ["motion"],
            {"motions": "basic"},
            "unknown parameter of confounds 'motions'; did you mean",
        ),
        (["motion"], {"motion": "most"}, "the strategy motion cannot be used"),
        ([], {}, "no strategy of confounds; give some of motion"),
    ],
)
def test_bad_strategies_are_one_line(written, strategy, options, message):
    table = find_dataset(*written, space="T1w").runs["confounds"][0]
    with pytest.raises(InputError, match=message) as error:
        strategy_confounds(table, strategy, **options)
    assert "\n" not in str(error.value)


def test_columns_that_a_strategy_lacks_are_sorted_and_the_cure_is_named(small):
    raw, prep = small
    layout = find_dataset(raw, prep, space="T1w")
    file = Path(layout.runs["confounds"][0])
    table = pd.read_csv(file, sep="\t")
    table.loc[:, ~table.columns.str.contains("derivative|power")].to_csv(
        file, sep="\t", index=False
    )
    lacking = "rot_x_derivative1, rot_x_derivative1_power2, rot_x_power2, rot_y_derivative1, rot_y_"
    with pytest.raises(InputError, match=f"the table lacks {lacking}.* in all") as error:
        strategy_confounds(file, ["motion"])
    assert 'strategy_options = { motion = "basic" }' in str(error.value)
    assert len(strategy_confounds(file, ["motion"], motion="basic").columns) >= 6


def test_strategies_that_the_table_cannot_serve_are_one_line(small):
    raw, prep = small
    layout = find_dataset(raw, prep, space="T1w")
    table = Path(layout.runs["confounds"][0])
    table.with_suffix(".json").unlink()
    with pytest.raises(
        InputError, match=r"strategy compcor, high_pass cannot be used.*json"
    ) as error:
        layout.read_runs("01", strategy=["compcor"])
    assert "\n" not in str(error.value)
    table.write_bytes(b"\x00\xff\xfe" * 40)
    with pytest.raises(InputError):
        strategy_confounds(table, list(STRATEGIES))
    with pytest.raises(InputError, match="n_compcor are parameters of strategies"):
        layout.read_runs("01", n_compcor=3)
    with pytest.raises(InputError, match="is no table of fMRIPrep"):
        strategy_confounds(table.with_name("motion.tsv"), ["motion"])
    with pytest.raises(InputError, match=r"by columns .csf. and by strategy .motion."):
        layout.read_runs("01", columns=["csf"], strategy=["motion"])


# ----------------------------------------------------------------------------------------- bad input


def spoil_events(raw: Path, edit) -> Path:
    file = raw / "sub-01" / "ses-1" / "func" / "sub-01_ses-1_task-images_run-01_events.tsv"
    table = events_table()
    edit(table)
    write_tsv(file, table)
    return file


@pytest.mark.parametrize(
    ("column", "values", "note"),
    [
        ("onset", [8.0, 9.0, 56.0, 80.0], "1 events begin before the one before them has ended"),
        ("onset", [-1.0, 32.0, 56.0, 80.0], "1 events begin before the first volume"),
        ("onset", [np.nan, 32.0, 56.0, 80.0], "1 events have no onset (n/a) and are left out"),
        ("duration", [np.nan] * 4, "4 events have no duration (n/a)"),
        (
            "trial_type",
            ["a cat", "a,b", "c", "c"],
            "stimulus ids hold spaces or commas: 'a cat', 'a,b'",
        ),
    ],
)
def test_events_that_are_allowed_and_odd_are_noted(small, column, values, note):
    raw, prep = small
    spoil_events(raw, lambda table: table.__setitem__(column, values))
    layout = find_dataset(raw, prep, space="T1w")
    assert not errors(layout)
    assert [text for text in notes(layout) if note in text]
    assert len(layout.read_runs("01")) == 2


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("duration", [2.0, -2.0, 2.0, 2.0], "events have a negative duration: 'image' at 32 s"),
        ("onset", [8.0, 32.0, 56.0, 800.0], "events lie beyond the run's end"),
        ("onset", ["8", "x", "56", "80"], "'onset' is not a number in row 2"),
        ("trial_type", ["n/a"] * 4, "the column 'trial_type' holds no stimulus ids"),
    ],
)
def test_events_that_cannot_be_used_are_named(small, column, values, message):
    raw, prep = small
    spoil_events(raw, lambda table: table.__setitem__(column, values))
    layout = find_dataset(raw, prep, space="T1w")
    (told,) = errors(layout)
    assert message in told
    assert "\n" not in told
    assert layout.usable.tolist() == [False, True]


def test_events_with_a_byte_order_mark_are_read_and_a_column_that_is_not_there_is_told(small):
    raw, prep = small
    file = spoil_events(raw, lambda table: None)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    layout = find_dataset(raw, prep, space="T1w", id_column="stim_file")
    assert not errors(layout)
    assert set(layout.stimuli["id"]) == set(IDS)
    other = find_dataset(raw, prep, space="T1w", id_column="picture")
    assert all("lacks the column(s) picture" in text for text in errors(other))
    assert all("stimulus ids: id_column (--id-column)" in text for text in errors(other))
    assert len(errors(other)) == 2


@pytest.mark.parametrize("spoil", ["cut", "half", "link", "bytes", "three dimensions", "json"])
def test_images_that_cannot_be_read_are_named_and_the_others_are_listed(small, spoil):
    raw, prep = small
    image = prep / "sub-01" / "ses-1" / "func" / f"{RUN}_space-T1w_desc-preproc_bold.nii.gz"
    if spoil == "cut":
        image.write_bytes(image.read_bytes()[:100])
    elif spoil == "half":  # the header can be read
        whole = image.read_bytes()
        image.write_bytes(whole[: len(whole) // 2])
    elif spoil == "link":
        image.unlink()
        image.symlink_to("../../.git/annex/objects/gone.nii.gz")
    elif spoil == "bytes":
        image.write_bytes(b"\x1f\x8b" + bytes(range(256)))
    elif spoil == "three dimensions":
        write_image(image, SHAPE, 0)
    else:
        image.with_name(image.name.replace(".nii.gz", ".json")).write_text("{")
    layout = find_dataset(raw, prep, space="T1w")
    assert layout.usable.tolist() == [False, True]
    assert all("\n" not in text for text in errors(layout))
    assert all(RUN in text for text in errors(layout))


def test_an_image_in_the_folder_of_another_subject_is_told(small):
    raw, prep = small
    func = prep / "sub-01" / "ses-1" / "func"
    name = f"{RUN}_space-T1w_desc-preproc_bold.nii.gz"
    (func / name).rename(func / name.replace("ses-1", "ses-2"))
    (told,) = (text for text in errors(find_dataset(raw, prep, space="T1w")) if "lies in" in text)
    assert told.endswith("lies in ses-1, but is named after ses-2; rename or move it.")


def test_folders_that_are_no_data_set_are_refused(tmp_path, written):
    raw, _ = written
    with pytest.raises(InputError, match=r"it has no folder sub-… .it is empty.") as error:
        find_dataset(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="does not exist; give the folder of a BIDS data set"):
        find_dataset(tmp_path / "no")
    with pytest.raises(InputError, match="is a file; give the folder"):
        find_dataset(raw / "task-images_bold.json")
    with pytest.raises(InputError, match="its folder bids has some, give that"):
        find_dataset(raw.parent)
    (tmp_path / "sub-01" / "func").mkdir(parents=True)
    with pytest.raises(InputError, match="has no images of time series"):
        find_dataset(tmp_path)
    assert any("has derivatives (fmriprep)" in text for text in notes(find_dataset(raw)))


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=15, suppress_health_check=list(hypothesis.HealthCheck))
def test_damaged_files_are_told_and_raise_nothing_else(written, data):
    raw, prep = written
    kinds = (
        "*_events.tsv",
        "*.json",
        "*-confounds_timeseries.tsv",
        "*T1w_desc-preproc_bold.nii.gz",
    )
    pattern = data.draw(st.sampled_from(kinds))
    file = sorted(raw.rglob(f"**/{pattern}"))[0]
    before = file.read_bytes()
    start = data.draw(st.integers(0, len(before) - 1))
    end = data.draw(st.integers(start, min(start + 50, len(before))))
    inserted = data.draw(
        st.sampled_from([b"", b"\x00", b"\t", b"\n", b'"', b"n/a", b"{", b"\xff", b"-9"])
    )
    file.write_bytes(before[:start] + inserted + before[end:])
    try:
        layout = find_dataset(raw, prep, space="T1w", subjects=["01"])
        assert not layout.problems["message"].str.contains("\n", regex=False).any()
        assert layout.describe()
        with contextlib.suppress(InputError):
            layout.read_runs("01", strategy=["motion", "compcor"])
    finally:
        file.write_bytes(before)


# --------------------------------------------------------------------------------------- the command


def test_the_command_prints_what_it_found_and_writes_the_tables(written, tmp_path, invoke):
    raw, prep = written
    words = ["fmri", "layout", str(raw), "--derivatives", str(prep), "--id-column", "stim_file"]
    done = invoke([*words, "--space", "T1w", "--out", str(tmp_path / "found")])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == f"{prep} by fMRIPrep 23.2.1: 8 images of 2 subjects, 8 without errors"
    assert any(
        line.startswith("task images, space T1w, desc preproc, format volume") for line in lines
    )
    assert any(
        line.startswith("4 stimuli (astronaut, chelsea_AN, coffee_AI, rocket) in") for line in lines
    )
    runs = read_table(tmp_path / "found" / "runs.csv")
    assert runs["subject"].tolist() == ["01"] * 4 + ["02"] * 4
    assert runs["n_volumes"].tolist() == [N_VOLUMES] * 8
    names = sorted(file.name for file in (tmp_path / "found").glob("*.csv"))
    assert names == ["problems.csv", "rois.csv", "runs.csv", "stimuli.csv"]
    assert len(read_table(tmp_path / "found" / "stimuli.csv")) == 8 * 4


def test_the_exit_code_is_2_only_where_nothing_can_be_used(small, invoke, tmp_path):
    raw, prep = small
    words = ["fmri", "layout", str(raw), "--derivatives", str(prep), "--space", "T1w"]
    spoil_events(raw, lambda table: table.__setitem__("duration", -1.0))
    done = invoke(words)
    assert done.exit_code == 0
    assert "error: events: " in done.stdout
    for file in (prep / "sub-01").rglob("*_space-T1w_desc-preproc_bold.nii.gz"):
        file.write_bytes(b"")
    done = invoke(words)
    assert done.exit_code == 2
    assert "error: image is not here: " in done.stdout
    done = invoke(["fmri", "layout", str(tmp_path / "nowhere")])
    assert isinstance(done.exception, InputError)
