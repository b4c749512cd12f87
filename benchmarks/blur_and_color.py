"""T4: networks trained on clear or blurred, color or gray images, in a design of two by two.

The design is that of Jeon, Parde & Tong (abstract, Vision Sciences Society 2025): blur in training ×
color in training, metamers of the last convolutional stage, judged by the other networks. Their
abstract has no numbers; all sizes here are ours, fixed on the validation images of seed 0. Images are
synthetic color digits: scikit-learn's digits in a hue that mostly agrees with their class, on crops
of photographs, no photograph in two parts. What is measured holds for them and for small networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bars import Row, Setup

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from neurometamer.training import LabeledImages
    from stimuli_gen import Preprocessing, StimulusSet
    from stimuli_gen.models import StagedModel

SIZE = 32
LAST_CHANNELS = 16
AGREEMENT = 0.7
"""Share of digits in the hue of their class."""
SATURATIONS = (0.0, 0.9)
SHIFTS = (3, 5, 7)
"""Classes between shape and hue where both disagree."""
BLUR = {"perturbation": "blur", "sigmas": (0.0, 2.0, 4.0, 6.0)}
SIGMA = 5.0
"""Blur of the blurred test images, pixels; in no training."""
SSNR = 0.3
"""Of the noisy test images: signal to signal and noise."""
CELLS: Mapping[str, Mapping[str, Any]] = {
    "blur-color": {**BLUR, "color": "rgb"},
    "blur-gray": {**BLUR, "color": "gray"},
    "clear-color": {"color": "rgb"},
    "clear-gray": {"color": "gray"},
}
"""In the order of `neurometamer.evaluation.two_by_two.CONTRASTS`: blur before clear, color before
gray."""
EFFECTS = {"a": "blur - clear", "b": "color - gray", "interaction": "interaction"}
EFFECT_OF = {"training": EFFECTS["a"], "color": EFFECTS["b"]}
SEEN_BY = {
    "all evaluators": "all others",
    "color": "other networks that see color",
    "gray": "other networks that see gray",
}
"""Level of the evaluators to words."""
COMMON = {"train_batch_size": 63, "augment": "none", "optimizer": "adamw", "learning_rate": 0.001}
N_SEEDS = 5
N_EPOCHS = 20
STAGE = "conv4"
STAGES = {"conv1": "1", "conv2": "3", "conv3": "5", STAGE: "7", "fc1": "10", "logits": "11"}
N_METAMERS = 50
STEPS = 300


def color_network(seed: int) -> nn.Module:
    """Build a small network of four convolutions and two linear layers.

    Parameters
    ----------
    seed : int
        Of its weights.

    Returns
    -------
    torch.nn.Module
        For 32 pixels and ten classes; 64 numbers behind the last convolution.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for n_before, n_after in itertools.pairwise((3, 32, 64, 64, LAST_CHANNELS)):
            layers += [nn.Conv2d(n_before, n_after, 3, stride=2, padding=1), nn.ReLU()]
        flat = LAST_CHANNELS * (SIZE // 16) ** 2
        layers += [nn.Flatten(), nn.Linear(flat, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(*layers)


def cut_to(side: int) -> Preprocessing:
    """Make the preprocessing of the small networks.

    Parameters
    ----------
    side : int
        Pixels.

    Returns
    -------
    Preprocessing
        Mean and standard deviation of one half.
    """
    from stimuli_gen import Preprocessing

    half = (0.5, 0.5, 0.5)
    return Preprocessing(
        size=(side, side), resize=side, interpolation="bilinear", mean=half, std=half
    )


def backgrounds() -> list[np.ndarray]:
    """Load the photographs inside scikit-image and scikit-learn.

    Returns
    -------
    list of ndarray
        (3, 96, 96) uint8 each.
    """
    from stimuli_gen import packaged_photographs

    images = np.asarray(packaged_photographs(cut_to(96)).images)
    return list(np.round(255 * images).astype(np.uint8))


def train_cells(
    parts: Mapping[str, LabeledImages], folder: Path, seed: int, n_epochs: int
) -> dict[str, nn.Module]:
    """Train a network of each cell from the same first weights.

    Parameters
    ----------
    parts : mapping of str to LabeledImages
        training, validation.
    folder : Path
        For what is written.
    seed : int
        Of weights and draws.
    n_epochs : int
        Of each.

    Returns
    -------
    dict of str to torch.nn.Module
        Cell to network.
    """
    from neurometamer.training import train_network

    networks = {}
    for name, recipe in CELLS.items():
        settings = {**COMMON, **recipe, "epochs": n_epochs, "seed": seed}
        networks[name] = train_network(
            color_network(seed),
            parts["training"],
            parts["validation"],
            out=folder / f"{name}-{seed}",
            preprocessing=cut_to(SIZE),
            **settings,
        ).network
    return networks


def staged(network: nn.Module, cell: str, seed: int) -> StagedModel:
    """Give a network its stages; one that was trained on gray images sees luminance only.

    Parameters
    ----------
    network : torch.nn.Module
        Trained.
    cell : str
        Of `CELLS`.
    seed : int
        Of its training, for its name.

    Returns
    -------
    StagedModel
        Named ``<cell>-<seed>``; a grayscale view's name ends in ``_grey``.
    """
    from stimuli_gen import greyscale_view, stage_model

    model = stage_model(
        network,
        stages=STAGES,
        preprocessing=cut_to(SIZE),
        class_names=tuple("0123456789"),
        name=f"{cell}-{seed}",
        weights="synthetic color digits",
        trained=True,
        device="cpu",
    )
    return greyscale_view(model) if CELLS[cell]["color"] == "gray" else model


def measure_network(
    network: nn.Module, cell: str, seed: int, test: LabeledImages, conflict: Mapping[int, Any]
) -> dict[str, float]:
    """Measure what a network recognizes, and by what.

    Parameters
    ----------
    network : torch.nn.Module
        Trained.
    cell : str
        Of `CELLS`.
    seed : int
        Of the noise.
    test : LabeledImages
        Test images.
    conflict : mapping of int to LabeledImages
        Shift of the hue to the same digits in the hue of other classes.

    Returns
    -------
    dict of str to float
        Measure to value.
    """
    from neurometamer.training import accuracy_curve
    from stimuli_gen import predict

    measures = {}
    own = str(CELLS[cell]["color"])
    views = {"color": own, "gray": "gray"}
    for words, color in views.items():
        curve = accuracy_curve(network, test, cut_to(SIZE), "blur", [0, SIGMA], color=color)
        clear, blurred = curve["accuracy"]
        measures[f"accuracy on clear {words} images"] = clear
        measures[f"accuracy on {words} images blurred by {SIGMA:g} px"] = blurred
    noisy = accuracy_curve(
        network, test, cut_to(SIZE), "gaussian_noise", [SSNR], color=own, seed=seed
    )
    measures[f"accuracy on color images in noise (SSNR {SSNR:g})"] = noisy["accuracy"].item()
    model = staged(network, cell, seed)
    by_shape, by_hue = [], []
    for shift, images in conflict.items():
        said = predict(model, images.levels.astype(np.float32) / 255).argmax(axis=1)
        by_shape.append(np.mean(said == images.labels))
        by_hue.append(np.mean(said == (images.labels + shift) % 10))
    shape, hue = float(np.mean(by_shape)), float(np.mean(by_hue))
    measures["decisions for the shape, hue of another class"] = shape
    measures["decisions for the hue of another class"] = hue
    return measures


def effects_of(values: np.ndarray) -> dict[str, tuple[float, float, float]]:
    """Compute main effects and interaction, with intervals over seeds.

    Parameters
    ----------
    values : ndarray, shape (n_seeds, 4)
        Cells in the order of `CELLS`.

    Returns
    -------
    dict of str to tuple of float
        Effect to its mean and its 95 % interval: Student's, of the effects of single seeds, whose
        four networks have the same first weights.
    """
    from scipy.stats import t

    from neurometamer.evaluation.two_by_two import CONTRASTS

    effects = {}
    for name, weights in CONTRASTS.items():
        of_seeds = values @ np.array(weights)
        mean = float(of_seeds.mean())
        half = np.nan
        if len(of_seeds) > 1:
            error = of_seeds.std(ddof=1) / np.sqrt(len(of_seeds))
            half = float(error * t.ppf(0.975, len(of_seeds) - 1))
        effects[name] = (mean, mean - half, mean + half)
    return effects


def photographs_of(images: LabeledImages, n_images: int) -> StimulusSet:
    """Take test images as references of metamers.

    Parameters
    ----------
    images : LabeledImages
        Test images.
    n_images : int
        How many, from the first.

    Returns
    -------
    StimulusSet
        With ids ``digit0`` ….
    """
    import pandas as pd

    from stimuli_gen import StimulusSet

    assert images.levels is not None
    names = [f"digit{row}" for row in range(n_images)]
    table = pd.DataFrame({"id": names, "kind": "RE", "reference_id": names})
    pixels = images.levels[:n_images].astype(np.float32) / 255
    return StimulusSet(images=pixels, table=table)


def observe(
    models: Mapping[str, StagedModel], test: LabeledImages, folder: Path, n_images: int, steps: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Let all networks judge the metamers of the others, by ``neurometamer evaluate``.

    Parameters
    ----------
    models : mapping of str to StagedModel
        Networks, by cell and seed.
    test : LabeledImages
        Test images: no network was trained on any.
    folder : Path
        For the evaluation.
    n_images, steps : int
        Test images of which metamers are made, and steps.

    Returns
    -------
    tests : pandas.DataFrame
        ``observer_tests.csv``, and the same as color and as gray networks see it.
    cells : pandas.DataFrame
        ``observer_conditions.csv``.
    own : pandas.DataFrame
        Share of metamers with their photograph's class in the own network, and their pixel error,
        by cell.
    """
    import pandas as pd

    from neurometamer.commands import EvaluationSettings, evaluate_metamer_sets
    from neurometamer.evaluation import metamer_set, observer_tests
    from neurometamer.store import read_table
    from stimuli_gen import model_metamers

    references = photographs_of(test, n_images)
    sets, rows, own = [], [], []
    for name, model in models.items():
        made = model_metamers(model, references, stage=STAGE, preset="pixels", steps=steps)
        sets.append(metamer_set(references, made, name=model.name, stage="late"))
        training, color, _ = name.split("-")
        rows.append({"network": model.name, "training": training, "color": color})
        same = float(made.table["same_class_1000"].astype(bool).mean())
        error = float(made.table["loss_png"].median())
        own.append({"cell": f"{training}-{color}", "same_class": same, "error": error})
    networks = pd.DataFrame(rows)
    truth = dict(zip(references.ids, test.labels[:n_images].tolist(), strict=True))
    settings = EvaluationSettings(
        parts=("recognizability", "observers"),
        ways=(1000,),
        target="truth",
        truth=truth,
        n_resamples=1000,
        n_permutations=1000,
    )
    evaluate_metamer_sets(sets, list(models.values()), folder, settings, networks=networks)
    tests = read_table(folder / "observer_tests.csv")
    hits = read_table(folder / "recognition.csv")
    by_color = observer_tests(
        hits,
        networks,
        evaluator_factor="color",
        validity="not judged",
        n_permutations=1000,
        n_resamples=1000,
    )
    cells = read_table(folder / "observer_conditions.csv")
    return pd.concat([tests, by_color]), cells, pd.DataFrame(own).groupby("cell").mean()


def measure_blur_and_color(setup: Setup) -> Sequence[Row]:
    """T4.

    Parameters
    ----------
    setup : Setup
        How to run.

    Returns
    -------
    sequence of Row
        Main effects and interactions; nothing has a bound.
    """
    import torch

    from neurometamer.training import color_digits

    torch.set_num_threads(1)
    photographs = backgrounds()
    parts = color_digits(photographs, agreement=AGREEMENT, saturations=SATURATIONS, size=SIZE)
    conflict = {}
    for shift in SHIFTS:
        other = color_digits(photographs, agreement=1.0, hue_shift=shift, size=SIZE)
        conflict[shift] = other["test"]
    values: dict[str, list[list[float]]] = {}
    models = {}
    for seed in range(setup.pick(N_SEEDS, 2)):
        networks = train_cells(parts, setup.scratch, seed, setup.pick(N_EPOCHS, 2))
        of_cells = []
        for cell, network in networks.items():
            of_cells.append(measure_network(network, cell, seed, parts["test"], conflict))
            models[f"{cell}-{seed}"] = staged(network, cell, seed)
        for measure in of_cells[0]:
            cells = [measured[measure] for measured in of_cells]
            values.setdefault(measure, []).append(cells)
    rows = []
    for measure, of_seeds in values.items():
        rows += _effect_rows(measure, np.array(of_seeds))
    folder = setup.scratch / "observers"
    n_images, steps = setup.pick(N_METAMERS, 6), setup.pick(STEPS, 20)
    tests, cells, own = observe(models, parts["test"], folder, n_images, steps)
    return rows + _observer_rows(tests, cells, own)


def _effect_rows(measure: str, values: np.ndarray) -> list[Row]:
    """Tell the three effects of one measure."""
    means = dict(zip(CELLS, values.mean(axis=0), strict=True))
    cells = ", ".join(f"{cell} {mean:.3f}" for cell, mean in means.items())
    rows = []
    for name, (mean, low, high) in effects_of(values).items():
        note = f"95 % [{low:.3f}, {high:.3f}] over {len(values)} seeds; {cells}"
        rows.append(Row(what=f"{measure}: {EFFECTS[name]}", value=mean, note=note))
    return rows


def _observer_rows(tests: pd.DataFrame, cells: pd.DataFrame, own: pd.DataFrame) -> list[Row]:
    """Tell what the other networks recognize of the metamers."""
    labels = cells["a"] + "-" + cells["b"]
    means = ", ".join(f"{cell} {value:.3f}" for cell, value in zip(labels, cells["value"]))
    matched = []
    for cell, row in own.iterrows():
        matched.append(f"{cell} {row['same_class']:.2f} at an error of {row['error']:.3f}")
    rows = [
        Row(
            what="metamers with their photograph's class in the own network",
            value=float(own["same_class"].mean()),
            note=f"saved as 8 bits; not judged against a null: {', '.join(matched)}",
        )
    ]
    tests = tests[tests["unit"] == "generators"]
    tests = tests.drop_duplicates(["evaluator_level", "effect"])
    for _, test in tests.iterrows():
        level = SEEN_BY.get(test["evaluator_level"])
        if level is None:  # the difference of the two
            continue
        note = (
            f"95 % [{test['low']:.3f}, {test['high']:.3f}] over {test['n_generators']} networks, "
            f"p {test['p']:.3f} (Holm {test['p_holm']:.3f}); {test['n_images']} images"
        )
        if level == "all others":
            note += f"; {means}"
        effect = EFFECT_OF.get(test["effect"], test["effect"])
        what = f"metamers of {STAGE} recognized by {level}: {effect}"
        rows.append(Row(what=what, value=float(test["value"]), note=note))
    return rows
