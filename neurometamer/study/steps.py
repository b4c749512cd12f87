"""Run a study: the list of its steps, and the calls that carry it out.

Each step says what it needs and reads.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path

from neurometamer.arguments import checked
from neurometamer.store import read_table
from neurometamer.study import brain_steps, image_steps, metamer_steps, result_steps
from neurometamer.study.brain_steps import scanned, subject_names
from neurometamer.study.checks import find_problems
from neurometamer.study.plan import Reporter, Step, Workspace, carry_out
from neurometamer.study.problems import Problem, raise_errors
from neurometamer.study.settings import StudySettings, read_settings


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
        Reporter that is told about progress.

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
    >>> from neurometamer import InputError, check_settings, run_study
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
    carry_out(plan_steps(work), work, reporter)
    return work.path("report.html")


@checked
def check_study(study: str | Path | StudySettings) -> list[Problem]:
    """Find what is wrong with a study before any work.

    Settings, images, headers, events, confounds and masks are checked.

    `run_study` begins with the same checks. They read headers, tables and masks, not the voxels of
    BOLD files.

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
    >>> from neurometamer import check_settings, check_study
    >>> settings = check_settings({"encoding": {"folds": 100}})
    >>> [problem.message for problem in check_study(settings)]  # doctest: +ELLIPSIS
    ['encoding.folds is 100, but the study has 16 photographs; give 2 to 16, ...']
    """
    return find_problems(_workspace(study))


def _workspace(study: str | Path | StudySettings, out: str | Path | None = None) -> Workspace:
    if isinstance(study, StudySettings):
        settings, base = study, Path.cwd()
    else:
        settings, base = read_settings(study), Path(study).resolve().parent
    return Workspace(folder=Path(out or settings.study.name), settings=settings, base=base)


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
    if "success" not in table:
        return []
    return table["id"][table["success"].astype(str) == "False"].tolist()


@checked
def demo_settings(
    *, model: str | None = None, weights: str | None = None, seed: int | None = None
) -> StudySettings:
    """Read the demo's study file, with another network or seed when asked.

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
    network = {
        name: value for name, value in (("name", model), ("weights", weights)) if value is not None
    }
    changes = {
        "model": settings.model.model_copy(update=network),
        "study": settings.study.model_copy(update={} if seed is None else {"seed": seed}),
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
        For `carry_out`.

    Raises
    ------
    InputError
        When a file does not exist.
    """
    subjects = subject_names(work)
    steps = [
        *_image_steps(work),
        *_network_steps(),
        *_metamer_steps(work),
        *_brain_steps(work, subjects),
    ]
    systems = ("network-rdms", "brain-rdms") if subjects else ("network-rdms",)
    steps.append(
        Step(
            name="image-types",
            title="tests of RE-AN and RE-AI",
            run=result_steps.image_types,
            needs=systems,
            sections=("rsa",),
        )
    )
    if work.settings.brain.source == "simulated":
        steps.append(
            Step(
                name="recovery",
                title="planted truth against what was found",
                run=result_steps.recovery,
                needs=(
                    "cortex",
                    *(f"patterns-{name}" for name in subjects),
                    "brain-rdms",
                    "image-types",
                    "encoding",
                ),
            )
        )
    everything = tuple(work.settings.numbers())
    done = tuple(step.name for step in steps)
    return [
        *steps,
        Step(
            name="results",
            title="all numbers",
            run=result_steps.results,
            needs=done,
            sections=everything,
        ),
        Step(name="report", title="report", run=result_steps.report, needs=("results",)),
    ]


def _network_steps() -> list[Step]:
    return [
        Step(
            name="transfer",
            title="transfer to other networks",
            run=image_steps.transfer,
            needs=("stimuli",),
            sections=("transfer",),
        ),
        Step(
            name="activations",
            title="network activations",
            run=result_steps.activations,
            needs=("stimuli",),
            sections=("model",),
        ),
        Step(
            name="network-rdms",
            title="network RDMs",
            run=result_steps.network_rdms,
            needs=("activations",),
            sections=("rsa",),
        ),
    ]


def _metamer_steps(work: Workspace) -> list[Step]:
    chosen = work.settings.metamers
    if not chosen.sets:
        return []
    weights = work.settings.model.weights
    network = () if weights in ("default", "random") else (work.source(weights),)
    made = [
        Step(
            name=f"metamers-{number + 1}",
            title=f"metamers of {' and '.join(names)}",
            run=partial(metamer_steps.make_set, number=number),
            sections=("images", "model", "metamers"),
            reads=(*_photograph_files(work), *network),
        )
        for number, names in enumerate(chosen.sets)
    ]
    if not chosen.judges:
        return made
    return [
        *made,
        Step(
            name="metamer-judges",
            title="what other networks say to the metamers",
            run=metamer_steps.ask_judges,
            needs=tuple(step.name for step in made),
            sections=("model", "metamers"),
            reads=network,
        ),
    ]


def _image_steps(work: Workspace) -> list[Step]:
    weights = work.settings.model.weights
    network = () if weights in ("default", "random") else (work.source(weights),)
    if work.settings.images.ready:
        ready = work.source(work.settings.images.ready)
        files = _image_files(ready)
        return [
            Step(
                name="stimuli",
                title="stimuli",
                run=image_steps.ready_stimuli,
                sections=("images", "model"),
                reads=(*files, *network),
            )
        ]
    photographs = _photograph_files(work)
    kinds = {"noise": "adversarial noise (AN)", "interference": "adversarial interference (AI)"}
    made = [
        Step(
            name=kind,
            title=title,
            run=partial(image_steps.adversarial, kind=kind),
            sections=("images", "model", kind),
            reads=(*photographs, *network, *_own_files(work, kind)),
        )
        for kind, title in kinds.items()
    ]
    together = Step(
        name="stimuli",
        title="stimuli, judged on the saved PNG files",
        run=image_steps.stimuli,
        needs=tuple(kinds),
        sections=("images", "model"),
        reads=photographs,
    )
    return [*made, together]


def _brain_steps(work: Workspace, subjects: tuple[str, ...]) -> list[Step]:
    if not subjects:
        return []
    simulated = work.settings.brain.source == "simulated"
    steps = []
    if simulated:
        steps.append(
            Step(
                name="cortex",
                title="simulated cortex",
                run=brain_steps.cortex,
                needs=("stimuli",),
                sections=("brain.simulation",),
            )
        )
    steps += [
        Step(
            name=f"betas-{name}",
            title=f"betas of {name}",
            run=partial(brain_steps.betas, subject=name),
            needs=("stimuli", "cortex") if simulated else ("stimuli",),
            sections=("glm",) if simulated else ("glm", f"brain.subjects.{name}"),
            reads=_subject_files(work, name),
        )
        for name in subjects
    ]
    chosen = [
        Step(
            name=f"patterns-{name}",
            title=f"reliable voxels of {name}",
            run=partial(brain_steps.patterns, subject=name),
            needs=("stimuli", f"betas-{name}"),
            sections=("selection",),
        )
        for name in subjects
    ]
    patterns = tuple(step.name for step in chosen)
    return [
        *steps,
        *chosen,
        Step(
            name="regions",
            title="sizes and reliability of regions",
            run=brain_steps.regions,
            needs=("stimuli", *(step.name for step in steps), *patterns),
        ),
        Step(
            name="brain-rdms",
            title="brain RDMs",
            run=brain_steps.brain_rdms,
            needs=("stimuli", *patterns),
            sections=("rsa",),
        ),
        Step(
            name="layers",
            title="layers against regions",
            run=result_steps.layers,
            needs=("network-rdms", "brain-rdms"),
            sections=("rsa",),
        ),
        Step(
            name="encoding",
            title="voxel encoding",
            run=result_steps.encoding,
            needs=("activations", *patterns),
            sections=("encoding",),
        ),
    ]


def _photograph_files(work: Workspace) -> tuple[Path, ...]:
    source = work.settings.images.source
    return () if source == "packaged" else _image_files(work.source(source))


def _image_files(source: Path) -> tuple[Path, ...]:
    """List the files behind a folder of stimuli, a folder of pictures, or a CSV."""
    if not source.is_dir():
        return (source, *_listed_files(source))
    return (source / "stimuli.h5",) if (source / "stimuli.h5").is_file() else _listed_files(source)


def _listed_files(source: Path) -> tuple[Path, ...]:
    """Name the existing photographs of a folder or CSV.

    The reader names missing ones, with their ids.
    """
    from stimuli_gen.photograph_lists import list_photographs

    return tuple(file for file in list_photographs(source).table["file"] if file.is_file())


def _own_files(work: Workspace, kind: str) -> tuple[Path, ...]:
    chosen = getattr(work.settings, kind)
    targets = (chosen.target,) if chosen.target.endswith(".csv") else ()
    masks = (chosen.mask,) if kind == "interference" and chosen.mask else ()
    return tuple(work.source(file) for file in (*targets, *masks))


def _subject_files(work: Workspace, name: str) -> tuple[Path, ...]:
    """List the user's files of a measured subject.

    Those of a simulated one are outputs of an earlier step.
    """
    if work.settings.brain.source == "simulated":
        return ()
    from fmri.bids import sidecar_files

    files = scanned(work, name)
    bold = [work.source(file) for file in files.bold]
    tables = [
        work.source(file) for file in (*files.events, *files.confounds, *files.masks.values())
    ]
    return (*bold, *tables, *(sidecar for image in bold for sidecar in sidecar_files(image)))
