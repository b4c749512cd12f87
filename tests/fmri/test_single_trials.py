"""HRF library, noise regressors and ridge shrinkage: against planted amplitudes, nilearn, and
fracridge where it is installed.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pandas as pd
import pytest

from fmri import (
    HRF_LIBRARY,
    HrfShape,
    SingleTrialOptions,
    estimate_betas,
    event_design,
    event_regressors,
    fractional_ridge,
    leave_one_run_out_accuracy,
    read_regions,
    read_runs,
    read_voxels,
)
from fmri.betas.hrf import CANONICAL, GLOVER
from fmri.betas.joint_models import fit_jointly
from neurometamer.errors import InputError

EVERYTHING = SingleTrialOptions(hrf="library", n_noise="auto", shrinkage="auto")
NO_HEADER = "ignore:.*transform.*"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Rapid events, responses of half of the voxels late and wide, noise that voxels share."""
    folder = tmp_path_factory.mktemp("planted")
    random = np.random.default_rng(7)
    n_voxels, n_conditions = 120, 10
    late = HrfShape(
        delay=7.4, undershoot=15.0, dispersion=1.1, undershoot_dispersion=1.0, ratio=0.2
    )
    shapes = np.array([GLOVER, late])[np.arange(n_voxels) % 2]
    responds = np.arange(n_voxels) < 80
    means = random.normal(1, 1, (n_conditions, n_voxels)) * responds
    loadings = random.normal(size=(3, n_voxels))
    bold, events, amplitudes = [], [], []
    for run in range(1, 6):
        order = random.permutation(np.repeat(np.arange(n_conditions), 2))
        slots = np.sort(random.permutation(25)[:20])
        onsets, durations = 16.0 + 4 * slots, np.full(20, 2.0)
        times = np.arange(72) * 2.0
        amplitude = means[order] + 0.3 * random.normal(size=(20, n_voxels)) * responds
        series = 100 + 0.4 * random.normal(size=(72, n_voxels))
        series += 0.3 * random.normal(size=(72, 3)) @ loadings
        for shape in (GLOVER, late):
            own = shapes == shape
            regressors = event_regressors(times, onsets, durations, shape) * shape.scale
            series[:, own] += regressors @ amplitude[:, own]
        image = nibabel.Nifti1Image(series.T.reshape(n_voxels, 1, 1, 72), np.eye(4))
        image.header.set_xyzt_units("mm", "sec")
        image.header.set_zooms((1, 1, 1, 2.0))
        bold.append(folder / f"sub-01_run-{run}_bold.nii")
        nibabel.save(image, bold[-1])
        names = [f"c{number}" for number in order]
        events.append(pd.DataFrame({"onset": onsets, "duration": 2.0, "trial_type": names}))
        amplitudes.append(amplitude)
    masks = {"V1": np.ones((n_voxels, 1, 1), dtype=bool)}
    return read_runs(bold, events), masks, np.concatenate(amplitudes), responds, shapes


def agreement(betas, amplitudes, voxels):
    pairs = zip(betas[:, voxels].T, amplitudes[:, voxels].T)
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs]))


def fitted(planted, options, **more):
    runs, masks, *_ = planted
    return estimate_betas(
        runs, masks, **({"noise_model": "ols", "units": "raw"} | more), single_trials=options
    )


