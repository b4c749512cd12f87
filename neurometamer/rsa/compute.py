"""Representational dissimilarity matrices (RDMs): built exactly, named and joined by stimulus id.

The container is `rsatoolbox.rdm.RDMs`. One RDM holds all stimuli of all image types; since
1 - correlation looks at two stimuli at a time, the RDM of one type is a part of it
(`select_image_type`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.betas.single_trials import check_independent_runs
from fmri.patterns import Patterns, says_simulated
from fmri.pooling import pool_subjects
from fmri.residuals import Residuals
from fmri.selection import types_chosen_on
from neurometamer.activations import Activations
from neurometamer.arguments import checked, checked_with, converted, shown
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.rsa.files import read_rdms, write_rdms
from neurometamer.rsa.measures import (
    Measure,
    RowRange,
    check_ranges,
    find_measure,
)
from neurometamer.rsa.noise import (
    Noise,
    crossnobis_rdm,
    estimate_noise,
    mahalanobis_rdm,
    residuals_of,
    sums_by_fold,
)
from neurometamer.rsa.rdms import (
    MIN_CONDITIONS,
    STIMULI,
    align_rdms,
    check_enough,
    check_rdms,
    label_rdms,
    match_ids,
    representation_name,
    select_image_type,
    take_conditions,
    take_image_type,
)

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns


__all__ = [
    "MIN_CONDITIONS",
    "activation_rdms",
    "align_rdms",
    "check_enough",
    "check_rdms",
    "compute_rdm",
    "compute_rdms",
    "find_measure",
    "label_rdms",
    "match_ids",
    "mean_responses",
    "network_rdms",
    "pattern_rdms",
    "read_rdms",
    "representation_name",
    "select_image_type",
    "take_conditions",
    "take_image_type",
    "write_rdms",
]
"""Names of this module; labels and joining are defined in `neurometamer.rsa.rdms`."""

MIN_VOXELS = 3
"""Every correlation over two voxels is -1 or 1."""


# ---------------------------------------------------------------------------------- numbers to RDMs


@checked
def compute_rdm(
    values: np.ndarray,
    measure: str = "spearman",
    *,
    ids: Sequence[str] | None = None,
    place: str = "these values",
    noise: Noise | None = None,
) -> np.ndarray:
    """Compute one RDM: how far the responses to every two stimuli are apart.

    Parameters
    ----------
    values : ndarray, shape (n_stimuli, n_units)
        Responses, any float or integer type.
    measure : str
        One of `neurometamer.rsa.measures.MEASURES`; ``"crossnobis"`` needs repeats, see
        `crossnobis_rdm`.
    ids : sequence of str, optional
        Stimulus ids, for messages; the row numbers otherwise.
    place : str
        Stage or ROI, for messages.
    noise : Noise, optional
        For ``"mahalanobis"``: covariance of the units' noise (`estimate_noise`).

    Returns
    -------
    ndarray, shape (n_stimuli * (n_stimuli - 1) / 2,)
        Condensed dissimilarities, float64, in the order of `numpy.triu_indices`; within [0, 2]
        where they are 1 - correlation.

    Raises
    ------
    InputError
        For an unknown measure, fewer than 4 stimuli, NaN or infinite values, or a stimulus for
        which the measure is undefined (all values equal for a correlation, all zero for an angle,
        negative for a rate). The ids are named.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Front Syst Neurosci 2:4; 1 - Spearman as in Zhang et al.
    (2018, CCN).

    Examples
    --------
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> compute_rdm(values).round(12).tolist()
    [0.0, 2.0, 0.5, 2.0, 0.5, 1.5]
    """
    values = np.asarray(values)
    given = range(len(values)) if ids is None else ids
    names = [str(name) for name in given]
    if values.ndim != 2 or len(values) != len(names):
        raise InputError(
            f"{place}: expected one row of values for each of {len(names)} ids, got shape "
            f"{values.shape}."
        )
    known = find_measure(measure)
    check_enough(names, place)
    again = duplicates(names)
    if again:
        raise InputError(
            f"{place}: repeated stimulus id(s) {name_ids(again)}; every condition needs an id of "
            "its own."
        )
    if values.dtype.kind not in "fiub":
        raise InputError(f"{place}: responses must be numbers, not {values.dtype}.")
    least = MIN_VOXELS if known.undefined == "constant" else 1
    if values.shape[1] < least:
        raise InputError(
            f"{place}: {values.shape[1]} unit(s); {_why_enough(known, 1)}. Give more units."
        )
    ranges = [RowRange.of(row) for row in values]
    check_ranges(ranges, names, known, place)
    if known.needs == "folds":
        raise InputError(
            f"{place}: {measure} needs independent repeats of each stimulus; call crossnobis_rdm, "
            "or compute_rdms with patterns or a dataset of several presentations."
        )
    if known.compute is None:
        if noise is None:
            raise InputError(
                f"{place}: {measure} needs the noise of the units; see estimate_noise."
            )
        return mahalanobis_rdm(values, noise)
    if known.prepare is None:
        return known.compute(values, ranges)
    first = known.prepare(values[0])
    rows = np.empty((len(values), first.size), dtype=first.dtype)
    rows[0] = first
    for i in range(1, len(values)):  # only one row more than the result is held
        rows[i] = known.prepare(values[i])
    ranges = [RowRange.of(row) for row in rows]
    return known.compute(rows, ranges)


def _why_enough(known: Measure, least: int) -> str:
    if known.undefined == "constant":
        return f"{known.label} needs at least {MIN_VOXELS} (every correlation over two is -1 or 1)"
    return f"an RDM ({known.label}) needs at least {least}"


# ------------------------------------------------------------------------------------ labelled RDMs


@checked_with(own=("x",), tables={"table": STIMULI})
def compute_rdms(
    x: np.ndarray | Activations | Mapping[str, Patterns] | Dataset,
    *,
    measure: str = "spearman",
    ids: Sequence[str] | None = None,
    table: pd.DataFrame | None = None,
    noise: str | Noise = "shrinkage_diag",
    folds: str = "run",
    descriptor: str = "condition",
    allow_chosen: bool = False,
) -> RDMs:
    """Compute the RDMs of an array, of activations, of patterns or of an rsatoolbox dataset.

    Parameters
    ----------
    x : ndarray, Activations, mapping of str to Patterns, or rsatoolbox.data.Dataset
        Responses. An array has the shape (n_stimuli, n_units). A mapping holds one subject a key.
        Presentations of one stimulus in patterns or in a dataset are averaged, unless the measure
        needs them apart.
    measure : str
        One of `MEASURES`, or a name of rsatoolbox: ``"correlation"`` is ``"pearson"``. What
        rsatoolbox calls ``"euclidean"`` is ``"squared-euclidean"`` here.
    ids : sequence of str, optional
        Stimulus ids. They name the rows of an array, which needs them or a table; of other
        responses they must be all the ids, and give the order of the RDMs.
    table : pandas.DataFrame, optional
        Stimuli with the columns id, kind, reference_id; the RDMs take these labels, and its order
        where `ids` gives none.
    noise : str or Noise
        For ``"mahalanobis"`` and ``"crossnobis"``: estimator of the noise covariance from
        presentations minus their stimulus' mean (`estimate_noise`), ``"none"`` for equally noisy
        units (crossnobis only), or the noise itself, which an array needs.
    folds : str
        For ``"crossnobis"``: column of the observations, or observation descriptor of a dataset,
        that tells independent parts apart.
    descriptor : str
        Observation descriptor of a dataset that holds the stimulus ids.
    allow_chosen : bool
        See `pattern_rdms`.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        One RDM for an array or a dataset, one a stage for activations, one a subject and ROI for
        patterns. ``pattern_descriptors["condition"]`` holds the ids; ``rdm_descriptors`` are those
        of `activation_rdms` and `pattern_rdms`, or n_units.

    Raises
    ------
    InputError
        When `x` is none of these, an array comes without ids, ids differ between the responses and
        what was given, or a measure is unknown or undefined for a stimulus (`compute_rdm`).

    Examples
    --------
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> rdms = compute_rdms(values, measure="correlation", ids=["cat", "dog", "cup", "car"])
    >>> rdms.dissimilarities.round(12).tolist()
    [[0.0, 2.0, 0.5, 2.0, 0.5, 1.5]]
    >>> rdms.pattern_descriptors["condition"]
    ['cat', 'dog', 'cup', 'car']
    """
    from rsatoolbox.data import Dataset

    if isinstance(x, Activations):
        return _network_rdms(x, _stimuli(ids, table, x.ids), measure)
    if isinstance(x, Dataset):
        return _dataset_rdms(x, ids, table, measure, noise, folds, descriptor)
    if isinstance(x, Mapping):
        wrong: list[str] = []
        for subject, patterns in x.items():
            if not isinstance(patterns, Patterns):
                wrong.append(f"{subject} ({type(patterns).__name__})")
        if wrong or not x:
            raise InputError(
                "compute_rdms: a mapping must hold Patterns, at least one subject's, not "
                f"{name_ids(wrong) or 'nothing'}; fmri.read_patterns opens files."
            )
        conditions, _ = next(iter(x.values())).means()
        own_ids = [str(condition) for condition in conditions]
        stimuli = _stimuli(ids, table, own_ids)
        return _brain_rdms(x, stimuli, measure, noise, folds, allow_chosen=allow_chosen)
    if x is None or isinstance(x, (str, os.PathLike, Patterns)):
        raise InputError(
            "compute_rdms: x must be an array (stimuli, units), Activations, a mapping of subject "
            f"to Patterns or an rsatoolbox Dataset, not {shown(x)}; read_activations and "
            "fmri.read_patterns open files, and patterns are given as {'S1': patterns}."
        )
    values = converted(x, np.ndarray, "compute_rdms: x")
    if ids is None and table is None:
        raise InputError(
            f"compute_rdms: an array of shape {values.shape} does not name its stimuli; give ids=, "
            "one a row."
        )
    stimuli = _stimuli(ids, table, ())
    given = noise if isinstance(noise, Noise) else None
    vector = compute_rdm(values, measure, ids=list(stimuli["id"]), noise=given)
    places = {"n_units": [values.shape[1]]}
    return _stimulus_rdms(vector[np.newaxis], stimuli, places, measure, {})


def _stimuli(
    ids: Sequence[str] | None, table: pd.DataFrame | None, own_ids: Sequence[str]
) -> pd.DataFrame:
    """Give the stimuli of RDMs in their order: a table with the column id at least."""
    import pandas as pd

    if table is None:
        names = own_ids if ids is None else ids
        return pd.DataFrame({"id": [str(name) for name in names]})
    if ids is None:
        return table
    rows = match_ids(table["id"], ids, "the stimulus table", "the ids given")
    return table.iloc[rows]


def _dataset_rdms(
    dataset: Dataset,
    ids: Sequence[str] | None,
    table: pd.DataFrame | None,
    measure: str,
    noise: str | Noise,
    folds: str,
    descriptor: str,
) -> RDMs:
    """Compute the RDM of an rsatoolbox dataset, from means or from single observations."""
    known = find_measure(measure)
    labels = dataset.obs_descriptors
    needed = [descriptor]
    if known.needs == "folds":
        needed.append(folds)
    for name in needed:
        if name not in labels:
            raise unknown_name("observation descriptor of the dataset", name, labels)
    values = converted(dataset.measurements, np.ndarray, "compute_rdms: measurements")
    conditions = [str(condition) for condition in labels[descriptor]]
    distinct = list(dict.fromkeys(conditions))
    stimuli = _stimuli(ids, table, distinct)
    names = [str(name) for name in stimuli["id"]]
    match_ids(distinct, names, "the dataset", "the stimuli given")
    sums, counts, _ = sums_by_fold(values, conditions, [""] * len(values), names)
    means = sums[0] / counts[0][:, np.newaxis]
    if known.needs:
        parts: list[str] = []
        if known.needs == "folds":
            parts = [str(part) for part in labels[folds]]
        vector = _presentation_rdm(
            values,
            means,
            conditions,
            parts,
            names,
            known,
            noise,
            "the dataset",
        )
    else:
        vector = compute_rdm(means, measure, ids=names, place="the dataset")
    places = {"n_units": [values.shape[1]]}
    settings = _noise_settings(known, noise, folds)
    return _stimulus_rdms(vector[np.newaxis], stimuli, places, measure, settings)


def _noise_settings(
    measure: Measure,
    noise: str | Noise,
    folds: str,
    residuals: Mapping[str, Residuals] | None = None,
    records: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Name the settings that matter to a measure of presentations, and what patterns must say."""
    settings: dict[str, Any] = {}
    if says_simulated(records):
        settings["simulated"] = True
    if types := types_chosen_on(records):
        settings["not_regular"] = sorted(types)
    if not measure.needs:
        return settings
    settings["noise"] = noise.method if isinstance(noise, Noise) else noise
    if residuals:
        settings["residuals"] = {subject: own.digest for subject, own in residuals.items()}
    if measure.needs == "folds":
        settings["folds"] = folds
    return settings


