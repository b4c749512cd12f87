"""Encoding: exact reduction, no bias without a relation, planted relations found, clear errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binom
from sklearn.linear_model import RidgeCV

from fmri.patterns import Patterns, write_patterns
from neurometamer import commands
from neurometamer.activations import Activations
from neurometamer.encoding import (
    COLUMNS,
    SOLVERS,
    EncodingOptions,
    Ridge,
    Solver,
    column_correlations,
    fit_encoding,
    reduce_features,
)
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.stats.resampling import permutation_orders
from neurometamer.study.settings import StudySettings

pytestmark = pytest.mark.filterwarnings(
    "ignore:encoding. penalties at an end of the grid:UserWarning"
)


def stimulus_table(n: int) -> pd.DataFrame:
    references = [f"im{i:02d}" for i in range(n)]
    rows = [
        (reference if kind == "RE" else f"{reference}_{kind}", kind, reference)
        for kind in ("RE", "AN", "AI")
        for reference in references
    ]
    return pd.DataFrame(rows, columns=["id", "kind", "reference_id"])


def features(n: int, p: int, seed: int) -> np.ndarray:
    """Features of falling variance; AI resembles its photograph, AN does not and lies elsewhere."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, p + 1) ** -0.7
    photographs, fresh, noise = rng.standard_normal((3, n, p))
    return (
        np.concatenate([photographs, noise + 0.5, 0.8 * photographs + 0.6 * fresh]) * scale
    ).astype(np.float32)


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
    fit = Ridge(z[:16], alphas).fit(y)
    train = x[:16] - x[:16].mean(axis=0, dtype=np.float64)
    scale = np.mean((train**2).sum(axis=1))
    full = RidgeCV(alphas=alphas * scale, alpha_per_target=True).fit(x[:16].astype(np.float64), y)
    np.testing.assert_allclose(fit.alphas * scale, full.alpha_, rtol=1e-9)
    ours = fit.predict(z[16:]) + y.mean(axis=0)
    np.testing.assert_allclose(ours, full.predict(x[16:].astype(np.float64)), atol=1e-8)
    fitted = full.predict(x[:16].astype(np.float64))
    np.testing.assert_allclose(fit.spread, fitted.std(axis=0), rtol=1e-7)


def test_ridge_with_fewer_features_than_images_equals_scikit_learn():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 6))
    fit = Ridge(x[:20], [0.01, 1, 100]).fit(y[:20])
    scale = np.mean(((x[:20] - x[:20].mean(axis=0)) ** 2).sum(axis=1))
    full = RidgeCV(alphas=scale * np.array([0.01, 1, 100]), alpha_per_target=True).fit(
        x[:20], y[:20]
    )
    np.testing.assert_allclose(fit.alphas * scale, full.alpha_, rtol=1e-12)
    np.testing.assert_allclose(
        fit.predict(x[20:]) + y[:20].mean(axis=0), full.predict(x[20:]), atol=1e-12
    )


def test_correlations_equal_numpy():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 12, 4))
    b[:, 3] = 5
    expected = [np.corrcoef(a[:, v], b[:, v])[0, 1] for v in range(3)]
    np.testing.assert_allclose(column_correlations(a, b), [*expected, np.nan], atol=1e-12)


def test_rounding_is_not_taken_for_a_response():
    """Voxels that answer to one photograph, and a stage alike for all, predict nothing."""
    n = 16
    table, rng = stimulus_table(n), np.random.default_rng(0)
    values = np.tile(rng.random(80), (3 * n, 1))
    values[5] += 1.0
    values[2 * n + 5] += 1.0
    layers = {"layer": features(n, 300, 1), "dead": np.full((3 * n, 40), 0.1, dtype=np.float32)}
    layers["dead"] *= rng.random(40).astype(np.float32)
    patterns = make_patterns(table, values)
    result = fit_encoding(
        make_activations(table, layers),
        {"S1": patterns},
        table,
        n_permutations=10,
        allow_repeats=True,
    )
    assert result["n_constant"].eq(40)[result["layer"].eq("dead")].all()
    assert result.loc[result["layer"].eq("dead") | result["test"].eq("AN"), "r"].isna().all()
    assert (result["r"].notna() == result["p"].notna()).all()
    assert result["r"].abs().max() <= 1


