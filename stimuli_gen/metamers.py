"""Metamers: images that one network, or each of a set, cannot tell from a photograph at a stage.

A metamer of one network is a metamer of a set of one. It is made in the loop of all generators
(`stimuli_gen.synthesis.loop`) by lowering ‖a' - a‖ / ‖a‖ of each network, a and a' being its
activations to photograph and image.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent
invariances between biological and artificial neural networks. Nature Neuroscience 26, 2017-2034.
Boehm et al. (2025). arXiv 2504.01739 (sets of networks).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from stimuli_gen.batches import arithmetic, in_batches
from stimuli_gen.criteria import ends, judge_metamers
from stimuli_gen.fast import draft_model
from stimuli_gen.matching import Match, Stages, check_reach, match_stages, metamer_objectives
from stimuli_gen.models import StagedModel, run_on_device_of
from stimuli_gen.presets import (
    PRESETS,
    STARTS,
    Penalty,
    Recipe,
    chosen,
    described,
    draw_shifts,
    image_prior,
    make_recipe,
)
from stimuli_gen.quantization import mend_metamers
from stimuli_gen.stimuli import StimulusSet, to_8bit
from stimuli_gen.stored_images import digest_levels
from stimuli_gen.synthesis.batch import CPU_CHUNK
from stimuli_gen.synthesis.checkpoint import stacked
from stimuli_gen.synthesis.constraints import BALLS, check_ball
from stimuli_gen.synthesis.loop import Descended, Start, StepOptions, descend

if TYPE_CHECKING:
    from stimuli_gen.nulls import NullDistribution

# ------------------------------------------------------------------------------------------- making


@checked
def model_metamers(
    models: StagedModel | Sequence[StagedModel],
    references: StimulusSet,
    *,
    stage: Stages | Mapping[str, Stages],
    preset: str = "feather2023",
    stage_weights: Sequence[float] | None = None,
    penalties: Sequence[Penalty] = (),
    start_images: Mapping[str, np.ndarray] | np.ndarray | None = None,
    nulls: Sequence[NullDistribution] = (),
    null_quantile: float = 1.0,
    suffix: str = "",
    seed: int = 0,
    run: RunOptions | None = None,
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
        What to match: a stage's name, ``"early"``, ``"middle"``, ``"late"`` or a fraction of depth,
        several of these, or a mapping of network name to these. See
        `stimuli_gen.depth.resolve_stage`.
    preset : {"feather2023", "boehm2025", "pixels", "fast"}
        See `stimuli_gen.presets.PRESETS`. ``fast`` takes Fourier steps, a prior of natural images
        that makes metamers easier to recognize; the others have none.
    stage_weights : sequence of float, optional
        Weights of several stages; equal by default.
    penalties : sequence of Penalty
        Terms added to the loss.
    start_images : ndarray or mapping of str to ndarray, optional
        First images, (3, height, width) float in [0, 1]: one for all, or by reference id; sets
        ``start="image"``.
    nulls : sequence of NullDistribution
        Null distributions of these networks and stages: an image can only succeed when it meets the
        criteria of Feather et al. (2023), too. See `stimuli_gen.criteria.judge`.
    null_quantile : float
        Quantile of the nulls, in (0, 1], that a match must be above; 1, the maximum, in the paper.
    suffix : str
        End of the ids, after ``_metamer``, to tell sets apart.
    seed : int
        Each image draws its start from its own generator, the same for all stages and networks.
    run : RunOptions, optional
        How it is run: batch size, mode, resume folder and callbacks, see
        `stimuli_gen.synthesis.loop.descend`; its device is that of the networks. Callbacks are told
        of the steps before ``file_rounds``.
    **overrides : object
        Fields of `stimuli_gen.presets.Recipe`, in place of the preset's: ``steps``, ``max_error``,
        ``file_rounds`` and others.

    Returns
    -------
    StimulusSet
        Kind ``metamer``. ``loss_float`` and ``loss_png`` are ‖a' - a‖ / ‖a‖ of the float and the
        8-bit pixels; ``same_class_1000`` says whether photograph and 8-bit image have the same
        first class, ``same_class_1000_float`` of the float image; of several networks these and
        ``stage`` end in the network's name. With `nulls`, the columns of
        `stimuli_gen.criteria.validity_columns`. ``success``: the 8-bit image has the same class for
        every network, and meets ``max_error`` and the nulls' criteria where they are given.
        ``image_prior``: what makes the images look natural whatever the network responds to
        (`stimuli_gen.presets.image_prior`). ``file_steps``: steps on rounded images; an image that
        succeeds by them has 8-bit values as float pixels, too.

    Raises
    ------
    InputError
        When photographs, networks, stages or settings do not fit; when activations are not finite
        or all zero.

    Notes
    -----
    In the mode ``fast`` most steps follow a copy of each network in bfloat16, where the machine
    computes in it (`stimuli_gen.fast.fast_model`), the last ones the network itself. Both are
    compared with what the network itself says to the photograph: drafts that are compared with
    their own answer end at a larger error.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import model_metamers, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> made = model_metamers(model, photographs, stage="late", preset="pixels", steps=100)
    >>> made.ids, bool((made.table["loss_png"] < 0.05).all()), made.table["success"].tolist()
    (('a_metamer', 'b_metamer'), True, [True, True])
    """
    if start_images is not None:
        overrides = {"start": "image", **overrides}
    recipe = make_recipe(preset, overrides)
    networks = (models,) if isinstance(models, StagedModel) else tuple(models)
    matches = match_stages(
        networks,
        stage,
        stage_weights=stage_weights,
        straight_through_relu=recipe.straight_through_relu,
    )
    _check(matches, references, recipe, preset, start_images)
    run = run_on_device_of(matches[0].model, run)
    if overrides.get("straight_through_relu"):
        _check_straight_through(matches)
    drafts = []  # fast copies with the same names, compared with the networks' own answers
    for match in matches:
        draft = draft_model(match.model, run.mode)
        if draft is not None:
            drafts.append(replace(match, model=draft))
    settings = {
        "kind": "metamer",
        "preset": preset,
        **described(recipe),
        **_stages(matches),
        "penalties": [asdict(penalty) for penalty in penalties],
        "nulls": [_identity(null) for null in nulls],
        "null_quantile": null_quantile,
        "suffix": suffix,
        "seed": seed,
        **_fast_settings(drafts, recipe.finish),
    }
    starts = _Starts(references, recipe, start_images, seed)
    context = _Context(
        recipe, starts, _Anchors(matches, references, run.batch_size, starts), len(matches), seed
    )
    confine = _confine(recipe)
    keys = _keys(settings, matches, starts, references.ids)
    prior = image_prior(recipe, penalties)
    made = descend(
        metamer_objectives(matches, recipe, penalties),
        references.ids,
        lambda reference_id: Start(image=starts(reference_id), context=context(reference_id)),
        threshold=float("inf") if recipe.max_error is None else -recipe.max_error,
        steps=_steps(recipe, len(matches)),
        draft=metamer_objectives(drafts, recipe, penalties) if drafts else None,
        confine=confine,
        keys=keys,
        run=run,
    )
    stimuli = _collect(matches, references, settings, made, stage, prior)
    judge = partial(judge_metamers, networks, matches, nulls=nulls, quantile=null_quantile)
    judgment = judge(stimuli, references)
    if recipe.file_rounds and any(judgment.only_in_float):
        stimuli = mend_metamers(
            matches,
            stimuli,
            references,
            judgment,
            judge,
            context,
            rounds=recipe.file_rounds,
            confine=confine,
            keys=keys,
            run=replace(run, progress=None, on_step=None, on_frame=None),
        )
        stimuli = replace(
            stimuli,
            table=stimuli.table.assign(**_distances(np.asarray(stimuli.images), references)),
        )
        judgment = judge(stimuli, references)
    return judgment.on(stimuli, confirmed=False)


