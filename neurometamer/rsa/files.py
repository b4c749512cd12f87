"""Files of RDMs: rsatoolbox's own layout, and those of other programs, square or condensed.

Other programs write MATLAB, NumPy, text or plain HDF5 files. Nothing is ever unpickled.
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.matlab import read_mat
from neurometamer.reading import check_npy, check_npz, check_plain_file, reading
from neurometamer.rsa.measures import MEASURE_ALIASES, MEASURES, find_measure
from neurometamer.rsa.rdms import (
    check_rdms,
    check_squares,
    label_rdms,
    match_ids,
    name_pairs,
    take_conditions,
)
from neurometamer.store import atomic_path, open_hdf5, seal_hdf5

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

ID_NAMES = (
    "ids",
    "id",
    "conditions",
    "condition",
    "conds",
    "stimuli",
    "stimulus",
    "labels",
    "label",
    "names",
    "images",
)
"""Variables that may hold the ids of conditions, the likeliest first."""


@dataclass(kw_only=True)
class FileContent:
    """Variables that a file holds.

    Parameters
    ----------
    arrays : dict of str to ndarray
        Numbers by variable.
    texts : dict of str to list of str
        Lists of words by variable.
    ids : list of str, optional
        Ids that belong to the numbers for certain (headers).
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    ids: list[str] | None = None


def read_dissimilarities(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    variable: str | None = None,
    signed: bool = False,
) -> tuple[np.ndarray, list[str], list[str]]:
    """Read RDMs from a file of another program and check them.

    Parameters
    ----------
    path : path-like
        ``.mat`` (any version), ``.npz``, ``.npy``, ``.csv`` (comma or tab), or HDF5 with
        `variable`.
    ids : sequence of str, optional
        Ids of the conditions in the order of the file. Not needed where the file names them; where
        both do, they must be the same.
    variable : str, optional
        Variable that holds the RDMs, where there are several.
    signed : bool
        Allow negative dissimilarities, which only crossvalidated ones can be.

    Returns
    -------
    vectors : ndarray, shape (n_rdms, n_pairs)
        float64, condensed in the order of `numpy.triu_indices`.
    ids : list of str
        Ids of the conditions.
    names : list of str
        Names of the RDMs, e.g. ``"rdms 2"``.

    Raises
    ------
    InputError
        When the file cannot be read, holds no or several RDM variables, names no ids, or the RDMs
        are not square, symmetric, zero on the diagonal, finite and (unless `signed`) not negative;
        the ids are named.
    """
    file = check_plain_file(path)
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        if variable is None:
            raise unknown_name("kind of RDM file", file.suffix, READERS)
        reader = _read_plain_hdf5
    with reading(file, "a file of RDMs"):
        content = reader(file)
    name = _choose(content, variable, str(file))
    array = np.asarray(content.arrays[name])
    if array.dtype.kind not in "fiu":
        raise InputError(
            f"{file}: '{name}' holds {array.dtype}; an RDM is made of real numbers: name another "
            "variable."
        )
    values = array.astype(np.float64)
    size, count = _sizes(values, name, str(file))
    wanted = _ids_of(content, ids, size, str(file))
    vectors = _condensed(values, size, wanted, signed, f"{file}: '{name}'")
    if count == 1:
        return vectors, wanted, [name]
    for words in content.texts.values():
        if words != wanted and len(words) == count:
            return vectors, wanted, words
    return vectors, wanted, [f"{name} {i + 1}" for i in range(count)]


def _choose(content: FileContent, variable: str | None, file: str) -> str:
    if variable is not None:
        if variable not in content.arrays:
            raise unknown_name(f"variable of {file}", variable, content.arrays)
        return variable
    likely = []
    for name, array in content.arrays.items():
        if name.lower() in ID_NAMES or not 1 <= np.ndim(array) <= 3:
            continue
        try:
            if _sizes(np.asarray(array), "", "")[0] > 2:
                likely.append(name)
        except InputError:
            continue
    if not likely:
        shapes = [f"{name} {np.shape(array)}" for name, array in content.arrays.items()]
        raise InputError(
            f"{file} holds no variable that may be RDMs, square or condensed, of at least 3 "
            f"conditions; it holds {name_ids(shapes) if shapes else 'no real numbers'}."
        )
    if len(likely) > 1:
        raise InputError(
            f"{file} holds {len(likely)} variables that may be RDMs ({name_ids(likely)}; all: "
            f"{name_ids(content.arrays)}); say which one by its name."
        )
    return likely[0]


