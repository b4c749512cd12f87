"""Sets too large for the memory: read when needed, with the numbers of a set that is held."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer.activations import compute_activations
from neurometamer.errors import InputError
from neurometamer.provenance import digest
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    StimulusSet,
    adversarial_interference,
    adversarial_noise,
    concat_stimuli,
    control_images,
    load_photographs,
    model_metamers,
    predict,
    read_stimuli,
    stage_model,
    write_stimuli,
)
from stimuli_gen.photographs import PhotographFiles
from stimuli_gen.stored_images import (
    ImagesOnDisk,
    JoinedImages,
    StoredImages,
    digest_levels,
    from_8bit,
    to_8bit,
)

SEES = Preprocessing(
    size=(16, 16), resize=18, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for number in range(70):  # more than a block
        levels = rng.integers(0, 256, (20 + number % 5, 24, 3), dtype=np.uint8)
        Image.fromarray(levels).save(tmp_path / "in" / f"{number:02d}.png")
    return tmp_path / "in"


@pytest.fixture
def small(monkeypatch):
    """Say that nothing is small enough to be held."""

    def limit(size):
        for module in ("photographs", "stored_images", "stimuli"):
            monkeypatch.setattr(f"stimuli_gen.{module}.LARGEST_IN_MEMORY", size)

    return limit


@pytest.fixture
def both(files, small):
    held = load_photographs(files, SEES)
    small(1000)
    return held, load_photographs(files, SEES)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)
        )
    names = [f"class {number}" for number in range(10)]
    return stage_model(
        layers,
        stages={"conv": "0", "relu": "1"},
        preprocessing=SEES,
        class_names=names,
        name="small",
        weights="random",
        trained=False,
    )


def test_a_large_set_has_the_numbers_of_one_that_is_held(both, tmp_path):
    held, stored = both
    assert isinstance(held.images, np.ndarray) and isinstance(stored.images, PhotographFiles)
    assert stored.digest == held.digest and stored.provenance == held.provenance
    assert (
        digest_levels(stored.images) == digest_levels(held.images) == digest(to_8bit(held.images))
    )
    np.testing.assert_array_equal(np.asarray(stored.as_shown().images), held.images)
    model = network()
    np.testing.assert_array_equal(predict(model, stored.images), predict(model, held.images))
    ours, theirs = (
        compute_activations(model, images_of, stages=["conv"]).read("conv")
        for images_of in (stored, held)
    )
    np.testing.assert_array_equal(ours, theirs)
    write_stimuli(stored, tmp_path / "stored")
    write_stimuli(held, tmp_path / "held")
    for name in ("stimuli.csv", "contact_sheet.png", "provenance.json", "png/69.png"):
        assert (tmp_path / "stored" / name).read_bytes() == (tmp_path / "held" / name).read_bytes()
    back = read_stimuli(tmp_path / "stored", in_memory=None)
    assert isinstance(back.images, StoredImages) and back.digest == held.digest


@pytest.mark.parametrize(
    "make",
    [
        lambda photographs: control_images(photographs, "blur"),
        lambda photographs: adversarial_noise(network(), photographs, target=3, max_steps=2),
        lambda photographs: model_metamers(
            network(), photographs, stage="conv", preset="fast", steps=2
        ),
    ],
    ids=["control", "noise", "metamer"],
)
def test_what_is_made_of_a_large_set_is_the_same(both, make):
    held, stored = (stimuli.select(ids=["03", "69", "00"]) for stimuli in both)
    assert make(stored).digest == make(held).digest


def test_images_on_disk_are_indexed_as_arrays(both):
    held, stored = (stimuli.images for stimuli in both)
    assert (stored.shape, stored.dtype, stored.ndim, len(stored)) == (
        held.shape,
        held.dtype,
        held.ndim,
        len(held),
    )
    indices = [
        3,
        -1,
        np.int64(2),
        slice(5, 9),
        slice(None, None, -7),
        [4, 4, 0],
        [],
        np.arange(70) > 66,
        (0, slice(None), 2, 3),
        (slice(2, 4), 1),
        (slice(None), 0, 5),
        ...,
        (..., 0),
    ]
    for index in indices:
        np.testing.assert_array_equal(stored[index], held[index])
    np.testing.assert_array_equal(np.stack(list(stored)), held)
    assert (stored.min(), stored.max()) == (held.min(), held.max())
    with pytest.raises(IndexError):
        stored[70]
    chosen = stored.take([5, 60, 5]).take([2, 1])
    np.testing.assert_array_equal(np.asarray(chosen), held[[5, 60]])


def test_large_sets_are_put_together_where_they_are(both, tmp_path):
    held, stored = both
    made = control_images(held.select(ids=["00", "01"]), "grayscale")
    joined = concat_stimuli([stored, made])
    assert isinstance(joined.images, JoinedImages)
    assert joined.digest == concat_stimuli([held, made]).digest
    np.testing.assert_array_equal(
        joined.images[[71, 0, 70]], np.stack([made.images[1], held.images[0], made.images[0]])
    )
    write_stimuli(joined, tmp_path / "out")
    assert read_stimuli(tmp_path / "out").digest == joined.digest


def test_a_file_that_changes_or_goes_is_told(both, files):
    _, stored = both
    Image.new("RGB", (20, 24)).save(files / "00.png")
    with pytest.raises(
        InputError, match=r"00\.png has changed since it was loaded; load the photographs again"
    ):
        _ = stored.images[0]
    (files / "01.png").unlink()
    with pytest.raises(InputError, match=r"cannot use the image 01\.png: it does not exist"):
        _ = stored.images[1]


def test_few_images_are_held(files):
    assert not isinstance(load_photographs(files, SEES).images, ImagesOnDisk)


MANY = """
import sys
from pathlib import Path
import numpy as np
from neurometamer.activations import compute_activations
from neurometamer.zoo import load_model
from stimuli_gen import load_photographs
from stimuli_gen.stimuli import write_records

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1e6

