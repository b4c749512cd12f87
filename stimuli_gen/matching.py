"""Stages of networks that a metamer must match, and the loss that measures the match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.summaries import short_repr
from stimuli_gen.batches import for_one_image, gradients_on
from stimuli_gen.controls import LUMA
from stimuli_gen.depth import find_stage, run_order
from stimuli_gen.models import StagedModel, check_model
from stimuli_gen.presets import Penalty, Recipe
from stimuli_gen.relus import Ending, relu_endings, relu_inputs
from stimuli_gen.synthesis.loop import Objective

Stage = str | float
Stages = Stage | Sequence[Stage]


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """Stages of one network that are to be matched.

    Parameters
    ----------
    model : StagedModel
        The network, with the matched stages among its stages.
    stages : tuple of str
        Early to late.
    weights : tuple of float
        Weights of the stages' errors in the loss; their sum is 1.
    relus : mapping of str to Ending
        Stages that end in a ReLU whose gradient is passed as if it were the identity, and how
        (`relu_endings`).
    undecided : tuple of str
        Stages of which it cannot be said whether they end in a ReLU, where that was asked for.
    notes : tuple of str
        What must be known of stages that were asked for by depth.
    digest : str
        Digest of the model as it was given.
    """

    model: StagedModel
    stages: tuple[str, ...]
    weights: tuple[float, ...]
    relus: Mapping[str, Ending] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    digest: str

    @property
    def straight_through(self) -> tuple[str, ...]:
        """Name the stages whose ReLU passes the gradient as if it were the identity.

        Returns
        -------
        tuple of str
            Early to late.
        """
        with_relu = [stage for stage in self.stages if stage in self.relus]
        return tuple(with_relu)

    @property
    def stage(self) -> str:
        """Name the stages in one word.

        Returns
        -------
        str
            Joined by ``+``.
        """
        return "+".join(self.stages)

    def activations(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the activations to be matched.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].

        Returns
        -------
        dict of str to Tensor
            Stage → (b, n_units). Only this branch of a straight-through ReLU has the gradient of
            the identity; what later stages see has the ordinary one.
        """
        with relu_inputs(self.model.network, self.model.stages, self.relus) as inputs:
            outputs = self.model.stage_outputs(images, self.stages)
        for stage, value in inputs.items():
            rest = outputs[stage] - value
            outputs[stage] = value + rest.detach()
        flat = {}
        for stage, value in outputs.items():
            # the order in which channels-last maps lie in memory, so without a copy
            ordered = value.permute(0, 2, 3, 1) if value.ndim == 4 else value
            flat[stage] = ordered.flatten(1)
        return flat

    def key(self, stage: str) -> str:
        """Name a stage among those of all networks.

        Parameters
        ----------
        stage : str
            Stage of this network.

        Returns
        -------
        str
            With the network's name.
        """
        return f"{self.model.name}: {stage}"

    def error(self, images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
        """Compute the inversion loss ‖a' - a‖ / ‖a‖ (Feather 2023), weighted over the stages.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].
        context : mapping of str to Tensor
            What `anchors` gave for the photographs.

        Returns
        -------
        Tensor
            (b,).
        """
        activations = self.activations(images)
        parts = []
        for stage, weight in zip(self.stages, self.weights, strict=True):
            key = self.key(stage)
            difference = activations[stage] - context[key]
            distance = torch.linalg.vector_norm(difference, dim=1)
            parts.append(weight * distance / context[f"{key} norm"])
        return torch.stack(parts).sum(dim=0)

    def anchors(self, images: Tensor) -> dict[str, Tensor]:
        """Compute what `error` compares with.

        Parameters
        ----------
        images : Tensor
            Photographs, (b, 3, height, width) in [0, 1].

        Returns
        -------
        dict of str to Tensor
            Activations (b, n_units) and their norms (b,).
        """
        anchors = {}
        norms = {}
        with torch.no_grad():
            activations = self.activations(images)
        for stage, values in activations.items():
            key = self.key(stage)
            anchor = values.detach()
            norm = torch.linalg.vector_norm(anchor, dim=1)
            anchors[key] = anchor
            norms[f"{key} norm"] = norm
        return anchors | norms


# ------------------------------------------------------------------------------------ what to match


def network_set(models: StagedModel | Sequence[StagedModel]) -> tuple[StagedModel, ...]:
    """Check that networks can see the same images.

    Parameters
    ----------
    models : StagedModel or sequence of StagedModel
        One network, or a set.

    Returns
    -------
    tuple of StagedModel
        In the same order.

    Raises
    ------
    InputError
        When there is none, or names repeat, or input sizes or devices differ.
    """
    networks = (models,) if isinstance(models, StagedModel) else tuple(models)
    if not networks:
        raise InputError("metamers need at least one network, not none; give a StagedModel.")
    if again := duplicates([network.name for network in networks]):
        raise InputError(f"networks with the same name: {name_ids(again)}; name each its own way.")
    sizes = {network.name: network.preprocessing.size for network in networks}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size[0]} x {size[1]}" for name, size in sizes.items())
        raise InputError(
            f"networks see images of different sizes ({listed}); give them one size (at_size)."
        )
    devices = sorted({str(network.device) for network in networks})
    if len(devices) > 1:
        raise InputError(f"networks are on different devices ({devices}); load them on one.")
    return networks


