"""Measured studies: all that is wrong is told before any work, and a repaired subject is all that
is made again.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from small_studies import IDS, copy_photographs

from fmri import read_patterns, simulate_subject
from neurometamer.errors import InputError
from neurometamer.study.checks import find_problems, raise_errors
from neurometamer.study.plan import Workspace, carry_out
from neurometamer.study.settings import read_settings
from neurometamer.study.steps import check_study, plan_steps, run_study

SUBJECTS = ("sub-01", "sub-02", "sub-03")
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
[brain]
source = "bold"
"""


@pytest.fixture(scope="module")
def scanned(tmp_path_factory) -> Path:
    """Write photographs and the files of three subjects who saw them, with the study file."""
    folder = tmp_path_factory.mktemp("scanned")
    copy_photographs(folder / "photographs")
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(len(IDS), 20)) for name in ("a", "b")}
    blocks = []
    for subject in SUBJECTS:
        made = simulate_subject(
            folder / subject,
            subject=subject,
            conditions=IDS,
            features=features,
            mixing={"V1": {"a": 1.0}, "LO": {"b": 1.0}},
            seed=1,
            voxels_per_roi=20,
            n_runs=2,
        )
        lists = {"bold": made.bold, "events": made.events, "confounds": made.confounds}
        lines = [
            f"{kind} = {[f'{subject}/{file.name}' for file in files]}"
            for kind, files in lists.items()
        ]
        masks = ", ".join(f'{roi} = "{subject}/{file.name}"' for roi, file in made.masks.items())
        blocks.append(
            "\n".join(["[[brain.subjects]]", f'id = "{subject}"', *lines, f"masks = {{ {masks} }}"])
        )
    (folder / "study.toml").write_text(HEAD + "\n".join(blocks) + "\n")
    return folder


@pytest.fixture
def study(scanned, tmp_path) -> Path:
    """Give the study file of a copy that may be spoiled."""
    shutil.copytree(scanned, tmp_path / "data")
    return tmp_path / "data" / "study.toml"


class Kept:
    """Hear which steps ran and which had been done before."""

    def __init__(self):
        self.ran, self.kept, self._title = [], [], ""

    def start(self, number, total, title):
        self._title = title

    def advance(self, done, total):
        pass

    def watch(self, seen):
        pass

    def finish(self, seconds, kept):
        (self.kept if kept else self.ran).append(self._title)


def go_on_up_to_patterns(study: Path, out: Path) -> Kept:
    """Go on with a study as `run_study` does, but for the comparison and the report."""
    work = Workspace(folder=out, settings=read_settings(study), base=study.parent)
    raise_errors(find_problems(work))
    wanted = (
        "stimuli",
        "transfer",
        "activations",
        "network-rdms",
        "betas-",
        "patterns-",
        "brain-rdms",
    )
    heard = Kept()
    carry_out([step for step in plan_steps(work) if step.name.startswith(wanted)], work, heard)
    return heard


def file_of(study: Path, pattern: str) -> Path:
    return next(iter(sorted(study.parent.glob(pattern))))


def edit_events(path: Path, change) -> None:
    change(pd.read_csv(path, sep="\t", keep_default_na=False)).to_csv(path, sep="\t", index=False)


def set_setting(study: Path, before: str, after: str) -> None:
    assert before in study.read_text()
    study.write_text(study.read_text().replace(before, after, 1))


