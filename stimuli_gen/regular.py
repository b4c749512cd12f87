"""Regular images (RE): photographs cut to what a network sees, exactly as the network was trained to see them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.store import InputError, digest, duplicates, file_name, name_ids, provenance, read_table, unknown_name
from neurometamer.summaries import short_repr
from stimuli_gen.stimuli import StimulusSet, from_8bit

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("bicubic", "bilinear")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm")
KINDS = ("RE", "AN", "AI", "metamer", "control")
"""Regular image, adversarial noise, adversarial interference, metamer, control image."""
BACKGROUND = 128
"""Grey level (0 to 255) that shows through transparent pixels: mid-grey, the usual background in the scanner."""

_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets", "images")
PACKAGED: Mapping[str, tuple[tuple[str, ...], str, str]] = {
    "astronaut": (_SKIMAGE, "astronaut.png", "person"),
    "brick": (_SKIMAGE, "brick.png", "texture"),
    "camera": (_SKIMAGE, "camera.png", "person"),
    "cat": (_SKIMAGE, "chelsea.png", "animal"),
    "china": (_SKLEARN, "china.jpg", "scene"),
    "clock": (_SKIMAGE, "clock_motion.png", "object"),
    "coffee": (_SKIMAGE, "coffee.png", "object"),
    "coins": (_SKIMAGE, "coins.png", "object"),
    "flower": (_SKLEARN, "flower.jpg", "plant"),
    "grass": (_SKIMAGE, "grass.png", "texture"),
    "gravel": (_SKIMAGE, "gravel.png", "texture"),
    "hubble_deep_field": (_SKIMAGE, "hubble_deep_field.jpg", "scene"),
    "moon": (_SKIMAGE, "moon.png", "scene"),
    "motorcycle": (_SKIMAGE, "motorcycle_left.png", "object"),
    "retina": (_SKIMAGE, "retina.jpg", "texture"),
    "rocket": (_SKIMAGE, "rocket.jpg", "object"),
}
"""Photographs inside the scikit-image and scikit-learn wheels: id → (package folder, file, rough category)."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a photograph becomes a network's input: resize the shorter side, cut the centre, normalize.

    Parameters
    ----------
    size : tuple of int
        (height, width) of the input, pixels.
    resize : int
        Length of the shorter side before the cut, pixels; at least the longer side of `size`.
    interpolation : {"bicubic", "bilinear"}
        Pillow's filter, antialiased, on 8-bit values, as in training pipelines.
    mean, std : tuple of float
        Per channel, for pixels in [0, 1]. Applied inside the network's wrapper, never to stored images.

    Raises
    ------
    InputError
        When a value makes no sense.
    """

    size: tuple[int, int]
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, n, kind in (("size", 2, int), ("mean", 3, float), ("std", 3, float)):
            values = tuple(map(kind, getattr(self, name)))
            if len(values) != n:
                raise InputError(f"preprocessing: {name} needs {n} values, not {len(values)}.")
            object.__setattr__(self, name, values)
        if min(self.size) < 1 or self.resize < max(self.size):
            raise InputError(f"preprocessing: resize ({self.resize}) must be at least the input size {self.size}.")
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        if not (np.isfinite([*self.mean, *self.std]).all() and min(self.std) > 0):
            raise InputError(f"preprocessing: mean ({self.mean}) must be finite and std ({self.std}) positive.")

    def cut(self, photograph: Image.Image) -> np.ndarray:
        """Resize and centre-cut one RGB photograph.

        Parameters
        ----------
        photograph : PIL.Image.Image
            RGB, 8 bits.

        Returns
        -------
        ndarray
            (3, height, width) float32 in [0, 1]; equal bit for bit to torchvision's ``Resize``, ``CenterCrop``
            and ``ToTensor`` on a Pillow image.
        """
        from PIL import Image

        width, height = photograph.size
        short, long = self.resize, int(self.resize * max(width, height) / min(width, height))
        new = (short, long) if width <= height else (long, short)
        resized = photograph.resize(new, Image.Resampling[self.interpolation.upper()])
        left, top = round((new[0] - self.size[1]) / 2), round((new[1] - self.size[0]) / 2)
        cut = resized.crop((left, top, left + self.size[1], top + self.size[0]))
        return from_8bit(np.asarray(cut)).transpose(2, 0, 1).copy()


# ------------------------------------------------------------------------------------------------ conversion


def convert_photograph(photograph: Image.Image) -> tuple[Image.Image, str]:
    """Convert any decoded image to 8-bit RGB and say what was done.

    Parameters
    ----------
    photograph : PIL.Image.Image
        Any mode: grey, palette, transparent, CMYK, 16 bits. Floating-point images are refused.

    Returns
    -------
    rgb : PIL.Image.Image
        Upright (EXIF orientation applied), RGB, 8 bits. 16-bit grey levels are divided by 257 and rounded; the
        transparent parts show mid-grey (`BACKGROUND`).
    note : str
        Empty when nothing was changed.

    Raises
    ------
    InputError
        When the levels have no agreed range.
    """
    from PIL import ImageOps

    notes = []
    if getattr(photograph, "n_frames", 1) > 1:
        notes.append(f"first of {photograph.n_frames} frames")  # type: ignore[attr-defined]
    if _bits(photograph) == 16 and not photograph.mode.startswith("I"):
        notes.append("16 bits a channel: the high 8 kept")  # what Pillow gives
    if photograph.getexif().get(0x0112, 1) != 1:
        notes.append("turned upright (EXIF)")
        photograph = ImageOps.exif_transpose(photograph)
    mode = photograph.mode
    if mode.startswith("I") or mode == "F":
        photograph, note = _from_deep_grey(photograph)
        notes.append(note)
    elif mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in photograph.info:
        photograph, note = _from_transparent(photograph)
        notes.append(note)
    elif mode != "RGB":
        notes.append({"L": "grey", "1": "black and white", "P": "palette"}.get(mode, mode) + " converted to RGB")
    return photograph.convert("RGB"), "; ".join(notes)


def _bits(photograph: Image.Image) -> int:
    """Bits a channel of a TIFF (tag 258) or PNG (byte 24 of the file, in the header chunk); 0 for other files."""
    if photograph.format == "TIFF":
        return max(photograph.tag_v2.get(258, (0,)))  # type: ignore[attr-defined]
    stream = getattr(photograph, "fp", None)
    if photograph.format != "PNG" or stream is None:
        return 0
    place = stream.tell()
    stream.seek(24)
    bits = stream.read(1)
    stream.seek(place)
    return bits[0] if bits else 0


def _from_deep_grey(photograph: Image.Image) -> tuple[Image.Image, str]:
    from PIL import Image

    levels = np.asarray(photograph)
    if photograph.mode == "F" or levels.min() < 0 or levels.max() > 65535:
        raise InputError("its levels are not 8 or 16 bits; save it with 8 bits a channel.")
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8)), "16-bit grey scaled to 8 bits, converted to RGB"


def _from_transparent(photograph: Image.Image) -> tuple[Image.Image, str]:
    from PIL import Image

    rgba = photograph.convert("RGBA")
    if np.asarray(rgba.getchannel("A")).min() == 255:
        return rgba.convert("RGB"), "opaque alpha channel dropped"
    ground = Image.new("RGBA", rgba.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
    return Image.alpha_composite(ground, rgba).convert("RGB"), "transparency put on mid-grey"


def _open(path: Path) -> tuple[Image.Image, str]:
    """Decode one file wholly; any way in which a broken file fails becomes an `InputError`."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            note_source = convert_photograph(opened)
        return note_source
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError("it does not exist") from None
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, ValueError, struct.error, EOFError …
        raise InputError(f"it cannot be decoded ({type(error).__name__})") from error