@pytest.mark.parametrize("n_folds", [None, 4])
def test_no_relation_gives_zero_not_a_negative_correlation(n_folds):
    n, means = 16, []
    table = stimulus_table(n)
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        activations = make_activations(table, {"layer": features(n, 800, seed)})
        re, an, fresh = rng.standard_normal((3, n, 200))
        values = np.concatenate(
            [re, an, 0.6 * re + 0.8 * fresh]
        )  # AI responses do resemble those to photographs
        result = fit_encoding(
            activations,
            {"S1": make_patterns(table, values)},
            table,
            n_folds=n_folds,
            n_permutations=0,
        )
        means.append(result.groupby("test")["r"].mean())
    # standard error over 6 x 200 voxels about .01; pooling folds naively gives -.2 here
    assert pd.DataFrame(means).mean().abs().max() < 0.04


def planted(n=16, seed=0):
    """Voxels linear in the units of `planted`, with noise; `other` has other features."""
    table, rng = stimulus_table(n), np.random.default_rng(seed)
    x = features(n, 600, seed)
    values = x @ rng.standard_normal((600, 60))
    values = values / values.std(axis=0) + 0.4 * rng.standard_normal((3 * n, 60))
    return (
        table,
        make_activations(table, {"planted": x, "other": features(n, 600, seed + 50)}),
        values,
    )


def test_planted_relation_is_found_and_a_permuted_one_is_not():
    table, activations, values = planted()
    shuffle = np.concatenate(
        [np.random.default_rng(3 + k).permutation(16) + 16 * k for k in range(3)]
    )
    subjects = {"S1": make_patterns(table, values), "S2": make_patterns(table, values[shuffle])}
    result = fit_encoding(activations, subjects, table, n_permutations=199)
    assert list(result.columns) == list(COLUMNS)
    mean, single = result[result["subject"] == "mean"], result[result["subject"] != "mean"]
    assert len(single) == 2 * 2 * 2 * 3
    assert len(mean) == 2 * 2 * 3
    assert single.groupby(["n_voxels", "n_constant", "n_train", "n_test"]).size().to_dict() == {
        (30, 0, 15, 16): 24
    }
    true = single[(single["subject"] == "S1") & (single["layer"] == "planted")]
    assert true["p"].max() == pytest.approx(1 / 200)
    assert true["p_corrected"].max() <= 0.02
    assert true["r"].min() > 0.25
    rest = single[(single["subject"] == "S2") | (single["layer"] == "other")]
    assert rest["r"].mean() == pytest.approx(0, abs=0.1)
    assert rest["p"].min() > 1 / 200
    assert result["method"].str.contains("16 folds over photographs.*199 orders").all()
    both = single.groupby(["layer", "test", "roi"])["r"].mean()
    pd.testing.assert_series_equal(both, mean.set_index(["layer", "test", "roi"])["r"].sort_index())


def test_p_equals_fitting_permuted_data_again():
    table, activations, values = planted(12)
    subjects = {"S1": make_patterns(table, values, rois=("V1",))}
    result = fit_encoding(activations, subjects, table, n_permutations=9, n_folds=4).set_index(
        ["layer", "test"]
    )
    null = []
    for order in permutation_orders(12, 9, seed=0):
        moved = np.concatenate([values[12 * kind : 12 * kind + 12][order] for kind in range(3)])
        permuted = {"S1": make_patterns(table, moved, rois=("V1",))}
        again = fit_encoding(activations, permuted, table, n_permutations=0, n_folds=4)
        null.append(again.set_index(["layer", "test"])["r"])
    exceed = sum((values >= result["r"]).astype(int) for values in null)
    pd.testing.assert_series_equal(result["p"], ((1 + exceed) / 10).rename("p"))


