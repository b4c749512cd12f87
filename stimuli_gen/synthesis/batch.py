"""Hold the images at work in chunks of a fixed shape; queue, save and resume them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TypeVar

import torch

from stimuli_gen.batches import (
    LARGEST_BATCH,
    batch_shape,
    half_shape,
    images_at_once,
    out_of_memory,
    release_memory,
    too_large,
)
from stimuli_gen.synthesis.checkpoint import Checkpoint
from stimuli_gen.synthesis.chunk import Chunk, Start, Terms
from stimuli_gen.transfers import free_memory

Result = TypeVar("Result")

CPU_CHUNK = 4
"""Images computed at once on a CPU. Time an image is that of 8 or less (AlexNet 51 ms against 50,
EfficientNet-Lite0 54 against 74, ResNet-50 up to its third block group 191 against 190), and at the
end fewer slots stay empty."""


LOOK_EVERY = 4
"""Passes between two looks of the host, at most, where the device is no CPU."""

LOOK_AFTER_S = 60.0
"""Seconds after which the host looks even where nothing can be finished: for a loss that is not
finite."""

COPIES = 16
"""Arrays of the size of an image that the loop holds of each: the image, its best, those of the
passes until the next look, gradient, direction, change and the state of the optimizer."""


def fitting_slots(first: Start, n_images: int, device: torch.device) -> int:
    """Choose how many images are in work at once, where the caller does not say.

    Parameters
    ----------
    first : Start
        Where an image begins.
    n_images : int
        Images to make.
    device : torch.device
        Where to compute.

    Returns
    -------
    int
        What `stimuli_gen.batches.images_at_once` says on a CPU and where a device does not tell its
        free memory. Elsewhere all images, up to `LARGEST_BATCH`, of which the loop's own numbers
        (`COPIES` of an image and its context) take at most a quarter of the free memory. What the
        network needs is not known: chunks are halved when memory runs out.
    """
    usual = images_at_once(None, device)
    if device.type == "cpu":
        return usual
    n_free = free_memory(device)
    if n_free is None:
        return min(usual, n_images)
    n_bytes = COPIES * first.image.nbytes
    n_bytes += sum(torch.as_tensor(value).nbytes for value in first.context.values())
    return max(1, min(LARGEST_BATCH, n_images, n_free // (4 * n_bytes)))


class Batch:
    """All chunks, whose slots are given to the images of a queue.

    Chunks that no image needs are dropped.

    Parameters
    ----------
    terms : Terms
        Terms of the run.
    queue : deque of str
        Ids of the images to make; it is emptied.
    prepare : callable
        Id → `Start`.
    checkpoint : Checkpoint
        Where unfinished images are.
    batch_size : int, optional
        Slots in all, see `stimuli_gen.batches.batch_shape`; no more chunks than images need. See
        `fitting_slots` for None.
    device : torch.device
        Where to compute.
    """

    def __init__(
        self,
        terms: Terms,
        queue: deque[str],
        prepare: Callable[[str], Start],
        checkpoint: Checkpoint,
        batch_size: int | None,
        device: torch.device,
    ) -> None:
        self._terms = terms
        self._queue = queue
        self._prepare = prepare
        self._checkpoint = checkpoint
        self.chunks: list[Chunk] = []
        if not queue:
            return
        first = prepare(queue[0])
        if batch_size is None:
            batch_size = fitting_slots(first, len(queue), device)
        size = batch_shape(batch_size)
        n_slots = min(size, len(queue))
        self._narrows = device.type != "cpu"
        if device.type == "cpu":
            size = min(size, CPU_CHUNK)
        while not self.chunks:  # smaller and fewer chunks where memory does not hold them
            try:
                n_chunks = math.ceil(n_slots / size)
                self.chunks = [Chunk(size, first, terms, device) for _ in range(n_chunks)]
                for chunk in self.chunks:
                    chunk.verdicts = self.chunks[0].verdicts
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if size == 1 and n_slots == 1:
                    raise too_large(first.image.shape[1:], device) from error
            if size > 1:
                size = half_shape(size)
            else:
                n_slots = half_shape(n_slots)
            release_memory(device)
        self.refill()

    def passes_to_look(self) -> int:
        """Say after how many passes the host should look, where the caller does not.

        Returns
        -------
        int
            1 on a CPU, where it costs nothing. Elsewhere a quarter of the steps that the images at
            work have taken on average, at least 1 and at most `LOOK_EVERY`: few passes are then
            taken for images that are finished already.
        """
        taken = []
        for chunk in self.chunks:
            if chunk.images.device.type == "cpu":
                return 1
            for stimulus_id, steps in zip(chunk.ids, chunk.steps, strict=True):
                if stimulus_id is not None:
                    taken.append(steps)
        return max(1, min(LOOK_EVERY, sum(taken) // (4 * max(len(taken), 1))))

    def anyone_ends(self) -> bool:
        """Tell whether an image has had its last pass: it must be taken out.

        Returns
        -------
        bool
            As far as the host knows.
        """
        for chunk in self.chunks:
            for stimulus_id, steps in zip(chunk.ids, chunk.steps, strict=True):
                if stimulus_id is not None and steps > self._terms.max_steps:
                    return True
        return False

    def each(self, work: Callable[[Chunk], Result]) -> Iterator[tuple[Chunk, Result]]:
        """Work on chunk after chunk; where memory runs out, on halves of it.

        Parameters
        ----------
        work : callable
            Takes a chunk; called again with its halves when it fails for want of memory. Up to
            there it must have changed nothing in the chunk that counts when it is called again.

        Yields
        ------
        chunk : Chunk
            In order.
        result : object
            What `work` returned.

        Raises
        ------
        InputError
            When memory is too small for one image.
        """
        todo = deque(self.chunks)
        while todo:
            chunk = todo.popleft()
            try:
                result = work(chunk)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if chunk.size == 1:
                    raise too_large(tuple(chunk.images.shape[2:]), chunk.images.device) from error
            else:
                yield chunk, result
                continue
            # outside of `except`, where the failed pass still holds its tensors
            release_memory(chunk.images.device)
            halves = [half for half in chunk.halves() if len(half.free) < half.size]
            where = self.chunks.index(chunk)
            self.chunks[where : where + 1] = halves
            todo.extendleft(reversed(halves))

    def refill(self) -> None:
        """Give free slots to the next images of the queue.

        When the queue is empty, images move together, empty chunks are dropped, and chunks get
        narrower where the device is no CPU (there they have four slots).
        """
        for chunk in self.chunks:
            for slot in chunk.free:
                if not self._queue:
                    break
                stimulus_id = self._queue.popleft()
                start = self._prepare(stimulus_id)
                chunk.begin(slot, stimulus_id, start)
                saved = self._checkpoint.load(stimulus_id)
                if saved is None:
                    continue
                row, terms = saved
                if terms == asdict(self._terms) and row["image"].shape == start.image.shape:
                    tensors = {name: torch.from_numpy(value) for name, value in row.items()}
                    chunk.put(slot, tensors)
        self.close_up()

    def close_up(self) -> None:
        """Move images together, drop empty chunks, and make the others narrower."""
        while self.chunks:
            *others, last = self.chunks
            moving = [slot for slot in range(last.size) if last.ids[slot] is not None]
            room = [(chunk, slot) for chunk in others for slot in chunk.free]
            if len(moving) > len(room):
                break
            for slot, (chunk, free) in zip(moving, room):
                chunk.adopt(free, last, slot)
            self.chunks.pop()
        if not self._narrows or self._queue:
            return
        for chunk in self.chunks:
            try:
                chunk.try_narrow()
            except (RuntimeError, MemoryError) as error:  # then it stays as it is
                if not out_of_memory(error):
                    raise

    def save(self) -> None:
        """Write the state of every image at work."""
        terms = asdict(self._terms)
        for chunk in self.chunks:
            for slot, stimulus_id in enumerate(chunk.ids):
                if stimulus_id is None:
                    continue
                row = {}
                for name, value in chunk.row(slot).items():
                    row[name] = value.cpu().numpy()
                self._checkpoint.save(stimulus_id, row, **terms)


class Looks:
    """When the host looks at what the device found.

    Parameters
    ----------
    every : int, optional
        Passes between two looks; see `Batch.passes_to_look` for None.
    has_news : bool
        Whether an image may be finished, or somebody listens; else it looks only when it must.
    """

    def __init__(self, every: int | None, *, has_news: bool) -> None:
        self._every, self._has_news = every, has_news
        self._n_unseen, self._looked_at = 0, time.monotonic()
        self.n_passes = 0

    def due(self, batch: Batch, *, must: bool) -> bool:
        """Count a pass, and tell whether to look after it.

        Parameters
        ----------
        batch : Batch
            The images at work.
        must : bool
            Whether they are to be saved.

        Returns
        -------
        bool
            True also when an image has taken its last step, and after `LOOK_AFTER_S`; then the
            count starts again.
        """
        self.n_passes += 1
        self._n_unseen += 1
        every = self._every or batch.passes_to_look()
        is_time = self._has_news and self._n_unseen >= every
        has_waited = time.monotonic() - self._looked_at > LOOK_AFTER_S
        if not (is_time or has_waited or must or batch.anyone_ends()):
            return False
        self._n_unseen, self._looked_at = 0, time.monotonic()
        return True
