"""Responses of runs at every place of a map, and crossnobis RDMs of many searchlights at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.rsa.noise import (
    SHRINKAGE,
    check_folds,
    crossnobis_of_sums,
    estimate_noise,
    no_noise,
    residuals_of,
    sums_by_fold,
)
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from fmri.patterns import Patterns

NOISE = ("none", *SHRINKAGE)
"""What normalizes voxels of a searchlight: nothing, or the noise of its own voxels."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class RunResponses:
    """Responses of each run, for crossnobis distances.

    Parameters
    ----------
    names : tuple of str
        Conditions.
    folds : tuple of str
        Runs, or what else tells independent parts apart.
    sums : ndarray, shape (n_folds, n_conditions, n_places)
        Sums over all presentations.
    counts : ndarray, shape (n_folds, n_conditions)
        Presentations.
    residuals : ndarray, shape (n_observations, n_places)
        Presentations minus their condition's mean; no rows where there is no noise to normalize by.
    dof : int
        Degrees of freedom of the residuals.
    present : ndarray of bool, shape (n_places,)
        Places with data, and with noise where it normalizes.
    noise : str
        One of `NOISE`.
    """

    names: tuple[str, ...]
    folds: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray
    residuals: np.ndarray
    dof: int
    present: np.ndarray
    noise: str

    @property
    def shape(self) -> tuple[int, int]:
        """Give the numbers of conditions and of places.

        Returns
        -------
        tuple of int
            Numbers of conditions and of places.
        """
        return len(self.names), self.sums.shape[2]

    def take(self, rows: Sequence[int] | np.ndarray) -> RunResponses:
        """Keep some conditions, in this order; noise is of all.

        Parameters
        ----------
        rows : sequence of int
            Positions of the conditions.

        Returns
        -------
        RunResponses
            Responses to these conditions.

        Raises
        ------
        InputError
            When one of them is in one fold only.
        """
        index = np.asarray(rows, dtype=int)
        names, counts = tuple(self.names[i] for i in index), self.counts[:, index]
        check_folds(counts, names, self.folds, "searchlight")
        return replace(self, names=names, sums=self.sums[:, index], counts=counts)


@checked
def run_responses(
    patterns: Patterns, responses: np.ndarray, *, folds: str = "run", noise: str = "shrinkage_diag"
) -> RunResponses:
    """Arrange single presentations for a crossnobis searchlight.

    Parameters
    ----------
    patterns : Patterns
        Patterns whose observations have the columns condition and `folds`.
    responses : ndarray, shape (n_observations, n_places)
        Response to each observation (`place_responses`); NaN in places without data.
    folds : str
        Column of the observations that tells independent parts apart: ``"run"``,
        ``"presentation"``, ``"session"``.
    noise : str
        One of `NOISE`; estimated in each searchlight, from its own voxels alone. ``"none"`` and
        ``"diag"`` are fast.

    Returns
    -------
    RunResponses
        Responses for `model_questions` and `kind_question`, in place of mean responses, and
        `searchlight_rdms`. Places whose responses never vary within a condition have no noise to be
        normalized by and count as without data.

    Raises
    ------
    InputError
        For an unknown name, fewer than 2 folds, or no condition presented twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from fmri import Patterns
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> random = np.random.default_rng(0)
    >>> patterns = Patterns(
    ...     values=random.normal(size=(8, 5)),
    ...     observations=pd.DataFrame(
    ...         {
    ...             "condition": ids * 2,
    ...             "presentation": [1] * 4 + [2] * 4,
    ...             "run": ["1"] * 4 + ["2"] * 4,
    ...             "session": "",
    ...         }
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(5), "j": 0, "k": 0}),
    ... )
    >>> responses = run_responses(patterns, patterns.values, noise="none")
    >>> responses.shape, responses.folds
    ((4, 5), ('1', '2'))
    """
    if noise not in NOISE:
        raise unknown_name("noise", noise, NOISE)
    if folds not in patterns.observations.columns:
        raise unknown_name("column of the observations", folds, patterns.observations.columns)
    values = np.asarray(responses, dtype=np.float64)
    if values.shape[0] != len(patterns.observations):
        raise InputError(
            f"{values.shape[0]} responses for {len(patterns.observations)} observations; give one "
            "each."
        )
    conditions = patterns.observations["condition"].astype(str).tolist()
    sums, counts, parts = sums_by_fold(
        values, conditions, patterns.observations[folds].tolist(), patterns.conditions
    )
    if len(parts) < 2:
        raise InputError(
            f"crossnobis needs at least two folds; the column '{folds}' holds one, '{parts[0]}'."
        )
    present = np.asarray(np.isfinite(values).all(axis=0))
    residuals, dof = np.zeros((0, values.shape[1])), 0
    if noise != "none":
        of_present, dof = residuals_of(values[:, present], conditions)
        residuals = np.zeros(values.shape)
        residuals[:, present] = of_present
        size = np.einsum("ij,ij->j", residuals, residuals)
        present &= size > 1e-20 * np.einsum("ij,ij->j", values, values)  # NaN is not above
    return RunResponses(
        names=tuple(patterns.conditions),
        folds=tuple(parts),
        sums=sums,
        counts=counts,
        residuals=residuals,
        dof=dof,
        present=present,
        noise=noise,
    )


