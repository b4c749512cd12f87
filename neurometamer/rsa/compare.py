"""Compare RDMs of networks and of brains, with intervals over stimuli.

Every table says in its column ``method`` what was compared and what was resampled. RDMs are joined
by stimulus id.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.rsa.bootstrap import MIN_IMAGES
from neurometamer.rsa.comparators.ranks import (
    centered_ranks,
    check_sides,
    over_blocks,
    scaled_once,
)
from neurometamer.rsa.comparators.table import (
    COMPARATORS,
    comparator_name,
    permuted_comparison,
)
from neurometamer.rsa.compute import (
    check_rdms,
    match_ids,
    representation_name,
    select_image_type,
    take_conditions,
    take_image_type,
)
from neurometamer.rsa.rdms import (
    ALL_IMAGE_TYPES,
    condition_ids,
    describe_left_out,
    join_rdms,
    name_conditions,
    stimulus_labels,
)
from neurometamer.rsa.sampling import Progress, describe_interval, project, sample_images
from neurometamer.rsa.sessions import without_shared_sessions
from neurometamer.stats.resampling import permutation_p, stimulus_orders
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


def describe_method(
    comparator: str, counts: np.ndarray, confidence: float, left_out: Sequence[str] = ()
) -> str:
    """Describe in words what was compared and what was resampled.

    Parameters
    ----------
    comparator : str
        One of `COMPARATORS`.
    counts : ndarray, shape (n_resamples, n)
        Number of copies of each stimulus (`bootstrap_counts`).
    confidence : float
        Share of the resamples inside the interval, in (0, 1).
    left_out : sequence of str
        Ids that only one side held.

    Returns
    -------
    str
        Text for the column ``method``.
    """
    n_resamples, n = counts.shape
    text = f"{comparator_name(comparator)}; no interval"
    if n_resamples:
        text = (
            f"{comparator_name(comparator)}; {confidence:.0%} percentile bootstrap over {n} "
            "stimuli, "
            f"{n_resamples} resamples, same-image pairs dropped"
        )
        n_images = (counts > 0).sum(axis=1)
        undefined = int((n_images < MIN_IMAGES).sum())
        if undefined:
            text += f", {undefined} resamples of fewer than {MIN_IMAGES} images left out"
    return text + describe_left_out(left_out)


# ------------------------------------------------------------------------------------------- tables


@short_repr
@dataclass(frozen=True, kw_only=True)
class ComparisonOptions:
    """Options of `compare_rdms`: resamples and permutations.

    Parameters
    ----------
    n_resamples : int
        Draws for the noise of pairs, at most 400 of them (`project`); 0 for no interval.
    n_permutations : int
        Permutations of the stimulus labels of the first RDMs, the same for all rows; 0 for no p.
        With controls there is no p (see `compare_rdms`).
    classes : str
        One of `CLASS_CLAIMS`: where the RDMs know classes (pattern descriptor category), intervals
        are about other stimuli of these classes (``"fixed"``) or about as many classes like these
        (``"random"``, from 10 classes on).
    seed : int
        Seed of resamples and permutations.
    confidence : float
        Share of intervals that hold the similarity of many other stimuli, in (0, 1).

    Raises
    ------
    InputError
        For a field of another type, or a number out of range.

    Examples
    --------
    >>> ComparisonOptions(n_permutations=999)
    ComparisonOptions(n_permutations=999)
    """

    n_resamples: int = 1000
    n_permutations: int = 0
    classes: str = "fixed"
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_fields(self)
        if self.n_permutations < 0:
            raise InputError(f"n_permutations must be 0 or more, not {self.n_permutations}.")
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence must lie between 0 and 1, not {self.confidence}.")


@checked
def compare_rdms(
    a: RDMs,
    b: RDMs,
    *,
    comparator: str = "spearman",
    image_type: str | None = None,
    join: str = "exact",
    descriptor: str = "condition",
    controls: RDMs | None = None,
    blocks: Mapping[str, str] | None = None,
    options: ComparisonOptions | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Compare every RDM of one set with every RDM of another, joined by stimulus id.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        RDMs with ids in ``pattern_descriptors["condition"]``, in any order.
    comparator : str
        One of `COMPARATORS`.
    image_type : str or None
        Image type compared, joined by photograph. By default all stimuli as they are named, where
        they are of one type; ``"all"`` takes them whatever their types (`take_image_type`).
    join : {"exact", "inner"}
        ``"exact"``: both must hold the same ids; ``"inner"``: the shared ids are used and the
        others listed in the column ``left_out``, and named in ``method``.
    descriptor : str
        Pattern descriptor that holds the ids. Where only one side has it, those of the other stand
        under ``"condition"``.
    controls : rsatoolbox.rdm.RDMs, optional
        RDMs whose ranks are regressed out of both sides (partial Spearman, see `control_rdms`);
        they hold all stimuli that are compared, and may hold more.
    blocks : mapping of str to str, optional
        Stimulus → session or class: labels change places within these only (`session_labels`,
        `class_labels`). By default within sessions, where both sets know sessions that differ
        between stimuli, else freely.
    options : ComparisonOptions, optional
        Resamples and permutations.
    progress : callable, optional
        Receives (comparisons done, comparisons in all) while stimuli are resampled.
    **settings : object
        Fields of `ComparisonOptions`, instead of or on top of `options`.

    Returns
    -------
    pandas.DataFrame
        One row a pair of RDMs: the descriptors of the RDMs as ``a_…`` and ``b_…``, then similarity,
        ci_low, ci_high, p (one-tailed: more alike than with permuted labels), p_method, method, n
        (stimuli); with ``join="inner"`` also left_out, the list of ids that one side held.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, an RDM is constant, image types would be mixed, a
        control follows from others, or blocks leave nothing to permute.

    Notes
    -----
    The interval says what other stimuli would change (`neurometamer.rsa.jackknife`); images of one
    photograph, and classes if they are random, are drawn together. Simulated: 3 layers and 3
    subjects of 100 voxels with correlated, unequal noise; 10, 20 and 40 photographs; no, some and
    much similarity; Gaussian and heavy-tailed photographs; 5 fixed, 10 and 20 random classes
    (``benchmarks/LEVELS.md``).

    A session's offset makes two unrelated RDMs of brains alike. Where both sets know sessions that
    differ, the mean of each pair of sessions is taken off the dissimilarities before they are
    compared.

    With controls there is an interval of the partial correlation and no p. Two RDMs made of the
    control's dimensions in other mixtures stay alike after the control's ranks are regressed out:
    no permutation makes that the null, and p <= .05 came in 32 to 100 % of 400 simulated studies in
    which nothing but these dimensions was shared. For the same reason an interval above 0 does not
    say that they share anything else.

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random, ids = np.random.default_rng(0), [f"im{i}" for i in range(8)]
    >>> vectors = random.random((2, 28))
    >>> network = label_rdms(
    ...     vectors, conditions=ids, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    ... )
    >>> places = {"subject": ["S1", "S2"], "roi": ["V1", "V1"]}
    >>> responses = vectors[:1] + 0.5 * random.random((2, vectors.shape[1]))
    >>> brain = label_rdms(responses, conditions=ids, rdm_descriptors=places, measure="test")
    >>> table = compare_rdms(network, brain, n_resamples=20, n_permutations=99)
    >>> table = table[table["b_subject"] == "S1"]
    >>> table[["a_stage", "similarity", "p"]].round(2).values.tolist()
    [['conv1', 0.91, 0.01], ['fc', 0.2, 0.15]]
    """
    import pandas as pd

    chosen = _chosen(options, settings)
    comparator = comparator_name(comparator)
    entry = COMPARATORS[comparator]
    a, b = name_conditions([a, b], descriptor)
    a, b, left_out = join_rdms(take_image_type(a, image_type), take_image_type(b, image_type), join)
    compare: Callable[..., np.ndarray] = entry
    words = comparator
    if controls is not None:
        (controls,) = name_conditions([controls], descriptor)
        vectors, names = _control_vectors(controls, a, image_type, comparator)
        compare = partial(partial_spearman, controls=vectors, names=names)
        words = f"partial {comparator} given {', '.join(names)}"
    shared = without_shared_sessions(a, b, comparator)
    a, b = shared.a, shared.b
    nulls = None
    p_text = "none: no permutations" if controls is None else NO_PARTIAL_P
    if chosen.n_permutations and controls is None:
        if blocks is None:
            blocks = shared.blocks
        orders, p_text = stimulus_orders(
            condition_ids(a), chosen.n_permutations, chosen.seed, blocks
        )
        nulls = permuted_comparison(a.dissimilarities, b.dissimilarities, orders, comparator)
    sampling = sample_images(stimulus_labels(a, b), chosen.classes)
    sampling = replace(sampling, lost=shared.lost)
    n_resamples = 0 if shared.reason else chosen.n_resamples
    projection = project(
        partial(compare, a.dissimilarities, b.dissimilarities),
        sampling,
        n_resamples,
        chosen.seed,
        of_pairs=entry.weighs_pairs,
        progress=progress,
    )
    interval = describe_interval(
        sampling, n_resamples, chosen.confidence, of_pairs=entry.weighs_pairs
    )
    method = f"{words}; {interval}{describe_left_out(left_out)}"
    for note in (shared.text, shared.reason):
        if note:
            method += f"; {note}"
    value = projection.values
    low, high = projection.interval(chosen.confidence)
    p = np.full(value.shape, np.nan)
    if nulls is not None:
        p = permutation_p(value, nulls)
    rows = []
    for i in range(a.n_rdm):
        for j in range(b.n_rdm):
            row = _descriptors(a, i, "a") | _descriptors(b, j, "b")
            row |= similarity_values(value[i, j], low[i, j], high[i, j])
            row |= {"p": float(p[i, j]), "p_method": p_text, "method": method, "n": a.n_cond}
            if join == "inner":
                row["left_out"] = left_out
            rows.append(row)
    return pd.DataFrame(rows)


