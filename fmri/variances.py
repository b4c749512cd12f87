"""Variances of signal and noise of voxels, from repeated presentations.

Presentations of an image scatter by the noise; means of images scatter by the signal and what is
left of the noise. Both are told apart voxel by voxel; as covariances of all voxels they are in
`fmri.covariances`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.summaries import short_repr

MIN_IMAGES = 4
"""Fewest images that tell signal from noise."""

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
    def nc(self) -> float:
        """Mean over voxels of the unbiased ceilings.

        Returns
        -------
        float
            Share of variance, up to 1; below 0 where the voxels' means vary less than the noise.
        """
        return float(self.unclipped.mean())

    @property
    def r(self) -> float:
        """The same mean as a correlation: its root, with its sign.

        Returns
        -------
        float
            In (-1, 1): the root mean square over voxels of their ceilings as correlations, where it
            is above 0.
        """
        mean = self.nc
        return float(np.sign(mean) * np.sqrt(abs(mean)))

    @property
    def mean_r(self) -> float:
        """Mean over voxels of their ceilings as correlations, as likely as the data make it.

        Returns
        -------
        float
            Up to `r`, which a mean of roots does not exceed; too high where many voxels have no
            signal, see `region_ceilings`.
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
        return min(mean, self.r)


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
