"""Metamers: images that one network, or each of a set, cannot tell from a photograph at a stage.

A metamer of one network is a metamer of a set of one. It is made in the loop of all generators (`stimuli_gen.descent`)
by lowering ‖a' - a‖ / ‖a‖ of each network, a and a' being its activations to photograph and image.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent invariances between
biological and artificial neural networks. Nature Neuroscience 26, 2017-2034.
Boehm et al. (2025). arXiv 2504.01739 (sets of networks).
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

from neurometamer.store import InputError, digest, file_name, generator, name_ids, provenance
from stimuli_gen.balls import BALLS
from stimuli_gen.descent import Start, descend
from stimuli_gen.matching import Match, Stages, check_reach, match_stages, metamer_objectives
from stimuli_gen.recipes import STARTS, Penalty, Recipe, make_recipe
from stimuli_gen.staged import StagedModel, padded_batches
from stimuli_gen.stimuli import StimulusSet, from_8bit, read_png, to_8bit

# ------------------------------------------------------------------------------------------------------ making


def model_metamers(
    models: StagedModel | Sequence[StagedModel],
    references: StimulusSet,
    *,
    stage: Stages | Mapping[str, Stages],
    preset: str = "feather2023",
    stage_weights: Sequence[float] | None = None,
    penalties: Sequence[Penalty] = (),
    start_images: Mapping[str, np.ndarray] | np.ndarray | None = None,
    max_error: float | None = None,
    suffix: str = "",
    seed: int = 0,
    batch_size: int = 8,
    resume: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **overrides: Any,
) -> StimulusSet:
    """Make metamers of photographs for one network or a set of networks.

    Parameters
    ----------
    models : StagedModel or sequence of StagedModel
        One network, or a set whose inputs have one size.
    references : StimulusSet
        Photographs; one metamer is made of each, with the id ``<reference id>_metamer``.
    stage : str, float, sequence of these, or mapping
        What to match: a stage's name, ``"early"``, ``"middle"``, ``"late"`` or a fraction of depth, several of these,
        or a mapping of network name to these. See `stimuli_gen.depth.resolve_stage`.
    preset : {"feather2023", "boehm2025", "fast"}
        See `stimuli_gen.recipes.PRESETS`.
    stage_weights : sequence of float, optional
        Of several stages; equal by default.
    penalties : sequence of Penalty
        Terms added to the loss.
    start_images : ndarray or mapping of str to ndarray, optional
        First images, (3, height, width) float in [0, 1]: one for all, or by reference id; sets ``start="image"``.
    max_error : float, optional
        An image is finished early, and can only succeed, when ‖a' - a‖ / ‖a‖ of every network is at most this, on the
        8-bit version too. In no paper; by default all steps are taken.
    suffix : str
        Of the ids, after ``_metamer``, to tell sets apart.
    seed : int
        Each image draws its start from its own generator, the same for all stages and networks.
    batch_size : int
        See `stimuli_gen.descent.descend`.
    resume : path-like, optional
        Folder for finished images, to go on after an interruption.
    progress : callable, optional
        Called with (images done, images in all).
    **overrides : object
        Fields of `stimuli_gen.recipes.Recipe`, in place of the preset's.

    Returns
    -------
    StimulusSet
        Kind ``metamer``. ``loss_float`` and ``loss_png`` are ‖a' - a‖ / ‖a‖ of the float and the 8-bit pixels;
        ``same_class_1000`` says whether photograph and 8-bit image have the same first class; of several networks
        these and ``stage`` end in the network's name. ``success``: the same class (and `max_error`) for every network.

    Raises
    ------
    InputError
        When photographs, networks, stages or settings do not fit; when activations are not finite or all zero.
    """
    if start_images is not None:
        overrides = {"start": "image", **overrides}
    recipe = make_recipe(preset, overrides)
    matches = match_stages(
        models, stage, stage_weights=stage_weights, straight_through_relu=recipe.straight_through_relu
    )
    _check(matches, references, recipe, start_images, max_error)
    if overrides.get("straight_through_relu") and not all(one.straight_through for one in matches):
        others = [one.key(one.stage) for one in matches if not one.straight_through]
        raise InputError(f"straight_through_relu needs a stage that is a ReLU; these are none: {name_ids(others)}.")
    settings = {
        "kind": "metamer", "preset": preset, **asdict(recipe), "open_choices": list(recipe.open_choices),
        "stages": {one.model.name: list(one.stages) for one in matches},
        "stage_weights": {one.model.name: list(one.weights) for one in matches},
        "straight_through_at": {one.model.name: list(one.straight_through) for one in matches},
        "penalties": [asdict(one) for one in penalties], "max_error": max_error, "suffix": suffix, "seed": seed,
    }  # fmt: skip
    starts = _Starts(references, recipe, start_images, seed)
    anchors = _Anchors(matches, references, batch_size, starts)

    def _prepare(reference_id: str) -> Start:
        first = starts(reference_id)
        center = starts.photograph(reference_id) if recipe.center == "reference" else first
        ball = {} if recipe.ball == "none" else {"center": center}
        return Start(image=first, context={**anchors(reference_id), **ball})

    made = descend(
        metamer_objectives(matches, recipe, penalties),
        references.ids,
        _prepare,
        threshold=torch.inf if max_error is None else -max_error,
        step_size=lambda step: recipe.step_length(step, len(matches)),
        max_steps=recipe.total_steps(len(matches)),
        step_rule=recipe.step_rule,
        optimizer=recipe.optimizer,
        solver=recipe.solver,
        turn=recipe.turn,
        confine=_confine(recipe),
        keep="last",
        batch_size=batch_size,
        device=matches[0].model.device,
        keys=_keys(settings, matches, starts, references.ids),
        resume=resume,
        progress=progress,
    )
    images = np.stack([made[one].image for one in references.ids])
    stimuli = StimulusSet(
        images=images,
        table=_describe(matches, references, settings, {one: found.steps for one, found in made.items()}, images),
        provenance=provenance(
            settings,
            models=[{"name": one.model.name, "weights": one.model.weights, "digest": one.digest} for one in matches],
            model_digest=digest([one.digest for one in matches]),
            references=references.digest,
            device=matches[0].model.device.type,
        ),
    )
    return _judge(matches, stimuli, references, from_8bit(to_8bit(images)), confirmed=False, batch_size=batch_size)


def _check(
    matches: Sequence[Match],
    references: StimulusSet,
    recipe: Recipe,
    start_images: Mapping[str, np.ndarray] | np.ndarray | None,
    max_error: float | None,
) -> None:
    model = matches[0].model
    if not len(references) or set(references.table["kind"]) != {"RE"}:
        kinds = name_ids(sorted(set(references.table["kind"]))) or "none"
        raise InputError(f"metamers are made of photographs (kind RE), not {kinds}; select(kind='RE').")
    if tuple(references.images.shape[2:]) != model.preprocessing.size:
        raise InputError(
            f"the photographs are {references.images.shape[2:]} pixels, {model.name} sees {model.preprocessing.size}; "
            "load them with its preprocessing."
        )
    if (recipe.start == "image") != (start_images is not None):
        raise InputError("start_images and start='image' go together; give both or neither.")
    if max_error is not None and not max_error > 0:
        raise InputError(f"max_error must be above 0, not {max_error}.")


class _Starts:
    """First images, by reference id."""

    def __init__(
        self,
        references: StimulusSet,
        recipe: Recipe,
        given: Mapping[str, np.ndarray] | np.ndarray | None,
        seed: int,
    ) -> None:
        self._images, self._recipe, self._given, self._seed = references.images, recipe, given, seed
        self._place = {one: row for row, one in enumerate(references.ids)}
        if isinstance(given, Mapping) and (missing := [one for one in references.ids if one not in given]):
            raise InputError(f"no start image for {name_ids(missing)}; give one for each photograph.")

    def photograph(self, one: str) -> np.ndarray:
        image = self._images[slice(self._place[one], self._place[one] + 1)][0]
        if not (image.min() >= 0 and image.max() <= 1):
            raise InputError(f"the photograph '{one}' leaves [0, 1] or is not finite; scale by 1/255 or clip.")
        return image

    def __call__(self, one: str) -> np.ndarray:
        photograph, recipe = self.photograph(one), self._recipe
        if self._given is None:
            random = generator(self._seed, "metamer start", one)
            first = STARTS[recipe.start](photograph, random, recipe.start_level, recipe.start_spread)
            return np.clip(first, 0, 1).astype(np.float32)
        image = np.asarray(self._given[one] if isinstance(self._given, Mapping) else self._given, dtype=np.float32)
        if image.shape != photograph.shape or not (image.min() >= 0 and image.max() <= 1):
            raise InputError(f"the start image of '{one}' must be {photograph.shape} in [0, 1], not {image.shape}.")
        return image


class _Anchors:
    """Activations to the photographs, computed once each, a batch at a time in the order of the loop."""

    def __init__(self, matches: Sequence[Match], references: StimulusSet, batch_size: int, starts: _Starts) -> None:
        self._matches, self._batch_size, self._starts = matches, batch_size, starts
        self._images, self._ids = references.images, references.ids
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    def __call__(self, one: str) -> Mapping[str, np.ndarray]:
        if one not in self._kept:
            first = self._ids.index(one)
            rows = slice(first, min(first + self._batch_size, len(self._ids)))
            _, batch = next(padded_batches(self._images[rows], self._batch_size, self._matches[0].model.device))
            found: dict[str, np.ndarray] = {}
            for match in self._matches:
                found |= {name: value.cpu().numpy() for name, value in match.anchors(batch).items()}
            _check_anchors(found, self._ids[rows])
            if not self._kept:  # the first time
                check_reach(self._matches, self._starts(one), one)
            self._kept = {
                name: {key: value[row] for key, value in found.items()} for row, name in enumerate(self._ids[rows])
            }
        return self._kept[one]


def _check_anchors(found: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
    for name, norms in found.items():
        if norms.ndim > 1:
            continue
        stage = name.removesuffix(" norm")
        if bad := [one for one, norm in zip(ids, norms) if not np.isfinite(norm)]:
            raise InputError(f"{stage}: activations are not finite for {name_ids(bad)}; check the network.")
        if bad := [one for one, norm in zip(ids, norms) if norm == 0]:
            raise InputError(f"{stage}: activations are all zero for {name_ids(bad)}; match another stage.")


def _confine(recipe: Recipe) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None:
    if recipe.ball == "none":
        return None
    return lambda images, context: BALLS[recipe.ball](images, context["center"], recipe.radius)


def _keys(settings: Mapping[str, Any], matches: Sequence[Match], starts: _Starts, ids: Sequence[str]) -> dict[str, str]:
    """Hash all that makes each image's pixels; what only names them is left out."""
    recipe = {name: value for name, value in settings.items() if name not in ("preset", "open_choices", "suffix")}
    models = [one.digest for one in matches]
    return {one: digest(recipe, models, one, starts.photograph(one), starts(one)) for one in ids}


