"""The training loop: batches in order, perturbation, step, checkpoint; it can stop and go on.

All random numbers derive from the seed, the epoch and the image or batch, so that a run that was
stopped goes on bit for bit as if it had not been, on a CPU.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError
from neurometamer.provenance import digest, generator, provenance
from neurometamer.reading import one_line
from neurometamer.resume import alone_in, claim_folder, note_remade, write_record
from neurometamer.run_options import RunOptions
from neurometamer.store import atomic_path, write_table
from neurometamer.summaries import short_repr
from neurometamer.training.curves import accuracy
from neurometamer.training.networks import (
    PixelNetwork,
    check_outputs,
    copied_for_training,
    memory_for,
)
from neurometamer.training.perturbations import Batch, check_sigma, perturb
from neurometamer.training.pictures import (
    Cuts,
    LabeledImages,
    batches,
    check_apart,
    image_seed,
)
from neurometamer.training.recipes import (
    LoopOptions,
    TrainingRecipe,
    make_training_recipe,
    recipe_settings,
)
from stimuli_gen.models import resolve_device
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.precision import float32_products
from stimuli_gen.synthesis.checkpoint import Interrupt, deferred_interrupt
from stimuli_gen.transfers import send

_LOG = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
LAST = "last.safetensors"
_ASK_EVERY = 10
"""Steps between two questions to the other processes whether one was asked to stop."""
_LOOK_EVERY = 100
"""Steps between two looks at the loss, for which the device has to finish its work."""
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """A network that was trained, and how.

    Parameters
    ----------
    network : torch.nn.Module
        With the weights of the best epoch; takes normalized color images.
    log : pandas.DataFrame
        One row an epoch: epoch (from 1), learning_rate, loss, accuracy (of the perturbed training
        images), validation_accuracy (of clear images), seconds.
    class_names : tuple of str
        Names of the outputs.
    provenance : mapping
        JSON-able record.

    Examples
    --------
    >>> log = pd.DataFrame({"epoch": [1], "validation_accuracy": [0.9]})
    >>> made = TrainedNetwork(
    ...     network=nn.Linear(2, 2), log=log, class_names=("cat", "cup"), provenance={}
    ... )
    >>> made.class_names
    ('cat', 'cup')
    """

    network: nn.Module
    log: pd.DataFrame
    class_names: tuple[str, ...]
    provenance: Mapping[str, Any]


@dataclass(kw_only=True)
class _State:
    """Where a run stands; loss, right answers and parts with a finite loss are of this epoch."""

    epoch: int = 0
    step: int = 0
    loss: Tensor | float = 0.0
    n_correct: Tensor | int = 0
    n_finite: Tensor | int = 0
    seconds: float = 0.0
    best: float = -1.0
    log: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Processes:
    """Which of several processes this one is."""

    rank: int = 0
    n_processes: int = 1

    def share(self, n_items: int) -> slice:
        """Give the part of a batch that this process computes."""
        own = n_items // self.n_processes
        return slice(self.rank * own, (self.rank + 1) * own)


@checked_with(own=("network",))
def train_network(
    network: nn.Module,
    training: LabeledImages,
    validation: LabeledImages,
    *,
    out: str | os.PathLike[str],
    preprocessing: Preprocessing,
    preset: str = "standard",
    loop: LoopOptions | None = None,
    run: RunOptions | None = None,
    **changes: Any,
) -> TrainedNetwork:
    """Train a network, with a perturbation of its images or without.

    Parameters
    ----------
    network : torch.nn.Module
        Takes normalized images (n, 3, height, width), returns logits; a copy of it is trained from
        the weights that it has.
    training, validation : LabeledImages
        With the same classes and without common images. The epoch with the best accuracy on clear
        images of the second is kept.
    out : path-like
        Folder for ``best.safetensors``, ``last.safetensors``, ``log.csv``, ``checkpoint.pt`` and
        ``provenance.json``. A run that was stopped goes on from there.
    preprocessing : Preprocessing
        Input size, mean and standard deviation.
    preset : str
        Recipe, see `neurometamer.training.PRESETS`.
    loop : LoopOptions, optional
        How it is run.
    run : RunOptions, optional
        Device, images at a time in validation, and who is told about progress (steps).
    **changes : object
        Fields of `TrainingRecipe`, in place of the preset's.

    Returns
    -------
    TrainedNetwork
        The network, and what was logged.

    Raises
    ------
    InputError
        When recipe, images and network do not fit, memory does not hold a step, the loss is not
        finite (looked at every hundred steps), or the folder holds another run.
    KeyboardInterrupt
        After Ctrl-C, once the checkpoint is written; after SIGTERM the process ends with code 143.

    Notes
    -----
    Under ``torchrun`` every process computes its part of each batch (gloo on CPUs, NCCL on GPUs);
    gradients are the mean over the whole batch. BatchNorm takes its moments of the images of one
    process and part (`TrainingRecipe.accumulate`), so that networks with it depend on their number.
    On GPUs results differ from run to run in the last digits. A step copies its images to the
    device, with blur and noise also one number an image, and waits for nothing (but float16, whose
    gradients have to be looked at); loss and accuracy are added up on the device. Out of memory,
    nothing is halved unasked, since BatchNorm sees the parts of a batch.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> levels = np.random.default_rng(0).integers(0, 256, (40, 3, 16, 16)).astype(np.uint8)
    >>> levels[::2] //= 4
    >>> names = ("dark", "bright")
    >>> labels = np.arange(40) % 2
    >>> training = LabeledImages(levels=levels[:30], labels=labels[:30], class_names=names)
    >>> validation = LabeledImages(levels=levels[30:], labels=labels[30:], class_names=names)
    >>> gray = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    >>> preprocessing = Preprocessing(size=(16, 16), resize=16, interpolation="bilinear", **gray)
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    >>> trained = train_network(
    ...     nn.Sequential(*layers, nn.Linear(4, 2)),
    ...     training,
    ...     validation,
    ...     out=Path(mkdtemp()) / "run",
    ...     preprocessing=preprocessing,
    ...     epochs=2,
    ...     train_batch_size=10,
    ... )
    >>> trained.log["epoch"].tolist()
    [1, 2]
    """
    recipe = make_training_recipe(preset, **changes)
    loop = LoopOptions() if loop is None else loop
    run = RunOptions() if run is None else run
    check_apart(training, validation)
    for sigma in (*recipe.sigmas, *recipe.sigma_range):
        check_sigma(sigma, preprocessing.size)
    if recipe.train_batch_size > len(training):
        raise InputError(
            f"train_batch_size is {recipe.train_batch_size}, but there are {len(training)} "
            "training images; give fewer."
        )
    with _processes(run.device) as (processes, device):
        pixels = PixelNetwork(copied_for_training(network), preprocessing, recipe.color)
        pixels = pixels.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        check_outputs(pixels, preprocessing, len(training.class_names))
        folder = Path(out)
        record = provenance(
            {"preset": preset, **recipe_settings(recipe)},
            step="train_network",
            data=digest(training.digest(), validation.digest()),
            start=digest({name: value.numpy() for name, value in network_state(network).items()}),
            n_training=len(training),
            n_validation=len(validation),
            class_names=list(training.class_names),
            n_processes=processes.n_processes,
            device=device.type,
            tf32=loop.tf32,
        )
        alone = contextlib.ExitStack()
        if processes.rank == 0:
            alone.enter_context(alone_in(folder))
            claim_folder(folder, "training", record, inputs=("data", "start"))
        trainer = _Trainer(
            pixels=pixels,
            recipe=recipe,
            loop=loop,
            run=run,
            folder=folder,
            cuts=Cuts(training, preprocessing, recipe.augment, recipe.seed),
            validation=Cuts(validation, preprocessing, "none", recipe.seed),
            processes=processes,
            device=device,
        )
        with alone, deferred_interrupt() as interrupt:
            trainer.train(interrupt)
            if processes.rank == 0:
                finished = {**record, "analysis": "training", "finished": True}
                write_record(folder / "provenance.json", finished)
        wait_for_others()
        log = pd.DataFrame(trainer.state.log)
        best = read_safetensors(folder / BEST)
    trained = copied_for_training(network).eval().requires_grad_(False)
    trained.load_state_dict(best)
    return TrainedNetwork(
        network=trained, log=log, class_names=training.class_names, provenance=record
    )


def wait_for_others() -> None:
    """Wait until every process that torchrun has started is here."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def network_state(network: nn.Module) -> dict[str, Tensor]:
    """Give the weights of a network, on the CPU.

    Parameters
    ----------
    network : torch.nn.Module
        The network.

    Returns
    -------
    dict of str to Tensor
        State dict.
    """
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read weights that a run has written.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to Tensor
        State dict.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} is damaged or missing ({one_line(error)}); choose a new folder (--out)."
        ) from error


