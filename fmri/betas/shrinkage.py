"""Ridge shrinkage of single-trial responses, with a length of the betas that repeats choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmri.betas.prediction import (
    RunModel,
    ShapeChoice,
    basis_of,
    column_sums_of_squares,
    other_run_means,
    quartiles,
    slabs,
    without,
)
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids

FRACTIONS = np.arange(1, 21) / 20
"""Lengths of shrunken betas, as shares of the least-squares betas' length, to choose from."""

_GRID = 400
_SINGULAR = 1e-7


@checked
def fractional_ridge(
    design: np.ndarray, data: np.ndarray, fractions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve ridge regression for given lengths of the coefficients.

    Parameters
    ----------
    design : ndarray, shape (n_volumes, n_regressors)
        Regressors, linearly independent.
    data : ndarray, shape (n_volumes, n_voxels)
        Time courses.
    fractions : ndarray, shape (n_fractions,)
        Lengths of the coefficients as shares of that of the least-squares coefficients, in (0, 1].

    Returns
    -------
    betas : ndarray, shape (n_fractions, n_regressors, n_voxels)
        Coefficients.
    penalties : ndarray, shape (n_fractions, n_voxels)
        The ridge penalty of each.

    References
    ----------
    Rokem & Kay (2020). Fractional ridge regression: a fast, interpretable reparameterization of
    ridge regression. GigaScience 9, giaa133.

    Examples
    --------
    >>> betas, penalties = fractional_ridge(np.eye(3), np.ones((3, 1)), np.array([0.5, 1.0]))
    >>> betas[:, :, 0].round(3).tolist(), penalties.round(3).tolist()
    ([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]], [[1.0], [0.0]])
    """
    wrong = fractions[(fractions <= 0) | (fractions > 1)]
    if len(wrong):
        raise InputError(f"fractions are {name_ids(wrong)}; give numbers above 0 and up to 1.")
    left, sizes, right = np.linalg.svd(design, full_matrices=False)
    coordinates = left.T @ data
    coordinates /= sizes[:, None]
    penalties = _penalties(sizes, coordinates, fractions)
    betas = []
    for penalty in penalties:
        shrunken = _shrunken(sizes, coordinates, penalty)
        betas.append(right.T @ shrunken)
    return np.array(betas), penalties


def _shrunken(sizes: np.ndarray, coordinates: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Shrink least-squares coordinates along the singular vectors, a penalty a voxel."""
    squares = sizes**2
    column = squares[:, None]
    factors = column / (column + penalties)
    return coordinates * factors


