"""Reliability, voxel selection and the classic classification, against direct computations and real
data.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, spearmanr

from fmri import (
    Patterns,
    estimate_betas,
    leave_one_run_out_accuracy,
    read_runs,
    select_voxels,
    split_half_reliability,
    voxel_reliability,
)
from fmri.reliability import reliability_table
from neurometamer.errors import InputError


def make(n_conditions=20, n_presentations=4, n_voxels=30, noise=1.0, seed=0):
    """Half of the voxels of each region respond."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n_conditions, n_voxels)) * (np.arange(n_voxels) % 2)
    order = np.concatenate([rng.permutation(n_conditions) for _ in range(n_presentations)])
    run = np.repeat(np.arange(n_presentations) + 1, n_conditions)
    return Patterns(
        values=truth[order] + noise * rng.normal(size=(len(order), n_voxels)),
        observations=pd.DataFrame(
            {
                "condition": [f"c{code}" for code in order],
                "presentation": run,
                "run": run,
                "session": "",
            }
        ),
        voxels=pd.DataFrame(
            {
                "subject": "01",
                "roi": ["V1"] * 20 + ["LO"] * (n_voxels - 20),
                "i": range(n_voxels),
                "j": 0,
                "k": 0,
            }
        ),
    )


def half_means(patterns, parity, names):
    table = patterns.observations
    pick = [(table["condition"] == name) & (table["presentation"] % 2 == parity) for name in names]
    return np.array([patterns.values[rows].mean(axis=0) for rows in pick])


def test_voxel_reliability_is_the_correlation_of_halves():
    patterns = make()
    names = ["c3", "c1", "c8", "c19", "c0"]
    odd, even = (half_means(patterns, parity, names) for parity in (1, 0))
    direct = [pearsonr(odd[:, voxel], even[:, voxel]).statistic for voxel in range(30)]
    np.testing.assert_allclose(voxel_reliability(patterns, names), direct, atol=1e-12)


def test_flat_voxels_have_no_reliability():
    patterns = make()
    values = patterns.values.copy()
    values[:, 4] = 2.5
    flat = Patterns(values=values, observations=patterns.observations, voxels=patterns.voxels)
    assert voxel_reliability(flat)[4] == 0


def test_selection_keeps_the_best_and_says_so():
    patterns = make()
    names = [f"c{code}" for code in range(16)]
    chosen = select_voxels(patterns, conditions=names, n_per_roi=7)
    measured = voxel_reliability(patterns, names)
    for roi, number in (("V1", 7), ("LO", 7)):
        inside = patterns.voxels["roi"] == roi
        best = np.sort(measured[inside])[-number:]
        np.testing.assert_array_equal(
            np.sort(chosen.voxels["reliability"][chosen.voxels["roi"] == roi]), best
        )
    assert chosen.conditions == patterns.conditions  # all conditions stay
    assert chosen.voxels["i"].is_monotonic_increasing  # in their old order
    assert chosen.provenance["selection"]["note"] == ""
    with pytest.warns(UserWarning, match=r"fewer in .*LO \(10\); all of these"):
        chosen = select_voxels(patterns, conditions=names[:6], n_per_roi=15)
    few = chosen.provenance["selection"]
    assert [
        (region["roi"], region["kept"], region["of"], region["fewer_than_asked"])
        for region in few["regions"]
    ] == [
        ("V1", 15, 20, False),
        ("LO", 10, 10, True),
    ]
    assert "fewer than the 15 conditions" in few["note"]
    both = select_voxels(patterns, conditions=names, n_per_roi=7, threshold=0.5)
    assert (both.voxels["reliability"] >= 0.5).all() and len(both.voxels) <= 14


def test_selection_never_looks_at_other_conditions():
    patterns = make()
    names = [f"c{code}" for code in range(10)]
    values = patterns.values.copy()
    values[~patterns.observations["condition"].isin(names)] = 1e3
    changed = Patterns(values=values, observations=patterns.observations, voxels=patterns.voxels)
    one, other = (
        select_voxels(each, conditions=names, n_per_roi=5) for each in (patterns, changed)
    )
    pd.testing.assert_frame_equal(one.voxels, other.voxels)


def test_split_half_rdm_reliability_is_spearman_of_spearman_rdms():
    patterns = make()
    table = split_half_reliability(patterns).set_index("roi")
    inside = (patterns.voxels["roi"] == "V1").to_numpy()
    halves = [half_means(patterns, parity, patterns.conditions)[:, inside] for parity in (1, 0)]
    # Equal distances are equal only after rounding.
    rdms = [
        squareform(np.round(1 - spearmanr(half, axis=1).statistic, 12), checks=False)
        for half in halves
    ]
    direct = spearmanr(*rdms).statistic
    assert table.loc["V1", "reliability"] == pytest.approx(direct, abs=1e-12)
    # more than Spearman-Brown's, which is too low for RDMs
    assert 2 * direct / (1 + direct) < table.loc["V1", "corrected"] < table.loc["V1", "upper"] < 1
    # Half of the presentations, corrected, comes near all of them against as many others.
    assert table.loc["V1", "corrected"] > table.loc["V1", "reliability"] > 0.2


