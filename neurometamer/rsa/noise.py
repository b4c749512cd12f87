"""Noise of many voxels, and the distances that it whitens: Mahalanobis and crossnobis.

No voxel × voxel matrix is made where voxels outnumber residuals.

A shrunken covariance is a diagonal plus the products of m residuals: ``D + c RᵀR``. With more
voxels than residuals its inverse is applied through m × m matrices (Woodbury); with fewer, voxel ×
voxel is the smaller and is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.rsa.measures import squared_distances
from neurometamer.summaries import short_repr

SHRINKAGE = ("shrinkage_diag", "shrinkage_eye", "diag", "full")
"""Estimators of the noise covariance, named as in rsatoolbox."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """Precision (inverse covariance) of voxels' noise, as factors.

    Parameters
    ----------
    scale : ndarray, shape (p,) or (p, k)
        Factor of the patterns: one number a voxel, or a matrix.
    white : ndarray, shape (m, p)
        Residuals, scaled likewise, along which less is left; no rows where there are none.
    lower : ndarray, shape (m, m)
        Cholesky factor: with ``u = solve(lower, white)`` the precision is ``scale (1 - uᵀu)
        scale``.
    shrinkage : float
        Weight of the target, 0 (sample covariance) to 1 (target alone).
    method : str
        One of `SHRINKAGE`.
    """

    scale: np.ndarray
    white: np.ndarray
    lower: np.ndarray
    shrinkage: float
    method: str

    def features(self, patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Split patterns into two parts, the difference of whose products is the whitened product.

        Parameters
        ----------
        patterns : ndarray, shape (n, p)
            Responses.

        Returns
        -------
        tuple of ndarray, shapes (n, p) and (n, m)
            Parts ``z`` and ``h``: ``patterns @ precision @ patterns.T == z @ z.T - h @ h.T``.

        Raises
        ------
        InputError
            When the patterns do not have the noise's voxels.
        """
        from scipy.linalg import solve_triangular

        n_voxels = patterns.shape[1]
        if n_voxels != len(self.scale):
            raise InputError(
                f"patterns have {n_voxels} voxels, the noise covariance {len(self.scale)}; give "
                "the noise of the same voxels."
            )
        z = patterns * self.scale if self.scale.ndim == 1 else patterns @ self.scale
        if not len(self.white):
            return z, np.zeros((len(patterns), 0))
        along = self.white @ z.T
        h = solve_triangular(
            self.lower,
            along,
            lower=True,
        )
        return z, h.T


def no_noise(n_voxels: int) -> Noise:
    """Treat all voxels as equally noisy and independent.

    Parameters
    ----------
    n_voxels : int
        Number of voxels.

    Returns
    -------
    Noise
        Noise with the identity as precision: Mahalanobis distances become Euclidean ones.
    """
    return _scaled(np.ones(n_voxels), 1.0, "none")


def _scaled(scale: np.ndarray, weight: float, method: str) -> Noise:
    """Make a precision that is a scaling alone."""
    return Noise(
        scale=scale,
        white=np.zeros((0, len(scale))),
        lower=np.zeros((0, 0)),
        shrinkage=weight,
        method=method,
    )


@checked
def residuals_of(values: np.ndarray, conditions: Sequence[str]) -> tuple[np.ndarray, int]:
    """Take each condition's mean from its presentations: what is left is noise.

    Parameters
    ----------
    values : ndarray, shape (n_observations, p)
        Responses.
    conditions : sequence of str, length n_observations
        Condition of each observation.

    Returns
    -------
    residuals : ndarray, shape (n_observations, p)
        float64.
    dof : int
        Degrees of freedom: observations minus conditions.

    Raises
    ------
    InputError
        When no condition was presented twice, lengths do not fit, or values are NaN or infinite
        (conditions are named).

    Examples
    --------
    >>> values = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 5.0]])
    >>> residuals, dof = residuals_of(values, ["cat", "cat", "dog"])
    >>> residuals.tolist(), dof
    ([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], 1)
    """
    _check_observations(values, conditions)
    labels = np.asarray(conditions, dtype=str)
    names, codes = np.unique(labels, return_inverse=True)
    dof = len(values) - len(names)
    if dof < 1:
        raise InputError(
            f"noise needs a condition with two presentations; each of {len(names)} "
            f"({name_ids(names)}) has one."
        )
    residuals = np.array(values, dtype=np.float64)
    for code in range(len(names)):
        rows = np.flatnonzero(codes == code)
        mean = residuals[rows].mean(axis=0)
        for row in rows:
            residuals[row] -= mean
    return residuals, dof


