"""Nguyen's step rule: each step is as long as the rise of the probability that is wanted of it.

References
----------
Nguyen, A., Yosinski, J. & Clune, J. (2015). Deep neural networks are easily fooled. CVPR; public
code ``Evolving-AI-Lab/fooling``, gradient ascent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError
from neurometamer.summaries import short_repr
from stimuli_gen.synthesis.loop import Objective, box


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
        if not (self.early > 0 and self.late > 0 and self.max_rate > 0 and 0 <= self.decay < 1):
            raise InputError(
                f"early, late and max_rate must be above 0 and decay in [0, 1); came: {self}."
            )


class Progressing:
    """An objective that scales its own gradient.

    Its loss is minus a probability, its score the probability.

    With the step rule ``raw`` and the step size 1, the loop of `stimuli_gen.synthesis.loop` then
    makes Nguyen's steps.

    Parameters
    ----------
    objective : callable
        Loss -p, score p, see `stimuli_gen.synthesis.loop.Objective`.
    progress : Progress
        The rule.
    mean : Tensor
        (3, 1, 1) or (3, height, width): image toward which the decay pulls, pixels in [0, 1].
    """

    def __init__(self, objective: Objective, progress: Progress, mean: Tensor) -> None:
        self._objective, self._rule, self._mean = objective, progress, mean

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
        held.register_hook(lambda gradient: gradient * self._rate(gradient, score.detach()))
        return loss, score

    def _rate(self, gradient: Tensor, score: Tensor) -> Tensor:
        """Compute the rate of each image, (b, 1, 1, 1).

        On the scale of 0 to 255, g is 255 times smaller and the step 255 times larger, so 255²
        cancels.
        """
        wanted = torch.clamp(self._rule.late * (1 - score), max=self._rule.early)
        square = (
            gradient.double()
            .square()
            .flatten(1)
            .sum(dim=1)
            .clamp_min(torch.finfo(torch.float64).tiny)
        )
        return (
            (wanted / square).clamp(max=self._rule.max_rate / 255**2).to(gradient).view(-1, 1, 1, 1)
        )

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
        return box(self._mean + (images - self._mean) * (1 - self._rule.decay))
