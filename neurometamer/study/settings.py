"""Settings of a study, read from TOML and checked.

An unknown key is an error that names the nearest known one.

Settings that change numbers are hashed into the identity of a study and of its steps; those in
``[run]`` (device, batch size, threads) change only how it is run, and are recorded, not hashed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fmri.simulate import SimulationOptions
from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.reading import reading
from neurometamer.rsa.comparators.table import ALIASES, COMPARATORS
from neurometamer.rsa.image_types.options import (
    CORRECTIONS,
    FAMILIES,
    INTERVALS,
    NULLS,
    ImageTypeOptions,
)
from neurometamer.rsa.measures import MEASURES
from neurometamer.rsa.sampling import CLASS_CLAIMS
from neurometamer.stats.families import COMBINATIONS
from neurometamer.summaries import is_same, summarize

Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
"""Names that become files and folders."""


LATER: dict[str, Any] = {"later": True}
"""Marks settings that came after others: with their default they are no part of a study's identity,
so that folders of older studies stay valid."""


def later(default: Any, **checks: Any) -> Any:
    """Give a setting that came after others.

    Parameters
    ----------
    default : object
        Its default.
    **checks : object
        Arguments of pydantic's ``Field``.

    Returns
    -------
    object
        The field, marked `LATER`.
    """
    return Field(default, json_schema_extra=LATER, **checks)


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


class Study(Section):
    """Who this study is."""

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
    icc: Literal["ignore", "convert"] = "ignore"
    """Color profiles of photographs other than sRGB: "ignore" (but note), or "convert" the levels
    to sRGB."""

    @field_validator("bits", mode="after")
    @classmethod
    def _bits_of_a_file(cls, bits: int) -> int:
        if 0 < bits < 8:
            raise ValueError("16-bit files hold 8 to 16 bits of data; 0 for what the file says")
        return bits


class Model(Section):
    """The network."""

    name: str = "efficientnet_lite0"
    """A name of ``neurometamer models list``."""
    weights: str = "default"
    """"default" (ImageNet), "random" (everything is stamped untrained), or a file."""
    stages: tuple[str, ...] = ()
    """Stages to analyze; empty: all of the model's."""


class Generator(Section):
    """What adversarial noise and interference have in common."""

    objective: Literal["log_probability", "probability", "logit"] = later("log_probability")
    """What of the target is raised; Zhang et al. (2021) name the probability."""
    step_rule: Literal["l2", "sign", "raw"] = later("l2")
    """How a gradient becomes a step."""
    mode: Literal["exact", "fast"] = later("exact")
    """"fast": cheaper arithmetic on the way, judged exactly."""

    confidence: Share = 0.99
    """Stop when the network gives the target this probability on the image rounded to 8 bits."""
    max_steps: int = Field(300, ge=1)
    """Give up (``success = False``) after so many gradient steps."""
    step_size: float = Field(gt=0)
    """L2 norm of one step, pixel values in [0, 1]; the papers leave it open."""
    pull: float = Field(ge=0)
    """Weight of the squared distance to the ImageNet mean (noise) or the photograph
    (interference)."""


class Noise(Generator):
    """Adversarial noise (AN): noise to people, the photograph's class to the network."""

    step_size: float = Field(2.0, gt=0)
    """L2 norm of one step, pixel values in [0, 1]; the papers leave it open."""
    pull: float = Field(1e-3, ge=0)
    """Lambda: weight of the squared distance to the ImageNet mean image."""
    noise_sd: float = Field(0.1, ge=0)
    """Standard deviation of the Gaussian noise added to the mean image at the start."""
    target: str = "own"
    """"own" (the network's class of the photograph), a class, or a CSV with the columns id and
    target."""
    rule: Literal["fixed", "nguyen"] = later("fixed")
    """"nguyen": steps by wanted progress and decay toward the mean image, on the probability
    without pull (Nguyen 2015); step_size, step_rule, objective and pull are then not used."""
    decay: float = later(0.01, ge=0, lt=1)
    """Of rule = "nguyen": share of the distance to the mean image lost at each step."""


