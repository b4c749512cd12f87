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
        For ``film`` of a generator. It begins anew with an image that begins anew.
    """
    from neurometamer.store import file_name
    from stimuli_gen.stimuli import write_png

    def _keep(one: str, step: int, image: np.ndarray) -> None:
        folder = Path(out) / "frames" / file_name(one)
        if step == 0:
            for old in folder.glob("*.png"):
                old.unlink()
        write_png(folder / f"{step:06d}.png", image.clip(0, 1))

    return _keep


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
    from stimuli_gen.animation import write_animation

    films = []
    for folder in sorted(one for one in (Path(out) / "frames").glob("*") if one.is_dir()):
        frames = sorted(folder.glob("*.png"))
        captions = [f"step {int(one.stem)}" for one in frames]
        path = Path(out) / "animation" / f"{folder.name}.gif"
        films.append(write_animation(frames, path, captions=captions, **settings))
    return films
