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
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurometamer.arguments import check_fields, checked, from_options
from neurometamer.errors import InputError, name_ids, need_columns, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr
from stimuli_gen.adversarial import OBJECTIVES, check_photographs, read_saved
from stimuli_gen.batches import arithmetic, images_by_id
from stimuli_gen.fast import draft_model
from stimuli_gen.matching import network_set
from stimuli_gen.models import StagedModel, predict, run_on_device_of
from stimuli_gen.presets import STARTS
from stimuli_gen.stimuli import StimulusSet, from_8bit, to_8bit
from stimuli_gen.synthesis.checkpoint import stacked
from stimuli_gen.synthesis.loop import Descended, Objective, Start, StepOptions, descend
from stimuli_gen.targets import choose_targets

KIND = "controversial"
SLACK = 0.01
"""Part of what is allowed that is kept in hand while an image is made, so that the rounding
differences of another batch shape or device cannot turn a success into a failure when the PNG is
read back."""


def _log_probabilities(a: Tensor, b: Tensor, class_a: Tensor, class_b: Tensor) -> Tensor:
    raised = OBJECTIVES["log_probability"]
    return torch.stack([raised(a, class_a), raised(b, class_b)], dim=1)


def _logits(a: Tensor, b: Tensor, class_a: Tensor, class_b: Tensor) -> Tensor:
    raised = OBJECTIVES["logit"]
    kept = raised(a, class_a), raised(b, class_b)
    lost = -raised(a, class_b), -raised(b, class_a)
    return torch.stack([*kept, *lost], dim=1)


READOUTS: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "log_probability": _log_probabilities,
    "logit": _logits,
}
"""Logits of both networks (b, n_classes) and the class that each is to see (b,) → (b, n), whose
smooth minimum is raised. ``log_probability``: log p_A(c1) and log p_B(c2), the smooth form of
equation 1 that the authors' code takes for networks with a softmax. ``logit``: those two logits and
the negative ones of the other's class, equation 4, for networks whose classes do not exclude each
other; of a softmax it does not fix the probabilities, which depend on the other logits, too."""


# ------------------------------------------------------------------------------------------- search


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
        See `stimuli_gen.synthesis.loop.STEP_RULES`.
    optimizer : {"sgd", "momentum", "adam"}
        See `stimuli_gen.synthesis.loop.OPTIMIZERS`.
    step_size : float
        In the unit of the step rule.
    max_steps : int
        Steps after which an image is given up; it stays in the set with ``success = False``.

    Raises
    ------
    InputError
        When a name is unknown or a number out of range.

    Examples
    --------
    >>> from stimuli_gen.controversial import Search
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
        raise InputError(f"images are made for two networks, not {len(networks)} ({names}).")
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
        Class c1, which A is to see; see `stimuli_gen.choose_targets`. By default A's own class of
        the photograph.
    target_b : str, int or mapping
        Class c2, which B is to see, never c1. ``"random"``: any class but c1, drawn for each
        photograph from its own generator; else as `target_a`, ``"own"`` and others being B's.
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
        Fields of `Search`: start, steps, and what is not from the paper.

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
