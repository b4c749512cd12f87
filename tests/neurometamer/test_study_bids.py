"""A study of a BIDS data set: the patterns of the same files named one by one, and all that is wrong
with the data set told before any work.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from small_studies import IDS, copy_photographs

from fmri import Patterns, read_patterns, simulate_subject
from neurometamer.commands import fmri_betas, fmri_patterns
from neurometamer.errors import InputError
from neurometamer.study import check_settings
from neurometamer.study.brain_steps import open_runs
from neurometamer.study.checks import find_problems, raise_errors
from neurometamer.study.plan import Workspace, carry_out, section_settings
from neurometamer.study.settings import read_settings
from neurometamer.study.steps import check_study, plan_steps
from neurometamer.study.template import study_toml, template

SUBJECTS = ("01", "02")
ROIS = ("V1", "LO")
HEAD = """
[images]
ready = "photographs"
[model]
name = "alexnet"
weights = "random"
stages = ["relu1", "fc8"]
[selection]
voxels_per_roi = 10
[rsa]
n_resamples = 10
n_permutations = 20
"""
BIDS = """
[brain]
source = "bids"
dataset = "bids"
derivatives = "bids/derivatives/fmriprep"
task = "images"
space = "T1w"
id_column = "stim_file"
[brain.rois]
V1 = "rois/sub-{subject}_V1.nii"
LO = "rois/sub-{subject}_LO.nii"
"""


def bids_name(subject: str, run: int) -> str:
    return f"sub-{subject}_ses-1_task-images_run-{run}"


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> Path:
    """Write photographs, simulated runs renamed into a BIDS tree, and two study files of them."""
    folder = tmp_path_factory.mktemp("bids")
    copy_photographs(folder / "photographs")
    (folder / "rois").mkdir()
    blocks = []
    for subject in SUBJECTS:
        blocks.append(write_subject(folder, subject))
    raw = folder / "bids"
    described = json.dumps({"Name": "x", "BIDSVersion": "1.9.0"})
    for place in (raw, raw / "derivatives" / "fmriprep"):
        (place / "dataset_description.json").write_text(described)
    (raw / "task-images_bold.json").write_text(json.dumps({"RepetitionTime": 2.0}))
    by_files = '[brain]\nsource = "bold"\n' + "\n".join(blocks)
    (folder / "files.toml").write_text(HEAD + by_files)
    (folder / "bids.toml").write_text(HEAD + BIDS)
    return folder


def write_subject(folder: Path, subject: str) -> str:
    """Move simulated files to their names in BIDS; return the section that lists them."""
    rng = np.random.default_rng(0)
    made = simulate_subject(
        folder / "made",
        subject=f"sub-{subject}",
        conditions=IDS,
        features={name: rng.normal(size=(len(IDS), 20)) for name in ("a", "b")},
        mixing={"V1": {"a": 1.0}, "LO": {"b": 1.0}},
        seed=1,
        voxels_per_roi=20,
        n_runs=2,
    )
    raw = folder / "bids" / f"sub-{subject}" / "ses-1" / "func"
    prep = folder / "bids" / "derivatives" / "fmriprep" / raw.relative_to(folder / "bids")
    raw.mkdir(parents=True)
    prep.mkdir(parents=True)
    lists: dict[str, list[str]] = {"bold": [], "events": [], "confounds": []}
    for run, files in enumerate(zip(made.bold, made.events, made.confounds, strict=True), start=1):
        image, events, confounds = files
        start = bids_name(subject, run)
        places = {
            "bold": prep / f"{start}_space-T1w_desc-preproc_bold.nii",
            "events": raw / f"{start}_events.tsv",
            "confounds": prep / f"{start}_desc-confounds_timeseries.tsv",
        }
        shutil.copy(image, places["bold"])
        table = pd.read_csv(events, sep="\t", keep_default_na=False)
        shown = [f"images/{name}.png" if name in IDS else "n/a" for name in table["trial_type"]]
        table.assign(stim_file=shown, shown="x").to_csv(places["events"], sep="\t", index=False)
        motion = pd.read_csv(confounds, sep="\t")
        slow = np.cos(np.pi * (np.arange(len(motion)) + 0.5) / len(motion))
        first = np.eye(len(motion))[0]
        more = motion.assign(cosine00=slow, csf=slow**2, non_steady_state_outlier00=first)
        more.to_csv(places["confounds"], sep="\t", index=False)
        for kind, place in places.items():
            lists[kind].append(str(place.relative_to(folder)))
    masks = {}
    for roi, mask in made.masks.items():
        masks[roi] = f"rois/sub-{subject}_{roi}.nii"
        shutil.copy(mask, folder / masks[roi])
    lines = [f"{kind} = {files}" for kind, files in lists.items()]
    named = ", ".join(f'{roi} = "{file}"' for roi, file in masks.items())
    lines += [f"masks = {{ {named} }}", 'condition_column = "stim_file"']
    return "\n".join(["[[brain.subjects]]", f'id = "sub-{subject}"', *lines]) + "\n"


@pytest.fixture
def spoiled(scanned, tmp_path) -> Path:
    """Give a copy that may be spoiled."""
    shutil.copytree(scanned, tmp_path / "data")
    return tmp_path / "data"


def patterns_of(study: Path, out: Path) -> dict[str, Patterns]:
    """Go on with a study up to its patterns."""
    work = Workspace(folder=out, settings=read_settings(study), base=study.parent)
    raise_errors(find_problems(work))
    wanted = ("stimuli", "betas-", "patterns-")
    steps = [step for step in plan_steps(work) if step.name.startswith(wanted)]
    carry_out(steps, work)
    read = {}
    for subject in SUBJECTS:
        read[subject] = read_patterns(out / "patterns" / f"sub-{subject}.h5")
    return read


STRATEGY = """
[glm]
noise_model = "ols"
strategy = ["motion", "high_pass"]
strategy_options = { motion = "basic" }
"""


def test_a_study_from_bids_has_the_patterns_of_its_files_named_one_by_one(spoiled, tmp_path):
    by_source = {}
    for name in ("files", "bids"):
        study = spoiled / f"{name}.toml"
        study.write_text(study.read_text() + STRATEGY)
        by_source[name] = patterns_of(study, tmp_path / name)
    for subject, patterns in by_source["bids"].items():
        other = by_source["files"][subject]
        np.testing.assert_array_equal(patterns.values, other.values)  # the same files and model
        pd.testing.assert_frame_equal(patterns.observations, other.observations)
        pd.testing.assert_frame_equal(patterns.voxels, other.voxels)
        run = patterns.provenance["runs"][0]
        assert run["drift"] == "confounds"
        assert {"cosine00", "non_steady_state_outlier00"} < set(run["confounds"])
        assert patterns.observations["session"].unique().tolist() == ["1"]


@pytest.mark.parametrize(
    ("glm", "columns"),
    [
        ("", [*(f"trans_{axis}" for axis in "xyz"), *(f"rot_{axis}" for axis in "xyz")]),
        ('[glm]\nconfounds = ["trans_*", "csf"]\n', ["trans_x", "trans_y", "trans_z", "csf"]),
    ],
)
def test_columns_of_confounds_are_those_of_the_files(spoiled, glm, columns):
    runs = {}
    for name in ("files", "bids"):
        study = spoiled / f"{name}.toml"
        study.write_text(study.read_text() + glm)
        work = Workspace(folder=spoiled / "out", settings=read_settings(study), base=spoiled)
        runs[name] = open_runs(work, "sub-01")
    for run, other in zip(runs["bids"], runs["files"], strict=True):
        assert list(run.confounds.columns) == [*columns, "non_steady_state_outlier00"]
        pd.testing.assert_frame_equal(run.confounds, other.confounds)
        pd.testing.assert_frame_equal(run.events, other.events)
        assert (run.image, run.t_r, run.key) == (other.image, other.t_r, other.key)


@pytest.mark.parametrize("source", ["bids", "files"])
def test_components_that_tedana_rejects_are_a_strategy(spoiled, source):
    study = spoiled / f"{source}.toml"
    strategy = '[glm]\nstrategy = ["motion", "tedana"]\nstrategy_options = { motion = "basic" }\n'
    study.write_text(study.read_text() + strategy)
    told = [str(problem) for problem in check_study(study) if problem.kind == "error"]
    assert len(told) == 2 * len(SUBJECTS)  # a line a run, of less than three
    assert all("the strategy tedana needs" in text for text in told)
    for file in spoiled.rglob("*_desc-confounds_timeseries.tsv"):
        n_volumes = len(pd.read_csv(file, sep="\t"))
        values = np.random.default_rng(2).normal(size=(n_volumes, 2))
        courses = pd.DataFrame(values, columns=["ICA_0", "ICA_1"])
        classes = {"Component": ["ICA_00", "ICA_01"], "classification": ["accepted", "rejected"]}
        start = str(file).removesuffix("confounds_timeseries.tsv")
        courses.to_csv(f"{start}ICA_mixing.tsv", sep="\t", index=False)
        pd.DataFrame(classes).to_csv(f"{start}tedana_metrics.tsv", sep="\t", index=False)
    assert not [problem for problem in check_study(study) if problem.kind == "error"]
    work = Workspace(folder=spoiled / "out", settings=read_settings(study), base=spoiled)
    for run in open_runs(work, "sub-02"):
        assert {"trans_x", "rejected_ICA_1"} < set(run.confounds.columns)
        assert "rejected_ICA_0" not in run.confounds.columns
    (step,) = (step for step in plan_steps(work) if step.name == "betas-sub-02")
    read = [path.name for path in step.reads]
    assert sum(name.endswith("desc-tedana_metrics.tsv") for name in read) == 2
    assert sum(name.endswith("desc-ICA_mixing.tsv") for name in read) == 2


def test_one_more_subject_changes_no_other(spoiled, tmp_path):
    study = spoiled / "bids.toml"
    both = study.read_text()
    study.write_text(both.replace('space = "T1w"', 'space = "T1w"\nsubjects = ["02"]'))
    work = Workspace(folder=tmp_path / "out", settings=read_settings(study), base=spoiled)
    assert [step.name for step in plan_steps(work) if step.name.startswith("betas")] == [
        "betas-sub-02"
    ]
    of_one = section_settings(work.settings.numbers(), "brain.subjects.sub-02")
    study.write_text(both)
    assert section_settings(read_settings(study).numbers(), "brain.subjects.sub-02") == of_one


def test_the_check_lists_all_that_is_wrong_with_the_data_set(spoiled):
    raw = spoiled / "bids"
    prep = raw / "derivatives" / "fmriprep"
    first, second = (bids_name("01", run) for run in (1, 2))
    func = Path("sub-01", "ses-1", "func")
    (raw / func / f"{first}_events.tsv").unlink()
    confounds = prep / func / f"{second}_desc-confounds_timeseries.tsv"
    lines = confounds.read_text().splitlines()
    confounds.write_text("\n".join(lines[:-2]) + "\n")
    (spoiled / "rois" / "sub-02_LO.nii").unlink()
    problems = check_study(spoiled / "bids.toml")
    told = [str(problem) for problem in problems if problem.kind == "error"]
    assert len(told) == 3
    assert told[0].startswith("sub-01: sub-01 ses-1 task-images run-1 has no events.tsv")
    n_rows = len(lines) - 3
    assert f"has {n_rows} rows but" in told[1]
    assert f"{n_rows + 2} volumes" in told[1]
    assert told[2].startswith("sub-02: ROI 'LO': there is no")
    assert all("\n" not in text for text in told)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"T1w"', '"T2w"', "unknown space in .*'T2w'; did you mean 'T1w'"),
        ('dataset = "bids"', 'dataset = "photographs"', "is no BIDS data set"),
        ('dataset = "bids"', 'dataset = "bits"', "bits does not exist"),
        ('"stim_file"', '"trial_type"', ""),
        ('"stim_file"', '"picture"', r"lacks the column\(s\) picture"),
        ('"stim_file"', '"shown"', "the column 'stim_file' holds ids: id_column = \"stim_file\""),
        ("{subject}_V1", "{subject}_V9", "ROI 'V1': there is no"),
    ],
)
def test_settings_that_do_not_fit_the_data_set_are_told(spoiled, old, new, message):
    study = spoiled / "bids.toml"
    study.write_text(study.read_text().replace(old, new))
    problems = check_study(study)
    if not message:
        assert {problem.kind for problem in problems} <= {"note"}
        return
    with pytest.raises(InputError, match=message):
        raise_errors(problems)


@pytest.mark.parametrize("source", ["bids", "files"])
def test_a_pattern_of_a_region_that_fits_no_subject_is_one_line(spoiled, source):
    study = spoiled / f"{source}.toml"
    text = study.read_text()
    if source == "bids":
        study.write_text(text.replace("{subject}_V1", "{subject}_V9"))
    else:
        regions = '[brain.rois]\nV1 = "rois/{subject}_V9.nii"\n'
        text = re.sub(r"V1 = '[^']*', |V1 = \"[^\"]*\", ", "", text)
        study.write_text(text + regions)
    told = [str(problem) for problem in check_study(study) if problem.kind == "error"]
    assert len(told) == 1, told
    assert "_V9.nii of any of the 2 subjects (sub-01, sub-02); correct the pattern" in told[0]


def test_labels_of_a_file_found_by_a_pattern_are_regions(spoiled, scanned, tmp_path):
    for subject in SUBJECTS:
        images = [nibabel.load(spoiled / f"rois/sub-{subject}_{roi}.nii") for roi in ("V1", "LO")]
        first, second = (np.asarray(image.dataobj) > 0 for image in images)
        labels = (first + 2 * second).astype(np.uint8)
        file = spoiled / "rois" / f"sub-{subject}_space-T1w_dseg.nii"
        nibabel.save(nibabel.Nifti1Image(labels, images[0].affine), file)
    study = spoiled / "bids.toml"
    text = study.read_text()
    for roi, label in (("V1", 1), ("LO", 2)):
        text = re.sub(
            rf'(?m)^{roi} = ".*"$', f'{roi} = "rois/sub-{{subject}}*_dseg.nii:{label}"', text
        )
    study.write_text(text)
    ours = patterns_of(study, tmp_path / "labels")
    theirs = patterns_of(scanned / "bids.toml", tmp_path / "files")
    for name, patterns in ours.items():
        np.testing.assert_array_equal(patterns.values, theirs[name].values)
    study.write_text(re.sub(r"_dseg.nii:1", "_dseg.nii > 0.5", text))
    with pytest.raises(InputError, match=r"'\*' goes with FILE or FILE:LABEL alone"):
        raise_errors(check_study(study))


def test_what_is_wrong_with_every_run_is_one_line(study_of_many_runs):
    errors = [problem for problem in check_study(study_of_many_runs) if problem.kind == "error"]
    told = [str(problem) for problem in errors]
    assert len(told) == len(SUBJECTS)
    assert told[0].startswith("sub-01: 4 times: sub-01_ses-1_task-images_run-1_desc-confounds")
    assert told[0].count("the table lacks rot_x_derivative1") == 1
    assert 'strategy_options = { motion = "basic" }' in told[0]
    with pytest.raises(InputError) as error:
        raise_errors(errors)
    assert len(str(error.value)) < 1500


@pytest.fixture
def study_of_many_runs(spoiled) -> Path:
    """Give a study whose subjects have each run twice, with six motion parameters."""
    for file in spoiled.rglob("sub-*_ses-1_*"):
        for run in "12":
            if f"run-{run}_" in file.name:
                shutil.copy(file, file.with_name(file.name.replace(f"run-{run}", f"run-{run}1")))
    study = spoiled / "bids.toml"
    study.write_text(study.read_text() + '[glm]\nstrategy = ["motion"]\n')
    return study


def test_strategies_without_tables_of_confounds_are_told(spoiled):
    study = spoiled / "bids.toml"
    strategy = '[glm]\nstrategy = ["motion"]\n'
    study.write_text(study.read_text() + strategy)
    for file in spoiled.rglob("*_desc-confounds_timeseries.tsv"):
        file.unlink()
    told = [str(problem) for problem in check_study(study)]
    assert any(
        "glm.strategy: motion need tables of confounds, and sub-01 has none" in t for t in told
    )
    assert any("run-1 has no desc-confounds_timeseries.tsv" in text for text in told)
    simulated = check_settings({"glm": {"strategy": ["motion"]}})
    assert "six motion parameters alone" in str(check_study(simulated)[0])


@pytest.mark.parametrize(
    ("brain", "message"),
    [
        ({"source": "bids"}, "needs dataset .its folder. and .brain.rois."),
        ({"source": "bids", "only": ["V1"]}, "brain: only: unknown ROI 'V1'|needs dataset"),
        (
            {"source": "bids", "dataset": "d", "rois": {"V1": "a"}, "only": ["V1", "V1"]},
            "only: V1 occur more than once",
        ),
        (
            {"only": ["V1"]},
            'only are for source = "bids" .rois, only and contrasts for "bold", too.',
        ),
        ({"dataset": "d", "space": "T1w"}, 'brain: dataset, space are for source = "bids"'),
        ({"source": "bold", "subjects": ["01"]}, "01 are names alone; list the files"),
        (
            {"source": "bids", "dataset": "d", "rois": {"V1": "m"}, "subjects": ["01", "sub-01"]},
            "subject ids must be unique; 01 occur",
        ),
        (
            {"source": "bids", "datset": "d"},
            r"\[brain\] unknown key 'datset'; did you mean 'dataset'",
        ),
        ({"subjects": ["a b"]}, "brain.subjects.0: String should match pattern"),
        ({"slice_time_ref": 2}, "brain.slice_time_ref"),
    ],
)
def test_settings_of_a_data_set_are_checked(brain, message):
    with pytest.raises(InputError, match=message) as error:
        check_settings({"brain": brain})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("glm", "message"),
    [
        (
            {"strategy": ["motoin"]},
            "glm.strategy: unknown strategy 'motoin'; did you mean 'motion'",
        ),
        (
            {"strategy": ["motion"], "confounds": ["csf"]},
            "by columns .csf. and by strategy .motion.",
        ),
        ({"strategy_options": {"motion": "basic"}}, "without a strategy"),
    ],
)
def test_strategies_of_a_study_are_checked(glm, message):
    with pytest.raises(InputError, match=message):
        check_settings({"glm": glm})


def test_the_recipe_of_a_study_from_bids_reads_back(scanned, tmp_path):
    settings = read_settings(scanned / "bids.toml")
    (tmp_path / "study.toml").write_text(study_toml(settings))
    assert read_settings(tmp_path / "study.toml") == settings
    assert 'source = "bids"' in template()
    assert settings.numbers()["brain"]["rois"] == {
        roi: f"rois/sub-{{subject}}_{roi}.nii" for roi in ROIS
    }


# ---------------------------------------------------------------------------------- single commands


def of_data_set(folder: Path) -> dict[str, object]:
    raw = folder / "bids"
    masks = {roi: str(folder / "rois" / f"sub-{{subject}}_{roi}.nii") for roi in ROIS}
    return {"masks": masks, "bids": raw, "derivatives": raw / "derivatives" / "fmriprep"}


def of_files(folder: Path, subject: str) -> dict[str, object]:
    read = read_settings(folder / "files.toml").brain.subjects
    listed = next(one for one in read if one.id == f"sub-{subject}")
    files = {}
    for kind in ("bold", "events", "confounds"):
        files[kind] = [folder / file for file in getattr(listed, kind)]
    return {"masks": {roi: folder / file for roi, file in listed.masks.items()}, **files}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"columns": ["trans_*"]},
        {"strategy": ["motion"], "strategy_options": {"motion": "basic"}},
    ],
)
def test_patterns_of_a_data_set_are_those_of_its_files(scanned, options):
    chosen = {"task": "images", "space": "T1w", "id_column": "stim_file", "subject": "02"}
    ours = fmri_patterns(**of_data_set(scanned), **chosen, **options)
    theirs = fmri_patterns(**of_files(scanned, "02"), condition_column="stim_file", **options)
    np.testing.assert_array_equal(ours.values, theirs.values)  # the same files and model
    pd.testing.assert_frame_equal(ours.voxels, theirs.voxels)
    assert ours.provenance["runs"] == theirs.provenance["runs"]


def test_the_command_line_reads_a_data_set(scanned, tmp_path, invoke):
    given = of_data_set(scanned)
    words = ["fmri", "betas", "--bids", given["bids"], "--derivatives", given["derivatives"]]
    words += ["--subject", "01", "--id-column", "stim_file", "--strategy", "motion", "high_pass"]
    words += ["--strategy-options", "motion=basic", "--runs", "2", "--out", tmp_path / "out"]
    words += ["--masks", *(f"{roi}={mask}" for roi, mask in given["masks"].items()), "--as-bids"]
    done = invoke([*map(str, words)])
    assert done.exit_code == 0, done.exception
    (image,) = (tmp_path / "out").rglob("*statmap.nii.gz")
    assert image.name.startswith("sub-01_ses-1_task-images_space-T1w_")
    betas = fmri_patterns(given["masks"], betas=tmp_path / "out", subject="01")
    assert betas.values.shape == (6, 40)
    first, second, *_ = betas.conditions
    chosen = {"subject": "01", "id_column": "stim_file", "contrast": f"'{first}' - '{second}'"}
    fmri_betas(**given, **chosen, out=tmp_path / "out", as_bids=True, noise_model="ols")
    (image,) = (tmp_path / "out").rglob("*_stat-z_statmap.nii.gz")
    assert image.name.startswith("sub-01_ses-1_task-images_space-T1w_contrast-")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, r"holds 2 subjects .01, 02.; choose one .subject, --subject."),
        ({"subject": "03"}, "unknown subject of .* '03'"),
        ({"subject": "01", "task": "rest"}, "unknown task in .*'rest'"),
        ({"subject": "01", "space": "T2w"}, "unknown space in .*'T2w'; did you mean 'T1w'"),
        ({"subject": "01", "bold": ["b.nii"]}, r"bold .--bold. and a BIDS data set .--bids. excl"),
        ({"subject": "01", "condition_column": "stim_file"}, r"give id_column .--id-column."),
        ({"subject": "01", "strategy": ["motions"]}, "strategy of confounds 'motions'; did you"),
        ({"subject": "01", "strategy_options": {"motion": "basic"}}, r".strategy, --strategy."),
        ({"subject": "01", "strategy": ["motion"], "columns": ["csf"]}, "by columns .csf. and by"),
        ({"bids": None, "subject": "01"}, r"are those of a BIDS data set; give it, too .--bids."),
    ],
)
def test_options_of_a_data_set_that_do_not_fit_are_told(scanned, words, message):
    with pytest.raises(InputError, match=message) as error:
        fmri_patterns(**(of_data_set(scanned) | {"id_column": "stim_file"} | words))
    assert "\n" not in str(error.value)


def test_a_task_does_not_go_with_betas(tmp_path):
    with pytest.raises(InputError, match=r"task .--task. are for the runs of a BIDS data set"):
        fmri_patterns({"V1": "no.nii"}, betas=tmp_path, task="images")


def test_labels_of_a_data_set_do_not_go_with_files(scanned):
    with pytest.raises(InputError, match=r"sessions .--sessions., id_column .--id-column. are for"):
        fmri_patterns(**of_files(scanned, "01"), sessions=["1"], id_column="stim_file")
