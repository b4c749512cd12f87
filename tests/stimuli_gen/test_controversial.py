"""Images on which two networks disagree: by their classes, or by where they place them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import log_softmax, logsumexp, softmax
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    at_size,
    confirm_controversial,
    confirm_representations,
    controversial_images,
    controversial_representations,
    packaged_photographs,
    stage_model,
    write_pictures,
)
from stimuli_gen.controversial import class_disagreement
from stimuli_gen.controversial_stages import bank_profiles, stage_disagreement
from stimuli_gen.matching import match_stages

PLAIN = Preprocessing(
    size=(32, 32), resize=36, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)
)
NAMES = ["cat", "dog", "bird", "boat", "car"]


def network(seed, name="", preprocessing=PLAIN, classes=NAMES):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = (
            nn.Conv2d(3, 8, 5, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, len(classes)),
        )
        module = nn.Sequential(*layers)
        with torch.no_grad():
            module[-1].weight *= 20
    return stage_model(
        module,
        stages={"early": "1", "late": "3"},
        preprocessing=preprocessing,
        class_names=classes,
        name=name or f"net{seed}",
        weights="random",
        trained=False,
    )


@pytest.fixture(scope="module")
def pair():
    return [network(0), network(1)]


@pytest.fixture(scope="module")
def photographs():
    everyone = packaged_photographs(PLAIN)
    return everyone.select(ids=everyone.ids[:6])


def probabilities(model, folder, made):
    """What a network says to the files, without our code around it."""
    pictures = [np.asarray(Image.open(folder / "png" / f"{name}.png")) for name in made.ids]
    levels = np.stack(pictures).transpose(0, 3, 1, 2) / 255
    mean, std = (np.reshape(part, (3, 1, 1)) for part in (PLAIN.mean, PLAIN.std))
    images = torch.tensor((levels - mean) / std, dtype=torch.float32)
    with torch.no_grad():
        return softmax(model.network(images).double().numpy(), axis=1)


# ------------------------------------------------------------------------------------------ classes


@pytest.mark.parametrize("readout", ["log_probability", "logit"])
@pytest.mark.parametrize("sharpness", [1.0, 100.0])
def test_the_loss_is_the_smooth_minimum_of_the_paper(pair, photographs, readout, sharpness):
    first, second = np.array([0, 1, 2, 3, 4, 0]), np.array([1, 2, 3, 4, 0, 3])
    images = torch.from_numpy(photographs.images)
    context = {
        "class_a": torch.from_numpy(first),
        "class_b": torch.from_numpy(second),
        "anchor": images - 0.1,
    }
    loss, score = class_disagreement(pair, readout, sharpness, 0.5)(images, context)
    rows = np.arange(len(images))
    logits = [model.logits(images).detach().double().numpy() for model in pair]
    if readout == "logit":
        kept = logits[0][rows, first], logits[1][rows, second]
        values = np.stack([*kept, -logits[0][rows, second], -logits[1][rows, first]])
    else:
        logs = [log_softmax(part, axis=1) for part in logits]
        values = np.stack([logs[0][rows, first], logs[1][rows, second]])
    smallest = -logsumexp(-sharpness * values, axis=0) / sharpness
    pull = 0.5 * 0.01 * images[0].numel()
    np.testing.assert_allclose(loss.detach(), pull - smallest, rtol=1e-4)  # float32
    likely = [softmax(part, axis=1) for part in logits]
    expected = np.minimum(likely[0][rows, first], likely[1][rows, second])
    np.testing.assert_allclose(score.detach(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": "reference", "target_b": "least_likely", "confidence": 0.9},
        {"readout": "logit", "parametrization": "fourier", "step_size": 0.5},
        {"optimizer": "adam", "step_rule": "raw", "step_size": 0.02},
    ],
)
def test_both_networks_are_sure_of_two_classes_on_the_files(pair, photographs, tmp_path, options):
    made = controversial_images(pair, photographs, seed=1, **options)
    folder = write_pictures(made, tmp_path)
    table = confirm_controversial(pair, made, folder).table
    assert table["success"].all() and table["confirmed"].all()
    assert set(table["why_not"]) == {""}
    assert (table["target_index_net0"] != table["target_index_net1"]).all()
    smaller = []
    for model in pair:
        seen = probabilities(model, folder, made)
        target = table[f"target_index_{model.name}"].to_numpy()
        own = seen[np.arange(len(seen)), target]
        # the same network in another batch: float32 rounding
        np.testing.assert_allclose(table[f"confidence_png_{model.name}"], own, atol=1e-4)
        assert table[f"top1_name_{model.name}"].tolist() == [NAMES[index] for index in target]
        smaller.append(own)
    assert np.min(smaller, axis=0).min() >= options.get("confidence", 0.75) - 1e-4
    priors = {
        "reference": "begins as the photograph",
        "fourier": "Fourier steps (1/f amplitudes, colors of photographs)",
    }
    expected = [text for name, text in priors.items() if name in options.values()]
    assert set(table["image_prior"]) == {"; ".join(expected) or "none"}


def test_targets_are_drawn_by_image_and_given_by_name(pair, photographs):
    made = controversial_images(pair, photographs, target_a="cat", max_steps=1)
    assert set(made.table["target_name_net0"]) == {"cat"}
    assert "cat" not in set(made.table["target_name_net1"])
    alone = controversial_images(pair, photographs.select(ids=["cat"]), target_a="cat", max_steps=1)
    row = made.table.set_index("id").loc["cat_controversial"]
    assert alone.table["target_name_net1"].tolist() == [row["target_name_net1"]]
    given = controversial_images(pair, photographs, target_a=0, target_b="dog", max_steps=1)
    assert set(given.table["target_index_net1"]) == {1}


@pytest.mark.parametrize("stage", [None, "early"])
def test_an_image_does_not_depend_on_its_companions_or_interruptions(
    pair, photographs, tmp_path, stage
):
    def make(ids, **run):
        chosen = photographs.select(ids=ids)
        given = {"max_steps": 12, "run": RunOptions(batch_size=4, **run)}
        if stage is None:
            made = controversial_images(pair, chosen, confidence=0.999, **given)
        else:
            made = controversial_representations(
                pair, chosen, stage=stage, bank=photographs, max_agreement=-0.99, **given
            )
        return dict(zip(made.table["reference_id"], made.images, strict=True))

    together = make(photographs.ids)
    for ids in (photographs.ids[2:3], photographs.ids[::-1]):
        for name, image in make(ids).items():
            np.testing.assert_array_equal(image, together[name])

    def stop(step):
        if step.number == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(photographs.ids, resume=tmp_path, on_step=stop)
    for name, image in make(photographs.ids, resume=tmp_path).items():
        np.testing.assert_array_equal(image, together[name])
    assert len(list(tmp_path.glob("*.h5"))) == len(photographs)


def test_what_is_not_reached_is_a_row_that_says_so(pair, photographs, tmp_path):
    made = controversial_images(pair, photographs, confidence=0.999, max_steps=1)
    assert not made.table["success"].any()
    for text in made.table["why_not"]:
        assert "after 1 steps, below 0.999; allow more steps" in text and "p = " in text
    good = controversial_images(pair, photographs)
    folder = write_pictures(good, tmp_path)
    black = Image.new("RGB", (32, 32))
    black.save(folder / "png" / f"{good.ids[2]}.png")  # another picture in its place
    table = confirm_controversial(pair, good, folder).table
    assert table["success"].tolist() == [True, True, False, True, True, True]
    assert "once rounded to 8 bits, below 0.75" in table["why_not"][2]


def test_the_fast_mode_ends_on_the_networks_themselves(pair, photographs):
    made = controversial_images(pair, photographs, run=RunOptions(mode="fast"))
    assert made.table["success"].all()
    assert len(made.provenance["settings"]["drafts"]) == 2
    made = controversial_representations(
        pair, photographs, stage="late", run=RunOptions(mode="fast")
    )
    assert made.table["success"].all() and made.provenance["settings"]["mode"] == "fast"


def test_what_does_not_fit_is_refused(pair, photographs, tmp_path):
    first, second = pair
    other = Preprocessing(
        size=(48, 48), resize=48, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
    )
    larger = network(2, preprocessing=other)
    two = network(3, classes=["yes", "no"])
    cases = [
        ([first], {}, "for two networks, not 1"),
        ([first, second, two], {}, "for two networks, not 3"),
        ([first, first], {}, "networks with the same name: net0"),
        ([first, larger], {}, "different sizes .net0 32 x 32, net2 48 x 48."),
        ([first, two], {}, "net0 and net3 have different classes"),
        (pair, {"target_a": "cat", "target_b": "cat"}, "the same class for astronaut"),
        (pair, {"target_a": "caat"}, "unknown target 'caat'"),
        (pair, {"readout": "logits"}, "unknown readout 'logits'; did you mean 'logit'"),
        (pair, {"sharpness": 0.0}, "sharpness must be above 0"),
        (pair, {"confidence": 1.0}, "confidence must be between 0 and 1"),
        (pair, {"start": "unifrm"}, "unknown start 'unifrm'; did you mean 'uniform'"),
        (pair, {"pull": -1.0}, "pull must not be negative"),
        (pair, {"max_step": 3}, "unknown setting of a search 'max_step'"),
        (pair, {"step_rule": "l3"}, "unknown step rule 'l3'"),
    ]
    for models, options, message in cases:
        with pytest.raises(InputError, match=message):
            controversial_images(models, photographs, **options)
    with pytest.raises(InputError, match=r"32, 32.* net2 sees"):
        controversial_images([larger, at_size(two, 48)], photographs)
    made = controversial_images(pair, photographs, max_steps=1)
    folder = write_pictures(made, tmp_path)
    with pytest.raises(InputError, match=r"made for other networks \(net0, net1\)"):
        confirm_controversial([second, first], made, folder)
    with pytest.raises(InputError, match="no set of controversial images"):
        confirm_controversial(pair, photographs, folder)


# ---------------------------------------------------------------------------------- representations


def profile_correlation(models, stage, image, others):
    """The agreement from NumPy's own correlations."""
    profiles = []
    for model in models:
        both = torch.from_numpy(np.concatenate([image[None], others]))
        responses = model.activations(both, [stage])[stage].flatten(1).detach().double().numpy()
        profiles.append(np.corrcoef(responses)[0, 1:])
    return np.corrcoef(*profiles)[0, 1]


