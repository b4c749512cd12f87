"""RDM files of other programs: layouts read alike, bad ones refused by id, no pickle."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat
from scipy.spatial.distance import squareform

from neurometamer.errors import InputError
from neurometamer.rsa.comparators.table import spearman
from neurometamer.rsa.compute import align_rdms, label_rdms, read_rdms, write_rdms
from neurometamer.rsa.measures import MEASURES

IDS = ["apple", "bird", "car", "dog", "eel"]
VECTORS = np.random.default_rng(0).random((2, 10))
SQUARES = np.array([squareform(vector) for vector in VECTORS])


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_mat73(path, square, ids):
    """Write as MATLAB 7.3 does: HDF5, axes reversed, cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:
        data = file.create_dataset("rdms", data=np.asarray(square).T)
        data.attrs["MATLAB_class"] = np.bytes_("double")
        references = []
        for i, name in enumerate(ids):
            cell = file.create_dataset(
                f"#refs#/{i}", data=np.array([[ord(letter)] for letter in name], dtype="u2")
            )
            cell.attrs["MATLAB_class"] = np.bytes_("char")
            references.append([cell.ref])
        cells = file.create_dataset(
            "ids", data=np.array(references, dtype=h5py.ref_dtype).T, dtype=h5py.ref_dtype
        )
        cells.attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + bytes([0, 2]) + b"IM")


def layouts(folder):
    """Give every layout of the same RDMs: file, number of RDMs, whether ids are in it."""
    cells = np.array(IDS, dtype=object)
    np.savez(folder / "a.npz", rdm=SQUARES[0], ids=np.array(IDS))
    np.savez(folder / "b.npz", rdms=SQUARES, conditions=np.array(IDS))
    np.savez(folder / "c.npz", rdms=VECTORS)
    np.save(folder / "d.npy", SQUARES[0])
    savemat(folder / "e.mat", {"rdm": SQUARES[0], "labels": cells})
    savemat(folder / "f.mat", {"rdms": SQUARES.transpose(1, 2, 0), "ids": cells})
    savemat(folder / "g.mat", {"rdms": VECTORS})
    savemat(
        folder / "h.mat",
        {
            "RDMs": np.array(
                [(SQUARES[0], "first"), (SQUARES[1], "second")],
                dtype=[("RDM", object), ("name", object)],
            )
        },
    )
    write_mat73(folder / "i.mat", SQUARES[0], IDS)
    write_mat73(folder / "j.mat", SQUARES.transpose(1, 2, 0), IDS)
    write_csv(folder / "k.csv", [["", *IDS], *([name, *row] for name, row in zip(IDS, SQUARES[0]))])
    write_csv(folder / "l.csv", SQUARES[0])
    write_csv(folder / "m.csv", [IDS, *SQUARES[0]])
    write_csv(folder / "n.csv", [VECTORS[0]])
    pairs = [
        (IDS[i], IDS[j], *VECTORS[:, k]) for k, (i, j) in enumerate(zip(*np.triu_indices(5, 1)))
    ]
    write_csv(folder / "o.csv", [["a", "b", "x", "y"], *pairs])
    return {
        "a.npz": (1, True),
        "b.npz": (2, True),
        "c.npz": (2, False),
        "d.npy": (1, False),
        "e.mat": (1, True),
        "f.mat": (2, True),
        "g.mat": (2, False),
        "h.mat": (2, False),
        "i.mat": (1, True),
        "j.mat": (2, True),
        "k.csv": (1, True),
        "l.csv": (1, False),
        "m.csv": (1, True),
        "n.csv": (1, False),
        "o.csv": (2, True),
    }


def test_every_layout_reads_the_same(tmp_path):
    for name, (count, has_ids) in layouts(tmp_path).items():
        rdms = read_rdms(tmp_path / name, ids=None if has_ids else IDS, measure="pearson")
        assert rdms.pattern_descriptors["condition"] == IDS, name
        np.testing.assert_allclose(rdms.dissimilarities, VECTORS[:count], rtol=1e-12, err_msg=name)
        assert rdms.dissimilarity_measure == "1 - Pearson"
        assert f'"file": "{name}"' in rdms.descriptors["provenance"]
        again = read_rdms(write_rdms(rdms, tmp_path / f"{name}.h5"))
        assert np.array_equal(again.dissimilarities, rdms.dissimilarities)
        if has_ids:
            assert read_rdms(tmp_path / name, ids=IDS).n_rdm == count
            with pytest.raises(InputError, match=r"apple \(given bird\)"):
                read_rdms(tmp_path / name, ids=["bird", "apple", *IDS[2:]])
        else:
            with pytest.raises(InputError, match="names no conditions; give their ids"):
                read_rdms(tmp_path / name)
            with pytest.raises(InputError, match=r"4 ids \(apple, bird, car, dog\) for RDMs of 5"):
                read_rdms(tmp_path / name, ids=IDS[:4])
            with pytest.raises(InputError, match=r"repeated id\(s\) apple"):
                read_rdms(tmp_path / name, ids=["apple", "apple", *IDS[2:]])
    assert read_rdms(tmp_path / "h.mat", ids=IDS).rdm_descriptors["name"] == ["first", "second"]
    assert read_rdms(tmp_path / "o.csv").rdm_descriptors["name"] == ["x", "y"]