def _check_observations(
    values: np.ndarray,
    conditions: Sequence[str],
    folds: Sequence[str] | None = None,
    place: str = "these patterns",
) -> None:
    lengths = {len(conditions)}
    labels = f"{len(conditions)} conditions"
    if folds is not None:
        lengths.add(len(folds))
        labels += f" and {len(folds)} folds"
    shape = np.shape(values)
    if len(shape) != 2 or lengths != {shape[0]}:
        raise InputError(f"{place}: {labels} for values of shape {shape}; give one row each.")
    is_good = np.isfinite(values).all(axis=1)
    if not is_good.all():
        held = {}
        for row in np.flatnonzero(~is_good).tolist():
            name = str(conditions[row])
            held[name] = row
        raise InputError(
            f"{place}: NaN or infinite responses to {name_ids(held)}; leave those voxels or "
            "conditions out."
        )


@checked
def estimate_noise(
    residuals: np.ndarray, *, method: str = "shrinkage_diag", dof: int | None = None
) -> Noise:
    """Estimate the precision of voxels' noise.

    No voxel × voxel matrix is made where voxels outnumber residuals.

    Parameters
    ----------
    residuals : ndarray, shape (m, p)
        Residuals of a GLM, or of `residuals_of`; their mean is subtracted first.
    method : str
        ``"shrinkage_diag"``: toward the diagonal, Schäfer & Strimmer (2005). ``"shrinkage_eye"``:
        toward a multiple of the identity, Ledoit & Wolf (2004). ``"diag"``: variances alone.
        ``"full"``: no shrinkage.
    dof : int, optional
        Degrees of freedom; m - 1 by default.

    Returns
    -------
    Noise
        Equal to ``rsatoolbox.data.noise.prec_from_residuals``.

    Raises
    ------
    InputError
        For an unknown method, fewer than two residuals, NaN or infinite residuals, voxels without
        any noise, or a covariance that has no inverse.

    Examples
    --------
    >>> residuals = np.random.default_rng(0).normal(size=(40, 3))
    >>> noise = estimate_noise(residuals, method="diag")
    >>> noise.scale.round(2).tolist(), noise.method
    ([0.89, 1.21, 1.19], 'diag')
    """
    if method not in SHRINKAGE:
        raise unknown_name("noise estimator", method, SHRINKAGE)
    residuals = np.asarray(residuals, dtype=np.float64)
    if residuals.ndim != 2 or len(residuals) < 2:
        raise InputError(
            f"noise needs at least two residuals (rows), not shape {residuals.shape}; give more."
        )
    x = residuals - residuals.mean(axis=0)
    dof = len(x) - 1 if dof is None else dof
    if dof < 1:
        raise InputError(f"noise needs at least one degree of freedom, not {dof}; give more data.")
    variances = np.einsum("ij,ij->j", x, x) / dof
    if bad := [f"voxel {i}" for i in np.flatnonzero(~np.isfinite(variances))]:
        raise InputError(
            f"noise: NaN or infinite residuals in {name_ids(bad)}; leave those voxels out."
        )
    constant = [f"voxel {i}" for i in np.flatnonzero(variances == 0)]
    if constant and method != "shrinkage_eye":
        raise InputError(f"noise: no variance in {name_ids(constant)}; leave those voxels out.")
    if method == "diag":
        return _scaled(variances**-0.5, 1.0, method)
    if method == "full":
        return _precision(x, np.zeros(x.shape[1]), 1 / dof, 0.0, method, None)
    if method == "shrinkage_eye":
        m, n_voxels = x.shape
        gram = x @ x.T
        of_rows = np.diag(gram)
        size = np.einsum("ij,ij->", gram, gram) / m**2  # sum of squares of the sample covariance
        level = of_rows.sum() / m / n_voxels
        if not level > 0:
            raise InputError(
                f"noise: none of {n_voxels} voxels has any variance; give other residuals."
            )
        far = size - n_voxels * level**2
        of_products = of_rows @ of_rows / m
        spread = min(far, (of_products - size) / m)
        weight = float(spread / far) if far > 0 else 1.0
        target = np.full(n_voxels, weight * level * m / dof)
        return _precision(x, target, (1 - weight) / dof, weight, method, None)
    return _toward_diagonal(x, variances, dof)


