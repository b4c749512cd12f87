"""Cross-validation of RDM models over stimuli: folds that no pair crosses, and their variance.

A pair belongs to the training set when both its stimuli do, to the test set when both do, and to
neither when one of each: its dissimilarity would carry a test stimulus into training.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.compute import MIN_CONDITIONS

MIN_DISTINCT = 3
"""Least number of distinct stimuli in a fold of a resample.

With fewer there is at most one pair; rsatoolbox asks for as many.
"""


def check_folds(ids: tuple[str, ...], n_folds: int, what: str = "stimuli") -> None:
    """Refuse folds that the stimuli do not fill.

    Parameters
    ----------
    ids : tuple of str
        Names of the stimuli, or of what stays together.
    n_folds : int
        Number of folds.
    what : str
        Name of `ids` in messages.

    Raises
    ------
    InputError
        With fewer than 2 folds, or fewer than 4 stimuli a fold.
    """
    if n_folds < 2:
        raise InputError(f"n_folds is {n_folds}; cross-validation over stimuli needs at least 2.")
    n = len(ids)
    most = n // MIN_CONDITIONS
    if n_folds > most:
        raise InputError(
            f"{n} {what} ({name_ids(ids)}) do not fill {n_folds} folds of at least "
            f"{MIN_CONDITIONS}; use at most {most} folds."
        )


def default_folds(n: int) -> int:
    """Choose the number of folds from the stimuli that a bootstrap resample holds (63 %).

    rsatoolbox chooses the same number.

    Parameters
    ----------
    n : int
        Number of stimuli.

    Returns
    -------
    int
        2 to 5.

    Examples
    --------
    >>> [default_folds(n) for n in (12, 24, 40, 92)]
    [2, 3, 4, 5]
    """
    n_held = 0.632 * n
    n_folds = 2
    for limit in (12, 24, 40):
        if n_held >= limit:
            n_folds += 1
    return n_folds


def assign_folds(
    n: int, n_folds: int, random: np.random.Generator, drawn: np.ndarray | None = None
) -> np.ndarray:
    """Give each stimulus a fold at random, folds as equal as can be.

    Parameters
    ----------
    n : int
        Number of stimuli.
    n_folds : int
        Number of folds.
    random : numpy.random.Generator
        Source of the order.
    drawn : ndarray of bool, shape (n,), optional
        Stimuli that get a fold (copies of a stimulus are never parted).

    Returns
    -------
    ndarray of int, shape (n,)
        Fold number, -1 for those without.

    Examples
    --------
    >>> sorted(assign_folds(5, 2, np.random.default_rng(0)).tolist())
    [0, 0, 0, 1, 1]
    """
    chosen = np.arange(n)
    if drawn is not None:
        chosen = np.flatnonzero(drawn)
    shuffled = random.permutation(chosen)
    numbers = np.arange(len(chosen))
    folds = np.full(n, -1)
    folds[shuffled] = numbers % n_folds
    return folds


def fold_pairs(folds: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Say which pairs train and which test; those that cross do neither.

    Parameters
    ----------
    folds : ndarray of int, shape (n,)
        Fold of each stimulus, -1 for none.
    fold : int
        Number of the fold that tests.

    Returns
    -------
    tuple of ndarray of bool, shape (n * (n - 1) / 2,)
        Training pairs and test pairs.
    """
    first, second = np.triu_indices(len(folds), 1)
    tests = folds == fold
    trains = (folds >= 0) & ~tests
    training_pairs = trains[first] & trains[second]
    test_pairs = tests[first] & tests[second]
    return training_pairs, test_pairs


def splits(
    counts: np.ndarray,
    n_folds: int,
    n_repeats: int,
    random: np.random.Generator,
    clusters: np.ndarray | None = None,
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Split one (re)sample of stimuli again and again.

    Parameters
    ----------
    counts : ndarray of int, shape (n,)
        Number of copies of each stimulus in the sample.
    n_folds : int
        Number of folds; 1 trains and tests on all pairs (no cross-validation over stimuli).
    n_repeats : int
        Number of random assignments to folds.
    random : numpy.random.Generator
        Source of the assignments.
    clusters : ndarray of int, shape (n,), optional
        Stimuli of one number stay in one fold (classes, where classes are drawn); each its own by
        default.

    Yields
    ------
    tuple of (int, ndarray, ndarray)
        Repeat, weights of training pairs and of test pairs (n_pairs,): copies of a pair, 0 outside.
    """
    first, second = np.triu_indices(len(counts), 1)
    copies = (counts[first] * counts[second]).astype(np.float64)
    if clusters is None:
        clusters = np.arange(len(counts))
    drawn = np.bincount(clusters, counts) > 0
    for repeat in range(n_repeats):
        if n_folds == 1:
            yield repeat, copies, copies
            continue
        folds_of_clusters = assign_folds(len(drawn), n_folds, random, drawn)
        folds = folds_of_clusters[clusters]
        for fold in range(n_folds):
            train, test = fold_pairs(folds, fold)
            yield repeat, copies * train, copies * test


def corrected_covariance(evaluations: np.ndarray) -> np.ndarray:
    """Estimate the covariance over resamples without what the random choice of folds adds.

    Parameters
    ----------
    evaluations : ndarray, shape (n_resamples, n_values, n_repeats)
        Values of each resample under each assignment to folds, at least 2 assignments; NaN
        resamples removed.

    Returns
    -------
    ndarray, shape (n_values, n_values)
        Covariance; a variance can come out negative where folds matter more than stimuli.

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566; ``rsatoolbox.inference.bootstrap_crossval``, which
    projects from 1 and ``n_repeats`` assignments to infinitely many.
    """
    n_repeats = evaluations.shape[2]
    means = evaluations.mean(axis=2)
    of_means = np.atleast_2d(np.cov(means.T))
    covariances = []
    for repeat in range(n_repeats):
        covariance = np.cov(evaluations[:, :, repeat].T)
        covariances.append(np.atleast_2d(covariance))
    of_one = np.mean(covariances, axis=0)
    return (n_repeats * of_means - of_one) / (n_repeats - 1)
