"""Maximally different metamers: the photograph to one network, something else to another.

A metamer of one network may be one of another, too, where both have learnt the same invariances.
Here the image must match the photograph in A as metamers do (Feather et al. 2023), while in B it
matches no better than half of all pairs of different photographs. So A and B cannot both be right
about what looks alike; in the spirit of maximum differentiation (Wang & Simoncelli 2008), which
holds one model's judgment and drives the other's.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent
invariances between biological and artificial neural networks. Nature Neuroscience 26:2017-2034.
Wang, Z. & Simoncelli, E. P. (2008). Maximum differentiation (MAD) competition. Journal of Vision
8(12):8.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.run_options import RunOptions
from stimuli_gen.adversarial import check_photographs
from stimuli_gen.criteria import (
    KINDS,
    Judgment,
    judge,
    judge_metamers,
    judged_at,
    judged_at_once,
    top_class,
)
from stimuli_gen.fast import draft_model
from stimuli_gen.matching import Match, Stages, match_stages, shifted
from stimuli_gen.metamers import Contexts, cuts_of
from stimuli_gen.models import StagedModel, refuse_embeddings, run_on_device_of
from stimuli_gen.pairs import check_made_for, pair_record, two_networks
from stimuli_gen.presets import Recipe, described, image_prior, make_recipe
from stimuli_gen.similarity import CRITERIA, METRICS
from stimuli_gen.stimuli import StimulusSet
from stimuli_gen.stored_images import digest_levels
from stimuli_gen.synthesis.checkpoint import Descended, stacked
from stimuli_gen.synthesis.loop import Objective, Start, descend

if TYPE_CHECKING:
    from stimuli_gen.nulls import NullDistribution

MEDIAN = 0.5
"""Quantile of B's null that its match must not be above."""
DECIBELS = 20.0
"""Decibels that count as much as a correlation of 1 where criteria are compared with each other."""
MARGIN = 0.01
"""By how much each criterion is met before an image is finished, in that unit, so that the rounding
differences of another batch shape cannot undo it."""
_OF_SETS = ("solver", "turn", "budget", "file_rounds", "penalties")
"""Settings of recipes that have no meaning here."""


