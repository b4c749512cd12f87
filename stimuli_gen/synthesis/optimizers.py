"""From a gradient to a step: rules for its length, optimizers, and the space in which they work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# -------------------------------------------------------------------------------------------- rules


def _step_l2(gradient: Tensor) -> Tensor:
    tiny = torch.finfo(gradient.dtype).tiny
    norm = gradient.flatten(1).norm(dim=1)
    norm = norm.clamp_min(tiny)
    norm = norm.view(-1, 1, 1, 1)
    return gradient / norm


STEP_RULES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "l2": _step_l2,
    "sign": torch.sign,
    "raw": lambda gradient: gradient,
}
"""Gradient (b, 3, height, width) → direction: scaled to unit L2 norm per image, its sign, or as it
is."""

# --------------------------------------------------------------------------------------- optimizers

State = dict[str, Tensor]
"""What an optimizer keeps from step to step: each tensor has one row an image, zero when an image
begins."""


class StepNumbers:
    """Numbers that follow from how many steps an image has taken, on the device of the images.

    Each is computed once, for all steps and on the host, when it is first asked for; after that no
    step copies anything to the device.

    Parameters
    ----------
    n_steps : int
        Steps that an image takes at most.
    like : Tensor
        Tensor whose type and device are taken.
    """

    def __init__(self, n_steps: int, like: Tensor) -> None:
        self._n_steps = n_steps
        self._dtype, self._device = like.dtype, like.device
        self._tables: dict[int, tuple[Callable[[int], float], Tensor]] = {}

    def __call__(self, number: Callable[[int], float], taken: Tensor) -> Tensor:
        """Look a number up for each image.

        Slots without an image count on, so they are held at the last step.

        Parameters
        ----------
        number : callable
            Steps taken → number; the same object each time.
        taken : Tensor
            (b,) int64: steps that each image has taken.

        Returns
        -------
        Tensor
            (b, 1, 1, 1).
        """
        key = id(number)
        if key not in self._tables:
            numbers = [number(step) for step in range(self._n_steps)]
            table = torch.tensor(numbers, dtype=self._dtype, device=self._device)
            self._tables[key] = number, table
        _, table = self._tables[key]
        step = taken.clamp(max=self._n_steps - 1)
        return table[step].view(-1, 1, 1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    """Where a batch is.

    Parameters
    ----------
    direction : Tensor
        (b, 3, height, width), of the step rule.
    images : Tensor
        (b, 3, height, width).
    length : float or Tensor
        Length of the step, or (b, 1, 1, 1).
    taken : Tensor
        (b,) int64: steps that each image has taken.
    numbers : StepNumbers
        For what follows from the steps taken.
    """

    direction: Tensor
    images: Tensor
    length: float | Tensor
    taken: Tensor
    numbers: StepNumbers


def _momentum(here: Situation, state: State) -> Tensor:
    before = state.get("velocity", 0.0)
    velocity = here.direction + 0.9 * before
    change = here.length * velocity
    # last, so that the step can be taken again when memory ran out before
    state["velocity"] = velocity
    return change


_MEAN, _SQUARE = 0.9, 0.999

_CORRECTIONS: Mapping[str, Callable[[int], float]] = {
    "mean": lambda taken: 1 / (1 - _MEAN ** (taken + 1)),
    "square": lambda taken: (1 - _SQUARE ** (taken + 1)) ** -0.5,
}
"""Steps taken → factor by which Adam's means of gradients, and the root of its means of squares,
are too small."""


def _adam(here: Situation, state: State) -> Tensor:
    for name in ("mean", "square"):
        if name not in state:
            state[name] = torch.zeros_like(here.direction)
    spread = here.numbers(_CORRECTIONS["square"], here.taken)
    length = here.numbers(_CORRECTIONS["mean"], here.taken) * here.length
    mean, square = state["mean"], state["square"]
    change = torch.empty_like(square)
    # All memory is at hand now. In place from here on: memory traffic is what takes the time.
    mean.mul_(_MEAN).add_(here.direction, alpha=1 - _MEAN)
    square.mul_(_SQUARE).addcmul_(here.direction, here.direction, value=1 - _SQUARE)
    torch.sqrt(square, out=change)
    change.mul_(spread).add_(1e-8)
    return change.reciprocal_().mul_(mean).mul_(length)


LBFGS_MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS keeps of each image; each takes two images of
memory."""

_CURVATURE = 1e-6
"""A pair is kept when its cosine is above this: in float32, a smaller one is rounding."""


