"""Settings of a study, read from TOML and checked.

An unknown key is an error that names the nearest known one. Settings that a function takes have its
default and its choices.

Settings that change numbers are hashed into the identity of a study and of its steps; those in
``[run]`` (device, batch size, threads) change only how it is run, and are recorded, not hashed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from fmri.betas.memory import parse_memory
from fmri.betas.single_trials import SingleTrialOptions
from fmri.rois.algebra import parse_region, plain_sources
from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.reading import reading
from neurometamer.run_options import check_device
from neurometamer.study.defaults import choices_of, default_of, look_up, meaning_of
from neurometamer.summaries import is_same, summarize

Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""Names that become files and folders."""

NOISE = "stimuli_gen.adversarial:adversarial_noise"
INTERFERENCE = "stimuli_gen.adversarial:adversarial_interference"
GREEDY = "stimuli_gen.greedy:greedy_interference"
NGUYEN = "stimuli_gen.synthesis.objectives:Progress"
PHOTOGRAPHS = "stimuli_gen.photographs:load_photographs"
NETWORK = "neurometamer.zoo.loading:load_model"
CORTEX = "fmri.simulate:simulate_subject"
SIMULATION = "fmri.simulate:SimulationOptions"
LIMITS = "stimuli_gen.synthesis.constraints:Limits"
CONTRASTS = "fmri.betas.contrasts:estimate_contrast"
SCANS = "fmri.bold:read_runs"
REGIONS = "fmri.rois.regions:read_regions"
BETAS = "fmri.betas.estimate:estimate_betas"
DESIGN = "fmri.betas.event_designs:DesignOptions"
PATTERNS = "neurometamer.commands.fmri:fmri_patterns"
VOXELS = "neurometamer.commands.fmri:SelectionOptions"
SELECT = "neurometamer.commands.reliability:fmri_select"
TRIALS = "fmri.betas.single_trials:SingleTrialOptions"
LAYOUT = "fmri.layout.options:LayoutOptions"
RDMS = "neurometamer.rsa.compute:compute_rdms"
BRAIN_RDMS = "neurometamer.rsa.compute:pattern_rdms"
IMAGE_TYPES = "neurometamer.rsa.image_types.options:ImageTypeOptions"
ENCODING = "neurometamer.encoding.design:EncodingOptions"
CLASSES = "stimuli_gen.controversial:controversial_images"
PLACES = "stimuli_gen.controversial_stages:controversial_representations"
SEARCH = "stimuli_gen.pairs:Search"
DIVERGENT = "stimuli_gen.divergent:divergent_metamers"
DISTORTIONS = "stimuli_gen.eigendistortions:eigendistortions"
SPECTRUM = "stimuli_gen.jacobians:Spectrum"
RUN = "neurometamer.run_options:RunOptions"

OBJECTIVES = "stimuli_gen.adversarial:OBJECTIVES"
STEP_RULES = "stimuli_gen.synthesis.optimizers:STEP_RULES"
MODES = "neurometamer.run_options:MODES"
MEASURES = "neurometamer.rsa.measures:MEASURES"


def setting(
    function: str = "",
    parameter: str = "",
    *,
    description: str = "",
    choices: str = "",
    later: bool = False,
    default: Any = None,
    **checks: Any,
) -> Any:
    """Define a setting whose default is that of a parameter.

    Parameters
    ----------
    function : str
        Module and function, or dataclass, with a colon between them; empty for a setting with a
        `default` of its own.
    parameter : str
        Name of the parameter.
    description : str
        What the setting means. ``{meaning}`` in it stands for what the docstring of the function
        says of the parameter, and ``{choices}`` for the names in the table.
    choices : str
        Module and table, with a colon between them, whose names are allowed; empty: any value.
    later : bool
        Whether it came after other settings: with its default it is no part of a study's identity,
        so that folders of older studies stay valid.
    default : object
        Default of a setting without a function.
    **checks : object
        Arguments of pydantic's ``Field``.

    Returns
    -------
    object
        The field.
    """
    if function:
        default = default_of(function, parameter)
    if "{meaning}" in description:
        description = description.replace("{meaning}", meaning_of(function, parameter))
    facts: dict[str, Any] = {
        "function": function,
        "parameter": parameter,
        "choices": choices,
        "later": later,
    }
    return Field(default, description=description or None, json_schema_extra=facts, **checks)


def fact(field: Any, name: str) -> Any:
    """Return a fact of a field that `setting` defined.

    Parameters
    ----------
    field : pydantic.fields.FieldInfo
        Field of a section.
    name : {"function", "parameter", "choices", "later"}
        Argument of `setting`.

    Returns
    -------
    object
        Its value; empty text for other fields.
    """
    facts = field.json_schema_extra or {}
    return facts.get(name, "")


@contextmanager
def _as_problem() -> Iterator[None]:
    """Let pydantic gather what a block refuses."""
    try:
        yield
    except InputError as error:
        without_options = re.sub(r" \(--[^()]*\)", "", str(error))
        raise ValueError(without_options.removesuffix(".")) from error


class Section(BaseModel):
    """A table of study.toml: frozen, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def __repr__(self) -> str:
        """Show what differs from the defaults."""
        shown = []
        for name, known in type(self).model_fields.items():
            value = getattr(self, name)
            if not is_same(value, known.get_default(call_default_factory=True)):
                shown.append((name, value))
        return summarize(type(self).__name__, shown)

    @field_validator("*", mode="after")
    @classmethod
    def _name_is_known(cls, value: Any, about: ValidationInfo) -> Any:
        field = cls.model_fields[str(about.field_name)]
        choices = fact(field, "choices")
        if not choices or value == field.default:  # the tables of generators load torch
            return value
        known = choices_of(choices)
        for name in value if isinstance(value, tuple) else (value,):
            if name not in known:
                raise unknown_name(str(about.field_name), name, known)
        return value


class Study(Section):
    """Name and seed of the study."""

    name: Name = "study"
    """Name; also the default output folder."""
    seed: int = Field(0, ge=0)
    """Every random number derives from it and from the name of what it is for."""


class Images(Section):
    """Where the images come from."""

    source: str = "packaged"
    """"packaged" (photographs inside scikit-image and scikit-learn), a folder of photographs
    (folders inside it are categories), or a CSV with the columns file[, id, category, bits,
    icc]."""
    ready: str = ""
    """Instead: a folder written by ``neurometamer stimuli`` or by a study, or a CSV with the
    columns file, id, kind and reference_id: regular, AN and AI images that were shown in the
    scanner. Nothing is then generated. Of photographs alone: a folder of them, or a CSV with the
    columns file and id; their kind is RE."""
    bits: int = Field(0, ge=0, le=16)
    """How many bits of 16-bit photographs hold data, 8 to 16; 0: 16, and files that seem to hold
    fewer are refused."""
    icc: str = setting(PHOTOGRAPHS, "icc", choices="stimuli_gen.conversion:PROFILES")
    """Color profiles of photographs other than sRGB: "ignore" (but note), or "convert" the levels
    to sRGB."""

    @field_validator("bits", mode="after")
    @classmethod
    def _bits_of_a_file(cls, bits: int) -> int:
        if 0 < bits < 8:
            raise ValueError(
                f"16-bit files hold 8 to 16 bits of data, not {bits}; give 0 for what the file says"
            )
        return bits


class Model(Section):
    """The network."""

    name: str = "efficientnet_lite0"
    """A name of ``neurometamer models list``."""
    weights: str = setting(NETWORK, "weights")
    """"default" (ImageNet), "random" (everything is stamped untrained), or a file."""
    stages: tuple[str, ...] = ()
    """Stages to analyze: names, early, middle, late or fractions of depth; empty: all of them."""


class Noise(Section):
    """Adversarial noise (AN): noise to people, the photograph's class to the network."""

    objective: str = setting(NOISE, "objective", choices=OBJECTIVES, later=True)
    """What of the target is raised; Zhang et al. (2021) name the probability."""
    step_rule: str = setting(NOISE, "step_rule", choices=STEP_RULES, later=True)
    """How a gradient becomes a step."""
    mode: str = setting(RUN, "mode", choices=MODES, later=True)
    """"fast": cheaper arithmetic on the way, judged exactly."""
    confidence: Share = setting(NOISE, "confidence", description="{meaning}")
    max_steps: int = setting(NOISE, "max_steps", description="{meaning}", ge=1)
    step_size: float = setting(NOISE, "step_size", gt=0)
    """L2 norm of one step, pixel values in [0, 1]; the papers leave it open."""
    pull: float = setting(NOISE, "pull", description="{meaning}", ge=0)
    noise_sd: float = setting(NOISE, "noise_sd", description="{meaning}", ge=0)
    target: str = setting(NOISE, "target")
    """"own" (the network's class of the photograph), a class, or a CSV with the columns id and
    target."""
    rule: Literal["fixed", "nguyen"] = setting(default="fixed", later=True)
    """"nguyen": steps by wanted progress and decay toward the mean image, on the probability
    without pull (Nguyen 2015); step_size, step_rule, objective and pull are then not used."""
    decay: float = setting(
        NGUYEN,
        "decay",
        description='Only for rule = "nguyen". {meaning}',
        later=True,
        ge=0,
        lt=1,
    )


