"""Training: bit-equal resume, several processes, what is refused, what comes out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.training import (
    LabeledImages,
    LoopOptions,
    accuracy_curve,
    color_digits,
    digit_images,
    read_labeled_folder,
    split_images,
    train_network,
)
from neurometamer.training.checkpoints import in_part, read_safetensors
from neurometamer.training.cuts import Cuts, batches
from neurometamer.training.networks import PixelNetwork
from stimuli_gen.photographs import Preprocessing

PREPROCESSING = Preprocessing(
    size=(16, 16), resize=16, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)
)
SHORT = {"epochs": 2, "train_batch_size": 20, "learning_rate": 0.05}


def small_network(n_classes=10, *, norm=False):
    torch.manual_seed(0)
    middle = [nn.BatchNorm2d(8)] if norm else []
    layers = nn.Conv2d(3, 8, 3, stride=2, padding=1), *middle, nn.ReLU(), nn.Dropout(0.2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, n_classes))


@pytest.fixture(scope="module")
def digits():
    parts = digit_images(size=16)
    few = {}
    for name, images in parts.items():
        few[name] = LabeledImages(
            levels=images.levels[:120], labels=images.labels[:120], class_names=images.class_names
        )
    return few


def trained_on(digits, out, *, network=None, **options):
    return train_network(
        small_network() if network is None else network,
        digits["training"],
        digits["validation"],
        out=out,
        preprocessing=PREPROCESSING,
        **{**SHORT, **options},
    )


class _Stop(Exception):
    pass


@pytest.mark.parametrize("perturbation", ["none", "adversarial_linf", "blur"])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, digits, perturbation):
    options = {"perturbation": perturbation, "augment": "crop_flip"}
    if perturbation == "adversarial_linf":
        options |= {"radius": 0.05, "attack_step_size": 0.02, "attack_steps": 2}
    if perturbation == "blur":
        options |= {"sigmas": (0.0, 1.0)}
    whole = trained_on(digits, tmp_path / "whole", **options)

    def stop(done, total):
        if done == 9:
            raise _Stop

    # a checkpoint after every step; the exception is what a crash leaves behind
    often = LoopOptions(checkpoint_minutes=1e-9)
    with pytest.raises(_Stop):
        trained_on(digits, tmp_path / "cut", run=RunOptions(progress=stop), loop=often, **options)
    again = trained_on(digits, tmp_path / "cut", loop=often, **options)
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    columns = [name for name in whole.log if name != "seconds"]
    pd.testing.assert_frame_equal(whole.log[columns], again.log[columns])


def test_other_settings_or_images_do_not_go_on_in_the_folder(tmp_path, digits):
    trained_on(digits, tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match=r"another analysis \(other learning_rate\)"):
        trained_on(digits, tmp_path / "run", epochs=1, learning_rate=0.1)
    swapped = {**digits, "training": digits["test"]}
    with pytest.raises(InputError, match=r"another analysis .*data"):
        trained_on(swapped, tmp_path / "run", epochs=1)


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path, digits):
    network = nn.Sequential(
        *[layer for layer in small_network() if not isinstance(layer, nn.Dropout)]
    )
    for accumulate in (1, 4):
        trained_on(digits, tmp_path / f"{accumulate}", network=network, accumulate=accumulate)
    one, four = (read_safetensors(tmp_path / f"{n}" / "last.safetensors") for n in (1, 4))
    for name in one:
        torch.testing.assert_close(one[name], four[name], atol=1e-5, rtol=0)


_TWO = """
import sys
import torch
from torch import nn
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import PREPROCESSING, SHORT, small_network
from neurometamer.training import LabeledImages, digit_images, train_network
torch.set_num_threads(1)
parts = digit_images(size=16)
few = [
    LabeledImages(levels=parts[name].levels[:120], labels=parts[name].labels[:120],
                  class_names=parts[name].class_names)
    for name in ("training", "validation")
]
network = nn.Sequential(*[layer for layer in small_network() if not isinstance(layer, nn.Dropout)])
train_network(network, *few, out=Path({out!r}), preprocessing=PREPROCESSING, accumulate=2,
              perturbation="adversarial_l2", radius=0.5, attack_step_size=0.2, attack_steps=2,
              **SHORT)
