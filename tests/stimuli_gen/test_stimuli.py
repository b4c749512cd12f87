import base64
import io
import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.errors import InputError
from neurometamer.store import SEAL_SIZE
from stimuli_gen import (
    StimulusSet,
    StoredImages,
    concat_stimuli,
    image_distances,
    read_png16,
    read_stimuli,
    write_png16,
    write_records,
    write_stimuli,
)
from stimuli_gen.stimuli import to_8bit


def make(ids=("a", "b", "007"), kind="RE", **columns):
    images = np.random.default_rng(len(ids)).random((len(ids), 3, 5, 4), dtype=np.float32)
    table = pd.DataFrame({"id": list(ids), "kind": kind, "reference_id": list(ids), **columns})
    return StimulusSet(images=images, table=table, provenance={"made": "here"})


def test_what_is_read_back_is_what_was_written(tmp_path):
    made = make(
        kind=["RE", "AN", "AI"],
        confidence_float=[0.1, 1 / 3, np.nan],
        target_index=[1, None, 3],
        success=[True, None, False],
        note=["", "gray", None],
    )
    write_stimuli(made, tmp_path)
    for in_memory in (True, False):
        back = read_stimuli(tmp_path, in_memory=in_memory)
        assert back.digest == made.digest
        np.testing.assert_array_equal(np.asarray(back.images), made.images)
        pd.testing.assert_frame_equal(back.table, made.table)
        assert back.provenance == {"made": "here"}
    assert (tmp_path / "stimuli.csv").read_text().splitlines()[3].startswith("007,AI,007,")


def test_pngs_show_the_rounded_images(tmp_path):
    made = make()
    write_stimuli(made, tmp_path)
    for stimuli in (read_stimuli(tmp_path), read_stimuli(tmp_path, in_memory=False)):
        images = np.asarray(stimuli.as_shown().images)
        assert np.abs(images - made.images).max() <= 0.5 / 255 + 1e-7
        for stimulus_id, image in zip(stimuli.ids, images, strict=True):
            pixels = np.asarray(Image.open(tmp_path / "png" / f"{stimulus_id}.png"))
            np.testing.assert_array_equal(pixels.transpose(2, 0, 1).astype(np.float32) / 255, image)


