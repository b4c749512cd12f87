"""Networks beside the table: by library, by leaderboard, by a few lines of TOML; in every command."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer import commands
from neurometamer.cli import main
from neurometamer.errors import InputError
from neurometamer.store import read_table
from neurometamer.zoo import MODELS, load_model, load_models, model_entry, read_own_network
from neurometamer.zoo.sources import build_network, find_entry, is_model
from neurometamer.zoo.weights import read_weights, resave_script
from stimuli_gen import stage_model

NETWORK = '''
from torch import nn


class TwoHeads(nn.Module):
    """Returns a dictionary; a later in-place ReLU writes over what a convolution gave."""

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, stride=2), nn.ReLU(inplace=True))
        self.head = nn.Linear(width, 5)

    def forward(self, images):
        features = self.second(self.first(images)).mean((2, 3))
        return {"features": features, "logits": self.head(features)}


def number():
    return 3


def broken():
    return 1 / 0


def lacking():
    import nowhere
'''
OWN = """
import = "network.py:TwoHeads"
arguments = { width = 6 }
size = 48
mean = [0.5, 0.4, 0.3]
std = [0.25, 0.25, 0.25]
stages = ["first.0", "first", "second"]
"""


@pytest.fixture
def own(tmp_path):
    """A network of the user's own, and photographs."""
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "mine.toml").write_text(OWN)
    (tmp_path / "photographs").mkdir()
    random = np.random.default_rng(0)
    for name in ("cat", "cup", "dog", "hat"):
        blocks = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8)))
        picture.save(tmp_path / "photographs" / f"{name}.png")
    return tmp_path / "mine.toml"


# ---------------------------------------------------------------------------------------- libraries


def test_a_network_of_timm_in_one_word():
    import timm

    model = load_model("timm:resnet10t", weights="random", device="cpu")
    config = timm.get_pretrained_cfg("resnet10t")
    wanted = model.preprocessing
    assert model.name == "timm:resnet10t"
    assert (wanted.size, wanted.mean, wanted.std) == (
        config.input_size[1:],
        config.mean,
        config.std,
    )
    assert wanted.resize == int(wanted.size[0] / config.crop_pct)
    assert list(model.stages) == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert model.class_names[:2] == ("tench", "goldfish")
    entry = model_entry("timm:resnet10t")
    assert entry.weights_tag == config.tag
    assert entry.weights_url.startswith(f"https://huggingface.co/timm/resnet10t.{config.tag}/")
    assert model_entry("timm:resnet50.a1_in1k").weights_tag == "a1_in1k"


def test_entries_of_the_table_win_over_the_rule():
    dense = model_entry("torchvision:densenet121")
    assert dense.stages == MODELS["densenet121"].stages
    assert dense.depths[0] == "features.denseblock2.denselayer6"
    assert model_entry("timm:swin_base_patch4_window7_224").stages == MODELS["swin_base"].stages
    assert model_entry("torchvision:resnet34").stages == {}


def test_a_network_of_torchvision_has_the_preprocessing_of_its_weights():
    first, second = (model_entry(f"torchvision:resnet50.IMAGENET1K_V{n}") for n in (1, 2))
    assert (first.preprocessing.resize, second.preprocessing.resize) == (256, 232)
    assert (first.sha256, second.sha256) == ("0676ba61", "11ad3fa6")
    assert model_entry("torchvision:resnet50") == second  # torchvision's default
    view = load_model("torchvision:mobilenet_v3_small_grey", weights="random", device="cpu")
    assert view.luma is not None


ROBUST = {
    "Salman2020Do_R50": "resnet50_robust",
    "Salman2020Do_R18": "resnet18_robust",
    "Salman2020Do_50_2": "wide_resnet50_robust",
    "Liu2023Comprehensive_ConvNeXt-B": "convnext_base_robust",
    "Liu2023Comprehensive_Swin-B": "swin_base_robust",
    "Singh2023Revisiting_ViT-B-ConvStem": "vit_base_convstem_robust",
    "Debenedetti2022Light_XCiT-S12": "xcit_small_robust",
}


