"""F5: bias of noise ceilings averaged over the voxels of a region, over simulated studies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.bars import Row, Setup

BAR = 0.03
"""Largest bias of a ceiling averaged over voxels, as a share of variance and as its root."""

IMAGES = (40, 200)
REPEATS = {"2": (2,), "3": (3,), "10": (10,), "1 to 4": (1, 2, 3, 4)}
"""Presentations of each image, in turn."""

REGIONS = ("no signal", "weak", "middling", "half of the voxels", "strong")
WITH_SIGNAL = ("weak", "middling", "strong")
WITHOUT_SIGNAL = ("no signal", "half of the voxels")
"""Regions with voxels that have none."""

VOXELS = 200


def _signal_variances(region: str, random: np.random.Generator) -> np.ndarray:
    """Draw the variance of each voxel's signal, the noise of single presentations being 1."""
    shares = {
        "no signal": np.zeros(VOXELS),
        "weak": 0.8 * random.beta(1, 9, VOXELS),
        "middling": 0.8 * random.beta(2, 4, VOXELS),
        "half of the voxels": 0.8 * random.beta(4, 4, VOXELS) * (np.arange(VOXELS) % 2),
        "strong": 0.8 * random.beta(8, 2, VOXELS),
    }[region]
    return np.asarray(shares / (1 - shares))


def _simulate(variances: np.ndarray, codes: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw responses: signal in 30 dimensions of falling size, a fifth of the noise shared."""
    n_images = codes.max() + 1
    scales = np.arange(1, 31) ** -0.5
    mixing = scales[:, np.newaxis] * random.standard_normal((30, VOXELS))
    mixing /= np.linalg.norm(mixing, axis=0)
    signal = random.standard_normal((n_images, 30)) @ mixing * np.sqrt(variances)
    shared = random.standard_normal((5, VOXELS))
    shared *= np.sqrt(0.2) / np.linalg.norm(shared, axis=0)
    noise = np.sqrt(0.8) * random.standard_normal((len(codes), VOXELS))
    noise += random.standard_normal((len(codes), 5)) @ shared
    sizes = random.uniform(0.5, 2, VOXELS)
    return np.asarray((signal[codes] + noise) * sizes)


def measure_ceilings(setup: Setup) -> Sequence[Row]:
    """F5.

    Parameters
    ----------
    setup : Setup
        How to run.

    Returns
    -------
    sequence of Row
        Bias of each design, the largest over regions, and of ceilings clipped voxel by voxel.
    """
    from fmri.variances import response_variances

    studies = setup.pick(400, 8)
    rows = []
    for n_images in IMAGES:
        for name, cycle in REPEATS.items():
            counts = np.resize(cycle, n_images)
            codes = np.repeat(np.arange(n_images), counts)
            labels = [f"c{code:03d}" for code in codes]
            repeats = 1 / np.mean(1 / counts)
            biases = {}
            for region in REGIONS:
                errors = []
                of_means = []
                for seed in range(studies):
                    random = np.random.default_rng(
                        [seed, n_images, len(cycle), REGIONS.index(region)]
                    )
                    planted = _signal_variances(region, random)
                    truth = planted / (planted + 1 / repeats)
                    variances = response_variances(_simulate(planted, codes, random), labels)
                    share = variances.nc - truth.mean()
                    r = variances.r - np.sqrt(truth.mean())
                    clipped = variances.ceiling.mean() - truth.mean()
                    clipped_r = np.sqrt(variances.ceiling.mean()) - np.sqrt(truth.mean())
                    clipped_mean = np.sqrt(variances.ceiling).mean() - np.sqrt(truth).mean()
                    errors.append([share, r, clipped, clipped_r, clipped_mean])
                    if seed % 8 == 0:  # an iteration, and slow
                        of_means.append(variances.mean_r - np.sqrt(truth).mean())
                share, r, *clipped_ones = np.mean(errors, axis=0)
                biases[region] = np.array([share, r, np.mean(of_means), *clipped_ones])
            rows += _rows(f"{n_images} images × {name}", biases, studies)
    return rows


def _rows(design: str, biases: dict[str, np.ndarray], studies: int) -> list[Row]:
    """Write the largest biases of a design, and those of all regions as a note."""
    rows = []
    averages = {
        "share of variance (nc)": (0, REGIONS, BAR),
        "its root (r)": (1, REGIONS, BAR),
        "mean of correlations (mean_r), all voxels with signal": (2, WITH_SIGNAL, BAR),
        "mean of correlations (mean_r), half or none": (2, WITHOUT_SIGNAL, None),
    }
    for what, (column, regions, bound) in averages.items():
        of_regions = [f"{region} {biases[region][column]:+.3f}" for region in regions]
        clipped = max(abs(biases[region][column + 3]) for region in regions)
        note = f"{studies if column < 2 else studies // 8} studies; {', '.join(of_regions)}; "
        note += f"voxels clipped at 0: up to {clipped:.3f}"
        if bound is None:
            note += "; no bar: a root has no unbiased estimate at 0"
        rows.append(
            Row(
                what=f"{design}: bias of the mean ceiling over {VOXELS} voxels, {what}",
                value=max(abs(float(biases[region][column])) for region in regions),
                sense="<=" if bound else "",
                bound=bound,
                note=note,
            )
        )
    return rows
