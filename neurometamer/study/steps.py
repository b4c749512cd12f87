"""Run a study: the table of its steps, and the calls that carry them out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from fmri.bids import sidecar_files
from fmri.confounds import metrics_beside, mixing_beside
from fmri.rois.regions import region_files
from fmri.series import hemisphere_files
from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.store import read_table
from neurometamer.study import (
    brain_steps,
    contrast_maps,
    disagreement_steps,
    image_steps,
    result_steps,
)
from neurometamer.study.brain_steps import mesh_files, scanned, subject_names, with_contrasts
from neurometamer.study.checks import Problem, find_problems, raise_errors
from neurometamer.study.contrast_maps import localizer_files
from neurometamer.study.disagreement_checks import compared_networks
from neurometamer.study.plan import Reporter, Step, Workspace, carry_out
from neurometamer.study.settings import (
    MEASURED_SOURCES,
    Localizer,
    StudySettings,
    Subject,
    read_settings,
)
from neurometamer.study.words import in_words_of_settings, setting_names
from neurometamer.zoo.sources import own_files
from stimuli_gen.photograph_lists import list_photographs

EVERYTHING = "*"
"""Stands for all steps before, and for all sections of the settings that change numbers."""

SUBJECT_SECTION = "brain.subjects.{part}"
"""Section of one scanned subject."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several steps of an entry, such as that of one subject.

    Attributes
    ----------
    name : str
        End of the step's name; empty for an entry of a single step.
    title : str
        Stands for ``{part}`` in the title of the entry.
    arguments : dict of str to object
        Keyword arguments of the function.
    """

    name: str = ""
    title: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepEntry:
    """Entry of `STEPS`: what a step does, when, after which others, and what it writes.

    Attributes
    ----------
    title : str
        Shown while it runs; ``{part}`` stands for the title of a part.
    run : callable
        Takes the workspace, a progress function and the arguments of the part; writes files
        atomically and returns them.
    writes : tuple of str
        Patterns of the files that it writes, relative to the folder of the study.
    when : callable
        Takes the workspace and returns whether the study has this step.
    parts : callable
        Takes the workspace and returns a list of `Part`, one a step.
    needs : tuple of str
        Entries that come before, as far as the study has them. ``betas-{part}`` is the step of the
        same part only, and `EVERYTHING` are all steps before.
    sections : tuple of str
        Sections of the settings that its numbers depend on, see `Step`.
    reads : tuple of callable
        Each takes the workspace and the name of the part, and returns files of the user that the
        step reads.
    """

    title: str
    run: Callable[..., Iterable[Path]]
    writes: tuple[str, ...]
    when: Callable[[Workspace], bool] = lambda work: True
    parts: Callable[[Workspace], list[Part]] = lambda work: [Part()]
    needs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    reads: tuple[Callable[[Workspace, str], list[Path]], ...] = ()


@checked
def run_study(
    study: str | Path | StudySettings,
    out: str | Path | None = None,
    *,
    device: str | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Run a study, or go on with it: finished steps are kept.

    Parameters
    ----------
    study : path-like or StudySettings
        Study file, or settings (then relative file names start at the working folder).
    out : path-like, optional
        Output folder; by default named after the study, in the working folder.
    device : str, optional
        Instead of ``[run] device``.
    reporter : Reporter, optional
        Reporter that shows the progress.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError
        When the study file or an input cannot be used, or the folder holds a different study.

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import InputError, run_study
    >>> from neurometamer.study import check_settings
    >>> settings = check_settings({"encoding": {"folds": 100}})
    >>> try:
    ...     run_study(settings, tempfile.gettempdir() + "/never_made")
    ... except InputError as error:
    ...     print(str(error).split(";")[0])
    encoding.folds is 100, but the study has 16 photographs
    """
    work = _workspace(study, out)
    if device is not None:
        run = work.settings.run.model_copy(update={"device": device})
        work = replace(work, settings=work.settings.model_copy(update={"run": run}))
    problems = find_problems(work)
    raise_errors(problems)
    work = replace(work, notes=tuple(map(str, problems)))
    for note in work.notes:
        warnings.warn(note, stacklevel=2)
    try:
        carry_out(plan_steps(work), work, reporter)
    except InputError as error:
        names = setting_names(work.settings)
        raise type(error)(in_words_of_settings(str(error), names)) from error
    return work.path("report.html")


