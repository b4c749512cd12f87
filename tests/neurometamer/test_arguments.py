"""Wrong types at the public door: an `InputError` that names the argument, never a traceback of a
library.
"""

import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import fmri
import neurometamer
import stimuli_gen
from neurometamer.arguments import fits, type_words
from neurometamer.errors import InputError

WRONG = {
    "none": None,
    "number": 3,
    "text": "zzz",
    "array": np.zeros((2, 3)),
    "table": pd.DataFrame({"a": [1]}),
    "network": nn.Linear(2, 2),
    "object": object(),
}
TAKEN = {  # what is right for these: text, numbers, arrays and tables are what they work on
    "text": {
        "StoredImages",
        "check_settings",
        "frame_recorder",
        "parse_contrast",
        "parse_region",
        "write_template",
    },
    "number": {"count_orders", "permutation_orders", "n_for_power", "paired_power", "StoredImages"},
    "array": {
        "image_distances",
        "inversion_loss",
        "pearson",
        "spearman",
        "snr_db_power",
        "snr_db_amplitude",
        "correct_p",
        "fit_layer_weights",
        "residuals_of",
        "linear_cka",
        "searchlight_rdms",
        "StoredImages",
    },
    "table": {"noise_gain", "image_type_question", "layers_t_test", "StoredImages"},
}
EVERY_FUNCTION = [
    (package, name)
    for package in (stimuli_gen, fmri, neurometamer)
    for name in package.__all__
    if inspect.isfunction(getattr(package, name))
    and any(
        parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        for parameter in inspect.signature(getattr(package, name)).parameters.values()
    )
]


@pytest.mark.parametrize(
    ("package", "name"), EVERY_FUNCTION, ids=[name for _, name in EVERY_FUNCTION]
)
@pytest.mark.filterwarnings("ignore")
def test_every_public_function_refuses_wrong_types_by_name(package, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = getattr(package, name)
    needed = {
        parameter.name: parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for kind, value in WRONG.items():
        if name in TAKEN.get(kind, ()):
            continue
        with pytest.raises(InputError) as refused:
            function(**dict.fromkeys(needed, value))
        assert "\n" not in str(refused.value) and str(refused.value)


def test_the_message_names_argument_types_and_what_came():
    with pytest.raises(InputError, match=r"^load_model: name must be text, not a Linear\.$"):
        neurometamer.load_model(nn.Linear(2, 2))
    with pytest.raises(
        InputError, match=r"^compute_activations: model must be a StagedModel, not a ndarray\.$"
    ):
        neurometamer.compute_activations(np.zeros((2, 3, 4, 4)), None)
    with pytest.raises(InputError, match=r"n_pairs must be a whole number, not 2\.5"):
        neurometamer.commands.stimuli_null(
            model="alexnet", stages=["relu1"], images=["x.csv"], out="n.h5", n_pairs=2.5
        )
    with pytest.raises(
        InputError,
        match=r"Preprocessing: size is of the wrong type; it must be a sequence of 2 \(a whole "
        r"number each\), not 'z",
    ):
        stimuli_gen.Preprocessing(
            size="zzz", resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
        )


def test_functions_stay_what_they_are():
    function = stimuli_gen.spearman
    assert function is stimuli_gen.spearman and pickle.loads(pickle.dumps(function)) is function
    assert function.__doc__ == inspect.unwrap(function).__doc__
    assert list(inspect.signature(function).parameters) == ["a", "b"]
    assert function([[1.0, 2, 3]], b=[[3.0, 2, 1]]) == pytest.approx([-1])
    with pytest.raises(InputError, match=r"unknown argument of spearman 'c'.*Known: a, b"):
        function(c=1)
    with pytest.raises(TypeError, match="multiple values for argument 'a'"):
        function([[1.0, 2, 3]], a=[[3.0, 2, 1]])


@pytest.mark.parametrize(
    ("value", "annotation", "answer"),
    [
        (np.float32(1), float, True),
        (1, float, True),
        ("1", float, False),
        (np.int64(3), int, True),
        (3.0, int, False),
        (True, bool, True),
        (1, bool, False),
        (None, str | None, True),
        (Path("a"), str | Path, True),
        ("abc", Sequence[str], False),
        (["a"], Sequence[str], True),
        ([1], Sequence[str], False),
        (pd.Series(["a"]), Sequence[str], True),
        (np.arange(3), Sequence[int], True),
        (np.zeros(3), Sequence[int], False),
        (pd.DataFrame({"a": [1]}), Sequence[str], False),
        ({"a": 1}, Mapping[str, int], True),
        ({}, Sequence[str], False),
        ((1, 2), tuple[int, int], True),
        ((1, "2"), tuple[int, int], False),
        ([[1]], np.ndarray, True),
        (torch.zeros(2), np.ndarray, True),
        (pd.DataFrame({"a": [1]}), np.ndarray, False),
        (len, Callable[..., int], True),
        (3, Callable[..., int], False),
        (np.array(3), Sequence[int], False),
        (3, "not understood", True),
        (3, Any, True),
    ],
)
def test_what_fits(value, annotation, answer):
    assert fits(value, annotation) is answer


def test_types_in_words():
    assert type_words(Sequence[str] | None) == "a sequence (text each) or None"
    assert (
        type_words(Mapping[str, int] | int)
        == "a mapping of text to a whole number or a whole number"
    )