def test_the_robust_networks_of_the_paper_are_known_by_their_names_on_robustbench():
    for theirs, ours in ROBUST.items():
        known_as, entry = find_entry(f"robustbench:imagenet/Linf/{theirs}")
        assert known_as == ours
        assert (entry.threat, entry.epsilon) == ("Linf", "4/255")
    known_as, entry = find_entry("robustbench:imagenet/corruptions/Tian2022Deeper_DeiT-S")
    assert (known_as, entry.threat, entry.epsilon) == ("deit_small_robust", "corruptions", "")
    for name in ("vit_base_convstem_robust", "xcit_small_robust"):  # they see pixels as they are
        raw = MODELS[name].preprocessing
        assert (raw.mean, raw.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet5O", r"timm has no network 'resnet5O'; near are: resnet50"),
        ("timm:resnet50.nope", r"timm has no weights 'resnet50\.nope'; it has .*a1_in1k"),
        ("torchvision:resnet5O", "torchvision has no classifier 'resnet5O'; near are: resnet50"),
        ("torchvision:fasterrcnn_resnet50_fpn", "has no classifier"),
        ("torchvision:resnet50.V3", "unknown weights of torchvision:resnet50 'V3'"),
        ("robustbench:imagenett/Linf/x", r"unknown data set of RobustBench .*'imagenet'"),
        ("robustbench:cifar10/linf/x", r"unknown threat model of RobustBench .*'Linf'"),
        ("robustbench:cifar10/Linf", r"is not robustbench:CORPUS/THREAT/NAME; write that"),
        ("set:cnn", "set:cnn is a set of networks, and one is asked for; name one of them: conv"),
        ("set:cnm", "unknown set of networks 'set:cnm'; did you mean 'set:cnn'"),
        ("resnet5O", "did you mean 'resnet50'"),
        ("nowhere.toml", r"nowhere\.toml does not exist"),
        ("caffe:net", r"timm:NAME and torchvision:NAME .* FILE\.toml"),
    ],
)
def test_unknown_names_say_what_there_is(name, message):
    with pytest.raises(InputError, match=message):
        model_entry(name)


STAND_IN = {
    "__init__.py": "",
    "model_zoo/__init__.py": """
from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

model_dicts = {data: {threat: {"Known2020": {}} for threat in ThreatModel}
               for data in BenchmarkDataset}
""",
    "model_zoo/enums.py": """
from enum import Enum

BenchmarkDataset = Enum("BenchmarkDataset", {x: x for x in ("cifar10", "cifar100", "imagenet")})
ThreatModel = Enum("ThreatModel", {x: x for x in ("Linf", "L2", "corruptions", "corruptions_3d")})
""",
    "data.py": """
from torchvision import transforms
from robustbench.model_zoo import model_dicts


def get_preprocessing(dataset, threat_model, model_name, preprocessing):
    model_dicts[dataset][threat_model][model_name]
    if dataset.value == "imagenet":
        return transforms.Compose([transforms.Resize(72), transforms.CenterCrop(64),
                                   transforms.ToTensor()])
    return transforms.Compose([transforms.ToTensor()])
""",
    "utils.py": """
import torch
from pathlib import Path
from torch import nn


def load_model(model_name, model_dir, dataset, threat_model):
    torch.manual_seed(5)
    file = Path(model_dir) / dataset / threat_model / f"{model_name}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    n_classes = {"imagenet": 1000, "cifar10": 10, "cifar100": 100}[dataset]
    layers = [nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(),
              nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_classes)]
    return nn.Sequential(*layers).eval()
""",
}


@pytest.fixture
def robustbench(tmp_path, monkeypatch):
    """Stand in for the package robustbench: its names and forms, and tiny networks."""
    for name, text in STAND_IN.items():
        file = tmp_path / "packages" / "robustbench" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield tmp_path / "packages" / "robustbench"
    for name in [name for name in sys.modules if name.partition(".")[0] == "robustbench"]:
        del sys.modules[name]


