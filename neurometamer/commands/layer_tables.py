"""The command ``neurometamer layers``: files in, a folder of tables and figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.rdms import (
    is_foreign,
    need_places,
    read_blocks,
    read_id_list,
    read_labelled,
    split_labels,
)
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest_file, provenance
from neurometamer.reading import Files
from neurometamer.report.rsa import rdm_stamps, write_layer_page
from neurometamer.resume import writes_into
from neurometamer.store import write_json, write_table

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What `layers` compares and tests.

    Parameters
    ----------
    image_type : str, optional
        Only images of this type, joined by photograph.
    comparator : str
        How RDMs are compared, one of `neurometamer.rsa.comparators.table.COMPARATORS`.
    join : {"exact", "inner"}
        Whether both files must hold the same ids, or those that both hold are used.
    train_on : str
        Layers are chosen and weighted on other subjects and stimuli: both, stimuli, or subjects,
        see `neurometamer.flexible_models`.
    n_folds : int, optional
        Number of parts of the stimuli; by default 2 to 5, by the number of stimuli.
    preferred : str
        How preferred layers are shown: center (of mass) or best, see
        `neurometamer.rsa.hierarchy_test`. They are tested alike.
    n_resamples : int
        Bootstrap resamples of the stimuli; 0 for no intervals.
    n_permutations : int
        Permutations of labels; 0 for no p in ``layer_roi.csv``, and at most 1000 there for slow
        comparators, such as tau-a.
    classes : str
        Where RDMs know classes of stimuli: ``"fixed"`` for intervals about other stimuli of these
        classes, ``"random"`` about as many classes like these (from 10 classes on).
    confidence : float
        Confidence level of the intervals, in (0, 1).
    seed : int
        Seed of all random numbers.

    Examples
    --------
    >>> LayerOptions(n_resamples=0).comparator
    'spearman'
    """

    image_type: str | None = None
    comparator: str = "spearman"
    join: str = "exact"
    train_on: str = "both"
    n_folds: int | None = None
    preferred: str = "center"
    n_resamples: int = 1000
    n_permutations: int = 10_000
    classes: str = "fixed"
    confidence: float = 0.95
    seed: int = 0


@writes_into("out")
@checked
def layers(
    network: str | Path,
    brain: Files,
    out: str | Path,
    *,
    rois: Sequence[str] = (),
    ids: str | Path | Sequence[str] | None = None,
    blocks: str | Path | None = None,
    descriptor: str | None = None,
    progress: Progress | None = None,
    **options: Annotated[Any, KeywordsOf("neurometamer.commands.layer_tables:LayerOptions")],
) -> Path:
    """Set the layers of a network beside the regions of brains: four questions, a table each.

    Parameters
    ----------
    network : path-like
        HDF5 file of RDMs, one a stage, early to late.
    brain : sequence of path-like
        Files of RDMs, one a subject and ROI; joined by stimulus id. Those of other programs name
        neither: write ``FILE=subject:roi`` (`neurometamer.commands.rdms.read_labelled`).
    out : path-like
        Folder for ``layer_roi.csv`` (`layer_matrix`), ``best_layer.csv``, ``weighted.csv`` and
        ``weighted_difference.csv`` (`flexible_models`), ``hierarchy.csv`` (not with
        fewer than 3 ROIs), ``layers.json`` (what went in), ``figures/`` (each as SVG, PNG and CSV)
        and the page ``index.html``.
    rois : sequence of str
        ROIs, early to late, for the hierarchy test; the order of the files when empty.
    ids : path-like or sequence of str, optional
        Ids of the conditions in the order of those brain files of other programs that name none
        (those that name them must agree); or a table with the column ``id`` or ``file``.
    blocks : path-like, optional
        Table with the columns id and block (session or class; with subject where subjects differ):
        labels change places within blocks only, for the p in ``layer_roi.csv``.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox that have no ``condition``
        (`read_rdms`).
    progress : callable, optional
        Called with (resamples done, resamples in all), for the similarities and then for the
        cross-validated models.
    **options : object
        Fields of `LayerOptions`.

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
    ...             nm.rsa.label_rdms(
    ...                 values, conditions=names, rdm_descriptors=places, measure="euclidean"
    ...             ),
    ...             Path(folder) / f"{places['system'][0]}.h5",
    ...         )
    ...         for places in (network, brain)
    ...     )
    ...     page = nm.commands.layers(
    ...         a, [b], Path(folder) / "page", n_resamples=20, n_permutations=20
    ...     )
    ...     table = nm.read_table(page / "layer_roi.csv")
    >>> means = table[table["subject"] == "mean"]
    >>> means[["roi", "layer", "similarity"]].round(2).values.tolist()
    [['V1', 'early', 1.0], ['V1', 'late', 0.14], ['LO', 'early', 0.14], ['LO', 'late', 1.0]]
    """
    from neurometamer.rsa.compute import read_rdms

    chosen = LayerOptions(**options)
    files = list(brain)
    if not files:
        raise InputError("no brain RDMs given; use --brain FILE, one or more.")
    layers = read_rdms(network, descriptor=descriptor)
    names = read_id_list(ids) if isinstance(ids, (str, Path)) else ids
    parts = []
    for file in files:
        own = names if is_foreign(file) else None
        parts.append(need_places(read_labelled(file, ids=own, descriptor=descriptor), file))
    regions = concat_brains(parts)
    tables = _tables(layers, regions, rois, blocks, chosen, progress)
    folder = Path(out)
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
    settings = asdict(chosen) | {"rois": list(rois)}
    paths = [Path(network), *(split_labels(file)[0] for file in files)]
    inputs = {path.name: digest_file(path) for path in paths}
    if blocks is not None:
        inputs[Path(blocks).name] = digest_file(blocks)
    record = provenance(settings, inputs=inputs, tables=sorted(tables))
    write_json(folder / "layers.json", record)
    stamps = []
    for part, path in zip((layers, *parts), paths, strict=True):
        stamps += rdm_stamps(part, path)
    stages = [str(stage) for stage in layers.rdm_descriptors["stage"]]
    write_layer_page(folder, tables, layers=stages, record=record, stamps=stamps)
    return folder


