"""Searchlights: neighborhoods by brute force, RDMs against rsatoolbox, planted blobs, files."""

from __future__ import annotations

import contextlib
import io
import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.util import searchlight as peer
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr

from fmri import (
    Patterns,
    estimate_betas,
    read_mesh,
    read_runs,
    write_patterns,
    write_surface_map,
    write_volume_map,
)
from neurometamer import commands
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.rsa.compute import compute_rdm, label_rdms, write_rdms
from neurometamer.rsa.noise import crossnobis_rdm, estimate_noise, residuals_of
from neurometamer.rsa.searchlight import maps as module
from neurometamer.rsa.searchlight.maps import run_searchlight, searchlight_rdms
from neurometamer.rsa.searchlight.neighborhoods import Disks, Spheres
from neurometamer.rsa.searchlight.questions import (
    Question,
    image_type_question,
    model_questions,
    reliability_question,
    run_responses,
)
from neurometamer.store import read_table

OBLIQUE = np.array([[2.0, 0.3, 0, -20], [-0.2, 2.5, 0.1, 5], [0.1, 0, 3.0, 7], [0, 0, 0, 1]])


def some_mask(shape=(7, 6, 5), seed=0):
    return np.random.default_rng(seed).random(shape) < 0.7


def icosphere(divisions=3, radius=20.0):
    """A ball of triangles: 12 vertices of an icosahedron, edges halved again and again."""
    g = (1 + 5**0.5) / 2
    points = [
        (-1, g, 0),
        (1, g, 0),
        (-1, -g, 0),
        (1, -g, 0),
        (0, -1, g),
        (0, 1, g),
        (0, -1, -g),
        (0, 1, -g),
        (g, 0, -1),
        (g, 0, 1),
        (-g, 0, -1),
        (-g, 0, 1),
    ]
    faces = [
        (0, 11, 5),
        (0, 5, 1),
        (0, 1, 7),
        (0, 7, 10),
        (0, 10, 11),
        (1, 5, 9),
        (5, 11, 4),
        (11, 10, 2),
        (10, 7, 6),
        (7, 1, 8),
        (3, 9, 4),
        (3, 4, 2),
        (3, 2, 6),
        (3, 6, 8),
        (3, 8, 9),
        (4, 9, 5),
        (2, 4, 11),
        (6, 2, 10),
        (8, 6, 7),
        (9, 8, 1),
    ]
    points = [np.array(p) / np.linalg.norm(p) for p in points]
    for _ in range(divisions):
        middle, finer = {}, []
        for a, b, c in faces:
            mids = []
            for one, other in ((a, b), (b, c), (c, a)):
                key = (min(one, other), max(one, other))
                if key not in middle:
                    middle[key] = len(points)
                    between = points[one] + points[other]
                    points.append(between / np.linalg.norm(between))
                mids.append(middle[key])
            ab, bc, ca = mids
            finer += [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = finer
    return np.array(points) * radius, np.array(faces)


def as_sets(block):
    return [set(row[row >= 0].tolist()) for row in block]


# ------------------------------------------------------------------------------------ neighborhoods


@pytest.mark.parametrize("affine", [np.diag([3.0, 3, 3, 1]), np.diag([-2.0, 2, 4, 1]), OBLIQUE])
@pytest.mark.parametrize("radius", [1.0, 3.0, 6.0, 40.0])
def test_spheres_are_all_voxels_within_the_radius_in_mm(affine, radius):
    mask = some_mask()
    near = Spheres(mask, affine, radius)
    world = nibabel.affines.apply_affine(affine, np.argwhere(mask))
    expected = [set(np.flatnonzero(row <= radius + 1e-9).tolist()) for row in cdist(world, world)]
    assert as_sets(near.block(np.arange(len(near)))) == expected
    assert as_sets(near.block(np.array([3]))) == expected[3:4]


@pytest.mark.parametrize("radius", [0.5, 4.0, 9.0])
def test_disks_are_all_vertices_within_the_shortest_path(radius):
    points, triangles = icosphere(2)
    points = points * np.random.default_rng(0).uniform(0.9, 1.1, (len(points), 1))
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    lengths = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    graph = coo_matrix((lengths, pairs.T), shape=(len(points),) * 2).tocsr()
    graph = graph.maximum(graph.T)
    paths = dijkstra(graph, directed=False)
    expected = [set(np.flatnonzero(row <= radius).tolist()) for row in paths]
    near = Disks(points, triangles, radius)
    assert as_sets(near.block(np.arange(len(points)))) == expected
    assert as_sets(near.block(np.array([5, 2]))) == [expected[5], expected[2]]


def test_meshes_and_masks_that_make_no_sense_are_refused():
    points, triangles = icosphere(1)
    with pytest.raises(InputError, match="vertices that belong to no triangle: 42, 43"):
        Disks(np.concatenate([points, np.zeros((2, 3))]), triangles, 3)
    with pytest.raises(InputError, match="triangles name vertices 41, but there are 41"):
        Disks(points[:41], triangles, 3)
    broken = points.copy()
    broken[7] = np.nan
    with pytest.raises(InputError, match="vertices without finite coordinates: 7"):
        Disks(broken, triangles, 3)
    with pytest.raises(InputError, match="the radius is -1 mm"):
        Disks(points, triangles, -1)
    with pytest.raises(InputError, match="with 0 voxels"):
        Spheres(np.zeros((2, 2, 2), dtype=bool), np.eye(4), 3)
    with pytest.raises(InputError, match="maps voxels onto a plane"):
        Spheres(np.ones((2, 2, 2), dtype=bool), np.diag([1, 1, 0, 1]), 3)


# --------------------------------------------------------------------------------------------- RDMs


@pytest.mark.parametrize("measure", ["spearman", "pearson", "correlation"])
def test_each_rdm_is_that_of_its_neighbors(measure):
    mask = some_mask()
    near = Spheres(mask, OBLIQUE, 4.5)
    responses = np.round(np.random.default_rng(1).normal(size=(6, len(near))), 1)  # with ties
    found = searchlight_rdms(responses, near, measure=measure)
    for center, row in enumerate(near.block(np.arange(len(near)))):
        values = responses[:, row[row >= 0]]
        if values.shape[1] < 3 or (np.ptp(values, axis=1) == 0).any():
            assert np.isnan(found[center]).any()
        else:
            # the same formulas in float64; the order of the sums differs
            np.testing.assert_allclose(found[center], compute_rdm(values, measure), atol=1e-12)


def test_rdms_and_maps_equal_rsatoolbox_at_the_same_centers():
    mask, n = some_mask((8, 8, 7)), 10
    near = Spheres(mask, np.diag([3.0, 3, 3, 1]), 7.5)
    responses = np.random.default_rng(2).normal(size=(n, len(near)))
    model = np.random.default_rng(3).random(n * (n - 1) // 2)
    volume = np.zeros((n, *mask.shape))
    volume[:, mask] = responses
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        centers, neighbors = peer.get_volume_searchlight(
            mask, radius=2.5, threshold=0, truncate_at_boundary=True
        )
        theirs = peer.get_searchlight_RDMs(volume.reshape(n, -1), centers, neighbors, np.arange(n))
        scores = peer.evaluate_models_searchlight(
            theirs, ModelFixed("m", model), eval_fixed, method="spearman"
        )
    assert len(centers) == len(near)
    np.testing.assert_allclose(
        searchlight_rdms(responses, near, measure="pearson"), theirs.dissimilarities, atol=1e-8
    )
    question = Question(
        name="m", about="", ids=tuple("abcdefghij"), responses=responses, model=model
    )
    found = run_searchlight(question, near, measure="pearson", comparator="spearman")
    np.testing.assert_allclose(
        found.values, [one.evaluations.ravel()[0] for one in scores], atol=1e-8
    )


def test_maps_do_not_depend_on_blocks_or_threads(monkeypatch):
    near = Spheres(some_mask(), OBLIQUE, 5.0)
    rng = np.random.default_rng(4)
    question = Question(
        name="m",
        about="",
        ids=tuple("abcdef"),
        responses=rng.normal(size=(6, len(near))),
        model=rng.random(15),
    )
    whole = run_searchlight(question, near, n_permutations=50)
    with pytest.importorskip("threadpoolctl").threadpool_limits(2):
        threads = run_searchlight(question, near, n_permutations=50)
    np.testing.assert_allclose(threads.values, whole.values, atol=1e-12)
    np.testing.assert_array_equal(threads.p_family, whole.p_family)
    monkeypatch.setattr(module, "BLOCK", 700)
    parts = run_searchlight(question, near, n_permutations=50)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-12)
    np.testing.assert_array_equal(parts.p, whole.p)
    np.testing.assert_array_equal(parts.p_family, whole.p_family)


def run_patterns(near, n=6, runs=4, seed=0, repeats=1):
    """Responses of every run to every condition, conditions in another order in each run."""
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(n)]
    signal = rng.normal(size=(n, len(near)))
    rows, values = [], []
    for run in range(runs):
        for i in rng.permutation(np.repeat(np.arange(n), repeats)):
            rows.append(
                {
                    "condition": names[i],
                    "presentation": sum(r["condition"] == names[i] for r in rows) + 1,
                    "run": f"r{run}",
                    "session": "s",
                }
            )
            values.append(signal[i] + rng.normal(size=len(near)) * np.linspace(0.5, 2, len(near)))
    places = pd.DataFrame(
        {"subject": "S1", "roi": "all", "i": np.arange(len(near)), "j": 0, "k": 0}
    )
    return Patterns(values=np.array(values), observations=pd.DataFrame(rows), voxels=places)