def test_other_networks_of_robustbench_come_from_the_users_package(robustbench, monkeypatch):
    name = "robustbench:cifar10/L2/Known2020"
    monkeypatch.setenv("NEUROMETAMER_OFFLINE", "1")
    with pytest.raises(InputError, match=r"Known2020 are not on this machine .*downloads are off"):
        load_model(name, device="cpu")
    monkeypatch.delenv("NEUROMETAMER_OFFLINE")
    model = load_model(name, device="cpu")
    assert (model.name, model.n_classes, model.trained) == (name, 10, True)
    assert model.weights == f"adversarial ({name})"
    assert model.preprocessing.size == (32, 32) and model.preprocessing.mean == (0, 0, 0)
    assert list(model.stages) == ["1", "3", "6"]
    monkeypatch.setenv("NEUROMETAMER_OFFLINE", "1")  # they are here now
    assert load_model(name, device="cpu").digest == model.digest
    monkeypatch.delenv("NEUROMETAMER_OFFLINE")
    large = load_model("robustbench:imagenet/corruptions/Known2020", device="cpu")
    assert (large.preprocessing.size, large.preprocessing.resize) == ((64, 64), 72)
    assert large.class_names[0] == "tench" and large.weights.startswith("corruptions (")
    with pytest.raises(InputError, match=r"unknown network of RobustBench, cifar10/L2 'Known202O'"):
        model_entry("robustbench:cifar10/L2/Known202O")
    with pytest.raises(InputError, match=r"downloaded by robustbench itself .*models check"):
        commands.models_fetch(name)
    # the table's own are not asked of it
    assert find_entry("robustbench:imagenet/Linf/Salman2020Do_R18")[0] == "resnet18_robust"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import pkg_resources_", r"needs the package pkg_resources_, which robustbench imports"),
        ("from autoattack import AutoAttack", r"needs the package autoattack, .*pyautoattack"),
        ("1 / 0", "robustbench cannot be imported: division by zero"),
    ],
)
def test_faults_of_robustbench_are_named_on_one_line(robustbench, line, message):
    (robustbench / "__init__.py").write_text(line)
    with pytest.raises(InputError, match=message) as error:
        model_entry("robustbench:cifar10/L2/Known2020")
    assert "\n" not in str(error.value)


def test_without_robustbench_the_message_says_what_to_install():
    if "robustbench" in sys.modules or importlib.util.find_spec("robustbench"):
        pytest.skip("robustbench is installed here")
    with pytest.raises(InputError, match=r"robustbench, which is not installed: pip install") as e:
        model_entry("robustbench:cifar10/Linf/Carmon2019Unlabeled")
    assert "setuptools<80" in str(e.value) and "auto-attack" in str(e.value)
    with pytest.raises(InputError, match=r"Did you mean imagenet/Linf/Salman2020Do_R18\?"):
        model_entry("robustbench:imagenet/Linf/Salman2020Do_R8")


# -------------------------------------------------------------------------------------- own networks


def test_any_torch_module_in_three_lines():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5))
    model = stage_model(nn.DataParallel(network), stages={"relu": "module.1"})
    compiled = stage_model(torch.compile(network), stages={"relu": "_orig_mod.1"})
    plain = stage_model(network, stages={"relu": "1"})
    assert model.digest == compiled.digest == plain.digest
    assert model.name == "Sequential"


def test_a_few_lines_of_toml_make_a_network_of_every_command(own, tmp_path, monkeypatch):
    name, entry = read_own_network(own)
    assert (name, entry.preprocessing.size, entry.preprocessing.resize) == ("mine", (48, 48), 55)
    model = load_model(str(own), weights="random", device="cpu")
    assert (model.name, model.n_classes, list(model.stages)) == (
        "mine",
        5,
        ["first.0", "first", "second"],
    )
    images = torch.rand(2, 3, 48, 48)
    values = model.activations(images, ["first.0", "second"])["first.0"]
    assert (values < 0).any()  # a later in-place ReLU does not change what a stage gave
    photographs = tmp_path / "photographs"
    words = f"stimuli metamer --models {own} --stage second --steps 2 --weights random"
    files = ["--images", photographs, "--out", tmp_path / "made"]
    monkeypatch.setattr(sys, "argv", ["neurometamer", *words.split(), *map(str, files)])
    with pytest.raises(SystemExit):
        main()
    table = read_table(tmp_path / "made" / "stimuli.csv")
    assert table["model"].tolist() == ["mine"] * 4
    file = commands.rdm(
        tmp_path / "rdms.h5", model=str(own), images=[photographs], weights="random"
    )
    assert file.is_file()
    state = model.network.state_dict()
    torch.save(state, tmp_path / "mine.pth")
    own.write_text(OWN + 'weights = "mine.pth"\nname = "trained"\n')
    monkeypatch.chdir(tmp_path)
    trained = load_model("mine.toml", device="cpu")
    assert (trained.name, trained.trained) == ("trained", True)
    assert torch.equal(trained.network.head.weight, model.network.head.weight)


