"""Least squares for one regressor an event: what is prepared once for all voxels, and the fit.

A model is prepared from the design of a run and gives a function of time courses, so that voxels
can be fitted slab by slab. Nothing here inverts a normal matrix of the design: drifts and confounds
are taken out by an orthonormal basis first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Fit = Callable[[np.ndarray], np.ndarray]
"""Time courses (n_volumes, n_voxels) → betas of the events (n_events, n_voxels)."""

AR1_STEPS = 100
"""Steps of the autoregressive coefficient between 0 and 1, as in nilearn's ``run_glm``."""


def least_squares_all(design: np.ndarray, n_events: int, noise_model: str) -> Fit:
    """Prepare one model with one regressor an event.

    Parameters
    ----------
    design : ndarray, shape (n_volumes, n_columns)
        Of full rank; the first columns are the events.
    n_events : int
        Number of events.
    noise_model : {"ar1", "ols"}
        See `fmri.estimate_betas`.

    Returns
    -------
    callable
        Time courses (n_volumes, n_voxels) to betas (n_events, n_voxels).

    Notes
    -----
    With an orthonormal basis Q of the design and W the whitening of a coefficient ρ, which takes
    from each volume ρ times the one before, Q'W'WQ = I − ρ(B + B') + ρ²C has B = Q'LQ of the basis
    and the basis one volume later. So whitening costs nothing a voxel, and two products of basis
    and data serve every ρ.

    Examples
    --------
    >>> design = np.column_stack([[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], np.ones(5)])
    >>> fit = least_squares_all(design, 2, "ols")
    >>> fit(np.array([[1.0], [3.0], [1.0], [4.0], [1.0]])).round(12).tolist()
    [[2.0], [3.0]]
    """
    from scipy.linalg import cho_factor, cho_solve

    if noise_model == "ols":
        filters = event_filters(design, n_events)
        return lambda series: filters @ series
    basis, to_events = _event_basis(design, n_events)
    n_rest = basis.shape[1] - n_events
    around = _shifted(basis)
    before = basis.T @ around  # B + B'
    last = basis[-1]
    identity = np.eye(len(last))

    def _fit(series: np.ndarray) -> np.ndarray:
        weights = basis.T @ series
        residuals = series - basis @ weights
        squares = _lag(residuals, 0)
        products = _lag(residuals, 1)
        del residuals
        rho = _ar1_coefficients(squares, products, len(series))
        beside = around.T @ series
        betas = np.empty((n_events, series.shape[1]))
        for value in np.unique(rho):
            voxels = np.flatnonzero(rho == value)
            square = value**2
            gram = (1 + square) * identity
            gram -= value * before
            gram -= square * np.outer(last, last)
            product = (1 + square) * weights[:, voxels]
            product -= value * beside[:, voxels]
            product -= square * np.outer(last, series[-1, voxels])
            factor = cho_factor(gram)
            solved = cho_solve(factor, product)
            betas[:, voxels] = to_events @ solved[n_rest:]
        return betas

    return _fit


def least_squares_separate(design: np.ndarray, n_events: int, noise_model: str) -> Fit:
    """Prepare one model an event: its regressor, one for all other events together, and the rest.

    Parameters
    ----------
    design, n_events, noise_model
        See `least_squares_all`.

    Returns
    -------
    callable
        Time courses (n_volumes, n_voxels) to betas (n_events, n_voxels).

    Notes
    -----
    Without drifts and confounds, each model has two columns. Two orthonormal columns make it a
    product of one filter an event with the data (white noise), and give the sums of squares and of
    neighbors of the residuals without the residuals (autoregressive noise).

    Examples
    --------
    >>> design = np.column_stack([[0, 1, 0, 0, 0], [0, 0, 0, 1, 0], np.ones(5)])
    >>> fit = least_squares_separate(design, 2, "ols")
    >>> fit(np.array([[1.0], [3.0], [1.0], [4.0], [1.0]])).round(12).tolist()
    [[2.0], [3.0]]
    """
    if noise_model == "ols":
        filters = _separate_filters(design, n_events, 0.0)
        return lambda series: filters @ series
    rest = _basis(design[:, n_events:])
    events = _without(rest, design[:, :n_events])
    own, others = _separate_pairs(events)
    around_own = _shifted(own)
    around_others = _shifted(others)
    own_lag = np.sum(own * around_own, axis=0) / 2
    others_lag = np.sum(others * around_others, axis=0) / 2
    both_lag = np.sum(own * around_others, axis=0)

    def _fit(series: np.ndarray) -> np.ndarray:
        centered = _without(rest, series)
        a = own.T @ centered
        b = others.T @ centered
        squares = _lag(centered, 0) - a**2
        squares -= b**2
        products = a**2 * own_lag[:, None]
        products += _lag(centered, 1)
        products += b**2 * others_lag[:, None]
        products += a * b * both_lag[:, None]
        products -= a * (around_own.T @ centered)
        products -= b * (around_others.T @ centered)
        del a, b
        rho = _ar1_coefficients(squares, products, len(series))
        betas = np.empty((n_events, series.shape[1]))
        for value in np.unique(rho):
            is_here = rho == value
            voxels = np.flatnonzero(is_here.any(axis=0))
            filters = _separate_filters(design, n_events, value)
            fitted = filters @ centered[:, voxels]
            rows, columns = np.nonzero(is_here[:, voxels])
            betas[rows, voxels[columns]] = fitted[rows, columns]
        return betas

    return _fit


