"""What is done to images before each step of training; evaluations use the same functions.

Every image has a seed of its own: what it gets depends neither on its batch nor on the number of
processes. Images are pixels in [0, 1] and stay there.

References
----------
Mądry et al. (2018). Towards deep learning models resistant to adversarial attacks. ICLR (attacks).
Feather et al. (2023). Nature Neuroscience 26, 2017-2034 (random perturbations of a fixed size).
Jang, McCormack & Tong (2021). PLoS Biology 19, e3001418 (noise by SSNR).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neurometamer.training.recipes import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images and what is drawn for each of them.

    Parameters
    ----------
    images : Tensor, shape (n, 3, height, width)
        Pixels in [0, 1], on the device of the network.
    labels : Tensor of int64, shape (n,)
        Their classes.
    seeds : ndarray of int64, shape (n,)
        One an image.
    places : ndarray of int64, shape (n,)
        Place of each image in the whole batch.
    n_whole : int
        Images of the whole batch.
    epoch : int
        From 0.

    Examples
    --------
    >>> import torch
    >>> images = torch.full((2, 3, 8, 8), 0.5)
    >>> places = np.arange(2)
    >>> batch = Batch(images=images, labels=places, seeds=places, places=places, n_whole=2)
    >>> batch.epoch
    0
    """

    images: Tensor
    labels: Tensor
    seeds: np.ndarray
    places: np.ndarray
    n_whole: int
    epoch: int = 0


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What is done to images: an entry of `PERTURBATIONS`.

    Parameters
    ----------
    apply : callable
        Called with the network (pixels in, logits out), a `Batch` and a `TrainingRecipe`; returns
        images.
    help : str
        One line.

    Examples
    --------
    >>> PERTURBATIONS["random_l2"].help
    'a random direction of length radius'
    """

    apply: Callable[[nn.Module, Batch, TrainingRecipe], Tensor]
    help: str


def perturb(network: nn.Module, batch: Batch, recipe: TrainingRecipe) -> Tensor:
    """Perturb images as a recipe says.

    Parameters
    ----------
    network : torch.nn.Module
        Pixels in, logits out; attacks need it.
    batch : Batch
        Images.
    recipe : TrainingRecipe
        The recipe.

    Returns
    -------
    Tensor
        Of the shape of the images, in [0, 1], without a graph.
    """
    changed = PERTURBATIONS[recipe.perturbation].apply(network, batch, recipe)
    return changed.detach()


# ------------------------------------------------------------------------------------- adversarial


def attack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    ball: str,
    radius: float,
    steps: int,
    step_size: float,
    starts: Tensor | None = None,
    state: str = "eval",
) -> Tensor:
    """Raise the cross-entropy of images by projected gradient descent within a ball.

    Gradients are those of the images alone: none is computed for a weight.

    Parameters
    ----------
    network : torch.nn.Module
        Pixels in, logits out.
    images : Tensor, shape (n, 3, height, width)
        In [0, 1].
    labels : Tensor of int64, shape (n,)
        Right classes.
    ball : {"l2", "linf"}
        Ball around each image; steps are normalized gradients, or their signs.
    radius : float
        In pixels.
    steps : int
        Number of steps.
    step_size : float
        Their length, in pixels.
    starts : Tensor, optional
        First images, in the ball.
    state : {"eval", "train"}
        State of the network meanwhile; it is put back, with the running moments of BatchNorm.

    Returns
    -------
    Tensor
        In the ball and in [0, 1].
    """
    import torch
    from torch.nn import functional

    changed = images if starts is None else starts
    with frozen_weights(network, state):
        for _ in range(steps):
            changed = changed.detach().requires_grad_(True)
            loss = functional.cross_entropy(network(changed), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, changed)
            with torch.no_grad():
                gradient = gradient.float()
                if ball == "linf":
                    step = gradient.sign()
                else:
                    step = gradient / _lengths(gradient).clamp_min(1e-30)
                changed = confined(changed + step_size * step, images, ball, radius)
    return changed.detach()


@contextlib.contextmanager
def frozen_weights(network: nn.Module, state: str) -> Iterator[None]:
    """Freeze the weights of a network and set its state; put all back afterwards.

    Parameters
    ----------
    network : torch.nn.Module
        The network.
    state : {"eval", "train"}
        Its state meanwhile; running moments of BatchNorm are put back, too.

    Yields
    ------
    None
        The block attacks.
    """
    states = {module: module.training for module in network.modules()}
    learned = [weight for weight in network.parameters() if weight.requires_grad]
    moments = {}
    if state == "train":
        moments = {buffer: buffer.clone() for buffer in network.buffers()}
    network.train(state == "train")
    for weight in learned:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for module, was_training in states.items():
            module.training = was_training
        for weight in learned:
            weight.requires_grad_(True)
        for buffer, before in moments.items():
            buffer.copy_(before)


def confined(images: Tensor, centers: Tensor, ball: str, radius: float) -> Tensor:
    """Bring images back into a ball around their centers, and into [0, 1].

    Parameters
    ----------
    images, centers : Tensor, shape (n, 3, height, width)
        Images, and the middles of their balls, which are in [0, 1].
    ball : {"l2", "linf"}
        Kind of ball.
    radius : float
        In pixels.

    Returns
    -------
    Tensor
        Images.
    """
    change = images - centers
    if ball == "linf":
        change = change.clamp(-radius, radius)
    else:
        scale = radius / _lengths(change).clamp_min(radius)
        change = change * scale
    return (centers + change).clamp(0, 1)


def _lengths(change: Tensor) -> Tensor:
    """Measure each image's length, shape (n, 1, 1, 1)."""
    flat = change.flatten(1)
    return flat.norm(dim=1)[:, None, None, None]


