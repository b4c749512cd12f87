"""Limit images: to what can be shown, to L2 and L∞ balls around an anchor, to a mask of pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, unknown_name
from neurometamer.provenance import digest
from neurometamer.reading import reading
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from stimuli_gen.synthesis.objectives import Objective


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


def project_l2(images: Tensor, anchors: Tensor, radius: float) -> Tensor:
    """Bring images back to the L2 balls around their anchors.

    Parameters
    ----------
    images, anchors : Tensor
        (b, 3, height, width).
    radius : float
        In the unit of the pixels.

    Returns
    -------
    Tensor
        The nearest point of each ball: a + d · min(1, radius / ‖d‖), d = image - anchor. Images
        inside stay as they are.
    """
    change = images - anchors
    norm = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    factor = radius / norm.clamp_min(radius)
    nearer = anchors + change * factor
    return torch.where(norm > radius, nearer, images)


def project_linf(images: Tensor, anchors: Tensor, radius: float) -> Tensor:
    """Bring images back to the L∞ balls around their anchors.

    Parameters
    ----------
    images, anchors : Tensor
        (b, 3, height, width).
    radius : float
        In the unit of the pixels.

    Returns
    -------
    Tensor
        The nearest point of each ball: every value clipped to anchor ± radius.
    """
    low = anchors - radius
    high = anchors + radius
    raised = torch.maximum(images, low)
    return torch.minimum(raised, high)


def _sample_l2(random: np.random.Generator, shape: tuple[int, ...], radius: float) -> np.ndarray:
    direction = random.standard_normal(shape)
    length = radius * random.random() ** (1 / direction.size)
    scale = length / np.linalg.norm(direction)
    return (direction * scale).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Ball:
    """A kind of ball around an image: an entry of `BALLS`.

    Parameters
    ----------
    project : callable
        Images, anchors (b, 3, height, width) and radius → the nearest images in their balls.
    sample : callable
        Random generator, shape (3, height, width) and radius → a change, float32, uniform over the
        ball.
    largest : callable
        Number of values of an image → largest distance of two images in [0, 1].
    name : str
        Name of the distance in messages.
    """

    project: Callable[[Tensor, Tensor, float], Tensor]
    sample: Callable[[np.random.Generator, tuple[int, ...], float], np.ndarray]
    largest: Callable[[int], float]
    name: str

    def __call__(self, images: Tensor, anchors: Tensor, radius: float) -> Tensor:
        """Bring images back to the balls around their anchors.

        Parameters
        ----------
        images, anchors : Tensor
            (b, 3, height, width).
        radius : float
            In the unit of the pixels.

        Returns
        -------
        Tensor
            In their balls.
        """
        return self.project(images, anchors, radius)


BALLS: Mapping[str, Ball] = {
    "none": Ball(
        project=lambda images, anchors, radius: images,
        sample=lambda random, shape, radius: np.zeros(shape, dtype=np.float32),
        largest=lambda n_values: np.inf,
        name="any",
    ),
    "l2": Ball(
        project=project_l2,
        sample=_sample_l2,
        largest=lambda n_values: float(np.sqrt(n_values)),
        name="L2",
    ),
    "linf": Ball(
        project=project_linf,
        sample=lambda random, shape, radius: random.uniform(-radius, radius, shape).astype(
            np.float32
        ),
        largest=lambda n_values: 1.0,
        name="L-infinity",
    ),
}
"""Name → kind of ball; ``none`` for no limit."""


def random_in_ball(
    random: np.random.Generator, shape: tuple[int, ...], ball: str, radius: float
) -> np.ndarray:
    """Draw a change of an image from a ball.

    Parameters
    ----------
    random : numpy.random.Generator
        Generator of this image.
    shape : tuple of int
        (3, height, width).
    ball : {"l2", "linf"}
        Kind of ball.
    radius : float
        In the unit of the pixels.

    Returns
    -------
    ndarray
        float32, uniform over the ball.
    """
    return BALLS[ball].sample(random, shape, radius)


def check_ball(ball: str, radius: float | None, size: tuple[int, int] | None = None) -> None:
    """Check that a ball and its radius go together, and that the radius is one of pixels in [0, 1].

    Parameters
    ----------
    ball : str
        See `BALLS`.
    radius : float, optional
        Above 0 for ``l2`` and ``linf``; not to be given for ``none``.
    size : tuple of int, optional
        (height, width) of the images in pixels: no L2 ball is larger than the space of such images.

    Raises
    ------
    InputError
        When they do not, or no image in [0, 1] is so far from another: the radius is in levels of 0
        to 255, then.
    """
    if ball not in BALLS:
        raise unknown_name("ball", ball, BALLS)
    others = [name for name in BALLS if name != "none"]
    if ball == "none":
        if radius is not None:
            raise InputError(f"a radius ({radius}) needs a ball; give {' or '.join(others)}.")
        return
    if radius is None or not 0 < radius < np.inf:
        raise InputError(
            f"the {ball} ball needs a radius above 0, pixels in [0, 1], not {radius}; give one."
        )
    if size is None:
        return
    largest = BALLS[ball].largest(3 * size[0] * size[1])
    if radius >= largest:
        raise InputError(
            f"a radius of {radius:g} holds every image: pixels are in [0, 1], and no two such "
            f"images have a larger {BALLS[ball].name} distance than {largest:.6g}. In levels of 0 "
            f"to 255, divide by 255: {radius:g}/255 = {radius / 255:.4g}; for no limit at all, "
            "leave the ball out."
        )


def read_mask(
    mask: np.ndarray | Mapping[str, np.ndarray] | None, reference_id: str, size: tuple[int, int]
) -> np.ndarray:
    """Find the mask of one image.

    Parameters
    ----------
    mask : ndarray, mapping of str to ndarray, or None
        (height, width), True or 1 where pixels may change; one for all, or one for each reference
        id.
    reference_id : str
        Reference id.
    size : tuple of int
        (height, width) of the images.

    Returns
    -------
    ndarray
        (1, height, width) float32 of 0 and 1; all 1 without a mask.

    Raises
    ------
    InputError
        When the image has no mask, or the mask another size, other values, or no pixel that may
        change.
    """
    if mask is None:
        return np.ones((1, *size), dtype=np.float32)
    if isinstance(mask, Mapping):
        if reference_id not in mask:
            raise InputError(f"no mask for '{reference_id}'; give one for each photograph.")
        mask = mask[reference_id]
    values = np.asarray(mask)
    if values.shape != size:
        raise InputError(
            f"the mask of '{reference_id}' is {values.shape}; give one of {size} (height, width)."
        )
    if not np.isin(values, (0, 1)).all() or not values.any():
        raise InputError(
            f"the mask of '{reference_id}' must hold 0 and 1 only, and at least one 1 (may "
            "change); "
            "give such a mask."
        )
    return values.astype(np.float32)[None]


def read_mask_file(path: str | os.PathLike[str]) -> np.ndarray:
    """Read which pixels may change from an image file.

    Parameters
    ----------
    path : path-like
        Any image; light pixels (at least mid-gray) may change.

    Returns
    -------
    ndarray
        (height, width) bool.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    from PIL import Image

    with reading(path, "an image of a mask") as plain, Image.open(plain) as image:
        gray = image.convert("L")
        levels = np.asarray(gray)
    return levels >= 128