@checked
def check_study(study: str | Path | StudySettings) -> list[Problem]:
    """Find what is wrong with a study before any work.

    Settings, images, headers, events, confounds and masks are checked.

    A study runs only when it passes these checks. They read headers, tables and masks, not the
    voxels of BOLD files.

    Parameters
    ----------
    study : path-like or StudySettings
        Study file, or settings (then relative file names start at the working folder).

    Returns
    -------
    list of Problem
        All of them, subject by subject; each has the attributes kind (``"error"`` or ``"note"``),
        subject, file and message. Empty when nothing stands in the way.

    Raises
    ------
    InputError
        When the study file itself cannot be read.

    Examples
    --------
    >>> from neurometamer import check_study
    >>> from neurometamer.study import check_settings
    >>> settings = check_settings({"encoding": {"folds": 100}})
    >>> [problem.message for problem in check_study(settings)]  # doctest: +ELLIPSIS
    ['encoding.folds is 100, but the study has 16 photographs; give 2 to 16, ...']
    """
    return find_problems(_workspace(study))


def _workspace(study: str | Path | StudySettings, out: str | Path | None = None) -> Workspace:
    if isinstance(study, StudySettings):
        settings = study
        base = Path.cwd()
    else:
        settings = read_settings(study)
        base = Path(study).resolve().parent
    folder = Path(out or settings.study.name)
    return Workspace(folder=folder, settings=settings, base=base)


def failed_stimuli(folder: str | Path) -> list[str]:
    """Name the images of a study that did not meet their criterion.

    Parameters
    ----------
    folder : path-like
        Output folder of a study.

    Returns
    -------
    list of str
        Ids; empty when all did.
    """
    table = read_table(Path(folder) / "stimuli" / "stimuli.csv", required=["id"])
    failed: list[str] = []
    if "success" in table:
        has_failed = table["success"].astype(str) == "False"
        failed = table["id"][has_failed].tolist()
    others = Path(folder) / "tables" / "failures.csv"
    if others.is_file():
        table = read_table(others, required=["id", "made_for"])
        for image_id, made_for in zip(table["id"], table["made_for"], strict=True):
            failed.append(f"{image_id} ({made_for})")
    return failed


@checked
def demo_settings(
    *, model: str | None = None, weights: str | None = None, seed: int | None = None
) -> StudySettings:
    """Read the demo's study file, with another network or seed where they are given.

    Parameters
    ----------
    model : str, optional
        Name of a network.
    weights : str, optional
        ``"default"``, ``"random"`` or a file.
    seed : int, optional
        Seed.

    Returns
    -------
    StudySettings
        For `run_study`.

    Examples
    --------
    >>> from neurometamer import demo_settings
    >>> demo_settings(seed=3).study.seed
    3
    """
    with resources.as_file(resources.files("neurometamer.study").joinpath("demo.toml")) as path:
        settings = read_settings(path)
    network = {}
    if model is not None:
        network["name"] = model
    if weights is not None:
        network["weights"] = weights
    study = {} if seed is None else {"seed": seed}
    changes = {
        "model": settings.model.model_copy(update=network),
        "study": settings.study.model_copy(update=study),
    }
    return settings.model_copy(update=changes)


