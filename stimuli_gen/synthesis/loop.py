"""Run the gradient loop that every generator uses.

It takes an objective, a step rule and a projection, stops each image on its own, and resumes.

One image's result never depends on its companions. A convolution library may choose other kernels
for another batch shape (on a CPU, gradients of a 1-image batch differ from those of an 8-image
batch by about 1e-6), but with one fixed shape whose slots all get the same arithmetic (see
`stimuli_gen.batches.batch_shape`) each image's numbers are exactly its own. So images are computed
in chunks of a fixed number of slots: 4 on a CPU, where larger ones are no faster, the whole batch
elsewhere. A finished image leaves its slot to the next one in the queue; when the queue is empty,
images move together, chunks without any are dropped, and chunks of other devices get narrower where
that changes no bit (`stimuli_gen.synthesis.chunk.Chunk.try_narrow`); slots that stay empty are
computed and ignored. Chunk size, device and number of threads themselves choose kernels, so they
may change results, by float rounding that many steps can amplify; with these three unchanged,
results are equal bit for bit.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import check_fields, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr
from stimuli_gen.batches import Parts, gradients_on
from stimuli_gen.models import resolve_device
from stimuli_gen.synthesis.batch import Batch, Looks
from stimuli_gen.synthesis.checkpoint import Checkpoint, Descended
from stimuli_gen.synthesis.chunk import Chunk, Iterate, Start, Terms
from stimuli_gen.synthesis.constraints import box, shown
from stimuli_gen.synthesis.objectives import KEEP, SOLVERS, Objective, Objectives
from stimuli_gen.synthesis.optimizers import (
    OPTIMIZERS,
    PARAMETRIZATIONS,
    STEP_RULES,
    Situation,
    StepNumbers,
)

__all__ = [
    "KEEP",
    "OPTIMIZERS",
    "PARAMETRIZATIONS",
    "SOLVERS",
    "STEP_RULES",
    "Descended",
    "Objective",
    "Pass",
    "Start",
    "StepOptions",
    "box",
    "descend",
    "shown",
]


OnFrame = Callable[[str, int, np.ndarray], None]
"""Id, steps taken, image (3, height, width)."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How the loop takes steps.

    Parameters
    ----------
    step_size : float or callable
        Length of a step: L2 norm (``l2``), change of every value (``sign``), or factor (``raw``);
        images in [0, 1]. A callable is a schedule: steps that the image has taken → length.
    max_steps : int
        Steps after which an image is given up (and kept, with ``reached=False``).
    step_rule : {"l2", "sign", "raw"}
        See `stimuli_gen.synthesis.optimizers.STEP_RULES`.
    optimizer : {"sgd", "momentum", "adam", "lbfgs"}
        See `stimuli_gen.synthesis.optimizers.OPTIMIZERS`.
    parametrization : {"pixels", "fourier"}
        Space in which steps are taken; lengths are in its unit. See
        `stimuli_gen.synthesis.optimizers.PARAMETRIZATIONS`.
    solver : {"joint", "round_robin"}
        How several objectives are followed: the sum of their gradients, or each in turn.
        Turns go by the image's own steps, and the threshold is asked after each full round.
    turn : int
        Steps that one objective has before the next (``round_robin``).
    finish : float
        Share of the steps, in (0, 1], that follows the objectives themselves where there are
        drafts.
    keep : {"best", "last"}
        Iterate that is kept of an image that was given up.
    rescore : bool
        The score of a pass with gradients is not the image's own (it was shifted, say): it is
        computed again, without gradients, before an image is finished.

    Raises
    ------
    InputError
        When a name is unknown, a number is out of range, or options do not go together.

    Examples
    --------
    >>> from stimuli_gen import StepOptions
    >>> StepOptions(step_size=0.5, max_steps=50)
    StepOptions(step_size=0.5, max_steps=50)
    """

    step_size: float | Callable[[int], float]
    max_steps: int
    step_rule: str = "l2"
    optimizer: str = "sgd"
    parametrization: str = "pixels"
    solver: str = "joint"
    turn: int = 1
    finish: float = 0.1
    keep: str = "best"
    rescore: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for what, name, known in (
            ("step rule", self.step_rule, STEP_RULES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("parametrization", self.parametrization, PARAMETRIZATIONS),
            ("solver", self.solver, SOLVERS),
            ("iterate to keep", self.keep, KEEP),
        ):
            if name not in known:
                raise unknown_name(what, name, known)
        has_length = callable(self.step_size) or self.step_size > 0
        if not has_length or self.max_steps < 1:
            raise InputError(
                f"step_size ({self.step_size}) and max_steps ({self.max_steps}) must be positive; "
                "give larger ones."
            )
        if not 0 < self.finish <= 1:
            raise InputError(
                "finish, the share of the steps that follows the exact objectives, must be in "
                f"(0, 1], not {self.finish}; give 0.1, say."
            )
        plain = self.step_rule == "raw" and self.parametrization == "pixels"
        if self.optimizer == "lbfgs" and not (plain and self.solver == "joint"):
            raise InputError(
                "L-BFGS measures curvature along its own steps: it needs the step rule 'raw', the "
                f"parametrization 'pixels' and the solver 'joint', not '{self.step_rule}', "
                f"'{self.parametrization}' and '{self.solver}'; give those, or another optimizer."
            )

    @property
    def exact_from(self) -> int:
        """Number of steps after which an image follows the objectives themselves.

        Returns
        -------
        int
            Where there are drafts.
        """
        return math.ceil((1 - self.finish) * self.max_steps)

    def lengths(self, taken: Tensor, numbers: StepNumbers) -> float | Tensor:
        """Compute the length of the next step of each image.

        Parameters
        ----------
        taken : Tensor
            (b,) int64: steps that each image has taken.
        numbers : StepNumbers
            Where the lengths of a schedule are kept.

        Returns
        -------
        float or Tensor
            One number for all, or (b, 1, 1, 1).
        """
        if not callable(self.step_size):
            return self.step_size
        return numbers(self.step_size, taken)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The last pass before a look, as `on_step` gets it.

    Parameters
    ----------
    number : int
        Passes so far, this one included.
    steps : mapping of str to int
        Id of each image at work → steps that it had taken.
    losses : mapping of str to float
        Id → loss, as it is computed (that of the draft, or of the objective whose turn it is).
    done, total : int
        Images that are finished, and all.
    n_computed : int
        Images computed at once; smaller than before when memory ran out.
    """

    number: int
    steps: Mapping[str, int]
    losses: Mapping[str, float]
    done: int
    total: int
    n_computed: int


