"""Compare RDMs: between kinds of images, between network and cortex, with intervals over stimuli and noise ceilings.

Every table says in its column ``method`` what was compared and what was resampled. RDMs are joined by stimulus id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.resampling import pair_weights
from neurometamer.rsa.ceilings import describe_ceiling, refuse_flat, subject_ceilings
from neurometamer.rsa.ceilings import noise_ceiling as noise_ceiling
from neurometamer.rsa.comparators import COMPARATORS as COMPARATORS
from neurometamer.rsa.comparators import comparator
from neurometamer.rsa.kind_sessions import without_shared_sessions
from neurometamer.rsa.labels import ALL_KINDS, stimulus_labels
from neurometamer.rsa.partial import partial_spearman
from neurometamer.rsa.permutation import permutation_p, stimulus_orders
from neurometamer.rsa.permuted import permuted_comparison
from neurometamer.rsa.projection import (
    PRODUCT_WEIGHTS,
    LazyWeights,
    Progress,
    Projection,
    describe_interval,
    project,
)
from neurometamer.rsa.rdm import (
    align_rdms,
    check_rdms,
    match_ids,
    place_name,
    select_kind,
    take_conditions,
    take_kind,
)
from neurometamer.rsa.resamples import MIN_IMAGES
from neurometamer.rsa.sampling import sample_images
from neurometamer.store import InputError, duplicates, name_ids

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


# ------------------------------------------------------------------------------------------------- resampling


def resample_comparison(
    compare: Callable[..., np.ndarray], a: np.ndarray, b: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Compare in every resample.

    Parameters
    ----------
    compare : callable
        One of `COMPARATORS`.
    a, b : ndarray, shape (n_a, n_pairs) and (n_b, n_pairs)
        Condensed RDMs of the same stimuli.
    counts : ndarray, shape (n_resamples, n)
        How often each stimulus was drawn.

    Returns
    -------
    ndarray, shape (n_resamples, n_a, n_b)
        NaN where a resample holds fewer than 3 distinct images.
    """
    if not len(counts):
        return np.full((0, len(a), len(b)), np.nan)
    weights = LazyWeights((len(counts), a.shape[1]), lambda rows: pair_weights(counts[rows]))
    samples = compare(a, b, weights)
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


def join_rdms(a: RDMs, b: RDMs, join: str) -> tuple[RDMs, RDMs, str]:
    """Check two sets of RDMs and put both into the order of their ids.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        In any order.
    join : str
        See `align_rdms`.

    Returns
    -------
    a, b : rsatoolbox.rdm.RDMs
        Stimuli sorted by id.
    left_out : str
        Ids that only one side held, between commas.

    Raises
    ------
    InputError
        When ids do not match, or an RDM is constant.
    """
    check_rdms(a, "the first RDMs")
    check_rdms(b, "the second RDMs")
    first, second = align_rdms(_canonical(a), b, join=join)
    refuse_flat(first)
    refuse_flat(second)
    return first, second, first.descriptors.get("left_out", "") if join == "inner" else ""


# ----------------------------------------------------------------------------------------------------- tables


