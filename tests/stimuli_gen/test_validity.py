"""Test the validity of metamers.

Numbers are compared with scipy and brute force, classes with the published list; kills and bad
input are tested.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from neurometamer.errors import InputError
from neurometamer.store import read_table, write_hdf5
from stimuli_gen import (
    Preprocessing,
    StimulusSet,
    inversion_loss,
    judge,
    null_distribution,
    nulls,
    pearson,
    read_null,
    read_stimuli,
    same_class,
    sixteen_classes,
    snr_db_amplitude,
    snr_db_power,
    spearman,
    stage_model,
    to_sixteen,
    write_stimuli,
)
from stimuli_gen.batches import padded_batches
from stimuli_gen.models import predict
from stimuli_gen.similarity import METRICS

COUNTS = {
    "dog": 109,
    "bird": 49,
    "truck": 8,
    "bottle": 7,
    "cat": 6,
    "boat": 5,
    "bear": 4,
    "chair": 4,
    "car": 3,
    "clock": 3,
    "bicycle": 2,
    "elephant": 2,
    "keyboard": 2,
    "airplane": 1,
    "knife": 1,
    "oven": 1,
}


class Waves(nn.Module):
    """A network whose responses have a period of 1.5 gray levels.

    They are alike for images 1.5 levels apart, but not once both are rounded.
    """

    def forward(self, images):
        return torch.sin(2 * torch.pi * 255 * images / 1.5)


def tiny_model(first=None, *, n_classes=1000, size=8, seed=0, name="tiny"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = first or nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        units = first(torch.zeros(1, 3, size, size)).numel()
        network = nn.Sequential(first, nn.Sequential(nn.Flatten(), nn.Linear(units, n_classes)))
    return stage_model(
        network,
        stages={"early": "0", "late": "1"},
        preprocessing=Preprocessing(
            size=(size, size),
            resize=size,
            interpolation="bilinear",
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
        ),
        class_names=[f"class {i}" for i in range(n_classes)],
        name=name,
        weights="random",
        trained=False,
    )


def image_set(images, prefix="photo", references=None, kind="RE"):
    ids = [f"{prefix}{i}" for i in range(len(images))]
    table = pd.DataFrame({"id": ids, "kind": kind, "reference_id": references or ids})
    return StimulusSet(images=np.asarray(images, dtype=np.float32), table=table)


def lattice(n, size=8, seed=0):
    """Random images on the 8-bit lattice, as photographs are."""
    levels = np.random.default_rng(seed).integers(0, 256, (n, 3, size, size)).astype(np.float32)
    return levels / np.float32(255)


def responses(model, images, stage, batch_size=8):
    with torch.no_grad():
        parts = [
            model.activations(batch, [stage])[stage][: rows.stop - rows.start].flatten(1).numpy()
            for rows, batch in padded_batches(images, batch_size, model.device)
        ]
    return np.concatenate(parts)


def reference_code(first, second):
    """Compute, in float64, what the code of Feather et al. (2023) computes for a pair.

    The code is distance_measures.py and the null script.
    """
    first, second = first.astype(float), second.astype(float)
    if not first.any() or not second.any():
        return [0, 0, 0, 0]
    with np.errstate(divide="ignore"):  # +inf: different images, the same responses
        amplitude = 10 * np.log10(np.linalg.norm(first) / np.linalg.norm(first - second))
    return [
        stats.spearmanr(first, second)[0],
        stats.pearsonr(first, second)[0],
        2 * amplitude,
        amplitude,
    ]


# ------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_scipy_and_the_reference_code_ties_included(seed):
    random = np.random.default_rng(seed)
    a = np.maximum(random.standard_normal((6, 301)), 0).round(
        seed
    )  # half of it zero, more ties with fewer digits
    b = np.maximum(a + random.standard_normal(a.shape), 0).astype(np.float32)
    judged = np.stack([metric(a, b) for metric in METRICS.values()], axis=1)
    assert judged.dtype == np.float64
    np.testing.assert_allclose(
        judged, [reference_code(x, y) for x, y in zip(a, b, strict=True)], atol=1e-12, rtol=0
    )
    np.testing.assert_allclose(inversion_loss(a, b), 10 ** (-snr_db_power(a, b) / 20), rtol=1e-12)


def test_the_two_ratios_differ_by_the_factor_two_and_are_as_defined():
    a, b = np.array([[3.0, 4.0]]), np.array([[3.0, 4.5]])  # norms 5 and .5
    assert snr_db_power(a, b) == pytest.approx(20)
    assert snr_db_amplitude(a, b) == pytest.approx(10)
    assert inversion_loss(a, b) == pytest.approx(0.1)


def test_all_zero_constant_and_identical_responses():
    zero, constant, other = np.zeros(4), np.full(4, 0.1), np.array([1.0, 2.0, 4.0, 3.0])
    a = np.stack([zero, other, zero, constant, constant, other])
    b = np.stack([other, zero, zero, other, constant, other])
    for correlation in (spearman, pearson):
        assert correlation(a, b)[:5].tolist() == [0, 0, 0, 0, 0]
        assert correlation(a, b)[5] == pytest.approx(1, abs=1e-15)
    ratio = snr_db_power(a, b)
    assert ratio[:3].tolist() == [0, 0, 0]
    assert ratio[4:].tolist() == [np.inf, np.inf]
    assert ratio[3] == pytest.approx(10 * np.log10(0.04 / np.square(constant - other).sum()))
    assert inversion_loss(a, b)[[0, 1, 2, 5]].tolist() == [np.inf, 1, 0, 0]
    many = np.full(
        (1, 1001), np.float32(0.1)
    )  # the rounded mean of a constant is not always that constant
    assert pearson(many, np.arange(1001.0)[None]).tolist() == [0]


@pytest.mark.parametrize("metric", [*METRICS.values(), inversion_loss])
def test_metrics_refuse_what_they_cannot_compare(metric):
    with pytest.raises(InputError, match="two arrays"):
        metric(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError, match="two arrays"):
        metric(np.zeros(3), np.zeros(3))
    with pytest.raises(InputError, match="not finite for 1"):
        metric(np.zeros((2, 2)), np.array([[0, 1], [np.nan, 2]]))


# ------------------------------------------------------------------------------------------ classes


def test_sixteen_categories_have_their_207_classes():
    table = sixteen_classes()
    assert Counter(table.values()) == COUNTS
    assert len(table) == 207
    assert list(table) == sorted(table)
    names = {
        404: "airplane",
        281: "cat",
        144: "bird",
        499: "knife",
        766: "oven",
        207: "dog",
        878: "keyboard",
    }
    assert {index: table[index] for index in names} == names
    assert 151 not in table  # Chihuahua: its name is ambiguous


@pytest.mark.data
def test_sixteen_categories_equal_the_published_list(shared_data):
    rows = read_table(
        shared_data / "classes" / "imagenet1k_to_16class.csv", ["imagenet_index", "class16"]
    )
    rows = rows[rows["class16"].notna()]
    assert sixteen_classes() == dict(zip(rows["imagenet_index"], rows["class16"], strict=True))


def test_both_rules_equal_a_walk_and_an_average():
    table = sixteen_classes()
    probabilities = np.random.default_rng(0).dirichlet(np.full(1000, 0.05), size=300)
    walked = [next(table[i] for i in np.argsort(-row) if i in table) for row in probabilities]
    means = pd.DataFrame(probabilities[:, list(table)].T).groupby(list(table.values())).mean()
    assert to_sixteen(probabilities, "first_mapped").tolist() == walked
    assert to_sixteen(probabilities, "mean_prob").tolist() == means.idxmax().tolist()
    assert walked != means.idxmax().tolist()


def test_the_rules_differ_where_many_classes_share_a_category():
    row = np.zeros((1, 1000))
    row[0, [0, 207, 499]] = (
        0.5,
        0.3,
        0.2,
    )  # tench (of no category), golden retriever (1 of 109), cleaver (1 of 1)
    assert to_sixteen(row).tolist() == ["dog"]
    assert to_sixteen(row, "mean_prob").tolist() == ["knife"]
    with pytest.raises(InputError, match="did you mean 'mean_prob'"):
        to_sixteen(row, "mean_probs")
    with pytest.raises(InputError, match="1,000 ImageNet classes"):
        to_sixteen(row[:, :10])
    with pytest.raises(InputError, match="not finite"):
        to_sixteen(row * np.nan)


def test_same_class_row_by_row():
    model, images = tiny_model(), lattice(7)
    again = same_class(model, images, images)
    assert again[["same_class_1000", "same_class_16", "same_class_16_mean_prob"]].all(axis=None)
    turned = same_class(model, images, images[::-1].copy(), batch_size=3)
    top = predict(model, images).argmax(axis=1)
    assert turned["same_class_1000"].tolist() == (top == top[::-1]).tolist()
    assert turned["top1"].tolist() == [model.class_names[i] for i in top[::-1]]
    assert not turned["same_class_1000"].all()
    assert turned["same_class"].tolist() == turned["same_class_16"].tolist()
    with pytest.raises(InputError, match="one each"):
        same_class(model, images, images[:3])
    ten = same_class(tiny_model(n_classes=10), images, images[::-1].copy())
    assert ten["same_class_16"].isna().all()
    assert ten["same_class"].tolist() == ten["same_class_1000"].tolist()


# --------------------------------------------------------------------------------------------- null


@pytest.mark.parametrize("tile", [64, 3])
def test_null_equals_the_reference_code_pair_by_pair_silent_images_included(tile, monkeypatch):
    monkeypatch.setattr(nulls, "TILE", tile)
    monkeypatch.setattr(nulls, "COLUMNS", 13)
    model = tiny_model()
    with torch.no_grad():  # black images leave every unit at zero
        model.network[0][0].bias.fill_(-0.05)
    images = lattice(11)
    images[[2, 5]] = 0
    images[5, 0, 0, 0] = np.float32(1 / 255)
    null = null_distribution(model, image_set(images), ["late", "early"], seed=4)
    assert null.stages == ("early", "late")
    assert sorted(map(tuple, null.pairs.tolist())) == [
        (i, j) for i in range(11) for j in range(11) if i != j
    ]
    for stage in null.stages:
        judged = responses(model, images, stage)
        expected = np.array([reference_code(judged[i], judged[j]) for i, j in null.pairs])
        got = np.stack([null.read(stage, metric) for metric in METRICS], axis=1)
        np.testing.assert_allclose(
            got, expected, atol=1e-10, rtol=0
        )  # distances by subtraction of inner products
    assert not responses(model, images, "early")[[2, 5]].any()
    silent = np.isin(null.pairs, [2, 5]).any(axis=1)
    assert not null.values[0][:, silent].any()
    assert null.values[0][:, ~silent].all()
    largest = null.summary().set_index(["stage", "metric"])["max"]
    assert largest["early", "pearson"] == null.read("early", "pearson").max()


def test_pairs_are_drawn_by_seed_without_repetition():
    drawn = nulls.draw_pairs(200, 500, seed=1)
    assert len({tuple(pair) for pair in drawn.tolist()}) == 500
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert drawn.min() >= 0
    assert np.unique(drawn).size > 190
    assert np.array_equal(drawn, nulls.draw_pairs(200, 500, seed=1))
    assert not np.array_equal(drawn, nulls.draw_pairs(200, 500, seed=2))
    assert len(nulls.draw_pairs(2, 10**6, seed=0)) == 2


def test_share_of_pairs_at_least_as_alike():
    null = null_distribution(tiny_model(), image_set(lattice(5)), ["early"])
    values = np.sort(null.read("early", "pearson"))
    judged = null.exceedance("early", "pearson", np.array([-2, values[0], values[-1], 2]))
    above = np.array([20, 20, np.sum(values == values[-1]), 0])
    assert judged == pytest.approx((1 + above) / 21)
    with pytest.raises(InputError, match="unknown stage"):
        null.read("middle", "pearson")
    with pytest.raises(InputError, match="did you mean 'pearson'"):
        null.read("early", "pearsen")


def test_identical_responses_of_different_images_make_the_null_infinite():
    """A stage that answers every image alike can show nothing.

    No finite ratio is above such a null.
    """

    class Deaf(nn.Module):
        def forward(self, images):
            return (
                torch.ones_like(images) * torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
                + 0 * images
            )

    null = null_distribution(tiny_model(Deaf()), image_set(lattice(4)), ["early"])
    assert np.isinf(null.read("early", "snr_db_power")).all()
    assert null.read("early", "pearson") == pytest.approx(1)
    assert null.summary()["sd"].isna().sum() == 2


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import test_validity as here
here.nulls.TILE, here.nulls.SAVE_SECONDS = 4, 0.0
def progress(done, total):
    if done > {stop} * total:
        os.kill(os.getpid(), signal.SIGKILL)
photographs = here.image_set(here.lattice(17))
model, stages = here.tiny_model(), ["early", "late"]
here.null_distribution(model, photographs, stages, path={path!r}, progress=progress)
"""


