"""The images of a recognition experiment: read, checked, and shared out over its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.store import file_name, read_table
from stimuli_gen.categories import CATEGORIES
from stimuli_gen.conversion import cannot_use, open_photograph
from stimuli_gen.stored_images import from_8bit

if TYPE_CHECKING:
    from PIL import Image

NATURAL = "natural"
"""Condition and stage of photographs in stimulus folders."""
_TEXT = ("id", "reference_id", "category", "condition", "stage", "model", "kind")


class Photograph:
    """Images that are read one at a time, in the pixels that are shown.

    Parameters
    ----------
    files : sequence of path-like
        Their files.
    size : tuple of int
        Width and height to show; other images are scaled and cut around their center.
    """

    def __init__(self, files: Sequence[str | Path], size: tuple[int, int]) -> None:
        self.files = files
        self.size = size

    def __call__(self, row: int) -> np.ndarray:
        """Read image number `row`: (3, height, width) float32 in [0, 1]."""
        from PIL import Image, ImageOps

        shown = _open(self.files[row])
        if shown.size != self.size:
            shown = ImageOps.fit(shown, self.size, Image.Resampling.BICUBIC)
        return from_8bit(np.asarray(shown)).transpose(2, 0, 1)


def _open(path: str | Path) -> Image.Image:
    """Decode an image file: upright, RGB, 8 bits, as `stimuli_gen.load_photographs` reads it."""
    try:
        return open_photograph(Path(path))[0]
    except InputError as error:
        cure = "write the stimuli again, mend the table, or save the image as an 8-bit PNG."
        raise cannot_use(Path(path), error, cure) from error


def read_sources(sources: Sequence[str | Path], *, conditions: bool) -> pd.DataFrame:
    """Read the tables of images.

    Parameters
    ----------
    sources : sequence of path-like
        Folders with ``stimuli.csv`` and ``png/``, or CSV files with ``file``, ``id``, ``category``.
    conditions : bool
        Whether every image must have a condition.

    Returns
    -------
    pandas.DataFrame
        Text columns file, id, reference_id, category, condition, stage, model, kind.

    Raises
    ------
    InputError
        When there is nothing, a file or column is missing, a category is unknown, or an id has a
        condition twice.
    """
    what = "stimuli" if conditions else "photographs"
    if not sources:
        raise InputError(f"no {what} given; use --{what} FOLDER or --{what} TABLE.csv.")
    tables = [_read_source(Path(source), conditions) for source in sources]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise InputError(f"there is no image in {name_ids(sources)}.")
    _check_names(table, what)
    if missing := [path for path in table["file"] if not Path(path).is_file()]:
        raise InputError(
            f"image files do not exist: {name_ids(missing)}; write the stimuli again, or mend the "
            "table."
        )
    return table


def _read_source(source: Path, conditions: bool) -> pd.DataFrame:
    folder = source.is_dir()
    path = source / "stimuli.csv" if folder else source
    if folder and not path.is_file():
        raise InputError(
            f"{source} holds no stimuli.csv; give a folder written by 'stimuli', or a CSV (file, "
            "id, …)."
        )
    needed = ["id", "category"]
    if not folder:
        needed = ["file", *needed, *["condition"] * conditions]
    read_table(path, needed)
    separator = "\t" if path.suffix == ".tsv" else ","
    table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=separator)
    table = table.assign(**{name: "" for name in _TEXT if name not in table.columns})
    table[list(_TEXT)] = table[list(_TEXT)].apply(lambda column: column.str.strip())
    if folder:
        table["file"] = [f"png/{file_name(name)}.png" for name in table["id"]]
    table["file"] = [str(path.parent / file) for file in table["file"]]
    table["reference_id"] = table["reference_id"].where(table["reference_id"] != "", table["id"])
    if folder:
        table = _conditions_by_kind(table)
    if conditions and (bare := table.loc[table["condition"] == "", "id"].tolist()):
        raise InputError(f"{path}: no condition for {name_ids(bare)}; fill the column condition.")
    return table[["file", *_TEXT]]


def _conditions_by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Name conditions after kind, model and stage where the table of a stimulus folder has none."""
    photograph = table["kind"] == "RE"
    named = (table["kind"] + " " + table["model"] + " " + table["stage"]).str.split().str.join(" ")
    named = named.mask(photograph, NATURAL)
    stage = table["stage"].mask(photograph & (table["stage"] == ""), NATURAL)
    return table.assign(
        condition=table["condition"].where(table["condition"] != "", named), stage=stage
    )


