"""P9 and P10: images for two networks against a loop by hand, eigendistortions against plenoptic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.networks import Normalized, frozen, peer, photographs, staged, tensor
from benchmarks.timing import Times, interleave, per_step
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    StagedModel,
    StimulusSet,
    controversial_images,
    eigendistortions,
    packaged_photographs,
    stage_model,
)
from stimuli_gen.eigendistortions import rayleigh_quotients
from stimuli_gen.jacobians import in_double

_NETWORKS = {"alexnet": "classifier.6", "resnet18": "layer4"}
_CLASSES = (1, 2)
_SHARPNESS, _STEP = 100.0, 1.0


def _ours(models: Sequence[StagedModel], references: StimulusSet) -> Callable[[int], Any]:
    def _run(steps: int) -> Tensor:
        made = controversial_images(
            models,
            references,
            target_a=_CLASSES[0],
            target_b=_CLASSES[1],
            confidence=0.9999,
            sharpness=_SHARPNESS,
            start="reference",
            step_size=_STEP,
            max_steps=steps,
            run=RunOptions(batch_size=len(references)),
        )
        return torch.from_numpy(np.asarray(made.images))

    return _run


def _by_hand(photos: Tensor) -> Callable[[int], Any]:
    """Write the loop as one would: forward and backward of both networks, one step."""
    networks = [Normalized(frozen(architecture)) for architecture in _NETWORKS]

    def _run(steps: int) -> Tensor:
        images = photos.clone()
        for _ in range(steps):
            images.requires_grad_(True)
            values = []
            for network, index in zip(networks, _CLASSES, strict=True):
                values.append(network(images).log_softmax(dim=1)[:, index])
            smallest = torch.logsumexp(-_SHARPNESS * torch.stack(values, dim=1), dim=1)
            (gradient,) = torch.autograd.grad(smallest.sum() / _SHARPNESS, images)
            with torch.no_grad():
                norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
                images = (images - _STEP * gradient / norm[:, None, None, None]).clamp(0, 1)
        return images

    return _run


def compare_controversial(setup: Setup) -> Sequence[Row]:
    """P9."""
    models = [staged(architecture, (stage,)) for architecture, stage in _NETWORKS.items()]
    references = photographs(setup, models[0].preprocessing, 4)
    photos = tensor(references)
    cases = {"ours": _ours(models, references), "by hand": _by_hand(photos)}
    changes = [(cases[name](1) - photos).flatten(1) for name in ("ours", "by hand")]
    cosine = float(cosine_similarity(*changes, dim=1).min())
    times = per_step(
        cases,
        short=setup.pick(2, 1),
        steps=setup.pick(8, 2),
        repeats=setup.pick(5, 1),
    )
    what = "alexnet and resnet18, 4 photographs of 224 px"
    equal = Row(
        what=f"{what}: cosine of the first step, ours and by hand, lowest",
        value=cosine,
        sense=">=",
        bound=0.999,
        note="rounding switches single rectifiers",
    )
    ratio = Row(
        what=f"{what}: a step, CPU time, of forward and backward of both by hand",
        value=times["ours"].cpu / times["by hand"].cpu,
        sense="<=",
        bound=1.05,
        note=f"{times['ours'].cpu:.3f} and {times['by hand'].cpu:.3f} s",
    )
    return [equal, ratio if cosine >= 0.999 else not_as_good(ratio)]


def not_as_good(row: Row) -> Row:
    """Leave out a time of results that differ."""
    return Row(what=row.what, value=None, note="the results differ, so times do not count")


# ---------------------------------------------------------------------------------- eigendistortions


def _rectified() -> StagedModel:
    """Build a small network with rectifiers and a batch norm."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(3, 12, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, 2),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * 36, 5),
        )
    size = {"size": (32, 32), "resize": 32, "interpolation": "bilinear"}
    preprocessing = Preprocessing(**size, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    return stage_model(
        nn.Sequential(*layers),
        stages={"here": "4"},
        preprocessing=preprocessing,
        weights="random",
        trained=False,
    )


def _plenoptic(double: StagedModel, images: np.ndarray) -> Callable[[], Any]:
    plenoptic = peer(lambda: __import__("plenoptic"), "plenoptic")

    def _run() -> list[np.ndarray]:
        found = []
        for image in images:
            point = torch.from_numpy(image[None]).double()
            plenoptic.set_seed(0)
            made = plenoptic.Eigendistortion(point, double.stage_module("here"))
            made.synthesize(method="power", max_iter=3000, stop_criterion=1e-10)
            found.append(made.eigendistortions.squeeze().numpy())
        return found

    return _run


def compare_eigendistortions(setup: Setup) -> Sequence[Row]:
    """P10."""
    model = _rectified()
    everyone = packaged_photographs(model.preprocessing)
    references = everyone.select(ids=everyone.ids[: setup.pick(3, 1)])
    # no gray level is near black or white, so that no change is clipped
    images = 0.2 + 0.6 * np.asarray(references.images)
    references = replace(references, images=images)
    double = in_double(model)
    cases: dict[str, Callable[[], Any]] = {}
    for method in ("jacobian", "krylov"):
        cases[f"ours, {method}"] = _distorted(model, references, method)
    missing: list[Row] = []
    try:
        cases["plenoptic"] = _plenoptic(double, images)
    except NotAvailable as error:
        missing.append(Row(what="plenoptic", value=None, note=str(error)))
    times = interleave(cases, setup.pick(3, 1))
    dimension = times["ours, jacobian"].result.table["null_dimension"]
    rows = [
        Row(
            what="dimension of the null space, of 3,072 changes",
            value=float(dimension.median()),
            note="median over photographs; at least 3072 - 432 units",
        )
    ]
    if "plenoptic" in cases:
        rows += _against("plenoptic", times, double, images)
    return [*rows, *missing]


def _distorted(
    model: StagedModel, references: StimulusSet, method: str
) -> Callable[[], StimulusSet]:
    return lambda: eigendistortions(model, references, stage="here", method=method, strength=0.003)


def _against(
    name: str, times: Mapping[str, Times], double: StagedModel, images: np.ndarray
) -> list[Row]:
    """Compare vectors first, then times."""
    rows = []
    peers = np.stack(times[name].result)  # (n, 2, 3, 32, 32)
    for method in ("jacobian", "krylov"):
        ours = f"ours, {method}"
        made = times[ours].result
        cosines, excess = [], []
        largest = made.table["eigenvalue"].to_numpy()[::2]
        for row, image in enumerate(images):
            changes = np.stack([made.images[2 * row], made.images[2 * row + 1]]) - image
            both = np.concatenate([changes[1:], peers[row, 1:].astype(np.float32)])
            pair = np.concatenate([image[None]] * 2)
            own, theirs = rayleigh_quotients(double, "here", pair, both.astype(np.float32))
            direction = peers[row, 0] / np.linalg.norm(peers[row, 0])
            change = changes[0] / np.linalg.norm(changes[0])
            cosines.append(abs(float(np.sum(direction * change))))
            excess.append((own - theirs) / largest[row])
        what = f"{ours}, and {name}"
        rows.append(
            Row(
                what=f"{what}: |cosine| of the largest, lowest",
                value=min(cosines),
                sense=">=",
                bound=0.999,
                note="changes of float32 images",
            )
        )
        rows.append(
            Row(
                what=f"{what}: how much more the smallest moves, of the largest eigenvalue",
                value=max(excess),
                sense="<=",
                bound=1e-6,
                note="Rayleigh quotients at float32",
            )
        )
        ratio = Row(
            what=f"{what}: CPU time",
            value=times[ours].cpu / times[name].cpu,
            note=f"{times[ours].cpu:.2f} and {times[name].cpu:.2f} s for {len(images)} photographs;"
            " ours with judging the files, both ends",
        )
        is_equal = min(cosines) >= 0.999 and max(excess) <= 1e-6
        rows.append(ratio if is_equal else not_as_good(ratio))
    return rows
