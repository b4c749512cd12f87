"""Inference about kinds of images: intervals by name, permutation p, one p of several subjects, families of tests.

Similarities are tested against 0 by permuting the labels of the first kind; their difference by its own resamples,
since permuted labels make both similarities 0 and say nothing of two that are alike and not 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from neurometamer.arguments import checked
from neurometamer.resampling import percentile_interval
from neurometamer.rsa.inference import COMBINATIONS, combine_p, joint_p
from neurometamer.rsa.kind_ceilings import NOT_SPEARMAN, Bounds, bounds_of, pair_bound
from neurometamer.rsa.kind_families import Draws, with_families
from neurometamer.rsa.kind_nulls import Blocks, null_orders, null_scores
from neurometamer.rsa.kind_options import KindOptions, Pair, subjects_needed
from neurometamer.rsa.kind_sessions import Removed, photograph_sessions, session_maps, without_sessions
from neurometamer.rsa.kinds import (
    class_descriptor,
    kind_projection,
    kind_samples,
    name_place,
    shared_references,
)
from neurometamer.rsa.permutation import permutation_p, permute_pairs
from neurometamer.rsa.projection import PRODUCT_WEIGHTS, Projection
from neurometamer.rsa.rdm import place_name, select_kind
from neurometamer.rsa.sampling import SIMULATED_FROM, Sampling, sample_photographs
from neurometamer.rsa.subsample import SUBSAMPLE_WARNING, UnitValues, paired_scores, rows_of, subsample_rdms
from neurometamer.store import InputError, duplicates, generator, name_ids

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

MEAN = "mean"
"""In the column ``subject``: the mean over subjects, and their combined p."""

MOST = {"similarity": 1, "difference": 2}
"""No interval goes beyond what is possible: scaled resamples may."""

OVER_SUBJECTS = ("subjects", "dual")
"""Intervals that resample subjects: they are of the mean over subjects."""


@dataclass(frozen=True, eq=False)
class _Found:
    """What one pair of kinds, or the difference of two, came to in each RDM.

    ``values`` (n_rdms,), ``samples`` (n_resamples, n_rdms) or the ``projection`` that they are drawn from, ``nulls``
    (n_permutations, n_rdms) or None, and which orders were permuted in each RDM.
    """

    name: str
    quantity: str
    values: np.ndarray
    samples: np.ndarray
    projection: Projection | None
    nulls: np.ndarray | None
    null_text: str
    orders: tuple[int, ...]
    pair: Pair | None = None

    def resampled(self, rows: Sequence[int], chosen: KindOptions) -> np.ndarray | None:
        """Resample the mean of some RDMs: (n_resamples,), or None where nothing is resampled."""
        index = list(rows)
        if self.projection is not None:
            mean = self.projection.take(index).mean()
            return mean.samples(chosen.n_resamples, chosen.seed, chosen.confidence)[:, 0]
        return self.samples[:, index].mean(axis=1) if len(self.samples) else None


# ------------------------------------------------------------------------------------------------------ the table


@checked
def kind_tests(
    rdms: RDMs,
    *,
    units: Iterable[UnitValues] | None = None,
    blocks: Blocks | None = None,
    categories: Mapping[str, str] | None = None,
    sessions: Blocks | None = None,
    reliability: pd.DataFrame | None = None,
    options: KindOptions | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Test RE-AN, RE-AI and their difference in each layer, or in each ROI and subject, and over subjects.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM, with ``pattern_descriptors`` kind and reference_id.
    units : iterable of UnitValues, optional
        Responses behind the RDMs (`pattern_units`, `activation_units`); needed for ``interval="subsample"``.
    blocks : mapping, optional
        Photograph → session or class (`session_labels`, `class_labels`), or subject → such a mapping; needed for
        ``null="session"`` and ``"class"``.
    categories : mapping of str to str, optional
        Photograph → class, for the claim about classes; by default what the RDMs know (pattern descriptor
        ``category``), or `blocks` of ``null="class"``.
    sessions : mapping, optional
        Photograph → session, or subject → such a mapping; by default what the RDMs know (pattern descriptor
        ``session``), or `blocks` of ``null="session"``.
    reliability : pandas.DataFrame, optional
        Of `kind_reliability`: how reliable each kind's RDM is, for the ceiling.
    options : KindOptions, optional
        Everything else.
    **settings : object
        Fields of `KindOptions`, instead of or on top of `options`.

    Returns
    -------
    pandas.DataFrame
        The table ``kinds.csv``, one row a layer or ROI, subject and quantity: system, subject (``mean``: over
        subjects), place, pair, quantity (``similarity`` or ``difference``), value, ci_low, ci_high, interval, p,
        p_corrected, correction, family, p_method, expected, answer, method, n (photographs), n_subjects. Similarities
        are tested one-sided (above 0), the difference two-sided. ``answer`` says in words whether the difference
        follows perception.

    Raises
    ------
    InputError
        For an unknown kind or name, photographs without a counterpart, fewer than 4 photographs, too few subjects for
        the interval, or labels that leave nothing to permute. Ids are named.

    Notes
    -----
    With three subjects a bootstrap over subjects cannot hold what it claims: at least `subjects_needed` are asked for.
    Photographs are resampled and permuted within each subject instead, and the p combined; by default jointly, since
    subjects who saw the same photographs are not independent (`combine_p`).

    ``interval="projection"`` covered 92 to 98 % in 400 simulated studies each of 10, 20 and 40 photographs (RE-AN,
    RE-AI and their difference, of a subject and of the mean of three): independent photographs, steep spectra, heavy
    tails, noise that differs between voxels and images, 5 fixed classes; the numbers of all generators, classes and
    sessions among them, are in ``benchmarks/CALIBRATION.md``. The usual bootstrap over photographs, ``"stimuli"``, is
    safe but wide: it covered 98 to 100 %, with up to 1.8 times the width that is needed.

    Where classes of photographs are known an interval is about other photographs of these classes
    (``classes="fixed"``) or about as many classes like these (``"random"``, from 10 classes on); ``method`` says which.

    A session's offset makes two unrelated RDMs alike. Where the RDMs know sessions that differ between photographs the
    mean of each pair of sessions is taken off the dissimilarities first, and labels change places within sessions
    (``null="auto"``). Classes that both RDMs show make them alike too: ``null="class"`` asks for more than that.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, Representational Similarity Analysis; Schütt et al. (2023), eLife
    12:e82566 (bootstraps).
    """
    import pandas as pd

    chosen = replace(options or KindOptions(), **settings)
    left_out = ""
    if chosen.join == "inner":
        rdms, left_out = shared_references(rdms, dict.fromkeys(chosen.kinds))
    groups = _groups(rdms)
    _check_subjects(rdms, groups, chosen)
    context = _context(rdms, chosen, blocks, categories, sessions)
    rdms = context.rdms
    found, n = _everything(context, chosen, units)
    expected = _expected(rdms, chosen)
    bounds = bounds_of(reliability)
    rows, draws = [], []
    for members in [[i] for i in range(rdms.n_rdm)] + list(groups.values()):
        for one in found:
            drawn = _draws(one, members, context, chosen)
            if len(members) == 1:
                row = _one_row(one, drawn, members[0], chosen, context)
            else:
                row = _group_row(members, one, drawn, chosen, context)
            ceiling = _ceiling(rdms, members, one, bounds, chosen)
            rows.append(row | _null_ends(drawn, chosen) | ceiling | {"expected": expected[members[0]]})
            draws.append(drawn)
    table = pd.DataFrame(rows).assign(n=n)
    if left_out:
        table["method"] += f"; held by one side only and left out: {name_ids(left_out.split(', '))}"
    table["answer"] = [_answer(row, chosen) for row in rows]
    return with_families(table, draws, chosen, MEAN)[COLUMNS]


