"""Ranks, scales and products of condensed RDMs whose pairs come in several copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from neurometamer.errors import InputError, name_ids

Scores = Callable[[np.ndarray], Any]
"""Weights (m, n_pairs) to scores (m, n_rdms, n_pairs), or to several of them."""

BLOCK = 2**22
"""Numbers held at a time for resamples: 32 MiB of float64."""


def check_sides(
    a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None, names: str = "a and b"
) -> None:
    """Refuse condensed RDMs that cannot be compared.

    Parameters
    ----------
    a, b : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs of both sides.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair.
    names : str
        Name of the two sides in messages.

    Raises
    ------
    InputError
        For other shapes, or numbers that are NaN or infinite (the rows are named).
    """
    shape, other = np.shape(a), np.shape(b)
    if len(shape) != 2 or len(other) != 2 or shape[1] != other[1]:
        raise InputError(
            f"{names} of shapes {shape} and {other} must be condensed RDMs, (n_rdms, n_pairs), "
            "over "
            "the same pairs; give such arrays."
        )
    n_pairs = shape[1]
    if weights is not None and (np.ndim(weights) != 2 or weights.shape[1] != n_pairs):
        raise InputError(
            f"weights have the shape {np.shape(weights)}; they need (n_resamples, {n_pairs})."
        )
    for side, which in ((a, "first"), (b, "second")):
        is_finite = np.isfinite(side).all(axis=1)
        if not is_finite.all():
            bad = np.flatnonzero(~is_finite)
            raise InputError(
                f"dissimilarities are NaN or infinite in row(s) {name_ids(bad)} of the {which} of "
                f"{names}; leave those RDMs out."
            )


def n_images(n_pairs: int) -> int:
    """Count the images of a condensed RDM.

    Parameters
    ----------
    n_pairs : int
        Length of a condensed RDM.

    Returns
    -------
    int
        The n of ``n * (n - 1) / 2``.

    Raises
    ------
    InputError
        When no n gives that length.

    Examples
    --------
    >>> n_images(6)
    4
    """
    n = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
    if n * (n - 1) // 2 != n_pairs:
        raise InputError(
            f"{n_pairs} dissimilarities are not those of all pairs of some images; give 3, 6, 10, "
            "15 …, all pairs of n images."
        )
    return n


def square(x: np.ndarray) -> np.ndarray:
    """Write condensed RDMs as square ones.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    ndarray, shape (n_rdms, n, n)
        Symmetric, zero on the diagonal.
    """
    n_rdms, n_pairs = x.shape
    n = n_images(n_pairs)
    first, second = np.triu_indices(n, 1)
    squares = np.zeros((n_rdms, n, n), dtype=x.dtype)
    squares[:, first, second] = x
    squares[:, second, first] = x
    return squares


def over_blocks(
    combine: Callable[..., np.ndarray],
    a: Scores,
    b: Scores,
    n_rdms: int,
    n_pairs: int,
    weights: np.ndarray | None,
) -> np.ndarray:
    """Apply a comparator to blocks of resamples small enough for memory.

    Parameters
    ----------
    combine : callable
        ``(scores of a, scores of b, weights)`` to (m, n_a, n_b).
    a, b : callable
        Scores of the two sides, from weights.
    n_rdms : int
        Number of RDMs of both sides together.
    n_pairs : int
        Length of a condensed RDM.
    weights : ndarray, shape (n_resamples, n_pairs), or None
        Number of copies of each pair; None is one copy of each.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        Without or with weights.
    """
    if weights is None:
        ones = np.ones((1, n_pairs))
        values = combine(a(ones), b(ones), ones)
        return values[0]
    step = max(1, BLOCK // (n_rdms * n_pairs))
    blocks = []
    for start in range(0, len(weights), step):
        part = weights[start : start + step]  # made when its turn comes
        values = combine(a(part), b(part), part)
        blocks.append(values)
    return np.concatenate(blocks)


def weighted_cosine(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the cosine between scores, each pair counted as often as it comes.

    Parameters
    ----------
    a, b : ndarray, shape (m, n_a or n_b, n_pairs)
        Scores.
    weights : ndarray, shape (m, n_pairs)
        Number of copies of each pair.

    Returns
    -------
    ndarray, shape (m, n_a, n_b)
        In [-1, 1]; NaN where one side is zero throughout.
    """
    copies = weights[:, np.newaxis]
    weighed = a * copies
    products = weighed @ b.transpose(0, 2, 1)
    left = (a**2 * copies).sum(axis=2)
    right = (b**2 * copies).sum(axis=2)
    left = left[:, :, np.newaxis]
    right = right[:, np.newaxis]
    return divide_by_root(products, left * right)