@pytest.mark.parametrize("name", CANONICAL)
@pytest.mark.parametrize("t_r", [2.0, 0.8])
def test_regressors_are_nilearns(name, t_r):
    from nilearn.glm.first_level import glover_hrf, spm_hrf
    from nilearn.glm.first_level.hemodynamic_models import compute_regressor

    kernel = {"glover": glover_hrf, "spm": spm_hrf}[name](t_r)
    # 1e-12: the density is computed in another order.
    np.testing.assert_allclose(CANONICAL[name].kernel(t_r), kernel, atol=1e-12)
    times = np.arange(70) * t_r + 0.37
    onsets, durations = np.array([-3.2, 4.1, 11.77, 30.0]), np.array([2.0, 0.0, 3.3, 1.0])
    ours = event_regressors(times, onsets, durations, CANONICAL[name])
    for number in range(4):
        event = (onsets[[number]], durations[[number]], np.ones(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, _ = compute_regressor(event, name, times, min_onset=-24.0)
        np.testing.assert_allclose(ours[:, number], theirs[:, 0], atol=1e-12)


def test_library_spans_peaks_and_widths_around_glovers():
    assert len(HRF_LIBRARY) == 22 and HRF_LIBRARY["peak 5.1 s, width 1"] == GLOVER
    peaks = {name: shape.kernel(2.0).argmax() * 0.04 for name, shape in HRF_LIBRARY.items()}
    assert peaks["peak 3 s, width 1"] < 3.1 < 7.1 < peaks["peak 7.2 s, width 1"]
    tops = [shape.scale * shape.kernel(1.0).max() for shape in HRF_LIBRARY.values()]
    np.testing.assert_allclose(tops, GLOVER.kernel(1.0).max())
    with pytest.raises(InputError, match="no hemodynamic response"):
        HrfShape(delay=1, undershoot=12, dispersion=2, undershoot_dispersion=1, ratio=0.3)


def test_fractional_ridge_is_ridge_of_the_length_asked_for():
    random = np.random.default_rng(0)
    design = random.normal(size=(80, 20)) @ np.diag(np.geomspace(0.05, 5, 20))
    data = random.normal(size=(80, 30))
    fractions = np.arange(1, 11) / 10
    betas, penalties = fractional_ridge(design, data, fractions)
    plain = np.linalg.lstsq(design, data, rcond=None)[0]
    lengths = np.linalg.norm(betas, axis=1) / np.linalg.norm(plain, axis=0)
    # 1e-3: the penalty is interpolated on a grid.
    np.testing.assert_allclose(lengths, np.tile(fractions, (30, 1)).T, atol=1e-3)
    for row, voxel in ((0, 0), (4, 7), (9, 29)):
        gram = design.T @ design + penalties[row, voxel] * np.eye(20)
        direct = np.linalg.solve(gram, design.T @ data[:, voxel])
        # 1e-6 of betas up to 7: normal equations of a design with condition 100.
        np.testing.assert_allclose(betas[row, :, voxel], direct, atol=1e-6)
    orthonormal = np.linalg.qr(design)[0]
    _, penalties = fractional_ridge(orthonormal, data, fractions)
    # with singular values of 1 the length is 1 / (1 + penalty)
    np.testing.assert_allclose(1 / (1 + penalties[:, 0]), fractions, atol=1e-3)
    with pytest.raises(InputError, match="above 0 and up to 1"):
        fractional_ridge(design, data, np.array([0.0, 0.5]))


@pytest.mark.skipif(
    importlib.util.find_spec("fracridge") is None, reason="fracridge is not installed"
)
@pytest.mark.filterwarnings("ignore:.*jit.*")
def test_fractional_ridge_is_fracridges():
    from fracridge import fracridge

    random = np.random.default_rng(0)
    design = random.normal(size=(80, 20)) @ np.diag(np.geomspace(0.05, 5, 20))
    data = random.normal(size=(80, 30))
    fractions = np.arange(1, 11) / 10
    betas, _ = fractional_ridge(design, data, fractions)
    theirs, _ = fracridge(design, data, fractions)
    # 1 % of the largest: fracridge misses the lengths by up to .006, on a coarser grid of penalties.
    np.testing.assert_allclose(betas.transpose(1, 0, 2), theirs, atol=0.01 * np.abs(theirs).max())


def test_options_left_alone_change_nothing(planted):
    runs, masks, *_ = planted
    for noise_model in ("ols", "ar1"):
        plain = estimate_betas(runs, masks, noise_model=noise_model)
        same = fitted(planted, SingleTrialOptions(), noise_model=noise_model, units="percent")
        # 1e-9 percent: nilearn's regressors and ours differ by rounding.
        np.testing.assert_allclose(same.values, plain.values, atol=1e-9)
        pd.testing.assert_frame_equal(same.observations, plain.observations)


def test_each_option_brings_betas_nearer_to_what_was_planted(planted):
    *_, amplitudes, responds, shapes = planted
    late = responds & (shapes != GLOVER)
    canonical = responds & (shapes == GLOVER)
    plain = fitted(planted, None)
    library = fitted(planted, SingleTrialOptions(hrf="library"))
    before, after = (agreement(betas.values, amplitudes, late) for betas in (plain, library))
    assert after > before + 0.05
    before, after = (agreement(betas.values, amplitudes, canonical) for betas in (plain, library))
    assert after > before - 0.005
    noise = fitted(planted, SingleTrialOptions(n_noise="auto"))
    assert noise.provenance["single_trials"]["noise"]["n_regressors"] in (2, 3, 4)
    shrunken = fitted(planted, SingleTrialOptions(shrinkage="auto"))
    together = fitted(planted, EVERYTHING)
    reached = {}
    for name, betas in {
        "plain": plain,
        "noise": noise,
        "shrunken": shrunken,
        "all": together,
    }.items():
        reached[name] = agreement(betas.values, amplitudes, responds)
    assert reached["noise"] > reached["plain"] + 0.02
    assert reached["shrunken"] > reached["plain"]
    assert reached["all"] > reached["plain"] + 0.05
    # scale and mean of a voxel are those of its least-squares betas
    np.testing.assert_allclose(shrunken.values.mean(axis=0), plain.values.mean(axis=0))
    centered = shrunken.values - shrunken.values.mean(axis=0)
    np.testing.assert_allclose(
        (centered * (plain.values - shrunken.values)).sum(axis=0), 0, atol=1e-7
    )


def test_noise_comes_from_all_of_the_brain_mask(planted, tmp_path):
    """Regressors of regions with a brain mask are those of one region as large as the mask."""
    runs, masks, amplitudes, responds, _ = planted
    region = {"V1": responds.reshape(masks["V1"].shape)}
    rest = {"rest": ~region["V1"]}
    brain = nibabel.Nifti1Image(masks["V1"].astype(np.uint8), np.eye(4))
    nibabel.save(brain, tmp_path / "brain.nii")
    grid = runs[0].grid
    of_brain = read_regions(region, grid, brain_mask=tmp_path / "brain.nii")
    others = read_regions(region | rest, grid, only=["V1"], with_pool=True)
    largest = fitted(planted, SingleTrialOptions(n_noise=3))
    for regions in (of_brain, others):
        betas = fitted((runs, regions), SingleTrialOptions(n_noise=3))
        # 1e-9 of about 1: the pool is summed up in another order.
        np.testing.assert_allclose(betas.values, largest.values[:, responds], rtol=0, atol=1e-9)
        made = betas.provenance["single_trials"]["noise"]
        assert made["n_pool"] == largest.provenance["single_trials"]["noise"]["n_pool"]
        assert betas.provenance["noise_pool"]["n_voxels"] == 40
    automatic = fitted((runs, of_brain), SingleTrialOptions(n_noise="auto"))
    assert automatic.provenance["single_trials"]["noise"]["n_regressors"] in (2, 3, 4)
    library = SingleTrialOptions(hrf="library", n_noise=3)
    plain = fitted((runs, of_brain), SingleTrialOptions(hrf="library"))
    denoised = fitted((runs, of_brain), library)
    voxels = np.arange(responds.sum())
    before = agreement(plain.values, amplitudes[:, responds], voxels)
    assert agreement(denoised.values, amplitudes[:, responds], voxels) > before + 0.02
    # voxels of the mask without data are no part of the pool
    for run in runs:
        image = nibabel.load(run.image)
        data = image.get_fdata()
        data[~responds] = 0
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4), image.header), tmp_path / run.image.name)
    spoilt = [replace(run, image=tmp_path / run.image.name) for run in runs]
    with pytest.raises(InputError, match="but there are 0 voxels that the task does not explain"):
        fitted((spoilt, of_brain), SingleTrialOptions(n_noise=1))


