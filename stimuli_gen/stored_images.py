"""Images in files: sets that are read when they are indexed, PNG of 8 and of 16 bits, hashes.

The step between 8-bit levels and values in [0, 1] is here, too. Pillow cannot write PNG files with
16 bits a channel (steps of 1/65535 instead of 1/255); they are written and read here.

References
----------
Portable Network Graphics (PNG) Specification, W3C Recommendation, third edition (2025): chunks
(section 5), IHDR (11.2.2), no filter on any line (9.2), zlib (10).
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError
from neurometamer.reading import reading
from neurometamer.store import atomic_path, open_hdf5
from neurometamer.summaries import short_repr

LARGEST_IN_MEMORY = 2**28
"""Bytes of float32 images that are held in memory, 445 of 224 x 224 pixels; larger sets are read
when needed."""
BLOCK = 64
"""Images read at once where a whole set is gone through."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KIND = struct.pack(">BBBBB", 16, 2, 0, 0, 0)
"""16 bits, RGB, zlib, adaptive filters, not interlaced."""
_LEVELS = 65535


def to_8bit(images: np.ndarray) -> np.ndarray:
    """Round images in [0, 1] to 8 bits.

    Parameters
    ----------
    images : ndarray
        (…) float32 in [0, 1].

    Returns
    -------
    ndarray
        (…) uint8, 0 to 255, rounded to nearest (half to even), not cut off.
    """
    levels = np.empty(np.shape(images), np.uint8)
    parts: list[Any] = [...]
    if np.ndim(images) >= 4:
        # in blocks, so that nothing beside the result is as large as the set
        parts = [slice(start, start + BLOCK) for start in range(0, len(images), BLOCK)]
    for part in parts:
        scaled = np.asarray(images[part] * np.float32(255))
        np.rint(scaled, out=scaled)
        levels[part] = scaled
    return levels


def from_8bit(levels: np.ndarray) -> np.ndarray:
    """Scale 8-bit levels to [0, 1], as torchvision's ``ToTensor`` does.

    Parameters
    ----------
    levels : ndarray
        (…) uint8.

    Returns
    -------
    ndarray
        (…) float32 in [0, 1].
    """
    images = levels.astype(np.float32)
    images /= np.float32(255)
    return images


@dataclass(frozen=True, kw_only=True)
class ImagesOnDisk:
    """Images that are read when indexed, as an array would be.

    An index is ``images[3]``, ``images[10:20]`` or ``images[rows]``.

    Parameters
    ----------
    shape : tuple of int
        (n, 3, height, width).
    rows : tuple of int, optional
        Rows of the source that these images are; all by default.
    rounded : bool
        Round to 8 bits on reading.
    """

    shape: tuple[int, int, int, int]
    rows: tuple[int, ...] | None = None
    rounded: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Type of the values read.

        Returns
        -------
        numpy.dtype
            float32.
        """
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """Number of axes.

        Returns
        -------
        int
            4.
        """
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the images would take in memory.

        Returns
        -------
        int
            Four for each value.
        """
        n_values = int(np.prod(self.shape))
        return n_values * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read the images that the index names, or the part of them: float32."""
        first, *others = index if isinstance(index, tuple) else (index,)
        if first is Ellipsis:
            missing = self.ndim - len(others)
            first, *others = [slice(None)] * missing + others
        if not isinstance(first, slice):
            # numpy takes an empty list for floats
            first = np.asarray(first, dtype=int if np.size(first) == 0 else None)
        chosen = np.arange(len(self))[first]
        rows = np.atleast_1d(chosen)
        if self.rows is not None:
            rows = np.asarray(self.rows, dtype=int)[rows]
        images = np.zeros((0, *self.shape[1:]), np.float32)
        if len(rows):
            images = self._read(rows)
        if self.rounded:
            images = from_8bit(to_8bit(images))
        if np.ndim(chosen) == 0:
            return images[0][tuple(others)]
        return images[(slice(None), *others)]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Read rows of the source, in any order: (m, 3, height, width) float32."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[np.ndarray]:
        for row in range(len(self)):
            yield self[row]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        wanted = self.dtype if dtype is None else dtype
        return self[:].astype(wanted, copy=False)

    def min(self) -> np.float32:
        """Find the smallest value, reading block by block.

        Returns
        -------
        float32
            Of all images.
        """
        smallest = [block.min() for block in blocks(self)]
        return min(smallest)

    def max(self) -> np.float32:
        """Find the largest value, reading block by block.

        Returns
        -------
        float32
            Of all images.
        """
        largest = [block.max() for block in blocks(self)]
        return max(largest)

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Name some of the images without reading them.

        Parameters
        ----------
        rows : sequence of int
            Which, in this order.

        Returns
        -------
        ImagesOnDisk
            Of the same source.
        """
        inside = np.asarray(rows, dtype=int)
        if self.rows is not None:
            inside = np.asarray(self.rows, dtype=int)[inside]
        numbers = tuple(inside.tolist())
        shape = (len(numbers), *self.shape[1:])
        return replace(self, rows=numbers, shape=shape)