def random_starts(batch: Batch, ball: str, radius: float) -> Tensor:
    """Draw a point of the ball around each image, uniform over the ball.

    Parameters
    ----------
    batch : Batch
        Images.
    ball : {"l2", "linf"}
        Kind of ball.
    radius : float
        In pixels.

    Returns
    -------
    Tensor
        In [0, 1].
    """
    if ball == "linf":
        change = _drawn(batch, "rand") * 2 - 1
    else:
        change = _drawn(batch, "randn")
        n_values = math.prod(change.shape[1:])
        shares = []
        for seed in batch.seeds:
            own = np.random.default_rng([int(seed), 1])
            shares.append(own.random() ** (1 / n_values))
        share = beside(shares, batch.images)[:, None, None, None]
        change = change / _lengths(change) * share
    return (batch.images + radius * change).clamp(0, 1)


def _drawn(batch: Batch, kind: str) -> Tensor:
    """Draw numbers for each image from its own generator, on its device."""
    import torch

    from stimuli_gen.transfers import send

    shape = batch.images.shape[1:]
    device = batch.images.device
    draw = getattr(torch, kind)
    try:
        torch.Generator(device=device)
    except RuntimeError:  # the device draws no numbers
        device = torch.device("cpu")
    values = torch.empty_like(batch.images, device=device)
    for row, seed in enumerate(batch.seeds):
        own = torch.Generator(device=device).manual_seed(int(seed))
        values[row] = draw(shape, generator=own, device=device)
    return send(values, batch.images.device)


def beside(numbers: Sequence[float] | np.ndarray, images: Tensor) -> Tensor:
    """Bring numbers, such as one of each image, to the device of images, without waiting for it.

    Parameters
    ----------
    numbers : sequence of float, or ndarray
        Numbers; whole ones stay whole.
    images : Tensor
        Images.

    Returns
    -------
    Tensor
        Of the type of the images, or int64.
    """
    import torch

    from stimuli_gen.transfers import send

    values = torch.as_tensor(numbers)
    if values.is_floating_point():
        values = values.to(images.dtype)
    if images.device.type == "cuda":
        values = values.pin_memory()
    return send(values, images.device)


def attacked_batch(
    network: nn.Module, batch: Batch, recipe: TrainingRecipe, *, ball: str
) -> Tensor:
    """Attack images as a recipe says.

    Parameters
    ----------
    network : torch.nn.Module
        Pixels in, logits out.
    batch : Batch
        Images.
    recipe : TrainingRecipe
        The recipe.
    ball : {"l2", "linf"}
        Kind of ball.

    Returns
    -------
    Tensor
        Images.
    """
    starts = None
    if recipe.random_start:
        starts = random_starts(batch, ball, recipe.radius)
    return attack(
        network,
        batch.images,
        batch.labels,
        ball=ball,
        radius=recipe.radius,
        steps=recipe.attack_steps,
        step_size=recipe.attack_step_size,
        starts=starts,
        state=recipe.attack_state,
    )


