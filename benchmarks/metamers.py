"""P1: a step of a metamer against plenoptic; P3: against the double forward pass of Feather et al. (2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.bars import NotAvailable, Row, Setup
from benchmarks.hardware import matmul_peak, share_of_peak, step_flops
from benchmarks.networks import (
    DESCENT_ONLY,
    Normalized,
    fast,
    fast_told,
    frozen,
    peer,
    photographs,
    precision,
    staged,
    tensor,
)
from benchmarks.timing import Times, clocked, per_step
from neurometamer.run_options import RunOptions
from stimuli_gen import StagedModel, StimulusSet, model_metamers

_RATE = 0.01  # 50 steps of Adam move a pixel by at most .5, so that images hardly leave [0, 1], where methods differ
_SAME = 1.05
_STAGES = {
    "relu1": "features.1",
    "pool2": "features.5",
    "relu3": "features.7",
    "pool5": "features.12",
}


def relative_error(network: nn.Module, path: str, images: Tensor, references: Tensor) -> float:
    """Measure mean ‖a' - a‖ / ‖a‖ in float32 by a hook of its own on a plain copy of the network."""
    kept: list[Tensor] = []
    handle = network.get_submodule(f"network.{path}").register_forward_hook(
        lambda _, __, output: kept.append(output.clone().flatten(1))
    )
    with torch.no_grad():
        network(images)
        network(references)
    handle.remove()
    found, wanted = kept
    return float(((found - wanted).norm(dim=1) / wanted.norm(dim=1)).mean())


def early_exit(network: nn.Module, path: str) -> nn.Module:
    """Cut a network off after a module (torch.fx)."""
    from torchvision.models.feature_extraction import create_feature_extractor

    class _Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = create_feature_extractor(network, [path])

        def forward(self, images: Tensor) -> Tensor:
            return self.part(images)[path].flatten(1)

    return Normalized(_Last().eval())


# -------------------------------------------------------------------------------------- P1: methods


AS_PEERS: dict[str, Any] = {
    "optimizer": "adam",
    "step_rule": "raw",
    "step_size": _RATE,
    "schedule": "constant",
    "parametrization": "pixels",
}
"""The steps that every method takes, whatever the preset says today."""

RECIPE = (
    "optimizer",
    "step_rule",
    "step_size",
    "schedule",
    "last_step_size",
    "parametrization",
    "jitter",
    "steps",
)
"""Settings of a descent that change what is measured."""


def _make(
    model: StagedModel,
    references: StimulusSet,
    path: str,
    first: Tensor,
    steps: int,
    *,
    mode: str = "exact",
    **settings: Any,
) -> StimulusSet:
    starts = {name: first[row].numpy() for row, name in enumerate(references.ids)}
    return model_metamers(
        model,
        references,
        stage=path,
        preset="fast",
        steps=steps,
        start_images=starts,
        run=RunOptions(batch_size=len(references), mode=mode),
        **DESCENT_ONLY,
        **settings,
    )


def _ours(
    model: StagedModel, references: StimulusSet, path: str, first: Tensor, **settings: Any
) -> Callable[[int], Any]:
    def _run(steps: int) -> Tensor:
        return torch.from_numpy(
            np.asarray(_make(model, references, path, first, steps, **settings).images)
        )

    return _run


def recipe_row(what: str, made: StimulusSet) -> Row:
    """Write down the numbers of the recipe that was measured, as the images themselves record them.

    Parameters
    ----------
    what : str
        Name of the case.
    made : StimulusSet
        Images that the case made.

    Returns
    -------
    Row
        Without a value.
    """
    settings = made.provenance["settings"]
    steps = ", ".join(f"{name} {settings[name]}" for name in RECIPE if name in settings)
    through = settings["straight_through_relu"]
    note = f"{steps}; penalties {settings['penalties'] or 'none'}; straight-through ReLU {through}"
    return Row(what=f"{what}: recipe", value=float(len(made)), unit="images at once", note=note)


def _by_hand(path: str, photos: Tensor, first: Tensor) -> Callable[[int], Any]:
    """Write the loop as one would: frozen weights, early exit, torch's Adam, clamp."""
    part = early_exit(frozen("alexnet"), path)
    with torch.no_grad():
        wanted = part(photos)
        size = wanted.norm(dim=1)

    def _run(steps: int) -> Tensor:
        images = first.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([images], lr=_RATE)
        for _ in range(steps):
            loss = ((part(images) - wanted).norm(dim=1) / size).sum()
            (images.grad,) = torch.autograd.grad(loss, images)
            optimizer.step()
            with torch.no_grad():
                images.clamp_(0, 1)
        return images.detach()

    return _run


