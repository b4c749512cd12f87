"""Steps that make images and metamers, and ask networks about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.commands.metamers import (
    at_one_size,
    knows,
    of_worst_network,
    read_penalties,
    read_stages,
    with_validity,
)
from neurometamer.commands.stimuli import generator_options
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.run_options import RunOptions
from neurometamer.store import file_name, write_table
from neurometamer.study.plan import Progress, Workspace
from neurometamer.zoo import load_model, model_entry
from stimuli_gen.nulls import NullDistribution, null_distribution
from stimuli_gen.photographs import Preprocessing, load_photographs, packaged_photographs
from stimuli_gen.stimuli import (
    StimulusSet,
    concat_stimuli,
    read_stimuli,
    write_pictures,
    write_records,
    write_stimuli,
)

if TYPE_CHECKING:
    from stimuli_gen.matching import Match
    from stimuli_gen.models import StagedModel


def photographs(work: Workspace) -> StimulusSet:
    """Load the regular images as the network under study wants them."""
    entry = model_entry(work.network(work.settings.model.name))
    return load_regular(work, entry.preprocessing)


def load_regular(work: Workspace, wanted: Preprocessing) -> StimulusSet:
    """Load the regular images as a network wants them."""
    source = work.settings.images.source
    if source == "packaged":
        return packaged_photographs(wanted)
    return load_photographs(work.source(source), wanted, **how_read(work))


def how_read(work: Workspace) -> dict[str, Any]:
    """Return how the levels of photographs are read.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    dict
        Arguments of `stimuli_gen.load_photographs`.
    """
    images = work.settings.images
    return {"bits": images.bits or None, "icc": images.icc}


def adversarial(work: Workspace, progress: Progress, *, kind: str) -> Iterable[Path]:
    """Make AN or AI images; each finished image is kept even when the step is interrupted."""
    from stimuli_gen.adversarial import adversarial_interference, adversarial_noise
    from stimuli_gen.greedy import greedy_interference
    from stimuli_gen.synthesis.constraints import read_mask_file
    from stimuli_gen.synthesis.objectives import Progress as ProgressRule

    chosen = getattr(work.settings, kind)
    target = chosen.target
    if target.endswith(".csv"):
        target = str(work.source(target))
    options: dict[str, Any] = {"target": target}
    taken = ["confidence", "max_steps", "step_size", "pull", "objective", "step_rule"]
    if kind == "noise":
        make: Callable[..., StimulusSet] = adversarial_noise
        taken.append("noise_sd")
    elif chosen.method == "greedy":
        make = greedy_interference
        taken = ["confidence", "amplitude", "shared_channels", "max_tries"]
    else:
        make = adversarial_interference
        taken.append("ball")
        options["radius"] = chosen.radius or None
        if chosen.mask:
            options["mask"] = read_mask_file(work.source(chosen.mask))
    for name in taken:
        options[name] = getattr(chosen, name)
    if kind == "noise" and chosen.rule == "nguyen":
        options["objective"] = "probability"
        options["pull"] = 0.0
        options["progress_rule"] = ProgressRule(decay=chosen.decay)
    made = make(
        work.model,
        photographs(work),
        **generator_options(options),
        seed=work.settings.study.seed,
        run=RunOptions(
            batch_size=work.settings.run.batch_size,
            mode=chosen.mode,
            resume=work.state("finished", kind),
            progress=progress,
            on_step=progress.watch,
        ),
    )
    folder = write_records(made, work.state(kind))
    return [folder / "stimuli.h5"]


def stimuli(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Write the images of the study: RE, AN and AI, judged on the PNG files, or ready ones."""
    from stimuli_gen.adversarial import confirm_saved

    folder = work.path("stimuli")
    if not work.settings.images.ready:
        regular = named(work.model, photographs(work))
        noise = read_stimuli(work.state("noise"), in_memory=None)
        interference = read_stimuli(work.state("interference"), in_memory=None)
        images = concat_stimuli([regular, noise, interference])
        write_pictures(images, folder)
        write_records(confirm_saved(work.model, images, folder), folder)
    else:  # images that were made, and shown, before
        source = work.source(work.settings.images.ready)
        if (source / "stimuli.h5").is_file():
            images = read_stimuli(source, in_memory=None)
        else:
            name = work.network(work.settings.model.name)
            preprocessing = model_entry(name).preprocessing
            images = load_photographs(source, preprocessing, **how_read(work))
        write_stimuli(named(work.model, images), folder)
    pictures = [folder / "png" / f"{image_id}.png" for image_id in images.ids]
    return [folder / "stimuli.h5", folder / "stimuli.csv", *pictures]


