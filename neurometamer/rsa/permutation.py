"""Compare RDMs after the conditions of one side are permuted: the null of no relation.

What does not depend on the order, ranks, centering and length, is done once. A permutation is then
one gather and one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.rsa.comparators.ranks import check_sides, n_images, square
from neurometamer.rsa.comparators.table import find_comparator, linear_comparators


@checked
def permuted_comparison(
    a: np.ndarray, b: np.ndarray, orders: np.ndarray, comparator: str = "spearman"
) -> np.ndarray:
    """Compare RDMs after the conditions of one side are put in each order.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs; their rows and columns are permuted together.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs, the conditions in the same order as in `a`.
    orders : ndarray of int, shape (n_permutations, n)
        Rows that hold 0 to n - 1 once: the condition of `a` in each position of `b`.
    comparator : str
        One of `COMPARATORS`. Those without prepared vectors (tau-a) compare each permutation anew,
        which is slow.

    Returns
    -------
    ndarray, shape (n_permutations, n_a, n_b)
        The same values as of `COMPARATORS` on permuted RDMs; NaN where one side is constant.

    Raises
    ------
    InputError
        For an unknown comparator, shapes that do not fit, or a row of `orders` that is no order of
        the conditions.

    Examples
    --------
    >>> rdms = np.array([[1.0, 2, 3, 4, 5, 6]])
    >>> orders = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    >>> permuted_comparison(rdms, rdms, orders).round(3).ravel().tolist()
    [1.0, -0.943]
    """
    entry = find_comparator(comparator)
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    orders = np.asarray(orders)
    check_sides(a, b)
    n = n_images(a.shape[1])
    if orders.ndim != 2 or orders.shape[1] != n:
        raise InputError(
            f"orders has the shape {orders.shape}; RDMs of {n} conditions need (n_permutations, "
            f"{n})."
        )
    is_order = (np.sort(orders, axis=1) == np.arange(n)).all(axis=1)
    if not is_order.all():
        bad = np.flatnonzero(~is_order).tolist()
        raise InputError(
            f"rows {bad[:5]} of orders do not hold each of 0 to {n - 1} once; give orders of all "
            "conditions."
        )
    if len(a) > len(b):  # move the smaller side: the other order undoes this one
        backwards = np.argsort(orders, axis=1)
        return permuted_comparison(b, a, backwards, comparator).transpose(0, 2, 1)
    similarity = np.empty((len(orders), len(a), len(b)))
    if entry.prepare is None:
        flat = square(a).reshape(len(a), -1)
        for values, pairs in zip(similarity, _permuted_positions(orders)):
            values[:] = entry(flat.take(pairs, axis=1), b)
        return similarity
    left = entry.prepare(a)[0]
    right = entry.prepare(b)[1]
    # pair by pair: all RDMs of a pair lie together
    moved = square(left).reshape(len(a), -1).T.copy()
    for values, pairs in zip(similarity, _permuted_positions(orders)):
        values[:] = (right @ moved.take(pairs, axis=0)).T
    return similarity


def _permuted_positions(orders: np.ndarray) -> Iterator[np.ndarray]:
    """Give the positions of the condensed pairs in a flattened square RDM, order by order."""
    n = orders.shape[1]
    first, second = np.triu_indices(n, 1)
    for order in orders.astype(np.intp):
        starts = order * n
        index = starts.take(first)
        index += order.take(second)
        yield index


def prepared(vectors: np.ndarray, comparator: str) -> np.ndarray:
    """Prepare condensed RDMs so that their inner product is the comparator.

    A permutation of pairs keeps what is prepared.

    Parameters
    ----------
    vectors : ndarray, shape (..., n_pairs)
        Condensed RDMs.
    comparator : str
        One of `linear_comparators`.

    Returns
    -------
    ndarray, shape (..., n_pairs)
        NaN where an RDM is constant.

    Raises
    ------
    InputError
        For another comparator.

    Examples
    --------
    >>> prepared(np.array([3.0, 0, 4]), "cosine").tolist()
    [0.6, 0.0, 0.8]
    """
    entry = find_comparator(comparator)
    if entry.prepare is None or not entry.linear:
        raise unknown_name("comparison", comparator, linear_comparators())
    values = np.asarray(vectors, dtype=np.float64)
    first, _ = entry.prepare(np.atleast_2d(values))
    return first.reshape(values.shape)