def _plenoptic(
    path: str, photos: Tensor, first: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[int], Any]:
    """Use plenoptic's Metamer with our loss, and its own range penalty in place of a clamp."""
    import plenoptic

    features = plenoptic.models.DeepNetFeatures(
        frozen("alexnet").to(dtype), path, Normalized(nn.Identity()).to(dtype)
    )
    plenoptic.remove_grad(features)
    photos, first = photos.to(dtype), first.to(dtype)
    with torch.no_grad():
        size = features(photos).norm(dim=1)

    def _loss(found: Tensor, wanted: Tensor) -> Tensor:
        return ((found - wanted).norm(dim=1) / size).sum()

    def _run(steps: int) -> Tensor:
        metamer = plenoptic.Metamer(photos, features, loss_function=_loss)
        metamer.setup(
            initial_image=first, optimizer=torch.optim.Adam, optimizer_kwargs={"lr": _RATE}
        )
        metamer.synthesize(max_iter=steps, stop_iters_to_check=10**6)
        return metamer.metamer.detach().clamp(0, 1).float()

    return _run


def compare_with_plenoptic(setup: Setup) -> Sequence[Row]:
    """P1."""
    stages = {"relu1": _STAGES["relu1"], "relu3": _STAGES["relu3"]} if setup.quick else _STAGES
    model = staged("alexnet", tuple(stages.values()))
    references = photographs(setup, model.preprocessing, 8)
    photos = tensor(references)
    first = (
        0.5 + 0.05 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    plain = Normalized(frozen("alexnet"))
    rows: list[Row] = []
    for name, path in stages.items():
        cases, missing = _cases(model, references, path, first)
        times = per_step(
            cases, short=setup.pick(10, 3), steps=setup.pick(40, 5), repeats=setup.pick(3, 1)
        )
        errors = {
            case: relative_error(plain, path, one.result, photos) for case, one in times.items()
        }
        flops = step_flops(
            lambda images, path=path: (
                model.activations(images, [path])[path].flatten(1).norm(dim=1)
            ),
            photos,
        )
        rows += _rows(name, model, times, errors, flops)
        rows += [Row(what=f"{name}: {case}", value=None, note=why) for case, why in missing.items()]
    first_path = next(iter(stages.values()))
    measured = {"exact and fast": AS_PEERS, "preset as shipped": {}}
    for case, settings in measured.items():
        steps = setup.pick(50, 8)
        rows.append(
            recipe_row(case, _make(model, references, first_path, first, steps, **settings))
        )
    return rows + _in_float64(setup, photos, first)


def _cases(
    model: StagedModel, references: StimulusSet, path: str, first: Tensor
) -> tuple[dict[str, Callable[[int], Any]], dict[str, str]]:
    photos = tensor(references)
    cases = {
        "exact": _ours(model, references, path, first, **AS_PEERS),
        "by hand": _by_hand(path, photos, first),
        "exact, preset as shipped": _ours(model, references, path, first),
    }
    missing = {}
    try:
        cases["fast"] = _ours(model, references, path, first, **AS_PEERS, **fast())
        cases["fast, preset as shipped"] = _ours(model, references, path, first, **fast())
    except NotAvailable as error:
        missing["fast"] = str(error)
    try:
        peer(lambda: __import__("plenoptic"), "plenoptic")
        cases["plenoptic"] = _plenoptic(path, photos, first)
    except NotAvailable as error:
        missing["plenoptic"] = str(error)
    return cases, missing


def _rows(
    name: str, model: StagedModel, times: dict[str, Times], errors: dict[str, float], flops: float
) -> list[Row]:
    rows = []
    for case, one in times.items():
        kind = precision(case, model)
        told = f"whole call {one.whole_cpu:.2f} CPU s; wall {1000 * one.wall:.0f} ms a step"
        note = f"relative error {errors[case]:.4f}; {told}" + (
            f"; {fast_told(model)}" if case == "fast" else ""
        )
        rows.append(
            Row(what=f"{name}: {case}", value=1000 * one.cpu, unit="CPU ms a step", note=note)
        )
        share = share_of_peak(flops, one.cpu, kind)
        rows.append(
            Row(
                what=f"{name}: {case}, share of peak",
                value=share,
                note=f"{flops / 1e9:.1f} GFLOP a step, {kind}",
            )
        )
    for case, bound in (("exact", 0.85), ("fast", 0.35)):
        shipped = f"{case}, preset as shipped"
        if shipped in times and "plenoptic" in times:
            note = (
                f"relative error {errors[shipped]:.4f} against {errors['plenoptic']:.4f}, another "
                "descent"
            )
            ratio = times[shipped].cpu / times["plenoptic"].cpu
            rows.append(
                Row(what=f"{name}: {shipped} / plenoptic", value=ratio, unit="CPU ratio", note=note)
            )
        if case in times and "plenoptic" in times:
            kind = precision(case, model)
            least = flops / matmul_peak(kind) / times["plenoptic"].cpu
            note = (
                f"all operations at the speed of {kind} matrix products; no code can go far below"
            )
            rows.append(
                Row(
                    what=f"{name}: this machine's limit for {case} / plenoptic",
                    value=least,
                    note=note,
                )
            )
            rows.append(
                _against(f"{name}: {case} / plenoptic", case, "plenoptic", times, errors, bound)
            )
        if case in times:
            rows.append(_against(f"{name}: {case} / by hand", case, "by hand", times, errors, None))
    return rows


def _against(
    what: str,
    case: str,
    other: str,
    times: dict[str, Times],
    errors: dict[str, float],
    bound: float | None,
) -> Row:
    """Compare times, which count only when the images came out equally good."""
    worse = errors[case] / errors[other]
    note = f"relative error {errors[case]:.4f} against {errors[other]:.4f}"
    if worse > _SAME:
        return Row(what=what, value=None, note=f"does not count, worse by {worse - 1:.0%}: {note}")
    ratio = times[case].cpu / times[other].cpu
    return Row(
        what=what,
        value=ratio,
        unit="CPU ratio",
        sense="<=" if bound else "",
        bound=bound,
        note=note,
    )


def _in_float64(setup: Setup, photos: Tensor, first: Tensor) -> list[Row]:
    """Run plenoptic once as its documentation recommends."""
    what = "relu3: plenoptic in float64 (its own advice)"
    try:
        peer(lambda: __import__("plenoptic"), "plenoptic")
    except NotAvailable as error:
        return [Row(what=what, value=None, note=str(error))]
    run = _plenoptic(_STAGES["relu3"], photos, first, torch.float64)
    short, steps = 2, setup.pick(20, 4)
    cpu = clocked(lambda: run(short + steps))[0] - clocked(lambda: run(short))[0]
    return [Row(what=what, value=1000 * cpu / steps, unit="CPU ms a step", note="once")]


# --------------------------------------------------------------------------- P3: the double forward


def _reference_style(path: str, photos: Tensor, first: Tensor) -> Callable[[int], Any]:
    """Step as the published code does: the whole network twice, the first output unused, no early exit."""
    network = Normalized(frozen("resnet50"))
    kept: dict[str, Tensor] = {}
    network.get_submodule(f"network.{path}").register_forward_hook(
        lambda _, __, output: kept.__setitem__("here", output.flatten(1))
    )
    with torch.no_grad():
        network(photos)
        wanted = kept["here"].clone()

    def _run(steps: int) -> Tensor:
        images = first.clone()
        for _ in range(steps):
            images = images.detach().requires_grad_(True)
            network(images)
            network(images)
            loss = ((kept["here"] - wanted).norm(dim=1) / wanted.norm(dim=1)).sum()
            (gradient,) = torch.autograd.grad(loss, images)
            length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            with torch.no_grad():
                images = (images - gradient / (length + 1e-10)).clamp(0, 1)
        return images.detach()

    return _run


def compare_with_double_forward(setup: Setup) -> Sequence[Row]:
    """P3."""
    path = "layer1"
    model = staged("resnet50", (path,))
    references = photographs(setup, model.preprocessing, 4)
    photos = tensor(references)
    first = (
        0.5 + 0.05 * torch.randn(photos.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(0, 1)
    starts = {one: first[row].numpy() for row, one in enumerate(references.ids)}

    def _run(steps: int, mode: str = "exact") -> Tensor:
        made = model_metamers(
            model,
            references,
            stage=path,
            preset="feather2023",
            steps=steps,
            schedule="constant",
            start_images=starts,
            run=RunOptions(batch_size=len(references), mode=mode),
            **DESCENT_ONLY,
        )
        return torch.from_numpy(made.images)

    cases: dict[str, Callable[[int], Any]] = {
        "reference style": _reference_style(path, photos, first),
        "exact": _run,
    }
    rows = []
    try:
        chosen = fast()
        cases["fast"] = lambda steps: _run(steps, **chosen)
    except NotAvailable as error:
        rows.append(Row(what="fast", value=None, note=str(error)))
    times = per_step(
        cases, short=setup.pick(5, 1), steps=setup.pick(10, 3), repeats=setup.pick(3, 1)
    )
    plain = Normalized(frozen("resnet50"))
    errors = {case: relative_error(plain, path, one.result, photos) for case, one in times.items()}
    for case, one in times.items():
        rows.append(
            Row(
                what=case,
                value=1000 * one.cpu,
                unit="CPU ms a step",
                note=f"relative error {errors[case]:.4f}",
            )
        )
    for case in ("exact", "fast"):
        if case in times:
            if errors[case] > _SAME * errors["reference style"]:
                rows.append(
                    Row(
                        what=f"reference style / {case}",
                        value=None,
                        note="does not count: worse images",
                    )
                )
                continue
            ratio = times["reference style"].cpu / times[case].cpu
            rows.append(
                Row(
                    what=f"reference style / {case}",
                    value=ratio,
                    unit="times faster",
                    sense=">=",
                    bound=3.0,
                )
            )
    return rows