def test_a_network_like_another_differs_in_what_the_file_says(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('like = "resnet18"\nstages = { early = "layer1" }\nclass_names = "imagenet"\n')
    _, entry = read_own_network(file)
    assert entry.stages == {"early": "layer1"}
    assert entry.preprocessing == MODELS["resnet18"].preprocessing
    assert entry.weights_file == MODELS["resnet18"].weights_file
    file.write_text('like = "timm:resnet10t"\npixels = "half"\nsize = [64, 96]\nresize = 96\n')
    _, entry = read_own_network(file)
    assert (entry.preprocessing.size, entry.preprocessing.mean) == ((64, 96), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("= 3", "is not a TOML file, or is damaged"),
        ("sise = 3", "unknown key 'sise'; did you mean 'size'"),
        ("size = 48", r"does not say what to build; give import = \"MODULE:NAME\""),
        ('import = "network"', r"import is 'network'; write MODULE:NAME or FILE\.py:NAME"),
        ('import = "nowhere:f"', "nowhere cannot be imported: No module named 'nowhere'"),
        ('import = "network.py:TwoHeds"', "unknown name in .*; did you mean 'TwoHeads'"),
        ('import = "network.py:number"', r"gives a int, not a torch\.nn\.Module"),
        ('import = "network.py:TwoHeads"\narguments = { deep = 3 }', "cannot build .*deep"),
        ('import = "network.py:broken"', "cannot build .*broken: division by zero"),
        ('import = "network.py:lacking"', "needs the package nowhere; install it"),
        ('import = "network.py:TwoHeads"\npixels = "halb"', "unknown pixels 'halb'; did you mean"),
        ('import = "network.py:TwoHeads"\nsize = "big"', "another kind than its key wants"),
        ('import = "network.py:TwoHeads"\nstd = [0.0, 1.0, 1.0]', "std .* positive"),
        ('library = "keras"\narchitecture = "x"', "unknown library 'keras'"),
        ('like = "resnet5O"', "did you mean 'resnet50'"),
        ('like = "resnet18"\ntraining = "robust"', "unknown training 'robust'"),
        ('library = "timm"\narchitecture = "nope"\nsize = 64', "timm cannot build nope"),
        ('like = "mine.toml"', r"mine\.toml is like itself"),
        ('like = "resnet18"\nclass_names = "imagenette"', r"class_names is 'imagenette'; give"),
        ('like = "vone_alexnet"\narguments = { noise = "gausian" }', "unknown noise 'gausian'"),
    ],
)
def test_unusable_descriptions_say_what_to_correct(own, content, message):
    own.write_text(content)
    with pytest.raises(InputError, match=message):
        load_model(str(own), weights="random", device="cpu")


def test_lost_weights_of_an_own_network_are_named(own):
    own.write_text(OWN + 'weights = "lost.pth"\n')
    with pytest.raises(InputError, match=r"lost\.pth, do not exist; correct weights in its TOML"):
        load_model(str(own), device="cpu")


def test_sets_and_weights_are_given_by_name(own):
    names = [str(own), "timm:resnet10t"]
    loaded = load_models(names, f"timm:resnet10t=random,{own}=random", device="cpu")
    assert [model.name for model in loaded] == ["mine", "timm:resnet10t"]
    assert is_model("timm:x") and is_model(str(own)) and not is_model("person")


