"""``neurometamer evaluate``, from folders of metamers to the page: real networks, real photographs,
few steps.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from neurometamer.cli import main
from neurometamer.commands.evaluation import evaluate_metamers, finished_sets, read_source
from neurometamer.commands.metamers import stimuli_metamer, stimuli_null
from neurometamer.commands.set_evaluation import EvaluationSettings, evaluate_metamer_sets
from neurometamer.errors import InputError
from neurometamer.evaluation.image_quality import image_quality
from neurometamer.evaluation.recognizability import recognition_table
from neurometamer.evaluation.sets import read_metamer_set, read_metamers
from neurometamer.provenance import digest
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table
from neurometamer.zoo import load_model
from stimuli_gen import concat_stimuli, write_stimuli
from stimuli_gen.stored_images import ImagesOnDisk

pytestmark = pytest.mark.data
SIDE = 96
FEW = EvaluationSettings(n_resamples=50, n_permutations=20, metrics=("ssim", "psnr", "tv", "lpips"))
JUDGES = ["squeezenet1_0", "efficientnet_lite0", "efficientnet_lite1"]


@pytest.fixture(scope="session")
def world(shared_data, tmp_path_factory):
    """Photographs, a null distribution, and metamers of one network at two stages and of a set."""
    folder = tmp_path_factory.mktemp("evaluate")
    table = (
        pd.read_csv(shared_data / "photos_ccby" / "labels.csv").drop_duplicates("class16").head(5)
    )
    files = [str(shared_data / "photos_ccby" / one) for one in table["file"]]
    pd.DataFrame({"file": files, "category": table["class16"]}).to_csv(
        folder / "photos.csv", index=False
    )
    weights = {"squeezenet1_0": str(shared_data / "weights" / "squeezenet1_0_imagenet.npz")}
    making = {
        "images": folder / "photos.csv",
        "preset": "fast",
        "steps": 25,
        "image_size": SIDE,
        "run": RunOptions(device="cpu", batch_size=4),
        "file_rounds": 0,
    }
    stimuli_null(
        folder / "null.h5",
        model="efficientnet_lite0",
        images=[folder / "photos.csv"],
        stages=["early", "late"],
        image_size=SIDE,
        run=RunOptions(device="cpu", batch_size=4),
    )
    for stage in ("early", "late"):
        stimuli_metamer("efficientnet_lite0", stage=stage, out=folder / f"lite0_{stage}", **making)
    pair = ["squeezenet1_0", "efficientnet_lite0"]
    stimuli_metamer(pair, stage="early", out=folder / "pair_early", weights=weights, **making)
    return SimpleNamespace(
        folder=folder, photos=folder / "photos.csv", weights=weights, truth=table
    )


@pytest.fixture(scope="session")
def page(world):
    """The evaluation of all three folders, with the null distribution of one network."""
    out = world.folder / "out"
    return evaluate_metamers(
        [world.folder / "lite0_early", world.folder / "lite0_late"],
        JUDGES,
        out,
        images=[world.photos],
        weights=world.weights,
        nulls=[world.folder / "null.h5"],
        settings=FEW,
        run=RunOptions(device="cpu", batch_size=4),
    )


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / f"{name}.csv")


def test_the_page_tells_validity_first_and_what_the_tables_say(page):
    folder, text = page.parent, page.read_text()
    valid = table(folder, "validity")
    assert valid["stage"].tolist() == ["early", "late"] and (valid["n_not_judged"] == 0).all()
    assert f"{valid['n_valid'].sum()} of {valid['n_images'].sum()} valid" in text
    assert (
        text.index("Validity first")
        < text.index('<h2 id="recognizability-title">')
        < text.index("Image quality</h2>")
    )
    found = table(folder, "recognizability")
    assert set(found["evaluator"]) == {*JUDGES, "mean of evaluators"}
    assert (
        found.loc[found["evaluator"] == "efficientnet_lite0", "took_part"]
        .astype(str)
        .eq("True")
        .all()
    )
    assert {"valid"} <= set(found["validity"]) <= {"valid", "failed"}
    quality = table(folder, "quality")
    assert (
        quality.loc[quality["metric"] == "lpips", "note"]
        .str.contains("skipped: weights missing")
        .all()
    )
    assert "skipped: weights missing" in text
    linked = re.findall(r"""(?:src|href)=["'](?!data:|#|https://)([^"']*)["']""", text)
    assert "references.bib" in linked and all((page.parent / file).is_file() for file in linked)
    assert "<script" not in text
    told = json.loads((folder / "provenance.json").read_text())
    assert (
        told["finished"]
        and set(told["evaluators"]) == set(JUDGES)
        and str(folder) not in json.dumps(told)
    )
    assert (folder / "figures" / "examples.png").is_file() and (
        folder / "figures" / "divergence.svg"
    ).is_file()


def test_the_page_begins_with_a_sentence_and_a_picture_and_ends_with_methods(page):
    folder, text = page.parent, unescape(page.read_text())
    screen = text[text.index('id="answer"') : text.index("<nav ")]
    valid = table(folder, "validity")
    assert f"{valid['n_valid'].sum()} of 10 images are valid metamers." in screen
    curves = (
        table(folder, "curves").query("validity == 'valid' and ways == 1000").dropna(subset="value")
    )
    most = curves["value"].max()
    assert ("recognize none of them" in screen) == (most == 0)
    few = int((curves["n_valid"] < 5).sum())
    assert (f"in {few} of them the photographs are too few to say" in screen) == (few > 0)
    assert (
        screen.count('<figure class="example">') == 3
        and '<figure id="figure-curves_1000">' in screen
    )
    methods = (folder / "methods.txt").read_text()
    assert methods.startswith(
        "Metamers of 5 photographs were evaluated, made for efficientnet_lite0 at stages early, "
        "late"
    )
    assert (
        "A prior of natural images was used in making them" in methods
        and "(50 resamples)" in methods
    )
    assert "LPIPS" not in methods  # it could not run
    cited = (folder / "references.bib").read_text()
    assert {"boehm2025", "tan2019", "iandola2016", "paszke2019", "detlefsen2022"} <= set(
        re.findall(r"{(\w+),", cited)
    )
    assert "jeon2025" not in cited  # observers were not asked for


def test_each_figure_has_the_numbers_it_draws(page):
    folder, text = page.parent, page.read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.S)
    figures = [one for one in captions if ".svg</code>" in one]
    named = [re.findall(r'href="(figures/[\w.-]+\.csv)"', one) for one in figures]
    assert len(named) == len(list((folder / "figures").glob("*.svg"))) and all(
        len(one) == 1 for one in named
    )
    for name, whole in (
        ("recognizability_1000", "recognizability"),
        ("quality", "quality"),
        ("curves_1000", "curves"),
    ):
        drawn, rows = (
            read_table(folder / "figures" / f"{name}.csv"),
            read_table(folder / f"{whole}.csv"),
        )
        rows = rows[rows["ways"] == 1000] if "ways" in rows else rows
        rows = (
            rows if whole == "curves" else rows[rows["validity"] == "valid"]
        )  # curves draw both states
        pd.testing.assert_frame_equal(drawn, rows.reset_index(drop=True), check_dtype=False)
    sheet = read_table(folder / "figures" / "examples.csv")
    assert sheet["state"].value_counts()["valid"] == table(folder, "validity")["n_valid"].sum()


def test_a_large_set_is_evaluated_where_it_lies(world, monkeypatch):
    held = read_metamer_set(world.folder / "lite0_early", [world.photos])
    for module in ("photographs", "stored_images", "stimuli"):
        monkeypatch.setattr(f"stimuli_gen.{module}.LARGEST_IN_MEMORY", 1000)
    stored = read_metamer_set(world.folder / "lite0_early", [world.photos])
    assert isinstance(stored.pictures, ImagesOnDisk) and isinstance(stored.references, ImagesOnDisk)
    assert (stored.picture_digest, stored.reference_digest) == (
        held.picture_digest,
        held.reference_digest,
    )
    assert held.picture_digest == digest(held.pictures)
    pd.testing.assert_frame_equal(stored.table, held.table)
    ours, theirs = (
        image_quality([one], metrics=["ssim", "tv"], n_resamples=20) for one in (stored, held)
    )
    pd.testing.assert_frame_equal(ours, theirs)
    network = load_model("squeezenet1_0", weights="random", device="cpu")
    pair = [network, replace(network, name="again")]
    told = [
        recognition_table(
            pair, [one], ways=(16,), include_untrained=True, run=RunOptions(batch_size=4)
        )
        for one in (stored, held)
    ]
    pd.testing.assert_frame_equal(*told)


def test_restricted_images_that_nobody_judged_have_their_figure(world, tmp_path):
    free = read_metamer_set(world.folder / "pair_early", [world.photos])
    near = replace(free, setting="linf 8/255 around start", pictures=free.references)
    network = load_model("squeezenet1_0", weights="random", device="cpu")
    asked = EvaluationSettings(
        parts=("recognizability",),
        ways=(16,),
        rules=("first_mapped",),
        n_resamples=10,
        include_untrained=True,
    )
    judges = [replace(network, name=name) for name in ("one", "two")]
    page = evaluate_metamer_sets(
        [free, near], judges, tmp_path / "out", asked, run=RunOptions(batch_size=4)
    )
    drawn = read_table(tmp_path / "out" / "figures" / "epsilon.csv")
    assert set(drawn["validity"]) == {"not judged"} and set(drawn["setting"]) == {
        free.setting,
        near.setting,
    }
    text = page.read_text()
    assert "Whether these 10 images are metamers was not judged." in text
    # networks with random weights say the same to every image: all are "recognized", which says
    # nothing
    assert (read_table(tmp_path / "out" / "curves.csv")["value"] == 1).all()
    assert "In none of 2 groups of metamers that is clearly more than guessing" in text


def test_a_stopped_evaluation_goes_on_and_writes_the_same_bytes(world, page):
    out = world.folder / "stopped"
    given = {
        "images": [world.photos],
        "weights": world.weights,
        "nulls": [world.folder / "null.h5"],
        "settings": FEW,
        "run": RunOptions(device="cpu", batch_size=4),
    }
    folders = [world.folder / "lite0_early", world.folder / "lite0_late"]

    def _stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_metamers(
            folders, JUDGES, out, **{**given, "run": replace(given["run"], progress=_stop)}
        )
    assert (
        not json.loads((out / "provenance.json").read_text())["finished"]
        and not (out / "report.html").exists()
    )
    before = {one.name: one.stat().st_mtime_ns for one in (out / ".finished").iterdir()}
    assert len(before) == 4
    assert evaluate_metamers(folders, JUDGES, out, **given).read_bytes() == page.read_bytes()
    assert {
        one.name: one.stat().st_mtime_ns for one in (out / ".finished").iterdir()
    }.items() >= before.items()
    for one in page.parent.glob("*.csv"):
        assert one.read_bytes() == (out / one.name).read_bytes()
    with pytest.raises(InputError, match=r"holds another analysis \(other n_resamples\)"):
        evaluate_metamers(
            folders,
            JUDGES,
            out,
            **{
                **given,
                "settings": EvaluationSettings(
                    n_resamples=51, n_permutations=20, metrics=FEW.metrics
                ),
            },
        )
    with pytest.raises(InputError, match=r"other data"):
        evaluate_metamers(folders[:1], JUDGES, out, **given)


def test_null_distributions_judge_metamers_as_their_folder_would(world, page):
    """Made without a null, judged with one: equal to what the criteria say by hand."""
    from stimuli_gen import at_size, judge, match_stages, read_null

    references, metamers = read_metamers(world.folder / "lite0_early", [world.photos])
    lite = at_size(load_model("efficientnet_lite0", device="cpu"), SIDE)
    (match,) = match_stages(lite, "early")
    null = read_null(world.folder / "null.h5")
    verdict = judge(
        [(match.model, match.stages[0])],
        references,
        metamers,
        nulls=[null],
        folder=world.folder / "lite0_early",
        batch_size=4,
    )
    row = table(page.parent, "validity").iloc[0]
    assert row["n_valid"] == verdict["valid"].sum() and row["pass_above_null"] == np.mean(
        verdict[
            ["png_spearman_above_null", "png_pearson_above_null", "png_snr_db_power_above_null"]
        ].all(axis=1)
    )


def test_without_null_the_page_says_that_nobody_judged(world):
    page = evaluate_metamers(
        [f"pair={world.folder / 'pair_early'}"],
        JUDGES,
        world.folder / "unjudged",
        images=[world.photos],
        weights=world.weights,
        run=RunOptions(device="cpu", batch_size=4),
        settings=EvaluationSettings(parts=("recognizability",), ways=(16,), n_resamples=10),
    )
    text = page.read_text()
    assert (
        "Validity not judged" in text
        and "Not asked for" not in text
        and 'id="divergence"' not in text
    )
    found = table(page.parent, "recognizability")
    assert set(found["set"]) == {"pair"} and set(found["validity"]) == {"not judged"}
    mean = found[found["evaluator"] == "mean of evaluators"]
    assert (
        mean["note"].str.contains("1 evaluator counted; a mean needs 2").all()
        and mean["value"].isna().all()
    )


def test_folders_that_hold_photographs_need_none(world, tmp_path):
    references, metamers = read_metamers(world.folder / "lite0_early", [world.photos])
    write_stimuli(concat_stimuli([references, metamers]), tmp_path / "both")
    one = read_metamer_set(tmp_path / "both")
    other = read_metamer_set(world.folder / "lite0_early", [world.photos])
    np.testing.assert_array_equal(one.references, other.references)
    np.testing.assert_array_equal(one.pictures, other.pictures)
    assert (
        one.label
        == other.label
        == {
            "set": "efficientnet_lite0",
            "members": "efficientnet_lite0",
            "stage": "early",
            "setting": "unbounded",
        }
    )


def test_unusable_folders_are_refused_by_name(world, tmp_path):
    folder = world.folder / "lite0_early"
    with pytest.raises(
        InputError, match=r"lite0_early holds no photographs; give those .* --images"
    ):
        read_metamer_set(folder)
    pd.read_csv(world.photos).iloc[1:].to_csv(tmp_path / "fewer.csv", index=False)
    gone = Path(pd.read_csv(world.photos)["file"][0]).stem
    with pytest.raises(InputError, match=rf"no photograph has the id\(s\) {gone}"):
        read_metamer_set(folder, [tmp_path / "fewer.csv"])
    photographs, _ = read_metamers(folder, [world.photos])
    write_stimuli(photographs, tmp_path / "photographs")
    with pytest.raises(InputError, match="holds no metamers"):
        read_metamer_set(tmp_path / "photographs")
    swapped = photographs.table["id"].tolist()
    turned = photographs.images[:, :, :, ::-1].copy()
    write_stimuli(type(photographs)(images=turned, table=photographs.table), tmp_path / "turned")
    with pytest.raises(InputError, match=f"other pixels than those .*{swapped[0]}"):
        read_metamer_set(folder, [tmp_path / "turned"])
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    next((copy / "png").iterdir()).unlink()
    with pytest.raises(InputError, match="png"):
        read_metamer_set(copy, [world.photos])


def test_unusable_settings_are_refused(world, tmp_path):
    one = read_metamer_set(world.folder / "lite0_early", [world.photos])
    with pytest.raises(InputError, match="unknown part of the evaluation 'looks'"):
        EvaluationSettings(parts=("looks",))
    with pytest.raises(InputError, match="sets need the part recognizability"):
        EvaluationSettings(parts=("sets",))
    with pytest.raises(InputError, match="unknown image metric 'psnrr'; did you mean 'psnr'"):
        EvaluationSettings(metrics=("psnrr",))
    with pytest.raises(InputError, match=r"0 evaluator\(s\)"):
        evaluate_metamer_sets([one], [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="FOLDER, SET=FOLDER or SET@STAGE=FOLDER"):
        read_source("=folder")
    assert read_source("a@0.8=b") == ("a", "0.8", Path("b"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    given = {
        "images": [world.photos],
        "weights": world.weights,
        "run": RunOptions(device="cpu"),
        "settings": FEW,
    }
    with pytest.raises(InputError, match="holds other files"):
        evaluate_metamers([world.folder / "lite0_early"], JUDGES, tmp_path / "mine", **given)
    with pytest.raises(InputError, match=r"no network|1 evaluator|at least 2"):
        evaluate_metamers([world.folder / "lite0_early"], JUDGES[:1], tmp_path / "one", **given)


def test_the_truth_comes_from_a_file_or_the_categories(world, tmp_path):
    table_of_truth = pd.DataFrame(
        {
            "id": [Path(one).stem for one in world.truth["file"]],
            "truth": world.truth["imagenet_index"],
        }
    )
    table_of_truth.to_csv(tmp_path / "truth.csv", index=False)
    settings = EvaluationSettings(parts=("recognizability",), target="truth", n_resamples=10)
    given = {
        "images": [world.photos],
        "weights": world.weights,
        "run": RunOptions(device="cpu", batch_size=4),
        "settings": settings,
    }
    source = [world.folder / "lite0_early"]
    page = evaluate_metamers(
        source, JUDGES, tmp_path / "out", truth=tmp_path / "truth.csv", **given
    )
    hits = table(page.parent, "recognition")
    wanted = (
        hits[hits["ways"] == 1000]
        .drop_duplicates("reference_id")["wanted"]
        .str.split()
        .str[0]
        .astype(int)
    )
    assert wanted.tolist() == world.truth["imagenet_index"].tolist()
    assert (
        hits[hits["ways"] == 16].drop_duplicates("reference_id")["wanted"].tolist()
        == world.truth["class16"].tolist()
    )
    pd.DataFrame({"id": ["a"], "truth": [None]}).to_csv(tmp_path / "empty.csv", index=False)
    with pytest.raises(InputError, match="has no truth for a"):
        evaluate_metamers(source, JUDGES, tmp_path / "out2", truth=tmp_path / "empty.csv", **given)


# ----------------------------------------------------------------------------------------- commands


def call(capsys, monkeypatch, *words) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["neurometamer", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
        raise SystemExit(0)
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


def test_the_command_does_what_its_python_twin_does(world, page, tmp_path, capsys, monkeypatch):
    weights = f"squeezenet1_0={world.weights['squeezenet1_0']}"
    code, out, _ = call(
        capsys,
        monkeypatch,
        "evaluate",
        "metamers",
        "--metamers",
        world.folder / "lite0_early",
        world.folder / "lite0_late",
        "--evaluators",
        *JUDGES,
        "--images",
        world.photos,
        "--weights",
        weights,
        "--nulls",
        world.folder / "null.h5",
        "--out",
        tmp_path / "out",
        "--n-resamples",
        50,
        "--n-permutations",
        20,
        "--metrics",
        "ssim",
        "psnr",
        "tv",
        "lpips",
        "--device",
        "cpu",
        "--batch-size",
        4,
    )
    assert code == 0 and str(tmp_path / "out" / "report.html") in out
    for one in page.parent.glob("*.csv"):
        assert one.read_bytes() == (tmp_path / "out" / one.name).read_bytes()


def test_sets_of_networks_from_plan_to_page(world, tmp_path, capsys, monkeypatch):
    networks, jobs = ["squeezenet1_0", "efficientnet_lite0", "alexnet"], tmp_path / "jobs"
    plan = [
        "evaluate",
        "plan-sets",
        "--networks",
        *networks,
        "--out",
        jobs,
        "--n-sets",
        6,
        "--sizes",
        "1:2",
        "--stage",
        "early",
        "--preset",
        "fast",
        "--steps",
        2,
    ]
    code, out, _ = call(capsys, monkeypatch, *plan)
    assert code == 0 and "6 to do" in out
    weights = f"alexnet=random,squeezenet1_0={world.weights['squeezenet1_0']}"
    run = [
        "evaluate",
        "run-sets",
        jobs,
        "--images",
        world.photos,
        "--image-size",
        SIDE,
        "--weights",
        weights,
        "--device",
        "cpu",
        "--batch-size",
        4,
    ]
    code, out, err = call(capsys, monkeypatch, *run, "--share", "1/2")
    assert code == 0 and "3 done" in out and "3 to do" in out, err
    code, out, _ = call(capsys, monkeypatch, *run)
    assert code == 0 and "6 done" in out
    assert [one.split("=")[0] for one in finished_sets(jobs)] == [f"set00{n}" for n in range(6)]
    judges = ["efficientnet_lite1", "efficientnet_lite2"]
    code, out, err = call(
        capsys,
        monkeypatch,
        "evaluate",
        "sets",
        jobs,
        "--evaluators",
        *judges,
        "--images",
        world.photos,
        "--out",
        tmp_path / "sets",
        "--weights",
        weights,
        "--ways",
        1000,
        "--n-resamples",
        50,
        "--device",
        "cpu",
    )
    assert code == 0, err  # the weights are of networks that took part and do not judge
    page = tmp_path / "sets" / "report.html"
    scores = table(page.parent, "set_scores")
    assert scores["raters"].value_counts().to_dict() == {"held-out": 6, "others": 6}
    held_out = scores[scores["raters"] == "held-out"]
    assert set(held_out["held_out"]) == {"+".join(judges)}
    others = scores[
        scores["raters"] == "others"
    ]  # no evaluator is in a set here, so that both are the same
    assert others["score"].tolist() == held_out["score"].tolist()
    assert set(table(page.parent, "set_differences")["network"]) == set(networks)
    assert "Sets of networks" in page.read_text()
    assert "Boehm et al. 2025 count that of the generating networks" in page.read_text()
    code, _, err = call(
        capsys,
        monkeypatch,
        "evaluate",
        "run-sets",
        jobs,
        "--images",
        world.photos,
        "--share",
        "3/2",
        "--image-size",
        SIDE,
        "--weights",
        weights,
    )
    assert code == 2 and "share 3/2 is none" in err


def test_the_published_table_is_checked(tmp_path, capsys, monkeypatch):
    rows = pd.DataFrame(
        {"network": ["a", "b"], "appearances": [18, 18], "difference": [0.118, 0.02]}
    )
    rows.to_csv(tmp_path / "table.csv", index=False)
    code, out, _ = call(
        capsys,
        monkeypatch,
        "evaluate",
        "check-table",
        tmp_path / "table.csv",
        "--out",
        tmp_path / "o.csv",
    )
    assert code == 0 and "appearances: 36" in out and "exceed 1.96 standard errors: a\n" in out
    assert table(tmp_path, "o")["exceeds"].tolist() == [True, False]
    code, _, err = call(capsys, monkeypatch, "evaluate", "check-table", tmp_path / "nothing.csv")
    assert code == 2 and "does not exist" in err and len(err.splitlines()) == 1


def test_bad_options_are_one_line(world, tmp_path, capsys, monkeypatch):
    base = [
        "evaluate",
        "metamers",
        "--metamers",
        world.folder / "lite0_early",
        "--images",
        world.photos,
        "--out",
        tmp_path / "out",
    ]
    for words, told in [
        (
            ["--evaluators", "efficientnet_lite0", "efficientnet_lite9"],
            "unknown model 'efficientnet_lite9'",
        ),
        (
            ["--evaluators", "efficientnet_lite0", "efficientnet_lite1", "--metric-weights", "fid"],
            "NAME=VALUE",
        ),
        (
            [
                "--evaluators",
                "efficientnet_lite0",
                "efficientnet_lite1",
                "--parts",
                "recognizability",
                "observers",
            ],
            "networks",
        ),
        (
            ["--evaluators", "efficientnet_lite0", "efficientnet_lite1", "--factors", "training"],
            "give A:B",
        ),
        (
            ["--evaluators", "efficientnet_lite0", "efficientnet_lite1", "--ways", "17"],
            "unknown number of ways",
        ),
    ]:
        code, _, err = call(capsys, monkeypatch, *base, *words, "--device", "cpu")
        assert code == 2 and told in err.splitlines()[-1], err