def spoil(study: Path) -> None:
    """Make something wrong with every subject, and with the settings."""
    study.write_text(
        study.read_text() + '[encoding]\nfolds = 100\n[transfer]\nmodels = ["alexnett"]\n'
    )
    first = file_of(study, "sub-01/*run-1_bold.nii")
    image = nibabel.load(first)
    mirrored = nibabel.Nifti1Image(
        image.get_fdata(dtype=np.float32).copy(), image.affine, image.header
    )
    mirrored.set_sform(image.affine, 1)
    mirrored.set_qform(np.diag([-1.0, 1, 1, 1]) @ image.affine, 1)
    nibabel.save(mirrored, first)
    confounds = file_of(study, "sub-01/*run-2_confounds.tsv")
    lines = confounds.read_text().splitlines()
    confounds.write_text("\n".join([*lines[1:], lines[-1]]) + "\n")
    edit_events(
        file_of(study, "sub-02/*run-1_events.tsv"),
        lambda table: pd.concat([table, table.tail(1).assign(onset=5000)], ignore_index=True),
    )
    mask = file_of(study, "sub-02/*roi-V1_mask.nii")
    voxels = nibabel.load(mask)
    nibabel.save(
        nibabel.Nifti1Image(voxels.get_fdata(dtype=np.float32)[..., :-1].copy(), voxels.affine),
        mask,
    )
    edit_events(
        file_of(study, "sub-03/*run-2_events.tsv"), lambda table: table.replace("coffee", "tea")
    )
    file_of(study, "sub-03/*roi-LO_mask.nii").unlink()
    file_of(study, "sub-03/*run-1_bold.nii").with_suffix(".json").write_text(
        '{"RepetitionTime": 2.5}'
    )


WRONG = {
    "": [
        "unknown model 'alexnett'; did you mean 'alexnet'",
        "encoding.folds is 100, but the study has 6 photographs",
    ],
    "sub-01": ["mirror images of each other", "confounds.tsv has no header"],
    "sub-02": ["beyond the run's end", "roi-V1_mask.nii has the grid"],
    "sub-03": [
        "roi-LO_mask.nii does not exist",
        "header says a repetition time of 2 s, but",
        "the images: tea (add",
    ],
}


def test_a_study_in_order_is_said_to_be(study, invoke):
    assert [problem.kind for problem in check_study(study)] == [
        "note"
    ]  # six photographs choose voxels badly
    done = invoke(["check", str(study)])
    assert done.exit_code == 0 and "nothing stands in the way" in done.stdout


def test_everything_that_is_wrong_is_told_at_once_by_subject_and_file(study, tmp_path, invoke):
    spoil(study)
    problems = [problem for problem in check_study(study) if problem.kind == "error"]
    for subject, parts in WRONG.items():
        messages = [problem.message for problem in problems if problem.subject == subject]
        assert len(messages) == len(parts), messages
        for part in parts:
            assert sum(part in message for message in messages) == 1, part
    files = {Path(problem.file).name for problem in problems}
    assert {"sub-02_roi-V1_mask.nii", "sub-03_task-images_run-1_bold.nii"} <= files
    done = invoke(["check", str(study)])
    assert done.exit_code == 2
    assert (
        done.stderr.count("error: ") == len(problems) == 9
        and "9 thing(s) to correct" in done.stderr
    )
    with pytest.raises(InputError, match="9 things stand in the way of this study:") as error:
        run_study(study, tmp_path / "out", device="cpu")
    assert all(part in str(error.value) for parts in WRONG.values() for part in parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("ready =", "source ="),
            r'not the AN and AI images .* set \[images\] ready = "photographs"',
        ),
        (
            (
                "sub-02/sub-02_task-images_run-1_bold.nii",
                "sub-01/sub-01_task-images_run-1_bold.nii",
            ),
            "of sub-01; list",
        ),
        (
            ("voxels_per_roi = 10", "voxels_per_roi = 10\n[glm]\nignore = ['rocket', 'blank']"),
            "events: rocket",
        ),
        (("run-1_events.tsv", "run-2_events.tsv"), "run-2 is not run-1"),
        (('"photographs"', '"sub-01"'), "sub-01.*no images|no images in .*sub-01"),
        (('"photographs"', '"pictures"'), "pictures does not exist"),
        (
            ('id = "sub-02"', 'id = "4"'),
            "sub-02_task-images_run-1_bold.nii is of sub-02; list the files of 4",
        ),
        (
            ("sub-03/sub-03_roi-LO", "sub-02/sub-02_roi-LO"),
            "names sub-02, but the images are of sub-03",
        ),
        (
            ("[selection]", "[encoding]\nalphas = [1.0, 1.0]\n[selection]"),
            "encoding: alphas: .* a penalty twice",
        ),
        (
            ("[selection]", "[encoding]\nscheme = 'all'\n[selection]"),
            "encoding: too few stimuli to test: none",
        ),
    ],
)
def test_what_only_tables_and_names_tell_is_found(study, change, message):
    set_setting(study, *change)
    found = "\n".join(str(problem) for problem in check_study(study))
    assert pd.Series([found]).str.contains(message).all(), found