model = load_model("squeezenet1_0", weights="random", device="cpu")
before = peak()
photographs = load_photographs(Path(sys.argv[1]) / "in", model.preprocessing)
photographs.digest
loaded = peak()
some = photographs.select(ids=photographs.ids[::100])
path = Path(sys.argv[1]) / "activations.h5"
compute_activations(model, some, stages=list(model.stages)[-1:], path=path)
write_records(photographs.select(ids=photographs.ids[:2000]), Path(sys.argv[1]) / "out")
print(photographs.images.shape[0], before, loaded, peak())
"""


@pytest.mark.slow
def test_ten_thousand_photographs_take_less_than_a_gigabyte(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    coarse = [
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)) for _ in range(100)
    ]
    for number in range(10_000):
        coarse[number % 100].resize((256, 256)).rotate(number // 100).save(
            tmp_path / "in" / f"{number}.jpg"
        )
    ran = subprocess.run(
        [sys.executable, "-c", MANY, tmp_path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    n_images, before, loaded, written = map(float, ran.stdout.split())
    print(f"GB: {before} with the network, {loaded} when loaded, {written} when written")
    assert n_images == 10_000
    assert loaded < 1 and written < 1


# -------------------------------------------------------------------------------------- made images


def test_making_many_images_holds_them_about_twice():
    plain = Preprocessing(
        size=(64, 64), resize=64, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 4, 9, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 4),
    ]
    model = stage_model(
        nn.Sequential(*layers),
        stages={"relu": "1"},
        preprocessing=plain,
        class_names=list("abcd"),
        name="tiny",
        weights="random",
        trained=False,
    )
    ids = [f"im{number}" for number in range(300)]
    images = np.random.default_rng(0).random((len(ids), 3, 64, 64), dtype=np.float32)
    table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids, "category": ""})
    photographs = StimulusSet(images=images, table=table)
    tracemalloc.start()
    try:
        made = adversarial_interference(
            model, photographs, max_steps=1, run=RunOptions(batch_size=64)
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (
        made.images.nbytes < peak < 2.7 * made.images.nbytes
    )  # 4.5 when every part was held whole
    levels = to_8bit(images)
    np.testing.assert_array_equal(levels, np.rint(images * np.float32(255)).astype(np.uint8))
    np.testing.assert_array_equal(from_8bit(levels), levels.astype(np.float32) / np.float32(255))
