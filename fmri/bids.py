"""What is known of an image from outside it: the labels in BIDS file names and the JSON sidecars.

A sidecar has authority over the header of the image (BIDS 1.9, "Magnetic Resonance Imaging"). By
the inheritance principle a JSON file applies to every image at or below its folder whose name holds
all of its labels and ends in the same suffix; the nearest file decides, key by key.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.store import read_json

Reader = TypeVar("Reader")

RUN_LABELS = ("sub", "ses", "task", "acq", "ce", "rec", "dir", "run")
"""Labels that an image shares with the tables of its run."""

INDEX_LABELS = ("run",)
"""Labels that are numbers: ``run-1`` is ``run-01``, whereas ``sub-1`` is not ``sub-01``."""

TR_RANGE_S = (0.01, 60.0)
"""Repetition times outside this range are no repetition times in seconds."""

SAME_TIME_S = 1e-3
"""Largest difference of two times that count as equal, in seconds."""

TOLD_SPREAD_S = 0.2
"""Slices that were acquired over a longer time, uncorrected, are reported."""

TIMING_KEYS = ("RepetitionTime", "VolumeTiming", "StartTime", "SliceTimingCorrected", "SliceTiming")
"""Keys that are read from a sidecar."""

_ENDINGS = re.compile(
    r"([.](func|shape|label|surf|dtseries|dscalar|dlabel))?"
    r"([.](nii|img|hdr|gii|mgh|json|tsv)([.]gz)?|[.]mgz)$"
)

_MOST_LEVELS = 8
"""Folders above an image that are searched for the root of its data set."""


def file_labels(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the BIDS labels of a file name.

    Parameters
    ----------
    path : path-like
        The file; its folders are not looked at.

    Returns
    -------
    dict of str to str
        Key to label, in the order of the name.

    Examples
    --------
    >>> file_labels("sub-01_task-images_run-2_bold.nii.gz")
    {'sub': '01', 'task': 'images', 'run': '2'}
    """
    pairs = re.findall(r"(?:^|_)([A-Za-z]+)-([A-Za-z0-9+]+)(?=[_.]|$)", Path(path).name)
    return dict(pairs)


def check_same_labels(
    table: str | os.PathLike[str],
    image: str | os.PathLike[str],
    labels: Sequence[str] = RUN_LABELS,
) -> None:
    """Check that a table belongs to an image by the labels that both names hold.

    Parameters
    ----------
    table, image : path-like
        Two files.
    labels : sequence of str
        Keys to compare.

    Raises
    ------
    InputError
        When a label differs: every event would be given to the wrong volumes.
    """
    of_table = file_labels(table)
    of_image = file_labels(image)
    for key in labels:
        if key not in of_table or key not in of_image:
            continue
        theirs, ours = of_table[key], of_image[key]
        if _plain_label(key, theirs) != _plain_label(key, ours):
            raise InputError(
                f"{Path(table).name} was given for {Path(image).name}: {key}-{theirs} is not "
                f"{key}-{ours}. Give the files of all lists in the same order of runs, or "
                "rename the file whose name is wrong."
            )


def check_subject(subject: str, file: str | os.PathLike[str]) -> None:
    """Check that a file belongs to a subject by the label in its name.

    Parameters
    ----------
    subject : str
        The subject's name: a label of BIDS (``"sub-01"``), a number, or any other name, which fits
        every file.
    file : path-like
        An image or a table.

    Raises
    ------
    InputError
        When the file names another label, or another number.

    Examples
    --------
    >>> check_subject("anna", "sub-01_run-1_bold.nii")
    >>> check_subject("1", "sub-01_run-1_bold.nii")
    >>> try:
    ...     check_subject("2", "sub-01_run-1_bold.nii")
    ... except ValueError as error:
    ...     print(error)
    sub-01_run-1_bold.nii is of sub-01; list the files of 2, or correct the id.
    """
    label = file_labels(file).get("sub")
    if label is None:
        return
    both_numbers = subject.isdecimal() and label.isdecimal()
    is_other_number = both_numbers and int(subject) != int(label)
    is_other_label = subject.startswith("sub-") and subject != f"sub-{label}"
    if is_other_number or is_other_label:
        raise InputError(
            f"{Path(file).name} is of sub-{label}; list the files of {subject}, or correct the id."
        )


def _plain_label(key: str, label: str) -> str:
    if key in INDEX_LABELS:
        return label.lstrip("0")
    return label


