"""The command ``neurometamer fmri patterns``: BOLD runs or betas in, ROI patterns out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.reliability import find_criterion, judging_conditions
from neurometamer.commands.scans import (
    CONFOUNDS,
    GLM,
    LAYOUT,
    ROIS,
    RUNS,
    TRIALS,
    VOLUMES,
    Scans,
    refuse_labels,
)
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files
from neurometamer.resume import writes_into

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.patterns import Patterns
    from fmri.rois.regions import Regions

_LOG = logging.getLogger(__name__)


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


@writes_into("out")
@checked
def fmri_betas(
    masks: Mapping[str, str | Path],
    out: str | Path,
    *,
    bold: Files = (),
    events: Files = (),
    confounds: Files = (),
    bids: str | Path | None = None,
    derivatives: str | Path | None = None,
    contrast: str = "",
    as_bids: bool = False,
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.layout.options:LayoutOptions", LAYOUT),
        KeywordsOf("fmri.confounds:ConfoundOptions", CONFOUNDS),
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
    bids : path-like, optional
        Instead of these three: folder of a BIDS data set, of which one `subject` is taken;
        ``{subject}`` in `masks` stands for its label.
    derivatives : path-like, optional
        With `bids`: folder of fMRIPrep's output (images, confounds).
    contrast : str
        Weighted sum of conditions, such as ``"intact - scrambled"`` (`fmri.parse_contrast`):
        instead of betas, its maps effect.nii.gz, t.nii.gz and z.nii.gz in all masks, for
        definitions of regions. One model over all runs is fitted, with a beta a condition, and
        intercept, drifts and confounds of their own for each run.
    as_bids : bool
        Write BIDS derivatives (`fmri.write_bids_betas`) into `out`, with `contrast` its maps
        (`fmri.write_bids_contrast`), with the labels task, space and den of the first BOLD file.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Options of `fmri.read_runs`, `fmri.LayoutOptions`, `fmri.confounds.ConfoundOptions`,
        `fmri.DesignOptions`, `fmri.estimate_betas`, `fmri.SingleTrialOptions` and
        `fmri.read_regions`.

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
    from fmri.betas.beta_files import write_betas
    from fmri.betas.derivatives import write_bids_betas
    from fmri.bids import file_labels

    scans = Scans(bold=bold, events=events, confounds=confounds, bids=bids, derivatives=derivatives)
    if as_bids and bold and not (options.get("subject") or "sub" in file_labels(bold[0])):
        raise InputError(
            f"{Path(bold[0]).name} names no subject (sub-…), of which files of BIDS (as_bids, "
            "--as-bids) are named; give subject (--subject)."
        )
    if contrast:
        return _write_contrast(contrast, masks, scans, out, as_bids=as_bids, options=options)
    patterns = fmri_patterns(
        masks,
        bold=bold,
        events=events,
        confounds=confounds,
        bids=bids,
        derivatives=derivatives,
        progress=progress,
        **options,
    )
    first: str | Path = bold[0] if bold else ""
    if bids is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told when the runs were opened
            first = scans.read_dataset(options)[0].image
    if as_bids:
        labels = file_labels(first)
        named = {name: labels[name] for name in ("task", "space", "den") if labels.get(name)}
        write_bids_betas(patterns, out, like=first, **named)
        return Path(out)
    return write_betas(patterns, out, like=first)


def _write_contrast(
    contrast: str,
    masks: Mapping[str, str | Path],
    scans: Scans,
    out: str | Path,
    *,
    as_bids: bool,
    options: Mapping[str, Any],
) -> Path:
    """Estimate a contrast in all masks, and write its maps."""
    import numpy as np

    from fmri.betas.contrasts import (
        contrast_label,
        estimate_contrast,
        parse_contrast,
        write_contrast,
    )
    from fmri.betas.derivatives import write_bids_contrast
    from fmri.bids import file_labels

    parse_contrast(contrast)
    if as_bids:
        contrast_label(contrast)
    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, for example brain=MASK.")
    of_models = ("hrf_model", "high_pass", "noise_model", "units", "ignore", "slice_time_ref")
    known = {*RUNS, *ROIS, *LAYOUT, *CONFOUNDS, *of_models}
    if unused := [name for name in options if name not in known]:
        flags = ["--" + name.replace("_", "-") for name in unused]
        raise InputError(
            f"{name_ids(flags)} go with betas, not with a contrast (--contrast), which has one "
            "beta a condition and the response of hrf_model (--hrf-model); leave them out."
        )
    runs, regions, glm = scans.open(masks, options)
    is_inside = np.logical_or.reduce(list(regions.masks.values()))
    maps = estimate_contrast(runs, contrast, mask=is_inside, **glm)
    if not as_bids:
        return write_contrast(maps, out)
    labels = file_labels(runs[0].image)
    sessions = list(dict.fromkeys(run.session for run in runs))
    write_bids_contrast(
        maps,
        out,
        subject=runs[0].subject,
        session=sessions[0] if len(sessions) == 1 else "",
        **{name: labels[name] for name in ("task", "space") if labels.get(name)},
    )
    return Path(out)


def tell_choices(patterns: Patterns) -> None:
    """Say what was chosen when single-trial betas were made, and what it gained.

    Parameters
    ----------
    patterns : Patterns
        Betas of one subject; nothing is said of those of a plain model.
    """
    import pandas as pd

    from fmri.betas.choices import beta_rows
    from neurometamer.report.beta_findings import choice_texts

    if made := beta_rows(patterns):
        for text in choice_texts(pd.DataFrame(made)):
            _LOG.info("betas of %s: %s.", patterns.subject or "the subject", text)


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
    bids: str | Path | None = None,
    derivatives: str | Path | None = None,
    betas: str | Path | None = None,
    zscore: str = "none",
    residuals: str | Path | None = None,
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.layout.options:LayoutOptions", LAYOUT),
        KeywordsOf("fmri.confounds:ConfoundOptions", CONFOUNDS),
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
        One file a run each (confounds may be left out); or give `bids` or `betas`.
    bids : path-like, optional
        Instead of BOLD files: folder of a BIDS data set, of which one `subject` is taken;
        ``{subject}`` in `masks` stands for its label, without sub-.
    derivatives : path-like, optional
        With `bids`: folder of fMRIPrep's output (images, confounds).
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
        Fields of `SelectionOptions`; options of `fmri.read_runs`, `fmri.LayoutOptions`,
        `fmri.confounds.ConfoundOptions`, `fmri.DesignOptions`, `fmri.estimate_betas`,
        `fmri.SingleTrialOptions`, `fmri.read_beta_images` and `fmri.read_regions`.

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
    give either BOLD runs (--bold and --events, or --bids) or a folder of betas (--betas).
    """
    from fmri.betas.estimate import estimate_betas
    from fmri.patterns import write_patterns
    from fmri.pooling import zscore_patterns
    from fmri.selection import select_voxels

    if out is not None and Path(out).is_dir():
        raise InputError(f"{out} is a folder; give the name of a file to write.")
    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    scans = Scans(bold=bold, events=events, confounds=confounds, bids=bids, derivatives=derivatives)
    if (betas is None) == (not scans.given):
        raise InputError(
            "give either BOLD runs (--bold and --events, or --bids) or a folder of betas (--betas)."
        )
    names = [field.name for field in fields(SelectionOptions) if field.name in options]
    selection = SelectionOptions(**{name: options.pop(name) for name in names})
    judge = find_criterion(selection.criterion, zscore)
    if selection.n_voxels:
        conditions, image_types = judging_conditions(selection.stimuli, selection.select_on)
    if betas is not None:
        if residuals is not None:
            raise InputError("betas have no residuals; give BOLD runs, or leave --residuals out.")
        refuse_labels(options, "betas are given", (*LAYOUT, *CONFOUNDS))
        # what is not the name of a file that exists is a definition
        label = str(options.get("subject") or "{subject}").removeprefix("sub-")
        definitions = {
            name: os.fspath(mask).replace("{subject}", label) for name, mask in masks.items()
        }
        patterns = _read_estimated(betas, definitions, options)
    else:
        runs, regions, glm = scans.open(masks, options)
        patterns = estimate_betas(runs, regions, progress=progress, **glm)
        write_noise(runs, regions, residuals, glm)
        tell_choices(patterns)
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
