"""Steps that compare the two systems and write down what was found."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.store import provenance, read_table, write_hdf5, write_json, write_table, write_text
from neurometamer.study.brain_steps import read_subjects, subject_names
from neurometamer.study.image_steps import shown_stimuli, stimulus_table
from neurometamer.study.plan import Progress, Workspace, step_seconds

SIMULATED, MEASURED, NETWORK = "simulated", "measured", "network"
"""What a table's column ``data`` says its numbers rest on."""


def activations(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Run the images through the network once and keep every stage on disk."""
    from neurometamer.activations import compute_activations

    path = work.state("activations.h5")
    compute_activations(
        work.model,
        shown_stimuli(work),
        stages=work.stages,
        batch_size=work.settings.run.batch_size,
        path=path,
        progress=progress,
    )
    return [path]


def network_rdms(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compute one RDM a stage over all images."""
    from neurometamer.activations import read_activations
    from neurometamer.rsa.rdm import activation_rdms, write_rdms

    rdms = activation_rdms(
        read_activations(work.state("activations.h5")), stimulus_table(work), measure=work.settings.rsa.measure
    )
    return [write_rdms(rdms, work.path("rdms", "network.h5"))]


def similarity(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compare RE with AN and with AI within each layer and region."""
    from neurometamer.rsa.kinds import kind_difference, kind_similarity
    from neurometamer.rsa.rdm import read_rdms

    options = _comparison_options(work)
    systems = ["network", *(["brain"] if subject_names(work) else [])]
    kinds = set(stimulus_table(work)["kind"])
    pairs = [("RE", other) for other in ("AN", "AI") if other in kinds]
    found: dict[str, list[pd.DataFrame]] = {"similarity": [], "similarity_difference": []}
    for number, system in enumerate(systems):
        rdms = read_rdms(work.path("rdms", f"{system}.h5"))
        if pairs:
            found["similarity"].append(_tagged(work, kind_similarity(rdms, pairs, **options), system))
        if len(pairs) == 2:
            found["similarity_difference"].append(_tagged(work, kind_difference(rdms, **options), system))
        progress(number + 1, len(systems))
    return [
        write_table(work.path("tables", f"{name}.csv"), pd.concat(parts, ignore_index=True))
        for name, parts in found.items()
        if parts
    ]


def layer_roi(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compare every layer with every region on regular images, beside the noise ceiling."""
    from neurometamer.rsa.compare import layer_by_roi
    from neurometamer.rsa.rdm import read_rdms

    network, brain = (read_rdms(work.path("rdms", f"{system}.h5")) for system in ("network", "brain"))
    table = layer_by_roi(network, brain, kind="RE", **_comparison_options(work))
    return [write_table(work.path("tables", "layer_roi.csv"), _tagged(work, table, "brain"))]


def encoding(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Predict voxels from layers: trained on RE, tested on held-out RE, on AI and on AN."""
    from neurometamer.activations import read_activations
    from neurometamer.encoding import fit_encoding

    chosen = work.settings.encoding
    table = fit_encoding(
        read_activations(work.state("activations.h5")),
        read_subjects(work),
        stimulus_table(work),
        scheme=chosen.scheme,
        n_folds=chosen.folds or None,
        alphas=chosen.alphas,
        n_bootstrap=work.settings.rsa.resamples,
        confidence=work.settings.rsa.confidence,
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
    from neurometamer.rsa.rdm import read_rdms
    from neurometamer.study.template import study_toml

    tables = {path.stem: read_table(path) for path in sorted(work.path("tables").glob("*.csv"))}
    tables["stimuli"] = shown_stimuli(work).table
    arrays: dict[str, np.ndarray] = {}
    for path in sorted(work.path("rdms").glob("*.h5")):
        rdms = read_rdms(path)
        arrays[f"rdms/{path.stem}/dissimilarities"] = np.asarray(rdms.dissimilarities)
        arrays[f"rdms/{path.stem}/condition"] = np.array(rdms.pattern_descriptors["condition"])
        places = rdms.rdm_descriptors
        tables[f"rdms/{path.stem}/places"] = pd.DataFrame({key: list(places[key]) for key in places if key != "index"})
    record = _provenance(work)
    return [
        write_hdf5(work.path("results.h5"), arrays=arrays, tables=tables, attributes={"provenance": record}),
        write_json(work.path("provenance.json"), record),
        write_text(work.path("study.toml"), study_toml(work.settings)),
    ]


def report(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Write the report page."""
    from neurometamer.report import build_report

    return [build_report(work.folder)]


def _provenance(work: Workspace) -> dict[str, Any]:
    settings, model = work.settings, work.model
    table = stimulus_table(work)
    notes = [f"{one}: {note}" for one, note in zip(table["id"], table["note"], strict=True) if note]
    if "success" in table:
        failed = table[table["success"].eq(False)]
        notes += [f"{row.id} did not meet its criterion: {row.why_not}" for row in failed.itertuples()]
    steps = [path.stem for path in work.state("steps").glob("*.json")]
    return provenance(
        settings.everything(),
        **_metamer_choices(work),
        seed=settings.study.seed,
        run=settings.run.model_dump(mode="json"),
        device=str(model.device),
        model={"name": model.name, "weights": model.weights, "digest": model.digest, "trained": model.trained},
        brain={"source": settings.brain.source, "subjects": list(subject_names(work))},
        digests={"stimuli": shown_stimuli(work).digest},
        notes=notes,
        seconds=step_seconds(work, sorted(steps)),
    )


def _metamer_choices(work: Workspace) -> dict[str, Any]:
    """Say what the preset of the metamers leaves open, where there are metamers."""
    from stimuli_gen.recipes import PRESETS

    chosen = work.settings.metamers
    if not chosen.sets:
        return {}
    return {"metamers": {"preset": chosen.preset, "open_choices": list(PRESETS[chosen.preset].open_choices)}}


def _comparison_options(work: Workspace) -> dict[str, Any]:
    rsa = work.settings.rsa
    return {
        "by": rsa.comparator,
        "n_bootstrap": rsa.resamples,
        "seed": work.settings.study.seed,
        "confidence": rsa.confidence,
    }


def _tagged(work: Workspace, table: pd.DataFrame, system: str) -> pd.DataFrame:
    """Say in every row which network and weights it rests on, and whether its brain is simulated."""
    brain = SIMULATED if work.settings.brain.source == "simulated" else MEASURED
    data = NETWORK if system == "network" else brain
    return table.assign(model=work.model.name, weights=work.model.weights, data=data)
