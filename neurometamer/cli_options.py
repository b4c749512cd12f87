"""What the commands share: options that mean the same everywhere, and their progress on the console."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from neurometamer.study.console import ConsoleReporter


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


ModelName = Annotated[str, typer.Option("--model", help="A name of 'neurometamer models list'.")]
Weights = Annotated[str, typer.Option(help="'default' (ImageNet), 'random' (untrained), or a file.")]
DeviceName = Annotated[Device, typer.Option(help="Where the network runs.")]
Seed = Annotated[int, typer.Option(min=0, help="All random numbers derive from it.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at once.")]
Stages = Annotated[list[str], typer.Option(help="Stages of the network; all when not given.")]
Images = Annotated[
    list[Path], typer.Option(help="Folders written by 'stimuli', folders of photographs, or CSV files (column file).")
]
PatternFiles = Annotated[list[Path], typer.Option(help="Files written by 'fmri patterns', one a subject.")]
Bold = Annotated[list[Path], typer.Option(help="4-D NIfTI files, one a run.")]
Events = Annotated[list[Path], typer.Option(help="BIDS events.tsv files, one a run, in the order of --bold.")]
Confounds = Annotated[list[Path], typer.Option(help="Confounds tables, one a run, or none.")]
Masks = Annotated[list[str], typer.Option(help="NAME=FILE, a mask on the grid of the BOLD files.")]
SubjectName = Annotated[str, typer.Option("--subject", help="Name of the subject; else from the file names.")]
Resamples = Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0 for no intervals.")]


def absolute_weights(weights: str) -> str:
    """Make a weights file absolute, since a study may look for files elsewhere."""
    return weights if weights in ("default", "random") else str(Path(weights).resolve())


@contextlib.contextmanager
def open_reporter() -> Iterator[ConsoleReporter]:
    """Show how a study goes on, for as long as the block lasts."""
    from neurometamer.study.console import console_reporter

    with console_reporter() as reporter:
        yield reporter


@contextlib.contextmanager
def one_step(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a command that has one step."""
    begun = time.monotonic()
    with open_reporter() as reporter:
        reporter.start(1, 1, title)
        yield reporter.advance
        reporter.finish(time.monotonic() - begun, kept=False)
