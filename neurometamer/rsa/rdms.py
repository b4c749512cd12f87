"""RDMs with names: labelled, checked and joined by stimulus id.

The container is `rsatoolbox.rdm.RDMs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.stats.resampling import pair_positions

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


STIMULI = Columns(
    "the stimulus table",
    "A table of stimuli has id, kind (RE, AN, AI …) and reference_id (the id of the photograph; of "
    "RE its own).",
    ("id", "kind", "reference_id"),
)
"""Columns that a table of stimuli must have."""

MIN_CONDITIONS = 4
"""Three conditions give three pairs: no rank correlation of RDMs means anything below four."""


def check_enough(names: Sequence[str], place: str) -> None:
    """Refuse fewer conditions than an RDM needs.

    Parameters
    ----------
    names : sequence of str
        Conditions.
    place : str
        Owner of the conditions, for the message.

    Raises
    ------
    InputError
        For fewer than 4.
    """
    if len(names) < MIN_CONDITIONS:
        raise InputError(
            f"{place}: {len(names)} condition(s) ({name_ids(names)}); at least {MIN_CONDITIONS} "
            "are needed: give more stimuli."
        )


@checked
def label_rdms(
    dissimilarities: np.ndarray,
    *,
    conditions: Sequence[str],
    rdm_descriptors: Mapping[str, Sequence[Any]],
    pattern_descriptors: Mapping[str, Sequence[str]] | None = None,
    measure: str,
    provenance: Mapping[str, Any] | None = None,
) -> RDMs:
    """Give dissimilarities their names; the way in for RDMs that were made elsewhere.

    Parameters
    ----------
    dissimilarities : ndarray, shape (n_rdms, n_pairs) or (n_rdms, n, n)
        Finite numbers.
    conditions : sequence of str, length n
        Stimulus ids, unique.
    rdm_descriptors : mapping of str to sequence
        One list of length n_rdms each, e.g. ``stage``, ``subject``, ``roi``, ``system``.
    pattern_descriptors : mapping of str to sequence of str, optional
        One list of length n each, e.g. ``kind``, ``reference_id``.
    measure : str
        Name of the measure, e.g. ``"1 - Spearman"``.
    provenance : mapping, optional
        Record of the inputs; kept as JSON text in ``descriptors["provenance"]``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Checked (`check_rdms`).

    Raises
    ------
    InputError
        When ids repeat or are too few, numbers are missing or negative (`check_rdms`), lengths do
        not fit, or a square RDM is not symmetric or not zero on the diagonal.

    Examples
    --------
    >>> rdms = label_rdms(
    ...     np.array([[1.0, 2, 3, 4, 5, 6]]),
    ...     conditions=["cat", "dog", "cup", "car"],
    ...     rdm_descriptors={"subject": ["S1"], "roi": ["V1"]},
    ...     measure="1 - Pearson",
    ... )
    >>> rdms.pattern_descriptors["condition"], rdms.rdm_descriptors["roi"]
    (['cat', 'dog', 'cup', 'car'], ['V1'])
    """
    from rsatoolbox.rdm import RDMs

    ids = [str(name) for name in conditions]
    given = dict(pattern_descriptors or {})
    values = _fitting(dissimilarities, ids, rdm_descriptors, given)
    of_patterns = {"condition": ids}
    for name, column in given.items():
        of_patterns[name] = [str(label) for label in column]
    of_rdms = {}
    for name, column in rdm_descriptors.items():
        of_rdms[name] = _plain(column)
    text = json.dumps(dict(provenance or {}), sort_keys=True, default=str)
    rdms = RDMs(
        values,
        dissimilarity_measure=measure,
        descriptors={"provenance": text},
        rdm_descriptors=of_rdms,
        pattern_descriptors=of_patterns,
    )
    check_rdms(rdms, "RDMs")
    return rdms


def _fitting(
    dissimilarities: np.ndarray,
    ids: Sequence[str],
    places: Mapping[str, Sequence[Any]],
    patterns: Mapping[str, Sequence[str]],
) -> np.ndarray:
    """Check shapes and lengths, and squares for symmetry; give float64."""
    check_enough(ids, "RDMs")
    try:
        values = np.asarray(dissimilarities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"RDMs: dissimilarities must be numbers ({error}).") from error
    if values.ndim == 1:
        values = values[np.newaxis]
    n = len(ids)
    n_pairs = n * (n - 1) // 2
    if values.shape[1:] not in ((n_pairs,), (n, n)):
        raise InputError(
            f"RDMs: dissimilarities of shape {values.shape} do not fit {n} conditions "
            f"({name_ids(ids)}); give (n_rdms, {n_pairs}) or (n_rdms, {n}, {n})."
        )
    for sort, table, size in (
        ("rdm_descriptors", places, len(values)),
        ("pattern_descriptors", patterns, n),
    ):
        odd = []
        for name, column in table.items():
            if len(column) != size:
                odd.append(f"{name} ({len(column)})")
        if odd:
            raise InputError(
                f"RDMs: {sort} of other lengths than {size}: {name_ids(odd)}; give one label each."
            )
    if values.ndim == 3:
        check_squares(values, ids, "RDMs")
    return values


TOLERANCE = 1e-6
"""Largest asymmetry or diagonal value, as a share of the largest dissimilarity."""


def check_squares(squares: np.ndarray, ids: Sequence[str], what: str) -> None:
    """Refuse square RDMs that are not symmetric or not zero on the diagonal.

    Parameters
    ----------
    squares : ndarray, shape (n_rdms, n, n)
        Dissimilarities.
    ids : sequence of str, length n
        Conditions.
    what : str
        Their name in messages.

    Raises
    ------
    InputError
        Naming the conditions.
    """
    sizes = np.nan_to_num(np.abs(squares))
    largest = sizes.max(axis=(1, 2), keepdims=True)
    slack = TOLERANCE * largest
    asymmetry = np.abs(squares - squares.transpose(0, 2, 1))
    apart = (asymmetry > slack).any(axis=0)
    if apart.any():
        rows, columns = np.nonzero(np.triu(apart))
        raise InputError(
            f"{what}: not symmetric: both directions differ between "
            f"{name_pairs(rows, columns, ids)}; give one number for each pair."
        )
    diagonal = np.diagonal(squares, axis1=1, axis2=2)
    is_off = np.abs(diagonal) > slack[:, :, 0]
    off = [name for name, bad in zip(ids, is_off.any(axis=0)) if bad]
    if off:
        raise InputError(
            f"{what}: the diagonal is not zero for {name_ids(off)}; is this a similarity matrix?"
        )


def name_pairs(first: np.ndarray, second: np.ndarray, ids: Sequence[str]) -> str:
    """Name pairs of conditions for people.

    Parameters
    ----------
    first, second : ndarray of int
        Both sides of each pair.
    ids : sequence of str
        Conditions.

    Returns
    -------
    str
        ``"a and b, c and d"``, at most five.
    """
    pairs = []
    for i, j in np.stack([first, second], axis=1).tolist():
        left, right = ids[i], ids[j]
        pairs.append(f"{left} and {right}")
    return name_ids(pairs)


def _plain(column: Iterable[Any]) -> list[Any]:
    """Turn numpy and pandas scalars into Python's, which HDF5 and equality tests treat alike."""
    values = []
    for value in column:
        is_scalar = isinstance(value, np.generic)
        values.append(value.item() if is_scalar else value)
    return values