def _toward_diagonal(x: np.ndarray, variances: np.ndarray, dof: int) -> Noise:
    """Shrink toward the diagonal; sums over pairs of voxels use tr((ZᵀZ)²) = tr((ZZᵀ)²)."""
    m, n_voxels = x.shape
    is_small = n_voxels <= m
    spread = np.sqrt(variances)
    z = x / spread
    gram = z.T @ z if is_small else z @ z.T
    size = np.einsum("ij,ij->", gram, gram)  # the same for either
    squares = np.square(z, out=z)
    of_rows = squares.sum(axis=1)
    of_voxels = squares.sum(axis=0)
    fourth = np.einsum("ij,ij->", squares, squares)
    product_of_means = (size - of_voxels @ of_voxels) / (m - 1) ** 2
    mean_of_products = (of_rows @ of_rows - fourth) / (m - 1)
    weight = 1.0  # no correlation at all, as of one voxel: nothing to shrink
    if product_of_means > 0:
        spread_of_products = mean_of_products - product_of_means
        share = m / dof**2 * spread_of_products / product_of_means
        weight = float(np.clip(share, 0, 1))
    if is_small:
        gram *= spread[:, np.newaxis] * spread
    factor = (1 - weight) / dof
    return _precision(x, weight * variances, factor, weight, "shrinkage_diag", gram)


def _precision(
    x: np.ndarray,
    diagonal: np.ndarray,
    factor: float,
    weight: float,
    method: str,
    gram: np.ndarray | None,
) -> Noise:
    """Invert ``diag(diagonal) + factor xᵀx``.

    `gram`, where known, is ``xᵀx`` where there are no more voxels than residuals, else `weight`
    times ``(x / diagonal) xᵀ``.
    """
    from scipy.linalg.lapack import dtrtri

    m, n_voxels = x.shape
    if n_voxels <= m:  # voxel × voxel: a matrix whose product with its transpose is the precision
        products = x.T @ x if gram is None else gram
        covariance = factor * products + np.diag(diagonal)
        try:
            lower = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            lower = np.zeros_like(covariance)
        # for a copy of voxels before it, the rest of a voxel's variance is rounding alone
        rest = np.diag(lower) ** 2
        rounding = 1e-13 * n_voxels * np.diag(covariance)
        if np.any(rest <= rounding):
            raise InputError(
                f"noise: the covariance of {n_voxels} voxels over {m} residuals has no inverse; "
                "shrink it, or leave out voxels that copy others."
            )
        root = np.asarray(dtrtri(lower, lower=1)[0]).T
        return _scaled(root, weight, method)
    if not weight > 0:
        raise InputError(
            f"noise: {m} residuals of {n_voxels} voxels have a covariance without inverse; shrink "
            "it, or take fewer voxels."
        )
    scale = diagonal**-0.5
    if factor == 0:
        return _scaled(scale, weight, method)
    white = x * (scale * np.sqrt(factor))
    inner = white @ white.T if gram is None else gram * (factor / weight)
    inner[np.diag_indices(m)] += 1
    return Noise(
        scale=scale,
        white=white,
        lower=np.linalg.cholesky(inner),
        shrinkage=weight,
        method=method,
    )


# ---------------------------------------------------------------------------------------- distances


