"""The Python twin of ``neurometamer layers``: files in, a folder of tables and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.commands.rdm_inputs import (
    is_foreign,
    need_places,
    read_blocks,
    read_id_list,
    read_labelled,
    split_labels,
)
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest_file, provenance
from neurometamer.reading import Files
from neurometamer.report.rsa import rdm_stamps
from neurometamer.report.rsa_pages import write_layer_page
from neurometamer.resume import writes_into
from neurometamer.store import write_json, write_table

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


@writes_into("out")
@checked
def layer_files(
    network: str | Path,
    brain: Files,
    out: str | Path,
    *,
    rois: Sequence[str] = (),
    ids: str | Path | Sequence[str] | None = None,
    kind: str | None = None,
    by: str = "spearman",
    join: str = "exact",
    train_on: str = "both",
    n_folds: int | None = None,
    preferred: str = "center",
    resamples: int = 1000,
    permutations: int = 10_000,
    blocks: str | Path | None = None,
    classes: str = "fixed",
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
    descriptor: str | None = None,
) -> Path:
    """Set the layers of a network beside the regions of brains: four questions, a table each.

    Parameters
    ----------
    network : path-like
        HDF5 file of RDMs, one a stage, early to late.
    brain : sequence of path-like
        Files of RDMs, one a subject and ROI; joined by stimulus id. Those of other programs name
        neither: write ``FILE=subject:roi`` (`neurometamer.commands.rdm_inputs.read_labelled`).
    out : path-like
        Folder for ``layer_roi.csv`` (`layer_matrix`), ``best_layer.csv``, ``weighted.csv`` and
        ``weighted_difference.csv`` (`flexible_models`), ``hierarchy.csv`` (`hierarchy_test`; not
        with fewer than 3 ROIs), ``layers.json`` (what went in), ``figures/`` (each as SVG, PNG and
        CSV) and the page ``index.html``.
    rois : sequence of str
        ROIs, early to late, for the hierarchy test; the order of the files when empty.
    ids : path-like or sequence of str, optional
        Ids of the conditions in the order of those brain files of other programs that name none
        (those that name them must agree); or a table with the column ``id`` or ``file``.
    kind : str, optional
        Only stimuli of this kind, joined by photograph.
    by : str
        Comparator.
    join : {"exact", "inner"}
        Whether both must hold the same ids, or the shared ones are used.
    train_on : str
        See `flexible_models`.
    n_folds : int, optional
        See `flexible_models`.
    preferred : str
        See `hierarchy_test`.
    resamples : int
        Bootstrap resamples of the stimuli; 0 for no intervals.
    permutations : int
        Permutations of labels; 0 for no p in ``layer_roi.csv``, and at most 1000 there for slow
        comparators (those not in `linear_comparators`, such as tau-a).
    blocks : path-like, optional
        Table with the columns id and block (session or class; with subject where subjects differ):
        labels change places within blocks only, for the p in ``layer_roi.csv``.
    classes : str
        Where RDMs know classes of stimuli: ``"fixed"`` for intervals about other stimuli of these
        classes, ``"random"`` about as many classes like these (from 10 classes on).
    confidence : float
        Coverage of the intervals.
    seed : int
        Seed of all draws.
    progress : callable, optional
        Called with (resamples done, resamples in all), for the similarities and then for the
        cross-validated models.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox that have no ``condition``
        (`read_rdms`).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When ids do not match, a name is unknown or missing, or stimuli are too few.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import neurometamer as nm
    >>> values = np.random.default_rng(0).random((2, 28))
    >>> names = [f"image {number}" for number in range(8)]
    >>> network = {"system": ["network"] * 2, "stage": ["early", "late"]}
    >>> brain = {"system": ["brain"] * 2, "subject": ["S1"] * 2, "roi": ["V1", "LO"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     a, b = (
    ...         nm.write_rdms(
    ...             nm.label_rdms(values, conditions=names, places=places, measure="euclidean"),
    ...             Path(folder) / f"{places['system'][0]}.h5",
    ...         )
    ...         for places in (network, brain)
    ...     )
    ...     page = nm.layer_files(a, [b], Path(folder) / "page", resamples=20, permutations=20)
    ...     table = nm.read_table(page / "layer_roi.csv")
    >>> means = table[table["subject"] == "mean"]
    >>> means[["roi", "layer", "similarity"]].round(2).values.tolist()
    [['V1', 'early', 1.0], ['V1', 'late', 0.14], ['LO', 'early', 0.14], ['LO', 'late', 1.0]]
    """
    from neurometamer.rsa.comparators.table import comparator
    from neurometamer.rsa.compute import read_rdms
    from neurometamer.rsa.layers.hierarchy import hierarchy_test
    from neurometamer.rsa.layers.matrix import layer_matrix
    from neurometamer.rsa.layers.weighted import flexible_models

    files = list(brain)
    if not files:
        raise InputError("no brain RDMs given; use --brain FILE, one or more.")
    layers = read_rdms(network, descriptor=descriptor)
    names = read_id_list(ids) if isinstance(ids, (str, Path)) else ids
    parts = []
    for file in files:
        held = read_labelled(file, ids=names if is_foreign(file) else None, descriptor=descriptor)
        parts.append(need_places(held, file))
    regions = concat_brains(parts)
    common: dict[str, Any] = {"kind": kind, "by": by, "join": join, "seed": seed}
    heard: dict[str, Any] = {
        "progress": progress,
        "n_resamples": resamples,
        "confidence": confidence,
        "classes": classes,
    }
    folder = Path(out)
    shown = layer_matrix(
        layers,
        regions,
        **common,
        **heard,
        n_permutations=permutations if comparator(by).linear else min(permutations, 1000),
        blocks=None if blocks is None else read_blocks(blocks),
    )
    fitted = flexible_models(layers, regions, **common, **heard, train_on=train_on, n_folds=n_folds)
    tables = {
        "layer_roi": shown,
        "best_layer": fitted.best_layer,
        "weighted": fitted.models,
        "weighted_difference": fitted.differences,
    }
    if len(rois) or len(set(map(str, regions.rdm_descriptors["roi"]))) > 2:
        tables["hierarchy"] = hierarchy_test(
            layers, regions, rois, **common, preferred=preferred, confidence=confidence
        )
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
    settings = common | {
        "rois": list(rois),
        "train_on": train_on,
        "n_folds": n_folds,
        "preferred": preferred,
        "resamples": resamples,
        "permutations": permutations,
        "classes": classes,
        "confidence": confidence,
    }
    paths = [Path(network), *(split_labels(file)[0] for file in files)]
    read = [*paths, *([Path(blocks)] if blocks else [])]
    record = provenance(
        settings, inputs={path.name: digest_file(path) for path in read}, tables=sorted(tables)
    )
    write_json(folder / "layers.json", record)
    stamps = [
        stamp
        for part, path in zip((layers, *parts), paths, strict=True)
        for stamp in rdm_stamps(part, path)
    ]
    stages = [str(stage) for stage in layers.rdm_descriptors["stage"]]
    write_layer_page(folder, tables, layers=stages, record=record, stamps=stamps)
    return folder


def concat_brains(parts: Sequence[RDMs]) -> RDMs:
    """Put the RDMs of several files together, their stimuli joined by id.

    Parameters
    ----------
    parts : sequence of rsatoolbox.rdm.RDMs
        With ``rdm_descriptors`` subject and roi.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        All, in the order of stimuli of the first.

    Raises
    ------
    InputError
        When files hold other stimuli, or RDMs lack a subject or ROI.
    """
    from neurometamer.rsa.compute import align_rdms, label_rdms

    first = parts[0]
    aligned = [first, *(align_rdms(first, part)[1] for part in parts[1:])]
    places: dict[str, list[Any]] = {"subject": [], "roi": []}
    for rdms in aligned:
        if lacking := [name for name in places if name not in rdms.rdm_descriptors]:
            raise InputError(f"the brain's RDMs have no rdm_descriptors {name_ids(lacking)}.")
        for name, column in places.items():
            column += [str(value) for value in rdms.rdm_descriptors[name]]
    patterns = {
        name: list(first.pattern_descriptors[name])
        for name in ("kind", "reference_id")
        if name in first.pattern_descriptors
    }
    return label_rdms(
        np.concatenate([part.dissimilarities for part in aligned]),
        conditions=list(first.pattern_descriptors["condition"]),
        places=places,
        patterns=patterns,
        measure=str(first.dissimilarity_measure),
    )
