"""MATLAB files up to version 7, read in a process of their own.

A damaged file can crash scipy's reader.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurometamer.errors import InputError
from neurometamer.reading import check_npz, one_line

PATIENCE_S = 600
"""Seconds after which a reader that does not come back is ended."""


def read_mat(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the variables of a MATLAB file, version 4 to 7.

    Parameters
    ----------
    path : path-like
        An existing file.

    Returns
    -------
    dict of str to ndarray
        Variables of numbers or text, without axes of length 1. Structures with a field ``RDM``, as
        the RSA toolbox for MATLAB writes them, become an array of RDMs, and their field ``name`` a
        variable ``<name>.name``.

    Raises
    ------
    InputError
        When the file is none of MATLAB's, or is damaged: also where reading it crashes.
    """
    here = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    with tempfile.TemporaryDirectory(prefix="neurometamer-mat-") as folder:
        out = Path(folder, "variables.npz")
        command = [sys.executable, "-P", "-m", __name__, str(path), str(out)]
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "PYTHONPATH": here},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{path} cannot be read in {PATIENCE_S} s; it is damaged.") from None
        if done.returncode:
            reason = "reading it crashes"
            if done.returncode > 0:
                reason = done.stderr.strip().rsplit("\n", 1)[-1]
            raise InputError(
                f"{path} is not a MATLAB file, or is damaged ({reason}); save it again."
            )
        check_npz(out)
        with np.load(out, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def _variables(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Keep what can be stored without Python objects: numbers, text and structures of RDMs."""
    variables: dict[str, np.ndarray] = {}
    for name, value in content.items():
        fields = getattr(value, "dtype", np.dtype(float)).names or ()
        if "RDM" not in fields:
            array = np.asarray(value)
            is_object = array.dtype.kind == "O" and array.size > 0
            if is_object and all(isinstance(cell, str) for cell in array.flat):
                array = array.astype(str)
            if not name.startswith("__") and array.dtype.kind in "biufcUS":
                variables[name] = array
            continue
        rdms = []
        names = []
        for cell in np.atleast_1d(value).ravel():
            structure = cell.reshape(())[()] if isinstance(cell, np.ndarray) else cell
            rdm = structure["RDM"]
            rdms.append(np.asarray(rdm.item() if rdm.ndim == 0 else rdm))
            if "name" in fields:
                names.append(str(structure["name"]))
        if len({rdm.shape for rdm in rdms}) == 1:
            variables[name] = np.stack([rdm.astype(np.float64) for rdm in rdms])
        if "name" in fields:
            variables[f"{name}.name"] = np.array(names)
    return variables


if __name__ == "__main__":
    from scipy.io import loadmat

    try:
        variables = _variables(loadmat(sys.argv[1], squeeze_me=True))
        np.savez(sys.argv[2], **variables)  # type: ignore[arg-type]
    except Exception as error:
        sys.exit(one_line(error))