def plan_steps(work: Workspace) -> list[Step]:
    """List the steps of a study in order.

    Parameters
    ----------
    work : Workspace
        Settings and folder.

    Returns
    -------
    list of Step
        For `carry_out`: the entries of `STEPS` that this study has, one step for each of their
        parts.

    Raises
    ------
    InputError
        When a file does not exist.
    LookupError
        When an entry needs one that `STEPS` does not have.
    """
    steps: list[Step] = []
    names: dict[str, list[str]] = {EVERYTHING: []}
    for name, entry in STEPS.items():
        names[name] = []
        parts = entry.parts(work) if entry.when(work) else []
        for part in parts:
            needs: list[str] = []
            for need in entry.needs:
                needed = need.format(part=part.name)
                if needed not in names and need.removesuffix("-{part}") not in names:
                    raise LookupError(f"the step {name} needs {needed}, which does not come before")
                needs += names.get(needed, [])
            sections: list[str] = []
            for section in entry.sections:
                if section == EVERYTHING:
                    sections += work.settings.numbers()
                elif section != SUBJECT_SECTION:
                    sections.append(section.format(part=part.name))
                elif (
                    work.settings.brain.source in MEASURED_SOURCES
                ):  # simulated ones have no section
                    sections.append(section.format(part=part.name))
            files: list[Path] = []
            for read in entry.reads:
                files += read(work, part.name)
            step = Step(
                name=f"{name}-{part.name}" if part.name else name,
                title=entry.title.format(part=part.title),
                run=partial(entry.run, **part.arguments),
                needs=tuple(needs),
                sections=tuple(sections),
                reads=tuple(files),
            )
            steps.append(step)
            names[EVERYTHING].append(step.name)
            names[name].append(step.name)
            names.setdefault(step.name, [step.name])
    return steps


def _images_are_made(work: Workspace) -> bool:
    return not work.settings.images.ready


def _has_brain(work: Workspace) -> bool:
    return work.settings.brain.source != "none"


def _is_simulated(work: Workspace) -> bool:
    return work.settings.brain.source == "simulated"


def _subjects(work: Workspace) -> list[Part]:
    parts = []
    for name in subject_names(work):
        parts.append(Part(name=name, title=name, arguments={"subject": name}))
    return parts


def _sets_of(sets: Iterable[Sequence[str]], between: str = " and ") -> list[Part]:
    """Make a part of each set of networks, or of a network with its stage."""
    parts = []
    for number, names in enumerate(sets):
        part = Part(
            name=str(number + 1),
            title=between.join(names),
            arguments={"number": number},
        )
        parts.append(part)
    return parts


def _weights_file(work: Workspace, part: str = "") -> list[Path]:
    """Name the file of the network's weights, where it has one, and those of own networks."""
    settings = work.settings
    names = [settings.model.name, *settings.transfer.models, *settings.metamers.evaluators]
    for members in settings.metamers.sets:
        names += members
    names += compared_networks(work)
    files = []
    for name in dict.fromkeys(names):
        files += own_files(work.network(name))
    if settings.model.weights not in ("default", "random"):
        files.append(work.source(settings.model.weights))
    return files


def _photograph_files(work: Workspace, part: str = "") -> list[Path]:
    """List the photographs, where they are the user's."""
    source = work.settings.images.source
    if source == "packaged":
        return []
    return _image_files(work.source(source))


def _stimulus_files(work: Workspace, part: str) -> list[Path]:
    """List the ready images and the weights that judge them, or the photographs."""
    ready = work.settings.images.ready
    if not ready:
        return _photograph_files(work)
    return [*_image_files(work.source(ready)), *_weights_file(work)]


def _image_files(source: Path) -> list[Path]:
    """List the existing files behind a folder of stimuli, a folder of pictures, or a CSV.

    The reader names missing ones, with their ids.
    """
    if (source / "stimuli.h5").is_file():
        return [source / "stimuli.h5"]
    files = list_photographs(source).table["file"]
    listed = [file for file in files if file.is_file()]
    return listed if source.is_dir() else [source, *listed]


