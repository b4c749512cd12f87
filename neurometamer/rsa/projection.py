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
from typing import Any

import numpy as np

from neurometamer.resampling import bootstrap_counts, pair_weights, percentile_interval
from neurometamer.rsa.resamples import MIN_IMAGES
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
held the truth in 94 to 98 % with this share: 10, 20 and 40 images, no, some and much similarity, heavy tails.
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
        """Average over the second side (subjects), as one column.

        Returns
        -------
        ImageResamples
            With arrays of one column.
        """
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
        Hears (comparisons done, comparisons in all).

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
    pairs = np.triu_indices(n, 1)
    counts = bootstrap_counts(n, n_resamples, seed)
    values = compare(a, b)
    if not n_resamples:
        return ImageResamples(values, np.empty((0, *values.shape)), None, n)
    n_noise = 0 if products else min(n_resamples, PAIR_DRAWS)

    def _hear(done: int) -> None:
        if progress is not None:
            progress(done, n_resamples + n_noise)

    def _drawn(rows: slice) -> np.ndarray:
        _hear(rows.start)
        if products:
            return pair_weights(counts[rows])
        return (counts[rows][:, pairs[0]] + counts[rows][:, pairs[1]]).astype(np.float64)

    def _moved(rows: slice) -> np.ndarray:
        _hear(n_resamples + rows.start)
        return np.array([_moved_pairs(n, pairs, generator(seed, "pairs", n, k)) for k in range(rows.start, rows.stop)])

    samples = compare(a, b, LazyWeights((n_resamples, a.shape[1]), _drawn))
    if products:
        samples[(counts > 0).sum(axis=1) < MIN_IMAGES] = np.nan
        _hear(n_resamples)
        return ImageResamples(values, samples, None, n)
    noise = compare(a, b, LazyWeights((n_noise, a.shape[1]), _moved))
    _hear(n_resamples + n_noise)
    return ImageResamples(values, values + 2 * (samples - values), values + (noise - values) / PAIR_STEP, n)


class LazyWeights:
    """Weights of pairs that are made when their resamples are compared: all of them may not fit into memory.

    Parameters
    ----------
    shape : tuple of int
        Resamples and pairs.
    make : callable
        Slice of resamples to their weights.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], make: Callable[[slice], np.ndarray]) -> None:
        self.shape = shape
        self._make = make

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | int) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            return self._make(slice(start, stop))
        if rows >= len(self):
            raise IndexError(rows)
        return self._make(slice(rows, rows + 1))[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


def _moved_pairs(n: int, pairs: tuple[np.ndarray, np.ndarray], random: np.random.Generator) -> np.ndarray:
    """Draw a weight of each pair such that no image counts more than another."""
    first, second = pairs
    moves = random.uniform(-1, 1, first.size) * np.sqrt(3)
    of_image: np.ndarray = (np.bincount(first, moves, n) + np.bincount(second, moves, n)) / (n - 2)
    moves -= of_image[first] + of_image[second]
    moves += of_image.sum() / (n - 1)
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
            "dropped; too wide: it counts the noise of pairs three times"
        )
    text = (
        f"{confidence:.0%} bootstrap over {n} stimuli, {n_resamples} resamples, pairs weighed by the sum of their "
        f"images' copies, {DEDUCTED:.0%} of the noise of pairs deducted, scaled to t"
    )
    return text + (f"; below {SIMULATED_FROM} stimuli its coverage is not known" if n < SIMULATED_FROM else "")