def run_number(label: str) -> str:
    """Write the label of a run such that equal numbers are equal.

    Parameters
    ----------
    label : str
        For example ``"01"``.

    Returns
    -------
    str
        Without the zeros before it.

    Examples
    --------
    >>> run_number("01"), run_number("10")
    ('1', '10')
    """
    return _plain_label("run", label)


def find_reader(readers: Mapping[str, Reader], path: str | os.PathLike[str], what: str) -> Reader:
    """Find the reader of a file by the ending of its name.

    Parameters
    ----------
    readers : mapping of str to callable
        Ending → reader; the entry ``""``, where there is one, is for all other endings.
    path : path-like
        The file; capitals in its ending do not matter.
    what : str
        What it should hold, for the message.

    Returns
    -------
    callable
        That of the longest ending that fits.

    Raises
    ------
    InputError
        When no ending fits.

    Examples
    --------
    >>> find_reader({".nii": "plain", ".nii.gz": "packed"}, "sub-01_bold.nii.gz", "images")
    'packed'
    """
    name = Path(path).name
    fitting = [ending for ending in readers if name.lower().endswith(ending)]
    if not fitting:
        ending = Path(path).suffix
        raise unknown_name(f"ending of {what} ({name})", ending, readers)
    longest = max(fitting, key=len)
    return readers[longest]


# ----------------------------------------------------------------------------------------- sidecars


@dataclass(frozen=True)
class Sidecar:
    """The metadata that JSON files give for one image.

    Parameters
    ----------
    values : mapping of str to object
        What the files say together.
    sources : mapping of str to Path
        The file that each value comes from.
    """

    values: Mapping[str, Any]
    sources: Mapping[str, Path]

    def seconds(self, key: str) -> float | None:
        """Read a time.

        Parameters
        ----------
        key : str
            For example ``"RepetitionTime"``.

        Returns
        -------
        float or None
            Seconds; None where no file says it.

        Raises
        ------
        InputError
            When the value is no finite number.
        """
        if key not in self.values:
            return None
        return self._number(key, self.values[key])

    def times(self, key: str) -> tuple[float, ...]:
        """Read a list of times.

        Parameters
        ----------
        key : str
            For example ``"SliceTiming"``.

        Returns
        -------
        tuple of float
            Seconds; empty where no file says it.

        Raises
        ------
        InputError
            When the value is no list of finite numbers.
        """
        values = self.values.get(key, [])
        if not isinstance(values, list):
            raise InputError(
                f"{self.where(key)} is {values!r:.60}; BIDS wants a list of seconds. Correct it."
            )
        numbers = [self._number(key, value) for value in values]
        return tuple(numbers)

    def flag(self, key: str) -> bool:
        """Read whether something holds.

        Parameters
        ----------
        key : str
            For example ``"SliceTimingCorrected"``.

        Returns
        -------
        bool
            False where no file says it.

        Raises
        ------
        InputError
            When the value is neither true nor false.
        """
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise InputError(
                f"{self.where(key)} is {value!r:.60}; BIDS wants true or false. Correct it."
            )
        return value

    def where(self, key: str) -> str:
        """Name a value and its file, for messages.

        Parameters
        ----------
        key : str
            One of the keys of `values`.

        Returns
        -------
        str
            For example ``"RepetitionTime in task-images_bold.json"``.
        """
        source = self.sources[key]
        return f"{key} in {source.name}"

    def _number(self, key: str, value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value)):  # type: ignore[arg-type]
            raise InputError(
                f"{self.where(key)} holds {value!r:.60}; BIDS wants a number of seconds. Correct "
                "it."
            )
        return float(value)  # type: ignore[arg-type]


def plain_name(name: str) -> str:
    """Take the ending off the name of an image or of a file about it.

    Parameters
    ----------
    name : str
        For example ``"sub-01_bold.nii.gz"``.

    Returns
    -------
    str
        What images and their sidecars share.

    Examples
    --------
    >>> plain_name("lh_bold.func.gii"), plain_name("sub-01_bold.dtseries.json")
    ('lh_bold', 'sub-01_bold')
    """
    return _ENDINGS.sub("", name)