def _ends(matches: Sequence[Match]) -> list[str]:
    return [""] if len(matches) == 1 else [f"_{one.model.name}" for one in matches]


def _describe(
    matches: Sequence[Match],
    references: StimulusSet,
    settings: Mapping[str, Any],
    steps: Mapping[str, int],
    images: np.ndarray,
) -> pd.DataFrame:
    fixed = {
        "model": "+".join(one.model.name for one in matches),
        "weights": "; ".join(one.model.weights for one in matches),
        **{f"stage{end}": one.stage for end, one in zip(_ends(matches), matches, strict=True)},
        "preset": settings["preset"],
        "straight_through": ", ".join(one.key(name) for one in matches for name in one.straight_through)
        or ("not applicable" if settings["straight_through_relu"] else "no"),
        "max_error": np.nan if settings["max_error"] is None else settings["max_error"],
        "seed": settings["seed"],
        "note": "" if all(one.model.trained for one in matches) else "untrained network",
    }
    rows = []
    for row, (one, category) in enumerate(zip(references.ids, references.table["category"], strict=True)):
        photograph = references.images[slice(row, row + 1)][0]
        change = to_8bit(images[row]).astype(np.float64) - 255.0 * photograph
        rows.append(
            {
                "id": f"{one}_metamer{settings['suffix']}",
                "kind": "metamer",
                "reference_id": one,
                "category": category,
                **fixed,
                "steps": steps[one],
                "l2_8bit": float(np.sqrt(np.square(change).sum())),
                "linf_8bit": float(np.abs(change).max()),
            }
        )
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------------- judging


