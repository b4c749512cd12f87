"""Patterns: responses of voxels to presentations of conditions, with tables that label both."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmri.bids import find_reader
from fmri.exchange import as_dataset, as_xarray, from_dataset, from_xarray
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, duplicates, name_ids, need_columns, unknown_name
from neurometamer.provenance import digest
from neurometamer.store import read_hdf5_array, read_hdf5_attributes, read_hdf5_table, write_hdf5
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from rsatoolbox.data import Dataset
    from xarray import DataArray

OBSERVATION_COLUMNS = ("condition", "presentation", "run", "session")
VOXEL_COLUMNS = ("subject", "roi", "i", "j", "k")


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Patterns:
    """Responses of the voxels of one or more regions to each presentation of each condition.

    Parameters
    ----------
    values : ndarray of float, shape (n_observations, n_voxels)
        Responses; all finite. Their unit is ``provenance["settings"]["units"]`` where a GLM made
        them: ``"percent"`` = percent signal change, ``"raw"`` = units of the scanner.
    observations : pandas.DataFrame
        One row an observation: ``condition`` (stimulus id), ``presentation`` (running count of that
        condition over the subject's runs: 1, 2, …), ``run``, ``session``, and any further columns.
        No observation occurs twice.
    voxels : pandas.DataFrame
        One row a voxel of a region: ``subject``, ``roi``, ``i``, ``j``, ``k`` (indices into the
        volume), and any further columns (``reliability``). Where there is a column ``hemisphere``,
        as of surfaces, it is part of what tells voxels apart. A voxel in two regions has two rows.
    provenance : mapping
        JSON-able record of how the values came about.

    Notes
    -----
    The arrays and tables are private copies; the array is read-only.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> patterns = Patterns(
    ...     values=np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    ...     observations=pd.DataFrame(
    ...         {
    ...             "condition": ["cat", "cup", "cat"],
    ...             "presentation": [1, 1, 2],
    ...             "run": ["1", "1", "2"],
    ...             "session": "",
    ...         }
    ...     ),
    ...     voxels=pd.DataFrame(
    ...         {"subject": "01", "roi": ["V1", "LO"], "i": [3, 4], "j": 0, "k": 0}
    ...     ),
    ... )
    >>> patterns.rois
    ('V1', 'LO')
    >>> conditions, means = patterns.select(roi="LO").means()
    >>> conditions, means.tolist()
    (('cat', 'cup'), [[4.0], [4.0]])
    """

    values: np.ndarray
    observations: pd.DataFrame
    voxels: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        observations = _named_columns(
            self.observations, OBSERVATION_COLUMNS, "observations", text=(0, 2, 3)
        )
        voxels = _named_columns(self.voxels, VOXEL_COLUMNS, "voxels", text=(0, 1))
        values = np.array(self.values)
        if values.dtype.kind in "iub":
            values = values.astype(np.float64)
        is_float = values.dtype in (np.float32, np.float64)
        if not is_float or values.shape != (len(observations), len(voxels)):
            raise InputError(
                f"patterns have values of shape {values.shape} and type {values.dtype}, but "
                f"{len(observations)} observations and {len(voxels)} voxels; give a float array of "
                "shape (observations, voxels)."
            )
        broken = ~np.isfinite(values).all(axis=0)
        if broken.any():
            named = name_ids(voxel_names(voxels[broken]))
            raise InputError(
                f"patterns hold NaN or infinite values in voxel(s) {named}; drop these "
                'voxels before making patterns (estimate_betas: unusable="drop").'
            )
        _check_unique(observations, ("condition", "presentation"), "observation(s)")
        _check_unique(voxels, voxel_key(voxels), "voxel(s)")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "observations", observations)
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __len__(self) -> int:
        return len(self.observations)

    def _summary(self) -> dict[str, Any]:
        n_voxels = self.voxels["roi"].value_counts(sort=False).to_dict()
        shown: dict[str, Any] = {
            "values": self.values,
            "observations": self.observations,
            "voxels": self.voxels,
            "n_voxels": n_voxels,
        }
        if "step" in self.provenance:
            shown["made_by"] = self.provenance["step"]
        if self.simulated:
            shown["simulated"] = True
        return shown

    @property
    def rois(self) -> tuple[str, ...]:
        """The regions.

        Returns
        -------
        tuple of str
            In order of first appearance.
        """
        of_voxels = self.voxels["roi"]
        names = dict.fromkeys(of_voxels)
        return tuple(names)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The conditions.

        Returns
        -------
        tuple of str
            In order of first appearance.
        """
        of_observations = self.observations["condition"]
        names = dict.fromkeys(of_observations)
        return tuple(names)

    @property
    def subject(self) -> str:
        """The subject whose patterns these are.

        Returns
        -------
        str
            Empty when there is no voxel.

        Raises
        ------
        InputError
            When there are several.
        """
        subjects = list(dict.fromkeys(self.voxels["subject"]))
        if len(subjects) > 1:
            raise InputError(
                f"patterns hold {len(subjects)} subjects ({name_ids(subjects)}); select one."
            )
        return subjects[0] if subjects else ""

    @property
    def simulated(self) -> bool:
        """Whether the provenance says that any of it comes from a simulation.

        Returns
        -------
        bool
            Measured data say nothing.
        """
        return says_simulated(self.provenance)

    @property
    def digest(self) -> str:
        """Identity of values and tables (not of the provenance).

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        return digest(self.values, self.observations, self.voxels)

    def select(
        self,
        *,
        roi: str | Sequence[str] | None = None,
        conditions: Sequence[str] | None = None,
        voxels: np.ndarray | None = None,
    ) -> Patterns:
        """Keep some regions, conditions or voxels.

        Parameters
        ----------
        roi : str or sequence of str, optional
            Region(s) to keep.
        conditions : sequence of str, optional
            Conditions to keep; observations stay in their order.
        voxels : ndarray of bool, shape (n_voxels,), optional
            True for the voxel rows to keep; combined with `roi`.

        Returns
        -------
        Patterns
            New patterns with the same provenance.

        Raises
        ------
        InputError
            When a region or condition is unknown, or the mask is not one boolean a voxel.
        """
        columns = np.ones(len(self.voxels), dtype=bool)
        if roi is not None:
            wanted = [roi] if isinstance(roi, str) else list(roi)
            _check_known("ROI", wanted, self.rois)
            in_regions = self.voxels["roi"].isin(wanted)
            columns &= in_regions.to_numpy()
        if voxels is not None:
            mask = np.asarray(voxels)
            if mask.dtype != bool or mask.shape != columns.shape:
                raise InputError(
                    f"voxels is {mask.dtype} of shape {mask.shape}; give booleans of shape "
                    f"{columns.shape}."
                )
            columns &= mask
        observed = self.observations
        rows = np.ones(len(self), dtype=bool)
        if conditions is not None:
            chosen = [conditions] if isinstance(conditions, str) else list(conditions)
            _check_known("condition", chosen, self.conditions)
            is_chosen = observed["condition"].isin(chosen)
            rows &= is_chosen.to_numpy()
        return replace(
            self,
            values=self.values[np.ix_(rows, columns)],
            observations=observed[rows],
            voxels=self.voxels[columns],
        )

    def means(
        self, presentations: Sequence[int] | None = None
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Average over presentations.

        Parameters
        ----------
        presentations : sequence of int, optional
            Average only these presentations (default: all).

        Returns
        -------
        conditions : tuple of str
            In order of first appearance in `observations` (of all presentations).
        values : ndarray of float64, shape (n_conditions, n_voxels)
            Mean response to each condition.

        Raises
        ------
        InputError
            When a condition has none of the presentations asked for.
        """
        names = self.conditions
        numbers = {name: number for number, name in enumerate(names)}
        codes = self.observations["condition"].map(numbers).to_numpy(dtype=int)
        rows = np.ones(len(self), dtype=bool)
        if presentations is not None:
            is_wanted = self.observations["presentation"].isin(list(presentations))
            rows &= is_wanted.to_numpy()
        counts = np.bincount(codes[rows], minlength=len(names))
        if np.any(counts == 0):
            absent = np.array(names, dtype=object)[counts == 0]
            raise InputError(
                f"no such presentation of condition(s) {name_ids(absent)}; asked for "
                f"{presentations}. Give presentations that every condition has."
            )
        averaging = np.zeros((len(names), len(self)))
        averaging[codes[rows], np.flatnonzero(rows)] = 1
        values = self.values.astype(np.float64, copy=False)
        sums = averaging @ values
        return names, sums / counts[:, None]

    def to_dataset(self) -> Dataset:
        """Give the patterns as a dataset of rsatoolbox.

        Returns
        -------
        rsatoolbox.data.Dataset
            Measurements (n_observations, n_voxels) with an observation descriptor for each column
            of `observations` and a channel descriptor for each column of `voxels`; the descriptors
            ``subject`` and ``provenance`` (JSON). `patterns_from_dataset` goes back.
        """
        return as_dataset(self.values, self.observations, self.voxels, self.provenance)

    def to_xarray(self) -> DataArray:
        """Give the patterns as a labeled array, named as in Brain-Score.

        Returns
        -------
        xarray.DataArray
            Dimensions ``presentation`` × ``neuroid``; coordinates ``stimulus_id`` (condition),
            ``repetition`` (presentation), ``region`` (roi), ``neuroid_id``, and the other columns
            under their names; the attribute ``provenance`` (JSON). `patterns_from_xarray` goes
            back.

        Raises
        ------
        InputError
            When xarray is not installed.
        """
        return as_xarray(self.values, self.observations, self.voxels, self.provenance)


def says_simulated(record: Any) -> bool:
    """Return whether a record names simulated images among its sources.

    Parameters
    ----------
    record : object
        Provenance of patterns, as JSON holds it.

    Returns
    -------
    bool
        True where a mapping in it has ``simulated: true``.

    Examples
    --------
    >>> says_simulated({"parts": [{"simulated": True}]}), says_simulated(None)
    (True, False)
    """
    if isinstance(record, Mapping):
        if record.get("simulated") is True:
            return True
        parts = list(record.values())
    elif isinstance(record, (list, tuple)):
        parts = list(record)
    else:
        return False
    return any(map(says_simulated, parts))


@checked
def concat_patterns(parts: Sequence[Patterns]) -> Patterns:
    """Join the sessions of one subject: all observations, the same voxels.

    Parameters
    ----------
    parts : sequence of Patterns
        Sessions in order; voxels are matched by subject, region and i, j, k. Presentations are
        counted anew.

    Returns
    -------
    Patterns
        All observations; voxels in the order of the first part; provenance of each under ``parts``.

    Raises
    ------
    InputError
        When there is nothing to join, a part lacks voxels of another, or two parts hold a run with
        the same labels.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0})
    >>> observations = pd.DataFrame({"condition": ["cat", "cup"], "presentation": 1, "run": "1"})
    >>> sessions = [
    ...     Patterns(
    ...         values=np.ones((2, 3)),
    ...         observations=observations.assign(session=session),
    ...         voxels=voxels,
    ...     )
    ...     for session in ("1", "2")
    ... ]
    >>> concat_patterns(sessions).observations["presentation"].tolist()
    [1, 1, 2, 2]
    """
    if not parts:
        raise InputError("no patterns to join; give at least one.")
    first = parts[0]
    names = voxel_key(first.voxels)
    keys = pd.MultiIndex.from_frame(first.voxels[names])
    values = []
    for part in parts:
        if voxel_key(part.voxels) != names:
            raise InputError(
                f"only some of the {len(parts)} patterns name the hemisphere of their voxels; give "
                "it to all or none."
            )
        order = pd.MultiIndex.from_frame(part.voxels[names]).get_indexer(keys)
        if len(part.voxels) != len(keys) or np.any(order < 0):
            raise InputError(
                f"patterns have different voxels ({len(keys)} and {len(part.voxels)}, "
                f"{int(np.sum(order < 0))} of the first are missing in another); make them with "
                "the same masks and the same dropped voxels."
            )
        values.append(part.values[:, order])
    runs = pd.concat([part.observations[["session", "run"]].drop_duplicates() for part in parts])
    again = duplicates(f"session '{row.session}' run '{row.run}'" for row in runs.itertuples())
    if again:
        raise InputError(
            f"runs in more than one part: {name_ids(again)}; give each session its own label."
        )
    observations = pd.concat([part.observations for part in parts], ignore_index=True)
    numbers = observations.groupby("condition").cumcount() + 1
    return Patterns(
        values=np.concatenate(values),
        observations=observations.assign(presentation=numbers),
        voxels=first.voxels,
        provenance={"parts": [dict(part.provenance) for part in parts]},
    )


@checked
def join_regions(parts: Sequence[Patterns]) -> Patterns:
    """Put regions or hemispheres of one subject side by side.

    The observations stay the same; the voxels are those of all.

    Parameters
    ----------
    parts : sequence of Patterns
        With the same conditions, presentations, runs and sessions in the same order.

    Returns
    -------
    Patterns
        Voxels of the first part, then of the second, and so on; provenance of each under ``parts``.

    Raises
    ------
    InputError
        When there is nothing to join, observations differ, or a voxel occurs twice.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> observations = pd.DataFrame({"condition": ["cat", "cup"], "presentation": 1, "run": "1"})
    >>> voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0})
    >>> sides = [
    ...     Patterns(
    ...         values=np.ones((2, 3)),
    ...         observations=observations.assign(session=""),
    ...         voxels=voxels.assign(hemisphere=side),
    ...     )
    ...     for side in ("L", "R")
    ... ]
    >>> join_regions(sides).values.shape
    (2, 6)
    """
    if not parts:
        raise InputError("no patterns to join; give at least one.")
    first = parts[0].observations[list(OBSERVATION_COLUMNS)]
    for number, part in enumerate(parts[1:], start=2):
        if not part.observations[list(OBSERVATION_COLUMNS)].equals(first):
            raise InputError(
                f"patterns 1 and {number} hold other observations; regions are joined when "
                "conditions, presentations, runs and sessions are the same, in the same order."
            )
    values = np.concatenate([part.values for part in parts], axis=1)
    voxels = pd.concat([part.voxels for part in parts], ignore_index=True)
    return Patterns(
        values=values,
        observations=parts[0].observations,
        voxels=voxels,
        provenance={"parts": [dict(part.provenance) for part in parts]},
    )


@checked
def patterns_from_dataset(
    dataset: Dataset, *, condition: str = "condition", roi: str = "", subject: str = ""
) -> Patterns:
    """Make patterns of a dataset of rsatoolbox.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset
        Observations × channels.
    condition : str
        Observation descriptor that holds the stimulus ids.
    roi : str
        Region of the channels, where they have no descriptor ``roi``.
    subject : str
        Subject, where neither the channels nor the dataset have a descriptor ``subject``.

    Returns
    -------
    Patterns
        All descriptors as columns. Presentations are counted, runs and sessions are empty, and i
        counts the channels, where there are no such descriptors.

    Raises
    ------
    InputError
        When there is no such descriptor, or nothing names the region.

    Examples
    --------
    >>> from rsatoolbox.data import Dataset
    >>> dataset = Dataset(np.eye(3), obs_descriptors={"stimulus": ["cat", "cup", "cat"]})
    >>> patterns = patterns_from_dataset(dataset, condition="stimulus", roi="V1")
    >>> patterns.observations["presentation"].tolist()
    [1, 1, 2]
    >>> patterns_from_dataset(patterns.to_dataset()).digest == patterns.digest
    True
    """
    return Patterns(**from_dataset(dataset, condition, roi, subject))


@checked
def patterns_from_xarray(array: DataArray, *, roi: str = "", subject: str = "") -> Patterns:
    """Make patterns of a labeled array, such as an assembly of Brain-Score.

    Parameters
    ----------
    array : xarray.DataArray
        Dimensions ``presentation`` and ``neuroid`` in any order, with the coordinate
        ``stimulus_id``.
    roi : str
        Region of the neuroids, where they have no coordinate ``region``.
    subject : str
        Subject, where the neuroids have no coordinate ``subject``.

    Returns
    -------
    Patterns
        Coordinates as columns. Presentations are counted, runs and sessions are empty, and i counts
        the neuroids, where there are no such coordinates.

    Raises
    ------
    InputError
        When a dimension or ``stimulus_id`` is not there, or nothing names the region.

    Examples
    --------
    >>> from xarray import DataArray
    >>> array = DataArray(
    ...     np.eye(2),
    ...     dims=("presentation", "neuroid"),
    ...     coords={
    ...         "stimulus_id": ("presentation", ["cat", "cup"]),
    ...         "region": ("neuroid", ["V1", "IT"]),
    ...     },
    ... )
    >>> patterns_from_xarray(array, subject="01").rois
    ('V1', 'IT')
    """
    return Patterns(**from_xarray(array, roi, subject))


def voxel_key(voxels: pd.DataFrame) -> list[str]:
    """Name the columns that tell voxels apart.

    Parameters
    ----------
    voxels : pandas.DataFrame
        Voxel table of `Patterns`.

    Returns
    -------
    list of str
        Subject, region, i, j, k, and the hemisphere where there is that column.
    """
    names = list(VOXEL_COLUMNS)
    if "hemisphere" in voxels.columns:
        names.append("hemisphere")
    return names


def voxel_names(voxels: pd.DataFrame) -> list[str]:
    """Name voxels for messages.

    Parameters
    ----------
    voxels : pandas.DataFrame
        Rows of the voxel table of `Patterns`.

    Returns
    -------
    list of str
        Region and indices, e.g. ``"V1 (3, 0, 0)"``.
    """
    names = []
    for voxel in voxels.itertuples():
        names.append(f"{voxel.roi} ({voxel.i}, {voxel.j}, {voxel.k})")
    return names


@checked
def write_patterns(patterns: Patterns, path: str | os.PathLike[str]) -> Path:
    """Write patterns to one HDF5 file, atomically.

    Parameters
    ----------
    patterns : Patterns
        What to write.
    path : path-like
        Final file: array ``values``, tables ``observations`` and ``voxels``, attribute
        ``provenance``.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from tempfile import mkdtemp
    >>> patterns = Patterns(
    ...     values=np.ones((1, 3)),
    ...     observations=pd.DataFrame(
    ...         {"condition": ["cat"], "presentation": 1, "run": "1", "session": ""}
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0}),
    ... )
    >>> write_patterns(patterns, Path(mkdtemp()) / "patterns.h5").name
    'patterns.h5'
    """
    return write_hdf5(
        path,
        arrays={"values": patterns.values},
        tables={"observations": patterns.observations, "voxels": patterns.voxels},
        attributes={
            "provenance": dict(patterns.provenance),
            "content": "patterns",
            "digest": patterns.digest,
        },
    )


@checked
def read_patterns(path: str | os.PathLike[str]) -> Patterns:
    """Read patterns written by `write_patterns`.

    Parameters
    ----------
    path : path-like
        The file; its ending tells how it is read (`PATTERN_READERS`).

    Returns
    -------
    Patterns
        Equal to what was written.

    Raises
    ------
    InputError
        When the file is missing, is not HDF5 or holds something else, or its ending is unknown.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from tempfile import mkdtemp
    >>> patterns = Patterns(
    ...     values=np.ones((1, 3)),
    ...     observations=pd.DataFrame(
    ...         {"condition": ["cat"], "presentation": 1, "run": "1", "session": ""}
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0}),
    ... )
    >>> file = write_patterns(patterns, Path(mkdtemp()) / "patterns.h5")
    >>> read_patterns(file).digest == patterns.digest
    True
    """
    read = find_reader(PATTERN_READERS, path, "patterns")
    return read(path)


def _read_hdf5(path: str | os.PathLike[str]) -> Patterns:
    return Patterns(
        values=read_hdf5_array(path, "values"),
        observations=read_hdf5_table(path, "observations"),
        voxels=read_hdf5_table(path, "voxels"),
        provenance=read_hdf5_attributes(path).get("provenance", {}),
    )


PATTERN_READERS: dict[str, Callable[[str | os.PathLike[str]], Patterns]] = {
    ".h5": _read_hdf5,
    ".hdf5": _read_hdf5,
}
"""Ending of a file of patterns → its reader; a format is added by an entry here."""


def _named_columns(
    table: pd.DataFrame, names: Sequence[str], what: str, text: Sequence[int]
) -> pd.DataFrame:
    """Copy a table, check its columns, make names text and counts integers."""
    need_columns(table, names, f"the {what} table")
    table = table.reset_index(drop=True).copy()
    for number, name in enumerate(names):
        if table[name].isna().any():
            raise InputError(
                f"the {what} table has {int(table[name].isna().sum())} row(s) without '{name}'; "
                "fill it."
            )
        if number in text:
            table[name] = np.array(list(map(str, table[name])), dtype=object)
            continue
        try:
            numbers = table[name].to_numpy(dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"'{name}' of the {what} table must be whole numbers; it is {table[name].dtype}."
            ) from None
        fractions = numbers[numbers != np.round(numbers)]
        if len(fractions):
            raise InputError(
                f"'{name}' of the {what} table must be whole numbers; it has {fractions[0]}."
            )
        table[name] = numbers.astype(np.int64)
    return table


def _check_unique(table: pd.DataFrame, names: Sequence[str], what: str) -> None:
    key = table[list(names)]
    if key.duplicated().any():
        rows = [" ".join(map(str, row)) for row in key.itertuples(index=False)]
        again = duplicates(rows)
        raise InputError(
            f"{what} given twice ({', '.join(names)}): {name_ids(again)}; keep one of each."
        )


def _check_known(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    absent = [name for name in names if name not in set(known)]
    if len(absent) == 1 or (absent and kind == "ROI"):
        raise unknown_name(kind, absent[0], known)
    if absent:
        raise InputError(
            f"unknown {kind}s {name_ids(absent)}; the patterns hold {name_ids(known)}; check the "
            "ids against events.tsv."
        )