# --------------------------------------------------------------------------------------------------- loading


def load_photographs(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], preprocessing: Preprocessing
) -> StimulusSet:
    """Load photographs as regular images (kind ``RE``), or images made elsewhere with what a table says of them.

    Parameters
    ----------
    source : path-like or sequence of path-like
        A folder (all its image files, by name), a CSV or TSV file with the column ``file`` (relative to the table)
        and optionally ``id``, ``kind``, ``reference_id``, ``category``, ``target`` and others, which are kept, or a
        list of files. Where ``kind`` is absent or empty it is ``RE``; where ``reference_id`` is, the image's own id.
        Pictures of a table with the column ``kind`` were made for a network: those that have its input size already
        are taken as they are, since resizing would wash out what makes them adversarial.
    preprocessing : Preprocessing
        Of the network that will see them.

    Returns
    -------
    StimulusSet
        Id: the column ``id``, else the file's name without suffix. ``note`` says what was converted.

    Raises
    ------
    InputError
        When there are no images, files are missing or cannot be decoded, ids repeat or cannot name a file, a kind is
        unknown, a reference id is no image of the table, or that of a photograph is not its own.
    """
    listing = _listing(source)
    if again := duplicates(listing["id"]):
        files = listing.loc[listing["id"] == again[0], "file"]
        raise InputError(
            f"duplicate stimulus id(s): {name_ids(again)} (for example {' and '.join(map(str, files[:2]))}); "
            "rename a file or give a CSV with the column id."
        )
    return _load(listing, preprocessing)


