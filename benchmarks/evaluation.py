"""E1 to E3: metrics of images, divergence of distances, and a published analysis of variance, each with its time.

E3 runs in a fresh process (``python -m benchmarks.evaluation FILE``), which imports first and then
takes the time.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.networks import peer
from benchmarks.timing import clocked, interleave

_SIX = ("ssim", "psnr", "vif", "rase", "scc", "tv")
_LOOSE: Mapping[str, float] = {"ssim": 5e-4, "vif": 5e-4, "scc": 1e-3}
"""Largest absolute difference from torchmetrics beside 1e-4 of the value: it sums up in another order, in float32."""
_GOLDEN = ("242.218", "0.927")
"""F(1, 19) and partial eta squared of ResNet-50 against its robust twin, Feather et al. (2023)."""


@contextlib.contextmanager
def _two_threads() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -------------------------------------------------------------------------------- metrics of images


def measure_image_quality(setup: Setup) -> Sequence[Row]:
    """E1."""
    n, each = setup.pick(400, 8), setup.pick(16, 4)
    images, references = _pairs(n)
    few = images[:each], references[:each]
    with _two_threads():
        rows = _beside_torchmetrics(few, setup.pick(3, 1))
        cpu, wall, _ = clocked(lambda: _measured(images, references))
    return [_in_time(f"six metrics, {n} pairs, 224 px, 2 threads", cpu, wall), *rows]


def _in_time(what: str, cpu: float, wall: float) -> Row:
    return Row(what=what, value=wall, unit="s", sense="<=", bound=60.0, note=f"{cpu:.1f} CPU s")


def _pairs(n: int, side: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """Make smooth random pictures and noisy copies, 8 bits."""
    from scipy.ndimage import zoom

    random = np.random.default_rng(0)
    coarse = random.random((n, 3, 14, 14)).astype(np.float32)
    references = np.stack(
        [np.stack([zoom(one, side / 14, order=1) for one in image]) for image in coarse]
    )
    images = references + 0.05 * random.standard_normal(references.shape, dtype=np.float32)
    images, references = (
        np.rint(255 * one.clip(0, 1)).astype(np.float32) / 255 for one in (images, references)
    )
    return images, references


def _measured(images: np.ndarray, references: np.ndarray) -> Mapping[str, np.ndarray]:
    from neurometamer.evaluation.image_quality import measure_images

    return measure_images(images, references)


def _beside_torchmetrics(few: tuple[np.ndarray, np.ndarray], rounds: int) -> list[Row]:
    """Compare values, then times; other values would make the times worth nothing."""
    try:
        classes = _classes()
    except NotAvailable as error:
        return [Row(what="torchmetrics, image by image / ours", value=None, note=str(error))]
    cases: dict[str, Callable[[], Any]] = {
        "ours": lambda: _measured(*few),
        "torchmetrics": lambda: _one_by_one(classes, *few),
    }
    off = _most_off(*(call() for call in cases.values()))
    times = interleave(cases, rounds)
    return [
        Row(
            what="torchmetrics, image by image / ours",
            value=times["torchmetrics"].cpu / times["ours"].cpu,
            unit="times faster",
            sense=">=",
            bound=1.5,
            note=f"CPU time of {len(few[0])} pairs; wall "
            f"{times['torchmetrics'].wall / times['ours'].wall:.1f} times; "
            f"values differ by {off:.1g} at most",
        ),
    ]


def _most_off(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """Refuse other values, and give the largest difference."""
    for name in _SIX:
        np.testing.assert_allclose(
            ours[name], theirs[name], atol=_LOOSE.get(name, 0), rtol=1e-4, err_msg=name
        )
    return max(
        float(np.abs(np.asarray(ours[name]) - np.asarray(theirs[name])).max()) for name in _SIX
    )


def _classes() -> dict[str, tuple[Any, float, int]]:
    """Name to torchmetrics' class, the scale of pixels that it needs, and how many images it takes."""
    image = peer(lambda: importlib.import_module("torchmetrics.image"), "torchmetrics")
    return {
        "ssim": (image.StructuralSimilarityIndexMeasure(data_range=1.0), 1, 2),
        "psnr": (image.PeakSignalNoiseRatio(data_range=1.0), 1, 2),
        "vif": (image.VisualInformationFidelity(), 255, 2),
        "rase": (image.RelativeAverageSpectralError(), 1, 2),
        "scc": (image.SpatialCorrelationCoefficient(), 1, 2),
        "tv": (image.TotalVariation(reduction="mean"), 1, 1),
    }