@pytest.mark.parametrize("noise", ["none", "diag", "shrinkage_diag", "shrinkage_eye"])
@pytest.mark.parametrize("repeats", [1, 2])
def test_crossnobis_of_each_searchlight_is_that_of_its_voxels(noise, repeats):
    near = Spheres(some_mask((5, 5, 4)), OBLIQUE, 4.5)
    patterns = run_patterns(near, repeats=repeats)
    found = searchlight_rdms(
        run_responses(patterns, patterns.values, noise=noise), near, measure="crossnobis"
    )
    conditions, runs = (patterns.observations[name].tolist() for name in ("condition", "run"))
    residuals, dof = residuals_of(patterns.values, conditions)
    for center, row in enumerate(near.block(np.arange(len(near)))):
        near_by = row[row >= 0]
        if len(near_by) < 3:
            assert np.isnan(found[center]).all()
            continue
        precision = (
            None
            if noise == "none"
            else estimate_noise(residuals[:, near_by], method=noise, dof=dof)
        )
        alone = crossnobis_rdm(
            patterns.values[:, near_by],
            conditions,
            runs,
            noise=precision,
            order=patterns.conditions,
        )
        np.testing.assert_allclose(found[center], alone, atol=1e-12)


@pytest.mark.parametrize("noise", ["diag", "shrinkage_diag"])
def test_crossnobis_maps_do_not_depend_on_blocks_threads_or_order(noise, monkeypatch):
    threads = pytest.importorskip("threadpoolctl")
    near = Spheres(some_mask(), OBLIQUE, 5.0)
    patterns = run_patterns(near, seed=2)
    names = list(patterns.conditions)
    model = label_rdms(
        np.random.default_rng(3).random((1, 15)),
        conditions=sorted(names),
        rdm_descriptors={"name": ["m"]},
        measure="x",
    )

    def ask(held, n_threads):
        (question,) = model_questions(
            held.conditions, run_responses(held, held.values, noise=noise), model
        )
        with threads.threadpool_limits(n_threads):
            return run_searchlight(question, near, measure="crossnobis", n_permutations=30)

    whole = ask(patterns, 1)
    assert np.isfinite(whole.values).sum() > 50
    assert "crossnobis of 4 folds" in whole.summary["method"]
    order = np.random.default_rng(5).permutation(len(patterns.values))
    shuffled = Patterns(
        values=patterns.values[order],
        observations=patterns.observations.iloc[order].reset_index(drop=True),
        voxels=patterns.voxels,
    )
    several = [ask(patterns, 2), ask(shuffled, 1)]
    monkeypatch.setattr(module, "BLOCK", 700)
    for other in (*several, ask(patterns, 1)):
        np.testing.assert_allclose(other.values, whole.values, atol=1e-12)
        np.testing.assert_array_equal(other.p_family, whole.p_family)


