"""What becomes of folders, tables and names of photographs."""

import json
import os
import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.errors import InputError
from stimuli_gen import Preprocessing, StimulusSet, load_photographs, read_stimuli, write_stimuli
from stimuli_gen.photograph_lists import list_photographs

SMALL = Preprocessing(
    size=(8, 8), resize=9, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3
)
NAMES = [
    "狗",
    "café",
    unicodedata.normalize("NFD", "été"),
    "Ελλάδα",
    "عربى",
    "हिन्दी",
    "007",
    "1e2",
    "NA",
    "None",
]


def save(path, seed=0, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(levels).save(path)
    return path


def listing(folder):
    table = list_photographs(folder).table
    categories = table["category"] if "category" in table else [""] * len(table)
    return dict(zip(table["id"], categories, strict=True))


# -------------------------------------------------------------------------------------------- names


def test_names_of_any_script_travel_through_every_file(tmp_path):
    for seed, name in enumerate(NAMES):
        save(tmp_path / "in" / f"{name}.png", seed)
    photographs = load_photographs(tmp_path / "in", SMALL)
    assert sorted(photographs.ids) == sorted(NAMES)
    folder = write_stimuli(photographs, tmp_path / "out")
    assert sorted(path.stem for path in (folder / "png").iterdir()) == sorted(NAMES)
    assert read_stimuli(folder).ids == photographs.ids
    written = pd.read_csv(folder / "stimuli.csv", dtype=str, keep_default_na=False)
    assert tuple(written["id"]) == photographs.ids
    again = load_photographs(tmp_path / "in", SMALL)
    assert again.digest == read_stimuli(folder).digest


def test_a_table_finds_files_in_the_other_normalization(tmp_path):
    save(tmp_path / f"{unicodedata.normalize('NFD', 'café')}.png")
    (tmp_path / "list.csv").write_text("file\ncafé.png\n", encoding="utf-8")
    assert load_photographs(tmp_path / "list.csv", SMALL).ids == ("café",)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("Dog", "dog", "case"),
        ("ÉTÉ", "été", "case"),
        ("café", unicodedata.normalize("NFD", "café"), "Unicode normalization"),
    ],
)
def test_names_that_overwrite_each_other_elsewhere_are_refused(tmp_path, first, second, kind):
    files = [save(tmp_path / "a" / f"{first}.png"), save(tmp_path / "b" / f"{second}.png", 1)]
    with pytest.raises(InputError, match=f"ids that differ in {kind} only: {first} and {second}"):
        load_photographs(files, SMALL)
    images = np.zeros((2, 3, 4, 4), np.float32)
    table = pd.DataFrame({"id": [first, second], "kind": "RE", "reference_id": [first, second]})
    with pytest.raises(InputError, match="case or Unicode normalization only"):
        StimulusSet(images=images, table=table)


@pytest.mark.parametrize(
    "name", ["NUL", "com1.x", "a:b", "end ", "dot.", "\u202egnp", "a\u2028b", "狗" * 67]
)
def test_names_that_some_system_refuses_are_refused(tmp_path, name):
    table = pd.DataFrame({"file": [str(save(tmp_path / "a.png"))], "id": [name]})
    table.to_csv(tmp_path / "list.csv", index=False)
    with pytest.raises(InputError, match="cannot name a file"):
        load_photographs(tmp_path / "list.csv", SMALL)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX systems only")
def test_a_name_that_is_no_text_is_refused_by_its_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(save(tmp_path / "a.png"), "rb") as source, open(path, "wb") as file:  # noqa: PTH123
        file.write(source.read())
    with pytest.raises(InputError, match=r"'caf\\udce9' cannot name a file"):
        load_photographs(tmp_path, SMALL)


# ------------------------------------------------------------------------------------------- tables


