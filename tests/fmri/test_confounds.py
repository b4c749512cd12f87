"""Confounds that nilearn does not read as they are: tedana's components together with others, and
the tables of fMRIPrep 1.0 and 1.1.
"""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from fmri import estimate_betas, find_dataset, read_runs, strategy_confounds
from fmri.confounds import ConfoundOptions, rejected_components
from fmri.tables import new_names, read_confounds
from neurometamer.errors import InputError

N_VOLUMES, SHAPE = 40, (4, 4, 3)
START = "sub-01_task-images_run-1"
OLD = {  # documentation of fMRIPrep 1.1.8, "Outputs", and init_bold_confs_wf
    "CSF": "csf",
    "WhiteMatter": "white_matter",
    "GlobalSignal": "global_signal",
    "stdDVARS": "std_dvars",
    "non-stdDVARS": "dvars",
    "vx-wisestdDVARS": "vx_wisestd_dvars",
    "FramewiseDisplacement": "framewise_displacement",
    "tCompCor00": "t_comp_cor_00",
    "tCompCor01": "t_comp_cor_01",
    "aCompCor00": "a_comp_cor_00",
    "aCompCor01": "a_comp_cor_01",
    "Cosine00": "cosine00",
    "Cosine01": "cosine01",
    "NonSteadyStateOutlier00": "non_steady_state_outlier00",
    "X": "trans_x",
    "Y": "trans_y",
    "Z": "trans_z",
    "RotX": "rot_x",
    "RotY": "rot_y",
    "RotZ": "rot_z",
    "AROMAAggrComp02": "aroma_motion_02",
}


def old_table(seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(N_VOLUMES, len(OLD)))
    table = pd.DataFrame(values, columns=list(OLD))
    table["NonSteadyStateOutlier00"] = np.eye(N_VOLUMES)[0]
    table["FramewiseDisplacement"] = np.where(np.arange(N_VOLUMES) == 17, 0.9, 0.1)
    table["stdDVARS"] = 1.0
    names = ["stdDVARS", "non-stdDVARS", "vx-wisestdDVARS", "FramewiseDisplacement"]
    table.loc[0, names] = np.nan
    return table


