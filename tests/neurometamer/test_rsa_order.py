"""The order of conditions in a file never matters: every table is the same after shuffling."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from fmri.patterns import Patterns
from neurometamer.rsa.bootstrap import bootstrap_comparison, dual_bootstrap
from neurometamer.rsa.compare import compare_rdms
from neurometamer.rsa.compute import label_rdms, pattern_rdms, take_conditions
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.image_types.nulls import session_labels
from neurometamer.rsa.layers.hierarchy import hierarchy_test
from neurometamer.rsa.layers.matrix import layer_matrix
from neurometamer.rsa.layers.weighted import CrossValidation, flexible_models
from neurometamer.rsa.searchlight.maps import run_searchlight
from neurometamer.rsa.searchlight.neighborhoods import Spheres
from neurometamer.rsa.searchlight.questions import (
    image_type_question,
    model_questions,
    reliability_question,
    run_responses,
)
from neurometamer.rsa.subsample import pattern_units
from neurometamer.stats.resampling import bootstrap_counts, permute_pairs

SEEDS = range(6)


def shuffled(rdms, random):
    return take_conditions(rdms, random.permutation(rdms.n_cond))


def some_rdms(random, n, **places):
    n_rdms = len(next(iter(places.values())))
    values = np.round(
        random.random((n_rdms, n * (n - 1) // 2)), int(random.integers(1, 9))
    )  # often with ties
    ids = [f"im{i:02d}" for i in range(n)]
    return label_rdms(values, conditions=ids, rdm_descriptors=places, measure="x")


def both_sides(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(8, 14))
    network = some_rdms(random, n, stage=["conv1", "conv2", "fc"])
    brain = some_rdms(random, n, subject=["S1"] * 3 + ["S2"] * 3, roi=["V1", "V4", "LO"] * 2)
    return random, network, brain


def same(table, other):
    """Draws are the same; sums come in another order."""
    assert_frame_equal(table, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("comparator", ["spearman", "pearson", "tau-a", "rho-a", "whitened-cosine"])
def test_comparisons_and_matrices(seed, comparator):
    random, network, brain = both_sides(seed)
    ids = [str(name) for name in network.pattern_descriptors["condition"]]
    blocks = {name: "ab"[i % 2] for i, name in enumerate(ids)}
    how = {
        "comparator": comparator,
        "n_resamples": 20,
        "n_permutations": 30,
        "blocks": blocks,
        "seed": seed,
    }
    tables = [
        [compare_rdms(a, b, **how), layer_matrix(a, b, **how)]
        for a, b in ((network, brain), (shuffled(network, random), shuffled(brain, random)))
    ]
    for table, other in zip(*tables):
        same(table, other)
    assert len(tables[0][0]) == 3 * 6 and tables[0][0]["similarity"].between(-1, 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_partial_comparisons(seed):
    random, network, brain = both_sides(seed)
    control = some_rdms(
        np.random.default_rng([seed, 1]), network.n_cond, control=["pixels", "gabor"]
    )
    how = {"n_resamples": 20, "n_permutations": 30}
    other = [shuffled(rdms, random) for rdms in (network, brain, control)]
    partial = compare_rdms(network, brain, controls=control, **how)
    same(partial, compare_rdms(*other[:2], controls=other[2], **how))
    plain = compare_rdms(network, brain, **how)
    assert (
        partial["similarity"] - plain["similarity"]
    ).abs().max() > 1e-3  # they take out something


@pytest.mark.parametrize("seed", SEEDS)
def test_flexible_models_and_hierarchies(seed):
    random, network, brain = both_sides(seed)
    other = shuffled(network, random), shuffled(brain, random)
    given, shuffled_result = (
        flexible_models(*sides, n_resamples=10, folds=CrossValidation(n_repeats=2), seed=seed)
        for sides in ((network, brain), other)
    )
    for name in ("best_layer", "models", "differences"):
        same(getattr(given, name), getattr(shuffled_result, name))
    same(hierarchy_test(network, brain), hierarchy_test(*other))
    assert set(given.best_layer["layer"]) <= {"conv1", "conv2", "fc"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("comparator", ["spearman", "tau-a", "whitened-pearson"])
def test_bootstraps_of_arrays_follow_their_images(seed, comparator):
    random = np.random.default_rng(seed)
    n = 8
    models, data = random.random((3, 28)), random.random((4, 28))
    counts, people = bootstrap_counts(n, 15, seed), bootstrap_counts(4, 15, seed)
    order = random.permutation(n)
    moved = [
        np.concatenate([permute_pairs(row, order[np.newaxis]) for row in side])
        for side in (models, data)
    ]
    samples = bootstrap_comparison(models, data, counts, comparator=comparator)
    two = bootstrap_comparison(*moved, counts[:, order], comparator=comparator)
    for side, other in zip(samples, two):
        np.testing.assert_allclose(side, other, atol=1e-10)
    np.testing.assert_allclose(
        dual_bootstrap(models, data, counts, people, comparator=comparator).variance,
        dual_bootstrap(*moved, counts[:, order], people, comparator=comparator).variance,
        atol=1e-10,
    )


def stimuli(n):
    names = [f"im{i:02d}" for i in range(n)]
    ids = [f"{kind}_{name}" for kind in ("RE", "AN", "AI") for name in names]
    kinds = [kind for kind in ("RE", "AN", "AI") for _ in names]
    return pd.DataFrame({"id": ids, "kind": kinds, "reference_id": names * 3})


def presentations(random, table, n_voxels, subject="S1"):
    """Each image in each of two runs; two sessions of half of the photographs."""
    shown = pd.concat(
        [table.assign(run=f"r{k}", presentation=k + 1) for k in range(2)], ignore_index=True
    )
    session = ["ab"[int(name[2:]) % 2] for name in shown["reference_id"]]
    observations = shown.rename(columns={"id": "condition"})[["condition", "run", "presentation"]]
    places = pd.DataFrame(
        {
            "subject": subject,
            "roi": "V1",
            "i": np.arange(n_voxels),
            "j": 0,
            "k": 0,
            "hemisphere": "left",
        }
    )
    values = random.standard_normal((len(shown), n_voxels)) + np.tile(
        random.standard_normal((len(table), n_voxels)), (2, 1)
    )
    return Patterns(values=values, observations=observations.assign(session=session), voxels=places)


def reordered(patterns, order):
    rows = patterns.observations.iloc[order].reset_index(drop=True)
    return Patterns(values=patterns.values[order], observations=rows, voxels=patterns.voxels)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("interval", ["projection", "stimuli", "subsample"])
def test_kinds_in_any_order_of_images_and_presentations(seed, interval):
    random, n = np.random.default_rng(seed), 6
    table = stimuli(n)
    subjects = {name: presentations(random, table, 12, name) for name in ("S1", "S2")}
    mixed = table.iloc[random.permutation(len(table))].reset_index(drop=True)
    others = {
        name: reordered(patterns, random.permutation(len(patterns)))
        for name, patterns in subjects.items()
    }
    tables = []
    for people, images in ((subjects, table), (others, mixed)):
        blocks = {name: session_labels(patterns, images) for name, patterns in people.items()}
        tables.append(
            compare_image_types(
                pattern_rdms(people, images),
                units=pattern_units(people, images),
                blocks=blocks,
                null="session",
                interval=interval,
                correction="max-t",
                n_resamples=20,
                n_permutations=30,
                seed=seed,
            )
        )
    same(*tables)
    assert set(tables[0]["subject"]) == {"S1", "S2", "mean"}
    assert np.isfinite(tables[0]["value"]).all() and tables[0]["n"].eq(n).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_searchlights_of_every_question(seed):
    random = np.random.default_rng(seed)
    near = Spheres(random.random((4, 4, 4)) < 0.8, np.eye(3 + 1), 1.6)
    table = stimuli(5)
    patterns = presentations(random, table, len(near))
    model = label_rdms(
        random.random((1, 105)),
        conditions=list(table["id"]),
        rdm_descriptors={"name": ["m"]},
        measure="x",
    )
    maps = []
    for held, images, wanted in (
        (patterns, table, model),
        (
            reordered(patterns, random.permutation(len(patterns))),
            table.iloc[random.permutation(len(table))].reset_index(drop=True),
            shuffled(model, random),
        ),
    ):
        conditions, means = held.means()
        runs = run_responses(held, held.values, noise="diag")
        questions = [
            (model_questions(conditions, means, wanted)[0], "spearman"),
            (image_type_question(conditions, means, images, ("RE", "AN")), "pearson"),
            (reliability_question(held, held.values), "spearman"),
            (model_questions(runs.names, runs, wanted)[0], "crossnobis"),
            (image_type_question(runs.names, runs, images, ("RE", "AI")), "crossnobis"),
        ]
        maps.append(
            [
                run_searchlight(question, near, measure=measure, n_permutations=20)
                for question, measure in questions
            ]
        )
    for given, other in zip(*maps):
        assert np.isfinite(given.values).any()
        np.testing.assert_allclose(given.values, other.values, atol=1e-10)
        np.testing.assert_array_equal(given.p, other.p)
        np.testing.assert_array_equal(given.p_family, other.p_family)
