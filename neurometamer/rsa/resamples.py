"""Similarity and noise ceiling of each subject in every resample of images and subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurometamer.rsa.comparators.table import comparator
from neurometamer.summaries import short_repr

MIN_IMAGES = 3
"""A resample with fewer distinct images has at most one distinct pair: left out, as in rsatoolbox."""


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
        Copies of each subject.
    """

    similarity: np.ndarray
    bounds: np.ndarray | None
    subject_counts: np.ndarray | None

    def mean(self, place: np.ndarray) -> np.ndarray:
        """Average over subjects, as often as they were drawn.

        Parameters
        ----------
        place : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (n_resamples, n_models)
            NaN where none was drawn.
        """
        if self.subject_counts is None:
            return self.similarity[:, :, place].mean(axis=2)
        copies = self.subject_counts[:, place].astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.einsum("rmd,rd->rm", self.similarity[:, :, place], copies) / copies.sum(
                axis=1, keepdims=True
            )

    def mean_bounds(self, place: np.ndarray) -> np.ndarray:
        """Average the ceilings over the distinct subjects that were drawn.

        Parameters
        ----------
        place : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (2, n_resamples)
            NaN where undefined.
        """
        if self.bounds is None:
            raise ValueError("no ceilings were computed")
        found = self.bounds[:, :, place]
        if self.subject_counts is None:
            return found.mean(axis=2)
        drawn = self.subject_counts[:, place] > 0
        with np.errstate(invalid="ignore"):
            return np.where(drawn, found, 0).sum(axis=2) / drawn.sum(axis=1)


def resampled(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    by: str,
    places: Sequence[np.ndarray] | None,
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
        How often each image was drawn.
    by : str
        One of `COMPARATORS`.
    places : sequence of ndarray, or None
        Rows of `data` that share a noise ceiling; None for no ceilings.
    subject_counts : ndarray of int, shape (n_resamples, n_data), or None
        How often each row of `data` was drawn.

    Returns
    -------
    Resampled
        Similarity and ceilings.
    """
    work = comparator(by).resamples(models, data, [] if places is None else places)
    similarity = np.full((len(counts), len(models), len(data)), np.nan)
    bounds = None if places is None else np.full((2, len(counts), len(data)), np.nan)
    defined = np.flatnonzero((counts > 0).sum(axis=1) >= MIN_IMAGES)
    for rows in work.blocks(defined):
        people = np.ones((len(rows), len(data))) if subject_counts is None else subject_counts[rows]
        similarity[rows], found = work.compare(counts[rows], people.astype(np.float64))
        if bounds is not None:
            bounds[:, rows] = found
    if bounds is not None and places is not None and subject_counts is None:
        for place in places:
            if len(place) < 2:
                bounds[:, :, place] = np.nan  # one subject has no ceiling
    return Resampled(similarity=similarity, bounds=bounds, subject_counts=subject_counts)
