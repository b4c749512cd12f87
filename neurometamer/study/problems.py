"""What stands in the way of a study, gathered instead of raised one after the other."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neurometamer.errors import InputError
from neurometamer.summaries import short_repr

ERROR, NOTE = "error", "note"


@short_repr
@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a study, or odd.

    Parameters
    ----------
    kind : {"error", "note"}
        Errors stop the study, notes do not.
    subject : str
        Whose files it concerns; empty: settings or images.
    file : str
        The file it concerns, as the study file names it; may be empty.
    message : str
        What is wrong and what to do.

    Examples
    --------
    >>> from neurometamer import Problem
    >>> problem = Problem(kind="error", subject="S1", file="m.nii", message="m.nii is missing.")
    >>> print(problem)
    S1: m.nii is missing.
    """

    kind: str
    subject: str
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}" if self.subject else self.message


class Findings:
    """Problems in the order in which they were found, each once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    @contextlib.contextmanager
    def watch(self, subject: str = "", file: str = "") -> Iterator[None]:
        """Keep what is raised or warned of while the block runs.

        Parameters
        ----------
        subject, file : str
            What the block looks at.

        Yields
        ------
        None
            An `InputError`, or a file that the system refuses, ends the block and is kept.
        """
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            try:
                yield
            except InputError as error:
                self._add(Problem(ERROR, subject, file, str(error)))
            except OSError as error:
                self._add(
                    Problem(
                        ERROR,
                        subject,
                        file,
                        f"{error.filename or file}: {error.strerror or error}.",
                    )
                )
        for warning in warned:
            self._add(Problem(NOTE, subject, file, str(warning.message)))

    def add_error(self, message: str, subject: str = "", file: str = "") -> None:
        """Keep a problem that was found otherwise.

        Parameters
        ----------
        message : str
            What is wrong and what to do.
        subject, file : str
            What it concerns.
        """
        self._add(Problem(ERROR, subject, file, message))

    def _add(self, problem: Problem) -> None:
        if str(problem) not in map(str, self.problems):
            self.problems.append(problem)

    def has_errors(self, subject: str | None = None, file: str | None = None) -> bool:
        """Tell whether there is an error.

        Parameters
        ----------
        subject, file : str, optional
            Only those that concern these.

        Returns
        -------
        bool
            Notes do not count.
        """
        errors = [problem for problem in self.problems if problem.kind == ERROR]
        of_subject = [problem for problem in errors if subject in (None, problem.subject)]
        return any(file in (None, problem.file) for problem in of_subject)


def raise_errors(problems: Sequence[Problem], limit: int = 10) -> None:
    """Raise all errors among problems as one.

    Parameters
    ----------
    problems : sequence of Problem
        Problems of a study.
    limit : int
        How many to spell out.

    Raises
    ------
    InputError
        When there is an error: the message itself, or all of them, numbered.
    """
    errors = [str(problem) for problem in problems if problem.kind == ERROR]
    if not errors:
        return
    if len(errors) == 1:
        raise InputError(errors[0])
    listed = "\n".join(
        f"({number}) {error}" for number, error in enumerate(errors[:limit], start=1)
    )
    more = "" if len(errors) <= limit else "\n… 'neurometamer check' lists them all."
    raise InputError(f"{len(errors)} things stand in the way of this study:\n{listed}{more}")
