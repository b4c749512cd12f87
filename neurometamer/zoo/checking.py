"""Check a network: parameters, preprocessing, stages, depths, answers to labeled images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.summaries import short_repr
from neurometamer.zoo.fetching import check_file, find_weights
from neurometamer.zoo.fingerprints import PREPROCESSING, compare_fingerprint, record_fingerprint
from neurometamer.zoo.loading import load_model
from neurometamer.zoo.sources import find_entry
from neurometamer.zoo.table import Weights

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet

LABELS = ("imagenet_index", "label", "category")
"""Columns in which the class of a photograph is looked for, in this order."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class NetworkCheck:
    """What a check of a network found.

    Attributes
    ----------
    name, weights : str
        Name of the network and of its weights.
    parameters : int
        Number of parameters.
    preprocessing : str
        A key of `neurometamer.zoo.fingerprints.PREPROCESSING`.
    stages : pandas.DataFrame
        One row a stage: stage, path, shape (of one image), depth (20, 50, 80 where it is the module
        at this percentage of depth).
    depths : mapping of str to str
        ``"early"``, ``"middle"``, ``"late"`` to the module path.
    notes : tuple of str
        What must be known of the modules at these depths.
    top1 : float, optional
        Share of the labeled images that the network names.
    n_labeled : int
        Number of labeled images.
    problems : tuple of str
        What is not as the entry says; empty where all is well.

    Examples
    --------
    >>> from neurometamer.zoo import check_network
    >>> check = check_network("squeezenet1_0", weights="random")
    >>> check.describe()[1], check.problems
    ('parameters: 1,248,424', ())
    """

    name: str
    weights: str
    parameters: int
    preprocessing: str
    stages: pd.DataFrame
    depths: dict[str, str]
    notes: tuple[str, ...] = ()
    top1: float | None = None
    n_labeled: int = 0
    problems: tuple[str, ...] = ()

    def describe(self) -> list[str]:
        """Tell the check line by line.

        Returns
        -------
        list of str
            Plain text.
        """
        lines = [
            f"{self.name}: {self.weights}",
            f"parameters: {self.parameters:,}",
            f"preprocessing: {self.preprocessing} ({PREPROCESSING[self.preprocessing]})",
        ]
        for row in self.stages.to_dict("records"):
            path = "" if row["path"] == row["stage"] else f" ({row['path']})"
            lines.append(f"stage {row['stage']}{path}: {row['shape']}")
        for depth, path in self.depths.items():
            lines.append(f"{depth}: {path}")
        lines += [f"note: {note}" for note in self.notes]
        if self.top1 is not None:
            lines.append(f"top-1: {self.top1:.3f} of {self.n_labeled} images")
        return lines