@checked_with(unbounded=("threshold",))
def descend(
    objective: Objective | Sequence[Objective],
    ids: Sequence[str],
    prepare: Callable[[str], Start],
    *,
    threshold: float,
    steps: StepOptions,
    draft: Objective | Sequence[Objective] | None = None,
    confine: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    project: Callable[[Tensor], Tensor] = box,
    keys: Mapping[str, str] | None = None,
    run: RunOptions | None = None,
) -> dict[str, Descended]:
    """Lower the loss of each image by gradient steps until its score reaches the threshold.

    The score must reach it on the image rounded to 8 bits, too.

    Parameters
    ----------
    objective : callable or sequence of callable
        See `stimuli_gen.synthesis.objectives.Objective`. The losses of a batch are summed, never
        averaged. Of several, losses are added and the lowest score counts; their gradients are
        computed one after another, so that memory is that of one.
    ids : sequence of str
        Ids of the images to make.
    prepare : callable
        Id → `Start`; called when the image gets its slot.
    threshold : float
        An image is finished when its float version and its 8-bit version both score at least this.
    steps : StepOptions
        Number, length and kind of the steps.
    draft : callable or sequence of callable, optional
        Cheaper stand-ins, one for each objective. An image follows them until their score reaches
        the threshold or all but the last part of its steps (``steps.finish``) is taken, then the
        objectives; no image is finished on a draft's word.
    confine : callable, optional
        Applied after each step and before `project`; takes images and context, so it can use a
        center of the image.
    project : callable
        Applied after each step.
    keys : mapping of str to str, optional
        Id → digest of everything that changes its pixels; needed with ``run.resume``.
    run : RunOptions, optional
        How it is run, with the device of the objectives; the mode has no effect here.

    Returns
    -------
    dict of str to Descended
        In the order of `ids`.

    Raises
    ------
    InputError
        When ids repeat, a setting is wrong, a loss is not finite (the message names step and
        stimulus), or memory is too small for one image.
    KeyboardInterrupt
        On Ctrl-C, after unfinished images are saved.

    Notes
    -----
    ``run.batch_size`` images are in work at once, rounded up by `stimuli_gen.batches.batch_shape`;
    by default see `stimuli_gen.synthesis.batch.fitting_slots`. On a CPU, all sizes from 4 up give
    the same results; elsewhere another one rounds differently. Order of `ids`, companions and
    interruptions change nothing. When memory runs out, chunks are halved and the work goes on.

    The host asks the device nothing between two looks. It looks every ``run.look_every`` steps (by
    default see `stimuli_gen.synthesis.batch.Batch.passes_to_look`) where an image may be finished
    or somebody listens; else when images have taken their last step, are saved, and once a minute.
    How often it looks changes no image: all iterates since the last look are kept, and the first
    that reached the threshold is the one that counts. A loss that is not finite is told at a look,
    with its step. In the mode ``fast``, an image that leaves its draft waits for the next look.

    Each finished image is written to the folder ``run.resume`` at once, and one that is there is
    not made again. Unfinished ones are written once a minute and on Ctrl-C, and go on from there,
    bit for bit.

    ``run.progress`` is called with (images done, images in all) after each finished image is safe;
    ``run.on_step`` with a `Pass` at each look; ``run.on_frame`` with id, steps taken and image
    at the start, at steps in geometric progression, and at the end.

    Examples
    --------
    >>> import numpy as np
    >>> from stimuli_gen import StepOptions, descend
    >>> from stimuli_gen.synthesis.loop import Start
    >>> def distance_to_gray(images, context):
    ...     loss = (images - 0.5).flatten(1).norm(dim=1)
    ...     return loss, -loss
    >>> def black(stimulus_id):
    ...     return Start(image=np.zeros((3, 8, 8), dtype=np.float32), context={})
    >>> steps = StepOptions(step_size=0.5, max_steps=50)
    >>> result = descend(distance_to_gray, ["a"], black, threshold=-0.1, steps=steps)["a"]
    >>> result.reached, result.steps
    (True, 14)
    """
    if again := duplicates(ids):
        raise InputError(f"duplicate stimulus id(s): {name_ids(again)}; give each image its own.")
    run = run or RunOptions()
    objectives = Objectives(
        objective,
        draft,
        solver=steps.solver,
        turn=steps.turn,
        keep=steps.keep,
        rescore=steps.rescore,
    )
    plan = _Plan(
        objectives=objectives,
        threshold=threshold,
        steps=steps,
        confine=confine,
        project=project,
    )
    terms = Terms(
        optimizer=steps.optimizer,
        parametrization=steps.parametrization,
        max_steps=steps.max_steps,
        drafted=objectives.drafted,
        exact_from=steps.exact_from if objectives.drafted else 0,
    )
    checkpoint = Checkpoint(run.resume, keys)
    done = {stimulus_id: result for stimulus_id, (result, _) in checkpoint.finished(ids).items()}
    queue = deque(stimulus_id for stimulus_id in ids if stimulus_id not in done)
    if run.progress is not None and done:
        run.progress(len(done), len(ids))
    device = resolve_device(run.device)
    is_cpu, may_finish = device.type == "cpu", threshold < math.inf
    each_pass = run.look_every == 1 or (run.look_every is None and is_cpu)
    plan = replace(plan, waits=objectives.drafted and may_finish and not each_pass)
    listens = bool(run.on_step or run.on_frame)
    looks = Looks(run.look_every, has_news=is_cpu or may_finish or listens)
    with gradients_on(), checkpoint.at_work() as stop:
        batch = Batch(terms, queue, prepare, checkpoint, run.batch_size, device)
        while batch.chunks:
            list(batch.each(partial(_step, plan)))
            save = checkpoint.due() or stop.requested
            if not looks.due(batch, must=save):
                continue
            taken: dict[str, int] = {}
            losses: dict[str, float] = {}
            for chunk, seen in batch.each(partial(_look, plan, run.on_frame is not None)):
                taken |= seen.steps
                losses |= seen.losses
                seen.keep(done, checkpoint, run, len(ids))
                chunk.release(seen.finished)
            if run.on_step is not None:
                run.on_step(
                    Pass(
                        number=looks.n_passes,
                        steps=taken,
                        losses=losses,
                        done=len(done),
                        total=len(ids),
                        n_computed=batch.chunks[0].size,
                    )
                )
            batch.refill()
            if save or stop.requested:
                batch.save()
            if stop.requested:
                stop.stop()
    return {stimulus_id: done[stimulus_id] for stimulus_id in ids}


