"""F1, F2 and F3: voxels out of NIfTI and HDF5 files, and single-trial betas, beside nilearn and h5py.

Values are compared before any time counts. Both sides run in this process on one thread, by CPU
time, the file in the page cache; memory is measured in fresh processes
(``python -m benchmarks.extraction CASE FILE``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import gzip
import importlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import nibabel
import nibabel.volumeutils  # belongs to the libraries, not to the memory of reading
import numpy as np
import pandas as pd

from benchmarks.bars import Row, Setup
from benchmarks.timing import clocked
from fmri import event_design, read_hdf5_voxels, read_run, read_voxels
from fmri.betas.estimate import EVENT_MODELS, estimate_betas
from fmri.bold import BoldRun
from fmri.extraction import read_series

_RADIUS = 6
_SAME = 1e-10


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _best(cases: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Time calls in turn, and give the CPU seconds of the fastest round of each."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            seconds[name].append(clocked(call)[0])
    return {name: min(measured) for name, measured in seconds.items()}


def _faster(what: str, ours: float, theirs: float, bound: float | None, note: str = "") -> Row:
    return Row(
        what=what,
        value=theirs / ours,
        unit="times faster",
        sense=">=" if bound else "",
        bound=bound,
        note=f"{_times(ours, theirs)}{note and '; '}{note}",
    )


def _within(what: str, ours: float, bare: float, bound: float | None, note: str = "") -> Row:
    return Row(
        what=what,
        value=ours / bare,
        unit="ratio",
        sense="<=" if bound else "",
        bound=bound,
        note=f"{_times(ours, bare)}{note and '; '}{note}",
    )


def _times(ours: float, theirs: float) -> str:
    load = os.getloadavg()[0]
    return f"{ours:.4f} against {theirs:.4f} CPU s, one thread, load {load:.1f}"


# -------------------------------------------------------------------------------------------- NIfTI


def measure_nifti(setup: Setup) -> Sequence[Row]:
    """F1."""
    shape = (72, 72, 60, 400) if not setup.quick else (24, 24, 20, 40)
    plain = setup.scratch / "sub-01_bold.nii"
    packed = plain.with_suffix(".nii.gz")
    _write_run(plain, shape)
    with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 2**20)
    rows = []
    with _one_thread():
        for n_regions in (5, 20):
            mask = _regions(shape[:3], n_regions)
            rows += _plain(plain, mask, n_regions, setup)
        rows += _packed(packed, _regions(shape[:3], 5), setup)
    return [*rows, *_memory(plain, packed, setup)]


def _write_run(path: Path, shape: tuple[int, ...]) -> None:
    """Write int16 values like those of a scanner, volume by volume."""
    random = np.random.default_rng(0)
    mean = random.integers(300, 1500, shape[:3])
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header["vox_offset"] = 352
    header.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), 1)
    with path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(shape[3]):
            noise = random.normal(0, 12, shape[:3]).astype(np.int16)
            volume = (mean + noise).astype("<i2")
            file.write(volume.tobytes(order="F"))


def _regions(grid: tuple[int, ...], n_regions: int) -> np.ndarray:
    """Place spheres; give the mask of all of them."""
    random = np.random.default_rng(n_regions)
    radius = min(_RADIUS, min(grid) // 4)
    indices = np.indices(grid)
    mask = np.zeros(grid, dtype=bool)
    for _ in range(n_regions):
        center = [random.integers(radius, size - radius) for size in grid]
        squares = [(along - at) ** 2 for along, at in zip(indices, center, strict=True)]
        mask |= sum(squares) <= radius**2
    return mask


def _places(mask: np.ndarray) -> np.ndarray:
    return np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")


def _plain(path: Path, mask: np.ndarray, n_regions: int, setup: Setup) -> list[Row]:
    """Time a plain file against nilearn, and against a gather written in two lines."""
    from nilearn.maskers import NiftiMasker

    image = nibabel.load(path)
    masker = NiftiMasker(nibabel.Nifti1Image(mask.astype(np.uint8), image.affine), standardize=None)
    masker.fit()
    places, n_volumes = _places(mask), image.shape[3]

    def bare() -> np.ndarray:
        volumes = np.memmap(path, "<i2", "r", 352, (n_volumes, mask.size))
        return volumes[:, places]

    def bare_by_volume() -> np.ndarray:
        volumes = np.memmap(path, "<i2", "r", 352, (n_volumes, mask.size))
        return np.stack([volume[places] for volume in volumes])

    def peer() -> np.ndarray:
        return masker.transform(nibabel.load(path))

    ours = read_voxels(path, mask)
    np.testing.assert_array_equal(ours, peer())
    np.testing.assert_array_equal(ours, bare())
    cases: dict[str, Callable[[], Any]] = {
        "ours": lambda: read_voxels(path, mask),
        "as stored": lambda: read_series(path, mask),
        "bare": bare,
        "by volume": bare_by_volume,
        "file": functools.partial(_read_file, path, 2 * mask.size),
    }
    seconds = _best(cases, setup.pick(9, 2))
    theirs = _best({"peer": peer}, setup.pick(2, 1))["peer"]
    what = f"{n_regions} regions ({len(places)} voxels) of .nii"
    bounds = (None, None) if setup.quick else (50.0, 1.3)
    return [
        _faster(
            f"{what}: NiftiMasker on the union",
            seconds["ours"],
            theirs,
            bounds[0],
            "bit-equal; most that is possible: reading the file without taking anything is "
            f"{theirs / seconds['file']:.0f} times faster, the bare gather "
            f"{theirs / seconds['bare']:.0f}",
        ),
        _faster(f"{what}: the same, as integers (read_series)", seconds["as stored"], theirs, None),
        _within(
            f"{what}: a bare memory-map gather of integers",
            seconds["ours"],
            seconds["bare"],
            bounds[1],
            f"volume by volume the bare gather takes {seconds['by volume']:.4f}",
        ),
    ]


def _read_file(path: Path, n_bytes: int) -> None:
    """Read a file into one buffer, volume by volume, and do nothing with it."""
    buffer = bytearray(n_bytes)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _packed(path: Path, mask: np.ndarray, setup: Setup) -> list[Row]:
    """Time a compressed file against nilearn, and against decompression with nothing else."""
    from nilearn.maskers import NiftiMasker

    image = nibabel.load(path)
    masker = NiftiMasker(nibabel.Nifti1Image(mask.astype(np.uint8), image.affine), standardize=None)
    masker.fit()
    n_bytes = 2 * mask.size

    def inflate(library: Any) -> None:
        buffer = bytearray(n_bytes)
        with library.open(path, "rb") as file:
            while file.readinto(buffer):
                pass

    def peer() -> np.ndarray:
        return masker.transform(nibabel.load(path))

    np.testing.assert_array_equal(read_voxels(path, mask), peer())
    theirs = _best({"peer": peer}, 1)["peer"]
    rows = []
    for name in ("gzip", "isal.igzip"):
        what = f"5 regions of .nii.gz by {name}"
        package = name.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            rows.append(Row(what=what, value=None, note="isal is not installed"))
            continue
        bare = functools.partial(inflate, importlib.import_module(name))
        hidden = {"isal": None} if package == "gzip" else {}
        with mock.patch.dict(sys.modules, hidden):
            cases = {"ours": lambda: read_voxels(path, mask), "bare": bare}
            seconds = _best(cases, setup.pick(3, 1))
        bound = None if setup.quick else 1.15
        rows.append(_within(f"{what}: bare decompression", *seconds.values(), bound))
        rows.append(_faster(f"{what}: NiftiMasker", seconds["ours"], theirs, None, "bit-equal"))
    return rows


def _memory(plain: Path, packed: Path, setup: Setup) -> list[Row]:
    """Measure peaks in fresh processes, of this run and of one four times as long."""
    shape = nibabel.load(plain).shape
    longer = plain.with_name("longer.nii")
    _write_run(longer, (*shape[:3], 4 * shape[3]))
    rows = []
    for path, name in ((plain, ".nii"), (longer, ".nii, four times as long"), (packed, ".nii.gz")):
        rows.append(
            Row(
                what=f"memory of reading 5 regions of {name}, above the result",
                value=_measure(path),
                unit="MiB",
                sense="<=",
                bound=50.0,
                note=f"{path.stat().st_size / 2**20:.0f} MiB on disk; fresh process, mapped pages "
                "included",
            )
        )
    return rows


def _measure(path: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.extraction", str(path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return float(json.loads(done.stdout.splitlines()[-1])["mib"])


def _status(field: str) -> float:
    """Read a field of /proc in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def main(path: str) -> None:
    """Read a run once, and print the peak above the memory before it and the result."""
    mask = _regions(nibabel.load(path).shape[:3], 5)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    values = read_voxels(path, mask)
    peak = _status("VmHWM") - before - values.nbytes / 2**20
    print(json.dumps({"mib": peak}))


