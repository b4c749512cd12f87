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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
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
from neurometamer.resume import alone_in, claim_folder, read_record, write_record
from neurometamer.run_options import RunOptions
from neurometamer.store import write_table
from neurometamer.summaries import short_repr
from neurometamer.training.checkpoints import (
    digest_tensors,
    in_part,
    load_optimizer,
    optimizer_values,
    read_checkpoint,
    read_safetensors,
    write_checkpoint,
    write_safetensors,
)
from neurometamer.training.curves import accuracy
from neurometamer.training.cuts import Cuts, batches, image_seed
from neurometamer.training.networks import (
    PixelNetwork,
    check_outputs,
    copied_for_training,
    memory_for,
    structure,
)
from neurometamer.training.perturbations import Batch, check_radius, check_sigma, perturb
from neurometamer.training.pictures import (
    LabeledImages,
    check_apart,
    check_classes,
    check_decodable,
)
from neurometamer.training.processes import Processes, processes_of, wait_for_others
from neurometamer.training.recipes import (
    LoopOptions,
    TrainingRecipe,
    changes_of_preset,
    make_training_recipe,
    recipe_settings,
    warn_of_other_network,
)
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.precision import float32_products
from stimuli_gen.synthesis.checkpoint import Interrupt, deferred_interrupt
from stimuli_gen.transfers import send

_LOG = logging.getLogger(__name__)

BEST = "best.safetensors"
LAST = "last.safetensors"
RECORD = "provenance.json"
_ASK_EVERY = 10
"""Steps between two questions to the other processes whether one was asked to stop, at most."""
_ASK_SECONDS = 2.0
"""Seconds between two of these questions, about, where steps are slow."""
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
        Takes normalized images (n, 3, height, width), returns logits, alone or in a tuple or
        mapping; a copy of it is trained from the weights that it has. Other logits that it returns
        in training are those of auxiliary classifiers (`TrainingRecipe.auxiliary_weight`).
    training, validation : LabeledImages
        With the same classes and without common images. The epoch with the best accuracy on clear
        images of the second is kept.
    out : path-like
        Folder for ``best.safetensors``, ``last.safetensors``, ``log.csv``, ``provenance.json``,
        and the two newest checkpoints. A run that was stopped goes on from there.
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
        When recipe, images and network do not fit, images cannot be decoded, memory does not hold
        a step, the loss is not finite (looked at every hundred steps), or the folder holds another
        run: of other settings, preprocessing, images, architecture, first weights or number of
        processes.
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

    Images are identified by their contents: all files are read when a run starts or goes on, and
    decoded once before the first step. A checkpoint holds the network, the optimizer and the best
    weights, with a digest; where the newest is damaged the one before it is taken, and where both
    are, training begins again, with a note.

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
    check_classes(training, validation)
    check_radius(recipe, preprocessing.size)
    for sigma in (*recipe.sigmas, *recipe.sigma_range):
        check_sigma(sigma, preprocessing.size)
    if recipe.train_batch_size > len(training):
        raise InputError(
            f"train_batch_size is {recipe.train_batch_size}, but there are {len(training)} "
            "training images; give fewer."
        )
    folder = Path(out)
    n_classes = len(training.class_names)
    with processes_of(run.device) as (processes, device), contextlib.ExitStack() as alone:
        private = copied_for_training(network)
        architecture = structure(private)
        pixels = PixelNetwork(private, preprocessing, recipe.color, n_classes)
        pixels = pixels.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        check_outputs(pixels, preprocessing, n_classes)
        if processes.rank == 0:
            warn_of_other_network(preset, type(network).__name__)
            alone.enter_context(alone_in(folder))
            check_apart(training, validation)
            claimed = {
                **_record(preset, recipe, preprocessing, training, validation),
                "start": digest_tensors(network.state_dict()),
                "device": device.type,
                "tf32": loop.tf32,
            }
            claimed["settings"] |= {
                "network": architecture,
                "n_processes": processes.n_processes,
            }
            if not _is_of_data(folder / RECORD, claimed["data"]):
                check_decodable(training, validation)
            claim_folder(folder, "training", claimed, inputs=("data", "start"))
        wait_for_others()
        record = read_record(folder / RECORD)
        trainer = _Trainer(
            pixels=pixels,
            recipe=recipe,
            loop=loop,
            run=run,
            folder=folder,
            identity=digest(record["settings"], record["data"], record["start"]),
            cuts=Cuts(training, preprocessing, recipe.augment, recipe.seed),
            validation=Cuts(validation, preprocessing, "none", recipe.seed),
            processes=processes,
            device=device,
        )
        with deferred_interrupt() as interrupt:
            trainer.train(interrupt)
            record["finished"] = True
            if processes.rank == 0:
                write_record(folder / RECORD, record)
        wait_for_others()
        log = pd.DataFrame(trainer.state.log)
        best = read_safetensors(folder / BEST)
    trained = copied_for_training(network).eval().requires_grad_(False)
    trained.load_state_dict(best)
    return TrainedNetwork(
        network=trained, log=log, class_names=training.class_names, provenance=record
    )