def _n_conditions(n_pairs: int) -> int:
    """Give the number of conditions of so many pairs, 0 where there is none."""
    root = int(np.sqrt(1 + 8 * n_pairs))
    n = (1 + root) // 2
    n_pairs_of_n = n * (n - 1) // 2
    if n_pairs_of_n == n_pairs:
        return n
    return 0


def _sizes(array: np.ndarray, name: str, file: str) -> tuple[int, int]:
    """Give numbers of conditions and of RDMs."""
    shape = array.shape
    if len(shape) == 2 and shape[0] == shape[1]:
        return shape[0], 1
    if len(shape) == 3 and shape[1] == shape[2]:
        return shape[1], shape[0]
    if len(shape) == 3 and shape[0] == shape[1]:
        return shape[0], shape[2]
    if len(shape) == 1 and _n_conditions(shape[0]):
        return _n_conditions(shape[0]), 1
    if len(shape) == 2 and 1 in shape and _n_conditions(array.size):
        return _n_conditions(array.size), 1
    if len(shape) == 2 and _n_conditions(shape[1]):
        return _n_conditions(shape[1]), shape[0]
    raise InputError(
        f"{file}: '{name}' has shape {shape}; RDMs are (n, n), (n_rdms, n, n), (n, n, n_rdms) or "
        "condensed (n_pairs,), (n_rdms, n_pairs) with n_pairs = n (n - 1) / 2."
    )


def _ids_of(content: FileContent, given: Sequence[str] | None, size: int, file: str) -> list[str]:
    inside = content.ids
    if inside is None:
        named = {}
        for name, words in content.texts.items():
            named[name.lower()] = words
        fitting = [named[name] for name in ID_NAMES if len(named.get(name, ())) == size]
        inside = fitting[0] if fitting else None
    wanted = None if given is None else [str(name) for name in given]
    if inside is not None and wanted is not None and inside != wanted:
        different = [f"{a} (given {b})" for a, b in zip(inside, wanted) if a != b]
        what = name_ids(different or ["their number"])
        raise InputError(
            f"{file}: the ids in the file are not those given: {what}. Leave ids out, or give "
            "those of the file."
        )
    ids = wanted if wanted is not None else inside
    if ids is None:
        raise InputError(
            f"{file} names no conditions; give their ids, in the order of its {size} rows."
        )
    if len(ids) != size:
        raise InputError(
            f"{file}: {len(ids)} ids ({name_ids(ids)}) for RDMs of {size} conditions; give one id "
            "each."
        )
    if again := duplicates(ids):
        raise InputError(
            f"{file}: repeated id(s) {name_ids(again)}; every condition needs an id of its own."
        )
    return ids


# ------------------------------------------------------------------------------------------- checks


def _condensed(
    array: np.ndarray, size: int, ids: Sequence[str], signed: bool, what: str
) -> np.ndarray:
    first, second = np.triu_indices(size, 1)
    if array.shape[-2:] == (size, size) or array.ndim == 3:
        squares = array
        if array.shape[-2:] != (size, size):
            squares = np.moveaxis(array, -1, 0)
        squares = squares.reshape(-1, size, size)
        _check_finite(squares, ids, what)
        check_squares(squares, ids, what)
        vectors = (squares[:, first, second] + squares[:, second, first]) / 2
    else:
        vectors = array.reshape(-1, len(first))
        squares = np.zeros((len(vectors), size, size))
        squares[:, first, second] = vectors
        _check_finite(squares, ids, what)
    below = np.unique(np.nonzero(vectors < 0)[1])
    if below.size and not signed:
        raise InputError(
            f"{what}: negative dissimilarities between "
            f"{name_pairs(first[below], second[below], ids)}; only "
            "crossvalidated ones (measure='crossnobis') can be: say so, or compute the RDM again."
        )
    return vectors


def _check_finite(squares: np.ndarray, ids: Sequence[str], what: str) -> None:
    bad = ~np.isfinite(squares).all(axis=0)
    if bad.any():
        rows, columns = np.nonzero(np.triu(bad | bad.T))
        raise InputError(
            f"{what}: NaN or infinite dissimilarities between {name_pairs(rows, columns, ids)}; "
            "leave those conditions out."
        )


# ------------------------------------------------------------------------------------------ readers


