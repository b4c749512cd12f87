"""The command ``neurometamer fmri design``: a table of stimuli in, the schedule of a scan out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
from neurometamer.store import read_table

if TYPE_CHECKING:
    from fmri.design import ScanDesign


@checked
def fmri_design(
    stimuli: str | Path,
    out: str | Path | None = None,
    *,
    preset: str = "zhang2021",
    subject: str = "01",
    seed: int = 0,
    progress: Progress | None = None,
    **options: Annotated[Any, KeywordsOf("fmri.design:ScanOptions")],
) -> ScanDesign:
    r"""Schedule a scan: when each image is shown, counterbalanced, with the noise to expect.

    Parameters
    ----------
    stimuli : path-like
        Table of stimuli with the columns id and kind, such as the stimuli.csv of
        ``neurometamer stimuli`` or of a study, or the folder that holds it.
    out : path-like, optional
        Folder for BIDS events, tables for PsychoPy, and runs.csv, images.csv, design.json.
    preset : str
        Options that belong together; the options below change them.
    subject : str
        Label of the subject; each has an order of its own.
    seed : int
        All orders derive from it.
    progress : callable, optional
        Called with (runs done, runs) while noise is predicted.
    **options : object
        Fields of `fmri.design.ScanOptions`.

    Returns
    -------
    ScanDesign
        Trials, runs with their noise gains, and images with the predicted noise of their betas.

    Raises
    ------
    InputError
        When the table or an option cannot be used.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "stimuli.csv"
    >>> _ = file.write_text("id,kind\ncat,RE\ncat_AN,AN\ncup,RE\ncup_AN,AN\n")
    >>> design = fmri_design(file, preset="slow", n_runs=3)
    >>> design.runs["n_trials"].tolist()
    [4, 4, 4]
    """
    from fmri.design import design_scan, write_design

    path = Path(stimuli)
    if path.is_dir():
        path = path / "stimuli.csv"
    table = read_table(path, required=["id", "kind"], text=["image_type"])
    pictures = [f"png/{name}.png" for name in table["id"]]
    if "file" not in table and all((path.parent / picture).is_file() for picture in pictures):
        table["file"] = pictures
    design = design_scan(
        table, preset=preset, subject=subject, seed=seed, progress=progress, **options
    )
    if out is not None:
        write_design(design, out)
    return design
