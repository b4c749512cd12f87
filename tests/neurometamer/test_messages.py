"""What a person reads while commands and studies run: notes, counts and messages."""

from __future__ import annotations

import subprocess
import sys
import warnings

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmri import Patterns, write_patterns
from fmri.rois.algebra import parse_region
from fmri.volumes import open_nifti
from neurometamer.cli.console import open_reporter
from neurometamer.commands import rdm
from neurometamer.errors import InputError
from neurometamer.rsa.compute import read_rdms
from neurometamer.study import StudySettings, check_settings
from neurometamer.study.words import in_words_of_settings, setting_names


def test_odd_headers_are_one_note_and_nothing_else(tmp_path, capfd):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), dtype=np.float32), np.eye(4))
    nibabel.save(image, tmp_path / "odd.nii")
    contents = bytearray((tmp_path / "odd.nii").read_bytes())
    contents[80:92] = bytes(12)  # pixdim[1] to pixdim[3]
    (tmp_path / "odd.nii").write_bytes(contents)
    with pytest.warns(UserWarning, match=r"odd\.nii: odd header: pixdim\[1,2,3\]") as noted:
        open_nifti(tmp_path / "odd.nii")
    assert len(noted) == 1
    contents[0:4] = bytes(4)  # sizeof_hdr: the error alone is told
    (tmp_path / "odd.nii").write_bytes(contents)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="not a readable NIfTI image"):
            open_nifti(tmp_path / "odd.nii")
    assert capfd.readouterr().err == ""


def test_a_note_is_written_once_a_command(tmp_path):
    values = 1000 + np.random.default_rng(0).normal(size=(3, 4, 2, 60))
    image = nibabel.Nifti1Image(values.astype(np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1, 1, 1, 2))
    nibabel.save(image, tmp_path / "odd.nii")
    contents = bytearray((tmp_path / "odd.nii").read_bytes())
    contents[80:92] = bytes(12)
    (tmp_path / "odd.nii").write_bytes(contents)
    mask = np.ones((3, 4, 2), dtype=np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "mask.nii")
    rows = [f"{20 * number + 6}\t2\t{name}\n" for number, name in enumerate("abcab")]
    (tmp_path / "e.tsv").write_text("onset\tduration\ttrial_type\n" + "".join(rows))
    line = "fmri patterns --bold odd.nii --events e.tsv --masks V1=mask.nii --out p.h5"
    command = [sys.executable, "-m", "neurometamer.cli", *line.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("pixdim") == done.stderr.count("note: odd.nii: odd header") == 1


def test_an_interrupted_study_counts_its_steps(capsys):
    with pytest.raises(SystemExit), open_reporter() as reporter:
        for number in (1, 2, 3):
            reporter.start(number, 3, f"step {number}")
            if number < 3:
                reporter.finish(0.1, kept=False)
        raise KeyboardInterrupt
    assert "interrupted: 2 of 3 steps are finished; what is" in capsys.readouterr().err


@pytest.mark.parametrize(("kinds", "words"), [("RE", "not defined, as no run"), ("mixed", " to ")])
def test_a_design_of_one_image_type_has_no_efficiency(tmp_path, invoke, kinds, words):
    images = pd.DataFrame({"id": ["a", "b", "c", "d"], "kind": ["RE", "RE", "AN", "AN"]})
    if kinds == "RE":
        images["kind"] = "RE"
    images.to_csv(tmp_path / "stimuli.csv", index=False)
    out = str(tmp_path / "out")
    table = str(tmp_path / "stimuli.csv")
    done = invoke(["fmri", "design", table, "--preset", "slow", "--n-runs", "2", "--out", out])
    assert not done.exception, done.exception
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("efficiency")]
    assert words in line and "nan" not in line


def test_a_long_expression_is_not_repeated_whole():
    with pytest.raises(InputError, match=r"… *:? at .*more than 400 names") as error:
        parse_region(" + ".join(["V1"] * 3000))
    assert len(str(error.value)) < 400


def test_regions_of_photographs_are_compared_by_their_folder(tmp_path):
    names = ["cat", "cup", "dog", "hat"]
    (tmp_path / "photos").mkdir()
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{name}.png")
    observations = pd.DataFrame({"condition": names, "presentation": 1, "run": "1", "session": ""})
    voxels = pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(6), "j": 0, "k": 0})
    values = np.random.default_rng(0).normal(size=(4, 6))
    patterns = Patterns(values=values, observations=observations, voxels=voxels)
    file = write_patterns(patterns, tmp_path / "S1.h5")
    rdm(tmp_path / "r.h5", patterns=[file], images=[tmp_path / "photos"])
    described = read_rdms(tmp_path / "r.h5").pattern_descriptors
    assert list(described["condition"]) == list(described["reference_id"]) == names
    assert set(described["kind"]) == {"RE"}


@pytest.mark.parametrize(
    ("source", "message", "wanted"),
    [
        (
            "bids",
            'fewer confounds (columns, --columns), t_r (--t-r), units="raw" (--units raw)',
            'fewer confounds ([glm] confounds), [brain] t_r, [glm] units = "raw"',
        ),
        (
            "bold",
            'affine="sform" (--affine sform) or "qform" (--affine); ids: condition_column '
            "(--condition-column)",
            '[[brain.subjects]] affine = "sform" or "qform" ([[brain.subjects]] affine); ids: '
            "[[brain.subjects]] condition_column",
        ),
        ("bids", "name it: condition_column (--condition-column)", "name it: [brain] id_column"),
        ("bold", "max_memory (--max-memory) is 1MB, but", "[glm] max_memory is 1MB, but"),
        ("bold", "of a_units=raw.nii, --seed", "of a_units=raw.nii, --seed"),
        (
            "none",
            "interval 'projection' is not defined for comparator='tau-b'; give interval='stimuli'.",
            "interval 'projection' is not defined for [rsa] comparator = \"tau-b\"; give [rsa] "
            'interval = "stimuli".',
        ),
        (
            "bids",
            "or allow it: allow_chosen=True (--allow-chosen).",
            "or allow it: [rsa] allow_chosen = true.",
        ),
        ("none", "n_resamples (--n-resamples) must be 0", "[rsa] n_resamples must be 0"),
        ("bold", "n_noise=0 (--n-noise 0), --noise-model", "[glm] n_noise = 0, [glm] noise_model"),
    ],
)
def test_messages_of_a_study_name_its_settings(source, message, wanted):
    settings = StudySettings()
    settings = settings.model_copy(
        update={"brain": settings.brain.model_copy(update={"source": source})}
    )
    assert in_words_of_settings(message, setting_names(settings)) == wanted


def test_wrong_settings_are_told_without_options():
    with pytest.raises(
        InputError, match=r"^settings: glm.n_noise: n_noise is 'many'; give a whole"
    ):
        check_settings({"glm": {"n_noise": "many"}})
