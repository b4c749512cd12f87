"""Labeled images to train on and to measure accuracy on.

Images of a folder stay in their files; a set may also be an array.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest, digest_file, generator
from neurometamer.reading import reading
from neurometamer.summaries import short_repr
from stimuli_gen.conversion import open_photograph
from stimuli_gen.photograph_lists import list_photographs

_LOG = logging.getLogger(__name__)
THREADS = min(8, os.cpu_count() or 1)
"""Threads that read or decode images."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledImages:
    """Images with their classes, in memory or in files.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
        Class of each image, a place in `class_names`.
    class_names : tuple of str
        Names of the classes.
    levels : ndarray of uint8, shape (n, 3, height, width), optional
        The images.
    files : tuple of Path
        Their files, in place of `levels`.

    Raises
    ------
    InputError
        When images and labels do not belong together, or no class has an image.

    Examples
    --------
    >>> levels = np.zeros((4, 3, 32, 32), dtype=np.uint8)
    >>> images = LabeledImages(levels=levels, labels=[0, 1, 0, 1], class_names=("cat", "cup"))
    >>> len(images), images.counts()
    (4, {'cat': 2, 'cup': 2})
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    levels: np.ndarray | None = None
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        labels = np.asarray(self.labels, dtype=np.int64)
        object.__setattr__(self, "labels", labels)
        n_images = len(self.files)
        if self.levels is not None:
            n_images = len(self.levels)
            if self.files:
                raise InputError(
                    f"levels and {len(self.files)} file(s) are given; give one of the two."
                )
            if self.levels.dtype != np.uint8 or self.levels.ndim != 4 or self.levels.shape[1] != 3:
                raise InputError(
                    f"levels are {self.levels.dtype} of shape {self.levels.shape}; give uint8 (n, "
                    "3, height, width)."
                )
        if not n_images or len(labels) != n_images:
            raise InputError(f"{n_images} image(s) and {len(labels)} label(s); give one an image.")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise InputError(
                f"labels go from {labels.min()} to {labels.max()}, but there are "
                f"{len(self.class_names)} class names; give places among them."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self) -> dict[str, int]:
        """Count the images of each class.

        Returns
        -------
        dict of str to int
            Class name to images.
        """
        numbers = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, numbers.tolist(), strict=True))

    def photograph(self, index: int) -> Any:
        """Read one image.

        Parameters
        ----------
        index : int
            Which.

        Returns
        -------
        PIL.Image.Image
            RGB, 8 bits, as it is stored.

        Raises
        ------
        InputError
            When its file cannot be read.
        """
        from PIL import Image

        if self.levels is not None:
            return Image.fromarray(self.levels[index].transpose(1, 2, 0))
        file = self.files[index]
        try:
            photograph, _ = open_photograph(file)
        except InputError as error:
            raise InputError(
                f"cannot use the image {file}: {error}; replace or remove it."
            ) from error
        return photograph

    def contents(self) -> list[str]:
        """Identify each image by its contents; files are read once a process.

        Returns
        -------
        list of str
            Equal for levels or files of the same bytes.

        Raises
        ------
        InputError
            When a file cannot be read.
        """
        if self.levels is not None:
            return [digest(level) for level in self.levels]
        with ThreadPoolExecutor(THREADS, "reader") as pool:
            return list(pool.map(_contents_of, self.files))

    def digest(self) -> str:
        """Identify the set.

        Returns
        -------
        str
            Of the contents of its images in their order, of labels and of class names; names of
            files do not matter.
        """
        return digest(self.contents(), self.labels, list(self.class_names))


def _contents_of(file: Path) -> str:
    """Digest a file, once as long as it is not written."""
    with reading(file, "an image"):
        facts = file.stat()
        times = facts.st_mtime_ns, facts.st_ctime_ns
        return _digest_of(file, facts.st_size, facts.st_ino, times)


@cache
def _digest_of(file: Path, *state: object) -> str:
    return digest_file(file)


@checked
def read_labeled_folder(
    folder: str | os.PathLike[str], class_names: Sequence[str] = ()
) -> LabeledImages:
    """List the images of a folder whose subfolders are classes, as ImageNet has them.

    Parameters
    ----------
    folder : path-like
        Holds one folder a class.
    class_names : sequence of str
        Classes in the order of the outputs, such as those of the training set. By default the names
        of the folders, sorted.

    Returns
    -------
    LabeledImages
        The images stay in their files.

    Raises
    ------
    InputError
        When there are no images, images lie outside of a class, a folder has no images, or is no
        class.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from PIL import Image
    >>> folder = Path(mkdtemp())
    >>> for name in ("cat", "cup"):
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (40, 40)).save(folder / name / "1.png")
    >>> read_labeled_folder(folder).counts()
    {'cat': 1, 'cup': 1}
    """
    table = list_photographs(folder).table
    if "category" not in table.columns:
        raise InputError(f"{folder} has no folders inside; give one folder a class.")
    classless = table[table["category"].isna() | (table["category"] == "")]
    if len(classless):
        raise InputError(
            f"{folder}: image(s) outside of the folders of classes: {name_ids(classless['id'])}; "
            "move them."
        )
    present = sorted(table["category"].unique())
    top = Path(os.path.commonpath(list(map(str, table["file"]))))
    within = set()
    for file in table["file"]:
        within.update(file.parents)
    empty = []
    for path in sorted(top.iterdir()) if top.is_dir() else []:
        if path.is_dir() and path not in within and not path.name.startswith((".", "__MACOSX")):
            empty.append(path.name)
    if empty:
        raise InputError(
            f"{folder} has folder(s) without images: {name_ids(empty)}; put some in, or remove "
            "them."
        )
    names = list(class_names) or present
    unknown = [name for name in present if name not in names]
    if unknown:
        raise InputError(
            f"{folder} has folder(s) {name_ids(unknown)} that are no classes of the training set "
            f"({name_ids(names)}); move or rename them."
        )
    without = [name for name in names if name not in present]
    if without:
        _LOG.warning("%s has no images of class(es) %s.", folder, name_ids(without))
    if len(names) < 2:
        raise InputError(f"{folder} has the class '{names[0]}' only; give at least two.")
    places = {name: place for place, name in enumerate(names)}
    labels = table["category"].map(places).to_numpy()
    files = tuple(map(Path, table["file"]))
    return LabeledImages(files=files, labels=labels, class_names=tuple(names))


@checked
def split_images(
    images: LabeledImages, *, share: float = 0.1, seed: int = 0
) -> tuple[LabeledImages, LabeledImages]:
    """Split images in two by class, with all copies of an image on one side.

    Parameters
    ----------
    images : LabeledImages
        The set.
    share : float
        Share of the second part, in (0, 1).
    seed : int
        Seed.

    Returns
    -------
    tuple of (LabeledImages, LabeledImages)
        The larger part and the smaller one.

    Raises
    ------
    InputError
        When a class has too few images.

    Examples
    --------
    >>> levels = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16)).astype(np.uint8)
    >>> labels = np.arange(20) % 2
    >>> images = LabeledImages(levels=levels, labels=labels, class_names=("cat", "cup"))
    >>> [len(part) for part in split_images(images, share=0.2)]
    [16, 4]
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share}; give a number between 0 and 1.")
    sources = number_contents(images)
    is_second = np.zeros(len(images), dtype=bool)
    for place, name in enumerate(images.class_names):
        of_class = np.unique(sources[images.labels == place])
        n_second = round(share * len(of_class))
        if not 0 < n_second < len(of_class):
            raise InputError(
                f"class '{name}' has {len(of_class)} different image(s), too few to split off "
                f"{share:g}; give more."
            )
        order = generator(seed, "split", name).permutation(of_class)
        is_second |= np.isin(sources, order[:n_second])
    return part_of(images, np.flatnonzero(~is_second)), part_of(images, np.flatnonzero(is_second))


