"""Progress on the console: a live bar on a terminal, one line a step elsewhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from neurometamer.errors import Terminated

if TYPE_CHECKING:
    from stimuli_gen.synthesis.loop import Pass

TRIAL_S = 1.0
"""After so long it is known about how long a step takes.

From the first unit on, which does not count: what is prepared and imported for all falls into it.
"""

TRIAL_UNITS, TRIAL_SHARE = 3, 0.1
"""And after so many further units, or such a share of all."""

LONG_S = 10.0
"""A step that takes longer says so when it is known."""

FIRST_S, MOST_S = 5.0, 60.0
"""Seconds between messages of a long step where there is no terminal; first and longest."""


class ConsoleReporter:
    """Tell a person how a study goes on.

    It writes to standard error, so that standard output stays scriptable.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where to; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Progress | None = None
        self._task = TaskID(0)
        self._title = ""
        self._began = 0.0
        self._begun_with = self._n_heard = 0
        self._estimated = False
        self._ended = threading.Event()
        self._ended.set()
        self._more = ""
        self.done, self.total = 0, 0
        self.n_finished, self.n_steps = 0, 0

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
        self.close()
        self._title = f"[{number}/{total}] {title}"
        self.n_finished, self.n_steps = number - 1, total
        self._more = ""
        self.done, self.total = 0, 0
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[count]}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._live.start()
            self._task = self._live.add_task(self._title, total=None, count="")
        else:
            self._ended = threading.Event()
            threading.Thread(
                target=self._say_at_intervals, args=(self._ended, self._title), daemon=True
            ).start()

    def _say_at_intervals(self, ended: threading.Event, title: str) -> None:
        """Say now and then how far the step is, also when it reports nothing itself."""
        started, pause = time.monotonic(), FIRST_S
        while not ended.wait(pause):
            parts = [f"{time.monotonic() - started:.0f} s so far"]
            if self._more:
                parts.insert(0, self._more)
            if self.total:
                parts.insert(0, f"{self.done} of {self.total}")
            self._say(f"{title}: {', '.join(parts)}")
            pause = min(2 * pause, MOST_S)

    def advance(self, done: int, total: int) -> None:
        """Show how far the step has come, and once it is known how long it will take.

        Parameters
        ----------
        done, total : int
            Units of the step's own choice, finished and all; those finished at the first call may
            be from an earlier run. A new total starts a new part, whose time is
            estimated afresh.
        """
        now = time.monotonic()
        if self.total != total:
            self._n_heard = 0
            self._estimated = False
        self._n_heard += 1
        if self._n_heard <= 2:  # the first call may tell of nothing, or of an earlier run
            self._began, self._begun_with = now, done
        self.done, self.total = done, total
        took, n_done = now - self._began, done - self._begun_with
        is_tried = n_done >= TRIAL_UNITS or 0 < n_done >= TRIAL_SHARE * total
        if is_tried and not self._estimated and took >= TRIAL_S:
            self._estimated = True
            n_left = total - done
            left = took / n_done * n_left  # if it goes on as it began
            if left > LONG_S:
                self._say(f"{self._title}: about {duration(left)} to go, {n_left} of {total} left")
        self._show("")

    def watch(self, seen: Pass) -> None:
        """Show the pass of the gradient loop and the losses of the images at work.

        Parameters
        ----------
        seen : Pass
            Pass of `stimuli_gen.synthesis.loop.descend`.
        """
        self.done, self.total = seen.done, seen.total
        loss = ""
        if losses := sorted(seen.losses.values()):
            median = losses[len(losses) // 2]  # images differ by far
            loss = f", loss {median:.4g}"
        self._show(f"pass {seen.number}{loss}")

    def _show(self, more: str) -> None:
        if self._live is not None:
            count = f"{self.done}/{self.total}"
            if more:
                count = f"{count} · {more}"
            self._live.update(self._task, completed=self.done, total=self.total, count=count)
        self._more = more

    def finish(self, seconds: float, kept: bool) -> None:
        """Show that the step is done.

        Parameters
        ----------
        seconds : float
            How long it took.
        kept : bool
            It had been done before.
        """
        self.close()
        words = "already done" if kept else f"{seconds:.1f} s"
        self._say(f"{self._title}: {words}")

    def close(self) -> None:
        """Take the bar off the screen; also to be called when a step failed."""
        self._ended.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Write a time as a person would say it.

    Parameters
    ----------
    seconds : float
        Above 0.

    Returns
    -------
    str
        Whole seconds below two minutes, whole minutes below two hours, else hours.

    Examples
    --------
    >>> duration(42.3), duration(257), duration(4 * 3600)
    ('42 s', '4 min', '4.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def say(text: object, *, to_error: bool = False) -> None:
    """Write a line.

    Parameters
    ----------
    text : object
        What is written.
    to_error : bool
        On standard error, so that standard output holds results only.
    """
    stream = sys.stderr if to_error else sys.stdout
    stream.write(f"{text}\n")
    stream.flush()


@contextlib.contextmanager
def open_reporter(out: Path | None = None) -> Iterator[ConsoleReporter]:
    """Show how a command goes on, for as long as the block lasts.

    When the command is stopped, it says what is kept and how to go on.

    Parameters
    ----------
    out : Path, optional
        Folder in which images are kept while they are made.

    Yields
    ------
    ConsoleReporter
        On standard error.

    Raises
    ------
    SystemExit
        When the command is stopped, with exit code 130 or 143.
    """
    from neurometamer.commands.stimuli import count_kept

    reporter = ConsoleReporter()
    notes = _Notes()
    loggers = [logging.getLogger(name) for name in ("stimuli_gen", "fmri", "neurometamer")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(notes)
        logger.setLevel(logging.INFO)
    try:
        yield reporter
    except (KeyboardInterrupt, Terminated) as stop:
        reporter.close()
        done = "nothing is finished yet"
        if reporter.n_steps > 1:
            done = f"{reporter.n_finished} of {reporter.n_steps} steps are finished"
        elif reporter.total:
            done = f"{reporter.done} of {reporter.total} are finished"
        if out is not None and (unfinished := count_kept(out)[1]):
            done = f"{done}, the state of {unfinished} unfinished image(s) is saved"
        say(
            f"interrupted: {done}; what is finished is kept, and the same command goes on from "
            "there.",
            to_error=True,
        )
        raise SystemExit(143 if isinstance(stop, Terminated) else 130) from None
    finally:
        reporter.close()
        for logger, level in zip(loggers, levels):
            logger.removeHandler(notes)
            logger.setLevel(level)


class _Notes(logging.Handler):
    """Write on the console what functions note, such as what the fast mode computes in."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), to_error=True)