def sidecar_files(image: str | os.PathLike[str], ending: str = ".json") -> tuple[Path, ...]:
    """List the JSON files that apply to an image, by the inheritance principle of BIDS.

    Parameters
    ----------
    image : path-like
        An image, with or without a BIDS name. ``NAME.json`` beside ``NAME.nii.gz`` always applies.
    ending : str
        Of the files looked for.

    Returns
    -------
    tuple of Path
        From the root of the data set down, so that later files override earlier ones. The root is
        the nearest folder with a ``dataset_description.json``, else the folder of the ``sub-``
        folders.
    """
    path = Path(image).absolute()
    image_name = plain_name(path.name)
    above = list(path.parents)[:_MOST_LEVELS]
    root = 0
    for level, folder in enumerate(above):
        if (folder / "dataset_description.json").is_file():
            root = level
            break
        if folder.name.startswith("sub-"):
            root = level + 1
    *image_labels, image_suffix = image_name.split("_")
    there = {_plain_part(label) for label in image_labels}
    files = []
    for folder in above[root::-1]:
        applying = []
        for file in sorted(folder.glob(f"*{ending}")):
            name = plain_name(file.name)
            *labels, suffix = name.split("_")
            applies = name == image_name
            if suffix == image_suffix and all("-" in label for label in labels):
                wanted = {_plain_part(label) for label in labels}
                applies = applies or wanted <= there
            if applies:
                applying.append(file)
        files += sorted(applying, key=lambda file: len(file_labels(file)))
    return tuple(files)


def read_sidecar(image: str | os.PathLike[str]) -> Sidecar:
    """Read the JSON files that apply to an image.

    Parameters
    ----------
    image : path-like
        The image; see `sidecar_files`.

    Returns
    -------
    Sidecar
        Empty where there is no file.

    Raises
    ------
    InputError
        When a file is no JSON object, or two files of one folder, neither nearer to the image by
        its name, give different times.
    """
    values: dict[str, Any] = {}
    sources: dict[str, Path] = {}
    rivals: dict[str, Path] = {}
    for file in sidecar_files(image):
        content = read_json(file)
        if not isinstance(content, Mapping):
            raise InputError(f"{file} holds no JSON object (key: value); correct or remove it.")
        for key, value in content.items():
            rivals.pop(key, None)
            if key not in values or values[key] == value:
                continue
            # a file of the same folder that names as many labels of the image is as near to it
            other = sources[key]
            same_folder = other.parent == file.parent
            as_near = len(file_labels(other)) == len(file_labels(file))
            if same_folder and as_near:
                rivals[key] = other
        values |= content
        sources |= dict.fromkeys(content, file)
    for key, other in rivals.items():
        if key in TIMING_KEYS:
            raise InputError(
                f"{Path(image).name}: {other.name} and {sources[key].name} give it a different "
                f"{key}, and neither name is nearer to that of the image (BIDS: one file a "
                "folder). Correct or remove one."
            )
    return Sidecar(values, sources)


def _plain_part(part: str) -> str:
    """Write a part of a name such that ``run-01`` equals ``run-1``."""
    key, _, label = part.partition("-")
    plain = _plain_label(key, label)
    return f"{key}-{plain}"


# -------------------------------------------------------------------------------------------- times


