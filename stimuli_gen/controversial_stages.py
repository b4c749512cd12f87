"""Images that two networks represent most differently: each places them elsewhere among others.

The responses of two networks have different units, so they are compared as representational
similarity analysis does (Kriegeskorte et al. 2008): by how like the responses to other images the
responses to one image are. What is lowered is the correlation of these two profiles; no paper
makes images so.

References
----------
Kriegeskorte, N., Mur, M. & Bandettini, P. (2008). Representational similarity analysis: connecting
the branches of systems neuroscience. Frontiers in Systems Neuroscience 2:4.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import checked, from_options
from neurometamer.errors import InputError, name_ids
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr
from stimuli_gen.adversarial import check_photographs, read_saved
from stimuli_gen.batches import in_batches
from stimuli_gen.criteria import judged_at_once
from stimuli_gen.fast import draft_model
from stimuli_gen.matching import Match, Stages, match_stages
from stimuli_gen.models import StagedModel, run_on_device_of
from stimuli_gen.pairs import (
    KIND,
    SLACK,
    Search,
    check_made_for,
    pair_record,
    pulled,
    search_images,
    start_columns,
    two_networks,
)
from stimuli_gen.similarity import finite_responses
from stimuli_gen.stimuli import StimulusSet, from_8bit, to_8bit
from stimuli_gen.synthesis.loop import Objective

FEWEST = 4
"""Other images that a profile needs at least."""
WHAT_TO_TRY = "allow more steps (max_steps), a larger max_agreement, or compare a later stage"
"""What may help where networks still place an image alike."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Profiles:
    """How like the responses to a bank of images a network's responses are.

    Parameters
    ----------
    match : Match
        The network and its one stage.
    rows : Tensor
        (n_bank, n_units): its responses to the bank, each centered and of unit norm.
    """

    match: Match
    rows: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Correlate responses with those to each image of the bank, over units.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].

        Returns
        -------
        Tensor
            (b, n_bank), Pearson correlations.
        """
        return centered_responses(self.match, images) @ self.rows.T


def centered_responses(match: Match, images: Tensor) -> Tensor:
    """Compute responses, centered and of unit norm.

    Parameters
    ----------
    match : Match
        The network and its one stage.
    images : Tensor
        (b, 3, height, width) in [0, 1].

    Returns
    -------
    Tensor
        (b, n_units); zero where all units respond alike.
    """
    activations = match.activations(images)
    values = activations[match.stage]
    centered = values - values.mean(dim=1, keepdim=True)
    norm = torch.linalg.vector_norm(centered, dim=1, keepdim=True)
    return centered / norm.clamp_min(torch.finfo(norm.dtype).tiny)


def bank_profiles(match: Match, bank: StimulusSet) -> Profiles:
    """Let a network respond to a bank of images.

    Parameters
    ----------
    match : Match
        The network and its one stage.
    bank : StimulusSet
        Images of its input size.

    Returns
    -------
    Profiles
        Profiles of other images in this network.

    Raises
    ------
    InputError
        When responses to the bank are not finite, or the same in all units.
    """
    parts = []
    device = match.model.device
    respond = partial(centered_responses, match)
    for rows, values in in_batches(respond, bank.images, judged_at_once(device), device):
        n = rows.stop - rows.start
        parts.append(values[:n])
    responses = torch.cat(parts)
    where = match.key(match.stage)
    finite_responses(responses.cpu().numpy(), where, bank.ids)
    n_responding = responses.count_nonzero(dim=1).tolist()
    silent = [name for name, n in zip(bank.ids, n_responding, strict=True) if not n]
    if silent:
        raise InputError(
            f"{where}: all units respond alike to {name_ids(silent)}; choose another stage."
        )
    return Profiles(match=match, rows=responses)


def agreement(first: Tensor, second: Tensor, others: Tensor) -> Tensor:
    """Correlate two profiles over the other images.

    Parameters
    ----------
    first, second : Tensor
        (b, n_bank).
    others : Tensor
        (b, n_bank): 1 for the images that count, 0 for the image's own photograph.

    Returns
    -------
    Tensor
        (b,) Pearson correlations; 0 where a profile is flat.
    """
    n = others.sum(dim=1, keepdim=True)
    centered = []
    for profile in (first, second):
        mean = (profile * others).sum(dim=1, keepdim=True) / n
        centered.append((profile - mean) * others)
    product = (centered[0] * centered[1]).sum(dim=1)
    norms = [torch.linalg.vector_norm(profile, dim=1) for profile in centered]
    tiny = torch.finfo(product.dtype).tiny
    return product / (norms[0] * norms[1]).clamp_min(tiny)


def stage_disagreement(profiles: Sequence[Profiles], pull: float) -> Objective:
    """Make the objective of two networks that place an image elsewhere among others.

    Parameters
    ----------
    profiles : sequence of Profiles
        Of the two networks, for one bank.
    pull : float
        Weight of the squared L2 distance to the first image.

    Returns
    -------
    callable
        See `stimuli_gen.synthesis.loop.Objective`; its context holds ``others`` and ``anchor``, and
        its score is the negative agreement.
    """
    first, second = profiles

    def _evaluate(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        agreed = agreement(first(images), second(images), context["others"])
        return agreed + pulled(images, context, pull), -agreed

    return _evaluate


@checked
def controversial_representations(
    models: Sequence[StagedModel],
    references: StimulusSet,
    *,
    stage: Stages | Mapping[str, Stages],
    bank: StimulusSet | None = None,
    max_agreement: float = -0.5,
    seed: int = 0,
    run: RunOptions | None = None,
    **options: Any,
) -> StimulusSet:
    """Make images that two networks represent most differently, each at a stage.

    The profile of an image in a network is the Pearson correlation, over the units of the stage, of
    the responses to it with those to each image of the bank. What is lowered, by gradient steps
    within [0, 1], is the correlation of the profiles of both networks over the bank: an image whose
    nearest neighbors for A are its farthest for B. Its own photograph does not count.

    Parameters
    ----------
    models : sequence of StagedModel
        Two networks of one input size (`stimuli_gen.at_size`); classes do not matter.
    references : StimulusSet
        Photographs; one image is made for each, with the id ``<reference id>_controversial``.
    stage : str, float or mapping
        Stage of both, ``"early"``, ``"middle"``, ``"late"`` or a fraction of depth, or a mapping of
        network name to these. See `stimuli_gen.depth.resolve_stage`.
    bank : StimulusSet, optional
        Images of the same size with which each is compared; by default the photographs. At least
        four beside an image's own.
    max_agreement : float
        Largest correlation of the two profiles on the 8-bit image, in (-1, 1). Of no paper.
    seed : int
        Seed of start noise.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the networks.
    **options : object
        Fields of `stimuli_gen.pairs.Search`: start and steps.

    Returns
    -------
    StimulusSet
        Kind ``controversial``. ``agreement_float`` and ``agreement_png`` are the correlations of
        the float and the 8-bit pixels, ``agreement_reference`` that of the photograph;
        ``stage_<network>`` the stages. ``success``: the 8-bit image has at most `max_agreement`.

    Raises
    ------
    InputError
        When photographs, networks, stages, bank or settings do not fit.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import controversial_representations, stage_model
    >>> def network(seed):
    ...     _ = torch.manual_seed(seed)
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     return stage_model(nn.Sequential(*layers), name=f"net{seed}")
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((6, 3, 32, 32), dtype="float32")
    >>> ids = list("abcdef")
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> bank = StimulusSet(images=images, table=table)
    >>> photographs = bank.select(ids=["a", "b"])
    >>> networks = [network(0), network(1)]
    >>> made = controversial_representations(networks, photographs, stage="1", bank=bank)
    >>> made.ids, made.table["success"].tolist()
    (('a_controversial', 'b_controversial'), [True, True])
    """
    networks = two_networks(models)
    check_photographs(networks[0], references)
    matches = match_stages(networks, stage)
    bank = references if bank is None else bank
    check_bank(matches, references, bank, max_agreement)
    search = from_options(Search, options, "setting of a search")
    run = run_on_device_of(networks[0], run)
    stages = {match.model.name: match.stage for match in matches}
    settings: dict[str, Any] = {
        "kind": KIND,
        "disagreement": "representations",
        "stages": stages,
        "bank": bank.digest,
        "max_agreement": max_agreement,
        "seed": seed,
        **asdict(search),
    }
    profiles = [bank_profiles(match, bank) for match in matches]
    draft_profiles = []
    for match, profile in zip(matches, profiles, strict=True):
        fast = draft_model(match.model, run.mode)
        if fast is not None:
            # compared with the responses of the network itself
            draft_profiles.append(replace(profile, match=replace(match, model=fast)))
    draft = None
    if len(draft_profiles) == len(matches):
        digests = [profile.match.model.digest for profile in draft_profiles]
        settings |= {"mode": run.mode, "drafts": digests}
        draft = stage_disagreement(draft_profiles, search.pull)
    others = dict(zip(references.ids, _others(references.ids, bank), strict=True))
    made = search_images(
        networks,
        references,
        settings,
        search,
        objective=stage_disagreement(profiles, search.pull),
        draft=draft,
        threshold=SLACK * (1 + max_agreement) - max_agreement,
        context_of=lambda reference_id: {"others": others[reference_id]},
        run=run,
    )
    images, table = start_columns(networks, references, made, search, seed)
    table["agreement_float"] = -table.pop("score_float")
    table["criterion"] = max_agreement
    for name, own_stage in stages.items():
        table[f"stage_{name}"] = own_stage
    record = pair_record(networks, references, settings)
    stimuli = StimulusSet(images=images, table=table, provenance=record)
    return _judge(profiles, stimuli, references, bank, images, confirmed=False)


def check_bank(
    matches: Sequence[Match], references: StimulusSet, bank: StimulusSet, max_agreement: float
) -> None:
    """Check that images can be placed among others, and how alike they may be placed.

    Parameters
    ----------
    matches : sequence of Match
        Stages of the networks.
    references, bank : StimulusSet
        Photographs, and the images with which they are compared.
    max_agreement : float
        See `controversial_representations`.

    Raises
    ------
    InputError
        When there are several stages, the bank is too small or of another size, or the number is
        out of range.
    """
    several = [match.key(match.stage) for match in matches if len(match.stages) > 1]
    if several:
        raise InputError(f"one stage a network is compared, not {name_ids(several)}; name one.")
    size = matches[0].model.preprocessing.size
    if tuple(bank.images.shape[2:]) != size:
        raise InputError(
            f"the bank's images are {tuple(bank.images.shape[2:])} pixels, the networks see "
            f"{size}; load them with their preprocessing."
        )
    fewest = min(len(set(bank.ids) - {name}) for name in references.ids)
    if fewest < FEWEST:
        raise InputError(
            f"a profile needs at least {FEWEST} images beside an image's own, and the bank has "
            f"{fewest}; give more photographs, or a larger bank."
        )
    if not -1 < max_agreement < 1:
        raise InputError(
            f"max_agreement must be between -1 and 1, not {max_agreement}; give -0.5, say."
        )


def _others(reference_ids: Sequence[str], bank: StimulusSet) -> np.ndarray:
    """Mark the images of the bank that are not an image's own photograph: (n, n_bank)."""
    ids = np.array(bank.ids)
    own = ids[None, :] == np.array(reference_ids)[:, None]
    return np.where(own, 0, 1).astype(np.float32)


