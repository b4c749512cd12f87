"""Metamers that survive their file: descent on the images that an 8-bit PNG can hold.

Rounding to 8 bits is noise of about a third of a gray level on every pixel, and a match that is
close enough as float pixels may not be so once rounded. But each pixel can be rounded up or down,
and some of these choices match better than others. Here the objective sees the rounded image while
its gradient moves the float pixels behind it (the straight-through estimate), until the rounded
image itself meets what is asked.

References
----------
Bengio, Y., Léonard, N. & Courville, A. (2013). Estimating or propagating gradients through
stochastic neurons. arXiv 1308.3432 (straight-through estimate).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurometamer.errors import InputError
from neurometamer.provenance import digest
from neurometamer.run_options import RunOptions
from stimuli_gen.categories import CATEGORIES, N_IMAGENET, sixteen_classes, to_sixteen
from stimuli_gen.criteria import Judgment, judged_at_once, top_class
from stimuli_gen.matching import Match
from stimuli_gen.models import predict
from stimuli_gen.stimuli import StimulusSet, from_8bit, to_8bit
from stimuli_gen.synthesis.loop import Objective, Start, StepOptions, descend, shown

ROUND_STEPS = 20
"""Steps before the images are judged again."""
STEP_LEVELS = 0.01
"""First step of every pixel, along the sign of its gradient, in gray levels; halved each round.
About one pixel in a hundred is then rounded to another level. (SqueezeNet at features.9: 60 steps
halve the error that rounding brings; steps of one L2 norm do as well at best, ten times longer ones
undo it.)"""
LEAD = 1e-3
"""By how much the wanted class must lead, in standard deviations of the logits, so that another
batch agrees."""
PUSH = 0.05
"""Up to which lead the wanted class is pushed."""


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return shown(images)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def through_rounding(images: Tensor) -> Tensor:
    """Round to 8 bits with the gradient of the identity.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width) in [0, 1].

    Returns
    -------
    Tensor
        Exactly the values of a PNG; what changes them changes `images` alike.
    """
    rounded: Tensor = _Rounded.apply(images)
    return rounded


# ------------------------------------------------------------------------------------ what is asked


def asked_of(
    match: Match, *, error: float, top_class: int, category: int = -1
) -> dict[str, np.ndarray]:
    """Say what the file of an image must meet for one network.

    Parameters
    ----------
    match : Match
        The network and its stages.
    error : float
        Largest ‖a' - a‖ / ‖a‖, above 0.
    top_class : int
        The class that must come first.
    category : int
        Place in `stimuli_gen.categories.CATEGORIES` of the category that must come first; -1 for
        any.

    Returns
    -------
    dict of str to ndarray
        For the context of `file_objectives`.
    """
    name = match.model.name
    return {
        f"{name}, asked error": np.asarray(error, dtype=np.float32),
        f"{name}, asked class": np.asarray(top_class),
        f"{name}, asked category": np.asarray(category),
    }


def file_objectives(matches: Sequence[Match]) -> list[Objective]:
    """Make one objective a network, of the rounded image.

    Parameters
    ----------
    matches : sequence of Match
        Stages that are to be matched.

    Returns
    -------
    list of callable
        See `stimuli_gen.synthesis.loop.Objective`. Loss: the error, and while the wanted class or
        category does not lead, what is missing. Score: at least 0 when all that `asked_of` asks is
        met. The context also holds the anchors.
    """

    def _evaluate(
        images: Tensor,
        context: Mapping[str, Tensor],
        *,
        match: Match,
        categories: Sequence[Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        name = match.model.name
        seen = through_rounding(images)
        error = match.error(seen, context)
        share = 1 - error / context[f"{name}, asked error"]
        if not match.model.has_classes:
            return error, share
        logits = match.model.logits(seen)
        tiny = torch.finfo(logits.dtype).tiny
        scale = logits.detach().std(dim=1).clamp_min(tiny)
        lead = _lead(logits, context[f"{name}, asked class"]) / scale
        if categories is not None:
            wanted = context[f"{name}, asked category"]
            best = _best_of_categories(logits, categories)
            of_sixteen = _lead(best, wanted.clamp_min(0)) / scale
            of_sixteen = torch.where(wanted >= 0, of_sixteen, torch.inf)
            lead = torch.minimum(lead, of_sixteen)
        score = torch.minimum(share, lead - LEAD)
        return error + (PUSH - lead).relu(), score

    objectives: list[Objective] = []
    for match in matches:
        categories = _classes_of_categories(match)
        objectives.append(partial(_evaluate, match=match, categories=categories))
    return objectives


def _lead(values: Tensor, wanted: Tensor) -> Tensor:
    """Compute by how much the wanted column is above the best of the others: (b,)."""
    n_columns = values.shape[1]
    is_wanted = torch.nn.functional.one_hot(wanted, n_columns).bool()
    others = values.masked_fill(is_wanted, -torch.inf)
    best_other = others.amax(dim=1)
    return values[is_wanted] - best_other


def _classes_of_categories(match: Match) -> list[Tensor] | None:
    """List the classes of each of the 16 categories; None without ImageNet's classes."""
    if match.model.n_classes != N_IMAGENET or not match.model.has_classes:
        return None
    table = sixteen_classes()
    classes = []
    for category in CATEGORIES:
        indices = [index for index, of_class in table.items() if of_class == category]
        classes.append(torch.tensor(indices, device=match.model.device))
    return classes


