"""What is taken of a BIDS data set: options of `find_dataset`, of commands and of studies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fmri.bids import run_number
from neurometamer.arguments import check_fields
from neurometamer.errors import unknown_name
from neurometamer.summaries import short_repr

CHOICES = {
    "sessions": "ses",
    "runs": "run",
    "task": "task",
    "space": "space",
    "resolution": "res",
    "desc": "desc",
    "echo": "echo",
}
"""Option of `LayoutOptions` → the label that it chooses images by."""

OF_RUNS = ("sessions", "runs", "task")
"""Options of `CHOICES` that choose runs, not one of the images of a run."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """Which images of a BIDS data set are taken, and how their tables and headers are read.

    Parameters
    ----------
    subjects : sequence of str
        Only these labels, with or without ``sub-``; all when empty.
    sessions : sequence of str
        Only these labels, with or without ``ses-``; all when empty.
    runs : sequence of str
        Only these labels, with or without ``run-``; all when empty.
    task : str, optional
        Only images of this task.
    space : str, optional
        Space of the images, such as ``"T1w"``, where there are several or their names do not say
        it; ``"none"`` for images whose names have no label ``space``.
    resolution : str, optional
        Only images with this label ``res`` (volumes) or ``den`` (surfaces); ``"none"`` for those
        without it.
    desc : str, optional
        Only images with this label ``desc``, such as ``"preproc"``; ``"none"`` for those without
        it.
    echo : str, optional
        Only images of this echo; ``"none"`` for those without the label.
    id_column : str
        Column of the events that holds the stimulus ids: ``"trial_type"``, ``"stim_file"``, or any
        other; of files the id is the name without folder and ending.
    t_r : float, optional
        Repetition time in seconds, where header and sidecar disagree.
    affine : {"agree", "sform", "qform"}
        Which transform of the headers places the voxels, see `fmri.read_run`.
    tedana : path-like, optional
        Folder of the output of tedana (``desc-ICA_mixing.tsv``, ``desc-tedana_metrics.tsv``), with
        folders ``sub-…``; by default these files are looked for beside the images.

    Raises
    ------
    InputError
        When an option is of another type.

    Examples
    --------
    >>> LayoutOptions(runs=["run-01"], task="task-images").labels()
    {'runs': ['1'], 'task': ['images']}
    """

    subjects: Sequence[str] = ()
    sessions: Sequence[str] = ()
    runs: Sequence[str] = ()
    task: str | None = None
    space: str | None = None
    resolution: str | None = None
    desc: str | None = None
    echo: str | None = None
    id_column: str = "trial_type"
    t_r: float | None = None
    affine: str = "agree"
    tedana: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def labels(self) -> dict[str, list[str]]:
        """Give the labels that images must have.

        Returns
        -------
        dict of str to list of str
            Option to labels without their keys, runs without zeros before them; only options that
            choose.
        """
        chosen = {}
        for option, key in CHOICES.items():
            given = getattr(self, option) or []
            names = [given] if isinstance(given, str) else given
            labels = [name.removeprefix(f"{key}-") for name in names]
            if labels:
                chosen[option] = [run_number(label) for label in labels] if key == "run" else labels
        return chosen


def layout_options(options: Mapping[str, Any], caller: str) -> LayoutOptions:
    """Make options of a data set of the further arguments of a function.

    Parameters
    ----------
    options : mapping of str to object
        Option to its value.
    caller : str
        Name of the function, for messages.

    Returns
    -------
    LayoutOptions
        With the defaults of what is not given.

    Raises
    ------
    InputError
        When there is no such option; the nearest is named.

    Examples
    --------
    >>> layout_options({"task": "images"}, "find_dataset").task
    'images'
    """
    known = [field.name for field in fields(LayoutOptions)]
    for name in options:
        if name not in known:
            raise unknown_name(f"argument of {caller}", name, known)
    return LayoutOptions(**options)
