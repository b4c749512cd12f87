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
    assert doctest.testmod(importlib.import_module(module)).failed == 0


@pytest.mark.parametrize("name", fmri.__all__)
def test_every_exported_name_has_an_example(name):
    assert ">>>" in inspect.getdoc(getattr(fmri, name))
