"""A simulated cortex with known truth: the files that a scanner and its preprocessing leave.

The truth is what was planted.

It knows features (one row a condition), not where they come from. What is simulated is a
caricature: one hemodynamic response for all voxels, linear summation, no spatial smoothness.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas import estimate_betas
from fmri.bold import SIMULATED, read_runs
from fmri.patterns import VOXEL_COLUMNS, Patterns
from fmri.reliability import select_voxels
from fmri.tables import MOTION_COLUMNS
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, duplicates, name_ids, need_columns, unknown_name
from neurometamer.provenance import generator
from neurometamer.store import (
    atomic_path,
    file_name,
    read_hdf5_array,
    read_hdf5_attributes,
    read_hdf5_table,
    write_hdf5,
    write_table,
)
from neurometamer.summaries import short_repr

VOXEL_SIZE_MM = 2.0
BLANK = "blank"
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

    def __post_init__(self) -> None:
        check_fields(self)
        if self.betas.shape != (len(self.conditions), len(self.voxels)):
            raise InputError(
                f"planted betas have the shape {self.betas.shape} for {len(self.conditions)} "
                f"conditions and {len(self.voxels)} voxels."
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
    responding: float = 0.6,
    n_runs: int = 4,
    t_r: float = 2.0,
    image_s: float = 2.0,
    gap_s: float = 2.0,
    ends_s: float = 20.0,
    n_blanks: int | None = None,
    sessions: Mapping[str, str] | None = None,
    session_sd: float = 0.0,
    response_sd: float = 3.0,
    response_mean: float = 3.0,
    noise_sd: float = 0.7,
    noise_ar1: float = 0.3,
    drift_sd: float = 1.0,
    motion_sd: float = 0.5,
    baseline: float = 1000.0,
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
    responding : float
        Share of the voxels of a region that respond at all, in (0, 1].
    n_runs : int
        Runs, of each session; each shows every condition (of its session) once, in an order of its
        own.
    t_r, image_s, gap_s, ends_s : float
        Seconds: repetition time, image, blank after it, rest at both ends of a run (Zhang et al.,
        2021: 2, 2, 2, 20).
    n_blanks : int, optional
        Blank trials per run, at random places; by default a fifth of the conditions (with
        `sessions` each has its share of them). Zhang et al. (2021) had 9 in 129 trials, but pooled
        five runs into one beta; with one beta an event and back-to-back trials, fewer blanks let
        drifts and events explain each other and multiply the noise of the betas (54 conditions,
        0.01 Hz: by about 5 with 4 blanks, 2 with 8, 26 with none).
    sessions : mapping of str to str, optional
        Condition → label of the session whose runs show it; a single session without label when not
        given.
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
    numbers = {
        "voxels_per_roi": voxels_per_roi,
        "responding": responding,
        "n_runs": n_runs,
        "t_r": t_r,
        "image_s": image_s,
        "gap_s": gap_s,
        "ends_s": ends_s,
        "response_sd": response_sd,
        "response_mean": response_mean,
        "noise_sd": noise_sd,
        "noise_ar1": noise_ar1,
        "drift_sd": drift_sd,
        "motion_sd": motion_sd,
        "baseline": baseline,
        "session_sd": session_sd,
        "n_blanks": round(0.2 * len(conditions)) if n_blanks is None else n_blanks,
    }
    _check_numbers(numbers)
    shown_in = _check_sessions(conditions, sessions, session_sd)
    settings = {"seed": seed, **numbers, "sessions": shown_in}
    voxels = _place_voxels(label, list(mixing), voxels_per_roi)
    betas, responds = _plant(label, conditions, features, mixing, settings)
    truth = SimulatedTruth(
        subject=label,
        conditions=tuple(map(str, conditions)),
        betas=betas,
        voxels=voxels.assign(responds=responds),
        mixing={roi: dict(weights) for roi, weights in mixing.items()},
        settings=settings,
    )
    target = Path(folder)
    masks = _write_masks(target, truth)
    runs = [
        _write_run(target, truth, session, run)
        for session in dict.fromkeys(shown_in.values())
        for run in range(1, n_runs + 1)
    ]
    bold, events, confounds = zip(*runs, strict=True)
    return SimulatedSubject(
        subject=label,
        bold=bold,
        events=events,
        confounds=confounds,
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
    **settings: Any,
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
    **settings : object
        Passed on to `simulate_subject`: voxels_per_roi, n_runs, noise_sd, sessions, …

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
            **settings,
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
    return write_hdf5(
        path,
        arrays={"betas": truth.betas},
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
    return SimulatedTruth(
        subject=attributes.get("subject", ""),
        conditions=tuple(read_hdf5_table(path, "conditions")["condition"]),
        betas=read_hdf5_array(path, "betas"),
        voxels=read_hdf5_table(path, "voxels"),
        mixing=attributes.get("mixing", {}),
        settings=attributes.get("settings", {}),
    )


# ------------------------------------------------------------------------------------- the planting


def _plant(
    subject: str,
    conditions: Sequence[str],
    features: Mapping[str, np.ndarray],
    mixing: Mapping[str, Mapping[str, float]],
    settings: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the weights of each voxel, and return its betas and whether it responds.

    The betas have the shape (n_conditions, n_voxels).
    """
    seed, shown_in = settings["seed"], settings["sessions"]
    spaces = {
        name: _z_scored(np.asarray(values, dtype=np.float64)) for name, values in features.items()
    }
    count = int(settings["voxels_per_roi"])
    n_responding = max(1, round(settings["responding"] * count))
    betas = np.zeros((len(conditions), count * len(mixing)))
    responds = np.zeros(count * len(mixing), dtype=bool)
    for position, (roi, weights) in enumerate(mixing.items()):
        order = generator(seed, "responding", subject, roi).permutation(count)
        for voxel in map(int, order[:n_responding]):
            draws = generator(seed, "voxel", subject, roi, voxel)
            column = position * count + voxel
            responds[column] = True
            # Every space draws, also at weight 0: changing one weight leaves the other spaces'
            # numbers alone.
            parts = {}
            for name in sorted(spaces):
                part = spaces[name] @ draws.standard_normal(spaces[name].shape[1])
                spread = part.std()
                parts[name] = part / spread if spread > 0 else part
            profile = np.zeros(len(conditions))
            for name, weight in weights.items():
                profile = profile + weight * parts[name]
            betas[:, column] = settings["response_mean"] + settings["response_sd"] * profile
            if settings["session_sd"]:
                # what the session of each condition adds in this voxel, at unit standard deviation
                offsets = {}
                for session in dict.fromkeys(shown_in.values()):
                    draws = generator(seed, "session", subject, roi, voxel, session)
                    offsets[session] = draws.standard_normal()
                added = np.array([offsets[shown_in[str(condition)]] for condition in conditions])
                betas[:, column] += settings["session_sd"] * added
    return betas, responds


