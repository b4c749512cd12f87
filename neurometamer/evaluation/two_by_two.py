"""A two by two design of networks, and its effects: permutation tests over images and networks.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, duplicates, name_ids, need_columns
from neurometamer.provenance import generator
from neurometamer.stats.resampling import p_from_count
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


# --------------------------------------------------------------------------------------- the design


@dataclass(frozen=True, kw_only=True)
class Design:
    """Two factors of the generators, and an optional factor of the evaluators.

    Attributes
    ----------
    factors : tuple of str
        Names of the two factors.
    levels : tuple of tuple of str
        The two levels of each.
    cells : mapping of str to int
        Generator to its cell, 0 to 3.
    evaluator_factor : str
        Name of the factor of the evaluators; empty where there is none.
    evaluator_levels : tuple of str
        Its two levels.
    level_of : mapping of str to str
        Evaluator to its level.
    """

    factors: tuple[str, str]
    levels: tuple[tuple[str, str], tuple[str, str]]
    cells: Mapping[str, int]
    evaluator_factor: str = ""
    evaluator_levels: tuple[str, ...] = ()
    level_of: Mapping[str, str] = field(default_factory=dict)

    def names(self, cell: int) -> tuple[str, str]:
        """Name the levels of a cell.

        Parameters
        ----------
        cell : int
            0 to 3.

        Returns
        -------
        tuple of str
            Level of the first factor and of the second.
        """
        first, second = self.levels
        row = cell // 2
        column = cell % 2
        level_a = first[row]
        level_b = second[column]
        return level_a, level_b

    def effect(self, contrast: str) -> tuple[str, str]:
        """Name the effect of a contrast, and describe it in words.

        Parameters
        ----------
        contrast : str
            A key of `CONTRASTS`.

        Returns
        -------
        tuple of str
            Name of the effect, and which cells are compared.
        """
        first, second = self.levels
        a1, a2 = first
        b1, b2 = second
        if contrast == "a":
            return self.factors[0], f"{a1} - {a2}"
        if contrast == "b":
            return self.factors[1], f"{b1} - {b2}"
        words = f"({a1} {b1} - {a1} {b2}) - ({a2} {b1} - {a2} {b2})"
        return "interaction", words


def read_design(
    table: pd.DataFrame,
    networks: pd.DataFrame,
    factors: Sequence[str] | Mapping[str, Sequence[str]],
    evaluator_factor: str | None,
) -> Design:
    """Find each generator's cell and each evaluator's level.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns members (the generator), evaluator, and chosen (bool: the evaluator counts).
    networks : pandas.DataFrame
        One row a network: column ``network``, and one column a factor.
    factors : sequence or mapping of str
        Two columns with two levels each among the generators; a mapping also gives their order.
    evaluator_factor : str, optional
        A column with two levels among the evaluators.

    Returns
    -------
    Design
        The cells and levels.

    Raises
    ------
    InputError
        When a network or value is missing or unknown, a factor has not two levels, or a cell is
        empty.
    """
    names = [] if isinstance(factors, str) else list(factors)
    is_pair = len(names) == 2 and len(set(names)) == 2
    if not is_pair or {"interaction", "network"} & set(names):
        raise InputError(f"two factors are needed, such as ('training', 'color'), not {factors!r}.")
    columns = ["network", *names]
    if evaluator_factor:
        columns.append(evaluator_factor)
    need_columns(networks, columns, "the table of networks", "Give one row a network.")
    again = duplicates(networks["network"])
    if again:
        raise InputError(
            f"networks named more than once in the table of networks: {name_ids(again)}; give one "
            "row a network."
        )
    known = {*table["members"], *table["evaluator"]}
    unknown = [name for name in networks["network"] if name not in known]
    if unknown:
        raise InputError(
            f"networks that neither generated nor evaluated anything: {name_ids(unknown)}; correct "
            "the name."
        )
    generators = sorted(set(table["members"]))
    order = factors if isinstance(factors, Mapping) else {}
    first = _values(networks, names[0], generators)
    second = _values(networks, names[1], generators)
    a = _levels(names[0], first, order.get(names[0]))
    b = _levels(names[1], second, order.get(names[1]))
    cells = {}
    for name in generators:
        row = a.index(first[name])
        column = b.index(second[name])
        cells[name] = 2 * row + column
    design = Design(factors=(names[0], names[1]), levels=(a, b), cells=cells)
    empty = set(range(4)) - set(cells.values())
    if empty:
        words = [" ".join(design.names(cell)) for cell in sorted(empty)]
        raise InputError(
            f"no generator is {', '.join(words)} ({' and '.join(names)}); each cell needs one: "
            "give its metamers too."
        )
    if not evaluator_factor:
        return design
    evaluators = sorted(set(table.loc[table["chosen"], "evaluator"]))
    level_of = _values(networks, evaluator_factor, evaluators)
    given = order.get(evaluator_factor)
    levels = _levels(evaluator_factor, level_of, given)
    return replace(
        design,
        evaluator_factor=evaluator_factor,
        evaluator_levels=levels,
        level_of=level_of,
    )


def _values(networks: pd.DataFrame, factor: str, names: Sequence[str]) -> dict[str, str]:
    """Read one factor of the networks called `names`."""
    values = networks.set_index("network")[factor]
    missing = [name for name in names if name not in values.index]
    if missing:
        raise InputError(
            f"the table of networks does not name {name_ids(missing)}; say what they are "
            f"({factor})."
        )
    known = {}
    empty = []
    for name in names:
        value = values.loc[name]
        known[str(name)] = str(value)
        if pd.isna(value) or not str(value).strip():
            empty.append(name)
    if empty:
        raise InputError(f"{factor} is missing of {name_ids(empty)}; fill it in.")
    return known


def _levels(factor: str, values: Mapping[str, str], order: Sequence[str] | None) -> tuple[str, str]:
    """Find the two levels of a factor, in the order given, else by the alphabet."""
    levels = sorted(set(values.values()))
    if len(levels) != 2:
        raise InputError(
            f"{factor} has {len(levels)} level(s) ({name_ids(levels)}) among the networks; two are "
            "needed."
        )
    if order is None:
        return levels[0], levels[1]
    ordered = [str(level) for level in order]
    if sorted(ordered) != levels:
        raise InputError(
            f"{factor} has the levels {name_ids(levels)}, not {name_ids(ordered)}; correct the "
            "order."
        )
    return ordered[0], ordered[1]


# ---------------------------------------------------------------------------------------- the tests


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
    n_reached = int((null >= observed).sum())
    if exact:
        return n_reached / len(null)
    return p_from_count(n_reached, len(null))


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
    if exact:
        codes = np.arange(2**n)[:, None]
        is_turned = codes >> np.arange(n) & 1
        signs = 1.0 - 2.0 * is_turned
        null = np.abs(signs @ both)
    else:
        random = generator(seed, "sign flips", n)
        blocks = []
        for start in range(0, n_permutations, _BLOCK):
            size = min(_BLOCK, n_permutations - start)
            is_turned = random.integers(0, 2, (size, n), np.int8)
            signs = 1.0 - 2.0 * is_turned
            sums = signs @ both
            blocks.append(np.abs(sums))
        null = np.concatenate(blocks)
    total = np.abs(both.sum(axis=0))
    observed = total - n * _NEAR
    p = _p_value(null[:, 0], observed[0], exact)
    p_min = _p_value(null[:, 1], observed[1], exact)
    return PermutationTest(
        p=p,
        p_min=p_min,
        n_permutations=len(null),
        exact=exact,
    )


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
        # other cells for the networks, as many in each cell: (m, n)
        counts = np.bincount(cells, minlength=4).tolist()
        n_ways = math.factorial(len(cells))
        for count in counts:
            n_ways //= math.factorial(count)
        exact = n_ways <= n_permutations
        if exact:
            labels = np.array(list(_arrangements(counts)))
        else:
            random = generator(seed, "labels of cells", *counts)
            copies = np.tile(cells, (n_permutations, 1))
            labels = random.permuted(copies, axis=1)
        p = _interaction_p(scores, cells, labels, exact)
        without_spread = np.isin(cells, (0, 3)).astype(float)
        p_min = _interaction_p(without_spread, cells, labels, exact)
        return PermutationTest(p, min(p, p_min), len(labels), exact)
    own = cells // 2
    other = cells % 2
    if effect != "a":
        own, other = other, own
    labels_of_level, exact = _level_labels(own, other, n_permutations, seed)
    both = np.stack([scores, own.astype(float)])  # the second has the effect and no spread
    sides = []
    observed = np.zeros(2)
    for level, is_first_label in enumerate(labels_of_level):
        values = both[:, other == level]
        is_first = own[other == level] == 0
        difference = values[:, is_first].mean(axis=1) - values[:, ~is_first].mean(axis=1)
        observed += difference / 2
        n_first = int(is_first_label[0].sum())
        sums = values @ is_first_label.T
        rest = values.sum(axis=1, keepdims=True) - sums
        sides.append(sums / n_first - rest / (is_first_label.shape[1] - n_first))
    if exact:
        # all labels of one level with all of the other
        null = np.abs((sides[0][:, :, None] + sides[1][:, None, :]) / 2).reshape(2, -1)
    else:
        null = np.abs(sides[0] + sides[1]) / 2
    reached = np.abs(observed) - _NEAR
    return PermutationTest(
        p=_p_value(null[0], reached[0], exact),
        p_min=_p_value(null[1], reached[1], exact),
        n_permutations=null.shape[1],
        exact=exact,
    )


def _level_labels(
    own: np.ndarray, other: np.ndarray, n_permutations: int, seed: int
) -> tuple[list[np.ndarray], bool]:
    """For each level of the other factor, mark which of its networks are in the first level.

    The shape is (m, networks), the values are 0 and 1.
    """
    is_first = [(own[other == level] == 0).astype(float) for level in (0, 1)]
    n_ways = [math.comb(len(part), int(part.sum())) for part in is_first]
    labels = []
    if math.prod(n_ways) > n_permutations:
        random = generator(seed, "labels within levels", *map(len, is_first))
        for part in is_first:
            copies = np.tile(part, (n_permutations, 1))
            labels.append(random.permuted(copies, axis=1))
        return labels, False
    for part, n in zip(is_first, n_ways, strict=True):
        choices = np.zeros((n, len(part)))
        positions = range(len(part))
        for row, subset in enumerate(itertools.combinations(positions, int(part.sum()))):
            choices[row, list(subset)] = 1
        labels.append(choices)
    return labels, True


def _arrangements(counts: list[int]) -> Iterator[list[int]]:
    """List labels, `counts` of each, in every different order."""
    if not sum(counts):
        yield []
    for label, left in enumerate(counts):
        if left:
            rest = list(counts)
            rest[label] -= 1
            for tail in _arrangements(rest):
                yield [label, *tail]


def _interaction_p(scores: np.ndarray, cells: np.ndarray, labels: np.ndarray, exact: bool) -> float:
    once = np.ones(len(cells))
    factors = [cells // 2, cells % 2]
    design = np.column_stack([once, *factors]).astype(float)
    weights, *_ = np.linalg.lstsq(design, scores, rcond=None)
    fitted = design @ weights
    residuals = scores - fitted
    is_rounding = np.abs(residuals) < _NEAR
    residuals[is_rounding] = 0
    null = _squared_t(residuals, labels)
    observed = _squared_t(residuals, cells[None])[0]
    reached = observed * (1 - _NEAR)
    return _p_value(null, reached, exact)


def _squared_t(residuals: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the square of the interaction over the sum of squares within cells.

    It differs from t² by a constant.
    """
    total = np.square(residuals).sum()
    effect = np.zeros(len(labels))
    within = np.full(len(labels), total)
    for cell, weight in enumerate(CONTRASTS["interaction"]):
        inside = labels == cell
        n_inside = inside.sum(axis=1)
        mean = inside @ residuals / n_inside
        effect += weight * mean
        within -= n_inside * np.square(mean)
    square = np.square(effect)
    has_spread = within > _NEAR * total
    has_effect = square > _NEAR * total / labels.shape[1]
    without_spread = np.where(has_effect, np.inf, 0.0)
    return np.where(has_spread, square / np.where(has_spread, within, 1.0), without_spread)


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
        raise InputError(f"confidence is {confidence}; give a share between 0 and 1.")
    df = len(cells) - 4
    if df < 1:
        return np.nan, np.nan
    counts = np.bincount(cells, minlength=4)
    means = np.bincount(cells, scores, minlength=4) / counts
    weights = np.array(CONTRASTS[effect])
    squares = np.square(scores - means[cells])
    variance = squares.sum() / df
    factor = (np.square(weights) / counts).sum()
    half = stats.t.ppf((1 + confidence) / 2, df) * math.sqrt(variance * factor)
    value = weights @ means
    return float(value - half), float(value + half)
