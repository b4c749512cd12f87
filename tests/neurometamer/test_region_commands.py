"""Definitions of regions on the command line and in the study file."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import read_betas, read_patterns
from neurometamer.errors import InputError
from neurometamer.study.settings import StudySettings

EVENTS = pd.DataFrame(
    {"onset": [6.0, 26.0, 66.0, 86.0], "duration": 2.0, "trial_type": ["a", "b", "a", "c"]}
)


@pytest.fixture
def files(tmp_path):
    """Write one run as a volume and as two hemispheres, with labels for both."""
    rng = np.random.default_rng(0)
    values = (1000 + 10 * rng.normal(size=(6, 5, 4, 60))).astype(np.float32)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((2, 2, 2, 2.0))
    nibabel.save(image, tmp_path / "sub-01_run-1_bold.nii.gz")
    labels = np.zeros((6, 5, 4), dtype=np.int16)
    labels[1], labels[2], labels[4] = 1, 2, 200
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), tmp_path / "dseg.nii.gz")
    (tmp_path / "dseg.tsv").write_text("index\tname\n1\tLO1\n2\tLO2\n200\tV1\n")
    for side, columns in (("lh", slice(0, 60)), ("rh", slice(60, 120))):
        part = values.reshape(120, 60)[columns]
        surface = nibabel.MGHImage(np.ascontiguousarray(part[:, None, None]), np.eye(4))
        surface.header.set_zooms((1, 1, 1, 2000.0))
        nibabel.save(surface, tmp_path / f"{side}.bold.mgz")
        marked = (labels.reshape(120)[columns] > 0).astype(np.float32)
        nibabel.save(
            nibabel.MGHImage(marked[:, None, None], np.eye(4)), tmp_path / f"{side}.rois.mgz"
        )
    EVENTS.to_csv(tmp_path / "sub-01_run-1_events.tsv", sep="\t", index=False)
    return tmp_path


def test_patterns_take_expressions_and_surfaces(files, invoke):
    events = str(files / "sub-01_run-1_events.tsv")
    dseg = files / "dseg.nii.gz"
    words = ["fmri", "patterns", "--out", str(files / "out.h5"), "--events", events]
    words += ["--bold", str(files / "sub-01_run-1_bold.nii.gz"), "--masks"]
    done = invoke(
        [*words, f"all={dseg}:LO1 + {dseg}:LO2 + {dseg}:200", f"V1={dseg}:V1", "--only", "all"]
    )
    assert done.exit_code == 0, done.output
    volume = read_patterns(files / "out.h5")
    assert volume.rois == ("all",) and volume.values.shape == (4, 60)
    words = ["fmri", "patterns", "--out", str(files / "surface.h5"), "--events", events, "--bold"]
    words += [str(files / "lh.bold.mgz"), "--masks"]
    done = invoke([*words, f"all={files}/lh.rois.mgz + {files}/rh.rois.mgz"])
    assert done.exit_code == 0, done.output
    surface = read_patterns(files / "surface.h5")
    np.testing.assert_array_equal(surface.values, volume.values)
    assert surface.voxels["hemisphere"].value_counts().to_dict() == {"L": 40, "R": 20}
    betas = ["fmri", "betas", "--out", str(files / "betas"), *words[4:]]
    done = invoke([*betas, f"all={files}/lh.rois.mgz + {files}/rh.rois.mgz"])
    assert done.exit_code == 0, done.output
    written = read_betas(files / "betas", {"all": f"{files}/lh.rois.mgz + {files}/rh.rois.mgz"})
    np.testing.assert_array_equal(written.values, surface.values.astype(np.float32))
    done = invoke([*words, f"all={files}/lh.rois.mgz + + {files}/rh.rois.mgz"])
    assert done.exit_code == 2
    assert "a region is expected here" in str(done.exception or done.output)


def test_the_space_of_unnamed_images_is_said_on_the_command_line(files, invoke):
    words = ["fmri", "patterns", "--out", str(files / "out.h5")]
    words += ["--bold", str(files / "sub-01_run-1_bold.nii.gz")]
    words += [
        "--events",
        str(files / "sub-01_run-1_events.tsv"),
        "--masks",
        "V1=sphere(4, 4, 4, 3)",
    ]
    refused = invoke(words)
    assert "say that they are: --space MNI152NLin2009cAsym" in str(refused.exception)
    done = invoke([*words, "--space", "MNI152NLin2009cAsym"])
    assert done.exit_code == 0, done.output
    assert read_patterns(files / "out.h5").values.shape == (4, 19)  # within 3 mm, at 2 mm


def test_regions_of_all_subjects_join_their_own(tmp_path):
    subject = {"bold": ["b.nii"], "events": ["e.tsv"]}
    brain = {
        "source": "bold",
        "rois": {"LO": "LO1 + LO2", "V1": "{subject}/V1.nii.gz"},
        "subjects": [
            {**subject, "id": "s1", "masks": {"LO1": "a.nii:1", "LO2": "a.nii:2"}},
            {**subject, "id": "s2", "masks": {"LO": "lo.nii"}},
        ],
    }
    first, second = StudySettings.model_validate({"brain": brain}).brain.subjects
    assert first.masks == {
        "LO1": "a.nii:1",
        "LO2": "a.nii:2",
        "LO": "LO1 + LO2",
        "V1": "s1/V1.nii.gz",
    }
    assert second.masks == {"LO": "lo.nii", "V1": "s2/V1.nii.gz"}
    plain = {**brain, "rois": {}}
    again = StudySettings.model_validate({"brain": plain})
    assert "rois" not in again.numbers()["brain"]
    with pytest.raises(
        ValueError, match=r"masks is empty; give at least one ROI = mask file, here"
    ):
        StudySettings.model_validate({"brain": {**plain, "subjects": [{**subject, "id": "s3"}]}})


def test_a_study_reads_definitions_relative_to_its_file(files):
    from neurometamer.study.brain_steps import open_runs, subject_regions
    from neurometamer.study.plan import Workspace
    from neurometamer.study.steps import _subject_files

    subject = {
        "id": "sub-01",
        "bold": ["sub-01_run-1_bold.nii.gz"],
        "events": ["sub-01_run-1_events.tsv"],
        "masks": {"LO1": "dseg.nii.gz:LO1", "LO": "LO1 + dseg.nii.gz:LO2"},
    }
    brain = {"source": "bold", "subjects": [subject]}
    work = Workspace(
        folder=files / "out",
        settings=StudySettings.model_validate({"brain": brain}),
        base=files,
    )
    (run,) = open_runs(work, "sub-01")
    with pytest.warns(UserWarning, match="share 20 voxels"):
        regions = subject_regions(work, work.settings.brain.subjects[0], run.grid)
    assert {name: int(mask.sum()) for name, mask in regions.masks.items()} == {"LO1": 20, "LO": 40}
    # noise regressors come from the regions that are left out, too
    only = ["LO1"]
    rest = subject_regions(work, work.settings.brain.subjects[0], run.grid, only, with_pool=True)
    assert list(rest.masks) == only and int(rest.pool.sum()) == 40
    names = [path.name for path in _subject_files(work, "sub-01")]
    assert names.count("dseg.nii.gz") == 1 and "dseg.tsv" in names
    (files / "dseg.tsv").unlink()
    with pytest.raises(InputError, match=r"ROI 'LO1': 'LO1' is no number, and nothing names the"):
        subject_regions(work, work.settings.brain.subjects[0], run.grid)