def test_crossnobis_has_no_place_where_there_is_no_noise_or_no_signal_and_asks_for_runs():
    near = Spheres(some_mask(), OBLIQUE, 5.0)
    patterns = run_patterns(near)
    values = patterns.values.copy()
    values[:, 3] = 7.0  # outside of the head
    values[2, 4] = np.nan
    runs = run_responses(patterns, values)
    assert np.flatnonzero(~runs.present).tolist() == [3, 4]
    found = searchlight_rdms(runs, near, measure="crossnobis")
    assert np.isnan(found[[3, 4]]).all()
    free = searchlight_rdms(
        run_responses(
            run_patterns(near, seed=8), np.random.default_rng(0).normal(size=values.shape)
        ),
        near,
        measure="crossnobis",
    )
    assert abs(np.nanmean(free)) < 3 * np.nanstd(free) / np.sqrt(
        15
    )  # crossvalidated: no bias without a signal
    with pytest.raises(InputError, match="'crossnobis' needs responses of runs"):
        searchlight_rdms(values[:6], near, measure="crossnobis")
    with pytest.raises(InputError, match="only it takes them"):
        searchlight_rdms(runs, near)
    with pytest.raises(InputError, match="unknown noise 'ledoit'"):
        run_responses(patterns, values, noise="ledoit")
    with pytest.raises(InputError, match="the column 'session' holds one, 's'"):
        run_responses(patterns, values, folds="session")
    with pytest.raises(
        InputError, match="unknown column of the observations 'runs'; did you mean 'run'"
    ):
        run_responses(patterns, values, folds="runs")
    with pytest.raises(InputError, match="5 responses for 24 observations"):
        run_responses(patterns, values[:5])
    kept = np.arange(1, 24)
    lacking = Patterns(
        values=patterns.values[kept],
        observations=patterns.observations.iloc[kept].reset_index(drop=True),
        voxels=patterns.voxels,
    )
    gone = patterns.observations["condition"][0]
    for noise in ("none", "diag", "shrinkage_diag"):
        runs = run_responses(lacking, lacking.values, noise=noise)
        found = searchlight_rdms(runs, near, measure="crossnobis")
        assert runs.counts.min() == 0 and np.isfinite(found).all()
    others = [i for i, name in enumerate(lacking.conditions) if name != gone]
    assert run_responses(lacking, lacking.values).take(others).shape == (5, len(near))


