"""From p-values to statements: one p of several subjects, families of tests, trends over layers.

Everything here works on a few numbers, one a subject, layer or ROI; where they come from is the
business of `compare_image_types`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, need_columns, unknown_name
from neurometamer.stats.resampling import permutation_p
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd

# ------------------------------------------------------------------------ one p of several subjects

COMBINATIONS = {
    "joint": "Fisher's statistic of all subjects in the same permutations (or their mean in the "
    "same resamples)",
    "fisher": "Fisher: some subject shows it; takes the subjects' p as independent",
    "stouffer": "Stouffer: the subjects together show it; takes the subjects' p as independent",
    "all": "conjunction: every subject shows it, the largest p",
}
"""Name of a way to turn the subjects' p into one to what it claims."""


@checked
def combine_p(p: Sequence[float] | np.ndarray, how: str = "fisher") -> float:
    """Combine one-sided p of independent tests into one.

    Parameters
    ----------
    p : sequence of float, shape (n,)
        In (0, 1], all of the same direction.
    how : {"fisher", "stouffer", "all"}
        Fisher: sum of -2 log p against chi-squared with 2n degrees of freedom. Stouffer: mean of
        normal quantiles, equal weights. All: the largest p.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        For an unknown name, no p, or p outside (0, 1].

    Notes
    -----
    Fisher asks whether *any* of the tests holds an effect: one subject with p = .0005 is enough,
    whatever the others show. Stouffer weighs all subjects alike (Loughin 2004: better than Fisher
    where the effect is in all of them). "All" is the only one that says "each subject" (Nichols et
    al. 2005), and needs no independence.

    Subjects who saw the same images are not independent: what two RDMs share by the chance of these
    images they share in each subject. With three such subjects a nominal 5 % became 9 % (Fisher)
    and 13 % (Stouffer) in 2000 simulated studies (``tests/neurometamer/test_kind_coverage.py``);
    `joint_p` keeps 5 %, and is therefore what `compare_image_types` uses by default. Fisher and
    Stouffer are right for subjects with images of their own.

    References
    ----------
    Fisher (1932), Statistical Methods for Research Workers, 21.1; Stouffer et al. (1949); Loughin
    (2004), Comput Stat Data Anal 47:467; Nichols et al. (2005), NeuroImage 25:653.

    Examples
    --------
    >>> round(combine_p([0.04, 0.04, 0.04]), 4), combine_p([0.04, 0.2], "all")
    (0.0037, 0.2)
    """
    values = np.asarray(p, dtype=np.float64)
    if how not in ("fisher", "stouffer", "all"):
        raise unknown_name("combination of p-values", how, ("fisher", "stouffer", "all"))
    is_valid = (values > 0) & (values <= 1)
    if not values.size or not is_valid.all():
        raise InputError(
            "p-values must lie in (0, 1], at least one of them; these are "
            f"{name_ids(values.ravel())}."
        )
    if how == "all":
        return float(values.max())
    from scipy.stats import combine_pvalues

    combined = combine_pvalues(values, method=how)
    return float(combined.pvalue)


@checked
def joint_p(values: np.ndarray, samples: np.ndarray) -> float:
    """Combine tests that were permuted together, whatever their dependence.

    Fisher's statistic is compared with its own null.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Observed values, one for each subject; large values are evidence.
    samples : ndarray, shape (N, n)
        Values under permutation; in permutation k the labels of all subjects are permuted alike.

    Returns
    -------
    float
        (1 + count) / (1 + N).

    Raises
    ------
    InputError
        When the shapes do not fit or numbers are missing.

    References
    ----------
    Pesarin & Salmaso (2010), Permutation Tests for Complex Data, chapter 4; Winkler et al. (2016),
    Hum Brain Mapp 37:1486 (non-parametric combination).

    Examples
    --------
    >>> joint_p(np.array([3.0, 3.0]), np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0]]))
    0.25
    """
    statistic = joint_statistic(values, samples)
    observed = statistic[0]
    permuted = statistic[1:]
    return float(permutation_p(observed, permuted))


