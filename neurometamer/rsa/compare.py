"""Compare RDMs, network and cortex, with intervals over stimuli and noise ceilings.

Every table says in its column ``method`` what was compared and what was resampled. RDMs are joined by stimulus id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.resampling import bootstrap_counts, pair_weights, percentile_interval
from neurometamer.rsa.comparators import COMPARATORS, centered_ranks
from neurometamer.rsa.rdm import align_rdms, check_rdms, place_name, select_kind, take_conditions
from neurometamer.store import InputError, duplicates, name_ids, unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

MIN_IMAGES = 3
"""A resample with fewer distinct images has at most one distinct pair: left out, as in rsatoolbox."""


# ------------------------------------------------------------------------------------------------- resampling


def _comparator(by: str) -> Callable[..., np.ndarray]:
    if by not in COMPARATORS:
        raise unknown_name("comparison", by, COMPARATORS)
    return COMPARATORS[by]


def _resample(compare: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compare in every resample; NaN where it holds fewer than 3 distinct images."""
    if not len(counts):
        return np.full((0, len(a), len(b)), np.nan)
    samples = compare(a, b, pair_weights(counts))
    samples[(counts > 0).sum(axis=1) < MIN_IMAGES] = np.nan
    return samples


def describe_method(by: str, counts: np.ndarray, confidence: float, left_out: str = "") -> str:
    """Say in words what was compared and what was resampled.

    Parameters
    ----------
    by : str
        Comparator.
    counts : ndarray, shape (n_resamples, n)
        The draws (`bootstrap_counts`).
    confidence : float
        Of the interval.
    left_out : str
        Ids that only one side held.

    Returns
    -------
    str
        Text for the column ``method``.
    """
    n_resamples, n = counts.shape
    name = "kendall tau-a" if by == "kendall" else by
    text = f"{name}; no interval"
    if n_resamples:
        text = (
            f"{name}; {confidence:.0%} percentile bootstrap over {n} stimuli, {n_resamples} resamples, "
            "same-image pairs dropped"
        )
        undefined = int(((counts > 0).sum(axis=1) < MIN_IMAGES).sum())
        text += f", {undefined} resamples of fewer than {MIN_IMAGES} images left out" if undefined else ""
    return text + (f"; held by one side only and left out: {name_ids(left_out.split(', '))}" if left_out else "")


def _canonical(rdms: RDMs) -> RDMs:
    """Order stimuli by id, so that the draws of the bootstrap do not depend on the order in a file."""
    return take_conditions(rdms, np.argsort([str(one) for one in rdms.pattern_descriptors["condition"]]))


def _joined(a: RDMs, b: RDMs, join: str) -> tuple[RDMs, RDMs, str]:
    check_rdms(a, "the first RDMs")
    check_rdms(b, "the second RDMs")
    first, second = align_rdms(_canonical(a), b, join=join)
    _refuse_flat(first)
    _refuse_flat(second)
    return first, second, first.descriptors.get("left_out", "") if join == "inner" else ""


def _refuse_flat(rdms: RDMs) -> None:
    flat = np.flatnonzero(np.ptp(rdms.dissimilarities, axis=1) == 0)
    if flat.size:
        raise InputError(
            f"all dissimilarities are equal in {name_ids(place_name(rdms, int(i)) for i in flat)}, "
            "so they correlate with nothing; leave those RDMs out."
        )


# ----------------------------------------------------------------------------------------------------- tables