@checked
def match_stages(
    models: StagedModel | Sequence[StagedModel],
    stage: Stages | Mapping[str, Stages],
    *,
    stage_weights: Sequence[float] | None = None,
    straight_through_relu: bool = False,
) -> tuple[Match, ...]:
    """Choose the stages of networks that are to be matched.

    Parameters
    ----------
    models : StagedModel or sequence of StagedModel
        One network, or a set whose names differ and whose inputs have one size.
    stage : str, float, sequence of these, or mapping
        A stage or several; see `stimuli_gen.depth.resolve_stage`. A mapping gives each model's name
        its own.
    stage_weights : sequence of float, optional
        Weight of the error of each stage in the loss, above 0; equal by default. Scaled to the sum
        1.
    straight_through_relu : bool
        At matched stages whose last operation is a ReLU (also those of several that are put
        together, as in a fire module); other stages are not changed.

    Returns
    -------
    tuple of Match
        One a network.

    Raises
    ------
    InputError
        When networks or stages do not fit.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import match_stages, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> (match,) = match_stages(model, ["1", 1.0], stage_weights=[3, 1])
    >>> match.stages, match.weights
    (('1', '3'), (0.75, 0.25))
    """
    networks = network_set(models)
    if isinstance(stage, Mapping):
        names = [network.name for network in networks]
        wrong = [name for name in names if name not in stage]
        wrong += [name for name in stage if name not in names]
        if wrong:
            raise InputError(
                f"stages are given by network, but not for each or for others: {name_ids(wrong)}; "
                "give one entry a network."
            )
    matches = []
    for network in networks:
        of_network = stage[network.name] if isinstance(stage, Mapping) else stage
        matches.append(_match(network, of_network, stage_weights, straight_through_relu))
    return tuple(matches)


def _match(
    model: StagedModel, stage: Stages, weights: Sequence[float] | None, straight_through: bool
) -> Match:
    wanted = [stage] if isinstance(stage, (str, int, float)) else list(stage)
    given = [1.0] * len(wanted)
    if weights is not None:
        given = [float(weight) for weight in weights]
    if not wanted or len(given) != len(wanted) or min(given) <= 0:
        raise InputError(
            f"{model.name}: {len(wanted)} stage(s) and {len(given)} weight(s); give one above 0 "
            "for each stage."
        )
    resolved = [find_stage(model, name_or_depth) for name_or_depth in wanted]
    again = duplicates([unit.name for unit in resolved])
    if again:
        raise InputError(
            f"{model.name}: stage {name_ids(again)} is asked for more than once; name it once."
        )
    name_of, weight_of, notes = {}, {}, []
    for unit, weight in zip(resolved, given, strict=True):
        name_of[unit.path] = unit.name
        weight_of[unit.path] = weight / sum(given)
        if unit.note:
            notes.append(f"{model.name} at {unit.name}: {unit.note}")
    paths = run_order(model, tuple(name_of))
    view = replace(model, stages={name_of[path]: path for path in paths})
    relus: Mapping[str, Ending] = {}
    undecided: tuple[str, ...] = ()
    if straight_through:
        relus, undecided = relu_endings(view)
    return Match(
        model=view,
        stages=tuple(view.stages),
        weights=tuple(weight_of[path] for path in paths),
        relus=relus,
        undecided=undecided,
        notes=tuple(notes),
        digest=model.digest,
    )


