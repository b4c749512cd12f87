"""The Natural Scenes Dataset: betas of single trials in the subject's own volume, as HDF5.

Facts are those of the NSD Data Manual ("Functional data (NSD)", "Behavioral data", "ROIs"):
``nsddata_betas/ppdata/subjNN/func*/VERSION/betas_sessionNN.hdf5`` holds ``betas``, int16, percent
signal change times 300, with axes X × Y × Z × 750 trials in MATLAB and so 750 × Z × Y × X here;
``nsddata/ppdata/subjNN/func*/roi/*.nii.gz`` holds codes (-1 outside of gray matter, 0 in no
region), which ``nsddata/freesurfer/subjNN/label/*.mgz.ctab`` names; which image a trial shows is in
``nsddata/ppdata/subjNN/behav/responses.tsv`` and in ``nsddata/experiments/nsd/nsd_expdesign.mat``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.extraction import read_hdf5_voxels
from fmri.formats.contents import (
    Contents,
    Request,
    chosen_sessions,
    whole_numbers,
)
from fmri.rois.regions import voxel_table
from fmri.volumes import image_affine, open_nifti, stored_values
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.matlab import read_mat
from neurometamer.reading import reading
from neurometamer.store import open_hdf5, read_table

SCALE = 300
"""Betas are stored as whole numbers: percent signal change times this."""

IDS = ("73KID", "10KID")
"""Columns of ``responses.tsv`` that tell images apart; both count from 1."""

TRIALS_OF_RUNS = (63, 62) * 6
"""Trials of the twelve runs of a session."""

VERSIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "betas_assumehrf": ("b1", ()),
    "betas_fithrf": ("b2", ()),
    "betas_fithrf_GLMdenoise_RR": ("b3", ("denoised", "shrunken")),
}
"""Folder of a version of betas → its short name, and what was chosen on all runs of a session."""

UNKNOWN_VERSION = ("unknown", ("perhaps denoised or shrunken",))
"""The same of a folder of another name."""

_SESSION = re.compile(r"betas_session(\d+)\.hdf5$")
_SUBJECT = re.compile(r"subj(\d\d)$")


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """The files of one preparation of one subject."""

    subject: str
    space: str
    rois: Path
    labels: Path
    responses: Path
    design: Path

    def trials_of_design(self, sessions: Sequence[str]) -> pd.DataFrame:
        """List the trials of the sessions in order, by the table of the experiment."""
        design = read_mat(self.design)
        needed = {"masterordering": 1, "subjectim": 2}
        for name, n_axes in needed.items():
            if name not in design or design[name].ndim != n_axes:
                raise InputError(f"{self.design} lacks {name} of {n_axes} axes; fetch it again.")
        order = whole_numbers(design["masterordering"], f"{self.design}: masterordering")
        images = whole_numbers(design["subjectim"], f"{self.design}: subjectim")
        number = int(self.subject.removeprefix("subj"))
        n_subjects, n_images = images.shape
        is_listed = bool(order.size) and 1 <= order.min() <= order.max() <= n_images
        if not 1 <= number <= n_subjects or not is_listed:
            raise InputError(
                f"{self.design} holds the images of {n_subjects} subjects, {n_images} each, but "
                f"not those of {self.subject}, or an order of others; fetch it again."
            )
        shown = images[number - 1, order - 1]
        runs = np.repeat(np.arange(1, 13), TRIALS_OF_RUNS)
        parts = []
        for session in sessions:
            last = int(session) * len(runs)
            first = max(last - len(runs), 0)
            of_session = shown[first:last]
            parts.append(_session_table(of_session, runs[: len(of_session)], session))
        return pd.concat(parts, ignore_index=True)

    def masks(
        self, rois: Mapping[str, Sequence[str]]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Make the mask of each region; return the grid, too."""
        files = _collections(self.rois)
        if not files:
            raise InputError(f"{self.rois} holds no ROI file (.nii.gz); fetch those of NSD.")
        tables = {name: self.codes(name) for name in files}
        codes: dict[str, np.ndarray] = {}
        masks: dict[str, np.ndarray] = {}
        for name, parts in rois.items():
            for part in parts:
                collection, code = _look_up(part, tables)
                if collection not in codes:
                    file, names = files[collection], tables[collection]
                    image = open_nifti(file)
                    with stored_values(file, image) as stored:
                        values = np.asarray(stored)
                    whole = (np.abs(values) < 2**31) & (values == np.round(values))
                    if values.ndim != 3 or not whole.all():
                        raise InputError(
                            f"{file} is {values.ndim}-D or holds other than whole numbers; ROI "
                            "files of NSD are 3-D with codes."
                        )
                    present = np.unique(values[values > 0]).astype(np.int64)
                    nameless = sorted(set(present.tolist()) - set(names.values()))
                    if nameless and (names or len(present) > 1):
                        raise InputError(
                            f"{file} holds code(s) {name_ids(nameless)} that no .ctab names; fetch "
                            "both again."
                        )
                    codes[collection] = values
                volume = codes[collection]
                first = next(iter(codes.values()))
                if volume.shape != first.shape:
                    raise InputError(
                        f"ROI files of {self.rois} have different grids ({first.shape} and "
                        f"{volume.shape}, {collection}); fetch them again."
                    )
                mask = volume > 0 if code is None else volume == code
                masks[name] = masks.get(name, np.zeros(mask.shape, dtype=bool)) | mask
        like = files[next(iter(codes))]
        affine = image_affine(like, open_nifti(like), "sform")
        for name, mask in masks.items():
            if not mask.any():
                raise InputError(f"ROI '{name}' ({name}) has no voxel; leave it out.")
        shape = [int(size) for size in first.shape]
        return masks, {"shape": shape, "affine": affine.tolist()}

    def codes(self, collection: str) -> dict[str, int]:
        """Read the names of the codes of a file of ROIs; none where nothing names them."""
        name = re.sub(r"^[lr]h\.", "", collection)
        file = self.labels / f"{name}.mgz.ctab"
        if not file.is_file():
            return {}
        with reading(file, "a table of ROI codes") as plain:
            lines = plain.read_text(encoding="utf-8-sig").splitlines()
        codes: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words:
                continue
            if len(words) < 2 or not words[0].lstrip("-").isdecimal() or words[1] in codes:
                raise InputError(
                    f"{file}: line {number} ({line[:40]!r}) is not a code and a name of its own; "
                    "fetch the file again."
                )
            if int(words[0]) > 0:
                codes[words[1]] = int(words[0])
        return codes


