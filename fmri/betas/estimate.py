"""Betas: a general linear model gives one response per presentation and voxel.

Each event has a regressor of its own.

Hemodynamic response, drifts and design matrix are those of nilearn, and so are the results of the
fit (`fmri.betas.least_squares`); here are the choices around them, the checks, and the way from
events to labeled `Patterns`.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from fmri.betas.derivatives import volume_places, write_map
from fmri.betas.joint_models import STATISTICS
from fmri.betas.least_squares import Fit, event_filters, least_squares_all, least_squares_separate
from fmri.betas.memory import MemoryPlan, RunSize, in_megabytes, parse_memory, plan_memory
from fmri.betas.session_models import SessionBetas, event_observations, fit_with_options
from fmri.betas.single_trials import UNITS_OF_ANALYSIS, SingleTrialOptions
from fmri.bids import volume_start
from fmri.bold import BoldRun, check_runs
from fmri.patterns import Patterns
from fmri.rois.regions import ROI_OPTIONS, Regions, read_regions, voxel_table
from fmri.series import open_series, read_places, read_stored
from fmri.tables import NO_TRIAL_TYPE, event_names
from fmri.unusable import (
    UNUSABLE,
    check_regions_left,
    dropped_voxels,
    finite_voxels,
    unusable_error,
)
from fmri.volumes import digest_image
from neurometamer.arguments import KeywordsOf, checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import digest, provenance
from neurometamer.resume import writes_into
from neurometamer.store import read_json, read_table, write_json, write_table

_LOG = logging.getLogger(__name__)

HRFS = ("glover", "spm")
NOISE_MODELS = ("ar1", "ols")
UNITS = ("percent", "raw", *STATISTICS)
IGNORED = ("blank", NO_TRIAL_TYPE)
"""Trial types that get no regressor by default: they are the baseline."""

_TOO_ALIKE = 0.998
_TOO_WEAK = 0.1
_HRF_S = 32.0
"""Length of nilearn's hemodynamic responses, s."""
_OVERSAMPLING = 50
"""Steps of a repetition time in which nilearn builds regressors."""
_SINGULAR = 1e-7
_MUCH_MEMORY = 10**9
"""Bytes above which the plan is noted."""