def _record(
    preset: str,
    recipe: TrainingRecipe,
    preprocessing: Preprocessing,
    training: LabeledImages,
    validation: LabeledImages,
) -> dict[str, Any]:
    """Collect what a run is made of, but for its network and machine."""
    settings = {
        "preset": preset,
        "preset_changes": changes_of_preset(preset, recipe),
        **recipe_settings(recipe),
        **asdict(preprocessing),
    }
    return provenance(
        settings,
        step="train_network",
        data=digest(training.digest(), validation.digest()),
        n_training=len(training),
        n_validation=len(validation),
        class_names=list(training.class_names),
    )


def _is_of_data(path: Path, data: str) -> bool:
    """Tell whether a run has begun with these images, which were all looked at then."""
    with contextlib.suppress(InputError):
        return bool(read_record(path).get("data") == data)
    return False


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
        identity: str,
        cuts: Cuts,
        validation: Cuts,
        processes: Processes,
        device: torch.device,
    ) -> None:
        self.pixels = pixels
        self.recipe = recipe
        self.loop = loop
        self.run = run
        self.folder = folder
        self.identity = identity
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
        self.weights = {}
        for name, weight in pixels.named_parameters():
            if weight.requires_grad:
                self.weights[name] = weight
        weights = list(self.weights.values())
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
        self.best: dict[str, Tensor] = {}
        self.saved = time.monotonic()
        self.asked = (0, self.saved)
        self.ask_at = 1
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
            is_stopping, is_due = self.wishes(interrupt)
            if is_stopping or is_due:
                state.seconds += time.monotonic() - begun
                begun = time.monotonic()
                self.save()
            if is_stopping:
                interrupt.stop()
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
            outputs = self.parallel(images, auxiliary=True)
        sums = []
        for output in outputs:
            loss = functional.cross_entropy(
                output.float(),
                batch.labels,
                reduction="sum",
                label_smoothing=recipe.label_smoothing,
            )
            sums.append(loss)
        logits, losses = outputs[0], sums[0]
        whole = losses
        for loss in sums[1:]:
            whole = whole + recipe.auxiliary_weight * loss
        # processes take the mean of their gradients: of sums over parts of one batch
        share = self.processes.n_processes / recipe.train_batch_size
        self.scaler.scale(whole * share).backward()
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

    def wishes(self, interrupt: Interrupt) -> tuple[bool, bool]:
        """Agree with the other processes whether to stop, and whether to save."""
        step = self.state.step
        now = time.monotonic()
        is_due = now - self.saved > 60 * self.loop.checkpoint_minutes
        if self.processes.n_processes == 1:
            return interrupt.requested, is_due
        if step < min(self.ask_at, self.n_steps):
            return False, False
        from torch import distributed

        step_before, before = self.asked
        seconds = (now - before) / (step - step_before)
        own = [float(interrupt.requested), float(is_due), seconds]
        wishes = torch.tensor(own, device=self.device)
        distributed.all_reduce(wishes, op=distributed.ReduceOp.MAX)
        is_stopping, is_due, slowest = wishes.tolist()
        # the same in all processes, since it is made of what they agree on
        self.ask_at = step + min(max(int(_ASK_SECONDS / slowest), 1), _ASK_EVERY)
        self.asked = (step, time.monotonic())
        return bool(is_stopping), bool(is_due)

    def summed(self) -> tuple[float, int]:
        """Add up loss and right answers of this epoch over all processes, which all have to ask."""
        state = self.state
        sums = torch.tensor([float(state.loss), float(state.n_correct)], dtype=torch.float64)
        if self.processes.n_processes > 1:
            from torch import distributed

            sums = sums.to(self.device)
            distributed.all_reduce(sums)
        loss, n_correct = sums.tolist()
        return loss, round(n_correct)

    def finish_epoch(self) -> None:
        """Validate, log and save; the best epoch is the first of the highest accuracy."""
        recipe, state = self.recipe, self.state
        self.look_at_loss()
        loss, n_correct = self.summed()
        n_seen = self.n_steps * recipe.train_batch_size
        # where the device has held a training step, it holds as many images without gradients
        n_measured = None if self.device.type == "cpu" else self.n_at_once
        n_measured = self.run.batch_size or n_measured
        right = accuracy(self.pixels, self.validation, n_measured, self.loop.workers)
        state.log.append(
            {
                "epoch": state.epoch + 1,
                "learning_rate": learning_rate(recipe, state.epoch + 1 - 1 / self.n_steps),
                "loss": loss / n_seen,
                "accuracy": n_correct / n_seen,
                "validation_accuracy": right,
                "seconds": state.seconds,
            }
        )
        state.epoch += 1
        state.step = 0
        state.loss, state.n_correct, state.n_finite, state.seconds = 0.0, 0, 0, 0.0
        is_best = right > state.best
        state.best = max(right, state.best)
        self.asked = (0, time.monotonic())
        self.ask_at = 1
        if self.processes.rank == 0:
            weights = self.pixels.weights(self.cuts.preprocessing)
            _LOG.info(
                "epoch %d of %d: loss %.4f, validation accuracy %.3f",
                state.epoch,
                recipe.epochs,
                loss / n_seen,
                right,
            )
            if is_best:
                self.best = dict(weights)
                write_safetensors(self.folder / BEST, weights)
            write_safetensors(self.folder / LAST, weights)
            write_table(self.folder / "log.csv", pd.DataFrame(state.log))
            if self.writer is not None:
                newest = state.log[-1]
                for name in ("loss", "accuracy", "validation_accuracy", "learning_rate"):
                    self.writer.add_scalar(name, newest[name], newest["epoch"])
        self.save()

    def save(self) -> None:
        """Write all that is needed to go on; all processes have to take part."""
        self.saved = time.monotonic()
        loss, n_correct = self.summed()
        if self.processes.rank:
            return
        tensors: dict[str, Tensor] = {}
        for name, value in self.pixels.network.state_dict().items():
            tensors[f"network/{name}"] = value
        for name, value in self.best.items():
            tensors[f"best/{name}"] = value
        numbers = {}
        for name, value in optimizer_values(self.optimizer, list(self.weights)).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{name}"] = value
            else:
                numbers[name] = value
        state = {own.name: getattr(self.state, own.name) for own in fields(_State)}
        sums = {"loss": loss, "n_correct": n_correct, "n_finite": int(self.state.n_finite)}
        content = {
            "state": {**state, **sums},
            "optimizer": numbers,
            "scaler": self.scaler.state_dict(),
        }
        write_checkpoint(self.folder, tensors, content, self.identity)

    def restore(self) -> None:
        """Go on from the newest sound checkpoint, where there is one."""
        is_first = self.processes.rank == 0
        kept = read_checkpoint(self.folder, self.identity, tidy=is_first)
        if kept is None:
            if is_first and (self.folder / LAST).exists():
                _LOG.warning("%s has no sound checkpoint; training begins again.", self.folder)
            return
        tensors, content = kept
        try:
            self.state = _State(**content["state"])
            self.pixels.network.load_state_dict(in_part("network", tensors))
            remembered = {**in_part("optimizer", tensors), **content["optimizer"]}
            load_optimizer(self.optimizer, self.weights, remembered)
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(content["scaler"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"the checkpoint in {self.folder} is of another version ({one_line(error)}); "
                "remove it to begin again, or choose another --out."
            ) from error
        if not is_first:
            # of all processes, so only one of them goes on with it
            self.state.loss, self.state.n_correct = 0.0, 0
            return
        self.best = in_part("best", tensors)
        _LOG.info("training goes on after epoch %d, step %d", self.state.epoch, self.state.step)
        if self.state.log:
            self.write_again(BEST, self.best)
            write_table(self.folder / "log.csv", pd.DataFrame(self.state.log))
        if self.state.log and not self.state.step:
            self.write_again(LAST, self.pixels.weights(self.cuts.preprocessing))

    def write_again(self, name: str, weights: Mapping[str, Tensor]) -> None:
        """Write weights that are in the checkpoint, where their file does not hold them."""
        path = self.folder / name
        with contextlib.suppress(InputError):
            if digest_tensors(read_safetensors(path)) == digest_tensors(weights):
                return
        if os.path.lexists(path):
            _LOG.warning(
                "%s is damaged, or newer than the checkpoint; it is made again from that.", path
            )
        write_safetensors(path, weights)


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
