"""Memory: how many voxels are read and fitted at once, so that a limit is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from neurometamer.errors import InputError
from neurometamer.reading import machine_memory

_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}

_FIT_BYTES = 2**26
"""Memory of the voxels that are fitted at once, where no limit asks for less."""

_READ_BYTES = 40 * 2**20
"""Memory of reading: part of the file, and the values taken out of it."""

_ROW_BYTES = 400
"""Memory of a row of the table of voxels, with its copies."""

_FEWEST_VOXELS = 500
"""With fewer voxels at once, a run would take much longer and hardly less memory."""


@dataclass(frozen=True, kw_only=True)
class RunSize:
    """What the memory of fitting a run depends on.

    Parameters
    ----------
    n_volumes, n_events, n_columns : int
        Volumes, events, and columns of the design.
    itemsize : int
        Bytes of a value in the file.

    Examples
    --------
    >>> RunSize(n_volumes=400, n_events=54, n_columns=70, itemsize=2).itemsize
    2
    """

    n_volumes: int
    n_events: int
    n_columns: int
    itemsize: int


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """How many voxels are in memory at once.

    Parameters
    ----------
    n_voxels : int
        All voxels.
    n_passes : int
        Number of times that each file is read.
    n_read, n_fitted : int
        Voxels whose time courses are in memory at once, and voxels that are fitted at once.
    n_bytes : int
        Largest memory expected, above that before the call, results included.

    Examples
    --------
    >>> plan = MemoryPlan(
    ...     n_voxels=5000, n_passes=3, n_read=1667, n_fitted=500, n_bytes=40_000_000
    ... )
    >>> print(plan)
    5,000 voxels: read 1,667 at once in 3 passes over the files, fitted 500 at once; about 40 MB
    """

    n_voxels: int
    n_passes: int
    n_read: int
    n_fitted: int
    n_bytes: int

    def __str__(self) -> str:
        passes = f"{self.n_passes} passes"
        if self.n_passes == 1:
            passes = "1 pass"
        parts = [
            f"{self.n_voxels:,} voxels: read {self.n_read:,} at once in {passes} over the files",
            f"fitted {self.n_fitted:,} at once; about {in_megabytes(self.n_bytes)}",
        ]
        return ", ".join(parts)


def plan_memory(
    sizes: Sequence[RunSize], n_voxels: int, n_rows: int, max_memory: str = ""
) -> MemoryPlan:
    """Plan how many voxels are read and fitted at once.

    Parameters
    ----------
    sizes : sequence of RunSize
        The runs; they are fitted one after another.
    n_voxels : int
        Number of different voxels.
    n_rows : int
        Number of voxels of all regions; one of two regions counts twice.
    max_memory : str
        Such as ``"2GB"`` or ``"500 MiB"``; empty: half of the memory of this machine.

    Returns
    -------
    MemoryPlan
        As few passes over the files as the limit allows.

    Raises
    ------
    InputError
        When the limit cannot be understood or kept; the message says the least that works.

    Examples
    --------
    >>> size = RunSize(n_volumes=400, n_events=54, n_columns=70, itemsize=4)
    >>> plan_memory([size], 100_000, 100_000).n_passes
    1
    >>> plan_memory([size], 100_000, 100_000, "300MB").n_passes
    2
    >>> plan_memory([size], 100_000, 100_000, "50MB")
    Traceback (most recent call last):
        ...
    neurometamer.errors.InputError: max_memory (--max-memory) is 50MB, but 100,000 voxels with \