@checked
def compare_rdms(
    a: RDMs,
    b: RDMs,
    *,
    by: str = "spearman",
    kind: str | None = None,
    join: str = "exact",
    controls: RDMs | None = None,
    n_bootstrap: int = 1000,
    n_permutations: int = 0,
    blocks: Mapping[str, str] | None = None,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare every RDM of one set with every RDM of another, joined by stimulus id.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        With ids in ``pattern_descriptors["condition"]``, in any order.
    by : str
        One of `COMPARATORS`.
    kind : str or None
        Kind of stimuli compared, joined by photograph. None takes all stimuli as they are named, if they are of one
        kind; ``"all"`` takes them whatever their kinds (`take_kind`).
    join : str
        ``"exact"``: both must hold the same ids; ``"inner"``: the shared ids are used and the others named in
        ``method``.
    controls : rsatoolbox.rdm.RDMs, optional
        RDMs whose ranks are regressed out of both sides (partial Spearman, see `control_rdms`); they hold all stimuli
        that are compared, and may hold more.
    n_bootstrap : int
        Draws for the noise of pairs, at most 400 of them (`project`); 0 for no interval.
    n_permutations : int
        Permutations of the stimulus labels of the first RDMs, the same for all rows; 0 for no p. With controls there
        is no p (Notes).
    blocks : mapping of str to str, optional
        Stimulus → session or class: labels change places within these only (`session_labels`, `class_labels`). By
        default within sessions, where both sets know sessions that differ between stimuli, else freely.
    classes : str
        One of `CLASS_CLAIMS`: where the RDMs know classes (pattern descriptor category), intervals are about other
        stimuli of these classes (``"fixed"``) or about as many classes like these (``"random"``, from 10 classes on).
    seed : int
        Seed of resamples and permutations.
    confidence : float
        Share of intervals that hold the similarity of many other stimuli, in (0, 1).
    progress : callable, optional
        Hears (comparisons done, comparisons in all) while stimuli are resampled.

    Returns
    -------
    pandas.DataFrame
        One row a pair of RDMs: the descriptors of the RDMs as ``a_…`` and ``b_…``, then similarity, ci_low, ci_high,
        p (one-tailed: more alike than with permuted labels), p_method, method, n (stimuli).

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, an RDM is constant, kinds would be mixed, a control follows from
        others, or blocks leave nothing to permute.

    Notes
    -----
    The interval says what other stimuli would change (`neurometamer.rsa.projection`); images of one photograph, and
    classes if they are random, are drawn together. Simulated: 3 layers and 3 subjects of 100 voxels with correlated,
    unequal noise; 10, 20 and 40 photographs; no, some and much similarity; Gaussian and heavy-tailed photographs; 5
    fixed, 10 and 20 random classes (``benchmarks/LEVELS.md``).

    A session's offset makes two unrelated RDMs of brains alike. Where both sets know sessions that differ, the mean of
    each pair of sessions is taken off the dissimilarities before they are compared.

    With controls there is an interval of the partial correlation and no p. Two RDMs made of the control's dimensions
    in other mixtures stay alike after the control's ranks are regressed out: no permutation makes that the null, and
    p <= .05 came in 32 to 100 % of 400 simulated studies in which nothing but these dimensions was shared. For the same
    reason an interval above 0 does not say that they share anything else.
    """
    import pandas as pd

    compare = comparator(by)
    a, b, left_out = join_rdms(take_kind(a, kind), take_kind(b, kind), join)
    given, names = (None, []) if controls is None else _given(controls, a, kind, by)
    if n_permutations < 0:
        raise InputError(f"n_permutations must be 0 or more, not {n_permutations}.")
    shared = without_shared_sessions(a, b, by)
    a, b = shared.a, shared.b
    nulls, p_text = None, "none: no permutations"
    if n_permutations and given is None:
        ids = [str(one) for one in a.pattern_descriptors["condition"]]
        orders, p_text = stimulus_orders(ids, n_permutations, seed, shared.blocks if blocks is None else blocks)
        nulls = permuted_comparison(a.dissimilarities, b.dissimilarities, orders, by)
    if given is not None:
        p_text = NO_PARTIAL_P
        compare, by = partial(partial_spearman, controls=given, names=names), f"partial {by} given {', '.join(names)}"
    of_pairs = by not in PRODUCT_WEIGHTS
    sampling = replace(sample_images(stimulus_labels(a, b), classes), lost=shared.lost)
    n_bootstrap *= not shared.reason
    found = project(_between(compare, a, b), sampling, n_bootstrap, seed, of_pairs=of_pairs, progress=progress)
    value = found.values
    low, high = found.interval(confidence)
    method = _method(by, describe_interval(sampling, n_bootstrap, confidence, of_pairs=of_pairs), left_out)
    method += "".join(f"; {note}" for note in (shared.text, shared.reason) if note)
    p = np.full(value.shape, np.nan) if nulls is None else permutation_p(value, nulls)
    rows = [
        {
            **{f"a_{name}": text for name, text in _descriptors(a, i).items()},
            **{f"b_{name}": text for name, text in _descriptors(b, j).items()},
            **similarity_values(value[i, j], low[i, j], high[i, j]),
            "p": float(p[i, j]),
            "p_method": p_text,
            "method": method,
            "n": a.n_cond,
        }
        for i in range(a.n_rdm)
        for j in range(b.n_rdm)
    ]
    return pd.DataFrame(rows)


NO_PARTIAL_P = (
    "none: with controls there is no p; RDMs that share the controls' dimensions stay alike after the controls' ranks "
    "are regressed out, and p would call that more than the controls"
)
"""In the column ``p_method`` of partial correlations."""


def _method(by: str, interval: str, left_out: str) -> str:
    name = "kendall tau-a" if by == "kendall" else by
    text = f"{name}; {interval}"
    return text + (f"; held by one side only and left out: {name_ids(left_out.split(', '))}" if left_out else "")


def _between(compare: Callable[..., np.ndarray], a: RDMs, b: RDMs) -> Callable[..., np.ndarray]:
    """Let a comparator compare all RDMs of two sets in given weights of pairs."""

    def _scores(weights: LazyWeights | None) -> np.ndarray:
        return compare(a.dissimilarities, b.dissimilarities, weights)

    return _scores


def _given(controls: RDMs, a: RDMs, kind: str | None, by: str) -> tuple[np.ndarray, list[str]]:
    """Give control RDMs over the pairs of `a`, and their names."""
    if by != "spearman":
        raise InputError(f"controls are regressed out of ranks (by='spearman'), not for by='{by}'.")
    check_rdms(controls, "the control RDMs")
    controls = controls if kind in (None, ALL_KINDS) else select_kind(controls, kind)
    wanted = {str(one) for one in a.pattern_descriptors["condition"]}
    ids = [str(one) for one in controls.pattern_descriptors["condition"]]
    shared = take_conditions(controls, [i for i, one in enumerate(ids) if one in wanted])
    rows = match_ids(shared.pattern_descriptors["condition"], a.pattern_descriptors["condition"], *_SIDES)
    known = controls.rdm_descriptors.get("control")
    names = [str(known[i]) if known is not None else place_name(controls, i) for i in range(controls.n_rdm)]
    return take_conditions(shared, rows).dissimilarities, names


_SIDES = ("the control RDMs", "the RDMs compared")


def _descriptors(rdms: RDMs, index: int) -> dict[str, Any]:
    """Give what names one RDM; its number when nothing else does."""
    named = {name: column[index] for name, column in rdms.rdm_descriptors.items() if name != "index"}
    return named or {"index": index}


def similarity_values(value: float, low: float, high: float) -> dict[str, float]:
    """Name a similarity and its interval as all tables do.

    Parameters
    ----------
    value, low, high : float
        Similarity and the ends of its interval.

    Returns
    -------
    dict of str to float
        similarity, ci_low, ci_high.
    """
    return {"similarity": float(value), "ci_low": float(low), "ci_high": float(high)}


# ---------------------------------------------------------------------------------------------- layers and ROIs


@checked
def layer_by_roi(
    network: RDMs,
    brain: RDMs,
    *,
    kind: str | None = None,
    by: str = "spearman",
    join: str = "exact",
    n_bootstrap: int = 1000,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare every network stage with every ROI, subject by subject and on average, beside the noise ceiling.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi: one RDM a subject and ROI.
    kind : str or None
        Kind of stimuli compared, joined by photograph. None takes all stimuli as they are named, if they are of one
        kind; ``"all"`` takes them whatever their kinds (`take_kind`).
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    n_bootstrap : int
        Draws for the noise of pairs, at most 400 of them (`project`); 0 for no interval.
    classes : str
        One of `CLASS_CLAIMS`: where the RDMs know classes (pattern descriptor category), intervals are about other
        stimuli of these classes (``"fixed"``) or about as many classes like these (``"random"``, from 10 classes on).
    seed : int
        Seed of the draws.
    confidence : float
        Share of intervals that hold the similarity of many other stimuli, in (0, 1); see `compare_rdms`.
    progress : callable, optional
        Hears (comparisons done, comparisons in all) while stimuli are resampled.

    Returns
    -------
    pandas.DataFrame
        The table ``layer_roi.csv``: kind, subject, roi, layer, similarity, ci_low, ci_high, ceiling_low,
        ceiling_high, ceiling, method, n. Rows with subject ``mean`` hold the mean over subjects, its interval of
        the same stimuli (subjects are not resampled), and the usual group ceiling.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, a stage or a subject's ROI comes twice, or an RDM is constant.
    """
    import pandas as pd

    compare = comparator(by)
    network, brain, left_out = join_rdms(take_kind(network, kind), take_kind(brain, kind), join)
    layers = _unique(network, ("stage",))
    _unique(brain, ("subject", "roi"))
    of_pairs, sampling = by not in PRODUCT_WEIGHTS, sample_images(stimulus_labels(network, brain), classes)
    scores = _between(compare, network, brain)
    found = project(scores, sampling, n_bootstrap, seed, of_pairs=of_pairs, progress=progress)
    interval = describe_interval(sampling, n_bootstrap, confidence, of_pairs=of_pairs)
    about = {"kind": kind or ALL_KINDS, "n": network.n_cond, "method": _method(by, interval, left_out)}
    rows = []
    for roi, subjects, places in _by_roi(brain):
        low, high = _bounds(brain.dissimilarities[places], by)
        single = found.take(places)
        told = about | {"roi": roi, "ceiling": describe_ceiling(by, len(subjects))}
        over = {**told, "method": f"{about['method']}; mean over subjects"}
        rows += _layer_rows(layers, subjects, single, confidence, told, low, high)
        rows += _layer_rows(layers, ["mean"], single.mean(), confidence, over, low.mean(), high.mean())
    return pd.DataFrame(rows)[list(LAYER_COLUMNS)]


LAYER_COLUMNS = (
    "kind",
    "subject",
    "roi",
    "layer",
    "similarity",
    "ci_low",
    "ci_high",
    "ceiling_low",
    "ceiling_high",
    "ceiling",
    "method",
    "n",
)
"""Of the table ``layer_roi.csv``."""


def _layer_rows(
    layers: Sequence[tuple[str, ...]],
    subjects: Sequence[str],
    found: Projection,
    confidence: float,
    told: Mapping[str, Any],
    floor: np.ndarray,
    top: np.ndarray,
) -> list[dict[str, Any]]:
    """Tell the similarity of each subject's region with each layer."""
    ends = found.interval(confidence)
    floor, top = (np.broadcast_to(bound, len(subjects)) for bound in (floor, top))
    return [
        {**told, "subject": subject, "layer": layer}
        | similarity_values(found.values[i, j], ends[0][i, j], ends[1][i, j])
        | {"ceiling_low": float(floor[j]), "ceiling_high": float(top[j])}
        for j, subject in enumerate(subjects)
        for i, (layer,) in enumerate(layers)
    ]


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
    """Give each region, its subjects, and where its RDMs are."""
    rois = np.array([str(one) for one in brain.rdm_descriptors["roi"]])
    subjects = np.array([str(one) for one in brain.rdm_descriptors["subject"]])
    for roi in dict.fromkeys(rois.tolist()):
        yield roi, subjects[rois == roi].tolist(), np.flatnonzero(rois == roi)
