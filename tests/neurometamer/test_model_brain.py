"""Layers and regions: p, choices and weights against rsatoolbox, loops and simulations."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.inference import crossval
from rsatoolbox.model import ModelWeighted
from rsatoolbox.model.fitter import Fitter, fit_regress_nn
from rsatoolbox.rdm import RDMs
from scipy.stats import false_discovery_control, spearmanr, ttest_1samp

from neurometamer import commands
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.rsa.compare import compare_rdms
from neurometamer.rsa.compute import activation_rdms, label_rdms, take_conditions, write_rdms
from neurometamer.rsa.layers.cross_validation import (
    assign_folds,
    corrected_covariance,
    default_folds,
    fit_layer_weights,
    fold_pairs,
)
from neurometamer.rsa.layers.hierarchy import hierarchy_test
from neurometamer.rsa.layers.matrix import join_model_brain, layer_by_roi, layer_matrix
from neurometamer.rsa.layers.weighted import CrossValidation, best_layers, flexible_models
from neurometamer.stats.resampling import pair_positions, permutation_orders
from neurometamer.store import read_table

ROIS = ("V1", "V4", "LO")


def pair_count(n: int) -> int:
    return n * (n - 1) // 2


def make(n=16, n_layers=4, subjects=("S1", "S2", "S3"), rois=ROIS, noise=0.5, seed=0, planted=True):
    """Region k of every subject follows layer k, plus its own noise; or nothing but noise."""
    rng = np.random.default_rng(seed)
    layers = rng.random((n_layers, pair_count(n)))
    names = [f"im{i:02d}" for i in range(n)]
    network = label_rdms(
        layers,
        conditions=names,
        rdm_descriptors={"stage": [f"layer{i}" for i in range(n_layers)]},
        measure="test",
    )
    vectors = [
        planted * layers[k % n_layers] + noise * rng.random(pair_count(n))
        for _ in subjects
        for k in range(len(rois))
    ]
    places = {"subject": [s for s in subjects for _ in rois], "roi": list(rois) * len(subjects)}
    return network, label_rdms(
        np.array(vectors), conditions=names, rdm_descriptors=places, measure="test"
    )


# ------------------------------------------------------------------------------------------- matrix


@pytest.mark.parametrize(
    "comparator", ["spearman", "pearson", "cosine", "rho-a", "tau-a", "whitened-cosine"]
)
def test_p_of_the_matrix_equals_a_loop_over_the_same_permutations(comparator):
    network, brain = make(n=8, noise=2.0)
    table = layer_matrix(
        network,
        brain,
        image_type=None,
        comparator=comparator,
        n_resamples=0,
        n_permutations=99,
        seed=5,
    )
    orders = [np.arange(8), *permutation_orders(8, 99, seed=5)]
    null = []
    for order in orders:  # the labels of the network, moved by rsatoolbox's own reordering
        moved = take_conditions(network, order)
        moved.pattern_descriptors["condition"] = network.pattern_descriptors["condition"]
        null.append(
            layer_by_roi(moved, brain, image_type=None, comparator=comparator, n_resamples=0)[
                "similarity"
            ].to_numpy()
        )
    expected = (np.array(null) >= np.array(null)[0] - 1e-12).sum(axis=0) / 100
    np.testing.assert_allclose(table["p"], expected, atol=1e-12)
    mean = table[table["subject"] == "mean"]
    np.testing.assert_allclose(mean["q"], false_discovery_control(mean["p"]))
    assert set(mean["family"]) == {"12 tests of subject mean"}
    assert table["p_method"].str.contains("least p 0.01").all()


def test_labels_permuted_within_blocks_equal_a_loop():
    network, brain = make(n=8, noise=2.0)
    blocks = {f"im{i:02d}": "ab"[i % 2] for i in range(8)}
    how = {"n_resamples": 0, "n_permutations": 99, "seed": 5}
    table = layer_matrix(network, brain, blocks=blocks, **how)
    orders = permutation_orders(8, 99, seed=5, blocks=[blocks[f"im{i:02d}"] for i in range(8)])
    null = []
    for order in [np.arange(8), *orders]:
        moved = take_conditions(network, order)
        moved.pattern_descriptors["condition"] = network.pattern_descriptors["condition"]
        null.append(layer_by_roi(moved, brain, n_resamples=0)["similarity"].to_numpy())
    expected = (np.array(null) >= np.array(null)[0] - 1e-12).mean(axis=0)
    np.testing.assert_allclose(table["p"], expected, atol=1e-12)
    assert table["p_method"].str.contains("within 2 blocks").all()
    own = {"S1": blocks, "S2": blocks, "S3": {name: "ab"[i < 4] for i, name in enumerate(blocks)}}
    mixed = layer_matrix(network, brain, blocks=own, **how).set_index("subject")
    plain = table.set_index("subject")
    assert mixed.loc[["S1", "S2"], "p"].tolist() == plain.loc[["S1", "S2"], "p"].tolist()
    assert mixed.loc["mean", "p"].isna().all()
    assert (
        mixed.loc["mean", "p_method"].eq("none: subjects differ in their sessions or classes").all()
    )
    compared = compare_rdms(network, brain, blocks=blocks, **how)
    assert compared["p"].between(0.01, 1).all()
    rows = table[table["subject"] == "S1"].set_index(["layer", "roi"])["p"]
    ours = compared[compared["b_subject"] == "S1"].set_index(["a_stage", "b_roi"])["p"]
    assert ours.sort_index().tolist() == rows.sort_index().tolist()


def test_bad_blocks_are_named():
    network, brain = make(n=8)
    blocks = {f"im{i:02d}": "ab"[i % 2] for i in range(8)}
    for ask in (layer_matrix, compare_rdms):
        how = {"n_resamples": 0, "n_permutations": 9}
        with pytest.raises(InputError, match="no session or class for the stimuli im01, im03"):
            ask(network, brain, blocks={name: b for name, b in blocks.items() if b == "a"}, **how)
        with pytest.raises(InputError, match="all stimuli are of one session or class, 'x'"):
            ask(network, brain, blocks=dict.fromkeys(blocks, "x"), **how)
        with pytest.raises(InputError, match="holds one stimulus"):
            ask(network, brain, blocks={name: name for name in blocks}, **how)
    with pytest.raises(InputError, match="no blocks for subject 'S2'"):
        layer_matrix(network, brain, blocks={"S1": blocks}, n_resamples=0, n_permutations=9)


def test_kinds_are_never_mixed_unasked():
    n = 8
    rng = np.random.default_rng(2)
    names = [f"im{i}" for i in range(n)]
    both = {
        "conditions": [*names, *(f"{name}_AN" for name in names)],
        "measure": "x",
        "pattern_descriptors": {"kind": ["RE"] * n + ["AN"] * n, "reference_id": names * 2},
    }
    network = label_rdms(
        rng.random((3, pair_count(2 * n))), rdm_descriptors={"stage": ["a", "b", "c"]}, **both
    )
    places = {"subject": ["S1"] * 3, "roi": list(ROIS)}
    brain = label_rdms(rng.random((3, pair_count(2 * n))), rdm_descriptors=places, **both)
    asks = {
        "compare": lambda kind: compare_rdms(network, brain, image_type=kind, n_resamples=0),
        "layers": lambda kind: layer_by_roi(network, brain, image_type=kind, n_resamples=0),
        "matrix": lambda kind: layer_matrix(
            network, brain, image_type=kind, n_resamples=0, n_permutations=9
        ),
        "models": lambda kind: (
            flexible_models(
                network, brain, image_type=kind, n_resamples=0, folds=CrossValidation(n_repeats=1)
            ).models
        ),
        "hierarchy": lambda kind: hierarchy_test(network, brain, image_type=kind),
    }
    for name, ask in asks.items():
        with pytest.raises(
            InputError,
            match=r"several image types \(RE, AN\); name one, e.g. image_type='RE', or give image_type='all'",
        ):
            ask(None)
        single, every = ask("RE"), ask("all")
        if "n" in single:
            assert set(single["n"]) == {n}, name
            assert set(every["n"]) == {2 * n}, name
        if "kind" in single:
            assert (set(single["kind"]), set(every["kind"])) == ({"RE"}, {"all"}), name


def test_scores_above_the_ceiling_are_told_not_hidden():
    network, brain = make(noise=0.5)
    network.dissimilarities[1] = brain.dissimilarities[0]  # a model that shares one subject's noise
    table = layer_matrix(network, brain, image_type=None, n_resamples=0, n_permutations=0)
    high = table[table["similarity"] > table["ceiling_high"]]
    assert len(high) > 0
    assert high["above_ceiling"].eq("high").all()
    assert high["reason"].str.contains("above the upper bound").all()
    between = table[table["above_ceiling"] == "low"]
    assert (
        (between["similarity"] > between["ceiling_low"])
        & (between["similarity"] <= between["ceiling_high"])
    ).all()
    assert table["p"].isna().all()
    alone = layer_matrix(
        network, brain.subset("subject", "S1"), image_type=None, n_resamples=0, n_permutations=0
    )
    assert alone["reason"].eq("no ceiling to compare with").all()


def test_permuted_pairs_move_labels():
    matrix = np.random.default_rng(0).random((6, 6))
    matrix = matrix + matrix.T
    order = np.random.default_rng(1).permutation(6)
    upper = np.triu_indices(6, 1)
    np.testing.assert_array_equal(
        matrix[upper][pair_positions(order, len(order))], matrix[np.ix_(order, order)][upper]
    )


# ----------------------------------------------------------------------------------- weights, folds


@pytest.mark.parametrize(("method", "center"), [("corr", True), ("cosine", False)])
def test_weights_equal_rsatoolbox(method, center):
    rng = np.random.default_rng(3)
    shared = rng.random((1, pair_count(12)))
    for mix in (0.0, 0.9):  # layers that are much alike, too
        layers = mix * shared + (1 - mix) * rng.random((5, pair_count(12)))
        targets = rng.random((3, pair_count(12))) + layers[1] + 0.3 * layers[3] - 0.4 * layers[2]
        theirs = fit_regress_nn(ModelWeighted("m", RDMs(layers)), RDMs(targets), method=method)
        ours = fit_layer_weights(layers, targets, center=center)
        # two solvers of the same convex problem
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
        assert (ours >= 0).all()


def test_weights_of_copies_are_weights_of_repeated_pairs():
    rng = np.random.default_rng(4)
    layers, targets = rng.random((3, 45)), rng.random((2, 45))
    copies = rng.integers(0, 3, 45)
    repeated = np.repeat(np.arange(45), copies)
    expected = fit_layer_weights(layers[:, repeated], targets[:, repeated])
    np.testing.assert_allclose(
        fit_layer_weights(layers, targets, copies.astype(float)), expected, atol=1e-10
    )
    twice = fit_layer_weights(
        np.concatenate([layers, layers[:1]]), targets
    )  # a layer given twice is no obstacle
    np.testing.assert_allclose(
        twice[:3] + np.array([twice[3], 0, 0]) > 0, fit_layer_weights(layers, targets) > 0
    )
    assert fit_layer_weights(layers[:1], -layers[:1]).tolist() == [0.0]


def test_no_pair_crosses_and_copies_stay_together():
    folds = assign_folds(13, 3, np.random.default_rng(0), np.arange(13) != 4)
    assert folds[4] == -1
    assert sorted(np.bincount(folds[folds >= 0])) == [4, 4, 4]
    first, second = np.triu_indices(13, 1)
    for fold in range(3):
        train, test = fold_pairs(folds, fold)
        used = {*first[train], *second[train]}
        assert not used & {*first[test], *second[test]}
        assert test.sum() == 6
    assert [default_folds(n) for n in (8, 40, 92)] == [2, 4, 5]


@pytest.mark.parametrize(("comparator", "method"), [("pearson", "corr"), ("cosine", "cosine")])
def test_cross_validated_scores_equal_rsatoolbox_on_the_same_folds(comparator, method):
    network, brain = make(n=16, rois=("V1",), noise=1.5)
    ours = flexible_models(
        network,
        brain,
        image_type=None,
        comparator=comparator,
        folds=CrossValidation(n_folds=2, n_repeats=1),
        n_resamples=0,
        seed=7,
    ).models
    folds = assign_folds(16, 2, generator(7, "folds", "V1"))
    data = RDMs(brain.dissimilarities, pattern_descriptors={"index": np.arange(16)})
    model = ModelWeighted(
        "m", RDMs(network.dissimilarities, pattern_descriptors={"index": np.arange(16)})
    )
    for s, subject in enumerate(("S1", "S2", "S3")):
        others = [i for i in range(3) if i != s]
        train = [
            (
                data[others].subset_pattern("index", np.flatnonzero(folds != f)),
                np.flatnonzero(folds != f),
            )
            for f in range(2)
        ]
        test = [
            (
                data[s].subset_pattern("index", np.flatnonzero(folds == f)),
                np.flatnonzero(folds == f),
            )
            for f in range(2)
        ]
        fitter = Fitter(fit_regress_nn)
        theirs = crossval(
            [model], data, train, test, method=method, fitter=[fitter], calc_noise_ceil=False
        )
        row = ours[(ours["subject"] == subject) & (ours["model"] == "weighted")].iloc[0]
        assert row["score"] == pytest.approx(float(np.mean(theirs.evaluations)), abs=1e-6)


def test_covariance_is_corrected_as_in_rsatoolbox():
    rng = np.random.default_rng(0)
    stimuli, folds = rng.normal(size=(20_000, 1, 1)), rng.normal(size=(20_000, 1, 2))
    # the variance of stimuli alone is 1; one assignment adds 4, the mean of two adds 2
    assert corrected_covariance(stimuli + 2 * folds)[0, 0] == pytest.approx(1, abs=0.15)
    values = rng.normal(size=(50, 3, 2))
    mean, single = (
        np.cov(values.mean(-1).T),
        np.mean([np.cov(values[..., i].T) for i in range(2)], axis=0),
    )
    np.testing.assert_allclose(corrected_covariance(values), 2 * mean - single)


# --------------------------------------------------------------------------------------- best layer


def test_the_naive_choice_is_biased_upward_under_the_null_and_the_held_out_one_is_not():
    naive, held_out = [], []
    for seed in range(40):
        network, brain = make(n=12, n_layers=8, rois=("V1",), seed=seed, planted=False)
        for train_on in ("stimuli", "both"):
            table = best_layers(
                network,
                brain,
                image_type=None,
                folds=CrossValidation(train_on=train_on, n_repeats=3),
                n_resamples=0,
                seed=seed,
            )
            row = table[table["subject"] == "mean"].iloc[0]
            held_out.append(row["score"])
        naive.append(row["naive_score"])
    error = np.std(held_out) / np.sqrt(len(held_out))
    assert abs(np.mean(held_out)) < 3.5 * error
    assert np.mean(naive) > 0.1
    assert min(naive) > 0  # every single time


def test_a_planted_layer_is_chosen_and_told_with_its_interval():
    network, brain = make(n=24)
    fitted = flexible_models(
        network, brain, image_type=None, folds=CrossValidation(n_repeats=3), n_resamples=60, seed=1
    )
    best = fitted.best_layer.set_index(["roi", "subject"])
    assert best["layer"].unstack().eq("layer0").all(axis=1)["V1"]
    assert best.loc[("LO", "mean"), "layer"] == "layer2"
    assert best.loc[("LO", "S2"), "chosen"] == "layer2 9/9"
    assert (best["ci_low"] < best["score"]).all()
    assert best.loc[("V4", "mean"), "ci_low"] > 0
    np.testing.assert_allclose(best["optimism"], best["naive_score"] - best["score"])
    assert "crossing pairs left out" in best["method"].iloc[0]
    assert "60 bootstrap" in best["method"].iloc[0]
    models = fitted.models.set_index(["roi", "subject", "model"])
    assert models.loc[("V1", "mean", "weighted"), "weights"].startswith("layer0 1.000")
    row = models.loc[("V1", "mean", "best layer")]
    assert row["score"] == best.loc[("V1", "mean"), "score"]
    differences = fitted.differences.set_index(["roi", "subject", "contrast"])
    pair = differences.loc[("V1", "mean", "best layer minus average")]
    expected = row["score"] - models.loc[("V1", "mean", "average"), "score"]
    assert pair["difference"] == pytest.approx(expected)
    assert pair["p"] < 0.01
    assert pair["ci_low"] > 0
    assert pair["family"] == "3 tests of subject mean, contrast best layer minus average"
    shuffled = take_conditions(brain, np.random.default_rng(1).permutation(24))  # joined by id
    again = flexible_models(
        network,
        shuffled,
        image_type=None,
        folds=CrossValidation(n_repeats=3),
        n_resamples=60,
        seed=1,
    )
    np.testing.assert_allclose(again.models["score"], fitted.models["score"], atol=1e-12)
    np.testing.assert_allclose(again.models["ci_low"], fitted.models["ci_low"], atol=1e-9)


def test_two_layers_together_are_better_than_the_best_of_them():
    network, brain = make(n=24, n_layers=3, rois=("V1",), noise=0.2)
    mixed = label_rdms(
        brain.dissimilarities + 0.9 * network.dissimilarities[1],
        conditions=brain.pattern_descriptors["condition"],
        rdm_descriptors={"subject": ["S1", "S2", "S3"], "roi": ["V1"] * 3},
        measure="test",
    )
    for train_on in ("both", "stimuli", "subjects"):
        fitted = flexible_models(
            network,
            mixed,
            image_type=None,
            folds=CrossValidation(train_on=train_on, n_repeats=2),
            n_resamples=40,
        )
        row = fitted.differences.set_index(["subject", "contrast"]).loc[
            ("mean", "weighted minus best layer")
        ]
        assert row["difference"] > 0.1
        assert row["ci_low"] > 0


def test_why_there_is_no_interval_is_told():
    network, brain = make(n=8, rois=("V1",), subjects=("S1",))
    table = best_layers(network, brain, image_type=None, n_resamples=0)
    assert table["reason"].eq("no interval: no resamples asked for").all()
    assert "the same subject's RDM" in table["method"][0]  # one subject: nobody else to train on
    few = best_layers(
        network, brain, image_type=None, folds=CrossValidation(n_folds=2), n_resamples=30
    )
    assert (
        few["reason"]
        .str.contains("resamples of too few stimuli left out|hold too few stimuli")
        .all()
    )


# ---------------------------------------------------------------------------------------- hierarchy


def two_stage(profiles):
    """Solve slopes by two-stage least squares; the other subjects' sums are the instruments."""
    places = np.arange(profiles.shape[1]) - (profiles.shape[1] - 1) / 2
    slopes = []
    for own, rest in ((own, np.delete(profiles, k, axis=0)) for k, own in enumerate(profiles)):
        others = rest.mean(axis=0).sum(axis=1)
        instruments = np.stack([others, others * places], axis=1)
        sides = np.stack([own.sum(axis=1), own.sum(axis=1) * places], axis=1)
        fitted = instruments @ np.linalg.lstsq(instruments, sides, rcond=None)[0]
        mass = own @ np.arange(1, profiles.shape[2] + 1)
        slopes.append(np.linalg.lstsq(fitted, mass, rcond=None)[0][1])
    return np.array(slopes)


