"""Patterns as datasets of rsatoolbox and labeled arrays, and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.rdm import calc_rdm

from fmri import Patterns, patterns_from_dataset, patterns_from_xarray
from neurometamer.errors import InputError
from neurometamer.rsa import pattern_rdms


@pytest.fixture
def patterns() -> Patterns:
    rng = np.random.default_rng(6)
    observations = pd.DataFrame({"condition": [f"img{number:02d}" for number in range(8)] * 3})
    observations["presentation"] = np.repeat([1, 2, 3], 8)
    observations["run"] = np.repeat(["1", "2", "1"], 8)
    observations["session"] = np.repeat(["a", "a", "b"], 8)
    observations["onset"] = np.tile(np.arange(8) * 4.5, 3)
    voxels = pd.DataFrame({"subject": "01", "roi": ["V1"] * 20 + ["LO"] * 9, "i": range(29)})
    return Patterns(
        values=rng.normal(size=(24, 29)),
        observations=observations,
        voxels=voxels.assign(j=3, k=4, reliability=rng.random(29)),
        provenance={"step": "estimate_betas", "settings": {"units": "percent"}},
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # rsatoolbox, whole numbers
def test_a_dataset_gives_rsatoolbox_the_same_rdm(patterns):
    v1 = patterns.select(roi="V1")
    theirs = calc_rdm(v1.to_dataset(), method="correlation", descriptor="condition")
    ids = theirs.pattern_descriptors["condition"]
    table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    ours = pattern_rdms({"sub-01": v1}, table, measure="correlation")
    # both in float64; means are added in another order
    np.testing.assert_allclose(ours.dissimilarities, theirs.dissimilarities, rtol=1e-9)


def test_a_dataset_comes_back_as_it_was(patterns):
    again = patterns_from_dataset(patterns.to_dataset())
    assert again.digest == patterns.digest
    assert again.provenance["step"] == "estimate_betas"
    assert dict(again.provenance) == dict(patterns.provenance)


def test_a_subset_by_rsatoolbox_keeps_its_labels(patterns):
    dataset = patterns.to_dataset().subset_channel("roi", "LO").subset_obs("run", ["1"])
    again = patterns_from_dataset(dataset)
    expected = patterns.select(roi="LO")
    is_kept = expected.observations["run"].isin(["1"]).to_numpy()
    np.testing.assert_array_equal(again.values, expected.values[is_kept])
    assert again.observations["condition"].tolist() == list(
        expected.observations["condition"][is_kept]
    )


def test_a_labeled_array_comes_back_as_it_was(patterns, tmp_path):
    array = patterns.to_xarray()
    assert array.dims == ("presentation", "neuroid")
    chosen = array[{"presentation": (array["stimulus_id"] == "img03").to_numpy()}]
    expected = patterns.select(conditions=["img03"])
    np.testing.assert_array_equal(chosen.to_numpy(), expected.values)
    assert chosen["repetition"].to_numpy().tolist() == list(expected.observations["presentation"])
    assert len(set(array["neuroid_id"].to_numpy())) == len(patterns.voxels)
    assert set(array["region"].to_numpy()) == {"V1", "LO"}
    again = patterns_from_xarray(array.transpose("neuroid", "presentation"))
    assert again.digest == patterns.digest
    assert dict(again.provenance) == dict(patterns.provenance)


def test_an_assembly_with_indices_of_several_levels_is_read(patterns):
    array = patterns.to_xarray()
    indexed = array.set_index(
        presentation=["stimulus_id", "repetition"], neuroid=["neuroid_id", "region"]
    )
    again = patterns_from_xarray(indexed)
    assert again.conditions == patterns.conditions
    np.testing.assert_array_equal(again.values, patterns.values)


def test_what_lacks_labels_is_refused(patterns):
    bare = Dataset(np.eye(3))
    with pytest.raises(InputError, match="unknown observation descriptor"):
        patterns_from_dataset(bare)
    named = Dataset(np.eye(3), obs_descriptors={"condition": ["a", "b", "a"]})
    with pytest.raises(InputError, match="nothing says the region of the 3 voxels"):
        patterns_from_dataset(named)
    again = patterns_from_dataset(named, roi="V1", subject="07")
    assert again.subject == "07" and again.voxels["i"].tolist() == [0, 1, 2]
    array = patterns.to_xarray()
    with pytest.raises(InputError, match="has the dimensions presentation, neuroid, time_bin"):
        patterns_from_xarray(array.expand_dims("time_bin", axis=2))
    with pytest.raises(InputError, match="unknown coordinate of the array 'stimulus_id'"):
        patterns_from_xarray(array.drop_vars("stimulus_id"))
    with pytest.raises(InputError, match="only i, j are there"):
        patterns_from_xarray(array.drop_vars("k"))
    with pytest.raises(InputError, match="array"):
        patterns_from_xarray(np.eye(3))