def divide_by_root(values: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Divide values by lengths, which are given as their squares.

    Parameters
    ----------
    values : ndarray
        Numerators, e.g. inner products.
    squares : ndarray
        Squared lengths, which broadcast to the shape of `values`.

    Returns
    -------
    ndarray
        Of the shape of `values`; NaN where a square is not positive.

    Examples
    --------
    >>> divide_by_root(np.array([3.0, 1.0]), np.array([4.0, 0.0])).tolist()
    [1.5, nan]
    """
    quotients = np.full(values.shape, np.nan)
    with np.errstate(invalid="ignore"):
        lengths = np.sqrt(squares)
    return np.divide(
        values,
        lengths,
        out=quotients,
        where=lengths > 0,
    )


def rank_product(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply centered ranks, as a share of what equal ranks without ties would give (rho-a).

    Parameters
    ----------
    a, b : ndarray, shape (m, n_a or n_b, n_pairs)
        Centered ranks.
    weights : ndarray, shape (m, n_pairs)
        Number of copies of each pair.

    Returns
    -------
    ndarray, shape (m, n_a, n_b)
        In [-1, 1]; NaN where there are fewer than two pairs.
    """
    weighed = a * weights[:, np.newaxis]
    products = weighed @ b.transpose(0, 2, 1)
    total = weights.sum(axis=1)
    total = total[:, np.newaxis, np.newaxis]
    # ranks of n values without ties have the squared length (n^3 - n) / 12
    shares = np.full(products.shape, np.nan)
    return np.divide(
        12 * products,
        total**3 - total,
        out=shares,
        where=total > 1,
    )


def raw(x: np.ndarray) -> Scores:
    """Take dissimilarities as they are.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    callable
        Weights (m, n_pairs) to the same dissimilarities for each resample.
    """

    def _scores(weights: np.ndarray) -> np.ndarray:
        shape = (len(weights), *x.shape)
        return np.broadcast_to(x, shape)

    return _scores


def centered(x: np.ndarray) -> Scores:
    """Take each resample's mean off the dissimilarities.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    callable
        Weights (m, n_pairs) to centered dissimilarities (m, n_rdms, n_pairs).
    """

    def _scores(weights: np.ndarray) -> np.ndarray:
        sums = weights @ x.T
        total = weights.sum(axis=1)
        total = np.maximum(total, 1)
        means = sums / total[:, np.newaxis]
        means = means[:, :, np.newaxis]
        return x - means

    return _scores


def sort_values(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort values and number those that differ.

    Parameters
    ----------
    row : ndarray, shape (n,)
        Finite values.

    Returns
    -------
    order : ndarray of int, shape (n,)
        Positions of the values, the smallest value first.
    groups : ndarray of int, shape (n,)
        0 for the smallest value, 1 for the next; ties have one number.

    Examples
    --------
    >>> order, groups = sort_values(np.array([5.0, 2.0, 7.0, 5.0]))
    >>> groups.tolist()
    [1, 0, 2, 1]
    """
    order = np.argsort(row)
    ordered = row[order]
    is_new = ordered[1:] != ordered[:-1]
    groups = np.zeros(row.size, dtype=np.intp)
    groups[order[1:]] = np.cumsum(is_new)
    return order, groups


def centered_ranks(x: np.ndarray) -> Scores:
    """Rank pairs that come in several copies.

    Every RDM is sorted once; each resample then only counts the copies below.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    callable
        Weights (m, n_pairs) to average ranks minus their mean (m, n_rdms, n_pairs).
    """
    rows = [sort_values(row) for row in x]

    def _scores(weights: np.ndarray) -> np.ndarray:
        ranks = np.empty((len(weights), *x.shape))
        total = weights.sum(axis=1, keepdims=True)
        middle = (total + 1) / 2
        for k, (order, groups) in enumerate(rows):
            is_new = np.diff(groups[order], prepend=-1)
            starts = np.flatnonzero(is_new)
            copies = np.add.reduceat(weights[:, order], starts, axis=1)
            last = np.cumsum(copies, axis=1)
            of_group = last - (copies - 1) / 2
            of_group -= middle
            ranks[:, k] = of_group[:, groups]
        return ranks

    return _scores


def z_scored(x: np.ndarray) -> Scores:
    """Take the mean of each resample off the dissimilarities and divide by the standard deviation.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    callable
        Weights (m, n_pairs) to z scores (m, n_rdms, n_pairs); NaN where an RDM is constant.
    """
    centers = centered(x)

    def _scores(weights: np.ndarray) -> np.ndarray:
        return _divide_by_spread(centers(weights), weights)

    return _scores


def unit_length(x: np.ndarray) -> Scores:
    """Divide the dissimilarities of each resample by the root of their mean square.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    callable
        Weights (m, n_pairs) to scaled dissimilarities (m, n_rdms, n_pairs); NaN where an RDM is
        zero throughout.
    """
    copies = raw(x)

    def _scores(weights: np.ndarray) -> np.ndarray:
        return _divide_by_spread(copies(weights), weights)

    return _scores


def _divide_by_spread(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Divide by the root of the mean square over pairs, copies counted."""
    copies = weights[:, :, np.newaxis]
    squares = values**2 @ copies
    total = weights.sum(axis=1)
    total = total[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = squares[:, :, 0] / total
        spread = np.sqrt(means)
        return values / spread[:, :, np.newaxis]


def scaled_once(scale: Callable[[np.ndarray], Scores], x: np.ndarray) -> np.ndarray:
    """Scale RDMs whose pairs come once each.

    Parameters
    ----------
    scale : callable
        One of the functions of `SCALES`.
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    ndarray, shape (n_rdms, n_pairs)
        Scaled dissimilarities.

    Examples
    --------
    >>> scaled_once(centered_ranks, np.array([[0.2, 0.9, 0.9]])).tolist()
    [[-1.0, 0.5, 0.5]]
    """
    scores = scale(x)
    once = np.ones((1, x.shape[1]))
    (values,) = scores(once)
    return values


SCALES: dict[str, Callable[[np.ndarray], Scores]] = {
    "rank-transformed": centered_ranks,
    "z-scored": z_scored,
    "unit-length": unit_length,
}
"""Name of a way to make RDMs comparable before they are averaged, to its function."""


# --------------------------------------------------------------------------------- prepared vectors

Sides = tuple[np.ndarray, np.ndarray]
"""Vectors of an RDM as the first and as the second of the two that are compared.

Their inner product is a comparator, in whatever order the conditions come. Ranks, centering and
lengths do not depend on that order, so that they are computed once, and a permutation of the
conditions is one gather and one matrix product.
"""


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
    squares = np.einsum("rp,rp->r", x, x)
    vectors = divide_by_root(
        x,
        squares[:, np.newaxis],
    )
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
    means = x.mean(axis=1, keepdims=True)
    centered_rows = x - means
    return unit(centered_rows)


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
    ranks = scaled_once(centered_ranks, x)
    return unit(ranks)


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
    length = np.sqrt((n**3 - n) / 12)
    ranks = scaled_once(centered_ranks, x)
    vectors = ranks / length
    return vectors, vectors
