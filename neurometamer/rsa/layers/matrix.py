"""Layers beside regions: joined by id, with p values by permuted labels, and scores above the noise ceiling told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.rsa.comparators.table import COMPARATORS
from neurometamer.rsa.compare import layer_by_roi
from neurometamer.rsa.compute import align_rdms, check_rdms, place_name, take_conditions, take_kind
from neurometamer.rsa.jackknife import Progress
from neurometamer.rsa.permutation import permuted_comparison
from neurometamer.rsa.rdms import ALL_KINDS, stimulus_labels
from neurometamer.stats.permutation import Blocks, stimulus_orders
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

BLOCK = 2**22
"""Permuted dissimilarities held at a time: 32 MiB of float64."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class ModelBrain:
    """The RDMs of a network's stages and of subjects' regions, over the same stimuli in the same order.

    Parameters
    ----------
    ids : tuple of str
        Stimuli (photographs, where one kind was selected), sorted.
    layers : tuple of str
        Stages, in the order of the file.
    layer_vectors : ndarray, shape (n_layers, n_pairs)
        Condensed RDMs.
    rois : mapping of str to (tuple of str, ndarray of shape (n_subjects, n_pairs))
        Region to the subjects that have it and their condensed RDMs.
    kind : str
        Kind of stimuli, or ``"all"``.
    labels : pandas.DataFrame
        Of the stimuli: condition, reference_id and category, see `stimulus_labels`.
    left_out : str
        Ids that only one side held.
    """

    ids: tuple[str, ...]
    layers: tuple[str, ...]
    layer_vectors: np.ndarray
    rois: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    kind: str
    labels: pd.DataFrame
    left_out: str = ""


def join_model_brain(
    network: RDMs, brain: RDMs, *, kind: str | None = None, join: str = "exact"
) -> ModelBrain:
    """Join a network's RDMs with those of brains, by stimulus id.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi: one RDM a subject and ROI.
    kind : str or None
        Kind of stimuli compared, joined by photograph. None takes all stimuli as they are named, if
        they are of one kind; ``"all"`` takes them whatever their kinds (`take_kind`).
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.

    Returns
    -------
    ModelBrain
        Stimuli sorted by id, so that random draws do not depend on the order in a file.

    Raises
    ------
    InputError
        When ids do not match, labels are missing or repeated, or an RDM is constant.
    """
    network, brain = take_kind(network, kind), take_kind(brain, kind)
    check_rdms(network, "the network's RDMs")
    check_rdms(brain, "the brain's RDMs")
    order = np.argsort([str(one) for one in network.pattern_descriptors["condition"]])
    first, second = align_rdms(take_conditions(network, order), brain, join=join)
    for rdms in (first, second):
        flat = np.flatnonzero(np.ptp(rdms.dissimilarities, axis=1) == 0)
        if flat.size:
            names = name_ids(place_name(rdms, int(i)) for i in flat)
            raise InputError(f"all dissimilarities are equal in {names}; leave those RDMs out.")
    layers = [label for (label,) in _labels(first, ("stage",))]
    rois: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    places = _labels(second, ("subject", "roi"))
    for roi in dict.fromkeys(roi for _, roi in places):
        rows = [i for i, (_, one) in enumerate(places) if one == roi]
        rois[roi] = (tuple(places[i][0] for i in rows), second.dissimilarities[rows])
    return ModelBrain(
        ids=tuple(str(one) for one in first.pattern_descriptors["condition"]),
        layers=tuple(layers),
        layer_vectors=first.dissimilarities,
        rois=rois,
        kind=kind or ALL_KINDS,
        labels=stimulus_labels(first, second),
        left_out=str(first.descriptors.get("left_out", "")) if join == "inner" else "",
    )


def _labels(rdms: RDMs, names: Sequence[str]) -> list[tuple[str, ...]]:
    if lacking := [name for name in names if name not in rdms.rdm_descriptors]:
        raise InputError(
            f"the RDMs have no rdm_descriptors {name_ids(lacking)}; they have "
            f"{', '.join(rdms.rdm_descriptors)}."
        )
    labels = list(zip(*([str(one) for one in rdms.rdm_descriptors[name]] for name in names)))
    if again := duplicates(" ".join(label) for label in labels):
        raise InputError(
            f"more than one RDM for {name_ids(again)}; give one RDM for each {' and '.join(names)}."
        )
    return labels


# ------------------------------------------------------------------------- layers x ROIs x subjects