@given(
    st.permutations(range(5)),
    st.permutations(range(10)),
    st.lists(st.booleans(), min_size=10, max_size=10),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order_never_matters(tmp_path, order, lines, turned):
    """Shuffled rows, columns and lines give the same RDM once they are joined by id."""
    names = [IDS[i] for i in order]
    square = SQUARES[0][np.ix_(order, order)]
    write_csv(
        tmp_path / "rows.csv",
        [["", *IDS], *([name, *row] for name, row in zip(names, SQUARES[0][list(order)]))],
    )
    np.savez(tmp_path / "square.npz", rdm=square, ids=np.array(names))
    first, second = np.triu_indices(5, 1)
    ends = [(second[k], first[k]) if turned[k] else (first[k], second[k]) for k in range(10)]
    pairs = [(IDS[ends[k][0]], IDS[ends[k][1]], VECTORS[0, k]) for k in lines]
    write_csv(tmp_path / "pairs.csv", [["a", "b", "distance"], *pairs])
    truth = label_rdms(VECTORS[:1], conditions=IDS, rdm_descriptors={"name": ["x"]}, measure="test")
    for name in ("rows.csv", "square.npz", "pairs.csv"):
        aligned = align_rdms(truth, read_rdms(tmp_path / name))[1]
        np.testing.assert_allclose(aligned.dissimilarities, VECTORS[:1], rtol=1e-15)


def test_bad_rdms_are_refused_by_id(tmp_path):
    def refused(change, words, **options):
        square = SQUARES[0].copy()
        change(square)
        np.savez(tmp_path / "x.npz", rdm=square, ids=np.array(IDS))
        with pytest.raises(InputError, match=words):
            read_rdms(tmp_path / "x.npz", **options)

    def put(i, j, value, both=False):
        def change(square):
            square[i, j] = value
            if both:
                square[j, i] = value

        return change

    refused(put(1, 3, 0.9), "not symmetric: both directions differ between bird and dog")
    refused(put(2, 2, 0.5), "diagonal is not zero for car; is this a similarity")
    refused(put(2, 2, np.nan), "NaN or infinite dissimilarities between car and car")
    refused(put(4, 0, np.inf), "NaN or infinite dissimilarities between apple and eel")
    refused(
        put(0, 4, -0.1, both=True),
        "negative dissimilarities between apple and eel; only crossvalidated",
    )
    refused(put(0, 4, -0.1, both=True), "negative", measure="spearman")
    square = SQUARES[0].copy()
    square[0, 4] = square[4, 0] = -0.1
    np.savez(tmp_path / "x.npz", rdm=square, ids=np.array(IDS))
    assert read_rdms(tmp_path / "x.npz", measure="crossnobis").dissimilarities.min() == -0.1
    np.savez(
        tmp_path / "x.npz", rdm=np.where(np.arange(10) == 3, np.nan, VECTORS), ids=np.array(IDS)
    )
    with pytest.raises(InputError, match="between apple and eel"):
        read_rdms(tmp_path / "x.npz")
    np.savez(
        tmp_path / "x.npz", rdm=SQUARES[0] + 1e-9 * np.triu(SQUARES[0]), ids=np.array(IDS)
    )  # as after saving
    np.testing.assert_allclose(
        read_rdms(tmp_path / "x.npz").dissimilarities[0], VECTORS[0], rtol=1e-8
    )


@pytest.mark.parametrize("name", [name for name, measure in MEASURES.items() if not measure.signed])
def test_our_own_file_with_an_impossible_value_is_refused(tmp_path, name):
    vectors = VECTORS.copy()
    vectors[0, 4] = -0.5
    wrong = label_rdms(
        np.abs(vectors),
        conditions=IDS,
        rdm_descriptors={"stage": ["a", "b"]},
        measure=MEASURES[name].label,
    )
    wrong.dissimilarities[0, 4] = -0.5
    with pytest.raises(
        InputError, match="negative dissimilarities between bird and car; only crossvalidated"
    ):
        read_rdms(write_rdms(wrong, tmp_path / "x.h5"))
    signed = label_rdms(
        vectors,
        conditions=IDS,
        rdm_descriptors={"stage": ["a", "b"]},
        measure=MEASURES["crossnobis"].label,
    )
    assert read_rdms(write_rdms(signed, tmp_path / "x.h5")).n_rdm == 2
    with pytest.raises(InputError, match="missing from the ids given: eel"):
        read_rdms(tmp_path / "x.h5", ids=IDS[:4])


def test_files_that_cannot_be_read_say_why(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_rdms(tmp_path / "none.mat")
    for name in ("x.mat", "x.npz", "x.npy"):
        (tmp_path / name).write_bytes(b"no such thing" * 20)
        with pytest.raises(InputError, match=r"is not a (MATLAB|NumPy) file"):
            read_rdms(tmp_path / name, ids=IDS)
    np.savez(tmp_path / "x.npz", rdm=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="holds Python objects, which are not read"):
        read_rdms(tmp_path / "x.npz", ids=IDS)
    np.savez(tmp_path / "x.npz", a=SQUARES[0], b=SQUARES[1], ids=np.array(IDS))
    with pytest.raises(InputError, match=r"holds 2 variables that may be RDMs \(a, b"):
        read_rdms(tmp_path / "x.npz")
    np.testing.assert_allclose(
        read_rdms(tmp_path / "x.npz", variable="b").dissimilarities[0], VECTORS[1]
    )
    with pytest.raises(InputError, match=r"unknown variable of .* 'c'"):
        read_rdms(tmp_path / "x.npz", variable="c")
    np.savez(tmp_path / "x.npz", a=np.zeros((3, 4)), ids=np.array(IDS))
    with pytest.raises(InputError, match=r"'a' has shape \(3, 4\)"):
        read_rdms(tmp_path / "x.npz", variable="a")
    np.savez(tmp_path / "x.npz", a=SQUARES[0] + 1j)
    with pytest.raises(
        InputError, match=r"holds no variable that may be RDMs.*it holds no real numbers"
    ):
        read_rdms(tmp_path / "x.npz")


def test_bad_tables_are_refused_by_id(tmp_path):
    path = tmp_path / "x.csv"
    rows = [[name, *row] for name, row in zip(IDS, SQUARES[0])]
    write_csv(path, [["", *IDS[:4], "fig"], *rows])
    with pytest.raises(InputError, match=r"ids of rows and of columns differ.*eel, fig"):
        read_rdms(path)
    write_csv(path, [["", *IDS], *rows[:4], ["eel", 1, 2, 3, "four", ""]])
    with pytest.raises(
        InputError, match="not a number: four at eel and dog, an empty cell at eel and eel"
    ):
        read_rdms(path)
    write_csv(path, [["", "ape"], ["ape", 0]])
    with pytest.raises(InputError, match=r"of at least 3 conditions; it holds rdm \(1, 1\)"):
        read_rdms(path)
    bare = [[str(value) for value in row] for row in SQUARES[0]]
    write_csv(path, [*bare[:4], [*bare[4][:4], "nil"]])
    with pytest.raises(InputError, match="not a number: nil at row 5 and column 5"):
        read_rdms(path, ids=IDS)
    write_csv(path, [["", *IDS], *rows[:4], ["eel", 1]])
    with pytest.raises(InputError, match="rows of equal length"):
        read_rdms(path)
    pairs = [
        [IDS[i], IDS[j], VECTORS[0, k]] for k, (i, j) in enumerate(zip(*np.triu_indices(5, 1)))
    ]
    write_csv(path, [["a", "b", "d"], *pairs[:-1]])
    with pytest.raises(InputError, match="pairs without a row: dog and eel"):
        read_rdms(path)
    write_csv(path, [["a", "b", "d"], *pairs, ["eel", "dog", 1]])
    with pytest.raises(InputError, match="repeated pairs: dog and eel"):
        read_rdms(path)
    write_csv(path, [["a", "b", "d"], *pairs, ["eel", "eel", 0]])
    with pytest.raises(InputError, match="a condition with itself: eel"):
        read_rdms(path)


@pytest.mark.data
def test_rdms_of_92_images_read_from_every_kind_of_file(shared_data, tmp_path):
    ids = [f"img_{i:03d}" for i in range(1, 93)]
    source = shared_data / "rdms92.h5"
    subjects = read_rdms(source, variable="cichy2014/IT", ids=ids, measure="pearson")
    assert subjects.dissimilarities.shape == (15, 92 * 91 // 2)
    with pytest.raises(InputError, match="names no conditions"):
        read_rdms(source, variable="cichy2014/IT")
    with pytest.raises(InputError, match="lacks dissimilarities"):
        read_rdms(source)
    with h5py.File(source) as file:
        four = file["kriegeskorte2008/hIT"][...].astype(float).mean(axis=(0, 1))
        many = file["cichy2014/IT"][...].astype(float)
    savemat(tmp_path / "four.mat", {"hIT": four, "images": np.array(ids, dtype=object)})
    order = np.random.default_rng(0).permutation(92)
    np.savez(
        tmp_path / "many.npz", IT=many.mean(axis=0)[np.ix_(order, order)], ids=np.array(ids)[order]
    )
    a, b = align_rdms(read_rdms(tmp_path / "four.mat"), read_rdms(tmp_path / "many.npz"))
    # two laboratories; the value is that of the data's description
    assert spearman(a.dissimilarities, b.dissimilarities)[0, 0] == pytest.approx(0.557, abs=5e-4)
    np.testing.assert_allclose(
        subjects.dissimilarities.mean(axis=0), align_rdms(subjects, b)[1].dissimilarities[0]
    )