@checked
def divergent_metamers(
    models: Sequence[StagedModel],
    references: StimulusSet,
    *,
    stage: Stages | Mapping[str, Stages],
    nulls: Sequence[NullDistribution],
    null_quantile: float = 1.0,
    preset: str = "pixels",
    apart: float = 1.0,
    seed: int = 0,
    run: RunOptions | None = None,
    **overrides: Any,
) -> StimulusSet:
    """Make metamers of photographs for one network that are none for another.

    What is lowered is ‖a' - a‖ / ‖a‖ in A, plus how much A's match lacks to be above its null, plus
    `apart` times how much B's match is above the median of its own, in rank and linear correlation
    and in the signal-to-noise ratio (20 dB count as a correlation of 1), plus how much, in standard
    deviations of A's logits, another class leads the photograph's. An image is finished when
    A's match is above its null, A gives it the class of the photograph, and B's match is not above
    the median of its null, rounded to 8 bits, too.

    Parameters
    ----------
    models : sequence of StagedModel
        Two networks of one input size: A, whose metamers they are, and B.
    references : StimulusSet
        Photographs; one image is made of each, with the id ``<reference id>_divergent``.
    stage : str, float or mapping
        Stage of both, ``"early"``, ``"middle"``, ``"late"`` or a fraction of depth, or a mapping of
        network name to these. See `stimuli_gen.depth.resolve_stage`.
    nulls : sequence of NullDistribution
        One of each network at its stage, see `stimuli_gen.null_distribution`.
    null_quantile : float
        Quantile of A's null, in (0, 1], that its match must be above; 1, the maximum, in Feather et
        al. (2023).
    preset : {"pixels", "feather2023", "boehm2025", "fast"}
        How steps are taken, see `stimuli_gen.presets.PRESETS`; ``fast`` has a prior of natural
        images.
    apart : float
        Weight of B's match in the loss, above 0. Of no paper.
    seed : int
        Each image draws its start from its own generator.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the networks.
    **overrides : object
        Fields of `stimuli_gen.presets.Recipe`, in place of the preset's, but those of several
        networks in turn: ``steps``, ``max_error``, ``start`` and others.

    Returns
    -------
    StimulusSet
        Kind ``metamer``, ``model`` being A. Columns of `stimuli_gen.model_metamers` with nulls for
        A; those of B end in its name, among them ``unlike_<B>``: whether the picture matches no
        better than the median pair by every criterion. ``success``: A's criteria of metamers and
        ``unlike_<B>``; ``what_to_try``: what may help where it is False.

    Raises
    ------
    InputError
        When photographs, networks, stages, nulls or settings do not fit.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import divergent_metamers, null_distribution, stage_model
    >>> def network(seed):
    ...     _ = torch.manual_seed(seed)
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     return stage_model(nn.Sequential(*layers), name=f"net{seed}")
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((3, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": list("abc"), "kind": "RE", "reference_id": list("abc")})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> networks = [network(0), network(1)]
    >>> nulls = [null_distribution(one, photographs, ["3"]) for one in networks]
    >>> made = divergent_metamers(networks, photographs, stage="3", nulls=nulls, steps=200)
    >>> made.ids, made.table["unlike_net1"].tolist()
    (('a_divergent', 'b_divergent', 'c_divergent'), [True, True, True])
    """
    networks = two_networks(models)
    refuse_embeddings(networks[0])
    check_photographs(networks[0], references)
    recipe = check_settings(preset, overrides, apart)
    matches = _match_pair(networks, stage, straight_through=recipe.straight_through_relu)
    limits = _limits(networks, matches, nulls, null_quantile)
    run = run_on_device_of(networks[0], run)
    drafts = []
    for match in matches:
        fast = draft_model(match.model, run.mode)
        if fast is not None:
            drafts.append(replace(match, model=fast))
    settings: dict[str, Any] = {
        "kind": "metamer",
        "disagreement": "metamers",
        "preset": preset,
        **described(recipe),
        "stages": {match.model.name: [match.stage] for match in matches},
        "null_quantile": null_quantile,
        "limits": limits,
        "apart": apart,
        "seed": seed,
    }
    if drafts:
        digests = [draft.model.digest for draft in drafts]
        settings |= {"mode": run.mode, "finish": recipe.finish, "drafts": digests}
    contexts = Contexts(matches, references, recipe, None, seed, run.batch_size)
    of_photographs = top_class(networks[0], references.images)
    classes = dict(zip(references.ids, of_photographs, strict=True))
    made = descend(
        metamer_disagreement(matches, limits, recipe, apart),
        references.ids,
        lambda name: Start(
            image=contexts.start(name), context={**contexts(name), "class": classes[name]}
        ),
        threshold=MARGIN,
        steps=recipe.step_options(1),
        draft=metamer_disagreement(drafts, limits, recipe, apart) if len(drafts) == 2 else None,
        confine=contexts.confine if recipe.ball != "none" else None,
        keys=contexts.keys(settings),
        run=run,
    )
    stimuli = divergent_set(networks, matches, references, settings, made, image_prior(recipe))
    return _judge(networks, matches, stimuli, references, nulls, confirmed=False)


def check_settings(preset: str, overrides: Mapping[str, Any], apart: float) -> Recipe:
    """Check how steps are taken.

    Parameters
    ----------
    preset, overrides, apart : str, mapping, float
        See `divergent_metamers`.

    Returns
    -------
    Recipe
        The preset with the overrides.

    Raises
    ------
    InputError
        When a name is unknown or has no meaning here, or a value is wrong.
    """
    if useless := [name for name in overrides if name in _OF_SETS]:
        raise InputError(
            f"{name_ids(useless)} say how networks of a set take turns, what is done with files "
            "afterwards, or what else is lowered; here there is one loss: leave that out."
        )
    if not apart > 0:
        raise InputError(f"apart must be above 0, not {apart}; give 1, say.")
    return make_recipe(preset, overrides)


def _match_pair(
    networks: Sequence[StagedModel], stage: Any, *, straight_through: bool = False
) -> tuple[Match, ...]:
    matches = match_stages(networks, stage, straight_through_relu=straight_through)
    several = [match.key(match.stage) for match in matches if len(match.stages) > 1]
    if several:
        raise InputError(f"one stage a network is compared, not {name_ids(several)}; name one.")
    return matches


def _own_null(
    network: StagedModel, match: Match, nulls: Sequence[NullDistribution]
) -> tuple[NullDistribution, str]:
    """Find the null distribution of a network at its stage, and the name that it gives to it."""
    ((model, stage),) = judged_at([network], [match])
    fitting = []
    for null in nulls:
        name = null.stage_of(model, stage)
        if name is not None:
            fitting.append((null, name))
    if len(fitting) != 1:
        raise InputError(
            f"{len(fitting)} null distributions of {network.name} at {stage} are given; make one "
            "(null_distribution, or 'neurometamer stimuli null') and give it."
        )
    return fitting[0]


