"""RDMs against scipy and rsatoolbox; joining by id; files that rsatoolbox opens."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rsatoolbox
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from fmri.patterns import Patterns
from neurometamer.activations import Activations
from neurometamer.errors import InputError
from neurometamer.rsa.compute import (
    activation_rdms,
    align_rdms,
    compute_rdm,
    label_rdms,
    match_ids,
    pattern_rdms,
    read_rdms,
    select_image_type,
    take_conditions,
    write_rdms,
)
from neurometamer.rsa.measures import CHUNK, mid_ranks

REFERENCES = ("apple", "bird", "car", "dog", "eel")


def stimulus_table(references=REFERENCES) -> pd.DataFrame:
    rows = [
        (reference if kind == "RE" else f"{reference}_{kind}", kind, reference)
        for kind in ("RE", "AN", "AI")
        for reference in references
    ]
    return pd.DataFrame(rows, columns=["id", "kind", "reference_id"])


def relu_values(n: int, p: int, seed: int = 0) -> np.ndarray:
    """Mostly zeros, as after a ReLU, and rounded so that other values tie too."""
    values = np.maximum(np.random.default_rng(seed).standard_normal((n, p)) - 0.5, 0)
    return np.round(values, 2).astype(np.float32)


def some_rdms(names, n_rdms=2, seed=0):
    n_pairs = len(names) * (len(names) - 1) // 2
    vectors = np.random.default_rng(seed).random((n_rdms, n_pairs))
    return label_rdms(
        vectors,
        conditions=names,
        rdm_descriptors={"stage": [f"s{i}" for i in range(n_rdms)]},
        measure="test",
    )


@given(
    st.lists(
        st.sampled_from([-2.0, -0.0, 0.0, 0.5, 1.0, 3.0]) | st.floats(-5, 5, width=32),
        min_size=1,
        max_size=60,
    )
)
@settings(max_examples=200, deadline=None)
def test_mid_ranks_are_scipys_average_ranks(row):
    values = np.array(row, dtype=np.float32)
    assert np.array_equal(mid_ranks(values), rankdata(values) - (len(row) + 1) / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spearman_equals_scipy_and_rsatoolbox(dtype):
    values = relu_values(12, 2 * CHUNK + 77).astype(
        dtype
    )  # three column chunks, the last one short
    ours = compute_rdm(values)
    pairs = np.triu_indices(12, 1)
    # ranks are exact and sums are float64: only the rounding of float64 is left (the bar is 2e-7)
    np.testing.assert_allclose(ours, 1 - spearmanr(values, axis=1).statistic[pairs], atol=1e-13)
    ranked = rsatoolbox.data.Dataset(np.array([rankdata(row) for row in values]))
    theirs = rsatoolbox.rdm.calc_rdm(ranked, method="correlation").dissimilarities[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert ours.dtype == np.float64


def test_pearson_survives_a_large_mean():
    values = relu_values(8, 9000) + np.float32(1000)
    expected = 1 - np.corrcoef(values.astype(np.float64))[np.triu_indices(8, 1)]
    np.testing.assert_allclose(compute_rdm(values, "pearson"), expected, atol=1e-12)


def test_values_without_a_correlation_are_refused_by_id():
    values = relu_values(5, 50)
    dead, broken = values.copy(), values.copy()
    dead[1] = 0
    broken[3, 7] = np.nan
    with pytest.raises(InputError, match="stage 'relu': all values are equal for bird"):
        compute_rdm(dead, ids=REFERENCES, place="stage 'relu'")
    with pytest.raises(InputError, match="NaN or infinite values for dog"):
        compute_rdm(broken, ids=REFERENCES)
    with pytest.raises(InputError, match="at least 4 are needed"):
        compute_rdm(values[:3])
    with pytest.raises(InputError, match="did you mean 'spearman'"):
        compute_rdm(values, "spearmann")


def make_activations(table, stages=("early", "late"), shuffle=False) -> Activations:
    ids = list(table["id"])
    arrays = {stage: relu_values(len(ids), 40 + i, seed=i) for i, stage in enumerate(stages)}
    order = np.random.default_rng(5).permutation(len(ids)) if shuffle else np.arange(len(ids))
    return Activations(
        ids=tuple(np.array(ids)[order]),
        stages=tuple(stages),
        n_units={stage: values.shape[1] for stage, values in arrays.items()},
        arrays={stage: values[order] for stage, values in arrays.items()},
        provenance={"model": "tiny", "weights": "none"},
    )


def make_patterns(table, rois=("V1", "LO"), seed=0, drop=()) -> Patterns:
    ids = [name for name in table["id"] if name not in drop]
    observations = pd.DataFrame(
        [(name, presentation, "1", "1") for presentation in (1, 2) for name in reversed(ids)],
        columns=["condition", "presentation", "run", "session"],
    )
    voxels = pd.DataFrame(
        [("S1", roi, v, i, 0) for i, roi in enumerate(rois) for v in range(20)],
        columns=["subject", "roi", "i", "j", "k"],
    )
    values = np.random.default_rng(seed).standard_normal((len(observations), len(voxels)))
    return Patterns(values=values, observations=observations, voxels=voxels)


def test_rows_are_joined_by_id_whatever_their_order():
    table = stimulus_table()
    straight = activation_rdms(make_activations(table), table)
    shuffled = activation_rdms(make_activations(table, shuffle=True), table)
    assert np.array_equal(straight.dissimilarities, shuffled.dissimilarities)
    assert straight.pattern_descriptors["condition"] == list(table["id"])
    assert straight.rdm_descriptors["stage"] == ["early", "late"]
    assert straight.rdm_descriptors["model"] == ["tiny", "tiny"]

    patterns = make_patterns(table)
    brain = pattern_rdms({"S1": patterns}, table)
    frame = (
        pd.DataFrame(patterns.values[:, :20])
        .groupby(patterns.observations["condition"].to_numpy())
        .mean()
    )
    expected = 1 - spearmanr(frame.loc[list(table["id"])], axis=1).statistic[np.triu_indices(15, 1)]
    np.testing.assert_allclose(brain.dissimilarities[0], expected, atol=1e-13)
    assert brain.rdm_descriptors["roi"] == ["V1", "LO"]
    assert brain.rdm_descriptors["n_voxels"] == [20, 20]


def test_conditions_without_stimulus_and_stimuli_without_response_are_named():
    table = stimulus_table()
    with pytest.raises(InputError, match="missing from patterns of subject 'S1': dog_AN"):
        pattern_rdms({"S1": make_patterns(table, drop=("dog_AN",))}, table)
    with pytest.raises(InputError, match="missing from the stimulus table: eel_AI, eel_AN, eel"):
        pattern_rdms({"S1": make_patterns(table)}, table[table["reference_id"] != "eel"])
    with pytest.raises(InputError, match="missing from activations: apple_AI, bird_AI"):
        activation_rdms(make_activations(table[:10]), table)
    with pytest.raises(InputError, match="repeated in right: a"):
        match_ids(["a", "b"], ["a", "b", "a"], "left", "right")


def test_the_rdm_of_one_kind_is_a_part_of_the_rdm_of_all():
    table = stimulus_table()
    activations = make_activations(table)
    part = select_image_type(activation_rdms(activations, table), "AI")
    rows = np.flatnonzero(table["kind"] == "AI")
    expected = compute_rdm(activations.read("late")[rows])
    assert np.array_equal(part.dissimilarities[1], expected)
    assert part.pattern_descriptors["condition"] == list(REFERENCES)
    assert part.pattern_descriptors["stimulus"] == [f"{reference}_AI" for reference in REFERENCES]
    with pytest.raises(InputError, match="unknown image type 'AM'"):
        select_image_type(part, "AM")


@given(st.permutations(REFERENCES), st.permutations(REFERENCES))
@settings(max_examples=40, deadline=None)
def test_order_never_matters(first, second):
    rdms = some_rdms(REFERENCES)
    a, b = (
        take_conditions(rdms, [REFERENCES.index(reference) for reference in order])
        for order in (first, second)
    )
    left, right = align_rdms(a, b)
    assert (
        left.pattern_descriptors["condition"]
        == right.pattern_descriptors["condition"]
        == list(first)
    )
    assert np.array_equal(left.dissimilarities, right.dissimilarities)
    rows = [REFERENCES.index(reference) for reference in first]
    assert np.array_equal(left.get_matrices(), rdms.get_matrices()[:, rows][:, :, rows])


def test_alignment_lists_what_is_missing_or_leaves_it_out_when_asked():
    a, b = some_rdms([*REFERENCES, "fig"]), some_rdms(["gnu", *REFERENCES])
    with pytest.raises(
        InputError, match="missing from the second RDMs: fig; missing from the first RDMs: gnu"
    ):
        align_rdms(a, b)
    left, right = align_rdms(a, b, join="inner")
    assert (
        left.pattern_descriptors["condition"]
        == right.pattern_descriptors["condition"]
        == list(REFERENCES)
    )
    assert left.descriptors["left_out"] == ["fig", "gnu"]
    with pytest.raises(InputError, match="at least 4 are needed"):
        align_rdms(a, some_rdms(["apple", "bird", "x", "y"]), join="inner")
    with pytest.raises(InputError, match=r"repeated stimulus id\(s\) apple"):
        some_rdms(["apple", "apple", "b", "c"])
    with pytest.raises(InputError, match="NaN or infinite in s0, stimuli a, b"):
        label_rdms(
            np.array([[np.nan, 1, 1, 1, 1, 1]]),
            conditions=list("abcd"),
            rdm_descriptors={"stage": ["s0"]},
            measure="x",
        )


def test_files_are_rsatoolboxs_own_and_round_trip(tmp_path):
    table = stimulus_table()
    rdms = activation_rdms(make_activations(table), table)
    path = write_rdms(rdms, tmp_path / "network.h5")
    write_rdms(rdms, path)  # again, over the first
    assert [one.name for one in tmp_path.iterdir()] == ["network.h5"]
    theirs = rsatoolbox.rdm.load_rdm(str(path), file_type="hdf5")
    assert [str(label) for label in theirs.pattern_descriptors["condition"]] == list(table["id"])
    assert [str(label) for label in theirs.rdm_descriptors["stage"]] == ["early", "late"]
    ours = read_rdms(path)
    assert np.array_equal(ours.dissimilarities, rdms.dissimilarities)
    for name in ("condition", "kind", "reference_id"):
        assert ours.pattern_descriptors[name] == rdms.pattern_descriptors[name]
        assert all(type(label) is str for label in ours.pattern_descriptors[name])
    assert ours.rdm_descriptors == rdms.rdm_descriptors
    assert ours.dissimilarity_measure == "1 - Spearman"
    assert '"model": "tiny"' in ours.descriptors["provenance"]


def test_unreadable_files_are_refused(tmp_path):
    rdms = some_rdms(REFERENCES)
    with pytest.raises(InputError, match="does not exist"):
        read_rdms(tmp_path / "none.h5")
    del rdms.pattern_descriptors["condition"]
    rdms.save(str(tmp_path / "nameless.h5"), file_type="hdf5")
    with pytest.raises(InputError, match="no pattern descriptor 'condition' with the stimulus ids"):
        read_rdms(tmp_path / "nameless.h5")


def test_names_beyond_ascii_survive_the_file_and_can_be_opened_with_rsatoolbox(tmp_path):
    from rsatoolbox.rdm import load_rdm

    names = ["Käfer", "狗", "cafe\u0301", "a\\u72d7", "plain"]
    path = write_rdms(some_rdms(names), tmp_path / "x.h5")
    assert list(read_rdms(path).pattern_descriptors["condition"]) == names
    theirs = load_rdm(str(path), file_type="hdf5").pattern_descriptors["condition"]
    assert list(theirs) == ["K\\xe4fer", "\\u72d7", "cafe\\u0301", "a\\\\u72d7", "plain"]


def test_a_roi_of_two_voxels_is_refused_by_name():
    table = stimulus_table()
    patterns = make_patterns(table)
    rois = patterns.voxels["roi"].to_numpy()
    few = np.flatnonzero(rois == "V1")[:2]
    kept = (rois != "V1") | np.isin(np.arange(len(rois)), few)
    with pytest.raises(InputError, match=r"subject 'S1', ROI 'V1' has 2 voxel\(s\); .* at least 3"):
        pattern_rdms({"S1": patterns.select(voxels=kept)}, table)
