"""The command ``neurometamer fmri layout``: what a BIDS data set holds and what is wrong there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.resume import writes_into
from neurometamer.store import write_table

if TYPE_CHECKING:
    from fmri.layout.dataset import Layout


@writes_into("out")
@checked
def fmri_layout(
    dataset: str | Path,
    out: str | Path | None = None,
    *,
    derivatives: str | Path | None = None,
    rois: Mapping[str, str] | None = None,
    **options: Annotated[Any, KeywordsOf("fmri.layout.options:LayoutOptions")],
) -> Layout:
    """List the runs, events, confounds, ROIs and stimuli of a BIDS data set, and what is wrong.

    Parameters
    ----------
    dataset : path-like
        Folder of the BIDS data set.
    out : path-like, optional
        Folder for ``runs.csv``, ``stimuli.csv``, ``rois.csv`` and ``problems.csv``.
    derivatives : path-like, optional
        Folder of fMRIPrep's output: images, confounds, masks.
    rois : mapping of str to str, optional
        ROI to the file of its mask, NAME=FILE; ``{subject}`` in it stands for the label of a
        subject.
    **options : object
        Fields of `fmri.LayoutOptions`.

    Returns
    -------
    Layout
        What was found. The exit code of the command is 2 when not one image can be used, else 0.

    Raises
    ------
    InputError
        When the folder is no BIDS data set, or nothing fits what was chosen.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from neurometamer import InputError
    >>> try:
    ...     fmri_layout(mkdtemp())
    ... except InputError as error:
    ...     print(str(error).split(": ")[1])
    it has no folder sub-… (it is empty).
    """
    from fmri.layout.dataset import find_dataset

    layout = find_dataset(dataset, derivatives, rois=rois, **options)
    if out is not None:
        for name, table in layout.tables().items():
            write_table(Path(out) / f"{name}.csv", table)
    return layout
