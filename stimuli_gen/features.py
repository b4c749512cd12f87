"""Compute image features below objects: luma, pixels, Gabor energy.

They are controls for RSA, and simulated early areas follow them.

References
----------
Jones, J. P. & Palmer, L. A. (1987). An evaluation of the two-dimensional Gabor filter model of
simple receptive fields in cat striate cortex. Journal of Neurophysiology 58:1233-1258. Adelson, E.
H. & Bergen, J. R. (1985). Spatiotemporal energy models for the perception of motion. JOSA A
2:284-299.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green, blue (ITU-R BT.601), on gamma-coded values as stored; Pillow's gray
conversion."""


def gray(images: np.ndarray) -> np.ndarray:
    """Weigh red, green and blue to gray.

    Parameters
    ----------
    images : ndarray
        (n, 3, height, width) in [0, 1].

    Returns
    -------
    ndarray
        (n, height, width) float64 in [0, 1].

    Raises
    ------
    InputError
        When the shape is another.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images have the shape {images.shape}; they must be (n, 3, height, width), give these."
        )
    weights = np.array(LUMA)
    return np.einsum("nchw,c->nhw", images, weights, dtype=np.float64)


@checked
def luminance(images: np.ndarray) -> np.ndarray:
    """Measure how light each image is and how much its light varies.

    Parameters
    ----------
    images : ndarray
        (n, 3, height, width) in [0, 1].

    Returns
    -------
    ndarray
        (n, 2) float64: mean luma, and its standard deviation over pixels (root-mean-square
        contrast). Luma of gamma-coded values, not candela per square metre, which depend on the
        screen.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import luminance
    >>> luminance(np.full((1, 3, 8, 8), 0.25)).round(4)
    array([[0.25, 0.  ]])
    """
    light = gray(images)
    pixels = (1, 2)
    means = light.mean(axis=pixels)
    spreads = light.std(axis=pixels)
    return np.stack([means, spreads], axis=1)


@checked
def pixel_features(images: np.ndarray, size: int = 16, *, color: bool = False) -> np.ndarray:
    """Average the pixels over a coarse grid.

    Parameters
    ----------
    images : ndarray
        (n, 3, height, width) in [0, 1].
    size : int
        Cells along each side; at most height and width.
    color : bool
        Keep red, green and blue apart; otherwise gray.

    Returns
    -------
    ndarray
        (n, size²) or (n, 3 · size²) float64 in [0, 1], rows of the grid one after another.

    Raises
    ------
    InputError
        When the grid is finer than the image.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import pixel_features
    >>> pixel_features(np.full((2, 3, 8, 8), 0.25), size=4).shape
    (2, 16)
    """
    maps = np.asarray(images, dtype=np.float64)
    if not color:
        maps = gray(images)[:, None]
    pooled = _pool(maps, size)
    n_images, n_maps = maps.shape[:2]
    n_features = n_maps * size**2
    return pooled.reshape(n_images, n_features)


def _pool(maps: np.ndarray, size: int) -> np.ndarray:
    """Average (…, height, width) over a size × size grid of nearly equal cells.

    Cells differ by at most one pixel a side.
    """
    height, width = maps.shape[-2:]
    if not 1 <= size <= min(height, width):
        raise InputError(
            f"a grid of {size} cells a side does not fit images of {height} x {width} pixels; give "
            f"a size from 1 to {min(height, width)}."
        )
    rows = np.arange(size) * height // size
    columns = np.arange(size) * width // size
    n_rows = np.diff(rows, append=height)
    n_columns = np.diff(columns, append=width)
    maps = np.add.reduceat(maps, rows, axis=-2) / n_rows[:, None]
    return np.add.reduceat(maps, columns, axis=-1) / n_columns


def gabor(frequency: float, angle: float, bandwidth: float = 1.0) -> np.ndarray:
    """Make a quadrature pair of round Gabor filters.

    Parameters
    ----------
    frequency : float
        Cycles a pixel.
    angle : float
        Direction of the modulation, radians; 0 = along the rows (a vertical grating).
    bandwidth : float
        Half-response bandwidth, octaves.

    Returns
    -------
    ndarray
        (side, side) complex128, side odd: real part even, imaginary part odd. The Gaussian envelope
        integrates to 1 and is cut at three standard deviations for every angle
        (``skimage.filters.gabor_kernel`` gives the same values but cuts oblique filters closer).

    Notes
    -----
    Standard deviation in pixels = sqrt(ln 2 / 2) / π · (2^b + 1) / (2^b - 1) / frequency.
    """
    octave = 2.0**bandwidth
    sd = np.sqrt(np.log(2) / 2) / np.pi
    sd = sd * (octave + 1) / (octave - 1) / frequency
    reach = np.ceil(3 * sd)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared_distance = x**2 + y**2
    variance = sd**2
    envelope = np.exp(-squared_distance / (2 * variance))
    envelope = envelope / (2 * np.pi * variance)
    across = x * np.cos(angle) + y * np.sin(angle)
    wave = np.exp(2j * np.pi * frequency * across)
    return envelope * wave


@checked
def gabor_energy(
    images: np.ndarray,
    *,
    wavelengths: Sequence[float] = (4.0, 8.0, 16.0, 32.0),
    n_orientations: int = 4,
    size: int = 7,
    bandwidth: float = 1.0,
) -> np.ndarray:
    """Measure contrast energy by orientation, scale and position.

    A bank of quadrature Gabor filters is applied; the responses are squared and pooled.

    Parameters
    ----------
    images : ndarray
        (n, 3, height, width) in [0, 1].
    wavelengths : sequence of float
        Pixels a cycle, at least 2.
    n_orientations : int
        Evenly spaced over half a turn, from 0 (vertical gratings).
    size : int
        Cells along each side of the pooling grid.
    bandwidth : float
        Octaves.

    Returns
    -------
    ndarray
        (n, n_wavelengths · n_orientations · size²) float64 ≥ 0, in that order. Each image's mean is
        taken off and every filter's mean response to uniform light is zero, so that only contrast
        counts; outside the image there is none.

    Raises
    ------
    InputError
        When a wavelength is below 2 pixels, there is no filter, or the grid is finer than the
        image.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import gabor_energy
    >>> columns = np.indices((32, 32))[1]
    >>> grating = 0.5 + 0.4 * np.sin(2 * np.pi * columns / 8)
    >>> energy = gabor_energy(np.stack([grating] * 3)[None], wavelengths=[8], size=1)
    >>> int(energy[0].argmax())  # orientation 0: vertical gratings
    0
    """
    from scipy import fft

    if not len(wavelengths) or min(wavelengths) < 2 or n_orientations < 1 or not bandwidth > 0:
        raise InputError(
            f"wavelengths are {list(wavelengths)}, n_orientations {n_orientations}, bandwidth "
            f"{bandwidth}: Gabor filters need wavelengths of at least 2 pixels, an orientation and "
            "a positive bandwidth; give these."
        )
    if size < 1:
        raise InputError(f"size is {size}; give at least 1 cell a side.")
    light = gray(images)
    light -= light.mean(axis=(1, 2), keepdims=True)
    height, width = light.shape[1:]
    bank = []
    for wavelength in wavelengths:
        for number in range(n_orientations):
            angle = np.pi * number / n_orientations
            kernel = gabor(1 / wavelength, angle, bandwidth)
            envelope = np.abs(kernel)
            # without the envelope's share, so that uniform light gives no response
            bank.append(kernel - envelope * kernel.sum() / envelope.sum())
    side = max(len(kernel) for kernel in bank)
    # So far that nothing wraps around into the image, and that a filter larger than the image fits.
    needed = [max(length + side // 2, side) for length in (height, width)]
    padded = tuple(fft.next_fast_len(length) for length in needed)
    transfer = []
    for kernel in bank:
        rows, columns = kernel.shape
        grid = np.zeros(padded, dtype=complex)
        grid[:rows, :columns] = kernel
        centered = np.roll(grid, (-(rows // 2), -(columns // 2)), axis=(0, 1))
        transfer.append(fft.fft2(centered).astype(np.complex64))
    energy = np.empty((len(light), len(bank), size, size))
    for row, picture in enumerate(light):
        spectrum = fft.fft2(picture.astype(np.float32), padded)
        for index, filtered in enumerate(transfer):
            response = fft.ifft2(spectrum * filtered)[:height, :width]
            power = response.real**2 + response.imag**2
            energy[row, index] = _pool(power, size)
    return energy.reshape(len(light), len(bank) * size**2)
