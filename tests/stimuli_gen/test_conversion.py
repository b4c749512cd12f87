"""Test the levels of converted image files and the notes on them.

Bits, color profiles, transparency and sizes are covered.
"""

import io
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageCms

from neurometamer.errors import InputError
from stimuli_gen import Preprocessing, load_photographs, write_png16
from stimuli_gen.photographs import LARGEST_RESIZED

SMALL = Preprocessing(
    size=(8, 8), resize=8, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
ALEXNET = Preprocessing(
    size=(224, 224), resize=256, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3
)
P3 = {
    b"rXYZ": (0.51512, 0.24120, -0.00105),
    b"gXYZ": (0.29198, 0.69225, 0.04189),
    b"bXYZ": (0.15710, 0.06657, 0.78407),
}
"""Primaries of Display P3, adapted to D50."""


def deep(path, brightest):
    levels = np.linspace(0, brightest, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(levels).save(path)
    return levels


def display_p3():
    """Give the profile of Display P3: sRGB's tone curve with other primaries."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (n_tags,) = struct.unpack(">I", profile[128:132])
    for entry in range(132, 132 + 12 * n_tags, 12):
        if primaries := P3.get(bytes(profile[entry : entry + 4])):
            (start,) = struct.unpack(">I", profile[entry + 4 : entry + 8])
            numbers = [round(65536 * number) for number in primaries]
            profile[start + 8 : start + 20] = struct.pack(">3i", *numbers)
    return bytes(profile)


def note_of(path, **settings):
    return load_photographs([path], SMALL, **settings).table["note"][0]


# --------------------------------------------------------------------------------------------- bits


@pytest.mark.parametrize(("brightest", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14)])
@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_few_bits_in_a_16_bit_file_are_scaled_only_when_asked_for(
    tmp_path, brightest, bits, suffix
):
    levels = deep(tmp_path / f"a.{suffix}", brightest)
    with pytest.raises(
        InputError,
        match=rf"go to {brightest} of 65535 only, as data of {bits} bits do.*bits = {bits}",
    ):
        load_photographs(tmp_path, SMALL)
    photographs_read = load_photographs(tmp_path, SMALL, bits=bits)
    np.testing.assert_array_equal(
        np.rint(255 * photographs_read.images[0, 0]), np.rint(levels * (255 / brightest))
    )
    assert (
        photographs_read.images.max() == 1
        and f"{bits}-bit gray in a 16-bit file" in photographs_read.table["note"][0]
    )
    assert photographs_read.provenance["settings"]["bits"] == bits
    pd.DataFrame({"file": [f"a.{suffix}"], "bits": [bits]}).to_csv(
        tmp_path / "list.csv", index=False
    )
    np.testing.assert_array_equal(
        load_photographs(tmp_path / "list.csv", SMALL).images, photographs_read.images
    )
    dark = load_photographs(tmp_path, SMALL, bits=16)
    np.testing.assert_array_equal(np.rint(255 * dark.images[0, 0]), np.rint(levels / 257))


def test_bits_that_cannot_be_are_refused(tmp_path):
    deep(tmp_path / "a.png", 5000)
    with pytest.raises(InputError, match=r"go to 5000, more than 12 bits hold \(4095\)"):
        load_photographs(tmp_path, SMALL, bits=12)
    for bits in (7, 17, 12.5, "12", True):
        with pytest.raises(InputError, match="bits must be a whole number from 8 to 16"):
            load_photographs(tmp_path, SMALL, bits=bits)
    (tmp_path / "list.csv").write_text("file,bits\na.png,twelve\n")
    with pytest.raises(InputError, match="column bits"):
        load_photographs(tmp_path / "list.csv", SMALL)
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "a.png")
    assert "almost black: its brightest level is 0" in note_of(tmp_path / "a.png")


def test_few_bits_in_a_16_bit_color_file_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for white in (255 / 65535, 4095 / 65535):
        write_png16(tmp_path / "a.png", white * rng.random((3, 8, 8)))
        with pytest.raises(
            InputError, match="almost black, or holds fewer bits than its file; save it with 8 bits"
        ):
            load_photographs(tmp_path, SMALL)
        assert "almost black" in note_of(tmp_path / "a.png", bits=16)
    write_png16(tmp_path / "a.png", rng.random((3, 8, 8)))
    assert note_of(tmp_path / "a.png") == "16 bits a channel: the high 8 kept"


# -------------------------------------------------------------------------------------------- color


def test_a_wide_gamut_is_told_and_converted_when_asked_for(tmp_path):
    Image.new("RGB", (8, 8), (200, 60, 40)).save(tmp_path / "a.png", icc_profile=display_p3())
    photographs_read = load_photographs(tmp_path, SMALL)
    assert (
        "color profile" in photographs_read.table["note"][0]
        and "not applied" in photographs_read.table["note"][0]
    )
    np.testing.assert_array_equal(
        255 * photographs_read.images[0, :, 0, 0], [200, 60, 40]
    )  # as torchvision
    converted = load_photographs(tmp_path, SMALL, icc="convert")
    assert "converted to sRGB" in converted.table["note"][0]
    # by hand: linear light in P3, to XYZ (D50), to linear sRGB, to levels
    srgb = np.array(
        [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
    )
    linear = ((np.array([200, 60, 40]) / 255 + 0.055) / 1.055) ** 2.4
    light = np.linalg.solve(srgb, np.array(list(P3.values())).T @ linear)
    expected = 255 * (1.055 * np.clip(light, 0, 1) ** (1 / 2.4) - 0.055)
    assert np.abs(255 * converted.images[0, :, 0, 0] - expected).max() <= 2
    (tmp_path / "list.csv").write_text("file,icc\na.png,convert\n")
    np.testing.assert_array_equal(
        load_photographs(tmp_path / "list.csv", SMALL).images, converted.images
    )


def test_srgb_is_srgb_whatever_its_name_and_damage_is_told(tmp_path):
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (8, 8), (200, 60, 40)).save(
        tmp_path / "a.png", icc_profile=plain.replace(b"sRGB", b"mine")
    )
    for icc in ("ignore", "convert"):
        stimuli = load_photographs(tmp_path, SMALL, icc=icc)
        assert stimuli.table["note"][0] == ""
        np.testing.assert_array_equal(255 * stimuli.images[0, :, 0, 0], [200, 60, 40])
    Image.new("RGB", (8, 8), (200, 60, 40)).save(tmp_path / "a.png", icc_profile=plain[:200])
    assert note_of(tmp_path / "a.png") == "damaged color profile not applied: levels taken as sRGB"
    with pytest.raises(InputError, match="is damaged or does not fit its levels; save it as sRGB"):
        load_photographs(tmp_path, SMALL, icc="convert")
    with pytest.raises(
        InputError,
        match=r"unknown way with color profiles \(icc\) 'converted'; did you mean 'convert'",
    ):
        load_photographs(tmp_path, SMALL, icc="converted")


def test_alpha_survives_the_conversion_of_colors(tmp_path):
    rgba = np.full((8, 8, 4), (200, 60, 40, 255), np.uint8)
    rgba[:4, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=display_p3())
    image = load_photographs(tmp_path, SMALL, icc="convert").images[0]
    np.testing.assert_array_equal(255 * image[:, 0, 0], [128] * 3)
    assert 255 * image[0, 7, 0] > 210


def test_other_signs_of_another_color_space_are_told(tmp_path):
    chunk = b"gAMA" + struct.pack(">I", 100_000)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 60, 40)).save(buffer, "PNG")
    data = buffer.getvalue()
    data = (
        data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    )
    (tmp_path / "linear.png").write_bytes(data)
    assert (
        note_of(tmp_path / "linear.png")
        == "gamma of the file (1) not applied: levels taken as sRGB"
    )
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 2}
    Image.new("RGB", (8, 8), (200, 60, 40)).save(tmp_path / "adobe.jpg", exif=exif)
    assert "Adobe RGB by its EXIF" in note_of(tmp_path / "adobe.jpg")
    Image.new("CMYK", (8, 8), (0, 100, 100, 20)).save(tmp_path / "print.jpg")
    assert note_of(tmp_path / "print.jpg") == "CMYK converted to RGB"


# -------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("size", [(1, 900), (900, 1), (3, 900), (700, 2)])
def test_extreme_sizes_equal_a_resize_of_all_within_a_level(size, monkeypatch):
    from torchvision import transforms

    levels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    photograph = Image.fromarray(levels)
    settings = {
        "size": (24, 24),
        "resize": 28,
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    cut = Preprocessing(**settings)
    theirs = transforms.Compose(
        [
            transforms.Resize(28, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(24),
            transforms.ToTensor(),
        ]
    )
    resized = theirs(photograph).numpy()
    np.testing.assert_array_equal(cut.cut(photograph), resized)
    monkeypatch.setattr("stimuli_gen.photographs.LARGEST_RESIZED", 0)
    assert np.abs(255 * (cut.cut(photograph) - resized)).max() <= 1.001


LIMITED = """
import resource, sys
from PIL import Image
from stimuli_gen import Preprocessing, load_photographs
gray = {"mean": (.5,) * 3, "std": (.5,) * 3}
p = Preprocessing(size=(224, 224), resize=256, interpolation="bilinear", **gray)
load_photographs([sys.argv[1] + "/plain.png"], p)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in ("thin", "flat"):
    image = load_photographs([f"{sys.argv[1]}/{name}.png"], p).images
    assert image.shape == (1, 3, 224, 224)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_small_file_cannot_fill_the_memory(tmp_path):
    ramp = np.linspace(0, 255, 20_000).astype(np.uint8)[:, None, None].repeat(3, axis=2)
    Image.fromarray(ramp).save(tmp_path / "thin.png")
    Image.fromarray(ramp.transpose(1, 0, 2)).save(tmp_path / "flat.png")
    Image.fromarray(ramp[:300].repeat(300, axis=1)).save(tmp_path / "plain.png")
    assert LARGEST_RESIZED < 256 * 256 * 20_000
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 50_000  # kilobytes; resized whole, either takes five million


def promise(path, side):
    """Write a PNG whose header promises a square of RGB pixels, of which the first line comes."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(1 + 3 * side)),
        b"IEND": b"",
    }
    parts = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_too_many_pixels_and_too_little_memory_are_told(tmp_path):
    for side in (14_000, 100_000):
        with pytest.raises(
            InputError, match=r"a\.png: it has more than 179 million pixels; make it smaller"
        ):
            load_photographs([promise(tmp_path / "a.png", side)], ALEXNET)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28, hard))
    try:
        with pytest.raises(
            InputError, match=r"b\.png: there is not enough memory for its 13000 x 13000 pixels"
        ):
            load_photographs([promise(tmp_path / "b.png", 13_000)], ALEXNET)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_an_orientation_that_means_nothing_is_not_said_to_be_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 99
    Image.new("RGB", (9, 8), (9, 99, 199)).save(tmp_path / "a.jpg", exif=exif)
    assert note_of(tmp_path / "a.jpg") == ""


def test_a_file_of_several_jpegs_is_an_image_of_a_folder(tmp_path):
    picture = Image.new("RGB", (9, 8), (9, 99, 199))
    picture.save(tmp_path / "a.mpo", save_all=True, append_images=[picture])
    assert load_photographs(tmp_path, SMALL).table["note"].tolist() == ["first of 2 frames"]
