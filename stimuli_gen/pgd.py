"""Attack networks by projected gradient descent (PGD) within a ball around a photograph.

References
----------
Mądry, A., Makelov, A., Schmidt, L., Tsipras, D. & Vladu, A. (2018). Towards deep learning models
resistant to adversarial attacks. ICLR. Feather, J. et al. (2023). Nature Neuroscience 26,
2017-2034: untargeted, 64 steps of a quarter of the radius, L2 radius 3 and L∞ radius 4/255, pixels
in [0, 1].
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr
from stimuli_gen.adversarial import check_photographs, read_saved
from stimuli_gen.batches import images_by_id, made_by
from stimuli_gen.fast import draft_model
from stimuli_gen.models import StagedModel, predict, run_on_device_of
from stimuli_gen.stimuli import StimulusSet, from_8bit, image_distances, to_8bit
from stimuli_gen.synthesis.checkpoint import stacked
from stimuli_gen.synthesis.constraints import (
    BALLS,
    Limits,
    confine_to,
    digest_masks,
    linf_on_8_bits,
    random_in_ball,
    within_mask,
)
from stimuli_gen.synthesis.loop import Descended, Objective, Start, StepOptions, descend
from stimuli_gen.targets import choose_targets, refuse_own_class


@dataclass(frozen=True, kw_only=True)
class Attack:
    """A kind of attack: an entry of `ATTACKS`.

    Parameters
    ----------
    ball : str
        See `stimuli_gen.synthesis.constraints.BALLS`.
    radius : float
        Radius where none is given, pixels in [0, 1].
    step_rule : str
        See `stimuli_gen.synthesis.loop.STEP_RULES`.
    help : str
        One line.
    """

    ball: str
    radius: float
    step_rule: str
    help: str


ATTACKS: Mapping[str, Attack] = {
    "pgd_l2": Attack(
        ball="l2",
        radius=3.0,
        step_rule="l2",
        help="projected gradient descent in an L2 ball",
    ),
    "pgd_linf": Attack(
        ball="linf",
        radius=4 / 255,
        step_rule="sign",
        help="projected gradient descent in an L-infinity ball",
    ),
}
"""Name → kind of attack."""


@short_repr
@dataclass(frozen=True)
class AwayFrom:
    """The right class of photographs, that an untargeted attack leads away from.

    Parameters
    ----------
    label : str, int or mapping
        See `stimuli_gen.choose_targets`; by default the network's own choice for the photograph.

    Examples
    --------
    >>> from stimuli_gen import AwayFrom
    >>> AwayFrom(3)
    AwayFrom(label=3)
    """

    label: str | int | Mapping[str, Any] = "own"


@checked
def attack_images(
    model: StagedModel,
    references: StimulusSet,
    attack: str = "pgd_linf",
    *,
    radius: float | None = None,
    target: str | int | Mapping[str, Any] | AwayFrom | None = None,
    steps: int = 64,
    step_size: float | None = None,
    random_start: bool = True,
    stop_early: bool = False,
    mask: np.ndarray | Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    run: RunOptions | None = None,
) -> StimulusSet:
    """Change photographs within a ball so that a network errs.

    Projected gradient steps are taken on the cross-entropy.

    Parameters
    ----------
    model : StagedModel
        The network.
    references : StimulusSet
        Photographs; one image is made of each, with the id ``<reference id>_<attack>``.
    attack : {"pgd_l2", "pgd_linf"}
        L2 ball with L2-normalized steps, or L∞ ball with sign steps.
    radius : float, optional
        Radius of the ball, pixels in [0, 1]; by default 3 (L2) or 4/255 (L∞).
    target : str, int, mapping or AwayFrom, optional
        Class to reach, see `stimuli_gen.choose_targets`, or in Python the right class
        (`AwayFrom`). By default the attack is untargeted: away from the network's own choice for
        the photograph.
    steps : int
        Number of steps.
    step_size : float, optional
        By default a quarter of the radius.
    random_start : bool
        Start at a random point of the ball (uniform over it) rather than at the photograph.
    stop_early : bool
        Finish an image as soon as it errs, float and 8-bit versions alike, instead of taking all
        steps.
    mask : ndarray or mapping of str to ndarray, optional
        (height, width), 1 where pixels may change, for all or by reference id. Others stay exactly
        as they are.
    seed : int
        Seed of random starts and random targets; each image has its own generator.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the network.

    Returns
    -------
    StimulusSet
        Kind ``control``, with label or target, what the network says to the 8-bit image,
        ``success`` (it errs as wanted), and the distances of `stimuli_gen.image_distances`. The
        float image is in the ball. The 8-bit image of an 8-bit photograph is in the L∞ ball too: a
        radius of at least 1/255 is lowered to whole levels for that. In the L2 ball it is only up
        to rounding, which adds at most half a level a value; compare ``l2_8bit`` with
        ``radius_8bit``.

    Raises
    ------
    InputError
        When a setting, a class or a mask is wrong.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import ATTACKS, attack_images, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> list(ATTACKS)
    ['pgd_l2', 'pgd_linf']
    >>> made = attack_images(model, photographs, "pgd_l2", steps=10)
    >>> made.ids, made.table["success"].tolist()
    (('a_pgd_l2', 'b_pgd_l2'), [True, True])
    """
    if attack not in ATTACKS:
        raise unknown_name("attack", attack, ATTACKS)
    entry, size = ATTACKS[attack], model.preprocessing.size
    wanted = entry.radius if radius is None else radius
    limits = Limits(ball=entry.ball, radius=wanted, mask=mask)
    limits.check_size(size)
    kept = linf_on_8_bits(wanted) if entry.ball == "linf" else wanted
    away_from = AwayFrom() if target is None else target
    targeted = not isinstance(away_from, AwayFrom)
    settings: dict[str, Any] = {
        "control": attack,
        "radius": kept,
        "radius_asked": wanted,
        "steps": steps,
        "step_size": kept / 4 if step_size is None else step_size,
        "seed": seed,
        "targeted": targeted,
        "random_start": random_start,
        "stop_early": stop_early,
    }
    run = run_on_device_of(model, run)
    draft = draft_model(model, run.mode)
    if draft is not None:
        settings |= {"mode": run.mode, "draft": draft.digest}
    check_photographs(model, references)
    rule = away_from.label if isinstance(away_from, AwayFrom) else away_from
    classes = choose_targets(rule, references, model, seed)
    if targeted:
        refuse_own_class(model, references, classes)
    photograph_of = images_by_id(references)
    masks = limits.masks(references.ids, size)
    keys = {}
    for reference_id in references.ids:
        own = classes[reference_id], masks[reference_id], photograph_of(reference_id)
        keys[reference_id] = digest(settings, model.digest, reference_id, *own)

    def _prepare(reference_id: str) -> Start:
        image = anchor = photograph_of(reference_id)
        if random_start:
            random = generator(seed, attack, reference_id)
            change = masks[reference_id] * random_in_ball(random, anchor.shape, entry.ball, kept)
            # a start is in the ball up to rounding: put it into the ball and into [0, 1]
            start, center = torch.from_numpy(anchor + change), torch.from_numpy(anchor)
            confined = BALLS[entry.ball](start[None], center[None], kept)
            image = confined.clamp(0, 1)[0].numpy()
        context = {"class": np.array(classes[reference_id]), "anchor": anchor}
        context["mask"] = masks[reference_id]
        return Start(image=image, context=context)

    made = descend(
        _objective(model, targeted=targeted),
        references.ids,
        _prepare,
        threshold=_ANY if stop_early else float("inf"),
        steps=StepOptions(
            step_size=settings["step_size"],
            max_steps=steps,
            step_rule=entry.step_rule,
            keep="last",
        ),
        draft=None if draft is None else _objective(draft, targeted=targeted),
        confine=confine_to(entry.ball, kept),
        keys=keys,
        run=run,
    )
    return _collect(model, references, classes, settings, made, mask)


@checked
def confirm_attacks(
    model: StagedModel, stimuli: StimulusSet, folder: str | os.PathLike[str]
) -> StimulusSet:
    """Read the written PNG files back and judge them, because people are shown these files.

    Parameters
    ----------
    model : StagedModel
        The network that was attacked.
    stimuli : StimulusSet
        What `attack_images` made.
    folder : path-like
        Where `stimuli_gen.stimuli.write_pictures` wrote them.

    Returns
    -------
    StimulusSet
        ``class_probability_png``, ``top1_index``, ``top1_name``, ``success`` and ``why_not`` from
        the files, ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or another network was
        attacked.

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
    >>> from stimuli_gen import attack_images, confirm_attacks, write_stimuli
    >>> made = attack_images(model, photographs, "pgd_l2", steps=10)
    >>> with TemporaryDirectory() as folder:
    ...     confirmed = confirm_attacks(model, made, write_stimuli(made, folder))
    >>> confirmed.table["confirmed"].tolist()
    [True, True]
    """
    needed = {"class_index", "class_name", "targeted"}
    if not needed <= set(stimuli.table) or stimuli.provenance.get("model_digest") != model.digest:
        raise InputError(
            f"these images are no attacks on {model.name} ({model.weights}); confirm them with "
            "theirs."
        )
    pictures = read_saved(stimuli, folder, tuple(stimuli.images.shape[2:]))
    table = stimuli.table
    targeted = table["targeted"].astype(str).eq("True").to_numpy()
    said = _say(model, pictures, table["class_index"].to_numpy(dtype=int), targeted)
    return replace(stimuli, table=table.assign(**said, confirmed=True))


def _say(
    model: StagedModel, pictures: np.ndarray, classes: np.ndarray, targeted: np.ndarray
) -> dict[str, Any]:
    """Run the network on 8-bit pictures and tell whether it errs as wanted."""
    probabilities = predict(model, pictures).astype(np.float64)
    top = probabilities.argmax(axis=1)
    says_class = top == classes
    success = says_class == targeted
    why_not = []
    for good, aimed, index in zip(success, targeted, classes, strict=True):
        answer = "does not say" if aimed else "still says"
        why_not.append("" if good else f"the network {answer} '{model.class_names[index]}'")
    rows = np.arange(len(probabilities))
    return {
        "class_probability_png": probabilities[rows, classes],
        "top1_index": top,
        "top1_name": [model.class_names[index] for index in top],
        "success": success,
        "why_not": why_not,
    }


_ANY = float(np.finfo(np.float32).tiny)
"""The least margin that counts as an error of the network."""


def _objective(model: StagedModel, *, targeted: bool) -> Objective:
    """Make the objective: the log-probability of the label, or its negative for a target.

    The score is the margin in logits.
    """
    sign = -1.0 if targeted else 1.0

    def evaluate(images: Tensor, context: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits, index = model.logits(images), context["class"][:, None]
        values = logits.detach()
        best_of_others = values.scatter(1, index, -torch.inf).amax(dim=1)
        margin = best_of_others - values.gather(1, index)[:, 0]
        log_probability = logits.log_softmax(dim=1).gather(1, index)[:, 0]
        return sign * log_probability, sign * margin

    return within_mask(evaluate)


def _collect(
    model: StagedModel,
    references: StimulusSet,
    classes: Mapping[str, int],
    settings: Mapping[str, Any],
    made: dict[str, Descended],
    mask: np.ndarray | Mapping[str, np.ndarray] | None,
) -> StimulusSet:
    images = stacked(made, references.ids)
    order = np.array([classes[reference_id] for reference_id in references.ids])
    targeted = np.full(len(order), bool(settings["targeted"]))
    said = pd.DataFrame(_say(model, from_8bit(to_8bit(images)), order, targeted))
    photograph_of = images_by_id(references)
    rows = []
    for row, reference_id in enumerate(references.ids):
        answers = said.iloc[[row]].to_dict("records")[0]
        rows.append(
            {
                "id": f"{reference_id}_{settings['control']}",
                "kind": "control",
                "reference_id": reference_id,
                "category": references.table["category"].iloc[row],
                "control": settings["control"],
                "level": settings["radius"],
                "targeted": str(bool(settings["targeted"])),
                "class_index": classes[reference_id],
                "class_name": model.class_names[classes[reference_id]],
                "margin_float": made[reference_id].score,
                **{str(name): value for name, value in answers.items()},
                "steps": made[reference_id].steps,
                "confirmed": False,
                "seed": settings["seed"],
                "model": model.name,
                "weights": model.weights,
                "radius_8bit": 255 * settings["radius"],
                **image_distances(images[row], photograph_of(reference_id)),
                "note": "" if model.trained else "untrained network",
            }
        )
    record = provenance(
        settings,
        **made_by(model),
        references=references.digest,
        classes=classes,
        mask=None if mask is None else digest_masks(mask),
    )
    return StimulusSet(images=images, table=pd.DataFrame(rows), provenance=record)
