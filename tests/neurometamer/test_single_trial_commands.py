"""Commands and settings of single-trial betas, contrasts and derivatives."""

from __future__ import annotations

import json
import sys

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import SingleTrialOptions, estimate_betas, read_runs, simulate_subject
from fmri.betas.derivatives import read_bids_betas
from fmri.bids import file_labels
from neurometamer.cli import main
from neurometamer.commands import fmri_betas, fmri_patterns
from neurometamer.errors import InputError
from neurometamer.study.settings import check_settings


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate_subject(
        tmp_path_factory.mktemp("subject"),
        subject="01",
        conditions=[f"c{number}" for number in range(8)],
        features={"x": np.random.default_rng(0).normal(size=(8, 5))},
        mixing={"V1": {"x": 1.0}, "V2": {"x": 0.5}},
        seed=1,
        voxels_per_roi=30,
        n_runs=3,
    )


def files(simulated):
    return {"bold": simulated.bold, "events": simulated.events, "confounds": simulated.confounds}


def test_betas_of_the_command_are_those_of_the_function(simulated, tmp_path, monkeypatch, capsys):
    words = [
        "neurometamer",
        "fmri",
        "betas",
        "--out",
        str(tmp_path / "out"),
        "--noise-model",
        "ols",
    ]
    for name, paths in files(simulated).items():
        words += [f"--{name}", *map(str, paths)]
    words += ["--masks", *[f"{name}={path}" for name, path in simulated.masks.items()]]
    words += ["--hrf", "library", "--n-noise", "auto", "--max-noise", "4", "--shrinkage", "auto"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (0, None)
    runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    options = SingleTrialOptions(hrf="library", n_noise="auto", max_noise=4, shrinkage="auto")
    betas = estimate_betas(runs, simulated.masks, noise_model="ols", single_trials=options)
    again = fmri_patterns(simulated.masks, betas=tmp_path / "out")
    np.testing.assert_array_equal(again.values, betas.values.astype(np.float32))
    record = json.loads((tmp_path / "out" / "betas.json").read_text())
    made = betas.provenance["single_trials"]
    assert record["provenance"]["single_trials"] == made
    # the command says what the table of a study says
    printed = capsys.readouterr().err
    n_shapes, noise = len(made["hrf"]["n_voxels"]), made["noise"]
    assert "betas of 01: each voxel has the response of a library" in printed
    assert f"(shapes taken: {n_shapes};" in printed
    assert f"noise regressors: {noise['n_regressors']}, from {noise['n_pool']} voxels" in printed
    assert "ridge regression shrinks responses to a fraction of" in printed


def test_contrast_writes_maps(simulated, tmp_path, monkeypatch):
    folder = fmri_betas(
        simulated.masks, tmp_path, **files(simulated), contrast="(c0 + c1) / 2 - c2", units="raw"
    )
    shapes = set()
    for name in ("effect", "t", "z"):
        shapes.add(nibabel.load(folder / f"{name}.nii.gz").shape)
    assert shapes == {nibabel.load(simulated.bold[0]).shape[:3]}
    with pytest.raises(InputError, match="cannot be read"):
        fmri_betas({}, tmp_path, bold=["no.nii"], events=["no.tsv"], contrast="c0 -")
    for options in ({"hrf": "fir"}, {"hrf": "fir", "per": "condition"}):
        with pytest.raises(InputError, match=r"--hrf.* go with betas, .*model\); leave them"):
            fmri_betas(simulated.masks, tmp_path, **files(simulated), contrast="c0 - c1", **options)
    with pytest.raises(InputError, match="--estimator go with betas"):
        fmri_betas(
            simulated.masks,
            tmp_path,
            **files(simulated),
            contrast="c0 - c1",
            estimator="LSS",
        )
    words = ["neurometamer", "fmri", "betas", "--out", str(tmp_path / "line")]
    for name, paths in files(simulated).items():
        words += [f"--{name}", *map(str, paths)]
    words += ["--masks", *[f"{name}={path}" for name, path in simulated.masks.items()]]
    monkeypatch.setattr(sys, "argv", [*words, "--contrast", "c0 > c1"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (0, None) and (tmp_path / "line" / "z.nii.gz").is_file()
    with pytest.raises(InputError, match="no masks given"):
        fmri_betas({}, tmp_path, **files(simulated), contrast="c0 - c1")


def test_contrasts_are_written_as_derivatives_beside_betas(simulated, tmp_path):
    given = files(simulated)
    plain = fmri_betas(simulated.masks, tmp_path / "plain", **given, contrast="c0 - c1")
    root = tmp_path / "bids"
    for contrast in ("c0 - c1", "(c0 + c2) / 2 - c1"):
        fmri_betas(simulated.masks, root, **given, contrast=contrast, as_bids=True)
    names = sorted(path.name for path in root.rglob("*_contrast-c0VsC1_*.nii.gz"))
    task = file_labels(simulated.bold[0])["task"]
    start = f"sub-01_task-{task}_contrast-c0VsC1_stat-"
    assert names == [f"{start}{stat}_statmap.nii.gz" for stat in ("effect", "t", "z")]
    for stat in ("effect", "t", "z"):
        written = nibabel.load(root / "sub-01" / "func" / f"{start}{stat}_statmap.nii.gz")
        known = nibabel.load(plain / f"{stat}.nii.gz")
        np.testing.assert_array_equal(written.get_fdata(), known.get_fdata())
    sidecar = json.loads((root / "sub-01" / "func" / f"{start}t_statmap.json").read_text())
    assert sidecar["Weights"] == {"c0": 1.0, "c1": -1.0}
    with pytest.raises(InputError, match=r"is of the contrast 'c0 - c1', not of '2 . c0 - c1'"):
        fmri_betas(simulated.masks, root, **given, contrast="2 * c0 - c1", as_bids=True)
    with pytest.raises(InputError, match="neither letters nor digits of ASCII"):
        fmri_betas(simulated.masks, root, **given, contrast="猫", as_bids=True)
    # maps of contrasts are no betas, and the only subject needs no name
    with pytest.raises(InputError, match="has no …_stat-effect_…_statmap"):
        fmri_patterns(simulated.masks, betas=root)
    fmri_betas(simulated.masks, root, **given, as_bids=True, per="condition", noise_model="ols")
    assert len(fmri_patterns(simulated.masks, betas=root)) == 8
    (root / "sub-02").mkdir()
    with pytest.raises(InputError, match=r"has 2 subjects \(sub-01, sub-02\).*\(subject, --subj"):
        fmri_patterns(simulated.masks, betas=root)


def test_noise_comes_from_regions_that_are_not_analyzed(simulated):
    given = files(simulated) | {"noise_model": "ols", "n_noise": 1}
    alone = fmri_patterns(simulated.masks, **given, only=["V2"])
    made = alone.provenance
    assert made["noise_pool"]["n_voxels"] == 30 and alone.rois == ("V2",)
    both = fmri_patterns(simulated.masks, **given).provenance["single_trials"]
    assert made["single_trials"]["noise"]["n_pool"] == both["noise"]["n_pool"]


def test_files_of_bids_need_a_subject(simulated, tmp_path):
    given = files(simulated)
    nameless = [tmp_path / "run1.nii.gz"]
    with pytest.raises(InputError, match=r"run1.nii.gz names no subject .*give subject \(--subj"):
        fmri_betas(simulated.masks, tmp_path, **(given | {"bold": nameless}), as_bids=True)


def test_derivatives_and_foreign_betas_become_patterns(simulated, tmp_path):
    root = fmri_betas(
        simulated.masks, tmp_path / "bids", **files(simulated), as_bids=True, per="condition"
    )
    patterns = fmri_patterns(simulated.masks, betas=root, subject="01")
    assert patterns.values.shape == (8, 60)
    image = next(root.rglob("*statmap.nii.gz"))
    assert f"_task-{file_labels(simulated.bold[0])['task']}_" in image.name
    table = pd.DataFrame({"condition": patterns.observations["condition"]})
    table.to_csv(tmp_path / "volumes.csv", index=False)
    foreign = fmri_patterns(simulated.masks, betas=image, volumes=tmp_path / "volumes.csv")
    np.testing.assert_array_equal(foreign.values, patterns.values)


def test_outputs_are_checked_before_work(tmp_path):
    (tmp_path / "file").touch()
    runs = {"bold": ["no.nii"], "events": ["no.tsv"]}
    with pytest.raises(InputError, match="file is not a folder; choose another --out"):
        fmri_betas({"V1": "no.nii"}, tmp_path / "file", **runs)
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        fmri_patterns({"V1": "no.nii"}, tmp_path, **runs)
    with pytest.raises(InputError, match=r"one of its subjects \(subject, --subject\)"):
        read_bids_betas(tmp_path, {"V1": "no.nii"}, subject="")


def test_settings_of_a_study_are_checked():
    study = {"glm": {"n_noise": "auto", "shrinkage": 0.5, "noise_model": "ols"}}
    options = check_settings(study).glm.single_trials()
    assert options == SingleTrialOptions(n_noise="auto", shrinkage=0.5)
    assert check_settings({}).glm.single_trials() is None
    for glm, message in (
        ({"hrf": "fir", "per": "condition"}, "compares images"),
        ({"shrinkage": "much"}, "'none', 'auto'"),
        ({"shrinkage": 0.5, "per": "condition"}, "single presentations"),
        ({"hrf": "libary"}, "library"),
    ):
        with pytest.raises(InputError, match=message):
            check_settings({"glm": glm})
