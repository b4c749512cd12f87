"""Simulated subjects like measured ones: the measures of quality agree, the truth is recovered."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fmri import (
    SimulationOptions,
    estimate_betas,
    fit_scan,
    predict_responses,
    read_runs,
    read_truth,
    read_voxels,
    scan_quality,
    simulate_like,
    simulate_subject,
)
from fmri.rois.regions import read_masks
from fmri.run_quality import QUALITY, quality_agreement
from neurometamer import InputError
from neurometamer.store import read_table

IMAGES = [f"image{number:02d}" for number in range(20)]


def simulate(folder, seed=0, **changes):
    draws = np.random.default_rng(seed)
    features = {"few": draws.standard_normal((20, 6)), "many": draws.standard_normal((20, 40))}
    options = {"smoothing_fwhm": 3.0, "hrf_delay_sd": 0.5, "n_blanks": 10} | changes
    subject = simulate_subject(
        folder,
        subject="01",
        conditions=IMAGES,
        features=features,
        mixing={"V1": {"few": 1.0, "many": 0.0}, "LO": {"few": 0.3, "many": 0.7}},
        seed=seed,
        voxels_per_roi=60,
        n_runs=6,
        options=SimulationOptions(**options),
    )
    return subject, features


def opened(subject):
    return read_runs(subject.bold, subject.events, subject.confounds)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("measured"), n_spikes=1)[0]


@pytest.fixture(scope="module")
def model(measured):
    return fit_scan(opened(measured), measured.masks)


def test_simulated_runs_measure_like_the_given_ones(measured, model, tmp_path):
    """Mean of four subjects; tolerance 10 %, or .03 for the correlation of volumes."""
    tables = []
    for seed in range(4):
        subject = simulate_like(model, tmp_path / str(seed), subject=f"{seed}", seed=seed)
        assert all(run.simulated for run in opened(subject))
        tables.append(scan_quality(opened(subject), subject.masks).set_index("roi"))
    given = scan_quality(opened(measured), measured.masks).set_index("roi")
    simulated = sum(tables) / len(tables)
    for name in ("tsnr", "fwhm_mm", "ncsnr_50", "ncsnr_75", "rdm_reliability"):
        np.testing.assert_allclose(simulated[name], given[name], rtol=0.1, err_msg=name)
    np.testing.assert_allclose(simulated["ar1"], given["ar1"], atol=0.03)
    np.testing.assert_allclose(simulated["ncsnr_25"], given["ncsnr_25"], rtol=0.1, atol=0.03)


def test_the_agreement_tells_chance_from_misfit(model):
    """Planted regions are matched within 10 %, and chance moves their measures by less."""
    table = model.agreement.set_index("measure")
    assert table["alike"].all()
    reliability = table.loc["rdm_reliability"]
    assert (reliability["difference"] < 0.1).all() and (reliability["chance"] < 0.15).all()
    quality = model.quality.set_index("source")
    np.testing.assert_array_equal(reliability["measured"], quality.loc["measured"].iloc[:, -1])
    np.testing.assert_allclose(reliability["simulated"], quality.loc["simulated"].iloc[:, -1])


def test_the_planted_responses_are_found_again(model, tmp_path):
    subject = simulate_like(model, tmp_path, subject="02", seed=3)
    names, means = estimate_betas(opened(subject), subject.masks).means()
    truth = read_truth(subject.truth_path)
    planted = truth.betas[[truth.conditions.index(name) for name in names]]
    aligned = [np.corrcoef(row, other)[0, 1] for row, other in zip(means, planted, strict=True)]
    assert np.median(aligned) > 0.9


def test_seeds_decide_and_subjects_differ(model, tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    first = simulate_like(model, folders[0], subject="02", seed=3)
    again = simulate_like(model, folders[1], subject="02", seed=3)
    other = simulate_like(model, folders[2], subject="02", seed=4)
    for same, different, path in zip(again.bold, other.bold, first.bold, strict=True):
        assert same.read_bytes() == path.read_bytes() != different.read_bytes()


def test_further_images_have_responses(model, tmp_path):
    """A readout of features: what is planted for the images shown is what it predicts."""
    draws = np.random.default_rng(0)
    features = draws.standard_normal((30, 12))
    names = [f"new{number}" for number in range(30)]
    subject = simulate_like(
        model, tmp_path, subject="03", seed=1, features=features, conditions=names
    )
    truth = read_truth(subject.truth_path)
    np.testing.assert_allclose(predict_responses(truth, {"features": features}), truth.betas)
    shown = [name for run in opened(subject) for name in run.events["trial_type"]]
    counts = np.unique([name for name in shown if name in names], return_counts=True)[1]
    assert len(counts) == 30 and counts.max() - counts.min() <= 1
    further = predict_responses(truth, {"features": draws.standard_normal((5, 12))})
    assert further.shape == (5, 120)
    # voxels whose signal was measured as none stay silent
    assert (further.std(axis=0) > 0).mean() > 0.8


def test_the_cortex_of_features_predicts_too(measured, tmp_path):
    subject, features = simulate(tmp_path, n_spikes=1)
    again = read_truth(subject.truth_path)
    np.testing.assert_allclose(predict_responses(again, features), measured.truth.betas)
    with pytest.raises(InputError, match="feature spaces many are missing"):
        predict_responses(again, {"few": features["few"]})
    with pytest.raises(InputError, match=r"have the shape \(20, 40\); .* 6 for each image"):
        predict_responses(again, features | {"few": features["many"]})


def test_smoothing_and_spikes_are_seen(tmp_path):
    rough, _ = simulate(tmp_path / "rough", smoothing_fwhm=0.0, hrf_delay_sd=0.0)
    smooth, _ = simulate(tmp_path / "smooth", smoothing_fwhm=4.0, hrf_delay_sd=0.0)
    widths = []
    for subject in (rough, smooth):
        table = scan_quality(opened(subject), subject.masks)
        widths.append(table["fwhm_mm"].mean())
        assert table["tsnr"].between(150, 250).all()  # the noise keeps its size
    assert widths[1] > 2.5 and not widths[0] > 1.5
    spiky, _ = simulate(tmp_path / "spiky", smoothing_fwhm=0.0, hrf_delay_sd=0.0, n_spikes=2)
    mask = read_masks(rough.masks, rough.bold[0])["V1"]
    apart = read_voxels(spiky.bold[0], mask) - read_voxels(rough.bold[0], mask)
    jump = np.abs(apart).mean(axis=1)
    assert (jump > 5 * np.median(jump) + 5).sum() == 2


def test_late_responses_lower_the_fit(tmp_path):
    canonical, _ = simulate(tmp_path / "a", hrf_delay_sd=0.0, smoothing_fwhm=0.0)
    late, _ = simulate(tmp_path / "b", hrf_delay_sd=2.0, smoothing_fwhm=0.0)
    agreement = []
    for subject in (canonical, late):
        names, means = estimate_betas(opened(subject), subject.masks).means()
        rows = [IMAGES.index(name) for name in names]
        responds = subject.truth.voxels["responds"].to_numpy()
        planted = subject.truth.betas[rows][:, responds]
        agreement.append(np.corrcoef(means[:, responds].ravel(), planted.ravel())[0, 1])
    assert agreement[1] < agreement[0] - 0.05


def test_bad_input(measured, model, tmp_path):
    runs = opened(measured)
    with pytest.raises(InputError, match="conditions shown once: image"):
        fit_scan(runs[:1], measured.masks)
    with pytest.raises(InputError, match=r"3 condition\(s\); at least 4"):
        fit_scan(runs, measured.masks, ignore=("blank", *IMAGES[3:]))
    with pytest.raises(InputError, match="not a BIDS label"):
        simulate_like(model, tmp_path, subject="sub 1", seed=0)
    with pytest.raises(InputError, match="2 conditions are given without features"):
        simulate_like(model, tmp_path, subject="1", seed=0, conditions=["a", "b"])
    with pytest.raises(InputError, match=r"shape \(3, 2\); .* each of the 20 conditions"):
        simulate_like(model, tmp_path, subject="1", seed=0, features=np.ones((3, 2)))
    with pytest.raises(InputError, match="planted without features"):
        predict_responses(simulate_like(model, tmp_path, subject="1", seed=0).truth, {})
    with pytest.raises(InputError, match="n_spikes is -1"):
        SimulationOptions(n_spikes=-1)


def test_the_command(measured, tmp_path):
    from neurometamer.commands import fmri_simulate

    out = fmri_simulate(
        {"V1": measured.masks["V1"]},
        tmp_path / "out",
        bold=measured.bold[:3],
        events=measured.events[:3],
        confounds=measured.confounds[:3],
        n_subjects=2,
    )
    table = read_table(out / "quality.csv")
    assert table["source"].tolist() == ["measured", "simulated"]
    agreement = read_table(out / "agreement.csv")
    assert agreement["measure"].tolist() == list(QUALITY)
    assert (agreement["low"] <= agreement["high"]).all()
    assert len(list(out.glob("sub-*/*_bold.nii"))) == 6


def test_what_no_simulated_run_shows_is_unlike():
    measured = pd.DataFrame({"roi": ["V1"], **dict.fromkeys(QUALITY, 1.0)})
    copies = [measured.assign(tsnr=value, ar1=value + 1) for value in (0.95, 1.02, 1.03)]
    table = quality_agreement(measured, copies).set_index("measure")
    assert table.loc["tsnr", ["inside", "alike"]].tolist() == [True, True]
    assert table.loc["ar1", ["inside", "alike"]].tolist() == [False, False]
    assert table.loc["tsnr", "difference"] == pytest.approx(0)
    assert table.loc["ar1", "difference"] == pytest.approx(1)
    spread = np.std([0.95, 1.02, 1.03])
    assert table.loc["tsnr", "chance"] == pytest.approx(spread)


def haxby(folder, resolution):
    """The runs of one subject of Haxby et al. (2001): one slice, or 25 mm voxels."""
    every = sorted((folder / "func").glob("*_bold.nii.gz"))
    bold = [path for path in every if ("res-" in path.name) == bool(resolution)]
    events, motion = (
        sorted((folder / "func").glob(f"*_{kind}.tsv")) for kind in ("events", "motion")
    )
    return read_runs(bold, events, motion)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("resolution", "name"), [("", "slice_brain"), ("25mm", "res-25mm_brain")])
def test_subjects_like_haxby(shared_data, resolution, name):
    """Eight categories: chance moves the reliability of RDMs by .08 to .12, so much that 10 % of
    a measured -.01 or .13 say nothing; it is inside of what simulated runs show."""
    folder = shared_data / "haxby_1slice" / "sub-001"
    masks = {"brain": folder / "masks" / f"{name}.nii.gz"}
    scan = fit_scan(haxby(folder, resolution), masks)
    table = scan.agreement.set_index("measure")
    for measure in ("tsnr", "fwhm_mm"):
        assert table.loc[measure, "difference"] < 0.12
    for measure in ("ar1", "ncsnr_25", "ncsnr_50", "ncsnr_75"):
        row = table.loc[measure]
        assert row["simulated"] == pytest.approx(row["measured"], rel=0.1, abs=0.06)
    reliability = table.loc["rdm_reliability"]
    assert reliability["inside"] and reliability["chance"] > 0.5
    assert reliability["high"] - reliability["low"] > 0.2