class RunTable:
    """Makes crossnobis RDMs of many centers.

    Parameters
    ----------
    runs : RunResponses
        Each condition is in two folds at least.
    present : ndarray of bool, shape (n_places,)
        Places that are used.
    """

    def __init__(self, runs: RunResponses, present: np.ndarray) -> None:
        check_folds(runs.counts, runs.names, runs.folds, "searchlight")
        self.runs = runs
        self.is_one_product = runs.noise in ("none", "diag") and bool((runs.counts > 0).all())
        if not self.is_one_product:
            return
        parts = runs.sums / runs.counts[:, :, np.newaxis]
        others = runs.sums.sum(axis=0) - runs.sums
        others /= (runs.counts.sum(axis=0) - runs.counts)[:, :, np.newaxis]
        scale = np.ones(runs.shape[1])
        if runs.noise == "diag":
            x = runs.residuals - runs.residuals.mean(axis=0)
            variances = np.einsum("ij,ij->j", x, x) / runs.dof
            scale = np.divide(
                1, np.sqrt(variances), out=np.zeros_like(variances), where=variances > 0
            )
        self.sides = []
        for means in (others, parts):
            # a row a place (folds x conditions), so that gathering reads whole rows; the last,
            # zeros, is no neighbor
            flat = means.reshape(-1, means.shape[2])
            table = np.zeros((flat.shape[1] + 1, len(flat)))
            table[:-1][present] = (flat * scale).T[present]
            self.sides.append(table)

    def rdms(self, index: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Compute the RDM of each center.

        Parameters
        ----------
        index : ndarray of int, shape (n_centers, n_neighbors)
            Places around each center; -1 for none.
        sizes : ndarray of int, shape (n_centers,)
            Numbers of neighbors.

        Returns
        -------
        ndarray, shape (n_centers, n_pairs)
            Equal to `crossnobis_rdm` of the neighbors; NaN without any.
        """
        runs = self.runs
        n, n_folds = len(runs.names), len(runs.folds)
        if not self.is_one_product:
            out = np.full((len(index), n * (n - 1) // 2), np.nan)
            for rdm, row in zip(out, index):
                places = row[row >= 0]
                if places.size:
                    noise = no_noise(len(places))
                    if runs.noise != "none":
                        residuals = runs.residuals[:, places]
                        noise = estimate_noise(residuals, method=runs.noise, dof=runs.dof)
                    rdm[:] = crossnobis_of_sums(runs.sums[:, :, places], runs.counts, noise)
            return out
        # (centers, neighbors x folds, n)
        left, right = (side[index].reshape(len(index), -1, n) for side in self.sides)
        products = left.transpose(0, 2, 1) @ right
        squares = np.einsum("cii->ci", products)
        first, second = np.triu_indices(n, 1)
        distances = (
            squares[:, first]
            + squares[:, second]
            - products[:, first, second]
            - products[:, second, first]
        )
        size = sizes[:, np.newaxis]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(size > 0, distances / size / n_folds, np.nan)