class Interference(Section):
    """Adversarial interference (AI): the photograph to people, a wrong class to the network."""

    objective: str = setting(INTERFERENCE, "objective", choices=OBJECTIVES, later=True)
    """What of the target is raised; Zhang et al. (2021) name the probability."""
    step_rule: str = setting(INTERFERENCE, "step_rule", choices=STEP_RULES, later=True)
    """How a gradient becomes a step."""
    mode: str = setting(RUN, "mode", choices=MODES, later=True)
    """"fast": cheaper arithmetic on the way, judged exactly."""
    confidence: Share = setting(INTERFERENCE, "confidence", description="{meaning}")
    max_steps: int = setting(INTERFERENCE, "max_steps", description="{meaning}", ge=1)
    step_size: float = setting(INTERFERENCE, "step_size", gt=0)
    """L2 norm of one step, pixel values in [0, 1]; the papers leave it open."""
    pull: float = setting(INTERFERENCE, "pull", description="{meaning}", ge=0)
    target: str = setting(INTERFERENCE, "target")
    """"random" (a wrong class by seed), "least_likely", "another_category" (a wrong class of
    another category of the photographs), a class, or a CSV with the columns id and target."""
    method: Literal["gradient", "greedy"] = setting(default="gradient", later=True)
    """"greedy": gradient-free search of Zhang et al. (2021) up to p > .5; of the settings above it
    takes confidence (then .5 where none is given) and target."""
    amplitude: float = setting(
        GREEDY,
        "amplitude",
        description='Only for method = "greedy". {meaning}',
        later=True,
        gt=0,
        lt=255,
    )
    shared_channels: bool = setting(
        GREEDY,
        "shared_channels",
        description='Only for method = "greedy". {meaning}',
        later=True,
    )
    max_tries: int = setting(
        GREEDY,
        "max_tries",
        description='Only for method = "greedy". {meaning}',
        later=True,
        ge=1,
    )
    ball: str = setting(
        LIMITS,
        "ball",
        description='Only for method = "gradient". {meaning}',
        choices="stimuli_gen.synthesis.constraints:BALLS",
        later=True,
    )
    radius: float = setting(default=0.0, later=True, ge=0)
    """Radius of the ball, pixel values in [0, 1]; 0 without a ball."""
    mask: str = setting(default="", later=True)
    """Only for method = "gradient". Image file: only its light pixels may change; empty: all."""

    @model_validator(mode="before")
    @classmethod
    def _criterion_of_method(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("method") != "greedy":
            return values
        return {"confidence": default_of(GREEDY, "confidence"), **values}

    @model_validator(mode="after")
    def _ball_has_radius(self) -> Self:
        if (self.ball == "none") != (self.radius == 0):
            raise ValueError(
                f'ball = "{self.ball}" and radius = {self.radius:g} do not fit; give a radius '
                "above "
                "0 with a ball, and 0 without"
            )
        if self.method == "greedy" and (self.ball != "none" or self.mask or self.mode != "exact"):
            raise ValueError(
                'method = "greedy" has no ball, no mask and no mode = "fast", and came with ball '
                "= "
                f'"{self.ball}", mask = "{self.mask}" and mode = "{self.mode}"; leave these out'
            )
        return self


class Metamers(Section):
    """Metamers of one network and of a set of networks, judged by other networks.

    There are none by default.
    """

    sets: tuple[tuple[str, ...], ...] = ()
    """Networks that the metamers are made for, e.g. [["efficientnet_lite0"], ["efficientnet_lite0",
    "efficientnet_lite1"]]; empty: no metamers are made."""
    evaluators: tuple[str, ...] = ()
    """Networks that classify the metamers."""
    stage: str = "late"
    """What is matched: a stage's name, early, middle, late, a fraction of depth, or NAME=STAGE
    between commas."""
    preset: str = setting(default="pixels", choices="stimuli_gen.presets:PRESETS")
    """"feather2023", "boehm2025", "pixels" or "fast"; only "fast" has a prior of natural images,
    which makes metamers easier to recognize."""
    steps: int = Field(0, ge=0)
    """Gradient steps; 0: the preset's."""
    photographs: int | tuple[str, ...] = 0
    """Number of photographs, the first ones, or their ids; 0: all."""
    image_size: int = Field(0, ge=0)
    """Height and width in pixels that every network sees; 0: those of the first network of each
    set."""
    null_pairs: int = Field(1000, ge=0)
    """Pairs of the study's photographs whose similarity a match has to exceed; 0: no such null
    distribution."""
    mode: str = setting(RUN, "mode", choices=MODES)
    """"fast": cheaper arithmetic on the way, judged exactly."""
    overrides: dict[Name, bool | int | float | str] = {}
    """Other numbers of the preset to change, by name."""
    penalties: tuple[str, ...] = setting(default=(), later=True)
    """Terms added to the loss, each kind:weight[:power[:pixel_scale]] with the kind
    total_variation, alpha_norm or range, e.g. ["total_variation:0.001"]."""

    @model_validator(mode="after")
    def _penalties_can_be_read(self) -> Self:
        if "penalties" in self.overrides:
            raise ValueError("penalties are a key of their own, not one of overrides; move them")
        for text in self.penalties:
            try:
                look_up("stimuli_gen.presets:read_penalty")(text)
            except InputError as error:
                raise ValueError(f"penalties: {str(error).rstrip('.')}") from error
        return self

    @model_validator(mode="after")
    def _sets_have_names(self) -> Self:
        is_wrong = [not names or bool(duplicates(names)) for names in self.sets]
        if any(is_wrong) or duplicates(self.sets):
            sets = [list(names) for names in self.sets]
            raise ValueError(
                f"sets must differ, and each name at least one network, and none twice; got {sets}"
            )
        return self


def _two_each(pairs: tuple[tuple[str, ...], ...]) -> None:
    """Refuse pairs of networks that are none."""
    is_wrong = [len(names) != 2 or bool(duplicates(names)) for names in pairs]
    if any(is_wrong) or duplicates(pairs):
        given = [list(names) for names in pairs]
        raise ValueError(
            f"pairs must differ, and each name two different networks, A and B; got {given}"
        )


class Controversial(Section):
    """Controversial images: two networks are sure of two classes, or represent them differently.

    There are none by default.
    """

    pairs: tuple[tuple[str, ...], ...] = ()
    """Pairs of networks, A and B, e.g. [["efficientnet_lite0", "alexnet"]]; empty: no controversial
    images are made."""
    stage: str = ""
    """Stage of both, early, middle, late, a fraction of depth, or NAME=STAGE between commas, at
    which their representations are to differ; empty: their classes are."""
    confidence: Share = setting(CLASSES, "confidence", description="Without a stage. {meaning}")
    target_a: str = setting(CLASSES, "target_a")
    """Without a stage. Class that A is to see: "own" (A's class of the photograph), "random", a
    class, or a CSV with the columns id and target."""
    target_b: str = setting(CLASSES, "target_b")
    """Without a stage. Class that B is to see, never that of A: "random" (any but that of A),
    "own", a class, or a CSV."""
    readout: str = setting(CLASSES, "readout", choices="stimuli_gen.controversial:READOUTS")
    """Without a stage. What is raised: "log_probability", for networks with a softmax, or
    "logit"."""
    sharpness: float = setting(CLASSES, "sharpness", description="Without a stage. {meaning}", gt=0)
    max_agreement: float = setting(
        PLACES, "max_agreement", description="With a stage. {meaning}", gt=-1, lt=1
    )
    bank: str = ""
    """With a stage. Folder of photographs, or CSV with the column file, with which each image is
    compared; empty: the photographs of the study."""
    start: str = setting(SEARCH, "start", choices="stimuli_gen.presets:STARTS")
    """First image: noise ("uniform", as in Golan et al. 2020, "normal", "l1_ball"), a gray level
    ("constant"), or the photograph ("reference")."""
    start_level: float = setting(SEARCH, "start_level", ge=0, le=1)
    """Level of the start, pixels in [0, 1]."""
    start_spread: float = setting(SEARCH, "start_spread", ge=0)
    """Spread of the start, pixels in [0, 1]."""
    pull: float = setting(SEARCH, "pull", description="{meaning}", ge=0)
    parametrization: str = setting(
        SEARCH,
        "parametrization",
        description="{meaning}",
        choices="stimuli_gen.synthesis.optimizers:PARAMETRIZATIONS",
    )
    step_rule: str = setting(SEARCH, "step_rule", choices=STEP_RULES)
    """How a gradient becomes a step."""
    optimizer: str = setting(
        SEARCH, "optimizer", choices="stimuli_gen.synthesis.optimizers:OPTIMIZERS"
    )
    """How steps follow from gradients."""
    step_size: float = setting(SEARCH, "step_size", description="{meaning}", gt=0)
    max_steps: int = setting(SEARCH, "max_steps", ge=1)
    """Steps after which an image is given up; it is told as failed."""
    photographs: int | tuple[str, ...] = 0
    """Number of photographs, the first ones, or their ids; 0: all."""
    image_size: int = Field(0, ge=0)
    """Height and width in pixels that both networks see; 0: those of A."""
    mode: str = setting(RUN, "mode", choices=MODES)
    """"fast": cheaper arithmetic on the way, judged exactly."""

    @model_validator(mode="after")
    def _settings_fit_stage(self) -> Self:
        _two_each(self.pairs)
        of_classes = ("confidence", "target_a", "target_b", "readout", "sharpness")
        useless = of_classes if self.stage else ("max_agreement", "bank")
        fields = type(self).model_fields
        given = [name for name in useless if getattr(self, name) != fields[name].get_default()]
        if given:
            what = "is a stage" if self.stage else "is no stage"
            raise ValueError(f"there {what}, so {name_ids(given)} has no effect; leave that out")
        return self


class Divergent(Section):
    """Maximally different metamers: the photograph to one network, not to another.

    There are none by default.
    """

    pairs: tuple[tuple[str, ...], ...] = ()
    """Pairs of networks: A, for which the images are metamers, and B, for which they are none;
    empty: none are made."""
    stage: str = "late"
    """Stage of both: its name, early, middle, late, a fraction of depth, or NAME=STAGE between
    commas."""
    preset: str = setting(DIVERGENT, "preset", choices="stimuli_gen.presets:PRESETS")
    """How steps are taken: "feather2023", "boehm2025", "pixels" or "fast"; only "fast" has a prior
    of natural images."""
    steps: int = Field(0, ge=0)
    """Gradient steps at most; 0: the preset's."""
    apart: float = setting(DIVERGENT, "apart", description="{meaning}", gt=0)
    null_quantile: float = setting(DIVERGENT, "null_quantile", description="{meaning}", gt=0, le=1)
    null_pairs: int = Field(1000, ge=1)
    """Pairs of the study's photographs whose similarity A's match has to exceed, and B's not."""
    photographs: int | tuple[str, ...] = 0
    """Number of photographs, the first ones, or their ids; 0: all."""
    image_size: int = Field(0, ge=0)
    """Height and width in pixels that both networks see; 0: those of A."""
    mode: str = setting(RUN, "mode", choices=MODES)
    """"fast": cheaper arithmetic on the way, judged exactly."""
    overrides: dict[Name, bool | int | float | str] = {}
    """Other numbers of the preset to change, by name."""

    @model_validator(mode="after")
    def _pairs_are_pairs(self) -> Self:
        _two_each(self.pairs)
        return self


class Eigendistortion(Section):
    """Eigendistortions: the changes of a photograph that a stage sees best and least.

    There are none by default.
    """

    stages: tuple[str, ...] = ()
    """Stages, each alone: names, early, middle, late or fractions of depth; empty: no
    eigendistortions are made."""
    models: tuple[str, ...] = ()
    """Networks that have these stages; empty: the one under study."""
    strength: float = setting(DISTORTIONS, "strength", description="{meaning}", gt=0)
    share: Share = setting(DISTORTIONS, "share", description="{meaning}")
    n_each: int = setting(SPECTRUM, "n_each", description="{meaning}", ge=1)
    method: str = setting(SPECTRUM, "method", choices="stimuli_gen.jacobians:SOLVERS")
    """"auto": the whole Jacobian where it is small, else Krylov spaces; or "jacobian" or
    "krylov"."""
    tolerance: float = setting(SPECTRUM, "tolerance", description="{meaning}", gt=0)
    max_products: int = setting(SPECTRUM, "max_products", description="{meaning}", ge=1)
    photographs: int | tuple[str, ...] = 0
    """Number of photographs, the first ones, or their ids; 0: all."""
    image_size: int = Field(0, ge=0)
    """Height and width in pixels that the networks see; 0: each its own."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key in ("stages", "models"):
            if again := duplicates(getattr(self, key)):
                raise ValueError(f"{key}: {name_ids(again)} occur more than once; name each once")
        if self.models and not self.stages:
            raise ValueError(
                f"there are models ({name_ids(self.models)}) and no stages; give stages, or leave "
                "them out"
            )
        return self


class Transfer(Section):
    """Transfer of the images to other networks."""

    models: tuple[str, ...] = ()
    """Names of models that judge the images of the first."""


class Simulation(Section):
    """The simulated cortex, and what is planted in it."""

    subjects: int = Field(3, ge=1, le=99)
    """Number of subjects."""
    runs: int = setting(CORTEX, "n_runs", ge=2)
    """Runs a subject; each shows every image once."""
    voxels_per_roi: int = Field(160, ge=4)
    """Voxels in each region, responding or not."""
    responding: float = setting(SIMULATION, "responding", gt=0, le=1)
    """Share of the voxels that respond to images; the rest is noise, to be left out by the voxel
    selection."""
    noise_sd: float = setting(SIMULATION, "noise_sd", ge=0)
    """Standard deviation of the scanner noise, percent of the baseline."""
    object_model: str = "efficientnet_lite0"
    """The network whose activations to the *photograph* stand for what people see in it."""
    object_stage: str = "global_pool"
    """Stage of that network."""
    mixing: dict[Name, float] = {"V1": 0.0, "V2": 0.25, "V3": 0.5, "V4": 0.75, "LO": 1.0}
    """Region → share of object features; the rest is Gabor energy of the pixels."""


class Localizer(Section):
    """The runs of a localizer of one subject."""

    bold: tuple[str, ...] = ()
    """4-D NIfTI files, one for each run, on the grid of the subject's other images."""
    events: tuple[str, ...] = ()
    """BIDS events.tsv, one for each run."""
    confounds: tuple[str, ...] = ()
    """Confounds tables, one for each run, or none."""
    tedana: tuple[str, ...] = setting(default=(), later=True)
    """desc-ICA_mixing.tsv of tedana, one for each run; empty: those beside the confounds."""

    @model_validator(mode="after")
    def _one_file_a_run(self) -> Self:
        if not self.bold:
            raise ValueError("bold is empty; give one 4-D NIfTI a run of the localizer")
        return _with_one_file_a_run(self)


def _with_one_file_a_run(files: Any) -> Any:
    """Refuse lists of the files of runs that differ in length."""
    if len(files.tedana) not in (0, len(files.bold)):
        raise ValueError(
            f"{len(files.bold)} bold and {len(files.tedana)} tedana files; give one each, or none"
        )
    if len(files.events) != len(files.bold) or len(files.confounds) not in (0, len(files.bold)):
        raise ValueError(
            f"{len(files.bold)} bold, {len(files.events)} events and {len(files.confounds)} "
            "confounds files; give one events file a run, and one confounds file a run or none"
        )
    return files


class Contrast(Section):
    """A contrast of conditions of a localizer: a map for the definitions of regions."""

    contrast: str
    """Weighted sum of conditions, such as "intact - scrambled" or "intact > scrambled" (the
    same)."""
    task: str = ""
    """The localizer: label of its task (source = "bids"), or its name among the localizers of the
    subjects (source = "bold"). Empty: the name of the contrast."""
    statistic: str = setting(default="z", choices="fmri.betas.contrasts:STATISTICS")
    """Map that definitions of regions compare with a threshold, of {choices}."""
    condition_column: str = setting(SCANS, "condition_column")
    """Column of the localizer's events that holds the conditions."""
    noise_model: str = setting(CONTRASTS, "noise_model", choices="fmri.betas.estimate:NOISE_MODELS")
    """Noise of the one model that is fitted over all runs of the localizer."""
    hrf_model: str = setting(DESIGN, "hrf_model", choices="fmri.betas.event_designs:HRFS")
    """Hemodynamic response."""
    high_pass: float = setting(DESIGN, "high_pass", ge=0)
    """Slowest drift removed, Hz; with blocks well below one over the time from a block to the next
    of the same condition."""
    ignore: tuple[str, ...] = setting(DESIGN, "ignore")
    """Trial types without a regressor; they are the baseline."""
    t_r: float = Field(0, ge=0)
    """Repetition time of the localizer in seconds, where headers and JSON sidecars disagree; 0: as
    they say."""

    @model_validator(mode="after")
    def _contrast_can_be_read(self) -> Self:
        with _as_problem():
            look_up("fmri.betas.contrasts:parse_contrast")(self.contrast)
        return self


class Subject(Section):
    """The files of one scanned subject."""

    id: Name
    """Name of the subject."""
    bold: tuple[str, ...] = ()
    """4-D NIfTI files, one for each run; or CIFTI series, or surface series, of which the file of
    one hemisphere is listed and that of the other is found beside it."""
    events: tuple[str, ...] = ()
    """BIDS events.tsv, one for each run; the column `condition_column` holds stimulus ids."""
    confounds: tuple[str, ...] = ()
    """Confounds tables, one for each run, or none."""
    tedana: tuple[str, ...] = setting(default=(), later=True)
    """For the strategy "tedana" of [glm]: desc-ICA_mixing.tsv of each run, with
    desc-tedana_metrics.tsv beside it; empty: those beside the confounds."""
    masks: dict[Name, str] = {}
    """Region → mask on the grid of the BOLD files, or its definition: "dseg.nii.gz:12",
    "prob.nii.gz > 0.5", "LO1 + LO2" …"""
    resample: str = setting(REGIONS, "resample", choices="fmri.rois.regions:RESAMPLE", later=True)
    """What to do with regions on another voxel grid: refuse them, or take the nearest voxels."""
    space: str = setting(REGIONS, "space", later=True)
    """Space of the BOLD files, "T1w" or "MNI152NLin2009cAsym", where their names and headers do not
    say it."""
    brain_mask: str = setting(default="", later=True)
    """Mask of the brain: how much of each region lies outside is told, and noise regressors
    ([glm] n_noise) come from it."""
    hemispheres: str = setting(SCANS, "hemispheres", choices="fmri.series:HEMISPHERES", later=True)
    """Whether a series on a surface needs that of the other hemisphere."""
    localizers: dict[Name, Localizer] = setting(default={}, later=True)
    """Localizer → its files, for [brain.contrasts]: lo = { bold = […], events = […] }."""
    patterns: str = setting(default="", later=True)
    """For source = "patterns", instead of all other files: patterns that ``neurometamer fmri
    convert`` or ``fmri patterns`` has written."""
    t_r: float = Field(0, ge=0)
    """Repetition time in seconds, where header and JSON sidecar disagree; 0: as they say."""
    slice_time_ref: Annotated[float, Field(ge=0, le=1)] | None = setting(
        DESIGN, "slice_time_ref", later=True
    )
    """Time to which the volumes refer, a share of the repetition time; when not given, StartTime of
    the JSON sidecars says it, else it is 0."""
    affine: str = setting(SCANS, "affine", choices="fmri.volumes:AFFINES", later=True)
    """Which transform of the NIfTI headers places the voxels; "agree": refuse images whose two
    differ."""
    condition_column: str = setting(SCANS, "condition_column", later=True)
    """Column of the events that holds the stimulus ids, for example "stim_file"."""

    @model_validator(mode="after")
    def _one_file_a_run(self) -> Self:
        if self.patterns:
            files = {"bold": self.bold, "events": self.events, "masks": self.masks}
            given = [name for name, listed in files.items() if listed]
            if given:
                raise ValueError(
                    f"patterns stand alone, and {name_ids(given)} came with them; leave these out"
                )
            return self
        if not self.bold:
            raise ValueError("bold is empty; give one 4-D NIfTI a run")
        _with_one_file_a_run(self)
        if not self.masks:
            raise ValueError(
                "masks is empty; give at least one ROI = mask file, here or in [brain.rois]"
            )
        return self


MEASURED_SOURCES = ("bold", "bids", "patterns")
"""Sources of measured data."""

_TAGS = ("name of a subject", "files of a subject")


_MEMBER = re.compile(
    rf"literal\[.*\]|(constrained-)?(bool|int|float|str)|{'|'.join(_TAGS)}", re.DOTALL
)
"""What pydantic calls a member of a union among the keys that lead to a problem."""

NameOrFiles = Annotated[
    Annotated[Name, Tag(_TAGS[0])] | Annotated[Subject, Tag(_TAGS[1])],
    Discriminator(lambda subject: _TAGS[0] if isinstance(subject, str) else _TAGS[1]),
]
"""A subject of a BIDS data set, or one whose files are listed."""


class Brain(Section):
    """Where the brain data come from."""

    source: Literal["simulated", "bold", "bids", "patterns", "none"] = "simulated"
    """"simulated" (a cortex with known truth), "bids" (a BIDS data set), "bold" (the files of the
    subjects listed), "patterns" (responses of the subjects listed, estimated before) or "none"
    (network only)."""
    simulation: Simulation = Simulation()
    """Settings of the simulated cortex."""
    dataset: str = setting(default="", later=True)
    """For source = "bids", as all below: folder of the data set. ``neurometamer fmri layout`` lists
    what it holds."""
    derivatives: str = setting(default="", later=True)
    """Folder of fMRIPrep's output (images, confounds); empty: the images of the data set itself."""
    tedana: str = setting(default="", later=True)
    """Folder of tedana's output (desc-ICA_mixing.tsv, desc-tedana_metrics.tsv), for the strategy
    "tedana" of [glm]; empty: these files lie beside the images."""
    task: str = setting(default="", later=True)
    """Label of the task; needed where there are several."""
    space: str = setting(default="", later=True)
    """Label of the space of the images, e.g. "T1w"; "none" for images without one; needed where
    there are several."""
    resolution: str = setting(default="", later=True)
    """Label res or den of the images, where there are several; "none" for images without one."""
    desc: str = setting(default="", later=True)
    """Label desc of the images, e.g. "preproc", where there are several; "none" for images without
    one."""
    echo: str = setting(default="", later=True)
    """Label echo of the images, where there are several; "none" for images without one."""
    sessions: tuple[str, ...] = setting(default=(), later=True)
    """Labels of the sessions; empty: all."""
    runs: tuple[str, ...] = setting(default=(), later=True)
    """Labels of the runs; empty: all."""
    id_column: str = setting(LAYOUT, "id_column", description="{meaning}", later=True)
    t_r: float = setting(default=0.0, later=True, ge=0)
    """Repetition time in seconds, where headers and JSON sidecars disagree; 0: as they say."""
    slice_time_ref: Literal["sidecar"] | Annotated[float, Field(ge=0, le=1)] = setting(
        default="sidecar", later=True
    )
    """Time to which the volumes refer, a share of the repetition time; "sidecar": StartTime of the
    JSON sidecars, else 0."""
    affine: str = setting(SCANS, "affine", choices="fmri.volumes:AFFINES", later=True)
    """Which transform of the NIfTI headers places the voxels; "agree": refuse images whose two
    differ."""
    rois: dict[Name, str] = setting(default={}, later=True)
    """Regions of every subject, as in its own masks, which come first: LO = "LO1 + LO2", V1 =
    "masks/{subject}_V1.nii.gz"; ``{subject}`` stands for the label of a subject (for source =
    "bids" without sub-), ``*`` in the path of a mask or FILE:LABEL for anything (source =
    "bids")."""
    only: tuple[Name, ...] = setting(default=(), later=True)
    """For source = "bids" or "bold": regions that are analyzed; the others are only parts of their
    expressions, as LO1 and LO2 of LO = "LO1 + LO2". Empty: all."""
    contrasts: dict[Name, Contrast] = setting(default={}, later=True)
    """For source = "bids" or "bold": contrasts of localizer runs, as objects = { contrast =
    "intact - scrambled", task = "localizer" }. The study estimates them, and regions set thresholds
    on their maps: LO = "(objects > 3.1) - (motion > 3.1)"."""
    subjects: tuple[NameOrFiles, ...] = ()
    """Subjects. For source = "bold" or "patterns": a [[brain.subjects]] for each. For source =
    "bids": labels, such as ["01", "02"]; empty: all of the data set."""

    @model_validator(mode="before")
    @classmethod
    def _rois_of_subjects(cls, values: Any) -> Any:
        """Give every subject the regions of all."""
        is_table = isinstance(values, dict) and isinstance(values.get("rois"), dict)
        if not is_table or not isinstance(values.get("subjects"), (list, tuple)):
            return values
        subjects = []
        for subject in values["subjects"]:
            if isinstance(subject, dict) and isinstance(subject.get("masks", {}), dict):
                masks = dict(subject.get("masks", {}))
                for roi, definition in values["rois"].items():
                    text = str(definition).replace("{subject}", str(subject.get("id")))
                    masks.setdefault(roi, text)
                subject = {**subject, "masks": masks}
            subjects.append(subject)
        return {**values, "subjects": subjects}

    @model_validator(mode="after")
    def _settings_match_source(self) -> Self:
        given = []
        for name, field in Brain.model_fields.items():
            is_general = name in ("source", "simulation", "subjects")
            if not is_general and getattr(self, name) != field.get_default():
                given.append(name)
        if self.source == "bold":
            given = [name for name in given if name not in ("rois", "only", "contrasts")]
        if given and self.source != "bids":
            raise ValueError(
                f'{name_ids(given)} are for source = "bids" (rois, only and contrasts for "bold", '
                f'too), and source is "{self.source}"; give that, or leave them out'
            )
        if self.source == "bids" and not (self.dataset and self.rois):
            raise ValueError(
                'source = "bids" needs dataset (its folder) and [brain.rois] (NAME = mask, with '
                f"{{subject}} in the path); dataset is '{self.dataset}', and there are "
                f"{len(self.rois)} rois"
            )
        return self

    @model_validator(mode="after")
    def _only_names_regions(self) -> Self:
        regions = list(self.rois)
        for subject in self.subjects:
            if isinstance(subject, Subject):
                regions += subject.masks
        if again := duplicates(self.only):
            raise ValueError(f"only: {name_ids(again)} occur more than once; name each once")
        for name in self.only:
            if name not in regions:
                known = list(dict.fromkeys(regions))
                raise ValueError(f"only: {str(unknown_name('ROI', name, known)).rstrip('.')}")
        return self

    @model_validator(mode="after")
    def _contrasts_have_thresholds(self) -> Self:
        """Refuse regions that take the map of a contrast for a region."""
        definitions = [self.rois]
        definitions += [subject.masks for subject in self.subjects if isinstance(subject, Subject)]
        for masks in definitions:
            if same := [name for name in self.contrasts if name in masks]:
                raise ValueError(
                    f"{name_ids(same)} are names of contrasts and of regions; rename one of them"
                )
            for roi, definition in masks.items():
                try:
                    tree = parse_region(definition)
                except InputError:  # what is wrong is told with the images
                    continue
                names = [source.text for source in plain_sources(tree)]
                if bare := [name for name in names if name in self.contrasts]:
                    raise ValueError(
                        f"the region {roi} = \"{definition}\" takes the contrast '{bare[0]}' "
                        f'without a threshold; give one, such as "{bare[0]} > 3.1"'
                    )
        return self

    @model_validator(mode="after")
    def _contrasts_have_runs(self) -> Self:
        for name, contrast in self.contrasts.items():
            task = contrast.task or name
            for subject in self.subjects:
                if isinstance(subject, Subject) and task not in subject.localizers:
                    known = name_ids(subject.localizers) or "none"
                    raise ValueError(
                        f"{subject.id} has no runs of the localizer '{task}' for the contrast "
                        f"'{name}' (its localizers: {known}); list them in "
                        f"[brain.subjects.localizers], {task} = {{ bold = […], events = […] }}"
                    )
        return self

    @model_validator(mode="after")
    def _subjects_match_source(self) -> Self:
        names = [subject for subject in self.subjects if isinstance(subject, str)]
        files = [subject for subject in self.subjects if isinstance(subject, Subject)]
        ids = [name.removeprefix("sub-") for name in names]
        ids += [subject.id for subject in files]
        again = duplicates(ids)
        if again:
            raise ValueError(
                f"subject ids must be unique; {name_ids(again)} occur more than once; rename them"
            )
        if self.source == "bids" and files:
            raise ValueError(
                'source = "bids" takes subjects by their labels (subjects = ["01"]), not by files; '
                'give source = "bold" for those'
            )
        if self.source not in ("bold", "patterns"):
            return self
        if not self.subjects:
            raise ValueError(
                f'source = "{self.source}" needs at least one [[brain.subjects]], and there is '
                'none; add them, or give source = "simulated"'
            )
        if names:
            raise ValueError(
                f'source = "{self.source}" needs the files of each subject, and '
                f"{name_ids(names)} are names alone; list the files in [[brain.subjects]], or give "
                'source = "bids"'
            )
        of_patterns = self.source == "patterns"
        unlike = [subject.id for subject in files if bool(subject.patterns) != of_patterns]
        if unlike:
            raise ValueError(
                f'source = "{self.source}" and the files of {name_ids(unlike)} do not fit; list '
                'BOLD files for source = "bold", and patterns = FILE for source = "patterns"'
            )
        return self


class Glm(Section):
    """One beta per condition × presentation."""

    hrf_model: str = setting(
        DESIGN,
        "hrf_model",
        description="{meaning} One of {choices}.",
        choices="fmri.betas.event_designs:HRFS",
    )
    high_pass: float = setting(DESIGN, "high_pass", description="{meaning}", ge=0)
    noise_model: str = setting(
        BETAS,
        "noise_model",
        description="{meaning} One of {choices}.",
        choices="fmri.betas.estimate:NOISE_MODELS",
    )
    estimator: str = setting(
        BETAS,
        "estimator",
        description="{meaning} One of {choices}.",
        choices="fmri.betas.estimate:EVENT_MODELS",
    )
    confounds: tuple[str, ...] = ()
    """Columns of the confounds tables, by names or patterns such as "a_comp_cor_0*"; empty: the six
    motion parameters where there are all six, else every column."""
    strategy: tuple[str, ...] = setting(default=(), choices="fmri.confounds:STRATEGIES", later=True)
    """Instead, for confounds of fMRIPrep: strategies of nilearn's load_confounds, of {choices}."""
    strategy_options: dict[Name, bool | int | float | str] = setting(default={}, later=True)
    """Parameters of the strategies under nilearn's names, e.g. { motion = "basic", n_compcor = 5 };
    others have nilearn's defaults."""
    ignore: tuple[str, ...] = setting(DESIGN, "ignore")
    """Trial types that are no stimuli; they stay part of the baseline."""
    units: str = setting(BETAS, "units", choices="fmri.betas.estimate:UNITS", later=True)
    """Units of betas: percent signal change, or those of the image where its mean was removed."""
    unusable: Literal["refuse", "drop"] = setting(BETAS, "unusable")
    """What to do with voxels that are NaN or constant: refuse them by name, or drop and record
    them."""
    max_memory: str = setting(BETAS, "max_memory", later=True)
    """Largest memory of estimating betas, such as "2GB"; empty: half of that of the machine."""
    zscore: str = setting(PATTERNS, "zscore", choices="fmri.pooling:ZSCORES", later=True)
    """Within what betas are z-scored, over all images: none, each run or each session."""
    per: str = setting(
        TRIALS,
        "per",
        description="{meaning}",
        choices="fmri.betas.single_trials:UNITS_OF_ANALYSIS",
        later=True,
    )
    hrf: str = setting(
        TRIALS,
        "hrf",
        description='"model" (hrf_model in all voxels), or "library": for each voxel the shape of '
        "fmri.HRF_LIBRARY with which it predicts other runs best.",
        choices="fmri.betas.single_trials:RESPONSES",
        later=True,
    )
    n_noise: int | str = setting(TRIALS, "n_noise", description="{meaning}", later=True)
    max_noise: int = setting(TRIALS, "max_noise", description="{meaning}", ge=1, later=True)
    shrinkage: float | str = setting(TRIALS, "shrinkage", description="{meaning}", later=True)

    @field_validator("max_memory")
    @classmethod
    def _is_memory(cls, value: str) -> str:
        if value:
            with _as_problem():
                parse_memory(value)
        return value

    @field_validator("hrf", "n_noise", "shrinkage")
    @classmethod
    def _is_option(cls, value: Any, about: ValidationInfo) -> Any:
        if value == "fir":
            raise ValueError(
                'hrf = "fir" gives a beta a delay, and a study compares images; use "model" or '
                '"library"'
            )
        with _as_problem():
            SingleTrialOptions(**{str(about.field_name): value})
        return value

    @model_validator(mode="after")
    def _options_agree(self) -> Self:
        with _as_problem():
            self.single_trials()
        return self

    def single_trials(self) -> SingleTrialOptions | None:
        """Give the options of single trials.

        Returns
        -------
        SingleTrialOptions or None
            None where none is set.
        """
        names = ("per", "hrf", "n_noise", "max_noise", "shrinkage")
        options = SingleTrialOptions(**{name: getattr(self, name) for name in names})
        return None if options == SingleTrialOptions() else options

    @model_validator(mode="after")
    def _strategy_or_columns(self) -> Self:
        if self.strategy and self.confounds:
            raise ValueError(
                f"confounds by columns ({name_ids(self.confounds)}) and by strategy "
                f"({name_ids(self.strategy)}); give one of the two"
            )
        if self.strategy_options and not self.strategy:
            raise ValueError(
                f"strategy_options ({name_ids(self.strategy_options)}) without a strategy; give one"
            )
        return self


class Selection(Section):
    """Which voxels enter: the best ones by one criterion, judged on one image type."""

    voxels_per_roi: int = Field(80, ge=0)
    """The best so many of each region (and hemisphere); 0 keeps all."""
    image_type: Literal[
        "RE", "AN", "AI", "metamer", "control", "controversial", "eigendistortion", "all"
    ] = "RE"
    """Images on which voxels are judged: regular ones, so that AN and AI never choose their own
    voxels; with another type every page says so. Those after AI are kinds of [images] ready."""
    criterion: str = setting(
        VOXELS,
        "criterion",
        choices="neurometamer.rsa.searchlight.selection:VOXEL_CRITERIA",
        later=True,
    )
    """Score of voxels."""
    radius_mm: float = setting(SELECT, "radius_mm", later=True, gt=0)
    """With criterion = "searchlight": radius of the spheres, or of the disks on meshes, mm."""
    meshes: str = setting(default="", later=True)
    """With criterion = "searchlight", for series on surfaces: file of the mesh of each hemisphere,
    on which the disks lie, such as "sub-{subject}_hemi-{hemi}_midthickness.surf.gii".
    ``{subject}`` stands for the label of a subject (as in [brain.rois]), ``{hemi}`` for L and R, or
    lh and rh."""

    @model_validator(mode="after")
    def _meshes_go_with_searchlight(self) -> Self:
        if self.meshes and self.criterion != "searchlight":
            raise ValueError(
                f'meshes are for criterion = "searchlight", and it is "{self.criterion}"; give '
                "that, or leave them out"
            )
        if self.meshes and "{hemi}" not in self.meshes:
            raise ValueError(
                f"meshes is '{self.meshes}', and each hemisphere has a mesh of its own; write "
                "{hemi} where the file names say it"
            )
        return self


class Rsa(Section):
    """Representational similarity analysis.

    These are the RDMs, their comparison, and the tests of RE-AN and RE-AI.
    """

    measure: str = setting(
        RDMS,
        "measure",
        description="Dissimilarity over units or voxels: {choices}.",
        choices=MEASURES,
    )
    comparator: str = setting(
        IMAGE_TYPES,
        "comparator",
        description="Between RDMs: {choices}.",
        choices="neurometamer.rsa.comparators.table:COMPARATORS",
    )
    n_resamples: int = setting(IMAGE_TYPES, "n_resamples", ge=0)
    """Draws of an interval; 0: no intervals. Cross-validated layers take at most 250: only their
    standard error is used."""
    confidence: Share = setting(IMAGE_TYPES, "confidence", description="{meaning}")
    interval: str = setting(
        IMAGE_TYPES,
        "interval",
        description="What is resampled for RE-AN, RE-AI and their difference: {choices}. "
        'A network has no subjects: for it "subjects" and "dual" become "stimuli".',
        choices="neurometamer.rsa.image_types.options:INTERVALS",
        later=True,
    )
    null: str = setting(
        IMAGE_TYPES,
        "null",
        description="Within what the labels of photographs are permuted: {choices}. "
        'A network has no sessions: for it "session" becomes "free".',
        choices="neurometamer.rsa.image_types.options:NULLS",
        later=True,
    )
    classes: str = setting(
        IMAGE_TYPES,
        "classes",
        description="Whether intervals are about other photographs of these classes, or other "
        'classes: {choices}. "random" needs 10 classes.',
        choices="neurometamer.rsa.sampling:CLASS_CLAIMS",
        later=True,
    )
    combine: str = setting(
        IMAGE_TYPES,
        "combine",
        description="How the p of the subjects become one: {choices}.",
        choices="neurometamer.stats.families:COMBINATIONS",
        later=True,
    )
    correction: str = setting(
        IMAGE_TYPES,
        "correction",
        description="Of p of RE-AN, RE-AI and their difference for many tests: {choices}.",
        choices="neurometamer.rsa.image_types.options:CORRECTIONS",
        later=True,
    )
    family: str = setting(
        IMAGE_TYPES,
        "family",
        description="Tests that are corrected together (of subjects, not of their mean): "
        "{choices}.",
        choices="neurometamer.rsa.image_types.options:FAMILIES",
        later=True,
    )
    n_permutations: int = setting(IMAGE_TYPES, "n_permutations", later=True, ge=0)
    """Permutations of labels, for p of similarities; 0: no such p."""
    brain_measure: str = setting(default="", later=True)
    """Dissimilarity over voxels where it is another than `measure`, such as "crossnobis" or
    "mahalanobis", which need the noise of voxels; empty: `measure`."""
    noise: str = setting(
        BRAIN_RDMS,
        "noise",
        description='For brain_measure = "mahalanobis" and "crossnobis": estimator of the noise '
        'covariance of voxels: {choices}. With "none" (crossnobis only) they are equally noisy.',
        choices="neurometamer.rsa.searchlight.questions:NOISE",
        later=True,
    )
    residuals: bool = setting(default=False, later=True)
    """For the same measures: estimate the noise from the residuals of the general linear model, in
    place of presentations minus the mean of their image."""
    folds: Literal["run", "presentation", "session"] = setting(BRAIN_RDMS, "folds", later=True)
    """For brain_measure = "crossnobis": independent parts of the data."""
    allow_chosen: bool = setting(BRAIN_RDMS, "allow_chosen", description="{meaning}", later=True)
    pooled: bool = setting(default=False, later=True)
    """One RDM a region over the voxels of all subjects side by side, as Zhang et al. (2018, CCN:
    voxels_per_roi = 100 of each); false: one a subject."""

    @field_validator("measure", mode="before")
    @classmethod
    def _measure_needs_nothing(cls, value: Any) -> Any:
        entry = look_up(MEASURES).get(value) if isinstance(value, str) else None
        if entry is None or not entry.needs:
            return value
        lack = {
            "noise": "the covariance of the units' noise, which a network does not have",
            "folds": "several presentations in independent runs, which a network does not have",
        }
        raise ValueError(
            f"'{value}' needs {lack[entry.needs]}; use one of {', '.join(choices_of(MEASURES))}, "
            f'or brain_measure = "{value}" for the regions alone'
        )

    @property
    def of_brain(self) -> str:
        """Dissimilarity over voxels.

        Returns
        -------
        str
            `brain_measure`, or `measure` where it is empty.
        """
        return self.brain_measure or self.measure

    @field_validator("brain_measure", mode="after")
    @classmethod
    def _brain_measure_is_known(cls, value: str) -> str:
        known = look_up(MEASURES) if value else {}
        if value and value not in known:
            raise unknown_name("brain_measure", value, known)
        return value

    @model_validator(mode="after")
    def _noise_has_a_measure(self) -> Self:
        fields = type(self).model_fields
        used = {"": (), "noise": ("noise", "residuals")}
        names = ("noise", "residuals", "folds", "allow_chosen")
        needs = look_up(MEASURES)[self.brain_measure].needs if self.brain_measure else ""
        unused = []
        for name in names:
            is_given = getattr(self, name) != fields[name].get_default()
            if is_given and name not in used.get(needs, names):
                unused.append(name)
        if unused:
            raise ValueError(
                f"{name_ids(unused)} would change nothing with brain_measure = "
                f'"{self.brain_measure}"; give brain_measure = "crossnobis" ("mahalanobis" for '
                "noise and residuals alone), or leave these out"
            )
        if self.noise == "none" and (self.residuals or needs == "noise"):
            raise ValueError(
                'noise = "none" takes voxels as equally noisy, which fits neither residuals nor '
                "mahalanobis; give an estimator of noise, or crossnobis without residuals"
            )
        if self.pooled and self.residuals:
            raise ValueError(
                "pooled and residuals: time courses of subjects differ and have no common noise; "
                "leave out one of the two"
            )
        if self.pooled and needs == "folds" and self.folds == "run":
            raise ValueError(
                'pooled crossnobis with folds = "run": runs of subjects differ; give folds = '
                '"presentation"'
            )
        if self.pooled and self.interval in ("subjects", "dual"):
            raise ValueError(
                f'pooled makes one of all subjects, and interval = "{self.interval}" resamples '
                'subjects; give "stimuli", or leave out pooled'
            )
        return self

    @field_validator("comparator", mode="before")
    @classmethod
    def _alias_of_comparator(cls, value: Any) -> Any:
        aliases = look_up("neurometamer.rsa.comparators.table:ALIASES")
        return aliases.get(value, value) if isinstance(value, str) else value


def rsa_names() -> dict[str, Collection[str]]:
    """Return the names that keys of ``[rsa]`` take.

    Returns
    -------
    dict of str to collection of str
        Key to the names in its table.
    """
    names = {}
    for key, field in Rsa.model_fields.items():
        if fact(field, "choices"):
            names[key] = choices_of(fact(field, "choices"))
    return names


class Encoding(Section):
    """From layers to voxels."""

    solver: str = setting(ENCODING, "solver", choices="neurometamer.encoding.solvers:SOLVERS")
    """How voxels are predicted from features."""
    folds: int = Field(0, ge=0)
    """Cross-validation folds over photographs; 0: leave one out up to 20 photographs, else 10
    folds."""
    alphas: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
    ] = default_of(ENCODING, "alphas")[::2]  # every power of ten: half the time
    """Ridge penalties to choose from, per voxel, on the training photographs; in units of the mean
    squared length of the features."""
    n_permutations: int = setting(ENCODING, "n_permutations", description="{meaning}", ge=0)
    allow_repeats: bool = setting(ENCODING, "allow_repeats", description="{meaning}")
    scheme: str = setting(ENCODING, "scheme", choices="neurometamer.encoding.design:SCHEMES")
    """"by image": the AN and AI of a photograph are predicted by models that never saw it; "all":
    train on all photographs, as Zhang et al. 2021."""


