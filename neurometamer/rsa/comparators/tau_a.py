"""Kendall's tau-a of condensed RDMs, and of resamples in which pairs come in several copies.

Counting the discordant pairs of pairs is all the work. `scipy.stats.kendalltau` does it one value
after another in a binary tree; here values are split by rank into 64 parts, again and again, and
counted in tables, by whole arrays.
"""

from __future__ import annotations

import numpy as np

from neurometamer.rsa.comparators.ranks import check_sides, sort_values

PARTS = 6
"""Number of bits by which ranks are split in a step: 64 parts."""

MANY_PAIRS, FEW_RESAMPLES = 2000, 16
"""Largest number of pairs and least number of resamples for which all signs are held.

The signs of all differences take 16 MB then, and are the faster way.
"""


def tau_a(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute Kendall's tau-a: concordant minus discordant pairs of pairs, divided by all.

    Ties count as neither. This is ``"tau-a"`` in rsatoolbox, whose ``"kendall"`` is tau-b.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair; whole numbers.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1].

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553.

    Examples
    --------
    >>> tau_a(np.array([[1.0, 2, 3, 4]]), np.array([[1.0, 2, 4, 3]])).round(3).tolist()
    [[0.667]]
    """
    check_sides(a, b, weights)
    if weights is None:
        return _count_pairs(a, b, None)
    values = np.full((len(weights), len(a), len(b)), np.nan)
    if len(weights) < FEW_RESAMPLES or a.shape[1] > MANY_PAIRS:
        for k, copies in enumerate(weights):
            if copies.sum() > 1:
                drawn = np.flatnonzero(copies)
                left = a.take(drawn, axis=1)
                right = b.take(drawn, axis=1)
                values[k] = _count_pairs(left, right, copies[drawn])
        return values
    # all signs of differences are multiplied once; a resample is then a matrix product
    copies = np.asarray(weights)
    exact = copies.astype(np.float32)  # sums of copies are whole and below 2**24
    for i, first in enumerate(a):
        left = np.sign(first[:, np.newaxis] - first)
        left = left.astype(np.float32)
        for j, second in enumerate(b):
            right = np.sign(second[:, np.newaxis] - second)
            agreement = left * right.astype(np.float32)
            sums = exact @ agreement
            values[:, i, j] = np.einsum("mp,mp->m", sums.astype(np.float64), copies)
    total = copies.sum(axis=1)
    n_all = total * (total - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return values / n_all[:, np.newaxis, np.newaxis]


def _count_pairs(a: np.ndarray, b: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    """Sort each side once; pairs of RDMs without ties then need no sorting at all."""
    n = a.shape[1]
    n_distinct = n_all = n * (n - 1) / 2
    if copies is not None:
        # copies of one pair are tied, and count
        total = copies.sum()
        n_distinct = (total**2 - (copies**2).sum()) / 2
        n_all = total * (total - 1) / 2
    left = [_Sorted(row, copies) for row in a]
    right = [_Sorted(row, copies) for row in b]
    values = np.empty((len(a), len(b)))
    for i, first in enumerate(left):
        for j, second in enumerate(right):
            order = first.order
            joint = 0.0
            if first.ties:
                order = np.lexsort((second.groups, first.groups))
                if second.ties:
                    both = first.groups * np.int64(n) + second.groups
                    joint = _Sorted(both, copies).ties
            positions: np.ndarray = second.groups[order]
            if second.ties:
                # equal values in the order in which they come are never an inversion
                stable = np.argsort(positions, kind="stable")
                positions = np.empty(n, dtype=np.int32)
                positions[stable] = np.arange(n, dtype=np.int32)
            ordered_copies = None if copies is None else copies[order]
            discordant = inversions(positions, ordered_copies)
            difference = n_distinct - first.ties - second.ties + joint - 2 * discordant
            values[i, j] = difference / n_all
    return values


class _Sorted:
    """The order of the values of one RDM.

    `order` sorts the values, `groups` numbers them (0 for the smallest value, 1 for the next),
    and `ties` is the number of pairs of equal values.
    """

    def __init__(self, values: np.ndarray, copies: np.ndarray | None) -> None:
        self.order, groups = sort_values(values)
        self.groups = groups.astype(np.int32)
        self.ties = 0.0
        n_groups = self.groups.max(initial=0) + 1
        if n_groups < values.size:
            sizes = np.bincount(self.groups, copies)
            sizes = sizes.astype(np.float64)
            squares: np.ndarray = sizes
            if copies is not None:
                squares = np.bincount(self.groups, copies**2)
            tied = (sizes**2 - squares) / 2
            self.ties = float(tied.sum())


def inversions(positions: np.ndarray, copies: np.ndarray | None = None) -> float:
    """Count pairs in which the larger number comes first.

    Parameters
    ----------
    positions : ndarray of int, shape (n,)
        The numbers 0 to n - 1, each once.
    copies : ndarray, shape (n,), optional
        Number of copies of each number: a pair counts the product.

    Returns
    -------
    float
        Whole; from 0 (ascending) to n (n - 1) / 2 without copies.

    Examples
    --------
    >>> inversions(np.array([2, 0, 1]))
    2.0
    """
    bits = max(PARTS, int(positions.size - 1).bit_length())
    # what is added stands in order at the end: no inversion
    rows = np.arange(2**bits, dtype=np.int32)[np.newaxis]
    rows[0, : positions.size] = positions
    weights = None
    if copies is not None:
        weights = np.zeros(rows.shape)
        weights[0, : positions.size] = copies
    total = 0.0
    while True:
        bits -= min(PARTS, bits)
        high = rows >> bits if bits else rows
        part = high.astype(np.uint8)
        total += _inversions_between_parts(part, weights)
        if not bits:
            return total
        order = np.argsort(part, axis=1, kind="stable")
        ordered = np.take_along_axis(rows, order, axis=1).reshape(-1, 2**bits)
        rows = ordered & (2**bits - 1)
        if weights is not None:
            weights = np.take_along_axis(weights, order, axis=1).reshape(rows.shape)


def _inversions_between_parts(part: np.ndarray, weights: np.ndarray | None) -> float:
    """Count inversions between different parts in each row.

    Pairs within a block are compared one by one, pairs of blocks are counted in tables.
    """
    n, length = part.shape
    side = min(2**PARTS, length)
    # neighbors in a block are far apart: long vectors
    blocks = np.ascontiguousarray(part.reshape(-1, side).T)
    heavy = None
    if weights is not None:
        heavy = np.ascontiguousarray(weights.reshape(-1, side).T)
    total = 0.0
    for shift in range(1, side):
        inverted = blocks[:-shift] > blocks[shift:]
        if heavy is None:
            total += int(np.count_nonzero(inverted))
        else:
            products = np.einsum("ij,ij,ij->", inverted, heavy[:-shift], heavy[shift:])
            total += float(products)
    if length == side:
        return total
    n_blocks = blocks.shape[1]
    starts = np.arange(n_blocks, dtype=np.int64) * side
    cells = (starts + blocks).ravel()
    copies = None if heavy is None else heavy.ravel()
    table = np.bincount(cells, copies, minlength=n_blocks * side)
    table = table.reshape(n, -1, side)
    before = np.cumsum(table, axis=1) - table
    larger = before.sum(axis=2, keepdims=True) - np.cumsum(before, axis=2)
    return total + float(np.einsum("nbp,nbp->", table, larger))
