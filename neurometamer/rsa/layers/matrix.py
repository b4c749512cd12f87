"""Layers compared with regions: p values by permuted labels, and scores above the noise ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.rsa.comparators.table import (
    COMPARATORS,
    comparator_name,
    describe_ceiling,
    find_comparator,
    permuted_comparison,
    subject_ceilings,
)
from neurometamer.rsa.compare import similarity_values
from neurometamer.rsa.jackknife import Projection
from neurometamer.rsa.rdms import (
    ALL_IMAGE_TYPES,
    condition_ids,
    describe_left_out,
    join_rdms,
    stimulus_labels,
    take_image_type,
)
from neurometamer.rsa.sampling import Progress, describe_interval, project, sample_images
from neurometamer.rsa.sessions import labels_of_subject
from neurometamer.stats.resampling import Blocks, p_from_count, stimulus_orders
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

BLOCK = 2**22
"""Permuted dissimilarities held at a time: 32 MiB of float64."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class ModelBrain:
    """RDMs of a network's stages and of subjects' regions, over the same stimuli in one order.

    Parameters
    ----------
    ids : tuple of str
        Stimuli (photographs, where one image type was selected), sorted.
    layers : tuple of str
        Stages, in the order of the file.
    layer_vectors : ndarray, shape (n_layers, n_pairs)
        Condensed RDMs.
    rois : mapping of str to (tuple of str, ndarray of shape (n_subjects, n_pairs))
        Region to the subjects that have it and their condensed RDMs.
    brain_vectors : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs of all regions and subjects, in the order of the file.
    rows : mapping of str to ndarray of int
        Region to its rows in `brain_vectors`.
    image_type : str
        Kind of stimuli, or ``"all"``.
    labels : pandas.DataFrame
        Columns condition, reference_id and category of the stimuli, see `stimulus_labels`.
    left_out : list of str
        Ids that only one side held.
    """

    ids: tuple[str, ...]
    layers: tuple[str, ...]
    layer_vectors: np.ndarray
    rois: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    brain_vectors: np.ndarray
    rows: Mapping[str, np.ndarray]
    image_type: str
    labels: pd.DataFrame
    left_out: Sequence[str] = ()

    def orders(
        self, n_permutations: int, seed: int, blocks: Blocks | None
    ) -> dict[str, tuple[np.ndarray, str]]:
        """Draw orders of the stimuli for each subject.

        Subjects with the same sessions or classes share one array.

        Parameters
        ----------
        n_permutations, seed : int
            See `stimulus_orders`.
        blocks : mapping, optional
            Stimulus → session or class, or subject → such a mapping.

        Returns
        -------
        dict of str to (ndarray of int, shape (m, n), and str)
            Subject to orders and their description.

        Raises
        ------
        InputError
            When a subject or a stimulus has no block, or nothing can be permuted.
        """
        everyone: set[str] = set()
        for subjects, _ in self.rois.values():
            everyone.update(subjects)
        drawn: dict[Any, tuple[np.ndarray, str]] = {}
        orders_of = {}
        for subject in sorted(everyone):
            block_of = labels = None
            if blocks is not None:
                block_of = labels_of_subject(blocks, subject, "blocks")
                labels = tuple(str(block_of.get(name)) for name in self.ids)
            if labels not in drawn:
                drawn[labels] = stimulus_orders(self.ids, n_permutations, seed, block_of)
            orders_of[subject] = drawn[labels]
        return orders_of


