"""Bootstrap, noise ceilings and permutation against rsatoolbox on the same draws."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import rsatoolbox
from hypothesis import given
from hypothesis import strategies as st
from rsatoolbox.inference import (
    boot_noise_ceiling,
    eval_bootstrap_pattern,
    eval_bootstrap_rdm,
    eval_dual_bootstrap,
)
from rsatoolbox.inference import evaluate as their_evaluation
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs

from neurometamer.errors import InputError
from neurometamer.rsa.bootstrap import (
    bootstrap_comparison,
    corrected_variance,
    dual_bootstrap,
    subject_samples,
)
from neurometamer.rsa.comparators import ranks as weighted
from neurometamer.rsa.comparators.resampled import doubled_ranks
from neurometamer.rsa.comparators.table import COMPARATORS, permuted_comparison, subject_ceilings
from neurometamer.stats.resampling import bootstrap_counts, max_t_p, pair_weights

RSATOOLBOX = {
    "spearman": "spearman",
    "pearson": "corr",
    "tau-a": "tau-a",
    "rho-a": "rho-a",
    "cosine": "cosine",
    "whitened-cosine": "cosine_cov",
    "whitened-pearson": "corr_cov",
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Noise ceiling for tau based on averaged ranks:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*:tqdm.TqdmWarning"),
]


def rdms(
    n_models: int, n_subjects: int, n: int, seed: int, ties: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Subjects share a part with the first model."""
    rng = np.random.default_rng(seed)
    models = rng.random((n_models, n * (n - 1) // 2))
    data = rng.random((n_subjects, models.shape[1])) + models[0]
    return (np.round(models, 1), np.round(data, 1)) if ties else (models, data)


def fixed(models: np.ndarray) -> list[ModelFixed]:
    return [ModelFixed(str(i), rdm) for i, rdm in enumerate(models)]


def recorded(monkeypatch, name: str, run, *seeded: int):
    """Run theirs, which draws from numpy's global generator, and give its result and draws."""
    draws = []
    theirs = getattr(their_evaluation, name)

    def _spy(*args, **options):
        resample = theirs(*args, **options)
        draws.append(resample[1:])
        return resample

    monkeypatch.setattr(their_evaluation, name, _spy)
    np.random.seed(*seeded)  # noqa: NPY002 - theirs has no other
    return run(), draws


def counted(draws: list[np.ndarray], n: int) -> np.ndarray:
    return np.array([np.bincount(draw, minlength=n) for draw in draws])


# ----------------------------------------------------------------------------- same draws as theirs


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_stimulus_bootstrap_with_ceiling_equals_rsatoolbox(comparator, ties, monkeypatch):
    models, data = rdms(3, 4, 9, 0, ties)
    method = RSATOOLBOX[comparator]
    theirs, draws = recorded(
        monkeypatch,
        "bootstrap_sample_pattern",
        lambda: eval_bootstrap_pattern(fixed(models), RDMs(data), method=method, N=40),
        5,
    )
    samples, ceilings = bootstrap_comparison(
        models, data, counted([draw[0] for draw in draws], 9), comparator=comparator
    )
    np.testing.assert_allclose(samples, theirs.evaluations.reshape(40, 3), atol=1e-12)
    np.testing.assert_allclose(ceilings, theirs.noise_ceiling, atol=1e-12)


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "whitened-cosine", "tau-a"])
def test_subject_bootstrap_with_ceiling_equals_rsatoolbox(comparator, monkeypatch):
    models, data = rdms(2, 3, 6, 1)
    theirs, draws = recorded(
        monkeypatch,
        "bootstrap_sample_rdm",
        lambda: eval_bootstrap_rdm(fixed(models), RDMs(data), method=RSATOOLBOX[comparator], N=25),
        6,
    )
    people = counted([draw[0] for draw in draws], 3)
    assert (people == 3).any()  # one subject three times: its pool is itself
    every = np.ones((25, 6), dtype=int)
    samples, ceilings = bootstrap_comparison(
        models, data, every, comparator=comparator, subject_counts=people
    )
    np.testing.assert_allclose(samples, theirs.evaluations.reshape(25, 2), atol=1e-12)
    np.testing.assert_allclose(ceilings, theirs.noise_ceiling, atol=1e-12)


