"""Networks of one's own in a study: every path is meant from the study file or the TOML file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from neurometamer import check_study, run_study
from neurometamer.errors import InputError
from neurometamer.store import read_table
from neurometamer.zoo import load_model
from neurometamer.zoo.sources import own_files

NETWORK = """
from torch import nn


def tiny(width=4):
    layers = [nn.Conv2d(3, width, 3, 2), nn.ReLU(), nn.Conv2d(width, 6, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 11 * 11, 5))
"""
BASE = """
import = "network.py:tiny"
size = 48
stages = ["1", "3"]
weights = "weights.pth"
"""
STUDY = """
[images]
ready = "photographs"
[model]
name = "networks/mine.toml"
[metamers]
sets = [["networks/mine.toml"]]
evaluators = ["networks/base.toml"]
stage = "networks/mine.toml=3"
steps = 3
null_pairs = 0
[brain]
source = "none"
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with its networks in a folder of it; the working folder is another one."""
    here = tmp_path / "study"
    (here / "networks").mkdir(parents=True)
    (here / "networks" / "network.py").write_text(NETWORK)
    (here / "networks" / "base.toml").write_text(BASE)
    (here / "networks" / "mine.toml").write_text('like = "base.toml"\nname = "mine"\n')
    (here / "study.toml").write_text(STUDY)
    (here / "photographs").mkdir()
    random = np.random.default_rng(0)
    for name in ("cat", "cup", "dog", "hat", "pig"):
        blocks = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(np.kron(blocks, np.ones((10, 10, 1), np.uint8)))
        picture.save(here / "photographs" / f"{name}.png")
    base = here / "networks" / "base.toml"
    state = load_model(str(base), weights="random", seed=3, device="cpu").network.state_dict()
    torch.save(state, here / "networks" / "weights.pth")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return here / "study.toml"


def test_a_study_finds_its_networks_from_any_working_folder(study, tmp_path):
    assert [problem for problem in check_study(study) if problem.kind == "error"] == []
    out = tmp_path / "out"
    run_study(study, out)
    table = read_table(out / "metamers" / "networks_mine" / "stimuli.csv")
    assert table.loc[table["kind"] == "metamer", "model"].unique().tolist() == ["mine"]
    said = read_table(out / "tables" / "metamers.csv")
    assert said["evaluator"].unique().tolist() == ["base"]
    activations = out / ".state" / "activations.h5"
    before = activations.stat().st_mtime_ns
    run_study(study, out)
    assert activations.stat().st_mtime_ns == before  # nothing changed
    networks = study.parent / "networks"
    (networks / "base.toml").write_text(BASE + "mean = [0.5, 0.5, 0.5]\n")
    run_study(study, out)
    assert activations.stat().st_mtime_ns > before  # the other TOML file counts, too


def test_the_files_of_an_own_network_are_listed(study):
    networks = study.parent / "networks"
    files = own_files(str(networks / "mine.toml"))
    names = ["mine.toml", "base.toml", "network.py", "weights.pth"]
    assert [file.name for file in files] == names
    assert own_files("resnet50") == own_files("timm:resnet10t") == []
    assert own_files(f"{networks / 'mine.toml'}_grey") == files


def test_lost_networks_of_a_study_are_told_before_any_work(study):
    study.write_text(STUDY.replace("mine.toml", "mein.toml"))
    messages = [problem.message for problem in check_study(study)]
    assert any("networks/mein.toml does not exist (looked for" in text for text in messages)
    study.write_text(STUDY)
    (study.parent / "networks" / "mine.toml").write_text('like = "bsae.toml"\n')
    with pytest.raises(InputError, match=r"networks/bsae\.toml does not exist"):
        load_model(str(study.parent / "networks" / "mine.toml"), device="cpu")
