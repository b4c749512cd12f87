"""The steps of a study: one short function each, files in, files out. `plan_steps` puts them in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.store import (
    digest_file,
    generator,
    provenance,
    read_hdf5_array,
    read_json,
    read_table,
    write_hdf5,
    write_json,
    write_table,
    write_text,
)
from neurometamer.study.plan import Progress, Step, Workspace, step_seconds
from neurometamer.study.settings import Subject

if TYPE_CHECKING:
    from fmri.patterns import Patterns
    from stimuli_gen.staged import StagedModel
    from stimuli_gen.stimuli import StimulusSet

SIMULATED, MEASURED, NETWORK = "simulated", "measured", "network"
"""What a table's column ``data`` says its numbers rest on."""


def plan_steps(work: Workspace) -> list[Step]:
    """List the steps of a study in order.

    Parameters
    ----------
    work : Workspace
        Settings and folder.

    Returns
    -------
    list of Step
        For `carry_out`.
    """
    steps = _image_steps(work)
    steps += [
        Step(name="activations", title="network activations", run=activations, needs=("stimuli",), sections=("model",)),
        Step(name="network-rdms", title="network RDMs", run=network_rdms, needs=("activations",), sections=("rsa",)),
    ]
    subjects = subject_names(work)
    steps += _brain_steps(work, subjects)
    last = ["stimuli", "transfer", "network-rdms", *(["brain-rdms", "encoding"] if subjects else [])]
    steps += [
        Step(name="similarity", title="similarity of RE, AN and AI", run=similarity, needs=tuple(last[:1] + last[2:4]),
             sections=("rsa",)),
        *([Step(name="recovery", title="planted truth against what was found", run=recovery,
                needs=("cortex", "patterns", "similarity", "layer-roi", "encoding"), sections=("brain",))]
          if work.settings.brain.source == "simulated" else []),
    ]  # fmt: skip
    done = tuple(step.name for step in steps)
    sections = tuple(work.settings.numbers())
    steps.append(Step(name="results", title="all numbers in one file", run=results, needs=done, sections=sections))
    steps.append(Step(name="report", title="report", run=report, needs=("results",), sections=sections))
    return steps


def _image_steps(work: Workspace) -> list[Step]:
    settings = work.settings
    weights = settings.model.weights
    network = () if weights in ("default", "random") else (work.source(weights),)
    if settings.images.ready:
        ready = work.source(settings.images.ready)
        files = (ready / "stimuli.h5",) if ready.is_dir() else (ready, *_listed_files(ready))
        made = [Step(name="stimuli", title="stimuli", run=ready_stimuli, sections=("images", "model"),
                     reads=(*files, *network))]  # fmt: skip
    else:
        photographs = _photograph_files(work)
        generate = {"noise": "adversarial noise (AN)", "interference": "adversarial interference (AI)"}
        made = [
            Step(name=kind, title=title, run=partial(adversarial, kind=kind), sections=("images", "model", kind),
                 reads=(*photographs, *network, *_target_file(work, kind)))
            for kind, title in generate.items()
        ]  # fmt: skip
        made.append(
            Step(name="stimuli", title="stimuli, judged on the saved PNG files", run=stimuli, needs=tuple(generate),
                 sections=("images", "model"), reads=photographs)
        )  # fmt: skip
    transfer_step = Step(
        name="transfer", title="transfer to other networks", run=transfer, needs=("stimuli",), sections=("transfer",)
    )
    return [*made, transfer_step]


