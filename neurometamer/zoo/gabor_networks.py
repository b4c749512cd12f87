"""Networks that begin with Gabor filters as cells of V1 have them, written from their papers.

The filters are fixed: they are buffers, and random weights leave them as they are.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

Noise = Literal["none", "gaussian", "neuronal"]
"""What is added to the responses of V1: nothing; Gaussian noise of one standard deviation; Gaussian
noise whose variance is the response, as neurons have it."""


def gabor(
    width: int,
    frequency: float,
    orientation: float,
    phase: float,
    sigma_across: float,
    sigma_along: float,
) -> np.ndarray:
    """Draw a Gabor filter: a grating under a Gaussian.

    Parameters
    ----------
    width : int
        Side of the square, pixels, odd.
    frequency : float
        Cycles a pixel.
    orientation : float
        Direction across the bars, radians; 0 is from left to right.
    phase : float
        Of the grating at the center, radians.
    sigma_across, sigma_along : float
        Standard deviations of the Gaussian across and along the bars, pixels.

    Returns
    -------
    ndarray, shape (width, width)
        Largest about 1.

    Examples
    --------
    >>> gabor(5, 0.25, 0.0, 0.0, 2.0, 2.0)[2].round(2).tolist()
    [-0.61, 0.0, 1.0, 0.0, -0.61]
    """
    half = width // 2
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    across = columns * math.cos(orientation) + rows * math.sin(orientation)
    along = rows * math.cos(orientation) - columns * math.sin(orientation)
    distance = (across / sigma_across) ** 2 + (along / sigma_along) ** 2
    return np.exp(-distance / 2) * np.cos(2 * math.pi * frequency * across + phase)


class FixedConvolution(nn.Conv2d):
    """A convolution whose filters are a buffer: neither trained nor drawn.

    Parameters
    ----------
    filters : ndarray
        (n_out, n_in, height, width).
    stride, padding : int
        Of the convolution, pixels.
    """

    def __init__(self, filters: np.ndarray, stride: int = 1, padding: int = 0) -> None:
        n_out, n_in, *size = filters.shape
        super().__init__(n_in, n_out, (size[0], size[1]), stride, padding, bias=False)
        del self.weight
        self.register_buffer("weight", torch.from_numpy(filters).float())


# ------------------------------------------------------------------------------------------ VOneNet

N_SIMPLE = N_COMPLEX = 256
PIXELS_A_DEGREE = 28.0
"""224 pixels are 8 degrees of the visual field."""
CARDINAL_SHARE = 0.58
"""Of the cells, how many prefer orientations within 22.5 degrees of horizontal or vertical: more
than half, as De Valois, Yund & Hepler (1982) counted; the number is our reading."""
PEAK_FREQUENCY = 2.8, 1.0
"""Median (cycles a degree) and spread (octaves) of the preferred spatial frequency, near De Valois,
Albrecht & Thorell (1982); the numbers are our reading."""
FREQUENCIES = 0.5, 6.0
"""Lowest and highest preferred spatial frequency, cycles a degree."""
CYCLES = 0.4, 0.4
"""Median and spread (natural logarithm) of the standard deviation of the Gaussian, in cycles of the
grating, near Ringach (2002); the numbers are our reading."""


def v1_filters(seed: int = 0, width: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Draw the Gabor filters of a population of V1 cells, in quadrature pairs.

    Orientation, spatial frequency and size are drawn as they are distributed in macaque V1, the
    phase is uniform; each cell sees one of the three colors.

    Parameters
    ----------
    seed : int
        Seed of the population.
    width : int
        Side of a filter, pixels, odd.

    Returns
    -------
    first, second : ndarray, shape (512, 3, width, width)
        The filters, and the same a quarter of a cycle later; those of the simple cells first.

    Examples
    --------
    >>> first, second = v1_filters()
    >>> first.shape, int((np.abs(first).sum(axis=(2, 3)) > 0).sum(axis=1).max())
    ((512, 3, 25, 25), 1)
    """
    random = np.random.default_rng(seed)
    n_cells = N_SIMPLE + N_COMPLEX
    is_cardinal = random.random(n_cells) < CARDINAL_SHARE
    axis = random.integers(2, size=n_cells) * math.pi / 2
    axis += np.where(is_cardinal, 0, math.pi / 4)
    orientations = axis + random.uniform(-math.pi / 8, math.pi / 8, n_cells)
    octaves = random.normal(math.log2(PEAK_FREQUENCY[0]), PEAK_FREQUENCY[1], n_cells)
    frequencies = np.clip(2**octaves, *FREQUENCIES) / PIXELS_A_DEGREE
    cycles = random.normal(math.log(CYCLES[0]), CYCLES[1], (n_cells, 2))
    sigmas = np.exp(cycles) / frequencies[:, None]
    phases = random.uniform(0, 2 * math.pi, n_cells)
    colors = random.integers(3, size=n_cells)
    pair = []
    for later in (0, math.pi / 2):
        filters = np.zeros((n_cells, 3, width, width))
        for cell in range(n_cells):
            drawn = gabor(
                width, frequencies[cell], orientations[cell], phases[cell] - later, *sigmas[cell]
            )
            area = 2 * math.pi * sigmas[cell].prod()
            filters[cell, colors[cell]] = drawn / area
        pair.append(filters)
    return pair[0], pair[1]


