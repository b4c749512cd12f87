"""Processes that ``torchrun`` has started, or this one alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch

from stimuli_gen.models import resolve_device

_PATIENCE = timedelta(hours=6)
"""Time in which the first process may look at all images, before the others give up."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Which of several processes this one is.

    Parameters
    ----------
    rank : int
        Number of this one, from 0.
    n_processes : int
        How many there are.
    """

    rank: int = 0
    n_processes: int = 1

    def share(self, n_items: int) -> slice:
        """Give the part of a batch that this process computes.

        Parameters
        ----------
        n_items : int
            Images of the batch.

        Returns
        -------
        slice
            Of the images.
        """
        own = n_items // self.n_processes
        return slice(self.rank * own, (self.rank + 1) * own)


def wait_for_others() -> None:
    """Wait until every process that torchrun has started is here."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


@contextlib.contextmanager
def processes_of(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun has started; alone without it.

    Parameters
    ----------
    device : str
        See `stimuli_gen.models.resolve_device`.

    Yields
    ------
    processes : Processes
        Which one this is.
    device : torch.device
        Where it computes.
    """
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    target = resolve_device(device)
    if n_processes == 1:
        yield Processes(), target
        return
    from torch import distributed

    rank = int(os.environ["RANK"])
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(target)
    backend = "nccl" if target.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(rank=rank, n_processes=n_processes), target
    finally:
        distributed.destroy_process_group()
