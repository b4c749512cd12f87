"""Activations, predictions, checks and trainings on the pretended device.

`test_device_passes` runs this file in a process of its own.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import neurometamer as nm
import stimuli_gen as sg
from neurometamer import evaluation
from neurometamer.errors import InputError
from neurometamer.evaluation.recognizability import seen_by, shown_to
from neurometamer.run_options import RunOptions
from neurometamer.training import LabeledImages, LoopOptions, accuracy_curve, train_network
from neurometamer.training.checkpoints import read_safetensors
from neurometamer.zoo import check_network
from neurometamer.zoo.fingerprints import fingerprint
from stimuli_gen.batches import fitting_batch
from stimuli_gen.precision import has_float64
from tests.helpers.pretended_device import (
    MemoryRunsOut,
    counted,
    install,
    listening,
    with_memory,
    without_float64,
)

DEVICE = install()
SIZE = sg.Preprocessing(
    size=(32, 32), resize=32, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3)
)


def make_network(n_classes=5):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
    return nn.Sequential(*layers, nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(676, n_classes))


def make_model(device="pretended", **options):
    return sg.stage_model(
        make_network(),
        stages={"relu": "2", "late": "3", "out": "5"},
        preprocessing=SIZE,
        device=device,
        **options,
    )


def make_stimuli(n=10):
    pixels = np.random.default_rng(0).random((n, 3, 32, 32), dtype=np.float32)
    ids = [f"im{number}" for number in range(n)]
    table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    return sg.StimulusSet(images=pixels, table=table)


@pytest.fixture(scope="module")
def models():
    return make_model(), make_model("cpu")


def test_a_pass_copies_once_there_and_once_back_a_batch(models):
    stimuli = make_stimuli()
    ours, theirs = models
    assert ours.digest == theirs.digest  # reads the weights back, once a network
    with counted() as traffic:
        made = nm.compute_activations(ours, stimuli, run=RunOptions(batch_size=4))
    assert (traffic.to_device, traffic.from_device, traffic.waits) == (3, 3, 3), traffic.listed()
    expected = nm.compute_activations(theirs, stimuli, run=RunOptions(batch_size=4))
    for stage in expected.stages:
        np.testing.assert_array_equal(made.read(stage), expected.read(stage))
    assert made.provenance["device"] == "pretended" and made.provenance["tf32"] is False
    assert made.provenance["identity"] == expected.provenance["identity"]
    with counted() as traffic:
        probabilities = sg.predict(ours, stimuli.images, 4)
    assert (traffic.to_device, traffic.from_device, traffic.waits) == (3, 3, 3), traffic.listed()
    np.testing.assert_array_equal(probabilities, sg.predict(theirs, stimuli.images, 4))


def test_a_network_at_work_copies_nothing(models):
    ours, _ = models
    images = torch.rand(4, 3, 32, 32).to(DEVICE).requires_grad_(True)
    with counted() as traffic:
        ours.logits(images).sum().backward()
        ours.activations(images, ["late"])
    assert (traffic.to_device, traffic.from_device, traffic.waits) == (0, 0, 0), traffic.listed()


def batch_sizes(model, stimuli, run):
    sizes = []

    def note(name, args):
        if name == "aten.convolution.default":
            sizes.append(len(args[0]))

    with listening(note):
        made = nm.compute_activations(model, stimuli, stages=["relu"], run=run)
    return made, sizes


def test_a_pass_takes_as_many_images_as_memory_allows(models):
    stimuli = make_stimuli(70)
    ours, _ = models
    made, sizes = batch_sizes(ours, stimuli, RunOptions())
    assert sizes == [4, 32, 32, 32]  # four images show how large results are
    with with_memory(10**9):
        full, sizes = batch_sizes(ours, stimuli, RunOptions())
        assert sizes == [4, 128]
        asked, sizes = batch_sizes(ours, stimuli, RunOptions(batch_size=40))
        assert sizes == [40, 40]
    n_bytes = 4 * 6 * 15 * 15
    with with_memory(4 * 20 * n_bytes):  # a quarter of it holds the results of 20 images
        few, sizes = batch_sizes(ours, stimuli, RunOptions())
        assert set(sizes[1:]) == {16}
    for other in (full, asked, few):
        np.testing.assert_array_equal(made.read("relu"), other.read("relu"))
    assert fitting_batch(abs, (stimuli.images,), torch.device("cpu")) == 8


def test_memory_is_asked_once_for_pictures_of_any_size(models):
    """They pass the network's preprocessing batch by batch."""
    ours, _ = models
    pictures = np.random.default_rng(1).integers(0, 256, (70, 3, 40, 40)) / np.float32(255)
    sizes = []

    def note(name, args):
        if name == "aten.convolution.default":
            sizes.append(len(args[0]))

    with listening(note):
        probabilities = sg.predict(ours, shown_to(ours, pictures))
    assert sizes[::2] == [4, 32, 32, 32]  # two convolutions a pass
    expected = sg.predict(ours, seen_by(ours, pictures))
    np.testing.assert_array_equal(probabilities, expected)


