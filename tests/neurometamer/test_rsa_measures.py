"""Every measure against its formula, scipy and rsatoolbox, and on inputs that trap others."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import rsatoolbox
from hypothesis import given, settings
from hypothesis import strategies as st
from rsatoolbox.data import Dataset
from rsatoolbox.data.noise import prec_from_residuals, prec_from_unbalanced
from rsatoolbox.rdm.calc_unbalanced import calc_rdm_unbalanced
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata, spearmanr

import neurometamer.rsa.measures as measures
from fmri.patterns import Patterns
from neurometamer.activations import Activations
from neurometamer.errors import InputError
from neurometamer.rsa.compute import (
    activation_rdms,
    compute_rdm,
    compute_rdms,
    pattern_rdms,
    select_image_type,
)
from neurometamer.rsa.measures import (
    MEASURE_ALIASES,
    MEASURES,
    find_measure,
    mid_ranks,
    ranks_from_zero,
)
from neurometamer.rsa.noise import SHRINKAGE, crossnobis_rdm, estimate_noise, no_noise, residuals_of

PLAIN = [name for name, measure in MEASURES.items() if not measure.needs]


def relu_values(n, p, seed=0, common=0.0, dtype=np.float32):
    """Half zeros, as after a ReLU; `common` makes the rows alike."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((n, p)) + common * random.standard_normal(p)
    return np.maximum(values, 0).astype(dtype)


def by_hand(name, x, y):
    """Write one pair's definition out."""
    mean, weight = 1.0, 0.1
    a, b = (x + mean * weight) / (1 + weight), (y + mean * weight) / (1 + weight)
    return {
        "spearman": lambda: 1 - np.corrcoef(rankdata(x), rankdata(y))[0, 1],
        "pearson": lambda: 1 - np.corrcoef(x, y)[0, 1],
        "cosine": lambda: 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y),
        "euclidean": lambda: np.linalg.norm(x - y),
        "squared-euclidean": lambda: np.mean((x - y) ** 2),
        "poisson": lambda: np.mean((a - b) * (np.log(a) - np.log(b))),
    }[name]()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PLAIN)
def test_each_measure_is_its_definition(name, dtype):
    values = relu_values(7, measures.CHUNK + 33, dtype=dtype)
    pairs = zip(*np.triu_indices(7, 1))
    expected = [by_hand(name, values[i].astype(float), values[j].astype(float)) for i, j in pairs]
    np.testing.assert_allclose(compute_rdm(values, name), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in PLAIN if MEASURES[name].rsatoolbox])
def test_measures_are_rsatoolboxs(name):
    values = relu_values(9, 500, dtype=np.float64)
    theirs = rsatoolbox.rdm.calc_rdm(
        Dataset(values), method=MEASURES[name].rsatoolbox
    ).dissimilarities[0]
    np.testing.assert_allclose(compute_rdm(values, name), theirs, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "metric"),
    [("euclidean", "euclidean"), ("cosine", "cosine"), ("pearson", "correlation")],
)
def test_measures_are_scipys(name, metric):
    values = np.random.default_rng(1).standard_normal((9, 500))
    np.testing.assert_allclose(compute_rdm(values, name), pdist(values, metric), rtol=1e-12)


# -------------------------------------------------------------------------------------------- ranks


@given(
    st.lists(
        st.sampled_from([-2.0, -0.0, 0.0, 0.5, 3.0])
        | st.floats(-5, 5, width=32, allow_subnormal=True),
        min_size=1,
    )
)
@settings(max_examples=200)
def test_ranks_are_scipys_with_any_signs_and_ties(row):
    for dtype in (np.float32, np.float64):
        values = np.array(row, dtype=dtype)
        expected = rankdata(values) - (len(row) + 1) / 2
        assert np.array_equal(mid_ranks(values), expected)
        shifted = ranks_from_zero(values)
        assert np.array_equal(shifted - shifted[0], expected - expected[0])
        assert not shifted[values == 0].any()


