"""Controversial images: one network is sure of one class, the other of another.

An image that two networks classify alike tells nothing about which of them sees as people do; a
controversial one does, whatever people say to it.

References
----------
Golan, T., Raju, P. C. & Kriegeskorte, N. (2020). Controversial stimuli: pitting neural networks
against each other as models of human cognition. PNAS 117:29330-29337; public code:
controversial_stimuli_tutorial.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import checked, from_options
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from stimuli_gen.adversarial import OBJECTIVES, check_photographs, read_saved
from stimuli_gen.fast import draft_model
from stimuli_gen.models import StagedModel, predict, refuse_embeddings, run_on_device_of
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
from stimuli_gen.stimuli import StimulusSet, from_8bit, to_8bit
from stimuli_gen.synthesis.loop import Objective
from stimuli_gen.targets import choose_targets


def _logits(a: Tensor, b: Tensor, class_a: Tensor, class_b: Tensor) -> Tensor:
    raised = OBJECTIVES["logit"]
    kept = raised(a, class_a), raised(b, class_b)
    lost = -raised(a, class_b), -raised(b, class_a)
    return torch.stack([*kept, *lost], dim=1)


READOUTS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "log_probability": lambda a, b, class_a, class_b: torch.stack(
        [
            OBJECTIVES["log_probability"](a, class_a),
            OBJECTIVES["log_probability"](b, class_b),
        ],
        dim=1,
    ),
    "logit": _logits,
}
"""Logits of both networks (b, n_classes) and the class that each is to see (b,) → (b, n), whose
smooth minimum is raised. ``log_probability``: log p_A(c1) and log p_B(c2), the smooth form of
equation 1 that the authors' code takes for networks with a softmax. ``logit``: those two logits and
the negative ones of the other's class, equation 4, for networks whose classes do not exclude each
other; of a softmax it does not fix the probabilities, which depend on the other logits, too."""


WHAT_TO_TRY = "allow more steps (max_steps), or give a lower confidence or other classes"
"""What may help where networks are not sure enough of their classes."""


# ------------------------------------------------------------------------------------------ classes


@checked
def controversial_images(
    models: Sequence[StagedModel],
    references: StimulusSet,
    *,
    target_a: str | int | Mapping[str, Any] = "own",
    target_b: str | int | Mapping[str, Any] = "random",
    confidence: float = 0.75,
    readout: str = "log_probability",
    sharpness: float = 100.0,
    seed: int = 0,
    run: RunOptions | None = None,
    **options: Any,
) -> StimulusSet:
    """Make images that two networks are sure of, each of another class.

    The procedure is that of Golan et al. (2020, equation 1): min(p_A(c1), p_B(c2)) is raised by
    gradient steps within [0, 1], from noise or from a photograph. The gradient is that of a smooth
    minimum, -log(Σ exp(-α · value)) / α, of the values of `readout` (their equations 3 and 4).

    Parameters
    ----------
    models : sequence of StagedModel
        Two networks, A and B, with the same classes and one input size (`stimuli_gen.at_size`).
    references : StimulusSet
        Photographs; one image is made for each, with the id ``<reference id>_controversial``.
    target_a : str, int or mapping
        Class c1, which A is to see: ``"own"`` (A's class of the photograph), ``"random"``, a class,
        ``"given"`` (column target), or a CSV (id, target); see `stimuli_gen.choose_targets`.
    target_b : str, int or mapping
        Class c2, which B is to see, never c1. ``"random"``: any class but c1, drawn for each
        photograph from its own generator; else as for A, ``"own"`` and others being B's.
    confidence : float
        Probability that each network must give its class on the 8-bit image, in (0, 1).
    readout : {"log_probability", "logit"}
        What is raised: log-probabilities, for networks with a softmax, or logits. See `READOUTS`.
    sharpness : float
        Sharpness α of the smooth minimum, above 0: the larger, the nearer to the minimum itself.
        100 in the authors' code.
    seed : int
        Seed of start noise and random targets.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the networks.
    **options : object
        Fields of `stimuli_gen.pairs.Search`: start, steps, and what is not from the paper.

    Returns
    -------
    StimulusSet
        Kind ``controversial``. ``score_float`` and ``score_png`` are min(p_A(c1), p_B(c2)) of the
        float and the 8-bit pixels; ``target_index``, ``target_name``, ``confidence_png`` and
        ``top1_name`` end in the network's name. ``success``: both probabilities of the 8-bit image
        are at least `confidence`. ``image_prior``: what makes the images look natural whatever the
        networks respond to.

    Raises
    ------
    InputError
        When photographs, networks, classes or settings do not fit, or c1 is c2.

    Notes
    -----
    With a softmax p_A(c2) ≤ 1 - p_A(c1), so the two further terms of the paper's score for sigmoid
    outputs, 1 - p_A(c2) and 1 - p_B(c1), are never the smallest. Unlike the authors' code, steps
    are taken on pixels and clipped, not on the inverse sigmoid of pixels.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import controversial_images, stage_model
    >>> def network(seed):
    ...     _ = torch.manual_seed(seed)
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     return stage_model(nn.Sequential(*layers), name=f"net{seed}")
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> made = controversial_images([network(0), network(1)], photographs)
    >>> made.ids, made.table["success"].tolist()
    (('a_controversial', 'b_controversial'), [True, True])
    """
    networks = two_networks(models)
    check_photographs(networks[0], references)
    check_classes(networks, confidence, readout, sharpness)
    search = from_options(Search, options, "setting of a search")
    run = run_on_device_of(networks[0], run)
    classes = choose_class_pairs(networks, references, target_a, target_b, seed)
    settings: dict[str, Any] = {
        "kind": KIND,
        "disagreement": "classes",
        "confidence": confidence,
        "readout": readout,
        "sharpness": sharpness,
        "seed": seed,
        **asdict(search),
    }
    fast = [draft_model(network, run.mode) for network in networks]
    drafts = [draft for draft in fast if draft is not None]
    draft_objective = None
    if len(drafts) == len(networks):
        settings |= {"mode": run.mode, "drafts": [draft.digest for draft in drafts]}
        draft_objective = class_disagreement(drafts, readout, sharpness, search.pull)

    def _context(reference_id: str) -> dict[str, np.ndarray]:
        class_a, class_b = classes[reference_id]
        return {"class_a": np.array(class_a), "class_b": np.array(class_b)}

    made = search_images(
        networks,
        references,
        settings,
        search,
        objective=class_disagreement(networks, readout, sharpness, search.pull),
        draft=draft_objective,
        threshold=1 - (1 - confidence) * (1 - SLACK),
        context_of=_context,
        run=run,
    )
    images, table = start_columns(networks, references, made, search, seed)
    order = np.array([classes[reference_id] for reference_id in references.ids])
    targets: dict[str, Any] = {"criterion": confidence}
    for network, indices in zip(networks, order.T, strict=True):
        targets[f"target_index_{network.name}"] = indices
        names = [network.class_names[index] for index in indices]
        targets[f"target_name_{network.name}"] = names
    record = pair_record(networks, references, settings, classes=classes)
    stimuli = StimulusSet(images=images, table=table.assign(**targets), provenance=record)
    return _judge(networks, stimuli, np.asarray(images), confirmed=False)


def check_classes(
    models: Sequence[StagedModel], confidence: float, readout: str, sharpness: float
) -> None:
    """Check that two networks can be sure of two classes, and the settings of that.

    Parameters
    ----------
    models : sequence of StagedModel
        The two networks.
    confidence, readout, sharpness : float, str, float
        See `controversial_images`.

    Raises
    ------
    InputError
        When classes differ or are too few, a name is unknown or a number out of range.
    """
    first, second = models
    refuse_embeddings(first, second)
    if first.class_names != second.class_names:
        raise InputError(
            f"{first.name} and {second.name} have different classes ({first.n_classes} and "
            f"{second.n_classes}, or other names); give networks of the same classes, or a stage "
            "at which their representations are compared."
        )
    if first.n_classes < 2:
        raise InputError(f"{first.name} has 1 class; give networks of at least two.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, not {confidence}; give 0.75, say.")
    if readout not in READOUTS:
        raise unknown_name("readout", readout, READOUTS)
    if not sharpness > 0:
        raise InputError(f"sharpness must be above 0, not {sharpness}; give 100, say.")


def choose_class_pairs(
    models: Sequence[StagedModel],
    references: StimulusSet,
    target_a: str | int | Mapping[str, Any],
    target_b: str | int | Mapping[str, Any],
    seed: int,
) -> dict[str, tuple[int, int]]:
    """Choose the class that each of two networks is to see.

    Parameters
    ----------
    models : sequence of StagedModel
        The two networks.
    references : StimulusSet
        Photographs.
    target_a, target_b : str, int or mapping
        See `controversial_images`.
    seed : int
        Seed of random classes.

    Returns
    -------
    dict of str to tuple of int
        Reference id → class of the first and class of the second network, which differ.

    Raises
    ------
    InputError
        When a class is unknown, or both are the same; the message names the photographs.
    """
    first, second = models
    of_first = choose_targets(target_a, references, first, seed)
    if target_b == "random":
        of_second = {}
        for reference_id, taken in of_first.items():
            random = generator(seed, "second target", reference_id)
            sample = int(random.integers(second.n_classes - 1))
            of_second[reference_id] = sample + (sample >= taken)  # skip the other's class
    else:
        of_second = choose_targets(target_b, references, second, seed)
    same = [name for name in references.ids if of_first[name] == of_second[name]]
    if same:
        raise InputError(
            f"both networks are to see the same class for {name_ids(same)}; give two classes, or "
            "the second target 'random'."
        )
    return {name: (of_first[name], of_second[name]) for name in references.ids}


def class_disagreement(
    models: Sequence[StagedModel], readout: str, sharpness: float, pull: float
) -> Objective:
    """Make the objective of two networks that see two classes.

    Parameters
    ----------
    models : sequence of StagedModel
        The two networks.
    readout : str
        See `READOUTS`.
    sharpness : float
        Of the smooth minimum.
    pull : float
        Weight of the squared L2 distance to the first image.

    Returns
    -------
    callable
        See `stimuli_gen.synthesis.loop.Objective`; its context holds ``class_a``, ``class_b`` and
        ``anchor``, and its score is the smaller of the two probabilities.
    """
    first, second = models
    values_of = READOUTS[readout]
    probability = OBJECTIVES["probability"]

    def _evaluate(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        classes = context["class_a"], context["class_b"]
        logits = first.logits(images), second.logits(images)
        values = values_of(*logits, *classes)
        smallest = -torch.logsumexp(-sharpness * values, dim=1) / sharpness
        loss = pulled(images, context, pull) - smallest
        sure = [probability(*pair) for pair in zip(logits, classes, strict=True)]
        return loss, torch.minimum(*sure)

    return _evaluate


def _judge(
    models: Sequence[StagedModel], stimuli: StimulusSet, pictures: np.ndarray, *, confirmed: bool
) -> StimulusSet:
    """Fill in what each network says to the 8-bit pictures, and whether it is what is asked."""
    shown = from_8bit(to_8bit(pictures))
    table = stimuli.table
    reasons: list[list[str]] = [[] for _ in stimuli.ids]
    columns: dict[str, Any] = {}
    reached = []
    for model in models:
        probabilities = predict(model, shown).astype(np.float64)
        target = table[f"target_index_{model.name}"].to_numpy(dtype=int)
        own = probabilities[np.arange(len(target)), target]
        top = probabilities.argmax(axis=1)
        columns[f"confidence_png_{model.name}"] = own
        columns[f"top1_name_{model.name}"] = [model.class_names[index] for index in top]
        reached.append(own)
        for reason, sure, row in zip(reasons, own, table.to_dict("records"), strict=True):
            if not sure >= row["criterion"]:
                name = row[f"target_name_{model.name}"]
                reason.append(f"{model.name}: p = {sure:.4f} of '{name}'")
    why_not = []
    for reason, row in zip(reasons, table.to_dict("records"), strict=True):
        text = "; ".join(reason)
        if reason and row["score_float"] >= row["criterion"]:
            text += f" once rounded to 8 bits, below {row['criterion']:g}"
        elif reason:
            text += f" after {row['steps']} steps, below {row['criterion']:g}; allow more steps"
        why_not.append(text)
    judged = table.assign(
        **columns,
        score_png=np.min(reached, axis=0),
        success=[not reason for reason in reasons],
        confirmed=confirmed,
        why_not=why_not,
        what_to_try=[WHAT_TO_TRY if text else "" for text in why_not],
    )
    return replace(stimuli, table=judged)


@checked
def confirm_controversial(
    models: Sequence[StagedModel], stimuli: StimulusSet, folder: str | os.PathLike[str]
) -> StimulusSet:
    """Read the written PNG files back and let both networks classify them.

    Parameters
    ----------
    models : sequence of StagedModel
        The two networks that the images were made for, in the same order.
    stimuli : StimulusSet
        What `controversial_images` made.
    folder : path-like
        Where `stimuli_gen.write_stimuli` wrote them.

    Returns
    -------
    StimulusSet
        ``score_png``, ``confidence_png``, ``top1_name``, ``success`` and ``why_not`` from the
        files; ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for
        other networks.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import controversial_images, stage_model
    >>> def network(seed):
    ...     _ = torch.manual_seed(seed)
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     return stage_model(nn.Sequential(*layers), name=f"net{seed}")
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet, confirm_controversial, write_stimuli
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> models = [network(0), network(1)]
    >>> made = controversial_images(models, photographs)
    >>> with TemporaryDirectory() as folder:
    ...     confirmed = confirm_controversial(models, made, write_stimuli(made, folder))
    >>> confirmed.table[["success", "confirmed"]].values.tolist()
    [[True, True], [True, True]]
    """
    networks = two_networks(models)
    needed = [f"target_index_{network.name}" for network in networks]
    check_made_for(networks, stimuli, [*needed, "score_float"], "controversial images")
    pictures = read_saved(stimuli, folder, networks[0].preprocessing.size)
    return _judge(networks, stimuli, pictures, confirmed=True)
