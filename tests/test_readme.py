"""The README's words hold: every command it lists exists and every command is listed, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import typer

from neurometamer.cli import app

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def all_commands() -> set[str]:
    def walk(group, prefix=""):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            else:
                yield prefix + name

    return set(walk(typer.main.get_command(app)))


def test_the_table_of_commands_is_complete():
    assert set(re.findall(r"^\| `neurometamer ([a-z -]+)` \|", README, flags=re.M)) == all_commands()


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    example = re.search(r"```python\n(.*?)```", README, flags=re.S).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert (tmp_path / "network.h5").is_file()
    assert "RE-AN" in capsys.readouterr().out
