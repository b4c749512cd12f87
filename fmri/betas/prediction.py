"""What repeats of conditions choose: a response for each voxel, and noise regressors.

Responses to conditions in some runs predict other runs; what predicts best is chosen. The idea is
that of GLMdenoise (Kay et al., 2013) and GLMsingle (Prince et al., 2022), not their code.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fmri.betas.hrf import CANONICAL, HRF_LIBRARY, LIBRARY_ENDS
from neurometamer.errors import InputError, name_ids, unknown_name

_SLAB = 1000
"""Voxels that are worked on at a time."""
_EM_STEPS = 100
_MEAN_WEIGHT = 0.3
"""Weight of a volume where only the mean response of all events tells shapes apart; what differs
between conditions is then part of the noise, and slow."""
_ENOUGH = 0.95


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
    n_voxels = len(voxels)
    for first in range(0, n_voxels, _SLAB):
        last = first + _SLAB
        part = voxels[first:last]
        yield part


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
    joined = np.column_stack(columns)
    basis, _ = np.linalg.qr(joined)
    return basis


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
    weights = basis.T @ columns
    explained = basis @ weights
    return columns - explained


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
    shown: list[str] = []
    for run in runs:
        shown += dict.fromkeys(run.conditions)
    counts = Counter(shown)
    return tuple(condition for condition in counts if counts[condition] > 1)


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


def other_run_means(runs: Sequence[RunModel]) -> Any:
    """Build the matrix that averages a condition over its presentations in other runs.

    Parameters
    ----------
    runs : sequence of RunModel
        The runs.

    Returns
    -------
    scipy.sparse.csr_array, shape (n_events, n_events)
        A row an event, in order of runs; zeros where no other run shows its condition.
    """
    from scipy.sparse import csr_array

    names: list[str] = []
    numbers: list[int] = []
    for number, run in enumerate(runs):
        names += run.conditions
        numbers += [number] * len(run.conditions)
    conditions = np.array(names)
    run_of = np.array(numbers)
    columns: list[int] = []
    weights: list[float] = []
    ends = [0]
    for condition, number in zip(conditions, run_of, strict=True):
        is_other = (conditions == condition) & (run_of != number)
        others = np.flatnonzero(is_other).tolist()
        columns += others
        if others:
            weights += [1 / len(others)] * len(others)
        ends.append(len(columns))
    size = len(conditions)
    return csr_array((weights, columns, ends), shape=(size, size))


# ------------------------------------------------------------------------------- prediction of runs


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
    bases, tests, trained = [], [], []
    for number, run in enumerate(runs):
        columns, single = condition_regressors(run, shape, repeated)
        basis = basis_of(run.nuisance, single)
        bases.append(basis)
        tests.append(without(basis, columns))
        of_counts = []
        for count in counts:
            noise = np.empty((len(columns), 0))
            if components is not None:
                noise = components[number][:, :count]
            with_noise = basis_of(run.nuisance, single, noise)
            of_counts.append(without(with_noise, columns))
        trained.append(of_counts)
    # the normal equations of all runs but one, inverted, for each number of components
    solvers = []
    for row in range(len(counts)):
        grams = [of_run[row].T @ of_run[row] for of_run in trained]
        total = np.sum(grams, axis=0)
        # a condition that a run hides behind its drifts gets no response, not a huge one
        inverses = [np.linalg.pinv(total - gram, rcond=1e-8, hermitian=True) for gram in grams]
        solvers.append(inverses)
    errors = np.zeros((len(counts), len(voxels)))
    sizes = np.zeros(len(voxels))
    for part in slabs(np.arange(len(voxels))):
        series = []
        for basis, run in zip(bases, runs, strict=True):
            own = without(basis, run.series[:, voxels[part]])
            series.append(own)
            sizes[part] += column_sums_of_squares(own)
        for row in range(len(counts)):
            products = [of_run[row].T @ own for of_run, own in zip(trained, series)]
            total = np.sum(products, axis=0)
            for test, own, product, solver in zip(tests, series, products, solvers[row]):
                responses = solver @ (total - product)
                residual = own - test @ responses
                errors[row, part] += column_sums_of_squares(residual)
    return errors, sizes


def column_sums_of_squares(columns: np.ndarray) -> np.ndarray:
    """Sum the squares of each column.

    Parameters
    ----------
    columns : ndarray, shape (n_rows, n_columns)
        Any numbers.

    Returns
    -------
    ndarray, shape (n_columns,)
        The sums.
    """
    return np.einsum("ij,ij->j", columns, columns)


def condition_regressors(
    run: RunModel, shape: str, conditions: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Add up the regressors of each condition; events of other conditions stay single.

    Parameters
    ----------
    run : RunModel
        The run.
    shape : str
        Which regressors.
    conditions : sequence of str
        Conditions whose events are added up.

    Returns
    -------
    columns : ndarray, shape (n_volumes, n_conditions)
        Zeros for conditions that the run does not show.
    single : ndarray, shape (n_volumes, n_events)
        Regressors of the events of other conditions.
    """
    codes = {condition: number for number, condition in enumerate(conditions)}
    events = run.regressors[shape]
    columns = np.zeros((len(events), len(codes)))
    single = [np.empty((len(events), 0))]
    for condition, regressor in zip(run.conditions, events.T, strict=True):
        if condition in codes:
            number = codes[condition]
            columns[:, number] += regressor
        else:
            single.append(regressor)
    return columns, np.column_stack(single)


