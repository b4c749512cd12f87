"""The gradient loop that every generator uses: objective, step rule, projection, a stop for each image, resume.

One image's result never depends on its companions. A convolution library may choose other kernels for another batch
shape (on a CPU, gradients of a 1-image batch differ from those of an 8-image batch by about 1e-6), but with one
fixed shape whose places all get the same arithmetic (see `stimuli_gen.staged.batch_shape`) each image's numbers are
exactly its own. So the loop runs a fixed number of slots: a finished image
leaves its slot to the next one in the queue, and slots that stay empty at the end are computed and ignored.
Batch size, device and number of threads themselves choose kernels, so they may change results, by float rounding
that many steps can amplify; with these three unchanged, results are equal bit for bit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurometamer.store import (
    InputError,
    duplicates,
    name_ids,
    read_hdf5_array,
    read_hdf5_attributes,
    unknown_name,
    write_hdf5,
)
from stimuli_gen.staged import batch_shape

Objective = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
"""(images (b, 3, height, width), context) → per-image loss (b,), to be lowered, and per-image score (b,), to reach
the threshold. Neither may mix images. The context holds what `Start.context` gave, stacked over slots."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """Where one image begins.

    Parameters
    ----------
    image : ndarray
        (3, height, width) float32.
    context : mapping of str to ndarray
        What the objective must know of this image (its target, its anchor …); the same names and shapes for all.
    """

    image: np.ndarray
    context: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Descended:
    """What became of one image.

    Parameters
    ----------
    image : ndarray
        (3, height, width) float32: the iterate that reached the threshold, or the one kept.
    score : float
        Its score as it is.
    score_shown : float
        Its score once rounded to 8 bits, as people will see it.
    steps : int
        Gradient steps taken.
    reached : bool
        Whether both scores are at or above the threshold.
    """

    image: np.ndarray
    score: float
    score_shown: float
    steps: int
    reached: bool


def _step_l2(gradient: Tensor) -> Tensor:
    norm = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return gradient / norm.view(-1, 1, 1, 1)


STEP_RULES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "l2": _step_l2,
    "sign": torch.sign,
    "raw": lambda gradient: gradient,
}
"""Gradient (b, 3, height, width) → direction: scaled to unit L2 norm per image, its sign, or as it is."""

KEEP = ("best", "last")
SOLVERS = ("joint", "round_robin")


def _adam(direction: Tensor, steps: Sequence[int], state: dict[str, Tensor]) -> Tensor:
    first, second = 0.9, 0.999
    for name in ("mean", "square"):
        state.setdefault(name, torch.zeros_like(direction))
    state["mean"] = first * state["mean"] + (1 - first) * direction
    state["square"] = second * state["square"] + (1 - second) * direction.square()
    mean = state["mean"] / _per_image([1 - first ** (n + 1) for n in steps], direction)
    square = state["square"] / _per_image([1 - second ** (n + 1) for n in steps], direction)
    return mean / (square.sqrt() + 1e-8)


OPTIMIZERS: Mapping[str, Callable[[Tensor, Sequence[int], dict[str, Tensor]], Tensor]] = {
    "sgd": lambda direction, steps, state: direction,
    "adam": _adam,
}
"""Direction of the step rule (b, 3, height, width), steps that each image has taken, and the state kept from step to
step (each tensor has one row an image, zero when an image begins) → direction to go. ``sgd`` is plain, without
momentum; ``adam`` has Kingma & Ba's (2015) constants .9, .999 and 1e-8."""


def _per_image(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1, 1)


def box(images: Tensor) -> Tensor:
    """Project onto the images that can be shown.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width).

    Returns
    -------
    Tensor
        Clipped to [0, 1].
    """
    return images.clamp(0, 1)


def shown(images: Tensor) -> Tensor:
    """Round to the 8 bits of a PNG; the same operation as `stimuli_gen.stimuli.to_8bit` and back.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width) in [0, 1].

    Returns
    -------
    Tensor
        Multiples of 1/255.
    """
    return (images * 255).round() / 255


