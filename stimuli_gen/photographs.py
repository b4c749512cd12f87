"""Load regular images (RE): photographs cut as they were for the training of the network."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import check_fields, checked, checked_with
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest, provenance
from neurometamer.reading import check_plain_file
from neurometamer.store import check_file_names
from neurometamer.summaries import short_repr
from stimuli_gen.conversion import check_reading, open_photograph
from stimuli_gen.photograph_lists import Listing, list_photographs
from stimuli_gen.stimuli import StimulusSet, concat_stimuli, read_stimuli
from stimuli_gen.stored_images import LARGEST_IN_MEMORY, ImagesOnDisk, digest_blocks, from_8bit

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("bicubic", "bilinear")
LARGEST_RESIZED = 2**24
"""Pixels; 256 x 65,536 for example. Resizing to more would cost memory for what the cut throws
away."""
KINDS = ("RE", "AN", "AI", "metamer", "control", "controversial", "eigendistortion")
"""Regular image, adversarial noise, adversarial interference, metamer, control image, image on
which networks disagree, eigendistortion."""

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
"""Photographs inside the scikit-image and scikit-learn wheels: id → (package folder, file, rough
category)."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Settings that make a network's input of a photograph.

    The shorter side is resized, the center is cut out, and the pixels are normalized.

    Parameters
    ----------
    size : tuple of int
        (height, width) of the input, pixels.
    resize : int
        Length of the shorter side before the cut, pixels; at least the longer side of `size`.
    interpolation : {"bicubic", "bilinear"}
        Pillow's filter, antialiased, on 8-bit values, as in training pipelines.
    mean, std : tuple of float
        Per channel, for pixels in [0, 1]. Applied inside the network's wrapper, never to stored
        images.

    Raises
    ------
    InputError
        When a value makes no sense.

    Examples
    --------
    >>> from PIL import Image
    >>> from stimuli_gen import Preprocessing
    >>> gray = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> preprocessing = Preprocessing(size=(224, 224), resize=256, interpolation="bilinear", **gray)
    >>> preprocessing.cut(Image.new("RGB", (640, 480), "white")).shape
    (3, 224, 224)
    """

    size: tuple[int, int]
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        check_fields(self)
        for name, kind in (("size", int), ("mean", float), ("std", float)):
            given = getattr(self, name)
            values = tuple(map(kind, given))
            object.__setattr__(self, name, values)
        if min(self.size) < 1 or self.resize < max(self.size):
            raise InputError(
                f"preprocessing: resize ({self.resize}) must be at least the input size "
                f"{self.size}; give a larger one."
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        moments = [*self.mean, *self.std]
        is_finite = np.isfinite(moments).all()
        smallest = min(self.std)
        if not (is_finite and smallest > 0):
            raise InputError(
                f"preprocessing: mean ({self.mean}) must be finite and std ({self.std}) positive; "
                "give those of the network's training."
            )

    def cut(self, photograph: Image.Image) -> np.ndarray:
        """Resize and centre-cut one RGB photograph.

        Parameters
        ----------
        photograph : PIL.Image.Image
            RGB, 8 bits.

        Returns
        -------
        ndarray
            (3, height, width) float32 in [0, 1]; equal bit for bit to torchvision's ``Resize``,
            ``CenterCrop`` and ``ToTensor`` on a Pillow image.
        """
        return from_8bit(self.cut_levels(photograph))

    def cut_levels(self, photograph: Image.Image) -> np.ndarray:
        """Resize and centre-cut one RGB photograph, as levels.

        Parameters
        ----------
        photograph : PIL.Image.Image
            RGB, 8 bits.

        Returns
        -------
        ndarray
            (3, height, width) uint8, 0 to 255. Of a photograph so long and thin that resizing it
            would take more than `LARGEST_RESIZED` pixels, only what the cut shows is resized; a
            level may then differ by 1 from that of a photograph resized whole.
        """
        from PIL import Image

        width, height = photograph.size
        shorter, longer = min(width, height), max(width, height)
        new_width = new_height = self.resize
        if width <= height:
            new_height = int(self.resize * longer / shorter)
        else:
            new_width = int(self.resize * longer / shorter)
        cut_height, cut_width = self.size
        left = round((new_width - cut_width) / 2)
        top = round((new_height - cut_height) / 2)
        right, bottom = left + cut_width, top + cut_height
        resample = Image.Resampling[self.interpolation.upper()]
        if new_width * new_height <= LARGEST_RESIZED:
            resized = photograph.resize((new_width, new_height), resample)
            cut = resized.crop((left, top, right, bottom))
        else:
            across, down = width / new_width, height / new_height
            shown = (left * across, top * down, right * across, bottom * down)
            cut = photograph.resize((cut_width, cut_height), resample, box=shown)
        return np.asarray(cut).transpose(2, 0, 1).copy()


# ------------------------------------------------------------------------------------------ loading


@checked_with(own=("source", "bits"))
def load_photographs(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    preprocessing: Preprocessing,
    *,
    bits: int | None = None,
    icc: str = "ignore",
) -> StimulusSet:
    """Load photographs as regular images (kind ``RE``), or images that were made elsewhere.

    Images made elsewhere keep what a table says of them.

    Parameters
    ----------
    source : path-like or sequence of path-like
        A folder (all its image files, by name), a CSV or TSV file with the column ``file``
        (relative to the table) and optionally ``id``, ``kind``, ``reference_id``, ``category``,
        ``target`` and others, which are kept, or a list of files. Where ``kind`` is absent or empty
        it is ``RE``; where ``reference_id`` is, the image's own id. Pictures of a table with the
        column ``kind`` were made for a network: those that have its input size already are taken as
        they are, since resizing would wash out what makes them adversarial. Folders inside a folder
        are classes, as in ImageNet: their name is the ``category``, also of images in folders
        further in.
    preprocessing : Preprocessing
        Preprocessing of the network that will see the photographs.
    bits : int, optional
        How many bits of 16-bit gray files hold data, 8 to 16; or for each file, the column ``bits``
        of a table. See `stimuli_gen.conversion.convert_photograph`.
    icc : {"ignore", "convert"}
        What to do with color profiles other than sRGB: nothing, as torchvision, but a note; or
        convert the levels to sRGB. Or for each file, the column ``icc`` of a table.

    Returns
    -------
    StimulusSet
        Id: the column ``id``, else the file's name without suffix (with its folder's name before
        it, where names repeat). ``note`` says what was converted. Images of more than 256 MiB in
        all stay in their files, and are read when indexed. ``provenance["folder"]`` tells what of a
        folder was left out, and what its folders became.

    Raises
    ------
    InputError
        When there are no images, files are missing or cannot be decoded, ids repeat, cannot name a
        file or differ in case only, a kind is unknown, a reference id is no image of the table, or
        that of a photograph is not its own.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from stimuli_gen import Preprocessing, load_photographs
    >>> gray = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> preprocessing = Preprocessing(size=(32, 32), resize=36, interpolation="bilinear", **gray)
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("L", (640, 480), 128).save(f"{folder}/plain.png")
    ...     photographs = load_photographs(folder, preprocessing)
    >>> photographs.ids, photographs.table["note"].tolist()
    (('plain',), ['gray converted to RGB'])
    """
    if not isinstance(preprocessing, Preprocessing):
        raise InputError(
            "preprocessing must be a Preprocessing, such as model.preprocessing, not "
            f"{preprocessing!r:.80}."
        )
    check_reading(bits, icc)
    return _load(list_photographs(source), preprocessing, bits=bits, icc=icc)


def _with_kinds(listing: pd.DataFrame) -> pd.DataFrame:
    """Fill in kind and reference id where the table lacks them, and check them."""
    ids = listing["id"].astype(str)
    kind = pd.Series("RE", index=listing.index)
    if "kind" in listing.columns:
        kind = listing["kind"].fillna("RE")
    reference = ids
    if "reference_id" in listing.columns:
        reference = listing["reference_id"].fillna(ids)
    unknown = kind[~kind.isin(KINDS)]
    if len(unknown):
        name = ids[unknown.index[0]]
        raise unknown_name(f"kind of '{name}'", unknown.iloc[0], KINDS)
    lost = reference[~reference.isin(ids)]
    if len(lost):
        of_lost = name_ids(ids[lost.index])
        raise InputError(
            f"the reference id(s) {name_ids(lost)} of {of_lost} are no images "
            "of the table; add the photographs they were made from."
        )
    is_astray = (kind == "RE") & (reference != ids)
    astray = ids[is_astray]
    if len(astray):
        raise InputError(
            f"photograph(s) (kind RE) whose reference_id is not their own id: {name_ids(astray)}; "
            "give them their kind (AN, AI …) or leave reference_id empty."
        )
    return listing.assign(kind=kind, reference_id=reference)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads one photograph: its 8-bit levels as the network sees them, and what was done to it."""

    preprocessing: Preprocessing
    finished: bool
    """Whether images of the network's input size are taken as they are."""

    def __call__(self, file: Path, bits: int | None, icc: str) -> tuple[np.ndarray, str]:
        photograph, note = open_photograph(file, bits=bits, icc=icc)
        width, height = photograph.size
        cut_height, cut_width = self.preprocessing.size
        if self.finished and (height, width) == (cut_height, cut_width):
            levels = np.asarray(photograph).transpose(2, 0, 1)
        else:
            levels = self.preprocessing.cut_levels(photograph)
        if width < cut_width or height < cut_height:
            enlarged = f"enlarged: only {width} x {height} pixels"
            note = f"{note}; {enlarged}" if note else enlarged
        return levels, note


