"""Build the wheel, install it on the newest Python at hand, and use it there; run by `make test-wheel`.

torch and torchvision are left out: for a new Python they are gigabytes, or not there yet. So this
shows that the wheel holds every file, that the other requirements can be had, that all modules
which need no network can be imported, and that the command line works; not that networks run. Where
only one Python is there, it is that one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("torch", "torchvision")
OLDEST = (3, 11)

USE = r"""
import importlib, pkgutil, sys, warnings
import numpy as np
import fmri, neurometamer, stimuli_gen
assert "site-packages" in neurometamer.__file__, neurometamer.__file__
imported, waiting = [], []
for package in (neurometamer, stimuli_gen, fmri):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
            imported.append(found.name)
        except ModuleNotFoundError as error:
            assert error.name in ("torch", "torchvision"), error
            waiting.append(found.name)
print(f"{len(imported)} modules imported, {len(waiting)} wait for torch: {', '.join(waiting)}")
assert len(imported) > 100
random = np.random.default_rng(0)
for name in ("a", "b"):
    rdms = neurometamer.rsa.label_rdms(
        random.random((2, 45)), conditions=[f"s{i}" for i in range(10)], rdm_descriptors={"stage": ["one", "two"]}, measure="x"
    )
    neurometamer.write_rdms(rdms, f"{name}.h5")
"""


def version_of(python: str) -> tuple[int, int]:
    """Ask a Python which it is; (0, 0) where it does not run."""
    asked = [python, "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return tuple(int(part) for part in done.stdout.split()) if done.returncode == 0 else (0, 0)  # type: ignore[return-value]


def newest_python() -> str:
    """Look on the path and among pyenv's versions."""
    names = [f"python3.{minor}" for minor in range(30, OLDEST[1] - 1, -1)]
    candidates = [path for name in names if (path := shutil.which(name))]
    candidates += [str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python3")]
    return max([sys.executable, *candidates], key=version_of)


def run(*command: object, cwd: Path) -> str:
    """Run a command that must succeed; give what it printed."""
    print("+", *(part for part in map(str, command) if "\n" not in part), flush=True)
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed with exit code {done.returncode}")
    return done.stdout


def requirements() -> list[str]:
    """Read what the package needs, without torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [
        line for line in project["dependencies"] if re.split("[<>=~!]", line)[0] not in LEFT_OUT
    ]


def main(python: str) -> None:
    """Build, install, import, and call the command line in a folder of its own."""
    print("newest Python:", python, ".".join(map(str, version_of(python))))
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        run(
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--wheel-dir",
            work,
            ROOT,
            cwd=work,
        )
        (wheel,) = work.glob("*.whl")
        run(python, "-m", "venv", work / "venv", cwd=work)
        there = work / "venv" / "bin"
        run(there / "python", "-m", "pip", "install", "--quiet", *requirements(), cwd=work)
        run(there / "python", "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=work)
        print(run(there / "python", "-c", USE, cwd=work), end="")
        print(run(there / "neurometamer", "--version", cwd=work), end="")
        for command in (
            "",
            "stimuli metamer",
            "fmri betas",
            "layers",
            "behavior analyze",
            "evaluate metamers",
        ):
            run(there / "neurometamer", *command.split(), "-h", cwd=work)
        run(there / "neurometamer", "init", "study.toml", cwd=work)
        run(
            there / "neurometamer",
            "compare",
            "a.h5",
            "b.h5",
            "--out",
            "c.csv",
            "--n-resamples",
            50,
            cwd=work,
        )
        assert len((work / "c.csv").read_text().splitlines()) == 1 + 4
    print("the wheel works on", python)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else newest_python())
