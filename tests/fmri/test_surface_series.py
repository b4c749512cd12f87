"""Runs on surfaces and in CIFTI: the same patterns as the volume that holds the same time courses."""

from __future__ import annotations

import json
import shutil
import warnings

import nibabel
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmri import (
    SingleTrialOptions,
    estimate_betas,
    estimate_contrast,
    join_regions,
    read_betas,
    read_bids_betas,
    read_patterns,
    read_published,
    read_regions,
    read_run,
    read_runs,
    read_surface_patterns,
    write_betas,
    write_bids_betas,
    write_bids_contrast,
    write_contrast,
    write_patterns,
)
from fmri.cifti import read_cifti_series
from fmri.series import SERIES_READERS, SeriesReader, check_files, open_series, read_places
from neurometamer.commands import fmri_betas, fmri_patterns
from neurometamer.errors import InputError

N_LEFT, N_RIGHT, N_VOXELS, N_VOLUMES, T_R = 30, 40, 6, 60, 2.0
EVENTS = pd.DataFrame(
    {
        "onset": [6.0, 26.0, 46.0, 66.0, 86.0],
        "duration": 2.0,
        "trial_type": ["a", "b", "blank", "a", "c"],
    }
)
COLLECTED = np.r_[0:24, 30:64]
"""Places of all vertices that the CIFTI file has: without a medial wall on each side."""


@pytest.fixture(scope="module")
def series():
    """Make the time courses of all vertices, then of the voxels below the cortex."""
    rng = np.random.default_rng(7)
    values = 1000 + 10 * rng.normal(size=(N_VOLUMES, N_LEFT + N_RIGHT + N_VOXELS))
    return values.astype(np.float32)


def as_gifti(path, values, two_dimensional=False):
    arrays = [
        nibabel.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES") for row in values
    ]
    if two_dimensional:
        whole = np.ascontiguousarray(values.T)
        arrays = [nibabel.gifti.GiftiDataArray(whole, intent="NIFTI_INTENT_TIME_SERIES")]
    nibabel.save(nibabel.GiftiImage(darrays=arrays), path)
    path.with_name(path.name.replace(".func.gii", ".json")).write_text(
        json.dumps({"RepetitionTime": T_R})
    )
    return path


def as_mgh(path, values):
    image = nibabel.MGHImage(np.ascontiguousarray(values.T)[:, None, None, :], np.eye(4))
    image.header.set_zooms((1, 1, 1, T_R * 1000))
    nibabel.save(image, path)
    return path


def brain_models():
    axis = nibabel.cifti2.BrainModelAxis
    left = axis.from_surface(np.arange(24), N_LEFT, name="CORTEX_LEFT")
    right = axis.from_surface(np.arange(34), N_RIGHT, name="CORTEX_RIGHT")
    mask = np.zeros((3, 4, 2), dtype=bool)
    mask[:, 1, 1] = mask[:, 2, 1] = True
    below = axis.from_mask(mask, name="THALAMUS_LEFT", affine=np.diag([2.0, 2, 2, 1]))
    return left + right + below