class VOneBlock(nn.Module):
    """V1 in front of a network (Dapello et al. 2020, section 3).

    Fixed Gabor filters; simple cells rectify, complex cells take the length of a quadrature pair;
    then noise.

    Parameters
    ----------
    noise : {"none", "gaussian", "neuronal"}
        See `Noise`. In training it is drawn anew each pass, otherwise it is always the same, so
        that images have one response.
    noise_sd : float
        Standard deviation of Gaussian noise, in the unit of the responses.
    seed : int
        Seed of the filters and of the noise outside of training.
    """

    GAIN = 25.0

    def __init__(self, noise: Noise = "none", noise_sd: float = 4.0, seed: int = 0) -> None:
        super().__init__()
        self.noise, self.noise_sd, self.seed = noise, noise_sd, seed
        first, second = v1_filters(seed)
        padding = first.shape[-1] // 2
        self.first = FixedConvolution(first, stride=4, padding=padding)
        self.second = FixedConvolution(second[N_SIMPLE:], stride=4, padding=padding)

    def extra_repr(self) -> str:
        """Tell the noise.

        Returns
        -------
        str
            It is part of the network's digest.
        """
        return f"noise={self.noise}, noise_sd={self.noise_sd}, seed={self.seed}"

    def forward(self, images: Tensor) -> Tensor:
        """Compute the responses.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width), normalized.

        Returns
        -------
        Tensor
            (b, 512, height / 4, width / 4), at least 0.
        """
        linear = self.GAIN * self.first(images)
        simple, in_phase = linear[:, :N_SIMPLE], linear[:, N_SIMPLE:]
        later = self.GAIN * self.second(images)
        power = (in_phase.square() + later.square()) / 2
        complex_cells = (power + 1e-12).sqrt()  # the root has no gradient at 0
        responses = torch.cat([simple.relu(), complex_cells], dim=1)
        if self.noise == "none":
            return responses
        if self.training:
            drawn = torch.randn_like(responses)
        else:  # the same for every image and pass
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.randn((1, *responses.shape[1:]), generator=generator).to(responses)
        if self.noise == "gaussian":
            return (responses + self.noise_sd * drawn).relu()
        return (responses + (responses + 1e-12).sqrt() * drawn).relu()