@checked
def layer_matrix(
    network: RDMs,
    brain: RDMs,
    *,
    kind: str | None = None,
    by: str = "spearman",
    join: str = "exact",
    n_resamples: int = 1000,
    n_permutations: int = 10_000,
    blocks: Blocks | None = None,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare stages with ROIs as `layer_by_roi`, with p values, and say which scores exceed the noise ceiling.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi: one RDM a subject and ROI.
    kind : str or None
        Kind of stimuli compared, joined by photograph. None takes all stimuli as they are named, if
        they are of one kind; ``"all"`` takes them whatever their kinds (`take_kind`).
    by : str
        One of `COMPARATORS`. Those of `LINEAR` permute fast; for the others give fewer permutations
        (Notes).
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    n_resamples : int
        Draws for the noise of pairs, at most 400 of them (`project`); 0 for no intervals.
    n_permutations : int
        Permutations of the network's stimulus labels, the same for all cells; 0 for no p.
    blocks : mapping, optional
        Stimulus → session or class, or subject → such a mapping: labels change places within these
        only (`session_labels`, `class_labels`). Where they differ between subjects, there is no p
        of the mean.
    classes : str
        One of `CLASS_CLAIMS`: what intervals are about where the RDMs know classes, see
        `layer_by_roi`.
    seed : int
        Of resamples and permutations.
    confidence : float
        Of the intervals.
    progress : callable, optional
        Hears (comparisons done, comparisons in all) while stimuli are resampled.

    Returns
    -------
    pandas.DataFrame
        The columns of `layer_by_roi`, and p (one-tailed: more alike than with permuted labels),
        p_method, q (Benjamini-Hochberg), family (over what q is), above_ceiling (``""``, ``"low"``
        or ``"high"``), reason.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, an RDM is constant, kinds would be mixed, or
        blocks leave nothing to permute.

    Notes
    -----
    p = (1 + count) / (1 + N), at least 1 / (1 + N). The null says that the network's stimuli have
    nothing to do with the brain's. Without `blocks` stimuli are exchanged freely, so categories or
    sessions shared by both break it.

    Kendall's tau-a is counted anew in each permutation: 0.15 ms a cell and permutation for 40
    stimuli, 0.8 ms for 100 (one core); 8 layers, 5 regions and 3 subjects take 18 s for 1000
    permutations of 40 stimuli.

    Examples
    --------
    >>> table = layer_matrix(network, brain)  # doctest: +SKIP
    >>> table[table["subject"] == "mean"].pivot(index="layer", columns="roi", values="similarity")  # doctest: +SKIP
    """
    if n_permutations < 0:
        raise InputError(f"n_permutations must be 0 or more, not {n_permutations}.")
    table = layer_by_roi(
        network,
        brain,
        kind=kind,
        by=by,
        join=join,
        n_resamples=n_resamples,
        classes=classes,
        seed=seed,
        confidence=confidence,
        progress=progress,
    )
    table = mark_ceilings(table)
    if not n_permutations:
        return table.assign(p=np.nan, p_method="none: no permutations", q=np.nan, family="")
    joined = join_model_brain(network, brain, kind=kind, join=join)
    drawn = _orders_by_subject(joined, n_permutations, seed, blocks)
    found: dict[tuple[str, str, str], tuple[float, str]] = {}
    for roi, (subjects, vectors) in joined.rois.items():
        single, mean = _permutation_p(
            joined.layer_vectors, vectors, [drawn[one][0] for one in subjects], by
        )
        told = (
            drawn[subjects[0]][1]
            if np.isfinite(mean).all()
            else "none: subjects differ in their sessions or classes"
        )
        for i, layer in enumerate(joined.layers):
            found.update(
                {(roi, one, layer): (single[i, j], drawn[one][1]) for j, one in enumerate(subjects)}
            )
            found[roi, "mean", layer] = mean[i], told
    keys = list(zip(table["roi"], table["subject"], table["layer"], strict=True))
    table = table.assign(
        p=[found[key][0] for key in keys], p_method=[found[key][1] for key in keys]
    )
    return control_false_discoveries(table, ("subject",))


def _orders_by_subject(
    joined: ModelBrain, n_permutations: int, seed: int, blocks: Blocks | None
) -> dict[str, tuple[np.ndarray, str]]:
    """Draw orders for each subject: the same array for subjects with the same sessions or classes."""
    everyone = dict.fromkeys(one for subjects, _ in joined.rois.values() for one in subjects)
    own = blocks is not None and isinstance(next(iter(blocks.values()), None), Mapping)
    drawn: dict[Any, tuple[np.ndarray, str]] = {}
    found = {}
    for subject in everyone:
        mapping: Any = blocks
        if own and blocks is not None:
            if subject not in blocks:
                raise InputError(
                    f"no blocks for subject '{subject}'; there are some for {name_ids(blocks)}."
                )
            mapping = blocks[subject]
        key = None if mapping is None else tuple(str(mapping.get(one)) for one in joined.ids)
        if key not in drawn:
            drawn[key] = stimulus_orders(joined.ids, n_permutations, seed, mapping)
        found[subject] = drawn[key]
    return found


def control_false_discoveries(table: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """Add q values (Benjamini-Hochberg) of the column p, over the family of rows that share some labels.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns p and `within`; NaN p are left out of the family.
    within : sequence of str
        Columns whose combinations are families of their own.

    Returns
    -------
    pandas.DataFrame
        With the columns q and family.
    """
    from scipy.stats import false_discovery_control

    q = np.full(len(table), np.nan)
    family = np.full(len(table), "", dtype=object)
    groups: Any = (
        table.groupby(list(within), sort=False).indices if within else {(): np.arange(len(table))}
    )
    p = table["p"].to_numpy(dtype=float)
    for key, rows in groups.items():
        known = rows[np.isfinite(p[rows])]
        if known.size:
            q[known] = false_discovery_control(p[known])
        labels = key if isinstance(key, tuple) else (key,)
        where = ", ".join(f"{name} {one}" for name, one in zip(within, labels))
        family[rows] = f"{known.size} test{'' if known.size == 1 else 's'}" + (
            f" of {where}" if where else ""
        )
    return table.assign(q=q, family=family)


def mark_ceilings(table: pd.DataFrame) -> pd.DataFrame:
    """Say which similarities exceed the noise ceiling, and what that can mean; nothing is cut or hidden.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns similarity, ceiling_low and ceiling_high, as of `layer_by_roi`.

    Returns
    -------
    pandas.DataFrame
        With the columns above_ceiling (``""``, ``"low"``, ``"high"``) and reason.
    """
    marks = [
        _above(*row)
        for row in table[["similarity", "ceiling_low", "ceiling_high"]].to_numpy(dtype=float)
    ]
    return table.assign(above_ceiling=[one for one, _ in marks], reason=[why for _, why in marks])


def _above(score: float, low: float, high: float) -> tuple[str, str]:
    if not np.isfinite(low) or not np.isfinite(high):
        return "", "no ceiling to compare with"
    if score > high:
        return "high", (
            "above the upper bound: no model can do that for all subjects at once unless subjects "
            "share little, "
            "are few, or stimuli are few; check that network and brain RDMs do not share noise"
        )
    if score > low:
        return (
            "low",
            "between the bounds: as good as the other subjects' mean RDM, the data cannot ask for "
            "more",
        )
    return "", ""


# ------------------------------------------------------------------------------------- permutations


def _permutation_p(
    layers: np.ndarray, subjects: np.ndarray, orders: Sequence[np.ndarray], by: str
) -> tuple[np.ndarray, np.ndarray]:
    """Give one-tailed p of each layer and subject (n_layers, n_subjects), and of the mean over subjects.

    Orders are of each subject; where they differ between subjects there is none of the mean (NaN).
    """
    same = all(one is orders[0] for one in orders)
    parts = (
        [(np.arange(len(subjects)), orders[0])]
        if same
        else [([i], one) for i, one in enumerate(orders)]
    )
    single, mean = np.empty((len(layers), len(subjects))), np.full(len(layers), np.nan)
    for columns, drawn in parts:
        value = COMPARATORS[by](layers, subjects[columns])
        above, above_mean = np.zeros(value.shape), np.zeros(len(value))
        slack = 1e-12  # the identity and its equals must count as reached, whatever the order of the sums
        for null in _nulls(
            layers, subjects[columns], drawn, by
        ):  # (n_orders, n_layers, n_subjects)
            above += (null >= value - slack).sum(axis=0)
            above_mean += (null.mean(axis=2) >= value.mean(axis=1) - slack).sum(axis=0)
        single[:, columns] = (1 + above) / (1 + len(drawn))
        if same:
            mean = (1 + above_mean) / (1 + len(drawn))
    return single, mean


def _nulls(
    layers: np.ndarray, subjects: np.ndarray, orders: np.ndarray, by: str
) -> Iterator[np.ndarray]:
    """Compare with the layers in each order, block by block."""
    step = max(1, BLOCK // (len(layers) * layers.shape[1]))
    for start in range(0, len(orders), step):
        yield permuted_comparison(layers, subjects, orders[start : start + step], by)