@short_repr
@dataclass(frozen=True, kw_only=True)
class StoredImages(ImagesOnDisk):
    """Images that stay in their HDF5 file.

    Parameters
    ----------
    path : Path
        File written by `write_stimuli`.
    shape : tuple of int
        (n, 3, height, width).
    rows : tuple of int, optional
        The rows of the file that these images are; all by default.
    rounded : bool
        Round to 8 bits on reading.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import read_stimuli, write_stimuli
    >>> with TemporaryDirectory() as folder:
    ...     stored = read_stimuli(write_stimuli(photographs, folder), in_memory=False).images
    ...     type(stored).__name__, stored.shape, np.array_equal(stored[1], images[1])
    ('StoredImages', (2, 3, 32, 32), True)
    """

    path: Path

    def _read(self, rows: np.ndarray) -> np.ndarray:
        increasing, back = np.unique(rows, return_inverse=True)  # HDF5 reads increasing rows only
        first, last = int(increasing[0]), int(increasing[-1])
        wanted: Any = increasing
        if last - first + 1 == len(increasing):
            wanted = slice(first, last + 1)
        with open_hdf5(self.path) as file:
            images: np.ndarray = file["images"][wanted]
        if np.array_equal(increasing, rows):
            return images
        return images[back]


@short_repr
@dataclass(frozen=True, kw_only=True)
class PictureFiles(ImagesOnDisk):
    """Images that stay in their PNG files, as `write_stimuli` wrote them.

    Parameters
    ----------
    files : tuple of Path
        8-bit RGB files, one an image.
    shape : tuple of int
        (n, 3, height, width).
    rows : tuple of int, optional
        Positions in `files` of these images; all by default.
    rounded : bool
        The files hold 8 bits already.
    """

    files: tuple[Path, ...]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        pictures = [read_png(self.files[row]) for row in rows]
        return np.stack(pictures)


@dataclass(frozen=True, kw_only=True)
class JoinedImages(ImagesOnDisk):
    """Several stores and arrays of images, one after another.

    Parameters
    ----------
    parts : tuple of ndarray or ImagesOnDisk
        (n, 3, height, width) float32 each, of one size.
    shape : tuple of int
        (n, 3, height, width) of all together.
    rows : tuple of int, optional
        Positions of these images among all of them; all by default.
    rounded : bool
        Round to 8 bits on reading.
    """

    parts: tuple[np.ndarray | ImagesOnDisk, ...]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        shape = (len(rows), *self.shape[1:])
        images = np.empty(shape, np.float32)
        first = 0
        for part in self.parts:
            end = first + len(part)
            is_inside = (rows >= first) & (rows < end)
            inside = np.flatnonzero(is_inside)
            if len(inside):
                own_rows = rows[inside] - first
                images[inside] = part[own_rows]
            first = end
        return images


