"""Every exported name of the package has an example, and the examples hold."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import fmri

MODULES = [f"fmri.{module.name}" for module in pkgutil.iter_modules(fmri.__path__)]


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


@pytest.mark.parametrize("name", fmri.__all__)
def test_every_exported_name_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(fmri, name))
