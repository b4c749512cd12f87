"""The metrics of image quality, one entry each in `METRICS`.

The definitions are torchmetrics', each with the scale that it needs. Six need no weights. FID,
LPIPS and CLIP-IQA use networks, which are loaded from a local file; nothing is downloaded.

References
----------
Detlefsen, N. S. et al. (2022). TorchMetrics. JOSS 7(70), 4101. Wang, Z. et al. (2004), IEEE TIP 13
(SSIM). Sheikh, H. R. & Bovik, A. C. (2006), IEEE TIP 15 (VIF, pixel form). González-Audícana, M. et
al. (2004), IEEE TGRS 42 (RASE). Zhou, J. et al. (1998), Int. J. Remote Sens. 19 (SCC).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from neurometamer.errors import InputError, name_ids
from neurometamer.summaries import short_repr
from neurometamer.zoo import read_weights

if TYPE_CHECKING:
    import torch

Weights = Mapping[str, Any]
Measure: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
Smooth: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
CLIP_PROMPT = "natural"
_SCALES = 4
_TINY = 1e-10
_BOX = (1 / 8,) * 8


class SkippedError(Exception):
    """A metric cannot run here; the text says why."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class ImageMetric:
    """Description of a metric, and the function that computes it.

    Attributes
    ----------
    name : str
        As in the paper.
    better : {"higher", "lower"}
        Direction.
    scale : str
        What goes in, and what comes out.
    needs : {"pair", "image", "sets"}
        Compares each metamer with its photograph, looks at single images, or compares the two sets.
    measure : callable, optional
        Images and references, (b, 3, height, width) in [0, 1], to one value an image; of metrics
        without weights.
    load : callable, optional
        Weights, as `image_quality` takes them, to such a function; of metrics that need a network.
        Of a metric of sets, to torchmetrics' object.

    Examples
    --------
    >>> import torch
    >>> from neurometamer.evaluation import METRICS, ImageMetric
    >>> ssim = METRICS["ssim"]
    >>> ssim.name, ssim.arrow, ssim.needs, ssim.weights
    ('SSIM', '↑', 'pair', False)
    >>> METRICS["fid"].arrow, METRICS["fid"].needs, METRICS["fid"].weights
    ('↓', 'sets', True)
    >>> error = ImageMetric(
    ...     name="MAE",
    ...     better="lower",
    ...     scale="0 to 1",
    ...     measure=lambda images, references: (images - references).abs().mean(dim=(1, 2, 3)),
    ... )
    >>> error.measure(torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)).tolist()
    [1.0, 1.0]
    """

    name: str
    better: str
    scale: str
    needs: str = "pair"
    measure: Measure | None = field(default=None, repr=False)
    load: Callable[[Weights], Any] | None = field(default=None, repr=False)

    @property
    def arrow(self) -> str:
        """Arrow of the better direction.

        Returns
        -------
        str
            ``↑`` where higher is better, else ``↓``.
        """
        if self.better == "higher":
            return "↑"
        return "↓"

    @property
    def weights(self) -> bool:
        """Whether the metric needs a network.

        Returns
        -------
        bool
            True where it has to be loaded.
        """
        return self.load is not None


# --------------------------------------------------------------------------- with separable filters
#
# SSIM, VIF, SCC and RASE take most of torchmetrics' time. They slide a square window over the
# image, and their windows are products of a row and a column. Here each filter, its padding and its
# step is a pair of band matrices, Y = A X Bᵀ, which takes a sixth to a third of the time on a CPU.
# `image_quality.measure_images` names the tolerance of the agreement, and the tests check it.


@cache
def _band(
    n: int, kernel: tuple[float, ...], before: int, after: int, border: str, step: int
) -> torch.Tensor:
    """Make the matrix of a one-dimensional filter over n pixels.

    The pixels are padded, the filter slides, and every `step`-th position is kept.
    """
    import torch

    last = n - 1
    padded = np.zeros((n + before + after, n))
    for row, at in enumerate(range(-before, n + after)):
        if border == "reflect":  # d c b | a b c d | c b a
            at = last - abs(last - abs(at))
        if 0 <= at < n:
            padded[row, at] = 1
    n_positions = len(padded) - len(kernel) + 1
    slid = np.zeros((n_positions, n))
    for offset, weight in enumerate(kernel):
        slid += weight * padded[offset : offset + n_positions]
    kept = np.ascontiguousarray(slid[::step])
    return torch.from_numpy(kept.astype(np.float32))


