"""Whitened comparison: dissimilarities are weighed by how much their errors vary together.

Dissimilarities that share an image share its error. With errors of equal size in all images,
independent of each other, the whitened cosine is linear CKA of the two RDMs' centered Gram
matrices.

References
----------
Diedrichsen et al. (2021), Neurons, Behavior, Data analysis, and Theory 5(3); Schütt et al. (2023),
eLife 12:e82566.
"""

from __future__ import annotations

import numpy as np

from neurometamer.errors import InputError
from neurometamer.rsa.comparators.ranks import (
    check_sides,
    divide_by_root,
    n_images,
    over_blocks,
    square,
)


def whitened_cosine(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    sigma_k: np.ndarray | None = None,
) -> np.ndarray:
    """Compute the cosine between RDMs, whitened by the covariance of their errors.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs of all pairs of n images.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair, as `pair_weights` makes them: a product of counts of images.
    sigma_k : ndarray, shape (n,) or (n, n), optional
        Variances or covariance of the images' pattern errors, in the order of the RDMs; identity by
        default.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is zero throughout or a resample has fewer than 3 distinct
        images.

    Raises
    ------
    InputError
        When n_pairs is not that of a whole RDM, weights are no products of counts, `sigma_k` is not
        symmetric and positive definite, or comes with weights.

    Notes
    -----
    Equals rsatoolbox's ``"cosine_cov"`` without `sigma_k`, also in its resamples. With a matrix,
    rsatoolbox solves by conjugate gradients up to 1e-5, here exactly; with a vector of variances it
    centers as for equal ones, here not.
    """
    return _compare(
        a,
        b,
        weights,
        sigma_k,
        center=False,
    )


def whitened_pearson(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    sigma_k: np.ndarray | None = None,
) -> np.ndarray:
    """Correlate dissimilarities, whitened by the covariance of their errors.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs of all pairs of n images.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair, see `whitened_cosine`.
    sigma_k : ndarray, shape (n,) or (n, n), optional
        Variances or covariance of the images' pattern errors; identity by default.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is constant or a resample has fewer than 3 distinct images.

    Raises
    ------
    InputError
        For the same reasons as `whitened_cosine`.

    Notes
    -----
    Equals rsatoolbox's ``"corr_cov"`` without `sigma_k`; see `whitened_cosine`.
    """
    return _compare(
        a,
        b,
        weights,
        sigma_k,
        center=True,
    )


def _compare(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None,
    sigma_k: np.ndarray | None,
    *,
    center: bool,
) -> np.ndarray:
    check_sides(a, b, weights)
    if sigma_k is None and weights is not None:
        n_rdms = 3 * (len(a) + len(b))
        return over_blocks(
            Whitened.cosine,
            Whitened(a, center),
            Whitened(b, center),
            n_rdms,
            a.shape[1],
            weights,
        )
    if center:
        a = a - a.mean(axis=1, keepdims=True)
        b = b - b.mean(axis=1, keepdims=True)
    if sigma_k is None:
        # inner products of doubly centered square RDMs, from sums of pairs and images
        n = n_images(a.shape[1])
        left = _sums_of_images(a, n)
        right = _sums_of_images(b, n)
        left_total = left.sum(axis=1)
        right_total = right.sum(axis=1)
        products = 2 * (a @ b.T)
        products -= 2 / n * (left @ right.T)
        products += np.outer(left_total, right_total) / n**2
        squares = []
        for x, sums, total in ((a, left, left_total), (b, right, right_total)):
            of_pairs = np.einsum("rp,rp->r", x, x)
            of_images = np.einsum("ri,ri->r", sums, sums)
            own = 2 * of_pairs
            own -= 2 / n * of_images
            own += total**2 / n**2
            squares.append(own.clip(0))
        return divide_by_root(products, np.outer(*squares))
    if weights is not None:
        raise InputError(
            "sigma_k came together with weights; whitened comparisons of resamples are defined for "
            "equal, independent errors: leave sigma_k out."
        )
    sigma = np.asarray(sigma_k, dtype=np.float64)
    x = _whiten_by(a, sigma)
    y = _whiten_by(b, sigma)
    left = (x**2).sum(axis=1)[:, np.newaxis]
    right = (y**2).sum(axis=1)
    return divide_by_root(x @ y.T, left * right)


def _sums_of_images(x: np.ndarray, n: int) -> np.ndarray:
    """Sum the dissimilarities of each image with all others: (n_rdms, n)."""
    first, second = np.triu_indices(n, 1)
    sums = np.empty((len(x), n))
    for k, row in enumerate(x):
        total = np.bincount(first, row, n)
        total += np.bincount(second, row, n)
        sums[k] = total
    return sums


