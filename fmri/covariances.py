"""Covariances of signal and noise of voxels, from repeated presentations (GSN).

Means of images covary by the signal and what is left of the noise; presentations of an image by the
noise. `fmri.noise` tells both apart voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmri.noise import region_variances, typed_regions
from fmri.patterns import Patterns
from fmri.variances import ImageMeans, ResponseVariances, image_means, response_variances
from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.summaries import short_repr

MAX_FULL = 2000
"""Voxels up to which covariances are full; above, they are of low rank."""

LEVELS = np.linspace(0, 1, 51)
"""Shares of the covariance between voxels that may be kept."""

_ALIKE = 0.999
_ITERATIONS = 50


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Covariance:
    """Covariance of voxels: ``factors @ factors.T``, with more variance on its diagonal.

    Parameters
    ----------
    factors : ndarray, shape (n_voxels, rank)
        Directions times their standard deviations, the largest first.
    diagonal : ndarray, shape (n_voxels,)
        Variance of each voxel that the factors leave out; 0 or more.

    Examples
    --------
    >>> Covariance(factors=np.array([[1.0], [2.0]]), diagonal=np.array([0.5, 0.0])).matrix.tolist()
    [[1.5, 2.0], [2.0, 4.0]]
    """

    factors: np.ndarray
    diagonal: np.ndarray

    @property
    def matrix(self) -> np.ndarray:
        """The covariance.

        Returns
        -------
        ndarray, shape (n_voxels, n_voxels)
            Symmetric, no eigenvalue below 0.
        """
        matrix = self.factors @ self.factors.T
        own = np.diag(self.diagonal)
        return matrix + own

    @property
    def variances(self) -> np.ndarray:
        """Its diagonal.

        Returns
        -------
        ndarray, shape (n_voxels,)
            Variance of each voxel.
        """
        explained = np.einsum("ij,ij->i", self.factors, self.factors)
        return explained + self.diagonal


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class SignalNoise:
    """Covariances of signal and noise of the same voxels.

    Parameters
    ----------
    signal : Covariance
        Covariance of responses over images, without noise.
    noise : Covariance
        Covariance of single presentations of an image.
    variances : ResponseVariances
        Unbiased variances of each voxel by itself, unclipped.
    kept_signal, kept_noise : float
        Shares of the covariance between voxels that were kept of mean responses and of the noise,
        0 to 1 (no shrinkage).
    n_steps : int
        Steps of the optimization; 0 where there was none to do.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> values = np.tile(random.standard_normal((40, 5)), (3, 1)) + random.standard_normal((120, 5))
    >>> names = [f"image {number}" for number in range(40)] * 3
    >>> covariances = signal_noise(values, names)
    >>> covariances.signal.matrix.shape, covariances.noise.matrix.shape
    ((5, 5), (5, 5))
    """

    signal: Covariance
    noise: Covariance
    variances: ResponseVariances
    kept_signal: float
    kept_noise: float
    n_steps: int


@checked
def signal_noise(
    values: np.ndarray,
    conditions: Sequence[str],
    *,
    shrink: bool = True,
    max_full: int = MAX_FULL,
    rank: int = 200,
    seed: int = 0,
) -> SignalNoise:
    """Estimate the covariances of signal and noise of all voxels from repeated presentations.

    Parameters
    ----------
    values : ndarray, shape (n_presentations, n_voxels)
        Responses to single presentations of images of one type.
    conditions : sequence of str, length n_presentations
        Image of each.
    shrink : bool
        Shrink covariances between voxels toward 0, by as much as makes a left-out fifth of the
        images most likely.
    max_full : int
        With more voxels than this, covariances have low rank and are not shrunken.
    rank : int
        Largest rank of these.
    seed : int
        Seed of the choice of the left-out fifth.

    Returns
    -------
    SignalNoise
        Covariances without negative eigenvalues, and unbiased variances.

    Raises
    ------
    InputError
        See `response_variances`; also for a rank below 1.

    Notes
    -----
    Generative modeling of signal and noise (GSN): the signal's covariance is that of mean responses
    minus noise / repeats. Both are then brought nearest to what was estimated among matrices
    without negative eigenvalues, in turn, weighted by degrees of freedom, until neither changes
    (biconvex optimization; without shrinkage equal to the authors' code, 2025, to its stopping
    rule of r > .999). Unequal repeats enter by their harmonic mean, where the authors' code drops
    presentations. Low rank: the signal's nearest matrix is found within the span of the responses,
    without a voxel × voxel matrix where voxels outnumber responses, and without the turns; what the
    largest `rank` directions leave of the noise stays on its diagonal.

    References
    ----------
    Kay et al. (2025). Disentangling signal and noise in neural responses through generative
    modeling. PLOS Computational Biology 21 (GSN).

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> values = np.tile(random.standard_normal((40, 5)), (3, 1)) + random.standard_normal((120, 5))
    >>> names = [f"image {number}" for number in range(40)] * 3
    >>> signal_noise(values, names).signal.variances.round(1).tolist()
    [0.5, 1.0, 0.9, 1.2, 1.3]
    """
    if rank < 1:
        raise InputError(f"rank is {rank}; give at least 1.")
    parts = image_means(values, conditions, ())
    variances = response_variances(values, conditions)
    if values.shape[1] > max_full:
        signal, noise = _low_rank(parts, rank)
        return SignalNoise(
            signal=signal,
            noise=noise,
            variances=variances,
            kept_signal=1.0,
            kept_noise=1.0,
            n_steps=0,
        )
    centered = parts.means - parts.means.mean(axis=0)
    kept_signal = kept_noise = 1.0
    if shrink:
        n_images = len(centered)
        n_left_out = max(1, round(n_images / 5))
        random = generator(seed, "left out", n_images)
        order = random.permutation(n_images)
        left_out = np.zeros(n_images, dtype=bool)
        left_out[order[:n_left_out]] = True
        kept_noise = _kept(parts.residuals, left_out[parts.codes])
        kept_signal = _kept(parts.means, left_out)
    of_means = _shrunken(centered, len(centered) - 1, kept_signal)
    of_noise = _shrunken(parts.residuals, parts.dof, kept_noise)
    signal_factors, noise_factors, n_steps = nearest_covariances(
        of_means, of_noise, parts.repeats, len(centered) - 1, parts.dof
    )
    nothing = np.zeros(len(of_noise))
    return SignalNoise(
        signal=Covariance(factors=signal_factors, diagonal=nothing),
        noise=Covariance(factors=noise_factors, diagonal=nothing),
        variances=variances,
        kept_signal=kept_signal,
        kept_noise=kept_noise,
        n_steps=n_steps,
    )


def nearest_covariances(
    of_means: np.ndarray, of_noise: np.ndarray, repeats: float, dof_means: int, dof: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Bring signal and noise, in turn, nearest to the estimates without negative eigenvalues.

    Parameters
    ----------
    of_means, of_noise : ndarray, shape (n_voxels, n_voxels)
        Covariance of mean responses and of single presentations, as estimated.
    repeats : float
        Presentations of an image.
    dof_means, dof : int
        Degrees of freedom of both.

    Returns
    -------
    signal, noise : ndarray, shape (n_voxels, rank)
        Factors: each covariance is its factors times their transpose.
    n_steps : int
        Turns that changed something; see `signal_noise`.
    """
    weight = dof + dof_means / repeats**2
    signal, noise = of_means - of_noise / repeats, of_noise
    factors_of_signal = factors_of_noise = np.zeros((len(of_noise), 0))
    n_steps = 0
    while n_steps < _ITERATIONS:
        before = signal, noise
        factors_of_signal = _nearest(of_means - noise / repeats)
        signal = factors_of_signal @ factors_of_signal.T
        left = of_means - signal
        rest = dof * of_noise + dof_means / repeats * left
        factors_of_noise = _nearest(rest / weight)
        noise = factors_of_noise @ factors_of_noise.T
        if _alike(before[0], signal) and _alike(before[1], noise):
            break
        n_steps += 1
    return factors_of_signal, factors_of_noise, n_steps


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two matrices no longer differ, by the rule of the authors' code."""
    is_flat = not (np.ptp(first) and np.ptp(second))
    if first.size == 1 or is_flat:
        return np.allclose(first, second, rtol=0, atol=1e-5)
    correlations = np.corrcoef(first.ravel(), second.ravel())
    return bool(correlations[0, 1] > _ALIKE)


