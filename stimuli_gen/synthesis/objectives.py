"""Evaluate what the images of a batch follow.

It is one objective, several together or in turn, or cheap drafts of them first. An objective may
scale its own gradient, as that of Nguyen's steps does.

References
----------
Nguyen, A., Yosinski, J. & Clune, J. (2015). Deep neural networks are easily fooled. CVPR; public
code ``Evolving-AI-Lab/fooling``, gradient ascent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, unknown_name
from neurometamer.summaries import short_repr
from stimuli_gen.precision import has_float64
from stimuli_gen.synthesis.constraints import box

Objective = Callable[[Tensor, Mapping[str, Tensor]], tuple[Tensor, Tensor]]
"""(images (b, 3, height, width), context) → per-image loss (b,), to be lowered, and per-image score
(b,), to reach the threshold. Neither may mix images. The context holds what `Start.context` gave,
stacked over images, and ``step`` (b,): the steps that each has taken."""

SOLVERS = ("joint", "round_robin")
KEEP = ("best", "last")


class Objectives:
    """The objectives, and which of them an image follows now.

    Parameters
    ----------
    objective : callable or sequence of callable
        Exact objectives.
    draft : callable or sequence of callable, optional
        Cheaper stand-ins, one for each.
    solver : {"joint", "round_robin"}
        The sum of their gradients, or each in turn.
    turn : int
        Steps that one objective has before the next.
    keep : {"best", "last"}
        Iterate that is kept.
    rescore : bool
        Whether the score of a pass with gradients is not the image's own.

    Raises
    ------
    InputError
        When these do not fit each other.
    """

    def __init__(
        self,
        objective: Objective | Sequence[Objective],
        draft: Objective | Sequence[Objective] | None,
        *,
        solver: str,
        turn: int,
        keep: str,
        rescore: bool,
    ) -> None:
        self._exact = _several(objective)
        drafts = () if draft is None else _several(draft)
        if solver not in SOLVERS:
            raise unknown_name("solver", solver, SOLVERS)
        if keep not in KEEP:
            raise unknown_name("iterate to keep", keep, KEEP)
        if not self._exact or turn < 1:
            raise InputError(
                f"need at least one objective ({len(self._exact)}) and one step a turn ({turn}); "
                "give more."
            )
        if draft is not None and len(drafts) != len(self._exact):
            raise InputError(
                f"{len(drafts)} draft(s) of {len(self._exact)} objective(s); give one for each."
            )
        self._turn = turn
        self._in_turn = solver == "round_robin" and len(self._exact) > 1
        self._rescore = rescore
        if keep == "best" and not self.direct:
            what = "scores that are not the image's own give"
            if self._in_turn:
                what = "objectives in turn have"
            raise InputError(f"{what} no best iterate; use keep='last'.")
        self.drafted = bool(drafts)
        self._groups: list[tuple[Objective, ...]] = []
        for objectives in (self._exact, drafts):
            if self._in_turn:
                self._groups += [(alone,) for alone in objectives]
            elif objectives:
                self._groups.append(objectives)

    @property
    def direct(self) -> bool:
        """Whether the score of a pass with gradients is that of the image.

        Returns
        -------
        bool
            False for objectives in turn and where it is to be computed again.
        """
        return not self._in_turn and not self._rescore

    def round_is_complete(self, steps: int) -> bool:
        """Tell whether an image that has taken so many steps may be finished.

        Parameters
        ----------
        steps : int
            Steps taken.

        Returns
        -------
        bool
            After each full round of objectives in turn; always otherwise.
        """
        if not self._in_turn:
            return True
        round_length = self._turn * len(self._exact)
        return steps % round_length == 0

    def evaluate(
        self,
        images: Tensor,
        context: Mapping[str, Tensor],
        steps: Sequence[int],
        drafting: Sequence[bool | None],
        is_exact: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute loss, score, and the gradient for the images only.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width).
        context : mapping of str to Tensor
            Context of the images.
        steps : sequence of int
            Steps taken by each image.
        drafting : sequence of bool or None
            Whether each follows the drafts; None for a slot without an image, whose numbers do not
            count.
        is_exact : Tensor
            (b,) bool: the same on the device of the images; those that follow the drafts are False.

        Returns
        -------
        loss, score : Tensor
            (b,) each.
        gradient : Tensor
            As the images.
        """
        n_exact = len(self._exact) if self._in_turn else 1
        followed: list[int | None] = []  # number of the group that each image follows
        for taken, draft in zip(steps, drafting, strict=True):
            group = (taken // self._turn) % n_exact
            if draft is None:
                followed.append(None)
            elif draft:
                followed.append(group + n_exact)
            else:
                followed.append(group)
        first, *others = sorted({group for group in followed if group is not None})
        loss, score, gradient = _sum(self._groups[first], images, context)
        if not others:
            return loss, score, gradient
        own_group = (context["step"] // self._turn) % n_exact
        own_group = torch.where(is_exact, own_group, own_group + n_exact)
        for group in others:  # images that began at other times are elsewhere
            mine = own_group == group
            more_loss, more_score, more_gradient = _sum(self._groups[group], images, context)
            loss = torch.where(mine, more_loss, loss)
            score = torch.where(mine, more_score, score)
            gradient = torch.where(mine.view(-1, 1, 1, 1), more_gradient, gradient)
        return loss, score, gradient

    def score(self, images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """Compute the lowest score of all exact objectives.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width).
        context : mapping of str to Tensor
            Context of the images.

        Returns
        -------
        Tensor
            (b,).
        """
        scores = []
        with torch.no_grad():
            for objective in self._exact:
                _, score = objective(images, context)
                scores.append(score)
        if len(scores) == 1:
            return scores[0]
        return torch.stack(scores).amin(dim=0)


def _several(objective: Objective | Sequence[Objective]) -> tuple[Objective, ...]:
    if callable(objective):
        return (objective,)
    return tuple(objective)


def _sum(
    group: Sequence[Objective], images: Tensor, context: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate objectives one after another, so that memory is that of one."""
    results: list[Tensor] = []
    for objective in group:
        leaf = images.detach().requires_grad_(True)
        loss, score = objective(leaf, context)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        if results:
            results[0] = results[0] + loss.detach()
            results[1] = torch.minimum(results[1], score.detach())
            results[2] = results[2] + gradient
        else:
            results = [loss.detach(), score.detach(), gradient]
    loss, score, gradient = results
    return loss, score, gradient


# ---------------------------------------------------------------------------------- Nguyen's steps


@short_repr
@dataclass(frozen=True, kw_only=True)
class Progress:
    """Length of a step: rate = min(max_rate, rise / ‖g‖²), rise = min(early, late · (1 - p)).

    The defaults are those of the public code; its run without regularization has decay 0, early
    .02, max_rate 1e7.

    Parameters
    ----------
    early : float
        Rise of the probability p that a step should bring while p is low.
    late : float
        Share of the missing probability that a step should bring at most.
    max_rate : float
        Largest rate, for pixels of 0 to 255.
    decay : float
        After each step the image minus the mean image is multiplied by 1 - decay; in [0, 1).

    Raises
    ------
    InputError
        When a value makes no sense.

    Examples
    --------
    >>> from stimuli_gen import Progress
    >>> Progress(decay=0.0)
    Progress(decay=0.0)
    """

    early: float = 0.03
    late: float = 0.1
    max_rate: float = 1e12
    decay: float = 0.01

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("early", "late", "max_rate"):
            rate = getattr(self, name)
            if not rate > 0:
                raise InputError(f"{name} is {rate:g}; give a number above 0.")
        decay = self.decay
        if not 0 <= decay < 1:
            raise InputError(f"decay is {decay:g}; give a number from 0 on and below 1.")


class Progressing:
    """An objective that scales its own gradient.

    Its loss is minus a probability, its score the probability.

    With the step rule ``raw`` and the step size 1, the loop of `stimuli_gen.synthesis.loop` then
    makes Nguyen's steps.

    Parameters
    ----------
    objective : callable
        Loss -p, score p, see `Objective`.
    progress : Progress
        The rule.
    mean : Tensor
        (3, 1, 1) or (3, height, width): image toward which the decay pulls, pixels in [0, 1].
    """

    def __init__(self, objective: Objective, progress: Progress, mean: Tensor) -> None:
        self._objective = objective
        self._rule = progress
        self._mean = mean
        self._in_double = has_float64(mean.device)

    def __call__(self, images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Evaluate; the gradient that reaches the images is rate · g for pixels in [0, 1].

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width).
        context : mapping of str to Tensor
            Context of the objective.

        Returns
        -------
        loss, score : Tensor
            (b,) each.
        """
        if not images.requires_grad:
            return self._objective(images, context)
        held = images.clone()
        loss, score = self._objective(held, context)
        probability = score.detach()

        def scaled(gradient: Tensor) -> Tensor:
            # on the scale of 0 to 255, g is 255 times smaller and the step 255 times larger, so
            # 255² cancels
            wanted = torch.clamp(self._rule.late * (1 - probability), max=self._rule.early)
            rate = self.rate(wanted, gradient)
            rate = rate.clamp(max=self._rule.max_rate / 255**2)
            return gradient * rate.to(gradient).view(-1, 1, 1, 1)

        held.register_hook(scaled)
        return loss, score

    def rate(self, wanted: Tensor, gradient: Tensor) -> Tensor:
        """Divide what is wanted by the squared norm of each gradient.

        In float32, the square of a small gradient is 0: where the device has no float64, the
        gradient is divided by its largest value first, and the rate by that afterwards, twice.

        Parameters
        ----------
        wanted : Tensor
            (b,): rise of the probability.
        gradient : Tensor
            (b, 3, height, width).

        Returns
        -------
        Tensor
            (b,).
        """
        values = gradient.flatten(1)
        if self._in_double:
            tiny = torch.finfo(torch.float64).tiny
            square = values.double().square().sum(dim=1)
            return wanted / square.clamp_min(tiny)
        tiny = torch.finfo(torch.float32).tiny
        largest = values.abs().amax(dim=1).clamp_min(tiny)
        square = (values / largest[:, None]).square().sum(dim=1)
        return wanted / square.clamp_min(tiny) / largest / largest

    def project(self, images: Tensor) -> Tensor:
        """Decay toward the mean image and clip.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width).

        Returns
        -------
        Tensor
            In [0, 1].
        """
        change = images - self._mean
        kept = 1 - self._rule.decay
        change = change * kept
        return box(self._mean + change)
