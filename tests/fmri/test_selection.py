"""Criteria of voxels, z-scores and pooled subjects, against other libraries and planted truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import zscore
from sklearn.preprocessing import StandardScaler

from fmri import (
    CRITERIA,
    Criterion,
    Patterns,
    pattern_contributions,
    pattern_reliability,
    pool_subjects,
    reliability_table,
    response_variances,
    select_voxels,
    zscore_patterns,
)
from fmri.selection import types_chosen_on
from neurometamer.errors import InputError

TYPES = {f"c{i:02d}": ("RE", "AN")[i // 20] for i in range(40)}


def make(subject="01", repeats=3, n_voxels=40, seed=0, **columns):
    """Every other voxel responds; runs differ in mean and size of responses."""
    random = np.random.default_rng(seed)
    names = np.array(list(TYPES))
    signal = 2 * random.standard_normal((40, n_voxels)) * (np.arange(n_voxels) % 2)
    codes = np.concatenate([random.permutation(40) for _ in range(repeats)])
    run = np.repeat(np.arange(repeats) + 1, 40)
    values = 2 + signal[codes] + random.standard_normal((len(codes), n_voxels))
    voxels = {
        "subject": subject,
        "roi": ["V1"] * (n_voxels // 2) + ["LO"] * (n_voxels - n_voxels // 2),
        "i": range(n_voxels),
        "j": 0,
        "k": 0,
    }
    return Patterns(
        values=values,
        observations=pd.DataFrame(
            {
                "condition": names[codes],
                "presentation": run,
                "run": run.astype(str),
                "session": np.where(run > 1, "b", "a"),
            }
        ),
        voxels=pd.DataFrame(voxels | columns),
    )


def with_values(patterns, values):
    return Patterns(values=values, observations=patterns.observations, voxels=patterns.voxels)


REGULAR = [name for name, image_type in TYPES.items() if image_type == "RE"]


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_finds_the_voxels_that_respond(name):
    patterns = make(seed=3)
    if name in ("t", "f"):  # responses, of both signs, are against baseline
        silent = patterns.values - 2 * (np.arange(40) % 2 == 0)
        patterns = with_values(patterns, silent)
    chosen = select_voxels(patterns, conditions=REGULAR, criterion=name, n_per_roi=10)
    assert chosen.voxels["i"].tolist() == list(range(1, 40, 2))
    record = chosen.provenance["selection"]
    assert record["criterion"] == name and record["method"] == CRITERIA[name].method
    scores = CRITERIA[name].score(patterns, REGULAR)
    np.testing.assert_array_equal(chosen.voxels["reliability"], scores[1::2])
    cut = select_voxels(
        patterns, conditions=REGULAR, criterion=name, threshold=float(np.median(scores[1::2]))
    )
    assert (cut.voxels["reliability"] >= np.median(scores[1::2])).all() and len(cut.voxels) == 10


@pytest.mark.parametrize("repeats", ["equal", "unequal"])
def test_t_and_f_are_those_of_a_linear_model(repeats):
    import statsmodels.api as sm

    patterns = make()
    if repeats == "unequal":
        keep = np.ones(len(patterns), dtype=bool)
        keep[:7] = False
        patterns = Patterns(
            values=patterns.values[keep],
            observations=patterns.observations[keep],
            voxels=patterns.voxels,
        )
    part = patterns.select(conditions=REGULAR)
    design = pd.get_dummies(part.observations["condition"]).to_numpy(dtype=float)
    mean = np.full((1, design.shape[1]), 1 / design.shape[1])
    t, f = [], []
    for voxel in part.values.T:
        model = sm.OLS(voxel, design).fit()
        t.append(float(np.squeeze(model.t_test(mean).tvalue)))
        f.append(float(np.squeeze(model.f_test(np.eye(design.shape[1])).fvalue)))
    np.testing.assert_allclose(CRITERIA["t"].score(patterns, REGULAR), t, rtol=1e-9)
    np.testing.assert_allclose(CRITERIA["f"].score(patterns, REGULAR), f, rtol=1e-9)


def test_pattern_reliability_is_the_mean_correlation_of_all_pairs_of_presentations():
    patterns = make(n_voxels=20)
    inside = (patterns.voxels["roi"] == "LO").to_numpy()
    part = patterns.select(conditions=REGULAR)
    names, means = part.means()
    values = part.values - means.mean(axis=0)
    correlations = []
    for name in names:
        rows = values[(part.observations["condition"] == name).to_numpy()][:, inside]
        pairs = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
        correlations.append(pairs.mean())
    table = pattern_reliability(patterns, REGULAR).set_index("roi")
    assert table.loc["LO", "reliability"] == pytest.approx(np.mean(correlations), abs=1e-12)
    contributions = pattern_contributions(patterns, REGULAR)
    assert contributions[inside].sum() == pytest.approx(np.mean(correlations), abs=1e-12)
    noise = with_values(patterns, np.random.default_rng(1).standard_normal(patterns.values.shape))
    assert (np.abs(pattern_reliability(noise)["reliability"]) < 0.1).all()


def test_ncsnr_criterion_is_that_of_the_noise_ceiling():
    patterns = make()
    part = patterns.select(conditions=REGULAR)
    direct = response_variances(part.values, part.observations["condition"].tolist()).ncsnr
    np.testing.assert_allclose(CRITERIA["ncsnr"].score(patterns, REGULAR), direct)


def test_the_best_of_each_hemisphere_are_kept():
    patterns = make(hemisphere=["L", "L", "R", "R"] * 10)
    chosen = select_voxels(patterns, conditions=REGULAR, n_per_roi=3)
    counts = chosen.voxels.groupby(["roi", "hemisphere"]).size()
    assert counts.tolist() == [3, 3, 3, 3]
    regions = chosen.provenance["selection"]["regions"]
    assert [(region["roi"], region["hemisphere"]) for region in regions] == [
        ("V1", "L"),
        ("V1", "R"),
        ("LO", "L"),
        ("LO", "R"),
    ]


def test_a_choice_by_other_images_than_regular_ones_is_on_record():
    patterns = make()
    regular = select_voxels(patterns, conditions=REGULAR, n_per_roi=5, image_types=TYPES)
    assert regular.provenance["selection"]["image_types"] == ["RE"]
    assert types_chosen_on(regular.provenance) == set()
    everything = select_voxels(
        patterns, conditions=patterns.conditions, n_per_roi=5, image_types=TYPES
    )
    assert everything.provenance["selection"]["not_regular"] == ["AN"]
    other = select_voxels(make("02"), conditions=REGULAR, n_per_roi=5, image_types=TYPES)
    assert types_chosen_on(pool_subjects([other, everything]).provenance) == {"AN"}


def test_a_criterion_of_ones_own_is_one_entry(monkeypatch):
    first = Criterion(
        score=lambda patterns, conditions: -patterns.voxels["i"].to_numpy(), method="first voxels"
    )
    monkeypatch.setitem(CRITERIA, "first", first)
    patterns = make()
    chosen = select_voxels(patterns, conditions=REGULAR, criterion="first", n_per_roi=2)
    assert chosen.voxels["i"].tolist() == [0, 1, 20, 21]
    undefined = Criterion(
        score=lambda patterns, conditions: np.where(patterns.voxels["i"] < 20, np.nan, 1.0),
        method="LO alone",
    )
    with pytest.raises(InputError, match="no voxel of ROI 'V1' has a score"):
        select_voxels(patterns, conditions=REGULAR, criterion=undefined, n_per_roi=2)


@pytest.mark.parametrize(("within", "label"), [("run", ["1", "2", "3"]), ("session", ["a", "b"])])
def test_z_scores_are_those_of_scipy_and_scikit_learn_by_group(within, label):
    patterns = make()
    scaled = zscore_patterns(patterns, within)
    assert scaled.provenance["zscore"] == within
    for name in label:
        rows = (patterns.observations[within] == name).to_numpy()
        ours = scaled.values[rows]
        np.testing.assert_allclose(ours, zscore(patterns.values[rows], axis=0), atol=1e-12)
        theirs = StandardScaler().fit_transform(patterns.values[rows])
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    with pytest.raises(InputError, match=f"z-scored within each {within} already"):
        zscore_patterns(scaled, "run")
    with pytest.raises(InputError, match="no baseline, which the criterion needs"):
        select_voxels(scaled, conditions=REGULAR, criterion="t", n_per_roi=3)


def test_runs_of_two_sessions_with_the_same_number_are_two_runs():
    patterns = make(repeats=2)
    table = patterns.observations.assign(run="1")
    same = Patterns(values=patterns.values, observations=table, voxels=patterns.voxels)
    np.testing.assert_allclose(
        zscore_patterns(same, "run").values, zscore_patterns(patterns, "run").values
    )


def test_no_z_score_leaves_responses_as_they_are():
    patterns = make()
    plain = zscore_patterns(patterns, "none")
    np.testing.assert_array_equal(plain.values, patterns.values)
    assert plain.provenance["zscore"] == "none"
    with pytest.raises(InputError, match=r"zscore 'runs'; did you mean 'run'"):
        zscore_patterns(patterns, "runs")


def test_voxels_that_are_constant_in_a_run_are_named():
    patterns = make()
    values = patterns.values.copy()
    values[patterns.observations["run"] == "2", 5] = 0.1
    constant = with_values(patterns, values)
    with pytest.raises(InputError, match=r"no variance in run 'b 2' \(40 responses\) in V1 \(5, 0"):
        zscore_patterns(constant, "run")
    assert np.isfinite(zscore_patterns(constant, "session").values).all()


def test_pooled_subjects_keep_their_labels_and_meet_by_condition_and_presentation():
    first, second = make("01", seed=1), make("02", seed=2)
    pooled = pool_subjects([first, second])
    assert pooled.voxels["subject"].tolist() == ["01"] * 40 + ["02"] * 40
    assert pooled.provenance["pooled"] == ["01", "02"]
    for row, observation in pooled.observations.iterrows():
        for part, columns in ((first, slice(0, 40)), (second, slice(40, 80))):
            table = part.observations
            same = (table["condition"] == observation["condition"]) & (
                table["presentation"] == observation["presentation"]
            )
            np.testing.assert_array_equal(
                pooled.values[row, columns], part.values[same.to_numpy()][0]
            )
    assert pooled.observations["run"].tolist() == first.observations["run"].tolist()


def test_what_subjects_do_not_share_is_told():
    first, second = make("01"), make("02", repeats=2)
    with pytest.warns(UserWarning, match="80 presentations that all have are kept, of up to 120"):
        assert len(pool_subjects([first, second])) == 80
    with pytest.raises(InputError, match="subjects given twice: 01"):
        pool_subjects([first, make("01")])
    with pytest.raises(InputError, match="at least two subjects"):
        pool_subjects([first])
    with pytest.raises(InputError, match=r"different conditions: .*\(20 in all\)"):
        pool_subjects([first, make("02").select(conditions=REGULAR)])
    with pytest.raises(InputError, match=r"subject 02 lacks the ROI\(s\) LO"):
        pool_subjects([first, make("02").select(roi="V1")])
    with pytest.raises(InputError, match="name the hemisphere"):
        pool_subjects([first, make("02", hemisphere="L")])


def test_the_table_of_reliability_says_why_numbers_are_missing():
    patterns = make()
    once = (patterns.observations["presentation"] == 1) | (
        patterns.observations["condition"].map(TYPES) == "RE"
    )
    part = Patterns(
        values=patterns.values[once],
        observations=patterns.observations[once],
        voxels=patterns.voxels,
    )
    table = reliability_table(part, TYPES).set_index(["roi", "image_type"])
    regular, noise = table.loc[("LO", "RE")], table.loc[("LO", "AN")]
    assert regular["n_images"] == 20 and regular["repeats"] == 3 and regular["reason"] == ""
    assert regular["ncsnr_low"] < regular["ncsnr_median"] < regular["ncsnr_high"]
    assert np.isnan(noise["nc"]) and "shown once" in noise["reason"]
    alone = part.select(conditions=REGULAR, roi="LO")
    assert regular["pattern"] == pytest.approx(pattern_reliability(alone)["reliability"][0])
