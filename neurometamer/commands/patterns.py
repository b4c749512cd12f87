"""The Python twin of ``neurometamer fmri patterns``: BOLD runs or betas in, ROI patterns out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError
from neurometamer.reading import Files
from neurometamer.store import read_table

if TYPE_CHECKING:
    from fmri.patterns import Patterns


@checked
def make_patterns(
    masks: Mapping[str, str | Path],
    *,
    bold: Files = (),
    events: Files = (),
    confounds: Files = (),
    betas: str | Path | None = None,
    subject: str | None = None,
    t_r: float | None = None,
    columns: Sequence[str] = (),
    condition_column: str = "trial_type",
    affine: str = "agree",
    n_voxels: int = 0,
    select_on: Sequence[str] = (),
    ignore: Sequence[str] = (),
    estimator: str = "LSA",
    progress: Progress | None = None,
    **glm: Any,
) -> Patterns:
    """Take ROI patterns out of BOLD runs, or out of betas that were estimated before.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI name → mask.
    bold, events, confounds : sequence of path-like
        One file a run each (confounds may be left out); or give `betas`.
    betas : path-like, optional
        Folder written by ``neurometamer fmri betas``.
    subject : str, optional
        Name; by default from the file names.
    t_r : float, optional
        Repetition time in seconds, where header and JSON sidecar do not tell or disagree.
    columns : sequence of str
        Confounds to use; when empty the six motion parameters where there are all, else every
        column.
    condition_column, affine : str
        See `fmri.read_run`.
    n_voxels : int
        Keep so many voxels of each ROI, the most reliable; 0 keeps all.
    select_on : sequence of str
        Conditions on which reliability is judged; needed with `n_voxels`.
    ignore : sequence of str
        Trial types without a regressor; when empty those of `fmri.estimate_betas`.
    estimator : {"LSA", "LSS"}
        All events in one design, or each against the rest.
    progress : callable, optional
        Called with (runs done, runs).
    **glm : object
        Settings of `fmri.estimate_betas`.

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
    >>> from neurometamer import InputError, make_patterns
    >>> try:
    ...     make_patterns({"V1": "V1.nii.gz"})
    ... except InputError as error:
    ...     print(error)
    give either BOLD runs (--bold and --events) or a folder of betas (--betas).
    """
    from fmri.betas import estimate_betas, read_betas
    from fmri.bold import read_runs
    from fmri.reliability import select_voxels

    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    if (betas is None) == (not bold):
        raise InputError(
            "give either BOLD runs (--bold and --events) or a folder of betas (--betas)."
        )
    if n_voxels and not select_on:
        raise InputError(
            "--voxels needs the conditions that judge reliability: --stimuli CSV (its RE rows) or "
            "--select-on."
        )
    if betas is not None:
        patterns = read_betas(betas, masks, unusable=glm.get("unusable", "refuse"), affine=affine)
    else:
        runs = read_runs(
            bold,
            events,
            confounds or None,
            subject=subject,
            t_r=t_r,
            columns=columns or None,
            condition_column=condition_column,
            affine=affine,
        )
        glm |= {"ignore": tuple(ignore)} if ignore else {}
        patterns = estimate_betas(runs, dict(masks), estimator=estimator, progress=progress, **glm)
    if n_voxels:
        patterns = select_voxels(patterns, conditions=list(select_on), n_per_roi=n_voxels)
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
        raise InputError(f"{table} has no rows of kind RE.")
    return ids
