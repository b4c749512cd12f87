"""How alike two RDMs are: comparators on condensed arrays, also for resamples in which pairs come in several copies.

A comparator takes condensed RDMs ``a`` (n_a, n_pairs) and ``b`` (n_b, n_pairs) over the same pairs. With weights, the
result is exactly that of vectors in which each pair is repeated as often as its weight says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Scores = Callable[[np.ndarray], np.ndarray]
"""Weights (m, n_pairs) to scores (m, n_rdms, n_pairs)."""

BLOCK = 2**22
"""Numbers held at a time for resamples: 32 MiB of float64."""


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
    return _over_blocks(_cosine, centered_ranks(a), centered_ranks(b), len(a) + len(b), a.shape[1], weights)


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
    return _over_blocks(_cosine, _centered(a), _centered(b), len(a) + len(b), a.shape[1], weights)


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
    return _over_blocks(_cosine, _raw(a), _raw(b), len(a) + len(b), a.shape[1], weights)


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
    return _over_blocks(_rank_product, centered_ranks(a), centered_ranks(b), len(a) + len(b), a.shape[1], weights)


def kendall(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Take Kendall's tau-a: concordant minus discordant pairs of pairs over all, ties counting as neither.

    This is ``"tau-a"`` in rsatoolbox, whose ``"kendall"`` is tau-b.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        How many copies of each pair there are. Work and memory grow with n_pairs squared.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1].

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553.
    """
    if weights is None:
        return np.array([[_tau_a(one, other) for other in b] for one in a])
    out = np.empty((len(weights), len(a), len(b)))
    copies = weights.astype(np.float32)
    total = weights.sum(axis=1)
    for i, one in enumerate(a):
        signs = np.sign(one[:, np.newaxis] - one).astype(np.float32)
        for j, other in enumerate(b):
            agreement = signs * np.sign(other[:, np.newaxis] - other).astype(np.float32)
            out[:, i, j] = np.einsum("mp,mp->m", (copies @ agreement).astype(np.float64), weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return out / (total * (total - 1))[:, np.newaxis, np.newaxis]


def _tau_a(one: np.ndarray, other: np.ndarray) -> float:
    """Rescale scipy's tau-b, which divides by the untied pairs, to tau-a, which divides by all."""
    from scipy.stats import kendalltau

    total = one.size * (one.size - 1) / 2
    untied = [total - sum(n * (n - 1) / 2 for n in np.unique(x, return_counts=True)[1]) for x in (one, other)]
    if min(untied) == 0:
        return 0.0
    return float(kendalltau(one, other).statistic * np.sqrt(untied[0] * untied[1]) / total)


COMPARATORS: dict[str, Callable[..., np.ndarray]] = {
    "spearman": spearman,
    "pearson": pearson,
    "kendall": kendall,
    "rho-a": rho_a,
    "cosine": cosine,
}
"""Comparator name to its function ``(a, b, weights=None)`` on condensed RDMs."""


def _over_blocks(
    combine: Callable[..., np.ndarray], a: Scores, b: Scores, n_rdms: int, n_pairs: int, weights: np.ndarray | None
) -> np.ndarray:
    """Apply a comparator to blocks of resamples small enough for memory."""
    if weights is None:
        ones = np.ones((1, n_pairs))
        return combine(a(ones), b(ones), ones)[0]
    step = max(1, BLOCK // (n_rdms * n_pairs))
    parts = [weights[start : start + step] for start in range(0, len(weights), step)]
    return np.concatenate([combine(a(part), b(part), part) for part in parts])


def _cosine(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    copies = weights[:, np.newaxis]
    products = (a * copies) @ b.transpose(0, 2, 1)
    lengths = np.sqrt((a**2 * copies).sum(axis=2)[:, :, np.newaxis] * (b**2 * copies).sum(axis=2)[:, np.newaxis])
    return np.divide(products, lengths, out=np.full(products.shape, np.nan), where=lengths > 0)


def _rank_product(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1)[:, np.newaxis, np.newaxis]
    products = (a * weights[:, np.newaxis]) @ b.transpose(0, 2, 1)
    return np.divide(12 * products, total**3 - total, out=np.full(products.shape, np.nan), where=total > 1)


def _raw(x: np.ndarray) -> Scores:
    return lambda weights: np.broadcast_to(x, (len(weights), *x.shape))


def _centered(x: np.ndarray) -> Scores:
    def scores(weights: np.ndarray) -> np.ndarray:
        total = np.maximum(weights.sum(axis=1, keepdims=True), 1)
        return x - (weights @ x.T / total)[:, :, np.newaxis]

    return scores


def centered_ranks(x: np.ndarray) -> Scores:
    """Rank pairs that come in several copies: sort once, then each resample only counts the copies below.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.

    Returns
    -------
    callable
        Weights (m, n_pairs) to average ranks minus their mean (m, n_rdms, n_pairs).
    """
    sorting = [np.unique(row, return_inverse=True)[1] for row in x]
    orders = [np.argsort(groups, kind="stable") for groups in sorting]

    def _scores(weights: np.ndarray) -> np.ndarray:
        out = np.empty((len(weights), *x.shape))
        middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
        for k, (groups, order) in enumerate(zip(sorting, orders)):
            starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
            copies = np.add.reduceat(weights[:, order], starts, axis=1)
            ranks = np.cumsum(copies, axis=1) - (copies - 1) / 2 - middle
            out[:, k] = ranks[:, groups]
        return out

    return _scores
