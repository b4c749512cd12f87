"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neurometamer.reading import Files
from neurometamer.zoo import Weights, weights_by_name
from stimuli_gen.photographs import check_images

Progress = Callable[[int, int], None]
"""Called with the number of finished parts and their total."""


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How photographs are read, see `stimuli_gen.load_photographs`.

    Parameters
    ----------
    bits : int, optional
        Number of bits of 16-bit photographs that hold data, 8 to 16; or give the column bits of a
        CSV.
    icc : {"ignore", "convert"}
        What to do with color profiles of photographs other than sRGB: ignore them with a note, or
        convert them; or give the column icc of a CSV.

    Examples
    --------
    >>> ReadingOptions(bits=12).icc
    'ignore'
    """

    bits: int | None = None
    icc: str = "ignore"


@dataclass(frozen=True, kw_only=True)
class StimulusFileOptions(ReadingOptions):
    """How photographs are read, and what is written beside the images made of them.

    Parameters
    ----------
    bits : int, optional
        Number of bits of 16-bit photographs that hold data, 8 to 16; or give the column bits of a
        CSV.
    icc : {"ignore", "convert"}
        What to do with color profiles of photographs other than sRGB: ignore them with a note, or
        convert them; or give the column icc of a CSV.
    png16 : bool
        Whether to write 16-bit PNG files, too.
    animate : bool
        Whether to keep frames in ``<out>/frames/<id>`` and write ``<out>/animation/<id>.gif``.
    fresh : bool
        Whether to throw away what earlier runs left in ``<out>/.finished`` instead of going on with
        it.

    Examples
    --------
    >>> StimulusFileOptions(fresh=True).png16
    False
    """

    png16: bool = False
    animate: bool = False
    fresh: bool = False


def check_before_loading(
    models: Sequence[str],
    weights: Weights | Mapping[str, Weights],
    images: Files,
    reading: ReadingOptions,
) -> None:
    """Refuse unknown networks, lost weights and images that are not there before networks load.

    Parameters
    ----------
    models : sequence of str
        Names of networks.
    weights : str, path or mapping
        See `neurometamer.zoo.weights_by_name`.
    images : sequence of path-like
        See `stimuli_gen.read_images`.
    reading : ReadingOptions
        How photographs are read.

    Raises
    ------
    InputError
        The first of these.
    """
    weights_by_name(models, weights)
    check_images(images, bits=reading.bits, icc=reading.icc)
