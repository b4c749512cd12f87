"""How a metamer is made: starts, schedules, penalties, and the presets that hold every number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from torch import Tensor

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, unknown_name
from neurometamer.summaries import short_repr
from stimuli_gen.synthesis.constraints import BALLS
from stimuli_gen.synthesis.loop import (
    OPTIMIZERS,
    PARAMETRIZATIONS,
    SOLVERS,
    STEP_RULES,
    StepOptions,
)

# ------------------------------------------------------------------------------------------- starts


def _l1_ball(
    reference: np.ndarray, random: np.random.Generator, level: float, spread: float
) -> np.ndarray:
    """Draw uniformly from the L1 ball.

    Exponential lengths share the radius, and one share is left unused.
    """
    lengths = random.exponential(size=reference.size + 1)
    shares = lengths[:-1] / lengths.sum()
    signs = random.choice([-1.0, 1.0], size=reference.shape)
    return level + spread * shares.reshape(reference.shape) * signs


STARTS: Mapping[str, Callable[[np.ndarray, np.random.Generator, float, float], np.ndarray]] = {
    "normal": lambda reference, random, level, spread: (
        level + spread * random.standard_normal(reference.shape)
    ),
    "l1_ball": _l1_ball,
    "uniform": lambda reference, random, level, spread: random.uniform(
        level - spread, level + spread, reference.shape
    ),
    "constant": lambda reference, random, level, spread: np.full(reference.shape, level),
    "reference": lambda reference, random, level, spread: reference,
}
"""Reference (3, height, width), random generator, level and spread → first image, clipped to [0, 1]
afterwards: Gaussian with standard deviation `spread`; uniform in the L1 ball of radius `spread`
around the level (in 150,528 dimensions that is gray: no pixel moves by a gray level); uniform ±
`spread`; the level; the reference."""

# ---------------------------------------------------------------------------------------- penalties


def _total_variation(images: Tensor, penalty: Penalty) -> Tensor:
    pixels = penalty.pixel_scale * images
    right = pixels.diff(dim=3, append=pixels[:, :, :, -1:])  # the border repeats
    down = pixels.diff(dim=2, append=pixels[:, :, -1:])
    square = right.square() + down.square()
    if penalty.power != 2:
        square = (square + 1e-12).pow(penalty.power / 2)  # below 2 the slope at 0 is infinite
    return square.flatten(1).sum(dim=1)


def _alpha_norm(images: Tensor, penalty: Penalty) -> Tensor:
    centered = images - 0.5
    distance = penalty.pixel_scale * centered
    size = distance.abs()
    powers = size.pow(penalty.power)
    powers = powers.flatten(1)
    return powers.sum(dim=1)


def _range(images: Tensor, penalty: Penalty) -> Tensor:
    below = (penalty.low - images).relu()
    above = (images - penalty.high).relu()
    outside = below + above
    excess = penalty.pixel_scale * outside
    powers = excess.pow(penalty.power)
    powers = powers.flatten(1)
    return powers.sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class PenaltyKind:
    """A kind of penalty: an entry of `PENALTIES`.

    Parameters
    ----------
    compute : callable
        Images (b, 3, height, width) in [0, 1] and `Penalty` → (b,), not weighted.
    power : float
        Power where none is given.
    prior : str
        What makes images look natural, in the words of tables and pages.
    help : str
        One line: the formula, with s the pixel scale and q the power.
    """

    compute: Callable[[Tensor, Penalty], Tensor]
    power: float
    prior: str
    help: str


PENALTIES: Mapping[str, PenaltyKind] = {
    "total_variation": PenaltyKind(
        compute=_total_variation,
        power=2.0,
        prior="total variation",
        help="sum of (dx² + dy²)^(q/2) of the pixels times s",
    ),
    "alpha_norm": PenaltyKind(
        compute=_alpha_norm,
        power=6.0,
        prior="alpha norm",
        help="sum of |s (I - 0.5)|^q",
    ),
    "range": PenaltyKind(
        compute=_range,
        power=2.0,
        prior="range of pixels",
        help="sum of (s excess)^q of what lies outside [low, high]",
    ),
}
"""Name → kind of penalty. Powers are those of Mahendran & Vedaldi (2015); that of the range is our
choice."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A term added to the loss (after Mahendran & Vedaldi 2015, without their factors ½).

    Parameters
    ----------
    kind : str
        See `PENALTIES`: ``total_variation``, ``alpha_norm`` or ``range``.
    weight : float
        Factor. No paper gives one for metamers of images in [0, 1].
    power : float, optional
        β of the total variation, α of the norm, or the power of the excess; by default that of
        `PENALTIES`.
    pixel_scale : float
        Pixels are multiplied by it first; 255 to use weights that were made for 8-bit levels.
    low, high : float
        Limits of the penalty ``range``. All images are clipped to [0, 1] anyway, so only a narrower
        range does anything.

    Raises
    ------
    InputError
        When a name is unknown or a number out of range.

    Examples
    --------
    >>> import torch
    >>> from stimuli_gen import Penalty
    >>> smooth = Penalty(kind="total_variation", weight=2.0, power=2)
    >>> images = torch.zeros(1, 3, 4, 4)
    >>> images[0, 0, 1, 1] = 0.5
    >>> float(smooth(images))
    2.0
    """

    kind: str
    weight: float
    power: float = None  # type: ignore[assignment]  # that of the kind
    pixel_scale: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kind not in PENALTIES:
            raise unknown_name("penalty", self.kind, PENALTIES)
        if self.power is None:
            object.__setattr__(self, "power", PENALTIES[self.kind].power)
        in_range = self.weight >= 0 and self.power >= 1 and self.pixel_scale > 0
        if not (in_range and self.low < self.high):
            raise InputError(
                f"penalty {self.kind}: weight ({self.weight}) must not be negative, power "
                f"({self.power}) at least 1, pixel scale ({self.pixel_scale}) above 0, and low "
                f"({self.low}) below high ({self.high}); give such numbers."
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the penalty.

        Parameters
        ----------
        images : Tensor
            (b, 3, height, width) in [0, 1].

        Returns
        -------
        Tensor
            (b,), weighted.
        """
        kind = PENALTIES[self.kind]
        return self.weight * kind.compute(images, self)