@checked_with(tables={"table": STIMULI})
def activation_rdms(
    activations: Activations, table: pd.DataFrame, *, measure: str = "spearman"
) -> RDMs:
    """Compute one RDM a network stage, over all stimuli of all kinds.

    Parameters
    ----------
    activations : Activations
        Responses of a network; their provenance names model and weights.
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id; the RDMs follow its order.
    measure : str
        One of `MEASURES`.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        ``pattern_descriptors``: condition, reference_id, kind, and category where the table has it;
        ``rdm_descriptors``: stage, system, model, weights, n_units.

    Raises
    ------
    InputError
        When table and activations do not hold the same ids, or a stage cannot be ranked (see
        `compute_rdm`).

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer import Activations
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]], dtype=np.float32)
    >>> ids = ("cat", "dog", "cup", "car")
    >>> activations = Activations(
    ...     ids=ids, stages=("conv1",), n_units={"conv1": 3}, arrays={"conv1": values}
    ... )
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> activation_rdms(activations, table).rdm_descriptors["stage"]
    ['conv1']
    """
    return _network_rdms(activations, table, measure)


def _network_rdms(activations: Activations, table: pd.DataFrame, measure: str) -> RDMs:
    ids = list(table["id"].astype(str))
    rows = match_ids(activations.ids, ids, "activations", "the stimulus table")
    in_order = np.array_equal(rows, np.arange(len(rows)))
    vectors = []
    n_units = {}
    for stage in activations.stages:
        values = activations.read(stage)
        if not in_order:
            values = values[rows]
        n_units[stage] = values.shape[1]
        vector = compute_rdm(
            values,
            measure,
            ids=ids,
            place=f"stage '{stage}'",
        )
        vectors.append(vector)
    return network_rdms(
        np.array(vectors),
        table,
        n_units,
        measure,
        activations.provenance,
    )


