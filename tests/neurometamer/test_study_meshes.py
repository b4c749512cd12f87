"""A study selects vertices by searchlights on the meshes that its settings name, and says before any
work when these do not fit the series.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import Patterns, read_mesh, read_patterns, select_voxels, write_patterns
from neurometamer.errors import InputError
from neurometamer.rsa import searchlight_criterion
from neurometamer.study import brain_steps, check_settings
from neurometamer.study.checks import find_problems, raise_errors
from neurometamer.study.plan import Progress, Workspace
from neurometamer.study.steps import plan_steps
from stimuli_gen import StimulusSet, write_stimuli

SIDE = 12
IDS = [f"RE{number:02d}" for number in range(8)]
SUBJECTS = ("sub-01", "sub-02")


def sheet(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Make a flat mesh of 12 × 12 vertices."""
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    points = scale * np.stack([1.4 * columns, 1.5 * rows, np.zeros(SIDE * SIDE)], axis=1)
    corners = np.flatnonzero((rows < SIDE - 1) & (columns < SIDE - 1))
    lower = np.stack([corners, corners + 1, corners + SIDE], axis=1)
    upper = np.stack([corners + 1, corners + SIDE + 1, corners + SIDE], axis=1)
    return points, np.concatenate([lower, upper])


def surface_patterns(subject: str, seed: int) -> Patterns:
    """Make responses of both hemispheres, in which a stripe responds."""
    random = np.random.default_rng(seed)
    columns = np.arange(SIDE * SIDE) % SIDE
    parts, places = [], []
    for hemisphere in "LR":
        signal = 3 * random.standard_normal((len(IDS), SIDE * SIDE)) * (columns < 4)
        noise = random.standard_normal((2 * len(IDS), SIDE * SIDE))
        parts.append(np.tile(signal, (2, 1)) + noise)
        place = {"subject": subject, "roi": "V1", "i": range(SIDE * SIDE), "j": 0, "k": 0}
        places.append(pd.DataFrame(place).assign(hemisphere=hemisphere))
    shown = {
        "condition": IDS * 2,
        "presentation": np.repeat([1, 2], len(IDS)),
        "run": np.repeat(["1", "2"], len(IDS)),
        "session": "",
    }
    grid = {"shape": [2 * SIDE * SIDE], "affine": None, "space": "fsnative"}
    return Patterns(
        values=np.concatenate(parts, axis=1),
        observations=pd.DataFrame(shown),
        voxels=pd.concat(places, ignore_index=True),
        provenance={"grid": grid | {"n_vertices": {"L": SIDE * SIDE, "R": SIDE * SIDE}}},
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    """Patterns of two subjects, their images, and a mesh of each hemisphere."""
    images = np.random.default_rng(0).random((len(IDS), 3, 8, 8), dtype=np.float32)
    table = pd.DataFrame({"id": IDS, "kind": "RE", "reference_id": IDS, "category": "x"})
    write_stimuli(StimulusSet(images=images, table=table), tmp_path / "images")
    write_stimuli(StimulusSet(images=images, table=table), tmp_path / "out" / "stimuli")
    for seed, subject in enumerate(SUBJECTS):
        patterns = surface_patterns(subject, seed)
        write_patterns(patterns, tmp_path / f"{subject}.h5")
        write_patterns(patterns, tmp_path / "out" / ".state" / "betas" / f"{subject}.h5")
        (tmp_path / subject).mkdir()
        for scale, hemisphere in enumerate(("lh", "rh"), start=1):
            points, triangles = sheet(scale)
            file = tmp_path / subject / f"{hemisphere}.midthickness"
            nibabel.freesurfer.write_geometry(file, points, triangles)
    return tmp_path


def workspace(folder: Path, **selection: object) -> Workspace:
    subjects = [{"id": name, "patterns": f"{name}.h5"} for name in SUBJECTS]
    chosen = {"criterion": "searchlight", "voxels_per_roi": 10, "radius_mm": 3.0} | selection
    values = {
        "images": {"ready": "images"},
        "brain": {"source": "patterns", "subjects": subjects},
        "selection": chosen,
    }
    return Workspace(folder=folder / "out", settings=check_settings(values), base=folder)


def test_vertices_are_selected_on_the_meshes_of_each_subject(folder):
    work = workspace(folder, meshes="{subject}/{hemi}.midthickness")
    raise_errors([problem for problem in find_problems(work) if "meshes" in str(problem)])
    brain_steps.patterns(work, Progress(None), subject="sub-02")
    chosen = read_patterns(work.path("patterns", "sub-02.h5"))
    names = {"L": "lh", "R": "rh"}
    meshes = {
        side: read_mesh(folder / "sub-02" / f"{name}.midthickness") for side, name in names.items()
    }
    direct = select_voxels(
        surface_patterns("sub-02", 1),
        conditions=IDS,
        criterion=searchlight_criterion(radius_mm=3.0, meshes=meshes),
        n_per_roi=10,
    )
    pd.testing.assert_frame_equal(chosen.voxels, direct.voxels)
    assert "3 mm disks" in chosen.provenance["selection"]["method"]
    assert chosen.voxels.groupby("hemisphere").size().tolist() == [10, 10]
    # disks on the mesh twice as large have fewer vertices: the choice on it is another
    swapped = searchlight_criterion(radius_mm=3.0, meshes={"L": meshes["R"], "R": meshes["L"]})
    other = select_voxels(
        surface_patterns("sub-02", 1), conditions=IDS, criterion=swapped, n_per_roi=10
    )
    assert not other.voxels.equals(direct.voxels)
    (step,) = (step for step in plan_steps(work) if step.name == "patterns-sub-02")
    assert sorted(path.name for path in step.reads) == ["lh.midthickness", "rh.midthickness"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", "'searchlight' on surfaces needs the mesh of each hemisphere"),
        ("{subject}/{hemi}.pial", "there is no sub-01/L.pial and no sub-01/lh.pial"),
        ("coarse/{hemi}.white", "L.white has 4 vertices, but the series of hemisphere L has 144"),
    ],
)
def test_meshes_that_do_not_fit_are_told_before_work(folder, pattern, message):
    (folder / "coarse").mkdir()
    for hemisphere in "LR":
        corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
        triangles = np.array([[0, 1, 2], [1, 3, 2]])
        nibabel.freesurfer.write_geometry(
            folder / "coarse" / f"{hemisphere}.white", corners, triangles
        )
    work = workspace(folder, meshes=pattern)
    told = [str(problem) for problem in find_problems(work) if problem.kind == "error"]
    assert any(message in text for text in told), told
    assert all("\n" not in text for text in told)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"meshes": "{hemi}.white"}, 'meshes are for criterion = "searchlight", and it is "split'),
        ({"meshes": "lh.white", "criterion": "searchlight"}, "each hemisphere has a mesh of its"),
    ],
)
def test_settings_of_meshes_are_checked(selection, message):
    with pytest.raises(InputError, match=message):
        check_settings({"selection": selection})


def test_a_volume_has_no_meshes():
    values = {"selection": {"criterion": "searchlight", "meshes": "{hemi}.white"}}
    work = Workspace(folder=Path("out"), settings=check_settings(values), base=Path())
    assert "the simulated cortex is a volume" in str(find_problems(work)[0])
