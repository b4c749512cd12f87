"""Patterns: tables and values stay together, on disk too."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fmri import (
    Patterns,
    concat_patterns,
    estimate_betas,
    join_regions,
    read_patterns,
    read_run,
    read_surface_patterns,
    write_patterns,
)
from fmri.maps import vertex_places
from neurometamer.errors import InputError
from neurometamer.store import write_hdf5


def make(values=None, **changes):
    observations = pd.DataFrame(
        {
            "condition": ["007", "cat", "x", "cat", "007", "x"],
            "presentation": [1, 1, 1, 2, 2, 2],
            "run": ["1"] * 3 + ["2"] * 3,
            "session": "",
        }
    )
    voxels = pd.DataFrame(
        {"subject": "01", "roi": ["V1", "V1", "LO", "LO"], "i": [0, 1, 1, 2], "j": 0, "k": 0}
    )
    values = np.arange(24, dtype=np.float32).reshape(6, 4) if values is None else values
    return Patterns(**{"values": values, "observations": observations, "voxels": voxels, **changes})


@settings(deadline=None, max_examples=15)
@given(arrays(np.float32, (6, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_hdf5_gives_back_what_was_written(tmp_path_factory, values):
    patterns = make(
        values, provenance={"settings": {"units": "percent"}, "dropped": [{"ijk": [1, 2, 3]}]}
    )
    path = write_patterns(patterns, tmp_path_factory.mktemp("p") / "patterns.h5")
    again = read_patterns(path)
    assert again.values.dtype == np.float32 and again.digest == patterns.digest
    pd.testing.assert_frame_equal(again.observations, patterns.observations)
    pd.testing.assert_frame_equal(again.voxels, patterns.voxels)
    assert again.provenance == patterns.provenance
    assert again.conditions == ("007", "cat", "x")  # names stay text, order of first appearance


def test_select_and_means_go_by_name():
    patterns = make()
    names, means = patterns.means()
    assert names == ("007", "cat", "x")
    np.testing.assert_array_equal(means, [[8, 9, 10, 11], [8, 9, 10, 11], [14, 15, 16, 17]])
    part = patterns.select(
        roi="LO", conditions=["x", "007"], voxels=np.array([True, True, False, True])
    )
    assert part.rois == ("LO",) and part.conditions == ("007", "x")
    np.testing.assert_array_equal(part.values, patterns.values[[0, 2, 4, 5]][:, [3]])
    np.testing.assert_array_equal(patterns.means([2])[1][0], patterns.values[4])


def test_patterns_are_private_copies():
    values = np.zeros((6, 4))
    patterns = make(values)
    values[:] = 1
    assert not patterns.values.any()
    with pytest.raises(ValueError, match="read-only"):
        patterns.values[0] = 1


def test_sessions_are_joined_by_voxel_not_by_position():
    first = make()
    shuffled = [2, 0, 3, 1]
    observations = first.observations.assign(session="2")
    second = make(
        first.values[:, shuffled] + 100,
        voxels=first.voxels.iloc[shuffled],
        observations=observations,
    )
    joined = concat_patterns([first, second])
    np.testing.assert_array_equal(joined.values[6:], first.values + 100)
    assert joined.observations["presentation"].max() == 4
    with pytest.raises(InputError, match=r"different voxels \(4 and 3"):
        concat_patterns([first, first.select(voxels=np.array([True, True, True, False]))])
    with pytest.raises(InputError, match="runs in more than one part: session '' run '1'"):
        concat_patterns([first, first])  # two runs of one name would count as one


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.zeros((6, 3))}, r"shape \(6, 3\).*6 observations and 4 voxels"),
        (
            {"values": np.full((6, 4), np.nan)},
            r"NaN or infinite values in voxel.*V1 \(0, 0, 0\).*drop",
        ),
        ({"observations": make().observations.drop(columns="run")}, "lacks the column.*run"),
        (
            {"observations": make().observations.assign(presentation=1)},
            r"observation\(s\) given twice.*007 1",
        ),
        (
            {"observations": make().observations.assign(condition=None)},
            r"6 row\(s\) without 'condition'",
        ),
        ({"voxels": make().voxels.assign(i=0)}, r"voxel\(s\) given twice.*01 V1 0 0 0"),
        ({"voxels": make().voxels.assign(i=0.5)}, "'i' of the voxels table must be whole numbers"),
    ],
)
def test_bad_patterns_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


FULL_DISK = """
import resource, sys
from fmri import read_patterns, write_betas, write_patterns

patterns = read_patterns(sys.argv[1])
# the system refuses longer files, as a full disk does
resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))
for write in (write_patterns, write_betas):
    try:
        write(patterns, sys.argv[2])
    except OSError as error:
        print(error.errno)