# ----------------------------------------------------------------------------------------- one pass


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """What is the same for all images; `waits`: those that leave their drafts wait for a look."""

    objectives: Objectives
    threshold: float
    steps: StepOptions
    confine: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None
    project: Callable[[Tensor], Tensor]
    waits: bool = False

    def may_finish(self, taken: int, drafts: bool | None) -> bool:
        """Say, as far as the host knows, whether an image might be finished after so many steps."""
        if drafts is not False:
            return False
        is_asked = self.threshold < np.inf and self.objectives.round_is_complete(taken)
        return is_asked or taken >= self.steps.max_steps

    def finished(
        self, chunk: Chunk, found: Mapping[str, np.ndarray], at_work: np.ndarray
    ) -> dict[str, Descended]:
        """Find the images that reached the threshold, rounded ones included, or have no steps left.

        Of the passes since the last look, the first in which an image did counts.
        """
        objectives, threshold = self.objectives, self.threshold
        taken = found["taken"].astype(int)
        late = taken >= self.steps.max_steps
        complete = np.array([[objectives.round_is_complete(own) for own in row] for row in taken])
        may = at_work & (found["counts"] == 1) & (late | complete)
        good = may & (found["score"] >= threshold)
        asked = good | (may & late)
        finished: dict[str, Descended] = {}
        slots = np.arange(chunk.size)
        while asked.any():
            first = asked.argmax(axis=0)  # 0 for a slot that is not asked about, and does not count
            images, context = chunk.at_passes(first)
            is_asked, is_good, is_late = (of[first, slots] for of in (asked, good, late))
            scores = found["score"][first, slots]
            score_shown = objectives.score(shown(images), context)
            scores_shown = score_shown.cpu().double().numpy()
            reached = is_good & (scores_shown >= threshold)
            given_up = is_asked & is_late & ~reached
            if self.steps.keep == "best" and given_up.any():
                not_good = torch.from_numpy(~reached).to(images.device)
                images = torch.where(not_good.view(-1, 1, 1, 1), chunk.best, images)
                scores = np.where(reached, scores, chunk.best_score.cpu().double().numpy())
                scores_shown = objectives.score(shown(images), context).cpu().double().numpy()
            for slot in np.flatnonzero(is_asked & (reached | is_late)):
                finished[str(chunk.ids[slot])] = Descended(
                    image=images[slot].cpu().contiguous().numpy().copy(),
                    score=float(scores[slot]),
                    score_shown=float(scores_shown[slot]),
                    steps=int(taken[first[slot], slot]),
                    reached=bool(reached[slot]),
                )
                asked[:, slot] = False
            asked[first, slots] = False
        return finished