# -------------------------------------------------------------------------------- the three choices


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

    def groups(self) -> Iterator[tuple[str, np.ndarray]]:
        """Give the voxels of each shape that any voxel has.

        Yields
        ------
        name : str
            The shape.
        voxels : ndarray of int
            Their numbers.
        """
        for number, name in enumerate(self.names):
            is_own = self.chosen == number
            voxels = np.flatnonzero(is_own)
            if len(voxels):
                yield name, voxels

    def record(self) -> dict[str, Any]:
        """Say which shapes were chosen, and the R² of other runs with them and with Glover's.

        Returns
        -------
        dict
            JSON-able.

        Warns
        -----
        UserWarning
            When most voxels that events explain have a shape at the ends of the library.
        """
        counts = np.bincount(self.chosen, minlength=len(self.names)).tolist()
        used = {name: count for name, count in zip(self.names, counts) if count}
        glover = list(HRF_LIBRARY.values()).index(CANONICAL["glover"])
        explained = self.r2.max(axis=0) > 0
        record: dict[str, Any] = {
            "n_voxels": used,
            "chosen_by": "responses to conditions" if self.by_repeats else "the mean response",
            "n_explained": int(explained.sum()),
        }
        if explained.any():
            own = self.r2[self.chosen, np.arange(len(self.chosen))]
            record["r2"] = quartiles(own[explained])
            record["r2_glover"] = quartiles(self.r2[glover, explained])
        names = np.array(self.names)[self.chosen[explained]]
        n_at_end = sum(name.startswith(LIBRARY_ENDS) for name in names.tolist())
        record["n_at_end"] = n_at_end
        if n_at_end > len(names) / 2:
            warnings.warn(
                f"{n_at_end} of the {len(names)} voxels that events explain have the earliest or "
                "latest responses of the library; check onsets, TR and slice times.",
                stacklevel=2,
            )
        return record


def quartiles(values: np.ndarray) -> list[float]:
    """Give the quartiles of some numbers, for records.

    Parameters
    ----------
    values : ndarray
        One number a voxel.

    Returns
    -------
    list of float
        Lower quartile, median and upper quartile, to six decimals.
    """
    shares = [0.25, 0.5, 0.75]
    quantiles = np.quantile(values, shares)
    rounded = np.round(quantiles, 6)
    return rounded.tolist()


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
            "a shape is chosen by predicting other runs, but there is one run; give several, or "
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

    def record(self) -> dict[str, Any]:
        """Say how many there are, where they come from, and what more or fewer would explain.

        Returns
        -------
        dict
            JSON-able.
        """
        return {
            "n_regressors": self.components[0].shape[1],
            "n_pool": self.n_pool,
            "median_r2": np.round(self.r2, 6).tolist(),
        }


