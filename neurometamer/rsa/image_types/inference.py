"""Inference about image types: intervals, permutation p, combined p, families of tests.

Similarities are tested against 0 by permuting the labels of the first kind; their difference by its
own resamples, since permuted labels make both similarities 0 and say nothing of two that are alike
and not 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.provenance import generator
from neurometamer.rsa.comparators.table import comparator
from neurometamer.rsa.compute import place_name, select_kind
from neurometamer.rsa.image_types.ceilings import NOT_SPEARMAN, Bounds, bounds_of, pair_bound
from neurometamer.rsa.image_types.families import Draws, with_families
from neurometamer.rsa.image_types.nulls import Blocks, null_orders, null_scores
from neurometamer.rsa.image_types.options import ImageTypeOptions, Pair, subjects_needed
from neurometamer.rsa.image_types.similarity import (
    class_descriptor,
    kind_projection,
    kind_samples,
    name_place,
    shared_references,
)
from neurometamer.rsa.jackknife import Projection
from neurometamer.rsa.rdms import describe_left_out
from neurometamer.rsa.sampling import SIMULATED_FROM, Sampling, sample_photographs
from neurometamer.rsa.sessions import Removed, photograph_sessions, session_maps, without_sessions
from neurometamer.rsa.subsample import (
    SUBSAMPLE_WARNING,
    UnitValues,
    paired_scores,
    rows_of,
    subsample_rdms,
)
from neurometamer.stats.families import COMBINATIONS, combine_p, joint_p
from neurometamer.stats.permutation import permutation_p, permute_pairs
from neurometamer.stats.resampling import percentile_interval

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

MEAN = "mean"
"""In the column ``subject``: the mean over subjects, and their combined p."""

MOST = {"similarity": 1, "difference": 2}
"""No interval goes beyond what is possible: scaled resamples may."""

OVER_SUBJECTS = ("subjects", "dual")
"""Intervals that resample subjects: they are of the mean over subjects."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Comparison:
    """Result of one pair of kinds, or of the difference of two, in each RDM.

    ``values`` (n_rdms,), ``samples`` (n_resamples, n_rdms) or the ``projection`` that they are
    drawn from, ``nulls`` (n_permutations, n_rdms) or None, and which orders were permuted in each
    RDM.
    """

    name: str
    quantity: str
    values: np.ndarray
    samples: np.ndarray
    projection: Projection | None
    nulls: np.ndarray | None = None
    null_text: str = ""
    orders: tuple[int, ...] = ()
    pair: Pair | None = None

    def resampled(self, rows: Sequence[int], chosen: ImageTypeOptions) -> np.ndarray | None:
        """Resample the mean of some RDMs: (n_resamples,), or None where nothing is resampled."""
        index = list(rows)
        if self.projection is not None:
            mean = self.projection.take(index).mean()
            return mean.samples(chosen.n_resamples, chosen.seed, chosen.confidence)[:, 0]
        return self.samples[:, index].mean(axis=1) if len(self.samples) else None

    def draws(self, index: list[int], chosen: ImageTypeOptions, is_resampled: bool) -> Draws:
        """Take what stands behind the row of some RDMs."""
        return Draws(
            values=self.values[index],
            nulls=None if self.nulls is None else self.nulls[:, index],
            orders=tuple(self.orders[i] for i in index if self.orders),
            resamples=self.resampled(index, chosen) if is_resampled else None,
        )


# ---------------------------------------------------------------------------------------- the table


