"""Betas of the runs of a subject with the options of single trials.

Each run keeps its own intercept, drifts, confounds and noise regressors; what is estimated is
shared by the runs of a session, or belongs to one run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.hrf import CANONICAL, HRF_LIBRARY, event_regressors
from fmri.betas.joint_models import STATISTICS, fit_jointly
from fmri.betas.least_squares import Fit
from fmri.betas.prediction import (
    NoiseChoice,
    RunModel,
    ShapeChoice,
    check_repeats,
    choose_noise,
    choose_shapes,
    condition_regressors,
    same_shape,
)
from fmri.betas.shrinkage import shrink_presentations
from fmri.betas.single_trials import SingleTrialOptions
from fmri.bids import volume_start
from fmri.bold import BoldRun
from neurometamer.errors import InputError

EventModel = Callable[[np.ndarray, int, str], Fit]
"""Design, number of events and noise model to a fit of time courses."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionBetas:
    """Betas of all runs.

    Parameters
    ----------
    values : ndarray, shape (n_observations, n_voxels)
        Betas.
    observations : pandas.DataFrame
        ``condition``, ``run``, ``session``, ``onset`` or what stands in its place.
    record : mapping
        What was chosen, and what it gained; for the provenance.
    """

    values: np.ndarray
    observations: pd.DataFrame
    record: Mapping[str, Any]


def fit_with_options(
    runs: Sequence[BoldRun],
    series: Sequence[np.ndarray],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    options: SingleTrialOptions,
    *,
    hrf_model: str,
    noise_model: str,
    event_model: EventModel | None,
    units: str,
    slice_time_ref: float | None,
    around: Sequence[np.ndarray] = (),
) -> SessionBetas:
    """Estimate betas of all runs together.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs.
    series : sequence of ndarray, shape (n_volumes, n_voxels)
        Time courses of usable voxels; scaled in place to percent of their means where `units` say.
    tables : sequence of (DataFrame, DataFrame)
        Events and design of each run, from `fmri.event_design`.
    options : SingleTrialOptions
        What to do.
    hrf_model, noise_model
        See `fmri.estimate_betas`.
    event_model : callable, optional
        Estimator of single presentations; least squares all with standard errors when not given.
    units, slice_time_ref
        See `fmri.estimate_betas`.
    around : sequence of ndarray, shape (n_volumes, n_voxels)
        Time courses of further voxels that noise regressors may come from; none where there are no
        such voxels.

    Returns
    -------
    SessionBetas
        Betas, observations and a record.

    Raises
    ------
    InputError
        When a choice needs repeats and there are none, or a design cannot be estimated.
    """
    if units == "percent":
        for run, own in zip(runs, series, strict=True):
            scale_to_percent(run.label, own)
    is_library = options.hrf == "library"
    shapes = HRF_LIBRARY
    if not is_library:
        shapes = {hrf_model: CANONICAL[hrf_model]}
    models = []
    for run, own, (events, design) in zip(runs, series, tables, strict=True):
        start = volume_start(run.slices, run.t_r, slice_time_ref)
        volumes = np.arange(run.n_volumes)
        times = volumes * run.t_r + start
        onsets = events["onset"].to_numpy()
        durations = events["duration"].to_numpy()
        regressors = {}
        for name, shape in shapes.items():
            columns = event_regressors(times, onsets, durations, shape)
            scale = shape.scale if is_library else 1.0
            regressors[name] = columns * scale
        is_event = design.columns.str.startswith("event_")
        nuisance = design.loc[:, ~is_event]
        model = RunModel(
            series=own,
            nuisance=nuisance.to_numpy(),
            regressors=regressors,
            conditions=tuple(events["trial_type"]),
        )
        models.append(model)
    check_repeats(models, options.needs_repeats)
    record: dict[str, Any] = {"options": asdict(options)}
    choice = same_shape(hrf_model, series[0].shape[1])
    if is_library:
        choice = choose_shapes(models)
        record["hrf"] = choice.record()
    nothing = [np.empty((len(own), 0)) for own in series]
    noise = NoiseChoice(components=tuple(nothing), n_pool=0)
    if options.n_noise:
        groups = [(models, choice)]
        if around:
            others = [replace(model, series=own) for model, own in zip(models, around)]
            chosen = same_shape(hrf_model, around[0].shape[1])
            if is_library:
                chosen = choose_shapes(others)
            groups.append((others, chosen))
        noise = choose_noise(groups, options.n_noise, options.max_noise)
        record["noise"] = noise.record()
    n_regressors = noise.components[0].shape[1]
    record["chosen_on_all_runs"] = ["denoised"] if n_regressors else []
    estimation = _Estimation(
        runs=runs,
        models=models,
        events=[events for events, _ in tables],
        choice=choice,
        noise=noise,
        options=options,
        noise_model=noise_model,
        event_model=event_model,
        units=units,
    )
    values, observations = _ESTIMATORS[options.per](estimation, record)
    return SessionBetas(values=values, observations=observations, record=record)