def test_without_a_pool_noise_regressors_say_so(planted):
    runs, masks, *_ = planted
    r2 = fitted(planted, SingleTrialOptions(hrf="library"))
    strong = np.abs(r2.values.mean(axis=0)) > 1.2
    region = {"V1": strong.reshape(masks["V1"].shape)}
    with pytest.warns(UserWarning, match=r"no noise regressors: there are 0 voxels .*--brain-mask"):
        betas = fitted((runs, region), SingleTrialOptions(n_noise="auto"))
    np.testing.assert_allclose(betas.values, fitted((runs, region), None).values, atol=1e-9)
    with pytest.raises(InputError, match=r"3 noise regressors .* there are 0 voxels .*brain mask"):
        fitted((runs, region), SingleTrialOptions(n_noise=3))


def test_provenance_says_what_was_chosen_and_gained(planted):
    record = fitted(planted, EVERYTHING).provenance["single_trials"]
    assert record["chosen_on_all_runs"] == ["denoised", "shrunken"]
    assert record["units"].startswith("raw, shrunken")
    assert sum(record["hrf"]["n_voxels"].values()) == 120
    assert record["hrf"]["r2"][1] > record["hrf"]["r2_glover"][1]
    assert record["noise"]["n_pool"] > 20 and len(record["noise"]["median_r2"]) == 11
    assert 0 < record["shrinkage"]["fractions"][1] <= 1
    assert record["shrinkage"]["less_error_in_other_runs"][1] > 0
    assert record["options"]["n_noise"] == "auto"


