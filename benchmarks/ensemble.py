"""Metamers of EfficientNet-Lite0 alone and of {Lite0, Lite1}, judged by Lite2, which neither knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.networks import photographs, trained
from benchmarks.timing import clocked
from stimuli_gen import StagedModel, StimulusSet, at_size, model_metamers, predict
from stimuli_gen.stimuli import from_8bit, to_8bit


def judge_by_a_third(setup: Setup) -> Sequence[Row]:
    """Tell what Lite2 sees."""
    networks = [at_size(trained(f"efficientnet_lite{number}", setup), 224) for number in range(3)]
    one, other, third = networks
    references = photographs(setup, one.preprocessing, setup.pick(16, 4))
    steps = setup.pick(150, 6)
    rows = _judge(
        "the photographs", third, references, references.images[slice(0, len(references))]
    )
    for name, models in {
        "metamers of Lite0": [one],
        "metamers of {Lite0, Lite1}": [one, other],
    }.items():
        cpu, _, made = clocked(
            lambda models=models: model_metamers(
                models, references, stage="late", preset="fast", solver="joint", steps=steps
            )
        )
        errors = [column for column in made.table if column.startswith("loss_png")]
        told = ", ".join(f"{made.table[column].mean():.3f}" for column in errors)
        own = (
            f"{made.table['success'].mean():.0%} keep the class of all networks they were made for"
        )
        rows += _judge(
            name,
            third,
            references,
            made.images,
            f"{steps} steps, {cpu:.0f} CPU s; errors {told}; {own}",
        )
    return rows


def _judge(
    what: str, third: StagedModel, references: StimulusSet, images: np.ndarray, note: str = ""
) -> list[Row]:
    before = predict(third, references.images)
    after = predict(third, from_8bit(to_8bit(np.asarray(images))))
    own = before.argmax(axis=1)
    if "imagenet_index" in references.table:
        label, name = references.table["imagenet_index"].to_numpy(dtype=int), "the label"
    else:
        label, name = own, "its class of the photograph (no labels here)"
    row = np.arange(len(own))
    top5 = (np.argsort(after, axis=1)[:, -5:] == label[:, None]).any(axis=1)
    same = after.argmax(axis=1) == own
    return [
        Row(
            what=f"{what}: same class as the photograph",
            value=100 * float(same.mean()),
            unit="%",
            note=note,
        ),
        Row(what=f"{what}: {name} among the first five", value=100 * float(top5.mean()), unit="%"),
        Row(what=f"{what}: mean probability of {name}", value=float(after[row, label].mean())),
    ]
