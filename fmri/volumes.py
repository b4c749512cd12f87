"""NIfTI images: opening, where a header places voxels, and reading without the whole in memory."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.bids import TR_RANGE_S, find_reader
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest, digest_file
from neurometamer.reading import check_promise, one_line

if TYPE_CHECKING:
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.nifti1 import Nifti1Image

AFFINES = ("agree", "sform", "qform")
"""Which transform of a NIfTI header places its voxels: either one, or both where they agree."""

AFFINE_TOLERANCE_MM = 0.1
"""Largest distance between two positions of a voxel that count as one, in mm.

The positions that sform and qform give to it, or those of two images on one grid: headers are
rounded.
"""

_LEAST_VOLUME_MM3 = 1e-9
"""Smallest volume of a voxel, in mm³."""

SIMULATED = "simulated"
"""First word of the description in the header of a simulated image."""

_CHECK_BYTES = 2**22
_MOST_RECORDS = 1000
_LENGTH_BYTES = 4
"""Bytes at the end of a ``.gz`` file that say how long its contents are."""
PACKED = (".gz", ".bz2", ".zst")
"""Endings of files that are packed as a whole."""
_PAIR = (".hdr", ".hdr.gz", ".img", ".img.gz")
"""Endings of the header and the values of an image of two files."""
_TIME_UNITS = {"sec": 1.0, "unknown": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_nifti(path: str | os.PathLike[str]) -> Nifti1Image:
    """Open a NIfTI image without reading its voxels.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    nibabel image
        With its data still on disk.

    Raises
    ------
    InputError
        When the file is missing, empty, cut off in the header, or not a NIfTI image of real
        numbers.

    Warns
    -----
    UserWarning
        When nibabel finds the header odd.
    """
    import nibabel

    file = Path(path)
    if file.is_dir():
        images = sorted(inside.name for inside in file.glob("*.nii*"))
        held = name_ids(images) if images else "no .nii or .nii.gz"
        raise InputError(f"{path} is a folder; give the NIfTI files themselves (it holds {held}).")
    if not file.is_file():
        missing = [folder for folder in file.parents if not folder.exists()]
        also = f" (there is no folder {missing[-1]})" if missing else ""
        raise InputError(f"{path} does not exist{also}; give the path of an image.")
    if file.stat().st_size == 0:
        raise InputError(
            f"{path} is empty (0 bytes); fetch the file itself (datalad get, git annex get) or "
            "copy it again."
        )
    read = find_reader(IMAGE_READERS, path, "an image")
    try:
        with header_notes(path):
            image = read(path)
    except Exception as error:  # a damaged header makes nibabel fail in many ways
        if file.suffix.lower() in (".bz2", ".zst"):  # nibabel does not say that it is cut off
            _unpacked_size(file)
        raise InputError(
            f"{path} is not a readable NIfTI image ({one_line(error)}); copy or convert it again."
        ) from error
    if not isinstance(image, nibabel.Nifti1Pair):
        kind = type(image).__name__
        raise InputError(
            f"{path} is a {kind}, not a NIfTI image of a volume; {_OTHERWISE.get(kind, _CONVERT)}."
        )
    if min(image.shape, default=0) < 1:
        raise InputError(
            f"{path} has a header that says the shape {tuple(image.shape)}; it is damaged: copy or "
            "convert it again."
        )
    if image.affine is None or not np.isfinite(image.affine).all():
        raise InputError(f"{path} has a header whose affine is not finite; write the header again.")
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(
            f"{path} holds values of type {image.get_data_dtype()}, not real numbers; convert it."
        )
    return image  # type: ignore[return-value]


@contextmanager
def header_notes(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what nibabel logs of a header into one note.

    Parameters
    ----------
    path : path-like
        The file, for the note.

    Yields
    ------
    None
        The block reads the header. Nothing is noted when it fails: its error says the same.
    """
    from nibabel.imageglobals import logger

    heard = BufferingHandler(_MOST_RECORDS)
    handlers, logger.handlers = logger.handlers, [heard]
    try:
        yield
    finally:
        logger.handlers = handlers
    if heard.buffer:
        lines = dict.fromkeys(record.getMessage() for record in heard.buffer)
        warnings.warn(f"{Path(path).name}: odd header: {'; '.join(lines)}.", stacklevel=3)


