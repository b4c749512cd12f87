"""What is kept between calls is used, made again or refused; one process works in a folder at a
time.
"""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest

from neurometamer import resume
from neurometamer.errors import DamagedFile, FolderInUse, InputError, OutputError
from neurometamer.store import read_json, write_json, write_text

posix = pytest.mark.skipif(os.name != "posix", reason="locks and links are POSIX ones")


def flipped(contents: bytes) -> list[bytes]:
    """Flip one bit of every byte, one at a time."""
    return [
        contents[:at] + bytes([contents[at] ^ 4]) + contents[at + 1 :]
        for at in range(len(contents))
    ]


def test_a_record_comes_back_or_is_known_to_be_damaged(tmp_path):
    path = tmp_path / "record.json"
    record = {"key": "abc", "outputs": {"a.h5": "12"}, "seconds": 0.1, "list": [1, None, "é"]}
    resume.write_record(path, record)
    contents = path.read_bytes()
    assert resume.read_record(path) == record
    for damaged in (*flipped(contents), contents[:40], b"", b"{}", b"[1]", b'{"checksum": "x"}'):
        path.write_bytes(damaged)
        try:
            assert resume.read_record(path) == record  # white space and the like
        except DamagedFile as error:
            assert "record.json is damaged" in str(error)
    with pytest.raises(InputError, match="does not exist"):
        resume.read_record(tmp_path / "none.json")