def mahalanobis_rdm(values: np.ndarray, noise: Noise) -> np.ndarray:
    """Compute squared Mahalanobis distances divided by the number of voxels.

    Parameters
    ----------
    values : ndarray, shape (n, p)
        One pattern a condition.
    noise : Noise
        Noise of the same voxels.

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        Condensed, zero or more; as ``rsatoolbox.rdm.calc_rdm(method="mahalanobis")``.

    Raises
    ------
    InputError
        For fewer than two patterns, values that are not finite, or noise of other voxels.
    """
    values = np.asarray(values)
    rows = [str(row) for row in range(len(values))] if values.ndim else []
    _check_observations(values, rows)
    if len(values) < 2:
        raise InputError(f"distances need at least two patterns; there is {len(values)}.")
    # differences stay, and lose fewer digits
    mean = np.mean(values, axis=0, dtype=np.float64)
    z, h = noise.features(values - mean)
    products = z @ z.T - h @ h.T
    distances = squared_distances(products)
    n_voxels = values.shape[1]
    return np.maximum(distances, 0) / n_voxels


@checked
def crossnobis_rdm(
    values: np.ndarray,
    conditions: Sequence[str],
    folds: Sequence[str],
    *,
    noise: Noise | None = None,
    order: Sequence[str] | None = None,
    place: str = "these patterns",
) -> np.ndarray:
    """Compute crossvalidated squared Mahalanobis distances.

    The differences of each fold are multiplied by those of the other folds.

    Parameters
    ----------
    values : ndarray, shape (n_observations, p)
        Responses to single presentations.
    conditions : sequence of str, length n_observations
        Condition of each observation.
    folds : sequence of str, length n_observations
        Independent parts, e.g. runs; each condition is in two of them at least.
    noise : Noise, optional
        Noise of the same voxels; by default all are equally noisy.
    order : sequence of str, optional
        Conditions in the order wanted; sorted by default.
    place : str
        Subject and ROI, for messages.

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        Condensed, divided by the number of voxels, of any sign; as
        ``rsatoolbox.rdm.calc_rdm(method="crossnobis")``, and where one of two conditions is missing
        in a fold as ``rsatoolbox.rdm.calc_rdm_unbalanced``.

    Raises
    ------
    InputError
        For fewer than two folds or conditions, a condition in one fold only, lengths that do not
        fit, or values that are NaN or infinite; ids are named.

    Notes
    -----
    Where both conditions of a pair are in every fold, the difference of a fold's means is
    multiplied by that of the means of all other presentations, and folds are averaged. Where one is
    missing in some fold, each of the three products (of a condition with itself, of the other with
    itself, of both) is the mean over all pairs of presentations in different folds. The two agree
    where all counts are equal. What folds add to all conditions alike cancels in the first form
    only.

    References
    ----------
    Walther et al. (2016), NeuroImage 137:188-200. Schütt et al. (2023), eLife 12:e82566 (unbalanced
    form).

    Examples
    --------
    >>> values = np.array([[1.0, 0], [0, 1], [0, 0], [1.2, 0], [0, 0.8], [0, 0]])
    >>> conditions, runs = ["cat", "dog", "cup"] * 2, ["1"] * 3 + ["2"] * 3
    >>> crossnobis_rdm(values, conditions, runs, order=["cat", "dog", "cup"]).round(6).tolist()
    [1.0, 0.6, 0.4]
    """
    values = np.asarray(values, dtype=np.float64)
    _check_observations(values, conditions, folds, place)
    labels = [str(name) for name in conditions]
    names = sorted(set(labels))
    if order is not None:
        names = [str(name) for name in order]
    if len(names) < 2:
        raise InputError(
            f"{place}: distances need at least two conditions; there is "
            f"{name_ids(names) or 'none'}."
        )
    sums, counts, parts = sums_by_fold(values, labels, folds, names)
    if len(parts) < 2:
        raise InputError(
            f"{place}: crossnobis needs at least two folds, e.g. runs; there is {name_ids(parts)}."
        )
    check_folds(counts, names, parts, place)
    if noise is None:
        noise = no_noise(values.shape[1])
    return crossnobis_of_sums(sums, counts, noise)


