"""A comparator that can only compare, and a new measure, work everywhere.

Quick ways equal the general one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm import RDMs, compare

from fmri.patterns import Patterns
from neurometamer.activations import Activations
from neurometamer.errors import InputError
from neurometamer.rsa.bootstrap import bootstrap_comparison, dual_bootstrap, resampled
from neurometamer.rsa.comparators.table import (
    ALIASES,
    COMPARATORS,
    Comparator,
    find_comparator,
    noise_ceiling,
    permuted_comparison,
    prepared,
)
from neurometamer.rsa.compare import ComparisonOptions, compare_rdms
from neurometamer.rsa.compute import compute_rdm, compute_rdms, label_rdms, read_rdms, write_rdms
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.layers.hierarchy import hierarchy_test
from neurometamer.rsa.layers.matrix import layer_matrix
from neurometamer.rsa.layers.weighted import flexible_models
from neurometamer.rsa.measures import MEASURES, Measure, find_measure
from neurometamer.rsa.subsample import UnitValues, paired_scores, subsample_rdms
from neurometamer.stats.resampling import bootstrap_counts, permutation_orders
from neurometamer.study.settings import Rsa

N = 12
NAMES = [f"im{i:02d}" for i in range(N)]


@pytest.fixture
def dummy(monkeypatch):
    """An entry that knows no more than how to compare and how RDMs are averaged."""
    entry = Comparator(
        compute=COMPARATORS["pearson"].compute, help="Pearson again", scale="z-scored"
    )
    monkeypatch.setitem(COMPARATORS, "dummy", entry)
    return "dummy"


def sides(n_models=2, n_data=3, n=N):
    rng = np.random.default_rng(0)
    models = rng.random((n_models, n * (n - 1) // 2))
    data = rng.random((n_data, models.shape[1])).round(1) + models[0].round(1)
    return models, data


def network_and_brain():
    models, data = sides(2, 9)
    network = label_rdms(
        models, conditions=NAMES, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    )
    places = {"subject": ["S1", "S2", "S3"] * 3, "roi": ["V1"] * 3 + ["V4"] * 3 + ["LO"] * 3}
    return network, label_rdms(data, conditions=NAMES, rdm_descriptors=places, measure="test")


def image_types():
    _, data = sides(1, 7, 3 * N)
    subjects = [f"S{k}" for k in range(7)]
    kinds = ("RE", "AN", "AI")
    return label_rdms(
        data,
        conditions=[name if kind == "RE" else f"{name}_{kind}" for kind in kinds for name in NAMES],
        rdm_descriptors={"system": ["brain"] * 7, "subject": subjects, "roi": ["V1"] * 7},
        measure="test",
        pattern_descriptors={"kind": list(np.repeat(kinds, N)), "reference_id": NAMES * 3},
    )


def assert_same(values: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Numbers are equal, and texts up to the name of the comparator."""
    pd.testing.assert_frame_equal(
        values.replace("dummy", "pearson", regex=True), expected, rtol=0, atol=1e-12
    )


def test_a_new_comparator_works_in_every_table(dummy):
    network, brain = network_and_brain()
    how = {"n_resamples": 40, "n_permutations": 39}
    for ask in (compare_rdms, layer_matrix):
        values, expected = (
            ask(network, brain, comparator=comparator, **how) for comparator in (dummy, "pearson")
        )
        assert values["method"].str.startswith("dummy; 95% t interval").all()
        assert_same(values, expected)
    values, expected = (
        hierarchy_test(network, brain, comparator=comparator) for comparator in (dummy, "pearson")
    )
    assert_same(values, expected)
    fitted, known = (
        flexible_models(network, brain, comparator=comparator, n_resamples=10)
        for comparator in (dummy, "pearson")
    )
    assert_same(fitted.best_layer, known.best_layer)
    assert_same(fitted.models, known.models)


