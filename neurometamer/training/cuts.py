"""Cut images to the input of a network, at random in training, and load them in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError
from neurometamer.training.pictures import THREADS, LabeledImages
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.stored_images import from_8bit

if TYPE_CHECKING:
    import torch

_AREA = (0.08, 1.0)
_SIDES = (3 / 4, 4 / 3)
_TRIES = 10
"""Parts that are drawn before the middle is taken; all three as in torchvision."""


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


class _Told:
    """Cut images, and errors in place of those that cannot be cut, for another process."""

    def __init__(self, cuts: Cuts) -> None:
        self.cuts = cuts

    def __getitem__(self, key: tuple[int, int]) -> np.ndarray | InputError:
        try:
            return self.cuts[key][0]
        except InputError as error:
            return error


def _pixels_or_error(images: Sequence[np.ndarray | InputError]) -> torch.Tensor | InputError:
    """Make a batch, or give the first error."""
    import torch

    pixels = []
    for image in images:
        if isinstance(image, InputError):
            return image
        pixels.append(torch.from_numpy(image))
    return torch.stack(pixels)


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
            _Told(cuts),  # type: ignore[arg-type]
            batch_sampler=keys,
            num_workers=workers,
            pin_memory=pinned,
            collate_fn=_pixels_or_error,
        )
        for pixels in loader:
            if isinstance(pixels, InputError):
                raise pixels
            yield pixels
        return
    is_ahead = device.type != "cpu"
    begun: deque[tuple[torch.Tensor, Iterator[None]]] = deque()
    with ThreadPoolExecutor(THREADS, "decoder") as pool:
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
