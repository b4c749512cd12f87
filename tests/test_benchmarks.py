"""The benchmarks run where no peer is installed, and write what they say they write."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def benchmarks(monkeypatch):
    """Import the benchmarks from the checkout, with the peers hidden."""
    monkeypatch.syspath_prepend(ROOT)
    for peer in ("plenoptic", "foolbox", "torchattacks"):
        monkeypatch.setitem(sys.modules, peer, None)
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("TQDM_DISABLE", "1")):
        monkeypatch.setenv(name, value)
    return importlib.import_module("benchmarks.__main__")


def test_a_bar_is_measured_and_written_as_json_and_markdown(benchmarks, tmp_path, capsys):
    assert benchmarks.main(["--only", "P6", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results" / "P6.json").read_text(encoding="utf-8"))
    exact = [row for row in found["rows"] if ", exact: " in row["what"]]
    assert found["quick"] is True
    assert len(exact) == 14  # seven generators, alone and shuffled
    assert [row["what"] for row in exact if row["value"] != 0] == []
    assert all(row["met"] for row in exact)
    assert all("changed by up to 0.00" not in row["note"] for row in exact)  # something was made
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| P6 |" in page and exact[0]["what"] in page and "torch" in page
    assert "P6" in capsys.readouterr().out


def test_a_time_counts_only_for_images_as_good(benchmarks):
    metamers, timing = (
        importlib.import_module("benchmarks.metamers"),
        importlib.import_module("benchmarks.timing"),
    )
    times = {
        name: timing.Times(cpu=cpu, wall=cpu, whole_cpu=cpu, result=None)
        for name, cpu in (("ours", 1.0), ("peer", 2.0))
    }
    row = metamers._against("x", "ours", "peer", times, {"ours": 0.100, "peer": 0.098}, 0.85)
    assert (row.value, row.met) == (0.5, True)
    row = metamers._against("x", "ours", "peer", times, {"ours": 0.110, "peer": 0.098}, 0.85)
    assert (row.value, row.met) == (None, None) and "does not count" in row.note


def test_a_missing_peer_is_told_and_a_bound_is_judged(benchmarks):
    bars, networks = (
        importlib.import_module("benchmarks.bars"),
        importlib.import_module("benchmarks.networks"),
    )
    with pytest.raises(bars.NotAvailable, match="plenoptic is not installed"):
        networks.peer(lambda: importlib.import_module("plenoptic"), "plenoptic")
    assert (
        bars.Row(what="x", value=0.9, sense="<=", bound=0.85).verdict
        == "MISSED (1.06 of the bound)"
    )
    assert bars.Row(what="x", value=100.0, sense=">=", bound=100.0).met


def test_an_unknown_bar_is_refused(benchmarks, tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["--only", "P99", "--out", str(tmp_path)])
    assert "P99" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bars_of_the_evaluation_are_measured(benchmarks, tmp_path):
    assert benchmarks.main(["--only", "E1,E2,E3", "--quick", "--out", str(tmp_path)]) == 0
    found = {
        name: json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))[
            "rows"
        ]
        for name in ("E1", "E2", "E3")
    }
    assert [row["bound"] for row in found["E1"]] == [60.0, 1.5] and all(
        row["value"] for row in found["E1"]
    )
    assert [row["bound"] for row in found["E2"]] == [60.0] and all(
        row["value"] for row in found["E2"]
    )
    (anova,) = found["E3"]
    assert "F(1, 19) = 242.218" in anova["note"] or anova["note"].startswith("the table of Feather")


def test_image_metrics_of_other_values_or_without_their_peer_have_no_time(benchmarks, monkeypatch):
    evaluation = importlib.import_module("benchmarks.evaluation")
    few = evaluation._pairs(1)
    ours = evaluation._measured(*few)
    monkeypatch.setattr(evaluation, "_measured", lambda *_: {**ours, "scc": ours["scc"] + 0.01})
    with pytest.raises(AssertionError, match="scc"):
        evaluation._beside_torchmetrics(few, 1)
    monkeypatch.setitem(sys.modules, "torchmetrics.image", None)
    (row,) = evaluation._beside_torchmetrics(few, 1)
    assert row.value is None and "torchmetrics is not installed" in row.note


def test_bars_of_rdms_are_measured(benchmarks, tmp_path):
    assert benchmarks.main(["--only", "R1,R2,R3,R6", "--quick", "--out", str(tmp_path)]) == 0
    found = {
        name: json.loads((tmp_path / "results" / f"{name}.json").read_text(encoding="utf-8"))[
            "rows"
        ]
        for name in ("R1", "R2", "R3", "R6")
    }
    assert {name: len(rows) for name, rows in found.items()} == {"R1": 6, "R2": 5, "R3": 2, "R6": 3}
    judged = [row for rows in found.values() for row in rows if row["bound"] is not None]
    assert len(judged) == 6 and all(
        row["met"] for row in judged
    )  # equality, memory, seconds; not ratios


def test_rdms_of_other_values_have_no_time(benchmarks):
    import numpy as np

    rdms = importlib.import_module("benchmarks.rdms")
    with pytest.raises(AssertionError, match="scipy, 3 × 4: 0"):
        rdms._error("scipy", "3 × 4", np.zeros(3), np.full(3, 0.1), 2e-7)


def test_effects_of_two_by_two_are_those_that_were_planted(benchmarks):
    from scipy.stats import ttest_1samp

    design = importlib.import_module("benchmarks.blur_and_color")
    assert list(design.CELLS) == ["blur-color", "blur-gray", "clear-color", "clear-gray"]
    random = np.random.default_rng(0)
    # blur .1, color .3, and another .2 where both are
    planted = np.array([0.5 + 0.1 + 0.3 + 0.2, 0.5 + 0.1, 0.5 + 0.3, 0.5])
    effects = design.effects_of(planted[None])
    expected = {"a": 0.1 + 0.1, "b": 0.3 + 0.1, "interaction": 0.2}
    assert {name: pytest.approx(effect[0]) for name, effect in effects.items()} == expected
    values = planted + random.normal(0, 0.05, (5, 4))
    of_seeds = (values[:, 0] - values[:, 1]) - (values[:, 2] - values[:, 3])
    interval = ttest_1samp(of_seeds, 0).confidence_interval(0.95)
    _, low, high = design.effects_of(values)["interaction"]
    assert (low, high) == pytest.approx((interval.low, interval.high))


@pytest.mark.slow
def test_trainings_withstand_what_they_were_trained_on(benchmarks, tmp_path):
    assert benchmarks.main(["--only", "T2", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "results" / "T2.json").read_text(encoding="utf-8"))
    judged = {row["what"]: row["met"] for row in found["rows"] if row["bound"] is not None}
    assert len(judged) == 8  # three attacks, four black-box searches, blur
    assert [what for what, met in judged.items() if not met] == []