@pytest.mark.parametrize("interval", ["projection", "stimuli", "dual"])
def test_a_new_comparator_works_for_image_types(dummy, interval):
    rdms = image_types()
    values, expected = (
        compare_image_types(
            rdms, comparator=comparator, interval=interval, n_resamples=40, n_permutations=39
        )
        for comparator in (dummy, "pearson")
    )
    assert {"RE-AN", "RE-AI"} <= set(values["pair"])
    assert_same(values, expected)


def test_a_new_comparator_works_on_arrays(dummy):
    models, data = sides()
    counts = bootstrap_counts(N, 50, seed=1)
    for values, expected in zip(
        *(
            bootstrap_comparison(models, data, counts, comparator=comparator)
            for comparator in (dummy, "pearson")
        )
    ):
        np.testing.assert_allclose(values, expected, atol=1e-12)
    rdms = network_and_brain()[1].subset("roi", "V1")
    np.testing.assert_allclose(
        noise_ceiling(rdms, dummy), noise_ceiling(rdms, "pearson"), atol=1e-12
    )
    orders = permutation_orders(N, 20, seed=0)
    np.testing.assert_allclose(
        permuted_comparison(models, data, orders, dummy),
        permuted_comparison(models, data, orders, "pearson"),
        atol=1e-12,
    )
    with pytest.raises(InputError, match=r"'dummy'.*spearman, pearson, rho-a, cosine"):
        prepared(models, dummy)


def test_the_command_line_takes_a_new_comparator_and_names_of_rsatoolbox(dummy, tmp_path, invoke):
    network, brain = network_and_brain()
    files = [str(write_rdms(rdms, tmp_path / f"{i}.h5")) for i, rdms in enumerate((network, brain))]
    values = {}
    for comparator in (dummy, "corr", "pearson"):
        table = tmp_path / f"{comparator}.csv"
        words = [
            "compare",
            *files,
            "--out",
            str(table),
            "--comparator",
            comparator,
            "--n-resamples",
            "0",
        ]
        done = invoke(words)
        assert done.exception is None, done.output
        values[comparator] = pd.read_csv(table)
    assert values["corr"]["method"].tolist() == values["pearson"]["method"].tolist()
    assert values["corr"]["comparator"].tolist() == values["pearson"]["comparator"].tolist()
    for comparator in (dummy, "corr"):
        assert values[comparator]["similarity"].tolist() == values["pearson"]["similarity"].tolist()
    refused = invoke([*words[:-3], "kendall"])
    assert isinstance(refused.exception, InputError)


def test_a_study_takes_a_new_comparator_and_names_of_rsatoolbox(dummy):
    assert Rsa(comparator=dummy).comparator == dummy
    assert Rsa(comparator="corr").comparator == "pearson"
    with pytest.raises(ValueError, match=r"comparator 'kendall'.*tau-a"):
        Rsa(comparator="kendall")


@pytest.mark.parametrize("comparator", COMPARATORS)
@pytest.mark.parametrize("subjects", [False, True])
def test_quick_ways_equal_the_way_that_fits_all(comparator, subjects, monkeypatch):
    models, data = sides(2, 4)
    counts = bootstrap_counts(N, 60, seed=2)
    people = np.random.default_rng(3).integers(0, 3, (60, 4)) if subjects else None
    regions = [np.array([0, 1, 2]), np.array([3])]
    orders = permutation_orders(N, 20, seed=0)
    quick = resampled(models, data, counts, comparator, regions, people)
    moved = permuted_comparison(models, data, orders, comparator)
    monkeypatch.setitem(
        COMPARATORS, comparator, replace(COMPARATORS[comparator], prepare=None, resample=None)
    )
    slow = resampled(models, data, counts, comparator, regions, people)
    np.testing.assert_allclose(quick.similarity, slow.similarity, atol=1e-12)
    np.testing.assert_allclose(quick.bounds, slow.bounds, atol=1e-12)
    np.testing.assert_allclose(
        moved, permuted_comparison(models, data, orders, comparator), atol=1e-12
    )
    assert np.isfinite(quick.bounds[:, :, :3]).any()


