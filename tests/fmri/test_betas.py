"""Betas: equal to least squares and to nilearn's own models; designs that cannot be estimated are
refused.
"""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import (
    BoldRun,
    DesignOptions,
    estimate_betas,
    estimate_contrast,
    event_design,
    event_regressors,
    noise_gain,
    read_betas,
    read_masks,
    read_run,
    read_runs,
    read_voxels,
    write_betas,
)
from fmri.betas import HRFS
from fmri.betas.hrf import CANONICAL
from neurometamer.errors import InputError


def test_ols_is_least_squares_and_overlapping_regions_repeat_voxels(simulated):
    run = read_runs(simulated.bold[:1], simulated.events[:1], simulated.confounds[:1])[0]
    masks = read_masks(simulated.masks, run.image)
    both = {"V1": masks["V1"], "early": masks["V1"] | masks["V2"]}
    patterns = estimate_betas([run], both, noise_model="ols", units="raw")
    kept, design = event_design(run)
    series = read_voxels(run.image, both["early"])
    direct = np.linalg.lstsq(design.to_numpy(), series, rcond=None)[0][: len(kept)]
    # 1e-8 of betas of about 30 (image units): double precision through a pseudo-inverse.
    np.testing.assert_allclose(patterns.select(roi="early").values, direct, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(
        patterns.select(roi="V1").values,
        patterns.select(roi="early").values[:, both["V1"][both["early"]]],
    )
    assert (
        list(patterns.observations["condition"]) == list(kept["trial_type"])
        and "blank" not in patterns.conditions
    )
    percent = estimate_betas([run], both, noise_model="ols")
    np.testing.assert_allclose(
        percent.values[:, :60],
        100 * patterns.values[:, :60] / series.mean(axis=0)[both["V1"][both["early"]]],
    )


@pytest.mark.filterwarnings("ignore:.*Given mask will be used:RuntimeWarning")
def test_ar1_is_nilearns_first_level_model(simulated):
    from nilearn.glm.first_level import FirstLevelModel

    run = read_runs(simulated.bold[:1], simulated.events[:1], simulated.confounds[:1])[0]
    masks = {"V1": read_masks(simulated.masks, run.image)["V1"]}
    ours = estimate_betas([run], masks, high_pass=0.008)
    shown = run.events[run.events["trial_type"] != "blank"].reset_index(drop=True)
    model = FirstLevelModel(
        t_r=2.0,
        hrf_model="glover",
        high_pass=0.008,
        noise_model="ar1",
        signal_scaling=0,
        mask_img=nibabel.load(simulated.masks["V1"]),
        minimize_memory=False,
    )
    named = shown.assign(trial_type=[f"e{row:03d}" for row in range(len(shown))])
    model.fit(nibabel.load(run.image), events=named, confounds=run.confounds)
    for row in (0, 20, 53):
        effect = model.compute_contrast(f"e{row:03d}", output_type="effect_size").get_fdata()[
            masks["V1"]
        ]
        # nilearn's masker keeps float32 images in float32: 1e-7 of 1000, seen through percent and
        # noise gain.
        np.testing.assert_allclose(ours.values[row], effect, rtol=0, atol=1e-4)


def test_lss_is_one_model_an_event(make_run):
    from nilearn.glm.first_level import make_first_level_design_matrix

    bold, _, mask = make_run()
    events = pd.DataFrame(
        {"onset": 4.0 + 7 * np.arange(15), "duration": 2.0, "trial_type": list("abc") * 5}
    )
    run = read_run(bold, events)
    ours = estimate_betas([run], {"V1": mask}, noise_model="ols", estimator="LSS", units="raw")
    series = read_voxels(bold, read_masks({"V1": mask}, bold)["V1"])
    for row in (0, 7, 14):
        named = events.assign(
            trial_type=["this" if other == row else "others" for other in range(15)]
        )
        design = make_first_level_design_matrix(
            np.arange(60) * 2.0, named, hrf_model="glover", high_pass=0.01
        )
        direct = np.linalg.lstsq(design.to_numpy(), series, rcond=None)[0][
            list(design.columns).index("this")
        ]
        np.testing.assert_allclose(ours.values[row], direct, atol=1e-8)


def test_presentations_are_counted_over_runs_in_order(make_run):
    one, two = make_run("run-1"), make_run("run-2")
    seen = []
    patterns = estimate_betas(
        read_runs([one[0], two[0]], [one[1], two[1]]),
        {"V1": one[2]},
        progress=lambda *step: seen.append(step),
    )
    table = patterns.observations
    assert table[["condition", "presentation", "run", "onset"]].to_numpy().tolist() == [
        ["a", 1, "1", 6],
        ["b", 1, "1", 26],
        ["a", 2, "1", 66],
        ["c", 1, "1", 86],
        ["a", 3, "2", 6],
        ["b", 2, "2", 26],
        ["a", 4, "2", 66],
        ["c", 2, "2", 86],
    ]
    assert seen == [(1, 2), (2, 2)]
    assert patterns.provenance["settings"]["units"] == "percent"
    assert [run["image"] for run in patterns.provenance["runs"]] == [one[0].name, two[0].name]


def test_betas_on_disk_are_exact_and_masks_beyond_them_are_noticed(
    simulated_patterns, simulated, make_run, tmp_path
):
    folder = write_betas(simulated_patterns, tmp_path / "betas")
    again = read_betas(folder, simulated.masks)
    np.testing.assert_array_equal(again.values, simulated_patterns.values.astype(np.float32))
    pd.testing.assert_frame_equal(again.observations, simulated_patterns.observations)
    pd.testing.assert_frame_equal(again.voxels, simulated_patterns.voxels)
    assert dict(again.provenance) == dict(simulated_patterns.provenance)
    image = nibabel.load(folder / "betas.nii.gz")
    assert image.shape[3] == len(simulated_patterns) and image.get_data_dtype() == np.float32
    np.testing.assert_allclose(image.affine, nibabel.load(simulated.bold[0]).affine)

    mask = nibabel.load(simulated.masks["V1"])
    wider = np.asarray(mask.dataobj).copy()
    wider[0, 0, :2] = 1
    nibabel.save(nibabel.Nifti1Image(wider, mask.affine), tmp_path / "wider.nii")
    with pytest.raises(InputError, match="masks reach voxels without betas: wide 2"):
        read_betas(folder, {"wide": tmp_path / "wider.nii"})
    dropped = read_betas(folder, {"wide": tmp_path / "wider.nii"}, unusable="drop")
    np.testing.assert_array_equal(dropped.values, again.select(roi="V1").values)
    with pytest.raises(InputError, match="has the grid"):
        read_betas(folder, {"V1": make_run()[2]})
    (folder / "betas.json").write_text("{}")
    with pytest.raises(InputError, match=r"betas\.json was not written by write_betas"):
        read_betas(folder, simulated.masks)


def spoil(data):
    data[1, 1, 1, 5] = np.nan
    data[1, 2, 1] = 700
    return data


def test_unusable_voxels_are_refused_or_dropped_and_recorded(make_run):
    good, bad = make_run("run-1"), make_run("run-2", edit=spoil)
    runs = read_runs([good[0], bad[0]], [good[1], bad[1]])
    with pytest.raises(
        InputError, match=r'run-2_bold.nii: .*: 1 NaN or infinite in V1, 1 constant in V1; .*"drop"'
    ):
        estimate_betas(runs, {"V1": good[2]})
    patterns = estimate_betas(runs, {"V1": good[2]}, unusable="drop")
    assert patterns.provenance["dropped"] == [
        {"roi": "V1", "ijk": [1, 1, 1], "why": "NaN or infinite"},
        {"roi": "V1", "ijk": [1, 2, 1], "why": "constant"},
    ]
    assert patterns.values.shape == (8, 4)
    alone = estimate_betas(runs[:1], {"V1": good[2]})
    np.testing.assert_allclose(patterns.values[:4], alone.values[:, 2:])
    only = np.zeros((4, 5, 3), dtype=bool)
    only[1, 1, 1] = True
    with pytest.raises(InputError, match=r"no usable voxel is left in ROI\(s\) tiny"):
        estimate_betas(runs, {"tiny": only}, unusable="drop")


def test_percent_needs_a_mean(make_run):
    bold, events, mask = make_run(edit=lambda data: data - data.mean(axis=3, keepdims=True) - 1)
    run = read_run(bold, events)
    with pytest.raises(InputError, match=r'6 voxel.* mean ≤ 0.*units="raw"'):
        estimate_betas([run], {"V1": mask})
    assert estimate_betas([run], {"V1": mask}, units="raw").provenance["settings"]["units"] == "raw"


SPIKES = np.eye(60)
"""Regressors of scrubbed volumes."""


def with_events(run: BoldRun, onsets, **changes):
    table = pd.DataFrame(
        {"onset": onsets, "duration": 2.0, "trial_type": [f"t{row}" for row in range(len(onsets))]}
    )
    return BoldRun(image=run.image, n_volumes=run.n_volumes, t_r=run.t_r, events=table, **changes)


@pytest.mark.parametrize(
    ("onsets", "confounds", "message"),
    [
        (
            [4, 30, 30],
            {},
            "run-1_bold.nii: events too close in time.*'t1' at 30 s and 't2' at 30 s",
        ),
        ([4, 30, 30.1], {}, "too close in time"),
        ([4, 30, 119], {}, "run ends before the response to 't2' at 119 s"),
        ([119.9], {}, "run ends before the response to 't0' at 119.9 s"),
        (
            list(range(2, 118, 2)),
            {},
            r"61 columns for 60 volumes \(58 events, 3 of drifts and mean\)",
        ),
        (
            [4, 30],
            {"a": np.sin(np.arange(60)), **{f"m{number}": SPIKES[number] for number in range(55)}},
            r"61 columns for 60 volumes \(2 events, 3 of drifts and mean, 1 confound, 55 scrubbed",
        ),
        (
            [4, 30],
            {"a": np.arange(60), "b": 3.0 - np.arange(60)},
            "depend on each other: confound_a, confound_b",
        ),
    ],
)
def test_designs_that_cannot_be_estimated_are_refused(make_run, onsets, confounds, message):
    run = read_run(*make_run()[:2])
    table = pd.DataFrame(confounds, index=range(60)) if confounds else None
    with pytest.raises(InputError, match=message):
        event_design(with_events(run, onsets, confounds=table))


def test_a_late_event_is_measured_by_its_own_length(make_run):
    run = read_run(*make_run()[:2])
    table = pd.DataFrame(
        {"onset": [10.0, 118], "duration": [10.0, 2], "trial_type": ["long", "short"]}
    )
    with pytest.raises(InputError, match="run ends before the response to 'short' at 118 s"):
        event_design(BoldRun(image=run.image, n_volumes=60, t_r=2.0, events=table))


def test_constant_confounds_are_left_out_and_impulses_allowed(make_run):
    bold, events, _ = make_run()
    confounds = pd.DataFrame({"zero": np.zeros(60), "five": 5.0, "ramp": np.arange(60.0)})
    table = pd.read_csv(events, sep="\t").assign(duration=0)
    with pytest.warns(UserWarning, match="taken as impulses of 0 s"):
        columns = event_design(read_run(bold, table, confounds))[1].columns
    assert [name for name in columns if name.startswith("confound")] == ["confound_ramp"]


def test_noise_gain_tells_dense_designs(make_run):
    run = read_run(*make_run()[:2])
    spread, dense = (
        with_events(run, np.arange(4, 100, 12.0)),
        with_events(run, np.arange(4, 100, 3.0)),
    )
    gains = [noise_gain(event_design(run)[1]) for run in (spread, dense)]
    assert gains[0] < 2 < gains[1]
    # The definition: standard deviation of betas of white noise.
    design = event_design(spread)[1].to_numpy()
    betas = np.linalg.lstsq(design, np.random.default_rng(0).normal(size=(60, 4000)), rcond=None)[
        0
    ][:8]
    assert gains[0] == pytest.approx(
        np.median(betas.std(axis=1)), rel=0.05
    )  # 4000 draws: about 1 % each


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hrf_model": "glove"}, "unknown hrf_model 'glove'; did you mean 'glover'"),
        ({"noise_model": "ar2"}, "unknown noise_model 'ar2'; did you mean 'ar1'"),
        ({"estimator": "lsa"}, "unknown estimator 'lsa'"),
        ({"units": "psc"}, "unknown units 'psc'.*percent, raw"),
        ({"unusable": "keep"}, "unknown unusable 'keep'"),
        ({"ignore": ["a", "b", "c", "blank"]}, "no event is left after ignoring a, b, c, blank"),
        (
            {"high_pass": 0.3},
            r"high_pass \(--high-pass\) is 0.3; give Hz from 0 to below 0.25",
        ),
        ({"slice_time_ref": 2.0}, "between 0 and 1"),
    ],
)
def test_bad_options_are_refused(make_run, options, message):
    bold, events, mask = make_run()
    with pytest.raises(InputError, match=message):
        estimate_betas([read_run(bold, events)], {"V1": mask}, **options)


