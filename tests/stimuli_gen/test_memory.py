"""Memory that runs out at each place where images are computed: work goes on with fewer at a time.

The networks refuse batches above a size, as an allocator would; the numbers are those of a network
that does not.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer import compute_activations
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    Preprocessing,
    StepOptions,
    StimulusSet,
    adversarial_interference,
    attack_images,
    greedy_interference,
    judge,
    model_metamers,
    null_distribution,
    predict,
    stage_model,
)
from stimuli_gen.batches import Parts, half_shape, in_batches, out_of_memory
from stimuli_gen.synthesis.loop import OPTIMIZERS, Start, descend

PLAIN = Preprocessing(
    size=(16, 16), resize=16, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
)
ERRORS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:75] DefaultCPUAllocator: not enough memory: you tried"
    ),
    "numpy": lambda: MemoryError("Unable to allocate 2.00 GiB for an array"),
}


class Small(nn.Module):
    """A layer that holds at most so many images, with gradients or without."""

    def __init__(self, most, error="cpu", gradients=None):
        super().__init__()
        self.most, self.error, self.gradients, self.largest = most, error, gradients, 0

    def forward(self, images):
        counts = self.gradients is None or self.gradients == torch.is_grad_enabled()
        if counts and len(images) > self.most:
            raise ERRORS[self.error]()
        self.largest = max(self.largest, len(images))
        return images

    def extra_repr(self):
        return ""


def network(most=10**6, **how):
    torch.manual_seed(0)
    layers = [
        Small(most, **how),
        nn.Conv2d(3, 6, 3, 2),
        nn.Softplus(),
        nn.Conv2d(6, 8, 3),
        nn.Tanh(),
    ]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return stage_model(
        nn.Sequential(*layers),
        stages={"early": "2", "late": "4"},
        preprocessing=PLAIN,
        class_names=list("abcd"),
        name="small",
        weights="random",
        trained=False,
    )


@pytest.fixture(scope="module")
def photographs():
    images = np.random.default_rng(0).uniform(0.2, 0.8, (6, 3, 16, 16)).astype(np.float32)
    ids = [f"p{number}" for number in range(6)]
    return StimulusSet(
        images=images, table=pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    )


def pixels(results):
    return np.asarray(results.images)


PLACES = {
    "activations": lambda model, references: compute_activations(model, references).read("late"),
    "probabilities": lambda model, references: predict(model, references.images),
    "null": lambda model, references: (
        null_distribution(model, references, ["early", "late"]).values
    ),
    "metamers": lambda model, references: pixels(
        model_metamers(
            model, references, stage="late", preset="pixels", steps=4, max_error=0.5, file_rounds=1
        )
    ),
    "interference": lambda model, references: pixels(
        adversarial_interference(model, references, max_steps=3)
    ),
    "attack": lambda model, references: pixels(attack_images(model, references, "pgd_l2", steps=3)),
    "greedy": lambda model, references: pixels(greedy_interference(model, references, max_tries=5)),
}


@pytest.mark.parametrize("gradients", [None, True, False])
@pytest.mark.parametrize("place", PLACES)
def test_work_goes_on_with_fewer_images_and_the_same_numbers(place, gradients, photographs):
    make = PLACES[place]
    expected = make(network(), photographs)
    model = network(2, gradients=gradients)
    np.testing.assert_allclose(make(model, photographs), expected, atol=2e-6)
    assert model.network[0].largest >= 2


@pytest.mark.parametrize("error", ERRORS)
def test_every_way_to_say_it_is_understood_and_too_little_for_one_image_is_told(error, photographs):
    model = network(3, error=error)
    np.testing.assert_allclose(
        predict(model, photographs.images), predict(network(), photographs.images), atol=1e-6
    )
    model.network[0].most = 0
    for make in PLACES.values():
        with pytest.raises(
            InputError,
            match=r"not enough memory on cpu for one image of \(16, 16\) pixels; free some",
        ):
            make(model, photographs)


def test_judging_against_a_null(photographs):
    made = model_metamers(
        network(), photographs, stage="late", preset="pixels", steps=2, file_rounds=0
    )
    null = null_distribution(network(), photographs, ["late"])
    expected = judge([(network(), "late")], photographs, made, nulls=[null])
    results = judge([(network(1), "late")], photographs, made, nulls=[null])
    pd.testing.assert_frame_equal(results, expected, atol=1e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("fails_at", ["buffers", "projection"])
def test_a_step_is_taken_once_although_memory_ran_out_in_it(optimizer, fails_at, monkeypatch):
    """The optimizer's buffers, or what comes after them, fit two images only."""
    goal = torch.linspace(0.2, 0.8, 3 * 8 * 8).view(1, 3, 8, 8)

    def objective(images, _):
        loss = (images - goal).square().flatten(1).sum(dim=1)
        return loss, -loss

    def project(images):
        if fails_at == "projection" and len(images) > limit:
            raise ERRORS["cuda"]()
        return images.clamp(0, 1)

    plain = OPTIMIZERS[optimizer]

    def holding_two(here, state):
        if fails_at == "buffers" and len(here.images) > limit:
            raise ERRORS["cuda"]()
        return plain(here, state)

    def run():
        return descend(
            objective,
            [str(number) for number in range(4)],
            lambda stimulus_id: Start(
                image=np.full((3, 8, 8), 0.1 * int(stimulus_id), dtype=np.float32), context={}
            ),
            threshold=torch.inf,
            steps=StepOptions(
                step_size=0.05, max_steps=8, step_rule="raw", optimizer=optimizer, keep="last"
            ),
            project=project,
        )

    limit = 100
    expected = run()
    monkeypatch.setitem(OPTIMIZERS, optimizer, holding_two)
    limit = 1
    results = run()
    for stimulus_id, result in expected.items():
        np.testing.assert_allclose(results[stimulus_id].image, result.image, atol=1e-6)
        assert results[stimulus_id].steps == result.steps == 8


