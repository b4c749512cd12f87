"""A simulated cortex with known truth: the files that a scanner and its preprocessing leave.

The truth is what was planted.

It knows features (one row a condition), not where they come from. What is simulated is a
caricature: linear summation, and by default one hemodynamic response for all voxels and no spatial
smoothness. `fmri.simulate_like` takes noise, signal and schedule from measured runs instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.estimate import estimate_betas
from fmri.bold import read_runs
from fmri.patterns import VOXEL_COLUMNS, Patterns
from fmri.selection import select_voxels
from fmri.tables import MOTION_COLUMNS
from fmri.volumes import SIMULATED
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, duplicates, name_ids, need_columns, unknown_name
from neurometamer.provenance import generator
from neurometamer.store import (
    atomic_path,
    file_name,
    open_hdf5,
    read_hdf5_array,
    read_hdf5_attributes,
    read_hdf5_table,
    write_hdf5,
    write_table,
)
from neurometamer.summaries import short_repr

VOXEL_SIZE_MM = 2.0
BLANK = "blank"
READOUT = "readout "
"""First word of the names of the arrays of a readout in files."""

DESCRIPTION = f"{SIMULATED}: no brain"
"""In the header of every image (``descrip``), so that what is made from it can tell."""


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


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedSubject:
    """Files of one simulated subject, ready for `read_runs` and `read_masks`, and the truth.

    Parameters
    ----------
    subject : str
        Label without ``sub-``.
    bold, events, confounds : tuple of Path
        One file a run.
    masks : mapping of str to Path
        ROI name to mask.
    truth : SimulatedTruth
        What was planted.
    truth_path : Path
        HDF5 file of the same (`read_truth`).

    Examples
    --------
    >>> from tempfile import mkdtemp
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
    >>> [path.name for path in simulated.bold]
    ['sub-01_task-images_run-1_bold.nii', 'sub-01_task-images_run-2_bold.nii']
    >>> list(simulated.masks)
    ['V1']
    """

    subject: str
    bold: tuple[Path, ...]
    events: tuple[Path, ...]
    confounds: tuple[Path, ...]
    masks: Mapping[str, Path]
    truth: SimulatedTruth
    truth_path: Path


@short_repr
@dataclass(frozen=True, kw_only=True)
class SimulationOptions:
    """Acquisition, responses and noise of a simulated cortex.

    Parameters
    ----------
    responding : float
        Share of the voxels of a region that respond at all, in (0, 1].
    t_r, image_s, gap_s, ends_s : float
        Seconds: repetition time, image, blank after it, rest at both ends of a run (Zhang et al.,
        2021: 2, 2, 2, 20).
    n_blanks : int, optional
        Blank trials per run, at random places; by default a fifth of the conditions (with sessions,
        each has its share of them). Zhang et al. (2021) had 9 in 129 trials, but pooled five runs
        into one beta; with one beta an event and back-to-back trials, fewer blanks let drifts and
        events explain each other and multiply the noise of the betas (54 conditions, 0.01 Hz: by
        about 5 with 4 blanks, 2 with 8, 26 with none).
    session_sd : float
        Standard deviation (percent, over voxels that respond) of what a session adds to all
        responses of a voxel. Where images of all kinds share sessions (20 photographs each in Zhang
        et al., 2021), this makes their RDMs alike.
    response_sd, response_mean : float
        Standard deviation (over conditions, at unit mixing weight) and mean of a responding voxel's
        betas, in percent signal change. One unit is the plateau of an endless stimulus: a 2-s image
        peaks near two thirds of its beta.
    noise_sd, noise_ar1 : float
        Standard deviation (percent) and lag-1 correlation, in [0, 1), of the noise of a voxel.
    drift_sd, motion_sd : float
        Standard deviations (percent) of the slow drift and of the signal coupled to head motion.
    baseline : float
        Mean image intensity; voxels lie within 10 % of it.
    hrf_delay_sd : float
        Standard deviation over voxels, in seconds, of the delay of the hemodynamic response (in
        steps of a quarter of it, to two standard deviations); 0 for the same response everywhere.
    smoothing_fwhm : float
        Full width at half maximum, in mm, of a Gaussian filter of responses and noise within each
        region, as motion correction and partial volumes leave it. Planted betas are those that are
        measured, after the filter; `noise_sd` too.
    n_spikes : int
        Volumes a run, at random, in which the head jerks.
    spike_sd : float
        Standard deviation (percent) of what such a volume adds to all voxels.

    Raises
    ------
    InputError
        When a number is out of range.

    Examples
    --------
    >>> SimulationOptions(noise_sd=1.5)
    SimulationOptions(noise_sd=1.5)
    """

    responding: float = 0.6
    t_r: float = 2.0
    image_s: float = 2.0
    gap_s: float = 2.0
    ends_s: float = 20.0
    n_blanks: int | None = None
    session_sd: float = 0.0
    response_sd: float = 3.0
    response_mean: float = 3.0
    noise_sd: float = 0.7
    noise_ar1: float = 0.3
    drift_sd: float = 1.0
    motion_sd: float = 0.5
    baseline: float = 1000.0
    hrf_delay_sd: float = 0.0
    smoothing_fwhm: float = 0.0
    n_spikes: int = 0
    spike_sd: float = 3.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("t_r", "image_s", "baseline", "responding"):
            value = getattr(self, name)
            if not value > 0:
                raise InputError(f"{name} is {value}; give a positive number.")
        from_zero = (
            "gap_s",
            "ends_s",
            "n_blanks",
            "session_sd",
            "response_sd",
            "noise_sd",
            "noise_ar1",
            "drift_sd",
            "motion_sd",
            "hrf_delay_sd",
            "smoothing_fwhm",
            "n_spikes",
            "spike_sd",
        )
        for name in from_zero:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise InputError(f"{name} is {value}; give at least 0.")
        if self.responding > 1:
            raise InputError(f"responding is {self.responding}; give a number up to 1.")
        if self.noise_ar1 >= 1:
            raise InputError(f"noise_ar1 is {self.noise_ar1}; give a number below 1.")


@checked
def simulate_subject(
    folder: str | os.PathLike[str],
    *,
    subject: str,
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
    seed: int,
    voxels_per_roi: int = 60,
    n_runs: int = 4,
    sessions: Mapping[str, str] | None = None,
    options: SimulationOptions | None = None,
) -> SimulatedSubject:
    """Simulate one subject and write its files.

    Parameters
    ----------
    folder : path-like
        Folder that gets ``sub-XX_task-images_run-N_bold.nii`` (with `sessions`
        ``sub-XX_ses-YY_task-…``), ``…_events.tsv``, ``…_confounds.tsv``,
        ``sub-XX_roi-NAME_mask.nii`` and ``sub-XX_truth.h5``.
    subject : str
        Label, with or without ``sub-``.
    conditions : sequence of str
        Stimulus ids.
    features : mapping of str to ndarray, shape (n_conditions, n_features)
        Feature spaces; rows in the order of `conditions`.
    mixing : mapping of str to mapping of str to float
        Region to feature space to weight: what the region follows. A region whose weights are all 0
        responds equally to everything.
    seed : int
        Same seed, same files, byte for byte; a voxel's weights depend on seed, subject, region and
        its number only.
    voxels_per_roi : int
        Voxels in each region.
    n_runs : int
        Runs, of each session; each shows every condition (of its session) once, in an order of its
        own.
    sessions : mapping of str to str, optional
        Condition → label of the session whose runs show it; a single session without label when not
        given.
    options : SimulationOptions, optional
        Acquisition, responses and noise; the defaults of `SimulationOptions` when not given.

    Returns
    -------
    SimulatedSubject
        Paths and truth.

    Raises
    ------
    InputError
        When conditions, features and mixing do not fit together, or a number is out of range.

    Examples
    --------
    >>> from tempfile import mkdtemp
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
    >>> simulated.truth.betas.shape
    (4, 8)
    >>> simulated.truth_path.name
    'sub-01_truth.h5'
    """
    label = str(subject).removeprefix("sub-")
    # anything else would end the label in the names of the files
    if not re.fullmatch("[A-Za-z0-9]+", label):
        raise InputError(f"subject {subject!r} is not a BIDS label; use letters and digits.")
    _check_simulation(conditions, features, mixing)
    for name, number in (("voxels_per_roi", voxels_per_roi), ("n_runs", n_runs)):
        if number < 1:
            raise InputError(f"{name} is {number}; give at least 1.")
    options = SimulationOptions() if options is None else options
    shown_in = _check_sessions(conditions, sessions, options.session_sd)
    settings = {
        "seed": seed,
        "voxels_per_roi": voxels_per_roi,
        "n_runs": n_runs,
        **asdict(options),
        "sessions": shown_in,
    }
    if options.n_blanks is None:
        settings["n_blanks"] = round(0.2 * len(conditions))
    truth = _plant(label, conditions, features, mixing, settings)
    target = Path(folder)
    shape, affine = _grid(truth)
    masks = {}
    for roi, rows in truth.voxels.groupby("roi", sort=False):
        mask = np.zeros(shape, dtype=np.uint8)
        mask[rows["i"], rows["j"], rows["k"]] = 1
        mask_name = file_name(f"sub-{label}_roi-{roi}_mask.nii")
        masks[str(roi)] = save_image(target / mask_name, mask, affine, None)
    bold, events, confounds = [], [], []
    for session in dict.fromkeys(shown_in.values()):
        for run in range(1, n_runs + 1):
            files = _write_run(target, truth, session, run)
            bold.append(files[0])
            events.append(files[1])
            confounds.append(files[2])
    return SimulatedSubject(
        subject=label,
        bold=tuple(bold),
        events=tuple(events),
        confounds=tuple(confounds),
        masks=masks,
        truth=truth,
        truth_path=write_truth(truth, target / f"sub-{label}_truth.h5"),
    )


@checked
def simulate_patterns(
    folder: str | os.PathLike[str],
    *,
    subjects: Sequence[str],
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
    seed: int,
    select_on: Sequence[str] = (),
    n_per_roi: int | None = None,
    voxels_per_roi: int = 60,
    n_runs: int = 4,
    sessions: Mapping[str, str] | None = None,
    options: SimulationOptions | None = None,
) -> dict[str, Patterns]:
    """Simulate subjects, estimate their betas from the files, and choose reliable voxels.

    Parameters
    ----------
    folder : path-like
        Folder that gets one folder per subject with its files (`simulate_subject`).
    subjects : sequence of str
        Labels, with or without ``sub-``.
    conditions : sequence of str
        Stimulus ids.
    features : mapping of str to ndarray, shape (n_conditions, n_features)
        Feature spaces; rows in the order of `conditions`.
    mixing : mapping of str to mapping of str to float
        Region to feature space to weight.
    seed : int
        Seed of all random draws.
    select_on : sequence of str
        Conditions by which voxels are chosen, for `n_per_roi`; as in `select_voxels` there is no
        default (Zhang et al., 2021: RE images).
    n_per_roi : int, optional
        Voxels kept in each region, the most reliable ones; all when not given.
    voxels_per_roi, n_runs, sessions, options
        See `simulate_subject`.

    Returns
    -------
    dict of str to Patterns
        ``sub-LABEL`` → betas of a SIMULATED cortex, in the order of `subjects`.

    Raises
    ------
    InputError
        As the functions named above; and when only one of `n_per_roi` and `select_on` is given.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> patterns = simulate_patterns(
    ...     mkdtemp(),
    ...     subjects=["01"],
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )["sub-01"]
    >>> patterns.values.shape, patterns.simulated
    ((8, 8), True)
    """
    if (n_per_roi is None) != (not len(select_on)):
        raise InputError(
            f"n_per_roi is {n_per_roi} and select_on names {len(select_on)} conditions; give both "
            "to choose voxels, or neither to keep all."
        )
    patterns = {}
    for name in subjects:
        label = f"sub-{str(name).removeprefix('sub-')}"
        subject = simulate_subject(
            Path(folder) / label,
            subject=label,
            conditions=conditions,
            features=features,
            mixing=mixing,
            seed=seed,
            voxels_per_roi=voxels_per_roi,
            n_runs=n_runs,
            sessions=sessions,
            options=options,
        )
        runs = read_runs(subject.bold, subject.events, subject.confounds)
        betas = estimate_betas(runs, subject.masks)
        if n_per_roi:
            betas = select_voxels(betas, conditions=select_on, n_per_roi=n_per_roi)
        patterns[label] = betas
    return patterns


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
    return betas @ _smoothing(truth.voxels, settings["smoothing_fwhm"]).T


# ------------------------------------------------------------------------------------- the planting


def _plant(
    subject: str,
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
    settings: Mapping[str, Any],
) -> SimulatedTruth:
    """Place the voxels of each region, draw their weights, and say what was planted in them."""
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
    profiles = profiles @ _smoothing(voxels, settings["smoothing_fwhm"]).T
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


def _smoothing(voxels: pd.DataFrame, fwhm: float) -> np.ndarray:
    """Build the Gaussian filter within regions: (n_voxels, n_voxels), rows sum to 1."""
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


def _grid(truth: SimulatedTruth) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return shape and affine of the simulated volumes: one empty voxel around everything."""
    last = truth.voxels[["i", "j", "k"]].max()
    i, j, k = (int(index) + 2 for index in last)
    shape = (i, j, k)
    sizes = [VOXEL_SIZE_MM] * 3
    affine = np.diag([*sizes, 1.0])
    center = (np.array(shape) - 1) / 2
    affine[:3, 3] = -VOXEL_SIZE_MM * center
    return shape, affine


