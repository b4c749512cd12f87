"""Evaluate what the images of a batch follow.

It is one objective, several together or in turn, or cheap drafts of them first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from neurometamer.errors import InputError, unknown_name

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
                f"need at least one objective ({len(self._exact)}) and one step a turn ({turn})."
            )
        if draft is not None and len(drafts) != len(self._exact):
            raise InputError(
                f"{len(drafts)} draft(s) of {len(self._exact)} objective(s); give one for each."
            )
        self._turn = turn
        self._in_turn = solver == "round_robin" and len(self._exact) > 1
        self._rescore = rescore
        if keep == "best" and (self._in_turn or rescore):
            what = (
                "objectives in turn have"
                if self._in_turn
                else "scores that are not the image's own give"
            )
            raise InputError(f"{what} no best iterate; use keep='last'.")
        self.drafted = bool(drafts)
        self._groups = self._cut(self._exact) + self._cut(drafts)

    def _cut(self, objectives: tuple[Objective, ...]) -> list[tuple[Objective, ...]]:
        if self._in_turn or not objectives:
            return [(objective,) for objective in objectives]
        return [objectives]

    @property
    def direct(self) -> bool:
        """Whether the score of a pass with gradients is that of the image.

        Returns
        -------
        bool
            False for objectives in turn and where it is to be computed again.
        """
        return not (self._in_turn or self._rescore)

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
        return not self._in_turn or steps % (self._turn * len(self._exact)) == 0

    def evaluate(
        self,
        images: Tensor,
        context: Mapping[str, Tensor],
        steps: Sequence[int],
        drafting: Sequence[bool | None],
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

        Returns
        -------
        loss, score : Tensor
            (b,) each.
        gradient : Tensor
            As the images.
        """
        round_length = len(self._cut(self._exact))
        whose = [
            None
            if draft is None
            else (taken // self._turn) % round_length + (round_length if draft else 0)
            for taken, draft in zip(steps, drafting, strict=True)
        ]
        needed = sorted({group for group in whose if group is not None})
        loss, score, gradient = _sum(self._groups[needed[0]], images, context)
        for group in needed[1:]:  # images that began at other times are elsewhere
            mine = torch.tensor([followed == group for followed in whose], device=loss.device)
            more = _sum(self._groups[group], images, context)
            loss, score = torch.where(mine, more[0], loss), torch.where(mine, more[1], score)
            gradient = torch.where(mine.view(-1, 1, 1, 1), more[2], gradient)
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
        with torch.no_grad():
            scores = [objective(images, context)[1] for objective in self._exact]
        return scores[0] if len(scores) == 1 else torch.stack(scores).amin(dim=0)


def _several(objective: Objective | Sequence[Objective]) -> tuple[Objective, ...]:
    return (objective,) if callable(objective) else tuple(objective)


def _sum(
    group: Sequence[Objective], images: Tensor, context: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate objectives one after another, so that memory is that of one."""
    loss, score, gradient = _one(group[0], images, context)
    for objective in group[1:]:
        more = _one(objective, images, context)
        loss, score, gradient = loss + more[0], torch.minimum(score, more[1]), gradient + more[2]
    return loss, score, gradient


def _one(
    objective: Objective, images: Tensor, context: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    images = images.detach().requires_grad_(True)
    loss, score = objective(images, context)
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    return loss.detach(), score.detach(), gradient