def test_the_slope_equals_two_stage_least_squares_and_its_p_a_t_test():
    network, brain = make(n=20, noise=1.0, seed=3)
    table = hierarchy_test(network, brain, ROIS, image_type=None).set_index("subject")
    joined = join_model_brain(network, brain, image_type=None)
    profiles = np.array(
        [
            [
                [
                    spearmanr(layer, joined.rois[roi][1][s]).statistic
                    for layer in joined.layer_vectors
                ]
                for roi in ROIS
            ]
            for s in range(3)
        ]
    )
    slopes = two_stage(profiles)
    assert table["value"].tolist() == pytest.approx([*slopes, slopes.mean()])
    test = ttest_1samp(slopes, 0, alternative="greater")
    both = ttest_1samp(slopes, 0).confidence_interval(0.95)
    combined = table.loc["combined"]
    assert combined["p"] == pytest.approx(test.pvalue)
    assert (combined["ci_low"], combined["ci_high"]) == pytest.approx((both.low, both.high))
    assert table["p"].drop("combined").isna().all()  # one person's noise is not known
    assert "there is no p" in table["reason"]["S1"]


def test_a_planted_hierarchy_and_none():
    rois = ("V1", "V2", "V3", "V4", "LO")
    network, brain = make(n=24, n_layers=5, rois=rois, noise=0.6)
    row = hierarchy_test(network, brain, rois, image_type=None, preferred="best").iloc[-1]
    assert list(row["preferred_layers"].items())[:2] == [
        ("V1", (1.0, "layer0")),
        ("V2", (2.0, "layer1")),
    ]
    assert row["value"] == pytest.approx(1, abs=0.2)
    assert row["p"] < 0.01
    assert row["left_out"] == []
    back = hierarchy_test(network, brain, rois[::-1], image_type=None, preferred="best").iloc[-1]
    assert back["p"] == pytest.approx(1 - row["p"])
    same = hierarchy_test(network, brain, rois, image_type=None, preferred="center").iloc[-1]
    assert same["p"] == row["p"]  # the same test, whichever way preferred layers are told


