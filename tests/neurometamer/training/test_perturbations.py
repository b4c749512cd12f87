"""Perturbations of training: sizes, seeds, and equality with other libraries."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.training.perturbations import (
    PERTURBATIONS,
    Batch,
    attack,
    blurred,
    confined,
    drawn_sigmas,
    perturb,
)
from neurometamer.training.recipes import (
    PRESETS,
    USED_BY,
    TrainingRecipe,
    make_training_recipe,
)

OPTIONS = {
    "none": {},
    "adversarial_l2": {"radius": 0.5, "attack_step_size": 0.2, "attack_steps": 3},
    "adversarial_linf": {"radius": 0.03, "attack_step_size": 0.01, "attack_steps": 3},
    "random_l2": {"radius": 0.5},
    "random_linf": {"radius": 0.03},
    "blur": {"sigmas": (0.0, 1.0, 2.0)},
    "gaussian_noise": {"ssnrs": (0.2, 0.8)},
    "fourier_noise": {"ssnrs": (0.2, 0.8)},
}


def small_network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 49, 4))


def batch_of(n_images=6, *, low=0.3, high=0.7, first=0):
    random = np.random.default_rng(0)
    values = random.uniform(low, high, (n_images, 3, 16, 16)).astype(np.float32)
    return Batch(
        images=torch.from_numpy(values),
        labels=torch.arange(n_images) % 4,
        seeds=np.arange(100, 100 + n_images),
        places=np.arange(first, first + n_images),
        n_whole=n_images,
    )


def part_of(batch, rows):
    return Batch(
        images=batch.images[rows],
        labels=batch.labels[rows],
        seeds=batch.seeds[rows],
        places=batch.places[rows],
        n_whole=batch.n_whole,
    )


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_an_image_gets_the_same_whatever_its_batch_and_stays_in_range(name):
    network = small_network().eval()
    recipe = TrainingRecipe(perturbation=name, **OPTIONS[name])
    batch = batch_of()
    whole = perturb(network, batch, recipe)
    alone = torch.cat([perturb(network, part_of(batch, [row]), recipe) for row in range(6)])
    # convolutions of one image and of six differ in the last digits
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert not whole.requires_grad
    if name != "none":
        assert (whole != batch.images).any(dim=(1, 2, 3)).sum() >= 2


def test_random_perturbations_have_exactly_their_size():
    batch = batch_of()
    sphere = TrainingRecipe(perturbation="random_l2", radius=0.5)
    lengths = (perturb(small_network(), batch, sphere) - batch.images).flatten(1).norm(dim=1)
    np.testing.assert_allclose(lengths, 0.5, rtol=1e-5)
    corners = TrainingRecipe(perturbation="random_linf", radius=0.03)
    change = perturb(small_network(), batch, corners) - batch.images
    np.testing.assert_allclose(change.abs(), 0.03, atol=1e-6)
    assert 0.45 < float((change > 0).float().mean()) < 0.55


@pytest.mark.parametrize(("ball", "norm"), [("l2", 2), ("linf", float("inf"))])
def test_an_attack_stays_in_its_ball_and_raises_the_loss(ball, norm):
    network = small_network().eval()
    batch = batch_of()
    radius = 0.5 if ball == "l2" else 0.02
    made = attack(
        network,
        batch.images,
        batch.labels,
        ball=ball,
        radius=radius,
        steps=10,
        step_size=radius / 4,
    )
    sizes = torch.linalg.vector_norm((made - batch.images).flatten(1), norm, dim=1)
    assert (sizes <= radius * (1 + 1e-5)).all()
    losses = [
        nn.functional.cross_entropy(network(images), batch.labels, reduction="none")
        for images in (batch.images, made)
    ]
    assert (losses[1] > losses[0]).all()


@pytest.mark.parametrize("state", ["eval", "train"])
def test_an_attack_leaves_network_and_weights_as_they_were(state):
    network = small_network().train()
    network[3].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch = batch_of()
    options = {"ball": "linf", "radius": 0.03, "steps": 2, "step_size": 0.01}
    attack(network, batch.images, batch.labels, state=state, **options)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert [module.training for module in network] == [True, True, True, False, True, True]
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())


def test_confined_is_a_projection():
    centers = torch.full((2, 3, 4, 4), 0.5)
    random = torch.Generator().manual_seed(0)
    away = centers + torch.randn(centers.shape, generator=random)
    for ball, radius in (("l2", 0.4), ("linf", 0.1)):
        inside = confined(away, centers, ball, radius)
        torch.testing.assert_close(confined(inside, centers, ball, radius), inside)
    small = centers + 1e-3
    torch.testing.assert_close(confined(small, centers, "l2", 0.4), small)


def test_blur_equals_scipy_in_the_middle():
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(1)
    image = random.random((1, 3, 64, 64))
    ours = blurred(torch.from_numpy(image), [2.0]).numpy()
    theirs = gaussian_filter(image, (0, 0, 2, 2), truncate=3, mode="mirror")
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_sigmas_are_drawn_by_their_odds_in_the_share_of_the_batch():
    n_images = 4000
    batch = Batch(
        images=torch.zeros(1),
        labels=torch.zeros(1),
        seeds=np.arange(n_images),
        places=np.arange(n_images),
        n_whole=n_images,
    )
    recipe = TrainingRecipe(perturbation="blur", sigmas=(1.0, 2.0, 4.0), sigma_odds=(2, 1, 1))
    drawn = drawn_sigmas(batch, recipe)
    shares = [float((drawn == sigma).mean()) for sigma in recipe.sigmas]
    # three standard errors of a share of one half are .024
    np.testing.assert_allclose(shares, (0.5, 0.25, 0.25), atol=0.024)
    half = TrainingRecipe(perturbation="blur", sigmas=(3.0,), blurred_share=0.5)
    assert (drawn_sigmas(batch, half) > 0).sum() == n_images / 2
    evenly = TrainingRecipe(perturbation="blur", sigma_range=(0.0, 5.0))
    assert abs(drawn_sigmas(batch, evenly).mean() - 2.5) < 0.1


def test_annealing_takes_sigmas_one_after_another():
    recipe = TrainingRecipe(perturbation="blur", sigmas=(4.0, 2.0, 0.0), sigma_epochs=2)
    drawn = []
    for epoch in range(8):
        batch = Batch(
            images=torch.zeros(1),
            labels=torch.zeros(1),
            seeds=np.arange(3),
            places=np.arange(3),
            n_whole=3,
            epoch=epoch,
        )
        drawn.append(float(drawn_sigmas(batch, recipe)[0]))
    assert drawn == [4, 4, 2, 2, 0, 0, 0, 0]


def test_noise_fills_up_what_the_contrast_loses():
    batch = batch_of(50)
    recipe = TrainingRecipe(perturbation="gaussian_noise", ssnrs=(0.4,))
    noise = perturb(small_network(), batch, recipe) - ((batch.images - 0.5) * 0.4 + 0.5)
    assert abs(float(noise.std()) - 0.1) < 0.001
    none = TrainingRecipe(perturbation="fourier_noise", ssnrs=(1.0,))
    torch.testing.assert_close(perturb(small_network(), batch, none), batch.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perturbation": "blurr"}, "did you mean 'blur'"),
        ({"perturbation": "blur"}, "needs sigmas"),
        ({"perturbation": "random_l2"}, "needs radius"),
        ({"perturbation": "adversarial_l2", "radius": 3.0}, "needs attack_step_size"),
        ({"perturbation": "gaussian_noise"}, "needs ssnrs"),
        ({"sigmas": (1.0,), "sigma_odds": (0.5, 0.5)}, "for 1 value"),
        ({"sigma_range": (3.0, 1.0)}, "the lowest and the highest"),
        ({"sigma_range": (0.0, 2.0), "sigma_epochs": 2}, "in place of sigma_range"),
        ({"ssnrs": (1.5,)}, "ratios from 0 to 1"),
        ({"learning_rate": 0.0}, "positive number"),
        ({"train_batch_size": 10, "accumulate": 3}, "give a multiple"),
        ({"epochs": 0}, "at least 1"),
        ({"momentum": 5.0}, "momentum is 5.0; give at least 0, below 1"),
        ({"warmup_epochs": 40.0}, "there are 30 epochs"),
        ({"sigmas": (4.0, 2.0, 0.0), "sigma_epochs": 20}, "reach 2 of 3 sigmas"),
        (
            {"perturbation": "adversarial_linf", "radius": 8.0, "attack_step_size": 2.0},
            r"radius is 8, but pixels are in \[0, 1\].*0.0314",
        ),
        (
            {"perturbation": "adversarial_linf", "radius": 0.1, "attack_step_size": 2.0},
            "attack_step_size is 2",
        ),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        TrainingRecipe(**changes)


def test_settings_that_nothing_reads_are_refused():
    with pytest.raises(InputError, match=r"sigmas is given, but perturbation 'none'.*blur"):
        make_training_recipe(sigmas=(2.0,))
    with pytest.raises(InputError, match="attack_steps is given, but perturbation 'random_l2'"):
        make_training_recipe(perturbation="random_l2", radius=1.0, attack_steps=3)
    with pytest.raises(InputError, match=r"step_epochs is given, but schedule 'cosine'.*step"):
        make_training_recipe(step_epochs=3)
    with pytest.raises(InputError, match=r"momentum is given, but optimizer 'adamw'.*sgd"):
        make_training_recipe(optimizer="adamw", momentum=0.5)
    # what a preset leaves open may be given, whatever is changed in it
    open_here = {"attack_step_size": 0.5, "perturbation": "none", "augment": "flip"}
    assert make_training_recipe("feather2023_alexnet_l2", **open_here).perturbation == "none"
    assert make_training_recipe(radius=0.0, sigmas=()).sigmas == ()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_ask_for_what_their_source_leaves_open(name):
    values = {
        "attack_step_size": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "sigmas": (4.0,),
        "epochs": 1,
        "train_batch_size": 8,
        "learning_rate": 0.1,
        "schedule": "constant",
        "optimizer": "sgd",
        "step_epochs": 30,
        "step_factor": 0.1,
        "augment": "none",
        "attack_state": "eval",
        "random_start": True,
    }
    open_fields = PRESETS[name].open
    assert not set(open_fields) & set(PRESETS[name].given)
    if open_fields:
        with pytest.raises(InputError, match=f"leaves {open_fields[0]}"):
            make_training_recipe(name)
    recipe = make_training_recipe(name, **{field: values[field] for field in open_fields})
    for field, value in PRESETS[name].given.items():
        assert getattr(recipe, field) == value
    if name != "standard":  # nothing of ours is taken silently
        said = {*open_fields, *PRESETS[name].given}
        unsaid = [field.name for field in fields(recipe) if field.name not in said]
        for field in unsaid:
            setting, readers = USED_BY.get(field, ("", ()))
            is_off = field in OFF or (setting and getattr(recipe, setting) not in readers)
            assert is_off or getattr(recipe, field) in ((), 0), field


OFF = (
    "accumulate",
    "auxiliary_weight",
    "blurred_share",
    "color",
    "precision",
    "step_epochs",
)
"""Settings that stand for doing nothing more than what a source says."""