def test_what_is_undefined_is_nan_and_counted():
    mask = np.zeros((12, 3, 3), dtype=bool)
    mask[:6] = True
    mask[9] = [[True, True, False], [False] * 3, [False] * 3]  # two voxels alone
    near = Spheres(mask, np.eye(4), 1.0)
    rng = np.random.default_rng(5)
    responses = rng.normal(size=(5, len(near)))
    responses[:, 0] = np.nan  # a voxel without data
    responses[2, near.coordinates[:, 0] >= 4] = 1.7  # constant from the fifth slab on
    question = Question(
        name="m", about="", ids=("a", "b", "c", "d", "e"), responses=responses, model=rng.random(10)
    )
    found = run_searchlight(question, near, measure="pearson", n_permutations=9)
    summary = found.summary
    slab = near.coordinates[:, 0]
    assert summary["n_without_data"] == 1
    assert summary["n_too_small"] == 2
    assert summary["n_constant"] == np.sum(slab == 5)  # those of slab 4 also see slab 3
    assert summary["constant_conditions"] == "c (9)"
    assert summary["n_flat_rdm"] == 0
    assert summary["n_defined"] == np.isfinite(found.values).sum() == len(near) - 1 - 2 - 9
    assert np.isnan(found.values[[0, -1, -2]]).all()
    assert np.isnan(found.p_family[np.isnan(found.values)]).all()
    assert found.sizes[0] == 0
    assert summary["neighbors_min"] == 2


# ------------------------------------------------------------------------------------- permutations


