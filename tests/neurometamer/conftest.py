"""What several test files share: a small study that runs in seconds, and a browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
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
def cichy_rdms(shared_data: Path):
    """RDMs of 15 people who saw 92 images (Cichy et al. 2014)."""
    from neurometamer.rsa.compute import label_rdms

    with h5py.File(shared_data / "rdms92.h5") as file:
        matrices = {roi: file["cichy2014"][roi][...].astype(np.float64) for roi in ("EVC", "IT")}
    first, second = np.triu_indices(92, 1)
    return label_rdms(
        np.concatenate([matrices[roi][:, first, second] for roi in matrices]),
        conditions=[f"img_{i:03d}" for i in range(1, 93)],
        rdm_descriptors={
            "subject": [f"S{i:02d}" for i in range(1, 16)] * 2,
            "roi": ["EVC"] * 15 + ["IT"] * 15,
        },
        measure="1 - Pearson",
    )


@pytest.fixture(scope="session")
def squeezenet_92(shared_data: Path) -> tuple:
    """Activations of a trained SqueezeNet to the same 92 images, and the table of these."""
    import torch
    import torchvision

    from neurometamer.activations import compute_activations
    from stimuli_gen import Preprocessing, load_photographs, stage_model

    preprocessing = Preprocessing(
        size=(227, 227),
        resize=227,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    network = torchvision.models.squeezenet1_0(weights=None)
    with np.load(shared_data / "weights" / "squeezenet1_0_imagenet.npz") as weights:
        network.load_state_dict(
            {name: torch.from_numpy(weights[name].astype(np.float32)) for name in weights.files}
        )
    stages = [f"features.{i}" for i in (1, 3, 4, 5, 7, 8, 9, 10, 12)]
    model = stage_model(
        network,
        stages={stage: stage for stage in stages},
        preprocessing=preprocessing,
        name="squeezenet1_0",
        weights="imagenet",
        trained=True,
        class_names=[str(i) for i in range(1000)],
    )
    images = load_photographs(sorted((shared_data / "images92").glob("*.png")), preprocessing)
    return compute_activations(model, images), images.table


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