def test_regions_without_signal_are_left_out_and_named():
    rois = ("V1", "V2", "V3", "V4", "LO")
    network, brain = make(n=24, n_layers=5, rois=rois, noise=0.6)
    people = np.array(brain.rdm_descriptors["roi"])
    values = brain.dissimilarities.copy()
    values[people == "V3"] = np.random.default_rng(1).random((3, values.shape[1]))
    dead = label_rdms(
        values,
        conditions=brain.pattern_descriptors["condition"],
        rdm_descriptors={name: list(brain.rdm_descriptors[name]) for name in ("subject", "roi")},
        measure="test",
    )
    row = hierarchy_test(network, dead, rois, image_type=None).iloc[-1]
    assert row["left_out"] == ["V3"]
    assert row["preferred_layers"]["V3"] is None
    assert row["p"] < 0.05
    three = hierarchy_test(network, dead, ("V1", "V3", "LO"), image_type=None)
    assert three["p"].isna().all() and three["value"].isna().all()
    assert three["reason"].eq("2 reliable region(s); a slope needs at least 3").all()


def test_what_cannot_be_tested_is_told():
    network, brain = make(n=24, subjects=("S1",), noise=0.3)
    alone = hierarchy_test(network, brain, ROIS, image_type=None)
    assert np.isfinite(alone["value"]).all() and alone["p"].isna().all()
    assert alone["reason"].str.contains("one subject").all()
    equal = label_rdms(
        network.dissimilarities[[0] * 6],
        conditions=network.pattern_descriptors["condition"],
        rdm_descriptors={"subject": ["S1"] * 3 + ["S2"] * 3, "roi": list(ROIS) * 2},
        measure="test",
    )
    row = hierarchy_test(network, equal, image_type=None).iloc[
        -1
    ]  # as in Zhang et al. (2021): one layer best everywhere
    assert row["value"] == pytest.approx(0, abs=1e-12)
    assert "no spread" in row["reason"]
    with pytest.raises(InputError, match="at least 19"):
        hierarchy_test(network, equal, image_type=None, n_permutations=9)


