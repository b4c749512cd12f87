"""The fit of betas: nilearn's numbers for every model, in slabs of voxels and in a given memory."""

from __future__ import annotations

import gzip
import logging
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmri import BoldRun, estimate_betas, event_design, noise_gain, read_masks, read_run
from fmri.betas.estimate import EVENT_MODELS
from fmri.betas.memory import RunSize, parse_memory, plan_memory
from neurometamer.commands import fmri_betas
from neurometamer.errors import InputError

N_EVENTS = 14


@pytest.fixture(scope="module")
def fitted():
    """Noise with many autoregressive coefficients (none to strong), drift and events."""
    rng = np.random.default_rng(7)
    onsets = 4 + 9 * np.arange(N_EVENTS) + rng.random(N_EVENTS)
    events = pd.DataFrame({"onset": onsets, "duration": 2.0, "trial_type": "a"})
    confounds = pd.DataFrame(rng.normal(size=(90, 4)).cumsum(axis=0), columns=list("wxyz"))
    run = BoldRun(image=Path("b.nii"), n_volumes=90, t_r=1.5, events=events, confounds=confounds)
    design = event_design(run)[1].to_numpy()
    series = rng.normal(size=(90, 300))
    rho = rng.uniform(-0.5, 0.95, 300)
    for volume in range(1, 90):
        series[volume] += rho * series[volume - 1]
    amplitudes = rng.normal(size=(N_EVENTS, 300))
    return design, 1000 + 10 * series + 10 * design[:, :N_EVENTS] @ amplitudes


