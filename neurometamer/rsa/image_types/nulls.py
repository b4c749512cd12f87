"""Null distributions of similarities: labels permuted freely, within sessions or classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.comparators.table import comparator
from neurometamer.rsa.compare import join_rdms
from neurometamer.rsa.compute import select_kind
from neurometamer.rsa.image_types.options import ImageTypeOptions, Pair
from neurometamer.rsa.image_types.similarity import name_place
from neurometamer.rsa.rdms import BETWEEN, STIMULI
from neurometamer.rsa.sessions import photograph_sessions
from neurometamer.stats.permutation import Blocks, count_orders, permutation_orders, permute_pairs

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns


@checked_with(tables={"table": STIMULI})
def session_labels(patterns: Patterns, table: pd.DataFrame) -> dict[str, str]:
    """Find the session in which each photograph and its other kinds were shown.

    Parameters
    ----------
    patterns : Patterns
        One subject's responses; ``observations`` name the session.
    table : pandas.DataFrame
        The stimuli: columns id, reference_id.

    Returns
    -------
    dict of str to str
        Photograph → session.

    Raises
    ------
    InputError
        When there are no session labels, only one session, or a photograph was shown in several
        (then sessions are no blocks, and nothing need be blocked).

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
    >>> session_labels(patterns, table)
    {'cat': 'a', 'dog': 'a', 'cup': 'b', 'car': 'b'}
    """
    reference = dict(zip(table["id"].astype(str), table["reference_id"].astype(str)))
    shown = patterns.observations[patterns.observations["condition"].isin(list(reference))]
    sessions = dict.fromkeys(shown["session"])
    subject = f"subject '{patterns.subject}'"
    if set(sessions) <= {""}:
        raise InputError(
            f"{subject}: the patterns have no session labels; permute freely or within classes."
        )
    if len(sessions) == 1:
        raise InputError(
            f"{subject}: all images were shown in session '{next(iter(sessions))}', so there is "
            "nothing to keep together; permute freely or within classes."
        )
    sessions_of: dict[str, set[str]] = {}
    for condition, session in zip(shown["condition"], shown["session"]):
        sessions_of.setdefault(reference[condition], set()).add(session)
    if several := [photograph for photograph, where in sessions_of.items() if len(where) > 1]:
        raise InputError(
            f"{subject}: the images of {name_ids(several)} were shown in several sessions, so "
            "sessions are no blocks; permute freely or within classes."
        )
    return {photograph: next(iter(where)) for photograph, where in sessions_of.items()}


@checked_with(tables={"table": STIMULI})
def class_labels(table: pd.DataFrame, column: str = "category") -> dict[str, str]:
    """Find the class of each photograph.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id and the class.
    column : str
        Column of the class.

    Returns
    -------
    dict of str to str
        Photograph → class.

    Raises
    ------
    InputError
        When the column is missing, empty for a photograph, or the same for all.

    Examples
    --------
    >>> import pandas as pd
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> class_labels(table.assign(category=["animal", "animal", "object", "object"]))
    {'cat': 'animal', 'dog': 'animal', 'cup': 'object', 'car': 'object'}
    """
    if column not in table.columns:
        raise InputError(
            f"the stimulus table has no column '{column}'; it has "
            f"{', '.join(map(str, table.columns))}."
        )
    rows = table[table["kind"] == "RE"]
    labels = _named_classes(rows["reference_id"], rows[column])
    if lacking := [photograph for photograph, label in labels.items() if not label]:
        raise InputError(
            f"no '{column}' for the photographs {name_ids(lacking)}; fill it, or permute freely."
        )
    if not labels:
        raise InputError("the stimulus table has no photographs (kind RE).")
    if len(set(labels.values())) == 1:
        raise InputError(
            f"all photographs have the same '{column}', {next(iter(labels.values()))}; permute "
            "freely."
        )
    return labels


def known_classes(table: pd.DataFrame, column: str = "category") -> dict[str, str] | None:
    """Give the class of each photograph, where a stimulus table has any.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli: columns kind, reference_id and perhaps the class.
    column : str
        Column of the class.

    Returns
    -------
    dict of str to str, or None
        Photograph to class, ``""`` where it is not filled; None where no photograph has a class.
    """
    if column not in table.columns:
        return None
    rows = table[table["kind"] == "RE"]
    labels = _named_classes(rows["reference_id"], rows[column])
    return labels if any(labels.values()) else None


def _named_classes(photographs: Iterable[Any], classes: Iterable[Any]) -> dict[str, str]:
    """Map each photograph to its class; an empty text where there is none."""
    labels = {}
    for photograph, label in zip(photographs, classes):
        is_missing = label is None or label != label
        labels[str(photograph)] = "" if is_missing else str(label)
    return labels


def null_orders(
    rdms: RDMs,
    pair: Pair,
    chosen: ImageTypeOptions,
    blocks: Blocks | None,
    *,
    together: bool,
    sessions: Sequence[Mapping[str, str]] = (),
) -> tuple[list[np.ndarray], str]:
    """Draw orders of the photographs for each RDM.

    RDMs share their orders, unless their subject has sessions of its own.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds; the labels of the first are permuted.
    chosen : ImageTypeOptions
        Null, number of permutations, seed.
    blocks : mapping, optional
        See `Blocks`.
    together : bool
        Whether subjects are combined, so that a joint p needs the same orders in all.
    sessions : sequence of mapping of str to str
        Session of each image for each RDM, where known (`session_maps`).

    Returns
    -------
    list of ndarray, shape (n_permutations, n)
        One for each RDM; photographs in order of their ids. Empty where nothing may change places.
    str
        Description of what was permuted.

    Raises
    ------
    InputError
        When labels are missing or leave nothing to permute; with ``null="auto"`` the words say so
        instead.
    """
    names = [str(name) for name in _pair_of(rdms, pair)[0].pattern_descriptors["condition"]]
    none = [np.empty((0, len(names)), dtype=np.int64)] * rdms.n_rdm
    if not chosen.n_permutations:
        return none, "not tested: no permutations"
    joint = together and chosen.combine == "joint"
    automatic = chosen.null == "auto"
    if automatic:
        labels = _automatic_labels(rdms, pair, names, sessions, joint)
    else:
        subjects = [name_place(rdms, i)["subject"] for i in range(rdms.n_rdm)]
        labels = [_labels(names, chosen, blocks, subject) for subject in subjects]
    if automatic and any(key is not None and len(set(key)) == len(key) for key in labels):
        return none, (
            "not tested: sessions differ between photographs, and no two photographs share their "
            "session (in all subjects, where these are combined jointly)"
        )
    drawn = {
        key: permutation_orders(len(names), chosen.n_permutations, chosen.seed, key)
        for key in dict.fromkeys(labels)
    }
    if len(drawn) > 1 and joint:
        raise InputError(
            "subjects differ in the sessions of the photographs, so their labels cannot be "
            "permuted together; combine their p by 'all', 'fisher' or 'stouffer'."
        )
    blocked, n_orders = labels[0], len(drawn[labels[0]])
    where = "freely"
    if blocked is not None:
        where = f"within {len(set(blocked))} {BLOCK_WORDS[chosen.null]}"
    exact = count_orders(len(names), blocked) - 1 == n_orders
    how_many = f"all {n_orders} other orders (exact)" if exact else f"{n_orders} orders"
    text = f"labels of {pair[0]} permuted {where}, {how_many}"
    return [drawn[key] for key in labels], text


def _automatic_labels(
    rdms: RDMs, pair: Pair, names: Sequence[str], sessions: Sequence[Mapping[str, str]], joint: bool
) -> list[tuple[str, ...] | None]:
    """Give the session of each photograph for each RDM; None where labels change freely.

    A joint p needs labels that differ where the session of any subject does.
    """
    labels: list[tuple[str, ...] | None] = []
    for known in sessions or [{}] * rdms.n_rdm:
        shown = photograph_sessions(rdms, known, pair) if known else {}
        column = tuple(shown.get(name, "") for name in names)
        blocked = len(set(column)) > 1 and not any(BETWEEN in label for label in column)
        labels.append(column if blocked else None)
    columns = [column for column in dict.fromkeys(labels) if column is not None]
    if joint and columns:
        return [tuple(" / ".join(parts) for parts in zip(*columns))] * len(labels)
    return labels


def _pair_of(rdms: RDMs, pair: Pair) -> tuple[RDMs, RDMs]:
    a, b, _ = join_rdms(select_kind(rdms, pair[0]), select_kind(rdms, pair[1]), "exact")
    return a, b


BLOCK_WORDS = {"session": "sessions", "class": "classes", "auto": "sessions"}
"""Null to the plural of its blocks."""


def _labels(
    names: Sequence[str], chosen: ImageTypeOptions, blocks: Blocks | None, subject: str
) -> tuple[str, ...] | None:
    if chosen.null == "free":
        return None
    if not blocks:
        raise InputError(
            f"null '{chosen.null}' needs the {chosen.null} of each photograph; give blocks (see "
            "session_labels and class_labels)."
        )
    mapping: Any = blocks
    if isinstance(next(iter(blocks.values())), Mapping):
        if subject not in blocks:
            raise InputError(
                f"no {chosen.null} labels for subject '{subject}'; there are some for "
                f"{name_ids(blocks)}."
            )
        mapping = blocks[subject]
    if lacking := [name for name in names if name not in mapping]:
        raise InputError(f"no {chosen.null} for the photographs {name_ids(lacking)}.")
    labels = tuple(str(mapping[name]) for name in names)
    if len(set(labels)) == 1:
        raise InputError(
            f"all photographs are of one {chosen.null}, '{labels[0]}'; use null='free'."
        )
    return labels


def null_scores(
    rdms: RDMs, pair: Pair, chosen: ImageTypeOptions, orders: Sequence[np.ndarray]
) -> np.ndarray | None:
    """Compare the second kind with the first in permuted orders.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds; the labels of the first are permuted.
    chosen : ImageTypeOptions
        Comparator.
    orders : sequence of ndarray
        See `null_orders`.

    Returns
    -------
    ndarray, shape (n_permutations, n_rdms), or None
        None without orders; NaN at the end of a column whose subject has fewer distinct orders.
    """
    from scipy.stats import rankdata

    if not any(len(order) for order in orders):
        return None
    a, b = _pair_of(rdms, pair)
    first, second, by = a.dissimilarities, b.dissimilarities, chosen.by
    if by == "spearman":  # ranks move with their pairs: rank once
        first, second, by = rankdata(first, axis=1), rankdata(second, axis=1), "pearson"
    compare = comparator(by)
    out = np.full((max(map(len, orders)), len(first)), np.nan)
    for rdm, other, order, column in zip(first, second, orders, out.T):
        for start in range(0, len(order), 256):
            part = permute_pairs(rdm, order[start : start + 256])
            column[start : start + len(part)] = compare(part, other[np.newaxis])[:, 0]
    return out
