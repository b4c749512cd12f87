"""Null distributions of similarities: labels permuted freely, within sessions or classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.comparators.table import permuted_comparison
from neurometamer.rsa.image_types.options import ImageTypeOptions, Pair
from neurometamer.rsa.image_types.similarity import join_pair, name_representation
from neurometamer.rsa.rdms import STIMULI, condition_ids
from neurometamer.rsa.sessions import labels_of_subject, photograph_sessions, sessions_differ
from neurometamer.stats.resampling import Blocks, count_orders, permutation_orders

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
    photograph_of = dict(zip(table["id"].astype(str), table["reference_id"].astype(str)))
    is_stimulus = patterns.observations["condition"].isin(list(photograph_of))
    shown = patterns.observations[is_stimulus]
    sessions = list(dict.fromkeys(shown["session"]))
    subject = f"subject '{patterns.subject}'"
    if set(sessions) <= {""}:
        raise InputError(
            f"{subject}: the patterns have no session labels; permute freely or within classes."
        )
    if len(sessions) == 1:
        raise InputError(
            f"{subject}: all images were shown in session '{sessions[0]}', so there is nothing to "
            "keep together; permute freely or within classes."
        )
    session_of: dict[str, str] = {}
    several = {}
    for condition, session in zip(shown["condition"], shown["session"]):
        photograph = photograph_of[condition]
        if session_of.setdefault(photograph, session) != session:
            several[photograph] = session
    if several:
        in_order = [photograph for photograph in session_of if photograph in several]
        raise InputError(
            f"{subject}: the images of {name_ids(in_order)} were shown in several sessions, so "
            "sessions are no blocks; permute freely or within classes."
        )
    return session_of


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
            f"the stimulus table has no column '{column}'; give one of "
            f"{', '.join(map(str, table.columns))}."
        )
    rows = table[table["kind"] == "RE"]
    labels = _named_classes(rows["reference_id"], rows[column])
    if lacking := [photograph for photograph, label in labels.items() if not label]:
        raise InputError(
            f"no '{column}' for the photographs {name_ids(lacking)}; fill it, or permute freely."
        )
    if not labels:
        kinds = ", ".join(map(str, dict.fromkeys(table["kind"])))
        raise InputError(
            f"the stimulus table has no photographs (kind RE), but {kinds or 'nothing'}; add them."
        )
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
    photographs = rows["reference_id"]
    classes = rows[column]
    labels = _named_classes(photographs, classes)
    return labels if any(labels.values()) else None


def _named_classes(photographs: Iterable[Any], classes: Iterable[Any]) -> dict[str, str]:
    """Map each photograph to its class; an empty text where there is none."""
    labels = {}
    for photograph, label in zip(photographs, classes):
        name = str(photograph)
        is_missing = label is None or label != label
        text = "" if is_missing else str(label)
        labels[name] = text
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
    first, _, _ = join_pair(rdms, pair)
    names = condition_ids(first)
    n = len(names)
    none = [np.empty((0, n), dtype=np.int64)] * rdms.n_rdm
    if not chosen.n_permutations:
        return none, "not tested: no permutations"
    is_joint = together and chosen.combine == "joint"
    if chosen.null == "auto":
        labels = _automatic_labels(rdms, pair, names, sessions, is_joint)
        if any(column is not None and len(set(column)) == n for column in labels):
            return none, (
                "not tested: sessions differ between photographs, and no two photographs share "
                "their session (in all subjects, where these are combined jointly)"
            )
    else:
        subjects = [name_representation(rdms, i)["subject"] for i in range(rdms.n_rdm)]
        labels = [_labels(names, chosen, blocks, subject) for subject in subjects]
    drawn = {}
    for column in dict.fromkeys(labels):
        drawn[column] = permutation_orders(
            n,
            chosen.n_permutations,
            chosen.seed,
            column,
        )
    if len(drawn) > 1 and is_joint:
        raise InputError(
            f"subjects differ in the {BLOCK_WORDS[chosen.null]} of the photographs, so their "
            "labels "
            "cannot be permuted together; combine their p by 'all', 'fisher' or 'stouffer'."
        )
    blocked = labels[0]
    where = "freely"
    if blocked is not None:
        where = f"within {len(set(blocked))} {BLOCK_WORDS[chosen.null]}"
    n_orders = len(drawn[blocked])
    how_many = f"{n_orders} orders"
    if count_orders(n, blocked) - 1 == n_orders:
        how_many = f"all {n_orders} other orders (exact)"
    text = f"labels of {pair[0]} permuted {where}, {how_many}"
    return [drawn[column] for column in labels], text


def _automatic_labels(
    rdms: RDMs, pair: Pair, names: Sequence[str], sessions: Sequence[Mapping[str, str]], joint: bool
) -> list[tuple[str, ...] | None]:
    """Give the session of each photograph for each RDM; None where labels change freely.

    A joint p needs labels that differ where the session of any subject does.
    """
    labels: list[tuple[str, ...] | None] = []
    for known in sessions or [{}] * rdms.n_rdm:
        session_of = {}
        if known:
            session_of = photograph_sessions(rdms, known, pair)
        column = tuple(session_of.get(name, "") for name in names)
        labels.append(column if sessions_differ(column) else None)
    columns = [column for column in dict.fromkeys(labels) if column is not None]
    if joint and columns:
        together = tuple(" / ".join(parts) for parts in zip(*columns))
        return [together] * len(labels)
    return labels


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
    label_of = labels_of_subject(blocks, subject, f"{chosen.null} labels")
    if lacking := [name for name in names if name not in label_of]:
        raise InputError(
            f"no {chosen.null} for the photographs {name_ids(lacking)}; give all of them one."
        )
    labels = tuple(str(label_of[name]) for name in names)
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
    longest = max((len(order) for order in orders), default=0)
    if not longest:
        return None
    a, b, _ = join_pair(rdms, pair)
    shape = (longest, rdms.n_rdm)
    scores = np.full(shape, np.nan)
    for i, order in enumerate(orders):
        one = slice(i, i + 1)
        compared = permuted_comparison(
            a.dissimilarities[one],
            b.dissimilarities[one],
            order,
            chosen.comparator,
        )
        scores[: len(order), i] = compared[:, 0, 0]
    return scores
