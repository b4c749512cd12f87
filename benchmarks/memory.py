"""P4: the memory that an ensemble of four needs beyond its weights, against that of one network.

Each case runs in a fresh process (``python -m benchmarks.memory CASE``): all four networks are
loaded, the peak is set back, and two steps are made.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.bars import Row, Setup
from benchmarks.networks import DESCENT_ONLY, Normalized, photographs, staged, tensor
from neurometamer.run_options import RunOptions
from stimuli_gen import StagedModel, StimulusSet, model_metamers

_STAGE, _NETWORKS, _IMAGES, _STEPS = "layer3", 4, 4, 2


def compare_ensemble(setup: Setup) -> Sequence[Row]:
    """P4."""
    peaks = {case: _measure(case) for case in _CASES}
    one = peaks["one"]
    rows = [
        Row(
            what=f"{title} ({_STAGE}, batch {_IMAGES})",
            value=peaks[case],
            unit="MiB above the loaded networks",
        )
        for case, (title, _) in _CASES.items()
    ]
    for case in ("joint", "round_robin"):
        ratio = peaks[case] / one
        rows.append(
            Row(
                what=f"{_CASES[case][0]} / one network",
                value=ratio,
                sense="<=",
                bound=1.15,
                unit="ratio",
            )
        )
    return [
        *rows,
        Row(what="by hand, one graph / one network", value=peaks["graph"] / one, unit="ratio"),
    ]


def _measure(case: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", case],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return float(json.loads(done.stdout.splitlines()[-1])["mib"])


# ----------------------------------------------------------------------------- in the fresh process


def _made(models: Sequence[StagedModel], references: StimulusSet, solver: str) -> None:
    model_metamers(
        list(models),
        references,
        stage=_STAGE,
        preset="fast",
        steps=_STEPS * (len(models) if solver != "joint" else 1),
        budget="total",
        solver=solver,
        turn=1,
        run=RunOptions(batch_size=_IMAGES),
        **DESCENT_ONLY,
    )


def _graph(models: Sequence[StagedModel], references: StimulusSet) -> None:
    """Sum the losses of all networks and differentiate once, as one would write it."""
    parts = [Normalized(one.network) for one in models]
    kept: list[torch.Tensor] = []
    for part in parts:
        part.network.get_submodule(_STAGE).register_forward_hook(
            lambda _, __, output: kept.append(output)
        )
    photos = tensor(references)
    with torch.no_grad():
        for part in parts:
            part(photos)
    wanted = list(kept)
    images = torch.full_like(photos, 0.5)
    for _ in range(_STEPS):
        kept.clear()
        images.requires_grad_(True)
        for part in parts:
            part(images)
        loss = sum(
            (here - there).flatten(1).norm(dim=1).sum()
            for here, there in zip(kept, wanted, strict=True)
        )
        (gradient,) = torch.autograd.grad(loss, images)
        images = (images.detach() - 0.01 * gradient.sign()).clamp(0, 1)


_CASES: dict[str, tuple[str, Callable[[Sequence[StagedModel], StimulusSet], None]]] = {
    "one": ("one network", lambda models, photos: _made(models[:1], photos, "joint")),
    "joint": ("four networks, joint", lambda models, photos: _made(models, photos, "joint")),
    "round_robin": (
        "four networks in turn",
        lambda models, photos: _made(models, photos, "round_robin"),
    ),
    "graph": ("four networks by hand in one graph", _graph),
}


def _status(name: str) -> float:
    """Read resident memory (``VmRSS``) or its peak (``VmHWM``) of this process, MiB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024
    except (OSError, StopIteration):
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _settle() -> None:
    """Give free memory back and set the peak to what is in use; without /proc the peak of loading stays in it."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pass


def main(case: str) -> None:
    """Measure one case and print it as JSON."""
    models = [staged("resnet50", (_STAGE,), seed) for seed in range(_NETWORKS)]
    for one in models:
        _ = one.digest  # copies the weights for a moment; belongs to loading
    setup = Setup(quick=False, data=None, scratch=Path())
    references = photographs(setup, models[0].preprocessing, _IMAGES)
    _settle()
    before = _status("VmRSS")
    _CASES[case][1](models, references)
    print(json.dumps({"mib": _status("VmHWM") - before}))


if __name__ == "__main__":
    main(sys.argv[1])