# --------------------------------------------------------------------------------------------- HDF5


def measure_hdf5(setup: Setup) -> Sequence[Row]:
    """F2."""
    shape = (750, 60, 80, 60) if not setup.quick else (40, 20, 24, 20)
    mask = _ball(shape[1:], 8278 if not setup.quick else 300)
    layouts = {
        "contiguous": None,
        "a trial a chunk": (1, *shape[1:]),
        "voxel chunks": (shape[0], 8, 8, 8),
        "a voxel a chunk": (shape[0], 1, 1, 1),
    }
    rows = []
    with _one_thread():
        for name, chunks in layouts.items():
            path = setup.scratch / "betas.h5"
            _write_trials(path, shape, chunks)
            with h5py.File(path, "r") as file:
                rows += _hdf5(file["betas"], mask, name, setup)
            path.unlink()
    return rows


def _ball(grid: tuple[int, ...], n_voxels: int) -> np.ndarray:
    """Give the voxels nearest to two places of a volume."""
    indices = np.indices(grid)
    far = np.full(grid, np.inf)
    for share in (0.3, 0.6):
        squares = [(along - share * size) ** 2 for along, size in zip(indices, grid, strict=True)]
        far = np.minimum(far, sum(squares))
    mask = np.zeros(grid, dtype=bool)
    mask.flat[np.argsort(far.ravel(), kind="stable")[:n_voxels]] = True
    return mask


