"""Resample images: how often each image is drawn, and the interval that the resamples give.

One set of draws is shared by all layers, ROIs and subjects of a table, so that their differences
are paired.
"""

from __future__ import annotations

import numpy as np

from neurometamer.errors import InputError
from neurometamer.provenance import generator


def bootstrap_counts(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """Draw images with replacement and count how often each one came.

    Parameters
    ----------
    n : int
        Number of images; as many are drawn in each resample.
    n_resamples : int
        Number of resamples, 0 for none.
    seed : int
        Seed; the same seed and `n` give the same draws everywhere.

    Returns
    -------
    ndarray, shape (n_resamples, n)
        Counts as int64; each row sums to `n`.

    Raises
    ------
    InputError
        When `n_resamples` is negative.

    Examples
    --------
    >>> bootstrap_counts(4, 3, seed=0).sum(axis=1).tolist()
    [4, 4, 4]
    """
    if n_resamples < 0:
        raise InputError(f"n_resamples must be 0 or more, not {n_resamples}.")
    random = generator(seed, "bootstrap", n)
    return random.multinomial(
        n,
        np.full(n, 1 / n),
        size=n_resamples,
    )


def pair_weights(counts: np.ndarray) -> np.ndarray:
    """Turn draws of images into weights of image pairs, in the order of a condensed RDM.

    A pair is there once for each combination of its two images' copies. A pair made of two copies
    of one image has no place in a condensed RDM and is dropped: its dissimilarity of 0
    would be agreement by construction.

    Parameters
    ----------
    counts : ndarray, shape (n_resamples, n)
        Number of copies of each image.

    Returns
    -------
    ndarray, shape (n_resamples, n * (n - 1) / 2)
        Weights as float64.
    """
    n = counts.shape[1]
    first, second = np.triu_indices(n, 1)
    copies = counts[:, first]
    copies = copies * counts[:, second]
    return copies.astype(np.float64)


def percentile_interval(
    samples: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the central interval of the resampled values, column by column.

    Parameters
    ----------
    samples : ndarray, shape (n_resamples, ...)
        One value a resample; NaN where the resample left it undefined (left out here).
    confidence : float
        Share of the resamples inside, in (0, 1).

    Returns
    -------
    tuple of ndarray
        Low and high end, shape (...); NaN where no resample is defined.

    Raises
    ------
    InputError
        When `confidence` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")
    shape = samples.shape[1:]
    n_values = int(np.prod(shape))
    columns = samples.reshape(len(samples), n_values)
    is_defined = np.isfinite(columns).any(axis=0)
    ends = np.full((2, n_values), np.nan)
    if is_defined.any():
        tail = 50 * (1 - confidence)
        known = columns[:, is_defined]
        ends[:, is_defined] = np.nanpercentile(known, [tail, 100 - tail], axis=0)
    low, high = ends.reshape(2, *shape)
    return low, high


def t_interval(
    value: np.ndarray, variance: np.ndarray, dof: float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Take the central interval of a t distribution.

    Parameters
    ----------
    value : ndarray
        Middle of the interval.
    variance : ndarray
        Squared standard error, of the same shape; negative ones count as 0.
    dof : float
        Degrees of freedom, positive.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of ndarray
        Low and high end.

    Raises
    ------
    InputError
        When `confidence` or `dof` is out of range.
    """
    from scipy.stats import t

    if not 0 < confidence < 1 or not dof > 0:
        raise InputError(
            f"confidence must lie in (0, 1) and dof be positive, not {confidence} and {dof}."
        )
    tail = (1 + confidence) / 2
    quantile = t.ppf(tail, dof)
    errors = np.sqrt(np.maximum(variance, 0))
    half = quantile * errors
    return value - half, value + half
