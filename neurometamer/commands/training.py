"""The command ``neurometamer train``: a folder of classes in, weights, curves and a page out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.errors import InputError
from neurometamer.provenance import generator
from neurometamer.report.training import write_training_page
from neurometamer.run_options import RunOptions
from neurometamer.store import read_json, write_table, write_text
from neurometamer.training.network_files import network_facts, toml_text
from neurometamer.training.recipes import (
    ADVERSARIAL,
    NOISES,
    RANDOM,
    LoopOptions,
    TrainingRecipe,
    make_training_recipe,
)
from neurometamer.zoo import Weights, find_entry, weights_by_name
from neurometamer.zoo.random_weights import randomize
from neurometamer.zoo.sources import build_network
from neurometamer.zoo.table import GREY, MODELS, ModelEntry

if TYPE_CHECKING:
    import pandas as pd
    import torch

RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
SIGMAS = (0.0, 1.0, 2.0, 4.0, 8.0)
SSNRS = (1.0, 0.8, 0.6, 0.4, 0.2)
SHARES = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Radii, as shares of that of the training."""


@checked
def train(
    *,
    model: str,
    images: str | Path,
    out: str | Path,
    validation: str | Path | None = None,
    weights: Weights = "random",
    size: int | None = None,
    preset: str = "standard",
    curve_images: int = 1024,
    attack_steps_of_curve: int = 50,
    loop: LoopOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[Any, KeywordsOf("neurometamer.training.recipes:TrainingRecipe")],
) -> pd.DataFrame:
    """Train a network: standard, adversarial, on random perturbations, blur or noise.

    Parameters
    ----------
    model : str
        Name of the network, see ``neurometamer models list``, or a TOML file of your own.
    images : path-like
        Folder with one folder of training images a class, as ImageNet has them.
    out : path-like
        Folder for ``best.safetensors``, ``last.safetensors``, ``log.csv``, ``curves.csv``,
        ``report.html`` with their figures, and ``network.toml``, which is the trained network
        wherever a network is named; one that was trained with the color ``gray`` sees luminance
        there, too. A run that was stopped goes on from there.
    validation : path-like, optional
        Folder of validation images; by default a tenth of the training images of each class.
    weights : str or path
        Weights to start from: ``"random"``, ``"default"``, or a file.
    size : int, optional
        Side of the images, pixels; that of the network by default.
    preset : str
        Recipe; what its source leaves open must be given.
    curve_images : int
        Validation images of the accuracy curves, at most.
    attack_steps_of_curve : int
        Steps of the attacks of the accuracy curves.
    loop : LoopOptions, optional
        Workers, checkpoints, and the name of the trained network.
    run : RunOptions, optional
        Device, images at a time in validation, and who is told about progress.
    **options : object
        Settings of the recipe.

    Returns
    -------
    pandas.DataFrame
        ``curves.csv``: accuracy of clear, attacked (L2 or L-infinity, as in the training; else
        L-infinity) and blurred validation images, and of images with the noise or the random
        perturbation of the training. Of several processes (torchrun) the first measures; the
        others return no rows.

    Raises
    ------
    InputError
        When the input cannot be used, or the folder holds another run.

    Examples
    --------
    >>> try:
    ...     train(model="alexnet", images="photos", out="run", preset="standart")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown preset 'standart'; did you mean 'standard'
    """
    import pandas as pd

    from neurometamer.training.curves import accuracy_curve
    from neurometamer.training.loop import train_network
    from neurometamer.training.pictures import part_of, read_labeled_folder, split_images

    recipe = make_training_recipe(preset, **options)
    _, entry = find_entry(model)
    loop = loop or LoopOptions()
    called = _called(loop.name, Path(out))
    weights_by_name([model], weights)
    if curve_images < 1:
        raise InputError(f"curve_images is {curve_images}; give at least 1.")
    if attack_steps_of_curve < 1:
        raise InputError(f"attack_steps_of_curve is {attack_steps_of_curve}; give at least 1.")
    training = read_labeled_folder(images)
    if validation is None:
        training, measured = split_images(training, seed=recipe.seed)
    else:
        measured = read_labeled_folder(validation, training.class_names)
    entry = _for_classes(entry, len(training.class_names), size)
    tables = {"arguments": entry.arguments, "stages": entry.stages}
    toml_text({"name": called, "class_names": training.class_names}, tables)  # refuses before work
    network = _first_network(model, entry, weights, recipe.seed, len(training.class_names))
    run = run or RunOptions()
    trained = train_network(
        network,
        training,
        measured,
        out=out,
        preprocessing=entry.preprocessing,
        preset=preset,
        loop=loop,
        run=run,
        **options,
    )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ["RANK"] != "0":
        return pd.DataFrame()  # the first process measures and writes
    folder = Path(out)
    facts = network_facts(entry, folder, training.class_names, recipe)
    facts = {"name": called, **facts, "trained_on": Path(images).resolve().name}
    write_text(folder / "network.toml", toml_text(facts, tables))
    order = generator(recipe.seed, "curves").permutation(len(measured))
    shown = part_of(measured, order[:curve_images])
    parts = []
    for perturbation, levels in curve_levels(recipe, entry.preprocessing.size).items():
        table = accuracy_curve(
            trained.network,
            shown,
            entry.preprocessing,
            perturbation,
            levels,
            attack_steps=attack_steps_of_curve,
            color="gray" if recipe.color == "gray" else "rgb",
            seed=recipe.seed,
            run=run,
        )
        parts.append(table)
    result = pd.concat(parts, ignore_index=True)
    write_table(folder / "curves.csv", result)
    record = read_json(folder / "provenance.json")
    write_training_page(folder, result, trained.log, record)
    return result


