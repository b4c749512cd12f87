"""Recipes of training: what a run is made of, and the recipes of papers where they are known."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.summaries import short_repr

_LOG = logging.getLogger(__name__)
OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "step", "cosine")
PRECISIONS = ("float32", "bfloat16", "float16")
AUGMENTATIONS = {
    "none": "the middle of each image, as in validation",
    "flip": "the middle, mirrored at random",
    "crop_flip": "a random part (8 to 100 % of the area, sides 3:4 to 4:3), mirrored at random",
}
"""Name → what is done to an image before it is trained on."""
COLORS = {
    "rgb": "color",
    "gray": "luminance in three equal channels",
    "one_channel": "luminance in one channel; the first convolution is trained with one input "
    "channel and saved with three that see the same luminance",
}
"""Name → what the network sees of color."""
STATES = ("eval", "train")
"""State of the network while it is attacked: what BatchNorm and dropout do."""

ADVERSARIAL = ("adversarial_l2", "adversarial_linf")
RANDOM = ("random_l2", "random_linf")
NOISES = ("gaussian_noise", "fourier_noise")
NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ADVERSARIAL, ("radius", "attack_step_size")),
    **dict.fromkeys(RANDOM, ("radius",)),
    "blur": ("sigmas or sigma_range",),
    **dict.fromkeys(NOISES, ("ssnrs",)),
}
"""Perturbation → settings that it cannot do without."""
_OF_ATTACKS = ("attack_steps", "attack_step_size", "attack_state", "random_start")
_OF_BLUR = ("sigmas", "sigma_odds", "sigma_range", "blurred_share", "sigma_epochs")
_OF_PERTURBATION: Mapping[str, tuple[str, ...]] = {
    "radius": (*ADVERSARIAL, *RANDOM),
    **dict.fromkeys(_OF_ATTACKS, ADVERSARIAL),
    **dict.fromkeys(_OF_BLUR, ("blur",)),
    **dict.fromkeys(("ssnrs", "ssnr_odds"), NOISES),
}
USED_BY: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("perturbation", readers) for name, readers in _OF_PERTURBATION.items()},
    "momentum": ("optimizer", ("sgd",)),
    "step_epochs": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
}
"""Setting → another setting, and the values of it that read the first; settings that are not here
are read by all."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Settings that change the weights that come out.

    Parameters
    ----------
    perturbation : str
        What is done to images before each step, see `neurometamer.training.PERTURBATIONS`.
    epochs : int
        Times that all images are seen.
    train_batch_size : int
        Images a step, over all processes and parts. The last images of an epoch that fill no batch
        are left out; each epoch has another order.
    accumulate : int
        Parts that a batch is computed in, to save memory.
    optimizer : {"sgd", "adamw"}
        How steps are taken: stochastic gradient descent with momentum, or AdamW.
    learning_rate : float
        Learning rate at the start.
    momentum : float
        Momentum of ``sgd``.
    weight_decay : float
        Weight decay of the optimizer.
    schedule : {"constant", "step", "cosine"}
        How the learning rate falls: not; by `step_factor` every `step_epochs`; to 0 as a cosine.
    step_epochs : int
        Epochs between two falls of the schedule ``step``.
    step_factor : float
        What the learning rate is multiplied with at each.
    warmup_epochs : float
        Epochs in which the learning rate rises from 0.
    label_smoothing : float
        Share of the target that goes to all classes alike, in [0, 1).
    auxiliary_weight : float
        Weight of the loss of auxiliary classifiers, where a network returns their logits in
        training; 0.3 as in GoogLeNet (Szegedy et al. 2015). 0 trains them on nothing.
    augment : {"none", "flip", "crop_flip"}
        What is done to an image before it is trained on, see `AUGMENTATIONS`.
    color : {"rgb", "gray", "one_channel"}
        What the network sees of color, see `COLORS`.
    precision : {"float32", "bfloat16", "float16"}
        Of the passes through the network (automatic mixed precision); weights are float32.
    radius : float
        Of adversarial and random perturbations, pixels in [0, 1]; required there.
    attack_steps : int
        Steps of projected gradient descent.
    attack_step_size : float
        Length of a step; required there.
    attack_state : {"eval", "train"}
        State of the network while it is attacked. In ``eval`` BatchNorm takes its running moments
        and dropout is off; in ``train`` moments are those of the attacked images, and the running
        ones are put back afterwards.
    random_start : bool
        Start attacks at a random point of the ball (uniform over it).
    sigmas : tuple of float
        Standard deviations of the blur, pixels; 0 is no blur.
    sigma_odds : tuple of float
        How often each of `sigmas` is drawn; equally often when empty.
    sigma_range : tuple of float
        (lowest, highest) standard deviation, drawn uniformly, in place of `sigmas`.
    blurred_share : float
        Share of each batch that is blurred, exactly; the rest is left clear.
    sigma_epochs : int
        With it `sigmas` are taken one after another, each for so many epochs, the last one to the
        end (annealing); 0: drawn at random.
    ssnrs : tuple of float
        Signal-to-signal-plus-noise ratios of additive noise, in [0, 1]; 1 is no noise.
    ssnr_odds : tuple of float
        How often each is drawn; equally often when empty.
    seed : int
        Seed of order, augmentation, perturbation and dropout.

    Raises
    ------
    InputError
        When a value is out of range, or one that the perturbation needs is missing.

    Examples
    --------
    >>> TrainingRecipe(perturbation="blur", sigmas=(0, 1, 2)).epochs
    30
    """

    perturbation: str = "none"
    epochs: int = 30
    train_batch_size: int = 128
    accumulate: int = 1
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    step_epochs: int = 30
    step_factor: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    auxiliary_weight: float = 0.3
    augment: str = "crop_flip"
    color: str = "rgb"
    precision: str = "float32"
    radius: float = 0.0
    attack_steps: int = 7
    attack_step_size: float = 0.0
    attack_state: str = "eval"
    random_start: bool = True
    sigmas: tuple[float, ...] = ()
    sigma_odds: tuple[float, ...] = ()
    sigma_range: tuple[float, ...] = ()
    blurred_share: float = 1.0
    sigma_epochs: int = 0
    ssnrs: tuple[float, ...] = ()
    ssnr_odds: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        from neurometamer.training.perturbations import PERTURBATIONS

        check_fields(self)
        choices: dict[str, tuple[str, ...]] = {
            "perturbation": tuple(PERTURBATIONS),
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
            "augment": tuple(AUGMENTATIONS),
            "color": tuple(COLORS),
            "precision": PRECISIONS,
            "attack_state": STATES,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        _check_ranges(self)
        _check_perturbation(self)


def _check_ranges(recipe: TrainingRecipe) -> None:
    """Refuse numbers that make no sense."""
    for name in ("epochs", "train_batch_size", "accumulate", "attack_steps", "step_epochs"):
        if getattr(recipe, name) < 1:
            raise InputError(f"{name} is {getattr(recipe, name)}; give at least 1.")
    if recipe.train_batch_size % recipe.accumulate:
        raise InputError(
            f"train_batch_size is {recipe.train_batch_size}, which {recipe.accumulate} parts "
            "(accumulate) do not divide; give a multiple."
        )
    for name in ("learning_rate", "step_factor"):
        if not 0 < getattr(recipe, name) < np.inf:
            raise InputError(f"{name} is {getattr(recipe, name)}; give a positive number.")
    _check_bounds(recipe)


def _check_bounds(recipe: TrainingRecipe) -> None:
    """Refuse numbers below 0, and shares and epochs above all."""
    from_zero = ("weight_decay", "warmup_epochs", "radius", "attack_step_size")
    for name in (*from_zero, "auxiliary_weight", "sigma_epochs", "seed"):
        value = getattr(recipe, name)
        if not 0 <= value < np.inf:
            raise InputError(f"{name} is {value}; give at least 0.")
    for name in ("momentum", "label_smoothing"):
        value = getattr(recipe, name)
        if not 0 <= value < 1:
            raise InputError(f"{name} is {value}; give at least 0, below 1.")
    if recipe.warmup_epochs > recipe.epochs:
        raise InputError(
            f"warmup_epochs is {recipe.warmup_epochs:g}, but there are {recipe.epochs} epochs; "
            "give fewer."
        )
    if not 0 <= recipe.blurred_share <= 1:
        raise InputError(f"blurred_share is {recipe.blurred_share}; give a share from 0 to 1.")


def _check_perturbation(recipe: TrainingRecipe) -> None:
    """Refuse a perturbation without what it needs, and odds or ranges that make no sense."""
    kind = recipe.perturbation
    for wanted in NEEDS.get(kind, ()):
        names = wanted.split(" or ")
        if not any(getattr(recipe, name) for name in names):
            options = [f"--{name.replace('_', '-')}" for name in names]
            raise InputError(f"perturbation '{kind}' needs {wanted}; give {' or '.join(options)}.")
    if kind.endswith("linf"):
        for name in ("radius", "attack_step_size"):
            value = getattr(recipe, name)
            if value > 1:
                raise InputError(
                    f"{name} is {value:g}, but pixels are in [0, 1]; give at most 1 (of levels "
                    f"from 0 to 255 a 255th, {value / 255:.3g})."
                )
    if recipe.ssnrs and not 0 <= min(recipe.ssnrs) <= max(recipe.ssnrs) <= 1:
        raise InputError(f"ssnrs are {name_ids(recipe.ssnrs)}; give ratios from 0 to 1.")
    _check_odds("sigma_odds", recipe.sigma_odds, len(recipe.sigmas))
    _check_odds("ssnr_odds", recipe.ssnr_odds, len(recipe.ssnrs))
    _check_blur(recipe)


def _check_blur(recipe: TrainingRecipe) -> None:
    """Refuse sigmas that make no sense, or not with one another."""
    if recipe.sigmas and recipe.sigma_range:
        raise InputError(
            f"sigmas ({name_ids(recipe.sigmas)}) and sigma_range "
            f"({name_ids(recipe.sigma_range)}) are given; give one of them."
        )
    blur = (*recipe.sigmas, *recipe.sigma_range)
    if blur and not 0 <= min(blur) <= max(blur) < np.inf:
        raise InputError(f"sigmas are {name_ids(blur)}; give pixels, at least 0.")
    if recipe.sigma_range:
        is_pair = len(recipe.sigma_range) == 2
        if not is_pair or recipe.sigma_range[0] > recipe.sigma_range[1]:
            raise InputError(
                f"sigma_range is {name_ids(recipe.sigma_range)}; give the lowest and the highest."
            )
    if recipe.sigma_epochs and not recipe.sigmas:
        raise InputError(
            f"sigma_epochs ({recipe.sigma_epochs}) takes sigmas one after another; give sigmas in "
            "place of sigma_range."
        )
    n_reached = -(-recipe.epochs // recipe.sigma_epochs) if recipe.sigma_epochs else 0
    if recipe.sigma_epochs and n_reached < len(recipe.sigmas):
        raise InputError(
            f"{recipe.epochs} epochs of {recipe.sigma_epochs} a sigma (sigma_epochs) reach "
            f"{n_reached} of {len(recipe.sigmas)} sigmas; give more epochs, or fewer a sigma."
        )
    if recipe.sigma_epochs and recipe.sigma_odds:
        raise InputError(
            f"sigma_epochs ({recipe.sigma_epochs}) takes sigmas in order; leave out sigma_odds."
        )


def _check_odds(name: str, odds: tuple[float, ...], n_values: int) -> None:
    if odds and (len(odds) != n_values or min(odds) < 0 or not 0 < sum(odds) < np.inf):
        raise InputError(
            f"{name} are {name_ids(odds)} for {n_values} value(s); give one a value, at least 0."
        )


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """How training is run; nothing of it changes the weights of a run on a CPU.

    Parameters
    ----------
    workers : int
        Processes that decode images ahead. With 0 this one decodes them: for a CPU when they are
        needed, for other devices in threads, a batch ahead.
    checkpoint_minutes : float
        Minutes between two checkpoints; one is written after each epoch, and when the run is
        stopped.
    tensorboard : bool
        Whether to write TensorBoard's files into ``<out>/tensorboard``; it must be installed.
    tf32 : bool
        Whether NVIDIA GPUs may multiply in TF32 while they train, which is faster and less exact.
    name : str
        Name of the trained network in tables, for the command; that of its folder when empty.

    Examples
    --------
    >>> LoopOptions(workers=2).checkpoint_minutes
    10.0
    """

    workers: int = 0
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False
    tf32: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"workers is {self.workers}; give at least 0.")
        if not self.checkpoint_minutes > 0:
            raise InputError(
                f"checkpoint_minutes is {self.checkpoint_minutes}; give a positive number."
            )


@dataclass(frozen=True, kw_only=True)
class TrainingPreset:
    """A recipe as far as its source gives it.

    Parameters
    ----------
    given : mapping of str to object
        Fields of `TrainingRecipe` that the source gives.
    open : tuple of str
        Fields that the source leaves open: they must be given. Fields that are in neither are
        switched off (``warmup_epochs``, ``label_smoothing``) or change no result much
        (``accumulate``, ``precision``).
    network : str
        Class of the network that the source trained; empty for any.
    help : str
        Source.

    Examples
    --------
    >>> PRESETS["feather2023_alexnet_l2"].open[:2]
    ('attack_step_size', 'attack_state')
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    open: tuple[str, ...] = ()
    network: str = ""
    help: str