def check_reach(matches: Sequence[Match], image: np.ndarray, stimulus_id: str) -> None:
    """Check that the gradient of each matched stage reaches the image.

    Without a gradient no step would change the image.

    Parameters
    ----------
    matches : sequence of Match
        Stages that are to be matched.
    image : ndarray
        (3, height, width) float32: a first image.
    stimulus_id : str
        Its id, for the message.

    Raises
    ------
    InputError
        When a stage is cut off from the image, or its gradient is zero everywhere; the message
        names the stage.
    """
    for match in matches:
        with for_one_image(tuple(image.shape[1:]), match.model.device), gradients_on():
            images = torch.from_numpy(image)[None].to(match.model.device).requires_grad_(True)
            for stage, values in match.activations(images).items():
                why = "its module, or one before it, uses detach(), no_grad() or whole numbers"
                gradient = None
                if values.requires_grad:
                    energy = values.square().sum()
                    (gradient,) = torch.autograd.grad(
                        energy, images, retain_graph=True, allow_unused=True
                    )
                if gradient is not None:
                    if gradient.count_nonzero():
                        continue
                    why = (
                        f"it is zero everywhere for '{stimulus_id}': the stage rounds, "
                        "thresholds, or is dead there"
                    )
                raise InputError(
                    f"{match.key(stage)}: no gradient reaches the image ({why}); match another "
                    "stage."
                )


@checked
def at_size(model: StagedModel, size: int) -> StagedModel:
    """Let a network see images of another size, so that networks of a set see the same one.

    Parameters
    ----------
    model : StagedModel
        The network; most convolutional ones take any size.
    size : int
        Height and width in pixels.

    Returns
    -------
    StagedModel
        The same network; photographs are resized in proportion before they are cropped.

    Raises
    ------
    InputError
        When the network takes no such images.

    Examples
    --------
    >>> from torch import nn
    >>> from stimuli_gen import at_size, stage_model
    >>> layers = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    >>> model = stage_model(nn.Sequential(*layers, nn.Linear(4, 10)))
    >>> at_size(model, 64).preprocessing.size
    (64, 64)
    """
    old = model.preprocessing
    in_proportion = round(old.resize * size / min(old.size))
    resize = max(size, in_proportion)
    resized = replace(old, size=(size, size), resize=resize)
    changed = replace(model, preprocessing=resized)
    try:
        check_model(changed)
    except (RuntimeError, AssertionError, ValueError) as error:
        # whatever its layers say to another size
        lines = str(error).splitlines()
        reason = lines[0]
        raise InputError(
            f"{model.name} cannot see {size} x {size} pixels ({reason}); choose another size."
        ) from error
    return changed


