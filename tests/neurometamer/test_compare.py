"""Comparators against rsatoolbox, the bootstrap against a loop, ceilings against real RDMs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rsatoolbox
from rsatoolbox.inference import boot_noise_ceiling

from neurometamer.errors import InputError
from neurometamer.rsa.comparators.table import COMPARATORS, noise_ceiling
from neurometamer.rsa.compare import compare_rdms
from neurometamer.rsa.compute import activation_rdms, label_rdms, select_image_type, take_conditions
from neurometamer.rsa.image_types.similarity import image_type_difference, image_type_similarity
from neurometamer.rsa.layers.matrix import layer_by_roi
from neurometamer.stats.resampling import bootstrap_counts, pair_weights, percentile_interval

# their names; their "kendall" is tau-b
RSATOOLBOX = {
    "spearman": "spearman",
    "pearson": "corr",
    "tau-a": "tau-a",
    "rho-a": "rho-a",
    "cosine": "cosine",
    "whitened-cosine": "cosine_cov",
    "whitened-pearson": "corr_cov",
}


def vectors(n_rdms: int, n: int, seed: int, ties: bool = True) -> np.ndarray:
    values = np.random.default_rng(seed).random((n_rdms, n * (n - 1) // 2)) + 0.2
    return np.round(values, 1) if ties else values


def brain_rdms(n=16, subjects=("S1", "S2", "S3"), rois=("V1", "LO"), seed=0):
    """Subjects share a part of their RDMs, all kinds in one; AI follows RE, AN does not."""
    rng = np.random.default_rng(seed)
    names = [f"im{i:02d}" for i in range(n)]
    places = {"subject": [s for s in subjects for _ in rois], "roi": list(rois) * len(subjects)}
    places["system"] = ["brain"] * len(places["roi"])
    shared = rng.random((len(rois), n, n))
    matrices = []
    for _ in subjects:
        for k in range(len(rois)):
            own = [shared[k] + 0.5 * rng.random((n, n)) for _ in range(2)]
            blocks = rng.random((3 * n, 3 * n))
            blocks[:n, :n], blocks[2 * n :, 2 * n :] = own
            matrix = blocks + blocks.T
            np.fill_diagonal(matrix, 0)
            matrices.append(matrix)
    kinds = [kind for kind in ("RE", "AN", "AI") for _ in names]
    return label_rdms(
        np.array(matrices),
        conditions=[
            name if kind == "RE" else f"{name}_{kind}" for kind, name in zip(kinds, names * 3)
        ],
        rdm_descriptors=places,
        pattern_descriptors={"kind": kinds, "reference_id": names * 3},
        measure="test",
    )


def network_rdms(brain, n_layers=3):
    """The first layer is what the subjects share in V1; the others are noise."""
    rng = np.random.default_rng(9)
    noise = rng.random((n_layers - 1, brain.dissimilarities.shape[1]))
    v1 = np.array(brain.rdm_descriptors["roi"]) == "V1"
    return label_rdms(
        np.concatenate([brain.dissimilarities[v1].mean(axis=0, keepdims=True), noise]),
        conditions=brain.pattern_descriptors["condition"],
        rdm_descriptors={
            "stage": [f"layer{i}" for i in range(n_layers)],
            "system": ["network"] * n_layers,
        },
        pattern_descriptors={
            name: brain.pattern_descriptors[name] for name in ("kind", "reference_id")
        },
        measure="test",
    )


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_comparators_equal_rsatoolbox(comparator):
    a, b = vectors(3, 12, 0), vectors(4, 12, 1)
    theirs = rsatoolbox.rdm.compare(
        rsatoolbox.rdm.RDMs(a), rsatoolbox.rdm.RDMs(b), method=RSATOOLBOX[comparator]
    )
    # the same formulas in float64: rounding only
    np.testing.assert_allclose(COMPARATORS[comparator](a, b), theirs, atol=1e-10)


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_weights_are_copies_and_same_image_pairs_are_dropped(comparator):
    n = 7
    a, b = vectors(2, n, 2), vectors(3, n, 3)
    counts = bootstrap_counts(n, 20, seed=1)
    ours = COMPARATORS[comparator](a, b, pair_weights(counts))
    theirs = [np.array(rsatoolbox.rdm.RDMs(side).get_matrices()) for side in (a, b)]
    for row, result in zip(counts, ours):
        drawn = np.repeat(np.arange(n), row)
        first, second = np.triu_indices(n, 1)
        keep = drawn[first] != drawn[second]
        long = [matrices[:, drawn[first[keep]], drawn[second[keep]]] for matrices in theirs]
        if not comparator.startswith("whitened"):  # these need to know which pairs share an image
            np.testing.assert_allclose(result, COMPARATORS[comparator](*long), atol=1e-12)
    sample = counts[0]  # and rsatoolbox's own treatment of one resample
    index = np.repeat(np.arange(n), sample)
    resampled = [rsatoolbox.rdm.RDMs(side).subsample_pattern("index", index) for side in (a, b)]
    np.testing.assert_allclose(
        ours[0], rsatoolbox.rdm.compare(*resampled, method=RSATOOLBOX[comparator]), atol=1e-10
    )


def test_intervals_do_not_depend_on_the_order_of_stimuli_and_cover_the_value():
    brain = brain_rdms()
    network = network_rdms(brain)
    order = np.random.default_rng(3).permutation(brain.n_cond)
    table = compare_rdms(network, brain, image_type="RE", n_resamples=200, seed=4)
    other = compare_rdms(
        take_conditions(network, order), brain, image_type="RE", n_resamples=200, seed=4
    )
    pd.testing.assert_frame_equal(table, other)
    assert not table.equals(compare_rdms(network, brain, image_type="RE", n_resamples=200, seed=5))
    assert (
        (table["ci_low"] < table["similarity"]) & (table["similarity"] < table["ci_high"])
    ).all()
    assert table["method"][0] == (
        "spearman; 95% t interval (15 dof), jackknife over 16 photographs, taken for independent "
        "draws (no classes are "
        "known), noise of pairs corrected"
    )
    few = compare_rdms(
        *(take_conditions(rdms, range(8)) for rdms in (network, network)),
        n_resamples=5,
        image_type="all",
    )
    assert few["method"][0].endswith("intervals from fewer than 10 were not simulated")
    wide = compare_rdms(
        network, brain, image_type="RE", n_resamples=20, comparator="whitened-cosine"
    )
    assert "too wide: it counts the noise of pairs twice" in wide["method"][0]
    assert {"a_stage", "b_subject", "b_roi", "n"} <= set(table)


def test_a_longer_bootstrap_is_cut_into_blocks_of_the_same_result(monkeypatch):
    a, b = vectors(3, 10, 0), vectors(2, 10, 1)
    weights = pair_weights(bootstrap_counts(10, 50, seed=0))
    at_once = COMPARATORS["spearman"](a, b, weights)
    monkeypatch.setattr("neurometamer.rsa.comparators.ranks.BLOCK", 45 * 5 * 7)
    assert np.array_equal(COMPARATORS["spearman"](a, b, weights), at_once)


def test_kind_similarity_compares_within_kind_rdms_and_the_difference_is_paired():
    brain = brain_rdms()
    table = image_type_similarity(brain, n_resamples=300, seed=2)
    assert list(table.columns) == [
        "system",
        "subject",
        "representation",
        "pair",
        "similarity",
        "ci_low",
        "ci_high",
        "method",
        "n",
    ]
    re, ai = select_image_type(brain, "RE"), select_image_type(brain, "AI")
    first = table[
        (table["subject"] == "S2") & (table["representation"] == "LO") & (table["pair"] == "RE-AI")
    ].iloc[0]
    expected = rsatoolbox.rdm.compare(re[3], ai[3], method="spearman")[0, 0]
    assert first["similarity"] == pytest.approx(expected, abs=1e-12)
    assert (table.loc[table["pair"] == "RE-AI", "ci_low"] > 0).all()
    difference = image_type_difference(brain, n_resamples=300, seed=2)
    wide = table.pivot_table(
        index=["subject", "representation"], columns="pair", values="similarity", sort=False
    )
    np.testing.assert_allclose(difference["difference"], (wide["RE-AI"] - wide["RE-AN"]).to_numpy())
    assert (difference["ci_low"] > 0).all()
    assert set(difference["pair"]) == {"RE-AI minus RE-AN"}


def test_photographs_without_counterpart_are_named():
    brain = brain_rdms(n=6)
    lacking = take_conditions(brain, [i for i in range(brain.n_cond) if i != 6])  # im00_AN
    with pytest.raises(InputError, match="missing from the second RDMs: im00"):
        image_type_similarity(lacking)
    table = image_type_similarity(lacking, join="inner", n_resamples=20)
    assert table.groupby("pair")["n"].first().to_dict() == {"RE-AN": 5, "RE-AI": 6}
    assert "left out: im00" in table[table["pair"] == "RE-AN"]["method"].iloc[0]
    assert set(image_type_difference(lacking, join="inner", n_resamples=20)["n"]) == {5}


def test_resamples_of_too_few_images_are_left_out_and_counted():
    brain = brain_rdms(n=4)
    table = image_type_similarity(brain, n_resamples=400, seed=0)
    assert "resamples of fewer than 3 images left out" in table["method"][0]
    assert np.isfinite(table[["ci_low", "ci_high"]]).all(axis=None)
    low, high = percentile_interval(np.array([[np.nan, np.nan], [1.0, np.nan]]))
    assert low[0] == high[0] == 1
    assert np.isnan([low[1], high[1]]).all()


def test_layer_by_roi_finds_the_layer_and_reports_each_subject_and_the_mean():
    brain = brain_rdms()
    network = network_rdms(brain)
    table = layer_by_roi(network, brain, image_type="RE", n_resamples=200)
    assert list(table.columns) == [
        "kind",
        "subject",
        "roi",
        "layer",
        "similarity",
        "ci_low",
        "ci_high",
        "ceiling_low",
        "ceiling_high",
        "ceiling",
        "method",
        "n",
    ]
    assert len(table) == 3 * 2 * 4
    rows = table.set_index(["roi", "subject", "layer"]).sort_index()
    mean = rows.loc[("V1", "mean")]
    assert mean["similarity"].idxmax() == "layer0"
    assert mean.loc["layer0", "ci_low"] > 0
    per_subject = [rows.loc[("V1", s, "layer0"), "similarity"] for s in ("S1", "S2", "S3")]
    assert mean.loc["layer0", "similarity"] == pytest.approx(np.mean(per_subject))
    v1 = select_image_type(brain, "RE").subset("roi", "V1")
    low, high = boot_noise_ceiling(v1, method="spearman")
    assert mean["ceiling_low"].iloc[0] == pytest.approx(low, abs=1e-12)
    assert mean["ceiling_high"].iloc[0] == pytest.approx(high, abs=1e-12)
    alone = layer_by_roi(network, brain.subset("subject", "S1"), image_type="RE", n_resamples=0)
    assert alone[["ceiling_low", "ceiling_high", "ci_low"]].isna().all(axis=None)
    assert alone["ceiling"].str.contains("undefined").all()


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau based on averaged ranks:UserWarning")
@pytest.mark.parametrize("comparator", COMPARATORS)
def test_noise_ceiling_equals_rsatoolbox(comparator):
    rdms = select_image_type(brain_rdms(subjects=("a", "b", "c", "d"), rois=("V1",)), "RE")
    np.testing.assert_allclose(
        noise_ceiling(rdms, comparator),
        boot_noise_ceiling(rdms, method=RSATOOLBOX[comparator]),
        atol=1e-12,
    )


def test_bad_requests_are_answered():
    brain = brain_rdms(n=5)
    network = network_rdms(brain)
    with pytest.raises(InputError, match="unknown comparison 'spearmn'; did you mean 'spearman'"):
        compare_rdms(network, brain, comparator="spearmn")
    with pytest.raises(InputError, match="more than one RDM for S1 V1"):
        layer_by_roi(network, rsatoolbox.rdm.concat(brain, brain), image_type="all")
    with pytest.raises(InputError, match="no rdm_descriptors stage"):
        layer_by_roi(brain, brain, image_type="RE")
    flat = take_conditions(network, range(network.n_cond))
    flat.dissimilarities[1] = 1
    with pytest.raises(InputError, match="all dissimilarities are equal in layer1"):
        compare_rdms(flat, brain, image_type="all")
    with pytest.raises(InputError, match="confidence must lie between"):
        image_type_similarity(brain, confidence=95, n_resamples=10)


# ---------------------------------------------------------------------------------------- real data


@pytest.mark.data
def test_ceilings_of_92_images(cichy_rdms):
    for roi, scaled, raw in (
        ("EVC", (0.242, 0.392), (0.239, 0.386)),
        ("IT", (0.453, 0.542), (0.449, 0.535)),
    ):
        rdms = cichy_rdms.subset("roi", roi)
        np.testing.assert_allclose(noise_ceiling(rdms), scaled, atol=5e-4)
        np.testing.assert_allclose(
            noise_ceiling(rdms, pool="raw"), raw, atol=5e-4
        )  # as published with the data


@pytest.mark.data
@pytest.mark.slow
def test_squeezenet_against_early_visual_and_inferotemporal_cortex(squeezenet_92, cichy_rdms):
    activations, images = squeezenet_92
    best = {}
    for measure in ("spearman", "pearson"):
        rdms = activation_rdms(activations, images, measure=measure)
        shuffled = take_conditions(
            rdms, np.random.default_rng(0).permutation(92)
        )  # joined by id, not by position
        table = layer_by_roi(shuffled, cichy_rdms, image_type=None, n_resamples=100)
        assert len(table) == 9 * 2 * 16
        assert table["n"].eq(92).all()
        mean = table[table["subject"] == "mean"]
        best[measure] = mean.loc[mean.groupby("roi")["similarity"].idxmax()].set_index("roi")
        assert best[measure].loc["IT", "ci_low"] > 0
        assert (best[measure]["similarity"] < best[measure]["ceiling_low"]).all()
        assert best[measure].loc["IT", "layer"] == "features.12"
    assert best["pearson"].loc["EVC", "ci_low"] > 0
    # objects on a uniform ground: most units answer to the ground alone, whose ranks drown the
    # object
    np.testing.assert_allclose(
        best["pearson"].loc[["EVC", "IT"], "similarity"], [0.205, 0.210], atol=0.01
    )
    np.testing.assert_allclose(
        best["spearman"].loc[["EVC", "IT"], "similarity"], [0.049, 0.128], atol=0.01
    )
    assert best["pearson"].loc["EVC", "layer"] == "features.5"


def test_progress_comes_while_stimuli_are_resampled_and_says_how_long_it_takes(monkeypatch):
    from io import StringIO

    from rich.console import Console

    from neurometamer.cli import console

    brain = brain_rdms()
    heard = []
    monkeypatch.setattr("neurometamer.rsa.comparators.ranks.BLOCK", 1)  # a resample at a time
    table = layer_by_roi(
        network_rdms(brain),
        brain,
        image_type="RE",
        n_resamples=3,
        progress=lambda *at: heard.append(at),
    )
    assert heard == [
        (done, 19) for done in range(20)
    ]  # without each of 16 photographs, and 3 draws of pairs
    monkeypatch.undo()
    pd.testing.assert_frame_equal(
        table, layer_by_roi(network_rdms(brain), brain, image_type="RE", n_resamples=3)
    )
    out = StringIO()
    monkeypatch.setattr(console, "TRIAL_S", 0.0)
    monkeypatch.setattr(console, "LONG_S", 0.0)
    reporter = console.ConsoleReporter(Console(file=out, width=200))
    reporter.start(1, 1, "compare")
    for done in range(6):  # told after three units beside the first, or a tenth
        reporter.advance(done, 1000)
    for done in range(5):  # another part, whose time is estimated afresh
        reporter.advance(done, 15)
    text = out.getvalue()
    assert text.count("to go") == 2
    assert "996 of 1000 left" in text and "12 of 15 left" in text
