"""Values that options take: names of tables, ranges of numbers, devices.

An entry is found by ``"COMMAND PARAMETER"`` or by the name of the parameter alone. The tables are
imported when a command is used.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from neurometamer.cli.sources import names_in
from neurometamer.errors import InputError, unknown_name
from neurometamer.run_options import DEVICES, check_device

COMPARATORS = (
    "neurometamer.rsa.comparators.table:COMPARATORS",
    "neurometamer.rsa.comparators.table:ALIASES",
)

MODELS = ("neurometamer.zoo:MODELS",)

CHOICES: dict[str, tuple[str, ...]] = {
    "affine": ("fmri.volumes:AFFINES",),
    "backward_mask": ("neurometamer.behavior.experiment:MASKS",),
    "ball": ("stimuli_gen.synthesis.constraints:BALLS",),
    "bands": ("neurometamer.commands.drawing:BANDS",),
    "classes": ("neurometamer.rsa.sampling:CLASS_CLAIMS",),
    "combine": ("neurometamer.stats.families:COMBINATIONS",),
    "comparator": COMPARATORS,
    "control": ("stimuli_gen.controls:CONTROLS", "stimuli_gen.pgd:ATTACKS"),
    "criterion": ("neurometamer.rsa.searchlight.selection:VOXEL_CRITERIA",),
    "embedding": ("neurometamer.figures.rdms:ARRANGEMENTS",),
    "evaluators": MODELS,
    "estimator": ("fmri.betas.estimate:EVENT_MODELS",),
    "family": ("neurometamer.rsa.image_types.options:FAMILIES",),
    "format": ("fmri.formats.published:FORMATS",),
    "hemispheres": ("fmri.series:HEMISPHERES",),
    "hrf_model": ("fmri.betas.event_designs:HRFS",),
    "icc": ("stimuli_gen.conversion:PROFILES",),
    "interval": ("neurometamer.rsa.image_types.options:INTERVALS",),
    "metrics": ("neurometamer.evaluation.image_quality:METRICS",),
    "mode": ("neurometamer.run_options:MODES",),
    "model": MODELS,
    "models": MODELS,
    "models show name": (*MODELS, "neurometamer.zoo:MODEL_SETS"),
    "models check name": MODELS,
    "models fetch names": (*MODELS, "neurometamer.zoo:MODEL_SETS"),
    "networks": MODELS,
    "noise": ("neurometamer.rsa.searchlight.questions:NOISE",),
    "noise_model": ("fmri.betas.estimate:NOISE_MODELS",),
    "null": ("neurometamer.rsa.image_types.options:NULLS",),
    "hrf": ("fmri.betas.single_trials:RESPONSES",),
    "per": ("fmri.betas.single_trials:UNITS_OF_ANALYSIS",),
    "parts": ("neurometamer.commands.set_evaluation:PARTS",),
    "optimizer": ("stimuli_gen.synthesis.optimizers:OPTIMIZERS",),
    "preferred": ("neurometamer.rsa.layers.hierarchy:PREFERENCES",),
    "preset": ("stimuli_gen.presets:PRESETS",),
    "rt_unit": ("neurometamer.behavior.trials:RT_UNITS",),
    "readout": ("stimuli_gen.controversial:READOUTS",),
    "scheme": ("neurometamer.encoding.design:SCHEMES",),
    "sem": ("neurometamer.behavior.curves:SEM_METHODS",),
    "encode correction": ("neurometamer.stats.families:CORRECTIONS",),
    "encode solver": ("neurometamer.encoding.solvers:SOLVERS",),
    "strategy": ("fmri.confounds:STRATEGY_NAMES",),
    "start": ("stimuli_gen.presets:STARTS",),
    "step_rule": ("stimuli_gen.synthesis.optimizers:STEP_RULES",),
    "target": ("neurometamer.evaluation.recognizability:TARGETS",),
    "train_on": ("neurometamer.rsa.layers.weighted:TRAINING",),
    "fmri convert unusable": ("fmri.formats.published:UNUSABLE",),
    "units": ("fmri.betas.estimate:UNITS",),
    "zscore": ("fmri.pooling:ZSCORES",),
    "which": ("neurometamer.rsa.controls:CONTROLS",),
    "behavior analyze models": (),
    "behavior analyze correction": ("neurometamer.behavior.anova:CORRECTIONS",),
    "fmri design preset": ("fmri.design:PRESETS",),
    "image-types correction": ("neurometamer.rsa.image_types.options:CORRECTIONS",),
    "image-types measure": ("neurometamer.rsa.subsample:PARTS",),
    "rdm measure": ("neurometamer.rsa.measures:MEASURES",),
    "searchlight comparator": ("neurometamer.rsa.comparators.table:linear_comparators",),
    "searchlight space": ("neurometamer.figures.brain_maps:SPACES",),
    "searchlight measure": ("neurometamer.rsa.searchlight.maps:MEASURES",),
    "train augment": ("neurometamer.training.recipes:AUGMENTATIONS",),
    "train color": ("neurometamer.training.recipes:COLORS",),
    "train optimizer": ("neurometamer.training.recipes:OPTIMIZERS",),
    "train perturbation": ("neurometamer.training.perturbations:PERTURBATIONS",),
    "train precision": ("neurometamer.training.recipes:PRECISIONS",),
    "train preset": ("neurometamer.training.recipes:PRESETS",),
    "train schedule": ("neurometamer.training.recipes:SCHEDULES",),
    "train attack_state": ("neurometamer.training.recipes:STATES",),
    "stimuli interference method": ("neurometamer.commands.stimuli:METHODS",),
    "stimuli interference target": (),
    "stimuli noise target": (),
    "stimuli control target": (),
}
"""Parameter to the tables, or functions that list names, whose names it takes; none: any value."""

SHOWN_ONLY = ("evaluators", "held_out", "model", "models", "name", "names", "networks", "start")
"""Parameters whose names are shown and completed; the library refuses others, for it takes more."""

BETWEEN: dict[str, tuple[float, float]] = {"confidence": (0, 1), "probability": (0, 1)}
"""Parameter to two numbers between which it lies."""

LEAST = {
    "batch_size": 1,
    "image_size": 1,
    "max_products": 1,
    "max_steps": 1,
    "max_tries": 1,
    "min_common": 1,
    "min_trials": 1,
    "n_each": 1,
    "n_folds": 2,
    "n_pairs": 1,
    "n_permutations": 0,
    "n_resamples": 0,
    "n_sets": 1,
    "n_voxels": 0,
    "seed": 0,
    "steps": 1,
}
"""Parameter to its smallest value."""

MOST = {"seed": 2**63 - 1}
"""Parameter to its largest value."""


def names_for(command: str, parameter: str) -> dict[str, str]:
    """List the names that an option takes.

    Parameters
    ----------
    command : str
        Words of the command, such as ``"stimuli noise"``.
    parameter : str
        Name of the parameter.

    Returns
    -------
    dict of str to str
        Name to what its table says of it, if it does; empty where any value is taken.
    """
    if parameter == "device":
        return dict.fromkeys(DEVICES, "")
    names: dict[str, str] = {}
    for place in CHOICES.get(f"{command} {parameter}", CHOICES.get(parameter, ())):
        with suppress(ImportError):  # a library is not there: the command says so when it runs
            names |= names_in(place)
    return names


def check_value(option: str, value: Any, names: Collection[str]) -> Any:
    """Refuse a value that an option does not take.

    Parameters
    ----------
    option : str
        The option with its dashes.
    value : object
        What was given.
    names : collection of str
        Names that the option takes; any when empty.

    Returns
    -------
    object
        The value; a name in lower case where only this is known.

    Raises
    ------
    InputError
        For an unknown name, with the nearest, or a number out of range.
    """
    parameter = option.removeprefix("--").replace("-", "_")
    if parameter == "device":
        check_device(value, f"value of {option}")
    elif names and parameter not in SHOWN_ONLY:
        known = value if value in names else value.lower()
        if known not in names:
            raise unknown_name(f"value of {option}", value, names)
        return known
    elif parameter in BETWEEN:
        low, high = BETWEEN[parameter]
        if not low < value < high:
            raise InputError(f"{option} is {value:g}; give a number between {low:g} and {high:g}.")
    elif parameter in LEAST and value < LEAST[parameter]:
        raise InputError(f"{option} is {value:g}; give {LEAST[parameter]} or more.")
    if parameter in MOST and value > MOST[parameter]:
        raise InputError(f"{option} is {value}; give at most {MOST[parameter]}.")
    return value
