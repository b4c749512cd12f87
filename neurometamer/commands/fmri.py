"""The command ``neurometamer fmri patterns``: BOLD runs or betas in, ROI patterns out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.reliability import find_criterion, judging_conditions
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files
from neurometamer.resume import writes_into

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.patterns import Patterns
    from fmri.rois.regions import Regions


_LOG = logging.getLogger(__name__)

RUNS = ("subject", "t_r", "columns", "condition_column", "affine", "hemispheres")
"""Options that `fmri.read_runs` takes."""

GLM = ("noise_model", "estimator", "units", "unusable", "max_memory")
"""Options that `fmri.estimate_betas` takes, beside those of designs."""

ROIS = ("resample", "space", "brain_mask", "only")
"""Options that `fmri.read_regions` takes."""

TRIALS = ("per", "hrf", "n_noise", "max_noise", "shrinkage", "n_delays")
"""Options that `fmri.SingleTrialOptions` takes."""


@dataclass(frozen=True, kw_only=True)
class SelectionOptions:
    """Which voxels `fmri_patterns` keeps.

    Parameters
    ----------
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

    Examples
    --------
    >>> SelectionOptions(n_voxels=100).criterion
    'split-half'
    """

    n_voxels: int = 0
    criterion: str = "split-half"
    stimuli: str | Path | None = None
    select_on: Sequence[str] = ()


VOLUMES = ("volumes", "grid")
"""Options that `fmri.read_beta_images` takes."""


@writes_into("out")
@checked
def fmri_betas(
    masks: Mapping[str, str | Path],
    out: str | Path,
    *,
    bold: Files,
    events: Files,
    confounds: Files = (),
    contrast: str = "",
    bids: bool = False,
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.betas.event_designs:DesignOptions"),
        KeywordsOf("fmri.betas.estimate:estimate_betas", GLM),
        KeywordsOf("fmri.rois.regions:read_regions", ROIS),
        KeywordsOf("fmri.betas.single_trials:SingleTrialOptions", TRIALS),
    ],
) -> Path:
    """Estimate one beta per condition and presentation, as an image with its table.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI to its mask on the grid of the BOLD files, NAME=FILE, or to its definition: "V1=FILE:12"
        or "V1=FILE:lh.V1" (a label), "V1=FILE > 0.5" (a threshold), "LO=sphere(-42, -70, -8, 10)"
        (mm, MNI), "LO=LO1 + LO2", with - (difference), & (intersection) and brackets.
    out : path-like
        Output folder for betas.nii.gz (betas_hemi-L.func.gii and betas_hemi-R.func.gii of surfaces,
        betas.dscalar.nii of CIFTI), betas.tsv and betas.json, or what `contrast` or `bids` say.
    bold : sequence of path-like
        One a run: 4-D NIfTI, surfaces (``.func.gii``, ``.mgz``; both hemispheres, or one file whose
        partner lies beside it) or CIFTI (``.dtseries.nii``). Betas are written in their kind.
    events : sequence of path-like
        BIDS events.tsv files, one a run, in the order of `bold`.
    confounds : sequence of path-like
        Confounds tables, one a run, or none.
    contrast : str
        Weighted sum of conditions, such as ``"intact - scrambled"`` (`fmri.parse_contrast`):
        instead of betas, its maps effect.nii.gz, t.nii.gz and z.nii.gz in all masks, for
        definitions of regions. One model over all runs is fitted, with a beta a condition, and
        intercept, drifts and confounds of their own for each run.
    bids : bool
        Write BIDS derivatives (`fmri.write_bids_betas`, with `contrast` maps of the contrast,
        `fmri.write_bids_contrast`) into `out`, with the labels task, space and den of the first
        BOLD file.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Options of `fmri.read_runs`, `fmri.DesignOptions`, `fmri.estimate_betas`,
        `fmri.SingleTrialOptions` and `fmri.read_regions`.

    Returns
    -------
    Path
        The folder.

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
    import numpy as np

    from fmri.betas.beta_files import write_betas
    from fmri.betas.contrasts import (
        contrast_label,
        estimate_contrast,
        parse_contrast,
        write_contrast,
    )
    from fmri.betas.derivatives import write_bids_betas, write_bids_contrast
    from fmri.bids import file_labels, find_reader
    from fmri.rois.regions import read_regions
    from fmri.series import SERIES_READERS

    labels = file_labels(bold[0]) if bold else {}
    named = {name: labels[name] for name in ("task", "space", "den") if labels.get(name)}
    if bids and bold and not (options.get("subject") or labels.get("sub")):
        raise InputError(
            f"{Path(bold[0]).name} names no subject (sub-…), of which files of BIDS (--bids) are "
            "named; give subject (--subject)."
        )
    if contrast:
        parse_contrast(contrast)
        if bids:
            contrast_label(contrast)
        known = ("hrf_model", "high_pass", "noise_model", "units", "ignore", "slice_time_ref")
        if unused := [name for name in options if name not in (*RUNS, *ROIS, *known)]:
            raise InputError(
                f"{name_ids(unused)} go with betas, not with a contrast (--contrast), which has "
                "one beta a condition and the response of hrf_model (--hrf-model); leave them out."
            )
        for file in bold:
            if find_reader(SERIES_READERS, file, "a series") is not SERIES_READERS[""]:
                raise InputError(
                    f"{Path(file).name} is no volume, and contrasts (--contrast) are of volumes; "
                    "give the volumes of these runs."
                )
        if not masks:
            raise InputError("no masks given; use --masks NAME=FILE, for example brain=MASK.")
        runs, glm, of_regions = _open(bold, events, confounds, options)
        definitions = {name: os.fspath(mask) for name, mask in masks.items()}
        regions = read_regions(definitions, runs[0].grid, affine=runs[0].affine, **of_regions)
        is_inside = np.logical_or.reduce(list(regions.masks.values()))
        maps = estimate_contrast(runs, contrast, mask=is_inside, **glm)
        if not bids:
            return write_contrast(maps, out)
        sessions = list(dict.fromkeys(run.session for run in runs))
        named.pop("den", None)
        write_bids_contrast(
            maps,
            out,
            subject=runs[0].subject,
            session=sessions[0] if len(sessions) == 1 else "",
            **named,
        )
        return Path(out)
    patterns = fmri_patterns(
        masks,
        bold=bold,
        events=events,
        confounds=confounds,
        progress=progress,
        **options,
    )
    if bids:
        write_bids_betas(patterns, out, like=bold[0], **named)
        return Path(out)
    return write_betas(patterns, out, like=bold[0])