@pytest.mark.parametrize("zeros", [0.4, 0.65, 0.9])
def test_average_ranks_with_many_zeros_and_other_ties(zeros):
    random = np.random.default_rng(2)
    values = np.round(random.gamma(1.0, size=(6, 3000)), 2).astype(np.float32)
    values[random.random(values.shape) < zeros] = 0
    assert abs(np.mean(values == 0) - zeros) < 0.03
    expected = 1 - spearmanr(values, axis=1).statistic[np.triu_indices(6, 1)]
    np.testing.assert_allclose(compute_rdm(values), expected, atol=1e-12)


# ------------------------------------------------------------------------------ products in float32


@pytest.mark.parametrize("common", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("name", ["spearman", "pearson", "cosine"])
def test_float32_products_of_a_200000_unit_layer_keep_their_digits(monkeypatch, name, common):
    values = relu_values(12, 200_000, common=common)
    exact = compute_rdm(values, name)  # few products: float64
    monkeypatch.setattr(measures, "FAST_PRODUCTS", 0)
    fast = compute_rdm(values, name)
    assert not np.array_equal(fast, exact)  # it was float32 indeed
    assert np.abs(fast - exact).max() <= 2e-7


def test_float32_sums_that_drift_are_done_again_in_float64(monkeypatch):
    values = np.minimum(
        relu_values(8, 60_000, common=3.0), 1
    )  # as after a ReLU6: a second block of ties
    exact = compute_rdm(values)
    monkeypatch.setattr(measures, "FAST_PRODUCTS", 0)
    assert np.array_equal(compute_rdm(values), exact)
    monkeypatch.setattr(measures, "DRIFT", np.inf)
    assert np.abs(compute_rdm(values) - exact).max() > 2e-7  # what the check is for


@pytest.mark.parametrize(("scale", "shift"), [(1e25, 0), (1e-25, 0), (1, 3000)])
def test_large_small_and_shifted_float32_values(monkeypatch, scale, shift):
    values = (relu_values(6, 20_000) + np.float32(shift)) * np.float32(scale)
    exact = compute_rdm(values.astype(np.float64), "pearson")
    monkeypatch.setattr(measures, "FAST_PRODUCTS", 0)
    np.testing.assert_allclose(compute_rdm(values, "pearson"), exact, atol=2e-7)


@pytest.mark.parametrize("name", PLAIN)
def test_blocks_of_units_do_not_matter(monkeypatch, name):
    values = relu_values(8, 3000)
    at_once = compute_rdm(values, name)
    for chunk in (1, 7, 512):
        monkeypatch.setattr(measures, "CHUNK", chunk)
        # another order of float64 sums
        np.testing.assert_allclose(compute_rdm(values, name), at_once, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_threads_do_not_matter(name):
    program = (
        "import numpy as np; from neurometamer.rsa.compute import compute_rdm;"
        "v = np.maximum(np.random.default_rng(0).standard_normal((60, 9000)), 0).astype('f4');"
        f"print(compute_rdm(v, {name!r}).tobytes().hex())"
    )
    results = []
    for threads in ("1", "2"):
        env = {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
        }
        done = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True, env=env
        )
        results.append(np.frombuffer(bytes.fromhex(done.stdout.strip())))
    np.testing.assert_allclose(results[0], results[1], atol=1e-12, rtol=1e-12)


@given(st.permutations(range(7)), st.sampled_from(PLAIN))
@settings(max_examples=40)
def test_the_order_of_stimuli_never_matters(order, name):
    values = relu_values(7, 60)
    square = np.zeros((7, 7))
    square[np.triu_indices(7, 1)] = compute_rdm(values, name)
    square += square.T
    expected = square[np.ix_(order, order)][np.triu_indices(7, 1)]
    np.testing.assert_allclose(compute_rdm(values[list(order)], name), expected, atol=1e-13)


# ----------------------------------------------------------------------------------------- refusals


def test_stimuli_without_a_value_are_named():
    ids = ["apple", "bird", "car", "dog"]
    values = relu_values(4, 50)
    values[1] = 0
    for name in ("spearman", "pearson"):
        with pytest.raises(InputError, match="stage 'x': all values are equal for bird"):
            compute_rdm(values, name, ids=ids, place="stage 'x'")
    with pytest.raises(InputError, match="all values are zero for bird, so they have no direction"):
        compute_rdm(values, "cosine", ids=ids)
    assert np.isfinite(compute_rdm(values, "euclidean")).all()
    values[1] = 2
    assert np.isfinite(compute_rdm(values, "cosine")).all()
    values[2, 0] = -1
    with pytest.raises(InputError, match="negative values for car, which no Poisson rate can be"):
        compute_rdm(values, "poisson", ids=ids)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", PLAIN)
def test_missing_and_infinite_values_are_named(name, bad):
    values = relu_values(5, 50)
    values[3, 7] = bad
    with pytest.raises(InputError, match="NaN or infinite values for dog"):
        compute_rdm(values, name, ids=["apple", "bird", "car", "dog", "eel"])
    with pytest.raises(InputError, match=r"1 condition\(s\) \(apple\); at least 4 are needed"):
        compute_rdm(values[:1], name, ids=["apple"])


# -------------------------------------------------------------------------------------------- noise


def noisy(m, p, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((m, p)) @ (np.eye(p) + 0.3 * random.standard_normal((p, p)))


@pytest.mark.parametrize("method", ["shrinkage_diag", "shrinkage_eye", "diag"])
@pytest.mark.parametrize(
    ("m", "p"), [(30, 8), (15, 60), (20, 20), (5, 2)]
)  # both forms, and where they meet
def test_noise_is_rsatoolboxs_and_needs_no_voxel_matrix(method, m, p):
    residuals, patterns = noisy(m, p), np.random.default_rng(1).standard_normal((6, p))
    expected = patterns @ prec_from_residuals(residuals, method=method) @ patterns.T
    noise = estimate_noise(residuals, method=method)
    z, h = noise.features(patterns)
    np.testing.assert_allclose(z @ z.T - h @ h.T, expected, rtol=1e-10, atol=1e-11)
    assert 0 <= noise.shrinkage <= 1
    if p > m:
        assert noise.scale.shape == (p,) and len(noise.white) <= m


def test_full_covariance_and_degrees_of_freedom():
    residuals, patterns = noisy(40, 6), np.random.default_rng(1).standard_normal((5, 6))
    expected = patterns @ np.linalg.inv(np.cov(residuals.T) * 39 / 30) @ patterns.T
    z, h = estimate_noise(residuals, method="full", dof=30).features(patterns)
    np.testing.assert_allclose(z @ z.T - h @ h.T, expected, rtol=1e-11)


@pytest.mark.parametrize("p", [8, 60])
def test_mahalanobis_is_rsatoolboxs(p):
    values, residuals = np.random.default_rng(3).standard_normal((7, p)), noisy(25, p)
    precision = prec_from_residuals(residuals)
    theirs = rsatoolbox.rdm.calc_rdm(
        Dataset(values), method="mahalanobis", noise=precision
    ).dissimilarities[0]
    ours = compute_rdm(values, "mahalanobis", noise=estimate_noise(residuals))
    np.testing.assert_allclose(ours, theirs, rtol=1e-11)
    plain = compute_rdm(values, "mahalanobis", noise=no_noise(p))
    np.testing.assert_allclose(plain, compute_rdm(values, "squared-euclidean"), rtol=1e-11)


def presentations(n=5, folds=4, p=40, repeats=1, seed=0):
    random = np.random.default_rng(seed)
    conditions = np.tile([f"c{i}" for i in range(n)], folds * repeats)
    runs = np.repeat([f"r{i}" for i in range(folds)], n * repeats)
    signal = np.tile(random.standard_normal((n, p)), (folds * repeats, 1))
    return signal + random.standard_normal((len(runs), p)), conditions, runs


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("whiten", [False, True])
def test_crossnobis_is_rsatoolboxs(repeats, whiten):
    values, conditions, runs = presentations(repeats=repeats)
    data = Dataset(values, obs_descriptors={"condition": conditions, "run": runs})
    precision = prec_from_unbalanced(data, "condition") if whiten else np.eye(values.shape[1])
    theirs = rsatoolbox.rdm.calc_rdm(
        data, method="crossnobis", descriptor="condition", noise=precision, cv_descriptor="run"
    ).dissimilarities[0]
    residuals, dof = residuals_of(values, conditions)
    noise = estimate_noise(residuals, dof=dof) if whiten else None
    np.testing.assert_allclose(
        crossnobis_rdm(values, conditions, runs, noise=noise), theirs, atol=1e-12
    )


def test_crossnobis_with_unequal_repeats_is_its_definition():
    values, conditions, runs = presentations(n=4, folds=3, p=20, repeats=2)
    keep = np.ones(len(values), dtype=bool)
    keep[[1, 9]] = False
    values, conditions, runs = values[keep], conditions[keep], runs[keep]
    expected = []
    for i in range(4):
        for j in range(i + 1, 4):
            parts = []
            for run in ("r0", "r1", "r2"):
                here, there = (
                    [
                        values[(conditions == f"c{k}") & ((runs == run) == inside)].mean(axis=0)
                        for k in (i, j)
                    ]
                    for inside in (True, False)
                )
                parts.append((here[0] - here[1]) @ (there[0] - there[1]) / 20)
            expected.append(np.mean(parts))
    np.testing.assert_allclose(crossnobis_rdm(values, conditions, runs), expected, atol=1e-13)


@pytest.mark.parametrize("whiten", [False, True])
def test_crossnobis_with_a_condition_missing_in_a_run_is_rsatoolboxs_unbalanced_form(whiten):
    values, conditions, runs = presentations()
    kept = ~np.isin(np.arange(20), (11, 14))  # c1 in run r2, c4 in run r2
    values, conditions, runs = values[kept], conditions[kept], runs[kept]
    data = Dataset(values, obs_descriptors={"condition": conditions, "run": runs})
    precision = prec_from_unbalanced(data, "condition") if whiten else np.eye(values.shape[1])
    theirs = calc_rdm_unbalanced(
        data, method="crossnobis", descriptor="condition", noise=precision, cv_descriptor="run"
    ).dissimilarities[0]
    residuals, dof = residuals_of(values, conditions)
    noise = estimate_noise(residuals, dof=dof) if whiten else None
    ours = crossnobis_rdm(values, conditions, runs, noise=noise)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    complete = np.isin(conditions, ["c0", "c2", "c3"])  # pairs that are complete do not change
    alone = crossnobis_rdm(values[complete], conditions[complete], runs[complete], noise=noise)
    np.testing.assert_allclose(
        squareform(ours)[np.ix_([0, 2, 3], [0, 2, 3])], squareform(alone), atol=1e-13
    )


def test_crossnobis_with_missing_conditions_recovers_the_planted_distances():
    random = np.random.default_rng(1)
    _, conditions, runs = presentations(n=6, folds=4)
    truth = random.standard_normal((6, 40))
    kept = ~np.isin(np.arange(24), (3, 8, 13, 22))
    rows = np.array([int(name[1:]) for name in conditions[kept]])
    draws = [
        crossnobis_rdm(truth[rows] + random.standard_normal((20, 40)), conditions[kept], runs[kept])
        for _ in range(400)
    ]
    planted = pdist(truth, "sqeuclidean") / 40
    errors = (np.mean(draws, axis=0) - planted) / (np.std(draws, axis=0) / 20)
    assert np.abs(errors).max() < 4


def test_crossnobis_is_zero_on_average_where_there_is_only_noise():
    random = np.random.default_rng(0)
    _, conditions, runs = presentations(n=6, folds=4, p=30)
    means = [
        crossnobis_rdm(random.standard_normal((24, 30)), conditions, runs).mean()
        for _ in range(200)
    ]
    assert abs(np.mean(means)) < 4 * np.std(means) / np.sqrt(200)
    assert np.mean(np.array(means) < 0) > 0.2


def test_folds_and_residuals_that_do_not_suffice_are_refused():
    values, conditions, runs = presentations()
    with pytest.raises(InputError, match="in two folds at least; c1 in r0 only"):
        crossnobis_rdm(
            *(column[~np.isin(np.arange(20), (6, 11, 16))] for column in (values, conditions, runs))
        )
    with pytest.raises(InputError, match="at least two folds"):
        crossnobis_rdm(values, conditions, ["r0"] * 20)
    with pytest.raises(InputError, match="condition with two presentations"):
        residuals_of(values[:5], conditions[:5])
    residuals = noisy(10, 4)
    with pytest.raises(InputError, match=r"no variance in voxel 2"):
        estimate_noise(residuals * [1, 1, 0, 1])
    with pytest.raises(InputError, match=r"infinite residuals in voxel 1"):
        estimate_noise(residuals * [1, np.nan, 0, 1])
    with pytest.raises(InputError, match="without inverse; shrink it"):
        estimate_noise(noisy(4, 10), method="full")
    with pytest.raises(InputError, match="has no inverse"):
        estimate_noise(np.c_[residuals, residuals[:, 0]], method="full")
    with pytest.raises(InputError, match="did you mean 'shrinkage_diag'"):
        estimate_noise(residuals, method="shrinkage_diagg")
    assert set(SHRINKAGE) == {"shrinkage_diag", "shrinkage_eye", "diag", "full"}
    with pytest.raises(InputError, match="mahalanobis needs the noise"):
        compute_rdm(values, "mahalanobis")
    with pytest.raises(InputError, match="crossnobis needs independent repeats"):
        compute_rdm(values, "crossnobis")
    with pytest.raises(InputError, match="patterns have 40 voxels, the noise covariance 4"):
        compute_rdm(values, "mahalanobis", noise=estimate_noise(residuals))


# ----------------------------------------------------------------------------------------- patterns


def some_patterns(n=6, runs=3, sessions=1, p=20):
    random = np.random.default_rng(4)
    rows = [
        (f"s{i}", session * runs + run + 1, str(run + 1), str(session + 1))
        for session in range(sessions)
        for run in range(runs)
        for i in random.permutation(n)
    ]
    observations = pd.DataFrame(rows, columns=["condition", "presentation", "run", "session"])
    voxels = pd.DataFrame(
        [("S1", "V1", v, 0, 0) for v in range(p)], columns=["subject", "roi", "i", "j", "k"]
    )
    values = random.standard_normal((len(rows), p))
    table = pd.DataFrame(
        {
            "id": [f"s{i}" for i in range(n)],
            "kind": "RE",
            "reference_id": [f"s{i}" for i in range(n)],
        }
    )
    return Patterns(values=values, observations=observations, voxels=voxels), table


@pytest.mark.parametrize("name", list(MEASURES))
def test_patterns_take_every_measure(name):
    patterns, table = some_patterns()
    if name == "poisson":
        with pytest.raises(InputError, match="subject 'S1', ROI 'V1': negative values"):
            pattern_rdms({"S1": patterns}, table, measure=name)
        return
    rdms = pattern_rdms({"S1": patterns}, table, measure=name)
    assert rdms.dissimilarity_measure == MEASURES[name].label
    assert rdms.pattern_descriptors["condition"] == list(table["id"])
    if MEASURES[name].needs:
        kinds = {
            "condition": patterns.observations["condition"].to_numpy(),
            "run": patterns.observations["run"].to_numpy(),
        }
        data = Dataset(patterns.values.copy(), obs_descriptors=kinds)
        theirs = rsatoolbox.rdm.calc_rdm(
            data,
            method=name,
            descriptor="condition",
            noise=prec_from_unbalanced(data, "condition"),
            **({"cv_descriptor": "run"} if name == "crossnobis" else {}),
        )
        np.testing.assert_allclose(rdms.dissimilarities, theirs.dissimilarities, atol=1e-12)
        assert '"noise": "shrinkage_diag"' in rdms.descriptors["provenance"]


def test_runs_of_two_sessions_are_different_folds():
    patterns, table = some_patterns(runs=2, sessions=2)
    by_run = pattern_rdms(
        {"S1": patterns}, table, measure="crossnobis", noise="none"
    ).dissimilarities[0]
    folds = patterns.observations["session"] + "-" + patterns.observations["run"]
    expected = crossnobis_rdm(patterns.values, patterns.observations["condition"], folds)
    np.testing.assert_allclose(by_run, expected, atol=1e-13)
    sessions = pattern_rdms(
        {"S1": patterns}, table, measure="crossnobis", noise="none", folds="session"
    )
    assert not np.allclose(sessions.dissimilarities[0], expected)
    with pytest.raises(InputError, match="unknown column of observations for folds 'runs'"):
        pattern_rdms({"S1": patterns}, table, measure="crossnobis", folds="runs")
    with pytest.raises(InputError, match=r"subject 'S1', ROI 'V1'.*two presentations"):
        once = some_patterns(runs=1)[0]
        pattern_rdms({"S1": once}, table, measure="mahalanobis")
    with pytest.raises(InputError, match="mahalanobis without noise is squared-euclidean"):
        pattern_rdms({"S1": patterns}, table, measure="mahalanobis", noise="none")


def test_the_part_of_one_kind_is_its_rdm_for_crossnobis_too():
    patterns, table = some_patterns(n=10)
    table["kind"] = ["RE", "AI"] * 5
    all_kinds = pattern_rdms({"S1": patterns}, table, measure="crossnobis", noise="none")
    part = select_image_type(all_kinds, "AI")
    few = table[table["kind"] == "AI"]
    alone = pattern_rdms(
        {"S1": patterns.select(conditions=list(few["id"]))}, few, measure="crossnobis", noise="none"
    )
    np.testing.assert_allclose(part.dissimilarities, alone.dissimilarities, atol=1e-13)


def some_dataset(n=6, runs=3, p=12):
    """A dataset of rsatoolbox: every stimulus once a run, all values of zero or more."""
    random = np.random.default_rng(5)
    names = np.array([f"s{i}" for i in range(n)] * runs)
    folds = np.repeat([f"r{i}" for i in range(runs)], n)
    values = np.abs(random.standard_normal((n * runs, p)))
    return Dataset(values, obs_descriptors={"image": names, "run": folds})


THEIRS = {
    "correlation": "correlation",
    "squared-euclidean": "euclidean",
    "poisson": "poisson",
    "mahalanobis": "mahalanobis",
    "crossnobis": "crossnobis",
}
"""Our name or alias of a measure to rsatoolbox's."""


@pytest.mark.parametrize("name", list(THEIRS))
def test_rdms_of_a_dataset_are_rsatoolboxs(name):
    data = some_dataset()
    needs_noise = name in ("mahalanobis", "crossnobis")
    theirs = rsatoolbox.rdm.calc_rdm(
        data,
        method=THEIRS[name],
        descriptor="image",
        noise=prec_from_unbalanced(data, "image") if needs_noise else None,
        cv_descriptor="run" if name == "crossnobis" else None,
    )
    ours = compute_rdms(data, measure=name, descriptor="image")
    assert ours.pattern_descriptors["condition"] == list(theirs.pattern_descriptors["image"])
    np.testing.assert_allclose(ours.dissimilarities, theirs.dissimilarities, atol=1e-12)
    order = ["s3", "s0", "s5", "s1", "s2", "s4"]
    moved = compute_rdms(data, measure=name, descriptor="image", ids=order)
    assert moved.pattern_descriptors["condition"] == order
    rows = [int(name[1:]) for name in order]
    expected = squareform(theirs.dissimilarities[0], checks=False)[np.ix_(rows, rows)]
    np.testing.assert_allclose(moved.get_matrices()[0], expected, atol=1e-12)


def test_every_name_of_rsatoolbox_is_known_and_none_is_shadowed():
    named = {measure.rsatoolbox: name for name, measure in MEASURES.items() if measure.rsatoolbox}
    for theirs, ours in named.items():
        expected = "euclidean" if theirs == "euclidean" else ours  # the same name, another measure
        assert find_measure(theirs) is MEASURES[expected]
    assert dict(MEASURE_ALIASES) == {"correlation": "pearson"}


def test_rdms_of_an_array_take_their_ids_and_labels():
    values, ids = relu_values(6, 40), list("fedcba")
    theirs = rsatoolbox.rdm.calc_rdm(Dataset(values.astype(float)), method="correlation")
    ours = compute_rdms(values, measure="correlation", ids=ids)
    np.testing.assert_allclose(ours.dissimilarities, theirs.dissimilarities, atol=1e-12)
    assert ours.pattern_descriptors["condition"] == ids
    assert ours.dissimilarity_measure == MEASURES["pearson"].label
    assert compute_rdms(values.tolist(), ids=ids) == compute_rdms(values.astype(float), ids=ids)
    table = pd.DataFrame({"id": sorted(ids), "kind": "RE", "reference_id": list("abcdef")})
    labelled = compute_rdms(values, ids=ids, table=table)
    assert labelled.pattern_descriptors["reference_id"] == ids  # labels follow the ids, not rows
    noise = estimate_noise(np.random.default_rng(0).standard_normal((60, 40)))
    whitened = compute_rdms(values, measure="mahalanobis", ids=ids, noise=noise)
    expected = compute_rdm(values, "mahalanobis", noise=noise)
    np.testing.assert_array_equal(whitened.dissimilarities[0], expected)


def test_rdms_of_patterns_and_activations_are_those_of_their_own_functions():
    patterns, table = some_patterns()
    for measure in ("spearman", "crossnobis"):
        alone = pattern_rdms({"S1": patterns}, table, measure=measure)
        assert compute_rdms({"S1": patterns}, measure=measure, table=table) == alone
    bare = compute_rdms({"S1": patterns}, ids=list(table["id"]))
    assert "kind" not in bare.pattern_descriptors
    ids = tuple(table["id"])
    values = relu_values(len(ids), 30)
    activations = Activations(
        ids=ids, stages=("late",), n_units={"late": 30}, arrays={"late": values}
    )
    alone = activation_rdms(activations, table)
    assert compute_rdms(activations, table=table) == alone
    back = compute_rdms(activations, ids=ids[::-1])
    assert back.pattern_descriptors["condition"] == list(ids[::-1])
    np.testing.assert_allclose(back.get_matrices()[0], alone.get_matrices()[0, ::-1, ::-1])


def test_rdms_of_something_else_say_what_to_give():
    patterns, table = some_patterns()
    values = relu_values(6, 40)
    with pytest.raises(InputError, match=r"shape \(6, 40\) does not name its stimuli; give ids="):
        compute_rdms(values)
    with pytest.raises(InputError, match=r"patterns are given as \{'S1': patterns\}"):
        compute_rdms(patterns)
    with pytest.raises(InputError, match="read_activations and fmri"):
        compute_rdms("activations.h5")
    with pytest.raises(InputError, match=r"must hold Patterns.*S2 \(ndarray\)"):
        compute_rdms({"S1": patterns, "S2": values})
    with pytest.raises(InputError, match="not nothing"):
        compute_rdms({})
    with pytest.raises(InputError, match="unknown observation descriptor of the dataset 'cond"):
        compute_rdms(some_dataset())
    with pytest.raises(InputError, match="missing from the dataset: s9"):
        compute_rdms(some_dataset(), descriptor="image", ids=["s0", "s1", "s2", "s3", "s4", "s9"])
    with pytest.raises(InputError, match="independent repeats"):
        compute_rdms(values, measure="crossnobis", ids=list("abcdef"))
    with pytest.raises(InputError, match="unknown RDM measure 'correlatoin'"):
        compute_rdms(values, measure="correlatoin", ids=list("abcdef"))
    with pytest.raises(InputError, match="the stimulus table and the ids given"):
        compute_rdms(values, ids=list("abcdef"), table=table)
