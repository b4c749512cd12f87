"""Every example in a docstring of the three packages does what it shows."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest
import torch

import stimuli_gen

ROOT = Path(stimuli_gen.__file__).resolve().parents[1]


def sources_with_examples() -> dict[str, Path]:
    found = {}
    for package in ("fmri", "neurometamer", "stimuli_gen"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if ">>> " in file.read_text(encoding="utf-8"):
                parts = file.relative_to(ROOT).with_suffix("").parts
                found[".".join(parts).removesuffix(".__init__")] = file
    return found


SOURCES = sources_with_examples()


def examples_of(module: str) -> list[doctest.DocTest]:
    """Read examples from the source: no decorator, property or import can hide one."""
    file = SOURCES[module]
    names = vars(importlib.import_module(module))
    parser = doctest.DocTestParser()
    tests = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        text = node.value.value
        if isinstance(text, str) and ">>> " in text:
            title = f"{module}:{node.lineno}"
            tests.append(parser.get_doctest(text, dict(names), title, str(file), node.lineno - 1))
    return tests


@pytest.mark.parametrize("module", SOURCES)
def test_examples_show_what_they_do(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tests = examples_of(module)
    assert tests
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng():
        for test in tests:
            runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    assert not list(tmp_path.iterdir())


def test_every_exported_table_is_in_an_example():
    lines = []
    for module in SOURCES:
        if module.startswith("stimuli_gen."):
            for test in examples_of(module):
                lines += [line.source for line in test.examples]
    tables = [name for name in stimuli_gen.__all__ if not callable(getattr(stimuli_gen, name))]
    assert tables
    assert [name for name in tables if not any(name in line for line in lines)] == []
