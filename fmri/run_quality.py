"""The quality of measured runs: their noise, and how reliable the responses in them are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.event_designs import IGNORED, event_design
from fmri.bold import BoldRun, check_runs
from fmri.extraction import read_voxels
from fmri.rdm_reliability import halves_reliability, random_halves
from fmri.rois.regions import check_masks, read_masks, voxel_table
from fmri.variances import response_variances
from fmri.volumes import image_affine, open_nifti
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids

QUALITY = ("tsnr", "ar1", "fwhm_mm", "ncsnr_25", "ncsnr_50", "ncsnr_75", "rdm_reliability")
"""Measures of `scan_quality`, in this order."""

_SPLITS = 40


@checked
def scan_quality(
    runs: Sequence[BoldRun],
    masks: Mapping[str, np.ndarray | str | os.PathLike[str]],
    *,
    hrf_model: str = "glover",
    high_pass: float = 0.01,
    ignore: Sequence[str] = IGNORED,
) -> pd.DataFrame:
    """Measure how good the runs of a subject are, by region.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs of one subject.
    masks : mapping of str to ndarray of bool (i, j, k) or path-like
        ROI name to mask.
    hrf_model, high_pass, ignore
        See `fmri.estimate_betas`.

    Returns
    -------
    pandas.DataFrame
        One row a region: ``roi``, ``n_voxels``; ``tsnr`` (mean over standard deviation of a voxel
        without what the model explains, median over voxels); ``ar1`` (lag-1 correlation of
        residuals, median); ``fwhm_mm`` (spatial smoothness of residuals from neighbors, Forman et
        al. 1995, mean over the axes that have neighbors; NaN for none); ``ncsnr_25``, ``ncsnr_50``,
        ``ncsnr_75`` (quartiles over voxels of the noise-ceiling signal-to-noise ratio of a
        response, Allen et al. 2022); ``rdm_reliability`` (Pearson correlation of the 1 − Pearson
        RDMs of halves of the presentations, mean over 40 random halves).

    Raises
    ------
    InputError
        As `fit_scan`.

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
    >>> quality = scan_quality(runs, measured.masks)
    >>> bool(50 < quality["tsnr"].item() < 200)
    True
    """
    scan = open_scan(runs, masks, hrf_model, high_pass, ignore)
    return scan.measure(scan.fit(scan.series)).table


TOLERANCE = 0.1
"""Share by which the mean of simulated runs may differ from what was measured."""


def quality_agreement(measured: pd.DataFrame, simulated: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Compare measured runs with simulated ones, and with what chance does to these.

    Parameters
    ----------
    measured : pandas.DataFrame
        `scan_quality` of the measured runs.
    simulated : sequence of pandas.DataFrame
        The same of simulated runs, each with noise of its own.

    Returns
    -------
    pandas.DataFrame
        One row a region and measure of `QUALITY`: ``roi``, ``measure``, ``measured``, ``simulated``
        (mean), ``low`` and ``high`` (between which 95 % of simulated runs are), ``inside`` (whether
        what was measured is), ``difference`` (of the mean, as a share of what was measured),
        ``chance`` (standard deviation over simulated runs, as such a share) and ``alike``: inside,
        or a difference up to 10 %. NaN where a measure has no value.

    Notes
    -----
    What was measured is a single draw. Where `chance` is above 10 %, as for the reliability of RDMs
    of few conditions, a difference of 10 % says nothing, and `inside` is what can be asked.

    Examples
    --------
    >>> measured = pd.DataFrame({"roi": ["V1"], **dict.fromkeys(QUALITY, 1.0)})
    >>> copies = [measured.replace(1.0, value) for value in (0.5, 1.1, 1.4)]
    >>> table = quality_agreement(measured, copies)
    >>> table["simulated"][0].item(), table["inside"][0].item(), table["chance"][0].round(2).item()
    (1.0, True, 0.37)
    """
    rows = []
    for number, roi in enumerate(measured["roi"]):
        for name in QUALITY:
            value = float(measured[name].iloc[number])
            copies = np.array([table[name].iloc[number] for table in simulated])
            low, high = np.quantile(copies, [0.025, 0.975])
            mean, spread = copies.mean(), copies.std()
            size = abs(value) if value else np.nan
            inside = bool(low <= value <= high)
            difference = abs(mean - value) / size
            row = {"roi": roi, "measure": name, "measured": value, "simulated": mean}
            row |= {"low": low, "high": high, "inside": inside, "difference": difference}
            rows.append(row | {"chance": spread / size})
    table = pd.DataFrame(rows)
    return table.assign(alike=table["inside"] | (table["difference"] <= TOLERANCE))