# -------------------------------------------------------------------------------------------- files


def test_the_command_writes_a_table_for_each_question(tmp_path):
    network, brain = make(n=12)
    write_rdms(network, tmp_path / "network.h5")
    for subject in ("S1", "S2", "S3"):  # a file each, in an order of its own
        order = np.random.default_rng(int(subject[1])).permutation(12)
        write_rdms(
            take_conditions(brain.subset("subject", subject), order), tmp_path / f"{subject}.h5"
        )
    files = [tmp_path / f"{subject}.h5" for subject in ("S1", "S2", "S3")]
    command = [
        "layers",
        tmp_path / "network.h5",
        "--brain",
        *files,
        "--rois",
        *ROIS,
        "--out",
        tmp_path / "out",
        "--n-resamples",
        "20",
        "--n-permutations",
        "99",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "neurometamer.cli", *command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    tables = {path.stem: read_table(path) for path in (tmp_path / "out").glob("*.csv")}
    assert set(tables) == {
        "layer_roi",
        "best_layer",
        "weighted",
        "weighted_difference",
        "hierarchy",
    }
    assert len(tables["layer_roi"]) == 4 * 3 * 4
    assert list(tables["hierarchy"]["subject"]) == ["S1", "S2", "S3", "combined"]
    assert tables["hierarchy"]["order"][0] == '["V1", "V4", "LO"]'
    expected = layer_matrix(network, brain, image_type=None, n_resamples=20, n_permutations=99)
    key = ["roi", "subject", "layer"]
    table = tables["layer_roi"].set_index(key).sort_index()
    np.testing.assert_allclose(table["p"], expected.set_index(key).sort_index()["p"])
    assert (
        json.loads((tmp_path / "out" / "layers.json").read_text())["settings"]["train_on"] == "both"
    )
    ids = sorted(map(str, network.pattern_descriptors["condition"]))
    pd.DataFrame({"id": ids, "block": ["1", "2", "3"] * 4}).to_csv(
        tmp_path / "blocks.csv", index=False
    )
    commands.layers(
        tmp_path / "network.h5",
        files,
        tmp_path / "within",
        n_resamples=0,
        n_permutations=99,
        blocks=tmp_path / "blocks.csv",
    )
    within = read_table(tmp_path / "within" / "layer_roi.csv").set_index(key).sort_index()
    blocks = dict(zip(ids, ["1", "2", "3"] * 4))
    expected = layer_matrix(network, brain, n_resamples=0, n_permutations=99, blocks=blocks)
    np.testing.assert_allclose(within["p"], expected.set_index(key).sort_index()["p"])
    assert within["p_method"].str.contains("within 3 blocks").all()
    assert "blocks.csv" in json.loads((tmp_path / "within" / "layers.json").read_text())["inputs"]
    write_rdms(take_conditions(brain.subset("subject", "S1"), range(11)), tmp_path / "few.h5")
    with pytest.raises(InputError, match="missing from the second RDMs: im11"):
        commands.layers(tmp_path / "network.h5", [files[1], tmp_path / "few.h5"], tmp_path / "out")
    with pytest.raises(InputError, match="no brain RDMs given"):
        commands.layers(tmp_path / "network.h5", [], tmp_path / "out")


# ---------------------------------------------------------------------------------------- bad input


def test_bad_requests_are_answered():
    network, brain = make(n=9)
    with pytest.raises(
        InputError, match=r"9 stimuli \(im00.*do not fill 3 folds of at least 4; use at most 2"
    ):
        flexible_models(network, brain, image_type=None, folds=CrossValidation(n_folds=3))
    with pytest.raises(InputError, match="n_folds is 1"):
        flexible_models(network, brain, image_type=None, folds=CrossValidation(n_folds=1))
    with pytest.raises(
        InputError, match=r"ROI 'V1' has one subject \(S1\); training on other subjects needs"
    ):
        flexible_models(
            network,
            brain.subset("subject", "S1"),
            image_type=None,
            folds=CrossValidation(train_on="subjects"),
        )
    with pytest.raises(InputError, match="unknown training 'subject'; did you mean 'subjects'"):
        flexible_models(network, brain, image_type=None, folds=CrossValidation(train_on="subject"))
    with pytest.raises(InputError, match="missing from the second RDMs: im08"):
        layer_matrix(network, take_conditions(brain, range(8)), image_type=None)
    with pytest.raises(InputError, match="n_permutations must be 0 or more, not -1"):
        layer_matrix(network, brain, n_permutations=-1)
    with pytest.raises(InputError, match="unknown ROI 'V5'"):
        hierarchy_test(network, brain, ("V1", "V4", "V5"), image_type=None)
    with pytest.raises(InputError, match=r"2 region\(s\) \(V1, V4\); a hierarchy needs at least 3"):
        hierarchy_test(network, brain, ("V1", "V4"), image_type=None)
    with pytest.raises(InputError, match="no rdm_descriptors roi"):
        layer_matrix(
            network,
            label_rdms(
                brain.dissimilarities[:1],
                conditions=brain.pattern_descriptors["condition"],
                rdm_descriptors={"subject": ["S1"]},
                measure="x",
            ),
            image_type=None,
        )
    lacking = brain.subset("roi", ["V1", "V4"])
    joined = label_rdms(
        np.concatenate([lacking.dissimilarities, brain.dissimilarities[2:3]]),
        conditions=brain.pattern_descriptors["condition"],
        rdm_descriptors={
            "subject": [*lacking.rdm_descriptors["subject"], "S1"],
            "roi": [*lacking.rdm_descriptors["roi"], "LO"],
        },
        measure="test",
    )
    with pytest.raises(InputError, match="no RDM for S2 LO, S3 LO"):
        hierarchy_test(network, joined, image_type=None)


# ---------------------------------------------------------------------------------------- real data


@pytest.mark.data
@pytest.mark.slow
def test_golden_squeezenet_against_early_visual_and_inferotemporal_cortex(
    squeezenet_92, cichy_rdms
):
    activations, images = squeezenet_92
    network, brain = activation_rdms(activations, images, measure="pearson"), cichy_rdms
    table = layer_matrix(
        network, brain, image_type=None, n_resamples=0, n_permutations=10_000, seed=0
    )
    mean = table[table["subject"] == "mean"]
    print()
    for name in ("similarity", "p", "q"):
        print(mean.pivot(index="layer", columns="roi", values=name).round(4).to_string())
    ceilings = mean.groupby("roi")[["ceiling_low", "ceiling_high"]].first()
    print(ceilings.round(3).to_string())
    np.testing.assert_allclose(ceilings.loc["EVC"], [0.242, 0.392], atol=5e-4)
    np.testing.assert_allclose(ceilings.loc["IT"], [0.453, 0.542], atol=5e-4)
    assert set(mean["family"]) == {"18 tests of subject mean"}
    top = mean.loc[mean.groupby("roi")["similarity"].idxmax()].set_index("roi")
    np.testing.assert_allclose(top.loc[["EVC", "IT"], "similarity"], [0.205, 0.210], atol=0.01)
    assert (top["q"] < 0.001).all()
    assert (mean["above_ceiling"] == "").all()
    fitted = flexible_models(
        network, brain, image_type=None, folds=CrossValidation(n_repeats=5), n_resamples=20, seed=0
    )
    for table in (fitted.best_layer, fitted.models, fitted.differences):
        print(
            table[table["subject"] == "mean"]
            .drop(columns=["method", "kind", "subject"])
            .to_string()
        )
    best = fitted.best_layer[fitted.best_layer["subject"] == "mean"].set_index("roi")
    assert best.loc["IT", "layer"] == "features.12"
    assert (best["optimism"] > -0.05).all()
    assert (best["score"] > 0.1).all()
