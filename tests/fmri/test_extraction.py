"""Voxels out of large files: every layout that NIfTI and HDF5 have, damage, and memory."""

from __future__ import annotations

import bz2
import gzip
import itertools
import time
import tracemalloc
import warnings

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.openers import ImageOpener

from fmri import extraction, read_hdf5_voxels, read_run, read_voxels
from fmri.extraction import read_series
from neurometamer.errors import InputError
from neurometamer.store import open_hdf5

SHAPE = (5, 4, 3, 7)
CLASSES = {"nifti1": nibabel.Nifti1Image, "nifti2": nibabel.Nifti2Image, "pair": nibabel.Nifti1Pair}


def saved(path, kind="nifti1", dtype="<i2", slope=1.0, inter=0.0, shape=SHAPE):
    """Write values as they are stored, beside a header that scales them."""
    stored = np.random.default_rng(3).integers(1, 120, shape).astype(dtype)
    header = CLASSES[kind].header_class(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    image = CLASSES[kind](stored, np.eye(4), header)
    image.header.set_slope_inter(slope, inter)
    image.to_filename(path)
    # nibabel divides by the slope when it saves: the bytes are put in by hand
    target = path.with_suffix(".img") if kind == "pair" else path
    contents = target.read_bytes()
    packed = target.suffix == ".gz"
    plain = bytearray(gzip.decompress(contents) if packed else contents)
    offset = nibabel.load(path).dataobj.offset
    plain[offset:] = stored.tobytes(order="F")
    target.write_bytes(gzip.compress(bytes(plain)) if packed else bytes(plain))
    return path


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", ">f8", "<u1", ">u4", "<i8"])
@pytest.mark.parametrize("scale", [(1.0, 0.0), (0.013, 0.0), (2.5, -7.0)])
def test_every_layout_gives_the_bits_of_nibabel(tmp_path, kind, dtype, scale, monkeypatch):
    monkeypatch.setattr(extraction, "_SLAB_BYTES", 48)
    monkeypatch.setattr(extraction, "_GAP_BYTES", 8)
    monkeypatch.setattr(extraction, "_BLOCK_BYTES", 120)
    mask = np.random.default_rng(1).random(SHAPE[:3]) > 0.5
    for suffix in (".hdr",) if kind == "pair" else (".nii", ".nii.gz"):
        path = saved(tmp_path / f"run{suffix}", kind, dtype, *scale)
        expected = nibabel.load(path).get_fdata()[mask].T
        values = read_voxels(path, mask)
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, expected)
        series = read_series(path, mask)
        assert series.values.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(series.scaled(slice(3, 9)), expected[:, 3:9])


def test_a_fifth_axis_of_one_and_other_compressions_are_read(tmp_path):
    path = saved(tmp_path / "run.nii", shape=(*SHAPE, 1))
    mask = np.ones(SHAPE[:3], dtype=bool)
    expected = nibabel.load(path).get_fdata()[..., 0][mask].T
    np.testing.assert_array_equal(read_voxels(path, mask), expected)
    packed = tmp_path / "run.nii.bz2"
    packed.write_bytes(bz2.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_voxels(packed, mask), expected)
    with pytest.raises(InputError, match=r"is 5-D .* must be 4-D"):
        read_voxels(saved(tmp_path / "five.nii", shape=(5, 4, 3, 1, 3)), mask)


