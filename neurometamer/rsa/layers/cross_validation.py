"""Layers fitted to regions on some stimuli and tested on others, which no pair of stimuli crosses.

A pair belongs to the training set when both its stimuli do, to the test set when both do, and to
neither when one of each: its dissimilarity would carry a test stimulus into training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.comparators.ranks import check_sides
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.rsa.compute import MIN_CONDITIONS
from neurometamer.rsa.sampling import Progress, Sampling

if TYPE_CHECKING:
    import pandas as pd


MODELS = ("weighted", "best layer", "average")
"""Models of a region."""

N_CV = 2
"""Number of assignments to folds in each resample, as in rsatoolbox.

Many resamples with few assignments each are best.
"""

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


def check_parts(labels: pd.DataFrame, sampling: Sampling, n_folds: int, classes: str) -> None:
    """Refuse folds that the stimuli, or the photographs or classes of them, do not fill.

    Parameters
    ----------
    labels : pandas.DataFrame
        Labels of the stimuli (`stimulus_labels`).
    sampling : Sampling
        What stays together.
    n_folds : int
        Number of folds.
    classes : str
        One of `CLASS_CLAIMS`.

    Raises
    ------
    InputError
        See `check_folds`.
    """
    n_clusters = len(sampling.strata)
    parts = labels["condition"]
    what = "stimuli"
    if n_clusters < len(labels):
        references = labels["reference_id"]
        parts = references.where(references != "", parts)
        what = "photographs"
        if classes == "random" and n_clusters < parts.nunique():
            parts = labels["category"]
            what = "classes"
    check_folds(tuple(dict.fromkeys(parts)), n_folds, what)


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


# ------------------------------------------------------------------------------------------ weights


@checked_with(shapes={"weights": "pairs"})
def fit_layer_weights(
    layers: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    center: bool = True,
) -> np.ndarray:
    """Fit non-negative weights of layers to the pooled RDM of some subjects, by least squares.

    Parameters
    ----------
    layers : ndarray, shape (n_layers, n_pairs)
        Condensed RDMs of the layers.
    targets : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs of the subjects; their pool is the mean of z-scored (or unit-length) RDMs.
    weights : ndarray, shape (n_pairs,), optional
        Number of copies of each pair; all once by default.
    center : bool
        True maximizes Pearson's correlation, False the cosine.

    Returns
    -------
    ndarray, shape (n_layers,)
        At least 0, of length 1; all 0 where no layer goes with the target.

    Raises
    ------
    InputError
        For shapes that do not fit, or missing numbers.

    Notes
    -----
    Equals ``rsatoolbox.model.fitter.fit_regress_nn`` with method ``"corr"`` or ``"cosine"``.

    Examples
    --------
    >>> layers = np.array([[1.0, 2, 3], [3.0, 1, 2]])
    >>> fit_layer_weights(layers, np.array([[2.0, 4, 6]])).round(6).tolist()
    [1.0, 0.0]
    """
    copies = weights
    if copies is None:
        copies = np.ones(np.shape(layers)[-1:])
    check_sides(layers, targets, np.atleast_2d(copies), "layers and targets")
    gram, projected = _normal_equations(layers, targets, copies, center)
    return _nonnegative(gram, projected.mean(axis=1))


def _normal_equations(
    layers: np.ndarray, targets: np.ndarray, copies: np.ndarray, center: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Compute inner products of layers with each other and with each subject's scaled RDM.

    The shapes are (n_layers, n_layers) and (n_layers, n_subjects).
    """
    used = copies > 0
    layers = layers[:, used]
    targets = targets[:, used]
    copies = copies[used]
    n_copies = copies.sum()
    if center:
        layer_means = layers @ copies / n_copies
        layers = layers - layer_means[:, np.newaxis]
        target_means = targets @ copies / n_copies
        targets = targets - target_means[:, np.newaxis]
    spread = np.sqrt(targets**2 @ copies / n_copies)
    divisor = np.where(spread > 0, spread, 1)
    targets = targets / divisor[:, np.newaxis]
    weighted = layers * copies
    return weighted @ layers.T, weighted @ targets.T


def _nonnegative(gram: np.ndarray, projected: np.ndarray) -> np.ndarray:
    """Solve non-negative least squares from its normal equations.

    Layers are scaled to length 1 for the solver.
    """
    from scipy.optimize import nnls

    lengths = np.sqrt(np.diag(gram))
    safe = np.where(lengths > 0, lengths, 1)
    scaled = gram / np.outer(safe, safe)
    values, vectors = np.linalg.eigh(scaled)
    # layers that repeat each other span less than their number
    largest = max(values[-1], 1e-300)
    kept = values > 1e-12 * largest
    root = np.sqrt(values[kept])
    axes = vectors[:, kept].T
    design = root[:, np.newaxis] * axes
    target = axes @ (projected / safe) / root
    solution, _ = nnls(design, target)
    weights = solution / safe
    weights[lengths == 0] = 0
    norm = np.linalg.norm(weights)
    return weights / norm if norm > 0 else weights