def test_where_memory_runs_out_the_batch_is_halved(models):
    stimuli = make_stimuli(40)
    ours, theirs = models
    expected = nm.compute_activations(theirs, stimuli)
    runs_out = MemoryRunsOut("convolution.default", at=range(99), above=8)
    with with_memory(10**9), listening(runs_out):
        made, sizes = batch_sizes(ours, stimuli, RunOptions())
    assert runs_out.failures == 3  # 64, 32 and 16 images
    assert sizes == [4, 8, 8, 8, 8, 8]
    np.testing.assert_array_equal(made.read("relu"), expected.read("relu"))
    never = listening(MemoryRunsOut("convolution.default", at=range(99)))
    told = pytest.raises(InputError, match="not enough memory on pretended:0 for one image")
    with never, told:
        nm.compute_activations(ours, stimuli)


def test_results_of_two_types_come_back_apart():
    from stimuli_gen.transfers import Returning

    values = torch.arange(6.0).view(3, 2).to(DEVICE)
    with counted() as traffic:
        back = Returning((values, values.argmax(dim=1)), DEVICE).arrived(2)
    assert traffic.from_device == 2 and isinstance(back, tuple)
    assert torch.equal(back[0], torch.arange(4.0).view(2, 2)) and back[1].tolist() == [1, 1]


# ------------------------------------------------------------------------------- float64, commands


def test_nothing_is_float64_where_the_device_has_none(models):
    stimuli = make_stimuli(3)
    _, theirs = models
    assert has_float64(DEVICE)
    with without_float64():
        assert not has_float64(DEVICE)
        ours = make_model()
        made = nm.compute_activations(ours, stimuli)
        assert fingerprint(ours) == fingerprint(theirs)
        options = {"stage": "relu", "run": RunOptions(), "method": "krylov", "max_products": 3}
        ends = sg.eigendistortions(ours, stimuli.select(ids=["im0"]), **options)
        table = sg.same_class(ours, stimuli.images, stimuli.images)
    expected = nm.compute_activations(theirs, stimuli)
    np.testing.assert_array_equal(made.read("out"), expected.read("out"))
    assert table["same_class_1000"].all() and len(ends)


def test_metamers_are_evaluated_there_as_on_the_cpu():
    photographs = make_stimuli(6)
    table = photographs.table.assign(id=[f"{name}_m" for name in photographs.ids])
    made = sg.StimulusSet(
        images=photographs.images**3, table=table.assign(kind="metamer", valid=True)
    )
    joined = evaluation.metamer_set(photographs, made, members=["alexnet"], stage="middle")
    tables = []
    for device in ("pretended", "cpu"):
        evaluators = [make_model(device, name=name) for name in ("one", "other")]
        with counted() as traffic, without_float64():
            hits = evaluation.recognition_table(
                evaluators, [joined], ways=[1000], include_untrained=True
            )
            options = {"include_untrained": True, "n_permutations": 19}
            apart = evaluation.divergence(evaluators, [joined], **options)
        assert (traffic.n_operators > 0) == (device == "pretended")
        tables.append((hits, apart))
    for ours, theirs in zip(*tables, strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_networks_are_checked_and_measured_there():
    check = check_network("squeezenet1_0", weights="random", device="pretended")
    assert check.parameters == 1248424 and not check.problems
    with pytest.raises(InputError, match=r"'pretended:3' is not available on this machine"):
        nm.load_model("squeezenet1_0", weights="random", device="pretended:3")


def test_the_command_takes_any_device(tmp_path, invoke):
    from PIL import Image

    levels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    (tmp_path / "photos").mkdir()
    for number, level in enumerate(levels):
        Image.fromarray(level).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "small.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.Flatten(), nn.Linear(196, 2))\n"
    )
    own = 'import = "small.py:build"\nsize = 32\nresize = 32\nstages = ["0", "2"]\n'
    (tmp_path / "small.toml").write_text(own)
    words = ["rdm", "--images", str(tmp_path / "photos"), "--model", str(tmp_path / "small.toml")]
    words += ["--weights", "random"]
    for device in ("pretended", "cpu"):
        out = ["--out", str(tmp_path / f"{device}.h5"), "--device", device]
        with counted() as traffic:
            assert invoke([*words, *out]).exception is None
        assert bool(traffic.n_operators) == (device == "pretended")


