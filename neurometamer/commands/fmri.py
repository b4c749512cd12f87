"""The command ``neurometamer fmri patterns``: BOLD runs or betas in, ROI patterns out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files
from neurometamer.store import read_table

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.patterns import Patterns


RUNS = ("subject", "t_r", "columns", "condition_column", "affine")
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
)
"""Options that `fmri.estimate_betas` takes."""

TRIALS = ("per", "hrf", "n_noise", "max_noise", "shrinkage", "n_delays")
"""Options that `fmri.SingleTrialOptions` takes."""

VOLUMES = ("volumes", "grid")
"""Options that `fmri.read_beta_images` takes."""


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
        KeywordsOf("fmri.betas:estimate_betas", GLM),
        KeywordsOf("fmri.single_trials:SingleTrialOptions", TRIALS),
    ],
) -> Path:
    """Estimate one beta per condition and presentation, as a 4-D NIfTI with its table.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI to its mask on the grid of the BOLD files, NAME=FILE.
    out : path-like
        Output folder for betas.nii.gz, betas.tsv and betas.json, or what `contrast` or `bids` say.
    bold : sequence of path-like
        4-D NIfTI files, one a run.
    events : sequence of path-like
        BIDS events.tsv files, one a run, in the order of `bold`.
    confounds : sequence of path-like
        Confounds tables, one a run, or none.
    contrast : str
        Weighted sum of conditions, such as ``"intact - scrambled"`` (`fmri.parse_contrast`):
        instead of betas, its maps effect.nii.gz, t.nii.gz and z.nii.gz over all runs and masks, for
        definitions of regions.
    bids : bool
        Write BIDS derivatives (`fmri.write_bids_betas`) into `out`.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Options of `fmri.read_runs`, `fmri.estimate_betas` and `fmri.SingleTrialOptions`.

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
    from fmri.betas import write_betas
    from fmri.derivatives import write_bids_betas

    if contrast:
        return _write_contrast(masks, out, bold, events, confounds, contrast, options)
    patterns = fmri_patterns(
        masks,
        bold=bold,
        events=events,
        confounds=confounds,
        progress=progress,
        **options,
    )
    if bids:
        write_bids_betas(patterns, out)
        return Path(out)
    return write_betas(patterns, out)


def _write_contrast(
    masks: Mapping[str, str | Path],
    out: str | Path,
    bold: Files,
    events: Files,
    confounds: Files,
    contrast: str,
    options: Mapping[str, Any],
) -> Path:
    """Estimate a contrast in the voxels of all masks, and write its maps."""
    import numpy as np

    from fmri.contrasts import estimate_contrast, parse_contrast, write_contrast
    from fmri.rois import read_masks

    parse_contrast(contrast)
    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, for example brain=MASK.")
    runs, glm = _open(bold, events, confounds, options)
    regions = read_masks(dict(masks), runs[0].image, affine=runs[0].affine)
    known = ("hrf_model", "high_pass", "noise_model", "units", "ignore", "slice_time_ref")
    if unused := [name for name in glm if name not in known]:
        raise InputError(
            f"{name_ids(unused)} go with betas, not with a contrast (--contrast); leave them out."
        )
    maps = estimate_contrast(
        runs,
        contrast,
        mask=np.logical_or.reduce(list(regions.values())),
        **glm,
    )
    return write_contrast(maps, out)


def _open(
    bold: Files, events: Files, confounds: Files, options: Mapping[str, Any]
) -> tuple[list[BoldRun], dict[str, Any]]:
    """Open the runs, and give the options of the model."""
    from fmri.bold import read_runs
    from fmri.single_trials import SingleTrialOptions

    of_runs = {name: options[name] for name in RUNS if name in options}
    if "columns" in of_runs:
        of_runs["columns"] = of_runs["columns"] or None
    elsewhere = (*RUNS, *TRIALS, *VOLUMES)
    glm = {name: value for name, value in options.items() if name not in elsewhere}
    if ignored := glm.pop("ignore", ()):
        glm["ignore"] = tuple(ignored)
    trials = SingleTrialOptions(**{name: options[name] for name in TRIALS if name in options})
    if trials != SingleTrialOptions():
        glm["single_trials"] = trials
    return read_runs(bold, events, confounds or None, **of_runs), glm


def _read_estimated(
    betas: str | Path, masks: Mapping[str, str | Path], options: Mapping[str, Any]
) -> Patterns:
    """Read betas of ours, of BIDS derivatives, or of another program."""
    from fmri.beta_files import BETA_READERS, read_beta_images
    from fmri.betas import read_betas
    from fmri.derivatives import read_bids_betas

    known = {name: options[name] for name in ("unusable", "affine") if name in options}
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
    n_voxels: int = 0,
    stimuli: str | Path | None = None,
    select_on: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("fmri.bold:read_runs", RUNS),
        KeywordsOf("fmri.betas:estimate_betas", GLM),
        KeywordsOf("fmri.single_trials:SingleTrialOptions", TRIALS),
        KeywordsOf("fmri.beta_files:read_beta_images", VOLUMES),
    ],
) -> Patterns:
    """Take ROI patterns out of BOLD runs, or out of betas that were estimated before.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI to its mask on the grid of the BOLD files, NAME=FILE.
    out : path-like, optional
        HDF5 file to write.
    bold, events, confounds : sequence of path-like
        One file a run each (confounds may be left out); or give `betas`.
    betas : path-like, optional
        Instead of BOLD runs: folder written by ``neurometamer fmri betas``, root of BIDS
        derivatives with single-trial maps (with ``subject``), or what another program made
        (`fmri.read_beta_images`: GLMsingle's HDF5, SPM's folder, AFNI's HEAD/BRIK, 4-D NIfTI).
    n_voxels : int
        Keep so many voxels of each ROI, the most reliable; 0 keeps all.
    stimuli : path-like, optional
        Table of stimuli (id, kind): its RE rows are the conditions on which reliability is judged.
    select_on : sequence of str
        Conditions on which reliability is judged; these, or `stimuli`, are needed with `n_voxels`.
    progress : callable, optional
        Called with (runs done, runs).
    **options : object
        Options of `fmri.read_runs`, `fmri.estimate_betas`, `fmri.SingleTrialOptions` and
        `fmri.read_beta_images`.

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
    from fmri.betas import estimate_betas
    from fmri.patterns import write_patterns
    from fmri.reliability import select_voxels

    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
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
        patterns = _read_estimated(betas, masks, options)
    else:
        runs, glm = _open(bold, events, confounds, options)
        patterns = estimate_betas(runs, dict(masks), progress=progress, **glm)
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
