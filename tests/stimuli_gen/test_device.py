"""Generators on a device that is not the CPU: a pretended one that counts copies and waits.

No GPU is at hand where these tests run; what they show is which data cross between host and
device, how often the host waits, and that no tensor is on the wrong side.
"""

from pathlib import Path

from tests.helpers.pretended_device import run_alone

HERE = Path(__file__).parent


def test_in_a_process_of_its_own():
    ended = run_alone(HERE / "device_counter.py", str(HERE / "device_generators.py"))
    assert ended.returncode == 0, ended.stdout + ended.stderr
