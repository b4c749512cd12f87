"""F4: HRF per voxel, noise regressors and ridge shrinkage against a plain GLM, on planted truth.

What is planted is the amplitude of every single presentation, files in, betas out. Time and memory
of a large study are taken in a fresh process (``python -m benchmarks.single_trials FOLDER``).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bars import Row, Setup
from fmri import (
    HrfShape,
    SingleTrialOptions,
    estimate_betas,
    event_regressors,
    read_runs,
)
from fmri.betas.hrf import GLOVER

_T_R = 2.0
_NOISE = {"highest": 0.3, "middle": 1.0, "lowest": 2.0}
"""Standard deviation of the noise, at a mean response of 1, conditions that differ by 1 and
presentations that differ by 0.3."""
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""On a busy machine two threads wait for each other longer than they work."""
_EVERYTHING = SingleTrialOptions(hrf="library", n_noise="auto", shrinkage="auto")
_SINGLE = {
    "HRF library": SingleTrialOptions(hrf="library"),
    "noise regressors": SingleTrialOptions(n_noise="auto"),
    "shrinkage": SingleTrialOptions(shrinkage="auto"),
}


def measure_single_trials(setup: Setup) -> Sequence[Row]:
    """F4."""
    n = setup.pick(20, 2)
    rows = []
    for name, noise in _NOISE.items():
        gains = _gains(setup, n, noise, canonical=False)
        bound = -0.005 if name == "highest" else 0.03
        own = gains.pop("all three")
        rows.append(
            Row(
                what=f"{name} signal: r with the planted amplitudes, all three minus a plain GLM",
                value=float(np.min(own)) if name == "highest" else float(np.mean(own)),
                sense=">=",
                bound=bound,
                unit="r",
                note=f"{'smallest' if name == 'highest' else 'mean'} of {n} paired simulations, "
                f"{_spread(own)}; " + "; ".join(f"{k} {_spread(v)}" for k, v in gains.items()),
            )
        )
    for name, noise in _NOISE.items():
        gains = _gains(setup, n, noise, canonical=True)
        worst = min(gains, key=lambda key: float(np.mean(gains[key])))
        rows.append(
            Row(
                what=f"the canonical response is true, {name} signal: cost of the worst option",
                value=-float(np.mean(gains[worst])),
                sense="<=",
                bound=0.005,
                unit="r",
                note=f"{worst}; {n} paired simulations; "
                + "; ".join(f"{k} {_spread(v)}" for k, v in gains.items()),
            )
        )
    return [*rows, *_large(setup)]


def _spread(values: np.ndarray) -> str:
    return f"{np.mean(values):+.4f} ({np.min(values):+.4f} to {np.max(values):+.4f})"


def _gains(setup: Setup, n: int, noise: float, *, canonical: bool) -> dict[str, np.ndarray]:
    """Fit n simulated subjects; correlation with the truth minus that of the plain GLM."""
    gains: dict[str, list[float]] = {name: [] for name in ("all three", *_SINGLE)}
    for seed in range(n):
        folder = setup.scratch / f"single_trials_{noise}_{canonical}_{seed}"
        bold, events, mask, amplitudes = _simulate(folder, seed, noise, canonical=canonical)
        scores = {}
        for name, options in {"plain": None, "all three": _EVERYTHING, **_SINGLE}.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                betas = estimate_betas(
                    read_runs(bold, events),
                    {"V1": np.ones(mask, dtype=bool)},
                    noise_model="ols",
                    units="raw",
                    single_trials=options,
                )
            scores[name] = _agreement(betas.values, amplitudes)
        for name, values in gains.items():
            values.append(scores[name] - scores["plain"])
        for file in (*bold, *events):
            file.unlink()
    return {name: np.array(values) for name, values in gains.items()}


def _agreement(betas: np.ndarray, amplitudes: np.ndarray) -> float:
    """Correlate over presentations, and average over the voxels that respond."""
    responds = amplitudes.any(axis=0)
    first = betas[:, responds] - betas[:, responds].mean(axis=0)
    second = amplitudes[:, responds] - amplitudes[:, responds].mean(axis=0)
    lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    return float(np.mean((first * second).sum(axis=0) / lengths))


