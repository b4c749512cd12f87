"""R1, R2, R3 and R6: RDMs by rank correlation and correlation, straight from a network, and crossnobis with its noise.

Every peer and ours run on one thread, in turn, in one process; values are compared before times are
told. Memory is that of a fresh process (``python -m benchmarks.rdms CASE …``).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.memory import _settle, _status
from benchmarks.timing import clocked

_DATA = "ReLU of Gaussian noise, half of it shared by all rows"
_TWIN = (
    "thingsvision and Net2Brain cannot be installed beside this torch; their matrix product is "
    "corrcoef's"
)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def _responses(n: int, p: int) -> np.ndarray:
    random = np.random.default_rng(0)
    shared = random.standard_normal(p, dtype=np.float32)
    values = np.empty((n, p), np.float32)
    for row in values:
        row[:] = np.maximum(
            (random.standard_normal(p, dtype=np.float32) + shared) / np.float32(2**0.5), 0
        )
    return values


def _condensed(square: np.ndarray) -> np.ndarray:
    return square[np.triu_indices(len(square), 1)]


def _rsatoolbox(values: np.ndarray) -> np.ndarray:
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    return calc_rdm(Dataset(values), method="correlation").dissimilarities[0]


def _fastest(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Take the least CPU time of some rounds: what other work adds is never less than nothing."""
    runs = [clocked(call) for _ in range(rounds)]
    return min(one[0] for one in runs), runs[-1][2]


def _compute(values: np.ndarray, measure: str) -> np.ndarray:
    from neurometamer.rsa.compute import compute_rdm

    return compute_rdm(values, measure)


def _ratio(peer: str, size: str, theirs: float, ours: float, bound: float | None, note: str) -> Row:
    return Row(
        what=f"{peer} / ours, {size}",
        value=theirs / ours,
        unit="times faster",
        sense=">=" if bound else "",
        bound=bound,
        note=f"{theirs:.1f} and {ours:.2f} CPU s; {note}",
    )


def _judged(rows: Sequence[Row], setup: Setup) -> list[Row]:
    """Take the bounds of time and memory off a quick run: at its sizes they mean nothing."""
    loose = [setup.quick and row.unit in ("times faster", "ratio") for row in rows]
    return [
        replace(row, sense="", bound=None) if off else row
        for row, off in zip(rows, loose, strict=True)
    ]


def _error(what: str, size: str, found: np.ndarray, truth: np.ndarray, bound: float) -> Row:
    off = float(np.abs(found - truth).max())
    if off > bound:
        raise AssertionError(f"{what}, {size}: {off:.2g} from {bound:.2g}")
    return Row(what=f"largest difference from {what}, {size}", value=off, sense="<=", bound=bound)


# ----------------------------------------------------------------------------- correlation of ranks


def measure_rank_correlation(setup: Setup) -> Sequence[Row]:
    """R1."""
    n = setup.pick(1000, 60)
    rows: list[Row] = []
    with _one_thread():
        for p in (50_000, 200_000) if not setup.quick else (2_000,):
            rows += _rank_rows(n, p, 2 if p < 100_000 and not setup.quick else 1)
    for p in (50_000, 200_000) if not setup.quick else (2_000,):
        ranks = n * p * 4 / 2**20
        more = _in_fresh_process("spearman", n, p) - ranks
        rows.append(
            Row(
                what=f"memory beyond responses and ranks, {n} × {p}",
                value=more,
                unit="MiB",
                sense="<=",
                bound=64.0,
                note=f"responses and ranks are {ranks:.0f} MiB each",
            )
        )
    return _judged(rows, setup)


def _rank_rows(n: int, p: int, rounds: int) -> list[Row]:
    from scipy.stats import rankdata, spearmanr

    size, values = f"{n} × {p}", _responses(n, p)
    ours, found = _fastest(lambda: _compute(values, "spearman"), rounds + 1)
    theirs, truth = _fastest(lambda: _condensed(spearmanr(values, axis=1).statistic), 1)
    rows = [
        _error("scipy's spearmanr (float64)", size, found, 1 - truth, 2e-7),
        _ratio("scipy spearmanr", size, theirs, ours, 3.0, _DATA),
    ]
    ranking, ranked = _fastest(lambda: np.array([rankdata(row) for row in values]), 1)
    product, truth = _fastest(lambda: _rsatoolbox(ranked), 1)
    return [
        *rows,
        _error("rsatoolbox on ranks", size, found, truth, 2e-7),
        _ratio(
            "rsatoolbox on ranks of scipy",
            size,
            ranking + product,
            ours,
            15.0,
            "ranking is in both times",
        ),
        _ratio("rsatoolbox, its ranking not counted", size, product, ours, None, "ours ranks too"),
    ]


