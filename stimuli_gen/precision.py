"""How exactly a device computes: TF32, half precision that nobody asked for, float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

_EXACT = ("none", "ieee")
"""Settings of torch with which float32 numbers are multiplied as such."""


@contextmanager
def float32_products(*, tf32: bool = False) -> Iterator[None]:
    """Multiply float32 numbers as such inside the block, whatever torch is set to.

    As torch is set at its start, NVIDIA GPUs compute convolutions in TF32 (10 bits of each factor):
    class probabilities change by up to 1.3e-4, more than the slack that criteria leave. Torch's
    settings hold for the whole process; they are put back afterwards.

    Parameters
    ----------
    tf32 : bool
        Whether GPUs shall compute in TF32 instead. CPUs do not in any case.

    Yields
    ------
    None
        Passes and gradients inside the block are computed so.

    Examples
    --------
    >>> torch.backends.cudnn.allow_tf32
    True
    >>> with float32_products():
    ...     torch.backends.cudnn.allow_tf32
    False
    """
    owners = _owners()
    before = [owner.fp32_precision for owner in owners]
    try:
        old = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # set by the owners, where torch does not read its older settings
        old = None
    try:
        if old is not None:
            torch.backends.cudnn.allow_tf32 = tf32
            torch.set_float32_matmul_precision("highest")
            torch.backends.cuda.matmul.allow_tf32 = tf32
        for owner in owners:
            is_gpu = owner in owners[:3]
            if tf32 and is_gpu:
                owner.fp32_precision = "tf32"
            elif owner.fp32_precision not in _EXACT:
                owner.fp32_precision = "ieee"
        yield
    finally:
        if old is not None:
            torch.backends.cudnn.allow_tf32, precision = old
            torch.set_float32_matmul_precision(precision)
        for owner, value in zip(owners, before, strict=True):
            owner.fp32_precision = value


def _owners() -> list[Any]:
    """List what has a setting of its own (torch 2.9 and later): three of GPUs, then the CPU's."""
    gpu: Any = torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn
    if not hasattr(gpu, "conv"):
        return []
    return [gpu.conv, gpu.rnn, torch.backends.cuda.matmul, cpu.matmul, cpu.conv, cpu.rnn]


@contextmanager
def exact_passes(device: torch.device) -> Iterator[None]:
    """Compute in float32 inside the block, without gradients.

    Neither TF32 (`float32_products`) nor automatic mixed precision of a block around it holds.

    Parameters
    ----------
    device : torch.device
        Where it is computed.

    Yields
    ------
    None
        Passes inside the block are computed so.
    """
    mixed = _is_mixed(device)
    full = torch.autocast(device.type, enabled=False) if mixed else nullcontext()
    with float32_products(), full, torch.no_grad():
        yield


def _is_mixed(device: torch.device) -> bool:
    try:
        return bool(torch.is_autocast_enabled(device.type))
    except TypeError:  # before torch 2.4
        return bool(torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled())


def has_float64(device: torch.device) -> bool:
    """Say whether a device computes in float64.

    Parameters
    ----------
    device : torch.device
        Apple's MPS and some of Intel's GPUs do not.

    Returns
    -------
    bool
        Found by adding two numbers there.

    Examples
    --------
    >>> has_float64(torch.device("cpu"))
    True
    """
    try:
        torch.zeros(1, dtype=torch.float64, device=device).add_(1)
    except (RuntimeError, TypeError):
        return False
    return True