def test_chunks_are_opened_smaller_when_their_buffers_do_not_fit(photographs, monkeypatch):
    from stimuli_gen.synthesis import batch as places

    expected = pixels(adversarial_interference(network(), photographs, max_steps=3))

    class Chunk(places.Chunk):
        def __init__(self, size, *rest):
            if size > 1:
                raise ERRORS["cuda"]()
            super().__init__(size, *rest)

    monkeypatch.setattr(places, "Chunk", Chunk)
    np.testing.assert_allclose(
        pixels(adversarial_interference(network(), photographs, max_steps=3)), expected, atol=2e-6
    )


def test_other_errors_are_not_taken_for_it():
    def broken(_):
        raise RuntimeError("shapes differ")

    images, cpu = np.zeros((2, 3, 4, 4), dtype=np.float32), torch.device("cpu")
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches(broken, images, 2, cpu))
    with pytest.raises(RuntimeError, match="shapes differ"):
        Parts(2, (4, 4), cpu)(broken)
    assert not out_of_memory(RuntimeError("shapes differ"))
    said = (
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "std::bad_alloc",
        "HIP out of memory.",
    )
    assert all(out_of_memory(RuntimeError(words)) for words in said)
    assert out_of_memory(torch.OutOfMemoryError("Allocation on device"))
    assert [half_shape(size) for size in (16, 12, 8, 4, 3, 2)] == [8, 4, 4, 2, 1, 1]


# ------------------------------------------------------------- inside of torch.no_grad and the like


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_images_are_made_where_the_caller_has_no_gradients(context, photographs):
    expected = {place: make(network(), photographs) for place, make in PLACES.items()}
    with context():
        inside = {place: make(network(), photographs) for place, make in PLACES.items()}
        fast = pixels(attack_images(network(), photographs, steps=2, run=RunOptions(mode="fast")))
        gradients = torch.is_grad_enabled()
    assert not gradients and np.isfinite(fast).all()
    for place, results in inside.items():
        np.testing.assert_allclose(results, expected[place], atol=1e-6, err_msg=place)
    made_inside = network()
    with context():
        made_inside = network()
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    assert torch.autograd.grad(made_inside.logits(image).sum(), image)[0].abs().max() > 0
