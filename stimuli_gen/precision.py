"""How exactly a device computes: TF32, half precision that nobody asked for, float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_KINDS = ("cpu", "cuda", "mps", "xpu")
"""Types of devices that have automatic mixed precision."""

_EXACT = ("none", "ieee")
"""Settings of torch with which float32 numbers are multiplied as such."""


@contextmanager
def float32_products(*, tf32: bool = False) -> Iterator[None]:
    """Multiply float32 numbers as such inside the block, whatever torch is set to.

    As torch is set at its start, NVIDIA GPUs compute convolutions in TF32 (10 bits of each factor):
    class probabilities change by up to 1.3e-4, more than the slack that criteria leave. Automatic
    mixed precision of a block around this one does not hold either. Torch's settings, which are
    those of the whole process, are put back afterwards.

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
    gpu: Any = torch.backends.cudnn
    cpu: Any = torch.backends.mkldnn
    owners: list[Any] = []
    if hasattr(gpu, "conv"):  # torch 2.9 and later
        owners += [gpu.conv, gpu.rnn, torch.backends.cuda.matmul]
        owners += [cpu.matmul, cpu.conv, cpu.rnn]
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
        with ExitStack() as full:
            for kind in mixed_kinds():
                full.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        if old is not None:
            torch.backends.cudnn.allow_tf32, precision = old
            torch.set_float32_matmul_precision(precision)
        for owner, value in zip(owners, before, strict=True):
            owner.fp32_precision = value


def mixed_kinds() -> list[str]:
    """List the types of devices for which automatic mixed precision is on.

    Returns
    -------
    list of str
        None outside of ``torch.autocast``.

    Examples
    --------
    >>> with torch.autocast("cpu"):
    ...     mixed_kinds()
    ['cpu']
    """
    try:
        return [kind for kind in _KINDS if torch.is_autocast_enabled(kind)]
    except TypeError:  # before torch 2.4
        is_on = {"cuda": torch.is_autocast_enabled(), "cpu": torch.is_autocast_cpu_enabled()}
    return [kind for kind in is_on if is_on[kind]]


@contextmanager
def exact_passes() -> Iterator[None]:
    """Compute in float32 (`float32_products`) and without gradients inside the block.

    Yields
    ------
    None
        Passes inside the block are computed so.
    """
    with float32_products(), torch.no_grad():
        yield


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
