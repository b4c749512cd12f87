"""Noise ceilings and covariances of signal and noise, against planted truth, the published formula,
and the authors' code.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway

from fmri import (
    Patterns,
    pattern_signal_noise,
    region_ceilings,
    response_variances,
    signal_noise,
    voxel_ceilings,
)
from neurometamer.errors import InputError


def responses(signal, repeats, noise, random):
    """Repeat rows of the signal, each its own number of times, and add noise of each voxel."""
    codes = np.repeat(np.arange(len(signal)), repeats)
    values = signal[codes] + noise * random.standard_normal((len(codes), signal.shape[1]))
    return values, [f"c{code:03d}" for code in codes]


def make(n_images=24, repeats=3, n_voxels=40, types=("RE", "AN"), strengths=(1.0, 0.0), seed=0):
    """Patterns of two image types that drive the voxels differently."""
    random = np.random.default_rng(seed)
    parts, rows = [], []
    for image_type, strength in zip(types, strengths, strict=True):
        signal = strength * random.standard_normal((n_images, n_voxels))
        values, names = responses(signal, repeats, 1.0, random)
        numbers = np.concatenate([np.arange(repeats) for _ in range(n_images)]) + 1
        parts.append(values)
        rows.append(
            pd.DataFrame(
                {
                    "condition": [f"{image_type}{name}" for name in names],
                    "presentation": numbers,
                    "run": numbers,
                    "session": "",
                    "image_type": image_type,
                }
            )
        )
    rois = ["V1"] * (n_voxels // 2) + ["LO"] * (n_voxels - n_voxels // 2)
    voxels = {"subject": "01", "roi": rois, "i": range(n_voxels), "j": 0, "k": 0}
    return Patterns(
        values=np.concatenate(parts),
        observations=pd.concat(rows, ignore_index=True),
        voxels=pd.DataFrame(voxels),
    )


def test_noise_and_signal_are_those_of_the_analysis_of_variance():
    random = np.random.default_rng(1)
    values, names = responses(random.standard_normal((12, 3)), 4, 1.5, random)
    variances = response_variances(values, names)
    groups = values.reshape(12, 4, 3)
    within = groups.var(axis=1, ddof=1).mean(axis=0)
    np.testing.assert_allclose(variances.noise, within, rtol=1e-12)
    f = f_oneway(*groups).statistic
    # F = 1 + repeats x signal / noise
    np.testing.assert_allclose(variances.signal, (f - 1) * within / 4, rtol=1e-10)


def test_the_published_formula_gives_the_same_where_the_variance_is_one():
    """NSD: total variance 1, signal what noise leaves of it, NC = ncsnr² / (ncsnr² + 1 / k)."""
    random = np.random.default_rng(2)
    values, names = responses(random.standard_normal((4000, 5)), 3, [0.5, 1, 2, 3, 4], random)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    noise = values.reshape(4000, 3, 5).var(axis=1, ddof=1).mean(axis=0)
    ncsnr = np.sqrt(1 - noise) / np.sqrt(noise)
    variances = response_variances(values, names)
    # they differ by the sampling error of a variance of 1, and by 1 / n
    np.testing.assert_allclose(variances.ncsnr, ncsnr, rtol=2e-3)
    expected = 100 * ncsnr**2 / (ncsnr**2 + 1 / 3)
    np.testing.assert_allclose(100 * variances.ceiling, expected, atol=0.1)
    by_hand = 100 * variances.ncsnr**2 / (variances.ncsnr**2 + 1 / 3)
    np.testing.assert_allclose(100 * variances.ceiling, by_hand, rtol=1e-12)


@pytest.mark.parametrize("repeats", [2, 10, "unequal"])
def test_variances_are_unbiased_and_kept_below_zero(repeats):
    random = np.random.default_rng(3)
    n_voxels, n_images = 4000, 12
    counts = np.arange(n_images) % 4 + 1 if repeats == "unequal" else np.full(n_images, repeats)
    signal = 0.3 * random.standard_normal((n_images, n_voxels))
    variances = response_variances(*responses(signal, counts, 1.0, random))
    assert variances.repeats == pytest.approx(1 / np.mean(1 / counts))
    error = variances.signal.std() / np.sqrt(n_voxels)
    assert abs(variances.signal.mean() - 0.09) < 4 * error
    assert abs(variances.noise.mean() - 1) < 4 * variances.noise.std() / np.sqrt(n_voxels)
    assert (variances.signal < 0).any() and (variances.ncsnr >= 0).all()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_ceilings_averaged_over_voxels_have_no_bias(strength):
    """The bar is .03; benchmark F5 goes through all designs."""
    errors = []
    for seed in range(10 if strength else 40):  # around 0 a root scatters more
        patterns = make(40, 2, 400, ("RE",), (strength,), seed)
        table = region_ceilings(patterns)
        truth = strength**2 / (strength**2 + 1 / 2)
        means = table[["nc", "r", "mean_r"]].mean().to_numpy() / [100, 1, 1]
        errors.append(means - np.sqrt([truth**2, truth, truth]))
    bias = np.abs(np.mean(errors, axis=0))
    assert bias[0] < 0.015 and bias[1:].max() < 0.03
    clipped = voxel_ceilings(patterns)["nc"].mean() / 100 - truth
    assert strength > 0 or clipped > 0.05  # clipped ceilings are too high without signal


@pytest.mark.parametrize("repeats", [(2,), (3,), (10,), (1, 2, 3, 4)])
def test_ceilings_of_regions_whose_voxels_differ(repeats):
    """Half of the voxels have no signal: mean and root of it; the mean of roots is below both."""
    errors = []
    for seed in range(30):
        random = np.random.default_rng([seed, len(repeats)])
        strength = np.where(np.arange(200) % 2, 1.0, 0.0)
        counts = np.resize(repeats, 40)
        signal = strength * random.standard_normal((40, 200))
        variances = response_variances(*responses(signal, counts, 1.0, random))
        planted = strength**2 / (strength**2 + np.mean(1 / counts))
        error = [variances.nc - planted.mean(), variances.r - np.sqrt(planted.mean())]
        errors.append([*error, variances.mean_r - np.sqrt(planted).mean()])
        assert variances.mean_r < variances.r
    share, r, mean_r = np.mean(errors, axis=0)
    assert abs(share) < 0.015 and abs(r) < 0.03
    assert -0.01 < mean_r < 0.06  # roots of what noise leaves in half of the voxels are above 0


def test_a_region_without_signal_has_ceilings_around_zero():
    """Signed, so that means over regions keep no bias; a mean of clipped ones would."""
    signs = []
    for seed in range(12):
        row = region_ceilings(make(40, 2, 100, ("RE",), (0.0,), seed)).iloc[0]
        assert row["r"] == pytest.approx(np.sign(row["nc"]) * np.sqrt(abs(row["nc"]) / 100))
        assert row["mean_r"] <= row["r"]
        signs.append(row["r"] > 0)
    assert 0 < sum(signs) < 12


def test_image_types_have_ceilings_of_their_own():
    patterns = make()
    types = dict(zip(patterns.observations["condition"], patterns.observations["image_type"]))
    table = region_ceilings(patterns, types).set_index(["roi", "image_type"])
    assert table.loc[("V1", "RE"), "nc"] > 60 and table.loc[("LO", "AN"), "nc"] < 12
    pd.testing.assert_frame_equal(
        region_ceilings(patterns, "image_type"), region_ceilings(patterns, types)
    )
    alone = patterns.select(conditions=[name for name in types if types[name] == "AN"])
    voxels = voxel_ceilings(patterns, types)
    part = voxels[voxels["image_type"] == "AN"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        part.drop(columns="image_type"), voxel_ceilings(alone).drop(columns="image_type")
    )
    np.testing.assert_allclose(voxels["r"], np.sqrt(voxels["nc"] / 100))
    assert set(pattern_signal_noise(patterns, types)) == {
        ("01", roi, image_type) for roi in ("V1", "LO") for image_type in ("RE", "AN")
    }


def nearest(matrix):
    lengths, directions = np.linalg.eigh(matrix)
    return (directions * np.clip(lengths, 0, None)) @ directions.T


def test_covariances_are_those_of_the_optimization_written_out():
    """The updates of the authors' code (GSN of 2025, without shrinkage), to its stopping rule.

    `perform_gsn` itself was run on such data: largest difference 1e-10.
    """
    random = np.random.default_rng(4)
    n, k, p = 20, 3, 15
    mixing = random.standard_normal((2, p))
    signal = random.standard_normal((n, 2)) @ mixing
    values, names = responses(signal, k, 2.0, random)
    ours = signal_noise(values, names, shrink=False)
    trials = values.reshape(n, k, p)
    noise = np.mean([np.cov(trial.T) for trial in trials], axis=0)
    means = np.cov(trials.mean(axis=1).T)
    of_noise, of_signal = noise, means - noise / k
    assert np.linalg.eigvalsh(of_signal)[0] < -0.1  # something is to be done
    for _ in range(50):
        before = of_signal, of_noise
        of_signal = nearest(means - of_noise / k)
        total = n * k**2 * (k - 1) + n - 1
        own = n * (k - 1) * k**2 / total * noise
        of_noise = nearest(own + (n - 1) * k / total * (means - of_signal))
        pairs = zip(before, (of_signal, of_noise), strict=True)
        if all(np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999 for a, b in pairs):
            break
    np.testing.assert_allclose(ours.signal.matrix, of_signal, atol=1e-9)
    np.testing.assert_allclose(ours.noise.matrix, of_noise, atol=1e-9)
    np.testing.assert_allclose(ours.variances.noise, np.diag(noise), rtol=1e-12)


@pytest.mark.parametrize("max_full", [2000, 10])
@pytest.mark.parametrize("counts", [3, "unequal"])
def test_planted_covariances_come_back(max_full, counts):
    random = np.random.default_rng(5)
    n, p = 150, 60
    mixing = random.standard_normal((6, p))
    shared = random.standard_normal((10, p)) / 2
    own = random.uniform(1, 2, p)
    repeats = np.arange(n) % 4 + 1 if counts == "unequal" else np.full(n, counts)
    signal = random.standard_normal((n, 6)) @ mixing
    values, names = responses(signal, repeats, own, random)
    values += random.standard_normal((len(values), 10)) @ shared
    covariances = signal_noise(values, names, max_full=max_full, rank=50)
    truths = (mixing.T @ mixing, shared.T @ shared + np.diag(own**2))
    off = ~np.eye(p, dtype=bool)
    for found, truth in zip((covariances.signal, covariances.noise), truths, strict=True):
        assert np.linalg.eigvalsh(found.matrix)[0] > -1e-9
        assert np.corrcoef(found.matrix[off], truth[off])[0, 1] > 0.9
        np.testing.assert_allclose(found.variances, np.diag(found.matrix))
        assert abs(found.variances.sum() / np.trace(truth) - 1) < 0.15
    assert covariances.signal.factors.shape[1] <= (p if max_full > p else 50)


def test_shrinkage_is_chosen_by_left_out_images():
    """Independent noise needs no covariance, and strong shared noise needs all of it."""
    random = np.random.default_rng(6)
    signal = random.standard_normal((60, 30))
    values, names = responses(signal, 3, 1.0, random)
    assert signal_noise(values, names).kept_noise < 0.2
    shared = values + 3 * random.standard_normal((180, 1))
    assert signal_noise(shared, names).kept_noise > 0.8
    assert signal_noise(shared, names, shrink=False).kept_noise == 1


def test_many_voxels_have_low_rank_without_a_square_matrix():
    random = np.random.default_rng(7)
    values, names = responses(random.standard_normal((10, 2500)), 2, 1.0, random)
    covariances = signal_noise(values, names, rank=5)
    assert covariances.noise.factors.shape == (2500, 5)
    np.testing.assert_allclose(covariances.noise.variances, covariances.variances.noise)
    assert covariances.signal.factors.shape[1] <= 5


def test_what_has_no_noise_is_refused():
    patterns = make(types=("RE",), strengths=(1.0,))
    once = patterns.observations["presentation"] == 1
    single = Patterns(
        values=patterns.values[once],
        observations=patterns.observations[once],
        voxels=patterns.voxels,
    )
    with pytest.raises(
        InputError, match=r"ROI 'V1', image type 'all': each of 24 images .* was shown once, and"
    ):
        voxel_ceilings(single)
    with pytest.raises(InputError, match=r"ROI 'V1', image type 'RE': 3 image\(s\)"):
        region_ceilings(patterns.select(conditions=patterns.conditions[:3]), "image_type")
    values = patterns.values.copy()
    values[:, 3] = 7.0
    constant = Patterns(values=values, observations=patterns.observations, voxels=patterns.voxels)
    with pytest.raises(InputError, match=r"the same response .* in V1 \(3, 0, 0\): constant"):
        voxel_ceilings(constant)
    with pytest.raises(InputError, match=r"conditions without an image type: REc000.*24 in all"):
        voxel_ceilings(patterns, {"other": "RE"})
    with pytest.raises(InputError, match="column of the observations 'kind'"):
        voxel_ceilings(patterns, "kind")
    with pytest.raises(InputError, match="shape"):
        response_variances(patterns.values, ["a", "b"])
    with pytest.raises(InputError, match="more than one image type in the column 'run'"):
        voxel_ceilings(patterns, "run")
