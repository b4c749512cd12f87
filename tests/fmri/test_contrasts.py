"""Contrasts: what is parsed, equality with nilearn, and maps on disk."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmri import (
    estimate_contrast,
    event_design,
    parse_contrast,
    read_runs,
    read_voxels,
    write_contrast,
)
from neurometamer.errors import InputError


@pytest.mark.parametrize(
    ("expression", "weights"),
    [
        ("intact - scrambled", {"intact": 1, "scrambled": -1}),
        ("intact > scrambled", {"intact": 1, "scrambled": -1}),
        ("(face + body) / 2 - house", {"face": 0.5, "body": 0.5, "house": -1}),
        ("0.5*a + .5 * b - 1e0 * c", {"a": 0.5, "b": 0.5, "c": -1}),
        ("a - (b - c)", {"a": 1, "b": -1, "c": 1}),
        ("-a + 2 * (b / 4)", {"a": -1, "b": 0.5}),
        ("'my face' - \"a+b\"", {"my face": 1, "a+b": -1}),
        ("a / (1 + 1) * 3 - b", {"a": 1.5, "b": -1}),
        ("a + a - b", {"a": 2, "b": -1}),
        ("2face - n01440764_10026", {"2face": 1, "n01440764_10026": -1}),
        ("'1' - '2'", {"1": 1, "2": -1}),
    ],
)
def test_expressions_are_weighted_sums(expression, weights):
    assert parse_contrast(expression) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "ends too early"),
        ("a -", "ends too early"),
        ("a b", "'b' is not expected"),
        ("a * b", "multiplied"),
        ("1 / a", "multiplied with, or divide"),
        ("a / 0", "divides by zero"),
        ("a + 1", "1 is added"),
        ("a - a", "no condition has a weight"),
        ("(a - b", "bracket is not closed"),
        ("a > b > c", "'>' is not expected"),
        ("__import__('os').system('x')", "not expected"),
        ("a & b", "put the name in quotes"),
        ("(" * 200 + "a" + ")" * 200, "too many brackets"),
    ],
)
def test_what_is_no_sum_of_conditions_is_refused(expression, message):
    with pytest.raises(InputError, match=message):
        parse_contrast(expression)


@given(st.text(alphabet="ab1.5e+-*/()>'\" ", max_size=30))
def test_any_text_gives_weights_or_one_kind_of_error(text):
    try:
        weights = parse_contrast(text)
    except InputError:
        return
    assert weights and all(isinstance(value, float) for value in weights.values())


def test_one_run_is_nilearns_contrast(simulated):
    from nilearn.glm.contrasts import compute_contrast
    from nilearn.glm.first_level import run_glm

    runs = read_runs(simulated.bold[:1], simulated.events[:1], simulated.confounds[:1])
    first, second, third = simulated.truth.conditions[:3]
    maps = estimate_contrast(runs, f"({first} + {second}) / 2 - {third}", units="raw")
    events, design = event_design(runs[0], per="condition")
    names = list(dict.fromkeys(events["trial_type"]))
    weights = np.zeros(design.shape[1])
    weights[[names.index(first), names.index(second), names.index(third)]] = (0.5, 0.5, -1)
    inside = np.isfinite(maps.t)
    series = read_voxels(runs[0].image, maps.mask)[:, inside]
    contrast = compute_contrast(*run_glm(series, design.to_numpy(), noise_model="ar1"), weights)
    # 1e-7 of values up to 30 and 10: nilearn goes through pseudo-inverses.
    np.testing.assert_allclose(maps.effect[inside], contrast.effect, atol=1e-7)
    np.testing.assert_allclose(maps.t[inside], contrast.stat(), atol=1e-7)
    np.testing.assert_allclose(maps.z[inside], contrast.z_score(), atol=1e-7)
    # voxels outside the simulated regions are constant
    assert inside.sum() == len(simulated.truth.voxels)


def test_maps_of_several_runs_find_what_was_planted(simulated, tmp_path):
    runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    truth = simulated.truth
    first, second = truth.conditions[:2]
    maps = estimate_contrast(runs, f"{first} - {second}")
    planted = truth.betas[0] - truth.betas[1]
    volume = np.full(maps.mask.shape, np.nan)
    volume[maps.mask] = maps.effect
    found = volume[truth.voxels["i"], truth.voxels["j"], truth.voxels["k"]]
    assert np.corrcoef(planted, found)[0, 1] > 0.8
    folder = write_contrast(maps, tmp_path / "map")
    image = nibabel.load(folder / "t.nii.gz")
    np.testing.assert_array_equal(image.get_fdata()[maps.mask], maps.t.astype(np.float32))
    np.testing.assert_allclose(image.affine, nibabel.load(simulated.bold[0]).affine)
    record = json.loads((folder / "contrast.json").read_text())
    assert record["settings"]["weights"] == {first: 1, second: -1} and record["simulated"]
    assert record["dof"] > 50


def test_unknown_conditions_and_empty_masks_are_named(simulated):
    runs = read_runs(simulated.bold[:1], simulated.events[:1], simulated.confounds[:1])
    with pytest.raises(InputError, match="names nobody, which no run shows"):
        estimate_contrast(runs, "img00 - nobody")
    mask = np.zeros(nibabel.load(simulated.bold[0]).shape[:3], dtype=bool)
    mask[0, 0, 0] = True
    with pytest.raises(InputError, match=r"no voxel of .* varies"):
        estimate_contrast(runs, "img00 - img01", mask=mask)
    with pytest.raises(InputError, match="units of an effect 't'"):
        estimate_contrast(runs, "img00 - img01", units="t")


def test_voxels_are_fitted_some_at_a_time(simulated, monkeypatch):
    runs = read_runs(simulated.bold[:2], simulated.events[:2], simulated.confounds[:2])
    first, second = simulated.truth.conditions[:2]
    whole = estimate_contrast(runs, f"{first} - {second}")
    monkeypatch.setattr("fmri.betas.contrasts._AT_A_TIME", 50)
    parts = estimate_contrast(runs, f"{first} - {second}")
    assert parts.provenance["dof"] == whole.provenance["dof"] > 0
    for name in ("effect", "t", "z"):
        # 1e-9 of values up to 30: matrix products of other sizes round otherwise.
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-9)