def test_only_photographs_with_the_same_image_types_change_places():
    table, activations, values = planted(12)
    kept = table[~table["id"].isin(["im00_AN", "im01_AN", "im02_AN"])].reset_index(drop=True)
    rows = table["id"].isin(kept["id"]).to_numpy()
    arrays = {stage: activations.read(stage)[rows] for stage in activations.stages}
    subjects = {"S1": make_patterns(kept, values[rows])}
    result = fit_encoding(make_activations(kept, arrays), subjects, kept, n_permutations=39)
    assert result["p"].notna().all()
    assert result["method"].str.contains("among those with the same image types").all()
    assert result.groupby("test")["n_test"].first().to_dict() == {"AI": 12, "AN": 9, "RE": 12}


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 40])
@pytest.mark.parametrize("scheme", ["by image", "all"])
def test_p_holds_its_level_when_voxels_and_stage_have_nothing_in_common(n, scheme):
    """200 data sets; correlated voxels, responses to AI and RE of a photograph correlated at .6."""
    table = stimulus_table(n)
    rejected = {test: 0 for test in ("RE", "AI", "AN")}
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        activations = make_activations(table, {"layer": features(n, 60, seed)})
        shared = rng.standard_normal((4, 20))
        re, an, fresh = rng.standard_normal((3, n, 4)) @ shared + rng.standard_normal((3, n, 20))
        values = np.concatenate([re, an, 0.6 * re + 0.8 * fresh])
        patterns = {"S1": make_patterns(table, values, rois=("V1",))}
        result = fit_encoding(
            activations, patterns, table, scheme=scheme, n_permutations=39, n_folds=4, seed=seed
        )
        for test, p in zip(result["test"], result["p"]):
            rejected[test] += p <= 0.05
    low, high = binom.ppf([0.0005, 0.9995], 200, 0.05)
    assert all(
        low <= count <= high for test, count in rejected.items() if (scheme, test) != ("all", "RE")
    ), rejected


def test_images_that_are_training_images_are_refused_unless_asked():
    """Identity of content, not of names: AI that are other photographs, photographs there twice."""
    table, activations, values = planted(12)
    arrays = {stage: activations.read(stage).copy() for stage in activations.stages}
    for stage in arrays:
        arrays[stage][24:] = arrays[stage][np.r_[1:12, 0]]
    values[24:] = values[np.r_[1:12, 0]]
    subjects = {"S1": make_patterns(table, values)}
    wrong = make_activations(table, arrays)
    with pytest.raises(InputError, match=r"im00_AI = im01, .*12 in all.*allow_repeats"):
        fit_encoding(wrong, subjects, table)
    allowed = fit_encoding(wrong, subjects, table, n_permutations=0, allow_repeats=True)
    assert allowed.query("layer == 'planted' and test == 'AI'")["r"].min() > 0.85
    # A photograph that stands under two ids: held out under one, trained on under the other.
    twice = {stage: activations.read(stage).copy() for stage in activations.stages}
    for stage in twice:
        twice[stage][3] = twice[stage][8]
    with pytest.raises(InputError, match="im03 = im08"):
        fit_encoding(make_activations(table, twice), subjects, table)
    fit_encoding(make_activations(table, twice), subjects, table, tests=["AN"], n_permutations=0)


def test_an_image_equal_to_its_own_photograph_is_refused_only_where_that_was_trained_on():
    table, activations, values = planted(12)
    arrays = {stage: activations.read(stage).copy() for stage in activations.stages}
    for stage in arrays:
        arrays[stage][24] = arrays[stage][0]
    same, subjects = make_activations(table, arrays), {"S1": make_patterns(table, values)}
    fit_encoding(same, subjects, table, n_permutations=0)
    with pytest.raises(InputError, match="im00_AI = im00"):
        fit_encoding(same, subjects, table, scheme="all")