def test_classification_finds_signal_and_only_signal():
    signal = leave_one_run_out_accuracy(make(noise=0.1, n_conditions=6), standardize=False)
    assert (signal["accuracy"] > 0.9).all()
    pair = leave_one_run_out_accuracy(make(), ["c3", "c11"]).iloc[0]
    assert (pair["n_tests"], pair["chance"]) == (8, 0.5)
    noise = leave_one_run_out_accuracy(make(noise=100.0, n_presentations=20, seed=4))
    # 400 tests at 1/20: standard deviation .011
    assert (np.abs(noise["accuracy"] - 0.05) < 0.045).all() and (noise["chance"] == 0.05).all()


def test_classification_matches_a_direct_loop():
    patterns = make(noise=1.5)
    values, table = patterns.values[:, :20], patterns.observations
    hits = []
    for run in ("1", "2", "3", "4"):
        test = (table["run"] == run).to_numpy()
        centers = {
            other: values[(table["run"] == other).to_numpy()].mean(axis=0) for other in "1234"
        }
        train = np.array([centers[other] for other in table["run"][~test]])
        means = {
            name: (values[~test] - train)[(table["condition"][~test] == name).to_numpy()].mean(
                axis=0
            )
            for name in patterns.conditions
        }
        for row in np.flatnonzero(test):
            scores = {
                name: pearsonr(values[row] - centers[run], mean).statistic
                for name, mean in means.items()
            }
            hits.append(max(scores, key=scores.get) == table["condition"][row])
    ours = (
        leave_one_run_out_accuracy(patterns, standardize=False)
        .set_index("roi")
        .loc["V1", "accuracy"]
    )
    assert ours == pytest.approx(np.mean(hits), abs=1e-12)


def test_what_cannot_be_measured_is_refused():
    patterns = make()
    with pytest.raises(
        InputError, match=r"3 condition\(s\); reliability needs at least 4 \(15 or more"
    ):
        voxel_reliability(patterns, ["c0", "c1", "c2"])
    single = make(n_presentations=1)
    with pytest.raises(
        InputError, match=r"without both an odd and an even presentation: .*\(20 in all\)"
    ):
        split_half_reliability(single)
    with pytest.raises(InputError, match=r"1 run\(s\) and 20 condition\(s\)"):
        leave_one_run_out_accuracy(single)
    with pytest.raises(InputError, match="no criterion"):
        select_voxels(patterns, conditions=patterns.conditions)
    with pytest.raises(TypeError, match="conditions"):
        select_voxels(patterns, n_per_roi=3)
    with pytest.raises(InputError, match="n_per_roi is 0"):
        select_voxels(patterns, conditions=patterns.conditions, n_per_roi=0)
    with pytest.raises(
        InputError, match=r"no voxel of ROI 'V1' reaches reliability 1.*the best has"
    ):
        select_voxels(patterns, conditions=patterns.conditions, threshold=1.0)
    with pytest.raises(InputError, match="unknown condition 'c99'"):
        select_voxels(patterns, conditions=["c99", "c1"], n_per_roi=3)


@pytest.mark.data
def test_ceilings_of_betas_that_were_chosen_on_all_runs_say_so():
    own = make()
    record = {"single_trials": {"chosen_on_all_runs": ["denoised", "shrunken"]}}
    chosen = replace(own, provenance=dict(own.provenance) | record)
    with pytest.warns(UserWarning, match="denoised and shrunken betas: .* counts as signal"):
        table = reliability_table(chosen)
    plain = reliability_table(own)
    assert set(table["method"]) == {f"{plain['method'][0]} of denoised and shrunken betas"}
    pd.testing.assert_frame_equal(table.drop(columns="method"), plain.drop(columns="method"))


def test_haxby_slice_tells_eight_categories(shared_data):
    """Haxby et al. (2001), subject 1, one slice: .51 correct in the literature's way, chance .125;
    ours .52.
    """
    folder = shared_data / "haxby_1slice" / "sub-001"
    bold = sorted(
        path for path in (folder / "func").glob("*_bold.nii.gz") if "res-" not in path.name
    )
    events, motion = (
        sorted((folder / "func").glob(f"*_{kind}.tsv")) for kind in ("events", "motion")
    )
    patterns = estimate_betas(
        read_runs(bold, events, motion), {"slice": folder / "masks" / "slice_brain.nii.gz"}
    )
    assert patterns.values.shape == (96, 530)
    row = leave_one_run_out_accuracy(patterns).iloc[0]
    assert (row["n_conditions"], row["n_runs"], row["n_tests"]) == (8, 12, 96)
    assert row["accuracy"] >= 0.45
