from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table
from stimuli_gen import (
    Progress,
    adversarial_interference,
    adversarial_noise,
    choose_targets,
    concat_stimuli,
    confirm_saved,
    load_photographs,
    predict,
    read_stimuli,
    sixteen_classes,
    write_stimuli,
)
from stimuli_gen.adversarial import MEAN_IMAGE

COLUMNS = [
    "id",
    "kind",
    "reference_id",
    "category",
    "target_index",
    "target_name",
    "confidence_float",
    "confidence_png",
    "top1_index",
    "top1_name",
    "steps",
    "success",
    "why_not",
    "seed",
    "model",
    "weights",
    "l2_8bit",
    "linf_8bit",
    "note",
]


def some(photographs, n=3):
    return photographs.select(ids=["camera", "motorcycle", "moon"][:n])


def test_noise_and_interference_hold_on_the_saved_png(lite0, photographs, tmp_path):
    references = some(photographs)
    noise = adversarial_noise(lite0, references, run=RunOptions(batch_size=3))
    interference = adversarial_interference(lite0, references, run=RunOptions(batch_size=3))
    everything = concat_stimuli([references, noise, interference])
    write_stimuli(everything, tmp_path)
    table = confirm_saved(lite0, everything, tmp_path).table
    assert set(COLUMNS) <= set(table.columns)
    assert table["id"].tolist()[3:5] == ["camera_AN", "motorcycle_AN"]
    made = table[table["kind"] != "RE"]
    assert made["success"].all() and made["confirmed"].all()
    assert (made["confidence_png"] >= 0.99).all() and (
        made["top1_index"] == made["target_index"]
    ).all()
    assert table["success"].isna().tolist() == [True] * 3 + [False] * 6

    own = predict(lite0, references.images).argmax(axis=1)
    assert table["target_index"][3:6].tolist() == own.tolist()
    assert (table["target_index"][6:].to_numpy() != own).all()
    pixels = np.stack(
        [
            np.asarray(Image.open(tmp_path / "png" / f"{stimulus_id}.png"))
            for stimulus_id in table["id"]
        ]
    ).astype(float)
    change = pixels[6:] - pixels[:3]
    np.testing.assert_allclose(made["l2_8bit"][3:], np.sqrt((change**2).sum(axis=(1, 2, 3))))
    np.testing.assert_array_equal(made["linf_8bit"][3:], np.abs(change).max(axis=(1, 2, 3)))
    assert made["linf_8bit"][3:].max() < 40  # people see the photograph
    np.testing.assert_allclose(pixels[3:6].mean(axis=(0, 1, 2)), 255 * np.array(MEAN_IMAGE), atol=2)
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)  # the mean color is the same in all noise
    correlations = [np.corrcoef(pixels[i].ravel(), pixels[i + 3].ravel())[0, 1] for i in range(3)]
    assert np.abs(correlations).max() < 0.05  # nothing of the photograph in the noise


def test_same_seed_same_images_whatever_the_company_and_after_an_interruption(
    lite0, photographs, tmp_path
):
    settings = {"max_steps": 2, "seed": 3}
    together = adversarial_noise(lite0, some(photographs), run=RunOptions(batch_size=2), **settings)

    class Killed(Exception):
        pass

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        adversarial_noise(
            lite0,
            some(photographs, 1),
            run=RunOptions(batch_size=2, resume=tmp_path, progress=kill),
            **settings,
        )
    resumed = adversarial_noise(
        lite0, some(photographs), run=RunOptions(batch_size=2, resume=tmp_path), **settings
    )
    assert resumed.digest == together.digest
    np.testing.assert_array_equal(
        read_stimuli(write_stimuli(resumed, tmp_path / "out")).images, together.images
    )
    other = adversarial_noise(
        lite0,
        some(photographs, 1),
        run=RunOptions(batch_size=2, resume=tmp_path),
        **(settings | {"seed": 4}),
    )
    assert np.abs(other.images[0] - together.images[0]).max() > 0.1


def test_what_was_not_reached_is_kept_and_explained(alexnet, photographs, tmp_path):
    stimuli = adversarial_interference(
        alexnet, some(photographs, 2), max_steps=1, run=RunOptions(batch_size=2)
    )
    write_stimuli(stimuli, tmp_path)
    confirmed = confirm_saved(alexnet, stimuli, tmp_path).table
    assert len(confirmed) == 2 and not confirmed["success"].any()
    assert (
        confirmed["why_not"]
        .str.contains(r"p = 0\.\d+ after 1 steps, below 0.99; allow more steps")
        .all()
    )
    assert (confirmed["note"] == "untrained network").all()


