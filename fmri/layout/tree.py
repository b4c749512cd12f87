"""The files of a BIDS folder, parsed once and matched by the labels in their names.

Nothing is opened here. Files belong together by their labels, never by their order: ``run-1`` is
``run-01``, whereas ``sub-1`` is not ``sub-01``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fmri.bids import RUN_LABELS, file_labels, run_number
from neurometamer.errors import InputError, name_ids

RunKey = tuple[tuple[str, str], ...]
"""Labels that files of one run share, numbers without zeros before them."""

TOP_LABELS = {"sub": "sub-", "ses": "ses-"}
"""Labels that are folders."""

_SKIPPED = ("derivatives", "sourcedata", "code", "stimuli", ".git", ".datalad", "figures", "log")


@dataclass(frozen=True)
class BidsFile:
    """One file, and what its name says.

    Parameters
    ----------
    path : Path
        The file.
    labels : mapping of str to str
        Key to label, as in `fmri.bids.file_labels`.
    suffix : str
        Last word of the name before its ending, such as ``"bold"``; empty where it is a label.
    ending : str
        From the first dot on, such as ``".nii.gz"``.

    Examples
    --------
    >>> file = parse_name("sub-01_task-images_run-02_bold.nii.gz")
    >>> file.suffix, file.ending, file.labels["task"]
    ('bold', '.nii.gz', 'images')
    >>> file.run_key
    (('sub', '01'), ('task', 'images'), ('run', '2'))
    """

    path: Path
    labels: Mapping[str, str]
    suffix: str
    ending: str

    @cached_property
    def run_key(self) -> RunKey:
        """The labels that say which run it is of.

        Returns
        -------
        tuple of (str, str)
            In the order of `fmri.bids.RUN_LABELS`.
        """
        return key_of(self.labels)

    @property
    def order(self) -> list[list[tuple[int, str]]]:
        """What files are sorted by: subject, session, task, run, space and hemisphere.

        Returns
        -------
        list
            Of `natural`.
        """
        keys = ("sub", "ses", "task", "run", "space", "hemi")
        return [natural(self.labels.get(key, "")) for key in keys]


def key_of(labels: Mapping[str, str]) -> RunKey:
    """Take the labels that say which run a file is of.

    Parameters
    ----------
    labels : mapping of str to str
        Key to label.

    Returns
    -------
    tuple of (str, str)
        Keys and labels, in the order of `fmri.bids.RUN_LABELS`.
    """
    pairs = []
    for key in RUN_LABELS:
        if key in labels:
            label = run_number(labels[key]) if key == "run" else labels[key]
            pairs.append((key, label))
    return tuple(pairs)


def run_words(key: RunKey) -> str:
    """Name a run as its files do.

    Parameters
    ----------
    key : tuple of (str, str)
        From `key_of`.

    Returns
    -------
    str
        For example ``"sub-01 task-images run-2"``.
    """
    words = []
    for name, label in key:
        words.append(f"{name}-{label}")
    return " ".join(words)


def parse_name(path: str | os.PathLike[str]) -> BidsFile:
    """Read what the name of a file says.

    Parameters
    ----------
    path : path-like
        The file; it is not opened.

    Returns
    -------
    BidsFile
        Path, labels, suffix and ending.
    """
    file = Path(path)
    stem, dot, ending = file.name.partition(".")
    last = stem.split("_")[-1]
    suffix = "" if "-" in last else last
    return BidsFile(file, file_labels(file), suffix, dot + ending)


def natural(text: str) -> list[tuple[int, str]]:
    """Make a key that sorts numbers in a text by their size.

    Parameters
    ----------
    text : str
        A label.

    Returns
    -------
    list of (int, str)
        For ``sorted``.

    Examples
    --------
    >>> sorted(["10", "9", "02"], key=natural)
    ['02', '9', '10']
    """
    parts = []
    for word in re.findall(r"\d+|\D+", text):
        if word.isdecimal():
            parts.append((int(word), ""))
        else:
            parts.append((-1, word))
    return parts


class BidsTree:
    """The files below one BIDS folder.

    Parameters
    ----------
    root : path-like
        Folder with the folders ``sub-…``.

    Raises
    ------
    InputError
        When it is no folder, or has no folder of a subject.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            what = "is a file" if self.root.exists() else "does not exist"
            raise InputError(
                f"{self.root} {what}; give the folder of a BIDS data set, with its folders sub-…."
            )
        try:
            held = sorted(self.root.iterdir())
        except OSError as error:
            _refuse(error)
            raise
        folders = [entry for entry in held if entry.is_dir()]
        names = [entry.name for entry in held]
        folder_names = [folder.name for folder in folders]
        labels = [name[4:] for name in folder_names if re.match("sub-.", name)]
        self.subjects = sorted(labels, key=natural)
        if not labels:
            inside = f"it holds {name_ids(names)}" if names else "it is empty"
            inner = [folder.name for folder in folders if any(folder.glob("sub-*"))]
            hint = f"; its folder {inner[0]} has some, give that" if inner else ""
            raise InputError(
                f"{self.root} is no BIDS data set: it has no folder sub-… ({inside}){hint}."
            )
        self.by_folder: dict[Path, list[BidsFile]] = {}
        self._inside: dict[Path, list[Path]] = {}
        self._add(self.root, names)

    def files(self, subjects: Iterable[str]) -> list[BidsFile]:
        """List the files of subjects.

        Parameters
        ----------
        subjects : iterable of str
            Labels; those without a folder have no files.

        Returns
        -------
        list of BidsFile
            In the order of folders and names.
        """
        listed = []
        for subject in subjects:
            top = self.root / f"sub-{subject}"
            for folder, inner, names in os.walk(top, onerror=_refuse):
                kept = [name for name in inner if name not in _SKIPPED]
                inner[:] = sorted(kept)
                path = Path(folder)
                if path not in self.by_folder:
                    in_order = sorted(names)
                    self._add(path, in_order)
                listed += self.by_folder[path]
        return listed

    def _add(self, folder: Path, names: Sequence[str]) -> None:
        parsed = []
        for name in names:
            if not name.startswith("."):
                file = parse_name(folder / name)
                parsed.append(file)
        self.by_folder[folder] = parsed
        siblings = self._inside.setdefault(folder.parent, [])
        siblings.append(folder)

    def inherited(
        self, labels: Mapping[str, str], *, suffix: str, ending: str
    ) -> tuple[BidsFile, ...]:
        """Find the table that applies to an image, by the inheritance principle of BIDS.

        A table applies to images at or below its folder whose names hold all of its labels; the
        nearest folder decides, and in it the name with the most labels.

        Parameters
        ----------
        labels : mapping of str to str
            Those of the image.
        suffix, ending : str
            Of the table, such as ``"events"`` and ``".tsv"``.

        Returns
        -------
        tuple of BidsFile
            Empty where there is none; more than one where several are as near.
        """
        above = [self.root]
        for key, start in TOP_LABELS.items():
            if key in labels:
                name = f"{start}{labels[key]}"
                above.append(above[-1] / name)
        below = sorted(self._inside.get(above[-1], []))
        held = set(_plain(labels))
        for folder in (*below, *reversed(above)):
            fitting = []
            for file in self.by_folder.get(folder, []):
                is_meant = file.suffix == suffix and file.ending == ending
                if is_meant and set(_plain(file.labels)) <= held:
                    fitting.append(file)
            if fitting:
                most = max(len(file.labels) for file in fitting)
                return tuple(file for file in fitting if len(file.labels) == most)
        return ()


def _refuse(error: OSError) -> None:
    """Refuse a folder that cannot be listed; one that is not there has no files."""
    if isinstance(error, FileNotFoundError):
        return
    raise InputError(
        f"{error.filename} cannot be listed ({error.strerror}); change its permissions, or leave "
        "the subject out."
    ) from error


def _plain(labels: Mapping[str, str]) -> list[tuple[str, str]]:
    """Write labels such that ``run-01`` equals ``run-1``."""
    plain = dict(labels)
    if "run" in plain:
        plain["run"] = run_number(plain["run"])
    return list(plain.items())
