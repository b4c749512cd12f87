"""Fingerprints of preprocessing: what a network says to one known picture.

The picture goes the whole way of a photograph: resized, cut, normalized. Its logits change when the
mean, the standard deviation, the resizing or the order of the channels does, so that a network
whose logits are those on record sees pictures as it should. Records belong to weights, whatever the
name of the network: wrong preprocessing of known weights is noticed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.provenance import digest
from neurometamer.store import read_json, write_json

if TYPE_CHECKING:
    from PIL import Image

    from stimuli_gen.models import StagedModel

N_LOGITS = 16
TOLERANCE = 0.01
"""Largest difference of a logit, in standard deviations of the recorded ones. Other processors and
other roundings differ by less than a tenth of it; of what was tried on four networks, a mean that
is off by 0.01 differs by 1.4 times it at least, a standard deviation by 2 % by 2 times, bilinear
for bicubic by 14 times."""
PREPROCESSING = {
    "verified": "the known picture gives the logits on record for these weights",
    "unverified": "nobody recorded what these weights say to the known picture",
    "wrong": "the known picture gives other logits than those on record for these weights",
}
"""What the fingerprint says of the preprocessing of a network."""
_HEIGHT, _WIDTH = 340, 420
_STORED = Path(__file__).with_name("fingerprints.json")


def probe_picture() -> Image.Image:
    """Draw the known picture: waves, edges and colors, at other sizes than any network's input.

    Returns
    -------
    PIL.Image.Image
        RGB, 420 x 340 pixels, always the same.

    Examples
    --------
    >>> probe_picture().size
    (420, 340)
    """
    from PIL import Image

    rows, columns = np.mgrid[0:_HEIGHT, 0:_WIDTH]
    red = 128 + 100 * np.sin(columns / 9.0) * np.cos(rows / 31.0)
    green = 90 + 80 * np.sin((rows + columns) / 4.0)
    blue = 60 + 0.4 * columns
    blue[(rows - 170) ** 2 + (columns - 210) ** 2 < 90**2] = 230
    green[(rows // 24 + columns // 24) % 5 == 0] = 30
    levels = np.stack([red, green, blue], axis=-1)
    return Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8))


def weights_digest(model: StagedModel) -> str:
    """Hash the weights of a network alone, without its preprocessing and its stages.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    parts: list[Any] = []
    for name, value in model.network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            parts += [name, value.detach().cpu().contiguous().float().numpy()]
    return digest(*parts)


@checked
def fingerprint(model: StagedModel) -> tuple[float, ...]:
    """Compute what a network says to the known picture.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    tuple of float
        16 logits, evenly spaced among the classes (all where there are fewer), rounded to 5
        digits behind the point.

    Examples
    --------
    >>> from neurometamer.zoo import load_model
    >>> model = load_model("squeezenet1_0", weights="random")
    >>> len(fingerprint(model))
    16
    """
    import torch

    from stimuli_gen.precision import exact_passes

    pixels = model.preprocessing.cut(probe_picture())
    images = torch.from_numpy(pixels)[None].to(model.device)
    with exact_passes():
        logits = model.logits(images)[0].cpu().double().numpy()
    n_logits = min(N_LOGITS, len(logits))
    places = np.linspace(0, len(logits) - 1, n_logits).round().astype(int)
    return tuple(round(float(value), 5) for value in logits[places])


def differs(values: tuple[float, ...], recorded: tuple[float, ...]) -> bool:
    """Tell whether a fingerprint is another one than the recorded.

    Parameters
    ----------
    values, recorded : tuple of float
        See `fingerprint`.

    Returns
    -------
    bool
        Whether a logit is off by more than `TOLERANCE` standard deviations of the recorded ones.

    Examples
    --------
    >>> differs((1.0, 2.0), (1.0, 2.001)), differs((1.0, 2.0), (1.0, 2.1))
    (False, True)
    """
    if len(values) != len(recorded):
        return True
    largest = np.abs(np.subtract(values, recorded)).max()
    return bool(largest > TOLERANCE * np.std(recorded))


def records_file() -> Path:
    """Return the file of the fingerprints that were recorded on this machine.

    Returns
    -------
    Path
        ``fingerprints.json`` in ``NEUROMETAMER_CACHE``, or in ``neurometamer`` of the user's cache.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("NEUROMETAMER_CACHE") or Path(cache) / "neurometamer"
    return Path(folder) / "fingerprints.json"


def _records(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    records = read_json(file)
    is_known = isinstance(records, dict)
    for record in records.values() if is_known else []:
        is_known = is_known and isinstance(record, dict) and {"logits", "name"} <= record.keys()
    if not is_known:
        raise InputError(f"{file} holds no fingerprints; remove it.")
    return records


def recorded_fingerprint(model: StagedModel) -> tuple[float, ...] | None:
    """Look up the fingerprint of a network's weights.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    tuple of float or None
        None where nobody recorded one.

    Raises
    ------
    InputError
        When the file of this machine's records is damaged.
    """
    key = weights_digest(model)
    record = _records(_STORED).get(key) or _records(records_file()).get(key)
    return None if record is None else tuple(record["logits"])


def compare_fingerprint(model: StagedModel) -> str:
    """Compare what a network says to the known picture with what is on record for its weights.

    Parameters
    ----------
    model : StagedModel
        The network.

    Returns
    -------
    str
        A key of `PREPROCESSING`.

    Raises
    ------
    InputError
        When the file of this machine's records is damaged.

    Examples
    --------
    >>> from neurometamer.zoo import load_model
    >>> compare_fingerprint(load_model("squeezenet1_0", weights="random"))
    'unverified'
    """
    recorded = recorded_fingerprint(model)
    if recorded is None:
        return "unverified"
    return "wrong" if differs(fingerprint(model), recorded) else "verified"


@checked
def record_fingerprint(model: StagedModel) -> Path:
    """Record what a network says to the known picture, for later checks on this machine.

    Parameters
    ----------
    model : StagedModel
        The network, with the preprocessing that its weights want.

    Returns
    -------
    Path
        The file of records.

    Raises
    ------
    InputError
        When the weights are random, another fingerprint of these weights is on record, or the file
        of records is damaged.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.zoo import load_model
    >>> try:
    ...     record_fingerprint(load_model("squeezenet1_0", weights="random"))
    ... except InputError as error:
    ...     print(str(error).partition(";")[0])
    squeezenet1_0 has random weights
    """
    if not model.trained:
        raise InputError(f"{model.name} has random weights; give trained ones to record.")
    values = fingerprint(model)
    known = recorded_fingerprint(model)
    file = records_file()
    if known is not None and differs(values, known):
        raise InputError(
            f"{model.name} says something else to the known picture than what is on record for its "
            f"weights; correct its preprocessing, or remove the record from {file}."
        )
    if known is None:
        record = {"name": model.name, "weights": model.weights, "logits": list(values)}
        write_json(file, {**_records(file), weights_digest(model): record})
    return file