def write_tsv(path: Path, table: pd.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return path


def write_run(folder: Path, image: str) -> None:
    """Write a series, and its events in the root of the data set."""
    folder.mkdir(parents=True, exist_ok=True)
    data = 1000 + np.random.default_rng(0).normal(size=(*SHAPE, N_VOLUMES))
    series = nibabel.Nifti1Image(data.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    series.header.set_xyzt_units("mm", "sec")
    series.header.set_zooms((2, 2, 2, 2.0))
    nibabel.save(series, folder / image)


def write_events(raw: Path) -> None:
    table = {"onset": [8.0, 24.0, 40.0], "duration": 2.0, "trial_type": ["a", "b", "c"]}
    write_tsv(raw / "task-images_events.tsv", pd.DataFrame(table))
    (raw / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')


# ------------------------------------------------------------------------------- fMRIPrep 1.0, 1.1

CASES = (
    (["motion"], {"motion": "basic"}),
    (["motion", "wm_csf", "global_signal", "high_pass"], {"motion": "basic"}),
    (["compcor"], {"n_compcor": 1}),
    (["compcor"], {"compcor": "temporal"}),
    (["motion", "scrub"], {"motion": "basic", "scrub": 0, "fd_threshold": 0.5}),
    (["ica_aroma"], {"ica_aroma": "basic"}),
)


@pytest.mark.parametrize(("strategy", "options"), CASES)
def test_strategies_read_old_names_as_nilearn_reads_new_ones(tmp_path, strategy, options):
    old = write_tsv(tmp_path / f"{START}_bold_confounds.tsv", old_table())
    ours = strategy_confounds(old, strategy, **options)
    new = tmp_path / "new" / f"{START}_desc-confounds_timeseries.tsv"
    write_tsv(new, old_table().rename(columns=OLD))
    described = {}
    for name in OLD.values():
        if "comp_cor" in name:
            method = "aCompCor" if name.startswith("a") else "tCompCor"
            described[name] = {"Method": method, "Mask": "combined", "Retained": True}
    new.with_suffix(".json").write_text(json.dumps(described))
    theirs = strategy_confounds(new, strategy, **options)
    pd.testing.assert_frame_equal(ours, theirs)
    asked = [*strategy, "high_pass"] if "compcor" in strategy else strategy
    image = str(new).replace("confounds_timeseries.tsv", "preproc_bold.nii.gz")
    regressors, _ = load_confounds(image, strategy=asked, demean=False, **options)
    # exactly: the same numbers, written and read again to their last digit
    np.testing.assert_array_equal(ours[regressors.columns].to_numpy(), regressors.to_numpy())
    renamed = ours.attrs["renamed"]
    assert renamed and all(OLD[name] == renamed[name] for name in renamed)
    assert not theirs.attrs


def test_names_that_only_look_old_are_left_alone(tmp_path):
    assert new_names(["X", "Y", "Z", "WhiteMatter"]) == {}
    table = pd.DataFrame(np.eye(4), columns=["X", "Y", "Z", "age"])
    assert list(read_confounds(table, None, "run").columns) == ["X", "Y", "Z", "age"]
    assert new_names(OLD) == OLD


def test_columns_are_found_under_both_names_and_the_record_says_which(tmp_path):
    func = tmp_path / "func"
    write_run(func, f"{START}_bold.nii.gz")
    write_events(tmp_path)
    table = write_tsv(func / f"{START}_confounds.tsv", old_table())
    bold, events = [func / f"{START}_bold.nii.gz"], [tmp_path / "task-images_events.tsv"]
    by_default = read_runs(bold, events, [table])[0].confounds
    motion = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    assert list(by_default.columns) == [*motion, "non_steady_state_outlier00"]
    named = read_runs(bold, events, [table], columns=["aCompCor*", "white_matter", "RotX"])
    cosines = ["cosine00", "cosine01"]
    dummy = "non_steady_state_outlier00"
    chosen = ["a_comp_cor_00", "a_comp_cor_01", "white_matter", "rot_x"]
    assert sorted(named[0].confounds.columns) == sorted([*chosen, *cosines, dummy])
    assert named[0].drift_in_confounds
    mask = np.ones(SHAPE, dtype=bool)
    betas = estimate_betas(named, {"V1": mask}, noise_model="ols")
    renamed = betas.provenance["runs"][0]["confounds_renamed"]
    assert renamed == {old: new for old, new in OLD.items() if new in named[0].confounds.columns}


def test_a_tree_of_fmriprep_1_is_listed_and_read(tmp_path):
    raw, prep = tmp_path, tmp_path / "derivatives" / "fmriprep"
    write_run(raw / "sub-01" / "func", f"{START}_bold.nii.gz")
    func = prep / "sub-01" / "func"
    write_run(func, f"{START}_bold_space-T1w_preproc.nii.gz")
    aroma = f"{START}_bold_space-MNI152NLin2009cAsym_variant-smoothAROMAnonaggr_preproc.nii.gz"
    write_run(func, aroma)
    shutil.copy(
        func / f"{START}_bold_space-T1w_preproc.nii.gz",
        func / f"{START}_bold_space-T1w_brainmask.nii.gz",
    )
    write_tsv(func / f"{START}_bold_confounds.tsv", old_table())
    write_events(raw)
    layout = find_dataset(raw, prep)
    assert layout.usable.all()
    assert layout.runs["space"].tolist() == ["MNI152NLin2009cAsym", "T1w"]
    assert layout.runs["desc"].tolist() == ["smoothAROMAnonaggr", ""]
    assert layout.runs["brain_mask"].str.endswith("T1w_brainmask.nii.gz").tolist() == [False, True]
    notes = layout.problems["message"][layout.problems["problem"] == "old confounds"]
    assert len(notes) == 1 and "columns of fMRIPrep 1.0 or 1.1" in notes.iloc[0]
    run = layout.read_runs("01", space="T1w", strategy=["motion"], motion="basic")[0]
    assert {"trans_x", "rot_z", "non_steady_state_outlier00"} < set(run.confounds.columns)
    assert run.confounds.attrs["renamed"]["RotZ"] == "rot_z"
    with pytest.raises(InputError, match=r"motion = .basic"):
        layout.read_runs("01", space="T1w", strategy=["motion"])


# ------------------------------------------------------------------------------------------ tedana


def nilearns_components(folder: Path) -> Path:
    """Copy the tables of tedana that nilearn tests its own reader with."""
    data = files("nilearn.interfaces.fmriprep") / "data"
    for name in ("desc-ICA_mixing.tsv", "desc-tedana_metrics.tsv"):
        if not (data / f"test_{name}").is_file():
            pytest.skip("this nilearn has no data of tedana")
        shutil.copy(data / f"test_{name}", folder / f"{START}_{name}")
    return folder / f"{START}_desc-ICA_mixing.tsv"


def test_rejected_components_are_those_of_nilearn(tmp_path):
    mixing = nilearns_components(tmp_path)
    ours = rejected_components(mixing)
    image = tmp_path / f"{START}_desc-optcom_bold.nii.gz"
    image.touch()
    theirs, _ = load_confounds(str(image), strategy=["tedana"], demean=False)
    assert len(ours.columns) > 5
    assert set(ours.columns) == set(theirs.columns)
    # exactly: the same file; pandas' fast reader of numbers may differ in the last digit
    np.testing.assert_allclose(
        ours[theirs.columns].to_numpy(), theirs.to_numpy(), rtol=1e-14, atol=0
    )
    alone = strategy_confounds(mixing, ["tedana"])
    pd.testing.assert_frame_equal(alone, ours)


def write_components(
    folder: Path, prefix: str, names: tuple[str, str] = ("desc-ICA_mixing", "desc-tedana_metrics")
) -> Path:
    """Write four components, the second and third of which are rejected and ignored."""
    values = np.random.default_rng(1).normal(size=(N_VOLUMES, 4))
    courses = pd.DataFrame(values, columns=[f"ICA_{number}" for number in range(4)])
    classes = ["accepted", "rejected", "ignored", "rejected"]
    metrics = {"Component": [f"ICA_{number:02d}" for number in range(4)], "kappa": 1.0}
    write_tsv(
        folder / f"{prefix}{names[1]}.tsv", pd.DataFrame({**metrics, "classification": classes})
    )
    return write_tsv(folder / f"{prefix}{names[0]}.tsv", courses)


@pytest.mark.parametrize(
    "names", [("desc-ICA_mixing", "desc-tedana_metrics"), ("ica_mixing", "ica_metrics")]
)
def test_components_go_together_with_other_strategies(tmp_path, names):
    table = write_tsv(
        tmp_path / f"{START}_desc-confounds_timeseries.tsv", old_table().rename(columns=OLD)
    )
    write_components(tmp_path, f"{START}_", names)
    both = strategy_confounds(table, ["motion", "tedana"], motion="basic")
    motion = strategy_confounds(table, ["motion"], motion="basic")
    rejected = ["rejected_ICA_1", "rejected_ICA_3"]
    assert list(both.columns) == [*motion.columns, *rejected]
    pd.testing.assert_frame_equal(both[motion.columns], motion)
    only = strategy_confounds(table, ["tedana"])
    assert list(only.columns) == ["non_steady_state_outlier00", *rejected]


@pytest.mark.parametrize("is_prefixed", [True, False])
def test_a_folder_of_tedana_is_matched_run_by_run(tmp_path, is_prefixed):
    raw, prep, tedana = tmp_path, tmp_path / "derivatives" / "fmriprep", tmp_path / "tedana"
    write_run(raw / "sub-01" / "func", f"{START}_bold.nii.gz")
    func = prep / "sub-01" / "func"
    write_run(func, f"{START}_desc-preproc_bold.nii.gz")
    write_tsv(func / f"{START}_desc-confounds_timeseries.tsv", old_table().rename(columns=OLD))
    write_events(raw)
    folder = tedana / "sub-01" / "func"
    mixing = (
        write_components(folder, START.replace("run-1", "run-01_"))
        if is_prefixed
        else write_components(folder / START, "")
    )
    layout = find_dataset(raw, prep, tedana=tedana)
    assert layout.usable.all() and layout.runs["mixing"].tolist() == [str(mixing)]
    (run,) = layout.read_runs("01", strategy=["tedana", "motion"], motion="basic")
    assert {"rejected_ICA_1", "rejected_ICA_3", "rot_x"} < set(run.confounds.columns)
    assert "ICA_0" not in " ".join(run.confounds.columns)
    without = find_dataset(raw, prep)
    with pytest.raises(InputError, match=r"tedana needs .*ICA_mixing.tsv.*.tedana, --tedana.") as e:
        without.read_runs("01", strategy=["tedana"])
    assert "\n" not in str(e.value)
    table = pd.read_csv(mixing, sep="\t")
    write_tsv(mixing, table.iloc[:-2])
    (told,) = find_dataset(raw, prep, tedana=tedana).problems.query("severity == 'error'")[
        "message"
    ]
    assert "has 38 rows but" in told and "40 volumes" in told


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("classification", ["accepted", "rejected", "good", "rejected"], "holds good; accepted"),
        ("Component", ["ICA_0", "ICA_1", "ICA_2", "ICA_7"], "the same components .*ICA_3, ICA_7"),
        ("Component", ["ICA_0", "ICA_1", "ICA_2", "ICA_2"], "the same components .*ICA_3"),
    ],
)
def test_tables_of_tedana_that_do_not_fit_are_told(tmp_path, column, values, message):
    mixing = write_components(tmp_path, f"{START}_")
    metrics = tmp_path / f"{START}_desc-tedana_metrics.tsv"
    write_tsv(metrics, pd.read_csv(metrics, sep="\t").assign(**{column: values}))
    with pytest.raises(InputError, match=message) as error:
        rejected_components(mixing)
    assert "\n" not in str(error.value)
    metrics.unlink()
    with pytest.raises(InputError, match=r"desc-tedana_metrics\.tsv"):
        rejected_components(mixing)
    with pytest.raises(InputError, match="is no table of tedana's components"):
        rejected_components(tmp_path / "mixing.tsv")
    with pytest.raises(InputError, match='only "aggressive" goes with a model of events'):
        strategy_confounds(mixing, ["tedana"], tedana="non-aggressive")


def test_options_of_confounds_are_checked():
    assert ConfoundOptions(
        strategy=["scrub"], strategy_options={"scrub": "3"}
    ).strategy_options == {"scrub": 3}
    with pytest.raises(InputError, match="unknown strategy of confounds 'tedan'; did you mean"):
        ConfoundOptions(strategy=["tedan"])
    with pytest.raises(InputError, match=r"needs a table of confounds for each of 1 runs"):
        ConfoundOptions(strategy=["motion"]).choose([], ["a.nii"])