def _lbfgs(here: Situation, state: State) -> Tensor:
    """Take an L-BFGS step, each image with its own pairs and no line search.

    The two-loop recursion is algorithm 7.4 of Nocedal & Wright (2006).
    """
    n, gradient = len(here.images), here.direction.flatten(1)
    if "moves" not in state:
        shape = (n, LBFGS_MEMORY, gradient.shape[1])
        state |= {
            "moves": gradient.new_zeros(shape),
            "changes": gradient.new_zeros(shape),
            "last_image": torch.zeros_like(gradient),
            "last_gradient": torch.zeros_like(gradient),
            "pairs": torch.zeros(n, dtype=torch.long, device=gradient.device),
        }
    # keep the change of image, after projection, and of gradient by the last step where curvature
    # is upward
    images = here.images.flatten(1)
    move = images - state["last_image"]
    change = gradient - state["last_gradient"]
    product = (move * change).sum(dim=1)
    curved = product > _CURVATURE * move.norm(dim=1) * change.norm(dim=1)
    kept = curved & (here.taken > 0)
    rows = torch.arange(n, device=gradient.device)
    pair = state["pairs"] % LBFGS_MEMORY
    last_image = images.clone()
    last_gradient = gradient.clone()
    for name, newest in (("moves", move), ("changes", change)):
        oldest = state[name][rows, pair]
        state[name][rows, pair] = torch.where(kept[:, None], newest, oldest)
    # taken again from here, no pair is kept twice
    state["pairs"] = state["pairs"] + kept
    state["last_image"] = last_image
    state["last_gradient"] = last_gradient
    towards = _two_loops(gradient, state)
    norm = towards.norm(dim=1)
    slope = (towards * gradient).sum(dim=1)
    downhill = (slope > 0) & torch.isfinite(norm) & (state["pairs"] > 0)
    towards = torch.where(downhill[:, None], towards, gradient)
    norm = torch.where(downhill, norm, gradient.norm(dim=1))
    norm = norm.clamp_min(torch.finfo(norm.dtype).tiny)
    limit = here.length
    if not isinstance(limit, Tensor):
        limit = norm.new_full((1,), limit)
    scale = limit.flatten() / norm
    # without curvature there is no scale: a full step; with it, the step it says, but none longer
    # than the limit
    scale = torch.where(downhill, scale.clamp_max(1), scale)
    step = scale[:, None] * towards
    return step.view_as(here.images)


def _two_loops(gradient: Tensor, state: State) -> Tensor:
    """Multiply the gradient with the inverse Hessian that the pairs give.

    Images with few pairs use those.
    """

    def dot(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).sum(dim=1, keepdim=True)

    tiny = torch.finfo(gradient.dtype).tiny
    rows = torch.arange(len(gradient), device=gradient.device)
    towards = gradient
    seen = []
    for age in range(LBFGS_MEMORY):
        there = (state["pairs"] > age)[:, None]
        pair = (state["pairs"] - 1 - age) % LBFGS_MEMORY
        move = state["moves"][rows, pair]
        change = state["changes"][rows, pair]
        product = dot(move, change)
        inverse = (1 / product.clamp_min(tiny)).masked_fill(~there, 0.0)
        share = inverse * dot(move, towards)
        towards = towards - share * change
        if age == 0:  # the newest pair gives the scale
            square = change.square().sum(dim=1, keepdim=True).clamp_min(tiny)
            scale = (product / square).masked_fill(~there, 1.0)
        seen.append((share, inverse, move, change))
    towards = scale * towards
    for share, inverse, move, change in reversed(seen):
        correction = share - inverse * dot(change, towards)
        towards = towards + move * correction
    return towards


OPTIMIZERS: Mapping[str, Callable[[Situation, State], Tensor]] = {
    "sgd": lambda here, state: here.length * here.direction,
    "momentum": _momentum,
    "adam": _adam,
    "lbfgs": _lbfgs,
}
"""Situation and state → what to subtract from the images. ``sgd`` is plain; ``momentum`` adds .9 of
the last direction, as torch does; ``adam`` has Kingma & Ba's (2015) constants .9, .999 and 1e-8;
``lbfgs`` (rule ``raw``, pixels) takes the step that the curvature of the last `LBFGS_MEMORY` steps
tells, at most as long (L2) as the length."""

# --------------------------------------------------------------------------------- parametrizations

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """A linear map x = M z in which steps are taken; M has a mean squared singular value of 1.

    Parameters
    ----------
    pull : callable
        Gradient for pixels (b, 3, height, width) → gradient for z: the adjoint of M.
    push : callable
        Change of z → change of the pixels: M.
    """

    pull: Map
    push: Map


OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))
"""Axes of color, of no unit length: light - dark, red - blue, green - purple (Ohta, Kanade & Sakai
1980)."""

OPPONENT_SD = (0.38, 0.11, 0.05)
"""Standard deviations along the unit axes within an image: mean of 185 photographs at 224 x 224,
pixels in [0, 1]."""


def _fourier(shape: torch.Size, device: torch.device) -> Space:
    height, width = shape[-2:]
    down = torch.fft.fftfreq(height, device=device)
    right = torch.fft.fftfreq(width, device=device)
    frequency = (down[:, None].square() + right.square()).sqrt()
    gain = 1 / frequency.clamp_min(1 / max(height, width))
    gain = gain / gain.square().mean().sqrt()
    opponent = torch.tensor(OPPONENT, device=device)
    axes = torch.nn.functional.normalize(opponent, dim=1)
    spread = torch.tensor(OPPONENT_SD, device=device)
    spread = spread / spread.square().mean().sqrt()
    colors = axes.T * spread  # (rgb, opponent)

    def hartley(images: Tensor) -> Tensor:
        # orthonormal and real, and its own inverse
        transformed = torch.fft.fft2(images, norm="ortho")
        return transformed.real - transformed.imag

    def mix(matrix: Tensor, images: Tensor) -> Tensor:
        return torch.einsum("oc,bchw->bohw", matrix, images)

    def pull(gradient: Tensor) -> Tensor:
        mixed = mix(colors.T, gradient)
        return gain * hartley(mixed)

    def push(change: Tensor) -> Tensor:
        transformed = hartley(gain * change)
        return mix(colors, transformed)

    return Space(pull=pull, push=push)


PARAMETRIZATIONS: Mapping[str, Callable[[torch.Size, torch.device], Space]] = {
    "pixels": lambda shape, device: Space(
        pull=lambda gradient: gradient, push=lambda change: change
    ),
    "fourier": _fourier,
}
"""Shape of the images and device → `Space`. ``fourier``: z are amplitudes per spatial frequency f
and color axis; pixels are made of them with weights 1/f and with the spread of colors in
photographs (Olah, Mordvintsev & Schubert 2017, Feature Visualization, Distill), so that coarse
patterns change first."""
