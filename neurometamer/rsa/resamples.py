"""Similarity and noise ceiling of each subject in every resample of images and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurometamer.rsa.comparators.table import comparator
from neurometamer.summaries import short_repr

MIN_IMAGES = 3
"""Least number of distinct images in a resample.

With fewer there is at most one distinct pair: the resample is left out, as in rsatoolbox.
"""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Values of each subject in each resample.

    Attributes
    ----------
    similarity : ndarray, shape (n_resamples, n_models, n_data)
        NaN where undefined.
    bounds : ndarray, shape (2, n_resamples, n_data), or None
        Lower and upper noise ceiling; NaN for subjects that were not drawn.
    subject_counts : ndarray, shape (n_resamples, n_data), or None
        Number of copies of each subject.
    """

    similarity: np.ndarray
    bounds: np.ndarray | None
    subject_counts: np.ndarray | None

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Average over subjects, as often as they were drawn.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (n_resamples, n_models)
            NaN where none was drawn.
        """
        if self.subject_counts is None:
            return self.similarity[:, :, rows].mean(axis=2)
        copies = self.subject_counts[:, rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            total = np.einsum("rmd,rd->rm", self.similarity[:, :, rows], copies)
            return total / copies.sum(axis=1, keepdims=True)

    def mean_bounds(self, rows: np.ndarray) -> np.ndarray:
        """Average the ceilings over the distinct subjects that were drawn.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (2, n_resamples)
            NaN where undefined.
        """
        if self.bounds is None:
            raise ValueError("no ceilings were computed")
        bounds = self.bounds[:, :, rows]
        if self.subject_counts is None:
            return bounds.mean(axis=2)
        drawn = self.subject_counts[:, rows] > 0
        with np.errstate(invalid="ignore"):
            return np.where(drawn, bounds, 0).sum(axis=2) / drawn.sum(axis=1)


def resampled(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    by: str,
    regions: Sequence[np.ndarray] | None,
    subject_counts: np.ndarray | None,
) -> Resampled:
    """Compare in every resample.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs, finite.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs, finite.
    counts : ndarray of int, shape (n_resamples, n)
        Number of copies of each image.
    by : str
        One of `COMPARATORS`.
    regions : sequence of ndarray, or None
        Rows of `data` that share a noise ceiling; None for no ceilings.
    subject_counts : ndarray of int, shape (n_resamples, n_data), or None
        Number of copies of each row of `data`.

    Returns
    -------
    Resampled
        Similarity and ceilings.
    """
    work = comparator(by).resamples(models, data, [] if regions is None else regions)
    similarity = np.full((len(counts), len(models), len(data)), np.nan)
    bounds = None if regions is None else np.full((2, len(counts), len(data)), np.nan)
    defined = np.flatnonzero((counts > 0).sum(axis=1) >= MIN_IMAGES)
    for rows in work.blocks(defined):
        people = np.ones((len(rows), len(data)))
        if subject_counts is not None:
            people = subject_counts[rows].astype(np.float64)
        similarity[rows], ceilings = work.compare(counts[rows], people)
        if bounds is not None:
            bounds[:, rows] = ceilings
    if bounds is not None and regions is not None and subject_counts is None:
        for region in regions:
            if len(region) < 2:
                bounds[:, :, region] = np.nan  # one subject has no ceiling
    return Resampled(similarity=similarity, bounds=bounds, subject_counts=subject_counts)