"""


def test_two_processes_equal_one_with_the_same_batch(tmp_path):
    for n_processes in (1, 2):
        script = tmp_path / f"train{n_processes}.py"
        out = str(tmp_path / f"out{n_processes}")
        script.write_text(_TWO.format(tests=str(Path(__file__).parent), out=out))
        command = [sys.executable, str(script)]
        if n_processes == 2:
            command = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node=2",
                str(script),
            ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (read_safetensors(tmp_path / f"out{n}" / "last.safetensors") for n in (1, 2))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=0)
    logs = [pd.read_csv(tmp_path / f"out{n}" / "log.csv") for n in (1, 2)]
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-5)


def test_one_channel_is_saved_as_three_that_see_the_same(tmp_path, digits):
    trained = trained_on(digits, tmp_path / "run", color="one_channel", epochs=1)
    checkpoint = read_safetensors(tmp_path / "run" / "checkpoint.safetensors")
    narrow = PixelNetwork(small_network(), PREPROCESSING, "one_channel")
    narrow.network.load_state_dict(in_part("network", checkpoint))
    narrow.eval()
    random = torch.Generator().manual_seed(0)
    images = torch.rand((5, 3, 16, 16), generator=random)
    wide = PixelNetwork(trained.network, PREPROCESSING).eval()
    torch.testing.assert_close(wide(images), narrow(images), atol=1e-5, rtol=0)
    gray = (images * narrow.luma).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(wide(gray.contiguous()), wide(images), atol=1e-5, rtol=0)


def test_training_learns_and_attacks_hurt(tmp_path, digits):
    trained = trained_on(digits, tmp_path / "run", epochs=15, augment="none")
    assert trained.log["loss"].iloc[-1] < 0.5 * trained.log["loss"].iloc[0]
    curve = accuracy_curve(
        trained.network,
        digits["test"],
        PREPROCESSING,
        "adversarial_linf",
        [0, 0.05, 0.2],
        attack_steps=10,
        restarts=2,
    )
    assert curve["accuracy"].is_monotonic_decreasing
    assert curve["accuracy"].iloc[0] > 0.7
    assert curve["accuracy"].iloc[2] < 0.3
    assert curve["attack_steps"].tolist() == [0, 10, 10]


def test_bfloat16_trains_with_float32_weights(tmp_path, digits):
    trained = trained_on(digits, tmp_path / "run", precision="bfloat16", optimizer="adamw")
    assert all(weight.dtype == torch.float32 for weight in trained.network.parameters())
    assert np.isfinite(trained.log["loss"]).all()


def test_what_cannot_be_trained_is_told(tmp_path, digits):
    with pytest.raises(InputError, match=r"gives \(2, 4\).*10 classes.*num_classes = 10"):
        trained_on(digits, tmp_path / "a", network=small_network(4))
    with pytest.raises(InputError, match="images of the training set, too"):
        trained_on({**digits, "validation": digits["training"]}, tmp_path / "b")
    with pytest.raises(InputError, match="reaches beyond images of 16 x 16"):
        trained_on(digits, tmp_path / "c", perturbation="blur", sigmas=(8.0,))
    with pytest.raises(InputError, match="train_batch_size is 500"):
        trained_on(digits, tmp_path / "d", train_batch_size=500)
    with pytest.raises(InputError, match="lower the learning rate"):
        trained_on(digits, tmp_path / "e", learning_rate=1e30)


def test_folders_are_classes_and_copies_stay_together(tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    for name in ("cat", "cup"):
        (tmp_path / name).mkdir()
        for number in range(10):
            levels = random.integers(0, 256, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(levels).save(tmp_path / name / f"{number}.png")
            Image.fromarray(levels).save(tmp_path / name / f"{number}_copy.png")
    images = read_labeled_folder(tmp_path)
    assert images.counts() == {"cat": 20, "cup": 20}
    larger, smaller = split_images(images, share=0.3)
    assert smaller.counts() == {"cat": 6, "cup": 6}
    stems = {file.stem.removesuffix("_copy") + file.parent.name for file in smaller.files}
    assert len(stems) == 6
    assert not {file.stem.removesuffix("_copy") + file.parent.name for file in larger.files} & stems
    with pytest.raises(InputError, match="are no classes of the training set"):
        read_labeled_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "cat" / "0.png").rename(tmp_path / "0.png")
    with pytest.raises(InputError, match="outside of the folders of classes: 0"):
        read_labeled_folder(tmp_path)


def test_color_digits_share_no_photograph_between_parts():
    random = np.random.default_rng(0)
    photographs = [random.integers(0, 256, (3, 40, 40)).astype(np.uint8) for _ in range(5)]
    parts = color_digits(photographs)
    corner = {}
    for name, images in parts.items():
        # digits leave corners free: what is there belongs to the photographs
        corner[name] = {tuple(level[:, 0, 0]) for level in images.levels}
    assert not corner["training"] & corner["test"]
    with pytest.raises(InputError, match="at least 3"):
        color_digits(photographs[:2])


def test_hue_and_shape_of_color_digits_can_name_different_classes():
    import colorsys

    random = np.random.default_rng(0)
    photographs = [random.integers(0, 256, (3, 40, 40)).astype(np.uint8) for _ in range(3)]
    shifted = color_digits(photographs, agreement=1.0, hue_shift=3)["test"]
    gray = digit_images()["test"]
    n_seen = 0
    for levels, cover, label in zip(shifted.levels, gray.levels, shifted.labels, strict=True):
        row, column = np.unravel_index(cover[0].argmax(), cover[0].shape)
        if cover[0, row, column] < 255:  # the photograph shines through
            continue
        n_seen += 1
        hue, saturation, value = colorsys.rgb_to_hsv(*levels[:, row, column] / 255)
        distance = abs(hue - (label + 3) % 10 / 10)
        assert min(distance, 1 - distance) < 0.01
        assert abs(saturation - 0.9) < 0.01 and abs(value - 0.9) < 0.01
    assert n_seen > 100
    pale = color_digits(photographs, saturations=(0.0, 0.0))["test"]
    solid = gray.levels == 255
    assert set(pale.levels[solid].tolist()) == {round(0.9 * 255)}
    with pytest.raises(InputError, match=r"saturations are 0\.5, 0\.2"):
        color_digits(photographs, saturations=(0.5, 0.2))


def test_the_command_trains_and_what_it_writes_is_a_network(tmp_path):
    from PIL import Image

    import neurometamer as nm

    parts = digit_images(size=64)
    for place, images in (("train", parts["training"]), ("val", parts["validation"])):
        for name in ("0", "1"):
            (tmp_path / place / name).mkdir(parents=True)
            rows = np.flatnonzero(images.labels == int(name))[:12]
            for row in rows:
                picture = Image.fromarray(images.levels[row].transpose(1, 2, 0))
                picture.save(tmp_path / place / name / f"{row}.png")
    (tmp_path / "small.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    layers = nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(4)\n"
        "    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 2))\n"
    )
    own = 'import = "small.py:build"\nsize = 64\nresize = 64\nstages = ["1", "4"]\n'
    (tmp_path / "small.toml").write_text(own)
    settings = {"model": str(tmp_path / "small.toml"), "images": tmp_path / "train"}
    settings |= {"validation": tmp_path / "val", "out": tmp_path / "run", "train_batch_size": 8}
    curves = nm.commands.train(
        **settings, epochs=20, optimizer="adamw", learning_rate=0.01, attack_steps_of_curve=3
    )
    clear = curves[(curves["perturbation"] == "blur") & (curves["level"] == 0)]
    assert clear["accuracy"].item() > 0.8
    assert set(curves["perturbation"]) == {"adversarial_linf", "blur"}
    model = nm.load_model(str(tmp_path / "run" / "network.toml"))
    assert model.trained
    assert model.class_names == ("0", "1")
    assert tuple(model.stages) == ("1", "4")
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert 'id="figure-accuracy"' in page and 'id="figure-training"' in page
    assert "24 training images and 24 validation images of 2 classes" in page
    drawn = pd.read_csv(tmp_path / "run" / "figures" / "accuracy.csv")
    pd.testing.assert_frame_equal(drawn, curves)
    view = nm.load_model(f"{tmp_path / 'run' / 'network.toml'}_grey")
    assert view.luma is not None and view.trained
    with pytest.raises(InputError, match="leaves attack_step_size, attack_state"):
        nm.commands.train(**settings, preset="feather2023_alexnet_l2")


def test_who_decodes_changes_nothing(tmp_path, digits):
    options = {"augment": "crop_flip", "epochs": 1}
    trained_on(digits, tmp_path / "here", **options)
    trained_on(digits, tmp_path / "workers", loop=LoopOptions(workers=2), **options)
    here, workers = (tmp_path / name / "last.safetensors" for name in ("here", "workers"))
    assert here.read_bytes() == workers.read_bytes()
    cuts = Cuts(digits["training"], PREPROCESSING, "crop_flip", 0)
    rows = [[3, 1], [7, 0], [5]]
    loaded = {}
    # the type alone decides: nothing goes to that device here
    for device in ("cpu", "xpu"):
        loaded[device] = list(batches(cuts, rows, 4, workers=0, device=torch.device(device)))
    for ahead, plain in zip(loaded["xpu"], loaded["cpu"], strict=True):
        assert torch.equal(ahead, plain)
    assert [len(batch) for batch in loaded["xpu"]] == [2, 2, 1]


def test_an_image_that_cannot_be_decoded_is_told_ahead_of_its_step(tmp_path):
    from PIL import Image

    for name in ("cat", "cup"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (20, 20)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cup" / "1.png").write_bytes(b"no picture")
    cuts = Cuts(read_labeled_folder(tmp_path), PREPROCESSING, "none", 0)
    loaded = batches(cuts, [[0, 1], [3, 4], [5]], 0, workers=0, device=torch.device("xpu"))
    assert next(loaded).shape == (2, 3, 16, 16)
    with pytest.raises(InputError, match=r"1\.png"):
        next(loaded)


def test_tf32_is_set_while_it_trains_and_put_back(tmp_path, digits):
    seen = []

    def note(done, total):
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))

    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for tf32 in (False, True):
        seen.clear()
        loop, run = LoopOptions(tf32=tf32), RunOptions(progress=note)
        trained = trained_on(digits, tmp_path / str(tf32), epochs=1, loop=loop, run=run)
        assert set(seen) == {(tf32, tf32)}
        assert trained.provenance["tf32"] is tf32
    same = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("False", "True")]
    assert same[0] == same[1]  # a CPU computes in float32 in any case
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_a_loss_that_is_not_finite_is_told_with_step_and_epoch(tmp_path, digits):
    with pytest.raises(InputError, match=r"not finite from step \d of 6 in epoch 1 on; lower"):
        trained_on(digits, tmp_path / "run", learning_rate=1e30)
    halves = {"accumulate": 2, "learning_rate": 1e30}
    with pytest.raises(InputError, match=r"not finite from step \d of 6 in epoch 1 on"):
        trained_on(digits, tmp_path / "halves", **halves)
