"""Whitened, partial and tau-a comparison, CKA and control RDMs against other code."""

from __future__ import annotations

from itertools import permutations

import h5py
import numpy as np
import pandas as pd
import pingouin
import pytest
import rsatoolbox
from hypothesis import given, settings
from hypothesis import strategies as st
from rsatoolbox.rdm.compare import _get_v
from scipy.stats import false_discovery_control, kendalltau, spearmanr
from statsmodels.stats.multitest import multipletests

from neurometamer.errors import InputError
from neurometamer.rsa import cka as cka_module
from neurometamer.rsa.cka import centered_gram, gram_cka, linear_cka
from neurometamer.rsa.comparators import tau_a as tau_a_module
from neurometamer.rsa.comparators.table import COMPARATORS, find_comparator
from neurometamer.rsa.comparators.tau_a import inversions, tau_a
from neurometamer.rsa.comparators.whitened import (
    image_counts,
    n_images,
    whitened_cosine,
    whitened_pearson,
)
from neurometamer.rsa.compare import compare_rdms, partial_spearman
from neurometamer.rsa.compute import label_rdms, take_conditions, write_rdms
from neurometamer.rsa.controls import category_rdm, control_rdms
from neurometamer.stats.families import correct_p
from neurometamer.stats.resampling import bootstrap_counts, pair_weights, t_interval
from stimuli_gen import StimulusSet

WHITENED = {"whitened-cosine": "cosine_cov", "whitened-pearson": "corr_cov"}


