"""Designs of runs: from events, confounds and drifts to the regressors of a general linear model.

Hemodynamic responses and drifts are those of nilearn; here are the choices around them, and the
checks of what they give.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pandas as pd

from fmri.betas.hrf import CANONICAL, EARLIEST_S, LENGTH_S, OVERSAMPLING, box_responses
from fmri.betas.least_squares import event_filters
from fmri.betas.single_trials import UNITS_OF_ANALYSIS
from fmri.bids import volume_start
from fmri.bold import BoldRun
from fmri.tables import NO_TRIAL_TYPE, event_names
from neurometamer.arguments import KeywordsOf, check_fields, checked
from neurometamer.errors import InputError, count_text, name_ids, unknown_name
from neurometamer.summaries import short_repr

HRFS = tuple(CANONICAL)
IGNORED = ("blank", NO_TRIAL_TYPE)
"""Trial types that get no regressor by default: they are the baseline."""

_TOO_ALIKE = 0.998
_TOO_WEAK = 0.1
_SINGULAR = 1e-7


@short_repr
@dataclass(frozen=True, kw_only=True)
class DesignOptions:
    """How the events of a run become regressors, and what else stands in its design.

    Parameters
    ----------
    hrf_model : {"glover", "spm"}
        Hemodynamic response function of nilearn.
    high_pass : float
        Slowest cosine drift removed, in Hz. A run of T seconds gets about 2·T·high_pass drift
        regressors, unless its confounds hold fMRIPrep's cosines, which then are all.
        What the events do more slowly than this is removed with the drift: with blocks,
        keep 1 / high_pass well above the time from one block to the next of the same condition.
        Many drifts in a run filled with events multiply the noise of the betas; see `noise_gain`.
    ignore : sequence of str
        Trial types without a regressor. Events without a trial type are called ``"n/a"``.
    slice_time_ref : float, optional
        Time to which the volumes refer, as a share of the TR, in [0, 1]. By default what the JSON
        sidecars say: StartTime / TR, as in nilearn's ``first_level_from_bids``; the middle of
        SliceTiming where slices were not corrected; 0 where they say nothing.

    Raises
    ------
    InputError
        When the response is unknown, or a value is of the wrong type.

    Examples
    --------
    >>> DesignOptions(hrf_model="spm")
    DesignOptions(hrf_model='spm')
    """

    hrf_model: str = "glover"
    high_pass: float = 0.01
    ignore: Sequence[str] = IGNORED
    slice_time_ref: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "ignore", tuple(self.ignore))
        if self.hrf_model not in HRFS:
            raise unknown_name("hrf_model", self.hrf_model, HRFS)

    def record(self) -> dict[str, Any]:
        """Write the options down for a provenance.

        Returns
        -------
        dict
            Option to its value, JSON-able.
        """
        return {**asdict(self), "ignore": list(self.ignore)}


@checked
def event_design(
    run: BoldRun,
    *,
    per: str = "presentation",
    **options: Annotated[Any, KeywordsOf("fmri.betas.event_designs:DesignOptions")],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the design of one run: one regressor an event, confounds, cosine drifts, intercept.

    Parameters
    ----------
    run : BoldRun
        The run.
    per : {"presentation", "condition"}
        One regressor an event, or one a condition, in order of first appearance.
    **options : object
        Fields of `DesignOptions`: hrf_model, high_pass, ignore, slice_time_ref.

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
        apart, an event comes too late to be seen or begins more than an hour before the run, some
        events have a duration and others none, or there are more columns than volumes.

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

    An event of unknown duration (n/a), of 0 s, or of less than a fiftieth of the repetition time
    has no duration: it is an impulse that lasts this fiftieth, as in nilearn, and its beta is many
    times that of an event of seconds.

    Examples
    --------
    >>> from pathlib import Path
    >>> events = pd.DataFrame({"onset": [4.0, 20.0], "duration": 2.0, "trial_type": ["cat", "cup"]})
    >>> run = BoldRun(image=Path("sub-01_run-1_bold.nii"), n_volumes=30, t_r=2.0, events=events)
    >>> events, design = event_design(run)
    >>> list(design.columns)
    ['event_0001', 'event_0002', 'drift_1', 'constant']
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    chosen = DesignOptions(**options)
    if per not in UNITS_OF_ANALYSIS:
        raise unknown_name("per", per, UNITS_OF_ANALYSIS)
    if not 0 <= chosen.high_pass < 0.5 / run.t_r:
        raise InputError(
            f"high_pass (--high-pass) is {chosen.high_pass}; give Hz from 0 to below "
            f"{0.5 / run.t_r:g} (half of 1/TR)."
        )
    start = volume_start(run.slices, run.t_r, chosen.slice_time_ref)
    kept, peaks = _modeled_events(run, chosen, start)
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
    times = np.arange(run.n_volumes) * run.t_r + start
    responses = _responses(times, kept, chosen.hrf_model)
    first_of = np.arange(len(kept))
    if per == "condition":
        numbers, names = pd.factorize(kept["trial_type"])
        first_of = np.flatnonzero(~kept["trial_type"].duplicated())
        responses = responses @ np.eye(len(names))[numbers]
        peaks = np.zeros(len(names))
    with warnings.catch_warnings():
        # A singular design is refused later, with the events named.
        warnings.filterwarnings("ignore", message="Matrix is singular at working precision.*")
        warnings.filterwarnings("ignore", message="divide by zero encountered.*")
        nuisance = make_first_level_design_matrix(
            times,
            drift_model=None if run.drift_in_confounds else "cosine",
            high_pass=chosen.high_pass,
            add_regs=confounds,
        )
    columns = [f"event_{number + 1:04d}" for number in range(len(first_of))]
    events = pd.DataFrame(responses, columns=columns, index=nuisance.index)
    design = pd.concat([events, nuisance], axis=1)
    _check_design(run, kept.iloc[first_of], design, peaks)
    return kept, design


def _responses(times: np.ndarray, events: pd.DataFrame, hrf_model: str) -> np.ndarray:
    """Build the regressor of each event with nilearn's response: (n_volumes, n_events)."""
    from nilearn.glm import first_level

    response = getattr(first_level, f"{hrf_model}_hrf")
    kernel = response(float(np.diff(times).min()), OVERSAMPLING)
    onsets = events["onset"].to_numpy(dtype=np.float64)
    durations = events["duration"].to_numpy(dtype=np.float64)
    return box_responses(times, onsets, durations, kernel)