def as_cifti(path, values, rows=None):
    if rows is None:
        rows = nibabel.cifti2.SeriesAxis(0, T_R, len(values))
    nibabel.save(nibabel.Cifti2Image(values.astype(np.float32), (rows, brain_models())), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, series):
    """Write one run as a volume, as surfaces in three ways, and as CIFTI."""
    folder = tmp_path_factory.mktemp("runs")
    image = nibabel.Nifti1Image(series.T[:, None, None, :], np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1, 1, 1, T_R))
    nibabel.save(image, folder / "sub-01_run-1_bold.nii.gz")
    name = "sub-01_run-1_hemi-{}_space-fsaverage5_bold"
    hemispheres = {"L": slice(0, N_LEFT), "R": slice(N_LEFT, N_LEFT + N_RIGHT)}
    for side, places in hemispheres.items():
        as_gifti(folder / f"{name.format(side)}.func.gii", series[:, places])
        as_gifti(folder / f"flat_hemi-{side}.func.gii", series[:, places], two_dimensional=True)
        start = {"L": "lh", "R": "rh"}[side]
        as_mgh(folder / f"{start}.bold.mgz", series[:, places])
        as_mgh(folder / f"{start}.bold.mgh", series[:, places])
    places = np.r_[COLLECTED, N_LEFT + N_RIGHT : N_LEFT + N_RIGHT + N_VOXELS]
    as_cifti(folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii", series[:, places])
    rows = nibabel.cifti2.ScalarAxis([f"volume {number}" for number in range(N_VOLUMES)])
    as_cifti(folder / "sub-01_run-1_bold.dscalar.nii", series[:, places], rows)
    return folder


def vertex_mask(n_places=N_LEFT + N_RIGHT):
    mask = np.zeros(n_places, dtype=bool)
    mask[[3, 4, 9, 31, 35, 50]] = True
    return mask


@pytest.fixture(scope="module")
def volume_patterns(folder):
    run = read_run(folder / "sub-01_run-1_bold.nii.gz", EVENTS)
    mask = vertex_mask(N_LEFT + N_RIGHT + N_VOXELS).reshape(-1, 1, 1)
    return estimate_betas([run], {"V1": mask})


@pytest.mark.parametrize(
    ("name", "t_r"),
    [
        ("sub-01_run-1_hemi-L_space-fsaverage5_bold.func.gii", None),
        ("sub-01_run-1_hemi-R_space-fsaverage5_bold.func.gii", None),
        ("flat_hemi-L.func.gii", T_R),
        ("lh.bold.mgz", None),
        ("lh.bold.mgh", None),
    ],
)
def test_surfaces_give_the_betas_of_the_volume(folder, volume_patterns, name, t_r):
    run = read_run(folder / name, EVENTS, t_r=t_r)
    assert run.t_r == T_R and run.n_volumes == N_VOLUMES and len(run.images) == 2
    patterns = estimate_betas([run], {"V1": vertex_mask()})
    np.testing.assert_array_equal(patterns.values, volume_patterns.values)
    assert patterns.voxels["hemisphere"].tolist() == list("LLLRRR")
    assert patterns.voxels["i"].tolist() == [3, 4, 9, 1, 5, 20]
    assert patterns.provenance["grid"]["n_vertices"] == {"L": N_LEFT, "R": N_RIGHT}


@pytest.mark.parametrize(
    "name", ["sub-01_run-1_space-fsLR_bold.dtseries.nii", "sub-01_run-1_bold.dscalar.nii"]
)
def test_cifti_gives_the_betas_of_the_volume(folder, volume_patterns, name):
    run = read_run(folder / name, EVENTS, t_r=T_R if "dscalar" in name else None)
    assert run.t_r == T_R and run.grid.shape == (64,)
    every_place = np.isin(COLLECTED, np.flatnonzero(vertex_mask()))
    mask = np.r_[every_place, np.zeros(N_VOXELS, dtype=bool)]
    patterns = estimate_betas([run], {"V1": mask})
    np.testing.assert_array_equal(patterns.values, volume_patterns.values)
    assert patterns.voxels["hemisphere"].tolist() == list("LLLRRR")
    assert patterns.voxels["i"].tolist() == [3, 4, 9, 1, 5, 20]
    below = np.r_[np.zeros(58, dtype=bool), np.ones(N_VOXELS, dtype=bool)]
    voxels = estimate_betas([run], {"LGN": below}).voxels
    assert voxels[["i", "j", "k"]].to_numpy().tolist() == brain_models().voxel[58:].tolist()
    assert set(voxels["hemisphere"]) == {""}


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory):
    """Write three runs as volumes and as surfaces, with responses in half of the vertices."""
    folder = tmp_path_factory.mktemp("three")
    rng = np.random.default_rng(3)
    trial = rng.normal(size=(1, N_LEFT + N_RIGHT))
    trial[:, ::2] = 0
    volumes, surfaces = [], []
    for number in (1, 2, 3):
        values = 1000 + 10 * rng.normal(size=(N_VOLUMES, N_LEFT + N_RIGHT))
        for onset in EVENTS["onset"]:
            first = int(onset / T_R) + 2
            values[first : first + 3] += 40 * trial
        values = values.astype(np.float32)
        image = nibabel.Nifti1Image(values.T[:, None, None, :], np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((1, 1, 1, T_R))
        volumes.append(folder / f"sub-01_run-{number}_bold.nii.gz")
        nibabel.save(image, volumes[-1])
        as_mgh(folder / f"lh.sub-01_run-{number}_bold.mgz", values[:, :N_LEFT])
        as_mgh(folder / f"rh.sub-01_run-{number}_bold.mgz", values[:, N_LEFT:])
        surfaces.append(folder / f"lh.sub-01_run-{number}_bold.mgz")
    events = [EVENTS] * 3
    return read_runs(volumes, events), read_runs(surfaces, events)


@pytest.mark.parametrize(
    "options",
    [
        SingleTrialOptions(hrf="library", n_noise=1, shrinkage="auto"),
        SingleTrialOptions(per="condition", hrf="fir", n_delays=3),
    ],
)
def test_options_of_single_trials_give_surfaces_the_betas_of_the_volume(three_runs, options):
    volumes, surfaces = three_runs
    n_places = N_LEFT + N_RIGHT
    chosen = {"single_trials": options, "noise_model": "ols"}
    expected = estimate_betas(volumes, {"V1": np.ones((n_places, 1, 1), dtype=bool)}, **chosen)
    patterns = estimate_betas(surfaces, {"V1": np.ones(n_places, dtype=bool)}, **chosen)
    np.testing.assert_array_equal(patterns.values, expected.values)
    assert patterns.voxels["hemisphere"].tolist() == ["L"] * N_LEFT + ["R"] * N_RIGHT
    record = patterns.provenance["single_trials"]
    assert record == expected.provenance["single_trials"]
    assert record["options"]["hrf"] == options.hrf


def test_patterns_of_surfaces_are_kept_on_disk_and_betas_as_surfaces(folder, tmp_path):
    run = read_run(folder / "lh.bold.mgz", EVENTS)
    patterns = estimate_betas([run], {"V1": vertex_mask()})
    file = write_patterns(patterns, tmp_path / "patterns.h5")
    assert read_patterns(file).digest == patterns.digest
    written = write_betas(patterns, tmp_path / "betas")
    for side, length in (("L", N_LEFT), ("R", N_RIGHT)):
        of_side = nibabel.load(written / f"betas_hemi-{side}.func.gii")
        own = patterns.voxels["hemisphere"] == side
        maps = np.array(of_side.agg_data())
        assert maps.shape == (len(patterns), length)
        vertices = patterns.voxels["i"][own]
        np.testing.assert_array_equal(maps[:, vertices], patterns.values[:, own].astype("f4"))
        assert np.isnan(np.delete(maps, vertices, axis=1)).all()


def test_one_region_of_both_hemispheres_and_each_alone(folder, tmp_path):
    """Labels of both sides make one region, whose halves are those of each side alone."""
    for start, vertices in (("lh", [3, 4, 9]), ("rh", [1, 5, 20])):
        lines = [f"{vertex} 0 0 0 1.0" for vertex in vertices]
        text = "\n".join(["#!ascii label", "3", *lines])
        (tmp_path / f"{start}.V1.label").write_text(text + "\n")
    run = read_run(folder / "lh.bold.mgz", EVENTS)
    labels = {"lh": tmp_path / "lh.V1.label", "rh": tmp_path / "rh.V1.label"}
    both = estimate_betas([run], {"V1": f"{labels['lh']} + {labels['rh']}"})
    sides = []
    for start, label in labels.items():
        alone = read_run(folder / f"{start}.bold.mgz", EVENTS, hemispheres="one")
        assert len(alone.images) == 1
        sides.append(estimate_betas([alone], {"V1": label}))
    joined = join_regions(sides)
    # voxels are fitted together, and sums of other columns are rounded otherwise
    np.testing.assert_allclose(joined.values, both.values, rtol=1e-9)
    pd.testing.assert_frame_equal(joined.voxels, both.voxels)


def test_means_over_labels_are_those_of_nilearn(folder, series, tmp_path):
    from nilearn.maskers import SurfaceLabelsMasker
    from nilearn.surface import PolyMesh, SurfaceImage

    rng = np.random.default_rng(8)
    keys = {
        "left": rng.choice([0, 1, 7, 130], N_LEFT),
        "right": rng.choice([0, 1, 7, 130], N_RIGHT),
    }
    meshes = {}
    for part, labels in keys.items():
        points = rng.normal(size=(len(labels), 3)).astype(np.float32)
        triangles = np.stack([np.arange(len(labels) - 2) + shift for shift in range(3)], axis=1)
        from nilearn.surface import InMemoryMesh

        meshes[part] = InMemoryMesh(coordinates=points, faces=triangles)
        table = nibabel.gifti.GiftiLabelTable()
        for key in (0, 1, 7, 130):
            entry = nibabel.gifti.GiftiLabel(key=key)
            entry.label = f"area {key}"
            table.labels.append(entry)
        array = nibabel.gifti.GiftiDataArray(labels.astype(np.int32), intent="NIFTI_INTENT_LABEL")
        image = nibabel.GiftiImage(darrays=[array], labeltable=table)
        nibabel.save(image, tmp_path / f"hemi-{part[0].upper()}_dseg.label.gii")
    mesh = PolyMesh(**meshes)
    parts = {"left": series[:, :N_LEFT].T, "right": series[:, N_LEFT : N_LEFT + N_RIGHT].T}
    data = SurfaceImage(mesh, {part: values.astype(np.float64) for part, values in parts.items()})
    labels_image = SurfaceImage(
        mesh, {part: labels.astype(np.int32) for part, labels in keys.items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masker = SurfaceLabelsMasker(labels_image, standardize=None).fit()
        means = masker.transform(data)
    run = read_run(folder / "lh.bold.mgz", EVENTS)
    definitions = {}
    for key in (1, 7, 130):
        sides = [f'"{tmp_path / f"hemi-{side}_dseg.label.gii"}:area {key}"' for side in "LR"]
        definitions[f"area {key}"] = " + ".join(sides)
    regions = read_regions(definitions, run.images)
    ours = [read_places(run.images, mask).mean(axis=1) for mask in regions.masks.values()]
    # older nilearn gives the labels in another order
    in_order = [np.array(values)[:, np.argsort(values[0])] for values in (np.array(ours).T, means)]
    np.testing.assert_allclose(*in_order, rtol=1e-10)  # sums in another order


def test_parcels_of_cifti_fit_cifti_and_surfaces(folder, tmp_path):
    rng = np.random.default_rng(9)
    keys = rng.integers(0, 3, 64)
    table = {0: ("???", (0, 0, 0, 0)), 1: ("L_V1_ROI", (1, 0, 0, 1)), 2: ("LO", (0, 1, 0, 1))}
    rows = nibabel.cifti2.LabelAxis(["areas"], [table])
    as_cifti(tmp_path / "atlas.dlabel.nii", keys[None], rows)
    scores = nibabel.cifti2.ScalarAxis(["faces", "houses"])
    values = rng.normal(size=(2, 64))
    as_cifti(tmp_path / "maps.dscalar.nii", values, scores)
    cifti = read_run(folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii", EVENTS)
    definitions = {
        "LO": "atlas.dlabel.nii:LO",
        "houses": "(maps.dscalar.nii:houses > 0.1) - (maps.dscalar.nii:faces > 0.1)",
    }
    with pytest.warns(UserWarning, match=r"share"):
        regions = read_regions(definitions, cifti.grid, folder=tmp_path)
    np.testing.assert_array_equal(regions.masks["LO"], keys == 2)
    houses = (values[1] > 0.1) & ~(values[0] > 0.1)
    np.testing.assert_array_equal(regions.masks["houses"], houses)
    surface = read_run(folder / "lh.bold.mgz", EVENTS)
    lost = int(np.sum(keys[58:] == 2))
    with pytest.warns(UserWarning, match=rf"{lost} voxels or vertices of its files are not there"):
        on_surface = read_regions({"LO": "atlas.dlabel.nii:LO"}, surface.grid, folder=tmp_path)
    expected = np.zeros(N_LEFT + N_RIGHT, dtype=bool)
    expected[COLLECTED[keys[:58] == 2]] = True
    np.testing.assert_array_equal(on_surface.masks["LO"], expected)
    with pytest.raises(
        InputError, match=r"unknown label of atlas.dlabel.nii 'V1'. Known: L_V1_ROI, LO"
    ):
        read_regions({"V1": "atlas.dlabel.nii:V1"}, cifti.grid, folder=tmp_path)
    with pytest.raises(
        InputError, match=r"maps.dscalar.nii holds 2 maps; name one, .*faces, houses"
    ):
        read_regions({"V1": "maps.dscalar.nii > 1"}, cifti.grid, folder=tmp_path)


def test_lists_of_runs_take_both_hemispheres_as_one_run(folder, tmp_path, series):
    files = []
    for run in "12":
        for side, places in (("L", slice(0, 30)), ("R", slice(30, 70))):
            path = tmp_path / f"sub-01_run-{run}_hemi-{side}_bold.func.gii"
            files.append(as_gifti(path, series[:, places] + int(run)))
    runs = read_runs(files, [EVENTS, EVENTS])
    assert [run.run for run in runs] == ["1", "2"]
    assert [len(run.images) for run in runs] == [2, 2]
    with pytest.raises(InputError, match=r"2 BOLD image\(s\) but 4 events"):
        read_runs(files, [EVENTS] * 4)
    with pytest.raises(
        InputError, match=r"has 30 vertices in the left hemisphere but .* has 24|other pl"
    ):
        other = tmp_path / "sub-01_run-3_bold.dtseries.nii"
        other.write_bytes((folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii").read_bytes())
        read_runs([*files[:2], other], [EVENTS, EVENTS], t_r=T_R)


def test_bad_series_are_told_in_one_line(folder, tmp_path, series):
    whole = folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii"
    cut = tmp_path / "cut.dtseries.nii"
    cut.write_bytes(whole.read_bytes()[:-2000])
    left = as_gifti(tmp_path / "run-1_hemi-L_bold.func.gii", series[:, :30])
    short = as_gifti(tmp_path / "run-2_hemi-L_bold.func.gii", series[:, :30])
    as_gifti(tmp_path / "run-2_hemi-R_bold.func.gii", series[:50, 30:70])
    single = as_gifti(tmp_path / "one_hemi-L_bold.func.gii", series[:1, :30])
    nameless = as_gifti(tmp_path / "bold.func.gii", series[:, :30])
    (tmp_path / "bare").mkdir()
    no_time = as_gifti(tmp_path / "bare" / "run-3_hemi-L_bold.func.gii", series[:, :30])
    no_time.with_name("run-3_hemi-L_bold.json").unlink()
    parcels = tmp_path / "p.dtseries.nii"
    axis = nibabel.cifti2.ParcelsAxis.from_brain_models([("a", brain_models()[:5])])
    rows = nibabel.cifti2.SeriesAxis(0, T_R, 3)
    nibabel.save(nibabel.Cifti2Image(np.zeros((3, 1), dtype=np.float32), (rows, axis)), parcels)
    for image, message in [
        (left, r"is of the left hemisphere, and the file of the right one \(run-1_hemi-R_bold"),
        (short, "has n_volumes 60 but run-2_hemi-R_bold.func.gii has 50; give the two hemispheres"),
        ((left, short), "are not the left and the right hemisphere of one run"),
        (nameless, "does not say its hemisphere; rename it with hemi-L or hemi-R"),
        (tmp_path / "gone_hemi-L.func.gii", "does not exist"),
        (parcels, "has no vertices and voxels in its columns"),
        (folder / "lh.bold.mgz", None),
    ]:
        if message is None:
            read_run(image, EVENTS)
            continue
        with pytest.raises(InputError, match=message) as caught:
            read_run(image, EVENTS)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"has 1 volume\(s\); a run needs at least 2"):
        read_run(single, EVENTS, hemispheres="one")
    with pytest.raises(
        InputError, match=r"neither the header nor a JSON sidecar gives a repetition"
    ):
        read_run(no_time, EVENTS, hemispheres="one")
    with pytest.raises(InputError, match=r"unknown hemispheres 'left'"):
        read_run(left, EVENTS, hemispheres="left")
    with pytest.raises(InputError, match=r"cut.dtseries.nii (promises|is cut off)"):
        run = read_run(cut, EVENTS)
        estimate_betas([run], {"V1": np.ones(64, dtype=bool)})
    run = read_run(folder / "lh.bold.mgz", EVENTS)
    with pytest.raises(
        InputError, match=r"'V1' has a mask of shape \(64,\) but the images have \(70,\)"
    ):
        estimate_betas([run], {"V1": np.ones(64, dtype=bool)})


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("sub-01_run-1_space-fsLR_bold.dtseries.nii", [*COLLECTED, *range(70, 76)]),
        ("sub-01_run-1_hemi-L_space-fsaverage5_bold.func.gii", range(70)),
        ("lh.bold.mgz", range(70)),
    ],
)
def test_contrasts_of_surfaces_and_cifti_are_those_of_the_volume(folder, tmp_path, name, places):
    places = list(places)
    volume = read_run(folder / "sub-01_run-1_bold.nii.gz", EVENTS)
    of_volume = estimate_contrast([volume], "a - b", noise_model="ols")
    run = read_run(folder / name, EVENTS)
    maps = estimate_contrast([run], "a - b", noise_model="ols")
    for statistic in ("effect", "t", "z"):
        expected = getattr(of_volume, statistic)[places]
        np.testing.assert_allclose(getattr(maps, statistic), expected, rtol=1e-6)
    written = write_contrast(maps, tmp_path / "a")
    assert {file.name for file in written.iterdir()} >= {"effect.dscalar.nii", "z.dscalar.nii"}
    regions = read_regions({"high": "a/z.dscalar.nii > 0.5"}, run.grid, folder=tmp_path)
    np.testing.assert_array_equal(regions.masks["high"], maps.z.astype(np.float32) > 0.5)
    # in some places only, as within a mask
    inside = np.arange(len(places)) % 3 == 0
    part = estimate_contrast([run], "a - b", mask=inside, noise_model="ols")
    np.testing.assert_allclose(part.z, maps.z[inside], rtol=1e-12)  # rounding of BLAS
    files = write_bids_contrast(part, tmp_path / "bids", subject="01", task="loc")
    assert files[2].name == "sub-01_task-loc_contrast-aVsB_stat-z_statmap.dscalar.nii"
    assert files[2].with_name(files[2].name.replace(".dscalar.nii", ".json")).is_file()
    held = nibabel.load(files[2]).get_fdata()[0]
    np.testing.assert_array_equal(np.isfinite(held), inside)


def test_the_command_estimates_a_contrast_of_cifti(folder, tmp_path):
    series = folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii"
    EVENTS.to_csv(tmp_path / "events.tsv", sep="\t", index=False)
    models = len(brain_models())
    ones = nibabel.cifti2.ScalarAxis(["mask"])
    as_cifti(tmp_path / "mask.dscalar.nii", np.ones((1, models)), ones)
    fmri_betas(
        {"all": f"{tmp_path / 'mask.dscalar.nii'} > 0.5"},
        out=tmp_path / "out",
        bold=[series],
        events=[tmp_path / "events.tsv"],
        contrast="a - b",
        noise_model="ols",
    )
    run = read_run(series, EVENTS)
    maps = estimate_contrast([run], "a - b", noise_model="ols")
    held = nibabel.load(tmp_path / "out" / "t.dscalar.nii").get_fdata()[0]
    np.testing.assert_array_equal(held, maps.t.astype(np.float32))


@pytest.mark.parametrize("ending", [".dtseries.nii", ".dscalar.nii", ".dlabel.nii"])
def test_cifti_files_that_are_cut_off_are_told_wherever_they_end(series, tmp_path, ending):
    file = tmp_path / f"cut{ending}"
    values = series[:, : len(brain_models())]
    rows = {
        ".dscalar.nii": nibabel.cifti2.ScalarAxis([f"map {row}" for row in range(N_VOLUMES)]),
        ".dlabel.nii": nibabel.cifti2.LabelAxis(
            [f"map {row}" for row in range(N_VOLUMES)],
            [{0: ("???", (0, 0, 0, 0)), 1: ("LO", (1, 0, 0, 1))}] * N_VOLUMES,
        ),
    }
    as_cifti(file, np.round(values) % 2, rows.get(ending))
    contents = file.read_bytes()
    mask = np.ones(len(brain_models()), dtype=bool)
    assert read_cifti_series(file, mask).shape == (N_VOLUMES, len(mask))
    # in the header, in its XML, in the first and in the last value
    for kept in (0, 100, 600, len(contents) - values.nbytes + 3, len(contents) - 1):
        file.write_bytes(contents[:kept])
        with pytest.raises(InputError, match=f"cut{ending}") as caught:
            read_cifti_series(file, mask)
        assert "\n" not in str(caught.value)
        if ending == ".dlabel.nii":  # of regions, no series
            continue
        with pytest.raises(InputError, match=f"cut{ending}"):
            check_files([file])
        with pytest.raises(InputError, match=f"cut{ending}"):
            read_runs([file], [EVENTS], t_r=T_R)
    if ending != ".dlabel.nii":
        with pytest.raises(InputError, match=r"is cut off: its header says .* and it holds"):
            check_files([file])


def test_a_reader_of_series_is_one_entry(folder, tmp_path, monkeypatch, volume_patterns):
    file = tmp_path / "sub-01_run-1_bold.columns"
    file.touch()
    stored = [folder / "lh.bold.mgz", folder / "rh.bold.mgz"]
    reader = SeriesReader(
        header=lambda path, affine: open_series(stored),
        read=lambda path, mask: read_places(stored, mask),
    )
    monkeypatch.setitem(SERIES_READERS, ".columns", reader)
    patterns = estimate_betas([read_run(file, EVENTS)], {"V1": vertex_mask()})
    np.testing.assert_array_equal(patterns.values, volume_patterns.values)


@pytest.mark.parametrize(
    "name", ["lh.bold.mgz", "flat_hemi-L.func.gii", "sub-01_run-1_space-fsLR_bold.dtseries.nii"]
)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_series_raise_nothing_but_our_error(folder, tmp_path_factory, name, data):
    contents = bytearray((folder / name).read_bytes())
    if data.draw(st.booleans()):
        contents = contents[: data.draw(st.integers(0, len(contents) - 1))]
    else:
        most = min(len(contents), data.draw(st.sampled_from([600, len(contents)])))
        place = data.draw(st.integers(0, most - 1))
        contents[place] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(bytes(contents))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run = read_run(file, EVENTS, t_r=T_R, hemispheres="one")
            values = read_places(run.images, np.ones(run.grid.shape, dtype=bool))
        except InputError:
            return
    assert values.shape == (run.n_volumes, *run.grid.shape)


def test_responses_of_both_hemispheres_keep_their_names(tmp_path):
    table = tmp_path / "maps.csv"
    table.write_text("condition\ncat\n")
    array = nibabel.gifti.GiftiDataArray(np.ones(4, dtype=np.float32))
    array.meta = nibabel.gifti.GiftiMetaData({"AnatomicalStructurePrimary": "CortexRight"})
    nibabel.save(nibabel.GiftiImage(darrays=[array]), tmp_path / "responses.func.gii")
    patterns = read_surface_patterns(tmp_path / "responses.func.gii", table)
    assert patterns.voxels["hemisphere"].unique().tolist() == ["R"]


def on_surfaces(folder, target):
    """Estimate betas of two runs on surfaces, one a session, in regions that share a vertex."""
    runs, kept = [], vertex_mask()
    for session in ("a", "b"):
        name = "sub-01_ses-{}_task-images_hemi-{}_space-fsaverage5_bold.func.gii"
        for side in "LR":
            made = nibabel.load(folder / f"sub-01_run-1_hemi-{side}_space-fsaverage5_bold.func.gii")
            values = np.array([array.data for array in made.darrays])
            later = values[::-1] if session == "b" else values
            as_gifti(target / name.format(session, side), later)
        runs.append(read_run(target / name.format(session, "L"), EVENTS))
    return estimate_betas(runs, {"V1": kept, "all": np.ones(len(kept), dtype=bool)})


def test_betas_of_surfaces_are_derivatives_of_a_hemisphere_each(folder, tmp_path):
    patterns = on_surfaces(folder, tmp_path)
    maps = write_bids_betas(patterns, tmp_path, den="64")
    end = "space-fsaverage5_den-64_stat-effect_desc-Singletrial_statmap.func.gii"
    assert [path.relative_to(tmp_path).as_posix() for path in maps] == [
        f"sub-01/ses-{session}/func/sub-01_ses-{session}_task-images_hemi-{side}_{end}"
        for session in "ab"
        for side in "LR"
    ]
    for path in maps:
        assert path.with_name(path.name.replace(".func.gii", ".json")).is_file()
    left = nibabel.load(maps[0])
    assert [array.meta["Name"] for array in left.darrays] == ["a", "b", "a", "c"]
    assert left.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    rows = patterns.observations["session"] == "a"
    own = (patterns.voxels["roi"] == "all") & (patterns.voxels["hemisphere"] == "L")
    expected = patterns.values[np.ix_(rows, own)].astype(np.float32)
    np.testing.assert_array_equal(np.array(left.agg_data()), expected)
    label = tmp_path / "lh.V1.label"
    label.write_text("#!ascii label\n3\n3 0 0 0 1\n4 0 0 0 1\n9 0 0 0 1\n")
    again = read_bids_betas(tmp_path, {"V1": label}, subject="01")
    own = (patterns.voxels["roi"] == "V1") & (patterns.voxels["hemisphere"] == "L")
    np.testing.assert_array_equal(again.values, patterns.values[:, own].astype(np.float32))
    pd.testing.assert_frame_equal(again.observations, patterns.observations)
    assert again.provenance["grid"]["n_vertices"] == {"L": N_LEFT, "R": N_RIGHT}
    # the reader of published data finds the same maps
    published = read_published(tmp_path / "sub-01", rois={"V1": str(label)}, ids="condition")
    np.testing.assert_array_equal(published.values, again.values)
    assert published.conditions == again.conditions
    maps[1].unlink()
    with pytest.raises(InputError, match="hemi-"):
        read_bids_betas(tmp_path, {"V1": label}, subject="01")
    folder_of_ours = write_betas(patterns, tmp_path / "betas")
    assert sorted(path.name for path in folder_of_ours.glob("*.gii")) == [
        "betas_hemi-L.func.gii",
        "betas_hemi-R.func.gii",
    ]
    kept = read_betas(folder_of_ours, {"V1": label})
    np.testing.assert_array_equal(kept.values, again.values)
    pd.testing.assert_frame_equal(kept.observations, patterns.observations)


def test_betas_of_cifti_are_a_dscalar_with_the_models_of_their_series(folder, tmp_path):
    series = folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii"
    mask = np.zeros(64, dtype=bool)
    mask[[2, 30, 60, 63]] = True
    patterns = estimate_betas([read_run(series, EVENTS)], {"some": mask})
    with pytest.raises(InputError, match=r"of CIFTI, and only a file knows .* \(like\)"):
        write_bids_betas(patterns, tmp_path)
    (path,) = write_bids_betas(patterns, tmp_path, den="91k", like=series)
    end = "task-images_space-fsLR_den-91k_stat-effect_desc-Singletrial_statmap.dscalar.nii"
    assert path.name == f"sub-01_{end}"
    image = nibabel.load(path)
    rows, models = (image.header.get_axis(number) for number in (0, 1))
    assert models == brain_models() and rows.name.tolist() == ["a", "b", "a", "c"]
    values = image.get_fdata(dtype=np.float32)
    np.testing.assert_array_equal(values[:, mask], patterns.values.astype(np.float32))
    assert np.isnan(values[:, ~mask]).all()
    whole = np.zeros((1, 64), dtype=np.float32)
    whole[:, mask] = 1
    scalars = nibabel.cifti2.ScalarAxis(["mask"])
    as_cifti(tmp_path / "mask.dscalar.nii", whole, scalars)
    chosen = {"some": f"{tmp_path / 'mask.dscalar.nii'} > 0.5"}
    again = read_bids_betas(tmp_path, chosen, subject="01")
    np.testing.assert_array_equal(again.values, patterns.values.astype(np.float32))
    pd.testing.assert_frame_equal(again.voxels, patterns.voxels)
    pd.testing.assert_frame_equal(again.observations, patterns.observations)
    ours = read_betas(write_betas(patterns, tmp_path / "betas", like=series), chosen)
    np.testing.assert_array_equal(ours.values, again.values)
    other = nibabel.cifti2.BrainModelAxis.from_surface(np.arange(3), 9, name="CORTEX_LEFT")
    file = tmp_path / "other.dscalar.nii"
    nibabel.save(nibabel.Cifti2Image(np.zeros((1, 3), dtype=np.float32), (scalars, other)), file)
    with pytest.raises(InputError, match="has other vertices and voxels than these betas"):
        write_bids_betas(patterns, tmp_path / "more", like=file)


def test_the_command_writes_betas_of_cifti_and_reads_them_back(folder, tmp_path):
    start = tmp_path / "sub-01_task-x_run-1"
    series = start.with_name(f"{start.name}_space-fsLR_den-91k_bold.dtseries.nii")
    shutil.copy(folder / "sub-01_run-1_space-fsLR_bold.dtseries.nii", series)
    events = start.with_name(f"{start.name}_events.tsv")
    EVENTS.to_csv(events, sep="\t", index=False)
    whole = np.zeros((1, 64), dtype=np.float32)
    whole[:, [1, 30, 60]] = 1
    as_cifti(tmp_path / "m.dscalar.nii", whole, nibabel.cifti2.ScalarAxis(["m"]))
    regions = {"some": f"{tmp_path / 'm.dscalar.nii'} > 0.5"}
    files = {"bold": [series], "events": [events]}
    direct = fmri_patterns(regions, **files)
    for bids in (True, False):
        written = fmri_betas(regions, tmp_path / f"out-{bids}", as_bids=bids, **files)
        names = [path.name for path in written.rglob("*.dscalar.nii")]
        end = "space-fsLR_den-91k_stat-effect_desc-Singletrial_statmap.dscalar.nii"
        assert names == [f"sub-01_task-x_{end}" if bids else "betas.dscalar.nii"]
        again = fmri_patterns(regions, betas=written, subject="01")
        np.testing.assert_array_equal(again.values, direct.values.astype(np.float32))
        assert again.conditions == direct.conditions