def _best_of_categories(logits: Tensor, classes: Sequence[Tensor]) -> Tensor:
    """Find the best logit of each category's classes, (b, 16).

    The category with the largest is that of the rule ``first_mapped``.
    """
    best = []
    for indices in classes:
        of_category = logits[:, indices]
        best.append(of_category.amax(dim=1))
    return torch.stack(best, dim=1)


# ------------------------------------------------------------------------------------------ mending


@dataclass(frozen=True, kw_only=True, eq=False)
class Mended:
    """What became of an image whose file did not meet the criteria.

    Parameters
    ----------
    image : ndarray, optional
        (3, height, width) float32, values that a PNG holds exactly; None when no such image was
        found.
    steps : int
        Gradient steps taken.
    """

    image: np.ndarray | None
    steps: int


def mend_files(
    objective: Sequence[Objective],
    images: Mapping[str, np.ndarray],
    ask: Callable[[Mapping[str, np.ndarray]], Mapping[str, Mapping[str, np.ndarray]]],
    context: Callable[[str], Mapping[str, np.ndarray | Tensor]],
    *,
    rounds: int,
    round_steps: int = ROUND_STEPS,
    confine: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    keys: Mapping[str, str] | None = None,
    run: RunOptions | None = None,
) -> dict[str, Mended]:
    """Go on with images whose files do not meet the criteria, until the files do.

    Parameters
    ----------
    objective : sequence of callable
        See `file_objectives`: they look at the rounded image, and score at least 0 when it is good.
    images : mapping of str to ndarray
        Id → (3, height, width) float32 in [0, 1].
    ask : callable
        Images by id → for those whose rounded version is not good yet, what the next round asks
        (`asked_of`). It has the last word; what only it can judge (ranks) may lower the error that
        is asked round by round.
    context : callable
        Id → what else the objectives must know (anchors, center of the ball).
    rounds : int
        At most; 0 for none.
    round_steps : int
        Steps in a round.
    confine : callable, optional
        See `stimuli_gen.synthesis.loop.descend`.
    keys : mapping of str to str, optional
        Id → digest of what made the image; needed with ``run.resume``.
    run : RunOptions, optional
        See `stimuli_gen.synthesis.loop.descend`.

    Returns
    -------
    dict of str to Mended
        One for each image.

    Raises
    ------
    InputError
        When `rounds` or `round_steps` is out of range, or as `stimuli_gen.synthesis.loop.descend`.

    Notes
    -----
    Of no paper. Every pixel takes steps of one length (`STEP_LEVELS`), halved from round to round;
    each round begins at the best image of the one before.
    """
    if rounds < 0 or round_steps < 1:
        raise InputError(
            f"rounds ({rounds}) must not be negative, and have at least 1 step, not {round_steps}; "
            "give rounds from 0 and round_steps from 1 on."
        )
    behind = dict(images)
    taken = dict.fromkeys(images, 0)
    wanted = ask(behind) if rounds else {reference_id: {} for reference_id in images}

    def _start_of(reference_id: str) -> Start:  # of the round at hand
        asked = {**context(reference_id), **wanted[reference_id]}
        image = behind[reference_id]
        return Start(image=image, context=asked)

    for number in range(rounds):
        if not wanted:
            break
        length = STEP_LEVELS / 255 * 0.5**number
        results = descend(
            objective,
            list(wanted),
            _start_of,
            threshold=0.0,
            steps=StepOptions(step_size=length, step_rule="sign", max_steps=round_steps),
            confine=confine,
            keys=_keys(wanted, behind, keys, length, round_steps),
            run=run,
        )
        for reference_id, result in results.items():
            behind[reference_id] = result.image
            taken[reference_id] += result.steps
        wanted = ask({reference_id: behind[reference_id] for reference_id in wanted})
    mended = {}
    for reference_id in images:
        image = None
        if reference_id not in wanted:
            image = from_8bit(to_8bit(behind[reference_id]))
        mended[reference_id] = Mended(image=image, steps=taken[reference_id])
    return mended


