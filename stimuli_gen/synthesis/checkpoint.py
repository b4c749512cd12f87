"""Keep finished and unfinished images of a long run on disk, and stop the run from outside."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurometamer.errors import InputError, Terminated, terminate
from neurometamer.resume import note_remade, only_process, refuse_links_out
from neurometamer.store import read_hdf5_array, read_hdf5_attributes, write_hdf5

SAVE_EVERY_S = 60.0
"""Seconds between two savings of unfinished images, at least."""

_FIXED = ("score", "score_shown", "steps", "reached")
"""Fields of `Descended` that are saved beside its image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Descended:
    """What became of one image.

    Parameters
    ----------
    image : ndarray
        (3, height, width) float32: the iterate that reached the threshold, or the one kept.
    score : float
        Its score as it is.
    score_shown : float
        Its score once rounded to 8 bits, as people will see it.
    steps : int
        Gradient steps taken.
    reached : bool
        Whether both scores are at or above the threshold.
    """

    image: np.ndarray
    score: float
    score_shown: float
    steps: int
    reached: bool


def stacked(made: dict[str, Descended], ids: Sequence[str]) -> np.ndarray:
    """Put finished images into one array, each only once in memory.

    Parameters
    ----------
    made : dict of str to Descended
        Results by id; afterwards their images are parts of the array.
    ids : sequence of str
        Which, in this order.

    Returns
    -------
    ndarray
        (n, 3, height, width) float32.
    """
    shape = made[ids[0]].image.shape
    images = np.empty((len(ids), *shape), np.float32)
    for row, stimulus_id in enumerate(ids):
        result = made[stimulus_id]
        images[row] = result.image
        made[stimulus_id] = replace(result, image=images[row])
    return images