def read_penalty(text: str) -> Penalty:
    """Read a penalty from one line, as on the command line and in the settings of a study.

    Parameters
    ----------
    text : str
        ``kind:weight[:power[:pixel_scale]]``; what is left out has its default.

    Returns
    -------
    Penalty
        Checked.

    Raises
    ------
    InputError
        When the kind is unknown or a number cannot be read.

    Examples
    --------
    >>> from stimuli_gen.presets import read_penalty
    >>> read_penalty("alpha_norm:0.5").power
    6.0
    """
    kind, *numbers = text.split(":")
    if kind not in PENALTIES:
        raise unknown_name("penalty", kind, PENALTIES)
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3:
        raise InputError(
            f"a penalty is kind:weight[:power[:pixel_scale]], not '{text}'; give {kind}:0.01, say."
        )
    given = dict(zip(("weight", "power", "pixel_scale"), values))
    return Penalty(kind=kind, **given)


# ---------------------------------------------------------------------------------------- schedules

SCHEDULES: Mapping[str, Callable[[float, Recipe], float]] = {
    "constant": lambda done, recipe: recipe.step_size,
    "halving": lambda done, recipe: (
        recipe.step_size * 0.5 ** min(int(done * (recipe.halvings + 1)), recipe.halvings)
    ),
    "exponential": lambda done, recipe: (
        recipe.step_size * (recipe.last_step_size / recipe.step_size) ** done
    ),
}
"""Part of the run that is done, in [0, 1], and recipe → length of a step: halved `halvings` times
in blocks of equal length, or falling exponentially to `last_step_size`."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every number of a way to make metamers.

    Parameters
    ----------
    start : str
        First image: noise, a gray level or the photograph (`STARTS`); ``"image"``: images of
        the caller.
    start_level, start_spread : float
        Level and spread of the start; pixels in [0, 1].
    steps : int
        Gradient steps.
    budget : {"per_model", "total"}
        Whether each network of a set in turn has so many steps, or all together (the same for one
        network, and for the joint solver, whose steps follow all networks).
    step_rule, optimizer : str
        What is done to the gradient before a step (`stimuli_gen.synthesis.loop.STEP_RULES`), and
        how steps follow from gradients (`OPTIMIZERS`).
    step_size : float
        Length of the first step in the unit of the step rule.
    schedule : {"constant", "halving", "exponential"}
        How the length of a step falls: never, halved in blocks of equal length, or exponentially.
    halvings : int
        Number of halvings of the schedule ``halving``.
    last_step_size : float
        Length of the last step of the schedule ``exponential``.
    solver : {"round_robin", "joint"}
        Networks in turn, or the sum of their gradients.
    turn : int
        Steps of one network before the next; the exponential schedule moves once a round.
    ball : {"none", "l2", "linf"}
        Keep the image within this distance.
    radius : float
        Radius of the ball; pixels in [0, 1].
    center : {"start", "reference"}
        Center of the ball.
    straight_through_relu : bool
        At a matched stage whose last operation is a ReLU, let the gradient pass as if it were the
        identity.
    parametrization : {"pixels", "fourier"}
        What the optimizer moves, see `stimuli_gen.synthesis.loop.descend`.
    jitter : int
        Largest shift in pixels, up, down, left and right, of what the networks see at each step; 0
        for none. Pixels that leave at one border come in at the other. The photograph is not
        shifted, so the image must match it at any position: a stage that keeps positions
        cannot be matched exactly, choose a late one. In no paper.
    max_error : float, optional
        An image is finished early, and can only succeed, when ‖a' - a‖ / ‖a‖ of every network is at
        most this, on the 8-bit version too. In no paper; by default all steps are taken.
    file_rounds : int
        An image that meets every criterion until it is rounded to 8 bits goes on for at most so
        many rounds of 20 steps on rounded images (`stimuli_gen.quantization.ROUND_STEPS`); 0 for
        none. In no paper.
    finish : float
        Share of the steps, in (0, 1], that follows the networks themselves in the mode ``fast``.
    penalties : sequence of Penalty
        Terms added to the loss. No paper has one.
    open_choices : tuple of str
        What the source leaves open, and what is chosen here.

    Raises
    ------
    InputError
        When a name is unknown or a number out of range.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from stimuli_gen import PRESETS
    >>> recipe = replace(PRESETS["boehm2025"], steps=1000)
    >>> recipe.total_steps(n_models=2), recipe.step_length(0, n_models=2)
    (2000, 1.0)
    """

    start: str
    start_level: float
    start_spread: float
    steps: int
    budget: str
    step_rule: str
    optimizer: str
    step_size: float
    schedule: str
    halvings: int
    last_step_size: float
    solver: str
    turn: int
    ball: str
    radius: float
    center: str
    straight_through_relu: bool
    parametrization: str = "pixels"
    jitter: int = 0
    max_error: float | None = None
    file_rounds: int = 5
    finish: float = 0.1
    penalties: Sequence[Penalty] = ()
    open_choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.jitter, float):
            raise InputError(
                f"jitter must be a whole number of pixels, not {self.jitter}; give 2, say."
            )
        check_fields(self)
        object.__setattr__(self, "penalties", tuple(self.penalties))
        object.__setattr__(self, "open_choices", tuple(self.open_choices))
        for what, name, known in (
            ("start", self.start, [*STARTS, "image"]),
            ("budget", self.budget, ["per_model", "total"]),
            ("step rule", self.step_rule, STEP_RULES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("solver", self.solver, SOLVERS),
            ("ball", self.ball, BALLS),
            ("center", self.center, ["start", "reference"]),
            ("parametrization", self.parametrization, PARAMETRIZATIONS),
        ):
            if name not in known:
                raise unknown_name(what, str(name), known)
        above_0 = ("steps", "turn", "step_size", "last_step_size", "radius")
        for name in (*above_0, "start_level", "start_spread", "halvings", "jitter", "file_rounds"):
            given = getattr(self, name)
            if name in above_0 and not given > 0:
                raise InputError(f"{name} must be above 0, not {given}; give a larger number.")
            if not given >= 0:
                raise InputError(f"{name} must not be negative, not {given}; give 0 or more.")
        if self.max_error is not None and not self.max_error > 0:
            raise InputError(f"max_error must be above 0, not {self.max_error}; give 0.05, say.")
        if self.optimizer == "lbfgs":
            # it estimates curvature from one objective's plain gradients in pixels
            needed = {
                "step_rule": "raw",
                "parametrization": "pixels",
                "solver": "joint",
                "jitter": 0,
            }
            wrong = [
                f"{name}={value!r}, not {getattr(self, name)!r}"
                for name, value in needed.items()
                if getattr(self, name) != value
            ]
            if wrong:
                raise InputError(f"optimizer='lbfgs' needs {', '.join(wrong)}; give these.")

    def total_steps(self, n_models: int) -> int:
        """Count the gradient steps of an image.

        Parameters
        ----------
        n_models : int
            Networks in the set.

        Returns
        -------
        int
            Steps.
        """
        if self.solver == "round_robin" and self.budget == "per_model":
            return self.steps * n_models
        return self.steps

    def step_length(self, step: int, n_models: int) -> float:
        """Find the length of a step.

        Parameters
        ----------
        step : int
            Steps that the image has taken.
        n_models : int
            Networks in the set.

        Returns
        -------
        float
            In the unit of the step rule.
        """
        schedule = SCHEDULES[self.schedule]
        total = self.total_steps(n_models)
        if self.schedule != "exponential":
            share = step / total
            return schedule(share, self)
        in_round = self.turn
        if self.solver == "round_robin":
            in_round = self.turn * n_models
        n_rounds = math.ceil(total / in_round)
        number = step // in_round
        done = number / max(1, n_rounds - 1)
        share = min(1.0, done)
        return schedule(share, self)

    def step_options(self, n_models: int) -> StepOptions:
        """Say to the loop how steps are taken.

        Parameters
        ----------
        n_models : int
            Networks in the set.

        Returns
        -------
        StepOptions
            The last iterate is kept.
        """
        return StepOptions(
            step_size=lambda step: self.step_length(step, n_models),
            max_steps=self.total_steps(n_models),
            step_rule=self.step_rule,
            optimizer=self.optimizer,
            parametrization=self.parametrization,
            solver=self.solver,
            turn=self.turn,
            finish=self.finish,
            keep="last",
            rescore=self.jitter > 0,
        )


def described(recipe: Recipe) -> dict[str, Any]:
    """List the numbers of a recipe for the provenance of images.

    Parameters
    ----------
    recipe : Recipe
        Recipe.

    Returns
    -------
    dict
        Field → value, without ``finish``, which counts in the mode ``fast`` only.
    """
    numbers = asdict(recipe)
    del numbers["finish"]
    for name in ("penalties", "open_choices"):
        numbers[name] = list(numbers[name])
    return numbers


def chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the later settings that have their default, so that old digests stay.

    Parameters
    ----------
    settings : mapping
        Settings of a metamer.

    Returns
    -------
    dict
        The rest.
    """
    later = {"parametrization": "pixels", "jitter": 0}
    kept = {}
    for name, value in settings.items():
        if name not in later or value != later[name]:
            kept[name] = value
    return kept


def draw_shifts(largest: int, n_steps: int, random: np.random.Generator) -> np.ndarray:
    """Draw the shifts of an image, one for each step.

    Parameters
    ----------
    largest : int
        In pixels.
    n_steps : int
        Steps.
    random : numpy.random.Generator
        Generator of the image.

    Returns
    -------
    ndarray
        (n_steps, 2) int64, down and right, each uniform from -largest to largest.
    """
    size = (n_steps, 2)
    return random.integers(-largest, largest, size=size, endpoint=True)


# fmt: off
PRESETS: Mapping[str, Recipe] = {
    "feather2023": Recipe(
        start="normal", start_level=0.5, start_spread=0.05,
        steps=24_000, budget="per_model", step_rule="l2", optimizer="sgd",
        step_size=1.0, schedule="halving", halvings=7, last_step_size=1 / 128,
        solver="round_robin", turn=10, ball="l2", radius=100_000.0, center="start",
        straight_through_relu=True,
        open_choices=(
            "the ball is around the first image throughout, in their code around the first of "
            "each 3,000 steps; it is never reached",
            "each image has its own start noise, the same for every stage; in their code all have "
            "the same",
            "sets of networks are not theirs: they take turns of 10 steps as in boehm2025",
        ),
    ),
    "boehm2025": Recipe(
        start="l1_ball", start_level=0.5, start_spread=0.1,
        steps=40_000, budget="per_model", step_rule="l2", optimizer="sgd",
        step_size=1.0, schedule="exponential", halvings=7, last_step_size=0.005,
        solver="round_robin", turn=10, ball="none", radius=10_000.0, center="start",
        straight_through_relu=False,
        open_choices=(
            "the update is written as an ascent; the loss is descended",
            "'SGD' with rate 1: the gradient is scaled to unit L2 norm for each image; "
            "step_rule='raw' is plain",
            "'uniform L1 ball' is taken at its word, which is plain gray; start='uniform' is "
            "+-0.1 per pixel",
            "radius 10,000, infinite and L-inf are all named and none is ever reached: no ball, "
            "clipped to [0, 1]",
            "the center of a ball is written in two ways: the start; center='reference' is the "
            "other",
            "40,000 steps are for each network, 4,000 rounds of 10; budget='total' is for all "
            "together",
            "the rate falls once a round and is 0.005 in the last",
            "the matched ReLU is not mentioned: an ordinary gradient",
            "the 'ranking-based loss' and its input distance are not in the formula and not used",
        ),
    ),
    "pixels": Recipe(
        start="normal", start_level=0.5, start_spread=0.05,
        steps=500, budget="per_model", step_rule="raw", optimizer="adam",
        step_size=0.02, schedule="exponential", halvings=7, last_step_size=0.002,
        solver="joint", turn=10, ball="none", radius=10_000.0, center="start",
        straight_through_relu=False,
        open_choices=(
            "of no paper: few steps of Adam, taken on pixels, along the sum of all networks' "
            "gradients",
        ),
    ),
    "fast": Recipe(
        start="normal", start_level=0.5, start_spread=0.05,
        steps=500, budget="per_model", step_rule="raw", optimizer="adam",
        step_size=0.02, schedule="exponential", halvings=7, last_step_size=0.002,
        solver="joint", turn=10, ball="none", radius=10_000.0, center="start",
        straight_through_relu=False, parametrization="fourier",
        open_choices=(
            "of no paper: few steps of Adam, taken in Fourier space, along the sum of all "
            "networks' gradients",
            "Fourier steps make the spectrum and the colors of photographs likely whatever the "
            "network does, so that its images are recognized more often than those of steps on "
            "pixels; use 'pixels' to ask about that",
        ),
    ),
}
# fmt: on
"""Ways to make metamers, every number in its place; any can be overridden. Sources: the public code
of Feather et al. (2023), Nature Neuroscience 26; Boehm et al. (2025), arXiv 2504.01739. Of these
only ``fast`` carries a prior of natural images, see `image_prior`."""


def make_recipe(preset: str, overrides: Mapping[str, Any]) -> Recipe:
    """Take a preset and change some of its numbers.

    Parameters
    ----------
    preset : str
        A key of `PRESETS`.
    overrides : mapping
        Fields of `Recipe` to values.

    Returns
    -------
    Recipe
        Checked.

    Raises
    ------
    InputError
        When preset, field or value is unknown or wrong.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    known = [setting.name for setting in fields(Recipe) if setting.name != "open_choices"]
    for name in overrides:
        if name not in known:
            raise unknown_name("setting of a metamer", name, known)
    try:
        return replace(PRESETS[preset], **overrides)
    except TypeError as error:
        raise InputError(
            f"a setting of the metamers is of the wrong type: {error}; give a number."
        ) from error


def image_prior(recipe: Recipe) -> str:
    """Say what makes images look natural whatever the network responds to.

    Parameters
    ----------
    recipe : Recipe
        How the images are made.

    Returns
    -------
    str
        ``"none"``, or the priors between semicolons. Images made with one are recognized more
        often, so such rates say less about the network.

    Examples
    --------
    >>> image_prior(PRESETS["feather2023"])
    'none'
    """
    priors = []
    if recipe.parametrization == "fourier":
        priors.append("Fourier steps (1/f amplitudes, colors of photographs)")
    for penalty in recipe.penalties:
        if penalty.weight > 0:
            priors.append(PENALTIES[penalty.kind].prior)
    return "; ".join(dict.fromkeys(priors)) or "none"