def _write_trials(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...] | None) -> None:
    random = np.random.default_rng(1)
    # chunks of all trials are written at once, others trial by trial
    along = 0 if chunks is None or chunks[0] == 1 else 1
    step = 50 if along == 0 else chunks[1]
    with h5py.File(path, "w") as file:
        data = file.create_dataset("betas", shape, "i2", chunks=chunks)
        for first in range(0, shape[along], step):
            part = [slice(None)] * len(shape)
            part[along] = slice(first, min(first + step, shape[along]))
            size = list(shape)
            size[along] = part[along].stop - first
            data[tuple(part)] = random.integers(-9000, 9000, size, dtype=np.int16)


def _by_line(data: h5py.Dataset, mask: np.ndarray) -> np.ndarray:
    """Read the voxels of each line of the last axis at once."""
    places = np.flatnonzero(mask)
    values = np.empty((len(data), len(places)), dtype=np.int16)
    lines = places // mask.shape[2]
    for line in np.unique(lines):
        i, j = divmod(int(line), mask.shape[1])
        along = places[lines == line] % mask.shape[2]
        read = data[:, i, j, along[0] : along[-1] + 1]
        values[:, lines == line] = read[:, along - along[0]]
    return values


def _hdf5(data: h5py.Dataset, mask: np.ndarray, name: str, setup: Setup) -> list[Row]:
    """Time reading against all plans written by hand, and against the usual recipe."""
    places = np.flatnonzero(mask)

    def by_trial() -> np.ndarray:
        values = np.empty((len(data), len(places)), dtype=np.int16)
        volume = np.empty(mask.shape, dtype=np.int16)
        for trial, row in enumerate(values):
            data.read_direct(volume, np.s_[trial])
            volume.reshape(-1).take(places, out=row, mode="clip")
        return values

    def mapped() -> np.ndarray:
        offset = data.id.get_offset()
        shape = (len(data), mask.size)
        return np.memmap(data.file.filename, np.int16, "r", offset, shape)[:, places]

    def by_chunk() -> np.ndarray:
        values = np.empty((len(data), len(places)), dtype=np.int16)
        numbers = np.full(mask.shape, -1)
        numbers[mask] = np.arange(len(places))
        for part in data.iter_chunks():
            here = numbers[part[1:]]
            if (here >= 0).any():
                values[:, here[here >= 0]] = data[part][:, here >= 0]
        return values

    def recipe() -> np.ndarray:
        return (data[:].astype(np.float64) / 300)[:, mask]

    plans: dict[str, Callable[[], np.ndarray]] = {
        "contiguous": {"mapped": mapped, "by trial": by_trial},
        "a trial a chunk": {"by trial": by_trial},
        "voxel chunks": {"by chunk": by_chunk},
        "a voxel a chunk": {"by line": functools.partial(_by_line, data, mask)},
    }[name]
    ours = read_hdf5_voxels(data, mask)
    for plan in plans.values():
        np.testing.assert_array_equal(ours, plan())
    np.testing.assert_array_equal(ours / 300, recipe())
    seconds = _best({"ours": lambda: read_hdf5_voxels(data, mask), **plans}, setup.pick(5, 1))
    scaled = _best({"ours": lambda: read_hdf5_voxels(data, mask) / 300.0}, setup.pick(3, 1))["ours"]
    theirs = _best(
        {"recipe": recipe, "integers": lambda: data[:][:, mask]},
        setup.pick(2, 1) if plans.keys() != {"by line"} else 1,
    )
    best = min(plans, key=lambda plan: seconds[plan])
    what = f"{len(places)} voxels of {len(data)} trials, {name}"
    bounds = (None, None) if setup.quick else (2.0, 20.0)
    return [
        _within(f"{what}: the best plan ({best})", seconds["ours"], seconds[best], bounds[0]),
        _faster(
            f"{what}: reading all, scaling, masking",
            scaled,
            theirs["recipe"],
            bounds[1],
            f"all as integers, masked, without scaling: {theirs['integers']:.3f}; the recipe's "
            "3.4 GB of floats took 0.25 to 2.9 CPU s on one machine, by the state of its memory",
        ),
    ]


