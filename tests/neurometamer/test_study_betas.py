"""What a study says of single-trial betas: its table, page, methods and the works to cite."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from small_studies import IDS, copy_photographs

from fmri import Patterns, read_beta_images, read_patterns, write_patterns
from fmri.betas.choices import beta_rows
from fmri.betas.hrf import LIBRARY_ENDS
from neurometamer.report.beta_findings import betas_words
from neurometamer.report.methods import study_methods, study_works
from neurometamer.report.read_study import read_study
from neurometamer.report.rsa import study_of_tables
from neurometamer.store import read_hdf5_table, read_table
from neurometamer.study import run_study

STUDY = """
[images]
ready = "photographs"
[model]
name = "alexnet"
weights = "random"
stages = ["relu1"]
[selection]
voxels_per_roi = 10
[rsa]
n_resamples = 10
n_permutations = 20
"""
SIMULATED = """
[glm]
noise_model = "ols"
hrf = "library"
n_noise = "auto"
max_noise = 3
[brain.simulation]
subjects = 2
runs = 3
voxels_per_roi = 30
mixing = { V1 = 0.0, LO = 1.0 }
"""
GIVEN = """
[brain]
source = "patterns"
[[brain.subjects]]
id = "anna"
patterns = "anna.h5"
"""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    copy_photographs(folder / "photographs")
    return folder


@pytest.fixture(scope="module")
def simulated(photographs) -> Path:
    (photographs / "simulated.toml").write_text(STUDY + SIMULATED)
    with pytest.warns(UserWarning, match="of denoised betas: what was chosen on all runs"):
        return run_study(photographs / "simulated.toml", photographs / "simulated").parent


def glmsingle(folder: Path) -> Patterns:
    """Write betas as GLMsingle does, denoised and shrunken, and read them."""
    random = np.random.default_rng(4)
    shape = (6, 5, 4)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for name, voxels in {"V1": slice(0, 3), "LO": slice(3, 6)}.items():
        mask = np.zeros(shape, dtype=np.uint8)
        mask[voxels] = 1
        nibabel.save(nibabel.Nifti1Image(mask, affine), folder / f"{name}.nii")
    shown = pd.DataFrame({"condition": IDS * 2, "run": np.repeat(["1", "2"], len(IDS))})
    shown.to_csv(folder / "volumes.csv", index=False)
    signal = random.normal(size=(*shape, len(IDS)))
    with h5py.File(folder / "TYPED_FITHRF_GLMDENOISE_RR.hdf5", "w") as file:
        noise = 0.5 * random.normal(size=(*shape, 2 * len(IDS)))
        file["betasmd"] = np.concatenate([signal, signal], axis=-1) + noise
        file["pcnum"] = 3
        file["FRACvalue"] = np.full(shape, 0.5)
        file["HRFindex"] = np.arange(np.prod(shape)).reshape(shape) % 4
    masks = {name: folder / f"{name}.nii" for name in ("V1", "LO")}
    return read_beta_images(
        folder / "TYPED_FITHRF_GLMDENOISE_RR.hdf5", masks, volumes=folder / "volumes.csv"
    )


def test_a_study_tells_what_was_chosen_for_its_betas_and_gained(simulated):
    rows = read_table(simulated / "tables" / "betas.csv")
    assert rows["subject"].tolist() == ["sub-01", "sub-02"]
    for row in rows.to_dict("records"):
        betas = read_patterns(simulated / ".state" / "betas" / f"{row['subject']}.h5")
        made = betas.provenance["single_trials"]
        shapes = json.loads(row["hrf_shapes"])
        assert shapes == made["hrf"]["n_voxels"] and sum(shapes.values()) == 60
        assert row["n_shapes"] == len(shapes) and row["n_responses"] == 3 * len(IDS)
        at_ends = [n for shape, n in shapes.items() if shape.startswith(LIBRARY_ENDS)]
        assert made["hrf"]["n_at_end"] <= sum(at_ends)
        assert row["share_at_ends"] == pytest.approx(
            made["hrf"]["n_at_end"] / made["hrf"]["n_explained"]
        )
        assert row["n_noise"] == made["noise"]["n_regressors"] <= 3
        assert row["n_pool"] == made["noise"]["n_pool"]
        medians = made["noise"]["median_r2"]
        assert row["noise_r2_none"] == medians[0]
        assert row["noise_r2_chosen"] == medians[made["noise"]["n_regressors"]] >= medians[0]
        assert row["hrf_r2"] >= row["hrf_r2_glover"]
    assert rows[["fraction_median", "less_error"]].isna().all(axis=None)
    whole = read_hdf5_table(simulated / "results.h5", "betas")
    assert whole["n_pool"].tolist() == rows["n_pool"].tolist()


def test_page_and_methods_say_it_in_words(simulated):
    rows = read_table(simulated / "tables" / "betas.csv")
    low, high = sorted(rows["n_pool"].astype(int))
    pool = f"{low} to {high}" if low < high else str(low)
    page = unescape((simulated / "report.html").read_text(encoding="utf-8"))
    methods = (simulated / "methods.txt").read_text(encoding="utf-8")
    start = page.index('<section id="regions"')
    section = page[start : page.index("</section>", start)]
    for text in (section, methods):
        assert "each voxel has the response of a library that predicts other runs best" in text
        assert f"from {pool} voxels that the task does not explain (chosen by predicting" in text
        assert "too high as estimates" in text and "shrinks" not in text
    assert 'href="tables/betas.csv"' in section and "noise regressors" in section
    works = study_works(read_study(simulated))
    assert {"kay2013", "prince2022"} <= set(works) and "rokem2020" not in works


def test_shrunken_betas_made_elsewhere_are_told_as_such(photographs):
    betas = glmsingle(photographs)
    write_patterns(betas, photographs / "anna.h5")
    (photographs / "given.toml").write_text(STUDY + GIVEN)
    with pytest.warns(UserWarning, match="anna: noise ceilings .* of denoised and shrunken betas"):
        out = run_study(photographs / "given.toml", photographs / "given").parent
    rows = read_table(out / "tables" / "betas.csv")
    assert rows["program"].tolist() == ["glmsingle"] and rows["n_responses"].tolist() == [12]
    words = (
        "The betas of anna, made elsewhere (glmsingle), are denoised and shrunken by what was "
        "chosen on all runs together"
    )
    methods = (out / "methods.txt").read_text(encoding="utf-8")
    assert words in methods
    assert "(shapes taken: 4; chosen by glmsingle)" in methods
    assert "noise regressors: 3 (chosen by glmsingle)" in methods
    assert "a fraction of .50 of their length in the median voxel (chosen by glms" in methods
    assert rows["n_noise"].tolist() == [3] and rows["fraction_q1"].tolist() == [0.5]
    assert words in unescape((out / "report.html").read_text(encoding="utf-8"))
    works = study_works(read_study(out))
    assert {"kay2013", "prince2022", "rokem2020"} <= set(works) and "nilearn" not in works
    # a file with plain betas has no table, and the one of the shrunken betas goes
    plain = Patterns(
        values=betas.values,
        observations=betas.observations,
        voxels=betas.voxels,
        provenance={"settings": {"units": "percent"}},
    )
    write_patterns(plain, photographs / "anna.h5")
    run_study(photographs / "given.toml", photographs / "given")
    assert not (out / "tables" / "betas.csv").exists()
    assert "shrunken" not in (out / "methods.txt").read_text(encoding="utf-8")
    assert not {"kay2013", "prince2022", "rokem2020"} & set(study_works(read_study(out)))


def given(*records: object) -> Patterns:
    return Patterns(
        values=np.ones((2, 1)),
        observations=pd.DataFrame(
            {"condition": ["cat", "cup"], "presentation": 1, "run": "1", "session": ""}
        ),
        voxels=pd.DataFrame({"subject": "S1", "roi": ["V1"], "i": 0, "j": 0, "k": 0}),
        provenance={"parts": list(records)},
    )


def words_of(rows: list[dict[str, object]], folder: Path) -> str:
    study = study_of_tables(
        folder, {"betas": pd.DataFrame(rows)}, {"brain": {"source": "patterns"}}
    )
    text = betas_words(study)
    assert not text or any(text in paragraph for paragraph in study_methods(study))
    return text


def test_given_numbers_are_told_as_given_and_parts_apart(tmp_path):
    shrunken = {
        "options": {"per": "presentation", "shrinkage": 0.5},
        "chosen_on_all_runs": ["shrunken"],
        "shrinkage": {"fractions": [0.5, 0.5, 0.5], "less_error_in_other_runs": [0.0, 0.0, 0.0]},
    }
    noise = {
        "options": {"per": "presentation", "n_noise": 2},
        "chosen_on_all_runs": ["denoised"],
        "noise": {"n_regressors": 2, "n_pool": 22, "median_r2": []},
    }
    rows = beta_rows(given({"single_trials": shrunken}, {"single_trials": noise}))
    assert [row["part"] for row in rows] == [1, 2]
    text = words_of(rows, tmp_path)
    assert "noise regressors: 2, from 22 voxels" in text and "(their number was given)" in text
    assert "a fraction of .50 of their length in the median voxel (the fraction was given)" in text
    assert "gains" not in text and text.count("not independent over runs") == 2
    session = {"options": {"per": "condition"}, "chosen_on_all_runs": []}
    assert "one an image and session" in words_of(beta_rows(given(session)), tmp_path)
    chosen = {**shrunken, "options": {"shrinkage": "auto"}}
    chosen["shrinkage"] = {
        "fractions": [0.2, 0.4, 0.8],
        "less_error_in_other_runs": [0.1, 0.15, 0.3],
    }
    text = words_of(beta_rows(given(chosen)), tmp_path)
    assert "(quartiles .20 and .80), which removes 15 % of the error" in text
    published = {"layout": "nsd", "chosen_on_all_runs": ["shrunken"]}
    text = words_of(beta_rows(given(published)), tmp_path)
    assert text.startswith("The betas of S1, made elsewhere (nsd), are shrunken by what was chosen")
    plain = {"options": {"per": "presentation"}, "chosen_on_all_runs": []}
    assert beta_rows(given(plain)) == []


@pytest.mark.parametrize(
    "record",
    [
        {"hrf": 3, "noise": "much", "shrinkage": [], "options": 1},
        {"hrf": {"n_voxels": [1]}, "noise": {"n_regressors": float("inf"), "median_r2": {}}},
        {"noise": {"n_regressors": 10**400, "n_pool": "x"}, "shrinkage": {"fractions": [None]}},
        {"program": ["a"], "noise": {"n_regressors": 7, "median_r2": [0.1]}},
    ],
)
def test_records_of_another_form_are_no_failure(record, tmp_path):
    (row,) = beta_rows(given({**record, "chosen_on_all_runs": ["shrunken", 4]}))
    assert np.isnan(row["noise_r2_chosen"]) and row["chosen_on_all_runs"] == "4, shrunken"
    assert "not independent over runs" in words_of([row], tmp_path)
