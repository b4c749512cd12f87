"""Measure how alike responses to two images are.

The measures are rank and linear correlation, and the signal-to-noise ratio of Feather et al.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent
invariances between biological and artificial neural networks. Nature Neuroscience 26:2017-2034;
code: model_metamers_pytorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids


@checked
def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate ranks, row by row; ties share their average rank, as in ``scipy.stats.spearmanr``.

    Parameters
    ----------
    a, b : ndarray
        (n, units), finite.

    Returns
    -------
    ndarray
        (n,) float64 in [-1, 1]; 0 where a row is constant. (All-zero rows give 0 in the code of
        Feather et al.; of other constant rows the correlation is undefined, and no evidence of a
        match.)

    Raises
    ------
    InputError
        When the shapes differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import spearman
    >>> spearman(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 10.0, 100.0]])).round(6)
    array([1.])
    """
    from scipy.stats import rankdata

    a, b = _rows(a, b)
    ranks_a = rankdata(a, axis=1)
    ranks_b = rankdata(b, axis=1)
    return pearson(ranks_a, ranks_b)


@checked
def pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Correlate values, row by row, as ``scipy.stats.pearsonr``.

    Parameters
    ----------
    a, b : ndarray
        (n, units), finite.

    Returns
    -------
    ndarray
        (n,) float64 in [-1, 1]; 0 where a row is constant, see `spearman`.

    Raises
    ------
    InputError
        When the shapes differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import pearson
    >>> pearson(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 4.0, 6.0]])).round(6)
    array([1.])
    """
    a, b = _rows(a, b)
    # by the range, which is exact: a rounded mean leaves constant rows a spread
    a_varies = np.ptp(a, axis=1) != 0
    b_varies = np.ptp(b, axis=1) != 0
    varies = a_varies & b_varies
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    scale = np.linalg.norm(a, axis=1)
    scale = scale * np.linalg.norm(b, axis=1)
    products = np.einsum("nu,nu->n", a, b)
    correlations = np.zeros(len(a))
    has_length = scale > 0
    np.divide(products, scale, out=correlations, where=has_length & varies)
    return np.clip(correlations, -1, 1)


@checked
def snr_db_power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Measure the signal-to-noise ratio as a ratio of powers, row by row.

    The value is 10 · log10(‖a‖² / ‖a − b‖²).

    Parameters
    ----------
    a : ndarray
        (n, units), finite: the signal, responses to the reference.
    b : ndarray
        (n, units), finite: signal and noise, responses to the metamer.

    Returns
    -------
    ndarray
        (n,) float64, decibels; +inf where a and b are identical, 0 where one of them is all zero
        (both, too), as in the code of Feather et al. (2023).

    Raises
    ------
    InputError
        When the shapes differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import snr_db_power
    >>> snr_db_power(np.array([[10.0, 0.0]]), np.array([[9.0, 0.0]])).round(6)
    array([20.])
    """
    a, b = _rows(a, b)
    signal = np.square(a).sum(axis=1)
    noise = np.square(a - b).sum(axis=1)
    a_sounds = a.any(axis=1)
    b_sounds = b.any(axis=1)
    sounds = np.logical_and(a_sounds, b_sounds)
    silent = np.logical_not(sounds)
    return snr_from_squares(signal, noise, silent)


@checked
def snr_db_amplitude(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Measure the signal-to-noise ratio in the form of the reference code, row by row.

    The value is 10 · log10(‖a‖ / ‖a − b‖).

    Parameters
    ----------
    a, b : ndarray
        See `snr_db_power`.

    Returns
    -------
    ndarray
        (n,) float64: exactly half of `snr_db_power`. The factor 10 belongs to ratios of powers, but
        the code of Feather et al. (2023) takes it of a ratio of norms; compare numbers of one form
        only.

    Raises
    ------
    InputError
        When the shapes differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import snr_db_amplitude
    >>> snr_db_amplitude(np.array([[10.0, 0.0]]), np.array([[9.0, 0.0]])).round(6)
    array([10.])
    """
    return snr_db_power(a, b) / 2


METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "spearman": spearman,
    "pearson": pearson,
    "snr_db_power": snr_db_power,
    "snr_db_amplitude": snr_db_amplitude,
}
"""Metric name to the function from two (n, units) to (n,); larger is more alike."""

CRITERIA = ("spearman", "pearson", "snr_db_power")
"""The metrics that Feather et al. (2023) ask for; the two forms of the ratio decide alike."""


def snr_from_squares(signal: np.ndarray, noise: np.ndarray, silent: np.ndarray) -> np.ndarray:
    """Turn squared norms into decibels.

    Parameters
    ----------
    signal, noise : ndarray
        (n,) squared norms.
    silent : ndarray
        (n,) bool, whether one of the two responses is all zero.

    Returns
    -------
    ndarray
        (n,) 10 · log10(signal / noise); +inf without noise, 0 where silent.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log10(signal)
        noise_level = np.log10(noise)
        difference = level - noise_level
        decibels = 10 * difference
    return np.where(silent, 0.0, decibels)


@checked
def inversion_loss(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Measure the relative error of the responses, row by row: ‖b − a‖ / ‖a‖.

    This is the loss that metamers minimize.

    Parameters
    ----------
    a, b : ndarray
        (n, units), finite: responses to the reference and to the metamer.

    Returns
    -------
    ndarray
        (n,) float64; for an all-zero reference +inf, or 0 if the metamer's is all zero too.

    Raises
    ------
    InputError
        When the shapes differ or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import inversion_loss
    >>> inversion_loss(np.array([[3.0, 4.0]]), np.array([[3.0, 3.0]]))
    array([0.2])
    """
    a, b = _rows(a, b)
    error = np.linalg.norm(a - b, axis=1)
    size = np.linalg.norm(a, axis=1)
    loss = np.where(error > 0, np.inf, 0.0)
    np.divide(error, size, out=loss, where=size > 0)
    return loss


def _rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or not a.shape[1]:
        raise InputError(
            f"responses are compared row by row: give two arrays (n, units), not {a.shape} and "
            f"{b.shape}."
        )
    rows = range(len(a))
    for responses in (a, b):
        finite_responses(responses, "responses", rows)
    return a, b


def finite_responses(values: np.ndarray, what: str, ids: Sequence[object]) -> None:
    """Refuse responses that are not finite.

    Parameters
    ----------
    values : ndarray
        (n, units).
    what : str
        Description of the responses for the message.
    ids : sequence
        Names, one a row.

    Raises
    ------
    InputError
        Naming the rows.
    """
    is_finite = np.isfinite(values).all(axis=1)
    if not is_finite.all():
        wrong = []
        for name, is_fine in zip(ids, is_finite, strict=True):
            if not is_fine:
                wrong.append(name)
        raise InputError(
            f"{what}: not finite for {name_ids(wrong)}; check the network's weights and the images."
        )