def _steps(recipe: Recipe, n_models: int) -> StepOptions:
    """Say to the loop how steps are taken."""
    return StepOptions(
        step_size=lambda step: recipe.step_length(step, n_models),
        max_steps=recipe.total_steps(n_models),
        step_rule=recipe.step_rule,
        optimizer=recipe.optimizer,
        parametrization=recipe.parametrization,
        solver=recipe.solver,
        turn=recipe.turn,
        finish=recipe.finish,
        keep="last",
        rescore=recipe.jitter > 0,
    )


def _stages(matches: Sequence[Match]) -> dict[str, Any]:
    stages, weights, straight_through = {}, {}, {}
    for match in matches:
        name = match.model.name
        stages[name], weights[name] = list(match.stages), list(match.weights)
        straight_through[name] = list(match.straight_through)
    return {
        "stages": stages,
        "stage_weights": weights,
        "straight_through_at": straight_through,
    }


def _fast_settings(drafts: Sequence[Match], finish: float) -> dict[str, Any]:
    """List what the mode adds; nothing for ``exact``, whose digests are older than the mode."""
    if not drafts:
        return {}
    copies = {
        draft.model.name: {"precision": draft.model.precision, "digest": draft.model.digest}
        for draft in drafts
    }
    return {"mode": "fast", "finish": finish, "drafts": copies}


