"""Every tutorial runs from top to bottom; each ends in an assertion of what was learnt."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("NEUROMETAMER_TEST_DATA", ROOT.parent / "shared" / "data"))
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))


# The Jupyter client and the kernel's event loop warn about their own internals.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs_and_ends_in_an_assertion(path, tmp_path, monkeypatch):
    if DATA.is_dir():  # without it, tutorials use what the packages ship, and say so
        monkeypatch.setenv("NEUROMETAMER_TEST_DATA", str(DATA))
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[-1].cell_type == "code"
    assert notebook.cells[-1].source.lstrip().startswith("assert ")
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_shows_a_figure_without_pyplot(tmp_path):
    drawing = """
import sys
import numpy as np
from neurometamer.figures.rsa import banded_rdms
names = {"ids": list("wxyz"), "categories": list("kkll")}
figure = banded_rdms(np.ones((1, 1, 4, 4)), row_titles=["a"], column_titles=["b"], **names)
assert "matplotlib.pyplot" not in sys.modules
figure
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(drawing)])
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [
        one["data"] for one in notebook.cells[0].outputs if one["output_type"] == "execute_result"
    ]
    assert len(shown) == 1 and "image/png" in shown[0]
