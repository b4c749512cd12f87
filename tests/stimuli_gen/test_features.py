import time

import numpy as np
import pytest
from PIL import Image

from neurometamer.errors import InputError
from stimuli_gen import gabor_energy, luminance, pixel_features
from stimuli_gen.features import gabor, gray


@pytest.mark.parametrize("wavelength", [4, 10, 32])
@pytest.mark.parametrize("angle", [0, np.pi / 4, 2.0])
def test_gabor_equals_scikit_image(wavelength, angle):
    filters = pytest.importorskip("skimage.filters")
    theirs = filters.gabor_kernel(1 / wavelength, theta=angle)
    ours = gabor(1 / wavelength, angle)
    (above, left) = ((a - b) // 2 for a, b in zip(ours.shape, theirs.shape, strict=True))
    inside = ours[above : above + theirs.shape[0], left : left + theirs.shape[1]]
    np.testing.assert_allclose(inside, theirs, atol=1e-15)  # float64 rounding


def test_energy_equals_direct_convolution():
    from scipy.signal import convolve

    images = np.random.default_rng(0).random((2, 3, 40, 36), dtype=np.float32)
    energy = gabor_energy(images, wavelengths=[6], n_orientations=2, size=1)
    for row, light in enumerate(gray(images)):
        for place, angle in enumerate((0, np.pi / 2)):
            kernel = gabor(1 / 6, angle)
            kernel = kernel - np.abs(kernel) * kernel.sum() / np.abs(kernel).sum()
            response = convolve(light - light.mean(), kernel, mode="same", method="direct")
            # single-precision Fourier transforms: relative error about 1e-6
            np.testing.assert_allclose(
                energy[row, place], np.mean(np.abs(response) ** 2), rtol=1e-5
            )


def test_filters_larger_than_the_image_do_not_wrap_around():
    images = np.random.default_rng(3).random((1, 3, 20, 24), dtype=np.float32)
    framed = np.full((1, 3, 220, 224), 0.5, np.float32)
    light = gray(images)[0]
    framed[0, :, 100:120, 100:124] = (
        light - light.mean() + 0.5
    )  # the same light amid much uniform gray
    small, large = gabor_energy(images, size=1), gabor_energy(framed, size=11)
    assert small.shape == (1, 16) and gabor_energy(images[:0]).shape == (0, 16 * 49)
    # The framed image's cell 5 x 5 covers rows 100 to 119 and columns 101 to 121: nearly the small
    # image.
    inside = large.reshape(16, 11, 11)[:, 5, 5]
    np.testing.assert_allclose(small[0], inside, rtol=0.15)


def test_energy_finds_orientation_scale_and_place_and_ignores_uniform_light():
    y = np.mgrid[:96, :96][0]
    grating = 0.5 + 0.4 * np.sin(2 * np.pi * y / 8 + 0.3)
    grating[:, 48:] = 0.5
    flat = np.full((96, 96), 0.9)
    images = np.broadcast_to(
        np.stack([grating, 1 - grating, flat])[:, None], (3, 3, 96, 96)
    ).astype(np.float32)
    energy = gabor_energy(images, wavelengths=(4, 8, 16), n_orientations=4, size=4).reshape(
        3, 3, 4, 4, 4
    )
    assert np.unravel_index(energy[0].sum(axis=(2, 3)).argmax(), (3, 4)) == (
        1,
        2,
    )  # 8 pixels, horizontal stripes
    assert energy[0, 1, 2, 1, 0] > 100 * energy[0, 1, 2, 1, 3]
    np.testing.assert_allclose(
        energy[0], energy[1], rtol=1e-3, atol=1e-9
    )  # contrast reversed: same energy
    assert energy[2].max() < 1e-12


def test_pixels_and_luminance_agree_with_plain_means():
    images = np.random.default_rng(1).random((3, 3, 24, 36), dtype=np.float32)
    blocks = images.reshape(3, 3, 4, 6, 4, 9).mean(axis=(3, 5), dtype=np.float64)
    np.testing.assert_allclose(
        pixel_features(images, 4, color=True), blocks.reshape(3, -1), rtol=1e-12
    )
    assert pixel_features(images, 5).shape == (3, 25)
    levels = (images * 255).round().astype(np.uint8)
    theirs = np.asarray(Image.fromarray(levels[0].transpose(1, 2, 0)).convert("L"))
    np.testing.assert_allclose(
        gray(levels[:1] / 255)[0] * 255, theirs, atol=0.51
    )  # Pillow rounds to whole levels
    np.testing.assert_allclose(luminance(images)[:, 0], gray(images).mean(axis=(1, 2)))


def test_forty_eight_images_take_under_three_seconds():
    images = np.random.default_rng(0).random((48, 3, 224, 224), dtype=np.float32)
    begun = time.process_time()
    assert gabor_energy(images).dtype == np.float64
    assert time.process_time() - begun < 3


def test_bad_arguments_are_refused():
    images = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(InputError, match="grid of 9 cells"):
        pixel_features(images, 9)
    with pytest.raises(InputError, match="at least 2 pixels"):
        gabor_energy(images, wavelengths=[1])
    with pytest.raises(InputError, match="positive bandwidth"):
        gabor_energy(images, bandwidth=0)
    with pytest.raises(InputError, match=r"must be \(n, 3, height, width\)"):
        luminance(images[0])