@pytest.mark.parametrize("paired", [False, True])
def test_p_equals_a_loop_over_the_same_permutations(paired):
    near = Spheres(np.ones((3, 3, 2), dtype=bool), np.eye(4), 1.5)
    rng = np.random.default_rng(6)
    responses, others, model = rng.normal(size=(5, 18)), rng.normal(size=(5, 18)), rng.random(10)
    sides = {"others": others} if paired else {"model": model}
    question = Question(name="m", about="", ids=tuple("abcde"), responses=responses, **sides)
    found = run_searchlight(question, near, measure="pearson", n_permutations=49, seed=3)
    random = generator(3, "searchlight labels", 5)
    first = searchlight_rdms(responses, near, measure="pearson")
    second = (
        searchlight_rdms(others, near, measure="pearson") if paired else np.tile(model, (18, 1))
    )
    upper, null = np.triu_indices(5, 1), []
    for order in [np.arange(5), *(random.permutation(5) for _ in range(49))]:
        moved = np.zeros((18, 5, 5))
        moved[:, upper[0], upper[1]] = second
        moved = (moved + moved.transpose(0, 2, 1))[:, order][:, :, order][:, upper[0], upper[1]]
        null.append([spearmanr(a, b).statistic for a, b in zip(first, moved)])
    null = np.array(null)
    np.testing.assert_allclose(found.values, null[0], atol=1e-12)
    np.testing.assert_allclose(found.p, (null >= null[0] - 1e-9).sum(axis=0) / 50)
    largest = null.max(axis=1)
    expected = (1 + (largest[1:, np.newaxis] >= null[0] - 1e-9).sum(axis=0)) / 50
    np.testing.assert_allclose(found.p_family, expected)


def test_the_family_wise_error_is_kept_over_the_map():
    near = Spheres(np.ones((4, 4, 3), dtype=bool), np.eye(4), 1.5)
    hits = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        question = Question(
            name="m",
            about="",
            ids=tuple("abcdefgh"),
            responses=rng.normal(size=(8, 48)),
            model=rng.random(28),
        )
        found = run_searchlight(question, near, measure="pearson", n_permutations=99, seed=seed)
        hits += int(found.p_family.min() <= 0.05)
    assert hits <= 14  # 120 maps at 5 %: 6 expected, more than 14 once in 1,000


# ------------------------------------------------------------------------------------ planted blobs


def planted(distance_to_blob, model_patterns, radius, rng, noise=0.5):
    """Responses that follow the model within `radius` of a place, noise elsewhere."""
    n_places = len(distance_to_blob)
    responses = rng.normal(size=(len(model_patterns), n_places))
    inside = distance_to_blob <= radius
    weights = rng.normal(size=(model_patterns.shape[1], inside.sum()))
    responses[:, inside] = model_patterns @ weights + noise * responses[:, inside]
    return responses


def check_blob(found, distance, radius, reach):
    """Found in the middle, and nowhere that no neighborhood reaches it."""
    significant = found.p_family < 0.05
    assert (
        distance[np.nanargmax(found.values)] <= radius + reach / 2
    )  # a searchlight sees beyond its center
    assert significant[distance <= radius / 3].all()
    assert not significant[distance > radius + reach].any()


@pytest.mark.parametrize("measure", ["spearman", "pearson"])
def test_a_planted_blob_is_found_in_volume_and_nowhere_else(measure):
    mask = np.ones((14, 12, 10), dtype=bool)
    near = Spheres(mask, np.diag([2.0, 2, 2, 1]), 5.0)
    rng = np.random.default_rng(7)
    features = rng.normal(size=(12, 6))
    distance = 2.0 * np.linalg.norm(near.coordinates - [4, 5, 4], axis=1)
    responses = planted(distance, features, 6.0, rng)
    question = Question(
        name="m",
        about="",
        ids=tuple("abcdefghijkl"),
        responses=responses,
        model=compute_rdm(features, "pearson"),
    )
    found = run_searchlight(question, near, measure=measure, n_permutations=200)
    check_blob(found, distance, 6.0, 5.0)


