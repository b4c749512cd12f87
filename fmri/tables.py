"""Tables of a run: events and confounds, read as BIDS means them and checked against the run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import find_reader
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.store import read_table

MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""The six rigid-body parameters, named as fMRIPrep names them."""

COMPCOR = re.compile(r"[a-z]?_?comp_?cor", re.IGNORECASE)
"""Names of CompCor components, computed on series without fMRIPrep's slow cosines."""

DRIFTS = re.compile(r"cosine_?\d+$", re.IGNORECASE)
"""Names of fMRIPrep's slow cosines."""

DUMMIES = re.compile(r"non_?steady_?state", re.IGNORECASE)
"""Names of columns that mark one volume each, scanned before the magnetization was steady."""

OLD_NAMES: dict[str, str] = {
    "CSF": "csf",
    "WhiteMatter": "white_matter",
    "GlobalSignal": "global_signal",
    "stdDVARS": "std_dvars",
    "non-stdDVARS": "dvars",
    "vx-wisestdDVARS": "vx_wisestd_dvars",
    "FramewiseDisplacement": "framewise_displacement",
    "X": "trans_x",
    "Y": "trans_y",
    "Z": "trans_z",
    "RotX": "rot_x",
    "RotY": "rot_y",
    "RotZ": "rot_z",
    "aCompCor": "a_comp_cor_",
    "tCompCor": "t_comp_cor_",
    "Cosine": "cosine",
    "NonSteadyStateOutlier": "non_steady_state_outlier",
    "AROMAAggrComp": "aroma_motion_",
}
"""Name of a confound in tables of fMRIPrep 1.0 and 1.1 → its name from 1.2 on; the last five are
followed by a number."""