5,400,000 betas need 185 MB at least; give that, or fewer regions or runs at a time.
    """
    n_events = sum(size.n_events for size in sizes)
    n_values = n_rows * n_events
    of_designs = [size.n_volumes * size.n_columns for size in sizes]
    of_series = [size.n_volumes * size.itemsize for size in sizes]
    of_voxels = [4 * size.n_volumes + 8 * size.n_columns for size in sizes]
    # betas, their copy in Patterns, and whether they are finite
    fixed = 17 * n_values
    fixed += _READ_BYTES
    fixed += _ROW_BYTES * n_rows
    fixed += 4 * 8 * max(of_designs)
    of_read = max(of_series)
    of_fit = 8 * max(of_voxels)
    fewest = min(n_voxels, _FEWEST_VOXELS)
    least = fixed + fewest * (of_read + of_fit)
    limit = max(least, machine_memory() // 2)
    if max_memory:
        limit = parse_memory(max_memory)
    if limit < least:
        raise InputError(
            f"max_memory (--max-memory) is {max_memory}, but {n_voxels:,} voxels with "
            f"{n_values:,} betas need {in_megabytes(least)} at least; give that, or fewer "
            "regions or runs at a time."
        )
    room = limit - fixed
    fit_room = min(_FIT_BYTES, room // 4)
    n_fitted = max(fewest, fit_room // of_fit)
    n_fitted = min(n_fitted, n_voxels)
    read_room = room - n_fitted * of_fit
    n_read = min(n_voxels, read_room // of_read)
    n_passes = math.ceil(n_voxels / n_read)
    n_read = math.ceil(n_voxels / n_passes)  # equal passes
    n_fitted = min(n_fitted, n_read)
    n_bytes = fixed + n_read * of_read + n_fitted * of_fit
    return MemoryPlan(
        n_voxels=n_voxels,
        n_passes=n_passes,
        n_read=n_read,
        n_fitted=n_fitted,
        n_bytes=n_bytes,
    )


def plan_together(sizes: Sequence[RunSize], n_voxels: int, max_memory: str = "") -> MemoryPlan:
    """Plan the memory of fitting all runs at once.

    Parameters
    ----------
    sizes : sequence of RunSize
        The runs.
    n_voxels : int
        Number of different voxels.
    max_memory : str
        As for `plan_memory`; empty: no limit.

    Returns
    -------
    MemoryPlan
        One pass, all voxels at once.

    Raises
    ------
    InputError
        When the limit cannot be understood or kept; the message says what works.

    Examples
    --------
    >>> size = RunSize(n_volumes=400, n_events=54, n_columns=70, itemsize=4)
    >>> print(plan_together([size, size], 1_000))
    1,000 voxels: read 1,000 at once in 1 pass over the files, fitted 1,000 at once; about 13 MB
    """
    n_values = n_voxels * sum(size.n_volumes for size in sizes)
    needed = 2 * 8 * n_values  # the time courses, and as much again while they are fitted
    if max_memory and needed > parse_memory(max_memory):
        raise InputError(
            f"max_memory (--max-memory) is {max_memory}, but options of single trials take all "
            f"runs at once, {in_megabytes(needed)}; give that, fewer regions at a time, or a "
            "smaller brain mask where noise regressors come from it."
        )
    return MemoryPlan(
        n_voxels=n_voxels, n_passes=1, n_read=n_voxels, n_fitted=n_voxels, n_bytes=needed
    )


def parse_memory(text: str) -> int:
    """Read an amount of memory.

    Parameters
    ----------
    text : str
        A number, with or without commas between thousands and with or without one of the units B,
        kB, MB, GB, TB (powers of 1,000), KiB, MiB, GiB, TiB (powers of 1,024); upper or lower case.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    InputError
        When it is something else.

    Examples
    --------
    >>> parse_memory("1.5 GB"), parse_memory("64MiB"), parse_memory("1,234 MB")
    (1500000000, 67108864, 1234000000)
    """
    plain = text.upper()
    if re.match(r"\s*\d{1,3}(,\d{3})+(?![\d,])", plain):
        plain = plain.replace(",", "")
    parts = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]I?|)B?\s*", plain)
    if parts is None:
        raise InputError(
            f"max_memory (--max-memory) is '{text}'; give a number with a unit, such as 2GB or "
            "500MiB."
        )
    return int(float(parts[1]) * _UNITS[parts[2]])


def in_megabytes(n_bytes: int) -> str:
    """Say how many megabytes, rounded up, so that what is said to be enough is enough.

    Parameters
    ----------
    n_bytes : int
        Amount of memory.

    Returns
    -------
    str
        For messages; `parse_memory` reads it.

    Examples
    --------
    >>> in_megabytes(1_500_001)
    '2 MB'
    """
    megabytes = n_bytes / 10**6
    rounded_up = math.ceil(megabytes)
    return f"{rounded_up:,} MB"
