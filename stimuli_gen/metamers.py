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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest, generator, provenance
from neurometamer.run_options import RunOptions
from stimuli_gen.batches import arithmetic, images_at_once, images_by_id, in_batches
from stimuli_gen.criteria import ends, judge_metamers
from stimuli_gen.fast import draft_model
from stimuli_gen.matching import Match, Stages, check_reach, match_stages, metamer_objectives
from stimuli_gen.models import StagedModel, run_on_device_of
from stimuli_gen.presets import (
    PRESETS,
    STARTS,
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
from stimuli_gen.synthesis.loop import Descended, Start, descend

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
        ``file_rounds``, ``penalties`` and others.

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
    if overrides.get("straight_through_relu"):
        _check_straight_through(matches)
    run = run_on_device_of(matches[0].model, run)
    drafts = []  # fast copies with the same names, compared with the networks' own answers
    for match in matches:
        fast = draft_model(match.model, run.mode)
        if fast is not None:
            drafts.append(replace(match, model=fast))
    settings = {
        "kind": "metamer",
        "preset": preset,
        **described(recipe),
        **_settings_of(matches, drafts, recipe.finish),
        "nulls": [_identity(null) for null in nulls],
        "null_quantile": null_quantile,
        "suffix": suffix,
        "seed": seed,
    }
    contexts = Contexts(matches, references, recipe, start_images, seed, run.batch_size)
    confine = contexts.confine if recipe.ball != "none" else None
    keys = contexts.keys(settings)
    made = descend(
        metamer_objectives(matches, recipe),
        references.ids,
        lambda name: Start(image=contexts.start(name), context=contexts(name)),
        threshold=float("inf") if recipe.max_error is None else -recipe.max_error,
        steps=recipe.step_options(len(matches)),
        draft=metamer_objectives(drafts, recipe) if drafts else None,
        confine=confine,
        keys=keys,
        run=run,
    )
    stimuli = _collect(matches, references, settings, made, stage, image_prior(recipe))
    judge = partial(judge_metamers, networks, matches, nulls=nulls, quantile=null_quantile)
    judgment = judge(stimuli, references)
    if recipe.file_rounds and any(judgment.only_in_float):
        stimuli = mend_metamers(
            matches,
            stimuli,
            references,
            judgment,
            judge,
            contexts,
            rounds=recipe.file_rounds,
            confine=confine,
            keys=keys,
            run=replace(run, progress=None, on_step=None, on_frame=None),
        )
        table = stimuli.table.assign(**_distances(np.asarray(stimuli.images), references))
        stimuli = replace(stimuli, table=table)
        judgment = judge(stimuli, references)
    return judgment.on(stimuli, confirmed=False)


def _settings_of(
    matches: Sequence[Match], drafts: Sequence[Match], finish: float
) -> dict[str, Any]:
    stages, weights, straight_through = {}, {}, {}
    for match in matches:
        name = match.model.name
        stages[name] = list(match.stages)
        weights[name] = list(match.weights)
        straight_through[name] = list(match.straight_through)
    settings: dict[str, Any] = {
        "stages": stages,
        "stage_weights": weights,
        "straight_through_at": straight_through,
    }
    if drafts:  # nothing for the mode exact, whose digests are older than the mode
        copies = {}
        for draft in drafts:
            fast = draft.model
            copies[fast.name] = {"precision": fast.precision, "digest": fast.digest}
        settings |= {"mode": "fast", "finish": finish, "drafts": copies}
    return settings


_IDENTITY = (
    "model",
    "weights",
    "model_digest",
    "stimuli_digest",
    "stages",
    "n_pairs_asked",
    "seed",
)


def _identity(null: NullDistribution) -> dict[str, Any]:
    record = null.provenance
    return {name: record[name] for name in _IDENTITY if name in record}


def _check(
    matches: Sequence[Match],
    references: StimulusSet,
    recipe: Recipe,
    preset: str,
    start_images: Mapping[str, np.ndarray] | np.ndarray | None,
) -> None:
    model = matches[0].model
    kinds = set(references.table["kind"])
    if kinds != {"RE"}:
        raise InputError(
            "metamers are made of photographs (kind RE), not "
            f"{name_ids(sorted(kinds)) or 'none'}; select(kind='RE')."
        )
    size = tuple(references.images.shape[2:])
    if size != model.preprocessing.size:
        raise InputError(
            f"the photographs are {size} pixels, {model.name} sees "
            f"{model.preprocessing.size}; load them with its preprocessing."
        )
    if recipe.ball != "none" and recipe.radius != PRESETS[preset].radius:
        # the radii of the papers hold everything
        check_ball(recipe.ball, recipe.radius, model.preprocessing.size)
    if (recipe.start == "image") != (start_images is not None):
        raise InputError(
            f"start_images and start='image' go together, not start={recipe.start!r}; give both or "
            "neither."
        )
    if isinstance(start_images, Mapping):
        missing = [name for name in references.ids if name not in start_images]
        if missing:
            raise InputError(
                f"no start image for {name_ids(missing)}; give one for each photograph."
            )


def _check_straight_through(matches: Sequence[Match]) -> None:
    hidden, others = [], []
    for match in matches:
        hidden += [match.key(stage) for stage in match.undecided]
        if not match.straight_through:
            others.append(match.key(match.stage))
    if hidden:
        raise InputError(
            f"straight_through_relu: the last operation of {name_ids(hidden)} is hidden in a "
            "compiled module or a hand-written gradient; build the network without torch.compile, "
            "or match another stage."
        )
    if others:
        raise InputError(
            "straight_through_relu needs a stage that ends in a ReLU; these do not: "
            f"{name_ids(others)}; match other stages."
        )


class Contexts:
    """Give first images, and what the objectives must know of each image, by reference id.

    That is the activations to the photograph, the center of the ball, and the shifts of all steps.

    Parameters
    ----------
    matches : sequence of Match
        Stages of networks.
    references : StimulusSet
        Photographs.
    recipe : Recipe
        How the images are made.
    start_images : ndarray or mapping of str to ndarray, optional
        First images, see `model_metamers`.
    seed : int
        Seed of the starts and shifts.
    batch_size : int
        Photographs a pass.
    """

    def __init__(
        self,
        matches: Sequence[Match],
        references: StimulusSet,
        recipe: Recipe,
        start_images: Mapping[str, np.ndarray] | np.ndarray | None,
        seed: int,
        batch_size: int | None,
    ) -> None:
        self._matches = matches
        self._references = references
        self._recipe = recipe
        self._given = start_images
        self._seed = seed
        self._image_of = images_by_id(references)
        self._device = matches[0].model.device
        # as in the loop: on a CPU the batch size must change nothing
        is_cpu = self._device.type == "cpu"
        size = images_at_once(batch_size, self._device)
        self._batch_size = min(size, CPU_CHUNK) if is_cpu else size
        self._anchors: dict[str, dict[str, Tensor]] = {}

    def photograph(self, reference_id: str) -> np.ndarray:
        """Take a photograph, and check its range.

        Parameters
        ----------
        reference_id : str
            Its id.

        Returns
        -------
        ndarray
            (3, height, width) float32.

        Raises
        ------
        InputError
            When it leaves [0, 1] or is not finite.
        """
        image = self._image_of(reference_id)
        if not (image.min() >= 0 and image.max() <= 1):
            raise InputError(
                f"the photograph '{reference_id}' leaves [0, 1] or is not finite; scale by 1/255 "
                "or clip."
            )
        return image

    def start(self, reference_id: str) -> np.ndarray:
        """Make the first image.

        Parameters
        ----------
        reference_id : str
            Id of the photograph.

        Returns
        -------
        ndarray
            (3, height, width) float32 in [0, 1].

        Raises
        ------
        InputError
            When a given image has another shape or leaves [0, 1].
        """
        photograph, recipe = self.photograph(reference_id), self._recipe
        if self._given is None:
            random = generator(self._seed, "metamer start", reference_id)
            make = STARTS[recipe.start]
            first = make(photograph, random, recipe.start_level, recipe.start_spread)
            return np.clip(first, 0, 1).astype(np.float32)
        given = self._given
        if isinstance(given, Mapping):
            given = given[reference_id]
        image = np.asarray(given, dtype=np.float32)
        in_range = image.min() >= 0 and image.max() <= 1
        if image.shape != photograph.shape or not in_range:
            raise InputError(
                f"the start image of '{reference_id}' must be {photograph.shape} in [0, 1], not "
                f"{image.shape} from {image.min():g} to {image.max():g}; give such an image."
            )
        return image

    def keys(self, settings: Mapping[str, Any]) -> dict[str, str]:
        """Hash all that makes each image's pixels before they are rounded.

        Settings that only name or judge the images are left out.

        Parameters
        ----------
        settings : mapping
            Settings of the generator.

        Returns
        -------
        dict of str to str
            Reference id → digest.
        """
        no_matter = ("preset", "open_choices", "suffix", "nulls", "null_quantile", "file_rounds")
        recipe = {name: value for name, value in chosen(settings).items() if name not in no_matter}
        models = [match.digest for match in self._matches]
        keys = {}
        for reference_id in self._references.ids:
            images = self.photograph(reference_id), self.start(reference_id)
            keys[reference_id] = digest(recipe, models, reference_id, *images)
        return keys

    def confine(self, images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """Keep images in the ball of the recipe.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width).
        context : mapping of str to Tensor
            With the ``center`` of each ball.

        Returns
        -------
        Tensor
            The nearest images in the balls.
        """
        project = BALLS[self._recipe.ball]
        return project(images, context["center"], self._recipe.radius)

    def __call__(self, reference_id: str) -> dict[str, np.ndarray | Tensor]:
        """Give what the objectives must know of an image.

        Parameters
        ----------
        reference_id : str
            Id of the photograph.

        Returns
        -------
        dict of str to ndarray or Tensor
            Activations to the photograph and their norms, on the device; center and shifts where
            they count.
        """
        if reference_id not in self._anchors:
            self._compute_anchors(reference_id)
        context: dict[str, np.ndarray | Tensor] = dict(self._anchors[reference_id])
        recipe = self._recipe
        if recipe.ball != "none":
            is_reference = recipe.center == "reference"
            center = self.photograph if is_reference else self.start
            context["center"] = center(reference_id)
        if recipe.jitter:
            random = generator(self._seed, "jitter", reference_id)
            n_models = len(self._matches)
            n_steps = recipe.total_steps(n_models)
            shifts = draw_shifts(recipe.jitter, n_steps, random)
            context["shifts"] = shifts
        return context

    def _compute_anchors(self, reference_id: str) -> None:
        """Compute the activations to a photograph and to those after it, a batch at a time."""
        ids = self._references.ids
        first = ids.index(reference_id)
        rows = slice(first, min(first + self._batch_size, len(ids)))
        images = self._references.images[rows]
        anchors_of: dict[str, dict[str, Tensor]] = {name: {} for name in ids[rows]}
        for match in self._matches:
            batches = in_batches(match.anchors, images, self._batch_size, self._device)
            for part, anchors in batches:
                names = ids[rows][part]
                check_norms(anchors, names)
                for key, values in anchors.items():
                    for name, row in zip(names, values):
                        anchors_of[name][key] = row
        if not self._anchors:  # the first time
            check_reach(self._matches, self.start(reference_id), reference_id)
        self._anchors = anchors_of


def check_norms(anchors: Mapping[str, Tensor], ids: Sequence[str]) -> None:
    """Refuse activations that no image can be compared with.

    Parameters
    ----------
    anchors : mapping of str to Tensor
        What `stimuli_gen.matching.Match.anchors` gave; the norms come to the host in one copy.
    ids : sequence of str
        Ids of the first photographs of the batch; others do not count.

    Raises
    ------
    InputError
        When a norm is not finite, or zero; the message names the stage.
    """
    norms = {name: values[: len(ids)] for name, values in anchors.items() if values.ndim == 1}
    table = torch.stack(list(norms.values())).cpu().numpy()
    for name, row in zip(norms, table, strict=True):
        for wrong, what, cure in (
            (~np.isfinite(row), "not finite", "check the network"),
            (row == 0, "all zero", "match another stage"),
        ):
            if wrong.any():
                named = name_ids(np.array(ids)[wrong])
                stage = name.removesuffix(" norm")
                raise InputError(f"{stage}: activations are {what} for {named}; {cure}.")


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
        weights = np.array(luma.pop(), dtype=np.float32)
        gray = np.tensordot(images, weights, axes=(1, 0))
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
    table = _describe(matches, references, settings, steps, images)
    table = table.assign(image_prior=prior)
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
    levels = {}
    for name in ("bits", "icc"):
        if name in settings:
            levels[name] = settings[name]
    cuts = []
    if own is not None:
        cut = {name: own[name] for name in ("size", "resize", "interpolation")}
        cuts.append(cut | levels)
    for part in record.get("parts", []):
        for cut in cuts_of(part):
            if cut not in cuts:
                cuts.append(cut)
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
        words = {stage_words(of_network) for of_network in stage.values()}
        if len(words) == 1:
            return words.pop()
        return ""
    if isinstance(stage, (str, int, float)):
        return str(stage)
    return "+".join(str(name_or_depth) for name_or_depth in stage)


def _describe(
    matches: Sequence[Match],
    references: StimulusSet,
    settings: Mapping[str, Any],
    steps: Sequence[int],
    images: np.ndarray,
) -> pd.DataFrame:
    end_of_id = f"_metamer{settings['suffix']}"
    table = pd.DataFrame({"id": [reference_id + end_of_id for reference_id in references.ids]})
    stages, notes, straight, undecided = {}, [], [], []
    if not all(match.model.trained for match in matches):
        notes.append("untrained network")
    for end, match in zip(ends(matches), matches, strict=True):
        stages[f"stage{end}"] = match.stage
        notes += match.notes
        straight += [match.key(stage) for stage in match.straight_through]
        undecided += [f"undecided at {match.key(stage)}" for stage in match.undecided]
    straight_through = "no"
    if settings["straight_through_relu"]:
        # stages at which the gradient passes a ReLU as if it were the identity
        straight_through = ", ".join(straight + undecided) or "not applicable"
    drafts = {}
    if "drafts" in settings:
        precisions = [draft["precision"] for draft in settings["drafts"].values()]
        drafts["draft_precision"] = ", ".join(dict.fromkeys(precisions))
    return table.assign(
        kind="metamer",
        reference_id=list(references.ids),
        category=references.table["category"].to_numpy(),
        model="+".join(match.model.name for match in matches),
        weights="; ".join(match.model.weights for match in matches),
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
    photograph_of = images_by_id(references)
    l2, linf = [], []
    for reference_id, image in zip(references.ids, images, strict=True):
        change = to_8bit(image).astype(np.float64) - 255.0 * photograph_of(reference_id)
        l2.append(float(np.sqrt(np.square(change).sum())))
        linf.append(float(np.abs(change).max()))
    return {"l2_8bit": l2, "linf_8bit": linf}


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
    records = stimuli.provenance.get("models", [])
    made_for = [record["digest"] for record in records]
    kinds = set(stimuli.table["kind"])
    if not made_for or kinds != {"metamer"}:
        found = name_ids(sorted(kinds)) or "nothing"
        raise InputError(
            f"no metamers to confirm, but {found}; give a set that the metamer generator made."
        )
    digests = [network.digest for network in networks]
    if made_for != digests:
        names = [record["name"] for record in records]
        raise InputError(
            f"the metamers were made for other networks ({name_ids(names)}); confirm them with "
            "those, in the same order."
        )
    if [_identity(null) for null in nulls] != settings.get("nulls", []):
        raise InputError(
            f"the metamers were judged with other null distributions than these {len(nulls)}; give "
            "the same."
        )
    matches: list[Match] = []
    for network in networks:
        stages = settings["stages"][network.name]
        weights = settings["stage_weights"][network.name]
        matches += match_stages(network, stages, stage_weights=weights)
    photographs = references.select(ids=stimuli.table["reference_id"].tolist())
    quantile = settings.get("null_quantile", 1.0)
    judgment = judge_metamers(
        networks, matches, stimuli, photographs, folder=folder, nulls=nulls, quantile=quantile
    )
    return judgment.on(stimuli, confirmed=True)
