"""Print each directly declared requirement at its lowest version, as constraints for pip.

`make test-lowest` installs these versions and runs the suite with them. torch and torchvision stay
as installed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("behavior", "demo", "evaluation", "xarray")
AS_INSTALLED = ("torch", "torchvision")


def lowest_versions(pyproject: Path) -> list[str]:
    """Read the requirements of the package and of what users can add to it; test tools stay at their newest."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    declared = list(project["dependencies"])
    for extra in EXTRAS:
        declared += project["optional-dependencies"][extra]
    requirements = [Requirement(line) for line in declared]
    return [_pinned(required) for required in requirements if required.name not in AS_INSTALLED]


def _pinned(required: Requirement) -> str:
    """Turn ``name>=1.2`` into ``name==1.2``."""
    (bound,) = [part for part in required.specifier if part.operator == ">="]
    return f"{required.name}=={bound.version}"


if __name__ == "__main__":
    print("\n".join(lowest_versions(Path(__file__).resolve().parents[1] / "pyproject.toml")))
