"""What is planted in a simulated cortex: responses of voxels, and how they follow features.

Each voxel takes a random mixture of every feature space, in the proportions of its region.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.patterns import VOXEL_COLUMNS
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids, need_columns
from neurometamer.provenance import generator
from neurometamer.store import (
    open_hdf5,
    read_hdf5_array,
    read_hdf5_attributes,
    read_hdf5_table,
    write_hdf5,
)
from neurometamer.summaries import short_repr

VOXEL_SIZE_MM = 2.0
"""Edge of a simulated voxel."""

READOUT = "readout "
"""First word of the names of the arrays of a readout in files."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedTruth:
    """What was planted in one simulated subject.

    Parameters
    ----------
    subject : str
        The subject's label.
    conditions : tuple of str
        Rows of `betas`.
    betas : ndarray of float64, shape (n_conditions, n_voxels)
        Planted responses in percent signal change, in the scale of `fmri.estimate_betas`; 0 in
        voxels that do not respond.
    voxels : pandas.DataFrame
        ``subject``, ``roi``, ``i``, ``j``, ``k``, ``responds`` (bool), in the order in which the
        masks give them.
    mixing : mapping of str to mapping of str to float
        Region to feature space to weight.
    settings : mapping
        All other settings of the simulation.
    readout : mapping of str to ndarray
        What `predict_responses` needs to know of the features; empty where responses were given.

    Examples
    --------
    >>> voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": [0, 1], "j": 0, "k": 0})
    >>> truth = SimulatedTruth(
    ...     subject="01",
    ...     conditions=("cat", "cup"),
    ...     betas=np.zeros((2, 2)),
    ...     voxels=voxels.assign(responds=False),
    ...     mixing={"V1": {"pixels": 0.0}},
    ...     settings={},
    ... )
    >>> truth.betas.shape
    (2, 2)
    """

    subject: str
    conditions: tuple[str, ...]
    betas: np.ndarray
    voxels: pd.DataFrame
    mixing: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]
    readout: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.betas.shape != (len(self.conditions), len(self.voxels)):
            raise InputError(
                f"planted betas have the shape {self.betas.shape} for {len(self.conditions)} "
                f"conditions and {len(self.voxels)} voxels; give one number for each of both."
            )
        need_columns(self.voxels, (*VOXEL_COLUMNS, "responds"), "the truth's voxel table")


@checked
def write_truth(truth: SimulatedTruth, path: str | os.PathLike[str]) -> Path:
    """Write what was planted to an HDF5 file.

    Parameters
    ----------
    truth : SimulatedTruth
        What was planted.
    path : path-like
        Final file.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> write_truth(simulated.truth, Path(mkdtemp()) / "truth.h5").name
    'truth.h5'
    """
    readout = {f"{READOUT}{name}": values for name, values in truth.readout.items()}
    return write_hdf5(
        path,
        arrays={"betas": truth.betas, **readout},
        tables={
            "voxels": truth.voxels,
            "conditions": pd.DataFrame({"condition": list(truth.conditions)}),
        },
        attributes={"subject": truth.subject, "mixing": truth.mixing, "settings": truth.settings},
    )


@checked
def read_truth(path: str | os.PathLike[str]) -> SimulatedTruth:
    """Read what was planted.

    Parameters
    ----------
    path : path-like
        File of `write_truth`.

    Returns
    -------
    SimulatedTruth
        Equal to what was written.

    Raises
    ------
    InputError
        When the file is missing or holds something else.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> truth = read_truth(simulated.truth_path)
    >>> bool((truth.betas == simulated.truth.betas).all())
    True
    """
    attributes = read_hdf5_attributes(path)
    readout = {}
    with open_hdf5(path) as file:
        for name in file:
            if name.startswith(READOUT):
                readout[name.removeprefix(READOUT)] = file[name][...]
    return SimulatedTruth(
        subject=attributes.get("subject", ""),
        conditions=tuple(read_hdf5_table(path, "conditions")["condition"]),
        betas=read_hdf5_array(path, "betas"),
        voxels=read_hdf5_table(path, "voxels"),
        mixing=attributes.get("mixing", {}),
        settings=attributes.get("settings", {}),
        readout=readout,
    )


