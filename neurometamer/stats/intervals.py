"""Statistics that every table may need: corrected p values, max-T, intervals from t."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.stats.permutation import p_from_count

CORRECTIONS = ("bonferroni", "holm", "fdr")
"""Times the number of tests; step by step, Holm (1979); Benjamini & Hochberg (1995)."""

TAILS = ("greater", "two-sided")
"""Large values count against the null; large absolute values do."""

_ROUNDING = 1e-12
"""Relative difference below which a permuted value counts as equal to the observed one.

It is the same arrangement summed in another order.
"""


@checked
def correct_p(p: np.ndarray | Sequence[float], method: str = "fdr") -> np.ndarray:
    """Correct p values for the number of tests; missing ones are no tests.

    Parameters
    ----------
    p : ndarray
        The whole family of tests, any shape; NaN where there was no test.
    method : {"bonferroni", "holm", "fdr"}
        One of `CORRECTIONS`.

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
    if method not in CORRECTIONS:
        raise unknown_name("correction", method, CORRECTIONS)
    flat = np.asarray(p, dtype=np.float64).ravel()
    there = np.flatnonzero(~np.isnan(flat))
    if ((flat[there] < 0) | (flat[there] > 1)).any():
        raise InputError(
            f"p values must lie between 0 and 1, not {flat[there].min():g} to "
            f"{flat[there].max():g}."
        )
    corrected = np.full(flat.size, np.nan)
    order = there[np.argsort(flat[there])]
    if method == "bonferroni":
        corrected[there] = flat[there] * len(there)
    elif method == "holm":
        corrected[order] = np.maximum.accumulate(flat[order] * np.arange(len(order), 0, -1))
    else:
        steps = flat[order] * len(order) / np.arange(1, len(order) + 1)
        corrected[order] = np.minimum.accumulate(steps[::-1])[::-1]
    return np.minimum(corrected, 1).reshape(np.shape(p))


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
    half = t.ppf((1 + confidence) / 2, dof) * np.sqrt(np.maximum(variance, 0))
    return value - half, value + half