class Interference(Generator):
    """Adversarial interference (AI): the photograph to people, a wrong class to the network."""

    step_size: float = Field(0.25, gt=0)
    """L2 norm of one step, pixel values in [0, 1]; the papers leave it open."""
    pull: float = Field(1e-3, ge=0)
    """Lambda: weight of the squared distance to the photograph."""
    target: str = "random"
    """"random" (a wrong class by seed), "least_likely", "another_category" (a wrong class of
    another category of the photographs), a class, or a CSV with the columns id and target."""
    method: Literal["gradient", "greedy"] = later("gradient")
    """"greedy": gradient-free search of Zhang et al. (2021) up to p > .5; of the settings above it
    takes confidence (then .5 where none is given) and target."""
    amplitude: float = later(5.0, gt=0, lt=255)
    """Of greedy: noise is uniform within this, levels of 0 to 255."""
    shared_channels: bool = later(False)
    """Of greedy: gray noise; the paper leaves it open."""
    max_tries: int = later(20_000, ge=1)
    """Of greedy: give up after so many tries; the paper leaves it open."""
    ball: Literal["none", "l2", "linf"] = later("none")
    """Of gradient: stay in a ball around the photograph."""
    radius: float = later(0.0, ge=0)
    """Of the ball, pixel values in [0, 1]; 0 without a ball."""
    mask: str = later("")
    """Of gradient: image file, only whose light pixels may change; empty: all."""

    @model_validator(mode="before")
    @classmethod
    def _criterion_of_method(cls, values: Any) -> Any:
        greedy = isinstance(values, dict) and values.get("method") == "greedy"
        return {"confidence": 0.5, **values} if greedy else values

    @model_validator(mode="after")
    def _ball_has_radius(self) -> Self:
        if (self.ball == "none") != (self.radius == 0):
            raise ValueError(
                f'ball = "{self.ball}" and radius = {self.radius:g} do not fit; a ball needs a '
                "radius"
            )
        if self.method == "greedy" and (self.ball != "none" or self.mask or self.mode != "exact"):
            raise ValueError('method = "greedy" has no ball, no mask and no mode = "fast"')
        return self


class Metamers(Section):
    """Metamers of one network and of a set of networks, judged by other networks.

    There are none by default.
    """

    sets: tuple[tuple[str, ...], ...] = ()
    """Networks that the metamers are made for, e.g. [["efficientnet_lite0"], ["efficientnet_lite0",
    "efficientnet_lite1"]]; empty: no metamers are made."""
    judges: tuple[str, ...] = ()
    """Networks that are asked what the metamers show."""
    stage: str = "late"
    """What is matched: a stage's name, early, middle, late, a fraction of depth, or NAME=STAGE
    between commas."""
    preset: str = "pixels"
    """"feather2023", "boehm2025", "pixels" or "fast"; only "fast" has a prior of natural images,
    which makes metamers easier to recognize."""
    steps: int = Field(0, ge=0)
    """Gradient steps; 0: the preset's."""
    photographs: int | tuple[str, ...] = 0
    """Of how many photographs, the first ones, or their ids; 0: all."""
    image_size: int = Field(0, ge=0)
    """Height and width in pixels that every network sees; 0: those of the first network of each
    set."""
    null_pairs: int = Field(1000, ge=0)
    """Pairs of the study's photographs whose likeness a match has to exceed; 0: no null, and no
    verdict by it."""
    mode: Literal["exact", "fast"] = "exact"
    """"fast": cheaper arithmetic on the way, judged exactly."""
    overrides: dict[Name, bool | int | float | str] = {}
    """Other numbers of the preset to change, by name."""

    @model_validator(mode="after")
    def _sets_have_names(self) -> Self:
        if any(not names or duplicates(names) for names in self.sets) or duplicates(self.sets):
            raise ValueError("sets must differ, and each name at least one network, and none twice")
        return self