def _step(plan: _Plan, chunk: Chunk) -> None:
    """Evaluate the images of a chunk, then let all of them take a step; the host learns nothing."""
    results = _evaluate(plan, chunk)
    if chunk.narrow is not None:
        narrow, _ = chunk.narrow
        again = _evaluate(plan, narrow)
        if chunk.settle(results, again):
            results = again
    loss, score, gradient = results
    drafting, context, is_exact = chunk.drafting(), chunk.full_context(), chunk.now_exact()
    counts = is_exact & ~chunk.waits if plan.waits else is_exact
    if plan.steps.keep == "best":
        chunk.remember(score, counts)
    hands_over = is_exact | (score >= plan.threshold)  # a draft is good enough
    own_score = score
    if not plan.objectives.direct and any(map(plan.may_finish, chunk.steps, drafting)):
        own_score = plan.objectives.score(chunk.images, context)
    numbers = [loss, own_score, chunk.taken, counts, chunk.waits, hands_over]
    number_type = torch.promote_types(loss.dtype, torch.float32)
    iterate = Iterate(
        images=chunk.images,
        taken=chunk.taken,
        numbers=torch.stack([row.to(number_type) for row in numbers]),
    )
    del loss, score, own_score, context
    direction = STEP_RULES[plan.steps.step_rule](chunk.space.pull(gradient))
    here = Situation(
        direction=direction,
        images=chunk.images,
        length=plan.steps.lengths(chunk.taken, chunk.numbers),
        taken=chunk.taken,
        numbers=chunk.numbers,
    )
    is_held = plan.waits and any(drafting)
    before = {name: kept.clone() for name, kept in chunk.state.items()} if is_held else {}
    change = OPTIMIZERS[plan.steps.optimizer](here, chunk.state)

    def move(rows: slice) -> Tensor:
        moved = chunk.images[rows] - chunk.space.push(change[rows])
        if plan.confine is not None:
            context = {name: value[rows] for name, value in chunk.context.items()}
            moved = plan.confine(moved, context)
        moved = plan.project(moved)
        if is_held:
            waits = chunk.waits[rows].view(-1, 1, 1, 1)
            moved = torch.where(waits, chunk.images[rows], moved)
        return moved

    # in parts where memory runs out: the optimizer has moved on, so the whole step cannot be taken
    # again
    parts = Parts(chunk.size, tuple(change.shape[2:]), change.device)
    moved = parts(move)
    chunk.advance(iterate, moved, before, hands_over, waits=plan.waits)