def _brain_steps(work: Workspace, subjects: tuple[str, ...]) -> list[Step]:
    if not subjects:
        return []
    steps = []
    if work.settings.brain.source == "simulated":
        steps.append(Step(name="cortex", title="simulated cortex", run=cortex, needs=("stimuli",), sections=("brain",)))
    for name in subjects:
        files = _subject_files(work, name)
        needs = ("stimuli",) if files else ("stimuli", "cortex")
        steps.append(
            Step(name=f"betas-{name}", title=f"betas of {name}", run=partial(betas, subject=name), needs=needs,
                 sections=("glm", "brain"), reads=files)
        )  # fmt: skip
    fitted = tuple(f"betas-{name}" for name in subjects)
    steps += [
        Step(name="patterns", title="reliable voxels", run=patterns, needs=fitted, sections=("selection",)),
        Step(name="brain-rdms", title="brain RDMs", run=brain_rdms, needs=("patterns",), sections=("rsa",)),
        Step(name="layer-roi", title="layers against regions", run=layer_roi, needs=("network-rdms", "brain-rdms"),
             sections=("rsa",)),
        Step(name="encoding", title="voxel encoding", run=encoding, needs=("activations", "patterns"),
             sections=("encoding", "rsa")),
    ]  # fmt: skip
    return steps


# --------------------------------------------------------------------------------------------------- images


def photographs(work: Workspace) -> StimulusSet:
    """Load the regular images as the network wants them.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    StimulusSet
        Kind RE.
    """
    from neurometamer.zoo import model_entry
    from stimuli_gen.regular import load_photographs, packaged_photographs

    wanted = model_entry(work.settings.model.name).preprocessing
    source = work.settings.images.source
    return packaged_photographs(wanted) if source == "packaged" else load_photographs(work.source(source), wanted)


def adversarial(work: Workspace, progress: Progress, *, kind: str) -> Iterable[Path]:
    """Make AN or AI images; each finished image is kept even when the step is interrupted.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (images done, images).
    kind : {"noise", "interference"}
        Which.

    Returns
    -------
    iterable of Path
        The set's file in the state folder.
    """
    from stimuli_gen.adversarial import adversarial_interference, adversarial_noise
    from stimuli_gen.stimuli import write_stimuli

    options: dict[str, Any] = getattr(work.settings, kind).model_dump()
    if str(options["target"]).endswith(".csv"):
        options["target"] = str(work.source(options["target"]))
    make = {"noise": adversarial_noise, "interference": adversarial_interference}[kind]
    made = make(
        work.model,
        photographs(work),
        **options,
        seed=work.settings.study.seed,
        batch_size=work.settings.run.batch_size,
        resume=work.state("finished", kind),
        progress=progress,
    )
    return [write_stimuli(made, work.state(kind)) / "stimuli.h5"]


