"""What makes a run the same run, what a checkpoint holds, and what is told before work."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import neurometamer as nm
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.training import (
    LabeledImages,
    LoopOptions,
    accuracy_curve,
    read_labeled_folder,
    train_network,
)
from neurometamer.training.checkpoints import read_safetensors
from neurometamer.training.network_files import toml_text
from stimuli_gen.photographs import Preprocessing

HALF = (0.5, 0.5, 0.5)
CUT = {"size": (16, 16), "resize": 16, "interpolation": "bilinear", "mean": HALF, "std": HALF}
SHORT = {"epochs": 2, "train_batch_size": 10, "optimizer": "adamw", "learning_rate": 0.01}
OFTEN = LoopOptions(checkpoint_minutes=1e-9)
NAMES = ("dark", "bright")


def small_images(seed, n_images):
    random = np.random.default_rng(seed)
    levels = random.integers(0, 256, (n_images, 3, 16, 16)).astype(np.uint8)
    levels[::2] //= 2
    labels = np.arange(n_images) % 2
    return LabeledImages(levels=levels, labels=labels, class_names=NAMES)


def small_network(n_classes=2, n_channels=3):
    torch.manual_seed(0)
    layers = nn.Conv2d(n_channels, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 49, n_classes))


def train_small(out, *, network=None, cut=None, **options):
    return train_network(
        small_network() if network is None else network,
        small_images(0, 40),
        small_images(1, 20),
        out=out,
        preprocessing=Preprocessing(**{**CUT, **(cut or {})}),
        **{**SHORT, **options},
    )


class _Stop(Exception):
    pass


def stop_after(n_steps):
    def progress(done, total):
        if done == n_steps:
            raise _Stop

    return RunOptions(progress=progress)


# ----------------------------------------------------------------------------- the same run


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        ({"size": (14, 14)}, "size"),
        ({"resize": 20}, "resize"),
        ({"mean": (0.1, 0.2, 0.3)}, "mean"),
        ({"std": (0.1, 0.2, 0.3)}, "std"),
        ({"interpolation": "bicubic"}, "interpolation"),
    ],
)
def test_other_preprocessing_is_another_run(tmp_path, cut, name):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    train_small(tmp_path / "run", network=nn.Sequential(network, nn.Linear(4, 2)), epochs=1)
    again = nn.Sequential(network, nn.Linear(4, 2))
    again.load_state_dict(again.state_dict())
    with pytest.raises(InputError, match=rf"another analysis \(other {name}"):
        train_small(tmp_path / "run", network=again, cut=cut, epochs=1)


def test_another_architecture_with_the_same_weights_is_another_run(tmp_path):
    layers = list(small_network())
    train_small(tmp_path / "run", network=nn.Sequential(*layers), epochs=1)
    layers[2] = nn.Tanh()
    with pytest.raises(InputError, match="other network"):
        train_small(tmp_path / "run", network=nn.Sequential(*layers), epochs=1)


def write_folder(folder, images):
    for row, label in enumerate(images.labels):
        place = folder / images.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.levels[row].transpose(1, 2, 0)).save(place / f"{row:03}.bmp")
    return folder


def test_other_pictures_of_the_same_name_and_size_are_another_run(tmp_path):
    folder = write_folder(tmp_path / "images", small_images(0, 40))
    other = write_folder(tmp_path / "other", small_images(1, 20))
    settings = {"out": tmp_path / "run", "preprocessing": Preprocessing(**CUT), **SHORT}

    def train():
        training, validation = read_labeled_folder(folder), read_labeled_folder(other)
        return train_network(small_network(), training, validation, **settings)

    train()
    file = folder / "dark" / "000.bmp"
    times, size = file.stat(), file.stat().st_size
    swapped = file.read_bytes()
    spare = (other / "bright" / "001.bmp").read_bytes()
    file.write_bytes(swapped[:54] + spare[54:][::-1])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file.stat().st_size == size
    with pytest.raises(InputError, match=r"another analysis \(other data\)"):
        train()
    file.write_bytes(swapped)
    train()  # the same contents, whatever their date


def test_images_that_cannot_be_used_are_told_before_work(tmp_path, caplog):
    folder = write_folder(tmp_path / "images", small_images(0, 40))
    validation = read_labeled_folder(write_folder(tmp_path / "other", small_images(1, 20)))
    cut = {"preprocessing": Preprocessing(**CUT), **SHORT}
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="without images: empty; put some in, or remove"):
        read_labeled_folder(folder)
    (folder / "empty").rmdir()
    twice = folder / "bright" / "copy.bmp"
    shutil.copy(folder / "dark" / "000.bmp", twice)
    train_network(
        small_network(), read_labeled_folder(folder), validation, out=tmp_path / "c", **cut
    )
    assert "in another class, too, with the same contents" in caplog.text
    twice.unlink()
    bad = folder / "dark" / "002.bmp"
    bad.write_bytes(bad.read_bytes()[:100])
    (folder / "bright" / "001.bmp").write_bytes(b"BM nothing")
    for workers in (0, 2):
        loop = LoopOptions(workers=workers)
        with pytest.raises(InputError, match=r"001\.bmp.*replace or remove it\. 1 other") as told:
            train_network(
                small_network(),
                read_labeled_folder(folder),
                validation,
                out=tmp_path / "run",
                loop=loop,
                **cut,
            )
        assert "Traceback" not in str(told.value)
    assert not (tmp_path / "run").exists()


# -------------------------------------------------------------------------------- checkpoints


def changed_bit(path, place=-100):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", ["newest", "both", "cut off", "missing"])
def test_a_damaged_checkpoint_costs_steps_and_changes_nothing(tmp_path, caplog, damage):
    whole = train_small(tmp_path / "whole", loop=OFTEN)
    folder = tmp_path / "cut"
    with pytest.raises(_Stop):
        train_small(folder, run=stop_after(6), loop=OFTEN)
    newest, before = folder / "checkpoint.safetensors", folder / "checkpoint-before.safetensors"
    assert newest.is_file() and before.is_file()
    if damage == "cut off":
        newest.write_bytes(newest.read_bytes()[:1000])
    elif damage == "missing":
        newest.unlink()
    else:
        changed_bit(newest)
    if damage == "both":
        changed_bit(before)
    caplog.clear()
    again = train_small(folder, loop=OFTEN)
    assert ("is damaged" in caplog.text) == (damage != "missing")
    assert ("begins again" in caplog.text) == (damage == "both")
    for name in ("last.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    columns = [name for name in whole.log if name != "seconds"]
    pd.testing.assert_frame_equal(whole.log[columns], again.log[columns])
    for file in folder.iterdir():
        # a zip of pickles, as torch.save writes it
        assert file.read_bytes()[:4] != b"PK\x03\x04", file


def test_damaged_weights_of_a_finished_run_are_made_again(tmp_path, caplog):
    train_small(tmp_path / "run")
    kept = {}
    for name in ("best.safetensors", "last.safetensors", "log.csv"):
        kept[name] = (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / "best.safetensors").write_bytes(kept["best.safetensors"][:200])
    changed_bit(tmp_path / "run" / "last.safetensors")
    (tmp_path / "run" / "log.csv").unlink()

    def refuse(done, total):
        raise AssertionError("nothing is left to train")

    train_small(tmp_path / "run", run=RunOptions(progress=refuse))
    assert "best.safetensors is damaged" in caplog.text
    for name, content in kept.items():
        assert (tmp_path / "run" / name).read_bytes() == content


def test_files_of_another_run_are_refused_or_replaced(tmp_path):
    train_small(tmp_path / "run")
    train_small(tmp_path / "other", learning_rate=0.02)
    best = (tmp_path / "run" / "best.safetensors").read_bytes()
    shutil.copy(tmp_path / "other" / "best.safetensors", tmp_path / "run" / "best.safetensors")
    train_small(tmp_path / "run")
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == best
    name = "checkpoint.safetensors"
    shutil.copy(tmp_path / "other" / name, tmp_path / "run" / name)
    with pytest.raises(InputError, match="is the checkpoint of another run; remove it"):
        train_small(tmp_path / "run")


def test_weights_that_share_memory_are_trained_and_saved(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(768, 768, bias=False)
            self.second = nn.Linear(768, 768, bias=False)
            self.second.weight = self.first.weight
            self.last = nn.Linear(768, 2)

        def forward(self, images):
            return self.last(self.second(self.first(images.flatten(1)).relu()))

    torch.manual_seed(0)
    train_small(tmp_path / "run", network=Tied(), epochs=1)
    weights = read_safetensors(tmp_path / "run" / "last.safetensors")
    assert torch.equal(weights["first.weight"], weights["second.weight"])


_STOPPED = """
import os
import signal
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from test_training_runs import plain_network, train_small
from neurometamer.run_options import RunOptions
torch.set_num_threads(1)

