"""What a folder of stimuli holds beside the stimuli: images of an unfinished run, and frames of an animation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

UNFINISHED = ".state.h5"


def kept_in(out: str | Path) -> Path:
    """Name the folder of finished and unfinished images.

    Parameters
    ----------
    out : path-like
        Folder of stimuli.

    Returns
    -------
    Path
        Not created.
    """
    return Path(out) / ".finished"


def count_kept(out: str | Path) -> tuple[int, int]:
    """Count the images that earlier runs left, whatever their settings.

    Parameters
    ----------
    out : path-like
        Folder of stimuli.

    Returns
    -------
    n_finished, n_unfinished : int
        Files.
    """
    names = [one.name for one in kept_in(out).glob("*.h5")]
    unfinished = sum(one.endswith(UNFINISHED) for one in names)
    return len(names) - unfinished, unfinished


def forget(out: str | Path) -> None:
    """Throw away what earlier runs left, so that every image is made anew.

    Parameters
    ----------
    out : path-like
        Folder of stimuli; what it holds beside is left alone.
    """
    for one in kept_in(out).glob("*.h5"):
        one.unlink()


def recorder(out: str | Path) -> Callable[[str, int, np.ndarray], None]:
    """Keep the frames of a synthesis as PNG files.

    Parameters
    ----------
    out : path-like
        Gets ``frames/<id>/<step>.png``.

    Returns
    -------
    callable
        For ``on_frame`` of a generator. It begins anew with an image that begins anew.
    """
    from stimuli_gen.animation import frame_recorder

    return frame_recorder(Path(out) / "frames")


def write_films(out: str | Path, **settings: Any) -> list[Path]:
    """Write an animation of each image whose frames were kept.

    Parameters
    ----------
    out : path-like
        Holds ``frames/<id>/<step>.png``; gets ``animation/<id>.gif``.
    **settings : object
        Of `stimuli_gen.animation.write_animation`.

    Returns
    -------
    list of Path
        The files.
    """
    from stimuli_gen.animation import animate_folder

    return list(animate_folder(Path(out) / "frames", Path(out) / "animation", **settings).values())
