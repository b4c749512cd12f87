"""Steps that compare the two systems and write down what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmri.patterns import says_simulated
from neurometamer.provenance import provenance
from neurometamer.run_options import RunOptions
from neurometamer.store import (
    read_hdf5_attributes,
    read_table,
    write_hdf5,
    write_json,
    write_table,
    write_text,
)
from neurometamer.study.brain_steps import read_subjects, subject_names
from neurometamer.study.image_steps import shown_stimuli, stimulus_table
from neurometamer.study.plan import Progress, Workspace

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from neurometamer.rsa.image_types.nulls import Blocks
    from neurometamer.rsa.image_types.options import ImageTypeOptions
    from neurometamer.rsa.subsample import UnitValues

SIMULATED, MEASURED, NETWORK = "simulated", "measured", "network"
"""What a table's column ``data`` says its numbers rest on."""

MOST_REFITS = 250
"""Resamples in which models of layers are fitted again: their standard error alone is used, known to
5 % from so many, and each takes ten times as long as one of a fixed layer."""

MIN_ROIS = 3
"""Fewer regions have no order to be tested."""


def activations(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Run the images through the network once and keep every stage on disk."""
    from neurometamer.activations import compute_activations

    path = work.state("activations.h5")
    compute_activations(
        work.model,
        shown_stimuli(work),
        stages=work.stages,
        path=path,
        run=RunOptions(batch_size=work.settings.run.batch_size, progress=progress),
    )
    return [path]


def network_rdms(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compute one RDM a stage over all images."""
    from neurometamer.activations import read_activations
    from neurometamer.rsa.compute import activation_rdms, write_rdms

    rdms = activation_rdms(
        read_activations(work.state("activations.h5")),
        stimulus_table(work),
        measure=work.settings.rsa.measure,
    )
    return [write_rdms(rdms, work.path("rdms", "network.h5"))]


def image_types(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Test RE-AN, RE-AI and their difference in each layer and region.

    Trends over the layers are tested too.
    """
    from neurometamer.rsa.compute import read_rdms
    from neurometamer.rsa.image_types.ceilings import kind_reliability
    from neurometamer.rsa.image_types.inference import compare_image_types
    from neurometamer.rsa.image_types.nulls import known_classes
    from neurometamer.rsa.image_types.similarity import MIN_LAYERS, kind_trends

    pairs = told_pairs(work)
    if not pairs:
        return []
    systems = ["network", *(["brain"] if subject_names(work) else [])]
    parts, written = [], []
    for number, system in enumerate(systems):
        rdms = read_rdms(work.path("rdms", f"{system}.h5"))
        options = kind_options(work, system, pairs)
        reliability = None
        if system == "brain":  # for the ceiling of similarities
            subjects, table = read_subjects(work), stimulus_table(work)
            reliability = kind_reliability(subjects, table, options.kinds)
        tested = compare_image_types(
            rdms,
            units=_units(work, system),
            blocks=_blocks(work, options.null),
            options=options,
            categories=known_classes(stimulus_table(work)),
            reliability=reliability,
        )
        parts.append(_tagged(work, tested, system))
        if system == "network" and rdms.n_rdm >= MIN_LAYERS:
            trends = _tagged(work, kind_trends(tested), system)
            written.append(write_table(work.path("tables", "trends.csv"), trends))
        progress(number + 1, len(systems))
    return [
        write_table(work.path("tables", "image_types.csv"), pd.concat(parts, ignore_index=True)),
        *written,
    ]


def kind_options(
    work: Workspace, system: str, pairs: Mapping[str, tuple[str, str]]
) -> ImageTypeOptions:
    """Turn ``[rsa]`` into options; what a network lacks is replaced, as the settings say."""
    from neurometamer.rsa.image_types.inference import OVER_SUBJECTS
    from neurometamer.rsa.image_types.options import ImageTypeOptions

    rsa = work.settings.rsa
    interval, null = rsa.interval if rsa.resamples else "none", rsa.null
    if system == "network":
        interval = "stimuli" if interval in OVER_SUBJECTS else interval
        null = "free" if null == "session" else null
    return ImageTypeOptions(
        perception=pairs.get("AI"),
        decision=pairs.get("AN"),
        by=rsa.comparator,
        interval=interval,
        null=null,
        classes=rsa.classes,
        combine=rsa.combine,
        correction=rsa.correction,
        family=rsa.family,
        n_resamples=rsa.resamples,
        n_permutations=rsa.permutations,
        confidence=rsa.confidence,
        seed=work.settings.study.seed,
    )


def told_pairs(work: Workspace) -> dict[str, tuple[str, str]]:
    """Say which of RE-AN and RE-AI the images of the study can tell, by the second kind."""
    shown = set(stimulus_table(work)["kind"])
    return {kind: ("RE", kind) for kind in ("AN", "AI") if {"RE", kind} <= shown}


def _units(work: Workspace, system: str) -> Iterable[UnitValues] | None:
    """Give the responses behind the RDMs where units are resampled."""
    from neurometamer.activations import read_activations
    from neurometamer.rsa.subsample import activation_units, pattern_units

    if work.settings.rsa.interval != "subsample":
        return None
    if system == "network":
        return activation_units(
            read_activations(work.state("activations.h5")), stimulus_table(work)
        )
    return pattern_units(read_subjects(work), stimulus_table(work))


def _blocks(work: Workspace, null: str) -> Blocks | None:
    """Say of which class, or in which session of each subject, each photograph is."""
    from neurometamer.rsa.image_types.nulls import class_labels, session_labels

    if null == "class":
        return class_labels(stimulus_table(work))
    if null == "session":
        return {
            name: session_labels(patterns, stimulus_table(work))
            for name, patterns in read_subjects(work).items()
        }
    return None


def layers(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compare layers with regions on regular images.

    The tables are all with all, the best layer, weighted layers, and their order.
    """
    from neurometamer.rsa.compute import read_rdms
    from neurometamer.rsa.layers.hierarchy import hierarchy_test
    from neurometamer.rsa.layers.matrix import layer_matrix
    from neurometamer.rsa.layers.weighted import flexible_models

    rsa = work.settings.rsa
    network, brain = (
        read_rdms(work.path("rdms", f"{system}.h5")) for system in ("network", "brain")
    )
    common: dict[str, Any] = {"kind": "RE", "by": rsa.comparator, "seed": work.settings.study.seed}
    tables = {
        "layer_roi": layer_matrix(
            network,
            brain,
            **common,
            n_resamples=rsa.resamples,
            classes=rsa.classes,
            confidence=rsa.confidence,
            n_permutations=rsa.permutations,
            blocks=_blocks(work, rsa.null),
            progress=progress,
        )
    }
    if not too_few_photographs(work):
        fitted = flexible_models(
            network,
            brain,
            **common,
            n_resamples=min(rsa.resamples, MOST_REFITS),
            classes=rsa.classes,
            confidence=rsa.confidence,
            progress=progress,
        )
        tables |= {
            "best_layer": fitted.best_layer,
            "weighted": fitted.models,
            "weighted_difference": fitted.differences,
        }
    rois = _shared_rois(brain)
    if len(rois) >= MIN_ROIS and network.n_rdm > 1:
        tables["hierarchy"] = hierarchy_test(
            network, brain, rois, **common, confidence=rsa.confidence
        )
    return [
        write_table(work.path("tables", f"{name}.csv"), _tagged(work, table, "brain"))
        for name, table in tables.items()
    ]


def too_few_photographs(work: Workspace) -> int:
    """Count the photographs when they are too few for a choice of layers; else 0.

    A layer is chosen on some photographs and judged on others.
    """
    from neurometamer.rsa.compute import MIN_CONDITIONS

    n = int((stimulus_table(work)["kind"] == "RE").sum())
    return n if n < 2 * MIN_CONDITIONS else 0


def _shared_rois(brain: RDMs) -> list[str]:
    """List the regions that every subject has, in the order of all figures."""
    from neurometamer.figures.style import order_places

    known = brain.rdm_descriptors
    places = set(zip(map(str, known["subject"]), map(str, known["roi"])))
    subjects = {subject for subject, _ in places}
    return [
        roi
        for roi in order_places(brain.rdm_descriptors["roi"])
        if all((subject, roi) in places for subject in subjects)
    ]


def encoding(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Predict voxels from layers: trained on RE, tested on held-out RE, on AI and on AN."""
    import warnings

    from neurometamer.activations import read_activations
    from neurometamer.encoding import fit_encoding

    chosen = work.settings.encoding
    with warnings.catch_warnings():
        # The report names the regions whose penalties are at an end of the grid.
        warnings.filterwarnings("ignore", "encoding: penalties at an end of the grid")
        table = fit_encoding(
            read_activations(work.state("activations.h5")),
            read_subjects(work),
            stimulus_table(work),
            scheme=chosen.scheme,
            n_folds=chosen.folds or None,
            alphas=chosen.alphas,
            n_permutations=chosen.permutations,
            allow_repeats=chosen.allow_repeats,
            seed=work.settings.study.seed,
            progress=progress,
        )
    return [write_table(work.path("tables", "encoding.csv"), _tagged(work, table, "brain"))]


def recovery(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Hold what was found against what the simulation planted."""
    from neurometamer.study.recovery import recovery_table

    table = recovery_table(work, subject_names(work), mixing=work.settings.brain.simulation.mixing)
    return [write_table(work.path("tables", "recovery.csv"), _tagged(work, table, "brain"))]


def results(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Gather all numbers in one HDF5 file and write down where they come from."""
    from neurometamer.report.read_study import TABLES
    from neurometamer.rsa.compute import read_rdms
    from neurometamer.study.template import study_toml

    files = {name: work.path("tables", f"{name}.csv") for name in sorted(TABLES)}
    tables = {name: read_table(path) for name, path in files.items() if path.is_file()}
    tables["stimuli"] = shown_stimuli(work).table
    arrays: dict[str, np.ndarray] = {}
    for path in sorted(work.path("rdms").glob("*.h5")):
        rdms = read_rdms(path)
        arrays[f"rdms/{path.stem}/dissimilarities"] = np.asarray(rdms.dissimilarities)
        arrays[f"rdms/{path.stem}/condition"] = np.array(rdms.pattern_descriptors["condition"])
        places = rdms.rdm_descriptors
        tables[f"rdms/{path.stem}/places"] = pd.DataFrame(
            {key: list(places[key]) for key in places if key != "index"}
        )
    record = _provenance(work)
    return [
        write_hdf5(
            work.path("results.h5"), arrays=arrays, tables=tables, attributes={"provenance": record}
        ),
        write_json(work.path("provenance.json"), record),
        write_text(work.path("study.toml"), study_toml(work.settings)),
    ]


def report(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Write the report page."""
    from neurometamer.report.study import build_report

    return [build_report(work.folder)]


def _provenance(work: Workspace) -> dict[str, Any]:
    settings, model = work.settings, work.model
    table = stimulus_table(work)
    notes = [
        f"{image_id}: {note}"
        for image_id, note in zip(table["id"], table["note"], strict=True)
        if note
    ]
    if "success" in table:
        failed = table[table["success"].eq(False)]
        notes += [
            f"{row.id} did not meet its criterion: {row.why_not}" for row in failed.itertuples()
        ]
    notes += _not_made(work)
    notes += work.notes
    return provenance(
        settings.everything(),
        **_metamer_choices(work),
        seed=settings.study.seed,
        run=settings.run.model_dump(mode="json"),
        device=str(model.device),
        model={
            "name": model.name,
            "weights": model.weights,
            "digest": model.digest,
            "trained": model.trained,
        },
        brain={
            "source": settings.brain.source,
            "subjects": list(subject_names(work)),
            "simulated": _simulated(work),
        },
        digests={"stimuli": shown_stimuli(work).digest},
        notes=notes,
    )


def _not_made(work: Workspace) -> list[str]:
    """Say which tables a study of these images cannot have."""
    notes = []
    lacking = [f"RE-{kind}" for kind in ("AN", "AI") if kind not in told_pairs(work)]
    if lacking:
        notes.append(
            f"no tests of {' and '.join(lacking)} (image_types.csv): there are no such images"
        )
    if subject_names(work) and (n := too_few_photographs(work)):
        notes.append(
            f"no cross-validated models of layers (best_layer.csv, weighted.csv): {n} photographs "
            "are too few to choose on some and judge on others"
        )
    return notes


def _metamer_choices(work: Workspace) -> dict[str, Any]:
    """Say what the preset of the metamers leaves open, where there are metamers."""
    from stimuli_gen.presets import PRESETS

    chosen = work.settings.metamers
    if not chosen.sets:
        return {}
    return {
        "metamers": {
            "preset": chosen.preset,
            "open_choices": list(PRESETS[chosen.preset].open_choices),
        }
    }


def _simulated(work: Workspace) -> bool:
    """Say whether any response comes from a simulation.

    It is that of this study, or images say so in their header.
    """
    if work.settings.brain.source != "bold":
        return work.settings.brain.source == "simulated"
    paths = [work.path("patterns", f"{name}.h5") for name in subject_names(work)]
    return any(says_simulated(read_hdf5_attributes(path).get("provenance")) for path in paths)


def _tagged(work: Workspace, table: pd.DataFrame, system: str) -> pd.DataFrame:
    """Say in every row which network and weights it rests on.

    The row also says whether its brain is simulated.
    """
    data = NETWORK if system == "network" else SIMULATED if _simulated(work) else MEASURED
    marks: dict[str, Any] = {
        "model": work.model.name,
        "weights": work.model.weights,
        "trained": work.model.trained,
    }
    # models of regions have names and weights of their own
    named = {
        f"network_{name}" if name in table.columns else name: value for name, value in marks.items()
    }
    return table.assign(**named, data=data)
