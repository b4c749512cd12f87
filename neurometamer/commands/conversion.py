"""The command ``neurometamer fmri convert``: a published data set in, ROI patterns out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress

if TYPE_CHECKING:
    from fmri.patterns import Patterns

LOG = logging.getLogger(__name__)

PUBLISHED = ("ids", "sessions", "subject", "unusable", "max_memory")
"""Options that `fmri.read_published` takes."""


@checked
def fmri_convert(
    path: str | Path,
    out: str | Path | None = None,
    *,
    format: str | None = None,
    rois: Sequence[str] = (),
    progress: Progress | None = None,
    **options: Annotated[Any, KeywordsOf("fmri.formats.published:read_published", PUBLISHED)],
) -> Patterns:
    """Take ROI patterns out of a published data set: NSD, BData, THINGS-fMRI, BIDS maps of trials.

    Parameters
    ----------
    path : path-like
        Folder or file of the data set, as it was published.
    out : path-like, optional
        HDF5 file to write.
    format : str, optional
        Layout; by default the one that `path` is recognized as.
    rois : sequence of str
        Regions in the words of the layout, such as hV4 or "V1=V1v + V1d"; masks as NAME=FILE where
        the layout has no regions (statmaps). By default all that the file names (bdata, things).
    progress : callable, optional
        Called with (parts done, parts).
    **options : object
        Options of `fmri.read_published`.

    Returns
    -------
    Patterns
        Observations × voxels.

    Raises
    ------
    InputError
        When the data set cannot be read as its layout documents.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     fmri_convert("no-such-folder")
    ... except InputError as error:
    ...     print(error)
    no-such-folder does not exist; correct its name.
    """
    from fmri.formats.published import read_published
    from fmri.patterns import write_patterns

    patterns = read_published(
        path,
        format,
        rois=rois,
        plan=lambda contents: LOG.info("%s: %s", path, contents.plan),
        progress=progress,
        **options,
    )
    if out is not None:
        write_patterns(patterns, out)
    return patterns