@pytest.mark.parametrize(
    "comparator", ["spearman", "rho-a", "pearson", "cosine", "whitened-cosine"]
)
def test_dual_bootstrap_equals_rsatoolbox(comparator, monkeypatch):
    models, data = rdms(3, 4, 9, 2)
    theirs, draws = recorded(
        monkeypatch,
        "bootstrap_sample",
        lambda: eval_dual_bootstrap(fixed(models), RDMs(data), method=RSATOOLBOX[comparator], N=40),
        7,
    )
    people, images = (
        counted([draw[0] for draw in draws], 4),
        counted([draw[1] for draw in draws], 9),
    )
    ours = dual_bootstrap(models, data, images, people, comparator=comparator)
    np.testing.assert_allclose(ours.covariances, theirs.variances, atol=1e-12)
    np.testing.assert_allclose(ours.variance, theirs.model_var, atol=1e-12)
    np.testing.assert_allclose(ours.difference_variance, theirs.diff_var, atol=1e-12)
    np.testing.assert_allclose(ours.ceiling_variance, theirs.noise_ceil_var, atol=1e-12)
    assert ours.dof == theirs.dof == 3
    half = 3.182446305 * np.sqrt(ours.variance)  # t, 3 degrees of freedom
    np.testing.assert_allclose(ours.high - ours.similarity, half, atol=1e-8)
    np.testing.assert_allclose(ours.similarity - ours.low, half, atol=1e-8)
    without = dual_bootstrap(models, data, images, people, comparator=comparator, ceiling=False)
    np.testing.assert_allclose(without.variance, ours.variance, atol=1e-14)
    assert without.ceiling_variance is None


# ---------------------------------------------------------------------------------- own consistency


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_nothing_resampled_gives_the_plain_values_and_ceilings(comparator):
    models, data = rdms(2, 3, 6, 3, ties=True)
    every = np.ones((2, 6), dtype=int)
    samples, ceilings = bootstrap_comparison(models, data, every, comparator=comparator)
    np.testing.assert_allclose(
        samples[0], COMPARATORS[comparator](models, data).mean(axis=1), atol=1e-12
    )
    expected = [bound.mean() for bound in subject_ceilings(data, comparator)]
    np.testing.assert_allclose(ceilings[:, 1], expected, atol=1e-12)
    np.testing.assert_allclose(
        expected, boot_noise_ceiling(RDMs(data), method=RSATOOLBOX[comparator]), atol=1e-12
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_samples_are_those_of_weights_and_do_not_depend_on_blocks(comparator, monkeypatch):
    models, data = rdms(2, 3, 7, 4, ties=True)
    counts = bootstrap_counts(7, 30, seed=1)
    samples = subject_samples(models, data, counts, comparator=comparator)
    few = (counts > 0).sum(axis=1) < 3
    expected = COMPARATORS[comparator](models, data, pair_weights(counts))
    np.testing.assert_allclose(samples.similarity[~few], expected[~few], atol=1e-12)
    assert np.isnan(samples.similarity[few]).all()
    at_once = bootstrap_comparison(models, data, counts, comparator=comparator)
    monkeypatch.setattr(weighted, "BLOCK", 700)
    for expected, in_blocks in zip(
        at_once, bootstrap_comparison(models, data, counts, comparator=comparator)
    ):
        np.testing.assert_allclose(expected, in_blocks, atol=1e-14)


@given(st.permutations(range(6)), st.sampled_from(sorted(COMPARATORS)))
def test_the_order_of_stimuli_moves_with_the_draws(order, comparator):
    models, data = rdms(2, 3, 6, 5)
    counts = bootstrap_counts(6, 5, seed=2)
    first, second = np.triu_indices(6, 1)
    moved = [
        np.array(RDMs(side).get_matrices())[:, order][:, :, order][:, first, second]
        for side in (models, data)
    ]
    given, shuffled = (
        bootstrap_comparison(models, data, counts, comparator=comparator),
        bootstrap_comparison(*moved, counts[:, order], comparator=comparator),
    )
    np.testing.assert_allclose(given[0], shuffled[0], atol=1e-12)
    np.testing.assert_allclose(given[1], shuffled[1], atol=1e-12)


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "tau-a"])
def test_regions_share_draws_and_have_their_own_ceilings(comparator):
    models, data = rdms(2, 5, 6, 6)
    counts, people = bootstrap_counts(6, 8, seed=3), bootstrap_counts(5, 8, seed=4)
    regions = ["V1", "LO", "V1", "LO", "V1"]
    for draws in (None, people):
        samples, ceilings = bootstrap_comparison(
            models, data, counts, comparator=comparator, groups=regions, subject_counts=draws
        )
        for k, name in enumerate(("V1", "LO")):
            rows = [i for i, region in enumerate(regions) if region == name]
            part = None if draws is None else draws[:, rows]
            alone = bootstrap_comparison(
                models, data[rows], counts, comparator=comparator, subject_counts=part
            )
            np.testing.assert_allclose(samples[:, k], alone[0], atol=1e-12)
            np.testing.assert_allclose(ceilings[:, :, k], alone[1], atol=1e-12)