def descend(
    objective: Objective | Sequence[Objective],
    ids: Sequence[str],
    prepare: Callable[[str], Start],
    *,
    threshold: float,
    step_size: float | Callable[[int], float],
    max_steps: int,
    step_rule: str = "l2",
    optimizer: str = "sgd",
    solver: str = "joint",
    turn: int = 1,
    confine: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    project: Callable[[Tensor], Tensor] = box,
    keep: str = "best",
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    keys: Mapping[str, str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Descended]:
    """Lower the loss of each image by gradient steps until its score, once rounded to 8 bits, reaches the threshold.

    Parameters
    ----------
    objective : callable or sequence of callable
        See `Objective`. The losses of a batch are summed, never averaged. Of several, losses are added and the lowest
        score counts; their gradients are computed one after another, so that memory is that of one.
    ids : sequence of str
        Which images to make.
    prepare : callable
        Id → `Start`; called when the image gets its slot.
    threshold : float
        An image is finished when its float version and its 8-bit version both score at least this.
    step_size : float or callable
        Length of a step: L2 norm (``l2``), change of every value (``sign``), or factor (``raw``); images in [0, 1].
        A callable is a schedule: steps that the image has taken → length.
    max_steps : int
        Steps after which an image is given up (and kept, with ``reached=False``).
    step_rule : {"l2", "sign", "raw"}
        See `STEP_RULES`.
    optimizer : {"sgd", "adam"}
        See `OPTIMIZERS`.
    solver : {"joint", "round_robin"}
        Of several objectives: follow the sum of their gradients, or each in turn. Turns go by the image's own steps,
        and the threshold is asked after each full round.
    turn : int
        Steps that one objective has before the next (``round_robin``).
    confine : callable, optional
        Applied after each step and before `project`; takes images and context, so it can use a center of the image.
    project : callable
        Applied after each step.
    keep : {"best", "last"}
        Which iterate of an image that was given up.
    batch_size : int
        Number of slots: the batch always has this shape, rounded up by `stimuli_gen.staged.batch_shape`. Another one
        rounds differently; order of `ids`, companions and interruptions change nothing.
    device : torch.device or str
        Where to compute.
    keys : mapping of str to str, optional
        Id → digest of everything that changes its pixels; needed with `resume`.
    resume : path-like, optional
        Folder. Each finished image is written there at once, and one found there is not made again.
    progress : callable, optional
        Called with (images done, images in all) after each finished image is safe.

    Returns
    -------
    dict of str to Descended
        In the order of `ids`.

    Raises
    ------
    InputError
        When ids repeat, a setting is wrong, or a loss is not finite (the message names step and stimulus).
    """
    _check_settings(ids, step_rule, keep, step_size, max_steps, batch_size)
    aims = _Aims(objective, solver, turn, keep)
    if optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, OPTIMIZERS)
    vault = _Vault(resume, keys)
    done = {one: found for one in ids if (found := vault.get(one)) is not None}
    queue = deque(one for one in ids if one not in done)
    if progress is not None and done:
        progress(len(done), len(ids))
    if not queue:
        return {one: done[one] for one in ids}
    slots = _Slots(queue, prepare, batch_shape(batch_size), torch.device(device))
    while any(slots.ids):
        loss, score, gradient = aims.evaluate(slots)
        slots.remember(score)
        _check_finite(slots, loss)
        for one, result in _finished(aims, slots, score, threshold, max_steps, keep).items():
            vault.put(one, result)
            done[one] = result
            if progress is not None:
                progress(len(done), len(ids))
        direction = OPTIMIZERS[optimizer](STEP_RULES[step_rule](gradient), slots.steps, slots.state)
        length = _lengths(step_size, slots.steps, max_steps, direction)
        moved = slots.images - length * direction
        slots.images = project(moved if confine is None else confine(moved, slots.context))
        slots.steps = [steps + 1 for steps in slots.steps]
        slots.refill([one if one not in done else None for one in slots.ids])
    return {one: done[one] for one in ids}


def _lengths(
    step_size: float | Callable[[int], float], steps: Sequence[int], max_steps: int, like: Tensor
) -> float | Tensor:
    if not callable(step_size):
        return step_size
    return _per_image([step_size(min(one, max_steps - 1)) for one in steps], like)  # empty slots count on


