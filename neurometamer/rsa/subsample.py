"""The resampling of Zhang et al.: 80 % of the units without replacement, all RDMs computed anew.

It is here for the paper's numbers. It says how much an RDM depends on which voxels were measured, and nothing about
other images or other people; `SUBSAMPLE_WARNING` goes with every number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.rsa.comparators import BLOCK, COMPARATORS, centered_ranks
from neurometamer.rsa.rdm import MIN_VOXELS, match_ids, mean_responses
from neurometamer.store import InputError, generator, name_ids, unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns
    from neurometamer.activations import Activations

SUBSAMPLE_WARNING = (
    "WARNING: ignores the choice of images; where it claims 95% it covered 30 to 50% in simulations "
    "(interval 'stimuli' covers 95% or more)"
)
"""Said wherever the interval is used."""

SHARE = 0.8
"""Of the units, Zhang et al. (2021)."""


@dataclass(frozen=True, eq=False)
class UnitValues:
    """Responses of the units of one layer or ROI, named like the RDM that they make.

    Parameters
    ----------
    system : str
        ``"network"`` or ``"brain"``.
    subject : str
        Empty for a network.
    place : str
        Stage or ROI.
    ids : tuple of str
        Stimulus ids, the order of the rows.
    values : ndarray, shape (n_stimuli, n_units)
        Responses.
    """

    system: str
    subject: str
    place: str
    ids: tuple[str, ...]
    values: np.ndarray


def pattern_units(patterns_by_subject: Mapping[str, Patterns], table: pd.DataFrame) -> Iterator[UnitValues]:
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
    """
    ids = tuple(table["id"].astype(str))
    for subject, patterns in patterns_by_subject.items():
        means = mean_responses(patterns, ids, subject)
        rois = np.asarray(patterns.voxels["roi"].astype(str))
        for roi in dict.fromkeys(rois.tolist()):
            yield UnitValues("brain", str(subject), roi, ids, means[:, rois == roi])


def activation_units(activations: Activations, table: pd.DataFrame) -> Iterator[UnitValues]:
    """Give the units of each network stage, one stage in memory at a time.

    Parameters
    ----------
    activations : Activations
        What the network answered.
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
    """
    ids = tuple(table["id"].astype(str))
    rows = match_ids(activations.ids, ids, "activations", "the stimulus table")
    for stage in activations.stages:
        yield UnitValues("network", "", stage, ids, activations.read(stage)[rows])


def subsample_rdms(
    units: UnitValues, n_resamples: int, seed: int, *, measure: str = "spearman", share: float = SHARE
) -> np.ndarray:
    """Compute the RDM of all stimuli again from each of many random parts of the units.

    Parameters
    ----------
    units : UnitValues
        Responses of one layer or ROI.
    n_resamples : int
        How many parts.
    seed : int
        The same seed and place give the same parts.
    measure : {"spearman", "pearson"}
        RDMs are 1 - this correlation.
    share : float
        Of the units in each part, in (0, 1).

    Returns
    -------
    ndarray, shape (n_resamples, n_pairs)
        Condensed RDMs in [0, 2]; NaN where a stimulus' responses are all equal in that part.

    Raises
    ------
    InputError
        For another measure, a share out of range, or fewer than 3 units in a part.

    References
    ----------
    Zhang et al. (2021), Representational Similarity Analysis.
    """
    if measure not in SCORES:
        raise unknown_name("RDM measure of the subsample", measure, SCORES)
    n, p = units.values.shape
    size = round(share * p)
    if not 0 < share < 1 or size < MIN_VOXELS:
        raise InputError(
            f"{units.subject} {units.place}: {share:.0%} of {p} units are {size}; a correlation needs at least "
            f"{MIN_VOXELS} of them, and a share between 0 and 1.".strip()
        )
    scores = SCORES[measure](units.values)
    random = generator(seed, "subsample", units.system, units.subject, units.place)
    first, second = np.triu_indices(n, 1)
    out = np.empty((n_resamples, first.size))
    step = max(1, BLOCK // (n * p))
    for start in range(0, n_resamples, step):
        count = min(step, n_resamples - start)
        masks = np.zeros((count, p))
        for mask in masks:
            mask[random.permutation(p)[:size]] = 1
        kept = scores(masks) * masks[:, np.newaxis]
        products = kept @ kept.transpose(0, 2, 1)
        lengths = np.sqrt(np.einsum("mii->mi", products))
        scale = lengths[:, first] * lengths[:, second]
        found = np.divide(products[:, first, second], scale, out=np.full(scale.shape, np.nan), where=scale > 0)
        out[start : start + count] = 1 - np.clip(found, -1, 1)
    return out


def _centered_values(x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    values = np.asarray(x, dtype=np.float64)
    return lambda masks: values - (masks @ values.T / masks.sum(axis=1, keepdims=True))[:, :, np.newaxis]


SCORES = {"spearman": centered_ranks, "pearson": _centered_values}
"""RDM measure to what it correlates within a part of the units: ranks within the part, or values minus their mean."""


def paired_scores(by: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compare row k of one set of condensed RDMs with row k of another.

    Parameters
    ----------
    by : str
        One of `COMPARATORS`.
    a, b : ndarray, shape (m, n_pairs)
        Condensed RDMs.

    Returns
    -------
    ndarray, shape (m,)
        NaN where a row holds NaN or is constant.
    """
    from scipy.stats import rankdata

    out = np.full(len(a), np.nan)
    rows = np.flatnonzero(np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1))
    if by != "spearman":  # one by one, whatever the comparator
        for k in rows:
            out[k] = COMPARATORS[by](a[k : k + 1], b[k : k + 1])[0, 0]
        return out
    x, y = (rankdata(one[rows], axis=1) - (one.shape[1] + 1) / 2 for one in (a, b))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    out[rows] = np.divide((x * y).sum(axis=1), scale, out=np.full(len(rows), np.nan), where=scale > 0)
    return out


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
    if lacking := [name for name in wanted if name not in position]:
        raise InputError(f"no responses of units to the stimuli {name_ids(lacking)} of the RDMs.")
    index, n = np.array([position[name] for name in wanted], dtype=int), len(ids)
    first, second = np.triu_indices(len(index), 1)
    low, high = np.minimum(index[first], index[second]), np.maximum(index[first], index[second])
    return low * n - low * (low + 1) // 2 + high - low - 1