def network_rdms(
    vectors: np.ndarray,
    table: pd.DataFrame,
    n_units: Mapping[str, int],
    measure: str,
    provenance: Mapping[str, Any],
) -> RDMs:
    """Give the dissimilarities of a network's stages their names.

    Parameters
    ----------
    vectors : ndarray, shape (n_stages, n_pairs)
        Condensed.
    table : pandas.DataFrame
        The stimuli in the same order: columns id, kind, reference_id.
    n_units : mapping of str to int
        Stages in order, and their units.
    measure : str
        One of `MEASURES`.
    provenance : mapping
        Provenance of the activations; names model and weights.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        RDMs as those of `activation_rdms`.
    """
    n = len(n_units)
    model = str(provenance.get("model", ""))
    weights = str(provenance.get("weights", ""))
    places: dict[str, Sequence[Any]] = {
        "stage": list(n_units),
        "system": ["network"] * n,
        "model": [model] * n,
        "weights": [weights] * n,
        "n_units": list(n_units.values()),
    }
    return _stimulus_rdms(
        vectors,
        table,
        places,
        measure,
        provenance,
    )


@checked_with(tables={"table": STIMULI})
def pattern_rdms(
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    *,
    measure: str = "spearman",
    noise: str = "shrinkage_diag",
    folds: str = "run",
    pooled: bool = False,
    residuals: Mapping[str, Residuals] | None = None,
    allow_chosen: bool = False,
) -> RDMs:
    """Compute one RDM a subject and ROI, from mean patterns or crossvalidated over presentations.

    Parameters
    ----------
    patterns_by_subject : mapping of str to Patterns
        Responses; presentations of a stimulus are averaged first.
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id; the RDMs follow its order.
    measure : str
        One of `MEASURES`.
    noise : str
        For ``"mahalanobis"`` and ``"crossnobis"``: estimator of the noise covariance from
        presentations minus their stimulus' mean (`estimate_noise`), a ROI at a time; ``"none"``
        treats voxels as equally noisy (crossnobis only).
    folds : str
        For ``"crossnobis"``: column of the observations that tells independent parts apart,
        ``"run"``, ``"presentation"`` or ``"session"``.
    pooled : bool
        Make one RDM a ROI over the voxels of all subjects together (`fmri.pool_subjects`), under
        the name of all, as ``"S1+S2"``. For ``"crossnobis"``, give folds that mean the same to all.
    residuals : mapping of str to Residuals, optional
        For ``"mahalanobis"`` and ``"crossnobis"``: residuals of each subject's GLM
        (`fmri.glm_residuals`), from which the noise is estimated in place of presentations.
    allow_chosen : bool
        For ``"crossnobis"``: take betas whose noise regressors or shrinkage were chosen on all runs
        together (`fmri.SingleTrialOptions`). Their runs are not independent; the name of the
        measure says so (``"crossnobis of shrunken betas"``).

    Returns
    -------
    rsatoolbox.rdm.RDMs
        ``pattern_descriptors``: condition, reference_id, kind; category where the table has it;
        session (or ``session:SUBJECT``) where images were shown in different ones.
        ``rdm_descriptors``: subject, roi, system, n_voxels.

    Raises
    ------
    InputError
        When a subject's conditions are not exactly the stimuli of the table, a ROI has fewer than 3
        voxels (every correlation over two is -1 or 1), or values cannot be ranked.

    Examples
    --------
    >>> import pandas as pd
    >>> from fmri import Patterns
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> shown = {"condition": ids, "presentation": 1, "run": "1", "session": ""}
    >>> voxels = {"subject": "S1", "roi": "V1", "i": [0, 1, 2], "j": 0, "k": 0}
    >>> patterns = Patterns(
    ...     values=np.array([[1.0, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]]),
    ...     observations=pd.DataFrame(shown),
    ...     voxels=pd.DataFrame(voxels),
    ... )
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> rdms = pattern_rdms({"S1": patterns}, table)
    >>> rdms.rdm_descriptors["roi"], rdms.dissimilarities.round(12).tolist()
    (['V1'], [[0.0, 2.0, 0.5, 2.0, 0.5, 1.5]])
    """
    if pooled and residuals:
        raise InputError(
            "residuals of subjects are not pooled: their time courses differ; leave out pooled or "
            "the residuals."
        )
    if pooled:
        everybody = pool_subjects(list(patterns_by_subject.values()))
        patterns_by_subject = {"+".join(patterns_by_subject): everybody}
    if residuals and (noise == "none" or not find_measure(measure).needs):
        raise InputError(
            f"measure '{measure}' with noise '{noise}' uses no residuals; give crossnobis or "
            "mahalanobis and an estimator of noise, or leave the residuals out."
        )
    lacking = set(patterns_by_subject) - set(residuals or patterns_by_subject)
    if lacking:
        raise InputError(f"no residuals of subject(s) {name_ids(lacking)}; give those of each.")
    return _brain_rdms(patterns_by_subject, table, measure, noise, folds, residuals, allow_chosen)