def named(model: StagedModel, given: StimulusSet) -> StimulusSet:
    """Add the first class of a network and its probability, where the table lacks them.

    A network without classes adds nothing.
    """
    from stimuli_gen.models import predict

    if "top1_index" in given.table or not model.has_classes:
        return given
    probabilities = predict(model, given.as_shown().images).astype(float)
    top = probabilities.argmax(axis=1)
    table = given.table.assign(
        top1_index=top,
        top1_name=[model.class_names[index] for index in top],
        confidence_png=probabilities.max(axis=1),
        model=model.name,
        weights=model.weights,
    )
    return replace(given, table=table)


JUDGED = (
    "evaluator",
    "evaluator_weights",
    "kind",
    "n",
    "says_target",
    "target_probability",
    "says_as_photograph",
)
"""Columns of ``transfer.csv`` about the network that judges."""


def transfer(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Let other networks classify the saved images, each through its own preprocessing.

    There is a row a network and kind of image: how often the network names the target, how sure it
    is of it, and how often it says the same as to the photograph.
    """
    from stimuli_gen.models import predict

    images = shown_stimuli(work)
    names: list[str] = []
    if "target_index" in images.table:
        names = [work.settings.model.name, *work.settings.transfer.models]
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        evaluator = work.model if number == 0 else load_network(work, name)
        seen = seen_by(evaluator, images, work.path("stimuli"))
        probabilities = predict(evaluator, seen.images, work.settings.run.batch_size).astype(float)
        answers = pd.Series(probabilities.argmax(axis=1), index=images.table["id"])
        made = images.table[images.table["kind"] != "RE"]
        for kind, part in made.groupby("kind", sort=False):
            here = part.index.to_numpy()
            targets = part["target_index"].to_numpy(dtype=int)
            of_images = answers.to_numpy()[here]
            of_photographs = answers[part["reference_id"]].to_numpy()
            rows.append(
                {
                    "evaluator": evaluator.name,
                    "evaluator_weights": evaluator.weights,
                    "kind": kind,
                    "n": len(part),
                    "says_target": float(np.mean(of_images == targets)),
                    "target_probability": float(np.mean(probabilities[here, targets])),
                    "says_as_photograph": float(np.mean(of_images == of_photographs)),
                }
            )
        progress(number + 1, len(names))
    model = work.model
    table = pd.DataFrame(rows, columns=list(JUDGED)).assign(
        model=model.name,
        weights=model.weights,
        trained=model.trained,
    )
    return [write_table(work.path("tables", "transfer.csv"), table)]


def shown_stimuli(work: Workspace) -> StimulusSet:
    """Read the study's stimuli as people are shown them: rounded to 8 bits."""
    images = read_stimuli(work.path("stimuli"), in_memory=None)
    return images.as_shown()


def stimulus_table(work: Workspace) -> pd.DataFrame:
    """Read the table of the study's stimuli, without their pixels."""
    images = read_stimuli(work.path("stimuli"), in_memory=False)
    return images.table


def seen_by(model: StagedModel, images: StimulusSet, folder: Path) -> StimulusSet:
    """Present saved images to a network.

    They are shown as they are where the size fits, else through its preprocessing.
    """
    size = tuple(images.images.shape[2:])
    if size == model.preprocessing.size:
        return images
    pictures = pictures_in(folder, images)
    return load_photographs(pictures, model.preprocessing)


def pictures_in(folder: Path, images: StimulusSet) -> list[Path]:
    """Name the PNG files of images in a folder.

    Parameters
    ----------
    folder : Path
        Folder that `stimuli_gen.write_pictures` wrote into.
    images : StimulusSet
        The images.

    Returns
    -------
    list of Path
        One an image, in order.
    """
    names = [f"{file_name(image_id)}.png" for image_id in images.ids]
    return [folder / "png" / name for name in names]


# ----------------------------------------------------------------------------------------- metamers


def set_name(names: Iterable[str]) -> str:
    """Name a set of networks, and its folder.

    Parameters
    ----------
    names : iterable of str
        Networks; ``:`` and ``/`` of their names, which no folder can have, become ``_``; a TOML
        file is named without its ending.

    Returns
    -------
    str
        Names with ``+`` between them.
    """
    named = "+".join(name.removesuffix(".toml") for name in names)
    return re.sub(r"[:/\\]", "_", named)


def make_set(work: Workspace, progress: Progress, *, number: int) -> Iterable[Path]:
    """Make the metamers of one set of networks.

    Each finished image is kept even when the step is interrupted.
    """
    from stimuli_gen.matching import match_stages
    from stimuli_gen.metamers import confirm_metamers, model_metamers

    chosen = work.settings.metamers
    batch_size = work.settings.run.batch_size
    names = chosen.sets[number]
    networks = load_together(work, names, chosen.image_size)
    photographs = chosen_photographs(work, networks[0], "metamers")
    stages = stages_of(chosen.stage, names, networks)
    matches = match_stages(networks, stages)
    nulls = measure_nulls(work, networks, matches, "metamers")
    options: dict[str, Any] = dict(chosen.overrides)
    if chosen.steps:
        options["steps"] = chosen.steps
    made = model_metamers(
        networks,
        photographs,
        stage=stages,
        preset=chosen.preset,
        penalties=read_penalties(chosen.penalties),
        seed=work.settings.study.seed,
        nulls=nulls,
        run=RunOptions(
            batch_size=batch_size,
            mode=chosen.mode,
            resume=work.state("finished", "metamers"),
            progress=progress,
            on_step=progress.watch,
        ),
        **options,
    )
    folder = work.path("metamers", set_name(names))
    write_pictures(concat_stimuli([photographs, made]), folder)
    judged = confirm_metamers(networks, made, photographs, folder, nulls=nulls)
    judged = with_validity(judged, networks, matches, photographs, folder, nulls, batch_size)
    both = concat_stimuli([photographs, judged])
    write_records(both, folder)
    return [folder / "stimuli.h5", folder / "stimuli.csv", *pictures_in(folder, both)]


def ask_evaluators(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Let networks classify the saved metamers, each through its own preprocessing."""
    from stimuli_gen.models import predict

    chosen = work.settings.metamers
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(chosen.evaluators):
        evaluator = load_network(work, name)
        for names in chosen.sets:
            folder = work.path("metamers", set_name(names))
            both = read_stimuli(folder, in_memory=None).as_shown()
            seen = seen_by(evaluator, both, folder)
            probabilities = predict(evaluator, seen.images, work.settings.run.batch_size)
            rows += _metamer_rows(evaluator, names, both.table, probabilities.astype(float))
        progress(number + 1, len(chosen.evaluators))
    return [write_table(work.path("tables", "metamers.csv"), pd.DataFrame(rows))]


def _metamer_rows(
    evaluator: StagedModel, names: tuple[str, ...], table: pd.DataFrame, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Write what an evaluator answers to each metamer and its photograph, a row a metamer."""
    numbers = {image_id: number for number, image_id in enumerate(table["id"])}
    rows = []
    for record in table[table["kind"] == "metamer"].to_dict("records"):
        row = {str(name): value for name, value in record.items()}
        of_metamer = probabilities[numbers[row["id"]]]
        of_photograph = probabilities[numbers[row["reference_id"]]]
        first = int(of_metamer.argmax())
        expected = int(of_photograph.argmax())
        rows.append(
            {
                "set": set_name(names),
                "n_networks": len(names),
                "id": row["id"],
                "reference_id": row["reference_id"],
                "evaluator": evaluator.name,
                "evaluator_weights": evaluator.weights,
                "evaluator_says": evaluator.class_names[first],
                "evaluator_says_photograph": evaluator.class_names[expected],
                "p_photograph": float(of_photograph[expected]),
                "same_class": first == expected,
                "top5": bool(expected in of_metamer.argsort()[-5:]),
                "p": float(of_metamer[expected]),
                "success": str(row["success"]) == "True",
                "why_not": row["why_not"],
                **of_worst_network(row),
                "steps": row["steps"],
                "preset": row["preset"],
                "image_prior": row.get("image_prior", ""),
                "model": row["model"],
                "weights": row["weights"],
            }
        )
    return rows


def load_network(work: Workspace, name: str) -> StagedModel:
    """Load a network, with the weights of the settings where it is the one under study.

    Parameters
    ----------
    work : Workspace
        The study.
    name : str
        Name of the network.

    Returns
    -------
    StagedModel
        On the device of ``[run]``.
    """
    if name == work.settings.model.name:
        return work.model
    return load_model(work.network(name), device=work.settings.run.device)


def load_together(work: Workspace, names: Sequence[str], image_size: int) -> list[StagedModel]:
    """Load networks that are to see the same images.

    Parameters
    ----------
    work : Workspace
        The study.
    names : sequence of str
        Names of the networks.
    image_size : int
        Height and width in pixels; 0: those of the first network, where these are equal.

    Returns
    -------
    list of StagedModel
        In the same order.
    """
    networks = [load_network(work, name) for name in names]
    height, width = networks[0].preprocessing.size
    if image_size or height == width:
        networks = at_one_size(networks, image_size or height)
    return networks


def stages_of(
    text: str, names: Sequence[str], networks: Sequence[StagedModel]
) -> str | list[str] | dict[str, list[str]]:
    """Read the stages of some networks of a section.

    Parameters
    ----------
    text : str
        See `neurometamer.commands.metamers.read_stages`.
    names : sequence of str
        The networks, as the section calls them.
    networks : sequence of StagedModel
        The same, loaded: one of a TOML file has a name of its own.

    Returns
    -------
    str, list of str or dict of str to list of str
        Stages of all, or of each of these networks by its own name.
    """
    stages = read_stages(text)
    if isinstance(stages, dict):
        pairs = zip(names, networks, strict=True)
        return {network.name: stages[name] for name, network in pairs if name in stages}
    return stages


def chosen_photographs(work: Workspace, network: StagedModel, section: str) -> StimulusSet:
    """Load the photographs that a section chooses, as a network sees them.

    Parameters
    ----------
    work : Workspace
        The study.
    network : StagedModel
        The network, or the first of several that see the same images.
    section : str
        Section of the settings with ``photographs``.

    Returns
    -------
    StimulusSet
        Photographs.

    Raises
    ------
    InputError
        When there are fewer, none of that name, or one is named twice.
    """
    images = load_regular(work, network.preprocessing)
    wanted = getattr(work.settings, section).photographs
    return images.select(ids=choose_ids(images.ids, wanted, section))


def choose_ids(ids: Sequence[str], wanted: int | Sequence[str], section: str) -> list[str]:
    """Choose photographs by their number or their ids.

    Parameters
    ----------
    ids : sequence of str
        All photographs.
    wanted : int or sequence of str
        How many of the first ones, 0 for all, or their ids.
    section : str
        Section of the settings, for the message.

    Returns
    -------
    list of str
        Ids.

    Raises
    ------
    InputError
        When there are fewer, or none of that name.
    """
    if not isinstance(wanted, int):
        if again := duplicates(wanted):
            raise InputError(f"[{section}] names {name_ids(again)} more than once; name each once.")
        for image_id in wanted:
            if image_id not in ids:
                raise unknown_name(f"photograph of [{section}]", image_id, ids)
        return list(wanted)
    if not 0 <= wanted <= len(ids):
        raise InputError(
            f"[{section}] asks for {wanted} photographs; there are {len(ids)}. Give photographs "
            f"up to {len(ids)}, or 0 for all."
        )
    return list(ids[: wanted or None])


def measure_nulls(
    work: Workspace, networks: list[StagedModel], matches: Iterable[Match], section: str
) -> list[NullDistribution]:
    """Measure for each network how similar its responses to different photographs are.

    Parameters
    ----------
    work : Workspace
        The study.
    networks : list of StagedModel
        The networks.
    matches : iterable of Match
        What of each is matched.
    section : str
        Section of the settings with ``null_pairs``.

    Returns
    -------
    list of NullDistribution
        One a network; none where no pairs are wanted.

    Raises
    ------
    InputError
        When there are fewer than two photographs.
    """
    n_pairs = getattr(work.settings, section).null_pairs
    if not n_pairs:
        return []
    images = load_regular(work, networks[0].preprocessing)
    if len(images) < 2:
        cure = "; set [metamers] null_pairs = 0" if section == "metamers" else "; give more"
        raise InputError(f"a null needs two photographs, not {name_ids(images.ids)}{cure}.")
    nulls = []
    for network, match in zip(networks, matches, strict=True):
        model = knows(network, match)
        height, width = model.preprocessing.size
        before = "" if section == "metamers" else f"{section}-"
        name = file_name(f"{before}{set_name([model.name])}-{height}x{width}.h5")
        null = null_distribution(
            model,
            images,
            match.stages,
            n_pairs=n_pairs,
            seed=work.settings.study.seed,
            path=work.state("nulls", name),
            batch_size=work.settings.run.batch_size,
        )
        nulls.append(null)
    return nulls