@checked
def estimate_betas(
    runs: Sequence[BoldRun],
    masks: Regions | Mapping[str, np.ndarray | str | os.PathLike[str]],
    *,
    hrf_model: str = "glover",
    high_pass: float = 0.01,
    noise_model: str = "ar1",
    estimator: str = "LSA",
    units: str = "percent",
    ignore: Sequence[str] = IGNORED,
    slice_time_ref: float | None = None,
    unusable: str = "refuse",
    max_memory: str = "",
    single_trials: SingleTrialOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Patterns:
    """Estimate one response per event and voxel, or one per condition and session.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs of one subject in order of acquisition; each is fitted on its own. Volumes,
        surfaces and CIFTI are treated alike.
    masks : Regions, or mapping of str to ndarray of bool, str or path-like
        From `read_regions`, or ROI name to mask, of the shape of the grid of the runs
        (`BoldRun.grid`): (i, j, k) for volumes, (n_places,) for surfaces, where the left hemisphere
        comes before the right. Files and definitions are read with `read_regions`.
    hrf_model : {"glover", "spm"}
        Hemodynamic response function of nilearn.
    high_pass : float
        Slowest cosine drift removed, in Hz. A run of T seconds gets about 2·T·high_pass drift
        regressors, unless its confounds hold fMRIPrep's cosines, which then are all.
        What the events do more slowly than this is removed with the drift: with blocks,
        keep 1 / high_pass well above the time from one block to the next of the same condition.
        Many drifts in a run filled with events multiply the noise of the betas; see `noise_gain`.
    noise_model : {"ar1", "ols"}
        First-order autoregressive noise (nilearn's ``run_glm``, coefficients in steps of 0.01) or
        white noise.
    estimator : {"LSA", "LSS"}
        Least squares *all*: one model with one regressor an event. Least squares *separate*: one
        model an event, with one regressor for the event and one for all others together.
    units : {"percent", "raw", "t", "z"}
        Percent signal change (100 × beta / mean of the voxel in its run), units of the image, or
        betas divided by their standard errors, as t or as the z of the same probability (LSA only).
        One unit is the plateau of the response to endless stimulation, as nilearn scales its
        regressors: the *peak* of the response to a 2-s event is 0.67 (``glover``) or 0.41 (``spm``)
        of its beta.
    ignore : sequence of str
        Trial types without a regressor. Events without a trial type are called ``"n/a"``.
    slice_time_ref : float, optional
        Time to which the volumes refer, as a share of the TR, in [0, 1]. By default what the JSON
        sidecars say: StartTime / TR, as in nilearn's ``first_level_from_bids``; the middle of
        SliceTiming where slices were not corrected; 0 where they say nothing.
    unusable : {"refuse", "drop"}
        What to do with voxels of a mask that have NaN, infinite or constant time courses in any
        run: an error that names the region, or drop them in all runs and list them in
        ``provenance["dropped"]``.
    max_memory : str
        Largest memory that the call may take, results included, such as ``"2GB"``; empty: half of
        the memory of this machine. Where not all voxels fit, images are read several times.
    single_trials : SingleTrialOptions, optional
        One beta a condition, a response for each voxel, noise regressors, ridge shrinkage. All runs
        are in memory at once with it. What was chosen and gained is in
        ``provenance["single_trials"]``.
    progress : callable, optional
        Called as ``progress(done, total)`` after each run.

    Returns
    -------
    Patterns
        One observation an event, in order of runs and onsets, with ``presentation`` counted over
        the runs and the further column ``onset`` (s). Values are float64. With
        ``single_trials.per="condition"`` one observation a condition and session; its ``run`` names
        all runs of the session.

    Raises
    ------
    InputError
        When runs and masks disagree, two images have the same contents, voxels are unusable, a
        design cannot be estimated, or options exclude each other.

    Warns
    -----
    UserWarning
        When masks share voxels or contradict their names, slice times are uncertain
        (`fmri.bids.volume_start`), events without onset or duration are treated as `event_design`
        says, or most voxels have responses at the ends of the library.

    Notes
    -----
    LSA and LSS are named as in Mumford et al. (2012); nilearn shows LSS as an example, with one
    regressor per other *condition* where here all other events share one.

    References
    ----------
    Mumford, Turner, Ashby & Poldrack (2012). Deconvolving BOLD activation in event-related designs
    for multivoxel pattern classification analyses. NeuroImage 59, 2636-2643.

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
    >>> from fmri import read_runs
    >>> runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    >>> patterns = estimate_betas(runs, simulated.masks)
    >>> patterns.values.shape, patterns.conditions
    ((8, 8), ('cup', 'hat', 'dog', 'cat'))
    """
    _check_choices(
        hrf_model=(hrf_model, HRFS),
        noise_model=(noise_model, NOISE_MODELS),
        estimator=(estimator, EVENT_MODELS),
        units=(units, UNITS),
        unusable=(unusable, UNUSABLE),
    )
    options = SingleTrialOptions() if single_trials is None else single_trials
    options.check_model(noise_model, estimator, units)
    check_runs(runs)
    contents = [digest_image(run.images) for run in runs]
    if same := set(duplicates(contents)):
        labels = [run.label for run, content in zip(runs, contents) if content in same]
        raise InputError(
            f"BOLD files with the same contents: {name_ids(labels)}; give each run its own file."
        )
    regions = masks
    if not isinstance(regions, Regions):
        regions = read_regions(regions, runs[0].grid, affine=runs[0].affine)
    voxels, union, position = voxel_table(regions.masks, runs[0].subject, regions.grid)
    # All designs first: a bad one is found before minutes of fitting.
    settings: dict[str, Any] = {
        "hrf_model": hrf_model,
        "high_pass": high_pass,
        "noise_model": noise_model,
        "estimator": estimator,
        "units": units,
        "ignore": list(ignore),
        "slice_time_ref": slice_time_ref,
        "unusable": unusable,
    }
    of_design = ("hrf_model", "high_pass", "ignore", "slice_time_ref")
    chosen = {name: settings[name] for name in of_design}
    tables = [event_design(run, per=options.per, **chosen) for run in runs]
    estimate = _estimate_each_run
    if single_trials is not None or units in STATISTICS:
        estimate = _estimate_together
    fit, broken = estimate(
        runs, tables, voxels, (union, position), options, settings, max_memory, progress
    )
    designs = [design for _, design in tables]
    record = _record(settings, runs, contents, designs, regions, voxels, broken)
    if fit.record:
        record["single_trials"] = dict(fit.record)
    shown = fit.observations.groupby("condition")
    observations = fit.observations
    observations.insert(1, "presentation", shown.cumcount() + 1)
    return Patterns(
        values=fit.values,
        observations=observations,
        voxels=voxels[broken == 0],
        provenance=record,
    )


def _estimate_each_run(
    runs: Sequence[BoldRun],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    voxels: pd.DataFrame,
    where: tuple[np.ndarray, np.ndarray],
    options: SingleTrialOptions,
    settings: Mapping[str, Any],
    max_memory: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[SessionBetas, np.ndarray]:
    """Fit run by run, as many voxels at once as memory allows; say which cannot be used, and why.

    `options` are those that change nothing.
    """
    union, position = where
    sizes, observations = [], []
    for run, (events, design) in zip(runs, tables, strict=True):
        observations.append(event_observations(run, events))
        size = RunSize(
            n_volumes=run.n_volumes,
            n_events=len(events),
            n_columns=design.shape[1],
            itemsize=open_series(run.images, run.affine).itemsize,
        )
        sizes.append(size)
    plan = plan_memory(sizes, int(union.sum()), len(position), max_memory)
    if max_memory or plan.n_passes > 1 or plan.n_bytes > _MUCH_MEMORY:
        _LOG.info("betas of %d run(s), %s", len(runs), plan)
    values = np.empty((sum(map(len, observations)), len(voxels)))
    broken = np.zeros(len(voxels), dtype=np.int64)
    first = 0
    for done, (run, (events, design)) in enumerate(zip(runs, tables, strict=True), start=1):
        of_run = values[first : first + len(events)]
        reasons = _fit_run(run, design.to_numpy(), where, plan, settings, of_run)[position]
        if reasons.any() and settings["unusable"] == "refuse":
            raise unusable_error(run.label, voxels, reasons)
        broken = np.where(reasons != 0, reasons, broken)
        first += len(events)
        if progress is not None:
            progress(done, len(runs))
    keep = broken == 0
    check_regions_left(f"sub-{runs[0].subject}", voxels, keep)
    if not keep.all():
        values = values[:, keep]
    joined = pd.concat(observations, ignore_index=True)
    return SessionBetas(values=values, observations=joined, record={}), broken


def _estimate_together(
    runs: Sequence[BoldRun],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    voxels: pd.DataFrame,
    where: tuple[np.ndarray, np.ndarray],
    options: SingleTrialOptions,
    settings: Mapping[str, Any],
    max_memory: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[SessionBetas, np.ndarray]:
    """Read all runs and fit them at once; say which voxels cannot be used, and why."""
    union, position = where
    n_volumes = sum(run.n_volumes for run in runs)
    # The time courses, and as much again while they are fitted.
    n_values = n_volumes * int(union.sum())
    needed = 2 * n_values * np.dtype(np.float64).itemsize
    if max_memory and needed > parse_memory(max_memory):
        raise InputError(
            f"max_memory (--max-memory) is {max_memory}, but options of single trials take all "
            f"runs at once, {in_megabytes(needed)}; give that, or fewer regions at a time."
        )
    series = []
    broken = np.zeros(len(voxels), dtype=np.int64)
    for run in runs:
        own = read_places(run.images, union)
        finite = np.isfinite(own).all(axis=0)
        constant = (own == own[0]).all(axis=0)
        faults = np.select([~finite, constant], [1, 2])
        reasons = faults[position]
        if reasons.any() and settings["unusable"] == "refuse":
            raise unusable_error(run.label, voxels, reasons)
        broken = np.where(reasons != 0, reasons, broken)
        series.append(own)
    keep = broken == 0
    check_regions_left(f"sub-{runs[0].subject}", voxels, keep)
    # a voxel of two regions is fitted once
    wanted, columns = np.unique(position[keep], return_inverse=True)
    n_read = series[0].shape[1]
    if len(wanted) < n_read:
        series = [own[:, wanted] for own in series]
    event_model = None
    if settings["units"] not in STATISTICS:
        event_model = EVENT_MODELS[settings["estimator"]]
    fit = fit_with_options(
        runs,
        series,
        tables,
        options,
        hrf_model=settings["hrf_model"],
        noise_model=settings["noise_model"],
        event_model=event_model,
        units=settings["units"],
        slice_time_ref=settings["slice_time_ref"],
    )
    if progress is not None:
        progress(len(runs), len(runs))
    return replace(fit, values=fit.values[:, columns]), broken


@checked
def event_design(
    run: BoldRun,
    *,
    hrf_model: str = "glover",
    high_pass: float = 0.01,
    ignore: Sequence[str] = IGNORED,
    slice_time_ref: float | None = None,
    per: str = "presentation",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the design of one run: one regressor an event, confounds, cosine drifts, intercept.

    Parameters
    ----------
    run : BoldRun
        The run.
    hrf_model, high_pass, ignore, slice_time_ref
        See `estimate_betas`.
    per : {"presentation", "condition"}
        One regressor an event, or one a condition, in order of first appearance.

    Returns
    -------
    events : pandas.DataFrame
        The events that have a regressor, sorted by onset.
    design : pandas.DataFrame
        One row a volume; the first columns are the events in the same order (``event_0001`` …),
        then the confounds (standardized, which changes no beta; constant ones left out), the drifts
        (none where the confounds hold fMRIPrep's cosines) and ``constant``.

    Raises
    ------
    InputError
        When no event is left, the columns are not linearly independent, two events cannot be told
        apart, an event comes too late to be seen, some events have a duration and others none, or
        there are more columns than volumes.

    Warns
    -----
    UserWarning
        When events are left out because they have no onset or were over before the first volume, or
        are taken as impulses because none has a duration.

    Notes
    -----
    Events may begin before the first volume (a negative onset): what of their response falls into
    the run is modeled. One whose response has fallen below a tenth of its peak by then gets no
    regressor.

    Examples
    --------
    >>> events = pd.DataFrame({"onset": [4.0, 20.0], "duration": 2.0, "trial_type": ["cat", "cup"]})
    >>> run = BoldRun(image=Path("sub-01_run-1_bold.nii"), n_volumes=30, t_r=2.0, events=events)
    >>> events, design = event_design(run)
    >>> list(design.columns)
    ['event_0001', 'event_0002', 'drift_1', 'constant']
    """
    _check_choices(hrf_model=(hrf_model, HRFS), per=(per, UNITS_OF_ANALYSIS))
    if not 0 <= high_pass < 0.5 / run.t_r:
        raise InputError(
            f"high_pass (--high-pass) is {high_pass}; give Hz from 0 to below {0.5 / run.t_r:g} "
            "(half of 1/TR)."
        )
    start = volume_start(run.slices, run.t_r, slice_time_ref)
    kept, peaks = _modeled_events(run, ignore, hrf_model, start)
    confounds = None
    if run.confounds is not None:
        # standardized under names of their own; constant ones are left out
        spread = run.confounds.std(ddof=0)
        largest = run.confounds.abs().max()
        varying = run.confounds.loc[:, spread > 1e-12 * largest]
        if not varying.empty:
            centered = varying - varying.mean()
            scaled = centered / varying.std(ddof=0)
            confounds = scaled.rename(columns=lambda name: f"confound_{name}")
    first_of = np.arange(len(kept))
    if per == "condition":
        first_of = np.flatnonzero(~kept["trial_type"].duplicated())
        peaks = np.zeros(len(first_of))
    volumes = np.arange(run.n_volumes)
    design = _regressors(
        volumes * run.t_r + start,
        kept,
        hrf_model,
        groups=kept["trial_type"] if per == "condition" else None,
        drift_model=None if run.drift_in_confounds else "cosine",
        high_pass=high_pass,
        add_regs=confounds,
    )
    _check_design(run, kept.iloc[first_of], design, peaks)
    return kept, design


def _modeled_events(
    run: BoldRun, ignore: Sequence[str], hrf_model: str, start: float
) -> tuple[pd.DataFrame, np.ndarray]:
    """Choose the events that get a regressor, in order of onset, and settle their durations.

    Also gives the peak that each response would reach in an endless run; 0 for events whose whole
    response lies in the run: nothing of them can be lost.
    """
    kept = run.events[~run.events["trial_type"].isin(list(ignore))]
    nowhere = kept["onset"].isna()
    if nowhere.any():
        warnings.warn(
            f"events without an onset (n/a) are left out: {name_ids(kept['trial_type'][nowhere])}.",
            stacklevel=3,
        )
        kept = kept[~nowhere]
    kept = kept.sort_values("onset", kind="stable").reset_index(drop=True)
    _check_some_left(run, kept, ignore)
    unknown = kept["duration"].isna()
    if unknown.all():
        warnings.warn(
            "no event has a duration (n/a); they are taken as impulses of 0 s, and percent of an "
            'impulse response has no meaning. Give durations, or units="raw" (--units raw).',
            stacklevel=3,
        )
        kept = kept.assign(duration=0.0)
    elif unknown.any():
        named = event_names(kept[unknown])
        raise InputError(
            f"{run.label}: some events have a duration and others none (n/a): {name_ids(named)}. "
            "Their betas would have different units; give durations, or ignore those trial types "
            "(ignore, --ignore)."
        )
    peaks = np.zeros(len(kept))
    ends = kept["onset"] + kept["duration"] + _HRF_S
    run_end = run.n_volumes * run.t_r
    cut = ((kept["onset"] < 0) | (ends > run_end)).to_numpy()
    if not cut.any():
        return kept, peaks
    before = max(0.0, -kept["onset"].min())
    n_before = int(np.ceil(before / run.t_r))
    n_after = int(np.ceil(_HRF_S / run.t_r))
    volumes = np.arange(-n_before, run.n_volumes + n_after)
    times = volumes * run.t_r + start
    regressors = _regressors(times, kept[cut], hrf_model, drift_model=None)
    responses = np.abs(regressors.to_numpy()[:, : cut.sum()])
    peaks[cut] = responses.max(axis=0)
    seen = np.zeros(len(kept))
    in_run = responses[n_before : n_before + run.n_volumes]
    seen[cut] = in_run.max(axis=0)
    is_early = (kept["onset"] < 0).to_numpy()
    over = is_early & (seen < _TOO_WEAK * peaks)
    if over.any():
        warnings.warn(
            "events whose response was over before the first volume: "
            f"{name_ids(event_names(kept[over]))}; they are left out.",
            stacklevel=3,
        )
    kept = kept[~over].reset_index(drop=True)
    _check_some_left(run, kept, ignore)
    return kept, peaks[~over]


def _check_some_left(run: BoldRun, kept: pd.DataFrame, ignore: Sequence[str]) -> None:
    if kept.empty:
        raise InputError(
            f"{run.label}: no event is left after ignoring {name_ids(ignore)}; leave the run out."
        )


def _regressors(
    times: np.ndarray,
    kept: pd.DataFrame,
    hrf_model: str,
    groups: pd.Series | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Build nilearn's design matrix with one regressor an event or group, named by its number.

    Regressors are those of nilearn's ``compute_regressor``: the response to a box is the difference
    of two running sums of the hemodynamic response, so that nothing is convolved.
    """
    from nilearn.glm import first_level

    onsets = kept["onset"].to_numpy(dtype=np.float64)
    durations = kept["duration"].to_numpy(dtype=np.float64)
    t_r = float(np.diff(times).min())
    earliest = float(onsets.min()) - times[0]
    begin = times.min() + min(-24.0, earliest)
    end = times.max() * (1 + 1 / (len(times) - 1))
    a_second = (len(times) - 1) / (times.max() - times.min())
    n_steps = a_second * (end - begin) * _OVERSAMPLING + 1
    n_steps = np.rint(n_steps)
    grid = np.linspace(begin, end, int(n_steps))
    last = len(grid) - 1
    starts = np.searchsorted(grid, onsets)
    starts = np.minimum(starts, last)
    stops = np.searchsorted(grid, onsets + durations)
    stops = np.minimum(stops, last)
    stops += (stops == starts) & (stops < last)  # impulses last one step
    response = getattr(first_level, f"{hrf_model}_hrf")
    kernel = response(t_r, _OVERSAMPLING)
    sums = np.concatenate([[0.0], np.cumsum(kernel)])
    after = np.searchsorted(grid, times)
    after = np.clip(after, 1, last)
    values = []
    before = after - 1
    for places in (before, after):
        here = places[:, None] + 1
        since_start = np.clip(here - starts, 0, len(kernel))
        since_stop = np.clip(here - stops, 0, len(kernel))
        values.append(sums[since_start] - sums[since_stop])
    steps = grid[after] - grid[before]
    share = (times - grid[before]) / steps
    rise = values[1] - values[0]
    responses = values[0] + share[:, None] * rise
    rows = np.arange(len(kept))
    numbers = rows if groups is None else pd.factorize(groups)[0]
    n_columns = numbers.max() + 1
    together = np.zeros((len(kept), n_columns))
    together[rows, numbers] = 1
    responses = responses @ together
    names = [f"event_{number + 1:04d}" for number in range(n_columns)]
    with warnings.catch_warnings():
        # A singular design is refused later, with the events named.
        warnings.filterwarnings("ignore", message="Matrix is singular at working precision.*")
        warnings.filterwarnings("ignore", message="divide by zero encountered.*")
        rest = first_level.make_first_level_design_matrix(times, **options)
    events = pd.DataFrame(responses, columns=names, index=rest.index)
    return pd.concat([events, rest], axis=1)


@checked
def noise_gain(design: pd.DataFrame) -> float:
    """Measure how strongly a design passes the noise of the images on to its betas.

    Parameters
    ----------
    design : pandas.DataFrame
        From `event_design`.

    Returns
    -------
    float
        Median over events of the standard deviation of a beta (least squares all) for white noise
        of standard deviation 1: the root of the diagonal of (XᵀX)⁻¹. Between 1 and 2 for
        well-spaced 2-s events at a TR of 2 s; above about 3, add rest between the events or lower
        ``high_pass``.

    Examples
    --------
    >>> events = pd.DataFrame({"onset": [4.0, 20.0], "duration": 2.0, "trial_type": ["cat", "cup"]})
    >>> run = BoldRun(image=Path("sub-01_run-1_bold.nii"), n_volumes=30, t_r=2.0, events=events)
    >>> gain = noise_gain(event_design(run)[1])
    >>> 1 < gain < 3
    True
    """
    n_events = int(design.columns.astype(str).str.startswith("event_").sum())
    if not n_events:
        raise InputError(
            f"the design has no column event_…, but {name_ids(design.columns)}; give the second "
            "table of event_design."
        )
    gains = np.linalg.norm(event_filters(design.to_numpy(), n_events), axis=1)
    return float(np.median(gains))


@writes_into("folder")
@checked
def write_betas(patterns: Patterns, folder: str | os.PathLike[str]) -> Path:
    """Write betas as a 4-D NIfTI image with one volume per observation.

    The observation table and the provenance are written beside it.

    Parameters
    ----------
    patterns : Patterns
        From `estimate_betas` (the provenance holds the voxel grid).
    folder : path-like
        Folder that gets ``betas.nii.gz`` (float32; NaN where nothing was estimated, so that a mask
        that reaches beyond the estimated voxels is noticed), ``betas.tsv`` (row n describes volume
        n) and ``betas.json``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the patterns do not come from a volume, or two regions disagree about a voxel.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_patterns
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
    >>> folder = write_betas(patterns, Path(mkdtemp()) / "betas")
    >>> sorted(path.name for path in folder.iterdir())
    ['betas.json', 'betas.nii.gz', 'betas.tsv']
    """
    places, columns, grid = volume_places(patterns)
    target = Path(folder)
    write_map(target / "betas.nii.gz", patterns.values[:, columns], places, grid)
    write_table(target / "betas.tsv", patterns.observations)
    record = {"subject": patterns.subject, "provenance": dict(patterns.provenance)}
    write_json(target / "betas.json", record)
    return target


@checked
def read_betas(
    folder: str | os.PathLike[str],
    masks: Mapping[str, str | os.PathLike[str]],
    *,
    unusable: str = "refuse",
    affine: str = "agree",
    **options: Annotated[Any, KeywordsOf("fmri.rois.regions:read_regions", ROI_OPTIONS)],
) -> Patterns:
    """Read betas written by `write_betas` and cut regions out of them.

    Parameters
    ----------
    folder : path-like
        With ``betas.nii.gz``, ``betas.tsv`` and ``betas.json``.
    masks : mapping of str to str or path-like
        ROI name to its file or definition, as for `read_regions`.
    unusable : {"refuse", "drop"}
        What to do with voxels of a mask for which nothing was estimated.
    affine : {"agree", "sform", "qform"}
        Transform of the masks, see `fmri.volumes.image_affine`.
    **options : object
        Options of `read_regions`: resample, space, brain_mask, only.

    Returns
    -------
    Patterns
        Values are float32, exactly those written.

    Raises
    ------
    InputError
        When a file is missing, table and image disagree, a mask lies on another grid, or a mask
        reaches beyond the estimated voxels and `unusable` is ``"refuse"``.

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
    >>> from fmri import read_runs
    >>> runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    >>> folder = write_betas(estimate_betas(runs, simulated.masks), Path(mkdtemp()) / "betas")
    >>> read_betas(folder, simulated.masks).values.shape
    (8, 8)
    """
    _check_choices(unusable=(unusable, UNUSABLE))
    image = Path(folder) / "betas.nii.gz"
    if not Path(folder).is_dir():
        what = "is a file" if Path(folder).exists() else "does not exist"
        raise InputError(
            f"{folder} {what}; betas (--betas) are a folder that 'neurometamer fmri betas' has "
            "written."
        )
    if not (Path(folder) / "betas.json").exists():
        raise InputError(
            f"{folder} holds no betas: there is no betas.json. Betas (--betas) are a folder that "
            "'neurometamer fmri betas' has written (betas.nii.gz, betas.tsv, betas.json), the root "
            "of BIDS derivatives with single-trial maps, or a file or folder of another program."
        )
    record = read_json(Path(folder) / "betas.json")
    if not isinstance(record, Mapping) or not {"subject", "provenance"} <= set(record):
        raise InputError(
            f"{Path(folder) / 'betas.json'} was not written by write_betas; estimate the betas "
            "again."
        )
    observations = read_table(Path(folder) / "betas.tsv", ("condition", "presentation", "run"))
    # pandas reads an empty session as a missing value.
    sessions = observations["session"]
    observations["session"] = sessions.astype(object).where(sessions.notna(), "")
    regions = read_regions(masks, image, affine=affine, **options)
    voxels, union, position = voxel_table(regions.masks, str(record["subject"]), regions.grid)
    series = read_places([image], union)
    values = series.astype(np.float32)
    if len(values) != len(observations):
        raise InputError(
            f"{image} has {len(values)} volumes but betas.tsv has {len(observations)} rows; "
            "estimate the betas again."
        )
    values = values[:, position]
    keep = finite_voxels(str(folder), values, voxels, unusable)
    return Patterns(
        values=values[:, keep],
        observations=observations,
        voxels=voxels[keep],
        provenance={**record["provenance"], "masks": regions.record()},
    )


# ---------------------------------------------------------------------------------------- the model


def _fit_run(
    run: BoldRun,
    design: np.ndarray,
    where: tuple[np.ndarray, np.ndarray],
    plan: MemoryPlan,
    settings: Mapping[str, Any],
    betas: np.ndarray,
) -> np.ndarray:
    """Fill in betas (n_events, n_rows) of one run, and say which of the voxels cannot be used.

    Those get no betas; where they are refused, no voxel gets any.
    """
    union, position = where
    units, unusable = settings["units"], settings["unusable"]
    fit = EVENT_MODELS[settings["estimator"]](design, len(betas), settings["noise_model"])
    places = np.flatnonzero(union)
    reasons = np.zeros(len(places), dtype=np.int64)
    means = np.ones(len(places))
    for begin in range(0, len(places), plan.n_read):
        end = min(begin + plan.n_read, len(places))
        mask = np.zeros_like(union)
        mask.flat[places[begin:end]] = True
        stored = read_stored(run.images, mask)
        slabs = []
        for first in range(begin, end, plan.n_fitted):
            slabs.append(slice(first, min(first + plan.n_fitted, end)))
        for slab in slabs:
            series = stored.scaled(slice(slab.start - begin, slab.stop - begin))
            finite = np.isfinite(series).all(axis=0)
            constant = (series == series[0]).all(axis=0)
            reasons[slab] = np.select([~finite, constant], [1, 2])
            means[slab] = series.mean(axis=0)
        is_refused = unusable == "refuse" and reasons.any()
        if is_refused or _n_low(means, reasons, units):
            continue
        for slab in slabs:
            usable = reasons[slab] == 0
            series = stored.scaled(slice(slab.start - begin, slab.stop - begin))
            fitted = np.full((len(betas), len(usable)), np.nan)
            if usable.any():
                fitted[:, usable] = fit(series if usable.all() else series[:, usable])
            if units == "percent":
                fitted *= 100 / np.where(usable, means[slab], 1.0)
            rows = np.flatnonzero((position >= slab.start) & (position < slab.stop))
            betas[:, rows] = fitted[:, position[rows] - slab.start]
    n_low = _n_low(means, reasons, units)
    if n_low and not (unusable == "refuse" and reasons.any()):
        raise InputError(
            f"{run.label}: {n_low} voxel(s) of the masks have a mean ≤ 0, so "
            "percent signal change has no meaning; give images that keep their mean, or "
            'units="raw" (--units raw).'
        )
    return reasons


def _n_low(means: np.ndarray, reasons: np.ndarray, units: str) -> int:
    """Count usable voxels whose mean allows no percent signal change."""
    if units != "percent":
        return 0
    is_low = (means <= 0) & (reasons == 0)
    return int(is_low.sum())


EVENT_MODELS: dict[str, Callable[[np.ndarray, int, str], Fit]] = {
    "LSA": least_squares_all,
    "LSS": least_squares_separate,
}
"""How events become regressors; the keys are the choices of `estimate_betas`."""


# --------------------------------------------------------------------------------------- the checks


def _check_choices(**choices: tuple[str, Any]) -> None:
    for kind, (name, known) in choices.items():
        if name not in known:
            raise unknown_name(kind, name, known)


def _check_design(run: BoldRun, kept: pd.DataFrame, design: pd.DataFrame, full: np.ndarray) -> None:
    """Refuse designs that cannot be estimated.

    `full` is the peak that the response to each event would reach in an endless run.
    """
    events = design.to_numpy()[:, : len(kept)]
    names = event_names(kept)
    if len(design.columns) >= len(design):
        raise InputError(
            f"{run.label}: the design has {len(design.columns)} columns ({len(kept)} events) for "
            f"{len(design)} volumes; use fewer confounds (columns, --columns), a lower high_pass "
            "(--high-pass), or longer runs."
        )
    peaks = np.abs(events).max(axis=0)
    least = _TOO_WEAK * full
    weak = peaks < least
    if weak.any():
        late = event_names(kept[weak])
        raise InputError(
            f"{run.label}: the run ends before the response to {name_ids(late)}; drop these events "
            "(ignore, --ignore) or give the whole run."
        )
    lengths = np.linalg.norm(events, axis=0)
    products = events.T @ events
    cosines = products / np.outer(lengths, lengths)
    alike = np.triu(cosines, 1) > _TOO_ALIKE
    if alike.any():
        pairs = []
        for first, second in np.argwhere(alike):
            pairs.append(f"{names[first]} and {names[second]}")
        raise InputError(
            f"{run.label}: events too close in time to be told apart: {name_ids(pairs)}; remove "
            "repeated rows, or give events that belong together one row."
        )
    # of columns that depend on each other, all that take part are named
    values = design.to_numpy()
    scaled = values / np.linalg.norm(values, axis=0)
    _, sizes, directions = np.linalg.svd(scaled, full_matrices=False)
    if sizes[-1] <= _SINGULAR * sizes[0]:
        labels = np.array([*names, *design.columns[len(names) :]], dtype=object)
        takes_part = np.abs(directions[-1]) > 0.05
        involved = labels[takes_part]
        raise InputError(
            f"{run.label}: columns of the design depend on each other: {name_ids(involved)}; leave "
            "out confounds that repeat others (drifts and intercept are already in the design), or "
            "overlapping events."
        )


# --------------------------------------------------------------------------------- tables and files


def _record(
    settings: Mapping[str, Any],
    runs: Sequence[BoldRun],
    contents: Sequence[str],
    designs: Sequence[pd.DataFrame],
    regions: Regions,
    voxels: pd.DataFrame,
    broken: np.ndarray,
) -> dict[str, Any]:
    """Write down what went into betas: settings, runs, masks, grid, and dropped voxels."""
    of_runs = []
    for run, image_digest, design in zip(runs, contents, designs, strict=True):
        confounds: list[str] = []
        if run.confounds is not None:
            confounds = [str(name) for name in run.confounds.columns]
        of_run = {
            "image": run.label,
            "image_digest": image_digest,
            "events_digest": digest(run.events),
            "confounds": confounds,
            "confounds_digest": None if run.confounds is None else digest(run.confounds),
            "drift": "confounds" if run.drift_in_confounds else "cosine",
            "run": run.run,
            "session": run.session,
            "n_volumes": run.n_volumes,
            "t_r": run.t_r,
            "start_s": run.slices.start_s,
            "sidecars": [path.name for path in run.sidecars],
            "affine": run.affine,
            "noise_gain": round(noise_gain(design), 6),
        }
        of_runs.append(of_run)
    record = provenance(
        settings,
        step="estimate_betas",
        runs=of_runs,
        masks=regions.record(),
        grid=regions.grid.record(),
        dropped=dropped_voxels(voxels, broken),
    )
    if any(run.simulated for run in runs):
        record["simulated"] = True
    return record