# ---------------------------------------------------------------------------------------- the files


def _write_run(
    folder: Path, truth: SimulatedTruth, session: str, run: int
) -> tuple[Path, Path, Path]:
    """Write image, events and confounds of one run."""
    settings = truth.settings
    # a single session without label draws as before there were sessions
    name: tuple[Any, ...] = (session, run) if session else (run,)
    sessions = settings["sessions"]
    shown = [condition for condition in truth.conditions if sessions[condition] == session]
    n_blanks = round(settings["n_blanks"] * len(shown) / len(truth.conditions))
    trials = np.array([*shown, *[BLANK] * n_blanks], dtype=object)
    order = generator(settings["seed"], "order", truth.subject, *name).permutation(len(trials))
    step = settings["image_s"] + settings["gap_s"]
    columns = {
        "onset": settings["ends_s"] + np.arange(len(trials)) * step,
        "duration": float(settings["image_s"]),
        "trial_type": trials[order],
    }
    events = pd.DataFrame(columns)
    stops = events["onset"] + events["duration"]
    end = float(stops.max()) + settings["gap_s"] + settings["ends_s"]
    n_volumes = int(np.ceil(end / settings["t_r"]))
    # a slow random walk of the head: mm in the first three columns, radians in the others
    draws = generator(settings["seed"], "motion", truth.subject, *name)
    steps = draws.standard_normal((n_volumes, 6))
    step_sizes = np.array([0.03, 0.03, 0.03, 0.0005, 0.0005, 0.0005])
    motion = np.cumsum(steps, axis=0) * step_sizes
    n_spikes = min(int(settings["n_spikes"]), n_volumes)
    draws = generator(settings["seed"], "spikes", truth.subject, *name)
    jerks = draws.choice(n_volumes, n_spikes, replace=False)
    sudden = draws.standard_normal((n_spikes, 6))
    motion[jerks] += 20 * step_sizes * sudden
    confounds = pd.DataFrame(motion, columns=list(MOTION_COLUMNS))
    confounds = confounds.round(6)
    series = _series(truth, name, events, motion, jerks)
    shape, affine = _grid(truth)
    volume = np.zeros((*shape, n_volumes), dtype=np.float32)
    volume[truth.voxels["i"], truth.voxels["j"], truth.voxels["k"]] = series.T
    in_session = f"ses-{session}_" if session else ""
    start = f"sub-{truth.subject}_{in_session}task-images_run-{run}"
    return (
        save_image(folder / f"{start}_bold.nii", volume, affine, settings["t_r"]),
        write_table(folder / f"{start}_events.tsv", events),
        write_table(folder / f"{start}_confounds.tsv", confounds),
    )