COLUMNS = [
    "system", "subject", "place", "pair", "quantity", "value", "ci_low", "ci_high", "interval", "p", "p_corrected",
    "correction", "family", "p_method", "null_low", "null_high", "ceiling_low", "ceiling_high", "ceiling", "expected",
    "answer", "method", "n", "n_subjects",
]  # fmt: skip
"""Of the table."""


FREELY = "sessions differ between photographs, and null 'free' takes no account of them (null 'auto' does)"
"""Why there is no interval; also beside the p."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Context:
    """What is compared and resampled: RDMs without offsets of sessions, what resamples draw, and what is known.

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
    chosen: KindOptions,
    blocks: Blocks | None,
    categories: Mapping[str, str] | None,
    sessions: Blocks | None,
) -> _Context:
    """Say what photographs have in common, and take offsets of sessions off."""
    if blocks and chosen.null == "class" and categories is None:
        categories = cast("Mapping[str, str]", blocks)
    if blocks and chosen.null == "session" and sessions is None:
        sessions = blocks
    if blocks and chosen.null == "auto":
        raise InputError(
            "blocks were given without saying what they are: add null='session' or null='class', or give sessions= or "
            "categories= instead."
        )
    categories = categories or class_descriptor(rdms)
    if chosen.null == "class" and not blocks:
        blocks = categories
    maps = session_maps(rdms, [name_place(rdms, i)["subject"] for i in range(rdms.n_rdm)], sessions)
    if chosen.null == "session" and not blocks:
        blocks = _known_sessions(rdms, maps, chosen)
    names = sorted(str(one) for one in select_kind(rdms, chosen.kinds[0]).pattern_descriptors["condition"])
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
        rdms=removed.rdms, sampling=sampling, sessions=maps, blocks=blocks, reason=removed.reason, note=note
    )


