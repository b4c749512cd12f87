"""Options as people write them: typed, refused by name, and read the same way by every command."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
import pytest

from neurometamer.arguments import KeywordsOf
from neurometamer.commands.metamers import (
    of_worst_network,
    read_penalties,
    read_stages,
    read_start_images,
)
from neurometamer.errors import InputError
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.presets import PRESETS, make_recipe
from stimuli_gen.stimuli import write_png

RECIPE = KeywordsOf("stimuli_gen.presets:Recipe", without=("penalties", "open_choices"))
SMALL = Preprocessing(
    size=(32, 32), resize=32, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1)
)


def test_changes_of_a_preset_have_the_types_of_the_recipe(invoke, monkeypatch):
    found = {}

    def _make(*, out: str, **numbers: Annotated[Any, RECIPE]) -> pd.DataFrame:
        """Give the numbers."""
        found.update(numbers)
        return pd.DataFrame({"id": ["a"], "success": [True]})

    monkeypatch.setattr("neurometamer.commands.metamers.stimuli_metamer", _make)
    words = [
        "stimuli",
        "metamer",
        "--out",
        "m",
        "--steps",
        "3",
        "--step-size",
        "0.5",
        "--solver",
        "joint",
    ]
    done = invoke([*words, "--no-straight-through-relu"])
    assert done.exception is None
    assert found == {
        "steps": 3,
        "step_size": 0.5,
        "straight_through_relu": False,
        "solver": "joint",
    }
    assert make_recipe("feather2023", found).steps == 3
    assert PRESETS["feather2023"].straight_through_relu
    for bad, message in (
        (["--stps", "3"], "Did you mean --steps"),
        (["--steps", "many"], "whole number"),
        (["--steps"], "needs a value"),
        (["--solver", "jont"], "did you mean 'joint'"),
        (["--steps", "1", "--steps", "2"], "more than once"),
    ):
        assert message in str(invoke(["stimuli", "metamer", "--out", "m", *bad]).exception)


def test_penalties_take_the_powers_of_their_source():
    short, long = read_penalties(["total_variation:0.5", "alpha_norm:1:4:255"])
    assert (short.weight, short.power, short.pixel_scale) == (0.5, 2.0, 1.0)
    assert (long.weight, long.power, long.pixel_scale) == (1.0, 4.0, 255.0)
    for bad, message in (
        ("total:1", "total_variation"),
        ("range", "kind:weight"),
        ("range:a", "kind:weight"),
    ):
        with pytest.raises(InputError, match=message):
            read_penalties([bad])


def test_start_images_are_one_for_all_or_by_the_photographs_id(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32)).astype(np.float32) / 255
    for name, image in zip("ab", images, strict=True):
        write_png(tmp_path / "many" / f"{name}.png", image)
    np.testing.assert_array_equal(read_start_images(tmp_path / "many" / "a.png", SMALL), images[0])
    found = read_start_images(tmp_path / "many", SMALL)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["b"], images[1])


def test_stages_are_one_several_or_by_network():
    assert read_stages("late") == "late"
    assert read_stages(["late"]) == "late"
    assert read_stages(["early", "0.8"]) == ["early", "0.8"]
    assert (
        read_stages("a=early,b=late")
        == read_stages(["a=early", "b=late"])
        == {"a": ["early"], "b": ["late"]}
    )
    for bad in ("a=", ["a=early", "late"]):
        with pytest.raises(InputError, match="NAME=STAGE"):
            read_stages(bad)


def test_a_set_is_as_good_as_its_worst_network():
    row = {
        "loss_png_a": 0.1,
        "loss_png_b": 0.3,
        "spearman_png_a": 0.9,
        "spearman_png_b": 0.7,
        "valid_a": True,
        "valid_b": "False",
        "pearson_png_a": np.nan,
    }
    found = of_worst_network(row)
    assert (found["loss_png"], found["spearman_png"], found["valid"]) == (0.3, 0.7, False)
    assert found["pearson_png"] is None and found["same_class_png"] is None
