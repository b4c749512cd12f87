"""P7: a run that is killed and interrupted at random moments, and resumed each time, against one left alone.

The run is a process of its own (``python -m benchmarks.interruption FOLDER IMAGES STEPS``), which
notes every image that it passes through the network, so that work done twice can be counted.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.bars import Row, Setup
from benchmarks.networks import photographs, staged
from neurometamer.run_options import RunOptions
from stimuli_gen import model_metamers

_BATCH = 4
_LOST_S = 60.0


def interrupt(setup: Setup) -> Sequence[Row]:
    """P7."""
    size = ("12", "500") if not setup.quick else ("4", "60")
    whole = setup.scratch / "whole"
    whole_s = _run(whole, size)[0]
    moments = random.Random()  # other moments in each run of the benchmark
    plan = [(signal.SIGKILL, (5, 15)), (signal.SIGINT, (5, 15)), (signal.SIGKILL, (62, 70))]
    if setup.quick:
        plan = [(signal.SIGKILL, (0.5, 1.5)), (signal.SIGINT, (0.5, 1.5))]
    broken, rows = setup.scratch / "broken", []
    for number, span in plan:
        at = moments.uniform(*span)
        took, ended = _run(broken, size, number, at)
        if not ended:
            rows.append(_lost(broken, number, at))
        else:
            rows.append(
                Row(
                    what=f"{number.name} after {at:.1f} s",
                    value=None,
                    note=f"done before, in {took:.1f} s",
                )
            )
    _run(broken, size)
    same = np.array_equal(np.load(whole / "images.npy"), np.load(broken / "images.npy"))
    twice = (broken / "passes").stat().st_size / (whole / "passes").stat().st_size - 1
    state = (
        ""
        if find_spec("stimuli_gen.synthesis.checkpoint")
        else "; this version keeps finished images only"
    )
    return [
        Row(
            what="resumed and uninterrupted images equal",
            value=float(same),
            unit="1 = bit for bit",
            sense=">=",
            bound=1.0,
        ),
        *rows,
        Row(
            what="work done twice, all interruptions together",
            value=twice * whole_s,
            unit="s",
            note=f"{twice:.1%} of the run of {whole_s:.0f} s{state}",
        ),
    ]


def _run(
    folder: Path, size: tuple[str, str], number: signal.Signals | None = None, after: float = 0.0
) -> tuple[float, bool]:
    """Start the run, and stop it some seconds after its loop began; seconds, and whether it came to its end."""
    folder.mkdir(exist_ok=True)
    (folder / "started").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.interruption", str(folder), *size],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    while not (folder / "started").exists() and process.poll() is None:
        time.sleep(0.02)
    began = time.time()
    if number is None:
        if process.wait():
            raise RuntimeError(f"the run in {folder} ended with {process.returncode}")
        return time.time() - began, True
    try:
        process.wait(timeout=after)
        return time.time() - began, True
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.wait()
        return time.time() - began, False


def _lost(folder: Path, number: signal.Signals, at: float) -> Row:
    """Count the seconds of work before the signal that no file holds; all places finish and are saved together."""
    began = (folder / "started").stat().st_mtime
    saved = [one.stat().st_mtime for one in (folder / "resume").glob("*.h5")]
    lost = max(0.0, began + at - max([began, *saved]))
    return Row(
        what=f"{number.name} after {at:.1f} s: work lost",
        value=lost,
        unit="s",
        sense="<=",
        bound=_LOST_S,
        note=f"{len(saved)} files kept",
    )


def main(folder: Path, images: int, steps: int) -> None:
    """Make metamers with a resume folder; note each image that the network sees with a gradient."""
    model = staged("alexnet", ("features.7",))
    setup = Setup(quick=False, data=None, scratch=folder)
    references = photographs(setup, model.preprocessing, images)
    log = os.open(folder / "passes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _note(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].requires_grad:
            os.write(log, b"." * len(given[0]))

    model.network.register_forward_pre_hook(_note)
    (folder / "started").touch()
    made = model_metamers(
        model,
        references,
        stage="features.7",
        preset="fast",
        steps=steps,
        run=RunOptions(batch_size=_BATCH, resume=folder / "resume"),
    )
    np.save(folder / "images.npy", made.images)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