def test_penalties_at_the_end_of_the_grid_are_told_by_region():
    table, activations, values = planted()
    noise = np.random.default_rng(5).standard_normal((48, 30))
    subjects = {"S1": make_patterns(table, np.concatenate([values[:, :30], noise], axis=1))}
    with pytest.warns(
        UserWarning, match=r"by region: at 0.001 S1 V1 .*; at 1e\+06 S1 LO \d+% \(no stage"
    ):
        result = fit_encoding(
            activations, subjects, table, n_permutations=0, alphas=[1e6, 1e-3, 1.0, 0.1]
        )
    shares = result[result["layer"] == "planted"].groupby("roi")["at_largest_alpha"].mean()
    assert shares["V1"] < 0.25 < shares["LO"]
    x = activations.read("planted")[:16].astype(np.float64)
    scale = np.mean(((x - x.mean(axis=0)) ** 2).sum(axis=1))
    alphas = scale * np.array([1e-3, 0.1, 1.0, 1e6])
    chosen = RidgeCV(alphas=alphas, alpha_per_target=True).fit(x, noise[:16]).alpha_
    once = fit_encoding(
        activations, subjects, table, n_permutations=0, alphas=alphas / scale, scheme="all"
    )
    expected = np.mean(chosen == alphas[-1])
    assert (
        once.query("roi == 'LO' and layer == 'planted'")["at_largest_alpha"].tolist()
        == [expected] * 2
    )


def test_all_scheme_equals_scikit_learn_and_gives_no_in_sample_row():
    table, activations, values = planted()
    result = fit_encoding(
        activations, {"S1": make_patterns(table, values, rois=("V1",))}, table, scheme="all"
    )
    assert set(result["test"]) == {"AI", "AN"}
    x = activations.read("planted").astype(np.float64)
    scale = np.mean(((x[:16] - x[:16].mean(axis=0)) ** 2).sum(axis=1))
    model = RidgeCV(alphas=scale * np.logspace(-3, 4, 15), alpha_per_target=True).fit(
        x[:16], values[:16]
    )
    for test, start in (("AN", 16), ("AI", 32)):
        expected = column_correlations(
            model.predict(x[start : start + 16]), values[start : start + 16]
        ).mean()
        row = result[(result["layer"] == "planted") & (result["test"] == test)].iloc[0]
        assert row["r"] == pytest.approx(expected, abs=1e-8)


def test_constant_voxels_are_counted_not_scored():
    table, activations, values = planted()
    values[:, :2] = 3.0
    values[:16, 2] = 1.0  # constant on the training images only
    result = fit_encoding(
        activations, {"S1": make_patterns(table, values)}, table, n_permutations=19
    )
    assert result.groupby("roi")["n_constant"].first().to_dict() == {"LO": 0, "V1": 3}
    rest = fit_encoding(
        activations,
        {"S1": make_patterns(table, values[:, 3:], rois=("V1",))},
        table,
        n_permutations=0,
    )
    v1 = result.query("roi == 'V1' and layer == 'planted' and test == 'RE'").iloc[0]
    lo = result.query("roi == 'LO' and layer == 'planted' and test == 'RE'").iloc[0]
    both = rest.query("layer == 'planted' and test == 'RE'").iloc[0]
    assert both["r"] == pytest.approx((27 * v1["r"] + 30 * lo["r"]) / 57)
    values[:, :30] = 1.0
    dead = fit_encoding(activations, {"S1": make_patterns(table, values)}, table, n_permutations=0)
    assert dead[dead["roi"] == "V1"][["r", "p", "alpha"]].isna().all(axis=None)


def test_equal_seeds_equal_tables_and_the_order_of_stimuli_does_not_matter():
    table, activations, values = planted()
    subjects = {"S1": make_patterns(table, values)}
    first = fit_encoding(activations, subjects, table, n_folds=5, seed=7, n_permutations=19)
    pd.testing.assert_frame_equal(
        first, fit_encoding(activations, subjects, table, n_folds=5, seed=7, n_permutations=19)
    )
    shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
    other = fit_encoding(activations, subjects, shuffled, n_folds=5, seed=7, n_permutations=19)
    pd.testing.assert_frame_equal(first, other, rtol=1e-6)  # sums in another order