def _sort(variables: Mapping[str, Any]) -> FileContent:
    content = FileContent()
    for name, value in variables.items():
        array = np.asarray(value)
        kind = array.dtype.kind
        if kind in "fiu":
            content.arrays[name] = array
        is_object = kind == "O" and array.size > 0
        if kind in "US":
            words = np.atleast_1d(array).ravel()
            if kind == "S":
                words = np.char.decode(words, "utf-8")
            content.texts[name] = [str(word).strip() for word in words]
        elif is_object and all(isinstance(cell, str) for cell in array.flat):
            content.texts[name] = [cell.strip() for cell in array.flat]
        elif kind in "iu" and array.ndim == 1 and name.lower() in ID_NAMES:
            content.texts[name] = [str(number) for number in array]
    return content


def _read_mat(path: Path) -> FileContent:
    import h5py

    if not h5py.is_hdf5(path):
        return _sort(read_mat(path))
    variables: dict[str, Any] = {}
    with open_hdf5(path) as file:  # MATLAB 7.3, Octave and others
        for name, data in file.items():
            if name.startswith("#") or not isinstance(data, h5py.Dataset):
                continue
            kind = data.attrs.get("MATLAB_class", b"")
            values = data[...].T  # MATLAB counts axes the other way round
            if kind == b"cell":
                cells = [file[reference] for reference in values.ravel()]
                if all(cell.attrs.get("MATLAB_class") == b"char" for cell in cells):
                    words = ["".join(map(chr, cell[...].T.ravel())) for cell in cells]
                    variables[name] = np.array(words)
            elif kind == b"char":
                words = ["".join(map(chr, row)) for row in np.atleast_2d(values)]
                variables[name] = np.array(words)
            else:
                variables[name] = np.squeeze(values)
    return _sort(variables)


def _read_numpy(path: Path) -> FileContent:
    if path.suffix.lower() == ".npy":
        check_npy(path)
        with reading(path, "a NumPy file"):
            array = np.load(path, allow_pickle=False)
        return _sort({"rdms": array})
    check_npz(path)
    with reading(path, "a NumPy file"), np.load(path, allow_pickle=False) as content:
        arrays = dict(content.items())
    return _sort(arrays)


def _read_plain_hdf5(path: Path) -> FileContent:
    import h5py

    arrays: dict[str, Any] = {}

    def keep(name: str, data: Any) -> None:
        if not isinstance(data, h5py.Dataset):
            return
        kind = data.dtype.kind
        if kind in "fiu":
            arrays[name] = data[...]

    with open_hdf5(path) as file:
        file.visititems(keep)
    return FileContent(arrays=arrays)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _is_number(cell: str) -> bool:
    if np.isnan(_number(cell)):
        return cell.strip().lower() in ("nan", "-nan", "+nan")
    return True


def _read_csv(path: Path) -> FileContent:
    with reading(path, "a text file"):
        text = path.read_text(encoding="utf-8-sig")
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = []
    for row in csv.reader(text.splitlines(), delimiter=delimiter):
        if row:
            rows.append([cell.strip() for cell in row])
    if not rows or len({len(row) for row in rows}) != 1:
        raise InputError(
            f"{path}: a table of dissimilarities has rows of equal length, at least one, not "
            f"{len(rows)} rows of the lengths {sorted({len(row) for row in rows})}; write it again."
        )
    header = rows[0]
    if all(map(_is_number, header)):
        down = [f"row {i + 1}" for i in range(len(rows))]
        across = [f"column {i + 1}" for i in range(len(header))]
        return FileContent(arrays={"rdm": _numbers(rows, path, down, across)})
    body = rows[1:]
    if len(body) == len(header):
        return FileContent(arrays={"rdm": _numbers(body, path, header, header)}, ids=header)
    if len(body) == len(header) - 1:
        columns = header[1:]
        names = [row[0] for row in body]
        if sorted(names) != sorted(columns):
            odd = sorted(set(names) ^ set(columns)) or duplicates(names)
            raise InputError(
                f"{path}: ids of rows and of columns differ, or repeat: {name_ids(odd)}; give each "
                "condition one row and one column."
            )
        if again := duplicates(names):
            raise InputError(
                f"{path}: repeated id(s) {name_ids(again)}; every condition needs an id of its own."
            )
        numbers = _numbers([row[1:] for row in body], path, names, columns)
        order = [columns.index(name) for name in names]
        return FileContent(arrays={"rdm": numbers[:, order]}, ids=names)
    if len(header) >= 3:
        return _list_of_pairs(header, body, path)
    raise InputError(
        f"{path}: {len(body)} rows under {len(header)} names are neither a square nor a list of "
        "pairs; give one of the two."
    )