def _chosen(options: ComparisonOptions | None, settings: Mapping[str, Any]) -> ComparisonOptions:
    known = [field.name for field in fields(ComparisonOptions)]
    for name in settings:
        if name not in known:
            parameters = list(inspect.signature(compare_rdms).parameters)
            parameters.remove("settings")
            raise unknown_name(
                "argument of compare_rdms",
                name,
                [*parameters, *known],
            )
    options = options or ComparisonOptions()
    return replace(options, **settings)


NO_PARTIAL_P = (
    "none: with controls there is no p; RDMs that share the controls' dimensions stay alike after "
    "the controls' ranks are regressed out, and p would call that more than the controls"
)
"""In the column ``p_method`` of partial correlations."""


def _control_vectors(
    controls: RDMs, a: RDMs, image_type: str | None, comparator: str
) -> tuple[np.ndarray, list[str]]:
    """Give control RDMs over the pairs of `a`, and their names."""
    if comparator != "spearman":
        raise InputError(
            f"controls are regressed out of ranks (comparator='spearman'), not for "
            f"comparator='{comparator}'; give comparator='spearman', or no controls."
        )
    check_rdms(controls, "the control RDMs")
    if image_type not in (None, ALL_IMAGE_TYPES):
        controls = select_image_type(controls, image_type)
    wanted = condition_ids(a)
    compared = set(wanted)
    rows = [i for i, name in enumerate(condition_ids(controls)) if name in compared]
    shared = take_conditions(controls, rows)
    order = match_ids(condition_ids(shared), wanted, "the control RDMs", "the RDMs compared")
    if "control" in controls.rdm_descriptors:
        names = [str(name) for name in controls.rdm_descriptors["control"]]
    else:
        names = [representation_name(controls, i) for i in range(controls.n_rdm)]
    return take_conditions(shared, order).dissimilarities, names


