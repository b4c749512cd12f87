"""How work is run: where, how many images at a time, and who is told about it.

Settings that change numbers are arguments of the functions themselves; these here change the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError, unknown_name
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import numpy as np

MODES = {
    "exact": "float32 throughout: an image does not depend on its batch companions",
    "fast": "most steps in bfloat16, the last in float32",
}
"""Name of a mode to what it computes."""

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Names of devices that need no look at torch; it knows others."""


def check_device(name: str, what: str = "device") -> None:
    """Refuse a device of a type that torch does not know; whether it is there is not asked.

    Parameters
    ----------
    name : str
        Such as ``cuda:1``.
    what : str
        What was asked for, in the message.

    Raises
    ------
    InputError
        With the nearest name.

    Examples
    --------
    >>> check_device("cuda:1")
    >>> try:
    ...     check_device("gpu")
    ... except ValueError as error:
    ...     print(str(error).partition(";")[0])
    unknown device 'gpu'
    """
    if name in DEVICES:
        return
    import torch

    try:
        torch.device(name)
    except RuntimeError:
        raise unknown_name(what, name, [*DEVICES, "cuda:1"]) from None


@short_repr
@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How work is run.

    Every generator and command that runs a network takes one as `run`.

    Parameters
    ----------
    device : str
        Where networks run: ``auto``, ``cpu``, ``cuda``, ``mps``, another type of device that torch
        knows, or one of several, as ``cuda:1``. Generators use the device of the network that they
        are given.
    batch_size : int, optional
        Number of images at a time, 1 or more; by default 8 on a CPU, elsewhere as many as memory
        allows (`stimuli_gen.batches.fitting_batch`).
    mode : str
        How exact: ``fast`` changes results slightly, and is recorded with them.
    resume : path, optional
        Folder of the checkpoints of a generator: an interrupted call with the same inputs goes on
        from there. Commands keep checkpoints in their output folder.
    progress : callable, optional
        Called with the number of finished parts and their total.
    look_every : int, optional
        Steps of a generator between two looks of the host at what the device found, 1 or more; by
        default 1 on a CPU, elsewhere up to 4. It changes no image.
    on_step : callable, optional
        Called with a `stimuli_gen.synthesis.loop.Pass` at each look of a generator.
    on_frame : callable, optional
        Called with the id of an image, the step and the image, for animations.

    Raises
    ------
    InputError
        For an unknown mode, or a batch size below 1.

    Examples
    --------
    >>> from neurometamer.run_options import RunOptions
    >>> RunOptions(batch_size=4).mode
    'exact'
    """

    device: str = "auto"
    batch_size: int | None = None
    mode: str = "exact"
    look_every: int | None = None
    resume: str | os.PathLike[str] | None = None
    progress: Callable[[int, int], None] | None = None
    on_step: Callable[[Any], None] | None = None
    on_frame: Callable[[str, int, np.ndarray], None] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, MODES)
        check_device(self.device)
        for name in ("batch_size", "look_every"):
            number = getattr(self, name)
            if number is None:
                continue
            is_whole = isinstance(number, int) and not isinstance(number, bool)
            if not is_whole or number < 1:
                raise InputError(f"{name} is {number!r}; give a whole number from 1 on.")