def _limits(
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    nulls: Sequence[NullDistribution],
    quantile: float,
) -> list[list[float]]:
    """Find what A's match must be above, and B's not: two rows, criteria in order."""
    rows = []
    for network, match, wanted in zip(networks, matches, (quantile, MEDIAN), strict=True):
        null, stage = _own_null(network, match, nulls)
        rows.append([null.limit(stage, metric, wanted) for metric in CRITERIA])
    if len(nulls) > len(networks):
        raise InputError(
            f"two null distributions are needed, not {len(nulls)}; give one a network."
        )
    return rows


# ---------------------------------------------------------------------------------------- objective


def likeness(values: Tensor, anchors: Tensor) -> Tensor:
    """Measure how like the responses to a photograph those to an image are, by each criterion.

    Parameters
    ----------
    values, anchors : Tensor
        (b, n_units): responses to the image, and to the photograph.

    Returns
    -------
    Tensor
        (b, 3): Spearman's rho, Pearson's r, and the signal-to-noise ratio in units of `DECIBELS`.
        The gradient of rho, which has none, is that of r.
    """
    linear = _correlations(values, anchors)
    with torch.no_grad():
        of_ranks = _correlations(_ranks(values.detach()), _ranks(anchors))
    ranked = linear + (of_ranks - linear.detach())
    tiny = torch.finfo(values.dtype).tiny
    signal = torch.linalg.vector_norm(anchors, dim=1).clamp_min(tiny)
    noise = torch.linalg.vector_norm(values - anchors, dim=1).clamp_min(tiny)
    decibels = 20 * (signal / noise).log10()
    return torch.stack([ranked, linear, decibels / DECIBELS], dim=1)


def _correlations(values: Tensor, others: Tensor) -> Tensor:
    centered = values - values.mean(dim=1, keepdim=True)
    other = others - others.mean(dim=1, keepdim=True)
    scale = torch.linalg.vector_norm(centered, dim=1) * torch.linalg.vector_norm(other, dim=1)
    return (centered * other).sum(dim=1) / scale.clamp_min(torch.finfo(scale.dtype).tiny)


def _ranks(values: Tensor) -> Tensor:
    """Rank each row; ties share their average rank."""
    values = values.contiguous()
    ordered = values.sort(dim=1).values
    below = torch.searchsorted(ordered, values, right=False)
    up_to = torch.searchsorted(ordered, values, right=True)
    return (below + up_to + 1).to(values.dtype) / 2


def class_lead(model: StagedModel, images: Tensor, classes: Tensor) -> Tensor:
    """Measure by how much a class leads the others.

    Parameters
    ----------
    model : StagedModel
        The network.
    images : Tensor
        (b, 3, height, width).
    classes : Tensor
        (b,) places of the classes.

    Returns
    -------
    Tensor
        (b, 1), in standard deviations of the logits, within [-1, 1].
    """
    logits = model.logits(images)
    index = classes[:, None]
    of_class = logits.gather(1, index)
    of_others = logits.scatter(1, index, -torch.inf).amax(dim=1, keepdim=True)
    spread = logits.std(dim=1, keepdim=True, correction=0)
    spread = spread.clamp_min(torch.finfo(logits.dtype).tiny)
    return ((of_class - of_others) / spread).clamp(-1, 1)