def _brain_rdms(
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    measure: str,
    noise: str | Noise,
    folds: str,
    residuals: Mapping[str, Residuals] | None = None,
    allow_chosen: bool = False,
) -> RDMs:
    ids = list(table["id"].astype(str))
    known = find_measure(measure)
    told = ""
    places: dict[str, list[Any]] = {"subject": [], "roi": [], "system": [], "n_voxels": []}
    vectors = []
    for subject, patterns in patterns_by_subject.items():
        means = mean_responses(patterns, ids, subject)
        rois = np.asarray(patterns.voxels["roi"].astype(str))
        conditions = [str(condition) for condition in patterns.observations["condition"]]
        parts: list[str] = []
        if known.needs == "folds":
            record, place = patterns.provenance, f"subject '{subject}'"
            told = check_independent_runs(record, place, allow_chosen) or told
            seen = patterns.observations
            if folds not in seen:
                raise unknown_name("column of observations for folds", folds, list(seen.columns))
            parts = [str(part) for part in seen[folds]]
            if folds == "run":  # runs are numbered from 1 again in each session
                labels = zip(seen["session"], parts)
                parts = [f"{session} {part}".strip() for session, part in labels]
        for roi in dict.fromkeys(rois.tolist()):
            place = f"subject '{subject}', ROI '{roi}'"
            columns = rois == roi
            n_voxels = int(columns.sum())
            if n_voxels < MIN_VOXELS:
                raise InputError(
                    f"{place} has {n_voxels} voxel(s); {_why_enough(known, MIN_VOXELS)}. "
                    "Enlarge the mask, or leave the region out."
                )
            part = means[:, columns]
            if known.needs:
                single = patterns.values[:, columns].astype(np.float64)
                scatter = noise
                if residuals and isinstance(noise, str):
                    own = residuals[subject]
                    left = own.of(patterns.select(voxels=columns))
                    scatter = estimate_noise(left, method=noise, dof=own.dof)
                vector = _presentation_rdm(
                    single, part, conditions, parts, ids, known, scatter, place
                )
            else:
                vector = compute_rdm(part, measure, ids=ids, place=place)
            vectors.append(vector)
            places["subject"].append(subject)
            places["roi"].append(roi)
            places["system"].append("brain")
            places["n_voxels"].append(n_voxels)
    if not vectors:
        raise InputError("no patterns were given; at least one subject with one ROI is needed.")
    records = [patterns.provenance for patterns in patterns_by_subject.values()]
    settings = _noise_settings(known, noise, folds, residuals, records)
    sessions = session_descriptors(patterns_by_subject, table)
    rdms = _stimulus_rdms(np.array(vectors), table, places, measure, settings, sessions)
    rdms.dissimilarity_measure = f"{rdms.dissimilarity_measure}{told}"
    return rdms


