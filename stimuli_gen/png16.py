"""PNG files with 16 bits a channel, which Pillow cannot write: steps of 1/65535 instead of 1/255.

References
----------
Portable Network Graphics (PNG) Specification, W3C Recommendation, third edition (2025): chunks
(section 5), IHDR (11.2.2), no filter on any line (9.2), zlib (10).
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np

from neurometamer.arguments import checked, checked_with
from neurometamer.reading import reading
from neurometamer.store import atomic_path

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KIND = struct.pack(
    ">BBBBB", 16, 2, 0, 0, 0
)  # 16 bits, RGB, zlib, adaptive filters, not interlaced
_LEVELS = 65535


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
    levels = np.rint(np.asarray(image, dtype=np.float64).transpose(1, 2, 0) * _LEVELS).astype(">u2")
    height, width = levels.shape[:2]
    lines = levels.reshape(height, -1).view(np.uint8)
    body = np.hstack(
        [np.zeros((height, 1), np.uint8), lines]
    ).tobytes()  # a line begins with its filter: 0, none
    header = struct.pack(">II", width, height) + _KIND
    file = _SIGNATURE
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(body, 6)), (b"IEND", b"")):
        checksum = zlib.crc32(name + data)
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
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
        (width, height), body = _decode(plain.read_bytes())
        lines = np.frombuffer(body, np.uint8).reshape(height, 1 + 6 * width)
    levels = np.ascontiguousarray(lines[:, 1:]).view(">u2").reshape(height, width, 3)
    return (levels.transpose(2, 0, 1) / _LEVELS).astype(np.float32)


def _decode(data: bytes) -> tuple[tuple[int, int], bytes]:
    """Check and join the chunks: (width, height), filter bytes and pixels."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("no PNG signature")
    position, chunks = len(_SIGNATURE), {b"IHDR": b"", b"IDAT": b""}
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name, content = (
            data[position + 4 : position + 8],
            data[position + 8 : position + 8 + length],
        )
        if struct.unpack_from(">I", data, position + 8 + length) != (zlib.crc32(name + content),):
            raise ValueError("damaged chunk")
        chunks[name] = chunks.get(name, b"") + content
        position += 12 + length
    header, body = chunks[b"IHDR"], zlib.decompress(chunks[b"IDAT"])
    size = struct.unpack(">II", header[:8])
    if header[8:] != _KIND or b"IEND" not in chunks or any(body[:: 1 + 6 * size[0]]):
        raise ValueError("other bits, colors or filters, or cut off")
    return (size[0], size[1]), body
