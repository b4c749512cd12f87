"""Bootstrap of model comparisons over stimuli, over subjects or over both, with noise ceilings.

A resample is a whole number for each image, the copies of it, and one for each subject. A pair of
images weighs the product of its images' counts, and a pair of two copies of one image is dropped.
One set of draws serves all models, all regions and the noise ceilings. Results equal rsatoolbox's
on the same draws.

References
----------
Schütt et al. (2023), eLife 12:e82566; Nili et al. (2014), PLoS Comput Biol 10:e1003553.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.comparators.ranks import n_images
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.stats.resampling import t_interval
from neurometamer.summaries import short_repr

MIN_IMAGES = 3
"""Least number of distinct images in a resample.

With fewer there is at most one distinct pair: the resample is left out, as in rsatoolbox.
"""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Values of each subject in each resample.

    Attributes
    ----------
    similarity : ndarray, shape (n_resamples, n_models, n_data)
        NaN where undefined.
    bounds : ndarray, shape (2, n_resamples, n_data), or None
        Lower and upper noise ceiling; NaN for subjects that were not drawn.
    subject_counts : ndarray, shape (n_resamples, n_data), or None
        Number of copies of each subject.
    """

    similarity: np.ndarray
    bounds: np.ndarray | None
    subject_counts: np.ndarray | None

    def mean(self, rows: np.ndarray) -> np.ndarray:
        """Average over subjects, as often as they were drawn.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (n_resamples, n_models)
            NaN where none was drawn.
        """
        similarity = self.similarity[:, :, rows]
        if self.subject_counts is None:
            return similarity.mean(axis=2)
        counts = self.subject_counts[:, rows]
        copies = counts.astype(np.float64)
        total = np.einsum("rmd,rd->rm", similarity, copies)
        n_drawn = copies.sum(axis=1)
        n_drawn = n_drawn[:, np.newaxis]
        with np.errstate(invalid="ignore"):
            return total / n_drawn

    def mean_bounds(self, rows: np.ndarray) -> np.ndarray:
        """Average the ceilings over the distinct subjects that were drawn.

        Parameters
        ----------
        rows : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (2, n_resamples)
            NaN where undefined.
        """
        if self.bounds is None:
            raise ValueError("no ceilings were computed")
        bounds = self.bounds[:, :, rows]
        if self.subject_counts is None:
            return bounds.mean(axis=2)
        counts = self.subject_counts[:, rows]
        drawn = counts > 0
        known = np.where(drawn, bounds, 0)
        total = known.sum(axis=2)
        n_drawn = drawn.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return total / n_drawn


def resampled(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    comparator: str,
    regions: Sequence[np.ndarray] | None,
    subject_counts: np.ndarray | None,
) -> Resampled:
    """Compare in every resample.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs, finite.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs, finite.
    counts : ndarray of int, shape (n_resamples, n)
        Number of copies of each image.
    comparator : str
        One of `COMPARATORS`.
    regions : sequence of ndarray, or None
        Rows of `data` that share a noise ceiling; None for no ceilings.
    subject_counts : ndarray of int, shape (n_resamples, n_data), or None
        Number of copies of each row of `data`.

    Returns
    -------
    Resampled
        Similarity and ceilings.
    """
    entry = find_comparator(comparator)
    work = entry.resamples(models, data, regions or [])
    n_resamples, n_data = len(counts), len(data)
    similarity = np.full((n_resamples, len(models), n_data), np.nan)
    bounds = None
    if regions is not None:
        bounds = np.full((2, n_resamples, n_data), np.nan)
    n_images_drawn = (counts > 0).sum(axis=1)
    defined = np.flatnonzero(n_images_drawn >= MIN_IMAGES)
    for rows in work.blocks(defined):
        people = np.ones((len(rows), n_data))
        if subject_counts is not None:
            people = subject_counts[rows].astype(np.float64)
        similarity[rows], ceilings = work.compare(counts[rows], people)
        if bounds is not None:
            bounds[:, rows] = ceilings
    if bounds is not None and subject_counts is None:
        for region in regions or []:
            if len(region) < 2:
                bounds[:, :, region] = np.nan  # one subject has no ceiling
    return Resampled(
        similarity=similarity,
        bounds=bounds,
        subject_counts=subject_counts,
    )