def _presentation_rdm(
    values: np.ndarray,
    means: np.ndarray,
    conditions: Sequence[str],
    folds: Sequence[str],
    ids: Sequence[str],
    measure: Measure,
    noise: str | Noise,
    place: str,
) -> np.ndarray:
    """Compute one RDM from single presentations: scatter is the noise, folds crossvalidate."""
    check_enough(ids, place)
    precision = noise if isinstance(noise, Noise) else None
    if isinstance(noise, str) and noise != "none":
        try:
            residuals, dof = residuals_of(values, conditions)
            precision = estimate_noise(residuals, method=noise, dof=dof)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    if measure.needs == "folds":
        return crossnobis_rdm(values, conditions, folds, noise=precision, order=ids, place=place)
    if precision is None:
        raise InputError(
            f"{place}: mahalanobis without noise is squared-euclidean; give that measure instead."
        )
    return mahalanobis_rdm(means, precision)


def _stimulus_rdms(
    vectors: np.ndarray,
    table: pd.DataFrame,
    places: Mapping[str, Sequence[Any]],
    measure: str,
    provenance: Mapping[str, Any],
    sessions: Mapping[str, Sequence[str]] | None = None,
) -> RDMs:
    patterns: dict[str, Sequence[str]] = {}
    for name in ("reference_id", "kind"):
        if name in table.columns:
            patterns[name] = list(table[name])
    if "category" in table.columns:
        patterns["category"] = ascii_labels(list(table["category"]))
    if sessions is not None:
        patterns |= sessions
    return label_rdms(
        vectors,
        conditions=list(table["id"]),
        rdm_descriptors=places,
        pattern_descriptors=patterns,
        measure=find_measure(measure).label,
        provenance=provenance,
    )


