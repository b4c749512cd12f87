"""Labeled images to train on and to measure accuracy on.

Images of a folder stay in their files and are cut when they are needed; a set may also be an array.
"""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest, digest_file, generator
from neurometamer.summaries import short_repr
from stimuli_gen.conversion import open_photograph
from stimuli_gen.photograph_lists import list_photographs
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.stored_images import from_8bit

if TYPE_CHECKING:
    import torch

_THREADS = min(8, os.cpu_count() or 1)
"""Threads that decode where no processes are asked for."""
_AREA = (0.08, 1.0)
_SIDES = (3 / 4, 4 / 3)
_TRIES = 10
"""Parts that are drawn before the middle is taken; all three as in torchvision."""


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
            raise InputError(f"cannot use the image {file}: {error}") from error
        return photograph

    def digest(self) -> str:
        """Identify the set.

        Returns
        -------
        str
            Of levels and labels; of files their names, sizes and labels, not their contents.
        """
        if self.levels is not None:
            return digest(self.levels, self.labels, list(self.class_names))
        sizes = [[*file.parts[-2:], file.stat().st_size] for file in self.files]
        return digest(sizes, self.labels, list(self.class_names))


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
        When there are no images, images lie outside of a class, or a folder is no class.

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
    names = list(class_names) or present
    unknown = [name for name in present if name not in names]
    if unknown:
        raise InputError(
            f"{folder} has folder(s) {name_ids(unknown)} that are no classes of the training set "
            f"({name_ids(names)}); move or rename them."
        )
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
    if images.levels is not None:
        contents = [level.tobytes() for level in images.levels]
        return np.unique(contents, return_inverse=True)[1]
    numbers: dict[Any, int] = {}
    sizes = [file.stat().st_size for file in images.files]
    often = {size for size in sizes if sizes.count(size) > 1} if len(sizes) < 1000 else set(sizes)
    result: list[int] = []
    for file, size in zip(images.files, sizes, strict=True):
        key = digest_file(file) if size in often else str(file)
        result.append(numbers.setdefault(key, len(numbers)))
    return np.array(result)


def check_apart(training: LabeledImages, validation: LabeledImages) -> None:
    """Refuse images that are trained on and measured on.

    Parameters
    ----------
    training, validation : LabeledImages
        The two sets.

    Raises
    ------
    InputError
        When images of both have the same contents, or their classes differ.
    """
    if training.class_names != validation.class_names:
        raise InputError(
            f"training has the classes {name_ids(training.class_names)} and validation "
            f"{name_ids(validation.class_names)}; give the same in the same order."
        )
    shared: list[object] = []
    if training.levels is not None and validation.levels is not None:
        known = {level.tobytes() for level in training.levels}
        shared = [row for row, level in enumerate(validation.levels) if level.tobytes() in known]
    elif training.levels is None and validation.levels is None:
        of_size = defaultdict(list)
        for file in training.files:
            of_size[file.stat().st_size].append(file)
        for file in validation.files:
            # only files of one size can be equal
            rivals = of_size.get(file.stat().st_size, [])
            if rivals and digest_file(file) in set(map(digest_file, rivals)):
                shared.append(file.name)
    if shared:
        raise InputError(
            f"{len(shared)} image(s) of the validation set are images of the training set, too: "
            f"{name_ids(shared)}; take them out of one."
        )


# ------------------------------------------------------------------------------------------- cuts


def image_seed(seed: int, *numbers: int) -> int:
    """Make the seed of one image.

    Parameters
    ----------
    seed : int
        Of the run.
    *numbers : int
        Epoch, row and purpose.

    Returns
    -------
    int
        Below 2^63.
    """
    drawn = np.random.SeedSequence([seed, *numbers]).generate_state(1, np.uint64)
    return int(drawn[0] >> np.uint64(1))


def augmented(
    photograph: Any, preprocessing: Preprocessing, augment: str, random: np.random.Generator
) -> np.ndarray:
    """Cut a training image at random.

    Parameters
    ----------
    photograph : PIL.Image.Image
        RGB.
    preprocessing : Preprocessing
        Of the network.
    augment : str
        See `neurometamer.training.AUGMENTATIONS`.
    random : numpy.random.Generator
        Of this image in this epoch.

    Returns
    -------
    ndarray of float32, shape (3, height, width)
        Pixels in [0, 1].
    """
    from PIL import Image

    if augment == "crop_flip":
        height, width = preprocessing.size
        resample = Image.Resampling[preprocessing.interpolation.upper()]
        box = random_box(photograph.size, random)
        cut = photograph.resize((width, height), resample, box=box)
        levels = np.asarray(cut).transpose(2, 0, 1)
    else:
        levels = preprocessing.cut_levels(photograph)
    if augment != "none" and random.random() < 0.5:
        levels = levels[..., ::-1]
    return from_8bit(np.ascontiguousarray(levels))


