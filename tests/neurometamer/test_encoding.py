"""Encoding: exact reduction, no bias without a relation, planted relations found, clear errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV

from fmri.patterns import Patterns
from neurometamer.activations import Activations
from neurometamer.encoding import COLUMNS, column_correlations, fit_encoding, reduce_features, ridge_fit
from neurometamer.resampling import bootstrap_counts
from neurometamer.store import InputError


def stimulus_table(n: int) -> pd.DataFrame:
    references = [f"im{i:02d}" for i in range(n)]
    rows = [(one if kind == "RE" else f"{one}_{kind}", kind, one) for kind in ("RE", "AN", "AI") for one in references]
    return pd.DataFrame(rows, columns=["id", "kind", "reference_id"])


def features(n: int, p: int, seed: int) -> np.ndarray:
    """Features of falling variance; AI resembles its photograph, AN does not and lies elsewhere."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, p + 1) ** -0.7
    photographs, fresh, noise = rng.standard_normal((3, n, p))
    return (np.concatenate([photographs, noise + 0.5, 0.8 * photographs + 0.6 * fresh]) * scale).astype(np.float32)


def make_activations(table: pd.DataFrame, arrays) -> Activations:
    n_units = {stage: values.shape[1] for stage, values in arrays.items()}
    return Activations(ids=tuple(table["id"]), stages=tuple(arrays), n_units=n_units, arrays=arrays)