def progress(done, total):
    if done == {stop} and os.environ["RANK"] == "0":
        os.kill(os.getpid(), signal.SIGTERM)

train_small(Path({out!r}), network=plain_network(), epochs=3, run=RunOptions(progress=progress))
"""


def plain_network():
    """The network without what depends on the number of processes."""
    layers = [layer for layer in small_network() if not isinstance(layer, nn.BatchNorm2d)]
    return nn.Sequential(*[layer for layer in layers if not isinstance(layer, nn.Dropout)])


def run_processes(tmp_path, out, stop):
    script = tmp_path / "train.py"
    tests = str(Path(__file__).parent)
    script.write_text(_STOPPED.format(tests=tests, out=str(out), stop=stop))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(script)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_stop_within_a_short_epoch_and_log_all_images(tmp_path):
    whole = train_small(tmp_path / "whole", network=plain_network(), epochs=3).log
    # four steps an epoch: the sixth is in the middle of the second
    stopped = run_processes(tmp_path, tmp_path / "cut", 6)
    assert stopped.returncode != 0
    assert len(pd.read_csv(tmp_path / "cut" / "log.csv")) == 1
    assert (tmp_path / "cut" / "checkpoint.safetensors").is_file()
    with pytest.raises(InputError, match="other n_processes"):
        train_small(tmp_path / "cut", network=plain_network(), epochs=3)
    assert run_processes(tmp_path, tmp_path / "cut", -1).returncode == 0
    again = pd.read_csv(tmp_path / "cut" / "log.csv")
    columns = ["epoch", "loss", "accuracy", "validation_accuracy"]
    # sums of gradients are rounded otherwise in two processes
    pd.testing.assert_frame_equal(whole[columns], again[columns], rtol=1e-5)


# ------------------------------------------------------------------------- networks of all kinds


class WithAuxiliary(nn.Module):
    """Returns as torchvision's GoogLeNet does: more in training than outside."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
        self.own = nn.Linear(4 * 49, 2)
        self.auxiliary = nn.Linear(4 * 49, 2)

    def forward(self, images):
        features = self.first(images)
        logits = self.own(features)
        if self.kind == "tuple":
            return (logits, self.auxiliary(features)) if self.training else logits
        if self.kind == "features":
            return features, logits
        if self.kind == "both":
            return logits, self.auxiliary(features)
        return {"auxiliary": self.auxiliary(features), "logits": logits}


