"""The twins of the stimulus commands: a folder made with other settings is refused, whatever the
setting.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from neurometamer.commands.metamers import stimuli_metamer
from neurometamer.commands.stimuli import make_stimuli
from neurometamer.errors import InputError
from neurometamer.provenance import digest_file
from neurometamer.run_options import RunOptions
from neurometamer.store import read_json
from stimuli_gen import Progress, read_stimuli


def test_another_decay_into_the_same_folder_is_refused(tmp_path, write_study):
    write_study(tmp_path)
    making: dict[str, Any] = {
        "model": "alexnet",
        "weights": "random",
        "run": RunOptions(device="cpu"),
        "images": tmp_path / "photographs.csv",
        "out": tmp_path / "an",
        "max_steps": 1,
        "objective": "probability",
        "pull": 0.0,
    }
    first = make_stimuli("noise", **making, progress_rule=Progress(decay=0.01))
    assert make_stimuli("noise", **making, progress_rule=Progress(decay=0.01)).equals(first)
    with pytest.raises(InputError, match=r"made otherwise \(other progress\)"):
        make_stimuli("noise", **making, progress_rule=Progress(decay=0.02))
    with pytest.raises(InputError, match=r"made otherwise \(other progress\)"):
        make_stimuli("noise", **making)


@pytest.mark.data
def test_metamers_of_a_set_with_a_file_of_one_network(shared_data, tmp_path, write_study):
    write_study(tmp_path)
    table = pd.read_csv(tmp_path / "photographs.csv").head(2)
    table.to_csv(tmp_path / "two.csv", index=False)
    file = shared_data / "weights" / "squeezenet1_0_imagenet.npz"
    making: dict[str, Any] = {
        "stage": "early",
        "images": tmp_path / "two.csv",
        "out": tmp_path / "m",
        "preset": "boehm2025",
        "steps": 1,
        "run": RunOptions(device="cpu", batch_size=2),
    }
    names = ["squeezenet1_0", "efficientnet_lite0"]
    made = stimuli_metamer(names, weights={"squeezenet1_0": file}, **making)
    tags = [f"file {file.name} ({digest_file(file)})", "imagenet (efficientnet-lite0-57934424.pth)"]
    assert set(made["weights"]) == {"; ".join(tags)} and set(made["note"].fillna("")) == {""}
    for told in (
        read_stimuli(tmp_path / "m").provenance,
        read_json(tmp_path / "m" / "provenance.json"),
    ):
        assert [(one["name"], one["weights"]) for one in told["models"]] == list(
            zip(names, tags, strict=True)
        )
    again = stimuli_metamer(
        names, weights=f"squeezenet1_0={file}", **making
    )  # the same, as the command says it
    pd.testing.assert_frame_equal(again, made)
    with pytest.raises(InputError, match=r"made otherwise \(other model or weights\)"):
        stimuli_metamer(names, weights=f"squeezenet1_0={file},efficientnet_lite0=random", **making)
