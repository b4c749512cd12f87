"""Make adversarial interference (AI) by greedy random search, without gradients.

This is the procedure of the AI images of Zhang et al. (2021).

References
----------
Zhang, C. et al. (2021). Frontiers in Neuroinformatics 15:677925, "Stimuli": noise from uniform(-5,
5) is added to every pixel and kept when the probability of the wrong label rises, until it is above
.5. Not stated: pixel scale (0 to 255 here), clipping, whether the channels share their noise,
number of tries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.provenance import digest, generator
from neurometamer.run_options import RunOptions
from stimuli_gen.adversarial import check_photographs, collect_adversarial
from stimuli_gen.batches import Parts, batch_shape, images_at_once, images_by_id
from stimuli_gen.models import StagedModel, run_on_device_of
from stimuli_gen.precision import exact_passes
from stimuli_gen.stimuli import StimulusSet
from stimuli_gen.synthesis.batch import LOOK_EVERY
from stimuli_gen.synthesis.checkpoint import Checkpoint, Descended
from stimuli_gen.synthesis.loop import OnFrame, Pass, box, shown
from stimuli_gen.targets import choose_targets, refuse_own_class
from stimuli_gen.transfers import pinned_buffer, send

_SLACK = 1e-4
"""Part of the allowed doubt kept in hand, against the rounding differences of other batch shapes
and devices."""


@checked
def greedy_interference(
    model: StagedModel,
    references: StimulusSet,
    *,
    target: str | int | Mapping[str, Any] = "random",
    confidence: float = 0.5,
    amplitude: float = 5.0,
    shared_channels: bool = False,
    max_tries: int = 20_000,
    seed: int = 0,
    run: RunOptions | None = None,
) -> StimulusSet:
    """Make adversarial interference by trial and error.

    Noise is added and kept when the wrong class becomes more probable.

    One candidate at a time for each image. Images run side by side, each with its own generator,
    and do not influence each other.

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs; one AI image is made of each, with the id ``<reference id>_AI``.
    target : str, int or mapping
        See `stimuli_gen.choose_targets`; never the network's own class of the photograph.
    confidence : float
        An image is finished when the probability of the target is above this, float and 8-bit
        version alike.
    amplitude : float
        Noise is uniform between minus and plus this, in levels of 0 to 255.
    shared_channels : bool
        One draw a pixel for all three channels (gray noise), or one a channel. The paper leaves it
        open.
    max_tries : int
        Candidates after which an image is given up; it stays in the set with ``success = False``.
        Not stated in the paper.
    seed : int
        Seed of noise and random targets.
    run : RunOptions, optional
        How it is run, on the device of the network. The batch size, the number of images side by
        side, is rounded up by `stimuli_gen.batches.batch_shape`; the only mode is ``exact``.

    Returns
    -------
    StimulusSet
        Kind ``AI``, columns as for `stimuli_gen.adversarial_interference`, and ``tries`` and
        ``accepted``; ``steps`` is the number of tries.

    Raises
    ------
    InputError
        When the references are not photographs of the network's input size, or a setting is wrong.
    KeyboardInterrupt
        On Ctrl-C, after unfinished images are saved.

    Notes
    -----
    The folder ``run.resume`` holds finished images, and, once a minute and on Ctrl-C, where the
    others are; the same call goes on from there and ends with the same images. ``run.progress`` is
    called with (images done, images in all); ``run.on_step`` at each look with a
    `stimuli_gen.synthesis.loop.Pass`: the tries of each image, and minus the logarithm of the
    probability that it has come to; ``run.on_frame`` with (id, tries, image) at the photograph, at
    1, 2, 4, 8 … tries, and at the end.

    Noise of ``run.look_every`` tries goes to the device in one copy, and the host looks once after
    these (by default each try on a CPU; elsewhere after a quarter of the tries so far, at most
    `stimuli_gen.synthesis.batch.LOOK_EVERY`). How often it looks changes no image: the first try
    that reached the threshold is the one that counts.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import greedy_interference, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> made = greedy_interference(model, photographs, confidence=0.25, max_tries=500)
    >>> made.ids, made.table["success"].tolist()
    (('a_AI', 'b_AI'), [True, True])
    """
    settings = {
        "kind": "AI",
        "method": "greedy",
        "confidence": confidence,
        "amplitude": amplitude,
        "shared_channels": shared_channels,
        "max_tries": max_tries,
        "seed": seed,
    }
    run = run_on_device_of(model, run)
    if run.mode != "exact":
        raise InputError(f"greedy interference has no mode '{run.mode}'; leave that out.")
    check_photographs(model, references)
    if not (0 < confidence < 1 and 0 < amplitude < 255 and max_tries >= 1):
        raise InputError(
            f"confidence ({confidence}) must be between 0 and 1, amplitude ({amplitude}) between "
            f"0 and 255, and max_tries ({max_tries}) at least 1; give such values."
        )
    targets = choose_targets(target, references, model, seed)
    refuse_own_class(model, references, targets)
    photograph_of = images_by_id(references)
    keys = {}
    for reference_id in references.ids:
        target_index, photograph = targets[reference_id], photograph_of(reference_id)
        keys[reference_id] = digest(settings, model.digest, reference_id, target_index, photograph)
    search = _Search(
        model=model,
        targets=targets,
        settings=settings,
        photograph_of=photograph_of,
        checkpoint=Checkpoint(run.resume, keys),
    )
    results = _run(search, references.ids, run)
    accepted = [results[reference_id][1] for reference_id in references.ids]
    made = {reference_id: result for reference_id, (result, _) in results.items()}
    return collect_adversarial(
        model,
        references,
        targets,
        settings,
        made,
        photograph_of,
        tries=[made[reference_id].steps for reference_id in references.ids],
        accepted=accepted,
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What all images of one search share."""

    model: StagedModel
    targets: Mapping[str, int]
    settings: Mapping[str, Any]
    photograph_of: Callable[[str], np.ndarray]
    checkpoint: Checkpoint


