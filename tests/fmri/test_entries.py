"""A file format is one entry of one table: a dummy of each is read wherever such files are."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest

import neurometamer as nm
from fmri import estimate_betas, read_mesh, read_patterns, read_run, read_surface_patterns
from fmri.bids import find_reader
from fmri.bold import IMAGE_READERS
from fmri.maps import write_surface_map
from fmri.patterns import PATTERN_READERS, Patterns
from fmri.surfaces import SURFACE_READERS
from fmri.tables import TABLE_READERS
from neurometamer.errors import InputError
from neurometamer.store import read_table


def five_patterns(path) -> Patterns:
    """Read patterns from a text file: one line of numbers a condition."""
    values = np.loadtxt(path)
    conditions = [f"image {number}" for number in range(len(values))]
    return Patterns(
        values=values,
        observations=pd.DataFrame(
            {"condition": conditions, "presentation": 1, "run": "1", "session": ""}
        ),
        voxels=pd.DataFrame(
            {"subject": "S1", "roi": "V1", "i": range(values.shape[1]), "j": 0, "k": 0}
        ),
    )


def test_a_reader_of_patterns_serves_the_function_and_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(PATTERN_READERS, ".lines", five_patterns)
    file = tmp_path / "S1.lines"
    values = np.random.default_rng(0).random((5, 6))
    np.savetxt(file, values)
    np.testing.assert_allclose(read_patterns(file).values, values)
    rdms = nm.read_rdms(nm.commands.rdm(tmp_path / "rdms.h5", patterns=[file]))
    assert rdms.n_cond == 5 and rdms.rdm_descriptors["subject"] == ["S1"]


def test_readers_of_images_and_tables_serve_a_run_and_its_betas(make_run, tmp_path, monkeypatch):
    bold, events, mask = make_run()
    image, table = tmp_path / "sub-07_run-1_bold.other", tmp_path / "sub-07_run-1_events.other"
    image.write_bytes(bold.read_bytes())
    table.write_bytes(events.read_bytes())

    def in_memory(path):
        assert path == image
        stored = nibabel.Nifti1Image.from_bytes(path.read_bytes())
        return nibabel.Nifti1Image(stored.get_fdata(), stored.affine, stored.header)

    def as_tsv(path, **columns):
        assert path == table
        return read_table(events, **columns)

    monkeypatch.setitem(IMAGE_READERS, ".other", in_memory)
    monkeypatch.setitem(TABLE_READERS, ".other", as_tsv)
    other = estimate_betas([read_run(image, table)], {"V1": mask})
    plain = estimate_betas([read_run(bold, events)], {"V1": mask})
    np.testing.assert_allclose(other.values, plain.values)
    assert other.conditions == plain.conditions


def test_readers_of_surfaces_serve_meshes_responses_and_labels(tmp_path, monkeypatch):
    corners, triangle = np.eye(3), np.array([[0, 1, 2]])
    maps = write_surface_map(tmp_path / "lh.func.gii", np.array([0.5, 1.0, 1.5]))
    for name in ("lh.points", "lh.responses", "lh.names"):
        (tmp_path / name).touch()
    (tmp_path / "maps.csv").write_text("condition\ncat\n")
    monkeypatch.setitem(SURFACE_READERS["mesh"], ".points", lambda path: (corners, triangle))
    monkeypatch.setitem(
        SURFACE_READERS["maps"], ".responses", lambda path: SURFACE_READERS["maps"][".gii"](maps)
    )
    regions = np.array(["V1", "", "V2"], dtype=object)
    monkeypatch.setitem(SURFACE_READERS["labels"], ".names", lambda path: regions)
    np.testing.assert_array_equal(read_mesh(tmp_path / "lh.points")[0], corners)
    patterns = read_surface_patterns(
        tmp_path / "lh.responses", tmp_path / "maps.csv", labels=tmp_path / "lh.names"
    )
    assert patterns.voxels["roi"].tolist() == ["V1", "V2"]
    assert patterns.values.tolist() == [[0.5, 1.5]]


def test_unknown_endings_are_told_with_the_nearest(tmp_path):
    (tmp_path / "lh.anot").touch()
    (tmp_path / "maps.csv").write_text("condition\ncat\n")
    maps = write_surface_map(tmp_path / "lh.func.gii", np.array([0.5, 1.0, 1.5]))
    with pytest.raises(InputError, match=r"ending of patterns \(S1.h6\) '.h6'; did you mean '.h5'"):
        read_patterns(tmp_path / "S1.h6")
    with pytest.raises(InputError, match=r"\(lh.anot\) '.anot'; did you mean '.annot'"):
        read_surface_patterns(maps, tmp_path / "maps.csv", labels=tmp_path / "lh.anot")
    with pytest.raises(InputError, match=r"'.gi'; did you mean '.gii'"):
        read_surface_patterns(tmp_path / "lh.gi", tmp_path / "maps.csv")


def test_the_longest_ending_counts():
    readers = {".gz": "any", ".nii.gz": "image", "": "other"}
    assert find_reader(readers, "A.NII.GZ", "images") == "image"
    assert find_reader(readers, "a.tsv.gz", "images") == "any"
    assert find_reader(readers, "a.tsv", "images") == "other"