@pytest.mark.parametrize("stop", [0.004, 0.7])  # while the images run, while pairs are compared
def test_killed_and_resumed_equals_uninterrupted(stop, tmp_path, monkeypatch):
    monkeypatch.setattr(nulls, "TILE", 4)
    model, photographs = tiny_model(), image_set(lattice(17))
    uninterrupted = null_distribution(model, photographs, ["early", "late"])
    path = tmp_path / "null.h5"
    code = KILLED.format(folder=str(Path(__file__).parent), path=str(path), stop=stop)
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not path.exists()
    with (tmp_path / "null.h5.parts" / "000-values.bin").open("ab") as file:
        file.write(b"half a row")

    def interrupt(done, total):
        if done > 0.9 * total:
            raise KeyboardInterrupt

    passes = []
    original = type(model).activations
    monkeypatch.setattr(
        type(model), "activations", lambda *given: passes.append(1) or original(*given)
    )
    with pytest.raises(KeyboardInterrupt):
        null_distribution(model, photographs, ["early", "late"], path=path, progress=interrupt)
    heard = []
    resumed = null_distribution(
        model, photographs, ["early", "late"], path=path, progress=lambda *done: heard.append(done)
    )
    assert heard[0][0] > 0.9 * heard[0][1]  # what was saved is not done again
    assert heard[-1][0] == heard[-1][1] == 17 + 2 * 17 * 16
    assert len(passes) == (
        2 if stop < 0.1 else 0
    )  # of 3 batches: no image runs again that was saved
    assert np.array_equal(resumed.values, uninterrupted.values)
    assert np.array_equal(read_null(path).values, uninterrupted.values)
    assert [file.name for file in tmp_path.iterdir()] == ["null.h5"]


