"""One general linear model of several runs: what they share, and the nuisance of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fmri.betas.prediction import basis_of, column_sums_of_squares, without
from neurometamer.arguments import checked
from neurometamer.errors import InputError

STATISTICS = ("t", "z")
"""Units of betas that are divided by their standard error."""

_SINGULAR = 1e-7


@dataclass(frozen=True, kw_only=True, eq=False)
class JointFit:
    """Weighted sums of the coefficients of one model, with their uncertainty.

    Parameters
    ----------
    effects, errors : ndarray, shape (n_contrasts, n_voxels)
        The sums and their standard errors.
    dof : int
        Degrees of freedom of the residuals.

    Examples
    --------
    >>> fit = JointFit(effects=np.array([[3.0]]), errors=np.array([[1.5]]), dof=20)
    >>> fit.statistic("t").tolist(), fit.statistic("z").round(2).tolist()
    ([[2.0]], [[1.89]])
    """

    effects: np.ndarray
    errors: np.ndarray
    dof: int

    def statistic(self, units: str) -> np.ndarray:
        """Divide the effects by their standard errors.

        Parameters
        ----------
        units : {"t", "z"}
            As t, or as the z of the same one-sided probability.

        Returns
        -------
        ndarray, shape (n_contrasts, n_voxels)
            The statistic; 0 where nothing is left to be explained.
        """
        from scipy.stats import norm, t

        values = np.zeros(self.effects.shape)
        np.divide(self.effects, self.errors, out=values, where=self.errors > 0)
        if units == "t":
            return values
        # through the logarithm of the smaller tail, which does not end at 8
        tails = t.logsf(np.abs(values), self.dof)
        floor = np.maximum(tails, -700.0)
        scores = norm.isf(np.exp(floor))
        return np.sign(values) * scores


@checked
def fit_jointly(
    series: Sequence[np.ndarray],
    events: Sequence[np.ndarray],
    nuisance: Sequence[np.ndarray],
    *,
    contrasts: np.ndarray | None = None,
    noise_model: str = "ols",
) -> JointFit:
    """Fit one general linear model to several runs.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_volumes, n_voxels)
        Time courses of each run.
    events : sequence of ndarray, shape (n_volumes, n_regressors)
        Regressors whose coefficients the runs share; zeros in a run without these events.
    nuisance : sequence of ndarray, shape (n_volumes, n_nuisance)
        Regressors of each run alone: its intercept, drifts and confounds.
    contrasts : ndarray, shape (n_contrasts, n_regressors), optional
        Weights of the coefficients; each coefficient alone by default.
    noise_model : {"ols", "ar1"}
        White noise, or first-order autoregressive noise within each run, one coefficient a voxel,
        cut to two digits and estimated from the residuals as nilearn's ``run_glm`` does.

    Returns
    -------
    JointFit
        Effects, standard errors and degrees of freedom.

    Raises
    ------
    InputError
        When the regressors cannot be told apart.

    Notes
    -----
    Equal to one design whose nuisance is block-diagonal over runs. For a single run equal to
    nilearn's ``run_glm`` and ``compute_contrast``.

    Examples
    --------
    >>> events = [np.array([[1.0], [0.0], [1.0], [0.0]])] * 2
    >>> series = [np.array([[3.0], [1.0], [3.0], [1.0]]), np.array([[9.0], [5.0], [9.0], [5.0]])]
    >>> fit_jointly(series, events, [np.ones((4, 1))] * 2).effects.tolist()
    [[3.0]]
    """
    n_regressors = events[0].shape[1]
    weights = np.eye(n_regressors) if contrasts is None else contrasts
    plain = _least_squares(series, events, nuisance, weights)
    if noise_model == "ols":
        return plain.summary
    n_voxels = series[0].shape[1]
    effects = np.empty((len(weights), n_voxels))
    errors = np.empty((len(weights), n_voxels))
    # the lag-1 correlation of each voxel within runs, cut to two digits
    energy = np.zeros(n_voxels)
    products = np.zeros(n_voxels)
    for rest in plain.residuals:
        energy += column_sums_of_squares(rest)
        products += np.einsum("ij,ij->j", rest[1:], rest[:-1])
    n_volumes = sum(map(len, plain.residuals))
    energy /= n_volumes
    products /= n_volumes - len(series)
    slopes = np.zeros(n_voxels)
    np.divide(products, energy, out=slopes, where=energy > 0)
    slopes = np.trunc(slopes * 100) / 100
    for slope in np.unique(slopes):
        voxels = np.flatnonzero(slopes == slope)
        group = _least_squares(
            [_whitened(run[:, voxels], slope) for run in series],
            [_whitened(run, slope) for run in events],
            [_whitened(run, slope) for run in nuisance],
            weights,
        )
        effects[:, voxels] = group.summary.effects
        errors[:, voxels] = group.summary.errors
    return JointFit(effects=effects, errors=errors, dof=plain.summary.dof)


@dataclass(frozen=True, kw_only=True, eq=False)
class _LeastSquares:
    """Least squares of several runs: contrasts, and what is left of each run."""

    summary: JointFit
    residuals: list[np.ndarray]


def _least_squares(
    series: Sequence[np.ndarray],
    events: Sequence[np.ndarray],
    nuisance: Sequence[np.ndarray],
    weights: np.ndarray,
) -> _LeastSquares:
    bases = [basis_of(run) for run in nuisance]
    regressors = [without(basis, run) for basis, run in zip(bases, events, strict=True)]
    responses = [without(basis, run) for basis, run in zip(bases, series, strict=True)]
    n_columns = events[0].shape[1]
    gram = np.zeros((n_columns, n_columns))
    whole = np.zeros(n_columns)
    product = np.zeros((n_columns, series[0].shape[1]))
    for run, own, raw in zip(regressors, responses, events, strict=True):
        gram += run.T @ run
        product += run.T @ own
        whole += column_sums_of_squares(raw)
    lengths = np.sqrt(np.diag(gram))
    is_lost = lengths <= _SINGULAR * np.sqrt(whole)
    scale = np.outer(lengths, lengths)
    if is_lost.any() or np.linalg.cond(gram / scale) > _SINGULAR**-2:
        raise InputError(
            "conditions cannot be told apart from each other, or from drifts and confounds; use "
            "fewer confounds (columns, --columns), a lower high_pass (--high-pass), or more runs."
        )
    inverse = np.linalg.inv(gram / scale)
    inverse /= scale
    coefficients = inverse @ product
    residuals = []
    left = np.zeros(product.shape[1])
    n_volumes = 0
    for run, own, basis in zip(regressors, responses, bases, strict=True):
        rest = own - run @ coefficients
        left += column_sums_of_squares(rest)
        residuals.append(rest)
        n_volumes += len(rest)
        n_columns += basis.shape[1]
    dof = n_volumes - n_columns
    if dof < 1:
        raise InputError(
            f"the model has {n_columns} columns for {n_volumes} volumes; use fewer confounds "
            "(columns, --columns), a lower high_pass (--high-pass), or longer runs."
        )
    gains = np.einsum("ij,jk,ik->i", weights, inverse, weights)
    summary = JointFit(
        effects=weights @ coefficients,
        errors=np.sqrt(np.outer(gains, left / dof)),
        dof=dof,
    )
    return _LeastSquares(summary=summary, residuals=residuals)


def _whitened(columns: np.ndarray, slope: float) -> np.ndarray:
    """Whiten within a run; the first volume stays, as in nilearn."""
    white = columns.astype(np.float64)
    before = columns[:-1]
    predicted = slope * before
    white[1:] -= predicted
    return white
