"""The table of networks: parameters, stages, depths, preprocessing and sets are as the papers and libraries have them."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from neurometamer.cli import main
from neurometamer.report.references import NETWORKS, WORKS, bibtex, reference_text
from neurometamer.store import read_table
from neurometamer.zoo import MODEL_SETS, MODELS, expand_sets, load_model
from neurometamer.zoo.architectures import caffe_alexnet, cornet_s, vit_base_convstem
from neurometamer.zoo.sources import build_network
from neurometamer.zoo.table import WORKS as PAPERS
from stimuli_gen.depth import DEPTHS, depth_units, find_stage

TESTS = Path(__file__).resolve().parents[1]
ARCHITECTURES = {}
for _name, _entry in MODELS.items():
    ARCHITECTURES.setdefault((_entry.library, _entry.architecture), _name)
TABLE_4 = MODEL_SETS["set:boehm2025"]


@pytest.mark.parametrize("name", ARCHITECTURES.values())
def test_parameters_stages_and_depths_are_those_of_the_architecture(name):
    entry = MODELS[name]
    with torch.device("meta"):  # shapes without values: no network takes memory
        network = build_network(name, entry).eval()
        if entry.parameters is not None:  # a paper or library gives it
            assert sum(weight.numel() for weight in network.parameters()) == entry.parameters
        called = []
        for stage, path in entry.stages.items():
            if path != "softmax":
                module = network.get_submodule(path)
                module.register_forward_hook(lambda *_, stage=stage: called.append(stage))
        units = depth_units(network, entry.preprocessing.size)
    assert called == [stage for stage in entry.stages if stage != "softmax"]
    found = [units[int(fraction * len(units) + 0.5) - 1] for fraction in DEPTHS.values()]
    assert found == list(entry.depths)


def test_entries_of_one_architecture_share_its_facts():
    for name, entry in MODELS.items():
        first = MODELS[ARCHITECTURES[entry.library, entry.architecture]]
        assert (entry.parameters, entry.depths) == (first.parameters, first.depths), name
        assert entry.title, name
        assert entry.threat or entry.training not in ("adversarial", "random-perturbation"), name


@pytest.mark.slow
def test_every_architecture_loads_with_random_weights():
    for name in ARCHITECTURES.values():
        model = load_model(name, weights="random", device="cpu")
        n_parameters = sum(weight.numel() for weight in model.network.parameters())
        assert MODELS[name].parameters in (n_parameters, None), name
        found = [find_stage(model, fraction).path for fraction in DEPTHS.values()]
        assert found == list(MODELS[name].depths), name
        assert model.n_classes == 1000 or not model.has_classes


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ARCHITECTURES.values())
def test_every_architecture_makes_a_metamer_of_a_photograph_on_the_command_line(
    name, shared_data, tmp_path, monkeypatch
):
    (tmp_path / "photographs").mkdir()
    with Image.open(shared_data / "photos_ccby" / "photo_001.jpg") as photograph:
        photograph.save(tmp_path / "photographs" / "dog.png")
    words = f"stimuli metamer --models {name} --stage middle --weights random --steps 2"
    files = ["--images", tmp_path / "photographs", "--out", tmp_path / "metamers"]
    monkeypatch.setattr(sys, "argv", ["neurometamer", *words.split(), *map(str, files)])
    with pytest.raises(SystemExit):
        main()
    table = read_table(tmp_path / "metamers" / "stimuli.csv")
    names = {path: stage for stage, path in MODELS[name].stages.items()}
    middle = MODELS[name].depths[1]
    assert table["stage"].tolist() == [names.get(middle, middle)]
    assert np.isfinite(table["loss_png"]).all()
    assert len(list((tmp_path / "metamers" / "png").glob("*.png"))) == 1


# -------------------------------------------------------------------------------- papers, libraries


@pytest.mark.data
def test_the_networks_of_the_ensemble_paper_are_those_of_its_table_5(shared_data):
    with (shared_data / "boehm2025_table5.csv").open(encoding="utf-8") as file:
        printed = {row["model"].casefold() for row in csv.DictReader(file)}
    ours = [MODELS[name].title.casefold() for name in TABLE_4]
    assert len(ours) == 31
    # it prints the robust ViT-B, whose patches are made by convolutions, as "Vit-Base Robust"
    assert set(ours) == printed


def test_sets_stand_for_their_networks():
    assert expand_sets("set:cnn") == ["convnext_base", "alexnet", "resnet50", "resnet18"]
    assert expand_sets(["alexnet", "set:cnn"])[0] == "alexnet"
    assert len(expand_sets(["set:cnn", "set:transformers"])) == 8
    assert expand_sets(["alexnet, vgg19", "set:cnn,vgg19"])[:3] == [
        "alexnet",
        "vgg19",
        "convnext_base",
    ]
    for members in MODEL_SETS.values():
        assert set(members) <= set(MODELS)
    robust = [MODELS[name] for name in MODEL_SETS["set:robust-transformers"]]
    assert [entry.threat for entry in robust] == ["corruptions", "Linf", "Linf", "Linf"]


def _weights_of_torchvision(entry):
    from torchvision.models import get_model_weights

    return get_model_weights(entry.architecture)[entry.weights_tag]


OF_TORCHVISION = [
    name
    for name, entry in MODELS.items()
    if entry.library == "torchvision" and entry.weights_tag.startswith("IMAGENET1K")
]


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_entries_agree_with_torchvision(name):
    entry = MODELS[name]
    theirs = _weights_of_torchvision(entry)
    cut, own = theirs.transforms(), entry.preprocessing
    assert (entry.weights_url, entry.parameters) == (theirs.url, theirs.meta["num_params"])
    assert theirs.url.endswith("/" + entry.weights_file)
    assert entry.sha256 in entry.weights_file
    assert ([own.resize], [own.size[0]]) == (cut.resize_size, cut.crop_size)
    assert own.interpolation == cut.interpolation.value
    assert (list(own.mean), list(own.std)) == (cut.mean, cut.std)


OF_TIMM = [name for name, entry in MODELS.items() if "huggingface" in entry.weights_url]


@pytest.mark.parametrize("name", OF_TIMM)
def test_entries_agree_with_timm(name):
    import timm

    entry = MODELS[name]
    theirs = timm.get_pretrained_cfg(f"{entry.architecture}.{entry.weights_tag}")
    own = entry.preprocessing
    assert f"/{theirs.hf_hub_id}/" in entry.weights_url
    assert own.size == tuple(theirs.input_size[1:])
    if entry.training != "language":  # OpenAI and Feather et al. do not cut CLIP's photographs
        assert own.resize == int(own.size[0] / theirs.crop_pct)
    assert own.interpolation == theirs.interpolation
    assert (own.mean, own.std) == (theirs.mean, theirs.std)
    assert entry.license.casefold() == theirs.license


FEATHER = {
    "alexnet": 9,
    "alexnet_sin": 9,
    "alexnet_early": 9,
    "alexnet_lowpass": 11,
    "vone_alexnet": 8,
    "resnet50_simclr": 7,
    "resnet50_moco_v2": 7,
    "resnet50_byol": 7,
    "resnet50_sin": 7,
    "resnet50_swsl": 7,
    "resnext101_swsl": 7,
    "vgg19": 9,
    "cornet_s": 5,
    "vit_large": 8,
    "alexnet_gn_ipcl": 9,
    "alexnet_gn_supervised": 9,
    "clip_resnet50": 6,
    "clip_vit_base": 9,
    "hmax": 5,
}
"""Numbers of stages; AlexNet's softmax is ours, ReLUs 5 and 6 are those of fc0 and fc1."""


