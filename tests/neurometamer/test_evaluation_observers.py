"""Networks as observers: planted effects, loops written anew, other people's statistics, false
alarms, a real run.
"""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, permutation_test

from neurometamer.errors import InputError
from neurometamer.evaluation import observer_conditions, observer_matrix, observer_tests
from neurometamer.evaluation.recognizability import recognition_table
from neurometamer.evaluation.sets import metamer_set
from neurometamer.evaluation.two_by_two import relabel, sign_flips, spread_interval
from neurometamer.run_options import RunOptions
from neurometamer.stats.families import correct_p
from neurometamer.stats.resampling import bootstrap_counts
from neurometamer.zoo import load_model
from stimuli_gen import at_size, greyscale_view, load_photographs, model_metamers

CELLS = list(product(("blur", "standard"), ("grayscale", "rgb")))
QUICK = {"n_resamples": 0, "n_permutations": 199}


def networks_of(counts=(2, 2, 2, 2), outside=3):
    """Generators in four cells, and evaluators that generate nothing."""
    rows = [
        {"network": f"{training}-{color}-{one}", "training": training, "color": color}
        for (training, color), count in zip(CELLS, counts, strict=True)
        for one in range(count)
    ]
    rows += [
        {"network": f"evaluator{one}", "training": CELLS[3 * (one % 2)][0], "color": "rgb"}
        for one in range(outside)
    ]
    return pd.DataFrame(rows)


def simulated(
    networks, chance, n_images=12, *, stages=("late",), valid=None, seed=0, evaluators=None
):
    """Draw hits; `chance` (generators, evaluators, images) is the probability of each."""
    random = np.random.default_rng(seed)
    generators = [name for name in networks["network"] if not name.startswith("evaluator")]
    everyone = list(networks["network"]) if evaluators is None else evaluators
    images = [f"photo{one:03d}" for one in range(n_images)]
    shape = (len(stages), len(generators), len(everyone), n_images)
    index = pd.MultiIndex.from_product([stages, generators, everyone, images])
    table = index.to_frame(index=False, name=["stage", "members", "evaluator", "reference_id"])
    flags = (
        np.ones(shape, dtype=bool)
        if valid is None
        else np.broadcast_to(valid[None, :, None, :], shape)
    )
    flag = pd.array(flags.ravel(), dtype="boolean")
    return table.assign(
        set=table["members"],
        setting="unbounded",
        id=table["reference_id"] + "_metamer",
        target="own",
        ways=1000,
        rule="all classes",
        wanted="",
        said="",
        evaluator_weights="simulated",
        trained=True,
        took_part=table["members"] == table["evaluator"],
        same_class=flag,
        above_null=flag,
        valid=flag,
        hit=(random.random(shape) < np.broadcast_to(chance, shape)).astype(float).ravel(),
    )


def planted(networks, means):
    """Probabilities (generators, 1, 1) of the cells' means."""
    rows = networks[~networks["network"].str.startswith("evaluator")]
    return np.array([means[CELLS.index(cell)] for cell in zip(rows["training"], rows["color"])])[
        :, None, None
    ]


@pytest.fixture(scope="module")
def networks():
    return networks_of()


@pytest.fixture(scope="module")
def hits(networks):
    """Two stages; some metamers failed, each generator's own."""
    random = np.random.default_rng(5)
    valid = random.random((8, 12)) < 0.95
    return simulated(
        networks, random.random((8, 11, 12)), stages=("late", "early"), valid=valid, seed=1
    )


# ---------------------------------------------------------------------------------- planted effects