# -------------------------------------------------------------------------------------- correlation


def measure_correlation(setup: Setup) -> Sequence[Row]:
    """R2."""
    n, p = setup.pick(1000, 60), setup.pick(50_000, 2_000)
    with _one_thread():
        rows = _correlation_rows(n, p, setup.pick(3, 1))
    few, many = (_in_fresh_process("pearson", n, units) for units in (p, 4 * p))
    rows.append(
        Row(
            what=f"memory beyond responses, {n} × {4 * p} / {n} × {p}",
            value=many / few,
            unit="ratio",
            sense="<=",
            bound=1.25,
            note=f"{many:.0f} and {few:.0f} MiB, whatever the number of units",
        )
    )
    return _judged(rows, setup)


def _correlation_rows(n: int, p: int, rounds: int) -> list[Row]:
    import torch

    size, values = f"{n} × {p}", _responses(n, p)
    tensor = torch.from_numpy(values)
    ours, found = _fastest(lambda: _compute(values, "pearson"), rounds)
    by_numpy, truth = _fastest(lambda: _condensed(np.corrcoef(values)), rounds)
    by_torch, _ = _fastest(lambda: torch.corrcoef(tensor), rounds)
    by_rsatoolbox, theirs = _fastest(lambda: _rsatoolbox(values), 1)
    apart = float(np.abs(found - theirs).max())
    if apart > 1e-3:
        raise AssertionError(f"rsatoolbox, which computes in float32, is {apart:.2g} apart")
    exact = _condensed(np.corrcoef(values.astype(np.float64)))
    return [
        _error("numpy's corrcoef in float64", size, found, 1 - exact, 1e-6),
        _ratio(
            "rsatoolbox",
            size,
            by_rsatoolbox,
            ours,
            25.0,
            f"{_DATA}; float32 there, off by {apart:.1g}",
        ),
        _ratio(
            "numpy corrcoef",
            size,
            by_numpy,
            ours,
            1.5,
            f"off by {np.abs(truth - exact).max():.1g} there; {_TWIN}",
        ),
        _ratio("torch corrcoef", size, by_torch, ours, 1.5, "the other matrix product"),
    ]


# --------------------------------------------------------------------------------- the forward pass


def measure_streaming(setup: Setup) -> Sequence[Row]:
    """R3."""
    n = setup.pick(1000, 24)
    rows = []
    for measure in ("spearman", "pearson"):
        told = _told("alexnet", measure, n, 0, str(setup.scratch))
        rows.append(
            Row(
                what=f"peak memory / all responses, AlexNet's {told['stages']:.0f} stages, {n} "
                f"images, {measure}",
                value=told["mib"] / told["full_mib"],
                unit="ratio",
                sense="<=",
                bound=0.25,
                note=f"{told['mib']:.0f} of {told['full_mib']:.0f} MiB above the loaded network, "
                f"{told['cpu']:.0f} CPU s; "
                "random weights, noise images on disk",
            )
        )
    return _judged(rows, setup)


# --------------------------------------------------------------------------------------- crossnobis


def measure_crossnobis(setup: Setup) -> Sequence[Row]:
    """R6."""
    n, runs, p = setup.pick(120, 12), setup.pick(10, 3), setup.pick(2_000, 80)
    many = setup.pick(20_000, 400)
    with _one_thread():
        values, conditions, folds = _presentations(n, runs, p)
        ours, found = _fastest(lambda: _crossnobis(values, conditions, folds), setup.pick(3, 1))
        theirs, truth = _fastest(lambda: _crossnobis_of_rsatoolbox(values, conditions, folds), 1)
        large = _presentations(n, runs, many)
        cpu, wall, _ = clocked(lambda: _crossnobis(*large))
    size = f"{n} conditions × {runs} runs × {p} voxels"
    rows = [
        _error("rsatoolbox", size, found, truth, 1e-12),
        _ratio(
            "rsatoolbox",
            size,
            theirs,
            ours,
            50.0,
            "noise by shrinkage to the diagonal, in both times",
        ),
        Row(
            what=f"ours, {many} voxels, no voxel × voxel matrix",
            value=wall,
            unit="s",
            sense="<=",
            bound=5.0,
            note=f"{cpu:.1f} CPU s, 1 thread",
        ),
    ]
    return _judged(rows, setup)