def compare_rdms(
    a: RDMs,
    b: RDMs,
    *,
    by: str = "spearman",
    kind: str | None = None,
    join: str = "exact",
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare every RDM of one set with every RDM of another, joined by stimulus id.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        With ids in ``pattern_descriptors["condition"]``, in any order.
    by : str
        One of `COMPARATORS`.
    kind : str, optional
        Compare only the stimuli of one kind; all together by default.
    join : str
        ``"exact"``: both must hold the same ids; ``"inner"``: the shared ids are used and the others named in
        ``method``.
    n_bootstrap : int
        Resamples of the stimuli, the same for all rows; 0 for no interval.
    seed : int
        Of the resamples.
    confidence : float
        Of the interval.

    Returns
    -------
    pandas.DataFrame
        One row a pair of RDMs: the descriptors of the RDMs as ``a_…`` and ``b_…``, then similarity, ci_low, ci_high,
        method, n (stimuli).

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, or an RDM is constant.
    """
    import pandas as pd

    compare = _comparator(by)
    if kind is not None:
        a, b = select_kind(a, kind), select_kind(b, kind)
    a, b, left_out = _joined(a, b, join)
    counts = bootstrap_counts(a.n_cond, n_bootstrap, seed)
    value = compare(a.dissimilarities, b.dissimilarities)
    low, high = percentile_interval(_resample(compare, a.dissimilarities, b.dissimilarities, counts), confidence)
    method = describe_method(by, counts, confidence, left_out)
    rows = [
        {
            **{f"a_{name}": text for name, text in _descriptors(a, i).items()},
            **{f"b_{name}": text for name, text in _descriptors(b, j).items()},
            **_values(value[i, j], low[i, j], high[i, j]),
            "method": method,
            "n": a.n_cond,
        }
        for i in range(a.n_rdm)
        for j in range(b.n_rdm)
    ]
    return pd.DataFrame(rows)


def _descriptors(rdms: RDMs, index: int) -> dict[str, Any]:
    """Give what names one RDM; its number when nothing else does."""
    named = {name: column[index] for name, column in rdms.rdm_descriptors.items() if name != "index"}
    return named or {"index": index}


def _values(value: float, low: float, high: float) -> dict[str, float]:
    return {"similarity": float(value), "ci_low": float(low), "ci_high": float(high)}


# ---------------------------------------------------------------------------------------------- noise ceilings


POOLS = {
    "scaled": "RDMs made comparable for the comparator (ranks, z-scores or unit length) before averaging; rsatoolbox",
    "raw": "dissimilarities averaged as they are",
}
"""Name of a way to average subjects' RDMs to what it does."""


def subject_ceilings(vectors: np.ndarray, by: str = "spearman", pool: str = "scaled") -> tuple[np.ndarray, np.ndarray]:
    """Compare each subject's RDM with the pool of the others and with the pool of all.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs of one ROI, at least 2 subjects.
    by : str
        One of `COMPARATORS`.
    pool : str
        One of `POOLS`.

    Returns
    -------
    tuple of ndarray, shape (n_subjects,)
        Lower (others) and upper (all, the subject itself included) bound of each subject.
    """
    compare = _comparator(by)
    if pool not in POOLS:
        raise unknown_name("pool", pool, POOLS)
    scaled = _poolable(vectors, by) if pool == "scaled" else vectors
    others = (scaled.sum(axis=0) - scaled) / (len(scaled) - 1)
    low = [compare(rest[np.newaxis], one[np.newaxis])[0, 0] for rest, one in zip(others, vectors)]
    return np.array(low), compare(vectors, scaled.mean(axis=0, keepdims=True))[:, 0]


def _poolable(vectors: np.ndarray, by: str) -> np.ndarray:
    """Scale RDMs so that their mean is most like all of them (for tau-a nearly so; rsatoolbox does the same)."""
    if by == "cosine":
        return vectors / np.sqrt(np.mean(vectors**2, axis=1, keepdims=True))
    if by == "pearson":
        return (vectors - vectors.mean(axis=1, keepdims=True)) / vectors.std(axis=1, keepdims=True)
    return centered_ranks(vectors)(np.ones((1, vectors.shape[1])))[0]


def describe_ceiling(by: str, n_subjects: int) -> str:
    """Name the noise ceiling's convention, or say why there is none.

    Parameters
    ----------
    by : str
        Comparator.
    n_subjects : int
        How many subjects have this ROI.

    Returns
    -------
    str
        Text for the column ``ceiling``.
    """
    if n_subjects < 2:
        return "undefined: a ceiling over subjects needs at least 2 subjects with this ROI"
    pooled = {"cosine": "unit-length", "pearson": "z-scored"}.get(by, "rank-transformed")
    return (
        f"Nili 2014, {by}: each subject's RDM with the mean {pooled} RDM of the other subjects (low) "
        f"or of all (high), {n_subjects} subjects"
    )


def noise_ceiling(rdms: RDMs, by: str = "spearman", *, pool: str = "scaled") -> tuple[float, float]:
    """Bound what any model can reach in one ROI, given how much the subjects differ.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        One RDM a subject, all of one ROI.
    by : str
        One of `COMPARATORS`.
    pool : str
        One of `POOLS`: how the subjects' RDMs are averaged.

    Returns
    -------
    tuple of float
        Lower bound (each subject with the mean of the others) and upper bound (with the mean of all), averaged over
        subjects; for rank comparisons the mean is of rank-transformed RDMs. NaN with a single subject.

    Notes
    -----
    ``pool="scaled"`` equals ``rsatoolbox.inference.boot_noise_ceiling``. Published ceilings are often of raw means:
    for the 92 images of Cichy et al. EVC is .242/.392 scaled and .239/.386 raw, IT .453/.542 and .449/.535.

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553.
    """
    check_rdms(rdms, "the RDMs of the noise ceiling")
    _refuse_flat(rdms)
    _comparator(by)
    if rdms.n_rdm < 2:
        return float("nan"), float("nan")
    low, high = subject_ceilings(rdms.dissimilarities, by, pool)
    return float(low.mean()), float(high.mean())


# ---------------------------------------------------------------------------------------------- layers and ROIs


def layer_by_roi(
    network: RDMs,
    brain: RDMs,
    *,
    kind: str | None = "RE",
    by: str = "spearman",
    join: str = "exact",
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare every network stage with every ROI, subject by subject and on average, beside the noise ceiling.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi: one RDM a subject and ROI.
    kind : str or None
        Kind of stimuli compared; None takes all stimuli as they are named.
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    n_bootstrap : int
        Resamples of the stimuli, the same for all rows; 0 for no interval.
    seed : int
        Of the resamples.
    confidence : float
        Of the interval.

    Returns
    -------
    pandas.DataFrame
        The table ``layer_roi.csv``: kind, subject, roi, layer, similarity, ci_low, ci_high, ceiling_low,
        ceiling_high, ceiling, method, n. Rows with subject ``mean`` hold the mean over subjects, its interval from
        the same resamples of the stimuli (subjects are not resampled), and the usual group ceiling.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, a stage or a subject's ROI comes twice, or an RDM is constant.
    """
    import pandas as pd

    compare = _comparator(by)
    if kind is not None:
        network, brain = select_kind(network, kind), select_kind(brain, kind)
    network, brain, left_out = _joined(network, brain, join)
    layers = _unique(network, ("stage",))
    _unique(brain, ("subject", "roi"))
    counts = bootstrap_counts(network.n_cond, n_bootstrap, seed)
    method = describe_method(by, counts, confidence, left_out)
    rows = []
    for roi, subjects, vectors in _by_roi(brain):
        value = compare(network.dissimilarities, vectors)
        samples = _resample(compare, network.dissimilarities, vectors, counts)
        low, high = _bounds(vectors, by)
        columns = {
            **{name: (value[:, j], samples[:, :, j], low[j], high[j]) for j, name in enumerate(subjects)},
            "mean": (value.mean(axis=1), samples.mean(axis=2), low.mean(), high.mean()),
        }
        text = describe_ceiling(by, len(subjects))
        for subject, (similarity, drawn, floor, top) in columns.items():
            ends = percentile_interval(drawn, confidence)
            for i, (layer,) in enumerate(layers):
                rows.append(
                    {"kind": kind or "all", "subject": subject, "roi": roi, "layer": layer}
                    | _values(similarity[i], ends[0][i], ends[1][i])
                    | {"ceiling_low": float(floor), "ceiling_high": float(top), "ceiling": text}
                    | {"method": method + "; mean over subjects" * (subject == "mean"), "n": network.n_cond}
                )
    return pd.DataFrame(rows)


def _bounds(vectors: np.ndarray, by: str) -> tuple[np.ndarray, np.ndarray]:
    if len(vectors) < 2:
        return np.array([np.nan]), np.array([np.nan])
    return subject_ceilings(vectors, by)


def _unique(rdms: RDMs, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Give each RDM's labels; they must be there and differ."""
    if lacking := [name for name in names if name not in rdms.rdm_descriptors]:
        raise InputError(
            f"the RDMs have no rdm_descriptors {name_ids(lacking)}; they have {', '.join(rdms.rdm_descriptors)}."
        )
    labels = list(zip(*([str(one) for one in rdms.rdm_descriptors[name]] for name in names)))
    if again := duplicates(" ".join(label) for label in labels):
        raise InputError(f"more than one RDM for {name_ids(again)}; give one RDM for each {' and '.join(names)}.")
    return labels


def _by_roi(brain: RDMs) -> Iterator[tuple[str, list[str], np.ndarray]]:
    rois = np.array([str(one) for one in brain.rdm_descriptors["roi"]])
    subjects = np.array([str(one) for one in brain.rdm_descriptors["subject"]])
    for roi in dict.fromkeys(rois.tolist()):
        yield roi, subjects[rois == roi].tolist(), brain.dissimilarities[rois == roi]
