"""How a similarity of RDMs would vary with other images: the jackknife, and the noise of pairs.

A similarity of RDMs is nearly a mean over pairs of images, with variance L + D: L from the images,
D from what is particular to a pair. The usual bootstrap, in which images i and j come w_i and w_j
times and their pair w_i * w_j times, finds L + 3D, and covers 99 to 100 % where D matters
(similarities near 0, differences). The jackknife, the projection of the similarity on single
images, finds L + 2D. Weights of pairs that leave each image's total as it is give D alone.
`Projection` puts the two together; `neurometamer.rsa.sampling.project` makes it.

Where classes are drawn, L is of classes and D of pairs of classes (`neurometamer.rsa.sampling`).

References: Efron & Stein (1981), Ann Stat 9:586; Schütt et al. (2023), eLife 12:e82566 (bootstraps
of RDMs overestimate their variance).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from neurometamer.provenance import generator


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Values of similarities, and how they move with the images and with the noise of pairs.

    Parameters
    ----------
    values : ndarray, shape (...)
        Similarities of all images.
    deviations : ndarray, shape (n_clusters, ...), or None
        Values without each cluster in turn, scaled such that their squares add up to the variance
        L + 2D; None where nothing was resampled.
    noise : ndarray, shape (n_draws, ...), or None
        Deviations whose variance is D; None where the noise of pairs is not known.
    dof : int
        Degrees of freedom of what is resampled (`Sampling.dof`).
    """

    values: np.ndarray
    deviations: np.ndarray | None
    noise: np.ndarray | None
    dof: int

    def take(self, columns: Any) -> Projection:
        """Take some values of the last axis.

        Parameters
        ----------
        columns : sequence of int
            Positions in the last axis.

        Returns
        -------
        Projection
            Projection of these values.
        """

        def _change(part: np.ndarray) -> np.ndarray:
            return part[..., columns]

        return self._each(_change)

    def mean(self) -> Projection:
        """Average over the last axis (subjects), which stays with length 1.

        Returns
        -------
        Projection
            Projection of the mean.
        """

        def _change(part: np.ndarray) -> np.ndarray:
            return part.mean(axis=-1, keepdims=True)

        return self._each(_change)

    def minus(self, other: Projection) -> Projection:
        """Subtract another similarity of the same images.

        Parameters
        ----------
        other : Projection
            Projection with the same sampling and draws.

        Returns
        -------
        Projection
            Projection of the difference.
        """
        deviations = noise = None
        if self.deviations is not None and other.deviations is not None:
            deviations = self.deviations - other.deviations
        if self.noise is not None and other.noise is not None:
            noise = self.noise - other.noise
        return replace(
            self,
            values=self.values - other.values,
            deviations=deviations,
            noise=noise,
        )

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> Projection:
        deviations = noise = None
        if self.deviations is not None:
            deviations = change(self.deviations)
        if self.noise is not None:
            noise = change(self.noise)
        return replace(
            self,
            values=change(self.values),
            deviations=deviations,
            noise=noise,
        )

    @property
    def errors(self) -> np.ndarray:
        """Standard errors of the values.

        Returns
        -------
        ndarray, shape (...)
            Root of L (1 + s^2 / 8) + D (1 + 2 s), where s = L / (L + D); of L + 2D where the noise
            of pairs is not known; NaN where nothing was resampled.

        Notes
        -----
        L + D is the unbiased variance (Efron & Stein 1981), and covers where a similarity is 0 and
        L hardly matters. Where L matters, an interval of L + D covers 88 to 94 % only: L is known
        from few images, and the more it is the larger the similarity comes out. Up to three times D
        stands for that, as in the usual bootstrap (L + 3D), and an eighth of L, for spectra so
        steep that few dimensions make all of L. The rule is empirical:
        ``benchmarks/CALIBRATION.md`` and ``benchmarks/LEVELS.md`` have the simulated studies.
        """
        if self.deviations is None:
            return np.full(self.values.shape, np.nan)
        squares = np.square(self.deviations)
        drawn = squares.sum(axis=0)
        if self.noise is None:
            return np.sqrt(drawn)
        of_pairs = np.square(self.noise)
        pairs = np.minimum(of_pairs.mean(axis=0), drawn / 2)
        images = drawn - 2 * pairs
        share = np.zeros_like(drawn)
        np.divide(images, images + pairs, out=share, where=drawn > 0)
        widened = images * (1 + share**2 / 8)
        widened += pairs * (1 + 2 * share)
        return np.sqrt(widened)

    def interval(
        self, confidence: float = 0.95, most: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take the t interval of each value.

        Parameters
        ----------
        confidence : float
            Share of intervals that hold the truth, in (0, 1).
        most : float
            Largest absolute value of an end.

        Returns
        -------
        tuple of ndarray, shape (...)
            Low and high end; NaN where nothing was resampled.
        """
        from scipy.stats import t

        tail = (1 + confidence) / 2
        quantile = t.ppf(tail, self.dof)
        half = quantile * self.errors
        low = self.values - half
        high = self.values + half
        return np.clip(low, -most, most), np.clip(high, -most, most)

    def samples(self, n_resamples: int, seed: int, confidence: float) -> np.ndarray:
        """Sample values as other images would give them; the same images move all together.

        Parameters
        ----------
        n_resamples : int
            Number of samples; with more of them than clusters their variance is exact.
        seed : int
            Seed; the same seed and number of clusters give the same samples everywhere.
        confidence : float
            Confidence of the interval that the samples are for: their normal quantiles are those of
            its t distribution.

        Returns
        -------
        ndarray, shape (n_resamples, ...)
            Samples of a normal distribution about the values.
        """
        from scipy.stats import norm, t

        if self.deviations is None:
            return np.empty((0, *self.values.shape))
        tail = (1 + confidence) / 2
        ratio = t.ppf(tail, self.dof) / norm.ppf(tail)
        squares = np.square(self.deviations)
        raw = np.sqrt(squares.sum(axis=0))
        shares = np.zeros_like(raw)
        np.divide(self.errors, raw, out=shares, where=raw > 0)
        # normal numbers for each cluster and resample, symmetric, uncorrelated if there are enough
        k = len(self.deviations)
        n_half = (n_resamples + 1) // 2
        random = generator(seed, "photographs", k)
        half = random.standard_normal((n_half, k))
        if n_half > k:
            half = np.linalg.qr(half)[0]
            half = half * np.sqrt(n_half)
        moves = np.concatenate([half, -half])
        moves = moves[:n_resamples]
        moved = np.tensordot(moves, self.deviations, axes=1)
        return self.values + ratio * shares * moved