def test_one_subject_has_no_ceiling_and_few_images_no_value():
    models, data = rdms(2, 1, 5, 7)
    counts = np.array([[1, 1, 1, 1, 1], [4, 1, 0, 0, 0]])
    samples, ceilings = bootstrap_comparison(models, data, counts)
    assert np.isfinite(samples[0]).all() and np.isnan(samples[1]).all()
    assert np.isnan(ceilings).all()
    assert bootstrap_comparison(models, data, counts, ceiling=False)[1] is None
    assert bootstrap_comparison(models, data, counts[:0])[0].shape == (0, 2)


def test_a_resample_in_which_an_rdm_is_constant_has_no_value():
    models, data = rdms(1, 3, 5, 8)
    models[0] = [0, 0, 1, 1, 0, 1, 1, 1, 1, 1]
    for comparator in ("spearman", "pearson"):
        samples, _ = bootstrap_comparison(
            models, data, np.array([[2, 2, 1, 0, 0], [1, 1, 1, 1, 1]]), comparator=comparator
        )
        assert np.isnan(samples[0, 0]) and np.isfinite(samples[1, 0])


def test_bad_requests_of_the_bootstrap_are_answered():
    models, data = rdms(2, 3, 5, 9)
    counts = bootstrap_counts(5, 4, seed=0)
    flat = data.copy()
    flat[1] = 0.5
    with pytest.raises(InputError, match=r"equal in data RDM\(s\) \[1\]"):
        bootstrap_comparison(models, flat, counts)
    flat[2, 0] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite in data RDM\(s\) \[2\]"):
        bootstrap_comparison(models, flat, counts)
    with pytest.raises(InputError, match="over the same pairs"):
        bootstrap_comparison(models[:, :6], data, counts)
    with pytest.raises(InputError, match=r"need \(n_resamples, 5\)"):
        bootstrap_comparison(models, data, counts[:, :4])
    with pytest.raises(InputError, match="unknown comparison"):
        bootstrap_comparison(models, data, counts, comparator="pearsn")
    with pytest.raises(InputError, match="groups names 2 RDMs; there are 3"):
        bootstrap_comparison(models, data, counts, groups=["V1", "V1"])
    with pytest.raises(InputError, match=r"subject_counts has the shape \(4, 2\)"):
        bootstrap_comparison(models, data, counts, subject_counts=np.ones((4, 2)))
    with pytest.raises(InputError, match="at least 2 subjects"):
        dual_bootstrap(models, data[:1], counts, np.ones((4, 1), dtype=int))
    with pytest.raises(InputError, match="use more resamples"):
        dual_bootstrap(models, data, counts[:1], np.ones((1, 3), dtype=int))


def test_corrected_variance_lies_between_one_factor_and_both():
    corrected = corrected_variance(
        np.array([[5.0, 5.0, 2.0], [2.0, 0.1, 1.5], [1.0, 0.1, 1.0]]), 3, 40
    )
    expected = 1.5 * 2 + 40 / 39 - 1.5 * 40 / 39 * 2
    np.testing.assert_allclose(
        corrected, [max(expected, 3.0), max(0.15 + 4 / 39 - 1.5 * 40 / 39 * 4.8, 0.15), 2.0]
    )


def test_doubled_ranks_are_twice_the_average_ranks():
    from scipy.stats import rankdata

    values, copies = np.array([1, 1, 2, 5, 5, 5, 7]), np.array([2, 1, 3, 1, 1, 2, 4])
    long = 2 * rankdata(np.repeat(values, copies)) - (copies.sum() + 1)
    ranks = doubled_ranks(copies[np.newaxis], (np.diff(values) != 0)[np.newaxis])
    np.testing.assert_array_equal(np.repeat(ranks[0], copies), long)


# -------------------------------------------------------------------------------------- permutation


