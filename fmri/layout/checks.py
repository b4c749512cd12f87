"""What is wrong with the images and tables of a BIDS data set, run by run.

What stands in the way is gathered instead of raised one after the other.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fmri.bids import SAME_TIME_S, file_labels, read_sidecar, repetition_time, slice_times
from fmri.confounds import rejected_components
from fmri.layout.options import LayoutOptions
from fmri.layout.tree import BidsFile, BidsTree, run_words
from fmri.rois.files import split_label
from fmri.series import check_files
from fmri.tables import NO_TRIAL_TYPE, checked_events, event_names, new_names, read_events
from fmri.volumes import check_4d, check_complete, header_tr, image_affine, open_nifti
from neurometamer.errors import InputError, name_ids
from neurometamer.store import read_table

ERROR, NOTE = "error", "note"

CONFOUNDS = ("timeseries", "regressors")
"""Last words of the names of fMRIPrep's confounds; the second is that of versions before 20.2."""

OLD_CONFOUNDS = "_bold_confounds.tsv"
"""End of the names of confounds of fMRIPrep 1.0 and 1.1."""

WITHOUT_EVENTS = "rest"
"""Tasks whose names begin so have no events (BIDS 1.9, "Task events")."""


class Findings:
    """Problems in the order in which they were found, each once."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []

    def add(
        self, severity: str, problem: str, message: str, *, subject: str = "", file: object = ""
    ) -> None:
        """Keep a problem.

        Parameters
        ----------
        severity : {"error", "note"}
            Whether a run cannot be used.
        problem : str
            What it is, in a few words.
        message : str
            What is wrong and what to do.
        subject : str
            Label of the subject; may be empty.
        file : path-like
            The file; may be empty.
        """
        row = {
            "severity": severity,
            "problem": problem,
            "subject": subject,
            "file": str(file),
            "message": " ".join(message.split()),
        }
        if row not in self.rows:
            self.rows.append(row)

    @contextlib.contextmanager
    def watch(
        self, severity: str, problem: str, *, subject: str = "", file: object = ""
    ) -> Iterator[None]:
        """Keep what is raised or warned of while the block runs.

        Parameters
        ----------
        severity, problem, subject, file
            See `add`; warnings are notes.

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
                self.add(severity, problem, str(error), subject=subject, file=file)
            except OSError as error:
                place, reason = error.filename or file, error.strerror or error
                message = f"{place}: {reason}; mend that."
                self.add(severity, problem, message, subject=subject, file=file)
        for warning in warned:
            self.add(NOTE, problem, str(warning.message), subject=subject, file=file)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Where the files of a data set are, and what the user says of them.

    Parameters
    ----------
    raw : BidsTree
        The data set.
    images : BidsTree
        The folder of the images: the derivatives, or the data set itself.
    wishes : LayoutOptions
        How tables and headers are read.
    tables : dict of Path to (int, dict, list)
        Tables of confounds that were read (rows, columns with old names, columns with missing
        values): images in several spaces share one.
    """

    raw: BidsTree
    images: BidsTree
    wishes: LayoutOptions
    tables: dict[Path, tuple[int, dict[str, str], list[str]]] = field(default_factory=dict)


def check_here(path: Path) -> None:
    """Refuse a file whose contents are not here.

    Parameters
    ----------
    path : Path
        A file that a folder lists.

    Raises
    ------
    InputError
        When it is a link to nothing, or has no bytes.
    """
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{path} is a link to a file that is not here; fetch it (datalad get, git annex get)."
        )
    if path.stat().st_size == 0:
        raise InputError(
            f"{path} is empty (0 bytes); fetch the file itself (datalad get, git annex get) or "
            "copy it again."
        )


def check_image(file: BidsFile, form: str, facts: Facts, findings: Findings) -> tuple[int, float]:
    """Read number of volumes and repetition time of an image, and compare what says them.

    Parameters
    ----------
    file : BidsFile
        The image.
    form : str
        volume, surface or cifti; of the last two only the presence of the file is checked.
    facts : Facts
        Where files are.
    findings : Findings
        Gets what is wrong.

    Returns
    -------
    n_volumes : int
        0 where it cannot be read.
    t_r : float
        Seconds; 0 where it cannot be read.
    """
    path, subject = file.path, file.labels.get("sub", "")
    n_volumes, t_r = 0, 0.0
    is_here = False
    with findings.watch(ERROR, "image is not here", subject=subject, file=path):
        check_here(path)
        is_here = True
    if form == "cifti" and is_here:
        with findings.watch(ERROR, "image", subject=subject, file=path):
            check_files([path])
    if form != "volume" or not is_here:
        return n_volumes, t_r
    with findings.watch(ERROR, "image", subject=subject, file=path):
        opened = open_nifti(path)
        n_volumes = check_4d(path, opened)[3]
        image_affine(path, opened, facts.wishes.affine)
        sidecar = read_sidecar(path)
        header = header_tr(opened)
        t_r = repetition_time(path.name, header=header, sidecar=sidecar, given=facts.wishes.t_r)
        slice_times(path.name, sidecar, t_r, opened.shape)
        check_complete(path)
    if not t_r or facts.raw is facts.images:
        return n_volumes, t_r
    with findings.watch(ERROR, "repetition time", subject=subject, file=path):
        # a preprocessed image has the repetition time of its scan
        folders = [f"{key}-{file.labels[key]}" for key in ("sub", "ses") if key in file.labels]
        folder = facts.raw.root.joinpath(*folders, "func")
        labels = [f"{key}-{label}" for key, label in file.labels.items() if key not in _DERIVED]
        name = "_".join(labels)
        of_scan = read_sidecar(folder / f"{name}_bold.nii.gz")
        scanned = of_scan.seconds("RepetitionTime")
        is_given = facts.wishes.t_r is not None
        if scanned is not None and not is_given and abs(scanned - t_r) > SAME_TIME_S:
            raise InputError(
                f"{path.name} has a repetition time of {t_r:g} s, but "
                f"{of_scan.where('RepetitionTime')} of the data set says {scanned:g} s. Give the "
                "right one as t_r (--t-r), or correct the file that is wrong."
            )
    return n_volumes, t_r


_DERIVED = ("space", "res", "den", "desc", "variant", "hemi", "echo")
"""Labels that preprocessing adds."""


def check_events(
    file: BidsFile, n_volumes: int, t_r: float, facts: Facts, findings: Findings
) -> tuple[str, Counter[str]]:
    """Find the events of an image and read which stimuli they show.

    Parameters
    ----------
    file : BidsFile
        The image.
    n_volumes : int
        Its volumes; 0 where unknown.
    t_r : float
        Its repetition time in seconds; 0 where unknown.
    facts : Facts
        Where files are.
    findings : Findings
        Gets what is wrong.

    Returns
    -------
    path : str
        The table; empty where there is none.
    ids : Counter of str
        Stimulus to its number of events.
    """
    run, subject = run_words(file.run_key), file.labels.get("sub", "")
    fitting = facts.raw.inherited(file.labels, suffix="events", ending=".tsv")
    if not fitting:
        fitting = facts.images.inherited(file.labels, suffix="events", ending=".tsv")
    ids: Counter[str] = Counter()
    if len(fitting) > 1:
        _tell_several(file, fitting, "events", "are as near", findings)
        return "", ids
    if not fitting and file.labels.get("task", "").startswith(WITHOUT_EVENTS):
        message = f"{run} has no events, as a task of rest."
        findings.add(NOTE, "no events", message, subject=subject, file=file.path)
        return "", ids
    if not fitting:
        others = []
        for other in facts.raw.files([subject]):
            labels, theirs = dict(file.run_key), dict(other.run_key)
            differs = labels.pop("task", "") != theirs.pop("task", "")
            if other.suffix == "events" and differs and labels == theirs:
                others.append(other.path.name)
        hint = f" ({name_ids(others)} is of another task)" if others else ""
        message = f"{run} has no events.tsv{hint}; add it to {facts.raw.root}, or choose another "
        message += "task."
        findings.add(ERROR, "no events", message, subject=subject, file=file.path)
        return "", ids
    path = fitting[0].path
    with findings.watch(ERROR, "events", subject=subject, file=path):
        check_here(path)
        try:
            events = read_events(path, facts.wishes.id_column)
        except InputError as error:
            # the column has another name here
            message = str(error).replace("condition_column", "id_column")
            raise InputError(message.replace("--condition-column", "--id-column")) from error
        if t_r and n_volumes:
            events = checked_events(events, n_volumes, t_r, run)
            _tell_odd_events(events, path, subject, findings)
        named = events["trial_type"].astype(str)
        ids.update(named)
        ids.pop(NO_TRIAL_TYPE, None)
        if not ids:
            raise InputError(
                f"{path}: the column '{facts.wishes.id_column}' holds no stimulus ids; name "
                "another (id_column, --id-column)."
            )
    return str(path), ids


def _tell_several(
    file: BidsFile, fitting: Sequence[BidsFile], what: str, how: str, findings: Findings
) -> None:
    """Tell of an image for which several tables are as good."""
    run = run_words(file.run_key)
    names = name_ids(table.path.name for table in fitting)
    findings.add(
        ERROR,
        f"several {what}",
        f"{run}: {len(fitting)} tables of {what} {how}: {names}; keep one of them.",
        subject=file.labels.get("sub", ""),
        file=file.path,
    )


def _tell_odd_events(events: pd.DataFrame, path: Path, subject: str, findings: Findings) -> None:
    """Note events that are allowed and unusual."""
    shown = events[events["trial_type"] != NO_TRIAL_TYPE].sort_values("onset", kind="stable")
    ends = (shown["onset"] + shown["duration"]).cummax().shift()
    odd = {
        "begin before the one before them has ended": shown["onset"] < ends - 1e-6,
        "begin before the first volume": shown["onset"] < 0,
        "have no onset (n/a) and are left out": shown["onset"].isna(),
        "have no duration (n/a)": shown["duration"].isna(),
    }
    for what, rows in odd.items():
        if rows.any():
            names = name_ids(event_names(shown[rows]))
            findings.add(
                NOTE,
                "events",
                f"{path.name}: {int(rows.sum())} events {what}: {names}; check that this is meant.",
                subject=subject,
                file=path,
            )
    ids = shown["trial_type"].drop_duplicates()
    spaced = ids[ids.str.contains(r"[\s,;]", regex=True)]
    if len(spaced):
        findings.add(
            NOTE,
            "ids",
            f"{path.name}: stimulus ids hold spaces or commas: {name_ids(map(repr, spaced))}; they "
            "are kept as they are, and the images must have the same.",
            subject=subject,
            file=path,
        )


def check_confounds(
    file: BidsFile,
    beside: Sequence[BidsFile],
    n_volumes: int,
    facts: Facts,
    findings: Findings,
) -> str:
    """Find the confounds of an image and compare their rows with its volumes.

    Parameters
    ----------
    file : BidsFile
        The image.
    beside : sequence of BidsFile
        Files of the same run.
    n_volumes : int
        Its volumes; 0 where unknown.
    facts : Facts
        Where files are.
    findings : Findings
        Gets what is wrong.

    Returns
    -------
    str
        The table; empty where there is none.
    """
    fitting = []
    for other in beside:
        is_table = other.suffix in CONFOUNDS and other.ending == ".tsv"
        is_new = is_table and other.labels.get("desc") == "confounds"
        if is_new or other.path.name.endswith(OLD_CONFOUNDS):
            fitting.append(other)
    subject = file.labels.get("sub", "")
    if len(fitting) > 1:
        _tell_several(file, fitting, "confounds", "fit", findings)
        return ""
    if not fitting:
        if facts.raw is not facts.images:
            run = run_words(file.run_key)
            message = f"{run} has no desc-confounds_timeseries.tsv; copy it beside the image."
            findings.add(NOTE, "no confounds", message, subject=subject, file=file.path)
        return ""
    path = fitting[0].path
    with findings.watch(ERROR, "confounds", subject=subject, file=path):
        check_here(path)
        renamed, incomplete = _check_rows(path, file, n_volumes, facts)
        if renamed:
            names = name_ids(f"{old} as {new}" for old, new in renamed.items())
            findings.add(
                NOTE,
                "old confounds",
                f"{path.name} has the columns of fMRIPrep 1.0 or 1.1, which are read under their "
                f"names from 1.2 on ({names}); nothing is to be done.",
                subject=subject,
                file=path,
            )
        if incomplete:
            names = name_ids(incomplete)
            findings.add(
                NOTE,
                "confounds",
                f"{path.name} has missing values (n/a) after its first row in {names}; such "
                "columns cannot be used: repair them, or use others.",
                subject=subject,
                file=path,
            )
    return str(path)


def _check_rows(
    path: Path, file: BidsFile, n_volumes: int, facts: Facts
) -> tuple[dict[str, str], list[str]]:
    """Compare the rows of a table with the volumes of its image.

    Give its columns with old names, and those with missing values after the first row.
    """
    if path not in facts.tables:
        table = read_table(path)
        # in the first row derivatives have none, and get that of the second
        is_missing = table.iloc[1:].isna().any()
        incomplete = [str(name) for name in table.columns[is_missing]]
        facts.tables[path] = len(table), new_names(table.columns), incomplete
    n_rows, renamed, incomplete = facts.tables[path]
    if n_volumes and n_rows != n_volumes:
        raise InputError(
            f"{path.name} has {n_rows} rows but {file.path.name} has {n_volumes} volumes; one row "
            "a volume is needed. Find out which of the two was cut."
        )
    return renamed, incomplete


def check_components(
    file: BidsFile,
    components: Sequence[BidsFile],
    n_volumes: int,
    facts: Facts,
    findings: Findings,
) -> str:
    """Find tedana's components of an image, and compare their rows with its volumes.

    Parameters
    ----------
    file : BidsFile
        The image.
    components : sequence of BidsFile
        Tables of time courses of components of the same run.
    n_volumes : int
        Its volumes; 0 where unknown.
    facts : Facts
        Where files are.
    findings : Findings
        Gets what is wrong.

    Returns
    -------
    str
        The table; empty where there is none.
    """
    subject = file.labels.get("sub", "")
    if len(components) > 1:
        _tell_several(file, components, "components", "fit", findings)
        return ""
    if not components:
        if facts.wishes.tedana is not None:
            run = run_words(file.run_key)
            message = f"{run} has no desc-ICA_mixing.tsv in {facts.wishes.tedana}; run tedana on "
            message += "it, or leave it out."
            findings.add(NOTE, "no components", message, subject=subject, file=file.path)
        return ""
    path = components[0].path
    with findings.watch(ERROR, "components", subject=subject, file=path):
        check_here(path)
        _check_rows(path, file, n_volumes, facts)
        rejected_components(path)
    return str(path)


def check_rois(
    patterns: Mapping[str, str], subjects: Sequence[str], findings: Findings
) -> list[dict[str, Any]]:
    """Find the mask of each ROI and subject.

    Parameters
    ----------
    patterns : mapping of str to str
        ROI to path, with or without a label (``FILE:LABEL``); ``{subject}`` stands for the label of
        a subject, ``*`` in the path for anything.
    subjects : sequence of str
        Labels.
    findings : Findings
        Gets what is missing.

    Returns
    -------
    list of dict
        Rows of the table of ROIs.
    """
    rows = []
    lacking: dict[str, list[tuple[str, Path]]] = {}
    for subject in subjects:
        for name, pattern in patterns.items():
            path, _ = split_label(pattern)
            place = Path(path.replace("{subject}", subject)).expanduser()
            # of the marks that glob knows only the star is one here
            inner = re.sub(r"([\[?])", r"[\1]", str(place.relative_to(place.anchor)))
            fitting = sorted(Path(place.anchor).glob(inner))
            if len(fitting) == 1:
                labels = file_labels(fitting[0])
                row = {
                    "subject": subject,
                    "session": labels.get("ses", ""),
                    "kind": "given",
                    "name": name,
                    "space": labels.get("space", ""),
                    "resolution": labels.get("res", labels.get("den", "")),
                    "hemisphere": labels.get("hemi", ""),
                    "file": str(fitting[0]),
                    "table": "",
                }
                rows.append(row)
                with findings.watch(ERROR, "ROI", subject=subject, file=fitting[0]):
                    check_here(fitting[0])
                continue
            if not fitting:
                lacking.setdefault(name, []).append((subject, place))
                continue
            findings.add(
                ERROR,
                "ROI",
                f"sub-{subject}: ROI '{name}': {len(fitting)} files fit {place}; correct the "
                "pattern of this ROI, or leave the subject out.",
                subject=subject,
                file=place,
            )
    for name, places in lacking.items():
        if len(subjects) > 1 and len(places) == len(subjects):
            everybody = [f"sub-{subject}" for subject in subjects]
            message = f"ROI '{name}': there is no {patterns[name]} of any of the {len(subjects)} "
            message += f"subjects ({name_ids(everybody)}); correct the pattern of this ROI."
            findings.add(ERROR, "ROI", message)
            continue
        for subject, place in places:
            message = f"sub-{subject}: ROI '{name}': there is no {place}; correct the pattern of "
            message += "this ROI, or leave the subject out."
            findings.add(ERROR, "ROI", message, subject=subject, file=place)
    return rows


def tell_lacking_regions(
    rows: Sequence[Mapping[str, Any]], subjects: Sequence[str], findings: Findings
) -> None:
    """Note regions that some subjects have and others have not.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of the table of ROIs.
    subjects : sequence of str
        Labels of all subjects.
    findings : Findings
        Gets a note a region.
    """
    having: dict[str, list[str]] = {}
    columns = ("kind", "name", "space", "hemisphere")
    for row in rows:
        is_given = row["kind"] == "given"
        if row["subject"] and not is_given:
            words = [row[column] for column in columns if row[column]]
            region = " ".join(words)
            having.setdefault(region, []).append(row["subject"])
    for region, there in having.items():
        lacking = [f"sub-{subject}" for subject in subjects if subject not in there]
        if lacking:
            n_there = len(subjects) - len(lacking)
            findings.add(
                NOTE,
                "ROI",
                f"{n_there} of {len(subjects)} subjects have '{region}', but not "
                f"{name_ids(lacking)}.",
            )


def tell_lacking_sessions(runs: Sequence[Mapping[str, Any]], findings: Findings) -> None:
    """Note sessions that some subjects have and others have not.

    Parameters
    ----------
    runs : sequence of mapping
        Rows of the table of runs.
    findings : Findings
        Gets a note a session.
    """
    subjects = list(dict.fromkeys(row["subject"] for row in runs))
    having: dict[str, list[str]] = {}
    for row in runs:
        having.setdefault(row["session"], []).append(row["subject"])
    for session, there in having.items():
        lacking = [f"sub-{subject}" for subject in subjects if subject not in there]
        if lacking:
            what = f"session {session}" if session else "runs without a label of the session"
            findings.add(
                NOTE,
                "sessions",
                f"{len(subjects) - len(lacking)} of {len(subjects)} subjects have {what}, but not "
                f"{name_ids(lacking)}.",
            )
