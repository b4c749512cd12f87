"""The steps of a study in order: what each needs, which settings it depends on, which files it reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from neurometamer.study import brain_steps, image_steps, metamer_steps, result_steps
from neurometamer.study.brain_steps import scanned, subject_names
from neurometamer.study.plan import Step, Workspace


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
            name="kinds",
            title="tests of RE-AN and RE-AI",
            run=result_steps.kinds,
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
                    "kinds",
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
            needs=tuple(one.name for one in made),
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
    """Name the existing photographs of a folder or CSV; missing ones are told by the reader, with their ids."""
    from stimuli_gen.photograph_lists import list_photographs

    return tuple(file for file in list_photographs(source).table["file"] if file.is_file())


def _own_files(work: Workspace, kind: str) -> tuple[Path, ...]:
    chosen = getattr(work.settings, kind)
    targets = (chosen.target,) if chosen.target.endswith(".csv") else ()
    masks = (chosen.mask,) if kind == "interference" and chosen.mask else ()
    return tuple(work.source(one) for one in (*targets, *masks))


def _subject_files(work: Workspace, name: str) -> tuple[Path, ...]:
    """List the user's files of a measured subject; those of a simulated one are outputs of an earlier step."""
    if work.settings.brain.source == "simulated":
        return ()
    from fmri.bids import sidecar_files

    files = scanned(work, name)
    bold = [work.source(file) for file in files.bold]
    tables = [
        work.source(file) for file in (*files.events, *files.confounds, *files.masks.values())
    ]
    return (*bold, *tables, *(sidecar for image in bold for sidecar in sidecar_files(image)))
