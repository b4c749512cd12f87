"""Files of others: nothing comes from outside them, nothing is only promised, and every fault names
the file.
"""

from __future__ import annotations

import io
import os
import sys
import zipfile

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from neurometamer.errors import InputError
from neurometamer.reading import check_npy, check_npz, check_plain_file, check_promise, reading
from neurometamer.rsa.files import read_dissimilarities
from neurometamer.store import open_hdf5, read_hdf5_array, read_table, write_hdf5

posix = pytest.mark.skipif(os.name != "posix", reason="pipes and devices are POSIX ones")


@posix
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv is a pipe or a device"):
        read_table(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"/dev/zero is a pipe or a device"):
        check_plain_file("/dev/zero")
    with pytest.raises(InputError, match="is a folder; give a file"):
        read_table(tmp_path)
    with pytest.raises(InputError, match=r"pipe\.csv/below does not exist"):
        check_plain_file(tmp_path / "pipe.csv" / "below")
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError, match=r"pipe\.h5 is a pipe"), open_hdf5(tmp_path / "pipe.h5"):
        pass


@pytest.mark.parametrize(
    "error", [KeyError("a"), RecursionError(), MemoryError(), SyntaxError("bad"), OSError(5, "I/O")]
)
def test_whatever_a_reader_raises_names_the_file(tmp_path, error):
    (tmp_path / "x.dat").write_bytes(b"1")
    with (
        pytest.raises(InputError, match=r"x\.dat") as caught,
        reading(tmp_path / "x.dat", "a list"),
    ):
        raise error
    assert "--out" not in str(caught.value)
    with pytest.raises(KeyboardInterrupt), reading(tmp_path / "x.dat"):
        raise KeyboardInterrupt


def write_outside(path, secret, how):
    """Write an HDF5 file whose array ``secret`` lies elsewhere or was never written."""
    with h5py.File(path, "w") as file:
        file["fine"] = np.arange(3.0)
        if how == "external storage":
            file.create_dataset("secret", (10,), "u1", external=[(str(secret), 0, 10)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((3,), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "values", (3,))
            file.create_virtual_dataset("secret", layout)
        elif how == "external link":
            file["secret"] = h5py.ExternalLink(str(secret), "/values")
        elif how == "never written":
            file.create_dataset("secret", (5, 5), "f8")
        elif how == "in part":
            data = file.create_dataset("group/secret", (8, 8), "f8", chunks=(4, 8))
            data[:4] = 1
        elif how == "memory":
            file.create_dataset("secret", (2**50,), "f8", chunks=(2**20,))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("external storage", r"outside the file \(external storage\): secret"),
        ("virtual", r"outside the file \(virtual data set\): secret"),
        ("external link", r"outside the file \(external link\): secret"),
        ("never written", "never written: secret"),
        ("in part", "never written, at least in part: group/secret"),
        ("memory", "never written"),
    ],
)
def test_hdf5_contents_from_elsewhere_or_never_written_are_refused(tmp_path, how, message):
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0:root")
    write_outside(tmp_path / "foreign.h5", secret, how)
    with pytest.raises(InputError, match=rf"foreign\.h5: .*{message}"):
        read_hdf5_array(tmp_path / "foreign.h5", "fine")


def test_plain_hdf5_of_others_is_read(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["values"] = np.arange(6.0).reshape(2, 3)
        file.create_dataset("packed", data=np.arange(1000), chunks=(100,), compression="gzip")
        file.create_dataset("empty", (0, 3), "f8")
        file["null"] = h5py.Empty("f8")
        file["soft"] = h5py.SoftLink("/values")
        file["group/circle"] = h5py.SoftLink("/group")
        file["group/again"] = file["values"]
    np.testing.assert_array_equal(
        read_hdf5_array(tmp_path / "plain.h5", "soft"), np.arange(6.0).reshape(2, 3)
    )
    np.testing.assert_array_equal(read_hdf5_array(tmp_path / "plain.h5", "packed"), np.arange(1000))


def npy_header(shape):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def test_headers_that_promise_more_than_the_file_holds_are_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "big.npy").write_bytes(npy_header((2**22, 2**22)) + bytes(64))
    with pytest.raises(InputError, match=r"big\.npy promises \d+ bytes in a file of \d+"):
        check_npy(tmp_path / "big.npy")
    with zipfile.ZipFile(tmp_path / "big.npz", "w") as archive:
        archive.writestr("rdms.npy", npy_header((2**20, 2**30)) + bytes(64))
    with pytest.raises(InputError, match=r"big\.npz: 'rdms' promises"):
        check_npz(tmp_path / "big.npz")
    (tmp_path / "scan.nii.gz").write_bytes(bytes(1000))
    check_promise(tmp_path / "scan.nii.gz", 1000 * 1032)
    with pytest.raises(InputError, match="more than its 1000 bytes can hold"):
        check_promise(tmp_path / "scan.nii.gz", 10**13)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects, which are not read"):
        check_npy(tmp_path / "objects.npy")


def test_a_file_whose_reader_crashes_or_fails_is_named(tmp_path):
    square = 1 - np.eye(4)
    savemat(
        tmp_path / "good.mat", {"RDM": square, "ids": np.array(["a", "b", "c", "d"], dtype=object)}
    )
    vectors, ids, _ = read_dissimilarities(tmp_path / "good.mat")
    assert ids == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(vectors, np.ones((1, 6)))
    contents = bytearray((tmp_path / "good.mat").read_bytes())
    refused = 0
    for place in (128, 132, 140, 176, 300):
        (tmp_path / "bad.mat").write_bytes(
            contents[:place] + bytes([contents[place] ^ 64]) + contents[place + 1 :]
        )
        try:
            read_dissimilarities(tmp_path / "bad.mat")
        except InputError as error:
            assert "bad.mat" in str(error)
            refused += 1
    assert refused


@pytest.mark.parametrize(
    "text", ["a,b,d\nx\n", '"', "a,b,c\n1,2,3\n" + "x" * 200_000 + "\n", "\x00\n"]
)
def test_tables_of_pairs_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=r"pairs\.csv"):
        read_dissimilarities(tmp_path / "pairs.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX file system")
def test_every_flipped_byte_of_an_hdf5_file_of_ours_is_noticed_or_harmless(tmp_path):
    values = np.arange(20.0)
    path = write_hdf5(
        tmp_path / "x.h5", arrays={"values": values}, attributes={"note": "as it was"}
    )
    contents = path.read_bytes()
    noticed = 0
    for place in range(0, len(contents), 7):
        path.write_bytes(contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :])
        try:
            np.testing.assert_array_equal(read_hdf5_array(path, "values"), values)
        except InputError as error:
            noticed += "x.h5" in str(error)
    assert noticed > 0.95 * len(range(0, len(contents), 7))
