"""Descents whose every iterate is known in closed form: pixels move towards a goal."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from neurometamer.run_options import RunOptions
from stimuli_gen import StepOptions, descend
from stimuli_gen.synthesis.loop import Start

STEP_NAMES = {field.name for field in fields(StepOptions)}
RUN_NAMES = {field.name for field in fields(RunOptions)}
GOALS = {"near": 0.6, "far": 0.9, "there": 0.5, "dark": 0.1, "out": 1.5, "low": 0.3}


def descend_with(objective, ids, prepare, **given):
    """Sort options of the steps and of the run out of the others."""
    options = {"steps": {}, "run": {}, "others": {}}
    for name, value in given.items():
        group = "others"
        if name in STEP_NAMES:
            group = "steps"
        elif name in RUN_NAMES:
            group = "run"
        options[group][name] = value
    steps, run = StepOptions(**options["steps"]), RunOptions(**options["run"])
    return descend(objective, ids, prepare, steps=steps, run=run, **options["others"])


def towards_goal(images, context):
    """Loss ‖image - goal‖² and score -max|image - goal|."""
    difference = images - context["goal"].view(-1, 1, 1, 1)
    return difference.square().flatten(1).sum(1), -difference.abs().flatten(1).amax(1)


def at_half(stimulus_id):
    image = np.full((3, 2, 2), 0.5, np.float32)
    return Start(image=image, context={"goal": np.array(GOALS[stimulus_id], np.float32)})


def move_to_goals(ids, objective=towards_goal, **more):
    given = {
        "threshold": -0.01,
        "step_size": 0.1,
        "max_steps": 40,
        "step_rule": "raw",
        "batch_size": 2,
    }
    return descend_with(objective, ids, at_half, **(given | more))