def _numbers(
    rows: Sequence[Sequence[str]], path: Path, down: Sequence[str], across: Sequence[str]
) -> np.ndarray:
    """Read numbers; cells that hold none are named by row and column."""
    numbers = np.empty((len(rows), len(across)))
    bad = []
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            numbers[i, j] = _number(cell)
            if not _is_number(cell):
                labels = [label for label in (down[i], across[j]) if label]
                bad.append(f"{cell or 'an empty cell'} at {' and '.join(labels)}")
    if bad:
        raise InputError(f"{path}: not a number: {name_ids(bad)}; give numbers only.")
    return numbers


def _list_of_pairs(header: Sequence[str], body: Sequence[Sequence[str]], path: Path) -> FileContent:
    """Read rows of two ids and one dissimilarity for each RDM; pairs in any order and direction."""
    ends: list[str] = []
    for row in body:
        ends += row[:2]
    ids = list(dict.fromkeys(ends))
    place = {name: i for i, name in enumerate(ids)}
    pairs = []
    for row in body:
        first, second = place[row[0]], place[row[1]]
        pairs.append((min(first, second), max(first, second)))
    names = [f"{ids[i]} and {ids[j]}" for i, j in pairs]
    every_pair = set(itertools.combinations(range(len(ids)), 2))
    missing = [f"{ids[i]} and {ids[j]}" for i, j in sorted(every_pair - set(pairs))]
    same = [ids[i] for i, j in pairs if i == j]
    problems = {
        "repeated pairs": duplicates(names),
        "pairs of a condition with itself": same,
        "pairs without a row": missing,
    }
    for what, bad in problems.items():
        if bad:
            raise InputError(
                f"{path}: {what}: {name_ids(bad)}; give each pair of conditions one row."
            )
    named = [f"{row[0]} and {row[1]}" for row in body]
    columns = list(header[2:])
    numbers = _numbers([row[2:] for row in body], path, named, [""] * len(columns))
    order = sorted(range(len(pairs)), key=pairs.__getitem__)
    return FileContent(
        arrays={"rdm": numbers[order].T},
        texts={"columns": columns},
        ids=ids,
    )


READERS: dict[str, Callable[[Path], FileContent]] = {
    ".mat": _read_mat,
    ".npz": _read_numpy,
    ".npy": _read_numpy,
    ".csv": _read_csv,
    ".tsv": _read_csv,
}
"""Suffix to the function that reads such a file."""


# ------------------------------------------------------------------------------------ our own files


@checked
def write_rdms(rdms: RDMs, path: str | os.PathLike[str]) -> Path:
    r"""Write RDMs in rsatoolbox's own HDF5 layout, atomically.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with stimulus ids in ``pattern_descriptors["condition"]``.
    path : path-like
        Final file; ``rsatoolbox.rdm.load_rdm(path, file_type="hdf5")`` opens it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When the RDMs do not pass `check_rdms`.

    Notes
    -----
    rsatoolbox's layout holds ASCII only. Where a name has other letters, all names are written with
    Python's escapes (``\u72d7`` for 狗), which rsatoolbox shows as they are and `read_rdms` turns
    back.

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import compute_rdms
    >>> values = np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 3, 2]])
    >>> rdms = compute_rdms(values, ids=["cat", "dog", "cup", "car"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_rdms(rdms, Path(folder, "rdms.h5")).name
    'rdms.h5'
    """
    import h5py

    check_rdms(rdms, "RDMs to write")
    plain = take_conditions(rdms, range(rdms.n_cond))
    columns = [*plain.pattern_descriptors.values(), *plain.rdm_descriptors.values()]
    escaped = False
    for column in columns:
        escaped |= any(not str(name).isascii() for name in column)
    if escaped:
        _each_text(plain, lambda name: name.encode("unicode_escape").decode("ascii"))
    with atomic_path(path) as part:
        part.unlink()  # rsatoolbox refuses a file that exists, even an empty one
        plain.save(str(part), file_type="hdf5")
        if escaped:
            with h5py.File(part, "a") as file:
                file.attrs[_ESCAPED] = True
        seal_hdf5(part)
    return Path(path)


_ESCAPED = "names_are_escaped"
"""Attribute of files whose names are escaped, since rsatoolbox's layout holds ASCII only."""


