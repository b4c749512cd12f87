"""Betas of the runs of a subject with the options of single trials.

Each run keeps its own intercept, drifts, confounds and noise regressors; what is estimated is
shared by the runs of a session, or belongs to one run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.hrf import CANONICAL, HRF_LIBRARY, LIBRARY_ENDS, HrfShape, event_regressors
from fmri.betas.joint_models import STATISTICS, fit_jointly
from fmri.betas.least_squares import Fit
from fmri.betas.prediction import (
    NoiseChoice,
    RunModel,
    ShapeChoice,
    check_repeats,
    choose_noise,
    choose_shapes,
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
    shapes = HRF_LIBRARY if is_library else {hrf_model: CANONICAL[hrf_model]}
    models = []
    for run, own, (events, design) in zip(runs, series, tables, strict=True):
        regressors = {}
        for name, shape in shapes.items():
            columns = _regressors_of(run, events, shape, slice_time_ref)
            regressors[name] = columns * (shape.scale if is_library else 1.0)
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
    if options.hrf == "library":
        choice = choose_shapes(models)
        record["hrf"] = _record_of_shapes(choice)
    nothing = [np.empty((len(own), 0)) for own in series]
    noise = NoiseChoice(components=tuple(nothing), n_pool=0)
    if options.n_noise:
        noise = choose_noise(models, choice, options.n_noise, options.max_noise)
        record["noise"] = {
            "n_regressors": noise.components[0].shape[1],
            "n_pool": noise.n_pool,
            "median_r2": np.round(noise.r2, 6).tolist(),
        }
    chosen = ["denoised"] if noise.components[0].shape[1] else []
    record["chosen_on_all_runs"] = chosen
    if options.per == "condition":
        values, observations = _per_condition(
            runs, models, tables, choice, noise, options, noise_model, units
        )
        return SessionBetas(values=values, observations=observations, record=record)
    if options.is_shrunken:
        shrunken = shrink_presentations(models, choice, noise.components, options.shrinkage)
        record["shrinkage"] = {
            "fractions": _quartiles(shrunken.fractions),
            "less_error_in_other_runs": _quartiles(shrunken.gain),
        }
        record["units"] = f"{units}, shrunken by ridge regression; scale and mean restored"
        chosen.append("shrunken")
        values = shrunken.betas
    else:
        values = _per_presentation(models, choice, noise, noise_model, event_model, units)
    of_runs = []
    for run, (events, _) in zip(runs, tables, strict=True):
        of_runs.append(event_observations(run, events))
    observations = pd.concat(of_runs, ignore_index=True)
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


def _regressors_of(
    run: BoldRun, events: pd.DataFrame, shape: HrfShape, slice_time_ref: float | None
) -> np.ndarray:
    volumes = np.arange(run.n_volumes)
    times = volumes * run.t_r
    times += volume_start(run.slices, run.t_r, slice_time_ref)
    return event_regressors(
        times,
        events["onset"].to_numpy(),
        events["duration"].to_numpy(),
        shape,
    )


def _per_presentation(
    models: Sequence[RunModel],
    choice: ShapeChoice,
    noise: NoiseChoice,
    noise_model: str,
    event_model: EventModel | None,
    units: str,
) -> np.ndarray:
    """Fit each run on its own, voxels of one shape at a time: (n_observations, n_voxels)."""
    values = []
    for model, components in zip(models, noise.components, strict=True):
        n_events = len(model.conditions)
        nuisance = np.column_stack([model.nuisance, components])
        betas = np.empty((n_events, model.series.shape[1]))
        for name, voxels in choice.groups():
            events = model.regressors[name]
            data = model.series[:, voxels]
            if event_model is None:
                fit = fit_jointly([data], [events], [nuisance], noise_model=noise_model)
                betas[:, voxels] = fit.statistic(units)
            else:
                design = np.column_stack([events, nuisance])
                fit_events = event_model(design, n_events, noise_model)
                betas[:, voxels] = fit_events(data)
        values.append(betas)
    return np.concatenate(values)


def _per_condition(
    runs: Sequence[BoldRun],
    models: Sequence[RunModel],
    tables: Sequence[tuple[pd.DataFrame, pd.DataFrame]],
    choice: ShapeChoice,
    noise: NoiseChoice,
    options: SingleTrialOptions,
    noise_model: str,
    units: str,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Fit the runs of each session together: one coefficient a condition (and delay)."""
    values, observations = [], []
    for session in dict.fromkeys(run.session for run in runs):
        members = [number for number, run in enumerate(runs) if run.session == session]
        names: dict[str, None] = {}
        nuisance = []
        for row in members:
            names |= dict.fromkeys(models[row].conditions)
            columns = [models[row].nuisance, noise.components[row]]
            nuisance.append(np.column_stack(columns))
        n_delays = options.n_delays if options.hrf == "fir" else 1
        n_voxels = models[0].series.shape[1]
        betas = np.empty((len(names) * n_delays, n_voxels))
        for name, voxels in choice.groups():
            events = []
            for row in members:
                if options.hrf == "fir":
                    shown = tables[row][0]
                    columns_of_run = fir_regressors(runs[row], shown, list(names), n_delays)
                else:
                    columns_of_run = _summed(models[row], name, list(names))
                events.append(columns_of_run)
            data = [models[row].series[:, voxels] for row in members]
            fit = fit_jointly(data, events, nuisance, noise_model=noise_model)
            is_statistic = units in STATISTICS
            betas[:, voxels] = fit.statistic(units) if is_statistic else fit.effects
        values.append(betas)
        labels = dict.fromkeys(runs[row].run for row in members)
        table = pd.DataFrame({"condition": list(names), "run": "+".join(labels)})
        table["session"] = session
        if options.hrf == "fir":
            table = _with_delays(table, n_delays, runs[members[0]].t_r)
        observations.append(table)
    return np.concatenate(values), pd.concat(observations, ignore_index=True)