def test_the_networks_of_feather_et_al_are_all_there_with_their_stages():
    for name, n_stages in FEATHER.items():
        assert len(MODELS[name].stages) == n_stages, name
    public = MODEL_SETS["set:feather2023"]
    assert len(public) == 20
    every = MODEL_SETS["set:feather2023-all"]
    assert set(FEATHER) | set(public) == set(every) and len(every) == 30
    stages = list(MODELS["resnext101_swsl"].stages)
    assert stages == ["conv1_relu1", *(f"layer{n}" for n in range(1, 5)), "globalpool", "final"]
    # self-supervised networks say what is final
    for name in every:
        entry = MODELS[name]
        if entry.training in ("self-supervised", "language"):
            assert "final is" in entry.notes, name


def test_every_network_cites_its_papers():
    for name, entry in MODELS.items():
        assert entry.cites, name
        for key in entry.cites:
            work = WORKS[key]
            assert key in PAPERS and NETWORKS[name] == entry.cites
            assert work.authors and 1990 < work.year < 2030 and len(work.title) > 10
            assert work.link.startswith("https://") and work.venue
            assert str(work.year) in entry.reference
            assert reference_text(key).startswith(work.authors[0])
    used = {key for entry in MODELS.values() for key in entry.cites}
    assert used == set(PAPERS)  # no paper of the table is cited by nobody
    assert "doi = {10.1109/CVPR.2016.90}" in bibtex(NETWORKS["resnet50_byol"])