def _penalties(sizes: np.ndarray, coordinates: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Find the penalties at which the coordinates have shares of their length.

    The length falls with the penalty. It is computed on a grid and interpolated in the logarithm of
    the penalty, which misses a length by less than 0.001.
    """
    squares = sizes**2
    least, most = squares.min(), squares.max()
    grid = np.geomspace(1e5 * most, 1e-4 * least, _GRID)
    weights = squares / (squares + grid[:, None])
    energy = coordinates**2
    energy /= energy.sum(axis=0)
    lengths = np.sqrt(weights**2 @ energy)
    steps = np.log(grid)
    of_voxels = []
    for length in lengths.T:
        logarithms = np.interp(fractions, length, steps)
        of_voxels.append(logarithms)
    penalties = np.exp(of_voxels).T
    penalties[fractions >= 1] = 0
    return penalties


@dataclass(frozen=True, kw_only=True, eq=False)
class Shrinkage:
    """Shrunken betas of single presentations.

    Parameters
    ----------
    betas : ndarray, shape (n_events, n_voxels)
        Scale and mean of each voxel are those of its least-squares betas.
    fractions : ndarray, shape (n_voxels,)
        Length before the scale was restored, as a share of the least-squares betas'.
    gain : ndarray, shape (n_voxels,)
        Share of the error of predicting other runs that shrinkage removed; 0 where the fraction was
        given.
    """

    betas: np.ndarray
    fractions: np.ndarray
    gain: np.ndarray

    def record(self) -> dict[str, Any]:
        """Say how much was shrunken, and what it gained.

        Returns
        -------
        dict
            Quartiles over voxels.
        """
        return {
            "fractions": quartiles(self.fractions),
            "less_error_in_other_runs": quartiles(self.gain),
        }


def shrink_presentations(
    runs: Sequence[RunModel],
    shapes: ShapeChoice,
    components: Sequence[np.ndarray],
    shrinkage: float | str,
) -> Shrinkage:
    """Shrink the responses of each voxel to single presentations by ridge regression.

    Parameters
    ----------
    runs : sequence of RunModel
        The runs; one penalty a voxel for all.
    shapes : ShapeChoice
        The response of each voxel.
    components : sequence of ndarray, shape (n_volumes, n_noise)
        Noise regressors of each run.
    shrinkage : float or "auto"
        The fraction, or ``"auto"``: of `FRACTIONS` the one with which the mean shrunken response to
        a condition in the other runs is nearest to the least-squares response to a presentation.

    Returns
    -------
    Shrinkage
        Betas, in order of runs and events, fractions and gain.

    Raises
    ------
    InputError
        When noise regressors leave too few volumes for the presentations.

    Notes
    -----
    Scale and mean are restored by regressing the least-squares betas of a voxel on its shrunken
    ones, as GLMsingle does.

    References
    ----------
    Prince, Charest, Kurzawski, Pyles, Tarr & Kay (2022). Improving the accuracy of single-trial
    fMRI response estimates using GLMsingle. eLife 11, e77599.
    """
    n_events = sum(len(run.conditions) for run in runs)
    n_voxels = runs[0].series.shape[1]
    betas = np.empty((n_events, n_voxels))
    fractions = np.ones(n_voxels)
    gain = np.zeros(n_voxels)
    averaging = other_run_means(runs)
    for name, voxels in shapes.groups():
        model = _PresentationModel(runs, name, components)
        for part in slabs(voxels):
            coordinates = model.coordinates([run.series[:, part] for run in runs])
            plain = model.betas(coordinates)
            if shrinkage == "auto":
                best = model.best_fractions(coordinates, plain, averaging)
                shrunken, fractions[part], gain[part] = best
            else:
                share = np.array([float(shrinkage)])
                penalties = _penalties(model.sizes, coordinates, share)
                shrunken = model.betas(_shrunken(model.sizes, coordinates, penalties[0]))
                fractions[part] = share
            # the scale and mean that fit the least-squares betas best
            shrunken -= shrunken.mean(axis=0)
            covariances = (shrunken * plain).sum(axis=0)
            variances = column_sums_of_squares(shrunken)
            slopes = np.ones(len(part))
            np.divide(covariances, variances, out=slopes, where=variances > 0)
            betas[:, part] = slopes * shrunken + plain.mean(axis=0)
    return Shrinkage(betas=betas, fractions=fractions, gain=gain)


class _PresentationModel:
    """Singular vectors of the single presentations of all runs under one response."""

    def __init__(
        self, runs: Sequence[RunModel], shape: str, components: Sequence[np.ndarray]
    ) -> None:
        self.parts = []
        for run, noise in zip(runs, components, strict=True):
            events = without(basis_of(run.nuisance, noise), run.regressors[shape])
            left, sizes, right = np.linalg.svd(events, full_matrices=False)
            if sizes[-1] <= _SINGULAR * sizes[0]:
                raise InputError(
                    f"{len(run.conditions)} presentations cannot be told apart in a run of "
                    f"{len(events)} volumes with {noise.shape[1]} noise regressors; give fewer "
                    "(n_noise, --n-noise) or confounds (columns, --columns)."
                )
            self.parts.append((left, sizes, right))
        self.sizes = np.concatenate([sizes for _, sizes, _ in self.parts])

    def coordinates(self, series: Sequence[np.ndarray]) -> np.ndarray:
        """Give least-squares coordinates along the singular vectors: (n_events, n_voxels)."""
        of_runs = []
        for (left, sizes, _), own in zip(self.parts, series, strict=True):
            products = left.T @ own
            column = sizes[:, None]
            products /= column
            of_runs.append(products)
        return np.concatenate(of_runs)

    def betas(self, coordinates: np.ndarray) -> np.ndarray:
        """Turn coordinates into betas: (n_events, n_voxels)."""
        of_runs = []
        first = 0
        for _, sizes, right in self.parts:
            last = first + len(sizes)
            of_runs.append(right.T @ coordinates[first:last])
            first = last
        return np.concatenate(of_runs)

    def best_fractions(
        self, coordinates: np.ndarray, plain: np.ndarray, averaging: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose the fraction of each voxel; returns shrunken betas, fractions and the gain."""
        is_repeated = averaging.sum(axis=1) > 0
        targets = plain[is_repeated]
        targets = targets - targets.mean(axis=0)
        penalties = _penalties(self.sizes, coordinates, FRACTIONS)
        best = plain.copy()
        chosen = np.ones(plain.shape[1])
        least = np.full(plain.shape[1], np.inf)
        unshrunken = least
        # from no shrinkage on: of equally good fractions the largest
        for fraction, penalty in zip(FRACTIONS[::-1], penalties[::-1]):
            betas = self.betas(_shrunken(self.sizes, coordinates, penalty))
            predicted = (averaging @ betas)[is_repeated]
            predicted -= predicted.mean(axis=0)
            errors = ((predicted - targets) ** 2).sum(axis=0)
            if fraction == 1:
                unshrunken = errors
            is_better = errors < least
            least = np.where(is_better, errors, least)
            chosen[is_better] = fraction
            best[:, is_better] = betas[:, is_better]
        return best, chosen, 1 - least / unshrunken