def condition_ids(rdms: RDMs) -> list[str]:
    """List the ids of the conditions, in their order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        With ``pattern_descriptors["condition"]``.

    Returns
    -------
    list of str
        One a condition.
    """
    return [str(name) for name in rdms.pattern_descriptors["condition"]]


def check_rdms(rdms: RDMs, what: str) -> None:
    """Refuse RDMs that cannot be joined by id or hold missing numbers.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs from anywhere.
    what : str
        Their name in messages, e.g. the file.

    Raises
    ------
    InputError
        Without ``pattern_descriptors["condition"]``, with repeated ids, fewer than 4 conditions, or
        dissimilarities that are NaN, infinite or negative (which RDMs and conditions is said). Only
        crossvalidated ones can be negative; their ``dissimilarity_measure`` says ``crossnobis`` or
        ``crossvalidated``.
    """
    _check_type(rdms, what)
    if "condition" not in rdms.pattern_descriptors:
        raise InputError(
            f"{what}: no stimulus ids; put them in pattern_descriptors['condition'] "
            f"(found: {', '.join(rdms.pattern_descriptors) or 'nothing'})."
        )
    names = condition_ids(rdms)
    again = duplicates(names)
    if again:
        raise InputError(
            f"{what}: repeated stimulus id(s) {name_ids(again)}; every condition needs an id of "
            "its own."
        )
    check_enough(names, what)
    first, second = np.triu_indices(rdms.n_cond, 1)
    bad_rdm, bad_pair = np.nonzero(~np.isfinite(rdms.dissimilarities))
    if bad_rdm.size:
        pairs = np.unique(bad_pair)
        ends = np.stack([first[pairs], second[pairs]], axis=1).ravel()
        ids = dict.fromkeys(names[i] for i in ends)
        where = [representation_name(rdms, i) for i in np.unique(bad_rdm).tolist()]
        raise InputError(
            f"{what}: dissimilarities are NaN or infinite in {name_ids(where)}, stimuli "
            f"{name_ids(ids)}; leave those RDMs or stimuli out."
        )
    measure = str(rdms.dissimilarity_measure).lower()
    if any(word in measure for word in SIGNED):
        return
    below = np.unique(np.nonzero(rdms.dissimilarities < -1e-9)[1])
    if below.size:
        raise InputError(
            f"{what}: negative dissimilarities between "
            f"{name_pairs(first[below], second[below], names)}; only "
            "crossvalidated ones can be: then say measure='crossnobis', else make the RDMs "
            "anew."
        )


