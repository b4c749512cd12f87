"""Representational dissimilarity matrices (RDMs): built exactly, named and joined by stimulus id.

The container is `rsatoolbox.rdm.RDMs`. One RDM holds all stimuli of all kinds; since 1 - correlation looks at two
stimuli at a time, the RDM of one kind is a part of it (`select_kind`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.rsa.files import READERS, read_dissimilarities
from neurometamer.rsa.measures import MEASURES, Measure, RowRange, check_ranges
from neurometamer.rsa.noise import Noise, crossnobis_rdm, estimate_noise, mahalanobis_rdm, residuals_of
from neurometamer.store import InputError, atomic_path, duplicates, name_ids, open_hdf5, unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns
    from neurometamer.activations import Activations

MIN_CONDITIONS = 4
"""Three conditions give three pairs: no rank correlation of RDMs means anything below four."""

MIN_VOXELS = 3
"""Every correlation over two voxels is -1 or 1."""


# -------------------------------------------------------------------------------------------- numbers to RDMs


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
        One of `neurometamer.rsa.measures.MEASURES`; ``"crossnobis"`` needs repeats, see `crossnobis_rdm`.
    ids : sequence of str, optional
        Stimulus ids, for messages; the row numbers otherwise.
    place : str
        Stage or ROI, for messages.
    noise : Noise, optional
        For ``"mahalanobis"``: covariance of the units' noise (`estimate_noise`).

    Returns
    -------
    ndarray, shape (n_stimuli * (n_stimuli - 1) / 2,)
        Condensed dissimilarities, float64, in the order of `numpy.triu_indices`; within [0, 2] where they are
        1 - correlation.

    Raises
    ------
    InputError
        For an unknown measure, fewer than 4 stimuli, NaN or infinite values, or a stimulus for which the measure is
        undefined (all values equal for a correlation, all zero for an angle, negative for a rate). The ids are named.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), Front Syst Neurosci 2:4; 1 - Spearman as in Zhang et al. (2018, CCN).

    Examples
    --------
    >>> compute_rdm(np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])).tolist()
    [0.0, 2.0, 0.5, 2.0, 0.5, 1.5]
    """
    values = np.asarray(values)
    names = [str(one) for one in (range(len(values)) if ids is None else ids)]
    if values.ndim != 2 or len(values) != len(names):
        raise InputError(f"{place}: expected one row of values for each of {len(names)} ids, got shape {values.shape}.")
    known = find_measure(measure)
    check_enough(names, place)
    ranges = [RowRange.of(row) for row in values]
    check_ranges(ranges, names, known, place)
    if known.needs:
        return _with_noise(values, measure, noise, place)
    assert known.compute is not None
    rows = _prepared(values, known)
    return known.compute(rows, ranges if rows is values else [RowRange.of(row) for row in rows])


def find_measure(name: str) -> Measure:
    """Look a measure up.

    Parameters
    ----------
    name : str
        One of `MEASURES`.

    Returns
    -------
    Measure
        Its definition.

    Raises
    ------
    InputError
        When there is none of that name.
    """
    if name not in MEASURES:
        raise unknown_name("RDM measure", name, MEASURES)
    return MEASURES[name]


def _prepared(values: np.ndarray, measure: Measure) -> np.ndarray:
    """Prepare row by row: only one row more than the result is held."""
    if measure.prepare is None:
        return values
    first = measure.prepare(values[0])
    rows = np.empty((len(values), first.size), dtype=first.dtype)
    rows[0] = first
    for i in range(1, len(values)):
        rows[i] = measure.prepare(values[i])
    return rows


def _with_noise(values: np.ndarray, measure: str, noise: Noise | None, place: str) -> np.ndarray:
    if measure != "mahalanobis":
        raise InputError(
            f"{place}: {measure} needs independent repeats of each stimulus; call crossnobis_rdm, or pattern_rdms with "
            "patterns of several presentations."
        )
    if noise is None:
        raise InputError(f"{place}: mahalanobis needs the noise of the units; see estimate_noise.")
    return mahalanobis_rdm(values, noise)