def _each_text(rdms: RDMs, change: Callable[[str], str]) -> None:
    """Change the text in the descriptors of conditions and of RDMs, in place."""
    for descriptors in (rdms.pattern_descriptors, rdms.rdm_descriptors):
        for name, column in descriptors.items():
            changed = []
            for value in column:
                is_text = isinstance(value, str)
                new = change(value) if is_text else value
                changed.append(new)
            descriptors[name] = changed


@checked
def read_rdms(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    variable: str | None = None,
    measure: str = "",
    descriptor: str | None = None,
) -> RDMs:
    """Read RDMs from rsatoolbox's HDF5 layout or from a file of another program, and check them.

    Parameters
    ----------
    path : path-like
        A file of `write_rdms` or of ``RDMs.save(path, file_type="hdf5")``; or ``.mat``, ``.npz``,
        ``.npy``, ``.csv`` (`read_dissimilarities`).
    ids : sequence of str, optional
        Ids of the conditions, where the file does not name them.
    variable : str, optional
        Name of the variable, where the file holds several, e.g. a dataset of any HDF5 file.
    measure : str
        Measure of another program's numbers: one of `MEASURES`, a name of rsatoolbox, or any words.
        Only ``"crossnobis"``
        may be negative.
    descriptor : str, optional
        Pattern descriptor of an rsatoolbox file that holds the stimulus ids, where it is not
        ``condition``. When not given, the only descriptor whose values are different names is
        taken.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        Descriptors as lists of Python text and numbers; RDMs of other programs have the descriptor
        ``name``.

    Raises
    ------
    InputError
        When the file is missing or holds no RDMs, or they do not pass the checks; ids are named.

    Examples
    --------
    >>> import tempfile
    >>> square = np.ones((4, 4)) - np.eye(4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "rdm.npy"), square)
    ...     rdms = read_rdms(Path(folder, "rdm.npy"), ids=["cat", "dog", "cup", "car"])
    >>> rdms.n_rdm, rdms.n_cond, rdms.pattern_descriptors["condition"]
    (1, 4, ['cat', 'dog', 'cup', 'car'])
    """
    import rsatoolbox.rdm as rsa

    if Path(path).suffix.lower() in READERS or variable is not None:
        label, signed = measure or "unknown", False
        if measure in MEASURES or measure in MEASURE_ALIASES:
            known = find_measure(measure)
            label, signed = known.label, known.signed
        vectors, conditions, names = read_dissimilarities(
            path, ids=ids, variable=variable, signed=signed
        )
        return label_rdms(
            vectors,
            conditions=conditions,
            rdm_descriptors={"name": names},
            measure=label,
            provenance={"file": Path(path).name},
        )
    with open_hdf5(path) as file:
        needed = ("dissimilarities", "pattern_descriptors", "rdm_descriptors")
        lacking = [name for name in needed if name not in file]
        if lacking:
            raise InputError(
                f"{path} holds no RDMs: it lacks {', '.join(lacking)}; write it with RDMs.save or "
                "write_rdms."
            )
        escaped = _ESCAPED in file.attrs
        loaded = rsa.load_rdm(str(path), file_type="hdf5")
        rdms = take_conditions(loaded, range(loaded.n_cond))
        if escaped:
            _each_text(rdms, lambda name: name.encode("ascii").decode("unicode_escape"))
        held = rdms.pattern_descriptors
        name = _condition_descriptor(held, path, descriptor)
        held["condition"] = [str(value) for value in held[name]]
        check_rdms(rdms, str(path))
    if ids is not None:
        match_ids(held["condition"], ids, str(path), "the ids given")
    return rdms


def _condition_descriptor(
    held: Mapping[str, Any], path: str | os.PathLike[str], descriptor: str | None
) -> str:
    """Choose the pattern descriptor with the stimulus ids: given, ``condition``, or the names."""
    if descriptor in held:
        return str(descriptor)
    if "condition" in held:
        return "condition"
    others = [name for name in held if name != "index"]
    if descriptor is not None:
        raise unknown_name(f"pattern descriptor of {path}", descriptor, others)
    names = []
    for name in others:
        is_text = all(isinstance(value, str) for value in held[name])
        if is_text and not duplicates(held[name]):
            names.append(name)
    if len(names) == 1:
        return names[0]
    raise InputError(
        f"{path}: no pattern descriptor 'condition' with the stimulus ids (found: "
        f"{', '.join(others) or 'none'}); name the one that holds them with --descriptor NAME of "
        "compare, layers or draw (Python: read_rdms(path, descriptor=NAME))."
    )