@pytest.mark.parametrize("theirs", [*ALIASES, "spearman", "cosine", "tau-a", "rho-a"])
def test_names_of_rsatoolbox_mean_what_they_mean_there(theirs):
    models, data = sides(n=8)
    np.testing.assert_allclose(
        find_comparator(theirs)(models, data), compare(RDMs(models), RDMs(data), theirs), atol=1e-6
    )


def test_the_name_of_tau_b_and_unknown_scales_are_refused():
    with pytest.raises(InputError, match="'kendall'"):  # rsatoolbox's kendall is tau-b
        find_comparator("kendall")
    with pytest.raises(InputError, match=r"scale 'ranks'.*rank-transformed"):
        Comparator(compute=COMPARATORS["pearson"].compute, help="", scale="ranks")


# ------------------------------------------------------- a new comparator where only one can answer


def test_a_new_comparator_works_in_the_bootstrap_of_subjects_and_images(dummy):
    models, data = sides()
    counts, people = bootstrap_counts(N, 40, seed=1), bootstrap_counts(3, 40, seed=2)
    values, expected = (
        dual_bootstrap(models, data, counts, people, comparator=comparator)
        for comparator in (dummy, "pearson")
    )
    np.testing.assert_allclose(values.similarity, expected.similarity, atol=1e-12)
    np.testing.assert_allclose(values.variance, expected.variance, atol=1e-12)


def test_a_new_comparator_works_in_subsamples_of_units(dummy):
    models, data = sides(3, 3)
    np.testing.assert_allclose(
        paired_scores(dummy, models, data), paired_scores("pearson", models, data), atol=1e-12
    )
    rdms = image_types().subset("subject", ["S0"])
    ids = tuple(rdms.pattern_descriptors["condition"])
    values = np.random.default_rng(0).random((len(ids), 30))
    rdms.dissimilarities[:] = compute_rdm(values, "pearson")
    rdms.dissimilarity_measure = "1 - Pearson"
    how = {"interval": "subsample", "n_resamples": 20, "n_permutations": 19}
    tables = []
    for comparator in (dummy, "pearson"):
        units = [UnitValues("brain", "S0", "V1", ids, values)]
        tables.append(compare_image_types(rdms, comparator=comparator, units=units, **how))
    assert_same(*tables)


def test_partial_correlation_says_which_comparator_it_needs(dummy):
    network, brain = network_and_brain()
    with pytest.raises(InputError, match=r"comparator='spearman'.*not for comparator='dummy'"):
        compare_rdms(network, brain, comparator=dummy, controls=network)


def test_options_of_a_comparison_may_come_together_or_one_by_one(dummy):
    network, brain = network_and_brain()
    options = ComparisonOptions(n_resamples=20, seed=3)
    together = compare_rdms(network, brain, comparator=dummy, options=options)
    single = compare_rdms(network, brain, comparator=dummy, n_resamples=20, seed=3)
    pd.testing.assert_frame_equal(together, single)
    on_top = compare_rdms(network, brain, comparator=dummy, options=options, n_resamples=0)
    assert on_top["ci_low"].isna().all()
    with pytest.raises(InputError, match="did you mean 'n_resamples'"):
        compare_rdms(network, brain, n_resample=20)
    with pytest.raises(InputError, match="n_permutations must be 0 or more, not -1"):
        compare_rdms(network, brain, n_permutations=-1)
    with pytest.raises(InputError, match="n_resamples is of the wrong type"):
        compare_rdms(network, brain, n_resamples="many")


def test_ids_may_stand_under_another_descriptor():
    network, brain = network_and_brain()
    foreign = RDMs(
        network.dissimilarities,
        pattern_descriptors={"image": NAMES, "representation": list(range(N))},
        rdm_descriptors={"stage": ["conv1", "fc"]},
    )
    expected = compare_rdms(network, brain, n_resamples=0)
    values = compare_rdms(foreign, brain, descriptor="image", n_resamples=0)
    pd.testing.assert_frame_equal(values, expected)
    assert "condition" not in foreign.pattern_descriptors
    with pytest.raises(
        InputError, match=r"descriptor of the RDMs 'imgae'.*'image'.*representation"
    ):
        compare_rdms(foreign, brain, descriptor="imgae")
    with pytest.raises(InputError, match=r"no stimulus ids.*image"):
        compare_rdms(foreign, brain)


