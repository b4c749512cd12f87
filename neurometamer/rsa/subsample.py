"""The resampling of Zhang et al.: 80 % of the units without replacement, all RDMs computed again.

It reproduces the paper's numbers. It says how much an RDM depends on which voxels were measured,
and nothing about other images or other people; `SUBSAMPLE_WARNING` goes with every number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.rsa.compute import MIN_VOXELS, check_enough, match_ids, mean_responses
from neurometamer.rsa.measures import measure_name
from neurometamer.rsa.rdms import STIMULI
from neurometamer.stats.resampling import pair_positions
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns
    from neurometamer.activations import Activations

SUBSAMPLE_WARNING = (
    "WARNING: ignores the choice of images; where it claims 95% it covered 30 to 50% in "
    "simulations (interval 'stimuli' covers 95% or more)"
)
"""Said wherever the interval is used."""

BLOCK = 2**21
"""Numbers of a part held in float64 at a time: 16 MiB."""

SHARE = 0.8
"""Share of the units in a subsample, from Zhang et al. (2021)."""


@short_repr
@dataclass(frozen=True, eq=False)
class UnitValues:
    """Responses of the units of one layer or ROI, named like the RDM that they make.

    Parameters
    ----------
    system : str
        ``"network"`` or ``"brain"``.
    subject : str
        Empty for a network.
    representation : str
        Stage or ROI.
    ids : tuple of str
        Stimulus ids, the order of the rows.
    values : ndarray, shape (n_stimuli, n_units)
        Responses.
    """

    system: str
    subject: str
    representation: str
    ids: tuple[str, ...]
    values: np.ndarray


@checked_with(tables={"table": STIMULI})
def pattern_units(
    patterns_by_subject: Mapping[str, Patterns], table: pd.DataFrame
) -> Iterator[UnitValues]:
    """Give the voxels of each subject and ROI, presentations averaged.

    Parameters
    ----------
    patterns_by_subject : mapping of str to Patterns
        Responses.
    table : pandas.DataFrame
        The stimuli: column id.

    Yields
    ------
    UnitValues
        In the order of `pattern_rdms`.

    Raises
    ------
    InputError
        When a subject's conditions are not exactly the stimuli of the table.

    Examples
    --------
    >>> import pandas as pd
    >>> from fmri import Patterns
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> patterns = Patterns(
    ...     values=np.array([[1.0, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]]),
    ...     observations=pd.DataFrame(
    ...         {"condition": ids, "presentation": 1, "run": "1", "session": ["a", "a", "b", "b"]}
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": [0, 1, 2], "j": 0, "k": 0}),
    ... )
    >>> regions = pattern_units({"S1": patterns}, table)
    >>> [(units.representation, units.values.shape) for units in regions]
    [('V1', (4, 3))]
    """
    ids = tuple(table["id"].astype(str))
    for subject, patterns in patterns_by_subject.items():
        means = mean_responses(patterns, ids, subject)
        rois = np.asarray(patterns.voxels["roi"].astype(str))
        for roi in dict.fromkeys(rois.tolist()):
            yield UnitValues(
                system="brain",
                subject=str(subject),
                representation=roi,
                ids=ids,
                values=means[:, rois == roi],
            )


@checked_with(tables={"table": STIMULI})
def activation_units(activations: Activations, table: pd.DataFrame) -> Iterator[UnitValues]:
    """Give the units of each network stage, one stage in memory at a time.

    Parameters
    ----------
    activations : Activations
        Responses of the network.
    table : pandas.DataFrame
        The stimuli: column id.

    Yields
    ------
    UnitValues
        In the order of `activation_rdms`.

    Raises
    ------
    InputError
        When activations and table do not hold the same ids.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer import Activations
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> features = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]], dtype=np.float32)
    >>> activations = Activations(
    ...     ids=("cat", "dog", "cup", "car"),
    ...     stages=("conv1",),
    ...     n_units={"conv1": 3},
    ...     arrays={"conv1": features},
    ... )
    >>> stages = activation_units(activations, table)
    >>> [(units.representation, units.values.shape) for units in stages]
    [('conv1', (4, 3))]
    """
    ids = tuple(table["id"].astype(str))
    rows = match_ids(activations.ids, ids, "activations", "the stimulus table")
    for stage in activations.stages:
        values = activations.read(stage)
        yield UnitValues(
            system="network",
            subject="",
            representation=stage,
            ids=ids,
            values=values[rows],
        )


def subsample_rdms(
    units: UnitValues,
    n_resamples: int,
    seed: int,
    *,
    measure: str = "spearman",
    share: float = SHARE,
) -> np.ndarray:
    """Compute the RDM of all stimuli again from each of many random parts of the units.

    Parameters
    ----------
    units : UnitValues
        Responses of one layer or ROI.
    n_resamples : int
        Number of parts.
    seed : int
        The same seed and representation give the same parts.
    measure : {"spearman", "pearson"}
        RDMs are 1 - this correlation.
    share : float
        Share of the units in each part, in (0, 1).

    Returns
    -------
    ndarray, shape (n_resamples, n_pairs)
        Condensed RDMs in [0, 2]; NaN where a stimulus' responses are all equal in that part.

    Raises
    ------
    InputError
        For another measure, a share out of range, fewer than 3 units in a part, fewer than 4
        stimuli, or responses that are not finite (named).

    References
    ----------
    Zhang et al. (2021), Representational Similarity Analysis.
    """
    measure = measure_name(measure)
    if measure not in PARTS:
        raise unknown_name("RDM measure of the subsample", measure, PARTS)
    where = f"{units.subject} {units.representation}".strip()
    if units.values.ndim != 2 or len(units.ids) != len(units.values) or n_resamples < 0:
        raise InputError(
            f"{where}: {len(units.ids)} stimuli, values of shape {units.values.shape} and "
            f"{n_resamples} resamples do not fit; give a row a stimulus, and 0 resamples or more."
        )
    bad = [name for name, row in zip(units.ids, units.values) if not np.isfinite(row).all()]
    if bad:
        raise InputError(
            f"{where}: NaN or infinite responses to {name_ids(bad)}; leave these units or stimuli "
            "out."
        )
    check_enough(units.ids, where)
    n, p = units.values.shape
    size = round(share * p)
    if not 0 < share < 1 or size < MIN_VOXELS:
        raise InputError(
            f"{where}: {share:.0%} of {p} units are {size}; a correlation needs at least "
            f"{MIN_VOXELS} of them, and a share between 0 and 1."
        )
    parts = PARTS[measure](units.values)
    random = generator(seed, "subsample", units.system, units.subject, units.representation)
    first, second = np.triu_indices(n, 1)
    step = max(1, BLOCK // n)
    rdms = np.empty((n_resamples, first.size))
    for rdm in rdms:
        chosen = random.permutation(p)[:size]
        mask = np.zeros(p, dtype=bool)
        mask[chosen] = True
        rows = parts(mask)
        products = np.zeros((n, n))
        for start in range(0, p, step):  # a product with its own transpose costs half of another
            block = rows[:, start : start + step].astype(np.float64, copy=False)
            products += block @ block.T
        lengths = np.sqrt(np.diag(products))
        scale = lengths[first] * lengths[second]
        correlations = np.full(scale.shape, np.nan)
        np.divide(products[first, second], scale, out=correlations, where=scale > 0)
        rdm[:] = 1 - np.clip(correlations, -1, 1)
    return rdms


Part = Callable[[np.ndarray], np.ndarray]
"""Mask of the units (p,) to what is correlated within that part (n, p), zero in other units."""


def _centered_values(x: np.ndarray) -> Part:
    values = np.asarray(x, dtype=np.float64)
    rows = np.empty_like(values)

    def centered(mask: np.ndarray) -> np.ndarray:
        sums = values @ mask
        n = mask.sum()
        means = sums / n
        means = means[:, np.newaxis]
        np.subtract(values, means, out=rows)
        np.multiply(rows, mask, out=rows)
        return rows

    return centered


class _Sorted(NamedTuple):
    """One stimulus' units in order of their values.

    The largest block of equal values (the zeros of a ReLU) is left out of `below` and `above`; of
    the others those that share their value are in `tied`, with the number of their value in
    `groups`.
    """

    below: np.ndarray
    block: np.ndarray
    above: np.ndarray
    tied: np.ndarray
    groups: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> _Sorted:
        """Sort the units of one stimulus."""
        order = np.argsort(values)
        ordered = values[order]
        is_other = ordered[1:] != ordered[:-1]
        is_first = np.r_[True, is_other]
        starts = np.flatnonzero(is_first)
        sizes = np.diff(starts, append=values.size)
        largest = int(sizes.argmax())
        low = high = 0
        if sizes[largest] > 1:
            low = starts[largest]
            high = low + sizes[largest]
        is_tied = np.repeat(sizes > 1, sizes)
        is_tied[low:high] = False
        every = np.arange(len(sizes))
        number_of = np.repeat(every, sizes)
        numbers = number_of[is_tied]
        _, groups = np.unique(numbers, return_inverse=True)
        return cls(
            below=order[:low],
            block=order[low:high],
            above=order[high:],
            tied=order[is_tied],
            groups=groups,
        )


def _part_ranks(x: np.ndarray) -> Part:
    """Sort once; a part of the units keeps that order, so that its ranks are a count."""
    held = [_Sorted.of(row) for row in np.asarray(x)]
    shape = np.shape(x)
    # ranks are whole or half numbers: exact in float32 up to here
    dtype = np.dtype(np.float32 if shape[1] < 2**22 else np.float64)
    out = np.empty(shape, dtype=dtype)

    def ranks(mask: np.ndarray) -> np.ndarray:
        size = int(mask.sum())
        places = np.arange(size, dtype=dtype)
        places -= dtype.type((size - 1) / 2)
        for row, units in zip(out, held):
            below = units.below[mask[units.below]]
            above = units.above[mask[units.above]]
            n_below, n_above = len(below), len(above)
            # what lies between is the block: all of one rank
            of_block = dtype.type((n_below - n_above) / 2)
            np.multiply(mask, of_block, out=row)
            row[below] = places[:n_below]
            row[above] = places[size - n_above :]
            if units.tied.size:
                is_kept = mask[units.tied]
                tied = units.tied[is_kept]
                groups = units.groups[is_kept]
                total = np.bincount(groups, row[tied])
                sizes = np.bincount(groups)
                means = total / np.maximum(sizes, 1)
                row[tied] = means[groups]
        return out

    return ranks


PARTS: dict[str, Callable[[np.ndarray], Part]] = {
    "spearman": _part_ranks,
    "pearson": _centered_values,
}
"""RDM measure to what it correlates in a part of the units: ranks, or values minus their mean."""


def paired_scores(comparator: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare row k of one set of condensed RDMs with row k of another.

    Parameters
    ----------
    comparator : str
        One of `COMPARATORS`.
    a, b : ndarray, shape (m, n_pairs)
        Condensed RDMs.

    Returns
    -------
    ndarray, shape (m,)
        NaN where a row holds NaN or is constant.

    Raises
    ------
    InputError
        For an unknown comparator or shapes that differ.
    """
    entry = find_comparator(comparator)
    if np.ndim(a) != 2 or np.shape(a) != np.shape(b):
        raise InputError(
            f"RDMs of shapes {np.shape(a)} and {np.shape(b)} cannot be compared row by row; give "
            "as many of one side as of the other, (m, n_pairs)."
        )
    is_finite = np.isfinite(a) & np.isfinite(b)
    rows = np.flatnonzero(is_finite.all(axis=1))
    scores = np.full(len(a), np.nan)
    if entry.prepare is not None:
        left, _ = entry.prepare(a[rows])
        _, right = entry.prepare(b[rows])
        scores[rows] = np.einsum("rp,rp->r", left, right)
        return scores
    for k in rows:
        single = entry(a[[k]], b[[k]])
        scores[k] = single[0, 0]
    return scores


def rows_of(ids: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Find the condensed positions of the pairs of some stimuli, in the order asked for.

    Parameters
    ----------
    ids : sequence of str
        All stimuli of the RDM.
    wanted : sequence of str
        Some of them.

    Returns
    -------
    ndarray of int, shape (n_wanted * (n_wanted - 1) / 2,)
        Positions in the condensed RDM of `ids`.

    Raises
    ------
    InputError
        When a stimulus is not among `ids`.
    """
    position = {name: i for i, name in enumerate(ids)}
    lacking = [name for name in wanted if name not in position]
    if lacking:
        raise InputError(
            f"no responses of units to the stimuli {name_ids(lacking)} of the RDMs; give those of "
            "all stimuli."
        )
    rows = np.array([position[name] for name in wanted], dtype=int)
    return pair_positions(rows, len(ids))
