"""The simulated cortex: what is planted comes back through the path of real data."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import (
    SimulationOptions,
    read_masks,
    read_run,
    read_truth,
    select_voxels,
    simulate_patterns,
    simulate_subject,
)
from neurometamer.errors import InputError


def small(folder, **changes):
    rng = np.random.default_rng(1)
    settings = {
        "subject": "02",
        "conditions": list("abcdef"),
        "features": {"x": rng.normal(size=(6, 4))},
        "mixing": {"V1": {"x": 1.0}},
        "seed": 0,
        "voxels_per_roi": 10,
        "n_runs": 2,
    }
    names = {field.name for field in fields(SimulationOptions)}
    options = {name: value for name, value in changes.items() if name in names}
    others = {name: value for name, value in changes.items() if name not in names}
    return simulate_subject(folder, **{**settings, **others}, options=SimulationOptions(**options))


def test_planted_betas_are_recovered(simulated, simulated_patterns):
    truth = simulated.truth
    responds = truth.voxels["responds"].to_numpy()
    pd.testing.assert_frame_equal(truth.voxels.drop(columns="responds"), simulated_patterns.voxels)
    names, means = simulated_patterns.means()
    planted = truth.betas[[truth.conditions.index(name) for name in names]]
    found = np.array(
        [
            np.corrcoef(column, other)[0, 1]
            for column, other in zip(planted.T[responds], means.T[responds])
        ]
    )
    assert np.median(found) > 0.9 and np.mean(found > 0.8) > 0.95
    # Over conditions and voxels: also the scale is that of the planted betas.
    slope = np.polyfit(planted[:, responds].ravel(), means[:, responds].ravel(), 1)[0]
    assert slope == pytest.approx(1, abs=0.06)
    assert abs(means[:, ~responds].mean()) < 0.1
    assert not planted[:, ~responds].any()


def test_reliability_on_a_third_of_the_conditions_finds_the_responding_voxels(
    simulated, simulated_patterns
):
    regular = [name for name in simulated.truth.conditions if "_" not in name]
    chosen = select_voxels(simulated_patterns, conditions=regular, n_per_roi=30)
    keys = ["roi", "i", "j", "k"]
    found = chosen.voxels.merge(
        simulated.truth.voxels[[*keys, "responds"]], on=keys, validate="one_to_one"
    )
    assert len(found) == 4 * 30
    assert found.groupby("roi")["responds"].mean().min() >= 0.9


def test_regions_follow_their_features(simulated, features):
    """The planted geometry is that of the feature space with the larger weight."""

    def geometry(values):
        return np.corrcoef(values)[np.triu_indices(54, 1)]

    truth = simulated.truth
    spaces = {
        name: geometry((values - values.mean(0)) / values.std(0))
        for name, values in features.items()
    }
    for roi, leading in (("V1", "pixels"), ("LO", "objects")):
        inside = (truth.voxels["roi"] == roi).to_numpy() & truth.voxels["responds"].to_numpy()
        fit = {
            name: np.corrcoef(geometry(truth.betas[:, inside]), space)[0, 1]
            for name, space in spaces.items()
        }
        assert max(fit, key=fit.get) == leading and fit[leading] > 0.5


def test_same_seed_same_bytes(tmp_path):
    def contents(folder):
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.iterdir())
        }

    small(tmp_path / "one")
    small(tmp_path / "two")
    small(tmp_path / "three", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert set(contents(tmp_path / "one").values()).isdisjoint(
        value for name, value in contents(tmp_path / "three").items() if "mask" not in name
    )


def test_a_voxel_does_not_depend_on_other_regions(tmp_path):
    alone = small(tmp_path / "one").truth
    more = small(tmp_path / "two", mixing={"V0": {"x": 0.0}, "V1": {"x": 1.0}}).truth
    np.testing.assert_array_equal(more.betas[:, 10:], alone.betas)
    assert set(np.unique(more.betas[:, :10])) == {0.0, 3.0}  # weight 0: every image alike


def test_files_are_those_of_a_scanner(tmp_path):
    subject = small(tmp_path, t_r=1.5)
    assert [path.name for path in (*subject.bold, subject.masks["V1"], subject.truth_path)] == [
        "sub-02_task-images_run-1_bold.nii",
        "sub-02_task-images_run-2_bold.nii",
        "sub-02_roi-V1_mask.nii",
        "sub-02_truth.h5",
    ]
    run = read_run(subject.bold[1], subject.events[1], subject.confounds[1])
    assert (run.subject, run.run, run.t_r, run.confounds.shape) == (
        "02",
        "2",
        1.5,
        (run.n_volumes, 6),
    )
    # 20 s, 6 images and 1 blank of 2 + 2 s, 20 s
    assert run.n_volumes == int(np.ceil(68 / 1.5)) and set(run.events["trial_type"]) == {
        *"abcdef",
        "blank",
    }
    assert read_masks(subject.masks, subject.bold[0])["V1"].sum() == 10
    assert nibabel.load(subject.bold[0]).get_data_dtype() == np.float32
    orders = [list(pd.read_csv(path, sep="\t")["trial_type"]) for path in subject.events]
    assert orders[0] != orders[1]


def test_truth_on_disk_is_what_was_planted(tmp_path):
    subject = small(tmp_path)
    again = read_truth(subject.truth_path)
    np.testing.assert_array_equal(again.betas, subject.truth.betas)
    pd.testing.assert_frame_equal(again.voxels, subject.truth.voxels)
    assert (again.conditions, again.mixing, again.subject) == (
        tuple("abcdef"),
        {"V1": {"x": 1.0}},
        "02",
    )
    assert again.settings == subject.truth.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditions": list("abcdea")}, "conditions given twice: a"),
        ({"conditions": ["blank", *"abcde"]}, "name of blank trials"),
        ({"conditions": list("abcde")}, r"features 'x' have the shape \(6, 4\).*5 conditions"),
        ({"mixing": {"V1": {"y": 1.0}}}, "unknown feature space 'y'"),
        ({"mixing": {}}, "0 region"),
        ({"mixing": {"../V1": {"x": 1.0}}}, "cannot name a file"),
        ({"subject": "a_b"}, "subject 'a_b' is not a BIDS label"),
        ({"responding": 1.5}, "responding is 1.5; give a number up to 1"),
        ({"noise_ar1": 1.0}, "noise_ar1 is 1.0; give a number below 1"),
        ({"noise_sd": -1.0}, "noise_sd is -1.0; give at least 0"),
        ({"t_r": 0.0}, "t_r is 0.0; give a positive number"),
        ({"session_sd": 1.0}, "no sessions were given"),
        ({"sessions": dict.fromkeys("abcde", "1")}, "conditions without a session: f"),
        ({"sessions": dict.fromkeys("abcdefg", "1")}, "sessions of what is no condition: g"),
        ({"sessions": dict.fromkeys("abcdef", "../1")}, "no BIDS labels"),
    ],
)
def test_impossible_simulations_are_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        small(tmp_path, **changes)


# ----------------------------------------------------------------------------------------- sessions


def test_a_session_shows_its_conditions_and_shifts_them_together(tmp_path):
    sessions = dict(zip("abcdef", ["A", "B"] * 3))
    plain = small(tmp_path / "plain").truth
    subject = small(tmp_path / "two", sessions=sessions, session_sd=2.0)
    assert [path.name for path in subject.bold] == [
        f"sub-02_ses-{session}_task-images_run-{run}_bold.nii" for session in "AB" for run in (1, 2)
    ]
    for path, session in zip(subject.events, "AABB"):
        shown = set(pd.read_csv(path, sep="\t")["trial_type"]) - {"blank"}
        assert shown == {name for name, label in sessions.items() if label == session}
    added = subject.truth.betas - plain.betas
    np.testing.assert_allclose(added[::2], np.broadcast_to(added[0], (3, 10)))
    np.testing.assert_allclose(added[1::2], np.broadcast_to(added[1], (3, 10)))
    responds = subject.truth.voxels["responds"].to_numpy()
    assert (added[:, ~responds] == 0).all() and 0.7 < added[:, responds].std() < 4
    assert not np.allclose(added[0], added[1])
    assert read_truth(subject.truth_path).settings == subject.truth.settings


def test_a_shared_session_makes_unrelated_kinds_alike_unless_permuted_within_it(tmp_path):
    import neurometamer as nm

    names = [f"im{i:02d}" for i in range(16)]
    ids = [f"{name}_{kind}" for kind in ("RE", "AN", "AI") for name in names]
    table = pd.DataFrame(
        {
            "id": ids,
            "kind": [name[-2:] for name in ids],
            "reference_id": [name[:-3] for name in ids],
        }
    )
    patterns = simulate_patterns(
        tmp_path,
        subjects=["01", "02"],
        conditions=ids,
        features={
            "x": np.random.default_rng(0).normal(size=(48, 20))
        },  # every image for itself: nothing is alike
        mixing={"V1": {"x": 1.0}},
        seed=4,
        voxels_per_roi=30,
        n_runs=2,
        sessions={name: "AB"[names.index(name[:-3]) % 2] for name in ids},
        options=SimulationOptions(session_sd=3.0),
    )
    assert list(patterns) == ["sub-01", "sub-02"]
    sessions = {name: nm.rsa.session_labels(own, table) for name, own in patterns.items()}
    rdms = nm.rsa.pattern_rdms(patterns, table)
    p = {}
    for null in ("free", "session"):
        blocks = None if null == "free" else sessions
        found = nm.compare_image_types(
            rdms, blocks=blocks, null=null, interval="none", n_permutations=199
        )
        p[null] = found[(found["subject"] == "mean") & (found["quantity"] == "similarity")][
            "p"
        ].to_numpy()
    assert (p["free"] < 0.05).all(), p
    assert (p["session"] > 0.05).all(), p


def test_what_is_made_of_a_simulation_says_so_wherever_it_is_copied(tmp_path):
    import neurometamer as nm
    from fmri import (
        concat_patterns,
        estimate_betas,
        read_betas,
        read_patterns,
        read_runs,
        write_betas,
        write_patterns,
    )
    from neurometamer.report.rsa import SIMULATED, rdm_stamps

    subject = small(tmp_path / "one")
    patterns = estimate_betas(
        read_runs(subject.bold, subject.events, subject.confounds), subject.masks
    )
    again = read_patterns(write_patterns(patterns, tmp_path / "elsewhere.h5"))
    volumes = read_betas(write_betas(patterns, tmp_path / "betas"), subject.masks)
    assert (
        patterns.simulated
        and again.simulated
        and volumes.simulated
        and again.select(roi="V1").simulated
    )
    other = replace(again, observations=again.observations.assign(session="2"))
    assert concat_patterns([again, other]).simulated
    table = pd.DataFrame({"id": list("abcdef"), "kind": "RE", "reference_id": list("abcdef")})
    file = nm.write_rdms(nm.rsa.pattern_rdms({"02": again}, table), tmp_path / "rdms.h5")
    assert rdm_stamps(nm.read_rdms(file), file) == [SIMULATED]
    image = nibabel.load(subject.bold[0])
    for path in subject.bold:  # the same numbers without the mark are taken for measured
        image = nibabel.load(path)
        image.header["descrip"] = b"FSL5.0"
        nibabel.save(image, tmp_path / path.name)
    runs = [tmp_path / path.name for path in subject.bold]
    measured = estimate_betas(read_runs(runs, subject.events, subject.confounds), subject.masks)
    assert not measured.simulated
    assert rdm_stamps(nm.rsa.pattern_rdms({"02": measured}, table), "nowhere.h5") == []


def test_chosen_voxels_need_a_choice(tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 4))
    how = {
        "subjects": ["01"],
        "conditions": list("abcdef"),
        "features": {"x": values},
        "mixing": {"V1": {"x": 1.0}},
        "seed": 0,
        "voxels_per_roi": 20,
        "n_runs": 2,
    }
    with pytest.raises(InputError, match="n_per_roi is 5 and select_on names 0"):
        simulate_patterns(tmp_path, n_per_roi=5, **how)
    kept = simulate_patterns(tmp_path / "two", n_per_roi=5, select_on=list("abcdef"), **how)[
        "sub-01"
    ]
    assert len(kept.voxels) == 5
    assert len(simulate_patterns(tmp_path / "all", **how)["sub-01"].voxels) == 20
