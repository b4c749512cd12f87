"""RDMs straight from the forward pass: the same numbers, little memory, no scratch file left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import neurometamer.rsa.measures as measures
import neurometamer.rsa.streaming as streaming
from neurometamer.activations import Activations, compute_activations
from neurometamer.errors import InputError
from neurometamer.rsa.compute import activation_rdms, compute_rdm, read_rdms
from neurometamer.rsa.measures import MEASURES
from neurometamer.rsa.streaming import RowFile, streamed_rdms
from neurometamer.run_options import RunOptions
from stimuli_gen.models import stage_model
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.stimuli import StimulusSet

PLAIN = [name for name, measure in MEASURES.items() if not measure.needs]


def images(n=11, side=16) -> StimulusSet:
    values = np.random.default_rng(0).random((n, 3, side, side), dtype=np.float32)
    names = [f"img{i}" for i in range(n)]
    table = pd.DataFrame({"id": names, "kind": "RE", "reference_id": names})
    return StimulusSet(images=values, table=table)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 30, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(1920, 12),
        nn.ReLU(),
    )
    return stage_model(
        layers,
        stages={"conv": "0", "relu": "1", "pool": "2", "late": "5"},
        name="tiny",
        weights="none",
        trained=False,
        class_names=[f"c{i}" for i in range(12)],
        preprocessing=Preprocessing(
            size=(16, 16),
            resize=16,
            interpolation="bilinear",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )


@pytest.mark.parametrize("name", PLAIN)
def test_streamed_rdms_are_those_of_the_whole_to_the_last_bit(network, tmp_path, name):
    stimuli, stages = images(), ["late", "relu", "pool"]
    in_memory = activation_rdms(
        compute_activations(network, stimuli, stages=stages), stimuli.table, measure=name
    )
    done_counts = []
    streamed = streamed_rdms(
        network,
        stimuli,
        stages=stages,
        measure=name,
        scratch=tmp_path,
        run=RunOptions(progress=lambda done, all: done_counts.append(done)),
    )
    assert np.array_equal(streamed.dissimilarities, in_memory.dissimilarities)
    assert streamed.rdm_descriptors == in_memory.rdm_descriptors
    assert streamed.rdm_descriptors["stage"] == ["relu", "pool", "late"]
    assert streamed.pattern_descriptors == in_memory.pattern_descriptors
    assert streamed.descriptors == in_memory.descriptors
    assert done_counts[-1] == 11
    assert not list(tmp_path.iterdir())


def test_rows_on_disk_are_cut_like_an_array(tmp_path):
    values = np.random.default_rng(0).random((5, 33)).astype(np.float32)
    with RowFile(tmp_path / "rows", values.shape, values.dtype) as rows:
        for i in (3, 0, 4, 2, 1):
            rows.write(i, values[i])
        for cut in (slice(0, 33), slice(5, 12), slice(30, 99)):
            assert np.array_equal(rows[:, cut], values[:, cut])
        assert np.array_equal(rows[1:3, 2:4], values[1:3, 2:4])
        os.truncate(tmp_path / "rows", 10)
        with pytest.raises(OSError, match="ends before row"):
            rows[:, 0:3]


@pytest.mark.parametrize("name", PLAIN)
def test_unit_blocks_give_the_number_of_one_pass(network, monkeypatch, name):
    stimuli = images()
    at_once = streamed_rdms(network, stimuli, stages=["relu"], measure=name).dissimilarities
    for chunk in (13, 10**6):
        monkeypatch.setattr(measures, "CHUNK", chunk)
        part = streamed_rdms(network, stimuli, stages=["relu"], measure=name).dissimilarities
        np.testing.assert_allclose(part, at_once, rtol=1e-12, atol=1e-12)


def test_float32_products_from_disk_are_those_from_memory(network, monkeypatch):
    monkeypatch.setattr(measures, "FAST_PRODUCTS", 0)
    stimuli = images()
    values = compute_activations(network, stimuli, stages=["relu"]).read("relu")
    for name in ("spearman", "pearson", "cosine"):
        assert np.array_equal(
            streamed_rdms(network, stimuli, stages=["relu"], measure=name).dissimilarities[0],
            compute_rdm(values, name),
        )


def test_errors_name_stage_and_ids_and_leave_no_file(network, tmp_path, monkeypatch):
    stimuli = images()
    with pytest.raises(InputError, match="negative values for img0"):
        streamed_rdms(network, stimuli, stages=["conv"], measure="poisson", scratch=tmp_path)
    with pytest.raises(InputError, match="crossnobis needs repeated presentations"):
        streamed_rdms(network, stimuli, measure="crossnobis", scratch=tmp_path)
    with pytest.raises(InputError, match=r"3 condition\(s\).*at least 4"):
        streamed_rdms(network, stimuli.select(ids=["img0", "img1", "img2"]), scratch=tmp_path)
    with pytest.raises(InputError, match="unknown stage of tiny 'relu9'"):
        streamed_rdms(network, stimuli, stages=["relu9"], scratch=tmp_path)
    with torch.no_grad():
        before = network.network[4].bias.clone()
        network.network[4].bias.fill_(-1e3)
    with pytest.raises(InputError, match="stage 'late': all values are equal for img0, img1, img2"):
        streamed_rdms(network, stimuli, scratch=tmp_path)
    with torch.no_grad():
        network.network[4].bias.copy_(before)
    monkeypatch.setattr(
        streaming.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})()
    )
    with pytest.raises(
        InputError, match=r"of scratch space, .* has 0\.0; give another scratch folder"
    ):
        streamed_rdms(network, stimuli, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_large_layer_never_sits_in_memory(tmp_path):
    """60 images × 400,000 units: 96 MB of float32; a fifth of that is held."""
    program = """