def nilearn_betas(series, design, n_events, noise_model):
    from nilearn.glm.first_level import run_glm

    labels, results = run_glm(series, design, noise_model=noise_model)
    betas = np.empty((n_events, series.shape[1]))
    for label, result in results.items():
        betas[:, labels == label] = result.theta[:n_events]
    return betas


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_least_squares_all_is_nilearns_run_glm(fitted, noise_model):
    design, series = fitted
    ours = EVENT_MODELS["LSA"](design, N_EVENTS, noise_model)(series)
    theirs = nilearn_betas(series, design, N_EVENTS, noise_model)
    # of betas of about 100: the pseudo-inverse of a mean of 1000 leaves 1e-11
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_least_squares_separate_is_one_run_glm_an_event(fitted, noise_model):
    design, series = fitted
    ours = EVENT_MODELS["LSS"](design, N_EVENTS, noise_model)(series)
    events, rest = design[:, :N_EVENTS], design[:, N_EVENTS:]
    for event in range(N_EVENTS):
        others = events.sum(axis=1) - events[:, event]
        separate = np.column_stack([events[:, event], others, rest])
        theirs = nilearn_betas(series, separate, 1, noise_model)[0]
        np.testing.assert_allclose(ours[event], theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("estimator", ["LSA", "LSS"])
def test_autoregressive_noise_is_binned_per_voxel(fitted, estimator):
    """Voxels get coefficients of their own, and none depends on the voxels fitted with it."""
    design, series = fitted
    fit = EVENT_MODELS[estimator](design, N_EVENTS, "ar1")
    together = fit(series)
    parts = [fit(series[:, first : first + 37]) for first in range(0, 300, 37)]
    np.testing.assert_allclose(np.hstack(parts), together, rtol=0, atol=1e-11)
    white = EVENT_MODELS[estimator](design, N_EVENTS, "ols")(series)
    assert np.abs(together - white).max() > 1


@pytest.mark.parametrize("estimator", ["LSA", "LSS"])
def test_a_single_event_is_fitted(fitted, estimator):
    design, series = fitted
    single = np.delete(design, np.arange(1, N_EVENTS), axis=1)
    for noise_model in ("ols", "ar1"):
        ours = EVENT_MODELS[estimator](single, 1, noise_model)(series)
        theirs = nilearn_betas(series, single, 1, noise_model)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


def test_noise_gain_is_the_root_of_the_inverse_normal_matrix(fitted):
    design, _ = fitted
    names = [f"event_{number}" for number in range(N_EVENTS)]
    names += [f"rest_{number}" for number in range(design.shape[1] - N_EVENTS)]
    inverse = np.linalg.inv(design.T @ design)
    expected = np.median(np.sqrt(np.diag(inverse)[:N_EVENTS]))
    np.testing.assert_allclose(noise_gain(pd.DataFrame(design, columns=names)), expected)


@pytest.mark.parametrize("hrf_model", ["glover", "spm"])
@pytest.mark.parametrize("slice_time_ref", [0.0, 0.5])
@pytest.mark.parametrize(("t_r", "durations"), [(2.0, 2.0), (0.8, [0.5, 1.0, 0.3] * 4), (1.37, 0)])
def test_regressors_are_those_of_nilearn(hrf_model, slice_time_ref, t_r, durations):
    from nilearn.glm.first_level import make_first_level_design_matrix

    rng = np.random.default_rng(11)
    onsets = np.linspace(-5, 150 * t_r - 14, 12) + rng.uniform(0, 3, 12)
    events = pd.DataFrame({"onset": onsets, "duration": durations, "trial_type": "a"})
    run = BoldRun(image=Path("b.nii"), n_volumes=150, t_r=t_r, events=events)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no event has a duration")
        ours = event_design(run, hrf_model=hrf_model, slice_time_ref=slice_time_ref)[1]
    names = [f"event_{number:04d}" for number in range(1, 13)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*null duration.*")
        theirs = make_first_level_design_matrix(
            np.arange(150) * t_r + slice_time_ref * t_r,
            run.events.assign(trial_type=names),
            hrf_model=hrf_model,
            high_pass=0.01,
        )
    assert list(ours) == list(theirs)
    # differences of running sums in place of a convolution
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------ memory


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_betas_in_little_memory_are_the_same(make_run, suffix, caplog):
    bold, events, mask = make_run(shape=(20, 20, 12), suffix=suffix, n_volumes=60)
    inside = {"all": np.ones((20, 20, 12), dtype=bool)}
    inside["part"] = np.zeros_like(inside["all"])
    inside["part"][3:9, 4:12, 5] = True
    run = read_run(bold, events)
    free = estimate_betas([run], inside)
    assert not caplog.records
    with caplog.at_level(logging.INFO, logger="fmri"):
        bound = estimate_betas([run], inside, max_memory="46.2 MB")
    assert "betas of 1 run(s), 4,800 voxels: read " in caplog.text
    assert "passes over the files" in caplog.text and "about 46 MB" in caplog.text
    # products of other slabs are summed in another order
    np.testing.assert_allclose(bound.values, free.values, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match=r"is 1MB, but 4,800 voxels with 19,392 .* need \d+ MB at"):
        estimate_betas([run], inside, max_memory="1MB")
    with pytest.raises(InputError, match="is 'lots'; give a number with a unit, such as 2GB"):
        estimate_betas([run], inside, max_memory="lots")
    assert read_masks({"V1": mask}, bold)["V1"].sum() == 6


def test_a_voxel_of_the_last_pass_is_refused_as_of_the_first(make_run):
    def spoil(data):
        data[19, 19, 11] = np.nan
        data[0, 0, 0, :] = 5
        return data

    bold, events, _ = make_run(shape=(20, 20, 12), edit=spoil)
    run = read_run(bold, events)
    inside = {"all": np.ones((20, 20, 12), dtype=bool)}
    size = RunSize(n_volumes=60, n_events=4, n_columns=7, itemsize=4)
    assert plan_memory([size], 4800, 4800, "46MB").n_passes > 1
    with pytest.raises(InputError, match="1 NaN or infinite in all, 1 constant in all"):
        estimate_betas([run], inside, max_memory="46MB")
    kept = estimate_betas([run], inside, max_memory="46MB", unusable="drop")
    assert len(kept.voxels) == 4798 and len(kept.provenance["dropped"]) == 2


def test_the_least_memory_works_and_one_byte_less_does_not():
    sizes = [RunSize(n_volumes=400, n_events=54, n_columns=70, itemsize=4)]
    with pytest.raises(InputError, match="need 185 MB at least"):
        plan_memory(sizes, 100_000, 100_000, "1MB")
    tight = plan_memory(sizes, 100_000, 100_000, "185MB")
    assert tight.n_read >= 500 and tight.n_bytes <= 185_000_000
    wide = plan_memory(sizes, 100_000, 100_000, "10GB")
    assert (wide.n_passes, wide.n_read) == (1, 100_000)
    for limit in ("190MB", "220MB", "300MB", "1GB"):
        plan = plan_memory(sizes, 100_000, 100_000, limit)
        assert plan.n_bytes <= parse_memory(limit) and plan.n_fitted <= plan.n_read


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2GB", 2e9), ("1.5 gib", 1.5 * 2**30), ("800", 800), ("64MiB", 2**26), ("1,234 MB", 1234e6)],
)
def test_amounts_of_memory_are_read(text, n_bytes):
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 PB", "1e9", "two GB", "1..5GB", "1,5GB"])
def test_other_amounts_are_refused(text):
    with pytest.raises(InputError, match=r"max_memory \(--max-memory\) is"):
        parse_memory(text)


def test_the_command_takes_a_limit_and_damage_is_named(make_run, tmp_path):
    bold, events, mask = make_run(suffix=".nii.gz")
    out = fmri_betas({"V1": mask}, tmp_path / "b", bold=[bold], events=[events], max_memory="1GB")
    assert out.is_dir()
    contents = gzip.decompress(bold.read_bytes())
    bold.write_bytes(gzip.compress(contents)[:-5])
    with pytest.raises(InputError, match=r"bold.nii.gz is cut off or damaged"):
        fmri_betas({"V1": mask}, tmp_path / "c", bold=[bold], events=[events], max_memory="1GB")
