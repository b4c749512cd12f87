"""Intervals for other images: resamples in which the noise of pairs counts about once.

A similarity of RDMs is nearly a mean over pairs of images, with variance L + D: L from the images, D from what is
particular to a pair. Where images i and j come w_i and w_j times, the usual bootstrap weighs the pair by w_i * w_j,
whose variance is that of three independent pairs: it finds L + 3D. Weighed by w_i + w_j, the statistic moves half as
far with the images: twice its deviations have the variance L + 2D. Weights that leave each image's total as it is give
D alone, of which a share is taken off again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurometamer.resampling import bootstrap_counts, pair_weights, percentile_interval
from neurometamer.rsa.resamples import MIN_IMAGES
from neurometamer.rsa.weighted import BLOCK
from neurometamer.store import generator

Compare = Callable[..., np.ndarray]
Progress = Callable[[int, int], None]

PRODUCT_WEIGHTS = ("whitened-cosine", "whitened-pearson")
"""Comparators that know a pair's weight only as the product of its images' copies: their interval is the percentile
interval of the usual bootstrap, which is too wide and says so."""

PAIR_DRAWS = 400
"""For the variance from pairs: it needs no tails, so no more than these."""

PAIR_STEP = 0.25
"""How far the weights of pairs are moved: little, so that they stay positive and the statistic nearly linear."""

DEDUCTED = 0.7
"""Share of the noise of pairs that is taken off the variance L + 2D of the resamples.

All of it is right where the truth is 0, and too much where networks and regions are alike, since L itself comes out
too small from few images. In simulated comparisons of layers with regions (``benchmarks/LEVELS.md``) 95 % intervals
held the truth in 95 to 98 % with this share: 10, 20 and 40 images, no, some and much similarity, heavy tails.
"""

SIMULATED_FROM = 10
"""Fewest images of the simulated studies; the text of an interval of fewer says so."""


@dataclass(frozen=True, eq=False)
class ImageResamples:
    """A comparison in resamples of the images, and with the weights of pairs moved alone.

    Attributes
    ----------
    values : ndarray, shape (n_a, n_b)
        As observed.
    samples : ndarray, shape (n_resamples, n_a, n_b)
        Scaled about the values, variance L + 2D.
    noise : ndarray, shape (n_draws, n_a, n_b), or None
        Scaled about the values, variance D; None for resamples of the usual bootstrap.
    n : int
        Images.
    """

    values: np.ndarray
    samples: np.ndarray
    noise: np.ndarray | None
    n: int

    def take(self, columns: np.ndarray) -> ImageResamples:
        """Take some of the second side.

        Parameters
        ----------
        columns : ndarray of int
            Which RDMs.

        Returns
        -------
        ImageResamples
            Of these.
        """
        noise = None if self.noise is None else self.noise[..., columns]
        return ImageResamples(self.values[..., columns], self.samples[..., columns], noise, self.n)

    def mean(self) -> ImageResamples:
        """Average over the second side (subjects), as one column."""
        values, samples = (part.mean(axis=-1, keepdims=True) for part in (self.values, self.samples))
        noise = None if self.noise is None else self.noise.mean(axis=-1, keepdims=True)
        return ImageResamples(values, samples, noise, self.n)

    def interval(self, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Take the interval of each comparison.

        Parameters
        ----------
        confidence : float
            Share of intervals that hold the truth, in (0, 1).

        Returns
        -------
        tuple of ndarray, shape (n_a, n_b)
            Low and high end, within [-1, 1]; NaN without resamples.

        Notes
        -----
        The percentiles of the resamples, moved from the value by the root of n / (n - 1) minus `DEDUCTED` times the
        noise's share of the variance, and by the ratio of the quantiles of t with n - 1 degrees of freedom and the
        normal distribution.
        """
        from scipy.stats import norm, t

        low, high = percentile_interval(self.samples, confidence)
        if self.noise is None or not len(self.samples):
            return low, high
        variance, of_pairs = np.nanvar(self.samples, axis=0), np.nanvar(self.noise, axis=0)
        share = np.divide(of_pairs, variance, out=np.zeros_like(variance), where=variance > 0)
        tail = (1 + confidence) / 2
        ratio = t.ppf(tail, self.n - 1) / norm.ppf(tail)
        scale = ratio * np.sqrt(self.n / (self.n - 1) - DEDUCTED * np.minimum(share, 0.5))
        ends = (np.clip(self.values + scale * (end - self.values), -1, 1) for end in (low, high))
        return next(ends), next(ends)