SIGNED = ("crossnobis", "crossvalidated")
"""Words in the name of a measure whose dissimilarities may be negative."""


def refuse_flat(rdms: RDMs) -> None:
    """Refuse constant RDMs.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs to check.

    Raises
    ------
    InputError
        Naming those whose dissimilarities are all equal.
    """
    is_flat = np.ptp(rdms.dissimilarities, axis=1) == 0
    if is_flat.any():
        flat = [representation_name(rdms, i) for i in np.flatnonzero(is_flat).tolist()]
        raise InputError(
            f"all dissimilarities are equal in {name_ids(flat)}, so they correlate with nothing; "
            "leave those RDMs out."
        )


def _check_type(rdms: Any, what: str) -> None:
    if not hasattr(rdms, "pattern_descriptors") or not hasattr(rdms, "dissimilarities"):
        raise InputError(
            f"{what}: expected rsatoolbox.rdm.RDMs, not {type(rdms).__name__}; read_rdms opens "
            "files and label_rdms names numbers."
        )


def representation_name(rdms: RDMs, index: int) -> str:
    """Name one RDM of many for people, e.g. ``"S1 V4"``.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        The RDMs.
    index : int
        Position of the RDM.

    Returns
    -------
    str
        Subject and ROI or stage, or its number where it has none.
    """
    labels = []
    for name in ("subject", "roi", "stage", "name"):
        column = rdms.rdm_descriptors.get(name)
        if column is None:
            continue
        label = column[index]
        labels.append(str(label))
    return " ".join(labels) or f"RDM {index}"


# ------------------------------------------------------------------------------------------ joining


