"""Patterns as other libraries hold them: rsatoolbox's datasets, and labeled arrays of xarray.

The functions here turn tables into those objects and back; `fmri.Patterns` calls them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import plain_value

if TYPE_CHECKING:
    from rsatoolbox.data import Dataset
    from xarray import DataArray

PRESENTATION = {"condition": "stimulus_id", "presentation": "repetition"}
"""Column of observations → its name in labeled arrays, as Brain-Score has it."""

NEUROID = {"roi": "region"}
"""Column of voxels → its name in labeled arrays."""

DIMENSIONS = ("presentation", "neuroid")

_INDICES = ("i", "j", "k")


def as_dataset(
    values: np.ndarray,
    observations: pd.DataFrame,
    voxels: pd.DataFrame,
    provenance: Mapping[str, Any],
) -> Dataset:
    """Make a dataset of rsatoolbox.

    Parameters
    ----------
    values : ndarray, shape (n_observations, n_voxels)
        Responses; copied.
    observations, voxels : pandas.DataFrame
        Tables of `fmri.Patterns`.
    provenance : mapping
        Becomes the descriptor ``provenance``, as JSON.

    Returns
    -------
    rsatoolbox.data.Dataset
        A descriptor for each column.
    """
    from rsatoolbox.data import Dataset

    descriptors = {"provenance": json.dumps(dict(provenance), default=plain_value)}
    subjects = list(dict.fromkeys(voxels["subject"]))
    if len(subjects) == 1:
        descriptors["subject"] = subjects[0]
    return Dataset(
        values.copy(),
        descriptors=descriptors,
        obs_descriptors={str(name): observations[name].to_list() for name in observations},
        channel_descriptors={str(name): voxels[name].to_list() for name in voxels},
    )


def from_dataset(dataset: Dataset, condition: str, roi: str, subject: str) -> dict[str, Any]:
    """Take the tables out of a dataset of rsatoolbox.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset
        Observations × channels.
    condition : str
        Observation descriptor that holds the stimulus ids.
    roi, subject : str
        Region and subject where the dataset names none.

    Returns
    -------
    dict
        Arguments of `fmri.Patterns`.

    Raises
    ------
    InputError
        When it has no such descriptor, or no region.
    """
    labels = dict(dataset.obs_descriptors)
    if condition not in labels:
        raise unknown_name("observation descriptor of the dataset", condition, labels)
    observations = pd.DataFrame({"condition": labels.pop(condition), **labels})
    channels = {
        name: channel for name, channel in dataset.channel_descriptors.items() if name != "index"
    }
    voxels = pd.DataFrame(channels, index=range(dataset.n_channel))
    about = dataset.descriptors
    provenance = about.get("provenance", "{}")
    return {
        "values": np.asarray(dataset.measurements),
        "observations": _complete_observations(observations.drop(columns="index", errors="ignore")),
        "voxels": _complete_voxels(voxels, roi, subject or str(about.get("subject", ""))),
        "provenance": _read_provenance(provenance),
    }


def as_xarray(
    values: np.ndarray,
    observations: pd.DataFrame,
    voxels: pd.DataFrame,
    provenance: Mapping[str, Any],
) -> DataArray:
    """Make a labeled array.

    Parameters
    ----------
    values : ndarray, shape (n_observations, n_voxels)
        Responses; copied.
    observations, voxels : pandas.DataFrame
        Tables of `fmri.Patterns`.
    provenance : mapping
        Becomes the attribute ``provenance``, as JSON.

    Returns
    -------
    xarray.DataArray
        Dimensions presentation and neuroid, a coordinate for each column.

    Raises
    ------
    InputError
        When xarray is not installed.
    """
    try:
        from xarray import DataArray
    except ImportError:
        raise InputError(
            "labeled arrays need xarray; install it with pip install 'neurometamer[xarray]'."
        ) from None
    coordinates: dict[str, tuple[str, Any]] = {}
    tables = (observations.rename(columns=PRESENTATION), voxels.rename(columns=NEUROID))
    for dimension, table in zip(DIMENSIONS, tables, strict=True):
        for name in table:
            column = table[name].to_numpy()
            if column.dtype == object and not table[name].isna().any():
                column = column.astype(str)
            coordinates[str(name)] = (dimension, column)
    coordinates["neuroid_id"] = ("neuroid", np.array(_neuroid_ids(voxels)))
    return DataArray(
        values.copy(),
        dims=DIMENSIONS,
        coords=coordinates,
        attrs={"provenance": json.dumps(dict(provenance), default=plain_value)},
    )


def from_xarray(array: DataArray, roi: str, subject: str) -> dict[str, Any]:
    """Take the tables out of a labeled array.

    Parameters
    ----------
    array : xarray.DataArray
        With the dimensions presentation and neuroid, and the coordinate ``stimulus_id``.
    roi, subject : str
        Region and subject where the array names none.

    Returns
    -------
    dict
        Arguments of `fmri.Patterns`.

    Raises
    ------
    InputError
        When a dimension or a coordinate is not there.
    """
    if set(array.dims) != set(DIMENSIONS):
        raise InputError(
            f"the array has the dimensions {name_ids(array.dims)}; give one of presentation × "
            "neuroid (squeeze a time bin first)."
        )
    tables = []
    for dimension, names in zip(DIMENSIONS, (PRESENTATION, NEUROID), strict=True):
        ours = {theirs: name for name, theirs in names.items()}
        columns = {}
        for name, coordinate in array.coords.items():
            if coordinate.dims == (dimension,) and name != dimension:
                columns[ours.get(str(name), str(name))] = coordinate.to_numpy()
        tables.append(pd.DataFrame(columns, index=range(array.sizes[dimension])))
    observations, voxels = tables
    if "condition" not in observations:
        raise unknown_name("coordinate of the array", "stimulus_id", map(str, array.coords))
    voxels = _complete_voxels(voxels, roi, subject)
    if "neuroid_id" in voxels and voxels["neuroid_id"].tolist() == _neuroid_ids(voxels):
        voxels = voxels.drop(columns="neuroid_id")
    return {
        "values": array.transpose(*DIMENSIONS).to_numpy(),
        "observations": _complete_observations(observations),
        "voxels": voxels,
        "provenance": _read_provenance(array.attrs.get("provenance", "{}")),
    }


def _neuroid_ids(voxels: pd.DataFrame) -> list[str]:
    names = ["subject", "roi", *_INDICES]
    if "hemisphere" in voxels:
        names.append("hemisphere")
    return [".".join(map(str, row)) for row in voxels[names].itertuples(index=False)]


def _complete_observations(table: pd.DataFrame) -> pd.DataFrame:
    """Count presentations where they are not counted; runs and sessions without a name are one."""
    table = table.copy()
    table["condition"] = table["condition"].map(str)
    if "presentation" not in table:
        table.insert(1, "presentation", table.groupby("condition").cumcount() + 1)
    for name in ("run", "session"):
        if name not in table:
            table[name] = ""
    return table


def _complete_voxels(table: pd.DataFrame, roi: str, subject: str) -> pd.DataFrame:
    """Name region and subject of voxels; voxels without indices are counted by i."""
    table = table.copy()
    if "roi" not in table:
        if not roi:
            raise InputError(
                f"nothing says the region of the {len(table)} voxels (their labels are "
                f"{name_ids(table.columns, 20) or 'none'}); name it: roi."
            )
        table["roi"] = roi
    if "subject" not in table:
        table.insert(0, "subject", subject)
    present = [name for name in _INDICES if name in table]
    if not present:
        return table.assign(i=range(len(table)), j=0, k=0)
    if len(present) < len(_INDICES):
        raise InputError(
            f"of the indices i, j and k of the voxels only {name_ids(present)} are there; give all "
            "or none."
        )
    return table


def _read_provenance(text: Any) -> dict[str, Any]:
    """Read provenance that was written as JSON; of other texts nothing is kept."""
    try:
        record = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