def test_a_planted_blob_is_found_on_a_mesh_and_nowhere_else():
    points, triangles = icosphere(3)
    near = Disks(points, triangles, 6.0)
    rng = np.random.default_rng(8)
    features = rng.normal(size=(12, 6))
    distance = np.linalg.norm(points - points[100], axis=1)
    responses = planted(distance, features, 8.0, rng)
    others = planted(distance, features, 8.0, rng)
    question = Question(
        name="RE-AI", about="", ids=tuple("abcdefghijkl"), responses=responses, others=others
    )
    check_blob(run_searchlight(question, near, n_permutations=200), distance, 8.0, 6.0)


# -------------------------------------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path):
    """Patterns of two kinds x 2 presentations in a mask, a model RDM, a table of stimuli."""
    rng = np.random.default_rng(9)
    mask, affine = np.ones((6, 6, 4), dtype=bool), np.diag([3.0, 3, 3, 1])
    mask[0] = False
    affine[:3, 3] = [-10, 4, 2]
    coordinates = np.argwhere(mask)
    names = [f"im{i}" for i in range(8)]
    ids = [*names, *(f"{name}_AI" for name in names)]
    features = rng.normal(size=(8, 5))
    weights = rng.normal(size=(5, len(coordinates)))
    clean = np.tile(features @ weights, (2, 1))
    values = np.concatenate([clean + 0.3 * rng.normal(size=clean.shape) for _ in range(2)])
    patterns = Patterns(
        values=values,
        observations=pd.DataFrame(
            {"condition": ids * 2, "presentation": np.repeat([1, 2], 16), "run": "1", "session": ""}
        ),
        voxels=pd.DataFrame({"subject": "S1", "roi": "all", **dict(zip("ijk", coordinates.T))}),
        provenance={"grid": {"shape": list(mask.shape), "affine": affine.tolist()}},
    )
    write_patterns(patterns, tmp_path / "p.h5")
    write_volume_map(tmp_path / "mask.nii.gz", np.ones(mask.sum()), mask, affine)
    image = nibabel.load(tmp_path / "mask.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.nan_to_num(image.get_fdata()).astype("uint8"), affine),
        tmp_path / "mask.nii.gz",
    )
    pd.DataFrame({"id": ids, "kind": ["RE"] * 8 + ["AI"] * 8, "reference_id": names * 2}).to_csv(
        tmp_path / "stimuli.csv", index=False
    )
    order = rng.permutation(8)
    rdm = compute_rdm(features[order], "pearson")
    write_rdms(
        label_rdms(
            rdm[np.newaxis],
            conditions=[names[i] for i in order],
            rdm_descriptors={"stage": ["conv1"]},
            measure="x",
        ),
        tmp_path / "model.h5",
    )
    return SimpleNamespace(
        path=tmp_path, patterns=patterns, mask=mask, affine=affine, values=values, names=names
    )


def test_the_command_writes_maps_on_the_grid_of_the_mask(folder):
    import subprocess
    import sys

    path = folder.path
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "neurometamer.cli",
            "searchlight",
            "--patterns",
            path / "p.h5",
            "--mask",
            path / "mask.nii.gz",
            "--model-rdms",
            path / "model.h5",
            "--image-types",
            "RE-AI",
            "--stimuli",
            path / "stimuli.csv",
            "--reliability",
            "--radius-mm",
            "5",
            "--n-permutations",
            "49",
            "--out",
            path / "maps",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = {one.name for one in (path / "maps").iterdir()}
    assert names == {
        "summary.csv",
        "figures",
        "index.html",
        "references.bib",
        "methods.txt",
        *(
            f"{name}{end}"
            for name in ("conv1", "RE-AI", "reliability")
            for end in (".json", ".nii.gz", "_p.nii.gz", "_p_family.nii.gz")
        ),
    }
    for name in ("conv1", "RE-AI", "reliability"):
        image = nibabel.load(path / "maps" / f"{name}.nii.gz")
        np.testing.assert_array_equal(image.affine, folder.affine)
        shown = image.get_fdata()
        assert np.isnan(shown[~folder.mask]).all()
        assert np.mean(shown[folder.mask]) > 0.4
        record = json.loads((path / "maps" / f"{name}.json").read_text())
        assert record["settings"]["radius_mm"] == 5
        assert set(record["inputs"]) == {"mask", "models", "stimuli", "patterns"}
        assert record["files"][0] == f"{name}.nii.gz"
    summary = read_table(path / "maps" / "summary.csv").set_index("map")
    assert summary["n_conditions"].to_dict() == {
        "conv1": 8,
        "RE-AI": 8,
        "reliability": 8,
    }  # RE alone
    near = Spheres(folder.mask, folder.affine, 5.0)
    conditions, means = folder.patterns.means()
    again = image_type_question(conditions, means, read_table(path / "stimuli.csv"), ("RE", "AI"))
    expected = run_searchlight(again, near).values
    np.testing.assert_allclose(
        nibabel.load(path / "maps" / "RE-AI.nii.gz").get_fdata()[folder.mask], expected, atol=1e-6
    )