def scale_to_percent(label: str, series: np.ndarray) -> None:
    """Scale time courses in place, so that their means are 100.

    Parameters
    ----------
    label : str
        The run, for messages.
    series : ndarray of float, shape (n_volumes, n_voxels)
        Time courses.

    Raises
    ------
    InputError
        When a mean is not positive.
    """
    means = series.mean(axis=0)
    n_low = int(np.sum(means <= 0))
    if n_low:
        raise InputError(
            f"{label}: {n_low} voxel(s) of the masks have a mean ≤ 0, so percent signal change has "
            'no meaning; give images that keep their mean, or units="raw" (--units raw).'
        )
    series *= 100 / means


@dataclass(frozen=True, kw_only=True, eq=False)
class _Estimation:
    """What responses are estimated from, and how; arguments are those of `fit_with_options`."""

    runs: Sequence[BoldRun]
    models: Sequence[RunModel]
    events: Sequence[pd.DataFrame]
    choice: ShapeChoice
    noise: NoiseChoice
    options: SingleTrialOptions
    noise_model: str
    event_model: EventModel | None
    units: str


def _per_presentation(
    asked: _Estimation, record: dict[str, Any]
) -> tuple[np.ndarray, pd.DataFrame]:
    """Fit each run on its own, voxels of one shape at a time, or shrink what that would give."""
    of_runs = []
    for run, events in zip(asked.runs, asked.events, strict=True):
        of_runs.append(event_observations(run, events))
    observations = pd.concat(of_runs, ignore_index=True)
    models, components = asked.models, asked.noise.components
    if asked.options.is_shrunken:
        shares = asked.options.shrinkage
        shrunken = shrink_presentations(models, asked.choice, components, shares)
        record["shrinkage"] = shrunken.record()
        record["units"] = f"{asked.units}, shrunken by ridge regression; scale and mean restored"
        record["chosen_on_all_runs"].append("shrunken")
        return shrunken.betas, observations
    values = []
    for model, noise in zip(models, components, strict=True):
        n_events = len(model.conditions)
        nuisance = np.column_stack([model.nuisance, noise])
        betas = np.empty((n_events, model.series.shape[1]))
        for name, voxels in asked.choice.groups():
            regressors = model.regressors[name]
            data = model.series[:, voxels]
            if asked.event_model is None:
                fit = fit_jointly([data], [regressors], [nuisance], noise_model=asked.noise_model)
                betas[:, voxels] = fit.statistic(asked.units)
            else:
                design = np.column_stack([regressors, nuisance])
                fit_events = asked.event_model(design, n_events, asked.noise_model)
                betas[:, voxels] = fit_events(data)
        values.append(betas)
    return np.concatenate(values), observations