@pytest.mark.parametrize("kind", ["tuple", "mapping", "features"])
def test_networks_that_return_more_than_logits_are_trained(tmp_path, kind):
    trained = train_small(tmp_path / "run", network=WithAuxiliary(kind), epochs=6)
    assert trained.log["validation_accuracy"].iloc[-1] > 0.9
    start = WithAuxiliary(kind).auxiliary.weight
    assert torch.equal(trained.network.auxiliary.weight, start) == (kind == "features")
    curve = accuracy_curve(trained.network, small_images(1, 20), Preprocessing(**CUT), "blur", [0])
    assert curve["accuracy"].item() == trained.log["validation_accuracy"].max()


def test_the_weight_of_auxiliary_classifiers_is_that_of_their_loss(tmp_path):
    network = WithAuxiliary("tuple")
    plain = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    one_step = {"epochs": 1, "train_batch_size": 40, "augment": "none", "schedule": "constant"}
    moved = {}
    for weight in (0.3, 0.6):
        train_small(
            tmp_path / f"{weight}", network=network, auxiliary_weight=weight, **plain, **one_step
        )
        after = read_safetensors(tmp_path / f"{weight}" / "last.safetensors")
        moved[weight] = after["auxiliary.weight"] - network.auxiliary.weight.detach()
    torch.testing.assert_close(2 * moved[0.3], moved[0.6], atol=1e-6, rtol=1e-4)


