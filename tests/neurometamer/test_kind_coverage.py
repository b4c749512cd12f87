"""What intervals and nulls promise, held against simulated studies.

A study: photographs are points of a 10-dimensional space (standard normal), units weigh these
dimensions and add noise. AI images lie near their photographs, AN images do not. Truth is the
similarity of 400 photographs, the mean of 4 simulations (its own error is below a tenth of an
interval). 40 photographs and 200 units as in Zhang et al. (2021).

With 150 studies a true coverage of 95 % comes out between 91 and 98 % in 95 of 100 simulations
(binomial), with 400 between 93 and 97 %; a true false-positive rate of 5 % between 3.5 and 6.5 %
with 800 tests, between 4.2 and 5.8 % with
3000. Seeds are fixed: a test does not fail by chance.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from neurometamer.rsa.compute import label_rdms
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.rsa.subsample import UnitValues

KINDS = ("RE", "AN", "AI")


def study(*seed, n=40, units=200, alike=0.6, noise=1.0, shared=None, offsets=None):
    """Responses (3 * n, units): RE, AN, AI; images of one label in `offsets` share a pattern."""
    rng = np.random.default_rng([0, *seed])
    space = np.random.default_rng([1, *shared]) if shared is not None else rng
    points, other, third = space.standard_normal((3, n, 10))
    weights = rng.standard_normal((10, units)) / np.sqrt(10)
    places = np.concatenate([points, other, alike * points + np.sqrt(1 - alike**2) * third])
    values = places @ weights + noise * rng.standard_normal((3 * n, units))
    if offsets is not None:
        groups = np.unique(offsets, return_inverse=True)[1]
        for k in range(3):
            values[k * n : (k + 1) * n] += rng.standard_normal((groups.max() + 1, units))[groups]
    return values


def rdm_of(values):
    """1 - Spearman, as `compute_rdm` (held against it in test_rdm.py), faster for few units."""
    return (1 - np.corrcoef(rankdata(values, axis=1)))[np.triu_indices(len(values), 1)]


def rdms_of(studies, n, subjects=None):
    """Put many studies into one set of RDMs, each a place of its own (all get the same draws)."""
    names = [f"im{i:02d}" for i in range(n)]
    ids = [f"{kind}_{name}" for kind in KINDS for name in names]
    places = [f"study{i}" for i in range(len(studies))]
    if subjects:
        places = [f"study{i // subjects}" for i in range(len(studies))]
    people = [f"S{i % (subjects or 1)}" for i in range(len(studies))]
    rdms = label_rdms(
        np.array([rdm_of(values) for values in studies]),
        conditions=ids,
        rdm_descriptors={"subject": people, "roi": places, "system": ["brain"] * len(studies)},
        pattern_descriptors={
            "kind": [kind for kind in KINDS for _ in names],
            "reference_id": names * 3,
        },
        measure="1 - Spearman",
    )
    units = [
        UnitValues("brain", person, place, tuple(ids), one)
        for person, place, one in zip(people, places, studies)
    ]
    return rdms, units


@functools.cache
def truth_of(**how):
    """Give the similarity of RE and AI of many photographs."""
    big = [study(9, i, **{**how, "n": 400}) for i in range(4)]
    return np.mean([spearmanr(rdm_of(one[:400]), rdm_of(one[800:])).statistic for one in big])


@functools.cache
def many_studies(n_studies, **how):
    return rdms_of([study(2, i, **how) for i in range(n_studies)], how.get("n", 40))


def coverage(n_studies, interval, n_resamples, **how):
    """Share of intervals that hold the truth, and width over what would be needed, by quantity."""
    rdms, units = many_studies(n_studies, **how)
    options = {"interval": interval, "n_resamples": n_resamples, "n_permutations": 0}
    table = compare_image_types(rdms, units=units, **options)
    found = {}
    for pair, true in (
        ("RE-AN", 0.0),
        ("RE-AI", truth_of(**how)),
        ("RE-AI minus RE-AN", truth_of(**how)),
    ):
        rows = table[table["pair"] == pair]
        held = (rows["ci_low"] <= true) & (true <= rows["ci_high"])
        width = (rows["ci_high"] - rows["ci_low"]).mean()
        found[pair] = (float(held.mean()), float(width / (3.92 * rows["value"].std())))
    return found


CONDITIONS = {
    "as in 2021": {},
    "strong": {"alike": 0.8, "noise": 0.5},
    "20 photographs": {"alike": 0.8, "n": 20},
    "10 photographs": {"alike": 0.8, "n": 10},
}


@pytest.mark.parametrize("how", CONDITIONS.values(), ids=CONDITIONS)
def test_the_default_interval_covers_in_150_studies(how):
    projection = coverage(150, ImageTypeOptions().interval, 200, **how)
    print({"projection": projection})
    assert all(0.92 <= held <= 0.995 for held, _ in projection.values()), (
        projection
    )  # 1 % is 1.5 studies


def test_the_usual_bootstrap_covers_too_much_and_the_subsample_too_little():
    stimuli = coverage(150, "stimuli", 200)
    assert stimuli["RE-AI"][0] >= 0.93, stimuli
    assert stimuli["RE-AI minus RE-AN"][0] >= 0.96
    subsample = coverage(50, "subsample", 60)
    assert subsample["RE-AI"][0] < 0.5, subsample
    assert subsample["RE-AI"][1] < 0.4
    assert subsample["RE-AI minus RE-AN"][0] < 0.6
    print({"stimuli": stimuli, "subsample": subsample})


@pytest.mark.slow
@pytest.mark.parametrize("how", CONDITIONS.values(), ids=CONDITIONS)
def test_coverage_in_400_studies(how):
    stimuli = coverage(400, "stimuli", 400, **how)
    # few photographs vary more, and cost less: 400 of 20 gave 93 % where 1600 give 95 %
    projection = coverage(400 if how.get("n", 40) == 40 else 800, "projection", 400, **how)
    print({"stimuli": stimuli, "projection": projection})
    assert all(0.92 <= held <= 0.99 for held, _ in projection.values())
    assert all(held >= 0.95 for held, _ in stimuli.values())
    # Narrower where nothing is alike, and nowhere wider: 100 studies each gave .73 to .94 and .96
    # to 1.02.
    assert projection["RE-AN"][1] < 0.97 * stimuli["RE-AN"][1]
    assert all(projection[pair][1] < 1.06 * stimuli[pair][1] for pair in projection)
    if not how:
        subsample = coverage(200, "subsample", 200)
        print({"subsample": subsample})
        # .46 here, .30 in the methods note, whose studies differ: it depends on how much images
        # matter beside units
        assert 0.2 < subsample["RE-AI"][0] < 0.55


# --------------------------------------------------------------------------------------------- null


SESSIONS = np.array(["first", "second"])[np.arange(24) % 2]
CLASSES = np.array(list("abcd"))[np.arange(24) // 6]


def false_positives(n_studies, null, offsets, n_permutations=99):
    """Share of similarities with p <= .05 where nothing but the offsets is shared by the kinds."""
    how = {"n": 24, "units": 40, "alike": 0.0, "offsets": offsets}
    rdms, _ = rdms_of([study(3, i, **how) for i in range(n_studies)], 24)
    labels = CLASSES if null == "class" else SESSIONS
    blocks = {f"im{i:02d}": label for i, label in enumerate(labels)}
    options = {
        "interval": "none",
        "n_permutations": n_permutations,
        "n_resamples": 0,
        "correction": "none",
    }
    table = compare_image_types(rdms, null=null, blocks=blocks, **options)
    return (table[table["quantity"] == "similarity"]["p"] <= 0.05).mean()


def check_false_positives(n_studies):
    rates = {
        "free, nothing shared": false_positives(n_studies, "free", None),
        "within session, sessions differ": false_positives(n_studies, "session", SESSIONS),
        "within class, classes differ": false_positives(n_studies, "class", CLASSES),
    }
    wrong = {
        "free, sessions differ": false_positives(n_studies // 4, "free", SESSIONS),
        "free, classes differ": false_positives(n_studies // 4, "free", CLASSES),
    }
    print(rates | wrong)
    assert all(0.03 <= rate <= 0.07 for rate in rates.values()), rates
    assert all(rate > 0.5 for rate in wrong.values()), wrong


def test_each_null_keeps_its_level_in_800_tests():
    check_false_positives(400)


@pytest.mark.slow
def test_each_null_keeps_its_level_in_3000_tests():
    check_false_positives(1500)


def combined_false_positives(n_studies, combinations, same_images):
    """Three subjects without any effect; who saw the same images shares their chance patterns."""
    studies = [
        study(
            4,
            i,
            person,
            n=24,
            units=60,
            alike=0.0,
            noise=0.5,
            shared=(i, 0 if same_images else person),
        )
        for i in range(n_studies)
        for person in range(3)
    ]
    rdms, _ = rdms_of(studies, 24, subjects=3)
    found = {}
    for how in combinations:
        table = compare_image_types(
            rdms, combine=how, interval="none", n_resamples=0, n_permutations=99, correction="none"
        )
        rows = table[(table["subject"] == "mean") & (table["quantity"] == "similarity")]
        found[how] = float((rows["p"] <= 0.05).mean())
    return found


def check_combinations(n_studies, own_images):
    same = combined_false_positives(n_studies, ("joint", "fisher", "stouffer", "all"), True)
    own = combined_false_positives(n_studies, own_images, False)
    print({"same images": same, "own images": own})
    assert 0.03 <= same["joint"] <= 0.07, same
    assert all(0.03 <= rate <= 0.07 for rate in own.values()), own
    assert min(same["fisher"], same["stouffer"]) > 0.07  # why joint is the default
    assert same["all"] < 0.03


def test_only_the_joint_p_keeps_its_level_when_subjects_saw_the_same_images():
    check_combinations(200, ("stouffer",))


@pytest.mark.slow
def test_combinations_in_1500_studies():
    check_combinations(1500, ("joint", "fisher", "stouffer"))


# -------------------------------------------------------------------------------------------- max-T


def family_of_rois(seed, alike, n=24, n_rois=5):
    """Five ROIs of one subject who saw the same images; AN and AI are equally like RE."""
    rng = np.random.default_rng([7, seed])
    points, *others = rng.standard_normal((3, n, 10))
    images = np.concatenate(
        [points, *(alike * points + np.sqrt(1 - alike**2) * one for one in others)]
    )
    weights = rng.standard_normal((n_rois, 10, 80)) / np.sqrt(10)
    values = images @ weights + 0.7 * rng.standard_normal((n_rois, 3 * n, 80))
    names = [f"im{i:02d}" for i in range(n)]
    return label_rdms(
        np.array([rdm_of(one) for one in values]),
        conditions=[f"{kind}_{name}" for kind in KINDS for name in names],
        rdm_descriptors={
            "subject": ["S1"] * n_rois,
            "roi": [f"R{i}" for i in range(n_rois)],
            "system": ["brain"] * n_rois,
        },
        pattern_descriptors={
            "kind": [kind for kind in KINDS for _ in names],
            "reference_id": names * 3,
        },
        measure="1 - Spearman",
    )


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.6])
def test_max_t_keeps_the_error_of_a_family_in_400_studies(alike):
    hits = []
    for seed in range(400):
        table = compare_image_types(
            family_of_rois(seed, alike), correction="max-t", n_resamples=199, n_permutations=199
        )
        assert set(table["correction"]) == {"max-t"}
        hits.append(
            [(rows["p_corrected"] <= 0.05).any() for _, rows in table.groupby("pair", sort=False)]
        )
    similarity, _, difference = np.mean(hits, axis=0)
    print({"RE-AN": similarity, "difference": difference})
    assert difference <= 0.07  # .03 were found: the intervals behind it are a little wide
    if not alike:
        assert similarity <= 0.07
    else:
        assert similarity > 0.9
