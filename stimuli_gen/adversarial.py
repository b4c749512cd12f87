"""Adversarial noise (AN) and adversarial interference (AI), made by gradient.

AN looks like noise to people and like the photograph's class to the network; AI looks like the
photograph to people and like another class to the network.

References
----------
Zhang, C., Duan, X.-H., Wang, L.-Y., Li, Y.-L., Yan, B., Hu, G.-E., Zhang, R.-Y. & Tong, L. (2021).
Dissociable neural representations of adversarially perturbed images in convolutional neural
networks and the human brain. Frontiers in Neuroinformatics 15:677925. Their AI images for the
scanner came from a greedy random search; the gradient procedure here is the one of their control
(Supplementary Figure 4). Nguyen, A., Yosinski, J. & Clune, J. (2015). Deep neural networks are
easily fooled. CVPR.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, need_columns, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from neurometamer.store import file_name
from stimuli_gen.batches import images_by_id, made_by
from stimuli_gen.fast import draft_model
from stimuli_gen.models import StagedModel, predict, run_on_device_of
from stimuli_gen.stimuli import StimulusSet, from_8bit, picture_similarity, read_png, to_8bit
from stimuli_gen.stored_images import blocks
from stimuli_gen.synthesis.checkpoint import stacked
from stimuli_gen.synthesis.constraints import Limits, confine_to, within_mask
from stimuli_gen.synthesis.loop import (
    Descended,
    Objective,
    Start,
    StepOptions,
    box,
    descend,
)
from stimuli_gen.synthesis.objectives import Progress, Progressing
from stimuli_gen.targets import choose_targets, refuse_own_class

MEAN_IMAGE = (0.485, 0.456, 0.406)
"""The ImageNet mean color, red, green, blue in [0, 1]; whatever the network's own normalization
is."""


def _of_target(values: Tensor, target: Tensor) -> Tensor:
    columns = values.gather(1, target[:, None])
    return columns[:, 0]


OBJECTIVES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "log_probability": lambda logits, target: _of_target(logits.log_softmax(dim=1), target),
    "probability": lambda logits, target: _of_target(logits.softmax(dim=1), target),
    "logit": _of_target,
}
"""What is raised: logits (b, n_classes), target (b,) → (b,). Zhang et al. (2021) raise the
probability; its logarithm has the same maximum and a gradient that does not vanish where the class
is still unlikely."""

JUDGED = ("confidence_png", "top1_index", "top1_name", "success", "confirmed", "why_not")
"""Columns that come from the network's answer to the 8-bit image."""

_SLACK = 0.01
"""Part of the allowed doubt (1 - confidence) kept in hand while making an image, so that the
rounding differences of another batch shape or device cannot turn a success into a failure when the
PNG is read back."""


# ------------------------------------------------------------------------------------------- making


