"""What intervals of image types claim: classes fixed or random, sessions taken off, words that say so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.calibration import coverage, rejections
from benchmarks.generators import DESIGNS, Design, study
from fmri.patterns import Patterns
from neurometamer.rsa.kind_sessions import centered_blocks
from neurometamer.rsa.kind_tests import kind_tests
from neurometamer.rsa.rdm import pattern_rdms, read_rdms, write_rdms
from neurometamer.rsa.sampling import sample_photographs
from neurometamer.store import InputError

QUICK = {"n_resamples": 100, "n_permutations": 99}


def subject(design, seed=0, *, sessions=None, classes=None, name="S1"):
    """Patterns of one subject and their stimulus table."""
    names = [f"im{i:02d}" for i in range(design.n)]
    table = pd.DataFrame(
        {
            "id": [f"{kind}_{one}" for kind in ("RE", "AN", "AI") for one in names],
            "kind": np.repeat(["RE", "AN", "AI"], design.n),
            "reference_id": names * 3,
        }
    )
    if classes is not None:
        table["category"] = list(classes) * 3
    shown = list(sessions) * 3 if sessions is not None else [""] * len(table)
    observations = pd.DataFrame({"condition": table["id"], "presentation": 1, "run": "1", "session": shown})
    voxels = pd.DataFrame({"subject": name, "roi": "V1", "i": np.arange(design.voxels), "j": 0, "k": 0})
    values = study(design, seed)[0]
    return {name: Patterns(values=values, observations=observations, voxels=voxels)}, table


# ----------------------------------------------------------------------------------------------------------- classes


def test_the_claim_about_classes_is_in_the_method_and_changes_the_interval():
    design = Design(n=40, subjects=1, classes=10, random_classes=True, class_share=0.8)
    patterns, table = subject(design, classes=[f"c{one}" for one in design.class_labels])
    rdms = pattern_rdms(patterns, table)
    fixed, random = (kind_tests(rdms, classes=claim, **QUICK) for claim in ("fixed", "random"))
    assert fixed["method"].str.contains("40 photographs within 10 classes (claim 'fixed'", regex=False).all()
    assert random["method"].str.contains("10 classes with their 40 photographs (claim 'random'", regex=False).all()
    assert random["method"].str.contains("9 dof").all()
    width = [one["ci_high"] - one["ci_low"] for one in (fixed, random)]
    assert width[1][1] > 1.2 * width[0][1]  # RE-AI: classes vary more than photographs within them
    unknown = kind_tests(pattern_rdms(patterns, table.drop(columns="category")), **QUICK)
    assert unknown["method"].str.contains("taken for independent draws (no classes are known)", regex=False).all()
    with pytest.raises(InputError, match="classes are not known"):
        kind_tests(pattern_rdms(patterns, table.drop(columns="category")), classes="random", **QUICK)


def test_a_written_table_of_rdms_keeps_its_classes(tmp_path):
    design = Design(n=12, subjects=1)
    patterns, table = subject(design, classes=["b\u00fccher", "cup", "cup"] * 4)
    rdms = read_rdms(write_rdms(pattern_rdms(patterns, table), tmp_path / "rdms.h5"))
    assert kind_tests(rdms, **QUICK)["method"].str.contains("within 2 classes").all()


def test_too_few_classes_are_refused_with_a_way_out():
    names = [f"im{i}" for i in range(20)]
    with pytest.raises(InputError, match=r"at least 10 classes; there are 5 .*take the claim 'fixed'"):
        sample_photographs(names, {one: f"c{i % 5}" for i, one in enumerate(names)}, "random")
    with pytest.raises(InputError, match="no class for the photographs im3"):
        sample_photographs(names, {one: "" if one == "im3" else "cup" for one in names})
    with pytest.raises(InputError, match="unknown claim about classes 'fix'; did you mean 'fixed'"):
        sample_photographs(names, None, "fix")


def test_photographs_alone_in_their_class_are_drawn_together():
    names = [f"im{i}" for i in range(6)]
    sampling = sample_photographs(names, dict(zip(names, "aabcde")))
    counts = sampling.counts(50, 0)
    assert (counts[:, :2].sum(axis=1) == 2).all()
    assert (counts[:, 2:].sum(axis=1) == 4).all()
    assert "the photographs of b, c, d, e drawn as if of one class" in sampling.text
    one = sample_photographs(names, dict(zip(names, "aabbbc")))
    assert sorted(one.sizes.tolist()) == [3, 3]  # c joins the smallest class
    assert sample_photographs(names, dict(zip(names, "abcdef"))).dof == 5


def test_moves_of_pairs_favor_no_photograph_and_no_block():
    names = [f"im{i:02d}" for i in range(16)]
    for labels in (None, "aaaabbbbccccdddd"):
        moves = sample_photographs(names, None if labels is None else dict(zip(names, labels))).pair_moves(30, 0)
        first, second = np.triu_indices(16, 1)
        for image in range(16):
            assert np.abs(moves[:, (first == image) | (second == image)].mean(axis=1)).max() < 1e-3
        assert moves.var() == pytest.approx(1, rel=0.1)


# ---------------------------------------------------------------------------------------------------------- sessions


def test_sessions_that_differ_are_taken_off_and_labels_stay_within_them():
    design = Design(n=20, subjects=1, sessions=2, session_sd=1.5, ai=0.0)
    patterns, table = subject(design, sessions=[f"s{one}" for one in design.session_labels])
    found = kind_tests(pattern_rdms(patterns, table), **QUICK)
    assert found["p_method"][0].startswith("labels of RE permuted within 2 sessions")
    assert found["method"].str.contains("the mean of each pair of sessions taken off").all()
    assert (found["ci_low"] < 0).all()
    without = pattern_rdms(patterns, table)
    del without.pattern_descriptors["session"]
    assert kind_tests(without, **QUICK)["ci_low"][0] > 0.2  # what the offsets alone make of unrelated images
    given = kind_tests(without, sessions={f"im{i:02d}": f"s{i % 2}" for i in range(20)}, **QUICK)
    pd.testing.assert_frame_equal(given, found)
    cosine = kind_tests(pattern_rdms(patterns, table), by="cosine", **QUICK)
    assert cosine["ci_low"].isna().all()
    assert cosine["method"].str.contains("'cosine' cannot take them off").all()


def test_classes_that_go_with_sessions_are_told():
    design = Design(n=20, subjects=1, sessions=2, session_sd=0.5)
    sessions = [f"s{one}" for one in design.session_labels]
    patterns, table = subject(design, sessions=sessions, classes=["cat" if one == "s0" else "cup" for one in sessions])
    method = kind_tests(pattern_rdms(patterns, table), **QUICK)["method"]
    assert method.str.contains("sessions and classes go together (cat, cup in one session only)", regex=False).all()


def test_subjects_with_sessions_of_their_own_are_permuted_within_what_they_share():
    design = Design(n=24, subjects=1, sessions=2, session_sd=0.5)
    one, table = subject(design, sessions=[f"s{i % 2}" for i in range(24)])
    two, _ = subject(design, 1, sessions=[f"s{i // 12}" for i in range(24)], name="S2")
    found = kind_tests(pattern_rdms({**one, **two}, table), **QUICK)
    assert found["p_method"][0].startswith("labels of RE permuted within 4 sessions")
    assert found["ci_low"].notna().all()
    alone, _ = subject(design, sessions=[f"s{i}" for i in range(24)])
    found = kind_tests(pattern_rdms(alone, table), **QUICK)
    assert found["p_method"][0].startswith("not tested: sessions differ between photographs")
    assert found[["p", "ci_low"]].isna().all(axis=None)


def test_what_two_blocks_share_leaves_and_the_rest_stays():
    random = np.random.default_rng(0)
    sessions = np.array(list("aabbb"))
    vector = random.random(10)
    first, second = np.triu_indices(5, 1)
    blocks = np.array([f"{sessions[i]}{sessions[j]}" for i, j in zip(first, second)])
    shifted = vector + np.select([blocks == "aa", blocks == "ab"], [3.0, 7.0])
    centered, again = centered_blocks(vector, sessions), centered_blocks(shifted, sessions)
    np.testing.assert_allclose(centered - centered.mean(), again - again.mean(), atol=1e-12)
    assert np.ptp([centered[blocks == one].mean() for one in ("aa", "ab", "bb")]) < 1e-12


# --------------------------------------------------------------------------------------- coverage (binomial bounds)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_intervals_cover_in_100_studies(name):
    found = coverage(DESIGNS[name], 100)
    print(name, found)
    # a true coverage of .92 comes out at or above .84 in 99.5 of 100 simulations of 100 studies
    assert all(held >= 0.84 for held in found.values()), found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["independent", "sessions, offsets .6"])
def test_tests_keep_their_level_in_200_studies(name):
    found = rejections(DESIGNS[name], 200)
    print(name, found)
    # true 7.5 % come out at or below 13 % in 99.7 of 100
    assert all(rate <= 0.13 for rate in found.values()), found