class Run(Section):
    """How to run; changes no numbers (beyond float rounding, which is recorded with the device)."""

    device: str = setting(RUN, "device")
    """Where networks run: auto, cpu, cuda, mps, another type of device that torch knows, or one of
    several, as cuda:1."""
    batch_size: int | None = setting(RUN, "batch_size", description="{meaning}", ge=1)

    @field_validator("device", mode="after")
    @classmethod
    def _device_is_known(cls, device: str) -> str:
        check_device(device)
        return device


class StudySettings(Section):
    """All of study.toml.

    Examples
    --------
    >>> from neurometamer import StudySettings
    >>> StudySettings().rsa.comparator
    'spearman'
    """

    study: Study = Study()
    images: Images = Images()
    model: Model = Model()
    noise: Noise = Noise()
    interference: Interference = Interference()
    transfer: Transfer = Transfer()
    metamers: Metamers = setting(default=Metamers(), later=True)
    controversial: Controversial = setting(default=Controversial(), later=True)
    divergent: Divergent = setting(default=Divergent(), later=True)
    eigendistortion: Eigendistortion = setting(default=Eigendistortion(), later=True)
    brain: Brain = Brain()
    glm: Glm = Glm()
    selection: Selection = Selection()
    rsa: Rsa = Rsa()
    encoding: Encoding = Encoding()
    run: Run = Run()

    def numbers(self) -> dict[str, Any]:
        """Return everything that changes numbers.

        These are all sections but ``[run]``, without those that came later and have their default.

        Returns
        -------
        dict
            Section to settings, JSON-able.
        """
        return _identity(self)

    def everything(self) -> dict[str, Any]:
        """Return all settings but ``[run]``, also those that have their default.

        Returns
        -------
        dict
            Section to settings, JSON-able.
        """
        return self.model_dump(mode="json", exclude={"run"})


