"""The reliability of RDMs of all data, from halves: against RDMs of data that were simulated anew."""

from __future__ import annotations

import numpy as np
import pytest

from fmri.rdm_reliability import (
    all_data_reliability,
    halves_reliability,
    random_halves,
    rdm_correlation,
)


def perfect_pair(random, noise, n=30, voxels=60):
    """Halves of two image types that share their signal."""
    signal = random.standard_normal((n, 8)) @ random.standard_normal((8, voxels)) / np.sqrt(8)
    levels = np.exp(0.5 * random.standard_normal(voxels))
    return [
        [signal + noise * levels * random.standard_normal((n, voxels)) for _ in range(2)]
        for _ in range(2)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.6, 1.2, 2.0])
def test_perfect_pairs_seldom_exceed_their_upper_ceiling(noise):
    random = np.random.default_rng(1)
    scores, middle, upper, formula = [], [], [], []
    for _ in range(40):
        halves = perfect_pair(random, noise)
        scores.append(rdm_correlation(*(np.mean(pair, axis=0) for pair in halves)))
        found = [all_data_reliability(*pair) for pair in halves]
        middle.append(np.sqrt(np.prod([max(one, 0) for one, _ in found])))
        upper.append(np.sqrt(np.prod([max(one, 0) for _, one in found])))
        agree = [rdm_correlation(*pair) for pair in halves]
        formula.append(np.sqrt(np.prod([max(2 * share / (1 + share), 0) for share in agree])))
    told = {
        name: float(np.mean(values))
        for name, values in zip(
            ("true", "middle", "upper", "formula"), (scores, middle, upper, formula)
        )
    }
    exceeded = float(np.mean(np.array(scores) > upper))
    print(told, exceeded)
    assert exceeded <= 0.5
    assert abs(told["middle"] - told["true"]) < 0.03
    assert told["formula"] < told["middle"]  # why Spearman-Brown is not used


def test_more_data_are_more_reliable_and_no_signal_is_told():
    random = np.random.default_rng(0)
    first, second = perfect_pair(random, 1.0)[0]
    halves = rdm_correlation(first, second)
    corrected, upper = all_data_reliability(first, second)
    assert halves < corrected < upper < 1
    assert (corrected, upper) == all_data_reliability(first, second)
    without = [rdm_correlation(*pair) for pair in random.standard_normal((20, 2, 12, 30))]
    assert min(without) < 0
    pair = np.random.default_rng(2).standard_normal((2, 12, 30))
    found = rdm_correlation(*pair)
    assert (
        all_data_reliability(*pair)[0] == pytest.approx(found)
        if found <= 0
        else all_data_reliability(*pair)[0] > 0
    )


@pytest.mark.parametrize("at_a_time", [1, 10**9])
def test_random_halves_equal_a_loop_over_splits(monkeypatch, at_a_time):
    """Unequal presentations, odd ones in the second half; rounding alone differs."""
    monkeypatch.setattr("fmri.rdm_reliability._AT_A_TIME", at_a_time)
    random = np.random.default_rng(0)
    codes = random.permutation(np.repeat(np.arange(5), [2, 3, 4, 5, 7]))
    values = random.standard_normal((5, 12))[codes] + random.standard_normal((len(codes), 12))
    halves = random_halves(codes, 6)
    means = (halves @ values).reshape(6, 2, 5, 12)
    weights = halves.toarray().reshape(6, 2, 5, len(codes))
    correlations = []
    for of_split, shares in zip(means, weights, strict=True):
        rdms = []
        for half, share in zip(of_split, shares, strict=True):
            for code in range(5):
                own = np.flatnonzero(share[code])
                assert set(codes[own]) == {code}
                np.testing.assert_allclose(half[code], values[own].mean(axis=0), rtol=1e-12)
            rdms.append(1 - np.corrcoef(half)[np.triu_indices(5, 1)])
        correlations.append(np.corrcoef(*rdms)[0, 1])
        # every presentation is in one half, and the first has the smaller number
        assert (shares > 0).any(axis=1).sum(axis=0).tolist() == [1] * len(codes)
        assert (shares > 0).sum(axis=2)[0].tolist() == [1, 1, 2, 2, 3]
    expected = np.mean(correlations)
    assert halves_reliability(values, halves, 6) == pytest.approx(expected, rel=1e-12)