@contextlib.contextmanager
def _processes(device: str) -> Iterator[tuple[_Processes, torch.device]]:
    """Join the processes that torchrun has started; alone without it."""
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    target = resolve_device(device)
    if n_processes == 1:
        yield _Processes(), target
        return
    from torch import distributed

    rank = int(os.environ["RANK"])
    if target.type == "cuda":
        target = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(target)
    backend = "nccl" if target.type == "cuda" else "gloo"
    distributed.init_process_group(backend)
    try:
        yield _Processes(rank=rank, n_processes=n_processes), target
    finally:
        distributed.destroy_process_group()


class _Trainer:
    """One run: the network, its optimizer, and where it stands."""

    def __init__(
        self,
        *,
        pixels: PixelNetwork,
        recipe: TrainingRecipe,
        loop: LoopOptions,
        run: RunOptions,
        folder: Path,
        cuts: Cuts,
        validation: Cuts,
        processes: _Processes,
        device: torch.device,
    ) -> None:
        self.pixels = pixels
        self.recipe = recipe
        self.loop = loop
        self.run = run
        self.folder = folder
        self.cuts = cuts
        self.validation = validation
        self.processes = processes
        self.device = device
        self.state = _State()
        self.n_steps = len(cuts) // recipe.train_batch_size
        n_parts = processes.n_processes * recipe.accumulate
        if recipe.train_batch_size % n_parts:
            raise InputError(
                f"train_batch_size is {recipe.train_batch_size}, which {processes.n_processes} "
                f"process(es) of {recipe.accumulate} part(s) do not divide; give a multiple of "
                f"{n_parts}."
            )
        self.n_at_once = recipe.train_batch_size // n_parts
        weights = [weight for weight in pixels.parameters() if weight.requires_grad]
        if recipe.optimizer == "adamw":
            self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
                weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay
            )
        else:
            self.optimizer = torch.optim.SGD(
                weights,
                lr=recipe.learning_rate,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            )
        is_half = recipe.precision == "float16" and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=is_half)
        self.parallel: nn.Module = pixels
        if processes.n_processes > 1:
            places = [device.index] if device.type == "cuda" else None
            self.parallel = DistributedDataParallel(pixels, device_ids=places)
        self.saved = time.monotonic()
        self.writer: Any = None
        if loop.tensorboard and processes.rank == 0:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise InputError(
                    "tensorboard is not installed; pip install tensorboard, or leave it out "
                    "(--tensorboard)."
                ) from None
            self.writer = SummaryWriter(folder / "tensorboard")

    def train(self, interrupt: Interrupt) -> None:
        """Go on from the last checkpoint to the end.

        Parameters
        ----------
        interrupt : Interrupt
            Whether to stop.
        """
        self.restore()
        devices = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=devices), float32_products(tf32=self.loop.tf32):
                while self.state.epoch < self.recipe.epochs:
                    self.run_epoch(interrupt)
        finally:
            if self.writer is not None:
                self.writer.close()

    def run_epoch(self, interrupt: Interrupt) -> None:
        """Train one epoch, or the rest of one; validate, log, save."""
        recipe, state = self.recipe, self.state
        order = generator(recipe.seed, "order", state.epoch).permutation(len(self.cuts))
        size = recipe.train_batch_size
        whole = order[: self.n_steps * size].reshape(self.n_steps, size)
        own = self.processes.share(size)
        rows = whole[state.step :, own]
        begun = time.monotonic()
        loaded = batches(
            self.cuts,
            rows.tolist(),
            state.epoch,
            workers=self.loop.workers,
            device=self.device,
        )
        # once an epoch, so that a step copies its images to the device and nothing else
        labels = torch.tensor(self.cuts.images.labels[rows], dtype=torch.long).to(self.device)
        # nothing is halved unasked: the batch, and the parts that BatchNorm sees, are the recipe
        cure = (
            f"give more parts a step (accumulate, --accumulate, now {recipe.accumulate}), which "
            "leave gradients as they are but for BatchNorm, or a smaller train_batch_size "
            f"(--train-batch-size, now {size}), and a new folder, since both belong to the recipe"
        )
        self.pixels.train()
        for own_rows, images, own_labels in zip(rows, loaded, labels, strict=True):
            with memory_for(self.n_at_once, self.device, cure):
                self.take_step(own_rows, images, own_labels, own.start)
            state.step += 1
            if state.step % _LOOK_EVERY == 0:
                self.look_at_loss()
            if self.run.progress is not None:
                done = state.epoch * self.n_steps + state.step
                self.run.progress(done, recipe.epochs * self.n_steps)
            if self.asked_to_stop(interrupt):
                state.seconds += time.monotonic() - begun
                self.save()
                interrupt.stop()
            if time.monotonic() - self.saved > 60 * self.loop.checkpoint_minutes:
                state.seconds += time.monotonic() - begun
                begun = time.monotonic()
                self.save()
        state.seconds += time.monotonic() - begun
        self.finish_epoch()

    def take_step(self, rows: np.ndarray, images: Tensor, labels: Tensor, first: int) -> None:
        """Take one step of the optimizer on this process's part of a batch.

        The host waits for nothing here, but with float16 for whether gradients have overflowed.
        """
        recipe, state = self.recipe, self.state
        images = send(images, self.device).contiguous(memory_format=torch.channels_last)
        draws = np.random.SeedSequence([recipe.seed, state.epoch, state.step, 4])
        dropout = draws.spawn(self.processes.n_processes)[self.processes.rank]
        torch.manual_seed(int(dropout.generate_state(1)[0]))
        seeds = [image_seed(recipe.seed, state.epoch, int(row), 5) for row in rows]
        rate = learning_rate(recipe, state.epoch + state.step / self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        n_own = len(rows) // recipe.accumulate
        for part in range(recipe.accumulate):
            span = slice(part * n_own, (part + 1) * n_own)
            batch = Batch(
                images=images[span],
                labels=labels[span],
                seeds=np.array(seeds[span]),
                places=first + np.arange(span.start, span.stop),
                n_whole=recipe.train_batch_size,
                epoch=state.epoch,
            )
            is_last = part == recipe.accumulate - 1
            exchange: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            if isinstance(self.parallel, DistributedDataParallel) and not is_last:
                exchange = self.parallel.no_sync()
            with exchange:
                self.add_gradients(batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def add_gradients(self, batch: Batch) -> None:
        recipe, state = self.recipe, self.state
        precision = _DTYPES.get(recipe.precision)
        mixed: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if precision is not None:
            mixed = torch.autocast(self.device.type, dtype=precision)
        with mixed:
            images = perturb(self.pixels, batch, recipe)
            logits = self.parallel(images)
        losses = functional.cross_entropy(
            logits.float(),
            batch.labels,
            reduction="sum",
            label_smoothing=recipe.label_smoothing,
        )
        # processes take the mean of their gradients: of sums over parts of one batch
        share = self.processes.n_processes / recipe.train_batch_size
        self.scaler.scale(losses * share).backward()
        # sums stay on the device: reading them would make it wait
        state.loss = state.loss + losses.detach()
        state.n_finite = state.n_finite + torch.isfinite(state.loss)
        state.n_correct = state.n_correct + (logits.argmax(dim=1) == batch.labels).sum()

    def look_at_loss(self) -> None:
        """Refuse a loss that is not finite; this waits for the device."""
        state = self.state
        if math.isfinite(float(state.loss)):
            return
        step = int(state.n_finite) // self.recipe.accumulate + 1
        raise InputError(
            f"the loss is not finite from step {step} of {self.n_steps} in epoch "
            f"{state.epoch + 1} on; lower the learning rate ({self.recipe.learning_rate:g}), or "
            f"take precision 'float32' (now {self.recipe.precision!r}). The last checkpoint is "
            "kept."
        )

    def asked_to_stop(self, interrupt: Interrupt) -> bool:
        """Agree with the other processes whether to stop."""
        if self.processes.n_processes == 1:
            return interrupt.requested
        if self.state.step % _ASK_EVERY:
            return False
        from torch import distributed

        wish = torch.tensor(float(interrupt.requested), device=self.device)
        distributed.all_reduce(wish, op=distributed.ReduceOp.MAX)
        return bool(wish > 0)

    def finish_epoch(self) -> None:
        """Validate, log and save; the best epoch is the first of the highest accuracy."""
        recipe, state = self.recipe, self.state
        self.look_at_loss()
        sums = torch.tensor([float(state.loss), float(state.n_correct)], dtype=torch.float64)
        if self.processes.n_processes > 1:
            from torch import distributed

            sums = sums.to(self.device)
            distributed.all_reduce(sums)
        loss, share_correct = (sums / (self.n_steps * recipe.train_batch_size)).tolist()
        # where the device has held a training step, it holds as many images without gradients
        n_measured = None if self.device.type == "cpu" else self.n_at_once
        n_measured = self.run.batch_size or n_measured
        right = accuracy(self.pixels, self.validation, n_measured, self.loop.workers)
        state.log.append(
            {
                "epoch": state.epoch + 1,
                "learning_rate": learning_rate(recipe, state.epoch + 1 - 1 / self.n_steps),
                "loss": loss,
                "accuracy": share_correct,
                "validation_accuracy": right,
                "seconds": state.seconds,
            }
        )
        state.epoch += 1
        state.step = 0
        state.loss, state.n_correct, state.n_finite, state.seconds = 0.0, 0, 0, 0.0
        is_best = right > state.best
        state.best = max(right, state.best)
        if self.processes.rank == 0:
            _LOG.info(
                "epoch %d of %d: loss %.4f, validation accuracy %.3f",
                state.epoch,
                recipe.epochs,
                loss,
                right,
            )
            if is_best:
                self.write_weights(BEST)
            self.write_weights(LAST)
            write_table(self.folder / "log.csv", pd.DataFrame(state.log))
            if self.writer is not None:
                newest = state.log[-1]
                for name in ("loss", "accuracy", "validation_accuracy", "learning_rate"):
                    self.writer.add_scalar(name, newest[name], newest["epoch"])
        self.save()

    def write_weights(self, name: str) -> None:
        from safetensors.torch import save

        weights = self.pixels.weights(self.cuts.preprocessing)
        with atomic_path(self.folder / name) as part:
            part.write_bytes(save(dict(weights)))

    def save(self) -> None:
        """Write all that is needed to go on."""
        self.saved = time.monotonic()
        if self.processes.rank:
            return
        state = self.state
        content = {
            "network": self.pixels.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": state.epoch,
            "step": state.step,
            "loss": float(state.loss),
            "n_correct": int(state.n_correct),
            "n_finite": int(state.n_finite),
            "seconds": state.seconds,
            "best": state.best,
            "log": state.log,
        }
        with atomic_path(self.folder / CHECKPOINT) as part:
            torch.save(content, part)

    def restore(self) -> None:
        """Read the last checkpoint, where there is one."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        try:
            content = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # torch raises many kinds
            _LOG.warning("%s is damaged (%s); training begins again.", path, one_line(error))
            note_remade(path)
            return
        self.pixels.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
        self.state = _State(
            epoch=content["epoch"],
            step=content["step"],
            # of all processes, so only one of them goes on with it
            loss=content["loss"] if self.processes.rank == 0 else 0.0,
            n_correct=content["n_correct"] if self.processes.rank == 0 else 0,
            n_finite=content.get("n_finite", content["step"] * self.recipe.accumulate),
            seconds=content["seconds"],
            best=content["best"],
            log=content["log"],
        )


@checked
def learning_rate(recipe: TrainingRecipe, epoch: float) -> float:
    """Compute the learning rate of a moment of the training.

    Parameters
    ----------
    recipe : TrainingRecipe
        The recipe.
    epoch : float
        Epochs since the start.

    Returns
    -------
    float
        Learning rate.

    Examples
    --------
    >>> recipe = TrainingRecipe(schedule="step", learning_rate=0.1, step_epochs=50)
    >>> [round(learning_rate(recipe, epoch), 6) for epoch in (0, 49.9, 50, 100)]
    [0.1, 0.1, 0.01, 0.001]
    """
    rate = recipe.learning_rate
    if recipe.schedule == "step":
        rate *= recipe.step_factor ** (epoch // recipe.step_epochs)
    elif recipe.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
    if epoch < recipe.warmup_epochs:
        rate *= epoch / recipe.warmup_epochs
    return rate
