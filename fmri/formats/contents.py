"""What a reader of a published layout gives before any response is read, and what readers share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, duplicates, name_ids, unknown_name

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is wanted of a published data set.

    Parameters
    ----------
    rois : mapping of str to tuple of str
        Region to the parts that it joins, in the words of the layout; empty: all regions.
    ids : str
        Column that holds the stimulus ids; empty: that of the layout.
    sessions : tuple of str
        Sessions to read; empty: all.
    subject : str
        The subject to read, or the name of the only one; empty: as the files say.

    Examples
    --------
    >>> Request(rois=region_parts(["V1=V1v + V1d", "hV4"])).rois
    {'V1': ('V1v', 'V1d'), 'hV4': ('hV4',)}
    """

    rois: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ids: str = ""
    sessions: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """Tables of a data set, and how its responses are read.

    Parameters
    ----------
    observations : pandas.DataFrame
        As of `fmri.Patterns`, without the column presentation.
    voxels : pandas.DataFrame
        As of `fmri.Patterns`; a voxel in two regions has two rows.
    read : callable
        Called as ``read(values, progress)``: fills the array, one row an observation and one
        column a row of `voxels`.
    n_bytes : int
        Bytes on disk that reading goes through.
    dtype : numpy.dtype
        Type of the responses in memory.
    record : mapping
        What provenance says of them.

    Examples
    --------
    >>> Contents(
    ...     observations=pd.DataFrame({"condition": ["cat"], "run": "1", "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0}),
    ...     read=lambda values, progress: None,
    ...     n_bytes=12,
    ...     dtype=np.dtype("float32"),
    ... ).memory_bytes
    24
    """

    observations: pd.DataFrame
    voxels: pd.DataFrame
    read: Callable[[np.ndarray, Progress | None], None]
    n_bytes: int
    dtype: np.dtype[Any]
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> int:
        """Memory at the peak: the responses as they are read, and their copy in the patterns.

        Returns
        -------
        int
            Bytes.
        """
        n_values = len(self.observations) * len(self.voxels)
        return 2 * n_values * self.dtype.itemsize

    @property
    def plan(self) -> str:
        """What will be read.

        Returns
        -------
        str
            One line.
        """
        n_regions = self.voxels["roi"].nunique()
        n_sessions = self.observations["session"].nunique()
        rows = f"{len(self.observations)} observations in {n_sessions} session(s)"
        columns = f"{len(self.voxels)} voxels of {n_regions} region(s)"
        reads = in_words(self.n_bytes)
        needs = in_words(self.memory_bytes)
        return f"{rows} × {columns}: reads {reads}, needs {needs} of memory"


def in_words(n_bytes: float) -> str:
    """Write a size for people.

    Parameters
    ----------
    n_bytes : float
        Bytes.

    Returns
    -------
    str
        In KiB, MiB or GiB.

    Examples
    --------
    >>> in_words(3 * 2**30), in_words(100)
    ('3.0 GiB', '0.1 KiB')
    """
    unit = "KiB"
    size = n_bytes / 1024
    for larger in ("MiB", "GiB"):
        if size < 1024:
            break
        unit = larger
        size /= 1024
    return f"{size:.1f} {unit}"


# ------------------------------------------------------------------------------------------ regions