def _known_sessions(rdms: RDMs, maps: Sequence[Mapping[str, str]], chosen: KindOptions) -> Blocks | None:
    """Give each subject's sessions of photographs, where all RDMs know them."""
    if not all(maps):
        return None
    pair = (chosen.pairs[0][0], chosen.pairs[-1][1])
    return {name_place(rdms, i)["subject"]: photograph_sessions(rdms, known, pair) for i, known in enumerate(maps)}


def _everything(context: _Context, chosen: KindOptions, units: Iterable[UnitValues] | None) -> tuple[list[_Found], int]:
    """Compare both pairs in the same draws, and take their difference; also give the number of photographs."""
    rdms = context.rdms
    subsamples = _subsampled(context, chosen, units) if chosen.interval == "subsample" else None
    found, sizes = [], []
    for pair in chosen.pairs:
        orders, text = null_orders(
            rdms, pair, chosen, context.blocks, together=bool(_groups(rdms)), sessions=context.sessions
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
        same = {id(one): rank for rank, one in enumerate(orders)}
        drawn = tuple(same[id(one)] for one in orders)
        found.append(_Found("-".join(pair), "similarity", values, samples, projection, nulls, text, drawn, pair))
    if len(found) == 1:
        return found, sizes[0]
    low, high = found
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{low.name} covers {sizes[0]} photographs and {high.name} {sizes[1]}; a difference needs the same ones "
            "(or join='inner')."
        )
    name, projection = f"{high.name} minus {low.name}", None
    if low.projection is not None and high.projection is not None:
        projection = high.projection.minus(low.projection)
    values, samples = high.values - low.values, high.samples - low.samples
    found.append(_Found(name, "difference", values, samples, projection, None, "", ()))
    return found, sizes[0]


def _image_samples(
    rdms: RDMs, pair: Pair, chosen: KindOptions, sampling: Sampling
) -> tuple[np.ndarray, np.ndarray, Projection | None]:
    """Compare two kinds with resampled photographs, or with the projection that resamples are drawn from."""
    if chosen.interval in ("stimuli", "dual") or (chosen.interval == "none" and chosen.by in PRODUCT_WEIGHTS):
        values, samples, _, _ = kind_samples(
            rdms,
            pair,
            chosen.by,
            "exact",
            chosen.n_resamples,
            chosen.seed,
            sampling,
            confidence=None if chosen.interval == "dual" else chosen.confidence,
        )
        return values, samples, None
    n_draws = 0 if chosen.interval == "subjects" else chosen.n_resamples
    projection = kind_projection(rdms, pair, chosen.by, n_draws, chosen.seed, sampling)
    nothing = np.empty((0, rdms.n_rdm))
    return projection.values, nothing, projection if n_draws else None


def _draws(found: _Found, members: Sequence[int], context: _Context, chosen: KindOptions) -> Draws:
    """Gather what one row is made of; no resamples where no interval is given."""
    index = list(members)
    return Draws(
        found.values[index],
        None if found.nulls is None else found.nulls[:, index],
        tuple(found.orders[i] for i in index) if found.orders else (),
        None if context.reason else found.resampled(index, chosen),
    )