def resample_images(
    compare: Compare,
    a: np.ndarray,
    b: np.ndarray,
    n_resamples: int,
    seed: int,
    *,
    products: bool = False,
    progress: Progress | None = None,
) -> ImageResamples:
    """Compare RDMs in resamples of the images.

    Parameters
    ----------
    compare : callable
        (a, b, weights) to similarities, one of `COMPARATORS`.
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Condensed RDMs of the same images.
    n_resamples : int
        Resamples; 0 for none.
    seed : int
        Seed of the draws, which are those of `bootstrap_counts`.
    products : bool
        Whether pairs are weighed by the product of their images' copies, as `PRODUCT_WEIGHTS` need.
    progress : callable, optional
        Hears (comparisons done, comparisons in all), the first time after a single one.

    Returns
    -------
    ImageResamples
        Values and resamples.

    References
    ----------
    Efron & Stein (1981), Ann Stat 9:586 (variance of pairs in the jackknife); Schütt et al. (2023), eLife 12:e82566
    (bootstraps of RDMs overestimate their variance).
    """
    n = round((1 + np.sqrt(1 + 8 * a.shape[1])) / 2)
    first, second = np.triu_indices(n, 1)
    counts = bootstrap_counts(n, n_resamples, seed)
    n_noise = 0 if products else min(n_resamples, PAIR_DRAWS)
    random = generator(seed, "pairs", n)
    values = compare(a, b)
    samples = np.empty((n_resamples, *values.shape))
    noise = np.empty((n_noise, *values.shape))
    total = n_resamples + n_noise
    for rows in blocks_of(n_resamples, (len(a) + len(b)) * a.shape[1]):
        if products:
            samples[rows] = compare(a, b, pair_weights(counts[rows]))
            samples[rows][(counts[rows] > 0).sum(axis=1) < MIN_IMAGES] = np.nan
        else:
            weights = (counts[rows][:, first] + counts[rows][:, second]).astype(np.float64)
            samples[rows] = values + 2 * (compare(a, b, weights) - values)
        if progress is not None:
            progress(rows.stop, total)
    for rows in blocks_of(n_noise, (len(a) + len(b)) * a.shape[1]):
        weights = _moved_pairs(n, first, second, rows.stop - rows.start, random)
        noise[rows] = values + (compare(a, b, weights) - values) / PAIR_STEP
        if progress is not None:
            progress(n_resamples + rows.stop, total)
    return ImageResamples(values, samples, None if products else noise, n)


def blocks_of(n: int, size: int) -> list[slice]:
    """Cut resamples into blocks that fit into memory; the first holds one, so that the time of one is known.

    Parameters
    ----------
    n : int
        Resamples.
    size : int
        Numbers that one resample needs.

    Returns
    -------
    list of slice
        In order, without gaps.

    Examples
    --------
    >>> blocks_of(5, 2**20)
    [slice(0, 1, None), slice(1, 5, None)]
    """
    step = max(1, BLOCK // size)
    starts = [0, *range(1, n, step)][: n and None]
    return [slice(start, stop) for start, stop in zip(starts, [*starts[1:], n])]


def _moved_pairs(
    n: int, first: np.ndarray, second: np.ndarray, n_draws: int, random: np.random.Generator
) -> np.ndarray:
    """Draw weights of pairs (n_draws, n_pairs) in which no image counts more than another."""
    moves = random.uniform(-1, 1, (n_draws, first.size)) * np.sqrt(3)
    for row in moves:
        of_image: np.ndarray = (np.bincount(first, row, n) + np.bincount(second, row, n)) / (n - 2)
        row -= of_image[first] + of_image[second]
        row += of_image.sum() / (n - 1)
    return np.maximum(1 + PAIR_STEP * moves, 0)


def describe_interval(n: int, n_resamples: int, confidence: float, *, products: bool = False) -> str:
    """Say in words how an interval came about.

    Parameters
    ----------
    n : int
        Images.
    n_resamples : int
        Resamples; 0 for none.
    confidence : float
        Of the interval.
    products : bool
        See `resample_images`.

    Returns
    -------
    str
        Part of the column ``method``.

    Examples
    --------
    >>> describe_interval(40, 0, 0.95)
    'no interval'
    """
    if not n_resamples:
        return "no interval"
    if products:
        return (
            f"{confidence:.0%} percentile bootstrap over {n} stimuli, {n_resamples} resamples, same-image pairs "
            "dropped; too wide: it counts the noise of pairs three times, and covers 98 to 100 % where it claims 95 %"
        )
    text = (
        f"{confidence:.0%} bootstrap over {n} stimuli, {n_resamples} resamples, pairs weighed by the sum of their "
        f"images' copies, {DEDUCTED:.0%} of the noise of pairs deducted, scaled to t"
    )
    return text + (f"; below {SIMULATED_FROM} stimuli its coverage is not known" if n < SIMULATED_FROM else "")
