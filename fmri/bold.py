"""BOLD runs: one 4-D NIfTI image with its events and confounds.

A run is checked when it is made and read voxel by voxel.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from fmri.bids import (
    TR_RANGE_S,
    SliceTimes,
    check_same_labels,
    file_labels,
    find_reader,
    read_sidecar,
    repetition_time,
    run_number,
    sidecar_files,
    slice_times,
)
from fmri.tables import DRIFTS, checked_confounds, checked_events, read_confounds, read_events
from neurometamer.arguments import check_fields, checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.reading import check_promise
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Image

SIMULATED = "simulated"
"""First word of the description in the header of a simulated image."""

AFFINES = ("agree", "sform", "qform")
"""Which transform of a NIfTI header places its voxels: either one, or both where they agree."""

AFFINE_TOLERANCE_MM = 0.1
"""Largest distance between the positions that sform and qform give to a voxel, in mm."""

_LEAST_VOLUME_MM3 = 1e-9
"""Smallest volume of a voxel, in mm³."""

_SLAB_VALUES = 4_000_000
_CHECK_BYTES = 2**22
_TIME_UNITS = {"sec": 1.0, "unknown": 1.0, "msec": 1e-3, "usec": 1e-6}


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class BoldRun:
    """One run of one subject; nothing of the image is in memory.

    Parameters
    ----------
    image : Path
        4-D NIfTI image (``.nii`` or ``.nii.gz``).
    n_volumes : int
        Number of volumes of the image, at least 2.
    t_r : float
        Repetition time in seconds.
    events : pandas.DataFrame
        ``onset`` (s, from the first volume), ``duration`` (s), ``trial_type`` (text) and any
        further columns; none beyond the end of the run. Onsets may be negative; onsets and
        durations may be missing (NaN), as in BIDS. Missing trial types are named ``"n/a"``.
    confounds : pandas.DataFrame, optional
        One row a volume, finite.
    run, session, subject : str
        Labels; `session` and `subject` may be empty.
    simulated : bool
        Whether the header says that the image comes from a simulation.
    slices : SliceTimes
        To which time within the repetition time the volumes refer, as the JSON sidecars say.
    sidecars : tuple of Path
        The JSON files that were read.
    affine : {"agree", "sform", "qform"}
        Which transform of the header places the voxels; ``"agree"`` refuses an image whose two
        differ.

    Examples
    --------
    >>> events = pd.DataFrame({"onset": [0.0, 4.0], "duration": 2.0, "trial_type": ["cat", "cup"]})
    >>> run = BoldRun(image=Path("sub-01_run-1_bold.nii"), n_volumes=10, t_r=2.0, events=events)
    >>> run.label, run.key
    ('sub-01_run-1_bold.nii', ('', '1'))
    """

    image: Path
    n_volumes: int
    t_r: float
    events: pd.DataFrame
    confounds: pd.DataFrame | None = None
    run: str = "1"
    session: str = ""
    subject: str = ""
    simulated: bool = False
    slices: SliceTimes = field(default_factory=SliceTimes)
    sidecars: tuple[Path, ...] = ()
    affine: str = "agree"

    def __post_init__(self) -> None:
        check_fields(self)
        if not (np.isfinite(self.t_r) and self.t_r > 0):
            raise InputError(
                f"{self.label}: TR is {self.t_r} s; give t_r (--t-r), the repetition time in "
                "seconds."
            )
        if self.n_volumes < 2:
            raise InputError(
                f"{self.label}: the image has {self.n_volumes} volume(s); a run needs at least 2."
            )
        events = checked_events(self.events, self.n_volumes, self.t_r, self.label)
        object.__setattr__(self, "events", events)
        if self.confounds is not None:
            confounds = checked_confounds(self.confounds, self.n_volumes, self.label)
            object.__setattr__(self, "confounds", confounds)

    def _summary(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "image": self.label,
            "n_volumes": self.n_volumes,
            "t_r": self.t_r,
            "n_events": len(self.events),
            "conditions": self.events["trial_type"].unique().tolist(),
        }
        if self.confounds is not None:
            shown["confounds"] = self.confounds.columns.tolist()
        for name in ("subject", "session", "run"):
            if getattr(self, name):
                shown[name] = getattr(self, name)
        if self.simulated:
            shown["simulated"] = True
        return shown

    @property
    def label(self) -> str:
        """Name of the run in messages.

        Returns
        -------
        str
            The name of its file.
        """
        return Path(self.image).name

    @property
    def key(self) -> tuple[str, str]:
        """Key that tells the runs of a subject apart.

        Returns
        -------
        tuple of str
            Session and run.
        """
        return self.session, self.run

    @property
    def drift_in_confounds(self) -> bool:
        """Whether slow drifts are among the confounds; the design then has none of its own.

        Returns
        -------
        bool
            True where a column is one of fMRIPrep's cosines (``cosine00`` …).
        """
        if self.confounds is None:
            return False
        return any(DRIFTS.match(name) for name in self.confounds.columns)


@checked
def read_run(
    image: str | os.PathLike[str],
    events: str | os.PathLike[str] | pd.DataFrame,
    confounds: str | os.PathLike[str] | pd.DataFrame | None = None,
    *,
    subject: str | None = None,
    run: str | None = None,
    session: str | None = None,
    t_r: float | None = None,
    columns: Sequence[str] | None = None,
    condition_column: str = "trial_type",
    affine: str = "agree",
) -> BoldRun:
    """Open one run: check header, JSON sidecars, events and confounds.

    The image itself is not read.

    Parameters
    ----------
    image : path-like
        4-D NIfTI image.
    events : path-like or DataFrame
        BIDS ``events.tsv`` (or CSV): onset, duration, trial_type.
    confounds : path-like or DataFrame, optional
        Table with one row a volume, e.g. fMRIPrep's ``desc-confounds_timeseries.tsv``.
    subject, run, session : str, optional
        Labels; by default those in the file name (``sub-01_ses-1_run-2_bold.nii``), else empty
        (run: ``"1"``).
    t_r : float, optional
        Repetition time in seconds. By default RepetitionTime of the JSON sidecar, else that of the
        header; where the two disagree, `t_r` must say which holds.
    columns : sequence of str, optional
        Confounds to use, by names or patterns such as ``"trans_*"``. By default the six motion
        parameters where the file has them under fMRIPrep's names, else every column. CompCor
        components bring fMRIPrep's cosines, and volumes before the steady state are always taken
        out, see `fmri.tables.with_companions`.
    condition_column : str
        Column of the events that holds the stimulus ids, for example ``"stim_file"``.
    affine : {"agree", "sform", "qform"}
        Which transform of the header places the voxels. ``"agree"`` refuses images whose sform and
        qform, both coded, place a voxel more than 0.1 mm apart.

    Returns
    -------
    BoldRun
        The run.

    Raises
    ------
    InputError
        When a file cannot be read, its contents cannot be used, two sources of one fact disagree,
        or the file names of events or confounds name another subject, session, task or run than
        that of the image.

    Notes
    -----
    JSON sidecars are found by the inheritance principle of BIDS (`fmri.bids.sidecar_files`).

    A missing value in the *first* row of a confound (derivatives have none) becomes the value of
    the second row, as in ``nilearn.interfaces.fmriprep.load_confounds``; missing values elsewhere
    are refused.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> run = read_run(simulated.bold[0], simulated.events[0], simulated.confounds[0])
    >>> run.subject, run.run, run.t_r, run.simulated
    ('01', '1', 2.0, True)
    """
    path = Path(image)
    opened = open_nifti(path)
    n_volumes = check_4d(path, opened)[3]
    image_affine(path, opened, affine)
    for other in (events, confounds):
        if other is not None and not isinstance(other, pd.DataFrame):
            check_same_labels(other, path)
    sidecar = read_sidecar(path)
    in_sidecar = "RepetitionTime" in sidecar.values or "VolumeTiming" in sidecar.values
    from_header = header_tr(opened)
    header: Any = opened.header
    header_counts = t_r is None and not in_sidecar and from_header == 1
    if header_counts and header.get_xyzt_units()[1] == "unknown":
        warnings.warn(
            f"{path.name}: the header gives a repetition time of 1 without a unit, which programs "
            "write where they know none; 1 s is taken. Give the repetition time in seconds: t_r "
            "(--t-r).",
            stacklevel=2,
        )
    t_r = repetition_time(path.name, header=from_header, sidecar=sidecar, given=t_r)
    names = file_labels(path)
    given = {"run": run, "ses": session, "sub": subject}
    labels = {"run": "1", "ses": "", "sub": ""} | names
    labels |= {key: str(label) for key, label in given.items() if label is not None}
    description = header["descrip"].item()
    table = None
    if confounds is not None:
        table = read_confounds(confounds, columns, path.name)
    return BoldRun(
        image=path,
        n_volumes=n_volumes,
        t_r=t_r,
        events=read_events(events, condition_column),
        confounds=table,
        run=labels["run"],
        session=labels["ses"],
        subject=labels["sub"],
        simulated=description.startswith(SIMULATED.encode()),
        slices=slice_times(path.name, sidecar, t_r, opened.shape),
        sidecars=sidecar_files(path),
        affine=affine,
    )


@checked
def read_runs(
    bold: Sequence[str | os.PathLike[str]],
    events: Sequence[str | os.PathLike[str] | pd.DataFrame],
    confounds: Sequence[str | os.PathLike[str] | pd.DataFrame] | None = None,
    *,
    subject: str | None = None,
    sessions: Sequence[str] | None = None,
    t_r: float | None = None,
    columns: Sequence[str] | None = None,
    condition_column: str = "trial_type",
    affine: str = "agree",
) -> list[BoldRun]:
    """Open the runs of one subject, in the order of acquisition.

    Parameters
    ----------
    bold : sequence of path-like
        4-D NIfTI images.
    events, confounds : sequence of path-like or DataFrame
        One each a run, in the same order; `confounds` may be left out.
    subject : str, optional
        Label; by default that in the file names.
    sessions : sequence of str, optional
        One label a run; by default those in the file names.
    t_r : float, optional
        Repetition time in seconds; by default that of each sidecar or header.
    columns : sequence of str, optional
        Confounds to use, by names or patterns; by default the six motion parameters where there are
        all, else every column.
    condition_column : str
        Column of the events with the stimulus ids.
    affine : str
        Which header transform places voxels: sform, qform, or agree (refuse if they differ).

    Returns
    -------
    list of BoldRun
        Runs whose file names do not number them are numbered 1, 2, … in the order given.

    Raises
    ------
    InputError
        When the lists differ in length, two runs have the same labels, or a run cannot be used.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> runs = read_runs(simulated.bold, simulated.events)
    >>> [run.run for run in runs]
    ['1', '2']
    """
    lists = {"events": events, "confounds": confounds, "sessions": sessions}
    for name, values in lists.items():
        if values is not None and len(values) != len(bold):
            raise InputError(
                f"{len(bold)} BOLD image(s) but {len(values)} {name}; give one for each run, in "
                "order."
            )
    names = [file_labels(path) for path in bold]
    labels = dict.fromkeys(f"sub-{name['sub']}" for name in names if "sub" in name)
    if len(labels) > 1:
        raise InputError(
            f"BOLD images of {len(labels)} subjects ({name_ids(labels)}); give those of one at a "
            "time."
        )
    numbered = all("run" in name for name in names)
    runs = []
    for position, image in enumerate(bold):
        number = None if numbered else str(position + 1)
        session = None if sessions is None else sessions[position]
        table = None if confounds is None else confounds[position]
        run = read_run(
            image,
            events[position],
            table,
            subject=subject,
            run=number,
            session=session,
            t_r=t_r,
            columns=columns,
            condition_column=condition_column,
            affine=affine,
        )
        runs.append(run)
    check_runs(runs)
    return runs


def check_runs(runs: Sequence[BoldRun]) -> None:
    """Check that runs can be analyzed together: one subject, one grid, each run once.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs.

    Raises
    ------
    InputError
        When there is none, one is given twice (``run-1`` is ``run-01``), or they disagree.
    """
    if not runs:
        raise InputError("no BOLD runs; give at least one.")
    subjects = dict.fromkeys(run.subject for run in runs)
    if len(subjects) > 1:
        raise InputError(
            f"runs of {len(subjects)} subjects ({name_ids(subjects)}); estimate one subject at a "
            "time."
        )
    again = duplicates(f"session '{run.session}' run '{run_number(run.run)}'" for run in runs)
    if again:
        raise InputError(
            f"runs given twice: {name_ids(again)}; give each once, with its own run and session "
            "label."
        )
    if files := duplicates(os.path.realpath(run.image) for run in runs):
        names = [Path(file).name for file in files]
        raise InputError(
            f"BOLD files given more than once: {name_ids(names)}; give each run its own file."
        )
    for run in runs[1:]:
        check_same_grid(run.image, runs[0].image, affine=runs[0].affine)


def open_nifti(path: str | os.PathLike[str]) -> Nifti1Image:
    """Open a NIfTI image without reading its voxels.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    nibabel image
        With its data still on disk.

    Raises
    ------
    InputError
        When the file is missing, empty, cut off in the header, or not a NIfTI image of real
        numbers.
    """
    import nibabel

    file = Path(path)
    if file.is_dir():
        images = sorted(inside.name for inside in file.glob("*.nii*"))
        held = name_ids(images) if images else "no .nii or .nii.gz"
        raise InputError(f"{path} is a folder; give the NIfTI files themselves (it holds {held}).")
    if not file.is_file():
        missing = [folder for folder in file.parents if not folder.exists()]
        also = f" (there is no folder {missing[-1]})" if missing else ""
        raise InputError(f"{path} does not exist{also}; give the path of an image.")
    if file.stat().st_size == 0:
        raise InputError(
            f"{path} is empty (0 bytes); fetch the file itself (datalad get, git annex get) or "
            "copy it again."
        )
    read = find_reader(IMAGE_READERS, path, "an image")
    try:
        image = read(path)
    except Exception as error:  # a damaged header makes nibabel fail in many ways
        raise InputError(
            f"{path} is not a readable NIfTI image ({_one_line(error)}); copy or convert it again."
        ) from error
    if not isinstance(image, nibabel.Nifti1Pair):
        kind = type(image).__name__
        raise InputError(
            f"{path} is a {kind}, not a NIfTI image of a volume; {_OTHERWISE.get(kind, _CONVERT)}."
        )
    if image.affine is None or not np.isfinite(image.affine).all():
        raise InputError(f"{path} has a header whose affine is not finite; write the header again.")
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(
            f"{path} holds values of type {image.get_data_dtype()}, not real numbers; convert it."
        )
    return image  # type: ignore[return-value]


def _load(path: str | os.PathLike[str]) -> Any:
    import nibabel

    return nibabel.load(path)


IMAGE_READERS: dict[str, Callable[[str | os.PathLike[str]], Any]] = {
    ".nii": _load,
    ".nii.gz": _load,
    "": _load,
}
"""Ending of an image → its reader, which returns a ``nibabel.Nifti1Image``; ``""`` is for all other
endings, and nibabel decides. A format is added by an entry here."""

_CONVERT = "convert it to .nii.gz"
_OTHERWISE = {
    "GiftiImage": "responses that were already estimated for vertices are read with "
    "fmri.read_surface_patterns; "
    "time series on surfaces cannot be analyzed here, give those of the volume",
    "Cifti2Image": "take the volume out of it (wb_command -cifti-separate IN COLUMN -volume-all "
    "OUT.nii.gz)",
}
"""Type of image to what its user can do; others can be converted."""


@contextmanager
def stored_values(path: str | os.PathLike[str], image: Nifti1Image) -> Iterator[ArrayProxy]:
    """Return the values of an opened image, still on disk.

    The file is read in one pass and checked to its end.

    Parameters
    ----------
    path : path-like
        For the message.
    image : nibabel image
        From `open_nifti`.

    Yields
    ------
    nibabel.arrayproxy.ArrayProxy
        To be cut into slabs, first to last; scaled as the header says.

    Raises
    ------
    InputError
        When the file is cut off or damaged (a ``.gz`` file has a checksum at its end, which nibabel
        does not read).
    """
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.openers import ImageOpener

    raw: Any = image.dataobj
    if isinstance(raw, np.ndarray):  # of a reader that holds them in memory
        yield raw  # type: ignore[misc]
        return
    spec = (raw.shape, raw.dtype, raw.offset, raw.slope, raw.inter)
    stored_in = image.file_map["image"].filename
    n_bytes = math.prod(raw.shape) * raw.dtype.itemsize
    check_promise(stored_in or path, n_bytes)
    try:
        with ImageOpener(str(stored_in), "rb") as file:
            yield ArrayProxy(file, spec, mmap=False)
            while file.read(_CHECK_BYTES):
                pass
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever nibabel or zlib make of a damaged file
        raise InputError(
            f"{path} is cut off or damaged ({_one_line(error)}); copy or convert it again."
        ) from error


def check_4d(path: str | os.PathLike[str], image: Nifti1Image) -> tuple[int, int, int, int]:
    """Check that an image is 4-D and return its shape.

    Parameters
    ----------
    path : path-like
        For the message.
    image : nibabel image
        The opened image.

    Returns
    -------
    tuple of int
        (i, j, k, volumes).

    Raises
    ------
    InputError
        When it has another number of dimensions.
    """
    shape = [int(size) for size in image.shape]
    if len(shape) != 4:
        raise InputError(
            f"{path} is {len(shape)}-D with shape {tuple(shape)}; a BOLD run must be 4-D (i, j, k, "
            "volumes)."
        )
    i, j, k, n_volumes = shape
    return i, j, k, n_volumes


def image_affine(
    path: str | os.PathLike[str], image: Nifti1Image, affine: str = "agree"
) -> np.ndarray:
    """Read where an image places its voxels, and refuse a header with two different transforms.

    Parameters
    ----------
    path : path-like
        For the message.
    image : nibabel image
        From `open_nifti`.
    affine : {"agree", "sform", "qform"}
        Which of the two transforms counts where both are coded; ``"agree"`` refuses them when they
        differ.

    Returns
    -------
    ndarray of float, shape (4, 4)
        Voxel indices to mm.

    Raises
    ------
    InputError
        When sform and qform, both coded, place a corner of the volume more than 0.1 mm apart and
        `affine` is ``"agree"``; when the quaternion of the qform is none, or `affine` is unknown.
    """
    if affine not in AFFINES:
        raise unknown_name("affine", affine, AFFINES)
    header: Any = image.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    chosen = np.asarray(image.affine, dtype=np.float64)
    if affine != "qform" and abs(np.linalg.det(chosen[:3, :3])) < _LEAST_VOLUME_MM3:
        raise InputError(
            f"{Path(path).name}: the transform of its header places all voxels in one plane, line "
            f'or point (sform code {codes[0]}, qform code {codes[1]}); give affine="qform" '
            "(--affine qform) where that holds, or write the header again."
        )
    if min(codes) <= 0 or affine == "sform":
        return np.asarray(image.affine, dtype=np.float64)
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except Exception as error:
        raise InputError(
            f"{path}: the qform of the header cannot be read ({_one_line(error)}); give "
            'affine="sform" (--affine sform), or write the header again.'
        ) from error
    if affine == "qform":
        return np.asarray(qform, dtype=np.float64)
    # the largest distance between the positions that both give to a corner of the volume
    ends = [[0, size - 1] for size in image.shape[:3]]
    corners = np.array(np.meshgrid(*ends, [1])).reshape(4, -1)
    shifts = (sform - qform) @ corners
    away = float(np.linalg.norm(shifts[:3], axis=0).max())
    if away > AFFINE_TOLERANCE_MM:
        import nibabel

        axes = ["".join(map(str, nibabel.aff2axcodes(affine))) for affine in (sform, qform)]
        of_sform = np.linalg.det(sform[:3, :3])
        of_qform = np.linalg.det(qform[:3, :3])
        mirrored = ""
        if of_sform * of_qform < 0:
            mirrored = (
                "; they are mirror images of each other, so that left and right may be exchanged"
            )
        raise InputError(
            f"{Path(path).name}: sform (code {codes[0]}, {axes[0]}) and qform (code {codes[1]}, "
            f"{axes[1]}) place the voxels up to {away:.3g} mm apart{mirrored}. Say which holds, "
            'affine="sform" or "qform" (--affine), or write the header again.'
        )
    return np.asarray(image.affine, dtype=np.float64)


def check_same_grid(
    path: str | os.PathLike[str], like: str | os.PathLike[str], *, affine: str = "agree"
) -> None:
    """Check that two images have the same voxel grid; nothing is ever resampled here.

    Parameters
    ----------
    path, like : path-like
        NIfTI images; the first three dimensions and the affine are compared.
    affine : {"agree", "sform", "qform"}
        See `image_affine`.

    Raises
    ------
    InputError
        When shape or affine disagree (affine: by more than 0.001 mm or rotation unit).
    """
    image, other = open_nifti(path), open_nifti(like)
    if image.shape[:3] != other.shape[:3]:
        raise InputError(
            f"{Path(path).name} has the grid {tuple(image.shape[:3])} but {Path(like).name} has "
            f"{tuple(other.shape[:3])}; resample one onto the other yourself (nearest neighbor for "
            "masks)."
        )
    own = image_affine(path, image, affine)
    others = image_affine(like, other, affine)
    away = float(np.abs(own - others).max())
    if not away <= 1e-3:
        raise InputError(
            f"{Path(path).name} and {Path(like).name} have the same shape but another affine "
            f"(largest difference {away:.4g}); resample one onto the other yourself (nearest "
            "neighbor for masks)."
        )


@checked_with(shapes={"mask": "i j k"})
def read_voxels(path: str | os.PathLike[str], mask: np.ndarray) -> np.ndarray:
    """Read the time courses of some voxels, slab by slab of volumes.

    The whole series is never in memory at once.

    Parameters
    ----------
    path : path-like
        4-D NIfTI image.
    mask : ndarray of bool, shape (i, j, k)
        True for the voxels wanted.

    Returns
    -------
    ndarray of float, shape (n_volumes, n_voxels)
        Voxels in C order of the mask, as in nilearn's ``NiftiMasker``; scaled as the header says.

    Raises
    ------
    InputError
        When the file is cut off or damaged, or the mask has another shape.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> from fmri import read_masks
    >>> mask = read_masks(simulated.masks, simulated.bold[0])["V1"]
    >>> read_voxels(simulated.bold[0], mask).shape
    (30, 8)
    """
    image = open_nifti(path)
    shape = check_4d(path, image)
    if mask.shape != shape[:3]:
        raise InputError(
            f"{Path(path).name} has the grid {shape[:3]} but the mask has {mask.shape}; give a "
            "mask "
            "on the grid of the image."
        )
    step = max(1, _SLAB_VALUES // max(1, mask.size))
    series = np.empty((shape[3], int(mask.sum())), dtype=np.float64)
    with stored_values(path, image) as values:
        for first in range(0, shape[3], step):
            slab = np.asarray(values[..., first : first + step])
            series[first : first + step] = slab[mask].T
    return series


def _one_line(error: BaseException) -> str:
    words = str(error).split()
    line = " ".join(words) or type(error).__name__
    return line[:160]


def header_tr(image: Nifti1Image) -> float | None:
    """Read the repetition time in a NIfTI header.

    Parameters
    ----------
    image : nibabel image
        From `open_nifti`, 4-D.

    Returns
    -------
    float or None
        Seconds; None where the header says nothing that could be one.
    """
    header: Any = image.header
    try:
        unit = header.get_xyzt_units()[1]
    except KeyError:  # a code that NIfTI does not know
        return None
    t_r = float(header.get_zooms()[3]) * _TIME_UNITS.get(unit, np.nan)
    if TR_RANGE_S[0] <= t_r <= TR_RANGE_S[1]:
        return round(t_r, 6)
    return None
