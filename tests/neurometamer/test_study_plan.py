"""A plan redoes only what changed, survives being killed, and refuses a folder that holds something
else.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from neurometamer.errors import InputError
from neurometamer.resume import read_record, write_record
from neurometamer.store import write_text
from neurometamer.study.plan import Step, Workspace, carry_out
from neurometamer.study.settings import check_settings
from neurometamer.study.steps import STEPS, StepEntry, plan_steps


class Counter:
    """Steps that count how often they ran: `a` writes a number, `b` reads it."""

    def __init__(self, reads: tuple[Path, ...] = ()):
        self.runs: list[str] = []
        self.fail = False
        self.offset = 0
        self.steps = [
            Step(name="a", title="A", run=self._a, sections=("rsa",), reads=reads),
            Step(name="b", title="B", run=self._b, needs=("a",), sections=("encoding",)),
        ]

    def _a(self, work, progress):
        self.runs.append("a")
        return [write_text(work.path("a.txt"), f"{work.settings.rsa.n_resamples + self.offset}")]

    def _b(self, work, progress):
        self.runs.append("b")
        if self.fail:
            raise KeyboardInterrupt
        return [write_text(work.path("sub", "b.txt"), work.path("a.txt").read_text() + "!")]


def workspace(folder, **sections):
    return Workspace(folder=folder, settings=check_settings(sections), base=folder.parent)


def test_a_second_run_does_nothing(tmp_path):
    plan = Counter()
    for _ in range(2):
        seconds = carry_out(plan.steps, workspace(tmp_path / "out"))
    assert plan.runs == ["a", "b"]
    assert set(seconds) == {"a", "b"}
    assert (tmp_path / "out" / "sub" / "b.txt").read_text() == "1000!"


def test_an_interrupted_run_goes_on_where_it_was_and_sweeps_up(tmp_path):
    plan = Counter()
    plan.fail = True
    work = workspace(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        carry_out(plan.steps, work)
    litter = tmp_path / "out" / ".part-x-b.txt"
    litter.write_text("half")
    plan.fail = False
    carry_out(plan.steps, work)
    assert plan.runs == ["a", "b", "b"]
    assert not litter.exists()


def test_a_changed_or_lost_output_and_a_changed_input_are_made_again(tmp_path):
    photograph = tmp_path / "photo.txt"
    photograph.write_text("1")
    plan = Counter(reads=(photograph,))
    work = workspace(tmp_path / "out")
    carry_out(plan.steps, work)
    (tmp_path / "out" / "sub" / "b.txt").write_text("edited")
    carry_out(plan.steps, work)
    assert plan.runs == ["a", "b", "b"]
    photograph.write_text("2")
    carry_out(plan.steps, work)
    assert plan.runs == ["a", "b", "b", "a", "b"]


def test_another_study_in_the_folder_is_refused_by_its_first_difference(tmp_path):
    carry_out(Counter().steps, workspace(tmp_path / "out"))
    with pytest.raises(
        InputError, match=r"different study: there rsa.n_resamples = 1000, here 10\."
    ):
        carry_out(Counter().steps, workspace(tmp_path / "out", rsa={"n_resamples": 10}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty and holds no study"):
        carry_out(Counter().steps, workspace(tmp_path / "mine"))


def test_what_is_damaged_is_removed_and_later_steps_run_only_when_it_comes_out_otherwise(
    tmp_path, caplog
):
    plan = Counter()
    work = workspace(tmp_path / "out")
    carry_out(plan.steps, work)
    (tmp_path / "out" / "a.txt").write_text("1001")
    carry_out(plan.steps, work)
    assert plan.runs == ["a", "b", "a"]  # b was made of the right a
    assert (tmp_path / "out" / "a.txt").read_text() == "1000"
    assert "a.txt is damaged or incomplete" in caplog.text
    plan.offset = 1
    (tmp_path / "out" / "a.txt").unlink()
    carry_out(plan.steps, work)
    assert plan.runs == ["a", "b", "a", "a", "b"]
    assert (tmp_path / "out" / "sub" / "b.txt").read_text() == "1001!"


def test_a_step_never_finds_its_damaged_output(tmp_path):
    seen = []

    def run(work, progress):
        seen.append(work.path("a.txt").exists())
        return [write_text(work.path("a.txt"), "right")]

    work = workspace(tmp_path / "out")
    for _ in range(2):
        carry_out([Step(name="a", title="A", run=run)], work)
        work.path("a.txt").write_text("wrong")
    assert seen == [False, False]


def test_every_file_that_a_step_writes_is_recorded_and_what_it_no_longer_writes_goes(tmp_path):
    photograph = write_text(tmp_path / "photo.txt", "2")

    def run(work, progress):
        for number in range(int(photograph.read_text())):
            write_text(work.path("figures", f"{number}.svg"), "drawn")
        write_text(work.state("finished", "kept.h5"), "outlives the step")
        return []

    work = workspace(tmp_path / "out")
    steps = [Step(name="a", title="A", run=run, reads=(photograph,))]
    carry_out(steps, work)
    assert set(read_record(work.state("steps", "a.json"))["outputs"]) == {
        "figures/0.svg",
        "figures/1.svg",
    }
    work.path("figures", "1.svg").write_text("smudged")
    carry_out(steps, work)
    assert work.path("figures", "1.svg").read_text() == "drawn"
    photograph.write_text("1")
    carry_out(steps, work)
    assert not work.path("figures", "1.svg").exists()


def test_records_that_are_damaged_or_name_files_outside_are_not_used(tmp_path):
    plan = Counter()
    work = workspace(tmp_path / "out")
    carry_out(plan.steps, work)
    record = work.state("steps", "a.json")
    for damaged in (b"", b"{}", b"[]", record.read_bytes()[:-9], b"\xff\xfe"):
        record.write_bytes(damaged)
        carry_out(plan.steps, work)
    assert plan.runs == ["a", "b"] + ["a"] * 5
    for mark in (b"", b"{}", work.state("study.json").read_bytes().replace(b"1000", b"1010")):
        work.state("study.json").write_bytes(mark)
        carry_out(plan.steps, work)
    assert plan.runs == ["a", "b"] + ["a"] * 5
    mine = write_text(tmp_path / "mine.txt", "mine")
    key = read_record(record)["key"]
    write_record(record, {"key": key, "outputs": {"../mine.txt": "0", "a.txt": "0"}})
    carry_out(plan.steps, work)
    assert mine.read_text() == "mine"


def test_equal_runs_leave_equal_files_but_for_one_of_wall_times(tmp_path):
    contents = []
    for name in ("one", "two"):
        carry_out(Counter().steps, workspace(tmp_path / name))
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
        assert (tmp_path / name / ".state" / "seconds.json").is_file()
    assert contents[0].keys() == contents[1].keys()
    differing = {path.name for path in contents[0] if contents[0][path] != contents[1][path]}
    assert differing <= {"seconds.json"}


def subject(tmp_path, **more):
    files = {"bold": ["a.nii"], "events": ["a.tsv"], "masks": {"V1": "v1.nii"}}
    return {"brain": {"source": "bold", "subjects": [{"id": "sub-01", **files, **more}]}}


def test_repairing_a_subject_is_the_same_study(tmp_path):
    plan = Counter()
    carry_out(plan.steps, workspace(tmp_path / "out", **subject(tmp_path)))
    carry_out(plan.steps, workspace(tmp_path / "out", **subject(tmp_path, t_r=2.0)))
    assert plan.runs == ["a", "b"]
    with pytest.raises(InputError, match=r"there brain\.source = 'bold', here 'simulated'"):
        carry_out(plan.steps, workspace(tmp_path / "out"))


def test_the_first_difference_is_never_cut(tmp_path):
    stages = [f"a_stage_with_a_long_name_{number}" for number in range(20)]
    carry_out(
        Counter().steps, workspace(tmp_path / "out", model={"name": "alexnet", "stages": stages})
    )
    other = {"name": "alexnet", "stages": [*stages[:-1], "another"]}
    with pytest.raises(
        InputError, match=r"model\.stages\[20\] = 'a_stage_with_a_long_name_19', here 'another'"
    ):
        carry_out(Counter().steps, workspace(tmp_path / "out", model=other))


def test_a_study_that_lost_its_mark_goes_on(tmp_path, caplog):
    counter, work = Counter(), workspace(tmp_path / "out")
    carry_out(counter.steps, work)
    ran = list(counter.runs)
    work.state("study.json").unlink()
    carry_out(counter.steps, work)
    assert counter.runs == ran and work.state("study.json").is_file()
    assert "study.json is damaged or incomplete" in caplog.text


def test_a_folder_in_place_of_an_output_is_left_alone_and_told(tmp_path):
    work = workspace(tmp_path / "out")
    carry_out(Counter().steps, work)
    work.path("a.txt").unlink()
    write_text(work.path("a.txt") / "mine.txt", "mine")
    with pytest.raises(
        InputError, match=r"a\.txt is a folder where the study keeps a file; move it away"
    ):
        carry_out(Counter().steps, work)
    assert (work.path("a.txt") / "mine.txt").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links are POSIX ones")
def test_a_folder_with_links_out_of_it_is_not_worked_in(tmp_path):
    work = workspace(tmp_path / "out")
    carry_out(Counter().steps, work)
    profile = write_text(tmp_path / "profile", "mine")
    work.path("a.txt").unlink()
    work.path("a.txt").symlink_to(profile)
    with pytest.raises(InputError, match=r"links that lead out of it.*a\.txt"):
        carry_out(Counter().steps, work)
    assert profile.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is a POSIX one")
def test_two_processes_do_not_work_in_one_folder(tmp_path):
    work = workspace(tmp_path / "out")
    carry_out(Counter().steps, work)
    hold = (
        "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(work.state("lock"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(InputError, match=r"(another process|process .*) is working in"):
            carry_out(Counter().steps, work)
        other.stdin.close()
    carry_out(Counter().steps, work)


def test_an_entry_of_the_table_is_a_step_of_every_study_that_has_it(tmp_path, monkeypatch):
    made = StepEntry(title="dummy", run=print, writes=(), needs=("stimuli", "cortex"))
    own = StepEntry(
        title="dummy of {part}",
        run=print,
        writes=(),
        needs=("betas-{part}", "made"),
        when=lambda work: work.settings.brain.source == "simulated",
        parts=STEPS["betas"].parts,
    )
    monkeypatch.setitem(STEPS, "made", made)
    monkeypatch.setitem(STEPS, "own", own)
    simulated = {step.name: step for step in plan_steps(workspace(tmp_path / "out"))}
    assert simulated["made"].needs == ("stimuli", "cortex")
    assert simulated["own-sub-02"].needs == ("betas-sub-02", "made")
    assert simulated["own-sub-02"].title == "dummy of sub-02"
    alone = plan_steps(workspace(tmp_path / "out", brain={"source": "none"}))
    assert [step.name for step in alone][-1] == "made"
    assert alone[-1].needs == ("stimuli",)
    monkeypatch.setitem(STEPS, "wrong", replace(made, needs=("later",)))
    with pytest.raises(LookupError, match="wrong needs later, which does not come before"):
        plan_steps(workspace(tmp_path / "out"))