def test_two_members_of_a_compressed_file_are_one_image(tmp_path):
    path = saved(tmp_path / "run.nii")
    contents = path.read_bytes()
    packed = tmp_path / "run.nii.gz"
    packed.write_bytes(gzip.compress(contents[:500]) + gzip.compress(contents[500:]))
    mask = np.ones(SHAPE[:3], dtype=bool)
    np.testing.assert_array_equal(read_voxels(packed, mask), read_voxels(path, mask))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_long_run_takes_the_memory_of_its_result(tmp_path, suffix):
    # 48 MB of values; one volume, the buffers of gzip and the result are all that is allocated
    shape = (40, 40, 30, 500)
    path = tmp_path / f"run{suffix}"
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header["vox_offset"] = 352
    with ImageOpener(str(path), "wb") as file:
        file.write(header.binaryblock + bytes(4))
        for number in range(shape[3]):
            file.write(np.full(shape[:3], number, dtype=np.int16).tobytes())
    mask = np.zeros(shape[:3], dtype=bool)
    mask[10:20, 10:20, 10:20] = True
    read_voxels(path, mask)
    tracemalloc.start()
    values = read_voxels(path, mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(values, np.tile(np.arange(500.0)[:, None], 1000))
    assert peak - values.nbytes < 2**20 + extraction._SLAB_BYTES


# -------------------------------------------------------------------------------------------- fuzz


EVENTS = pd.DataFrame({"onset": [0.0], "duration": [1.0], "trial_type": ["a"]})


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    files = [
        saved(folder / "a.nii", slope=0.5, inter=2.0),
        saved(folder / "b.nii", "nifti2", ">f4"),
        saved(folder / "c.nii.gz"),
    ]
    return [(path, path.read_bytes()) for path in files]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_images_are_read_or_refused(small_files, tmp_path, data):
    """Any bytes give values of the promised shape or our error, in little memory and time."""
    path, contents = small_files[data.draw(st.integers(0, 2))]
    changed = bytearray(contents)
    most = len(changed) - 1
    # half of the changes hit the header
    place = st.one_of(st.integers(0, min(most, 360)), st.integers(0, most))
    for position, value in data.draw(
        st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4)
    ):
        changed[position] = value
    if data.draw(st.booleans()):
        changed = changed[: data.draw(st.integers(0, len(changed)))]
    damaged = tmp_path / f"sub-01_bold{''.join(path.suffixes)}"
    damaged.write_bytes(bytes(changed))
    began = time.process_time()
    tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape = nibabel.load(damaged).shape
            assert min(shape) > 0
            mask = np.ones(SHAPE[:3] if np.prod(shape[:3]) > 1e5 else shape[:3], dtype=bool)
    except Exception:
        mask = np.ones(SHAPE[:3], dtype=bool)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = read_voxels(damaged, mask)
            assert values.ndim == 2 and values.shape[1] == mask.sum()
            read_run(damaged, EVENTS, t_r=2.0)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 * 2**20 and time.process_time() - began < 2


# --------------------------------------------------------------------------------------------- HDF5

TRIALS = np.random.default_rng(0).integers(-3000, 3000, (30, 7, 9, 8)).astype(np.int16)
LAYOUTS = [
    None,
    (1, 7, 9, 8),
    (30, 1, 1, 1),
    (30, 2, 3, 3),
    (4, 5, 4, 3),
    (7, 1, 1, 8),
    (30, 7, 9, 8),
]


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("chunks", LAYOUTS)
def test_hdf5_of_any_layout_gives_the_values_of_h5py(tmp_path, axis, chunks):
    rng = np.random.default_rng(5)
    path = tmp_path / "betas.h5"
    moved = np.moveaxis(TRIALS, 0, axis)
    for dtype, packing in ((">f4", None), ("<i2", "gzip" if chunks else None)):
        layout = None
        if chunks:
            layout = list(chunks[1:])
            layout.insert(axis % 4, chunks[0])
            layout = tuple(layout)
        with h5py.File(path, "w") as file:
            values = moved.astype(dtype)
            file.create_dataset("betas", data=values, chunks=layout, compression=packing)
        mask = rng.random(TRIALS.shape[1:]) > 0.8
        places = rng.integers(0, mask.size, 40)
        rows = rng.integers(0, 30, 11)
        with open_hdf5(path) as file:
            by_mask = read_hdf5_voxels(file["betas"], mask, axis=axis)
            by_place = read_hdf5_voxels(file["betas"], places, rows, axis=axis)
        assert by_mask.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(by_mask, TRIALS[:, mask])
        np.testing.assert_array_equal(by_place, TRIALS.reshape(30, -1)[np.ix_(rows, places)])


def test_hdf5_in_slabs_and_behind_a_user_block(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "_SLAB_BYTES", 3000)
    monkeypatch.setattr(extraction, "_BOX_BYTES", 700)
    monkeypatch.setattr(extraction, "_GAP_BYTES", 8)
    mask = np.random.default_rng(6).random(TRIALS.shape[1:]) > 0.7
    for name, block in (("plain.h5", 0), ("block.h5", 512)):
        with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
            for number, chunks in enumerate(LAYOUTS):
                file.create_dataset(str(number), data=TRIALS, chunks=chunks)
        with h5py.File(tmp_path / name, "r") as file:
            for number in range(len(LAYOUTS)):
                values = read_hdf5_voxels(file[str(number)], mask, rows=[29, 0, 0, 13])
                np.testing.assert_array_equal(values, TRIALS[[29, 0, 0, 13]][:, mask])


