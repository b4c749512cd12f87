"""Questions of a searchlight, and the responses of places that they are asked about.

A question is the similarity of each place's RDM to a model, of two image types, or of two halves.
Responses are means over presentations, or sums of single runs for crossnobis distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.rsa.compute import MIN_CONDITIONS, check_rdms, match_ids, representation_name
from neurometamer.rsa.noise import (
    SHRINKAGE,
    check_folds,
    crossnobis_of_sums,
    estimate_noise,
    no_noise,
    residuals_of,
    sums_by_fold,
)
from neurometamer.rsa.rdms import STIMULI, condition_ids, name_pairs
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns
from fmri.betas.single_trials import check_independent_runs

# ------------------------------------------------------------------------------- responses of runs


NOISE = ("none", *SHRINKAGE)
"""What normalizes voxels of a searchlight: nothing, or the noise of its own voxels."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class RunResponses:
    """Responses of each run, for crossnobis distances.

    Parameters
    ----------
    names : tuple of str
        Conditions.
    folds : tuple of str
        Runs, or what else tells independent parts apart.
    sums : ndarray, shape (n_folds, n_conditions, n_places)
        Sums over all presentations.
    counts : ndarray, shape (n_folds, n_conditions)
        Presentations.
    residuals : ndarray, shape (n_observations, n_places)
        Presentations minus their condition's mean; no rows where there is no noise to normalize by.
    dof : int
        Degrees of freedom of the residuals.
    present : ndarray of bool, shape (n_places,)
        Places with data, and with noise where it normalizes.
    noise : str
        One of `NOISE`.
    """

    names: tuple[str, ...]
    folds: tuple[str, ...]
    sums: np.ndarray
    counts: np.ndarray
    residuals: np.ndarray
    dof: int
    present: np.ndarray
    noise: str

    @property
    def shape(self) -> tuple[int, int]:
        """Give the numbers of conditions and of places.

        Returns
        -------
        tuple of int
            Numbers of conditions and of places.
        """
        n_names = len(self.names)
        n_places = self.sums.shape[2]
        return n_names, n_places

    def take(self, rows: Sequence[int] | np.ndarray) -> RunResponses:
        """Keep some conditions, in this order; noise is of all.

        Parameters
        ----------
        rows : sequence of int
            Positions of the conditions.

        Returns
        -------
        RunResponses
            Responses to these conditions.

        Raises
        ------
        InputError
            When one of them is in one fold only.
        """
        index = np.asarray(rows, dtype=int)
        names = tuple(self.names[i] for i in index)
        counts = self.counts[:, index]
        check_folds(counts, names, self.folds, "searchlight")
        sums = self.sums[:, index]
        return replace(self, names=names, sums=sums, counts=counts)


