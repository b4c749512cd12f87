"""What `import neurometamer as nm` shows: names, namespaces, types for editors, and an example each."""

from __future__ import annotations

import importlib
import subprocess
import sys

import jedi
import pytest

import neurometamer as nm

NAMESPACES = {
    "behavior",
    "commands",
    "encoding",
    "evaluation",
    "figures",
    "report",
    "rsa",
    "stats",
    "study",
    "zoo",
}
PACKAGES = ["neurometamer", "stimuli_gen", "fmri"]
PACKAGES += [f"neurometamer.{name}" for name in sorted(NAMESPACES)]


def test_the_top_level_shows_about_thirty_names_and_the_namespaces():
    shown = set(nm.__all__)
    assert shown >= NAMESPACES
    assert 25 <= len(shown - NAMESPACES) <= 36


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_is_there_and_has_an_example(package):
    module = importlib.import_module(package)
    lacking = []
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value) and ">>>" not in (value.__doc__ or ""):
            lacking.append(name)
    assert not lacking


def test_a_type_checker_finds_a_misspelt_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import neurometamer as nm\n"
        "nm.load_modle('alexnet')\n"
        "nm.rsa.compare_rdmz\n"
        "table = nm.zoo.list_models()\n"
        "nm.load_model(3)\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--no-error-summary"]
    done = subprocess.run([*command, script], capture_output=True, text=True, check=False)
    lines = [line.partition(":")[2] for line in done.stdout.splitlines() if "error" in line]
    assert [line.partition(":")[0] for line in lines] == ["2", "3", "5"], done.stdout + done.stderr
    assert "load_model" in lines[0]


def test_an_editor_completes_names_and_namespaces():
    text = "import neurometamer as nm\nnm.load_mo"
    assert {"load_model", "load_models"} <= {name.name for name in jedi.Script(text).complete()}
    text = "import neurometamer as nm\nnm.rsa.compare_r"
    assert "compare_rdms" in {name.name for name in jedi.Script(text).complete()}