def _errors(match: Match, references: Any, images: Any, batch_size: int) -> np.ndarray:
    found = []
    pairs = zip(
        padded_batches(references, batch_size, match.model.device),
        padded_batches(images, batch_size, match.model.device),
        strict=True,
    )
    with torch.no_grad():
        for (rows, photographs), (_, batch) in pairs:
            error = match.error(batch, match.anchors(photographs))
            found.append(error[: rows.stop - rows.start].cpu().numpy())
    return np.concatenate(found).astype(np.float64)


def _top_class(model: StagedModel, images: Any, batch_size: int) -> np.ndarray:
    found = []
    with torch.no_grad():
        for rows, batch in padded_batches(images, batch_size, model.device):
            found.append(model.logits(batch)[: rows.stop - rows.start].argmax(dim=1).cpu().numpy())
    return np.concatenate(found)


def _judge(
    matches: Sequence[Match],
    stimuli: StimulusSet,
    references: StimulusSet,
    pictures: np.ndarray,
    *,
    confirmed: bool,
    batch_size: int = 8,
) -> StimulusSet:
    """Fill in what each network says to the float and the 8-bit pixels, and whether that meets the criterion."""
    columns: dict[str, Any] = {}
    reasons: list[list[str]] = [[] for _ in stimuli.ids]
    limits = stimuli.table["max_error"].to_numpy(dtype=float)
    for end, match in zip(_ends(matches), matches, strict=True):
        columns[f"loss_float{end}"] = _errors(match, references.images, stimuli.images, batch_size)
        columns[f"loss_png{end}"] = loss = _errors(match, references.images, pictures, batch_size)
        own, seen = (_top_class(match.model, images, batch_size) for images in (references.images, pictures))
        columns[f"same_class_1000{end}"] = own == seen
        for row, reason in enumerate(reasons):
            if own[row] != seen[row]:
                names = match.model.class_names
                reason.append(f"{match.model.name} says {names[seen[row]]} instead of {names[own[row]]}")
            if loss[row] > limits[row]:
                reason.append(f"{match.model.name}: loss {loss[row]:.4f} above {limits[row]:g}")
    columns["success"] = [not reason for reason in reasons]
    columns["confirmed"] = confirmed
    columns["why_not"] = ["; ".join(reason) for reason in reasons]
    return replace(stimuli, table=stimuli.table.assign(**columns))


