"""Images through a network in batches of one fixed shape, and what happens when memory runs out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from neurometamer.errors import InputError
from stimuli_gen.precision import exact_passes, float32_products
from stimuli_gen.transfers import (
    Reader,
    Returning,
    bytes_of,
    free_memory,
    pinned_buffer,
    read_rows,
    send,
)

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet

Result = TypeVar("Result")

CPU_BATCH = 8
"""Images a pass on a CPU, where the caller does not say."""
LARGEST_BATCH = 256
"""Images a pass on a device that tells its free memory, unless there is less of it."""
UNMEASURED_BATCH = 32
"""Images a pass on other accelerators."""
_PROBE = 4
"""Images that are run to see how large results are."""
_HOST_RESULTS = 2**30
"""Bytes of results that a pass may bring back."""
_SHARE = 0.25
"""Share of a device's free memory that results may take; the network's own are not known."""

_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "failed to allocate",
    "unable to allocate",
)
"""CUDA, ROCm and MPS say the first, the CPU's allocator one of the next two, cuBLAS and cuDNN the
fourth; others come from oneDNN and libraries beside torch."""


def batch_shape(batch_size: int) -> int:
    """Round a batch size up to one in which every place of the batch gets the same arithmetic.

    Parameters
    ----------
    batch_size : int
        Number of images, at least 1.

    Returns
    -------
    int
        The same up to 4, else the next multiple of 4. Matrix products take rows in groups; with 5,
        6, 7, 9 or 10 images on two threads, those in the last, incomplete group were rounded
        otherwise (gradients of EfficientNet-Lite0 and AlexNet: by 1e-6), so that an image's numbers
        depended on its place.

    Raises
    ------
    InputError
        When it is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch size must be at least 1, not {batch_size}; give 8, say.")
    if batch_size < 4:
        return batch_size
    return math.ceil(batch_size / 4) * 4


def half_shape(size: int) -> int:
    """Halve a batch shape so that every place still gets the same arithmetic.

    Parameters
    ----------
    size : int
        A batch shape of at least 2.

    Returns
    -------
    int
        At most half, at least 1; a multiple of 4 from 4 on.
    """
    half = size // 2
    if half < 4:
        return half
    return half - half % 4


