"""Adversarial interference (AI) by greedy random search, without gradients: the AI images of Zhang et al. (2021).

References
----------
Zhang, C. et al. (2021). Frontiers in Neuroinformatics 15:677925, "Stimuli": noise from uniform(-5,
5) is added to every pixel and kept when the probability of the wrong label rises, until it is above
.5. Not stated: pixel scale (0 to 255 here), clipping, whether the channels share their noise,
number of tries.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.provenance import digest, generator, provenance
from stimuli_gen.adversarial import (
    check_photographs,
    describe_adversarial,
    judge_adversarial,
)
from stimuli_gen.batches import Parts, arithmetic, batch_shape
from stimuli_gen.models import StagedModel
from stimuli_gen.stimuli import StimulusSet
from stimuli_gen.synthesis.checkpoint import Descended, Journal, stacked
from stimuli_gen.synthesis.loop import Film, Pass, box, shown
from stimuli_gen.targets import choose_targets, refuse_own_class

_SLACK = 1e-4
"""Part of the allowed doubt kept in hand, against the rounding differences of other batch shapes and devices."""


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
    batch_size: int = 8,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Callable[[Pass], None] | None = None,
    film: Film | None = None,
) -> StimulusSet:
    """Make adversarial interference by trial and error: add noise, keep it when the wrong class gets likelier.

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
        Of noise and random targets.
    batch_size : int
        Images side by side; rounded up by `stimuli_gen.batches.batch_shape`.
    resume : path-like, optional
        Folder for finished images, and, once a minute and on Ctrl-C, for where the others are; the
        same call goes on from there and ends with the same images.
    progress : callable, optional
        Called with (images done, images in all).
    watch : callable, optional
        Called after each try with a `stimuli_gen.synthesis.loop.Pass`: the tries of each image, and
        minus the logarithm of the probability that it has come to.
    film : callable, optional
        Called with (id, tries, image) at the photograph, at 1, 2, 4, 8 … tries, and at the end.

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
    check_photographs(model, references)
    if not (0 < confidence < 1 and 0 < amplitude < 255 and max_tries >= 1):
        raise InputError(
            f"confidence ({confidence}) must be between 0 and 1, amplitude ({amplitude}) between 0 "
            "and 255, "
            f"and max_tries ({max_tries}) at least 1."
        )
    targets = choose_targets(target, references, model, seed)
    refuse_own_class(model, references, targets)
    place = {one: row for row, one in enumerate(references.ids)}

    def _photograph(one: str) -> np.ndarray:
        return references.images[slice(place[one], place[one] + 1)][0]

    search = _Search(
        model=model,
        targets=targets,
        settings=settings,
        photograph=_photograph,
        journal=Journal(
            resume,
            {
                one: digest(settings, model.digest, one, targets[one], _photograph(one))
                for one in references.ids
            },
        ),
    )
    found = _run(search, references.ids, batch_shape(batch_size), progress, watch, film)
    made = {one: result for one, (result, _) in found.items()}
    anchors = {one: _photograph(one) for one in references.ids}
    table = describe_adversarial(model, references, targets, settings, made, anchors).assign(
        tries=[made[one].steps for one in references.ids],
        accepted=[found[one][1] for one in references.ids],
    )
    told = provenance(
        settings,
        model=model.name,
        weights=model.weights,
        model_digest=model.digest,
        references=references.digest,
        targets=dict(targets),
        **arithmetic(model.device),
    )
    images = stacked(made, references.ids)
    return judge_adversarial(
        model, StimulusSet(images=images, table=table, provenance=told), images
    )


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What all images of one search share."""

    model: StagedModel
    targets: Mapping[str, int]
    settings: Mapping[str, Any]
    photograph: Callable[[str], np.ndarray]
    journal: Journal

    def noise(self, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw one candidate's noise, in [0, 1] pixels: (3, height, width), or (1, height, width) when shared."""
        channels = 1 if self.settings["shared_channels"] else 3
        drawn = random.random((channels, *shape[1:]), dtype=np.float32)
        return (2 * drawn - 1) * np.float32(self.settings["amplitude"] / 255)