@checked
def adversarial_noise(
    model: StagedModel,
    references: StimulusSet,
    *,
    target: str | int | Mapping[str, Any] = "own",
    confidence: float = 0.99,
    objective: str = "log_probability",
    pull: float = 1e-3,
    noise_sd: float = 0.1,
    step_rule: str | Progress = "l2",
    step_size: float = 2.0,
    max_steps: int = 300,
    seed: int = 0,
    run: RunOptions | None = None,
) -> StimulusSet:
    """Make adversarial noise: from a noisy mean image to an image of a confident class.

    The procedure is that of Zhang et al. (2021, equation 1) and Nguyen et al. (2015). It raises log
    P(target) - `pull` · ‖I - mean image‖² by gradient steps within [0, 1].

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs; one AN image is made for each, with the id ``<reference id>_AN``.
    target : str, int or mapping
        See `choose_targets`; by default the network's own class of the photograph.
    confidence : float
        Probability of the target at which an image is finished, on its 8-bit version; in (0, 1).
    objective : {"log_probability", "probability", "logit"}
        See `OBJECTIVES`.
    pull : float
        Weight (λ) of the squared L2 distance to the mean image, pixels in [0, 1]. Not stated in the
        papers.
    noise_sd : float
        Standard deviation of the Gaussian start noise, pixels in [0, 1]. Not stated in Zhang et al.
        (2021).
    step_rule : {"l2", "sign", "raw"} or Progress
        See `stimuli_gen.synthesis.loop.STEP_RULES`. With `stimuli_gen.Progress`, steps are those of
        Nguyen et al.: their length follows the wanted rise of the probability, and the image decays
        toward the mean image. This needs ``objective="probability"`` and ``pull=0``, and
        `step_size` is not used. Nguyen et al. start with ``noise_sd=1 / 255``.
    step_size : float
        In the unit of the step rule. Not stated in the papers.
    max_steps : int
        Steps after which an image is given up; it stays in the set with ``success = False``.
    seed : int
        Each image draws its noise from its own generator.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the network.

    Returns
    -------
    StimulusSet
        Kind ``AN``. ``confidence_float`` is of the float pixels, ``confidence_png`` of the 8-bit
        ones; ``l2_8bit`` and ``linf_8bit`` are distances of the 8-bit image to the mean image, in
        levels of 0 to 255; ``psnr`` and ``ssim`` compare it with the photograph, see
        `stimuli_gen.stimuli.picture_similarity`.

    Raises
    ------
    InputError
        When the references are not photographs of the network's input size, or a setting is wrong.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import adversarial_noise, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> made = adversarial_noise(model, photographs, confidence=0.9)
    >>> made.ids, made.table["success"].tolist()
    (('a_AN', 'b_AN'), [True, True])
    """
    settings: dict[str, Any] = {
        "kind": "AN",
        "confidence": confidence,
        "objective": objective,
        "pull": pull,
        "noise_sd": noise_sd,
        "step_rule": "progress" if isinstance(step_rule, Progress) else step_rule,
        "step_size": step_size,
        "max_steps": max_steps,
        "seed": seed,
    }
    _check(model, references, settings)
    if isinstance(step_rule, Progress):
        if objective != "probability" or pull:
            raise InputError(
                "the step rule Progress needs objective 'probability' and pull 0, not "
                f"'{objective}' and {pull}; give both."
            )
        settings |= {"step_size": 1.0, "progress": asdict(step_rule)}
    targets = choose_targets(target, references, model, seed)
    mean = np.array(MEAN_IMAGE, dtype=np.float32).reshape(3, 1, 1)

    def _start(reference_id: str) -> tuple[np.ndarray, np.ndarray]:
        random = generator(seed, "noise", f"{reference_id}_AN")
        noise = random.standard_normal((3, *model.preprocessing.size))
        image = np.clip(mean + noise_sd * noise, 0, 1)
        return image.astype(np.float32), mean

    return _make(
        model,
        references,
        targets,
        settings,
        _start,
        run_on_device_of(model, run),
    )


@checked
def adversarial_interference(
    model: StagedModel,
    references: StimulusSet,
    *,
    target: str | int | Mapping[str, Any] = "random",
    confidence: float = 0.99,
    objective: str = "log_probability",
    pull: float = 1e-3,
    step_rule: str = "l2",
    step_size: float = 0.25,
    max_steps: int = 300,
    limits: Limits | None = None,
    seed: int = 0,
    run: RunOptions | None = None,
) -> StimulusSet:
    """Make adversarial interference: change a photograph as little as possible to a wrong class.

    Raises log P(target) - `pull` · ‖I - photograph‖² by gradient steps within [0, 1] (Zhang 2021,
    control of Supplementary Figure 4).

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs; one AI image is made of each, with the id ``<reference id>_AI``.
    target : str, int or mapping
        See `choose_targets`; never the network's own class of the photograph.
    confidence : float
        Probability of the target at which an image is finished, on its 8-bit version; in (0, 1).
    objective : {"log_probability", "probability", "logit"}
        See `OBJECTIVES`.
    pull : float
        Weight (λ) of the squared L2 distance to the photograph, pixels in [0, 1]. Not stated in the
        paper.
    step_rule : {"l2", "sign", "raw"}
        See `stimuli_gen.synthesis.loop.STEP_RULES`.
    step_size : float
        In the unit of the step rule. Not stated in the paper.
    max_steps : int
        Steps after which an image is given up; it stays in the set with ``success = False``.
    limits : Limits, optional
        How far the image may go from the photograph, and where; there is no limit by default.
    seed : int
        Seed of random targets.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the network.

    Returns
    -------
    StimulusSet
        Kind ``AI``, columns as for `adversarial_noise`; distances are to the photograph.

    Raises
    ------
    InputError
        As for `adversarial_noise`, and when a target is the network's own class.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import adversarial_interference, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> made = adversarial_interference(model, photographs, target="2", confidence=0.9)
    >>> made.ids, made.table["success"].tolist(), made.table["top1_name"].tolist()
    (('a_AI', 'b_AI'), [True, True], ['2', '2'])
    """
    settings: dict[str, Any] = {
        "kind": "AI",
        "confidence": confidence,
        "objective": objective,
        "pull": pull,
        "step_rule": step_rule,
        "step_size": step_size,
        "max_steps": max_steps,
        "seed": seed,
    }
    _check(model, references, settings)
    limits = limits or Limits()
    limits.check_size(model.preprocessing.size)
    settings |= limits.settings()
    targets = choose_targets(target, references, model, seed)
    refuse_own_class(model, references, targets)
    photograph_of = images_by_id(references)

    def _start(reference_id: str) -> tuple[np.ndarray, np.ndarray]:
        photograph = photograph_of(reference_id)
        return photograph, photograph

    return _make(
        model,
        references,
        targets,
        settings,
        _start,
        run_on_device_of(model, run),
        limits,
    )