@checked
def predict_responses(truth: SimulatedTruth, features: Mapping[str, np.ndarray]) -> np.ndarray:
    """Say how the planted voxels respond to further images.

    Parameters
    ----------
    truth : SimulatedTruth
        From `simulate_subject`, or from `simulate_like` with features (whose space is called
        ``"features"`` here).
    features : mapping of str to ndarray, shape (n_images, n_features)
        The feature spaces of the simulation, for the further images.

    Returns
    -------
    ndarray of float64, shape (n_images, n_voxels)
        Responses in percent signal change, in the scale of ``truth.betas``, without what a session
        adds.

    Raises
    ------
    InputError
        When a feature space is missing or has other features, or responses were planted without
        features.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> features = {"x": np.random.default_rng(0).random((6, 3))}
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat", "map", "pin"],
    ...     features=features,
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> again = predict_responses(simulated.truth, features)
    >>> bool(np.allclose(again, simulated.truth.betas))
    True
    """
    centers = [name for name in truth.readout if name.startswith("center ")]
    spaces = [name.removeprefix("center ") for name in centers]
    if not spaces:
        raise InputError(
            "these responses were planted without features, so nothing is known of further images; "
            "simulate with features."
        )
    if lacking := [name for name in spaces if name not in features]:
        raise InputError(f"feature spaces {name_ids(lacking)} are missing; give all of the truth.")
    scaled = {}
    for name in spaces:
        values = np.asarray(features[name], dtype=np.float64)
        n_features = len(truth.readout[f"center {name}"])
        if values.ndim != 2 or values.shape[1] != n_features or not np.isfinite(values).all():
            raise InputError(
                f"features '{name}' have the shape {values.shape}; give finite numbers, "
                f"{n_features} for each image."
            )
        scaled[name] = standardized(values, truth.readout, name)
    settings = truth.settings
    if "maps" in truth.readout:
        (name,) = spaces
        draws = generator(settings["seed"], "readout", truth.subject)
        maps = truth.readout["maps"]
        weights = draws.standard_normal((scaled[name].shape[1], len(maps)))
        return truth.readout["response"] + scaled[name] @ weights @ maps
    n_images = len(scaled[spaces[0]])
    betas = np.zeros((n_images, len(truth.voxels)))
    for roi, rows in truth.voxels.groupby("roi", sort=False):
        for number, column in enumerate(rows.index):
            if not truth.voxels["responds"][column]:
                continue
            parts, _ = _voxel_parts((truth.subject, str(roi), number), scaled, settings["seed"])
            norms = {name: truth.readout[f"norm {name}"][column] for name in spaces}
            betas[:, column] = _mixed(parts, norms, truth.mixing[str(roi)], settings)
    return betas @ smoothing_filter(truth.voxels, settings["smoothing_fwhm"]).T


# ------------------------------------------------------------------------------------- the planting


def plant(
    subject: str,
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
    settings: Mapping[str, Any],
) -> SimulatedTruth:
    """Place the voxels of each region, draw their weights, and say what was planted in them.

    Parameters
    ----------
    subject : str
        Label without ``sub-``.
    conditions, features, mixing
        See `fmri.simulate_subject`.
    settings : mapping
        All other settings of the simulation.

    Returns
    -------
    SimulatedTruth
        With the readout that `predict_responses` needs.
    """
    seed = settings["seed"]
    shown_in = np.array([settings["sessions"][str(condition)] for condition in conditions])
    adding = settings["sessions"].values() if settings["session_sd"] else ()
    spaces, readout = {}, {}
    for name, values in features.items():
        table = np.asarray(values, dtype=np.float64)
        readout[f"center {name}"] = table.mean(axis=0)
        readout[f"spread {name}"] = table.std(axis=0)
        spaces[name] = standardized(table, readout, name)
    count = int(settings["voxels_per_roi"])
    n_responding = max(1, round(settings["responding"] * count))
    profiles = np.zeros((len(conditions), count * len(mixing)))
    responds = np.zeros(count * len(mixing), dtype=bool)
    for name in features:
        readout[f"norm {name}"] = np.ones(count * len(mixing))
    # each region has two slices of its own, with voxels side by side, in C order of the volume
    side = int(np.ceil(np.sqrt(count / 2)))
    tables = []
    for position, (roi, weights) in enumerate(mixing.items()):
        i, j, k = np.unravel_index(np.arange(count), (side, side, 2))
        columns = {
            "subject": subject,
            "roi": roi,
            "i": i + 1,
            "j": j + 1,
            "k": k + 1 + 3 * position,
        }
        tables.append(pd.DataFrame(columns))
        order = generator(seed, "responding", subject, roi).permutation(count)
        for voxel in map(int, order[:n_responding]):
            column = position * count + voxel
            responds[column] = True
            parts, norms = _voxel_parts((subject, roi, voxel), spaces, seed)
            for name, norm in norms.items():
                readout[f"norm {name}"][column] = norm
            profiles[:, column] = _mixed(parts, norms, weights, settings)
            for session in dict.fromkeys(adding):  # what each adds in this voxel
                draws = generator(seed, "session", subject, roi, voxel, session)
                added = settings["session_sd"] * draws.standard_normal()
                profiles[shown_in == session, column] += added
    voxels = pd.concat(tables, ignore_index=True)
    profiles = profiles @ smoothing_filter(voxels, settings["smoothing_fwhm"]).T
    return SimulatedTruth(
        subject=subject,
        conditions=tuple(map(str, conditions)),
        betas=profiles,
        voxels=voxels.assign(responds=responds),
        mixing={roi: dict(weights) for roi, weights in mixing.items()},
        settings=settings,
        readout=readout,
    )


