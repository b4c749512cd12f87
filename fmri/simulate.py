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
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fmri.betas.estimate import estimate_betas
from fmri.bold import read_runs
from fmri.patterns import Patterns
from fmri.planting import SimulatedTruth, plant, write_truth
from fmri.selection import select_voxels
from fmri.simulated_files import BLANK, write_masks, write_run
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.summaries import short_repr


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
    truth = plant(label, conditions, features, mixing, settings)
    target = Path(folder)
    masks = write_masks(target, truth)
    bold, events, confounds = [], [], []
    for session in dict.fromkeys(shown_in.values()):
        for run in range(1, n_runs + 1):
            files = write_run(target, truth, session, run)
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