def vectors(n_rdms: int, n: int, seed: int, decimals: int = 8) -> np.ndarray:
    values = np.random.default_rng(seed).random((n_rdms, n * (n - 1) // 2)) + 0.2
    return np.round(values, decimals)


def named(x: np.ndarray, **places: list[str]):
    n = n_images(x.shape[1])
    return label_rdms(
        x, conditions=[f"im{i:02d}" for i in range(n)], rdm_descriptors=places, measure="test"
    )


def whitened_by_matrix(a: np.ndarray, b: np.ndarray, sigma_k: np.ndarray | None) -> np.ndarray:
    """Whiten by the covariance of all pairs (rsatoolbox's matrix), solved exactly."""
    covariance = _get_v(n_images(a.shape[1]), sigma_k).toarray()
    x, y = (np.linalg.solve(covariance, rdms.T).T for rdms in (a, b))
    return (a @ y.T) / np.sqrt((a * x).sum(axis=1)[:, np.newaxis] * (b * y).sum(axis=1))


# ----------------------------------------------------------------------------------------- whitened


@pytest.mark.parametrize("comparator", WHITENED)
@pytest.mark.parametrize("n", [4, 9, 110])  # rsatoolbox uses sparse matrices from 100 images on
def test_whitened_comparisons_equal_rsatoolbox_and_the_definition(comparator, n):
    a, b = vectors(2, n, 0), vectors(3, n, 1)
    theirs = rsatoolbox.rdm.compare(
        rsatoolbox.rdm.RDMs(a), rsatoolbox.rdm.RDMs(b), method=WHITENED[comparator]
    )
    np.testing.assert_allclose(COMPARATORS[comparator](a, b), theirs, atol=1e-10)
    if comparator == "whitened-cosine" and n < 100:
        np.testing.assert_allclose(theirs, whitened_by_matrix(a, b, None), atol=1e-10)


def test_whitening_by_a_given_covariance_equals_its_definition():
    n = 8
    rng = np.random.default_rng(2)
    a, b = vectors(2, n, 0), vectors(3, n, 1)
    noise = rng.standard_normal((n, 20))
    sigma, variances = noise @ noise.T / 20, rng.random(n) + 0.5
    np.testing.assert_allclose(
        whitened_cosine(a, b, sigma_k=sigma), whitened_by_matrix(a, b, sigma), atol=1e-10
    )
    np.testing.assert_allclose(
        whitened_cosine(a, b, sigma_k=variances),
        whitened_by_matrix(a, b, np.diag(variances)),
        atol=1e-10,
    )
    np.testing.assert_allclose(
        whitened_pearson(a, b, sigma_k=np.eye(n)), whitened_pearson(a, b), atol=1e-12
    )
    first, second = (rsatoolbox.rdm.RDMs(side) for side in (a, b))
    # rsatoolbox solves by conjugate gradients, relative tolerance 1e-5
    for ours, method in ((whitened_cosine, "cosine_cov"), (whitened_pearson, "corr_cov")):
        theirs = rsatoolbox.rdm.compare(first, second, method=method, sigma_k=sigma)
        np.testing.assert_allclose(ours(a, b, sigma_k=sigma), theirs, atol=1e-4)


@pytest.mark.parametrize("comparator", WHITENED)
def test_whitened_resamples_equal_rsatoolbox_with_same_image_pairs_left_out(comparator):
    n = 8
    a, b = vectors(2, n, 3), vectors(3, n, 4)
    counts = np.vstack(
        [bootstrap_counts(n, 15, seed=0), [[5, 1, 1, 1, 0, 0, 0, 0]]]
    )  # the last: no simple division
    ours = COMPARATORS[comparator](a, b, pair_weights(counts))
    for row, result in zip(counts, ours):
        index = np.repeat(np.arange(n), row)
        drawn = [rsatoolbox.rdm.RDMs(side).subsample_pattern("index", index) for side in (a, b)]
        np.testing.assert_allclose(
            result, rsatoolbox.rdm.compare(*drawn, method=WHITENED[comparator]), atol=1e-10
        )


def test_counts_of_images_come_back_from_pairs():
    counts = bootstrap_counts(7, 30, seed=1)
    recovered = image_counts(pair_weights(counts))
    enough = (counts > 0).sum(axis=1) >= 3
    np.testing.assert_array_equal(recovered[enough], counts[enough])
    few = pair_weights(np.array([[3, 2, 0, 0, 0]]))
    assert np.isnan(whitened_cosine(vectors(1, 5, 0), vectors(1, 5, 1), few)).all()
    weights = np.ones((1, 10))
    weights[0, 3] = 2
    with pytest.raises(InputError, match="products of counts"):
        whitened_cosine(vectors(1, 5, 0), vectors(1, 5, 1), weights)


def test_whitened_comparison_knows_which_pairs_share_an_image():
    a, b = vectors(1, 7, 5), vectors(1, 7, 6)
    mixed = np.random.default_rng(0).permutation(21)
    for comparator, same in {
        "pearson": True,
        "spearman": True,
        "tau-a": True,
        "whitened-cosine": False,
    }.items():
        value, moved = (
            COMPARATORS[comparator](a, b)[0, 0],
            COMPARATORS[comparator](a[:, mixed], b[:, mixed])[0, 0],
        )
        assert bool(abs(value - moved) < 1e-12) is same


@given(st.permutations(range(6)), st.sampled_from(sorted(COMPARATORS)), st.integers(0, 100))
def test_the_order_of_stimuli_never_matters(order, comparator, seed):
    a, b = (
        named(vectors(2, 6, seed, 1), stage=["a", "b"]),
        named(vectors(2, 6, seed + 1, 2), stage=["c", "d"]),
    )
    values = compare_rdms(a, b, comparator=comparator, n_resamples=0)["similarity"]
    other = compare_rdms(take_conditions(a, order), b, comparator=comparator, n_resamples=0)[
        "similarity"
    ]
    np.testing.assert_allclose(values, other, atol=1e-12)


def test_whitened_requests_that_make_no_sense_are_answered():
    a = vectors(1, 5, 0)
    with pytest.raises(InputError, match="those of all pairs"):
        whitened_cosine(a[:, :7], a[:, :7])
    with pytest.raises(InputError, match=r"5 images need \(5,\)"):
        whitened_cosine(a, a, sigma_k=np.eye(4))
    with pytest.raises(InputError, match="not positive definite"):
        whitened_pearson(a, a, sigma_k=-np.eye(5))
    with pytest.raises(InputError, match="leave sigma_k out"):
        whitened_pearson(a, a, pair_weights(np.ones((1, 5), dtype=int)), sigma_k=np.eye(5))
    with pytest.raises(InputError, match="did you mean 'whitened-cosine'"):
        find_comparator("whitened-cosin")
    assert np.isnan(whitened_pearson(np.ones((1, 10)), a)).all()  # constant
    assert np.isnan(whitened_cosine(np.zeros((1, 10)), a, sigma_k=np.eye(5))).all()


# -------------------------------------------------------------------------------------------- tau-a


@given(st.lists(st.integers(0, 40), min_size=3, max_size=300), st.integers(0, 1000))
def test_tau_a_equals_scipy_with_and_without_ties(values, seed):
    rdm = np.array(values, dtype=float)
    rng = np.random.default_rng(seed)
    for other in (rng.random(rdm.size), rng.integers(0, 5, rdm.size).astype(float)):
        signs = np.sign(rdm[:, None] - rdm) * np.sign(other[:, None] - other)
        expected = signs.sum() / (rdm.size * (rdm.size - 1))
        assert tau_a(rdm[None], other[None])[0, 0] == pytest.approx(expected, abs=1e-12)


def test_tau_a_of_long_vectors_equals_tau_b_without_ties():
    rng = np.random.default_rng(0)
    a = rng.random((2, 9000))
    b = a[:1] + rng.random((3, 9000))
    expected = [[kendalltau(first, second).statistic for second in b] for first in a]
    np.testing.assert_allclose(tau_a(a, b), expected, atol=1e-12)


def test_tau_a_of_resamples_is_that_of_copied_pairs_both_ways(monkeypatch):
    a, b = vectors(2, 16, 0, 1), vectors(2, 16, 1, 2)
    weights = pair_weights(bootstrap_counts(16, 20, seed=0))
    expected = [
        tau_a(*(np.repeat(side, row.astype(int), axis=1) for side in (a, b))) for row in weights
    ]
    np.testing.assert_allclose(tau_a(a, b, weights), expected, atol=1e-12)
    monkeypatch.setattr(tau_a_module, "MANY_PAIRS", 0)
    np.testing.assert_allclose(tau_a(a, b, weights), expected, atol=1e-12)
    assert np.isnan(tau_a(a, b, np.zeros((1, 120)))).all()


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 4096, 5000])
def test_inversions_are_counted(n):
    places = np.random.default_rng(n).permutation(n)
    expected = sum(int((places[:i] > places[i]).sum()) for i in range(n))
    assert inversions(places) == expected
    assert inversions(np.arange(n)) == 0
    assert inversions(np.arange(n)[::-1]) == n * (n - 1) // 2


