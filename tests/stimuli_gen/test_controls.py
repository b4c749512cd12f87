import numpy as np
import pytest
from scipy import ndimage

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from stimuli_gen import CONTROLS, control_images, packaged_photographs
from stimuli_gen.controls import (
    LUMA,
    blur,
    fourier_noise,
    gaussian_noise,
    grayscale,
    mean_amplitude,
    phase_scramble,
    random_l2,
    random_linf,
)
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.stimuli import to_8bit

SMALL = Preprocessing(
    size=(47, 64), resize=64, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)


@pytest.fixture(scope="module")
def photographs():
    return packaged_photographs(SMALL).select(ids=["astronaut", "moon", "coffee"])


@pytest.fixture
def image():
    return np.random.default_rng(0).uniform(0.3, 0.7, (3, 47, 64))


def random():
    return np.random.default_rng(1)


def test_random_vectors_have_the_norm_asked_for(image):
    change = random_l2(image, random(), 2.5) - image
    assert np.linalg.norm(change) == pytest.approx(2.5, rel=1e-12)
    drawn = random().uniform(-0.5, 0.5, image.shape)
    np.testing.assert_allclose(change, 2.5 * drawn / np.linalg.norm(drawn), atol=1e-12)
    change = random_linf(image, random(), 8 / 255) - image
    np.testing.assert_allclose(np.abs(change), 8 / 255, atol=1e-12)
    assert abs(np.mean(change > 0) - 0.5) < 0.03


def test_noise_by_ssnr(image):
    for make in (gaussian_noise, fourier_noise):
        np.testing.assert_allclose(make(image, random(), 1.0), image, atol=1e-12)
    noisy = gaussian_noise(image, random(), 0.4) - ((image - 0.5) * 0.4 + 0.5)
    np.testing.assert_allclose(
        noisy, 0.1 * random().standard_normal(image.shape), atol=1e-12
    )  # (1 - .4) / 6

    noise = fourier_noise(image, random(), 0.0) - 0.5
    amplitude = mean_amplitude(image[None])
    amplitude[0, 0] = 0
    np.testing.assert_allclose(np.abs(np.fft.fft2(noise)), np.stack([amplitude] * 3), atol=1e-9)
    own, shuffled = (np.angle(np.fft.fft2(channel)) for channel in (image.mean(axis=0), noise[0]))
    rest = np.ones(own.shape, dtype=bool)
    rest[0, 0] = False
    # the same phases at other frequencies; what the inverse transform gave was real, so that
    # nothing was lost
    np.testing.assert_allclose(
        np.sort(np.cos(own[rest])), np.sort(np.cos(shuffled[rest])), atol=1e-6
    )
    assert abs(np.corrcoef(np.cos(own[rest]), np.cos(shuffled[rest]))[0, 1]) < 0.1
    half = fourier_noise(image, random(), 0.5) - ((image - 0.5) * 0.5 + 0.5)
    np.testing.assert_allclose(half, 0.5 * noise, atol=1e-12)
    with pytest.raises(
        InputError, match=r"amplitude spectrum is \(4, 4\), the images are \(47, 64\)"
    ):
        fourier_noise(image, random(), 0.5, amplitude=np.ones((4, 4)))


@pytest.mark.parametrize("sigma", [1, 2, 4])
def test_blur_is_that_of_torchvision_and_scipy(image, sigma):
    import torch
    from torchvision.transforms.functional import gaussian_blur

    ours = blur(image, random(), sigma)
    theirs = gaussian_blur(torch.from_numpy(image), [6 * sigma + 1] * 2, [sigma] * 2).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-6)  # torchvision makes its kernel in float32
    by_axis = ndimage.gaussian_filter(image[1], sigma, mode="mirror", truncate=3)
    np.testing.assert_allclose(ours[1], by_axis, atol=1e-12)