def metamer_disagreement(
    matches: Sequence[Match], limits: Sequence[Sequence[float]], recipe: Recipe, apart: float
) -> Objective:
    """Make the objective of an image that matches in one network and not in the other.

    Parameters
    ----------
    matches : sequence of Match
        Of A and of B, one stage each.
    limits : sequence of sequence of float
        What A's match must be above by each criterion, and what B's must not.
    recipe : Recipe
        Of which jitter and ``max_error`` count.
    apart : float
        Weight of B's match.

    Returns
    -------
    callable
        See `stimuli_gen.synthesis.loop.Objective`; its score is by how much the worst criterion is
        met.
    """
    first, second = matches
    in_unit = torch.tensor([1.0, 1.0, 1 / DECIBELS])
    device = first.model.device
    above, not_above = [(torch.tensor(row) * in_unit).to(device) for row in limits]

    def _evaluate(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        seen = shifted(images, context) if recipe.jitter else images
        alike, errors = [], []
        for match in (first, second):
            key = match.key(match.stage)
            values = match.activations(seen)[match.stage]
            alike.append(likeness(values, context[key]))
            distance = torch.linalg.vector_norm(values - context[key], dim=1)
            errors.append(distance / context[f"{key} norm"])
        lead = class_lead(first.model, images, context["class"])
        matched = alike[0] - above
        differing = not_above - alike[1]
        if recipe.max_error is not None:
            near = (recipe.max_error - errors[0]) / recipe.max_error
            matched = torch.cat([matched, near[:, None]], dim=1)
        # twice the margin, so that the edge of the loss is no obstacle to the threshold
        missing = (2 * MARGIN - matched).clamp_min(0).sum(dim=1)
        too_alike = (2 * MARGIN - differing).clamp_min(0).sum(dim=1)
        other_class = (2 * MARGIN - lead[:, 0]).clamp_min(0)
        loss = errors[0] + missing + other_class + apart * too_alike
        return loss, torch.cat([matched, lead, differing], dim=1).amin(dim=1)

    return _evaluate


# ------------------------------------------------------------------------------ table and judgment


def divergent_set(
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    references: StimulusSet,
    settings: Mapping[str, Any],
    made: dict[str, Descended],
    prior: str,
) -> StimulusSet:
    """Put images, their table and their provenance together, before they are judged.

    Parameters
    ----------
    networks : sequence of StagedModel
        A and B.
    matches : sequence of Match
        Their stages.
    references : StimulusSet
        Photographs.
    settings : mapping
        Everything that changes the images.
    made : dict of str to Descended
        Reference id → result.
    prior : str
        What makes the images look natural.

    Returns
    -------
    StimulusSet
        Of the kind ``metamer``.
    """
    images = stacked(made, references.ids)
    first, second = matches
    record = pair_record(
        networks,
        references,
        settings,
        reference_pixels=digest_levels(references.images),
        reference_cuts=cuts_of(references.provenance),
        image_prior=prior,
    )
    untrained = [match.model.name for match in matches if not match.model.trained]
    max_error = settings["max_error"]
    table = pd.DataFrame(
        {
            "id": [f"{reference_id}_divergent" for reference_id in references.ids],
            "kind": "metamer",
            "reference_id": list(references.ids),
            "category": references.table["category"].to_numpy(),
            "model": first.model.name,
            "weights": first.model.weights,
            "stage": first.stage,
            "unlike_model": second.model.name,
            "unlike_weights": second.model.weights,
            f"stage_{second.model.name}": second.stage,
            "preset": settings["preset"],
            "max_error": np.nan if max_error is None else max_error,
            "seed": settings["seed"],
            "note": f"untrained network: {', '.join(untrained)}" if untrained else "",
            "mode": settings.get("mode", "exact"),
            "steps": [made[reference_id].steps for reference_id in references.ids],
            "image_prior": prior,
        }
    )
    return StimulusSet(images=images, table=table, provenance=record)


def _judge(
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    stimuli: StimulusSet,
    references: StimulusSet,
    nulls: Sequence[NullDistribution],
    *,
    folder: str | os.PathLike[str] | None = None,
    confirmed: bool,
) -> StimulusSet:
    """Judge by A's criteria of metamers, and by B's, which its match must not meet."""
    first, second = networks
    own, of_second = [
        _own_null(network, match, nulls)[0]
        for network, match in zip(networks, matches, strict=True)
    ]
    rows = references.rows_of(stimuli.table["reference_id"], what="reference")
    photographs = references.select(ids=[references.ids[row] for row in rows])
    quantile = stimuli.provenance["settings"]["null_quantile"]
    judgment = judge_metamers(
        [first],
        matches[:1],
        stimuli,
        photographs,
        folder=folder,
        nulls=[own],
        quantile=quantile,
    )
    ((model, stage),) = judged_at([second], matches[1:])
    judged = judge(
        [(model, stage)],
        photographs,
        stimuli,
        nulls=[of_second],
        quantile=MEDIAN,
        folder=folder,
        batch_size=judged_at_once(model.device),
    )
    both = with_other(judgment, judged, second.name)
    is_metamer = [not reasons for reasons in judgment.reasons["png"]]
    was_met = [not reasons for reasons in both.reasons["float"]]
    is_unlike = both.columns[f"unlike_{second.name}"]
    advice = []
    for flags in zip(is_metamer, is_unlike, was_met, strict=True):
        advice.append(what_to_try(first.name, second.name, *flags))
    columns = {**both.columns, "what_to_try": advice}
    return replace(both, columns=columns).on(stimuli, confirmed=confirmed)


def what_to_try(first: str, second: str, is_metamer: bool, is_unlike: bool, was_met: bool) -> str:
    """Say what may help where an image is not what is asked.

    Parameters
    ----------
    first, second : str
        Names of A and B.
    is_metamer : bool
        Whether the picture meets A's criteria.
    is_unlike : bool
        Whether it matches in B no better than the median pair.
    was_met : bool
        Whether the image met all of it before it was rounded to 8 bits.

    Returns
    -------
    str
        Empty where the picture is what is asked.
    """
    if is_metamer and is_unlike:
        return ""
    if was_met:
        return "it was reached before rounding to 8 bits: take smaller steps (step_size)"
    if is_metamer:
        return (
            f"a metamer of {first} that looks like the photograph to {second}, too: give a larger "
            f"apart, more steps, or a later stage of {second}; networks that are much alike may "
            "have no such image"
        )
    if is_unlike:
        return (
            f"no metamer of {first} yet: allow more steps, a smaller apart, another preset, or an "
            f"earlier stage of {first}"
        )
    return (
        f"{first} and {second} are much alike here: allow more steps, or compare other stages or "
        "networks of other training"
    )


def with_other(judgment: Judgment, judged: pd.DataFrame, name: str) -> Judgment:
    """Add what B says, and the criteria by which its match is better than the median pair.

    Parameters
    ----------
    judgment : Judgment
        By A's criteria.
    judged : pandas.DataFrame
        What `stimuli_gen.judge` found for B, with its median as the limit.
    name : str
        Of B.

    Returns
    -------
    Judgment
        By both.
    """
    columns = dict(judgment.columns)
    for metric in ("loss", *METRICS):
        for kind in KINDS:
            columns[f"{metric}_{kind}_{name}"] = judged[f"{kind}_{metric}"].to_numpy()
    reasons: dict[str, list[list[str]]] = {}
    for kind in KINDS:
        flags = judged[[f"{kind}_{metric}_above_null" for metric in CRITERIA]]
        is_above = flags.astype(bool).to_numpy()
        reasons[kind] = []
        for own, above in zip(judgment.reasons[kind], is_above, strict=True):
            too_alike = [metric for metric, is_so in zip(CRITERIA, above, strict=True) if is_so]
            more = []
            if too_alike:
                more.append(f"{name}: above the median null pair in {', '.join(too_alike)}")
            reasons[kind].append([*own, *more])
        if kind == "png":
            columns[f"unlike_{name}"] = ~is_above.any(axis=1)
    return replace(judgment, columns=columns, reasons=reasons)


@checked
def confirm_divergent(
    models: Sequence[StagedModel],
    stimuli: StimulusSet,
    references: StimulusSet,
    folder: str | os.PathLike[str],
    *,
    nulls: Sequence[NullDistribution],
) -> StimulusSet:
    """Read the written PNG files back and judge them in both networks.

    Parameters
    ----------
    models : sequence of StagedModel
        The two networks that the images were made for, in the same order.
    stimuli : StimulusSet
        What `divergent_metamers` made.
    references : StimulusSet
        Their photographs.
    folder : path-like
        Where `stimuli_gen.write_stimuli` wrote them.
    nulls : sequence of NullDistribution
        Those that they were made with.

    Returns
    -------
    StimulusSet
        All that `divergent_metamers` judges, from the files; ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for
        other networks or with other nulls.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import confirm_divergent, divergent_metamers, null_distribution
    >>> from stimuli_gen import stage_model, write_stimuli
    >>> def network(seed):
    ...     _ = torch.manual_seed(seed)
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     return stage_model(nn.Sequential(*layers), name=f"net{seed}")
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((3, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": list("abc"), "kind": "RE", "reference_id": list("abc")})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> networks = [network(0), network(1)]
    >>> nulls = [null_distribution(one, photographs, ["3"]) for one in networks]
    >>> made = divergent_metamers(networks, photographs, stage="3", nulls=nulls, steps=10)
    >>> with TemporaryDirectory() as folder:
    ...     written = write_stimuli(made, folder)
    ...     confirmed = confirm_divergent(networks, made, photographs, written, nulls=nulls)
    >>> confirmed.table["confirmed"].tolist()
    [True, True, True]
    """
    networks = two_networks(models)
    needed = ("unlike_model", "max_error")
    check_made_for(networks, stimuli, needed, "maximally different metamers")
    settings = stimuli.provenance["settings"]
    matches = _match_pair(networks, settings["stages"])
    if _limits(networks, matches, nulls, settings["null_quantile"]) != settings["limits"]:
        raise InputError("the images were made with other null distributions; give the same.")
    return _judge(networks, matches, stimuli, references, nulls, folder=folder, confirmed=True)
