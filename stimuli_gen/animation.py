"""Show how an image came about: frames of a synthesis as an animated GIF.

A GIF has at most 256 colors. All frames share one palette and none is dithered, so that a pixel
that stays the same does not flicker. An animation is for looking at; numbers are read from the PNG
and HDF5 files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.store import atomic_path, file_name
from stimuli_gen.stored_images import read_png, to_8bit, write_png

if TYPE_CHECKING:
    from stimuli_gen.synthesis.loop import OnFrame

_SAMPLE = 2**18
"""Pixels, evenly over all frames, from which the palette is chosen."""

_LINE = 14
"""Height of a caption in pixels."""


@checked
def write_animation(
    frames: np.ndarray | Sequence[str | os.PathLike[str]],
    path: str | os.PathLike[str],
    *,
    frame_ms: float = 80,
    hold_ms: float = 1500,
    captions: Sequence[str] | None = None,
) -> Path:
    """Write frames as a GIF that plays for ever, atomically.

    Parameters
    ----------
    frames : ndarray or sequence of path-like
        (n, 3, height, width) float in [0, 1], or PNG files of one size, in order.
    path : path-like
        GIF file.
    frame_ms : float
        How long a frame is shown, milliseconds; rounded to hundredths of a second, the unit of the
        format.
    hold_ms : float
        How long the first and the last frame are shown, milliseconds, so that the eye can compare
        them.
    captions : sequence of str, optional
        One line for each frame, written below it in black on white; what is wider than the image is
        cut off.

    Returns
    -------
    Path
        The file. Neighboring frames that are equal, captions included, become one that is shown as
        long as both.

    Raises
    ------
    InputError
        When there are no frames, they differ in size or leave [0, 1], captions are not one a frame,
        or a time is not between 0.01 and 655 seconds.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from stimuli_gen import write_animation
    >>> frames = np.linspace(0, 1, 3 * 3 * 8 * 8).reshape(3, 3, 8, 8)
    >>> with TemporaryDirectory() as folder:
    ...     write_animation(frames, f"{folder}/ramp.gif", captions=["1", "2", "3"]).name
    'ramp.gif'
    """
    from PIL import Image, ImageDraw, ImageFont

    levels = _levels(frames)
    if captions is not None and len(captions) != len(levels):
        raise InputError(
            f"{len(captions)} caption(s) for {len(levels)} frame(s); give one for each."
        )
    for name, value in (("frame_ms", frame_ms), ("hold_ms", hold_ms)):
        if not 10 <= value <= 655_350:
            raise InputError(
                f"{name} must be between 10 and 655350 milliseconds, not {value}; give such a time."
            )
    # 254 colors for all frames together; black and white are for the captions
    pixels = levels.reshape(-1, 3)
    every = -(-len(pixels) // _SAMPLE)
    some = np.ascontiguousarray(pixels[None, ::every])
    sample = Image.fromarray(some)
    chosen = sample.quantize(254, method=Image.Quantize.MEDIANCUT)
    colors = chosen.getpalette() or []
    colors = colors[: 3 * 254]
    black = [0] * (3 * 255 - len(colors))
    palette = Image.new("P", (1, 1))
    palette.putpalette([*colors, *black, 255, 255, 255])
    drawn = []
    for row, frame in enumerate(levels):
        picture = Image.fromarray(frame)
        if captions is not None:
            sheet = Image.new("RGB", (picture.width, picture.height + _LINE), "white")
            sheet.paste(picture, (0, 0))
            draw = ImageDraw.Draw(sheet)
            draw.fontmode = "1"  # no gray edges: they would need colors of the palette
            draw.text((2, picture.height + 1), captions[row], "black", ImageFont.load_default())
            picture = sheet
        picture = picture.quantize(palette=palette, dither=Image.Dither.NONE)
        drawn.append(picture)
    # in steps of 10 ms, as GIF files tell time
    step = 10 * round(frame_ms / 10)
    hold = 10 * round(hold_ms / 10)
    durations = [step] * len(drawn)
    durations[0] = durations[-1] = hold
    with atomic_path(path) as part:
        drawn[0].save(
            part,
            format="GIF",
            save_all=True,
            append_images=drawn[1:],
            duration=durations,
            loop=0,
        )
    return Path(path)


def _levels(frames: np.ndarray | Sequence[str | os.PathLike[str]]) -> np.ndarray:
    """Read frames as 8-bit levels, (n, height, width, 3) uint8."""
    if not len(frames):
        raise InputError("an animation needs at least one frame, not 0; give frames.")
    if not isinstance(frames, np.ndarray):
        images = [read_png(Path(file)) for file in frames]
        first = images[0].shape
        for file, image in zip(frames, images, strict=True):
            if image.shape != first:
                raise InputError(
                    f"{file} is {image.shape[1:]} pixels, the first frame {first[1:]}; "
                    "give frames of one size."
                )
        frames = np.stack(images)
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise InputError(f"frames must be (n, 3, height, width), not {frames.shape}; give these.")
    low = frames.min()
    high = frames.max()
    is_in_range = low >= 0 and high <= 1
    if not is_in_range:
        raise InputError(
            f"frames leave [0, 1] or are not finite ({low:g} to {high:g}); clip them, or scale "
            "them by 1/255."
        )
    levels = to_8bit(frames).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(levels)


# ---------------------------------------------------------------------------- frames of a synthesis


@checked
def frame_recorder(folder: str | os.PathLike[str]) -> OnFrame:
    """Make the ``on_frame`` of a generator: it keeps each frame that it gets as a PNG.

    Parameters
    ----------
    folder : path-like
        Gets ``<id>/<step>.png``, the step with leading zeros. Each frame is written atomically. A
        run that goes on adds to the frames that are there; one that starts an image again (step 0)
        first removes those of that image.

    Returns
    -------
    callable
        (stimulus id, step, image (3, height, width) float in [0, 1]) → None.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((3, 32, 32), dtype="float32")
    >>> from pathlib import Path
    >>> from stimuli_gen import frame_recorder
    >>> with TemporaryDirectory() as folder:
    ...     on_frame = frame_recorder(folder)
    ...     on_frame("cat_AI", 0, image)
    ...     on_frame("cat_AI", 16, image)
    ...     sorted(path.name for path in Path(folder, "cat_AI").iterdir())
    ['000000.png', '000016.png']
    """

    def _keep(stimulus_id: str, step: int, image: np.ndarray) -> None:
        subfolder = Path(folder) / file_name(stimulus_id)
        if step == 0:
            old_frames = _frames(subfolder)
            for old in old_frames.values():
                old.unlink()
        path = subfolder / f"{step:06d}.png"
        inside = np.clip(image, 0, 1)
        write_png(path, inside)

    return _keep


@checked
def animate_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    losses: Mapping[str, Mapping[int, float]] | None = None,
    **settings: Any,
) -> dict[str, Path]:
    """Write one animation for each image whose frames `frame_recorder` kept.

    Parameters
    ----------
    folder : path-like
        Holds ``<id>/<step>.png``.
    out : path-like
        Gets ``<id>.gif``.
    losses : mapping of str to mapping of int to float, optional
        Id → step → loss, for the captions; steps that are not in it are captioned without.
    **settings : object
        ``frame_ms`` and ``hold_ms`` of `write_animation`.

    Returns
    -------
    dict of str to Path
        Id → file, by name.

    Raises
    ------
    InputError
        When there are no frames, or one cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> image = np.random.default_rng(0).random((3, 32, 32), dtype="float32")
    >>> from stimuli_gen import animate_folder, frame_recorder
    >>> with TemporaryDirectory() as folder:
    ...     frame_recorder(f"{folder}/frames")("cat_AI", 0, image)
    ...     list(animate_folder(f"{folder}/frames", folder))
    ['cat_AI']
    """
    source = Path(folder)
    entries = sorted(source.iterdir()) if source.is_dir() else []
    frames_of = {}
    for subfolder in entries:
        frames = _frames(subfolder)
        if frames:
            frames_of[subfolder.name] = frames
    if not frames_of:
        raise InputError(
            f"{folder} holds no frames (<id>/<step>.png); record some with frame_recorder."
        )
    made = {}
    for stimulus_id, frames in frames_of.items():
        known = (losses or {}).get(stimulus_id, {})
        captions = []
        for step in frames:
            loss = f", loss {known[step]:.4g}" if step in known else ""
            captions.append(f"step {step}{loss}")
        path = Path(out) / f"{stimulus_id}.gif"
        files = list(frames.values())
        made[stimulus_id] = write_animation(files, path, captions=captions, **settings)
    return made


def _frames(subfolder: Path) -> dict[int, Path]:
    """Map each step to its file, in order of the steps."""
    steps = {}
    for file in subfolder.glob("*.png"):
        if file.stem.isdecimal():
            step = int(file.stem)
            steps[step] = file
    return {step: steps[step] for step in sorted(steps)}