def _check_settings(
    ids: Sequence[str],
    step_rule: str,
    keep: str,
    step_size: float | Callable[[int], float],
    max_steps: int,
    batch_size: int,
) -> None:
    if again := duplicates(ids):
        raise InputError(f"duplicate stimulus id(s): {name_ids(again)}.")
    if step_rule not in STEP_RULES:
        raise unknown_name("step rule", step_rule, STEP_RULES)
    if keep not in KEEP:
        raise unknown_name("iterate to keep", keep, KEEP)
    if not ((callable(step_size) or step_size > 0) and max_steps >= 1 and batch_size >= 1):
        raise InputError(
            f"step size ({step_size}), steps ({max_steps}) and batch size ({batch_size}) must be positive."
        )


class _Slots:
    """A batch of fixed shape whose places are lent to images; a place with the id None is computed and ignored."""

    def __init__(
        self, queue: deque[str], prepare: Callable[[str], Start], batch_size: int, device: torch.device
    ) -> None:
        self._queue, self._prepare = queue, prepare
        first = prepare(queue[0])  # also fills the places that no image needs
        self.images = torch.from_numpy(first.image).to(device).repeat(batch_size, 1, 1, 1)
        self.context = {
            name: torch.as_tensor(value).to(device).expand(batch_size, *np.shape(value)).clone()
            for name, value in first.context.items()
        }
        self.best, self.best_score = self.images.clone(), torch.full((batch_size,), -torch.inf, device=device)
        self.steps = [0] * batch_size
        self.state: dict[str, Tensor] = {}
        self.ids: list[str | None] = []
        self.refill([None] * batch_size)

    def refill(self, ids: list[str | None]) -> None:
        """Lend the free places to the next images of the queue."""
        self.ids = ids
        for place in range(len(ids)):
            if self.ids[place] is None and self._queue:
                self.ids[place] = self._queue.popleft()
                start = self._prepare(self.ids[place])  # type: ignore[arg-type]
                self.images[place] = torch.from_numpy(start.image).to(self.images)
                for name, value in start.context.items():
                    self.context[name][place] = torch.as_tensor(value).to(self.context[name])
                self.best_score[place] = -torch.inf
                self.steps[place] = 0
                for kept in self.state.values():
                    kept[place] = 0

    def remember(self, score: Tensor) -> None:
        """Keep the best iterate of every image."""
        better = score > self.best_score
        self.best = torch.where(better.view(-1, 1, 1, 1), self.images, self.best)
        self.best_score = torch.where(better, score, self.best_score)


