"""Noise ceilings: what any model could reach, given how much subjects differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.rsa.comparators.ranks import SCALES, check_sides, scaled_once
from neurometamer.rsa.comparators.table import COMPARATORS, comparator_name, find_comparator
from neurometamer.rsa.compute import check_rdms
from neurometamer.rsa.rdms import refuse_flat

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

POOLS = {
    "scaled": "RDMs made comparable for the comparator (ranks, z-scores or unit length) before "
    "averaging; rsatoolbox",
    "raw": "dissimilarities averaged as they are",
}
"""Name of a way to average subjects' RDMs to what it does."""


def subject_ceilings(
    vectors: np.ndarray, comparator: str = "spearman", pool: str = "scaled"
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each subject's RDM with the pool of the others and with the pool of all.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs of one ROI, at least 2 subjects.
    comparator : str
        One of `COMPARATORS`.
    pool : str
        One of `POOLS`.

    Returns
    -------
    tuple of ndarray, shape (n_subjects,)
        Lower (others) and upper (all, the subject itself included) bound of each subject.

    Raises
    ------
    InputError
        For an unknown name, fewer than 2 subjects, or RDMs that are constant or not finite.
    """
    compare = find_comparator(comparator)
    vectors = np.asarray(vectors, dtype=np.float64)
    check_sides(vectors, vectors, names="the subjects' RDMs and themselves")
    if len(vectors) < 2:
        raise InputError(
            f"a noise ceiling over subjects needs at least 2 subjects; there is {len(vectors)}."
        )
    is_flat = np.ptp(vectors, axis=1) == 0
    if is_flat.any():
        flat = np.flatnonzero(is_flat)
        raise InputError(
            f"all dissimilarities are equal in row(s) {name_ids(flat)}; leave those subjects out."
        )
    if pool not in POOLS:
        raise unknown_name("pool", pool, POOLS)
    scaled = vectors
    if pool == "scaled":
        scaled = poolable(vectors, comparator)
    others = (scaled.sum(axis=0) - scaled) / (len(scaled) - 1)
    low = np.empty(len(vectors))
    for k in range(len(vectors)):
        low[k] = compare(others[k : k + 1], vectors[k : k + 1])[0, 0]
    pooled = scaled.mean(axis=0, keepdims=True)
    return low, compare(vectors, pooled)[:, 0]


def poolable(vectors: np.ndarray, comparator: str) -> np.ndarray:
    """Scale RDMs so that their mean is most similar to all of them.

    For tau-a this holds nearly; rsatoolbox does the same.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs.
    comparator : str
        One of `COMPARATORS`.

    Returns
    -------
    ndarray, shape (n_subjects, n_pairs)
        RDMs of unit length, z-scored RDMs or centered ranks (`SCALES`).
    """
    entry = find_comparator(comparator)
    scale = SCALES[entry.scale]
    return scaled_once(scale, vectors)


def describe_ceiling(comparator: str, n_subjects: int) -> str:
    """Name the noise ceiling's convention, or say why there is none.

    Parameters
    ----------
    comparator : str
        One of `COMPARATORS`.
    n_subjects : int
        Number of subjects that have this ROI.

    Returns
    -------
    str
        Text for the column ``ceiling``.
    """
    if n_subjects < 2:
        return "undefined: a ceiling over subjects needs at least 2 subjects with this ROI"
    comparator = comparator_name(comparator)
    scale = COMPARATORS[comparator].scale
    return (
        f"Nili 2014, {comparator}: each subject's RDM with the mean {scale} RDM of the other "
        "subjects (low) "
        f"or of all (high), {n_subjects} subjects"
    )


@checked
def noise_ceiling(
    rdms: RDMs, comparator: str = "spearman", *, pool: str = "scaled"
) -> tuple[float, float]:
    """Compute what any model can reach in one ROI, given how much the subjects differ.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        One RDM a subject, all of one ROI.
    comparator : str
        One of `COMPARATORS`.
    pool : str
        One of `POOLS`: how the subjects' RDMs are averaged.

    Returns
    -------
    tuple of float
        Lower bound (each subject with the mean of the others) and upper bound (with the mean of
        all), averaged over subjects; for rank comparisons the mean is of rank-transformed RDMs. NaN
        with a single subject.

    Raises
    ------
    InputError
        For an unknown name, RDMs of several ROIs, or RDMs that are constant or do not pass
        `check_rdms`.

    Notes
    -----
    ``pool="scaled"`` equals ``rsatoolbox.inference.boot_noise_ceiling``. Published ceilings are
    often of raw means: for the 92 images of Cichy et al. EVC is .242/.392 scaled and .239/.386 raw,
    IT .453/.542 and .449/.535.

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553.

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random = np.random.default_rng(0)
    >>> vectors = random.random(28) + random.random((3, 28))
    >>> ids, places = [f"im{i}" for i in range(8)], {"subject": ["S1", "S2", "S3"]}
    >>> rdms = label_rdms(vectors, conditions=ids, rdm_descriptors=places, measure="test")
    >>> low, high = noise_ceiling(rdms)
    >>> round(low, 2), round(high, 2)
    (0.58, 0.8)
    """
    check_rdms(rdms, "the RDMs of the noise ceiling")
    refuse_flat(rdms)
    rois = dict.fromkeys(str(roi) for roi in rdms.rdm_descriptors.get("roi", ()))
    if len(rois) > 1:
        raise InputError(
            f"a noise ceiling is of one ROI; these RDMs are of {name_ids(rois)}: take one at a "
            "time."
        )
    find_comparator(comparator)
    if rdms.n_rdm < 2:
        return float("nan"), float("nan")
    low, high = subject_ceilings(rdms.dissimilarities, comparator, pool)
    return float(low.mean()), float(high.mean())