def _load(path: str | os.PathLike[str]) -> Any:
    import nibabel

    return nibabel.load(path)


def load_mgh(path: str | os.PathLike[str]) -> Any:
    """Open a FreeSurfer image (``.mgh``, ``.mgz``) without its values.

    Parameters
    ----------
    path : path-like
        The file, which exists.

    Returns
    -------
    nibabel.MGHImage
        With its values on disk; nibabel's own ``load`` leaves the file open.
    """
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.freesurfer import MGHImage
    from nibabel.openers import ImageOpener

    with ImageOpener(str(path), "rb") as file:
        header = MGHImage.header_class.from_fileobj(file)
    proxy = ArrayProxy(str(path), header, mmap=False)
    file_map = MGHImage.filespec_to_file_map(str(path))
    return MGHImage(proxy, header.get_affine(), header, file_map=file_map)


def _load_mgh_volume(path: str | os.PathLike[str]) -> Any:
    import nibabel

    image = load_mgh(path)
    return nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine)


IMAGE_READERS: dict[str, Callable[[str | os.PathLike[str]], Any]] = {
    ".nii": _load,
    ".nii.gz": _load,
    ".mgh": _load_mgh_volume,
    ".mgz": _load_mgh_volume,
    "": _load,
}
"""Ending of an image → its reader, which returns a ``nibabel.Nifti1Image``; ``""`` is for all other
endings, and nibabel decides. A format is added by an entry here."""

_CONVERT = "convert it to .nii.gz"
_OTHERWISE = {
    "GiftiImage": "end its name in .gii",
    "Cifti2Image": "end its name in .dtseries.nii, .dscalar.nii or .dlabel.nii, as CIFTI files do",
}
"""Type of image to what its user can do; others can be converted."""


@contextmanager
def stored_values(path: str | os.PathLike[str], image: Nifti1Image) -> Iterator[ArrayProxy]:
    """Return the values of an opened image, still on disk.

    The file is read in one pass and checked to its end.

    Parameters
    ----------
    path : path-like
        For the message.
    image : nibabel image
        From `open_nifti`.

    Yields
    ------
    nibabel.arrayproxy.ArrayProxy
        To be cut into slabs, first to last; scaled as the header says.

    Raises
    ------
    InputError
        When the file is cut off or damaged (a ``.gz`` file has a checksum at its end, which nibabel
        does not read).
    """
    from nibabel.arrayproxy import ArrayProxy
    from nibabel.openers import ImageOpener

    raw: Any = image.dataobj
    if isinstance(raw, np.ndarray):  # of a reader that holds them in memory
        yield raw  # type: ignore[misc]
        return
    spec = (raw.shape, raw.dtype, raw.offset, raw.slope, raw.inter)
    stored_in = image.file_map["image"].filename
    n_bytes = math.prod(raw.shape) * raw.dtype.itemsize
    check_promise(stored_in or path, n_bytes)
    try:
        with ImageOpener(str(stored_in), "rb") as file:
            yield ArrayProxy(file, spec, mmap=False)
            while file.read(_CHECK_BYTES):
                pass
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever nibabel or zlib make of a damaged file
        raise InputError(
            f"{path} is cut off or damaged ({one_line(error)}); copy or convert it again."
        ) from error


def _unpacked_size(file: Path) -> int:
    """Count the bytes of a file to its end; those of a packed one are unpacked."""
    from nibabel.openers import ImageOpener
    from nibabel.tripwire import TripWireError

    if file.suffix.lower() not in PACKED:
        return file.stat().st_size
    size = 0
    try:
        with ImageOpener(str(file), "rb") as unpacked:
            while block := unpacked.read(_CHECK_BYTES):
                size += len(block)
    except TripWireError:
        raise InputError(
            f"{file} is packed by Zstandard, which this Python cannot unpack; install the package "
            "backports.zstd (pip install 'nibabel[zstd]'), or unpack the file."
        ) from None
    except Exception as error:  # whatever nibabel or zlib make of a damaged file
        raise InputError(
            f"{file} is cut off or damaged ({one_line(error)}); copy or convert it again."
        ) from error
    return size


