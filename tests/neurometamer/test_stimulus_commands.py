"""The twins of the stimulus commands: a folder made with other settings is refused, whatever the setting."""

from __future__ import annotations

from typing import Any

import pytest

from neurometamer.store import InputError
from neurometamer.study.stimulus_commands import make_stimuli
from stimuli_gen import Progress


def test_another_decay_into_the_same_folder_is_refused(tmp_path, write_study):
    write_study(tmp_path)
    making: dict[str, Any] = {
        "model": "alexnet", "weights": "random", "device": "cpu", "images": tmp_path / "photographs.csv",
        "out": tmp_path / "an", "max_steps": 1, "objective": "probability", "pull": 0.0,
    }  # fmt: skip
    first = make_stimuli("noise", **making, progress_rule=Progress(decay=0.01))
    assert make_stimuli("noise", **making, progress_rule=Progress(decay=0.01)).equals(first)
    with pytest.raises(InputError, match=r"made otherwise \(other progress\)"):
        make_stimuli("noise", **making, progress_rule=Progress(decay=0.02))
    with pytest.raises(InputError, match=r"made otherwise \(other progress\)"):
        make_stimuli("noise", **making)
