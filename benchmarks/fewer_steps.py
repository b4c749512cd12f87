"""Metamers at equal CPU budget: how far each way of descending gets.

Each way is first timed over a few steps, then given as many as the budget pays: the CPU seconds of
so many steps of the preset ``fast``. Ways that start from the blurred photograph or from a metamer
of an earlier stage are told as information only: what such a start keeps of the photograph is in
the image although the matched stage does not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.networks import DESCENT_ONLY, photographs, setting, tensor, trained
from benchmarks.timing import clocked
from neurometamer.run_options import RunOptions
from stimuli_gen import StagedModel, StimulusSet, at_size, control_images, model_metamers, spearman
from stimuli_gen.stimuli import from_8bit, to_8bit
from stimuli_gen.synthesis.loop import OPTIMIZERS

Way = Callable[["Job", int], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What to match.

    Attributes
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs.
    stage : str
        Where.
    """

    model: StagedModel
    references: StimulusSet
    stage: str

    def descend(
        self, steps: int, start: np.ndarray | None = None, stage: str | None = None, **recipe: Any
    ) -> np.ndarray:
        """Make metamers (n, 3, height, width) with the preset ``fast`` and changes of it."""
        starts = None if start is None else dict(zip(self.references.ids, start, strict=True))
        made = model_metamers(
            self.model,
            self.references,
            stage=stage or self.stage,
            preset="fast",
            steps=max(1, steps),
            start_images=starts,
            run=RunOptions(batch_size=len(self.references)),
            **DESCENT_ONLY,
            **recipe,
        )
        return np.asarray(made.images)


def _coarse_first(job: Job, steps: int) -> np.ndarray:
    """Spend half at half the resolution, where a step costs a quarter, and go on from that, enlarged."""
    full = job.model.preprocessing.size[0]
    small = at_size(job.model, full // 2)
    images = interpolate(tensor(job.references), size=(full // 2, full // 2), mode="area").numpy()
    photos = StimulusSet(images=images, table=job.references.table)
    made = Job(model=small, references=photos, stage=job.stage).descend(2 * steps)
    start = interpolate(
        torch.from_numpy(made), size=(full, full), mode="bilinear", align_corners=False
    )
    return job.descend(steps // 2, start.clamp(0, 1).numpy(), step_size=0.01)


def _from_stage(stage: str) -> Way:
    return lambda job, steps: job.descend(
        steps // 2, job.descend(steps // 2, stage=stage), step_size=0.01
    )


def _blurred(job: Job, steps: int) -> np.ndarray:
    return job.descend(
        steps, np.asarray(control_images(job.references, "blur", levels=[8.0]).images)
    )


def _with(**recipe: Any) -> Way:
    """Change the preset; fields and choices that this version lacks are not available."""

    def _way(job: Job, steps: int) -> np.ndarray:
        for name, value in recipe.items():
            setting(name, value, OPTIMIZERS if name == "optimizer" else None)
        return job.descend(steps, **recipe)

    return _way


WAYS: Mapping[str, Way] = {
    "preset fast (Adam .02)": _with(),
    "Adam .05": _with(step_size=0.05),
    "momentum, L2 steps 1": _with(
        step_rule="l2", optimizer="momentum", step_size=1.0, last_step_size=0.1
    ),
    "L-BFGS, steps up to 10": _with(
        step_rule="raw", optimizer="lbfgs", step_size=10.0, schedule="constant"
    ),
    "Fourier, Adam .02": _with(parametrization="fourier", step_size=0.02),
    "Fourier, Adam .1": _with(parametrization="fourier", step_size=0.1, last_step_size=0.01),
    "coarse first": _coarse_first,
    "from a metamer of the early stage (information)": _from_stage("early"),
    "from the blurred photograph (information)": _blurred,
}


def compare_recipes(setup: Setup) -> Sequence[Row]:
    """Tell what each way reaches."""
    rows: list[Row] = []
    places = [
        ("efficientnet_lite0", "late"),
        ("squeezenet1_0", "late"),
        ("squeezenet1_0", "middle"),
    ]
    for name, stage in places[: setup.pick(3, 1)]:
        try:
            model = trained(name, setup)
        except NotAvailable as error:
            rows.append(Row(what=f"{name}, {stage}", value=None, note=str(error)))
            continue
        references = photographs(setup, model.preprocessing, setup.pick(8, 4))
        rows += _compare(Job(model=model, references=references, stage=stage), setup.pick(40, 8))
    return rows


def _compare(job: Job, baseline_steps: int) -> list[Row]:
    what = f"{job.model.name}, {job.stage}"
    budget, rows = 0.0, []
    for name, way in WAYS.items():
        try:
            cost = _cost(way, job)
            budget = budget or cost * baseline_steps
            steps = max(2, round(budget / cost))
            cpu, _, images = clocked(lambda: way(job, steps))  # noqa: B023 - called at once
        except NotAvailable as error:
            rows.append(Row(what=f"{what}: {name}", value=None, note=str(error)))
            continue
        found = quality(job, images)
        note = (
            f"{steps} steps, {cpu:.1f} CPU s; valid {found['valid']:.0%}, same class "
            f"{found['same class']:.0%}, "
            f"Spearman {found['spearman']:.3f}"
        )
        rows.append(
            Row(
                what=f"{what}: {name}",
                value=found["error"],
                unit="relative error of the PNG",
                note=note,
            )
        )
    return rows


def _cost(way: Way, job: Job) -> float:
    """Measure CPU seconds of a step; two-part ways need an even number."""
    return (clocked(lambda: way(job, 6))[0] - clocked(lambda: way(job, 2))[0]) / 4


def quality(job: Job, images: np.ndarray) -> dict[str, float]:
    """Judge the 8-bit versions.

    Valid is the same class, and a Spearman correlation above that of all pairs of different
    photographs here.
    """
    photos, pictures = tensor(job.references), torch.from_numpy(from_8bit(to_8bit(images)))
    wanted, classes = _responses(job, photos)
    found, told = _responses(job, pictures)
    n = len(wanted)
    left, right = np.triu_indices(n, 1)
    null = spearman(wanted[left], wanted[right]).max()
    alike, same = spearman(wanted, found), classes == told
    error = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    return {
        "error": float(error.mean()),
        "spearman": float(alike.mean()),
        "same class": float(same.mean()),
        "valid": float((same & (alike > null)).mean()),
    }


def _responses(job: Job, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    from stimuli_gen.depth import resolve_stage

    path = resolve_stage(job.model, job.stage)[1]
    kept: list[torch.Tensor] = []
    handle = job.model.network.get_submodule(path).register_forward_hook(
        lambda _, __, output: kept.append(output.clone().flatten(1))
    )
    with torch.no_grad():
        classes = job.model.logits(images).argmax(dim=1).numpy()
    handle.remove()
    return kept[0].numpy().astype(np.float64), classes