# ------------------------------------------------------------------------------------------ partial


def test_partial_spearman_equals_pingouin_and_regressed_ranks():
    a, b, controls = vectors(2, 9, 0, 1), vectors(2, 9, 1, 1), vectors(2, 9, 2, 1)
    b[0] += a[0]
    a += controls[0]
    b += controls[0]
    ours = partial_spearman(a, b, controls=controls)
    frame = pd.DataFrame(
        np.vstack([a, b, controls]).T, columns=["a0", "a1", "b0", "b1", "c0", "c1"]
    )
    for i in range(2):
        for j in range(2):
            theirs = pingouin.partial_corr(
                frame, x=f"a{i}", y=f"b{j}", covar=["c0", "c1"], method="spearman"
            )["r"]
            assert ours[i, j] == pytest.approx(theirs.iloc[0], abs=1e-10)
    design = np.column_stack([np.ones(36), frame[["c0", "c1"]].rank()])
    rest = [
        ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
        for ranks in frame.rank().to_numpy().T[:4]
    ]
    assert ours[0, 1] == pytest.approx(np.corrcoef(rest[0], rest[3])[0, 1], abs=1e-10)


def test_without_controls_partial_spearman_is_scipys_spearman():
    a, b = vectors(1, 8, 0, 1), vectors(1, 8, 1, 1)
    value = partial_spearman(a, b, controls=np.empty((0, 28)))[0, 0]
    assert value == pytest.approx(spearmanr(a[0], b[0]).statistic, abs=1e-12)