def check_enough(names: Sequence[str], place: str) -> None:
    """Refuse fewer conditions than an RDM needs.

    Parameters
    ----------
    names : sequence of str
        Conditions.
    place : str
        What holds them, for the message.

    Raises
    ------
    InputError
        For fewer than 4.
    """
    if len(names) < MIN_CONDITIONS:
        raise InputError(
            f"{place}: {len(names)} condition(s) ({name_ids(names)}); at least {MIN_CONDITIONS} are needed."
        )


# ----------------------------------------------------------------------------------------------- labelled RDMs


def label_rdms(
    dissimilarities: np.ndarray,
    *,
    conditions: Sequence[str],
    places: Mapping[str, Sequence[Any]],
    patterns: Mapping[str, Sequence[str]] | None = None,
    measure: str,
    provenance: Mapping[str, Any] | None = None,
) -> RDMs:
    """Give dissimilarities their names; the way in for RDMs that were made elsewhere.

    Parameters
    ----------
    dissimilarities : ndarray, shape (n_rdms, n_pairs) or (n_rdms, n, n)
        Finite numbers.
    conditions : sequence of str, length n
        Stimulus ids, unique.
    places : mapping of str to sequence
        One list of length n_rdms each, e.g. ``stage``, ``subject``, ``roi``, ``system``.
    patterns : mapping of str to sequence of str, optional
        One list of length n each, e.g. ``kind``, ``reference_id``.
    measure : str
        What the numbers are, e.g. ``"1 - Spearman"``.
    provenance : mapping, optional
        What went in; kept as JSON text in ``descriptors["provenance"]``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Checked (`check_rdms`).

    Raises
    ------
    InputError
        When ids repeat or are too few, or numbers are missing.
    """
    from rsatoolbox.rdm import RDMs

    rdms = RDMs(
        np.asarray(dissimilarities, dtype=np.float64),
        dissimilarity_measure=measure,
        descriptors={"provenance": json.dumps(dict(provenance or {}), sort_keys=True, default=str)},
        rdm_descriptors={name: [_plain(one) for one in column] for name, column in places.items()},
        pattern_descriptors={
            "condition": [str(one) for one in conditions],
            **{name: [str(one) for one in column] for name, column in (patterns or {}).items()},
        },
    )
    check_rdms(rdms, "RDMs")
    return rdms


def _plain(value: Any) -> Any:
    """Turn numpy and pandas scalars into Python's, which HDF5 and equality tests treat alike."""
    return value.item() if isinstance(value, np.generic) else value


def check_rdms(rdms: RDMs, what: str) -> None:
    """Refuse RDMs that cannot be joined by id or hold missing numbers.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs from anywhere.
    what : str
        Their name in messages, e.g. the file.

    Raises
    ------
    InputError
        Without ``pattern_descriptors["condition"]``, with repeated ids, fewer than 4 conditions, or
        dissimilarities that are NaN or infinite (which RDMs and conditions is said).
    """
    if "condition" not in rdms.pattern_descriptors:
        raise InputError(
            f"{what}: no stimulus ids; put them in pattern_descriptors['condition'] "
            f"(found: {', '.join(rdms.pattern_descriptors) or 'nothing'})."
        )
    names = [str(one) for one in rdms.pattern_descriptors["condition"]]
    if again := duplicates(names):
        raise InputError(f"{what}: repeated stimulus id(s) {name_ids(again)}; every condition needs an id of its own.")
    check_enough(names, what)
    bad_rdm, bad_pair = np.nonzero(~np.isfinite(rdms.dissimilarities))
    if bad_rdm.size:
        first, second = np.triu_indices(rdms.n_cond, 1)
        ids = dict.fromkeys(names[i] for pair in np.unique(bad_pair) for i in (first[pair], second[pair]))
        where = [place_name(rdms, int(i)) for i in np.unique(bad_rdm)]
        raise InputError(
            f"{what}: dissimilarities are NaN or infinite in {name_ids(where)}, stimuli {name_ids(ids)}; "
            "leave those RDMs or stimuli out."
        )