def _series(
    truth: SimulatedTruth,
    name: tuple[Any, ...],
    events: pd.DataFrame,
    motion: np.ndarray,
    jerks: np.ndarray,
) -> np.ndarray:
    """Add up baseline, responses, drift, motion and noise: (n_volumes, n_voxels)."""
    from nilearn.glm.first_level import glover_hrf, make_first_level_design_matrix
    from scipy.signal import lfilter

    settings = truth.settings
    presented = events[events["trial_type"] != BLANK]
    # Numbered names, because nilearn makes names fit for formulas and sorts them.
    codes = {name: f"c{number:06d}" for number, name in enumerate(truth.conditions)}
    times = np.arange(len(motion)) * settings["t_r"]
    named = presented.assign(trial_type=presented["trial_type"].map(codes))
    is_shown = np.isin(list(codes), list(presented["trial_type"]))
    shown = np.flatnonzero(is_shown)
    # by how much the response of each voxel is late, in s
    delays = np.zeros(len(truth.voxels))
    if settings["hrf_delay_sd"]:
        draws = generator(settings["seed"], "delays", truth.subject)
        quarters = np.round(4 * draws.standard_normal(len(delays)))
        delays = np.clip(quarters / 4, -2, 2) * settings["hrf_delay_sd"]
    regressors = {}
    for delay in np.unique(delays):
        late = update_wrapper(partial(glover_hrf, onset=delay), glover_hrf)
        hrf = late if delay else "glover"
        design = make_first_level_design_matrix(times, named, hrf_model=hrf, drift_model=None)
        regressors[delay] = design.to_numpy()[:, : len(shown)]
    smoothing = _smoothing(truth.voxels, settings["smoothing_fwhm"])
    # three drifts, the slowest cosines of the run
    times = (np.arange(len(motion)) + 0.5) / len(motion)
    drifts = np.cos(np.pi * np.outer(times, [1, 2, 3]))
    ar1 = settings["noise_ar1"]
    parts = []
    for roi, rows in truth.voxels.groupby("roi", sort=False):
        draws = generator(settings["seed"], "noise", truth.subject, roi, *name)
        count = len(rows)
        levels = generator(settings["seed"], "baseline", truth.subject, roi)
        level = settings["baseline"] * levels.uniform(0.9, 1.1, count)
        percent = np.empty((len(motion), count))
        for delay, of_events in regressors.items():
            alike = np.flatnonzero(delays[rows.index] == delay)
            percent[:, alike] = of_events @ truth.betas[shown][:, rows.index[alike]]
        drift = drifts @ draws.standard_normal((3, count))
        slow = settings["drift_sd"] * _columns_unit(drift)
        coupled = motion @ draws.standard_normal((6, count))
        slow += settings["motion_sd"] * _columns_unit(coupled)
        white = draws.standard_normal((len(motion), count))
        # AR(1) noise of the variance of the white noise, stationary from the first row
        innovation = np.sqrt(1 - ar1**2) * white
        innovation[0] = white[0]
        noise = settings["noise_sd"] * lfilter([1.0], [1.0, -ar1], innovation, axis=0)
        if settings["smoothing_fwhm"]:
            near = smoothing[rows.index][:, rows.index]
            slow = slow @ near.T
            # the noise keeps its size: noise_sd is what is measured
            noise = (noise @ near.T) / np.linalg.norm(near, axis=1)
        percent += slow + noise
        if len(jerks):
            percent[jerks] += settings["spike_sd"] * draws.standard_normal((len(jerks), 1))
        parts.append(level * (1 + percent / 100))
    return np.concatenate(parts, axis=1)


