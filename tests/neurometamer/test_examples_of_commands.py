"""Names that commands, studies, figures and reports export have examples that do what they show."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import neurometamer

PACKAGES = tuple(f"neurometamer.{name}." for name in ("report", "figures", "commands", "study"))
DOORS = (
    "neurometamer",
    "neurometamer.figures.evaluation",
    "neurometamer.figures.rsa",
    "neurometamer.figures.study",
)
WITHOUT = {
    "validity_table"
}  # needs metamers of a network; test_evaluate_command.py reads its table


def examples_of(module):
    return [
        test
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
        if test.examples
    ]


def modules():
    walked = pkgutil.walk_packages(neurometamer.__path__, prefix="neurometamer.")
    return [module.name for module in walked if module.name.startswith(PACKAGES)]


def exported():
    found = {}
    for door in DOORS:
        package = importlib.import_module(door)
        for name in package.__all__:
            thing = getattr(package, name)
            home = getattr(thing, "__module__", "")
            if callable(thing) and home.startswith(PACKAGES):
                found[name] = thing
    return found


@pytest.mark.parametrize("module", modules())
def test_examples_show_what_they_do(module):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in examples_of(module):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_every_exported_name_has_an_example():
    names = exported()
    assert len(names) > 50
    lacking = {name for name, thing in names.items() if ">>> " not in inspect.getdoc(thing)}
    assert lacking == WITHOUT
