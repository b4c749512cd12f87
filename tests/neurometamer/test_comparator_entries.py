"""A comparator that can only compare works everywhere; quick ways equal the general one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm import RDMs, compare

from neurometamer.errors import InputError
from neurometamer.rsa.bootstrap import bootstrap_comparison
from neurometamer.rsa.ceilings import noise_ceiling
from neurometamer.rsa.comparators.table import ALIASES, COMPARATORS, Comparator, comparator
from neurometamer.rsa.compare import compare_rdms
from neurometamer.rsa.compute import label_rdms, write_rdms
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.layers.hierarchy import hierarchy_test
from neurometamer.rsa.layers.matrix import layer_matrix
from neurometamer.rsa.layers.weighted import flexible_models
from neurometamer.rsa.permutation import permuted_comparison, prepared
from neurometamer.rsa.resamples import resampled
from neurometamer.stats.permutation import permutation_orders
from neurometamer.stats.resampling import bootstrap_counts
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
        models, conditions=NAMES, places={"stage": ["conv1", "fc"]}, measure="test"
    )
    places = {"subject": ["S1", "S2", "S3"] * 3, "roi": ["V1"] * 3 + ["V4"] * 3 + ["LO"] * 3}
    return network, label_rdms(data, conditions=NAMES, places=places, measure="test")


def image_types():
    _, data = sides(1, 7, 3 * N)
    subjects = [f"S{k}" for k in range(7)]
    kinds = ("RE", "AN", "AI")
    return label_rdms(
        data,
        conditions=[name if kind == "RE" else f"{name}_{kind}" for kind in kinds for name in NAMES],
        places={"system": ["brain"] * 7, "subject": subjects, "roi": ["V1"] * 7},
        measure="test",
        patterns={"kind": list(np.repeat(kinds, N)), "reference_id": NAMES * 3},
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
        values, expected = (ask(network, brain, by=by, **how) for by in (dummy, "pearson"))
        assert values["method"].str.startswith("dummy; 95% t interval").all()
        assert_same(values, expected)
    values, expected = (hierarchy_test(network, brain, by=by) for by in (dummy, "pearson"))
    assert_same(values, expected)
    fitted, known = (
        flexible_models(network, brain, by=by, n_resamples=10) for by in (dummy, "pearson")
    )
    assert_same(fitted.best_layer, known.best_layer)
    assert_same(fitted.models, known.models)


@pytest.mark.parametrize("interval", ["projection", "stimuli", "dual"])
def test_a_new_comparator_works_for_image_types(dummy, interval):
    rdms = image_types()
    values, expected = (
        compare_image_types(rdms, by=by, interval=interval, n_resamples=40, n_permutations=39)
        for by in (dummy, "pearson")
    )
    assert {"RE-AN", "RE-AI"} <= set(values["pair"])
    assert_same(values, expected)


def test_a_new_comparator_works_on_arrays(dummy):
    models, data = sides()
    counts = bootstrap_counts(N, 50, seed=1)
    for values, expected in zip(
        *(bootstrap_comparison(models, data, counts, by=by) for by in (dummy, "pearson"))
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
    for by in (dummy, "corr", "pearson"):
        table = tmp_path / f"{by}.csv"
        words = ["compare", *files, "--out", str(table), "--comparator", by, "--n-resamples", "0"]
        done = invoke(words)
        assert done.exception is None, done.output
        values[by] = pd.read_csv(table)
    assert values["corr"]["method"].tolist() == values["pearson"]["method"].tolist()
    assert values["corr"]["by"].tolist() == values["pearson"]["by"].tolist()
    for by in (dummy, "corr"):
        assert values[by]["similarity"].tolist() == values["pearson"]["similarity"].tolist()
    refused = invoke([*words[:-3], "kendall"])
    assert isinstance(refused.exception, InputError)


def test_a_study_takes_a_new_comparator_and_names_of_rsatoolbox(dummy):
    assert Rsa(comparator=dummy).comparator == dummy
    assert Rsa(comparator="corr").comparator == "pearson"
    with pytest.raises(ValueError, match=r"comparator 'kendall'.*tau-a"):
        Rsa(comparator="kendall")


@pytest.mark.parametrize("by", COMPARATORS)
@pytest.mark.parametrize("subjects", [False, True])
def test_quick_ways_equal_the_way_that_fits_all(by, subjects, monkeypatch):
    models, data = sides(2, 4)
    counts = bootstrap_counts(N, 60, seed=2)
    people = np.random.default_rng(3).integers(0, 3, (60, 4)) if subjects else None
    regions = [np.array([0, 1, 2]), np.array([3])]
    orders = permutation_orders(N, 20, seed=0)
    quick = resampled(models, data, counts, by, regions, people)
    moved = permuted_comparison(models, data, orders, by)
    monkeypatch.setitem(COMPARATORS, by, replace(COMPARATORS[by], prepare=None, resample=None))
    slow = resampled(models, data, counts, by, regions, people)
    np.testing.assert_allclose(quick.similarity, slow.similarity, atol=1e-12)
    np.testing.assert_allclose(quick.bounds, slow.bounds, atol=1e-12)
    np.testing.assert_allclose(moved, permuted_comparison(models, data, orders, by), atol=1e-12)
    assert np.isfinite(quick.bounds[:, :, :3]).any()


@pytest.mark.parametrize("theirs", [*ALIASES, "spearman", "cosine", "tau-a", "rho-a"])
def test_names_of_rsatoolbox_mean_what_they_mean_there(theirs):
    models, data = sides(n=8)
    np.testing.assert_allclose(
        comparator(theirs)(models, data), compare(RDMs(models), RDMs(data), theirs), atol=1e-6
    )


def test_the_name_of_tau_b_and_unknown_scales_are_refused():
    with pytest.raises(InputError, match="'kendall'"):  # rsatoolbox's kendall is tau-b
        comparator("kendall")
    with pytest.raises(InputError, match=r"scale 'ranks'.*rank-transformed"):
        Comparator(compute=COMPARATORS["pearson"].compute, help="", scale="ranks")