def mean_responses(patterns: Patterns, ids: Sequence[str], subject: str) -> np.ndarray:
    """Average a subject's presentations and put the stimuli in the order asked for.

    Parameters
    ----------
    patterns : Patterns
        One subject's responses.
    ids : sequence of str
        Stimulus ids wanted, all of them and no others.
    subject : str
        Name for messages.

    Returns
    -------
    ndarray, shape (n_ids, n_voxels)
        Mean over presentations.

    Raises
    ------
    InputError
        When the subject's conditions are not exactly `ids`.
    """
    conditions, means = patterns.means()
    rows = match_ids(
        conditions,
        ids,
        f"patterns of subject '{subject}'",
        "the stimulus table",
    )
    return means[rows]


# ------------------------------------------------------------------------------- sessions of images


def ascii_labels(values: Sequence[Any]) -> list[str]:
    r"""Write labels with the letters that rsatoolbox's files can hold.

    Parameters
    ----------
    values : sequence
        Labels; None and NaN are no label.

    Returns
    -------
    list of str
        Other letters as escapes, so that labels that differ stay different; ``""`` for no label.

    Examples
    --------
    >>> ascii_labels(["cup", "caf\u00e9", None])
    ['cup', 'caf\\xe9', '']
    """
    labels = []
    for value in values:
        is_missing = value is None or value != value  # NaN differs from itself
        text = "" if is_missing else str(value)
        labels.append(text.encode("ascii", "backslashreplace").decode())
    return labels


