"""Convert any image file to 8-bit RGB and note what was done, or say why it cannot be done."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import fits, shown
from neurometamer.errors import InputError, unknown_name

if TYPE_CHECKING:
    from PIL import Image

BACKGROUND = 128
"""Gray level (0 to 255) that shows through transparent pixels: mid-gray, the usual background in
the scanner."""
PROFILES = ("ignore", "convert")
"""What to do with a color profile (ICC) other than sRGB: take the levels as they are, or convert
them to sRGB."""
DARK_16BIT = 2**14
"""A 16-bit image whose levels all are below this holds data of 8 to 14 bits, or is too dark to be
seen."""
ALMOST_BLACK = 16
"""An 8-bit image whose levels all are below this is told."""
SRGB_TOLERANCE = 2
"""Levels of 255 by which a profile may differ from sRGB and still be called sRGB."""
_NOT_DECODED = frozenset({"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR"})
"""What Pillow identifies but does not decode itself: it has no decoder, or starts another program
(EPS, WMF)."""
_ORIENTATION, _EXIF_IFD, _COLOR_SPACE, _INTEROPERABILITY = 0x0112, 0x8769, 0xA001, 0xA005
_TURNED = range(2, 9)
"""Orientations of EXIF other than upright; other numbers mean nothing."""
_ADOBE_RGB = 2


# -------------------------------------------------------------------------------------------- files


def readable_suffixes() -> frozenset[str]:
    """List the file name endings that can be read here, in lower case.

    Returns
    -------
    frozenset of str
        Those of all formats that the installed Pillow decodes; ``.heic`` and ``.heif`` where
        pillow-heif is installed.
    """
    # MPO: several JPEG images in one file, which the decoder of JPEG opens
    formats = {*readable_formats(), "MPO"}
    suffixes = set()
    for suffix, name in _registered_suffixes().items():
        if name in formats:
            suffixes.add(suffix)
    return frozenset(suffixes)


def readable_formats() -> list[str]:
    """List Pillow's names of the formats that can be read here.

    Returns
    -------
    list of str
        Formats with a decoder of Pillow's own; nothing starts another program.
    """
    from PIL import Image

    _registered_suffixes()
    return [name for name in Image.ID if name not in _NOT_DECODED]


def _registered_suffixes() -> dict[str, str]:
    from PIL import Image

    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
    return Image.registered_extensions()


def open_photograph(
    path: Path, *, bits: int | None = None, icc: str = "ignore"
) -> tuple[Image.Image, str]:
    """Decode one file and convert it to 8-bit RGB.

    Parameters
    ----------
    path : Path
        Image file.
    bits, icc
        See `convert_photograph`.

    Returns
    -------
    rgb : PIL.Image.Image
        RGB, 8 bits.
    note : str
        What was converted.

    Raises
    ------
    InputError
        When the file is missing, is of no known format, cannot be decoded, or is too large.
    """
    from PIL import Image

    size = ""
    try:
        with warnings.catch_warnings():
            # up to 179 million pixels are decoded
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=readable_formats()) as opened:
                size = f" for its {opened.width} x {opened.height} pixels"
                return convert_photograph(opened, bits=bits, icc=icc)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("it does not exist") from None
    except MemoryError:
        raise InputError(f"there is not enough memory{size}; make it smaller") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise InputError(f"it has more than {limit:.0f} million pixels; make it smaller") from None
    except Exception as error:
        # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, EOFError …
        raise InputError(f"it cannot be decoded ({type(error).__name__})") from error


def cannot_use(path: Path, problem: InputError, cure: str) -> InputError:
    """Build the error for a file that `open_photograph` refused.

    It is for callers where bits and profiles cannot be chosen.

    Parameters
    ----------
    path : Path
        The file.
    problem : InputError
        What `open_photograph` raised.
    cure : str
        What to do about it there.

    Returns
    -------
    InputError
        To be raised by the caller.
    """
    reason, _, _ = str(problem).rstrip(".").partition(";")
    if reason.startswith("it "):
        return InputError(f"image {path} {reason.removeprefix('it ')}; {cure}")
    return InputError(f"image {path}: {reason}; {cure}")


# --------------------------------------------------------------------------------------- conversion


def convert_photograph(
    photograph: Image.Image, *, bits: int | None = None, icc: str = "ignore"
) -> tuple[Image.Image, str]:
    """Convert any decoded image to 8-bit RGB and say what was done.

    Parameters
    ----------
    photograph : PIL.Image.Image
        Any mode: gray, palette, transparent, CMYK, 16 bits. Floating-point images are refused.
    bits : int, optional
        How many bits of a 16-bit gray file hold data, 8 to 16: its white is ``2**bits - 1``. Files
        of 8 bits are not affected. By default 16, and files with no level above 16383, which are
        mostly of cameras and scanners with 10 to 14 bits, are refused.
    icc : {"ignore", "convert"}
        Color profile (ICC) other than sRGB: take the levels as they are, as torchvision does, or
        convert them to sRGB (relative colorimetric, black point compensation).

    Returns
    -------
    rgb : PIL.Image.Image
        Upright (EXIF orientation applied), RGB, 8 bits. 16-bit gray levels are divided by 257 and
        rounded; the transparent parts show mid-gray (`BACKGROUND`).
    note : str
        Empty when nothing was changed or left out of account.

    Raises
    ------
    InputError
        When the levels have no agreed range, or a profile is to be converted and cannot be.
    """
    from PIL import ImageOps

    check_reading(bits, icc)
    notes = []
    if getattr(photograph, "n_frames", 1) > 1:
        notes.append(f"first of {photograph.n_frames} frames")  # type: ignore[attr-defined]
    held = 0  # bits a channel of a TIFF (tag 258) or PNG (byte 24)
    stream = getattr(photograph, "fp", None)
    if photograph.format == "TIFF":
        held = max(photograph.tag_v2.get(258, (0,)))  # type: ignore[attr-defined]
    elif photograph.format == "PNG" and stream is not None:
        position = stream.tell()
        stream.seek(24)
        header = stream.read(1)
        stream.seek(position)
        held = header[0] if header else 0
    deep_color = held == 16 and not photograph.mode.startswith("I")
    if deep_color:
        notes.append("16 bits a channel: the high 8 kept")  # what Pillow gives
    notes.append(_color_note(photograph))
    if photograph.getexif().get(_ORIENTATION, 1) in _TURNED:
        notes.append("turned upright (EXIF)")
        photograph = ImageOps.exif_transpose(photograph)
    profile = photograph.info.get("icc_profile")
    deep_gray = photograph.mode.startswith("I") or photograph.mode == "F"
    if deep_gray:
        photograph, note = _from_deep_gray(photograph, bits)
        notes.append(note)
    if profile:
        photograph, note = _with_profile(photograph, profile, icc)
        notes.append(note)
    photograph, note = _to_rgb(photograph)
    notes += [] if deep_gray else [note]
    extrema = np.asarray(photograph.getextrema())
    brightest = int(extrema.max())
    if deep_color and brightest < DARK_16BIT // 256 and bits != 16:
        raise InputError(
            f"none of its 16-bit levels is above {256 * brightest + 255}: it is almost black, or "
            "holds fewer bits than its file; save it with 8 bits a channel, or say that it has 16 "
            "(bits = 16, --bits 16, or 16 in the column bits of a CSV with the column file)"
        )
    if brightest < ALMOST_BLACK:
        notes.append(f"almost black: its brightest level is {brightest} of 255")
    return photograph, "; ".join(filter(None, notes))


def check_reading(bits: int | None, icc: str) -> None:
    """Refuse settings that `convert_photograph` does not know.

    Parameters
    ----------
    bits, icc
        See `convert_photograph`.

    Raises
    ------
    InputError
        When one is unknown.
    """
    if bits is not None:
        in_range = fits(bits, int) and 8 <= bits <= 16
        if not in_range:
            raise InputError(
                f"bits must be a whole number from 8 to 16, not {shown(bits)}; give 12, say."
            )
    if icc not in PROFILES:
        raise unknown_name("way with color profiles (icc)", str(icc), PROFILES)


def _from_deep_gray(photograph: Image.Image, bits: int | None) -> tuple[Image.Image, str]:
    """Scale 16-bit gray levels to 8 bits."""
    from PIL import Image

    levels = np.asarray(photograph)
    brightest = levels.max()
    if photograph.mode == "F" or levels.min() < 0 or brightest > 65535:
        raise InputError("its levels are not 8 or 16 bits; save it with 8 bits a channel.")
    if bits is None and 0 < brightest < DARK_16BIT:
        n_bits = int(brightest).bit_length()
        held = max(8, n_bits + n_bits % 2)
        raise InputError(
            f"its 16-bit levels go to {brightest} of 65535 only, as data of {held} bits do; say "
            f"how many bits hold data (bits = {held}, --bits {held}, or a CSV with the columns "
            "file and bits), or that it is dark (16)"
        )
    bits = 16 if bits is None else bits
    white = 2**bits - 1
    if brightest > white:
        raise InputError(
            f"its levels go to {brightest}, more than {bits} bits hold ({white}); give more bits"
        )
    scaled = np.rint(np.arange(white + 1) * (255 / white))
    eight_bits = scaled.astype(np.uint8)
    gray = Image.fromarray(eight_bits[levels])
    data = "16-bit gray" if bits == 16 else f"{bits}-bit gray in a 16-bit file"
    return gray, f"{data} scaled to 8 bits, converted to RGB"


def _to_rgb(photograph: Image.Image) -> tuple[Image.Image, str]:
    """Convert 8-bit images of any mode."""
    from PIL import Image

    mode = photograph.mode
    if mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in photograph.info:
        rgba = photograph.convert("RGBA")
        lowest, _ = rgba.getchannel("A").getextrema()
        if lowest == 255:
            return rgba.convert("RGB"), "opaque alpha channel dropped"
        ground = Image.new("RGBA", rgba.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        opaque = Image.alpha_composite(ground, rgba)
        return opaque.convert("RGB"), "transparency put on mid-gray"
    if mode == "RGB":
        return photograph.convert("RGB"), ""
    words = {"L": "gray", "1": "black and white", "P": "palette"}.get(mode, mode)
    return photograph.convert("RGB"), f"{words} converted to RGB"


# ----------------------------------------------------------------------------------- color profiles


def _color_note(photograph: Image.Image) -> str:
    """Say what a file without a color profile tells of its colors, where that is not sRGB."""
    if photograph.info.get("icc_profile"):
        return ""
    gamma = photograph.info.get("gamma")
    is_srgb = "srgb" in photograph.info
    if gamma and not is_srgb and abs(gamma - 1 / 2.2) > 0.01:
        return f"gamma of the file ({gamma:g}) not applied: levels taken as sRGB"
    exif = photograph.getexif()
    details = exif.get_ifd(_EXIF_IFD)
    space = details.get(_COLOR_SPACE)
    interoperability: Mapping[int, Any] = {}
    with contextlib.suppress(KeyError):  # raised by Pillow before 12 where a file has no such block
        interoperability = exif.get_ifd(_INTEROPERABILITY)
    if space == _ADOBE_RGB or interoperability.get(1) == "R03":
        return "Adobe RGB by its EXIF, without a color profile: levels taken as sRGB"
    return ""


def _with_profile(photograph: Image.Image, profile: bytes, icc: str) -> tuple[Image.Image, str]:
    """Convert the levels to sRGB where that is asked for and needed."""
    kind, name, is_srgb = _describe_profile(profile)
    if is_srgb:
        return photograph, ""
    is_cmyk = photograph.mode == "CMYK"
    usable = kind in ("RGB", "L", "CMYK") and (kind == "CMYK") == is_cmyk
    if icc == "ignore":
        what = f"color profile '{name}'" if kind else "damaged color profile"
        return photograph, f"{what} not applied: levels taken as sRGB"
    if not usable:
        raise InputError(
            f"its color profile '{name}' is damaged or does not fit its levels; save it as sRGB"
        )
    alpha = None
    if photograph.mode in ("LA", "PA", "RGBA") or "transparency" in photograph.info:
        photograph = photograph.convert("RGBA")
        alpha = photograph.getchannel("A")
    transform = _transform(profile, kind)
    converted = transform(photograph.convert(kind))
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, f"color profile '{name}' converted to sRGB"


@lru_cache(maxsize=32)
def _describe_profile(profile: bytes) -> tuple[str, str, bool]:
    """Describe a color profile.

    Returns the Pillow mode that the profile is for ("" when it is damaged), its name, and whether
    its numbers are those of sRGB.
    """
    from PIL import Image, ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(opened).strip() or "unnamed"
        space = opened.profile.xcolor_space.strip()
        kind = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space, space)
        if kind not in ("RGB", "L"):
            return kind, name, False
        ramp = np.arange(0, 256, 15, dtype=np.uint8)
        if kind == "RGB":
            grid = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1)
            levels = expected = grid.reshape(len(ramp), -1, 3)
        else:
            levels = ramp[None]
            expected = np.repeat(levels[..., None], 3, axis=-1)
        transform = _transform(profile, kind)
        converted = np.asarray(transform(Image.fromarray(levels)))
    except (OSError, ImageCms.PyCMSError, ValueError):
        return "", "damaged", False
    change = np.abs(converted.astype(int) - expected)
    return kind, name, bool(change.max() <= SRGB_TOLERANCE)


@lru_cache(maxsize=32)
def _transform(profile: bytes, kind: str) -> Any:
    """Make the function from an image of mode `kind` to sRGB."""
    from PIL import ImageCms

    given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(
        given,
        ImageCms.createProfile("sRGB"),
        kind,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return lambda image: ImageCms.applyTransform(image, transform)