def _presentations(n: int, runs: int, p: int) -> tuple[np.ndarray, list[str], list[str]]:
    random = np.random.default_rng(0)
    values = np.tile(random.standard_normal((n, p)), (runs, 1)) + random.standard_normal(
        (n * runs, p)
    )
    return (
        values,
        [f"c{i:03d}" for i in range(n)] * runs,
        [f"r{i:02d}" for i in range(runs) for _ in range(n)],
    )


def _crossnobis(values: np.ndarray, conditions: list[str], folds: list[str]) -> np.ndarray:
    from neurometamer.rsa.noise import crossnobis_rdm, estimate_noise, residuals_of

    residuals, dof = residuals_of(values, conditions)
    return crossnobis_rdm(values, conditions, folds, noise=estimate_noise(residuals, dof=dof))


def _crossnobis_of_rsatoolbox(
    values: np.ndarray, conditions: list[str], folds: list[str]
) -> np.ndarray:
    from rsatoolbox.data import Dataset
    from rsatoolbox.data.noise import prec_from_unbalanced
    from rsatoolbox.rdm import calc_rdm

    data = Dataset(values, obs_descriptors={"condition": conditions, "run": folds})
    noise = prec_from_unbalanced(data, "condition")
    return calc_rdm(
        data, "crossnobis", descriptor="condition", noise=noise, cv_descriptor="run"
    ).dissimilarities[0]


# ------------------------------------------------------------------------------- in a fresh process


def _told(*case: Any) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.rdms", *map(str, case)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def _in_fresh_process(measure: str, n: int, p: int) -> float:
    return _told("values", measure, n, p, "")["mib"]


def _of_values(measure: str, n: int, p: int, scratch: str) -> dict[str, float]:
    values = _responses(n, p)
    _compute(values[:20, :100], measure)  # imports and threads are not counted
    _settle()
    before = _status("VmRSS")
    _compute(values, measure)
    return {"mib": _status("VmHWM") - before}


def _of_alexnet(measure: str, n: int, p: int, scratch: str) -> dict[str, float]:
    import h5py
    import pandas as pd

    from neurometamer.rsa.streaming import streamed_rdms
    from neurometamer.run_options import RunOptions
    from neurometamer.zoo import load_model
    from stimuli_gen.stimuli import StimulusSet, StoredImages

    model = load_model("alexnet", weights="random", device="cpu")
    shape = (n, 3, 224, 224)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = Path(folder) / "images.h5"
        with h5py.File(path, "w") as file:
            images = file.create_dataset("images", shape=shape, dtype="f4", chunks=(1, *shape[1:]))
            for i in range(n):
                images[i] = random.random(shape[1:], dtype=np.float32)
        names = [f"img{i:04d}" for i in range(n)]
        table = pd.DataFrame({"id": names, "kind": "RE", "reference_id": names})
        stimuli = StimulusSet(images=StoredImages(path=path, shape=shape), table=table)
        streamed_rdms(
            model,
            stimuli.select(ids=names[:4]),
            measure=measure,
            scratch=scratch,
            run=RunOptions(batch_size=4),
        )
        _settle()
        before = _status("VmRSS")
        cpu, _, rdms = clocked(
            lambda: streamed_rdms(model, stimuli, measure=measure, scratch=scratch)
        )
        peak = _status("VmHWM") - before
    units = sum(rdms.rdm_descriptors["n_units"])
    return {"mib": peak, "full_mib": units * n * 4 / 2**20, "stages": rdms.n_rdm, "cpu": cpu}


_CASES = {"values": _of_values, "alexnet": _of_alexnet}


def main(case: str, measure: str, n: str, p: str, scratch: str) -> None:
    """Measure one case and print it as JSON."""
    with _one_thread():
        print(json.dumps(_CASES[case](measure, int(n), int(p), scratch)))


if __name__ == "__main__":
    main(*sys.argv[1:])