def _nearest(matrix: np.ndarray) -> np.ndarray:
    """Factors of the nearest matrix without negative eigenvalues, the largest first."""
    symmetric = (matrix + matrix.T) / 2
    lengths, directions = np.linalg.eigh(symmetric)
    rounding = 1e-12 * max(lengths.max(), 0)
    is_positive = lengths > rounding
    scales = np.sqrt(lengths[is_positive])
    factors = directions[:, is_positive] * scales
    return factors[:, ::-1]


def _shrunken(rows: np.ndarray, dof: int, kept: float) -> np.ndarray:
    """Covariance of rows, with this share of what is between voxels."""
    covariance = rows.T @ rows / dof
    variances = np.diag(covariance).copy()
    covariance *= kept
    np.fill_diagonal(covariance, variances)
    return covariance


def _kept(rows: np.ndarray, left_out: np.ndarray) -> float:
    """Choose the share of the covariance that makes the left-out rows most likely."""
    known = rows[~left_out]
    center = known.mean(axis=0)
    spread = known.std(axis=0)
    spread[spread == 0] = 1
    inside = (known - center) / spread
    outside = (rows[left_out] - center) / spread
    correlations = inside.T @ inside / len(inside)
    lengths, directions = np.linalg.eigh(correlations)
    # of every share at once: they have the same directions
    projected = (outside @ directions) ** 2
    sizes = projected.mean(axis=0)
    own = 1 - LEVELS
    shrunken = np.outer(LEVELS, lengths) + own[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = np.log(shrunken).sum(axis=1)
        costs += (sizes / shrunken).sum(axis=1)
    singular = shrunken.min(axis=1) < 1e-8
    costs[singular | ~np.isfinite(costs)] = np.inf
    return float(LEVELS[np.argmin(costs)])


def _low_rank(parts: ImageMeans, rank: int) -> tuple[Covariance, Covariance]:
    """Estimate both covariances within the span of the responses."""
    centered = parts.means - parts.means.mean(axis=0)
    n_images = len(centered)
    rows = np.concatenate(
        [
            centered / np.sqrt(n_images - 1),
            parts.residuals / np.sqrt(parts.dof),
        ]
    )
    if len(rows) < rows.shape[1]:
        # rows.T = basis @ weights: a difference of covariances is one of small matrices
        lengths, directions = np.linalg.eigh(rows @ rows.T)
        inside = lengths > 1e-10 * lengths.max()
        scales = np.sqrt(lengths[inside])
        basis = rows.T @ (directions[:, inside] / scales)
        weights = (directions[:, inside] * scales).T
    else:
        basis = np.eye(rows.shape[1])
        weights = rows.T
    of_means, of_noise = weights[:, :n_images], weights[:, n_images:]
    noise = of_noise @ of_noise.T
    signal = of_means @ of_means.T - noise / parts.repeats
    of_voxels = np.einsum("ij,ij->j", parts.residuals, parts.residuals) / parts.dof
    noise_factors = basis @ _nearest(noise)[:, :rank]
    explained = np.einsum("ij,ij->i", noise_factors, noise_factors)
    rest = np.clip(of_voxels - explained, 0, None)
    signal_factors = basis @ _nearest(signal)[:, :rank]
    nothing = np.zeros(len(rest))
    return (
        Covariance(factors=signal_factors, diagonal=nothing),
        Covariance(factors=noise_factors, diagonal=rest),
    )


@checked
def pattern_signal_noise(
    patterns: Patterns, image_types: Mapping[str, str] | str | None = None, **options: Any
) -> dict[tuple[str, str, str], SignalNoise]:
    """Estimate the covariances of signal and noise of each region, for each image type by itself.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.
    **options : object
        Options of `signal_noise`.

    Returns
    -------
    dict of (str, str, str) to SignalNoise
        By subject, region and image type.

    Raises
    ------
    InputError
        See `voxel_ceilings`.

    Examples
    --------
    >>> import pandas as pd
    >>> random = np.random.default_rng(0)
    >>> shown = {"condition": [f"c{i}" for i in range(30)] * 2, "presentation": [1] * 30 + [2] * 30}
    >>> patterns = Patterns(
    ...     values=random.standard_normal((60, 4)),
    ...     observations=pd.DataFrame({**shown, "run": shown["presentation"], "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(4), "j": 0, "k": 0}),
    ... )
    >>> list(pattern_signal_noise(patterns))
    [('01', 'V1', 'all')]
    """
    covariances = {}
    for (subject, roi), part, image_type in typed_regions(patterns, image_types):
        region_variances(part, image_type)
        conditions = part.observations["condition"].tolist()
        of_part = signal_noise(part.values, conditions, **options)
        covariances[subject, roi, image_type] = of_part
    return covariances
