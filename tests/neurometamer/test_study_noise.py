"""A study whose regional RDMs rest on the noise of voxels, or on the voxels of all subjects."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from fmri import (
    estimate_betas,
    glm_residuals,
    pool_subjects,
    read_runs,
    simulate_subject,
    write_patterns,
)
from neurometamer.errors import InputError
from neurometamer.rsa import pattern_rdms
from neurometamer.rsa.files import read_rdms
from neurometamer.store import read_table
from neurometamer.study import check_settings, run_study
from neurometamer.study.image_steps import stimulus_table
from neurometamer.study.steps import _workspace, check_study

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "brick.png", "camera.png")
IDS = [name.split(".")[0] for name in PICTURES]
SUBJECTS = ("anna", "ben")
HEAD = """
[images]
ready = "photographs"
[model]
name = "alexnet"
weights = "random"
stages = ["relu1"]
[selection]
voxels_per_roi = 0
[glm]
noise_model = "ols"
[rsa]
n_resamples = 10
n_permutations = 20
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Photographs and the runs of two simulated subjects, by name."""
    folder = tmp_path_factory.mktemp("scans")
    source = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    (folder / "photographs").mkdir()
    for name in PICTURES:
        shutil.copy(source / name, folder / "photographs" / name)
    features = {"x": np.random.default_rng(0).standard_normal((6, 5))}
    subjects = {}
    for name in SUBJECTS:
        subjects[name] = simulate_subject(
            folder / name,
            subject=name,
            conditions=IDS,
            features=features,
            mixing={"V1": {"x": 1.0}, "LO": {"x": 0.5}},
            seed=len(name),
            voxels_per_roi=12,
            n_runs=3,
        )
    return folder, subjects


def study_file(scans, rsa: str = "", glm: str = "", subjects=SUBJECTS) -> Path:
    folder, files = scans
    text = HEAD.replace("[rsa]\n", f"{glm}\n[rsa]\n") + rsa + '\n[brain]\nsource = "bold"\n'
    for name in subjects:
        subject = files[name]
        lists = {"bold": subject.bold, "events": subject.events, "confounds": subject.confounds}
        text += f'[[brain.subjects]]\nid = "{name}"\n'
        for key, paths in lists.items():
            text += f"{key} = {json.dumps(list(map(str, paths)))}\n"
        masks = ", ".join(f'{roi} = "{path}"' for roi, path in subject.masks.items())
        text += f"masks = {{ {masks} }}\n"
    path = folder / "study.toml"
    path.write_text(text)
    return path


def betas_and_residuals(subject):
    runs = read_runs(subject.bold, subject.events, subject.confounds)
    betas = estimate_betas(runs, subject.masks, noise_model="ols")
    return betas, glm_residuals(runs, subject.masks, noise_model="ols")


def messages(path: Path) -> str:
    return "\n".join(problem.message for problem in check_study(path))


def test_the_noise_of_residuals_whitens_the_rdms_of_regions(scans, tmp_path):
    """The same numbers as direct calls; the network keeps a measure of its own."""
    study = study_file(scans, 'brain_measure = "crossnobis"\nresiduals = true')
    report = run_study(study, tmp_path / "out")
    rdms = read_rdms(tmp_path / "out" / "rdms" / "brain.h5")
    assert rdms.dissimilarity_measure == "crossnobis"
    network = read_rdms(tmp_path / "out" / "rdms" / "network.h5")
    assert network.dissimilarity_measure == "1 - Spearman"
    parts = {name: betas_and_residuals(subject) for name, subject in scans[1].items()}
    table = stimulus_table(_workspace(study, tmp_path / "out"))
    betas = {name: part[0] for name, part in parts.items()}
    left = {name: part[1] for name, part in parts.items()}
    expected = pattern_rdms(betas, table, measure="crossnobis", residuals=left)
    # residuals are kept as float32 by both
    np.testing.assert_allclose(rdms.dissimilarities, expected.dissimilarities, rtol=1e-10)
    by_presentations = pattern_rdms(betas, table, measure="crossnobis")
    assert not np.allclose(rdms.dissimilarities, by_presentations.dissimilarities, rtol=0.01)
    methods = (report.parent / "methods.txt").read_text()
    assert "1 - Spearman (network), crossnobis (brain)" in methods
    assert "estimated from residuals of the general linear model (shrinkage_diag)" in methods
    settings = json.loads((tmp_path / "out" / "provenance.json").read_text())["settings"]
    assert settings["rsa"]["residuals"] is True


def test_subjects_pooled_into_one_rdm(scans, tmp_path):
    study = study_file(scans, "pooled = true")
    report = run_study(study, tmp_path / "out")
    rdms = read_rdms(tmp_path / "out" / "rdms" / "brain.h5")
    assert list(rdms.rdm_descriptors["subject"]) == ["anna+ben"] * 2
    assert list(rdms.rdm_descriptors["n_voxels"]) == [24, 24]
    pooled = pool_subjects([betas_and_residuals(subject)[0] for subject in scans[1].values()])
    table = stimulus_table(_workspace(study, tmp_path / "out"))
    expected = pattern_rdms({"all": pooled}, table)
    np.testing.assert_allclose(rdms.dissimilarities, expected.dissimilarities, rtol=1e-12)
    layers = read_table(tmp_path / "out" / "tables" / "layer_roi.csv")
    assert set(layers["subject"]) == {"anna+ben", "mean"}
    encoding = read_table(tmp_path / "out" / "tables" / "encoding.csv")
    assert {"anna", "ben"} <= set(encoding["subject"])  # voxels stay whose they are
    assert "side by side in one matrix a region" in (report.parent / "methods.txt").read_text()


@pytest.mark.parametrize(
    ("rsa", "glm", "message"),
    [
        ('brain_measure = "mahalanobis"\nresiduals = true', 'zscore = "run"', "z-scored within"),
        ('brain_measure = "crossnobis"', "shrinkage = 0.5", "shrinkage are chosen on all runs"),
        ('brain_measure = "crossnobis"\nfolds = "session"', "", "in one session only"),
        ('brain_measure = "crossnobis"', 'per = "condition"', "in one session only"),
        ('interval = "subsample"\nbrain_measure = "crossnobis"', "", "not 'crossnobis'"),
    ],
)
def test_what_a_study_cannot_give_is_refused_before_any_work(scans, rsa, glm, message):
    assert message in messages(study_file(scans, rsa, glm))


def test_one_subject_is_not_pooled(scans):
    study = study_file(scans, "pooled = true", subjects=["ben"])
    assert "at least two subjects, and the study has 1 (ben)" in messages(study)


def test_responses_from_files_have_no_residuals(scans, tmp_path):
    """Nor do betas that were chosen on all runs have independent runs."""
    folder, subjects = scans
    betas = betas_and_residuals(subjects["anna"])[0]
    write_patterns(betas, folder / "plain.h5")
    record = {**betas.provenance, "chosen_on_all_runs": ["denoised"]}
    chosen = type(betas)(
        values=betas.values,
        observations=betas.observations,
        voxels=betas.voxels,
        provenance=record,
    )
    write_patterns(chosen, folder / "chosen.h5")
    text = HEAD + 'brain_measure = "crossnobis"\n'
    subject = '[brain]\nsource = "patterns"\n[[brain.subjects]]\nid = "anna"\npatterns = '
    study = folder / "patterns.toml"
    study.write_text(text + subject + '"plain.h5"\n')
    assert messages(study) == ""
    study.write_text(text + "residuals = true\n" + subject + '"plain.h5"\n')
    assert "anna were estimated before, and have no time courses; give BOLD" in messages(study)
    study.write_text(text + subject + '"chosen.h5"\n')
    assert "denoised by what was chosen on all runs" in messages(study)
    study.write_text(text + "allow_chosen = true\n" + subject + '"chosen.h5"\n')
    assert messages(study) == ""


@pytest.mark.parametrize(
    ("rsa", "message"),
    [
        ({"brain_measure": "crossnobi"}, "did you mean 'crossnobis'"),
        ({"residuals": True}, "residuals would change nothing"),
        ({"brain_measure": "mahalanobis", "folds": "session"}, "folds would change nothing"),
        ({"brain_measure": "mahalanobis", "noise": "none"}, "give an estimator of noise"),
        ({"brain_measure": "crossnobis", "pooled": True}, 'give folds = "presentation"'),
        (
            {"brain_measure": "mahalanobis", "pooled": True, "residuals": True},
            "time courses of subjects differ",
        ),
        ({"pooled": True, "interval": "subjects"}, 'give "stimuli", or leave out pooled'),
        ({"measure": "crossnobis"}, 'brain_measure = "crossnobis" for the regions alone'),
    ],
)
def test_settings_that_do_not_go_together_are_told(rsa, message):
    with pytest.raises(InputError, match=message):
        check_settings({"rsa": rsa})
