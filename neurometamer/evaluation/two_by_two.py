"""Effects in a two by two table of scores: permutation tests over images and over networks.

The networks are those in the four cells.

The cells are numbered 0 to 3: first level of both factors; first of A, second of B; second of A,
first of B; second of both. A permutation test of two sides asks how often a relabeling gives an
effect at least as far from 0 as the one seen. All relabelings are tried where there are few, and
the one seen is then among them: p = k / (their number). Otherwise N are drawn, and p = (1 + k) / (1
+ N).

References
----------
Freedman, D. & Lane, D. (1983). A nonstochastic interpretation of reported significance levels.
Journal of Business & Economic Statistics 1, 292-298. Anderson, M. J. & Legendre, P. (1999). An
empirical comparison of permutation methods for tests of partial regression coefficients in a linear
model. Journal of Statistical Computation and Simulation 62, 271-303 (why t, not the effect).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.stats.permutation import p_from_count
from neurometamer.summaries import short_repr

CONTRASTS = {
    "a": (0.5, 0.5, -0.5, -0.5),
    "b": (0.5, -0.5, 0.5, -0.5),
    "interaction": (1.0, -1.0, -1.0, 1.0),
}
"""Weights of the means of the cells.

Half of (m0 + m1) - (m2 + m3), half of (m0 + m2) - (m1 + m3), (m0 - m1) - (m2 - m3).
"""
_BLOCK = 1_000
_NEAR = 1e-9
"""Differences of proportions below this are rounding."""


@short_repr
@dataclass(frozen=True)
class PermutationTest:
    """Result of a permutation test.

    Attributes
    ----------
    p : float
        Two-sided p value, in (0, 1]; NaN where there is no test.
    p_min : float
        What an effect without any spread gets with so many images or networks: the smallest p that
        scores can give (of the interaction: in cells of one size; in others `p` can be smaller, and
        stands here then).
    n_permutations : int
        Relabelings tried, or drawn.
    exact : bool
        Whether all of them were tried.
    """

    p: float
    p_min: float
    n_permutations: int
    exact: bool


NO_TEST = PermutationTest(np.nan, np.nan, 0, False)


def _p_value(null: np.ndarray, observed: float, exact: bool) -> float:
    large = int((null >= observed).sum())
    return large / len(null) if exact else p_from_count(large, len(null))


def _check(n_permutations: int) -> None:
    if n_permutations < 1:
        raise InputError(f"n_permutations must be 1 or more, not {n_permutations}.")


# -------------------------------------------------------------------------------------- over images


def sign_flips(
    contrasts: np.ndarray, n_permutations: int = 10_000, *, seed: int = 0
) -> PermutationTest:
    """Test a mean against 0 by turning the signs of the values.

    Parameters
    ----------
    contrasts : ndarray
        (n,) finite: one effect an image.
    n_permutations : int
        All 2ⁿ choices of signs are tried where they are not more than this; else so many are drawn.
    seed : int
        Seed of the draws; the same for all contrasts of n images.

    Returns
    -------
    PermutationTest
        Exact where contrasts are symmetric around 0 under the null hypothesis; ``p_min`` is 2 / 2ⁿ
        or 1 / (1 + N).

    Raises
    ------
    InputError
        When `n_permutations` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> sign_flips(np.array([0.1, 0.2, 0.3, 0.4])).p  # two of sixteen
    0.125
    """
    _check(n_permutations)
    n = len(contrasts)
    if not n:
        return NO_TEST
    exact = n <= math.log2(n_permutations)
    both = np.column_stack([contrasts, np.ones(n)])
    blocks = _signs(n, n_permutations, exact, seed)
    null = np.concatenate([np.abs(signs @ both) for signs in blocks])
    observed = np.abs(both.sum(axis=0)) - n * _NEAR
    p, p_min = (_p_value(null[:, column], observed[column], exact) for column in (0, 1))
    return PermutationTest(p, p_min, len(null), exact)


def _signs(n: int, n_permutations: int, exact: bool, seed: int) -> Iterator[np.ndarray]:
    """Yield signs, (m, n) of ±1, block by block."""
    if exact:
        yield 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return
    random = generator(seed, "sign flips", n)
    for start in range(0, n_permutations, _BLOCK):
        yield 1.0 - 2.0 * random.integers(0, 2, (min(_BLOCK, n_permutations - start), n), np.int8)


# ------------------------------------------------------------------------------------ over networks


def relabel(
    scores: np.ndarray,
    cells: np.ndarray,
    effect: str,
    n_permutations: int = 10_000,
    *,
    seed: int = 0,
) -> PermutationTest:
    """Test an effect by giving the networks other labels.

    Parameters
    ----------
    scores : ndarray
        (n,) finite: one a network.
    cells : ndarray of int
        (n,) 0 to 3, the cell of each; no cell is empty.
    effect : {"a", "b", "interaction"}
        Which, see `CONTRASTS`.
    n_permutations : int
        All relabelings are tried where they are not more than this; else so many are drawn.
    seed : int
        Seed of the draws.

    Returns
    -------
    PermutationTest
        None (NaN) for the interaction with one network in every cell: nothing then tells it from
        chance.

    Raises
    ------
    InputError
        When `n_permutations` is below 1.

    Notes
    -----
    A main effect: its labels are shuffled within each level of the other factor, which is exact
    under the hypothesis that the factor does nothing at either level, whatever the other factor
    does. The statistic is the effect.

    The interaction: no shuffling of labels keeps both main effects, so there is no exact test of it
    with all networks. The scores' residuals from the two main effects (least squares) are shuffled
    over all networks (Freedman & Lane 1983), and the statistic is the squared t of the interaction
    in the full model. It must be t: residuals spread less than errors, by which the bare effect is
    found too often in small tables (simulated with two or three networks a cell: 6 to 9 % instead
    of 5 %; with t 3 to 6 %).
    """
    _check(n_permutations)
    cells = np.asarray(cells)
    if effect == "interaction":
        if np.bincount(cells, minlength=4).max() < 2:
            return NO_TEST
        labels, exact = _cell_labels(cells, n_permutations, seed)
        p = _interaction_p(scores, cells, labels, exact)
        p_min = _interaction_p(np.isin(cells, (0, 3)).astype(float), cells, labels, exact)
        return PermutationTest(p, min(p, p_min), len(labels), exact)
    own, other = (cells // 2, cells % 2) if effect == "a" else (cells % 2, cells // 2)
    parts, exact = _level_labels(own, other, n_permutations, seed)
    both = np.stack([scores, own.astype(float)])  # the second has the effect and no spread
    null = _main_effects(both, own, other, parts, exact)
    observed = np.zeros(2)
    for level in (0, 1):
        first, second = (both[:, (own == side) & (other == level)] for side in (0, 1))
        observed += (first.mean(axis=1) - second.mean(axis=1)) / 2
    p, p_min = (_p_value(null[row], abs(observed[row]) - _NEAR, exact) for row in (0, 1))
    return PermutationTest(p, p_min, null.shape[1], exact)


def _level_labels(
    own: np.ndarray, other: np.ndarray, n_permutations: int, seed: int
) -> tuple[list[np.ndarray], bool]:
    """For each level of the other factor, mark which of its networks are in the first level.

    The shape is (m, networks), the values are 0 and 1.
    """
    labels = [(own[other == level] == 0).astype(float) for level in (0, 1)]
    ways = [math.comb(len(part), int(part.sum())) for part in labels]
    if math.prod(ways) > n_permutations:
        random = generator(seed, "labels within levels", *map(len, labels))
        copies = [np.tile(part, (n_permutations, 1)) for part in labels]
        return [random.permuted(part, axis=1) for part in copies], False
    parts = []
    for part, n_ways in zip(labels, ways, strict=True):
        choices = np.zeros((n_ways, len(part)))
        subsets = itertools.combinations(range(len(part)), int(part.sum()))
        for row, subset in enumerate(subsets):
            choices[row, list(subset)] = 1
        parts.append(choices)
    return parts, True


def _main_effects(
    scores: np.ndarray, own: np.ndarray, other: np.ndarray, parts: list[np.ndarray], exact: bool
) -> np.ndarray:
    """Compute the effects under other labels, without their sign: (score vectors, m).

    Where the test is exact, the labels are all combinations.
    """
    sides = []
    for level, chosen in enumerate(parts):
        values = scores[:, other == level]
        n_first = int(chosen[0].sum())
        sums = values @ chosen.T
        rest = values.sum(axis=1, keepdims=True) - sums
        sides.append(sums / n_first - rest / (len(chosen[0]) - n_first))
    if exact:
        return np.abs((sides[0][:, :, None] + sides[1][:, None, :]) / 2).reshape(len(scores), -1)
    return np.abs(sides[0] + sides[1]) / 2


def _cell_labels(cells: np.ndarray, n_permutations: int, seed: int) -> tuple[np.ndarray, bool]:
    """Return other cells for the networks, as many in each cell: (m, n)."""
    counts = np.bincount(cells, minlength=4).tolist()
    ways = math.factorial(len(cells))
    for count in counts:
        ways //= math.factorial(count)
    if ways <= n_permutations:
        return np.array(list(_arrangements(counts))), True
    random = generator(seed, "labels of cells", *counts)
    return random.permuted(np.tile(cells, (n_permutations, 1)), axis=1), False


def _arrangements(counts: list[int]) -> Iterator[list[int]]:
    """List labels, `counts` of each, in every different order."""
    if not sum(counts):
        yield []
    for label, left in enumerate(counts):
        if left:
            rest = [count - (other == label) for other, count in enumerate(counts)]
            yield from ([label, *tail] for tail in _arrangements(rest))


def _interaction_p(scores: np.ndarray, cells: np.ndarray, labels: np.ndarray, exact: bool) -> float:
    design = np.column_stack([np.ones(len(cells)), cells // 2, cells % 2]).astype(float)
    residuals = scores - design @ np.linalg.lstsq(design, scores, rcond=None)[0]
    residuals[np.abs(residuals) < _NEAR] = 0
    null, (observed,) = _squared_t(residuals, labels), _squared_t(residuals, cells[None])
    return _p_value(null, observed * (1 - _NEAR), exact)


def _squared_t(residuals: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the square of the interaction over the sum of squares within cells.

    It differs from t² by a constant.
    """
    total = np.square(residuals).sum()
    effect, within = np.zeros(len(labels)), np.full(len(labels), total)
    for cell, weight in enumerate(CONTRASTS["interaction"]):
        inside = labels == cell
        mean = inside @ residuals / inside.sum(axis=1)
        effect += weight * mean
        within -= inside.sum(axis=1) * np.square(mean)
    spread, square = within > _NEAR * total, np.square(effect)
    there = square > _NEAR * total / labels.shape[1]
    return np.where(spread, square / np.where(spread, within, 1.0), np.where(there, np.inf, 0.0))


def spread_interval(
    scores: np.ndarray, cells: np.ndarray, effect: str, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute Student's interval of an effect over networks, from their spread within cells.

    Parameters
    ----------
    scores : ndarray
        (n,) finite: one a network.
    cells : ndarray of int
        (n,) 0 to 3; no cell is empty.
    effect : {"a", "b", "interaction"}
        Which, see `CONTRASTS`.
    confidence : float
        In (0, 1).

    Returns
    -------
    tuple of float
        Low and high end; n - 4 degrees of freedom. NaN with one network in every cell.

    Raises
    ------
    InputError
        When `confidence` is not between 0 and 1.
    """
    from scipy import stats

    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")
    df = len(cells) - 4
    if df < 1:
        return np.nan, np.nan
    counts = np.bincount(cells, minlength=4)
    means = np.bincount(cells, scores, minlength=4) / counts
    weights = np.array(CONTRASTS[effect])
    variance = np.square(scores - means[cells]).sum() / df
    error = math.sqrt(variance * (np.square(weights) / counts).sum())
    half = stats.t.ppf((1 + confidence) / 2, df) * error
    return float(weights @ means - half), float(weights @ means + half)