def event_filters(design: np.ndarray, n_events: int) -> np.ndarray:
    """Give the rows of the pseudo-inverse of a design that belong to its events.

    Parameters
    ----------
    design, n_events
        See `least_squares_all`.

    Returns
    -------
    ndarray, shape (n_events, n_volumes)
        Their product with time courses is the betas of white noise.

    Examples
    --------
    >>> event_filters(np.column_stack([[0, 1, 0], [1, 1, 1]]), 1).round(12).tolist()
    [[-0.5, 1.0, -0.5]]
    """
    basis, to_events = _event_basis(design, n_events)
    of_events = basis[:, -n_events:]
    return to_events @ of_events.T


def _event_basis(design: np.ndarray, n_events: int) -> tuple[np.ndarray, np.ndarray]:
    """Give an orthonormal basis, rest first, and what makes betas of the weights of its end."""
    from scipy.linalg import solve_triangular

    ordered = np.roll(design, -n_events, axis=1)  # drifts and confounds, then events
    lengths = np.linalg.norm(ordered, axis=0)
    basis, triangle = np.linalg.qr(ordered / lengths)
    of_events = slice(-n_events, None)
    part = triangle[of_events, of_events]
    inverse = solve_triangular(part, np.eye(n_events))
    of_lengths = lengths[of_events, None]
    return basis, inverse / of_lengths


def _basis(columns: np.ndarray) -> np.ndarray:
    """Give an orthonormal basis of columns that may have very different sizes."""
    lengths = np.linalg.norm(columns, axis=0)
    basis, _ = np.linalg.qr(columns / lengths)
    return basis


def _without(basis: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Take the part out that a basis explains."""
    weights = basis.T @ columns
    explained = basis @ weights
    return columns - explained


def _separate_pairs(events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give two orthonormal columns an event: its own part, and that of all others together."""
    total = events.sum(axis=1, keepdims=True)
    others = total - events
    lengths = np.linalg.norm(others, axis=0)
    lengths[lengths == 0] = 1.0  # a single event has no others
    others /= lengths
    products = others * events
    shared = products.sum(axis=0)
    explained = others * shared
    own = events - explained
    own_lengths = np.linalg.norm(own, axis=0)
    own /= own_lengths
    return own, others


def _separate_filters(design: np.ndarray, n_events: int, rho: float) -> np.ndarray:
    """Give the filter of each event's own model, (n_events, n_volumes)."""
    whitened = design.copy()
    whitened[1:] -= rho * design[:-1]
    rest = _basis(whitened[:, n_events:])
    events = _without(rest, whitened[:, :n_events])
    own, _ = _separate_pairs(events)
    own /= np.sum(own * events, axis=0)
    filters = own.copy()
    after = own[1:]
    filters[:-1] -= rho * after
    return filters.T


def _shifted(columns: np.ndarray) -> np.ndarray:
    """Add what comes one volume before and one volume after."""
    around = np.zeros_like(columns)
    before = columns[:-1]
    after = columns[1:]
    around[1:] += before
    around[:-1] += after
    return around


def _lag(columns: np.ndarray, lag: int) -> np.ndarray:
    """Sum the products of each volume and the one so many volumes later."""
    later = columns[lag:]
    n_pairs = len(later)
    earlier = columns[:n_pairs]
    return np.einsum("tv,tv->v", earlier, later)


def _ar1_coefficients(squares: np.ndarray, products: np.ndarray, n_volumes: int) -> np.ndarray:
    """Give Yule-Walker coefficients of residuals, cut off after two decimals as nilearn does."""
    ratio = n_volumes / (n_volumes - 1)
    is_left = squares > 0  # what is explained to the last bit has no noise
    rho = np.zeros_like(squares)
    np.divide(products, squares, out=rho, where=is_left)
    steps = np.trunc(rho * ratio * AR1_STEPS)
    return steps / AR1_STEPS + 0.0  # no negative zero
