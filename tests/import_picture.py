"""Draw the rooms of the house from the import contracts, for ``CONTRIBUTING.md``.

``python tests/import_picture.py`` writes the picture between its two marks; a test compares it with
the contracts of ``pyproject.toml``, so that it cannot drift from what ``make lint`` checks.
"""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN = "<!-- drawn from the import contracts by tests/import_picture.py -->\n"
END = "<!-- end of the picture -->\n"


def contracts() -> list[dict[str, Any]]:
    """Read the import contracts.

    Returns
    -------
    list of dict
        As in ``pyproject.toml``, in its order.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    settings: list[dict[str, Any]] = project["tool"]["importlinter"]["contracts"]
    return settings


def summary(module: str) -> str:
    """Take the first line of a module's docstring.

    Parameters
    ----------
    module : str
        Dotted name of a module or package.

    Returns
    -------
    str
        Without its full stop.
    """
    file = ROOT.joinpath(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def draw_layers(contract: dict[str, Any]) -> list[str]:
    """Draw one contract of layers, the highest first.

    Parameters
    ----------
    contract : dict
        With ``name`` and ``layers``.

    Returns
    -------
    list of str
        Lines of a Markdown table.
    """
    lines = [f"**{contract['name']}**", "", "| may import what is below | |", "| --- | --- |"]
    for layer in contract["layers"]:
        for module in layer.split(" | "):
            lines.append(f"| `{module}` | {summary(module)} |")
        lines.append("| | |")
    return [*lines[:-1], ""]


def picture() -> str:
    """Draw all contracts.

    Returns
    -------
    str
        Markdown.
    """
    lines: list[str] = []
    for contract in contracts():
        if contract["type"] == "layers":
            lines += draw_layers(contract)
        else:
            modules = ", ".join(f"`{module}`" for module in contract["source_modules"])
            lines += [f"**{contract['name']}**: {modules}.", ""]
    return "\n".join(lines)


def stored() -> str:
    """Read the picture that the page shows.

    Returns
    -------
    str
        What stands between the two marks.
    """
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    drawn, _, _ = rest.partition(END)
    return drawn


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + picture() + END + after, encoding="utf-8")
