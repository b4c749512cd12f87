"""Levels and coverages in simulated studies (``benchmarks/levels.py``).

Larger runs are in ``benchmarks/LEVELS.md``.

Bounds are binomial: a true share lies within three standard errors of what is found in 997 of 1,000
such runs. Seeds are fixed, so that no test fails by chance.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def levels(monkeypatch):
    """Import the simulations from the checkout."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.levels")


def test_an_order_of_noise_is_no_hierarchy_and_a_hierarchy_is_one(levels):
    none = replace(
        levels.SAME_LAYER["the last region has no signal"], n=16, noise=(0.3, 0.5, 1, 2, 20)
    )
    p = levels.hierarchy_p(none, 40)
    assert np.mean(p <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)
    planted = replace(levels.HIERARCHIES["a layer a region, noise 2"], n=16, noise=(1,) * 5)
    assert np.mean(levels.hierarchy_p(planted, 10) <= 0.05) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("preferred", ["center", "best"])
def test_the_order_of_regions_keeps_its_level_in_400_studies(levels, preferred):
    design = levels.SAME_LAYER[
        "20 photographs"
    ]  # noise rises, and the last region has almost no signal
    if preferred == "best":
        design = replace(design, sources=(5,) * 5, noise=design.noise[::-1])
    p = levels.hierarchy_p(design, 400, preferred)
    share = np.mean(p <= 0.05)
    print({preferred: share, "refused": np.isnan(p).mean()})
    assert levels.within(share, 0.05, 400), share
    assert np.isnan(p).mean() < 0.05


@pytest.mark.slow
def test_intervals_of_layers_cover_in_120_studies(levels):
    for name, n in (("nothing in common", 20), ("noise 1", 20), ("heavy tails", 10)):
        shares = levels.interval_coverage(replace(levels.RELATED[name], n=n), 120)
        print({name: shares})
        # 120 studies of 3 layers that depend on each other: bounds as for 120 intervals
        assert all(
            levels.within(share, 0.955, 120) and share >= 0.92 for share in shares.values()
        ), (name, shares)


@pytest.mark.slow
def test_intervals_of_layers_cover_in_classes_in_120_studies(levels):
    for name in ("5 fixed classes, n = 20", "10 random classes, n = 40"):
        shares = levels.interval_coverage(levels.IN_CLASSES[name], 120)
        print({name: shares})
        assert all(
            levels.within(share, 0.955, 120) and share >= 0.92 for share in shares.values()
        ), (name, shares)


@pytest.mark.slow
def test_flexible_models_do_not_find_what_is_not_there_in_60_studies(levels):
    table = levels.flexible_p(
        replace(levels.RELATED["nothing in common"], n=16), 60, n_resamples=40
    )
    shares = table.groupby(["what", table["subject"] == "mean"])["p"].apply(
        lambda p: (p <= 0.05).mean()
    )
    print(shares.to_dict())
    assert shares.max() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_intervals_of_error_consistency_are_given_where_they_cover(levels):
    share, given = levels.consistency_coverage(60, 50, 0.7, 0.25)
    assert given > 0.9
    assert share >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)
    assert levels.consistency_coverage(20, 50, 0.95, 0.25)[1] == 0  # too few errors


@pytest.mark.slow
def test_intervals_of_error_consistency_cover_in_400_studies(levels):
    for n_images, accuracy in ((100, 0.7), (200, 0.85)):
        share, given = levels.consistency_coverage(400, n_images, accuracy, 0.25)
        print({(n_images, accuracy): (share, given)})
        assert given == 1
        assert levels.within(share, 0.95, 400), share