SESSION = "session"
"""Pattern descriptor with the session of each image; ``session:S1`` where subjects differ."""


BETWEEN = "+"
"""Between sessions of an image that was shown in several."""


def session_descriptors(
    patterns_by_subject: Mapping[str, Patterns], table: pd.DataFrame
) -> dict[str, list[str]]:
    """Find the session in which each image of these patterns' RDMs was shown.

    Parameters
    ----------
    patterns_by_subject : mapping of str to Patterns
        Responses; ``observations`` name the session.
    table : pandas.DataFrame
        The stimuli: column id; the order of the RDMs.

    Returns
    -------
    dict of str to list of str
        Pattern descriptors: ``session`` where all subjects agree, else ``session:SUBJECT`` for
        each. Empty where no image has another session than the others.
    """
    ids = [str(name) for name in table["id"]]
    columns = {}
    for subject, patterns in patterns_by_subject.items():
        observations = patterns.observations
        labels = ascii_labels(list(observations["session"]))
        sessions: dict[str, set[str]] = {}
        for condition, session in zip(observations["condition"], labels):
            of_image = sessions.setdefault(str(condition), set())
            of_image.add(session)
        column = []
        for name in ids:
            names = sorted(sessions.get(name, {""}))
            column.append(BETWEEN.join(names))
        columns[subject] = column
    first = next(iter(columns.values()), [])
    if any(column != first for column in columns.values()):
        return {f"{SESSION}:{subject}": column for subject, column in columns.items()}
    if len(set(first)) > 1:
        return {SESSION: first}
    return {}
