"""Resample and permute stimuli: what the draws of a bootstrap and the orders of a null give.

One set of draws is shared by all layers, ROIs and subjects of a table, so that their differences
are paired.

In a null distribution the labels of one RDM are permuted, rows and columns together; the other RDM
stays. Blocks (sessions, classes) keep what the stimuli of a block share out of the test: an offset
of a session raises the similarity of two RDMs and also of their permutations within sessions, while
free permutations break it and make the null too low.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator

ALTERNATIVES = ("greater", "less", "two-sided")

TAILS = ("greater", "two-sided")
"""Large values count against the null; large absolute values do."""

ROUNDING = 1e-12
"""Relative difference below which a permuted value counts as equal to the observed one.

It is the same arrangement summed in another order.
"""

DENSE = 4
"""Largest ratio of distinct orders to orders wanted at which all orders are listed.

Draws would repeat then.
"""

Blocks = Mapping[str, str] | Mapping[str, Mapping[str, str]]
"""Stimulus → session or class, or subject → such a mapping."""


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
    copies *= counts[:, second]
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


# ------------------------------------------------------------------------------------- permutations


@checked
def count_orders(n: int, blocks: Sequence[object] | None = None) -> int:
    """Count the distinct orders of stimuli, the one as observed included.

    Parameters
    ----------
    n : int
        Number of stimuli.
    blocks : sequence, length n, optional
        Label of each stimulus' session or class; only stimuli of one block change places.

    Returns
    -------
    int
        n!, or the product of the factorials of the blocks' sizes.

    Raises
    ------
    InputError
        When there is not one block label a stimulus.

    Examples
    --------
    >>> count_orders(4), count_orders(4, ["a", "a", "b", "b"])
    (24, 4)
    """
    n_orders = 1
    for members in _members(n, blocks).values():
        n_orders *= math.factorial(len(members))
    return n_orders


@checked
def permutation_orders(
    n: int, n_permutations: int, seed: int, blocks: Sequence[object] | None = None
) -> np.ndarray:
    """Draw orders of stimuli for a null distribution: distinct, and never the order as observed.

    Parameters
    ----------
    n : int
        Number of stimuli.
    n_permutations : int
        Number of orders. Where fewer exist (`count_orders` minus 1, the observed one), all of them
        come: the test is then exact.
    seed : int
        Seed; the same arguments give the same orders everywhere.
    blocks : sequence, length n, optional
        Label of each stimulus' session or class; only stimuli of one block change places.

    Returns
    -------
    ndarray of int, shape (m, n)
        m = min(n_permutations, `count_orders` - 1) orders; ``labels[orders[k]]`` are the labels in
        order k.

    Raises
    ------
    InputError
        When nothing can be permuted (every block has one stimulus), or the numbers make no sense.

    Notes
    -----
    The order as observed is the 1 in p = (1 + count) / (1 + N). Drawn without repetition, the p is
    exact at any N.

    References
    ----------
    Phipson & Smyth (2010), Stat Appl Genet Mol Biol 9:39; Zhang et al. (2021), Representational
    Similarity Analysis.

    Examples
    --------
    >>> permutation_orders(4, 10, seed=0, blocks=["a", "a", "b", "b"]).tolist()
    [[0, 1, 3, 2], [1, 0, 2, 3], [1, 0, 3, 2]]
    """
    if n_permutations < 1:
        raise InputError(f"n_permutations must be 1 or more, not {n_permutations}.")
    members = _members(n, blocks)
    total = count_orders(n, blocks)
    if total == 1:
        raise InputError(
            f"no labels can be permuted: each of the blocks {name_ids(members)} holds one "
            "stimulus; use larger blocks, or permute freely."
        )
    labels = () if blocks is None else map(str, blocks)
    random = generator(seed, "permutation", n, *labels)
    observed = np.arange(n)
    if total - 1 <= DENSE * n_permutations:
        positions = np.concatenate(list(members.values()))
        within = [itertools.permutations(block.tolist()) for block in members.values()]
        orders = np.empty((total, n), dtype=np.int64)
        for order, parts in zip(orders, itertools.product(*within)):
            order[positions] = np.concatenate(parts)
        is_observed = (orders == observed).all(axis=1)
        orders = orders[~is_observed]
        if len(orders) <= n_permutations:
            return orders
        chosen = random.choice(len(orders), n_permutations, replace=False)
        return orders[np.sort(chosen)]
    seen = {observed.tobytes()}
    kept: list[np.ndarray] = []
    while len(kept) < n_permutations:
        n_left = n_permutations - len(kept)
        drawn = np.empty((n_left, n), dtype=np.int64)
        for positions in members.values():
            copies = np.tile(positions, (n_left, 1))
            drawn[:, positions] = random.permuted(copies, axis=1)
        for order in drawn:
            key = order.tobytes()
            if key not in seen:
                seen.add(key)
                kept.append(order)
    return np.array(kept)


def stimulus_orders(
    ids: Sequence[str], n_permutations: int, seed: int, blocks: Mapping[str, str] | None = None
) -> tuple[np.ndarray, str]:
    """Draw orders of named stimuli, freely or within sessions or classes, and describe them.

    Parameters
    ----------
    ids : sequence of str, length n
        Names of the stimuli.
    n_permutations, seed : int
        See `permutation_orders`.
    blocks : mapping of str to str, optional
        Stimulus → session or class; may hold more stimuli.

    Returns
    -------
    orders : ndarray of int, shape (m, n)
        See `permutation_orders`.
    text : str
        Text for a column ``p_method``.

    Raises
    ------
    InputError
        When a stimulus has no block, all are of one, or each block holds one stimulus.
    """
    labels = None
    where = "freely"
    if blocks is not None:
        lacking = [name for name in ids if name not in blocks]
        if lacking:
            raise InputError(
                f"no session or class for the stimuli {name_ids(lacking)}; give blocks for all of "
                "them."
            )
        labels = [str(blocks[name]) for name in ids]
        n_blocks = len(set(labels))
        if n_blocks == 1:
            raise InputError(
                f"all stimuli are of one session or class, '{labels[0]}'; permute freely (no "
                "blocks)."
            )
        where = f"within {n_blocks} blocks (sessions or classes)"
    orders = permutation_orders(len(ids), n_permutations, seed, labels)
    n_orders = f"{len(orders)} orders"
    if count_orders(len(ids), labels) - 1 == len(orders):
        n_orders += ", all there are (exact)"
    least = p_from_count(0, len(orders))
    text = f"one-tailed, stimulus labels permuted {where}, {n_orders}, least p {least:.2g}"
    return orders, text


def _members(n: int, blocks: Sequence[object] | None) -> dict[str, np.ndarray]:
    if n < 1:
        raise InputError(f"{n} stimuli cannot be permuted; give at least 2.")
    if blocks is None:
        return {"all": np.arange(n)}
    if len(blocks) != n:
        raise InputError(f"{len(blocks)} block labels for {n} stimuli; give one label each.")
    rows: dict[str, list[int]] = {}
    for row, block in enumerate(blocks):
        rows.setdefault(str(block), []).append(row)
    members = {}
    for label, numbers in rows.items():
        members[label] = np.array(numbers)
    return members


def pair_positions(rows: np.ndarray, n: int) -> np.ndarray:
    """Find the pairs of some stimuli, in the order asked for, in a condensed RDM.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)
        Positions of the stimuli in the RDM, each at most once.
    n : int
        Number of stimuli of the RDM.

    Returns
    -------
    ndarray of int, shape (m * (m - 1) / 2,)
        Positions in the condensed RDM.

    Examples
    --------
    >>> pair_positions(np.array([2, 0, 1]), 3).tolist()
    [1, 2, 0]
    """
    first, second = np.triu_indices(len(rows), 1)
    left = rows[first]
    right = rows[second]
    low = np.minimum(left, right)
    high = np.maximum(left, right)
    before = low * n - low * (low + 1) // 2
    return before + high - low - 1


def permute_pairs(vector: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Permute the stimuli of a condensed RDM, rows and columns together.

    Parameters
    ----------
    vector : ndarray, shape (n_pairs,)
        One condensed RDM.
    orders : ndarray of int, shape (m, n)
        See `permutation_orders`.

    Returns
    -------
    ndarray, shape (m, n_pairs)
        Row k is the condensed RDM of the stimuli in order k.

    Raises
    ------
    InputError
        When the vector and the orders are of other numbers of stimuli.

    Examples
    --------
    >>> permute_pairs(np.array([1.0, 2, 3]), np.array([[1, 0, 2]])).tolist()
    [[1.0, 3.0, 2.0]]
    """
    n = orders.shape[1]
    first, second = np.triu_indices(n, 1)
    if np.shape(vector) != first.shape:
        raise InputError(
            f"a condensed RDM of {n} stimuli has {first.size} pairs; this one has the shape "
            f"{np.shape(vector)}. Give orders of the stimuli of the RDM."
        )
    square = np.zeros((n, n))
    square[first, second] = vector
    square[second, first] = vector
    rows = orders[:, first]
    columns = orders[:, second]
    return square[rows, columns]


