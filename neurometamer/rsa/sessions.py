"""Sessions that differ between images: what RDMs know of them, and dissimilarities without their offsets.

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
from neurometamer.rsa.rdms import BETWEEN, SESSION
from neurometamer.stats.permutation import Blocks

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

CENTERED = (
    "sessions differ between images: the mean of each pair of sessions taken off the "
    "dissimilarities first"
)
"""For the column ``method``."""

NO_ZERO = ("cosine", "whitened-cosine")
"""Comparators that need dissimilarities with a meaningful zero, which is lost with the sessions' means."""


def session_maps(
    rdms: RDMs, subjects: Sequence[str], sessions: Blocks | None
) -> list[dict[str, str]]:
    """Give the session of each image for each RDM.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        With pattern descriptors condition and reference_id, and what `session_descriptors` adds.
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
    ids = [str(one) for one in rdms.pattern_descriptors["condition"]]
    photographs = [str(one) for one in rdms.pattern_descriptors.get("reference_id", ids)]
    maps = []
    for subject in subjects:
        if sessions:
            known = _of_subject(sessions, subject)
            if lacking := [one for one in dict.fromkeys(photographs) if one not in known]:
                raise InputError(f"no session for the photographs {name_ids(lacking)}.")
            maps.append(
                {image: str(known[photograph]) for image, photograph in zip(ids, photographs)}
            )
            continue
        column = rdms.pattern_descriptors.get(
            f"{SESSION}:{subject}", rdms.pattern_descriptors.get(SESSION)
        )
        maps.append({} if column is None else dict(zip(ids, map(str, column))))
    return maps


def _of_subject(sessions: Blocks, subject: str) -> Mapping[str, str]:
    chosen: Any = sessions
    if isinstance(next(iter(sessions.values())), Mapping):
        if subject not in sessions:
            raise InputError(
                f"no session labels for subject '{subject}'; there are some for "
                f"{name_ids(sessions)}."
            )
        chosen = sessions[subject]
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
    by: str,
    classes: Mapping[str, str] | None,
) -> Removed:
    """Take the mean of each pair of sessions off the dissimilarities within each image type.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All image types in one RDM.
    maps : sequence of mapping of str to str
        See `session_maps`.
    kinds : sequence of str
        Image types that are compared.
    by : str
        Comparator.
    classes : mapping of str to str, optional
        Photograph to class: where classes go with sessions, the text says so.

    Returns
    -------
    Removed
        See there.

    Notes
    -----
    The mean of all pairs of an image type is put back, so that only differences between pairs of
    sessions leave. The estimate was compared with centering patterns within sessions: in simulated
    studies (offsets .3 and .6 of the signal's standard deviation, 2 and 4 sessions, 20 and 40
    photographs) it is the less biased of the two (``benchmarks/CALIBRATION.md``).
    """
    columns = [_labels(rdms, known, kinds) for known in maps]
    if not any(column is not None for column in columns):
        return Removed(rdms=rdms, text=_spread(maps))
    if by in NO_ZERO:
        return Removed(
            rdms=rdms,
            reason=f"sessions differ between photographs, and '{by}' cannot take them off",
        )
    image_types = np.array([str(one) for one in rdms.pattern_descriptors["kind"]])
    vectors = np.array(rdms.dissimilarities, dtype=np.float64)
    lost = 0
    for row, column in zip(vectors, columns):
        if column is None:
            continue
        lost = max(lost, *(len(set(column[image_types == kind])) - 1 for kind in kinds))
        for kind in kinds:
            members = image_types == kind
            if not enough_pairs(column[members]):
                few = f"{members.sum()} photographs in {len(set(column[members]))} sessions"
                return Removed(
                    rdms=rdms,
                    reason=f"sessions differ between photographs, and {few} are too few for that",
                )
            pairs = _pairs_of(members)
            row[pairs] = centered_blocks(row[pairs], column[members])
    vectors += np.maximum(-vectors.min(axis=1, keepdims=True), 0)
    together = _together(rdms, columns, classes)
    return Removed(rdms=_with(rdms, vectors), lost=lost, text=CENTERED + together)


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


def without_shared_sessions(a: RDMs, b: RDMs, by: str) -> SharedSessions:
    """Take sessions' offsets off two sets of RDMs that are compared with each other.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        Over the same stimuli in the same order; sessions are read from pattern descriptors
        (`session_descriptors`).
    by : str
        Comparator.

    Returns
    -------
    SharedSessions
        Unchanged unless both sides know sessions that differ between stimuli: an offset in one of
        the two alone does not make them alike.
    """
    ids = [str(one) for one in a.pattern_descriptors["condition"]]
    columns = [_session_columns(side) for side in (a, b)]
    known = [[column for column in part if column is not None] for part in columns]
    if not all(known):
        return SharedSessions(a=a, b=b)
    together = ["|".join(dict.fromkeys(labels)) for labels in zip(*known[0], *known[1])]
    blocks = dict(zip(ids, together))
    if by in NO_ZERO:
        reason = f"sessions differ between stimuli, and '{by}' cannot take them off"
        return SharedSessions(a=a, b=b, blocks=blocks, reason=reason)
    if not all(enough_pairs(np.array(column)) for part in known for column in part):
        reason = f"sessions differ between stimuli, and {len(ids)} stimuli are too few for that"
        return SharedSessions(a=a, b=b, blocks=blocks, reason=reason)
    first, second = (_without(side, part) for side, part in zip((a, b), columns))
    lost = max(len(set(column)) - 1 for part in known for column in part)
    return SharedSessions(a=first, b=second, blocks=blocks, lost=lost, text=CENTERED)


def _session_columns(rdms: RDMs) -> list[list[str] | None]:
    """Give the session of each stimulus for each RDM; None where unknown, all the same, or stimuli were spread."""
    ids = [str(one) for one in rdms.pattern_descriptors["condition"]]
    subjects = [str(one) for one in rdms.rdm_descriptors.get("subject", [""] * rdms.n_rdm)]
    columns: list[list[str] | None] = []
    for known in session_maps(rdms, subjects, None):
        column = [known.get(one, "") for one in ids]
        spread = any(BETWEEN in label for label in column)
        columns.append(column if len(set(column)) > 1 and not spread else None)
    return columns


def _without(rdms: RDMs, columns: Sequence[list[str] | None]) -> RDMs:
    vectors = np.array(rdms.dissimilarities, dtype=np.float64)
    for row, column in zip(vectors, columns):
        if column is not None:
            row[:] = centered_blocks(row, np.array(column))
    return _with(rdms, vectors + np.maximum(-vectors.min(axis=1, keepdims=True), 0))


def _labels(rdms: RDMs, known: Mapping[str, str], kinds: Sequence[str]) -> np.ndarray | None:
    """Give the session of each image of an RDM; None where none differ within an image type, or images were spread."""
    if not known:
        return None
    column = np.array(
        [known[str(one)] for one in rdms.pattern_descriptors["condition"]], dtype=object
    )
    image_types = np.array([str(one) for one in rdms.pattern_descriptors["kind"]])
    used = [column[image_types == kind] for kind in kinds]
    differ = any(len(set(part)) > 1 for part in used)
    several = any(BETWEEN in label for part in used for label in part)
    return column if differ and not several else None


def _spread(maps: Sequence[Mapping[str, str]]) -> str:
    several = any(BETWEEN in label for known in maps for label in known.values())
    return (
        "images were shown in several sessions each, whose offsets were not taken off"
        if several
        else ""
    )


def enough_pairs(sessions: np.ndarray) -> bool:
    """Say whether enough pairs are left when the mean of each pair of sessions is taken off.

    Parameters
    ----------
    sessions : ndarray, shape (n,)
        Session of each photograph.

    Returns
    -------
    bool
        Whether there are at least as many free pairs as photographs.
    """
    n, n_sessions = len(sessions), len(set(sessions))
    return n * (n - 1) // 2 - n_sessions * (n_sessions + 1) // 2 >= n


def _pairs_of(members: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(members), 1)
    return members[first] & members[second]


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
    codes = np.unique([str(one) for one in sessions], return_inverse=True)[1].ravel()
    first, second = np.triu_indices(len(codes), 1)
    low, high = np.minimum(codes[first], codes[second]), np.maximum(codes[first], codes[second])
    blocks = low * len(codes) + high
    centered = vectors + vectors.mean(axis=-1, keepdims=True)
    for block in np.unique(blocks):
        members = blocks == block
        centered[..., members] -= vectors[..., members].mean(axis=-1, keepdims=True)
    return centered


def _together(
    rdms: RDMs, columns: Sequence[np.ndarray | None], classes: Mapping[str, str] | None
) -> str:
    """Say which classes were shown in one session only: what sets them apart leaves with the session."""
    if not classes:
        return ""
    photographs = [str(one) for one in rdms.pattern_descriptors["reference_id"]]
    in_one: set[str] = set()
    for column in columns:
        if column is None:
            continue
        shown: dict[str, set[str]] = {}
        for photograph, session in zip(photographs, column):
            shown.setdefault(str(classes.get(photograph, "")), set()).add(str(session))
        in_one |= {name for name, where in shown.items() if len(where) == 1}
    in_one &= set(map(str, classes.values()))
    if not in_one or len(set(classes.values())) == len(classes) or len(set(classes.values())) == 1:
        return ""
    return (
        f"; sessions and classes go together ({name_ids(sorted(in_one))} in one session only), so "
        "what sets these "
        "classes apart left with the sessions"
    )


def _with(rdms: RDMs, vectors: np.ndarray) -> RDMs:
    """Give RDMs other dissimilarities, all names kept."""
    from rsatoolbox.rdm import RDMs as Container

    return Container(
        vectors,
        dissimilarity_measure=rdms.dissimilarity_measure,
        descriptors=dict(rdms.descriptors),
        rdm_descriptors={name: list(column) for name, column in rdms.rdm_descriptors.items()},
        pattern_descriptors={
            name: list(column) for name, column in rdms.pattern_descriptors.items()
        },
    )


def photograph_sessions(
    rdms: RDMs, known: Mapping[str, str], pair: Sequence[str]
) -> dict[str, str]:
    """Name each photograph by the sessions of its images of two image types: only equals may change places.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        With pattern descriptors condition, kind and reference_id.
    known : mapping of str to str
        Image to session.
    pair : (str, str)
        Image types.

    Returns
    -------
    dict of str to str
        Photograph to session; ``1, 2`` where its images were shown in two.
    """
    names = rdms.pattern_descriptors
    shown: dict[str, dict[str, str]] = {}
    for image, kind, photograph in zip(names["condition"], names["kind"], names["reference_id"]):
        if str(kind) in pair:
            shown.setdefault(str(photograph), {})[str(kind)] = known[str(image)]
    return {
        one: ", ".join(dict.fromkeys(where.get(kind, "") for kind in pair))
        for one, where in shown.items()
    }