class Transfer(Section):
    """Whether other networks see the same."""

    models: tuple[str, ...] = ()
    """Names of models that judge the images of the first."""


class Simulation(Section):
    """The simulated cortex and the truth planted in it."""

    subjects: int = Field(3, ge=1, le=99)
    """Number of subjects."""
    runs: int = Field(4, ge=2)
    """Runs a subject; each shows every image once."""
    voxels_per_roi: int = Field(160, ge=4)
    """Voxels in each region, responding or not."""
    responding: Annotated[float, Field(gt=0, le=1)] = SimulationOptions.responding
    """Share of the voxels that respond to images; the rest is noise, to be left out by the voxel
    selection."""
    noise_sd: float = Field(SimulationOptions.noise_sd, ge=0)
    """Standard deviation of the scanner noise, percent of the baseline."""
    object_model: str = "efficientnet_lite0"
    """The network whose activations to the *photograph* stand for what people see in it."""
    object_stage: str = "global_pool"
    """Its stage."""
    mixing: dict[Name, float] = {"V1": 0.0, "V2": 0.25, "V3": 0.5, "V4": 0.75, "LO": 1.0}
    """Region → share of object features; the rest is Gabor energy of the pixels."""


class Subject(Section):
    """The files of one scanned subject."""

    id: Name
    """Name of the subject."""
    bold: tuple[str, ...]
    """4-D NIfTI files, one a run."""
    events: tuple[str, ...]
    """BIDS events.tsv, one a run; the column `condition_column` holds stimulus ids."""
    confounds: tuple[str, ...] = ()
    """Confounds tables, one a run, or none."""
    masks: dict[Name, str]
    """Region → mask NIfTI on the grid of the BOLD files."""
    t_r: float = Field(0, ge=0)
    """Repetition time in seconds, where header and JSON sidecar disagree; 0: as they say."""
    slice_time_ref: Annotated[float, Field(ge=0, le=1)] | None = later(None)
    """Time to which the volumes refer, a share of the repetition time; when not given, StartTime of
    the JSON sidecars says it, else it is 0."""
    affine: Literal["agree", "sform", "qform"] = later("agree")
    """Which transform of the NIfTI headers places the voxels; "agree": refuse images whose two
    differ."""
    condition_column: str = later("trial_type")
    """Column of the events that holds the stimulus ids, for example "stim_file"."""

    @model_validator(mode="after")
    def _one_file_a_run(self) -> Self:
        if not self.bold:
            raise ValueError("bold is empty; give one 4-D NIfTI a run")
        if len(self.events) != len(self.bold) or len(self.confounds) not in (0, len(self.bold)):
            raise ValueError(
                f"{len(self.bold)} bold, {len(self.events)} events and {len(self.confounds)} "
                "confounds files; give one events file a run, and one confounds file a run or none"
            )
        if not self.masks:
            raise ValueError("masks is empty; give at least one ROI = mask file")
        return self


class Brain(Section):
    """Where the brain data come from."""

    source: Literal["simulated", "bold", "none"] = "simulated"
    """"simulated" (a cortex with known truth), "bold" (the subjects listed) or "none" (network
    only)."""
    simulation: Simulation = Simulation()
    """Of the simulated cortex."""
    subjects: tuple[Subject, ...] = ()
    """Of source = "bold"."""

    @model_validator(mode="after")
    def _subjects_match_source(self) -> Self:
        if self.source == "bold" and not self.subjects:
            raise ValueError('source = "bold" needs at least one [[brain.subjects]]')
        again = duplicates(subject.id for subject in self.subjects)
        if again:
            raise ValueError(f"subject ids must be unique; {name_ids(again)} occur more than once")
        return self


