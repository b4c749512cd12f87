"""Inference about image types: intervals, permutation p, combined p, families of tests.

Similarities are tested against 0 by permuting the labels of the first kind; their difference by its
own resamples, since permuted labels make both similarities 0 and say nothing of two that are alike
and not 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.rsa.compute import representation_name
from neurometamer.rsa.image_types.ceilings import bounds_of
from neurometamer.rsa.image_types.nulls import Blocks, null_orders, null_scores
from neurometamer.rsa.image_types.options import (
    OVER_SUBJECTS,
    ImageTypeOptions,
    Pair,
    need_pairs,
    subjects_needed,
)
from neurometamer.rsa.image_types.results import (
    COLUMNS,
    MEAN,
    Comparison,
    Context,
    bound_row,
    expected_order,
    result_row,
    what_follows,
    with_families,
)
from neurometamer.rsa.image_types.similarity import (
    class_descriptor,
    image_type_projection,
    image_type_samples,
    name_representation,
    photographs_of,
    shared_references,
)
from neurometamer.rsa.jackknife import Projection
from neurometamer.rsa.measures import measure_of_label
from neurometamer.rsa.rdms import describe_left_out, select_image_type
from neurometamer.rsa.sampling import SIMULATED_FROM, sample_photographs
from neurometamer.rsa.sessions import Removed, session_blocks, session_maps, without_sessions
from neurometamer.rsa.subsample import UnitValues, paired_scores, rows_of, subsample_rdms
from neurometamer.stats.resampling import permute_pairs

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

__all__ = ["COLUMNS", "MEAN", "OVER_SUBJECTS", "compare_image_types"]

FREELY = (
    "sessions differ between photographs, and null 'free' takes no account of them (null 'auto' "
    "does)"
)
"""Why there is no interval; also beside the p."""


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
        Table of `image_type_reliability`: reliability of each kind's RDM, for the ceiling.
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
    need_pairs(dict.fromkeys(map(str, rdms.pattern_descriptors.get("kind", ()))), chosen)
    left_out: list[str] = []
    if chosen.join == "inner":
        rdms, left_out = shared_references(rdms, chosen.image_types)
    groups = _groups(rdms)
    if chosen.interval in OVER_SUBJECTS:
        needed = subjects_needed(chosen.confidence)
        n_subjects = {}
        for i in range(rdms.n_rdm):
            place = name_representation(rdms, i)
            if place["subject"]:
                where = (place["system"], place["representation"])
                n_subjects[place["representation"]] = len(groups.get(where, [i]))
        few = [f"{name} ({n})" for name, n in n_subjects.items() if n < needed]
        if few or not n_subjects:
            raise InputError(
                f"interval '{chosen.interval}' at {chosen.confidence:.0%} needs at least {needed} "
                f"subjects; there are fewer in {name_ids(few) or 'these RDMs (none)'}. With few "
                "subjects use interval='projection' (photographs are resampled and permuted within "
                "each subject) and the combined p."
            )
    context = _context(rdms, chosen, blocks, categories, sessions)
    comparisons, n = _compare_pairs(context, chosen, units)
    expected = expected_order(context.rdms, chosen)
    bounds = bounds_of(reliability)
    single = [[i] for i in range(rdms.n_rdm)]
    rows, draws = [], []
    for members in [*single, *groups.values()]:
        for comparison in comparisons:
            drawn = comparison.draws(members, chosen, context)
            row = result_row(comparison, drawn, members, chosen, context)
            row |= bound_row(comparison, members, bounds, chosen, context.rdms)
            row["expected"] = expected[members[0]]
            row["n"] = n
            row["method"] += describe_left_out(left_out)
            rows.append(row)
            draws.append(drawn)
    table = with_families(pd.DataFrame(rows), draws, chosen, MEAN)
    said = [what_follows(row, chosen) for row in table.to_dict("records")]
    table["follows"], table["answer"] = zip(*said, strict=True)
    return table[COLUMNS]


def _groups(rdms: RDMs) -> dict[tuple[str, str], list[int]]:
    """Find the RDMs of several subjects in one place."""
    places = [name_representation(rdms, i) for i in range(rdms.n_rdm)]
    if again := duplicates(" ".join(place.values()) for place in places):
        raise InputError(
            f"more than one RDM for {name_ids(again)}; give one for each subject and ROI, or stage."
        )
    groups: dict[tuple[str, str], list[int]] = {}
    for i, place in enumerate(places):
        if place["subject"]:
            where = (place["system"], place["representation"])
            groups.setdefault(where, []).append(i)
    return {where: members for where, members in groups.items() if len(members) > 1}


def _context(
    rdms: RDMs,
    chosen: ImageTypeOptions,
    blocks: Blocks | None,
    categories: Mapping[str, str] | None,
    sessions: Blocks | None,
) -> Context:
    """Collect what photographs share, and subtract offsets of sessions."""
    if blocks and chosen.null == "auto":
        raise InputError(
            "blocks were given without saying what they are (null='auto'): add null='session' or "
            "null='class', or give sessions= or categories= instead."
        )
    if blocks and chosen.null == "class" and categories is None:
        categories = cast("Mapping[str, str]", blocks)
    if blocks and chosen.null == "session" and sessions is None:
        sessions = blocks
    categories = categories or class_descriptor(rdms)
    subjects = [name_representation(rdms, i)["subject"] for i in range(rdms.n_rdm)]
    maps = session_maps(rdms, subjects, sessions)
    if chosen.null == "class" and not blocks:
        blocks = categories
    if chosen.null == "session" and not blocks:
        ends = (chosen.pairs[0][0], chosen.pairs[-1][1])
        blocks = session_blocks(rdms, subjects, maps, ends)
    removed = without_sessions(
        rdms,
        maps,
        chosen.image_types,
        chosen.comparator,
        categories,
    )
    if chosen.null == "free" and removed.rdms is not rdms:
        removed = Removed(rdms=rdms, reason=FREELY)
    names = sorted(photographs_of(rdms, chosen.image_types[0]))
    sampling = sample_photographs(names, categories, chosen.classes)
    notes = []
    if removed.text:
        notes.append(removed.text)
    if chosen.interval in ("projection", "stimuli", "dual") and len(names) < SIMULATED_FROM:
        notes.append(f"intervals from fewer than {SIMULATED_FROM} photographs were not simulated")
    if chosen.interval == "dual" and sampling.in_classes:
        notes.append("the bootstrap over photographs and subjects was not simulated with classes")
    return Context(
        rdms=removed.rdms,
        sampling=replace(sampling, lost=removed.lost),
        sessions=maps,
        blocks=blocks,
        reason=removed.reason,
        note="".join(f"; {note}" for note in notes),
    )


def _compare_pairs(
    context: Context, chosen: ImageTypeOptions, units: Iterable[UnitValues] | None
) -> tuple[list[Comparison], int]:
    """Compare both pairs in the same resamples and take their difference; count photographs."""
    rdms = context.rdms
    subsamples = None
    if chosen.interval == "subsample":
        subsamples = _subsampled(context, chosen, units)
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
        sizes.append(orders[0].shape[1])
        if context.reason == FREELY:
            text += f"; {FREELY}"
        if subsamples is None:
            values, samples, projection = _image_samples(context, pair, chosen)
            nulls = null_scores(rdms, pair, chosen, orders)
        else:
            values = image_type_samples(rdms, pair, chosen.comparator, "exact", 0, chosen.seed)[0]
            samples, nulls = _subsample_scores(rdms, pair, chosen, subsamples, orders)
            projection = None
            text += ", each in a subsample of the units of its own"
        number_of = {id(order): number for number, order in enumerate(orders)}
        comparison = Comparison(
            name="-".join(pair),
            quantity="similarity",
            values=values,
            samples=samples,
            projection=projection,
            nulls=nulls,
            null_text=text,
            orders=tuple(number_of[id(order)] for order in orders),
            pair=pair,
        )
        comparisons.append(comparison)
    if len(comparisons) == 2:
        low, high = comparisons
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{low.name} covers {sizes[0]} photographs and {high.name} {sizes[1]}; a "
                "difference needs the same ones (or join='inner')."
            )
        comparisons.append(high.minus(low))
    return comparisons, sizes[0]


def _image_samples(
    context: Context, pair: Pair, chosen: ImageTypeOptions
) -> tuple[np.ndarray, np.ndarray, Projection | None]:
    """Compare two kinds with resampled photographs, or with a projection to sample from."""
    rdms = context.rdms
    n, seed = chosen.n_resamples, chosen.seed
    has_no_projection = (
        chosen.interval == "none" and not find_comparator(chosen.comparator).weighs_pairs
    )
    if has_no_projection or chosen.interval in ("stimuli", "dual"):
        confidence = None if chosen.interval == "dual" else chosen.confidence
        values, samples, _, _ = image_type_samples(
            rdms,
            pair,
            chosen.comparator,
            "exact",
            n,
            seed,
            context.sampling,
            confidence=confidence,
        )
        return values, samples, None
    nothing = np.empty((0, rdms.n_rdm))
    if chosen.interval == "subjects":
        projection = image_type_projection(rdms, pair, chosen.comparator, 0, seed, context.sampling)
        return projection.values, nothing, None
    projection = image_type_projection(rdms, pair, chosen.comparator, n, seed, context.sampling)
    return projection.values, nothing, projection if n else None


# --------------------------------------------------------------------------------------- subsamples


def _subsampled(
    context: Context, chosen: ImageTypeOptions, units: Iterable[UnitValues] | None
) -> list[dict[str, np.ndarray]]:
    """Compute the RDMs of each kind in each subsample, for each RDM in their order."""
    rdms = context.rdms
    if units is None:
        raise InputError(
            f"interval '{chosen.interval}' computes RDMs again from parts of the units: give "
            "patterns or activations, not RDMs (units=)."
        )
    measure = measure_of_label(str(rdms.dissimilarity_measure))
    stimuli = {}
    for kind in dict.fromkeys(map(str, rdms.pattern_descriptors["kind"])):
        stimuli[kind] = list(select_image_type(rdms, kind).pattern_descriptors["stimulus"])
    wanted = []
    for i in range(rdms.n_rdm):
        place = name_representation(rdms, i)
        wanted.append((place["system"], place["subject"], place["representation"]))
    rdms_of: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
    for unit_values in units:
        key = (unit_values.system, unit_values.subject, unit_values.representation)
        if key not in wanted:
            continue
        drawn = subsample_rdms(
            unit_values,
            chosen.n_resamples,
            chosen.seed,
            measure=measure,
            share=chosen.share,
        )
        rdms_of[key] = {}
        for kind, ids in stimuli.items():
            rdms_of[key][kind] = drawn[:, rows_of(unit_values.ids, ids)]
    if lacking := [
        representation_name(rdms, i) for i, key in enumerate(wanted) if key not in rdms_of
    ]:
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
    pairs_of = {}
    for kind in pair:  # the pairs of one kind in order of the photographs' ids
        names = photographs_of(rdms, kind)
        pairs_of[kind] = rows_of(names, sorted(names))
    samples, nulls = [], []
    for parts, order in zip(subsamples, orders):
        first, second = (parts[kind][:, pairs_of[kind]] for kind in pair)
        samples.append(paired_scores(chosen.comparator, first, second))
        if not len(order):
            continue
        permuted = np.empty_like(first)
        for k, vector in enumerate(first):
            order_of_draw = order[k % len(order)]
            permuted[k] = permute_pairs(vector, order_of_draw[np.newaxis])[0]
        nulls.append(paired_scores(chosen.comparator, permuted, second))
    null_scores_of_all = np.stack(nulls, axis=1) if nulls else None
    return np.stack(samples, axis=1), null_scores_of_all