@dataclass(kw_only=True)
class _Slot:
    """A slot of the batch for one image; with the id None it is computed and ignored."""

    stimulus_id: str | None = None
    random: np.random.Generator | None = None
    tries: int = 0
    accepted: int = 0


def _run(
    search: _Search, ids: tuple[str, ...], run: RunOptions
) -> dict[str, tuple[Descended, int]]:
    done = {}
    for reference_id, (result, extra) in search.checkpoint.finished(ids).items():
        done[reference_id] = result, int(extra["accepted"])
    if run.progress is not None and done:
        run.progress(len(done), len(ids))
    queue = deque(reference_id for reference_id in ids if reference_id not in done)
    device = search.model.device
    size = images_at_once(run.batch_size, device)
    work = _Work(search, queue, batch_shape(size))
    number = 0
    with exact_passes(), search.checkpoint.at_work() as stop:
        while work.fill():
            tries: dict[str, int] = {}
            losses: dict[str, float] = {}
            for tried in work.attempt(run.look_every):
                number += 1
                work.count(tried)
                tries |= work.tries()
                losses |= work.losses(tried)
                finished = work.take_finished(tried)
                work.show(run.on_frame, tried, finished)
                for reference_id, (result, accepted) in finished.items():
                    search.checkpoint.put(reference_id, result, accepted=accepted)
                    done[reference_id] = result, accepted
                    if run.progress is not None:
                        run.progress(len(done), len(ids))
            if run.on_step is not None:
                run.on_step(
                    Pass(
                        number=number,
                        steps=tries,
                        losses=losses,
                        done=len(done),
                        total=len(ids),
                        n_computed=len(work.slots),
                    )
                )
            if search.checkpoint.due() or stop.requested:
                work.save()
            if stop.requested:
                stop.stop()
    return {reference_id: done[reference_id] for reference_id in ids}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tried:
    """One try of all slots: the images after it, on the device, and what the host knows of it."""

    images: Tensor
    score: list[float]
    best: list[float]
    probability: list[float]
    better: list[bool]


