"""Every exported name has an example in its documentation, and every example does what it shows."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch

import stimuli_gen

MODULES = [
    module.name
    for module in pkgutil.walk_packages(stimuli_gen.__path__, prefix="stimuli_gen.")
    if not module.ispkg
]


def examples(module):
    return doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))


@pytest.mark.parametrize("module", MODULES)
def test_examples_show_what_they_do(module):
    runner = doctest.DocTestRunner()
    with torch.random.fork_rng():
        for example in examples(module):
            runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", stimuli_gen.__all__)
def test_every_exported_name_has_an_example(name):
    exported = getattr(stimuli_gen, name)
    if callable(exported):
        assert ">>> " in inspect.getdoc(exported)
        return
    sources = []  # a table has no documentation of its own: an example uses it
    for module in MODULES:
        for test in examples(module):
            sources += [line.source for line in test.examples]
    assert any(name in source for source in sources)
