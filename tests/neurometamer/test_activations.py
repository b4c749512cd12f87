"""Activations: the same numbers in any company and order, on disk and in memory; clear errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from neurometamer.activations import Activations, compute_activations, read_activations
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.store import write_hdf5
from stimuli_gen.models import stage_model
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.stimuli import StimulusSet

STAGES = {"one/conv": "0", "one/relu": "1", "two": "3", "out": "6", "softmax": "softmax"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 5, stride=2),
        torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(24, 32, 3),
        torch.nn.ReLU(inplace=True),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 10),
    )
    gray = Preprocessing(
        size=(48, 48), resize=48, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    return stage_model(
        network,
        stages=STAGES,
        preprocessing=gray,
        class_names=[f"c{i}" for i in range(10)],
        name="tiny",
        weights="random",
        trained=False,
    )


def images(n: int, seed: int = 0) -> StimulusSet:
    ids = [f"im{i:02d}" for i in range(n)]
    pixels = np.random.default_rng(seed).random((n, 3, 48, 48), dtype=np.float32)
    return StimulusSet(
        images=pixels, table=pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    )


def test_values_are_the_networks_own(model):
    stimuli = images(5)
    activations = compute_activations(model, stimuli, run=RunOptions(batch_size=4))
    with torch.no_grad():
        normalized = (torch.from_numpy(stimuli.images) - 0.5) / 0.5
        conv = model.network[0](normalized)
        out = model.network(normalized)
    assert activations.stages == tuple(STAGES)
    # another batch size: float32 sums in another order
    np.testing.assert_allclose(
        activations.read("one/conv"), conv.flatten(1).numpy(), atol=1e-5
    )  # not yet rectified in place
    np.testing.assert_allclose(activations.read("softmax"), out.softmax(1).numpy(), atol=1e-6)
    assert activations.read("one/conv").min() < 0 <= activations.read("one/relu").min()
    assert activations.n_units["two"] == activations.read("two").shape[1] == 32 * 20 * 20


def test_an_image_does_not_depend_on_its_companions(model):
    stimuli = images(11)
    together = compute_activations(model, stimuli, run=RunOptions(batch_size=4))
    order = ["im09", "im02", "im10", "im00", "im05"]
    some = compute_activations(model, stimuli.select(ids=order), run=RunOptions(batch_size=4))
    alone = compute_activations(model, stimuli.select(ids=["im10"]), run=RunOptions(batch_size=4))
    for stage in together.stages:
        rows = together.read(stage)
        assert np.array_equal(some.read(stage), rows[[int(name[2:]) for name in order]])
        assert np.array_equal(alone.read(stage), rows[[10]])


def test_disk_equals_memory_and_is_not_computed_twice(model, tmp_path):
    stimuli, path, seen = images(6), tmp_path / "a.h5", []
    stored = compute_activations(
        model,
        stimuli,
        path=path,
        run=RunOptions(progress=lambda done, total: seen.append((done, total))),
    )
    memory = compute_activations(model, stimuli)
    assert seen == [(6, 6)]
    assert stored.ids == memory.ids == stimuli.ids
    assert stored.provenance == memory.provenance
    for stage in STAGES:
        assert np.array_equal(stored.read(stage), memory.read(stage))
        assert stored.read(stage).dtype == np.float32
    again = compute_activations(
        model, stimuli, path=path, run=RunOptions(progress=lambda *_: pytest.fail("computed again"))
    )
    assert again.n_units == memory.n_units
    compute_activations(model, images(6, seed=1), path=path)  # other images: made anew
    assert not np.array_equal(read_activations(path).read("two"), memory.read("two"))


def test_damaged_responses_are_computed_again(model, tmp_path, caplog):
    stimuli, path = images(6), tmp_path / "a.h5"
    compute_activations(model, stimuli, path=path)
    contents = path.read_bytes()
    for damaged in (contents[:-1], contents[:3000] + b"x" + contents[3001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.h5 is damaged"):
            read_activations(path)
        compute_activations(model, stimuli, path=path)
        assert path.read_bytes() == contents
    assert "a.h5 is damaged" in caplog.text


def test_stages_stay_in_the_networks_order(model):
    activations = compute_activations(model, images(2), stages=["two", "one/conv"])
    assert activations.stages == ("one/conv", "two")
    with pytest.raises(InputError, match="unknown stage 'out'"):
        activations.read("out")


def test_nothing_is_left_behind_or_written_over(model, tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_activations(model, images(3), path=tmp_path / "a.h5", run=RunOptions(progress=stop))
    assert not list(tmp_path.iterdir())
    other = write_hdf5(tmp_path / "mine.h5", arrays={"x": np.zeros(3)})
    with pytest.raises(InputError, match="does not hold activations"):
        compute_activations(model, images(3), path=other)
    with pytest.raises(InputError, match="unknown stage of tiny 'tow'; did you mean 'two'"):
        compute_activations(model, images(3), stages=["tow"])
    with pytest.raises(InputError, match="shape"):
        Activations(ids=("a",), stages=("s",), n_units={"s": 2}, arrays={"s": np.zeros((2, 2))})