def missing(path: Path) -> str:
    """Say what keeps a path from being betas of NSD.

    Parameters
    ----------
    path : Path
        A folder.

    Returns
    -------
    str
        Empty when nothing does.
    """
    if not path.is_dir():
        return "it is no folder with betas_sessionNN.hdf5"
    if not _session_files(path):
        also = ""
        if list(path.glob("betas_session*.nii*")):
            also = " (betas as .nii.gz are there; fetch those as .hdf5)"
        return f"there is no betas_sessionNN.hdf5 in it{also}"
    if _tree(path) is None:
        return "it does not lie in nsddata_betas/ppdata/subjNN/SPACE/VERSION"
    return ""


def open_betas(path: Path, request: Request) -> Contents:
    """Find out what betas of NSD hold, without reading them.

    Parameters
    ----------
    path : Path
        Folder ``nsddata_betas/ppdata/subjNN/SPACE/VERSION``.
    request : Request
        Regions are names of a ``.ctab`` (``V1v``), with their file where several files have the
        name (``prf-visualrois:V1v``), or a file with all its codes (``nsdgeneral``).

    Returns
    -------
    Contents
        Conditions are 73k ids, counted from 1.

    Raises
    ------
    InputError
        When a file is missing or not as documented, or a region is unknown.
    """
    tree = _tree(path)
    assert tree is not None, "the caller has asked missing"
    files = _session_files(path)
    sessions = chosen_sessions(list(files), request.sessions, path)
    if not request.rois:
        raise InputError(
            f"which ROIs of {tree.subject}? Name some (rois, --rois): labels of "
            f"{name_ids(_collections(tree.rois), 40) or 'no file'} in {tree.rois}."
        )
    observations = _trials(tree, sessions, request.ids or IDS[0])
    masks, grid = tree.masks(request.rois)
    voxels, union, _ = voxel_table(masks, request.subject or tree.subject)
    stored_shape = union.shape[::-1]
    reversed_axes = tuple(voxels[axis].to_numpy() for axis in "kji")
    places = np.ravel_multi_index(reversed_axes, stored_shape)
    n_trials = observations["session"].value_counts()
    chosen = {session: files[session] for session in sessions}
    n_bytes = 0
    for session, file in chosen.items():
        with open_hdf5(file) as opened:
            if "betas" not in opened:
                raise InputError(f"{file} holds no array 'betas'; fetch the file of NSD again.")
            data = opened["betas"]
            if data.dtype != np.int16 or data.ndim != 4:
                raise InputError(
                    f"{file}: 'betas' is {data.dtype} of {data.ndim} axes; those of NSD are int16 "
                    f"(percent signal change × {SCALE}) of trials × Z × Y × X."
                )
            if data.shape[1:] != stored_shape:
                raise InputError(
                    f"{file}: 'betas' has the grid {data.shape[1:]}, but the ROI files have "
                    f"{union.shape}, which is {stored_shape} there; give betas and ROIs of one "
                    "subject and space."
                )
            n_listed = int(n_trials.get(session, 0))
            if len(data) != n_listed:
                raise InputError(
                    f"{file} holds {len(data)} trials, but the tables of the experiment list "
                    f"{n_listed} of this session; fetch both again."
                )
            by_voxel = data.chunks is not None and data.chunks[0] > 1
            n_values = len(data) * union.sum() if by_voxel else data.size
            n_bytes += int(n_values) * data.dtype.itemsize
    folder = path.resolve().name
    version, choices = VERSIONS.get(folder, UNKNOWN_VERSION)
    return Contents(
        observations=observations,
        voxels=voxels,
        read=partial(_read, chosen, places, observations["session"]),
        n_bytes=n_bytes,
        dtype=np.dtype(np.float32),
        record={
            "files": [file.name for file in chosen.values()],
            "folder": folder,
            "version": version,
            "chosen_on_all_runs": list(choices),
            "space": tree.space,
            "grid": grid,
            "settings": {"units": "percent"},
        },
    )


