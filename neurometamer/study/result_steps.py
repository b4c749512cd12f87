"""Steps that compare the two systems and write down what was found."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.patterns import says_simulated
from neurometamer.activations import compute_activations, read_activations
from neurometamer.encoding.generalization import fit_encoding
from neurometamer.figures.style import order_representations
from neurometamer.provenance import provenance
from neurometamer.report.read_study import TABLES
from neurometamer.report.study import build_report
from neurometamer.rsa.compute import MIN_CONDITIONS, activation_rdms, read_rdms, write_rdms
from neurometamer.rsa.image_types.ceilings import image_type_reliability
from neurometamer.rsa.image_types.inference import OVER_SUBJECTS, compare_image_types
from neurometamer.rsa.image_types.nulls import (
    Blocks,
    class_labels,
    known_classes,
    session_labels,
)
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.rsa.image_types.similarity import MIN_LAYERS, image_type_trends
from neurometamer.rsa.layers.hierarchy import order_of_regions
from neurometamer.rsa.layers.matrix import compare_joined, join_model_brain
from neurometamer.rsa.layers.weighted import fit_joined
from neurometamer.rsa.subsample import activation_units, pattern_units
from neurometamer.run_options import RunOptions
from neurometamer.store import (
    read_hdf5_attributes,
    read_table,
    write_hdf5,
    write_json,
    write_table,
    write_text,
)
from neurometamer.study.brain_steps import compared_patterns, read_subjects, subject_names
from neurometamer.study.image_steps import shown_stimuli, stimulus_table
from neurometamer.study.plan import Progress, Workspace
from neurometamer.study.recovery import recovery_table
from neurometamer.study.settings import MEASURED_SOURCES
from neurometamer.study.template import study_toml

SIMULATED, MEASURED, NETWORK = "simulated", "measured", "network"
"""What a table's column ``data`` says its numbers rest on."""

MOST_REFITS = 250
"""Resamples in which models of layers are fitted again.

Their standard error alone is used, known to 5 % from so many, and each takes ten times as long as
one of a fixed layer.
"""

MIN_ROIS = 3
"""Fewer regions have no order to be tested."""