Group = tuple[Sequence[RunModel], ShapeChoice]
"""Runs with the time courses of some voxels, and the responses of these."""


def choose_noise(groups: Sequence[Group], n_noise: int | str, max_noise: int) -> NoiseChoice:
    """Take the principal components of voxels that the task does not explain.

    Parameters
    ----------
    groups : sequence of (sequence of RunModel, ShapeChoice)
        Runs with repeated conditions, and the response of each voxel: first of the voxels whose
        betas are estimated, then of others that the components may come from, too.
    n_noise : int or "auto"
        Number of components; ``"auto"``: the fewest that reach 95 % of the largest gain of the
        median R² over the voxels of the first group that the task explains with any number.
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

    Warns
    -----
    UserWarning
        When ``"auto"`` has no voxel or no volume for any.

    Notes
    -----
    The pool are the voxels with a cross-validated R² of at most 0. Each time course has length 1
    after the nuisance is removed.

    References
    ----------
    Kay, Rokem, Winawer, Dougherty & Wandell (2013). GLMdenoise: a fast, automated technique for
    denoising task-based fMRI data. Frontiers in Neuroscience 7, 247.
    """
    runs, shapes = groups[0]
    pools = []
    for members, chosen in groups:
        explained = _r2_of_choice(members, chosen)[0]
        pools.append(np.flatnonzero(explained <= 0))
    n_pool = sum(map(len, pools))
    room = min(len(run.series) for run in runs)
    for run in runs:
        n_volumes, n_nuisance = run.nuisance.shape
        left = n_volumes - n_nuisance - len(run.conditions) - 1
        room = min(room, max(0, left))
    most = min(n_pool, room)
    there = f"there are {n_pool} voxels that the task does not explain and {room} volumes to spare"
    if isinstance(n_noise, int):
        if n_noise > most:
            raise InputError(
                f"{n_noise} noise regressors are asked for (n_noise, --n-noise), but {there}; give "
                "fewer, or a brain mask (brain_mask, --brain-mask), from whose voxels they come."
            )
        components = _principal_components(groups, pools, n_noise)
        return NoiseChoice(components=tuple(components), n_pool=n_pool)
    if not most:
        warnings.warn(
            f"no noise regressors: {there}. Give a brain mask (brain_mask, --brain-mask), from "
            "whose voxels they come, or n_noise=0 (--n-noise 0).",
            stacklevel=2,
        )
    most = min(most, max_noise)
    components = _principal_components(groups, pools, most)
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
        n_pool=n_pool,
        r2=tuple(medians.tolist()),
    )


def _r2_of_choice(
    runs: Sequence[RunModel],
    shapes: ShapeChoice,
    components: Sequence[np.ndarray] | None = None,
    counts: Sequence[int] = (0,),
) -> np.ndarray:
    """Compute the cross-validated R² with the shape of each voxel: (n_counts, n_voxels)."""
    n_voxels = len(shapes.chosen)
    r2 = np.zeros((len(counts), n_voxels))
    for name, voxels in shapes.groups():
        errors, sizes = prediction_errors(runs, name, voxels, components, counts)
        r2[:, voxels] = 1 - errors / sizes
    return r2


def _principal_components(
    groups: Sequence[Group], pools: Sequence[np.ndarray], number: int
) -> list[np.ndarray]:
    components = []
    for same_run in zip(*[members for members, _ in groups], strict=True):
        basis = basis_of(same_run[0].nuisance)
        products = np.zeros((len(basis), len(basis)))
        for run, pool in zip(same_run, pools, strict=True):
            for part in slabs(pool):
                series = without(basis, run.series[:, part])
                lengths = np.linalg.norm(series, axis=0)
                series /= np.where(lengths > 0, lengths, 1.0)
                products += series @ series.T
        vectors = np.linalg.eigh(products)[1]
        components.append(vectors[:, ::-1][:, :number])
    return components


def same_shape(hrf_model: str, n_voxels: int) -> ShapeChoice:
    """Give all voxels one response.

    Parameters
    ----------
    hrf_model : str
        A key of `fmri.betas.hrf.CANONICAL`.
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