def test_library_goes_with_lss_ar1_and_unrepeated_conditions(planted):
    runs, masks, amplitudes, responds, shapes = planted
    late = responds & (shapes != GLOVER)
    for more in ({"estimator": "LSS"}, {"noise_model": "ar1"}):
        plain = fitted(planted, None, **more)
        library = fitted(planted, SingleTrialOptions(hrf="library"), **more)
        gain = agreement(library.values, amplitudes, late) - agreement(
            plain.values, amplitudes, late
        )
        assert gain > 0.05, more
    names = [np.arange(20) + 20 * number for number in range(len(runs))]
    unrepeated = []
    for run, numbers in zip(runs, names):
        events = run.events.assign(trial_type=[f"image{number}" for number in numbers])
        unrepeated.append((run.image, events[["onset", "duration", "trial_type"]]))
    again = read_runs(*zip(*unrepeated))
    library = estimate_betas(
        again, masks, noise_model="ols", single_trials=SingleTrialOptions(hrf="library")
    )
    record = library.provenance["single_trials"]["hrf"]
    assert record["chosen_by"] == "the mean response"
    assert agreement(library.values, amplitudes, late) > agreement(
        fitted(planted, None).values, amplitudes, late
    )
    for options in ({"n_noise": 2}, {"n_noise": "auto"}, {"shrinkage": "auto"}):
        with pytest.raises(InputError, match=r"none of the 100 conditions .* occurs in two"):
            estimate_betas(
                again, masks, noise_model="ols", single_trials=SingleTrialOptions(**options)
            )
    with pytest.raises(InputError, match="there is one run"):
        estimate_betas(runs[:1], masks, single_trials=SingleTrialOptions(hrf="library"))


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        ({"hrf": "lib"}, {}, "library"),
        ({"per": "trial"}, {}, "presentation"),
        ({"n_noise": "many"}, {}, "whole number"),
        ({"n_noise": -1}, {}, "0 or more"),
        ({"shrinkage": 1.5}, {}, "up to 1"),
        ({"shrinkage": "strong"}, {}, "'none', 'auto'"),
        ({"max_noise": 0}, {}, "at least 1"),
        ({"hrf": "fir"}, {}, 'give per="condition"'),
        ({"per": "condition", "shrinkage": 0.5}, {}, "single presentations"),
        (
            {"shrinkage": 0.5},
            {"noise_model": "ar1", "units": "percent"},
            r'^shrunken betas are of least squares, but noise_model is "ar1"; give [^%]*ols\)\.$',
        ),
        ({"shrinkage": 0.5}, {"units": "t"}, '^shrunken .* no standard error, but units are "t"'),
        ({"shrinkage": 0.5}, {"estimator": "LSS"}, "--estimator LSA"),
        ({"per": "condition"}, {"estimator": "LSS"}, "--estimator LSA"),
        ({}, {"units": "z", "estimator": "LSS"}, "--estimator LSA"),
        ({"n_noise": 60}, {}, "60 noise regressors are asked for"),
    ],
)
def test_options_that_exclude_each_other_are_refused(planted, options, more, message):
    with pytest.raises(InputError, match=message):
        fitted(planted, SingleTrialOptions(**options), **more)


@pytest.mark.parametrize(
    ("options", "more"),
    [(SingleTrialOptions(n_noise=1), {}), (None, {"units": "t"})],
)
def test_too_little_memory_is_refused_with_what_is_enough(planted, options, more):
    with pytest.raises(InputError, match="all runs at once") as refused:
        fitted(planted, options, max_memory="100 kB", **more)
    enough = re.search(r"at once, (\d+ MB); give that", str(refused.value))[1]
    # 5 runs of 72 volumes and 120 voxels in eight bytes, twice, are 0.69 MB
    assert enough == "1 MB"
    limited = fitted(planted, options, max_memory=enough, **more)
    np.testing.assert_array_equal(limited.values, fitted(planted, options, **more).values)


def test_numbers_may_be_text_as_a_command_line_writes_them():
    options = SingleTrialOptions(n_noise="3", shrinkage="0.25")
    assert (options.n_noise, options.shrinkage) == (3, 0.25)