def test_greyscale_is_that_of_torchvision(image):
    import torch
    from torchvision.transforms.functional import rgb_to_grayscale

    gray = grayscale(image, random(), 0)
    # torchvision writes .2989 for .299
    np.testing.assert_allclose(
        gray, rgb_to_grayscale(torch.from_numpy(image), 3).numpy(), atol=2e-4
    )
    assert all(sum(weights) == pytest.approx(1) for weights in LUMA.values())
    with pytest.raises(InputError, match="did you mean 'rec709'"):
        grayscale(image, random(), 0, luma="rec710")


def test_phase_scrambling_keeps_amplitudes_and_relations_of_channels(image):
    scrambled = phase_scramble(image, random(), 0)
    before, after = np.fft.fft2(image), np.fft.fft2(scrambled)
    np.testing.assert_allclose(np.abs(after), np.abs(before), atol=1e-9)
    np.testing.assert_allclose(after[0] * after[1].conj(), before[0] * before[1].conj(), atol=1e-6)
    np.testing.assert_allclose(scrambled.mean(axis=(1, 2)), image.mean(axis=(1, 2)))
    assert abs(np.corrcoef(scrambled.ravel(), image.ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("control", CONTROLS)
def test_every_control_is_the_same_alone_and_in_company_and_tells_what_it_did(photographs, control):
    made = control_images(photographs, control, seed=5)
    assert made.ids == tuple(f"{stimulus_id}_{control}" for stimulus_id in photographs.ids)
    assert set(made.table["kind"]) == {"control"}
    assert made.table["reference_id"].tolist() == list(photographs.ids)
    alone = control_images(photographs.select(ids=["moon"]), control, seed=5)
    np.testing.assert_array_equal(alone.images[0], made.images[1])
    moon = photographs.images[1].astype(float)
    raw = CONTROLS[control].make(
        moon, generator(5, "control", control, "moon"), made.table["level"][1]
    )
    np.testing.assert_array_equal(made.images[1], np.clip(raw, 0, 1).astype(np.float32))
    other = control_images(photographs, control, seed=6).images
    assert (np.abs(other - made.images).max() == 0) == (control in ("blur", "grayscale"))
    change = made.images.astype(float) - photographs.images
    np.testing.assert_allclose(made.table["l2"], np.sqrt((change**2).sum(axis=(1, 2, 3))))
    levels = to_8bit(made.images).astype(float) - to_8bit(photographs.images)
    np.testing.assert_array_equal(made.table["linf_8bit"], np.abs(levels).max(axis=(1, 2, 3)))
    assert made.table["ssim"].between(-1, 1).all()
    assert made.provenance["settings"]["control"] == control


def test_levels_share_their_random_numbers(photographs):
    made = control_images(
        photographs.select(ids=["moon"]), "random_linf", levels=[0.01, 0.02], seed=1
    )
    assert made.ids == ("moon_random_linf-0.01", "moon_random_linf-0.02")
    change = made.images - photographs.select(ids=["moon"]).images
    inside = (made.images > 0).all(axis=0) & (made.images < 1).all(axis=0)
    np.testing.assert_allclose(change[1][inside], 2 * change[0][inside], atol=1e-6)
    assert made.table["linf"].tolist() == pytest.approx([0.01, 0.02], abs=1e-6)


@pytest.mark.parametrize(
    ("control", "options", "match"),
    [
        ("blurr", {}, "did you mean 'blur'"),
        ("blur", {"levels": -1.0}, "level -1 of blur .* must be at least 0"),
        ("random_l2", {"levels": 0.0}, "must be above 0"),
        (
            "gaussian_noise",
            {"levels": [0.5, 1.5]},
            "level 1.5 of gaussian_noise .* between 0 and 1",
        ),
        ("grayscale", {"levels": 1.0}, "grayscale has no levels"),
        ("blur", {"levels": [1.0, 1.0]}, "repeat"),
        ("grayscale", {"lume": "mean"}, "did you mean 'luma'"),
        ("blur", {"luma": "mean"}, "blur has no setting 'luma'"),
    ],
)
def test_bad_settings_are_refused(photographs, control, options, match):
    with pytest.raises(InputError, match=match):
        control_images(photographs, control, **options)
