"""What a generator is called with: options that not every one has are passed on, or refused, by its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from neurometamer.errors import InputError

WISHES = {"mode": "exact", "on_frame": None}
"""Option → the value that every generator has without being asked."""
EXTRAS = ("on_step", "nulls")
"""Options that change no pixels where a generator does not take them."""


def only_asked(make: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Take the options that a generator can be given.

    Parameters
    ----------
    make : callable
        The generator.
    **options : object
        ``mode``, ``on_frame``, ``on_step``, ``nulls``.

    Returns
    -------
    dict
        Without those at their default, and without those of `EXTRAS` that it does not take.

    Raises
    ------
    InputError
        When it cannot do what is asked.
    """
    known = inspect.signature(make).parameters
    taken = {}
    for name, value in options.items():
        if name in WISHES and value == WISHES[name]:
            continue
        if name in known:
            taken[name] = value
        elif name not in EXTRAS:
            wish = f"mode '{value}'" if name == "mode" else "animation"
            raise InputError(f"{make.__name__.replace('_', ' ')} has no {wish}; leave that out.")
    return taken