def match_ids(have: Iterable[str], wanted: Iterable[str], what: str, other: str) -> np.ndarray:
    """Find where each wanted id stands; both sides must hold the same ids, each once.

    Parameters
    ----------
    have : iterable of str
        Ids there are.
    wanted : iterable of str
        Ids in the order asked for.
    what, other : str
        Names of the two sides for messages.

    Returns
    -------
    ndarray of int
        ``have[result[k]] == wanted[k]``.

    Raises
    ------
    InputError
        Listing repeated ids, ids that only one side holds, or both.

    Examples
    --------
    >>> match_ids(["b", "a"], ["a", "b"], "patterns", "the table").tolist()
    [1, 0]
    """
    left = [str(name) for name in have]
    right = [str(name) for name in wanted]
    position = {name: i for i, name in enumerate(left)}
    known = set(right)
    missing = [name for name in right if name not in position]
    extra = [name for name in left if name not in known]
    problems = {
        f"repeated in {what}": duplicates(left),
        f"repeated in {other}": duplicates(right),
        f"missing from {what}": missing,
        f"missing from {other}": extra,
    }
    texts = [f"{problem}: {name_ids(ids)}" for problem, ids in problems.items() if ids]
    if texts:
        raise InputError(
            f"{what} and {other} do not hold the same stimuli; {'; '.join(texts)}. Give the same "
            "ids "
            "on both sides, each once."
        )
    rows = [position[name] for name in right]
    return np.array(rows, dtype=int)


@checked_with(whole=("rows",), shapes={"rows": "conditions"})
def take_conditions(rdms: RDMs, rows: Sequence[int] | np.ndarray) -> RDMs:
    """Reorder or select the conditions of RDMs.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        Left unchanged.
    rows : sequence of int
        Positions of the conditions, in the order wanted, each at most once.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        New object; all descriptors follow.

    Raises
    ------
    InputError
        For a row that is not there, or asked for twice.

    Examples
    --------
    >>> from neurometamer import compute_rdms
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> rdms = compute_rdms(values, ids=["cat", "dog", "cup", "car"])
    >>> part = take_conditions(rdms, [3, 0, 2])
    >>> part.pattern_descriptors["condition"], part.dissimilarities.round(12).tolist()
    (['car', 'cat', 'cup'], [[0.5, 1.5, 2.0]])
    """
    from rsatoolbox.rdm import RDMs

    index = np.asarray(rows, dtype=int)
    bad = index[(index < 0) | (index >= rdms.n_cond)]
    if bad.size:
        raise InputError(
            f"rows {name_ids(bad)} are not among the {rdms.n_cond} conditions; give numbers of 0 "
            "to "
            f"{rdms.n_cond - 1}."
        )
    again = duplicates(index.tolist())
    if again:
        raise InputError(
            f"rows {name_ids(again)} asked for twice; a condition has one place in an RDM: give "
            "each "
            "row once."
        )
    pattern_descriptors = {}
    for name, column in rdms.pattern_descriptors.items():
        if name != "index":
            pattern_descriptors[name] = _plain(column[i] for i in index)
    rdm_descriptors = {}
    for name, column in rdms.rdm_descriptors.items():
        rdm_descriptors[name] = _plain(column)
    positions = pair_positions(index, rdms.n_cond)
    return RDMs(
        rdms.dissimilarities[:, positions],
        dissimilarity_measure=rdms.dissimilarity_measure,
        descriptors=dict(rdms.descriptors),
        rdm_descriptors=rdm_descriptors,
        pattern_descriptors=pattern_descriptors,
    )


@checked
def select_image_type(rdms: RDMs, image_type: str, by: str = "reference_id") -> RDMs:
    """Take the part of one image type, its conditions named by their photograph.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All image types in one, with ``pattern_descriptors`` kind and `by`.
    image_type : str
        ``"RE"``, ``"AN"``, ``"AI"`` …
    by : str
        Descriptor that becomes ``condition``; the stimulus id stays as ``stimulus``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Equal to the RDMs of these images alone.

    Raises
    ------
    InputError
        For a missing descriptor, an unknown image type, two images of the type from one photograph,
        or fewer than 4.

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
    >>> select_image_type(rdms, "AI").pattern_descriptors["condition"]
    ['RE0', 'RE1', 'RE2', 'RE3', 'RE4', 'RE5']
    """
    for name in ("kind", by):
        if name not in rdms.pattern_descriptors:
            raise InputError(
                f"the RDMs have no pattern_descriptors['{name}'], so no image type can be "
                f"selected; they have {name_ids(rdms.pattern_descriptors)}: give labels with "
                "label_rdms."
            )
    column = rdms.pattern_descriptors["kind"]
    known = list(map(str, column))
    if image_type not in known:
        raise unknown_name("image type", image_type, dict.fromkeys(known))
    rows = [row for row, name in enumerate(known) if name == image_type]
    part = take_conditions(rdms, rows)
    held = part.pattern_descriptors
    held["stimulus"] = held["condition"]
    held["condition"] = [str(label) for label in held[by]]
    check_rdms(part, f"RDMs of {image_type}")
    return part