def test_masks_and_runs_are_checked(make_run):
    bold, events, _ = make_run()
    run = read_run(bold, events)
    with pytest.raises(InputError, match="give booleans"):
        estimate_betas([run], {"V1": np.ones((4, 5, 3))})
    with pytest.raises(
        InputError, match=r"mask of shape \(4, 5, 2\) but the images have \(4, 5, 3\)"
    ):
        estimate_betas([run], {"V1": np.ones((4, 5, 2), dtype=bool)})
    with pytest.raises(InputError, match="without any voxel: V1"):
        estimate_betas([run], {"V1": np.zeros((4, 5, 3), dtype=bool)})
    with pytest.raises(InputError, match="no BOLD runs"):
        estimate_betas([], {"V1": np.ones((4, 5, 3), dtype=bool)})
    with pytest.raises(InputError, match=r"runs of 2 subjects \(07, 08\)"):
        estimate_betas(
            [run, read_run(bold, events, subject="08", run="2")],
            {"V1": np.ones((4, 5, 3), dtype=bool)},
        )


def test_options_of_designs_are_keywords_and_a_misspelt_one_is_named(make_run):
    bold, events, mask = make_run()
    run = read_run(bold, events)
    masks = {"V1": mask}
    chosen = {"hrf_model": "spm", "high_pass": 0.02}
    settings = estimate_betas([run], masks, noise_model="ols", **chosen).provenance["settings"]
    assert (settings["hrf_model"], settings["high_pass"]) == ("spm", 0.02)
    assert settings["ignore"] == ["blank", "n/a"] and settings["slice_time_ref"] is None
    for call in (
        lambda: estimate_betas([run], masks, hrf_modle="spm"),
        lambda: event_design(run, hrf_modle="spm"),
        lambda: estimate_contrast([run], "a - b", hrf_modle="spm"),
    ):
        with pytest.raises(InputError, match=r"hrf_modle.*hrf_model"):
            call()
    with pytest.raises(InputError, match=r"hrf_model 'boynton'.*glover, spm"):
        DesignOptions(hrf_model="boynton")


@pytest.mark.parametrize("hrf_model", HRFS)
def test_designs_and_the_library_build_the_same_regressors(make_run, hrf_model):
    bold, events, _ = make_run()
    run = read_run(bold, events)
    kept, design = event_design(run, hrf_model=hrf_model, slice_time_ref=0.3)
    times = (np.arange(run.n_volumes) + 0.3) * run.t_r
    onsets, durations = kept["onset"].to_numpy(), kept["duration"].to_numpy()
    ours = event_regressors(times, onsets, durations, CANONICAL[hrf_model])
    # 1e-12: the design has nilearn's samples of the response, computed in another order.
    np.testing.assert_allclose(ours, design.to_numpy()[:, : len(kept)], atol=1e-12)
