"""Compare RDMs after the conditions of one side have changed places: the null of no relation, quickly.

What does not depend on the order, ranks, centering and length, is done once. A permutation is then
one gather and one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.rsa.comparators.kendall import kendall
from neurometamer.rsa.comparators.ranks import centered_ranks, check_sides
from neurometamer.rsa.comparators.table import comparator
from neurometamer.rsa.comparators.whitened import Whitened, n_images, square

LINEAR = ("spearman", "pearson", "cosine", "rho-a")
"""Comparators that are an inner product of vectors prepared once, so that permutations are one matrix product."""


@checked
def permuted_comparison(
    a: np.ndarray, b: np.ndarray, orders: np.ndarray, by: str = "spearman"
) -> np.ndarray:
    """Compare every RDM of one side, its conditions put in each order, with every RDM of the other side.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs; their rows and columns are permuted together.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs, the conditions in the same order as in `a`.
    orders : ndarray of int, shape (n_permutations, n)
        Each row holds 0 to n - 1 once: the condition of `a` that stands in each place of `b`.
    by : str
        One of `COMPARATORS`. For Kendall's tau-a each permutation is compared anew, which is slow.

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
    >>> permuted_comparison(rdms, rdms, np.array([[0, 1, 2, 3], [3, 2, 1, 0]])).round(3).ravel().tolist()
    [1.0, -0.943]
    """
    comparator(by)
    a, b, orders = (
        np.asarray(a, dtype=np.float64),
        np.asarray(b, dtype=np.float64),
        np.asarray(orders),
    )
    check_sides(a, b)
    _check_orders(orders, n_images(a.shape[1]))
    if len(a) > len(b):  # move the smaller side: the other order undoes this one
        return permuted_comparison(b, a, np.argsort(orders, axis=1), by).transpose(0, 2, 1)
    out = np.empty((len(orders), len(a), len(b)))
    if by == "kendall":
        flat = square(a).reshape(len(a), -1)
        for place, index in zip(out, _pairs(orders)):
            place[:] = kendall(flat.take(index, axis=1), b)
        return out
    left, right = _prepared(a, b, by)
    moved = (
        square(left).reshape(len(a), -1).T.copy()
    )  # pair by pair: all RDMs of a pair lie together
    for place, index in zip(out, _pairs(orders)):
        place[:] = (right @ moved.take(index, axis=0)).T
    return out


def _check_orders(orders: np.ndarray, n: int) -> None:
    if orders.ndim != 2 or orders.shape[1] != n:
        raise InputError(
            f"orders has the shape {orders.shape}; RDMs of {n} conditions need (n_permutations, "
            f"{n})."
        )
    if bad := np.flatnonzero((np.sort(orders, axis=1) != np.arange(n)).any(axis=1)).tolist():
        raise InputError(f"rows {bad[:5]} of orders do not hold each of 0 to {n - 1} once.")


def _pairs(orders: np.ndarray) -> Iterator[np.ndarray]:
    """Give the places of the condensed pairs in a flattened square RDM, order by order."""
    n = orders.shape[1]
    first, second = np.triu_indices(n, 1)
    for order in orders.astype(np.intp):
        index = (order * n).take(first)
        index += order.take(second)
        yield index


def _prepared(a: np.ndarray, b: np.ndarray, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Give two sides whose products are the comparison, in whatever order the conditions are."""
    left, right = _SIDES[by](a), _SIDES[by](b)
    if by == "rho-a":
        n = a.shape[1]
        return left[0], right[0] * 12 / (n**3 - n)
    return _unit(*left, left[0]), _unit(*right, right[1])


def _unit(values: np.ndarray, white: np.ndarray, side: np.ndarray) -> np.ndarray:
    squares = np.einsum("dp,dp->d", values, white)[:, np.newaxis]
    return np.divide(side, np.sqrt(squares), out=np.full(side.shape, np.nan), where=squares > 0)


def _ranks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ranks = centered_ranks(x)(np.ones((1, x.shape[1])))[0]
    return ranks, ranks


def _centered(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = x - x.mean(axis=1, keepdims=True)
    return values, values


def _whitened(center: bool) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def sides(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, white = Whitened(x, center)(np.ones((1, x.shape[1])))
        return values[0], white[0]

    return sides


_SIDES: dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "spearman": _ranks,
    "rho-a": _ranks,
    "pearson": _centered,
    "cosine": lambda x: (x, x),
    "whitened-cosine": _whitened(center=False),
    "whitened-pearson": _whitened(center=True),
}
"""Comparator to values and the same times their errors' inverse covariance, if any."""


def prepared(vectors: np.ndarray, by: str) -> np.ndarray:
    """Prepare condensed RDMs so that their inner product is the comparator; a permutation of pairs keeps it.

    Parameters
    ----------
    vectors : ndarray, shape (..., n_pairs)
        Condensed RDMs.
    by : str
        One of `LINEAR`.

    Returns
    -------
    ndarray, shape (..., n_pairs)
        NaN where an RDM is constant.

    Raises
    ------
    InputError
        For another comparator.
    """
    from scipy.stats import rankdata

    if by not in LINEAR:
        raise unknown_name("comparison", by, LINEAR)
    values = np.asarray(vectors, dtype=np.float64)
    if by in ("spearman", "rho-a"):
        values = rankdata(values, axis=-1)
    if by != "cosine":
        values = values - values.mean(axis=-1, keepdims=True)
    n = values.shape[-1]
    lengths = (
        np.sqrt((n**3 - n) / 12)
        if by == "rho-a"
        else np.linalg.norm(values, axis=-1, keepdims=True)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return values / lengths


def permuted_pairs(order: np.ndarray) -> np.ndarray:
    """Find where each pair of stimuli goes when their labels are permuted.

    Parameters
    ----------
    order : ndarray of int, shape (n,)
        Stimulus that takes each place.

    Returns
    -------
    ndarray of int, shape (n * (n - 1) / 2,)
        Positions in a condensed RDM.
    """
    n = len(order)
    first, second = np.triu_indices(n, 1)
    low, high = np.minimum(order[first], order[second]), np.maximum(order[first], order[second])
    return low * n - low * (low + 1) // 2 + high - low - 1