@checked
def run_responses(
    patterns: Patterns, responses: np.ndarray, *, folds: str = "run", noise: str = "shrinkage_diag"
) -> RunResponses:
    """Arrange single presentations for a crossnobis searchlight.

    Parameters
    ----------
    patterns : Patterns
        Patterns whose observations have the columns condition and `folds`.
    responses : ndarray, shape (n_observations, n_places)
        Response to each observation (`place_responses`); NaN in places without data.
    folds : str
        Column of the observations that tells independent parts apart: ``"run"``,
        ``"presentation"``, ``"session"``.
    noise : str
        One of `NOISE`; estimated in each searchlight, from its own voxels alone. ``"none"`` and
        ``"diag"`` are fast.

    Returns
    -------
    RunResponses
        Responses for `model_questions` and `image_type_question`, in place of mean responses, and
        `searchlight_rdms`. Places whose responses never vary within a condition have no noise to be
        normalized by and count as without data.

    Raises
    ------
    InputError
        For an unknown name, fewer than 2 folds, no condition presented twice, or betas of which
        something was chosen on all runs together (`fmri.SingleTrialOptions`).

    Examples
    --------
    >>> import pandas as pd
    >>> from fmri import Patterns
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> random = np.random.default_rng(0)
    >>> patterns = Patterns(
    ...     values=random.normal(size=(8, 5)),
    ...     observations=pd.DataFrame(
    ...         {
    ...             "condition": ids * 2,
    ...             "presentation": [1] * 4 + [2] * 4,
    ...             "run": ["1"] * 4 + ["2"] * 4,
    ...             "session": "",
    ...         }
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(5), "j": 0, "k": 0}),
    ... )
    >>> responses = run_responses(patterns, patterns.values, noise="none")
    >>> responses.shape, responses.folds
    ((4, 5), ('1', '2'))
    """
    if noise not in NOISE:
        raise unknown_name("noise", noise, NOISE)
    if folds not in patterns.observations.columns:
        raise unknown_name("column of the observations", folds, patterns.observations.columns)
    check_independent_runs(patterns.provenance, "searchlight")
    values = np.asarray(responses, dtype=np.float64)
    if values.shape[0] != len(patterns.observations):
        raise InputError(
            f"{values.shape[0]} responses for {len(patterns.observations)} observations; give one "
            "row each."
        )
    conditions = patterns.observations["condition"].astype(str).tolist()
    fold_of = patterns.observations[folds].tolist()
    sums, counts, parts = sums_by_fold(values, conditions, fold_of, patterns.conditions)
    if len(parts) < 2:
        raise InputError(
            f"crossnobis needs at least two folds; the column '{folds}' holds one, '{parts[0]}'; "
            "give another column."
        )
    present = np.asarray(np.isfinite(values).all(axis=0))
    residuals = np.zeros((0, values.shape[1]))
    dof = 0
    if noise != "none":
        of_present, dof = residuals_of(values[:, present], conditions)
        residuals = np.zeros(values.shape)
        residuals[:, present] = of_present
        size = np.einsum("ij,ij->j", residuals, residuals)
        rounding = 1e-20 * np.einsum("ij,ij->j", values, values)
        present &= size > rounding  # NaN is not above
    return RunResponses(
        names=tuple(patterns.conditions),
        folds=tuple(parts),
        sums=sums,
        counts=counts,
        residuals=residuals,
        dof=dof,
        present=present,
        noise=noise,
    )


