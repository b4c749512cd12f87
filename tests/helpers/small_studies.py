"""Photographs of small studies."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "brick.png", "camera.png")
IDS = [name.split(".")[0] for name in PICTURES]


def copy_photographs(folder: Path) -> None:
    source = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    folder.mkdir()
    for name in PICTURES:
        shutil.copy(source / name, folder / name)
