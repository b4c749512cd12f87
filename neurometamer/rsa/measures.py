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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
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
    other = np.flatnonzero(row != 0)  # ten times as fast as np.flatnonzero(row)
    levels = row[other]
    if row.dtype == np.float32:
        # numpy's stable sort of 16-bit numbers is a radix sort: lower bits, then upper bits. Its
        # 10 ns a value are a third of what 64-bit pairs of value and place take where AVX-512 is
        # slow (Zen 4)
        levels = levels.view(np.uint32)
        is_below = levels >> 31
        n_below = int(np.count_nonzero(is_below))
        if n_below:  # negative floats order backwards, before the positive ones
            levels ^= np.where(is_below, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
        low = (levels & np.uint32(0xFFFF)).astype(np.uint16)
        high = (levels >> 16).astype(np.uint16)
        order = np.argsort(low, kind="stable")
        order = order[np.argsort(high[order], kind="stable")]
        levels = levels[order]
    else:
        order = np.argsort(levels)
        levels = levels[order]
        n_below = int(np.searchsorted(levels, 0))
    n_zero = n - other.size
    middles = np.arange(1, other.size + 1, dtype=np.float64)
    middles[n_below:] += n_zero
    tied = np.flatnonzero(levels[1:] == levels[:-1])
    if tied.size:  # equal neighbors share their mean rank; work grows with the number of ties
        is_new = np.diff(tied, prepend=-2) > 1
        new = np.flatnonzero(is_new)
        firsts = tied[new]
        sizes = np.diff(np.append(new, tied.size)) + 1
        before = np.cumsum(sizes) - sizes
        within = np.arange(sizes.sum()) - np.repeat(before, sizes)
        positions = np.repeat(firsts, sizes) + within
        means = (middles[firsts] + middles[firsts + sizes - 1]) / 2
        middles[positions] = np.repeat(means, sizes)
    middles -= (n + 1) / 2
    of_zeros = n_below + (n_zero + 1) / 2 - (n + 1) / 2
    dtype = np.float32 if n < EXACT_FLOAT32 else np.float64
    ranks = np.full(n, of_zeros, dtype=dtype)
    ranks[other[order]] = middles
    return ranks


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
        mean = float(exact.mean())
        squares = float(exact @ exact)
        of_mean = exact.size * mean**2
        spread = squares - of_mean
        if 16 * spread <= of_mean:  # two bits at most are lost elsewhere, which saves a pass
            exact -= mean
            spread = float(exact @ exact)
        return cls(low, high, mean, spread)

    @property
    def size(self) -> float:
        """Largest absolute value.

        Returns
        -------
        float
            Zero or more.
        """
        least = abs(self.low)
        largest = abs(self.high)
        return max(least, largest)

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


def _parts_of_units(values: Any) -> Iterator[np.ndarray]:
    """Cut responses into parts of `CHUNK` units, (n, …) float64 each."""
    for start in range(0, values.shape[1], CHUNK):
        stop = start + CHUNK
        yield values[:, start:stop].astype(np.float64)


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
    total = np.zeros((values.shape[0], values.shape[0]))
    for part in _parts_of_units(values):
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
    spreads = np.array([row.spread for row in ranges])
    left = means - near[:, 0]  # what is not subtracted in the blocks
    known = spreads + p * left**2
    total = np.zeros((n, n))
    first_squares = np.zeros(n)
    for count, start in enumerate(range(0, p, FAST_CHUNK), start=1):
        part = values[:, start : start + FAST_CHUNK]
        if near.any():
            part = part - near
        total += part @ part.T
        if count <= FIRST_LOOK:
            for index, row in enumerate(part):  # in float64, with one row's memory
                exact = row.astype(np.float64)
                first_squares[index] += exact @ exact
        if count == FIRST_LOOK:
            drift = np.abs(np.diag(total) - first_squares)
            if np.any(drift > DRIFT * first_squares):
                return None
    drift = np.abs(np.diag(total) - known)
    if np.any(drift > DRIFT * (spreads if centered else known)):
        return None
    total[np.diag_indices(n)] = known
    return total - p * np.outer(left, left) if centered else total


def _one_minus_cosine(values: Any, ranges: Sequence[RowRange], *, centered: bool) -> np.ndarray:
    """Compute 1 - correlation, or without centering 1 - cosine."""
    means = np.zeros(values.shape[0])
    if centered:
        means = np.array([row.mean for row in ranges])
    spreads = np.array([row.spread for row in ranges])
    # a mean that dominates is subtracted before, where it costs no digits; any other after, so that
    # zeros stay zeros
    is_large = values.shape[1] * means**2 > 16 * spreads
    shifts = np.where(is_large, means, 0)
    products = _fast_products(values, shifts, ranges, centered)
    if products is None:
        products = sum_products(values, means)
    lengths = np.sqrt(np.diag(products))
    first, second = np.triu_indices(len(lengths), 1)
    cosine = products[first, second]
    cosine /= lengths[first] * lengths[second]
    np.clip(cosine, -1, 1, out=cosine)
    return 1 - cosine


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
    n = len(squares)
    first, second = np.triu_indices(n, 1)
    distances = squares[first]
    distances = distances + squares[second]
    distances -= products[first, second]
    distances -= products[second, first]
    return distances


# ----------------------------------------------------------------------------------------- measures

Dissimilarities = Callable[[Any, Sequence[RowRange]], np.ndarray]


def _euclidean(values: Any, ranges: Sequence[RowRange], *, squared: bool) -> np.ndarray:
    total = np.zeros((values.shape[0], values.shape[0]))
    for part in _parts_of_units(values):
        part -= part.mean(axis=0)  # differences lose fewer digits without what units share
        total += part @ part.T
    squares = squared_distances(total)
    squares = np.maximum(squares, 0)
    if squared:
        return squares / values.shape[1]
    return np.sqrt(squares)


def _poisson(values: Any, ranges: Sequence[RowRange]) -> np.ndarray:
    mean, weight = POISSON_PRIOR
    total = np.zeros((values.shape[0], values.shape[0]))
    for part in _parts_of_units(values):
        rates = part + mean * weight
        rates /= 1 + weight
        total += rates @ np.log(rates).T
    divergences = squared_distances(total)
    return np.maximum(divergences, 0) / values.shape[1]


UNDEFINED: dict[str, tuple[Callable[[RowRange], bool], str]] = {
    "constant": (
        lambda row: row.low == row.high,
        "all values are equal for {}, so their correlation is undefined; leave those stimuli or "
        "this place out",
    ),
    "zero": (
        lambda row: row.low == row.high == 0,
        "all values are zero for {}, so they have no direction; leave those stimuli or this place "
        "out",
    ),
    "negative": (
        lambda row: row.low < 0,
        "negative values for {}, which no Poisson rate can be; take another measure",
    ),
}
"""Name of a range for which a measure has no value to its test and what messages say."""

NEEDS = ("", "noise", "folds")
"""What a measure needs beside one row of values a stimulus."""


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
        Rows that have no value: one of `UNDEFINED`, or empty for none.
    needs : str
        ``"noise"`` (presentations, for its covariance), ``"folds"`` (independent repeats), or
        nothing more.
    signed : bool
        Whether values below zero are possible.
    rsatoolbox : str
        Its name there, where it has one.

    Raises
    ------
    InputError
        For an unknown range or need, and where `compute` lacks though nothing else is needed.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.spatial.distance import pdist
    >>> from neurometamer.rsa import MEASURES, Measure
    >>> pearson = MEASURES["pearson"]
    >>> pearson.label, pearson.undefined, pearson.signed
    ('1 - Pearson', 'constant', False)
    >>> MEASURES["crossnobis"].needs, MEASURES["crossnobis"].signed
    ('folds', True)
    >>> largest = Measure(
    ...     label="Chebyshev",
    ...     about="largest difference of a unit",
    ...     compute=lambda rows, ranges: pdist(rows, "chebyshev"),
    ... )
    >>> largest.compute(np.array([[0.0, 1], [3, 2], [1, 7]]), None).tolist()
    [3.0, 6.0, 5.0]
    """

    label: str
    about: str
    compute: Dissimilarities | None = None
    prepare: Callable[[np.ndarray], np.ndarray] | None = None
    undefined: str = ""
    needs: str = ""
    signed: bool = False
    rsatoolbox: str = ""

    def __post_init__(self) -> None:
        if self.undefined and self.undefined not in UNDEFINED:
            raise unknown_name("range of a measure", self.undefined, UNDEFINED)
        if self.needs not in NEEDS:
            raise unknown_name("need of a measure", self.needs, NEEDS)
        if self.compute is None and not self.needs:
            raise InputError(
                f"the measure '{self.label}' has no compute; give a function of rows and their "
                "ranges, or say what else it needs (needs)."
            )


MEASURES: dict[str, Measure] = {
    "spearman": Measure(
        label="1 - Spearman",
        about="1 - rank correlation over units, ties sharing their average rank",
        compute=partial(_one_minus_cosine, centered=True),
        prepare=ranks_from_zero,
        undefined="constant",
    ),
    "pearson": Measure(
        label="1 - Pearson",
        about="1 - correlation over units",
        compute=partial(_one_minus_cosine, centered=True),
        undefined="constant",
        rsatoolbox="correlation",
    ),
    "cosine": Measure(
        label="1 - Cosine",
        about="1 - cosine of the angle between responses",
        compute=partial(_one_minus_cosine, centered=False),
        undefined="zero",
    ),
    "euclidean": Measure(
        label="Euclidean",
        about="length of the difference, square root of the sum over units",
        compute=partial(_euclidean, squared=False),
    ),
    "squared-euclidean": Measure(
        label="squared Euclidean",
        about="squared length of the difference, divided by the number of units",
        compute=partial(_euclidean, squared=True),
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
    return MEASURES[measure_name(name)]


def measure_name(name: str) -> str:
    """Find our name of a measure.

    Parameters
    ----------
    name : str
        One of `MEASURES`, or a name of rsatoolbox (`MEASURE_ALIASES`).

    Returns
    -------
    str
        One of `MEASURES`.

    Raises
    ------
    InputError
        When there is none of that name.

    Examples
    --------
    >>> measure_name("correlation")
    'pearson'
    """
    if name in MEASURES:
        return name
    for ours, measure in MEASURES.items():
        if measure.rsatoolbox == name and name:
            return ours
    raise unknown_name("RDM measure", name, MEASURES)


def measure_of_label(label: str) -> str:
    """Find the measure whose label RDMs carry.

    Parameters
    ----------
    label : str
        ``dissimilarity_measure`` of RDMs.

    Returns
    -------
    str
        One of `MEASURES`; the label itself where none has it.

    Examples
    --------
    >>> measure_of_label("1 - Spearman")
    'spearman'
    """
    for name, measure in MEASURES.items():
        if measure.label.lower() == label.lower():
            return name
    return label


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
    if not measure.undefined:
        return
    fails, words = UNDEFINED[measure.undefined]
    bad = [name for name, row in zip(names, ranges) if fails(row)]
    if bad:
        raise InputError(f"{place}: {words.format(name_ids(bad))}.")
