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
from neurometamer.errors import InputError, unknown_name
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
    return image + level * direction / np.linalg.norm(direction)


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
    return image + level * np.where(random.random(image.shape) < 0.5, -1.0, 1.0)


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
    return (image - 0.5) * level + 0.5 + random.standard_normal(image.shape) * (1 - level) / 6


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
    spectrum = (
        mean_amplitude(image[None]) if amplitude is None else np.asarray(amplitude, dtype=float)
    )
    if spectrum.shape != image.shape[1:]:
        raise InputError(
            f"the amplitude spectrum is {spectrum.shape}, the images are {image.shape[1:]} pixels."
        )
    phase = np.angle(np.fft.fft2(image.mean(axis=0, dtype=float)))
    rows, columns = np.indices(phase.shape)
    partner = (-rows % phase.shape[0]) * phase.shape[1] + -columns % phase.shape[1]
    position, partner = np.arange(phase.size), partner.ravel()
    # one of each pair of opposite frequencies, which keep opposite phases; frequencies that are
    # their own partner stay
    half = position[position < partner]
    shuffled = phase.ravel().copy()
    shuffled[half] = random.permutation(shuffled[half])
    shuffled[partner[half]] = -shuffled[half]
    phase = shuffled.reshape(phase.shape)
    noise = spectrum * np.exp(1j * phase)
    noise[0, 0] = 0
    return (image - 0.5) * level + 0.5 + (1 - level) * np.fft.ifft2(noise).real


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
    return np.mean(
        [np.abs(np.fft.fft2(np.asarray(image, dtype=float))).mean(axis=0) for image in images],
        axis=0,
    )


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
    gray = np.tensordot(np.array(LUMA[luma]), np.asarray(image, dtype=float), axes=1)
    return np.repeat(gray[None], 3, axis=0)


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
    phase = np.angle(np.fft.fft2(random.uniform(size=image.shape[1:])))
    phase[0, 0] = 0
    return np.fft.ifft2(np.fft.fft2(np.asarray(image, dtype=float)) * np.exp(1j * phase)).real


# ----------------------------------------------------------------------------------- on a whole set


@short_repr
@dataclass(frozen=True, kw_only=True)
class Control:
    """One kind of control image.

    Parameters
    ----------
    make : callable
        (image (3, height, width), generator, level, settings) → changed image, not yet clipped.
    level : str
        What its level is; empty where it has none.
    default : float
        Level when none is asked for.
    low, high : float
        Range of the level.
    """

    make: Callable[..., np.ndarray]
    level: str = ""
    default: float = 0.0
    low: float = 0.0
    high: float = np.inf


_TINY = float(np.finfo(np.float32).tiny)

CONTROLS: Mapping[str, Control] = {
    "random_l2": Control(make=random_l2, level="L2 norm, pixels in [0, 1]", default=3.0, low=_TINY),
    "random_linf": Control(
        make=random_linf,
        level="change of every value, pixels in [0, 1]",
        default=8 / 255,
        low=_TINY,
    ),
    "gaussian_noise": Control(make=gaussian_noise, level="SSNR, 0 to 1", default=0.4, high=1.0),
    "fourier_noise": Control(make=fourier_noise, level="SSNR, 0 to 1", default=0.4, high=1.0),
    "blur": Control(make=blur, level="sigma, pixels", default=4.0),
    "grayscale": Control(make=grayscale),
    "phase_scramble": Control(make=phase_scramble),
}
"""Name → control. The defaults are examples: radii of Feather's attacks, levels of the public
code."""


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
    wanted, several = _check_control(control, levels, settings)
    recorded = {
        name: digest(value) if isinstance(value, np.ndarray) else value
        for name, value in settings.items()
    }
    rows, images = [], []
    for row, (reference_id, category) in enumerate(
        zip(references.ids, references.table["category"], strict=True)
    ):
        reference = references.images[slice(row, row + 1)][0]
        for level in wanted:
            raw = CONTROLS[control].make(
                reference.astype(np.float64),
                generator(seed, "control", control, reference_id),
                level,
                **settings,
            )
            images.append(np.clip(raw, 0, 1).astype(np.float32))
            rows.append(
                {
                    "id": f"{reference_id}_{control}-{level:g}"
                    if several
                    else f"{reference_id}_{control}",
                    "kind": "control",
                    "reference_id": reference_id,
                    "category": category,
                    "control": control,
                    "level": level if CONTROLS[control].level else np.nan,
                    "settings": json.dumps(recorded, sort_keys=True),
                    "seed": seed,
                    "clipped": float(np.mean((raw < 0) | (raw > 1))),
                    **image_distances(images[-1], reference),
                }
            )
            if progress is not None:
                progress(len(rows), len(references) * len(wanted))
    made = provenance(
        {"control": control, "levels": wanted, "seed": seed, **recorded},
        references=references.digest,
    )
    return StimulusSet(images=np.stack(images), table=pd.DataFrame(rows), provenance=made)


def _check_control(
    control: str, levels: float | Sequence[float] | None, settings: Mapping[str, Any]
) -> tuple[list[float], bool]:
    """Check all settings before the first image is made.

    Returns the levels, and whether several levels were given.
    """
    if control not in CONTROLS:
        raise unknown_name("control", control, CONTROLS)
    kind = CONTROLS[control]
    known = [
        parameter.name
        for parameter in inspect.signature(kind.make).parameters.values()
        if parameter.kind == parameter.KEYWORD_ONLY
    ]
    for name in settings:
        if name not in known:
            if not known:
                raise InputError(f"{control} has no setting '{name}'; it has none.")
            raise unknown_name(f"setting of {control}", name, known)
    if levels is None or (np.ndim(levels) and not len(levels)):  # type: ignore[arg-type]
        return [kind.default], False
    if not kind.level:
        raise InputError(f"{control} has no levels; leave them out.")
    wanted = [float(value) for value in np.atleast_1d(levels)]
    if bad := [
        value for value in wanted if not (kind.low <= value <= kind.high and np.isfinite(value))
    ]:
        what = "above 0" if kind.low > 0 else "at least 0"
        if kind.low <= 0 and np.isfinite(kind.high):
            what = f"between 0 and {kind.high:g}"
        raise InputError(f"level {bad[0]:g} of {control} ({kind.level}) must be {what}.")
    if len({f"{value:g}" for value in wanted}) < len(wanted):
        raise InputError(
            f"levels of {control} repeat: {', '.join(f'{value:g}' for value in wanted)}."
        )
    return wanted, len(wanted) > 1