def place_name(rdms: RDMs, index: int) -> str:
    """Name one RDM of many for people, e.g. ``"S1 V4"``.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        The RDMs.
    index : int
        Which one.

    Returns
    -------
    str
        Subject and ROI or stage, or its number where it has none.
    """
    known = [
        str(rdms.rdm_descriptors[name][index])
        for name in ("subject", "roi", "stage", "name")
        if name in rdms.rdm_descriptors
    ]
    return " ".join(known) or f"RDM {index}"


def activation_rdms(activations: Activations, table: pd.DataFrame, *, measure: str = "spearman") -> RDMs:
    """Compute one RDM a network stage, over all stimuli of all kinds.

    Parameters
    ----------
    activations : Activations
        What the network answered; its provenance names model and weights.
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id; the RDMs follow its order.
    measure : str
        One of `MEASURES`.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        ``pattern_descriptors``: condition, reference_id, kind; ``rdm_descriptors``: stage, system, model, weights,
        n_units.

    Raises
    ------
    InputError
        When table and activations do not hold the same ids, or a stage cannot be ranked (see `compute_rdm`).
    """
    ids = list(table["id"].astype(str))
    rows = match_ids(activations.ids, ids, "activations", "the stimulus table")
    vectors, n_units = [], []
    for stage in activations.stages:
        values = activations.read(stage)
        values = values if np.array_equal(rows, np.arange(len(values))) else values[rows]
        vectors.append(compute_rdm(values, measure, ids=ids, place=f"stage '{stage}'"))
        n_units.append(values.shape[1])
    return network_rdms(
        np.array(vectors), table, dict(zip(activations.stages, n_units)), measure, activations.provenance
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
        Of the activations; names model and weights.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        As of `activation_rdms`.
    """
    places = {
        "stage": list(n_units),
        "system": ["network"] * len(n_units),
        "model": [str(provenance.get("model", ""))] * len(n_units),
        "weights": [str(provenance.get("weights", ""))] * len(n_units),
        "n_units": list(n_units.values()),
    }
    return _stimulus_rdms(vectors, table, places, measure, provenance)


def pattern_rdms(
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    *,
    measure: str = "spearman",
    noise: str = "shrinkage_diag",
    folds: str = "run",
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
        For ``"mahalanobis"`` and ``"crossnobis"``: estimator of the noise covariance from presentations minus their
        stimulus' mean (`estimate_noise`), a ROI at a time; ``"none"`` treats voxels as equally noisy (crossnobis only).
    folds : str
        For ``"crossnobis"``: column of the observations that tells independent parts apart, ``"run"``,
        ``"presentation"`` or ``"session"``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        ``pattern_descriptors``: condition, reference_id, kind; ``rdm_descriptors``: subject, roi, system, n_voxels.

    Raises
    ------
    InputError
        When a subject's conditions are not exactly the stimuli of the table, a ROI has fewer than 3 voxels (every
        correlation over two is -1 or 1), or values cannot be ranked.
    """
    ids, known = list(table["id"].astype(str)), find_measure(measure)
    places: dict[str, list[Any]] = {"subject": [], "roi": [], "system": [], "n_voxels": []}
    vectors = []
    for subject, patterns in patterns_by_subject.items():
        means = mean_responses(patterns, ids, subject)
        rois = np.asarray(patterns.voxels["roi"].astype(str))
        for roi in dict.fromkeys(rois):
            place, columns = f"subject '{subject}', ROI '{roi}'", rois == roi
            if columns.sum() < MIN_VOXELS:
                raise InputError(
                    f"{place} has {columns.sum()} voxel(s); a correlation distance needs at "
                    f"least {MIN_VOXELS}. Enlarge the mask, or leave the region out."
                )
            if known.needs:
                single = patterns.values[:, columns].astype(np.float64)
                vectors.append(
                    _presentation_rdm(single, means[:, columns], patterns.observations, ids, known, noise, folds, place)
                )
            else:
                vectors.append(compute_rdm(means[:, columns], measure, ids=ids, place=place))
            for name, value in zip(places, (subject, str(roi), "brain", int(columns.sum()))):
                places[name].append(value)
    if not vectors:
        raise InputError("no patterns were given; at least one subject with one ROI is needed.")
    settings = {"noise": noise} if known.needs else {}
    settings |= {"folds": folds} if known.needs == "folds" else {}
    return _stimulus_rdms(np.array(vectors), table, places, measure, settings)


def _presentation_rdm(
    values: np.ndarray,
    means: np.ndarray,
    observations: pd.DataFrame,
    ids: Sequence[str],
    measure: Measure,
    noise: str,
    folds: str,
    place: str,
) -> np.ndarray:
    """Compute one RDM from single presentations: their scatter is the noise, their folds crossvalidate."""
    check_enough(ids, place)
    conditions = [str(one) for one in observations["condition"]]
    precision = None
    if noise != "none":
        try:
            residuals, dof = residuals_of(values, conditions)
            precision = estimate_noise(residuals, method=noise, dof=dof)
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    if measure.needs == "folds":
        if folds not in observations:
            raise unknown_name("column of observations for folds", folds, list(observations.columns))
        parts = [str(one) for one in observations[folds]]
        if folds == "run":  # runs are counted anew in each session
            parts = [f"{session} {part}".strip() for session, part in zip(observations["session"], parts)]
        return crossnobis_rdm(values, conditions, parts, noise=precision, order=ids, place=place)
    if precision is None:
        raise InputError(f"{place}: mahalanobis without noise is squared-euclidean; ask for that.")
    return mahalanobis_rdm(means, precision)


def _stimulus_rdms(
    vectors: np.ndarray,
    table: pd.DataFrame,
    places: Mapping[str, Sequence[Any]],
    measure: str,
    provenance: Mapping[str, Any],
) -> RDMs:
    return label_rdms(
        vectors,
        conditions=list(table["id"]),
        places=places,
        patterns={name: list(table[name]) for name in ("reference_id", "kind")},
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
    return means[match_ids(conditions, ids, f"patterns of subject '{subject}'", "the stimulus table")]


# --------------------------------------------------------------------------------------------------- joining


def match_ids(have: Iterable[str], wanted: Iterable[str], what: str, other: str) -> np.ndarray:
    """Find where each wanted id stands; both sides must hold the same ids, each once.

    Parameters
    ----------
    have : iterable of str
        Ids there are.
    wanted : iterable of str
        Ids in the order asked for.
    what, other : str
        Names of the two sides for messages.

    Returns
    -------
    ndarray of int
        ``have[result[k]] == wanted[k]``.

    Raises
    ------
    InputError
        Listing repeated ids, ids that only one side holds, or both.

    Examples
    --------
    >>> match_ids(["b", "a"], ["a", "b"], "patterns", "the table").tolist()
    [1, 0]
    """
    left, right = [str(one) for one in have], [str(one) for one in wanted]
    again = {what: duplicates(left), other: duplicates(right)}
    position, asked = {name: i for i, name in enumerate(left)}, set(right)
    missing = [name for name in right if name not in position]
    extra = [name for name in left if name not in asked]
    found = [f"repeated in {side}: {name_ids(ids)}" for side, ids in again.items() if ids]
    found += [f"missing from {what}: {name_ids(missing)}"] if missing else []
    found += [f"missing from {other}: {name_ids(extra)}"] if extra else []
    if found:
        raise InputError(f"{what} and {other} do not hold the same stimuli; {'; '.join(found)}.")
    return np.array([position[name] for name in right], dtype=int)


def take_conditions(rdms: RDMs, rows: Sequence[int] | np.ndarray) -> RDMs:
    """Reorder or select the conditions of RDMs.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        Left unchanged.
    rows : sequence of int
        Which conditions, in the order wanted, each at most once.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        New object; all descriptors follow.
    """
    from rsatoolbox.rdm import RDMs

    index = np.asarray(rows, dtype=int)
    keep = {name: [_plain(column[i]) for i in index] for name, column in rdms.pattern_descriptors.items()}
    first, second = np.triu_indices(len(index), 1)
    low, high = np.minimum(index[first], index[second]), np.maximum(index[first], index[second])
    position = low * rdms.n_cond - low * (low + 1) // 2 + high - low - 1
    return RDMs(
        rdms.dissimilarities[:, position],
        dissimilarity_measure=rdms.dissimilarity_measure,
        descriptors=dict(rdms.descriptors),
        rdm_descriptors={name: [_plain(one) for one in column] for name, column in rdms.rdm_descriptors.items()},
        pattern_descriptors={name: column for name, column in keep.items() if name != "index"},
    )


def select_kind(rdms: RDMs, kind: str, by: str = "reference_id") -> RDMs:
    """Take the part of one kind of images, its conditions named by the photograph that they come from.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one, with ``pattern_descriptors`` kind and `by`.
    kind : str
        ``"RE"``, ``"AN"``, ``"AI"`` …
    by : str
        Descriptor that becomes ``condition``; the stimulus id stays as ``stimulus``.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Equal to the RDMs of these images alone.

    Raises
    ------
    InputError
        For a missing descriptor, an unknown kind, two images of the kind from one photograph, or fewer than 4.
    """
    for name in ("kind", by):
        if name not in rdms.pattern_descriptors:
            raise InputError(f"the RDMs have no pattern_descriptors['{name}'], so no kind can be selected.")
    kinds = [str(one) for one in rdms.pattern_descriptors["kind"]]
    if kind not in kinds:
        raise unknown_name("kind of stimulus", kind, dict.fromkeys(kinds))
    part = take_conditions(rdms, [i for i, one in enumerate(kinds) if one == kind])
    part.pattern_descriptors["stimulus"] = part.pattern_descriptors["condition"]
    part.pattern_descriptors["condition"] = [str(one) for one in part.pattern_descriptors[by]]
    check_rdms(part, f"RDMs of kind {kind}")
    return part


def align_rdms(a: RDMs, b: RDMs, by: str = "condition", *, join: str = "exact") -> tuple[RDMs, RDMs]:
    """Put two sets of RDMs into the same order of stimuli, by id.

    Parameters
    ----------
    a, b : rsatoolbox.rdm.RDMs
        In any order; left unchanged.
    by : str
        Pattern descriptor that holds the ids.
    join : str
        ``"exact"``: both must hold the same ids. ``"inner"``: the ids that both hold are kept; the others are
        listed in ``descriptors["left_out"]`` of the results.

    Returns
    -------
    tuple of rsatoolbox.rdm.RDMs
        Both in the order of `a`.

    Raises
    ------
    InputError
        Listing missing, extra and repeated ids; also when fewer than 4 stimuli are shared.
    """
    if join not in ("exact", "inner"):
        raise unknown_name("join", join, ("exact", "inner"))
    for rdms, name in ((a, "first"), (b, "second")):
        if by not in rdms.pattern_descriptors:
            raise InputError(f"the {name} RDMs have no pattern_descriptors['{by}'] to be joined by.")
    left = [str(one) for one in a.pattern_descriptors[by]]
    right = [str(one) for one in b.pattern_descriptors[by]]
    if join == "inner":
        shared, left_out = set(left) & set(right), sorted(set(left) ^ set(right))
        a = take_conditions(a, [i for i, one in enumerate(left) if one in shared])
        b = take_conditions(b, [i for i, one in enumerate(right) if one in shared])
        a.descriptors["left_out"] = b.descriptors["left_out"] = ", ".join(left_out)
        left, right = [one for one in left if one in shared], [one for one in right if one in shared]
    rows = match_ids(right, left, "the second RDMs", "the first RDMs")
    check_enough(left, "stimuli shared by both RDMs")
    return take_conditions(a, range(a.n_cond)), take_conditions(b, rows)


# ------------------------------------------------------------------------------------------------------ files


def write_rdms(rdms: RDMs, path: str | os.PathLike[str]) -> Path:
    """Write RDMs in rsatoolbox's own HDF5 layout, atomically.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        With stimulus ids in ``pattern_descriptors["condition"]``.
    path : path-like
        Final file; ``rsatoolbox.rdm.load_rdm(path, file_type="hdf5")`` opens it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When the RDMs do not pass `check_rdms`, or a name is not ASCII (all that rsatoolbox's layout can hold).
    """
    check_rdms(rdms, "RDMs to write")
    plain = take_conditions(rdms, range(rdms.n_cond))
    columns = {**plain.pattern_descriptors, **plain.rdm_descriptors}
    names = [str(one) for column in columns.values() for one in column]
    if foreign := [name for name in names if not name.isascii()]:
        raise InputError(
            f"rsatoolbox's file cannot hold letters beyond ASCII: rename {name_ids(dict.fromkeys(foreign))}."
        )
    with atomic_path(path) as part:
        part.unlink()  # rsatoolbox refuses a file that exists, even an empty one
        plain.save(str(part), file_type="hdf5")
    return Path(path)


def read_rdms(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    variable: str | None = None,
    measure: str = "",
) -> RDMs:
    """Read RDMs from rsatoolbox's HDF5 layout or from a file of another program, and check them.

    Parameters
    ----------
    path : path-like
        A file of `write_rdms` or of ``RDMs.save(path, file_type="hdf5")``; or ``.mat``, ``.npz``, ``.npy``, ``.csv``
        (`neurometamer.rsa.files.read_dissimilarities`).
    ids : sequence of str, optional
        Of the conditions, where the file does not name them.
    variable : str, optional
        Where the file holds several, e.g. a dataset of any HDF5 file.
    measure : str
        What another program's numbers are: one of `MEASURES`, or any words. Only ``"crossnobis"`` may be negative.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Descriptors as lists of Python text and numbers; RDMs of other programs have the descriptor ``name``.

    Raises
    ------
    InputError
        When the file is missing or holds no RDMs, or they do not pass the checks; ids are named.
    """
    if Path(path).suffix.lower() in READERS or variable is not None:
        known = MEASURES.get(measure)
        vectors, found, names = read_dissimilarities(
            path, ids=ids, variable=variable, signed=known is not None and known.signed
        )
        label = known.label if known is not None else measure or "unknown"
        return label_rdms(
            vectors, conditions=found, places={"name": names}, measure=label, provenance={"file": Path(path).name}
        )
    rdms = _read_rsatoolbox(path)
    if ids is not None:
        match_ids(rdms.pattern_descriptors["condition"], ids, str(path), "the ids given")
    return rdms


def _read_rsatoolbox(path: str | os.PathLike[str]) -> RDMs:
    import rsatoolbox.rdm as rsa

    with open_hdf5(path) as file:
        lacking = [name for name in ("dissimilarities", "pattern_descriptors", "rdm_descriptors") if name not in file]
    if lacking:
        raise InputError(f"{path} holds no RDMs: it lacks {', '.join(lacking)}; write it with RDMs.save or write_rdms.")
    loaded = rsa.load_rdm(str(path), file_type="hdf5")
    rdms = take_conditions(loaded, range(loaded.n_cond))
    check_rdms(rdms, str(path))
    if any(rdms.dissimilarity_measure == one.label and not one.signed for one in MEASURES.values()):
        bad = np.unique(np.nonzero(rdms.dissimilarities < -1e-9)[1])
        if bad.size:
            names = rdms.pattern_descriptors["condition"]
            pairs = [f"{names[i]} and {names[j]}" for i, j in np.column_stack(np.triu_indices(rdms.n_cond, 1))[bad]]
            raise InputError(
                f"{path}: {rdms.dissimilarity_measure} cannot be negative, but is between {name_ids(pairs)}; make the "
                "RDMs anew."
            )
    return rdms
