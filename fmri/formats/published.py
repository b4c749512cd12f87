"""The table of published layouts: how each is recognized and read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fmri.betas.memory import parse_memory
from fmri.formats import bdata, nsd, statmaps, things
from fmri.formats.contents import Contents, Request, region_parts
from fmri.patterns import Patterns
from fmri.unusable import (
    UNUSABLE,
    check_regions_left,
    dropped_voxels,
    unusable_error,
    unusable_reasons,
)
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import provenance
from neurometamer.reading import check_room, one_line


@dataclass(frozen=True, kw_only=True)
class Format:
    """How a data set is stored.

    Parameters
    ----------
    missing : callable
        Called with a path: returns what keeps it from being of this layout, or nothing.
    open : callable
        Called with a path and a `Request`: returns the `Contents`.
    help : str
        What the layout is, and how it names regions.

    Examples
    --------
    >>> FORMATS["nsd"].missing(Path("betas"))
    'it is no folder with betas_sessionNN.hdf5'
    """

    missing: Callable[[Path], str]
    open: Callable[[Path, Request], Contents]
    help: str


FORMATS: dict[str, Format] = {
    "nsd": Format(
        missing=nsd.missing,
        open=nsd.open_betas,
        help="Natural Scenes Dataset: folder of betas_sessionNN.hdf5; regions by the labels of its "
        "ROI files",
    ),
    "bdata": Format(
        missing=bdata.missing,
        open=bdata.open_bdata,
        help="BData of the Kamitani lab: one HDF5 file; regions by the names of its metadata",
    ),
    "things": Format(
        missing=things.missing,
        open=things.open_table,
        help="THINGS-fMRI in table format: folder of sub-NN_ResponseData.h5 and its CSV files; "
        "regions by their columns",
    ),
    "statmaps": Format(
        missing=statmaps.missing,
        open=statmaps.open_maps,
        help="BIDS maps of single trials (LAION-fMRI): folder of …_stat-effect_…_statmap.nii.gz "
        "and …_trials.tsv; regions by masks, NAME=FILE",
    ),
}
"""Name of a layout → how it is recognized and read; a layout is added by an entry here."""


@checked
def plan_published(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    rois: Sequence[str] | Mapping[str, str] = (),
    ids: str = "",
    sessions: Sequence[str] = (),
    subject: str = "",
) -> Contents:
    """Find out what would be read of a published data set; its responses are not read.

    Parameters
    ----------
    path, format, rois, ids, sessions, subject
        See `read_published`.

    Returns
    -------
    Contents
        Tables of observations and voxels, bytes on disk and in memory; ``plan`` says it in a line.

    Raises
    ------
    InputError
        When the layout is not recognized, or files are not as it documents.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> try:
    ...     plan_published(mkdtemp(), "things")
    ... except InputError as error:
    ...     print(str(error).partition(": ")[2])
    there is no sub-NN_ResponseData.h5. It must be THINGS-fMRI in table format: folder of \
