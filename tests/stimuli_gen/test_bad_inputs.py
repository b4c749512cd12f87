"""Test what goes wrong while images are made.

Errors are clear, finished images are kept, and the next run continues from them.
"""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer.commands.metamers import stimuli_metamer
from neurometamer.commands.stimuli import make_stimuli
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.store import _Sink, read_table
from stimuli_gen import (
    Preprocessing,
    adversarial_interference,
    adversarial_noise,
    attack_images,
    greedy_interference,
    load_photographs,
    model_metamers,
    packaged_photographs,
    stage_model,
)

IDS = ["cat", "coffee", "rocket"]
SEES = Preprocessing(
    size=(32, 32), resize=32, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)
GENERATORS = {
    "AN": partial(adversarial_noise, max_steps=4, confidence=0.999),
    "AI": partial(
        adversarial_interference, target=7, max_steps=4, confidence=0.999, step_size=0.01
    ),
    "greedy": partial(greedy_interference, target=7, max_tries=4, confidence=0.999),
    "PGD": partial(attack_images, steps=4),
    "metamer": partial(model_metamers, stage="conv", preset="fast", steps=4),
}
"""None of these reaches its criterion, so each image takes all its four steps."""


def maker(generator):
    """Let a generator take what is of the run by name."""

    def make(*args, **options):
        run = {
            name: options.pop(name)
            for name in ("batch_size", "resume", "progress")
            if name in options
        }
        return generator(*args, run=RunOptions(**run), **options)

    return make


MAKERS = {kind: maker(generator) for kind, generator in GENERATORS.items()}


class Network(nn.Module):
    """A small network whose arithmetic can break.

    Output row `bad_row` is NaN from call `breaks_at` on.
    """

    def __init__(self, cut="none"):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 5, stride=3)
            self.stage, self.relu = nn.Identity(), nn.ReLU()
            self.head = nn.Linear(8 * 10 * 10, 10)
        self.cut, self.breaks_at, self.bad_row, self.calls = cut, None, 0, 0

    def forward(self, images):
        self.calls += 1
        response = self.conv(images)
        if self.breaks_at is not None and self.calls >= self.breaks_at:
            broken = torch.zeros(len(response))
            broken[self.bad_row] = torch.nan
            response = response + broken[:, None, None, None]
        # another way from image to output, so that check_model finds nothing wrong with what is cut
        # off
        response = self.stage(
            {"none": response, "detach": response.detach(), "round": response.round()}[self.cut]
        )
        return self.head(self.relu(response).flatten(1) + images.mean(dim=(1, 2, 3))[:, None])


def staged(cut="none"):
    return stage_model(
        Network(cut),
        stages={"conv": "stage", "head": "head"},
        preprocessing=SEES,
        name="small",
        weights="random",
        class_names=[f"class {i}" for i in range(10)],
        trained=False,
    )


@pytest.fixture(scope="module")
def pictures():
    return packaged_photographs(SEES).select(ids=IDS)


# ------------------------------------------------------------------------------------- not a number


@pytest.mark.parametrize("kind", MAKERS)
def test_nan_in_the_middle_of_a_run_names_the_image_and_keeps_the_finished_ones(
    kind, pictures, tmp_path
):
    make = partial(MAKERS[kind], batch_size=1, seed=1)
    whole_network = staged()
    whole_network.network.calls = 0
    at = []
    uninterrupted = make(
        whole_network, pictures, progress=lambda done, total: at.append(whole_network.network.calls)
    )
    model = staged()
    model.network.calls, model.network.breaks_at = 0, at[0] + 3  # in the second image's descent
    with pytest.raises(
        InputError, match=rf"'{IDS[1]}' is (nan|not a number) at (step|try) [1-9].*images are kept"
    ):
        make(model, pictures, resume=tmp_path)
    kept = sorted(file for file in tmp_path.iterdir() if not file.name.endswith(".state.h5"))
    assert len(kept) == 1  # the first image
    stamp = kept[0].stat().st_mtime_ns
    model.network.breaks_at = None  # mended; the weights are the same
    heard = []
    resumed = make(model, pictures, resume=tmp_path, progress=lambda *counts: heard.append(counts))
    assert heard[0] == (1, 3) and heard[-1] == (3, 3)
    assert resumed.digest == uninterrupted.digest
    assert kept[0].stat().st_mtime_ns == stamp  # not made again