def _modeled_events(
    run: BoldRun, chosen: DesignOptions, start: float
) -> tuple[pd.DataFrame, np.ndarray]:
    """Choose the events that get a regressor, in order of onset, and settle their durations.

    Also gives the peak that each response would reach in an endless run; 0 for events whose whole
    response lies in the run: nothing of them can be lost.
    """
    kept = run.events[~run.events["trial_type"].isin(list(chosen.ignore))]
    nowhere = kept["onset"].isna()
    if nowhere.any():
        warnings.warn(
            f"events without an onset (n/a) are left out: {name_ids(kept['trial_type'][nowhere])}.",
            stacklevel=3,
        )
        kept = kept[~nowhere]
    kept = kept.sort_values("onset", kind="stable").reset_index(drop=True)
    # long ago on the clock of the run: no time is laid out for them
    ends = kept["onset"] + kept["duration"].fillna(0.0) + LENGTH_S
    kept = _without_past(kept, ends < -run.t_r)
    _check_some_left(run, kept, chosen.ignore)
    early = kept[kept["onset"] < start - EARLIEST_S]
    if len(early):
        raise InputError(
            f"{run.label}: events begin more than an hour before the run and last into it: "
            f"{name_ids(event_names(early))}; onsets count from the first volume of the run, in "
            "seconds: correct onsets and durations."
        )
    is_impulse = _are_impulses(run, kept)
    shortest = f"{run.t_r / OVERSAMPLING:g} s"
    if is_impulse.all():
        warnings.warn(
            f"no event has a duration (n/a, or less than {shortest}); they are taken as impulses "
            "of 0 s, and percent of an impulse response has no meaning. Give durations, or "
            'units="raw" (--units raw).',
            stacklevel=3,
        )
        kept = kept.assign(duration=kept["duration"].fillna(0.0))
    elif is_impulse.any():
        named = event_names(kept[is_impulse])
        raise InputError(
            f"{run.label}: some events have a duration and others none (n/a, or less than "
            f"{shortest}): {name_ids(named)}. Their betas would have different units; give "
            "durations of all, or ignore those trial types (ignore, --ignore)."
        )
    peaks = np.zeros(len(kept))
    ends = kept["onset"] + kept["duration"] + LENGTH_S
    run_end = run.n_volumes * run.t_r
    cut = ((kept["onset"] < 0) | (ends > run_end)).to_numpy()
    if not cut.any():
        return kept, peaks
    before = max(0.0, -kept["onset"].min())
    n_before = int(np.ceil(before / run.t_r))
    n_after = int(np.ceil(LENGTH_S / run.t_r))
    volumes = np.arange(-n_before, run.n_volumes + n_after)
    times = volumes * run.t_r + start
    responses = np.abs(_responses(times, kept[cut], chosen.hrf_model))
    peaks[cut] = responses.max(axis=0)
    seen = np.zeros(len(kept))
    in_run = responses[n_before : n_before + run.n_volumes]
    seen[cut] = in_run.max(axis=0)
    is_early = (kept["onset"] < 0).to_numpy()
    over = is_early & (seen < _TOO_WEAK * peaks)
    kept = _without_past(kept, over)
    _check_some_left(run, kept, chosen.ignore)
    return kept, peaks[~over]


