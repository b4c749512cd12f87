"""The command ``neurometamer fmri simulate``: measured runs in, simulated subjects out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.commands.scans import RUNS
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files
from neurometamer.resume import writes_into
from neurometamer.store import write_table


@writes_into("out")
@checked
def fmri_simulate(
    masks: Mapping[str, str | Path],
    out: str | Path,
    *,
    bold: Files,
    events: Files,
    confounds: Files = (),
    n_subjects: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Annotated[Any, KeywordsOf("fmri.bold:read_runs", RUNS)],
) -> Path:
    """Simulate subjects like a measured one: its schedule, noise and strength of signal.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI to its mask on the grid of the BOLD files, NAME=FILE.
    out : path-like
        Output folder: a folder for each simulated subject (BOLD runs, events, confounds, masks,
        planted truth), ``quality.csv``, which sets the measured runs beside simulated ones, and
        ``agreement.csv``: for each measure of quality what was measured, mean and 95 % interval
        over simulated runs, whether the measured is inside, and by which share chance alone moves
        it.
    bold : sequence of path-like
        4-D NIfTI files, one a run, of one subject.
    events : sequence of path-like
        BIDS events.tsv files, one a run, in the order of `bold`.
    confounds : sequence of path-like
        Confounds tables, one a run, or none.
    n_subjects : int
        Simulated subjects, sub-01 and so on.
    seed : int
        Seed of all random draws.
    progress : callable, optional
        Called with (subjects done, subjects).
    **options : object
        Options of `fmri.read_runs`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the input cannot be used.

    Warns
    -----
    UserWarning
        When simulated runs are unlike the measured ones.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import fmri_simulate
    >>> try:
    ...     fmri_simulate({}, "simulated", bold=["bold.nii.gz"], events=["events.tsv"])
    ... except InputError as error:
    ...     print(error)
    no masks given; use --masks NAME=FILE, one for each ROI.
    """
    from fmri.bold import read_runs
    from fmri.scan_model import fit_scan, simulate_like

    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    if n_subjects < 1:
        raise InputError(f"n_subjects (--n-subjects) is {n_subjects}; give at least 1.")
    if "columns" in options:
        options["columns"] = options["columns"] or None
    model = fit_scan(read_runs(bold, events, confounds or None, **options), masks, seed=seed)
    folder = Path(out)
    write_table(folder / "quality.csv", model.quality)
    write_table(folder / "agreement.csv", model.agreement)
    unlike = model.agreement[~model.agreement["alike"]]
    if len(unlike):
        names = (unlike["roi"] + " " + unlike["measure"]).tolist()
        warnings.warn(
            f"simulated runs are unlike the measured ones in {name_ids(names)}: outside of the "
            "95 % interval, and by more than 10 %; see agreement.csv.",
            stacklevel=2,
        )
    for number in range(1, n_subjects + 1):
        label = f"{number:02d}"
        simulate_like(model, folder / f"sub-{label}", subject=label, seed=seed)
        if progress is not None:
            progress(number, n_subjects)
    return folder