def repetition_time(
    name: str,
    *,
    header: float | None,
    sidecar: Sidecar,
    given: float | None = None,
    n_volumes: int = 0,
) -> float:
    """Decide on the repetition time of a run, or refuse where its sources contradict each other.

    Parameters
    ----------
    name : str
        The image, for messages.
    header : float or None
        What the NIfTI header says, s; None where it says nothing sensible.
    sidecar : Sidecar
        May hold RepetitionTime or VolumeTiming.
    given : float, optional
        What the user says, s: decides between a header and a sidecar that disagree.
    n_volumes : int
        Of the image, to compare the number of times with; 0: not compared.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    InputError
        When header and sidecar disagree by more than 1 ms and `given` is not one of the two, when
        `given` contradicts a sidecar that the header does not contradict, when nothing says it, or
        when VolumeTiming is of volumes that are not equally spaced, or of another number of them.
    """
    stated = sidecar.seconds("RepetitionTime")
    step = volume_step(name, sidecar, n_volumes)
    if stated is not None and step is not None and _differ(stated, step):
        raise InputError(
            f"{name}: {sidecar.where('RepetitionTime')} says {stated:g} s, but "
            f"{sidecar.where('VolumeTiming')} says {step:g} s from volume to volume. Correct or "
            "remove one."
        )
    key = "VolumeTiming" if stated is None else "RepetitionTime"
    stated = step if stated is None else stated
    if stated is not None and not TR_RANGE_S[0] <= stated <= TR_RANGE_S[1]:
        raise InputError(
            f"{name}: {sidecar.where(key)} is {stated:g}; BIDS wants seconds ({TR_RANGE_S[0]:g} to "
            f"{TR_RANGE_S[1]:g}). Correct it."
        )
    if given is not None:
        if not TR_RANGE_S[0] <= given <= TR_RANGE_S[1]:
            raise InputError(
                f"{name}: t_r (--t-r) is {given:g}; give the repetition time in seconds."
            )
        from_header = header is not None and not _differ(given, header)
        if stated is not None and _differ(given, stated) and not from_header:
            also = "" if header is None else f", and the header {header:g} s"
            raise InputError(
                f"{name}: t_r (--t-r) is {given:g} s, but {sidecar.where(key)} says {stated:g} "
                f"s{also}. Leave t_r out, or correct the sidecar."
            )
        if stated is None and header is not None and not from_header:
            warnings.warn(
                f"t_r = {given:g} s is taken as the repetition time; the headers say {header:g} s.",
                stacklevel=2,
            )
        return given
    if stated is not None and header is not None and _differ(stated, header):
        raise InputError(
            f"{name}: the header says a repetition time of {header:g} s, but {sidecar.where(key)} "
            f"says {stated:g} s. Give the right one as t_r (--t-r), or correct the file that is "
            "wrong."
        )
    chosen = header if stated is None else stated
    if chosen is None:
        raise InputError(
            f"{name}: neither the header nor a JSON sidecar gives a repetition time between "
            f"{TR_RANGE_S[0]:g} and {TR_RANGE_S[1]:g} s; give t_r (--t-r), the repetition time in "
            "seconds."
        )
    return chosen


def volume_step(name: str, sidecar: Sidecar, n_volumes: int) -> float | None:
    """Read the step from volume to volume that VolumeTiming gives.

    Parameters
    ----------
    name : str
        The image, for messages.
    sidecar : Sidecar
        May hold VolumeTiming.
    n_volumes : int
        Of the image; 0: not compared.

    Returns
    -------
    float or None
        Seconds; None where no file says it.

    Raises
    ------
    InputError
        When steps differ by more than 1 ms, or there is another number of volumes.
    """
    volumes = sidecar.times("VolumeTiming")
    if volumes and n_volumes and len(volumes) != n_volumes:
        raise InputError(
            f"{name}: {sidecar.where('VolumeTiming')} lists {len(volumes)} volumes, but the image "
            f"has {n_volumes}; check whether the sidecar belongs to it, or remove VolumeTiming."
        )
    steps = [after - before for before, after in itertools.pairwise(volumes)]
    if steps and max(steps) - min(steps) > SAME_TIME_S:
        raise InputError(
            f"{name}: {sidecar.where('VolumeTiming')} says that volumes are not equally spaced "
            f"({min(steps):g} to {max(steps):g} s); only equal steps are supported: leave the run "
            "out, or resample it to one repetition time."
        )
    return steps[0] if steps else None


def _differ(first: float, second: float) -> bool:
    difference = abs(first - second)
    return difference > SAME_TIME_S


@dataclass(frozen=True, kw_only=True)
class SliceTimes:
    """When, within the repetition time, the slices of a run were acquired.

    Parameters
    ----------
    start_s : float, optional
        Time to which the first volume refers, in seconds after its acquisition began: StartTime, or
        the middle of SliceTiming where slices were not corrected. None: nothing is known.
    spread_s : float
        Time over which uncorrected slices were acquired, s; 0 where they were corrected or nothing
        is known.
    corrected : bool
        Whether the sidecar says that slice times were corrected.
    given : bool
        Whether `start_s` is the StartTime of the sidecar.
    """

    start_s: float | None = None
    spread_s: float = 0.0
    corrected: bool = False
    given: bool = False