@dataclass(frozen=True, kw_only=True, eq=False)
class Fits:
    """What linear models of all runs found, in percent of the mean of a voxel.

    Parameters
    ----------
    betas : ndarray, shape (n_events, n_positions)
        Responses to the events of all runs.
    nuisance : tuple of ndarray, each of shape (n_volumes, n_positions)
        What drifts and confounds add in each run.
    residuals : tuple of ndarray, each of shape (n_volumes, n_positions)
        What is left of each run.
    """

    betas: np.ndarray
    nuisance: tuple[np.ndarray, ...]
    residuals: tuple[np.ndarray, ...]

    @property
    def ar1(self) -> np.ndarray:
        """Lag-1 correlation of the residuals.

        Returns
        -------
        ndarray, shape (n_positions,)
            In [-1, 1].
        """
        squares = sum((values**2).sum(axis=0) for values in self.residuals)
        products = sum((values[1:] * values[:-1]).sum(axis=0) for values in self.residuals)
        return products / squares


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What is compared between measured and simulated runs.

    Parameters
    ----------
    ncsnr, noise, ar1, spread : ndarray, shape (n_positions,)
        Signal-to-noise ratio and noise variance of responses; lag-1 correlation and standard
        deviation of residuals.
    table : pandas.DataFrame
        Of `scan_quality`.
    """

    ncsnr: np.ndarray
    noise: np.ndarray
    ar1: np.ndarray
    spread: np.ndarray
    table: pd.DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """Runs of a subject, read within regions, and their designs.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (i, j, k)
        ROI to mask.
    voxels : pandas.DataFrame
        Voxels of all ROIs.
    union : ndarray of bool, shape (i, j, k)
        Voxels of any ROI: the positions.
    positions : ndarray of int, shape (n_voxels,)
        Position of each row of `voxels`.
    inside : mapping of str to ndarray of int
        ROI to its positions.
    sizes : ndarray, shape (3,)
        Lengths of a voxel, mm.
    series : tuple of ndarray, each of shape (n_volumes, n_positions)
        Percent of the mean of each voxel in its run.
    levels : ndarray, shape (n_runs, n_positions)
        These means.
    matrices, inverses : tuple of ndarray
        Designs of the runs, events before drifts and confounds, and their pseudoinverses.
    events : tuple of pandas.DataFrame
        The modeled events of each run.
    shown : list of str
        The condition of each event of all runs.
    conditions : tuple of str
        In order of appearance.
    codes : ndarray of int, shape (n_events,)
        Number of the condition of each event.
    halves : scipy.sparse.csr_array
        `fmri.rdm_reliability.random_halves` of the events.
    """

    masks: Mapping[str, np.ndarray]
    voxels: pd.DataFrame
    union: np.ndarray
    positions: np.ndarray
    inside: Mapping[str, np.ndarray]
    sizes: np.ndarray
    series: tuple[np.ndarray, ...]
    levels: np.ndarray
    matrices: tuple[np.ndarray, ...]
    inverses: tuple[np.ndarray, ...]
    events: tuple[pd.DataFrame, ...]
    shown: list[str]
    conditions: tuple[str, ...]
    codes: np.ndarray
    halves: Any

    def means(self, betas: np.ndarray) -> np.ndarray:
        """Average the responses to each condition.

        Parameters
        ----------
        betas : ndarray, shape (n_events, n_positions)
            Responses.

        Returns
        -------
        ndarray, shape (n_conditions, n_positions)
            In order of `conditions`.
        """
        means = []
        for code in range(len(self.conditions)):
            shown = betas[self.codes == code]
            means.append(shown.mean(axis=0))
        return np.array(means)

    def fit(self, series: Sequence[np.ndarray]) -> Fits:
        """Fit percent series by ordinary least squares.

        Parameters
        ----------
        series : sequence of ndarray, each of shape (n_volumes, n_positions)
            Measured, or simulated for the same designs.

        Returns
        -------
        Fits
            Of all runs.
        """
        betas, nuisance, residuals = [], [], []
        for matrix, inverse, events, values in zip(
            self.matrices, self.inverses, self.events, series, strict=True
        ):
            coefficients = inverse @ values
            n_events = len(events)
            betas.append(coefficients[:n_events])
            nuisance.append(matrix[:, n_events:] @ coefficients[n_events:])
            residuals.append(values - matrix @ coefficients)
        return Fits(
            betas=np.concatenate(betas), nuisance=tuple(nuisance), residuals=tuple(residuals)
        )

    def measure(self, fits: Fits) -> Measured:
        """Measure signal and noise of voxels, and the table of `scan_quality`.

        Parameters
        ----------
        fits : Fits
            From `fit`.

        Returns
        -------
        Measured
            By position and by region.
        """
        variances = response_variances(fits.betas, self.shown)
        ncsnr, ar1 = variances.ncsnr, fits.ar1
        residuals = np.concatenate(fits.residuals)
        spread = residuals.std(axis=0)
        rows = []
        for roi, inside in self.inside.items():
            quartiles = np.quantile(ncsnr[inside], [0.25, 0.5, 0.75])
            measures = (
                np.median(100 / spread[inside]),
                np.median(ar1[inside]),
                self.smoothness(residuals, inside),
                *quartiles,
                halves_reliability(fits.betas[:, inside], self.halves, _SPLITS),
            )
            measured = dict(zip(QUALITY, map(float, measures), strict=True))
            rows.append({"roi": roi, "n_voxels": len(inside), **measured})
        return Measured(
            ncsnr=ncsnr, noise=variances.noise, ar1=ar1, spread=spread, table=pd.DataFrame(rows)
        )

    def smoothness(self, residuals: np.ndarray, inside: np.ndarray) -> float:
        """Estimate the full width at half maximum of the spatial correlation.

        Parameters
        ----------
        residuals : ndarray, shape (n_volumes, n_positions)
            Of all runs.
        inside : ndarray of int
            The positions to take.

        Returns
        -------
        float
            In mm, the mean over axes; NaN where neighbors are not correlated.
        """
        of_union = np.full(self.levels.shape[1], -1)
        of_union[inside] = inside
        position = np.full(self.union.shape, -1)
        position[self.union] = of_union
        widths = []
        for axis, size in enumerate(self.sizes):
            before = np.take(position, range(position.shape[axis] - 1), axis)
            after = np.take(position, range(1, position.shape[axis]), axis)
            both = (before >= 0) & (after >= 0)
            if not both.any():
                continue
            first, second = residuals[:, before[both]], residuals[:, after[both]]
            apart = ((first - second) ** 2).sum()
            alone = (first**2).sum() + (second**2).sum()
            correlation = 1 - apart / alone
            if correlation > 0:
                widths.append(size * np.sqrt(-2 * np.log(2) / np.log(correlation)))
        return float(np.mean(widths)) if widths else np.nan


def open_scan(
    runs: Sequence[BoldRun],
    masks: Mapping[str, np.ndarray | str | os.PathLike[str]],
    hrf_model: str,
    high_pass: float,
    ignore: Sequence[str],
) -> Scan:
    """Read the runs of a subject within masks, and build their designs.

    Parameters
    ----------
    runs, masks, hrf_model, high_pass, ignore
        See `scan_quality`.

    Returns
    -------
    Scan
        Everything that fits to these runs need.

    Raises
    ------
    InputError
        See `fmri.fit_scan`.
    """
    check_runs(runs)
    for run in runs:
        if len(run.grid.shape) != 3:
            raise InputError(
                f"{run.label} is no volume; only volumes can be simulated, so give those."
            )
    read = {}
    for roi, mask in masks.items():
        if isinstance(mask, np.ndarray):
            read[roi] = mask
        else:
            read |= read_masks({roi: mask}, runs[0].image, affine=runs[0].affine)
    image = open_nifti(runs[0].image)
    regions = check_masks(read, image.shape[:3])
    voxels, union, positions = voxel_table(regions, runs[0].subject)
    matrices, events = [], []
    for run in runs:
        kept, design = event_design(run, hrf_model=hrf_model, high_pass=high_pass, ignore=ignore)
        matrices.append(design.to_numpy())
        events.append(kept)
    shown = pd.concat(events)["trial_type"].tolist()
    _check_shown(shown)
    conditions = tuple(dict.fromkeys(shown))
    codes = condition_numbers(events, conditions)
    series, levels = _percent(runs, union)
    affine = image_affine(runs[0].image, image, runs[0].affine)
    rois = voxels["roi"].to_numpy()
    return Scan(
        masks=regions,
        voxels=voxels,
        union=union,
        positions=positions,
        inside={roi: positions[rois == roi] for roi in dict.fromkeys(rois.tolist())},
        sizes=np.linalg.norm(affine[:3, :3], axis=0),
        series=tuple(series),
        levels=levels,
        matrices=tuple(matrices),
        inverses=tuple(np.linalg.pinv(matrix) for matrix in matrices),
        events=tuple(events),
        shown=shown,
        conditions=conditions,
        codes=codes,
        halves=random_halves(codes, _SPLITS),
    )


def condition_numbers(events: Sequence[pd.DataFrame], conditions: Sequence[str]) -> np.ndarray:
    """Give the number of the condition of each event of all runs.

    Parameters
    ----------
    events : sequence of pandas.DataFrame
        Tables of the runs.
    conditions : sequence of str
        Condition of each number.

    Returns
    -------
    ndarray of int, shape (n_events,)
        Numbers.
    """
    numbers = {condition: number for number, condition in enumerate(conditions)}
    return pd.concat(events)["trial_type"].map(numbers).to_numpy(dtype=int)


def _check_shown(shown: Sequence[str]) -> None:
    """Refuse too few conditions or presentations."""
    counts = pd.Series(shown).value_counts()
    if len(counts) < 4:
        raise InputError(
            f"the runs show {len(counts)} condition(s); at least 4 are needed for an RDM."
        )
    once = counts.index[counts < 2].tolist()
    if once:
        raise InputError(
            f"conditions shown once: {name_ids(once)}; noise is measured between presentations, "
            "so give runs in which each condition is shown at least twice, or name these in ignore."
        )


def _percent(runs: Sequence[BoldRun], union: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Read all runs: percent of the mean of each voxel in its run, and these means."""
    series, levels = [], []
    for run in runs:
        values = read_voxels(run.image, union)
        level = values.mean(axis=0)
        usable = np.isfinite(values).all(axis=0) & (np.ptp(values, axis=0) > 0) & (level > 0)
        if not usable.all():
            raise InputError(
                f"{run.label}: {int((~usable).sum())} of {len(usable)} voxel(s) of the masks are "
                "constant, not finite or have a mean of 0 or less; give masks without them."
            )
        series.append(100 * (values / level - 1))
        levels.append(level)
    return series, np.array(levels)
