"""Numbers of the evaluation against torchmetrics, scipy, brute force and simulated truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon, pdist
from scipy.stats import false_discovery_control, gaussian_kde
from torch import nn

from neurometamer.errors import InputError
from neurometamer.evaluation.divergence import (
    common_grid,
    density,
    jensen_shannon,
    representational_divergence,
    smoothed,
)
from neurometamer.evaluation.image_quality import (
    METRICS,
    image_quality,
    image_quality_table,
    measure_images,
)
from neurometamer.evaluation.model_sets import (
    PUBLISHED,
    check_difference_table,
    difference_in_means,
    membership,
    membership_regression,
    random_sets,
    set_scores,
)
from neurometamer.evaluation.sets import metamer_set, setting_name
from neurometamer.run_options import RunOptions
from neurometamer.stats.families import correct_p
from neurometamer.stats.resampling import bootstrap_counts
from stimuli_gen import StimulusSet, load_photographs
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.presets import PRESETS

NEAR_ONE, RELATIVE = {"ssim": 5e-4, "vif": 5e-4, "scc": 1e-3}, 1e-4
"""float32 rounding of torchmetrics itself, which is larger than ours: see
test_ours_is_nearer_to_double.
"""

# ------------------------------------------------------------------------------------ image quality


@pytest.fixture(scope="session")
def pairs(shared_data):
    """Photographs, and each changed in another way: noise, contrast, another photograph, white
    noise, gray, itself.
    """
    size = Preprocessing(
        size=(96, 112), resize=128, interpolation="bicubic", mean=(0,) * 3, std=(1,) * 3
    )
    photos = load_photographs(
        [shared_data / "photos_ccby" / f"photo_{i:03d}.jpg" for i in range(1, 7)], size
    )
    references, random = photos.images, np.random.default_rng(0)
    images = references.copy()
    images[0] += 0.1 * random.standard_normal(images[0].shape)
    images[1] *= 0.5
    images[2] = references[3]
    images[3] = random.random(images[3].shape)
    images[4] = 0.5
    return np.rint(255 * images.clip(0, 1)).astype(np.float32) / 255, references, photos


def classes():
    from torchmetrics import image as tm

    return {
        "ssim": (tm.StructuralSimilarityIndexMeasure(data_range=1.0), 1, 2),
        "psnr": (tm.PeakSignalNoiseRatio(data_range=1.0), 1, 2),
        "vif": (tm.VisualInformationFidelity(), 255, 2),
        "rase": (tm.RelativeAverageSpectralError(), 1, 2),
        "scc": (tm.SpatialCorrelationCoefficient(), 1, 2),
        "tv": (tm.TotalVariation(reduction="mean"), 1, 1),
    }


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if not metric.weights])
def test_metrics_equal_the_torchmetrics_class_called_image_by_image(metric, pairs):
    images, references, _ = pairs
    theirs, scale, n_inputs = classes()[metric]
    expected = []
    for x, y in zip(torch.from_numpy(images), torch.from_numpy(references)):
        theirs.reset()
        theirs.update(*[scale * values[None] for values in (x, y)][:n_inputs])
        expected.append(float(theirs.compute()))
    expected = np.array(expected) / (images[0].size if metric == "tv" else 1)
    ours = measure_images(images, references, [metric], run=RunOptions(batch_size=4))[
        metric
    ].to_numpy()
    np.testing.assert_allclose(ours, expected, atol=NEAR_ONE.get(metric, 0), rtol=RELATIVE)
    assert np.std(ours[np.isfinite(ours)]) > 0


def test_ours_is_nearer_to_double(pairs):
    from torchmetrics.functional.image import visual_information_fidelity

    images, references, _ = pairs
    x, y = (255 * torch.from_numpy(image) for image in (images, references))
    exact = visual_information_fidelity(x.double(), y.double(), reduction="none").numpy()
    theirs = visual_information_fidelity(x, y, reduction="none").double().numpy()
    ours = measure_images(images, references, ["vif"])["vif"].to_numpy()
    assert np.abs(ours - exact).max() < min(2e-5, np.abs(theirs - exact).max())


def test_scales_that_are_easy_to_get_wrong(pairs):
    images, references, _ = pairs
    found = measure_images(images, references)
    assert np.isinf(found["psnr"].iloc[5]) and found["ssim"].iloc[5] == pytest.approx(1)
    assert found["rase"].iloc[5] == 0 and found["vif"].iloc[5] == pytest.approx(1, abs=1e-5)
    assert (
        found["vif"].iloc[0] < 0.5
    )  # on [0, 1] its noise variance of 2 would let it through: about 0.96
    half = measure_images(images[:, :, :48], references[:, :, :48], ["tv"])["tv"]
    assert half.iloc[3] == pytest.approx(
        found["tv"].iloc[3], rel=0.05
    )  # per pixel: it does not grow with the image
    alone = measure_images(images[2:3], references[2:3])
    pd.testing.assert_frame_equal(alone, found.iloc[2:3].reset_index(drop=True), rtol=1e-5)


def test_bad_images(pairs):
    images, references, _ = pairs
    with pytest.raises(InputError, match="of one shape"):
        measure_images(images, references[:3])
    with pytest.raises(InputError, match="need 41 x 41"):
        measure_images(images[:, :, :40], references[:, :, :40])
    with pytest.raises(InputError, match=r"leave \[0, 1\].*1"):
        measure_images(
            np.where(np.arange(6)[:, None, None, None] == 1, 2, images).astype(np.float32),
            references,
        )
    with pytest.raises(InputError, match="without weights 'lpips'"):
        measure_images(images, references, ["lpips"])


class Features(nn.Module):
    """Stands in for Inception: means of color and contrast of quarters, from levels."""

    num_features = 6

    def forward(self, levels):
        assert levels.dtype == torch.uint8
        halves = levels.double().unflatten(2, (2, -1))
        return torch.cat([halves.mean((3, 4)).mean(2), halves.std((3, 4)).mean(2)], dim=1)


class Clip(nn.Module):
    """Stands in for CLIP: text to the direction of its length, images to color."""

    def get_text_features(self, ids, mask):
        return torch.stack([ids.float().sum(1), mask.float().sum(1), torch.ones(len(ids))], dim=1)

    def get_image_features(self, pixels):
        return pixels.mean((2, 3))


def words(text=None, images=None, **_):
    if images is not None:
        return {"pixel_values": torch.stack(images)}
    ids = torch.tensor([[len(word), ord(word[0])] for word in text])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture(scope="session")
def looks(pairs):
    images, _, photos = pairs
    ids = [f"{one}_metamer" for one in photos.ids]
    table = pd.DataFrame({"id": ids, "kind": "metamer", "reference_id": photos.ids})
    return metamer_set(
        photos, StimulusSet(images=images, table=table), name="changed", stage="none"
    )


def test_metrics_with_weights_run_through_torchmetrics_on_stand_in_networks(looks, tmp_path):
    from torchvision.models import squeezenet1_1

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(squeezenet1_1(weights=None).state_dict(), tmp_path / "squeeze.pth")
    weights = {"fid": Features(), "lpips": tmp_path / "squeeze.pth", "clip_iqa": (Clip(), words)}
    with pytest.warns(UserWarning, match="6 images, fewer than 2049: FID is biased"):
        found = image_quality([looks], weights=weights, n_resamples=50)
    assert found["metric"].tolist() == list(METRICS)
    rows = found.set_index("metric")
    features = [
        Features()(torch.from_numpy(np.rint(255 * pictures).astype(np.uint8))).numpy()
        for pictures in (looks.references, looks.pictures)
    ]
    (mean, cov), (other, other_cov) = ((values.mean(0), np.cov(values.T)) for values in features)
    root = np.sqrt(np.linalg.eigvals(cov @ other_cov).astype(complex)).real.sum()
    by_hand = np.square(mean - other).sum() + np.trace(cov) + np.trace(other_cov) - 2 * root
    assert rows.loc["fid", "value"] == pytest.approx(by_hand, rel=1e-4)
    table = image_quality_table([looks], metrics=["lpips", "clip_iqa"], weights=weights)
    lpips = table[table["metric"] == "lpips"]["value"].to_numpy()
    assert lpips[5] == 0 and (lpips[:5] > 0).all()  # the last image is its own reference
    clip = table[table["metric"] == "clip_iqa"]
    color = torch.nn.functional.normalize(torch.from_numpy(looks.pictures).mean((2, 3)), dim=1)
    text = ["Natural photo.", "Synthetic photo."]
    anchors = torch.nn.functional.normalize(Clip().get_text_features(*words(text).values()), dim=1)
    by_hand = (100 * color @ anchors.T).softmax(1)[:, 0].numpy()
    np.testing.assert_allclose(clip["value"], by_hand, rtol=1e-3)
    assert clip["photograph_value"].iloc[4] != clip["value"].iloc[4]


def test_missing_weights_are_told(looks, tmp_path):
    found = image_quality(
        [looks],
        metrics=["fid", "clip_iqa", "psnr"],
        weights={"fid": tmp_path / "no.pth"},
        n_resamples=20,
    ).set_index("metric")
    assert found.loc["fid", "note"] == f"skipped: weights missing at {tmp_path / 'no.pth'}"
    assert found.loc["clip_iqa", "note"].startswith("skipped: weights missing; give a local file")
    assert found["n"].tolist() == [0, 0, 6] and found["value"].isna().tolist() == [
        True,
        True,
        False,
    ]
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(InputError, match="no backbone of LPIPS"):
        image_quality([looks], metrics=["lpips"], weights={"lpips": tmp_path / "other.npz"})


# --------------------------------------------------------------------------------------- divergence


def responses(n=30, units=40, spread=1.0, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((n, units)), spread * random.standard_normal((n, units))


def test_divergence_is_scipys_on_the_same_grid():
    references, metamers = responses(spread=1.15)
    found = representational_divergence(references, metamers, n_permutations=0).set_index(
        "comparison"
    )
    samples = {
        "RR": pdist(references),
        "MM": pdist(metamers),
        "RM": np.linalg.norm(references - metamers, axis=1),
    }
    for name in ("RR-MM", "RR-RM", "MM-RM"):
        p, q = (samples[part] for part in name.split("-"))
        low, high = min(p.min(), q.min()), max(p.max(), q.max())
        grid = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 1000)
        expected = jensenshannon(gaussian_kde(p)(grid), gaussian_kde(q)(grid), base=2) ** 2
        assert found.loc[name, "value"] == pytest.approx(expected, abs=1e-9)  # both float64
    assert found.loc["RR-MM", "headline"] and found.loc["RR-MM", "n_pairs"] == 30 * 29 / 2


def test_binned_densities_equal_exact_ones():
    distances = np.random.default_rng(1).gamma(9, size=400)
    grid = common_grid(distances)
    counts = bootstrap_counts(400, 5, 0)
    places = (distances - grid[0]) / (grid[1] - grid[0])
    left = places.astype(int)
    histograms = np.zeros((5, len(grid)))
    for histogram, copies in zip(
        histograms, counts
    ):  # each distance is shared by its two neighbors on the grid
        np.add.at(histogram, left, copies * (1 - places + left))
        np.add.at(histogram, left + 1, copies * (places - left))
    found = smoothed(histograms, grid)
    exact = np.stack([density(np.repeat(distances, count), grid) for count in counts])
    assert np.abs(found - exact).max() < 1e-3 * exact.max()
    other = density(distances + 1, grid)
    np.testing.assert_allclose(
        jensen_shannon(found, other), jensen_shannon(exact, other), atol=1e-3
    )


def test_the_null_tells_truth_from_chance():
    """Equal distributions give p values without excess of small ones, though the value is above 0;
    wider are found.
    """
    same = [
        representational_divergence(*responses(n=16, seed=seed), n_permutations=99).iloc[0]
        for seed in range(40)
    ]
    p = np.array([row["p"] for row in same])
    assert np.mean(p <= 0.1) < 0.25 and max(p) > 0.5
    assert (
        min(row["value"] for row in same) > 0
    )  # so that an interval of it would miss the truth, 0
    assert not {"low", "high"} & set(same[0].index)
    found = representational_divergence(*responses(spread=1.5), n_permutations=199).iloc[0]
    assert found["p"] == 1 / 200 and found["value"] > found["null_95"]
    again = representational_divergence(*responses(spread=1.5), n_permutations=199).iloc[0]
    assert again[["p", "null_95"]].tolist() == found[["p", "null_95"]].tolist()


def test_permutation_equals_one_made_by_hand():
    """Swap photograph and metamer in the arrays themselves, for every exchange there is of 4
    images.
    """
    references, metamers = responses(n=4, spread=2.0)
    found = representational_divergence(references, metamers, n_permutations=2000).iloc[0]
    both = pdist(np.concatenate([references, metamers]))
    pool = both[[a + 4 != b for a in range(8) for b in range(a + 1, 8)]]
    grid = common_grid(pool)
    values = []
    for number in range(16):
        swap = np.array([number >> i & 1 for i in range(4)], dtype=bool)[:, None]
        pair = np.where(swap, metamers, references), np.where(swap, references, metamers)
        values.append(float(jensen_shannon(*(density(pdist(values), grid) for values in pair))))
    assert found["null_mean"] == pytest.approx(np.mean(values), abs=0.01)
    assert found["p"] == pytest.approx(np.mean(np.array(values) >= values[0] - 1e-6), abs=0.03)


def test_degenerate_distances_are_guarded():
    references, _ = responses(n=8)
    perfect = representational_divergence(references, references, n_permutations=19)
    perfect = perfect.set_index("comparison")
    assert perfect.loc["RR-MM", "value"] == 0 and perfect.loc["RR-MM", "p"] == 1
    assert (
        perfect.loc["RR-RM", "value"] == pytest.approx(1, abs=1e-3)
        and perfect.loc["RR-RM", "degenerate"]
    )
    same = np.ones((6, 5))
    constant = representational_divergence(same, same, n_permutations=9)
    assert constant["degenerate"].all() and (constant["value"] < 1e-12).all()
    with pytest.raises(InputError, match="at least 4"):
        representational_divergence(references[:3], references[:3])
    with pytest.raises(InputError, match=r"not finite in row\(s\) 1"):
        representational_divergence(
            references, np.where(np.arange(8)[:, None] == 1, np.nan, references)
        )


def test_capped_pairs_are_a_draw_of_all():
    references, metamers = responses(n=40, spread=1.3)
    few = representational_divergence(references, metamers, max_pairs=300, n_permutations=99).iloc[
        0
    ]
    every = representational_divergence(references, metamers, n_permutations=0).iloc[0]
    assert few["n_pairs"] == 300 and every["n_pairs"] == 780
    assert few["value"] == pytest.approx(every["value"], abs=0.1) and few["p"] == 0.01


# --------------------------------------------------------------------------------------- model sets


@settings(max_examples=30)
@given(n=st.integers(3, 12), low=st.integers(1, 3), seed=st.integers(0, 99))
def test_random_sets_are_different_and_of_the_sizes_asked_for(n, low, seed):
    names = [f"net{i}" for i in range(n)]
    sets = random_sets(
        names, n_sets=3, sizes=(low, min(n - 1, low + 3)) if n > low + 1 else (1, 2), seed=seed
    )
    assert (
        sets["members"].is_unique
        and (membership(sets).sum(axis=1).to_numpy() == sets["size"].to_numpy()).all()
    )
    with pytest.raises(InputError, match="only 1 different sets"):
        random_sets(names, n_sets=2, sizes=(n, n))


def simulated(n_sets=100, noise=0.05, seed=0):
    """Scores with known effects: net0 adds .2, net1 takes .1, and each network more adds .02."""
    sets = random_sets([f"net{i}" for i in range(12)], n_sets=n_sets, sizes=(2, 8), seed=seed)
    inside = membership(sets)
    effect = 0.5 + 0.2 * inside["net0"] - 0.1 * inside["net1"] + 0.02 * inside.sum(axis=1)
    return sets.assign(
        score=effect.to_numpy() + noise * np.random.default_rng(seed).standard_normal(n_sets)
    )


def test_differences_are_signed_and_found():
    scores = simulated()
    found = difference_in_means(scores, n_permutations=999, n_resamples=500).set_index("network")
    for name in found.index:
        inside = membership(scores)[name].to_numpy()
        expected = scores["score"][inside].mean() - scores["score"][~inside].mean()
        assert found.loc[name, "difference"] == pytest.approx(expected)
    assert found.loc["net0", "low"] > 0 and found.loc["net1", "high"] < 0
    assert found.loc["net0", "p"] == 1 / 1000 and found.loc[
        "net0", "p_bonferroni"
    ] == pytest.approx(0.012)
    np.testing.assert_allclose(found["p_fdr"], false_discovery_control(found["p"]))
    assert found["appearances"].sum() == scores["size"].sum()
    lost = difference_in_means(
        scores.assign(score=scores["score"].where(scores.index > 4)),
        n_permutations=9,
        n_resamples=9,
    )
    assert (lost["n_excluded"] == 5).all() and (lost["n_sets"] == 95).all()


def test_regression_parts_membership_from_size():
    scores = simulated(noise=1e-9)
    found = membership_regression(scores).set_index("term")
    # c_M are deviations from the average network, whose effect is in the size: (.2 - .1) / 12 + .02
    average = 0.1 / 12 + 0.02
    assert found.loc["size", "estimate"] == pytest.approx(average, abs=1e-6)
    assert found.loc["net0", "estimate"] == pytest.approx(0.2 - 0.1 / 12, abs=1e-6)
    assert found.loc["net1", "estimate"] == pytest.approx(-0.1 - 0.1 / 12, abs=1e-6)
    noisy = simulated(seed=1)
    x = membership(noisy).to_numpy(dtype=float)
    free, *_ = np.linalg.lstsq(np.column_stack([np.ones(100), x]), noisy["score"].to_numpy())
    effects = pd.Series(free[1:], index=membership(noisy).columns)
    rows = membership_regression(noisy).set_index("term")
    np.testing.assert_allclose(
        rows.loc[effects.index, "estimate"], effects - effects.mean(), atol=1e-10
    )
    assert rows.loc["net0", "p_fdr"] < 1e-6 and rows.loc["net0", "df"] == 100 - 13
    with pytest.raises(InputError, match="cannot tell"):
        membership_regression(scores.iloc[:12])
    with pytest.raises(InputError, match="cannot tell"):
        membership_regression(scores[scores["size"] == 3])


def test_published_table_is_checked_by_what_it_prints():
    """The totals and the four largest differences are the paper's; single appearances and the rest
    are made up.
    """
    appearances = np.r_[18, 18, 14, 24, np.full(27, 18)]
    appearances[-2:] += 1
    differences = np.r_[0.118, 0.089, 0.083, 0.049, np.full(27, 0.02)]
    table = pd.DataFrame(
        {"network": range(31), "appearances": appearances, "difference": differences}
    )
    rows, totals = check_difference_table(table, sd=PUBLISHED["sd"])
    assert (
        totals["appearances"] == 562
        and totals["mean_size"] == 5.62
        and totals["expected_size"] == 6
    )
    assert totals["n_networks"] == 31 and totals["n_negative"] == 0
    assert totals["n_exceeding"] == 4 and totals["n_bonferroni"] == 2
    assert rows["se"].between(0.023, 0.034).all()
    with pytest.raises(InputError, match="in no set or in all 100: 0"):
        check_difference_table(table.assign(appearances=[0, *appearances[1:]]))


def rated_sets(n_sets=30, seed=0):
    """Hits of every set by every network: a network that recognizes more does so for all sets
    alike.
    """
    random = np.random.default_rng(seed)
    names = [f"net{i}" for i in range(8)]
    rows = []
    for row in random_sets(names, n_sets=n_sets, sizes=(2, 5), seed=seed).itertuples():
        for number, judge in enumerate(names):
            about = {
                "set": row.set,
                "members": row.members,
                "evaluator": judge,
                "ways": 1000,
                "rule": "all classes",
            }
            about |= {
                "took_part": judge in row.members.split("+"),
                "stage": "late",
                "setting": "x",
                "valid": True,
            }
            rows += [
                about | {"reference_id": image, "hit": float(random.random() < number / 8)}
                for image in "abcde"
            ]
    return pd.DataFrame(rows)


def test_sets_are_rated_by_all_networks_but_their_own():
    hits = rated_sets()
    found = set_scores(hits, raters="others").set_index("set")
    for name, own in hits.groupby("set"):
        members = own["members"].iloc[0].split("+")
        rest = own[~own["evaluator"].isin(members)]
        assert found.loc[name, "score"] == pytest.approx(rest["hit"].mean())
        assert found.loc[name, "n_raters"] == 8 - len(members) == 8 - found.loc[name, "size"]
    differences = difference_in_means(
        found.reset_index(), n_permutations=99, n_resamples=20
    ).set_index("network")
    assert (
        differences["appearances"].sum() == found["size"].sum()
    )  # as 562 = 100 sets of 5.62 on average
    # no set is better than another, but a set of networks that recognize much loses these as raters
    assert differences.loc["net7", "difference"] < 0 < differences.loc["net0", "difference"]
    with pytest.raises(InputError, match=r"0 held-out evaluator\(s\).*raters='others'"):
        set_scores(hits)
    with pytest.raises(InputError, match="way to rate sets"):
        set_scores(hits, raters="other")


def test_the_published_table_says_what_was_lost(shared_data):
    """Boehm et al. (2025), Table 5: 562 appearances in 100 sets; signs are lost; 4 of 31 exceed
    chance.
    """
    table = pd.read_csv(shared_data / "boehm2025_table5.csv")
    table = table.rename(columns={"model": "network", "difference_in_means": "difference"})
    rows, totals = check_difference_table(table, n_sets=PUBLISHED["n_sets"], sd=PUBLISHED["sd"])
    assert (
        totals["appearances"] == PUBLISHED["appearances"]
        and totals["n_networks"] == PUBLISHED["n_networks"]
    )
    assert totals["n_negative"] == 0 and totals["n_exceeding"] == 4 and totals["n_bonferroni"] == 2
    assert rows.loc[rows["exceeds_bonferroni"], "network"].tolist() == [
        "Swin-Base Robust",
        "Vit-Base Robust",
    ]


def test_correction_leaves_missing_tests_out():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    np.testing.assert_allclose(correct_p(p, "bonferroni"), [0.03, np.nan, 0.12, 0.09])
    np.testing.assert_allclose(
        correct_p(p, "fdr")[[0, 2, 3]], false_discovery_control([0.01, 0.04, 0.03])
    )


def test_settings_have_names():
    assert (
        setting_name({"ball": "linf", "radius": 0.3, "center": "reference"})
        == "linf 0.3 around reference"
    )
    for preset in ("feather2023", "boehm2025"):
        recipe = PRESETS[preset]
        assert (
            setting_name({"ball": recipe.ball, "radius": recipe.radius, "center": recipe.center})
            == "unbounded"
        )
    assert setting_name({}) == "unknown"
