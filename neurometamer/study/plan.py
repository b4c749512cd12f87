"""The plan of a study: what is done, what is to do, and in which order.

A step is done when its record says so: the record holds the step's key (its settings, the keys and
outputs of the steps it needs, the contents of the user's files it reads, the package version) and a
digest of each file it wrote. The record is written last and atomically, so a step that was
interrupted is simply run again, from the same seeds. What is damaged is removed and made again;
what later steps made of it is made again only where it came out otherwise.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import neurometamer
from fmri.layout.dataset import Layout, find_dataset
from fmri.rois.regions import names_file
from fmri.volumes import digest_image
from neurometamer.errors import DamagedFile, InputError
from neurometamer.provenance import digest, digest_file
from neurometamer.report.read_study import LOCK, STATE
from neurometamer.resume import (
    alone_in,
    note_remade,
    read_record,
    refuse_links_out,
    write_record,
)
from neurometamer.store import written_files
from neurometamer.study.settings import StudySettings
from neurometamer.zoo import GREY, load_model

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.synthesis.loop import Pass

KEPT = ("finished", "nulls")
"""Folders of the state whose files outlive their step and carry checksums of their own."""

SECONDS = "seconds.json"
"""File of the state that says how long steps took: the one place for wall times, so that equal runs
are equal files."""

Outputs = dict[str, str]
"""File, relative to the study's folder, to the digest of its contents."""


