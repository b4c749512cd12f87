"""Commands for images on which networks disagree: files, exit codes, folders made otherwise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer import commands
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from neurometamer.zoo import load_models
from stimuli_gen import at_size, predict, read_images, read_stimuli
from stimuli_gen.stimuli import read_png

NAMES = ["squeezenet1_0", "efficientnet_lite0"]
SIZE = 64


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for number in range(5):
        coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((80, 80), Image.Resampling.BICUBIC)
        smooth.save(folder / f"p{number}.png")
    return folder


@pytest.fixture
def words(photographs):
    """What the commands for two networks have in common, on the command line."""
    given = ["--weights", "random", "--image-size", SIZE, "--images", photographs]
    return [*NAMES, *given, "--device", "cpu"]


def networks():
    return [at_size(model, SIZE) for model in load_models(NAMES, "random", device="cpu")]


def test_controversial_images_are_written_judged_and_counted(words, tmp_path, invoke):
    out = tmp_path / "c"
    asked = ["stimuli", "controversial", *words, "--out", out, "--probability", 0.3]
    asked += ["--max-steps", 60]
    done = invoke(map(str, asked))
    assert done.exit_code in (0, 1), done.exception
    table = pd.read_csv(out / "stimuli.csv")
    met = int(table["success"].sum())
    assert met and f"{met} of 5 images meet their criterion on the saved PNG" in done.stdout
    assert done.exit_code == (met < 5)
    failures = pd.read_csv(out / "failures.csv")
    assert failures["id"].tolist() == table["id"][~table["success"]].tolist()
    if met < 5:
        share = f"{5 - met} of 5 ({(5 - met) / 5:.0%}) failed: allow more steps"
        assert share in done.stderr and failures["what_to_try"].notna().all()
    pictures = np.stack([read_png(out / "png" / f"{name}.png") for name in table["id"]])
    for model in networks():
        seen = predict(model, pictures)
        own = seen[np.arange(5), table[f"target_index_{model.name}"]]
        np.testing.assert_allclose(own, table[f"confidence_png_{model.name}"], atol=1e-5)
        assert (own[table["success"]] >= 0.3).all()
    first = read_stimuli(out)
    assert first.provenance["settings"]["disagreement"] == "classes"
    with_comma = [*asked[:2], "--models", ",".join(NAMES), *asked[4:]]
    again = invoke(map(str, with_comma))  # finished images are read, not made again
    assert again.exit_code == done.exit_code
    np.testing.assert_array_equal(read_stimuli(out).images, first.images)
    other = invoke(map(str, [*asked, "--sharpness", 3]))
    assert "holds stimuli made otherwise (other sharpness)" in str(other.exception)


def test_with_a_stage_representations_are_compared(words, photographs, tmp_path, invoke):
    out = tmp_path / "r"
    asked = ["stimuli", "controversial", *words, "--out", out, "--stage", "late"]
    done = invoke(map(str, [*asked, "--max-steps", 40, "--start", "reference"]))
    assert done.exit_code in (0, 1), done.exception
    table = pd.read_csv(out / "stimuli.csv")
    assert table["success"].any() and set(table["image_prior"]) == {"begins as the photograph"}
    assert (table["agreement_png"] <= table["agreement_reference"] + 1e-6).all()
    for given, message in (
        (["--sharpness", "3"], "there is a stage, so sharpness has no effect"),
        (["--bank", str(tmp_path / "none")], "none"),
    ):
        assert message in str(invoke([*map(str, asked), *given]).exception)


def test_divergent_metamers_need_both_nulls(words, photographs, tmp_path, invoke):
    nulls = []
    for name in NAMES:
        nulls.append(tmp_path / f"{name}.h5")
        commands.stimuli_null(
            nulls[-1],
            model=name,
            images=[photographs],
            stages=["late"],
            weights="random",
            image_size=SIZE,
            run=RunOptions(device="cpu"),
        )
    out = tmp_path / "d"
    asked = ["stimuli", "divergent", *words, "--out", out, "--stage", "late", "--steps", 60]
    done = invoke(map(str, [*asked, "--nulls", *nulls]))
    assert done.exit_code in (0, 1), done.exception
    table = pd.read_csv(out / "stimuli.csv")
    assert set(table["model"]) == {NAMES[0]} and set(table["unlike_model"]) == {NAMES[1]}
    assert table[f"unlike_{NAMES[1]}"].all()  # untrained networks: seldom a metamer of both
    assert (table["what_to_try"].isna() == table["success"]).all()
    alone = invoke(map(str, [*asked, "--nulls", nulls[0]]))
    assert f"0 null distributions of {NAMES[1]}" in str(alone.exception)


def test_eigendistortions_are_written_and_judged(photographs, tmp_path, invoke):
    out = tmp_path / "e"
    table = pd.DataFrame({"file": [str(photographs / "p0.png")], "id": ["p0"]})
    table.to_csv(tmp_path / "one.csv", index=False)
    asked = ["stimuli", "eigendistortion", "squeezenet1_0", "--weights", "random"]
    asked += ["--image-size", 32, "--images", tmp_path / "one.csv", "--out", out, "--device", "cpu"]
    done = invoke(map(str, [*asked, "--stage", "features.12"]))
    assert done.exit_code in (0, 1), done.exception
    table = pd.read_csv(out / "stimuli.csv")
    assert len(table) == 2 and table["success"].any()
    assert table["null_dimension_is_exact"].all() and (table["null_dimension"] >= 3072 - 512).all()
    film = invoke(map(str, [*asked, "--stage", "features.12", "--animate"]))
    assert "made in one step: no animation" in str(film.exception)


def test_what_does_not_fit_is_refused(photographs, tmp_path):
    given = {"images": photographs, "out": tmp_path / "o", "weights": "random"}
    with pytest.raises(InputError, match=r"two networks are compared, not 1 \(alexnet\)"):
        commands.stimuli_controversial("alexnet", **given)
    with pytest.raises(InputError, match=r"not 3 \(a, b, c\); name two different ones"):
        commands.stimuli_controversial("a,b, c", **given)
    with pytest.raises(InputError, match="alexnet is named twice, and no network disagrees"):
        commands.stimuli_divergent(["alexnet"] * 2, stage="late", nulls=[], **given)
    with pytest.raises(InputError, match="there is no stage, so max_agreement has no effect"):
        commands.stimuli_controversial(NAMES, **given, max_agreement=0.1)
    sized = ["efficientnet_lite0", "efficientnet_lite1"]
    with pytest.raises(InputError, match=r"different sizes \(efficientnet_lite0 224 x 224"):
        commands.stimuli_controversial(sized, **given)
    with pytest.raises(InputError, match="unknown stage of squeezenet1_0"):
        commands.stimuli_eigendistortion("squeezenet1_0", stage="lat", **given)


def test_a_table_of_such_images_is_read_again(tmp_path, photographs):
    table = pd.DataFrame(
        {
            "file": [str(photographs / "p0.png"), str(photographs / "p1.png")],
            "id": ["p0", "p0_controversial"],
            "kind": ["RE", "controversial"],
            "reference_id": ["p0", "p0"],
        }
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    (model, _) = networks()
    stimuli = read_images([tmp_path / "table.csv"], model.preprocessing)
    assert stimuli.table["kind"].tolist() == ["RE", "controversial"]
