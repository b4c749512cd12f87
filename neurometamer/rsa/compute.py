"""Representational dissimilarity matrices (RDMs): built exactly, named and joined by stimulus id.

The container is `rsatoolbox.rdm.RDMs`. One RDM holds all stimuli of all kinds; since 1 -
correlation looks at two stimuli at a time, the RDM of one kind is a part of it (`select_kind`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.rsa.files import READERS, read_dissimilarities
from neurometamer.rsa.measures import MEASURES, Measure, RowRange, check_ranges
from neurometamer.rsa.noise import (
    Noise,
    crossnobis_rdm,
    estimate_noise,
    mahalanobis_rdm,
    residuals_of,
)
from neurometamer.rsa.rdms import (
    MIN_CONDITIONS,
    STIMULI,
    align_rdms,
    ascii_labels,
    check_enough,
    check_rdms,
    label_rdms,
    match_ids,
    place_name,
    select_kind,
    session_descriptors,
    take_conditions,
    take_kind,
)
from neurometamer.store import atomic_path, open_hdf5, seal_hdf5

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns
    from neurometamer.activations import Activations


__all__ = [
    "MIN_CONDITIONS",
    "activation_rdms",
    "align_rdms",
    "check_enough",
    "check_rdms",
    "compute_rdm",
    "find_measure",
    "label_rdms",
    "match_ids",
    "mean_responses",
    "network_rdms",
    "pattern_rdms",
    "place_name",
    "read_rdms",
    "select_kind",
    "take_conditions",
    "take_kind",
    "write_rdms",
]
"""What is found here; labels and joining are defined in `neurometamer.rsa.rdms`."""

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
    >>> compute_rdm(np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])).tolist()
    [0.0, 2.0, 0.5, 2.0, 0.5, 1.5]
    """
    values = np.asarray(values)
    names = [str(one) for one in (range(len(values)) if ids is None else ids)]
    if values.ndim != 2 or len(values) != len(names):
        raise InputError(
            f"{place}: expected one row of values for each of {len(names)} ids, got shape "
            f"{values.shape}."
        )
    known = find_measure(measure)
    check_enough(names, place)
    if again := duplicates(names):
        raise InputError(
            f"{place}: repeated stimulus id(s) {name_ids(again)}; every condition needs an id of "
            "its own."
        )
    if values.dtype.kind not in "fiub":
        raise InputError(f"{place}: responses must be numbers, not {values.dtype}.")
    least = MIN_VOXELS if known.undefined == "constant" else 1
    if values.shape[1] < least:
        raise InputError(f"{place}: {values.shape[1]} unit(s); {_why_enough(known, 1)}.")
    ranges = [RowRange.of(row) for row in values]
    check_ranges(ranges, names, known, place)
    if known.needs:
        return _with_noise(values, measure, noise, place)
    assert known.compute is not None
    rows = _prepared(values, known)
    return known.compute(rows, ranges if rows is values else [RowRange.of(row) for row in rows])


def _why_enough(known: Measure, least: int) -> str:
    if known.undefined == "constant":
        return f"{known.label} needs at least {MIN_VOXELS} (every correlation over two is -1 or 1)"
    return f"an RDM ({known.label}) needs at least {least}"


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
            f"{place}: {measure} needs independent repeats of each stimulus; call crossnobis_rdm, "
            "or pattern_rdms with "
            "patterns of several presentations."
        )
    if noise is None:
        raise InputError(f"{place}: mahalanobis needs the noise of the units; see estimate_noise.")
    return mahalanobis_rdm(values, noise)


# ------------------------------------------------------------------------------------ labelled RDMs