def _first_network(
    model: str, entry: ModelEntry, weights: Weights, seed: int, n_classes: int
) -> torch.nn.Module:
    """Build the network with the weights that its training starts from."""
    known_as, _ = find_entry(model)
    network = build_network(known_as, entry)
    if str(weights) == "random":
        randomize(network, seed)
        return network
    from neurometamer.zoo import load_model

    n_known = len(entry.classes())
    if n_known and n_known != n_classes:
        raise InputError(
            f"weights of {known_as} have {n_known} classes, but there are {n_classes} of images; "
            "start from weights 'random'."
        )
    return load_model(model, weights=weights, device="cpu").network


def curve_levels(recipe: TrainingRecipe, size: Sequence[int]) -> dict[str, list[float]]:
    """Choose what a trained network is measured on.

    Parameters
    ----------
    recipe : TrainingRecipe
        How it was trained: its own perturbation and levels are measured, too.
    size : sequence of int
        Height and width of its images, pixels; wider blurs and longer radii are left out.

    Returns
    -------
    dict of str to list of float
        Perturbation to its levels, weakest first.

    Examples
    --------
    >>> from neurometamer.training import TrainingRecipe
    >>> curve_levels(TrainingRecipe(), (16, 16))["blur"]
    [0.0, 1.0, 2.0, 4.0]
    """
    attack = recipe.perturbation if recipe.perturbation in ADVERSARIAL else ADVERSARIAL[1]
    norm = 1.0 if recipe.perturbation.endswith("linf") else math.sqrt(3 * math.prod(size))
    own = {min(share * recipe.radius, norm) for share in SHARES}
    radii = own if attack == recipe.perturbation else set()
    if attack == ADVERSARIAL[1]:
        radii |= set(RADII)
    widest = (min(size) - 1) / 3
    sigmas = {*SIGMAS, *recipe.sigmas, *recipe.sigma_range}
    levels = {attack: sorted(radii), "blur": sorted(sigma for sigma in sigmas if sigma < widest)}
    if recipe.perturbation in RANDOM:
        levels[recipe.perturbation] = sorted(own)
    if recipe.perturbation in NOISES:
        levels[recipe.perturbation] = sorted({*SSNRS, *recipe.ssnrs}, reverse=True)
    return levels


def _called(name: str, folder: Path) -> str:
    """Choose the name of the trained network, and refuse one that means another network."""
    called = name.strip() or folder.resolve().name
    if not called or called in MODELS or called.endswith(GREY) or set(called) & set(",:="):
        raise InputError(
            f"the trained network would be called '{called}', which is empty, a network of the "
            f"table, or has '{GREY}' at its end or one of , : = in it; give another name (--name)."
        )
    return called


def _for_classes(entry: ModelEntry, n_classes: int, size: int | None) -> ModelEntry:
    """Give a network as many outputs as there are classes, and another input size."""
    if entry.library != "python" and len(entry.classes()) != n_classes:
        entry = replace(entry, arguments={**entry.arguments, "num_classes": n_classes})
    if size is None:
        return entry
    cut = entry.preprocessing
    share = cut.resize / max(cut.size)
    smaller = replace(cut, size=(size, size), resize=round(size * share))
    return replace(entry, preprocessing=smaller)
