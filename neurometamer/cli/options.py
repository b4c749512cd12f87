"""What the commands share.

These are options that mean the same everywhere, and their progress on the console.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from neurometamer.cli.console import ConsoleReporter
    from neurometamer.study.plan import Progress as StepProgress


class Mode(StrEnum):
    """How a network is computed on the way to an image."""

    exact = "exact"
    fast = "fast"


def one_of(*names: str, table: str = "", **words: Any) -> Any:
    """Make an option, or several values of one, that takes known names only.

    A wrong name is reported with the name of the option.

    Parameters
    ----------
    *names : str
        The names, beside those of the table.
    table : str
        ``MODULE:NAME`` of the table that holds the names, or of a function that lists them, several
        between commas; imported only when needed.
    **words : object
        As of `typer.Option`; ``flag`` is the option's name where it is not that of the parameter.

    Returns
    -------
    typer.models.OptionInfo
        With check and shell completion.
    """

    def _check(parameter: typer.CallbackParam, given: Any) -> Any:
        if given is None or given == parameter.default:
            return given
        known = [*names, *_table(table)]
        values = given if isinstance(given, (list, tuple)) else [given]
        chosen = [_known(parameter, value, known) for value in values]
        return chosen if isinstance(given, (list, tuple)) else chosen[0]

    def _complete(incomplete: str) -> list[str]:
        return [name for name in (*names, *_table(table)) if name.startswith(incomplete)]

    flag = [words.pop("flag")] if "flag" in words else []
    return typer.Option(*flag, callback=_check, autocompletion=_complete, **words)


def _table(place: str) -> Collection[str]:
    """Import the names of a table or of a function that lists them, several between commas."""
    names: list[str] = []
    for entry in filter(None, place.split(",")):
        module, _, attribute = entry.partition(":")
        table = getattr(importlib.import_module(module), attribute)
        names += table() if callable(table) else table
    return names


def _known(parameter: typer.CallbackParam, value: str, known: Collection[str]) -> str:
    from neurometamer.errors import unknown_name

    name_known = value if value in known else value.lower()
    if name_known not in known:
        raise unknown_name(f"value of {parameter.opts[0]}", value, known)
    return name_known


def between(low: float, high: float) -> Callable[[typer.CallbackParam, Any], Any]:
    """Make the check that a number lies between two others.

    Parameters
    ----------
    low, high : float
        The ends, which are not allowed themselves.

    Returns
    -------
    callable
        For the ``callback`` of `typer.Option`.
    """

    def _check(parameter: typer.CallbackParam, given: Any) -> Any:
        from neurometamer.errors import InputError

        if given is not None and not low < given < high:
            raise InputError(
                f"{parameter.opts[0]} is {given:g}; give a number between {low:g} and {high:g}."
            )
        return given

    return _check


def check_device(parameter: typer.CallbackParam, given: Any) -> Any:
    """Refuse what is no device, for the ``callback`` of `typer.Option`.

    Whether the device is there is seen later.
    """
    from neurometamer.errors import unknown_name

    kind, _, number = (given or "auto").partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (
        number and not (kind == "cuda" and number.isdecimal())
    ):
        raise unknown_name(
            f"value of {parameter.opts[0]}", given, ["auto", "cpu", "cuda", "mps", "cuda:1"]
        )
    return given


ModelName = Annotated[str, typer.Option("--model", help="A name of 'neurometamer models list'.")]
Weights = Annotated[
    str, typer.Option(help="'default' (ImageNet), 'random' (untrained), or a file.")
]
SetWeights = Annotated[
    str,
    typer.Option(
        "--weights",
        help="'default' (ImageNet), 'random' (untrained), a file (one network), or NAME=VALUE for "
        "networks of a set, "
        "between commas; the others get 'default'.",
    ),
]
DeviceName = Annotated[
    str,
    typer.Option(
        help="Where the network runs: auto, cpu, cuda, mps, or one of several, as cuda:1.",
        callback=check_device,
    ),
]
Confidence = Annotated[float, typer.Option(help="Of the intervals.", callback=between(0, 1))]
Join = Annotated[
    str, one_of("exact", "inner", help="exact: the same ids in both; inner: those that both hold.")
]
Nulls = Annotated[
    list[Path], typer.Option("--nulls", help="Files of 'stimuli null': judge the metamers by them.")
]
Seed = Annotated[int, typer.Option(min=0, help="All random numbers derive from it.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at once.")]
ModeName = Annotated[
    Mode, typer.Option("--mode", help="fast: cheaper arithmetic on the way, judged exactly.")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--fresh", help="Go on with what earlier runs left in --out, or throw it away."
    ),
]
Png16 = Annotated[bool, typer.Option("--png16", help="Also write 16-bit PNG files.")]
Animate = Annotated[
    bool, typer.Option("--animate", help="Keep frames, and write a GIF of each synthesis.")
]
Stages = Annotated[list[str], typer.Option(help="Stages of the network; all when not given.")]
Images = Annotated[
    list[Path],
    typer.Option(
        help="Folders written by 'stimuli', folders of photographs, or CSV files (column file)."
    ),
]
Bits = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=16,
        help="How many bits of 16-bit photographs hold data; or the column bits of a CSV.",
    ),
]
Icc = Annotated[
    str,
    one_of(
        table="stimuli_gen.conversion:PROFILES",
        help="Color profiles of photographs other than sRGB: ignore (but note) or convert; or the "
        "column icc of a CSV.",
    ),
]
PatternFiles = Annotated[
    list[Path], typer.Option(help="Files written by 'fmri patterns', one a subject.")
]
Bold = Annotated[list[Path], typer.Option(help="4-D NIfTI files, one a run.")]
Events = Annotated[
    list[Path], typer.Option(help="BIDS events.tsv files, one a run, in the order of --bold.")
]
Confounds = Annotated[list[Path], typer.Option(help="Confounds tables, one a run, or none.")]
Masks = Annotated[list[str], typer.Option(help="NAME=FILE, a mask on the grid of the BOLD files.")]
Tr = Annotated[
    float | None,
    typer.Option(
        "--tr", help="Repetition time in s, where header and JSON sidecar do not tell or disagree."
    ),
]
SliceTimeRef = Annotated[
    float | None,
    typer.Option(
        help="Time to which volumes refer, a share of the TR; else StartTime of the JSON sidecar."
    ),
]
Affine = Annotated[
    str,
    one_of(
        table="fmri.bold:AFFINES",
        help="Which header transform places voxels: sform, qform, or agree (refuse if they "
        "differ).",
    ),
]
ConfoundColumns = Annotated[
    list[str],
    typer.Option("--columns", help="Confounds to use; else the six motion parameters, or all."),
]
ConditionColumn = Annotated[str, typer.Option(help="Column of the events with the stimulus ids.")]
Ignored = Annotated[
    list[str], typer.Option("--ignore", help="Trial types without a regressor; else blank and n/a.")
]
Hrf = Annotated[
    str, one_of(table="fmri.betas:HRFS", help="Hemodynamic response, a name of nilearn's.")
]
HighPass = Annotated[float, typer.Option(help="Cut-off of the drift model, Hz.")]
NoiseModel = Annotated[str, one_of(table="fmri.betas:NOISE_MODELS", help="ar1 or ols.")]
Estimator = Annotated[
    str, one_of(table="fmri.betas:EVENT_MODELS", help="LSA (all events in one design) or LSS.")
]
Units = Annotated[
    str,
    one_of(
        table="fmri.betas:UNITS",
        help="Of betas: percent (signal change) or raw (units of the image).",
    ),
]
Unusable = Annotated[str, one_of("refuse", "drop", help="NaN or constant voxels: refuse or drop.")]
SubjectName = Annotated[
    str, typer.Option("--subject", help="Name of the subject; else from the file names.")
]
Blocks = Annotated[
    Path | None,
    typer.Option(
        help="Table (id, block; subject): labels change places within blocks, e.g. sessions or "
        "classes, only."
    ),
]
Classes = Annotated[
    str,
    one_of(
        table="neurometamer.rsa.sampling:CLASS_CLAIMS",
        help="Intervals for other images of the classes that RDMs know (fixed), or of as many "
        "other classes (random).",
    ),
]
Descriptor = Annotated[
    str | None,
    typer.Option(
        help="Pattern descriptor with the stimulus ids, in files of rsatoolbox without one named "
        "condition."
    ),
]
Resamples = Annotated[
    int, typer.Option(min=0, help="Of images, or of the noise of their pairs; 0: no intervals.")
]


def absolute_weights(weights: str) -> str:
    """Make a weights file absolute, since a study may look for files elsewhere."""
    return weights if weights in ("default", "random") else str(Path(weights).resolve())


def absolute_weights_of(names: Sequence[str], weights: str) -> dict[str, str]:
    """Read the weights of each network of a set, and make their files absolute."""
    from neurometamer.zoo import weights_by_name

    return {name: absolute_weights(file) for name, file in weights_by_name(names, weights).items()}


@contextlib.contextmanager
def open_reporter(out: Path | None = None) -> Iterator[ConsoleReporter]:
    """Show how a command goes on, for as long as the block lasts.

    When stopped, it says what is kept and how to go on.
    """
    from neurometamer.cli.console import console_reporter
    from neurometamer.errors import Terminated

    with console_reporter() as reporter:
        try:
            yield reporter
        except (KeyboardInterrupt, Terminated) as stop:
            reporter.close()
            typer.echo(_what_is_kept(reporter, out), err=True)
            raise typer.Exit(143 if isinstance(stop, Terminated) else 130) from None


def _what_is_kept(reporter: ConsoleReporter, out: Path | None) -> str:
    from neurometamer.commands.stimuli import count_kept

    done = (
        f"{reporter.done} of {reporter.total} are finished"
        if reporter.total
        else "nothing is finished yet"
    )
    unfinished = count_kept(out)[1] if out else 0
    saved = f", the state of {unfinished} unfinished image(s) is saved" if unfinished else ""
    return (
        f"interrupted: {done}{saved}; what is finished is kept, and the same command goes on from "
        "there."
    )


@contextlib.contextmanager
def one_step(title: str, out: Path | None = None, resume: bool = True) -> Iterator[StepProgress]:
    """Show the progress of a command that has one step; say first what it throws away."""
    from neurometamer.commands.stimuli import count_kept, kept_in
    from neurometamer.study.plan import Progress as StepProgress

    begun = time.monotonic()
    if out is not None and not resume and any(count := count_kept(out)):
        message = (
            f"{count[0]} finished and {count[1]} unfinished image(s) in {kept_in(out)} are thrown "
            "away."
        )
        typer.echo(f"--fresh: {message}", err=True)
    with _told_notes(), open_reporter(out) as reporter:
        reporter.start(1, 1, title)
        yield StepProgress(reporter)
        reporter.finish(time.monotonic() - begun, kept=False)


@contextlib.contextmanager
def _told_notes() -> Iterator[None]:
    """Tell the notes of the generators for as long as the block lasts, however it ends."""
    log, notes = logging.getLogger("stimuli_gen"), _Notes()
    before = log.level
    log.addHandler(notes)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(notes)
        log.setLevel(before)


class _Notes(logging.Handler):
    """Tell on the console what the generators note: what the fast mode computes in."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(record.getMessage(), err=True)
