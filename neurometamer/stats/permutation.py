"""Orders of stimuli for a null distribution, freely or within blocks, and p from permutations.

The labels of one RDM are permuted, rows and columns together; the other RDM stays. Blocks
(sessions, classes) keep what the stimuli of a block share out of the test: an offset of a session
raises the similarity of two RDMs and also of their permutations within sessions, while free
permutations break it and make the null too low.
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

DENSE = 4
"""Largest ratio of distinct orders to orders wanted at which all orders are listed.

Draws would repeat then.
"""

Blocks = Mapping[str, str] | Mapping[str, Mapping[str, str]]
"""Stimulus → session or class, or subject → such a mapping."""


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
    return math.prod(math.factorial(len(members)) for members in _members(n, blocks).values())


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
    random = generator(seed, "permutation", n, *(map(str, blocks) if blocks is not None else ()))
    if total - 1 <= DENSE * n_permutations:
        positions = np.concatenate(list(members.values()))
        within = [itertools.permutations(block.tolist()) for block in members.values()]
        every = np.empty((total, n), dtype=np.int64)
        for order, parts in zip(every, itertools.product(*within)):
            order[positions] = np.concatenate(parts)
        every = every[(every != np.arange(n)).any(axis=1)]
        if len(every) <= n_permutations:
            return every
        return every[np.sort(random.choice(len(every), n_permutations, replace=False))]
    return _distinct_orders(n, n_permutations, members, random)


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
    if blocks is not None:
        if lacking := [name for name in ids if name not in blocks]:
            raise InputError(
                f"no session or class for the stimuli {name_ids(lacking)}; give blocks for all of "
                "them."
            )
        labels = [str(blocks[name]) for name in ids]
        if len(set(labels)) == 1:
            raise InputError(
                f"all stimuli are of one session or class, '{labels[0]}'; permute freely (no "
                "blocks)."
            )
    orders = permutation_orders(len(ids), n_permutations, seed, labels)
    where = (
        "freely" if labels is None else f"within {len(set(labels))} blocks (sessions or classes)"
    )
    exact = ", all there are (exact)" if count_orders(len(ids), labels) - 1 == len(orders) else ""
    least = p_from_count(0, len(orders))
    return (
        orders,
        f"one-tailed, stimulus labels permuted {where}, {len(orders)} orders{exact}, least p "
        f"{least:.2g}",
    )


def _members(n: int, blocks: Sequence[object] | None) -> dict[str, np.ndarray]:
    if n < 1:
        raise InputError(f"{n} stimuli cannot be permuted.")
    if blocks is None:
        return {"all": np.arange(n)}
    if len(blocks) != n:
        raise InputError(f"{len(blocks)} block labels for {n} stimuli; give one label each.")
    labels = np.array([str(block) for block in blocks])
    return {str(label): np.flatnonzero(labels == label) for label in dict.fromkeys(labels)}


def _distinct_orders(
    n: int, n_permutations: int, members: dict[str, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """Draw until there are enough distinct orders, none of them the observed one."""
    seen = {np.arange(n).tobytes()}
    kept: list[np.ndarray] = []
    while len(kept) < n_permutations:
        drawn = np.empty((n_permutations - len(kept), n), dtype=np.int64)
        for positions in members.values():
            drawn[:, positions] = random.permuted(np.tile(positions, (len(drawn), 1)), axis=1)
        for order in drawn:
            if (key := order.tobytes()) not in seen:
                seen.add(key)
                kept.append(order)
    return np.array(kept)


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
    first, second = np.triu_indices(orders.shape[1], 1)
    if np.shape(vector) != first.shape:
        raise InputError(
            f"a condensed RDM of {orders.shape[1]} stimuli has {first.size} pairs; this one has "
            f"the shape {np.shape(vector)}."
        )
    square = np.zeros((orders.shape[1],) * 2)
    square[first, second] = square[second, first] = vector
    return square[orders[:, first], orders[:, second]]


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
    values, samples = np.asarray(values, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if alternative == "two-sided":
        greater = permutation_p(values, samples, "greater")
        less = permutation_p(values, samples, "less")
        return np.minimum(1.0, 2 * np.minimum(greater, less))
    defined = np.isfinite(samples).sum(axis=0)
    # equal similarities of permuted labels differ in the last digits: they count as equal
    slack = 1e-12 * np.maximum(1, np.abs(values))
    beyond = samples >= values - slack if alternative == "greater" else samples <= values + slack
    p = p_from_count(beyond.sum(axis=0), defined)
    return np.where(np.isfinite(values) & (defined > 0), p, np.nan)


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
    return (1 + reached) / (1 + n_permutations)


TAILS = ("greater", "two-sided")
"""Large values count against the null; large absolute values do."""

_ROUNDING = 1e-12
"""Relative difference below which a permuted value counts as equal to the observed one.

It is the same arrangement summed in another order.
"""


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
    observed, null = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if null.shape[1:] != observed.shape or not len(null):
        raise InputError(
            f"null has the shape {null.shape}; it must be (n_permutations, *{observed.shape})."
        )
    tests = ~np.isnan(observed)
    values, drawn = observed[tests], null[:, tests]
    if np.isnan(drawn).any():
        raise InputError("some permutations have no value where the observed statistic has one.")
    if tail == "two-sided":
        values, drawn = np.abs(values), np.abs(drawn)
    limit = values - _ROUNDING * np.maximum(1, np.abs(values))
    p, p_family = np.full(observed.shape, np.nan), np.full(observed.shape, np.nan)
    if tests.any():
        p[tests] = p_from_count((drawn >= limit).sum(axis=0), len(null))
        largest = drawn.max(axis=1)[:, np.newaxis]
        p_family[tests] = p_from_count((largest >= limit).sum(axis=0), len(null))
    return p, p_family
