"""The command ``neurometamer fmri patterns``: BOLD runs or betas in, ROI patterns out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.reliability import find_criterion, judging_conditions
from neurometamer.errors import InputError
from neurometamer.reading import Files

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.patterns import Patterns
    from fmri.rois import Regions


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
    criterion: str = "split-half",
    stimuli: str | Path | None = None,
    select_on: Sequence[str] = (),
    zscore: str = "none",
    residuals: str | Path | None = None,
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
        Keep so many voxels of each ROI, the best; 0 keeps all.
    criterion : str
        Score of voxels, one of `neurometamer.rsa.VOXEL_CRITERIA`; ``neurometamer fmri select`` has
        more options.
    stimuli : path-like, optional
        Table of stimuli (id, kind): its RE rows are the conditions on which voxels are judged.
    select_on : sequence of str
        Conditions on which voxels are judged; these, or `stimuli`, are needed with `n_voxels`.
        Where `stimuli` says that they are not RE alone, every page says so.
    zscore : str
        Within what responses are z-scored, over all image types: none, run or session
        (`fmri.zscore_patterns`).
    residuals : path-like, optional
        HDF5 file to write the residuals of the BOLD runs to (`fmri.glm_residuals`), for
        ``neurometamer rdm --residuals``.
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
    from fmri.pooling import zscore_patterns
    from fmri.rois import read_regions
    from fmri.selection import select_voxels

    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    # what is not the name of a file that exists is a definition
    definitions = {name: os.fspath(mask) for name, mask in masks.items()}
    if (betas is None) == (not bold):
        raise InputError(
            "give either BOLD runs (--bold and --events) or a folder of betas (--betas)."
        )
    judge = find_criterion(criterion, zscore)
    if n_voxels:
        conditions, image_types = judging_conditions(stimuli, select_on)
    if betas is not None:
        if residuals is not None:
            raise InputError("betas have no residuals; give BOLD runs, or leave --residuals out.")
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
        write_noise(runs, regions, residuals, glm)
    patterns = zscore_patterns(patterns, zscore)
    if n_voxels:
        patterns = select_voxels(
            patterns,
            conditions=conditions,
            criterion=judge,
            n_per_roi=n_voxels,
            image_types=image_types,
        )
    if out is not None:
        write_patterns(patterns, out)
    return patterns


def write_noise(
    runs: Sequence[BoldRun],
    regions: Regions,
    path: str | Path | None,
    glm: Mapping[str, Any],
) -> None:
    """Write the residuals of BOLD runs, where a file is given.

    Parameters
    ----------
    runs : sequence of BoldRun
        Runs of one subject.
    regions : Regions
        ROIs on the grid of the runs.
    path : path-like or None
        HDF5 file to write.
    glm : mapping
        Options of `fmri.estimate_betas`; those of residuals count.
    """
    from fmri.residuals import glm_residuals, write_residuals

    if path is None:
        return
    known = {**glm}
    for name in ("estimator", "unusable", "max_memory"):
        known.pop(name, None)
    write_residuals(glm_residuals(runs, regions, **known), path)