def _simulate(
    folder: Path,
    seed: int,
    noise: float,
    *,
    canonical: bool,
    n_voxels: int = 200,
    n_runs: int = 6,
    n_conditions: int = 12,
    n_repeats: int = 2,
) -> tuple[list[Path], list[Path], tuple[int, int, int], np.ndarray]:
    """Write the runs of one subject: rapid events, AR(1) noise, four shared fluctuations."""
    import nibabel
    from scipy.signal import lfilter

    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    responds = random.random(n_voxels) < 0.6
    means = random.normal(1, 1, (n_conditions, n_voxels)) * responds
    shapes = [GLOVER] * n_voxels
    if not canonical:
        shapes = [_random_shape(random) for _ in range(n_voxels)]
    loadings = random.normal(size=(4, n_voxels)) * random.uniform(0.3, 1, n_voxels)
    bold, events, amplitudes = [], [], []
    for run in range(1, n_runs + 1):
        order = random.permutation(np.repeat(np.arange(n_conditions), n_repeats))
        slots = np.sort(random.permutation(len(order) * 5 // 4)[: len(order)])
        onsets, durations = 16 + slots * 4.0, np.full(len(order), 2.0)
        n_volumes = int(np.ceil((onsets[-1] + 24) / _T_R))
        times = np.arange(n_volumes) * _T_R
        varied = 0.3 * random.normal(size=(len(order), n_voxels)) * responds
        amplitude = means[order] + varied
        series = np.full((n_volumes, n_voxels), 100.0)
        for shape in dict.fromkeys(shapes):
            same = np.array([own == shape for own in shapes])
            regressors = event_regressors(times, onsets, durations, shape) * shape.scale
            series[:, same] += regressors @ amplitude[:, same]
        own = lfilter([1], [1, -0.3], random.normal(size=series.shape), axis=0)
        shared = lfilter([1], [1, -0.5], random.normal(size=(n_volumes, 4)), axis=0)
        mixed = np.sqrt(0.51) * own * np.sqrt(0.91)
        mixed += 0.7 * np.sqrt(0.75) * (shared @ loadings) / 2
        drifts = np.cos(np.pi * np.outer((np.arange(n_volumes) + 0.5) / n_volumes, [1, 2]))
        series += noise * mixed + drifts @ random.normal(size=(2, n_voxels))
        image = nibabel.Nifti1Image(series.T.reshape(n_voxels, 1, 1, -1).astype("f4"), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((1, 1, 1, _T_R))
        bold.append(folder / f"sub-01_task-images_run-{run}_bold.nii")
        nibabel.save(image, bold[-1])
        table = pd.DataFrame(
            {"onset": onsets, "duration": durations, "trial_type": [f"c{c:03d}" for c in order]}
        )
        events.append(folder / f"sub-01_task-images_run-{run}_events.tsv")
        table.to_csv(events[-1], sep="\t", index=False)
        amplitudes.append(amplitude)
    return bold, events, (n_voxels, 1, 1), np.concatenate(amplitudes)


def _random_shape(random: np.random.Generator) -> HrfShape:
    """Draw a response that is none of the library's."""
    return HrfShape(
        delay=random.uniform(4.5, 8),
        undershoot=random.uniform(11, 16),
        dispersion=random.uniform(0.7, 1.2),
        undershoot_dispersion=1.0,
        ratio=random.uniform(0.1, 0.5),
    )


def _large(setup: Setup) -> Sequence[Row]:
    """Time 60 trials × 10 runs × 20,000 voxels."""
    n_voxels, n_runs = setup.pick(20_000, 500), setup.pick(10, 3)
    folder = setup.scratch / "single_trials_large"
    _simulate(
        folder,
        0,
        1.0,
        canonical=True,
        n_voxels=n_voxels,
        n_runs=n_runs,
        n_conditions=30,
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.single_trials", str(folder)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    what = f"60 trials × {n_runs} runs × {n_voxels:,} voxels, all three"
    note = (
        f"{told['cpu']:.0f} CPU s, one thread, load {os.getloadavg()[0]:.1f}; time "
        f"courses {told['inputs']:.0f} MiB, not counted as extra"
    )
    return [
        Row(what=what, value=told["wall"], unit="s", sense="<=", bound=120.0, note=note),
        Row(
            what=f"{what}: memory above the time courses",
            value=told["mib"],
            unit="MiB",
            sense="<=",
            bound=1024.0,
            note="peak of a fresh process above what it held after imports",
        ),
    ]


def main(folder: Path) -> None:
    """Fit the large study, and print time and memory as JSON."""
    import nilearn.glm.first_level  # noqa: F401
    import scipy.sparse  # noqa: F401

    bold = sorted(folder.glob("*_bold.nii"))
    runs = read_runs(bold, sorted(folder.glob("*_events.tsv")))
    n_voxels = runs[0].n_volumes and int(np.prod(_shape_of(bold[0])))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu, wall = time.process_time(), time.perf_counter()
    estimate_betas(
        runs,
        {"all": np.ones(_shape_of(bold[0]), dtype=bool)},
        noise_model="ols",
        units="raw",
        single_trials=_EVERYTHING,
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    inputs = sum(run.n_volumes for run in runs) * n_voxels * 8 / 2**20
    print(json.dumps({"wall": wall, "cpu": cpu, "inputs": inputs, "mib": peak - before - inputs}))


def _shape_of(path: Path) -> tuple[int, int, int]:
    import nibabel

    image: Any = nibabel.load(path)
    i, j, k = image.shape[:3]
    return i, j, k


if __name__ == "__main__":
    main(Path(sys.argv[1]))
