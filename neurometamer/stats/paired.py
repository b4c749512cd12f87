"""Paired t-tests over layers or subjects, and their power.

A t-test wants independent values whose mean means something: correlations of layers or subjects,
never squared correlations and never overlapping folds; `layers_t_test` refuses both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, need_columns, unknown_name
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd


@short_repr
@dataclass(frozen=True)
class PairedT:
    """Result of `paired_t`.

    Parameters
    ----------
    t : float
        Value of the statistic.
    dof : int
        Number of pairs minus 1.
    p : float
        Two-sided p.
    dz : float
        Mean difference over its standard deviation: the effect size of `paired_power`.
    mean : float
        Mean difference.
    """

    t: float
    dof: int
    p: float
    dz: float
    mean: float


@checked
def paired_t(first: Sequence[float], second: Sequence[float]) -> PairedT:
    """Test whether paired values differ on average: layers, or subjects.

    Parameters
    ----------
    first, second : sequence of float, shape (n,)
        Values of the same layers (or subjects) in the same order; correlations as they are, not
        squared.

    Returns
    -------
    PairedT
        t, degrees of freedom, two-sided p, dz, mean difference.

    Raises
    ------
    InputError
        For unequal lengths, fewer than 2 pairs, missing numbers, or differences that are all equal.

    Notes
    -----
    Layers of one network are no sample of anything and depend on each other: the p of a test over
    layers is that of the paper, not of a population.

    References
    ----------
    Zhang et al. (2018), CCN: RE-AI above RE-AN over the 8 layers of AlexNet.

    Examples
    --------
    >>> round(paired_t([0.3, 0.5, 0.6], [0.1, 0.2, 0.4]).t, 3)
    7.0
    """
    from scipy.stats import t as student

    a = np.asarray(first, dtype=np.float64)
    b = np.asarray(second, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or a.size < 2:
        raise InputError(
            f"a paired t-test needs two equally long lists of 2 or more, not {a.shape} and "
            f"{b.shape}."
        )
    difference = a - b
    if not np.isfinite(difference).all():
        lacking = np.flatnonzero(~np.isfinite(difference))
        raise InputError(
            f"values {name_ids(lacking)} of a paired t-test are missing; leave these pairs out."
        )
    mean = float(difference.mean())
    spread = float(difference.std(ddof=1))
    largest = float(np.abs(difference).max(initial=0))
    if spread <= 1e-12 * largest:
        raise InputError(
            f"all paired differences are equal ({mean:g}), so they have no spread to be held "
            "against; give pairs that differ."
        )
    dz = mean / spread
    statistic = dz * math.sqrt(a.size)
    dof = a.size - 1
    p = float(2 * student.sf(abs(statistic), dof))
    return PairedT(statistic, dof, p, dz, mean)


@checked
def layers_t_test(
    table: pd.DataFrame,
    first: str = "RE-AI",
    second: str = "RE-AN",
    *,
    over: str = "representation",
    pair: str = "pair",
    value: str = "similarity",
) -> PairedT:
    """Test whether two kinds of similarity differ over layers (or ROIs), joined by name.

    Parameters
    ----------
    table : pandas.DataFrame
        The table of `image_type_similarity`: one row a layer and pair of kinds.
    first, second : str
        Values of the column `pair`; the second is subtracted.
    over : str
        Column of the layer.
    pair : str
        Column of the pair of kinds.
    value : str
        Column of the similarity.

    Returns
    -------
    PairedT
        Result of `paired_t`.

    Raises
    ------
    InputError
        When a layer is missing on one side or comes twice (subjects, folds: overlapping folds are
        not independent), or `value` is a squared correlation.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "representation": ["conv1", "conv2", "fc"] * 2,
    ...         "pair": ["RE-AI"] * 3 + ["RE-AN"] * 3,
    ...         "similarity": [0.3, 0.5, 0.6, 0.1, 0.2, 0.4],
    ...     }
    ... )
    >>> round(layers_t_test(table).t, 3)
    7.0
    """
    if value.lower() in SQUARED:
        raise InputError(
            f"'{value}' is a squared correlation, which has lost its sign; test the correlations "
            "themselves."
        )
    need_columns(
        table,
        (pair, over, value),
        "the table",
        "Give that of image_type_similarity, or name its columns.",
    )
    columns: list[dict[str, float]] = []
    for name in (first, second):
        rows = table[table[pair] == name]
        if rows.empty:
            raise unknown_name("pair of kinds", name, dict.fromkeys(table[pair].astype(str)))
        again = duplicates(rows[over])
        if again:
            raise InputError(
                f"{name}: more than one value for {name_ids(again)}; give one a {over} (a mean "
                "over subjects; folds overlap and are no independent values)."
            )
        names = rows[over].astype(str)
        columns.append(dict(zip(names, rows[value].astype(float))))
    left, right = columns
    unlike = sorted(set(left) ^ set(right))
    if unlike:
        raise InputError(
            f"{name_ids(unlike)}: only one of {first} and {second} is there; a paired test needs "
            "both."
        )
    in_order = [right[name] for name in left]
    return paired_t(list(left.values()), in_order)


SQUARED = (
    "r2",
    "r_squared",
    "rsquared",
    "r^2",
    "squared",
    "explained_variance",
    "variance_explained",
)
"""Names of columns of squared correlations."""


# -------------------------------------------------------------------------------------------- power


@checked
def paired_power(dz: float, n: float, *, alpha: float = 0.05, tails: int = 1) -> float:
    """Compute the power of a paired t-test: how often it finds an effect of this size.

    Parameters
    ----------
    dz : float
        Mean difference over its standard deviation.
    n : float
        Number of pairs, above 1; need not be whole.
    alpha : float
        Level, in (0, 1).
    tails : {1, 2}
        One-tailed (in the direction of a positive `dz`) or two-tailed.

    Returns
    -------
    float
        In (0, 1).

    Raises
    ------
    InputError
        When a number makes no sense.

    Notes
    -----
    Noncentral t with n - 1 degrees of freedom and noncentrality dz * sqrt(n), as in G*Power. The
    power that Zhang et al. (2021) print for 3 subjects is one-tailed; two-tailed it is .70 .96 .50
    .43 .53 in V1 to LO.

    References
    ----------
    Faul et al. (2007), Behav Res Methods 39:175.

    Examples
    --------
    >>> round(paired_power(2.0, 3), 3), round(paired_power(2.0, 3, tails=2), 3)
    (0.712, 0.471)
    """
    from scipy.stats import nct
    from scipy.stats import t as student

    _check_power(n=n, alpha=alpha, tails=tails)
    if not math.isfinite(dz):
        raise InputError(f"dz is {dz}; give a finite effect size.")
    dof = n - 1
    limit = float(student.isf(alpha / tails, dof))
    shift = dz * math.sqrt(n)
    power = float(nct.sf(limit, dof, shift))
    if tails == 1:
        return power
    # scipy gives NaN for the other tail where it is below about 1e-30
    other_tail = nct.cdf(-limit, dof, shift)
    power += float(np.nan_to_num(other_tail))
    return power


@checked
def effect_for_power(power: float, n: float, *, alpha: float = 0.05, tails: int = 1) -> float:
    """Solve the effect size that a paired t-test of `n` pairs finds with a given power.

    Parameters
    ----------
    power : float
        Above `alpha` and below 1.
    n : float
        Number of pairs, above 1.
    alpha : float
        Level.
    tails : {1, 2}
        One-tailed or two-tailed, see `paired_power`.

    Returns
    -------
    float
        dz, positive.

    Raises
    ------
    InputError
        When a number makes no sense.

    Examples
    --------
    >>> round(effect_for_power(0.911, 3), 2)
    2.85
    """
    _check_power(n=n, alpha=alpha, tails=tails, power=power)

    return _where_reached(
        lambda dz: paired_power(dz, n, alpha=alpha, tails=tails) - power,
        (0.0, 1.0),
        tolerance=1e-10,
    )


@checked
def n_for_power(dz: float, power: float = 0.8, *, alpha: float = 0.05, tails: int = 1) -> float:
    """Solve how many pairs a paired t-test needs; the number may be fractional (round it up).

    Parameters
    ----------
    dz : float
        Effect size, above 0.
    power : float
        Power to reach, above `alpha` and below 1.
    alpha : float
        Level.
    tails : {1, 2}
        One-tailed or two-tailed, see `paired_power`.

    Returns
    -------
    float
        Number of pairs, at least 1.1 (with a tenth of a degree of freedom).

    Raises
    ------
    InputError
        When a number makes no sense.

    Examples
    --------
    >>> round(n_for_power(effect_for_power(0.744, 3)), 2)
    3.21
    """
    if not dz > 0:
        raise InputError(
            f"dz is {dz}; the number of pairs can be solved for an effect above 0 only."
        )
    _check_power(n=2, alpha=alpha, tails=tails, power=power)

    if paired_power(dz, FEWEST_PAIRS, alpha=alpha, tails=tails) >= power:
        return FEWEST_PAIRS
    return _where_reached(
        lambda n: paired_power(dz, n, alpha=alpha, tails=tails) - power,
        (FEWEST_PAIRS, 2.0),
        tolerance=1e-8,
    )


def _where_reached(
    excess: Callable[[float], float], ends: tuple[float, float], tolerance: float
) -> float:
    """Find where a rising function is 0; the upper end is doubled until that is below it."""
    from scipy.optimize import brentq

    low, high = ends
    while excess(high) < 0:
        high *= 2
    return float(brentq(excess, low, high, xtol=tolerance))


FEWEST_PAIRS = 1.1
"""Least number of pairs.

Below a tenth of a degree of freedom quantiles of t leave the range of float64.
"""


def _check_power(**numbers: Any) -> None:
    if not numbers["n"] >= FEWEST_PAIRS:
        raise InputError(
            f"n is {numbers['n']}; a paired t-test needs more than one pair: give 2 or more."
        )
    if not 0 < numbers["alpha"] < 1:
        raise InputError(f"alpha is {numbers['alpha']}; give a level between 0 and 1.")
    if numbers["tails"] not in (1, 2):
        raise InputError(f"tails is {numbers['tails']}; give 1 or 2.")
    if "power" in numbers and not numbers["alpha"] < numbers["power"] < 1:
        raise InputError(
            f"power is {numbers['power']}; give a number above alpha ({numbers['alpha']}) and "
            "below 1."
        )
