"""Test what images made for one network do to another.

The effect is measured, beside a control, and never assumed.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from neurometamer.run_options import RunOptions
from stimuli_gen import (
    adversarial_interference,
    adversarial_noise,
    at_size,
    concat_stimuli,
    control_images,
    predict,
    write_stimuli,
)
from stimuli_gen.stimuli import read_png

IDS = ["camera", "cat", "motorcycle", "rocket"]


@pytest.fixture(scope="module")
def lite1():
    from neurometamer.zoo import load_model

    return at_size(load_model("efficientnet_lite1", device="cpu"), 224)


def by_hand(model, pictures):
    """The network's own module on normalized pixels, one image at a time, without our batches."""
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (model.preprocessing.mean, model.preprocessing.std)
    )
    with torch.no_grad():
        probabilities = [
            model.network((torch.from_numpy(picture)[None] - mean) / std).softmax(dim=1)[0]
            for picture in pictures
        ]
    return torch.stack(probabilities).numpy()


def test_transfer_to_a_second_network_is_measured_beside_a_random_change(
    lite0, lite1, photographs, tmp_path, record_property
):
    references = photographs.select(ids=IDS)
    interference = adversarial_interference(
        lite0, references, confidence=0.9, run=RunOptions(batch_size=4)
    )
    noise = adversarial_noise(lite0, references, confidence=0.9, run=RunOptions(batch_size=4))
    change = np.sqrt(
        np.square(interference.as_shown().images - references.images).sum(axis=(1, 2, 3))
    )
    controls = [
        control_images(references.select(ids=[stimulus_id]), "random_l2", levels=length)
        for stimulus_id, length in zip(IDS, change, strict=True)
    ]
    everything = concat_stimuli([references, interference, noise, *controls])
    write_stimuli(everything, tmp_path)
    pictures = np.stack(
        [read_png(tmp_path / "png" / f"{stimulus_id}.png") for stimulus_id in everything.ids]
    )
    wrong = interference.table["target_index"].to_numpy(dtype=int)
    own = predict(lite0, references.images).argmax(axis=1)
    measured = {}
    for network in (lite0, lite1):
        probabilities = predict(network, pictures)
        # other batches: float32 sums in another order
        np.testing.assert_allclose(probabilities, by_hand(network, pictures), rtol=2e-3, atol=2e-5)
        parts = dict(
            zip(
                ("photograph", "AI", "AN", "random change"), np.split(probabilities, 4), strict=True
            )
        )
        rows = {
            kind: {
                "p_wrong": part[range(4), wrong].mean(),
                "p_own": part[range(4), own].mean(),
                "same_class": (part.argmax(axis=1) == parts["photograph"].argmax(axis=1)).mean(),
            }
            for kind, part in parts.items()
        }
        measured[network.name] = pd.DataFrame(rows).T
    record_property(
        "transfer",
        json.dumps({name: table.to_dict() for name, table in measured.items()}, default=float),
    )
    print(pd.concat(measured).round(4).to_string())  # pytest -s, or -rP, shows it

    made_for = measured[lite0.name]
    assert made_for.loc["AI", "p_wrong"] >= 0.9 and made_for.loc["AI", "same_class"] == 0
    assert made_for.loc["AN", "p_own"] >= 0.9
    assert made_for.loc["random change", "p_wrong"] < 0.1  # of the same length, and no interference
    lengths = [control.table["l2"][0] for control in controls]
    np.testing.assert_allclose(lengths, change, rtol=0.05)  # clipping to [0, 1] takes a little
