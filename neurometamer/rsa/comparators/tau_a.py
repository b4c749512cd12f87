"""Kendall's tau-a of condensed RDMs, and of resamples in which pairs come in several copies.

Counting the discordant pairs of pairs is all the work. `scipy.stats.kendalltau` does it one value
after another in a binary tree; here values are split by rank into 64 parts, again and again, and
counted in tables, by whole arrays.
"""

from __future__ import annotations

import numpy as np

from neurometamer.rsa.comparators.ranks import check_sides

PARTS = 6
"""Bits by which ranks are split in a step: 64 parts."""

MANY_PAIRS, FEW_RESAMPLES = 2000, 16
"""Up to so many pairs, and from so many resamples on, the signs of all differences are held (16 MB): faster."""


def tau_a(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Take Kendall's tau-a: concordant minus discordant pairs of pairs over all, ties counting as neither.

    This is ``"tau-a"`` in rsatoolbox, whose ``"kendall"`` is tau-b.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        How many copies of each pair there are; whole numbers.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1].

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553.
    """
    check_sides(a, b, weights)
    if weights is None:
        return _count_pairs(a, b, None)
    if len(weights) >= FEW_RESAMPLES and a.shape[1] <= MANY_PAIRS:
        return _by_signs(a, b, np.asarray(weights))
    out = np.full((len(weights), len(a), len(b)), np.nan)
    for values, row in zip(out, weights):
        drawn = np.flatnonzero(row)
        if row.sum() > 1:
            values[:] = _count_pairs(a.take(drawn, axis=1), b.take(drawn, axis=1), row[drawn])
    return out


def _by_signs(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply all signs of differences once; a resample is then a matrix product."""
    out = np.empty((len(weights), len(a), len(b)))
    copies = weights.astype(np.float32)  # sums of copies are whole and below 2**24: exact
    total = weights.sum(axis=1)
    for i, one in enumerate(a):
        signs = np.sign(one[:, np.newaxis] - one).astype(np.float32)
        for j, other in enumerate(b):
            agreement = signs * np.sign(other[:, np.newaxis] - other).astype(np.float32)
            out[:, i, j] = np.einsum("mp,mp->m", (copies @ agreement).astype(np.float64), weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return out / (total * (total - 1))[:, np.newaxis, np.newaxis]


def _count_pairs(a: np.ndarray, b: np.ndarray, copies: np.ndarray | None) -> np.ndarray:
    """Sort each side once; pairs of RDMs without ties then need no sorting at all."""
    n = a.shape[1]
    left, right = [_Sorted(one, copies) for one in a], [_Sorted(other, copies) for other in b]
    pairs = n * (n - 1) / 2 if copies is None else (copies.sum() ** 2 - (copies**2).sum()) / 2
    whole = (
        pairs if copies is None else copies.sum() * (copies.sum() - 1) / 2
    )  # copies of one pair are tied, and count
    out = np.empty((len(a), len(b)))
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            order, joint = one.order, 0.0
            if one.ties:
                order = np.lexsort((other.groups, one.groups))
                joint = (
                    _Sorted(one.groups * np.int64(n) + other.groups, copies).ties
                    if other.ties
                    else 0.0
                )
            found = other.groups[order]
            discordant = inversions(
                _places(found) if other.ties else found, None if copies is None else copies[order]
            )
            out[i, j] = (pairs - one.ties - other.ties + joint - 2 * discordant) / whole
    return out


class _Sorted:
    """One RDM's values in order: `order`, `groups` (0 for the smallest value, 1 for the next), pairs of `ties`."""

    def __init__(self, values: np.ndarray, copies: np.ndarray | None) -> None:
        self.order = np.argsort(values)
        ordered = values[self.order]
        new = np.r_[False, ordered[1:] != ordered[:-1]]
        self.groups = np.empty(values.size, dtype=np.int32)
        self.groups[self.order] = np.cumsum(new, dtype=np.int32)
        self.ties = 0.0
        if self.groups.max(initial=0) < values.size - 1:
            sizes = np.bincount(self.groups, copies).astype(np.float64)
            squares = sizes if copies is None else np.bincount(self.groups, copies**2)
            self.ties = float(((sizes**2 - squares) / 2).sum())


def _places(groups: np.ndarray) -> np.ndarray:
    """Give each value its place when sorted, equal values in the order in which they come: never an inversion."""
    places = np.empty(groups.size, dtype=np.int32)
    places[np.argsort(groups, kind="stable")] = np.arange(groups.size, dtype=np.int32)
    return places


def inversions(places: np.ndarray, copies: np.ndarray | None = None) -> float:
    """Count pairs in which the larger number comes first.

    Parameters
    ----------
    places : ndarray of int, shape (n,)
        The numbers 0 to n - 1, each once.
    copies : ndarray, shape (n,), optional
        How often each number stands in its place: a pair counts the product.

    Returns
    -------
    float
        Whole; from 0 (ascending) to n (n - 1) / 2 without copies.

    Examples
    --------
    >>> inversions(np.array([2, 0, 1]))
    2.0
    """
    bits = max(PARTS, int(places.size - 1).bit_length())
    rows = np.arange(2**bits, dtype=np.int32)[
        np.newaxis
    ]  # what is added stands in order at the end: no inversion
    rows[0, : places.size] = places
    weights = None
    if copies is not None:
        weights = np.zeros(rows.shape)
        weights[0, : places.size] = copies
    found = 0.0
    while True:
        step = min(PARTS, bits)
        bits -= step
        part = (rows >> bits).astype(np.uint8) if bits else rows.astype(np.uint8)
        found += _between_parts(part, weights)
        if not bits:
            return found
        order = np.argsort(part, axis=1, kind="stable")
        rows = np.take_along_axis(rows, order, axis=1).reshape(-1, 2**bits) & (2**bits - 1)
        if weights is not None:
            weights = np.take_along_axis(weights, order, axis=1).reshape(rows.shape)


def _between_parts(part: np.ndarray, weights: np.ndarray | None) -> float:
    """Count inversions between different parts in each row: within blocks one by one, between blocks in tables."""
    n, length = part.shape
    side = min(2**PARTS, length)
    blocks = np.ascontiguousarray(
        part.reshape(-1, side).T
    )  # neighbors in a block are far apart: long vectors
    heavy = None if weights is None else np.ascontiguousarray(weights.reshape(-1, side).T)
    found = 0.0
    for shift in range(1, side):
        inverted = blocks[:-shift] > blocks[shift:]
        if heavy is None:
            found += int(np.count_nonzero(inverted))
        else:
            found += float(np.einsum("ij,ij,ij->", inverted, heavy[:-shift], heavy[shift:]))
    if length == side:
        return found
    cells = np.arange(blocks.shape[1], dtype=np.int64) * side + blocks
    table = np.bincount(
        cells.ravel(), None if heavy is None else heavy.ravel(), minlength=blocks.shape[1] * side
    )
    table = table.reshape(n, -1, side)
    before = np.cumsum(table, axis=1) - table
    larger = before.sum(axis=2, keepdims=True) - np.cumsum(before, axis=2)
    return found + float(np.einsum("nbp,nbp->", table, larger))