def test_ids_of_one_side_are_a_list():
    network, brain = network_and_brain()
    part = network.subset_pattern("condition", NAMES[2:])
    table = compare_rdms(part, brain, join="inner", n_resamples=0)
    assert table["left_out"].tolist() == [["im00", "im01"]] * len(table)
    assert "left_out" not in compare_rdms(network, brain, n_resamples=0)


# ------------------------------------------------------------------------------------ a new measure


@pytest.fixture
def city_block(monkeypatch):
    """An entry that knows no more than how to compute."""

    def compute(values, ranges):
        first, second = np.triu_indices(values.shape[0], 1)
        return np.abs(values[:][first] - values[:][second]).sum(axis=1).astype(float)

    entry = Measure(label="city block", about="sum of differences", compute=compute)
    monkeypatch.setitem(MEASURES, "dummy", entry)
    return "dummy"


def test_a_new_measure_works_wherever_rdms_are_computed(city_block, tmp_path):
    values = np.random.default_rng(0).random((6, 5)).astype(np.float32)
    ids = list("abcdef")
    expected = compute_rdm(values, city_block)
    np.testing.assert_allclose(expected[0], np.abs(values[0] - values[1]).sum(), rtol=1e-6)
    activations = Activations(
        ids=tuple(ids), stages=("conv1",), n_units={"conv1": 5}, arrays={"conv1": values}
    )
    shown = {"condition": ids, "presentation": 1, "run": "1", "session": ""}
    patterns = Patterns(
        values=values.astype(float),
        observations=pd.DataFrame(shown),
        voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(5), "j": 0, "k": 0}),
    )
    for responses in (values, activations, {"S1": patterns}):
        rdms = compute_rdms(responses, measure=city_block, ids=ids)
        assert rdms.dissimilarity_measure == "city block"
        np.testing.assert_allclose(rdms.dissimilarities[0], expected, rtol=1e-6)
    file = write_rdms(rdms, tmp_path / "rdms.h5")
    assert read_rdms(file).dissimilarity_measure == "city block"
    np.save(tmp_path / "rdm.npy", expected)
    again = read_rdms(tmp_path / "rdm.npy", ids=ids, measure=city_block)
    assert again.dissimilarity_measure == "city block"


def test_a_measure_that_a_part_of_the_units_lacks_is_refused_by_name(city_block):
    units = UnitValues("brain", "S1", "V1", tuple("abcdef"), np.eye(6))
    with pytest.raises(
        InputError, match=r"RDM measure of the subsample 'dummy'.*spearman, pearson"
    ):
        subsample_rdms(units, 2, seed=0, measure=city_block)


def test_names_of_rsatoolbox_are_names_of_measures(monkeypatch, tmp_path):
    for name in ("correlation", "mahalanobis", "crossnobis", "poisson"):
        assert find_measure(name).rsatoolbox == name
    values = np.random.default_rng(0).random((5, 8))
    np.testing.assert_array_equal(
        compute_rdm(values, "correlation"), compute_rdm(values, "pearson")
    )
    np.save(tmp_path / "rdm.npy", compute_rdm(values, "pearson"))
    rdms = read_rdms(tmp_path / "rdm.npy", ids=list("abcde"), measure="correlation")
    assert rdms.dissimilarity_measure == "1 - Pearson"
    entry = replace(MEASURES["euclidean"], rsatoolbox="theirs")
    monkeypatch.setitem(MEASURES, "ours", entry)
    assert find_measure("theirs") is entry


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"undefined": "odd"}, "unknown range of a measure 'odd'.*constant, zero, negative"),
        ({"needs": "time"}, "unknown need of a measure 'time'"),
        ({}, "has no compute"),
    ],
)
def test_measures_that_cannot_work_are_refused_when_they_are_made(fields, message):
    with pytest.raises(InputError, match=message):
        Measure(label="odd", about="", **fields)
