"""Between host and device: images are read ahead, results come back in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor


def pinned_buffer(shape: Sequence[int], device: torch.device) -> Tensor:
    """Make room on the host for float32 numbers that go to a device.

    Parameters
    ----------
    shape : sequence of int
        Shape.
    device : torch.device
        Where they go.

    Returns
    -------
    Tensor
        Not filled. For CUDA its memory is pinned, so that it is copied while the device computes.
    """
    return torch.empty(tuple(shape), dtype=torch.float32, pin_memory=device.type == "cuda")


def send(values: Tensor, device: torch.device) -> Tensor:
    """Copy numbers of the host to a device.

    Parameters
    ----------
    values : Tensor
        On the host; for CUDA in pinned memory (`pinned_buffer`), or it is waited for.
    device : torch.device
        Where they go.

    Returns
    -------
    Tensor
        There. Only for CUDA the copy may still be under way: other devices read the host's memory
        late, when something else may stand there.
    """
    return values.to(device, non_blocking=device.type == "cuda")


def read_rows(images: Any, rows: slice, buffer: Tensor) -> Tensor:
    """Read images into a batch, and fill it up with black images.

    Parameters
    ----------
    images : ndarray or StoredImages
        (n, 3, height, width) float32.
    rows : slice
        Which.
    buffer : Tensor
        (b, 3, height, width), on the host.

    Returns
    -------
    Tensor
        The buffer.
    """
    n_rows = rows.stop - rows.start
    batch = buffer.numpy()  # NumPy writes also into what was made in torch's inference mode
    batch[:n_rows] = images[rows]
    batch[n_rows:] = 0
    return buffer


class Reader:
    """Batches of several sets of images; the next one is read while the device computes.

    What lies in memory is not read ahead for a CPU.

    Parameters
    ----------
    arrays : sequence of ndarray or StoredImages
        (n, 3, height, width) float32 each.
    device : torch.device
        Where the batches go.
    """

    def __init__(self, arrays: Sequence[Any], device: torch.device) -> None:
        self._arrays = arrays
        self._device = device
        in_memory = all(isinstance(array, np.ndarray) for array in arrays)
        self._reads_ahead = device.type != "cpu" or not in_memory
        self._thread = ThreadPoolExecutor(1, "reader")  # starts when it is given work
        self._next: tuple[slice, int, Future[list[Tensor]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def batch(self, rows: slice, size: int) -> list[Tensor]:
        """Give a batch of each set, and begin to read the one after it.

        Parameters
        ----------
        rows : slice
            Rows of the sets.
        size : int
            Images in the batch; black ones where there are fewer rows.

        Returns
        -------
        list of Tensor
            (size, 3, height, width) each, on the device.
        """
        following, self._next = self._next, None
        if following is not None and following[:2] == (rows, size):
            batches = following[2].result()
        else:
            batches = self._read(rows, self._buffers(size))
        stop = min(rows.stop + size, len(self._arrays[0]))
        if self._reads_ahead and rows.stop < stop:
            after = slice(rows.stop, stop)
            reading = self._thread.submit(self._read, after, self._buffers(size))
            self._next = after, size, reading
        return [send(batch, self._device) for batch in batches]

    def _buffers(self, size: int) -> list[Tensor]:
        shapes = [(size, *array.shape[1:]) for array in self._arrays]
        return [pinned_buffer(shape, self._device) for shape in shapes]

    def _read(self, rows: slice, buffers: Sequence[Tensor]) -> list[Tensor]:
        pairs = zip(self._arrays, buffers, strict=True)
        return [read_rows(array, rows, buffer) for array, buffer in pairs]


class Returning:
    """Results on their way to the host, in one copy where all have one type of number.

    Parameters
    ----------
    result : Tensor, tuple of Tensor, or dict of Tensor
        One row an image each, on the device.
    device : torch.device
        The device. From CUDA the copy goes on while the device computes what comes after it.
    """

    def __init__(self, result: Any, device: torch.device) -> None:
        named = _named(result)
        self._kind = type(result)
        self._shapes = {name: tensor.shape for name, tensor in named.items()}
        tensors = list(named.values())
        is_alike = len({tensor.dtype for tensor in tensors}) == 1
        self._is_packed = device.type != "cpu" and is_alike and len(tensors) > 1
        if self._is_packed:
            tensors = [torch.cat([tensor.reshape(-1) for tensor in tensors])]
        self._copied: torch.cuda.Event | None = None
        if device.type != "cuda":
            self._tensors = [tensor.cpu() for tensor in tensors]
            return
        self._tensors = []
        for tensor in tensors:
            room = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._tensors.append(room.copy_(tensor, non_blocking=True))
        self._copied = torch.cuda.Event()
        self._copied.record(torch.cuda.current_stream(device))

    def arrived(self, n_rows: int) -> Any:
        """Wait for the results.

        Parameters
        ----------
        n_rows : int
            Rows that count.

        Returns
        -------
        Tensor, tuple of Tensor, or dict of Tensor
            As they were given, with the first rows only, on the host.
        """
        if self._copied is not None:
            self._copied.synchronize()
        tensors: Sequence[Tensor] = self._tensors
        if self._is_packed:
            sizes = [shape.numel() for shape in self._shapes.values()]
            tensors = self._tensors[0].split(sizes)
        result = {}
        for (name, shape), tensor in zip(self._shapes.items(), tensors, strict=True):
            result[name] = tensor.view(shape)[:n_rows]
        if issubclass(self._kind, Tensor):
            return result[0]
        return tuple(result.values()) if self._kind is tuple else result


def _named(result: Any) -> dict[Any, Tensor]:
    """Name the tensors of a result."""
    if isinstance(result, Tensor):
        return {0: result}
    return dict(enumerate(result)) if isinstance(result, tuple) else dict(result)


def bytes_of(result: Any) -> int:
    """Count the bytes of a result.

    Parameters
    ----------
    result : Tensor, tuple of Tensor, or dict of Tensor
        What a function of images gave.

    Returns
    -------
    int
        Of all its tensors.
    """
    return sum(tensor.nbytes for tensor in _named(result).values())


def free_memory(device: torch.device) -> int | None:
    """Ask a device for its free memory.

    Parameters
    ----------
    device : torch.device
        Any but the CPU.

    Returns
    -------
    int or None
        Bytes; None where the device does not tell.
    """
    module = getattr(torch, device.type, None)
    ask = getattr(module, "mem_get_info", None)
    if ask is None:
        return None
    try:
        n_free, _ = ask(device)
    except RuntimeError:
        return None
    return int(n_free)