def join_images(parts: Sequence[np.ndarray | ImagesOnDisk]) -> np.ndarray | ImagesOnDisk:
    """Put images one after another; in memory when they are few, else where they are.

    Parameters
    ----------
    parts : sequence of ndarray or ImagesOnDisk
        At least one; (n, 3, height, width) float32 each, of one size.

    Returns
    -------
    ndarray or ImagesOnDisk
        An array of at most `LARGEST_IN_MEMORY` bytes, or of parts that are arrays all; else the
        images on disk.
    """
    if len(parts) == 1:
        return parts[0]
    are_arrays = all(isinstance(part, np.ndarray) for part in parts)
    n_bytes = sum(part.nbytes for part in parts)
    if are_arrays or n_bytes <= LARGEST_IN_MEMORY:
        arrays = [np.asarray(part) for part in parts]
        return np.concatenate(arrays)
    n_images = sum(map(len, parts))
    shape = (n_images, *parts[0].shape[1:])
    return JoinedImages(parts=tuple(parts), shape=shape)


def blocks(images: np.ndarray | ImagesOnDisk) -> Iterator[np.ndarray]:
    """Go through images a block at a time.

    Parameters
    ----------
    images : ndarray or ImagesOnDisk
        (n, 3, height, width).

    Yields
    ------
    ndarray
        At most `BLOCK` images.
    """
    n = len(images)
    for start in range(0, n, BLOCK):
        stop = start + BLOCK
        yield images[start:stop]


def digest_images(images: np.ndarray | ImagesOnDisk) -> str:
    """Hash images: `neurometamer.provenance.digest` of the array, block by block.

    Parameters
    ----------
    images : ndarray or ImagesOnDisk
        (n, 3, height, width) float32.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    kind = np.dtype(np.float32)
    return digest_blocks(blocks(images), kind, images.shape)


def digest_levels(images: np.ndarray | ImagesOnDisk) -> str:
    """Hash the 8-bit levels of images, block by block.

    The hash is `neurometamer.store.digest` of ``to_8bit(images)``.

    Parameters
    ----------
    images : ndarray or ImagesOnDisk
        (n, 3, height, width) float32 in [0, 1].

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    kind = np.dtype(np.uint8)
    levels = map(to_8bit, blocks(images))
    return digest_blocks(levels, kind, images.shape)


