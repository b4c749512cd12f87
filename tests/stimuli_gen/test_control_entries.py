"""A control image and a list of photographs are one entry of one table each."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import neurometamer as nm
from neurometamer.errors import InputError
from stimuli_gen import CONTROLS, Preprocessing, StimulusSet, control_images, load_photographs
from stimuli_gen.controls import Control
from stimuli_gen.photograph_lists import READERS, Listing

GRAY = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def darker(image, random, level, *, floor=0.0):
    """Multiply an image, and add a floor."""
    return image * level + floor


@pytest.fixture
def dimmed(monkeypatch):
    entry = Control(make=darker, help="darker", level="share", default=0.5, high=1.0)
    monkeypatch.setitem(CONTROLS, "dimmed", entry)
    return entry


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        levels = random.integers(0, 256, (240, 260, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / f"{name}.png")
    return folder


def test_every_control_says_what_it_does():
    assert all(entry.help for entry in CONTROLS.values())
    assert CONTROLS["grayscale"].settings == {"luma": "rec601"}


def test_a_control_is_one_entry(dimmed, pictures, tmp_path):
    images = np.random.default_rng(0).random((2, 3, 8, 8), dtype="float32")
    table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    photographs = StimulusSet(images=images, table=table)
    made = control_images(photographs, "dimmed")
    np.testing.assert_allclose(made.images, images / 2, rtol=1e-6)
    lifted = control_images(photographs, "dimmed", levels=1.0, floor=0.25)
    np.testing.assert_allclose(lifted.images, np.clip(images + 0.25, 0, 1), rtol=1e-6)
    with pytest.raises(InputError, match=r"level 2 of dimmed .share. must be between 0 and 1"):
        control_images(photographs, "dimmed", levels=2.0)
    with pytest.raises(InputError, match="unknown setting of dimmed 'flor'; did you mean 'floor'"):
        control_images(photographs, "dimmed", flor=1.0)
    written = nm.commands.stimuli_control(
        "dimmed", images=pictures, out=tmp_path / "out", levels=[0.5, 1.0]
    )
    assert written["id"].tolist() == ["a_dimmed-0.5", "a_dimmed-1", "b_dimmed-0.5", "b_dimmed-1"]


def test_an_unknown_control_is_told_with_the_nearest(dimmed, pictures, tmp_path):
    with pytest.raises(InputError, match="unknown control 'dimed'; did you mean 'dimmed'"):
        nm.commands.stimuli_control("dimed", images=pictures, out=tmp_path / "out")


def test_a_list_of_photographs_is_one_entry(pictures, tmp_path, monkeypatch):
    def names(path):
        files = [path.parent / name for name in path.read_text().split()]
        table = pd.DataFrame(
            {"file": pd.Series(files, dtype=object), "id": [file.stem for file in files]}
        )
        return Listing(table=table, shown=[file.name for file in files])

    monkeypatch.setitem(READERS, ".names", names)
    file = pictures / "both.names"
    file.write_text("b.png a.png")
    preprocessing = Preprocessing(size=(32, 32), resize=36, interpolation="bilinear", **GRAY)
    assert load_photographs(file, preprocessing).ids == ("b", "a")
    written = nm.commands.stimuli_control("grayscale", images=file, out=tmp_path / "out")
    assert written["reference_id"].tolist() == ["b", "a"]


def test_an_unknown_ending_is_told_with_the_nearest(pictures):
    file = pictures / "list.cvs"
    file.write_text("file\na.png\n")
    preprocessing = Preprocessing(size=(32, 32), resize=36, interpolation="bilinear", **GRAY)
    with pytest.raises(InputError, match=re.escape("'.cvs'; did you mean '.csv'")):
        load_photographs(file, preprocessing)
