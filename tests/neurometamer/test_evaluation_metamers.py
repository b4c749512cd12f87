"""Evaluation of real metamers: made with SqueezeNet and EfficientNet-Lite0, judged by four networks
and simulated.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.errors import InputError
from neurometamer.evaluation.divergence import divergence
from neurometamer.evaluation.image_quality import image_quality, image_quality_table
from neurometamer.evaluation.model_sets import (
    job_states,
    plan_sets,
    random_sets,
    run_sets,
    set_scores,
)
from neurometamer.evaluation.recognizability import (
    AVERAGE,
    epsilon_comparison,
    epsilon_settings,
    recognition_summary,
    recognition_table,
    recognizability,
    recognizability_curves,
    seen_by,
)
from neurometamer.evaluation.sets import metamer_set, resampled_means, summarize
from neurometamer.run_options import RunOptions
from neurometamer.stats.resampling import bootstrap_counts
from neurometamer.zoo import load_model
from stimuli_gen import (
    Penalty,
    StimulusSet,
    at_size,
    judge,
    load_photographs,
    model_metamers,
    null_distribution,
    read_stimuli,
    to_sixteen,
    write_stimuli,
)
from stimuli_gen.models import predict

SIDE = 96  # px; the evaluators see the pictures in their own sizes, 224 to 260
FAST = {"preset": "fast", "steps": 30, "run": RunOptions(batch_size=4)}


@pytest.fixture(scope="session")
def zoo(shared_data):
    weights = {"squeezenet1_0": shared_data / "weights" / "squeezenet1_0_imagenet.npz"}
    names = ["squeezenet1_0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    return {
        name: load_model(name, weights=weights.get(name, "default"), device="cpu") for name in names
    }


@pytest.fixture(scope="session")
def photographs(shared_data, zoo, tmp_path_factory):
    table = (
        pd.read_csv(shared_data / "photos_ccby" / "labels.csv").drop_duplicates("class16").head(6)
    )
    files = [str(shared_data / "photos_ccby" / file) for file in table["file"]]
    listing = tmp_path_factory.mktemp("photos") / "photos.csv"
    pd.DataFrame({"file": files, "category": table["class16"].to_numpy()}).to_csv(
        listing, index=False
    )
    found = load_photographs(listing, at_size(zoo["efficientnet_lite0"], SIDE).preprocessing)
    return found, dict(zip(found.ids, table["imagenet_index"].tolist(), strict=True))


@pytest.fixture(scope="session")
def made(zoo, photographs, tmp_path_factory):
    """Metamers of a single network, of a set, and restricted ones, with the null's verdict on the
    first.
    """
    pair = [at_size(zoo[network], SIDE) for network in ("squeezenet1_0", "efficientnet_lite0")]
    lite = pair[1]
    all_photos, truth = photographs
    photos = all_photos.select(ids=all_photos.ids[:4])
    folder = tmp_path_factory.mktemp("metamers")
    single = model_metamers(lite, photos, stage="blocks.1", **FAST)
    write_stimuli(single, folder)
    stage = single.table["stage"].iloc[0]
    null = null_distribution(lite, all_photos, [stage], batch_size=4)
    validity = judge([(lite, stage)], photos, single, nulls=[null], folder=folder, batch_size=4)
    ensemble = model_metamers(pair, photos, stage="middle", **FAST)
    (name,) = [name for name in epsilon_settings() if "8/255" in name]
    bound = model_metamers(pair, photos, stage="middle", **{**FAST, **epsilon_settings()[name]})
    return SimpleNamespace(
        photos=photos,
        truth=truth,
        folder=folder,
        single=single,
        validity=validity,
        ensemble=ensemble,
        bound=bound,
        sets=[
            metamer_set(
                photos, read_stimuli(folder), stage="early", validity=validity, folder=folder
            ),
            metamer_set(photos, ensemble, stage="middle"),
            metamer_set(photos, bound, stage="middle"),
        ],
    )


@pytest.fixture(scope="session")
def hits(zoo, made):
    return recognition_table(list(zoo.values()), made.sets, run=RunOptions(batch_size=4))


def test_sets_know_their_members_setting_and_validity(made, zoo):
    first, second, third = made.sets
    assert first.label == {
        "set": "efficientnet_lite0",
        "members": "efficientnet_lite0",
        "stage": "early",
        "setting": "unbounded",
    }
    assert third.setting == "linf 8/255 around start" and second.setting == "unbounded"
    assert [metamers.took_part(zoo["squeezenet1_0"]) for metamers in made.sets] == [
        False,
        True,
        True,
    ]
    assert first.table["valid"].tolist() == made.validity["valid"].tolist()
    assert set(second.states) == {"not judged"}
    start = np.float32(
        0.5
    )  # a restricted image stays within its radius of a noise that no image here is far from
    assert np.abs(third.pictures - start).mean() < np.abs(second.pictures - start).mean()


def test_hits_are_what_each_network_says_through_its_own_preprocessing(hits, zoo, made):
    model, one = zoo["efficientnet_lite2"], made.sets[1]
    cut = [
        model.preprocessing.cut(
            Image.fromarray(np.rint(255 * image).astype(np.uint8).transpose(1, 2, 0))
        )
        for image in one.pictures
    ]
    probabilities = predict(model, np.stack(cut), 4)
    np.testing.assert_array_equal(np.stack(cut), seen_by(model, one.pictures))
    before = predict(model, seen_by(model, one.references), 4)
    rows = hits[
        (hits["set"] == one.name)
        & (hits["setting"] == "unbounded")
        & (hits["evaluator"] == model.name)
    ]
    for ways, rule, expected in [
        (1000, "all classes", probabilities.argmax(1) == before.argmax(1)),
        (16, "first_mapped", to_sixteen(probabilities) == to_sixteen(before)),
        (
            16,
            "mean_prob",
            to_sixteen(probabilities, "mean_prob") == to_sixteen(before, "mean_prob"),
        ),
    ]:
        part = rows[(rows["ways"] == ways) & (rows["rule"] == rule)]
        assert part["hit"].astype(bool).tolist() == expected.tolist()
        assert part["reference_id"].tolist() == list(made.photos.ids)


def test_networks_that_took_part_are_marked_and_left_out_of_the_mean(hits):
    table = recognition_summary(hits, n_resamples=200)
    rows = table[(table["set"] == "squeezenet1_0+efficientnet_lite0") & (table["ways"] == 1000)]
    rows = rows[rows["setting"] == "unbounded"]
    alone = rows[rows["evaluator"] != AVERAGE].set_index("evaluator")
    assert alone["took_part"].to_dict() == {
        "squeezenet1_0": True,
        "efficientnet_lite0": True,
        "efficientnet_lite1": False,
        "efficientnet_lite2": False,
    }
    mean = rows[rows["evaluator"] == AVERAGE].iloc[0]
    outside = alone.loc[~alone["took_part"].astype(bool), "value"]
    assert mean["n_averaged"] == 2 and mean["value"] == pytest.approx(outside.mean())
    assert mean["sd"] == pytest.approx(outside.std())
    assert mean["low"] <= mean["value"] <= mean["high"]
    assert (alone["validity"] == "not judged").all() and (alone["n_not_judged"] == 4).all()


def test_interval_is_that_of_resampled_images(hits):
    part = hits[
        (hits["setting"] != "unbounded") & (hits["ways"] == 16) & (hits["rule"] == "first_mapped")
    ]
    table = recognition_summary(part, n_resamples=500, seed=3)
    for name, group in part.groupby("evaluator"):
        counts = bootstrap_counts(4, 500, 3)
        by_hand = [np.repeat(group["hit"].to_numpy(), count).mean() for count in counts]
        row = table[table["evaluator"] == name].iloc[0]
        np.testing.assert_allclose([row["low"], row["high"]], np.percentile(by_hand, [2.5, 97.5]))


def test_failed_and_valid_metamers_have_rows_of_their_own(made, zoo):
    verdict = made.validity.assign(png_valid=[True, False, True, pd.NA])
    mixed = metamer_set(made.photos, made.single, stage="early", validity=verdict)
    judges = [zoo["efficientnet_lite1"], zoo["efficientnet_lite2"]]
    hits = recognition_table(judges, [mixed], ways=(1000,), run=RunOptions(batch_size=4))
    table = recognition_summary(hits, n_resamples=50)
    alone = table[table["evaluator"] == "efficientnet_lite1"].set_index("validity")
    assert alone["n"].to_dict() == {"valid": 2, "failed": 1, "not judged": 1}
    assert (alone["pass_both"] == 2 / 3).all() and (alone["n_images"] == 4).all()
    own = hits[hits["evaluator"] == "efficientnet_lite1"]["hit"].to_numpy()
    np.testing.assert_allclose(alone["value"], [own[[0, 2]].mean(), own[1], own[3]])
    none = metamer_set(
        made.photos, made.single, stage="early", validity=made.validity.assign(png_valid=False)
    )
    table = recognizability(
        judges, [none], ways=(1000,), n_resamples=50, run=RunOptions(batch_size=4)
    )
    excluded = table[table["validity"] == "valid"]
    assert (excluded["n"] == 0).all() and excluded["value"].isna().all() and len(excluded) == 3
    assert "no valid metamer of 4 (4 failed, 0 not judged)" in excluded["note"].iloc[0]
    assert (table[table["validity"] == "failed"]["n"] == 4).all()
    looks = image_quality([none], metrics=["psnr"], n_resamples=20)
    assert looks["n"].tolist() == [0, 4] and "no valid metamer" in looks["note"].iloc[0]


def test_stored_columns_tell_validity_too(made):
    """Columns as the metamer command writes them, one a network, after a file has turned them to
    text.
    """
    table = made.ensemble.table.assign(
        valid_squeezenet1_0=["True", "True", "False", None],
        valid_efficientnet_lite0=["True", None, None, "True"],
    )
    found = metamer_set(made.photos, replace(made.ensemble, table=table), stage="middle")
    assert found.states.tolist() == ["valid", "not judged", "failed", "not judged"]
    assert found.table["above_null"].isna().all()


def test_targets(made, zoo):
    judges = list(zoo.values())
    one = made.sets[1]
    true = recognition_table(
        judges, [one], target="truth", truth=made.truth, run=RunOptions(batch_size=4)
    )
    row = true[(true["ways"] == 1000) & (true["evaluator"] == "efficientnet_lite1")]
    said = predict(
        zoo["efficientnet_lite1"], seen_by(zoo["efficientnet_lite1"], one.pictures), 4
    ).argmax(1)
    assert (
        row["hit"].tolist()
        == (said == [made.truth[name] for name in one.table["reference_id"]]).astype(float).tolist()
    )
    words = recognition_table(
        judges, [one], target="truth", ways=(16,), run=RunOptions(batch_size=4)
    )
    assert words["wanted"].tolist() == true[true["ways"] == 16]["wanted"].tolist()
    own = recognition_table(
        judges, [made.sets[0]], target="generator", ways=(1000,), run=RunOptions(batch_size=4)
    )
    lite = zoo["efficientnet_lite0"]
    classes = predict(lite, seen_by(lite, made.sets[0].references), 4).argmax(1)
    assert own[own["evaluator"] == "efficientnet_lite2"]["wanted"].tolist() == [
        f"{at} {lite.class_names[at]}" for at in classes
    ]
    with pytest.raises(InputError, match=r"took part .*efficientnet_lite0"):
        recognition_table(judges[2:], [made.sets[0]], target="generator")
    with pytest.raises(InputError, match="unknown category 'dgo'; did you mean 'dog'"):
        recognition_table(
            judges, [one], target="truth", truth=dict.fromkeys(made.truth, "dgo"), ways=(16,)
        )
    with pytest.raises(InputError, match="1,000 ways need ImageNet classes"):
        recognition_table(judges, [one], target="truth")


def test_curves_and_epsilon(hits):
    summary = recognition_summary(hits, n_resamples=100)
    curves = recognizability_curves(summary, ways=16)
    assert curves.drop_duplicates(["set", "setting"])["place"].tolist() == [0, 1, 1]
    assert set(curves["rule"]) == {"first_mapped"}
    found = epsilon_comparison(hits, n_resamples=100)
    rows = found[(found["stage"] == "middle") & (found["ways"] == 1000)].set_index("setting")
    outside = hits[
        (hits["ways"] == 1000) & (hits["stage"] == "middle") & ~hits["took_part"].astype(bool)
    ]
    means = outside.groupby("setting")["hit"].mean()
    bound = rows.loc["linf 8/255 around start"]
    assert bound["value"] == pytest.approx(means["linf 8/255 around start"])
    assert bound["difference"] == pytest.approx(
        means["linf 8/255 around start"] - means["unbounded"]
    )
    assert bound["n_paired"] == 4 and bound["low"] <= bound["difference"] <= bound["high"]
    with pytest.raises(InputError, match="unknown setting"):
        epsilon_comparison(hits, baseline="free")


def test_bad_input(made, zoo):
    judges = list(zoo.values())
    with pytest.raises(
        InputError,
        match=r"1 evaluator\(s\) \(squeezenet1_0\).*Left out for random weights: alexnet",
    ):
        recognizability(
            [judges[0], load_model("alexnet", weights="random", device="cpu")], made.sets
        )
    with pytest.raises(InputError, match="same name"):
        recognizability(judges, [made.sets[0], made.sets[0]])
    lost = made.photos.select(ids=made.photos.ids[1:])
    with pytest.raises(InputError, match=f"no photograph has the id\\(s\\) {made.photos.ids[0]}"):
        metamer_set(lost, made.single)
    small = StimulusSet(images=made.photos.images[:, :, ::2, ::2].copy(), table=made.photos.table)
    with pytest.raises(InputError, match=r"\(96, 96\) pixels, photographs \(48, 48\).*_metamer"):
        metamer_set(small, made.single)
    twice = made.single.table.assign(reference_id=made.photos.ids[0])
    with pytest.raises(InputError, match="more than one metamer"):
        metamer_set(made.photos, replace(made.single, table=twice))
    with pytest.raises(InputError, match="no row for"):
        metamer_set(made.photos, made.single, validity=made.validity.iloc[1:])


def test_image_quality_of_real_metamers(made):
    table = image_quality_table(made.sets[:2], metrics=["ssim", "tv", "lpips"])
    assert len(table) == 2 * 3 * 4
    assert (
        table.loc[table["metric"] == "lpips", "note"].str.startswith("skipped: weights missing")
    ).all()
    found = image_quality(made.sets[:2], metrics=["ssim", "tv", "lpips"], n_resamples=50)
    assert found.groupby("metric")["arrow"].unique().map(list).to_dict() == {
        "ssim": ["↑"],
        "tv": ["↓"],
        "lpips": ["↓"],
    }
    lines = found[found["metric"] == "tv"]
    assert (lines["value"] > lines["photograph_value"]).all()  # few steps leave noise in the images
    skipped = found[found["metric"] == "lpips"]
    assert (skipped["n"] == 0).all() and skipped["note"].str.contains("skipped").all()


def test_divergence_of_real_metamers(made, zoo):
    judges = [zoo["efficientnet_lite0"], zoo["squeezenet1_0"]]
    found = divergence(judges, made.sets[:2], n_permutations=30, run=RunOptions(batch_size=4))
    rows = found[found["headline"] & (found["members"] == "squeezenet1_0+efficientnet_lite0")]
    assert rows["took_part"].all() and (rows["validity"] == "not judged").all()
    assert rows["value"].between(0, 1).all() and rows["p"].between(1 / 31, 1).all()
    single = found[found["headline"] & (found["set"] == "efficientnet_lite0")]
    assert single.drop_duplicates("evaluator")["took_part"].tolist() == [True, False]
    with pytest.raises(InputError, match="no depth that"):
        divergence(judges, [metamer_set(made.photos, made.single)], n_permutations=0)


def test_jobs_of_random_sets_go_on_where_they_stopped(made, zoo, tmp_path):
    sets = random_sets(["squeezenet1_0", "efficientnet_lite0"], n_sets=2, sizes=(1, 1), seed=1)
    photos = made.photos.select(ids=made.photos.ids[:2])
    options = {"stage": "early", "preset": "fast", "steps": 2}
    assert plan_sets(tmp_path, sets, **options)["state"].tolist() == ["to do", "to do"]
    loaded = []

    def load(name):
        loaded.append(name)
        if len(loaded) == 2:
            raise InputError("no memory for this one")
        return at_size(zoo[name], SIDE)

    first = run_sets(tmp_path, photos, load=load, run=RunOptions(batch_size=2))
    assert (
        first["state"].tolist() == ["done", "failed"]
        and first["reason"].iloc[1] == "no memory for this one"
    )
    before = (tmp_path / "set000" / "stimuli.h5").stat().st_mtime_ns
    assert run_sets(tmp_path, photos, load=load, run=RunOptions(batch_size=2))[
        "state"
    ].tolist() == ["done", "done"]
    assert loaded[2:] == [sets["members"].iloc[1]]
    assert (tmp_path / "set000" / "stimuli.h5").stat().st_mtime_ns == before
    assert plan_sets(tmp_path, sets, **options)["state"].tolist() == ["done", "done"]
    _done_only_with_its_files(
        tmp_path, photos, loaded, lambda name: loaded.append(name) or at_size(zoo[name], SIDE)
    )
    with pytest.raises(InputError, match="is another job"):
        plan_sets(tmp_path, sets, **{**options, "steps": 3})
    smooth = Penalty(kind="total_variation", weight=1.0)
    with pytest.raises(InputError, match="jobs of sets hold no penalties"):
        plan_sets(tmp_path, sets, **options, penalties=[smooth])
    (tmp_path / "set001" / "job.json").write_text("{}")
    assert plan_sets(tmp_path, sets, **options)["state"].tolist() == ["done", "done"]
    assert job_states(tmp_path)["size"].tolist() == [1, 1]
    parts = [
        metamer_set(photos, read_stimuli(tmp_path / name), name=name, stage="early")
        for name in sets["set"]
    ]
    hits = recognition_table(list(zoo.values()), parts, ways=(1000,), run=RunOptions(batch_size=2))
    scores = set_scores(
        hits, held_out=["efficientnet_lite1", "efficientnet_lite2"], validity="not judged"
    )
    assert scores["n"].tolist() == [2, 2] and scores["size"].tolist() == [1, 1]
    others = set_scores(hits, raters="others", validity="not judged")
    assert others["n_raters"].tolist() == [
        len(zoo) - 1,
        len(zoo) - 1,
    ]  # all but the one that made it
    with pytest.raises(InputError, match="are in a set: squeezenet1_0"):
        set_scores(hits, held_out=["squeezenet1_0", "efficientnet_lite1"], validity="not judged")


def _done_only_with_its_files(folder, photos, loaded, load):
    """Harm what a finished set left: it is to do again, and made again, with equal files."""
    kept = folder / "set000"
    files = [path for path in (*kept.glob("*.*"), *kept.glob("png/*")) if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    for name, contents in (
        ("state.json", b"{}"),
        ("stimuli.h5", before[kept / "stimuli.h5"][:-1]),
        (f"png/{next(kept.glob('png/*')).name}", b""),
        ("contact_sheet.png", None),
    ):
        loaded.clear()
        (kept / name).unlink() if contents is None else (kept / name).write_bytes(contents)
        assert job_states(folder)["state"].tolist() == ["to do", "done"], name
        assert run_sets(folder, photos, load=load, run=RunOptions(batch_size=2))[
            "state"
        ].tolist() == [
            "done",
            "done",
        ]
        assert len(loaded) == 1, name
    assert {path: path.read_bytes() for path in before} == before


def test_summary_averages_around_missing_and_infinite_values():
    counts = bootstrap_counts(3, 50, 0)
    means = resampled_means(np.array([[1.0, 1.0], [np.nan, np.inf], [3.0, 3.0]]), counts)
    for draw, (left, right) in zip(counts, means, strict=True):
        some = draw[0] + draw[2]
        assert (np.isnan(left) and not some) or left == pytest.approx(
            (draw[0] + 3 * draw[2]) / some
        )
        assert np.isposinf(right) == bool(draw[1])
    flags = pd.array([True, True, True], "boolean")
    table = pd.DataFrame(
        {
            "set": "a",
            "members": "a",
            "stage": "s",
            "setting": "u",
            "reference_id": list("xyz"),
            "metric": "m",
            "value": [1.0, np.nan, 3.0],
            "same_class": flags,
            "above_null": flags,
            "valid": flags,
        }
    )
    row = summarize(table, ["metric"], "value", n_resamples=10).iloc[0]
    assert row["n"] == 2 and row["value"] == 2
