"""T3: whether metamers of robust networks are recognized by other networks more often.

That is the headline of Feather et al. (2023) for adversarial training and of Jang & Tong (2024) for
blur, in small. The design was fixed on the validation images of seed 0; test images were not looked
at before:

- Generators: the networks of T2 (standard, adversarial, random, blur), five seeds.
- Stages: see `STAGES`. The late one is `LATE`, behind a mean over positions.
- Images: the first `N_IMAGES` test images. Metamers by `model_metamers`, preset ``pixels`` (steps on
  pixels, no prior of natural images), in the mode ``exact``, `STEPS` steps from noise of full
  contrast (`START`).
- Criteria: the 8-bit image has the class of its photograph in its own network, and matches better
  than `N_PAIRS` pairs of different test images in Spearman's rho, Pearson's r and signal-to-noise
  ratio. The share that passes is told, and rates are of all metamers: at the ten logits no metamer
  of two of the standard networks passes. (Decided after a first run of the five seeds, which left
  out what fails.)
- Evaluators: standard networks of `OTHERS`, other architectures that see the same training images.
  Beside them, told apart: the standard networks of the other seeds, and the generator itself.
  An image is recognized when it gets the digit's true class.
- Intervals: 95 % over seeds (Student's t), differences paired by seed.

What was tried on seed 0 before: three convolutions and a hidden layer instead of the mean over
positions, starts near gray, and 200 or 300 steps; metamers of all trainings were recognized by
other networks at rates of .69 to .96, with small differences. Networks of digits share what they see: a standard
network's metamers change an image along directions that other networks follow, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.digit_networks import (
    dense_network,
    flat_network,
    kept_result,
    pooling_network,
    preprocessing,
    train,
    trained_networks,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from neurometamer.training import LabeledImages
    from stimuli_gen import StimulusSet
    from stimuli_gen.models import StagedModel

STAGES = {"conv3": "5", "logits": "10"}
LATE = "logits"
START: Mapping[str, Any] = {"start": "uniform", "start_spread": 0.5, "step_size": 0.05}
STEPS = 100
N_IMAGES = 30
N_PAIRS = 1000
OTHERS = {"flat": flat_network, "pooling": pooling_network, "dense": dense_network}
FIRST_OTHER = 100
"""Seed of the other architectures."""
OWN = "the generator"
HEADLINE_KINDS = ("other architecture", "standard, other seeds")


def measure_headline(setup: Setup) -> Sequence[Row]:
    """T3.

    Parameters
    ----------
    setup : Setup
        How to run; quick: one seed, 10 images, the late stage.

    Returns
    -------
    sequence of Row
        Share of metamers recognized by networks of other architectures, by training and stage, and
        the differences at the late stage.
    """
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    trained = trained_networks(setup.quick)
    stages = [LATE] if setup.quick else list(STAGES)
    others = other_architectures(trained.parts)
    generators = {}
    for seed, networks in enumerate(trained.networks):
        for name, network in networks.items():
            generators[seed, name] = staged(network, f"{name}, seed {seed}")
    n_images = setup.pick(N_IMAGES, 10)
    tables = []
    for (seed, training), generator in generators.items():
        evaluators = {"other architecture": others}
        for (other_seed, name), other in generators.items():
            if other_seed != seed and name == "standard":
                evaluators.setdefault("standard, other seeds", []).append(other)
        evaluators[OWN] = [generator]
        records = recognized(generator, evaluators, trained.parts["test"], stages, n_images)
        tables.append(pd.DataFrame(records).assign(training=training, seed=seed))
    return headline_rows(pd.concat(tables, ignore_index=True))


def other_architectures(parts: Mapping[str, LabeledImages]) -> list[StagedModel]:
    """Train standard networks of other architectures.

    Parameters
    ----------
    parts : mapping of str to LabeledImages
        training, validation.

    Returns
    -------
    list of StagedModel
        One of each of `OTHERS`.
    """
    evaluators = []
    for name, build in OTHERS.items():
        network = train(build(FIRST_OTHER), parts, FIRST_OTHER)
        evaluators.append(staged(network, name))
    return evaluators


def staged(network: nn.Module, name: str) -> StagedModel:
    """Name the stages of a network.

    Parameters
    ----------
    network : torch.nn.Module
        Of digits.
    name : str
        Its name.

    Returns
    -------
    StagedModel
        With the stages of `STAGES` where it is a `digit_network`, the last layer otherwise.
    """
    from stimuli_gen import stage_model

    last = str(len(list(network.children())) - 1)
    is_generator = STAGES[LATE] == last
    return stage_model(
        network,
        stages=STAGES if is_generator else {"last": last},
        preprocessing=preprocessing(),
        class_names=tuple("0123456789"),
        name=name,
        weights="digits",
        trained=True,
    )


def recognized(
    generator: StagedModel,
    evaluators: Mapping[str, Sequence[StagedModel]],
    images: LabeledImages,
    stages: Sequence[str],
    n_images: int,
) -> list[dict[str, Any]]:
    """Make metamers of a network and ask the evaluators what they see.

    Parameters
    ----------
    generator : StagedModel
        The network.
    evaluators : mapping of str to sequence of StagedModel
        By kind.
    images : LabeledImages
        The first ones are matched, all are in the null distribution.
    stages : sequence of str
        Stages of the generator.
    n_images : int
        Metamers a stage.

    Returns
    -------
    list of dict
        One an evaluator, stage and image: stage, evaluator, kind (of the evaluator), id, hit,
        success.
    """
    digests = {}
    for kind, networks in evaluators.items():
        digests[kind] = [network.digest for network in networks]
    key = {
        "generator": generator.digest,
        "evaluators": digests,
        "stages": list(stages),
        "n_images": n_images,
        "steps": STEPS,
        "start": dict(START),
        "n_pairs": N_PAIRS,
    }
    records: list[dict[str, Any]] = kept_result(
        key, lambda: _seen_metamers(generator, evaluators, images, stages, n_images)
    )
    return records


def _seen_metamers(
    generator: StagedModel,
    evaluators: Mapping[str, Sequence[StagedModel]],
    images: LabeledImages,
    stages: Sequence[str],
    n_images: int,
) -> list[dict[str, Any]]:
    import pandas as pd

    from neurometamer.evaluation import metamer_set, recognition_table
    from stimuli_gen import model_metamers, null_distribution

    references = stimuli_of(images, n_images)
    truth = dict(zip(references.ids, images.labels[:n_images].tolist(), strict=True))
    null = null_distribution(
        generator, stimuli_of(images, len(images)), stages, n_pairs=N_PAIRS, batch_size=100
    )
    kind_of: dict[str, str] = {}
    for kind, networks in evaluators.items():
        kind_of |= {network.name: kind for network in networks}
    everyone = list(itertools.chain.from_iterable(evaluators.values()))
    tables = []
    for stage in stages:
        made = model_metamers(
            generator,
            references,
            stage=stage,
            preset="pixels",
            steps=STEPS,
            nulls=[null],
            **START,
        )
        joined = metamer_set(references, made, name=generator.name, stage=stage)
        table = recognition_table(everyone, [joined], target="truth", ways=[1000], truth=truth)
        success = dict(zip(made.ids, made.table["success"], strict=True))
        table["kind"] = table["evaluator"].map(kind_of)
        table["success"] = table["id"].map(success).astype(bool)
        tables.append(table[["stage", "evaluator", "kind", "id", "hit", "success"]])
    records: Any = pd.concat(tables, ignore_index=True).to_dict("records")
    return list(records)


def stimuli_of(images: LabeledImages, n_images: int) -> StimulusSet:
    """Make a stimulus set of the first images.

    Parameters
    ----------
    images : LabeledImages
        In memory.
    n_images : int
        How many.

    Returns
    -------
    StimulusSet
        References.
    """
    import pandas as pd

    from stimuli_gen import StimulusSet

    assert images.levels is not None
    ids = [f"digit{row}" for row in range(n_images)]
    table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    pixels = (images.levels[:n_images] / 255).astype(np.float32)
    return StimulusSet(images=pixels, table=table)


def headline_rows(table: pd.DataFrame) -> list[Row]:
    """Summarize what was recognized.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `recognized`, with the columns training and seed.

    Returns
    -------
    list of Row
        Rates by stage and training, and differences at the late stage.
    """
    by_kind = table.groupby(["kind", "stage", "training", "seed"])["hit"].mean()
    valid = table.groupby(["stage", "training"])["success"].mean()
    by_others = by_kind["other architecture"]
    rows = []
    for stage, training in itertools.product(table["stage"].unique(), table["training"].unique()):
        rates = by_others[stage, training].to_numpy()
        kinds = by_kind.xs((stage, training), level=("stage", "training")).groupby("kind").mean()
        listed = ", ".join(f"{kind} {rate:.3f}" for kind, rate in kinds.items())
        row = Row(
            what=f"{stage}, {training}: metamers recognized by other architectures",
            value=float(rates.mean()),
            note=f"{_interval(rates)}; {listed}; {valid[stage, training]:.1%} valid",
        )
        rows.append(row)
    for kind, training in itertools.product(HEADLINE_KINDS, ("adversarial", "blur", "random")):
        if kind not in by_kind:
            continue
        gain = (by_kind[kind, LATE, training] - by_kind[kind, LATE, "standard"]).to_numpy()
        row = Row(
            what=f"{LATE}: {training} above standard, recognized by {kind}",
            value=float(gain.mean()),
            note=f"{_interval(gain)}; seeds {', '.join(f'{value:.3f}' for value in gain)}",
        )
        rows.append(row)
    return rows


def _interval(values: np.ndarray) -> str:
    """Say the 95 % interval of a mean over seeds."""
    from scipy import stats

    if len(values) < 2:
        return "one seed"
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    return f"95 % over seeds [{values.mean() - half:.3f}, {values.mean() + half:.3f}]"