def _target_files(section: str, work: Workspace, part: str) -> list[Path]:
    """List the table of targets and the mask that a generator is given."""
    chosen = getattr(work.settings, section)
    mask = getattr(chosen, "mask", "")
    files = []
    if chosen.target.endswith(".csv"):
        files.append(work.source(chosen.target))
    if mask:
        files.append(work.source(mask))
    return files


def _controversial_files(work: Workspace, part: str) -> list[Path]:
    """List the tables of targets, and the photographs with which images are compared."""
    chosen = work.settings.controversial
    targets = [name for name in (chosen.target_a, chosen.target_b) if name.endswith(".csv")]
    files = [work.source(name) for name in targets]
    return [*files, *_image_files(work.source(chosen.bank))] if chosen.bank else files


def _subject_files(work: Workspace, subject: str) -> list[Path]:
    """List the user's files of a measured subject.

    Those of a simulated one are outputs of an earlier step.
    """
    if _is_simulated(work):
        return []
    files = scanned(work, subject)
    if files.patterns:
        return [work.source(files.patterns)]
    named = []
    if files.brain_mask:
        named.append(files.brain_mask)
    definitions = with_contrasts(work, files)
    for roi in files.masks:
        of_region = region_files(definitions, roi, work.base)
        named += map(str, of_region)
    regions = [work.source(file) for file in dict.fromkeys(named)]
    return [*_run_files(work, files, files.hemispheres), *regions]


def _run_files(work: Workspace, files: Subject | Localizer, hemispheres: str) -> list[Path]:
    """List images, sidecars, events and confounds of runs."""
    bold: list[Path] = []
    for file in files.bold:
        image = work.source(file)
        bold += hemisphere_files(image, hemispheres)
    listed = [*bold, *map(work.source, [*files.events, *files.confounds])]
    for image in bold:
        listed += sidecar_files(image)
    if work.settings.glm.strategy:  # CompCor components are described beside their table
        beside = [work.source(file).with_suffix(".json") for file in files.confounds]
        if "tedana" in work.settings.glm.strategy:
            mixing = [work.source(file) for file in files.tedana]
            mixing = mixing or [mixing_beside(work.source(file)) for file in files.confounds]
            beside += [*mixing, *map(metrics_beside, mixing)]
        listed += [file for file in beside if file.is_file()]
    return listed


def _meshes(work: Workspace, subject: str) -> list[Path]:
    """Name the meshes on which the voxels of a subject are selected."""
    if not work.settings.selection.meshes or _is_simulated(work):
        return []
    return list(mesh_files(work, scanned(work, subject)).values())


def _localizer_files(work: Workspace, subject: str) -> list[Path]:
    """List the user's files of the localizers of a subject."""
    files = scanned(work, subject)
    listed = [work.source(files.brain_mask)] if files.brain_mask else []
    for name in work.settings.brain.contrasts:
        listed += _run_files(work, localizer_files(work, subject, name), files.hemispheres)
    return list(dict.fromkeys(listed))


