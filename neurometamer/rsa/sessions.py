"""Sessions that differ between images, and dissimilarities without the offsets of sessions.

What a session adds to all its responses makes images of one session alike in every RDM, so that two
unrelated RDMs agree. Offsets leave when the mean of each pair of sessions is taken off the
dissimilarities: what is left compares pairs of images within the same pair of sessions only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.rsa.compute import BETWEEN, SESSION
from neurometamer.stats.resampling import Blocks

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

CENTERED = (
    "sessions differ between images: the mean of each pair of sessions taken off the "
    "dissimilarities first"
)
"""Text for the column ``method``."""


SPREAD = "images were shown in several sessions each, whose offsets were not taken off"
"""Text for the column ``method``."""


def session_maps(
    rdms: RDMs, subjects: Sequence[str], sessions: Blocks | None
) -> list[dict[str, str]]:
    """Look up the session of each image for each RDM.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with pattern descriptors condition and reference_id, and those of
        `session_descriptors`.
    subjects : sequence of str, length n_rdms
        Subject of each RDM.
    sessions : mapping, optional
        Photograph to session, or subject to such a mapping; stands in for what the RDMs know.

    Returns
    -------
    list of dict of str to str
        One for each RDM, image to session; empty where no session is known.

    Raises
    ------
    InputError
        When sessions are given for some subjects or photographs only.
    """
    ids = _names(rdms, "condition")
    photographs = [str(name) for name in rdms.pattern_descriptors.get("reference_id", ids)]
    maps = []
    for subject in subjects:
        if sessions:
            session_of = labels_of_subject(sessions, subject, "session labels")
            lacking = [name for name in dict.fromkeys(photographs) if name not in session_of]
            if lacking:
                raise InputError(
                    f"no session for the photographs {name_ids(lacking)}; give all of them a "
                    "session."
                )
            column: Any = [session_of[photograph] for photograph in photographs]
        else:
            shared = rdms.pattern_descriptors.get(SESSION)
            column = rdms.pattern_descriptors.get(f"{SESSION}:{subject}", shared)
        known = {}
        if column is not None:
            known = {image: str(session) for image, session in zip(ids, column)}
        maps.append(known)
    return maps


def _names(rdms: RDMs, descriptor: str) -> list[str]:
    column = rdms.pattern_descriptors[descriptor]
    return [str(name) for name in column]


def labels_of_subject(blocks: Blocks, subject: str, what: str) -> Mapping[str, str]:
    """Choose the session or class labels of one subject.

    Parameters
    ----------
    blocks : mapping
        Photograph to label, or subject to such a mapping.
    subject : str
        Name of the subject.
    what : str
        Name of the labels in messages, such as ``"session labels"``.

    Returns
    -------
    mapping of str to str
        Photograph to label.

    Raises
    ------
    InputError
        When there are labels of other subjects only.
    """
    chosen: Any = blocks
    first = next(iter(blocks.values()), None)
    if isinstance(first, Mapping):
        if subject not in blocks:
            raise InputError(
                f"no {what} for subject '{subject}'; give them: there are some for "
                f"{name_ids(blocks)}."
            )
        chosen = blocks[subject]
    return chosen


@dataclass(frozen=True, kw_only=True)
class Removed:
    """RDMs without the offsets of sessions, or why there are none.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        Without the offsets; the RDMs as they were where no sessions differ, or nothing could be
        taken off.
    lost : int
        Degrees of freedom that went with the sessions: the largest number of sessions minus 1.
    text : str
        For the column ``method``; empty where no sessions differ.
    reason : str
        Why offsets could not be taken off, so that no interval is given; empty otherwise.
    """

    rdms: RDMs
    lost: int = 0
    text: str = ""
    reason: str = ""


def without_sessions(
    rdms: RDMs,
    maps: Sequence[Mapping[str, str]],
    kinds: Sequence[str],
    comparator: str,
    classes: Mapping[str, str] | None,
) -> Removed:
    """Take the mean of each pair of sessions off the dissimilarities within each image type.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All image types in one RDM.
    maps : sequence of mapping of str to str
        Session of each image for each RDM, see `session_maps`.
    kinds : sequence of str
        Image types that are compared.
    comparator : str
        One of `COMPARATORS`.
    classes : mapping of str to str, optional
        Photograph to class: where classes go with sessions, the text says so.

    Returns
    -------
    Removed
        RDMs without the offsets, or why there are none.

    Notes
    -----
    The mean of all pairs of an image type is put back, so that only differences between pairs of
    sessions leave. The estimate was compared with centering patterns within sessions: in simulated
    studies (offsets .3 and .6 of the signal's standard deviation, 2 and 4 sessions, 20 and 40
    photographs) it is the less biased of the two (``benchmarks/CALIBRATION.md``).
    """
    ids = _names(rdms, "condition")
    image_types = np.array(_names(rdms, "kind"))
    columns: list[np.ndarray | None] = []
    several = False
    for known in maps:
        several = several or any(BETWEEN in session for session in known.values())
        labels = np.array([known.get(name, "") for name in ids], dtype=object)
        of_kinds = [set(labels[image_types == kind]) for kind in kinds]
        shown_again = any(BETWEEN in session for session in set().union(*of_kinds))
        differ = any(len(sessions) > 1 for sessions in of_kinds)
        columns.append(labels if differ and not shown_again else None)
    if all(column is None for column in columns):
        return Removed(rdms=rdms, text=SPREAD if several else "")
    if find_comparator(comparator).needs_zero:
        reason = f"sessions differ between photographs, and '{comparator}' cannot take them off"
        return Removed(rdms=rdms, reason=reason)
    first, second = np.triu_indices(len(image_types), 1)
    vectors = np.array(rdms.dissimilarities, dtype=np.float64)
    lost = 0
    for row, column in zip(vectors, columns):
        if column is None:
            continue
        for kind in kinds:
            members = image_types == kind
            sessions = column[members]
            n_sessions = len(set(sessions))
            if not enough_pairs(sessions):
                reason = (
                    f"sessions differ between photographs, and {len(sessions)} photographs in "
                    f"{n_sessions} sessions are too few for that"
                )
                return Removed(rdms=rdms, reason=reason)
            lost = max(lost, n_sessions - 1)
            pairs = members[first] & members[second]
            row[pairs] = centered_blocks(row[pairs], sessions)
    text = CENTERED + _together(rdms, columns, classes)
    return Removed(rdms=_with_vectors(rdms, vectors), lost=lost, text=text)


@dataclass(frozen=True, kw_only=True)
class SharedSessions:
    """Two sets of RDMs without offsets that both may have, and how labels may change places.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        Without the offsets; as they were where the two do not share sessions, or nothing could be
        taken off.
    blocks : dict of str to str, or None
        Stimulus to session (of all subjects, where these differ); None where the two do not share
        sessions.
    lost, text, reason
        As in `Removed`.
    """

    a: RDMs
    b: RDMs
    blocks: dict[str, str] | None = None
    lost: int = 0
    text: str = ""
    reason: str = ""


def without_shared_sessions(a: RDMs, b: RDMs, comparator: str) -> SharedSessions:
    """Take sessions' offsets off two sets of RDMs that are compared with each other.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        Over the same stimuli in the same order; sessions are read from pattern descriptors
        (`session_descriptors`).
    comparator : str
        One of `COMPARATORS`.

    Returns
    -------
    SharedSessions
        Unchanged unless both sides know sessions that differ between stimuli: an offset in one of
        the two alone does not make them alike.
    """
    ids = _names(a, "condition")
    a_columns = _session_columns(a)
    b_columns = _session_columns(b)
    used: list[list[str]] = []
    for columns in (a_columns, b_columns):
        known = [column for column in columns if column is not None]
        if not known:
            return SharedSessions(a=a, b=b)
        used += known
    blocks = {}
    for name, labels in zip(ids, zip(*used)):
        blocks[name] = "|".join(dict.fromkeys(labels))
    if find_comparator(comparator).needs_zero:
        reason = f"sessions differ between stimuli, and '{comparator}' cannot take them off"
        return SharedSessions(a=a, b=b, blocks=blocks, reason=reason)
    lost = 0
    for column in used:
        if not enough_pairs(np.array(column)):
            reason = f"sessions differ between stimuli, and {len(ids)} stimuli are too few for that"
            return SharedSessions(a=a, b=b, blocks=blocks, reason=reason)
        n_sessions = len(set(column))
        lost = max(lost, n_sessions - 1)
    return SharedSessions(
        a=_take_off(a, a_columns),
        b=_take_off(b, b_columns),
        blocks=blocks,
        lost=lost,
        text=CENTERED,
    )


def _session_columns(rdms: RDMs) -> list[list[str] | None]:
    """List the sessions of the stimuli for each RDM.

    None where they are unknown or all the same, or where stimuli were shown in several.
    """
    ids = _names(rdms, "condition")
    nobody = [""] * rdms.n_rdm
    subjects = rdms.rdm_descriptors.get("subject", nobody)
    names = [str(subject) for subject in subjects]
    columns: list[list[str] | None] = []
    maps = session_maps(rdms, names, None)
    for known in maps:
        column = [known.get(name, "") for name in ids]
        differ = sessions_differ(column)
        columns.append(column if differ else None)
    return columns


def _take_off(rdms: RDMs, columns: Sequence[list[str] | None]) -> RDMs:
    vectors = np.array(rdms.dissimilarities, dtype=np.float64)
    for row, column in zip(vectors, columns):
        if column is None:
            continue
        names = np.array(column)
        centered = centered_blocks(row, names)
        row[:] = centered
    return _with_vectors(rdms, vectors)


def sessions_differ(sessions: Sequence[str]) -> bool:
    """Check whether images were shown in different sessions, each image in one.

    Parameters
    ----------
    sessions : sequence of str
        Session of each image.

    Returns
    -------
    bool
        False also where an image was shown in several sessions.

    Examples
    --------
    >>> sessions_differ(["1", "1", "2"]), sessions_differ(["1", "1"])
    (True, False)
    """
    names = set(sessions)
    several = any(BETWEEN in name for name in names)
    return len(names) > 1 and not several


def enough_pairs(sessions: np.ndarray) -> bool:
    """Check whether enough pairs are left when the mean of each pair of sessions is taken off.

    Parameters
    ----------
    sessions : ndarray, shape (n,)
        Session of each photograph.

    Returns
    -------
    bool
        Whether there are at least as many free pairs as photographs.
    """
    n = len(sessions)
    n_sessions = len(set(sessions))
    n_pairs = n * (n - 1) // 2
    n_means = n_sessions * (n_sessions + 1) // 2
    n_free = n_pairs - n_means
    return n_free >= n


def centered_blocks(vectors: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """Take the mean of each pair of sessions off, and put that of all pairs back.

    Parameters
    ----------
    vectors : ndarray, shape (..., n_pairs)
        Condensed RDMs.
    sessions : ndarray, shape (n,)
        Session of each image.

    Returns
    -------
    ndarray, shape (..., n_pairs)
        A copy.

    Examples
    --------
    >>> centered_blocks(np.array([1.0, 5, 6, 7, 8, 3]), np.array(["a", "a", "b", "b"])).tolist()
    [5.0, 3.5, 4.5, 5.5, 6.5, 5.0]
    """
    labels = [str(label) for label in sessions]
    codes = np.unique(labels, return_inverse=True)[1].ravel()
    first, second = np.triu_indices(len(codes), 1)
    low = np.minimum(codes[first], codes[second])
    high = np.maximum(codes[first], codes[second])
    blocks = low * len(codes) + high
    centered = vectors + vectors.mean(axis=-1, keepdims=True)
    for block in np.unique(blocks):
        members = blocks == block
        of_block = vectors[..., members]
        centered[..., members] -= of_block.mean(axis=-1, keepdims=True)
    return centered


def _together(
    rdms: RDMs, columns: Sequence[np.ndarray | None], classes: Mapping[str, str] | None
) -> str:
    """Describe which classes were shown in one session only.

    What sets them apart leaves with the session.
    """
    if not classes:
        return ""
    photographs = _names(rdms, "reference_id")
    in_one: set[str] = set()
    for column in columns:
        if column is None:
            continue
        shown: dict[str, set[str]] = {}
        for photograph, session in zip(photographs, column):
            name = str(classes.get(photograph, ""))
            shown.setdefault(name, set()).add(str(session))
        in_one.update(name for name, where in shown.items() if len(where) == 1)
    names = {str(name) for name in classes.values()}
    in_one &= names
    if not in_one or len(names) in (1, len(classes)):
        return ""
    return (
        f"; sessions and classes go together ({name_ids(sorted(in_one))} in one session only), so "
        "what sets these classes apart left with the sessions"
    )


def _with_vectors(rdms: RDMs, vectors: np.ndarray) -> RDMs:
    """Give RDMs other dissimilarities, moved up to 0 where they fall below; names are kept."""
    from rsatoolbox.rdm import RDMs as Container

    lowest = vectors.min(axis=1, keepdims=True)
    rdm_descriptors = {name: list(column) for name, column in rdms.rdm_descriptors.items()}
    pattern_descriptors = {name: list(column) for name, column in rdms.pattern_descriptors.items()}
    return Container(
        vectors + np.maximum(-lowest, 0),
        dissimilarity_measure=rdms.dissimilarity_measure,
        descriptors=dict(rdms.descriptors),
        rdm_descriptors=rdm_descriptors,
        pattern_descriptors=pattern_descriptors,
    )


def photograph_sessions(
    rdms: RDMs, known: Mapping[str, str], pair: Sequence[str]
) -> dict[str, str]:
    """Name each photograph by the sessions of its images of two image types.

    Only photographs of the same name may change places.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with pattern descriptors condition, kind and reference_id.
    known : mapping of str to str
        Image to session.
    pair : (str, str)
        Image types.

    Returns
    -------
    dict of str to str
        Photograph to session; ``1, 2`` where its images were shown in two.
    """
    images = _names(rdms, "condition")
    kinds = _names(rdms, "kind")
    photographs = _names(rdms, "reference_id")
    shown: dict[str, dict[str, str]] = {}
    for image, kind, photograph in zip(images, kinds, photographs):
        if kind in pair:
            shown.setdefault(photograph, {})[kind] = known[image]
    named = {}
    for photograph, where in shown.items():
        sessions = dict.fromkeys(where.get(kind, "") for kind in pair)
        named[photograph] = ", ".join(sessions)
    return named


def session_blocks(
    rdms: RDMs, subjects: Sequence[str], maps: Sequence[Mapping[str, str]], pair: Sequence[str]
) -> dict[str, dict[str, str]] | None:
    """Give the session of each photograph for each subject.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with pattern descriptors condition, kind and reference_id.
    subjects : sequence of str, length n_rdms
        Subject of each RDM.
    maps : sequence of mapping of str to str
        Session of each image for each RDM, see `session_maps`.
    pair : (str, str)
        Image types, see `photograph_sessions`.

    Returns
    -------
    dict of str to dict of str to str, or None
        Subject to photograph to session; None where an RDM has no sessions.
    """
    if not all(maps):
        return None
    blocks = {}
    for subject, known in zip(subjects, maps):
        blocks[subject] = photograph_sessions(rdms, known, pair)
    return blocks