def vone_alexnet(
    noise: Noise = "none", noise_sd: float = 4.0, seed: int = 0, num_classes: int = 1000
) -> nn.Module:
    """Build VOneAlexNet: a V1 of fixed Gabor filters in front of AlexNet (Dapello et al. 2020).

    Written from the paper's text: 256 simple and 256 complex cells, 8 degrees of the visual field,
    a map of 56 x 56, a convolution of 1 x 1 to 64 channels, AlexNet's layers after its first.

    Parameters
    ----------
    noise : {"none", "gaussian", "neuronal"}
        See `Noise`; Feather et al. (2023) trained theirs with Gaussian noise of 4.
    noise_sd : float
        Standard deviation of Gaussian noise.
    seed : int
        Seed of the cells of V1.
    num_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
        Modules ``V1``, ``bottleneck``, ``conv1`` … ``relu4``, ``fc0`` … ``final``.

    Examples
    --------
    >>> network = vone_alexnet()
    >>> network.V1(torch.zeros(1, 3, 224, 224)).shape
    torch.Size([1, 512, 56, 56])
    """
    layers: dict[str, nn.Module] = {
        "V1": VOneBlock(noise, noise_sd, seed),
        "bottleneck": nn.Conv2d(N_SIMPLE + N_COMPLEX, 64, 1, bias=False),
        "conv1": nn.Conv2d(64, 192, 5, stride=2, padding=2),
        "relu1": nn.ReLU(inplace=True),
        "pool1": nn.MaxPool2d(3, stride=2, padding=1),
        "conv2": nn.Conv2d(192, 384, 3, padding=1),
        "relu2": nn.ReLU(inplace=True),
        "conv3": nn.Conv2d(384, 256, 3, padding=1),
        "relu3": nn.ReLU(inplace=True),
        "conv4": nn.Conv2d(256, 256, 3, padding=1),
        "relu4": nn.ReLU(inplace=True),
        "pool4": nn.MaxPool2d(3, stride=2, padding=1),
        "avgpool": nn.AdaptiveAvgPool2d(7),
        "flatten": nn.Flatten(),
        "drop0": nn.Dropout(0.5),
        "fc0": nn.Linear(256 * 7 * 7, 4096),
        "fc0_relu": nn.ReLU(inplace=True),
        "drop1": nn.Dropout(0.5),
        "fc1": nn.Linear(4096, 4096),
        "fc1_relu": nn.ReLU(inplace=True),
        "final": nn.Linear(4096, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


# --------------------------------------------------------------------------------------------- HMAX

S1_SIGMAS = (2.8, 3.6, 4.5, 5.4, 6.3, 7.3, 8.2, 9.2, 10.2, 11.3, 12.3, 13.4, 14.6, 15.8, 17.0, 18.2)
S1_WAVELENGTHS = (
    3.5,
    4.6,
    5.6,
    6.8,
    7.9,
    9.1,
    10.3,
    11.5,
    12.7,
    14.1,
    15.4,
    16.8,
    18.2,
    19.7,
    21.2,
    22.8,
)
"""Of the 16 scales, filters of 7, 9 … 37 pixels (Serre et al. 2007, table 1), pixels."""
ORIENTATIONS = (0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4)
ASPECT = 0.3
N_BANDS = 8
PATCH_SIZES = (2, 4, 6, 8, 10, 12, 14, 16)
N_PATCHES = 400
"""Patches of each size."""


class Gray(nn.Module):
    """Turn red, green, blue into luminance (ITU-R BT.601), one channel."""

    def forward(self, images: Tensor) -> Tensor:
        """Weight the channels.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width).

        Returns
        -------
        Tensor
            (b, 1, height, width).
        """
        weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        return (images * weights).sum(dim=1, keepdim=True)


class S1(nn.Module):
    """Simple cells: Gabor filters of 16 scales and 4 orientations, relative to local contrast."""

    def __init__(self) -> None:
        super().__init__()
        scales = []
        for number, (sigma, wavelength) in enumerate(zip(S1_SIGMAS, S1_WAVELENGTHS, strict=True)):
            width = 7 + 2 * number
            rows, columns = np.mgrid[:width, :width] - width // 2
            is_inside = rows**2 + columns**2 <= (width / 2) ** 2
            filters = []
            for orientation in ORIENTATIONS:
                drawn = gabor(width, 1 / wavelength, orientation, 0.0, sigma, sigma / ASPECT)
                drawn = drawn * is_inside
                drawn = (drawn - drawn[is_inside].mean()) * is_inside
                filters.append(drawn / np.linalg.norm(drawn))
            scales.append(FixedConvolution(np.stack(filters)[:, None]))
        self.scales = nn.ModuleList(scales)

    def forward(self, images: Tensor) -> Tensor:
        """Compute absolute cosines between filters and the pixels below them.

        Parameters
        ----------
        images : Tensor
            (b, 1, height, width).

        Returns
        -------
        Tensor
            (b, 64, height, width), in [0, 1]; channels are 4 orientations of 16 scales. It is 0
            where a filter would leave the image.
        """
        responses = []
        for number, scale in enumerate(self.scales):
            width = 7 + 2 * number
            energy = width**2 * nn.functional.avg_pool2d(images.square(), width, stride=1)
            cosine = scale(images).abs() / (energy + 1e-6).sqrt()
            border = width // 2
            responses.append(nn.functional.pad(cosine, [border] * 4))
        return torch.cat(responses, dim=1)


class C1(nn.Module):
    """Complex cells: the largest response of two scales in a neighborhood, in 8 bands."""

    def forward(self, values: Tensor) -> Tensor:
        """Pool.

        Parameters
        ----------
        values : Tensor
            (b, 64, height, width), see `S1`.

        Returns
        -------
        Tensor
            (b, n), the maps (4, rows, columns) of the bands, one after the other.
        """
        pooled = []
        for band in range(N_BANDS):
            first = 8 * band
            both = torch.maximum(values[:, first : first + 4], values[:, first + 4 : first + 8])
            largest = nn.functional.max_pool2d(both, 8 + 2 * band, stride=4 + band)
            pooled.append(largest.flatten(1))
        return torch.cat(pooled, dim=1)


class S2(nn.Module):
    """Likeness of the maps of C1 to 3,200 stored patches of 8 sizes, everywhere.

    The patches are weights: random ones until a file gives them.

    Parameters
    ----------
    sides : list of int
        Rows, and columns, of the map of each band of C1.
    """

    def __init__(self, sides: list[int]) -> None:
        super().__init__()
        self.sides = sides
        sizes = [nn.Conv2d(4, N_PATCHES, size, bias=False) for size in PATCH_SIZES]
        self.patches = nn.ModuleList(sizes)

    def forward(self, values: Tensor) -> Tensor:
        """Compute Gaussians of the squared distance to each patch.

        Parameters
        ----------
        values : Tensor
            (b, n), see `C1`.

        Returns
        -------
        Tensor
            (b, n), in (0, 1]; of each band the maps (400, rows, columns) of the 8 sizes.
        """
        lengths = [4 * side**2 for side in self.sides]
        responses = []
        for side, band in zip(self.sides, values.split(lengths, dim=1), strict=True):
            maps = band.reshape(-1, 4, side, side)
            energy = maps.square().sum(dim=1, keepdim=True)
            for size, patch in zip(PATCH_SIZES, self.patches, strict=True):
                near = size**2 * nn.functional.avg_pool2d(energy, size, stride=1)
                weights = patch.get_parameter("weight")
                length = weights.square().sum(dim=(1, 2, 3))[:, None, None]
                likeness = patch(maps).sub_(near / 2).sub_(length / 2).exp_()  # in one memory
                responses.append(likeness.flatten(1))
        return torch.cat(responses, dim=1)


class C2(nn.Module):
    """The largest likeness to each patch, wherever and in whatever band.

    Parameters
    ----------
    sides : list of int
        Rows, and columns, of the map of each band of C1.
    """

    def __init__(self, sides: list[int]) -> None:
        super().__init__()
        self.sides = sides

    def forward(self, values: Tensor) -> Tensor:
        """Pool.

        Parameters
        ----------
        values : Tensor
            (b, n), see `S2`.

        Returns
        -------
        Tensor
            (b, 3200), 400 patches of each size.
        """
        lengths = []
        for side in self.sides:
            lengths += [N_PATCHES * (side - size + 1) ** 2 for size in PATCH_SIZES]
        parts = values.split(lengths, dim=1)
        largest = [part.reshape(len(values), N_PATCHES, -1).amax(dim=2) for part in parts]
        bands = torch.stack(largest, dim=1).unflatten(1, (len(self.sides), len(PATCH_SIZES)))
        return bands.amax(dim=1).flatten(1)


def hmax(size: int = 250, num_classes: int = 1000) -> nn.Module:
    """Build HMAX with a linear readout (Riesenhuber & Poggio 1999; Serre et al. 2007, section 2).

    Gabor filters, their local maxima, likeness to stored patches of these, and the maxima of that,
    on gray images. Scales, sizes and patches are those of Serre et al. (2007), table 1.

    Parameters
    ----------
    size : int
        Side of the images, pixels.
    num_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
        Modules ``gray``, ``S1``, ``C1``, ``S2``, ``C2``, ``final``.

    Examples
    --------
    >>> network = hmax(size=200)
    >>> network.C1(network.S1(torch.rand(1, 1, 200, 200))).shape[1] == 4 * sum(
    ...     side**2 for side in network.S2.sides
    ... )
    True
    """
    sides = [(size - 8 - 2 * band) // (4 + band) + 1 for band in range(N_BANDS)]
    layers: dict[str, nn.Module] = {
        "gray": Gray(),
        "S1": S1(),
        "C1": C1(),
        "S2": S2(sides),
        "C2": C2(sides),
        "final": nn.Linear(N_PATCHES * len(PATCH_SIZES), num_classes),
    }
    return nn.Sequential(OrderedDict(layers))