def test_maps_on_a_mesh_are_gifti_with_nan_where_there_is_no_data(folder):
    path = folder.path
    points, triangles = icosphere(2)
    geometry = [
        nibabel.gifti.GiftiDataArray(points.astype("f4"), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(triangles.astype("i4"), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.GiftiImage(darrays=geometry), path / "lh.surf.gii")
    read_points, read_triangles = read_mesh(path / "lh.surf.gii")
    np.testing.assert_allclose(read_points, points, atol=1e-5)
    np.testing.assert_array_equal(read_triangles, triangles)
    values = np.full((32, len(points)), np.nan, dtype="f4")
    values[:, :100] = folder.values[:, :100]
    arrays = [nibabel.gifti.GiftiDataArray(one, intent="NIFTI_INTENT_NONE") for one in values]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), path / "betas.func.gii")
    folder.patterns.observations.to_csv(path / "betas.csv", index=False)
    files = {
        "betas": path / "betas.func.gii",
        "table": path / "betas.csv",
        "mesh": path / "lh.surf.gii",
    }
    commands.searchlight(
        path / "maps", **files, image_types=["RE-AI"], stimuli=path / "stimuli.csv", radius_mm=8
    )
    shown = nibabel.load(path / "maps" / "RE-AI.func.gii").darrays[0].data
    assert shown.shape == (len(points),)
    assert np.isnan(shown[100:]).all()
    assert np.isfinite(shown[:100]).sum() > 80
    nibabel.save(
        nibabel.GiftiImage(darrays=[nibabel.gifti.GiftiDataArray(one[:150]) for one in values]),
        path / "betas.func.gii",
    )
    with pytest.raises(
        InputError, match=r"has 150 values a map but lh\.surf\.gii has 162 vertices"
    ):
        commands.searchlight(path / "maps", **files, reliability=True)
    values[3, 5] = np.nan
    nibabel.save(
        nibabel.GiftiImage(darrays=[nibabel.gifti.GiftiDataArray(one) for one in values]),
        files["betas"],
    )
    with pytest.raises(InputError, match="vertices with values in some maps only: 5"):
        commands.searchlight(path / "maps", **files, reliability=True)
    with pytest.raises(InputError, match="holds no surface"):
        read_mesh(files["betas"])
    with pytest.raises(InputError, match="these patterns are of voxels"):
        commands.searchlight(
            path / "maps", patterns=path / "p.h5", mesh=files["mesh"], reliability=True
        )
    assert write_surface_map(path / "x.func.gii", np.array([1.0, np.nan])).is_file()