@checked
def compare_image_types(
    rdms: RDMs,
    *,
    units: Iterable[UnitValues] | None = None,
    blocks: Blocks | None = None,
    categories: Mapping[str, str] | None = None,
    sessions: Blocks | None = None,
    reliability: pd.DataFrame | None = None,
    options: ImageTypeOptions | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Test RE-AN, RE-AI and their difference in each layer or ROI, and over subjects.

    Rows are one layer, or one ROI and subject; further rows are the mean over subjects.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM, with ``pattern_descriptors`` kind and reference_id.
    units : iterable of UnitValues, optional
        Responses behind the RDMs (`pattern_units`, `activation_units`); needed for
        ``interval="subsample"``.
    blocks : mapping, optional
        Photograph → session or class (`session_labels`, `class_labels`), or subject → such a
        mapping; needed for ``null="session"`` and ``"class"``.
    categories : mapping of str to str, optional
        Photograph → class, for the claim about classes; by default what the RDMs know (pattern
        descriptor ``category``), or `blocks` of ``null="class"``.
    sessions : mapping, optional
        Photograph → session, or subject → such a mapping; by default what the RDMs know (pattern
        descriptor ``session``), or `blocks` of ``null="session"``.
    reliability : pandas.DataFrame, optional
        Table of `kind_reliability`: reliability of each kind's RDM, for the ceiling.
    options : ImageTypeOptions, optional
        Everything else.
    **settings : object
        Fields of `ImageTypeOptions`, instead of or on top of `options`.

    Returns
    -------
    pandas.DataFrame
        The table ``image_types.csv``, one row a layer or ROI, subject and quantity: system, subject
        (``mean``: over subjects), place, pair, quantity (``similarity`` or ``difference``), value,
        ci_low, ci_high, interval, p, p_corrected, correction, family, p_method, expected, follows,
        answer, method, n (photographs), n_subjects. Similarities are tested one-sided (above 0),
        the difference two-sided. ``follows`` names what the difference follows, one of `FOLLOWS`
        (empty for similarities); ``answer`` says the same in words.

    Raises
    ------
    InputError
        For an unknown kind or name, photographs without a counterpart, fewer than 4 photographs,
        too few subjects for the interval, or labels that leave nothing to permute. Ids are named.

    Notes
    -----
    With three subjects a bootstrap over subjects cannot hold what it claims: at least
    `subjects_needed` are asked for. Photographs are resampled and permuted within each subject
    instead, and the p combined; by default jointly, since subjects who saw the same photographs are
    not independent (`combine_p`).

    ``interval="projection"`` covered 92 to 98 % in 400 simulated studies each of 10, 20 and 40
    photographs (RE-AN, RE-AI and their difference, of a subject and of the mean of three):
    independent photographs, steep spectra, heavy tails, noise that differs between voxels and
    images, 5 fixed classes; the numbers of all generators, classes and sessions among them, are in
    ``benchmarks/CALIBRATION.md``. The usual bootstrap over photographs, ``"stimuli"``, is safe but
    wide: it covered 98 to 100 %, with up to 1.8 times the width that is needed.

    Where classes of photographs are known an interval is about other photographs of these classes
    (``classes="fixed"``) or about as many classes like these (``"random"``, from 10 classes on);
    ``method`` says which.

    A session's offset makes two unrelated RDMs alike. Where the RDMs know sessions that differ
    between photographs the mean of each pair of sessions is taken off the dissimilarities first,
    and labels change places within sessions (``null="auto"``). Classes that both RDMs show make
    them alike too: ``null="class"`` asks for more than that.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, Representational Similarity Analysis; Schütt
    et al. (2023), eLife 12:e82566 (bootstraps).

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer import compute_rdms
    >>> ids = [f"{kind}{i}" for kind in ("RE", "AN", "AI") for i in range(6)]
    >>> photographs = [f"RE{i}" for i in range(6)] * 3
    >>> kinds = [name[:2] for name in ids]
    >>> table = pd.DataFrame({"id": ids, "kind": kinds, "reference_id": photographs})
    >>> random = np.random.default_rng(0)
    >>> values = random.normal(size=(18, 20))
    >>> values[12:] = values[:6] + 0.1 * random.normal(size=(6, 20))  # AI resembles RE
    >>> rdms = compute_rdms(values, table=table)
    >>> results = compare_image_types(rdms, n_permutations=99, n_resamples=50)
    >>> results[["pair", "value", "n"]].round(1)
                    pair  value  n
    0              RE-AN    0.1  6
    1              RE-AI    1.0  6
    2  RE-AI minus RE-AN    0.9  6
    """
    import pandas as pd

    chosen = replace(options or ImageTypeOptions(), **settings)
    left_out: list[str] = []
    if chosen.join == "inner":
        rdms, left_out = shared_references(rdms, dict.fromkeys(chosen.kinds))
    groups = _groups(rdms)
    _check_subjects(rdms, groups, chosen)
    context = _context(rdms, chosen, blocks, categories, sessions)
    rdms = context.rdms
    comparisons, n = _compare_pairs(context, chosen, units)
    expected = _expected(rdms, chosen)
    bounds = bounds_of(reliability)
    rows, draws = [], []
    for members in [[i] for i in range(rdms.n_rdm)] + list(groups.values()):
        for comparison in comparisons:
            drawn = comparison.draws(members, chosen, is_resampled=not context.reason)
            if len(members) == 1:
                row = _rdm_row(comparison, drawn, members[0], chosen, context)
            else:
                row = _group_row(members, comparison, drawn, chosen, context)
            row |= {"null_low": np.nan, "null_high": np.nan}
            if drawn.nulls is not None:  # over subjects: of their mean in the same permutations
                low, high = percentile_interval(drawn.nulls.mean(axis=1), chosen.confidence)
                row |= {"null_low": float(low), "null_high": float(high)}
            row |= _ceiling(rdms, members, comparison, bounds, chosen)
            rows.append(row | {"expected": expected[members[0]]})
            draws.append(drawn)
    table = pd.DataFrame(rows).assign(n=n)
    table["method"] += describe_left_out(left_out)
    answers = [_answer(row, chosen) for row in rows]
    table["follows"], table["answer"] = zip(*answers, strict=True)
    return with_families(table, draws, chosen, MEAN)[COLUMNS]


COLUMNS = [
    "system",
    "subject",
    "place",
    "pair",
    "quantity",
    "value",
    "ci_low",
    "ci_high",
    "interval",
    "p",
    "p_corrected",
    "correction",
    "family",
    "p_method",
    "null_low",
    "null_high",
    "ceiling_low",
    "ceiling_high",
    "ceiling",
    "expected",
    "follows",
    "answer",
    "method",
    "n",
    "n_subjects",
]
"""Columns of the table."""

FOLLOWS = {
    "perception": "images that look alike to people are the more similar",
    "decision": "images that the network calls the same are the more similar",
    "undecided": "neither: the interval holds 0, or p is too large",
    "not tested": "there is no interval and no p",
}
"""Value of the column ``follows`` to what it says of a difference."""


FREELY = (
    "sessions differ between photographs, and null 'free' takes no account of them (null 'auto' "
    "does)"
)
"""Why there is no interval; also beside the p."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Context:
    """RDMs without offsets of sessions, the resampled objects, and labels of photographs.

    ``reason`` says why there is no interval, ``note`` what else the column ``method`` tells.
    """

    rdms: RDMs
    sampling: Sampling
    sessions: Sequence[Mapping[str, str]]
    blocks: Blocks | None
    reason: str
    note: str


def _context(
    rdms: RDMs,
    chosen: ImageTypeOptions,
    blocks: Blocks | None,
    categories: Mapping[str, str] | None,
    sessions: Blocks | None,
) -> _Context:
    """Collect what photographs share, and subtract offsets of sessions."""
    if blocks and chosen.null == "class" and categories is None:
        categories = cast("Mapping[str, str]", blocks)
    if blocks and chosen.null == "session" and sessions is None:
        sessions = blocks
    if blocks and chosen.null == "auto":
        raise InputError(
            "blocks were given without saying what they are: add null='session' or null='class', "
            "or give sessions= or categories= instead."
        )
    categories = categories or class_descriptor(rdms)
    if chosen.null == "class" and not blocks:
        blocks = categories
    subjects = [name_place(rdms, i)["subject"] for i in range(rdms.n_rdm)]
    maps = session_maps(rdms, subjects, sessions)
    if chosen.null == "session" and not blocks:
        blocks = None
        if all(maps):
            ends = (chosen.pairs[0][0], chosen.pairs[-1][1])
            sessions_of = [photograph_sessions(rdms, known, ends) for known in maps]
            blocks = dict(zip(subjects, sessions_of))
    photographs = select_kind(rdms, chosen.kinds[0]).pattern_descriptors["condition"]
    names = sorted(str(name) for name in photographs)
    removed = without_sessions(rdms, maps, chosen.kinds, chosen.by, categories)
    if chosen.null == "free" and removed.rdms is not rdms:
        removed = Removed(rdms=rdms, reason=FREELY)
    sampling = replace(sample_photographs(names, categories, chosen.classes), lost=removed.lost)
    note = f"; {removed.text}" if removed.text else ""
    if chosen.interval in ("projection", "stimuli", "dual") and len(names) < SIMULATED_FROM:
        note += f"; intervals from fewer than {SIMULATED_FROM} photographs were not simulated"
    if chosen.interval == "dual" and sampling.in_classes:
        note += "; the bootstrap over photographs and subjects was not simulated with classes"
    return _Context(
        rdms=removed.rdms,
        sampling=sampling,
        sessions=maps,
        blocks=blocks,
        reason=removed.reason,
        note=note,
    )


def _compare_pairs(
    context: _Context, chosen: ImageTypeOptions, units: Iterable[UnitValues] | None
) -> tuple[list[_Comparison], int]:
    """Compare both pairs in the same resamples and take their difference; count photographs."""
    rdms = context.rdms
    subsamples = _subsampled(context, chosen, units) if chosen.interval == "subsample" else None
    comparisons, sizes = [], []
    for pair in chosen.pairs:
        orders, text = null_orders(
            rdms,
            pair,
            chosen,
            context.blocks,
            together=bool(_groups(rdms)),
            sessions=context.sessions,
        )
        text += f"; {FREELY}" if context.reason == FREELY else ""
        sizes.append(orders[0].shape[1])
        if subsamples is None:
            values, samples, projection = _image_samples(rdms, pair, chosen, context.sampling)
            nulls = null_scores(rdms, pair, chosen, orders)
        else:
            values = kind_samples(rdms, pair, chosen.by, "exact", 0, chosen.seed)[0]
            samples, nulls = _subsample_scores(rdms, pair, chosen, subsamples, orders)
            projection, text = None, f"{text}, each in a subsample of the units of its own"
        numbers = {id(order): number for number, order in enumerate(orders)}
        used = tuple(numbers[id(order)] for order in orders)
        name = "-".join(pair)
        comparisons.append(
            _Comparison(
                name=name,
                quantity="similarity",
                values=values,
                samples=samples,
                projection=projection,
                nulls=nulls,
                null_text=text,
                orders=used,
                pair=pair,
            )
        )
    if len(comparisons) == 1:
        return comparisons, sizes[0]
    low, high = comparisons
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{low.name} covers {sizes[0]} photographs and {high.name} {sizes[1]}; a difference "
            "needs the same ones (or join='inner')."
        )
    projection = None
    if low.projection is not None and high.projection is not None:
        projection = high.projection.minus(low.projection)
    comparisons.append(
        _Comparison(
            name=f"{high.name} minus {low.name}",
            quantity="difference",
            values=high.values - low.values,
            samples=high.samples - low.samples,
            projection=projection,
        )
    )
    return comparisons, sizes[0]