def test_confirmation_reads_the_files(lite0, photographs, tmp_path):
    stimuli = adversarial_interference(lite0, some(photographs, 1), run=RunOptions(batch_size=2))
    write_stimuli(stimuli, tmp_path)
    path = tmp_path / "png" / "camera_AI.png"
    levels = np.asarray(Image.open(path))
    Image.fromarray(255 - levels).save(path)  # somebody changes the file
    confirmed = confirm_saved(lite0, stimuli, tmp_path).table
    assert not confirmed["success"][0] and "once rounded" in confirmed["why_not"][0]
    Image.fromarray(levels[:50]).save(path)
    with pytest.raises(InputError, match=r"camera_AI.png is \(50, 224\) pixels"):
        confirm_saved(lite0, stimuli, tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=r"camera_AI.png does not exist; write the stimuli again"):
        confirm_saved(lite0, stimuli, tmp_path)


def test_images_of_another_network_are_not_confirmed(lite0, alexnet, photographs, tmp_path):
    stimuli = adversarial_interference(
        alexnet, some(photographs, 1), max_steps=1, run=RunOptions(batch_size=2)
    )
    with pytest.raises(InputError, match="made for another network than efficientnet_lite0"):
        confirm_saved(lite0, stimuli, tmp_path)


def test_targets_by_rule(lite0, photographs, tmp_path):
    references = some(photographs)
    probabilities = predict(lite0, references.images)
    assert (
        list(choose_targets("own", references, lite0).values())
        == probabilities.argmax(axis=1).tolist()
    )
    assert (
        list(choose_targets("least_likely", references, lite0).values())
        == probabilities.argmin(axis=1).tolist()
    )
    draws = [choose_targets("random", references, lite0, seed)["moon"] for seed in range(5)]
    assert len(set(draws)) > 1 and probabilities[2].argmax() not in draws
    assert draws[2] == choose_targets("random", references.select(ids=["moon"]), lite0, 2)["moon"]
    assert choose_targets("class 7", references, lite0) == dict.fromkeys(references.ids, 7)
    assert choose_targets(7, references, lite0) == choose_targets("7", references, lite0)
    targets = pd.DataFrame(
        {"id": ["moon", "camera", "motorcycle"], "target": ["3", "class 4", "5"]}
    )
    targets.to_csv(tmp_path / "targets.csv", index=False)
    expected = {"camera": 4, "motorcycle": 5, "moon": 3}
    assert choose_targets(str(tmp_path / "targets.csv"), references, lite0) == expected
    assert (
        choose_targets(
            {"camera": "class 4", "motorcycle": 5.0, "moon": np.int64(3)}, references, lite0
        )
        == expected
    )


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ({"camera": 1}, r"no target for the photograph\(s\) motorcycle, moon"),
        (
            {"camera": 1, "motorcycle": 1, "moon": 1, "sun": 1},
            r"id\(s\) that are no photographs: sun",
        ),
        (
            1000,
            r"target 1000 of 'camera' is out of range; efficientnet_lite0 has the classes 0 to 999",
        ),
        (-1, "out of range"),
        ("1.5", "out of range"),
        ("nan", "out of range"),
        ("clas 12", "unknown target 'clas 12' of 'camera'; did you mean 'class 12'"),
        ("given", "needs the column target"),
        ("nowhere.csv", "nowhere.csv does not exist"),
    ],
)
def test_bad_targets_are_named(rule, match, lite0, photographs):
    with pytest.raises(InputError, match=match):
        choose_targets(rule, some(photographs), lite0)


def test_bad_requests_are_refused(lite0, photographs):
    references = some(photographs, 2)
    own = choose_targets("own", references, lite0)
    with pytest.raises(
        InputError, match="the network's own class for camera; interference needs a wrong class"
    ):
        adversarial_interference(lite0, references, target={**own, "motorcycle": 3})
    for change, match in (
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
        ({"objective": "logits"}, "unknown objective 'logits'; did you mean 'logit'"),
        ({"pull": -1}, "must not be negative"),
    ):
        with pytest.raises(InputError, match=match):
            adversarial_noise(lite0, references, **change)
    with pytest.raises(InputError, match=r"made from photographs \(kind RE\), not none"):
        adversarial_noise(lite0, references.select(kind="AN"))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["squeezenet", "lite0"])
