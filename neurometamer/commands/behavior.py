"""The commands ``neurometamer behavior page`` and ``behavior join``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.behavior.experiment import join_key, write_experiment_page
from neurometamer.commands.options import Progress
from neurometamer.reading import Files, reading
from neurometamer.store import write_table

if TYPE_CHECKING:
    import pandas as pd

PAGE_OPTIONS = (
    "title",
    "post_url",
    "fixation_ms",
    "image_ms",
    "mask_ms",
    "practice",
    "screening",
    "catch",
    "pass_mark",
    "block_length",
    "n_masks",
    "seed",
)
"""Settings of `neurometamer.behavior.experiment.PageSettings` that have no other name here."""


@checked
def make_page(
    images: Files,
    photographs: Files,
    out: str | Path,
    *,
    consent: str | Path | None = None,
    slow: bool = True,
    backward_mask: str = "phase",
    incomplete: str = "error",
    progress: Progress | None = None,
    **settings: Annotated[
        Any, KeywordsOf("neurometamer.behavior.experiment:PageSettings", PAGE_OPTIONS)
    ],
) -> pd.DataFrame:
    """Write a folder that runs a 16-way recognition experiment in the browser.

    It needs neither server nor network. Open page/index.html (?participant=P01), or put page/ on
    any web server. Keep key.csv: 'behavior join' needs it.

    Parameters
    ----------
    images : sequence of path-like
        Folders written by ``neurometamer stimuli``, or CSV files (file, id, category, condition).
    photographs : sequence of path-like
        Photographs of other images, for practice, screening and catch trials: folders or CSV files.
    out : path-like
        Folder that gets page/ (to be published) and key.csv (not to be published).
    consent : path-like, optional
        Text file for the first page.
    slow : bool
        Whether images of the first half of practice are shown for 500, 400 and 400 ms.
    backward_mask : str
        One of `neurometamer.behavior.experiment.MASKS`: scrambled images, or noise.
    incomplete : {"error", "photograph"}
        What to do with an image that lacks a condition: refuse it, or show its photograph.
    progress : callable, optional
        Called with (images written, images).
    **settings : object
        Other settings of `neurometamer.behavior.experiment.PageSettings`.

    Returns
    -------
    pandas.DataFrame
        The key, see `neurometamer.write_experiment_page`.

    Raises
    ------
    InputError
        When the images cannot be used, or the folder holds another experiment.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     make_page(["images"], ["photographs"], "experiment", backward_mask="nois")
    ... except InputError as error:
    ...     print("did you mean 'noise'" in str(error))
    True
    """
    if consent is not None:
        with reading(Path(consent), "a consent text in UTF-8"):
            settings["consent"] = Path(consent).read_text(encoding="utf-8")
    if not slow:
        settings["slow_ms"] = None
    return write_experiment_page(
        images,
        photographs,
        out,
        mask=backward_mask,
        missing=incomplete,
        progress=progress,
        **settings,
    )


@checked
def join_answers(
    answers: Files, key: str | Path, out: str | Path = Path("answers.csv")
) -> pd.DataFrame:
    """Put truth, condition, stage and model from the key into the answers of all participants.

    Parameters
    ----------
    answers : sequence of path-like
        CSV files that the page saved.
    key : path-like
        key.csv of that page.
    out : path-like
        CSV file for ``neurometamer behavior analyze``.

    Returns
    -------
    pandas.DataFrame
        What was written, see `neurometamer.join_key`.

    Raises
    ------
    InputError
        When a file is not of this page, or two files disagree about a trial.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     join_answers([], "key.csv")
    ... except InputError as error:
    ...     print(error)
    no answers given; name the CSV files that the page saved.
    """
    table = join_key(answers, key)
    write_table(Path(out), table)
    return table