def _image_samples(
    rdms: RDMs, pair: Pair, chosen: ImageTypeOptions, sampling: Sampling
) -> tuple[np.ndarray, np.ndarray, Projection | None]:
    """Compare two kinds with resampled photographs, or with a projection to sample from."""
    untested = chosen.interval == "none" and not comparator(chosen.by).weighs_pairs
    if untested or chosen.interval in ("stimuli", "dual"):
        confidence = None if chosen.interval == "dual" else chosen.confidence
        values, samples, _, _ = kind_samples(
            rdms,
            pair,
            chosen.by,
            "exact",
            chosen.n_resamples,
            chosen.seed,
            sampling,
            confidence=confidence,
        )
        return values, samples, None
    n_draws = 0 if chosen.interval == "subjects" else chosen.n_resamples
    projection = kind_projection(rdms, pair, chosen.by, n_draws, chosen.seed, sampling)
    nothing = np.empty((0, rdms.n_rdm))
    return projection.values, nothing, projection if n_draws else None


def _ceiling(
    rdms: RDMs,
    members: Sequence[int],
    comparison: _Comparison,
    bounds: Bounds,
    chosen: ImageTypeOptions,
) -> dict[str, Any]:
    """Bound a similarity by the reliability of both RDMs; over subjects by their mean bounds."""
    nothing = {"ceiling_low": np.nan, "ceiling_high": np.nan}
    places = [name_place(rdms, i) for i in members]
    # a network answers without noise
    if comparison.pair is None or places[0]["system"] == "network":
        return {**nothing, "ceiling": ""}
    if chosen.by != "spearman" or "spearman" not in str(rdms.dissimilarity_measure).lower():
        return {**nothing, "ceiling": NOT_SPEARMAN}
    parts = []
    for place in places:
        parts.append(pair_bound(bounds, place["subject"], place["place"], comparison.pair))
    undefined = [part for part in parts if not np.isfinite(part["ceiling_low"])]
    return {
        "ceiling_low": float(np.mean([part["ceiling_low"] for part in parts])),
        "ceiling_high": float(np.mean([part["ceiling_high"] for part in parts])),
        "ceiling": str((undefined or parts)[0]["ceiling"]),
    }