def test_planted_effects_are_found_with_their_sign_and_size():
    networks = networks_of((3, 3, 3, 3), outside=8)
    means = np.array([0.45, 0.7, 0.35, 0.4])  # blur gray, blur rgb, standard gray, standard rgb
    hits = simulated(networks, planted(networks, means), n_images=200, seed=3)
    true = {"training": 0.2, "color": -0.15, "interaction": -0.2}
    for evaluators in ("others", "outside"):
        cells = observer_conditions(hits, networks, evaluators=evaluators, n_resamples=500)
        assert list(zip(cells["a"], cells["b"])) == CELLS
        np.testing.assert_allclose(cells["value"], means, atol=0.03)
        assert ((cells["low"] < cells["value"]) & (cells["value"] < cells["high"])).all()
        assert (cells["high"] - cells["low"] < 0.08).all()
        assert set(cells["n_evaluators"]) == {20 if evaluators == "others" else 8}
        tests = observer_tests(
            hits, networks, evaluators=evaluators, n_resamples=500, n_permutations=1999
        )
        assert len(tests) == 6
        for row in tests.itertuples():
            assert row.value == pytest.approx(true[row.effect], abs=0.03)
            assert row.low < true[row.effect] < row.high and row.high - row.low < 0.15
            assert row.p <= row.p_holm <= 0.03 and np.sign(row.value) == np.sign(true[row.effect])
        m = cells["value"].to_numpy()
        np.testing.assert_allclose(
            tests.loc[tests["unit"] == "images", "value"],
            [
                (m[0] + m[1] - m[2] - m[3]) / 2,
                (m[0] + m[2] - m[1] - m[3]) / 2,
                m[0] - m[1] - m[2] + m[3],
            ],
        )
    turned = {"color": ("rgb", "grayscale"), "training": ("standard", "blur")}
    tests = observer_tests(hits, networks, turned, **QUICK).set_index(["effect", "unit"])
    assert tests.loc[("color", "images"), "contrast"] == "rgb - grayscale"
    assert tests.loc[("interaction", "images"), "contrast"] == (
        "(rgb standard - rgb blur) - (grayscale standard - grayscale blur)"
    )
    assert tests.loc[("color", "images"), "value"] == pytest.approx(0.15, abs=0.03)
    assert tests.loc[("interaction", "images"), "value"] == pytest.approx(-0.2, abs=0.04)


def test_evaluators_that_differ_by_generator_cost_what_the_notes_say():
    """All evaluators are generators; those trained on blur recognize everything, the others nothing."""
    networks = networks_of(outside=0)
    able = np.array([training == "blur" for training in networks["training"]], dtype=float)
    hits = simulated(networks, able[None, :, None])
    effect = observer_tests(hits, networks, **QUICK).set_index(["effect", "unit"])["value"]
    np.testing.assert_allclose(effect["training"], -1 / 7)
    np.testing.assert_allclose(effect["color"], 0, atol=1e-12)
    with pytest.raises(InputError, match="all evaluators are generators"):
        observer_tests(hits, networks, evaluators="outside")


def test_effects_as_seen_by_evaluators_of_each_kind():
    networks = networks_of((2, 2, 2, 2), outside=6)
    seen = networks["training"].to_numpy()
    chance = np.full((8, len(networks), 1), 0.3)
    chance[:4, seen == "blur"] = (
        0.8  # only evaluators trained on blur see more in metamers of networks trained on blur
    )
    hits = simulated(networks, chance, n_images=150)
    cells = observer_conditions(hits, networks, evaluator_factor="training", n_resamples=0)
    assert cells["evaluator_level"].unique().tolist() == ["all evaluators", "blur", "standard"]
    assert cells.drop_duplicates("evaluator_level")["n_evaluators"].tolist() == [14, 7, 7]
    tests = observer_tests(hits, networks, evaluator_factor="training", **QUICK)
    assert len(tests) == 4 * 6
    found = tests[tests["effect"] == "training"].set_index(["evaluator_level", "unit"])
    for unit in ("images", "generators"):
        assert found.loc[("blur", unit), "value"] == pytest.approx(0.5, abs=0.04)
        assert found.loc[("standard", unit), "value"] == pytest.approx(0, abs=0.04)
        assert found.loc[("blur - standard", unit), "value"] == pytest.approx(0.5, abs=0.05)
    assert found.loc[("blur - standard", "images"), "p"] == 1 / 200
    assert found.loc[("standard", "images"), "p"] > 0.05
    difference = found.loc["blur", "value"] - found.loc["standard", "value"]
    np.testing.assert_allclose(found.loc["blur - standard", "value"], difference)


# ------------------------------------------------------------------------------- loops written anew


def hits_of(hits, stage, generator, image, evaluators=None):
    rows = hits[
        (hits["stage"] == stage) & (hits["members"] == generator) & (hits["reference_id"] == image)
    ]
    kept = [
        row.hit
        for row in rows.itertuples()
        if row.valid
        and row.evaluator != generator
        and (evaluators is None or row.evaluator in evaluators)
    ]
    return np.mean(kept) if kept else np.nan


