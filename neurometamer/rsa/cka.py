"""Linear centered kernel alignment (CKA) of responses, which needs no distances.

Biased CKA is the whitened cosine of squared Euclidean RDMs. It grows with the number of units when
there are few images; the debiased one does not.

References
----------
Kornblith et al. (2019), ICML, Similarity of neural network representations revisited. Song et al.
(2012), J Mach Learn Res 13:1393-1434 (the unbiased estimate of HSIC). Murphy et al. (2024),
arXiv:2405.01012 (debiased CKA of few images).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.compute import match_ids

CHUNK = 4096
"""Number of units turned to float64 at a time."""

MIN_IMAGES = 4
"""Least number of images: the debiased estimate divides by n - 3."""


@checked
def linear_cka(
    x: np.ndarray,
    y: np.ndarray,
    *,
    debiased: bool = False,
    x_ids: Sequence[str] | None = None,
    y_ids: Sequence[str] | None = None,
) -> float:
    """Compare two sets of responses to the same images by linear CKA.

    Parameters
    ----------
    x : ndarray, shape (n, n_units)
        Responses, one row an image; a memory map is read a chunk of units at a time.
    y : ndarray, shape (n, n_other_units)
        Responses to the same images.
    debiased : bool
        Whether to use the unbiased estimate of HSIC (Song et al. 2012) in numerator and
        denominator, as Murphy et al. (2024); by default the biased one of Kornblith et al. (2019).
    x_ids, y_ids : sequence of str, optional
        Ids of the images; with both, `y` is put in the order of `x`.

    Returns
    -------
    float
        In [0, 1]; debiased also a little below 0, and NaN where an estimated norm is not positive.

    Raises
    ------
    InputError
        When ids or numbers of images do not match, there are fewer than 4 images, values are not
        finite, or all images have the same responses.

    Examples
    --------
    >>> x = np.random.default_rng(0).random((10, 5))
    >>> round(linear_cka(x, 3 * x + 1), 6)
    1.0
    """
    x_gram = centered_gram(x, ids=x_ids)
    y_gram = centered_gram(y, ids=y_ids)
    if x_ids is not None and y_ids is not None:
        rows = match_ids(
            y_ids,
            x_ids,
            "the second responses",
            "the first responses",
        )
        y_gram = y_gram[np.ix_(rows, rows)]
    return gram_cka(x_gram, y_gram, debiased=debiased)


def centered_gram(values: np.ndarray, *, ids: Sequence[str] | None = None) -> np.ndarray:
    """Multiply all images' responses with each other after each unit's mean is taken off.

    Parameters
    ----------
    values : ndarray, shape (n, n_units)
        Responses of any number type.
    ids : sequence of str, optional
        Ids of the images, for messages.

    Returns
    -------
    ndarray, shape (n, n)
        Float64. Units come in chunks, each summed in float64, so that `values` is never copied
        whole.

    Raises
    ------
    InputError
        When `values` has not two axes, or holds NaN or infinite values (the images are named).
    """
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"responses have the shape {values.shape}; CKA needs (n_images, n_units).")
    n, n_units = values.shape
    if ids is not None and len(ids) != n:
        raise InputError(f"{len(ids)} ids were given for {n} images; give one id each.")
    total = np.zeros((n, n))
    for start in range(0, n_units, CHUNK):
        stop = start + CHUNK
        part = np.asarray(values[:, start:stop], dtype=np.float64)
        part = part - part.mean(axis=0)
        total += part @ part.T
    if np.isfinite(total).all():
        return total
    names = range(n) if ids is None else ids
    bad = []
    for name, row in zip(names, values):
        exact = np.asarray(row, dtype=np.float64)
        if not np.isfinite(exact).all():
            bad.append(name)
    raise InputError(f"responses are NaN or infinite for {name_ids(bad)}; leave those out.")


def gram_cka(x: np.ndarray, y: np.ndarray, *, debiased: bool = False) -> float:
    """Compare two Gram matrices of the same images by linear CKA.

    Parameters
    ----------
    x, y : ndarray, shape (n, n)
        Inner products of the images' responses, centered or not.
    debiased : bool
        Whether to use the unbiased estimate of HSIC, see `linear_cka`.

    Returns
    -------
    float
        In [0, 1]; debiased also a little below 0, and NaN where undefined.

    Raises
    ------
    InputError
        When shapes differ, a matrix is not symmetric or not finite, there are fewer than 4 images,
        or all images have the same responses.
    """
    if x.shape != y.shape:
        raise InputError(
            f"{len(x)} images on one side and {len(y)} on the other; give ids, or the same images."
        )
    for gram, name in ((x, "first"), (y, "second")):
        what = f"the {name} Gram matrix"
        if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
            raise InputError(f"{what} has the shape {gram.shape}; it must be (n, n).")
        is_finite = np.isfinite(gram).all(axis=1)
        if not is_finite.all():
            bad = np.flatnonzero(~is_finite)
            raise InputError(
                f"{what} holds NaN or infinite values in rows {name_ids(bad)}; leave those out."
            )
        slack = 1e-8 * np.abs(gram).max(initial=0)
        differs = np.abs(gram - gram.T) > slack
        if differs.any():
            rows = np.flatnonzero(differs.any(axis=1))
            raise InputError(
                f"{what} is not symmetric in rows {name_ids(rows)}; give inner products of the "
                "images."
            )
    if len(x) < MIN_IMAGES:
        raise InputError(f"CKA needs at least {MIN_IMAGES} images; there are {len(x)}.")
    left = _centered(_centered(x).T)
    right = _centered(_centered(y).T)
    for gram, name in ((left, "first"), (right, "second")):
        if not np.trace(gram) > 0:
            raise InputError(
                f"all {len(gram)} images have the same responses on the {name} side, so that CKA "
                "is undefined; give other responses."
            )
    left_square = _hsic(left, left, debiased)
    right_square = _hsic(right, right, debiased)
    if debiased and not (left_square > 0 and right_square > 0):
        return float("nan")
    shared = _hsic(left, right, debiased)
    return float(shared / np.sqrt(left_square * right_square))


def _centered(gram: np.ndarray) -> np.ndarray:
    means = gram.mean(axis=0)
    return gram - means


def _hsic(x: np.ndarray, y: np.ndarray, debiased: bool) -> float:
    """Compute HSIC of centered matrices, or HSIC_1 of Song et al. (2012), equation 5."""
    if not debiased:
        return float(np.einsum("ij,ij->", x, y))
    n = len(x)
    x = x - np.diag(np.diag(x))
    y = y - np.diag(np.diag(y))
    x_rows = x.sum(axis=1)
    y_rows = y.sum(axis=1)
    total = np.einsum("ij,ij->", x, y)
    product = x_rows.sum() * y_rows.sum()
    total += product / ((n - 1) * (n - 2))
    shared = x_rows @ y_rows
    total -= 2 * shared / (n - 2)
    return float(total / (n * (n - 3)))
