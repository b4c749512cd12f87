"""Examples in rsa, stats and encoding hold, and every exported function and class has one."""

from __future__ import annotations

import base64
import doctest
import importlib
import inspect
import io
import pkgutil

import numpy as np
import pytest
from PIL import Image

import neurometamer as nm
from neurometamer import encoding, rsa, stats
from neurometamer.errors import InputError

PACKAGES = (rsa, stats, encoding)
MODULES = []
for package in PACKAGES:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        MODULES.append(found.name)
EXPORTED = {}
for exported in nm.__all__:
    value = getattr(nm, exported)
    if callable(value) and value.__module__ in MODULES:
        EXPORTED[exported] = value


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_a_module_hold(module):
    own = importlib.import_module(module)
    runner = doctest.DocTestRunner()
    for name, value in list(vars(own).items()):
        if getattr(value, "__module__", "") == module:
            # without its decorators, which would make it a function of another module
            for examples in doctest.DocTestFinder().find(inspect.unwrap(value), name, own):
                runner.run(examples)
    assert runner.summarize().failed == 0


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_function_and_class_has_an_example(name):
    assert ">>>" in inspect.getdoc(EXPORTED[name])


def named_rdms(n_rdms):
    random = np.random.default_rng(0)
    return nm.rsa.label_rdms(
        random.random((n_rdms, 10)),
        conditions=["a & b", "b", "c", "d", "e"],
        rdm_descriptors={"subject": [f"S{k}" for k in range(n_rdms)], "roi": ["<V1>"] * n_rdms},
        measure="1 - Pearson",
    )


def test_rdms_are_shown_as_text_and_as_a_table_with_pictures():
    rdms = named_rdms(8)
    view = nm.show_rdms(rdms)
    text = repr(view)
    assert text.startswith("RDMs(measure='1 - Pearson', RDMs=8, conditions=5: a & b")
    assert len(text) <= 400
    page = view._repr_html_()
    assert page.count("<img") == 6
    assert "The first 6 of 8 RDMs" in page
    assert "a &amp; b" in page
    assert "S0 &lt;V1&gt;" in page
    assert "<V1>" not in page
    data = page.partition("base64,")[2].partition('"')[0]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    square = rdms.get_matrices()[0]
    assert picture.shape == (5, 5)
    assert picture.max() == picture[np.unravel_index(square.argmax(), square.shape)] == 255


def test_few_and_constant_rdms_are_shown_and_other_things_are_refused():
    constant = nm.rsa.label_rdms(
        np.ones((1, 6)), conditions=list("abcd"), rdm_descriptors={"name": ["x"]}, measure="test"
    )
    page = nm.show_rdms(constant)._repr_html_()
    assert page.count("<img") == 1
    assert "The first" not in page
    with pytest.raises(InputError, match="show_rdms: rdms must be"):
        nm.show_rdms(np.ones((4, 4)))
