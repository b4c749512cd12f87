"""Scan designs: counterbalanced by construction, written as BIDS, and fit for the GLM that follows."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import make_first_level_design_matrix

from fmri import design_scan, estimate_betas, event_design, read_run, read_runs, write_design
from fmri.bold import BoldRun
from fmri.design import BLANK, PRESETS
from neurometamer.errors import InputError


def images(n_photographs: int, **more) -> pd.DataFrame:
    rows = []
    for number in range(n_photographs):
        for kind in ("RE", "AN", "AI"):
            row = {"id": f"{number:02d}_{kind}", "kind": kind, "reference_id": f"{number:02d}_RE"}
            rows.append({**row, "category": f"class{number % 5}"})
    return pd.DataFrame(rows).assign(**more)


@pytest.fixture(scope="module")
def zhang():
    """The design of Zhang et al. (2021), of one run a session, to be quick."""
    return design_scan(images(40), n_runs=1, seed=3)


def test_the_preset_is_the_published_design(zhang):
    assert PRESETS["zhang2021"].options.n_runs == 5
    run = zhang.runs.iloc[0]
    # 129 trials of 4 s and 20 s at both ends are 556 s, 278 volumes
    assert (run["n_trials"], run["n_blanks"], run["seconds"], run["n_volumes"]) == (
        129,
        9,
        556.0,
        278,
    )
    first = zhang.trials[zhang.trials["session"] == "01"]
    np.testing.assert_allclose(first["onset"], 22 + 4 * np.arange(129))
    counts = first["trial_type"].value_counts()
    assert counts[BLANK] == 9 and set(counts.drop(BLANK)) == {2} and len(counts) == 61


def test_each_session_shows_half_of_the_photographs_with_all_their_images(zhang):
    shown = zhang.images.assign(reference=zhang.images["id"].str[:2])
    assert shown.groupby("reference")["session"].nunique().eq(1).all()
    photographs = shown[shown["image_type"] == "RE"]
    assert photographs["session"].value_counts().to_dict() == {"01": 20, "02": 20}
    category = photographs["reference"].astype(int) % 5
    assert set(photographs.groupby(["session", category.to_numpy()]).size()) == {4}


def test_orders_are_balanced_and_no_image_follows_itself(zhang):
    for _, run in zhang.trials.groupby("session"):
        shown = run[run["trial_type"] != BLANK]
        order = shown["trial_type"].to_numpy()
        assert not np.any(order[1:] == order[:-1])
        assert len(set(order[:60])) == 60  # all images before one is repeated
        # six trials hold two images of each type, ten stretches a cycle
        stretches = shown["image_type"].to_numpy().reshape(20, 6)
        for name in ("RE", "AN", "AI"):
            assert set((stretches == name).sum(axis=1)) == {2}
        means = shown.groupby("image_type")["onset"].mean()
        assert means.max() - means.min() < 8  # of 516 s
        blanks = np.flatnonzero((run["trial_type"] == BLANK).to_numpy())
        assert np.all(np.abs(blanks - (np.arange(9) + 0.5) * 129 / 9) <= 129 / 9)


def test_orders_derive_from_seed_subject_session_and_run():
    def orders(**changes):
        design = design_scan(images(4), n_sessions=1, n_runs=2, n_blanks=2, **changes)
        parts = [part["trial_type"].tolist() for _, part in design.trials.groupby("run")]
        return parts

    first = orders(seed=1)
    assert first == orders(seed=1)
    assert first[0] != first[1]
    assert first != orders(seed=2) and first != orders(seed=1, subject="02")


def test_unequal_types_and_jittered_gaps():
    table = images(6)
    table = table[(table["kind"] != "AI") | table["id"].isin(["00_AI", "01_AI"])]
    design = design_scan(table, preset="jittered", n_runs=1, n_repeats=2)
    gaps = design.trials["gap"].value_counts()
    assert set(gaps) == {5, 6} and sorted(gaps.index) == [2, 3, 4, 6, 10]  # 28 trials, 5 gaps
    steps = np.diff(design.trials["onset"])
    np.testing.assert_allclose(steps, (design.trials["gap"] + 2).to_numpy()[:-1])
    end = design.trials["onset"].iloc[-1] + 2 + design.trials["gap"].iloc[-1] + 16
    assert design.runs["seconds"].iloc[0] == end


def test_predicted_noise_is_that_of_fits_to_noise():
    design = design_scan(images(5), n_sessions=1, n_runs=3, n_blanks=6, seed=2)
    rng = np.random.default_rng(0)
    parts = []
    for _, trials in design.trials.groupby("run"):
        scan = BoldRun(
            image=Path("run_bold.nii"), n_volumes=len(trials) * 2 + 20, t_r=2.0, events=trials
        )
        events, matrix = event_design(scan)
        groups = pd.get_dummies(events["trial_type"]).to_numpy(dtype=float)
        joined = np.column_stack(
            [matrix.iloc[:, : len(events)] @ groups, matrix.iloc[:, len(events) :]]
        )
        noise = rng.normal(size=(len(joined), 3000))
        parts.append(np.linalg.lstsq(joined, noise, rcond=None)[0][: groups.shape[1]])
    measured = np.mean(parts, axis=0).std(axis=1)
    predicted = design.images.set_index("id")["predicted_noise"].sort_index()
    # 3,000 draws: standard error of a standard deviation 1.3 %
    np.testing.assert_allclose(measured, predicted, rtol=0.06)


def test_files_of_a_design_feed_the_glm_after_the_scan(tmp_path):
    table = images(4, file=[f"png/{name}.png" for name in images(4)["id"]])
    design = design_scan(table, n_sessions=1, n_runs=2, n_repeats=1, n_blanks=5, subject="07")
    folder = write_design(design, tmp_path / "design")
    events = sorted(folder.glob("sub-07/func/*_events.tsv"))
    assert [file.name for file in events] == [
        f"sub-07_task-images_run-{run}_events.tsv" for run in (1, 2)
    ]
    rng = np.random.default_rng(1)
    ids = table["id"].tolist()
    planted = rng.normal(2, 1, size=(12, 30))
    bold = []
    for number, file in enumerate(events):
        shown = pd.read_csv(file, sep="\t")
        presented = shown[shown["trial_type"] != BLANK]
        n_volumes = int(design.runs["n_volumes"].iloc[number])
        # nilearn turns names into such that formulas allow; numbers stay in order
        codes = presented.assign(
            trial_type=[f"c{ids.index(name):02d}" for name in presented["trial_type"]]
        )
        matrix = make_first_level_design_matrix(
            np.arange(n_volumes) * 2.0, codes[["onset", "duration", "trial_type"]], drift_model=None
        )
        percent = matrix.iloc[:, :12].to_numpy() @ planted
        series = 1000 * (1 + (percent + 0.1 * rng.normal(size=percent.shape)) / 100)
        image = nibabel.Nifti1Image(series.T.reshape(5, 6, 1, -1).astype(np.float32), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((1, 1, 1, 2.0))
        bold.append(tmp_path / f"sub-07_task-images_run-{number + 1}_bold.nii")
        nibabel.save(image, bold[-1])
    runs = read_runs(bold, events)
    patterns = estimate_betas(runs, {"V1": np.ones((5, 6, 1), dtype=bool)}, noise_model="ols")
    names, means = patterns.means()
    recovered = means[[names.index(name) for name in ids]]
    assert np.corrcoef(recovered.ravel(), planted.ravel())[0, 1] > 0.98
    # the same from the files of the images
    by_file = read_run(bold[0], events[0], condition_column="stim_file").events["trial_type"]
    assert set(by_file) - {BLANK, "n/a"} == set(ids)


def test_tables_for_the_program_that_shows_the_images(tmp_path):
    design = design_scan(images(4), n_runs=1)
    folder = write_design(design, tmp_path / "design")
    tables = sorted((folder / "psychopy").iterdir())
    assert [file.name for file in tables] == ["sub-01_ses-01_run-1.csv", "sub-01_ses-02_run-1.csv"]
    table = pd.read_csv(tables[0])
    # conditions of PsychoPy's TrialHandler: one row a trial, columns that can be variables
    assert all(name.isidentifier() for name in table.columns)
    assert len(table) == 2 * 6 + 9 and table["is_blank"].sum() == 9
    about = json.loads((folder / "task-images_events.json").read_text())
    events = pd.read_csv(next(folder.rglob("*_events.tsv")), sep="\t")
    assert list(events.columns[:3]) == ["onset", "duration", "trial_type"]
    assert set(events.columns) <= set(about)
    record = json.loads((folder / "design.json").read_text())
    assert record["settings"]["preset"] == "zhang2021" and record["settings"]["n_runs"] == 1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"preset": "zhang"}, "unknown preset 'zhang'; did you mean 'zhang2021'"),
        ({}, {"n_run": 3}, "unknown option of a scan 'n_run'; did you mean 'n_runs'"),
        ({}, {"n_runs": 0}, "n_runs is 0; give a positive number"),
        ({}, {"t_r": float("nan")}, "t_r is nan"),
        ({}, {"gaps_s": (2.0, -1.0)}, r"gaps_s is \(2.0, -1.0\)"),
        ({}, {"n_sessions": 9}, r"12 image\(s\) of 4 photograph\(s\) for 9 session"),
        ({}, {"subject": "a b"}, "subject is 'a b'; give a BIDS label"),
        ({"id": "same"}, {}, "images given more than once: same"),
        ({"id": BLANK}, {}, "more than once"),
        ({"kind": None}, {}, r"12 image\(s\) have no id or no kind"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(change, options, message):
    with pytest.raises(InputError, match=message):
        design_scan(images(4).assign(**change), **options)


def test_a_table_without_types_is_refused():
    with pytest.raises(InputError, match=r"the stimulus table lacks the column\(s\) kind"):
        design_scan(images(2).drop(columns="kind"))


def test_a_folder_holds_one_design(tmp_path):
    design = design_scan(images(4), n_runs=1)
    folder = write_design(design, tmp_path / "design")
    files = {path: path.read_bytes() for path in folder.rglob("*.*")}
    write_design(design, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == files
    other = design_scan(images(4), n_runs=2)
    with pytest.raises(
        InputError, match=r"holds another analysis \(other n_runs\); choose another"
    ):
        write_design(other, folder)
    with pytest.raises(InputError, match=r"holds another analysis \(other data\)"):
        write_design(design_scan(images(5), n_runs=1), folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == files
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(notes.txt\)"):
        write_design(design, tmp_path / "full")