@pytest.mark.parametrize("harmed", ["000-values.bin", "001-ranks.bin", "state.h5"])
def test_damaged_responses_of_a_stopped_null_are_made_again(harmed, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(nulls, "TILE", 4)
    model, photographs = tiny_model(), image_set(lattice(17))
    uninterrupted = null_distribution(model, photographs, ["early", "late"])

    def interrupt(done, total):
        if done > 0.3 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        null_distribution(
            model, photographs, ["early", "late"], path=tmp_path / "null.h5", progress=interrupt
        )
    path = tmp_path / "null.h5.parts" / harmed
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    again = null_distribution(model, photographs, ["early", "late"], path=tmp_path / "null.h5")
    assert np.array_equal(again.values, uninterrupted.values)
    assert f"{harmed} is damaged" in caplog.text


def test_a_damaged_null_is_made_again(tmp_path, caplog):
    model, photographs = tiny_model(), image_set(lattice(5))
    path = tmp_path / "null.h5"
    made = null_distribution(model, photographs, ["early"], n_pairs=12, path=path)
    contents = path.read_bytes()
    for damaged in (
        contents[:-40],
        b"",
        contents[:3000] + bytes([contents[3000] ^ 8]) + contents[3001:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"null\.h5 is damaged"):
            read_null(path)
        again = null_distribution(model, photographs, ["early"], n_pairs=12, path=path)
        assert np.array_equal(again.values, made.values)
        assert path.read_bytes() == contents
    assert "null.h5 is damaged or incomplete" in caplog.text
    path.write_bytes(b"a letter of somebody else")
    with pytest.raises(InputError, match=r"null\.h5 is not an HDF5 file"):
        null_distribution(model, photographs, ["early"], n_pairs=12, path=path)
    assert path.read_bytes() == b"a letter of somebody else"


def test_null_is_read_when_it_is_there_and_others_are_not_written_over(tmp_path, monkeypatch):
    model, photographs = tiny_model(), image_set(lattice(5))
    made = null_distribution(model, photographs, ["early"], n_pairs=12, path=tmp_path / "null.h5")
    assert len(made.pairs) == 12
    with monkeypatch.context() as patch:
        patch.setattr(nulls._Work, "run", lambda *_: pytest.fail("computed again"))
        again = null_distribution(
            model, photographs, ["early"], n_pairs=12, path=tmp_path / "null.h5"
        )
    for name in ("ids", "stages", "model_digest", "provenance"):
        assert getattr(again, name) == getattr(made, name)
    assert np.array_equal(again.values, made.values)
    assert np.array_equal(again.pairs, made.pairs)
    assert made.model_digest == model.digest
    assert made.provenance["stimuli_digest"] == photographs.digest
    for change, named in (
        ({"seed": 1}, "seed"),
        ({"n_pairs": 13}, "n_pairs"),
        ({"stages": ["late"]}, "stages"),
        ({"model": tiny_model(seed=1)}, "model_digest"),
        ({"stimuli": image_set(lattice(5, seed=1))}, "stimuli_digest"),
    ):
        settings = {
            "model": model,
            "stimuli": photographs,
            "stages": ["early"],
            "n_pairs": 12,
            **change,
        }
        with pytest.raises(InputError, match=f"made otherwise.*{named}"):
            null_distribution(path=tmp_path / "null.h5", **settings)
    write_hdf5(tmp_path / "other.h5", arrays={"values": np.zeros(3)})
    with pytest.raises(InputError, match="is no file of 'neurometamer stimuli null'"):
        null_distribution(model, photographs, ["early"], path=tmp_path / "other.h5")
    with pytest.raises(InputError, match="does not exist"):
        read_null(tmp_path / "nowhere.h5")


def test_null_refuses_what_makes_no_sense(tmp_path):
    model, photographs = tiny_model(), image_set(lattice(3))
    with pytest.raises(InputError, match="at least 2 different images, not 1"):
        null_distribution(model, photographs.select(ids=["photo0"]), ["early"])
    with pytest.raises(InputError, match="did you mean 'early'"):
        null_distribution(model, photographs, ["earli"])
    with pytest.raises(InputError, match="at least one stage"):
        null_distribution(model, photographs, [])
    with pytest.raises(InputError, match="at least 1 pair"):
        null_distribution(model, photographs, ["early"], n_pairs=0)
    with pytest.raises(InputError, match="same pixels: photo0, photo2"):
        null_distribution(model, image_set(lattice(2)[[0, 1, 0]]), ["early"])
    broken, half_black = (
        tiny_model(Broken()),
        np.stack([np.full((3, 8, 8), 0.5), np.zeros((3, 8, 8))]),
    )
    with pytest.raises(InputError, match="stage 'early': not finite for photo1; "):
        null_distribution(broken, image_set(half_black), ["early"], path=tmp_path / "null.h5")
    assert not list(tmp_path.iterdir())


class Broken(nn.Module):
    """Infinite for black pixels only."""

    def forward(self, images):
        return 1 / images if images.any() else images


# ------------------------------------------------------------------------------------------ judging


def test_judge_joins_by_id_and_tells_metamers_from_others(tmp_path):
    model, other = tiny_model(), tiny_model(seed=1, name="other")
    images = lattice(9)
    photographs = image_set(images)
    near = np.clip(images + np.random.default_rng(1).normal(0, 0.004, images.shape), 0, 1)
    made = image_set(
        np.concatenate([images, near, images[::-1]]), "m", list(photographs.ids) * 3, "metamer"
    )
    null = null_distribution(model, photographs, ["early"])
    heard = []
    judged = judge(
        [(model, "early"), (other, "late")],
        photographs,
        made,
        nulls=[null],
        batch_size=4,
        progress=lambda *done: heard.append(done),
    )
    assert heard[-1] == (54, 54)
    assert judged["model"].tolist() == ["tiny"] * 27 + ["other"] * 27
    assert judged["id"].tolist() == list(made.ids) * 2
    same, close, wrong = (judged.iloc[start : start + 9] for start in (0, 9, 18))
    for kind in ("float", "png"):
        assert (same[f"{kind}_loss"] == 0).all()
        assert np.isinf(same[f"{kind}_snr_db_power"]).all()
        assert same[f"{kind}_valid"].all()
        assert close[[f"{kind}_{metric}_above_null" for metric in METRICS]].all(axis=None)
        assert (close[f"{kind}_spearman_exceedance"] == 1 / 73).all()
        assert (
            not wrong[f"{kind}_valid"].drop(index=22).any()
        )  # 22: the middle of the reversed list is itself
    assert judged["valid"][22]
    a, b = (
        responses(model, images, "early"),
        responses(model, made.as_shown().images, "early")[9:18],
    )
    for metric, function in METRICS.items():
        np.testing.assert_allclose(
            close[f"png_{metric}"], function(a, b), rtol=1e-6
        )  # other batch size: float32
    assert (close["float_loss"].to_numpy() != close["png_loss"].to_numpy()).all()
    assert (same["why_not"] == "").all()
    assert wrong["why_not"].iloc[0].startswith("not above the null in spearman")
    unjudged = judged.iloc[27:]
    assert unjudged["valid"].isna().all()
    assert unjudged["png_pearson_above_null"].isna().all()
    assert unjudged["png_pearson_exceedance"].isna().all()
    assert (unjudged["null_pairs"] == 0).all()
    assert unjudged["why_not"].str.startswith("no null distribution was given").all()

    turned = judge(
        [(model, "early")],
        photographs.select(ids=photographs.ids[::-1]),
        made,
        nulls=[null],
        batch_size=4,
    )
    pd.testing.assert_frame_equal(turned, judged.iloc[:27])
    written = write_stimuli(made, tmp_path)
    read_back = judge(
        [(model, "early")], photographs, made, nulls=[null], batch_size=4, folder=written
    )
    pd.testing.assert_frame_equal(read_back, judged.iloc[:27])
    on_disk = read_stimuli(written, in_memory=False)
    pd.testing.assert_frame_equal(
        judge([(model, "early")], photographs, on_disk, nulls=[null], batch_size=4),
        judged.iloc[:27],
    )
    (tmp_path / "png" / "m3.png").unlink()
    with pytest.raises(InputError, match=r"m3\.png does not exist"):
        judge([(model, "early")], photographs, made, folder=written)


def test_rounding_that_breaks_a_metamer_is_seen():
    model = tiny_model(Waves())
    levels = np.random.default_rng(0).integers(4, 250, (5, 3, 8, 8)) + 0.2
    photographs = image_set(levels / 255)
    made = image_set((levels + 1.5) / 255, "m", list(photographs.ids), "metamer")
    null = null_distribution(model, photographs, ["early"])
    judged = judge([(model, "early")], photographs, made, nulls=[null])
    assert judged["float_valid"].all()
    assert (judged["float_pearson"] > 0.999).all()
    assert not judged["png_pearson_above_null"].any()
    assert not judged["valid"].any()
    assert (
        judged["why_not"]
        .str.startswith("valid in float, but not once rounded to 8 bits: not above the null")
        .all()
    )


def test_judge_refuses_what_does_not_join():
    model, photographs = tiny_model(), image_set(lattice(4))
    made = image_set(lattice(4), "m", list(photographs.ids), "metamer")
    null = null_distribution(model, photographs, ["early"])
    with pytest.raises(InputError, match=r"no reference has the id\(s\) photo0, photo1, photo3"):
        judge([(model, "early")], photographs.select(ids=["photo2"]), made)
    with pytest.raises(InputError, match="unknown stage of tiny 'middle'"):
        judge([(model, "middle")], photographs, made)
    with pytest.raises(InputError, match="none of: tiny late"):
        judge([(model, "late")], photographs, made, nulls=[null])
    with pytest.raises(InputError, match="none of: tiny early"):
        judge([(tiny_model(seed=2), "early")], photographs, made, nulls=[null])
    with pytest.raises(InputError, match="more than one null"):
        judge([(model, "early")], photographs, made, nulls=[null, replace(null)])
    with pytest.raises(InputError, match="no networks"):
        judge([], photographs, made)
    with pytest.raises(InputError, match="at least 1"):
        judge([(model, "early")], photographs, made, batch_size=0)
    ten = tiny_model(n_classes=10)
    judged = judge(
        [(ten, "early")], photographs, made, nulls=[null_distribution(ten, photographs, ["early"])]
    )
    assert (judged["class_criterion"] == "own classes").all() and judged["valid"].all()
    assert judged["why_not"].eq("").all()


def test_photographs_and_a_trained_network(lite0, photographs):
    """Faint noise leaves an image a metamer at an early stage.

    Another photograph is a metamer of nothing.
    """
    null = null_distribution(lite0, photographs, ["blocks.1"])
    noise = np.random.default_rng(0).normal(0, 0.01, photographs.images.shape)
    ids = list(photographs.ids)
    faint = image_set(np.clip(photographs.images + noise, 0, 1), "n", ids, "control")
    swapped = image_set(np.roll(photographs.images, 1, axis=0), "s", ids, "control")
    judged = judge([(lite0, "blocks.1")], photographs, faint, nulls=[null])
    criteria = [f"png_{metric}_above_null" for metric in METRICS]
    assert judged[criteria].all(axis=None)
    assert judged["valid"].sum() >= 12  # of 16: the category of textures without one may change
    other = judge([(lite0, "blocks.1")], photographs, swapped, nulls=[null])
    assert not other[criteria].any(axis=None)  # they are pairs of the null themselves
    assert not other["valid"].any()


def test_the_command_and_its_twin(tmp_path, invoke):
    from importlib.util import find_spec

    from neurometamer.commands import stimuli_null
    from neurometamer.run_options import RunOptions

    source = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
    files = [source / name for name in ("astronaut.png", "coffee.png", "rocket.jpg")]
    (tmp_path / "photographs.csv").write_text("file\n" + "".join(f"{file}\n" for file in files))
    options = [
        "--model",
        "alexnet",
        "--weights",
        "random",
        "--images",
        str(tmp_path / "photographs.csv"),
    ]
    options += [
        "--stages",
        "relu1",
        "fc8",
        "--n-pairs",
        "5",
        "--device",
        "cpu",
        "--seed",
        "3",
    ]
    done = invoke(["stimuli", "null", *options, "--out", str(tmp_path / "null.h5")])
    assert done.exit_code == 0, done.output
    assert "relu1: largest of 5 pairs: spearman 0." in done.output
    null = read_null(tmp_path / "null.h5")
    assert null.provenance["weights"] == "random (untrained, Kaiming normal, fan_out, seed 3)"
    assert null.values.shape == (2, 4, 5)
    twin = stimuli_null(
        tmp_path / "null.h5",
        model="alexnet",
        weights="random",
        images=[tmp_path / "photographs.csv"],
        stages=["relu1", "fc8"],
        n_pairs=5,
        seed=3,
        run=RunOptions(device="cpu"),
    )
    assert np.array_equal(twin.values, null.values)
