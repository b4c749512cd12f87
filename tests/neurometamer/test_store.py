"""The ground floor: atomic files, tables and arrays that come back as they went, digests, seeds,
errors.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurometamer import store
from neurometamer.errors import DamagedFile, InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import digest, generator, provenance
from neurometamer.store import read_json, read_table, write_text


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    goal = tmp_path / "table.csv"
    store.write_text(goal, "old")
    with pytest.raises(OSError, match="No space"), store.atomic_path(goal) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert goal.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_atomic_path_keeps_the_suffix_writers_choose_by(tmp_path):
    with store.atomic_path(tmp_path / "deep" / "bold.nii.gz") as part:
        assert part.name.endswith("bold.nii.gz")
        part.write_bytes(b"x")
    assert (tmp_path / "deep" / "bold.nii.gz").read_bytes() == b"x"


def test_tables_come_back_with_text_ids_missing_values_and_full_precision(tmp_path):
    table = pd.DataFrame(
        {"id": ["007", 'é, "x"'], "p": [0.1 + 0.2, np.nan], "success": [True, False]}
    )
    for name in ("t.csv", "t.tsv"):
        back = store.read_table(store.write_table(tmp_path / name, table), required=["id", "p"])
        assert list(back["id"]) == ["007", 'é, "x"']
        assert back["p"][0] == 0.1 + 0.2
        assert np.isnan(back["p"][1])
        assert list(back["success"]) == [True, False]


def test_read_table_says_which_column_is_missing(tmp_path):
    store.write_text(tmp_path / "e.tsv", "onset\tduration\n1\t2\n")
    with pytest.raises(
        InputError, match=r"lacks the column\(s\) trial_type; it has onset, duration"
    ):
        store.read_table(tmp_path / "e.tsv", required=["onset", "trial_type"])
    with pytest.raises(InputError, match="does not exist"):
        store.read_table(tmp_path / "nowhere.csv")
    store.write_text(tmp_path / "empty.csv", "")
    with pytest.raises(InputError, match="not a readable table"):
        store.read_table(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    "text",
    [
        'id,x,note\na,1,"big\nb,2,small"\nc,3,z\n',
        'id,x,note\na,1,"big\nb,2,\nb,2,small"\nc,3,z\n',
        'id,note,x\na,"big,1\nb,small",2\nc,z,3\n',
    ],
)
def test_rows_that_a_quote_has_swallowed_are_missed(tmp_path, text):
    path = write_text(tmp_path / "trials.csv", text)
    with pytest.raises(
        InputError,
        match="row 1 of 'note' runs over several lines, as after a double quote that is not",
    ):
        read_table(path)
    path.write_text('id,x,note\na,1,"two lines,\nof text"\nb,2,"a, b\nc, d"\n')
    assert read_table(path)["note"].tolist() == ["two lines,\nof text", "a, b\nc, d"]


def test_only_columns_that_are_used_must_have_their_own_names(tmp_path):
    path = write_text(tmp_path / "labels.csv", "file,human,human\na.png,1,2\n")
    assert read_table(path)["human"].tolist() == [1]
    assert read_table(path, text=["human"])["human"].tolist() == ["1"]
    for more in ({"once": ["human"]}, {"required": ["human"]}, {"once": None}):
        with pytest.raises(InputError, match="more than one column called human"):
            read_table(path, **more)
    path.write_text("id,id\na,b\n")
    with pytest.raises(InputError, match="more than one column called id"):
        read_table(path)


def test_json_of_other_programs_is_read_and_a_key_that_is_there_twice_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": {"b": 1}}')
    assert read_json(path) == {"a": {"b": 1}}
    path.write_text('{"a": {"b": 1, "c": 2, "b": 3}}')
    with pytest.raises(InputError, match=r"a.json is not a JSON file.*it names b more than once"):
        read_json(path)


def test_hdf5_round_trip_of_arrays_tables_and_attributes(tmp_path):
    table = pd.DataFrame(
        {
            "id": ["b", "a"],
            "note": [None, "gréy"],
            "steps": [3, 4],
            "p": [0.5, np.nan],
            "ok": [True, False],
        }
    )
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = store.write_hdf5(
        tmp_path / "x.h5",
        arrays={"group/values": values, "names": np.array(["é", "b"])},
        tables={"stimuli": table},
        attributes={"settings": {"a": [1, 2.5, None]}},
    )
    back = store.read_hdf5_table(path, "stimuli")
    assert list(back.columns) == list(table.columns)
    assert list(back["id"]) == ["b", "a"]
    assert pd.isna(back["note"][0])
    assert back["note"][1] == "gréy"
    np.testing.assert_array_equal(back["p"], table["p"])
    assert back["ok"].dtype == bool
    np.testing.assert_array_equal(store.read_hdf5_array(path, "group/values"), values)
    assert list(store.read_hdf5_array(path, "names")) == ["é", "b"]
    assert store.read_hdf5_attributes(path) == {"settings": {"a": [1, 2.5, None]}}
    with pytest.raises(InputError, match="holds no table 'nope'; it holds"):
        store.read_hdf5_table(path, "nope")


def test_a_file_that_is_not_hdf5_is_named(tmp_path):
    store.write_text(tmp_path / "no.h5", "text")
    with (
        pytest.raises(InputError, match=r"no\.h5 is not an HDF5 file"),
        store.open_hdf5(tmp_path / "no.h5"),
    ):
        pass


@pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes are POSIX ones")
def test_a_link_stays_and_its_target_is_written_with_its_mode(tmp_path):
    (tmp_path / "store").mkdir()
    target = store.write_text(tmp_path / "store" / "real.csv", "old")
    target.chmod(0o600)
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    store.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o600
    dangling = tmp_path / "dangling.csv"
    dangling.symlink_to(tmp_path / "later.csv")
    with pytest.raises(InputError, match=r"dangling\.csv is a broken symbolic link \(to .*later"):
        store.write_text(dangling, "made")
    assert dangling.is_symlink() and not (tmp_path / "later.csv").exists()


@pytest.mark.skipif(os.name != "posix", reason="links, pipes and modes are POSIX ones")
def test_what_is_no_file_is_never_replaced_by_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place in (pipe, tmp_path, "/dev/null", "/dev/stdout"):
        with pytest.raises(InputError, match="give the name of a file"):
            store.write_text(place, "x")
    assert pipe.is_fifo()
    assert not Path("/dev/null").is_file()


def test_files_that_are_written_are_collected(tmp_path):
    with store.written_files() as outer:
        store.write_text(tmp_path / "a.txt", "a")
        with store.written_files() as inner:
            store.write_json(tmp_path / "b.json", {})
        with contextlib.suppress(ZeroDivisionError), store.atomic_path(tmp_path / "c.txt"):
            raise ZeroDivisionError
    assert [path.name for path in outer] == ["a.txt"]
    assert [path.name for path in inner] == ["b.json"]


def test_a_damaged_hdf5_file_is_told_from_one_of_another(tmp_path):
    path = store.write_hdf5(tmp_path / "ours.h5", arrays={"values": np.arange(9.0)})
    contents = path.read_bytes()
    for damaged in (
        contents[:-1],
        contents[:600],
        contents[:20],
        b"",
        bytes(len(contents)),
        contents + b"more",
    ):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=r"ours\.h5 is damaged"):
            store.read_hdf5_array(path, "values")
    path.write_bytes(b"a letter of somebody else")
    with pytest.raises(InputError, match="is not an HDF5 file") as caught:
        store.read_hdf5_array(path, "values")
    assert not isinstance(caught.value, DamagedFile)
    path.write_bytes(contents)
    np.testing.assert_array_equal(store.read_hdf5_array(path, "values"), np.arange(9.0))


@pytest.mark.parametrize(
    "bad", ["../x", "a/b", "", ".hidden", "a\\b", "a\x00b", "/etc/passwd", "x\n"]
)
def test_no_id_names_a_file_outside_the_folder(bad):
    with pytest.raises(InputError, match="cannot name a file"):
        store.file_name(bad)


def test_unknown_names_offer_the_nearest_then_all():
    assert str(unknown_name("measure", "spearmann", ["pearson", "spearman"])) == (
        "unknown measure 'spearmann'; did you mean 'spearman'? Known: pearson, spearman"
    )
    assert (
        str(unknown_name("measure", "zzz", ["pearson"])) == "unknown measure 'zzz'. Known: pearson"
    )


def test_duplicates_are_listed_once():
    assert duplicates(["a", "b", "a", "a", "c", "b"]) == ["a", "b"]
    assert name_ids("abcdefg", limit=2) == "a, b … (7 in all)"


@given(st.integers(0, 2**32 - 1), st.text(), st.text())
def test_generators_depend_on_seed_and_name_only(seed, first, second):
    here = generator(seed, first).random(3)
    np.testing.assert_array_equal(here, generator(seed, first).random(3))
    if first != second:
        assert not np.array_equal(here, generator(seed, second).random(3))


def test_digests_tell_contents_apart():
    values = np.arange(6.0)
    assert digest(values) == digest(values.copy())
    assert digest(values) != digest(values.reshape(2, 3))
    assert digest(values) != digest(values.astype(np.float32))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest("a", "b") != digest("ab")


def test_provenance_holds_versions_and_no_paths_of_this_machine():
    record = provenance({"rsa": {"measure": "spearman"}}, seed=3)
    assert record["versions"]["numpy"] == np.__version__
    assert record["seed"] == 3
    assert "/home" not in str(record)
    assert "/root" not in str(record)
