"""Events on another clock and events without a duration are left out, told or refused."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmri import (
    HRF_LIBRARY,
    BoldRun,
    estimate_betas,
    estimate_contrast,
    event_design,
    event_regressors,
    read_runs,
)
from neurometamer.errors import InputError

EVENTS = pd.DataFrame({"onset": [4.0, 40.0, 80.0], "duration": 2.0, "trial_type": list("abc")})


def with_event(onset, duration, run="1"):
    added = {"onset": onset, "duration": duration, "trial_type": "clock"}
    events = pd.concat([EVENTS, pd.DataFrame([added])], ignore_index=True)
    return BoldRun(image=Path(f"run-{run}_bold.nii"), n_volumes=60, t_r=2.0, events=events)


@pytest.mark.parametrize("onset", [-1e9, -1e300, -300.0, -37.0])
def test_events_that_were_over_long_ago_are_left_out_at_once(onset):
    """The time from such an onset to the run is never laid out: 1e9 s took 11 GB."""
    plain = BoldRun(image=Path("run-1_bold.nii"), n_volumes=60, t_r=2.0, events=EVENTS)
    with pytest.warns(UserWarning, match="over before the first volume: 'clock' at -.* left out"):
        kept, design = event_design(with_event(onset, 2.0))
    assert kept["trial_type"].tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(design, event_design(plain)[1])


@pytest.mark.parametrize(
    ("onset", "duration", "message"),
    [
        (-1e9, 1e9 + 10, "more than an hour before the run .*'clock' at -1e.09 s; onsets count"),
        (-3700.0, 3720.0, "'clock' at -3700 s; onsets count from the first volume of the run"),
        (1e9, 2.0, r"beyond the run's end .*'clock' at 1e.09 s \(ends at 1e.09 s\)"),
        (10.0, 1e12, r"beyond the run's end .*'clock' at 10 s \(ends at 1e.12 s\)"),
    ],
)
def test_times_of_another_clock_are_refused(onset, duration, message):
    with pytest.raises(InputError, match=message):
        event_design(with_event(onset, duration))
    with pytest.raises(InputError, match=r"begins at -1e.09 s, more than an hour before"):
        event_regressors(np.arange(60) * 2.0, [-1e9], [2.0], next(iter(HRF_LIBRARY.values())))


def test_an_hour_before_the_run_is_modeled():
    kept, design = event_design(with_event(-1000.0, 1030.0))
    assert kept["trial_type"][0] == "clock" and design["event_0001"].iloc[0] == pytest.approx(1.0)


def table(durations):
    events = {"onset": [6.0, 26.0, 66.0, 86.0], "duration": durations, "trial_type": list("abab")}
    return pd.DataFrame(events)


IMPULSES = [0.0, np.nan, 0.001]


@pytest.mark.parametrize("impulse", IMPULSES)
def test_impulses_among_durations_are_refused(make_run, impulse):
    files = [make_run(f"run-{run}", edit=lambda data, run=run: data + run) for run in (1, 2)]
    images = [bold for bold, _, _ in files]
    masks = {"V1": files[0][2]}
    within = read_runs(images[:1], [table([2.0, impulse, 2.0, 2.0])])
    names = re.escape("(n/a, or less than 0.04 s): 'b' at 26 s. Their betas")
    with pytest.raises(InputError, match=names):
        estimate_betas(within, masks)
    across = read_runs(images, [table(impulse), table(2.0)])
    message = "no event of sub-07_run-1_bold.nii has a duration .* sub-07_run-2_bold.nii have"
    with pytest.warns(UserWarning, match="taken as impulses"):
        with pytest.raises(InputError, match=f"{message}.*give durations in the events of all"):
            estimate_betas(across, masks)
        with pytest.raises(InputError, match=message):
            estimate_contrast(across, "a - b")


@pytest.mark.parametrize("impulse", IMPULSES)
def test_impulses_alone_are_told_and_are_nilearns(make_run, impulse):
    from nilearn.glm.first_level import make_first_level_design_matrix

    bold, _, _ = make_run()
    run = read_runs([bold], [table(impulse)])[0]
    with pytest.warns(UserWarning, match=r"less than 0.04 s\); they are taken as impulses of 0 s"):
        _, design = event_design(run, per="condition")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*null duration.*")
        theirs = make_first_level_design_matrix(
            np.arange(60) * 2.0, table(0.0), hrf_model="glover", high_pass=0.01
        )
    # 1e-12: sums of nilearn's kernel instead of its convolution.
    np.testing.assert_allclose(design.to_numpy()[:, :2], theirs[["a", "b"]], atol=1e-12)


def test_flashes_of_a_tenth_of_a_second_are_durations(make_run):
    bold, _, _ = make_run()
    run = read_runs([bold], [table([0.1, 2.0, 0.1, 2.0])])[0]
    assert len(event_design(run)[0]) == 4
