"""Images made for two networks: where they begin, how they move, and what is written of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, name_ids, need_columns, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr
from stimuli_gen.batches import arithmetic, images_by_id
from stimuli_gen.matching import network_set
from stimuli_gen.models import StagedModel
from stimuli_gen.presets import STARTS
from stimuli_gen.stimuli import StimulusSet, to_8bit
from stimuli_gen.synthesis.checkpoint import stacked
from stimuli_gen.synthesis.loop import Descended, Objective, Start, StepOptions, descend

KIND = "controversial"
SLACK = 0.01
"""Part of what is allowed that is kept in hand while an image is made, so that the rounding
differences of another batch shape or device cannot turn a success into a failure when the PNG is
read back."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Search:
    """Where an image on which networks disagree begins, and how it moves.

    None of these numbers is in the papers, whose steps are taken otherwise.

    Parameters
    ----------
    start : str
        First image: noise, a gray level, or the photograph (``"reference"``), see
        `stimuli_gen.presets.STARTS`. Golan et al. (2020) begin with uniform noise.
    start_level, start_spread : float
        Level and spread of the start; pixels in [0, 1].
    pull : float
        Weight of the squared L2 distance to the first image; 0 for none.
    parametrization : {"pixels", "fourier"}
        What steps move. Fourier steps make images look natural whatever the networks respond to.
    step_rule : {"l2", "sign", "raw"}
        What is done to the gradient before a step. See `stimuli_gen.synthesis.loop.STEP_RULES`.
    optimizer : {"sgd", "momentum", "adam"}
        How steps follow from gradients. See `stimuli_gen.synthesis.loop.OPTIMIZERS`.
    step_size : float
        Length of a step, in the unit of the step rule.
    max_steps : int
        Steps after which an image is given up; it stays in the set with ``success = False``.

    Raises
    ------
    InputError
        When a name is unknown or a number out of range.

    Examples
    --------
    >>> from stimuli_gen.pairs import Search
    >>> Search(start="reference").image_prior
    'begins as the photograph'
    """

    start: str = "uniform"
    start_level: float = 0.5
    start_spread: float = 0.5
    pull: float = 0.0
    parametrization: str = "pixels"
    step_rule: str = "l2"
    optimizer: str = "sgd"
    step_size: float = 1.0
    max_steps: int = 500

    def __post_init__(self) -> None:
        check_fields(self)
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        for name in ("start_spread", "pull"):
            value = getattr(self, name)
            if value < 0:
                raise InputError(f"{name} must not be negative, not {value}; give 0 or more.")
        self.steps()  # checks the rest

    @property
    def image_prior(self) -> str:
        """Say what makes images look natural whatever the networks respond to.

        Returns
        -------
        str
            ``"none"``, or the priors between semicolons.
        """
        priors = []
        if self.start == "reference":
            priors.append("begins as the photograph")
        if self.parametrization == "fourier":
            priors.append("Fourier steps (1/f amplitudes, colors of photographs)")
        return "; ".join(priors) or "none"

    def steps(self) -> StepOptions:
        """Say to the loop how steps are taken.

        Returns
        -------
        StepOptions
            The best iterate is kept.
        """
        return StepOptions(
            step_size=self.step_size,
            max_steps=self.max_steps,
            step_rule=self.step_rule,
            optimizer=self.optimizer,
            parametrization=self.parametrization,
        )

    def starts(self, references: StimulusSet, seed: int) -> Callable[[str], np.ndarray]:
        """Make first images, each from its own generator.

        Parameters
        ----------
        references : StimulusSet
            Photographs.
        seed : int
            Seed of the noise.

        Returns
        -------
        callable
            Reference id → (3, height, width) float32 in [0, 1].
        """
        photograph_of = images_by_id(references)

        def _start(reference_id: str) -> np.ndarray:
            random = generator(seed, "controversial start", reference_id)
            photograph = photograph_of(reference_id)
            make = STARTS[self.start]
            first = make(photograph, random, self.start_level, self.start_spread)
            return np.clip(first, 0, 1).astype(np.float32)

        return _start


def two_networks(models: Sequence[StagedModel]) -> tuple[StagedModel, StagedModel]:
    """Check that two networks are given that can see the same images.

    Parameters
    ----------
    models : sequence of StagedModel
        Networks.

    Returns
    -------
    tuple of StagedModel
        The two.

    Raises
    ------
    InputError
        When there are others than two, or names repeat, or input sizes or devices differ, or both
        are the same network.
    """
    networks = network_set(models)
    if len(networks) != 2:
        names = name_ids([network.name for network in networks])
        raise InputError(
            f"images are made for two networks, not {len(networks)} ({names}); give two."
        )
    first, second = networks
    if first.network_digest == second.network_digest:
        raise InputError(
            f"{first.name} and {second.name} are the same network with the same weights, and "
            "cannot disagree; give two."
        )
    return first, second