@pytest.mark.parametrize("make", [adversarial_noise, adversarial_interference])
def test_sixteen_real_photographs_hold_on_the_png(name, make, shared_data, request, tmp_path):
    model = request.getfixturevalue(name)
    labels = read_table(shared_data / "photos_ccby" / "labels.csv", required=("file",))
    files = [
        shared_data / "photos_ccby" / file for file in labels["file"][:: len(labels) // 16][:16]
    ]
    stimuli = make(model, load_photographs(files, model.preprocessing))
    write_stimuli(stimuli, tmp_path)
    table = confirm_saved(model, stimuli, tmp_path).table
    assert len(table) == 16 and table["success"].all(), table[
        ["id", "steps", "confidence_png", "why_not"]
    ]
    assert table["steps"].mean() < 60


def test_steps_of_nguyen_are_those_of_the_formula(lite0, photographs):
    """Take a step in the public code's own units.

    Pixels are of 0 to 255 minus the mean; rate and wanted rise are as written there.
    """
    references = some(photographs, 2)
    rule = Progress(early=0.03, late=0.1, decay=0.01)
    options = {
        "objective": "probability",
        "pull": 0,
        "noise_sd": 1 / 255,
        "run": RunOptions(batch_size=2),
        "seed": 1,
    }
    made = adversarial_noise(lite0, references, step_rule=rule, max_steps=1, **options)
    own = torch.from_numpy(predict(lite0, references.images).argmax(axis=1))
    mean = np.array(MEAN_IMAGE, dtype=np.float32).reshape(3, 1, 1)
    noise = np.stack(
        [
            generator(1, "noise", stimulus_id).standard_normal((3, 224, 224))
            for stimulus_id in made.ids
        ]
    )
    start = torch.from_numpy((mean + noise / 255).clip(0, 1).astype(np.float32)).requires_grad_(
        True
    )
    p = lite0.probabilities(start).gather(1, own[:, None])[:, 0]
    (gradient,) = torch.autograd.grad(p.sum(), start)
    g, p = gradient.double().numpy() / 255, p.detach().double().numpy()
    wanted = np.minimum(0.03, 0.1 * (1 - p))
    rate = np.minimum(1e12, wanted / (g**2).sum(axis=(1, 2, 3)))
    centered = 255 * (start.detach().double().numpy() - mean)
    expected = np.clip((centered + rate[:, None, None, None] * g) * 0.99 + 255 * mean, 0, 255)
    # of the two iterates the likelier is kept: the one after the step, unless the step went wrong
    moved = np.linalg.norm((expected - 255 * start.detach().numpy()).reshape(2, -1), axis=1)
    after = np.linalg.norm((expected - 255 * made.images).reshape(2, -1), axis=1) / moved
    # near the mean image this network's gradient is rough: a start that differs by 6e-8 changes it
    # by 0.2 %
    assert ((after < 0.02) | (np.abs(after - 1) < 0.02)).all() and (after < 0.02).any()

    made = adversarial_noise(
        lite0, references, step_rule=rule, max_steps=12, confidence=0.5, **options
    )
    assert (made.table["confidence_png"] > 5 * p).all()
    assert made.provenance["settings"]["progress"]["decay"] == 0.01
    with pytest.raises(InputError, match="needs objective 'probability' and pull 0"):
        adversarial_noise(lite0, references, step_rule=rule)
    with pytest.raises(InputError, match=r"^decay is 1; give a number from 0 on and below 1\.$"):
        Progress(decay=1.0)


def _of_the_set(lite0, photographs, own):
    """Use the categories of the photographs' table, where it has them.

    Otherwise the 16 everyday categories are used.
    """
    table = photographs.table
    halves = table.assign(category=["a" if row % 2 else "b" for row in range(len(table))])
    given = dict(zip(halves["id"], halves["category"], strict=True))
    chosen = choose_targets("another_category", replace(photographs, table=halves), lite0, 1)
    for stimulus_id, target in chosen.items():
        like = {given[other] for other in own if own[other] == target}
        assert like and given[stimulus_id] not in like
    with pytest.raises(InputError, match="all photographs are of the category 'a'"):
        choose_targets(
            "another_category", replace(photographs, table=table.assign(category="a")), lite0
        )
    some = table.assign(category=["", *["a"] * (len(table) - 1)])
    with pytest.raises(InputError, match=f"no category is given for {table['id'][0]}"):
        choose_targets("another_category", replace(photographs, table=some), lite0)
    everyday = choose_targets(
        "another_category", replace(photographs, table=table.assign(category="")), lite0
    )
    names = sixteen_classes()
    assert all(
        names[target] != names.get(own[stimulus_id]) for stimulus_id, target in everyday.items()
    )


def test_targets_of_another_category(lite0, photographs):
    own = choose_targets("own", photographs, lite0)
    categories = {index: f"group {index % 3}" for index in range(900)}
    chosen = choose_targets("another_category", photographs, lite0, 4, categories=categories)
    assert chosen == choose_targets(
        "another_category", photographs, lite0, 4, categories=categories
    )
    assert all(
        categories[chosen[stimulus_id]] != categories.get(own[stimulus_id]) for stimulus_id in own
    )
    assert len(set(chosen.values())) > 10
    _of_the_set(lite0, photographs, own)
    with pytest.raises(InputError, match=r"class\(es\) 1000; .* 0 to 999"):
        choose_targets("another_category", photographs, lite0, categories={1000: "a"})
    with pytest.raises(InputError, match="no class of another category"):
        choose_targets(
            "another_category", photographs, lite0, categories=dict.fromkeys(range(1000), "all")
        )
