"""Noise ceilings of voxels from repeated presentations.

Presentations of an image scatter by the noise; means of images scatter by the signal and what is
left of the noise. Both are told apart voxel by voxel; as covariances of all voxels they are in
`fmri.covariances`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fmri.patterns import Patterns, voxel_key, voxel_names
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.summaries import short_repr

MIN_IMAGES = 4
"""Fewest images that tell signal from noise."""

ALL_TYPES = "all"
"""Name of the image type of patterns whose image types are not given."""

_CEILINGS = np.linspace(0, 0.995, 200) ** 2
"""Noise ceilings that a voxel of a region may have: shares of variance, dense near 0."""

_STEPS = 2000


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class ResponseVariances:
    """Variances of signal and noise of each voxel.

    Parameters
    ----------
    signal : ndarray, shape (n_voxels,)
        Variance over images, unbiased and therefore below 0 where there is little of it.
    noise : ndarray, shape (n_voxels,)
        Variance over presentations of the same image, unbiased.
    n_images : int
        Number of images.
    repeats : float
        Harmonic mean of the numbers of presentations.
    dof : int
        Degrees of freedom of the noise: presentations minus images.
    unevenness : float
        Squared coefficient of variation of 1 / presentations; 0 for equal repeats.

    Examples
    --------
    >>> values = np.array([[0.0], [2], [5], [7], [10], [12], [15], [17]])
    >>> variances = response_variances(values, ["a", "a", "b", "b", "c", "c", "d", "d"])
    >>> variances.noise.tolist(), variances.ncsnr.round(2).tolist()
    ([2.0], [4.51])
    """

    signal: np.ndarray
    noise: np.ndarray
    n_images: int
    repeats: float
    dof: int
    unevenness: float = 0.0

    @property
    def ncsnr(self) -> np.ndarray:
        """Signal-to-noise ratio of single presentations.

        Returns
        -------
        ndarray, shape (n_voxels,)
            Standard deviation of the signal over that of the noise; 0 where the signal's variance
            is not above 0.
        """
        signal = np.clip(self.signal, 0, None)
        squared = signal / self.noise
        return np.sqrt(squared)

    @property
    def ceiling(self) -> np.ndarray:
        """Share of the variance of mean responses that is signal.

        Returns
        -------
        ndarray, shape (n_voxels,)
            ncsnr² / (ncsnr² + 1 / repeats), in [0, 1).
        """
        squared = self.ncsnr**2
        noise = 1 / self.repeats
        total = squared + noise
        return squared / total

    @property
    def unclipped(self) -> np.ndarray:
        """The same share without bias.

        Returns
        -------
        ndarray, shape (n_voxels,)
            Below 0 where means vary less than the noise; to be averaged over voxels.
        """
        dof = self._dof_of_means(self.ceiling)
        unbiased = (dof - 2) / dof
        noise = unbiased / self._ratio
        return 1 - noise

    @property
    def _ratio(self) -> np.ndarray:
        """Variance of means over the noise in them: F, for normal responses."""
        in_means = self.noise / self.repeats
        signal = self.signal
        of_means = signal + in_means
        return of_means / in_means

    def _dof_of_means(self, ceiling: np.ndarray) -> np.ndarray:
        """Degrees of freedom of the variance of means, fewer where these are unequally noisy."""
        noise = 1 - ceiling
        spread = 1 + self.unevenness * noise**2
        dof = (self.n_images - 1) / spread
        return np.maximum(dof, 2)

    @property
    def mean_r(self) -> float:
        """Mean over voxels of the highest correlation with their mean responses.

        Returns
        -------
        float
            In [0, 1]; see `region_ceilings`.
        """
        from scipy.stats import f

        ratios = np.log(np.maximum(self._ratio, 1e-12))
        low, high = ratios.min(), ratios.max()
        edges = np.linspace(low - 1e-6, high + 1e-6, 201)
        counts, _ = np.histogram(ratios, edges)
        middles = np.exp((edges[1:] + edges[:-1]) / 2)
        has_voxels = counts > 0
        middles, counts = middles[has_voxels], counts[has_voxels]
        expected = 1 / (1 - _CEILINGS)
        scaled = middles[:, np.newaxis] / expected
        likelihood = f.pdf(scaled, self._dof_of_means(_CEILINGS), self.dof) / expected
        # the most likely distribution of ceilings over voxels
        shares = np.full(len(_CEILINGS), 1 / len(_CEILINGS))
        for _ in range(_STEPS):
            explained = likelihood @ shares
            shares *= likelihood.T @ (counts / explained) / counts.sum()
        mean = float(shares @ np.sqrt(_CEILINGS))
        # a mean of roots is no more than the root of the mean
        bound = np.sqrt(max(0.0, float(self.unclipped.mean())))
        return min(mean, float(bound))


@checked
def response_variances(
    values: np.ndarray, conditions: Sequence[str], *, voxels: Sequence[str] = ()
) -> ResponseVariances:
    """Estimate the variance of signal and noise of each voxel.

    Parameters
    ----------
    values : ndarray, shape (n_presentations, n_voxels)
        Responses to single presentations.
    conditions : sequence of str, length n_presentations
        Image of each.
    voxels : sequence of str, length n_voxels
        Names of the voxels, for messages.

    Returns
    -------
    ResponseVariances
        Unbiased variances, and what follows from them.

    Raises
    ------
    InputError
        For fewer than 4 images, images that were all shown once, voxels without noise, values that
        are NaN or infinite, or lengths that do not fit.

    Notes
    -----
    The noise is the scatter around the mean of each image, over all images. The signal is the
    variance of these means minus the noise in them, noise / repeats, with the harmonic mean of
    unequal repeats.

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
    intelligence. Nature Neuroscience 25, 116-126 (noise ceiling). There the variance of all
    responses is 1 and the signal is what the noise leaves of it; here no response needs scaling.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> images = random.standard_normal((200, 1))
    >>> values = np.repeat(images, 3, axis=0) + random.standard_normal((600, 1))
    >>> names = np.repeat(np.arange(200), 3).astype(str).tolist()
    >>> variances = response_variances(values, names)
    >>> variances.signal.round(1).tolist(), variances.noise.round(1).tolist()
    ([1.1], [1.0])
    """
    parts = image_means(values, conditions, voxels)
    noise = np.einsum("ij,ij->j", parts.residuals, parts.residuals) / parts.dof
    signal = parts.means.var(axis=0, ddof=1) - noise / parts.repeats
    return ResponseVariances(
        signal=signal,
        noise=noise,
        n_images=len(parts.means),
        repeats=parts.repeats,
        dof=parts.dof,
        unevenness=parts.unevenness,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageMeans:
    """Mean response to each image, and the scatter around it.

    Parameters
    ----------
    means : ndarray, shape (n_images, n_voxels)
        Mean responses, in order of the names of images.
    residuals : ndarray, shape (n_presentations, n_voxels)
        Responses minus the mean of their image.
    codes : ndarray of int, shape (n_presentations,)
        Row of `means` of each presentation.
    repeats, dof, unevenness
        See `ResponseVariances`.
    """

    means: np.ndarray
    residuals: np.ndarray
    codes: np.ndarray
    repeats: float
    dof: int
    unevenness: float


def image_means(values: np.ndarray, conditions: Sequence[str], voxels: Sequence[str]) -> ImageMeans:
    """Average presentations; refuse what has no noise or too few images.

    Parameters
    ----------
    values, conditions, voxels
        See `response_variances`.

    Returns
    -------
    ImageMeans
        Means, residuals, and numbers of presentations.

    Raises
    ------
    InputError
        See `response_variances`.
    """
    responses = np.asarray(values, dtype=np.float64)
    if responses.ndim != 2 or len(responses) != len(conditions):
        raise InputError(
            f"responses of shape {responses.shape} for {len(conditions)} presentations; give "
            "one row each."
        )
    labels = np.asarray(conditions, dtype=str)
    finite = np.isfinite(responses).all(axis=1)
    if not finite.all():
        raise InputError(
            f"NaN or infinite responses to {name_ids(dict.fromkeys(labels[~finite]))}; leave "
            "those voxels or presentations out."
        )
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < MIN_IMAGES:
        raise InputError(
            f"{len(names)} image(s) ({name_ids(names)}); signal is told from noise with at "
            f"least {MIN_IMAGES}: give more."
        )
    if counts.max() < 2:
        raise InputError(
            f"each of {len(names)} images ({name_ids(names)}) was shown once, and noise is the "
            "scatter between presentations of the same image; give more presentations."
        )
    order = np.argsort(codes, kind="stable")
    starts = np.cumsum(counts) - counts
    sums = np.add.reduceat(responses[order], starts, axis=0)
    means = sums / counts[:, np.newaxis]
    residuals = responses - means[codes]
    largest = np.abs(responses).max(axis=0)
    still = np.flatnonzero(np.abs(residuals).max(axis=0) <= 1e-12 * largest).tolist()
    if still:
        named = [voxels[column] if voxels else f"voxel {column}" for column in still]
        raise InputError(
            f"the same response to every presentation of an image in {name_ids(named)}: constant "
            "or filled in, without noise; leave those voxels out (patterns.select(voxels=...))."
        )
    return ImageMeans(
        means=means,
        residuals=residuals,
        codes=codes,
        repeats=harmonic_mean(counts),
        dof=int(counts.sum() - len(counts)),
        unevenness=float((1 / counts).var() / (1 / counts).mean() ** 2),
    )


def harmonic_mean(counts: np.ndarray) -> float:
    """Average numbers of presentations, as the noise of mean responses does.

    Parameters
    ----------
    counts : ndarray of int
        Numbers of presentations.

    Returns
    -------
    float
        Harmonic mean, to 12 digits.
    """
    numbers = np.asarray(counts)
    shares = 1 / numbers
    mean = float(1 / shares.mean())
    return round(mean, 12)


@checked
def voxel_ceilings(
    patterns: Patterns, image_types: Mapping[str, str] | str | None = None
) -> pd.DataFrame:
    """Estimate signal, noise and noise ceiling of each voxel, for each image type by itself.

    Parameters
    ----------
    patterns : Patterns
        Responses to single presentations.
    image_types : mapping of str to str, or str, optional
        Type of each condition (``{"img01": "RE", ...}``; further ids are ignored), or the column of
        the observations that holds it. By default all are of one type, ``"all"``.

    Returns
    -------
    pandas.DataFrame
        One row a voxel and image type: the columns that tell voxels apart, ``image_type``,
        ``n_images``, ``repeats`` (harmonic mean), ``signal_variance`` (unbiased, may be below 0)
        and ``noise_variance`` in squared units of the responses, ``ncsnr``, ``nc`` (noise ceiling
        of mean responses, % of variance in [0, 100)), ``r`` (the same as a correlation: root of
        nc / 100), and ``nc_unclipped`` (without bias, may be below 0; average this one).

    Raises
    ------
    InputError
        When conditions have no type, a type has fewer than 4 images or no image twice, or voxels
        have no noise; subject, ROI and type are named.

    Notes
    -----
    With k presentations NC % = 100 ncsnr² / (ncsnr² + 1 / k). A ceiling of an image type holds for
    images as they were shown: AN that drive a region less have a lower one, and a lower score there
    may be noise alone. Offsets between runs or sessions count as noise; see `zscore_patterns`.

    References
    ----------
    Allen et al. (2022), Nature Neuroscience 25, 116-126.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> shown = {"condition": [f"c{i}" for i in range(30)] * 2, "presentation": [1] * 30 + [2] * 30}
    >>> signal = np.tile(random.standard_normal((30, 4)), (2, 1))
    >>> patterns = Patterns(
    ...     values=signal + 0.5 * random.standard_normal((60, 4)),
    ...     observations=pd.DataFrame({**shown, "run": shown["presentation"], "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(4), "j": 0, "k": 0}),
    ... )
    >>> table = voxel_ceilings(patterns)
    >>> table["image_type"].tolist(), bool((table["r"] > 0.8).all())
    (['all', 'all', 'all', 'all'], True)
    """
    names = voxel_key(patterns.voxels)
    tables = []
    for _, part, image_type in typed_regions(patterns, image_types):
        variances = region_variances(part, image_type)
        columns = {
            "image_type": image_type,
            "n_images": variances.n_images,
            "repeats": variances.repeats,
            "signal_variance": variances.signal,
            "noise_variance": variances.noise,
            "ncsnr": variances.ncsnr,
            "nc": 100 * variances.ceiling,
            "r": np.sqrt(variances.ceiling),
            "nc_unclipped": 100 * variances.unclipped,
        }
        tables.append(part.voxels[names].assign(**columns))
    return pd.concat(tables, ignore_index=True)


@checked
def region_ceilings(
    patterns: Patterns, image_types: Mapping[str, str] | str | None = None
) -> pd.DataFrame:
    """Summarize the noise ceilings of each region's voxels, for each image type by itself.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.

    Returns
    -------
    pandas.DataFrame
        One row a subject, region and image type: ``n_voxels``, ``n_images``, ``repeats`` (harmonic
        mean), ``ncsnr_low``, ``ncsnr_median``, ``ncsnr_high`` (quartiles over voxels), ``nc``
        (noise ceiling of mean responses, % of variance, mean over voxels), ``r`` (mean over voxels
        of the ceiling as a correlation), ``method``.

    Raises
    ------
    InputError
        See `voxel_ceilings`.

    Notes
    -----
    Ceilings of voxels that are clipped at 0 are too high on average where there is little signal
    (two presentations of 40 images, no signal: 10 %, and .21 as a correlation). `nc` averages the
    unclipped ones, 1 - (n - 3) / (n - 1) / F, whose expectation is the truth for normal signal and
    noise (with unequal repeats n - 1 is Satterthwaite's approximation). `r` is the mean over the
    distribution of ceilings that makes the measured F most likely (F / (1 / (1 - NC)) follows an F
    distribution; expectation maximization), and never above the root of `nc`. Bias of both:
    ``benchmarks`` F5; that of `r` is up to .04 where half of the voxels have no signal and .06
    where none has, since roots of what noise leaves are above 0.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> shown = {"condition": [f"c{i}" for i in range(30)] * 2, "presentation": [1] * 30 + [2] * 30}
    >>> signal = np.tile(random.standard_normal((30, 40)), (2, 1))
    >>> patterns = Patterns(
    ...     values=signal + random.standard_normal((60, 40)),
    ...     observations=pd.DataFrame({**shown, "run": shown["presentation"], "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(40), "j": 0, "k": 0}),
    ... )
    >>> row = region_ceilings(patterns).iloc[0]
    >>> bool(abs(row["nc"] - 100 * 2 / 3) < 5), bool(abs(row["r"] - (2 / 3) ** 0.5) < 0.05)
    (True, True)
    """
    rows = []
    for (subject, roi), part, image_type in typed_regions(patterns, image_types):
        variances = region_variances(part, image_type)
        row = {"subject": subject, "roi": roi, "image_type": image_type}
        rows.append(row | ceiling_row(variances))
    return pd.DataFrame(rows)


METHOD = (
    "ncsnr and noise ceiling as Allen et al. (2022), signal and noise variance from presentations; "
    "means over voxels of unclipped ceilings"
)
"""How ceilings were measured, for tables."""


CEILINGS = ("ncsnr_low", "ncsnr_median", "ncsnr_high", "nc", "r")
"""Columns of `region_ceilings` that hold what was measured."""


def ceiling_row(variances: ResponseVariances) -> dict[str, Any]:
    """Summarize the variances of a region's voxels.

    Parameters
    ----------
    variances : ResponseVariances
        Of all voxels of the region.

    Returns
    -------
    dict
        Columns of `region_ceilings` but for subject, roi and image_type.
    """
    low, median, high = np.quantile(variances.ncsnr, [0.25, 0.5, 0.75]).tolist()
    return {
        "n_voxels": len(variances.noise),
        "n_images": variances.n_images,
        "repeats": variances.repeats,
        "ncsnr_low": low,
        "ncsnr_median": median,
        "ncsnr_high": high,
        "nc": 100 * max(0.0, float(variances.unclipped.mean())),
        "r": variances.mean_r,
        "method": METHOD,
    }


def region_variances(part: Patterns, image_type: str) -> ResponseVariances:
    """Estimate the variances of one region and image type, with messages that name them.

    Parameters
    ----------
    part : Patterns
        Of one region of one subject.
    image_type : str
        For messages.

    Returns
    -------
    ResponseVariances
        Of the voxels of the region.

    Raises
    ------
    InputError
        See `response_variances`.
    """
    conditions = part.observations["condition"].tolist()
    names = voxel_names(part.voxels)
    try:
        return response_variances(part.values, conditions, voxels=names)
    except InputError as error:
        roi = part.rois[0]
        raise InputError(f"ROI '{roi}', image type '{image_type}': {error}") from None


def typed_regions(
    patterns: Patterns, image_types: Mapping[str, str] | str | None
) -> Iterator[tuple[tuple[str, str], Patterns, str]]:
    """Give the patterns of each region of each subject, and of each image type in it.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.

    Yields
    ------
    tuple
        Subject and region; their patterns of one type; the type.

    Raises
    ------
    InputError
        When conditions have no type.
    """
    members: dict[str, list[str]] = {}
    for condition, image_type in condition_types(patterns, image_types).items():
        members.setdefault(image_type, []).append(condition)
    key = patterns.voxels[["subject", "roi"]]
    for row in key.drop_duplicates().itertuples(index=False):
        subject, roi = str(row.subject), str(row.roi)
        of_subject = key["subject"] == subject
        of_region = key["roi"] == roi
        inside = (of_subject & of_region).to_numpy()
        region = patterns.select(voxels=inside)
        for image_type, conditions in members.items():
            yield (subject, roi), region.select(conditions=conditions), image_type


def condition_types(
    patterns: Patterns, image_types: Mapping[str, str] | str | None
) -> dict[str, str]:
    """Find the image type of each condition.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.

    Returns
    -------
    dict of str to str
        Condition to type, in order of first appearance.

    Raises
    ------
    InputError
        When conditions have no type, or two.
    """
    if image_types is None:
        return dict.fromkeys(patterns.conditions, ALL_TYPES)
    if isinstance(image_types, str):
        observations = patterns.observations
        if image_types not in observations.columns:
            raise unknown_name("column of the observations", image_types, observations.columns)
        pairs = observations[["condition", image_types]].astype(str).drop_duplicates()
        again = pairs["condition"][pairs["condition"].duplicated()]
        if len(again):
            raise InputError(
                f"conditions of more than one image type in the column '{image_types}': "
                f"{name_ids(again)}; give each one type."
            )
        return dict(pairs.itertuples(index=False, name=None))
    lacking = [name for name in patterns.conditions if name not in image_types]
    if lacking:
        raise InputError(
            f"conditions without an image type: {name_ids(lacking)}; give the type of each, or "
            "leave those conditions out (patterns.select)."
        )
    return {name: str(image_types[name]) for name in patterns.conditions}
