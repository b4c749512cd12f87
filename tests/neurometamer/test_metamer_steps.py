"""Metamers inside a study: one network and a set, judged by a third, from the saved files; kept
when run again.
"""

from __future__ import annotations

import numpy as np

from neurometamer.report.study import build_report
from neurometamer.store import read_json, read_table, write_json
from neurometamer.study.plan import Workspace, carry_out
from neurometamer.study.settings import check_settings
from neurometamer.study.steps import plan_steps
from stimuli_gen.presets import PRESETS
from stimuli_gen.stimuli import read_png, read_stimuli

NAMES = ("efficientnet_lite0", "efficientnet_lite1")


def test_sets_of_networks_of_other_sizes_are_judged_by_a_third_from_their_files(tmp_path):
    chosen = {
        "sets": [NAMES[:1], NAMES],
        "evaluators": ["efficientnet_lite2"],
        "steps": 2,
        "photographs": ["cat", "coffee"],
        "null_pairs": 3,
        "overrides": {"step_size": 0.01},
        "penalties": ["total_variation:0.001:1"],
    }
    settings = check_settings({"metamers": chosen, "run": {"device": "cpu"}})
    work = Workspace(folder=tmp_path / "out", settings=settings, base=tmp_path)
    steps = [one for one in plan_steps(work) if one.name.startswith("metamer")]
    assert [one.name for one in steps] == ["metamers-1", "metamers-2", "metamer-evaluators"]
    carry_out(steps, work)
    table = read_table(work.path("tables", "metamers.csv"))
    assert len(table) == 4 and set(table["evaluator"]) == {"efficientnet_lite2"}
    assert table["n_networks"].tolist() == [1, 1, 2, 2]
    assert set(table["steps"]) == {2}
    for name, part in table.groupby("set"):
        both = read_stimuli(work.path("metamers", name))
        assert both.images.shape == (4, 3, 224, 224)  # Lite1 sees what Lite0 sees
        (record,) = [part for part in both.provenance["parts"] if "models" in part]
        (penalty,) = record["settings"]["penalties"]
        assert (penalty["kind"], penalty["weight"]) == ("total_variation", 0.001)
        assert penalty["power"] == 1.0
        for one, image in zip(both.ids, both.as_shown().images):
            np.testing.assert_array_equal(
                read_png(work.path("metamers", name, "png", f"{one}.png")), image
            )
        agreed = part["evaluator_says"] == part["evaluator_says_photograph"]
        assert (agreed == part["same_class"]).all()
        columns = [column for column in both.table if column.startswith("loss_png")]
        made = both.table[both.table["kind"] == "metamer"].set_index("id").loc[part["id"]]
        np.testing.assert_allclose(
            part["loss_png"], made[columns].astype(float).max(axis=1), rtol=1e-6
        )
    written = work.path("metamers", NAMES[0], "stimuli.h5").stat().st_mtime_ns
    carry_out(steps, work)
    assert work.path("metamers", NAMES[0], "stimuli.h5").stat().st_mtime_ns == written
    choices = list(PRESETS["fast"].open_choices)
    write_json(
        work.path("provenance.json"),
        {"settings": settings.everything(), "metamers": {"open_choices": choices}},
    )
    page = build_report(work.folder).read_text()
    assert "few steps of Adam" in page and "efficientnet_lite2" in page
    assert read_json(work.path("provenance.json"))["metamers"]["open_choices"] == choices
