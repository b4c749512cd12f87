"""Options of single-trial responses, and what those who use the betas must know of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmri.betas.joint_models import STATISTICS
from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, unknown_name
from neurometamer.summaries import short_repr

RESPONSES = {
    "model": "the response that hrf_model names, in all voxels",
    "library": "the one of 22 shapes that fits a voxel best",
    "fir": "no shape: one beta a condition and repetition time after its onset",
}
"""Choices of `SingleTrialOptions.hrf` and what they mean."""

UNITS_OF_ANALYSIS = {
    "presentation": "one beta a presentation, each run a model of its own",
    "condition": "one beta a condition and session, one model over the session's runs",
}
"""Choices of `SingleTrialOptions.per` and what they mean."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class SingleTrialOptions:
    """How events become betas: one model a run or a session, and what repeats are used for.

    Parameters
    ----------
    per : {"presentation", "condition"}
        One beta a presentation, or one a condition and session. The latter is one model over the
        runs of a session, with intercept, drifts and confounds of their own for each run.
    hrf : {"model", "library", "fir"}
        Response of ``hrf_model`` in all voxels; the shape of a library that fits a voxel best
        (`fmri.betas.hrf.HRF_LIBRARY`); or a finite impulse response (with ``per="condition"``): one
        beta a condition and repetition time after its onset.
    n_noise : int or "auto"
        Number of noise regressors in each run; ``"auto"`` chooses it by cross-validation over
        repeats. They are principal components of voxels that the task does not explain, in the
        regions and in the brain mask (without one, in regions that are not analyzed).
    max_noise : int
        Largest number that ``"auto"`` tries.
    shrinkage : float, "none" or "auto"
        Ridge shrinkage of single presentations: length of the shrunken betas of a voxel as a share
        of the length of the least-squares betas, in (0, 1]. ``"auto"`` chooses the share of each
        voxel by cross-validation over repeats in other runs.
    n_delays : int
        Repetition times that ``hrf="fir"`` follows.

    Raises
    ------
    InputError
        When a number is out of range, a name unknown, or two options exclude each other.

    Examples
    --------
    >>> SingleTrialOptions(hrf="library", n_noise="auto", shrinkage="auto").needs_repeats
    ('noise regressors (n_noise)', 'shrinkage')
    """

    per: str = "presentation"
    hrf: str = "model"
    n_noise: int | str = 0
    max_noise: int = 10
    shrinkage: float | str = "none"
    n_delays: int = 10

    def __post_init__(self) -> None:
        # a command line writes numbers as text
        if isinstance(self.n_noise, str) and self.n_noise.isdecimal():
            object.__setattr__(self, "n_noise", int(self.n_noise))
        if isinstance(self.shrinkage, str) and self.shrinkage.replace(".", "", 1).isdecimal():
            object.__setattr__(self, "shrinkage", float(self.shrinkage))
        check_fields(self)
        if self.per not in UNITS_OF_ANALYSIS:
            raise unknown_name("per", self.per, UNITS_OF_ANALYSIS)
        if self.hrf not in RESPONSES:
            raise unknown_name("hrf", self.hrf, RESPONSES)
        is_count = not isinstance(self.n_noise, str) and self.n_noise >= 0
        if not is_count and self.n_noise != "auto":
            raise InputError(
                f"n_noise (--n-noise) is {self.n_noise!r}; give a whole number of 0 or more, or "
                "'auto'."
            )
        is_share = not isinstance(self.shrinkage, str) and 0 < self.shrinkage <= 1
        if not is_share and self.shrinkage not in ("none", "auto"):
            raise InputError(
                f"shrinkage (--shrinkage) is {self.shrinkage!r}; give 'none', 'auto', or a number "
                "above 0 and up to 1."
            )
        if self.max_noise < 1 or self.n_delays < 1:
            raise InputError(
                f"max_noise is {self.max_noise} and n_delays {self.n_delays}; give at least 1."
            )
        if self.hrf == "fir" and self.per == "presentation":
            raise InputError(
                'hrf="fir" (--hrf fir) has many betas an event; give per="condition" (--per '
                "condition) with it."
            )
        if self.is_shrunken and self.per == "condition":
            raise InputError(
                'shrinkage is of single presentations; give per="presentation" (--per '
                'presentation), or shrinkage="none" (--shrinkage none).'
            )

    def check_model(self, noise_model: str, estimator: str, units: str) -> None:
        """Refuse what does not go together with shrinkage, conditions or standard errors.

        Parameters
        ----------
        noise_model, estimator, units : str
            See `fmri.estimate_betas`.

        Raises
        ------
        InputError
            When they exclude each other.
        """
        if self.is_shrunken and noise_model != "ols":
            raise InputError(
                f'shrunken betas are of least squares, but noise_model is "{noise_model}"; give '
                'noise_model="ols" (--noise-model ols).'
            )
        if self.is_shrunken and units in STATISTICS:
            raise InputError(
                f'shrunken betas have no standard error, but units are "{units}"; give '
                'units="percent" (--units percent) or "raw".'
            )
        for applies, what in (
            (self.is_shrunken, "shrinkage"),
            (self.per == "condition", 'per="condition"'),
            (units in STATISTICS, f'units="{units}"'),
        ):
            if applies and estimator != "LSA":
                raise InputError(
                    f"{what} goes with one model of all events, not with {estimator}; give "
                    'estimator="LSA" (--estimator LSA).'
                )

    @property
    def is_shrunken(self) -> bool:
        """Whether betas are shrunken.

        Returns
        -------
        bool
            Also where the share is 1 in all voxels.
        """
        return self.shrinkage != "none"

    @property
    def needs_repeats(self) -> tuple[str, ...]:
        """What cannot be done without conditions that several runs show.

        Returns
        -------
        tuple of str
            For messages.
        """
        needing = []
        if self.n_noise:
            needing.append("noise regressors (n_noise)")
        if self.shrinkage == "auto":
            needing.append("shrinkage")
        return tuple(needing)