def random_steps(batch: Batch, ball: str, radius: float) -> Tensor:
    """Go exactly the radius away from each image, in a random direction; then clamp.

    Parameters
    ----------
    batch : Batch
        Images.
    ball : {"l2", "linf"}
        A direction drawn from (-.5, .5) a value, of the length of the radius; or the radius added
        to each value or taken from it.
    radius : float
        In pixels.

    Returns
    -------
    Tensor
        In [0, 1].
    """
    drawn = _drawn(batch, "rand") - 0.5
    change = drawn / _lengths(drawn) if ball == "l2" else drawn.sign()
    return (batch.images + radius * change).clamp(0, 1)


# -------------------------------------------------------------------------------------------- blur


def blurred(images: Tensor, sigmas: Sequence[float] | np.ndarray) -> Tensor:
    """Blur images by Gaussians that reach three standard deviations to each side.

    Parameters
    ----------
    images : Tensor, shape (n, channels, height, width)
        Pixels.
    sigmas : sequence of float
        Standard deviation of each, pixels; 0 leaves an image as it is. Kernels have 6 sigma + 1
        pixels, rounded up to an odd number, and images are mirrored at their borders.

    Returns
    -------
    Tensor
        Images.

    Raises
    ------
    InputError
        When a kernel is larger than twice the image.

    Examples
    --------
    >>> import torch
    >>> image = torch.zeros(1, 1, 9, 9)
    >>> image[..., 4, 4] = 1
    >>> out = blurred(image, [1.0])
    >>> round(float(out.sum()), 4), round(float(out.max()), 3)
    (1.0, 0.159)
    """
    from torchvision.transforms.v2.functional import gaussian_blur

    values = np.asarray(sigmas, dtype=float)
    out = images.clone()
    levels, counts = np.unique(values[values > 0], return_counts=True)
    order = np.argsort(values, kind="stable")[len(values) - counts.sum() :]
    for sigma, rows in zip(levels, beside(order, images).split(counts.tolist()), strict=True):
        check_sigma(float(sigma), images.shape[-2:])
        size = 2 * math.ceil(3 * sigma) + 1
        out[rows] = gaussian_blur(images[rows], [size, size], [float(sigma), float(sigma)])
    return out


def check_sigma(sigma: float, size: Sequence[int]) -> None:
    """Refuse a blur that is wider than an image.

    Parameters
    ----------
    sigma : float
        Standard deviation, pixels.
    size : sequence of int
        Height and width.

    Raises
    ------
    InputError
        When the kernel reaches beyond the mirrored image.
    """
    if math.ceil(3 * sigma) >= min(size):
        raise InputError(
            f"a blur of {sigma:g} pixels reaches beyond images of {size[0]} x {size[1]}; give "
            f"sigmas below {(min(size) - 1) / 3:.3g}."
        )


def check_radius(recipe: TrainingRecipe, size: Sequence[int]) -> None:
    """Refuse a radius that no two images are apart.

    Parameters
    ----------
    recipe : TrainingRecipe
        Its perturbation and radius, pixels in [0, 1].
    size : sequence of int
        Height and width, pixels.

    Raises
    ------
    InputError
        When the radius is larger than the distance of a black image from a white one.
    """
    widest = 1.0 if recipe.perturbation.endswith("linf") else math.sqrt(3 * math.prod(size))
    if recipe.perturbation.endswith(("l2", "linf")) and recipe.radius > widest:
        raise InputError(
            f"radius is {recipe.radius:g}, but black and white images of {size[0]} x {size[1]} are "
            f"{widest:.4g} apart in '{recipe.perturbation}', since pixels are in [0, 1]; give less "
            "(of levels from 0 to 255 a 255th)."
        )