def digest_masks(mask: np.ndarray | Mapping[str, np.ndarray]) -> str:
    """Hash masks as they were given.

    Parameters
    ----------
    mask : ndarray or mapping of str to ndarray
        See `read_mask`.

    Returns
    -------
    str
        16 hexadecimal digits; the same for numbers and for truth values.
    """
    if isinstance(mask, Mapping):
        digests = []
        for reference_id in sorted(mask):
            own = digest_masks(mask[reference_id])
            digests.append([reference_id, own])
        return digest(digests)
    levels = np.asarray(mask).astype(np.uint8)
    return digest(levels)


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Limits:
    """How far an image may go from its photograph, and where.

    Parameters
    ----------
    ball : {"none", "l2", "linf"}
        Keep the image within a ball around the photograph.
    radius : float, optional
        Radius of the ball, pixels in [0, 1]. The float image is in it; so is the 8-bit one in the
        L∞ ball, whose radius is lowered to whole levels of 1/255 for that, while in the L2 ball
        rounding may add half a level a value.
    mask : ndarray or mapping of str to ndarray, optional
        (height, width), 1 where pixels may change, for all or by reference id. Others stay exactly
        as they are.

    Raises
    ------
    InputError
        When ball and radius do not go together.

    Examples
    --------
    >>> from stimuli_gen import Limits
    >>> Limits(ball="l2", radius=2.0)
    Limits(ball='l2', radius=2.0)
    """

    ball: str = "none"
    radius: float | None = None
    mask: np.ndarray | Mapping[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_ball(self.ball, self.radius)

    @property
    def radius_kept(self) -> float | None:
        """Radius that is kept: whole levels of 1/255 in the L∞ ball.

        Returns
        -------
        float or None
            Pixels in [0, 1]; None without a ball.
        """
        if self.ball == "linf" and self.radius is not None:
            return linf_on_8_bits(self.radius)
        return self.radius

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that the ball limits images of this size.

        Parameters
        ----------
        size : tuple of int
            (height, width) of the images in pixels.

        Raises
        ------
        InputError
            When the ball holds every such image.
        """
        check_ball(self.ball, self.radius, size)

    def settings(self) -> dict[str, Any]:
        """Describe the limits for the provenance of images.

        Returns
        -------
        dict
            Ball, radius, the radius that is kept, and the digest of the masks; empty without
            limits.
        """
        settings: dict[str, Any] = {}
        if self.ball != "none":
            settings["ball"] = self.ball
            settings["radius"] = self.radius
            settings["radius_kept"] = self.radius_kept
        if self.mask is not None:
            settings["mask"] = digest_masks(self.mask)
        return settings

    def masks(self, ids: Sequence[str], size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Find the mask of each image.

        Parameters
        ----------
        ids : sequence of str
            Reference ids.
        size : tuple of int
            (height, width) of the images in pixels.

        Returns
        -------
        dict of str to ndarray
            Reference id → (1, height, width), see `read_mask`; empty without limits.
        """
        if self.ball == "none" and self.mask is None:
            return {}
        return {reference_id: read_mask(self.mask, reference_id, size) for reference_id in ids}


def linf_on_8_bits(radius: float) -> float:
    """Shrink an L∞ radius to whole 8-bit levels.

    Rounding an image near an 8-bit photograph then cannot leave the ball.

    Parameters
    ----------
    radius : float
        Pixels in [0, 1].

    Returns
    -------
    float
        The largest multiple of 1/255 that is not above the radius; radii below one level stay as
        they are.
    """
    levels = np.floor(radius * 255 + 1e-6)  # 8/255 as a float is not quite eight levels
    if levels == 0:
        return radius
    return float(levels / 255)


def within_mask(objective: Objective) -> Objective:
    """Evaluate images with their anchor outside the mask, so that no gradient arises there.

    Parameters
    ----------
    objective : callable
        See `stimuli_gen.synthesis.objectives.Objective`; its context holds ``anchor`` (3, height,
        width or broadcast) and ``mask`` (1, height, width).

    Returns
    -------
    callable
        An objective.
    """

    def _evaluate(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        is_free = context["mask"] > 0
        masked = torch.where(is_free, images, context["anchor"])
        return objective(masked, context)

    return _evaluate


def confine_to(ball: str, radius: float | None) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor]:
    """Keep images in the ball around ``context["anchor"]``.

    The function is for `stimuli_gen.synthesis.loop.descend`.

    Clipping to what can be shown afterwards brings an image nearer to every anchor that can be
    shown, so both hold.

    Parameters
    ----------
    ball : str
        See `BALLS`.
    radius : float, optional
        Radius of the ball, pixels in [0, 1].

    Returns
    -------
    callable
        (images, context) → images.
    """
    project = BALLS[ball]

    def _confine(images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        anchors = context["anchor"]
        return project(images, anchors, radius or 0.0)

    return _confine