class Reporter(Protocol):
    """Shows how a study goes on; what it does with that cannot change the numbers."""

    def start(self, number: int, total: int, title: str) -> None:
        """Show that a step begins.

        Parameters
        ----------
        number : int
            From 1.
        total : int
            Number of steps.
        title : str
            What the step does.
        """

    def advance(self, done: int, total: int) -> None:
        """Show how far the step has come.

        Parameters
        ----------
        done, total : int
            Units of the step's own choice.
        """

    def watch(self, seen: Pass) -> None:
        """Show a pass of the gradient loop.

        Parameters
        ----------
        seen : Pass
            Its number, the images' losses, and how many are finished.
        """

    def finish(self, seconds: float, kept: bool) -> None:
        """Show that the step is done.

        Parameters
        ----------
        seconds : float
            How long it took.
        kept : bool
            Whether it had been done before.
        """


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """One study's settings, its folder, and the network it loads at most once.

    Attributes
    ----------
    folder : Path
        Output folder; everything is written inside.
    settings : StudySettings
        Checked settings.
    base : Path
        Folder of the study file: relative names in the settings start here.
    notes : tuple of str
        Notes of the checks before the first step.
    """

    folder: Path
    settings: StudySettings
    base: Path
    notes: tuple[str, ...] = ()

    def path(self, *parts: str) -> Path:
        """Name a file or folder of the study.

        Parameters
        ----------
        *parts : str
            Below the study's folder.

        Returns
        -------
        Path
            Not created.
        """
        return self.folder.joinpath(*parts)

    def state(self, *parts: str) -> Path:
        """Name a file that only later steps read.

        Parameters
        ----------
        *parts : str
            Below the state folder.

        Returns
        -------
        Path
            Not created.
        """
        return self.path(STATE, *parts)

    def source(self, name: str) -> Path:
        """Resolve a file name of the settings.

        Parameters
        ----------
        name : str
            Absolute, or relative to the study file.

        Returns
        -------
        Path
            Existing file or folder.

        Raises
        ------
        InputError
            When it does not exist.
        """
        path = self.base / Path(name).expanduser()
        for folder in reversed(path.parents):
            if not folder.exists():
                raise InputError(
                    f"{name} does not exist (there is no folder {folder}); correct its name."
                )
        if not path.exists():
            raise InputError(f"{name} does not exist (looked for {path}); correct its name.")
        return path

    def network(self, name: str) -> str:
        """Resolve the name of a network: a TOML file is meant from the study file.

        Parameters
        ----------
        name : str
            See `neurometamer.zoo.model_entry`.

        Returns
        -------
        str
            The same, or the path of the TOML file.

        Raises
        ------
        InputError
            When the TOML file does not exist.
        """
        known = name.removesuffix(GREY)
        if not known.endswith(".toml"):
            return name
        return f"{self.source(known)}{name.removeprefix(known)}"

    @cached_property
    def model(self) -> StagedModel:
        """Load the network under study.

        Returns
        -------
        StagedModel
            On the device of ``[run]``.
        """
        chosen = self.settings.model
        weights: str | Path = chosen.weights
        if weights not in ("default", "random"):
            weights = self.source(chosen.weights)
        return load_model(
            self.network(chosen.name),
            weights=weights,
            device=self.settings.run.device,
            seed=self.settings.study.seed,
        )

    @cached_property
    def layout(self) -> Layout:
        """Look for the files of a BIDS data set.

        Returns
        -------
        Layout
            Of the subjects of the study.
        """
        brain = self.settings.brain
        patterns = {}
        for roi, pattern in brain.rois.items():
            # a definition, such as LO1 + LO2, is read with the images
            if names_file(pattern):
                patterns[roi] = str(self.base / Path(pattern).expanduser())
        return self._find_dataset(
            sessions=brain.sessions,
            runs=brain.runs,
            task=brain.task or None,
            id_column=brain.id_column,
            t_r=brain.t_r or None,
            rois=patterns,
        )

    @cached_property
    def localizers(self) -> dict[str, Layout]:
        """Look for the runs of the localizers in a BIDS data set, in all sessions.

        Returns
        -------
        dict of str to Layout
            Name of a contrast to what there is of its task, of the subjects of the study.
        """
        layouts = {}
        for name, contrast in self.settings.brain.contrasts.items():
            try:
                layouts[name] = self._find_dataset(
                    task=contrast.task or name,
                    id_column=contrast.condition_column,
                    t_r=contrast.t_r or None,
                )
            except InputError as error:
                raise InputError(f"brain.contrasts.{name}: {error}") from error
        return layouts

    def _find_dataset(self, **chosen: Any) -> Layout:
        """Look for files of a BIDS data set, with the choices that all tasks share."""
        brain = self.settings.brain
        for name in ("space", "resolution", "desc", "echo"):
            chosen[name] = getattr(brain, name) or None
        return find_dataset(
            self.source(brain.dataset),
            self.source(brain.derivatives) if brain.derivatives else None,
            subjects=[name for name in brain.subjects if isinstance(name, str)],
            affine=brain.affine,
            tedana=self.source(brain.tedana) if brain.tedana else None,
            **chosen,
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """Name the stages to analyze.

        Returns
        -------
        tuple of str
            Early to late.
        """
        from stimuli_gen.depth import at_stages

        chosen = self.settings.model.stages
        if not chosen:
            return tuple(self.model.stages)
        return at_stages(self.model, chosen)[1]


@dataclass(frozen=True)
class Progress:
    """What a step reports while it runs.

    Attributes
    ----------
    reporter : Reporter or None
        Reporter that shows it, if any.
    """

    reporter: Reporter | None

    def __call__(self, done: int, total: int) -> None:
        """Report how far the step has come.

        Parameters
        ----------
        done, total : int
            Units of the step's own choice.
        """
        if self.reporter is not None:
            self.reporter.advance(done, total)

    def watch(self, seen: Pass) -> None:
        """Report a pass of the gradient loop.

        Parameters
        ----------
        seen : Pass
            See `stimuli_gen.synthesis.loop.descend`.
        """
        if self.reporter is not None:
            self.reporter.watch(seen)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a study.

    Attributes
    ----------
    name : str
        Unique; other steps name it in `needs`.
    title : str
        Shown while it runs.
    run : callable
        Takes the workspace and a progress function, writes files atomically, returns them.
    needs : tuple of str
        Steps that come before.
    sections : tuple of str
        Sections of the settings that its numbers depend on; ``"brain.simulation"`` names a part of
        one, ``"brain.subjects.sub-01"`` one subject.
    reads : tuple of Path
        The user's files it reads; their contents are part of its key.
    """

    name: str
    title: str
    run: Callable[[Workspace, Progress], Iterable[Path]]
    needs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()


def carry_out(
    steps: Sequence[Step], workspace: Workspace, reporter: Reporter | None = None
) -> dict[str, float]:
    """Run the steps that are not done, in order.

    Parameters
    ----------
    steps : sequence of Step
        In an order in which each comes after what it needs.
    workspace : Workspace
        Settings and folder.
    reporter : Reporter, optional
        Reporter that shows the progress.

    Returns
    -------
    dict of str to float
        Seconds each step took, when it ran (also for steps found done).

    Raises
    ------
    InputError
        When the folder holds a different study or another process works in it.
    """
    numbers = workspace.settings.numbers()
    finished: dict[str, tuple[str, Outputs]] = {}
    refuse_links_out(workspace.folder)
    _check_claim(workspace)
    with alone_in(workspace.folder, LOCK):
        _check_claim(workspace)  # another process may have been first
        write_record(workspace.state("study.json"), numbers)
        for part in workspace.folder.rglob(".part-*"):  # left by a process that was killed
            part.unlink(missing_ok=True)
        seconds: dict[str, float] = {}
        with contextlib.suppress(InputError):  # not known from earlier calls
            seconds = read_record(workspace.state(SECONDS))
        for number, step in enumerate(steps, start=1):
            if reporter is not None:
                reporter.start(number, len(steps), step.title)
            settings = {section: section_settings(numbers, section) for section in step.sections}
            before = {need: finished[need] for need in step.needs}
            files = [digest_image([path]) for path in step.reads]
            seed = numbers["study"]["seed"]
            key = digest(step.name, neurometamer.__version__, seed, settings, before, files)
            outputs = _kept_outputs(step, key, workspace)
            kept = outputs is not None
            if outputs is None:
                begun = time.monotonic()
                outputs = _run(step, key, workspace, reporter)
                seconds[step.name] = round(time.monotonic() - begun, 3)
                write_record(workspace.state(SECONDS), seconds)
            finished[step.name] = key, outputs
            if reporter is not None:
                reporter.finish(seconds.get(step.name, 0.0), kept=kept)
    return {step.name: seconds.get(step.name, 0.0) for step in steps}


def section_settings(numbers: Mapping[str, Any], section: str) -> Any:
    """Take the settings of a section, or of a part of it, out of those of a study.

    Parameters
    ----------
    numbers : mapping
        From `StudySettings.numbers`.
    section : str
        Keys between dots; what has an ``id`` is found by it. A subject of a BIDS data set has the
        settings of ``[brain]`` that all its subjects share. ``brain.localizers.SUBJECT`` are the
        settings that the contrasts of its localizers depend on.

    Returns
    -------
    object
        JSON-able.
    """
    keys = section.split(".", 2)
    brain = numbers.get("brain", {})
    if keys[:2] == ["brain", "localizers"]:
        held = {"brain": brain, "glm": numbers["glm"], "subject": {}}
        for subject in brain["subjects"]:
            if isinstance(subject, Mapping) and subject["id"] == keys[2]:
                held["subject"] = subject
        of_runs = {}
        for place, names in OF_LOCALIZERS.items():
            of_runs[place] = [held[place].get(name) for name in names]
        return of_runs
    if keys[:2] == ["brain", "subjects"] and brain.get("source") == "bids":
        # what all subjects share: one more subject changes no other
        return {name: brain[name] for name in brain if name not in ("subjects", "simulation")}
    part: Any = numbers
    for key in keys:
        if not isinstance(part, Mapping):
            part = {item["id"]: item for item in part}
        part = part[key]
    if keys[:2] == ["brain", "subjects"] and "only" in brain:
        return {**part, "only": brain["only"]}
    return part


OF_LOCALIZERS = {
    "brain": ("contrasts", "affine", "hemispheres", "slice_time_ref"),
    "glm": ("confounds", "strategy", "strategy_options"),
    "subject": ("affine", "hemispheres", "slice_time_ref", "brain_mask", "localizers"),
}
"""Section, or the subject, to its keys that contrasts of localizers depend on."""

REPAIRED = ("glm", "selection")
"""Sections that messages about scanned data advise to change. A change of these, or of a subject,
does not make a folder another study's: the steps that read them are made again."""


REPAIRED_BRAIN = (
    "subjects",
    "runs",
    "sessions",
    "tedana",
    "t_r",
    "slice_time_ref",
    "affine",
    "rois",
    "only",
    "contrasts",
)
"""Keys of ``[brain]`` of which the same holds."""


def _identity(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that make a study the same.

    These are not those that are repaired, nor subjects and their regions.
    """
    kept = {name: section for name, section in numbers.items() if name not in REPAIRED}
    brain = kept.get("brain", {})
    same = {name: brain[name] for name in brain if name not in REPAIRED_BRAIN}
    return {**kept, "brain": same}


def _run(step: Step, key: str, workspace: Workspace, reporter: Reporter | None) -> Outputs:
    """Run a step and record every file of the study that it wrote.

    Files of its last run that it no longer writes are removed.
    """
    record = workspace.state("steps", f"{step.name}.json")
    before = _recorded(record).get("outputs", {})
    with written_files() as written:
        named = list(step.run(workspace, Progress(reporter)))
    paths = {os.path.normpath(Path(path).absolute()) for path in (*named, *written)}
    folder = workspace.folder.absolute()
    outputs = {}
    for path in sorted(Path(name) for name in paths):
        if not path.is_relative_to(folder) or not path.is_file():
            continue
        parts = path.relative_to(folder).parts
        if parts[0] != STATE or parts[1] not in KEPT:
            outputs[path.relative_to(folder).as_posix()] = digest_file(path)
    for name in set(before) - set(outputs):
        _remove(workspace.path(name))
    write_record(record, {"key": key, "outputs": outputs})
    return outputs


def _recorded(record: Path) -> dict[str, Any]:
    """Read the record of a step; empty when there is none, or none that can be used."""
    if not record.is_file():
        return {}
    try:
        values = read_record(record)
    except DamagedFile:
        note_remade(record)
        return {}
    for name in values.get("outputs", ()):
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:  # outside the folder
            return {}
    return values


def _kept_outputs(step: Step, key: str, workspace: Workspace) -> Outputs | None:
    """Return what a step wrote when it is done.

    It is done when it has the same key and every file is as it was; else damaged files are removed.
    """
    record = _recorded(workspace.state("steps", f"{step.name}.json"))
    if record.get("key") != key:
        return None
    outputs: Outputs = record["outputs"]
    damaged = []
    for name, value in outputs.items():
        path = workspace.path(name)
        if not path.is_file() or digest_file(path) != value:
            damaged.append(name)
    for name in damaged:
        note_remade(workspace.path(name))
        _remove(workspace.path(name))
    return None if damaged else outputs


def _remove(path: Path) -> None:
    """Remove a file that the study wrote; what somebody has put in its place is theirs."""
    if path.is_dir():
        raise InputError(f"{path} is a folder where the study keeps a file; move it away.")
    path.unlink(missing_ok=True)


def _check_claim(workspace: Workspace) -> None:
    """Refuse a folder that holds something else; nothing is written."""
    mark = workspace.state("study.json")
    folder = workspace.folder
    if not mark.is_file():
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is not a folder; choose another --out.")
        if not mark.exists() and any(workspace.state("steps").glob("*.json")):
            note_remade(mark)  # the keys of the steps tell what is of this study
            return
        entries = folder.iterdir() if folder.is_dir() else []
        if any(not entry.name.startswith(".") for entry in entries):
            raise InputError(f"{folder} is not empty and holds no study; choose another --out.")
        return
    try:
        there = read_record(mark)
    except DamagedFile:
        note_remade(mark)
        return
    old = _identity(there)
    new = _identity(workspace.settings.numbers())
    # where no step has finished there is nothing to lose
    if old != new and any(workspace.state("steps").glob("*.json")):
        raise InputError(
            f"{folder} holds a different study: {_first_difference(old, new)}. Choose another "
            "--out, or remove that folder."
        )


def _first_difference(there: Any, here: Any, name: str = "") -> str:
    """Name the first setting that differs, as deep inside as it lies, and both of its values."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        for key in dict.fromkeys([*here, *there]):
            old, new = there.get(key), here.get(key)
            if old != new:
                inside = f"{name}.{key}" if name else key
                return _first_difference(old, new, inside)
    are_lists = isinstance(there, list) and isinstance(here, list)
    if are_lists and len(there) == len(here):
        for number, (old, new) in enumerate(zip(there, here, strict=True), start=1):
            if old != new:
                return _first_difference(old, new, f"{name}[{number}]")
    return f"there {name} = {_shown(there, here)}, here {_shown(here, there)}"


def _shown(value: Any, other: Any, limit: int = 60) -> str:
    """Write a value for a message; where it is long, the part that differs from the other."""
    text = repr(value)
    if len(text) <= limit:
        return text
    n_same = 0
    for here, there in zip(text, repr(other), strict=False):
        if here != there:
            break
        n_same += 1
    start = max(0, min(n_same - limit // 3, len(text) - limit))
    end = start + limit
    before = "…" if start else ""
    after = "…" if end < len(text) else ""
    return f"{before}{text[start:end]}{after}"
