"""Bars of the evaluation: one function a bar, which returns numbers; `python benchmarks/evaluation.py` prints them."""

from __future__ import annotations

import json
import time
from statistics import median

import numpy as np

SIX = ("ssim", "psnr", "vif", "rase", "scc", "tv")


def _pairs(n: int, side: int = 224) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random pictures and noisy copies, 8 bits."""
    from scipy.ndimage import zoom

    random = np.random.default_rng(0)
    coarse = random.random((n, 3, 14, 14)).astype(np.float32)
    references = np.stack([np.stack([zoom(one, side / 14, order=1) for one in image]) for image in coarse])
    images = references + 0.05 * random.standard_normal(references.shape, dtype=np.float32)
    return tuple(np.rint(255 * one.clip(0, 1)).astype(np.float32) / 255 for one in (images, references))


def _classes() -> dict[str, tuple[object, float, int]]:
    from torchmetrics import image

    return {
        "ssim": (image.StructuralSimilarityIndexMeasure(data_range=1.0), 1, 2),
        "psnr": (image.PeakSignalNoiseRatio(data_range=1.0), 1, 2),
        "vif": (image.VisualInformationFidelity(), 255, 2),
        "rase": (image.RelativeAverageSpectralError(), 1, 2),
        "scc": (image.SpatialCorrelationCoefficient(), 1, 2),
        "tv": (image.TotalVariation(reduction="mean"), 1, 1),
    }


def _one_by_one(images: np.ndarray, references: np.ndarray) -> dict[str, list[float]]:
    import torch

    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for name, (metric, scale, inputs) in _classes().items():
            found[name] = []
            for x, y in zip(torch.from_numpy(images), torch.from_numpy(references), strict=True):
                metric.reset()
                metric.update(*[scale * one[None] for one in (x, y)][:inputs])
                found[name].append(float(metric.compute()) / (x.numel() if name == "tv" else 1))
    return found


def image_quality(n: int = 400, rounds: int = 3, each: int = 16) -> dict[str, float]:
    """Six weight-free metrics of n pairs at 224 px (bar 60 s), and against torchmetrics' classes (bar 1.5 times)."""
    import torch

    from neurometamer.evaluation.image_quality import measure_images

    torch.set_num_threads(2)
    images, references = _pairs(n)
    few = slice(0, each)
    ours, theirs = [], []
    for _ in range(rounds):  # interleaved: the machine may be busy
        start = time.perf_counter()
        found = measure_images(images[few], references[few])
        middle = time.perf_counter()
        expected = _one_by_one(images[few], references[few])
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    for name in SIX:
        loose = {"ssim": 5e-4, "vif": 5e-4, "scc": 1e-3}.get(name, 0)
        np.testing.assert_allclose(found[name], expected[name], atol=loose, rtol=1e-4)
    start = time.perf_counter()
    measure_images(images, references)
    return {"seconds_all": time.perf_counter() - start, "times_faster": median(theirs) / median(ours)}


def divergence(n: int = 80, evaluators: int = 31, units: int = 2_048) -> dict[str, float]:
    """Divergence with 1,000 permutations and a bootstrap, n images × evaluators, given activations (bar 60 s)."""
    from neurometamer.evaluation.divergence import representational_divergence

    random = np.random.default_rng(0)
    activations = [
        (random.standard_normal((n, units)), (1 + 0.02 * k) * random.standard_normal((n, units)))
        for k in range(evaluators)
    ]
    start = time.perf_counter()
    for references, metamers in activations:
        representational_divergence(references, metamers, n_permutations=1_000, n_bootstrap=0)
    permuted = time.perf_counter() - start
    representational_divergence(*activations[0], n_permutations=0, n_bootstrap=1_000)
    return {"seconds": permuted, "bootstrap_seconds_an_evaluator": time.perf_counter() - start - permuted}


if __name__ == "__main__":
    print(json.dumps({"image_quality": image_quality(), "divergence": divergence()}, indent=2))
