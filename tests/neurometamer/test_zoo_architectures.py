"""Networks written from papers: V1 in front of AlexNet, HMAX, group normalization, Hann windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch

from neurometamer.errors import InputError
from neurometamer.zoo import MODELS, load_model
from neurometamer.zoo.architectures import HannPooling, alexnet_gn, lowpass_alexnet
from neurometamer.zoo.gabor_networks import (
    N_PATCHES,
    N_SIMPLE,
    PATCH_SIZES,
    VOneBlock,
    gabor,
    hmax,
    v1_filters,
    vone_alexnet,
)
from neurometamer.zoo.random_weights import randomize
from neurometamer.zoo.weights import load_into

# ------------------------------------------------------------------------------------------ VOneNet


def test_a_gabor_filter_prefers_its_grating():
    filters = [gabor(31, 0.1, angle, 0.0, 4.0, 6.0) for angle in (0, math.pi / 4, math.pi / 2)]
    columns = np.arange(-15, 16)[None, :]
    grating = np.cos(2 * math.pi * 0.1 * columns) * np.ones((31, 1))  # bars stand upright
    answers = [abs((kernel * grating).sum()) for kernel in filters]
    assert answers[0] > 10 * max(answers[1:])
    energy = np.abs(np.fft.fftshift(np.fft.fft2(filters[0], (320, 320)))) ** 2
    row, column = np.unravel_index(energy.argmax(), energy.shape)
    assert row == 160 and abs(abs(column - 160) / 320 - 0.1) < 0.01


def test_the_cells_of_v1_are_distributed_as_in_the_cortex():
    first, second = v1_filters(0)
    assert first.shape == second.shape == (512, 3, 25, 25)
    sees = np.abs(first).sum(axis=(2, 3)) > 0
    assert (sees.sum(axis=1) == 1).all()  # a cell sees one color
    assert np.bincount(sees.argmax(axis=1)).min() > 130
    again, _ = v1_filters(0)
    other, _ = v1_filters(1)
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    # the pair is a quarter of a cycle apart: over phases of a grating, the energy is constant
    cells = first.sum(axis=1), second.sum(axis=1)
    spectra = [np.fft.fft2(cell, (64, 64)) for cell in cells]
    strongest = np.abs(spectra[0]).reshape(512, -1).argmax(axis=1)
    picked = [spectrum.reshape(512, -1)[np.arange(512), strongest] for spectrum in spectra]
    turn = np.angle(picked[1] / picked[0])
    assert np.median(np.abs(np.abs(turn) - math.pi / 2)) < 0.15


def test_simple_cells_rectify_and_complex_cells_do_not_see_the_phase():
    block = VOneBlock().eval()
    columns = np.arange(224) * np.ones((224, 1))
    responses = []
    for phase in np.linspace(0, 2 * math.pi, 8, endpoint=False):
        wave = np.cos(2 * math.pi * 0.1 * columns + phase)
        image = torch.from_numpy(wave).float().expand(1, 3, -1, -1)
        with torch.no_grad():
            responses.append(block(image)[0, :, 28, 28])
    found = torch.stack(responses)
    assert found.shape == (8, 512) and found.min() >= 0
    means, spreads = found.mean(dim=0), found.std(dim=0)
    active = means > 0.1 * means.max()
    modulation = spreads / means.clamp_min(1e-6)
    simple, complex_cells = active[:N_SIMPLE], active[N_SIMPLE:]
    # half-rectified waves have a standard deviation of 1.2 means, constants of 0
    assert simple.sum() > 5 and modulation[:N_SIMPLE][simple].min() > 0.9
    assert complex_cells.sum() > 5 and modulation[N_SIMPLE:][complex_cells].max() < 0.4


def test_noise_is_off_and_outside_of_training_always_the_same():
    image = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        quiet = VOneBlock().eval()(image)
        for noise in ("gaussian", "neuronal"):
            block = VOneBlock(noise, noise_sd=0.5).eval()
            noisy = block(image)
            assert torch.equal(noisy, block(image)) and not torch.equal(noisy, quiet)
            assert noisy.min() >= 0
            # an image alone has the same response as in a batch
            assert torch.allclose(block(image[:1]), noisy[:1], atol=1e-5)  # float32
            block.train()
            assert not torch.equal(block(image), block(image))
    high = quiet > 5
    drawn = (VOneBlock("gaussian", noise_sd=0.5).eval()(image) - quiet)[high]
    assert abs(float(drawn.std()) - 0.5) < 0.02


def test_random_weights_leave_the_gabor_filters_as_they_are():
    network = vone_alexnet()
    before = network.V1.first.weight.clone()
    randomize(network, seed=3)
    assert torch.equal(network.V1.first.weight, before)
    assert not any(name.startswith("V1") for name, _ in network.named_parameters())
    assert network.bottleneck.weight.std() > 0
    model = load_model("vone_alexnet", weights="random", device="cpu")
    assert torch.equal(model.network.V1.first.weight, before)
    assert MODELS["vone_alexnet"].weights_file == ""


# --------------------------------------------------------------------------------------------- HMAX


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return hmax(size=200).eval()


def test_s1_is_the_cosine_between_filter_and_pixels(small):
    image = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        responses = small.S1(image)
    assert responses.shape == (1, 64, 60, 60)
    assert responses.min() >= 0 and responses.max() <= 1
    assert small.S1.scales[15].weight.shape[-1] == 37
    for scale, orientation in ((0, 0), (3, 2), (15, 1)):
        kernel = small.S1.scales[scale].weight[orientation, 0].numpy()
        assert abs(kernel.mean()) < 1e-6 and abs(np.linalg.norm(kernel) - 1) < 1e-5
        width = len(kernel)
        half = width // 2
        pixels = image[0, 0].numpy()
        below = pixels[30 - half : 31 + half, 25 - half : 26 + half]
        expected = abs((kernel * below).sum()) / np.linalg.norm(below)
        found = responses[0, 4 * scale + orientation, 30, 25]
        assert abs(float(found) - expected) < 1e-5  # float32
    assert responses[0, 60:, :18].max() == 0  # where a filter would leave the image


def test_c1_s2_and_c2_are_those_of_the_paper(small):
    values = torch.rand(1, 64, 200, 200, generator=torch.Generator().manual_seed(2)) / 4
    with torch.no_grad():
        packed = small.C1(values)
        side = small.S2.sides[0]
        band = packed[0, : 4 * side**2].reshape(4, side, side)
        row, column = 5, 7
        area = values[0, :8, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
        assert torch.equal(band[2, row, column], area[[2, 6]].max())
        likeness = small.S2(packed)
        size = PATCH_SIZES[1]
        first = N_PATCHES * (side - PATCH_SIZES[0] + 1) ** 2
        n_places = side - size + 1
        maps = likeness[0, first : first + N_PATCHES * n_places**2]
        maps = maps.reshape(N_PATCHES, n_places, n_places)
        patch = small.S2.patches[1].weight[9]
        distance = (band[:, 3 : 3 + size, 4 : 4 + size] - patch).square().sum()
        assert abs(float(maps[9, 3, 4] - torch.exp(-distance / 2))) < 1e-5  # float32
        largest = small.C2(likeness)
        assert largest.shape == (1, N_PATCHES * len(PATCH_SIZES))
        assert largest[0, N_PATCHES + 9] >= maps[9].max()
        # a stored patch that lies somewhere in the maps is found
        small.S2.patches[1].weight[0] = band[:, 3 : 3 + size, 4 : 4 + size]
        assert small.C2(small.S2(packed))[0, N_PATCHES] > 1 - 1e-5


# ------------------------------------------------------------------ low-pass, group normalization


def test_hann_pooling_is_scipys_window_and_keeps_the_mean():
    pooling = HannPooling(9, 2, 2)
    window = scipy.signal.windows.hann(9)[1:-1]
    values = torch.rand(1, 3, 21, 21, generator=torch.Generator().manual_seed(0))
    expected = scipy.signal.convolve2d(
        np.pad(values[0, 1].numpy(), 2), np.outer(window, window) / window.sum() ** 2, "valid"
    )[::2, ::2]
    found = pooling(values)[0, 1].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6  # float32
    assert abs(float(pooling(torch.ones(1, 1, 21, 21))[0, 0, 4, 4]) - 1) < 1e-6


def test_a_grating_that_would_alias_does_not_pass_the_low_pass_network():
    network = lowpass_alexnet().eval()
    with torch.no_grad():
        torch.nn.init.dirac_(network.features[0][0].weight)
        network.features[0][0].bias.zero_()
        columns = torch.arange(224)
        shares = []
        for period in (4.5, 40.0):  # the stride is 4
            wave = 0.5 + 0.5 * torch.cos(2 * math.pi * columns / period)
            image = wave.expand(1, 3, 224, 224)
            first = network.features[0](image)[0, 0, 10:-10, 10:-10]
            shares.append(float(first.std() / wave.std()))
    assert shares[0] < 0.02 and shares[1] > 0.7


def test_the_file_of_the_low_pass_network_fits_by_name(tmp_path):
    state = lowpass_alexnet().state_dict()
    assert state["features.0.2.hann_window2d"].shape == (1, 1, 15, 15)
    wrapped = {}
    for key, value in state.items():
        wrapped[f"module.model.{key}"] = wrapped[f"module.attacker.model.{key}"] = value
    wrapped["module.normalizer.new_mean"] = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    load_into(lowpass_alexnet(), wrapped, MODELS["alexnet_lowpass"], tmp_path / "x.pt")


def test_the_embedding_has_length_1_and_its_twin_has_classes():
    network = alexnet_gn().eval()
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        embedding = network(images)
        assert torch.allclose(embedding.norm(dim=1), torch.ones(2), atol=1e-5)  # float32
        block = network.conv_block_2
        values = torch.rand(1, 96, 27, 27)
        filtered = torch.nn.functional.conv2d(values, block[0].weight, padding=2)
        groups = filtered.reshape(32, -1)
        spread = (groups.var(dim=1, correction=0, keepdim=True) + 1e-5).sqrt()
        expected = ((groups - groups.mean(dim=1, keepdim=True)) / spread).relu()
        assert torch.allclose(block(values).reshape(32, -1), expected, atol=1e-5)  # float32
    names = [name for name, _ in network.named_parameters()]
    assert names[0] == "conv_block_1.0.weight" and names[-1] == "fc8.0.bias"
    twin = alexnet_gn(n_outputs=1000, unit_length=False).eval()
    assert not hasattr(twin, "l2norm") and twin.fc8[0].out_features == 1000


def test_the_file_of_the_stylized_alexnet_fits_by_name(tmp_path):
    from torchvision.models import alexnet

    state = alexnet(weights=None).state_dict()
    renamed = {key.replace("features.", "features.module."): value for key, value in state.items()}
    torch.save({"state_dict": renamed}, tmp_path / "sin.pth.tar")
    model = load_model("alexnet_sin", weights=tmp_path / "sin.pth.tar", device="cpu")
    assert torch.equal(model.network.features[0].weight, state["features.0.weight"])
    with pytest.raises(InputError, match=r"does not fit alexnet: missing features\.0\.weight"):
        load_model("alexnet", weights=tmp_path / "sin.pth.tar", device="cpu")