# ------------------------------------------------------------------------------------------ training

KINDS = {
    "none": {},
    "adversarial_linf": {"radius": 0.05, "attack_step_size": 0.02, "attack_steps": 2},
    "random_linf": {"radius": 0.05},
    "gaussian_noise": {"ssnrs": (0.5, 1.0)},
    "blur": {"sigmas": (0.0, 1.0, 2.0)},
}
COPIES = {"none": 1, "adversarial_linf": 2, "random_linf": 2, "gaussian_noise": 3, "blur": 2}
"""Copies to the device a step: the images; one number each of blur and noise; and what this device
cannot draw itself, as GPUs do."""


def digits(n, first):
    random = np.random.default_rng(first)
    levels = random.integers(0, 256, (n, 3, 32, 32)).astype(np.uint8)
    return LabeledImages(levels=levels, labels=np.arange(n) % 5, class_names=tuple("abcde"))


def train(out, device, *, run=None, **options):
    settings = {"epochs": 2, "train_batch_size": 10, "learning_rate": 0.01, **options}
    return train_network(
        make_network(),
        digits(60, 0),
        digits(20, 1),
        out=out,
        preprocessing=SIZE,
        run=RunOptions(device=device) if run is None else run,
        **settings,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_copies_its_images_and_waits_for_nothing(tmp_path, kind):
    seen = []
    with counted() as traffic:

        def note(done, total):
            seen.append((done, traffic.to_device, traffic.waits))

        run = RunOptions(device="pretended", progress=note)
        trained = train(tmp_path / "ours", "", run=run, perturbation=kind, **KINDS[kind])
    rows = pd.DataFrame(seen, columns=["done", "to_device", "waits"]).diff()
    within = rows[(rows.index % 6) != 0]  # between two steps of one epoch of 6
    assert (within["waits"] == 0).all(), traffic.listed()
    assert (within["to_device"] == COPIES[kind]).all(), traffic.listed()
    expected = train(tmp_path / "theirs", "cpu", perturbation=kind, **KINDS[kind])
    ours, theirs = (
        read_safetensors(tmp_path / name / "last.safetensors") for name in ("ours", "theirs")
    )
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name
    assert trained.log["loss"].tolist() == expected.log["loss"].tolist()


def test_a_run_that_was_stopped_goes_on_there(tmp_path):
    whole = train(tmp_path / "whole", "pretended", augment="none")

    def stop(done, total):
        if done == 9:
            raise ZeroDivisionError

    often = LoopOptions(checkpoint_minutes=1e-9)
    run = RunOptions(device="pretended", progress=stop)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "cut", "", run=run, loop=often, augment="none")
    again = train(tmp_path / "cut", "pretended", loop=often, augment="none")
    assert whole.log["loss"].tolist() == again.log["loss"].tolist()
    ours, theirs = (tmp_path / name / "last.safetensors" for name in ("cut", "whole"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_loss_that_is_not_finite_is_told_with_its_step(tmp_path):
    with pytest.raises(InputError, match=r"not finite from step 2 of 6 in epoch 1 on"):
        train(tmp_path / "run", "pretended", learning_rate=1e30)


def test_memory_that_does_not_hold_a_step_is_told(tmp_path):
    with listening(MemoryRunsOut("convolution.default", at=range(99), above=5)):
        with pytest.raises(
            InputError, match=r"for 10 images at once; give more parts.*--accumulate"
        ):
            train(tmp_path / "run", "pretended")
        train(tmp_path / "parts", "pretended", accumulate=2, epochs=1)


def test_curves_are_those_of_the_cpu():
    curves = []
    for device in ("pretended", "cpu"):
        run = RunOptions(device=device, batch_size=8)
        with counted() as traffic, without_float64():
            curves.append(
                accuracy_curve(
                    make_network(),
                    digits(20, 1),
                    SIZE,
                    "adversarial_l2",
                    [0, 1.0],
                    attack_steps=2,
                    run=run,
                )
            )
        if device == "pretended":
            assert traffic.waits == 2, traffic.listed()  # one a level
    pd.testing.assert_frame_equal(*curves)
