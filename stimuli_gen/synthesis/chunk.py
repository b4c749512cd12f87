"""A chunk: a fixed number of slots for images, on one device, and what the host knows of them."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stimuli_gen.batches import batch_shape
from stimuli_gen.synthesis.checkpoint import Descended
from stimuli_gen.synthesis.optimizers import PARAMETRIZATIONS, Space, State, StepNumbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where one image begins.

    Parameters
    ----------
    image : ndarray
        (3, height, width) float32.
    context : mapping of str to ndarray or Tensor
        What the objective must know of this image (its target, its anchor …); the same names and
        shapes for all. What lies on the device already is not copied through the host.
    """

    image: np.ndarray
    context: Mapping[str, np.ndarray | Tensor]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What images at work must know of the run.

    Parameters
    ----------
    optimizer, parametrization : str
        Optimizer and parametrization of a saved state.
    max_steps : int
        Largest number of steps.
    drafted : bool
        Whether images begin with drafts.
    exact_from : int
        Steps after which an image follows the exact objectives.
    """

    optimizer: str
    parametrization: str
    max_steps: int
    drafted: bool
    exact_from: int


NUMBERS = ("loss", "score", "taken", "counts", "waits", "is_exact")
"""Rows of `Iterate.numbers`: loss; score; steps taken; whether the score is that of the exact
objectives, so that the image may be finished; whether it waits; whether it follows the exact
objectives from now on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Iterate:
    """The images of a chunk as they were in one pass, kept until the host looks at it.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width), before the step.
    taken : Tensor
        (b,) int64: steps taken before it.
    numbers : Tensor
        (6, b): see `NUMBERS`.
    """

    images: Tensor
    taken: Tensor
    numbers: Tensor

    def __getitem__(self, rows: slice) -> Iterate:
        """Give some images.

        Parameters
        ----------
        rows : slice
            Their slots.

        Returns
        -------
        Iterate
            Views.
        """
        return Iterate(
            images=self.images[rows], taken=self.taken[rows], numbers=self.numbers[:, rows]
        )


