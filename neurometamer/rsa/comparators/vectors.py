"""Vectors whose inner product is a comparator, in whatever order the conditions come.

Ranks, centering and lengths do not depend on the order of the conditions, so that they are computed
once and a permutation of the conditions is one gather and one matrix product.
"""

from __future__ import annotations

import numpy as np

from neurometamer.rsa.comparators.whitened import Whitened

Sides = tuple[np.ndarray, np.ndarray]
"""Vectors of an RDM as the first and as the second of the two that are compared."""


def unit(x: np.ndarray) -> Sides:
    """Scale RDMs to length 1: their inner product is the cosine.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    tuple of ndarray, shape (n_rdms, n_pairs)
        Both sides, which are the same array; NaN where an RDM is zero throughout.

    Examples
    --------
    >>> unit(np.array([[3.0, 0, 4]]))[0].tolist()
    [[0.6, 0.0, 0.8]]
    """
    vectors = _divide_by_lengths(x, np.einsum("rp,rp->r", x, x))
    return vectors, vectors


def unit_centered(x: np.ndarray) -> Sides:
    """Take off the means and scale to length 1: the inner product is Pearson's correlation.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    tuple of ndarray, shape (n_rdms, n_pairs)
        Both sides, which are the same array; NaN where an RDM is constant.
    """
    return unit(x - x.mean(axis=1, keepdims=True))


def unit_ranks(x: np.ndarray) -> Sides:
    """Scale centered ranks to length 1: the inner product is Spearman's correlation.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    tuple of ndarray, shape (n_rdms, n_pairs)
        Both sides, which are the same array; NaN where an RDM is constant.
    """
    return unit(_centered_ranks(x))


def ranks_without_ties(x: np.ndarray) -> Sides:
    """Divide centered ranks by the length that ranks without ties have: the inner product is rho-a.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    tuple of ndarray, shape (n_rdms, n_pairs)
        Both sides, which are the same array; 0 where an RDM is constant.
    """
    n = x.shape[1]
    vectors = _centered_ranks(x) / np.sqrt((n**3 - n) / 12)
    return vectors, vectors


def whitened_vectors(x: np.ndarray, *, center: bool) -> Sides:
    """Scale to length 1 in the metric of the errors: the inner product is the whitened comparator.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs of all pairs of n images.
    center : bool
        Whether the mean is taken off first (whitened Pearson).

    Returns
    -------
    tuple of ndarray, shape (n_rdms, n_pairs)
        Dissimilarities, and the same times the inverse covariance of their errors; NaN where an RDM
        has the length 0.
    """
    values, white = Whitened(x, center)(np.ones((1, x.shape[1])))
    squares = np.einsum("rp,rp->r", values[0], white[0])
    return _divide_by_lengths(values[0], squares), _divide_by_lengths(white[0], squares)


def _centered_ranks(x: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(x, axis=1) - (x.shape[1] + 1) / 2


def _divide_by_lengths(x: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Divide rows by the roots of their squared lengths; NaN where a length is 0."""
    squares = squares[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        lengths = np.sqrt(squares)
    return np.divide(x, lengths, out=np.full(x.shape, np.nan), where=squares > 0)
