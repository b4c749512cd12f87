"""Orders, p, families, trends and power: against scipy, enumeration and the papers' numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import combine_pvalues, false_discovery_control, kendalltau, norm, ttest_rel

from neurometamer.errors import InputError
from neurometamer.stats.families import (
    combine_p,
    correct_families,
    correct_p,
    joint_p,
    mann_kendall,
)
from neurometamer.stats.paired import (
    effect_for_power,
    layers_t_test,
    n_for_power,
    paired_power,
    paired_t,
)
from neurometamer.stats.resampling import (
    count_orders,
    permutation_orders,
    permutation_p,
    permute_pairs,
)

# Zhang et al. 2021, fig. 5 and CCN 2018, digitized (adversarial_fmri.md, section 1.8)
RE_AN_2021 = [-0.005, 0.02, 0.22, 0.21, 0.32, 0.47, 0.52, 0.79, 0.54]
RE_AI_2021 = [0.62, 0.19, 0.45, 0.47, 0.46, 0.59, 0.62, 0.79, 0.155]
RE_AN_2018 = [0.02, 0.155, 0.22, 0.165, 0.315, 0.48, 0.555, 0.77]
RE_AI_2018 = [0.54, 0.265, 0.555, 0.565, 0.565, 0.635, 0.62, 0.77]


# ------------------------------------------------------------------------------------- orders and p


def test_orders_are_distinct_seeded_permutations_without_the_observed_one():
    orders = permutation_orders(10, 500, seed=3)
    assert orders.shape == (500, 10)
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(10), (500, 1)))
    assert len(np.unique(orders, axis=0)) == 500
    assert not (orders == np.arange(10)).all(axis=1).any()
    assert np.array_equal(orders, permutation_orders(10, 500, seed=3))
    assert not np.array_equal(orders, permutation_orders(10, 500, seed=4))
    # every stimulus comes to every place about equally often: chi-squared with 81 degrees of
    # freedom, p = .001
    counts = np.array(
        [np.bincount(column, minlength=10) for column in permutation_orders(10, 5000, seed=0).T]
    )
    assert ((counts - 500) ** 2 / 500).sum() < 126


@pytest.mark.parametrize("labels", [["b", "a", "b", "a", "a"], [1, 1, 2, 2, 3, 3], ["x"] * 4])
def test_few_orders_are_all_listed_and_stay_within_blocks(labels):
    n = len(labels)
    orders = permutation_orders(n, 10_000, seed=0, blocks=labels)
    marks = np.array([str(label) for label in labels])
    expected = {
        order for order in itertools.permutations(range(n)) if (marks[list(order)] == marks).all()
    } - {tuple(range(n))}
    assert {tuple(order) for order in orders.tolist()} == expected
    assert len(orders) == len(expected) == count_orders(n, labels) - 1


def test_drawn_orders_stay_within_blocks_also_when_most_of_all_are_wanted():
    labels = ["s1"] * 5 + ["s2"] * 3  # 720 orders
    for wanted in (100, 400, 718):
        orders = permutation_orders(8, wanted, seed=1, blocks=labels)
        assert len(np.unique(orders, axis=0)) == wanted
        assert (orders[:, :5] < 5).all()
    assert count_orders(40) == math.factorial(40)


def test_nothing_to_permute_is_an_error_that_names_the_blocks():
    with pytest.raises(InputError, match="each of the blocks mon, tue, wed holds one stimulus"):
        permutation_orders(3, 10, seed=0, blocks=["mon", "tue", "wed"])
    with pytest.raises(InputError, match="2 block labels for 3 stimuli"):
        permutation_orders(3, 10, seed=0, blocks=["mon", "tue"])
    with pytest.raises(InputError, match="n_permutations must be 1 or more"):
        permutation_orders(3, 0, seed=0)
    with pytest.raises(InputError, match="0 stimuli"):
        count_orders(0)


def test_rows_and_columns_are_permuted_together():
    rng = np.random.default_rng(0)
    square = rng.random((6, 6))
    square += square.T
    first, second = np.triu_indices(6, 1)
    order = rng.permutation(6)
    expected = square[np.ix_(order, order)][first, second]
    assert np.array_equal(permute_pairs(square[first, second], order[np.newaxis])[0], expected)


def test_p_is_one_plus_count_over_one_plus_n_and_never_above_one():
    samples = np.arange(999.0)
    assert permutation_p(np.array(2000.0), samples) == 1 / 1000
    assert permutation_p(np.array(-1.0), samples) == 1
    assert permutation_p(np.array(500.0), samples, "two-sided") == pytest.approx(2 * 500 / 1000)
    assert permutation_p(np.array(499.0), samples, "two-sided") == 1  # twice .501
    assert permutation_p(np.array(2.0), np.array([np.nan, 1.0, 3.0])) == 2 / 3
    assert np.isnan(permutation_p(np.array([np.nan, 1.0]), np.full((3, 2), np.nan))).all()
    with pytest.raises(InputError, match="unknown alternative 'bigger'"):
        permutation_p(np.array(1.0), samples, "bigger")


# --------------------------------------------------------------------------------------- combined p


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=6))
def test_combined_p_equals_scipy(p):
    for how in ("fisher", "stouffer"):
        assert combine_p(p, how) == pytest.approx(combine_pvalues(p, how).pvalue, abs=1e-12)
    assert combine_p(p, "all") == max(p)


def test_combined_p_refuses_what_is_none():
    with pytest.raises(InputError, match=r"must lie in \(0, 1\]"):
        combine_p([0.0, 0.5])
    with pytest.raises(
        InputError, match="unknown combination of p-values 'fischer'; did you mean 'fisher'"
    ):
        combine_p([0.5], "fischer")
    with pytest.raises(InputError, match="do not fit"):
        joint_p(np.zeros(3), np.zeros((10, 2)))
    with pytest.raises(InputError, match="NaN"):
        joint_p(np.zeros(1), np.array([[np.nan], [1.0]]))


def test_joint_p_of_one_subject_is_its_own_and_agrees_with_fisher_on_independent_ones():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((4999, 3))
    values = np.array([1.2, 0.9, 1.5])
    p = joint_p(values[:1], samples[:, :1])
    assert p == permutation_p(values[:1], samples[:, :1])[0]
    fisher = combine_p(permutation_p(values, samples), "fisher")
    assert joint_p(values, samples) == pytest.approx(
        fisher, rel=0.2
    )  # 4999 draws of p = .012: sd 13 %


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrections_are_capped_never_smaller_and_equal_scipy(p):
    for how in ("fdr", "bonferroni", "holm"):
        corrected = correct_p(p, how)
        assert (corrected <= 1).all()
        assert (corrected >= np.array(p) - 1e-15).all()
    np.testing.assert_allclose(correct_p(p, "fdr"), false_discovery_control(p), atol=1e-15)
    ordered = np.sort(p)
    steps = [
        max((len(p) - i) * ordered[i] for i in range(k + 1)) for k in range(len(p))
    ]  # Holm's definition
    np.testing.assert_allclose(np.sort(correct_p(p, "holm")), np.minimum(1, steps), atol=1e-15)


def test_families_are_named_and_corrected_apart():
    table = pd.DataFrame(
        [
            {"roi": roi, "layer": layer, "subject": s, "p": 0.01}
            for s in "ab"
            for roi in "VWXYZ"
            for layer in range(8)
        ]
    )
    both = correct_families(
        table, {"roi": "ROIs", "layer": "layers"}, ["subject"], how="bonferroni"
    )
    assert set(both["family"]) == {"5 ROIs x 8 layers"}
    np.testing.assert_allclose(both["p_corrected"], 0.4)
    layers = correct_families(table, {"layer": "layers"}, ["roi", "subject"], how="bonferroni")
    assert set(layers["family"]) == {"8 layers"}
    table.loc[0, "p"] = np.nan  # not tested: not counted
    some = correct_families(table, {"roi": "ROIs"}, ["layer", "subject"], how="bonferroni")
    assert np.isnan(some["p_corrected"][0])
    assert some["family"][0] == "4 tests of 5 ROIs"
    assert correct_p([np.nan]).tolist() != [0]
    none = correct_families(table, {"roi": "ROIs"}, ["layer", "subject"], how="none")
    np.testing.assert_array_equal(none["p_corrected"], table["p"])
    with pytest.raises(InputError, match="lacks the column"):
        correct_families(table, {"region": "ROIs"})
    with pytest.raises(InputError, match="unknown correction"):
        correct_p([0.5], "fwe")
    with pytest.raises(InputError, match="must lie between 0 and 1"):
        correct_p([1.5])


# ------------------------------------------------------------------------------------------- trends


def test_trends_of_the_paper():
    rise = mann_kendall(RE_AN_2021[:8], "normal")
    assert (rise.s, round(rise.p, 3)) == (26, 0.002)
    with_output = mann_kendall(RE_AN_2021, "normal")
    assert (with_output.s, round(with_output.p, 4)) == (32, 0.0012)
    # layers 1 and 7 tie at the two digits that can be read from the figure; the note counts a rise
    untied = [*RE_AI_2021[:6], 0.621, *RE_AI_2021[7:]]
    no_decline = mann_kendall(untied[:8], "normal")
    assert (no_decline.s, round(no_decline.p, 3)) == (16, 0.063)
    nine = mann_kendall(untied, "normal")
    assert (nine.s, round(nine.p, 2)) == (8, 0.47)
    assert mann_kendall(RE_AI_2021[:8]).s == 15


@given(st.lists(st.integers(0, 4), min_size=3, max_size=7))
def test_exact_trend_equals_enumeration(values):
    trend = mann_kendall(values)
    orders = np.array(list(itertools.permutations(values)))
    first, second = np.triu_indices(len(values), 1)
    s = np.sign(orders[:, second] - orders[:, first]).sum(axis=1)
    assert trend.s == s[0]
    assert trend.p == pytest.approx(np.mean(np.abs(s) >= abs(s[0])), abs=1e-12)
    assert trend.method == "exact"


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=40, unique=True))
def test_exact_trend_without_ties_equals_scipy(values):
    theirs = kendalltau(np.arange(len(values)), values, method="exact")
    ours = mann_kendall(values, "exact")
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.tau == pytest.approx(theirs.statistic, abs=1e-12)


def test_normal_trend_has_scipys_variance_and_the_continuity_correction():
    values = np.round(np.random.default_rng(0).random(40) + np.linspace(0, 0.4, 40), 1)  # many ties
    theirs = kendalltau(np.arange(40), values, method="asymptotic")
    ours = mann_kendall(values)
    assert ours.method == "normal approximation"
    assert ours.tau == pytest.approx(theirs.statistic, abs=1e-12)
    spread = ours.s / norm.isf(theirs.pvalue / 2)
    assert ours.p == pytest.approx(2 * norm.sf((ours.s - 1) / spread), rel=1e-9)


def test_trends_that_cannot_be_tested():
    assert mann_kendall([1, 1, 1]).p == mann_kendall([1, 1, 1], "normal").p == 1
    with pytest.raises(InputError, match="at least 3 numbers"):
        mann_kendall([1, 2])
    with pytest.raises(InputError, match="unknown method"):
        mann_kendall([1, 2, 3], "guess")


# ------------------------------------------------------------------------------- paired t and power


def layers_table():
    return pd.DataFrame(
        [
            {"representation": f"layer{i}", "pair": pair, "similarity": value}
            for pair, values in (("RE-AN", RE_AN_2018), ("RE-AI", RE_AI_2018))
            for i, value in enumerate(values)
        ]
    )


def test_paired_t_over_layers_of_the_paper_and_of_scipy():
    ours = layers_t_test(layers_table().sample(frac=1, random_state=0))  # joined by name
    assert (round(ours.t, 2), ours.dof, round(ours.p, 4)) == (3.62, 7, 0.0085)
    theirs = ttest_rel(RE_AI_2018, RE_AN_2018)
    assert ours.t == pytest.approx(theirs.statistic, rel=1e-12)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-12)
    assert ours.dz * math.sqrt(8) == pytest.approx(ours.t)


def test_no_t_test_on_squared_correlations_or_folds():
    table = layers_table()
    with pytest.raises(InputError, match="'r2' is a squared correlation"):
        layers_t_test(table.assign(r2=table["similarity"] ** 2), value="r2")
    folds = pd.concat([table.assign(fold=fold) for fold in range(3)])
    with pytest.raises(InputError, match=r"more than one value for layer0, layer1.*folds overlap"):
        layers_t_test(folds)
    with pytest.raises(InputError, match="layer7: only one of RE-AI and RE-AN"):
        layers_t_test(table.iloc[:-1])
    with pytest.raises(InputError, match="unknown pair of kinds 'RE-XX'"):
        layers_t_test(table, first="RE-XX")
    with pytest.raises(InputError, match="all paired differences are equal"):
        paired_t([0.3, 0.4, 0.5], [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="are missing"):
        paired_t([0.3, np.nan], [0.1, 0.2])
    with pytest.raises(InputError, match="equally long"):
        paired_t([0.3], [0.1])


def test_power_table_of_the_paper():
    printed = [0.911, 0.998, 0.744, 0.673, 0.764]
    needed = [2.623, 2.131, 3.209, 3.514, 3.129]
    effects = [effect_for_power(power, 3) for power in printed]
    np.testing.assert_allclose([paired_power(dz, 3) for dz in effects], printed, atol=1e-6)
    np.testing.assert_allclose([n_for_power(dz, 0.8) for dz in effects], needed, atol=0.01)
    two_tailed = [paired_power(dz, 3, tails=2) for dz in effects]
    np.testing.assert_allclose(
        two_tailed, [0.70, 0.96, 0.50, 0.43, 0.53], atol=0.015
    )  # from rounded bars
    digitized = [paired_power(dz, 3) for dz in (2.82, 4.66, 2.08, 1.88, 2.18)]
    np.testing.assert_allclose(digitized, [0.906, 0.998, 0.738, 0.672, 0.769], atol=1.5e-3)


def test_power_equals_simulation_and_scipys_noncentral_t():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((40_000, 5)) + 0.9
    t = data.mean(axis=1) / data.std(axis=1, ddof=1) * math.sqrt(5)
    one_tailed, two_tailed = 2.131847, 2.776445  # quantiles of t with 4 degrees of freedom
    assert paired_power(0.9, 5) == pytest.approx(
        np.mean(t > one_tailed), abs=0.0075
    )  # 3 standard errors
    assert paired_power(0.9, 5, tails=2) == pytest.approx(
        np.mean(np.abs(t) > two_tailed), abs=0.0075
    )
    assert paired_power(0, 5) == pytest.approx(0.05)
    assert paired_power(0, 5, tails=2) == pytest.approx(0.05)
    assert paired_power(1.1, n_for_power(1.1, 0.9, tails=2), tails=2) == pytest.approx(
        0.9, abs=1e-6
    )
    assert paired_power(effect_for_power(0.8, 2.5, tails=2), 2.5, tails=2) == pytest.approx(
        0.8, abs=1e-6
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda: paired_power(1, 1), "more than one pair"),
        (lambda: paired_power(1, 3, alpha=1.5), "alpha is 1.5"),
        (lambda: paired_power(1, 3, tails=3), "tails is 3"),
        (lambda: effect_for_power(0.01, 3), "power is 0.01"),
        (lambda: n_for_power(-1), "dz is -1"),
    ],
)
def test_power_of_nonsense(request_, message):
    with pytest.raises(InputError, match=message):
        request_()