def _tables(
    layers: RDMs,
    regions: RDMs,
    rois: Sequence[str],
    blocks: str | Path | None,
    chosen: LayerOptions,
    progress: Progress | None,
) -> dict[str, pd.DataFrame]:
    """Compare layers with regions, weigh layers, and test the order of regions."""
    from neurometamer.rsa.comparators.table import find_comparator
    from neurometamer.rsa.layers.hierarchy import order_of_regions
    from neurometamer.rsa.layers.matrix import compare_joined, join_model_brain
    from neurometamer.rsa.layers.weighted import CrossValidation, fit_joined

    joined = join_model_brain(layers, regions, image_type=chosen.image_type, join=chosen.join)
    common: dict[str, Any] = {
        "comparator": chosen.comparator,
        "seed": chosen.seed,
    }
    resampled: dict[str, Any] = {
        **common,
        "progress": progress,
        "n_resamples": chosen.n_resamples,
        "confidence": chosen.confidence,
        "classes": chosen.classes,
    }
    n_permutations = chosen.n_permutations
    if not find_comparator(chosen.comparator).linear:
        n_permutations = min(n_permutations, 1000)
    matrix = compare_joined(
        joined,
        n_permutations=n_permutations,
        blocks=None if blocks is None else read_blocks(blocks),
        **resampled,
    )
    models = fit_joined(
        joined,
        folds=CrossValidation(train_on=chosen.train_on, n_folds=chosen.n_folds),
        **resampled,
    )
    tables = {
        "layer_roi": matrix,
        "best_layer": models.best_layer,
        "weighted": models.models,
        "weighted_difference": models.differences,
    }
    if len(rois) or len(joined.rois) > 2:
        tables["hierarchy"] = order_of_regions(
            joined,
            rois,
            preferred=chosen.preferred,
            confidence=chosen.confidence,
            **common,
        )
    return tables


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
    aligned = [first]
    for part in parts[1:]:
        _, matching = align_rdms(first, part)
        aligned.append(matching)
    places: dict[str, list[Any]] = {"subject": [], "roi": []}
    for rdms in aligned:
        if lacking := [name for name in places if name not in rdms.rdm_descriptors]:
            raise InputError(
                f"the brain's RDMs have no rdm_descriptors {name_ids(lacking)}; write them beside "
                "the file: FILE=subject:roi."
            )
        for name, column in places.items():
            column += [str(value) for value in rdms.rdm_descriptors[name]]
    patterns = {}
    for name in ("kind", "reference_id"):
        if name in first.pattern_descriptors:
            patterns[name] = list(first.pattern_descriptors[name])
    return label_rdms(
        np.concatenate([part.dissimilarities for part in aligned]),
        conditions=list(first.pattern_descriptors["condition"]),
        rdm_descriptors=places,
        pattern_descriptors=patterns,
        measure=str(first.dissimilarity_measure),
    )