def _descriptors(rdms: RDMs, index: int, side: str) -> dict[str, Any]:
    """Give the columns that name one RDM; its number when nothing else does."""
    columns = {}
    for name, values in rdms.rdm_descriptors.items():
        if name != "index":
            columns[f"{side}_{name}"] = values[index]
    if not columns:
        columns[f"{side}_index"] = index
    return columns


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
    return {
        "similarity": float(value),
        "ci_low": float(low),
        "ci_high": float(high),
    }


# ----------------------------------------------------------------------------- partial correlation

COLLINEAR = 1e-8
"""Share of a control's variance that other controls leave, below which it adds only rounding."""


@checked
def partial_spearman(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    controls: np.ndarray,
    names: Sequence[str] | None = None,
) -> np.ndarray:
    """Correlate ranks of dissimilarities after the ranks of control RDMs are regressed out.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair. A control that is constant in a resample has no part
        in it.
    controls : ndarray, shape (n_controls, n_pairs)
        Condensed control RDMs over the same pairs; none gives Spearman's correlation.
    names : sequence of str, optional
        Names of the controls in messages; their numbers by default.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where the controls leave nothing of one side.

    Raises
    ------
    InputError
        When controls are not over the same pairs, or one is constant or follows from the others by
        its ranks (named).

    Notes
    -----
    With Gram matrices S of centered ranks: S_ab - S_ac S_cc^-1 S_cb, divided by the same of a and
    of b with themselves.

    Examples
    --------
    >>> a, b, control = np.random.default_rng(0).random((3, 1, 15))
    >>> partial_spearman(a, b, controls=control).round(3).tolist()
    [[-0.265]]
    """
    controls = np.asarray(controls, dtype=np.float64)
    check_sides(a, b, weights)
    if controls.ndim != 2 or controls.shape[1] != a.shape[1]:
        raise InputError(
            f"controls have the shape {controls.shape}; they need (n_controls, {a.shape[1]})."
        )
    if len(controls):
        check_sides(a, controls, names="a and controls")
    labels = range(len(controls)) if names is None else names
    _check_controls(controls, [str(label) for label in labels])
    n_a = len(a)
    n = n_a + len(b)

    def _combine(ac: np.ndarray, y: np.ndarray, copies: np.ndarray) -> np.ndarray:
        parts = [ac[:, :n_a], y, ac[:, n_a:]]
        rows = np.concatenate(parts, axis=1)
        weighed = rows * copies[:, np.newaxis]
        gram = weighed @ rows.transpose(0, 2, 1)
        lengths = np.sqrt(np.einsum("mii->mi", gram))
        scale = np.zeros_like(lengths)
        np.divide(1, lengths, out=scale, where=lengths > 0)
        gram = gram * scale[:, :, np.newaxis]
        gram *= scale[:, np.newaxis]
        of_controls = gram[:, n:, n:]
        inverse = np.linalg.pinv(of_controls, rcond=1e-10, hermitian=True)
        across = gram[:, :n, n:]
        explained = across @ inverse @ across.transpose(0, 2, 1)
        rest = gram[:, :n, :n] - explained
        left = np.einsum("mii->mi", rest)
        left = np.where(left > 1e-12, left, np.nan)
        left = left[:, :, np.newaxis] * left[:, np.newaxis]
        correlations = rest / np.sqrt(left)
        return correlations[:, :n_a, n_a:]

    both = np.concatenate([a, controls])
    n_rdms = 3 * (n + len(controls))
    return over_blocks(
        _combine,
        centered_ranks(both),
        centered_ranks(b),
        n_rdms,
        a.shape[1],
        weights,
    )


def _check_controls(controls: np.ndarray, names: Sequence[str]) -> None:
    """Refuse controls that are constant or determined by those before them."""
    ranks = scaled_once(centered_ranks, controls)
    flat = [name for name, row in zip(names, ranks) if not row.any()]
    if flat:
        raise InputError(
            f"all dissimilarities are equal in control {name_ids(flat)}; leave it out."
        )
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    basis = np.empty((0, controls.shape[1]))
    for k, unit in enumerate(ranks / lengths):
        rest = unit
        for _ in range(2):  # twice is exact to rounding
            shares = basis @ rest
            rest = rest - basis.T @ shares
        if rest @ rest < COLLINEAR:
            earlier = ranks[:k] / lengths[:k]
            shares = np.linalg.lstsq(earlier.T, unit, rcond=None)[0]
            parents = [name for name, share in zip(names, shares) if abs(share) > 1e-4]
            raise InputError(
                f"control {names[k]} follows from {name_ids(parents)} by its ranks; leave one of "
                "them out."
            )
        rest = rest / np.linalg.norm(rest)
        basis = np.vstack([basis, rest])