def image_counts(weights: np.ndarray) -> np.ndarray:
    """Find how often each image was drawn, from the copies of the pairs.

    Parameters
    ----------
    weights : ndarray, shape (m, n_pairs)
        Number of copies of each pair, as `pair_weights` makes them.

    Returns
    -------
    ndarray, shape (m, n)
        Counts; NaN where fewer than 3 images were drawn, which pairs cannot tell.

    Raises
    ------
    InputError
        When weights are no products of counts.
    """
    squares = square(weights)
    rows = np.arange(len(weights))
    is_drawn = squares.any(axis=2)
    drawn_first = np.argsort(~is_drawn, axis=1, kind="stable")
    i, j, k = drawn_first[:, :3].T  # three images that were drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        square_of_own = squares[rows, i, j] * squares[rows, i, k] / squares[rows, j, k]
        own = np.sqrt(square_of_own)
        counts = squares[rows, i] / own[:, np.newaxis]
    counts[rows, i] = own
    is_known = np.isfinite(counts).all(axis=1)
    counts[~is_known] = np.nan
    first, second = np.triu_indices(squares.shape[1], 1)
    products = counts[:, first] * counts[:, second]
    products = np.where(is_known[:, np.newaxis], products, weights)
    if not np.allclose(products, weights):
        raise InputError(
            f"weights of {len(weights)} resamples are not products of counts of images, which "
            "whitened comparisons need; give those of pair_weights."
        )
    return counts


class Whitened:
    """RDMs times the inverse covariance of their errors, for resamples of the images.

    The covariance itself is never made.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs.
    center : bool
        Whether the mean of each resample is taken off first.

    Notes
    -----
    Errors of equal size give V with 4 on the diagonal, 1 where two pairs share an image and 0
    elsewhere (halved here, which changes no cosine). V x = d means d_ij = 2 x_ij + s_i + s_j with
    s_i the sum of image i's x, copies counted, pairs of two copies of one image left out; summed
    over j this is a small system for s with a closed solution.
    """

    def __init__(self, x: np.ndarray, center: bool) -> None:
        self.x = x
        self.center = center
        exact = np.asarray(x, dtype=np.float64)
        self.squares = square(exact)

    def __call__(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whiten one block of resamples.

        Parameters
        ----------
        weights : ndarray, shape (m, n_pairs)
            Number of copies of each pair.

        Returns
        -------
        tuple of ndarray, shape (m, n_rdms, n_pairs)
            Dissimilarities, and the same times the inverse covariance.
        """
        counts = image_counts(weights)
        n_rdms, n, _ = self.squares.shape
        total = counts.sum(axis=1, keepdims=True)
        rows = self.squares.reshape(n_rdms * n, n)
        sums = (rows @ counts.T).T
        sums = sums.reshape(len(counts), n_rdms, n)
        shape = (len(weights), *self.x.shape)
        values = np.broadcast_to(self.x, shape)
        if self.center:
            n_copies = weights.sum(axis=1, keepdims=True)
            mean = weights @ self.x.T / n_copies.clip(1)
            mean = mean[:, :, np.newaxis]
            others = total - counts
            values = values - mean
            sums = sums - mean * others[:, np.newaxis]
        # the system own_i s_i + sum_k c_k s_k = sums_i of each resample
        own = total + 2 - 2 * counts
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = (counts / own)[:, np.newaxis]
            scale = 1 + relative.sum(axis=2, keepdims=True)
            shared = (relative * sums).sum(axis=2, keepdims=True)
            rest = sums - shared / scale
            shares = rest / own[:, np.newaxis]
        # half of the draws are one image: no division, but a solution
        is_singular = (own == 0).any(axis=1)
        for row in np.flatnonzero(is_singular):
            system = np.diag(own[row]) + counts[row]
            solution = np.linalg.solve(system, sums[row].T)
            shares[row] = solution.T
        first, second = np.triu_indices(n, 1)
        return values, (values - shares[:, :, first] - shares[:, :, second]) / 2

    @staticmethod
    def cosine(
        a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], weights: np.ndarray
    ) -> np.ndarray:
        """Compute the whitened cosine of one block of resamples.

        Parameters
        ----------
        a, b : tuple of ndarray, shape (m, n_rdms, n_pairs)
            Results of the two sides.
        weights : ndarray, shape (m, n_pairs)
            Number of copies of each pair.

        Returns
        -------
        ndarray, shape (m, n_a, n_b)
            In [-1, 1]; NaN where one side has the length 0.
        """
        copies = weights[:, np.newaxis]
        values, white = a
        weighed = values * copies
        left = (weighed * white).sum(axis=2)
        left = left[:, :, np.newaxis]
        other_values, other_white = b
        other_weighed = other_values * copies
        right = (other_weighed * other_white).sum(axis=2)
        right = right[:, np.newaxis]
        products = weighed @ other_white.transpose(0, 2, 1)
        return divide_by_root(products, left * right)


def _whiten_by(x: np.ndarray, sigma_k: np.ndarray) -> np.ndarray:
    """Center Gram matrices by generalized least squares and divide by the errors' covariance.

    The result has the shape (n_rdms, n * n).
    """
    matrices = square(x)
    n = matrices.shape[1]
    sigma = np.diag(sigma_k) if sigma_k.ndim == 1 else sigma_k
    if sigma.shape != (n, n) or not np.allclose(sigma, sigma.T):
        raise InputError(
            f"sigma_k has the shape {sigma_k.shape}; {n} images need ({n},), or ({n}, {n}) and "
            "symmetric."
        )
    try:
        factor = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError as error:
        least = float(np.linalg.eigvalsh(sigma)[0])
        raise InputError(
            f"sigma_k is not positive definite (least eigenvalue {least:.3g}); add to its diagonal "
            "(shrinkage)."
        ) from error
    whitening = np.linalg.solve(factor, np.eye(n))
    ones = whitening.sum(axis=1)
    whitening -= np.outer(ones / (ones @ ones), ones @ whitening)
    white = whitening @ matrices @ whitening.T
    return white.reshape(len(x), n * n)
