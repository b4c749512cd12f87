"""Betas: a general linear model gives one response per presentation and voxel.

Each event has a regressor of its own.

Designs come from `fmri.betas.event_designs`, and the results of the fit are those of nilearn
(`fmri.betas.least_squares`); here are the checks, and the way from runs to labeled `Patterns`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd

from fmri.betas.event_designs import DesignOptions, noise_gain, run_designs
from fmri.betas.joint_models import STATISTICS
from fmri.betas.least_squares import Fit, least_squares_all, least_squares_separate
from fmri.betas.memory import MemoryPlan, RunSize, plan_memory, plan_together
from fmri.betas.session_models import SessionBetas, event_observations, fit_with_options
from fmri.betas.single_trials import SingleTrialOptions
from fmri.bold import BoldRun, check_runs
from fmri.patterns import Patterns
from fmri.rois.regions import Regions, read_regions, voxel_table
from fmri.series import open_series, read_places, read_stored
from fmri.unusable import (
    UNUSABLE,
    check_regions_left,
    dropped_voxels,
    unusable_error,
    unusable_reasons,
)
from fmri.volumes import digest_image
from neurometamer.arguments import KeywordsOf, checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import digest, provenance

_LOG = logging.getLogger(__name__)

NOISE_MODELS = ("ar1", "ols")
UNITS = ("percent", "raw", *STATISTICS)
_MUCH_MEMORY = 10**9
"""Bytes above which the plan is noted."""


@checked
def estimate_betas(
    runs: Sequence[BoldRun],
    masks: Regions | Mapping[str, np.ndarray | str | os.PathLike[str]],
    *,
    noise_model: str = "ar1",
    estimator: str = "LSA",
    units: str = "percent",
    unusable: str = "refuse",
    max_memory: str = "",
    single_trials: SingleTrialOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    **design: Annotated[Any, KeywordsOf("fmri.betas.event_designs:DesignOptions")],
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
    unusable : {"refuse", "drop"}
        What to do with voxels of a mask that have NaN, infinite or constant time courses in any
        run: an error that names the region, or drop them in all runs and list them in
        ``provenance["dropped"]``.
    max_memory : str
        Largest memory that the call may take, results included, such as ``"2GB"``; empty: half of
        the memory of this machine. Where not all voxels fit, images are read several times.
    single_trials : SingleTrialOptions, optional
        One beta a condition, a response for each voxel, noise regressors, ridge shrinkage. All runs
        are in memory at once with it, and with noise regressors those of the brain mask
        (``masks.pool``). What was chosen and gained is in ``provenance["single_trials"]``.
    progress : callable, optional
        Called as ``progress(done, total)`` after each run.
    **design : object
        Fields of `DesignOptions`, such as ``hrf_model="spm"``: hrf_model, high_pass, ignore,
        slice_time_ref.

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
    chosen = DesignOptions(**design)
    for kind, name, known in (
        ("noise_model", noise_model, NOISE_MODELS),
        ("estimator", estimator, EVENT_MODELS),
        ("units", units, UNITS),
        ("unusable", unusable, UNUSABLE),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
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
        **chosen.record(),
        "noise_model": noise_model,
        "estimator": estimator,
        "units": units,
        "unusable": unusable,
    }
    tables = run_designs(runs, per=options.per, **design)
    pool = np.zeros_like(union)
    if options.n_noise and regions.pool is not None:
        pool = regions.pool & ~union
    n_voxels = int(np.sum(union | pool))
    are_plain = single_trials is None and units not in STATISTICS
    plan = plan_betas(
        runs, tables, n_voxels, len(voxels), together=not are_plain, max_memory=max_memory
    )
    if are_plain and (max_memory or plan.n_passes > 1 or plan.n_bytes > _MUCH_MEMORY):
        _LOG.info("betas of %d run(s), %s", len(runs), plan)
    estimate = _estimate_each_run if are_plain else partial(_estimate_together, pool)
    fit, broken = estimate(
        runs, tables, voxels, (union, position), options, settings, plan, progress
    )
    designs = [design for _, design in tables]
    record = _record(settings, runs, contents, designs, regions, voxels, broken)
    if fit.record:
        record["single_trials"] = dict(fit.record)
    if pool.any():
        record["noise_pool"] = {"digest": digest(pool), "n_voxels": int(pool.sum())}
    shown = fit.observations.groupby("condition")
    observations = fit.observations
    observations.insert(1, "presentation", shown.cumcount() + 1)
    return Patterns(
        values=fit.values,
        observations=observations,
        voxels=voxels[broken == 0],
        provenance=record,
    )


def plan_betas(
    runs: Sequence[BoldRun],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    n_voxels: int,
    n_rows: int,
    *,
    together: bool,
    max_memory: str = "",
) -> MemoryPlan:
    """Plan the memory of estimating betas, from headers and designs alone.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs of one subject.
    tables : sequence of tuple of DataFrame
        Events and design of each run, see `event_design`.
    n_voxels, n_rows : int
        Numbers of different voxels, and of voxels of all regions.
    together : bool
        Whether all runs are fitted at once, as options of single trials and statistics need it.
    max_memory : str
        See `fmri.betas.memory.plan_memory`.

    Returns
    -------
    MemoryPlan
        How many voxels are read and fitted at once.

    Raises
    ------
    InputError
        When the limit cannot be understood or kept.
    """
    sizes = []
    for run, (events, design) in zip(runs, tables, strict=True):
        size = RunSize(
            n_volumes=run.n_volumes,
            n_events=len(events),
            n_columns=design.shape[1],
            itemsize=open_series(run.images, run.affine).itemsize,
        )
        sizes.append(size)
    if together:
        return plan_together(sizes, n_voxels, max_memory)
    return plan_memory(sizes, n_voxels, n_rows, max_memory)


def _estimate_each_run(
    runs: Sequence[BoldRun],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    voxels: pd.DataFrame,
    where: tuple[np.ndarray, np.ndarray],
    options: SingleTrialOptions,
    settings: Mapping[str, Any],
    plan: MemoryPlan,
    progress: Callable[[int, int], None] | None,
) -> tuple[SessionBetas, np.ndarray]:
    """Fit run by run, as many voxels at once as memory allows; say which cannot be used, and why.

    `options` are those that change nothing.
    """
    position = where[1]
    observations = []
    for run, (events, _) in zip(runs, tables, strict=True):
        observations.append(event_observations(run, events))
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
    pool: np.ndarray,
    runs: Sequence[BoldRun],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    voxels: pd.DataFrame,
    where: tuple[np.ndarray, np.ndarray],
    options: SingleTrialOptions,
    settings: Mapping[str, Any],
    plan: MemoryPlan,
    progress: Callable[[int, int], None] | None,
) -> tuple[SessionBetas, np.ndarray]:
    """Read all runs and fit them at once; say which voxels cannot be used, and why.

    `pool` are voxels beside those of the regions that noise regressors may come from.
    """
    union, position = where
    all_read = union | pool
    is_region = union[all_read]
    series, around = [], []
    is_usable = np.ones(int(pool.sum()), dtype=bool)
    broken = np.zeros(len(voxels), dtype=np.int64)
    for run in runs:
        own = read_places(run.images, all_read)
        if pool.any():
            outside = own[:, ~is_region]
            own = own[:, is_region]
            around.append(outside)
            is_usable &= unusable_reasons(outside) == 0
        reasons = unusable_reasons(own)[position]
        if reasons.any() and settings["unusable"] == "refuse":
            raise unusable_error(run.label, voxels, reasons)
        broken = np.where(reasons != 0, reasons, broken)
        series.append(own)
    if not is_usable.any():
        around = []
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
        around=[outside[:, is_usable] for outside in around],
    )
    if progress is not None:
        progress(len(runs), len(runs))
    return replace(fit, values=fit.values[:, columns]), broken


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
            reasons[slab] = unusable_reasons(series)
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
        if run.confounds is not None and run.confounds.attrs.get("renamed"):
            of_run["confounds_renamed"] = run.confounds.attrs["renamed"]
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