def stimuli(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Put RE, AN and AI together, write them, and judge the written PNG files.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        PNG files, table and HDF5 in ``stimuli/``.
    """
    from stimuli_gen.adversarial import confirm_saved
    from stimuli_gen.stimuli import concat_stimuli, read_stimuli, write_stimuli

    parts = [
        named(work.model, photographs(work)),
        *(read_stimuli(work.state(one)) for one in ("noise", "interference")),
    ]
    together = concat_stimuli(parts)
    folder = write_stimuli(together, work.path("stimuli"))
    write_stimuli(confirm_saved(work.model, together, folder), folder)
    return _stimulus_files(folder, together)


def ready_stimuli(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Take images that were made, and shown, before.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        PNG files, table and HDF5 in ``stimuli/``.
    """
    from neurometamer.zoo import model_entry
    from stimuli_gen.regular import load_photographs
    from stimuli_gen.stimuli import read_stimuli, write_stimuli

    source = work.source(work.settings.images.ready)
    if source.is_dir():
        given = read_stimuli(source)
    else:
        given = load_photographs(source, model_entry(work.settings.model.name).preprocessing)
    return _stimulus_files(write_stimuli(named(work.model, given), work.path("stimuli")), given)


def named(model: StagedModel, given: StimulusSet) -> StimulusSet:
    """Add what the network says to images that do not carry it yet: its first class and how sure it is.

    Parameters
    ----------
    model : StagedModel
        The network.
    given : StimulusSet
        Images of the model's input size.

    Returns
    -------
    StimulusSet
        With ``top1_index``, ``top1_name`` and ``confidence_png`` (of the first class, on the 8-bit image).
    """
    from dataclasses import replace

    from stimuli_gen.staged import predict

    if "top1_index" in given.table:
        return given
    found = predict(model, given.as_shown().images).astype(float)
    top = found.argmax(axis=1)
    columns = {"top1_index": top, "top1_name": [model.class_names[i] for i in top], "confidence_png": found.max(axis=1)}
    return replace(given, table=given.table.assign(**columns, model=model.name, weights=model.weights))


def transfer(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Ask other networks about the saved images, each through its own preprocessing.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (networks done, networks).

    Returns
    -------
    iterable of Path
        ``tables/transfer.csv``.
    """
    from neurometamer.zoo import load_model
    from stimuli_gen.staged import predict

    table = shown_stimuli(work).table
    judges: list[StagedModel] = [work.model] if "target_index" in table else []
    names = work.settings.transfer.models if judges else ()
    rows: list[dict[str, Any]] = []
    for number, judge in enumerate([*judges, *names]):
        model = load_model(judge, device=work.settings.run.device) if isinstance(judge, str) else judge
        found = predict(model, seen_by(model, work).images, work.settings.run.batch_size).astype(float)
        rows += _judgements(model, found, table)
        progress(number + 1, len(names) + 1)
    columns = ["judge", "judge_weights", "kind", "n", "says_target", "target_probability", "says_as_photograph"]
    return [write_table(work.path("tables", "transfer.csv"), pd.DataFrame(rows, columns=columns))]


def _judgements(judge: StagedModel, found: np.ndarray, table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a kind: how often the judge says the target, how sure, and how often what it says to the photograph."""
    top = pd.Series(found.argmax(axis=1), index=table["id"])
    rows = []
    for kind, part in table[table["kind"] != "RE"].groupby("kind", sort=False):
        here = part.index.to_numpy()
        target = part["target_index"].to_numpy(dtype=int)
        own = top[part["reference_id"]].to_numpy()
        rows.append(
            {
                "judge": judge.name,
                "judge_weights": judge.weights,
                "kind": kind,
                "n": len(part),
                "says_target": float(np.mean(top.to_numpy()[here] == target)),
                "target_probability": float(np.mean(found[here, target])),
                "says_as_photograph": float(np.mean(top.to_numpy()[here] == own)),
            }
        )
    return rows


def shown_stimuli(work: Workspace) -> StimulusSet:
    """Read the study's stimuli as people are shown them: rounded to 8 bits.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    StimulusSet
        All kinds.
    """
    from stimuli_gen.stimuli import read_stimuli

    return read_stimuli(work.path("stimuli")).as_shown()


def seen_by(model: StagedModel, work: Workspace) -> StimulusSet:
    """Present the saved images to a network: as they are where the size fits, else through its preprocessing.

    Parameters
    ----------
    model : StagedModel
        The network.
    work : Workspace
        The study.

    Returns
    -------
    StimulusSet
        In the order of the study's table.
    """
    from stimuli_gen.regular import load_photographs

    ours = shown_stimuli(work)
    if tuple(ours.images.shape[2:]) == model.preprocessing.size:
        return ours
    return load_photographs([work.path("stimuli", "png", f"{one}.png") for one in ours.ids], model.preprocessing)


# -------------------------------------------------------------------------------------------------- network


def activations(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Run the images through the network once and keep every stage on disk.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (images done, images).

    Returns
    -------
    iterable of Path
        The activation file in the state folder.
    """
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
    """Compute one RDM a stage over all images.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``rdms/network.h5``.
    """
    from neurometamer.activations import read_activations
    from neurometamer.rdm import activation_rdms, write_rdms

    rdms = activation_rdms(
        read_activations(work.state("activations.h5")), _table(work), measure=work.settings.rsa.measure
    )
    return [write_rdms(rdms, work.path("rdms", "network.h5"))]


# ---------------------------------------------------------------------------------------------------- brain


def subject_names(work: Workspace) -> tuple[str, ...]:
    """Name the study's subjects.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    tuple of str
        Empty for a study without a brain.
    """
    brain = work.settings.brain
    if brain.source == "simulated":
        return tuple(f"sub-{number:02d}" for number in range(1, brain.simulation.subjects + 1))
    return tuple(subject.id for subject in brain.subjects) if brain.source == "bold" else ()


def cortex(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Simulate every subject: BOLD runs, events, masks, and the truth that was planted.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (subjects done, subjects).

    Returns
    -------
    iterable of Path
        All files below ``brain/`` and the planted feature spaces.
    """
    from fmri.simulate import simulate_subject

    simulation = work.settings.brain.simulation
    features = planted_features(work)
    ids = shown_stimuli(work).ids
    mixing = {roi: {"gabor": 1 - share, "object": share} for roi, share in simulation.mixing.items()}
    names = subject_names(work)
    written = [write_hdf5(work.state("planted.h5"), arrays={**features, "condition": np.array(ids)})]
    for number, name in enumerate(names):
        subject = simulate_subject(
            work.path("brain", name),
            subject=name,
            conditions=ids,
            features=features,
            mixing=mixing,
            seed=work.settings.study.seed,
            voxels_per_roi=simulation.voxels_per_roi,
            responding=simulation.responding,
            n_runs=simulation.runs,
            noise_sd=simulation.noise_sd,
        )
        written += [*subject.bold, *subject.events, *subject.confounds, *subject.masks.values(), subject.truth_path]
        progress(number + 1, len(names))
    listing = {path.relative_to(work.folder).as_posix(): digest_file(path) for path in written if path.suffix != ".h5"}
    written.append(write_json(work.state("brain-files.json"), listing))
    return written


def planted_features(work: Workspace) -> dict[str, np.ndarray]:
    """Make the two feature spaces that the simulated cortex follows.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    dict of str to ndarray
        ``gabor`` (n_images, p): Gabor energy of the pixels shown. ``object`` (n_images, q): what people see. A
        photograph and its AI image share the photograph's features in a late stage of a fixed network; each AN image
        has a random percept of its own. So nothing in the cortex follows adversarial structure.
    """
    import torch

    from neurometamer.zoo import load_model
    from stimuli_gen.lowlevel import gabor_energy

    simulation = work.settings.brain.simulation
    shown = shown_stimuli(work)
    model = load_model(simulation.object_model, device="cpu")
    images = torch.from_numpy(np.asarray(seen_by(model, work).select(ids=_photograph_ids(shown)).images))
    with torch.no_grad():
        seen = model.activations(images, [simulation.object_stage])[simulation.object_stage].flatten(1).double().numpy()
    place = {one: row for row, one in enumerate(_photograph_ids(shown))}
    spread, center = seen.std(axis=0), seen.mean(axis=0)
    percepts = [
        center + spread * generator(work.settings.study.seed, "percept", row.id).standard_normal(len(spread))
        if row.kind == "AN"
        else seen[place[row.reference_id]]
        for row in shown.table.itertuples()
    ]
    return {"gabor": gabor_energy(np.asarray(shown.images)), "object": np.stack(percepts)}


def betas(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Estimate one beta per image × presentation, simulated and measured subjects by the same path.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (runs done, runs).
    subject : str
        Name.

    Returns
    -------
    iterable of Path
        The betas of all voxels of all regions, in the state folder.
    """
    from fmri.betas import estimate_betas
    from fmri.bold import read_runs
    from fmri.patterns import write_patterns

    files, glm = _scanned(work, subject), work.settings.glm
    runs = read_runs(
        [work.source(one) for one in files.bold],
        [work.source(one) for one in files.events],
        [work.source(one) for one in files.confounds] or None,
        subject=subject,
    )
    fitted = estimate_betas(
        runs,
        {roi: work.source(one) for roi, one in files.masks.items()},
        hrf=glm.hrf_model,
        high_pass_hz=glm.high_pass_hz,
        noise_model=glm.noise_model,
        events=glm.estimator,
        ignore=glm.ignore,
        unusable=glm.unusable,
        progress=progress,
    )
    _check_conditions(work, subject, fitted)
    return [write_patterns(fitted, work.state("betas", f"{subject}.h5"))]


def patterns(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Keep the reliable voxels of each subject and region, judged on regular images only.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``patterns/<subject>.h5``.
    """
    from fmri.patterns import read_patterns, write_patterns
    from fmri.reliability import select_voxels

    selection = work.settings.selection
    table = _table(work)
    regular = table["id"][table["kind"] == selection.kind].tolist()
    written = []
    for name in subject_names(work):
        chosen = read_patterns(work.state("betas", f"{name}.h5"))
        if selection.voxels_per_roi:
            chosen = select_voxels(chosen, conditions=regular, n_per_roi=selection.voxels_per_roi)
        written.append(write_patterns(chosen, work.path("patterns", f"{name}.h5")))
    return written


def brain_rdms(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compute one RDM a subject and region over all images.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``rdms/brain.h5``.
    """
    from neurometamer.rdm import pattern_rdms, write_rdms

    rdms = pattern_rdms(read_subjects(work), _table(work), measure=work.settings.rsa.measure)
    return [write_rdms(rdms, work.path("rdms", "brain.h5"))]


def read_subjects(work: Workspace) -> dict[str, Patterns]:
    """Read the patterns of all subjects.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    dict of str to Patterns
        By subject.
    """
    from fmri.patterns import read_patterns

    return {name: read_patterns(work.path("patterns", f"{name}.h5")) for name in subject_names(work)}


# ----------------------------------------------------------------------------------------------- comparison


def similarity(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compare RE with AN and with AI within each layer and region.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (systems done, systems).

    Returns
    -------
    iterable of Path
        ``tables/similarity.csv`` and ``tables/similarity_difference.csv``.
    """
    from neurometamer.compare import kind_difference, kind_similarity
    from neurometamer.rdm import read_rdms

    options = _comparison_options(work)
    systems = ["network", *(["brain"] if subject_names(work) else [])]
    kinds = set(_table(work)["kind"])
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
    """Compare every layer with every region on regular images, beside the noise ceiling.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``tables/layer_roi.csv``.
    """
    from neurometamer.compare import layer_by_roi
    from neurometamer.rdm import read_rdms

    network, brain = (read_rdms(work.path("rdms", f"{system}.h5")) for system in ("network", "brain"))
    table = layer_by_roi(network, brain, kind="RE", **_comparison_options(work))
    return [write_table(work.path("tables", "layer_roi.csv"), _tagged(work, table, "brain"))]


def encoding(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Predict voxels from layers: trained on RE, tested on held-out RE, on AI and on AN.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Hears (layers done, layers).

    Returns
    -------
    iterable of Path
        ``tables/encoding.csv``.
    """
    from neurometamer.activations import read_activations
    from neurometamer.encoding import fit_encoding

    chosen = work.settings.encoding
    table = fit_encoding(
        read_activations(work.state("activations.h5")),
        read_subjects(work),
        _table(work),
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
    """Hold what was found against what the simulation planted.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``tables/recovery.csv``.
    """
    from neurometamer.study.recovery import recovery_table

    table = recovery_table(work, subject_names(work), mixing=work.settings.brain.simulation.mixing)
    return [write_table(work.path("tables", "recovery.csv"), _tagged(work, table, "brain"))]


# -------------------------------------------------------------------------------------------------- results


def results(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Gather all numbers in one HDF5 file and write down where they come from.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``results.h5``, ``provenance.json`` and the study's own ``study.toml``.
    """
    from neurometamer.rdm import read_rdms
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
    """Write the report page.

    Parameters
    ----------
    work : Workspace
        The study.
    progress : callable
        Not used.

    Returns
    -------
    iterable of Path
        ``report.html``.
    """
    from neurometamer.report import build_report

    return [build_report(work.folder)]


def _provenance(work: Workspace) -> dict[str, Any]:
    settings, model = work.settings, work.model
    table = _table(work)
    notes = [f"{row.id}: {row.note}" for row in table.itertuples() if row.note]
    if "success" in table:
        failed = table[table["success"].eq(False)]
        notes += [f"{row.id} did not meet its criterion: {row.why_not}" for row in failed.itertuples()]
    steps = [path.stem for path in work.state("steps").glob("*.json")]
    return provenance(
        settings.numbers(),
        seed=settings.study.seed,
        run=settings.run.model_dump(mode="json"),
        device=str(model.device),
        model={"name": model.name, "weights": model.weights, "digest": model.digest, "trained": model.trained},
        brain={"source": settings.brain.source, "subjects": list(subject_names(work))},
        digests={"stimuli": shown_stimuli(work).digest},
        notes=notes,
        seconds=step_seconds(work, sorted(steps)),
    )


# -------------------------------------------------------------------------------------------------- helpers


def _table(work: Workspace) -> pd.DataFrame:
    return shown_stimuli(work).table


def _photograph_ids(stimuli: StimulusSet) -> list[str]:
    return stimuli.table["id"][stimuli.table["kind"] == "RE"].tolist()


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


def _stimulus_files(folder: Path, given: StimulusSet) -> list[Path]:
    return [folder / "stimuli.h5", folder / "stimuli.csv", *(folder / "png" / f"{one}.png" for one in given.ids)]


def _photograph_files(work: Workspace) -> tuple[Path, ...]:
    source = work.settings.images.source
    if source == "packaged":
        return ()
    path = work.source(source)
    if path.is_dir():
        return tuple(sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith(".")))
    return (path, *_listed_files(path))


def _listed_files(table: Path) -> tuple[Path, ...]:
    """Name the existing files that a CSV lists; missing ones are told by the reader, with their ids."""
    files = [table.parent / str(one) for one in read_table(table, required=["file"])["file"]]
    return tuple(one for one in files if one.is_file())


def _target_file(work: Workspace, kind: str) -> tuple[Path, ...]:
    target = getattr(work.settings, kind).target
    return (work.source(target),) if str(target).endswith(".csv") else ()


def _subject_files(work: Workspace, name: str) -> tuple[Path, ...]:
    """List the user's files of a measured subject; those of a simulated one are outputs of an earlier step."""
    if work.settings.brain.source == "simulated":
        return ()
    files = _scanned(work, name)
    return tuple(work.source(one) for one in (*files.bold, *files.events, *files.confounds, *files.masks.values()))


def _scanned(work: Workspace, name: str) -> Subject:
    if work.settings.brain.source == "bold":
        return next(one for one in work.settings.brain.subjects if one.id == name)
    files: Mapping[str, str] = read_json(work.state("brain-files.json"))
    ours = sorted(str(work.path(one).resolve()) for one in files if one.startswith(f"brain/{name}/"))
    masks = {
        roi: one for roi in work.settings.brain.simulation.mixing for one in ours if one.endswith(f"roi-{roi}_mask.nii")
    }
    return Subject(
        id=name,
        bold=tuple(one for one in ours if one.endswith("_bold.nii")),
        events=tuple(one for one in ours if one.endswith("_events.tsv")),
        confounds=tuple(one for one in ours if one.endswith("_confounds.tsv")),
        masks=masks,
    )


def _check_conditions(work: Workspace, subject: str, fitted: Patterns) -> None:
    """Refuse events without a stimulus before anything is computed from them."""
    from neurometamer.rdm import match_ids

    match_ids(fitted.conditions, shown_stimuli(work).ids, f"events of {subject}", "the stimuli")


def planted(work: Workspace) -> dict[str, np.ndarray]:
    """Read the feature spaces that were planted.

    Parameters
    ----------
    work : Workspace
        A study with a simulated cortex.

    Returns
    -------
    dict of str to ndarray
        ``gabor``, ``object`` and ``condition``.
    """
    return {name: read_hdf5_array(work.state("planted.h5"), name) for name in ("gabor", "object", "condition")}