def test_chunks_of_one_voxel_are_read_faster_than_all_of_them(tmp_path):
    path = tmp_path / "betas.h5"
    values = np.random.default_rng(2).integers(-9000, 9000, (40, 24, 30, 24), dtype=np.int16)
    mask = np.zeros(values.shape[1:], dtype=bool)
    mask[4:12, 5:12, 3:9] = True
    mask[8:16, 15:20, 12:20] = True
    seconds = {"all": [], "some": []}
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=values, chunks=(40, 1, 1, 1))
    with open_hdf5(path) as file:
        for _ in range(3):
            begun = time.process_time()
            everything = file["betas"][:]
            seconds["all"].append(time.process_time() - begun)
            begun = time.process_time()
            read = read_hdf5_voxels(file["betas"], mask)
            seconds["some"].append(time.process_time() - begun)
            np.testing.assert_array_equal(read, everything[:, mask])
    # 656 of 17,280 voxels: measured 44 times; 3.4 times with a call of h5py for each
    assert min(seconds["all"]) > 10 * min(seconds["some"])


@pytest.mark.parametrize("chunks", [None, (1, 3, 4, 2), (2, 3, 4, 2), (3, 2, 2, 1), (4, 1, 4, 2)])
def test_rows_come_in_the_order_asked_for(tmp_path, chunks):
    values = np.random.default_rng(0).normal(size=(4, 3, 4, 2))
    mask = np.random.default_rng(1).random((3, 4, 2)) > 0.4
    with h5py.File(tmp_path / "betas.h5", "w") as file:
        file.create_dataset("betas", data=values, chunks=chunks)
    with h5py.File(tmp_path / "betas.h5", "r") as file:
        for n_rows in (0, 1, 2, 3):
            for rows in itertools.product(range(4), repeat=n_rows):
                read = read_hdf5_voxels(file["betas"], mask, np.array(rows, dtype=int))
                np.testing.assert_array_equal(read, values[list(rows)][:, mask])


@pytest.mark.parametrize(
    ("voxels", "options", "message"),
    [
        (np.ones((8, 9, 7), bool), {}, r"voxels on \(7, 9, 8\) but the mask has .*\(8, 9, 7\)"),
        ([0, 504], {}, r"has 504 voxels, but places outside 0 to 503 .*: 504"),
        ([0.5], {}, "give a mask of booleans, or a list of places"),
        ([1], {"rows": [30, -1]}, r"observations 0 to 29, .* asks for 30, -1"),
        ([1], {"rows": [0.5]}, "rows must be whole numbers"),
        ([1], {"axis": 4}, "has the axis 4 of observations"),
    ],
)
def test_hdf5_requests_that_cannot_be_met_are_refused(tmp_path, voxels, options, message):
    with h5py.File(tmp_path / "betas.h5", "w") as file:
        betas = file.create_dataset("betas", data=TRIALS)
        with pytest.raises(InputError, match=message):
            read_hdf5_voxels(betas, np.asarray(voxels), **options)
        names = file.create_dataset("names", data=[b"a", b"b"])
        with pytest.raises(InputError, match=r"'/names' holds .* on 1 axes; give .* real numbers"):
            read_hdf5_voxels(names, np.array([0]))


def test_a_damaged_chunk_is_named_by_its_file(tmp_path):
    path = tmp_path / "betas.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "betas", data=TRIALS, chunks=(1, 7, 9, 8), compression="gzip", fletcher32=True
        )
        chunk = data.id.get_chunk_info(12)
    contents = bytearray(path.read_bytes())
    contents[chunk.byte_offset + 40] ^= 255
    path.write_bytes(bytes(contents))
    mask = np.ones(TRIALS.shape[1:], dtype=bool)
    with h5py.File(path, "r") as file:
        assert read_hdf5_voxels(file["betas"], mask, rows=range(12)).shape == (12, 504)
        with pytest.raises(InputError, match=r"betas.h5 is cut off or damaged \(.*\); copy it"):
            read_hdf5_voxels(file["betas"], mask)