def joint_statistic(values: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Sum -log p of the subjects, as observed and in each permutation, for `joint_p`.

    Parameters
    ----------
    values : ndarray, shape (n,)
        Observed values, one for each subject; large values are evidence.
    samples : ndarray, shape (N, n)
        Values under permutation; in permutation k the labels of all subjects are permuted alike.

    Returns
    -------
    ndarray, shape (1 + N,)
        Sums, the observed one first.

    Raises
    ------
    InputError
        When the shapes do not fit or numbers are missing.
    """
    from scipy.stats import rankdata

    if np.ndim(samples) != 2 or np.shape(samples)[1:] != np.shape(values):
        raise InputError(
            f"samples of shape {np.shape(samples)} do not fit values of shape {np.shape(values)}; "
            "give (n_permutations, n_subjects) and (n_subjects,)."
        )
    observed = np.asarray(values)[np.newaxis]
    both = np.concatenate([observed, samples])
    both = np.round(both, 12)
    is_finite = np.isfinite(both).all(axis=0)
    if not is_finite.all():
        lacking = np.flatnonzero(~is_finite)
        raise InputError(
            f"values or samples of the subjects {name_ids(lacking)} (counted from 0) are NaN; a "
            "joint p needs every subject in every permutation: leave those subjects out."
        )
    ranks = rankdata(-both, axis=0, method="max")
    logarithms = -np.log(ranks / len(both))
    return np.asarray(logarithms.sum(axis=1))


# -------------------------------------------------------------------------------- families of tests


BETWEEN_TESTS = ("bonferroni", "holm", "fdr")
"""Times the number of tests; step by step, Holm (1979); Benjamini & Hochberg (1995)."""

CORRECTIONS = (*BETWEEN_TESTS, "none")
"""Corrections for many tests (`correct_p`), and none."""


@checked
def correct_p(p: np.ndarray | Sequence[float], method: str = "fdr") -> np.ndarray:
    """Correct p values for the number of tests; missing ones are no tests.

    Parameters
    ----------
    p : ndarray
        The whole family of tests, any shape; NaN where there was no test.
    method : {"bonferroni", "holm", "fdr"}
        One of `BETWEEN_TESTS`.

    Returns
    -------
    ndarray
        Corrected p values of the same shape, at most 1.

    Raises
    ------
    InputError
        For an unknown method, or p outside 0 to 1.

    Examples
    --------
    >>> correct_p(np.array([0.01, 0.5, np.nan]), "bonferroni").tolist()
    [0.02, 1.0, nan]
    """
    if method not in BETWEEN_TESTS:
        raise unknown_name("correction", method, BETWEEN_TESTS)
    values = np.asarray(p, dtype=np.float64).ravel()
    tests = np.flatnonzero(~np.isnan(values))
    given = values[tests]
    is_outside = (given < 0) | (given > 1)
    if is_outside.any():
        raise InputError(
            f"p values must lie between 0 and 1, not {given.min():g} to {given.max():g}."
        )
    n = len(tests)
    order = tests[np.argsort(given)]
    ascending = values[order]
    corrected = np.full(values.size, np.nan)
    if method == "bonferroni":
        corrected[tests] = given * n
    elif method == "holm":
        n_left = np.arange(n, 0, -1)
        steps = ascending * n_left
        corrected[order] = np.maximum.accumulate(steps)
    else:
        position = np.arange(1, n + 1)
        steps = ascending * n / position
        backwards = np.minimum.accumulate(steps[::-1])
        corrected[order] = backwards[::-1]
    corrected = np.minimum(corrected, 1)
    return corrected.reshape(np.shape(p))


@checked
def correct_families(
    table: pd.DataFrame,
    over: Mapping[str, str],
    within: Sequence[str] = (),
    *,
    how: str = "fdr",
    p: str = "p",
) -> pd.DataFrame:
    """Correct the p-values of a table, family by family, and name the family in each row.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a test.
    over : mapping of str to str
        Column → what its values are called, e.g. ``{"representation": "ROIs"}`` or ``{"roi":
        "ROIs", "layer": "layers"}``: the tests of one family differ in these.
    within : sequence of str
        Columns in which the tests of one family agree.
    how : str
        One of `CORRECTIONS`.
    p : str
        Column of p-values.

    Returns
    -------
    pandas.DataFrame
        A copy with p_corrected, correction and family (``"5 ROIs x 8 layers"``).

    Raises
    ------
    InputError
        When a column is missing, or for an unknown correction.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"roi": ["V1", "V2", "V4"], "p": [0.01, 0.04, 0.5]})
    >>> corrected = correct_families(table, {"roi": "ROIs"}, how="bonferroni")
    >>> corrected[["roi", "p_corrected", "family"]].values.tolist()
    [['V1', 0.03, '3 ROIs'], ['V2', 0.12, '3 ROIs'], ['V4', 1.0, '3 ROIs']]
    """
    if how not in CORRECTIONS:
        raise unknown_name("correction", how, CORRECTIONS)
    need_columns(table, (*over, *within, p), "the table")
    corrected = np.full(len(table), np.nan)
    names = np.full(len(table), "", dtype=object)
    groups: Any = {"": np.arange(len(table))}
    if within:
        groups = table.groupby(list(within), sort=False, dropna=False).indices
    for rows in groups.values():
        part = table.iloc[rows]
        values = part[p].to_numpy(dtype=float)
        if how != "none":
            values = correct_p(values, how)
        corrected[rows] = values
        n_cells = 1
        axes = []
        for column, name in over.items():
            size = part[column].nunique()
            n_cells *= size
            axes.append(f"1 {name.removesuffix('s')}" if size == 1 else f"{size} {name}")
        text = " x ".join(axes)
        n_tests = int(part[p].notna().sum())
        if n_cells != n_tests:
            text = f"{n_tests} tests of {text}"
        names[rows] = text
    return table.assign(p_corrected=corrected, correction=how, family=names)


# -------------------------------------------------------------------------------------- over layers


@short_repr
@dataclass(frozen=True)
class Trend:
    """Result of `mann_kendall`.

    Parameters
    ----------
    s : int
        Rises minus falls over all pairs of layers.
    tau : float
        Kendall's tau-b with the order of the layers, in [-1, 1]; NaN when all values are equal.
    p : float
        Two-sided p.
    method : str
        ``"exact"`` or ``"normal approximation"``.
    """

    s: int
    tau: float
    p: float
    method: str


EXACT_TREND = 30
"""Largest number of values for which all orders are counted.