# --------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Fits:
    """Scores averaged over folds, and what was chosen in each fold.

    Parameters
    ----------
    scores : ndarray, shape (n_repeats, n_models, n_subjects)
        Similarity of each of `MODELS` with each subject.
    chosen : list of ndarray of int, shape (n_subjects,)
        Best layer, one array a fold.
    weights : list of ndarray, shape (n_subjects, n_layers)
        Weights of the layers, one array a fold.
    """

    scores: np.ndarray
    chosen: list[np.ndarray]
    weights: list[np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """RDMs of layers and of one region, and how models are fitted and tested.

    Parameters
    ----------
    layers : ndarray, shape (n_layers, n_pairs)
        Condensed RDMs of the layers.
    subjects : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs of the region.
    comparator : str
        One of `COMPARATORS`.
    train_on : str
        What models are fitted to: stimuli, subjects, or both (`CrossValidation`).
    n_folds : int
        Number of folds of the stimuli; 1 where they are not held out.
    clusters : ndarray of int, shape (n,)
        Stimuli of one number stay in one fold.
    """

    layers: np.ndarray
    subjects: np.ndarray
    comparator: str
    train_on: str
    n_folds: int
    clusters: np.ndarray

    def evaluate(self, counts: np.ndarray, n_repeats: int, random: np.random.Generator) -> Fits:
        """Fit and test the models on every split of one (re)sample of the stimuli.

        Parameters
        ----------
        counts : ndarray of int, shape (n,)
            Number of copies of each stimulus.
        n_repeats : int
            Number of random assignments to folds.
        random : numpy.random.Generator
            Source of the assignments.

        Returns
        -------
        Fits
            Of all splits.
        """
        layers, subjects = self.layers, self.subjects
        each = np.arange(len(subjects))
        compare = find_comparator(self.comparator)
        scaled = layers / layers.std(axis=1, keepdims=True)
        average = scaled.mean(axis=0, keepdims=True)
        scores = np.full((n_repeats, self.n_folds, len(MODELS), len(subjects)), np.nan)
        chosen, fitted = [], []
        fold = [0] * n_repeats
        parts = splits(counts, self.n_folds, n_repeats, random, self.clusters)
        for repeat, train, test in parts:
            used = train > 0
            copies = train[np.newaxis, used]
            similarity = compare(layers[:, used], subjects[:, used], copies)[0]
            trained = self._of_training(similarity)
            comparable = np.nan_to_num(trained, nan=-np.inf)
            best = comparable.argmax(axis=0)
            chosen.append(best)
            gram, projected = _normal_equations(
                layers, subjects, train, self.comparator != "cosine"
            )
            targets = self._of_training(projected).T
            weights = np.array([_nonnegative(gram, target) for target in targets])
            fitted.append(weights)
            # score each model on the test pairs; a combination of nothing scores 0
            used = test > 0
            copies = test[np.newaxis, used]
            weighted = weights @ layers
            models = np.concatenate([weighted, layers, average])
            tested = compare(models[:, used], subjects[:, used], copies)[0]
            has_weights = (weights > 0).any(axis=1)
            score = scores[repeat, fold[repeat]]
            score[0] = np.where(has_weights, tested[each, each], 0.0)
            score[1] = tested[len(subjects) + best, each]
            score[2] = tested[-1]
            fold[repeat] += 1
        return Fits(scores.mean(axis=1), chosen, fitted)

    def _of_training(self, values: np.ndarray) -> np.ndarray:
        """Average values of each subject (last axis) over those that train its model."""
        if self.train_on == "stimuli":
            return values
        total = values.sum(axis=-1, keepdims=True)
        return (total - values) / (values.shape[-1] - 1)

    def resampled(
        self, counts: np.ndarray, random: np.random.Generator, progress: Progress
    ) -> tuple[np.ndarray, int]:
        """Evaluate resamples, and count those of too few distinct stimuli.

        Parameters
        ----------
        counts : ndarray of int, shape (n_resamples, n)
            Number of copies of each stimulus.
        random : numpy.random.Generator
            Source of the assignments to folds.
        progress : callable
            Receives (resamples done, resamples in all).

        Returns
        -------
        scores : ndarray, shape (n_kept, n_models, n_subjects, N_CV)
            Scores of the resamples that hold enough.
        left_out : int
            Number of the others.
        """
        least = MIN_DISTINCT * self.n_folds
        enough = []
        for row in counts:
            is_drawn = np.bincount(self.clusters, row) > 0
            if is_drawn.sum() >= least:
                enough.append(row)
        shape = (len(enough), len(MODELS), len(self.subjects), N_CV)
        scores = np.empty(shape)
        for number, row in enumerate(enough):
            fits = self.evaluate(row, N_CV, random)
            scores[number] = np.moveaxis(fits.scores, 0, 2)
            progress(number + 1, len(scores))
        usable = np.isfinite(scores).all(axis=(1, 2, 3))
        kept = scores[usable]
        return kept, len(counts) - len(kept)
