"""Ways to predict voxels from features, on arrays: the table of solvers, and ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neurometamer.arguments import checked_with
from neurometamer.summaries import short_repr

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
    n_images, n_units = features.shape
    triangle = np.empty((0, n_images))
    for start in range(0, n_units, CHUNK):
        part = features[:, start : start + CHUNK].T.astype(np.float64)
        # Units that never change become exactly 0, and not rounding that ridge could fit.
        part -= part[:, :1]
        part -= part.mean(axis=1, keepdims=True)
        stacked = np.concatenate([triangle, part])
        triangle = np.asarray(np.linalg.qr(stacked, mode="r"))
    return triangle.T


class Fit(Protocol):
    """Responses of voxels fitted on a training set."""

    @property
    def alphas(self) -> np.ndarray:
        """Penalty of each voxel.

        Returns
        -------
        ndarray, shape (n_voxels,)
            NaN where there is none.
        """

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of each voxel's fitted values over the training images.

        Returns
        -------
        ndarray, shape (n_voxels,)
            In the unit of the responses.
        """

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Predict responses relative to the mean response of the training images.

        Parameters
        ----------
        features : ndarray, shape (n_images, n_features)
            Features of other images.

        Returns
        -------
        ndarray, shape (n_images, n_voxels)
            Predictions less the intercept.
        """


class TrainingSet(Protocol):
    """Features of training images, prepared for many response matrices."""

    def fit(self, responses: np.ndarray) -> Fit:
        """Fit every voxel.

        Parameters
        ----------
        responses : ndarray, shape (n_train, n_voxels)
            Responses to the training images.

        Returns
        -------
        Fit
            Penalties and predictions.
        """


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
        self.alphas = np.asarray(alphas, dtype=np.float64)
        self.center = features.mean(axis=0)
        centered = features - self.center
        squared_lengths = np.sum(centered**2, axis=1)
        self.scale = float(np.mean(squared_lengths))
        left, singular, right = np.linalg.svd(centered, full_matrices=False)
        kept = singular > singular.max(initial=0) * 1e-10
        self.left = left[:, kept]
        self.singular = singular[kept]
        self.right = right[kept]
        # With features that do not vary there is nothing to penalize, and no singular value is
        # kept.
        scale = np.maximum(self.scale, np.finfo(float).tiny)
        penalties = scale * self.alphas[:, None]
        variances = self.singular**2
        self.shrinkage = variances / (variances + penalties)
        squares = self.left**2
        leverage = 1 / len(features) + self.shrinkage @ squares.T
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
        grid = zip(errors, self.shrinkage, self.leave_one_out)
        for error, shrinkage, leave_one_out in grid:
            fitted = self.left @ (shrinkage[:, None] * projected)
            residuals = centered - fitted
            residuals *= leave_one_out[:, None]
            error[:] = np.einsum("ij,ij->j", residuals, residuals)
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
        self.ridge = ridge
        self.projected = projected
        self.chosen = chosen

    @property
    def alphas(self) -> np.ndarray:
        """Return the penalty of each voxel.

        Returns
        -------
        ndarray, shape (n_voxels,)
            NaN where the features do not vary.
        """
        if not self.ridge.scale:
            return np.full(len(self.chosen), np.nan)
        return self.ridge.alphas[self.chosen]

    @property
    def spread(self) -> np.ndarray:
        """Return how far each voxel's fitted values spread over the training images.

        Returns
        -------
        ndarray, shape (n_voxels,)
            Standard deviation, in the unit of the responses.
        """
        ridge = self.ridge
        n_train = len(ridge.left)
        shrinkage = ridge.shrinkage[self.chosen]
        fitted = shrinkage.T * self.projected
        squares = np.sum(fitted**2, axis=0)
        return np.sqrt(squares / n_train)

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
        ridge = self.ridge
        shrinkage = ridge.shrinkage[self.chosen]
        weights = shrinkage / ridge.singular
        centered = features - ridge.center
        along = centered @ ridge.right.T
        return along @ (weights.T * self.projected)


@short_repr
@dataclass(frozen=True, kw_only=True)
class Solver:
    """One way to predict voxels from features: the entry from which encoding works.

    Parameters
    ----------
    prepare : callable
        ``(features, alphas)``, training features (n_train, n_features) and penalties in rising
        order, to a `TrainingSet`.
    label : str
        What is fitted, for the column ``method``.
    help : str
        One line that says what the solver does.
    takes_alphas : bool
        Whether a penalty is chosen for each voxel; without, the columns of penalties are NaN.

    Examples
    --------
    >>> SOLVERS["ridge"].help
    'ridge regression, a penalty for each voxel'
    """

    prepare: Callable[[np.ndarray, np.ndarray], TrainingSet]
    label: str
    help: str
    takes_alphas: bool = True


SOLVERS: dict[str, Solver] = {
    "ridge": Solver(
        prepare=Ridge,
        label=(
            "ridge on training-mean-centered features, alpha per voxel by leave-one-image-out "
            "within the training photographs, in units of the mean squared feature length"
        ),
        help="ridge regression, a penalty for each voxel",
    ),
}
"""Name of a solver to its entry. An entry added here is known everywhere."""


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
    products = np.sum(a * b, axis=0)
    a_squares = np.sum(a**2, axis=0)
    b_squares = np.sum(b**2, axis=0)
    lengths = np.sqrt(a_squares * b_squares)
    defined = np.ptp(predicted, axis=0) > 0
    defined &= np.ptp(measured, axis=0) > 0
    correlations = np.full(len(products), np.nan)
    np.divide(
        products,
        lengths,
        out=correlations,
        where=defined,
    )
    return correlations