def slice_times(name: str, sidecar: Sidecar, t_r: float, shape: Sequence[int] = ()) -> SliceTimes:
    """Read to which time the volumes of a run refer.

    Parameters
    ----------
    name : str
        The image, for messages.
    sidecar : Sidecar
        May hold StartTime, SliceTimingCorrected, SliceTiming.
    t_r : float
        Repetition time in seconds.
    shape : sequence of int
        Of the image (i, j, k, …), to compare the number of slices with; empty: not compared.

    Returns
    -------
    SliceTimes
        As the sidecar says.

    Raises
    ------
    InputError
        When a value is no time within the repetition time, or SliceTimingCorrected neither true nor
        false.

    Warns
    -----
    UserWarning
        When slices were not corrected and SliceTiming has another number of slices than the image.
    """
    corrected = sidecar.flag("SliceTimingCorrected")
    start = sidecar.seconds("StartTime")
    is_given = start is not None
    if start is not None:
        _check_within_tr(name, sidecar.where("StartTime"), [start], t_r)
    slices = sidecar.times("SliceTiming")
    settled = corrected or (is_given and "SliceTimingCorrected" not in sidecar.values)
    if settled or not slices:
        return SliceTimes(start_s=start, corrected=corrected, given=is_given)
    _check_within_tr(name, sidecar.where("SliceTiming"), slices, t_r)
    direction = str(sidecar.values.get("SliceEncodingDirection", "k")).rstrip("-")
    axis = "ijk".find(direction) if direction else -1
    if 0 <= axis < len(shape) and shape[axis] != len(slices):
        # the image cannot be the one whose slices the sidecar lists
        warnings.warn(
            f"{name}: {sidecar.where('SliceTiming')} lists {len(slices)} slices, but the image has "
            f"{shape[axis]} along {direction}. Check whether the sidecar belongs to it; of a "
            "resampled image, remove SliceTiming.",
            stacklevel=2,
        )
    first, last = min(slices), max(slices)
    if start is None:
        start = (first + last) / 2
    return SliceTimes(start_s=start, spread_s=last - first, given=is_given)


def _check_within_tr(name: str, where: str, times: Sequence[float], t_r: float) -> None:
    outside = [f"{time:g}" for time in times if not 0 <= time <= t_r + SAME_TIME_S]
    if outside:
        raise InputError(
            f"{name}: {where} holds {name_ids(outside)}; times within the "
            f"repetition time of {t_r:g} s, in seconds, are wanted. Correct it."
        )


def volume_start(times: SliceTimes, t_r: float, slice_time_ref: float | None = None) -> float:
    """Decide to which time within the repetition time the volumes of a run refer.

    Say what is uncertain about it.

    Parameters
    ----------
    times : SliceTimes
        What the sidecar says.
    t_r : float
        Repetition time in seconds.
    slice_time_ref : float, optional
        What the user says: a share of the repetition time, in [0, 1].

    Returns
    -------
    float
        Seconds after the acquisition of the first volume began.

    Raises
    ------
    InputError
        When `slice_time_ref` is out of range.

    Warns
    -----
    UserWarning
        When `slice_time_ref` contradicts the sidecar (it is taken, as in nilearn), when slices were
        not corrected, or when they were and nothing says to which time.
    """
    if slice_time_ref is None:
        if times.corrected and times.start_s is None:
            warnings.warn(
                "the sidecars say that slice times were corrected, but not to which time (no "
                "StartTime); the start of each volume is taken. Give slice_time_ref "
                "(--slice-time-ref), 0.5 for fMRIPrep.",
                stacklevel=2,
            )
        if times.spread_s > TOLD_SPREAD_S:
            taken = (
                f"the middle, {times.start_s:g} s, is taken for all, so that some are up to "
                f"{times.spread_s / 2:.2g} s off"
            )
            if times.given:
                taken = f"StartTime, {times.start_s:g} s, is taken for all, as if they had been"
            warnings.warn(
                f"the slices of a volume were acquired over {times.spread_s:g} s (SliceTiming) and "
                f"not corrected; {taken}. Correct slice times first (fMRIPrep does), or give "
                "slice_time_ref (--slice-time-ref) for the slices of your regions.",
                stacklevel=2,
            )
        return times.start_s or 0.0
    if not 0 <= slice_time_ref <= 1:
        raise InputError(
            f"slice_time_ref (--slice-time-ref) is {slice_time_ref}; give a share of the TR "
            "between 0 and 1."
        )
    start_s = slice_time_ref * t_r
    if times.given and times.start_s is not None and _differ(start_s, times.start_s):
        warnings.warn(
            f"slice_time_ref = {slice_time_ref:g} is taken, {start_s:g} s into each volume; "
            f"StartTime of the sidecars says {times.start_s:g} s.",
            stacklevel=2,
        )
    return start_s