def _keys(
    wanted: Mapping[str, Mapping[str, np.ndarray]],
    images: Mapping[str, np.ndarray],
    keys: Mapping[str, str] | None,
    length: float,
    round_steps: int,
) -> dict[str, str] | None:
    """Hash what makes a round's image: the whole image before it, and what is asked."""
    if keys is None:
        return None
    of_round = {}
    for reference_id, values in wanted.items():
        numbers = {name: value.item() for name, value in values.items()}
        of_round[reference_id] = digest(
            "file", keys[reference_id], images[reference_id], numbers, length, round_steps
        )
    return of_round


# ----------------------------------------------------------------------------------------- metamers


def mend_metamers(
    matches: Sequence[Match],
    stimuli: StimulusSet,
    references: StimulusSet,
    judgment: Judgment,
    judge: Callable[[StimulusSet, StimulusSet], Judgment],
    context: Callable[[str], Mapping[str, np.ndarray | Tensor]],
    *,
    rounds: int,
    **run: Any,
) -> StimulusSet:
    """Continue metamers that meet their criteria only as float pixels.

    Those whose files then meet the criteria replace the former ones.

    Parameters
    ----------
    matches : sequence of Match
        What of each network is matched.
    stimuli : StimulusSet
        Metamers, with the column ``file_steps``.
    references : StimulusSet
        Their photographs, row by row.
    judgment : Judgment
        On all of them.
    judge : callable
        Metamers and their photographs → judgment.
    context : callable
        Photograph's id → anchors, and the center of the ball.
    rounds : int
        See `mend_files`.
    **run : object
        `mend_files`'s other settings; ``keys`` by photograph.

    Returns
    -------
    StimulusSet
        With ``file_steps``; an image whose file did not become good is as it was.
    """
    images = np.array(stimuli.images)
    row_of, broken = {}, {}
    for row in np.flatnonzero(judgment.only_in_float).tolist():
        reference_id = references.ids[row]
        row_of[reference_id] = row
        broken[reference_id] = images[row]
    ask = _Asking(matches, stimuli, references, judge, row_of)
    objectives = file_objectives(matches)
    results = mend_files(objectives, broken, ask, context, rounds=rounds, **run)
    steps = stimuli.table["file_steps"].to_numpy(copy=True)
    for reference_id, mended in results.items():
        row = row_of[reference_id]
        steps[row] = mended.steps
        if mended.image is not None:
            images[row] = mended.image
    return replace(stimuli, images=images, table=stimuli.table.assign(file_steps=steps))


class _Asking:
    """Say what the files of images do not meet yet, as `mend_files` wants to know."""

    def __init__(
        self,
        matches: Sequence[Match],
        stimuli: StimulusSet,
        references: StimulusSet,
        judge: Callable[[StimulusSet, StimulusSet], Judgment],
        row_of: Mapping[str, int],
    ) -> None:
        self._matches = matches
        self._stimuli = stimuli
        self._references = references
        self._judge = judge
        self._row_of = row_of
        self._position = {}
        for position, reference_id in enumerate(row_of):
            self._position[reference_id] = position
        chosen = references.select(ids=list(row_of))
        photographs = chosen.images
        self._classes = {}
        self._categories = {}
        for match in matches:
            model = match.model
            indices = [-1] * len(photographs)
            if model.n_classes == N_IMAGENET and model.has_classes:
                probabilities = predict(model, photographs, judged_at_once(model.device))
                names = to_sixteen(probabilities)
                indices = [CATEGORIES.index(name) for name in names]
            self._classes[model.name] = top_class(model, photographs)
            self._categories[model.name] = indices

    def __call__(self, images: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
        names = [self._stimuli.ids[self._row_of[reference_id]] for reference_id in images]
        pixels = np.stack(list(images.values()))
        part = replace(self._stimuli.select(ids=names), images=pixels)
        references = self._references.select(ids=list(images))
        judgment = self._judge(part, references)
        limits = part.table["max_error"].to_numpy(dtype=float)
        nulls = any(name.startswith("valid") for name in judgment.columns)
        wanted: dict[str, dict[str, np.ndarray]] = {}
        for row, reference_id in enumerate(images):
            if not judgment.reasons["png"][row]:
                continue
            wanted[reference_id] = {}
            for match in self._matches:
                name = match.model.name
                loss = judgment.losses[name][row]
                position = self._position[reference_id]
                error = limits[row] * (1 - 1e-4)  # another batch size rounds otherwise
                if judgment.below_null[name][row]:
                    error = np.fmin(error, 0.8 * loss)
                elif nulls or np.isnan(limits[row]):
                    error = np.fmin(error, loss)
                category = self._categories[name][position] if nulls else -1
                wanted[reference_id] |= asked_of(
                    match,
                    error=float(error),
                    top_class=int(self._classes[name][position]),
                    category=category,
                )
        return wanted
