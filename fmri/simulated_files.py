"""The files of a simulated cortex: images, events and confounds of runs, and masks."""

from __future__ import annotations

from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.planting import VOXEL_SIZE_MM, SimulatedTruth, smoothing_filter
from fmri.tables import MOTION_COLUMNS
from fmri.volumes import SIMULATED
from neurometamer.provenance import generator
from neurometamer.store import atomic_path, file_name, write_table

BLANK = "blank"
"""Trial type of the trials without an image."""

DESCRIPTION = f"{SIMULATED}: no brain"
"""In the header of every image (``descrip``), so that what is made from it can tell."""


def write_masks(folder: Path, truth: SimulatedTruth) -> dict[str, Path]:
    """Write a mask of each region.

    Parameters
    ----------
    folder : Path
        Folder that gets ``sub-XX_roi-NAME_mask.nii``.
    truth : SimulatedTruth
        With the voxels of the regions.

    Returns
    -------
    dict of str to Path
        ROI to file.
    """
    shape, affine = _volume_grid(truth)
    masks = {}
    for roi, rows in truth.voxels.groupby("roi", sort=False):
        mask = np.zeros(shape, dtype=np.uint8)
        mask[rows["i"], rows["j"], rows["k"]] = 1
        mask_name = file_name(f"sub-{truth.subject}_roi-{roi}_mask.nii")
        masks[str(roi)] = save_image(folder / mask_name, mask, affine, None)
    return masks


def _volume_grid(truth: SimulatedTruth) -> tuple[tuple[int, int, int], np.ndarray]:
    """Return shape and affine of the simulated volumes: one empty voxel around everything."""
    last = truth.voxels[["i", "j", "k"]].max()
    i, j, k = (int(index) + 2 for index in last)
    shape = (i, j, k)
    sizes = [VOXEL_SIZE_MM] * 3
    affine = np.diag([*sizes, 1.0])
    center = (np.array(shape) - 1) / 2
    affine[:3, 3] = -VOXEL_SIZE_MM * center
    return shape, affine


def write_run(
    folder: Path, truth: SimulatedTruth, session: str, run: int
) -> tuple[Path, Path, Path]:
    """Write image, events and confounds of one run.

    Parameters
    ----------
    folder : Path
        Folder that gets the files.
    truth : SimulatedTruth
        What is planted.
    session : str
        Label of the session; empty for a single session without one.
    run : int
        Number of the run, from 1.

    Returns
    -------
    tuple of Path
        Image, events and confounds.
    """
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
    shape, affine = _volume_grid(truth)
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
    smoothing = smoothing_filter(truth.voxels, settings["smoothing_fwhm"])
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