@pytest.mark.parametrize("shape", [(2, 3), (3, 2)])
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_permuted_comparison_equals_rsatoolbox(comparator, shape):
    a, b = rdms(*shape, 8, 10, ties=True)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(8) for _ in range(10)])
    ours = permuted_comparison(a, b, orders, comparator)
    theirs = [
        rsatoolbox.rdm.compare(
            rsatoolbox.rdm.rdms.permute_rdms(RDMs(a), order), RDMs(b), method=RSATOOLBOX[comparator]
        )
        for order in orders
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    np.testing.assert_allclose(
        permuted_comparison(a, b, np.arange(8)[np.newaxis], comparator)[0],
        COMPARATORS[comparator](a, b),
        atol=1e-12,
    )


def test_orders_must_be_orders():
    a, b = rdms(1, 1, 5, 0)
    with pytest.raises(InputError, match=r"rows \[1\] of orders"):
        permuted_comparison(a, b, np.array([[0, 1, 2, 3, 4], [0, 1, 2, 3, 3]]))
    with pytest.raises(InputError, match=r"need \(n_permutations, 5\)"):
        permuted_comparison(a, b, np.arange(4)[np.newaxis])
    with pytest.raises(InputError, match="over the same pairs"):
        permuted_comparison(a, b[:, :6], np.arange(5)[np.newaxis])
    assert np.isnan(permuted_comparison(np.ones((1, 10)), b, np.arange(5)[np.newaxis])).all()


def test_max_t_counts_and_is_never_zero_or_above_one():
    observed = np.array([[0.9, 0.1], [np.nan, -0.8]])
    null = np.zeros((4, 2, 2))
    null[:, 0, 0], null[:, 1, 1] = [0.2, 0.9, 0.1, 0], [-0.9, 0.5, 0, 0]
    null[:, 1, 0] = np.nan
    p, family = max_t_p(observed, null)
    np.testing.assert_allclose(p, [[2 / 5, 1 / 5], [np.nan, 4 / 5]])
    np.testing.assert_allclose(family, [[2 / 5, 4 / 5], [np.nan, 1]])
    p, family = max_t_p(observed, null, tail="two-sided")
    np.testing.assert_allclose(p, [[2 / 5, 1 / 5], [np.nan, 2 / 5]])
    np.testing.assert_allclose(family, [[3 / 5, 4 / 5], [np.nan, 3 / 5]])
    assert (family >= p)[~np.isnan(p)].all() and np.nanmax(family) <= 1
    rounded = max_t_p(np.array([0.3]), np.array([[0.1 + 0.2 - 1e-16]]))[0]
    assert rounded[0] == 1  # the observed order itself, summed otherwise
    with pytest.raises(InputError, match="unknown tail"):
        max_t_p(observed, null, tail="less")
    with pytest.raises(InputError, match="must be"):
        max_t_p(observed, null[:, 0])
    null[2, 0, 0] = np.nan
    with pytest.raises(InputError, match="have no value"):
        max_t_p(observed, null)


def test_max_t_keeps_the_family_wise_error():
    """Unrelated RDMs: at most 5 % of families have a p below .05 (binomial, 3 SD)."""
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(300):
        a, b = rng.random((2, 45)), rng.random((2, 45))
        orders = np.array([rng.permutation(10) for _ in range(99)])
        family = max_t_p(COMPARATORS["spearman"](a, b), permuted_comparison(a, b, orders))[1]
        wrong += bool((family <= 0.05).any())
    assert 4 <= wrong <= 15 + 3 * 3.8


# ---------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_ceilings_of_resampled_images_lie_around_those_of_92_images(shared_data):
    first, second = np.triu_indices(92, 1)
    with h5py.File(shared_data / "rdms92.h5") as file:
        data = np.concatenate(
            [file["cichy2014"][roi][...].astype(float)[:, first, second] for roi in ("EVC", "IT")]
        )
    regions = ["EVC"] * 15 + ["IT"] * 15
    counts = np.vstack([np.ones((1, 92), dtype=int), bootstrap_counts(92, 40, seed=0)])
    models = np.stack([data[:15].mean(axis=0), data[15:].mean(axis=0)])
    samples, ceilings = bootstrap_comparison(models, data, counts, groups=regions)
    np.testing.assert_allclose(ceilings[:, 0], [[0.242, 0.453], [0.392, 0.542]], atol=5e-4)
    spread = ceilings[:, 1:].std(axis=1)
    assert (spread > 0.002).all() and (spread < 0.08).all()
    assert (ceilings[0] < ceilings[1]).all()
    own = samples[
        :, [0, 1], [0, 1]
    ]  # EVC's mean against EVC, IT's against IT: below the ceiling, and near it
    assert (own <= ceilings[1] + 1e-12).all() and (own > ceilings[0]).all()