@checked_with(tables={"table": STIMULI})
def activation_rdms(
    activations: Activations, table: pd.DataFrame, *, measure: str = "spearman"
) -> RDMs:
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
        ``pattern_descriptors``: condition, reference_id, kind, and category where the table has it;
        ``rdm_descriptors``: stage, system, model, weights,
        n_units.

    Raises
    ------
    InputError
        When table and activations do not hold the same ids, or a stage cannot be ranked (see
        `compute_rdm`).
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
        np.array(vectors),
        table,
        dict(zip(activations.stages, n_units)),
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
        Of the activations; names model and weights.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        As of `activation_rdms`.
    """
    places: dict[str, Sequence[Any]] = {
        "stage": list(n_units),
        "system": ["network"] * len(n_units),
        "model": [str(provenance.get("model", ""))] * len(n_units),
        "weights": [str(provenance.get("weights", ""))] * len(n_units),
        "n_units": list(n_units.values()),
    }
    return _stimulus_rdms(vectors, table, places, measure, provenance)


@checked_with(tables={"table": STIMULI})
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
        For ``"mahalanobis"`` and ``"crossnobis"``: estimator of the noise covariance from
        presentations minus their stimulus' mean (`estimate_noise`), a ROI at a time; ``"none"``
        treats voxels as equally noisy (crossnobis only).
    folds : str
        For ``"crossnobis"``: column of the observations that tells independent parts apart,
        ``"run"``, ``"presentation"`` or ``"session"``.

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
                    f"{place} has {columns.sum()} voxel(s); {_why_enough(known, MIN_VOXELS)}. "
                    "Enlarge the mask, or "
                    "leave the region out."
                )
            if known.needs:
                single = patterns.values[:, columns].astype(np.float64)
                vectors.append(
                    _presentation_rdm(
                        single,
                        means[:, columns],
                        patterns.observations,
                        ids,
                        known,
                        noise,
                        folds,
                        place,
                    )
                )
            else:
                vectors.append(compute_rdm(means[:, columns], measure, ids=ids, place=place))
            for name, value in zip(places, (subject, str(roi), "brain", int(columns.sum()))):
                places[name].append(value)
    if not vectors:
        raise InputError("no patterns were given; at least one subject with one ROI is needed.")
    settings: dict[str, Any] = {"noise": noise} if known.needs else {}
    settings |= {"folds": folds} if known.needs == "folds" else {}
    settings |= (
        {"simulated": True} if any(one.simulated for one in patterns_by_subject.values()) else {}
    )
    sessions = session_descriptors(patterns_by_subject, table)
    return _stimulus_rdms(np.array(vectors), table, places, measure, settings, sessions)


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
            raise unknown_name(
                "column of observations for folds", folds, list(observations.columns)
            )
        parts = [str(one) for one in observations[folds]]
        if folds == "run":  # runs are counted anew in each session
            parts = [
                f"{session} {part}".strip() for session, part in zip(observations["session"], parts)
            ]
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
    sessions: Mapping[str, Sequence[str]] | None = None,
) -> RDMs:
    patterns = {name: list(table[name]) for name in ("reference_id", "kind")}
    if "category" in table.columns:
        patterns["category"] = ascii_labels(list(table["category"]))
    return label_rdms(
        vectors,
        conditions=list(table["id"]),
        places=places,
        patterns={**patterns, **(sessions or {})},
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
    return means[
        match_ids(conditions, ids, f"patterns of subject '{subject}'", "the stimulus table")
    ]


# -------------------------------------------------------------------------------------------- files


@checked
def write_rdms(rdms: RDMs, path: str | os.PathLike[str]) -> Path:
    r"""Write RDMs in rsatoolbox's own HDF5 layout, atomically.

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
        When the RDMs do not pass `check_rdms`.

    Notes
    -----
    rsatoolbox's layout holds ASCII only. Where a name has other letters, all names are written with
    Python's escapes (``\u72d7`` for 狗), which rsatoolbox shows as they are and `read_rdms` turns
    back.
    """
    import h5py

    check_rdms(rdms, "RDMs to write")
    plain = take_conditions(rdms, range(rdms.n_cond))
    columns = [*plain.pattern_descriptors.values(), *plain.rdm_descriptors.values()]
    escaped = not all(str(name).isascii() for column in columns for name in column)
    if escaped:
        _each_text(plain, lambda name: name.encode("unicode_escape").decode("ascii"))
    with atomic_path(path) as part:
        part.unlink()  # rsatoolbox refuses a file that exists, even an empty one
        plain.save(str(part), file_type="hdf5")
        if escaped:
            with h5py.File(part, "a") as file:
                file.attrs[_ESCAPED] = True
        seal_hdf5(part)
    return Path(path)


_ESCAPED = "names_are_escaped"
"""Attribute of files whose names hold letters beyond ASCII, which rsatoolbox's layout cannot: they are escaped."""


