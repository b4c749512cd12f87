"""How alike two RDMs are: comparators on condensed arrays, also for resamples in which pairs come in several copies.

A comparator takes condensed RDMs ``a`` (n_a, n_pairs) and ``b`` (n_b, n_pairs) over the same pairs.
With weights, the result is exactly that of vectors in which each pair is repeated as often as its
weight says. Shapes that do not fit and numbers that are missing are an `InputError`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neurometamer.errors import unknown_name
from neurometamer.rsa.comparators.kendall import kendall
from neurometamer.rsa.comparators.ranks import BLOCK as BLOCK
from neurometamer.rsa.comparators.ranks import (
    centered,
    centered_ranks,
    check_sides,
    over_blocks,
    rank_product,
    raw,
    weighted_cosine,
)
from neurometamer.rsa.comparators.whitened import whitened_cosine, whitened_pearson


def spearman(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Correlate the ranks of dissimilarities, ties sharing their average rank.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        How many copies of each pair there are (whole numbers, see `pair_weights`).

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is constant.

    Examples
    --------
    >>> spearman(np.array([[1.0, 2, 3]]), np.array([[1.0, 9, 5]])).tolist()
    [[0.5]]
    """
    check_sides(a, b, weights)
    return over_blocks(
        weighted_cosine, centered_ranks(a), centered_ranks(b), len(a) + len(b), a.shape[1], weights
    )


def pearson(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Correlate dissimilarities.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        How many copies of each pair there are.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is constant.
    """
    check_sides(a, b, weights)
    return over_blocks(
        weighted_cosine, centered(a), centered(b), len(a) + len(b), a.shape[1], weights
    )


def cosine(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Take the cosine of the angle between dissimilarity vectors, the mean not removed.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        How many copies of each pair there are.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is zero throughout.
    """
    check_sides(a, b, weights)
    return over_blocks(weighted_cosine, raw(a), raw(b), len(a) + len(b), a.shape[1], weights)


def rho_a(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Take Spearman's rho expected under random breaking of ties: it does not favor RDMs with many ties.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        How many copies of each pair there are.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1].

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566.
    """
    check_sides(a, b, weights)
    return over_blocks(
        rank_product, centered_ranks(a), centered_ranks(b), len(a) + len(b), a.shape[1], weights
    )


COMPARATORS: dict[str, Callable[..., np.ndarray]] = {
    "spearman": spearman,
    "pearson": pearson,
    "kendall": kendall,
    "rho-a": rho_a,
    "cosine": cosine,
    "whitened-cosine": whitened_cosine,
    "whitened-pearson": whitened_pearson,
}
"""Comparator name to its function ``(a, b, weights=None)`` on condensed RDMs."""


def comparator(by: str) -> Callable[..., np.ndarray]:
    """Find a comparator by its name.

    Parameters
    ----------
    by : str
        One of `COMPARATORS`.

    Returns
    -------
    callable
        ``(a, b, weights=None)`` on condensed RDMs.

    Raises
    ------
    InputError
        For an unknown name, with the nearest known one.
    """
    if by not in COMPARATORS:
        raise unknown_name("comparison", by, COMPARATORS)
    return COMPARATORS[by]