"""


def test_a_full_disk_is_a_plain_error_and_leaves_nothing(tmp_path):
    """In a process of its own: HDF5 used to crash the interpreter at its end, after the error had
    been handled.
    """
    values = np.random.default_rng(0).normal(size=(6, 400)).astype(np.float32)
    voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": np.arange(400), "j": 0, "k": 0})
    grid = {"shape": [400, 1, 1], "affine": np.eye(4).tolist()}
    source = write_patterns(
        make(values, voxels=voxels, provenance={"grid": grid}), tmp_path / "patterns.h5"
    )
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", FULL_DISK, source, tmp_path / "out" / "new"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, [str(errno.EFBIG)] * 2, "")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_damaged_files_are_refused(tmp_path):
    """Wherever a byte is wrong: readable as before, or one clear error; never what h5py raises."""
    path = write_patterns(make(), tmp_path / "patterns.h5")
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        contents = np.frombuffer(good, dtype=np.uint8).copy()
        contents[rng.integers(len(good), size=3)] = rng.integers(256, size=3)
        path.write_bytes(contents.tobytes())
        try:
            read_patterns(path)
        except InputError:
            refused += 1
    assert refused > 5


def test_unknown_names_and_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown ROI 'V11'; did you mean 'V1'"):
        make().select(roi="V11")
    with pytest.raises(InputError, match="unknown conditions dog, bird"):
        make().select(conditions=["cat", "dog", "bird"])
    with pytest.raises(InputError, match="give booleans of shape"):
        make().select(voxels=np.array([0, 1]))
    with pytest.raises(InputError, match=r"no such presentation of condition.*007, cat, x"):
        make().means([3])
    with pytest.raises(InputError, match="holds no array 'values'"):
        read_patterns(write_hdf5(tmp_path / "other.h5", {"a": np.zeros(2)}))


def surface(tmp_path, side, n_vertices=12):
    rng = np.random.default_rng(len(side))
    arrays = [
        nibabel.gifti.GiftiDataArray(
            rng.normal(size=n_vertices).astype(np.float32), intent="NIFTI_INTENT_NONE"
        )
        for _ in range(4)
    ]
    values = tmp_path / f"sub-01_hemi-{side}_betas.func.gii"
    nibabel.save(nibabel.GiftiImage(darrays=arrays), values)
    table = tmp_path / "betas.csv"
    pd.DataFrame({"condition": list("abcd"), "run": "1"}).to_csv(table, index=False)
    return values, table


def test_hemispheres_of_a_surface_are_joined_and_told_apart(tmp_path):
    sides = [
        read_surface_patterns(*surface(tmp_path, side), subject="01", roi="V1") for side in "LR"
    ]
    both = join_regions(sides)
    assert both.values.shape == (4, 24) and both.voxels["hemisphere"].value_counts().to_dict() == {
        "L": 12,
        "R": 12,
    }
    write_patterns(both, tmp_path / "both.h5")
    assert read_patterns(tmp_path / "both.h5").digest == both.digest
    assert concat_patterns([both, replace_run(both, "2")]).values.shape == (8, 24)
    with pytest.raises(InputError, match="of the hemispheres L, R but a mesh is of one"):
        vertex_places(both, 12)
    with pytest.raises(InputError, match=r"voxel\(s\) given twice .*hemisphere\)"):
        join_regions([sides[0], sides[0]])
    with pytest.raises(InputError, match="patterns 1 and 2 hold other observations"):
        join_regions([sides[0], replace_run(sides[1], "2")])


def replace_run(patterns, run):
    return replace(patterns, observations=patterns.observations.assign(run=run))


def test_labels_name_the_regions_of_vertices(tmp_path):
    values, table = surface(tmp_path, "L")
    keys = np.array([0, 1, 1, 2, 2, 2, 3, 0, 1, 2, 0, 0], dtype=np.int32)
    names = {0: "???", 1: "V1", 2: "V2", 3: "unknown"}
    labels = nibabel.gifti.GiftiLabelTable()
    for key, name in names.items():
        label = nibabel.gifti.GiftiLabel(key=key)
        label.label = name
        labels.labels.append(label)
    array = nibabel.gifti.GiftiDataArray(
        keys, intent="NIFTI_INTENT_LABEL", datatype="NIFTI_TYPE_INT32"
    )
    nibabel.save(nibabel.GiftiImage(darrays=[array], labeltable=labels), tmp_path / "lh.label.gii")
    colors = np.array([[index, 0, 0, 0] for index in range(4)])
    nibabel.freesurfer.write_annot(
        tmp_path / "lh.annot",
        keys,
        colors,
        [name.encode() for name in names.values()],
        fill_ctab=True,
    )
    for file in ("lh.label.gii", "lh.annot"):
        patterns = read_surface_patterns(values, table, labels=tmp_path / file)
        assert patterns.voxels["i"].tolist() == [1, 2, 3, 4, 5, 8, 9]
        assert patterns.select(roi="V2").voxels["i"].tolist() == [3, 4, 5, 9]
    other, _ = surface(tmp_path, "R", n_vertices=10)
    with pytest.raises(InputError, match="labels of 12 vertices but there are responses of 10"):
        read_surface_patterns(other, table, labels=tmp_path / "lh.annot")


def test_repr_says_how_much_there_is_and_where_it_comes_from(make_run):
    bold, events, mask = make_run()
    run = read_run(bold, events)
    assert repr(run) == (
        "BoldRun(image='sub-07_run-1_bold.nii', n_volumes=60, t_r=2.0, n_events=5, "
        "conditions=4: a, b, blank …, subject='07', run='1')"
    )
    patterns = estimate_betas([run], {"V1": mask})
    text = repr(patterns)
    assert f"values=float64 {patterns.values.shape}" in text
    assert "4 rows, condition a, b, c;" in text
    assert f"n_voxels={{'V1': {patterns.values.shape[1]}}}, made_by='estimate_betas')" in text