def _each_text(rdms: RDMs, change: Callable[[str], str]) -> None:
    """Change the text in the descriptors of conditions and of RDMs, in place."""
    for descriptors in (rdms.pattern_descriptors, rdms.rdm_descriptors):
        for name, column in descriptors.items():
            descriptors[name] = [
                change(value) if isinstance(value, str) else value for value in column
            ]


@checked
def read_rdms(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    variable: str | None = None,
    measure: str = "",
    descriptor: str | None = None,
) -> RDMs:
    """Read RDMs from rsatoolbox's HDF5 layout or from a file of another program, and check them.

    Parameters
    ----------
    path : path-like
        A file of `write_rdms` or of ``RDMs.save(path, file_type="hdf5")``; or ``.mat``, ``.npz``,
        ``.npy``, ``.csv`` (`neurometamer.rsa.files.read_dissimilarities`).
    ids : sequence of str, optional
        Of the conditions, where the file does not name them.
    variable : str, optional
        Where the file holds several, e.g. a dataset of any HDF5 file.
    measure : str
        What another program's numbers are: one of `MEASURES`, or any words. Only ``"crossnobis"``
        may be negative.
    descriptor : str, optional
        Pattern descriptor of an rsatoolbox file that holds the stimulus ids, where it is not
        ``condition``. When not given, the only descriptor whose values are different names is
        taken.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Descriptors as lists of Python text and numbers; RDMs of other programs have the descriptor
        ``name``.

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
            vectors,
            conditions=found,
            places={"name": names},
            measure=label,
            provenance={"file": Path(path).name},
        )
    rdms = _read_rsatoolbox(path, descriptor)
    if ids is not None:
        match_ids(rdms.pattern_descriptors["condition"], ids, str(path), "the ids given")
    return rdms


def _read_rsatoolbox(path: str | os.PathLike[str], descriptor: str | None) -> RDMs:
    import rsatoolbox.rdm as rsa

    with open_hdf5(path) as file:
        escaped = _ESCAPED in file.attrs
        lacking = [
            name
            for name in ("dissimilarities", "pattern_descriptors", "rdm_descriptors")
            if name not in file
        ]
        if lacking:
            raise InputError(
                f"{path} holds no RDMs: it lacks {', '.join(lacking)}; write it with RDMs.save or "
                "write_rdms."
            )
        loaded = rsa.load_rdm(str(path), file_type="hdf5")
        rdms = take_conditions(loaded, range(loaded.n_cond))
        if escaped:
            _each_text(rdms, lambda name: name.encode("ascii").decode("unicode_escape"))
        held = rdms.pattern_descriptors
        name = _condition_descriptor(held, path, descriptor)
        held["condition"] = [str(value) for value in held[name]]
        check_rdms(rdms, str(path))
    return rdms


def _condition_descriptor(
    held: Mapping[str, Any], path: str | os.PathLike[str], asked: str | None
) -> str:
    """Choose the pattern descriptor with the stimulus ids: the one asked for, ``condition``, or the only names."""
    if asked in held:
        return str(asked)
    if "condition" in held:
        return "condition"
    others = [name for name in held if name != "index"]
    if asked is not None:
        raise unknown_name(f"pattern descriptor of {path}", asked, others)
    names = [name for name in others if _are_ids(held[name])]
    if len(names) == 1:
        return names[0]
    raise InputError(
        f"{path}: no pattern descriptor 'condition' with the stimulus ids (found: "
        f"{', '.join(others) or 'none'}); name "
        "the one that holds them with --descriptor NAME of compare, layers or draw "
        "(Python: read_rdms(path, descriptor=NAME))."
    )


def _are_ids(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values) and not duplicates(values)