def test_16_bit_pngs_read_back_exactly_also_by_others(tmp_path):
    image = np.random.default_rng(0).random((3, 5, 7), dtype=np.float32)
    image[:, 0, :2] = [0, 1]
    levels = np.rint(image.astype(float) * 65535)
    path = write_png16(tmp_path / "a.png", image)
    back = read_png16(path)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(np.rint(back.astype(float) * 65535), levels)
    np.testing.assert_array_equal(read_png16(write_png16(tmp_path / "b.png", back)), back)
    io = pytest.importorskip("torchvision.io")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # torchvision means to give its decoders away
        decoded = io.decode_image(str(path), mode=io.ImageReadMode.UNCHANGED)
    assert str(decoded.dtype) == "torch.uint16"
    np.testing.assert_array_equal(decoded.numpy(), levels)
    eight = np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)
    assert np.abs(eight.astype(int) - levels // 256).max() <= 1  # viewers of 8 bits

    data = path.read_bytes()
    for broken in (data[:-20], data[:60] + b"x" + data[61:], b"GIF89a"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="not a 16-bit PNG of ours"):
            read_png16(path)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    with pytest.raises(InputError, match="other bits"):
        read_png16(path)
    with pytest.raises(InputError, match="does not exist"):
        read_png16(tmp_path / "none.png")


def test_a_folder_holds_provenance_contact_sheet_and_16_bits_when_asked_for(tmp_path):
    made = make()
    write_stimuli(made, tmp_path, png16=True)
    assert json.loads((tmp_path / "provenance.json").read_text()) == {"made": "here"}
    for stimulus_id, image in zip(made.ids, made.images, strict=True):
        assert (
            np.abs(read_png16(tmp_path / "png16" / f"{stimulus_id}.png") - image).max()
            <= 0.5 / 65535 + 1e-7
        )
    with Image.open(tmp_path / "contact_sheet.png") as sheet:
        assert sheet.size == (2 * 136, 2 * 150)
        first = np.asarray(sheet)[4 : 4 + made.images.shape[2], 4 : 4 + made.images.shape[3]]
    np.testing.assert_array_equal(first, to_8bit(made.images[0]).transpose(1, 2, 0))
    write_stimuli(make([], kind="RE"), tmp_path / "empty")
    assert not (tmp_path / "empty" / "contact_sheet.png").exists()


def test_distances_are_those_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(1)
    image, reference = rng.random((2, 3, 20, 24), dtype=np.float32)
    distances = image_distances(image, reference)
    seen = [
        np.rint(picture * 255) / 255 for picture in (image.astype(float), reference.astype(float))
    ]
    assert distances["psnr"] == pytest.approx(
        peak_signal_noise_ratio(seen[0], seen[1], data_range=1), rel=1e-6
    )
    assert distances["l2_8bit"] == pytest.approx(255 * np.linalg.norm(seen[0] - seen[1]), rel=1e-6)
    same = image_distances(image, image)
    assert same["psnr"] == np.inf and same["ssim"] == pytest.approx(1) and same["linf"] == 0
    assert np.isnan(image_distances(image[:, :8], reference[:, :8])["ssim"])


def test_select_keeps_the_order_asked_for(tmp_path):
    made = make(kind=["RE", "AN", "RE"])
    stored = read_stimuli(write_stimuli(made, tmp_path), in_memory=False)
    for stimuli in (made, stored):
        some = stimuli.select(ids=["007", "a"])
        assert some.ids == ("007", "a")
        np.testing.assert_array_equal(np.asarray(some.images), made.images[[2, 0]])
        np.testing.assert_array_equal(some.images[np.array([1, 0, 1])], made.images[[0, 2, 0]])
        np.testing.assert_array_equal(np.asarray(some.select(ids=["a"]).images), made.images[[0]])
        assert stimuli.select(kind="RE").ids == ("a", "007")
        assert len(stimuli.select(kind="metamer")) == 0
    with pytest.raises(InputError, match=r"no stimulus has the id\(s\) x; known: a, b, 007"):
        made.select(ids=["a", "x"])


def test_concat_joins_tables_and_refuses_repeated_ids():
    both = concat_stimuli([make(), make(["c"], kind="AN", target_index=[7], success=[True])])
    assert both.ids == ("a", "b", "007", "c")
    assert both.table["target_index"].tolist() == [pd.NA, pd.NA, pd.NA, 7]
    with pytest.raises(InputError, match=r"duplicate stimulus id\(s\): a"):
        concat_stimuli([make(), make(["a"])])


@pytest.mark.parametrize(
    ("images", "table", "match"),
    [
        (np.zeros((2, 3, 4, 4)), None, "float64; they must be float32"),
        (np.zeros((2, 1, 4, 4), np.float32), None, r"must be \(n, 3, height, width\)"),
        (np.full((2, 3, 4, 4), np.nan, np.float32), None, r"not finite in row\(s\) 0, 1"),
        (np.full((2, 3, 4, 4), 200, np.float32), None, r"leave \[0, 1\]"),
        (None, {"id": ["a", "a"], "kind": "RE", "reference_id": "a"}, "duplicate stimulus id"),
        (None, {"id": ["a", "b"], "kind": "RE"}, "lacks the column.* reference_id"),
        (None, {"id": ["a", None], "kind": "RE", "reference_id": "a"}, "empty cells in id"),
        (
            None,
            {"id": ["a", "b"], "kind": "RE", "reference_id": "a", "steps": [1.5, 2]},
            "steps .* whole numbers",
        ),
        (
            None,
            {"id": ["a", "b"], "kind": "RE", "reference_id": "a", "success": "yes"},
            "success .* True or False",
        ),
        (None, {"id": ["a"], "kind": "RE", "reference_id": "a"}, "1 rows for 2 images"),
    ],
)
def test_bad_sets_are_refused(images, table, match):
    images = np.zeros((2, 3, 4, 4), np.float32) if images is None else images
    table = {"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]} if table is None else table
    with pytest.raises(InputError, match=match):
        StimulusSet(images=images, table=pd.DataFrame(table))


def test_a_file_that_promises_more_than_it_holds_is_named(tmp_path):
    import h5py

    file = write_stimuli(make(), tmp_path) / "stimuli.h5"
    file.write_bytes(file.read_bytes()[SEAL_SIZE:])  # without its checksum, as of another program
    with h5py.File(file, "a") as opened:
        del opened["images"]
        opened.create_dataset(
            "images", shape=(3, 3, 10**7, 10**6), dtype="f4", chunks=(1, 1, 64, 64)
        )
    with pytest.raises(InputError, match=r"stimuli\.h5: data that were never written: images"):
        read_stimuli(tmp_path)


def test_an_id_that_leaves_the_folder_is_not_written(tmp_path):
    with pytest.raises(InputError, match="cannot name a file"):
        write_stimuli(make(["../x"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_repr_says_how_much_there_is_of_what_and_where(tmp_path):
    made = many(20)
    text = repr(made)
    assert "images=float32 (20, 3, 24, 16)" in text and "id 00<b>, 01<b>, 02<b> …" in text
    assert "kinds={'RE': 19, 'AN': 1}" in text and "on_disk" not in text
    stored = read_stimuli(write_records(made, tmp_path), in_memory=False)
    assert f"on_disk='{tmp_path}"[:40] in repr(stored)


def test_notebooks_show_the_first_twelve_and_read_no_others(tmp_path, monkeypatch):
    made = many(20)
    stored = read_stimuli(write_records(made, tmp_path), in_memory=False)
    read = []
    rows_of = StoredImages._read
    monkeypatch.setattr(
        StoredImages, "_read", lambda self, rows: read.extend(rows) or rows_of(self, rows)
    )
    shown = stored._repr_html_()
    assert read == list(range(12))
    assert shown.count("<img ") == 12 and "<p>and 8 more</p>" in shown
    assert "00&lt;b&gt; (RE)" in shown and "<b>" not in shown
    encoded = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[3]))))
    np.testing.assert_array_equal(picture, to_8bit(made.images[3]).transpose(1, 2, 0))
    assert made.select(kind="AN")._repr_html_().count("<img ") == 1


def many(n):
    images = np.random.default_rng(0).random((n, 3, 24, 16), dtype=np.float32)
    ids = [f"{number:02d}<b>" for number in range(n)]
    table = pd.DataFrame({"id": ids, "kind": ["RE"] * (n - 1) + ["AN"], "reference_id": ids})
    return StimulusSet(images=images, table=table)