STEPS: dict[str, StepEntry] = {
    "noise": StepEntry(
        title="adversarial noise (AN)",
        run=partial(image_steps.adversarial, kind="noise"),
        when=_images_are_made,
        sections=("images", "model", "noise"),
        reads=(_photograph_files, _weights_file, partial(_target_files, "noise")),
        writes=(".state/noise/*",),
    ),
    "interference": StepEntry(
        title="adversarial interference (AI)",
        run=partial(image_steps.adversarial, kind="interference"),
        when=_images_are_made,
        sections=("images", "model", "interference"),
        reads=(_photograph_files, _weights_file, partial(_target_files, "interference")),
        writes=(".state/interference/*",),
    ),
    "stimuli": StepEntry(
        title="stimuli",
        run=image_steps.stimuli,
        needs=("noise", "interference"),
        sections=("images", "model"),
        reads=(_stimulus_files,),
        writes=("stimuli/*",),
    ),
    "transfer": StepEntry(
        title="transfer to other networks",
        run=image_steps.transfer,
        needs=("stimuli",),
        sections=("transfer",),
        reads=(_weights_file,),
        writes=("tables/transfer.csv",),
    ),
    "activations": StepEntry(
        title="network activations",
        run=result_steps.activations,
        needs=("stimuli",),
        sections=("model",),
        writes=(".state/activations.h5",),
    ),
    "network-rdms": StepEntry(
        title="network RDMs",
        run=result_steps.network_rdms,
        needs=("activations",),
        sections=("rsa",),
        writes=("rdms/network.h5",),
    ),
    "metamers": StepEntry(
        title="metamers of {part}",
        run=image_steps.make_set,
        when=lambda work: bool(work.settings.metamers.sets),
        parts=lambda work: _sets_of(work.settings.metamers.sets),
        sections=("images", "model", "metamers"),
        reads=(_photograph_files, _weights_file),
        writes=("metamers/*",),
    ),
    "metamer-evaluators": StepEntry(
        title="what other networks say to the metamers",
        run=image_steps.ask_evaluators,
        when=lambda work: bool(work.settings.metamers.sets and work.settings.metamers.evaluators),
        needs=("metamers",),
        sections=("model", "metamers"),
        reads=(_weights_file,),
        writes=("tables/metamers.csv",),
    ),
    "controversial": StepEntry(
        title="controversial images of {part}",
        run=disagreement_steps.controversial,
        parts=lambda work: _sets_of(work.settings.controversial.pairs),
        sections=("images", "model", "controversial"),
        reads=(_photograph_files, _weights_file, _controversial_files),
        writes=("controversial/*",),
    ),
    "divergent": StepEntry(
        title="maximally different metamers of {part}",
        run=disagreement_steps.divergent,
        parts=lambda work: _sets_of(work.settings.divergent.pairs),
        sections=("images", "model", "divergent"),
        reads=(_photograph_files, _weights_file),
        writes=("divergent/*",),
    ),
    "eigendistortion": StepEntry(
        title="eigendistortions of {part}",
        run=disagreement_steps.eigendistortion,
        parts=lambda work: _sets_of(disagreement_steps.distorted_networks(work), " at "),
        sections=("images", "model", "eigendistortion"),
        reads=(_photograph_files, _weights_file),
        writes=("eigendistortion/*",),
    ),
    "disagreement": StepEntry(
        title="what networks say to the images on which they disagree",
        run=disagreement_steps.tables,
        when=lambda work: bool(disagreement_steps.made_sets(work)),
        needs=("controversial", "divergent", "eigendistortion"),
        writes=(
            "tables/controversial.csv",
            "tables/divergent.csv",
            "tables/eigendistortion.csv",
            "tables/failures.csv",
        ),
    ),
    "cortex": StepEntry(
        title="simulated cortex",
        run=brain_steps.cortex,
        when=_is_simulated,
        needs=("stimuli",),
        sections=("brain.simulation",),
        writes=("brain/*", ".state/planted.h5", ".state/brain-files.json"),
    ),
    "contrasts": StepEntry(
        title="contrasts of localizers of {part}",
        run=contrast_maps.contrasts,
        when=lambda work: bool(work.settings.brain.contrasts),
        parts=_subjects,
        sections=("brain.localizers.{part}",),
        reads=(_localizer_files,),
        writes=(".state/contrasts/*",),
    ),
    "betas": StepEntry(
        title="betas of {part}",
        run=brain_steps.betas,
        when=_has_brain,
        parts=_subjects,
        needs=("stimuli", "cortex", "contrasts-{part}"),
        sections=("glm", SUBJECT_SECTION),
        reads=(_subject_files,),
        writes=(".state/betas/*",),
    ),
    "patterns": StepEntry(
        title="reliable voxels of {part}",
        run=brain_steps.patterns,
        when=_has_brain,
        parts=_subjects,
        needs=("stimuli", "betas-{part}"),
        sections=("selection",),
        reads=(_meshes,),
        writes=("patterns/*",),
    ),
    "residuals": StepEntry(
        title="residuals of {part}",
        run=brain_steps.residuals,
        when=lambda work: _has_brain(work) and work.settings.rsa.residuals,
        parts=_subjects,
        needs=("stimuli", "cortex"),
        sections=("glm", SUBJECT_SECTION),
        reads=(_subject_files,),
        writes=(".state/residuals/*",),
    ),
    "regions": StepEntry(
        title="sizes, reliability and ceilings of regions",
        run=brain_steps.regions,
        when=_has_brain,
        needs=("stimuli", "cortex", "betas", "patterns"),
        writes=("tables/regions.csv", "tables/ceilings.csv", "tables/betas.csv"),
    ),
    "brain-rdms": StepEntry(
        title="brain RDMs",
        run=brain_steps.brain_rdms,
        when=_has_brain,
        needs=("stimuli", "patterns", "residuals"),
        sections=("rsa",),
        writes=("rdms/brain.h5",),
    ),
    "layers": StepEntry(
        title="layers against regions",
        run=result_steps.layers,
        when=_has_brain,
        needs=("network-rdms", "brain-rdms"),
        sections=("rsa",),
        writes=(
            "tables/layer_roi.csv",
            "tables/best_layer.csv",
            "tables/weighted.csv",
            "tables/weighted_difference.csv",
            "tables/hierarchy.csv",
        ),
    ),
    "encoding": StepEntry(
        title="voxel encoding",
        run=result_steps.encoding,
        when=_has_brain,
        needs=("activations", "patterns"),
        sections=("encoding",),
        writes=("tables/encoding.csv",),
    ),
    "image-types": StepEntry(
        title="tests of RE-AN and RE-AI",
        run=result_steps.image_types,
        needs=("network-rdms", "brain-rdms"),
        sections=("rsa",),
        writes=("tables/image_types.csv", "tables/trends.csv"),
    ),
    "recovery": StepEntry(
        title="planted truth against what was found",
        run=result_steps.recovery,
        when=_is_simulated,
        needs=("cortex", "patterns", "brain-rdms", "image-types", "encoding"),
        writes=("tables/recovery.csv",),
    ),
    "results": StepEntry(
        title="all numbers",
        run=result_steps.results,
        needs=(EVERYTHING,),
        sections=(EVERYTHING,),
        writes=("results.h5", "provenance.json", "study.toml"),
    ),
    "report": StepEntry(
        title="report",
        run=result_steps.report,
        needs=("results",),
        writes=("report.html", "methods.txt", "references.bib", "figures/*"),
    ),
}
"""The steps of a study in order, by name: a new step is one entry here."""


@checked
def run_demo(
    out: str | Path = Path("demo-output"),
    *,
    model: str = "efficientnet_lite0",
    weights: str = "default",
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> Path:
    """Run the demo study on packaged photographs.

    It makes AN and AI images, a simulated cortex, RSA, encoding and a report.

    Parameters
    ----------
    out : path-like
        Output folder.
    model : str
        Name of a network, see ``neurometamer models list``.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    seed : int
        Seed of all random numbers.
    device : str
        Where the network runs: auto, cpu, cuda, mps, or one of several, as cuda:1.
    reporter : Reporter, optional
        Reporter that is told about progress.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError
        When the network is unknown, or the folder holds a different study.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     run_demo(model="alexnett")
    ... except InputError as error:
    ...     print("alexnet" in str(error))
    True
    """
    if weights not in ("default", "random"):
        weights = str(Path(weights).resolve())  # a study may look for files elsewhere
    settings = demo_settings(model=model, weights=weights, seed=seed)
    return run_study(settings, out, device=device, reporter=reporter)
