"""P8: how much work is saved because finished images leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bars import Row, Setup
from benchmarks.networks import photographs, trained
from benchmarks.timing import clocked
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from stimuli_gen import StagedModel, StepOptions, StimulusSet, choose_targets, descend
from stimuli_gen.synthesis.loop import Descended, Start

_CONFIDENCE, _BATCH, _PULL = 0.99, 8, 1e-3


def count_work(setup: Setup) -> Sequence[Row]:
    """P8."""
    model = trained("efficientnet_lite0", setup)
    references = photographs(setup, model.preprocessing, setup.pick(24, 16))
    rows: list[Row] = []
    for kind in ("AI", "AN")[: setup.pick(2, 1)]:
        rows += _compare(kind, model, references, setup.pick(300, 80))
    return rows


def _compare(kind: str, model: StagedModel, references: StimulusSet, most: int) -> list[Row]:
    run = _runner(kind, model, references)
    with _places(model) as dropping:
        cpu, _, made = clocked(lambda: run(_CONFIDENCE, most))
    steps = [one.steps for one in made.values()]
    with _places(model) as together:
        cpu_all, _, _ = clocked(lambda: run(torch.inf, max(steps)))
    groups = [steps[at : at + _BATCH] for at in range(0, len(steps), _BATCH)]
    in_batches = sum(len(one) * max(one) for one in groups) + len(steps)
    note = (
        f"{len(steps)} photographs, {sum(one.reached for one in made.values())} reached p = "
        f"{_CONFIDENCE}; "
        f"steps {min(steps)} to {max(steps)}, median {np.median(steps):.0f}"
    )
    return [
        Row(
            what=f"{kind}: image-steps saved",
            value=100 * (1 - dropping["gradient"] / together["gradient"]),
            unit="%",
            sense=">=",
            bound=35.0,
            note=f"{dropping['gradient']} of {together['gradient']} places computed; {note}",
        ),
        Row(
            what=f"{kind}: image-steps that could be saved at most",
            value=100 * (1 - (sum(steps) + len(steps)) / together["gradient"]),
            unit="%",
        ),
        Row(
            what=f"{kind}: CPU seconds saved",
            value=100 * (1 - cpu / cpu_all),
            unit="%",
            note=f"{cpu:.1f} of {cpu_all:.1f} CPU s; {dropping['other']} places more to score "
            "8-bit versions",
        ),
        Row(
            what=f"{kind}: saved against stopping each batch of {_BATCH} with its slowest",
            value=100 * (1 - dropping["gradient"] / in_batches),
            unit="%",
        ),
    ]


def _runner(
    kind: str, model: StagedModel, references: StimulusSet
) -> Callable[..., dict[str, Descended]]:
    """Make AN or AI in the project's loop, with a threshold that can be out of reach."""
    targets = choose_targets("random" if kind == "AI" else "own", references, model, 0)
    place = {one: row for row, one in enumerate(references.ids)}

    def _objective(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        gain = model.logits(images).log_softmax(dim=1).gather(1, context["target"][:, None])[:, 0]
        return _PULL * (images - context["anchor"]).square().flatten(1).sum(
            dim=1
        ) - gain, gain.exp()

    def _prepare(one: str) -> Start:
        anchor = image = references.images[slice(place[one], place[one] + 1)][0]
        if kind == "AN":
            anchor = np.full_like(image, 0.45)
            noise = generator(0, "benchmark", one).standard_normal(image.shape)
            image = np.clip(anchor + 0.1 * noise, 0, 1).astype(np.float32)
        return Start(image=image, context={"target": np.array(targets[one]), "anchor": anchor})

    def _run(threshold: float, steps: int) -> dict[str, Descended]:
        size = 2.0 if kind == "AN" else 0.25
        return descend(
            _objective,
            references.ids,
            _prepare,
            threshold=threshold,
            steps=StepOptions(step_size=size, max_steps=steps),
            run=RunOptions(batch_size=_BATCH),
        )

    return _run


@contextmanager
def _places(model: StagedModel) -> Any:
    """Count the images that pass through the network, those with a gradient and others."""
    found = {"gradient": 0, "other": 0}

    def _note(_: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        found["gradient" if given[0].requires_grad else "other"] += len(given[0])

    handle = model.network.register_forward_pre_hook(_note)
    yield found
    handle.remove()
