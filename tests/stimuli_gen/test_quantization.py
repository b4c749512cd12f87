"""Test metamers whose 8-bit file breaks a criterion.

They are mended where that can be, and reported where it cannot.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions
from stimuli_gen import (
    NullDistribution,
    Preprocessing,
    StimulusSet,
    confirm_metamers,
    judge,
    load_photographs,
    match_stages,
    model_metamers,
    read_stimuli,
    stage_model,
    to_sixteen,
    write_stimuli,
)
from stimuli_gen.categories import CATEGORIES
from stimuli_gen.quantization import (
    _best_of_categories,
    _classes_of_categories,
    _lead,
    asked_of,
    file_objectives,
    mend_files,
    through_rounding,
)
from stimuli_gen.similarity import METRICS
from stimuli_gen.stimuli import from_8bit, to_8bit

SIZE = 16
PLAIN = Preprocessing(
    size=(SIZE, SIZE), resize=SIZE, interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3
)
STILL = {"preset": "fast", "steps": 1, "step_size": 1e-9, "last_step_size": 1e-9}
"""No step that changes anything: the start image is what the file has to keep."""


def small_net(seed=0, name="small", n_classes=10):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [
            nn.Conv2d(3, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=4, padding=1),
            nn.ReLU(),
        ]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 16, n_classes))
    return stage_model(
        network,
        stages={"early": "1", "late": "3"},
        preprocessing=PLAIN,
        name=name,
        weights="random",
        trained=False,
        class_names=[f"class {i}" for i in range(n_classes)],
    )


def photographs_of(images):
    ids = [f"photo {i}" for i in range(len(images))]
    images = np.asarray(images, dtype=np.float32)
    return StimulusSet(
        images=images, table=pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    )


@pytest.fixture(scope="module")
def net():
    return small_net()


@pytest.fixture(scope="module")
def pictures():
    """Smooth and on the 8-bit lattice, as photographs are."""
    coarse = torch.from_numpy(np.random.default_rng(0).uniform(0.1, 0.9, (5, 3, 4, 4)))
    return photographs_of(
        from_8bit(to_8bit(nn.functional.interpolate(coarse, SIZE, mode="bilinear").numpy()))
    )


@pytest.fixture(scope="module")
def near(pictures):
    """Make good matches that rounding makes worse.

    They are a little more than half a level from the photographs.
    """
    signs = np.random.default_rng(1).choice([-0.52, 0.52], pictures.images.shape)
    images = (pictures.images + signs / 255).astype(np.float32)
    return dict(zip(pictures.ids, images, strict=True))


def between(made):
    """Limit that the float pixels of the middle image meet and its file does not."""
    table = made.table.assign(gap=made.table["loss_png"] - made.table["loss_float"])
    row = table.sort_values("gap").iloc[-1]
    return float(row["loss_float"] + row["loss_png"]) / 2


# ---------------------------------------------------------------------------------------- the parts


def test_what_the_objective_sees_is_the_file_and_its_gradient_is_that_of_the_identity():
    images = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    seen = through_rounding(images)
    np.testing.assert_array_equal(
        seen.detach().numpy(), from_8bit(to_8bit(images.detach().numpy()))
    )
    weights = torch.rand(2, 3, 5, 7)
    (gradient,) = torch.autograd.grad((weights * seen.square()).sum(), images)
    torch.testing.assert_close(gradient, 2 * weights * seen.detach())


def test_the_leading_category_is_that_of_the_walk_from_the_top():
    model = small_net(n_classes=1000)
    logits = torch.randn(200, 1000, generator=torch.Generator().manual_seed(0))
    best = _best_of_categories(logits, _classes_of_categories(match_stages(model, "late")[0]))
    walked = to_sixteen(logits.softmax(dim=1).numpy(), "first_mapped")
    assert [CATEGORIES[place] for place in best.argmax(dim=1)] == walked.tolist()
    mine = torch.tensor([CATEGORIES.index(image) for image in walked])
    assert (_lead(best, mine) > 0).all() and (_lead(best, (mine + 1) % 16) < 0).all()
    assert _classes_of_categories(match_stages(small_net(), "late")[0]) is None


def test_the_score_is_met_only_when_error_class_and_category_of_the_file_are(pictures):
    model = small_net(n_classes=1000)
    (match,) = match_stages(model, "late")
    (objective,) = file_objectives([match])
    images = torch.from_numpy(pictures.images)
    own = model.logits(images).argmax(dim=1)
    category = [
        CATEGORIES.index(category) for category in to_sixteen(model.probabilities(images).numpy())
    ]

    def score(error=0.1, turn=0, shift=None):
        requests = [
            asked_of(
                match,
                error=error,
                top_class=int(own[row]) + turn,
                category=-1 if shift is None else (category[row] + shift) % 16,
            )
            for row in range(5)
        ]
        context = {
            name: torch.from_numpy(np.stack([request[name] for request in requests]))
            for name in requests[0]
        }
        moved = images + 0.3 / 255  # rounds back to the photograph
        return objective(moved, {**match.anchors(images), **context})[1]

    assert (score() > 0).all() and (score(shift=0) > 0).all()
    assert (score(turn=1) < 0).all() and (score(shift=1) < 0).all()
    assert score(error=0.1).max() <= 1


# ------------------------------------------------------------------------------------------- mended


def test_an_error_that_rounding_breaks_is_mended(net, pictures, near, tmp_path):
    given = {"stage": "late", "start_images": near, **STILL}
    limit = between(model_metamers(net, pictures, **given, file_rounds=0))
    broken = model_metamers(net, pictures, **given, max_error=limit, file_rounds=0)
    only = broken.table["why_not"].str.startswith(
        "valid in float, but not once rounded to 8 bits: small: loss"
    )
    assert (
        only.any()
        and not broken.table["success"][only].any()
        and (broken.table["file_steps"] == 0).all()
    )
    made = model_metamers(net, pictures, **given, max_error=limit)
    table = made.table
    assert (
        table["success"].all()
        and (table["why_not"] == "").all()
        and (table["loss_png"] <= limit).all()
    )
    assert ((table["file_steps"] > 0) == only).all()
    lattice = from_8bit(to_8bit(made.images))
    np.testing.assert_array_equal(
        made.images[only], lattice[only]
    )  # so float and file are the same
    np.testing.assert_array_equal(made.images[~only], broken.images[~only])
    np.testing.assert_allclose(
        table["l2_8bit"],
        np.linalg.norm((255 * (lattice - pictures.images)).reshape(5, -1), axis=1),
        rtol=1e-6,
    )
    write_stimuli(made, tmp_path)
    confirmed = confirm_metamers(net, read_stimuli(tmp_path), pictures, tmp_path)
    pd.testing.assert_frame_equal(
        confirmed.table.drop(columns="confirmed"), table.drop(columns="confirmed")
    )


def boundary(net, photograph, other):
    """Find an image between two pictures whose class changes only when it is rounded.

    Halving the interval leads to the boundary; around it, float pixels and rounded ones decide
    otherwise.
    """

    def class_at(image):
        with torch.no_grad():
            return int(
                net.logits(torch.from_numpy(image[None]).repeat(4, 1, 1, 1)).argmax(dim=1)[0]
            )

    own, low, high = class_at(photograph), 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        image = (photograph + np.float32(middle) * (other - photograph)).astype(np.float32)
        if class_at(image) == own:
            low = middle
            if class_at(from_8bit(to_8bit(image))) != own:
                return image
        else:
            high = middle
    return None


def test_a_class_that_rounding_flips_is_mended_without_a_worse_match(net, pictures):
    starts = {}
    for stimulus_id, photograph in zip(pictures.ids, pictures.images, strict=True):
        for other in pictures.images[::-1]:
            judged = boundary(net, photograph, other)
            if judged is not None:
                starts[stimulus_id] = judged
    assert len(starts) >= 2
    broken_ids = list(starts)
    given = {"stage": "late", "start_images": starts, **STILL}
    some = pictures.select(ids=broken_ids)
    before = model_metamers(net, some, **given, file_rounds=0).table
    assert before["same_class_1000_float"].all() and not before["same_class_1000"].any()
    assert (
        before["why_not"]
        .str.contains(r"rounded to 8 bits: small says class \d instead of class \d")
        .all()
    )
    after = model_metamers(net, some, **given).table
    assert after["success"].all() and (after["file_steps"] > 0).all()
    assert (after["loss_png"] <= before["loss_png"]).all()


def test_what_no_file_can_meet_is_reported_and_the_float_image_kept():
    """Test images whose pixels are half a level from every file.

    Each 8-bit image is half a level wrong.
    """
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 10, bias=False))
    model = stage_model(
        network,
        stages={"pixels": "0"},
        preprocessing=PLAIN,
        name="pixels",
        weights="random",
        trained=False,
        class_names=[f"class {i}" for i in range(10)],
    )
    levels = np.random.default_rng(0).integers(20, 236, (2, 3, SIZE, SIZE)) + 0.5
    photographs = photographs_of(levels / 255)
    floor = 0.5 * np.sqrt(3 * SIZE * SIZE) / np.linalg.norm(levels.reshape(2, -1), axis=1)
    made = model_metamers(
        model,
        photographs,
        stage="pixels",
        start="reference",
        max_error=0.9 * float(floor.min()),
        file_rounds=2,
        **STILL,
    )
    assert not made.table["success"].any() and set(made.table["file_steps"]) == {40}
    expected = (
        "^valid in float, but not once rounded to 8 bits, nor after 40 steps on rounded images: "
        ".*pixels: loss"
    )
    assert made.table["why_not"].str.contains(expected).all()  # the class may change, too
    np.testing.assert_allclose(made.table["loss_png"], floor, rtol=1e-4)
    np.testing.assert_allclose(made.images, photographs.images, atol=1e-7)


def null_between(model, photographs, stage, starts):
    """Make a null whose maxima lie between those of float images and those of their files."""
    ids = list(photographs.ids)
    images = np.stack([starts[stimulus_id] for stimulus_id in ids])
    table = pd.DataFrame(
        {"id": [f"m {stimulus_id}" for stimulus_id in ids], "kind": "metamer", "reference_id": ids}
    )
    judged = judge(
        [(model, stage)], photographs, StimulusSet(images=images, table=table), batch_size=4
    )
    values = [
        (judged[f"float_{metric}"].min() + judged[f"png_{metric}"].max()) / 2 for metric in METRICS
    ]
    assert all(
        judged[f"float_{metric}"].min() > judged[f"png_{metric}"].max() for metric in METRICS
    )
    return NullDistribution(
        ids=photographs.ids,
        pairs=np.array([[0, 1], [1, 0]]),
        stages=(stage,),
        values=np.array([[[value - 30, value] for value in values]]),
        provenance={"model_digest": model.digest, "model": model.name, "weights": model.weights},
    )


def test_criteria_of_the_null_are_asked_of_every_network_and_mended(pictures, near, tmp_path):
    pair = [small_net(0, "one", 1000), small_net(1, "two", 1000)]
    some = pictures.select(
        ids=[pictures.ids[3]]
    )  # one, so that a null lies between its float image and its file
    nulls = [null_between(model, some, "late", near) for model in pair]
    given = {"stage": "late", "start_images": near, "nulls": nulls, **STILL}
    before = model_metamers(pair, some, **given, file_rounds=0).table
    assert not before["success"].any() and not before[["valid_one", "valid_two"]].any(axis=None)
    assert (
        before["why_not"]
        .str.contains("one late: not above the null in spearman, pearson, snr_db_power")
        .all()
    )
    assert before["why_not"].str.contains("two late: not above the null").all()
    made = model_metamers(pair, some, **given)
    after = made.table
    assert after["success"].all() and after[["valid_one", "valid_two"]].all(axis=None)
    columns = [f"{metric}_png_{model.name}" for metric in METRICS for model in pair]
    assert (after[columns].to_numpy() > before[columns].to_numpy()).all()
    write_stimuli(made, tmp_path)
    confirmed = confirm_metamers(pair, made, some, tmp_path, nulls=nulls).table
    pd.testing.assert_frame_equal(
        confirmed.drop(columns="confirmed"), after.drop(columns="confirmed")
    )
    with pytest.raises(InputError, match="judged with other null distributions"):
        confirm_metamers(pair, made, some, tmp_path)
    easier = model_metamers(pair, some, **given, null_quantile=0.5, file_rounds=0).table
    assert easier["success"].all()  # the smaller of two values is one below
    with pytest.raises(InputError, match="above 0 and at most 1"):
        model_metamers(pair, some, **given, null_quantile=0)


# --------------------------------------------------------------------------------- the loop's rules


def test_mending_does_not_depend_on_companions_and_goes_on_where_it_was(
    net, pictures, near, tmp_path, monkeypatch
):
    given = {"stage": "late", "start_images": near, **STILL, "file_rounds": 3}
    limit = between(model_metamers(net, pictures, **given, max_error=1e-9))
    uninterrupted = model_metamers(net, pictures, **given, max_error=limit)
    mended = uninterrupted.table.index[uninterrupted.table["file_steps"] > 0]
    assert len(mended) >= 2
    stimulus_id = pictures.ids[mended[-1]]
    alone = model_metamers(
        net,
        pictures.select(ids=[stimulus_id]),
        **given,
        max_error=limit,
        run=RunOptions(batch_size=4),
    )
    np.testing.assert_array_equal(alone.images[0], uninterrupted.images[mended[-1]])
    assert alone.table["file_steps"][0] == uninterrupted.table["file_steps"][mended[-1]]

    first = model_metamers(
        net,
        pictures,
        **{**given, "file_rounds": 1},
        max_error=limit,
        run=RunOptions(resume=tmp_path),
    )
    kept = {file.name for file in tmp_path.iterdir()}
    assert len(kept) == 5 + len(mended)
    again = model_metamers(net, pictures, **given, max_error=limit, run=RunOptions(resume=tmp_path))
    np.testing.assert_array_equal(again.images, uninterrupted.images)
    pd.testing.assert_frame_equal(again.table, uninterrupted.table)
    assert (first.table["file_steps"] <= uninterrupted.table["file_steps"]).all()
    monkeypatch.setattr(
        "stimuli_gen.matching.Match.error", lambda *given: pytest.fail("computed again")
    )
    monkeypatch.setattr(
        "stimuli_gen.criteria._errors", lambda match, references, images: np.zeros(len(images))
    )
    model_metamers(net, pictures, **given, max_error=limit, run=RunOptions(resume=tmp_path))


def test_bad_rounds_are_refused(net, pictures):
    with pytest.raises(InputError, match="file_rounds must not be negative"):
        model_metamers(net, pictures, stage="late", **STILL, file_rounds=-1)
    with pytest.raises(InputError, match="at least 1 step, not 0"):
        mend_files([], {}, dict, dict, rounds=1, round_steps=0)


@pytest.mark.data
def test_successes_of_a_trained_network_are_successes_of_the_files(
    squeezenet, shared_data, tmp_path
):
    files = sorted((shared_data / "photos_ccby").glob("*.jpg"))[:1]
    photographs = load_photographs(files, squeezenet.preprocessing)
    random, size = np.random.default_rng(1), photographs.images.shape
    levels = random.choice([-1, 1], size) * random.uniform(
        0.5, 0.9, size
    )  # all rounded to a whole level
    images = np.clip(photographs.images + levels / 255, 0, 1).astype(np.float32)
    starts = dict(zip(photographs.ids, images, strict=True))
    given = {"stage": "late", "start_images": starts, **STILL, "run": RunOptions(batch_size=1)}
    before = model_metamers(squeezenet, photographs, **given, file_rounds=0).table
    limit = 0.85 * float(before["loss_png"][0])
    assert before["loss_float"][0] < limit
    made = model_metamers(squeezenet, photographs, **given, max_error=limit)
    assert made.table["success"].all() and (made.table["file_steps"] > 0).all()
    write_stimuli(made, tmp_path)
    again = confirm_metamers(squeezenet, read_stimuli(tmp_path), photographs, tmp_path).table
    pd.testing.assert_frame_equal(
        again.drop(columns="confirmed"), made.table.drop(columns="confirmed")
    )