@checked
def check_network(
    name: str,
    *,
    weights: Weights = "default",
    images: str | os.PathLike[str] | None = None,
    record: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> NetworkCheck:
    """Build a network and check it against its entry.

    Parameters
    ----------
    name : str
        See `neurometamer.zoo.model_entry`.
    weights : str or path
        See `neurometamer.zoo.load_model`.
    images : path-like, optional
        Labeled photographs: a table with the columns ``file`` and one of `LABELS` (number or name
        of the class), or a folder with a folder for each class.
    record : bool
        Whether to record what the network says to the known picture, so that later checks of these
        weights on this machine are verified.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    seed : int
        Seed of random weights.

    Returns
    -------
    NetworkCheck
        What was found.

    Raises
    ------
    InputError
        When the network cannot be loaded, no image has a label, or see
        `neurometamer.zoo.record_fingerprint`.

    Examples
    --------
    >>> check = check_network("squeezenet1_0", weights="random")
    >>> check.parameters, check.preprocessing, check.depths["middle"]
    (1248424, 'unverified', 'features.7')
    """
    from stimuli_gen.depth import DEPTHS, find_stage

    _, entry = find_entry(name)
    model = load_model(name, weights=weights, device=device, seed=seed)
    if record:
        record_fingerprint(model)
    n_parameters = sum(weight.numel() for weight in model.network.parameters())
    problems = []
    if entry.parameters not in (None, n_parameters):
        problems.append(f"{n_parameters:,} parameters, not {entry.parameters:,}")
    depths = {}
    notes = []
    for depth, fraction in DEPTHS.items():
        unit = find_stage(model, fraction)
        depths[depth] = unit.path
        if unit.note:
            notes.append(f"{unit.path}: {unit.note}")
    if entry.depths and tuple(depths.values()) != tuple(entry.depths):
        problems.append(
            f"early, middle and late are {', '.join(depths.values())}, not "
            f"{', '.join(entry.depths)}"
        )
    file = find_weights(entry) if str(weights) == "default" else None
    if file is not None:
        try:
            check_file(file, entry.weights_file, entry.sha256)
        except InputError as error:
            problems.append(str(error))
    preprocessing = compare_fingerprint(model)
    if preprocessing == "wrong":
        problems.append(f"preprocessing: {PREPROCESSING['wrong']}; correct mean, std, resizing")
    top1, n_labeled = None, 0
    if images is not None:
        top1, n_labeled = top_1(model, images)
    return NetworkCheck(
        name=model.name,
        weights=model.weights,
        parameters=n_parameters,
        preprocessing=preprocessing,
        stages=stage_table(model, depths),
        depths=depths,
        notes=tuple(notes),
        top1=top1,
        n_labeled=n_labeled,
        problems=tuple(problems),
    )


def stage_table(model: StagedModel, depths: Mapping[str, str]) -> pd.DataFrame:
    """Tabulate the stages with the shapes of one image's activations.

    Parameters
    ----------
    model : StagedModel
        The network.
    depths : mapping of str to str
        ``"early"``, ``"middle"``, ``"late"`` to the module path.

    Returns
    -------
    pandas.DataFrame
        See `NetworkCheck`.
    """
    import pandas as pd
    import torch

    from stimuli_gen.depth import DEPTHS

    percents = {depths[depth]: round(100 * fraction) for depth, fraction in DEPTHS.items()}
    images = torch.full((1, 3, *model.preprocessing.size), 0.5, device=model.device)
    with torch.no_grad():
        outputs = model.stage_outputs(images, list(model.stages))
    rows = []
    for stage, path in model.stages.items():
        shape = " x ".join(str(side) for side in outputs[stage].shape[1:])
        rows.append({"stage": stage, "path": path, "shape": shape, "depth": percents.get(path, "")})
    return pd.DataFrame(rows)


def top_1(model: StagedModel, images: str | os.PathLike[str]) -> tuple[float, int]:
    """Compute the share of labeled images that a network names.

    Parameters
    ----------
    model : StagedModel
        The network.
    images : path-like
        See `check_network`.

    Returns
    -------
    share : float
        From 0 to 1.
    n_images : int
        Number of images.

    Raises
    ------
    InputError
        When the network has no classes, there are no images, or see `class_numbers`.
    """
    from stimuli_gen.models import predict, refuse_embeddings
    from stimuli_gen.photographs import load_photographs

    refuse_embeddings(model)
    photographs = load_photographs(Path(images), model.preprocessing)
    labels = class_numbers(model, photographs, str(images))
    hits = predict(model, photographs.images).argmax(axis=1) == labels
    return float(hits.mean()), len(hits)


def class_numbers(model: StagedModel, photographs: StimulusSet, source: str) -> list[int]:
    """Read the labels of photographs as numbers of classes.

    Parameters
    ----------
    model : StagedModel
        The network; its classes are meant.
    photographs : StimulusSet
        The first of the columns `LABELS` that says something holds numbers or names of classes.
    source : str
        Where they come from, for messages.

    Returns
    -------
    list of int
        One number a photograph.

    Raises
    ------
    InputError
        When there are no labels, or one is no class of the network.
    """
    table = photographs.table
    columns = [column for column in LABELS if column in table and table[column].astype(bool).any()]
    if not columns:
        raise InputError(
            f"{source} has no labels; give one of the columns {', '.join(LABELS)}, or a folder for "
            "each class."
        )
    names = [name.casefold() for name in model.class_names]
    n_called = Counter(names)  # ImageNet has two cranes
    numbers = {name: number for number, name in enumerate(names) if n_called[name] == 1}
    numbers |= {str(number): number for number in range(model.n_classes)}
    labels = []
    unknown = []
    for stimulus_id, value in zip(table["id"], table[columns[0]], strict=True):
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        number = numbers.get(text.strip().replace("_", " ").casefold(), -1)
        labels.append(number)
        if number < 0:
            unknown.append(f"{text} ({stimulus_id})")
    if unknown:
        raise InputError(
            f"{source}: {columns[0]} {name_ids(unknown)} is no class of {model.name}, or the name "
            f"of several; give numbers from 0 to {model.n_classes - 1}, or names such as "
            f"'{model.class_names[0]}'."
        )
    return labels