def test_ids_in_another_column_are_found_and_can_be_named(study):
    for path in study.parent.glob("sub-*/*_events.tsv"):
        edit_events(
            path,
            lambda table: table.assign(
                stim_file="x/" + table["trial_type"] + ".png", trial_type="image"
            ),
        )
    errors = [str(problem) for problem in check_study(study) if problem.kind == "error"]
    assert len(errors) == 3
    assert all('holds ids: condition_column = "stim_file"' in error for error in errors)
    study.write_text(
        study.read_text().replace("masks =", 'condition_column = "stim_file"\nmasks =')
    )
    assert [problem.kind for problem in check_study(study)] == ["note"]


def test_a_region_that_a_subject_lacks_is_a_note_with_both_names(study):
    study.write_text(re.sub(r', LO = "sub-02[^"]*"', "", study.read_text()))
    lacking = [str(problem) for problem in check_study(study) if "has no ROI" in problem.message]
    assert lacking == [
        "sub-02: it has no ROI 'LO', and 2 of 3 subjects have it (sub-01, sub-03); results of 'LO' "
        "rest on these alone."
    ]


def test_parts_of_regions_are_not_analyzed_themselves(study, tmp_path):
    text = study.read_text().replace("[brain]", '[brain]\nonly = ["all"]')
    study.write_text(text + '[brain.rois]\nall = "V1 + LO"\n')
    assert not any("share" in problem.message for problem in check_study(study))
    go_on_up_to_patterns(study, tmp_path / "out")
    assert read_patterns(tmp_path / "out" / "patterns" / "sub-01.h5").rois == ("all",)
    study.write_text(study.read_text().replace('only = ["all"]', 'only = ["V1"]'))
    assert not any(problem.kind == "error" for problem in check_study(study))
    go_on_up_to_patterns(study, tmp_path / "out")
    assert read_patterns(tmp_path / "out" / "patterns" / "sub-01.h5").rois == ("V1",)
    study.write_text(study.read_text().replace('only = ["V1"]', 'only = ["V2"]'))
    with pytest.raises(InputError, match="brain: only: unknown ROI 'V2'"):
        check_study(study)


def test_images_that_were_shown_once_are_told_with_the_way_out(study):
    for subject in SUBJECTS:
        edit_events(
            file_of(study, f"{subject}/*run-2_events.tsv"),
            lambda table: table[table["trial_type"].isin(["coffee", "rocket"])],
        )
    errors = [str(problem) for problem in check_study(study) if problem.kind == "error"]
    assert len(errors) == 3
    assert all(
        "without both an odd and an even" in one and "voxels_per_roi = 0" in one for one in errors
    )