# -------------------------------------------------------------------------------------------- betas


def measure_betas(setup: Setup) -> Sequence[Row]:
    """F3."""
    rows = []
    with _one_thread():
        for n_trials in (setup.pick(120, 12), setup.pick(600, 20)):
            rows += _betas(n_trials, setup)
    return rows


def _trial_run(setup: Setup, n_trials: int, n_voxels: int) -> tuple[Path, pd.DataFrame, np.ndarray]:
    """Write a run of one trial every five seconds, with autoregressive noise."""
    random = np.random.default_rng(n_trials)
    onsets = 4 + 5 * np.arange(n_trials) + random.integers(0, 3, n_trials)
    events = pd.DataFrame({"onset": onsets, "duration": 2.0})
    events["trial_type"] = [f"image{number % (n_trials // 2)}" for number in range(n_trials)]
    n_volumes = math.ceil((onsets[-1] + 20) / 2)
    series = random.normal(size=(n_volumes, n_voxels))
    rho = random.uniform(0, 0.6, n_voxels)
    for volume in range(1, n_volumes):
        series[volume] += rho * series[volume - 1]
    values = (1000 + 8 * series).astype(np.float32)
    side = round(math.sqrt(n_voxels / 2))
    grid = (side, n_voxels // (2 * side), 2)
    mask = np.ones(grid, dtype=bool)
    volumes = values[:, : mask.size].T.reshape(*grid, n_volumes)
    image = nibabel.Nifti1Image(volumes, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_zooms((2.0, 2.0, 2.0, 2.0))
    image.header.set_xyzt_units("mm", "sec")
    path = setup.scratch / f"sub-01_run-{n_trials}_bold.nii"
    nibabel.save(image, path)
    return path, events, mask


def _nilearn(series: np.ndarray, design: np.ndarray, n_events: int, noise: str) -> np.ndarray:
    from nilearn.glm.first_level import run_glm

    labels, results = run_glm(series, design, noise_model=noise)
    betas = np.empty((n_events, series.shape[1]))
    for label, result in results.items():
        betas[:, labels == label] = result.theta[:n_events]
    return betas


def _separate(design: np.ndarray, n_events: int, trial: int) -> np.ndarray:
    events = design[:, :n_events]
    others = events.sum(axis=1) - events[:, trial]
    return np.column_stack([events[:, trial], others, design[:, n_events:]])


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A run, and what is timed on it."""

    setup: Setup
    run: BoldRun
    mask: np.ndarray
    n: int
    few: list[int]

    @functools.cached_property
    def design(self) -> np.ndarray:
        return event_design(self.run)[1].to_numpy()

    @functools.cached_property
    def series(self) -> np.ndarray:
        return read_voxels(self.run.image, self.mask)

    def fit(self, estimator: str, noise: str) -> np.ndarray:
        return EVENT_MODELS[estimator](self.design, self.n, noise)(self.series)

    def whole(self, estimator: str, noise: str) -> Any:
        regions = {"all": self.mask}
        return estimate_betas([self.run], regions, noise_model=noise, estimator=estimator)

    def one(self, noise: str) -> np.ndarray:
        """Fit nilearn's model of all trials."""
        return _nilearn(self.series, self.design, self.n, noise)

    def loop(self, noise: str) -> np.ndarray:
        """Fit nilearn's model of each of some trials."""
        fitted = []
        for trial in self.few:
            separate = _separate(self.design, self.n, trial)
            fitted.append(_nilearn(self.series, separate, 1, noise)[0])
        return np.array(fitted)

    def designs(self) -> None:
        """Build nilearn's design of each of some trials."""
        from nilearn.glm.first_level import make_first_level_design_matrix

        for trial in self.few:
            names = np.where(np.arange(self.n) == trial, "this", "others")
            make_first_level_design_matrix(
                np.arange(self.run.n_volumes) * self.run.t_r,
                self.run.events[["onset", "duration"]].assign(trial_type=names),
                hrf_model="glover",
                high_pass=0.01,
            )


def _betas(n_trials: int, setup: Setup) -> list[Row]:
    """Time fits against run_glm, and the whole call against nilearn's loop with its designs."""
    path, events, mask = _trial_run(setup, n_trials, setup.pick(5000, 200))
    few = list(range(0, n_trials, max(1, n_trials // 8)))
    case = _Case(setup=setup, run=read_run(path, events), mask=mask, n=n_trials, few=few)
    of_designs = _best({"": case.designs}, setup.pick(2, 1))[""] * n_trials / len(few)
    rows = []
    for noise, bound in (("ols", 100.0), ("ar1", 5.0)):
        rows += _of_noise(case, noise, None if setup.quick else bound, of_designs)
    return rows


def _of_noise(case: _Case, noise: str, bound: float | None, of_designs: float) -> list[Row]:
    shown = f"{case.n} trials × {case.series.shape[1]} voxels × {len(case.series)} volumes, {noise}"
    off = _agree(case.fit("LSA", noise), case.one(noise))
    off_separate = _agree(case.fit("LSS", noise)[case.few], case.loop(noise))
    pick, is_white = case.setup.pick, noise == "ols"
    calls = {}
    for name in ("LSA", "LSS"):
        calls[name] = functools.partial(case.fit, name, noise)
    ours = _best(calls, pick(5 if is_white else 2, 1))
    peers = {
        "LSA": functools.partial(case.one, noise),
        "LSS": functools.partial(case.loop, noise),
    }
    theirs = _best(peers, pick(2 if is_white else 1, 1))
    looped = theirs["LSS"] * case.n / len(case.few)
    from_few = f"theirs from {len(case.few)} trials, scaled"
    rows = [
        _faster(
            f"{shown}, LSS: a run_glm a trial",
            ours["LSS"],
            looped,
            bound,
            f"{from_few}; percent signal change differs by {off_separate:.0e} at most",
        ),
        _faster(f"{shown}, LSA: a run_glm a trial", ours["LSA"], looped, bound, from_few),
        _faster(
            f"{shown}, LSA: one run_glm",
            ours["LSA"],
            theirs["LSA"],
            None if is_white else bound,
            f"percent signal change differs by {off:.0e} at most",
        ),
    ]
    for name in ("LSA", "LSS"):
        call = functools.partial(case.whole, name, noise)
        seconds = _best({"": call}, pick(3, 1))[""]
        rows.append(
            _faster(
                f"{shown}, {name}: the whole call with file and designs",
                seconds,
                looped + of_designs,
                bound and min(10.0, bound),
                f"theirs: a design (in all {of_designs:.2f}) and a run_glm a trial, no file",
            )
        )
    return rows


def _agree(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Refuse other values, and give the largest difference in percent of the mean of 1000."""
    np.testing.assert_allclose(ours / 10, theirs / 10, atol=_SAME, rtol=0)
    return float(np.abs(ours - theirs).max() / 10)


if __name__ == "__main__":
    main(sys.argv[1])
