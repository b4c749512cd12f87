import importlib.util

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neurometamer.errors import InputError
from stimuli_gen import Preprocessing, load_photographs, packaged_photographs

ALEXNET = Preprocessing(
    size=(224, 224),
    resize=256,
    interpolation="bilinear",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
LITE0 = Preprocessing(
    size=(224, 224), resize=256, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
SMALL = Preprocessing(
    size=(8, 8), resize=9, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)


def noise(width, height, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


@settings(max_examples=15, deadline=None)
@given(width=st.integers(40, 700), height=st.integers(40, 700))
def test_cut_equals_torchvision_bit_for_bit(width, height):
    from torchvision import transforms

    theirs = transforms.Compose(
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    )
    photograph = noise(width, height)
    np.testing.assert_array_equal(ALEXNET.cut(photograph), theirs(photograph).numpy())


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (301, 801), (256, 256), (100, 224)])
def test_cut_and_normalization_equal_timm_for_lite0(shape, lite0):
    import timm
    import torch
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config({}, model=timm.create_model("tf_efficientnet_lite0"))
    assert (config["mean"], config["std"]) == (lite0.preprocessing.mean, lite0.preprocessing.std)
    theirs = create_transform(**config)(noise(*shape))
    ours = lite0._normalized(torch.from_numpy(LITE0.cut(noise(*shape)))[None])[0]
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_packaged_photographs_are_sixteen_real_ones():
    photographs = packaged_photographs(SMALL)
    assert len(photographs) == 16
    assert {"coffee", "cat", "rocket", "china", "flower"} <= set(photographs.ids)
    assert set(photographs.table["kind"]) == {"RE"}
    assert (photographs.table["reference_id"] == photographs.table["id"]).all()
    notes = photographs.table.set_index("id")["note"]
    assert notes["camera"] == "gray converted to RGB"
    assert notes["coffee"] == ""


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "skimage" else find_spec(name)
    )
    with pytest.raises(
        InputError, match=r"need skimage; install it with: pip install 'neurometamer\[demo\]'"
    ):
        packaged_photographs(SMALL)