@checked
def greyscale_view(model: StagedModel) -> StagedModel:
    """Let a network see luminance only: all three of its channels get the gray value of the image.

    This is a view of the network as it is, which was usually trained on color images; it is NOT a
    network trained on grayscale images. Load one of those with its own preprocessing (mean and std
    are the same for its equal channels).

    Parameters
    ----------
    model : StagedModel
        The network; it is not touched, and the view shares its weights.

    Returns
    -------
    StagedModel
        Same stages, preprocessing and `trained`; named ``<name>_grey``, with the view told in its
        weights tag, and with another digest, so that it counts as a network of its own. The gray
        value is Rec. 601 luma of pixels in [0, 1], as of the control ``grayscale``
        (`stimuli_gen.controls.LUMA`).

    Raises
    ------
    InputError
        When the model is a grayscale view already, or no gradient reaches the image.

    Notes
    -----
    The gradient for red, green and blue is one gradient times their weights in the luma. So color
    is never matched: an image's color is what its start and those weights leave (green moves most),
    and means nothing. `model_metamers` turns metamers of views gray, where no ball confines them;
    the view itself sees the same.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import greyscale_view, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> view = greyscale_view(model)
    >>> view.name, view.luma
    ('Sequential_grey', (0.299, 0.587, 0.114))
    """
    if model.luma is not None:
        raise InputError(
            f"{model.name} is a grayscale view already; make one of the network that sees color."
        )
    view = replace(
        model,
        name=f"{model.name}_grey",
        weights=f"{model.weights}, grayscale view (Rec. 601 luma)",
        luma=LUMA["rec601"],
    )
    check_model(view)
    return view


def shifted(images: Tensor, context: Mapping[str, Tensor]) -> Tensor:
    """Shift each image as its step wants it, where a gradient is asked for.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width).
    context : mapping of str to Tensor
        ``shifts`` (b, n_steps, 2), see `stimuli_gen.presets.draw_shifts`; ``step`` (b,), steps
        taken.

    Returns
    -------
    Tensor
        The same shape; as they are when no gradient is asked for: an image is judged where it
        stands.
    """
    if not images.requires_grad:
        return images
    shifts = context["shifts"]
    step = context["step"].clamp(max=shifts.shape[1] - 1)
    rows = torch.arange(len(images), device=images.device)
    moves = shifts[rows, step]
    if images.device.type != "cpu":
        return rolled(images, moves)
    moved = []
    for image, (down, right) in zip(images, moves.tolist(), strict=True):
        moved.append(image.roll((down, right), dims=(1, 2)))
    return torch.stack(moved)


def rolled(images: Tensor, moves: Tensor) -> Tensor:
    """Roll each image by its own numbers of pixels, which only the device knows.

    Parameters
    ----------
    images : Tensor
        (b, 3, height, width).
    moves : Tensor
        (b, 2) whole numbers: pixels down and right.

    Returns
    -------
    Tensor
        As ``Tensor.roll`` of each.
    """
    for dim, move in zip((2, 3), moves.T):
        n_pixels = images.shape[dim]
        places = torch.arange(n_pixels, device=images.device) - move[:, None]
        shape = [len(images), 1, 1, 1]
        shape[dim] = n_pixels
        source = (places % n_pixels).view(shape).expand_as(images)
        images = images.gather(dim, source)
    return images


def metamer_objectives(matches: Sequence[Match], recipe: Recipe) -> list[Objective]:
    """Make one objective a network: its error and the penalties; the score is the negative error.

    Parameters
    ----------
    matches : sequence of Match
        Stages that are to be matched.
    recipe : Recipe
        Recipe, of which three settings count: the penalties, the solver (penalties count in every
        turn, but once in a sum) and the jitter (of what the network sees, not of what penalties
        see).

    Returns
    -------
    list of callable
        See `stimuli_gen.synthesis.loop.Objective`.
    """

    def _evaluate(
        images: Tensor, context: Mapping[str, Tensor], *, match: Match, terms: Sequence[Penalty]
    ) -> tuple[Tensor, Tensor]:
        seen = images
        if recipe.jitter:
            seen = shifted(images, context)
        error = match.error(seen, context)
        loss = error
        for penalty in terms:
            loss = loss + penalty(images)
        return loss, -error

    objectives: list[Objective] = []
    terms = recipe.penalties
    for match in matches:
        objectives.append(partial(_evaluate, match=match, terms=terms))
        if recipe.solver == "joint":
            terms = ()  # penalties count once in a sum
    return objectives