def _open(
    bold: Files, events: Files, confounds: Files, options: Mapping[str, Any]
) -> tuple[list[BoldRun], dict[str, Any], dict[str, Any]]:
    """Open the runs, and give the options of the model and those of regions."""
    from fmri.betas.single_trials import SingleTrialOptions
    from fmri.bold import read_runs

    of_runs = {name: options[name] for name in RUNS if name in options}
    if "columns" in of_runs:
        of_runs["columns"] = of_runs["columns"] or None
    of_regions = {name: options[name] for name in ROIS if name in options}
    elsewhere = (*RUNS, *TRIALS, *VOLUMES, *ROIS)
    glm = {name: value for name, value in options.items() if name not in elsewhere}
    if ignored := glm.pop("ignore", ()):
        glm["ignore"] = tuple(ignored)
    trials = SingleTrialOptions(**{name: options[name] for name in TRIALS if name in options})
    if trials != SingleTrialOptions():
        glm["single_trials"] = trials
    return read_runs(bold, events, confounds or None, **of_runs), glm, of_regions


def _estimate(
    definitions: Mapping[str, str],
    files: tuple[Files, Files, Files],
    residuals: str | Path | None,
    progress: Progress | None,
    options: Mapping[str, Any],
) -> Patterns:
    """Estimate betas of BOLD runs, and say what was chosen for them; `files` are those of runs."""
    import pandas as pd

    from fmri.betas.choices import beta_rows
    from fmri.betas.estimate import estimate_betas
    from fmri.rois.regions import read_regions
    from neurometamer.report.beta_findings import choice_texts

    runs, glm, of_regions = _open(*files, options)
    trials = glm.get("single_trials")
    regions = read_regions(
        definitions,
        runs[0].grid,
        affine=runs[0].affine,
        with_pool=trials is not None and bool(trials.n_noise),
        **of_regions,
    )
    patterns = estimate_betas(runs, regions, progress=progress, **glm)
    write_noise(runs, regions, residuals, glm)
    if made := beta_rows(patterns):
        for text in choice_texts(pd.DataFrame(made)):
            _LOG.info("betas of %s: %s.", patterns.subject or "the subject", text)
    return patterns


