"""Hemodynamic responses: a library of shapes, and the regressors of events under each of them.

The idea of one shape a voxel, chosen from a library, is that of GLMsingle (Prince et al., 2022,
eLife 11:e77599). The shapes are ours: differences of two gamma densities around that of Glover
(1999), not the shapes that GLMsingle took from a data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import lgamma

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError
from neurometamer.summaries import short_repr

OVERSAMPLING = 50
"""Steps of a repetition time on which events and responses are laid out, as in nilearn."""
LENGTH_S = 32.0
EARLIEST_S = 3600.0
"""Events that begin earlier before the first volume are on another clock."""
_GLOVER_PEAK_S = 5.1
_PEAKS_S = (3.0, 3.7, 4.4, _GLOVER_PEAK_S, 5.8, 6.5, 7.2)
_WIDTHS = (0.75, 1.0, 1.3)


@short_repr
@dataclass(frozen=True, kw_only=True)
class HrfShape:
    """A hemodynamic response: the density of a gamma distribution minus a share of a later one.

    Parameters
    ----------
    delay, undershoot : float
        Mean of the first and of the second gamma distribution, s.
    dispersion, undershoot_dispersion : float
        Their scales, s. The response peaks near ``delay - dispersion``.
    ratio : float
        Weight of the second density.

    Raises
    ------
    InputError
        When a number is not positive, or a mean is not above its scale.

    Examples
    --------
    >>> HRF_LIBRARY["peak 5.1 s, width 1"].delay
    6.0
    """

    delay: float
    undershoot: float
    dispersion: float
    undershoot_dispersion: float
    ratio: float

    def __post_init__(self) -> None:
        check_fields(self)
        has_peaks = 0 < self.dispersion < self.delay
        has_undershoot = 0 < self.undershoot_dispersion < self.undershoot
        if not (has_peaks and has_undershoot and self.ratio >= 0):
            raise InputError(
                f"{self} is no hemodynamic response; give scales above 0 and means above them."
            )

    @property
    def scale(self) -> float:
        """Factor that brings the peak of the response to that of Glover's.

        Returns
        -------
        float
            1 for Glover's own. Regressors of the library are multiplied by it, so that betas of
            voxels with different shapes have one unit.
        """
        own = self.kernel(1.0)
        glover = GLOVER.kernel(1.0)
        ratio = glover.max() / own.max()
        return float(ratio)

    def kernel(self, t_r: float, oversampling: int = OVERSAMPLING) -> np.ndarray:
        """Sample the response, as nilearn samples its own.

        Parameters
        ----------
        t_r : float
            Repetition time, s.
        oversampling : int
            Steps a repetition time.

        Returns
        -------
        ndarray, shape (n_steps,)
            32 s of response; the sum is 1, so that one unit of a beta is the plateau of endless
            stimulation.
        """
        step = t_r / oversampling
        n_steps = int(np.rint(LENGTH_S / step))
        times = np.linspace(0, LENGTH_S, n_steps)
        # nilearn's densities begin a step later
        times -= step
        first = _gamma_density(times, self.delay, self.dispersion)
        second = _gamma_density(times, self.undershoot, self.undershoot_dispersion)
        response = first - self.ratio * second
        return response / response.sum()


def _gamma_density(times: np.ndarray, mean: float, scale: float) -> np.ndarray:
    shape = mean / scale
    positive = times > 0
    scaled = times[positive] / scale
    power = shape - 1
    logarithm = power * np.log(scaled)
    logarithm -= scaled
    logarithm -= lgamma(shape)
    density = np.zeros(len(times))
    values = np.exp(logarithm)
    density[positive] = values / scale
    return density


def stretched_glover(peak: float, width: float) -> HrfShape:
    """Stretch Glover's response in time to a peak, and its first lobe to a width.

    Parameters
    ----------
    peak : float
        Time of the peak, s; 5.1 for Glover's own.
    width : float
        Full width of the first lobe, as a share of that of Glover's, whatever the peak.

    Returns
    -------
    HrfShape
        The response.

    Examples
    --------
    >>> stretched_glover(5.1, 1.0) == GLOVER
    True
    """
    stretch = peak / _GLOVER_PEAK_S
    # the width of a gamma density is about proportional to the root of mean x scale
    scale = 0.9 * width**2 / stretch
    return HrfShape(
        delay=peak + scale,
        undershoot=12.0 * stretch,
        dispersion=scale,
        undershoot_dispersion=0.9 * stretch,
        ratio=0.48,
    )


GLOVER = HrfShape(delay=6.0, undershoot=12.0, dispersion=0.9, undershoot_dispersion=0.9, ratio=0.48)
SPM = HrfShape(delay=6.0, undershoot=16.0, dispersion=1.0, undershoot_dispersion=1.0, ratio=0.167)
CANONICAL: Mapping[str, HrfShape] = {"glover": GLOVER, "spm": SPM}
"""nilearn's two responses; equal to its ``glover_hrf`` and ``spm_hrf``."""