# ------------------------------------------------------------------------- checkpoints from elsewhere


def test_the_robust_swins_file_for_an_older_timm_gives_the_same_network(tmp_path):
    """RobustBench's file has the names of timm 0.6: downsampling at the end of a layer, `head`."""
    entry = MODELS["swin_base_robust"]
    network = build_network("swin_base_robust", entry)
    state = network.state_dict()
    old = {}
    for key, value in state.items():
        front, _, rest = key.partition(".downsample.")
        if rest:
            number = int(front.removeprefix("layers.")) - 1
            key = f"layers.{number}.downsample.{rest}"
        old["model." + key.replace("head.fc.", "head.")] = value
    old["model.layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    old["normalize.mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    torch.save({"state_dict": old}, tmp_path / "swin.pt")
    from neurometamer.zoo.weights import load_into

    other = build_network("swin_base_robust", entry)
    load_into(other, read_weights(tmp_path / "swin.pt"), entry, tmp_path / "swin.pt")
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key]), key
    old["normalize.mean"] = torch.tensor([0.5, 0.5, 0.5])
    torch.save({"state_dict": old}, tmp_path / "swin.pt")
    with pytest.raises(InputError, match="another mean of pixels"):
        load_into(other, read_weights(tmp_path / "swin.pt"), entry, tmp_path / "swin.pt")


def _cornet_file():
    """List the names and shapes of the authors' file of CORnet-S, as it is published."""
    shapes = {"V1.conv1.weight": (64, 3, 7, 7), "V1.conv2.weight": (64, 64, 3, 3)}
    norms = {"V1.norm1": 64, "V1.norm2": 64}
    n_in = 64
    for area, n_out, times in (("V2", 128, 2), ("V4", 256, 4), ("IT", 512, 2)):
        shapes |= {
            f"{area}.conv_input.weight": (n_out, n_in, 1, 1),
            f"{area}.skip.weight": (n_out, n_out, 1, 1),
            f"{area}.conv1.weight": (4 * n_out, n_out, 1, 1),
            f"{area}.conv2.weight": (4 * n_out, 4 * n_out, 3, 3),
            f"{area}.conv3.weight": (n_out, 4 * n_out, 1, 1),
        }
        norms[f"{area}.norm_skip"] = n_out
        for time in range(times):
            norms |= {f"{area}.norm{layer}_{time}": 4 * n_out for layer in (1, 2)}
            norms[f"{area}.norm3_{time}"] = n_out
        n_in = n_out
    shapes |= {"decoder.linear.weight": (1000, 512), "decoder.linear.bias": (1000,)}
    parameters = dict(shapes)
    for norm, n_channels in norms.items():
        parameters |= {f"{norm}.{part}": (n_channels,) for part in ("weight", "bias")}
        shapes |= {f"{norm}.{part}": (n_channels,) for part in ("weight", "bias")}
        shapes |= {f"{norm}.running_{part}": (n_channels,) for part in ("mean", "var")}
    return shapes, parameters


def test_the_authors_file_of_cornet_s_is_read_by_the_table_of_names(tmp_path):
    shapes, parameters = _cornet_file()
    assert sum(int(np.prod(shape)) for shape in parameters.values()) == 53_416_616
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        drawn = torch.rand(shape, generator=random)  # of norms, near 1
        if len(shape) > 1:
            drawn = torch.randn(shape, generator=random) / np.prod(shape[1:]) ** 0.5
        state[f"module.{name}"] = drawn
    for norm in [name for name in shapes if name.endswith("running_mean")]:
        state[f"module.{norm.replace('running_mean', 'num_batches_tracked')}"] = torch.tensor(7)
    optimizer = {"state": {}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 43, "state_dict": state, "optimizer": optimizer}
    torch.save(content, tmp_path / "cornet_s-1d3f7974.pth")
    model = load_model("cornet_s", weights=tmp_path / "cornet_s-1d3f7974.pth", device="cpu")
    network = model.network
    assert sum(value.numel() for value in network.parameters()) == 53_416_616
    assert torch.equal(network.V1[4].weight, state["module.V1.conv2.weight"])
    assert torch.equal(network.V4.convolve.weight, state["module.V4.conv2.weight"])
    assert torch.equal(
        network.V4.reduce_norms[3].running_var, state["module.V4.norm3_3.running_var"]
    )
    assert torch.equal(network.IT.skip_norm.bias, state["module.IT.norm_skip.bias"])
    # its own names are still read
    torch.save(network.state_dict(), tmp_path / "own.pth")
    assert load_model("cornet_s", weights=tmp_path / "own.pth", device="cpu").digest == model.digest