class _Work:
    """The images at work, in a batch of fixed shape, and those that wait for a slot."""

    def __init__(self, search: _Search, queue: deque[str], n_slots: int) -> None:
        device, size = search.model.device, search.model.preprocessing.size
        self._search, self._queue = search, queue
        self.slots = [_Slot() for _ in range(n_slots)]
        self.images = torch.zeros((n_slots, 3, *size), device=device)
        self.target = torch.zeros(n_slots, dtype=torch.long, device=device)
        # log P(wrong): rises where P does, and is finer
        self.best = torch.full((n_slots,), -torch.inf, device=device)
        self.parts = Parts(n_slots, size, device)

    def fill(self) -> bool:
        """Give free slots to waiting images, new or saved; tell whether there is anything to do."""
        search = self._search
        for index, slot in enumerate(self.slots):
            if slot.stimulus_id is not None or not self._queue:
                continue
            stimulus_id = self._queue.popleft()
            image, best = search.photograph_of(stimulus_id), -np.inf
            slot.stimulus_id = stimulus_id
            # the first candidate is the photograph itself, without noise: the score to beat
            slot.tries, slot.accepted = -1, -1
            slot.random = generator(search.settings["seed"], "greedy", f"{stimulus_id}_AI")
            saved = search.checkpoint.load(stimulus_id)
            if saved is not None and saved[0]["image"].shape == image.shape:
                arrays, numbers = saved
                image, best = arrays["image"], float(arrays["best"])
                slot.tries, slot.accepted = numbers["tries"], numbers["accepted"]
                slot.random.bit_generator.state = numbers["random"]
            self.images[index] = torch.from_numpy(image).to(self.images)
            self.target[index] = search.targets[stimulus_id]
            self.best[index] = best
        return any(slot.stimulus_id for slot in self.slots)

    def attempt(self, n_tries: int | None) -> list[_Tried]:
        """Try candidates of each image one after the other, and keep each that is better.

        The host looks once, after the last. No image has more tries than it may.
        """
        at_work = [slot for slot in self.slots if slot.stimulus_id is not None]
        if n_tries is None:
            n_tries = self._tries_to_look(at_work)
        most = max(slot.tries for slot in at_work)
        n_tries = min(n_tries, self._search.settings["max_tries"] - most)
        noise = self._noise(max(1, n_tries))
        iterates, numbers = [], []
        for own_noise in noise:
            candidates = box(self.images + own_noise)
            score = self.log_probability(candidates)
            better = score > self.best
            self.best = torch.where(better, score, self.best)
            self.images = torch.where(better.view(-1, 1, 1, 1), candidates, self.images)
            iterates.append(self.images)
            numbers.append(torch.stack([score, self.best, self.best.exp(), better.to(score)]))
        found = torch.stack(numbers).tolist()  # all that the host must know, in one copy
        tried = []
        for images, (scores, best, probability, kept) in zip(iterates, found, strict=True):
            is_kept = [value == 1 for value in kept]
            tried.append(
                _Tried(
                    images=images,
                    score=scores,
                    best=best,
                    probability=probability,
                    better=is_kept,
                )
            )
        return tried

    def _tries_to_look(self, at_work: list[_Slot]) -> int:
        """Choose how many tries are taken between two looks: few are for finished images then."""
        if self.images.device.type == "cpu":
            return 1
        mean = sum(slot.tries for slot in at_work) // len(at_work)
        return max(1, min(LOOK_EVERY, mean // 4))

    def _noise(self, n_tries: int) -> Tensor:
        """Draw the noise of some tries, each image from its own generator; one copy goes over."""
        settings, device = self._search.settings, self.images.device
        channels = 1 if settings["shared_channels"] else 3
        amplitude = np.float32(settings["amplitude"] / 255)
        n_slots, _, *size = self.images.shape
        buffer = pinned_buffer((n_tries, n_slots, channels, *size), device)
        noise = buffer.numpy()
        noise.fill(0)
        for number, index in np.ndindex(n_tries, n_slots):
            slot = self.slots[index]
            if slot.random is not None and slot.tries + number >= 0:
                drawn = slot.random.random((channels, *size), dtype=np.float32)
                noise[number, index] = (2 * drawn - 1) * amplitude
        return send(buffer, device)

    def count(self, tried: _Tried) -> None:
        """Count a try of each image at work."""
        for index, slot in enumerate(self.slots):
            if slot.stimulus_id is not None and not np.isfinite(tried.score[index]):
                raise InputError(
                    f"the probability of '{slot.stimulus_id}' is not a number at try "
                    f"{slot.tries + 1}; check the network with check_model. Finished images are "
                    "kept."
                )
            slot.tries += 1
            slot.accepted += tried.better[index]

    def log_probability(self, images: Tensor) -> Tensor:
        """Compute log P(wrong class): (n_slots,)."""
        model = self._search.model

        def of_rows(rows: slice) -> Tensor:
            log_probabilities = model.logits(images[rows]).log_softmax(dim=1)
            wrong = self.target[rows, None]
            return log_probabilities.gather(1, wrong)[:, 0]

        return self.parts(of_rows)

    def tries(self) -> dict[str, int]:
        """Say how many tries each image at work had."""
        tries = {}
        for slot in self.slots:
            if slot.stimulus_id is not None:
                tries[slot.stimulus_id] = slot.tries
        return tries

    def losses(self, tried: _Tried) -> dict[str, float]:
        """Say what the loss of each image at work is, -log P(wrong)."""
        losses = {}
        for slot, best in zip(self.slots, tried.best, strict=True):
            if slot.stimulus_id is not None:
                losses[slot.stimulus_id] = -best
        return losses

    def take_finished(self, tried: _Tried) -> dict[str, tuple[Descended, int]]:
        """Take out images whose target is probable enough in 8 bits, or without tries left.

        An image is asked about when it has just become better, or has no tries left.
        """
        settings = self._search.settings
        wanted = settings["confidence"] + (1 - settings["confidence"]) * _SLACK
        score = tried.probability
        late = [slot.tries >= settings["max_tries"] for slot in self.slots]
        asked = []
        for index, slot in enumerate(self.slots):
            is_good = tried.better[index] and score[index] > wanted
            asked.append(slot.stimulus_id is not None and (late[index] or is_good))
        if not any(asked):
            return {}
        score_shown = self.log_probability(shown(tried.images)).exp().tolist()
        finished = {}
        for index, slot in enumerate(self.slots):
            reached = min(score[index], score_shown[index]) > wanted
            if slot.stimulus_id is None or not asked[index] or not (reached or late[index]):
                continue
            result = Descended(
                image=tried.images[index].cpu().numpy().copy(),
                score=score[index],
                score_shown=score_shown[index],
                steps=slot.tries,
                reached=reached,
            )
            finished[slot.stimulus_id] = result, slot.accepted
            slot.stimulus_id, slot.random = None, None
        return finished

    def show(
        self,
        on_frame: OnFrame | None,
        tried: _Tried,
        finished: Mapping[str, tuple[Descended, int]],
    ) -> None:
        """Call `on_frame` for each image when its tries have doubled, and with the last one."""
        if on_frame is None:
            return
        for stimulus_id, (result, _) in finished.items():
            on_frame(stimulus_id, result.steps, result.image)
        for index, slot in enumerate(self.slots):
            is_power_of_two = slot.tries & (slot.tries - 1) == 0
            if slot.stimulus_id is not None and is_power_of_two:
                image = tried.images[index].cpu().numpy().copy()
                on_frame(slot.stimulus_id, slot.tries, image)

    def save(self) -> None:
        """Save pixels, score, tries and the state of the random generator of each image."""
        for index, slot in enumerate(self.slots):
            if slot.stimulus_id is None or slot.random is None:
                continue
            arrays = {
                "image": self.images[index].cpu().numpy(),
                "best": self.best[index].cpu().numpy(),
            }
            self._search.checkpoint.save(
                slot.stimulus_id,
                arrays,
                tries=slot.tries,
                accepted=slot.accepted,
                random=dict(slot.random.bit_generator.state),
            )