# --------------------------------------------------------------------------------------- subsamples


def _subsampled(
    context: _Context, chosen: ImageTypeOptions, units: Iterable[UnitValues] | None
) -> list[dict[str, np.ndarray]]:
    """Compute the RDMs of each kind in each subsample, for each RDM in their order."""
    rdms = context.rdms
    if units is None:
        raise InputError(
            "interval 'subsample' computes RDMs again from parts of the units: give patterns or "
            "activations, not RDMs."
        )
    measure = str(rdms.dissimilarity_measure).lower().removeprefix("1 - ")
    stimuli = {}
    for kind in dict.fromkeys(map(str, rdms.pattern_descriptors["kind"])):
        stimuli[kind] = list(select_kind(rdms, kind).pattern_descriptors["stimulus"])
    places = [name_place(rdms, i) for i in range(rdms.n_rdm)]
    wanted = [(place["system"], place["subject"], place["place"]) for place in places]
    rdms_of = {}
    for unit_values in units:
        key = (unit_values.system, unit_values.subject, unit_values.place)
        if key in wanted:
            drawn = subsample_rdms(
                unit_values, chosen.n_resamples, chosen.seed, measure=measure, share=chosen.share
            )
            rdms_of[key] = {
                kind: drawn[:, rows_of(unit_values.ids, ids)] for kind, ids in stimuli.items()
            }
    if lacking := [place_name(rdms, i) for i, key in enumerate(wanted) if key not in rdms_of]:
        raise InputError(
            f"no responses of units for {name_ids(lacking)}; give the patterns or activations of "
            "all RDMs."
        )
    return [rdms_of[key] for key in wanted]


