"""What `repr` shows of long objects: it is short, and says sizes and names."""

from __future__ import annotations

import dataclasses
import doctest
import importlib

import numpy as np
import pandas as pd
import pytest

import fmri
import neurometamer
import neurometamer.summaries
import stimuli_gen
from neurometamer.behavior.experiment import PageSettings
from neurometamer.behavior.trials import Screening
from neurometamer.commands.behavior import AnalysisSettings
from neurometamer.study.settings import StudySettings
from neurometamer.study.steps import demo_settings
from neurometamer.summaries import LONGEST, short_repr

STAGES = [f"a.stage.with.a.long.name.{i}" for i in range(40)]
IDS = [f"image_{i}" for i in range(500)]


def _patterns() -> fmri.Patterns:
    return fmri.Patterns(
        values=np.zeros((500, 60)),
        observations=pd.DataFrame({"condition": IDS, "presentation": 1, "run": "1", "session": ""}),
        voxels=pd.DataFrame(
            {"subject": "01", "roi": ["V1"] * 30 + ["LO"] * 30, "i": range(60), "j": 0, "k": 0}
        ),
    )


def _stimuli() -> stimuli_gen.StimulusSet:
    table = pd.DataFrame(
        {"id": IDS, "kind": "RE", "reference_id": IDS, **dict.fromkeys("abcdefghijklmnop", 0)}
    )
    return stimuli_gen.StimulusSet(images=np.zeros((500, 3, 8, 8), np.float32), table=table)


def _activations() -> neurometamer.Activations:
    arrays = {stage: np.zeros((500, 2), np.float32) for stage in STAGES}
    record = {"model": {"name": "x" * 2000}}
    return neurometamer.Activations(
        ids=tuple(IDS),
        stages=tuple(STAGES),
        n_units=dict.fromkeys(STAGES, 2),
        provenance=record,
        arrays=arrays,
    )


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (_patterns, ("float64 (500, 60)", "image_0", "V1, LO")),
        (_stimuli, ("float32 (500, 3, 8, 8)", "500 rows", "image_0", "reference_id")),
        (_activations, ("ids=500: image_0", "stages=40: a.stage")),
        (
            lambda: neurometamer.load_model("alexnet", weights="random"),
            ("network=AlexNet", "stages=", "untrained"),
        ),
        (demo_settings, ("name='demo'", "efficientnet_lite1")),
        (lambda: PageSettings(consent="word " * 500, mask="noise"), ("mask='noise'",)),
    ],
)
def test_repr_is_short_and_says_sizes_and_names(made, words):
    text = repr(made())
    assert len(text) <= LONGEST
    assert "\n" not in text
    assert [word for word in words if word not in text] == []


def test_what_is_as_by_default_is_left_out():
    assert repr(StudySettings()) == "StudySettings()"
    assert repr(AnalysisSettings(screening=Screening(min_trials=3))) == (
        "AnalysisSettings(screening=Screening(min_trials=3))"
    )


def test_fields_beyond_the_limit_are_counted():
    many = short_repr(
        dataclasses.make_dataclass("Many", [f"a_rather_long_name_{i}" for i in range(50)])
    )
    text = repr(many(*range(50)))
    assert len(text) <= LONGEST
    shown = text.count("=")
    assert text.endswith(f"and {50 - shown} more)")


@pytest.mark.parametrize("package", [neurometamer, stimuli_gen, fmri])
def test_every_public_dataclass_has_a_short_repr(package):
    public = [getattr(package, name) for name in package.__all__]
    classes = [
        value for value in public if dataclasses.is_dataclass(value) and isinstance(value, type)
    ]
    assert classes
    assert [cls.__name__ for cls in classes if "short_repr" not in cls.__repr__.__qualname__] == []


def test_example_runs():
    assert doctest.testmod(importlib.import_module("neurometamer.summaries")).failed == 0
