"""P5: reported successes, judged anew with the PNG opened by Pillow and the network called directly.

Truncating to 8 bits, as plenoptic, torchattacks and lucent write their files, is measured beside
rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.networks import photographs, trained
from neurometamer.store import file_name
from stimuli_gen import (
    StagedModel,
    StimulusSet,
    adversarial_interference,
    adversarial_noise,
    confirm_metamers,
    confirm_saved,
    model_metamers,
    write_stimuli,
)

_CONFIDENCE = 0.99


def read_back(setup: Setup) -> Sequence[Row]:
    """P5."""
    rows: list[Row] = []
    for name in ("efficientnet_lite0", "squeezenet1_0")[: setup.pick(2, 1)]:
        try:
            model = trained(name, setup)
        except NotAvailable as error:
            rows.append(Row(what=name, value=None, note=str(error)))
            continue
        references = photographs(setup, model.preprocessing, setup.pick(12, 4))
        for kind in ("AI", "AN", "metamer"):
            made, folder = _make(kind, model, references, setup)
            rows += _judge(f"{name}: {kind}", kind, model, references, made, folder)
    return rows


def _make(
    kind: str, model: StagedModel, references: StimulusSet, setup: Setup
) -> tuple[StimulusSet, Path]:
    folder = setup.scratch / f"{model.name}_{kind}"
    if kind == "AI":
        made = adversarial_interference(
            model, references, confidence=_CONFIDENCE, max_steps=setup.pick(300, 60)
        )
    elif kind == "AN":
        made = adversarial_noise(
            model, references, confidence=_CONFIDENCE, max_steps=setup.pick(300, 60)
        )
    else:
        made = model_metamers(
            model, references, stage="late", preset="fast", steps=setup.pick(100, 20)
        )
    write_stimuli(made, folder)
    if kind == "metamer":
        return confirm_metamers(model, made, references, folder), folder
    return confirm_saved(model, made, folder), folder


def _judge(
    what: str,
    kind: str,
    model: StagedModel,
    references: StimulusSet,
    made: StimulusSet,
    folder: Path,
) -> list[Row]:
    """Open the files another way and ask the bare network."""
    reported = made.table["success"].to_numpy(dtype=bool)
    note = f"{reported.sum()} of {len(made)} reported as successes"
    if not reported.any():
        return [Row(what=f"{what}, read back", value=None, note=note)]
    pictures = np.stack([_open(folder / "png" / f"{file_name(one)}.png") for one in made.ids])
    truncated = (made.images[slice(0, len(made))] * 255).astype(np.uint8).astype(np.float32) / 255
    held = {"read back": pictures, "truncated instead of rounded": truncated}
    if kind == "metamer":
        photos = references.select(ids=made.table["reference_id"].tolist())
        wanted = _probabilities(model, photos.images[slice(0, len(photos))]).argmax(axis=1)
        good = {
            name: _probabilities(model, one).argmax(axis=1) == wanted for name, one in held.items()
        }
    else:
        rows, target = np.arange(len(made)), made.table["target_index"].to_numpy(dtype=int)
        good = {
            name: _probabilities(model, one)[rows, target] >= _CONFIDENCE
            for name, one in held.items()
        }
    return [
        Row(
            what=f"{what}, {name}",
            value=100 * float(fine[reported].mean()),
            unit="% of reported successes",
            sense=">=" if name == "read back" else "",
            bound=100.0 if name == "read back" else None,
            note=note,
        )
        for name, fine in good.items()
    ]


def _open(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float32).transpose(2, 0, 1) / 255


def _probabilities(model: StagedModel, images: np.ndarray) -> np.ndarray:
    """Call the network itself, an image at a time, in ordinary memory layout."""
    mean, std = (
        torch.tensor(one).view(1, 3, 1, 1)
        for one in (model.preprocessing.mean, model.preprocessing.std)
    )
    with torch.no_grad():
        found = [
            model.network((torch.from_numpy(one.copy())[None] - mean) / std).softmax(dim=1)
            for one in images
        ]
    return torch.cat(found).numpy()