NO_TRIAL_TYPE = "n/a"
"""What an event without a trial type is called (the BIDS word for a missing value)."""

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Endings that are cut from file names that stand for stimuli."""

TABLE_READERS: dict[str, Callable[..., pd.DataFrame]] = {
    ".tsv": read_table,
    ".csv": read_table,
    "": read_table,
}
"""Ending of a table → its reader; ``""`` is for all other endings. It is called as
`neurometamer.store.read_table`: with the file, and by keyword with ``text`` (columns of names) and
``once`` (columns of which there may be one only). A format is added by an entry here."""

Table = str | os.PathLike[str] | pd.DataFrame


def read_events(events: Table, condition_column: str = "trial_type") -> pd.DataFrame:
    """Read an events table and name each event after the stimulus that a column holds.

    Parameters
    ----------
    events : path-like or DataFrame
        BIDS ``events.tsv`` (cells are taken as they are: a double quote is a character) or CSV.
    condition_column : str
        Column with the stimulus ids. Of ``stim_file``, and of names of picture files in any other
        column but ``trial_type``, the id is the name without folder and ending.

    Returns
    -------
    pandas.DataFrame
        All columns; ``trial_type`` holds the ids, ``"n/a"`` where there is none.

    Raises
    ------
    InputError
        When the file cannot be read, lacks a column, or two stimuli would get one id.
    """
    if isinstance(events, pd.DataFrame):
        table, where = events.copy(), "the events"
    else:
        once = ["onset", "duration", condition_column]
        where = str(events)
        read = find_reader(TABLE_READERS, events, "a table")
        table = read(events, text=[condition_column], once=once)
        for name in table.select_dtypes(exclude="number"):
            cells = table[name].astype(str)
            runs_on = cells.str.contains("\n", regex=False)
            broken = np.flatnonzero(runs_on)
            if len(broken):
                # a quote that is never closed has swallowed rows
                raise InputError(
                    f"{where}: row {broken[0] + 1} of '{name}' runs over several lines, as after a "
                    "double quote that is not closed; remove the quote, or save the table as .tsv."
                )
    needed = ("onset", "duration", condition_column)
    missing = [name for name in needed if name not in table.columns]
    if missing:
        cure = ""
        if missing == [condition_column]:
            cure = " Name the column with the stimulus ids: condition_column (--condition-column)."
        elif len(table.columns) == 1 and {",", ";"} & set(str(table.columns[0])):
            cure = " Tables of BIDS have tabs between the columns; save it so, or as .csv."
        raise InputError(
            f"{where} lacks the column(s) {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns))}.{cure}"
        )
    ids = []
    stimuli: dict[str, str] = {}
    for cell in table[condition_column]:
        value, name = _stimulus(cell, condition_column)
        if "\0" in value:
            raise InputError(f"{where}: {value!r} is no id; remove the character of code 0.")
        ids.append(name)
        if stimuli.setdefault(name, value) != value:
            raise InputError(
                f"{where}: '{stimuli[name]}' and '{value}' would both be the stimulus '{name}'; "
                "give a column with an id for each stimulus (condition_column, "
                "--condition-column)."
            )
    return table.assign(trial_type=pd.Series(ids, index=table.index, dtype=object))


def _stimulus(cell: Any, column: str) -> tuple[str, str]:
    """Give the text of a cell, and the id that it stands for."""
    value = NO_TRIAL_TYPE if pd.isna(cell) else str(cell).strip()
    if isinstance(cell, float) and cell.is_integer():
        value = str(int(cell))  # a whole number among missing values
    path = PurePosixPath(value.replace("\\", "/"))
    is_file = column == "stim_file" or path.suffix.lower() in PICTURES
    is_id = column == "trial_type" or value == NO_TRIAL_TYPE
    return value, path.stem if is_file and not is_id else value


def checked_events(events: pd.DataFrame, n_volumes: int, t_r: float, label: str) -> pd.DataFrame:
    """Check events against their run.

    Parameters
    ----------
    events : pandas.DataFrame
        With onset and duration (s; missing values are allowed, as in BIDS) and trial_type.
    n_volumes : int
        Number of volumes of the run.
    t_r : float
        Repetition time, s.
    label : str
        The run, for messages.

    Returns
    -------
    pandas.DataFrame
        A copy, onset and duration as float64, trial_type as text.

    Raises
    ------
    InputError
        When there is no event, a time is not a number, or an event lies beyond the end of the run.
    """
    missing = [name for name in ("onset", "duration", "trial_type") if name not in events.columns]
    if missing:
        raise InputError(
            f"{label}: the events lack the column(s) {', '.join(missing)}; they have "
            f"{', '.join(map(str, events.columns))}. Name the columns so."
        )
    if events.empty:
        raise InputError(f"{label}: the events table has no rows; leave the run out.")
    table = events.reset_index(drop=True).copy()
    for name in ("onset", "duration"):
        column = table[name]
        is_missing = (column.isna() | column.isin([NO_TRIAL_TYPE, ""])).to_numpy()
        is_truth = [isinstance(cell, (bool, np.bool_)) for cell in column]
        numbers = pd.to_numeric(column, errors="coerce")
        seconds = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        seconds = np.where(is_truth, np.nan, seconds)  # True is no second
        is_broken = ~np.isfinite(seconds) & ~is_missing
        rows = np.flatnonzero(is_broken)
        if len(rows):
            cells = [f"row {row + 1} ({column[row]})" for row in rows]
            raise InputError(
                f"{label}: '{name}' is not a number in {name_ids(cells)}; give seconds, or n/a."
            )
        table[name] = seconds
    types = table["trial_type"].astype(object)
    table["trial_type"] = types.where(types.notna(), NO_TRIAL_TYPE).map(str)
    negative = table["duration"] < 0
    if negative.any():
        names = name_ids(event_names(table[negative]))
        raise InputError(f"{label}: events have a negative duration: {names}; give seconds.")
    end = n_volumes * t_r
    stops = table["onset"] + table["duration"].fillna(0)
    late = (table["onset"] >= end) | (stops > end + t_r)
    if late.any():
        ends = [f"{stop:g} s" for stop in stops[late]]
        pairs = zip(event_names(table[late]), ends, strict=True)
        names = name_ids(f"{name} (ends at {stop})" for name, stop in pairs)
        raise InputError(
            f"{label}: events lie beyond the run's end ({n_volumes} volumes × {t_r:g} s = {end:g} "
            f"s): {names}; check TR and onsets."
        )
    return table


def event_names(events: pd.DataFrame) -> list[str]:
    """Name events in messages.

    Parameters
    ----------
    events : pandas.DataFrame
        With trial_type and onset (s).

    Returns
    -------
    list of str
        For example ``["'cat' at 12 s"]``.
    """
    names = []
    for event in events.itertuples():
        names.append(f"'{event.trial_type}' at {event.onset:g} s")
    return names


# ---------------------------------------------------------------------------------------- confounds


def read_confounds(confounds: Table, columns: Sequence[str] | None, label: str) -> pd.DataFrame:
    """Read the confounds of a run that are to be used.

    Parameters
    ----------
    confounds : path-like or DataFrame
        One row a volume, with a header.
    columns : sequence of str, optional
        Which to use: names, or patterns such as ``"trans_*"``. By default the six motion parameters
        where all are there, else every column.
    label : str
        The run, for messages.

    Returns
    -------
    pandas.DataFrame
        The columns asked for, and those that `with_companions` adds.

    Raises
    ------
    InputError
        When the table has no header, or lacks a column.

    Notes
    -----
    Columns of fMRIPrep 1.0 and 1.1 get the names that they have from 1.2 on (`new_names`), and are
    found under both; the attribute ``renamed`` of the result says which.
    """
    if isinstance(confounds, pd.DataFrame):
        table = confounds
    else:
        read = find_reader(TABLE_READERS, confounds, "a table")
        table = read(confounds, once=None)
        names = [str(name) for name in table.columns]
        rows = [str(number) for number in range(len(names) + 1)]
        words = " ".join(names).split()
        number = re.compile(r"[-+]?[\d.]+([eE][-+]?[\d.]+)?|n/a|nan")
        are_numbers = [number.fullmatch(word) for word in words]
        # 0, 1, 2, … are names, as pandas and R write them
        is_row = all(are_numbers) and re.search(r"\d", " ".join(words))
        if is_row and names not in (rows[:-1], rows[1:]):
            raise InputError(
                f"{confounds} has no header: its first row holds numbers ({name_ids(names)}). Give "
                "it a first row with the names of the confounds, between tabs (.tsv) or commas "
                "(.csv)."
            )
    renamed = new_names(table.columns)
    old_names = {new: old for old, new in renamed.items()}
    table = table.rename(columns=renamed)
    if columns is None:
        has_motion = set(MOTION_COLUMNS) <= set(table.columns)
        columns = MOTION_COLUMNS if has_motion else [str(name) for name in table.columns]
        unnamed = [name for name in columns if re.fullmatch(r"Unnamed: \d+", name)]
        if unnamed and not isinstance(confounds, pd.DataFrame):
            # they are often row numbers, which would act as a trend among the confounds
            numbers = name_ids(int(name.split()[-1]) + 1 for name in unnamed)
            raise InputError(
                f"{confounds}: column(s) {numbers} have no name, as row numbers often have none; "
                "remove or name them, or name the columns to use (columns, --columns; [glm] "
                "confounds in a study file)."
            )
    known = [str(name) for name in table.columns]
    chosen: list[str] = []
    absent = []
    for name in columns:
        fitting = [name]
        if name not in known:
            fitting = [
                other
                for other in known
                if fnmatchcase(other, name) or fnmatchcase(old_names.get(other, other), name)
            ]
        if not fitting:
            absent.append(name)
        chosen += [other for other in fitting if other == name or other not in chosen]
    if absent:
        raise InputError(
            f"{label}: the confounds lack the column(s) {name_ids(absent)}; they have "
            f"{name_ids(table.columns, 20)}; name some of these (columns, --columns)."
        )
    used = table[with_companions(chosen, known)]
    of_used = {old: new for old, new in renamed.items() if new in used.columns}
    if of_used:
        used.attrs["renamed"] = of_used
    return used


def new_names(columns: Iterable[str]) -> dict[str, str]:
    """Find columns that have the names of fMRIPrep 1.0 or 1.1.

    Parameters
    ----------
    columns : iterable of str
        Columns of a table of confounds.

    Returns
    -------
    dict of str to str
        Old name to the one from fMRIPrep 1.2 on; empty for tables without RotX, RotY and RotZ,
        which these versions always wrote.

    Examples
    --------
    >>> sorted(new_names(["RotX", "RotY", "RotZ", "aCompCor00", "age"]).values())
    ['a_comp_cor_00', 'rot_x', 'rot_y', 'rot_z']
    """
    names = [str(name) for name in columns]
    if not {"RotX", "RotY", "RotZ"} <= set(names):
        return {}
    renamed = {}
    for name in names:
        start = name.rstrip("0123456789")
        new = OLD_NAMES.get(start, name) + name[len(start) :]
        if start in OLD_NAMES and new not in names:
            renamed[name] = new
    return renamed


def with_companions(chosen: Sequence[str], known: Iterable[str]) -> list[str]:
    """Add the confounds that others cannot do without.

    Parameters
    ----------
    chosen : sequence of str
        Columns that are to be used.
    known : iterable of str
        Columns of the table.

    Returns
    -------
    list of str
        `chosen`; with CompCor components also the slow cosines, which were removed before these
        were computed (the design has then no drifts of its own); and the columns that mark volumes
        before the steady state, as in ``nilearn.interfaces.fmriprep.load_confounds``.

    Examples
    --------
    >>> with_companions(["a_comp_cor_00"], ["csf", "a_comp_cor_00", "cosine00"])
    ['a_comp_cor_00', 'cosine00']
    """
    columns = list(chosen)
    has_compcor = any(COMPCOR.match(name) for name in columns)
    for name in known:
        is_drift = has_compcor and DRIFTS.match(name)
        if name not in columns and (is_drift or DUMMIES.match(name)):
            columns.append(name)
    return columns


def checked_confounds(confounds: pd.DataFrame, n_volumes: int, label: str) -> pd.DataFrame:
    """Check rows and numbers; fill the first row from the second, as nilearn does.

    Parameters
    ----------
    confounds : pandas.DataFrame
        One row a volume.
    n_volumes : int
        Number of volumes of the run.
    label : str
        The run, for messages.

    Returns
    -------
    pandas.DataFrame
        float64, finite.

    Raises
    ------
    InputError
        When rows are not volumes, a column occurs twice, or values are missing after the first row.
    """
    if len(confounds) != n_volumes:
        raise InputError(
            f"{label}: the confounds have {len(confounds)} rows but the image has {n_volumes} "
            "volumes; give one row a volume."
        )
    if again := duplicates(confounds.columns):
        raise InputError(
            f"{label}: confound(s) given more than once: {name_ids(again)}; name each column once."
        )
    numbers = confounds.reset_index(drop=True).apply(pd.to_numeric, errors="coerce")
    table = numbers.astype(np.float64)
    values = table.to_numpy(copy=True)
    first = ~np.isfinite(values[0])
    values[0, first] = values[1, first]
    broken = ~np.isfinite(values).all(axis=0)
    if broken.any():
        usable = [str(name) for name in table.columns[~broken]]
        raise InputError(
            f"{label}: confounds have missing or non-numeric values after the first row: "
            f"{name_ids(table.columns[broken])}; repair them, or name the columns to use (columns, "
            "--columns; [glm] confounds in a study file), for example "
            f"{name_ids(usable) or 'none of these'}."
        )
    checked = pd.DataFrame(values, columns=[str(name) for name in table.columns])
    checked.attrs = dict(confounds.attrs)
    return checked
