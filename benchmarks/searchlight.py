"""R8: searchlight RSA of a volume beside rsatoolbox's: neighborhoods, RDMs, comparison with a model.

Values of both sides are compared before any time counts. Both run in this process on one thread, by
CPU time.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.rsa_resampling import _agree, _best, _one_thread, _ratio

_EDGE_MM = 3.0
_RADIUS = 3.4
"""In voxels, between two distances that occur: 171 voxels in a sphere, so that both sides take the same ones."""
_VOXELWISE = 1e-10
"""Largest difference of a similarity: ranks of dissimilarities that agree to 1e-13."""


def _volume(setup: Setup) -> np.ndarray:
    """Make an ellipsoid of voxels."""
    size = setup.pick(28, 10)
    grid = (
        np.indices((size, size, size // 2))
        - np.array([size / 2, size / 2, size / 4]).reshape(3, 1, 1, 1)
        + 0.5
    )
    axes = np.array([size / 2, size / 2, size / 4]).reshape(3, 1, 1, 1)
    return np.asarray(((grid / axes) ** 2).sum(axis=0) < 1)


def measure_searchlight(setup: Setup) -> Sequence[Row]:
    """R8."""
    mask, n = _volume(setup), setup.pick(40, 8)
    random = np.random.default_rng(0)
    responses = random.standard_normal((n, int(mask.sum())))
    model = random.random(n * (n - 1) // 2)
    with _one_thread():
        return [*_whole_map(setup, mask, responses, model), *_crossnobis(setup, mask, n)]


def _whole_map(
    setup: Setup, mask: np.ndarray, responses: np.ndarray, model: np.ndarray
) -> Sequence[Row]:
    from rsatoolbox.inference import eval_fixed
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.util import searchlight as theirs

    from neurometamer.rsa.searchlight.maps import run_searchlight
    from neurometamer.rsa.searchlight.neighborhoods import Spheres
    from neurometamer.rsa.searchlight.questions import Question

    n = len(responses)

    def ours() -> np.ndarray:
        near = Spheres(mask, np.diag([_EDGE_MM] * 3 + [1]), _RADIUS * _EDGE_MM)
        asked = Question(
            name="m", about="", ids=tuple(map(str, range(n))), responses=responses, model=model
        )
        return run_searchlight(asked, near, measure="pearson", comparator="spearman").values

    def peer() -> Any:
        volume = np.zeros((n, *mask.shape))
        volume[:, mask] = responses
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            centers, neighbors = theirs.get_volume_searchlight(
                mask, radius=_RADIUS, threshold=0, truncate_at_boundary=True
            )
            rdms = theirs.get_searchlight_RDMs(
                volume.reshape(n, -1), centers, neighbors, np.arange(n), verbose=False
            )
            scores = theirs.evaluate_models_searchlight(
                rdms, ModelFixed("m", model), eval_fixed, method="spearman", n_jobs=1
            )
        return centers, np.array([float(np.squeeze(one.evaluations)) for one in scores])

    their_time, (centers, expected) = _best(peer, 1)
    seconds, found = _best(ours, setup.pick(3, 1))
    places = np.full(mask.size, -1)
    places[mask.ravel()] = np.arange(mask.sum())
    off = _agree(found[places[np.asarray(centers, dtype=int)]], expected, _VOXELWISE)
    what = (
        f"neighborhoods, 1 - Pearson RDMs and Spearman with a model, {len(expected)} spheres × {n} "
        "conditions"
    )
    note = f"the whole call on both sides; similarities of all spheres differ by {off:.1g} at most"
    return [_ratio(what, seconds, their_time, None if setup.quick else 10.0, note)]


def _crossnobis(setup: Setup, mask: np.ndarray, n: int) -> Sequence[Row]:
    """Time crossnobis with shrunken noise: rsatoolbox has no searchlight of it, so its functions in a loop."""
    import pandas as pd
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_residuals
    from rsatoolbox.rdm import calc_rdm

    from fmri.patterns import Patterns
    from neurometamer.rsa.noise import residuals_of
    from neurometamer.rsa.searchlight.maps import searchlight_rdms
    from neurometamer.rsa.searchlight.neighborhoods import Spheres
    from neurometamer.rsa.searchlight.questions import run_responses

    n_runs, n_voxels, few = 6, int(mask.sum()), setup.pick(60, 5)
    values = np.random.default_rng(1).standard_normal((n_runs * n, n_voxels))
    names, runs = (
        [f"c{i:02d}" for i in range(n)] * n_runs,
        np.repeat([f"r{i}" for i in range(n_runs)], n),
    )
    shown = pd.DataFrame(
        {"condition": names, "run": runs, "presentation": np.repeat(np.arange(n_runs), n) + 1}
    )
    voxels = pd.DataFrame({"subject": "S", "roi": "all", "i": np.arange(n_voxels), "j": 0, "k": 0})
    patterns = Patterns(values=values, observations=shown.assign(session=""), voxels=voxels)
    near = Spheres(mask, np.diag([_EDGE_MM] * 3 + [1]), _RADIUS * _EDGE_MM)
    some = np.linspace(0, n_voxels - 1, few).astype(int)
    residuals, dof = residuals_of(values, names)

    def peer() -> np.ndarray:
        found = []
        for row in near.block(some):
            columns = row[row >= 0]
            part = Dataset(values[:, columns], obs_descriptors={"condition": names, "run": runs})
            noise = prec_from_residuals(residuals[:, columns], dof=dof, method="shrinkage_diag")
            rdm = calc_rdm(
                part, method="crossnobis", descriptor="condition", cv_descriptor="run", noise=noise
            )
            found.append(rdm.dissimilarities[0])
        return np.array(found)

    seconds, found = _best(
        lambda: searchlight_rdms(run_responses(patterns, values), near, measure="crossnobis"), 1
    )
    their_time, expected = _best(peer, 1)
    off = _agree(found[some], expected, 1e-12)
    what = (
        f"crossnobis RDMs, noise shrunken in each sphere, {n_voxels} spheres × {n} conditions × "
        f"{n_runs} runs"
    )
    note = f"theirs looped over {few} spheres, scaled; distances differ by {off:.1g} at most"
    rows = [_ratio(what, seconds, their_time * n_voxels / few, None if setup.quick else 10.0, note)]
    seconds, _ = _best(
        lambda: searchlight_rdms(
            run_responses(patterns, values, noise="diag"), near, measure="crossnobis"
        ),
        1,
    )
    rows.append(
        Row(
            what="the same, noise diagonal, ours",
            value=seconds,
            unit="CPU s",
            note=f"one thread, load {os.getloadavg()[0]:.1f}",
        )
    )
    return rows