class _Aims:
    """The objectives, and which of them an image follows now."""

    def __init__(self, objective: Objective | Sequence[Objective], solver: str, turn: int, keep: str) -> None:
        self.all: tuple[Objective, ...] = (objective,) if callable(objective) else tuple(objective)
        if solver not in SOLVERS:
            raise unknown_name("solver", solver, SOLVERS)
        if not self.all or turn < 1:
            raise InputError(f"need at least one objective ({len(self.all)}) and one step a turn ({turn}).")
        self.turn = turn
        self.in_turn = solver == "round_robin" and len(self.all) > 1
        if self.in_turn and keep == "best":
            raise InputError("objectives in turn have no best iterate; use keep='last'.")

    def evaluate(self, slots: _Slots) -> tuple[Tensor, Tensor, Tensor]:
        """Compute loss, score and the gradient for the images only."""
        if self.in_turn:
            return self._evaluate_in_turn(slots)
        loss, score, gradient = _evaluate(self.all[0], slots)
        for one in self.all[1:]:
            more = _evaluate(one, slots)
            loss, score, gradient = loss + more[0], torch.minimum(score, more[1]), gradient + more[2]
        return loss, score, gradient

    def _evaluate_in_turn(self, slots: _Slots) -> tuple[Tensor, Tensor, Tensor]:
        whose = [(steps // self.turn) % len(self.all) for steps in slots.steps]
        needed = sorted({aim for aim, one in zip(whose, slots.ids, strict=True) if one is not None})
        loss, score, gradient = _evaluate(self.all[needed[0]], slots)
        for aim in needed[1:]:  # images that began at other times have other turns
            mine = torch.tensor([one == aim for one in whose], device=loss.device)
            more = _evaluate(self.all[aim], slots)
            loss, score = torch.where(mine, more[0], loss), torch.where(mine, more[1], score)
            gradient = torch.where(mine.view(-1, 1, 1, 1), more[2], gradient)
        return loss, score, gradient

    def asked(self, steps: int) -> bool:
        """Tell whether an image that has taken so many steps may be finished."""
        return not self.in_turn or steps % (self.turn * len(self.all)) == 0

    def score(self, images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """Compute the lowest score of all objectives."""
        with torch.no_grad():
            scores = [one(images, context)[1] for one in self.all]
        return scores[0] if len(scores) == 1 else torch.stack(scores).amin(dim=0)


def _evaluate(objective: Objective, slots: _Slots) -> tuple[Tensor, Tensor, Tensor]:
    """Compute loss, score and the gradient for the images only."""
    images = slots.images.detach().requires_grad_(True)
    loss, score = objective(images, slots.context)
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    return loss.detach(), score.detach(), gradient


def _check_finite(slots: _Slots, loss: Tensor) -> None:
    if torch.isfinite(loss).all():
        return
    for one, steps, value in zip(slots.ids, slots.steps, loss.tolist(), strict=True):
        if one is not None and not np.isfinite(value):
            raise InputError(
                f"the loss of '{one}' is {value} at step {steps}; use a smaller step size, "
                "and check the network with check_model. Finished images are kept."
            )


def _finished(
    aims: _Aims, slots: _Slots, score: Tensor, threshold: float, max_steps: int, keep: str
) -> dict[str, Descended]:
    """Find the images that reached the threshold, rounded ones included, or have no steps left."""
    late = [steps >= max_steps for steps in slots.steps]
    lent = [one is not None for one in slots.ids]
    asked = [out or aims.asked(steps) for out, steps in zip(late, slots.steps, strict=True)]
    if aims.in_turn:  # the score at hand is that of one objective
        if not any(here and (out or (now and threshold < torch.inf)) for here, out, now in zip(lent, late, asked)):
            return {}
        score = aims.score(slots.images, slots.context)
    scores = score.tolist()
    good = [now and value >= threshold for now, value in zip(asked, scores, strict=True)]
    if not any(here and (out or fine) for here, out, fine in zip(lent, late, good, strict=True)):
        return {}
    scores_shown = aims.score(shown(slots.images), slots.context).tolist()
    reached = [fine and value >= threshold for fine, value in zip(good, scores_shown, strict=True)]
    images = slots.images
    if keep == "best" and any(here and out and not ok for here, out, ok in zip(lent, late, reached, strict=True)):
        ok = torch.tensor(reached, device=images.device)
        images = torch.where(ok.view(-1, 1, 1, 1), images, slots.best)
        scores = torch.where(ok, score, slots.best_score).tolist()
        scores_shown = aims.score(shown(images), slots.context).tolist()
    return {
        one: Descended(
            image=images[place].cpu().contiguous().numpy().copy(),
            score=scores[place],
            score_shown=scores_shown[place],
            steps=slots.steps[place],
            reached=reached[place],
        )
        for place, one in enumerate(slots.ids)
        if one is not None and (reached[place] or late[place])
    }


class _Vault:
    """Finished images on disk, one small file each, named by the digest of what made it."""

    def __init__(self, folder: str | os.PathLike[str] | None, keys: Mapping[str, str] | None) -> None:
        if folder is not None and keys is None:
            raise InputError("a resume folder needs keys: the digest of what makes each image.")
        self._folder = None if folder is None else Path(folder)
        self._keys = keys or {}

    def get(self, one: str) -> Descended | None:
        """Read an image; None when it is not there or its file cannot be read, whatever is wrong with it."""
        if self._folder is None:
            return None
        path = self._folder / f"{self._keys[one]}.h5"
        try:
            told = read_hdf5_attributes(path)["result"]
            return Descended(image=read_hdf5_array(path, "image"), **told)
        except (InputError, KeyError, TypeError):
            return None

    def put(self, one: str, result: Descended) -> None:
        """Write an image atomically."""
        if self._folder is None:
            return
        told = {name: getattr(result, name) for name in ("score", "score_shown", "steps", "reached")}
        path = self._folder / f"{self._keys[one]}.h5"
        write_hdf5(path, arrays={"image": result.image}, attributes={"result": told, "id": one})