class RunTable:
    """Makes crossnobis RDMs of many centers.

    Parameters
    ----------
    runs : RunResponses
        Each condition is in two folds at least.
    present : ndarray of bool, shape (n_places,)
        Places that are used.
    """

    def __init__(self, runs: RunResponses, present: np.ndarray) -> None:
        check_folds(runs.counts, runs.names, runs.folds, "searchlight")
        self.runs = runs
        is_complete = bool((runs.counts > 0).all())
        self.is_one_product = is_complete and runs.noise in ("none", "diag")
        if not self.is_one_product:
            return
        n_conditions, n_places = runs.shape
        width = len(runs.folds) * n_conditions
        means = runs.sums / runs.counts[:, :, np.newaxis]
        other_counts = runs.counts.sum(axis=0) - runs.counts
        other_means = runs.sums.sum(axis=0) - runs.sums
        other_means /= other_counts[:, :, np.newaxis]
        scale = np.ones(n_places)
        if runs.noise == "diag":
            centered = runs.residuals - runs.residuals.mean(axis=0)
            variances = np.einsum("ij,ij->j", centered, centered) / runs.dof
            scale = np.zeros(n_places)
            np.divide(1, np.sqrt(variances), out=scale, where=variances > 0)
        self.sides = []
        for side in (other_means, means):
            # a row a place (folds x conditions), so that gathering reads whole rows; the last,
            # zeros, is no neighbor
            scaled = side.reshape(width, n_places) * scale
            table = np.zeros((n_places + 1, width))
            table[:-1][present] = scaled.T[present]
            self.sides.append(table)

    def rdms(self, index: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Compute the RDM of each center.

        Parameters
        ----------
        index : ndarray of int, shape (n_centers, n_neighbors)
            Places around each center; -1 for none.
        sizes : ndarray of int, shape (n_centers,)
            Numbers of neighbors.

        Returns
        -------
        ndarray, shape (n_centers, n_pairs)
            Equal to `crossnobis_rdm` of the neighbors; NaN without any.
        """
        if not self.is_one_product:
            # the noise is estimated anew around each center, or folds are missing
            runs = self.runs
            n = len(runs.names)
            rdms = np.full((len(index), n * (n - 1) // 2), np.nan)
            for rdm, row in zip(rdms, index):
                places = row[row >= 0]
                if not places.size:
                    continue
                noise = no_noise(len(places))
                if runs.noise != "none":
                    residuals = runs.residuals[:, places]
                    noise = estimate_noise(residuals, method=runs.noise, dof=runs.dof)
                rdm[:] = crossnobis_of_sums(runs.sums[:, :, places], runs.counts, noise)
            return rdms
        n_centers = len(index)
        n = len(self.runs.names)
        # (centers, neighbors x folds, n)
        left, right = (side[index].reshape(n_centers, -1, n) for side in self.sides)
        products = left.transpose(0, 2, 1) @ right
        squares = np.einsum("cii->ci", products)
        first, second = np.triu_indices(n, 1)
        distances = (
            squares[:, first]
            + squares[:, second]
            - products[:, first, second]
            - products[:, second, first]
        )
        size = sizes[:, np.newaxis]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = distances / size / len(self.runs.folds)
        return np.where(size > 0, means, np.nan)


# ---------------------------------------------------------------------------------------- questions


Responses = np.ndarray | RunResponses
"""Mean responses (n_conditions, n_places), or those of runs."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """Similarity of each place's RDM to a model, or to another RDM of the place.

    Parameters
    ----------
    name : str
        Name of the map and its file.
    about : str
        Description of the map.
    ids : tuple of str
        Conditions, in the order of the rows.
    responses : ndarray, shape (n_conditions, n_places), or RunResponses
        Responses of each place; NaN in places without data.
    model : ndarray, shape (n_pairs,), optional
        Condensed RDM over `ids`; or give `others`.
    others : ndarray, shape (n_conditions, n_places), or RunResponses, optional
        Responses whose RDM is compared with that of `responses`.
    """

    name: str
    about: str
    ids: tuple[str, ...]
    responses: Responses
    model: np.ndarray | None = None
    others: Responses | None = None

    def __post_init__(self) -> None:
        if len(self.ids) < MIN_CONDITIONS:
            raise InputError(
                f"map '{self.name}' has {len(self.ids)} condition(s) ({name_ids(self.ids)}); "
                f"at least {MIN_CONDITIONS} are needed."
            )
        if (self.model is None) == (self.others is None):
            given = "neither" if self.model is None else "both"
            raise InputError(
                f"map '{self.name}' has {given} of a model and other responses; give one of them."
            )
        if again := duplicates(self.ids):
            raise InputError(
                f"map '{self.name}': repeated condition(s) {name_ids(again)}; give each once."
            )
        _check_rows(self.ids, self.responses, f"map '{self.name}': ")
        if self.others is not None:
            _check_rows(self.ids, self.others, f"map '{self.name}': ")
        model = self.model
        if model is None:
            return
        first, second = np.triu_indices(len(self.ids), 1)
        if np.shape(model) != first.shape:
            raise InputError(
                f"map '{self.name}': the model has the shape {np.shape(model)}; {len(self.ids)} "
                f"conditions have {first.size} pairs: give one number each."
            )
        bad = np.flatnonzero(~np.isfinite(model))
        if bad.size:
            pairs = name_pairs(first[bad], second[bad], self.ids)
            raise InputError(
                f"map '{self.name}': the model is NaN or infinite between {pairs}; give numbers, "
                "or "
                "leave those conditions out."
            )
        if np.ptp(model) == 0:
            raise InputError(
                f"map '{self.name}': all dissimilarities of the model are equal, so nothing "
                "correlates with it; give another model."
            )


def place_responses(patterns: Patterns, n_places: int, places: np.ndarray) -> np.ndarray:
    """Spread responses of voxels over the places of a map.

    Parameters
    ----------
    patterns : Patterns
        Responses.
    n_places : int
        Places of the map.
    places : ndarray of int, shape (n_voxels,)
        Place of each voxel.

    Returns
    -------
    ndarray, shape (n_observations, n_places)
        NaN where there is no voxel.
    """
    shape = (len(patterns), n_places)
    responses = np.full(shape, np.nan)
    responses[:, places] = patterns.values
    return responses


@checked
def model_questions(
    conditions: Sequence[str], responses: Responses, models: RDMs
) -> list[Question]:
    """Ask how similar the RDM of each place is to each model RDM.

    Parameters
    ----------
    conditions : sequence of str
        Names of the rows.
    responses : ndarray, shape (n_conditions, n_places), or RunResponses
        Mean responses, or for crossnobis those of runs (`run_responses`).
    models : rsatoolbox.rdm.RDMs
        Over exactly these conditions, in any order.

    Returns
    -------
    list of Question
        One a model RDM.

    Raises
    ------
    InputError
        Listing conditions that only one side holds; also for a constant RDM or two of one name.

    Examples
    --------
    >>> from neurometamer import compute_rdms
    >>> random = np.random.default_rng(0)
    >>> ids, features = ["cat", "dog", "cup", "car"], random.normal(size=(4, 9))
    >>> models = compute_rdms(features, ids=ids)
    >>> model_questions(ids, random.normal(size=(4, 27)), models)[0].about
    'RDM of the place with model RDM RDM_0'
    """
    check_rdms(models, "the model RDMs")
    _check_rows(conditions, responses)
    ids = condition_ids(models)
    rows = match_ids(conditions, ids, "the patterns", "the model RDM")
    in_order = _rows(responses, rows)
    names = []
    for number in range(models.n_rdm):
        name = representation_name(models, number)
        names.append(name.replace(" ", "_"))
    if again := duplicates(names):
        raise InputError(
            f"more than one model RDM is called {name_ids(again)}; give each a name of its own."
        )
    flat = [name for name, rdm in zip(names, models.dissimilarities) if np.ptp(rdm) == 0]
    if flat:
        raise InputError(
            f"all dissimilarities are equal in {name_ids(flat)}; leave those model RDMs out."
        )
    questions = []
    for name, model in zip(names, models.dissimilarities):
        question = Question(
            name=name,
            about=f"RDM of the place with model RDM {name}",
            ids=tuple(ids),
            responses=in_order,
            model=model,
        )
        questions.append(question)
    return questions


@checked_with(tables={"table": STIMULI})
def image_type_question(
    conditions: Sequence[str], responses: Responses, table: pd.DataFrame, pair: tuple[str, str]
) -> Question:
    """Ask how similar the RDMs of two image types are, photograph by photograph.

    Parameters
    ----------
    conditions : sequence of str
        Names of the rows.
    responses : ndarray, shape (n_conditions, n_places), or RunResponses
        Mean responses, or for crossnobis those of runs (`run_responses`).
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id.
    pair : (str, str)
        Two kinds, e.g. ``("RE", "AN")``.

    Returns
    -------
    Question
        Map of the second-order similarity.

    Raises
    ------
    InputError
        For an unknown kind, images without responses, or photographs without an image of both
        kinds.

    Examples
    --------
    >>> import pandas as pd
    >>> ids = [f"{kind}{i}" for kind in ("RE", "AN", "AI") for i in range(6)]
    >>> photographs = [f"RE{i}" for i in range(6)] * 3
    >>> kinds = [name[:2] for name in ids]
    >>> table = pd.DataFrame({"id": ids, "kind": kinds, "reference_id": photographs})
    >>> responses = np.random.default_rng(0).normal(size=(18, 27))
    >>> image_type_question(ids, responses, table, ("RE", "AI")).ids
    ('RE0', 'RE1', 'RE2', 'RE3', 'RE4', 'RE5')
    """
    _check_rows(conditions, responses)
    images_of: list[dict[str, str]] = []
    known = [str(name) for name in table["kind"]]
    for kind in pair:
        if kind not in known:
            raise unknown_name("image type", kind, dict.fromkeys(known))
        part = table[table["kind"] == kind]
        references = part["reference_id"].astype(str).tolist()
        if again := duplicates(references):
            raise InputError(
                f"two images of kind {kind} come from {name_ids(again)}; give one of each."
            )
        images = part["id"].astype(str).tolist()
        images_of.append(dict(zip(references, images, strict=True)))
    first, second = images_of
    references = list(first)
    match_ids(second, references, f"images of kind {pair[1]}", f"images of kind {pair[0]}")
    position = {str(name): i for i, name in enumerate(conditions)}
    wanted = [first[reference] for reference in references]
    wanted += [second[reference] for reference in references]
    if lacking := [name for name in wanted if name not in position]:
        raise InputError(
            f"the patterns hold no responses to {name_ids(lacking)}; give all images of both kinds."
        )
    rows = np.array([position[name] for name in wanted]).reshape(2, -1)
    return Question(
        name="-".join(pair),
        about=f"RDM within {pair[0]} with RDM within {pair[1]}, photograph by photograph",
        ids=tuple(references),
        responses=_rows(responses, rows[0]),
        others=_rows(responses, rows[1]),
    )


def _check_rows(conditions: Sequence[str], responses: Responses, where: str = "") -> None:
    shape = responses.shape
    n = len(conditions)
    if len(shape) != 2 or shape[0] != n:
        raise InputError(
            f"{where}responses of shape {shape} for {n} conditions "
            f"({name_ids(conditions)}); give one row each."
        )


def _rows(responses: Responses, rows: Sequence[int] | np.ndarray) -> Responses:
    if isinstance(responses, RunResponses):
        return responses.take(rows)
    return responses[rows]


@checked
def reliability_question(
    patterns: Patterns, responses: np.ndarray, conditions: Sequence[str] = ()
) -> Question:
    """Ask how well the RDM of odd presentations agrees with that of even ones.

    Parameters
    ----------
    patterns : Patterns
        Patterns whose observations name condition and presentation.
    responses : ndarray, shape (n_observations, n_places)
        Response of each place to each observation.
    conditions : sequence of str
        Only these; all when empty. To select places, give the regular images alone.

    Returns
    -------
    Question
        Map of RDM reliability, not corrected for the halved amount of data.

    Raises
    ------
    InputError
        For an unknown condition, or one without both an odd and an even presentation.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, vertex selection.

    Examples
    --------
    >>> import pandas as pd
    >>> from fmri import Patterns
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> random = np.random.default_rng(0)
    >>> patterns = Patterns(
    ...     values=random.normal(size=(8, 5)),
    ...     observations=pd.DataFrame(
    ...         {
    ...             "condition": ids * 2,
    ...             "presentation": [1] * 4 + [2] * 4,
    ...             "run": ["1"] * 4 + ["2"] * 4,
    ...             "session": "",
    ...         }
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(5), "j": 0, "k": 0}),
    ... )
    >>> reliability_question(patterns, patterns.values).about
    'RDM of odd with RDM of even presentations'
    """
    if responses.ndim != 2 or len(responses) != len(patterns.observations):
        raise InputError(
            f"responses of shape {responses.shape} for {len(patterns.observations)} observations; "
            "give one row each."
        )
    names = [str(name) for name in conditions] or list(patterns.conditions)
    for name in names:
        if name not in patterns.conditions:
            raise unknown_name("condition", name, patterns.conditions)
    shown = patterns.observations["condition"].to_numpy()
    is_odd = patterns.observations["presentation"].to_numpy() % 2 == 1
    means = np.full((2, len(names), responses.shape[1]), np.nan)
    lacking = []
    for means_of_half, half in zip(means, (is_odd, ~is_odd)):
        for mean, name in zip(means_of_half, names):
            rows = np.flatnonzero((shown == name) & half)
            if not rows.size:
                lacking.append(name)
                continue
            mean[:] = responses[rows].mean(axis=0)
    if lacking:
        raise InputError(
            "conditions without both an odd and an even presentation: "
            f"{name_ids(dict.fromkeys(lacking))}; reliability needs each condition at least twice."
        )
    return Question(
        name="reliability",
        about="RDM of odd with RDM of even presentations",
        ids=tuple(names),
        responses=means[0],
        others=means[1],
    )
