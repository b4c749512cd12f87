"""A whole study: the files promised, the same numbers again, killed and resumed, simulated and measured alike."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neurometamer.rsa.rdm import read_rdms
from neurometamer.store import InputError, read_hdf5_attributes, read_hdf5_table, read_json, read_table
from neurometamer.study.run import demo_settings, failed_stimuli, run_study
from neurometamer.study.settings import read_settings
from stimuli_gen.stimuli import read_png

TABLES = {
    "similarity": "system subject place pair similarity ci_low ci_high method n",
    "similarity_difference": "system subject place pair difference ci_low ci_high method n",
    "layer_roi": "kind subject roi layer similarity ci_low ci_high ceiling_low ceiling_high ceiling method n",
    "encoding": "subject roi layer test r n_voxels n_train n_test alpha scheme method",
    "recovery": "what planted found criterion pass",
    "transfer": "judge judge_weights kind n says_target target_probability says_as_photograph",
}


def csv_bytes(out: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in sorted([*out.glob("tables/*.csv"), out / "stimuli" / "stimuli.csv"])}


def test_a_study_leaves_the_files_that_scripts_rely_on(small_study):
    for name, columns in TABLES.items():
        table = read_table(small_study / "tables" / f"{name}.csv", required=columns.split())
        assert len(table), name
    similarity = read_table(small_study / "tables" / "similarity.csv")
    assert set(similarity["system"]) == {"network", "brain"}
    assert set(similarity["pair"]) == {"RE-AN", "RE-AI"}
    assert set(read_table(small_study / "tables" / "encoding.csv")["test"]) == {"RE", "AI", "AN"}
    stimuli = read_table(small_study / "stimuli" / "stimuli.csv")
    assert len(stimuli) == 18
    assert {one.stem for one in (small_study / "stimuli" / "png").iterdir()} == set(stimuli["id"])
    pd.testing.assert_frame_equal(
        read_hdf5_table(small_study / "results.h5", "similarity")[["place", "similarity"]],
        similarity[["place", "similarity"]].astype({"place": object}),
        check_dtype=False,
    )
    assert read_hdf5_attributes(small_study / "results.h5")["provenance"]["seed"] == 3
    assert (small_study / "report.html").stat().st_size > 100_000


def test_random_weights_and_simulated_brains_are_said_everywhere(small_study):
    page = (small_study / "report.html").read_text()
    assert "untrained" in page.lower()
    assert "simulated" in page.lower()
    for name in ("similarity", "layer_roi", "encoding", "recovery"):
        table = read_table(small_study / "tables" / f"{name}.csv", required=["model", "weights", "data"])
        assert table["weights"].str.contains("untrained").all(), name
        assert set(table["data"]) <= {"simulated", "network"}
    for figure in (small_study / "figures").glob("*.svg"):
        assert "untrained" in figure.read_text().lower(), figure.name
    assert read_json(small_study / "provenance.json")["model"]["trained"] is False


def test_failed_criteria_are_rows_with_a_reason_never_dropped(small_study):
    table = read_table(small_study / "stimuli" / "stimuli.csv")
    failed = table[table["kind"] == "AI"]
    assert len(failed) == 6
    assert not failed["success"].astype(str).eq("True").any()
    assert failed["why_not"].str.contains("after 2 steps, below 0.9").all()
    assert set(failed_stimuli(small_study)) >= set(failed["id"])
    assert any("did not meet its criterion" in note for note in read_json(small_study / "provenance.json")["notes"])


def test_the_same_seed_gives_identical_tables_and_another_seed_does_not(small_study, tmp_path, write_study):
    study = write_study(tmp_path)
    run_study(study, tmp_path / "again", device="cpu")
    assert csv_bytes(tmp_path / "again") == csv_bytes(small_study)
    study.write_text(study.read_text().replace("seed = 3", "seed = 4"))
    run_study(study, tmp_path / "other", device="cpu")
    ours, theirs = (read_table(one / "tables" / "similarity.csv") for one in (small_study, tmp_path / "other"))
    assert not np.allclose(ours["similarity"], theirs["similarity"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_killed_anywhere_and_started_again_it_ends_with_the_same_numbers(small_study, tmp_path, write_study):
    study = write_study(tmp_path)
    command = [sys.executable, "-m", "neurometamer.cli", "run", str(study), "--out", str(tmp_path / "out")]
    command += ["--device", "cpu"]
    moments = random.Random(7)
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            steps = len(list(tmp_path.glob("out/.state/steps/*.json")))
            limit = time.monotonic() + 120
            while running.poll() is None and time.monotonic() < limit:  # let it finish a few steps, then strike
                if len(list(tmp_path.glob("out/.state/steps/*.json"))) > steps + 1:
                    break
                time.sleep(0.05)
            time.sleep(moments.random())
            if running.poll() is None:
                os.kill(running.pid, signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "already done" in done.stderr
    assert csv_bytes(tmp_path / "out") == csv_bytes(small_study)
    assert not list((tmp_path / "out").rglob(".part-*"))


def test_the_simulated_files_read_as_measured_ones_give_the_same_numbers(small_study, tmp_path, write_study):
    shutil.copytree(small_study / "stimuli", tmp_path / "shown")
    subjects = []
    for name in ("sub-01", "sub-02"):
        shutil.copytree(small_study / "brain" / name, tmp_path / name)
        files = {
            kind: sorted((tmp_path / name).glob(f"*_{kind}.*")) for kind in ("bold", "events", "confounds", "mask")
        }
        masks = ", ".join(f'{one.name.split("roi-")[1].split("_")[0]} = "{one}"' for one in files.pop("mask"))
        listed = "\n".join(f"{kind} = {[str(one) for one in paths]}" for kind, paths in files.items())
        subjects.append(f'[[brain.subjects]]\nid = "{name}"\n{listed}\nmasks = {{ {masks} }}\n')
    text = Path(write_study(tmp_path)).read_text()
    text = text.replace('source = "photographs.csv"', 'ready = "shown"')
    before, after = text.split("[brain.simulation]")
    text = before + '[brain]\nsource = "bold"\n' + "".join(subjects) + after[after.index("[selection]") :]
    (tmp_path / "measured.toml").write_text(text)
    out = tmp_path / "out"
    run_study(tmp_path / "measured.toml", out, device="cpu")
    ours, theirs = (read_rdms(one / "rdms" / "brain.h5") for one in (small_study, out))
    places = [
        list(zip(*(one.rdm_descriptors[name] for name in ("subject", "roi")), strict=True)) for one in (ours, theirs)
    ]
    assert set(places[0]) == set(places[1])
    order = [places[1].index(place) for place in places[0]]  # the masks came in another order
    np.testing.assert_array_equal(ours.dissimilarities, theirs.dissimilarities[order])
    for name in ("similarity", "layer_roi", "encoding"):
        table = read_table(out / "tables" / f"{name}.csv")
        assert set(table["data"]) <= {"measured", "network"}
        first = read_table(small_study / "tables" / f"{name}.csv").drop(columns="data")
        keys = [column for column in first if first[column].dtype != float and column != "n"]
        first, second = (one.sort_values(keys, ignore_index=True) for one in (first, table.drop(columns="data")))
        pd.testing.assert_frame_equal(first, second)
    assert not (out / "tables" / "recovery.csv").exists()
    assert "simulated cortex" not in (out / "report.html").read_text().lower()


def test_an_event_without_a_stimulus_is_refused_by_name_and_nothing_is_lost(small_study, tmp_path):
    shutil.copytree(small_study / "stimuli", tmp_path / "shown")
    shutil.copytree(small_study / "brain" / "sub-01", tmp_path / "sub-01")
    events = sorted((tmp_path / "sub-01").glob("*_events.tsv"))
    for one in events:
        one.write_text(one.read_text().replace("coffee_AN", "tea_AN"))
    bold = sorted((tmp_path / "sub-01").glob("*_bold.nii"))
    (tmp_path / "study.toml").write_text(
        '[images]\nready = "shown"\n[model]\nname = "alexnet"\nweights = "random"\nstages = ["relu5"]\n'
        "[study]\nseed = 3\n"
        f'[brain]\nsource = "bold"\n[[brain.subjects]]\nid = "s"\nbold = {[str(one) for one in bold]}\n'
        f"events = {[str(one) for one in events]}\n"
        f'masks = {{ V1 = "{next((tmp_path / "sub-01").glob("*roi-V1_mask.nii"))}" }}\n'
    )
    with pytest.raises(InputError, match=r"tea_AN") as error:
        run_study(tmp_path / "study.toml", tmp_path / "out", device="cpu")
    assert "coffee_AN" in str(error.value)
    assert (tmp_path / "out" / ".state" / "steps" / "stimuli.json").is_file()
    assert (tmp_path / "out" / "rdms" / "network.h5").is_file()


def test_the_written_study_file_gives_the_same_settings(small_study):
    ours = read_settings(small_study / "study.toml").numbers()
    assert ours == read_json(small_study / ".state" / "study.json")


def test_the_demo_takes_another_network_and_seed():
    settings = demo_settings(model="alexnet", weights="random", seed=5)
    assert (settings.model.name, settings.model.weights, settings.study.seed) == ("alexnet", "random", 5)
    assert demo_settings().brain.source == "simulated"


def test_images_shown_elsewhere_and_no_brain_at_all(small_study, tmp_path):
    """A CSV of pictures with their kinds is enough for the network's side; parts that need a brain are left out."""
    table = read_table(small_study / "stimuli" / "stimuli.csv")
    pictures = [str(small_study / "stimuli" / "png" / f"{one}.png") for one in table["id"]]
    table.assign(file=pictures)[["file", "id", "kind", "reference_id"]].to_csv(tmp_path / "shown.csv", index=False)
    (tmp_path / "study.toml").write_text(
        '[images]\nready = "shown.csv"\n[model]\nname = "alexnet"\nweights = "random"\nstages = ["relu1"]\n'
        '[brain]\nsource = "none"\n[rsa]\nresamples = 20\n'
    )
    report = run_study(tmp_path / "study.toml", tmp_path / "out", device="cpu")
    assert "simulated cortex" not in report.read_text().lower()
    assert sorted(one.stem for one in (tmp_path / "out" / "tables").glob("*.csv")) == (
        ["similarity", "similarity_difference", "transfer"]
    )
    assert set(read_table(tmp_path / "out" / "tables" / "similarity.csv")["system"]) == {"network"}
    for one in table["id"]:  # pixel for pixel what was shown, not resized once more
        png = Path("stimuli") / "png" / f"{one}.png"
        np.testing.assert_array_equal(read_png(tmp_path / "out" / png), read_png(small_study / png))