def test_bad_input_is_named():
    table, activations, values = planted(6)
    subjects = {"S1": make_patterns(table, values)}
    few = table[table["id"] != "im03"]
    with pytest.raises(InputError, match=r"no photograph \(RE\) in the stimulus table for im03"):
        fit_encoding(activations, subjects, few)
    with pytest.raises(InputError, match="missing from patterns of subject 'S1': im02_AN"):
        kept = subjects["S1"].select(conditions=[name for name in table["id"] if name != "im02_AN"])
        fit_encoding(activations, {"S1": kept}, table)
    with pytest.raises(
        InputError, match="unknown encoding scheme 'by images'; did you mean 'by image'"
    ):
        fit_encoding(activations, subjects, table, scheme="by images")
    with pytest.raises(InputError, match="n_folds must lie between 2 and"):
        fit_encoding(activations, subjects, table, n_folds=7)
    broken = {stage: activations.read(stage).copy() for stage in activations.stages}
    broken["other"][2, 5] = np.inf
    with pytest.raises(InputError, match="stage 'other': NaN or infinite activations for im02"):
        fit_encoding(make_activations(table, broken), subjects, table)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("alphas", [], "alphas: at least one penalty above 0"),
        ("alphas", [0], "finite and above 0, not \\[0.0\\]"),
        ("alphas", [-1.0], "finite and above 0"),
        ("alphas", [float("nan")], "finite and above 0"),
        ("alphas", "strong", "a list of penalties"),
        ("alphas", None, "a list of penalties"),
        ("alphas", [1, 1], "names a penalty twice"),
        ("alphas", "12", "a list of penalties"),
        ("alphas", ["1", "2"], "a list of penalties"),
        ("alphas", [True, 2], "a list of penalties"),
        ("alphas", [[1.0, 2.0]], "a list of penalties"),
        ("alphas", [1e200], "must lie between 1e-100 and 1e\\+100"),
        ("allow_repeats", "no", "allow_repeats must be True or False, not 'no'"),
        ("scheme", ["by image"], "scheme must be text"),
        ("seed", -1, "seed must be 0 or more"),
        ("n_folds", 2.5, "n_folds must be a whole number, not 2.5"),
        ("n_folds", True, "n_folds must be a whole number"),
        ("n_permutations", -1, "n_permutations must be 0 or more"),
        ("n_permutations", 1.5, "n_permutations must be a whole number"),
        ("seed", None, "seed must be a whole number"),
        ("tests", "RE", "a list of image types is needed"),
        ("tests", [], "at least one image type"),
        ("tests", ["RE", "AI_typo"], "unknown image type in tests 'AI_typo'. Known: RE, AN, AI"),
        ("correction", "none", "unknown correction 'none'"),
    ],
)
def test_every_argument_is_checked_at_the_door(argument, value, message):
    table, activations, values = planted(6)
    subjects = {"S1": make_patterns(table, values)}
    with pytest.raises(InputError, match=message):
        fit_encoding(activations, subjects, table, **{argument: value})


def test_a_strong_penalty_shrinks_every_prediction_alike_and_leaves_their_correlation():
    table, activations, values = planted(8)
    subjects = {"S1": make_patterns(table, values)}
    strong, stronger = (
        fit_encoding(activations, subjects, table, n_permutations=0, alphas=[alpha])["r"]
        for alpha in (1e9, 1e40)
    )
    assert strong.notna().all()
    np.testing.assert_allclose(strong, stronger, rtol=0, atol=1e-6)


def test_wrong_types_and_tables_are_named():
    table, activations, values = planted(6)
    subjects = {"S1": make_patterns(table, values)}
    crossed = table.assign(
        reference_id=table["reference_id"].where(table.index > 1, ["im01", "im00", *[""] * 16])
    )
    with pytest.raises(
        InputError, match=r"reference_id is another photograph: im00 = im01, im01 = im00"
    ):
        fit_encoding(activations, subjects, crossed)
    with pytest.raises(InputError, match="table: no column reference_id"):
        fit_encoding(activations, subjects, table.drop(columns="reference_id"))
    with pytest.raises(InputError, match="table: no reference_id for the stimuli im00_AN"):
        fit_encoding(
            activations,
            subjects,
            table.assign(reference_id=table["reference_id"].where(table.index != 6)),
        )
    with pytest.raises(InputError, match="activations must be a Activations, not a ndarray"):
        fit_encoding(values, subjects, table)
    with pytest.raises(
        InputError, match=r"must be a mapping of text to a Patterns, not \{'S1': array"
    ):
        fit_encoding(activations, {"S1": values}, table)
    with pytest.raises(
        InputError, match=r"patterns_by_subject must be a mapping .*, not a Patterns"
    ):
        fit_encoding(activations, subjects["S1"], table)
    with pytest.raises(InputError, match="table must be a DataFrame, not"):
        fit_encoding(activations, subjects, "stimuli.csv")
    with pytest.raises(InputError, match="'RE' is in-sample under scheme 'all'"):
        fit_encoding(activations, subjects, table, scheme="all", tests=["RE"])


