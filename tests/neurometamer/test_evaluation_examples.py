"""Exported functions and classes of behavior and evaluation have examples, and these hold."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

from neurometamer import behavior, evaluation

PACKAGES = (behavior, evaluation)
MODULES = [
    f"{package.__name__}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(package.__path__)
]
GROUND_FLOOR = [
    f"neurometamer.{name}"
    for name in ("arguments", "errors", "provenance", "reading", "resume", "store", "zoo")
]
EXPORTED = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in PACKAGES
    for name in package.__all__
    if callable(getattr(package, name))
}


@pytest.mark.parametrize("module", MODULES + GROUND_FLOOR)
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