class Glm(Section):
    """One beta per condition × presentation."""

    hrf_model: Literal["glover", "spm"] = "glover"
    """Hemodynamic response, a name of nilearn's."""
    high_pass: float = Field(0.01, ge=0)
    """Cut-off of the cosine drift model."""
    noise_model: Literal["ar1", "ols"] = "ar1"
    """Of the residuals."""
    estimator: Literal["LSA", "LSS"] = "LSA"
    """All events in one design, or each against the rest."""
    confounds: tuple[str, ...] = ()
    """Columns of the confounds tables; empty: the six motion parameters where there are all six,
    else every column."""
    ignore: tuple[str, ...] = ("blank", "n/a")
    """Trial types that are no stimuli; they stay part of the baseline."""
    units: Literal["percent", "raw"] = later("percent")
    """Of betas: percent signal change, or units of the image where its mean was taken away."""
    unusable: Literal["refuse", "drop"] = "refuse"
    """What to do with voxels that are NaN or constant: refuse them by name, or drop and record
    them."""


class Selection(Section):
    """Which voxels enter: the reliable ones, judged on one kind of image only."""

    voxels_per_roi: int = Field(80, ge=0)
    """The most reliable so many of each region; 0 keeps all."""
    kind: Literal["RE"] = "RE"
    """Reliability is judged on regular images, so that AN and AI never choose their own voxels."""


KINDS = ImageTypeOptions()
"""The defaults of `neurometamer.rsa.image_types.inference.compare_image_types` are those of a
study."""

RSA_NAMES: dict[str, Collection[str]] = {
    "measure": tuple(name for name, measure in MEASURES.items() if not measure.needs),
    "comparator": COMPARATORS,
    "interval": tuple(INTERVALS),
    "null": tuple(NULLS),
    "classes": tuple(CLASS_CLAIMS),
    "combine": tuple(COMBINATIONS),
    "correction": tuple(CORRECTIONS),
    "family": tuple(FAMILIES),
}
"""Key of ``[rsa]`` to the names that it takes."""


def _listed(what: str, key: str) -> str:
    """Write what a key means and the names that it takes, for the commented study file."""
    return f"{what}: {', '.join(RSA_NAMES[key])}."


class Rsa(Section):
    """Representational similarity analysis.

    These are the RDMs, their comparison, and the tests of RE-AN and RE-AI.
    """

    measure: str = Field(
        "spearman", description=_listed("Dissimilarity over units or voxels", "measure")
    )
    comparator: str = Field("spearman", description=_listed("Between RDMs", "comparator"))
    resamples: int = Field(1000, ge=0)
    """Draws of an interval; 0: no intervals. Cross-validated layers take at most 250: only their
    standard error is used."""
    confidence: Share = 0.95
    """Coverage of the intervals."""
    interval: str = later(
        KINDS.interval,
        description=_listed("What is resampled for RE-AN, RE-AI and their difference", "interval")
        + ' A network has no subjects: for it "subjects" and "dual" become "stimuli".',
    )
    null: str = later(
        KINDS.null,
        description=_listed("Within what the labels of photographs are permuted", "null")
        + ' A network has no sessions: for it "session" becomes "free".',
    )
    classes: str = later(
        KINDS.classes,
        description=_listed(
            "Whether intervals are about other photographs of these classes, or other classes",
            "classes",
        )
        + ' "random" needs 10 classes.',
    )
    combine: str = later(
        KINDS.combine, description=_listed("How the p of the subjects become one", "combine")
    )
    correction: str = later(
        KINDS.correction,
        description=_listed(
            "Of p of RE-AN, RE-AI and their difference for many tests", "correction"
        ),
    )
    family: str = later(
        KINDS.family,
        description=_listed(
            "Tests that are corrected together (of subjects, not of their mean)", "family"
        ),
    )
    permutations: int = later(
        KINDS.n_permutations,
        ge=0,
        description="Permutations of labels, for p of similarities; 0: no such p.",
    )

    @field_validator("measure", mode="after")
    @classmethod
    def _measure_needs_nothing(cls, value: str) -> str:
        if value in MEASURES and (needs := MEASURES[value].needs):
            lack = {
                "noise": "the covariance of the units' noise, which a network does not have",
                "folds": "several presentations in independent runs, which a network does not have",
            }
            raise ValueError(
                f"'{value}' needs {lack[needs]}, and RDMs of network and cortex must be of one "
                f"measure; use one of {', '.join(RSA_NAMES['measure'])}, or 'neurometamer rdm "
                f"--measure {value}' for regions alone"
            )
        return value

    @field_validator(*RSA_NAMES, mode="after")
    @classmethod
    def _name_is_known(cls, value: str, about: ValidationInfo) -> str:
        key = str(about.field_name)
        if key == "comparator":
            value = ALIASES.get(value, value)
        if value not in RSA_NAMES[key]:
            raise unknown_name(key, value, RSA_NAMES[key])
        return value