def test_partial_spearman_of_resamples_is_that_of_copied_pairs():
    a, b = vectors(2, 7, 0, 1), vectors(1, 7, 1, 1)
    controls = np.vstack([vectors(1, 7, 2, 1), category_rdm(list("aabbccc"))])
    counts = bootstrap_counts(7, 12, seed=3)
    weights = pair_weights(counts).astype(int)
    ours = partial_spearman(a, b, weights.astype(float), controls=controls)
    for row, result in zip(weights, ours):
        long = [np.repeat(side, row, axis=1) for side in (a, b, controls)]
        use = np.ptp(long[2], axis=1) > 0
        np.testing.assert_allclose(
            result, partial_spearman(*long[:2], controls=long[2][use]), atol=1e-10
        )


def test_collinear_and_constant_controls_are_named():
    a, b, c = vectors(1, 6, 0), vectors(1, 6, 1), vectors(2, 6, 2)
    with pytest.raises(InputError, match="control gabor follows from pixels by its ranks"):
        partial_spearman(
            a, b, controls=np.vstack([c, np.exp(c[:1])]), names=["pixels", "light", "gabor"]
        )
    with pytest.raises(InputError, match="all dissimilarities are equal in control category"):
        partial_spearman(a, b, controls=np.ones((1, 15)), names=["category"])
    with pytest.raises(InputError, match=r"they need \(n_controls, 15\)"):
        partial_spearman(a, b, controls=c[:, :10])
    assert np.isnan(
        partial_spearman(c[:1] ** 3, b, controls=c)
    ).all()  # the control leaves nothing of it


def test_controls_are_joined_by_id_and_told():
    a, b = named(vectors(1, 8, 0), stage=["conv1"]), named(vectors(2, 8, 1), stage=["x", "y"])
    more = named(vectors(2, 10, 2), control=["pixels", "gabor"])
    order = np.random.default_rng(0).permutation(10)
    table = compare_rdms(a, b, controls=take_conditions(more, order), n_resamples=50)
    held = take_conditions(more, range(8)).dissimilarities
    expected = partial_spearman(a.dissimilarities, b.dissimilarities, controls=held)
    np.testing.assert_allclose(table["similarity"], expected[0], atol=1e-12)
    assert (
        table["method"].str.startswith("partial spearman given pixels, gabor; 95% t interval").all()
    )
    assert np.isfinite(table[["ci_low", "ci_high"]]).all(axis=None)
    with pytest.raises(InputError, match=r"missing from the control RDMs: im06, im07"):
        compare_rdms(a, b, controls=take_conditions(more, range(6)))
    with pytest.raises(InputError, match="not for comparator='pearson'"):
        compare_rdms(a, b, controls=more, comparator="pearson")


def test_given_controls_there_is_no_p_and_why():
    a, b, control = (named(vectors(1, 8, seed), what=["x"]) for seed in range(3))
    table = compare_rdms(a, b, image_type=None, controls=control, n_resamples=0, n_permutations=99)
    assert table["p"].isna().all()
    assert table["p_method"].str.startswith("none: with controls there is no p").all()
    values = []
    for seed in range(
        120
    ):  # both mix the control's five dimensions with five of their own: nothing else is shared
        random = np.random.default_rng(seed)
        seen, *own = random.standard_normal((3, 20, 5))
        mixed = [
            np.hstack([1.5 * seen, own_part]) @ random.standard_normal((10, 100))
            for own_part in own
        ]
        x, y, given = (
            1 - np.corrcoef(responses)[np.newaxis, *np.triu_indices(20, 1)]
            for responses in (*mixed, seen @ random.standard_normal((5, 2000)))
        )
        values.append(partial_spearman(x, y, controls=given)[0, 0])
    # what is left by regressed ranks is not 0, so that a test of 0 would reject
    assert np.mean(values) > 4 * np.std(values) / np.sqrt(len(values))