def _identity(section: Section) -> dict[str, Any]:
    """Leave out what came later and has its default."""
    values = section.model_dump(mode="json", exclude={"run"})
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        is_tuple = isinstance(value, tuple)
        if fact(field, "later") and value == field.get_default():
            del values[name]
        elif isinstance(value, Section) and name in values:
            values[name] = _identity(value)
        elif is_tuple and value and isinstance(value[0], Section):
            values[name] = [_identity(item) for item in value]
    return values


@checked
def read_settings(path: str | Path) -> StudySettings:
    """Read and check a study file.

    Parameters
    ----------
    path : path-like
        TOML. Relative file names in it are meant from its folder; `Workspace.source` resolves them.

    Returns
    -------
    StudySettings
        Checked; file names as given.

    Raises
    ------
    InputError
        Missing file, broken TOML, an unknown key (the nearest is named), a value out of range.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurometamer import read_settings
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "study.toml"
    ...     _ = file.write_text("study.seed = 3")
    ...     settings = read_settings(file)
    >>> settings.study.seed
    3
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"study file {path} does not exist; 'neurometamer init' writes one to start from."
        )
    with reading(path, "valid TOML"):
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    return check_settings(values, where=str(path))


@checked
def check_settings(values: dict[str, Any], where: str = "settings") -> StudySettings:
    """Check settings given as nested mappings.

    Parameters
    ----------
    values : dict
        Section to keys to values.
    where : str
        Named in the error.

    Returns
    -------
    StudySettings
        Checked.

    Raises
    ------
    InputError
        With every problem: section and key, what came, what is allowed.

    Examples
    --------
    >>> from neurometamer.study import check_settings
    >>> check_settings({"study": {"seed": 3}, "rsa": {"n_resamples": 100}}).rsa
    Rsa(n_resamples=100)
    """
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        texts: dict[str, str] = {}
        for problem in error.errors():
            dotted, text = _problem_text(problem)
            texts.setdefault(dotted, text)  # each member of a union has a problem of its own
    if len(texts) == 1:
        raise InputError(f"{where}: {''.join(texts.values())}")
    lines = [f"{where}: {len(texts)} settings to correct:"]
    for number, text in enumerate(texts.values(), start=1):
        lines.append(f"({number}) {text}")
    raise InputError("\n".join(lines))


def _problem_text(problem: ErrorDetails) -> tuple[str, str]:
    """Name the key of a problem, and write in one line what came and what is allowed."""
    parts = [str(part) for part in problem["loc"]]
    keys = [part for part in parts if not _MEMBER.fullmatch(part)]
    dotted = ".".join(keys)
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        *names, key = keys
        section: Any = StudySettings
        for name in names:
            # else the number in a list of sections, or the name in a table of them
            if name in section.model_fields:
                section = _section_in(section.model_fields[name].annotation)
        place = ".".join(names) or "top level"
        return dotted, f"[{place}] {unknown_name('key', key, section.model_fields)}"
    if problem["type"] == "missing":
        return dotted, f"{dotted} is missing; give it."
    if problem["type"] == "value_error":
        return dotted, f"{dotted}: {text}."
    given = repr(problem["input"])
    return dotted, f"{dotted}: {text}; got {given[:80]}."


def _section_in(annotation: Any) -> Any:
    """Find the section in an annotation such as ``tuple[Section, ...]``."""
    parts = [annotation]
    for part in parts:
        if isinstance(part, type) and issubclass(part, Section):
            return part
        parts += get_args(part)
    return annotation
