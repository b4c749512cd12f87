"""Images as markers of figures: whole pictures by stimulus id, small, from folders and tables of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.reading import Files

SIDE = 192
"""Pixels of the longer side; more cannot be seen on a page."""


def list_pictures(sources: Files) -> pd.DataFrame:
    """List images without reading them.

    Parameters
    ----------
    sources : sequence of path-like
        Each a folder written by `stimuli_gen.write_stimuli`, a folder of image files (ids are their
        names without suffix), or a CSV or TSV with the column ``file`` (relative to it) and any of
        id, kind, reference_id, category.

    Returns
    -------
    pandas.DataFrame
        id, kind, reference_id, category (empty where nothing tells), file (of the image, or
        ``stimuli.h5``).

    Raises
    ------
    InputError
        When there are none, a table lacks its columns, or ids repeat.
    """
    if not sources:
        raise InputError("no images given; use --images FOLDER or --images TABLE.csv.")
    table = pd.concat([_list_one(Path(one)) for one in sources], ignore_index=True)
    if again := duplicates(table["id"]):
        raise InputError(
            f"images of the same id: {name_ids(again)}; give each once, or a table with the column "
            "id."
        )
    return table


def _list_one(source: Path) -> pd.DataFrame:
    from stimuli_gen.photograph_lists import list_photographs
    from stimuli_gen.stimuli import read_stimuli

    if source.is_dir() and (source / "stimuli.h5").is_file():
        table = read_stimuli(source, in_memory=False).table
        return _tidy(table.assign(file=str(source / "stimuli.h5")))
    table = list_photographs(source).table
    return _tidy(table.assign(file=list(map(str, table["file"]))))


def _tidy(table: pd.DataFrame) -> pd.DataFrame:
    rows = {"id": table["id"].astype(str).to_numpy()}
    for name in ("kind", "reference_id", "category"):
        known = table[name].astype(object).fillna("").astype(str) if name in table.columns else ""
        rows[name] = (
            np.asarray(known) if name in table.columns else np.full(len(table), "", dtype=object)
        )
    return pd.DataFrame({**rows, "file": table["file"].to_numpy()})


def read_pictures(
    table: pd.DataFrame, ids: Sequence[str], sources: str = "--images"
) -> dict[str, np.ndarray]:
    """Read images, whole and small.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `list_pictures`.
    ids : sequence of str
        Which.
    sources : str
        What holds them, for messages.

    Returns
    -------
    dict of str to ndarray
        Id → (3, height, width) in [0, 1], the longer side at most `SIDE` pixels.

    Raises
    ------
    InputError
        When there is no image of an id, or a file cannot be read.
    """
    held = table.set_index("id")["file"]
    if lost := [one for one in ids if one not in held.index]:
        raise InputError(
            f"no image of {name_ids(lost)}; {sources} holds {name_ids(held.index, 3)}. Give their "
            "folder too, or a "
            "table with the columns id and file."
        )
    found: dict[str, np.ndarray] = {}
    wanted = held.loc[list(ids)]
    for file, own in wanted.groupby(wanted, sort=False):
        names = [str(one) for one in own.index]
        found |= (
            _of_set(Path(str(file)), names)
            if str(file).endswith(".h5")
            else {names[0]: _of_file(Path(str(file)))}
        )
    return found


def _of_set(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    from PIL import Image

    from stimuli_gen.stimuli import read_stimuli

    stimuli = read_stimuli(file, in_memory=False)
    rows = {name: row for row, name in enumerate(stimuli.ids)}
    found = {}
    for name in names:
        pixels = np.asarray(stimuli.images[slice(rows[name], rows[name] + 1)])[0]
        levels = np.rint(255 * np.clip(np.moveaxis(pixels, 0, -1), 0, 1)).astype(np.uint8)
        found[name] = _small(Image.fromarray(levels))
    return found


def _of_file(file: Path) -> np.ndarray:
    from stimuli_gen.conversion import cannot_use, open_photograph

    if not file.is_file():
        raise InputError(f"{file} does not exist; the column file is relative to its table.")
    try:
        return _small(open_photograph(file)[0])
    except InputError as error:
        raise cannot_use(file, error, "convert it to an 8-bit PNG.") from error


def _small(picture: object) -> np.ndarray:
    from PIL import Image

    assert isinstance(picture, Image.Image)
    picture = picture.convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return np.moveaxis(np.asarray(picture, dtype=np.float32) / 255, -1, 0)