def _summed(model: RunModel, shape: str, names: Sequence[str]) -> np.ndarray:
    """Add up the regressors of each condition: (n_volumes, n_conditions)."""
    events = model.regressors[shape]
    columns = np.zeros((len(events), len(names)))
    numbers = {name: number for number, name in enumerate(names)}
    for condition, regressor in zip(model.conditions, events.T, strict=True):
        number = numbers[condition]
        columns[:, number] += regressor
    return columns


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


def _with_delays(table: pd.DataFrame, n_delays: int, t_r: float) -> pd.DataFrame:
    """Repeat each condition for its delays, with names as nilearn gives them."""
    parts = []
    for delay in range(n_delays):
        part = table.assign(
            condition=table["condition"] + f"_delay_{delay}",
            stimulus=table["condition"],
            delay_s=delay * t_r,
        )
        parts.append(part)
    joined = pd.concat(parts)
    # delays of a condition stand together
    ordered = joined.sort_index(kind="stable")
    return ordered.reset_index(drop=True)


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


# -------------------------------------------------------------------------------------- the record


def _quartiles(values: np.ndarray) -> list[float]:
    shares = [0.25, 0.5, 0.75]
    quartiles = np.quantile(values, shares)
    rounded = np.round(quartiles, 6)
    return rounded.tolist()


def _record_of_shapes(choice: ShapeChoice) -> dict[str, Any]:
    """Say which shapes were chosen, and the R² of other runs with them and with Glover's."""
    counts = np.bincount(choice.chosen, minlength=len(choice.names))
    used = {}
    for name, count in zip(choice.names, counts):
        if count:
            used[name] = int(count)
    glover = list(HRF_LIBRARY.values()).index(CANONICAL["glover"])
    explained = choice.r2.max(axis=0) > 0
    record: dict[str, Any] = {
        "n_voxels": used,
        "chosen_by": "responses to conditions" if choice.by_repeats else "the mean response",
        "n_explained": int(explained.sum()),
    }
    if explained.any():
        own = choice.r2[choice.chosen, np.arange(len(choice.chosen))]
        record["r2"] = _quartiles(own[explained])
        record["r2_glover"] = _quartiles(choice.r2[glover, explained])
    names = np.array(choice.names)[choice.chosen[explained]]
    n_at_end = sum(name.startswith(LIBRARY_ENDS) for name in names.tolist())
    record["n_at_end"] = n_at_end
    if n_at_end > len(names) / 2:
        warnings.warn(
            f"{n_at_end} of the {len(names)} voxels that events explain have the earliest or "
            "latest responses of the library; check onsets, TR and slice times.",
            stacklevel=2,
        )
    return record