def test_the_command_takes_a_file_of_controls(tmp_path, invoke):
    for name, x in {"a": vectors(1, 6, 0), "b": vectors(1, 6, 1), "c": vectors(1, 6, 2)}.items():
        write_rdms(named(x, control=[name]), tmp_path / f"{name}.h5")
    a, b, c, out = (str(tmp_path / name) for name in ("a.h5", "b.h5", "c.h5", "out.csv"))
    done = invoke(["compare", a, b, "--out", out, "--controls", c, "--n-resamples", "0"])
    assert done.exit_code == 0, done.output
    row = pd.read_csv(out).iloc[0]
    assert row["method"] == "partial spearman given c; no interval"
    expected = partial_spearman(vectors(1, 6, 0), vectors(1, 6, 1), controls=vectors(1, 6, 2))[0, 0]
    assert row["similarity"] == pytest.approx(expected, abs=1e-9)


# ------------------------------------------------------------------------------------- control RDMs


def pictures(n: int) -> StimulusSet:
    images = np.random.default_rng(0).random((n, 3, 40, 40)).astype(np.float32)
    ids = [f"im{i}" for i in range(n)]
    table = pd.DataFrame(
        {"id": ids, "kind": "RE", "reference_id": ids, "category": ["cat", "dog"] * (n // 2)}
    )
    return StimulusSet(images=images, table=table)


def test_control_rdms_are_those_of_pixels_light_edges_and_categories():
    stimuli = pictures(6)
    rdms = control_rdms(stimuli, ("pixels", "luminance", "gabor", "category"))
    assert rdms.rdm_descriptors["control"] == ["pixels", "luminance", "gabor", "category"]
    assert rdms.pattern_descriptors["condition"] == list(stimuli.ids)
    matrices = rdms.get_matrices()
    luma = np.einsum("nchw,c->n", stimuli.images.astype(float), [0.299, 0.587, 0.114]) / 1600
    np.testing.assert_allclose(matrices[1], np.abs(luma[:, None] - luma), atol=1e-9)
    assert matrices[3][0].tolist() == [0, 1, 0, 1, 0, 1]
    assert (matrices[[0, 2]] <= 2).all() and np.ptp(rdms.dissimilarities[2]) > 0.01
    with pytest.raises(InputError, match="unknown control 'gabors'; did you mean 'gabor'"):
        control_rdms(stimuli, ["gabors"])
    with pytest.raises(InputError, match="no column 'kinds'"):
        control_rdms(stimuli, ["category"], column="kinds")
    stimuli.table.loc[2, "category"] = ""
    with pytest.raises(InputError, match="no category in column 'category' for im2"):
        control_rdms(stimuli, ["category"])


# ---------------------------------------------------------------------------------------------- CKA


def test_cka_equals_its_definition_and_the_whitened_cosine_of_euclidean_rdms(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.random((12, 30)), rng.random((12, 7))
    y[:, 0] += x[:, 0]
    mean_x, mean_y = x - x.mean(axis=0), y - y.mean(axis=0)
    expected = np.linalg.norm(mean_x.T @ mean_y) ** 2 / (
        np.linalg.norm(mean_x.T @ mean_x) * np.linalg.norm(mean_y.T @ mean_y)
    )
    assert linear_cka(x, y) == pytest.approx(expected, abs=1e-12)
    first, second = np.triu_indices(12, 1)
    rdms = [((points[first] - points[second]) ** 2).sum(axis=1)[np.newaxis] for points in (x, y)]
    assert whitened_cosine(*rdms)[0, 0] == pytest.approx(expected, abs=1e-12)
    assert gram_cka(x @ x.T, y @ y.T) == pytest.approx(expected, abs=1e-12)  # not centered
    gram = centered_gram(x)
    monkeypatch.setattr(cka_module, "CHUNK", 4)
    np.testing.assert_allclose(centered_gram(x.astype(np.float64)), gram, atol=1e-12)


def test_debiased_cka_estimates_without_the_bias_of_many_units():
    """HSIC_1 is a mean over ordered quadruples of different images: summed term by term."""
    rng = np.random.default_rng(1)
    x, y = rng.random((6, 5)), rng.random((6, 4))
    grams = [points @ points.T for points in (x, y)]

    def u_statistic(k, m):
        terms = [
            k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in permutations(range(6), 4)
        ]
        return np.mean(terms)

    k, m = grams
    expected = u_statistic(k, m) / np.sqrt(u_statistic(k, k) * u_statistic(m, m))
    assert linear_cka(x, y, debiased=True) == pytest.approx(expected, abs=1e-10)
    unrelated = [
        (rng.standard_normal((20, 500)), rng.standard_normal((20, 500))) for _ in range(40)
    ]
    assert np.mean([linear_cka(*pair) for pair in unrelated]) > 0.9
    assert abs(np.mean([linear_cka(*pair, debiased=True) for pair in unrelated])) < 0.05


def test_cka_joins_by_id_and_refuses_what_it_cannot_compare():
    rng = np.random.default_rng(2)
    x, order = rng.random((8, 5)), rng.permutation(8)
    ids = [f"im{i}" for i in range(8)]
    assert linear_cka(x, x[order], x_ids=ids, y_ids=[ids[i] for i in order]) == pytest.approx(1)
    assert linear_cka(x, x[order]) < 0.99
    with pytest.raises(InputError, match="missing from the second responses: im7"):
        linear_cka(x, x[:7], x_ids=ids, y_ids=ids[:7])
    with pytest.raises(InputError, match="8 images on one side and 7"):
        linear_cka(x, x[:7])
    with pytest.raises(InputError, match="at least 4 images"):
        linear_cka(x[:3], x[:3])
    with pytest.raises(InputError, match="same responses on the second side"):
        linear_cka(x, np.ones((8, 3)))
    x[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN or infinite for im3"):
        linear_cka(x, x, x_ids=ids)
    with pytest.raises(InputError, match="n_images, n_units"):
        centered_gram(np.ones(3))
    with pytest.raises(InputError, match="3 ids were given for 8 images"):
        centered_gram(x, ids=ids[:3])


# -------------------------------------------------------------------------------------- corrections


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_corrections_equal_scipy_and_statsmodels(p):
    values = np.array(p)
    np.testing.assert_allclose(
        correct_p(values, "fdr"), false_discovery_control(values), atol=1e-12
    )
    for ours, theirs in (("bonferroni", "bonferroni"), ("holm", "holm"), ("fdr", "fdr_bh")):
        corrected = correct_p(values, ours)
        np.testing.assert_allclose(corrected, multipletests(values, method=theirs)[1], atol=1e-12)
        assert (corrected <= 1).all() and (corrected >= values - 1e-15).all()


def test_a_family_may_have_any_shape_and_lack_tests():
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    assert correct_p(p, "bonferroni").tolist()[1] == [0.12, 0.09]
    assert np.isnan(correct_p(p, "holm")[0, 1])
    with pytest.raises(InputError, match="between 0 and 1"):
        correct_p(np.array([1.2]), "fdr")
    with pytest.raises(InputError, match="confidence must lie"):
        t_interval(np.zeros(1), np.ones(1), 2, confidence=95)


# ---------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_mean_it_of_fifteen_people_and_of_four_others(shared_data):
    first, second = np.triu_indices(92, 1)
    with h5py.File(shared_data / "rdms92.h5") as file:
        fifteen = file["cichy2014"]["IT"][...].astype(np.float64)[:, first, second].mean(axis=0)
        people = file["kriegeskorte2008"]["hIT"][...].astype(np.float64)  # person, session
    four = people[:, :, first, second].mean(axis=(0, 1))[np.newaxis]
    assert COMPARATORS["spearman"](fifteen[np.newaxis], four)[0, 0] == pytest.approx(
        0.557, abs=5e-4
    )