def digest_blocks(parts: Iterator[np.ndarray], dtype: np.dtype, shape: Sequence[int]) -> str:
    """Hash an array given in blocks as `neurometamer.provenance.digest` hashes it whole.

    Parameters
    ----------
    parts : iterator of ndarray
        The array's blocks along the first axis, in order.
    dtype : numpy.dtype
        Type of the array.
    shape : sequence of int
        Shape of the array.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    head = f"array {dtype.str} {tuple(shape)}"
    state = hashlib.sha256(head.encode())
    for part in parts:
        block = np.ascontiguousarray(part, dtype=dtype)
        state.update(block.data)
    hashed = state.hexdigest()
    return hashed[:16]


# ---------------------------------------------------------------------------------------- PNG files


def write_png(path: Path, image: np.ndarray) -> None:
    """Write one image as an 8-bit RGB PNG, rounded, atomically.

    Parameters
    ----------
    path : Path
        Final file.
    image : ndarray
        (3, height, width) float32 in [0, 1].
    """
    from PIL import Image

    with atomic_path(path) as part:
        levels = to_8bit(image).transpose(1, 2, 0)
        picture = Image.fromarray(np.ascontiguousarray(levels))
        picture.save(part)


def read_png(path: Path) -> np.ndarray:
    """Read an image written by `write_png`.

    Parameters
    ----------
    path : Path
        8-bit RGB PNG.

    Returns
    -------
    ndarray
        (3, height, width) float32 in [0, 1].

    Raises
    ------
    InputError
        When the file is missing, cannot be decoded or is not RGB.
    """
    from PIL import Image

    if not path.exists():
        raise InputError(f"{path} does not exist; write the stimuli again.")
    with reading(path, "an image that can be decoded") as plain, Image.open(plain) as image:
        if image.mode != "RGB":
            raise InputError(
                f"{path} is a {image.mode} image, not the RGB image that was written; write it "
                "again."
            )
        return from_8bit(np.asarray(image)).transpose(2, 0, 1).copy()


@checked_with(finite=("image",), shapes={"image": "3 height width"})
def write_png16(path: str | os.PathLike[str], image: np.ndarray) -> Path:
    """Write one image as a 16-bit RGB PNG, rounded, atomically.

    Parameters
    ----------
    path : path-like
        Final file.
    image : ndarray
        (3, height, width) in [0, 1].

    Returns
    -------
    Path
        The file; viewers that know only 8 bits show its high 8 bits.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((3, 32, 32), dtype="float32")
    >>> from stimuli_gen import write_png16
    >>> with TemporaryDirectory() as folder:
    ...     write_png16(f"{folder}/image.png", image).name
    'image.png'
    """
    exact = np.asarray(image, dtype=np.float64).transpose(1, 2, 0)
    levels = np.rint(exact * _LEVELS).astype(">u2")
    height, width = levels.shape[:2]
    lines = levels.reshape(height, -1).view(np.uint8)
    filters = np.zeros((height, 1), np.uint8)  # each line begins with its filter: 0, none
    body = np.hstack([filters, lines]).tobytes()
    chunks = {
        b"IHDR": struct.pack(">II", width, height) + _KIND,
        b"IDAT": zlib.compress(body, 6),
        b"IEND": b"",
    }
    file = _SIGNATURE
    for name, data in chunks.items():
        length = struct.pack(">I", len(data))
        checksum = struct.pack(">I", zlib.crc32(name + data))
        file += length + name + data + checksum
    with atomic_path(path) as part:
        part.write_bytes(file)
    return Path(path)


@checked
def read_png16(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image written by `write_png16`.

    Parameters
    ----------
    path : path-like
        16-bit RGB PNG without line filters; other PNGs are refused.

    Returns
    -------
    ndarray
        (3, height, width) float32 in [0, 1]: the 16-bit levels divided by 65535.

    Raises
    ------
    InputError
        When the file is missing, damaged or of another kind.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((3, 32, 32), dtype="float32")
    >>> from stimuli_gen import read_png16, write_png16
    >>> with TemporaryDirectory() as folder:
    ...     again = read_png16(write_png16(f"{folder}/image.png", image))
    >>> bool(np.abs(again - image).max() <= 0.5 / 65535 + 1e-7)
    True
    """
    with reading(path, "a 16-bit PNG of ours") as plain:
        data = plain.read_bytes()
        if not data.startswith(_SIGNATURE):
            raise ValueError("no PNG signature")
        position = len(_SIGNATURE)
        chunks = {b"IHDR": b"", b"IDAT": b""}
        while position < len(data):
            (length,) = struct.unpack_from(">I", data, position)
            start = position + 8
            end = start + length
            name, content = data[position + 4 : start], data[start:end]
            (checksum,) = struct.unpack_from(">I", data, end)
            if checksum != zlib.crc32(name + content):
                raise ValueError("damaged chunk")
            chunks[name] = chunks.get(name, b"") + content  # those of one name are joined
            position = end + 4
        header, body = chunks[b"IHDR"], zlib.decompress(chunks[b"IDAT"])
        width, height = struct.unpack(">II", header[:8])
        line = 1 + 6 * width
        if header[8:] != _KIND or b"IEND" not in chunks or any(body[::line]):
            raise ValueError("other bits, colors or filters, or cut off")
        lines = np.frombuffer(body, np.uint8).reshape(height, line)
    pixels = np.ascontiguousarray(lines[:, 1:])
    levels = pixels.view(">u2").reshape(height, width, 3)
    image = levels.transpose(2, 0, 1) / _LEVELS
    return image.astype(np.float32)