def check_photographs(model: StagedModel, references: StimulusSet) -> None:
    """Check that images can be made adversarial.

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Must be photographs of its input size.

    Raises
    ------
    InputError
        When they are not.
    """
    kinds = set(references.table["kind"])
    if not len(references) or kinds != {"RE"}:
        names = name_ids(sorted(kinds)) or "none"
        raise InputError(
            f"adversarial images are made from photographs (kind RE), not {names}; "
            "select(kind='RE')."
        )
    if tuple(references.images.shape[2:]) != model.preprocessing.size:
        raise InputError(
            f"the photographs are {references.images.shape[2:]} pixels, {model.name} sees "
            f"{model.preprocessing.size}; load them with its preprocessing."
        )


def _check(model: StagedModel, references: StimulusSet, settings: Mapping[str, Any]) -> None:
    check_photographs(model, references)
    confidence, objective = settings["confidence"], settings["objective"]
    if not 0 < confidence < 1:
        raise InputError(f"confidence must be between 0 and 1, not {confidence}; give 0.99, say.")
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    for name in ("pull", "noise_sd"):
        value = settings.get(name, 0)
        if value < 0:
            raise InputError(f"{name} must not be negative, not {value}; give 0 or more.")


def class_objective(model: StagedModel, objective: str, pull: float) -> Objective:
    """Make the objective of a class: raise it, and keep the image near its anchor.

    Parameters
    ----------
    model : StagedModel
        The network.
    objective : str
        See `OBJECTIVES`.
    pull : float
        Weight of the squared L2 distance to the anchor.

    Returns
    -------
    callable
        See `stimuli_gen.synthesis.loop.Objective`; its context holds ``target`` and ``anchor``, and
        its score is the probability of the target.
    """
    gain = OBJECTIVES[objective]

    def _evaluate(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        target = context["target"]
        logits = model.logits(images)
        change = images - context["anchor"]
        distance = change.square().flatten(1).sum(dim=1)
        loss = pull * distance - gain(logits, target)
        return loss, OBJECTIVES["probability"](logits, target)

    return _evaluate


def _make(
    model: StagedModel,
    references: StimulusSet,
    targets: Mapping[str, int],
    settings: Mapping[str, Any],
    start: Callable[[str], tuple[np.ndarray, np.ndarray]],
    run: RunOptions,
    limits: Limits | None = None,
) -> StimulusSet:
    """Run the loop for all photographs; `start` gives first image and anchor of a reference id."""
    limits = limits or Limits()
    masks = limits.masks(references.ids, model.preprocessing.size)
    draft = draft_model(model, run.mode)
    if draft is not None:
        settings = {**settings, "mode": run.mode, "draft": draft.digest}

    def prepare(reference_id: str) -> Start:
        image, anchor = start(reference_id)
        target = np.array(targets[reference_id])
        context = {"target": target, "anchor": anchor}
        if masks:
            context["mask"] = masks[reference_id]
        return Start(image=image, context=context)

    keys = {}
    for reference_id in references.ids:
        parts = [settings, model.digest, reference_id, targets[reference_id], *start(reference_id)]
        if masks:
            parts.append(masks[reference_id])
        keys[reference_id] = digest(*parts)
    objective, project = _objective(model, settings, masked=bool(masks))
    follows_progress = settings["step_rule"] == "progress"
    made = descend(
        objective,
        references.ids,
        prepare,
        threshold=1 - (1 - settings["confidence"]) * (1 - _SLACK),
        steps=StepOptions(
            step_size=settings["step_size"],
            max_steps=settings["max_steps"],
            step_rule="raw" if follows_progress else settings["step_rule"],
        ),
        draft=None if draft is None else _objective(draft, settings, masked=bool(masks))[0],
        confine=confine_to(limits.ball, limits.radius_kept) if masks else None,
        project=project,
        keys=keys,
        run=run,
    )
    return collect_adversarial(
        model,
        references,
        targets,
        settings,
        made,
        lambda reference_id: start(reference_id)[1],
    )


def _objective(
    model: StagedModel, settings: Mapping[str, Any], *, masked: bool
) -> tuple[Objective, Callable[[Tensor], Tensor]]:
    """Make what is lowered, and what is applied after each step."""
    objective = class_objective(model, settings["objective"], settings["pull"])
    if masked:
        objective = within_mask(objective)
    if settings["step_rule"] != "progress":
        return objective, box
    mean = torch.tensor(MEAN_IMAGE, device=model.device)
    mean = mean.view(3, 1, 1)
    rule = Progress(**settings["progress"])
    progressing = Progressing(objective, rule, mean)
    return progressing, progressing.project


def collect_adversarial(
    model: StagedModel,
    references: StimulusSet,
    targets: Mapping[str, int],
    settings: Mapping[str, Any],
    made: dict[str, Descended],
    anchor_of: Callable[[str], np.ndarray],
    **columns: Sequence[Any],
) -> StimulusSet:
    """Put adversarial images, their table and their provenance together, and judge them.

    Parameters
    ----------
    model : StagedModel
        The network they are for.
    references : StimulusSet
        The photographs.
    targets : mapping of str to int
        Reference id → class.
    settings : mapping
        ``kind``, ``confidence`` and ``seed`` are read; all are kept in the provenance.
    made : dict of str to Descended
        Reference id → result.
    anchor_of : callable
        Reference id → image to which distances are measured.
    **columns : sequence
        Further columns of the table.

    Returns
    -------
    StimulusSet
        One image a photograph, in their order.
    """
    images = stacked(made, references.ids)
    photograph_of = images_by_id(references)
    rows = []
    for reference_id, category in zip(references.ids, references.table["category"], strict=True):
        result = made[reference_id]
        change = to_8bit(result.image).astype(np.float64) - 255.0 * anchor_of(reference_id)
        rows.append(
            {
                "id": f"{reference_id}_{settings['kind']}",
                "kind": settings["kind"],
                "reference_id": reference_id,
                "category": category,
                "target_index": targets[reference_id],
                "target_name": model.class_names[targets[reference_id]],
                "confidence_float": result.score,
                "confidence_png": result.score_shown,
                "criterion": settings["confidence"],
                "top1_index": -1,
                "top1_name": "",
                "steps": result.steps,
                "success": False,
                "confirmed": False,
                "why_not": "",
                "seed": settings["seed"],
                "model": model.name,
                "weights": model.weights,
                "l2_8bit": float(np.sqrt(np.square(change).sum())),
                "linf_8bit": float(np.abs(change).max()),
                **picture_similarity(result.image, photograph_of(reference_id)),
                "note": "" if model.trained else "untrained network",
            }
        )
    record = provenance(
        settings,
        **made_by(model),
        references=references.digest,
        targets=dict(targets),
    )
    table = pd.DataFrame(rows).assign(**columns)
    stimuli = StimulusSet(images=images, table=table, provenance=record)
    return judge_adversarial(model, stimuli, images)


# ------------------------------------------------------------------------------------------ judging


def judge_adversarial(
    model: StagedModel, stimuli: StimulusSet, pictures: np.ndarray, *, confirmed: bool = False
) -> StimulusSet:
    """Fill in the network's answer to the 8-bit pictures and whether each row's criterion is met.

    Parameters
    ----------
    model : StagedModel
        The network.
    stimuli : StimulusSet
        Adversarial images.
    pictures : ndarray
        (n, 3, height, width) float32: the images, or what was read from their files.
    confirmed : bool
        Whether the pictures come from the files.

    Returns
    -------
    StimulusSet
        With the columns of `confirm_saved`.
    """
    shown = (from_8bit(to_8bit(block)) for block in blocks(pictures))
    probabilities = np.concatenate([predict(model, block) for block in shown]).astype(np.float64)
    table = stimuli.table
    target = table["target_index"].to_numpy(dtype=int)
    reached = probabilities[np.arange(len(probabilities)), target]
    top = probabilities.argmax(axis=1)
    success = reached >= table["criterion"].to_numpy(dtype=float)
    why_not = []
    for good, shown_p, row in zip(success, reached, table.to_dict("records"), strict=True):
        criterion = f"below {row['criterion']:g}"
        if good:
            why_not.append("")
        elif row["confidence_float"] >= row["criterion"]:
            why_not.append(
                f"p = {row['confidence_float']:.4f} in float but {shown_p:.4f} once rounded to 8 "
                f"bits, {criterion}"
            )
        else:
            why_not.append(
                f"p = {shown_p:.4f} after {row['steps']} steps, {criterion}; allow more steps or "
                "larger ones"
            )
    judged = table.assign(
        confidence_png=reached,
        top1_index=top,
        top1_name=[model.class_names[index] for index in top],
        success=success,
        confirmed=confirmed,
        why_not=why_not,
    )
    return replace(stimuli, table=judged)


def read_saved(
    stimuli: StimulusSet, folder: str | os.PathLike[str], size: tuple[int, int]
) -> np.ndarray:
    """Read the written PNG files of images.

    Parameters
    ----------
    stimuli : StimulusSet
        The images.
    folder : path-like
        Where `stimuli_gen.stimuli.write_pictures` wrote them.
    size : tuple of int
        (height, width) that they must have, in pixels.

    Returns
    -------
    ndarray
        (n, 3, height, width) float32 in [0, 1].

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size.
    """
    pictures = np.empty((len(stimuli), 3, *size), np.float32)
    for row, stimulus_id in enumerate(stimuli.ids):
        path = Path(folder) / "png" / f"{file_name(stimulus_id)}.png"
        picture = read_png(path)
        if picture.shape[1:] != size:
            raise InputError(f"{path} is {picture.shape[1:]} pixels, not {size}; write it again.")
        pictures[row] = picture
    return pictures


@checked
def confirm_saved(
    model: StagedModel, stimuli: StimulusSet, folder: str | os.PathLike[str]
) -> StimulusSet:
    """Read the written PNG files back and judge them, because people are shown these files.

    Parameters
    ----------
    model : StagedModel
        The network that the images were made for.
    stimuli : StimulusSet
        What `adversarial_noise` or `adversarial_interference` made (other kinds in it are left as
        they are).
    folder : path-like
        Where `write_stimuli` wrote them.

    Returns
    -------
    StimulusSet
        ``confidence_png``, ``top1_index``, ``top1_name``, ``success`` and ``why_not`` from the
        files, ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for
        another network.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> from stimuli_gen import adversarial_interference, confirm_saved, write_stimuli
    >>> made = adversarial_interference(model, photographs, confidence=0.9)
    >>> with TemporaryDirectory() as folder:
    ...     confirmed = confirm_saved(model, made, write_stimuli(made, folder))
    >>> confirmed.table[["success", "confirmed"]].values.tolist()
    [[True, True], [True, True]]
    """
    made = stimuli.table["kind"].isin(["AN", "AI"]).to_numpy()
    if not made.any():
        kinds = name_ids(sorted(set(stimuli.table["kind"])))
        raise InputError(
            f"no adversarial images (kind AN or AI) to confirm, only {kinds or 'none'}; give what "
            "adversarial_noise or adversarial_interference made."
        )
    if not made.all():
        ours = confirm_saved(model, stimuli.select(ids=stimuli.table["id"][made].tolist()), folder)
        table = stimuli.table.astype({"success": object, "confirmed": object})
        for column in JUDGED:
            table.loc[made, column] = ours.table[column].to_numpy()
        return replace(stimuli, table=table)
    needed = ("target_index", "criterion", "confidence_float", "steps")
    table = stimuli.table
    need_columns(table, needed, "the stimulus table", "It is not an adversarial set.")
    others = table["id"][(table["model"] != model.name) | (table["weights"] != model.weights)]
    if len(others):
        raise InputError(
            f"made for another network than {model.name} ({model.weights}): {name_ids(others)}; "
            "confirm them with the network they were made for."
        )
    pictures = read_saved(stimuli, folder, model.preprocessing.size)
    return judge_adversarial(model, stimuli, pictures, confirmed=True)