def _subsample_scores(
    rdms: RDMs,
    pair: Pair,
    chosen: ImageTypeOptions,
    subsamples: Sequence[Mapping[str, np.ndarray]],
    orders: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Compare two kinds in each subsample, also with the labels of the first permuted."""
    positions = []
    for kind in pair:  # the pairs of one kind in order of the photographs' ids
        names = [str(name) for name in select_kind(rdms, kind).pattern_descriptors["condition"]]
        positions.append(rows_of(names, sorted(names)))
    samples, nulls = [], []
    for parts, order in zip(subsamples, orders):
        a, b = (parts[kind][:, rows] for kind, rows in zip(pair, positions))
        samples.append(paired_scores(chosen.by, a, b))
        if len(order):
            turned = np.empty_like(a)
            for k, row in enumerate(a):
                turned[k] = permute_pairs(row, order[k % len(order)][np.newaxis])[0]
            nulls.append(paired_scores(chosen.by, turned, b))
    return np.stack(samples, axis=1), np.stack(nulls, axis=1) if nulls else None


# --------------------------------------------------------------------------------------------- rows


def _rdm_row(
    comparison: _Comparison, drawn: Draws, i: int, chosen: ImageTypeOptions, context: _Context
) -> dict[str, Any]:
    rdms = context.rdms
    row = {
        **name_place(rdms, i),
        "pair": comparison.name,
        "quantity": comparison.quantity,
        "value": float(comparison.values[i]),
    }
    if chosen.interval in OVER_SUBJECTS:
        ends = (np.nan, np.nan)
        text = f"{chosen.by}; interval over subjects: see subject '{MEAN}'"
        p, p_text = np.nan, f"over subjects only: see subject '{MEAN}'"
    else:
        ends = _interval(drawn.resamples, chosen, MOST[comparison.quantity])
        text = _describe(chosen, context)
        p, p_text = _difference_p(drawn.resamples, chosen, context.sampling)
    if comparison.quantity == "similarity":
        p, p_text = np.nan, comparison.null_text
        if drawn.nulls is not None:
            p = float(permutation_p(comparison.values[i], drawn.nulls[:, 0]))
            p_text += ", one-sided"
    return row | {
        "ci_low": float(ends[0]),
        "ci_high": float(ends[1]),
        "interval": chosen.interval,
        "p": p,
        "p_method": p_text,
        "method": text,
        "n_subjects": 1 if row["subject"] else 0,
    }


def _interval(samples: np.ndarray | None, chosen: ImageTypeOptions, most: int) -> Any:
    if chosen.interval == "none" or samples is None:
        return np.nan, np.nan
    if chosen.interval == "projection":  # normal by construction: no need of its percentiles
        half = _quantile(chosen) * samples.std()
        return np.clip((samples.mean() - half, samples.mean() + half), -most, most)
    return np.clip(percentile_interval(samples, chosen.confidence), -most, most)


def _quantile(chosen: ImageTypeOptions) -> float:
    """Give the normal quantile to which resamples were scaled."""
    from scipy.stats import norm

    return float(norm.ppf((1 + chosen.confidence) / 2))


def _describe(chosen: ImageTypeOptions, context: _Context) -> str:
    """Describe what was compared, and how the interval came about."""
    name, sampling = chosen.by, context.sampling
    if context.reason:
        return f"{name}; no interval: {context.reason}"
    if chosen.interval == "none":
        return f"{name}; no interval{context.note}"
    if chosen.interval == "subsample":
        how = (
            f"percentile interval of {chosen.n_resamples} subsamples of {chosen.share:.0%} of the "
            f"units (Zhang 2021); {SUBSAMPLE_WARNING}"
        )
    elif chosen.interval == "projection":
        how = (
            f"t interval ({sampling.dof} dof), jackknife over {sampling.text}, noise of pairs "
            "corrected"
        )
    else:
        how = (
            f"percentile bootstrap over {sampling.text}, {chosen.n_resamples} resamples, "
            "same-image pairs dropped"
        )
    return f"{name}; {chosen.confidence:.0%} {how}{context.note}"


def _difference_p(
    samples: np.ndarray | None, chosen: ImageTypeOptions, sampling: Sampling
) -> tuple[float, str]:
    """Test a difference against 0, two-sided; samples (n_resamples,)."""
    from scipy.stats import t

    if samples is None:
        return float("nan"), "not tested: no resamples"
    named = chosen.interval
    if named == "none":
        named = "projection" if comparator(chosen.by).weighs_pairs else "stimuli"
    if named == "projection":
        error = samples.std() * _quantile(chosen) / t.ppf((1 + chosen.confidence) / 2, sampling.dof)
        p = float("nan")
        if error > 0:
            p = float(2 * t.sf(abs(samples.mean()) / error, sampling.dof))
        return p, f"t with {sampling.dof} dof (interval 'projection'), two-sided"
    text = f"share of the resamples beyond 0 (interval '{named}'), two-sided"
    if chosen.interval == "subsample":
        text += f"; {SUBSAMPLE_WARNING}"
    return float(_evidence(samples, "two-sided")), text


def _evidence(samples: np.ndarray, alternative: str) -> np.ndarray:
    """Turn resampled differences into p: those at or below 0 speak against one above it."""
    against = {"greater": "less", "less": "greater"}.get(alternative, alternative)
    return permutation_p(np.zeros(samples.shape[1:]), samples, against)


# ------------------------------------------------------------------------------------ over subjects


def _groups(rdms: RDMs) -> dict[tuple[str, str], list[int]]:
    """Find the RDMs of several subjects in one place."""
    places = [name_place(rdms, i) for i in range(rdms.n_rdm)]
    if again := duplicates(" ".join(place.values()) for place in places):
        raise InputError(
            f"more than one RDM for {name_ids(again)}; give one for each subject and ROI, or stage."
        )
    groups: dict[tuple[str, str], list[int]] = {}
    for i, place in enumerate(places):
        if place["subject"]:
            groups.setdefault((place["system"], place["place"]), []).append(i)
    return {place: members for place, members in groups.items() if len(members) > 1}


def _check_subjects(
    rdms: RDMs, groups: Mapping[tuple[str, str], Sequence[int]], chosen: ImageTypeOptions
) -> None:
    if chosen.interval not in OVER_SUBJECTS:
        return
    needed = subjects_needed(chosen.confidence)
    places = [name_place(rdms, i) for i in range(rdms.n_rdm)]
    count = {}
    for place in places:
        if place["subject"]:
            members = groups.get((place["system"], place["place"]), [1])
            count[place["place"]] = len(members)
    few = [f"{name} ({n})" for name, n in count.items() if n < needed]
    if few or not count:
        raise InputError(
            f"interval '{chosen.interval}' at {chosen.confidence:.0%} needs at least {needed} "
            f"subjects; there are fewer in {name_ids(few) or 'these RDMs (none)'}. With few subjects use "
            "interval='projection' (photographs are resampled and permuted within each subject) "
            "and the combined p."
        )


def _group_row(
    members: Sequence[int],
    comparison: _Comparison,
    drawn: Draws,
    chosen: ImageTypeOptions,
    context: _Context,
) -> dict[str, Any]:
    index, values, rdms = list(members), drawn.values, context.rdms
    if chosen.interval in OVER_SUBJECTS and not context.reason:
        ends, p, p_text, text = _subject_interval(
            values, comparison.samples[:, index], chosen, context
        )
    else:
        ends = _interval(drawn.resamples, chosen, MOST[comparison.quantity])
        text = _describe(chosen, context)
        p, p_text = _difference_p(drawn.resamples, chosen, context.sampling)
        if drawn.resamples is not None and chosen.combine != "joint":
            p = _combined_difference(comparison, index, chosen)
            p_text += f"; {COMBINATIONS[chosen.combine]}"
    if comparison.quantity == "similarity":
        p, p_text = np.nan, comparison.null_text
        if drawn.nulls is not None:
            p_text += f", one-sided; {COMBINATIONS[chosen.combine]}"
            if chosen.combine == "joint":
                p = joint_p(values, drawn.nulls[np.isfinite(drawn.nulls).all(axis=1)])
            else:
                p = combine_p(permutation_p(values, drawn.nulls), chosen.combine)
    return name_place(rdms, index[0]) | {
        "subject": MEAN,
        "pair": comparison.name,
        "quantity": comparison.quantity,
        "value": float(values.mean()),
        "ci_low": float(ends[0]),
        "ci_high": float(ends[1]),
        "interval": chosen.interval,
        "p": p,
        "p_method": p_text,
        "method": f"{text}; mean over {len(index)} subjects",
        "n_subjects": len(index),
    }


def _combined_difference(
    comparison: _Comparison, members: Sequence[int], chosen: ImageTypeOptions
) -> float:
    """Combine the subjects' one-sided p of each direction; twice the smaller."""
    parts = []
    for i in members:
        part = comparison.resampled([i], chosen)
        if part is not None:
            parts.append(part)
    each = np.stack(parts, axis=1)
    tails = [combine_p(_evidence(each, side), chosen.combine) for side in ("greater", "less")]
    return min(1.0, 2 * min(tails))


def _subject_interval(
    values: np.ndarray, samples: np.ndarray, chosen: ImageTypeOptions, context: _Context
) -> tuple[tuple[float, float], float, str, str]:
    """Resample subjects, perhaps with photographs: t interval, two-sided p, and both in words."""
    from scipy.stats import t as student

    size = len(values)
    draws = generator(chosen.seed, "subjects", size).multinomial(
        size, np.full(size, 1 / size), chosen.n_resamples
    )
    over_subjects = draws @ values / size
    if chosen.interval == "dual":
        both = (draws * samples).sum(axis=1) / size
        defined = np.isfinite(both)
        parts = np.array([both[defined], over_subjects[defined], samples.mean(axis=1)[defined]])
        clusters = context.sampling.dof + 1
        variance = dual_variance(parts.var(axis=1, ddof=1), size, clusters)
        dof = min(size, clusters) - 1
        what = f"{context.sampling.text} and {size} subjects (rsatoolbox's dual bootstrap)"
    else:
        variance, dof = size / (size - 1) * over_subjects.var(ddof=1), size - 1
        what = f"{size} subjects"
    error = math.sqrt(variance)
    half = float(student.isf((1 - chosen.confidence) / 2, dof)) * error
    mean = float(values.mean())
    p = float(2 * student.sf(abs(mean) / error, dof)) if error > 0 else float("nan")
    text = (
        f"{chosen.by}; {chosen.confidence:.0%} t interval ({dof} dof), bootstrap over "
        f"{what}, {len(draws)} resamples{context.note}"
    )
    p_text = f"t with {dof} dof from the bootstrap over {what}, two-sided"
    return (mean - half, mean + half), p, p_text, text


def dual_variance(variances: np.ndarray, n_subjects: int, n_stimuli: int) -> float:
    """Put the variances of three bootstraps together: over subjects, over stimuli, over both.

    Parameters
    ----------
    variances : ndarray, shape (3,)
        Over both, over subjects, over stimuli.
    n_subjects, n_stimuli : int
        Numbers of subjects and of stimuli.

    Returns
    -------
    float
        Variance for new subjects and new stimuli; not below either single one (corrected for its
        number) and not above the one over both.

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566; ``rsatoolbox.util.inference_util._dual_bootstrap``.
    """
    both, subjects, stimuli = (float(value) for value in variances)
    s, n = n_subjects / (n_subjects - 1), n_stimuli / (n_stimuli - 1)
    variance = s * subjects + n * stimuli - s * n * (both - subjects - stimuli)
    return min(max(variance, s * subjects, n * stimuli), both)


# -------------------------------------------------------------------------------------------- words


def _expected(rdms: RDMs, chosen: ImageTypeOptions) -> list[str]:
    """Name what Zhang et al. expect: cortex follows perception, a network's output its names."""
    if len(chosen.pairs) < 2:
        return [""] * rdms.n_rdm
    decision, perception = ("-".join(pair) for pair in chosen.pairs)
    systems = [name_place(rdms, i)["system"] for i in range(rdms.n_rdm)]
    last = max((i for i, system in enumerate(systems) if system == "network"), default=-1)
    words = {"brain": f"{perception} above {decision} (perception)"}
    expected = [words.get(system, "") for system in systems]
    if last >= 0:
        expected[last] = f"{decision} above {perception} (decision; last stage)"
    return expected


def _answer(row: Mapping[str, Any], chosen: ImageTypeOptions) -> tuple[str, str]:
    """Say what the difference follows, one of `FOLLOWS`, and the same in a sentence."""
    if row["quantity"] != "difference":
        return "", ""
    decision, perception = ("-".join(pair) for pair in chosen.pairs)
    low, high = row["ci_low"], row["ci_high"]
    if not np.isfinite(low):
        alpha = 1 - chosen.confidence
        if not np.isfinite(row["p"]):
            return "not tested", "not tested: no interval"
        if row["p"] > alpha:
            return "undecided", f"undecided: p above {alpha:.2g}"
        low = high = row["value"]
    if low > 0:
        return "perception", f"follows perception: {perception} above {decision}"
    if high < 0:
        return "decision", f"follows the network's decision: {decision} above {perception}"
    return "undecided", "undecided: the interval holds 0"