class Chunk:
    """A fixed number of slots for images; a slot with the id None is computed and ignored.

    Parameters
    ----------
    size : int
        Number of slots.
    first : Start
        Fills all slots until an image gets them.
    terms : Terms
        Terms of the run.
    device : torch.device
        Where to compute.
    """

    def __init__(self, size: int, first: Start, terms: Terms, device: torch.device) -> None:
        self.size = size
        self._terms = terms
        image = torch.from_numpy(first.image).to(device)
        self.images = image.repeat(size, 1, 1, 1)
        self.context = {}
        for name, value in first.context.items():
            tensor = torch.as_tensor(value).to(device)
            self.context[name] = tensor.expand(size, *tensor.shape).clone()
        self.best = self.images.clone()
        self.best_score = torch.full((size,), -torch.inf, device=device)
        self.steps = [0] * size
        self.exact = [True] * size
        # the same on the device
        self.taken = torch.zeros(size, dtype=torch.long, device=device)
        self.is_exact = torch.ones(size, dtype=torch.bool, device=device)
        # left their drafts since the host looked, so it does not know yet what they follow
        self.waits = torch.zeros(size, dtype=torch.bool, device=device)
        self.iterates: list[Iterate] = []
        self.numbers = StepNumbers(terms.max_steps, self.images)
        self.narrow: tuple[Chunk, Tensor] | None = None  # a smaller chunk, and its slots here
        self.verdicts: dict[tuple[int, int], bool] = {}
        self.state: State = {}
        self.ids: list[str | None] = [None] * size
        parametrization = PARAMETRIZATIONS[terms.parametrization]
        self.space: Space = parametrization(self.images.shape, device)

    @property
    def free(self) -> list[int]:
        """Slots without an image.

        Returns
        -------
        list of int
            In order.
        """
        slots = []
        for slot, stimulus_id in enumerate(self.ids):
            if stimulus_id is None:
                slots.append(slot)
        return slots

    def release(self, finished: Container[str]) -> None:
        """Free the slots of images that are finished.

        Parameters
        ----------
        finished : container of str
            Their ids.
        """
        for slot, stimulus_id in enumerate(self.ids):
            if stimulus_id is not None and stimulus_id in finished:
                self.ids[slot] = None

    def full_context(self) -> dict[str, Tensor]:
        """Lay out the context for objectives.

        Returns
        -------
        dict of str to Tensor
            What `Start.context` gave, one row a slot, and ``step`` (b,).
        """
        return {**self.context, "step": self.taken}

    def drafting(self) -> list[bool | None]:
        """Say of each image whether it follows the drafts.

        Returns
        -------
        list of bool or None
            None for a slot without an image.
        """
        now_exact: list[bool] = []
        drafting: list[bool | None] = []
        for slot, stimulus_id in enumerate(self.ids):
            is_late = self.steps[slot] >= self._terms.exact_from
            exact = self.exact[slot] or is_late
            now_exact.append(exact)
            is_drafting = None if stimulus_id is None else not exact
            drafting.append(is_drafting)
        self.exact = now_exact
        return drafting

    def begin(self, slot: int, stimulus_id: str, start: Start) -> None:
        """Give a slot to an image that begins.

        Parameters
        ----------
        slot : int
            A free one.
        stimulus_id : str
            Its id.
        start : Start
            Where it begins.
        """
        self.ids[slot] = stimulus_id
        self._count(slot, 0, not self._terms.drafted)
        self.images[slot] = torch.from_numpy(start.image).to(self.images)
        for name, value in start.context.items():
            rows = self.context[name]
            rows[slot] = torch.as_tensor(value).to(rows)
        self.best_score[slot] = -torch.inf
        for kept in self.state.values():
            kept[slot] = 0

    def row(self, slot: int) -> dict[str, Tensor]:
        """Give all that is of one image but its context.

        Parameters
        ----------
        slot : int
            Where it is.

        Returns
        -------
        dict of str to Tensor
            Image, best iterate and its score, steps, whether it follows the exact objectives, rows
            of the optimizer.
        """
        row = {
            "image": self.images[slot],
            "best": self.best[slot],
            "best_score": self.best_score[slot],
            "steps": torch.tensor(self.steps[slot]),
            "exact": torch.tensor(self.exact[slot]),
        }
        for name, kept in self.state.items():
            row[f"optimizer {name}"] = kept[slot]
        return row

    def put(self, slot: int, row: Mapping[str, Tensor]) -> None:
        """Go on with an image where `row` left it.

        Parameters
        ----------
        slot : int
            Where it is now.
        row : mapping of str to Tensor
            What `row` gave.
        """
        for kept in self.state.values():
            kept[slot] = 0
        device = self.images.device
        for name, value in row.items():
            if not name.startswith("optimizer "):
                continue
            own = name.removeprefix("optimizer ")
            if own not in self.state:
                shape = (self.size, *value.shape)
                self.state[own] = torch.zeros(shape, dtype=value.dtype, device=device)
            self.state[own][slot] = value.to(self.state[own])
        self.images[slot] = row["image"].to(self.images)
        self.best[slot] = row["best"].to(self.best)
        self.best_score[slot] = row["best_score"].to(self.best_score)
        self._count(slot, int(row["steps"]), bool(row["exact"]))

    def _count(self, slot: int, steps: int, exact: bool) -> None:
        """Note how far an image is, for the host and on the device."""
        self.steps[slot] = steps
        self.exact[slot] = exact
        self.taken[slot] = steps
        self.is_exact[slot] = exact

    def adopt(self, slot: int, other: Chunk, there: int) -> None:
        """Take over an image from another chunk.

        Parameters
        ----------
        slot : int
            A free one.
        other : Chunk
            Where the image is.
        there : int
            Its slot in it, which becomes free.
        """
        self.ids[slot] = other.ids[there]
        other.ids[there] = None
        self.put(slot, other.row(there))
        for name, value in other.context.items():
            self.context[name][slot] = value[there]

    def try_narrow(self) -> None:
        """Go on in a smaller shape where an eighth of the slots is free.

        It may round otherwise, so the first time the next pass is taken in both (see `settle`).
        """
        n_used = self.size - len(self.free)
        size = batch_shape(max(n_used, 1))
        key = self.size, size
        if not n_used or size > self.size * 7 // 8 or not self.verdicts.get(key, True):
            return
        # the images at work, and empty slots to fill the shape up
        left_out = self.free[size - self.size :]
        kept = [slot for slot in range(self.size) if slot not in left_out]
        rows = torch.tensor(kept, device=self.images.device)
        chunk = object.__new__(Chunk)
        chunk.__dict__ |= self.__dict__
        chunk.size, chunk.iterates = size, []
        for name in ("images", "best", "best_score", "taken", "is_exact", "waits"):
            setattr(chunk, name, getattr(self, name)[rows])
        chunk.context = {name: value[rows] for name, value in self.context.items()}
        chunk.state = {name: value[rows] for name, value in self.state.items()}
        chunk.steps = [self.steps[slot] for slot in kept]
        chunk.exact = [self.exact[slot] for slot in kept]
        chunk.ids = [self.ids[slot] for slot in kept]
        if key in self.verdicts:
            self.__dict__ |= chunk.__dict__
        else:
            self.narrow = chunk, rows

    def settle(self, wide: Sequence[Tensor], again: Sequence[Tensor]) -> bool:
        """Take the smaller chunk if it gave the same numbers, bit for bit, and note that.

        Parameters
        ----------
        wide, again : sequence of Tensor
            Loss, score and gradient of this chunk and of the smaller one.

        Returns
        -------
        bool
            Whether it did; the gradient must not be zero, which it is in every shape.
        """
        assert self.narrow is not None
        chunk, rows = self.narrow
        self.narrow = None
        alike = (again[-1] != 0).any()
        for values, others in zip(wide, again, strict=True):
            alike &= (values[rows] == others).all()
        is_same = bool(alike)
        self.verdicts[self.size, chunk.size] = is_same
        if is_same:
            self.__dict__ |= chunk.__dict__
        return is_same

    def halves(self) -> list[Chunk]:
        """Split the slots between two chunks.

        Returns
        -------
        list of Chunk
            Two; the second may have one slot more.
        """
        cut = self.size // 2
        halves = []
        for rows in (slice(0, cut), slice(cut, self.size)):
            half = object.__new__(Chunk)
            half.size = rows.stop - rows.start
            half._terms = self._terms
            half.space = self.space
            half.images = self.images[rows]
            half.best = self.best[rows]
            half.best_score = self.best_score[rows]
            half.context = {name: value[rows] for name, value in self.context.items()}
            half.state = {name: value[rows] for name, value in self.state.items()}
            half.taken = self.taken[rows]
            half.is_exact = self.is_exact[rows]
            half.waits = self.waits[rows]
            half.iterates = [iterate[rows] for iterate in self.iterates]
            half.numbers = self.numbers
            half.narrow = None
            half.verdicts = self.verdicts
            half.steps = self.steps[rows]
            half.exact = self.exact[rows]
            half.ids = self.ids[rows]
            halves.append(half)
        return halves

    def now_exact(self) -> Tensor:
        """Say of each image on the device whether it follows the exact objectives now.

        Returns
        -------
        Tensor
            (b,) bool.
        """
        if not self._terms.drafted:
            return self.is_exact
        return self.is_exact | (self.taken >= self._terms.exact_from)

    def remember(self, score: Tensor, counts: Tensor) -> None:
        """Keep the best iterate of every image.

        Parameters
        ----------
        score : Tensor
            (b,).
        counts : Tensor
            (b,) bool: whether the score is that of the exact objectives.
        """
        better = score > self.best_score
        if self._terms.drafted:
            better &= counts
        is_better = better.view(-1, 1, 1, 1)
        self.best = torch.where(is_better, self.images, self.best)
        self.best_score = torch.where(better, score, self.best_score)

    def advance(
        self,
        iterate: Iterate,
        moved: Tensor,
        before: Mapping[str, Tensor],
        is_exact: Tensor,
        *,
        waits: bool,
    ) -> None:
        """Note that all images have taken a step; nothing here takes memory of an image.

        Parameters
        ----------
        iterate : Iterate
            The images before it.
        moved : Tensor
            The images after it, (b, 3, height, width).
        before : mapping of str to Tensor
            State of the optimizer before it, for images that wait; empty where none can.
        is_exact : Tensor
            (b,) bool: which follow the exact objectives from now on.
        waits : bool
            Whether images that leave their drafts wait until the host has looked.
        """
        for name, kept in self.state.items():
            if name in before:
                mask = self.waits.view(-1, *[1] * (kept.ndim - 1))
                torch.where(mask, before[name], kept, out=kept)
        self.images = moved
        self.iterates.append(iterate)
        taken = self.taken + 1
        if waits:
            taken -= self.waits.long()
            now_exact = self.now_exact()
            self.waits = self.waits | (is_exact & ~now_exact)
        self.taken = taken
        self.steps = [steps + 1 for steps in self.steps]
        if self._terms.drafted:
            self.is_exact = is_exact

    def at_passes(self, number: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Give each image as it was in one of the passes since the last look.

        Parameters
        ----------
        number : ndarray
            (b,) number of the pass of each.

        Returns
        -------
        images : Tensor
            (b, 3, height, width).
        context : dict of str to Tensor
            As `full_context`, with the steps taken then.
        """
        first = self.iterates[0]
        images, taken = first.images, first.taken
        for other in sorted(set(number.tolist()) - {0}):
            mine = torch.from_numpy(number == other).to(images.device)
            iterate = self.iterates[other]
            images = torch.where(mine.view(-1, 1, 1, 1), iterate.images, images)
            taken = torch.where(mine, iterate.taken, taken)
        return images, {**self.context, "step": taken}

    def read(self) -> dict[str, np.ndarray]:
        """Copy what the passes since the last look found to the host, all in one copy.

        Returns
        -------
        dict of str to ndarray
            `NUMBERS` → (n_passes, b) float64.
        """
        passes = torch.stack([iterate.numbers for iterate in self.iterates])
        values = passes.cpu().double().numpy()
        return {name: values[:, row] for row, name in enumerate(NUMBERS)}

    def frames(
        self,
        found: Mapping[str, np.ndarray],
        at_work: np.ndarray,
        finished: Mapping[str, Descended],
    ) -> list[tuple[str, int, np.ndarray]]:
        """Give the frames of an animation that are due.

        Parameters
        ----------
        found : mapping of str to ndarray
            What `read` gave.
        at_work : ndarray
            (n_passes, b) bool: passes of images that count.
        finished : mapping of str to Descended
            Images that end now, by id.

        Returns
        -------
        list of tuple
            Id, steps taken and image, (3, height, width): of those that end, and four each time
            the steps of an image double.
        """
        frames = []
        for number, slot in np.argwhere(at_work).tolist():
            stimulus_id = str(self.ids[slot])
            step = int(found["taken"][number, slot])
            result = finished.get(stimulus_id)
            if result is not None and step >= result.steps:
                if step == result.steps:
                    frames.append((stimulus_id, step, result.image))
            elif step == 0 or step == round(2 ** (round(4 * math.log2(step)) / 4)):
                image = self.iterates[number].images[slot]
                frames.append((stimulus_id, step, image.cpu().numpy().copy()))
        return frames

    def looked_at(self, last: Mapping[str, np.ndarray]) -> None:
        """Note what the host knows now: steps, objectives that are followed, and nobody waits.

        Parameters
        ----------
        last : mapping of str to ndarray
            `NUMBERS` of the last pass, (b,) each.
        """
        steps = last["taken"] + (last["waits"] == 0)
        self.steps = steps.astype(int).tolist()
        self.exact = (last["is_exact"] == 1).tolist()
        if self._terms.drafted:
            self.waits = torch.zeros_like(self.waits)
        self.iterates = []