@dataclass(kw_only=True)
class _Slot:
    """A place of the batch, lent to one image; with the id None it is computed and ignored."""

    one: str | None = None
    random: np.random.Generator | None = None
    tries: int = 0
    accepted: int = 0


def _run(
    search: _Search,
    ids: tuple[str, ...],
    n_slots: int,
    progress: Callable[[int, int], None] | None,
    watch: Callable[[Pass], None] | None,
    film: Film | None,
) -> dict[str, tuple[Descended, int]]:
    done = {
        one: (found[0], int(found[1]["accepted"]))
        for one in ids
        if (found := search.journal.get(one)) is not None
    }
    if progress is not None and done:
        progress(len(done), len(ids))
    work = _Work(search, deque(one for one in ids if one not in done), n_slots)
    number = 0
    with torch.no_grad(), search.journal.at_work() as stop:
        while work.fill():
            number += 1
            better = work.attempt()
            tries, losses = work.told()
            finished = _finished(work, better)
            if film is not None:
                work.show(film, finished)
            for one, (result, accepted) in finished.items():
                search.journal.put(one, result, accepted=accepted)
                done[one] = result, accepted
                if progress is not None:
                    progress(len(done), len(ids))
            if watch is not None:
                watch(
                    Pass(
                        number=number,
                        steps=tries,
                        losses=losses,
                        done=len(done),
                        total=len(ids),
                        places=n_slots,
                    )
                )
            if search.journal.due() or stop.asked:
                work.save()
            if stop.asked:
                stop.stop()
    return {one: done[one] for one in ids}


class _Work:
    """The images at work, in a batch of fixed shape, and those that wait for a place."""

    def __init__(self, search: _Search, queue: deque[str], n_slots: int) -> None:
        self._search, self._queue, self.settings = search, queue, search.settings
        device = search.model.device
        self.slots = [_Slot() for _ in range(n_slots)]
        self.images = torch.zeros((n_slots, 3, *search.model.preprocessing.size), device=device)
        self.target = torch.zeros(n_slots, dtype=torch.long, device=device)
        # log P(wrong): rises where P does, and is finer
        self.best = torch.full((n_slots,), -torch.inf, device=device)
        self.parts = Parts(n_slots, search.model.preprocessing.size, device)

    def fill(self) -> bool:
        """Lend the free places to the images that wait; tell whether there is anything to do."""
        for place, slot in enumerate(self.slots):
            if slot.one is None and self._queue:
                self._lend(place, self._queue.popleft())
        return any(slot.one for slot in self.slots)

    def _lend(self, place: int, one: str) -> None:
        """Begin an image, or go on where it was saved.

        The first candidate is the photograph itself, without noise: the score to beat.
        """
        slot, image, best = self.slots[place], self._search.photograph(one), -np.inf
        slot.one, slot.tries, slot.accepted = one, -1, -1
        slot.random = generator(self._search.settings["seed"], "greedy", f"{one}_AI")
        saved = self._search.journal.load(one)
        if saved is not None and saved[0]["image"].shape == image.shape:
            image, best = saved[0]["image"], float(saved[0]["best"])
            slot.tries, slot.accepted = saved[1]["tries"], saved[1]["accepted"]
            slot.random.bit_generator.state = saved[1]["random"]
        self.images[place] = torch.from_numpy(image).to(self.images)
        self.target[place], self.best[place] = self._search.targets[one], best

    def attempt(self) -> list[bool]:
        """Try one candidate of each image, keep those that are better, and say which."""
        candidates = box(self.images + _noise(self._search, self.slots, self.images))
        score = self.log_probability(candidates)
        _check_finite(self.slots, score)
        better = score > self.best
        self.images = torch.where(better.view(-1, 1, 1, 1), candidates, self.images)
        self.best = torch.where(better, score, self.best)
        for slot, kept in zip(self.slots, better.tolist(), strict=True):
            slot.tries, slot.accepted = slot.tries + 1, slot.accepted + kept
        return better.tolist()

    def log_probability(self, images: Tensor) -> Tensor:
        """Compute log P(wrong class): (n_slots,)."""

        def _of_rows(rows: slice) -> Tensor:
            log_probabilities = self._search.model.logits(images[rows]).log_softmax(dim=1)
            return log_probabilities.gather(1, self.target[rows, None])[:, 0]

        return self.parts(_of_rows)

    def told(self) -> tuple[dict[str, int], dict[str, float]]:
        """Say for each image at work how many tries it had and what its loss, -log P(wrong), is."""
        at_work = [
            (slot, best)
            for slot, best in zip(self.slots, self.best.tolist(), strict=True)
            if slot.one
        ]
        return {str(slot.one): slot.tries for slot, _ in at_work}, {
            str(slot.one): -best for slot, best in at_work
        }

    def show(self, film: Film, finished: Mapping[str, tuple[Descended, int]]) -> None:
        """Give the film its frames: of each image when its tries have doubled, and the last."""
        for one, (result, _) in finished.items():
            film(one, result.steps, result.image)
        for place, slot in enumerate(self.slots):
            if slot.one is not None and slot.tries & (slot.tries - 1) == 0:
                film(slot.one, slot.tries, self.images[place].cpu().numpy().copy())

    def save(self) -> None:
        """Write where each image is: pixels, score, tries, and the state of its random generator."""
        for place, slot in enumerate(self.slots):
            if slot.one is not None and slot.random is not None:
                self._search.journal.save(
                    slot.one,
                    {
                        "image": self.images[place].cpu().numpy(),
                        "best": self.best[place].cpu().numpy(),
                    },
                    tries=slot.tries,
                    accepted=slot.accepted,
                    random=dict(slot.random.bit_generator.state),
                )


