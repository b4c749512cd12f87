"""The images, tables and regions of a BIDS data set, matched run by run.

Files of one run are found by their labels; what cannot be matched is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fmri.bids import file_labels, run_number
from fmri.confounds import TEDANA_FILES
from fmri.layout.checks import (
    ERROR,
    NOTE,
    Facts,
    Findings,
    check_components,
    check_confounds,
    check_events,
    check_image,
)
from fmri.layout.options import CHOICES
from fmri.layout.tree import BidsFile, BidsTree, RunKey, key_of, run_words
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.store import read_json

FORMATS = {
    ".nii": "volume",
    ".nii.gz": "volume",
    ".func.gii": "surface",
    ".mgh": "surface",
    ".mgz": "surface",
    ".dtseries.nii": "cifti",
}
"""Ending of a file of time series → what it holds."""

REGIONS = {
    "mask": "mask",
    "dseg": "dseg",
    "probseg": "probabilities",
    ".label.gii": "labels",
    ".annot": "labels",
    ".label": "labels",
    ".dlabel.nii": "labels",
}
"""Suffix or ending of a file of regions → what it holds."""

WITHOUT = "none"
"""What an argument is for files whose names do not have the label."""

LACKING = "not preprocessed"
"""What a run of the data set is called that has no image among the derivatives."""

_VARIANTS = ("acq", "ce", "rec", "dir")
_NAMES_OF_REGIONS = ("label", "roi", "atlas", "seg", "desc")

Row = dict[str, Any]


def describe_folders(raw: BidsTree, images: BidsTree, findings: Findings) -> str:
    """Read dataset_description.json of both folders; tell of derivatives that were not named.

    Parameters
    ----------
    raw, images : BidsTree
        The data set, and the folder of the images.
    findings : Findings
        Gets what is missing.

    Returns
    -------
    str
        Name and version of the program that made the images; may be empty.
    """
    pipeline = ""
    for tree in dict.fromkeys((raw, images)):
        file = tree.root / "dataset_description.json"
        if not file.is_file():
            findings.add(
                NOTE,
                "description",
                f"{tree.root} has no dataset_description.json; sidecars are looked for up to the "
                "folder of the folders sub-….",
                file=file,
            )
            continue
        with findings.watch(NOTE, "description", file=file):
            description = read_json(file)
            if not isinstance(description, Mapping):
                raise InputError(f"{file} holds no JSON object; correct it.")
            made_by = description.get("GeneratedBy")
            if isinstance(made_by, list) and made_by and isinstance(made_by[0], Mapping):
                names = [str(made_by[0].get(key, "")) for key in ("Name", "Version")]
                pipeline = " ".join(names).strip()
    if images is raw:
        inner = sorted(raw.root.glob("derivatives/*/sub-*"))
        folders = dict.fromkeys(folder.parent.name for folder in inner)
        if folders:
            findings.add(
                NOTE,
                "derivatives",
                f"{raw.root} has derivatives ({name_ids(folders)}), and the raw images are listed; "
                f"for the others give derivatives ({inner[0].parent}).",
            )
    return pipeline


def series_of(files: Sequence[BidsFile]) -> list[BidsFile]:
    """Choose the files that hold time series, also under their names in old versions of fMRIPrep.

    These leave out the last word of surfaces (before 20.2), or end in ``preproc`` (1.0 and 1.1).
    Phases and other parts of complex images (``part-phase``) are no responses.

    Parameters
    ----------
    files : sequence of BidsFile
        All files.

    Returns
    -------
    list of BidsFile
        Those with an ending of `FORMATS`.
    """
    series = []
    for file in files:
        is_surface = file.ending == ".func.gii" and "hemi" in file.labels
        is_old = is_surface and not file.suffix
        is_oldest = file.suffix == "preproc" and "_bold_" in file.path.name
        is_series = file.suffix == "bold" or is_old or is_oldest
        is_response = file.labels.get("part", "mag") == "mag"
        if is_series and is_response and file.ending in FORMATS:
            series.append(file)
    return series


def label_of(file: BidsFile, key: str) -> str:
    """Read a label of a file.

    Parameters
    ----------
    file : BidsFile
        The file.
    key : str
        Such as ``"space"``; the resolution of a surface is its density, a run is a number, and
        ``variant`` of fMRIPrep 1.0 and 1.1 is ``desc``.

    Returns
    -------
    str
        Empty where the name does not have it.
    """
    label = file.labels.get(key, "")
    if key == "res" and not label:
        return file.labels.get("den", "")
    if key == "desc" and not label:
        return file.labels.get("variant", "")
    return run_number(label) if key == "run" else label


def narrowed(
    series: list[BidsFile], chosen: Mapping[str, Sequence[str]], root: Path
) -> list[BidsFile]:
    """Keep the images that were chosen by their labels.

    Parameters
    ----------
    series : list of BidsFile
        From `series_of`.
    chosen : mapping of str to sequence of str
        Option of `CHOICES` to its labels.
    root : Path
        Folder of the images, for messages.

    Returns
    -------
    list of BidsFile
        At least one.

    Raises
    ------
    InputError
        When there is no image, or none has a label that was chosen.
    """
    if not series:
        raise InputError(
            f"{root} has no images of time series (sub-…_bold.nii.gz, _bold.func.gii, "
            "_bold.dtseries.nii) of these subjects; give the folder that holds them."
        )
    for argument, labels in chosen.items():
        key = CHOICES[argument]
        there = [label_of(file, key) or WITHOUT for file in series]
        for label in labels:
            if label not in there:
                raise unknown_name(f"{argument} in {root}", label, dict.fromkeys(there))
        pairs = zip(series, there, strict=True)
        series = [file for file, label in pairs if label in labels]
    return series


def compare_runs(
    scanned: Sequence[BidsFile],
    series: Sequence[BidsFile],
    chosen: Mapping[str, Sequence[str]],
    findings: Findings,
) -> None:
    """Tell of runs that were scanned and have no preprocessed image.

    Parameters
    ----------
    scanned : sequence of BidsFile
        Images of the data set.
    series : sequence of BidsFile
        Images of the derivatives.
    chosen : mapping of str to sequence of str
        Sessions, runs and tasks that were chosen, option to labels.
    findings : Findings
        Gets the runs.
    """
    there = {file.run_key for file in series}
    for file in scanned:
        is_chosen = True
        for argument, labels in chosen.items():
            label = label_of(file, CHOICES[argument]) or WITHOUT
            if label not in labels:
                is_chosen = False
        if is_chosen and file.run_key not in there:
            there.add(file.run_key)
            findings.add(
                NOTE,
                LACKING,
                f"{run_words(file.run_key)} is in the data set but has no image among the "
                "derivatives; preprocess it, or leave it out.",
                subject=label_of(file, "sub"),
                file=file.path,
            )


def tell_empty_subjects(
    subjects: Sequence[str], series: Sequence[BidsFile], findings: Findings
) -> None:
    """Note subjects without a single image of time series.

    Parameters
    ----------
    subjects : sequence of str
        Labels.
    series : sequence of BidsFile
        Images of both folders.
    findings : Findings
        Gets a note a subject.
    """
    there = [label_of(file, "sub") for file in series]
    for subject in subjects:
        if subject not in there:
            findings.add(
                NOTE,
                "no images",
                f"sub-{subject} has no images of time series; complete its folder.",
                subject=subject,
            )


def check_folders(series: Sequence[BidsFile], root: Path, findings: Findings) -> None:
    """Refuse images whose names say another subject or session than their folders.

    Parameters
    ----------
    series : sequence of BidsFile
        Images that were chosen.
    root : Path
        Folder of the subjects.
    findings : Findings
        Gets an error for each.
    """
    for file in series:
        folders = file.path.relative_to(root).parts
        for key in ("sub", "ses"):
            start = f"{key}-"
            held = [name for name in folders[:-1] if name.startswith(start)]
            named = [f"{key}-{file.labels[key]}"] if key in file.labels else []
            if held != named:
                where = name_ids(held) or f"no {key}-… folder"
                after = name_ids(named) or "none"
                findings.add(
                    ERROR,
                    "folder",
                    f"{file.path} lies in {where}, but is named after {after}; rename or move it.",
                    subject=label_of(file, "sub"),
                    file=file.path,
                )


def check_candidates(series: Sequence[BidsFile], findings: Findings) -> None:
    """Refuse to choose among several images of one run, space and hemisphere.

    Parameters
    ----------
    series : sequence of BidsFile
        Images that were chosen.
    findings : Findings
        Gets an error for each that is not alone.
    """
    groups: dict[tuple[Any, ...], list[BidsFile]] = {}
    for file in series:
        form = FORMATS[file.ending]
        space = label_of(file, "space")
        hemisphere = label_of(file, "hemi")
        place = (file.run_key, space, hemisphere, form)
        groups.setdefault(place, []).append(file)
    for (run_key, *_), files in groups.items():
        if len(files) == 1:
            continue
        ways = []
        for argument in ("desc", "echo", "resolution"):
            key = CHOICES[argument]
            labels = [label_of(file, key) or WITHOUT for file in files]
            different = dict.fromkeys(labels)
            if len(different) > 1:
                way = f"{argument} (--{argument} {name_ids(different)})"
                ways.append(way)
        cure = f"choose by {', '.join(ways)}" if ways else "keep one of them"
        names = name_ids(file.path.name for file in files)
        message = f"{run_words(run_key)}: {len(files)} images fit: {names}; {cure}."
        for file in files:
            findings.add(
                ERROR,
                "several images",
                message,
                subject=label_of(file, "sub"),
                file=file.path,
            )


# ------------------------------------------------------------------------------------------- tables


def run_tables(
    series: Sequence[BidsFile],
    files: Sequence[BidsFile],
    components: Sequence[BidsFile],
    facts: Facts,
    findings: Findings,
) -> tuple[list[Row], list[Row]]:
    """Read what is known of each image, and which stimuli appear in each run.

    Parameters
    ----------
    series : sequence of BidsFile
        Images that were chosen.
    files : sequence of BidsFile
        All files of the folder of the images.
    components : sequence of BidsFile
        Files that may be those of tedana.
    facts : Facts
        Where files are.
    findings : Findings
        Gets what is wrong.

    Returns
    -------
    runs : list of dict
        One row an image.
    stimuli : list of dict
        One row a run and stimulus.
    """
    of_run: dict[RunKey, list[BidsFile]] = defaultdict(list)
    for file in files:
        of_run[file.run_key].append(file)
    of_tedana: dict[RunKey, list[BidsFile]] = defaultdict(list)
    for file in components:
        if file.path.name.endswith(tuple(TEDANA_FILES)):
            # without a prefix only the folder says of which run it is
            labels = file.labels if "sub" in file.labels else file_labels(file.path.parent)
            of_tedana[key_of(labels)].append(file)
    run_rows = []
    stimulus_rows: dict[RunKey, list[Row]] = {}
    for file in sorted(series, key=lambda file: file.order):
        beside = of_run[file.run_key]
        form = FORMATS[file.ending]
        n_volumes, t_r = check_image(file, form, facts, findings)
        events_file, ids = check_events(file, n_volumes, t_r, facts, findings)
        place = _place(file)
        brain_masks = []
        for other in beside:
            is_of_brain = other.suffix == "mask" and label_of(other, "desc") == "brain"
            is_of_brain = is_of_brain or other.suffix == "brainmask"
            if is_of_brain and _place(other) == place:
                brain_masks.append(str(other.path))
        variant = [f"{key}-{label}" for key, label in file.run_key if key in _VARIANTS]
        which = {
            "subject": label_of(file, "sub"),
            "session": label_of(file, "ses"),
            "task": label_of(file, "task"),
            "run": file.labels.get("run", ""),
            "variant": "_".join(variant),
        }
        row = {
            **which,
            **place,
            "desc": label_of(file, "desc"),
            "echo": label_of(file, "echo"),
            "format": form,
            "n_volumes": n_volumes or None,
            "t_r": t_r or float("nan"),
            "n_events": sum(ids.values()),
            "bold": str(file.path),
            "events": events_file,
            "confounds": check_confounds(file, beside, n_volumes, facts, findings),
            "mixing": check_components(file, of_tedana[file.run_key], n_volumes, facts, findings),
            "brain_mask": brain_masks[0] if brain_masks else "",
        }
        run_rows.append(row)
        rows = stimulus_rows[file.run_key] = []
        for stimulus, count in ids.items():
            rows.append({**which, "id": stimulus, "n_events": count})
    stimuli = []
    for rows in stimulus_rows.values():
        stimuli += rows
    return run_rows, stimuli


def _place(file: BidsFile) -> Row:
    """Say on which grid or mesh a file lies."""
    return {
        "space": label_of(file, "space"),
        "resolution": label_of(file, "res"),
        "hemisphere": label_of(file, "hemi"),
    }


def found_regions(files: Sequence[BidsFile], images: BidsTree, findings: Findings) -> list[Row]:
    """List masks, label images and label files; masks of the brain of a run belong to the run.

    Parameters
    ----------
    files : sequence of BidsFile
        All files.
    images : BidsTree
        The folder whose tables name labels.
    findings : Findings
        Gets a note for each label image without a table.

    Returns
    -------
    list of dict
        One row a file.
    """
    rows = []
    for file in files:
        desc = label_of(file, "desc")
        kind = REGIONS.get(file.ending) or REGIONS.get(file.suffix, "")
        is_image = file.ending in (".nii", ".nii.gz") or file.ending in REGIONS
        is_of_run = "task" in file.labels and desc == "brain"
        if not kind or not is_image or is_of_run:
            continue
        names = [label_of(file, key) for key in _NAMES_OF_REGIONS]
        named = [name for name in names if name]
        tables = images.inherited(file.labels, suffix=file.suffix, ending=".tsv")
        if kind == "dseg" and not tables:
            findings.add(
                NOTE,
                "labels",
                f"{file.path.name}: no table names its labels (…_dseg.tsv with the columns index "
                "and name); they are known by their numbers alone, FILE:12.",
                subject=label_of(file, "sub"),
                file=file.path,
            )
        row = {
            "subject": label_of(file, "sub"),
            "session": label_of(file, "ses"),
            "kind": kind,
            "name": named[0] if named else file.suffix,
            **_place(file),
            "file": str(file.path),
            "table": str(tables[0].path) if tables else "",
        }
        rows.append(row)
    return rows
