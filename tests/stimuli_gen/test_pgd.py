import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import Limits, adversarial_interference, attack_images, predict, stage_model
from stimuli_gen.photographs import Preprocessing
from stimuli_gen.stimuli import to_8bit
from stimuli_gen.synthesis.constraints import (
    BALLS,
    digest_masks,
    linf_on_8_bits,
    random_in_ball,
    read_mask_file,
)

IDS = ["camera", "motorcycle", "moon"]


class Linear(nn.Module):
    """A classifier whose best attack is known: its gradient is the same everywhere."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 2, bias=False)
        with torch.no_grad():
            weight = torch.linspace(-1, 1, 3 * 8 * 8)
            self.layer.weight.copy_(torch.stack([weight, -weight]))

    def forward(self, images):
        return self.layer(images.flatten(1))


@pytest.fixture(scope="module")
def linear():
    wanted = Preprocessing(
        size=(8, 8), resize=8, interpolation="bilinear", mean=(0.5,) * 3, std=(1.0,) * 3
    )
    return stage_model(
        Linear(),
        stages={"layer": "layer"},
        preprocessing=wanted,
        class_names=["a", "b"],
        name="linear",
        weights="",
        trained=True,
    )


@pytest.fixture(scope="module")
def grays(photographs):
    from dataclasses import replace

    levels = np.random.default_rng(0).integers(100, 150, (3, 3, 8, 8))
    return replace(photographs.select(ids=IDS), images=(levels / 255).astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), radius=st.floats(0.01, 20), spread=st.floats(0, 3))
def test_projections_are_those_of_the_formula_and_leave_no_ball(seed, radius, spread):
    rng = np.random.default_rng(seed)
    anchors = rng.random((2, 3, 5, 4))
    images = anchors + spread * rng.standard_normal(anchors.shape)
    change = images - anchors
    norm = np.sqrt((change**2).sum(axis=(1, 2, 3), keepdims=True))
    expected = {
        "l2": anchors + change * np.minimum(1, radius / np.maximum(norm, 1e-300)),
        "linf": anchors + np.clip(change, -radius, radius),
        "none": images,
    }
    for ball, project in BALLS.items():
        results = project(torch.from_numpy(images), torch.from_numpy(anchors), radius).numpy()
        np.testing.assert_allclose(results, expected[ball], atol=1e-12)


def test_random_starts_fill_the_ball():
    for ball, norm in (
        ("l2", np.linalg.norm),
        ("linf", lambda stimulus_id: np.abs(stimulus_id).max()),
    ):
        drawn = [random_in_ball(np.random.default_rng(i), (3, 1, 1), ball, 2.0) for i in range(300)]
        lengths = np.array([norm(change) for change in drawn])
        assert lengths.max() <= 2
        assert (
            abs(np.mean(lengths < 2 * 0.5 ** (1 / 3)) - 0.5) < 0.1
        )  # half of the volume in three dimensions


def test_the_attack_on_a_linear_network_is_the_known_best_one(linear, grays):
    """Maximum of wᵀδ: L∞ radius · sign(w); L2 radius · w / ‖w‖."""
    weight = torch.linspace(-1, 1, 3 * 8 * 8).view(3, 8, 8).numpy()
    own = predict(linear, grays.images).argmax(axis=1)
    toward = np.where(own == 1, 1, -1)[:, None, None, None]  # away from the own class
    best = {"pgd_linf": 8 / 255 * np.sign(weight), "pgd_l2": 0.5 * weight / np.linalg.norm(weight)}
    for attack, change in best.items():
        radius = 8 / 255 if attack == "pgd_linf" else 0.5
        made = attack_images(
            linear, grays, attack, radius=radius, steps=100, run=RunOptions(batch_size=2)
        )
        np.testing.assert_allclose(made.images - grays.images, toward * change, atol=1e-5)
        target = {
            stimulus_id: int(1 - results)
            for stimulus_id, results in zip(grays.ids, own, strict=True)
        }
        aimed = attack_images(
            linear,
            grays,
            attack,
            radius=radius,
            target=target,
            steps=100,
            run=RunOptions(batch_size=2),
        )
        np.testing.assert_allclose(
            aimed.images, made.images, atol=1e-5
        )  # two classes: away from one is to the other
        assert aimed.table["targeted"].tolist() == ["True"] * 3


def test_attacks_fool_a_trained_network_inside_their_ball(lite0, photographs, tmp_path):
    references = photographs.select(ids=IDS)
    options = {"steps": 4, "run": RunOptions(batch_size=3), "seed": 2}
    own = predict(lite0, references.images).argmax(axis=1)
    for attack, radius in (("pgd_linf", 2.7 / 255), ("pgd_l2", 1.5)):
        made = attack_images(
            lite0,
            references,
            attack,
            radius=radius,
            **(options | {"run": RunOptions(batch_size=3, resume=tmp_path / attack)}),
        )
        assert made.ids == tuple(f"{stimulus_id}_{attack}" for stimulus_id in IDS)
        table = made.table
        assert table["success"].all() and (table["top1_index"].to_numpy() != own).all()
        assert (table["steps"] == 4).all() and set(table["kind"]) == {"control"}
        again = attack_images(
            lite0,
            references,
            attack,
            radius=radius,
            **(options | {"run": RunOptions(batch_size=3, resume=tmp_path / attack)}),
        )
        np.testing.assert_array_equal(again.images, made.images)
        if attack == "pgd_linf":
            assert table["linf_8bit"].max() <= 2 and table["linf"].max() <= 2 / 255 + 1e-6
        else:
            assert table["l2"].max() <= 1.5 + 1e-5
            assert table["l2_8bit"].max() <= table["radius_8bit"][0] + 0.5 * np.sqrt(
                references.images[0].size
            )
    company = attack_images(
        lite0, references.select(ids=IDS[::-1]), "pgd_l2", radius=1.5, **options
    )
    np.testing.assert_array_equal(company.images[::-1], made.images)
    early = attack_images(lite0, references, "pgd_linf", radius=8 / 255, stop_early=True, **options)
    assert early.table["success"].all() and (early.table["steps"] < 4).all()


def test_pixels_outside_the_mask_stay_exactly_as_they_are(lite0, photographs):
    references = photographs.select(ids=IDS[:2])
    mask = np.zeros((224, 224), dtype=bool)
    mask[40:180, 60:200] = True
    for made in (
        attack_images(
            lite0,
            references,
            "pgd_l2",
            radius=2.0,
            steps=3,
            mask=mask,
            run=RunOptions(batch_size=2),
        ),
        adversarial_interference(
            lite0, references, limits=Limits(mask=mask), max_steps=4, run=RunOptions(batch_size=2)
        ),
        adversarial_interference(
            lite0,
            references,
            limits=Limits(mask=mask, ball="l2", radius=1.0),
            max_steps=3,
            run=RunOptions(batch_size=2),
        ),
    ):
        np.testing.assert_array_equal(made.images[:, :, ~mask], references.images[:, :, ~mask])
        assert np.abs(made.images - references.images)[:, :, mask].max() > 0.005
    limited = made.images.astype(float) - references.images
    assert np.sqrt((limited**2).sum(axis=(1, 2, 3))).max() <= 1 + 1e-5


def test_masks_come_from_image_files(tmp_path):
    levels = np.array([[0, 127, 128], [255, 3, 200]], dtype=np.uint8)
    Image.fromarray(levels).save(tmp_path / "mask.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "mask.png"), [[0, 0, 1], [1, 0, 1]])
    with pytest.raises(InputError, match=r"none.png does not exist"):
        read_mask_file(tmp_path / "none.png")


def test_interference_in_a_ball(lite0, photographs):
    references = photographs.select(ids=IDS)
    made = adversarial_interference(
        lite0,
        references,
        limits=Limits(ball="linf", radius=4 / 255),
        max_steps=60,
        run=RunOptions(batch_size=3),
    )
    assert made.table["success"].all()
    levels = to_8bit(made.images).astype(int) - to_8bit(references.images)
    assert np.abs(levels).max() <= 4
    assert made.provenance["settings"]["radius"] == 4 / 255
    ones = np.ones((4, 4))
    assert digest_masks(ones) == digest_masks(ones > 0) != digest_masks({"moon": ones})
    assert (
        linf_on_8_bits(8 / 255) == 8 / 255
        and linf_on_8_bits(0.03) == 7 / 255
        and linf_on_8_bits(0.001) == 0.001
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"attack": "pgd"}, "unknown attack 'pgd'"),
        ({"radius": -1.0}, "linf ball needs a radius above 0"),
        ({"mask": np.ones((4, 4))}, r"mask of 'camera' is \(4, 4\)"),
        ({"mask": np.full((8, 8), 2)}, "must hold 0 and 1"),
        ({"mask": np.zeros((8, 8))}, "at least one 1"),
        ({"mask": {"moon": np.ones((8, 8))}}, "no mask for 'camera'"),
        ({"target": "own"}, "network's own class"),
        ({"steps": 0}, "must be positive"),
    ],
)
def test_bad_attacks_are_refused(linear, grays, options, match):
    with pytest.raises(InputError, match=match):
        attack_images(linear, grays, **options)
    if "radius" in options:
        with pytest.raises(InputError, match="needs a ball"):
            adversarial_interference(linear, grays, limits=Limits(radius=1.0))