def _columns_unit(values: np.ndarray) -> np.ndarray:
    centered = values - values.mean(axis=0)
    spread = centered.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    return centered / scale


def save_image(path: Path, values: np.ndarray, affine: np.ndarray, t_r: float | None) -> Path:
    """Write a simulated image, whose header says so.

    Parameters
    ----------
    path : Path
        Final file.
    values : ndarray, shape (i, j, k) or (i, j, k, n_volumes)
        The image.
    affine : ndarray, shape (4, 4)
        Its place.
    t_r : float or None
        Repetition time in seconds, for a series.

    Returns
    -------
    Path
        The file.
    """
    import nibabel

    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = DESCRIPTION.encode()
    if t_r is not None:
        axes = affine[:3, :3]
        sizes = np.linalg.norm(axes, axis=0)
        image.header.set_zooms((*sizes, t_r))
    with atomic_path(path) as part:
        nibabel.save(image, part)
    return path


# --------------------------------------------------------------------------------------- the checks


def _check_simulation(
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
) -> None:
    again = duplicates(conditions)
    if again:
        raise InputError(f"conditions given twice: {name_ids(again)}; give each once.")
    if len(conditions) < 2 or not mixing:
        raise InputError(
            f"{len(conditions)} condition(s) and {len(mixing)} region(s); give at least 2 and 1."
        )
    if BLANK in conditions:
        raise InputError(
            f"a condition is called '{BLANK}', the name of blank trials; give it another id."
        )
    for name, values in features.items():
        is_table = np.ndim(values) == 2 and len(values) == len(conditions)
        if not is_table or not np.isfinite(values).all():
            raise InputError(
                f"features '{name}' have the shape {np.shape(values)}; give finite numbers, one "
                f"row for each of the {len(conditions)} conditions."
            )
    for weights in mixing.values():
        for name in weights:
            if name not in features:
                raise unknown_name("feature space", name, features)


def _check_sessions(
    conditions: Sequence[str], sessions: Mapping[str, str] | None, session_sd: float
) -> dict[str, str]:
    """Return the session of each condition; '' for a single session without a label."""
    if sessions is None:
        if session_sd:
            raise InputError(
                f"session_sd is {session_sd} but no sessions were given; give sessions (condition "
                "-> label), or leave session_sd at 0."
            )
        return dict.fromkeys(map(str, conditions), "")
    given = {str(condition): str(label) for condition, label in sessions.items()}
    names = list(map(str, conditions))
    if lacking := [name for name in names if name not in given]:
        raise InputError(
            f"conditions without a session: {name_ids(lacking)}; give the session of each."
        )
    if unknown := [name for name in given if name not in set(names)]:
        raise InputError(
            f"sessions of what is no condition: {name_ids(unknown)}; leave them out, or add the "
            "conditions."
        )
    labels = dict.fromkeys(given.values())
    if wrong := [label for label in labels if not re.fullmatch("[A-Za-z0-9]+", label)]:
        raise InputError(f"sessions {name_ids(wrong)} are no BIDS labels; use letters and digits.")
    return {name: given[name] for name in names}
