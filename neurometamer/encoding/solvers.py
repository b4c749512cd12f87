"""Ridge regression on arrays: exact reduction of units, a penalty and correlation a voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurometamer.arguments import checked_with

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-3, 4, 15))
"""Ridge penalties, in units of the mean squared length of the centered training features."""

CHUNK = 16384
"""Units reduced at a time."""

EQUAL = 1e-12
"""Variances below this share of the total are rounding."""


@checked_with(finite=("features",), shapes={"features": "images units"})
def reduce_features(features: np.ndarray) -> np.ndarray:
    """Turn many units into as many columns as there are images, with all inner products kept.

    With centered features X = Z Q', Q orthonormal, ridge on Z gives the predictions of ridge on X
    exactly, because the penalized weights lie in the span of the images.

    Parameters
    ----------
    features : ndarray, shape (n_images, n_units)
        All images, training and test together.

    Returns
    -------
    ndarray, shape (n_images, min(n_images, n_units))
        Z, float64; the mean over images is removed, which an intercept makes up for.

    References
    ----------
    Hastie & Tibshirani (2004), Biostatistics 5:329, section 3 (QR reduction for p >> n).

    Examples
    --------
    >>> import numpy as np
    >>> reduce_features(np.random.default_rng(0).normal(size=(6, 1000))).shape
    (6, 6)
    """
    triangle = np.empty((0, len(features)))
    for start in range(0, features.shape[1], CHUNK):
        part = features[:, start : start + CHUNK].T.astype(np.float64)
        # Units that never change become exactly 0, and not rounding that ridge could fit.
        part -= part[:, :1]
        part -= part.mean(axis=1, keepdims=True)
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, part]), mode="r"))
    return triangle.T


class Ridge:
    """Ridge regression from one training set, for many response matrices and a grid of penalties.

    The features are decomposed once. Each response matrix then costs one matrix product a penalty,
    which makes permutation tests that fit again affordable.

    Parameters
    ----------
    features : ndarray, shape (n_train, n_features)
        Training features. They are centered here by their mean, not scaled.
    alphas : sequence of float
        Penalties, in units of the mean squared length of the centered features, so that one grid
        serves all stages.

    Notes
    -----
    The penalty of each voxel has the smallest squared leave-one-image-out error, intercept
    included. Penalties and predictions equal `sklearn.linear_model.RidgeCV` with
    ``alpha_per_target=True``.

    References
    ----------
    Golub, Heath & Wahba (1979), Technometrics 21:215, equation 1.2 (the leave-one-out error).

    Examples
    --------
    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> x, y = random.normal(size=(20, 3)), random.normal(size=(20, 2))
    >>> Ridge(x[:15], [0.1, 1.0]).fit(y[:15]).predict(x[15:]).shape
    (5, 2)
    """

    def __init__(self, features: np.ndarray, alphas: Sequence[float] | np.ndarray = ALPHAS) -> None:
        self.center = features.mean(axis=0)
        centered = features - self.center
        self.alphas = np.asarray(alphas, dtype=np.float64)
        self.scale = float(np.mean(np.sum(centered**2, axis=1)))
        left, singular, right = np.linalg.svd(centered, full_matrices=False)
        kept = singular > singular.max(initial=0) * 1e-10
        self.left, self.singular, self.right = left[:, kept], singular[kept], right[kept]
        # With features that do not vary there is nothing to penalize, and no singular value is
        # kept.
        penalties = np.maximum(self.scale, np.finfo(float).tiny) * self.alphas[:, None]
        self.shrinkage = self.singular**2 / (self.singular**2 + penalties)
        leverage = 1 / len(features) + self.shrinkage @ (self.left**2).T
        # A penalty near zero may reproduce an image exactly: its error without it is then huge.
        self.leave_one_out = 1 / np.maximum(1 - leverage, EQUAL)

    def fit(self, responses: np.ndarray) -> RidgeFit:
        """Choose the penalty of each voxel and fit it.

        Parameters
        ----------
        responses : ndarray, shape (n_train, n_voxels)
            Responses to the training images. They are centered here by their mean.

        Returns
        -------
        RidgeFit
            Penalties and predictions.
        """
        centered = responses - responses.mean(axis=0)
        projected = self.left.T @ centered
        errors = np.empty((len(self.alphas), responses.shape[1]))
        for k, shrinkage in enumerate(self.shrinkage):
            residuals = centered - self.left @ (shrinkage[:, None] * projected)
            residuals *= self.leave_one_out[k][:, None]
            errors[k] = np.einsum("ij,ij->j", residuals, residuals)
        return RidgeFit(self, projected, errors.argmin(axis=0))


class RidgeFit:
    """Ridge regression of one response matrix, as `Ridge.fit` gives it.

    Parameters
    ----------
    ridge : Ridge
        The decomposed training features.
    projected : ndarray, shape (n_components, n_voxels)
        Centered responses along the left singular vectors of the features.
    chosen : ndarray of int, shape (n_voxels,)
        Index of each voxel's penalty in the grid.
    """

    def __init__(self, ridge: Ridge, projected: np.ndarray, chosen: np.ndarray) -> None:
        self.ridge, self.projected, self.chosen = ridge, projected, chosen

    @property
    def alphas(self) -> np.ndarray:
        """Return the penalty of each voxel.

        Returns
        -------
        ndarray, shape (n_voxels,)
            NaN where the features do not vary.
        """
        return (
            self.ridge.alphas[self.chosen]
            if self.ridge.scale
            else np.full(len(self.chosen), np.nan)
        )

    @property
    def spread(self) -> np.ndarray:
        """Return how far each voxel's fitted values spread over the training images.

        Returns
        -------
        ndarray, shape (n_voxels,)
            Standard deviation, in the unit of the responses.
        """
        fitted = self.ridge.shrinkage[self.chosen].T * self.projected
        return np.sqrt(np.sum(fitted**2, axis=0) / len(self.ridge.left))

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict responses relative to the mean response of the training images.

        Parameters
        ----------
        features : ndarray, shape (n_images, n_features)
            Features of other images, in the space of the training features.

        Returns
        -------
        ndarray, shape (n_images, n_voxels)
            Predictions less the intercept; 0 where the features do not vary.
        """
        weights = self.ridge.shrinkage[self.chosen] / self.ridge.singular
        along = (features - self.ridge.center) @ self.ridge.right.T
        return along @ (weights.T * self.projected)


@checked_with(shapes={"predicted": "images voxels", "measured": "images voxels"})
def column_correlations(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Correlate prediction and measurement over images, voxel by voxel.

    Parameters
    ----------
    predicted, measured : ndarray, shape (n_images, n_voxels)
        Predicted and measured responses.

    Returns
    -------
    ndarray, shape (n_voxels,)
        Pearson correlation; NaN where one side is constant.

    Examples
    --------
    >>> import numpy as np
    >>> predicted = np.array([[1.0], [2], [3]])
    >>> column_correlations(predicted, 2 * predicted).round(6).tolist()
    [1.0]
    """
    a = predicted - predicted.mean(axis=0)
    b = measured - measured.mean(axis=0)
    defined = (np.ptp(predicted, axis=0) > 0) & (np.ptp(measured, axis=0) > 0)
    lengths = np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0))
    result = np.full(a.shape[1], np.nan)
    np.divide(np.sum(a * b, axis=0), lengths, out=result, where=defined)
    return result
