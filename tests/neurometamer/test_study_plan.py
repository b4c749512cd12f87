"""A plan redoes only what changed, survives being killed, and refuses a folder that holds something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neurometamer.store import InputError, write_text
from neurometamer.study.plan import Step, Workspace, carry_out
from neurometamer.study.settings import check_settings


class Counter:
    """Steps that count how often they ran: `a` writes a number, `b` reads it."""

    def __init__(self, reads: tuple[Path, ...] = ()):
        self.runs: list[str] = []
        self.fail = False
        self.steps = [
            Step(name="a", title="A", run=self._a, sections=("rsa",), reads=reads),
            Step(name="b", title="B", run=self._b, needs=("a",), sections=("encoding",)),
        ]

    def _a(self, work, progress):
        self.runs.append("a")
        return [write_text(work.path("a.txt"), f"{work.settings.rsa.resamples}")]

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
    with pytest.raises(InputError, match=r"different study: there rsa.resamples = 1000, here 10\."):
        carry_out(Counter().steps, workspace(tmp_path / "out", rsa={"resamples": 10}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty and holds no study"):
        carry_out(Counter().steps, workspace(tmp_path / "mine"))


@pytest.mark.skipif(sys.platform == "win32", reason="the lock is a POSIX one")
def test_two_processes_do_not_work_in_one_folder(tmp_path):
    work = workspace(tmp_path / "out")
    carry_out(Counter().steps, work)
    hold = (
        "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(work.state("lock"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(InputError, match="another process is working in"):
            carry_out(Counter().steps, work)
        other.stdin.close()
    carry_out(Counter().steps, work)