ALL_IMAGE_TYPES = "all"
"""Name, in place of an image type, of all stimuli together."""


def take_image_type(rdms: RDMs, image_type: str | None) -> RDMs:
    """Take the stimuli of one image type; without one all of them, where there is one only.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with or without ``pattern_descriptors["kind"]``.
    image_type : str or None
        An image type (`select_image_type`); ``"all"``: all stimuli as they are named; None: the
        same, where there is one type only.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        RDMs of those stimuli.

    Raises
    ------
    InputError
        For an unknown image type, or for None where there are several: pairs within and between
        types differ for other reasons than the question asked.
    """
    _check_type(rdms, "RDMs")
    if image_type == ALL_IMAGE_TYPES:
        return rdms
    if image_type is not None:
        return select_image_type(rdms, image_type)
    labels = rdms.pattern_descriptors.get("kind", ())
    known = list(dict.fromkeys(map(str, labels)))
    if len(known) > 1:
        raise InputError(
            f"the RDMs hold stimuli of several image types ({name_ids(known)}); name one, e.g. "
            f"image_type='{known[0]}', or give image_type='{ALL_IMAGE_TYPES}' to take pairs within "
            "and between types together."
        )
    return rdms


def stimulus_labels(*sides: RDMs) -> pd.DataFrame:
    """Read the labels of stimuli from RDMs that hold them in the same order.

    Parameters
    ----------
    *sides : rsatoolbox.rdm.RDMs
        The first that knows a label counts.

    Returns
    -------
    pandas.DataFrame
        Columns condition, reference_id (photograph) and category; empty texts where not known.
    """
    import pandas as pd

    ids = condition_ids(sides[0])
    table = {"condition": ids}
    for name in ("reference_id", "category"):
        table[name] = [""] * len(ids)
        for side in reversed(sides):
            column = side.pattern_descriptors.get(name, ())
            labels = [str(label) for label in column]
            if any(labels):
                table[name] = labels
    return pd.DataFrame(table)


def name_conditions(sides: Sequence[RDMs], descriptor: str) -> list[RDMs]:
    """Name the conditions of RDMs by one of their pattern descriptors.

    Parameters
    ----------
    sides : sequence of rsatoolbox.rdm.RDMs
        RDMs from anywhere; left unchanged.
    descriptor : str
        Pattern descriptor that holds the ids of one of them at least.

    Returns
    -------
    list of rsatoolbox.rdm.RDMs
        The same with these ids under ``pattern_descriptors["condition"]``; as they were where they
        have no such descriptor.

    Raises
    ------
    InputError
        When none of them has the descriptor; those that they have are listed.

    Examples
    --------
    >>> from rsatoolbox.rdm import RDMs
    >>> rdms = RDMs(np.arange(6.0)[np.newaxis], pattern_descriptors={"image": list("abcd")})
    >>> name_conditions([rdms], "image")[0].pattern_descriptors["condition"]
    ['a', 'b', 'c', 'd']
    """
    if descriptor == "condition":
        return list(sides)
    known: dict[str, None] = {}
    for rdms in sides:
        _check_type(rdms, "RDMs")
        known |= dict.fromkeys(rdms.pattern_descriptors)
    if descriptor not in known:
        raise unknown_name("pattern descriptor of the RDMs", descriptor, known)
    named = []
    for rdms in sides:
        if descriptor in rdms.pattern_descriptors:
            rdms = take_conditions(rdms, range(rdms.n_cond))
            labels = rdms.pattern_descriptors[descriptor]
            rdms.pattern_descriptors["condition"] = [str(label) for label in labels]
        named.append(rdms)
    return named