def check_complete(path: str | os.PathLike[str], image: Any = None) -> None:
    """Refuse an image that is cut off, mostly in the time of a look at its length.

    Parameters
    ----------
    path : path-like
        The image.
    image : nibabel image, optional
        The same, opened, where it is not NIfTI, as CIFTI files are; by default `open_nifti` opens
        it.

    Raises
    ------
    InputError
        When its file holds fewer values than its header says.

    Notes
    -----
    The end of a ``.gz`` file says the length of its contents modulo 2³² bytes. A file whose end
    says another length may still be whole (several packed parts are one file): it is unpacked.
    Files of other packers (``.bz2``, ``.zst``) say no length and are unpacked, too.
    """
    image = open_nifti(path) if image is None else image
    raw: Any = image.dataobj
    if isinstance(raw, np.ndarray):  # of a reader that holds them in memory
        return
    file = Path(str(image.file_map["image"].filename))
    needed = raw.offset + math.prod(raw.shape) * raw.dtype.itemsize
    if file.suffix == ".gz":
        with file.open("rb") as packed:
            packed.seek(-min(file.stat().st_size, _LENGTH_BYTES), os.SEEK_END)
            length = int.from_bytes(packed.read(), "little")
        if length == needed % 2 ** (8 * _LENGTH_BYTES):
            return
    size = _unpacked_size(file)
    if size < needed:
        raise InputError(
            f"{path} is cut off: its header says {needed:,} bytes, and it holds {size:,}; copy or "
            "convert it again."
        )


def image_files(path: str | os.PathLike[str]) -> list[Path]:
    """List the files of an image: two where header and values have a file each.

    Parameters
    ----------
    path : path-like
        The image, or either file of a pair ``.hdr`` and ``.img`` (or ``.img.gz``).

    Returns
    -------
    list of Path
        Header before values; those of a pair that exist.

    Examples
    --------
    >>> image_files("bold.nii.gz") == [Path("bold.nii.gz")]
    True
    """
    file = Path(path)
    stem, is_one_of_two = re.subn(r"\.(hdr|img)(\.gz)?$", "", file.name)
    parts = [file.with_name(stem + ending) for ending in _PAIR if is_one_of_two]
    return [part for part in parts if part.is_file()] or [file]