def part_of(images: LabeledImages, rows: np.ndarray) -> LabeledImages:
    """Take some images of a set.

    Parameters
    ----------
    images : LabeledImages
        The set.
    rows : ndarray of int
        Which.

    Returns
    -------
    LabeledImages
        In the order of `rows`.
    """
    return LabeledImages(
        labels=images.labels[rows],
        class_names=images.class_names,
        levels=None if images.levels is None else images.levels[rows],
        files=tuple(images.files[row] for row in rows if images.files),
    )


def number_contents(images: LabeledImages) -> np.ndarray:
    """Give each image the number of its contents.

    Parameters
    ----------
    images : LabeledImages
        The set.

    Returns
    -------
    ndarray of int, shape (n,)
        Equal for images of equal contents.
    """
    return np.unique(images.contents(), return_inverse=True)[1]


def check_classes(training: LabeledImages, validation: LabeledImages) -> None:
    """Refuse images of other classes, or in another order.

    Parameters
    ----------
    training, validation : LabeledImages
        The two sets.

    Raises
    ------
    InputError
        When their classes differ.
    """
    if training.class_names != validation.class_names:
        raise InputError(
            f"training has the classes {name_ids(training.class_names)} and validation "
            f"{name_ids(validation.class_names)}; give the same in the same order."
        )


def check_apart(training: LabeledImages, validation: LabeledImages) -> None:
    """Refuse images that are trained on and measured on; tell those of several classes.

    Parameters
    ----------
    training, validation : LabeledImages
        The two sets.

    Raises
    ------
    InputError
        When images of both have the same contents.
    """
    classes: dict[str, str] = {}
    several = []
    for images in (training, validation):
        for row, content in enumerate(images.contents()):
            name = images.class_names[images.labels[row]]
            if classes.setdefault(content, name) != name:
                several.append(_name_of(images, row))
    if several:
        _LOG.warning(
            "%d image(s) are in another class, too, with the same contents: %s.",
            len(several),
            name_ids(several),
        )
    trained = set(training.contents())
    shared = []
    for row, content in enumerate(validation.contents()):
        if content in trained:
            shared.append(_name_of(validation, row))
    if shared:
        raise InputError(
            f"{len(shared)} image(s) of the validation set are images of the training set, too: "
            f"{name_ids(shared)}; take them out of one."
        )


def check_decodable(*sets: LabeledImages) -> None:
    """Decode all files, and refuse those that cannot be.

    Parameters
    ----------
    *sets : LabeledImages
        Sets of images; those in memory need no look.

    Raises
    ------
    InputError
        With the names of all images that cannot be decoded.
    """
    refused = []
    for images in sets:
        with ThreadPoolExecutor(THREADS, "decoder") as pool:
            errors = pool.map(partial(_refusal, images), range(len(images.files)))
            refused += [error for error in errors if error is not None]
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise InputError(f"{refused[0]} {len(refused) - 1} other image(s) cannot be used, either.")


def _refusal(images: LabeledImages, row: int) -> InputError | None:
    """Give the error of an image that cannot be decoded."""
    try:
        images.photograph(row)
    except InputError as error:
        return error
    return None


def _name_of(images: LabeledImages, row: int) -> str:
    """Name an image in a message."""
    return "/".join(images.files[row].parts[-2:]) if images.files else str(row)