@dataclass(frozen=True, kw_only=True)
class PhotographFiles(ImagesOnDisk):
    """Photographs that stay in their files and are decoded when indexed.

    Parameters
    ----------
    files : tuple of tuple
        For each file: its path, bits, way with color profiles, and the digest of its levels.
    reader : callable
        From the first three of these to levels (3, height, width) uint8 and a note.
    shape : tuple of int
        (n, 3, height, width).
    rows : tuple of int, optional
        Positions in `files` of these images; all by default.
    rounded : bool
        Changes nothing: the images have 8 bits.
    """

    files: tuple[tuple[Path, int | None, str, str], ...]
    reader: Callable[[Path, int | None, str], tuple[np.ndarray, str]]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        images = np.empty((len(rows), *self.shape[1:]), np.float32)
        for position, row in enumerate(rows):
            file, bits, icc, known = self.files[row]
            try:
                levels, _ = self.reader(file, bits, icc)
            except InputError as error:
                raise InputError(
                    f"cannot use the image {file.name}: {str(error).rstrip('.')}."
                ) from error
            if digest(levels) != known:
                raise InputError(
                    f"the image {file} has changed since it was loaded; load the photographs again."
                )
            images[position] = from_8bit(levels)
        return images


def _load(
    listing: Listing, preprocessing: Preprocessing, *, bits: int | None = None, icc: str = "ignore"
) -> StimulusSet:
    table = _with_kinds(listing.table)
    check_file_names(table["id"].astype(str))
    reader = _Reader(preprocessing=preprocessing, finished="kind" in listing.table.columns)
    ways = [icc] * len(table)
    if "icc" in table.columns:
        ways = table["icc"].fillna(icc).astype(str).tolist()
    for way in dict.fromkeys(ways):
        check_reading(None, way)
    files = list(zip(table["file"], _each_bits(table, bits), ways, strict=True))
    images, notes, pixels = _read_all(files, reader, (len(files), 3, *preprocessing.size))
    given = [""] * len(table)
    if "note" in table.columns:
        given = table["note"].fillna("").astype(str).tolist()
    all_notes = []
    for pair in zip(given, notes, strict=True):
        all_notes.append("; ".join(filter(None, pair)))
    table = table.assign(file=list(listing.shown), note=all_notes)
    first_columns = ["id", "kind", "reference_id"]
    others = [name for name in table.columns if name not in first_columns]
    table = table[first_columns + others]
    settings: dict[str, Any] = {"preprocessing": asdict(preprocessing)}
    if bits is not None:
        settings["bits"] = bits
    if icc != "ignore":
        settings["icc"] = icc
    inputs: dict[str, Any] = {"images": pixels}
    if listing.notes:
        inputs["folder"] = dict(listing.notes)
    return StimulusSet(images=images, table=table, provenance=provenance(settings, **inputs))


