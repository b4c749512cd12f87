"""Execute the tutorials and store what they show, so that they can be read where nothing is installed.

``make tutorials`` runs all of them; names of notebooks as arguments run these. Temporary folders
are taken out of the outputs, times are not kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def store(path: Path) -> None:
    """Execute a notebook in an empty folder and write it with its outputs.

    Parameters
    ----------
    path : Path
        Notebook; it is written only when all of it ran.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
            if cell.cell_type == "code":
                cell.outputs = [
                    without_paths(output, (folder, str(ROOT))) for output in cell.outputs
                ]
    nbformat.write(notebook, path)


def without_paths(output: nbformat.NotebookNode, folders: tuple[str, ...]) -> nbformat.NotebookNode:
    """Take the folders of this machine out of an output.

    Parameters
    ----------
    output : NotebookNode
        Of a cell.
    folders : tuple of str
        Absolute paths.

    Returns
    -------
    NotebookNode
        The same with ``.`` in place of the folders.
    """
    texts = output.get("data", output)
    for name in ("text", "text/plain", "text/html"):
        for folder in folders:
            if name in texts:
                texts[name] = texts[name].replace(folder, ".")
    return output


if __name__ == "__main__":
    os.environ.setdefault("NEUROMETAMER_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    for name in sys.argv[1:] or sorted(path.name for path in (ROOT / "tutorials").glob("*.ipynb")):
        print(name, flush=True)
        store(ROOT / "tutorials" / Path(name).name)