def crossnobis_of_sums(sums: np.ndarray, counts: np.ndarray, noise: Noise) -> np.ndarray:
    """Compute crossvalidated distances from the sums of each fold.

    Parameters
    ----------
    sums : ndarray, shape (n_folds, n, p)
        Sums of `sums_by_fold`.
    counts : ndarray, shape (n_folds, n)
        Presentations; each condition in two folds at least (`check_folds`).
    noise : Noise
        Noise of the same voxels.

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        Condensed, divided by the number of voxels; see `crossnobis_rdm`.
    """
    n_folds, n = counts.shape
    n_voxels = sums.shape[2]
    flat = sums.reshape(-1, n_voxels)
    z, h = noise.features(flat)
    sides = [(z.reshape(n_folds, n, -1), 1)]
    if h.shape[1]:
        subtracted = h.reshape(n_folds, n, -1)
        sides.append((subtracted, -1))
    n_in_all = counts.sum(axis=0)
    complete = np.asarray((counts > 0).all(axis=0))
    first, second = np.triu_indices(n, 1)
    both_complete = complete[first] & complete[second]
    distances = np.empty(len(first))
    if complete.any():
        some = counts[:, complete]
        n_in_some = n_in_all[complete]
        products = np.zeros((len(n_in_some), len(n_in_some)))
        # a fold's means times the means of all other presentations
        for side, sign in sides:
            parts = side[:, complete]
            total = parts.sum(axis=0)
            crossed = np.zeros_like(products)
            for part, count in zip(parts, some, strict=True):
                means = part / count[:, np.newaxis]
                others = (total - part) / (n_in_some - count)[:, np.newaxis]
                crossed += others @ means.T
            products += sign * crossed
        distances[both_complete] = squared_distances(products) / n_folds
    if not complete.all():
        n_pairs = np.outer(n_in_all, n_in_all)
        for count in counts:
            n_pairs -= np.outer(count, count)
        products = np.zeros((n, n))
        # the mean product of two presentations in different folds
        for side, sign in sides:
            total = side.sum(axis=0)
            crossed = total @ total.T
            for part in side:
                crossed -= part @ part.T
            products += sign * (crossed / n_pairs)
        of_all = squared_distances(products)
        distances[~both_complete] = of_all[~both_complete]
    return distances / n_voxels


def sums_by_fold(
    values: np.ndarray, conditions: Sequence[str], folds: Sequence[str], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Sum the presentations of each condition in each fold.

    Parameters
    ----------
    values : ndarray, shape (n_observations, p)
        Responses.
    conditions, folds : sequence of str, length n_observations
        Condition and fold of each observation.
    names : sequence of str
        Conditions wanted, in this order; others are left out.

    Returns
    -------
    sums : ndarray, shape (n_folds, n, p)
        float64.
    counts : ndarray, shape (n_folds, n)
        Numbers of presentations.
    folds : list of str
        Folds in order of appearance.
    """
    labels = [str(fold) for fold in folds]
    parts = list(dict.fromkeys(labels))
    column_of = {name: column for column, name in enumerate(names)}
    row_of = {part: row for row, part in enumerate(parts)}
    counts = np.zeros((len(parts), len(names)))
    sums = np.zeros((*counts.shape, values.shape[1]))
    for response, condition, label in zip(values, conditions, labels, strict=True):
        column = column_of.get(condition)
        if column is None:
            continue
        row = row_of[label]
        counts[row, column] += 1
        sums[row, column] += response
    return sums, counts, parts


def check_folds(counts: np.ndarray, names: Sequence[str], folds: Sequence[str], place: str) -> None:
    """Refuse conditions that are in fewer than two folds.

    Parameters
    ----------
    counts : ndarray, shape (n_folds, n)
        Presentations.
    names, folds : sequence of str
        Conditions and folds.
    place : str
        Subject and ROI, for messages.

    Raises
    ------
    InputError
        Naming what is missing where.
    """
    lacking = []
    for name, counts_of_name in zip(names, counts.T, strict=True):
        inside = [fold for fold, count in zip(folds, counts_of_name, strict=True) if count > 0]
        if len(inside) < 2:
            lacking.append(f"{name} in {name_ids(inside) or 'none'}")
    if lacking:
        raise InputError(
            f"{place}: crossnobis needs every condition in two folds at least; {name_ids(lacking)} "
            "only. Take other folds, e.g. presentations, or leave those conditions out."
        )