def activations(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Run the images through the network once and keep every stage on disk."""
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
    pairs = image_pairs(work)
    if not pairs:
        return []
    systems = ["network", "brain"] if subject_names(work) else ["network"]
    stimuli = stimulus_table(work)
    resamples_units = work.settings.rsa.interval == "subsample"
    parts = []
    written = []
    for number, system in enumerate(systems):
        rdms = read_rdms(work.path("rdms", f"{system}.h5"))
        options = image_type_options(work, system, pairs)
        units = None
        reliability = None
        if system == "network" and resamples_units:
            units = activation_units(read_activations(work.state("activations.h5")), stimuli)
        elif system == "brain":
            subjects = compared_patterns(work)
            # for the ceiling of similarities
            reliability = image_type_reliability(subjects, stimuli, options.image_types)
            units = pattern_units(subjects, stimuli) if resamples_units else None
        tested = compare_image_types(
            rdms,
            units=units,
            blocks=_blocks(work, options.null),
            options=options,
            categories=known_classes(stimuli),
            reliability=reliability,
        )
        parts.append(_tagged(work, tested, system))
        if system == "network" and rdms.n_rdm >= MIN_LAYERS:
            trends = _tagged(work, image_type_trends(tested), system)
            written.append(write_table(work.path("tables", "trends.csv"), trends))
        progress(number + 1, len(systems))
    table = pd.concat(parts, ignore_index=True)
    return [write_table(work.path("tables", "image_types.csv"), table), *written]


def image_type_options(
    work: Workspace, system: str, pairs: Mapping[str, tuple[str, str]]
) -> ImageTypeOptions:
    """Turn ``[rsa]`` into options; what a network does not have is replaced, as in the settings."""
    rsa = work.settings.rsa
    interval = rsa.interval if rsa.n_resamples else "none"
    null = rsa.null
    if system == "network":
        interval = "stimuli" if interval in OVER_SUBJECTS else interval
        null = "free" if null == "session" else null
    return ImageTypeOptions(
        perception=pairs.get("AI"),
        decision=pairs.get("AN"),
        comparator=rsa.comparator,
        interval=interval,
        null=null,
        classes=rsa.classes,
        combine=rsa.combine,
        correction=rsa.correction,
        family=rsa.family,
        n_resamples=rsa.n_resamples,
        n_permutations=rsa.n_permutations,
        confidence=rsa.confidence,
        seed=work.settings.study.seed,
    )


def image_pairs(work: Workspace) -> dict[str, tuple[str, str]]:
    """Return the pairs of RE-AN and RE-AI that the study has images for, by the second kind."""
    shown = set(stimulus_table(work)["kind"])
    pairs = {}
    for kind in ("AN", "AI"):
        if "RE" in shown and kind in shown:
            pairs[kind] = ("RE", kind)
    return pairs


def _blocks(work: Workspace, null: str) -> Blocks | None:
    """Return the class, or the session for each subject, of each photograph."""
    stimuli = stimulus_table(work)
    if null == "class":
        return class_labels(stimuli)
    if null != "session":
        return None
    sessions = {}
    for name, patterns in compared_patterns(work).items():
        sessions[name] = session_labels(patterns, stimuli)
    return sessions


def layers(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compare layers with regions on regular images.

    The tables are all with all, the best layer, weighted layers, and their order.
    """
    rsa = work.settings.rsa
    network = read_rdms(work.path("rdms", "network.h5"))
    brain = read_rdms(work.path("rdms", "brain.h5"))
    joined = join_model_brain(network, brain, image_type="RE")
    common: dict[str, Any] = {
        "comparator": rsa.comparator,
        "seed": work.settings.study.seed,
        "confidence": rsa.confidence,
    }
    tables = {
        "layer_roi": compare_joined(
            joined,
            **common,
            n_resamples=rsa.n_resamples,
            classes=rsa.classes,
            n_permutations=rsa.n_permutations,
            blocks=_blocks(work, rsa.null),
            progress=progress,
        )
    }
    if not too_few_photographs(work):
        fitted = fit_joined(
            joined,
            **common,
            n_resamples=min(rsa.n_resamples, MOST_REFITS),
            classes=rsa.classes,
            progress=progress,
        )
        tables["best_layer"] = fitted.best_layer
        tables["weighted"] = fitted.models
        tables["weighted_difference"] = fitted.differences
    subjects = [str(subject) for subject in brain.rdm_descriptors["subject"]]
    regions = [str(roi) for roi in brain.rdm_descriptors["roi"]]
    places = set(zip(subjects, regions, strict=True))
    # the regions that every subject has, in the order of all figures
    rois = []
    for roi in order_representations(regions):
        if all((subject, roi) in places for subject in subjects):
            rois.append(roi)
    if len(rois) >= MIN_ROIS and network.n_rdm > 1:
        tables["hierarchy"] = order_of_regions(joined, rois, **common)
    written = []
    for name, table in tables.items():
        path = work.path("tables", f"{name}.csv")
        written.append(write_table(path, _tagged(work, table, "brain")))
    return written


def too_few_photographs(work: Workspace) -> int:
    """Count the photographs when they are too few for a choice of layers; else 0.

    A layer is chosen on some photographs and judged on others.
    """
    is_photograph = stimulus_table(work)["kind"] == "RE"
    n_photographs = int(is_photograph.sum())
    return n_photographs if n_photographs < 2 * MIN_CONDITIONS else 0


def encoding(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Predict voxels from layers: trained on RE, tested on held-out RE, on AI and on AN."""
    chosen = work.settings.encoding
    with warnings.catch_warnings():
        # The report names the regions whose penalties are at an end of the grid.
        warnings.filterwarnings("ignore", "encoding: penalties at an end of the grid")
        table = fit_encoding(
            read_activations(work.state("activations.h5")),
            read_subjects(work),
            stimulus_table(work),
            solver=chosen.solver,
            scheme=chosen.scheme,
            n_folds=chosen.folds or None,
            alphas=chosen.alphas,
            n_permutations=chosen.n_permutations,
            allow_repeats=chosen.allow_repeats,
            seed=work.settings.study.seed,
            progress=progress,
        )
    path = work.path("tables", "encoding.csv")
    return [write_table(path, _tagged(work, table, "brain"))]


def recovery(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compare what was found with what the simulation planted."""
    table = recovery_table(work, subject_names(work))
    path = work.path("tables", "recovery.csv")
    return [write_table(path, _tagged(work, table, "brain"))]


def results(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Gather all numbers in one HDF5 file and write down where they come from."""
    tables = {}
    for name in sorted(TABLES):
        path = work.path("tables", f"{name}.csv")
        if path.is_file():
            tables[name] = read_table(path)
    tables["stimuli"] = shown_stimuli(work).table
    arrays: dict[str, np.ndarray] = {}
    for path in sorted(work.path("rdms").glob("*.h5")):
        rdms = read_rdms(path)
        group = f"rdms/{path.stem}"
        arrays[f"{group}/dissimilarities"] = np.asarray(rdms.dissimilarities)
        arrays[f"{group}/condition"] = np.array(rdms.pattern_descriptors["condition"])
        descriptors = {key: list(values) for key, values in rdms.rdm_descriptors.items()}
        descriptors.pop("index", None)
        tables[f"{group}/places"] = pd.DataFrame(descriptors)
    record = _provenance(work)
    numbers = write_hdf5(
        work.path("results.h5"),
        arrays=arrays,
        tables=tables,
        attributes={"provenance": record},
    )
    return [
        numbers,
        write_json(work.path("provenance.json"), record),
        write_text(work.path("study.toml"), study_toml(work.settings)),
    ]


def report(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Write the report page."""
    return [build_report(work.folder)]


def _provenance(work: Workspace) -> dict[str, Any]:
    """Collect where the numbers of a study come from, with notes about its images."""
    from stimuli_gen.presets import PRESETS

    settings = work.settings
    model = work.model
    drifts = set()  # of the runs: cosines of the design, or confounds
    for name in subject_names(work):
        attributes = read_hdf5_attributes(work.path("patterns", f"{name}.h5"))
        for run in attributes.get("provenance", {}).get("runs", []):
            drifts.add(str(run.get("drift", "cosine")))
    more: dict[str, Any] = {}
    if settings.metamers.sets:
        preset = settings.metamers.preset
        more["metamers"] = {
            "preset": preset,
            "open_choices": list(PRESETS[preset].open_choices),
        }
    return provenance(
        settings.everything(),
        **more,
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
            "drifts": sorted(drifts),
        },
        digests={"stimuli": shown_stimuli(work).digest},
        notes=[*_notes(work), *work.notes],
    )


def _notes(work: Workspace) -> list[str]:
    """List what is unusual about the images, and which tables a study of them cannot have."""
    table = stimulus_table(work)
    notes = []
    for image_id, note in zip(table["id"], table["note"], strict=True):
        if note:
            notes.append(f"{image_id}: {note}")
    if "success" in table:
        for row in table[table["success"].eq(False)].itertuples():
            notes.append(f"{row.id} did not meet its criterion: {row.why_not}")
    failures = work.path("tables", "failures.csv")
    if failures.is_file():
        for row in read_table(failures).itertuples():
            notes.append(f"{row.id} ({row.made_for}) did not meet its criterion: {row.why_not}")
    pairs = image_pairs(work)
    lacking = [f"RE-{kind}" for kind in ("AN", "AI") if kind not in pairs]
    if lacking:
        names = " and ".join(lacking)
        notes.append(f"no tests of {names} (image_types.csv): there are no such images")
    n_photographs = too_few_photographs(work)
    if n_photographs and subject_names(work):
        notes.append(
            "no cross-validated models of layers (best_layer.csv, weighted.csv): "
            f"{n_photographs} photographs are too few to choose on some and judge on others"
        )
    return notes


def _simulated(work: Workspace) -> bool:
    """Return whether any response comes from a simulation.

    It is that of this study, or images say so in their header.
    """
    source = work.settings.brain.source
    if source not in MEASURED_SOURCES:
        return source == "simulated"
    for name in subject_names(work):
        attributes = read_hdf5_attributes(work.path("patterns", f"{name}.h5"))
        if says_simulated(attributes.get("provenance")):
            return True
    return False


def _tagged(work: Workspace, table: pd.DataFrame, system: str) -> pd.DataFrame:
    """Add columns with the network and its weights, and whether the brain is simulated."""
    if system == "network":
        data = NETWORK
    elif _simulated(work):
        data = SIMULATED
    else:
        data = MEASURED
    marks: dict[str, Any] = {
        "model": work.model.name,
        "weights": work.model.weights,
        "trained": work.model.trained,
    }
    columns = {}
    for name, value in marks.items():
        # models of regions have names and weights of their own
        column = f"network_{name}" if name in table.columns else name
        columns[column] = value
    return table.assign(**columns, data=data)