def _tree(path: Path) -> _Tree | None:
    """Find the other files of the subject whose betas lie in a folder; None outside of a tree."""
    full = path.resolve()
    if len(full.parts) < 6:
        return None
    root, _, subject, space, _ = full.parts[-5:]
    if root != "nsddata_betas" or not _SUBJECT.match(subject):
        return None
    data = full.parents[4] / "nsddata"
    own = data / "ppdata" / subject
    return _Tree(
        subject=subject,
        space=space,
        rois=own / space / "roi",
        labels=data / "freesurfer" / subject / "label",
        responses=own / "behav" / "responses.tsv",
        design=data / "experiments" / "nsd" / "nsd_expdesign.mat",
    )


def _session_files(path: Path) -> dict[str, Path]:
    """Find the files of betas: session to file, in order of their numbers."""
    files = {}
    for file in path.iterdir():
        if match := _SESSION.match(file.name):
            files[match[1]] = file
    in_order = {}
    for session in sorted(files, key=int):
        in_order[session] = files[session]
    return in_order


def _read(
    files: Mapping[str, Path],
    places: np.ndarray,
    sessions: pd.Series,
    values: np.ndarray,
    progress: Callable[[int, int], None] | None,
) -> None:
    for done, session in enumerate(files, start=1):
        is_here = sessions == session
        rows = np.flatnonzero(is_here)
        with open_hdf5(files[session]) as opened:
            betas = opened["betas"]
            values[rows] = read_hdf5_voxels(betas, places)
        if progress is not None:
            progress(done, len(files))
    values /= SCALE


# ------------------------------------------------------------------------------------------- trials


def _trials(tree: _Tree, sessions: Sequence[str], ids: str) -> pd.DataFrame:
    """List the trials of the sessions in order; where two files say what was shown, both do."""
    if ids not in IDS:
        raise unknown_name("column of stimulus ids (ids, --ids)", ids, IDS)
    tables = []
    if tree.responses.is_file():
        needed = ["SESSION", "RUN", ids]
        table = read_table(tree.responses, required=needed, once=needed)
        types = table[needed].dtypes
        if not all(map(pd.api.types.is_integer_dtype, types)):
            raise InputError(
                f"{tree.responses}: SESSION, RUN and {ids} must be whole numbers; fetch it again."
            )
        parts = []
        for session in sessions:
            rows = table[table["SESSION"] == int(session)]
            parts.append(_session_table(rows[ids], rows["RUN"], session))
        tables.append(pd.concat(parts, ignore_index=True))
    if ids == IDS[0] and tree.design.is_file():
        tables.append(tree.trials_of_design(sessions))
    if not tables:
        raise InputError(
            f"nothing says which images ({ids}) {tree.subject} saw: fetch {tree.responses}, or "
            f"{tree.design}, which has {IDS[0]} only."
        )
    if not tables[0].equals(tables[-1]):
        n_trials = [len(table) for table in tables]
        raise InputError(
            f"{tree.responses} and {tree.design} differ in which image was shown when "
            f"({n_trials[0]} and {n_trials[1]} trials in session(s) {name_ids(sessions)}); fetch "
            "both again."
        )
    return tables[0]


def _session_table(images: Any, runs: Any, session: str) -> pd.DataFrame:
    columns = {
        "condition": list(map(str, images)),
        "run": list(map(str, runs)),
        "session": session,
    }
    return pd.DataFrame(columns, dtype=object)


# ------------------------------------------------------------------------------------------ regions


def _collections(folder: Path) -> dict[str, Path]:
    """Find the files with codes of regions, by their names without ending."""
    files = {}
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            name = re.sub(r"\.nii(\.gz)?$", "", file.name)
            if name != file.name:
                files[name] = file
    return files


def _look_up(part: str, tables: Mapping[str, Mapping[str, int]]) -> tuple[str, int | None]:
    """Find the file that holds a region and its code; no code for all codes of a file."""
    if part in tables:
        return part, None
    collection, colon, label = part.partition(":")
    if colon:
        if collection not in tables:
            raise unknown_name("ROI file", collection, tables)
        if label not in tables[collection]:
            raise unknown_name(f"label of {collection}", label, tables[collection])
        return collection, tables[collection][label]
    # of files of both hemispheres and of one, the former is meant
    whole = {name: labels for name, labels in tables.items() if name[:3] not in ("lh.", "rh.")}
    holding = [name for name, labels in whole.items() if part in labels]
    if len(holding) > 1:
        raise InputError(
            f"ROI '{part}' is a label of {name_ids(holding)}; write which, for example "
            f"{holding[0]}:{part}."
        )
    if not holding:
        labels = [label for known in whole.values() for label in known]
        raise unknown_name("ROI", part, [*whole, *dict.fromkeys(labels)])
    return holding[0], whole[holding[0]][part]