def beta_records(record: Any) -> list[Mapping[str, Any]]:
    """Find what was written down when betas were made with options, here or elsewhere.

    Parameters
    ----------
    record : object
        Provenance of patterns, as JSON holds it.

    Returns
    -------
    list of mapping
        Each part of the provenance that says what was chosen on all runs together; several where
        patterns were joined.

    Examples
    --------
    >>> made = {"chosen_on_all_runs": ["denoised"], "noise": {"n_regressors": 3}}
    >>> beta_records({"parts": [{"single_trials": made}, {"settings": {}}]}) == [made]
    True
    """
    records: list[Mapping[str, Any]] = []
    parts: list[Any] = []
    if isinstance(record, Mapping):
        if isinstance(record.get("chosen_on_all_runs"), (list, tuple)):
            records.append(record)
        parts = list(record.values())
    elif isinstance(record, (list, tuple)):
        parts = list(record)
    for part in parts:
        records += beta_records(part)
    return records


def chosen_on_all_runs(record: Any) -> tuple[str, ...]:
    """List what was chosen on all runs together in the making of betas.

    Parameters
    ----------
    record : object
        Provenance of patterns, as JSON holds it.

    Returns
    -------
    tuple of str
        Of ``"denoised"`` and ``"shrunken"``, what applies. Betas of which either is true are not
        independent over runs, as crossvalidated distances need them.

    Examples
    --------
    >>> chosen_on_all_runs({"parts": [{"single_trials": {"chosen_on_all_runs": ["shrunken"]}}]})
    ('shrunken',)
    """
    words: set[str] = set()
    for made in beta_records(record):
        words |= set(map(str, made["chosen_on_all_runs"]))
    return tuple(sorted(words))


def check_independent_runs(record: Any, place: str, allow_chosen: bool = False) -> str:
    """Refuse betas that are not independent over runs.

    Parameters
    ----------
    record : object
        Provenance of patterns.
    place : str
        Whose they are, for the message.
    allow_chosen : bool
        Take them nevertheless.

    Returns
    -------
    str
        What the name of a crossvalidated distance must say, such as ``" of denoised betas"``; empty
        for other betas.

    Raises
    ------
    InputError
        When something was chosen on all runs and this was not allowed.

    Examples
    --------
    >>> check_independent_runs({"chosen_on_all_runs": ["shrunken"]}, "S1", allow_chosen=True)
    ' of shrunken betas'
    """
    words = chosen_on_all_runs(record)
    if words and not allow_chosen:
        raise InputError(
            f"{place}: crossvalidated distances take runs for independent, but these betas are "
            f"{' and '.join(words)} by what was chosen on all runs together; estimate them without "
            "n_noise and shrinkage, or allow it: allow_chosen=True (--allow-chosen)."
        )
    return f" of {' and '.join(words)} betas" if words else ""
