"""The stimulus set: pixels, one table row an image, provenance; written as PNG, CSV and HDF5.

What people see is the 8-bit PNG, so 8-bit values are always *rounded* (cutting them off loses most
adversarial images); the float pixels are kept beside it in HDF5.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import check_fields, checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, need_columns
from neurometamer.provenance import digest
from neurometamer.store import (
    atomic_path,
    file_name,
    open_hdf5,
    read_hdf5_attributes,
    read_hdf5_table,
    same_file_names,
    write_hdf5,
    write_json,
    write_table,
)
from neurometamer.summaries import short_repr
from stimuli_gen.stored_images import LARGEST_IN_MEMORY, ImagesOnDisk, join_images, write_png16
from stimuli_gen.stored_images import StoredImages as StoredImages
from stimuli_gen.stored_images import from_8bit as from_8bit
from stimuli_gen.stored_images import read_png as read_png
from stimuli_gen.stored_images import to_8bit as to_8bit
from stimuli_gen.stored_images import write_png as write_png

if TYPE_CHECKING:
    from PIL import Image

REQUIRED_COLUMNS = ("id", "kind", "reference_id")
_TEXT = (
    *REQUIRED_COLUMNS,
    "category",
    "note",
    "target_name",
    "top1_name",
    "why_not",
    "model",
    "weights",
)
_WHOLE = ("target_index", "top1_index", "steps", "seed")
_YES_NO = ("success", "confirmed")
_SHEET = 200
"""Most images on a contact sheet."""
_SHOWN, _SHOWN_SIDE = 12, 96
"""Most images in a notebook, and their longer side in pixels."""
_SSIM_WINDOW = 11


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class StimulusSet:
    """Images with what is known about each of them.

    Parameters
    ----------
    images : ndarray or ImagesOnDisk
        (n, 3, height, width) float32 in [0, 1], red, green, blue. Never edit them in place. Images
        of a large set stay on disk and are read when indexed; ``np.asarray(images)`` reads all of
        them.
    table : pandas.DataFrame
        One row an image. Required columns: ``id`` (unique), ``kind`` (``RE``, ``AN``, ``AI`` …),
        ``reference_id`` (of a photograph: its own id). ``category`` and ``note`` are added empty
        when missing.
    provenance : mapping
        Where the images come from; JSON-able.

    Raises
    ------
    InputError
        When shape, type or range of the images is wrong, a column is missing, or ids repeat.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> photographs.ids, photographs.select(ids=["b"]).images.shape
    (('a', 'b'), (1, 3, 32, 32))
    """

    images: np.ndarray | ImagesOnDisk
    table: pd.DataFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        images = self.images
        if len(images.shape) != 4 or images.shape[1] != 3 or min(images.shape[2:]) < 1:
            raise InputError(
                f"images have the shape {tuple(images.shape)}; they must be (n, 3, height, width)."
            )
        if isinstance(images, np.ndarray):
            if images.dtype != np.float32:
                raise InputError(f"images are {images.dtype}; they must be float32 in [0, 1].")
            bad = []
            for row, image in enumerate(images):
                is_inside = image.min() >= 0 and image.max() <= 1  # not so where there is NaN
                if not is_inside:
                    bad.append(row)
            if bad:
                raise InputError(
                    f"images leave [0, 1] or are not finite in row(s) {name_ids(bad)}; scale by "
                    "1/255 or clip."
                )
        table = _tidy_table(self.table, len(images))
        object.__setattr__(self, "table", table)

    def __len__(self) -> int:
        return len(self.images)

    def _summary(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "images": self.images,
            "table": self.table,
            "kinds": self.table["kind"].value_counts(sort=False).to_dict(),
        }
        if isinstance(self.images, ImagesOnDisk):
            shown["on_disk"] = str(getattr(self.images, "path", type(self.images).__name__))
        if self.provenance:
            shown["provenance"] = self.provenance
        return shown

    def _repr_html_(self) -> str:
        """Show the first images with their ids and kinds, as notebooks do; no others are read."""
        cells = []
        for row in range(min(len(self), _SHOWN)):
            stimulus_id, kind = self.table["id"].iloc[row], self.table["kind"].iloc[row]
            buffer = io.BytesIO()
            _thumbnail(self.images[slice(row, row + 1)][0], _SHOWN_SIDE).save(buffer, format="PNG")
            pixels = base64.b64encode(buffer.getvalue()).decode()
            words = html.escape(f"{stimulus_id} ({kind})")
            cells.append(
                '<figure style="display:inline-block;margin:4px">'
                f'<img alt="{words}" src="data:image/png;base64,{pixels}">'
                f"<figcaption>{words}</figcaption></figure>"
            )
        height, width = self.images.shape[2:]
        title = f"{len(self)} images of {height} x {width} pixels"
        rest = len(self) - len(cells)
        more = f"<p>and {rest} more</p>" if rest else ""
        return f"<div><p>{title}</p>{''.join(cells)}{more}</div>"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids in table order.

        Returns
        -------
        tuple of str
            Unique.
        """
        return tuple(self.table["id"])

    @cached_property
    def digest(self) -> str:
        """Hash of pixels and table; the same in memory and on disk.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        pixels = []
        for row in range(len(self)):
            one_row = slice(row, row + 1)
            image = self.images[one_row]
            pixels.append(digest(image))
        return digest(pixels, self.table)

    def select(self, *, ids: Sequence[str] | None = None, kind: str | None = None) -> StimulusSet:
        """Take some of the images.

        Parameters
        ----------
        ids : sequence of str, optional
            These, in this order.
        kind : str, optional
            Those of this kind, in table order (among `ids` when both are given).

        Returns
        -------
        StimulusSet
            May be empty when no image is of the kind.

        Raises
        ------
        InputError
            When ids are unknown or repeated.
        """
        rows = np.arange(len(self))
        if ids is not None:
            rows = self.rows_of(ids)
            if again := duplicates(ids):
                raise InputError(
                    f"id(s) asked for more than once: {name_ids(again)}; give each once."
                )
        if kind is not None:
            kinds = self.table["kind"].to_numpy()
            is_of_kind = kinds[rows] == kind
            rows = rows[is_of_kind]
        on_disk = isinstance(self.images, ImagesOnDisk)
        images = self.images.take(rows) if on_disk else self.images[rows]
        table = self.table.iloc[rows]
        return replace(self, images=images, table=table)

    def rows_of(self, ids: Iterable[str], what: str = "stimulus") -> np.ndarray:
        """Find the rows of stimuli by id.

        Parameters
        ----------
        ids : iterable of str
            In any order; ids may repeat.
        what : str
            What the stimuli are, for the message of the error.

        Returns
        -------
        ndarray
            (n_ids,) int, rows of images and table.

        Raises
        ------
        InputError
            When an id is unknown.
        """
        row_of = {}
        for row, stimulus_id in enumerate(self.ids):
            row_of[stimulus_id] = row
        wanted = list(ids)
        missing = dict.fromkeys(name for name in wanted if name not in row_of)
        if missing:
            raise InputError(
                f"no {what} has the id(s) {name_ids(missing)}; known: {name_ids(self.ids)}."
            )
        rows = [row_of[name] for name in wanted]
        return np.array(rows, dtype=int)

    def as_shown(self) -> StimulusSet:
        """Round the images to 8 bits: exactly what the PNG files show.

        Returns
        -------
        StimulusSet
            Same table, rounded images.
        """
        if isinstance(self.images, ImagesOnDisk):
            images: np.ndarray | ImagesOnDisk = replace(self.images, rounded=True)
        else:
            levels = to_8bit(self.images)
            images = from_8bit(levels)
        return replace(self, images=images)


def _tidy_table(table: pd.DataFrame, n_images: int) -> pd.DataFrame:
    """Check the table and give every known column its type.

    The table thus survives writing and reading.
    """
    need_columns(table, REQUIRED_COLUMNS, "the stimulus table")
    if len(table) != n_images:
        raise InputError(
            f"the stimulus table has {len(table)} rows for {n_images} images; one row an image."
        )
    for name in REQUIRED_COLUMNS:
        if table[name].isna().any() or (table[name].astype(str) == "").any():
            raise InputError(f"the stimulus table has empty cells in {name}; fill them.")
    missing = [name for name in ("category", "note") if name not in table.columns]
    tidy = table.reset_index(drop=True).assign(**dict.fromkeys(missing, ""))
    columns: dict[str, pd.Series] = {}
    for name in [name for name in (*_TEXT, *_WHOLE, *_YES_NO) if name in tidy.columns]:
        column = tidy[name]
        try:
            if name in _TEXT:
                columns[name] = column.astype(object).fillna("").astype(str)
            elif name in _WHOLE:
                # this type refuses fractions, which int64 would cut off
                numbers = pd.to_numeric(column).astype("Int64")
                columns[name] = numbers if column.isna().any() else numbers.astype("int64")
            else:
                known = {"True": True, "False": False}
                values = [None if pd.isna(cell) else known[str(cell)] for cell in column]
                kind = "boolean" if None in values else "bool"
                columns[name] = pd.Series(values, index=column.index, dtype=kind)
        except (ValueError, TypeError, KeyError) as error:
            what = "whole numbers" if name in _WHOLE else "True or False"
            raise InputError(
                f"the column {name} of the stimulus table must hold {what} ({error}); correct it."
            ) from error
    if again := duplicates(columns["id"]):
        raise InputError(
            f"duplicate stimulus id(s): {name_ids(again)}; give each image its own id."
        )
    if pairs := same_file_names(columns["id"]):
        raise InputError(
            "ids that differ in case or Unicode normalization only: "
            f"{name_ids(map(' and '.join, pairs))}; their files would overwrite each other on "
            "macOS and Windows. Give each image an id of its own."
        )
    return tidy.assign(**columns)


@checked
def concat_stimuli(sets: Sequence[StimulusSet]) -> StimulusSet:
    """Put several sets one after another.

    Parameters
    ----------
    sets : sequence of StimulusSet
        At least one; all images of one size. Images on disk are read into memory when they are few.

    Returns
    -------
    StimulusSet
        Columns are the union; cells a set does not have are missing. The provenances are listed
        under ``parts``.

    Raises
    ------
    InputError
        When ids repeat, sizes differ, or there is no set.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import concat_stimuli
    >>> first, second = photographs.select(ids=["a"]), photographs.select(ids=["b"])
    >>> concat_stimuli([second, first]).ids
    ('b', 'a')
    """
    if not sets:
        raise InputError("no stimulus sets to put together; give at least one.")
    sizes = sorted({part.images.shape[2:] for part in sets})
    if len(sizes) > 1:
        raise InputError(
            f"stimulus sets have different image sizes: {sizes}; make them for one network."
        )
    images = join_images([part.images for part in sets])
    tables = [part.table for part in sets]
    provenances = [dict(part.provenance) for part in sets]
    return StimulusSet(
        images=images,
        table=pd.concat(tables, ignore_index=True),
        provenance={"parts": provenances},
    )


@checked_with(
    finite=("image", "reference"), shapes={"image": "3 height width", "reference": "3 height width"}
)
def image_distances(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Measure how far an image is from its reference.

    Parameters
    ----------
    image, reference : ndarray
        (3, height, width) float32 in [0, 1].

    Returns
    -------
    dict of str to float
        ``l2`` and ``linf``: norms of the difference of the float images, pixels in [0, 1].
        ``l2_8bit`` and ``linf_8bit``: the same of the 8-bit images, in levels of 0 to 255. ``psnr``
        and ``ssim``: see `picture_similarity`.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import image_distances
    >>> reference = np.zeros((3, 16, 16), dtype=np.float32)
    >>> distances = image_distances(reference + np.float32(0.2), reference)
    >>> round(distances["linf"], 4), distances["linf_8bit"], round(distances["psnr"], 2)
    (0.2, 51.0, 13.98)
    """
    change = np.asarray(image, dtype=np.float64) - reference
    levels = to_8bit(image).astype(np.float64) - to_8bit(reference)
    distances = {}
    for end, difference in (("", change), ("_8bit", levels)):
        power = np.square(difference).sum()
        largest = np.abs(difference).max()
        distances[f"l2{end}"] = float(np.sqrt(power))
        distances[f"linf{end}"] = float(largest)
    return distances | picture_similarity(image, reference)