_FEATHER = {
    "epochs": 120,
    "train_batch_size": 256,
    "schedule": "step",
    "step_epochs": 50,
    "step_factor": 0.1,
    "optimizer": "sgd",
}
_FEATHER_ALEXNET = {
    **_FEATHER,
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "attack_steps": 7,
}
_FEATHER_RESNET = {**_FEATHER, "learning_rate": 0.1}
_OPEN_ATTACK = ("attack_step_size", "attack_state", "random_start")
_OPEN_STEPS = ("momentum", "weight_decay")

PRESETS: dict[str, TrainingPreset] = {
    "standard": TrainingPreset(
        help="no perturbation, cosine schedule; values of ours for small sets, of no paper",
    ),
    "feather2023_alexnet_l2": TrainingPreset(
        given={**_FEATHER_ALEXNET, "perturbation": "adversarial_l2", "radius": 3.0},
        open=(*_OPEN_ATTACK, "augment"),
        network="AlexNet",
        help="AlexNet of Feather et al. (2023), adversarial, L2 radius 3, 7 steps",
    ),
    "feather2023_alexnet_linf": TrainingPreset(
        given={**_FEATHER_ALEXNET, "perturbation": "adversarial_linf", "radius": 8 / 255},
        open=(*_OPEN_ATTACK, "augment"),
        network="AlexNet",
        help="AlexNet of Feather et al. (2023), adversarial, L-infinity radius 8/255, 7 steps",
    ),
    "feather2023_resnet50_random_l2": TrainingPreset(
        given={**_FEATHER_RESNET, "perturbation": "random_l2", "radius": 3.0},
        open=(*_OPEN_STEPS, "augment"),
        network="ResNet",
        help="ResNet-50 of Feather et al. (2023), random perturbations on the L2 sphere of 3",
    ),
    "feather2023_resnet50_random_linf": TrainingPreset(
        given={**_FEATHER_RESNET, "perturbation": "random_linf", "radius": 8 / 255},
        open=(*_OPEN_STEPS, "augment"),
        network="ResNet",
        help="ResNet-50 of Feather et al. (2023), random corners of the L-infinity ball of 8/255",
    ),
    "coggan_mixed_blur": TrainingPreset(
        given={"perturbation": "blur", "sigmas": (0.0, 1.0, 2.0, 4.0, 8.0)},
        open=(
            *("epochs", "train_batch_size", "learning_rate", "schedule", "step_epochs"),
            *("step_factor", "optimizer", *_OPEN_STEPS, "augment"),
        ),
        help="blur of 0, 1, 2, 4 or 8 pixels, equally often: public code of another project of the "
        "laboratory of Jang & Tong, who do not give theirs",
    ),
    "yoshihara2023_mix": TrainingPreset(
        given={
            "perturbation": "blur",
            "blurred_share": 0.5,
            "epochs": 60,
            "train_batch_size": 64,
            "learning_rate": 0.01,
            "schedule": "step",
            "step_epochs": 20,
            "step_factor": 0.1,
        },
        open=("sigmas", "optimizer", *_OPEN_STEPS, "augment"),
        help="Yoshihara, Fukiage & Nishida (2023), half of each batch blurred by one sigma",
    ),
}
"""Name → recipe; one is added by an entry here."""


