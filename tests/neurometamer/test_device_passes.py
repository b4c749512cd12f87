"""Passes and trainings on a device that is not the CPU, and how exactly they are computed.

No GPU is at hand where these tests run: `device_passes` counts, on a pretended device, what crosses
between host and device; `torch_settings` tests TF32 on torch's settings, which are there without a
GPU. Both change what holds for a whole process.
"""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import neurometamer as nm
import stimuli_gen as sg
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.study.settings import check_settings
from stimuli_gen.batches import arithmetic, gradients_on, host_batches, rows_in_batches
from stimuli_gen.precision import exact_passes
from stimuli_gen.stored_images import ImagesOnDisk
from tests.helpers.pretended_device import run_alone

HERE = Path(__file__).parent
CPU = torch.device("cpu")


@pytest.mark.parametrize("checks", ["device_passes.py", "torch_settings.py"])
def test_in_a_process_of_its_own(checks):
    ended = run_alone(HERE / checks)
    assert ended.returncode == 0, ended.stdout + ended.stderr


# -------------------------------------------------------------------------------------- exactness


class Telling(nn.Module):
    """A network that notes how it is computed."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 2)
        self.told = []

    def forward(self, images):
        self.told.append((torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")))
        return self.layer(images.flatten(1))


def telling_model():
    size = sg.Preprocessing(
        size=(8, 8), resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
    )
    return sg.stage_model(Telling(), stages={"out": "layer"}, preprocessing=size)


def test_passes_and_gradients_are_exact_whatever_is_around_them():
    model = telling_model()
    images = np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32)
    expected = sg.predict(model, images)
    model.network.told.clear()
    assert torch.backends.cudnn.allow_tf32  # as torch is set at its start
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(sg.predict(model, images), expected)
    assert model.network.told == [(False, False)]
    with torch.autocast("cpu"), gradients_on():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.is_autocast_enabled("cpu")
    with exact_passes():
        assert not torch.is_grad_enabled()
    assert torch.backends.cudnn.allow_tf32
    assert arithmetic(CPU) == {"device": "cpu"}
    assert arithmetic(torch.device("cuda:1")) == {"device": "cuda", "tf32": False}


# ------------------------------------------------------------------------------------ reading ahead


@dataclass(frozen=True, kw_only=True)
class Watched(ImagesOnDisk):
    """Images whose reading can be waited for."""

    reads: list
    begun: threading.Event

    def _read(self, rows):
        self.reads.append(rows.tolist())
        if len(self.reads) == 2:
            self.begun.set()
        return np.repeat(rows.astype(np.float32), 3).reshape(-1, 3, 1, 1)


def test_the_next_batch_is_read_while_one_is_computed():
    images = Watched(shape=(10, 3, 1, 1), reads=[], begun=threading.Event())

    def run(batch):
        assert images.begun.wait(20)  # the second is being read while the first is computed
        return batch.flatten(1)[:, 0]

    values = rows_in_batches(run, images, 4, CPU)
    assert values.tolist() == list(range(10))
    assert images.reads == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_what_cannot_be_read_is_told_and_nothing_is_left_behind():
    @dataclass(frozen=True, kw_only=True)
    class Broken(ImagesOnDisk):
        def _read(self, rows):
            if rows[0] == 4:
                raise InputError("im4.png is damaged")
            return np.zeros((len(rows), 3, 1, 1), np.float32)

    n_threads = threading.active_count()
    images = Broken(shape=(10, 3, 1, 1))
    batches = host_batches(lambda batch: batch, images, 4, CPU)
    rows, _ = next(batches)
    assert rows == slice(0, 4)
    with pytest.raises(InputError, match=r"im4.png is damaged"):
        next(batches)
    assert threading.active_count() == n_threads
    with pytest.raises(InputError, match="there are 0 images"):
        rows_in_batches(lambda batch: batch, np.zeros((0, 3, 1, 1), np.float32), 4, CPU)


def test_batches_of_images_in_inference_mode():
    images = Watched(shape=(10, 3, 1, 1), reads=[], begun=threading.Event())
    with torch.inference_mode():
        values = rows_in_batches(lambda batch: batch.flatten(1)[:, 0], images, 4, CPU)
    assert values.tolist() == list(range(10))


# --------------------------------------------------------------------------------------- devices


def test_unknown_devices_are_refused_before_work(invoke, tmp_path):
    for make in (
        lambda: RunOptions(device="gpu"),
        lambda: check_settings({"run": {"device": "gpu"}}),
        lambda: nm.load_model("alexnet", weights="random", device="gpu"),
    ):
        with pytest.raises(InputError, match=r"unknown device 'gpu'"):
            make()
    done = invoke(["rdm", "--device", "cuda:x", "--out", str(tmp_path / "x.h5")])
    assert "unknown value of --device 'cuda:x'" in str(done.exception)
    for device in ("cuda:1", "xpu", "mps:0"):
        assert RunOptions(device=device).device == device
        with pytest.raises(InputError, match=f"device '{device}' is not available"):
            sg.resolve_device(device)