class Encoding(Section):
    """Ridge from layers to voxels."""

    folds: int = Field(0, ge=0)
    """Cross-validation folds over photographs; 0: leave one out up to 20 photographs, else 10
    folds."""
    alphas: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
    ] = tuple(float(10.0**power) for power in range(-3, 5))
    """Ridge penalties to choose from, per voxel, on the training photographs; in units of the mean
    squared length of the features."""
    permutations: int = Field(200, ge=0)
    """Permutations of the photographs for p, models fitted again in each; 0: no p."""
    allow_repeats: bool = False
    """Whether a test image may have the pixels of a training image, as in a control analysis."""
    scheme: Literal["by image", "all"] = "by image"
    """"by image": the AN and AI of a photograph are predicted by models that never saw it; "all":
    train on all photographs, as Zhang et al. 2021."""


class Run(Section):
    """How to run; changes no numbers (beyond float rounding, which is recorded with the device)."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs."""
    batch_size: int = Field(8, ge=1)
    """Images at once."""


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
    metamers: Metamers = later(Metamers())
    brain: Brain = Brain()
    glm: Glm = Glm()
    selection: Selection = Selection()
    rsa: Rsa = Rsa()
    encoding: Encoding = Encoding()
    run: Run = Run()

    def numbers(self) -> dict[str, Any]:
        """Return everything that changes numbers.

        These are all sections but ``[run]``, without `LATER` ones left at default.

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
        if field.json_schema_extra == LATER and value == field.get_default():
            del values[name]
        elif isinstance(value, Section) and name in values:
            values[name] = _identity(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
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
        With the first problem found: section and key, what came, what is allowed.

    Examples
    --------
    >>> from neurometamer import check_settings
    >>> check_settings({"study": {"seed": 3}, "rsa": {"resamples": 100}}).rsa
    Rsa(resamples=100)
    """
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = [str(part) for part in problem["loc"]]
    dotted = ".".join(place)
    if problem["type"] == "extra_forbidden":
        section = ".".join(place[:-1]) or "top level"
        return f"[{section}] {unknown_name('key', place[-1], _known_keys(place[:-1]))}"
    if problem["type"] == "missing":
        return f"{dotted} is missing."
    text = problem["msg"].removeprefix("Value error, ")
    return (
        f"{dotted}: {text}; got {problem['input']!r:.80}."
        if problem["type"] != "value_error"
        else f"{dotted}: {text}."
    )


def _known_keys(place: list[str]) -> list[str]:
    """List the keys of a section, walking through nested sections and lists of sections."""
    section: Any = StudySettings
    for part in place:
        if part.isdigit():
            continue
        annotation = section.model_fields[part].annotation
        inner = [part for part in getattr(annotation, "__args__", ()) if isinstance(part, type)]
        section = next(
            (
                kind
                for kind in [annotation, *inner]
                if isinstance(kind, type) and issubclass(kind, Section)
            ),
            None,
        )
        if section is None:
            return []
    return list(section.model_fields)