def test_the_matrix_is_that_of_a_loop(hits):
    matrix = observer_matrix(hits, n_resamples=300, seed=4)
    assert matrix["stage"].drop_duplicates().tolist() == ["early", "late"]
    valid = matrix[matrix["validity"] == "valid"]
    single = valid[valid["evaluator"] != "mean of evaluators"]
    assert len(single) == 2 * 8 * 11 and single["self"].sum() == 16
    assert (single["self"] == (single["generator"] == single["evaluator"])).all()
    for row in single.iloc[::7].itertuples():
        rows = hits[(hits["stage"] == row.stage) & (hits["members"] == row.generator)]
        rows = rows[(rows["evaluator"] == row.evaluator) & rows["valid"].astype(bool)].sort_values(
            "reference_id"
        )
        assert row.value == rows["hit"].mean() and row.n == len(rows) and row.n_images == 12
        assert row.n_failed == 12 - len(rows) and row.pass_both == len(rows) / 12
        counts = bootstrap_counts(len(rows), 300, 4)
        drawn = [np.repeat(rows["hit"].to_numpy(), count).mean() for count in counts]
        np.testing.assert_allclose([row.low, row.high], np.percentile(drawn, [2.5, 97.5]))
    for row in valid[valid["evaluator"] == "mean of evaluators"].itertuples():
        others = single[
            (single["stage"] == row.stage)
            & (single["generator"] == row.generator)
            & ~single["self"]
        ]
        assert (
            row.value == pytest.approx(others["value"].mean())
            and row.n_averaged == 10
            and not row.self
        )
    failed = matrix[matrix["validity"] == "failed"]
    assert len(failed) and (failed["n"] == failed["n_failed"]).all()


@pytest.mark.parametrize("paired", [True, False])
def test_cells_are_those_of_a_loop(hits, networks, paired):
    cells = observer_conditions(hits, networks, paired=paired, n_resamples=0)
    images = sorted(set(hits["reference_id"]))
    for row in cells.itertuples():
        cell = networks[(networks["training"] == row.a) & (networks["color"] == row.b)]["network"]
        cell = [name for name in cell if not name.startswith("evaluator")]
        everyone = sorted(set(hits["members"]))
        shared = [
            image
            for image in images
            if all(np.isfinite(hits_of(hits, row.stage, net, image)) for net in everyone)
        ]
        used = {
            net: shared
            if paired
            else [image for image in images if np.isfinite(hits_of(hits, row.stage, net, image))]
            for net in cell
        }
        means = [
            np.mean([hits_of(hits, row.stage, net, image) for image in used[net]]) for net in cell
        ]
        assert row.value == pytest.approx(np.mean(means)) and row.generators == "+".join(cell)
        assert (
            row.n_images == len(set().union(*used.values())) and row.n_excluded == 12 - row.n_images
        )
        assert row.n_generators == 2 and row.n_metamers == 24 and row.n_valid + row.n_failed == 24
        assert np.isnan(row.low) and not row.note
    assert len(cells) == 8 and (cells["n_images"] > 4).all()
    assert (cells["n_excluded"].max() > 0) == paired


def by_hand(scores, cells):
    """Main effects and interaction, and its t² by least squares; rows of scores are relabelings."""
    m = [scores[:, cells == at].mean(axis=1) for at in range(4)]
    effects = {"a": (m[0] + m[1] - m[2] - m[3]) / 2, "b": (m[0] + m[2] - m[1] - m[3]) / 2}
    effects["interaction"] = m[0] - m[1] - m[2] + m[3]
    a, b = cells // 2, cells % 2
    design = np.column_stack([np.ones(len(cells)), a, b, a * b]).astype(float)
    fitted = np.linalg.solve(design.T @ design, design.T @ scores.T)
    variance = np.square(scores.T - design @ fitted).sum(axis=0) / (len(cells) - 4)
    t = fitted[3] / np.sqrt(variance * np.linalg.inv(design.T @ design)[3, 3])
    return effects, t**2