def _null_ends(drawn: Draws, chosen: KindOptions) -> dict[str, float]:
    """Give the central part of the permutations; over subjects of their mean in the same permutations."""
    if drawn.nulls is None:
        return {"null_low": np.nan, "null_high": np.nan}
    low, high = percentile_interval(drawn.nulls.mean(axis=1), chosen.confidence)
    return {"null_low": float(low), "null_high": float(high)}


def _ceiling(rdms: RDMs, members: Sequence[int], found: _Found, bounds: Bounds, chosen: KindOptions) -> dict[str, Any]:
    """Bound a similarity by the reliability of both RDMs; over subjects by the mean of the subjects' bounds."""
    nothing = {"ceiling_low": np.nan, "ceiling_high": np.nan}
    if found.pair is None or name_place(rdms, members[0])["system"] == "network":  # a network answers without noise
        return {**nothing, "ceiling": ""}
    if chosen.by != "spearman" or "spearman" not in str(rdms.dissimilarity_measure).lower():
        return {**nothing, "ceiling": NOT_SPEARMAN}
    places = [name_place(rdms, i) for i in members]
    parts = [pair_bound(bounds, one["subject"], one["place"], found.pair) for one in places]
    ends = {name: float(np.mean([one[name] for one in parts])) for name in nothing}
    text = next((str(one["ceiling"]) for one in parts if not np.isfinite(one["ceiling_low"])), parts[0]["ceiling"])
    return {**ends, "ceiling": text}


# -------------------------------------------------------------------------------------------------------- subsamples


def _subsampled(
    context: _Context, chosen: KindOptions, units: Iterable[UnitValues] | None
) -> list[dict[str, np.ndarray]]:
    """Compute the RDMs of each kind in each subsample, for each RDM in their order."""
    rdms = context.rdms
    if units is None:
        raise InputError(
            "interval 'subsample' computes RDMs again from parts of the units: give patterns or activations, not RDMs."
        )
    measure = str(rdms.dissimilarity_measure).lower().removeprefix("1 - ")
    kinds = [str(one) for one in rdms.pattern_descriptors["kind"]]
    stimuli = {kind: list(select_kind(rdms, kind).pattern_descriptors["stimulus"]) for kind in dict.fromkeys(kinds)}
    wanted = [(one["system"], one["subject"], one["place"]) for one in (name_place(rdms, i) for i in range(rdms.n_rdm))]
    found = {}
    for one in units:
        key = (one.system, one.subject, one.place)
        if key in wanted:
            drawn = subsample_rdms(one, chosen.n_resamples, chosen.seed, measure=measure, share=chosen.share)
            found[key] = {kind: drawn[:, rows_of(one.ids, ids)] for kind, ids in stimuli.items()}
    if lacking := [place_name(rdms, i) for i, key in enumerate(wanted) if key not in found]:
        raise InputError(
            f"no responses of units for {name_ids(lacking)}; give the patterns or activations of all RDMs."
        )
    return [found[key] for key in wanted]