def _read_estimated(
    betas: str | Path, masks: Mapping[str, str | Path], options: Mapping[str, Any]
) -> Patterns:
    """Read betas of ours, of BIDS derivatives, or of another program."""
    from fmri.betas.beta_files import read_betas
    from fmri.betas.derivatives import read_bids_betas
    from fmri.betas.foreign import read_beta_images
    from fmri.betas.programs import BETA_READERS

    of_betas = ("unusable", "affine", *ROIS)
    known = {name: options[name] for name in of_betas if name in options}
    column = options.get("condition_column", "")
    # the default is a column of events
    more = {"condition_column": "" if column == "trial_type" else column}
    unusable = {name: value for name, value in known.items() if name == "unusable"}
    path, subject = Path(betas), options.get("subject") or ""
    if any(reader.recognizes(path) for reader in BETA_READERS.values()):
        of_volumes = {name: options[name] for name in VOLUMES if options.get(name)}
        return read_beta_images(path, masks, subject=subject, **more, **unusable, **of_volumes)
    if any(path.glob("sub-*")) and not (path / "betas.json").exists():
        return read_bids_betas(path, masks, subject=subject, **more, **unusable)
    return read_betas(betas, masks, **known)


@checked
def fmri_patterns(
    masks: Mapping[str, str | Path],
    out: str | Path | None = None,
    *,
    bold: Files = (),
    events: Files = (),
    confounds: Files = (),
    betas: str | Path | None = None,
    zscore: str = "none",
    residuals: str | Path | None = None,
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.betas.event_designs:DesignOptions"),
        KeywordsOf("fmri.betas.estimate:estimate_betas", GLM),
        KeywordsOf("fmri.rois.regions:read_regions", ROIS),
        KeywordsOf("fmri.betas.single_trials:SingleTrialOptions", TRIALS),
        KeywordsOf("fmri.betas.foreign:read_beta_images", VOLUMES),
        KeywordsOf("neurometamer.commands.fmri:SelectionOptions"),
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
        Instead of BOLD runs: folder written by ``neurometamer fmri betas``, root of BIDS
        derivatives with single-trial maps (with ``subject``), or what another program made
        (GLMsingle's HDF5, SPM's folder, AFNI's HEAD/BRIK, 4-D NIfTI), see `fmri.read_beta_images`.
    zscore : str
        Within what responses are z-scored, over all image types: none, run or session
        (`fmri.zscore_patterns`).
    residuals : path-like, optional
        HDF5 file to write the residuals of the BOLD runs to (`fmri.glm_residuals`), for
        ``neurometamer rdm --residuals``.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Fields of `SelectionOptions`; options of `fmri.read_runs`, `fmri.DesignOptions`,
        `fmri.estimate_betas`, `fmri.SingleTrialOptions`, `fmri.read_beta_images` and
        `fmri.read_regions`.

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
    from fmri.patterns import write_patterns
    from fmri.pooling import zscore_patterns
    from fmri.selection import select_voxels

    if out is not None and Path(out).is_dir():
        raise InputError(f"{out} is a folder; give the name of a file to write.")
    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    # what is not the name of a file that exists is a definition
    definitions = {name: os.fspath(mask) for name, mask in masks.items()}
    if (betas is None) == (not bold):
        raise InputError(
            "give either BOLD runs (--bold and --events) or a folder of betas (--betas)."
        )
    names = [field.name for field in fields(SelectionOptions) if field.name in options]
    selection = SelectionOptions(**{name: options.pop(name) for name in names})
    judge = find_criterion(selection.criterion, zscore)
    if selection.n_voxels:
        conditions, image_types = judging_conditions(selection.stimuli, selection.select_on)
    if betas is not None:
        if residuals is not None:
            raise InputError("betas have no residuals; give BOLD runs, or leave --residuals out.")
        patterns = _read_estimated(betas, definitions, options)
    else:
        files = bold, events, confounds
        patterns = _estimate(definitions, files, residuals, progress, options)
    patterns = zscore_patterns(patterns, zscore)
    if selection.n_voxels:
        patterns = select_voxels(
            patterns,
            conditions=conditions,
            criterion=judge,
            n_per_roi=selection.n_voxels,
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
    for name in ("estimator", "unusable", "max_memory", "single_trials"):
        known.pop(name, None)
    write_residuals(glm_residuals(runs, regions, **known), path)