def _check_names(table: pd.DataFrame, what: str) -> None:
    if nameless := int((table["id"] == "").sum()):
        raise InputError(f"{nameless} of the {what} have no id; fill the column id.")
    for name, category in zip(table["id"], table["category"], strict=True):
        if category == "":
            raise InputError(f"'{name}' of the {what} has no category; fill the column category.")
        if category not in CATEGORIES:
            raise unknown_name(f"category of {name!r}", category, CATEGORIES)
    for names in ("id", "reference_id"):
        if again := duplicates(table[names] + " in condition '" + table["condition"] + "'"):
            raise InputError(
                f"two images are the same {'id' if names == 'id' else 'image (reference_id)'}: "
                f"{name_ids(again)}; give each its own id or condition."
            )
    first = table.drop_duplicates("reference_id").set_index("reference_id")["category"]
    differs = table["category"] != first.loc[table["reference_id"]].to_numpy()
    torn = dict.fromkeys(table.loc[differs, "reference_id"])
    if torn:
        raise InputError(
            f"versions of one image have different categories: {name_ids(torn)}; give all versions "
            "the category of the image."
        )


def fill_missing(table: pd.DataFrame, rule: str) -> pd.DataFrame:
    """Check that every image is there in every condition.

    Put its photograph where an image is missing, if the settings say so.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_sources`.
    rule : {"error", "photograph"}
        What to do about missing ones.

    Returns
    -------
    pandas.DataFrame
        With the column ``cell``: the condition in whose place the row is shown.

    Raises
    ------
    InputError
        When a condition is missing and cannot be filled.
    """
    conditions = list(dict.fromkeys(table["condition"]))
    there = set(zip(table["reference_id"], table["condition"], strict=True))
    images = list(dict.fromkeys(table["reference_id"]))
    missing = [
        (image, condition)
        for image in images
        for condition in conditions
        if (image, condition) not in there
    ]
    filled = table.assign(cell=table["condition"])
    if not missing:
        return filled
    if rule == "error":
        names = name_ids(f"{image} in '{condition}'" for image, condition in missing)
        raise InputError(
            f"a condition is missing for an image: {names}; add the images, take the others out, "
            "or show the photograph instead (missing='photograph', --incomplete photograph)."
        )
    natural = filled[filled["kind"] == "RE"].drop_duplicates("reference_id")
    natural = natural.set_index("reference_id", drop=False)
    incomplete = [image for image, _ in missing]
    if bare := sorted(set(incomplete) - set(natural.index)):
        raise InputError(
            f"no photograph (kind RE) among the stimuli to show instead, of {name_ids(bare)}; add "
            "it."
        )
    extra = natural.loc[incomplete].assign(cell=[condition for _, condition in missing])
    return pd.concat([filled, extra], ignore_index=True)


def check_photographs(table: pd.DataFrame) -> tuple[int, int]:
    """Decode every image of the main part and check that all have one size.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_sources`.

    Returns
    -------
    tuple of int
        Width and height, pixels.

    Raises
    ------
    InputError
        When an image cannot be decoded or sizes differ.
    """
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, path in zip(table["id"], table["file"], strict=True):
        sizes.setdefault(_open(path).size, []).append(name)
    if len(sizes) > 1:
        parts = [f"{size[0]} x {size[1]}: {name_ids(ids, 2)}" for size, ids in sizes.items()]
        shown = "; ".join(parts)
        raise InputError(
            f"stimuli differ in size ({shown}); a mask must cover them all: make them one size."
        )
    return next(iter(sizes))


def choose_photographs(
    table: pd.DataFrame, main: pd.DataFrame, numbers: Mapping[str, int], seed: int
) -> pd.DataFrame:
    """Share photographs out over practice, screening and catch trials.

    The categories are as even as they can be.

    Parameters
    ----------
    table : pandas.DataFrame
        From `read_sources`; of stimulus folders only kind ``RE`` is taken.
    main : pandas.DataFrame
        Images of the main part, which must be others.
    numbers : mapping of str to int
        Phase to number of photographs.
    seed : int
        Seed of the choice.

    Returns
    -------
    pandas.DataFrame
        The chosen rows with the column ``phase``, condition and stage ``natural``.

    Raises
    ------
    InputError
        When there are too few, or one is an image of the main part.
    """
    table = table[table["kind"].isin(["", "RE"])]
    if seen := sorted(set(table["reference_id"]) & set(main["reference_id"])):
        raise InputError(
            f"photographs are images of the main part, too: {name_ids(seen)}; give others."
        )
    needed = sum(numbers.values())
    if len(table) < needed:
        parts = ", ".join(f"{number} {phase}" for phase, number in numbers.items())
        raise InputError(
            f"{needed} photographs are needed ({parts}), {len(table)} are there; give more, or ask "
            "for fewer."
        )
    order = table.iloc[generator(seed, "photographs").permutation(len(table))]
    turn = order.groupby("category").cumcount().to_numpy()
    chosen = order.iloc[np.argsort(turn, kind="stable")[:needed]]
    phases = np.repeat(list(numbers), list(numbers.values()))
    named = chosen.assign(phase=phases, condition=NATURAL, cell=NATURAL, stage=NATURAL, model="")
    return named.reset_index(drop=True)