def _subsample_scores(
    rdms: RDMs,
    pair: Pair,
    chosen: KindOptions,
    subsamples: Sequence[Mapping[str, np.ndarray]],
    orders: Sequence[np.ndarray],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Compare two kinds in each subsample, once as they are and once with the first kind's labels permuted."""
    positions = [_canonical_rows(rdms, kind) for kind in pair]
    samples, nulls = [], []
    for parts, order in zip(subsamples, orders):
        a, b = (parts[kind][:, rows] for kind, rows in zip(pair, positions))
        samples.append(paired_scores(chosen.by, a, b))
        if len(order):
            turned = [permute_pairs(row, order[k % len(order)][np.newaxis])[0] for k, row in enumerate(a)]
            nulls.append(paired_scores(chosen.by, np.array(turned), b))
    return np.stack(samples, axis=1), np.stack(nulls, axis=1) if nulls else None


def _canonical_rows(rdms: RDMs, kind: str) -> np.ndarray:
    """Find the pairs of one kind in order of the photographs' ids, as everywhere here."""
    names = [str(one) for one in select_kind(rdms, kind).pattern_descriptors["condition"]]
    return rows_of(names, sorted(names))


# --------------------------------------------------------------------------------------------------------------- rows


def _one_row(found: _Found, drawn: Draws, i: int, chosen: KindOptions, context: _Context) -> dict[str, Any]:
    rdms = context.rdms
    row = {**name_place(rdms, i), "pair": found.name, "quantity": found.quantity, "value": float(found.values[i])}
    if chosen.interval in OVER_SUBJECTS:
        ends, text = (np.nan, np.nan), f"{_name_of(chosen.by)}; interval over subjects: see subject '{MEAN}'"
        p, p_text = np.nan, f"over subjects only: see subject '{MEAN}'"
    else:
        ends, text = _interval(drawn.resamples, chosen, MOST[found.quantity]), _describe(chosen, context)
        p, p_text = _difference_p(drawn.resamples, chosen, context.sampling)
    if found.quantity == "similarity":
        p, p_text = np.nan, found.null_text
        if drawn.nulls is not None:
            p = float(permutation_p(found.values[i], drawn.nulls[:, 0]))
            p_text += ", one-sided"
    return row | {
        "ci_low": float(ends[0]), "ci_high": float(ends[1]), "interval": chosen.interval, "p": p, "p_method": p_text,
        "method": text, "n_subjects": 1 if row["subject"] else 0,
    }  # fmt: skip


def _interval(samples: np.ndarray | None, chosen: KindOptions, most: int) -> Any:
    if chosen.interval == "none" or samples is None:
        return np.nan, np.nan
    if chosen.interval == "projection":  # normal by construction: no need of its percentiles
        half = _quantile(chosen) * samples.std()
        return np.clip((samples.mean() - half, samples.mean() + half), -most, most)
    return np.clip(percentile_interval(samples, chosen.confidence), -most, most)


def _quantile(chosen: KindOptions) -> float:
    """Give the normal quantile to which resamples were scaled."""
    from scipy.stats import norm

    return float(norm.ppf((1 + chosen.confidence) / 2))


def _name_of(by: str) -> str:
    return "kendall tau-a" if by == "kendall" else by


def _describe(chosen: KindOptions, context: _Context) -> str:
    if context.reason:
        return f"{_name_of(chosen.by)}; no interval: {context.reason}"
    return _describe_interval(chosen, context.sampling) + context.note


def _describe_interval(chosen: KindOptions, sampling: Sampling) -> str:
    if chosen.interval == "none":
        return f"{_name_of(chosen.by)}; no interval"
    if chosen.interval == "subsample":
        return (
            f"{_name_of(chosen.by)}; {chosen.confidence:.0%} percentile interval of {chosen.n_resamples} subsamples of "
            f"{chosen.share:.0%} of the units (Zhang 2021); {SUBSAMPLE_WARNING}"
        )
    return f"{_name_of(chosen.by)}; {chosen.confidence:.0%} {_how_resampled(chosen, sampling)}"


def _how_resampled(chosen: KindOptions, sampling: Sampling) -> str:
    how = "same-image pairs dropped"
    if chosen.interval == "projection":
        return f"t interval ({sampling.dof} dof), jackknife over {sampling.text}, noise of pairs corrected"
    return f"percentile bootstrap over {sampling.text}, {chosen.n_resamples} resamples, {how}"


def _difference_p(samples: np.ndarray | None, chosen: KindOptions, sampling: Sampling) -> tuple[float, str]:
    """Test a difference against 0, two-sided; samples (n_resamples,)."""
    from scipy.stats import t

    if samples is None:
        return float("nan"), "not tested: no resamples"
    named = chosen.interval
    if named == "none":
        named = "stimuli" if chosen.by in PRODUCT_WEIGHTS else "projection"
    if named == "projection":
        error = samples.std() * _quantile(chosen) / t.ppf((1 + chosen.confidence) / 2, sampling.dof)
        p = float(2 * t.sf(abs(samples.mean()) / error, sampling.dof)) if error > 0 else float("nan")
        return p, f"t with {sampling.dof} dof (interval 'projection'), two-sided"
    text = f"share of the resamples beyond 0 (interval '{named}'), two-sided"
    if chosen.interval == "subsample":
        text += f"; {SUBSAMPLE_WARNING}"
    return float(_evidence(samples, "two-sided")), text


def _evidence(samples: np.ndarray, alternative: str) -> np.ndarray:
    """Turn resampled differences into p: resamples at or below 0 speak against a difference above it."""
    against = {"greater": "less", "less": "greater"}.get(alternative, alternative)
    return permutation_p(np.zeros(samples.shape[1:]), samples, against)


# ------------------------------------------------------------------------------------------------------ over subjects


def _groups(rdms: RDMs) -> dict[tuple[str, str], list[int]]:
    """Find the RDMs of several subjects in one place."""
    places = [name_place(rdms, i) for i in range(rdms.n_rdm)]
    if again := duplicates(" ".join(one.values()) for one in places):
        raise InputError(f"more than one RDM for {name_ids(again)}; give one for each subject and ROI, or stage.")
    found: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(places):
        if one["subject"]:
            found.setdefault((one["system"], one["place"]), []).append(i)
    return {place: members for place, members in found.items() if len(members) > 1}


def _check_subjects(rdms: RDMs, groups: Mapping[tuple[str, str], Sequence[int]], chosen: KindOptions) -> None:
    if chosen.interval not in OVER_SUBJECTS:
        return
    needed = subjects_needed(chosen.confidence)
    places = [name_place(rdms, i) for i in range(rdms.n_rdm)]
    count = {one["place"]: len(groups.get((one["system"], one["place"]), [1])) for one in places if one["subject"]}
    few = [f"{place} ({n})" for place, n in count.items() if n < needed]
    if few or not count:
        raise InputError(
            f"interval '{chosen.interval}' at {chosen.confidence:.0%} needs at least {needed} subjects; there are "
            f"fewer in {name_ids(few) or 'these RDMs (none)'}. With few subjects use interval='projection' "
            "(photographs are resampled and permuted within each subject) and the combined p."
        )


def _group_row(
    members: Sequence[int], found: _Found, drawn: Draws, chosen: KindOptions, context: _Context
) -> dict[str, Any]:
    index, values, rdms = list(members), drawn.values, context.rdms
    if chosen.interval in OVER_SUBJECTS and not context.reason:
        ends, p, p_text, text = _subject_interval(values, found.samples[:, index], chosen, context)
    else:
        ends, text = _interval(drawn.resamples, chosen, MOST[found.quantity]), _describe(chosen, context)
        p, p_text = _combined_difference(found, index, drawn, context.sampling, chosen)
    if found.quantity == "similarity":
        p, p_text = _combined_similarity(values, drawn.nulls, chosen)
        p_text = f"{found.null_text}, one-sided; {p_text}" if found.nulls is not None else found.null_text
    return name_place(rdms, index[0]) | {
        "subject": MEAN, "pair": found.name, "quantity": found.quantity, "value": float(values.mean()),
        "ci_low": float(ends[0]), "ci_high": float(ends[1]), "interval": chosen.interval, "p": p, "p_method": p_text,
        "method": f"{text}; mean over {len(index)} subjects", "n_subjects": len(index),
    }  # fmt: skip


def _combined_similarity(values: np.ndarray, nulls: np.ndarray | None, chosen: KindOptions) -> tuple[float, str]:
    if nulls is None:
        return float("nan"), ""
    if chosen.combine == "joint":
        defined = np.isfinite(nulls).all(axis=1)
        return joint_p(values, nulls[defined]), COMBINATIONS["joint"]
    return combine_p(permutation_p(values, nulls), chosen.combine), COMBINATIONS[chosen.combine]


def _combined_difference(
    found: _Found, members: Sequence[int], drawn: Draws, sampling: Sampling, chosen: KindOptions
) -> tuple[float, str]:
    """Combine the subjects' differences: their mean in the same resamples, or their one-sided p of each direction."""
    p, text = _difference_p(drawn.resamples, chosen, sampling)
    if drawn.resamples is None or chosen.combine == "joint":
        return p, text
    parts = [found.resampled([i], chosen) for i in members]
    each = np.stack([part for part in parts if part is not None], axis=1)
    tails = [combine_p(_evidence(each, one), chosen.combine) for one in ("greater", "less")]
    return min(1.0, 2 * min(tails)), f"{text}; {COMBINATIONS[chosen.combine]}"


def _subject_interval(
    values: np.ndarray, samples: np.ndarray, chosen: KindOptions, context: _Context
) -> tuple[tuple[float, float], float, str, str]:
    """Resample subjects, alone or together with photographs; t interval and two-sided p of the mean."""
    from scipy.stats import t as student

    size = len(values)
    draws = generator(chosen.seed, "subjects", size).multinomial(size, np.full(size, 1 / size), chosen.n_resamples)
    over_subjects = draws @ values / size
    if chosen.interval == "dual":
        both = (draws * samples).sum(axis=1) / size
        defined = np.isfinite(both)
        parts = np.array([both[defined], over_subjects[defined], samples.mean(axis=1)[defined]])
        clusters = context.sampling.dof + 1
        variance, dof = dual_variance(parts.var(axis=1, ddof=1), size, clusters), min(size, clusters) - 1
        what = f"{context.sampling.text} and {size} subjects (rsatoolbox's dual bootstrap)"
    else:
        variance, dof = size / (size - 1) * over_subjects.var(ddof=1), size - 1
        what = f"{size} subjects"
    error = math.sqrt(variance)
    half = float(student.isf((1 - chosen.confidence) / 2, dof)) * error
    mean = float(values.mean())
    p = float(2 * student.sf(abs(mean) / error, dof)) if error > 0 else float("nan")
    text = (
        f"{_name_of(chosen.by)}; {chosen.confidence:.0%} t interval ({dof} dof), bootstrap over {what}, {len(draws)} "
        f"resamples{context.note}"
    )
    return (mean - half, mean + half), p, f"t with {dof} dof from the bootstrap over {what}, two-sided", text


def dual_variance(variances: np.ndarray, n_subjects: int, n_stimuli: int) -> float:
    """Put the variances of three bootstraps together: over subjects, over stimuli, over both.

    Parameters
    ----------
    variances : ndarray, shape (3,)
        Over both, over subjects, over stimuli.
    n_subjects, n_stimuli : int
        How many there are.

    Returns
    -------
    float
        Variance for new subjects and new stimuli; not below either single one (corrected for its number) and not
        above the one over both.

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566; ``rsatoolbox.util.inference_util._dual_bootstrap``.
    """
    both, subjects, stimuli = (float(one) for one in variances)
    s, n = n_subjects / (n_subjects - 1), n_stimuli / (n_stimuli - 1)
    variance = s * subjects + n * stimuli - s * n * (both - subjects - stimuli)
    return min(max(variance, s * subjects, n * stimuli), both)


# -------------------------------------------------------------------------------------------------------------- words


def _expected(rdms: RDMs, chosen: KindOptions) -> list[str]:
    """Say what the question of Zhang et al. expects: cortex follows perception, the network's output its own names."""
    if len(chosen.pairs) < 2:
        return [""] * rdms.n_rdm
    decision, perception = ("-".join(pair) for pair in chosen.pairs)
    systems = [name_place(rdms, i)["system"] for i in range(rdms.n_rdm)]
    last = max((i for i, one in enumerate(systems) if one == "network"), default=-1)
    words = {"brain": f"{perception} above {decision} (perception)"}
    return [
        f"{decision} above {perception} (decision; last stage)" if i == last else words.get(one, "")
        for i, one in enumerate(systems)
    ]


def _answer(row: Mapping[str, Any], chosen: KindOptions) -> str:
    if row["quantity"] != "difference":
        return ""
    decision, perception = ("-".join(pair) for pair in chosen.pairs)
    if not np.isfinite(row["ci_low"]):
        if not np.isfinite(row["p"]):
            return "not tested: no interval"
        if row["p"] > 1 - chosen.confidence:
            return f"undecided: p above {1 - chosen.confidence:.2g}"
        row = {"ci_low": row["value"], "ci_high": row["value"]}
    if row["ci_low"] > 0:
        return f"follows perception: {perception} above {decision}"
    if row["ci_high"] < 0:
        return f"follows the network's decision: {decision} above {perception}"
    return "undecided: the interval holds 0"