def test_repairing_one_subject_makes_that_subject_again_and_what_rests_on_it(study, tmp_path):
    out = tmp_path / "out"
    with pytest.warns(UserWarning, match="voxels are chosen by"):
        run_study(study, out, device="cpu")
    notes = json.loads((out / "provenance.json").read_text())["notes"]
    assert any("voxels are chosen by the reliability" in note for note in notes)
    before = {name: read_patterns(out / "patterns" / f"{name}.h5").digest for name in SUBJECTS}

    sidecar = file_of(study, "sub-02/*run-1_bold.nii").with_suffix(".json")
    sidecar.write_text('{"RepetitionTime": 2.5}')
    with pytest.raises(
        InputError, match=r"sub-02: .* 2 s, but RepetitionTime in .* says 2.5 s. Give .* t_r"
    ):
        run_study(study, out, device="cpu")
    set_setting(study, 'id = "sub-02"', 'id = "sub-02"\nt_r = 2.0')
    heard = go_on_up_to_patterns(study, out)
    own = {"betas of sub-02", "reliable voxels of sub-02"}
    assert own | {"brain RDMs"} == set(heard.ran)
    for subject in ("sub-01", "sub-03"):
        assert {f"betas of {subject}", f"reliable voxels of {subject}"} <= set(heard.kept)
    assert {"stimuli", "network activations", "network RDMs"} <= set(heard.kept)
    assert {
        name: read_patterns(out / "patterns" / f"{name}.h5").digest for name in SUBJECTS
    } == before

    sidecar.write_text(
        '{"RepetitionTime": 2.0, "StartTime": 1.0}'
    )  # the sidecar is part of what the step reads
    heard = go_on_up_to_patterns(study, out)
    assert own <= set(heard.ran) and "betas of sub-01" in heard.kept
    after = {name: read_patterns(out / "patterns" / f"{name}.h5").digest for name in SUBJECTS}
    assert [name for name in SUBJECTS if after[name] != before[name]] == ["sub-02"]

    set_setting(study, "voxels_per_roi = 10", "voxels_per_roi = 10\n[glm]\nunusable = 'drop'")
    heard = go_on_up_to_patterns(study, out)
    assert "network activations" in heard.kept and "betas of sub-01" in heard.ran

    set_setting(study, '"fc8"', '"relu7"')
    with pytest.raises(
        InputError, match=r"different study: there model.stages\[2\] = 'fc8', here 'relu7'"
    ):
        run_study(study, out, device="cpu")


def test_what_messages_advise_can_be_typed(study, tmp_path, invoke):
    subject = study.parent / "sub-01"
    bold = file_of(study, "sub-01/*run-1_bold.nii")
    image = nibabel.load(bold)
    values = image.get_fdata(dtype=np.float32).copy()
    nibabel.save(
        nibabel.Nifti1Image(
            values - values.mean(axis=3, keepdims=True), image.affine, image.header
        ),
        bold,
    )
    command = [
        "fmri",
        "betas",
        "--bold",
        str(bold),
        "--events",
        str(file_of(study, "sub-01/*run-1_events.tsv")),
    ]
    command += ["--masks", f"V1={next(subject.glob('*roi-V1*'))}", "--out", str(tmp_path / "betas")]
    refused = invoke(command)
    assert isinstance(refused.exception, InputError) and "or --units raw." in str(refused.exception)
    options = [
        "--units",
        "raw",
        "--ignore",
        "blank",
        "--ignore",
        "coffee",
        "--slice-time-ref",
        "0.5",
    ]
    options += ["--affine", "sform", "--columns", "trans_x", "--condition-column", "trial_type"]
    options += ["--confounds", str(file_of(study, "sub-01/*run-1_confounds.tsv"))]
    done = invoke([*command, *options])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "betas" / "betas.json").read_text())["provenance"]
    settings = record["settings"]
    assert (settings["units"], settings["slice_time_ref"]) == ("raw", 0.5)
    assert record["runs"][0]["confounds"] == ["trans_x"] and record["runs"][0]["affine"] == "sform"
    assert (
        "coffee"
        not in pd.read_csv(tmp_path / "betas" / "betas.tsv", sep="\t")["condition"].tolist()
    )
    words = ["fmri", "patterns", "--betas"]
    wrong = invoke([*words, str(bold), *command[6:8], "--out", "x.h5"])
    assert "(--volumes FILE)" in str(wrong.exception)
    (tmp_path / "empty").mkdir()
    wrong = invoke([*words, str(tmp_path / "empty"), *command[6:8], "--out", "x.h5"])
    assert "holds no betas: there is no betas.json. Betas (--betas) are a folder" in str(
        wrong.exception
    )


