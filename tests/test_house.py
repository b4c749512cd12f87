"""The house is as its page says: the picture of the rooms is drawn from the import contracts."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_picture_of_the_rooms_is_drawn_from_the_contracts():
    drawn = runpy.run_path(str(ROOT / "tests" / "import_picture.py"))
    contracts, stored = drawn["contracts"](), drawn["stored"]()
    assert drawn["picture"]() == stored, "run: python tests/import_picture.py"
    named = {module for contract in contracts for module in contract.get("source_modules", [])}
    for contract in contracts:
        for layer in contract.get("layers", []):
            named.update(layer.split(" | "))
    assert all(f"`{module}`" in stored for module in named)


def test_a_module_that_moves_without_its_contract_is_noticed(tmp_path):
    script = (ROOT / "tests" / "import_picture.py").read_text(encoding="utf-8")
    copy = tmp_path / "tests" / "import_picture.py"
    copy.parent.mkdir()
    copy.write_text(script, encoding="utf-8")
    (tmp_path / "CONTRIBUTING.md").write_text("", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.importlinter.contracts]]\nname = "x"\ntype = "layers"\nlayers = ["gone.module"]\n',
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, copy], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "gone" in done.stderr