def random_box(
    size: tuple[int, int], random: np.random.Generator
) -> tuple[float, float, float, float]:
    """Draw a part of an image, as torchvision's RandomResizedCrop does.

    Parameters
    ----------
    size : tuple of int
        Width and height.
    random : numpy.random.Generator
        Of this image in this epoch.

    Returns
    -------
    tuple of float
        Left, top, right, bottom; the largest square in the middle where none fits.
    """
    width, height = size
    for _ in range(_TRIES):
        area = width * height * random.uniform(*_AREA)
        sides = np.exp(random.uniform(*np.log(_SIDES)))
        part_width = round(np.sqrt(area * sides))
        part_height = round(np.sqrt(area / sides))
        if 0 < part_width <= width and 0 < part_height <= height:
            left = int(random.integers(0, width - part_width + 1))
            top = int(random.integers(0, height - part_height + 1))
            return left, top, left + part_width, top + part_height
    side = min(width, height)
    left = (width - side) // 2
    top = (height - side) // 2
    return left, top, left + side, top + side


class Cuts:
    """A torch data set of cut images, indexed by (epoch, row); epoch -1 is validation.

    Parameters
    ----------
    images : LabeledImages
        The set.
    preprocessing : Preprocessing
        Of the network.
    augment : str
        See `neurometamer.training.AUGMENTATIONS`.
    seed : int
        Seed of the training.
    """

    def __init__(
        self, images: LabeledImages, preprocessing: Preprocessing, augment: str, seed: int
    ) -> None:
        self.images = images
        self.preprocessing = preprocessing
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> tuple[np.ndarray, int]:
        epoch, row = key
        photograph = self.images.photograph(row)
        label = int(self.images.labels[row])
        if epoch < 0:
            return self.preprocessing.cut(photograph), label
        random = np.random.default_rng([self.seed, epoch, row, 3])
        return augmented(photograph, self.preprocessing, self.augment, random), label


def batches(
    cuts: Cuts,
    rows: Sequence[Sequence[int]],
    epoch: int,
    *,
    workers: int,
    device: torch.device,
) -> Iterator[torch.Tensor]:
    """Load batches of cut images, ahead of their use where something else computes meanwhile.

    Order and random numbers are the same whoever decodes.

    Parameters
    ----------
    cuts : Cuts
        The set.
    rows : sequence of sequence of int
        Rows of each batch.
    epoch : int
        From 0; -1 for validation.
    workers : int
        Processes that decode; with 0 it is done here, for other devices than the CPU by threads,
        one batch ahead.
    device : torch.device
        Where the batches go; for CUDA they lie in pinned memory.

    Yields
    ------
    Tensor
        Pixels (n, 3, height, width), on the host.
    """
    import torch

    pinned = device.type == "cuda"
    if workers:
        from torch.utils.data import DataLoader

        keys = [[(epoch, int(row)) for row in batch] for batch in rows]
        loader: Any = DataLoader(
            cuts,  # type: ignore[arg-type]
            batch_sampler=keys,
            num_workers=workers,
            pin_memory=pinned,
        )
        for pixels, _ in loader:
            yield pixels
        return
    is_ahead = device.type != "cpu"
    begun: deque[tuple[torch.Tensor, Iterator[None]]] = deque()
    with ThreadPoolExecutor(_THREADS, "decoder") as pool:
        for batch in rows:
            shape = (len(batch), 3, *cuts.preprocessing.size)
            room = torch.empty(shape, dtype=torch.float32, pin_memory=pinned)
            decode = partial(decode_into, room.numpy(), cuts, epoch)
            run = pool.map if is_ahead else map
            begun.append((room, run(decode, range(len(batch)), batch)))
            if len(begun) > is_ahead:
                yield _decoded(*begun.popleft())
        for room, decoding in begun:
            yield _decoded(room, decoding)


def decode_into(room: np.ndarray, cuts: Cuts, epoch: int, place: int, row: int) -> None:
    """Decode and cut one image of a batch.

    Parameters
    ----------
    room : ndarray of float32, shape (n, 3, height, width)
        The batch.
    cuts : Cuts
        The set.
    epoch : int
        From 0; -1 for validation.
    place : int
        Where the image goes.
    row : int
        Which image of the set.
    """
    room[place], _ = cuts[epoch, int(row)]


def _decoded(room: torch.Tensor, decoding: Iterator[None]) -> torch.Tensor:
    """Wait until a batch is decoded; the error of the first image that cannot be is raised."""
    for _ in decoding:
        pass
    return room