def join_model_brain(
    network: RDMs, brain: RDMs, *, image_type: str | None = None, join: str = "exact"
) -> ModelBrain:
    """Join a network's RDMs with those of brains, by stimulus id.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi: one RDM a subject and ROI.
    image_type : str or None
        Image type compared, joined by photograph. By default all stimuli as they are named, where
        they are of one type; ``"all"`` takes them whatever their types (`take_image_type`).
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
    first, second, left_out = join_rdms(
        take_image_type(network, image_type), take_image_type(brain, image_type), join
    )
    layers = [layer for (layer,) in unique_labels(first, ("stage",))]
    rows_of: dict[str, list[int]] = {}
    subjects_of: dict[str, list[str]] = {}
    for row, (subject, roi) in enumerate(unique_labels(second, ("subject", "roi"))):
        rows_of.setdefault(roi, []).append(row)
        subjects_of.setdefault(roi, []).append(subject)
    rois = {}
    for roi, rows in rows_of.items():
        rois[roi] = (tuple(subjects_of[roi]), second.dissimilarities[rows])
    return ModelBrain(
        ids=tuple(condition_ids(first)),
        layers=tuple(layers),
        layer_vectors=first.dissimilarities,
        rois=rois,
        brain_vectors=second.dissimilarities,
        rows={roi: np.array(rows) for roi, rows in rows_of.items()},
        image_type=image_type or ALL_IMAGE_TYPES,
        labels=stimulus_labels(first, second),
        left_out=left_out,
    )


def unique_labels(rdms: RDMs, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Give the labels of each RDM, which must be there and differ.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with the rdm_descriptors `names`.
    names : sequence of str
        Names of rdm_descriptors.

    Returns
    -------
    list of tuple of str
        Labels of each RDM, in the order of `names`.

    Raises
    ------
    InputError
        When a descriptor is missing or two RDMs have the same labels.
    """
    lacking = [name for name in names if name not in rdms.rdm_descriptors]
    if lacking:
        raise InputError(
            f"the RDMs have no rdm_descriptors {name_ids(lacking)}; they have "
            f"{', '.join(rdms.rdm_descriptors)}: give labels with label_rdms."
        )
    labels = []
    for index in range(rdms.n_rdm):
        label = [str(rdms.rdm_descriptors[name][index]) for name in names]
        labels.append(tuple(label))
    again = duplicates(" ".join(label) for label in labels)
    if again:
        raise InputError(
            f"more than one RDM for {name_ids(again)}; give one RDM for each {' and '.join(names)}."
        )
    return labels


# ------------------------------------------------------------------------- layers x ROIs x subjects