HRF_LIBRARY: Mapping[str, HrfShape] = {"spm": SPM} | {
    f"peak {peak:g} s, width {width:g}": stretched_glover(peak, width)
    for peak in _PEAKS_S
    for width in _WIDTHS
}
"""Name to shape: 21 shapes that peak at 3.0 to 7.2 s with .75, 1 and 1.3 times the width of
Glover's, among them Glover's own, and SPM's."""


LIBRARY_ENDS = tuple(f"peak {peak:g} s," for peak in (_PEAKS_S[0], _PEAKS_S[-1]))
"""How the names of the earliest and of the latest shapes begin."""


@checked
def event_regressors(
    times: np.ndarray, onsets: np.ndarray, durations: np.ndarray, shape: HrfShape
) -> np.ndarray:
    """Build one regressor an event, equal to nilearn's ``compute_regressor`` for each of them.

    Parameters
    ----------
    times : ndarray, shape (n_volumes,)
        Times of the volumes, s, evenly spaced.
    onsets, durations : ndarray, shape (n_events,)
        Seconds; a duration of 0 is an impulse of one step.
    shape : HrfShape
        The response.

    Returns
    -------
    ndarray, shape (n_volumes, n_events)
        Regressors.

    Raises
    ------
    InputError
        When an event begins more than an hour before the first volume.

    Examples
    --------
    >>> regressors = event_regressors(
    ...     np.arange(30) * 2.0, np.array([4.0, 20.0]), np.array([2.0, 2.0]), GLOVER
    ... )
    >>> regressors.shape, int(regressors[:, 0].argmax())
    ((30, 2), 5)
    """
    kernel = shape.kernel(float(np.diff(times).min()))
    return box_responses(times, onsets, durations, kernel)


def box_responses(
    times: np.ndarray, onsets: np.ndarray, durations: np.ndarray, kernel: np.ndarray
) -> np.ndarray:
    """Build the responses to boxes, equal to what nilearn's ``compute_regressor`` convolves.

    Parameters
    ----------
    times : ndarray, shape (n_volumes,)
        Times of the volumes, s, evenly spaced.
    onsets, durations : ndarray, shape (n_events,)
        Seconds; a duration of 0 is an impulse of one step.
    kernel : ndarray, shape (n_steps,)
        Hemodynamic response, `OVERSAMPLING` steps a repetition time.

    Returns
    -------
    ndarray, shape (n_volumes, n_events)
        One response an event.

    Raises
    ------
    InputError
        When an event begins more than an hour before the first volume.

    Notes
    -----
    The response to a box is the running sum of the kernel at its begin minus that at its end, so
    all events are looked up in one running sum instead of being convolved one by one.

    Examples
    --------
    >>> impulse = np.zeros(3)
    >>> box_responses(np.arange(3) * 1.0, impulse[:1], impulse[:1] + 1, np.eye(50)[0]).ravel()
    array([1., 0., 0.])
    """
    n_volumes = len(times)
    earliest = float(onsets.min()) - times[0]
    if earliest < -EARLIEST_S:
        raise InputError(
            f"an event begins at {onsets.min():g} s, more than an hour before the first volume; "
            "onsets count from the first volume of the run, in seconds: correct them."
        )
    begin = times.min() + min(-24.0, earliest)
    # nilearn's grid: it ends one repetition time, or a little more, after the last volume
    end = times.max() * (1 + 1 / (n_volumes - 1))
    a_second = (n_volumes - 1) / (times.max() - times.min())
    n_steps = a_second * (end - begin) * OVERSAMPLING + 1
    grid = np.linspace(begin, end, int(np.rint(n_steps)))
    last = len(grid) - 1
    starts = np.searchsorted(grid, onsets)
    starts = np.minimum(starts, last)
    stops = np.searchsorted(grid, onsets + durations)
    stops = np.minimum(stops, last)
    stops += (stops == starts) & (stops < last)  # impulses last one step
    # nothing before a begin, the whole sum long after it
    sums = np.concatenate([[0.0], np.cumsum(kernel)])
    after = np.searchsorted(grid, times)
    after = np.clip(after, 1, last)
    before = after - 1
    values = []
    for places in (before, after):
        here = places[:, None] + 1
        since_start = np.clip(here - starts, 0, len(kernel))
        since_stop = np.clip(here - stops, 0, len(kernel))
        values.append(sums[since_start] - sums[since_stop])
    # linear interpolation between steps, as nilearn resamples to the volumes
    share = (times - grid[before]) / (grid[after] - grid[before])
    rise = values[1] - values[0]
    return values[0] + share[:, None] * rise
