"""BOLD runs: one 4-D NIfTI image with its events and confounds, checked when it is made, read voxel by voxel."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.store import InputError, duplicates, name_ids, read_table
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Image

EVENT_COLUMNS = ("onset", "duration", "trial_type")
MOTION_COLUMNS = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""The six rigid-body parameters, named as fMRIPrep names them."""

SIMULATED = "simulated"
"""How the description in the header of a simulated image begins."""

NO_TRIAL_TYPE = "n/a"
"""What an event without a trial type is called (the BIDS word for a missing value)."""

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
    tr_s : float
        Repetition time in seconds.
    events : pandas.DataFrame
        ``onset`` (s, from the first volume), ``duration`` (s), ``trial_type`` (text) and any further columns; all
        within the run. Missing trial types are named ``"n/a"``.
    confounds : pandas.DataFrame, optional
        One row a volume, finite.
    run, session, subject : str
        Labels; `session` and `subject` may be empty.
    simulated : bool
        Whether the header says that the image comes from a simulation.
    """

    image: Path
    n_volumes: int
    tr_s: float
    events: pd.DataFrame
    confounds: pd.DataFrame | None = None
    run: str = "1"
    session: str = ""
    subject: str = ""
    simulated: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.tr_s) and self.tr_s > 0):
            raise InputError(f"{self.label}: TR is {self.tr_s} s; give tr_s, the repetition time in seconds.")
        if self.n_volumes < 2:
            raise InputError(f"{self.label}: the image has {self.n_volumes} volume(s); a run needs at least 2.")
        object.__setattr__(self, "events", _checked_events(self.events, self.n_volumes, self.tr_s, self.label))
        if self.confounds is not None:
            object.__setattr__(self, "confounds", _checked_confounds(self.confounds, self.n_volumes, self.label))

    @property
    def label(self) -> str:
        """How messages name the run.

        Returns
        -------
        str
            The name of its file.
        """
        return Path(self.image).name

    @property
    def key(self) -> tuple[str, str]:
        """What tells the runs of a subject apart.

        Returns
        -------
        tuple of str
            Session and run.
        """
        return self.session, self.run


def read_run(
    image: str | os.PathLike[str],
    events: str | os.PathLike[str] | pd.DataFrame,
    confounds: str | os.PathLike[str] | pd.DataFrame | None = None,
    *,
    subject: str | None = None,
    run: str | None = None,
    session: str | None = None,
    tr_s: float | None = None,
    columns: Sequence[str] | None = None,
) -> BoldRun:
    """Open one run: check the header, the events and the confounds; the image itself is not read.

    Parameters
    ----------
    image : path-like
        4-D NIfTI image.
    events : path-like or DataFrame
        BIDS ``events.tsv`` (or CSV): onset, duration, trial_type.
    confounds : path-like or DataFrame, optional
        Table with one row a volume, e.g. fMRIPrep's ``desc-confounds_timeseries.tsv``.
    subject, run, session : str, optional
        Labels; by default those in the file name (``sub-01_ses-1_run-2_bold.nii``), else empty (run: ``"1"``).
    tr_s : float, optional
        Repetition time in seconds; by default that of the NIfTI header.
    columns : sequence of str, optional
        Confounds to use. By default the six motion parameters where the file has them under fMRIPrep's names,
        else every column.

    Returns
    -------
    BoldRun
        The run.

    Raises
    ------
    InputError
        When a file cannot be read, its contents cannot be used, or the file names of events or confounds name another
        subject, session or run than that of the image.

    Notes
    -----
    A missing value in the *first* row of a confound (derivatives have none) becomes the value of the second row, as
    in ``nilearn.interfaces.fmriprep.load_confounds``; missing values elsewhere are refused.
    """
    path = Path(image)
    opened = open_nifti(path)
    n_volumes = check_4d(path, opened)[3]
    names = _entities(path)
    for other in (events, confounds):
        if other is not None and not isinstance(other, pd.DataFrame):
            _check_belongs(Path(other), path)
    table = events if isinstance(events, pd.DataFrame) else read_table(events, EVENT_COLUMNS)
    nuisance = confounds if confounds is None or isinstance(confounds, pd.DataFrame) else read_table(confounds)
    return BoldRun(
        image=path,
        n_volumes=n_volumes,
        tr_s=_header_tr(path, opened) if tr_s is None else float(tr_s),
        events=table,
        confounds=None if nuisance is None else _confound_columns(nuisance, columns, path.name),
        run=names.get("run", "1") if run is None else str(run),
        session=names.get("ses", "") if session is None else str(session),
        subject=names.get("sub", "") if subject is None else str(subject),
        simulated=opened.header["descrip"].item().startswith(SIMULATED.encode()),
    )


def read_runs(
    bold: Sequence[str | os.PathLike[str]],
    events: Sequence[str | os.PathLike[str] | pd.DataFrame],
    confounds: Sequence[str | os.PathLike[str] | pd.DataFrame] | None = None,
    *,
    subject: str | None = None,
    sessions: Sequence[str] | None = None,
    tr_s: float | None = None,
    columns: Sequence[str] | None = None,
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
    tr_s : float, optional
        Repetition time in seconds; by default that of each header.
    columns : sequence of str, optional
        Confounds to use, see `read_run`.

    Returns
    -------
    list of BoldRun
        Runs whose file names do not number them are numbered 1, 2, … in the order given.

    Raises
    ------
    InputError
        When the lists differ in length, two runs have the same labels, or a run cannot be used.
    """
    lists = {"events": events, "confounds": confounds, "sessions": sessions}
    for name, values in lists.items():
        if values is not None and len(values) != len(bold):
            raise InputError(f"{len(bold)} BOLD image(s) but {len(values)} {name}; give one for each run, in order.")
    numbered = all("run" in _entities(Path(path)) for path in bold)
    runs = [
        read_run(
            image,
            events[place],
            None if confounds is None else confounds[place],
            subject=subject,
            run=None if numbered else str(place + 1),
            session=None if sessions is None else sessions[place],
            tr_s=tr_s,
            columns=columns,
        )
        for place, image in enumerate(bold)
    ]
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
        When there is none, or they disagree.
    """
    if not runs:
        raise InputError("no BOLD runs; give at least one.")
    subjects = list(dict.fromkeys(run.subject for run in runs))
    if len(subjects) > 1:
        raise InputError(f"runs of {len(subjects)} subjects ({name_ids(subjects)}); estimate one subject at a time.")
    again = duplicates(f"session '{session}' run '{run}'" for session, run in (one.key for one in runs))
    if again:
        raise InputError(f"runs given twice: {name_ids(again)}; give each once, with its own run and session label.")
    for run in runs[1:]:
        check_same_grid(run.image, runs[0].image)


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
        When the file is missing, empty, cut off in the header, or not a NIfTI image of real numbers.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not Path(path).is_file():
        raise InputError(f"{path} does not exist.")
    if Path(path).stat().st_size == 0:
        raise InputError(
            f"{path} is empty (0 bytes); fetch the file itself (datalad get, git annex get) or copy it again."
        )
    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{path} is not a readable NIfTI image ({_one_line(error)}); copy or convert it again."
        ) from error
    if not isinstance(image, nibabel.Nifti1Pair):
        raise InputError(f"{path} is a {type(image).__name__}, not a NIfTI image; convert it to .nii.gz.")
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} holds values of type {image.get_data_dtype()}, not real numbers; convert it.")
    return image  # type: ignore[return-value]


@contextmanager
def stored_values(path: str | os.PathLike[str], image: Nifti1Image) -> Iterator[ArrayProxy]:
    """Give the values of an opened image, still on disk; the file is read in one pass and checked to its end.

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
        When the file is cut off or damaged (a ``.gz`` file has a checksum at its end, which nibabel does not read).
    """
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.openers import ImageOpener

    raw: Any = image.dataobj
    spec = (raw.shape, raw.dtype, raw.offset, raw.slope, raw.inter)
    try:
        with ImageOpener(str(image.file_map["image"].filename), "rb") as file:
            yield ArrayProxy(file, spec, mmap=False)
            while file.read(_CHECK_BYTES):
                pass
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path} is cut off or damaged ({_one_line(error)}); copy or convert it again.") from error


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
    shape = tuple(int(size) for size in image.shape)
    if len(shape) != 4:
        raise InputError(f"{path} is {len(shape)}-D with shape {shape}; a BOLD run must be 4-D (i, j, k, volumes).")
    return shape[0], shape[1], shape[2], shape[3]


def check_same_grid(path: str | os.PathLike[str], like: str | os.PathLike[str]) -> None:
    """Check that two images have the same voxel grid; nothing is ever resampled here.

    Parameters
    ----------
    path, like : path-like
        NIfTI images; the first three dimensions and the affine are compared.

    Raises
    ------
    InputError
        When shape or affine disagree (affine: by more than 0.001 mm or rotation unit).
    """
    one, other = open_nifti(path), open_nifti(like)
    if one.shape[:3] != other.shape[:3]:
        raise InputError(
            f"{Path(path).name} has the grid {tuple(one.shape[:3])} but {Path(like).name} has "
            f"{tuple(other.shape[:3])}; resample one onto the other yourself (nearest neighbor for masks)."
        )
    away = float(np.abs(np.asarray(one.affine) - np.asarray(other.affine)).max())
    if not away <= 1e-3:
        raise InputError(
            f"{Path(path).name} and {Path(like).name} have the same shape but another affine (largest difference "
            f"{away:.4g}); resample one onto the other yourself (nearest neighbor for masks)."
        )


def read_voxels(path: str | os.PathLike[str], mask: np.ndarray) -> np.ndarray:
    """Read the time courses of some voxels, slab by slab of volumes, never the whole series at once.

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
    """
    image = open_nifti(path)
    shape = check_4d(path, image)
    if mask.shape != shape[:3]:
        raise InputError(f"{Path(path).name} has the grid {shape[:3]} but the mask has {mask.shape}.")
    step = max(1, _SLAB_VALUES // max(1, mask.size))
    series = np.empty((shape[3], int(mask.sum())), dtype=np.float64)
    with stored_values(path, image) as values:
        for first in range(0, shape[3], step):
            series[first : first + step] = np.asarray(values[..., first : first + step])[mask].T
    return series


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:160]


def _entities(path: Path) -> dict[str, str]:
    """Read the BIDS labels of a file name."""
    return dict(re.findall(r"(?:^|_)(sub|ses|run)-([A-Za-z0-9]+)", path.name))


def _check_belongs(table: Path, image: Path) -> None:
    """Refuse a table of another run: lists in different orders would give every event to the wrong volumes."""
    theirs, ours = _entities(table), _entities(image)
    for name in theirs.keys() & ours.keys():
        # BIDS reads run-1 and run-01 as the same number.
        if theirs[name].lstrip("0") != ours[name].lstrip("0"):
            raise InputError(
                f"{table.name} was given for {image.name}; give the files of all lists in the same order of runs."
            )


def _header_tr(path: Path, image: Nifti1Image) -> float:
    header: Any = image.header
    factor = _TIME_UNITS.get(header.get_xyzt_units()[1])
    tr_s = float(header.get_zooms()[3]) * factor if factor else 0.0
    if not 0.01 <= tr_s <= 60:
        raise InputError(
            f"{path.name}: the header gives a repetition time of {float(header.get_zooms()[3]):g} "
            f"'{header.get_xyzt_units()[1]}'; give tr_s, the repetition time in seconds."
        )
    return round(tr_s, 6)


def _checked_events(events: pd.DataFrame, n_volumes: int, tr_s: float, label: str) -> pd.DataFrame:
    missing = [name for name in EVENT_COLUMNS if name not in events.columns]
    if missing:
        raise InputError(
            f"{label}: the events lack the column(s) {', '.join(missing)}; "
            f"they have {', '.join(map(str, events.columns))}."
        )
    if events.empty:
        raise InputError(f"{label}: the events table has no rows; leave the run out.")
    table = events.reset_index(drop=True).copy()
    for name in ("onset", "duration"):
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        broken = [f"row {row + 1} ({table[name][row]})" for row in np.flatnonzero(~np.isfinite(numbers))]
        if broken:
            raise InputError(f"{label}: '{name}' is not a number in {name_ids(broken)}; give seconds.")
        table[name] = numbers
    types = table["trial_type"]
    table["trial_type"] = types.astype(object).where(types.notna(), NO_TRIAL_TYPE).map(str)
    _check_within_run(table, n_volumes, tr_s, label)
    return table


def _check_within_run(table: pd.DataFrame, n_volumes: int, tr_s: float, label: str) -> None:
    end = n_volumes * tr_s
    late = (table["onset"] >= end) | (table["onset"] + table["duration"] > end + tr_s)
    checks = (
        (table["onset"] < 0, "start before the first volume", "shift the onsets by the volumes removed, or drop them"),
        (table["duration"] < 0, "have a negative duration", "give seconds"),
        (late, f"lie beyond the run's end ({n_volumes} volumes × {tr_s:g} s = {end:g} s)", "check TR and onsets"),
    )
    for wrong, what, cure in checks:
        if wrong.any():
            named = [f"'{row.trial_type}' at {row.onset:g} s" for row in table[wrong].itertuples()]
            raise InputError(f"{label}: events {what}: {name_ids(named)}; {cure}.")


def _confound_columns(table: pd.DataFrame, columns: Sequence[str] | None, label: str) -> pd.DataFrame:
    if columns is None:
        has_motion = set(MOTION_COLUMNS) <= set(table.columns)
        columns = MOTION_COLUMNS if has_motion else [str(name) for name in table.columns]
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise InputError(
            f"{label}: the confounds lack the column(s) {name_ids(absent)}; they have {name_ids(table.columns, 20)}."
        )
    return table[list(columns)]


def _checked_confounds(confounds: pd.DataFrame, n_volumes: int, label: str) -> pd.DataFrame:
    """Check rows and numbers; fill what is missing in the first row from the second, as nilearn does."""
    if len(confounds) != n_volumes:
        raise InputError(
            f"{label}: the confounds have {len(confounds)} rows but the image has {n_volumes} volumes; "
            "give one row a volume."
        )
    if again := duplicates(confounds.columns):
        raise InputError(f"{label}: confound(s) given more than once: {name_ids(again)}; name each column once.")
    table = confounds.reset_index(drop=True).apply(pd.to_numeric, errors="coerce").astype(np.float64)
    first = ~np.isfinite(table.iloc[0].to_numpy())
    values = table.to_numpy(copy=True)
    values[0, first] = values[1, first]
    broken = ~np.isfinite(values).all(axis=0)
    if broken.any():
        raise InputError(
            f"{label}: confounds have missing or non-numeric values after the first row: "
            f"{name_ids(table.columns[broken])}; leave these columns out or repair them."
        )
    return pd.DataFrame(values, columns=[str(name) for name in table.columns])