def padded_batches(
    images: Any, batch_size: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Cut images into batches of one fixed shape.

    No image's numbers depend on the other images of its batch.

    Parameters
    ----------
    images : ndarray or StoredImages
        (n, 3, height, width) float32.
    batch_size : int
        Images a batch, rounded up by `batch_shape`; the last batch is filled up with black images.
    device : torch.device
        Where the batches go.

    Yields
    ------
    rows : slice
        Rows of these images.
    batch : Tensor
        (``batch_shape(batch_size)``, 3, height, width); only the first ``rows.stop - rows.start``
        count.
    """
    size = batch_shape(batch_size)
    n = len(images)
    for start in range(0, n, size):
        stop = min(start + size, n)
        rows = slice(start, stop)
        batch = _padded(images, rows, size, device)
        yield rows, batch


def _padded(images: Any, rows: slice, size: int, device: torch.device) -> Tensor:
    buffer = pinned_buffer((size, *images.shape[1:]), device)
    return send(read_rows(images, rows, buffer), device)


def images_by_id(stimuli: StimulusSet) -> Callable[[str], np.ndarray]:
    """Look images up by their ids, one at a time.

    Parameters
    ----------
    stimuli : StimulusSet
        The images, in memory or on disk.

    Returns
    -------
    callable
        Id → (3, height, width) float32.
    """
    row_of = {stimulus_id: row for row, stimulus_id in enumerate(stimuli.ids)}

    def _image_of(stimulus_id: str) -> np.ndarray:
        row = row_of[stimulus_id]
        rows = slice(row, row + 1)
        images = stimuli.images[rows]
        return images[0]

    return _image_of


def in_batches(
    run: Callable[..., Result],
    images: Any,
    batch_size: int | None,
    device: torch.device,
) -> Iterator[tuple[slice, Result]]:
    """Run a function on images, batch by batch, without gradients, in float32.

    Where memory runs out, the batches become smaller. The next batch is read from disk, or copied
    for a GPU, while the device computes.

    Parameters
    ----------
    run : callable
        Takes a batch (b, 3, height, width), or one batch of each array; called again with half as
        many images when it fails for want of memory.
    images : ndarray, StoredImages, or tuple of these
        (n, 3, height, width) float32 each.
    batch_size : int, optional
        Images a batch, rounded up by `batch_shape`; the last batch is filled up with black images.
        See `fitting_batch` for None.
    device : torch.device
        Where the batches go.

    Yields
    ------
    rows : slice
        Rows of these images.
    result : object
        What `run` returned; only its first ``rows.stop - rows.start`` rows count.

    Raises
    ------
    InputError
        When memory is too small for one image.
    """
    arrays = images if isinstance(images, tuple) else (images,)
    if batch_size is None:
        batch_size = fitting_batch(run, arrays, device)
    size, n = batch_shape(batch_size), len(arrays[0])
    start = 0
    with Reader(arrays, device) as reader:
        while start < n:
            rows = slice(start, min(start + size, n))
            try:
                with exact_passes():
                    result = run(*reader.batch(rows, size))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1:
                    raise too_large(tuple(arrays[0].shape[2:]), device) from error
            else:
                yield rows, result
                start = rows.stop
                continue
            # outside of `except`, where the failed pass still holds its tensors
            size = half_shape(size)
            release_memory(device)


def images_at_once(batch_size: int | None, device: torch.device) -> int:
    """Choose how many images are in work at once, before anything is run.

    Parameters
    ----------
    batch_size : int, optional
        What the caller asked for; it is taken.
    device : torch.device
        Where they are.

    Returns
    -------
    int
        By default `CPU_BATCH` on a CPU, `UNMEASURED_BATCH` elsewhere.
    """
    if batch_size is not None:
        return batch_size
    return CPU_BATCH if device.type == "cpu" else UNMEASURED_BATCH


def fitting_batch(run: Callable[..., Any], arrays: Sequence[Any], device: torch.device) -> int:
    """Choose how many images a device runs at once, where the caller does not say.

    Parameters
    ----------
    run : callable
        See `in_batches`; where the device is no CPU, it is called with four images.
    arrays : sequence of ndarray or StoredImages
        See `in_batches`.
    device : torch.device
        Where the batches go.

    Returns
    -------
    int
        `CPU_BATCH` on a CPU. Elsewhere the largest power of 2 up to `LARGEST_BATCH`
        (`UNMEASURED_BATCH` where the device does not tell its free memory) whose results take at
        most 1 GiB, and a quarter of the free memory, but no more than there are images. It is a
        first guess for `in_batches`, which halves it when memory runs out.
    """
    n = len(arrays[0])
    if device.type == "cpu" or n <= _PROBE:
        return CPU_BATCH if device.type == "cpu" else max(n, 1)
    n_free = free_memory(device)
    size = UNMEASURED_BATCH if n_free is None else LARGEST_BATCH
    n_allowed: float = _HOST_RESULTS
    if n_free is not None:
        n_allowed = min(n_allowed, _SHARE * n_free)
    try:
        with exact_passes():
            few = [_padded(array, slice(0, _PROBE), _PROBE, device) for array in arrays]
            n_bytes = bytes_of(run(*few)) / _PROBE
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return _PROBE
    while size > _PROBE and (size * n_bytes > n_allowed or size >= 2 * n):
        size //= 2
    return size


def host_batches(
    run: Callable[..., Result],
    images: Any,
    batch_size: int | None,
    device: torch.device,
) -> Iterator[tuple[slice, Result]]:
    """Run a function on images as `in_batches` does, and bring its results to the host.

    Results of one type of number come back in one copy a batch. On CUDA they do so while the device
    computes the next batch.

    Parameters
    ----------
    run : callable
        See `in_batches`; gives a tensor, or a tuple or mapping of tensors, with one row an image.
    images : ndarray, StoredImages, or tuple of these
        See `in_batches`.
    batch_size : int, optional
        See `in_batches`.
    device : torch.device
        Where the batches go.

    Yields
    ------
    rows : slice
        Rows of these images.
    result : object
        What `run` returned, rows of these images only, on the host. On CUDA its memory is pinned:
        copy what is kept.
    """

    def _begin(*arrays: Tensor) -> Returning:
        return Returning(run(*arrays), device)

    if batch_size is None:
        arrays = images if isinstance(images, tuple) else (images,)
        batch_size = fitting_batch(run, arrays, device)
    waiting: deque[tuple[slice, Returning]] = deque()
    n_waiting = 0 if device.type == "cpu" else 1
    for begun in in_batches(_begin, images, batch_size, device):
        waiting.append(begun)
        if len(waiting) > n_waiting:
            rows, results = waiting.popleft()
            yield rows, results.arrived(rows.stop - rows.start)
    for rows, results in waiting:
        yield rows, results.arrived(rows.stop - rows.start)


def rows_in_batches(
    run: Callable[..., Tensor], images: Any, batch_size: int | None, device: torch.device
) -> np.ndarray:
    """Run a function on images, batch by batch, and put its rows together.

    Parameters
    ----------
    run : callable
        See `in_batches`; gives a tensor with one row an image.
    images : ndarray, StoredImages, or tuple of these
        (n, 3, height, width) float32 each.
    batch_size : int, optional
        Images a batch, see `in_batches`.
    device : torch.device
        Where the batches go.

    Returns
    -------
    ndarray, shape (n, …)
        One row an image.

    Raises
    ------
    InputError
        When there are no images.
    """
    n = len(images[0] if isinstance(images, tuple) else images)
    if n == 0:
        raise InputError("there are 0 images to run; give at least one.")
    table: np.ndarray | None = None
    for rows, values in host_batches(run, images, batch_size, device):
        numbers = values.numpy()
        if table is None:
            table = np.empty((n, *numbers.shape[1:]), numbers.dtype)
        table[rows] = numbers
    assert table is not None
    return table


def made_by(model: StagedModel) -> dict[str, Any]:
    """Record which network images were made with, for their provenance.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    dict
        Its name, weights and digest, whether it is trained, and the arithmetic of its device.
    """
    return {
        "model": model.name,
        "weights": model.weights,
        "trained": model.trained,
        "model_digest": model.digest,
        **arithmetic(model.device),
    }


class Parts:
    """Compute rows of a batch at once, or in parts of a size that memory holds.

    Parameters
    ----------
    size : int
        Rows in the batch.
    image_size : tuple of int
        (height, width) in pixels, for the message.
    device : torch.device
        Where it is computed.
    """

    def __init__(self, size: int, image_size: tuple[int, ...], device: torch.device) -> None:
        self._size = self._part = size
        self._image_size = image_size
        self._device = device

    def __call__(self, run: Callable[[slice], Tensor]) -> Tensor:
        """Compute all rows.

        Parameters
        ----------
        run : callable
            Takes the slice of rows to compute; must change nothing, because it is called again when
            memory runs out.

        Returns
        -------
        Tensor
            The results for all rows.

        Raises
        ------
        InputError
            When memory is too small for one image.
        """
        results: list[Tensor] = []
        start = 0
        while start < self._size:
            rows = slice(start, min(start + self._part, self._size))
            try:
                results.append(run(rows))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if self._part == 1:
                    raise too_large(self._image_size, self._device) from error
            else:
                start = rows.stop
                continue
            self._part = half_shape(self._part)
            release_memory(self._device)
        return results[0] if len(results) == 1 else torch.cat(results)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out.

    Parameters
    ----------
    error : BaseException
        What torch or NumPy raised.

    Returns
    -------
    bool
        True for ``torch.OutOfMemoryError``, for `MemoryError`, and for what allocators say in other
        errors.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    message = str(error)
    message = message.lower()
    return any(words in message for words in _WORDS)


def too_large(size: tuple[int, ...], device: torch.device) -> InputError:
    """Make the error for an image that memory does not hold.

    Parameters
    ----------
    size : tuple of int
        (height, width) in pixels.
    device : torch.device
        Where it was computed.

    Returns
    -------
    InputError
        To be raised by the caller.
    """
    return InputError(
        f"there is not enough memory on {device} for one image of {size} pixels; free some, or "
        "use a smaller network or an earlier stage. Finished images are kept."
    )


@contextmanager
def for_one_image(size: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Run one image inside the block, and say so when memory does not hold it.

    Parameters
    ----------
    size : tuple of int
        (height, width) in pixels.
    device : torch.device
        Where it is computed.

    Yields
    ------
    None
        Errors that mean something else are passed on.

    Raises
    ------
    InputError
        When memory is too small for one image.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise too_large(size, device) from error


def release_memory(device: torch.device) -> None:
    """Give memory that torch holds in reserve back to the device.

    Parameters
    ----------
    device : torch.device
        Nothing is done for a CPU.
    """
    module = getattr(torch, device.type, None)
    if hasattr(module, "empty_cache"):
        module.empty_cache()  # type: ignore[union-attr]


def arithmetic(device: torch.device) -> dict[str, Any]:
    """Say where numbers are computed, and how exactly, for the provenance of what is made.

    Parameters
    ----------
    device : torch.device
        Device of the network.

    Returns
    -------
    dict
        ``device``; of any but a CPU also ``tf32``: False, since passes and gradients are computed
        in float32 (`stimuli_gen.precision.float32_products`), whatever torch is set to.
    """
    if device.type == "cpu":
        return {"device": "cpu"}
    return {"device": device.type, "tf32": False}


@contextmanager
def gradients_on() -> Iterator[None]:
    """Compute gradients inside the block, also inside ``torch.no_grad`` or ``inference_mode``.

    They are computed in float32, see `stimuli_gen.precision.float32_products`.

    Yields
    ------
    None
        Tensors made inside the block can be differentiated.
    """
    with torch.inference_mode(False), torch.enable_grad(), float32_products():
        yield
