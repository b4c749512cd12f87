"""The command ``neurometamer train``: a folder of classes in, weights, curves and a page out."""

from __future__ import annotations

import json
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
from neurometamer.training.recipes import (
    ADVERSARIAL,
    RANDOM,
    LoopOptions,
    TrainingRecipe,
    make_training_recipe,
)
from neurometamer.zoo import Weights, find_entry, weights_by_name
from neurometamer.zoo.random_weights import randomize
from neurometamer.zoo.sources import build_network
from neurometamer.zoo.table import ModelEntry

if TYPE_CHECKING:
    import pandas as pd

RADII = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
SIGMAS = (0.0, 1.0, 2.0, 4.0, 8.0)


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
        wherever a network is named; one that was trained with the color ``gray`` is
        ``network.toml_grey`` there, a view that sees luminance whatever it is shown. A run that was
        stopped goes on from there.
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
        Workers, checkpoints.
    run : RunOptions, optional
        Device, images at a time in validation, and who is told about progress.
    **options : object
        Settings of the recipe.

    Returns
    -------
    pandas.DataFrame
        ``curves.csv``: accuracy of clear, attacked (L2 or L-infinity, as in the training; else
        L-infinity) and blurred validation images. Of several processes (``torchrun --no-python
        neurometamer train …``) the first measures; the others return no rows.

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
    name, entry = find_entry(model)
    weights_by_name([model], weights)
    if curve_images < 1:
        raise InputError(f"curve_images is {curve_images}; give at least 1.")
    training = read_labeled_folder(images)
    if validation is None:
        training, measured = split_images(training, seed=recipe.seed)
    else:
        measured = read_labeled_folder(validation, training.class_names)
    entry = _for_classes(entry, len(training.class_names), size)
    network = build_network(name, entry)
    if str(weights) == "random":
        randomize(network, recipe.seed)
    else:
        from neurometamer.zoo import load_model

        if len(entry.classes()) != len(training.class_names):
            raise InputError(
                f"weights of {name} have {len(entry.classes())} classes, but {images} has "
                f"{len(training.class_names)}; start from weights 'random'."
            )
        network = load_model(model, weights=weights, device="cpu").network
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
    order = generator(recipe.seed, "curves").permutation(len(measured))
    shown = part_of(measured, order[:curve_images])
    tables = []
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
        tables.append(table)
    result = pd.concat(tables, ignore_index=True)
    folder = Path(out)
    write_table(folder / "curves.csv", result)
    description = own_network_text(entry, folder, training.class_names, recipe.perturbation)
    write_text(folder / "network.toml", description)
    record = read_json(folder / "provenance.json")
    write_training_page(folder, result, trained.log, record)
    return result


def curve_levels(recipe: TrainingRecipe, size: Sequence[int]) -> dict[str, list[float]]:
    """Choose what a trained network is measured on.

    Parameters
    ----------
    recipe : TrainingRecipe
        How it was trained: its own attack and radius are among the levels.
    size : sequence of int
        Height and width of its images, pixels; wider blurs are left out.

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
    radii = {0.0, recipe.radius}
    if attack == ADVERSARIAL[1]:
        radii |= set(RADII)
    widest = (min(size) - 1) / 3
    return {attack: sorted(radii), "blur": [sigma for sigma in SIGMAS if sigma < widest]}


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


def own_network_text(
    entry: ModelEntry, folder: Path, class_names: Sequence[str], perturbation: str
) -> str:
    """Describe a trained network in a few lines of TOML, see `neurometamer.zoo.read_own_network`.

    Parameters
    ----------
    entry : ModelEntry
        What was built.
    folder : Path
        Folder of the TOML file and the weights.
    class_names : sequence of str
        Names of the outputs.
    perturbation : str
        That of the training.

    Returns
    -------
    str
        The file.
    """
    cut = entry.preprocessing
    facts: dict[str, Any] = {}
    if entry.library == "python":
        place, _, name = entry.architecture.rpartition(":")
        if place.endswith(".py"):
            place = os.path.relpath(place, folder)
        facts["import"] = f"{place}:{name}"
    else:
        facts |= {"library": entry.library, "architecture": entry.architecture}
    training = "standard"
    if perturbation in ADVERSARIAL:
        training = "adversarial"
    elif perturbation in RANDOM:
        training = "random-perturbation"
    elif perturbation != "none":
        training = "corruptions"
    facts |= {
        "weights": "best.safetensors",
        "training": training,
        "mean": list(cut.mean),
        "std": list(cut.std),
        "size": list(cut.size),
        "resize": cut.resize,
        "interpolation": cut.interpolation,
        "class_names": list(class_names),
    }
    tables = {"arguments": entry.arguments, "stages": entry.stages}
    lines = [f"{key} = {json.dumps(value)}" for key, value in facts.items()]
    for title, table in tables.items():
        if table:
            lines += ["", f"[{title}]"]
        for key, value in table.items():
            lines.append(f"{json.dumps(key)} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"