def describe_left_out(left_out: Sequence[str]) -> str:
    """Name the ids that only one side held, for the column ``method``.

    Parameters
    ----------
    left_out : sequence of str
        Ids, of which at most five are named.

    Returns
    -------
    str
        Text to be appended; empty where there are none.

    Examples
    --------
    >>> describe_left_out(["fig", "gnu"])
    '; held by one side only and left out: fig, gnu'
    """
    if not left_out:
        return ""
    return f"; held by one side only and left out: {name_ids(left_out)}"


@checked
def align_rdms(
    a: RDMs, b: RDMs, by: str = "condition", *, join: str = "exact"
) -> tuple[RDMs, RDMs]:
    """Put two sets of RDMs into the same order of stimuli, by id.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        In any order; left unchanged.
    by : str
        Pattern descriptor that holds the ids.
    join : str
        ``"exact"``: both must hold the same ids. ``"inner"``: the ids that both hold are kept; the
        others are listed in ``descriptors["left_out"]`` of the results.

    Returns
    -------
    tuple of rsatoolbox.rdm.RDMs
        Both in the order of `a`.

    Raises
    ------
    InputError
        Listing missing, extra and repeated ids; also when fewer than 4 stimuli are shared.

    Examples
    --------
    >>> from neurometamer import compute_rdms
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> first = compute_rdms(values, ids=["cat", "dog", "cup", "car"])
    >>> second = compute_rdms(values[::-1], ids=["car", "cup", "dog", "cat"])
    >>> a, b = align_rdms(first, second)
    >>> b.pattern_descriptors["condition"], bool(np.allclose(a.dissimilarities, b.dissimilarities))
    (['cat', 'dog', 'cup', 'car'], True)
    """
    if join not in ("exact", "inner"):
        raise unknown_name("join", join, ("exact", "inner"))
    for rdms, name in ((a, "first"), (b, "second")):
        if by not in rdms.pattern_descriptors:
            raise InputError(
                f"the {name} RDMs have no pattern_descriptors['{by}'] to be joined by; they have "
                f"{name_ids(rdms.pattern_descriptors)}."
            )
    left = [str(name) for name in a.pattern_descriptors[by]]
    right = [str(name) for name in b.pattern_descriptors[by]]
    if join == "inner":
        shared = set(left) & set(right)
        left_out = sorted(set(left) ^ set(right))
        others = name_ids(left_out) or "none"
        check_enough(sorted(shared), f"stimuli shared by both RDMs (left out: {others})")
        left_rows = [i for i, name in enumerate(left) if name in shared]
        right_rows = [i for i, name in enumerate(right) if name in shared]
        a = take_conditions(a, left_rows)
        b = take_conditions(b, right_rows)
        a.descriptors["left_out"] = left_out
        b.descriptors["left_out"] = left_out
        left = [left[i] for i in left_rows]
        right = [right[i] for i in right_rows]
    rows = match_ids(right, left, "the second RDMs", "the first RDMs")
    check_enough(left, "stimuli shared by both RDMs")
    return take_conditions(a, range(a.n_cond)), take_conditions(b, rows)


def join_rdms(a: RDMs, b: RDMs, join: str) -> tuple[RDMs, RDMs, list[str]]:
    """Check two sets of RDMs and put both into the order of their ids.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        RDMs whose stimuli come in any order.
    join : {"exact", "inner"}
        ``"exact"`` or ``"inner"``, see `align_rdms`.

    Returns
    -------
    a, b : rsatoolbox.rdm.RDMs
        Stimuli sorted by id.
    left_out : list of str
        Ids that only one side held, sorted.

    Raises
    ------
    InputError
        When ids do not match, or an RDM is constant.
    """
    check_rdms(a, "the first RDMs")
    check_rdms(b, "the second RDMs")
    # sorted by id, so that the draws of the bootstrap do not depend on the order in a file
    order = np.argsort(condition_ids(a))
    in_order = take_conditions(a, order)
    first, second = align_rdms(in_order, b, join=join)
    refuse_flat(first)
    refuse_flat(second)
    left_out: list[str] = []
    if join == "inner":
        left_out = first.descriptors["left_out"]
    return first, second, left_out
