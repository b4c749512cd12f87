"""A whole study: the files promised, the same numbers again, killed and resumed, simulated and
measured alike.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fnmatch import fnmatch
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmri.patterns import read_patterns
from neurometamer.errors import InputError
from neurometamer.figures.style import format_number
from neurometamer.report.read_study import changed_files
from neurometamer.resume import read_record
from neurometamer.rsa.compute import read_rdms
from neurometamer.rsa.image_types.ceilings import image_type_reliability
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.layers.hierarchy import hierarchy_test
from neurometamer.rsa.layers.matrix import layer_matrix
from neurometamer.store import (
    read_hdf5_attributes,
    read_hdf5_table,
    read_json,
    read_table,
    write_table,
)
from neurometamer.study.plan import Workspace
from neurometamer.study.result_steps import image_type_options
from neurometamer.study.settings import check_settings, read_settings
from neurometamer.study.steps import STEPS, demo_settings, failed_stimuli, run_study
from stimuli_gen.stimuli import read_png

TABLES = {
    "image_types": "system subject representation pair quantity value ci_low ci_high interval p p_corrected "
    "correction family "
    "p_method answer method n n_subjects",
    "trends": "system pair test statistic effect p n method",
    "layer_roi": "kind subject roi layer similarity ci_low ci_high ceiling_low ceiling_high "
    "ceiling method n p q "
    "family",
    "best_layer": "roi subject layer chosen score ci_low ci_high naive_layer naive_score optimism "
    "reason method n",
    "weighted": "roi subject model score ci_low ci_high p q family weights method n network_model "
    "network_weights",
    "weighted_difference": "roi subject contrast difference ci_low ci_high p q family method n",
    "hierarchy": "subject order preferred_layers statistic value ci_low ci_high p left_out reason "
    "method",
    "encoding": "subject roi layer test r n_voxels n_train n_test alpha scheme method",
    "recovery": "what planted found criterion pass",
    "transfer": "evaluator evaluator_weights kind n says_target target_probability "
    "says_as_photograph",
}


def csv_bytes(out: Path) -> dict[str, bytes]:
    return {
        one.name: one.read_bytes()
        for one in sorted([*out.glob("tables/*.csv"), out / "stimuli" / "stimuli.csv"])
    }


def test_a_finished_study_has_no_changed_files(small_study):
    assert changed_files(small_study) == {}
    assert "Changed after the study" not in (small_study / "report.html").read_text(
        encoding="utf-8"
    )
    shown = {"tables/image_types.csv", "rdms/brain.h5", "stimuli/stimuli.h5", "provenance.json"}
    records = [
        read_record(path)["outputs"] for path in (small_study / ".state" / "steps").glob("*.json")
    ]
    assert shown <= {
        name for record in records for name in record
    }  # so that a change of these is found


def test_a_study_leaves_the_files_that_scripts_rely_on(small_study):
    for name, columns in TABLES.items():
        table = read_table(small_study / "tables" / f"{name}.csv", required=columns.split())
        assert len(table), name
    kinds = read_table(small_study / "tables" / "image_types.csv")
    assert set(kinds["system"]) == {"network", "brain"}
    assert set(kinds["pair"]) == {"RE-AN", "RE-AI", "RE-AI minus RE-AN"}
    assert not (small_study / "tables" / "similarity.csv").exists()
    assert set(read_table(small_study / "tables" / "encoding.csv")["test"]) == {"RE", "AI", "AN"}
    stimuli = read_table(small_study / "stimuli" / "stimuli.csv")
    assert len(stimuli) == 24
    assert {one.stem for one in (small_study / "stimuli" / "png").iterdir()} == set(stimuli["id"])
    pd.testing.assert_frame_equal(
        read_hdf5_table(small_study / "results.h5", "image_types")[["representation", "value"]],
        kinds[["representation", "value"]].astype({"representation": object}),
        check_dtype=False,
    )
    assert read_hdf5_attributes(small_study / "results.h5")["provenance"]["seed"] == 3
    assert (small_study / "report.html").stat().st_size > 100_000


def test_the_tables_are_those_of_direct_calls_on_the_same_rdms(small_study):
    network, brain = (read_rdms(small_study / "rdms" / f"{one}.h5") for one in ("network", "brain"))
    options = {"n_resamples": 50, "n_permutations": 1000, "seed": 3}
    patterns = {
        one: read_patterns(small_study / "patterns" / f"{one}.h5") for one in ("sub-01", "sub-02")
    }
    reliability = image_type_reliability(
        patterns, read_table(small_study / "stimuli" / "stimuli.csv")
    )
    parts = [
        compare_image_types(network, **options),
        compare_image_types(brain, reliability=reliability, **options),
    ]
    direct = pd.concat(parts, ignore_index=True)
    written = read_table(small_study / "tables" / "image_types.csv")
    written = written.fillna(
        {"subject": "", **dict.fromkeys(("answer", "follows", "expected", "ceiling"), "")}
    )
    pd.testing.assert_frame_equal(written[list(direct)], direct, check_dtype=False)
    cells = layer_matrix(
        network, brain, image_type="RE", n_resamples=50, n_permutations=1000, seed=3
    )
    written = read_table(small_study / "tables" / "layer_roi.csv")
    names = [
        "subject",
        "roi",
        "layer",
        "similarity",
        "ci_low",
        "ci_high",
        "ceiling_low",
        "ceiling_high",
        "p",
        "q",
    ]
    pd.testing.assert_frame_equal(written[names], cells[names], check_dtype=False)
    hierarchy = read_table(small_study / "tables" / "hierarchy.csv")
    assert set(hierarchy["order"]) == {'["V1", "V2", "LO"]'}
    assert hierarchy["p"].tolist() == pytest.approx(
        hierarchy_test(network, brain, image_type="RE", seed=3)["p"].tolist(), nan_ok=True
    )


def test_the_report_tells_the_corrected_p_and_its_family(small_study):
    page = unescape((small_study / "report.html").read_text())
    first = page[: page.index('<section id="stimuli"')]
    kinds = read_table(small_study / "tables" / "image_types.csv")
    shown = kinds[
        (kinds["quantity"] == "difference")
        & ((kinds["system"] == "network") | (kinds["subject"] == "mean"))
    ]
    for row in shown.itertuples():
        assert f"corrected ({row.correction}) over {row.family}" in first
        number = "< .001" if row.p_corrected < 0.001 else format_number(row.p_corrected, 3)
        assert re.search(
            rf'scope="row">{re.escape(row.representation)}</th><td[^>]*>[^<]*</td><td[^>]*>{number}</td>',
            first,
        )
    hierarchy = (
        read_table(small_study / "tables" / "hierarchy.csv").set_index("subject").loc["combined"]
    )
    assert (
        np.isnan(hierarchy["p"]) and "a slope needs at least 3" in hierarchy["reason"]
    )  # few and noisy photographs
    assert f"{str(hierarchy['reason']).capitalize()}. Left out" in first
    for name in (
        "image_types_brain_similarity",
        "layer_roi",
        "best_layer",
        "weighted",
        "hierarchy",
        "rdms_network",
        "rdms_brain_image_types",
        "places_network",
        "places_brain",
        "stimuli",
        "encoding",
    ):
        assert f"<code>figures/{name}.csv</code>" in page
        assert {one.suffix for one in (small_study / "figures").glob(f"{name}.*")} == {
            ".svg",
            ".png",
            ".csv",
        }


@pytest.mark.parametrize(
    ("rsa", "message"),
    [
        (
            'interval = "subjects"',
            r"rsa.interval: 'subjects' at 95% needs at least 6 subjects; the study has 2 \(sub-01",
        ),
        ('interval = "dual"', "needs at least 6 subjects"),
        (
            'null = "session"',
            "rsa.null: 'session' needs subjects scanned in several sessions, and the simulated "
            "cortex",
        ),
        (
            'null = "class"',
            "rsa.null: 'class' needs the column category of the images.*no column 'category'",
        ),
        (
            'interval = "subsample"\nmeasure = "cosine"',
            "'subsample' is there for the measures spearman and pearson",
        ),
        ('measure = "poisson"', "takes rates of zero or more, and betas"),
        (
            'comparator = "whitened-cosine"',
            r"rsa: interval 'projection' is not defined for \[rsa\] comparator = .whitened-cosine.; "
            r"give \[rsa\] interval = .stimuli.",
        ),
        ('interval = "boot"', "rsa.interval: unknown interval 'boot'"),
    ],
)
def test_tests_that_a_study_cannot_give_are_refused_before_any_work(
    tmp_path, write_study, rsa, message
):
    study = write_study(tmp_path)
    study.write_text(study.read_text().replace("n_resamples = 50", f"n_resamples = 50\n{rsa}"))
    with pytest.raises(InputError, match=message):
        run_study(study, tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_network_has_neither_subjects_nor_sessions(tmp_path):
    rsa = {
        "interval": "dual",
        "null": "session",
        "combine": "fisher",
        "n_permutations": 77,
        "correction": "holm",
    }
    settings = check_settings(
        {"rsa": rsa, "study": {"seed": 5}, "brain": {"simulation": {"subjects": 6}}}
    )
    work = Workspace(folder=tmp_path, settings=settings, base=tmp_path)
    pairs = {"AN": ("RE", "AN"), "AI": ("RE", "AI")}
    network, brain = (image_type_options(work, one, pairs) for one in ("network", "brain"))
    assert (network.interval, network.null) == ("stimuli", "free")
    assert (brain.interval, brain.null) == ("dual", "session")
    for one in (network, brain):
        assert (one.combine, one.n_permutations, one.correction, one.seed) == (
            "fisher",
            77,
            "holm",
            5,
        )


def measured_sessions(small_study: Path, folder: Path, shown: dict[str, list[str]]) -> Path:
    """Write a study of measured subjects whose sessions each show images of some photographs."""
    shutil.copytree(small_study / "stimuli", folder / "shown")
    parts = [
        '[images]\nready = "shown"\n[model]\nname = "alexnet"\nweights = "random"\nstages = '
        '["relu1", "fc8"]\n'
        '[selection]\nvoxels_per_roi = 0\n[brain]\nsource = "bold"\n'
    ]
    for subject in ("sub-01", "sub-02"):
        (folder / subject).mkdir()
        source = small_study / "brain" / subject
        files: dict[str, list[str]] = {"bold": [], "events": [], "confounds": []}
        for session, run, photographs in zip(("a", "b"), ("1", "2"), shown[subject], strict=True):
            for kind, listed in files.items():
                old = next(source.glob(f"*run-{run}*_{kind}.*"))
                new = folder / subject / f"{subject}_ses-{session}_run-{run}_{kind}{old.suffix}"
                shutil.copy(old, new)
                listed.append(str(new))
                if kind == "events":
                    events = pd.read_csv(new, sep="\t")
                    kept = events[
                        events["trial_type"]
                        .str.replace("_A[NI]$", "", regex=True)
                        .isin(photographs)
                    ]
                    kept.to_csv(new, sep="\t", index=False)
        masks = ", ".join(
            f'{roi} = "{next(source.glob(f"*roi-{roi}_mask.nii"))}"' for roi in ("V1", "LO")
        )
        listed = "\n".join(f"{kind} = {paths}" for kind, paths in files.items())
        parts.append(f'[[brain.subjects]]\nid = "{subject}"\n{listed}\nmasks = {{ {masks} }}\n')
    (folder / "study.toml").write_text("".join(parts))
    return folder / "study.toml"


def with_null(study: Path, settings: str) -> Path:
    out = study.with_name("with_null.toml")
    out.write_text(
        study.read_text()
        + f'[rsa]\nn_resamples = 20\nn_permutations = 100\nnull = "session"\n{settings}\n'
    )
    return out


def test_labels_are_permuted_within_the_sessions_of_measured_subjects(small_study, tmp_path):
    names = sorted(read_table(small_study / "stimuli" / "stimuli.csv")["reference_id"].unique())
    same = measured_sessions(
        small_study, tmp_path, {one: (names[:4], names[4:]) for one in ("sub-01", "sub-02")}
    )
    run_study(with_null(same, ""), tmp_path / "out", device="cpu")
    kinds = read_table(tmp_path / "out" / "tables" / "image_types.csv", text=["subject"])
    similar = kinds[kinds["quantity"] == "similarity"]
    told = similar.groupby("system")["p_method"].unique()
    assert all("permuted within 2 sessions" in one for one in told["brain"])
    assert all("permuted freely" in one for one in told["network"])  # a network has no sessions


def test_sessions_that_are_no_blocks_are_refused_before_any_work(small_study, tmp_path):
    names = sorted(read_table(small_study / "stimuli" / "stimuli.csv")["reference_id"].unique())
    (tmp_path / "both").mkdir()
    both = measured_sessions(
        small_study, tmp_path / "both", {"sub-01": (names, names), "sub-02": (names, names)}
    )
    with pytest.raises(
        InputError, match=r"rsa.null: 'session': subject 'sub-01': .* shown in several sessions"
    ):
        run_study(with_null(both, ""), tmp_path / "out", device="cpu")
    halves = {"sub-01": (names[:4], names[4:]), "sub-02": (names[::2], names[1::2])}
    (tmp_path / "differ").mkdir()
    differ = measured_sessions(small_study, tmp_path / "differ", halves)
    with pytest.raises(InputError, match=r"rsa.combine: 'joint'.*sub-01, sub-02.*'fisher'"):
        run_study(with_null(differ, ""), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_few_photographs_and_missing_kinds_are_told_not_failed(small_study, tmp_path):
    table = read_table(small_study / "stimuli" / "stimuli.csv")
    few = table[
        table["reference_id"].isin(sorted(table["reference_id"].unique())[:6])
        & (table["kind"] != "AI")
    ]
    files = [str(small_study / "stimuli" / "png" / f"{one}.png") for one in few["id"]]
    few.assign(file=files)[["file", "id", "kind", "reference_id"]].to_csv(
        tmp_path / "shown.csv", index=False
    )
    (tmp_path / "study.toml").write_text(
        '[images]\nready = "shown.csv"\n[model]\nname = "alexnet"\nweights = "random"\nstages = '
        '["relu1", "fc8"]\n'
        "[brain.simulation]\nsubjects = 2\nruns = 2\nvoxels_per_roi = 20\nmixing = { V1 = 0.0, V2 "
        "= 0.5, LO = 1.0 }\n"
        "[selection]\nvoxels_per_roi = 10\n[rsa]\nn_resamples = 20\nn_permutations = 20\n"
    )
    page = unescape(run_study(tmp_path / "study.toml", tmp_path / "out", device="cpu").read_text())
    written = {one.stem for one in (tmp_path / "out" / "tables").glob("*.csv")}
    assert written == {
        "image_types",
        "layer_roi",
        "hierarchy",
        "encoding",
        "recovery",
        "transfer",
        "regions",
        "ceilings",
    }
    kinds = read_table(tmp_path / "out" / "tables" / "image_types.csv")
    assert set(kinds["pair"]) == {"RE-AN"} and set(kinds["quantity"]) == {"similarity"}
    assert set(kinds["system"]) == {"network", "brain"} and kinds["p"].notna().all()
    notes = " ".join(read_json(tmp_path / "out" / "provenance.json")["notes"])
    assert (
        "no tests of RE-AI (image_types.csv): there are no such images" in notes
        and "6 photographs are too few" in notes
    )
    assert (
        "no tests of RE-AI (image_types.csv): there are no such images" in page
        and "follows perception" not in page
    )
    assert "there are no cross-validated models" in page


def test_random_weights_and_simulated_brains_are_said_everywhere(small_study):
    page = (small_study / "report.html").read_text()
    assert "untrained" in page.lower()
    assert "simulated" in page.lower()
    for name in (
        "image_types",
        "trends",
        "layer_roi",
        "best_layer",
        "hierarchy",
        "encoding",
        "recovery",
        "weighted",
    ):
        own = (
            "network_" if name == "weighted" else ""
        )  # models of regions have weights of their own
        table = read_table(
            small_study / "tables" / f"{name}.csv",
            required=[f"{own}model", f"{own}weights", "data"],
        )
        assert table[f"{own}weights"].str.contains("untrained").all(), name
        assert set(table["data"]) <= {"simulated", "network"}
    for figure in (small_study / "figures").glob("*.svg"):
        assert "untrained" in figure.read_text().lower(), figure.name
    assert read_json(small_study / "provenance.json")["model"]["trained"] is False


def test_failed_criteria_are_rows_with_a_reason_never_dropped(small_study):
    table = read_table(small_study / "stimuli" / "stimuli.csv")
    failed = table[table["kind"] == "AI"]
    assert len(failed) == 8
    assert not failed["success"].astype(str).eq("True").any()
    assert failed["why_not"].str.contains("after 2 steps, below 0.9").all()
    assert set(failed_stimuli(small_study)) >= set(failed["id"])
    assert any(
        "did not meet its criterion" in note
        for note in read_json(small_study / "provenance.json")["notes"]
    )


def test_the_same_seed_gives_identical_tables_and_another_seed_does_not(
    small_study, tmp_path, write_study
):
    study = write_study(tmp_path)
    run_study(study, tmp_path / "again", device="cpu")
    assert csv_bytes(tmp_path / "again") == csv_bytes(small_study)
    study.write_text(study.read_text().replace("seed = 3", "seed = 4"))
    run_study(study, tmp_path / "other", device="cpu")
    ours, theirs = (
        read_table(one / "tables" / "image_types.csv") for one in (small_study, tmp_path / "other")
    )
    assert not np.allclose(ours["value"], theirs["value"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX signal")
def test_killed_anywhere_and_started_again_it_ends_with_the_same_numbers(
    small_study, tmp_path, write_study
):
    study = write_study(tmp_path)
    command = [
        sys.executable,
        "-m",
        "neurometamer.cli",
        "run",
        str(study),
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--device", "cpu"]
    moments = random.Random(7)
    for _ in range(3):
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as running:
            steps = len(list(tmp_path.glob("out/.state/steps/*.json")))
            limit = time.monotonic() + 120
            while (
                running.poll() is None and time.monotonic() < limit
            ):  # let it finish a few steps, then strike
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


def test_the_simulated_files_read_as_measured_ones_give_the_same_numbers(
    small_study, tmp_path, write_study
):
    shutil.copytree(small_study / "stimuli", tmp_path / "shown")
    subjects = []
    for name in ("sub-01", "sub-02"):
        shutil.copytree(small_study / "brain" / name, tmp_path / name)
        files = {
            kind: sorted((tmp_path / name).glob(f"*_{kind}.*"))
            for kind in ("bold", "events", "confounds", "mask")
        }
        masks = ", ".join(
            f'{one.name.split("roi-")[1].split("_")[0]} = "{one}"' for one in files.pop("mask")
        )
        listed = "\n".join(
            f"{kind} = {[str(one) for one in paths]}" for kind, paths in files.items()
        )
        subjects.append(f'[[brain.subjects]]\nid = "{name}"\n{listed}\nmasks = {{ {masks} }}\n')
    text = Path(write_study(tmp_path)).read_text()
    text = text.replace('source = "photographs.csv"', 'ready = "shown"')
    before, after = text.split("[brain.simulation]")
    text = (
        before
        + '[brain]\nsource = "bold"\n'
        + "".join(subjects)
        + after[after.index("[selection]") :]
    )
    (tmp_path / "measured.toml").write_text(text)
    out = tmp_path / "out"
    run_study(tmp_path / "measured.toml", out, device="cpu")
    ours, theirs = (read_rdms(one / "rdms" / "brain.h5") for one in (small_study, out))
    places = [
        list(zip(*(one.rdm_descriptors[name] for name in ("subject", "roi")), strict=True))
        for one in (ours, theirs)
    ]
    assert set(places[0]) == set(places[1])
    order = [places[1].index(place) for place in places[0]]  # the masks came in another order
    np.testing.assert_array_equal(ours.dissimilarities, theirs.dissimilarities[order])
    for name in ("image_types", "layer_roi", "best_layer", "weighted", "hierarchy", "encoding"):
        table = read_table(out / "tables" / f"{name}.csv")
        assert set(table["data"]) <= {"simulated", "network"}  # the headers of the images say so
        first = read_table(small_study / "tables" / f"{name}.csv").drop(columns="data")
        keys = [column for column in first if first[column].dtype != float and column != "n"]
        first, second = (
            one.sort_values(keys, ignore_index=True) for one in (first, table.drop(columns="data"))
        )
        pd.testing.assert_frame_equal(first, second)
    assert not (out / "tables" / "recovery.csv").exists()
    assert "simulated cortex" in (out / "report.html").read_text().lower()


def test_an_event_without_a_stimulus_is_refused_by_name_before_any_work(small_study, tmp_path):
    shutil.copytree(small_study / "stimuli", tmp_path / "shown")
    shutil.copytree(small_study / "brain" / "sub-01", tmp_path / "sub-01")
    events = sorted((tmp_path / "sub-01").glob("*_events.tsv"))
    for one in events:
        one.write_text(one.read_text().replace("coffee_AN", "tea_AN"))
    bold = sorted((tmp_path / "sub-01").glob("*_bold.nii"))
    (tmp_path / "study.toml").write_text(
        '[images]\nready = "shown"\n[model]\nname = "alexnet"\nweights = "random"\nstages = '
        '["relu5"]\n'
        "[study]\nseed = 3\n"
        '[brain]\nsource = "bold"\n[[brain.subjects]]\nid = "s"\nbold = '
        f"{[str(one) for one in bold]}\n"
        f"events = {[str(one) for one in events]}\n"
        f'masks = {{ V1 = "{next((tmp_path / "sub-01").glob("*roi-V1_mask.nii"))}" }}\n'
    )
    with pytest.raises(InputError, match=r"tea_AN") as error:
        run_study(tmp_path / "study.toml", tmp_path / "out", device="cpu")
    assert "coffee_AN" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_written_study_file_gives_the_same_settings(small_study):
    ours = read_settings(small_study / "study.toml").numbers()
    assert ours == read_record(small_study / ".state" / "study.json")


def test_the_demo_takes_another_network_and_seed():
    settings = demo_settings(model="alexnet", weights="random", seed=5)
    assert (settings.model.name, settings.model.weights, settings.study.seed) == (
        "alexnet",
        "random",
        5,
    )
    assert demo_settings().brain.source == "simulated"


def test_images_shown_elsewhere_and_no_brain_at_all(small_study, tmp_path):
    """A CSV of pictures with their kinds is enough for the network's side; parts that need a brain
    are left out.
    """
    table = read_table(small_study / "stimuli" / "stimuli.csv")
    pictures = [str(small_study / "stimuli" / "png" / f"{one}.png") for one in table["id"]]
    table.assign(file=pictures)[["file", "id", "kind", "reference_id"]].to_csv(
        tmp_path / "shown.csv", index=False
    )
    (tmp_path / "study.toml").write_text(
        '[images]\nready = "shown.csv"\n[model]\nname = "alexnet"\nweights = "random"\nstages = '
        '["relu1"]\n'
        '[brain]\nsource = "none"\n[rsa]\nn_resamples = 20\n'
    )
    report = run_study(tmp_path / "study.toml", tmp_path / "out", device="cpu")
    assert "simulated cortex" not in report.read_text().lower()
    assert sorted(one.stem for one in (tmp_path / "out" / "tables").glob("*.csv")) == (
        ["image_types", "transfer"]  # one layer has no trend
    )
    assert set(read_table(tmp_path / "out" / "tables" / "image_types.csv")["system"]) == {"network"}
    for one in table["id"]:  # pixel for pixel what was shown, not resized once more
        png = Path("stimuli") / "png" / f"{one}.png"
        np.testing.assert_array_equal(read_png(tmp_path / "out" / png), read_png(small_study / png))


def dummy_step(work, progress, *, subject):
    seen = read_patterns(work.path("patterns", f"{subject}.h5"))
    table = pd.DataFrame({"subject": [subject], "n_voxels": [seen.values.shape[1]]})
    return [write_table(work.path("tables", f"dummy-{subject}.csv"), table)]


def test_a_step_that_is_registered_is_planned_run_and_kept(
    small_study, write_study, tmp_path, monkeypatch
):
    entry = replace(
        STEPS["patterns"],
        title="dummy of {part}",
        run=dummy_step,
        needs=("patterns-{part}",),
        writes=("tables/dummy-*.csv",),
    )
    monkeypatch.setitem(STEPS, "dummy", entry)
    study, out = write_study(tmp_path), tmp_path / "out"
    shutil.copytree(small_study, out)
    for ran in (["dummy of sub-01", "dummy of sub-02"], []):
        reporter = Heard()
        run_study(study, out, device="cpu", reporter=reporter)
        assert reporter.ran == ran
    assert read_table(out / "tables" / "dummy-sub-02.csv")["n_voxels"].tolist() == [30]


class Heard:
    """A reporter that remembers the titles of the steps that were not kept."""

    def __init__(self):
        self.ran = []

    def start(self, number, total, title):
        self.title = title

    def advance(self, done, total):
        pass

    def watch(self, seen):
        pass

    def finish(self, seconds, kept):
        if not kept:
            self.ran.append(self.title)


def test_steps_write_what_their_entries_say(small_study):
    records = {
        path.stem: read_record(path)["outputs"]
        for path in (small_study / ".state" / "steps").glob("*.json")
    }
    assert len(records) > 15
    for step, outputs in records.items():
        name = step if step in STEPS else step.rpartition("-")[0].rpartition("-")[0]
        entry = STEPS[name]
        for file in outputs:
            assert any(fnmatch(file, pattern) for pattern in entry.writes), (step, file)
        for pattern in entry.writes:
            optional = pattern in ("figures/*", "tables/trends.csv", "tables/betas.csv")
            assert optional or any(fnmatch(file, pattern) for file in outputs), (step, pattern)
