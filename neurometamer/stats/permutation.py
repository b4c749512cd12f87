"""Permute labels: orders of stimuli for a null distribution, freely or within blocks, and the p that they give.

The labels of one RDM are permuted, rows and columns together; the other RDM stays. Blocks
(sessions, classes) keep what the stimuli of a block share out of the test: an offset of a session
raises the similarity of two RDMs and also of their permutations within sessions, while free
permutations break it and make the null too low.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator

ALTERNATIVES = ("greater", "less", "two-sided")

DENSE = 4
"""With up to so many times more distinct orders than asked for, all are listed and some taken: draws would repeat."""

Blocks = Mapping[str, str] | Mapping[str, Mapping[str, str]]
"""Stimulus → session or class, or subject → such a mapping."""


@checked
def count_orders(n: int, blocks: Sequence[object] | None = None) -> int:
    """Count the distinct orders of stimuli, the one as observed included.

    Parameters
    ----------
    n : int
        Stimuli.
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
        Stimuli.
    n_permutations : int
        Orders wanted. Where fewer exist (`count_orders` minus 1, the observed one), all of them
        come: the test is then exact.
    seed : int
        The same arguments give the same orders everywhere.
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
            "stimulus; use larger blocks, "
            "or permute freely."
        )
    random = generator(seed, "permutation", n, *(map(str, blocks) if blocks is not None else ()))
    if total - 1 <= DENSE * n_permutations:
        every = np.array([order for order in _every_order(n, members) if order != tuple(range(n))])
        if len(every) <= n_permutations:
            return every
        return every[np.sort(random.choice(len(every), n_permutations, replace=False))]
    return _distinct_orders(n, n_permutations, members, random)


def stimulus_orders(
    ids: Sequence[str], n_permutations: int, seed: int, blocks: Mapping[str, str] | None = None
) -> tuple[np.ndarray, str]:
    """Draw orders of named stimuli, within sessions or classes where these are given, and say in words what came.

    Parameters
    ----------
    ids : sequence of str, length n
        Stimuli.
    n_permutations, seed : int
        See `permutation_orders`.
    blocks : mapping of str to str, optional
        Stimulus → session or class; may hold more stimuli.

    Returns
    -------
    orders : ndarray of int, shape (m, n)
        See `permutation_orders`.
    text : str
        For a column ``p_method``.

    Raises
    ------
    InputError
        When a stimulus has no block, all are of one, or each block holds one stimulus.
    """
    labels = None
    if blocks is not None:
        if lacking := [one for one in ids if one not in blocks]:
            raise InputError(
                f"no session or class for the stimuli {name_ids(lacking)}; give blocks for all of "
                "them."
            )
        labels = [str(blocks[one]) for one in ids]
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
    least = 1 / (1 + len(orders))
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
    labels = np.array([str(one) for one in blocks])
    return {str(label): np.flatnonzero(labels == label) for label in dict.fromkeys(labels)}


def _every_order(n: int, members: dict[str, np.ndarray]) -> Iterator[tuple[int, ...]]:
    places = np.concatenate(list(members.values()))
    for parts in itertools.product(
        *(itertools.permutations(one.tolist()) for one in members.values())
    ):
        order = np.empty(n, dtype=np.int64)
        order[places] = np.concatenate(parts)
        yield tuple(order.tolist())


def _distinct_orders(
    n: int, n_permutations: int, members: dict[str, np.ndarray], random: np.random.Generator
) -> np.ndarray:
    """Draw until there are enough; orders that came before, the observed one included, are drawn again."""
    seen = {np.arange(n).tobytes()}
    kept: list[np.ndarray] = []
    while len(kept) < n_permutations:
        drawn = np.empty((n_permutations - len(kept), n), dtype=np.int64)
        for places in members.values():
            drawn[:, places] = random.permuted(np.tile(places, (len(drawn), 1)), axis=1)
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
            "the shape "
            f"{np.shape(vector)}."
        )
    square = np.zeros((orders.shape[1],) * 2)
    square[first, second] = square[second, first] = vector
    return square[orders[:, first], orders[:, second]]


def permutation_p(
    values: np.ndarray, samples: np.ndarray, alternative: str = "greater"
) -> np.ndarray:
    """Say how rare the observed values are among those of the null distribution.

    Parameters
    ----------
    values : ndarray, shape (...)
        Observed.
    samples : ndarray, shape (N, ...)
        Of the null; NaN (undefined in that draw) is left out.
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
        tails = [permutation_p(values, samples, one) for one in ("greater", "less")]
        return np.minimum(1.0, 2 * np.minimum(*tails))
    defined = np.isfinite(samples).sum(axis=0)
    # equal similarities of permuted labels differ in the last digits: they count as equal
    slack = 1e-12 * np.maximum(1, np.abs(values))
    beyond = samples >= values - slack if alternative == "greater" else samples <= values + slack
    p = (1 + beyond.sum(axis=0)) / (1 + defined)
    return np.where(np.isfinite(values) & (defined > 0), p, np.nan)