def test_cells_of_tables_stay_what_they_are(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.png")
    (tmp_path / "list.csv").write_text(
        "file,id,category,class,age,weight,seen,target\na.png,007,001,010,3,0.5,True,01\nb.png,1e2,NA,2,4,1e-05,False,2\nc.png,None,,3,5,,True,1e2\n"
    )
    table = load_photographs(tmp_path / "list.csv", SMALL).table
    assert table["id"].tolist() == ["007", "1e2", "None"]
    assert table["category"].tolist() == ["001", "NA", ""]
    assert table["class"].tolist() == ["010", "2", "3"]
    assert table["age"].tolist() == [3, 4, 5]
    assert table["weight"].tolist()[:2] == [0.5, 1e-05] and np.isnan(table["weight"][2])
    assert table["seen"].tolist() == [True, False, True]
    assert table["target"].tolist() == ["01", "2", "1e2"]


# ------------------------------------------------------------------------------------------ folders


def test_folders_inside_a_folder_are_categories(tmp_path):
    for folder, name in (
        ("n01440764", "n01440764_10026"),
        ("n01443537", "n01443537_2"),
        ("001", "x"),
    ):
        save(tmp_path / "train" / folder / f"{name}.png")
    expected = {"x": "001", "n01440764_10026": "n01440764", "n01443537_2": "n01443537"}
    assert listing(tmp_path / "train") == expected
    assert listing(tmp_path) == expected  # a lone outer folder is no class
    photographs = load_photographs(tmp_path, SMALL)
    assert photographs.table["category"].tolist() == list(expected.values())
    assert photographs.table["file"][0] == "train/001/x.png"
    assert photographs.provenance["folder"]["layout"] == [
        "category: the name of the folder (3: 001, n01440764, n01443537)"
    ]


def test_names_that_repeat_get_their_folders_before_them(tmp_path):
    for name in ("cat/1", "dog/1", "dog/old/2", "3"):
        save(tmp_path / f"{name}.png")
    assert listing(tmp_path) == {"3": "", "cat_1": "cat", "dog_1": "dog", "dog_old_2": "dog"}
    layout = "; ".join(list_photographs(tmp_path).notes["layout"])
    assert "inside those, of the outer one's category: 2" in layout
    assert "beside the folders, without a category: 3" in layout
    assert "id: folder and name of the file" in layout


def test_what_a_folder_holds_beside_is_told(tmp_path):
    for name in ("a.png", ".hidden.png", "__MACOSX/._a.png", "deep/.git/b.png"):
        save(tmp_path / name)
    for name in ("Thumbs.db", "notes.txt", "raw.CR2", "drawing.svg"):
        (tmp_path / name).write_text("x")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "waits.png")
    photographs = load_photographs(tmp_path, SMALL)
    assert photographs.ids == ("a",)
    left_out = photographs.provenance["folder"]["left_out"]
    assert left_out == [
        "4 hidden, or of the operating system: .hidden.png, Thumbs.db, __MACOSX, deep/.git",
        "2 of a format that cannot be read here (convert them to PNG): drawing.svg, raw.CR2",
        "2 no regular file (a broken link or a device): gone.png, waits.png",
        "1 no image by its ending: notes.txt",
    ]
    json.dumps(dict(photographs.provenance))
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"no images in .*There is: .*drawing\.svg, raw\.CR2"):
        load_photographs(tmp_path, SMALL)


@pytest.mark.parametrize(
    "suffix", [".jfif", ".jpe", ".JPEG", ".avif", ".jp2", ".tga", ".ico", ".pbm", ".tiff", ".qoi"]
)
def test_every_format_that_pillow_decodes_is_read(tmp_path, suffix):
    Image.init()
    if Image.EXTENSION.get(suffix.lower()) not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {suffix}")
    image = Image.fromarray(np.full((16, 16, 3), 200, np.uint8))
    image.convert("1" if suffix == ".pbm" else "RGB").save(tmp_path / f"a{suffix}")
    assert load_photographs(tmp_path, SMALL).images.mean() > 0.7


def test_postscript_starts_no_other_program(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(
        InputError, match=r"a\.png: it cannot be decoded \(UnidentifiedImageError\)"
    ):
        load_photographs(tmp_path, SMALL)


def test_a_folder_of_stimuli_is_no_folder_of_photographs(tmp_path):
    folder = write_stimuli(load_photographs([save(tmp_path / "a.png")], SMALL), tmp_path / "out")
    with pytest.raises(
        InputError, match=r"holds stimuli of neurometamer .*read_stimuli, or give .*png"
    ):
        load_photographs(folder, SMALL)


@pytest.mark.parametrize("source", [3, None, [1, 2], {"a": 1}])
def test_other_things_are_no_photographs(source):
    with pytest.raises(
        InputError, match="photographs are a folder, a CSV with the column file, or a list"
    ):
        load_photographs(source, SMALL)