def _z_scored(values: np.ndarray) -> np.ndarray:
    """Center and scale each feature over conditions; features that do not vary become 0."""
    centered = values - values.mean(axis=0)
    spread = centered.std(axis=0)
    return np.where(spread > 0, centered / np.where(spread > 0, spread, 1), 0.0)


def _place_voxels(subject: str, rois: Sequence[str], count: int) -> pd.DataFrame:
    """Give each region two slices of its own, voxels side by side, in C order of the volume."""
    side = int(np.ceil(np.sqrt(count / 2)))
    tables = []
    for position, roi in enumerate(rois):
        index = np.sort(np.arange(side * side * 2).reshape(side, side, 2).ravel()[:count])
        i, j, k = np.unravel_index(index, (side, side, 2))
        tables.append(
            pd.DataFrame(
                {"subject": subject, "roi": roi, "i": i + 1, "j": j + 1, "k": k + 1 + 3 * position}
            )
        )
    return pd.concat(tables, ignore_index=True)


def _grid(truth: SimulatedTruth) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return shape and affine of the simulated volumes: one empty voxel around everything."""
    shape = tuple(int(truth.voxels[axis].max()) + 2 for axis in "ijk")
    affine = np.diag([VOXEL_SIZE_MM] * 3 + [1.0])
    affine[:3, 3] = -VOXEL_SIZE_MM * (np.array(shape) - 1) / 2
    return (shape[0], shape[1], shape[2]), affine


# ---------------------------------------------------------------------------------------- the files


def _write_masks(folder: Path, truth: SimulatedTruth) -> dict[str, Path]:
    shape, affine = _grid(truth)
    paths = {}
    for roi, rows in truth.voxels.groupby("roi", sort=False):
        mask = np.zeros(shape, dtype=np.uint8)
        mask[rows["i"], rows["j"], rows["k"]] = 1
        name = file_name(f"sub-{truth.subject}_roi-{roi}_mask.nii")
        paths[str(roi)] = _save_image(folder / name, mask, affine, None)
    return paths


def _write_run(
    folder: Path, truth: SimulatedTruth, session: str, run: int
) -> tuple[Path, Path, Path]:
    """Write image, events and confounds of one run."""
    shape, affine = _grid(truth)
    # a single session without label draws as before there were sessions
    name: tuple[Any, ...] = (session, run) if session else (run,)
    events = _schedule(truth, session, name)
    settings = truth.settings
    last_image = float((events["onset"] + events["duration"]).max())
    end = last_image + settings["gap_s"] + settings["ends_s"]
    n_volumes = int(np.ceil(end / settings["t_r"]))
    # a slow random walk of the head: mm in the first three columns, radians in the others
    draws = generator(settings["seed"], "motion", truth.subject, *name)
    steps = draws.standard_normal((n_volumes, 6))
    motion = np.cumsum(steps, axis=0) * np.array([0.03, 0.03, 0.03, 0.0005, 0.0005, 0.0005])
    series = _series(truth, name, events, motion)
    volume = np.zeros((*shape, n_volumes), dtype=np.float32)
    volume[truth.voxels["i"], truth.voxels["j"], truth.voxels["k"]] = series.T
    in_session = f"ses-{session}_" if session else ""
    start = f"sub-{truth.subject}_{in_session}task-images_run-{run}"
    confounds = pd.DataFrame(motion, columns=list(MOTION_COLUMNS)).round(6)
    return (
        _save_image(folder / f"{start}_bold.nii", volume, affine, settings["t_r"]),
        write_table(folder / f"{start}_events.tsv", events),
        write_table(folder / f"{start}_confounds.tsv", confounds),
    )


def _schedule(truth: SimulatedTruth, session: str, name: tuple[Any, ...]) -> pd.DataFrame:
    settings = truth.settings
    sessions = settings["sessions"]
    shown = [condition for condition in truth.conditions if sessions[condition] == session]
    n_blanks = round(settings["n_blanks"] * len(shown) / len(truth.conditions))
    trials = np.array([*shown, *[BLANK] * n_blanks], dtype=object)
    order = generator(settings["seed"], "order", truth.subject, *name).permutation(len(trials))
    onsets = settings["ends_s"] + np.arange(len(trials)) * (settings["image_s"] + settings["gap_s"])
    return pd.DataFrame(
        {"onset": onsets, "duration": float(settings["image_s"]), "trial_type": trials[order]}
    )


def _series(
    truth: SimulatedTruth, name: tuple[Any, ...], events: pd.DataFrame, motion: np.ndarray
) -> np.ndarray:
    """Add up baseline, responses, drift, motion and noise: (n_volumes, n_voxels)."""
    settings = truth.settings
    parts = []
    regressors, shown = _regressors(truth, events, len(motion))
    # three drifts, the slowest cosines of the run
    times = (np.arange(len(motion)) + 0.5) / len(motion)
    drifts = np.cos(np.pi * np.outer(times, [1, 2, 3]))
    for roi, rows in truth.voxels.groupby("roi", sort=False):
        draws = generator(settings["seed"], "noise", truth.subject, roi, *name)
        count = len(rows)
        levels = generator(settings["seed"], "baseline", truth.subject, roi)
        level = settings["baseline"] * levels.uniform(0.9, 1.1, count)
        percent = regressors @ truth.betas[shown][:, rows.index]
        drift = drifts @ draws.standard_normal((3, count))
        percent += settings["drift_sd"] * _columns_unit(drift)
        coupled = motion @ draws.standard_normal((6, count))
        percent += settings["motion_sd"] * _columns_unit(coupled)
        white = draws.standard_normal((len(motion), count))
        percent += settings["noise_sd"] * _ar1(white, settings["noise_ar1"])
        parts.append(level * (1 + percent / 100))
    return np.concatenate(parts, axis=1)


def _regressors(
    truth: SimulatedTruth, events: pd.DataFrame, n_volumes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Convolve events with nilearn's Glover response: (n_volumes, n_shown).

    Return also which conditions were shown.
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    shown = events[events["trial_type"] != BLANK]
    # Numbered names, because nilearn makes names fit for formulas and sorts them.
    codes = {name: f"c{number:06d}" for number, name in enumerate(truth.conditions)}
    design = make_first_level_design_matrix(
        np.arange(n_volumes) * truth.settings["t_r"],
        shown.assign(trial_type=shown["trial_type"].map(codes)),
        hrf_model="glover",
        drift_model=None,
    )
    is_shown = np.isin(list(codes), list(shown["trial_type"]))
    positions = np.flatnonzero(is_shown)
    return design[np.array(list(codes.values()))[positions]].to_numpy(), positions


def _columns_unit(values: np.ndarray) -> np.ndarray:
    centered = values - values.mean(axis=0)
    spread = centered.std(axis=0)
    return centered / np.where(spread > 0, spread, 1)


def _ar1(white: np.ndarray, coefficient: float) -> np.ndarray:
    """Turn white noise (rows = time) into AR(1) noise of the same variance.

    The noise is stationary from the first row.
    """
    from scipy.signal import lfilter

    innovation = np.sqrt(1 - coefficient**2) * white
    innovation[0] = white[0]
    return lfilter([1.0], [1.0, -coefficient], innovation, axis=0)


def _save_image(path: Path, values: np.ndarray, affine: np.ndarray, t_r: float | None) -> Path:
    import nibabel

    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = DESCRIPTION.encode()
    if t_r is not None:
        image.header.set_zooms((*[VOXEL_SIZE_MM] * 3, t_r))
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
        if np.ndim(values) != 2 or len(values) != len(conditions) or not np.isfinite(values).all():
            raise InputError(
                f"features '{name}' have the shape {np.shape(values)}; give finite numbers, one "
                f"row for each of the {len(conditions)} conditions."
            )
    for name in (name for weights in mixing.values() for name in weights):
        if name not in features:
            raise unknown_name("feature space", name, features)


def _check_sessions(
    conditions: Sequence[str], sessions: Mapping[str, str] | None, session_sd: float
) -> dict[str, str]:
    """Return the session of each condition; '' for a single session without a label."""
    if sessions is None:
        if session_sd:
            raise InputError(
                f"session_sd is {session_sd} but no sessions were given (condition -> session)."
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


def _check_numbers(numbers: Mapping[str, float]) -> None:
    at_least = {
        "voxels_per_roi": 1,
        "n_runs": 1,
        "n_blanks": 0,
        "gap_s": 0,
        "ends_s": 0,
        "response_sd": 0,
        "noise_sd": 0,
        "noise_ar1": 0,
        "drift_sd": 0,
        "motion_sd": 0,
        "session_sd": 0,
    }
    for name, low in at_least.items():
        if not numbers[name] >= low:
            raise InputError(f"{name} is {numbers[name]}; give at least {low}.")
    for name in ("t_r", "image_s", "baseline", "responding"):
        if not numbers[name] > 0:
            raise InputError(f"{name} is {numbers[name]}; give a positive number.")
    for name in ("responding", "noise_ar1"):
        if numbers[name] > 1 or (name == "noise_ar1" and numbers[name] == 1):
            raise InputError(
                f"{name} is {numbers[name]}; give a number "
                f"{'up to' if name == 'responding' else 'below'} 1."
            )
