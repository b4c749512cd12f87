"""The README's words hold: every command it lists exists and every command is listed, and its
Python runs.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import neurometamer
from neurometamer.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_of_commands_is_complete():
    assert set(re.findall(r"^\| `neurometamer ([a-z -]+)` \|", README, flags=re.M)) == set(COMMANDS)


def test_links_work_where_the_package_index_shows_the_readme():
    links = re.findall(r"\]\(([^)]*)\)", README)
    assert links
    assert [link for link in links if not link.startswith("https://")] == []
    root = "https://github.com/neurometamer/neurometamer/blob/main/"
    files = [link.removeprefix(root) for link in links if link.startswith(root)]
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_version_and_address_are_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, flags=re.M).group(1) == neurometamer.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (
        re.search(r"^repository-code: (.*)$", citation, flags=re.M).group(1)
        == project["urls"]["Source"]
    )
    assert f"## {neurometamer.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", README, flags=re.S).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "network.h5").is_file()
    values = _likeness(capsys.readouterr().out)
    assert _likeness(README) == pytest.approx(values, abs=0.05)
    assert values["blocks.0"] > 0.95
    assert values["classifier"] < 0.4


def _likeness(text: str) -> dict[str, float]:
    """The RE-AI value of each stage, as printed."""
    rows = re.findall(r"^ *(\S+) +RE-AI +(\S+) +\S+ +\S+$", text, flags=re.M)
    return {place: float(value) for place, value in rows}
