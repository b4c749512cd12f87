"""P2: projected gradient descent through the whole network, against foolbox, torchattacks and a loop by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.hardware import share_of_peak, step_flops
from benchmarks.networks import (
    Normalized,
    fast,
    fast_told,
    frozen,
    loaded,
    peer,
    photographs,
    precision,
    staged,
    tensor,
)
from benchmarks.timing import Times, per_step
from neurometamer.run_options import RunOptions
from stimuli_gen import AwayFrom, StagedModel, StimulusSet, attack_images

_RADIUS, _STEP = 8 / 255, 2 / 255
_RADIUS_L2, _STEP_L2 = 3.0, 0.5
_NETWORKS = {"alexnet": "classifier.6", "resnet50": "layer4"}


def _ours(
    model: StagedModel, references: StimulusSet, labels: Tensor, attack: str, mode: str = "exact"
) -> Callable[[int], Any]:
    size = (
        {"radius": _RADIUS, "step_size": _STEP}
        if attack == "pgd_linf"
        else {"radius": _RADIUS_L2, "step_size": _STEP_L2}
    )
    named = dict(zip(references.ids, labels.tolist(), strict=True))

    def _run(steps: int) -> Tensor:
        made = attack_images(
            model,
            references,
            attack,
            **size,
            target=AwayFrom(named),
            steps=steps,
            random_start=False,
            run=RunOptions(batch_size=len(references), mode=mode),
        )
        return torch.from_numpy(made.images)

    return _run


def _by_hand(architecture: str, photos: Tensor, labels: Tensor) -> Callable[[int], Any]:
    """Write the loop as one would with frozen weights."""
    network = Normalized(frozen(architecture))

    def _run(steps: int) -> Tensor:
        images = photos.clone()
        for _ in range(steps):
            images.requires_grad_(True)
            (gradient,) = torch.autograd.grad(
                cross_entropy(network(images), labels, reduction="sum"), images
            )
            with torch.no_grad():
                images = images + _STEP * gradient.sign()
                images = (photos + (images - photos).clamp(-_RADIUS, _RADIUS)).clamp(0, 1)
        return images

    return _run


def _torchattacks(
    network: nn.Module, photos: Tensor, labels: Tensor, attack: str
) -> Callable[[int], Any]:
    import torchattacks

    def _run(steps: int) -> Tensor:
        if attack == "pgd_linf":
            made = torchattacks.PGD(
                network, eps=_RADIUS, alpha=_STEP, steps=steps, random_start=False
            )
        else:
            made = torchattacks.PGDL2(
                network, eps=_RADIUS_L2, alpha=_STEP_L2, steps=steps, random_start=False
            )
        return made(photos, labels)

    return _run


def _foolbox(
    network: nn.Module, photos: Tensor, labels: Tensor, attack: str
) -> Callable[[int], Any]:
    import foolbox

    bounded = foolbox.PyTorchModel(network, bounds=(0, 1))

    def _run(steps: int) -> Tensor:
        if attack == "pgd_linf":
            made, radius = (
                foolbox.attacks.LinfPGD(abs_stepsize=_STEP, steps=steps, random_start=False),
                _RADIUS,
            )
        else:
            made, radius = (
                foolbox.attacks.L2PGD(abs_stepsize=_STEP_L2, steps=steps, random_start=False),
                _RADIUS_L2,
            )
        return made(bounded, photos, labels, epsilons=radius)[1]

    return _run


WEIGHTS = {"as loaded": loaded, "frozen weights": frozen}
"""A network as a user has it, and with one line more: gradients of its weights are not computed then."""

_PEERS: dict[str, Callable[..., Callable[[int], Any]]] = {
    "torchattacks": _torchattacks,
    "foolbox": _foolbox,
}


def compare_attacks(setup: Setup) -> Sequence[Row]:
    """P2."""
    rows: list[Row] = []
    for architecture, stage in list(_NETWORKS.items())[: setup.pick(2, 1)]:
        model = staged(architecture, (stage,))
        references = photographs(setup, model.preprocessing, 8 if architecture == "alexnet" else 4)
        photos = tensor(references)
        plain = Normalized(frozen(architecture))
        with torch.no_grad():
            labels = plain(photos).argmax(dim=1)
        rows += _same_images(architecture, model, references, labels)
        cases: dict[str, Callable[[int], Any]] = {
            "exact": _ours(model, references, labels, "pgd_linf"),
            "by hand": _by_hand(architecture, photos, labels),
        }
        rows += _add_others(cases, architecture, model, references, labels)
        sizes = (5, 20) if architecture == "alexnet" else (3, 7)
        times = per_step(
            cases,
            short=setup.pick(sizes[0], 2),
            steps=setup.pick(sizes[1], 4),
            repeats=setup.pick(3, 1),
        )
        flops = step_flops(lambda images, model=model: model.logits(images).sum(dim=1), photos)
        with torch.no_grad():
            losses = {
                case: float(cross_entropy(plain(one.result), labels)) for case, one in times.items()
            }
        rows += _rows(architecture, model, times, flops, losses)
    return rows


def _add_others(
    cases: dict[str, Callable[[int], Any]],
    architecture: str,
    model: StagedModel,
    references: StimulusSet,
    labels: Tensor,
) -> list[Row]:
    missing = []
    try:
        cases["fast"] = _ours(model, references, labels, "pgd_linf", **fast())
    except NotAvailable as error:
        missing.append(Row(what=f"{architecture}: fast", value=None, note=str(error)))
    for name, make in _PEERS.items():
        try:
            peer(lambda name=name: __import__(name), name)
            for how, build in WEIGHTS.items():
                network = Normalized(build(architecture)).eval()
                cases[f"{name}, {how}"] = make(network, tensor(references), labels, "pgd_linf")
        except NotAvailable as error:
            missing.append(Row(what=f"{architecture}: {name}", value=None, note=str(error)))
    return missing


def _same_images(
    architecture: str, model: StagedModel, references: StimulusSet, labels: Tensor
) -> list[Row]:
    """Compare images with those of the peers.

    The first L2 step must go the same way. Later, rounding alone switches single rectifiers, and a
    sign step turns each difference near zero into a whole step, so that more steps are told but not
    bounded; of the timed runs the loss reached must be equal.
    """
    rows, photos = [], tensor(references)
    ours = {steps: _ours(model, references, labels, "pgd_l2")(steps) for steps in (1, 5)}
    for name, make in _PEERS.items():
        what = f"{architecture}: first L2 step, ours and {name}"
        try:
            peer(lambda name=name: __import__(name), name)
        except NotAvailable as error:
            rows.append(Row(what=what, value=None, note=str(error)))
            continue
        network = Normalized(frozen(architecture)).eval()
        theirs = {steps: make(network, photos, labels, "pgd_l2")(steps) for steps in ours}
        apart = {steps: float((ours[steps] - theirs[steps]).abs().max()) for steps in ours}
        alike = cosine_similarity(
            (ours[1] - photos).flatten(1), (theirs[1] - photos).flatten(1)
        ).min()
        note = f"max pixel difference {apart[1]:.1e}, after 5 steps {apart[5]:.1e}"
        rows.append(
            Row(
                what=what,
                value=float(alike),
                unit="cosine, least",
                sense=">=",
                bound=0.999,
                note=note,
            )
        )
    return rows


def _rows(
    architecture: str,
    model: StagedModel,
    times: dict[str, Times],
    flops: float,
    losses: dict[str, float],
) -> list[Row]:
    rows = []
    for case, one in times.items():
        kind = precision(case, model)
        equal = float(((one.result - times["by hand"].result).abs() < 1e-6).float().mean())
        share = share_of_peak(flops, one.cpu, kind)
        how = f"; {fast_told(model)}" if case == "fast" else ""
        note = (
            f"cross-entropy {losses[case]:.4f}; {equal:.2%} of pixels as by hand; {share:.0%} of "
            f"the {kind} peak{how}"
        )
        rows.append(
            Row(
                what=f"{architecture}: {case}",
                value=1000 * one.cpu,
                unit="CPU ms a step",
                note=note,
            )
        )
    for case, bound in (("exact", 1.05), ("fast", 0.35)):
        for other in times:
            if case not in times or other in ("exact", "fast"):
                continue
            what = f"{architecture}: {case} / {other}"
            if losses[case] < losses[other] * 0.95:
                note = (
                    f"does not count: cross-entropy {losses[case]:.4f} against {losses[other]:.4f}"
                )
                rows.append(Row(what=what, value=None, note=note))
                continue
            wanted = bound if other == "by hand" else None
            ratio = times[case].cpu / times[other].cpu
            rows.append(
                Row(
                    what=what,
                    value=ratio,
                    unit="CPU ratio",
                    sense="<=" if wanted else "",
                    bound=wanted,
                )
            )
    return rows