@checked
def make_training_recipe(preset: str = "standard", **changes: Any) -> TrainingRecipe:
    """Make a recipe of a preset and changes.

    Parameters
    ----------
    preset : str
        Name of a recipe, see `PRESETS`.
    **changes : object
        Fields of `TrainingRecipe`, in place of the preset's.

    Returns
    -------
    TrainingRecipe
        The recipe.

    Raises
    ------
    InputError
        When a name is unknown, a value makes no sense, one that the preset's source leaves open is
        not given, or one is given that the perturbation does not read.

    Examples
    --------
    >>> asked = {"attack_step_size": 0.75, "attack_state": "eval", "random_start": True}
    >>> make_training_recipe("feather2023_alexnet_l2", **asked, augment="crop_flip").radius
    3.0
    >>> try:
    ...     make_training_recipe("feather2023_alexnet_l2")
    ... except ValueError as error:
    ...     print(str(error).partition(",")[0])
    preset 'feather2023_alexnet_l2' leaves attack_step_size
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    entry = PRESETS[preset]
    known = [own.name for own in fields(TrainingRecipe)]
    for name in changes:
        if name not in known:
            raise unknown_name("setting of training", name, known)
    wanted = {**entry.given, **changes}
    usual = TrainingRecipe()
    missing = []
    for name in entry.open:
        setting, readers = USED_BY.get(name, ("", ()))
        if name not in changes and (not setting or wanted.get(setting, readers[0]) in readers):
            missing.append(name)
    if missing:
        options = [f"--{name.replace('_', '-')}" for name in missing]
        raise InputError(
            f"preset '{preset}' leaves {', '.join(missing)} open, since its source does not give "
            f"{'it' if len(missing) == 1 else 'them'}; give {' '.join(options)}."
        )
    recipe = TrainingRecipe(**wanted)
    for name in changes:
        setting, readers = USED_BY.get(name, ("", ()))
        is_asked = name in entry.open or getattr(recipe, name) == getattr(usual, name)
        if setting and getattr(recipe, setting) not in readers and not is_asked:
            raise InputError(
                f"{name} is given, but {setting} '{getattr(recipe, setting)}' does not read it; "
                f"leave it out, or give another {setting} ({', '.join(readers)})."
            )
    return recipe


def changes_of_preset(preset: str, recipe: TrainingRecipe) -> list[str]:
    """Name what a recipe has otherwise than the source of its preset.

    Parameters
    ----------
    preset : str
        Name of a recipe, see `PRESETS`.
    recipe : TrainingRecipe
        What was made of it.

    Returns
    -------
    list of str
        Fields that the source gives, and that were changed.

    Examples
    --------
    >>> recipe = make_training_recipe("standard", epochs=2)
    >>> changes_of_preset("standard", recipe)
    []
    """
    given = PRESETS[preset].given
    return [name for name, value in given.items() if getattr(recipe, name) != value]


def warn_of_other_network(preset: str, network: str) -> None:
    """Say where a preset is of another network than the one that is trained.

    Parameters
    ----------
    preset : str
        Name of a recipe, see `PRESETS`.
    network : str
        Class of the network.
    """
    source = PRESETS[preset].network
    if source and network != source:
        _LOG.warning(
            "preset '%s' is a recipe for %s, and a %s is trained with it; its source says nothing "
            "of that.",
            preset,
            source,
            network,
        )


def recipe_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """List the settings of a recipe for a record.

    Parameters
    ----------
    recipe : TrainingRecipe
        The recipe.

    Returns
    -------
    dict
        JSON-able.
    """
    settings = {}
    for name, value in asdict(recipe).items():
        settings[name] = list(value) if isinstance(value, tuple) else value
    return settings


def without_perturbation(recipe: TrainingRecipe) -> TrainingRecipe:
    """Take the perturbation out of a recipe: what is left trains a control.

    Parameters
    ----------
    recipe : TrainingRecipe
        The recipe.

    Returns
    -------
    TrainingRecipe
        The same with ``perturbation="none"``.

    Examples
    --------
    >>> without_perturbation(TrainingRecipe(perturbation="blur", sigmas=(1.0,))).perturbation
    'none'
    """
    return replace(recipe, perturbation="none")
