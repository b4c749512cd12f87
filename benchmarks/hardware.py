"""What this machine can do at most, and how many operations a step needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.bars import Row, Setup
from benchmarks.timing import clocked

_SIDE = 2048


@lru_cache
def matmul_peak(dtype: torch.dtype) -> float:
    """Measure matrix products of 2048 x 2048: floating-point operations a CPU second, the best of several runs."""
    left, right = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    left @ right
    least = min(clocked(lambda: [left @ right for _ in range(4)])[0] for _ in range(5))
    return 4 * 2 * _SIDE**3 / least


def step_flops(loss: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Count the operations (a multiplication and an addition are two) of one loss and its gradient for the images."""
    from torch.utils.flop_counter import FlopCounterMode

    images = images.detach().requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(loss(images).sum(), images)
    return float(counter.get_total_flops())


def share_of_peak(flops: float, cpu_s: float, dtype: torch.dtype) -> float:
    """Compare a step with matrix products of the same number of operations; 1 is the machine's measured peak."""
    return flops / cpu_s / matmul_peak(dtype)


def measure_peak(_: Setup) -> Sequence[Row]:
    """Tell the peak itself."""
    return [
        Row(
            what=f"matrix products 2048, {name}",
            value=matmul_peak(dtype) / 1e9,
            unit="GFLOP a CPU second",
        )
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    ]