sub-NN_ResponseData.h5 and its CSV files; regions by their columns.
    """
    return _opened(path, format, rois, ids, sessions, subject)[1]


@checked
def read_published(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    rois: Sequence[str] | Mapping[str, str] = (),
    ids: str = "",
    sessions: Sequence[str] = (),
    subject: str = "",
    unusable: str = "refuse",
    max_memory: str = "",
    plan: Callable[[Contents], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Patterns:
    """Read patterns from a published data set in its own layout.

    Only the voxels of the regions are kept in memory. What is not as the layout documents is
    refused; nothing is guessed.

    Parameters
    ----------
    path : path-like
        Folder or file.
    format : str, optional
        Name of the layout (`FORMATS`); by default the one that `path` is recognized as.
    rois : sequence of str or mapping of str to str
        Regions in the words of the layout, ``"hV4"`` or ``"V1=V1v + V1d"``; by default all that
        the file names (``bdata``, ``things``).
    ids : str
        Column that holds the stimulus ids; by default ``73KID`` (``nsd``), ``stimulus_name``
        (``bdata``), ``stimulus`` (``things``), ``label`` or else ``condition`` (``statmaps``).
    sessions : sequence of str
        Sessions to read; all by default.
    subject : str
        Subject to read where there are several (``things``, ``statmaps``), or the name to give it.
    unusable : {"refuse", "drop"}
        What to do with voxels that have NaN, infinite or only equal responses: an error that names
        the regions, or drop them and list them in ``provenance["dropped"]``.
    max_memory : str
        Largest memory, such as ``"2GB"``; empty: that of the machine.
    plan : callable, optional
        Called with the `Contents` before any response is read.
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    Patterns
        One observation a trial; presentations are counted over what is read.

    Raises
    ------
    InputError
        When the layout is not recognized, files are not as it documents or disagree, voxels are
        unusable, or the responses do not fit into memory.

    Warns
    -----
    UserWarning
        When samples of BData have no stimulus, or masks of maps share voxels.

    References
    ----------
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
    intelligence. Nature Neuroscience 25, 116-126.
    Hebart et al. (2023). THINGS-data, a multimodal collection of large-scale datasets for
    investigating object representations in human brain and behavior. eLife 12, e82580.

    Examples
    --------
    >>> import h5py
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "Subject1.h5"
    >>> matrix = [[0.5, 1.5, 1.0, 1.0], [2.5, 3.5, 1.0, 2.0]]
    >>> nothing = float("nan")
    >>> marks = [[1, 1, nothing, nothing], [0, 0, 1, 0], [0, 0, 0, 1]]
    >>> with h5py.File(file, "w") as written:
    ...     written["dataset"] = matrix
    ...     written["metadata/key"] = [b"ROI_V1", b"Run", b"stimulus_name"]
    ...     written["metadata/value"] = marks
    >>> patterns = read_published(file)
    >>> patterns.rois, patterns.conditions, patterns.values.tolist()
    (('V1',), ('1', '2'), [[0.5, 1.5], [2.5, 3.5]])
    """
    if unusable not in UNUSABLE:
        raise unknown_name("unusable", unusable, UNUSABLE)
    layout, contents = _opened(path, format, rois, ids, sessions, subject)
    if max_memory and contents.memory_bytes > parse_memory(max_memory):
        raise InputError(
            f"{path}: {contents.plan}, more than max_memory (--max-memory) {max_memory}; name "
            "fewer sessions or ROIs, or allow more."
        )
    check_room(contents.memory_bytes, path)
    if plan is not None:
        plan(contents)
    shape = (len(contents.observations), len(contents.voxels))
    values = np.empty(shape, dtype=contents.dtype)
    contents.read(values, progress)
    reasons = unusable_reasons(values)
    if reasons.any() and unusable == "refuse":
        raise unusable_error(str(path), contents.voxels, reasons)
    keep = reasons == 0
    check_regions_left(str(path), contents.voxels, keep)
    dropped = dropped_voxels(contents.voxels, reasons)
    observations = contents.observations.copy()
    numbers = observations.groupby("condition").cumcount() + 1
    observations.insert(1, "presentation", numbers)
    own = dict(contents.record)
    settings = {"sessions": list(sessions), "unusable": unusable, **own.pop("settings", {})}
    record = provenance(settings, step="read_published", layout=layout, dropped=dropped, **own)
    return Patterns(
        values=values if keep.all() else values[:, keep],
        observations=observations,
        voxels=contents.voxels[keep],
        provenance=record,
    )


def _opened(
    path: str | os.PathLike[str],
    format: str | None,
    rois: Sequence[str] | Mapping[str, str],
    ids: str,
    sessions: Sequence[str],
    subject: str,
) -> tuple[str, Contents]:
    """Find the layout of a path, check that it is of that layout, and open it."""
    import h5py

    place = Path(path)
    if not place.exists():
        raise InputError(f"{path} does not exist; correct its name.")
    if format is not None and format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    faults = {}
    for name in FORMATS if format is None else (format,):
        faults[name] = FORMATS[name].missing(place)
    fitting = [name for name, fault in faults.items() if not fault]
    if not fitting and h5py.is_hdf5(place):
        try:
            h5py.File(place, "r").close()
        except Exception as error:  # h5py raises many kinds
            raise InputError(
                f"{path} is damaged or cut off ({one_line(error)}); copy it again."
            ) from error
    if len(fitting) > 1:
        raise InputError(f"{path} could be {name_ids(fitting)}; say which: format (--format).")
    if not fitting and format is not None:
        raise InputError(
            f"{path} is not '{format}': {faults[format]}. It must be {FORMATS[format].help}."
        )
    if not fitting:
        reasons = [f"{name}: {fault}" for name, fault in faults.items()]
        raise InputError(
            f"{path} is of no layout that is known ({'; '.join(reasons)}); give the path of one."
        )
    request = Request(
        rois=region_parts(rois),
        ids=ids,
        sessions=tuple(map(str, sessions)),
        subject=subject,
    )
    layout = FORMATS[fitting[0]]
    return fitting[0], layout.open(place, request)
