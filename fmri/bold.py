"""BOLD runs: one series of volumes or of both hemispheres, with its events and confounds.

A run is checked when it is made and read voxel by voxel, or vertex by vertex.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.bids import (
    SliceTimes,
    check_same_labels,
    file_labels,
    read_sidecar,
    repetition_time,
    run_number,
    sidecar_files,
    slice_times,
)
from fmri.grids import Grid, check_grid
from fmri.series import check_files, hemisphere_files, open_series, pair_hemispheres
from fmri.tables import DRIFTS, checked_confounds, checked_events, read_confounds, read_events
from fmri.volumes import SIMULATED
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.summaries import short_repr


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class BoldRun:
    """One run of one subject; nothing of the image is in memory.

    Parameters
    ----------
    image : Path
        4-D NIfTI image (``.nii`` or ``.nii.gz``), CIFTI series, or the series of a hemisphere.
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
    partner : Path, optional
        Series of the right hemisphere, where `image` is that of the left.

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
    partner: Path | None = None

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
    def images(self) -> tuple[Path, ...]:
        """The files of the run.

        Returns
        -------
        tuple of Path
            One, or those of both hemispheres.
        """
        files = [Path(self.image)]
        if self.partner is not None:
            files.append(Path(self.partner))
        return tuple(files)

    @property
    def grid(self) -> Grid:
        """Where the run has values, read from its headers.

        Returns
        -------
        Grid
            Voxels of a volume, or vertices of both hemispheres.
        """
        return open_series(self.images, self.affine).grid

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
    image: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
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
    hemispheres: str = "both",
) -> BoldRun:
    """Open one run: check header, JSON sidecars, events and confounds.

    The image itself is not read.

    Parameters
    ----------
    image : path-like or sequence of two path-like
        4-D NIfTI image, CIFTI series (``.dtseries.nii``, ``.dscalar.nii``), or a series on surfaces
        (``.func.gii``, ``.mgh``, ``.mgz``): the file of one hemisphere, whose partner is found by
        its name (``hemi-L``, ``lh.``, ``.L.``), or the files of both. See
        `fmri.series.SERIES_READERS`.
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
    hemispheres : {"both", "one"}
        Whether a series on a surface needs the file of the other hemisphere, or stands alone.

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
    files = hemisphere_files(image, hemispheres)
    path = files[0]
    header = open_series(files, affine)
    for other in (events, confounds):
        if other is not None and not isinstance(other, pd.DataFrame):
            check_same_labels(other, path)
    sidecar = read_sidecar(path)
    in_sidecar = "RepetitionTime" in sidecar.values or "VolumeTiming" in sidecar.values
    header_counts = t_r is None and not in_sidecar and header.t_r == 1
    if header_counts and not header.has_unit:
        warnings.warn(
            f"{path.name}: the header gives a repetition time of 1 without a unit, which programs "
            "write where they know none; 1 s is taken. Give the repetition time in seconds: t_r "
            "(--t-r).",
            stacklevel=2,
        )
    t_r = repetition_time(
        path.name,
        header=header.t_r,
        sidecar=sidecar,
        given=t_r,
        n_volumes=header.n_volumes,
    )
    names = file_labels(path)
    given = {"run": run, "ses": session, "sub": subject}
    labels = {"run": "1", "ses": "", "sub": ""} | names
    labels |= {key: str(label) for key, label in given.items() if label is not None}
    table = None
    if confounds is not None:
        table = read_confounds(confounds, columns, path.name)
    return BoldRun(
        image=path,
        partner=files[1] if len(files) > 1 else None,
        n_volumes=header.n_volumes,
        t_r=t_r,
        events=read_events(events, condition_column),
        confounds=table,
        run=labels["run"],
        session=labels["ses"],
        subject=labels["sub"],
        simulated=header.description.startswith(SIMULATED),
        slices=slice_times(path.name, sidecar, t_r, header.shape),
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
    hemispheres: str = "both",
) -> list[BoldRun]:
    """Open the runs of one subject, in the order of acquisition.

    Parameters
    ----------
    bold : sequence of path-like
        4-D NIfTI images, CIFTI series, or series on surfaces, as for `read_run`; where the files of
        both hemispheres of a run are listed, they are one run.
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
    hemispheres : str
        Whether a series on a surface needs that of the other hemisphere ("both") or not ("one").

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
    images = pair_hemispheres(bold)
    lists = {"events": events, "confounds": confounds, "sessions": sessions}
    for name, values in lists.items():
        if values is not None and len(values) != len(images):
            raise InputError(
                f"{len(images)} BOLD image(s) but {len(values)} {name}; give one for each run, in "
                "order."
            )
    names = [file_labels(files[0]) for files in images]
    labels = dict.fromkeys(f"sub-{name['sub']}" for name in names if "sub" in name)
    if len(labels) > 1:
        raise InputError(
            f"BOLD images of {len(labels)} subjects ({name_ids(labels)}); give those of one at a "
            "time."
        )
    numbered = all("run" in name for name in names)
    runs = []
    for position, image in enumerate(images):
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
            hemispheres=hemispheres,
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
        When there is none, one is given twice (``run-1`` is ``run-01``), a file is cut off, or
        they disagree.
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
    if files := duplicates(os.path.realpath(file) for run in runs for file in run.images):
        names = [Path(file).name for file in files]
        raise InputError(
            f"BOLD files given more than once: {name_ids(names)}; give each run its own file."
        )
    for run in runs:
        check_files(run.images)
    if len(runs) > 1:
        like = runs[0].grid
        for run in runs[1:]:
            check_grid(open_series(run.images, runs[0].affine).grid, like)
