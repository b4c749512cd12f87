"""RDM files as commands get them: ours, or those of others with the names that they lack."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.store import read_table

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

OWN_NAMES = "*"
"""Instead of names: those that the RDMs have in their file."""


def split_labels(text: str | os.PathLike[str]) -> tuple[Path, tuple[str, str] | None]:
    """Read ``FILE`` or ``FILE=subject:roi``.

    Parameters
    ----------
    text : str or path-like
        What the user wrote; a file whose name holds ``=`` is taken as a file.

    Returns
    -------
    path : Path
        The file.
    labels : (str, str) or None
        Subject and ROI.

    Raises
    ------
    InputError
        When a name is missing.

    Examples
    --------
    >>> split_labels("it.mat=S1:IT")[1], split_labels("brain.h5")[1]
    (('S1', 'IT'), None)
    """
    words = os.fspath(text)
    file, equals, names = words.rpartition("=")
    if not equals or Path(words).is_file():
        return Path(words), None
    subject, colon, roi = (part.strip() for part in names.partition(":"))
    if not (file and colon and subject and roi):
        raise InputError(
            f"'{words}' does not name subject and region; write FILE=subject:roi, e.g. "
            f"{file or 'FILE'}=S1:V1."
        )
    return Path(file), (subject, roi)


def read_blocks(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read in which session or class each stimulus is, for permutations within these.

    Parameters
    ----------
    file : path-like
        CSV or TSV with the columns id and block; with subject where sessions differ between
        subjects.

    Returns
    -------
    dict
        Stimulus → block, or subject → such a mapping.

    Raises
    ------
    InputError
        When a column or a value is missing, or a stimulus comes twice.
    """
    table = read_table(file, required=["id", "block"], text=["id", "block", "subject"])
    if empty := [str(stimulus) for stimulus in table["id"][table["block"].fillna("") == ""]]:
        raise InputError(f"{Path(file).name}: no block for {name_ids(empty)}.")
    subjects = (
        table["subject"].astype(str)
        if "subject" in table.columns
        else table["id"].map(lambda _: "")
    )
    blocks: dict[str, Any] = {}
    for subject, part in table.groupby(subjects, sort=False):
        if again := duplicates(part["id"]):
            raise InputError(
                f"{Path(file).name}: more than one block for {name_ids(again)} {subject}".rstrip()
                + "."
            )
        blocks[str(subject)] = dict(zip(part["id"], part["block"]))
    return blocks if "subject" in table.columns else blocks[""]


def read_same_blocks(file: str | os.PathLike[str]) -> dict[str, str]:
    """Read blocks that are the same for all RDMs.

    Parameters
    ----------
    file : path-like
        See `read_blocks`.

    Returns
    -------
    dict of str to str
        Stimulus → block.

    Raises
    ------
    InputError
        As `read_blocks`, and when blocks are of subjects.
    """
    blocks = read_blocks(file)
    if any(isinstance(block, dict) for block in blocks.values()):
        raise InputError(
            f"{Path(file).name} has blocks of subjects ({name_ids(blocks)}); here all share them: "
            "no subject."
        )
    return blocks


def read_labelled(
    text: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    variable: str | None = None,
    measure: str = "",
    descriptor: str | None = None,
) -> RDMs:
    """Read RDMs and give them the subject and ROI that the user wrote beside the file.

    Parameters
    ----------
    text : str or path-like
        ``FILE`` or ``FILE=subject:roi``. For a file of several RDMs, names between commas in their
        order, or ``*`` for the names they have in the file: ``FILE=S1,S2:IT``, ``FILE=*:IT``.
    ids, variable, measure, descriptor : object
        See `neurometamer.read_rdms`.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        With ``rdm_descriptors`` subject, roi and system (``brain``) where names were written.

    Raises
    ------
    InputError
        When the file cannot be read, names are missing or do not fit the number of RDMs, or two
        RDMs get the same.
    """
    from neurometamer.rsa.compute import read_rdms, take_conditions

    path, labels = split_labels(text)
    rdms = read_rdms(path, ids=ids, variable=variable, measure=measure, descriptor=descriptor)
    if labels is None:
        return rdms
    own = [str(value) for value in rdms.rdm_descriptors.get("name", range(1, rdms.n_rdm + 1))]
    subjects, rois = (_names(label, rdms.n_rdm, own, str(path)) for label in labels)
    pairs = list(zip(subjects, rois, strict=True))
    if again := [
        f"{subject}:{roi}" for i, (subject, roi) in enumerate(pairs) if (subject, roi) in pairs[:i]
    ]:
        raise InputError(
            f"{path} holds {rdms.n_rdm} RDMs, but {name_ids(dict.fromkeys(again))} names more than "
            f"one; write a name for each between commas ({path.name}=S1,S2:{rois[0]}), or "
            f"{path.name}=*:{rois[0]} for their own names."
        )
    named = take_conditions(rdms, range(rdms.n_cond))
    named.rdm_descriptors |= {"subject": subjects, "roi": rois, "system": ["brain"] * rdms.n_rdm}
    return named


def _names(text: str, n: int, own: Sequence[str], path: str) -> list[str]:
    if text == OWN_NAMES:
        return list(own)
    names = [name.strip() for name in text.split(",")]
    if len(names) not in (1, n) or not all(names):
        raise InputError(
            f"{path} holds {n} RDM(s), but '{text}' is {len(names)} name(s); write one, or one for "
            "each."
        )
    return names * n if len(names) == 1 else names


def is_foreign(text: str | os.PathLike[str]) -> bool:
    """Tell files of other programs from those of ``neurometamer rdm``.

    Parameters
    ----------
    text : str or path-like
        ``FILE`` or ``FILE=subject:roi``.

    Returns
    -------
    bool
        By the suffix.
    """
    from neurometamer.rsa.files import READERS

    return split_labels(text)[0].suffix.lower() in READERS


def need_places(rdms: RDMs, text: str | os.PathLike[str]) -> RDMs:
    """Refuse RDMs that name no subject or ROI, and say what to write.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of one file.
    text : str or path-like
        What the user wrote for it.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        The same.

    Raises
    ------
    InputError
        When a name is missing.
    """
    lacking = [name for name in ("subject", "roi") if name not in rdms.rdm_descriptors]
    if lacking:
        path, several = split_labels(text)[0], rdms.n_rdm > 1
        example = (
            f"{path}=*:V1' (* takes their {rdms.n_rdm} names in the file)"
            if several
            else f"{path}=S1:V1'"
        )
        raise InputError(
            f"{path}: the RDMs name no {' and no '.join(lacking)}; write them beside the file: "
            f"--brain '{example}."
        )
    return rdms


def read_id_list(path: str | os.PathLike[str]) -> list[str]:
    """Read ids in the order of a file's rows.

    Parameters
    ----------
    path : path-like
        Table with the column ``id``, or ``file`` (ids are the names without suffix).

    Returns
    -------
    list of str
        In order.

    Raises
    ------
    InputError
        When there is no such column, or a cell is empty.
    """
    table = read_table(path)
    column = next((name for name in ("id", "file") if name in table.columns), None)
    if column is None:
        raise InputError(
            f"{path} has neither a column id nor file; it has {name_ids(map(str, table.columns))}."
        )
    if table[column].isna().any():
        raise InputError(
            f"{path}: {int(table[column].isna().sum())} row(s) without '{column}'; fill them."
        )
    ids = table[column].astype(str)
    return [Path(file).stem for file in ids] if column == "file" else ids.tolist()