def _one_by_one(
    classes: Mapping[str, tuple[Any, float, int]], images: np.ndarray, references: np.ndarray
) -> dict[str, list[float]]:
    import torch

    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for name, (metric, scale, inputs) in classes.items():
            found[name] = []
            for x, y in zip(torch.from_numpy(images), torch.from_numpy(references), strict=True):
                metric.reset()
                metric.update(*[scale * one[None] for one in (x, y)][:inputs])
                found[name].append(float(metric.compute()) / (x.numel() if name == "tv" else 1))
    return found


# -------------------------------------------------------------------------- divergence of distances


def measure_divergence(setup: Setup) -> Sequence[Row]:
    """E2."""
    from neurometamer.evaluation.divergence import representational_divergence

    n, evaluators, shuffles = 80, setup.pick(31, 2), setup.pick(1000, 50)
    random = np.random.default_rng(0)
    activations = [
        [spread * random.standard_normal((n, 2048)) for spread in (1.0, 1 + 0.02 * k)]
        for k in range(evaluators)
    ]

    def permuted() -> None:
        for pair in activations:
            representational_divergence(*pair, n_permutations=shuffles)

    with _two_threads():
        cpu, wall, _ = clocked(permuted)
    return [
        _in_time(
            f"{n} images × {evaluators} evaluators (2048 units), {shuffles} permutations, 2 "
            "threads",
            cpu,
            wall,
        ),
    ]


# ------------------------------------------------------------------------- the analysis of variance


def measure_anova(setup: Setup) -> Sequence[Row]:
    """E3."""
    path = setup.data / "metamer_behaviour" / "feather2023_resnet50.csv" if setup.data else None
    if path is None or not path.is_file():
        raise NotAvailable(
            "the table of Feather et al. (2023) is not here; see NEUROMETAMER_TEST_DATA"
        )
    peer(lambda: importlib.import_module("pingouin"), "pingouin")
    found = [_in_fresh_process(path) for _ in range(setup.pick(3, 1))]
    for one in found:
        if (got := (f"{one['F']:.3f}", f"{one['eta2_p']:.3f}")) != _GOLDEN:
            raise AssertionError(f"F and partial eta squared are {got}, not {_GOLDEN}")
    note = (
        f"F(1, 19) = {_GOLDEN[0]}; median of {len(found)} fresh processes; imports "
        f"{found[-1]['imports']:.1f} s more"
    )
    seconds = median(one["seconds"] for one in found)
    what = "read, complete and analyze 20 people × 2 models × 8 stages"
    return [Row(what=what, value=seconds, unit="s", sense="<=", bound=2.0, note=note)]


def _in_fresh_process(path: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.evaluation", str(path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(path: str) -> None:
    """Import, then analyze the published table and print F, and seconds of both, as JSON."""
    begun = time.perf_counter()
    for name in (
        "pingouin",
        *(f"neurometamer.behavior.{one}" for one in ("anova", "curves", "trials")),
    ):
        importlib.import_module(name)
    from neurometamer.behavior import (
        complete_profiles,
        proportion_cells,
        read_recognition,
        repeated_anova,
    )

    imported = time.perf_counter()
    cells = proportion_cells(read_recognition(path))
    people = cells[cells["observer"] == "human"]
    models, stages = ["resnet50", "resnet50_l2_3_robust"], list(dict.fromkeys(people["stage"]))
    row = repeated_anova(complete_profiles(people, models, stages)).set_index("source").loc["model"]
    seconds = time.perf_counter() - imported
    told = {
        "F": float(row["F"]),
        "eta2_p": float(row["eta2_p"]),
        "seconds": seconds,
        "imports": imported - begun,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