def _agreements(profiles: Sequence[Profiles], pictures: np.ndarray, others: np.ndarray) -> Any:
    first, second = profiles
    device = first.match.model.device
    parts = []
    for rows, (of_first, of_second) in in_batches(
        lambda batch: (first(batch), second(batch)), pictures, judged_at_once(device), device
    ):
        counted = torch.from_numpy(others[rows]).to(device)
        n = rows.stop - rows.start
        part = agreement(of_first[:n], of_second[:n], counted)
        parts.append(part.cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def _judge(
    profiles: Sequence[Profiles],
    stimuli: StimulusSet,
    references: StimulusSet,
    bank: StimulusSet,
    pictures: np.ndarray,
    *,
    confirmed: bool,
) -> StimulusSet:
    """Compare the profiles of the 8-bit pictures, and of their photographs."""
    table = stimuli.table
    names = table["reference_id"].tolist()
    others = _others(names, bank)
    shown = from_8bit(to_8bit(pictures))
    of_pictures = _agreements(profiles, shown, others)
    rows = references.rows_of(names, what="reference")
    of_photographs = _agreements(profiles, references.images[rows], others)
    why_not = []
    for agreed, row in zip(of_pictures, table.to_dict("records"), strict=True):
        text = ""
        if not agreed <= row["criterion"]:
            cure = "allow more steps"
            if row["agreement_float"] <= row["criterion"]:
                cure = "it was reached before rounding to 8 bits"
            after = f"{agreed:.4f} after {row['steps']} steps"
            text = f"agreement {after}, above {row['criterion']:g}; {cure}"
        why_not.append(text)
    judged = table.assign(
        agreement_png=of_pictures,
        agreement_reference=of_photographs,
        success=[not text for text in why_not],
        confirmed=confirmed,
        why_not=why_not,
        what_to_try=[WHAT_TO_TRY if text else "" for text in why_not],
    )
    return replace(stimuli, table=judged)


@checked
def confirm_representations(
    models: Sequence[StagedModel],
    stimuli: StimulusSet,
    references: StimulusSet,
    folder: str | os.PathLike[str],
    *,
    bank: StimulusSet | None = None,
) -> StimulusSet:
    """Read the written PNG files back and compare their profiles in both networks.

    Parameters
    ----------
    models : sequence of StagedModel
        The two networks that the images were made for, in the same order.
    stimuli : StimulusSet
        What `controversial_representations` made.
    references : StimulusSet
        Their photographs.
    folder : path-like
        Where `stimuli_gen.write_stimuli` wrote them.
    bank : StimulusSet, optional
        The bank that they were made with; by default the photographs.

    Returns
    -------
    StimulusSet
        ``agreement_png``, ``agreement_reference``, ``success`` and ``why_not`` from the files;
        ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for
        other networks or with another bank.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import confirm_representations, controversial_representations
    >>> from stimuli_gen import stage_model, write_stimuli
    >>> def network(seed):
    ...     _ = torch.manual_seed(seed)
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     return stage_model(nn.Sequential(*layers), name=f"net{seed}")
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((5, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": list("abcde"), "kind": "RE", "reference_id": list("abcde")})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> models = [network(0), network(1)]
    >>> made = controversial_representations(models, photographs, stage="1")
    >>> with TemporaryDirectory() as folder:
    ...     written = write_stimuli(made, folder)
    ...     confirmed = confirm_representations(models, made, photographs, written)
    >>> confirmed.table["confirmed"].tolist()
    [True, True, True, True, True]
    """
    networks = two_networks(models)
    stages = {}
    for network in networks:
        column = f"stage_{network.name}"
        check_made_for(networks, stimuli, [column, "agreement_float"], "controversial images")
        stages[network.name] = str(stimuli.table[column].iloc[0])
    bank = references if bank is None else bank
    settings = stimuli.provenance["settings"]
    if settings["bank"] != bank.digest:
        raise InputError("the images were made with another bank; give the same one.")
    profiles = [bank_profiles(match, bank) for match in match_stages(networks, stages)]
    pictures = read_saved(stimuli, folder, networks[0].preprocessing.size)
    return _judge(profiles, stimuli, references, bank, pictures, confirmed=True)