def _without_past(events: pd.DataFrame, is_over: np.ndarray | pd.Series) -> pd.DataFrame:
    """Leave out events whose response was over before the first volume, and say so."""
    if is_over.any():
        warnings.warn(
            "events whose response was over before the first volume: "
            f"{name_ids(event_names(events[is_over]))}; they are left out.",
            stacklevel=4,
        )
    return events[~is_over].reset_index(drop=True)


def _are_impulses(run: BoldRun, events: pd.DataFrame) -> np.ndarray:
    """Say which events last less than a step of the regressors, or have no duration."""
    shortest = run.t_r / OVERSAMPLING
    has_duration = events["duration"] >= shortest
    return ~has_duration.to_numpy()


def run_designs(
    runs: Sequence[BoldRun], *, per: str = "presentation", **options: Any
) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Build the designs of runs whose betas are compared.

    Parameters
    ----------
    runs : sequence of BoldRun
        Runs of one subject.
    per : {"presentation", "condition"}
        See `event_design`.
    **options : object
        Fields of `DesignOptions`: hrf_model, high_pass, ignore, slice_time_ref.

    Returns
    -------
    list of (DataFrame, DataFrame)
        Events and design of each run, as `event_design` gives them.

    Raises
    ------
    InputError
        When a design cannot be estimated, or events have durations in some runs and none in others:
        their betas would have different units.

    Examples
    --------
    >>> from pathlib import Path
    >>> events = pd.DataFrame({"onset": [4.0, 20.0], "duration": 2.0, "trial_type": ["cat", "cup"]})
    >>> run = BoldRun(image=Path("sub-01_run-1_bold.nii"), n_volumes=30, t_r=2.0, events=events)
    >>> [len(design) for _, design in run_designs([run])]
    [30]
    """
    tables = [event_design(run, per=per, **options) for run in runs]
    check_durations(runs, [events for events, _ in tables])
    return tables


def check_durations(runs: Sequence[BoldRun], events: Sequence[pd.DataFrame]) -> None:
    """Refuse runs whose betas would have different units.

    Parameters
    ----------
    runs : sequence of BoldRun
        Runs of one subject.
    events : sequence of pandas.DataFrame
        The events of each that have a regressor.

    Raises
    ------
    InputError
        When events have durations in some runs and none in others.
    """
    of_impulses: list[str] = []
    of_durations: list[str] = []
    for run, of_run in zip(runs, events, strict=True):
        is_impulse = _are_impulses(run, of_run)
        labels = of_impulses if is_impulse.all() else of_durations
        labels.append(run.label)
    if of_impulses and of_durations:
        raise InputError(
            f"no event of {name_ids(of_impulses)} has a duration (0 s or n/a), but those of "
            f"{name_ids(of_durations)} have. Their betas would have different units; give "
            "durations in the events of all runs."
        )


def _check_some_left(run: BoldRun, kept: pd.DataFrame, ignore: Sequence[str]) -> None:
    if kept.empty:
        raise InputError(
            f"{run.label}: no event is left after ignoring {name_ids(ignore)}; leave the run out."
        )


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
    >>> from pathlib import Path
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


def _kinds_of_columns(run: BoldRun, n_events: int, design: pd.DataFrame) -> str:
    """Count the columns of a design by what they are of; a scrubbed volume's is 0 elsewhere."""
    names = design.columns.astype(str)
    n_confounds = int(names.str.startswith("confound_").sum())
    n_slow = len(names) - n_events - n_confounds
    n_scrubbed = 0
    if run.confounds is not None:
        n_scrubbed = int((np.count_nonzero(run.confounds, axis=0) == 1).sum())
    n_confounds -= n_scrubbed
    counts = [count_text(n_events, "event"), f"{n_slow} of drifts and mean"]
    if n_confounds:
        counts.append(count_text(n_confounds, "confound"))
    if n_scrubbed:
        counts.append(count_text(n_scrubbed, "scrubbed volume"))
    return ", ".join(counts)


def _check_design(run: BoldRun, kept: pd.DataFrame, design: pd.DataFrame, full: np.ndarray) -> None:
    """Refuse designs that cannot be estimated.

    `full` is the peak that the response to each event would reach in an endless run.
    """
    events = design.to_numpy()[:, : len(kept)]
    names = event_names(kept)
    if len(design.columns) >= len(design):
        raise InputError(
            f"{run.label}: the design has {len(design.columns)} columns for {len(design)} volumes "
            f"({_kinds_of_columns(run, len(kept), design)}); use fewer confounds (columns, "
            "--columns), a lower high_pass (--high-pass), or longer runs."
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