def _read_all(
    files: Sequence[tuple[Path, int | None, str]], reader: _Reader, shape: tuple[int, int, int, int]
) -> tuple[np.ndarray | PhotographFiles, list[str], str]:
    """Decode every file once.

    Returns the images, held in memory when they are few, their notes, and the digest of all.
    """
    few = 4 * math.prod(shape) <= LARGEST_IN_MEMORY
    held = shape if few else (0, *shape[1:])
    images = np.empty(held, np.float32)
    digests: list[str] = []
    notes: list[str] = []
    problems: dict[Path, str] = {}

    def decoded() -> Iterator[np.ndarray]:
        for row, (file, bits, icc) in enumerate(files):
            try:
                levels, note = reader(file, bits, icc)
            except InputError as error:
                problems[file] = str(error)
                continue
            notes.append(note)
            image = from_8bit(levels)
            if few:
                images[row] = image
            else:
                digests.append(digest(levels))
            yield image

    pixels = digest_blocks(decoded(), images.dtype, shape)
    if problems:
        raise _unusable(problems)
    if few:
        return images, notes, pixels
    pairs = zip(files, digests, strict=True)
    identified = tuple((*file, known) for file, known in pairs)
    stored = PhotographFiles(files=identified, reader=reader, shape=shape)
    return stored, notes, pixels


def _unusable(problems: Mapping[Path, str]) -> InputError:
    """Make an error of the problems of files."""
    files = list(problems)
    names = name_ids(file.name for file in files)
    first = files[0]
    reason = problems[first]
    reason = reason.rstrip(".")
    return InputError(f"cannot use the image(s) {names}; {first.name}: {reason}.")