def picture_similarity(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Measure how like its reference an image looks, both rounded to 8 bits as people see them.

    Parameters
    ----------
    image, reference : ndarray
        (3, height, width) float32 in [0, 1].

    Returns
    -------
    dict of str to float
        ``psnr``: peak signal-to-noise ratio in dB (infinite for equal images). ``ssim``: structural
        similarity with the Gaussian window of Wang et al. (2004), sigma 1.5, mean over channels;
        missing (NaN) for images smaller than its 11 pixels. Both are scikit-image's.
    """
    from skimage.metrics import structural_similarity

    seen = from_8bit(to_8bit(image)).astype(np.float64)
    original = from_8bit(to_8bit(reference)).astype(np.float64)
    error = float(np.mean(np.square(seen - original)))
    ssim = np.nan
    if min(image.shape[1:]) >= _SSIM_WINDOW:
        ssim = structural_similarity(
            seen,
            original,
            data_range=1,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    psnr = float(-10 * np.log10(error)) if error else np.inf
    return {"psnr": psnr, "ssim": float(ssim)}


# -------------------------------------------------------------------------------------------- files


@checked
def write_stimuli(
    stimuli: StimulusSet, folder: str | os.PathLike[str], *, png16: bool = False
) -> Path:
    """Write the images as PNG and HDF5, their table, their provenance and a contact sheet.

    ``png/<id>.png`` (8 bits, rounded), ``stimuli.h5`` (float pixels, table, provenance),
    ``stimuli.csv``, ``provenance.json``, ``contact_sheet.png`` (thumbnails with ids, of at most 200
    images).

    Parameters
    ----------
    stimuli : StimulusSet
        What to write.
    folder : path-like
        Made when missing. Every file is written atomically; PNGs of other ids in it are left alone.
    png16 : bool
        Also write ``png16/<id>.png`` with 16 bits a channel; read them with
        `stimuli_gen.read_png16`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When an id cannot name a file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import write_stimuli
    >>> with TemporaryDirectory() as folder:
    ...     sorted(path.name for path in write_stimuli(photographs, folder).iterdir())
    ['contact_sheet.png', 'png', 'provenance.json', 'stimuli.csv', 'stimuli.h5']
    """
    write_pictures(stimuli, folder, png16=png16)
    return write_records(stimuli, folder)


@checked
def write_pictures(
    stimuli: StimulusSet, folder: str | os.PathLike[str], *, png16: bool = False
) -> Path:
    """Write what is seen: the PNG files and the contact sheet.

    A set that is judged on its files is written in two parts: the pictures, and then, with the
    judgment in the table, the rest (`write_records`).

    Parameters
    ----------
    stimuli : StimulusSet
        What to write.
    folder : path-like
        See `write_stimuli`.
    png16 : bool
        See `write_stimuli`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When an id cannot name a file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import write_pictures
    >>> with TemporaryDirectory() as folder:
    ...     sorted(path.name for path in (write_pictures(photographs, folder) / "png").iterdir())
    ['a.png', 'b.png']
    """
    folder = Path(folder)
    files = [f"{file_name(stimulus_id)}.png" for stimulus_id in stimuli.ids]
    for row, file in enumerate(files):
        images = stimuli.images[slice(row, row + 1)]
        image = images[0]
        path = folder / "png" / file
        write_png(path, image)
        if png16:
            path = folder / "png16" / file
            write_png16(path, image)
    if len(stimuli):
        write_contact_sheet(folder / "contact_sheet.png", stimuli)
    return folder


@checked
def write_records(stimuli: StimulusSet, folder: str | os.PathLike[str]) -> Path:
    """Write the float pixels, the table and the provenance.

    The files are ``stimuli.h5``, ``stimuli.csv`` and ``provenance.json``.

    Parameters
    ----------
    stimuli : StimulusSet
        What to write.
    folder : path-like
        See `write_stimuli`.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import write_records
    >>> with TemporaryDirectory() as folder:
    ...     sorted(path.name for path in write_records(photographs, folder).iterdir())
    ['provenance.json', 'stimuli.csv', 'stimuli.h5']
    """
    folder = Path(folder)
    write_hdf5(
        folder / "stimuli.h5",
        arrays={"images": stimuli.images},
        tables={"table": stimuli.table},
        attributes={"provenance": dict(stimuli.provenance)},
    )
    write_table(folder / "stimuli.csv", stimuli.table)
    write_json(folder / "provenance.json", dict(stimuli.provenance))
    return folder


@checked
def write_contact_sheet(
    path: str | os.PathLike[str], stimuli: StimulusSet, *, side: int = 128
) -> Path:
    """Draw the images side by side, each above its id, in table order.

    Parameters
    ----------
    path : path-like
        PNG file.
    stimuli : StimulusSet
        The first 200 are shown.
    side : int
        Longer side of a thumbnail, pixels.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import write_contact_sheet
    >>> with TemporaryDirectory() as folder:
    ...     write_contact_sheet(f"{folder}/sheet.png", photographs, side=64).name
    'sheet.png'
    """
    from PIL import Image, ImageDraw, ImageFont

    if side < 1:
        raise InputError(f"side is {side}; a thumbnail needs at least 1 pixel.")
    shown_ids = stimuli.ids[:_SHEET]
    n_columns = int(np.ceil(np.sqrt(len(shown_ids))))
    n_rows = -(-len(shown_ids) // n_columns)
    width, height = side + 8, side + 22  # of a thumbnail and its id
    sheet = Image.new("RGB", (n_columns * width, n_rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    if not "".join(shown_ids).isascii():
        from matplotlib import get_data_path

        # a font with Greek, Cyrillic, Arabic and other letters
        file = Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
        font = ImageFont.truetype(file, size=10)
    for row, stimulus_id in enumerate(shown_ids):
        small = _thumbnail(stimuli.images[slice(row, row + 1)][0], side)
        left = row % n_columns * width + 4
        top = row // n_columns * height + 4
        sheet.paste(small, (left, top))
        words, keep = stimulus_id, len(stimulus_id)
        while draw.textlength(words, font) > side and keep > 2:
            keep -= 1  # the middle goes: the end of an id tells the kind of image
            end = stimulus_id[len(stimulus_id) - keep + keep // 2 :]
            words = f"{stimulus_id[: keep // 2]}...{end}"
        draw.text((left, top + side), words, "black", font)
    with atomic_path(path) as part:
        sheet.save(part, format="PNG")
    return Path(path)


def _thumbnail(image: np.ndarray, side: int) -> Image.Image:
    """Make an image small; `side` is the longer one, pixels."""
    from PIL import Image

    levels = to_8bit(image).transpose(1, 2, 0)
    small = Image.fromarray(np.ascontiguousarray(levels))
    small.thumbnail((side, side))
    return small


@checked
def read_stimuli(path: str | os.PathLike[str], *, in_memory: bool | None = True) -> StimulusSet:
    """Read a set written by `write_stimuli`: the float pixels.

    Parameters
    ----------
    path : path-like
        The folder, or its ``stimuli.h5``.
    in_memory : bool, optional
        Read the pixels now; otherwise they stay on disk and are read when indexed. None: only those
        of a large set, of more than 256 MiB, stay on disk.

    Returns
    -------
    StimulusSet
        `StimulusSet.as_shown` of it is what the PNG files hold.

    Raises
    ------
    InputError
        When the file is missing or holds something else.

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
    ...     read_stimuli(write_stimuli(photographs, folder)).digest == photographs.digest
    True
    """
    file = Path(path)
    if file.is_dir():
        file = file / "stimuli.h5"
    table = read_hdf5_table(file, "table")
    provenance = read_hdf5_attributes(file).get("provenance", {})
    with open_hdf5(file) as opened:
        if "images" not in opened:
            raise InputError(f"{file} holds no images; give a stimuli.h5 of write_stimuli.")
        shape = opened["images"].shape
    if len(shape) != 4 or shape[0] != len(table):
        raise InputError(
            f"{file} holds {len(table)} rows for images of the shape {shape}; make or copy it "
            "again."
        )
    images = StoredImages(path=file, shape=shape)
    if in_memory is None:
        in_memory = images.nbytes <= LARGEST_IN_MEMORY
    held = images[:] if in_memory else images
    return StimulusSet(images=held, table=table, provenance=provenance)