def drawn_sigmas(batch: Batch, recipe: TrainingRecipe) -> np.ndarray:
    """Draw the blur of each image.

    Parameters
    ----------
    batch : Batch
        Seeds, places in the batch, and the epoch.
    recipe : TrainingRecipe
        The recipe.

    Returns
    -------
    ndarray of float, shape (n,)
        Standard deviations, pixels.
    """
    if recipe.sigma_epochs:
        stage = min(batch.epoch // recipe.sigma_epochs, len(recipe.sigmas) - 1)
        values = np.full(len(batch.seeds), recipe.sigmas[stage])
    elif recipe.sigma_range:
        lowest, highest = recipe.sigma_range
        values = lowest + (highest - lowest) * _uniform(batch)
    else:
        values = _chosen(batch, recipe.sigmas, recipe.sigma_odds)
    # batches are in random order: the first places are a random part
    n_blurred = round(recipe.blurred_share * batch.n_whole)
    return np.where(batch.places < n_blurred, values, 0.0)


def _uniform(batch: Batch) -> np.ndarray:
    return np.array([np.random.default_rng([int(seed), 2]).random() for seed in batch.seeds])


def _chosen(batch: Batch, values: Sequence[float], odds: Sequence[float]) -> np.ndarray:
    """Choose one of some values for each image."""
    shares = np.array(odds or np.ones(len(values)), dtype=float)
    edges = np.cumsum(shares) / shares.sum()
    chosen = np.searchsorted(edges, _uniform(batch), side="right")
    last = len(values) - 1
    return np.asarray(values, dtype=float)[np.minimum(chosen, last)]


# ------------------------------------------------------------------------------------------- noise


def fourier_noise(batch: Batch) -> Tensor:
    """Make noise of each image's own amplitudes, with the phases of white noise.

    Sources say "mean amplitude" and not over what; here it is over the channels of the image, so
    that an image does not depend on its batch.

    Parameters
    ----------
    batch : Batch
        Images.

    Returns
    -------
    Tensor
        Around 0, the same in no two channels.
    """
    import torch

    images = batch.images
    spectrum = torch.fft.rfft2(images - 0.5)
    amplitude = spectrum.abs().mean(dim=1, keepdim=True)
    white = torch.fft.rfft2(_drawn(batch, "randn"))
    phase = white / white.abs().clamp_min(1e-30)
    return torch.fft.irfft2(amplitude * phase, s=images.shape[-2:])


def _with_noise(batch: Batch, recipe: TrainingRecipe, noise: Tensor) -> Tensor:
    """Lower the contrast to a share, and fill up with noise."""
    drawn = _chosen(batch, recipe.ssnrs, recipe.ssnr_odds)
    share = beside(drawn, batch.images)[:, None, None, None]
    signal = (batch.images - 0.5) * share + 0.5
    return (signal + (1 - share) * noise).clamp(0, 1)


PERTURBATIONS: Mapping[str, Perturbation] = {
    "none": Perturbation(
        apply=lambda network, batch, recipe: batch.images,
        help="images as they are",
    ),
    "adversarial_l2": Perturbation(
        apply=partial(attacked_batch, ball="l2"),
        help="projected gradient descent in an L2 ball",
    ),
    "adversarial_linf": Perturbation(
        apply=partial(attacked_batch, ball="linf"),
        help="projected gradient descent in an L-infinity ball",
    ),
    "random_l2": Perturbation(
        apply=lambda network, batch, recipe: random_steps(batch, "l2", recipe.radius),
        help="a random direction of length radius",
    ),
    "random_linf": Perturbation(
        apply=lambda network, batch, recipe: random_steps(batch, "linf", recipe.radius),
        help="the radius added or subtracted at random",
    ),
    "blur": Perturbation(
        apply=lambda network, batch, recipe: blurred(batch.images, drawn_sigmas(batch, recipe)),
        help="Gaussian blur",
    ),
    "gaussian_noise": Perturbation(
        apply=lambda network, batch, recipe: _with_noise(batch, recipe, _drawn(batch, "randn") / 6),
        help="less contrast and Gaussian noise of sd (1 - SSNR) / 6",
    ),
    "fourier_noise": Perturbation(
        apply=lambda network, batch, recipe: _with_noise(batch, recipe, fourier_noise(batch)),
        help="less contrast and noise with the image's amplitudes, by SSNR",
    ),
}
"""Name → what is done to images; one is added by an entry here."""
