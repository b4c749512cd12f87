"""RDM measures: one table for dispatch, the command line, tests and documentation.

Most measures need of the values only a sum over units of products between stimuli. It is taken a
block of units at a time, so that values may lie in memory or in a file (anything with a shape that
is cut by ``values[:, start:stop]``) and give the same numbers, and so that extra memory does not
grow with the number of units.

Sums are float64. The products themselves are float64 too, except for correlations and cosines of
float32 values from `FAST_PRODUCTS` products on: there blocks of units are multiplied in float32,
twice as fast, which moves a correlation by less than 2e-7. Two things make that true. A block of
ties (the zeros of a ReLU) must be zeros when it is multiplied: centered, it is one number added
again and again, which float32 rounds in the same direction each time (5e-6 was seen). And the
lengths of the rows, known in float64, check the float32 sums: where these are off by more than
`DRIFT` (ties other than zero, as after a ReLU6), all is done again in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.summaries import short_repr

CHUNK = 4096
"""Units multiplied at a time: bounds the extra memory to a few times `CHUNK` values a stimulus."""

EXACT_FLOAT32 = 2**23
"""Up to this many units a centered mid-rank (a multiple of one half) is exact in float32."""

FAST_PRODUCTS = 2**32
"""Products (stimuli × stimuli × units) from which on float32 values are multiplied in float32."""

FAST_CHUNK = 4096
"""Units multiplied at a time in float32: fewer are more exact, more are faster."""

DRIFT = 4e-7
"""Largest relative error of a row's squared length that float32 products may have."""

FIRST_LOOK = 4
"""Blocks after which float32 sums are checked first, so that little work is lost."""

SAFE_FLOAT32 = (1e-12, 1e12)
"""Sizes of values whose squares neither vanish nor overflow in float32, summed over a block."""

POISSON_PRIOR = (1.0, 0.1)
"""Mean and weight of the prior that keeps log rates finite, those of rsatoolbox."""


# ------------------------------------------------------------------------------------- one stimulus


def mid_ranks(row: np.ndarray) -> np.ndarray:
    """Rank one stimulus' values over units, ties sharing their average rank, centered on zero.

    Zeros, 40 to 90 % of a ReLU stage, are one known block of ties: they are counted, only the rest
    is sorted.

    Parameters
    ----------
    row : ndarray, shape (n_units,)
        Finite values.

    Returns
    -------
    ndarray, shape (n_units,)
        Average rank minus (n_units + 1) / 2; float32, exact because all are multiples of one half
        (float64 from 2**23 units on).

    Examples
    --------
    >>> mid_ranks(np.array([0.0, 3.0, 0.0, -1.0])).tolist()
    [0.0, 1.5, 0.0, -1.5]
    """
    n = row.size
    dtype = np.float32 if n < EXACT_FLOAT32 else np.float64
    other = np.flatnonzero(row != 0)  # ten times as fast as np.flatnonzero(row)
    if row.dtype == np.float32:
        places, levels, n_below = _sorted_float32(row, other)
    else:
        order = np.argsort(row[other])
        places, levels = other[order], row[other][order]
        n_below = int(np.searchsorted(levels, 0))
    n_zero = n - other.size
    middles = np.arange(1, other.size + 1, dtype=np.float64)
    middles[n_below:] += n_zero
    _share_ties(middles, levels)
    middles -= (n + 1) / 2
    ranks = np.full(n, n_below + (n_zero + 1) / 2 - (n + 1) / 2, dtype=dtype)
    ranks[places] = middles
    return ranks