def test_the_readme_has_the_table_of_networks_as_it_is():
    spec = importlib.util.spec_from_file_location("network_table", TESTS / "network_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.README.read_text(encoding="utf-8")
    assert module.with_table(text) == text, "run python tests/network_table.py"
    assert text.count("| `") >= len(MODELS)


# -------------------------------------------------------------------------- networks written here


def test_caffes_alexnet_sees_blue_first_and_normalizes_as_the_paper_says():
    network = caffe_alexnet().eval()
    with torch.no_grad():
        network.conv1.weight.zero_()
        network.conv1.weight[:, 0] = 1.0  # the first channel alone
        image = torch.zeros(1, 3, 227, 227)
        image[:, 2] = 1.0  # blue
        assert (
            network.conv1(network.to_bgr(image)) - network.conv1.bias[None, :, None, None] - 121
        ).abs().max() < 1e-3
        values = torch.rand(1, 96, 3, 3, generator=torch.Generator().manual_seed(0)) * 50
        given = values[0, :, 0, 0].double().numpy()
        expected = []
        for channel in range(96):
            near = given[max(0, channel - 2) : channel + 3]
            # Krizhevsky et al. 2012, section 3.3, with Caffe's alpha / n and k = 1
            expected.append(given[channel] / (1 + 1e-4 / 5 * (near**2).sum()) ** 0.75)
        # float32
        assert np.allclose(network.norm1(values)[0, :, 0, 0].numpy(), expected, rtol=1e-5)
    assert network.conv2.groups == network.conv4.groups == network.conv5.groups == 2
    assert network.conv3.groups == 1
    model = load_model("caffe_alexnet", weights="random", device="cpu")
    shapes = {
        stage: tuple(output.shape[1:])
        for stage, output in model.activations(
            torch.rand(1, 3, 227, 227), list(model.stages)
        ).items()
    }
    assert shapes["relu1"] == (96, 55, 55) and shapes["relu5"] == (256, 13, 13)
    assert shapes["fc8"] == shapes["softmax"] == (1000,)


def test_an_area_of_cornet_s_runs_its_bottleneck_again_with_other_normalizations():
    torch.manual_seed(0)
    area = cornet_s().eval().V4
    for module in area.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    values = torch.rand(1, 128, 12, 12)
    functional = nn.functional
    with torch.no_grad():
        state = functional.conv2d(values, area.enter.weight)
        for time in range(4):
            stride = 2 if time == 0 else 1
            beside = state
            if time == 0:
                beside = area.skip_norm(functional.conv2d(state, area.skip.weight, stride=2))
            state = area.expand_norms[time](functional.conv2d(state, area.expand.weight)).relu()
            state = functional.conv2d(state, area.convolve.weight, stride=stride, padding=1)
            state = area.convolve_norms[time](state).relu()
            state = area.reduce_norms[time](functional.conv2d(state, area.reduce.weight))
            state = (state + beside).relu()
        assert torch.equal(area(values), state)
    assert state.shape == (1, 256, 6, 6)
    assert not torch.equal(area.expand_norms[0].running_mean, area.expand_norms[1].running_mean)


def test_the_stem_of_convolutions_makes_a_patch_of_16_pixels_a_token():
    stem = vit_base_convstem().patch_embed.proj
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert stem(images).shape == (2, 768, 4, 4)
        first = stem.stem[0](images)
        centered = first - first.mean(dim=1, keepdim=True)
        expected = centered / (first.var(dim=1, keepdim=True, correction=0) + 1e-6).sqrt()
        # float32
        assert torch.allclose(stem.stem[1](first), expected, atol=1e-5)
    names = [name for name, _ in stem.named_parameters()]
    # names of RobustBench's checkpoint under patch_embed.proj
    assert names[0] == "stem.0.weight" and names[-1] == "stem.12.bias"