Beyond it the normal approximation is as good.
"""


@checked
def mann_kendall(values: Sequence[float], method: str = "auto") -> Trend:
    """Test whether values rise or fall over layers or areas (Mann-Kendall trend test).

    Parameters
    ----------
    values : sequence of float, length 3 or more
        Values in the order of the layers.
    method : {"auto", "exact", "normal"}
        Exact: over all orders of these values, ties included. Normal: tie-corrected variance and
        continuity correction, what software for Mann-Kendall prints (`scipy.stats.kendalltau`
        leaves the continuity correction out). Auto: exact up to 30 values.

    Returns
    -------
    Trend
        S, tau-b, two-sided p, method.

    Raises
    ------
    InputError
        For fewer than 3 values, missing numbers or an unknown method.

    References
    ----------
    Mann (1945), Econometrica 13:245; Kendall (1975), Rank Correlation Methods; used by Zhang et al.
    (2021), fig. 5.

    Examples
    --------
    >>> trend = mann_kendall([-0.005, 0.02, 0.22, 0.21, 0.32, 0.47, 0.52, 0.79])
    >>> trend.s, round(trend.p, 4), trend.method
    (26, 0.0004, 'exact')
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < 3 or not np.isfinite(x).all():
        raise InputError(
            "a trend needs at least 3 numbers in order, none missing; these are "
            f"{name_ids(x.ravel())}."
        )
    if method not in ("auto", "exact", "normal"):
        raise unknown_name("method of the trend test", method, ("auto", "exact", "normal"))
    n = x.size
    ties = np.unique(x, return_counts=True)[1]
    first, second = np.triu_indices(n, 1)
    s = int(np.sign(x[second] - x[first]).sum())
    pairs = n * (n - 1) / 2
    untied = pairs - (ties * (ties - 1) / 2).sum()
    tau = float("nan")
    if untied:
        tau = s / math.sqrt(pairs * untied)
    if method == "exact" or (method == "auto" and n <= EXACT_TREND):
        p = _exact_trend(ties.tolist(), abs(s))
        return Trend(s, tau, p, "exact")
    from scipy.stats import norm

    of_ties = (ties * (ties - 1) * (2 * ties + 5)).sum()
    variance = (n * (n - 1) * (2 * n + 5) - of_ties) / 18
    p = 1.0
    if s and variance > 0:
        z = (abs(s) - 1) / math.sqrt(variance)
        p = float(2 * norm.sf(z))
    return Trend(s, tau, p, "normal approximation")


def _exact_trend(ties: Sequence[int], s: int) -> float:
    """Count the orders of values in tied groups whose rises minus falls are at least as far from 0.

    Inserting a group of g equal values among m others adds g * m pairs; the number of ways to have
    k falls among them is the coefficient of the Gaussian binomial (m + g choose g).
    """
    ways = [1]  # whole numbers of Python: 30! is beyond float64
    n_before = 0
    for size in ties:
        # the product of (1 - q^(m + i)) / (1 - q^i) for i from 1 to g
        inserted = [1]
        for i in range(1, size + 1):
            power = n_before + i
            grown = inserted + [0] * power
            for j, coefficient in enumerate(inserted):
                grown[j + power] -= coefficient
            for j in range(i, len(grown)):  # divide by 1 - q^i
                grown[j] += grown[j - i]
            length = len(inserted) + n_before
            inserted = grown[:length]
        product = [0] * (len(ways) + len(inserted) - 1)
        for i, count in enumerate(ways):
            for j, factor in enumerate(inserted):
                product[i + j] += count * factor
        ways = product
        n_before += size
    n_untied = len(ways) - 1
    far = 0
    for falls, count in enumerate(ways):
        if abs(n_untied - 2 * falls) >= s:
            far += count
    return far / sum(ways)