@pytest.mark.parametrize("kind", MAKERS)
def test_nan_of_one_image_of_a_batch_is_told_of_that_image(kind, pictures):
    model = staged()
    model.network.bad_row = 1
    calls = []
    MAKERS[kind](
        model, pictures, batch_size=3, progress=lambda *counts: calls.append(model.network.calls)
    )
    begun = staged()
    begun.network.bad_row, begun.network.breaks_at = (
        1,
        calls[0] - 5,
    )  # before all three are finished
    with pytest.raises(InputError, match=r"'coffee' is (nan|not a number)"):
        MAKERS[kind](begun, pictures, batch_size=3)


@pytest.mark.parametrize("kind", MAKERS)
def test_weights_that_became_nan_are_refused_before_anything_is_kept(kind, pictures, tmp_path):
    model = staged()
    model.network.conv.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"not finite|is nan at step 0|not a number at try 0"):
        MAKERS[kind](model, pictures, resume=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make", [partial(make_stimuli, "noise"), partial(stimuli_metamer, stage="early")]
)
def test_a_weights_file_with_nan_is_refused_by_name(make, tmp_path):
    from torchvision.models import squeezenet1_0

    network = squeezenet1_0(weights=None)
    network.classifier[1].bias.data[3] = torch.nan
    torch.save(network.state_dict(), tmp_path / "damaged.pth")
    Image.new("RGB", (300, 300)).save(tmp_path / "gray.png")
    network = (
        {"model": "squeezenet1_0"} if make.func is make_stimuli else {"models": "squeezenet1_0"}
    )
    requests = {
        "images": tmp_path / "gray.png",
        "out": tmp_path / "out",
        "run": RunOptions(device="cpu"),
        **network,
    }
    with pytest.raises(
        InputError, match=r"weights that are not finite \(classifier\.1\.bias, 1 in all\)"
    ):
        make(weights=str(tmp_path / "damaged.pth"), **requests)
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------- what cannot be reached or seen


@pytest.mark.parametrize(
    ("cut", "why"), [("detach", "detach"), ("round", "zero everywhere for 'cat'")]
)
def test_a_stage_that_gradients_cannot_reach_is_named(cut, why, pictures, tmp_path):
    """The network as a whole is fine: its gradient reaches the image another way."""
    model = staged(cut)
    with pytest.raises(
        InputError,
        match=rf"small: conv: no gradient reaches the image \(.*{why}.*match another stage",
    ):
        model_metamers(
            model,
            pictures,
            stage=["conv", "head"],
            preset="fast",
            steps=2,
            run=RunOptions(resume=tmp_path),
        )
    assert not list(tmp_path.iterdir())
    made = model_metamers(model, pictures, stage="head", preset="fast", steps=2)
    assert (made.table["steps"] == 2).all()