def region_parts(rois: Sequence[str] | Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Read which regions are wanted, and what each of them joins.

    Parameters
    ----------
    rois : sequence of str or mapping of str to str
        ``"hV4"``, or ``"V1=V1v + V1d"``; in a mapping the name is the key. A plus joins parts only
        between spaces: ``ecc4+`` is a name.

    Returns
    -------
    dict of str to tuple of str
        Region to its parts.

    Raises
    ------
    InputError
        When a region has no name or no part, or occurs twice.
    """
    if isinstance(rois, Mapping):
        pairs = list(rois.items())
    else:
        pairs = []
        for entry in rois:
            name, equals, joined = entry.partition("=")
            pairs.append((name.strip(), joined if equals else entry))
    regions: dict[str, tuple[str, ...]] = {}
    for name, joined in pairs:
        parts = tuple(part.strip() for part in re.split(r"\s\+\s", str(joined)))
        if not name or not all(parts):
            raise InputError(f"ROI '{name}={joined}' is incomplete; give NAME, or NAME=A + B.")
        regions[name] = parts
    if again := duplicates(name for name, _ in pairs):
        raise InputError(f"ROIs given more than once: {name_ids(again)}; give each once.")
    return regions


def region_table(
    regions: Mapping[str, Sequence[str]],
    members: Mapping[str, np.ndarray] | Callable[[str], np.ndarray],
    coordinates: np.ndarray,
    subject: str,
) -> tuple[pd.DataFrame, np.ndarray]:
    """List the voxels of all regions, a row for each region and voxel.

    Parameters
    ----------
    regions : mapping of str to sequence of str
        Region to the parts that it joins.
    members : mapping of str to ndarray of int, or callable
        Part to the numbers of its voxels.
    coordinates : ndarray of int, shape (n_all_voxels, 3)
        i, j and k of each voxel of the data set.
    subject : str
        Written into each row.

    Returns
    -------
    voxels : pandas.DataFrame
        Columns subject, roi, i, j, k.
    numbers : ndarray of int, shape (n_rows,)
        Number of each row's voxel in the data set.

    Raises
    ------
    InputError
        When a part is unknown, or a region has no voxel.
    """
    find = members if callable(members) else members.__getitem__
    tables, numbers = [], []
    for name, parts in regions.items():
        if not callable(members):
            for part in parts:
                if part not in members:
                    raise unknown_name("ROI", part, members)
        joined = np.unique(np.concatenate([find(part) for part in parts]))
        if not len(joined):
            raise InputError(f"ROI '{name}' ({' + '.join(parts)}) has no voxel; leave it out.")
        table = pd.DataFrame(coordinates[joined], columns=["i", "j", "k"])
        table.insert(0, "subject", subject)
        table.insert(1, "roi", name)
        tables.append(table)
        numbers.append(joined)
    return pd.concat(tables, ignore_index=True), np.concatenate(numbers)


def whole_numbers(values: Any, what: str) -> np.ndarray:
    """Turn a table of coordinates into whole numbers.

    Parameters
    ----------
    values : array-like of float
        Coordinates.
    what : str
        File and columns, for the message.

    Returns
    -------
    ndarray of int
        Of the same shape.

    Raises
    ------
    InputError
        When one is not a whole number.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} are not numbers; copy the file again.") from None
    broken = ~np.isfinite(numbers) | (numbers != np.round(numbers)) | (np.abs(numbers) > 2**31)
    if broken.any():
        raise InputError(
            f"{what} must be whole numbers and hold {name_ids(numbers[broken])}; copy the file "
            "again."
        )
    return numbers.astype(np.int64)


# ----------------------------------------------------------------------------------- runs, sessions


def chosen_sessions(present: Sequence[str], wanted: Sequence[str], where: object) -> list[str]:
    """Choose sessions by their labels; numbers may be written with or without zeros before them.

    Parameters
    ----------
    present : sequence of str
        Labels that there are.
    wanted : sequence of str
        Labels asked for; empty: all.
    where : object
        The data set, for the message.

    Returns
    -------
    list of str
        Labels in the order of `present`.

    Raises
    ------
    InputError
        When a session is not there.

    Examples
    --------
    >>> chosen_sessions(["01", "02", "10"], ["2"], "betas")
    ['02']
    """
    if not wanted:
        return list(present)
    plain = {_plain(label): label for label in present}
    asked = set()
    for label in wanted:
        number = _plain(label)
        asked.add(plain.get(number))
        if number not in plain:
            raise InputError(
                f"{where} has no session {label}; it has {name_ids(present, 40) or 'none'}; name "
                "some of these."
            )
    return [label for label in present if label in asked]


def _plain(label: str) -> str:
    """Write a number without zeros before it."""
    if label.isdecimal():
        return str(int(label))
    return label


def only_subject(found: Sequence[str], wanted: str, where: Path) -> str:
    """Choose the subject of a folder.

    Parameters
    ----------
    found : sequence of str
        Labels that there are.
    wanted : str
        The label asked for, with or without ``sub-``; empty: the only one.
    where : Path
        The folder, for the message.

    Returns
    -------
    str
        The label.

    Raises
    ------
    InputError
        When there are several, or the one asked for is not there.
    """
    label = wanted.removeprefix("sub-")
    if label and label not in found:
        raise unknown_name(f"subject in {where}", label, found)
    if not label and len(found) > 1:
        raise InputError(
            f"{where} holds {len(found)} subjects ({name_ids(found)}); name one of them: subject "
            "(--subject)."
        )
    return label or found[0]


# --------------------------------------------------------------------------------------------- HDF5


def text_of(value: Any) -> str:
    """Read text as HDF5 and MATLAB store it.

    Parameters
    ----------
    value : object
        Bytes, text, or an array of one of these.

    Returns
    -------
    str
        Without what fills it up.

    Examples
    --------
    >>> text_of(np.bytes_(b"V1")), text_of(np.array(["LO "], dtype=object))
    ('V1', 'LO')
    """
    if isinstance(value, np.ndarray):
        if not value.size:
            return ""
        value = value.flat[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    text = str(value).strip()
    return text.strip("\0")
