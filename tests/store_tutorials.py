"""Execute the tutorials and store what they show, so that they can be read where nothing is installed.

``make tutorials`` runs all of them; names of notebooks as arguments run these. They see the
photographs that the packages ship, no test data of others. Temporary folders are taken out of the
outputs, times are not kept.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

MOST_BYTES = 60_000
MOST_PIXELS = 900
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
                kept = [o for o in cell.outputs if "TqdmWarning" not in o.get("text", "")]
                kept = [without_paths(output, (folder, str(ROOT))) for output in kept]
                cell.outputs = [with_smaller_picture(output) for output in kept]
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


def with_smaller_picture(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Bring a large picture to a size that a repository should hold.

    Parameters
    ----------
    output : NotebookNode
        Of a cell.

    Returns
    -------
    NotebookNode
        The same; a picture of more than `MOST_BYTES` at most `MOST_PIXELS` wide and of 256 colors.
    """
    data = output.get("data", {})
    given = base64.b64decode(data.get("image/png", ""))
    if len(given) <= MOST_BYTES:
        return output
    picture = Image.open(io.BytesIO(given)).convert("RGB")
    picture.thumbnail((MOST_PIXELS, 4 * MOST_PIXELS), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.quantize(256).save(written, "PNG", optimize=True)
    data["image/png"] = base64.b64encode(written.getvalue()).decode()
    return output


if __name__ == "__main__":
    os.environ.pop("NEUROMETAMER_TEST_DATA", None)  # what is stored shows what the packages ship
    for name in sys.argv[1:] or sorted(path.name for path in (ROOT / "tutorials").glob("*.ipynb")):
        print(name, flush=True)
        store(ROOT / "tutorials" / Path(name).name)
