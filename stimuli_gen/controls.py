"""Control images: photographs changed in ways that know nothing of any network.

They separate "the image was changed by so much" from "the image was changed against this network":
random vectors of the size of an attack, noise by signal-to-signal-plus-noise ratio (SSNR), blur,
grayscale, scrambled phase.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent
invariances between biological and artificial neural networks. Nature Neuroscience 26, 2017-2034
(random L2 and L∞ perturbations, as in the training of their control networks). Coggan, D. D. &
Tong, F., public code of ``p022_occlusion`` (noise by SSNR, blur). These are that code's settings,
not those of a paper.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.summaries import short_repr
from stimuli_gen.stimuli import StimulusSet, image_distances

LUMA: Mapping[str, tuple[float, float, float]] = {
    "rec601": (0.299, 0.587, 0.114),
    "rec709": (0.2126, 0.7152, 0.0722),
    "mean": (1 / 3, 1 / 3, 1 / 3),
}
"""Weights of red, green and blue in a gray value: ITU-R BT.601 (Pillow's, torchvision's), BT.709,
or equal."""


# ------------------------------------------------------------------------------------- on one image


def random_l2(image: np.ndarray, random: np.random.Generator, level: float) -> np.ndarray:
    """Add a random vector of a given L2 norm.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Generator of this image.
    level : float
        L2 norm of the vector, pixels in [0, 1]; above 0.

    Returns
    -------
    ndarray
        (3, height, width) float64, not clipped: exactly on the sphere around the image.

    Notes
    -----
    The direction is uniform(-.5, .5) for each value, scaled to the norm (Feather et al. 2023),
    which is not quite uniform on the sphere.
    """
    direction = random.uniform(-0.5, 0.5, image.shape)
    norm = np.linalg.norm(direction)
    scaled = level * direction
    change = scaled / norm
    return image + change


def random_linf(image: np.ndarray, random: np.random.Generator, level: float) -> np.ndarray:
    """Add or subtract the same amount at every value: a random corner of the L∞ ball.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Generator of this image.
    level : float
        The amount, pixels in [0, 1]; above 0.

    Returns
    -------
    ndarray
        (3, height, width) float64, not clipped.
    """
    numbers = random.random(image.shape)
    goes_down = numbers < 0.5
    signs = np.where(goes_down, -1.0, 1.0)
    change = level * signs
    return image + change


def gaussian_noise(image: np.ndarray, random: np.random.Generator, level: float) -> np.ndarray:
    """Lower the contrast to a share and fill up with Gaussian noise.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Generator of this image; each value has its own draw.
    level : float
        SSNR, in [0, 1]: 1 is the image, 0 noise alone.

    Returns
    -------
    ndarray
        (3, height, width) float64, not clipped: (x - .5) · ssnr + .5 + N(0, (1 - ssnr) / 6).
    """
    noise = random.standard_normal(image.shape)
    contrast = (image - 0.5) * level
    signal = contrast + 0.5
    scaled = noise * (1 - level)
    return signal + scaled / 6


def fourier_noise(
    image: np.ndarray,
    random: np.random.Generator,
    level: float,
    *,
    amplitude: np.ndarray | None = None,
) -> np.ndarray:
    """Lower the contrast to a share and fill up with noise of a natural amplitude spectrum.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Generator of this image.
    level : float
        SSNR, in [0, 1]: 1 is the image, 0 noise alone.
    amplitude : ndarray, optional
        (height, width): amplitude spectrum of the noise, such as `mean_amplitude` of many
        photographs. By default that of the image itself, averaged over its channels; which mean the
        public code takes is not documented.

    Returns
    -------
    ndarray
        (3, height, width) float64, not clipped: (x - .5) · ssnr + .5 + (1 - ssnr) · noise. The
        noise has mean 0, the amplitude spectrum, and the image's own phases (of its channel mean)
        shuffled over frequencies; it is the same in all channels.

    Raises
    ------
    InputError
        When the amplitude spectrum has another size.
    """
    if amplitude is None:
        amplitude = mean_amplitude(image[None])
    spectrum = np.asarray(amplitude, dtype=float)
    if spectrum.shape != image.shape[1:]:
        raise InputError(
            f"the amplitude spectrum is {spectrum.shape}, the images are {image.shape[1:]} pixels; "
            "give that of images of this size (mean_amplitude)."
        )
    gray = image.mean(axis=0, dtype=float)
    phase = np.angle(np.fft.fft2(gray))
    height, width = phase.shape
    rows, columns = np.indices(phase.shape)
    partner = (-rows % height) * width + -columns % width
    partner = partner.ravel()
    position = np.arange(phase.size)
    # one of each pair of opposite frequencies, which keep opposite phases; frequencies that are
    # their own partner stay
    half = position[position < partner]
    shuffled = phase.ravel().copy()
    shuffled[half] = random.permutation(shuffled[half])
    shuffled[partner[half]] = -shuffled[half]
    phase = shuffled.reshape(phase.shape)
    noise = spectrum * np.exp(1j * phase)
    noise[0, 0] = 0
    signal = (image - 0.5) * level + 0.5
    return signal + (1 - level) * np.fft.ifft2(noise).real


def mean_amplitude(images: np.ndarray) -> np.ndarray:
    """Average the Fourier amplitudes of images, over images and channels.

    Parameters
    ----------
    images : ndarray
        (n, 3, height, width).

    Returns
    -------
    ndarray
        (height, width) float64, in the order of ``numpy.fft.fft2``.
    """
    amplitudes = []
    for image in images:
        exact = np.asarray(image, dtype=float)
        spectrum = np.fft.fft2(exact)
        amplitude = np.abs(spectrum)
        amplitudes.append(amplitude.mean(axis=0))
    return np.mean(amplitudes, axis=0)


def blur(image: np.ndarray, random: np.random.Generator, level: float) -> np.ndarray:
    """Blur with a Gaussian.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Not used.
    level : float
        Standard deviation, pixels; 0 leaves the image as it is.

    Returns
    -------
    ndarray
        (3, height, width) float64. The kernel has 6 · sigma + 1 pixels (2 · ceil(3 · sigma) + 1
        where that is not a whole odd number); borders are mirrored without repeating the outermost
        pixel, as in torchvision.
    """
    from scipy.ndimage import gaussian_filter

    exact = np.asarray(image, dtype=float)
    if level == 0:
        return exact
    radius = int(np.ceil(3 * level))
    return gaussian_filter(exact, level, mode="mirror", axes=(1, 2), radius=radius)


def grayscale(
    image: np.ndarray, random: np.random.Generator, level: float, *, luma: str = "rec601"
) -> np.ndarray:
    """Take the color away: three equal channels.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Not used.
    level : float
        Not used.
    luma : {"rec601", "rec709", "mean"}
        Weights of the channels, see `LUMA`.

    Returns
    -------
    ndarray
        (3, height, width) float64.

    Raises
    ------
    InputError
        When the weights are unknown.
    """
    if luma not in LUMA:
        raise unknown_name("luma weights", luma, LUMA)
    weights = np.array(LUMA[luma])
    exact = np.asarray(image, dtype=float)
    gray = np.tensordot(weights, exact, axes=1)
    channel = gray[None]
    return np.repeat(channel, 3, axis=0)


def phase_scramble(image: np.ndarray, random: np.random.Generator, level: float) -> np.ndarray:
    """Scramble the Fourier phases and keep the amplitude spectrum of every channel.

    Parameters
    ----------
    image : ndarray
        (3, height, width) in [0, 1].
    random : numpy.random.Generator
        Generator of this image.
    level : float
        Not used.

    Returns
    -------
    ndarray
        (3, height, width) float64, not clipped. The phases of one random image are added to those
        of all channels, so that the colors' relations stay; the mean stays.
    """
    size = image.shape[1:]
    noise = random.uniform(size=size)
    other = np.fft.fft2(noise)
    phase = np.angle(other)
    phase[0, 0] = 0
    turn = np.exp(1j * phase)
    exact = np.asarray(image, dtype=float)
    spectrum = np.fft.fft2(exact)
    turned = spectrum * turn
    scrambled = np.fft.ifft2(turned)
    return scrambled.real


# ----------------------------------------------------------------------------------- on a whole set


@short_repr
@dataclass(frozen=True, kw_only=True)
class Control:
    """One kind of control image: an entry of `CONTROLS`.

    Parameters
    ----------
    make : callable
        (image (3, height, width), generator, level, settings) → changed image, not yet clipped.
        Its keyword-only parameters are the settings that users can give.
    help : str
        What is done to the image, in a few words.
    level : str
        What its level is; empty where it has none.
    default : float
        Level when none is asked for.
    low, high : float
        Range of the level.
    """

    make: Callable[..., np.ndarray]
    help: str = ""
    level: str = ""
    default: float = 0.0
    low: float = 0.0
    high: float = np.inf

    @property
    def settings(self) -> Mapping[str, Any]:
        """List the settings that users can give.

        Returns
        -------
        mapping of str to object
            Name → default.
        """
        settings = {}
        signature = inspect.signature(self.make)
        for name, parameter in signature.parameters.items():
            if parameter.kind == parameter.KEYWORD_ONLY:
                settings[name] = parameter.default
        return settings

    def levels_of(self, name: str, levels: float | Sequence[float] | None) -> list[float]:
        """Check the levels that are asked for.

        Parameters
        ----------
        name : str
            The control's, for messages.
        levels : float or sequence of float, optional
            The default where none are given.

        Returns
        -------
        list of float
            All in range, each once.

        Raises
        ------
        InputError
            When one is out of range or repeats, or the control has none.
        """
        wanted = [] if levels is None else [float(value) for value in np.atleast_1d(levels)]
        if not wanted:
            return [self.default]
        if not self.level:
            raise InputError(f"{name} has no levels, not {name_ids(wanted)}; leave them out.")
        for value in wanted:
            if self.low <= value <= self.high and np.isfinite(value):
                continue
            what = "above 0" if self.low > 0 else "at least 0"
            if self.low <= 0 and np.isfinite(self.high):
                what = f"between 0 and {self.high:g}"
            raise InputError(
                f"level {value:g} of {name} ({self.level}) must be {what}; give such a level."
            )
        names = [f"{value:g}" for value in wanted]
        if len(set(names)) < len(names):
            raise InputError(f"levels of {name} repeat: {', '.join(names)}; give each once.")
        return wanted


_TINY = float(np.finfo(np.float32).tiny)

CONTROLS: dict[str, Control] = {
    "random_l2": Control(
        make=random_l2,
        help="a random vector of a given L2 norm is added",
        level="L2 norm, pixels in [0, 1]",
        default=3.0,
        low=_TINY,
    ),
    "random_linf": Control(
        make=random_linf,
        help="every value goes up or down by the same amount, at random",
        level="change of every value, pixels in [0, 1]",
        default=8 / 255,
        low=_TINY,
    ),
    "gaussian_noise": Control(
        make=gaussian_noise,
        help="less contrast, and Gaussian noise",
        level="SSNR, 0 to 1",
        default=0.4,
        high=1.0,
    ),
    "fourier_noise": Control(
        make=fourier_noise,
        help="less contrast, and noise of a natural amplitude spectrum",
        level="SSNR, 0 to 1",
        default=0.4,
        high=1.0,
    ),
    "blur": Control(
        make=blur,
        help="blurred with a Gaussian",
        level="sigma, pixels",
        default=4.0,
    ),
    "grayscale": Control(
        make=grayscale,
        help="three equal channels",
    ),
    "phase_scramble": Control(
        make=phase_scramble,
        help="Fourier phases scrambled, amplitudes kept",
    ),
}
"""Name → control; a control is added by an entry here. The defaults are examples: radii of
Feather's attacks, levels of the public code."""


