"""The image metrics that take most of torchmetrics' time, with separable filters.

The numbers are those of torchmetrics.

SSIM, VIF, SCC and RASE slide a square window over the image, and their windows are products of a
row and a column. Here each filter, its padding and its step is a pair of band matrices, Y = A X Bᵀ,
which takes a sixth to a third of the time on a CPU. `neurometamer.evaluation.image_quality` names
the tolerance of the agreement, and the tests check it.

References
----------
Wang, Z. et al. (2004), IEEE TIP 13 (SSIM). Sheikh, H. R. & Bovik, A. C. (2006), IEEE TIP 15 (VIF,
pixel form). González-Audícana, M. et al. (2004), IEEE TGRS 42 (RASE). Zhou, J. et al. (1998), Int.
J. Remote Sens. 19 (SCC).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

_SCALES = 4
_TINY = 1e-10


@cache
def _band(
    n: int, kernel: tuple[float, ...], before: int, after: int, border: str, step: int
) -> Tensor:
    """Make the matrix of a one-dimensional filter over n pixels.

    The pixels are padded, the filter slides, and every `step`-th position is kept.
    """
    padded = np.zeros((n + before + after, n))
    for row, at in enumerate(range(-before, n + after)):
        if border == "reflect":  # d c b | a b c d | c b a
            at = n - 1 - abs(n - 1 - abs(at))
        if 0 <= at < n:
            padded[row, at] = 1
    n_positions = len(padded) - len(kernel) + 1
    slid = np.sum([weight * padded[k : k + n_positions] for k, weight in enumerate(kernel)], axis=0)
    return torch.from_numpy(np.ascontiguousarray(slid[::step]).astype(np.float32))


def _filter(
    images: Tensor,
    kernel: tuple[float, ...],
    *,
    before: int = 0,
    after: int = 0,
    border: str = "",
    step: int = 1,
) -> Tensor:
    rows = _band(images.shape[-2], kernel, before, after, border, step).to(images.device)
    columns = _band(images.shape[-1], kernel, before, after, border, step).to(images.device)
    return rows @ images @ columns.T


def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    weights = np.exp(-np.square(np.arange(size) - (size - 1) / 2) / (2 * sigma**2))
    return tuple(weights / weights.sum())


def ssim(images: Tensor, references: Tensor) -> Tensor:
    """Compute structural similarity, averaged over pixels and channels.

    The window is a Gaussian of 11 pixels with sigma 1.5.

    Parameters
    ----------
    images, references : Tensor
        (n, 3, height, width) float32 in [0, 1].

    Returns
    -------
    Tensor
        (n,), at most 1.
    """
    first, second = 0.01**2, 0.03**2
    kernel = _gaussian(11, 1.5)
    x, y, xx, yy, xy = (
        _filter(part, kernel, before=5, after=5, border="reflect")
        for part in (images, references, images.square(), references.square(), images * references)
    )
    spread = (xx - x.square()).clamp(min=0) + (yy - y.square()).clamp(min=0)
    shared = (2 * x * y + first) * (2 * (xy - x * y) + second)
    similarity = shared / ((x.square() + y.square() + first) * (spread + second))
    return similarity.flatten(1).mean(dim=1)


def vif(images: Tensor, references: Tensor) -> Tensor:
    """Compute visual information fidelity in its pixel form, mean over channels.

    Parameters
    ----------
    images, references : Tensor
        (n, 3, height, width) float32 in [0, 255]: the noise variance of 2 is in these units. At
        least 41 × 41.

    Returns
    -------
    Tensor
        (n,), usually between 0 and 1; above 1 where the image has more contrast than its reference.
    """
    noise = 2.0
    # Only variances count, so the level is taken off first: squares of small numbers lose fewer
    # digits.
    level = references.mean(dim=(2, 3), keepdim=True)
    image, reference = images - level, references - level
    seen = torch.zeros(images.shape[:2], device=images.device)
    there = torch.zeros_like(seen)
    for scale in range(_SCALES):
        size = 2 ** (_SCALES - scale) + 1
        kernel = _gaussian(size, size / 5)
        if scale:
            image, reference = (_filter(part, kernel, step=2) for part in (image, reference))
        x, y, xx, yy, xy = (
            _filter(part, kernel)
            for part in (image, reference, image.square(), reference.square(), image * reference)
        )
        of_image, of_reference = (xx - x.square()).clamp(min=0), (yy - y.square()).clamp(min=0)
        shared = xy - x * y
        gain = shared / (of_reference + _TINY)
        rest = of_image - gain * shared
        flat = of_reference < _TINY
        gain = torch.where(flat, 0, gain)
        rest = torch.where(flat, of_image, rest)
        of_reference = torch.where(flat, 0, of_reference)
        flat = of_image < _TINY
        gain, rest = torch.where(flat, 0, gain), torch.where(flat, 0, rest)
        rest = torch.where(gain < 0, of_image, rest).clamp(min=_TINY)
        gain = gain.clamp(min=0)
        seen += torch.log10(1 + gain.square() * of_reference / (rest + noise)).sum(dim=(2, 3))
        there += torch.log10(1 + of_reference / noise).sum(dim=(2, 3))
    return (seen / there).mean(dim=1)


def rase(images: Tensor, references: Tensor) -> Tensor:
    """Compute the relative average spectral error in windows of 8 pixels, one value an image.

    Parameters
    ----------
    images, references : Tensor
        (n, 3, height, width) float32, of any scale.

    Returns
    -------
    Tensor
        (n,), 0 or more. Torchmetrics divides the mean of the window by its 64 pixels once more; so
        it is here.
    """
    window, box = 8, (1 / 8,) * 8
    kept = slice(0, -1)  # the windows that torchmetrics keeps, without any padding
    error = _filter((references - images).square(), box)[..., kept, kept]
    level = _filter(references, box)[..., kept, kept]
    mean = level.mean(dim=1) / window**2
    return (100 / mean * error.mean(dim=1).sqrt()).flatten(1).mean(dim=1)


def scc(images: Tensor, references: Tensor) -> Tensor:
    """Compute the spatial correlation coefficient of high-pass images, averaged over channels.

    The windows have 8 pixels.

    Parameters
    ----------
    images, references : Tensor
        (n, 3, height, width) float32 in [0, 1].

    Returns
    -------
    Tensor
        (n,) in [-1, 1]; windows without contrast count as 0.
    """
    x, y = _laplacian(images), _laplacian(references)
    box = (1 / 8,) * 8
    mean_x, mean_y, xx, yy, xy = (
        _filter(part, box, before=4, after=3) for part in (x, y, x.square(), y.square(), x * y)
    )
    spread = (yy - mean_y.square()).clamp(min=0).sqrt() * (xx - mean_x.square()).clamp(min=0).sqrt()
    empty = spread == 0
    correlation = torch.where(empty, 0, (xy - mean_x * mean_y) / torch.where(empty, 1, spread))
    return correlation.flatten(1).mean(dim=1)


def _laplacian(images: Tensor) -> Tensor:
    """Compute 2 · (9 · the pixel − the sum of its 3 × 3 neighborhood).

    Beyond the border the outermost pixel repeats.
    """
    # one pixel: the same as symmetric
    wide = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
    return 2 * (9 * images - (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]))