import sys, numpy as np, pandas as pd
from benchmarks.memory import _settle, _status
from neurometamer.rsa.measures import MEASURES, RowRange
from neurometamer.rsa.streaming import _Stage
from pathlib import Path
import rsatoolbox.rdm
stage = _Stage(Path(sys.argv[1]) / "rows", (60, 400_000), MEASURES[sys.argv[2]])
random = np.random.default_rng(0)
random.random((100, 100)) @ random.random((100, 100))
_settle()
before = _status("VmRSS")
for i in range(60):
    stage[i : i + 1] = np.maximum(random.standard_normal((1, 400_000), dtype=np.float32), 0)
stage.finish([str(i) for i in range(60)], "x")
print(_status("VmHWM") - before)
"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("peak memory is read from /proc")
    root = str(Path(__file__).resolve().parents[2])
    for name in ("spearman", "pearson"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), name],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([root, *sys.path]), "OMP_NUM_THREADS": "1"},
        )
        assert float(done.stdout) < 40


def test_the_command_takes_every_measure_and_says_so(tmp_path, invoke):
    shown = invoke(["rdm", "--help"]).output
    assert all(name in shown for name in MEASURES)
    names = [f"i{k}" for k in range(5)]
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in names:
        Image.fromarray(random.integers(0, 255, (230, 230, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    base = [
        "rdm",
        "--model",
        "alexnet",
        "--weights",
        "random",
        "--images",
        str(folder),
        "--stages",
        "relu5",
    ]
    done = invoke([*base, "--measure", "squared-euclidean", "--out", str(tmp_path / "x.h5")])
    assert done.exit_code == 0, done.output
    rdms = read_rdms(tmp_path / "x.h5")
    assert rdms.dissimilarity_measure == "squared Euclidean"
    assert sorted(rdms.pattern_descriptors["condition"]) == names
    bad = invoke([*base, "--measure", "crossnobis", "--out", str(tmp_path / "y.h5")])
    assert bad.exit_code != 0 and not (tmp_path / "y.h5").exists()


def test_activations_in_another_order_give_the_same_rdms(network):
    stimuli = images()
    in_order = compute_activations(network, stimuli, stages=["relu"])
    order = np.random.default_rng(1).permutation(len(stimuli))
    mixed = Activations(
        ids=tuple(np.array(stimuli.ids)[order]),
        stages=("relu",),
        n_units=in_order.n_units,
        arrays={"relu": in_order.read("relu")[order]},
        provenance=in_order.provenance,
    )
    dissimilarities = activation_rdms(mixed, stimuli.table, measure="cosine").dissimilarities
    assert np.array_equal(
        dissimilarities,
        streamed_rdms(network, stimuli, stages=["relu"], measure="cosine").dissimilarities,
    )