def _listing(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> pd.DataFrame:
    """List the files: columns file (full path), id, and what the user's table adds."""
    if not isinstance(source, (str, os.PathLike)):
        return _list_files([Path(one) for one in source], "the list")
    path = Path(source)
    if path.is_dir():
        files = [one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")]
        return _list_files(sorted(files), str(path))
    if path.suffix.lower() in (".csv", ".tsv"):
        table = read_table(path, required=("file",))
        if table.empty or table[[one for one in ("file", "id") if one in table.columns]].isna().any(axis=None):
            raise InputError(f"{path} has no rows, or rows without a file or an id.")
        files = [path.parent / str(one) for one in table["file"]]
        ids = table["id"] if "id" in table.columns else [one.stem for one in files]
        return table.assign(file=pd.Series(files, dtype=object), id=ids)
    if path.is_file():
        return _list_files([path], str(path))
    raise InputError(f"{path} does not exist; give a folder of images, a CSV with the column file, or image files.")


def _list_files(files: Sequence[Path], where: str) -> pd.DataFrame:
    if not files:
        raise InputError(f"no images in {where}; known suffixes: {', '.join(SUFFIXES)}.")
    return pd.DataFrame({"file": pd.Series(list(files), dtype=object), "id": [one.stem for one in files]})


def _with_kinds(listing: pd.DataFrame) -> pd.DataFrame:
    """Fill in kind and reference id where the table does not give them, and check that they fit together."""
    ids = listing["id"].astype(str)
    kind = listing["kind"].fillna("RE") if "kind" in listing.columns else pd.Series("RE", index=listing.index)
    reference = listing["reference_id"].fillna(ids) if "reference_id" in listing.columns else ids
    if len(unknown := kind[~kind.isin(KINDS)]):
        raise unknown_name(f"kind of '{ids[unknown.index[0]]}'", unknown.iloc[0], KINDS)
    if len(lost := reference[~reference.isin(ids)]):
        raise InputError(
            f"the reference id(s) {name_ids(lost)} of {name_ids(ids[lost.index])} are no images of the table; "
            "add the photographs they were made from."
        )
    if len(astray := ids[(kind == "RE") & (reference != ids)]):
        raise InputError(
            f"photograph(s) (kind RE) whose reference_id is not their own id: {name_ids(astray)}; "
            "give them their kind (AN, AI …) or leave reference_id empty."
        )
    return listing.assign(kind=kind, reference_id=reference)


def _load(listing: pd.DataFrame, preprocessing: Preprocessing) -> StimulusSet:
    for one in listing["id"]:
        file_name(str(one))
    finished = "kind" in listing.columns
    listing = _with_kinds(listing)
    images, notes, problems = [], [], {}
    for file in listing["file"]:
        try:
            photograph, note = _open(file)
        except InputError as error:
            problems[file.name] = str(error)
            continue
        fits = finished and photograph.size == preprocessing.size[::-1]
        images.append(from_8bit(np.asarray(photograph)).transpose(2, 0, 1) if fits else preprocessing.cut(photograph))
        notes.append("; ".join(filter(None, [note, _enlarged(photograph, preprocessing)])))
    if problems:
        first = next(iter(problems))
        raise InputError(f"cannot use the image(s) {name_ids(problems)}; {first}: {problems[first].rstrip('.')}.")
    given = listing["note"].fillna("").astype(str) if "note" in listing.columns else [""] * len(listing)
    table = listing.assign(
        file=[one.name for one in listing["file"]],
        note=["; ".join(filter(None, pair)) for pair in zip(given, notes, strict=True)],
    )
    first_columns = ["id", "kind", "reference_id"]
    table = table[first_columns + [name for name in table.columns if name not in first_columns]]
    stack = np.stack(images)
    settings: dict[str, Any] = {"preprocessing": asdict(preprocessing)}
    return StimulusSet(images=stack, table=table, provenance=provenance(settings, images=digest(stack)))


def _enlarged(photograph: Image.Image, preprocessing: Preprocessing) -> str:
    """Say so where a photograph has fewer pixels than the network's input."""
    width, height = photograph.size
    small = width < preprocessing.size[1] or height < preprocessing.size[0]
    return f"enlarged: only {width} x {height} pixels" if small else ""


def read_images(sources: Sequence[str | os.PathLike[str]], preprocessing: Preprocessing) -> StimulusSet:
    """Read images from any mix of stimulus folders, photograph folders and CSV files, as people are shown them.

    Parameters
    ----------
    sources : sequence of path-like
        Each a folder written by `stimuli_gen.write_stimuli`, a folder of photographs, or a CSV
        with the column ``file``.
    preprocessing : Preprocessing
        For photographs.

    Returns
    -------
    StimulusSet
        All of them, rounded to 8 bits.

    Raises
    ------
    InputError
        When there is nothing to read, ids repeat or sizes differ.
    """
    from stimuli_gen.stimuli import concat_stimuli

    if not sources:
        raise InputError("no images given; use --images FOLDER or --images TABLE.csv.")
    return concat_stimuli([_read_one(Path(source), preprocessing) for source in sources])


def _read_one(source: Path, preprocessing: Preprocessing) -> StimulusSet:
    from stimuli_gen.stimuli import read_stimuli

    made = source.is_dir() and (source / "stimuli.h5").is_file()
    return read_stimuli(source).as_shown() if made else load_photographs(source, preprocessing)


def packaged_photographs(preprocessing: Preprocessing) -> StimulusSet:
    """Load the 16 natural photographs that come inside the scikit-image and scikit-learn packages.

    Parameters
    ----------
    preprocessing : Preprocessing
        Of the network that will see them.

    Returns
    -------
    StimulusSet
        Kind ``RE``, ids and rough categories as in `PACKAGED`. Nothing is downloaded.

    Raises
    ------
    InputError
        When a package or one of its files is missing.
    """
    files = {name: _package_folder(parts[0]).joinpath(*parts[1:], file) for name, (parts, file, _) in PACKAGED.items()}
    if missing := [name for name, file in files.items() if not file.is_file()]:
        raise InputError(f"the installed packages lack the photograph(s) {name_ids(missing)}; update scikit-image.")
    categories = [category for _, _, category in PACKAGED.values()]
    listing = pd.DataFrame({"id": list(files), "category": categories})
    return _load(listing.assign(file=pd.Series(list(files.values()), dtype=object)), preprocessing)


def _package_folder(package: str) -> Path:
    """Find an installed package without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"the packaged photographs need {package}; install it with: pip install 'neurometamer[demo]', "
            "or give your own images."
        )
    return Path(found.submodule_search_locations[0])