def test_one_model_a_session_is_the_block_diagonal_model(planted):
    runs, masks, *_ = planted
    joined = fitted(planted, SingleTrialOptions(per="condition"))
    names = list(joined.conditions)
    blocks, series = [], []
    for number, run in enumerate(runs):
        events, design = event_design(run, per="condition")
        shown = list(dict.fromkeys(events["trial_type"]))
        is_event = design.columns.str.startswith("event_")
        columns = np.zeros((72, len(names)))
        columns[:, [names.index(name) for name in shown]] = design.loc[:, is_event]
        nuisance = design.loc[:, ~is_event].to_numpy()
        own = np.zeros((72, nuisance.shape[1] * len(runs)))
        own[:, number * nuisance.shape[1] : (number + 1) * nuisance.shape[1]] = nuisance
        blocks.append(np.column_stack([columns, own]))
        series.append(read_voxels(run.image, masks["V1"]))
    direct = np.linalg.lstsq(np.concatenate(blocks), np.concatenate(series), rcond=None)[0]
    # 1e-8 of betas of about 1: least squares in double precision.
    np.testing.assert_allclose(joined.values, direct[: len(names)], atol=1e-8)
    table = joined.observations
    assert table["presentation"].eq(1).all() and table["run"].eq("1+2+3+4+5").all()


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_t_and_z_are_nilearns(planted, noise_model):
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    runs, masks, *_ = planted
    _, design = event_design(runs[0])
    series = read_voxels(runs[0].image, masks["V1"])
    labels, results = run_glm(series, design.to_numpy(), noise_model=noise_model)
    for units in ("t", "z"):
        ours = estimate_betas(runs[:1], masks, noise_model=noise_model, units=units)
        for event in (0, 13):
            weights = np.eye(design.shape[1])[event]
            contrast = compute_contrast(labels, results, weights)
            theirs = contrast.stat() if units == "t" else contrast.z_score()
            # 1e-6 of values up to 10: nilearn goes through pseudo-inverses and both tails.
            np.testing.assert_allclose(ours.values[event], theirs, atol=1e-6)


def test_finite_impulse_response_follows_the_planted_shape(planted):
    _, _, amplitudes, responds, shapes = planted
    options = SingleTrialOptions(per="condition", hrf="fir", n_delays=8)
    fir = fitted(planted, options)
    assert list(fir.observations["condition"][:2]) == [
        f"{fir.observations['stimulus'][0]}_delay_{delay}" for delay in (0, 1)
    ]
    assert fir.observations["delay_s"].max() == 14
    courses = fir.values.reshape(-1, 8, 120).mean(axis=0)
    strong = responds & (amplitudes.mean(axis=0) > 0.8)
    early = courses[:, strong & (shapes == GLOVER)].mean(axis=1)
    late = courses[:, strong & (shapes != GLOVER)].mean(axis=1)
    assert early.argmax() * 2 == 6 and late.argmax() * 2 >= 6
    seconds = np.arange(8) * 2
    assert (late * seconds).sum() / late.sum() > (early * seconds).sum() / early.sum()


def test_joint_model_says_what_it_cannot_estimate():
    events = np.ones((10, 1))
    with pytest.raises(InputError, match="cannot be told apart"):
        fit_jointly([np.ones((10, 2))], [events], [np.ones((10, 1))])
    random = np.random.default_rng(0)
    columns = random.normal(size=(6, 5))
    with pytest.raises(InputError, match="6 columns for 6 volumes"):
        fit_jointly([np.ones((6, 2))], [columns], [np.ones((6, 1))])


@pytest.mark.data
def test_haxby_slice_is_decoded_as_well_as_before(shared_data):
    """One block a category and run: the plain GLM names .52 of the blocks, chance is .125."""
    folder = shared_data / "haxby_1slice" / "sub-001"
    files = sorted((folder / "func").glob("*_bold.nii.gz"))
    bold = [path for path in files if "res-" not in path.name]
    tables = []
    for kind in ("events", "motion"):
        tables.append(sorted((folder / "func").glob(f"*_{kind}.tsv")))
    runs = read_runs(bold, *tables)
    masks = {"slice": folder / "masks" / "slice_brain.nii.gz"}
    # blocks seem to begin earlier than the events say
    with pytest.warns(UserWarning, match="earliest or latest"):
        betas = estimate_betas(runs, masks, noise_model="ols", single_trials=EVERYTHING)
    assert betas.values.shape == (96, 530)
    # .66; with labels shuffled within runs .18, with the plain GLM .17 (chance .125)
    assert leave_one_run_out_accuracy(betas).iloc[0]["accuracy"] >= 0.5
