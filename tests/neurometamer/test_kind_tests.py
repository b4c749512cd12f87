"""The table of RE-AN and RE-AI against its functions, scipy and rsatoolbox; bad input; command."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.util.inference_util import _dual_bootstrap
from scipy.stats import combine_pvalues, norm, rankdata, spearmanr, t, ttest_1samp

from fmri.patterns import Patterns, write_patterns
from fmri.reliability import split_half_reliability
from neurometamer import commands
from neurometamer.activations import Activations, _new_file
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.rsa.bootstrap import corrected_variance
from neurometamer.rsa.comparators.table import COMPARATORS
from neurometamer.rsa.compute import (
    activation_rdms,
    compute_rdm,
    label_rdms,
    pattern_rdms,
    select_image_type,
    take_conditions,
    write_rdms,
)
from neurometamer.rsa.image_types.ceilings import image_type_reliability
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.image_types.nulls import class_labels, session_labels
from neurometamer.rsa.image_types.options import ImageTypeOptions, subjects_needed
from neurometamer.rsa.image_types.similarity import (
    image_type_difference,
    image_type_projection,
    image_type_samples,
    image_type_similarity,
    image_type_trends,
)
from neurometamer.rsa.sampling import project, sample_photographs
from neurometamer.rsa.subsample import (
    UnitValues,
    activation_units,
    paired_scores,
    pattern_units,
    subsample_rdms,
)
from neurometamer.stats.resampling import permutation_orders, permutation_p, permute_pairs

KINDS = ("RE", "AN", "AI")
QUICK = {"n_resamples": 60, "n_permutations": 99}


def stimuli(n=10):
    names = [f"im{i:02d}" for i in range(n)]
    return pd.DataFrame(
        {
            "id": [
                name if kind == "RE" else f"{name}_{kind}"
                for kind in ("RE", "AN", "AI")
                for name in names
            ],
            "kind": [kind for kind in ("RE", "AN", "AI") for _ in names],
            "reference_id": names * 3,
            "category": (["dog"] * (n // 2) + ["car"] * (n - n // 2)) * 3,
        }
    )


def subject_patterns(subject="S1", n=10, voxels=30, rois=("V1", "LO"), seed=0, sessions=("a", "a")):
    """AI follows RE, AN does not; even photographs in the first session, odd ones in the second."""
    rng = np.random.default_rng([seed, *subject.encode()])
    shared = np.random.default_rng(seed).standard_normal((3, n, 6))
    weights = rng.standard_normal((6, voxels * len(rois)))
    signal = np.concatenate([shared[0], shared[1], shared[0] + 0.5 * shared[2]]) @ weights
    table = stimuli(n)
    session = [sessions[i % 2] for i in range(n)] * 3
    observations = pd.concat(
        [
            pd.DataFrame(
                {"condition": table["id"], "presentation": k, "run": str(k), "session": session}
            )
            for k in (1, 2)
        ],
        ignore_index=True,
    )
    values = np.concatenate([signal, signal]) + rng.standard_normal((6 * n, weights.shape[1]))
    roi = np.repeat(rois, voxels)
    places = pd.DataFrame(
        {"subject": subject, "roi": roi, "i": np.arange(len(roi)), "j": 0, "k": 0}
    )
    return Patterns(values=values, observations=observations, voxels=places)


def brain(subjects=("S1", "S2", "S3"), **how):
    patterns = {name: subject_patterns(name, **how) for name in subjects}
    return patterns, pattern_rdms(patterns, stimuli(how.get("n", 10)))


def network(n=10, stages=("conv1", "conv2", "fc")):
    table = stimuli(n)
    rng = np.random.default_rng(5)
    arrays = {stage: rng.standard_normal((3 * n, 40)).astype(np.float32) for stage in stages}
    for k, stage in enumerate(
        stages
    ):  # the later, the more do AN images look like their photographs
        arrays[stage][n : 2 * n] += 5 * k * arrays[stage][:n]
        arrays[stage][2 * n :] += 0.3 * arrays[stage][:n]
    return Activations(
        ids=tuple(table["id"]), stages=stages, n_units=dict.fromkeys(stages, 40), arrays=arrays
    )


def test_values_and_intervals_are_those_of_similarity_and_difference_in_the_same_draws():
    _, rdms = brain()
    table = compare_image_types(rdms, interval="stimuli", **QUICK, seed=3)
    assert len(table) == (3 * 2 + 2) * 3
    one = table[(table["quantity"] == "similarity") & (table["subject"] != "mean")]
    expected = image_type_similarity(rdms, n_resamples=60, seed=3)
    for ours, theirs in (("value", "similarity"), ("ci_low", "ci_low"), ("ci_high", "ci_high")):
        assert one[ours].tolist() == expected[theirs].tolist()
    difference = table[(table["quantity"] == "difference") & (table["subject"] != "mean")]
    expected = image_type_difference(rdms, n_resamples=60, seed=3)
    assert difference["value"].tolist() == pytest.approx(expected["difference"].tolist())
    assert difference["ci_low"].tolist() == pytest.approx(expected["ci_low"].tolist())
    mean = table[table["subject"] == "mean"].set_index(["representation", "pair"])
    by_subject = (
        table[table["subject"] != "mean"].groupby(["representation", "pair"])["value"].mean()
    )
    np.testing.assert_allclose(mean["value"], by_subject.reindex(mean.index))
    assert set(table.loc[table["subject"] == "mean", "n_subjects"]) == {3}
    assert set(table["n"]) == {10}


def test_p_of_a_similarity_equals_an_explicit_loop():
    _, rdms = brain(subjects=("S1",))
    table = compare_image_types(rdms, **QUICK, seed=2)
    orders = permutation_orders(10, 99, seed=2)
    re, an = (
        select_image_type(rdms, "RE").get_matrices()[1],
        select_image_type(rdms, "AN").get_matrices()[1],
    )
    first, second = np.triu_indices(10, 1)
    null = [
        spearmanr(re[np.ix_(order, order)][first, second], an[first, second]).statistic
        for order in orders
    ]
    value = spearmanr(re[first, second], an[first, second]).statistic
    row = table[(table["representation"] == "LO") & (table["pair"] == "RE-AN")].iloc[0]
    assert row["p"] == (1 + np.sum(np.array(null) >= value - 1e-12)) / 100
    assert row["p_method"] == "labels of RE permuted freely, 99 orders, one-sided"


@pytest.mark.parametrize("comparator", ["pearson", "rho-a", "cosine", "tau-a"])
def test_the_null_is_of_the_comparator_asked_for(comparator):
    _, rdms = brain(subjects=("S1",), rois=("V1",), n=6)
    table = compare_image_types(rdms, comparator=comparator, n_resamples=5, n_permutations=20)
    re, ai = (select_image_type(rdms, kind).dissimilarities for kind in ("RE", "AI"))
    null = COMPARATORS[comparator](permute_pairs(re[0], permutation_orders(6, 20, seed=0)), ai)
    value = COMPARATORS[comparator](re, ai)[0]
    assert table[table["pair"] == "RE-AI"]["p"].iloc[0] == permutation_p(value, null)[0]


def test_one_p_of_the_subjects_by_name():
    _, rdms = brain()
    tables = {
        how: compare_image_types(rdms, combine=how, **QUICK)
        for how in ("joint", "fisher", "stouffer", "all")
    }
    for how, table in tables.items():
        rows = table[(table["representation"] == "V1") & (table["pair"] == "RE-AN")]
        each, mean = (
            rows[rows["subject"] != "mean"]["p"].to_numpy(),
            rows[rows["subject"] == "mean"].iloc[0],
        )
        if how in ("fisher", "stouffer"):
            assert mean["p"] == pytest.approx(combine_pvalues(each, how).pvalue, abs=1e-12)
            assert "independent" in mean["p_method"]
        if how == "all":
            assert mean["p"] == each.max()
    joint = tables["joint"]
    # all three subjects show it: no smaller p than 1 / (1 + N) exists
    assert joint[(joint["pair"] == "RE-AI") & (joint["subject"] == "mean")]["p"].tolist() == [
        0.01,
        0.01,
    ]
    assert (joint["p_corrected"] >= joint["p"]).all()
    assert (joint["p_corrected"] <= 1).all()


def test_families_and_words():
    _, rdms = brain()
    table = compare_image_types(rdms, **QUICK)
    assert set(table["family"]) == {"2 ROIs"}
    wide = compare_image_types(rdms, family="subjects", correction="bonferroni", **QUICK)
    assert wide.groupby(wide["subject"] == "mean")["family"].first().tolist() == [
        "2 ROIs x 3 subjects",
        "2 ROIs",
    ]
    one = wide[(wide["subject"] == "S1") & (wide["pair"] == "RE-AI")]
    np.testing.assert_allclose(one["p_corrected"], np.minimum(1, one["p"] * 6))
    difference = table[(table["quantity"] == "difference") & (table["subject"] == "mean")]
    assert set(difference["answer"]) == {"follows perception: RE-AI above RE-AN"}
    assert set(difference["expected"]) == {"RE-AI above RE-AN (perception)"}
    layers = compare_image_types(activation_rdms(network(), stimuli()), **QUICK)
    assert set(layers["family"]) == {"3 layers"}
    expected = layers.groupby("representation", sort=False)["expected"].first().to_dict()
    assert expected == {"conv1": "", "conv2": "", "fc": "RE-AN above RE-AI (decision; last stage)"}
    last = layers[(layers["representation"] == "fc") & (layers["quantity"] == "difference")].iloc[0]
    assert last["answer"] == "follows the network's decision: RE-AN above RE-AI"
    assert "mean" not in set(layers["subject"])


def test_exact_when_few_orders_exist():
    patterns, rdms = brain(n=4, sessions=("a", "b"))
    table = compare_image_types(rdms, null="free", n_resamples=20, n_permutations=1000)
    assert "all 23 other orders (exact)" in table["p_method"][0]
    assert (
        table["method"]
        .str.contains("no interval: sessions differ between photographs, and 4 photographs")
        .all()
    )
    assert table["ci_low"].isna().all()
    blocks = {name: session_labels(one, stimuli(4)) for name, one in patterns.items()}
    table = compare_image_types(rdms, null="session", blocks=blocks, n_resamples=20)
    assert "within 2 sessions, all 3 other orders (exact)" in table["p_method"][0]
    assert table["p"].min() >= 0.25 or table["quantity"].eq("difference").any()


# ---------------------------------------------------------------------------------------- subsample


def test_subsamples_are_rdms_of_parts_of_the_units():
    values = np.maximum(np.random.default_rng(0).standard_normal((7, 25)), 0)  # half zeros: ties
    units = UnitValues("brain", "S1", "V1", tuple("abcdefg"), values)
    for measure in ("spearman", "pearson"):
        rdms = subsample_rdms(units, 5, 0, measure=measure)
        random = generator(0, "subsample", "brain", "S1", "V1")
        for row in rdms:
            part = values[:, np.sort(random.permutation(25)[:20])]
            expected = compute_rdm(part, measure)
            np.testing.assert_allclose(row, expected, atol=1e-12)
    scores = paired_scores("spearman", rdms, rdms[::-1])
    expected = [spearmanr(a, b).statistic for a, b in zip(rdms, rdms[::-1])]
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    np.testing.assert_allclose(
        paired_scores("tau-a", rdms, rdms), COMPARATORS["tau-a"](rdms, rdms).diagonal()
    )


@pytest.mark.parametrize("kind", ["zeros", "few values", "all equal", "a pair", "negative block"])
def test_ranks_of_parts_with_ties_are_scipys(kind):
    values = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    if kind == "zeros":  # of a ReLU, with a few equal values above
        values = np.maximum(values, 0)
        values[:, 3] = values[:, 4] = 0.7
    elif kind == "few values":
        values = np.round(values)
    elif kind == "all equal":
        values[2] = 1
    elif kind == "a pair":
        values[:, 1] = values[:, 0]
    else:
        values[:, 10:30] = -9
    units = UnitValues("network", "", "conv1", tuple("abcdef"), values)
    found = subsample_rdms(units, 8, 3)
    random = generator(3, "subsample", "network", "", "conv1")
    for row in found:
        part = values[:, random.permutation(50)[:40]]
        with np.errstate(invalid="ignore", divide="ignore"):
            expected = 1 - np.corrcoef(rankdata(part, axis=1))[np.triu_indices(6, 1)]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_subsamples_take_rsatoolboxs_name_of_pearson():
    units = next(iter(pattern_units({"S1": subject_patterns()}, stimuli())))
    theirs = subsample_rdms(units, 3, 1, measure="correlation")
    np.testing.assert_array_equal(theirs, subsample_rdms(units, 3, 1, measure="pearson"))
    assert not np.allclose(theirs, subsample_rdms(units, 3, 1, measure="spearman"))


def test_subsamples_do_not_depend_on_blocks_of_memory(monkeypatch):
    units = next(iter(pattern_units({"S1": subject_patterns()}, stimuli())))
    whole = subsample_rdms(units, 7, 1)
    monkeypatch.setattr("neurometamer.rsa.subsample.BLOCK", 30 * 30 * 2)
    np.testing.assert_allclose(subsample_rdms(units, 7, 1), whole, atol=1e-12)


def test_the_interval_of_the_paper_is_there_with_its_warning():
    patterns, rdms = brain(subjects=("S1", "S2"))
    table = compare_image_types(
        rdms, units=pattern_units(patterns, stimuli()), interval="subsample", **QUICK
    )
    stimulus = compare_image_types(rdms, **QUICK)
    assert table["value"].tolist() == stimulus["value"].tolist()
    assert (
        table["method"]
        .str.contains("80% of the units .Zhang 2021.; WARNING: ignores the choice of images")
        .all()
    )
    width, other = ((one["ci_high"] - one["ci_low"]).mean() for one in (table, stimulus))
    assert width < 0.6 * other
    assert table["p_method"][0].endswith("each in a subsample of the units of its own, one-sided")
    layers = compare_image_types(
        activation_rdms(network(), stimuli()),
        units=activation_units(network(), stimuli()),
        interval="subsample",
        **QUICK,
    )
    assert layers["p"].between(0.01, 1).all()
    with pytest.raises(InputError, match="give patterns or activations, not RDMs"):
        compare_image_types(rdms, interval="subsample")
    with pytest.raises(InputError, match="no responses of units for S1 V1, S1 LO"):
        compare_image_types(
            rdms,
            units=pattern_units({"S2": patterns["S2"]}, stimuli()),
            interval="subsample",
            **QUICK,
        )
    with pytest.raises(InputError, match="5% of 30 units are 2"):
        compare_image_types(
            rdms,
            units=pattern_units(patterns, stimuli()),
            interval="subsample",
            share=0.05,
            **QUICK,
        )


# ------------------------------------------------------------------------------------ over subjects


def test_dual_bootstrap_has_rsatoolboxs_formula():
    rng = np.random.default_rng(0)
    for _ in range(50):
        variances = rng.random(3)
        theirs = _dual_bootstrap(variances[:, np.newaxis], n_rdm=7, n_pattern=12)
        assert corrected_variance(variances, 7, 12) == pytest.approx(theirs[0], abs=1e-12)


def test_intervals_over_subjects_equal_an_explicit_bootstrap():
    names = tuple(f"S{i}" for i in range(7))
    _, rdms = brain(subjects=names, rois=("V1",), n=8)
    one = compare_image_types(rdms, interval="stimuli", **QUICK)
    values = one[(one["quantity"] == "difference") & (one["subject"] != "mean")]["value"].to_numpy()
    subjects = compare_image_types(rdms, interval="subjects", n_resamples=4000, n_permutations=9)
    row = subjects[(subjects["subject"] == "mean") & (subjects["quantity"] == "difference")].iloc[0]
    # the corrected bootstrap variance of a mean is that of the t-test, up to the noise of 4000
    # draws (2 %)
    half = t.isf(0.025, 6) * values.std(ddof=1) / np.sqrt(7)
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(half, rel=0.05)
    assert np.log(row["p"]) == pytest.approx(np.log(ttest_1samp(values, 0).pvalue), rel=0.05)
    assert row["method"].startswith(
        "spearman; 95% t interval (6 dof), bootstrap over 7 subjects, 4000 resamples"
    )
    per_subject = subjects[subjects["subject"] != "mean"]
    assert per_subject["ci_low"].isna().all()
    assert per_subject["method"].str.contains("see subject 'mean'").all()
    dual = compare_image_types(rdms, interval="dual", **QUICK)
    both = dual[(dual["subject"] == "mean") & (dual["quantity"] == "difference")].iloc[0]
    assert both["ci_high"] - both["ci_low"] > row["ci_high"] - row["ci_low"]
    assert "8 photographs within 2 classes" in both["method"]
    assert "and 7 subjects" in both["method"]


def test_too_few_subjects_are_told_what_to_use():
    assert [subjects_needed(c) for c in (0.9, 0.95, 0.99)] == [5, 6, 8]
    _, three = brain()
    for interval in ("subjects", "dual"):
        with pytest.raises(
            InputError, match=r"at least 6 subjects; .* V1 \(3\), LO \(3\).*interval='projection'"
        ):
            compare_image_types(three, interval=interval)
    _, one = brain(subjects=("S1",))
    with pytest.raises(InputError, match=r"V1 \(1\), LO \(1\)"):
        compare_image_types(one, interval="subjects")
    with pytest.raises(InputError, match="fewer in these RDMs"):
        compare_image_types(activation_rdms(network(), stimuli()), interval="dual")


# ------------------------------------------------------------------------------------------- labels


def test_sessions_and_classes_come_from_the_data():
    two = subject_patterns(sessions=("a", "b"))
    labels = session_labels(two, stimuli())
    assert labels == {f"im{i:02d}": "ab"[i % 2] for i in range(10)}
    assert class_labels(stimuli())["im00"] == "dog"
    with pytest.raises(InputError, match="subject 'S1': the patterns have no session labels"):
        session_labels(subject_patterns(sessions=("", "")), stimuli())
    with pytest.raises(InputError, match="shown in session 'a'"):
        session_labels(subject_patterns(sessions=("a", "a")), stimuli())
    moved = two
    observations = moved.observations.copy()
    observations.loc[observations["condition"] == "im01_AN", "session"] = "a"
    moved = Patterns(values=moved.values, observations=observations, voxels=moved.voxels)
    with pytest.raises(InputError, match="the images of im01 were shown in several sessions"):
        session_labels(moved, stimuli())
    with pytest.raises(InputError, match="no column 'class'"):
        class_labels(stimuli(), "class")
    with pytest.raises(InputError, match="no 'category' for the photographs im03"):
        class_labels(stimuli().assign(category=lambda x: x["category"].where(x["id"] != "im03")))
    with pytest.raises(InputError, match="same 'category', dog"):
        class_labels(stimuli().assign(category="dog"))
    with pytest.raises(InputError, match="no photographs"):
        class_labels(stimuli().assign(kind="AN"))


def test_blocks_that_do_not_fit_are_errors():
    _, rdms = brain()
    with pytest.raises(InputError, match="null 'session' needs the session of each photograph"):
        compare_image_types(rdms, null="session")
    labels = {f"im{i:02d}": "ab"[i % 2] for i in range(10)}
    with pytest.raises(InputError, match="blocks were given without saying what they are"):
        compare_image_types(rdms, blocks=labels)
    with pytest.raises(InputError, match="no session for the photographs im00, im02"):
        compare_image_types(
            rdms, null="session", blocks={one: s for one, s in labels.items() if s == "b"}
        )
    with pytest.raises(InputError, match="of one session, 'x'"):
        compare_image_types(rdms, null="session", blocks=dict.fromkeys(labels, "x"))
    with pytest.raises(InputError, match="no session labels for subject 'S2'"):
        compare_image_types(rdms, null="session", blocks={"S1": labels})
    with pytest.raises(InputError, match=r"each of the blocks im00, im01.*holds one stimulus"):
        compare_image_types(rdms, null="class", blocks={one: one for one in labels})
    other = {one: "ab"[i < 4] for i, one in enumerate(labels)}
    own = {"S1": labels, "S2": labels, "S3": other}
    with pytest.raises(InputError, match="subjects differ in the sessions"):
        compare_image_types(rdms, null="session", blocks=own)
    table = compare_image_types(rdms, null="session", blocks=own, combine="all", **QUICK)
    assert table["p"].between(0, 1).all()


def test_bad_requests_are_answered():
    _, rdms = brain(n=5)
    with pytest.raises(InputError, match="unknown image type 'AX'; did you mean"):
        compare_image_types(rdms, decision=("RE", "AX"), **QUICK)
    lacking = take_conditions(rdms, [i for i in range(rdms.n_cond) if i != 6])  # im01_AN
    with pytest.raises(InputError, match="missing from the second RDMs: im01"):
        compare_image_types(lacking, **QUICK)
    table = compare_image_types(lacking, join="inner", **QUICK)
    assert set(table["n"]) == {4}
    assert table["method"].str.contains("left out: im01").all()
    with pytest.raises(InputError, match="at least 4 are needed"):
        compare_image_types(take_conditions(rdms, [0, 1, 2, 5, 6, 7, 10, 11, 12]), **QUICK)
    for name, value in (
        ("interval", "images"),
        ("null", "run"),
        ("combine", "mean"),
        ("correction", "fwe"),
        ("comparator", "x"),
    ):
        with pytest.raises(InputError, match=f"unknown .*'{value}'"):
            ImageTypeOptions(**{name: value})
    for name, value in (("n_resamples", 0), ("n_permutations", -1), ("confidence", 95)):
        with pytest.raises(InputError, match=f"{name} "):
            ImageTypeOptions(**{name: value})
    untested = compare_image_types(rdms, interval="none", n_permutations=0, n_resamples=0)
    assert untested[["p", "p_corrected", "ci_low"]].isna().all(axis=None)
    assert set(untested["answer"]) == {"", "not tested: no interval"}


# ---------------------------------------------------------------- null, ceiling, max-T, no interval


def test_null_ends_are_those_of_the_permutations_and_of_their_mean_over_subjects():
    _, rdms = brain()
    table = compare_image_types(rdms, **QUICK, seed=4).set_index(
        ["representation", "pair", "subject"]
    )
    orders = permutation_orders(10, 99, seed=4)
    nulls = []
    for subject in ("S1", "S2", "S3"):
        i = next(
            k
            for k in range(rdms.n_rdm)
            if rdms.rdm_descriptors["subject"][k] == subject
            and rdms.rdm_descriptors["roi"][k] == "LO"
        )
        re, an = (select_image_type(rdms, kind).dissimilarities[i] for kind in ("RE", "AN"))
        nulls.append(COMPARATORS["spearman"](permute_pairs(re, orders), an[np.newaxis])[:, 0])
        row = table.loc[("LO", "RE-AN", subject)]
        assert [row["null_low"], row["null_high"]] == pytest.approx(
            np.percentile(nulls[-1], [2.5, 97.5]).tolist()
        )
    mean = table.loc[("LO", "RE-AN", "mean")]
    expected = np.percentile(np.mean(nulls, axis=0), [2.5, 97.5])
    assert [mean["null_low"], mean["null_high"]] == pytest.approx(expected.tolist())
    assert mean["null_high"] < table.loc[("LO", "RE-AN", "S1"), "null_high"]  # the mean varies less
    assert (
        table.xs("RE-AI minus RE-AN", level="pair")[["null_low", "null_high"]].isna().all(axis=None)
    )
    assert compare_image_types(rdms, n_resamples=5, n_permutations=0)["null_low"].isna().all()


def test_the_ceiling_is_the_root_of_both_reliabilities():
    patterns, rdms = brain(subjects=("S1", "S2"))
    reliability = image_type_reliability(patterns, stimuli())
    table = compare_image_types(rdms, reliability=reliability, **QUICK).set_index(
        ["subject", "representation", "pair"]
    )
    ids = stimuli().set_index("kind")["id"]
    parts = [
        split_half_reliability(patterns["S1"], ids[kind].tolist()).set_index("roi").loc["V1"]
        for kind in KINDS
    ]
    low, high = (np.sqrt(parts[0][name] * parts[2][name]) for name in ("reliability", "upper"))
    row = table.loc[("S1", "V1", "RE-AI")]
    assert [row["ceiling_low"], row["ceiling_high"]] == pytest.approx([low, high])
    assert 0 < low < high < 1
    assert "simulated from signal and noise" in row["ceiling"]
    each = [table.loc[(one, "V1", "RE-AI"), "ceiling_high"] for one in ("S1", "S2")]
    assert table.loc[("mean", "V1", "RE-AI"), "ceiling_high"] == pytest.approx(np.mean(each))
    assert (table.xs("RE-AI minus RE-AN", level="pair")["ceiling"] == "").all()


def test_without_repetitions_there_is_no_ceiling_and_the_reason_is_told():
    patterns, rdms = brain(subjects=("S1",))
    table = compare_image_types(rdms, **QUICK)
    assert table["ceiling_low"].isna().all()
    assert table["ceiling"][0].startswith("undefined: needs the reliability of each kind")
    one = patterns["S1"]
    once = {
        "S1": Patterns(
            values=one.values[:30], observations=one.observations[:30], voxels=one.voxels
        )
    }
    table = compare_image_types(rdms, reliability=image_type_reliability(once, stimuli()), **QUICK)
    assert table["ceiling"][0].startswith(
        "undefined: conditions without both an odd and an even presentation: im00"
    )
    assert compare_image_types(rdms, comparator="pearson", **QUICK)["ceiling"][0] == (
        "undefined: reliability is of 1 - Spearman RDMs compared by Spearman"
    )
    with pytest.raises(InputError, match=r"lacks the column\(s\) kind, reliability"):
        compare_image_types(
            rdms,
            reliability=pd.DataFrame(columns=["subject", "roi", "corrected", "method"]),
            **QUICK,
        )
    with pytest.raises(InputError, match="unknown image type 'AX'"):
        image_type_reliability(patterns, stimuli(), ["AX"])


def test_a_network_answers_without_noise_so_nothing_is_said_of_a_ceiling():
    table = compare_image_types(activation_rdms(network(), stimuli()), **QUICK)
    assert table["ceiling_low"].isna().all()
    assert set(table["ceiling"]) == {""}


def test_max_t_of_similarities_equals_an_explicit_loop_over_permutations():
    _, rdms = brain(rois=("V1", "V4", "LO"))
    table = (
        compare_image_types(rdms, correction="max-t", **QUICK, seed=5)
        .set_index(["subject", "pair"])
        .sort_index()
    )
    orders = permutation_orders(10, 99, seed=5)
    places = {
        name: [k for k, one in enumerate(rdms.rdm_descriptors["subject"]) if one == name]
        for name in ("S1", "S2")
    }
    for subject, index in places.items():
        re, an = (select_image_type(rdms, kind).dissimilarities[index] for kind in ("RE", "AN"))
        null = np.stack(
            [
                COMPARATORS["spearman"](permute_pairs(x, orders), y[None])[:, 0]
                for x, y in zip(re, an)
            ]
        )
        rows = table.loc[(subject, "RE-AN")]
        expected = [
            (1 + (null.max(axis=0) >= value - 1e-12).sum()) / 100 for value in rows["value"]
        ]
        assert rows["p_corrected"].tolist() == expected
        assert (rows["p_corrected"] >= rows["p"]).all()
    assert set(table["correction"]) == {"max-t"}
    both = compare_image_types(rdms, correction="max-t", family="subjects", **QUICK, seed=5)
    single = both[(both["subject"] != "mean") & (both["pair"] == "RE-AN")]
    assert set(single["family"]) == {"3 ROIs x 3 subjects"}
    rows = table.loc[(["S1", "S2", "S3"], ["RE-AN"]), "p_corrected"].reset_index(drop=True)
    assert (single["p_corrected"].reset_index(drop=True) >= rows - 1e-12).all()


def test_max_t_where_it_is_not_defined_is_holm_by_name():
    _, rdms = brain()
    labels = {f"im{i:02d}": "ab"[i % 2] for i in range(10)}
    other = {one: "ab"[i < 4] for i, one in enumerate(labels)}
    own = {"S1": labels, "S2": labels, "S3": other}
    how = {
        "null": "session",
        "blocks": own,
        "combine": "all",
        "family": "subjects",
        "correction": "max-t",
    }
    table = compare_image_types(rdms, **how, **QUICK)
    assert set(table["correction"]) == {"holm", "max-t"}
    assert set(table[table["quantity"] == "similarity"]["correction"]) == {"holm"}
    joint = compare_image_types(rdms, correction="max-t", **QUICK)
    holm = compare_image_types(rdms, correction="holm", **QUICK)
    assert set(joint["correction"]) == {"max-t"}
    assert (joint["p_corrected"] >= joint["p"]).all()
    assert joint["p_corrected"].max() <= 1
    similar = joint["quantity"] == "similarity"
    assert joint.loc[similar, "p_corrected"].sum() <= holm.loc[similar, "p_corrected"].sum()
    _, seven = brain(subjects=[f"S{i}" for i in range(7)])
    dual = compare_image_types(seven, interval="dual", correction="max-t", **QUICK)
    rows = dual[dual["quantity"] == "difference"]
    assert set(rows["correction"]) == {"holm"}


def test_max_t_of_the_difference_is_the_largest_centered_resample():
    _, rdms = brain(subjects=("S1",), rois=("V1", "V4", "LO"))
    table = compare_image_types(rdms, interval="stimuli", correction="max-t", **QUICK, seed=3)
    rows = table[table["quantity"] == "difference"]
    pairs = (("RE", "AI"), ("RE", "AN"))
    parts = [
        image_type_samples(rdms, pair, "spearman", "exact", 60, 3, confidence=0.95)
        for pair in pairs
    ]
    value, samples = parts[0][0] - parts[1][0], parts[0][1] - parts[1][1]
    scale = samples.std(axis=0)
    largest = (np.abs(samples - value) / scale).max(axis=1)
    expected = [(1 + (largest >= one).sum()) / 61 for one in np.abs(value) / scale]
    assert rows["p_corrected"].tolist() == pytest.approx(np.maximum(expected, rows["p"]).tolist())


def test_without_an_interval_the_difference_is_still_tested():
    _, rdms = brain()
    for how in ({}, {"combine": "stouffer"}):
        plain, tested = (
            compare_image_types(rdms, interval=one, **how, **QUICK)
            for one in ("none", "projection")
        )
        assert plain["p"].tolist() == tested["p"].tolist()
        assert plain["ci_low"].isna().all()
        rows = plain[plain["quantity"] == "difference"]
        assert rows["p_method"].str.contains("interval 'projection'").all()
        assert rows["answer"].str.contains("follows|undecided").all()


def test_intervals_stay_within_what_is_possible():
    rng = np.random.default_rng(3)
    names = [f"im{i}" for i in range(4)]
    base = rng.random(6)
    square = np.zeros((12, 12))
    for k, values in enumerate((base, rng.random(6), base + 0.02 * rng.random(6))):
        square[4 * k : 4 * k + 4, 4 * k : 4 * k + 4][np.triu_indices(4, 1)] = values
    rdms = label_rdms(
        square[np.triu_indices(12, 1)][np.newaxis] + 1e-9,
        measure="x",
        rdm_descriptors={"stage": ["conv1"]},
        conditions=[f"{kind}{one}" for kind in KINDS for one in names],
        pattern_descriptors={
            "kind": [kind for kind in KINDS for _ in names],
            "reference_id": names * 3,
        },
    )
    table = compare_image_types(
        rdms, comparator="pearson", n_resamples=200, n_permutations=9
    ).set_index("quantity")
    assert table.loc["similarity", ["ci_low", "ci_high"]].abs().max(axis=None) == 1
    assert table.loc["difference", "ci_high"] <= 2


def test_whitened_comparators_need_the_usual_bootstrap():
    _, rdms = brain(subjects=("S1",))
    with pytest.raises(
        InputError, match="not defined for comparator='whitened-cosine'; give interval='stimuli'"
    ):
        compare_image_types(rdms, comparator="whitened-cosine", **QUICK)
    assert (
        compare_image_types(rdms, comparator="whitened-cosine", interval="stimuli", **QUICK)[
            "ci_low"
        ]
        .notna()
        .all()
    )
    assert (
        compare_image_types(rdms, comparator="whitened-cosine", interval="none", **QUICK)["p"]
        .notna()
        .all()
    )


@pytest.mark.parametrize("comparator", ["spearman", "pearson", "tau-a", "rho-a", "cosine"])
def test_noise_of_pairs_is_half_of_the_projection_where_nothing_is_shared(comparator):
    rng = np.random.default_rng(0)
    names = [f"im{i:02d}" for i in range(20)]
    unrelated = [
        1 - np.corrcoef(rng.standard_normal((40, 30)))[np.triu_indices(40, 1)] for _ in range(6)
    ]
    rdms = label_rdms(
        np.array(unrelated),
        conditions=[*names, *(f"{one}_AN" for one in names)],
        measure="1 - Pearson",
        rdm_descriptors={"stage": [f"s{i}" for i in range(6)], "system": ["network"] * 6},
        pattern_descriptors={"kind": ["RE"] * 20 + ["AN"] * 20, "reference_id": names * 2},
    )
    found = image_type_projection(rdms, ("RE", "AN"), comparator, 200, 0)
    drawn = np.square(found.deviations).sum(axis=0)
    share = np.square(found.noise).mean(axis=0) / drawn
    assert 0.35 < np.median(share) < 0.65
    pairs = np.minimum(share, 0.5)
    part = (1 - 2 * pairs) / (1 - pairs)
    expected = (1 - 2 * pairs) * (1 + part**2 / 8) + pairs * (1 + 2 * part)
    np.testing.assert_allclose(found.errors**2 / drawn, expected)
    samples = found.samples(200, 0, 0.95)
    np.testing.assert_allclose(
        samples.std(axis=0), found.errors * t.ppf(0.975, 19) / norm.ppf(0.975)
    )
    low, high = found.interval(0.95)
    np.testing.assert_allclose(high - low, 2 * t.ppf(0.975, 19) * found.errors)


@pytest.mark.parametrize(
    "comparator", ["spearman", "pearson", "tau-a", "rho-a", "cosine", "whitened-cosine"]
)
def test_the_jackknife_leaves_each_photograph_out(comparator):
    rng = np.random.default_rng(1)
    a, b = (
        1 - np.corrcoef(rng.standard_normal((12, 30)))[np.triu_indices(12, 1)][np.newaxis]
        for _ in range(2)
    )
    sampling = sample_photographs([f"im{i:02d}" for i in range(12)])
    compare = COMPARATORS[comparator]
    found = project(
        lambda weights: compare(a, b, weights),
        sampling,
        1,
        0,
        of_pairs=not comparator.startswith("whitened"),
    )
    first, second = np.triu_indices(12, 1)
    without = []
    for image in range(12):
        kept = (first != image) & (second != image)
        without.append(compare(a[:, kept], b[:, kept])[0, 0])
    variance = 11 / 12 * np.sum((np.array(without) - np.mean(without)) ** 2)
    np.testing.assert_allclose(np.square(found.deviations).sum(axis=0)[0, 0], variance)
    assert (found.noise is None) == comparator.startswith("whitened")


# -------------------------------------------------------------------------------------- the command


@pytest.fixture
def files(tmp_path):
    patterns, rdms = brain(sessions=("a", "b"))
    stimuli().to_csv(tmp_path / "stimuli.csv", index=False)
    paths = [write_patterns(one, tmp_path / f"{name}.h5") for name, one in patterns.items()]
    return {
        "patterns": paths,
        "images": [tmp_path / "stimuli.csv"],
        "rdms": [write_rdms(rdms, tmp_path / "rdms.h5")],
    }


def test_command_and_twin_write_the_same_table(files, tmp_path, invoke):
    out = tmp_path / "image_types.csv"
    arguments = [
        "image-types",
        "--out",
        out,
        "--images",
        *files["images"],
        "--null",
        "session",
        "--n-resamples",
        60,
    ]
    for path in files["patterns"]:
        arguments += ["--patterns", path]
    done = invoke([str(one) for one in (*arguments, "--n-permutations", 99)])
    assert done.exit_code == 0, done.output
    assert "mean V1: +" in done.output
    assert "follows perception" in done.output
    table = commands.image_types(
        patterns=files["patterns"], images=files["images"], null="session", **QUICK
    )
    written = pd.read_csv(out, keep_default_na=False, na_values=[""])
    assert written["p"].tolist() == pytest.approx(table["p"].tolist())
    assert "within 2 sessions" in written["p_method"][0]
    assert (
        written["ceiling_high"].between(0, 1).sum() == 2 * 3 * 2 + 2 * 2
    )  # similarities of subjects, and of the mean
    from_rdms = commands.image_types(
        rdms=files["rdms"], images=files["images"], null="class", **QUICK
    )
    assert from_rdms["value"].tolist() == pytest.approx(table["value"].tolist())
    subsample = commands.image_types(
        patterns=files["patterns"], images=files["images"], interval="subsample", **QUICK
    )
    assert len(subsample) == len(table)


def test_trends_over_layers(tmp_path):
    table = compare_image_types(activation_rdms(network(), stimuli()), **QUICK)
    trends = image_type_trends(table)
    assert trends["test"].tolist() == ["Mann-Kendall", "Mann-Kendall", "paired t over layers"]
    assert trends["statistic"][0] == 3
    assert trends["p"][0] == pytest.approx(1 / 3)  # 2 of 6 orders
    with pytest.raises(InputError, match="at least 3 layers; there are 2"):
        image_type_trends(table[table["representation"] != "fc"])
    rdms = write_rdms(activation_rdms(network(), stimuli()), tmp_path / "network.h5")
    commands.image_types(rdms=[rdms], trends=tmp_path / "trends.csv", **QUICK)
    assert len(pd.read_csv(tmp_path / "trends.csv")) == 3


def test_command_bad_input(files):
    with pytest.raises(InputError, match="nothing to compare"):
        commands.image_types()
    with pytest.raises(InputError, match="need --images"):
        commands.image_types(patterns=files["patterns"])
    _, one_session = brain()
    rdms = write_rdms(one_session, files["rdms"][0].parent / "one_session.h5")
    with pytest.raises(InputError, match="these RDMs hold no sessions"):
        commands.image_types(rdms=[rdms], null="session")
    with pytest.raises(InputError, match="needs at least 10 classes; there are 2"):
        commands.image_types(rdms=[rdms], classes="random")
    with pytest.raises(InputError, match="null 'class' needs --images"):
        commands.image_types(rdms=files["rdms"], null="class")
    with pytest.raises(InputError, match="trends are over the layers of a network"):
        commands.image_types(rdms=files["rdms"], trends="nowhere.csv", **QUICK)


def test_an_activation_file_is_a_source(files, tmp_path):
    found = network()
    with _new_file(tmp_path / "network.h5", found.ids, found.stages, {"identity": "x"}) as create:
        for stage in found.stages:
            create(stage, found.arrays[stage].shape)[...] = found.arrays[stage]
    everything = commands.image_types(
        activations=[tmp_path / "network.h5"],
        patterns=files["patterns"],
        images=files["images"],
        null="session",
        trends=tmp_path / "trends.csv",
        **QUICK,
    )
    rows = everything[everything["system"] == "network"]
    assert set(rows["source"]) == {"network.h5"}
    assert set(rows["representation"]) == {"conv1", "conv2", "fc"}
    similarities = rows[rows["quantity"] == "similarity"]
    assert (
        similarities["p_method"].str.contains("permuted freely").all()
    )  # a network has no sessions


def test_one_pair_of_kinds_is_tested_without_the_other():
    _, rdms = brain()
    both = compare_image_types(rdms, **QUICK, seed=2)
    alone = compare_image_types(rdms, perception=None, **QUICK, seed=2)
    assert set(alone["pair"]) == {"RE-AN"} and set(alone["quantity"]) == {"similarity"}
    rows = both[both["pair"] == "RE-AN"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.drop(columns="expected"), rows.drop(columns="expected"))
    trends = image_type_trends(
        compare_image_types(activation_rdms(network(), stimuli()), decision=None, **QUICK)
    )
    assert trends["pair"].tolist() == ["RE-AI"]
    with pytest.raises(InputError, match="at least one pair of image types"):
        ImageTypeOptions(perception=None, decision=None)
