"""The command ``neurometamer fmri patterns``: BOLD runs or betas in, ROI patterns out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.errors import InputError
from neurometamer.reading import Files
from neurometamer.store import read_table

if TYPE_CHECKING:
    from fmri.patterns import Patterns


RUNS = ("subject", "t_r", "columns", "condition_column", "affine", "hemispheres")
"""Options that `fmri.read_runs` takes."""

GLM = (
    "hrf_model",
    "high_pass",
    "noise_model",
    "estimator",
    "units",
    "ignore",
    "slice_time_ref",
    "unusable",
    "max_memory",
)
"""Options that `fmri.estimate_betas` takes."""

ROIS = ("resample", "space", "brain_mask", "only")
"""Options that `fmri.read_regions` takes."""


@checked
def fmri_betas(
    masks: Mapping[str, str | Path],
    out: str | Path,
    *,
    bold: Files,
    events: Files,
    confounds: Files = (),
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.betas:estimate_betas", GLM),
        KeywordsOf("fmri.rois:read_regions", ROIS),
    ],
) -> Path:
    """Estimate one beta per condition and presentation, as a 4-D NIfTI with its table.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI to its mask on the grid of the BOLD files, NAME=FILE, or to its definition: "V1=FILE:12"
        or "V1=FILE:lh.V1" (a label), "V1=FILE > 0.5" (a threshold), "LO=sphere(-42, -70, -8, 10)"
        (mm, MNI), "LO=LO1 + LO2", with - (difference), & (intersection) and brackets.
    out : path-like
        Output folder for betas.nii.gz, betas.tsv and betas.json.
    bold : sequence of path-like
        4-D NIfTI files, one a run; or CIFTI series, or surface series of both hemispheres.
    events : sequence of path-like
        BIDS events.tsv files, one a run, in the order of `bold`.
    confounds : sequence of path-like
        Confounds tables, one a run, or none.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Options of `fmri.read_runs`, `fmri.estimate_betas` and `fmri.read_regions`.

    Returns
    -------
    Path
        The NIfTI file.

    Raises
    ------
    InputError
        When the input cannot be used.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     fmri_betas({}, "betas", bold=["bold.nii.gz"], events=["events.tsv"])
    ... except InputError as error:
    ...     print(error)
    no masks given; use --masks NAME=FILE, one for each ROI.
    """
    from fmri.betas import write_betas
    from fmri.bids import find_reader
    from fmri.series import SERIES_READERS

    for file in bold:
        if find_reader(SERIES_READERS, file, "a series") is not SERIES_READERS[""]:
            raise InputError(
                f"{Path(file).name} is no volume, and betas are written as one; use fmri patterns "
                "--out FILE.h5 for surfaces and CIFTI."
            )
    patterns = fmri_patterns(
        masks,
        bold=bold,
        events=events,
        confounds=confounds,
        progress=progress,
        **options,
    )
    return write_betas(patterns, out)


@checked
def fmri_patterns(
    masks: Mapping[str, str | Path],
    out: str | Path | None = None,
    *,
    bold: Files = (),
    events: Files = (),
    confounds: Files = (),
    betas: str | Path | None = None,
    n_voxels: int = 0,
    stimuli: str | Path | None = None,
    select_on: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.betas:estimate_betas", GLM),
        KeywordsOf("fmri.rois:read_regions", ROIS),
    ],
) -> Patterns:
    """Take ROI patterns out of BOLD runs, or out of betas that were estimated before.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI to its mask on the grid of the BOLD files, NAME=FILE, or to its definition: "V1=FILE:12"
        or "V1=FILE:lh.V1" (a label), "V1=FILE > 0.5" (a threshold), "LO=sphere(-42, -70, -8, 10)"
        (mm, MNI), "LO=LO1 + LO2", with - (difference), & (intersection) and brackets.
    out : path-like, optional
        HDF5 file to write.
    bold, events, confounds : sequence of path-like
        One file a run each (confounds may be left out); or give `betas`.
    betas : path-like, optional
        Folder written by ``neurometamer fmri betas``, instead of BOLD runs.
    n_voxels : int
        Keep so many voxels of each ROI, the most reliable; 0 keeps all.
    stimuli : path-like, optional
        Table of stimuli (id, kind): its RE rows are the conditions on which reliability is judged.
    select_on : sequence of str
        Conditions on which reliability is judged; these, or `stimuli`, are needed with `n_voxels`.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Options of `fmri.read_runs`, `fmri.estimate_betas` and `fmri.read_regions`.

    Returns
    -------
    Patterns
        Observations × voxels.

    Raises
    ------
    InputError
        When the input cannot be used.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import fmri_patterns
    >>> try:
    ...     fmri_patterns({"V1": "V1.nii.gz"})
    ... except InputError as error:
    ...     print(error)
    give either BOLD runs (--bold and --events) or a folder of betas (--betas).
    """
    from fmri.betas import estimate_betas, read_betas
    from fmri.bold import read_runs
    from fmri.patterns import write_patterns
    from fmri.reliability import select_voxels
    from fmri.rois import read_regions

    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    # what is not the name of a file that exists is a definition
    definitions = {name: os.fspath(mask) for name, mask in masks.items()}
    if (betas is None) == (not bold):
        raise InputError(
            "give either BOLD runs (--bold and --events) or a folder of betas (--betas)."
        )
    conditions = list(select_on)
    if stimuli is not None and not conditions:
        conditions = regular_ids(stimuli)
    if n_voxels and not conditions:
        raise InputError(
            "--n-voxels needs the conditions that judge reliability: --stimuli CSV (its RE rows) "
            "or --select-on."
        )
    if betas is not None:
        of_betas = ("unusable", "affine", *ROIS)
        known = {name: options[name] for name in of_betas if name in options}
        patterns = read_betas(betas, definitions, **known)
    else:
        of_runs = {name: options[name] for name in RUNS if name in options}
        of_regions = {name: options[name] for name in ROIS if name in options}
        others = (*RUNS, *ROIS)
        glm = {name: value for name, value in options.items() if name not in others}
        if "columns" in of_runs:
            of_runs["columns"] = of_runs["columns"] or None
        runs = read_runs(bold, events, confounds or None, **of_runs)
        if ignored := glm.pop("ignore", ()):
            glm["ignore"] = tuple(ignored)
        regions = read_regions(definitions, runs[0].grid, affine=runs[0].affine, **of_regions)
        patterns = estimate_betas(runs, regions, progress=progress, **glm)
    if n_voxels:
        patterns = select_voxels(patterns, conditions=conditions, n_per_roi=n_voxels)
    if out is not None:
        write_patterns(patterns, out)
    return patterns


def regular_ids(table: str | Path) -> list[str]:
    """Read which stimuli are regular images.

    Parameters
    ----------
    table : path-like
        CSV with the columns ``id`` and ``kind``, e.g. a ``stimuli.csv``.

    Returns
    -------
    list of str
        Ids of kind RE.

    Raises
    ------
    InputError
        When there are none.
    """
    rows = read_table(table, required=["id", "kind"])
    ids = rows["id"][rows["kind"] == "RE"].tolist()
    if not ids:
        raise InputError(f"{table} has no rows of kind RE; give the conditions by --select-on.")
    return ids
