"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

hypothesis.settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("unhurried")
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # as the command line does; read when torch is loaded
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # one process a core: threads of several would only wait for each other
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets; tests that ask for it are skipped, with the reason, where it is absent."""
    folder = Path(os.environ.get("NEUROMETAMER_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test data not found at {folder}; set NEUROMETAMER_TEST_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """Let Ctrl-C mean what it means in a terminal: a job in the background of a shell is begun with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def invoke():
    """Run a command in this process; give its exit code, exception and what it printed."""
    from neurometamer.cli.app import run

    def _invoke(words) -> SimpleNamespace:
        done = SimpleNamespace(exit_code=0, exception=None, stdout="", stderr="")
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                done.exit_code = run(list(words))
            except Exception as error:
                done.exception, done.exit_code = error, 2
        done.stdout, done.stderr = out.getvalue(), err.getvalue()
        done.output = done.stdout + done.stderr
        return done

    return _invoke