def permutation_p(
    values: np.ndarray, samples: np.ndarray, alternative: str = "greater"
) -> np.ndarray:
    """Compute how rare the observed values are among those of the null distribution.

    Parameters
    ----------
    values : ndarray, shape (...)
        Observed values.
    samples : ndarray, shape (N, ...)
        Values of the null distribution; NaN (undefined in that draw) is left out.
    alternative : {"greater", "less", "two-sided"}
        Two-sided: twice the smaller of the other two, at most 1.

    Returns
    -------
    ndarray, shape (...)
        (1 + count) / (1 + N), never 0 and never above 1; with N = 1000 not below .001. NaN where
        the value is NaN or no draw is defined.

    Raises
    ------
    InputError
        For an unknown alternative.

    References
    ----------
    Phipson & Smyth (2010), Stat Appl Genet Mol Biol 9:39.

    Examples
    --------
    >>> float(permutation_p(np.array(0.5), np.array([0.1, 0.6, 0.2])))
    0.5
    """
    if alternative not in ALTERNATIVES:
        raise unknown_name("alternative", alternative, ALTERNATIVES)
    values = np.asarray(values, dtype=np.float64)
    samples = np.asarray(samples, dtype=np.float64)
    if alternative == "two-sided":
        greater = permutation_p(values, samples, "greater")
        less = permutation_p(values, samples, "less")
        return np.minimum(1.0, 2 * np.minimum(greater, less))
    # equal similarities of permuted labels differ in the last digits: they count as equal
    slack = ROUNDING * np.maximum(1, np.abs(values))
    is_beyond = samples >= values - slack
    if alternative == "less":
        is_beyond = samples <= values + slack
    n_defined = np.isfinite(samples).sum(axis=0)
    p = p_from_count(is_beyond.sum(axis=0), n_defined)
    is_known = np.isfinite(values) & (n_defined > 0)
    return np.where(is_known, p, np.nan)