def standardized(values: np.ndarray, readout: Mapping[str, np.ndarray], space: str) -> np.ndarray:
    """Scale features by the mean and standard deviation of the images of the simulation.

    Parameters
    ----------
    values : ndarray, shape (n_images, n_features)
        Features.
    readout : mapping of str to ndarray
        With ``center SPACE`` and ``spread SPACE``, each of shape (n_features,).
    space : str
        Name of the feature space.

    Returns
    -------
    ndarray of float64, shape (n_images, n_features)
        Scaled features; those that did not vary are 0.
    """
    spread = readout[f"spread {space}"]
    centered = values - readout[f"center {space}"]
    varies = spread > 0
    scaled = centered / np.where(varies, spread, 1)
    return np.where(varies, scaled, 0.0)


def smoothing_filter(voxels: pd.DataFrame, fwhm: float) -> np.ndarray:
    """Build the Gaussian filter within regions.

    Parameters
    ----------
    voxels : pandas.DataFrame
        ``roi``, ``i``, ``j``, ``k``.
    fwhm : float
        Full width at half maximum, mm; 0 for no filter.

    Returns
    -------
    ndarray, shape (n_voxels, n_voxels)
        Weights; rows sum to 1.
    """
    from scipy.spatial.distance import cdist

    if not fwhm:
        return np.eye(len(voxels))
    sigma = fwhm / np.sqrt(8 * np.log(2))
    indices = voxels[["i", "j", "k"]].to_numpy(dtype=float)
    places = VOXEL_SIZE_MM * indices
    squares = cdist(places, places) ** 2
    weights = np.exp(-squares / (2 * sigma**2))
    regions = voxels["roi"].to_numpy()
    weights *= regions[:, None] == regions
    return weights / weights.sum(axis=1, keepdims=True)


def _voxel_parts(
    voxel: tuple[str, str, int], spaces: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Draw what a voxel (subject, region, number) takes from each space, and its spread."""
    draws = generator(seed, "voxel", *voxel)
    # Every space draws, also at weight 0: changing one weight leaves the other spaces' numbers
    # alone.
    parts, norms = {}, {}
    for name in sorted(spaces):
        n_features = spaces[name].shape[1]
        parts[name] = spaces[name] @ draws.standard_normal(n_features)
        norms[name] = float(parts[name].std()) or 1.0
    return parts, norms


def _mixed(
    parts: Mapping[str, np.ndarray],
    norms: Mapping[str, float],
    weights: Mapping[str, float],
    settings: Mapping[str, Any],
) -> np.ndarray:
    """Add up what a voxel takes from each space, in percent signal change."""
    profile = np.zeros(1)  # for as many conditions as there are parts
    for name, weight in weights.items():
        own = parts[name] / norms[name]
        profile = profile + weight * own
    return settings["response_mean"] + settings["response_sd"] * profile
