"""The Python twin of ``neurometamer controls``: images in, a file of control RDMs out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurometamer.arguments import checked
from neurometamer.commands.options import ReadingOptions
from neurometamer.errors import InputError, unknown_name
from neurometamer.reading import Files
from stimuli_gen.photographs import read_images


@checked
def make_control_rdms(
    images: Files,
    out: str | Path,
    *,
    which: Sequence[str] = ("pixels", "luminance", "gabor"),
    category: str = "category",
    model: str = "efficientnet_lite0",
    reading: ReadingOptions | None = None,
) -> Path:
    """Make control RDMs of images and write them for ``neurometamer compare --controls``.

    Parameters
    ----------
    images : sequence of path-like
        See `read_images`.
    out : path-like
        HDF5 file to write, for ``neurometamer compare --controls``.
    which : sequence of str
        Some of `neurometamer.rsa.controls.CONTROLS`.
    category : str
        Column of the stimuli's table with the categories.
    model : str
        Network whose size and cut photographs get: the pixels that are measured. Stimulus folders
        are as they are.
    reading : ReadingOptions, optional
        How photographs are read.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        For an unknown control or network, an image of one gray, or a missing category.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import neurometamer as nm
    >>> from neurometamer.zoo import model_entry
    >>> from stimuli_gen import packaged_photographs, write_stimuli
    >>> photographs = packaged_photographs(model_entry("efficientnet_lite0").preprocessing)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = write_stimuli(photographs, Path(folder) / "images")
    ...     rdms = nm.read_rdms(
    ...         nm.make_control_rdms([images], Path(folder) / "c.h5", which=["luminance"])
    ...     )
    >>> rdms.n_rdm, rdms.n_cond
    (1, 16)
    """
    from neurometamer.rsa.compute import write_rdms
    from neurometamer.rsa.controls import CONTROLS, control_rdms
    from neurometamer.zoo import model_entry

    if not which:
        raise InputError(f"no control asked for; give some of {', '.join(CONTROLS)}.")
    for control in which:
        if control not in CONTROLS:
            raise unknown_name("control", control, CONTROLS)
    reading = reading or ReadingOptions()
    preprocessing = model_entry(model).preprocessing
    stimuli = read_images(images, preprocessing, bits=reading.bits, icc=reading.icc)
    return write_rdms(control_rdms(stimuli, list(dict.fromkeys(which)), column=category), out)