def test_safetensors_and_files_with_code_that_are_saved_again(tmp_path, capfd):
    from safetensors.torch import save_file

    state = load_model("squeezenet1_0", weights="random", seed=3, device="cpu").network.state_dict()
    save_file(
        {key: value.contiguous() for key, value in state.items()}, tmp_path / "plain.safetensors"
    )
    # a checkpoint that holds the network itself, as some laboratories save it
    network = build_network("squeezenet1_0", MODELS["squeezenet1_0"])
    network.load_state_dict(state)
    torch.save({"model": network, "epoch": 3}, tmp_path / "whole.pt")
    with pytest.raises(
        InputError, match=r"more than tensors .*resave_script\('.*whole\.pt'\)"
    ) as error:
        load_model("squeezenet1_0", weights=tmp_path / "whole.pt", device="cpu")
    assert "\n" not in str(error.value)
    exec(compile(resave_script(tmp_path / "whole.pt"), "script", "exec"), {})
    digests = {
        load_model("squeezenet1_0", weights=tmp_path / f"{name}.safetensors", device="cpu").digest
        for name in ("plain", "whole")
    }
    assert len(digests) == 1
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((tmp_path / "plain.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"broken\.safetensors cannot be read as a state dict"):
        read_weights(broken)


def test_inception_networks_see_the_pixels_that_their_weights_want():
    model = load_model("torchvision:googlenet", weights="random", device="cpu")
    seen = []
    first = model.network.conv1.conv
    hook = first.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    images = torch.rand(1, 3, 224, 224)
    model.logits(images)
    hook.remove()
    torch.testing.assert_close(seen[0], (images - 0.5) / 0.5)  # Inception's mean and std
    assert model_entry("torchvision:inception_v3").arguments["transform_input"]


def test_timms_networks_have_as_many_outputs_as_their_weights():
    entry = model_entry("timm:mixer_b16_224.miil_in21k")
    assert entry.arguments == {"num_classes": 11221} and entry.has_classes
    assert entry.parameters is None and entry.stages == MODELS["mixer_base"].stages
    assert entry.classes() == ()
    embedding = model_entry("timm:vit_small_patch14_dinov2")
    assert (embedding.output, embedding.training) == ("embedding", "self-supervised")
    assert model_entry("timm:resnet50_clip.openai").training == "language"
    assert model_entry("timm:beitv2_base_patch16_224.in1k_ft_in22k_in1k").arguments == {}
    squashed = model_entry("timm:convnext_base.fb_in22k_ft_in1k_384")
    assert "its center is seen, not all (squash)" in squashed.notes


def test_networks_of_the_user_are_not_called_imagenet(own, tmp_path):
    loaded = load_model(str(own), weights="random", device="cpu")
    torch.save(loaded.network.state_dict(), tmp_path / "w.pth")
    text = own.read_text()
    own.write_text(f'{text}weights = "w.pth"\n')
    assert load_model(str(own), device="cpu").weights == "own (w.pth)"
    own.write_text(f'{text}weights = "w.pth"\ntraining = "stylized"\n')
    assert load_model(str(own), device="cpu").weights == "stylized (w.pth)"


def test_parameters_are_not_taken_over_from_a_network_of_other_arguments(tmp_path):
    file = tmp_path / "three.toml"
    file.write_text(
        'like = "resnet18"\narguments = { num_classes = 3 }\nclass_names = ["a", "b", "c"]\n'
    )
    _, entry = read_own_network(file)
    assert entry.parameters is None and entry.stages == MODELS["resnet18"].stages
