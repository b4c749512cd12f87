"""P6: an image alone, among eight, and in another order, by every generator, exact and fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.networks import fast, has_modes
from neurometamer.run_options import RunOptions
from neurometamer.zoo import load_model
from stimuli_gen import (
    StagedModel,
    StimulusSet,
    adversarial_interference,
    adversarial_noise,
    at_size,
    attack_images,
    greedy_interference,
    model_metamers,
    packaged_photographs,
)

_BATCH = 8


def _generators(model: StagedModel, steps: int) -> dict[str, Callable[..., StimulusSet]]:
    return {
        "metamer": partial(model_metamers, model, stage="late", preset="fast", steps=steps),
        "metamer, L2 steps": partial(
            model_metamers, model, stage="middle", preset="feather2023", steps=steps
        ),
        "AN": partial(adversarial_noise, model, max_steps=steps),
        "AI": partial(adversarial_interference, model, max_steps=steps),
        "PGD Linf": partial(attack_images, model, attack="pgd_linf", steps=steps),
        "PGD L2": partial(attack_images, model, attack="pgd_l2", steps=steps),
        "AI, greedy": partial(greedy_interference, model, max_tries=4 * steps),
    }


def compare_companions(setup: Setup) -> Sequence[Row]:
    """P6."""
    weights = "random" if setup.quick else "default"
    name = "squeezenet1_0" if setup.quick else "efficientnet_lite0"
    model = at_size(load_model(name, weights=weights, device="cpu"), setup.pick(160, 64))
    everyone = packaged_photographs(model.preprocessing)
    references = everyone.select(ids=everyone.ids[:_BATCH])
    rows: list[Row] = []
    for kind, make in _generators(model, setup.pick(12, 3)).items():
        rows += _compare(f"{kind}, exact", make, references, bound=0.0)
    if not has_modes():
        return [*rows, Row(what="fast mode", value=None, note="fast mode is not in this version")]
    for kind, make in _generators(model, setup.pick(12, 3)).items():
        if "greedy" not in kind:
            rows += _compare(f"{kind}, fast", make, references, bound=None, **fast())
    return rows


def _compare(
    what: str,
    make: Callable[..., StimulusSet],
    references: StimulusSet,
    *,
    bound: float | None,
    mode: str = "exact",
) -> list[Row]:
    ids = list(references.ids)
    run = RunOptions(batch_size=_BATCH, mode=mode)
    together = _by_reference(make(references=references, run=run))
    alone = _by_reference(make(references=references.select(ids=ids[3:4]), run=run))
    order = np.random.default_rng(0).permutation(len(ids))
    other_order = references.select(ids=[ids[row] for row in order])
    shuffled = _by_reference(make(references=other_order, run=run))
    moved = max(
        float(np.abs(together[one] - references.images[row]).max()) for row, one in enumerate(ids)
    )
    return [
        Row(
            what=f"{what}: {name} - among eight",
            value=_apart(there, together),
            unit="max pixel difference",
            sense="<=" if bound is not None else "",
            bound=bound,
            note=f"photographs changed by up to {moved:.2f}",
        )
        for name, there in (("alone", alone), ("shuffled", shuffled))
    ]


def _by_reference(made: StimulusSet) -> dict[str, np.ndarray]:
    return dict(zip(made.table["reference_id"], made.images, strict=True))


def _apart(some: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(image - others[one]).max()) for one, image in some.items())