def _identity(null: NullDistribution) -> dict[str, Any]:
    names = (
        "model",
        "weights",
        "model_digest",
        "stimuli_digest",
        "stages",
        "n_pairs_asked",
        "seed",
    )
    return {name: null.provenance[name] for name in names if name in null.provenance}


def _check(
    matches: Sequence[Match],
    references: StimulusSet,
    recipe: Recipe,
    preset: str,
    start_images: Mapping[str, np.ndarray] | np.ndarray | None,
) -> None:
    model = matches[0].model
    if not len(references) or set(references.table["kind"]) != {"RE"}:
        kinds = name_ids(sorted(set(references.table["kind"]))) or "none"
        raise InputError(
            f"metamers are made of photographs (kind RE), not {kinds}; select(kind='RE')."
        )
    if tuple(references.images.shape[2:]) != model.preprocessing.size:
        raise InputError(
            f"the photographs are {references.images.shape[2:]} pixels, {model.name} sees "
            f"{model.preprocessing.size}; load them with its preprocessing."
        )
    if (
        recipe.ball != "none" and recipe.radius != PRESETS[preset].radius
    ):  # those of the papers hold everything
        check_ball(recipe.ball, recipe.radius, model.preprocessing.size)
    if (recipe.start == "image") != (start_images is not None):
        raise InputError("start_images and start='image' go together; give both or neither.")


def _check_straight_through(matches: Sequence[Match]) -> None:
    if hidden := [match.key(stage) for match in matches for stage in match.undecided]:
        raise InputError(
            f"straight_through_relu: the last operation of {name_ids(hidden)} is hidden in a "
            "compiled module or a hand-written gradient; build the network without torch.compile, "
            "or match another stage."
        )
    if others := [match.key(match.stage) for match in matches if not match.straight_through]:
        raise InputError(
            "straight_through_relu needs a stage that ends in a ReLU; these do not: "
            f"{name_ids(others)}."
        )


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
        self._row_of = {reference_id: row for row, reference_id in enumerate(references.ids)}
        if isinstance(given, Mapping) and (
            missing := [
                reference_id for reference_id in references.ids if reference_id not in given
            ]
        ):
            raise InputError(
                f"no start image for {name_ids(missing)}; give one for each photograph."
            )

    def photograph(self, reference_id: str) -> np.ndarray:
        image = self._images[slice(self._row_of[reference_id], self._row_of[reference_id] + 1)][0]
        if not (image.min() >= 0 and image.max() <= 1):
            raise InputError(
                f"the photograph '{reference_id}' leaves [0, 1] or is not finite; scale by 1/255 "
                "or clip."
            )
        return image

    def __call__(self, reference_id: str) -> np.ndarray:
        photograph, recipe = self.photograph(reference_id), self._recipe
        if self._given is None:
            random = generator(self._seed, "metamer start", reference_id)
            first = STARTS[recipe.start](
                photograph, random, recipe.start_level, recipe.start_spread
            )
            return np.clip(first, 0, 1).astype(np.float32)
        image = np.asarray(
            self._given[reference_id] if isinstance(self._given, Mapping) else self._given,
            dtype=np.float32,
        )
        if image.shape != photograph.shape or not (image.min() >= 0 and image.max() <= 1):
            raise InputError(
                f"the start image of '{reference_id}' must be {photograph.shape} in [0, 1], not "
                f"{image.shape}."
            )
        return image