def _noise(search: _Search, slots: list[_Slot], images: Tensor) -> Tensor:
    noise = np.zeros(tuple(images.shape), dtype=np.float32)
    for place, slot in enumerate(slots):
        if slot.random is not None and slot.tries >= 0:
            noise[place] = search.noise(slot.random, tuple(images.shape[1:]))
    return torch.from_numpy(noise).to(images)


def _check_finite(slots: list[_Slot], score: Tensor) -> None:
    for slot, value in zip(slots, score.tolist(), strict=True):
        if slot.one is not None and not np.isfinite(value):
            raise InputError(
                f"the probability of '{slot.one}' is not a number at try {slot.tries + 1}; check "
                "the network with "
                "check_model. Finished images are kept."
            )


def _finished(work: _Work, better: list[bool]) -> dict[str, tuple[Descended, int]]:
    """Return the images whose target is likely enough once rounded to 8 bits, or that have no tries left."""
    settings, slots, images = work.settings, work.slots, work.images
    wanted = settings["confidence"] + (1 - settings["confidence"]) * _SLACK
    score = work.best.exp().tolist()
    late = [slot.tries >= settings["max_tries"] for slot in slots]
    ask = [
        slot.one is not None and (out or (kept and value > wanted))
        for slot, out, kept, value in zip(slots, late, better, score, strict=True)
    ]
    if not any(ask):
        return {}
    score_shown = work.log_probability(shown(images)).exp().tolist()
    finished = {}
    for place, slot in enumerate(slots):
        reached = min(score[place], score_shown[place]) > wanted
        if slot.one is not None and ask[place] and (reached or late[place]):
            result = Descended(
                image=images[place].cpu().numpy().copy(),
                score=score[place],
                score_shown=score_shown[place],
                steps=slot.tries,
                reached=reached,
            )
            finished[slot.one] = (result, slot.accepted)
            slot.one, slot.random = None, None
    return finished