def _per_condition(asked: _Estimation, record: dict[str, Any]) -> tuple[np.ndarray, pd.DataFrame]:
    """Fit the runs of each session together: one coefficient a condition (and delay)."""
    values, observations = [], []
    is_fir = asked.options.hrf == "fir"
    n_delays = asked.options.n_delays if is_fir else 1
    for session in dict.fromkeys(run.session for run in asked.runs):
        members = [row for row, run in enumerate(asked.runs) if run.session == session]
        runs = [asked.runs[row] for row in members]
        models = [asked.models[row] for row in members]
        shown: dict[str, None] = {}
        nuisance = []
        for row, model in zip(members, models, strict=True):
            shown |= dict.fromkeys(model.conditions)
            columns = [model.nuisance, asked.noise.components[row]]
            nuisance.append(np.column_stack(columns))
        names = list(shown)
        betas = np.empty((len(names) * n_delays, models[0].series.shape[1]))
        for shape, voxels in asked.choice.groups():
            if is_fir:
                shared = []
                for row, run in zip(members, runs, strict=True):
                    shared.append(fir_regressors(run, asked.events[row], names, n_delays))
            else:
                shared = [condition_regressors(model, shape, names)[0] for model in models]
            data = [model.series[:, voxels] for model in models]
            fit = fit_jointly(data, shared, nuisance, noise_model=asked.noise_model)
            is_statistic = asked.units in STATISTICS
            betas[:, voxels] = fit.statistic(asked.units) if is_statistic else fit.effects
        values.append(betas)
        labels = dict.fromkeys(run.run for run in runs)
        table = pd.DataFrame({"condition": names, "run": "+".join(labels)})
        table["session"] = session
        if is_fir:  # the delays of a condition stand together, named as by nilearn
            delays = np.tile(np.arange(n_delays), len(names))
            table = table.loc[table.index.repeat(n_delays)].reset_index(drop=True)
            table["stimulus"] = table["condition"]
            table["delay_s"] = delays * runs[0].t_r
            table["condition"] += [f"_delay_{delay}" for delay in delays]
        observations.append(table)
    return np.concatenate(values), pd.concat(observations, ignore_index=True)


_ESTIMATORS: Mapping[
    str, Callable[[_Estimation, dict[str, Any]], tuple[np.ndarray, pd.DataFrame]]
] = {"presentation": _per_presentation, "condition": _per_condition}
"""How `SingleTrialOptions.per` is estimated; what was chosen is added to the record."""


def fir_regressors(
    run: BoldRun, events: pd.DataFrame, names: Sequence[str], n_delays: int
) -> np.ndarray:
    """Build the regressors of a finite impulse response, as nilearn does.

    Parameters
    ----------
    run : BoldRun
        The run.
    events : pandas.DataFrame
        ``onset``, ``duration``, ``trial_type``.
    names : sequence of str
        Conditions of the session.
    n_delays : int
        Repetition times after the onset.

    Returns
    -------
    ndarray, shape (n_volumes, n_conditions × n_delays)
        Delays of a condition stand together; zeros for conditions that the run does not show.
    """
    from nilearn.glm.first_level.hemodynamic_models import compute_regressor

    times = np.arange(run.n_volumes) * run.t_r
    columns = np.zeros((run.n_volumes, len(names), n_delays))
    for number, name in enumerate(names):
        own = events[events["trial_type"] == name]
        if own.empty:
            continue
        described = np.stack([own["onset"], own["duration"], np.ones(len(own))])
        delays = range(n_delays)
        lead = min(-24.0, float(own["onset"].min()))
        regressors, _ = compute_regressor(
            described, "fir", times, fir_delays=delays, min_onset=lead
        )
        columns[:, number] = regressors
    return columns.reshape(run.n_volumes, -1)


def event_observations(run: BoldRun, events: pd.DataFrame) -> pd.DataFrame:
    """Describe the observations of a run.

    Parameters
    ----------
    run : BoldRun
        The run.
    events : pandas.DataFrame
        Its events with a regressor.

    Returns
    -------
    pandas.DataFrame
        ``condition``, ``run``, ``session`` and ``onset`` (s).
    """
    columns = {
        "condition": events["trial_type"],
        "run": run.run,
        "session": run.session,
        "onset": events["onset"],
    }
    return pd.DataFrame(columns)
