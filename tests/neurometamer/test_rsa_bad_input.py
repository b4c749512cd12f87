"""What the RSA layer says to input that makes no sense: always an error that names the ids, never a number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.rdm import RDMs

from neurometamer.errors import InputError
from neurometamer.rsa.bootstrap import bootstrap_comparison, dual_bootstrap
from neurometamer.rsa.cka import gram_cka
from neurometamer.rsa.comparators.table import (
    COMPARATORS,
    noise_ceiling,
    permuted_comparison,
    subject_ceilings,
)
from neurometamer.rsa.compare import compare_rdms, partial_spearman
from neurometamer.rsa.compute import compute_rdm, label_rdms, take_conditions
from neurometamer.rsa.controls import category_rdm
from neurometamer.rsa.image_types.inference import compare_image_types
from neurometamer.rsa.image_types.similarity import (
    image_type_difference,
    image_type_similarity,
    image_type_trends,
)
from neurometamer.rsa.layers.cross_validation import fit_layer_weights
from neurometamer.rsa.layers.hierarchy import hierarchy_test
from neurometamer.rsa.layers.matrix import layer_by_roi, layer_matrix
from neurometamer.rsa.layers.weighted import CrossValidation, flexible_models
from neurometamer.rsa.measures import MEASURES
from neurometamer.rsa.noise import (
    crossnobis_rdm,
    estimate_noise,
    mahalanobis_rdm,
    no_noise,
    residuals_of,
)
from neurometamer.rsa.searchlight.maps import run_searchlight, searchlight_rdms
from neurometamer.rsa.searchlight.neighborhoods import Spheres
from neurometamer.rsa.searchlight.questions import Question, model_questions
from neurometamer.rsa.subsample import UnitValues, paired_scores, subsample_rdms
from neurometamer.stats.paired import paired_power
from neurometamer.stats.resampling import permutation_orders, permute_pairs

N, PAIRS = 8, 28
IDS = [f"im{i}" for i in range(N)]


def numbers(n_rdms, n_pairs=PAIRS, seed=0):
    return np.random.default_rng(seed).random((n_rdms, n_pairs))


def network(values=None, ids=IDS):
    values = numbers(3) if values is None else values
    places = {"stage": ["conv1", "conv2", "fc"], "system": ["network"] * 3}
    return RDMs(values, rdm_descriptors=places, pattern_descriptors={"condition": list(ids)})


def brain(values=None, ids=IDS):
    values = numbers(6, seed=1) if values is None else values
    places = {
        "subject": ["S0"] * 3 + ["S1"] * 3,
        "roi": ["V1", "V4", "LO"] * 2,
        "system": ["brain"] * 6,
    }
    return RDMs(values, rdm_descriptors=places, pattern_descriptors={"condition": list(ids)})


def kinds(values=None, n=6):
    ids = [f"{kind}{i}" for kind in ("RE", "AN", "AI") for i in range(n)]
    values = numbers(3, len(ids) * (len(ids) - 1) // 2) if values is None else values
    patterns = {
        "condition": ids,
        "kind": [one[:2] for one in ids],
        "reference_id": [one[2:] for one in ids],
    }
    places = {"subject": ["S0", "S1", "S2"], "roi": ["V1"] * 3, "system": ["brain"] * 3}
    return RDMs(values, rdm_descriptors=places, pattern_descriptors=patterns)


def spoiled(how, n_rdms, n_pairs=PAIRS):
    """The second RDM has something wrong in its fourth pair (im0 and im4)."""
    values = numbers(n_rdms, n_pairs, seed=2)
    if how == "constant":
        values[1] = 1
    else:
        values[1, 3] = {"NaN": np.nan, "infinite": np.inf, "negative": -0.5}[how]
    return values


TOLD = {
    "NaN": "NaN or infinite in {place}, stimuli im0, im4",
    "infinite": "NaN or infinite in {place}, stimuli im0, im4",
    "negative": "negative dissimilarities between im0 and im4; only crossvalidated ones can be",
    "constant": "all dissimilarities are equal in {place}",
}
TABLES = {
    "compare_rdms": lambda a, b: compare_rdms(a, b, n_resamples=5, n_permutations=5),
    "layer_by_roi": lambda a, b: layer_by_roi(a, b, n_resamples=5),
    "layer_matrix": lambda a, b: layer_matrix(a, b, n_resamples=5, n_permutations=5),
    "flexible_models": lambda a, b: flexible_models(
        a, b, n_resamples=5, folds=CrossValidation(n_repeats=1)
    ),
    "hierarchy_test": hierarchy_test,
}


@pytest.mark.parametrize("how", TOLD)
@pytest.mark.parametrize("table", TABLES)
def test_spoiled_rdms_are_named_in_every_table(table, how):
    with pytest.raises(InputError, match=TOLD[how].format(place="conv2")):
        TABLES[table](network(spoiled(how, 3)), brain())
    with pytest.raises(InputError, match=TOLD[how].format(place="S0 V4")):
        TABLES[table](network(), brain(spoiled(how, 6)))


@pytest.mark.parametrize("table", TABLES)
def test_other_stimuli_are_named_in_every_table(table):
    ask, other = TABLES[table], [f"x{i}" for i in range(N)]
    with pytest.raises(
        InputError, match=r"missing from the second RDMs: im0.*missing from the first RDMs: x0"
    ):
        ask(network(), brain(ids=other))
    with pytest.raises(InputError, match="repeated stimulus id"):
        ask(network(ids=["im1", *IDS[1:]]), brain())
    with pytest.raises(InputError, match="no stimulus ids"):
        ask(RDMs(numbers(3)), brain())
    with pytest.raises(InputError, match=r"RDMs, not 'network\.h5'; read_rdms opens files"):
        ask("network.h5", brain())
    with pytest.raises(InputError, match=r"1 condition\(s\) \(a\)|3 condition\(s\)"):
        few = RDMs(
            numbers(3, 3),
            rdm_descriptors=network().rdm_descriptors,
            pattern_descriptors={"condition": list("abc")},
        )
        ask(few, few)


def test_an_inner_join_of_nothing_names_what_it_left_out():
    with pytest.raises(
        InputError, match=r"stimuli shared by both RDMs \(left out: im0, im1.*at least 4 are needed"
    ):
        compare_rdms(network(), brain(ids=[f"x{i}" for i in range(N)]), join="inner")


@pytest.mark.parametrize("how", ["NaN", "infinite", "negative", "constant"])
def test_spoiled_rdms_of_kinds_are_named(how):
    values = spoiled(how, 3, 153)
    told = TOLD[how].format(place="S1 V1").replace("im0", "0").replace("im4", "4")
    for ask in (compare_image_types, image_type_similarity, image_type_difference):
        options = (
            {"n_resamples": 5, "n_permutations": 5}
            if ask is compare_image_types
            else {"n_resamples": 5}
        )
        with pytest.raises(InputError, match=told):
            ask(kinds(values), **options)
    with pytest.raises(InputError, match=r"at least 6 subjects; there are fewer in V1 \(3\)"):
        compare_image_types(kinds(), interval="subjects")
    with pytest.raises(InputError, match="at least 4 are needed"):
        compare_image_types(kinds(n=3))


def test_a_control_that_is_spoiled_is_named():
    for how in ("NaN", "negative"):
        with pytest.raises(InputError, match=TOLD[how].format(place="conv2")):
            compare_rdms(network(), brain(), controls=network(spoiled(how, 3)), n_resamples=5)


def test_crossvalidated_distances_may_be_negative():
    values = spoiled("negative", 3)
    made = label_rdms(
        values, conditions=IDS, rdm_descriptors={"stage": ["a", "b", "c"]}, measure="crossnobis"
    )
    assert compare_rdms(made, brain(), n_resamples=0)["similarity"].notna().all()


def test_numbers_are_refused_where_they_are_labelled():
    def label(values, ids=IDS, places=("a", "b"), patterns=None):
        return label_rdms(
            values,
            conditions=ids,
            rdm_descriptors={"stage": list(places)},
            pattern_descriptors=patterns,
            measure="x",
        )

    square = np.zeros((2, N, N))
    square[:, *np.triu_indices(N, 1)] = numbers(2)
    square += square.transpose(0, 2, 1)
    np.testing.assert_array_equal(label(square).dissimilarities, numbers(2))
    apart, diagonal = square.copy(), square.copy()
    apart[1, 2, 3] += 0.5
    diagonal[1, 2, 2] = 0.4
    with pytest.raises(
        InputError, match="not symmetric: both directions differ between im2 and im3"
    ):
        label(apart)
    with pytest.raises(
        InputError, match="the diagonal is not zero for im2; is this a similarity matrix"
    ):
        label(diagonal)
    with pytest.raises(InputError, match=r"rdm_descriptors of other lengths than 2: stage \(1\)"):
        label(square, places=["a"])
    with pytest.raises(
        InputError, match=r"pattern_descriptors of other lengths than 8: kind \(1\)"
    ):
        label(square, patterns={"kind": ["RE"]})
    with pytest.raises(
        InputError, match=r"shape \(2, 8, 8\) do not fit 5 conditions \(im0.*give \(n_rdms, 10\)"
    ):
        label(square, ids=IDS[:5])
    with pytest.raises(InputError, match=r"shape \(2, 27\) do not fit 8 conditions"):
        label(numbers(2, 27))
    with pytest.raises(InputError, match="must be numbers"):
        label(np.full((2, PAIRS), "a"))
    with pytest.raises(InputError, match=r"1 condition\(s\) \(im0\); at least 4"):
        label(np.zeros((2, 0)), ids=IDS[:1])
    with pytest.raises(InputError, match="rows 99 are not among the 8 conditions"):
        take_conditions(brain(), [0, 1, 2, 99])
    with pytest.raises(InputError, match="rows -1 are not among"):
        take_conditions(brain(), [0, 1, 2, -1])
    with pytest.raises(InputError, match="rows 2 asked for twice"):
        take_conditions(brain(), [0, 1, 2, 2])


@pytest.mark.parametrize("comparator", COMPARATORS)
def test_comparators_refuse_what_they_cannot_compare(comparator):
    compare, good = COMPARATORS[comparator], numbers(2)
    for how in ("NaN", "infinite"):
        with pytest.raises(
            InputError, match=r"NaN or infinite in row\(s\) 1 of the first of a and b"
        ):
            compare(spoiled(how, 3), good)
        with pytest.raises(InputError, match="of the second of a and b"):
            compare(good, spoiled(how, 3))
    with pytest.raises(InputError, match=r"shapes \(2, 28\) and \(2, 21\) must be condensed"):
        compare(good, numbers(2, 21))
    with pytest.raises(InputError, match=r"shapes \(28,\) and \(2, 28\)"):
        compare(good[0], good)
    with pytest.raises(
        InputError, match=r"weights have the shape \(3, 5\); they need \(n_resamples, 28\)"
    ):
        compare(good, good, np.ones((3, 5)))


def test_functions_on_condensed_rdms_refuse_missing_numbers():
    good, orders = numbers(2), permutation_orders(N, 3, 0)
    ones = np.ones((3, N), dtype=int)
    for how in ("NaN", "infinite"):
        bad = spoiled(how, 3)
        for ask in (
            lambda one: permuted_comparison(one, good, orders),
            lambda one: partial_spearman(one, good, controls=good[:1]),
            lambda one: partial_spearman(good, good, controls=one),
            lambda one: fit_layer_weights(one, good),
            lambda one: fit_layer_weights(good, one),
            subject_ceilings,
        ):
            with pytest.raises(InputError, match=r"NaN or infinite in row\(s\) 1"):
                ask(bad)
        with pytest.raises(InputError, match=r"NaN or infinite in model RDM\(s\) \[1\]"):
            bootstrap_comparison(bad, good, ones)
    with pytest.raises(InputError, match=r"equal in row\(s\) 1"):
        subject_ceilings(spoiled("constant", 3))
    with pytest.raises(InputError, match="needs at least 2 subjects"):
        subject_ceilings(good[:1])
    with pytest.raises(
        InputError, match="a noise ceiling is of one ROI; these RDMs are of V1, V4, LO"
    ):
        noise_ceiling(brain())
    with pytest.raises(InputError, match=r"negative numbers in resample\(s\) 1"):
        bootstrap_comparison(good, good, np.array([[1] * N, [2, -1, *[1] * 6]]))
    with pytest.raises(InputError, match="needs at least 2 subjects"):
        dual_bootstrap(good, good[:1], ones, np.ones((3, 1), dtype=int))
    with pytest.raises(InputError, match=r"\(2, 28\) and \(2, 21\)"):
        fit_layer_weights(good, numbers(2, 21))
    with pytest.raises(InputError, match=r"8 stimuli has 28 pairs; this one has the shape \(5,\)"):
        permute_pairs(np.ones(5), orders)
    with pytest.raises(InputError, match="unknown comparison 'x'"):
        paired_scores("x", good, good)
    with pytest.raises(InputError, match="cannot be compared row by row"):
        paired_scores("spearman", good, good[:1])


@pytest.mark.parametrize("name", [name for name, one in MEASURES.items() if not one.needs])
def test_responses_without_an_rdm_are_refused(name):
    values, ids = np.random.default_rng(0).random((5, 6)), list("abcde")
    spoil = values.copy()
    spoil[1, 2] = np.nan
    with pytest.raises(InputError, match=r"b"):
        compute_rdm(spoil, name, ids=ids)
    with pytest.raises(InputError, match=r"1 condition\(s\) \(a\); at least 4"):
        compute_rdm(values[:1], name, ids=ids[:1])
    with pytest.raises(InputError, match=r"0 unit\(s\)"):
        compute_rdm(values[:, :0], name)
    with pytest.raises(InputError, match=r"repeated stimulus id\(s\) a"):
        compute_rdm(values, name, ids=list("aacde"))
    with pytest.raises(InputError, match="must be numbers, not text"):
        compute_rdm(np.full((5, 4), "x"), name)
    flat = values.copy()
    flat[1] = 0.5
    if MEASURES[name].undefined == "constant":
        with pytest.raises(InputError, match=r"b"):
            compute_rdm(flat, name, ids=ids)
        with pytest.raises(InputError, match=r"2 unit\(s\).*every correlation over two is -1 or 1"):
            compute_rdm(values[:, :2], name)
    else:  # a constant pattern is as far from others as any
        assert np.isfinite(compute_rdm(flat, name, ids=ids)).all()


def test_presentations_without_a_distance_are_refused():
    values, conditions = np.random.default_rng(0).random((12, 5)), list("abcd") * 3
    folds, spoil = [str(i // 4) for i in range(12)], values.copy()
    spoil[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN or infinite responses to d"):
        crossnobis_rdm(spoil, conditions, folds)
    with pytest.raises(InputError, match="NaN or infinite responses to d"):
        residuals_of(spoil, conditions)
    with pytest.raises(InputError, match="NaN or infinite responses to 3"):
        mahalanobis_rdm(spoil, no_noise(5))
    with pytest.raises(InputError, match="at least two patterns; there is 1"):
        mahalanobis_rdm(values[:1], no_noise(5))
    with pytest.raises(InputError, match="5 conditions and 12 folds for values of shape"):
        crossnobis_rdm(values, conditions[:5], folds)
    with pytest.raises(InputError, match="5 conditions for values of shape"):
        residuals_of(values, conditions[:5])
    with pytest.raises(InputError, match="at least two conditions; there is a"):
        crossnobis_rdm(values, ["a"] * 12, folds)
    with pytest.raises(InputError, match="at least one degree of freedom, not 0"):
        estimate_noise(values, dof=0)
    matrix = np.random.default_rng(0).random((5, 5))
    for bad, told in (
        (matrix, "is not symmetric in rows 0"),
        (np.full((5, 5), np.nan), "NaN"),
        (matrix[:4], "4, 5"),
    ):
        with pytest.raises(InputError, match=told):
            gram_cka(bad, bad)


def test_units_that_cannot_be_subsampled_are_refused():
    values = np.random.default_rng(0).random((6, 10))
    spoil = values.copy()
    spoil[2, 2] = np.nan

    def ask(values, ids="abcdef", n=3):
        return subsample_rdms(UnitValues("brain", "S1", "V1", tuple(ids), values), n, 0)

    with pytest.raises(InputError, match="S1 V1: NaN or infinite responses to c"):
        ask(spoil)
    with pytest.raises(InputError, match=r"S1 V1: 6 stimuli, values of shape \(4, 10\)"):
        ask(values[:4])
    with pytest.raises(InputError, match="-1 resamples do not fit"):
        ask(values, n=-1)
    with pytest.raises(InputError, match=r"1 condition\(s\) \(a\)"):
        ask(values[:1], ids="a")


def test_searchlights_that_make_no_sense_are_refused():
    near = Spheres(np.ones((4, 4, 4), dtype=bool), np.eye(4), 1.5)
    random = np.random.default_rng(0)
    responses, model = random.random((6, 64)), random.random(15)

    def ask(**changed):
        parts = {
            "name": "m",
            "about": "",
            "ids": tuple("abcdef"),
            "responses": responses,
            "model": model,
        }
        return Question(**{**parts, **changed})

    with pytest.raises(
        InputError, match=r"the model has the shape \(10,\); 6 conditions have 15 pairs"
    ):
        ask(model=model[:10])
    spoil = model.copy()
    spoil[3] = np.nan
    with pytest.raises(InputError, match="the model is NaN or infinite between a and e"):
        ask(model=spoil)
    with pytest.raises(InputError, match="all dissimilarities of the model are equal"):
        ask(model=np.ones(15))
    with pytest.raises(InputError, match=r"responses of shape \(5, 64\) for 6 conditions"):
        ask(responses=responses[:5])
    with pytest.raises(InputError, match=r"responses of shape \(5, 64\) for 6 conditions"):
        ask(model=None, others=responses[:5])
    with pytest.raises(InputError, match=r"repeated condition\(s\) a"):
        ask(ids=tuple("aacdef"))
    with pytest.raises(InputError, match="no place has responses to all conditions"):
        run_searchlight(ask(responses=responses * np.nan), near)
    with pytest.raises(InputError, match="centers 99, -1 are not among the 64 places"):
        searchlight_rdms(responses, near, np.array([3, 99, -1]))
    with pytest.raises(InputError, match=r"1 condition\(s\)"):
        searchlight_rdms(responses[:1], near)
    with pytest.raises(InputError, match=r"responses have the shape \(64,\)"):
        searchlight_rdms(responses[0], near)
    models = label_rdms(
        model[np.newaxis], conditions=list("abcdef"), rdm_descriptors={"name": ["m"]}, measure="x"
    )
    with pytest.raises(InputError, match=r"shape \(4, 64\) for 6 conditions"):
        model_questions(list("abcdef"), responses[:4], models)
    models.dissimilarities[0, 3] = np.nan
    with pytest.raises(
        InputError, match="the model RDMs: dissimilarities are NaN or infinite in m, stimuli a, e"
    ):
        model_questions(list("abcdef"), responses, models)


def test_small_functions_refuse_too():
    with pytest.raises(InputError, match="no category for the images 1"):
        category_rdm(["cat", None, "dog"])
    with pytest.raises(InputError, match=r"fewer than two categories \(cat\)"):
        category_rdm(["cat", "cat"])
    with pytest.raises(InputError, match=r"lacks the column\(s\) system, quantity"):
        image_type_trends(pd.DataFrame({"representation": ["conv1"]}))
    with pytest.raises(InputError, match="dz is nan"):
        paired_power(np.nan, 3)
