"""A study of responses that were estimated before: converted, checked before any work, and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_studies import IDS, copy_photographs

from fmri import read_patterns, write_patterns
from neurometamer.commands import fmri_convert
from neurometamer.errors import InputError
from neurometamer.study import check_settings, run_study
from neurometamer.study.steps import check_study

STUDY = """
[images]
ready = "photographs"
[model]
name = "alexnet"
weights = "random"
stages = ["relu1"]
[selection]
voxels_per_roi = 10
[rsa]
n_resamples = 10
n_permutations = 20
[brain]
source = "patterns"
[[brain.subjects]]
id = "anna"
patterns = "anna.h5"
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """Write photographs, a BData file of three runs converted to patterns, and a study of both."""
    copy_photographs(tmp_path / "photographs")
    rng = np.random.default_rng(8)
    shown = np.tile(np.arange(7), 3)  # six photographs, and one that the study does not have
    signal = rng.normal(size=(7, 40))
    voxels = signal[shown] + 0.5 * rng.normal(size=(21, 40))
    matrix = np.column_stack([voxels, np.repeat([1, 2, 3], 7), shown])
    marks = np.full((4, 42), np.nan)
    marks[0, :40], marks[1, :40] = np.arange(40) < 22, np.arange(40) >= 22
    marks[2, 40] = marks[3, 41] = 1
    with h5py.File(tmp_path / "Subject1.h5", "w") as file:
        file["dataset"] = matrix
        file["metadata/key"] = [b"ROI_V1", b"ROI_LO", b"Run", b"stimulus_name"]
        file["metadata/value"] = marks
        for number, name in enumerate([*IDS, "other"]):
            file[f"vmap/stimulus_name/{float(number)}"] = name
    fmri_convert(tmp_path / "Subject1.h5", tmp_path / "anna.h5")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path


def test_converted_responses_go_through_a_study(folder):
    with pytest.warns(UserWarning, match=r"anna.h5: responses to 1 image\(s\) that are not in"):
        report = run_study(folder / "study.toml", folder / "out")
    kept = read_patterns(folder / "out" / "patterns" / "anna.h5")
    whole = read_patterns(folder / "anna.h5").select(conditions=IDS)
    assert kept.subject == "anna" and kept.conditions == tuple(IDS)
    assert kept.voxels["roi"].value_counts().to_dict() == {"V1": 10, "LO": 10}
    columns = [whole.voxels["i"].tolist().index(i) for i in kept.voxels["i"]]
    np.testing.assert_array_equal(kept.values, whole.values[:, columns])
    record = json.loads((folder / "out" / "provenance.json").read_text())
    assert record["brain"]["source"] == "patterns" and not record["brain"]["simulated"]
    methods = (folder / "out" / "methods.txt").read_text()
    assert "had been estimated before" in methods and "general linear model" not in methods
    assert report.is_file()


def test_faults_of_patterns_are_told_before_any_work(folder):
    patterns = read_patterns(folder / "anna.h5")
    known = patterns.observations["condition"] != "coffee"
    rows = known.to_numpy()
    fewer = replace(
        patterns, values=patterns.values[rows], observations=patterns.observations[rows]
    )
    write_patterns(fewer, folder / "anna.h5")
    problems = [str(problem) for problem in check_study(folder / "study.toml")]
    assert any(
        "anna.h5 has no response of anna to image(s) coffee" in problem for problem in problems
    )
    (folder / "anna.h5").write_bytes(b"nothing")
    problems = [str(problem) for problem in check_study(folder / "study.toml")]
    assert any("anna.h5 is not an HDF5 file" in problem for problem in problems)
    (folder / "anna.h5").unlink()
    problems = [str(problem) for problem in check_study(folder / "study.toml")]
    assert any("anna.h5" in problem and "not exist" in problem for problem in problems)


@pytest.mark.parametrize(
    ("brain", "message"),
    [
        ({"source": "patterns"}, r"needs at least one \[\[brain.subjects\]\]"),
        (
            {
                "source": "patterns",
                "subjects": [{"id": "a", "patterns": "a.h5", "bold": ["b.nii"]}],
            },
            "patterns stand alone, and bold came with them",
        ),
        (
            {"source": "bold", "subjects": [{"id": "a", "patterns": "a.h5"}]},
            'source = "bold" and the files of a do not fit',
        ),
        ({"source": "patterns", "subjects": ["a"]}, "a are names alone"),
        ({"source": "patterns", "subjects": [{"id": "a"}]}, "bold is empty"),
    ],
)
def test_sources_and_files_that_do_not_fit_are_refused(brain, message):
    with pytest.raises(InputError, match=message):
        check_settings({"brain": brain})