def _each_bits(table: pd.DataFrame, bits: int | None) -> list[int | None]:
    """Take the bits of each file from the table's column, or from the setting for all."""
    if "bits" not in table.columns:
        return [bits] * len(table)
    try:
        each = [bits if pd.isna(cell) else int(cell) for cell in table["bits"]]
        for number in set(each):
            check_reading(number, "ignore")
    except ValueError as error:
        raise InputError(
            f"the column bits of the table of photographs must hold 8 to 16 or nothing ({error}); "
            "correct it."
        ) from error
    return each


def check_images(
    sources: Sequence[str | os.PathLike[str]], *, bits: int | None = None, icc: str = "ignore"
) -> None:
    """Refuse what `read_images` could not read, without reading an image.

    Parameters
    ----------
    sources : sequence of path-like
        See `read_images`.
    bits, icc
        For photographs, see `load_photographs`.

    Raises
    ------
    InputError
        When there is nothing to read, a folder, a table or one of its files does not exist, or ids
        repeat in one of the sources.

    Examples
    --------
    >>> check_images(["nowhere"])
    Traceback (most recent call last):
        ...
    neurometamer.errors.InputError: nowhere does not exist; give a folder of images, a CSV with \
the column file, or image files.
    """
    if not sources:
        raise InputError(
            "no images given; give folders or tables (images, --images FOLDER or --images "
            "TABLE.csv)."
        )
    check_reading(bits, icc)
    for source in map(Path, sources):
        if source.is_dir() and (source / "stimuli.h5").is_file():
            continue
        problems = {}
        for file in list_photographs(source).table["file"]:
            try:
                check_plain_file(file)
            except InputError as error:
                problems[Path(file)] = str(error)
        if problems:
            raise _unusable(problems)


@checked
def read_images(
    sources: Sequence[str | os.PathLike[str]],
    preprocessing: Preprocessing,
    *,
    bits: int | None = None,
    icc: str = "ignore",
) -> StimulusSet:
    """Read images of stimulus folders, photograph folders and CSV files, as people see them.

    Parameters
    ----------
    sources : sequence of path-like
        Each a folder written by `stimuli_gen.write_stimuli`, a folder of photographs, or a CSV
        with the column ``file``.
    preprocessing : Preprocessing
        For photographs.
    bits, icc
        For photographs, see `load_photographs`.

    Returns
    -------
    StimulusSet
        All of them, rounded to 8 bits.

    Raises
    ------
    InputError
        When there is nothing to read, ids repeat or sizes differ.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> from stimuli_gen import Preprocessing, read_images
    >>> gray = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> preprocessing = Preprocessing(size=(32, 32), resize=36, interpolation="bilinear", **gray)
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (640, 480), "white").save(f"{folder}/white.png")
    ...     float(read_images([folder], preprocessing).images.min())
    1.0
    """
    check_images(sources, bits=bits, icc=icc)
    sets = []
    for source in map(Path, sources):
        if source.is_dir() and (source / "stimuli.h5").is_file():
            stored = read_stimuli(source, in_memory=None)
            sets.append(stored.as_shown())
        else:
            sets.append(load_photographs(source, preprocessing, bits=bits, icc=icc))
    return concat_stimuli(sets)


@checked
def packaged_photographs(preprocessing: Preprocessing) -> StimulusSet:
    """Load the 16 natural photographs that come inside the scikit-image and scikit-learn packages.

    Parameters
    ----------
    preprocessing : Preprocessing
        Preprocessing of the network that will see the photographs.

    Returns
    -------
    StimulusSet
        Kind ``RE``, ids and rough categories as in `PACKAGED`. Nothing is downloaded.

    Raises
    ------
    InputError
        When a package or one of its files is missing.

    Examples
    --------
    >>> from stimuli_gen import Preprocessing, packaged_photographs
    >>> gray = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> preprocessing = Preprocessing(size=(32, 32), resize=36, interpolation="bilinear", **gray)
    >>> photographs = packaged_photographs(preprocessing)
    >>> photographs.images.shape, photographs.ids[:3]
    ((16, 3, 32, 32), ('astronaut', 'brick', 'camera'))
    """
    files, missing, categories = [], [], []
    for name, ((package, *folders), file_name, category) in PACKAGED.items():
        # found without importing the package
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(
                f"the packaged photographs need {package}; install it with: pip install "
                "'neurometamer[demo]', or give your own images."
            )
        file = Path(spec.submodule_search_locations[0], *folders, file_name)
        if not file.is_file():
            missing.append(name)
        files.append(file)
        categories.append(category)
    if missing:
        raise InputError(
            f"the installed packages lack the photograph(s) {name_ids(missing)}; update "
            "scikit-image."
        )
    columns = {
        "id": list(PACKAGED),
        "category": categories,
        "file": pd.Series(files, dtype=object),
    }
    listing = Listing(table=pd.DataFrame(columns), shown=[file.name for file in files])
    return _load(listing, preprocessing)