@dataclass
class LeastSquares:
    """Ordinary least squares of smallest weights, with no penalty to choose."""

    features: np.ndarray
    penalties: np.ndarray

    def fit(self, responses):
        center = self.features.mean(axis=0)
        centered = responses - responses.mean(axis=0)
        weights = np.linalg.pinv(self.features - center) @ centered
        return LeastSquaresFit(self.features, center, weights)


@dataclass
class LeastSquaresFit:
    features: np.ndarray
    center: np.ndarray
    weights: np.ndarray

    @property
    def alphas(self):
        return np.full(self.weights.shape[1], np.nan)

    @property
    def spread(self):
        return self.predict(self.features).std(axis=0)

    def predict(self, features):
        return (features - self.center) @ self.weights


@pytest.fixture
def dummy(monkeypatch):
    entry = Solver(
        prepare=LeastSquares, label="least squares", help="no penalty", takes_alphas=False
    )
    monkeypatch.setitem(SOLVERS, "dummy", entry)
    return "dummy"


def test_a_new_solver_works_in_the_table_and_the_command(dummy, tmp_path, invoke):
    table, activations, values = planted(n=10)
    subjects = {"S1": make_patterns(table, values)}
    result = fit_encoding(activations, subjects, table, solver=dummy, n_permutations=9)
    assert result["method"].str.startswith("least squares; Pearson r").all()
    alphas = ["alpha", "at_smallest_alpha", "at_largest_alpha"]
    assert result[alphas].isna().all(axis=None)
    ridge = fit_encoding(activations, subjects, table, n_permutations=9, alphas=[1e-9])
    np.testing.assert_allclose(result["r"], ridge["r"], atol=1e-5)  # hardly any penalty
    options = EncodingOptions(solver=dummy, n_permutations=9)
    again = fit_encoding(activations, subjects, table, options=options)
    pd.testing.assert_frame_equal(again, result)
    assert StudySettings.model_validate({"encoding": {"solver": dummy}}).encoding.solver == dummy

    photographs = table["id"].head(10).tolist()
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    for name, image in zip(photographs, pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
    voxels = pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(60), "j": 0, "k": 0})
    observations = pd.DataFrame({"condition": photographs, "presentation": 1, "run": "1"})
    patterns = Patterns(
        values=values[:10], observations=observations.assign(session=""), voxels=voxels
    )
    write_patterns(patterns, tmp_path / "S1.h5")
    given = {"model": "alexnet", "weights": "random", "stages": ["relu1"]}
    written = commands.encode(
        tmp_path / "a.csv",
        images=[tmp_path / "images"],
        patterns=[tmp_path / "S1.h5"],
        solver=dummy,
        n_permutations=0,
        run=RunOptions(device="cpu"),
        **given,
    )
    assert written["method"].str.startswith("least squares").all()
    words = ["encode", "--model", "alexnet", "--weights", "random", "--device", "cpu"]
    words += ["--images", str(tmp_path / "images"), "--patterns", str(tmp_path / "S1.h5")]
    words += ["--stages", "relu1", "--n-permutations", "0", "--solver", dummy]
    done = invoke([*words, "--out", str(tmp_path / "b.csv")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_an_unknown_solver_or_setting_is_named():
    table, activations, values = planted(6)
    subjects = {"S1": make_patterns(table, values)}
    with pytest.raises(InputError, match="unknown encoding solver 'rigde'; did you mean 'ridge'"):
        fit_encoding(activations, subjects, table, solver="rigde")
    with pytest.raises(InputError, match="unknown setting of encoding 'alpha'; did you mean 'alp"):
        fit_encoding(activations, subjects, table, alpha=[1.0])