@pytest.mark.parametrize("kind", ["AN", "AI", "greedy", "PGD"])
@pytest.mark.parametrize("target", [10, -1, "class 10", {"cat": 3, "coffee": 4, "rocket": 10.0}])
def test_a_class_out_of_range_is_refused_before_anything_is_kept(kind, target, pictures, tmp_path):
    with pytest.raises(
        InputError, match=r"out of range; small has the classes 0 to 9|index from 0 to 9"
    ):
        MAKERS[kind](staged(), pictures, target=target, resume=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", MAKERS)
def test_images_smaller_than_the_input_are_refused(kind, tmp_path):
    less = Preprocessing(
        size=(20, 24), resize=24, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    with pytest.raises(
        InputError, match=r"are \(20, 24\) pixels, small sees \(32, 32\); load them with its"
    ):
        MAKERS[kind](staged(), packaged_photographs(less).select(ids=IDS), resume=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_photograph_with_fewer_pixels_than_the_input_is_told(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (40, 25, 3), dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "thin.png")
    Image.fromarray(levels[:31].repeat(2, axis=1)).convert("L").save(tmp_path / "flat.png")
    Image.fromarray(levels.repeat(2, axis=1)).save(tmp_path / "enough.png")
    notes = load_photographs(tmp_path, SEES).table.set_index("id")["note"]
    assert notes["thin"] == "enlarged: only 25 x 40 pixels"
    assert notes["flat"] == "gray converted to RGB; enlarged: only 50 x 31 pixels"
    assert notes["enough"] == ""


# -------------------------------------------------------------------------------------- a full disk

FULL = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from test_bad_inputs import IDS, MAKERS, SEES, packaged_photographs, staged

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def fill(done, total):
    if done == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, hard))  # longer files are refused

for kind in sys.argv[3:]:
    try:
        MAKERS[kind](
            staged(), packaged_photographs(SEES).select(ids=IDS), batch_size=1, seed=1,
            resume=sys.argv[2] + "/" + kind, progress=fill,
        )
    except OSError as error:
        print(error.errno)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
"""


def test_a_disk_that_fills_up_keeps_what_is_finished(pictures, tmp_path, request):
    """In a process of its own, where the system refuses to write after the first image."""
    command = [sys.executable, "-c", FULL, request.path.parent, tmp_path, *MAKERS]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (
        0,
        [str(errno.EFBIG)] * len(MAKERS),
        "",
    )
    for kind in MAKERS:
        kept = list((tmp_path / kind).rglob("*"))
        assert len(kept) == 1 and kept[0].suffix == ".h5"  # and no half file
        heard = []
        make = partial(MAKERS[kind], staged(), pictures, batch_size=1, seed=1)
        resumed = make(resume=tmp_path / kind, progress=lambda *counts: heard.append(counts))  # noqa: B023
        assert heard == [(1, 3), (2, 3), (3, 3)]
        assert resumed.digest == make().digest


def test_what_the_system_refused_is_read_back_as_it_was_written(tmp_path):
    """HDF5 frees what it reads back: with other bytes it crashed the interpreter, now and then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with _Sink(tmp_path / "full", "w+") as sink:
        sink.write(b"a" * 90)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            assert sink.write(b"b" * 20) == 20  # half of it fits
            sink.seek(105)
            sink.write(b"c" * 10)
            sink.seek(200)
            sink.write(b"d")
            sink.truncate(300)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert sink.refusal is not None and sink.refusal.errno == errno.EFBIG
        sink.seek(80)
        contents = bytearray(b"?" * 140)
        assert sink.readinto(contents) == 140
        assert bytes(contents) == b"a" * 10 + b"b" * 15 + b"c" * 10 + bytes(85) + b"d" + bytes(19)
    assert (tmp_path / "full").stat().st_size == 100


COMMAND = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from neurometamer.cli import main
main()
"""


def test_a_command_on_a_full_disk_says_so_in_one_line_and_goes_on_when_there_is_room(tmp_path):
    for level in (60, 200):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.new("RGB", (227, 227), (level, 90, 120)).save(tmp_path / "in" / f"{level}.png")
    requests = [
        *(
            "stimuli",
            "interference",
            "--model",
            "squeezenet1_0",
            "--weights",
            "random",
            "--device",
            "cpu",
        ),
        *("--images", "in", "--target", "7", "--max-steps", "1", "--out", "out"),
    ]
    limit = int(1.5 * 4 * 3 * 227 * 227)  # room for each image, not for the file of both
    command = [sys.executable, "-c", COMMAND, str(limit), *requests]
    full = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr
    assert (
        "what was finished is kept: run the same command again"
        in full.stderr.strip().splitlines()[-1]
    )
    out = tmp_path / "out"
    assert not (out / "stimuli.h5").exists() and not list(out.rglob(".part-*"))
    stamps = {file.name: file.stat().st_mtime_ns for file in (out / ".finished").glob("*.h5")}
    assert len(stamps) == 2
    heard = []
    table = make_stimuli(
        "interference",
        model="squeezenet1_0",
        weights="random",
        images=tmp_path / "in",
        out=out,
        target="7",
        max_steps=1,
        run=RunOptions(device="cpu", progress=lambda *counts: heard.append(counts)),
    )
    assert heard == [(2, 2)] and len(table) == len(read_table(out / "stimuli.csv")) == 2
    assert {file.name: file.stat().st_mtime_ns for file in (out / ".finished").iterdir()} == stamps