def _sorted_float32(row: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Sort by the lower, then by the upper half of the bits.

    numpy's stable sort of 16-bit numbers is a radix sort.

    Its 10 ns a value are a third of what sorting 64-bit pairs of value and place takes where
    AVX-512 is slow (Zen 4).
    """
    bits = row[other].view(np.uint32)
    n_below = int(np.count_nonzero(bits >> 31))
    if n_below:  # negative floats order backwards, before the positive ones
        bits ^= np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    order = np.argsort((bits & np.uint32(0xFFFF)).astype(np.uint16), kind="stable")
    order = order[np.argsort((bits >> 16).astype(np.uint16)[order], kind="stable")]
    return other[order], bits[order], n_below


def _share_ties(ranks: np.ndarray, levels: np.ndarray) -> None:
    """Give equal neighbors their mean rank, in place; work grows with the number of ties."""
    tied = np.flatnonzero(levels[1:] == levels[:-1])
    if not tied.size:
        return
    new = np.flatnonzero(np.diff(tied, prepend=-2) > 1)
    firsts = tied[new]
    sizes = np.diff(np.append(new, tied.size)) + 1
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ranks[np.repeat(firsts, sizes) + within] = np.repeat(
        (ranks[firsts] + ranks[firsts + sizes - 1]) / 2, sizes
    )


def ranks_from_zero(row: np.ndarray) -> np.ndarray:
    """Rank one stimulus' values over units, the ranks counted from that of zero.

    Parameters
    ----------
    row : ndarray, shape (n_units,)
        Finite values.

    Returns
    -------
    ndarray, shape (n_units,)
        `mid_ranks` less the rank of the values that are zero, where there are some: their ranks are
        zero too.

    Examples
    --------
    >>> ranks_from_zero(np.array([0.0, 3.0, 0.0, -1.0])).tolist()
    [0.0, 1.5, 0.0, -1.5]
    """
    ranks = mid_ranks(row)
    zero = int(np.argmax(row == 0))
    if row[zero] == 0:
        ranks -= ranks[zero]
    return ranks


@dataclass(frozen=True)
class RowRange:
    """Summary of one stimulus' values that measures need beside the values.

    Parameters
    ----------
    low, high : float
        Least and largest; NaN when a value is NaN.
    mean : float
        In float64; NaN when a value is not finite.
    spread : float
        Sum of the squared distances from the mean, in float64.
    """

    low: float
    high: float
    mean: float
    spread: float

    @classmethod
    def of(cls, row: np.ndarray) -> RowRange:
        """Look at a row.

        Parameters
        ----------
        row : ndarray, shape (n_units,)
            Values.

        Returns
        -------
        RowRange
            Its range.
        """
        if not row.size:
            return cls(0.0, 0.0, 0.0, 0.0)
        low, high = float(row.min()), float(row.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            return cls(low, high, np.nan, np.nan)
        exact = row.astype(np.float64)
        mean, squares = float(exact.mean()), float(exact @ exact)
        of_mean = exact.size * mean**2
        if 16 * (squares - of_mean) > of_mean:  # costs two bits at most, and saves a pass
            return cls(low, high, mean, squares - of_mean)
        exact -= mean
        return cls(low, high, mean, float(exact @ exact))

    @property
    def size(self) -> float:
        """Largest absolute value.

        Returns
        -------
        float
            Zero or more.
        """
        return max(abs(self.low), abs(self.high))

    @property
    def finite(self) -> bool:
        """Whether all values are finite.

        Returns
        -------
        bool
            False with a NaN or an infinite value.
        """
        return bool(np.isfinite(self.mean))


# ------------------------------------------------------------------------------ sums over all units


def sum_products(values: Any, shifts: np.ndarray) -> np.ndarray:
    """Sum the products of all rows with all rows in float64, each row shifted first.

    Parameters
    ----------
    values : ndarray or like, shape (n, p)
        Cut as ``values[:, start:stop]``.
    shifts : ndarray, shape (n,)
        Subtracted from the rows; the means for centered products.

    Returns
    -------
    ndarray, shape (n, n)
        float64.
    """
    total = np.zeros((values.shape[0],) * 2)
    for start in range(0, values.shape[1], CHUNK):
        part = values[:, start : start + CHUNK].astype(np.float64)
        part -= shifts[:, np.newaxis]
        total += part @ part.T  # numpy sees the transpose and computes one triangle
    return total


def _fast_products(
    values: Any, shifts: np.ndarray, ranges: Sequence[RowRange], centered: bool
) -> np.ndarray | None:
    """Multiply in float32; None where the result would not be exact enough (module docstring)."""
    n, p = values.shape
    sizes = [row.size for row in ranges]
    if values.dtype != np.float32 or n * n * p < FAST_PRODUCTS:
        return None
    if min(sizes) < SAFE_FLOAT32[0] or max(sizes) > SAFE_FLOAT32[1]:
        return None
    near = shifts.astype(np.float32)[:, np.newaxis]
    means = np.array([row.mean for row in ranges])
    # the part of the means that is not subtracted in the blocks
    left = means - near[:, 0] if centered else np.zeros(n)
    squares = np.array([row.spread for row in ranges])
    known = squares + p * left**2 if centered else squares + p * means**2
    total, first_squares = np.zeros((n, n)), np.zeros(n)
    for count, start in enumerate(range(0, p, FAST_CHUNK), start=1):
        part = values[:, start : start + FAST_CHUNK]
        part = part - near if near.any() else part
        total += part @ part.T
        if count <= FIRST_LOOK:
            for index, row in enumerate(part):  # in float64, with one row's memory
                exact = row.astype(np.float64)
                first_squares[index] += exact @ exact
        if count == FIRST_LOOK:
            drift = np.abs(np.diag(total) - first_squares)
            if np.any(drift > DRIFT * first_squares):
                return None
    if np.any(np.abs(np.diag(total) - known) > DRIFT * (squares if centered else known)):
        return None
    total[np.diag_indices(n)] = known
    total -= p * np.outer(left, left)
    return total


def _column_centered_products(values: Any) -> np.ndarray:
    """Sum products less the mean over stimuli of each unit: differences lose fewer digits."""
    total = np.zeros((values.shape[0],) * 2)
    for start in range(0, values.shape[1], CHUNK):
        part = values[:, start : start + CHUNK].astype(np.float64)
        part -= part.mean(axis=0)
        total += part @ part.T
    return total


def _one_minus_cosine(products: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.diag(products))
    first, second = np.triu_indices(len(products), 1)
    cosine = products[first, second]
    cosine /= lengths[first] * lengths[second]
    return 1 - np.clip(cosine, -1, 1, out=cosine)


def squared_distances(products: np.ndarray) -> np.ndarray:
    """Turn sums of products into squared distances.

    Parameters
    ----------
    products : ndarray, shape (n, n)
        Inner products of rows with rows; need not be symmetric (crossvalidated ones are not).

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        ``k[i, i] + k[j, j] - k[i, j] - k[j, i]``, condensed.
    """
    squares = np.diag(products)
    first, second = np.triu_indices(len(products), 1)
    return squares[first] + squares[second] - products[first, second] - products[second, first]


# ----------------------------------------------------------------------------------------- measures

Dissimilarities = Callable[[Any, Sequence[RowRange]], np.ndarray]


def _correlation(values: Any, ranges: Sequence[RowRange]) -> np.ndarray:
    means = np.array([row.mean for row in ranges])
    # a mean that dominates is subtracted before, where it costs no digits; any other after, so that
    # zeros stay zeros
    large = values.shape[1] * means**2 > 16 * np.array([row.spread for row in ranges])
    products = _fast_products(values, np.where(large, means, 0), ranges, centered=True)
    return _one_minus_cosine(sum_products(values, means) if products is None else products)


def _cosine(values: Any, ranges: Sequence[RowRange]) -> np.ndarray:
    shifts = np.zeros(values.shape[0])
    products = _fast_products(values, shifts, ranges, centered=False)
    return _one_minus_cosine(sum_products(values, shifts) if products is None else products)


def _euclidean(values: Any, ranges: Sequence[RowRange]) -> np.ndarray:
    return np.sqrt(np.maximum(squared_distances(_column_centered_products(values)), 0))


def _squared_euclidean(values: Any, ranges: Sequence[RowRange]) -> np.ndarray:
    return np.maximum(squared_distances(_column_centered_products(values)), 0) / values.shape[1]


def _poisson(values: Any, ranges: Sequence[RowRange]) -> np.ndarray:
    mean, weight = POISSON_PRIOR
    total = np.zeros((values.shape[0],) * 2)
    for start in range(0, values.shape[1], CHUNK):
        rates = (values[:, start : start + CHUNK].astype(np.float64) + mean * weight) / (1 + weight)
        total += rates @ np.log(rates).T
    return np.maximum(squared_distances(total), 0) / values.shape[1]


@short_repr
@dataclass(frozen=True, kw_only=True)
class Measure:
    """One way to tell how far two stimuli are apart.

    Parameters
    ----------
    label : str
        Name of the numbers, kept in files.
    about : str
        Definition in one line.
    compute : callable, optional
        Rows and their ranges to condensed dissimilarities; None where noise or folds are needed too
        (`needs`).
    prepare : callable, optional
        Transformation of each row before `compute`, e.g. to ranks.
    undefined : str
        Rows that have no value: ``"constant"``, ``"zero"``, ``"negative"`` or none.
    needs : str
        ``"noise"`` (presentations, for its covariance), ``"folds"`` (independent repeats), or
        nothing more.
    signed : bool
        Whether values below zero are possible.
    rsatoolbox : str
        Its name there, where it has one.
    """

    label: str
    about: str
    compute: Dissimilarities | None = None
    prepare: Callable[[np.ndarray], np.ndarray] | None = None
    undefined: str = ""
    needs: str = ""
    signed: bool = False
    rsatoolbox: str = ""


MEASURES: dict[str, Measure] = {
    "spearman": Measure(
        label="1 - Spearman",
        about="1 - rank correlation over units, ties sharing their average rank",
        compute=_correlation,
        prepare=ranks_from_zero,
        undefined="constant",
    ),
    "pearson": Measure(
        label="1 - Pearson",
        about="1 - correlation over units",
        compute=_correlation,
        undefined="constant",
        rsatoolbox="correlation",
    ),
    "cosine": Measure(
        label="1 - Cosine",
        about="1 - cosine of the angle between responses",
        compute=_cosine,
        undefined="zero",
    ),
    "euclidean": Measure(
        label="Euclidean",
        about="length of the difference, square root of the sum over units",
        compute=_euclidean,
    ),
    "squared-euclidean": Measure(
        label="squared Euclidean",
        about="squared length of the difference, divided by the number of units",
        compute=_squared_euclidean,
        rsatoolbox="euclidean",
    ),
    "poisson": Measure(
        label="Poisson KL",
        about="symmetrized Kullback-Leibler divergence of Poisson rates, divided by the number of "
        "units; responses of zero or more only",
        compute=_poisson,
        undefined="negative",
        rsatoolbox="poisson",
    ),
    "mahalanobis": Measure(
        label="squared Mahalanobis",
        about="squared length of the difference, whitened by the noise covariance, "
        "divided by the number of units",
        needs="noise",
        rsatoolbox="mahalanobis",
    ),
    "crossnobis": Measure(
        label="crossnobis",
        about="squared Mahalanobis, one run's difference times the other runs': unbiased, zero on "
        "average where there is no difference",
        needs="folds",
        signed=True,
        rsatoolbox="crossnobis",
    ),
}
"""Measure name to its definition; the first is the default."""

MEASURE_ALIASES = {
    measure.rsatoolbox: name
    for name, measure in MEASURES.items()
    if measure.rsatoolbox and measure.rsatoolbox not in MEASURES
}
"""Name of a measure in rsatoolbox to its name here, where the two differ.

``"euclidean"`` is in both and keeps its meaning here, the length of the difference; what rsatoolbox
calls so is ``"squared-euclidean"``.
"""


def find_measure(name: str) -> Measure:
    """Look a measure up.

    Parameters
    ----------
    name : str
        One of `MEASURES`, or a name of rsatoolbox (`MEASURE_ALIASES`).

    Returns
    -------
    Measure
        Its definition.

    Raises
    ------
    InputError
        When there is none of that name.

    Examples
    --------
    >>> find_measure("correlation").label
    '1 - Pearson'
    """
    name = MEASURE_ALIASES.get(name, name)
    if name not in MEASURES:
        raise unknown_name("RDM measure", name, MEASURES)
    return MEASURES[name]


def check_ranges(
    ranges: Sequence[RowRange], names: Sequence[str], measure: Measure, place: str
) -> None:
    """Refuse stimuli for which a measure has no value.

    Parameters
    ----------
    ranges : sequence of RowRange
        One a stimulus.
    names : sequence of str
        Their ids.
    measure : Measure
        Measure, which knows the values that it cannot take.
    place : str
        Stage or ROI, for the message.

    Raises
    ------
    InputError
        For NaN, infinite, constant, zero or negative responses, whichever the measure cannot take;
        ids are named.
    """
    broken = [name for name, row in zip(names, ranges) if not row.finite]
    if broken:
        raise InputError(
            f"{place}: NaN or infinite values for {name_ids(broken)}; exclude those voxels or "
            "stimuli."
        )
    tests: dict[str, tuple[Callable[[RowRange], bool], str]] = {
        "constant": (
            lambda row: row.low == row.high,
            "all values are equal for {}, so their correlation is undefined",
        ),
        "zero": (
            lambda row: row.low == row.high == 0,
            "all values are zero for {}, so they have no direction",
        ),
        "negative": (
            lambda row: row.low < 0,
            "negative values for {}, which no Poisson rate can be",
        ),
    }
    if measure.undefined:
        fails, words = tests[measure.undefined]
        bad = [name for name, row in zip(names, ranges) if fails(row)]
        if bad:
            cure = "leave those stimuli or this place out"
            if measure.undefined == "negative":
                cure = "take another measure"
            raise InputError(f"{place}: {words.format(name_ids(bad))}; {cure}.")