@checked
def control_images(
    references: StimulusSet,
    control: str,
    *,
    levels: float | Sequence[float] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> StimulusSet:
    """Make control images of a set.

    Parameters
    ----------
    references : StimulusSet
        Photographs, or any other images.
    control : str
        See `CONTROLS`.
    levels : float or sequence of float, optional
        How strong, in the control's own unit; several levels give several images of each reference.
    seed : int
        Each image has its own generator of (seed, control, reference id), so that the levels of one
        image share their random numbers.
    progress : callable, optional
        Called with (images done, images in all).
    **settings : object
        Further settings of the control's function (``luma`` of grayscale, ``amplitude`` of
        fourier_noise).

    Returns
    -------
    StimulusSet
        Kind ``control``, clipped to [0, 1]. Id: ``<reference id>_<control>``, with ``-<level>``
        behind it when several levels are asked for. Columns: ``control``, ``level``, ``settings``
        (JSON), ``seed``, ``clipped`` (share of values that clipping changed), and the distances to
        the reference of `stimuli_gen.stimuli.image_distances`: after clipping (``l2``, ``linf``)
        and on the 8-bit images.

    Raises
    ------
    InputError
        When the control, a setting or a level makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import CONTROLS, control_images
    >>> list(CONTROLS)[:3]
    ['random_l2', 'random_linf', 'gaussian_noise']
    >>> made = control_images(photographs, "blur", levels=[1, 2])
    >>> made.ids
    ('a_blur-1', 'a_blur-2', 'b_blur-1', 'b_blur-2')
    """
    if control not in CONTROLS:
        raise unknown_name("control", control, CONTROLS)
    entry = CONTROLS[control]
    for name in settings:
        if not entry.settings:
            raise InputError(f"{control} has no setting '{name}'; it has none, leave it out.")
        if name not in entry.settings:
            raise unknown_name(f"setting of {control}", name, entry.settings)
    wanted = entry.levels_of(control, levels)
    recorded = {}
    for name, value in settings.items():
        recorded[name] = digest(value) if isinstance(value, np.ndarray) else value
    categories = references.table["category"].tolist()
    n_images = len(references) * len(wanted)
    rows = []
    images = []
    for row, reference_id in enumerate(references.ids):
        one_row = slice(row, row + 1)
        reference = references.images[one_row][0]
        for level in wanted:
            random = generator(seed, "control", control, reference_id)
            exact = reference.astype(np.float64)
            raw = entry.make(exact, random, level, **settings)
            image = np.clip(raw, 0, 1).astype(np.float32)
            is_outside = (raw < 0) | (raw > 1)
            end = f"-{level:g}" if len(wanted) > 1 else ""
            about = {
                "id": f"{reference_id}_{control}{end}",
                "kind": "control",
                "reference_id": reference_id,
                "category": categories[row],
                "control": control,
                "level": level if entry.level else np.nan,
                "settings": json.dumps(recorded, sort_keys=True),
                "seed": seed,
                "clipped": float(np.mean(is_outside)),
            }
            distances = image_distances(image, reference)
            images.append(image)
            rows.append(about | distances)
            if progress is not None:
                progress(len(rows), n_images)
    made = provenance(
        {"control": control, "levels": wanted, "seed": seed, **recorded},
        references=references.digest,
    )
    return StimulusSet(images=np.stack(images), table=pd.DataFrame(rows), provenance=made)
