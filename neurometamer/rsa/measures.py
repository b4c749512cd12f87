"""What RDMs are made of: the inner products of centered responses, exact in float64 with little memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CHUNK = 4096
"""Columns turned to float64 at a time: bounds the extra memory to `CHUNK` values a stimulus."""

EXACT_FLOAT32 = 2**23
"""Up to this many units a centered mid-rank (a multiple of one half) is exact in float32."""


def mid_ranks(row: np.ndarray) -> np.ndarray:
    """Rank one stimulus' values over units, ties sharing their average rank, centered on zero.

    Zeros, 40 to 90 % of a ReLU stage, are one known block of ties: they are counted, only the rest is sorted.

    Parameters
    ----------
    row : ndarray, shape (n_units,)
        Finite values.

    Returns
    -------
    ndarray, shape (n_units,)
        Average rank minus (n_units + 1) / 2; float32, exact because all are multiples of one half (float64 from
        2**23 units on).

    Examples
    --------
    >>> mid_ranks(np.array([0.0, 3.0, 0.0, -1.0])).tolist()
    [0.0, 1.5, 0.0, -1.5]
    """
    n = row.size
    ranks = np.empty(n, dtype=np.float32 if n < EXACT_FLOAT32 else np.float64)
    other = np.flatnonzero(row)
    values = row[other]
    order = np.argsort(values)
    ordered = values[order]
    n_zero, n_below = n - other.size, int(np.searchsorted(ordered, 0))
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if other.size else np.empty(0, dtype=int)
    sizes = np.diff(np.r_[starts, other.size])
    middles = starts + (sizes + 1) / 2 + np.where(starts >= n_below, n_zero, 0) - (n + 1) / 2
    ranks[other[order]] = np.repeat(middles, sizes)
    ranks[row == 0] = n_below + (n_zero + 1) / 2 - (n + 1) / 2
    return ranks


def _spearman(values: np.ndarray) -> np.ndarray:
    n, p = values.shape
    ranks = np.empty((n, p), dtype=np.float32 if p < EXACT_FLOAT32 else np.float64)
    for i in range(n):
        ranks[i] = mid_ranks(np.asarray(values[i]))
    return _inner_products(ranks, np.zeros((n, 1)))


def _pearson(values: np.ndarray) -> np.ndarray:
    means = np.array([np.mean(row, dtype=np.float64) for row in values])[:, np.newaxis]
    return _inner_products(values, means)


def _inner_products(values: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Sum the products of all rows with all rows in float64, a chunk of columns at a time."""
    total = np.zeros((len(values), len(values)))
    for start in range(0, values.shape[1], CHUNK):
        part = values[:, start : start + CHUNK].astype(np.float64) - means
        total += part @ part.T
    return total


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"spearman": _spearman, "pearson": _pearson}
"""Measure name to the function from values (n, p) to their centered inner products (n, n)."""