def test_networks_that_cannot_be_trained_are_refused_with_the_cure(tmp_path):
    with pytest.raises(InputError, match=r"takes 1 channel: build it with 3.*one_channel"):
        train_small(tmp_path / "a", network=small_network(n_channels=1))
    with pytest.raises(InputError, match=r"1 input channel\(s\).*build the network with three"):
        train_small(tmp_path / "b", network=small_network(n_channels=1), color="one_channel")
    with pytest.raises(InputError, match=r"classes.*\[arguments\].*num_classes = 2"):
        train_small(tmp_path / "c", network=small_network(5))
    with pytest.raises(InputError, match=r"gives 2 rows of 2 numbers.*calls it 'logits'"):
        train_small(tmp_path / "d", network=WithAuxiliary("both"))
    with pytest.raises(InputError, match=r"radius is 1e\+06.*27\.71 apart"):
        attack = {"perturbation": "adversarial_l2", "radius": 1e6, "attack_step_size": 1.0}
        train_small(tmp_path / "e", **attack)
    assert not list(tmp_path.iterdir())


def test_a_preset_for_another_network_is_told_and_changes_are_recorded(tmp_path, caplog):
    trained = train_small(
        tmp_path / "run",
        preset="feather2023_resnet50_random_linf",
        epochs=1,
        optimizer="sgd",
        momentum=0.9,
        weight_decay=0.0,
        augment="none",
    )
    assert "is a recipe for ResNet, and a Sequential is trained" in caplog.text
    changed = trained.provenance["settings"]["preset_changes"]
    assert changed == ["epochs", "train_batch_size", "learning_rate"]


# ------------------------------------------------------------------------------- the command


def test_toml_is_read_as_it_was_written():
    texts = ["🍎", "苹果", 'a "b"', "back\\slash", "tab\tline\nend", "\x7f", "é", "\x1b[0m"]
    facts = {"names": texts, "two words": 1.5, "large": 1e16, "🍎": True, "none": float("inf")}
    tables = {"arguments": {"deep": {"a b": [1, 2.0], "c": "d"}}, "empty": {}}
    read = tomllib.loads(toml_text(facts, tables))
    assert read == {**facts, "arguments": tables["arguments"]}
    with pytest.raises(InputError, match="is no text in UTF-8"):
        toml_text({"name": "\udcff"}, {})


