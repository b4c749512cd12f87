"""A simulated study like a measured one: noise, signal and schedule fitted to given runs.

`fit_scan` describes the runs of one subject. `simulate_like` makes new runs from that description,
with another truth for each seed, and writes the files that `fmri.simulate_subject` writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fmri.betas.event_designs import IGNORED
from fmri.bold import BoldRun
from fmri.planting import SimulatedTruth, standardized, write_truth
from fmri.run_quality import (
    Fits,
    Measured,
    Scan,
    condition_numbers,
    open_scan,
    quality_agreement,
)
from fmri.simulate import SimulatedSubject
from fmri.simulated_files import save_image
from fmri.volumes import image_affine, open_nifti
from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.store import file_name, write_table
from neurometamer.summaries import short_repr

_ROUNDS = 10
_COPIES = 4
_COMPARED = 20
_KNOTS = np.linspace(0.05, 0.95, 10)
_LEAST_NCSNR = 0.02


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class ScanModel:
    """What new runs need to be like the measured runs of one subject.

    All signals are in percent of the mean of a voxel in its run.

    Parameters
    ----------
    runs : tuple of BoldRun
        The measured runs.
    masks : mapping of str to ndarray of bool, shape (i, j, k)
        ROI to mask.
    voxels : pandas.DataFrame
        Voxels of all ROIs (`fmri.rois.regions.voxel_table`).
    conditions : tuple of str
        Rows of `signal`.
    events : tuple of pandas.DataFrame
        The modeled events of each run, in order of onset.
    regressors : tuple of ndarray, each of shape (n_volumes, n_events)
        Responses to the events of each run.
    nuisance : tuple of ndarray, each of shape (n_volumes, n_positions)
        What drifts, confounds and spikes add in each run.
    innovations : tuple of ndarray, each of shape (n_volumes - 1, n_positions)
        What is new in each volume of what the model of a run does not explain.
    ar1 : ndarray, shape (n_positions,)
        Lag-1 correlation of the noise of each voxel.
    levels : ndarray, shape (n_runs, n_positions)
        Mean of each voxel in each run, in units of the image.
    response : ndarray, shape (n_positions,)
        Mean response over conditions.
    signal : ndarray, shape (n_conditions, n_positions)
        Differences between conditions, with the second moment that different presentations share.
    trials : ndarray, shape (n_events, n_positions)
        Differences between presentations of a condition, at the size that the residuals do not
        explain.
    positions : ndarray of int, shape (n_voxels,)
        Position of each row of `voxels` among the columns of the arrays above.
    quality : pandas.DataFrame
        `scan_quality` of the measured runs, and the mean of runs simulated from this model.
    agreement : pandas.DataFrame
        The same by measure: `fmri.run_quality.quality_agreement` with 20 simulated subjects.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import read_runs, simulate_subject
    >>> measured = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=3,
    ... )
    >>> runs = read_runs(measured.bold, measured.events, measured.confounds)
    >>> model = fit_scan(runs, measured.masks)
    >>> model.conditions, model.levels.shape
    (('cup', 'hat', 'dog', 'cat'), (3, 8))
    """

    runs: tuple[BoldRun, ...]
    masks: Mapping[str, np.ndarray]
    voxels: pd.DataFrame
    conditions: tuple[str, ...]
    events: tuple[pd.DataFrame, ...]
    regressors: tuple[np.ndarray, ...]
    nuisance: tuple[np.ndarray, ...]
    innovations: tuple[np.ndarray, ...]
    ar1: np.ndarray
    levels: np.ndarray
    response: np.ndarray
    signal: np.ndarray
    trials: np.ndarray
    positions: np.ndarray
    quality: pd.DataFrame
    agreement: pd.DataFrame


@checked
def fit_scan(
    runs: Sequence[BoldRun],
    masks: Mapping[str, np.ndarray | str | os.PathLike[str]],
    *,
    hrf_model: str = "glover",
    high_pass: float = 0.01,
    ignore: Sequence[str] = IGNORED,
    seed: int = 0,
) -> ScanModel:
    """Fit a model from which runs like the given ones can be simulated.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs of one subject. Each condition needs at least two presentations.
    masks : mapping of str to ndarray of bool (i, j, k) or path-like
        ROI name to mask.
    hrf_model, high_pass, ignore
        See `fmri.estimate_betas`.
    seed : int
        Seed of the simulations by which strength of signal and noise are adjusted.

    Returns
    -------
    ScanModel
        The model; its table ``agreement`` sets the measured beside the simulated, with the interval
        that chance gives these.

    Raises
    ------
    InputError
        When there are fewer than 4 conditions, a condition has one presentation only, voxels are
        constant or not finite, or a design cannot be estimated.

    Notes
    -----
    Noise: first-order autoregressive, with a coefficient for each voxel, from the residuals of a
    linear model with one regressor an event. The new part of each simulated volume is a random
    mixture of the new parts of all measured volumes of its session, which keeps their covariance
    over voxels. Fitting takes some of the noise away; size and coefficient are adjusted until
    residuals of simulated runs are like the measured ones.

    Signal: differences between the mean responses to the conditions, given the second moment over
    voxels that *different* presentations have in common, which noise does not inflate. The sizes
    of the signal of voxels and its concentration on few dimensions are then adjusted until
    simulated runs have the quantiles of ncsnr and the split-half reliability of RDMs of the
    measured ones.

    Trials of one condition differ from each other, beyond the residuals, as the measured betas do.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import read_runs, simulate_subject
    >>> measured = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=3,
    ... )
    >>> runs = read_runs(measured.bold, measured.events, measured.confounds)
    >>> model = fit_scan(runs, measured.masks)
    >>> model.signal.shape, list(model.quality["source"].unique())
    ((4, 8), ['measured', 'simulated'])
    """
    scan = open_scan(runs, masks, hrf_model, high_pass, ignore)
    fits = scan.fit(scan.series)
    ar1 = fits.ar1
    nuisance, innovations, regressors = [], [], []
    for slow, left, matrix, events in zip(
        fits.nuisance, fits.residuals, scan.matrices, scan.events, strict=True
    ):
        # Spikes are volumes that differ from the model much more than others do. They come with
        # the confounds of their run; as noise they would spread over all volumes.
        size = np.sqrt((left**2).mean(axis=1))
        middle = np.median(size)
        apart = np.median(np.abs(size - middle))
        # 1.4826 makes the median distance from the median a standard deviation
        is_spike = (size > middle + 5 * 1.4826 * apart)[:, None]
        nuisance.append(slow + np.where(is_spike, left, 0))
        noise = np.where(is_spike, 0, left)
        innovations.append(noise[1:] - ar1 * noise[:-1])
        regressors.append(matrix[:, : len(events)])
    means = scan.means(fits.betas)
    model = ScanModel(
        runs=tuple(runs),
        masks=scan.masks,
        voxels=scan.voxels,
        conditions=scan.conditions,
        events=scan.events,
        regressors=tuple(regressors),
        nuisance=tuple(nuisance),
        innovations=tuple(innovations),
        ar1=ar1,
        levels=scan.levels,
        response=means.mean(axis=0),
        signal=np.zeros_like(means),
        trials=np.zeros_like(fits.betas),
        positions=scan.positions,
        quality=pd.DataFrame(),
        agreement=pd.DataFrame(),
    )
    return _adjusted(model, scan, fits, seed)


@checked
def simulate_like(
    model: ScanModel,
    folder: str | os.PathLike[str],
    *,
    subject: str,
    seed: int,
    features: np.ndarray | None = None,
    conditions: Sequence[str] | None = None,
) -> SimulatedSubject:
    """Simulate a further subject like the measured one, and write its files.

    Parameters
    ----------
    model : ScanModel
        From `fit_scan`.
    folder : path-like
        Folder that gets images, events, confounds, masks and truth under BIDS names; the header
        of every image says that it is simulated.
    subject : str
        Label, with or without ``sub-``.
    seed : int
        Same seed and subject, same files. Other seeds draw other noise and another order of runs;
        with `features`, other weights.
    features : ndarray, shape (n_conditions, n_features), optional
        What the voxels follow, for example a stage of a network, so that further images have
        responses. Without it the responses are those of the measured subject, adjusted by
        `fit_scan`.
    conditions : sequence of str, optional
        Ids of the rows of `features`; by default those of the measured runs. Others take the
        measured schedule: every presentation shows the condition that had the fewest so far.

    Returns
    -------
    SimulatedSubject
        Paths and truth.

    Raises
    ------
    InputError
        When `features` do not fit `conditions`, or conditions are given without features.

    Notes
    -----
    Weights of features are random, alike in voxels side by side as the measured differences between
    trials are, and scaled to the size that the signal of each voxel has in the model.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import read_runs, simulate_subject
    >>> measured = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=3,
    ... )
    >>> runs = read_runs(measured.bold, measured.events, measured.confounds)
    >>> model = fit_scan(runs, measured.masks)
    >>> further = simulate_like(model, mkdtemp(), subject="02", seed=1)
    >>> len(further.bold), further.truth.betas.shape
    (3, (4, 8))
    """
    label = str(subject).removeprefix("sub-")
    if not label.isalnum() or not label.isascii():
        raise InputError(f"subject {subject!r} is not a BIDS label; use letters and digits.")
    names, signal, readout = _signal(model, features, conditions, label, seed)
    events = model.events
    if names != model.conditions:
        events = _scheduled(model.events, names, generator(seed, "schedule", label))
    order = _order_of_runs(model.runs, generator(seed, "order", label))
    responses = signal[condition_numbers(events, names)]
    series = _simulated(model, responses, order, generator(seed, "noise", label))
    target = Path(folder)
    image = open_nifti(model.runs[0].image)
    affine = image_affine(model.runs[0].image, image, model.runs[0].affine)
    paths: dict[str, list[Path]] = {"bold": [], "events": [], "confounds": []}
    union = np.any(list(model.masks.values()), axis=0)
    for number, run in enumerate(model.runs):
        session = f"ses-{run.session}_" if run.session else ""
        start = f"sub-{label}_{session}task-like_run-{run.run}"
        level = model.levels[order[number]]
        volume = np.zeros((*union.shape, run.n_volumes), dtype=np.float32)
        volume[union] = (level * (1 + series[number] / 100)).T
        path = target / f"{start}_bold.nii"
        paths["bold"].append(save_image(path, volume, affine, run.t_r))
        paths["events"].append(write_table(target / f"{start}_events.tsv", events[number]))
        confounds = model.runs[order[number]].confounds
        if confounds is not None:
            file = target / f"{start}_confounds.tsv"
            paths["confounds"].append(write_table(file, confounds))
    masks = {}
    for roi, mask in model.masks.items():
        file = target / file_name(f"sub-{label}_roi-{roi}_mask.nii")
        masks[roi] = save_image(file, mask.astype(np.uint8), affine, None)
    truth = SimulatedTruth(
        subject=label,
        conditions=names,
        betas=(model.response + signal)[:, model.positions],
        voxels=model.voxels.assign(subject=label, responds=True),
        mixing={},
        settings={"seed": seed, "like": [run.label for run in model.runs]},
        readout=readout,
    )
    return SimulatedSubject(
        subject=label,
        bold=tuple(paths["bold"]),
        events=tuple(paths["events"]),
        confounds=tuple(paths["confounds"]),
        masks=masks,
        truth=truth,
        truth_path=write_truth(truth, target / f"sub-{label}_truth.h5"),
    )


# -------------------------------------------------------------------------------- the adjustment


@dataclass(kw_only=True, eq=False)
class _Strength:
    """What is adjusted, by position and for the RDMs of each region, and what is kept.

    `moments` are products of mean patterns from different presentations, (conditions, conditions).
    """

    signal: np.ndarray
    trials: np.ndarray
    exponents: dict[str, float]
    moments: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        target: Measured,
        betas: np.ndarray,
        codes: np.ndarray,
        inside: Mapping[str, np.ndarray],
    ) -> _Strength:
        """Begin with what was measured."""
        counts = np.bincount(codes)
        centering = np.eye(len(counts)) - 1 / len(counts)
        moments = {}
        for roi, columns in inside.items():
            own = betas[:, columns]
            sums = np.zeros((len(counts), len(columns)))
            np.add.at(sums, codes, own)
            products = sums @ sums.T
            # A presentation times itself holds the square of its noise.
            squares = np.bincount(codes, weights=(own**2).sum(axis=1))
            different = (np.diag(products) - squares) / (counts * (counts - 1))
            products /= np.outer(counts, counts)
            np.fill_diagonal(products, different)
            moments[roi] = centering @ products @ centering / len(columns)
        return cls(
            signal=target.ncsnr * np.sqrt(target.noise),
            trials=np.zeros_like(target.noise),
            exponents=dict.fromkeys(inside, 1.0),
            moments=moments,
        )

    def adjust(
        self, target: Measured, copies: Sequence[Measured], inside: Mapping[str, np.ndarray]
    ) -> None:
        """Change strength of signal and trials by what simulated runs lack, region by region."""
        noise = np.mean([copy.noise for copy in copies], axis=0)
        ncsnr = np.array([copy.ncsnr for copy in copies])
        reliability = np.mean([copy.table["rdm_reliability"] for copy in copies], axis=0)
        for number, (roi, columns) in enumerate(inside.items()):
            missing = np.median(target.noise[columns] / noise[columns]) - 1
            variance = self.trials[columns] + missing * target.noise[columns]
            self.trials[columns] = np.clip(variance, 0, None)
            wanted = np.quantile(target.ncsnr[columns], _KNOTS)
            reached = np.quantile(ncsnr[:, columns], _KNOTS, axis=1).mean(axis=1)
            ratio = np.maximum(wanted, _LEAST_NCSNR) / np.maximum(reached, _LEAST_NCSNR)
            # Half of the way in each round: what is measured is noisy itself.
            factors = np.clip(np.sqrt(ratio), 0.7, 1.4)
            order = np.argsort(self.signal[columns])
            ranks = np.argsort(order) / len(order)
            self.signal[columns] *= np.interp(ranks, _KNOTS, factors)
            both = np.array([target.table["rdm_reliability"][number], reliability[number]])
            if np.isfinite(both).all():
                wanted_z, reached_z = np.arctanh(np.clip(both, -0.99, 0.99))
                exponent = self.exponents[roi] + wanted_z - reached_z
                self.exponents[roi] = float(np.clip(exponent, 0, 4))

    def plant(self, means: np.ndarray, inside: Mapping[str, np.ndarray]) -> np.ndarray:
        """Give mean patterns the second moments over voxels, and voxels their strength."""
        planted = np.zeros_like(means)
        for roi, columns in inside.items():
            values, vectors = np.linalg.eigh(self.moments[roi])
            values = np.clip(values, 0, None)
            is_kept = values > 1e-6 * values.max()
            if not is_kept.any():
                continue
            values = np.where(is_kept, values, 1) ** self.exponents[roi] * is_kept
            root = (vectors * np.sqrt(values)) @ vectors.T
            signal = means[:, columns] - means[:, columns].mean(axis=0)
            # Moment and strength are each made exact in turn; five rounds bring both within a
            # percent.
            for _ in range(5):
                own, axes = np.linalg.eigh(signal @ signal.T)
                is_signal = own > 1e-9 * own.max()
                inverse = np.where(is_signal, 1, 0) / np.sqrt(np.where(is_signal, own, 1))
                signal = root @ (axes * inverse) @ axes.T @ signal
                spread = signal.std(axis=0, ddof=1)
                signal *= self.signal[columns] / np.where(spread > 0, spread, 1)
            planted[:, columns] = signal
        return planted


def _adjusted(model: ScanModel, scan: Scan, fits: Fits, seed: int) -> ScanModel:
    """Choose the strength of signal and trials so that simulated runs measure like the given."""
    codes, inside = scan.codes, scan.inside
    counts = np.bincount(codes)
    means = scan.means(fits.betas)
    # Differences from a mean of few are smaller than differences from the truth.
    widening = np.sqrt(counts / (counts - 1))
    apart = (fits.betas - means[codes]) * widening[codes][:, None]
    trials = apart / np.sqrt((apart**2).mean(axis=0))
    target = scan.measure(fits)
    strength = _Strength.of(target, fits.betas, codes, inside)
    copies: list[Measured] = []
    for step in range(_ROUNDS):
        if copies:
            # Size and lag-1 correlation of the noise change by the same in all voxels.
            more = np.median(target.ar1 - np.mean([copy.ar1 for copy in copies], axis=0))
            size = np.mean([copy.spread for copy in copies], axis=0)
            larger = np.median(target.spread / size)
            innovations = tuple(larger * values for values in model.innovations)
            ar1 = np.clip(model.ar1 + more, -0.5, 0.95)
            model = replace(model, ar1=ar1, innovations=innovations)
            strength.adjust(target, copies, inside)
        signal = strength.plant(means, inside)
        model = replace(model, signal=signal, trials=trials * np.sqrt(strength.trials))
        copies = _measured_copies(model, scan, _COPIES, seed, "adjust", step)
    finished = [copy.table for copy in _measured_copies(model, scan, _COMPARED, seed, "compare")]
    simulated = pd.concat(finished)
    mean = simulated.groupby("roi", sort=False).mean().reset_index()
    tables = [target.table.assign(source="measured"), mean.assign(source="simulated")]
    return replace(
        model,
        quality=pd.concat(tables, ignore_index=True),
        agreement=quality_agreement(target.table, finished),
    )


def _measured_copies(
    model: ScanModel, scan: Scan, n_copies: int, seed: int, *name: int | str
) -> list[Measured]:
    """Simulate the runs so many times, and measure each time what was measured in them."""
    in_turn = list(range(len(model.runs)))
    copies = []
    for copy in range(n_copies):
        draws = generator(seed, *name, copy)
        series = _simulated(model, model.signal[scan.codes], in_turn, draws)
        copies.append(scan.measure(scan.fit(series)))
    return copies


# --------------------------------------------------------------------------------- the simulation


def _order_of_runs(runs: Sequence[BoldRun], draws: np.random.Generator) -> list[int]:
    """Say whose noise, drifts and confounds each run gets: a run of its session and length."""
    groups: dict[tuple[str, int], list[int]] = {}
    for number, run in enumerate(runs):
        groups.setdefault((run.session, run.n_volumes), []).append(number)
    order = list(range(len(runs)))
    for members in groups.values():
        for place, member in zip(members, draws.permutation(members), strict=True):
            order[place] = int(member)
    return order


def _simulated(
    model: ScanModel, responses: np.ndarray, order: Sequence[int], draws: np.random.Generator
) -> list[np.ndarray]:
    """Add up responses, trials, drifts and noise of each run, in percent."""
    mixing = draws.standard_normal((len(responses), len(model.trials)))
    trials = mixing @ model.trials / np.sqrt(len(model.trials))
    shown = model.response + responses + trials
    measured: dict[str, list[np.ndarray]] = {}
    for run, values in zip(model.runs, model.innovations, strict=True):
        measured.setdefault(run.session, []).append(values)
    series = []
    first = 0
    for number, (run, regressors) in enumerate(zip(model.runs, model.regressors, strict=True)):
        # Mixed innovations have the covariance over voxels that the session has.
        own = np.concatenate(measured[run.session])
        mixing = draws.standard_normal((run.n_volumes, len(own)))
        noise = mixing @ own / np.sqrt(len(own))
        noise[0] /= np.sqrt(1 - model.ar1**2)
        for volume in range(1, run.n_volumes):
            noise[volume] += model.ar1 * noise[volume - 1]
        last = first + regressors.shape[1]
        series.append(regressors @ shown[first:last] + model.nuisance[order[number]] + noise)
        first = last
    return series


def _signal(
    model: ScanModel,
    features: np.ndarray | None,
    conditions: Sequence[str] | None,
    label: str,
    seed: int,
) -> tuple[tuple[str, ...], np.ndarray, dict[str, np.ndarray]]:
    """Say which conditions are shown, the planted differences between them, and their readout."""
    if features is None:
        if conditions is not None:
            raise InputError(
                f"{len(conditions)} conditions are given without features; give features, one row "
                "a condition, or leave conditions out to plant the measured responses."
            )
        return model.conditions, model.signal, {}
    names = model.conditions if conditions is None else tuple(map(str, conditions))
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(names) or not np.isfinite(values).all():
        raise InputError(
            f"features have the shape {values.shape}; give finite numbers, one row for each of the "
            f"{len(names)} conditions."
        )
    readout = {"center features": values.mean(axis=0), "spread features": values.std(axis=0)}
    # Maps with the spatial correlation of the noise.
    maps = model.innovations[0] / model.innovations[0].std(axis=0)
    draws = generator(seed, "readout", label)
    weights = draws.standard_normal((values.shape[1], len(maps)))
    signal = standardized(values, readout, "features") @ weights @ maps
    scale = model.signal.std(axis=0, ddof=1) / signal.std(axis=0, ddof=1)
    readout["maps"] = (maps * scale)[:, model.positions]
    readout["response"] = model.response[model.positions]
    return names, signal * scale, readout


def _scheduled(
    events: Sequence[pd.DataFrame], conditions: Sequence[str], draws: np.random.Generator
) -> tuple[pd.DataFrame, ...]:
    """Fill the measured schedule with other conditions, each as often as possible the same."""
    n_events = sum(map(len, events))
    shown: list[str] = []
    while len(shown) < n_events:
        shown += list(draws.permutation(np.array(conditions, dtype=object)))
    scheduled = []
    first = 0
    for table in events:
        names = shown[first : first + len(table)]
        scheduled.append(table.assign(trial_type=names))
        first += len(table)
    return tuple(scheduled)
