"""A folder of results: claimed for one recipe, and filled piece by piece, so that a stopped run goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.store import InputError, digest, file_name, name_ids, read_json, read_table, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

PIECES = ".finished"
"""Folder of finished pieces, inside a folder of results."""


def claim_folder(out: Path, analysis: str, recipe: Mapping[str, Any], *, inputs: Sequence[str] = ("digests",)) -> None:
    """Refuse a folder of another analysis before anything is written over, then mark it as ours.

    Parameters
    ----------
    out : Path
        The folder; made when missing.
    analysis : str
        What it is for, e.g. ``"recognition"``.
    recipe : mapping
        Provenance, with ``settings`` and `inputs`; written as ``provenance.json``, not ``finished``.
    inputs : sequence of str
        Parts of the recipe that say what went in.

    Raises
    ------
    InputError
        When the folder holds other results, or files of somebody else.
    """
    path = out / "provenance.json"
    told = {**recipe, "analysis": analysis}
    if path.is_file():
        there = read_json(path)
        if not isinstance(there, dict) or there.get("analysis") != analysis:
            raise InputError(f"{out} holds something else than an analysis of {analysis}; choose another --out.")
        old, new = there.get("settings", {}), told["settings"]
        differing = [name for name in new if digest(old.get(name)) != digest(new[name])]
        differing += ["data"] if any(digest(there.get(one)) != digest(told.get(one)) for one in inputs) else []
        if differing:
            raise InputError(f"{out} holds another analysis (other {name_ids(differing)}); choose another --out.")
    elif out.is_dir() and any(not one.name.startswith(".part-") for one in out.iterdir()):
        raise InputError(f"{out} holds other files; choose an empty or new folder.")
    write_json(path, {**told, "finished": False})


def kept_piece(
    out: Path, name: str, key: Sequence[Any], make: Callable[[], pd.DataFrame], *, text: Sequence[str] = ()
) -> pd.DataFrame:
    """Take a table that an earlier run finished, or make and keep it.

    Parameters
    ----------
    out : Path
        Folder of results.
    name : str
        Of the kind of piece.
    key : sequence
        All that the piece depends on.
    make : callable
        Makes the table.
    text : sequence of str
        Columns that hold names.

    Returns
    -------
    pandas.DataFrame
        As it is read from the disk, also when it was just made: a run that was stopped gives the same numbers.
    """
    path = out / PIECES / f"{file_name(name)}-{digest(list(key))}.csv"
    if not path.is_file():
        write_table(path, make())
    return read_table(path, text=text)