def search_images(
    models: Sequence[StagedModel],
    references: StimulusSet,
    settings: Mapping[str, Any],
    search: Search,
    *,
    objective: Objective,
    draft: Objective | None,
    threshold: float,
    context_of: Callable[[str], Mapping[str, np.ndarray]],
    run: RunOptions,
) -> dict[str, Descended]:
    """Run the loop of all generators from the start of a search.

    Parameters
    ----------
    models : sequence of StagedModel
        The networks.
    references : StimulusSet
        Photographs.
    settings : mapping
        Everything else that changes the images.
    search : Search
        Where images begin, and how they move.
    objective : callable
        What is lowered; its context holds ``anchor``, the first image, too.
    draft : callable, optional
        Its cheaper stand-in.
    threshold : float
        Score at which an image is finished.
    context_of : callable
        Reference id → what the objective must know of the image.
    run : RunOptions
        How it is run.

    Returns
    -------
    dict of str to Descended
        Reference id → result.
    """
    start = search.starts(references, settings["seed"])

    def _prepare(reference_id: str) -> Start:
        image = start(reference_id)
        return Start(image=image, context={"anchor": image, **context_of(reference_id)})

    digests = [model.digest for model in models]
    keys = {}
    for reference_id in references.ids:
        context = context_of(reference_id)
        parts = [*context, *context.values(), start(reference_id)]
        keys[reference_id] = digest(dict(settings), digests, reference_id, *parts)
    return descend(
        objective,
        references.ids,
        _prepare,
        threshold=threshold,
        steps=search.steps(),
        draft=draft,
        keys=keys,
        run=run,
    )


def pulled(images: Tensor, context: Mapping[str, Tensor], weight: float) -> Tensor:
    """Compute the weighted squared L2 distance to the first image.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width).
    context : mapping of str to Tensor
        With the ``anchor`` of each image.
    weight : float
        Weight.

    Returns
    -------
    Tensor
        (b,).
    """
    change = images - context["anchor"]
    return weight * change.square().flatten(1).sum(dim=1)


def start_columns(
    models: Sequence[StagedModel],
    references: StimulusSet,
    made: Mapping[str, Descended],
    search: Search,
    seed: int,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Put images together, and what is known of them before they are judged.

    Parameters
    ----------
    models : sequence of StagedModel
        The networks.
    references : StimulusSet
        Photographs.
    made : mapping of str to Descended
        Reference id → result.
    search : Search
        Where images began.
    seed : int
        Seed of the starts.

    Returns
    -------
    images : ndarray
        (n, 3, height, width) float32.
    table : pandas.DataFrame
        One row an image; ``l2_8bit`` and ``linf_8bit`` are the distances of the picture to the
        first image, in levels of 0 to 255.
    """
    images = stacked(dict(made), references.ids)
    start = search.starts(references, seed)
    rows = []
    for reference_id, image in zip(references.ids, images, strict=True):
        change = to_8bit(image).astype(np.float64) - 255.0 * start(reference_id)
        rows.append(
            {
                "id": f"{reference_id}_{KIND}",
                "kind": KIND,
                "reference_id": reference_id,
                "score_float": made[reference_id].score,
                "steps": made[reference_id].steps,
                "l2_8bit": float(np.sqrt(np.square(change).sum())),
                "linf_8bit": float(np.abs(change).max()),
            }
        )
    untrained = [model.name for model in models if not model.trained]
    table = pd.DataFrame(rows).assign(
        category=references.table["category"].to_numpy(),
        model="+".join(model.name for model in models),
        weights="; ".join(model.weights for model in models),
        seed=seed,
        start=search.start,
        image_prior=search.image_prior,
        note=f"untrained network: {', '.join(untrained)}" if untrained else "",
    )
    return images, table


def pair_record(
    models: Sequence[StagedModel],
    references: StimulusSet,
    settings: Mapping[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """Write down where images for two networks come from.

    Parameters
    ----------
    models : sequence of StagedModel
        The networks.
    references : StimulusSet
        Photographs.
    settings : mapping
        Everything else that changes the images.
    **more : object
        Further entries.

    Returns
    -------
    dict
        The provenance.
    """
    records = []
    for model in models:
        records.append(
            {
                "name": model.name,
                "weights": model.weights,
                "trained": model.trained,
                "digest": model.digest,
            }
        )
    return provenance(
        settings,
        models=records,
        model_digest=digest([model.digest for model in models]),
        references=references.digest,
        **more,
        **arithmetic(models[0].device),
    )


def check_made_for(
    models: Sequence[StagedModel], stimuli: StimulusSet, columns: Sequence[str], what: str
) -> None:
    """Check that images were made for these networks, and are what is to be confirmed.

    Parameters
    ----------
    models : sequence of StagedModel
        Networks, in the order in which the images were made.
    stimuli : StimulusSet
        Images.
    columns : sequence of str
        Columns of their table that tell what they are.
    what : str
        What they are, for the message.

    Raises
    ------
    InputError
        When they were made for others, or are something else.
    """
    need_columns(stimuli.table, columns, "the stimulus table", f"It is no set of {what}.")
    records = stimuli.provenance.get("models", [])
    if [record["digest"] for record in records] != [model.digest for model in models]:
        names = name_ids([record["name"] for record in records]) or "unknown ones"
        raise InputError(
            f"the {what} were made for other networks ({names}); confirm them with those, in the "
            "same order."
        )