class Checkpoint:
    """Files of finished and of unfinished images, one each.

    A file is named by the digest of what makes its image.

    Parameters
    ----------
    folder : path-like, optional
        Where; None keeps nothing.
    keys : mapping of str to str, optional
        Id → digest of everything that changes its pixels.
    every_s : float
        See `SAVE_EVERY_S`.

    Raises
    ------
    InputError
        When there is a folder but no keys.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None,
        keys: Mapping[str, str] | None,
        *,
        every_s: float = SAVE_EVERY_S,
    ) -> None:
        if folder is not None and keys is None:
            raise InputError(
                f"the resume folder {os.fspath(folder)} needs keys: give the digest of what makes "
                "each image."
            )
        self._folder = None if folder is None else Path(folder)
        self._keys = keys or {}
        self._every_s = every_s
        self._saved_at = time.monotonic()

    @property
    def kept(self) -> bool:
        """Whether anything is kept.

        Returns
        -------
        bool
            False without a folder.
        """
        return self._folder is not None

    @contextmanager
    def at_work(self) -> Iterator[Interrupt]:
        """Keep other processes out of the folder, and stops waiting until the state is saved.

        Yields
        ------
        Interrupt
            To be looked at once a pass; never asked for where nothing is kept.

        Raises
        ------
        FolderInUse
            When another process makes images there.
        InputError
            When the folder holds links that lead out of it.
        """
        if self._folder is None:
            yield Interrupt()
            return
        refuse_links_out(self._folder)
        with only_process(self._folder / "lock", self._folder), deferred_interrupt() as stop:
            yield stop

    def due(self) -> bool:
        """Tell whether unfinished images should be saved now.

        Returns
        -------
        bool
            True when the last saving, or the beginning, is long enough ago; then the clock starts
            again.
        """
        if self._folder is None or time.monotonic() - self._saved_at < self._every_s:
            return False
        self._saved_at = time.monotonic()
        return True

    def get(self, stimulus_id: str) -> tuple[Descended, dict[str, Any]] | None:
        """Read a finished image.

        Parameters
        ----------
        stimulus_id : str
            Its id.

        Returns
        -------
        tuple of Descended and dict, or None
            The image and what else was saved with it; None when it is not there, or is damaged in
            any way: then it is made again, with a note.
        """
        if self._folder is None:
            return None
        path = self._folder / f"{self._keys[stimulus_id]}.h5"
        if not path.is_file():
            return None
        try:
            extra = dict(read_hdf5_attributes(path)["result"])
            fixed = {name: extra.pop(name) for name in _FIXED}
            image = read_hdf5_array(path, "image")
            in_range = image.min() >= 0 and image.max() <= 1  # NaN is neither
            if image.dtype == np.float32 and in_range:
                return Descended(image=image, **fixed), extra
        except (InputError, KeyError, TypeError, ValueError):
            pass
        note_remade(path)
        return None

    def finished(self, ids: Sequence[str]) -> dict[str, tuple[Descended, dict[str, Any]]]:
        """Read the images that were finished before.

        Parameters
        ----------
        ids : sequence of str
            Ids of the images to make.

        Returns
        -------
        dict of str to tuple
            Id → what `get` gives, for those that are there.
        """
        there = {}
        for stimulus_id in ids:
            kept = self.get(stimulus_id)
            if kept is not None:
                there[stimulus_id] = kept
        return there

    def put(self, stimulus_id: str, result: Descended, **extra: Any) -> None:
        """Write a finished image atomically; its unfinished state goes.

        Parameters
        ----------
        stimulus_id : str
            Its id.
        result : Descended
            What became of it.
        **extra : object
            What else to save with it, as JSON.
        """
        if self._folder is None:
            return
        fixed = {name: getattr(result, name) for name in _FIXED}
        write_hdf5(
            self._folder / f"{self._keys[stimulus_id]}.h5",
            arrays={"image": result.image},
            attributes={"result": {**fixed, **extra}, "id": stimulus_id},
        )
        self._state(stimulus_id).unlink(missing_ok=True)

    def load(self, stimulus_id: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Read the state of an unfinished image.

        Parameters
        ----------
        stimulus_id : str
            Its id.

        Returns
        -------
        tuple of dict and dict, or None
            The arrays and what else was saved; None when it is not there or is damaged: then the
            image starts again.
        """
        if self._folder is None:
            return None
        path = self._state(stimulus_id)
        if not path.is_file():
            return None
        try:
            extra = dict(read_hdf5_attributes(path)["state"])
            arrays = {name: read_hdf5_array(path, name) for name in extra.pop("names")}
            return arrays, extra
        except (InputError, KeyError, TypeError, ValueError):
            note_remade(path)
            return None

    def save(self, stimulus_id: str, arrays: Mapping[str, np.ndarray], **extra: Any) -> None:
        """Write the state of an unfinished image atomically.

        Parameters
        ----------
        stimulus_id : str
            Its id.
        arrays : mapping of str to ndarray
            All that is needed to go on as if nothing had happened.
        **extra : object
            What else, as JSON.
        """
        if self._folder is not None:
            state = {**extra, "names": sorted(arrays)}
            write_hdf5(
                self._state(stimulus_id),
                arrays=arrays,
                attributes={"state": state, "id": stimulus_id},
            )

    def _state(self, stimulus_id: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{self._keys[stimulus_id]}.state.h5"


@dataclass
class Interrupt:
    """Whether a stop was asked for.

    Parameters
    ----------
    requested : bool
        Set by Ctrl-C and by SIGTERM.
    terminated : bool
        It was SIGTERM.
    """

    requested: bool = False
    terminated: bool = False

    def stop(self) -> None:
        """End the work, once everything is saved.

        Raises
        ------
        KeyboardInterrupt
            After Ctrl-C.
        Terminated
            After SIGTERM; the process ends with code 143.
        """
        raise Terminated if self.terminated else KeyboardInterrupt


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Let Ctrl-C and SIGTERM wait until the state can be saved; a second one does not wait.

    Only where Ctrl-C would raise `KeyboardInterrupt`, and where SIGTERM would end the process or
    raise `Terminated`: handlers that others have set, and threads, are left alone.

    Yields
    ------
    Interrupt
        To be looked at once a pass.
    """
    wish = Interrupt()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        known: dict[int, tuple[Any, ...]] = {
            signal.SIGINT: (signal.default_int_handler,),
            signal.SIGTERM: (signal.SIG_DFL, terminate),
        }
        for number, usual in known.items():
            handler = signal.getsignal(number)
            if handler in usual:
                before[number] = handler

    def wait(number: int, _: object) -> None:
        wish.requested = True
        wish.terminated = number == signal.SIGTERM
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, wait)
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