@checked
def layer_by_roi(
    network: RDMs,
    brain: RDMs,
    *,
    image_type: str | None = None,
    comparator: str = "spearman",
    join: str = "exact",
    n_resamples: int = 1000,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare every network stage with every ROI, in each subject and on average.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi: one RDM a subject and ROI.
    image_type : str or None
        Image type compared, joined by photograph. By default all stimuli as they are named, where
        they are of one type; ``"all"`` takes them whatever their types (`take_image_type`).
    comparator : str
        One of `COMPARATORS`.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    n_resamples : int
        Draws for the noise of pairs, at most 400 of them (`project`); 0 for no interval.
    classes : str
        One of `CLASS_CLAIMS`: where the RDMs know classes (pattern descriptor category), intervals
        are about other stimuli of these classes (``"fixed"``) or about as many classes like these
        (``"random"``, from 10 classes on).
    seed : int
        Seed of the draws of the noise of pairs.
    confidence : float
        Share of intervals that hold the similarity of many other stimuli, in (0, 1); see
        `compare_rdms`.
    progress : callable, optional
        Receives (comparisons done, comparisons in all) while stimuli are resampled.

    Returns
    -------
    pandas.DataFrame
        The table ``layer_roi.csv``: kind, subject, roi, layer, similarity, ci_low, ci_high,
        ceiling_low, ceiling_high, ceiling, method, n. Rows with subject ``mean`` hold the mean over
        subjects, its interval of the same stimuli (subjects are not resampled), and the usual group
        ceiling.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, a stage or a subject's ROI comes twice, or an RDM
        is constant.

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random, ids = np.random.default_rng(0), [f"im{i}" for i in range(8)]
    >>> vectors = random.random((2, 28))
    >>> network = label_rdms(
    ...     vectors, conditions=ids, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    ... )
    >>> places = {"subject": ["S1", "S2"], "roi": ["V1", "V1"]}
    >>> responses = vectors[:1] + 0.5 * random.random((2, vectors.shape[1]))
    >>> brain = label_rdms(responses, conditions=ids, rdm_descriptors=places, measure="test")
    >>> table = layer_by_roi(network, brain, n_resamples=20)
    >>> table = table[table["subject"] == "mean"]
    >>> table[["layer", "similarity", "ceiling_low"]].round(2).values.tolist()
    [['conv1', 0.9, 0.76], ['fc', 0.17, 0.76]]
    """
    joined = join_model_brain(network, brain, image_type=image_type, join=join)
    return _layer_table(
        joined,
        comparator=comparator,
        n_resamples=n_resamples,
        classes=classes,
        seed=seed,
        confidence=confidence,
        progress=progress,
    )


def _layer_table(
    joined: ModelBrain,
    *,
    comparator: str,
    n_resamples: int,
    classes: str,
    seed: int,
    confidence: float,
    progress: Progress | None,
) -> pd.DataFrame:
    """Compare the layers with every region of every subject, with intervals and ceilings."""
    import pandas as pd

    comparator = comparator_name(comparator)
    entry = COMPARATORS[comparator]
    sampling = sample_images(joined.labels, classes)
    projection = project(
        partial(entry, joined.layer_vectors, joined.brain_vectors),
        sampling,
        n_resamples,
        seed,
        of_pairs=entry.weighs_pairs,
        progress=progress,
    )
    interval = describe_interval(sampling, n_resamples, confidence, of_pairs=entry.weighs_pairs)
    method = f"{comparator}; {interval}{describe_left_out(joined.left_out)}"
    rows = []
    for roi, (subjects, vectors) in joined.rois.items():
        low = high = np.array([np.nan])
        if len(subjects) > 1:
            low, high = subject_ceilings(vectors, comparator)
        common = {
            "kind": joined.image_type,
            "n": len(joined.ids),
            "method": method,
            "roi": roi,
            "ceiling": describe_ceiling(comparator, len(subjects)),
        }
        single = projection.take(joined.rows[roi])
        rows += _layer_rows(joined.layers, subjects, single, confidence, common, low, high)
        common["method"] = f"{method}; mean over subjects"
        group = single.mean()
        low, high = low.mean(), high.mean()
        rows += _layer_rows(joined.layers, ["mean"], group, confidence, common, low, high)
    return pd.DataFrame(rows)[list(LAYER_COLUMNS)]


LAYER_COLUMNS = (
    "kind",
    "subject",
    "roi",
    "layer",
    "similarity",
    "ci_low",
    "ci_high",
    "ceiling_low",
    "ceiling_high",
    "ceiling",
    "method",
    "n",
)
"""Columns of the table ``layer_roi.csv``."""


def _layer_rows(
    layers: Sequence[str],
    subjects: Sequence[str],
    projection: Projection,
    confidence: float,
    common: Mapping[str, Any],
    floor: np.ndarray,
    top: np.ndarray,
) -> list[dict[str, Any]]:
    """Make a row of the table for each subject and layer of one region."""
    low, high = projection.interval(confidence)
    floor = np.broadcast_to(floor, len(subjects))
    top = np.broadcast_to(top, len(subjects))
    rows = []
    for j, subject in enumerate(subjects):
        for i, layer in enumerate(layers):
            row = {
                **common,
                "subject": subject,
                "layer": layer,
                "ceiling_low": float(floor[j]),
                "ceiling_high": float(top[j]),
            }
            row |= similarity_values(projection.values[i, j], low[i, j], high[i, j])
            rows.append(row)
    return rows


@checked
def layer_matrix(
    network: RDMs,
    brain: RDMs,
    *,
    image_type: str | None = None,
    comparator: str = "spearman",
    join: str = "exact",
    n_resamples: int = 1000,
    n_permutations: int = 10_000,
    blocks: Blocks | None = None,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare stages with ROIs as `layer_by_roi`, with p values and marks above the noise ceiling.

    Parameters
    ----------
    network, brain, image_type
        As in `layer_by_roi`.
    comparator : str
        One of `COMPARATORS`. Those of `linear_comparators` permute fast; for the others give fewer
        permutations (Notes).
    join, n_resamples
        As in `layer_by_roi`.
    n_permutations : int
        Permutations of the network's stimulus labels, the same for all cells; 0 for no p.
    blocks : mapping, optional
        Stimulus → session or class, or subject → such a mapping: labels change places within these
        only (`session_labels`, `class_labels`). Where they differ between subjects, there is no p
        of the mean.
    classes
        As in `layer_by_roi`.
    seed : int
        Seed of resamples and permutations.
    confidence, progress
        As in `layer_by_roi`.

    Returns
    -------
    pandas.DataFrame
        The columns of `layer_by_roi`, and p (one-tailed: more alike than with permuted labels),
        p_method, q (Benjamini-Hochberg), family (over what q is), above_ceiling (``""``, ``"low"``
        or ``"high"``), reason.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, an RDM is constant, image types would be mixed, or
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
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random, ids = np.random.default_rng(0), [f"im{i}" for i in range(8)]
    >>> vectors = random.random((2, 28))
    >>> network = label_rdms(
    ...     vectors, conditions=ids, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    ... )
    >>> places = {"subject": ["S1", "S2"], "roi": ["V1", "V1"]}
    >>> responses = vectors[:1] + 0.5 * random.random((2, vectors.shape[1]))
    >>> brain = label_rdms(responses, conditions=ids, rdm_descriptors=places, measure="test")
    >>> table = layer_matrix(network, brain, n_resamples=20, n_permutations=99)
    >>> table[table["subject"] == "mean"][["layer", "similarity", "p"]].round(2).values.tolist()
    [['conv1', 0.9, 0.01], ['fc', 0.17, 0.21]]
    """
    joined = join_model_brain(network, brain, image_type=image_type, join=join)
    return compare_joined(
        joined,
        comparator=comparator,
        n_resamples=n_resamples,
        n_permutations=n_permutations,
        blocks=blocks,
        classes=classes,
        seed=seed,
        confidence=confidence,
        progress=progress,
    )


def compare_joined(
    joined: ModelBrain,
    *,
    comparator: str = "spearman",
    n_resamples: int = 1000,
    n_permutations: int = 10_000,
    blocks: Blocks | None = None,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare stages with ROIs that are joined already: the table of `layer_matrix`.

    Parameters
    ----------
    joined : ModelBrain
        See `join_model_brain`.
    comparator, n_resamples, n_permutations, blocks, classes, seed, confidence, progress : object
        See `layer_matrix`.

    Returns
    -------
    pandas.DataFrame
        See `layer_matrix`.

    Raises
    ------
    InputError
        See `layer_matrix`.
    """
    if n_permutations < 0:
        raise InputError(f"n_permutations must be 0 or more, not {n_permutations}.")
    table = _layer_table(
        joined,
        comparator=comparator,
        n_resamples=n_resamples,
        classes=classes,
        seed=seed,
        confidence=confidence,
        progress=progress,
    )
    table = mark_ceilings(table)
    if not n_permutations:
        return table.assign(p=np.nan, p_method="none: no permutations", q=np.nan, family="")
    drawn = joined.orders(n_permutations, seed, blocks)
    tests: dict[tuple[str, str, str], tuple[float, str]] = {}
    for roi, (subjects, vectors) in joined.rois.items():
        orders = [drawn[subject][0] for subject in subjects]
        single, mean = _permutation_p(
            joined.layer_vectors,
            vectors,
            orders,
            comparator,
        )
        mean_method = "none: subjects differ in their sessions or classes"
        if np.isfinite(mean).all():
            mean_method = drawn[subjects[0]][1]
        for i, layer in enumerate(joined.layers):
            tests[roi, "mean", layer] = (mean[i], mean_method)
            for j, subject in enumerate(subjects):
                tests[roi, subject, layer] = (single[i, j], drawn[subject][1])
    p, methods = [], []
    cells = zip(table["roi"], table["subject"], table["layer"], strict=True)
    for cell in cells:
        p_of_cell, method = tests[cell]
        p.append(p_of_cell)
        methods.append(method)
    table = table.assign(p=p, p_method=methods)
    return control_false_discoveries(table, ("subject",))


def control_false_discoveries(table: pd.DataFrame, within: Sequence[str]) -> pd.DataFrame:
    """Add q values (Benjamini-Hochberg) of the column p, family by family.

    Parameters
    ----------
    table : pandas.DataFrame
        Table with the columns p and `within`; NaN p are left out of the family.
    within : sequence of str
        Columns whose combinations are families of their own.

    Returns
    -------
    pandas.DataFrame
        Table with the further columns q and family.
    """
    from scipy.stats import false_discovery_control

    p = table["p"].to_numpy(dtype=float)
    q = np.full(len(table), np.nan)
    family = np.full(len(table), "", dtype=object)
    rows_of: Any = {(): np.arange(len(table))}
    if within:
        rows_of = table.groupby(list(within), sort=False).indices
    for key, rows in rows_of.items():
        tested = rows[np.isfinite(p[rows])]
        if tested.size:
            q[tested] = false_discovery_control(p[tested])
        text = "1 test" if tested.size == 1 else f"{tested.size} tests"
        labels = key if isinstance(key, tuple) else (key,)
        where = [f"{name} {label}" for name, label in zip(within, labels)]
        if where:
            text += f" of {', '.join(where)}"
        family[rows] = text
    return table.assign(q=q, family=family)


def mark_ceilings(table: pd.DataFrame) -> pd.DataFrame:
    """Mark similarities that exceed the noise ceiling, with what that can mean; none is cut.

    Parameters
    ----------
    table : pandas.DataFrame
        Table with the columns similarity, ceiling_low and ceiling_high of `layer_by_roi`.

    Returns
    -------
    pandas.DataFrame
        Table with the columns above_ceiling (``""``, ``"low"``, ``"high"``) and reason.
    """
    marks, reasons = [], []
    columns = table[["similarity", "ceiling_low", "ceiling_high"]]
    for similarity, low, high in columns.to_numpy(dtype=float):
        mark, reason = "", "no ceiling to compare with"
        if np.isfinite(low) and np.isfinite(high):
            if similarity > low:
                mark = "high" if similarity > high else "low"
            reason = ABOVE[mark]
        marks.append(mark)
        reasons.append(reason)
    return table.assign(above_ceiling=marks, reason=reasons)


ABOVE = {
    "": "",
    "low": "between the bounds: as good as the other subjects' mean RDM, the data cannot ask for "
    "more",
    "high": "above the upper bound: no model can do that for all subjects at once unless subjects "
    "share little, are few, or stimuli are few; check that network and brain RDMs do not share "
    "noise",
}
"""Mark of a similarity above a bound of the noise ceiling to what it can mean."""


# ------------------------------------------------------------------------------------- permutations


def _permutation_p(
    layers: np.ndarray, subjects: np.ndarray, orders: Sequence[np.ndarray], comparator: str
) -> tuple[np.ndarray, np.ndarray]:
    """Compute one-tailed p of each layer and subject, and of the mean over subjects.

    Orders are of each subject; where they differ between subjects there is none of the mean (NaN).
    """
    is_same = all(order is orders[0] for order in orders)
    parts = [(slice(i, i + 1), drawn) for i, drawn in enumerate(orders)]
    if is_same:
        parts = [(slice(None), orders[0])]
    single = np.empty((len(layers), len(subjects)))
    mean = np.full(len(layers), np.nan)
    # the identity and its equals count as reached, whatever the order of the sums
    slack = 1e-12
    step = max(1, BLOCK // layers.size)
    for columns, drawn in parts:
        value = find_comparator(comparator)(layers, subjects[columns])
        mean_value = value.mean(axis=1)
        reached = np.zeros(value.shape)
        reached_by_mean = np.zeros(len(value))
        for start in range(0, len(drawn), step):
            block = drawn[start : start + step]
            null = permuted_comparison(layers, subjects[columns], block, comparator)
            reached += (null >= value - slack).sum(axis=0)
            reached_by_mean += (null.mean(axis=2) >= mean_value - slack).sum(axis=0)
        single[:, columns] = p_from_count(reached, len(drawn))
        if is_same:
            mean = p_from_count(reached_by_mean, len(drawn))
    return single, mean
