"""Contrasts of localizers in a study: estimated as a step, and thresholds on them as regions."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import estimate_contrast, event_regressors, read_patterns, read_runs, simulate_subject
from fmri.betas.hrf import GLOVER
from neurometamer.errors import InputError
from neurometamer.study.checks import find_problems, raise_errors
from neurometamer.study.plan import Workspace, carry_out
from neurometamer.study.settings import check_settings, read_settings
from neurometamer.study.steps import plan_steps, run_study

PICTURES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "brick.png", "camera.png")
HEAD = """
[images]
ready = "photographs"
[model]
name = "alexnet"
weights = "random"
stages = ["fc8"]
[glm]
noise_model = "ols"
[selection]
voxels_per_roi = 0
[rsa]
n_resamples = 0
n_permutations = 0
"""
BIDS = """
[brain]
source = "bids"
dataset = "bids"
derivatives = "bids/derivatives/fmriprep"
task = "images"
space = "T1w"
[brain.rois]
V1 = "rois/sub-{subject}_V1.nii"
objects-LO = "(objects > 4) - V1"
[brain.contrasts.objects]
contrast = "intact > scrambled"
task = "loc"
noise_model = "ols"
"""
T_R, N_VOLUMES = 2.0, 100
BLOCKS = pd.DataFrame(
    {
        "onset": np.arange(8) * 24.0,
        "duration": 12.0,
        "trial_type": ["intact", "scrambled"] * 4,
    }
)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> Path:
    """Write a BIDS tree of one subject with a localizer to which LO responds, and study files."""
    folder = tmp_path_factory.mktemp("localized")
    source = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    (folder / "photographs").mkdir()
    for name in PICTURES:
        shutil.copy(source / name, folder / "photographs" / name)
    ids = [name.split(".")[0] for name in PICTURES]
    rng = np.random.default_rng(0)
    made = simulate_subject(
        folder / "made",
        subject="sub-01",
        conditions=ids,
        features={name: rng.normal(size=(len(ids), 20)) for name in ("a", "b")},
        mixing={"V1": {"a": 1.0}, "LO": {"b": 1.0}},
        seed=1,
        voxels_per_roi=20,
        n_runs=2,
    )
    raw = folder / "bids" / "sub-01" / "func"
    prep = folder / "bids" / "derivatives" / "fmriprep" / "sub-01" / "func"
    for place in (raw, prep, folder / "rois"):
        place.mkdir(parents=True)
    for roi, mask in made.masks.items():
        shutil.copy(mask, folder / "rois" / f"sub-01_{roi}.nii")
    lists = {"images": ([], [], []), "loc": ([], [], [])}
    for run, files in enumerate(zip(made.bold, made.events, made.confounds, strict=True), start=1):
        start = f"sub-01_task-images_run-{run}"
        to = [prep / f"{start}_space-T1w_desc-preproc_bold.nii", raw / f"{start}_events.tsv"]
        to.append(prep / f"{start}_desc-confounds_timeseries.tsv")
        for file, place, listed in zip(files, to, lists["images"], strict=True):
            shutil.copy(file, place)
            listed.append(place.relative_to(folder).as_posix())
    image = nibabel.load(made.bold[0])
    responding = nibabel.load(made.masks["LO"]).get_fdata() > 0
    times = np.arange(N_VOLUMES) * T_R
    responses = event_regressors(times, BLOCKS["onset"], BLOCKS["duration"], GLOVER)
    course = responses[:, BLOCKS["trial_type"] == "intact"].sum(axis=1)
    for run in (1, 2):
        values = 1000 + 5 * rng.normal(size=(*image.shape[:3], N_VOLUMES))
        values[responding] += 30 * course
        made_run = nibabel.Nifti1Image(values.astype(np.float32), image.affine)
        made_run.header.set_xyzt_units("mm", "sec")
        made_run.header.set_zooms((*image.header.get_zooms()[:3], T_R))
        start = f"sub-01_task-loc_run-{run}"
        bold = prep / f"{start}_space-T1w_desc-preproc_bold.nii"
        events = raw / f"{start}_events.tsv"
        confounds = prep / f"{start}_desc-confounds_timeseries.tsv"
        nibabel.save(made_run, bold)
        BLOCKS.to_csv(events, sep="\t", index=False)
        motion = pd.DataFrame({"trans_x": rng.normal(size=N_VOLUMES)})
        motion.to_csv(confounds, sep="\t", index=False)
        for place, listed in zip((bold, events, confounds), lists["loc"], strict=True):
            listed.append(place.relative_to(folder).as_posix())
    described = json.dumps({"Name": "x", "BIDSVersion": "1.9.0"})
    for place in (folder / "bids", folder / "bids" / "derivatives" / "fmriprep"):
        (place / "dataset_description.json").write_text(described)
    (folder / "bids" / "task-images_bold.json").write_text('{"RepetitionTime": 2.0}')
    (folder / "bids.toml").write_text(HEAD + BIDS)
    kinds = ("bold", "events", "confounds")
    own = [f"{kind} = {files}" for kind, files in zip(kinds, lists["images"], strict=True)]
    loc = [f"{kind} = {files}" for kind, files in zip(kinds, lists["loc"], strict=True)]
    contrast = BIDS[BIDS.index("[brain.contrasts") :]
    lines = ['[brain]\nsource = "bold"', contrast, '[[brain.subjects]]\nid = "sub-01"', *own]
    lines.append('masks = { V1 = "rois/sub-01_V1.nii", objects-LO = "(objects > 4) - V1" }')
    lines.append(f"localizers = {{ loc = {{ {', '.join(loc)} }} }}")
    (folder / "files.toml").write_text(HEAD + "\n".join(lines))
    return folder


def workspace(study: Path, out: Path) -> Workspace:
    return Workspace(folder=out, settings=read_settings(study), base=study.parent)


def go_on(work: Workspace) -> set[str]:
    """Go on up to the betas; name the steps that were done now."""
    raise_errors(find_problems(work))
    wanted = ("stimuli", "contrasts-", "betas-")
    steps = [step for step in plan_steps(work) if step.name.startswith(wanted)]
    records = {step.name: work.state("steps", f"{step.name}.json") for step in steps}
    before = {name: file.stat().st_mtime_ns for name, file in records.items() if file.exists()}
    carry_out(steps, work)
    return {name for name, file in records.items() if file.stat().st_mtime_ns != before.get(name)}


@pytest.fixture(scope="module")
def finished(scanned, tmp_path_factory) -> Path:
    """Run the whole study of the BIDS tree."""
    return run_study(scanned / "bids.toml", tmp_path_factory.mktemp("whole") / "out").parent


def test_a_region_is_a_threshold_of_the_contrast_that_the_study_estimates(
    scanned, finished, tmp_path
):
    prep = scanned / "bids" / "derivatives" / "fmriprep" / "sub-01" / "func"
    runs = read_runs(
        sorted(prep.glob("*task-loc*_bold.nii")),
        sorted((scanned / "bids" / "sub-01" / "func").glob("*task-loc*_events.tsv")),
        sorted(prep.glob("*task-loc*_timeseries.tsv")),
    )
    by_hand = estimate_contrast(runs, "intact - scrambled", noise_model="ols")
    z = np.zeros(by_hand.mask.shape)
    z[by_hand.mask] = by_hand.z
    stored = nibabel.load(finished / ".state/contrasts/sub-01/objects/z.nii.gz")
    np.testing.assert_array_equal(stored.get_fdata(), z.astype(np.float32))
    betas = read_patterns(finished / ".state" / "betas" / "sub-01.h5")
    own = betas.voxels[betas.voxels["roi"] == "objects-LO"][["i", "j", "k"]].to_numpy()
    v1 = nibabel.load(scanned / "rois" / "sub-01_V1.nii").get_fdata() > 0
    expected = np.argwhere((z.astype(np.float32) > 4) & ~v1)
    np.testing.assert_array_equal(own, expected)
    # the planted region is found: 20 voxels respond
    planted = nibabel.load(scanned / "rois" / "sub-01_LO.nii").get_fdata() > 0
    assert planted[tuple(own.T)].sum() == 20 and len(own) <= 21
    record = betas.provenance["masks"]["objects-LO"]
    assert record["definition"] == "(objects > 4) - V1"
    # files listed one by one give the same
    work = workspace(scanned / "files.toml", tmp_path / "out")
    assert go_on(work) == {"stimuli", "contrasts-sub-01", "betas-sub-01"}
    same = read_patterns(work.state("betas", "sub-01.h5"))
    np.testing.assert_array_equal(same.values, betas.values)


def as_cifti(scanned, to):
    """Write the images and V1 as CIFTI files of all voxels; return the study of these files."""
    text = (scanned / "files.toml").read_text()
    for file in (scanned / "bids").rglob("*_bold.nii"):
        image = nibabel.load(file)
        values = image.get_fdata(dtype=np.float32)
        everywhere = np.ones(values.shape[:3], dtype=bool)
        models = nibabel.cifti2.BrainModelAxis.from_mask(everywhere, "OTHER", image.affine)
        rows = nibabel.cifti2.SeriesAxis(0, float(image.header.get_zooms()[3]), values.shape[3])
        series = nibabel.Cifti2Image(values[everywhere].T, (rows, models))
        name = f"{file.name.removesuffix('.nii')}.dtseries.nii"
        nibabel.save(series, to / name)
        text = text.replace(file.relative_to(scanned).as_posix(), name)
    v1 = nibabel.load(scanned / "rois" / "sub-01_V1.nii").get_fdata(dtype=np.float32)
    rows = nibabel.cifti2.ScalarAxis(["V1"])
    nibabel.save(nibabel.Cifti2Image(v1.reshape(1, -1), (rows, models)), to / "V1.dscalar.nii")
    text = text.replace("rois/sub-01_V1.nii", "V1.dscalar.nii > 0.5")
    text = text.replace('"bids/', f'"{scanned}/bids/').replace("'bids/", f"'{scanned}/bids/")
    shutil.copytree(scanned / "photographs", to / "photographs")
    (to / "cifti.toml").write_text(text)
    return to / "cifti.toml"


def test_a_contrast_of_cifti_gives_the_region_of_the_volume(scanned, finished, tmp_path):
    study = as_cifti(scanned, tmp_path)
    work = workspace(study, tmp_path / "out")
    assert go_on(work) == {"stimuli", "contrasts-sub-01", "betas-sub-01"}
    assert work.state("contrasts", "sub-01", "objects", "z.dscalar.nii").is_file()
    betas = read_patterns(work.state("betas", "sub-01.h5"))
    of_volume = read_patterns(finished / ".state" / "betas" / "sub-01.h5")
    places = ["roi", "i", "j", "k"]
    pd.testing.assert_frame_equal(betas.voxels[places], of_volume.voxels[places])
    np.testing.assert_allclose(betas.values, of_volume.values, rtol=1e-6)
    # a localizer of volumes has no map on the places of CIFTI
    text = study.read_text()
    names = [f"sub-01_task-loc_run-{run}_space-T1w_desc-preproc_bold" for run in (1, 2)]
    prep = scanned / "bids" / "derivatives" / "fmriprep" / "sub-01" / "func"
    for name in names:
        text = text.replace(f"{name}.dtseries.nii", f"{prep / name}.nii")
    study.write_text(text)
    with pytest.raises(InputError, match=r"task-loc.* is a volume, but the other runs of sub-01"):
        go_on(workspace(study, tmp_path / "mixed"))


def test_a_change_of_the_localizer_redoes_it_and_what_follows(scanned, tmp_path):
    shutil.copytree(scanned, tmp_path / "data")
    study = tmp_path / "data" / "bids.toml"
    out = tmp_path / "out"
    go_on(workspace(study, out))
    assert go_on(workspace(study, out)) == set()
    text = study.read_text()
    study.write_text(text.replace("objects > 4", "objects > 5"))
    assert go_on(workspace(study, out)) == {"betas-sub-01"}
    study.write_text(text.replace('"intact > scrambled"', '"intact"'))
    assert go_on(workspace(study, out)) == {"contrasts-sub-01", "betas-sub-01"}
    study.write_text(text)
    assert go_on(workspace(study, out)) == {"contrasts-sub-01", "betas-sub-01"}
    (events,) = (tmp_path / "data" / "bids" / "sub-01" / "func").glob("*loc_run-2_events.tsv")
    BLOCKS.assign(onset=BLOCKS["onset"] + 1).to_csv(events, sep="\t", index=False)
    assert go_on(workspace(study, out)) == {"contrasts-sub-01", "betas-sub-01"}
    # a threshold that no voxel reaches is told with what the map holds
    study.write_text(text.replace("objects > 4", "objects > 400"))
    with pytest.raises(
        InputError, match=r"'objects-LO': nothing is left of objects > 400; the map"
    ):
        go_on(workspace(study, out))
    study.write_text(text.replace("(objects > 4) - V1", "(objects > 4) & V1 & (objects > -100)"))
    with pytest.raises(InputError, match=r"objects-LO|too few voxels"):
        go_on(workspace(study, out))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ('"intact > scrambled"', '"intact > scrambeld"'),
            r"contrasts.objects: contrast .* names scrambeld, .* there are intact, scrambled",
        ),
        (('"intact > scrambled"', '"intact > * 2"'), r"contrast .* cannot be read"),
        (('task = "loc"', 'task = "lok"'), r"brain.contrasts.objects: .*lok.*loc"),
        (("(objects > 4) - V1", "objects - V1"), "'objects' without a threshold; .*objects > 3.1"),
        (('task = "loc"', 'statistic = "p"'), "statistic 'p'.*effect, t, z"),
        (('task = "loc"', 'tsk = "loc"'), r"\[brain.contrasts.objects\] .*tsk.*task"),
        (("[brain.contrasts.objects]", "[brain.contrasts.V1]"), "V1 are names of contrasts and"),
    ],
)
def test_bad_contrasts_are_told_before_any_work(scanned, tmp_path, change, message):
    study = scanned / f"wrong-{abs(hash(change))}.toml"
    study.write_text((scanned / "bids.toml").read_text().replace(*change))
    with pytest.raises(InputError, match=message):
        go_on(workspace(study, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_subjects_without_runs_of_the_localizer_are_named(scanned, tmp_path):
    study = scanned / "without.toml"
    text = (scanned / "files.toml").read_text()
    study.write_text(text.replace("localizers = { loc", "localizers = { other"))
    with pytest.raises(InputError, match=r"sub-01 has no runs of the localizer 'loc' .*: other"):
        read_settings(study)
    shutil.copytree(scanned / "bids", tmp_path / "bids")
    for place in ("", "derivatives/fmriprep"):
        (tmp_path / "bids" / place / "sub-02" / "func").mkdir(parents=True)
        for file in (tmp_path / "bids" / place / "sub-01" / "func").glob("*task-images*"):
            name = file.name.replace("sub-01", "sub-02")
            shutil.copy(file, file.parents[2] / "sub-02" / "func" / name)
    shutil.copytree(scanned / "photographs", tmp_path / "photographs")
    shutil.copytree(scanned / "rois", tmp_path / "rois")
    shutil.copy(tmp_path / "rois" / "sub-01_V1.nii", tmp_path / "rois" / "sub-02_V1.nii")
    shutil.copy(scanned / "bids.toml", tmp_path / "bids.toml")
    problems = find_problems(workspace(tmp_path / "bids.toml", tmp_path / "out"))
    words = [str(problem) for problem in problems if "contrast" in problem.message]
    assert any(
        "sub-02 has no runs of the task 'loc' for the contrast 'objects'" in w for w in words
    )
    with pytest.raises(InputError, match="contrasts are for source"):
        check_settings({"brain": {"contrasts": {"a": {"contrast": "x - y"}}}})


def test_the_report_says_what_the_contrast_was(finished):
    text = (finished / "methods.txt").read_text(encoding="utf-8")
    assert "one model over the runs of the localizer" in text
    assert "objects = intact > scrambled (z map, task loc, noise_model = ols" in text
    assert "objects-LO = (objects > 4) - V1" in text
    settings = read_settings(finished / "study.toml")
    assert settings.brain.contrasts["objects"].task == "loc"
    assert "intact &gt; scrambled" in (finished / "report.html").read_text(encoding="utf-8")