def make_patterns(table: pd.DataFrame, values: np.ndarray, rois=("V1", "LO")) -> Patterns:
    order = np.random.default_rng(0).permutation(len(table))
    observations = pd.DataFrame(
        {"condition": table["id"].to_numpy()[order], "presentation": 1, "run": "1", "session": "1"}
    )
    half = values.shape[1] // len(rois)
    voxels = pd.DataFrame(
        [("S1", rois[min(v // half, len(rois) - 1)], v, 0, 0) for v in range(values.shape[1])],
        columns=["subject", "roi", "i", "j", "k"],
    )
    return Patterns(values=values[order], observations=observations, voxels=voxels)


def test_ridge_on_the_reduced_features_is_ridge_on_all_units():
    x = features(16, 20_000, seed=0)  # two chunks of units
    y = np.random.default_rng(1).standard_normal((16, 5))
    z = reduce_features(x)
    assert z.shape == (48, 48)
    centered = x - x.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(z @ z.T, centered @ centered.T, rtol=0, atol=1e-10)
    alphas = np.logspace(-2, 3, 7)
    weights, chosen = ridge_fit(z[:16], y, alphas)
    train = x[:16] - x[:16].mean(axis=0, dtype=np.float64)
    scale = np.mean((train**2).sum(axis=1))
    full = RidgeCV(alphas=alphas * scale, alpha_per_target=True).fit(x[:16].astype(np.float64), y)
    np.testing.assert_allclose(chosen * scale, full.alpha_, rtol=1e-9)
    ours = (z[16:] - z[:16].mean(axis=0)) @ weights + y.mean(axis=0)
    np.testing.assert_allclose(ours, full.predict(x[16:].astype(np.float64)), atol=1e-8)


def test_correlations_equal_numpy_also_in_resamples():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 12, 4))
    b[:, 3] = 5
    expected = [np.corrcoef(a[:, v], b[:, v])[0, 1] for v in range(3)]
    np.testing.assert_allclose(column_correlations(a, b), [*expected, np.nan], atol=1e-12)
    counts = bootstrap_counts(12, 10, seed=0)
    drawn = column_correlations(a, b, counts)
    for row, result in zip(counts, drawn):
        index = np.repeat(np.arange(12), row)
        expected = [np.corrcoef(a[index, v], b[index, v])[0, 1] for v in range(3)]
        np.testing.assert_allclose(result, [*expected, np.nan], atol=1e-10)


def test_rounding_is_not_taken_for_a_response():
    """Voxels that answer to one photograph only, and a stage that answers alike to all, predict nothing."""
    n = 16
    table, rng = stimulus_table(n), np.random.default_rng(0)
    values = np.tile(rng.random(80), (3 * n, 1))
    values[5] += 1.0
    values[2 * n + 5] += 1.0
    layers = {"layer": features(n, 300, 1), "dead": np.full((3 * n, 40), 0.1, dtype=np.float32)}
    layers["dead"] *= rng.random(40).astype(np.float32)
    one = make_patterns(table, values)
    result = fit_encoding(make_activations(table, layers), {"S1": one}, table, n_bootstrap=50)
    assert result["n_constant"].eq(40)[result["layer"].eq("dead")].all()
    assert result.loc[result["layer"].eq("dead") | result["test"].eq("AN"), "r"].isna().all()
    defined = result["r"].notna()
    assert (result.loc[defined, ["ci_low", "ci_high"]].abs().fillna(0) <= 1).all(axis=None)
    drawn = column_correlations(values[:n], rng.random((n, 80)), bootstrap_counts(n, 200, seed=0))
    without = (bootstrap_counts(n, 200, seed=0)[:, 5] == 0).nonzero()[0]
    assert np.isnan(drawn[without]).all()
    assert np.nanmax(np.abs(drawn)) <= 1 + 1e-9


@pytest.mark.parametrize("n_folds", [None, 4])
def test_no_relation_gives_zero_not_a_negative_correlation(n_folds):
    n, found = 16, []
    table = stimulus_table(n)
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        activations = make_activations(table, {"layer": features(n, 800, seed)})
        re, an, fresh = rng.standard_normal((3, n, 200))
        values = np.concatenate([re, an, 0.6 * re + 0.8 * fresh])  # AI responses do resemble those to photographs
        result = fit_encoding(activations, {"S1": make_patterns(table, values)}, table, n_folds=n_folds, n_bootstrap=0)
        found.append(result.groupby("test")["r"].mean())
    # standard error over 6 x 200 voxels about .01; pooling folds naively gives -.2 here
    assert pd.DataFrame(found).mean().abs().max() < 0.04


def planted(n=16, seed=0):
    """Voxels linear in the units of `planted`, with noise; `other` has other features of the same images."""
    table, rng = stimulus_table(n), np.random.default_rng(seed)
    x = features(n, 600, seed)
    values = x @ rng.standard_normal((600, 60))
    values = values / values.std(axis=0) + 0.4 * rng.standard_normal((3 * n, 60))
    return table, make_activations(table, {"planted": x, "other": features(n, 600, seed + 50)}), values


def test_planted_relation_is_found_and_a_permuted_one_is_not():
    table, activations, values = planted()
    shuffle = np.concatenate([np.random.default_rng(3 + k).permutation(16) + 16 * k for k in range(3)])
    subjects = {"S1": make_patterns(table, values), "S2": make_patterns(table, values[shuffle])}
    result = fit_encoding(activations, subjects, table, n_bootstrap=200)
    assert list(result.columns) == list(COLUMNS)
    assert len(result) == 2 * 2 * 2 * 3
    assert result.groupby(["n_voxels", "n_constant", "n_train", "n_test"]).size().to_dict() == {(30, 0, 15, 16): 24}
    true = result[(result["subject"] == "S1") & (result["layer"] == "planted")]
    assert (true["ci_low"] > 0).all()
    assert true["r"].min() > 0.25
    rest = result[(result["subject"] == "S2") | (result["layer"] == "other")]
    assert rest["r"].mean() == pytest.approx(0, abs=0.1)
    assert ((result["ci_low"] < result["r"]) & (result["r"] < result["ci_high"])).mean() > 0.9
    assert result["method"].str.contains("16 folds over photographs").all()


def test_all_scheme_equals_scikit_learn_and_gives_no_in_sample_row():
    table, activations, values = planted()
    result = fit_encoding(activations, {"S1": make_patterns(table, values, rois=("V1",))}, table, scheme="all")
    assert set(result["test"]) == {"AI", "AN"}
    x = activations.read("planted").astype(np.float64)
    scale = np.mean(((x[:16] - x[:16].mean(axis=0)) ** 2).sum(axis=1))
    model = RidgeCV(alphas=scale * np.logspace(-3, 4, 15), alpha_per_target=True).fit(x[:16], values[:16])
    for test, start in (("AN", 16), ("AI", 32)):
        expected = column_correlations(model.predict(x[start : start + 16]), values[start : start + 16]).mean()
        row = result[(result["layer"] == "planted") & (result["test"] == test)].iloc[0]
        assert row["r"] == pytest.approx(expected, abs=1e-8)


def test_constant_voxels_are_counted_not_scored():
    table, activations, values = planted()
    values[:, :2] = 3.0
    values[:16, 2] = 1.0  # constant on the training images only
    result = fit_encoding(activations, {"S1": make_patterns(table, values)}, table, n_bootstrap=50)
    assert result.groupby("roi")["n_constant"].first().to_dict() == {"LO": 0, "V1": 3}
    rest = fit_encoding(activations, {"S1": make_patterns(table, values[:, 3:], rois=("V1",))}, table, n_bootstrap=0)
    v1 = result.query("roi == 'V1' and layer == 'planted' and test == 'RE'").iloc[0]
    lo = result.query("roi == 'LO' and layer == 'planted' and test == 'RE'").iloc[0]
    both = rest.query("layer == 'planted' and test == 'RE'").iloc[0]
    assert both["r"] == pytest.approx((27 * v1["r"] + 30 * lo["r"]) / 57)
    values[:, :30] = 1.0
    dead = fit_encoding(activations, {"S1": make_patterns(table, values)}, table, n_bootstrap=0)
    assert dead[dead["roi"] == "V1"][["r", "ci_low", "alpha"]].isna().all(axis=None)


def test_equal_seeds_equal_tables_and_the_order_of_stimuli_does_not_matter():
    table, activations, values = planted()
    subjects = {"S1": make_patterns(table, values)}
    first = fit_encoding(activations, subjects, table, n_folds=5, seed=7, n_bootstrap=50)
    pd.testing.assert_frame_equal(first, fit_encoding(activations, subjects, table, n_folds=5, seed=7, n_bootstrap=50))
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    other = fit_encoding(activations, subjects, shuffled, n_folds=5, seed=7, n_bootstrap=50)
    pd.testing.assert_frame_equal(first, other, rtol=1e-6)  # sums in another order


def test_bad_input_is_named():
    table, activations, values = planted(6)
    subjects = {"S1": make_patterns(table, values)}
    few = table[table["id"] != "im03"]
    with pytest.raises(InputError, match=r"no photograph \(RE\) in the stimulus table for im03"):
        fit_encoding(activations, subjects, few)
    with pytest.raises(InputError, match="missing from patterns of subject 'S1': im02_AN"):
        kept = subjects["S1"].select(conditions=[one for one in table["id"] if one != "im02_AN"])
        fit_encoding(activations, {"S1": kept}, table)
    with pytest.raises(InputError, match="unknown encoding scheme 'by images'; did you mean 'by image'"):
        fit_encoding(activations, subjects, table, scheme="by images")
    with pytest.raises(InputError, match="n_folds must lie between 2 and"):
        fit_encoding(activations, subjects, table, n_folds=7)
    broken = {stage: activations.read(stage).copy() for stage in activations.stages}
    broken["other"][2, 5] = np.inf
    with pytest.raises(InputError, match="stage 'other': NaN or infinite activations for im02"):
        fit_encoding(make_activations(table, broken), subjects, table)
