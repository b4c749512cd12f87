"""Options of the stimulus commands as people write them, read into what the generators take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError, duplicates, name_ids, unknown_name

if TYPE_CHECKING:
    import numpy as np

    from stimuli_gen.photographs import Preprocessing
    from stimuli_gen.presets import Penalty

POWERS = {"total_variation": 2.0, "alpha_norm": 6.0, "range": 2.0}
"""Power of a penalty where none is given: those of Mahendran & Vedaldi (2015); of the range, our choice."""


def _yes_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "a name"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (_yes_no, "true or false"),
}


def read_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Read changes of a preset.

    Parameters
    ----------
    texts : sequence of str
        ``NAME=VALUE``, names of `stimuli_gen.Recipe`.

    Returns
    -------
    dict
        Name → value of the name's type.

    Raises
    ------
    InputError
        When a name is unknown or comes twice, or a value has another type.
    """
    from stimuli_gen.presets import Recipe

    types = {one.name: str(one.type) for one in fields(Recipe) if one.name != "open_choices"}
    pairs = [one.partition("=") for one in texts]
    if again := duplicates(name.strip() for name, _, _ in pairs):
        raise InputError(f"--set names {name_ids(again)} more than once; give each once.")
    found = {}
    for (name, equal, value), text in zip(pairs, texts, strict=True):
        name, value = name.strip(), value.strip()
        if not (name and equal and value):
            raise InputError(f"--set wants NAME=VALUE, not '{text}'.")
        if name not in types:
            raise unknown_name("setting of a metamer", name, types)
        read, wanted = _READ[types[name]]
        try:
            found[name] = read(value)
        except ValueError:
            raise InputError(f"--set {name} wants {wanted}, not '{value}'.") from None
    return found


def read_penalties(texts: Sequence[str]) -> list[Penalty]:
    """Read terms that are added to the loss.

    Parameters
    ----------
    texts : sequence of str
        ``kind:weight[:power[:pixel_scale]]``; powers that are left out are those of `POWERS`.

    Returns
    -------
    list of Penalty
        In the same order.

    Raises
    ------
    InputError
        When one cannot be read.
    """
    from stimuli_gen.presets import PENALTIES, Penalty

    found = []
    for text in texts:
        kind, *numbers = text.split(":")
        if kind not in PENALTIES:
            raise unknown_name("penalty", kind, PENALTIES)
        try:
            values = [float(one) for one in numbers]
        except ValueError:
            values = []
        if not 1 <= len(values) <= 3:
            raise InputError(f"--penalty wants kind:weight[:power[:pixel_scale]], not '{text}'.")
        weight, power, pixel_scale = (*values, *(POWERS[kind], 1.0)[len(values) - 1 :])
        found.append(Penalty(kind=kind, weight=weight, power=power, pixel_scale=pixel_scale))
    return found


def read_start_images(
    source: str | Path, preprocessing: Preprocessing
) -> dict[str, np.ndarray] | np.ndarray:
    """Read first images of metamers.

    Parameters
    ----------
    source : path-like
        A picture for all; or a folder of pictures named by the photographs' ids, or of stimuli made
        of them.
    preprocessing : Preprocessing
        Of the network: pictures of another size are resized and cut as photographs are.

    Returns
    -------
    ndarray or dict of str to ndarray
        (3, height, width) float32 in [0, 1]: one, or by reference id.

    Raises
    ------
    InputError
        When nothing can be read, or there are two for one photograph.
    """
    import numpy as np

    from stimuli_gen.photographs import load_photographs
    from stimuli_gen.stimuli import read_stimuli

    path = Path(source)
    if path.is_file():
        return np.asarray(load_photographs([path], preprocessing).images)[0]
    made = (path / "stimuli.h5").is_file()
    given = read_stimuli(path).as_shown() if made else load_photographs(path, preprocessing)
    names = given.table["reference_id"].tolist()
    if again := duplicates(names):
        raise InputError(
            f"{path} holds more than one start image for {name_ids(again)}; give one for each "
            "photograph."
        )
    return dict(zip(names, np.asarray(given.images), strict=True))
