import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.store import InputError, read_table
from stimuli_gen import (
    adversarial_interference,
    adversarial_noise,
    choose_targets,
    concat_stimuli,
    confirm_saved,
    load_photographs,
    predict,
    read_stimuli,
    write_stimuli,
)
from stimuli_gen.adversarial import MEAN_IMAGE

COLUMNS = [
    "id", "kind", "reference_id", "category", "target_index", "target_name", "confidence_float", "confidence_png",
    "top1_index", "top1_name", "steps", "success", "why_not", "seed", "model", "weights", "l2_8bit", "linf_8bit",
    "note",
]  # fmt: skip


def some(photographs, n=3):
    return photographs.select(ids=["camera", "motorcycle", "moon"][:n])


def test_noise_and_interference_hold_on_the_saved_png(lite0, photographs, tmp_path):
    references = some(photographs)
    noise = adversarial_noise(lite0, references, batch_size=3)
    interference = adversarial_interference(lite0, references, batch_size=3)
    everything = concat_stimuli([references, noise, interference])
    write_stimuli(everything, tmp_path)
    table = confirm_saved(lite0, everything, tmp_path).table
    assert set(COLUMNS) <= set(table.columns)
    assert table["id"].tolist()[3:5] == ["camera_AN", "motorcycle_AN"]
    made = table[table["kind"] != "RE"]
    assert made["success"].all() and made["confirmed"].all()
    assert (made["confidence_png"] >= 0.99).all() and (made["top1_index"] == made["target_index"]).all()
    assert table["success"].isna().tolist() == [True] * 3 + [False] * 6

    own = predict(lite0, references.images).argmax(axis=1)
    assert table["target_index"][3:6].tolist() == own.tolist()
    assert (table["target_index"][6:].to_numpy() != own).all()
    pixels = np.stack([np.asarray(Image.open(tmp_path / "png" / f"{one}.png")) for one in table["id"]]).astype(float)
    change = pixels[6:] - pixels[:3]
    np.testing.assert_allclose(made["l2_8bit"][3:], np.sqrt((change**2).sum(axis=(1, 2, 3))))
    np.testing.assert_array_equal(made["linf_8bit"][3:], np.abs(change).max(axis=(1, 2, 3)))
    assert made["linf_8bit"][3:].max() < 40  # people see the photograph
    np.testing.assert_allclose(pixels[3:6].mean(axis=(0, 1, 2)), 255 * np.array(MEAN_IMAGE), atol=2)
    pixels -= pixels.mean(axis=(1, 2), keepdims=True)  # the mean color is the same in all noise
    correlations = [np.corrcoef(pixels[i].ravel(), pixels[i + 3].ravel())[0, 1] for i in range(3)]
    assert np.abs(correlations).max() < 0.05  # nothing of the photograph in the noise


def test_same_seed_same_images_whatever_the_company_and_after_an_interruption(lite0, photographs, tmp_path):
    settings = {"batch_size": 2, "max_steps": 2, "seed": 3}
    together = adversarial_noise(lite0, some(photographs), **settings)

    class Killed(Exception):
        pass

    def kill(done, total):
        raise Killed

    with pytest.raises(Killed):
        adversarial_noise(lite0, some(photographs, 1), resume=tmp_path, progress=kill, **settings)
    resumed = adversarial_noise(lite0, some(photographs), resume=tmp_path, **settings)
    assert resumed.digest == together.digest
    np.testing.assert_array_equal(read_stimuli(write_stimuli(resumed, tmp_path / "out")).images, together.images)
    other = adversarial_noise(lite0, some(photographs, 1), resume=tmp_path, **(settings | {"seed": 4}))
    assert np.abs(other.images[0] - together.images[0]).max() > 0.1


def test_what_was_not_reached_is_kept_and_explained(alexnet, photographs, tmp_path):
    stimuli = adversarial_interference(alexnet, some(photographs, 2), max_steps=1, batch_size=2)
    write_stimuli(stimuli, tmp_path)
    confirmed = confirm_saved(alexnet, stimuli, tmp_path).table
    assert len(confirmed) == 2 and not confirmed["success"].any()
    assert confirmed["why_not"].str.contains(r"p = 0\.\d+ after 1 steps, below 0.99; allow more steps").all()
    assert (confirmed["note"] == "untrained network").all()


def test_confirmation_reads_the_files(lite0, photographs, tmp_path):
    stimuli = adversarial_interference(lite0, some(photographs, 1), batch_size=2)
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
    stimuli = adversarial_interference(alexnet, some(photographs, 1), max_steps=1, batch_size=2)
    with pytest.raises(InputError, match="made for another network than efficientnet_lite0"):
        confirm_saved(lite0, stimuli, tmp_path)


def test_targets_by_rule(lite0, photographs, tmp_path):
    references = some(photographs)
    found = predict(lite0, references.images)
    assert list(choose_targets("own", references, lite0).values()) == found.argmax(axis=1).tolist()
    assert list(choose_targets("least_likely", references, lite0).values()) == found.argmin(axis=1).tolist()
    draws = [choose_targets("random", references, lite0, seed)["moon"] for seed in range(5)]
    assert len(set(draws)) > 1 and found[2].argmax() not in draws
    assert draws[2] == choose_targets("random", references.select(ids=["moon"]), lite0, 2)["moon"]
    assert choose_targets("class 7", references, lite0) == dict.fromkeys(references.ids, 7)
    assert choose_targets(7, references, lite0) == choose_targets("7", references, lite0)
    targets = pd.DataFrame({"id": ["moon", "camera", "motorcycle"], "target": ["3", "class 4", "5"]})
    targets.to_csv(tmp_path / "targets.csv", index=False)
    expected = {"camera": 4, "motorcycle": 5, "moon": 3}
    assert choose_targets(str(tmp_path / "targets.csv"), references, lite0) == expected
    assert choose_targets({"camera": "class 4", "motorcycle": 5.0, "moon": np.int64(3)}, references, lite0) == expected


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ({"camera": 1}, r"no target for the photograph\(s\) motorcycle, moon"),
        ({"camera": 1, "motorcycle": 1, "moon": 1, "sun": 1}, r"id\(s\) that are no photographs: sun"),
        (1000, r"target 1000 of 'camera' is out of range; efficientnet_lite0 has the classes 0 to 999"),
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
    with pytest.raises(InputError, match="the network's own class for camera; interference needs a wrong class"):
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
    files = [shared_data / "photos_ccby" / one for one in labels["file"][:: len(labels) // 16][:16]]
    stimuli = make(model, load_photographs(files, model.preprocessing))
    write_stimuli(stimuli, tmp_path)
    table = confirm_saved(model, stimuli, tmp_path).table
    assert len(table) == 16 and table["success"].all(), table[["id", "steps", "confidence_png", "why_not"]]
    assert table["steps"].mean() < 60