class _Anchors:
    """Compute the activations to the photographs once each, a batch at a time."""

    def __init__(
        self, matches: Sequence[Match], references: StimulusSet, batch_size: int, starts: _Starts
    ) -> None:
        on_cpu = (
            matches[0].model.device.type == "cpu"
        )  # as in the loop: there the batch size must change nothing
        self._matches, self._starts = matches, starts
        self._batch_size = min(batch_size, CPU_CHUNK) if on_cpu else batch_size
        self._images, self._ids = references.images, references.ids
        self._kept: dict[str, dict[str, np.ndarray]] = {}

    def __call__(self, reference_id: str) -> Mapping[str, np.ndarray]:
        if reference_id not in self._kept:
            first = self._ids.index(reference_id)
            rows = slice(first, min(first + self._batch_size, len(self._ids)))
            parts: dict[str, list[np.ndarray]] = {}
            images, device = self._images[rows], self._matches[0].model.device
            for match in self._matches:
                for part, anchors in in_batches(match.anchors, images, self._batch_size, device):
                    for name, value in anchors.items():
                        kept = value[: part.stop - part.start].cpu().numpy()
                        parts.setdefault(name, []).append(kept)
            values = {name: np.concatenate(arrays) for name, arrays in parts.items()}
            _check_anchors(values, self._ids[rows])
            if not self._kept:  # the first time
                check_reach(self._matches, self._starts(reference_id), reference_id)
            self._kept = {}
            for row, name in enumerate(self._ids[rows]):
                self._kept[name] = {key: value[row] for key, value in values.items()}
        return self._kept[reference_id]


class _Context:
    """Give anchors, center of the ball and shifts of all steps of an image to the objectives."""

    def __init__(
        self, recipe: Recipe, starts: _Starts, anchors: _Anchors, n_models: int, seed: int
    ) -> None:
        self._recipe, self._starts, self._anchors, self._seed = recipe, starts, anchors, seed
        self._n_steps = recipe.total_steps(n_models)

    def __call__(self, reference_id: str) -> dict[str, np.ndarray]:
        context = dict(self._anchors(reference_id))
        if self._recipe.ball != "none":
            from_photograph = self._recipe.center == "reference"
            context["center"] = (
                self._starts.photograph(reference_id)
                if from_photograph
                else self._starts(reference_id)
            )
        if self._recipe.jitter:
            context["shifts"] = draw_shifts(
                self._recipe.jitter, self._n_steps, generator(self._seed, "jitter", reference_id)
            )
        return context


