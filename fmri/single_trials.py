"""Single-trial responses that repeats make better: HRF per voxel, noise regressors, ridge shrinkage.

The three follow GLMsingle (Prince et al., 2022) in idea, not in code. What is chosen is chosen by
how well responses to conditions in some runs predict *other* runs. Functions here take arrays;
`fmri.estimate_betas` calls them with `SingleTrialOptions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fmri.hrf import CANONICAL
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids, unknown_name

RESPONSES = {
    "model": "the response that hrf_model names, in all voxels",
    "library": "one of fmri.hrf.HRF_LIBRARY for each voxel",
    "fir": "no shape: one beta a condition and repetition time after its onset",
}
"""Choices of `SingleTrialOptions.hrf` and what they mean."""

UNITS_OF_ANALYSIS = {
    "presentation": "one beta a presentation, each run a model of its own",
    "condition": "one beta a condition and session, one model over the session's runs",
}
"""Choices of `SingleTrialOptions.per` and what they mean."""

FRACTIONS = np.arange(1, 21) / 20
"""Lengths of shrunken betas, as shares of the least-squares betas' length, to choose from."""

_SLAB = 1000
"""Voxels that are worked on at a time."""
_GRID = 400
_EM_STEPS = 100
_MEAN_WEIGHT = 0.3
"""Weight of a volume where only the mean response of all events tells shapes apart; what differs
between conditions is then part of the noise, and slow."""
_ENOUGH = 0.95
_SINGULAR = 1e-7


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
        (`fmri.hrf.HRF_LIBRARY`); or a finite impulse response (with ``per="condition"``): one beta
        a condition and repetition time after its onset.
    n_noise : int or "auto"
        Number of noise regressors in each run, principal components of voxels that the task does
        not explain; ``"auto"`` chooses it by cross-validation over repeats.
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
        if isinstance(self.n_noise, str) and self.n_noise != "auto":
            raise InputError(
                f"n_noise (--n-noise) is '{self.n_noise}'; give a whole number, or 'auto'."
            )
        if isinstance(self.n_noise, int) and self.n_noise < 0:
            raise InputError(f"n_noise (--n-noise) is {self.n_noise}; give at least 0.")
        if isinstance(self.shrinkage, str) and self.shrinkage not in ("none", "auto"):
            raise InputError(
                f"shrinkage (--shrinkage) is '{self.shrinkage}'; give 'none', 'auto', or a number "
                "above 0 and up to 1."
            )
        if not isinstance(self.shrinkage, str) and not 0 < self.shrinkage <= 1:
            raise InputError(
                f"shrinkage (--shrinkage) is {self.shrinkage}; give a number above 0 and up to 1."
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


@dataclass(frozen=True, kw_only=True, eq=False)
class RunModel:
    """One run as a model of single presentations sees it.

    Parameters
    ----------
    series : ndarray of float, shape (n_volumes, n_voxels)
        Time courses.
    nuisance : ndarray of float, shape (n_volumes, n_nuisance)
        Confounds, drifts and intercept.
    regressors : mapping of str to ndarray, shape (n_volumes, n_events)
        Name of a response to one regressor an event.
    conditions : tuple of str
        Condition of each event.
    """

    series: np.ndarray
    nuisance: np.ndarray
    regressors: Mapping[str, np.ndarray]
    conditions: tuple[str, ...]


def slabs(voxels: np.ndarray) -> Iterator[np.ndarray]:
    """Cut voxels into parts that are worked on at a time.

    Parameters
    ----------
    voxels : ndarray of int, shape (n_voxels,)
        Their numbers.

    Yields
    ------
    ndarray of int
        At most 1,000 of them.
    """
    for first in range(0, len(voxels), _SLAB):
        yield voxels[first : first + _SLAB]


def basis_of(*columns: np.ndarray) -> np.ndarray:
    """Make an orthonormal basis.

    Parameters
    ----------
    *columns : ndarray, shape (n_volumes, n_columns)
        What it spans together.

    Returns
    -------
    ndarray, shape (n_volumes, n)
        The basis.
    """
    return np.linalg.qr(np.column_stack(columns))[0]


def without(basis: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Remove from columns what a basis explains.

    Parameters
    ----------
    basis : ndarray, shape (n_volumes, n)
        Orthonormal.
    columns : ndarray, shape (n_volumes, n_columns)
        Regressors or time courses.

    Returns
    -------
    ndarray, shape (n_volumes, n_columns)
        The rest.
    """
    explained = basis.T @ columns
    return columns - basis @ explained


def repeated_conditions(runs: Sequence[RunModel]) -> tuple[str, ...]:
    """List the conditions that at least two runs show.

    Parameters
    ----------
    runs : sequence of RunModel
        The runs.

    Returns
    -------
    tuple of str
        In order of first appearance.
    """
    n_runs: dict[str, int] = {}
    for run in runs:
        for condition in dict.fromkeys(run.conditions):
            n_runs[condition] = n_runs.get(condition, 0) + 1
    return tuple(condition for condition, count in n_runs.items() if count > 1)


def check_repeats(runs: Sequence[RunModel], needing: Sequence[str]) -> None:
    """Refuse what needs repeats where there are none.

    Parameters
    ----------
    runs : sequence of RunModel
        The runs.
    needing : sequence of str
        What needs them, for the message.

    Raises
    ------
    InputError
        When no condition occurs in two runs.
    """
    if needing and not repeated_conditions(runs):
        shown = dict.fromkeys(condition for run in runs for condition in run.conditions)
        raise InputError(
            f"{' and '.join(needing)} is chosen by predicting other runs, but none of the "
            f"{len(shown)} conditions ({name_ids(shown, 3)}) occurs in two of the {len(runs)} "
            "run(s); leave it out, or give all runs together."
        )


# ------------------------------------------------------------------------------ prediction of runs


def prediction_errors(
    runs: Sequence[RunModel],
    shape: str,
    voxels: np.ndarray,
    components: Sequence[np.ndarray] | None = None,
    counts: Sequence[int] = (0,),
) -> tuple[np.ndarray, np.ndarray]:
    """Predict each run by the responses to conditions that the other runs give.

    Parameters
    ----------
    runs : sequence of RunModel
        At least two, with repeated conditions; events of other conditions are removed from their
        run together with the nuisance.
    shape : str
        Which regressors.
    voxels : ndarray of int, shape (n_voxels,)
        Columns of the series.
    components : sequence of ndarray, shape (n_volumes, n_components), optional
        Noise components of each run.
    counts : sequence of int
        How many of them the model of the other runs holds.

    Returns
    -------
    errors : ndarray, shape (n_counts, n_voxels)
        Squared errors of the prediction, over all runs. Noise components are no part of the
        prediction, so they help only where they make the responses better.
    sizes : ndarray, shape (n_voxels,)
        Sums of squares of what is predicted.

    References
    ----------
    Kay, Rokem, Winawer, Dougherty & Wandell (2013). GLMdenoise: a fast, automated technique for
    denoising task-based fMRI data. Frontiers in Neuroscience 7, 247.
    """
    repeated = repeated_conditions(runs)
    codes = {condition: number for number, condition in enumerate(repeated)}
    bases, tests, trained = [], [], []
    for number, run in enumerate(runs):
        events = run.regressors[shape]
        is_repeated = np.array([condition in codes for condition in run.conditions])
        of_condition = np.zeros((len(is_repeated), len(codes)))
        numbers = [codes[condition] for condition in run.conditions if condition in codes]
        of_condition[np.flatnonzero(is_repeated), numbers] = 1
        columns = events @ of_condition
        single = events[:, ~is_repeated]
        bases.append(basis_of(run.nuisance, single))
        tests.append(without(bases[-1], columns))
        of_counts = []
        for count in counts:
            noise = np.empty((len(events), 0))
            if components is not None:
                noise = components[number][:, :count]
            of_counts.append(without(basis_of(run.nuisance, single, noise), columns))
        trained.append(of_counts)
    solvers = _leave_one_out_solvers(trained)
    errors = np.zeros((len(counts), len(voxels)))
    sizes = np.zeros(len(voxels))
    for part in slabs(np.arange(len(voxels))):
        series = [without(basis, run.series[:, voxels[part]]) for basis, run in zip(bases, runs)]
        for row in range(len(counts)):
            products = [of[row].T @ own for of, own in zip(trained, series)]
            total = np.sum(products, axis=0)
            for test, own, product, solver in zip(tests, series, products, solvers[row]):
                responses = solver @ (total - product)
                residual = own - test @ responses
                errors[row, part] += np.einsum("ij,ij->j", residual, residual)
        for own in series:
            sizes[part] += np.einsum("ij,ij->j", own, own)
    return errors, sizes


def _leave_one_out_solvers(trained: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Invert the normal equations of all runs but one, for each number of components."""
    solvers = []
    for row in range(len(trained[0])):
        grams = [of_run[row].T @ of_run[row] for of_run in trained]
        total = np.sum(grams, axis=0)
        of_count = []
        for gram in grams:
            # a condition that a run hides behind its drifts gets no response, not a huge one
            inverse = np.linalg.pinv(total - gram, rcond=1e-8, hermitian=True)
            of_count.append(inverse)
        solvers.append(of_count)
    return solvers


# ---------------------------------------------------------------------------------- the three choices


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeChoice:
    """Shape of the hemodynamic response of each voxel.

    Parameters
    ----------
    names : tuple of str
        Shapes to choose from.
    chosen : ndarray of int, shape (n_voxels,)
        Position in `names`.
    r2 : ndarray, shape (n_names, n_voxels)
        Cross-validated share of variance that each explains.
    by_repeats : bool
        Whether conditions were told apart.
    """

    names: tuple[str, ...]
    chosen: np.ndarray
    r2: np.ndarray
    by_repeats: bool


def choose_shapes(runs: Sequence[RunModel]) -> ShapeChoice:
    """Choose the response of each voxel that predicts left-out runs best.

    Parameters
    ----------
    runs : sequence of RunModel
        At least two; all with the same responses.

    Returns
    -------
    ShapeChoice
        The choice.

    Raises
    ------
    InputError
        For a single run.

    Notes
    -----
    GLMsingle takes the shape with which single presentations fit the same data best. That fit has
    so many regressors that at low signal it follows the spectrum of the noise, and costs where the
    canonical shape is true. Here responses to conditions predict left-out runs; without repeated
    conditions the mean response to all events does. How often each shape occurs among the voxels is
    estimated along (by expectation maximization) and weighs the shapes of voxels that cannot tell.

    References
    ----------
    Prince, Charest, Kurzawski, Pyles, Tarr & Kay (2022). Improving the accuracy of single-trial
    fMRI response estimates using GLMsingle. eLife 11, e77599.
    """
    if len(runs) < 2:
        raise InputError(
            'a shape is chosen by predicting other runs, but there is one run; give several, or '
            'hrf="model" (--hrf model).'
        )
    by_repeats = bool(repeated_conditions(runs))
    weight = 1.0 if by_repeats else _MEAN_WEIGHT
    if not by_repeats:
        runs = [replace(run, conditions=("event",) * len(run.conditions)) for run in runs]
    names = tuple(runs[0].regressors)
    voxels = np.arange(runs[0].series.shape[1])
    n_volumes = sum(len(run.series) for run in runs)
    fits = np.zeros((len(names), len(voxels)))
    r2 = np.zeros((len(names), len(voxels)))
    for row, name in enumerate(names):
        errors, sizes = prediction_errors(runs, name, voxels)
        fits[row] = -0.5 * weight * n_volumes * np.log(errors[0])
        r2[row] = 1 - errors[0] / sizes
    fits[:, (r2 <= 0).all(axis=0)] = 0
    likelihoods = np.exp(fits - fits.max(axis=0))
    shares = np.full((len(names), 1), 1 / len(names))
    for _ in range(_EM_STEPS):
        posterior = likelihoods * shares
        posterior /= posterior.sum(axis=0)
        shares = posterior.mean(axis=1, keepdims=True)
    chosen = (likelihoods * shares).argmax(axis=0)
    return ShapeChoice(names=names, chosen=chosen, r2=r2, by_repeats=by_repeats)


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseChoice:
    """Noise regressors of each run.

    Parameters
    ----------
    components : tuple of ndarray, shape (n_volumes, n_noise)
        Orthonormal, orthogonal to the nuisance.
    n_pool : int
        Voxels that they come from.
    r2 : tuple of float
        Median over voxels that the task explains of the cross-validated share of variance, with 0,
        1, … regressors; empty where the number was given.
    """

    components: tuple[np.ndarray, ...]
    n_pool: int
    r2: tuple[float, ...] = ()


def choose_noise(
    runs: Sequence[RunModel], shapes: ShapeChoice, n_noise: int | str, max_noise: int
) -> NoiseChoice:
    """Take the principal components of voxels that the task does not explain.

    Parameters
    ----------
    runs : sequence of RunModel
        With repeated conditions.
    shapes : ShapeChoice
        The response of each voxel.
    n_noise : int or "auto"
        Number of components; ``"auto"``: the fewest that reach 95 % of the largest gain of the
        median R² over the voxels that the task explains with any number.
    max_noise : int
        Largest number that ``"auto"`` tries.

    Returns
    -------
    NoiseChoice
        The components.

    Raises
    ------
    InputError
        When the pool has fewer voxels than components are asked for, or a run too few volumes.

    Notes
    -----
    The pool are the voxels with a cross-validated R² of at most 0. Each time course has length 1
    after the nuisance is removed.

    References
    ----------
    Kay, Rokem, Winawer, Dougherty & Wandell (2013). GLMdenoise: a fast, automated technique for
    denoising task-based fMRI data. Frontiers in Neuroscience 7, 247.
    """
    explained = _r2_of_choice(runs, shapes)[0]
    pool = np.flatnonzero(explained <= 0)
    room = min(_free_volumes(run) for run in runs)
    most = min(len(pool), room)
    if isinstance(n_noise, int):
        if n_noise > most:
            raise InputError(
                f"{n_noise} noise regressors are asked for (n_noise, --n-noise), but there are "
                f"{len(pool)} voxels that the task does not explain and {room} volumes to spare; "
                "give fewer, or larger masks."
            )
        components = _principal_components(runs, pool, n_noise)
        return NoiseChoice(components=tuple(components), n_pool=len(pool))
    most = min(most, max_noise)
    components = _principal_components(runs, pool, most)
    r2 = _r2_of_choice(runs, shapes, components, range(most + 1))
    responsive = (r2 > 0).any(axis=0)
    number = 0
    medians = np.zeros(most + 1)
    if responsive.any():
        medians = np.median(r2[:, responsive], axis=1)
        gains = medians - medians[0]
        number = int(np.flatnonzero(gains >= _ENOUGH * gains.max())[0])
    return NoiseChoice(
        components=tuple(part[:, :number] for part in components),
        n_pool=len(pool),
        r2=tuple(medians.tolist()),
    )


def _r2_of_choice(
    runs: Sequence[RunModel],
    shapes: ShapeChoice,
    components: Sequence[np.ndarray] | None = None,
    counts: Sequence[int] = (0,),
) -> np.ndarray:
    """Compute the cross-validated R² with the shape of each voxel: (n_counts, n_voxels)."""
    r2 = np.zeros((len(counts), len(shapes.chosen)))
    for number in np.unique(shapes.chosen):
        voxels = np.flatnonzero(shapes.chosen == number)
        errors, sizes = prediction_errors(runs, shapes.names[number], voxels, components, counts)
        r2[:, voxels] = 1 - errors / sizes
    return r2


def _free_volumes(run: RunModel) -> int:
    """Count the volumes of a run that a model of single presentations leaves, but one."""
    n_volumes, n_nuisance = run.nuisance.shape
    return max(0, n_volumes - n_nuisance - len(run.conditions) - 1)


def _principal_components(
    runs: Sequence[RunModel], pool: np.ndarray, number: int
) -> list[np.ndarray]:
    components = []
    for run in runs:
        basis = basis_of(run.nuisance)
        products = np.zeros((len(run.series), len(run.series)))
        for part in slabs(pool):
            series = without(basis, run.series[:, part])
            series /= np.linalg.norm(series, axis=0)
            products += series @ series.T
        vectors = np.linalg.eigh(products)[1]
        components.append(vectors[:, ::-1][:, :number])
    return components


# -------------------------------------------------------------------------------------- shrinkage


@checked
def fractional_ridge(
    design: np.ndarray, data: np.ndarray, fractions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve ridge regression for given lengths of the coefficients.

    Parameters
    ----------
    design : ndarray, shape (n_volumes, n_regressors)
        Regressors, linearly independent.
    data : ndarray, shape (n_volumes, n_voxels)
        Time courses.
    fractions : ndarray, shape (n_fractions,)
        Lengths of the coefficients as shares of that of the least-squares coefficients, in (0, 1].

    Returns
    -------
    betas : ndarray, shape (n_fractions, n_regressors, n_voxels)
        Coefficients.
    penalties : ndarray, shape (n_fractions, n_voxels)
        The ridge penalty of each.

    References
    ----------
    Rokem & Kay (2020). Fractional ridge regression: a fast, interpretable reparameterization of
    ridge regression. GigaScience 9, giaa133.

    Examples
    --------
    >>> betas, penalties = fractional_ridge(np.eye(3), np.ones((3, 1)), np.array([0.5, 1.0]))
    >>> betas[:, :, 0].round(3).tolist(), penalties.round(3).tolist()
    ([[0.5, 0.5, 0.5], [1.0, 1.0, 1.0]], [[1.0], [0.0]])
    """
    wrong = fractions[(fractions <= 0) | (fractions > 1)]
    if len(wrong):
        raise InputError(f"fractions are {name_ids(wrong)}; give numbers above 0 and up to 1.")
    left, sizes, right = np.linalg.svd(design, full_matrices=False)
    coordinates = left.T @ data / sizes[:, None]
    penalties = _penalties(sizes, coordinates, fractions)
    betas = np.empty((len(fractions), design.shape[1], data.shape[1]))
    for row, penalty in enumerate(penalties):
        betas[row] = right.T @ _shrunken(sizes, coordinates, penalty)
    return betas, penalties


def _shrunken(sizes: np.ndarray, coordinates: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Shrink least-squares coordinates along the singular vectors, a penalty a voxel."""
    squares = sizes[:, None] ** 2
    return coordinates * (squares / (squares + penalties))


def _penalties(sizes: np.ndarray, coordinates: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Find the penalties at which the coordinates have shares of their length.

    The length falls with the penalty. It is computed on a grid and interpolated in the logarithm of
    the penalty, which misses a length by less than 0.001.
    """
    squares = sizes**2
    grid = np.geomspace(1e-4 * squares.min(), 1e5 * squares.max(), _GRID)
    weights = squares / (squares + grid[:, None])
    energy = coordinates**2
    energy /= energy.sum(axis=0)
    lengths = np.sqrt(weights**2 @ energy)
    logarithms = np.empty((len(fractions), coordinates.shape[1]))
    for voxel, length in enumerate(lengths.T):
        logarithms[:, voxel] = np.interp(fractions, length[::-1], np.log(grid[::-1]))
    penalties = np.exp(logarithms)
    penalties[fractions >= 1] = 0
    return penalties


@dataclass(frozen=True, kw_only=True, eq=False)
class Shrinkage:
    """Shrunken betas of single presentations.

    Parameters
    ----------
    betas : ndarray, shape (n_events, n_voxels)
        Scale and mean of each voxel are those of its least-squares betas.
    fractions : ndarray, shape (n_voxels,)
        Length before the scale was restored, as a share of the least-squares betas'.
    gain : ndarray, shape (n_voxels,)
        Share of the error of predicting other runs that shrinkage removed; 0 where the fraction was
        given.
    """

    betas: np.ndarray
    fractions: np.ndarray
    gain: np.ndarray


def shrink_presentations(
    runs: Sequence[RunModel],
    shapes: ShapeChoice,
    components: Sequence[np.ndarray],
    shrinkage: float | str,
) -> Shrinkage:
    """Shrink the responses of each voxel to single presentations by ridge regression.

    Parameters
    ----------
    runs : sequence of RunModel
        The runs; one penalty a voxel for all.
    shapes : ShapeChoice
        The response of each voxel.
    components : sequence of ndarray, shape (n_volumes, n_noise)
        Noise regressors of each run.
    shrinkage : float or "auto"
        The fraction, or ``"auto"``: of `FRACTIONS` the one with which the mean shrunken response to
        a condition in the other runs is nearest to the least-squares response to a presentation.

    Returns
    -------
    Shrinkage
        Betas, in order of runs and events, fractions and gain.

    Raises
    ------
    InputError
        When noise regressors leave too few volumes for the presentations.

    Notes
    -----
    Scale and mean are restored by regressing the least-squares betas of a voxel on its shrunken
    ones, as GLMsingle does.

    References
    ----------
    Prince, Charest, Kurzawski, Pyles, Tarr & Kay (2022). Improving the accuracy of single-trial
    fMRI response estimates using GLMsingle. eLife 11, e77599.
    """
    n_events = sum(len(run.conditions) for run in runs)
    n_voxels = runs[0].series.shape[1]
    betas = np.empty((n_events, n_voxels))
    fractions = np.ones(n_voxels)
    gain = np.zeros(n_voxels)
    averaging = _other_run_means(runs)
    for number in np.unique(shapes.chosen):
        model = _PresentationModel(runs, shapes.names[number], components)
        for part in slabs(np.flatnonzero(shapes.chosen == number)):
            coordinates = model.coordinates([run.series[:, part] for run in runs])
            plain = model.betas(coordinates)
            if shrinkage == "auto":
                found = _best_fractions(model, coordinates, plain, averaging)
                shrunken, fractions[part], gain[part] = found
            else:
                share = np.array([float(shrinkage)])
                penalties = _penalties(model.sizes, coordinates, share)
                shrunken = model.betas(_shrunken(model.sizes, coordinates, penalties[0]))
                fractions[part] = share
            betas[:, part] = _restored(shrunken, plain)
    return Shrinkage(betas=betas, fractions=fractions, gain=gain)


class _PresentationModel:
    """Singular vectors of the single presentations of all runs under one response."""

    def __init__(
        self, runs: Sequence[RunModel], shape: str, components: Sequence[np.ndarray]
    ) -> None:
        self.parts = []
        for run, noise in zip(runs, components, strict=True):
            events = without(basis_of(run.nuisance, noise), run.regressors[shape])
            left, sizes, right = np.linalg.svd(events, full_matrices=False)
            if sizes[-1] <= _SINGULAR * sizes[0]:
                raise InputError(
                    f"{len(run.conditions)} presentations cannot be told apart in a run of "
                    f"{len(events)} volumes with {noise.shape[1]} noise regressors; give fewer "
                    "(n_noise, --n-noise) or confounds (columns, --columns)."
                )
            self.parts.append((left, sizes, right))
        self.sizes = np.concatenate([sizes for _, sizes, _ in self.parts])

    def coordinates(self, series: Sequence[np.ndarray]) -> np.ndarray:
        """Give least-squares coordinates along the singular vectors: (n_events, n_voxels)."""
        of_runs = []
        for (left, sizes, _), own in zip(self.parts, series, strict=True):
            of_runs.append(left.T @ own / sizes[:, None])
        return np.concatenate(of_runs)

    def betas(self, coordinates: np.ndarray) -> np.ndarray:
        """Turn coordinates into betas: (n_events, n_voxels)."""
        of_runs = []
        first = 0
        for _, sizes, right in self.parts:
            last = first + len(sizes)
            of_runs.append(right.T @ coordinates[first:last])
            first = last
        return np.concatenate(of_runs)


def _other_run_means(runs: Sequence[RunModel]) -> Any:
    """Build the sparse matrix that averages a condition over its presentations in other runs."""
    from scipy.sparse import csr_array

    conditions = np.array([condition for run in runs for condition in run.conditions])
    run_of = np.repeat(np.arange(len(runs)), [len(run.conditions) for run in runs])
    rows, columns, weights = [], [], []
    for row, (condition, run) in enumerate(zip(conditions, run_of)):
        others = np.flatnonzero((conditions == condition) & (run_of != run))
        rows += [row] * len(others)
        columns += others.tolist()
        weights += [1 / max(1, len(others))] * len(others)
    size = len(conditions)
    return csr_array((weights, (rows, columns)), shape=(size, size))


def _best_fractions(
    model: _PresentationModel, coordinates: np.ndarray, plain: np.ndarray, averaging: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the fraction of each voxel; returns shrunken betas, fractions and the gain."""
    is_repeated = averaging.sum(axis=1) > 0
    targets = plain[is_repeated]
    targets = targets - targets.mean(axis=0)
    penalties = _penalties(model.sizes, coordinates, FRACTIONS)
    best = plain.copy()
    chosen = np.ones(plain.shape[1])
    least = np.full(plain.shape[1], np.inf)
    unshrunken = least
    # from no shrinkage on: of equally good fractions the largest
    for fraction, penalty in zip(FRACTIONS[::-1], penalties[::-1]):
        betas = model.betas(_shrunken(model.sizes, coordinates, penalty))
        predicted = (averaging @ betas)[is_repeated]
        predicted -= predicted.mean(axis=0)
        errors = ((predicted - targets) ** 2).sum(axis=0)
        if fraction == 1:
            unshrunken = errors
        is_better = errors < least
        least = np.where(is_better, errors, least)
        chosen[is_better] = fraction
        best[:, is_better] = betas[:, is_better]
    return best, chosen, 1 - least / unshrunken


def _restored(shrunken: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """Give shrunken betas the scale and mean that fit the least-squares betas best."""
    centered = shrunken - shrunken.mean(axis=0)
    means = plain.mean(axis=0)
    covariances = np.einsum("ij,ij->j", centered, plain)
    variances = np.einsum("ij,ij->j", centered, centered)
    slopes = np.ones(len(variances))
    np.divide(covariances, variances, out=slopes, where=variances > 0)
    return means + slopes * centered


# ---------------------------------------------------------------------------- what others must know


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
    words: list[str] = []
    if isinstance(record, Mapping):
        own = record.get("chosen_on_all_runs")
        if isinstance(own, (list, tuple)):
            words += [str(word) for word in own]
        parts = list(record.values())
    elif isinstance(record, (list, tuple)):
        parts = list(record)
    else:
        parts = []
    for part in parts:
        words += chosen_on_all_runs(part)
    return tuple(sorted(set(words)))


def same_shape(hrf_model: str, n_voxels: int) -> ShapeChoice:
    """Give all voxels one response.

    Parameters
    ----------
    hrf_model : str
        A key of `fmri.hrf.CANONICAL`.
    n_voxels : int
        Number of voxels.

    Returns
    -------
    ShapeChoice
        With no R².
    """
    if hrf_model not in CANONICAL:
        raise unknown_name("hrf_model", hrf_model, CANONICAL)
    return ShapeChoice(
        names=(hrf_model,),
        chosen=np.zeros(n_voxels, dtype=np.int64),
        r2=np.zeros((1, n_voxels)),
        by_repeats=False,
    )