def digest_image(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Hash the bytes of all files of an image.

    Parameters
    ----------
    paths : sequence of path-like
        The image; one of each hemisphere where there are two.

    Returns
    -------
    str
        16 hexadecimal digits; of a single file as `neurometamer.provenance.digest_file`.
    """
    digests = [digest_file(file) for path in paths for file in image_files(path)]
    return digests[0] if len(digests) == 1 else digest(digests)


def check_4d(path: str | os.PathLike[str], image: Nifti1Image) -> tuple[int, int, int, int]:
    """Check that an image is 4-D and return its shape.

    A fifth axis of length 1, which some programs write, does not count.

    Parameters
    ----------
    path : path-like
        For the message.
    image : nibabel image
        The opened image.

    Returns
    -------
    tuple of int
        (i, j, k, volumes).

    Raises
    ------
    InputError
        When it has another number of dimensions.
    """
    shape = [int(size) for size in image.shape]
    if len(shape) == 5 and shape[4] == 1:
        shape.pop()
    if len(shape) != 4:
        raise InputError(
            f"{path} is {len(shape)}-D with shape {tuple(shape)}; a BOLD run must be 4-D (i, j, k, "
            "volumes)."
        )
    i, j, k, n_volumes = shape
    return i, j, k, n_volumes


def image_affine(
    path: str | os.PathLike[str], image: Nifti1Image, affine: str = "agree"
) -> np.ndarray:
    """Read where an image places its voxels, and refuse a header with two different transforms.

    Parameters
    ----------
    path : path-like
        For the message.
    image : nibabel image
        From `open_nifti`.
    affine : {"agree", "sform", "qform"}
        Which of the two transforms counts where both are coded; ``"agree"`` refuses them when they
        differ.

    Returns
    -------
    ndarray of float, shape (4, 4)
        Voxel indices to mm.

    Raises
    ------
    InputError
        When sform and qform, both coded, place a corner of the volume more than 0.1 mm apart and
        `affine` is ``"agree"``; when the quaternion of the qform is none, or `affine` is unknown.
    """
    if affine not in AFFINES:
        raise unknown_name("affine", affine, AFFINES)
    header: Any = image.header
    codes = int(header["sform_code"]), int(header["qform_code"])
    chosen = np.asarray(image.affine, dtype=np.float64)
    if affine != "qform" and abs(np.linalg.det(chosen[:3, :3])) < _LEAST_VOLUME_MM3:
        raise InputError(
            f"{Path(path).name}: the transform of its header places all voxels in one plane, line "
            f'or point (sform code {codes[0]}, qform code {codes[1]}); give affine="qform" '
            "(--affine qform) where that holds, or write the header again."
        )
    if min(codes) <= 0 or affine == "sform":
        return np.asarray(image.affine, dtype=np.float64)
    try:
        sform, qform = header.get_sform(), header.get_qform()
    except Exception as error:
        raise InputError(
            f"{path}: the qform of the header cannot be read ({one_line(error)}); give "
            'affine="sform" (--affine sform), or write the header again.'
        ) from error
    if affine == "qform":
        return np.asarray(qform, dtype=np.float64)
    away = corner_distance(sform, qform, image.shape[:3])
    if away > AFFINE_TOLERANCE_MM:
        import nibabel

        axes = ["".join(map(str, nibabel.aff2axcodes(affine))) for affine in (sform, qform)]
        of_sform = np.linalg.det(sform[:3, :3])
        of_qform = np.linalg.det(qform[:3, :3])
        mirrored = ""
        if of_sform * of_qform < 0:
            mirrored = (
                "; they are mirror images of each other, so that left and right may be exchanged"
            )
        raise InputError(
            f"{Path(path).name}: sform (code {codes[0]}, {axes[0]}) and qform (code {codes[1]}, "
            f"{axes[1]}) place the voxels up to {away:.3g} mm apart{mirrored}. Say which holds, "
            'affine="sform" or "qform" (--affine), or write the header again.'
        )
    return np.asarray(image.affine, dtype=np.float64)


def corner_distance(first: np.ndarray, second: np.ndarray, shape: Sequence[int]) -> float:
    """Measure how far apart two affines place the voxels of a volume.

    Parameters
    ----------
    first, second : ndarray, shape (4, 4)
        Voxel indices to mm.
    shape : sequence of int
        Of the volume (i, j, k).

    Returns
    -------
    float
        Largest distance between the two positions of a corner voxel, in mm.

    Examples
    --------
    >>> corner_distance(np.diag([2.0, 2, 2, 1]), np.diag([2.5, 2, 2, 1]), (11, 5, 5))
    5.0
    """
    ends = [[0, size - 1] for size in shape]
    corners = np.array(np.meshgrid(*ends, [1])).reshape(4, -1)
    shifts = (first - second) @ corners
    return float(np.linalg.norm(shifts[:3], axis=0).max())


def header_tr(image: Nifti1Image) -> float | None:
    """Read the repetition time in a NIfTI header.

    Parameters
    ----------
    image : nibabel image
        From `open_nifti`, 4-D.

    Returns
    -------
    float or None
        Seconds; None where the header says nothing that could be one.
    """
    header: Any = image.header
    try:
        unit = header.get_xyzt_units()[1]
    except KeyError:  # a code that NIfTI does not know
        return None
    t_r = float(header.get_zooms()[3]) * _TIME_UNITS.get(unit, np.nan)
    if TR_RANGE_S[0] <= t_r <= TR_RANGE_S[1]:
        return round(t_r, 6)
    return None