def _evaluate(plan: _Plan, chunk: Chunk) -> tuple[Tensor, Tensor, Tensor]:
    return plan.objectives.evaluate(
        chunk.images, chunk.full_context(), chunk.steps, chunk.drafting(), chunk.now_exact()
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What a look at a chunk told: steps and losses are those of the last pass."""

    steps: dict[str, int]
    losses: dict[str, float]
    finished: dict[str, Descended]
    frames: list[tuple[str, int, np.ndarray]]

    def keep(
        self, done: dict[str, Descended], checkpoint: Checkpoint, run: RunOptions, total: int
    ) -> None:
        """Keep the images that are finished, and tell those who listen."""
        for stimulus_id, result in self.finished.items():
            checkpoint.put(stimulus_id, result)
            done[stimulus_id] = result
            if run.progress is not None:
                run.progress(len(done), total)
        if run.on_frame is not None:
            for frame in self.frames:
                run.on_frame(*frame)


def _look(plan: _Plan, with_frames: bool, chunk: Chunk) -> _Seen:
    """Read what the passes since the last look found, and take out the images that are finished."""
    found = chunk.read()
    at_work = found["waits"] == 0
    at_work &= np.array([stimulus_id is not None for stimulus_id in chunk.ids])
    steps: dict[str, int] = {}
    losses: dict[str, float] = {}
    for number, slot in np.argwhere(at_work).tolist():
        stimulus_id = str(chunk.ids[slot])
        value, taken = float(found["loss"][number, slot]), int(found["taken"][number, slot])
        if not math.isfinite(value):
            raise InputError(
                f"the loss of '{stimulus_id}' is {value} at step {taken}; use a smaller step "
                "size, and check the network with check_model. Finished images are kept."
            )
        steps[stimulus_id], losses[stimulus_id] = taken, value
    finished = plan.finished(chunk, found, at_work)
    frames = chunk.frames(found, at_work, finished) if with_frames else []
    chunk.looked_at({name: values[-1] for name, values in found.items()})
    return _Seen(steps=steps, losses=losses, finished=finished, frames=frames)