@pytest.fixture
def colored(tmp_path):
    """Classes by hue alone, of one luminance, and by luminance."""
    random = np.random.default_rng(0)
    folder = tmp_path / "hues"
    for name, color in (("🍎", (200, 60, 60)), ("green", (60, 170, 60))):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            levels = np.clip(color + random.normal(0, 12, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(levels).save(folder / name / f"{number}.png")
    (tmp_path / "small.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2)\n"
        "    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 2))\n"
    )
    own = 'import = "small.py:build"\nsize = 16\nresize = 16\nstages = ["0", "4"]\n'
    (tmp_path / "small.toml").write_text(own)
    return {
        "model": str(tmp_path / "small.toml"),
        "images": folder,
        "attack_steps_of_curve": 2,
        "augment": "none",
        **SHORT,
    }


def test_a_gray_training_is_gray_wherever_the_network_is_named(tmp_path, colored):
    nm.commands.train(**colored, color="gray", out=tmp_path / "gray")
    nm.commands.train(**colored, out=tmp_path / "color")
    gray = nm.load_model(str(tmp_path / "gray" / "network.toml"))
    color = nm.load_model(str(tmp_path / "color" / "network.toml"))
    assert gray.name == "gray" and color.name == "color"
    assert gray.weights.startswith("trained on hues (best.safetensors)")
    assert color.weights == "trained on hues (best.safetensors)"
    assert gray.class_names == ("green", "🍎")
    images = torch.rand((4, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    luma = torch.tensor(gray.luma).view(1, 3, 1, 1)
    seen = (images * luma).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(gray.logits(images), gray.logits(seen), atol=1e-6, rtol=0)
    assert not torch.allclose(color.logits(images), color.logits(seen), atol=1e-3)
    file = tmp_path / "gray" / "network.toml"
    as_color = file.with_name("as_color.toml")
    as_color.write_text(file.read_text("utf-8").replace('color = "gray"', ""), "utf-8")
    assert nm.load_model(str(as_color)).digest != gray.digest
    with pytest.raises(InputError, match="leave '_grey' out"):
        nm.load_model(f"{file}_grey")
    # a flipped bit in the weights is told wherever the network is named
    changed_bit(tmp_path / "gray" / "best.safetensors")
    with pytest.raises(InputError, match="damaged, or of another training"):
        nm.load_model(str(file))


def test_curves_go_over_the_perturbation_of_the_training(tmp_path, colored):
    noise = {"perturbation": "gaussian_noise", "ssnrs": (0.5,), "curve_images": 6}
    curves = nm.commands.train(**colored, **noise, out=tmp_path / "noise")
    own = curves[curves["perturbation"] == "gaussian_noise"]
    assert own["level"].tolist() == [1.0, 0.8, 0.6, 0.5, 0.4, 0.2]
    page = (tmp_path / "noise" / "report.html").read_text("utf-8")
    assert "Gaussian noise, SSNR 0.2: accuracy" in page
    levels = nm.commands.training.curve_levels
    l2 = nm.training.TrainingRecipe(perturbation="adversarial_l2", radius=2.0, attack_step_size=1.0)
    assert levels(l2, (16, 16))["adversarial_l2"] == [0.0, 0.5, 1.0, 2.0, 4.0]
    random = nm.training.TrainingRecipe(perturbation="random_l2", radius=3.0)
    assert max(levels(random, (16, 16))["adversarial_linf"]) < 0.1
    assert levels(random, (16, 16))["random_l2"] == [0.0, 0.75, 1.5, 3.0, 6.0]


def test_the_command_refuses_before_work(tmp_path, colored):
    with pytest.raises(InputError, match="attack_steps_of_curve is 0; give at least 1"):
        nm.commands.train(**{**colored, "attack_steps_of_curve": 0}, out=tmp_path / "a")
    with pytest.raises(InputError, match=r"would be called 'alexnet'.*--name"):
        nm.commands.train(**colored, out=tmp_path / "alexnet")
    assert not (tmp_path / "a").exists() and not (tmp_path / "alexnet").exists()
    nm.commands.train(
        **{**colored, "epochs": 1}, out=tmp_path / "alexnet", loop=LoopOptions(name="mine")
    )
    assert nm.load_model(str(tmp_path / "alexnet" / "network.toml")).name == "mine"