def confirm_metamers(
    models: StagedModel | Sequence[StagedModel],
    stimuli: StimulusSet,
    references: StimulusSet,
    folder: str | os.PathLike[str],
) -> StimulusSet:
    """Read the written PNG files back and judge them: what people will be shown is what must match.

    Parameters
    ----------
    models : StagedModel or sequence of StagedModel
        The networks that the metamers were made for.
    stimuli : StimulusSet
        What `model_metamers` made.
    references : StimulusSet
        Their photographs.
    folder : path-like
        Where `stimuli_gen.stimuli.write_stimuli` wrote them.

    Returns
    -------
    StimulusSet
        ``loss_png``, ``same_class_1000``, ``success`` and ``why_not`` from the files, ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for other networks.
    """
    networks = [models] if isinstance(models, StagedModel) else list(models)
    settings = stimuli.provenance.get("settings", {})
    made_for = [one["digest"] for one in stimuli.provenance.get("models", [])]
    if not made_for or set(stimuli.table["kind"]) != {"metamer"}:
        raise InputError("no metamers to confirm; give a set that the metamer generator made.")
    if made_for != [one.digest for one in networks]:
        raise InputError("the metamers were made for other networks; confirm them with those, in the same order.")
    matches = [
        match_stages(
            one,
            settings["stages"][one.name],
            stage_weights=settings["stage_weights"][one.name],
        )[0]
        for one in networks
    ]
    photographs = references.select(ids=stimuli.table["reference_id"].tolist())
    pictures = []
    for one in stimuli.ids:
        path = Path(folder) / "png" / f"{file_name(one)}.png"
        pictures.append(read_png(path))
        if pictures[-1].shape[1:] != tuple(stimuli.images.shape[2:]):
            raise InputError(f"{path} is {pictures[-1].shape[1:]} pixels, not those that were made; write it again.")
    return _judge(matches, stimuli, photographs, np.stack(pictures), confirmed=True)