def test_a_stage_that_the_network_does_not_have_is_told_before_work(study):
    text = study.read_text()
    sets = '[metamers]\nsets = [["alexnet"]]\nstage = "relu9"\n[selection]'
    wrong = text.replace('"relu1", "fc8"', '"relu1", "nosuch"').replace("[selection]", sets)
    study.write_text(wrong)
    messages = [str(problem) for problem in check_study(study)]
    assert any("unknown stage of alexnet 'nosuch'" in message for message in messages)
    assert any("metamers.stage" in message and "'relu9'" in message for message in messages)
    # depths are stages wherever stages are asked for
    study.write_text(text.replace('"relu1", "fc8"', '"late", "0.2"'))
    work = Workspace(folder=study.parent / "out", settings=read_settings(study), base=study.parent)
    assert not [problem for problem in find_problems(work) if "stage" in str(problem)]
    assert work.stages == ("relu2", "relu6")


def test_cut_files_and_too_little_memory_are_told_before_work(study):
    set_setting(study, "[selection]", '[glm]\nmax_memory = "1MB"\n[selection]')
    file = file_of(study, "sub-02/*run-1_bold.nii")
    contents = file.read_bytes()
    file.write_bytes(contents[: len(contents) // 2])
    errors = [problem for problem in check_study(study) if problem.kind == "error"]
    assert [problem.subject for problem in errors] == list(SUBJECTS)
    assert "run-1_bold.nii is cut off" in errors[1].message and "run-1" in errors[1].file
    assert "[glm] max_memory is 1MB" in errors[0].message and "MB at least" in errors[0].message
    file.write_bytes(contents)
    set_setting(study, 'max_memory = "1MB"', 'max_memory = "1kB"\nn_noise = "auto"')
    assert "all runs at once" in "".join(map(str, check_study(study)))


def test_the_values_of_an_image_of_two_files_make_a_step_again(study, tmp_path):
    file = file_of(study, "sub-02/*run-1_bold.nii")
    image = nibabel.load(file)
    pair = file.with_suffix(".hdr")
    series = image.get_fdata()
    nibabel.save(nibabel.Nifti1Pair(series, image.affine, image.header), pair)
    set_setting(study, f"sub-02/{file.name}", f"sub-02/{pair.name}")
    assert "betas of sub-02" in go_on_up_to_patterns(study, tmp_path / "out").ran
    assert not go_on_up_to_patterns(study, tmp_path / "out").ran
    header = pair.read_bytes()
    later = np.roll(series, 1, axis=3)
    nibabel.save(nibabel.Nifti1Pair(later, image.affine, image.header), pair)
    assert pair.read_bytes() == header
    assert "betas of sub-02" in go_on_up_to_patterns(study, tmp_path / "out").ran


def test_a_folder_in_which_no_step_has_finished_is_taken_over(study, tmp_path):
    work = Workspace(folder=tmp_path / "out", settings=read_settings(study), base=study.parent)

    def fail(workspace, progress):
        raise InputError("no network")

    step = replace(plan_steps(work)[0], run=fail)
    with pytest.raises(InputError, match="no network"):
        carry_out([step], work, None)
    set_setting(study, '"fc8"', '"relu7"')
    assert go_on_up_to_patterns(study, tmp_path / "out").ran
    set_setting(study, '"relu7"', '"fc8"')
    with pytest.raises(InputError, match="holds a different study"):
        go_on_up_to_patterns(study, tmp_path / "out")


def test_durations_in_some_runs_only_are_told_before_work(study):
    file = min(study.parent.glob("sub-01/*events.tsv"))
    table = pd.read_csv(file, sep="\t")
    table.assign(duration=0.0).to_csv(file, sep="\t", index=False)
    (message,) = [problem.message for problem in check_study(study) if problem.kind == "error"]
    assert "Their betas would have different units" in message