@pytest.mark.parametrize("start", ["uniform", "reference"])
def test_the_networks_place_the_files_elsewhere(pair, photographs, tmp_path, start):
    made = controversial_representations(pair, photographs, stage="late", start=start)
    folder = write_pictures(made, tmp_path)
    table = confirm_representations(pair, made, photographs, folder).table
    assert table["success"].all() and set(table["stage_net1"]) == {"late"}
    images = photographs.images
    for row, name in enumerate(made.ids):
        levels = np.asarray(Image.open(folder / "png" / f"{name}.png")).transpose(2, 0, 1)
        others = np.delete(images, row, axis=0)
        picture = (levels / 255).astype(np.float32)
        expected = profile_correlation(pair, "late", picture, others)
        assert table["agreement_png"][row] == pytest.approx(expected, abs=1e-3)  # float32
        assert expected <= -0.5 + 1e-3
        own = profile_correlation(pair, "late", images[row], others)
        assert table["agreement_reference"][row] == pytest.approx(own, abs=1e-3)
    assert (table["agreement_png"] < table["agreement_reference"]).all()


def test_the_gradient_is_that_of_the_agreement(pair, photographs):
    matches = match_stages([network(0), network(1)], "late")
    for match in matches:
        match.model.network.double()
    bank = [bank_profiles(match, photographs) for match in match_stages(pair, "late")]
    profiles = [
        replace(profile, match=match, rows=profile.rows.double())
        for profile, match in zip(bank, matches, strict=True)
    ]
    objective = stage_disagreement(profiles, 0.1)
    image = torch.from_numpy(photographs.images[:1]).double()
    others = torch.ones(1, len(photographs), dtype=torch.float64)
    others[0, 0] = 0
    context = {"others": others, "anchor": image - 0.01}
    leaf = image.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(leaf, context)[0].sum(), leaf)
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).double()
    step = 1e-6
    ahead, behind = (objective(image + sign * step * direction, context)[0] for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_a_profile_that_cannot_be_is_refused(pair, photographs, tmp_path):
    few = photographs.select(ids=photographs.ids[:4])
    with pytest.raises(InputError, match=r"at least 4 images beside an image's own.* has 3"):
        controversial_representations(pair, few, stage="late")
    with pytest.raises(InputError, match="one stage a network is compared"):
        controversial_representations(pair, photographs, stage=["early", "late"])
    with pytest.raises(InputError, match="unknown stage of net0 'latter'"):
        controversial_representations(pair, photographs, stage="latter")
    with pytest.raises(InputError, match="max_agreement must be between -1 and 1"):
        controversial_representations(pair, photographs, stage="late", max_agreement=-1.0)
    dead = network(4)
    with torch.no_grad():
        dead.network[2].weight.zero_()
        dead.network[2].bias.fill_(-1)
    with pytest.raises(InputError, match="all units respond alike to astronaut"):
        controversial_representations([pair[0], dead], photographs, stage="late")
    made = controversial_representations(pair, few, stage="late", bank=photographs)
    folder = write_pictures(made, tmp_path)
    with pytest.raises(InputError, match="made with another bank"):
        confirm_representations(pair, made, few, folder)


def test_photographs_of_another_kind_are_refused(pair, photographs):
    table = photographs.table.assign(kind="AN")
    with pytest.raises(InputError, match=r"from photographs \(kind RE\), not AN"):
        controversial_images(pair, replace(photographs, table=table))