@pytest.mark.parametrize("counts", [(2, 2, 1, 1), (2, 1, 2, 2)])
def test_exact_tests_are_those_of_all_orders(counts):
    cells = np.repeat(np.arange(4), counts)
    n = len(cells)
    scores = np.random.default_rng(sum(counts)).random(n)
    orders = np.array(list(permutations(range(n))))
    effects, _ = by_hand(scores[None], cells)
    for effect, other in (("a", cells % 2), ("b", cells // 2)):
        inside = orders[
            (other[orders] == other).all(axis=1)
        ]  # those that keep the other factor's levels
        null = np.abs(by_hand(scores[inside], cells)[0][effect])
        found = relabel(scores, cells, effect)
        assert found.exact and found.p == pytest.approx(
            np.mean(null >= abs(effects[effect][0]) - 1e-9)
        )
    main = np.column_stack([np.ones(n), cells // 2, cells % 2]).astype(float)
    fitted = main @ np.linalg.pinv(main) @ scores
    null = by_hand(fitted + (scores - fitted)[orders], cells)[1]
    found = relabel(scores, cells, "interaction")
    assert found.exact and found.p == pytest.approx(
        np.mean(null >= by_hand(scores[None], cells)[1][0] * (1 - 1e-9))
    )
    drawn = relabel(scores, cells, "interaction", 59, seed=1)
    assert not drawn.exact and drawn.n_permutations == 59 and abs(drawn.p - found.p) < 0.25
    assert relabel(scores, cells, "a", 3).exact is False


def test_tests_of_a_table_are_those_of_its_scores(hits, networks):
    tests = observer_tests(hits, networks, n_resamples=200, seed=2)
    images = sorted(set(hits["reference_id"]))
    generators = sorted(set(hits["members"]))
    cells = np.repeat(np.arange(4), 2)
    for stage in ("early", "late"):
        scores = np.array(
            [[hits_of(hits, stage, net, image) for net in generators] for image in images]
        )
        scores = scores[np.isfinite(scores).all(axis=1)]
        effects, _ = by_hand(scores, cells)
        found = tests[tests["stage"] == stage]
        for kind, name in (("a", "training"), ("b", "color"), ("interaction", "interaction")):
            row = found[(found["effect"] == name) & (found["unit"] == "images")].iloc[0]
            assert row["value"] == pytest.approx(effects[kind].mean()) and row["n_images"] == len(
                scores
            )
            drawn = [
                np.repeat(effects[kind], count).mean()
                for count in bootstrap_counts(len(scores), 200, 2)
            ]
            np.testing.assert_allclose([row["low"], row["high"]], np.percentile(drawn, [2.5, 97.5]))
            assert row["p"] == sign_flips(effects[kind], seed=2).p
            row = found[(found["effect"] == name) & (found["unit"] == "generators")].iloc[0]
            assert row["value"] == pytest.approx(effects[kind].mean()) and row["exact"]
            assert row["p"] == relabel(scores.mean(axis=0), cells, kind).p
        for unit in ("images", "generators"):
            part = found[found["unit"] == unit]
            np.testing.assert_allclose(part["p_holm"], correct_p(part["p"].to_numpy(), "holm"))
        assert (tests["n_excluded"] == 12 - tests["n_images"]).all() and (
            tests["p_holm"] <= 1
        ).all()


# ------------------------------------------------------------------------ other people's statistics


def test_sign_flips_are_those_of_scipy():
    values = np.r_[np.random.default_rng(0).normal(0.2, 1, 9), 0.0]
    exact = sign_flips(values)
    theirs = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert exact.exact and exact.n_permutations == 1024 and exact.p_min == 2 / 1024
    assert exact.p == pytest.approx(theirs.pvalue)
    drawn = sign_flips(values, 1023, seed=3)
    assert not drawn.exact and drawn.p == pytest.approx(exact.p, abs=0.06)
    assert sign_flips(np.zeros(5)).p == 1
    assert sign_flips(np.full(40, 0.1), 99).p == sign_flips(np.full(40, 0.1), 99).p_min == 0.01
    assert np.isnan(sign_flips(np.zeros(0)).p)


def test_intervals_and_corrections_are_those_of_statsmodels():
    ols = pytest.importorskip("statsmodels.api")
    from statsmodels.stats.multitest import multipletests

    cells = np.repeat(np.arange(4), (3, 2, 4, 1))
    scores = np.random.default_rng(2).random(10)
    a, b = 0.5 - cells // 2, 0.5 - cells % 2
    fit = ols.OLS(scores, np.column_stack([np.ones(10), a, b, a * b])).fit()
    for at, effect in enumerate(("a", "b", "interaction"), start=1):
        np.testing.assert_allclose(
            spread_interval(scores, cells, effect, 0.9), fit.conf_int(0.1)[at]
        )
    assert np.isnan(spread_interval(scores[:4], np.arange(4), "a")).all()
    p = np.array([0.04, np.nan, 0.01, 0.9, 0.02])
    np.testing.assert_allclose(
        correct_p(p, "holm")[[0, 2, 3, 4]], multipletests(p[[0, 2, 3, 4]], method="holm")[1]
    )
    assert np.isnan(correct_p(p, "holm")[1])
    with pytest.raises(InputError, match="unknown correction 'holmes'; did you mean 'holm'"):
        correct_p(p, "holmes")


@pytest.mark.parametrize("unit", ["images", "generators"])
def test_false_alarms_are_rare_enough(unit):
    """400 tables without an effect, in which photographs, and networks, differ: each test rejects
    about 5 %.
    """
    n, alarms = 400, dict.fromkeys(("training", "color", "interaction"), 0)
    networks = networks_of((3, 3, 3, 3), outside=4)
    evaluators = [name for name in networks["network"] if name.startswith("evaluator")]
    random = np.random.default_rng(11)
    for seed in range(10):  # stages stand for tables: each has data of its own
        chance = random.beta(2, 2, (n // 10, 1, 1, 20))  # photographs differ
        if unit == "generators":  # and so do networks
            chance = np.clip(chance + random.normal(0, 0.15, (n // 10, 12, 1, 1)), 0, 1)
        stages = [str(number) for number in range(n // 10)]
        hits = simulated(
            networks, chance, n_images=20, stages=stages, seed=seed, evaluators=evaluators
        )
        tests = observer_tests(
            hits, networks, evaluators="outside", n_resamples=0, n_permutations=299, seed=seed
        )
        for row in tests[tests["unit"] == unit].itertuples():
            alarms[row.effect] += row.p <= 0.05
    low, high = binom.ppf([0.0005, 0.9995], n, 0.05)
    assert all(low <= share <= high for share in alarms.values()), alarms


def test_the_interaction_keeps_its_rate_beside_large_main_effects():
    cells = np.repeat(np.arange(4), 2)
    random = np.random.default_rng(8)
    scores = random.exponential(size=(400, 8)) + 4 * (cells // 2) - 3 * (cells % 2)
    alarms = sum(relabel(values, cells, "interaction", 299).p <= 0.05 for values in scores)
    assert alarms <= binom.ppf(0.9995, 400, 0.05)


# ----------------------------------------------------------------------------- what must not matter


def test_order_of_rows_never_matters(hits, networks):
    shuffled = hits.sample(frac=1, random_state=1)
    turned = networks.sample(frac=1, random_state=2)
    options = {"n_resamples": 50, "seed": 1}
    pd.testing.assert_frame_equal(
        observer_matrix(hits, **options), observer_matrix(shuffled, **options)
    )
    for make, more in ((observer_conditions, {}), (observer_tests, {"n_permutations": 99})):
        before = make(hits, networks, evaluator_factor="color", **options, **more)
        pd.testing.assert_frame_equal(
            before, make(shuffled, turned, evaluator_factor="color", **options, **more)
        )


def test_own_evaluations_and_untrained_evaluators_count_for_nothing(hits, networks):
    flipped = hits.assign(hit=np.where(hits["took_part"], 1 - hits["hit"], hits["hit"]))
    noise = hits[hits["evaluator"] == "evaluator0"].assign(
        evaluator="untrained", trained=False, hit=1.0
    )
    both = pd.concat([flipped, noise])
    for make in (observer_conditions, observer_tests):
        options = {"n_resamples": 50, **({"n_permutations": 99} if make is observer_tests else {})}
        pd.testing.assert_frame_equal(
            make(hits, networks, **options), make(both, networks, **options)
        )
        assert not make(hits, networks, **options).equals(
            make(both, networks, include_untrained=True, **options)
        )
    before, after = (observer_matrix(table, n_resamples=0) for table in (hits, both))
    own = before["self"]
    pd.testing.assert_frame_equal(before[~own], after[~own])
    assert (before.loc[own, "value"] != after.loc[own, "value"]).any() and "untrained" not in set(
        after["evaluator"]
    )
    assert "untrained" in set(
        observer_matrix(both, include_untrained=True, n_resamples=0)["evaluator"]
    )


def test_evaluators_by_name_and_outside_are_the_same_for_all_generators(hits, networks):
    names = ["evaluator0", "evaluator1", "evaluator2"]
    by_name = observer_tests(hits, networks, evaluators=names, **QUICK)
    pd.testing.assert_frame_equal(
        by_name, observer_tests(hits, networks, evaluators="outside", **QUICK)
    )
    assert (by_name["n_evaluators"] == 3).all()
    matrix = observer_matrix(hits, evaluators=["evaluator0", "blur-rgb-0"], n_resamples=0)
    assert set(matrix["evaluator"]) == {"evaluator0", "blur-rgb-0", "mean of evaluators"}
    alone = matrix[
        (matrix["generator"] == "blur-rgb-0") & (matrix["evaluator"] == "mean of evaluators")
    ]
    assert alone["value"].isna().all() and alone["note"].str.contains("a mean needs 2").all()


# ----------------------------------------------------------------------------- rows without a value


def test_a_stage_without_valid_metamers_has_rows_and_a_note(networks):
    valid = np.ones((8, 12), dtype=bool)
    valid[3] = False
    early = simulated(networks, 0.5, stages=("early",), valid=valid)
    middle = simulated(networks, 0.5, stages=("middle",), valid=np.zeros((8, 12), dtype=bool))
    late = simulated(networks, 0.5, stages=("late",))
    late = late[~late["members"].str.startswith("blur-rgb")]
    hits = pd.concat([late, middle, early])
    cells = observer_conditions(hits, networks, n_resamples=20)
    tests = observer_tests(hits, networks, **QUICK)
    assert cells["stage"].tolist() == ["early"] * 4 + ["middle"] * 4 + ["late"] * 4
    notes = {
        "early": "no valid metamer of blur-rgb-1",
        "middle": "excluded: no valid metamer of 96 (96 failed, 0 not",
        "late": "no metamers of a network that is blur rgb at this stage",
    }
    for stage, note in notes.items():
        rows = tests[tests["stage"] == stage]
        assert len(rows) == 6 and rows[["value", "p", "p_min", "p_holm", "low", "high"]].isna().all(
            axis=None
        )
        assert rows["note"].str.startswith(note).all()
        empty = cells[(cells["stage"] == stage) & cells["value"].isna()]
        assert (
            len(empty) == (1 if stage == "late" else 4) and empty["note"].str.startswith(note).all()
        )
    assert (cells.loc[cells["stage"] != "late", "n_images"] == 0).all()
    assert (cells.loc[cells["stage"] != "late", "n_excluded"] == 12).all()
    loose = observer_conditions(hits, networks, paired=False, n_resamples=20)
    assert (
        loose.loc[loose["stage"] == "early", "value"].notna().all()
    )  # by the other network of the cell
    failed = observer_tests(hits, networks, validity="failed", **QUICK)
    assert failed.loc[failed["stage"] == "middle", "value"].notna().all()
    matrix = observer_matrix(hits, n_resamples=20)
    rows = matrix[(matrix["stage"] == "middle") & (matrix["validity"] == "valid")]
    assert (
        len(rows) == 8 * 12
        and (rows["n"] == 0).all()
        and rows["note"].str.startswith("excluded").all()
    )


def test_photographs_that_no_two_networks_share_and_evaluators_that_are_lacking(networks):
    valid = np.tile(np.arange(12) % 2 == 0, (8, 1))
    valid[0] = ~valid[0]
    hits = simulated(networks, 0.5, valid=valid)
    tests = observer_tests(hits, networks, **QUICK)
    assert (
        tests["note"] == "no photograph has a valid metamer of every one of the 8 networks"
    ).all()
    assert (tests["n_images"] == 0).all() and (tests["n_excluded"] == 12).all()
    own = observer_tests(hits, networks, paired=False, **QUICK).set_index("unit")
    assert own.loc["generators", "p"].notna().all() and own.loc["images", "p"].isna().all()
    kinds = networks.assign(kind=np.where(networks["network"] == "evaluator1", "b", "a"))
    kinds = kinds[kinds["network"].isin([*hits["members"], "evaluator1"])]
    tests = observer_tests(
        simulated(networks, 0.5, evaluators=["blur-rgb-0", "evaluator1"]),
        kinds,
        evaluator_factor="kind",
        **QUICK,
    )
    rows = tests.set_index("evaluator_level")
    assert (rows.loc["a", "note"] == "no evaluator is left for blur-rgb-0").all() and rows.loc[
        "b", "value"
    ].notna().all()
    assert rows.loc["a - b", "value"].isna().all()


def test_one_network_in_each_cell_says_what_it_cannot_say():
    networks = networks_of((1, 1, 1, 1), outside=2)
    tests = observer_tests(simulated(networks, 0.5, n_images=4), networks, n_resamples=10)
    rows = tests[tests["unit"] == "generators"].set_index("effect")
    assert rows.loc[["training", "color"], "p_min"].tolist() == [0.5, 0.5]
    assert (
        rows.loc[["training", "color"], "note"] == "p cannot be below 0.5 with 4 generators"
    ).all()
    assert (
        np.isnan(rows.loc["interaction", "p"])
        and "one network in every cell" in rows.loc["interaction", "note"]
    )
    assert rows[["low", "high"]].isna().all(axis=None) and rows["value"].notna().all()
    images = tests[tests["unit"] == "images"]
    assert (images["p_min"] == 2 / 16).all() and (images["n_permutations"] == 16).all()
    assert (images["note"] == "p cannot be below 0.125 with 4 images").all()
    assert (tests["p_holm"].dropna() <= 1).all()


# ---------------------------------------------------------------------------------------- bad input


def test_bad_tables_of_hits(hits, networks):
    several = hits.assign(members=hits["members"].replace("blur-rgb-0", "one+two"), set="both")
    with pytest.raises(InputError, match="several networks together: both"):
        observer_matrix(several)
    with pytest.raises(InputError, match="unknown network: blur-rgb-0"):
        observer_matrix(hits.assign(members=hits["members"].replace("blur-rgb-0", None)))
    with pytest.raises(InputError, match=r"saw several metamers of 'blur-grayscale-0'.*'photo000'"):
        observer_matrix(pd.concat([hits, hits.assign(set="again")]))
    with pytest.raises(InputError, match=r"lacks the column\(s\) took_part, valid"):
        observer_tests(hits.drop(columns=["took_part", "valid"]), networks)
    with pytest.raises(InputError, match="no rows"):
        observer_matrix(hits.iloc[:0])
    with pytest.raises(InputError, match="random weights"):
        observer_matrix(hits.assign(trained=False))
    with pytest.raises(
        InputError, match="unknown choice of evaluators 'other'; did you mean 'others'"
    ):
        observer_matrix(hits, evaluators="other")
    with pytest.raises(InputError, match="unknown evaluator 'evaluator9'"):
        observer_matrix(hits, evaluators=["evaluator9"])
    with pytest.raises(InputError, match="at least one evaluator"):
        observer_matrix(hits, evaluators=[])
    with pytest.raises(InputError, match="random weights: evaluator0"):
        observer_matrix(
            hits.assign(trained=hits["evaluator"] != "evaluator0"), evaluators=["evaluator0"]
        )
    some = hits[(hits["members"] != "blur-rgb-0") | (hits["evaluator"] != "evaluator0")]
    with pytest.raises(InputError, match="no evaluator is left for the metamers of blur-rgb-0"):
        observer_matrix(some, evaluators=["evaluator0"])
    with pytest.raises(InputError, match="unknown validity 'good'"):
        observer_conditions(hits, networks, validity="good")
    with pytest.raises(InputError, match="n_permutations must be 1 or more, not 0"):
        observer_tests(hits, networks, n_permutations=0)
    with pytest.raises(InputError, match="confidence must lie"):
        observer_tests(hits, networks, confidence=1.0)


def test_bad_tables_of_networks(hits, networks):
    def change(**values):
        return networks.assign(
            **{
                name: networks["network"].map(new).fillna(networks[name])
                for name, new in values.items()
            }
        )

    cases = [
        (networks.iloc[1:], {}, "does not name blur-grayscale-0"),
        (
            change(network={"evaluator0": "evaluatr0"}),
            {},
            "neither generated nor evaluated anything: evaluatr0",
        ),
        (
            pd.concat([networks, networks.iloc[:1]]),
            {},
            "more than once in the table of networks: blur-grayscale-0",
        ),
        (networks.drop(columns="color"), {}, r"lacks the column\(s\) color"),
        (networks.assign(color="rgb"), {}, r"color has 1 level\(s\) \(rgb\)"),
        (
            change(color={"blur-rgb-0": "cmyk"}),
            {},
            r"color has 3 level\(s\) \(cmyk, grayscale, rgb\)",
        ),
        (change(color={"blur-rgb-0": " "}), {}, "color is missing of blur-rgb-0"),
        (
            networks.assign(color=networks["color"].where(networks["network"] != "blur-rgb-0")),
            {},
            "missing of blur-r",
        ),
        (
            change(color={f"blur-rgb-{one}": "grayscale" for one in (0, 1)}),
            {},
            "no generator is blur rgb",
        ),
        (networks, {"factors": ("training",)}, "two factors are needed"),
        (
            networks,
            {"factors": "training"},
            r"factors must be a sequence \(text each\).*, not 'training'",
        ),
        (networks, {"factors": ("training", "training")}, "two factors are needed"),
        (
            networks,
            {"factors": {"training": ("blur", "clear"), "color": ("rgb", "grayscale")}},
            "not blur, clear",
        ),
        (networks, {"evaluator_factor": "age"}, r"lacks the column\(s\) age"),
        (
            networks[networks["network"] != "evaluator1"],
            {"evaluator_factor": "color"},
            "does not name evaluator1",
        ),
    ]
    for table, options, match in cases:
        for make in (observer_conditions, observer_tests):
            with pytest.raises(InputError, match=match):
                make(hits, table, **options)


# --------------------------------------------------------------------------------------- a real run


@pytest.mark.data
def test_real_networks_and_their_greyscale_views_evaluator_each_other(shared_data):
    """Architecture × color: SqueezeNet and EfficientNet-Lite0, in color and as they see gray; one
    network a cell.
    """
    weights = {"squeezenet1_0": shared_data / "weights" / "squeezenet1_0_imagenet.npz"}
    color = [
        load_model(network, weights=weights.get(network, "default"), device="cpu")
        for network in ("squeezenet1_0", "efficientnet_lite0")
    ]
    observers = [
        *color,
        *map(greyscale_view, color),
        load_model("efficientnet_lite1", device="cpu"),
    ]
    small = [at_size(model, 96) for model in observers[:4]]
    files = [shared_data / "photos_ccby" / f"photo_{one:03d}.jpg" for one in (1, 20, 40, 60)]
    photos = load_photographs(files, small[0].preprocessing)
    sets = []
    for network in small:
        made = model_metamers(
            network, photos, stage="early", preset="fast", steps=25, run=RunOptions(batch_size=4)
        )
        sets.append(metamer_set(photos, made, stage="early"))
    for one, network in zip(sets, small, strict=True):
        assert [one.took_part(other) for other in observers[:4]] == [
            other.name == network.name for other in small
        ]
    hits = recognition_table(observers, sets, ways=(1000,), run=RunOptions(batch_size=4))
    networks = pd.DataFrame(
        {
            "network": [model.name for model in small],
            "color": ["rgb", "rgb", "gray", "gray"],
            "architecture": ["squeeze", "lite"] * 2,
        }
    )
    matrix = observer_matrix(hits, n_resamples=20)
    assert (
        matrix["self"].sum() == 4
        and len(matrix) == 4 * 6
        and set(matrix["validity"]) == {"not judged"}
    )
    cells = observer_conditions(
        hits, networks, ("architecture", "color"), validity="not judged", n_resamples=20
    )
    assert (
        cells["value"].between(0, 1).all()
        and (cells["n_images"] == 4).all()
        and (cells["n_evaluators"] == 5).all()
    )
    tests = observer_tests(
        hits, networks, ("architecture", "color"), validity="not judged", n_resamples=20
    )
    np.testing.assert_allclose(
        tests.loc[tests["unit"] == "images", "value"],
        tests.loc[tests["unit"] == "generators", "value"],
        atol=1e-12,
    )
    assert tests["p"].dropna().between(0.125, 1).all()
    nothing = observer_tests(hits, networks, ("architecture", "color"), **QUICK)
    assert nothing["note"].str.contains("no valid metamer of 16 .0 failed, 16 not judged").all()
