"""Partial correlation: what two RDMs share beyond pixels, luminance, Gabor energy or categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.comparators.ranks import centered_ranks, check_sides, over_blocks

COLLINEAR = 1e-8
"""Share of a control's variance that other controls leave, below which it adds only rounding."""


@checked
def partial_spearman(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    controls: np.ndarray,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """Correlate ranks of dissimilarities after the ranks of control RDMs are regressed out.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair. A control that is constant in a resample has no part
        in it.
    controls : ndarray, shape (n_controls, n_pairs)
        Condensed control RDMs over the same pairs; none gives Spearman's correlation.
    names : sequence of str, optional
        Names of the controls in messages; their numbers by default.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where the controls leave nothing of one side.

    Raises
    ------
    InputError
        When controls are not over the same pairs, or one is constant or follows from the others by
        its ranks (named).

    Notes
    -----
    With Gram matrices S of centered ranks: S_ab - S_ac S_cc^-1 S_cb, divided by the same of a and
    of b with themselves.

    Examples
    --------
    >>> a, b, control = np.random.default_rng(0).random((3, 1, 15))
    >>> partial_spearman(a, b, controls=control).round(3).tolist()
    [[-0.265]]
    """
    controls = np.asarray(controls, dtype=np.float64)
    check_sides(a, b, weights)
    if controls.ndim != 2 or controls.shape[1] != a.shape[1]:
        raise InputError(
            f"controls have the shape {controls.shape}; they need (n_controls, {a.shape[1]})."
        )
    if len(controls):
        check_sides(a, controls, names="a and controls")
    _check_controls(controls, list(map(str, range(len(controls)) if names is None else names)))
    n_a, n_b = len(a), len(b)
    left, right = centered_ranks(np.concatenate([a, controls])), centered_ranks(b)

    def _combine(ac: np.ndarray, y: np.ndarray, copies: np.ndarray) -> np.ndarray:
        rows = np.concatenate([ac[:, :n_a], y, ac[:, n_a:]], axis=1)
        gram = (rows * copies[:, np.newaxis]) @ rows.transpose(0, 2, 1)
        return _partial_correlations(gram, n_a + n_b)[:, :n_a, n_a:]

    return over_blocks(_combine, left, right, 3 * (n_a + n_b + len(controls)), a.shape[1], weights)


def _partial_correlations(gram: np.ndarray, n: int) -> np.ndarray:
    """Correlate the first `n` rows given all further ones: (m, n, n)."""
    lengths = np.sqrt(np.einsum("mii->mi", gram))
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    gram = gram * scale[:, :, np.newaxis] * scale[:, np.newaxis]
    across = gram[:, :n, n:]
    inverse = np.linalg.pinv(gram[:, n:, n:], rcond=1e-10, hermitian=True)
    rest = gram[:, :n, :n] - across @ inverse @ across.transpose(0, 2, 1)
    left = np.einsum("mii->mi", rest)
    left = np.where(left > 1e-12, left, np.nan)
    return rest / np.sqrt(left[:, :, np.newaxis] * left[:, np.newaxis])


def _check_controls(controls: np.ndarray, names: Sequence[str]) -> None:
    """Refuse controls that are constant or determined by those before them."""
    ranks = centered_ranks(controls)(np.ones((1, controls.shape[1])))[0]
    if flat := [name for name, row in zip(names, ranks) if not row.any()]:
        raise InputError(
            f"all dissimilarities are equal in control {name_ids(flat)}; leave it out."
        )
    basis = np.empty((0, controls.shape[1]))
    for k, row in enumerate(ranks):
        unit = row / np.linalg.norm(row)
        rest = unit
        for _ in range(2):  # twice is exact to rounding
            rest = rest - basis.T @ (basis @ rest)
        if rest @ rest < COLLINEAR:
            units = ranks[:k] / np.linalg.norm(ranks[:k], axis=1, keepdims=True)
            shares = np.linalg.lstsq(units.T, unit, rcond=None)[0]
            parents = [name for name, share in zip(names, shares) if abs(share) > 1e-4]
            raise InputError(
                f"control {names[k]} follows from {name_ids(parents)} by its ranks; leave one of "
                "them out."
            )
        basis = np.vstack([basis, rest / np.linalg.norm(rest)])