def test_bad_requests_are_answered(folder):
    path = folder.path
    files = {"patterns": path / "p.h5", "mask": path / "mask.nii.gz"}
    with pytest.raises(InputError, match="nothing to map"):
        commands.searchlight(path / "x", **files)
    with pytest.raises(InputError, match="either a mask"):
        commands.searchlight(path / "x", patterns=path / "p.h5", reliability=True)
    with pytest.raises(InputError, match="--image-types needs --stimuli"):
        commands.searchlight(path / "x", **files, image_types=["RE-AN"])
    with pytest.raises(InputError, match="unknown image type 'AN'"):
        commands.searchlight(
            path / "x", **files, image_types=["RE-AN"], stimuli=path / "stimuli.csv"
        )
    with pytest.raises(
        InputError, match="missing from the model RDM: im0_AI"
    ):  # without --stimuli all must match
        commands.searchlight(path / "x", **files, model_rdms=path / "model.h5")
    moved = folder.affine.copy()
    moved[0, 3] += 1
    nibabel.save(nibabel.Nifti1Image(folder.mask.astype("uint8"), moved), path / "moved.nii.gz")
    with pytest.raises(InputError, match="another affine than the patterns' BOLD files"):
        commands.searchlight(
            path / "x", patterns=path / "p.h5", mask=path / "moved.nii.gz", reliability=True
        )
    smaller = folder.mask.copy()
    smaller[1, 0, 0] = False
    nibabel.save(
        nibabel.Nifti1Image(smaller.astype("uint8"), folder.affine), path / "smaller.nii.gz"
    )
    with pytest.raises(InputError, match=r"outside the mask: \(1, 0, 0\)"):
        commands.searchlight(
            path / "x", patterns=path / "p.h5", mask=path / "smaller.nii.gz", reliability=True
        )
    near = Spheres(folder.mask, folder.affine, 5.0)
    with pytest.raises(InputError, match="10 values a condition, but the mask or mesh has"):
        searchlight_rdms(np.zeros((8, 10)), near)
    single = folder.patterns.select(conditions=folder.names)
    half = Patterns(
        values=single.values[:8],
        observations=single.observations[:8],
        voxels=single.voxels,
        provenance={},
    )
    with pytest.raises(InputError, match="without both an odd and an even presentation: im0"):
        reliability_question(half, half.values)
    flat = label_rdms(
        np.ones((1, 28)), conditions=folder.names, rdm_descriptors={"stage": ["conv1"]}, measure="x"
    )
    with pytest.raises(InputError, match="all dissimilarities are equal in conv1"):
        model_questions(folder.names, single.means()[1], flat)
    table = read_table(path / "stimuli.csv").iloc[:-1]
    with pytest.raises(InputError, match="missing from images of kind AI: im7"):
        image_type_question(
            folder.patterns.conditions, folder.patterns.means()[1], table, ("RE", "AI")
        )


@pytest.mark.data
def test_haxby_slice_has_reliable_categories_where_their_rdm_is(shared_data, tmp_path):
    """Eight categories of Haxby et al. (2001), one slice: odd and even runs agree in places."""
    folder = shared_data / "haxby_1slice" / "sub-001"
    bold = sorted(
        path for path in (folder / "func").glob("*_bold.nii.gz") if "res-" not in path.name
    )
    events, motion = (
        sorted((folder / "func").glob(f"*_{kind}.tsv")) for kind in ("events", "motion")
    )
    mask = folder / "masks" / "slice_brain.nii.gz"
    patterns = estimate_betas(read_runs(bold, events, motion), {"slice": mask})
    write_patterns(patterns, tmp_path / "p.h5")
    living = np.array([one in ("face", "cat") for one in patterns.conditions])
    model = label_rdms(
        (living[:, np.newaxis] != living)[np.newaxis].astype(float),
        conditions=patterns.conditions,
        rdm_descriptors={"stage": ["living"]},
        measure="x",
    )
    write_rdms(model, tmp_path / "model.h5")
    commands.searchlight(
        tmp_path / "maps",
        patterns=tmp_path / "p.h5",
        mask=mask,
        model_rdms=tmp_path / "model.h5",
        reliability=True,
        radius_mm=9,
        n_permutations=500,
    )
    summary = read_table(tmp_path / "maps" / "summary.csv").set_index("map")
    print(summary.drop(columns="method").T.to_string())
    assert summary["n_places"].eq(530).all()
    assert summary.loc["reliability", "largest"] > 0.6
    assert summary.loc["reliability", "mean"] > 0.1
    assert summary.loc["reliability", "n_family_p05"] > 0
    image = nibabel.load(tmp_path / "maps" / "living_p.nii.gz")
    np.testing.assert_array_equal(image.affine, nibabel.load(mask).affine)
    assert np.isfinite(image.get_fdata()).sum() == summary.loc["living", "n_defined"]