def test_every_kind_of_file_becomes_rgb_and_is_noted(tmp_path):
    levels = np.asarray(noise(20, 20).convert("L"))
    rgba = np.dstack([np.asarray(noise(20, 20)), np.zeros((20, 20), np.uint8)])
    opaque = np.dstack([np.asarray(noise(20, 20)), np.full((20, 20), 255, np.uint8)])
    Image.fromarray(levels).save(tmp_path / "gray.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(rgba).save(tmp_path / "clear.png")
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    noise(20, 20).quantize(16).save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(20, 30).save(tmp_path / "turned.png", exif=exif)
    noise(20, 20).save(tmp_path / "plain.png")
    stimuli = load_photographs(tmp_path, SMALL)
    notes = dict(zip(stimuli.ids, stimuli.table["note"], strict=True))
    images = dict(zip(stimuli.ids, stimuli.images, strict=True))
    assert notes == {
        "clear": "transparency put on mid-gray",
        "deep": "16-bit gray scaled to 8 bits, converted to RGB",
        "gray": "gray converted to RGB",
        "opaque": "opaque alpha channel dropped",
        "palette": "palette converted to RGB",
        "plain": "",
        "turned": "turned upright (EXIF)",
    }
    np.testing.assert_array_equal(images["deep"], images["gray"])
    np.testing.assert_array_equal(images["opaque"], images["plain"])
    assert (images["clear"] == np.float32(128 / 255)).all()
    np.testing.assert_array_equal(
        images["turned"], SMALL.cut(noise(20, 30).transpose(Image.Transpose.ROTATE_270))
    )


def test_a_table_gives_ids_categories_and_targets(tmp_path):
    (tmp_path / "photos").mkdir()
    noise(20, 20).save(tmp_path / "photos" / "one.png")
    noise(20, 20).convert("L").save(tmp_path / "photos" / "two.png")
    listing = pd.DataFrame(
        {
            "file": ["photos/two.png", "photos/one.png"],
            "id": ["007", "x"],
            "category": "dog",
            "target": [3, 4],
        }
    )
    listing.assign(note="mine").to_csv(tmp_path / "list.csv", index=False)
    stimuli = load_photographs(tmp_path / "list.csv", SMALL)
    assert stimuli.ids == ("007", "x")
    assert stimuli.table["target"].tolist() == [3, 4]
    assert stimuli.table["note"].tolist() == ["mine; gray converted to RGB", "mine"]
    same = load_photographs([tmp_path / "photos" / "two.png"], SMALL)
    np.testing.assert_array_equal(same.images[0], stimuli.images[0])


def listed(tmp_path, **columns):
    noise(20, 20).save(tmp_path / "x.png")
    table = pd.DataFrame({"file": "x.png", "id": ["cup", "cup_AN", "cup_AI"], **columns})
    table.to_csv(tmp_path / "list.csv", index=False)
    return load_photographs(tmp_path / "list.csv", SMALL).table


def test_a_table_gives_kinds_and_references_of_images_made_elsewhere(tmp_path):
    table = listed(tmp_path, kind=["RE", "AN", "AI"], reference_id=[None, "cup", "cup"])
    assert table["kind"].tolist() == ["RE", "AN", "AI"]
    assert table["reference_id"].tolist() == ["cup"] * 3
    absent = listed(tmp_path)
    assert (absent["kind"] == "RE").all() and (absent["reference_id"] == absent["id"]).all()
    assert listed(tmp_path, kind=[None, "control", None])["kind"].tolist() == [
        "RE",
        "control",
        "RE",
    ]


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (
            {"kind": ["RE", "AN", "AI"], "reference_id": ["cup", "cap", "mug"]},
            r"reference id\(s\) cap, mug of cup_AN, cup_AI are no images of the table",
        ),
        (
            {"reference_id": "cup"},
            r"reference_id is not their own id: cup_AN, cup_AI; give them their kind",
        ),
        (
            {"kind": ["RE", "AN", "ai"]},
            "unknown kind of 'cup_AI' 'ai'.*Known: RE, AN, AI, metamer, control",
        ),
        ({"id": [None, None, "a"]}, "rows without a file or an id"),
    ],
)
def test_kinds_and_references_that_do_not_fit_are_refused(tmp_path, columns, match):
    with pytest.raises(InputError, match=match):
        listed(tmp_path, **columns)


def test_bad_photographs_are_named(tmp_path):
    noise(20, 20).save(tmp_path / "good.png")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "good.png").read_bytes()[:200])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(
        InputError,
        match=r"cannot use the image\(s\) broken.jpg, text.png; broken.jpg: it cannot be",
    ):
        load_photographs(tmp_path, SMALL)
    (tmp_path / "broken.jpg").unlink()
    (tmp_path / "text.png").unlink()
    noise(20, 20).save(tmp_path / "good.bmp")
    with pytest.raises(
        InputError, match=r"duplicate stimulus id\(s\): good .*good.bmp and .*good.png"
    ):
        load_photographs(tmp_path, SMALL)
    with pytest.raises(InputError, match="does not exist; give a folder"):
        load_photographs(tmp_path / "nowhere", SMALL)
    with pytest.raises(InputError, match=r"missing.png; missing.png: it does not exist"):
        load_photographs([tmp_path / "missing.png"], SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in"):
        load_photographs(tmp_path / "empty", SMALL)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'; did you mean 'bicubic'"),
        ({"resize": 7}, "must be at least the input size"),
        ({"std": (0.5, 0.0, 0.5)}, r"std \(.*\) positive"),
        ({"std": (0.5, float("nan"), 0.5)}, r"std \(.*\) positive"),
        (
            {"mean": (0.5,)},
            r"mean is of the wrong type; it must be a sequence of 3 \(a number each\), not "
            r"\(0\.5,\)",
        ),
    ],
)
def test_bad_preprocessing_is_refused(change, match):
    good = {
        "size": (8, 8),
        "resize": 9,
        "interpolation": "bicubic",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    with pytest.raises(InputError, match=match):
        Preprocessing(**{**good, **change})