def test_a_piece_is_used_when_it_is_as_written_and_else_made_again(tmp_path, caplog):
    made = []

    def make():
        made.append(1)
        return pd.DataFrame({"id": ["007", "b", "c"], "x": [0.1 + 0.2, 1e-300, 2.5]})

    first = resume.kept_piece(tmp_path, "recognition", ["key"], make)
    assert first["x"].tolist() == [0.1 + 0.2, 1e-300, 2.5]
    (path,) = (tmp_path / ".finished").iterdir()
    contents = path.read_bytes()
    pd.testing.assert_frame_equal(resume.kept_piece(tmp_path, "recognition", ["key"], make), first)
    assert len(made) == 1
    damages = [contents[: len(contents) // 2], b"<html>moved</html>", b"", *flipped(contents)[::5]]
    for damaged in damages:
        path.write_bytes(damaged)
        pd.testing.assert_frame_equal(
            resume.kept_piece(tmp_path, "recognition", ["key"], make), first
        )
        assert path.read_bytes() == contents
    assert len(made) == 1 + len(damages)
    assert "is damaged or incomplete; it is not used and is made again" in caplog.text


def test_a_claimed_folder_is_kept_remade_or_refused(tmp_path):
    recipe = {"settings": {"n": 3}, "digests": {"data": "1"}}
    out = tmp_path / "out"
    resume.claim_folder(out, "recognition", recipe)
    resume.claim_folder(out, "recognition", recipe)
    with pytest.raises(InputError, match=r"another analysis \(other n\)"):
        resume.claim_folder(out, "recognition", {**recipe, "settings": {"n": 4}})
    with pytest.raises(InputError, match=r"another analysis \(other data\)"):
        resume.claim_folder(out, "recognition", {**recipe, "digests": {"data": "2"}})
    with pytest.raises(InputError, match="something else than an analysis of metamers"):
        resume.claim_folder(out, "metamers", recipe)
    mark = out / "provenance.json"
    mark.write_text(mark.read_text().replace('"n": 3', '"n": 2'))
    resume.claim_folder(out, "recognition", recipe)
    assert read_json(mark)["settings"] == {"n": 3}
    write_json(mark, {"analysis": "recognition", "by": "somebody else"})
    with pytest.raises(InputError, match="something else"):
        resume.claim_folder(out, "recognition", recipe)


@posix
def test_links_out_of_a_folder_are_refused_and_those_within_are_not(tmp_path):
    folder, outside = tmp_path / "study", tmp_path / "secret.csv"
    write_text(outside, "x")
    write_text(folder / "tables" / "real.csv", "x")
    (folder / "tables" / "inner.csv").symlink_to("real.csv")
    resume.refuse_links_out(folder)
    resume.refuse_links_out(tmp_path / "none")
    (tmp_path / "link").symlink_to(folder)
    resume.refuse_links_out(tmp_path / "link")
    (folder / "tables" / "image_types.csv").symlink_to(outside)
    (folder / "rdms").symlink_to(tmp_path)
    with pytest.raises(
        InputError, match=r"links that lead out of it.*: rdms, tables/image_types\.csv"
    ):
        resume.refuse_links_out(folder)


HOLD = """
import sys
from pathlib import Path
from neurometamer.resume import only_process
with only_process(Path(sys.argv[1]), "there"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(lock: Path) -> subprocess.Popen:
    """Start a process that holds the lock until its input is closed."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline().strip() == b"held"
    return other


@posix
def test_the_second_process_is_told_who_holds_the_folder(tmp_path):
    lock = tmp_path / ".state" / "lock"
    with holding(lock) as other:
        told = rf"process {other.pid} on .* is working in OUT"
        with pytest.raises(FolderInUse, match=told), resume.only_process(lock, "OUT"):
            raise AssertionError
        assert f"process {other.pid} on" in resume.who_holds(lock)
        other.stdin.close()
    with resume.only_process(lock, "OUT"):
        assert resume.who_holds(lock) == ""
    assert not lock.exists()
    with holding(lock) as other:
        other.send_signal(signal.SIGKILL)
    assert resume.who_holds(lock) == ""
    with resume.only_process(lock, "OUT"):
        pass


@posix
def test_a_lock_that_is_a_link_empties_nobodys_file(tmp_path):
    thesis = write_text(tmp_path / "thesis.tex", "years of work")
    for place in (
        lambda lock: lock.symlink_to(thesis),
        lambda lock: lock.hardlink_to(thesis),
        os.mkfifo,
        os.mkdir,
    ):
        lock = tmp_path / "lock"
        place(lock)
        with (
            pytest.raises(InputError, match="is not a lock file"),
            resume.only_process(lock, "OUT"),
        ):
            raise AssertionError
        lock.rmdir() if lock.is_dir() else lock.unlink()
    assert thesis.read_text() == "years of work"


@posix
def test_a_call_works_alone_in_a_folder_and_may_call_others(tmp_path):
    out = tmp_path / "a" / "out"

    def inner():
        with resume.alone_in(out):
            return sorted(path.name for path in out.iterdir())

    heard = []

    def another_thread():
        with (
            pytest.raises(FolderInUse, match=rf"process {os.getpid()} on .* is working in"),
            resume.alone_in(out),
        ):
            raise AssertionError
        heard.append("kept out")

    with resume.alone_in(out):
        assert inner() == [".lock"]
        thread = threading.Thread(target=another_thread)
        thread.start()
        thread.join()
    assert heard == ["kept out"]
    assert not (tmp_path / "a").exists()  # nothing was made there
    with resume.alone_in(out):
        write_text(out / "a.csv", "x")
    assert [path.name for path in out.iterdir()] == ["a.csv"]
    with (
        pytest.raises(InputError, match=r"a\.csv is not a folder; choose another --out"),
        resume.alone_in(out / "a.csv"),
    ):
        raise AssertionError


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    write_text(tmp_path / "file", "x")
    with pytest.raises(OutputError) as error, resume.alone_in(tmp_path / "file" / "out"):
        raise AssertionError
    assert error.value.filename == str(tmp_path / "file" / "out")


def commands_that_fill_a_folder():
    """Name each with its argument for the folder."""
    from fmri.betas.beta_files import write_betas
    from neurometamer import commands
    from neurometamer.behavior.experiment import write_experiment_page
    from neurometamer.commands.behavior import behavior_analyze
    from neurometamer.commands.metamers import stimuli_metamer
    from neurometamer.commands.set_evaluation import evaluate_metamer_sets
    from neurometamer.commands.stimuli import make_stimuli, stimuli_control
    from neurometamer.evaluation.model_sets import plan_sets
    from neurometamer.report.image_types import write_image_type_figures

    by_out = (
        make_stimuli,
        stimuli_control,
        stimuli_metamer,
        commands.layers,
        commands.searchlight,
        commands.draw,
    )
    by_out += (behavior_analyze, evaluate_metamer_sets, write_experiment_page)
    return [(function, "out") for function in by_out] + [
        (figure_code, "folder")
        for figure_code in (write_betas, write_image_type_figures, plan_sets)
    ]


@posix
def test_no_command_writes_into_a_folder_in_which_another_works(tmp_path):
    out = tmp_path / "out"
    with holding(out / resume.FOLDER_LOCK) as other:
        for command, argument in commands_that_fill_a_folder():
            parameters = inspect.signature(command).parameters.values()
            single = [
                parameter
                for parameter in parameters
                if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            ]
            needed = {
                parameter.name: None for parameter in single if parameter.default is parameter.empty
            }  # nothing is read before
            with pytest.raises(FolderInUse, match=rf"process {other.pid} on"):
                command(**{**needed, argument: out})
        other.stdin.close()
    assert not out.exists()  # who had the folder made nothing in it


@posix
def test_parts_of_files_of_a_killed_process_are_swept_up(tmp_path):
    out = tmp_path / "out"
    code = (
        "import os, signal, sys\n"
        "from neurometamer import resume\n"
        "from neurometamer.store import atomic_path\n"
        "with resume.alone_in(sys.argv[1]), atomic_path(sys.argv[1] + '/png/a.png') as part:\n"
        "    part.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    out.mkdir()
    older, beside = out / ".part-older", out / "job" / ".part-b"
    write_text(older, "x")
    os.utime(older, (1, 1))
    assert subprocess.run([sys.executable, "-c", code, str(out)]).returncode == -signal.SIGKILL
    (litter,) = (out / "png").iterdir()
    assert litter.name.startswith(".part-")
    write_text(beside, "another writes here")
    with resume.alone_in(out / "job"), resume.alone_in(out):
        assert not litter.exists()
        assert older.exists()  # who left that is not known
    write_text(litter, "x")
    with resume.alone_in(out):
        assert litter.exists()  # nobody died