def p_from_count(reached: Any, n_permutations: Any) -> Any:
    """Compute p from the number of permutations that reach the observed value.

    Parameters
    ----------
    reached : int or ndarray of int
        Number of permutations that are at least as extreme as the observed value.
    n_permutations : int or ndarray of int
        Number of permutations; the order as observed is not among them.

    Returns
    -------
    float or ndarray
        (1 + reached) / (1 + n_permutations), in (0, 1].

    References
    ----------
    Phipson & Smyth (2010), Stat Appl Genet Mol Biol 9:39.

    Examples
    --------
    >>> p_from_count(4, 99)
    0.05
    """
    n_reached = 1 + reached
    n_all = 1 + n_permutations
    return n_reached / n_all


@checked
def max_t_p(
    observed: np.ndarray, null: np.ndarray, tail: str = "greater"
) -> tuple[np.ndarray, np.ndarray]:
    """Compute p values from permutations, one by one and for the family (max-T).

    Parameters
    ----------
    observed : ndarray, shape (...)
        Family of statistics; NaN where there was no test.
    null : ndarray, shape (n_permutations, ...)
        The same statistics of each permutation, all from the same permutation.
    tail : str
        One of `TAILS`.

    Returns
    -------
    p : ndarray, shape (...)
        (1 + number of permutations at least as extreme) / (1 + n_permutations); NaN without a test.
    p_family : ndarray, shape (...)
        The same against the most extreme of all statistics in each permutation: holds for the whole
        family.

    Raises
    ------
    InputError
        For an unknown tail, shapes that do not fit, or a permutation without a value where there is
        a test.

    References
    ----------
    Nichols & Holmes (2002), Hum Brain Mapp 15:1-25; Phipson & Smyth (2010), Stat Appl Genet Mol
    Biol 9:39.

    Examples
    --------
    >>> p, family = max_t_p(np.array([3.0, 1.0]), np.array([[0.0, 2.0], [1.0, 0.5], [0.5, 0.0]]))
    >>> p.tolist(), family.tolist()
    ([0.25, 0.5], [0.25, 0.75])
    """
    if tail not in TAILS:
        raise unknown_name("tail", tail, TAILS)
    observed = np.asarray(observed, dtype=np.float64)
    null = np.asarray(null, dtype=np.float64)
    if null.shape[1:] != observed.shape or not len(null):
        raise InputError(
            f"null has the shape {null.shape}; it must be (n_permutations, *{observed.shape})."
        )
    tests = ~np.isnan(observed)
    values = observed[tests]
    drawn = null[:, tests]
    if np.isnan(drawn).any():
        lacking = np.flatnonzero(np.isnan(drawn).any(axis=1))
        raise InputError(
            f"some permutations have no value where the observed statistic has one (rows "
            f"{name_ids(lacking)} of null); leave these permutations or that statistic out."
        )
    if tail == "two-sided":
        values = np.abs(values)
        drawn = np.abs(drawn)
    limit = values - ROUNDING * np.maximum(1, np.abs(values))
    p = np.full(observed.shape, np.nan)
    p_family = np.full(observed.shape, np.nan)
    if tests.any():
        n_single = (drawn >= limit).sum(axis=0)
        p[tests] = p_from_count(n_single, len(null))
        largest = drawn.max(axis=1)[:, np.newaxis]
        n_family = (largest >= limit).sum(axis=0)
        p_family[tests] = p_from_count(n_family, len(null))
    return p, p_family