def _check_anchors(anchors: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
    for name, norms in anchors.items():
        if norms.ndim > 1:
            continue
        stage = name.removesuffix(" norm")
        if bad := [reference_id for reference_id, norm in zip(ids, norms) if not np.isfinite(norm)]:
            raise InputError(
                f"{stage}: activations are not finite for {name_ids(bad)}; check the network."
            )
        if bad := [reference_id for reference_id, norm in zip(ids, norms) if norm == 0]:
            raise InputError(
                f"{stage}: activations are all zero for {name_ids(bad)}; match another stage."
            )


def _confine(recipe: Recipe) -> Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None:
    if recipe.ball == "none":
        return None
    return lambda images, context: BALLS[recipe.ball](images, context["center"], recipe.radius)


def _keys(
    settings: Mapping[str, Any], matches: Sequence[Match], starts: _Starts, ids: Sequence[str]
) -> dict[str, str]:
    """Hash all that makes each image's pixels before they are rounded.

    Settings that only name or judge the images are left out.
    """
    no_matter = ("preset", "open_choices", "suffix", "nulls", "null_quantile", "file_rounds")
    recipe = {name: value for name, value in chosen(settings).items() if name not in no_matter}
    models = [match.digest for match in matches]
    return {
        reference_id: digest(
            recipe, models, reference_id, starts.photograph(reference_id), starts(reference_id)
        )
        for reference_id in ids
    }


def _collect(
    matches: Sequence[Match],
    references: StimulusSet,
    settings: Mapping[str, Any],
    made: dict[str, Descended],
    stage: Stages | Mapping[str, Stages],
    prior: str,
) -> StimulusSet:
    images = stacked(made, references.ids)
    luma = {match.model.luma for match in matches}
    if len(luma) == 1 and None not in luma and settings["ball"] == "none":
        # The color of metamers of grayscale views is left over from the steps, so it is removed. A
        # ball holds the color image, not its gray.
        gray = np.tensordot(images, np.array(luma.pop(), dtype=np.float32), axes=(1, 0))
        images = np.repeat(np.clip(gray, 0, 1)[:, None], 3, axis=1)
    models = []
    for match in matches:
        models.append(
            {
                "name": match.model.name,
                "weights": match.model.weights,
                "trained": match.model.trained,
                "digest": match.digest,
                "modules": dict(match.model.stages),
            }
        )
        if match.notes:
            models[-1]["notes"] = list(match.notes)
    record = provenance(
        settings,
        models=models,
        model_digest=digest([match.digest for match in matches]),
        references=references.digest,
        reference_pixels=digest_levels(references.images),
        reference_cuts=cuts_of(references.provenance),
        asked=stage_words(stage),
        image_prior=prior,
        **arithmetic(matches[0].model.device),
    )
    steps = [made[reference_id].steps for reference_id in references.ids]
    table = _describe(matches, references, settings, steps, images).assign(image_prior=prior)
    return StimulusSet(images=images, table=table, provenance=record)


def cuts_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Find how photographs were cut, in the provenance of a set of them or of several put together.

    Parameters
    ----------
    record : mapping
        Provenance.

    Returns
    -------
    list of dict
        Each size, resize and interpolation once, with bits and icc where they were given; none
        where nothing tells.
    """
    settings = record.get("settings", {})
    own = settings.get("preprocessing")
    levels = {name: settings[name] for name in ("bits", "icc") if name in settings}
    cuts = (
        []
        if own is None
        else [{name: own[name] for name in ("size", "resize", "interpolation")} | levels]
    )
    for part in record.get("parts", []):
        cuts += [cut for cut in cuts_of(part) if cut not in cuts]
    return cuts


def stage_words(stage: Stages | Mapping[str, Stages]) -> str:
    """Say in words what stages were asked for, before they are looked up in the networks.

    Parameters
    ----------
    stage : str, float, sequence of these, or mapping
        As `model_metamers` takes it.

    Returns
    -------
    str
        ``"late"``, ``"0.8"``, several joined by ``+``; empty where networks have different ones.
    """
    if isinstance(stage, Mapping):
        words = {stage_words(words_of) for words_of in stage.values()}
        return words.pop() if len(words) == 1 else ""
    return str(stage) if isinstance(stage, (str, int, float)) else "+".join(map(str, stage))


def _describe(
    matches: Sequence[Match],
    references: StimulusSet,
    settings: Mapping[str, Any],
    steps: Sequence[int],
    images: np.ndarray,
) -> pd.DataFrame:
    table = pd.DataFrame(
        {"id": [f"{reference_id}_metamer{settings['suffix']}" for reference_id in references.ids]}
    )
    names = [match.model.name for match in matches]
    weights = [match.model.weights for match in matches]
    stages = {f"stage{end}": match.stage for end, match in zip(ends(matches), matches, strict=True)}
    notes = [] if all(match.model.trained for match in matches) else ["untrained network"]
    straight, drafts = [], {}
    for match in matches:
        notes += match.notes
        straight += [match.key(stage) for stage in match.straight_through]
    for match in matches:
        straight += [f"undecided at {match.key(stage)}" for stage in match.undecided]
    straight_through = "no"
    if settings["straight_through_relu"]:
        # stages at which the gradient passes a ReLU as if it were the identity
        straight_through = ", ".join(straight) or "not applicable"
    if "drafts" in settings:
        precisions = [draft["precision"] for draft in settings["drafts"].values()]
        drafts = {"draft_precision": ", ".join(dict.fromkeys(precisions))}
    return table.assign(
        kind="metamer",
        reference_id=list(references.ids),
        category=references.table["category"].to_numpy(),
        model="+".join(names),
        weights="; ".join(weights),
        **stages,
        preset=settings["preset"],
        straight_through=straight_through,
        max_error=np.nan if settings["max_error"] is None else settings["max_error"],
        seed=settings["seed"],
        note="; ".join(notes),
        mode=settings.get("mode", "exact"),
        **drafts,
        steps=list(steps),
        file_steps=0,
        **_distances(images, references),
    )


def _distances(images: np.ndarray, references: StimulusSet) -> dict[str, list[float]]:
    """Measure the distance of each 8-bit image from its photograph, in gray levels."""
    distances: dict[str, list[float]] = {"l2_8bit": [], "linf_8bit": []}
    for row, image in enumerate(images):
        photograph = references.images[slice(row, row + 1)][0]
        change = to_8bit(image).astype(np.float64) - 255.0 * photograph
        distances["l2_8bit"].append(float(np.sqrt(np.square(change).sum())))
        distances["linf_8bit"].append(float(np.abs(change).max()))
    return distances


# ------------------------------------------------------------------------------------------ judging


@checked
def confirm_metamers(
    models: StagedModel | Sequence[StagedModel],
    stimuli: StimulusSet,
    references: StimulusSet,
    folder: str | os.PathLike[str],
    *,
    nulls: Sequence[NullDistribution] = (),
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
    nulls : sequence of NullDistribution
        Those that the metamers were made with.

    Returns
    -------
    StimulusSet
        All that `model_metamers` judges, from the files; ``confirmed = True``.

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size, or the images were made for
        other networks or judged with other nulls.

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
    >>> from stimuli_gen import confirm_metamers, model_metamers, write_stimuli
    >>> made = model_metamers(model, photographs, stage="1", preset="pixels", steps=20)
    >>> with TemporaryDirectory() as folder:
    ...     confirmed = confirm_metamers(model, made, photographs, write_stimuli(made, folder))
    >>> confirmed.table["confirmed"].tolist()
    [True, True]
    """
    networks = [models] if isinstance(models, StagedModel) else list(models)
    settings = stimuli.provenance.get("settings", {})
    made_for = [record["digest"] for record in stimuli.provenance.get("models", [])]
    if not made_for or set(stimuli.table["kind"]) != {"metamer"}:
        raise InputError("no metamers to confirm; give a set that the metamer generator made.")
    if made_for != [network.digest for network in networks]:
        raise InputError(
            "the metamers were made for other networks; confirm them with those, in the same order."
        )
    if [_identity(null) for null in nulls] != settings.get("nulls", []):
        raise InputError(
            "the metamers were judged with other null distributions; confirm them with the same."
        )
    matches = [
        match_stages(
            network,
            settings["stages"][network.name],
            stage_weights=settings["stage_weights"][network.name],
        )[0]
        for network in networks
    ]
    photographs = references.select(ids=stimuli.table["reference_id"].tolist())
    quantile = settings.get("null_quantile", 1.0)
    judgment = judge_metamers(
        networks, matches, stimuli, photographs, folder=folder, nulls=nulls, quantile=quantile
    )
    return judgment.on(stimuli, confirmed=True)
