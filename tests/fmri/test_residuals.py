"""Residuals of GLMs as the noise that whitens, against nilearn, rsatoolbox and planted noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fmri import (
    Residuals,
    SimulationOptions,
    estimate_betas,
    event_design,
    glm_residuals,
    read_residuals,
    read_runs,
    simulate_subject,
    write_patterns,
    write_residuals,
    zscore_patterns,
)
from neurometamer.cli import app
from neurometamer.errors import InputError
from neurometamer.rsa import pattern_rdms, read_rdms


@pytest.fixture(scope="module")
def runs(simulated):
    return read_runs(simulated.bold, simulated.events, simulated.confounds)


@pytest.fixture(scope="module")
def masks(simulated):
    return {roi: simulated.masks[roi] for roi in ("V1", "LO")}


@pytest.fixture(scope="module")
def residuals(runs, masks):
    return glm_residuals(runs, masks)


@pytest.fixture(scope="module")
def patterns(runs, masks):
    return estimate_betas(runs, masks)


def table(patterns):
    ids = list(patterns.conditions)
    return pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})


def test_residuals_are_those_of_least_squares(runs, masks):
    from fmri.extraction import read_voxels
    from fmri.rois.regions import read_masks, voxel_table

    left = glm_residuals(runs[:1], masks, noise_model="ols", units="raw")
    _, design = event_design(runs[0])
    _, union, position = voxel_table(read_masks(masks, runs[0].image), runs[0].subject)
    series = read_voxels(runs[0].image, union)[:, position]
    design = design.to_numpy()
    expected = series - design @ np.linalg.lstsq(design, series, rcond=None)[0]
    # float32, of values around 1,000
    np.testing.assert_allclose(left.values, expected, atol=1e-3)
    assert left.dof == design.shape[0] - design.shape[1]


def test_residuals_are_the_planted_noise(tmp_path):
    """White noise in percent of the baseline, once degrees of freedom are counted."""
    subject = simulate_subject(
        tmp_path,
        subject="01",
        conditions=["cat", "cup", "dog", "hat"],
        features={"x": np.eye(4)},
        mixing={"V1": {"x": 1.0}},
        seed=0,
        voxels_per_roi=100,
        n_runs=3,
        options=SimulationOptions(noise_ar1=0.0, noise_sd=1.3),
    )
    runs = read_runs(subject.bold, subject.events, subject.confounds)
    # with many regressors nilearn finds negative autocorrelations in white noise
    for noise_model, tolerance in (("ols", 0.05), ("ar1", 0.1)):
        left = glm_residuals(runs, subject.masks, noise_model=noise_model)
        variances = (left.values.astype(float) ** 2).sum(axis=0) / left.dof
        assert np.sqrt(np.median(variances)) == pytest.approx(1.3, rel=tolerance)
        assert left.provenance["simulated"] is True


def test_crossnobis_with_residuals_is_that_of_rsatoolbox(patterns, residuals):
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_residuals
    from rsatoolbox.rdm import calc_rdm

    subject = patterns.subject
    ours = pattern_rdms(
        {subject: patterns}, table(patterns), measure="crossnobis", residuals={subject: residuals}
    )
    inside = (patterns.voxels["roi"] == "LO").to_numpy()
    left = residuals.values[:, (residuals.voxels["roi"] == "LO").to_numpy()].astype(float)
    names = patterns.observations["condition"].tolist()
    data = Dataset(
        patterns.values[:, inside],
        obs_descriptors={"condition": names, "run": patterns.observations["run"].tolist()},
    )
    precision = prec_from_residuals(left, dof=residuals.dof, method="shrinkage_diag")
    theirs = calc_rdm(
        data, method="crossnobis", descriptor="condition", cv_descriptor="run", noise=precision
    )
    order = [theirs.pattern_descriptors["condition"].index(name) for name in patterns.conditions]
    first, second = np.triu_indices(len(order), 1)
    expected = theirs.get_matrices()[0][np.ix_(order, order)][first, second]
    at = ours.rdm_descriptors["roi"].index("LO")
    np.testing.assert_allclose(ours.dissimilarities[at], expected, rtol=1e-6, atol=1e-9)
    assert residuals.digest in ours.descriptors["provenance"]


def test_the_commands_write_and_use_residuals(simulated, masks, tmp_path):
    words = ["fmri", "patterns", "--out", tmp_path / "S1.h5", "--residuals", tmp_path / "left.h5"]
    words += ["--bold", *simulated.bold, "--events", *simulated.events]
    words += ["--confounds", *simulated.confounds, "--noise-model", "ols"]
    words += ["--masks", *(f"{roi}={mask}" for roi, mask in masks.items())]
    assert app.run([str(word) for word in words]) == 0
    assert read_residuals(tmp_path / "left.h5").provenance["settings"]["noise_model"] == "ols"
    words = ["rdm", "--patterns", tmp_path / "S1.h5", "--measure", "mahalanobis"]
    words += ["--residuals", tmp_path / "left.h5", "--out", tmp_path / "rdms.h5"]
    assert app.run([str(word) for word in words]) == 0
    assert "residuals" in read_rdms(tmp_path / "rdms.h5").descriptors["provenance"]


def test_residuals_of_other_voxels_or_units_are_refused(patterns, residuals, tmp_path):
    subject = patterns.subject
    few = Residuals(values=residuals.values[:, 2:], voxels=residuals.voxels[2:], dof=residuals.dof)
    crossnobis = {"table": table(patterns), "measure": "crossnobis"}
    with pytest.raises(InputError, match=r"no residuals of V1 \(.*, V1 \("):
        pattern_rdms({subject: patterns}, residuals={subject: few}, **crossnobis)
    with pytest.raises(InputError, match=f"no residuals of subject.s. {subject}"):
        pattern_rdms({subject: patterns}, residuals={"S9": residuals}, **crossnobis)
    scaled = zscore_patterns(patterns, "run")
    with pytest.raises(InputError, match="z-scored within each run have other units"):
        pattern_rdms({subject: scaled}, residuals={subject: residuals}, **crossnobis)
    with pytest.raises(InputError, match=r"'spearman' .* uses no residuals"):
        pattern_rdms({subject: patterns}, table(patterns), residuals={subject: residuals})
    with pytest.raises(InputError, match="not pooled"):
        pattern_rdms({subject: patterns}, residuals={subject: residuals}, pooled=True, **crossnobis)
    file = write_residuals(residuals, tmp_path / "left.h5")
    assert read_residuals(file).digest == residuals.digest
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=r"left\.h5"):
        read_residuals(file)
    other = write_patterns(patterns, tmp_path / "S1.h5")
    with pytest.raises(InputError, match="holds no residuals"):
        read_residuals(other)
    with pytest.raises(InputError, match="one column each"):
        Residuals(values=np.ones((5, 2)), voxels=residuals.voxels, dof=3)