@checked
def bootstrap_comparison(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    *,
    comparator: str = "spearman",
    ceiling: bool = True,
    groups: Sequence[str] | None = None,
    subject_counts: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Compare models with subjects in every resample of the images, and compute noise ceilings.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs.
    data : ndarray, shape (n_data, n_pairs)
        Subjects' condensed RDMs, the images in the same order.
    counts : ndarray of int, shape (n_resamples, n)
        Number of copies of each image (`bootstrap_counts`); ones to resample subjects only.
    comparator : str
        One of `COMPARATORS`. tau-a is counted anew in each resample, which is slow.
    ceiling : bool
        Whether the noise ceilings are computed as well.
    groups : sequence of str, optional
        Region of each row of `data`: means and ceilings are taken within regions.
    subject_counts : ndarray of int, shape (n_resamples, n_data), optional
        Number of copies of each subject; each once by default.

    Returns
    -------
    samples : ndarray, shape (n_resamples, n_models) or (n_resamples, n_groups, n_models)
        Mean similarity over subjects, copies counted; NaN in resamples of fewer than 3 distinct
        images, or where a resampled RDM is constant (rsatoolbox: 0). Groups in order of first
        appearance.
    ceilings : ndarray, shape (2, n_resamples) or (2, n_resamples, n_groups), or None
        Lower and upper bound, means over the distinct subjects drawn: each with the pool of the
        others (lower) and of all (upper), pools made anew in each resample as in `noise_ceiling`.
        NaN with one subject.

    Raises
    ------
    InputError
        For an unknown comparator, shapes that do not fit, values that are not finite, constant
        RDMs.

    Examples
    --------
    >>> rdms = np.random.default_rng(0).random((3, 10))
    >>> counts = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1]])
    >>> samples, ceilings = bootstrap_comparison(rdms[:1], rdms, counts)
    >>> samples.shape, ceilings.shape
    ((2, 1), (2, 2))
    """
    values = subject_samples(
        models,
        data,
        counts,
        comparator=comparator,
        ceiling=ceiling,
        groups=groups,
        subject_counts=subject_counts,
    )
    regions = _regions(groups, len(data))
    samples = np.stack([values.mean(rows) for rows in regions], axis=1)
    bounds = None
    if values.bounds is not None:
        bounds = np.stack([values.mean_bounds(rows) for rows in regions], axis=2)
    if groups is not None:
        return samples, bounds
    return samples[:, 0], None if bounds is None else bounds[:, :, 0]


def subject_samples(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    *,
    comparator: str = "spearman",
    ceiling: bool = False,
    groups: Sequence[str] | None = None,
    subject_counts: np.ndarray | None = None,
) -> Resampled:
    """Compare models with each subject in every resample, before the mean over subjects.

    Parameters
    ----------
    models, data, counts, comparator, ceiling, groups, subject_counts
        The parameters of `bootstrap_comparison`.

    Returns
    -------
    Resampled
        ``similarity`` (n_resamples, n_models, n_data) and ``bounds`` (2, n_resamples, n_data).

    Raises
    ------
    InputError
        For the same reasons as `bootstrap_comparison`.
    """
    find_comparator(comparator)
    models, data, counts = _checked(models, data, counts)
    n_resamples, n_data = len(counts), len(data)
    if subject_counts is not None:
        subject_counts = np.asarray(subject_counts)
        shape = subject_counts.shape
        if shape != (n_resamples, n_data):
            raise InputError(
                f"subject_counts has the shape {shape}; {n_resamples} resamples of {n_data} "
                f"subjects need {(n_resamples, n_data)}."
            )
    regions = _regions(groups, n_data) if ceiling else None
    return resampled(
        models,
        data,
        counts,
        comparator,
        regions,
        subject_counts,
    )


def _checked(
    models: np.ndarray, data: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    models, data, counts = np.asarray(models), np.asarray(data), np.asarray(counts)
    if models.ndim != 2 or data.ndim != 2 or models.shape[1] != data.shape[1]:
        raise InputError(
            f"models {models.shape} and data {data.shape} must be condensed RDMs over the same "
            "pairs."
        )
    n = n_images(data.shape[1])
    if counts.ndim != 2 or counts.shape[1] != n:
        raise InputError(
            f"counts has the shape {counts.shape}; RDMs of {n} images need (n_resamples, {n})."
        )
    if (counts < 0).any():
        below = np.flatnonzero((counts < 0).any(axis=1))
        raise InputError(
            f"counts has negative numbers in resample(s) {name_ids(below)}; give 0 or more copies."
        )
    for vectors, name in ((models, "model"), (data, "data")):
        is_finite = np.isfinite(vectors).all(axis=1)
        if not is_finite.all():
            bad = np.flatnonzero(~is_finite).tolist()
            raise InputError(
                f"dissimilarities are NaN or infinite in {name} RDM(s) {bad}; leave those out."
            )
        is_flat = np.ptp(vectors, axis=1) == 0
        if is_flat.any():
            flat = np.flatnonzero(is_flat).tolist()
            raise InputError(
                f"all dissimilarities are equal in {name} RDM(s) {flat}, so they correlate with "
                "nothing; leave those out."
            )
    return models.astype(np.float64), data.astype(np.float64), counts


def _regions(groups: Sequence[str] | None, n: int) -> list[np.ndarray]:
    if groups is None:
        return [np.arange(n)]
    if len(groups) != n:
        raise InputError(f"groups names {len(groups)} RDMs; there are {n}: give one label each.")
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(str(group), []).append(row)
    regions = []
    for numbers in rows.values():
        regions.append(np.array(numbers))
    return regions


# ------------------------------------------------------------------------------ images and subjects


@short_repr
@dataclass(frozen=True, kw_only=True)
class DualBootstrap:
    """Results of a bootstrap over images and subjects for each model.

    Attributes
    ----------
    similarity : ndarray, shape (n_models,)
        Mean similarity over subjects, nothing resampled.
    covariances : ndarray, shape (3, n_models + 2, n_models + 2)
        Covariances over resamples of both, of subjects only and of images only, between models and
        the lower and upper noise ceiling (without ceilings (3, n_models, n_models)).
    variance : ndarray, shape (n_models,)
        Corrected variance for new subjects and new images.
    difference_variance : ndarray, shape (n_models * (n_models - 1) / 2,)
        Variance of the difference of two models, pairs in the order of `numpy.triu_indices`.
    ceiling_variance : ndarray, shape (n_models, 2), or None
        Variance of the difference between a model and each bound of the ceiling.
    low, high : ndarray, shape (n_models,)
        Interval from t with `dof` degrees of freedom around `similarity`.
    dof : int
        Degrees of freedom of the smaller factor: min(subjects, images) - 1.
    n_left_out : int
        Number of resamples of fewer than 3 distinct images.
    """

    similarity: np.ndarray
    covariances: np.ndarray
    variance: np.ndarray
    difference_variance: np.ndarray
    ceiling_variance: np.ndarray | None
    low: np.ndarray
    high: np.ndarray
    dof: int
    n_left_out: int


@checked
def dual_bootstrap(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    subject_counts: np.ndarray,
    *,
    comparator: str = "spearman",
    ceiling: bool = True,
    confidence: float = 0.95,
) -> DualBootstrap:
    """Estimate how much the comparison varies with new subjects and new images.

    Resampling both at once counts the measurement noise twice, so that its variance is too large;
    those of resampling one at a time, on the same draws, correct it.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs.
    data : ndarray, shape (n_subjects, n_pairs)
        Subjects' condensed RDMs, at least 2.
    counts : ndarray of int, shape (n_resamples, n)
        Number of copies of each image.
    subject_counts : ndarray of int, shape (n_resamples, n_subjects)
        Number of copies of each subject.
    comparator : str
        One of `COMPARATORS`.
    ceiling : bool
        Whether the noise ceiling is resampled as well.
    confidence : float
        Share of intervals that hold the truth, in (0, 1).

    Returns
    -------
    DualBootstrap
        Variances, corrected, and intervals.

    Raises
    ------
    InputError
        With fewer than 2 subjects or 2 usable resamples, and as `bootstrap_comparison`.

    Notes
    -----
    Equals ``rsatoolbox.inference.eval_dual_bootstrap`` and ``extract_variances`` on the same draws.
    Three subjects have two degrees of freedom (t = 4.3): such an interval is wide. It is
    too wide with more subjects too, since resampled images count the noise of pairs three times:
    with 6 to 10 subjects 95 % intervals held the truth in 98 to 100 % of simulated studies
    (``benchmarks/LEVELS.md``).

    Examples
    --------
    >>> from neurometamer.stats.resampling import bootstrap_counts
    >>> random = np.random.default_rng(0)
    >>> models = random.random((2, 45))
    >>> data = models[:1] + random.random((4, 45))
    >>> counts, people = bootstrap_counts(10, 50, seed=0), bootstrap_counts(4, 50, seed=1)
    >>> result = dual_bootstrap(models, data, counts, people)
    >>> result.similarity.round(2).tolist(), result.low.round(2).tolist(), result.dof
    ([0.71, 0.19], [0.38, -0.45], 3)
    """
    models, data, counts = _checked(models, data, counts)
    n_models, n_subjects, n = len(models), len(data), counts.shape[1]
    if n_subjects < 2:
        raise InputError(
            f"a bootstrap over subjects needs at least 2 subjects; there is {n_subjects}. Resample "
            "the images instead."
        )
    once = np.ones_like(counts)
    draws = ((counts, subject_counts), (once, subject_counts), (counts, None))
    samples = []
    for images, people in draws:
        values, bounds = bootstrap_comparison(
            models, data, images, comparator=comparator, ceiling=ceiling, subject_counts=people
        )
        if bounds is not None:
            values = np.concatenate([values, bounds.T], axis=1)
        samples.append(values)
    usable = np.all([np.isfinite(values).all(axis=1) for values in samples], axis=0)
    if usable.sum() < 2:
        raise InputError(
            f"{int(usable.sum())} of {len(counts)} resamples have at least 3 images; use more "
            "resamples."
        )
    covariances = np.stack([np.atleast_2d(np.cov(values[usable].T)) for values in samples])
    variances = np.einsum("imm->im", covariances[:, :n_models, :n_models])
    variance = corrected_variance(variances, n_subjects, n)
    similarity = find_comparator(comparator)(models, data).mean(axis=1)
    dof = min(n_subjects, n) - 1
    low, high = t_interval(similarity, variance, dof, confidence)
    first, second = np.triu_indices(n_models, 1)
    differences = _difference(covariances, first, second)
    ceiling_variance = None
    if ceiling:
        every_model = np.arange(n_models)
        lower = _difference(covariances, every_model, np.full(n_models, n_models))
        upper = _difference(covariances, every_model, np.full(n_models, n_models + 1))
        below = np.stack([lower, upper], axis=2)
        ceiling_variance = corrected_variance(below, n_subjects, n)
    return DualBootstrap(
        similarity=similarity,
        covariances=covariances,
        variance=variance,
        difference_variance=corrected_variance(differences, n_subjects, n),
        ceiling_variance=ceiling_variance,
        low=low,
        high=high,
        dof=dof,
        n_left_out=int((~usable).sum()),
    )


def _difference(covariances: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    variances = np.einsum("iqq->iq", covariances)
    left = variances[:, first]
    right = variances[:, second]
    shared = covariances[:, first, second]
    return left - 2 * shared + right


def corrected_variance(variances: np.ndarray, n_subjects: int, n_images: int) -> np.ndarray:
    """Combine the variances of three bootstraps to that of new subjects and new images.

    Parameters
    ----------
    variances : ndarray, shape (3, ...)
        Variances of resampling both, subjects only and images only.
    n_subjects, n_images : int
        Numbers of subjects and images, at least 2.

    Returns
    -------
    ndarray, shape (...)
        At least that of either factor alone (times n / (n - 1)), at most that of both resampled.

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566, equation for the corrected 2-factor bootstrap in small
    samples.
    """
    both, subjects, images = variances
    subject_factor = n_subjects / (n_subjects - 1)
    image_factor = n_images / (n_images - 1)
    of_subjects = subject_factor * subjects
    of_images = image_factor * images
    shared = both - subjects - images
    corrected = of_subjects + of_images
    corrected = corrected - subject_factor * image_factor * shared
    at_least = np.maximum(corrected, of_subjects)
    at_least = np.maximum(at_least, of_images)
    return np.minimum(at_least, both)
