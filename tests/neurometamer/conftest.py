"""What several test files share: a small study that runs in seconds, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "brick.png",
    "camera.png",
    "coins.png",
)

STUDY = """
[study]
name = "small"
seed = 3
[images]
source = "photographs.csv"
[model]
name = "alexnet"
weights = "random"
stages = ["relu1", "relu5", "fc8"]
[noise]
confidence = 0.001
max_steps = 4
[interference]
confidence = 0.9
max_steps = 2
[brain.simulation]
subjects = 2
runs = 2
voxels_per_roi = 20
mixing = { V1 = 0.0, V2 = 0.5, LO = 1.0 }
[selection]
voxels_per_roi = 10
[rsa]
n_resamples = 50
"""


def write_small_study(folder: Path) -> Path:
    """Write the study file and the table of its photographs; return the study file."""
    source = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    rows = "".join(f"{source / name},{name.split('.')[0]}\n" for name in PHOTOGRAPHS)
    (folder / "photographs.csv").write_text("file,id\n" + rows)
    (folder / "study.toml").write_text(STUDY)
    return folder / "study.toml"


@pytest.fixture(scope="session")
def write_study() -> Callable[[Path], Path]:
    """Give the function that writes the small study into a folder and returns its study file."""
    return write_small_study


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small study: its output folder. Read it, never write into it."""
    from neurometamer.study.steps import run_study

    folder = tmp_path_factory.mktemp("small")
    run_study(write_small_study(folder), folder / "out", device="cpu")
    return folder / "out"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def chromium(downloads: Path) -> Iterator:
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((path for path in map(shutil.which, names) if path), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        if os.environ.get("NEUROMETAMER_NEEDS_BROWSER"):
            pytest.fail(
                "chromium and chromedriver are needed: apt-get install chromium chromium-driver"
            )
        pytest.skip("no chromium and chromedriver; apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1000,800",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