def _filter(
    images: torch.Tensor,
    kernel: tuple[float, ...],
    *,
    before: int = 0,
    after: int = 0,
    border: str = "",
    step: int = 1,
) -> torch.Tensor:
    height, width = images.shape[-2:]
    rows = _band(height, kernel, before, after, border, step)
    columns = _band(width, kernel, before, after, border, step)
    rows = rows.to(images.device)
    columns = columns.to(images.device)
    return rows @ images @ columns.T


def _moments(x: torch.Tensor, y: torch.Tensor, smooth: Smooth) -> Sequence[torch.Tensor]:
    """Smooth two images, their squares, and their product."""
    parts = [
        x,
        y,
        x.square(),
        y.square(),
        x * y,
    ]
    return [smooth(part) for part in parts]


def _gaussian(size: int, sigma: float) -> tuple[float, ...]:
    positions = np.arange(size)
    middle = (size - 1) / 2
    squares = np.square(positions - middle)
    width = 2 * sigma**2
    exponents = -squares / width
    weights = np.exp(exponents)
    weights = weights / weights.sum()
    return tuple(weights)


def ssim(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
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
    first = 0.01**2
    second = 0.03**2
    smooth = partial(_filter, kernel=_gaussian(11, 1.5), before=5, after=5, border="reflect")
    x, y, xx, yy, xy = _moments(images, references, smooth)
    squares_x = x.square()
    squares_y = y.square()
    variance_x = (xx - squares_x).clamp(min=0)
    variance_y = (yy - squares_y).clamp(min=0)
    spread = variance_x + variance_y
    shared = (2 * x * y + first) * (2 * (xy - x * y) + second)
    similarity = shared / ((squares_x + squares_y + first) * (spread + second))
    return similarity.flatten(1).mean(dim=1)


def psnr(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Compute the peak signal-to-noise ratio with torchmetrics.

    Parameters
    ----------
    images, references : Tensor
        (n, 3, height, width) float32 in [0, 1].

    Returns
    -------
    Tensor
        (n,) dB; infinite for equal images.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return peak_signal_noise_ratio(
        images,
        references,
        data_range=1.0,
        reduction="none",
        dim=(1, 2, 3),
    )


def vif(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Compute visual information fidelity in its pixel form, mean over channels.

    Parameters
    ----------
    images, references : Tensor
        (n, 3, height, width) float32 in [0, 1], at least 41 × 41.

    Returns
    -------
    Tensor
        (n,), usually between 0 and 1; above 1 where the image has more contrast than its reference.
    """
    import torch

    noise = 2.0  # in squared levels of 0 to 255
    image = 255 * images
    reference = 255 * references
    # Only variances count, so the level is taken off first: squares of small numbers lose fewer
    # digits.
    level = reference.mean(dim=(2, 3), keepdim=True)
    image = image - level
    reference = reference - level
    seen = torch.zeros(images.shape[:2], device=images.device)
    there = torch.zeros_like(seen)
    for scale in range(_SCALES):
        size = 2 ** (_SCALES - scale) + 1
        kernel = _gaussian(size, size / 5)
        if scale:
            image = _filter(image, kernel, step=2)
            reference = _filter(reference, kernel, step=2)
        x, y, xx, yy, xy = _moments(image, reference, partial(_filter, kernel=kernel))
        of_image = (xx - x.square()).clamp(min=0)
        of_reference = (yy - y.square()).clamp(min=0)
        shared = xy - x * y
        gain = shared / (of_reference + _TINY)
        rest = of_image - gain * shared
        is_flat = of_reference < _TINY
        gain = torch.where(is_flat, 0, gain)
        rest = torch.where(is_flat, of_image, rest)
        of_reference = torch.where(is_flat, 0, of_reference)
        is_flat = of_image < _TINY
        gain = torch.where(is_flat, 0, gain)
        rest = torch.where(is_flat, 0, rest)
        rest = torch.where(gain < 0, of_image, rest).clamp(min=_TINY)
        gain = gain.clamp(min=0)
        signal = gain.square() * of_reference / (rest + noise)
        seen += torch.log10(1 + signal).sum(dim=(2, 3))
        there += torch.log10(1 + of_reference / noise).sum(dim=(2, 3))
    return (seen / there).mean(dim=1)


def rase(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
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
    kept = slice(0, -1)  # the windows that torchmetrics keeps, without any padding
    squares = (references - images).square()
    error = _filter(squares, _BOX)[..., kept, kept]
    level = _filter(references, _BOX)[..., kept, kept]
    error = error.mean(dim=1)
    mean = level.mean(dim=1) / len(_BOX) ** 2
    relative = 100 / mean * error.sqrt()
    return relative.flatten(1).mean(dim=1)


def scc(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
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
    import torch

    smooth = partial(_filter, kernel=_BOX, before=4, after=3)
    x = _laplacian(images)
    y = _laplacian(references)
    mean_x, mean_y, xx, yy, xy = _moments(x, y, smooth)
    spread_x = (xx - mean_x.square()).clamp(min=0).sqrt()
    spread_y = (yy - mean_y.square()).clamp(min=0).sqrt()
    spread = spread_y * spread_x
    is_flat = spread == 0
    shared = xy - mean_x * mean_y
    correlation = torch.where(is_flat, 0, shared / torch.where(is_flat, 1, spread))
    return correlation.flatten(1).mean(dim=1)


def _laplacian(images: torch.Tensor) -> torch.Tensor:
    """Compute 2 · (9 · the pixel − the sum of its 3 × 3 neighborhood).

    Beyond the border the outermost pixel repeats.
    """
    from torch.nn import functional

    # one pixel: the same as symmetric
    wide = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    above = wide[..., :-2, :]
    below = wide[..., 2:, :]
    rows = above + wide[..., 1:-1, :] + below
    left = rows[..., :-2]
    right = rows[..., 2:]
    around = left + rows[..., 1:-1] + right
    return 2 * (9 * images - around)


def total_variation(images: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Compute the sum of absolute differences of neighbors, per pixel and channel.

    Parameters
    ----------
    images : Tensor
        (n, 3, height, width) float32 in [0, 1].
    references : Tensor
        Not used.

    Returns
    -------
    Tensor
        (n,), 0 or more.
    """
    from torchmetrics.functional.image import total_variation as summed_variation

    n_values = images[0].numel()
    return summed_variation(images, reduction="none") / n_values


# ------------------------------------------------------------------------------------- with weights


def _file(weights: Weights, key: str) -> Path:
    given = weights.get(key)
    if given is None:
        raise SkippedError(f"skipped: weights missing; give a local file for {key}")
    if not Path(given).exists():
        raise SkippedError(f"skipped: weights missing at {given}")
    return Path(given)


def _package(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None:
        shown = name.replace("_", "-")
        raise SkippedError(f"skipped: package {shown} missing")


def load_lpips(weights: Weights) -> Measure:
    """Load LPIPS: the backbone from a file, the linear heads from torchmetrics.

    Parameters
    ----------
    weights : mapping
        ``lpips``: file of AlexNet, VGG16 or SqueezeNet 1.1, or a network that compares images.

    Returns
    -------
    callable
        Images and references to (n,) values.

    Raises
    ------
    SkippedError
        When the file is missing.
    InputError
        When it holds another network.
    """
    from torch import nn
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    network = weights.get("lpips")
    if not isinstance(network, nn.Module):
        path = _file(weights, "lpips")
        held = read_weights(path)
        backbones: dict[tuple[int, ...], Any] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
        backbone: Any = None
        first = held.get("features.0.weight")
        if first is not None:
            backbone = backbones.get(tuple(first.shape))
        if any(".squeeze." in name for name in held):
            backbone = "squeeze"
        if backbone is None:
            raise InputError(
                f"{path} holds no backbone of LPIPS; give torchvision's alexnet, vgg16 or "
                "squeezenet1_1."
            )
        # random, so that nothing is downloaded; filled now
        network = _NoTrainLpips(net=backbone, pnet_rand=True)
        # slice1.0.weight, or slices.0.0.weight of SqueezeNet: after the slice comes the position
        # in torchvision's features
        filled = {}
        for name in network.net.state_dict():
            own_name = re.sub(r"^(slices\.\d+|slice\d+)\.", "features.", name)
            filled[name] = held.get(own_name)
        missing = [name for name, value in filled.items() if value is None]
        if missing:
            raise InputError(
                f"{path} lacks {name_ids(missing)} of LPIPS' {backbone} backbone; give the whole "
                "file of torchvision."
            )
        network.net.load_state_dict(filled)
        network.eval()

    # normalize: from [0, 1] to [-1, 1]
    return lambda images, references: network(images, references, normalize=True).reshape(-1)


def load_clip_iqa(weights: Weights) -> Measure:
    """Load CLIP-IQA.

    Parameters
    ----------
    weights : mapping
        ``clip_iqa``: folder with a CLIP model as transformers saves it, or (model, processor).

    Returns
    -------
    callable
        Images and references to (n,) values.

    Raises
    ------
    SkippedError
        When the folder or a package is missing.
    """
    from torchmetrics.functional.multimodal.clip_iqa import (
        _clip_iqa_compute,
        _clip_iqa_format_prompts,
        _clip_iqa_get_anchor_vectors,
        _clip_iqa_update,
    )

    given = weights.get("clip_iqa")
    name = "local"  # any other than "clip_iqa" is a model in transformers' form
    if isinstance(given, tuple):
        model, processor = given
    else:
        folder = _file(weights, "clip_iqa")
        _package("transformers")
        import transformers

        model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        processor = transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)
    prompts, names = _clip_iqa_format_prompts((CLIP_PROMPT,))
    anchors = _clip_iqa_get_anchor_vectors(name, model, processor, prompts, "cpu")

    def _measure(images: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        features = _clip_iqa_update(name, images, model, processor, 1.0, "cpu")
        scores: Any = _clip_iqa_compute(features, anchors, names, format_as_dict=False)
        return scores.reshape(-1)

    return _measure


def load_fid(weights: Weights) -> Any:
    """Load FID from a network, or from the file of torch-fidelity's network.

    Parameters
    ----------
    weights : mapping
        ``fid``: the file, or a network from levels (b, 3, h, w) uint8 to features (b, d).

    Returns
    -------
    torchmetrics.image.fid.FrechetInceptionDistance
        Without images yet.

    Raises
    ------
    SkippedError
        When the file or a package is missing.
    """
    from torch import nn
    from torchmetrics.image.fid import FrechetInceptionDistance

    given = weights.get("fid")
    if isinstance(given, nn.Module):
        return FrechetInceptionDistance(feature=given)
    path = _file(weights, "fid")
    _package("torch_fidelity")
    return FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=str(path))


METRICS: Mapping[str, ImageMetric] = {
    "fid": ImageMetric(
        name="FID",
        better="lower",
        needs="sets",
        load=load_fid,
        scale="8-bit levels in, rounded, not cut off; 0 or more",
    ),
    "ssim": ImageMetric(
        name="SSIM",
        better="higher",
        measure=ssim,
        scale="data range 1; at most 1",
    ),
    "psnr": ImageMetric(
        name="PSNR",
        better="higher",
        measure=psnr,
        scale="dB, peak 1 (the paper takes each image's maximum); infinite for equal images",
    ),
    "vif": ImageMetric(
        name="VIF",
        better="higher",
        measure=vif,
        scale="levels of 0 to 255, the unit of its noise variance 2; about 0 to 1, can exceed 1",
    ),
    "lpips": ImageMetric(
        name="LPIPS",
        better="lower",
        load=load_lpips,
        scale="[-1, 1] in; about 0 to 1",
    ),
    "rase": ImageMetric(
        name="RASE",
        better="lower",
        measure=rase,
        scale="free of scale; 0 to thousands",
    ),
    "scc": ImageMetric(
        name="SCC",
        better="higher",
        measure=scc,
        scale="-1 to 1; falls to 0 with the slightest noise",
    ),
    "tv": ImageMetric(
        name="TV",
        better="lower",
        needs="image",
        measure=total_variation,
        scale="sum of absolute differences per pixel and channel, pixels in [0, 1]",
    ),
    "clip_iqa": ImageMetric(
        name="CLIP-IQA",
        better="higher",
        needs="image",
        load=load_clip_iqa,
        scale="probability of the prompt 'Natural photo.' against 'Synthetic photo.'",
    ),
}
"""Key to description, in the order of the paper."""
