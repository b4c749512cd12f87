"""Steps that make images and metamers, and ask networks about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.commands.metamers import (
    at_one_size,
    knows,
    of_worst_network,
    read_stages,
    with_validity,
)
from neurometamer.commands.stimuli import only_asked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.store import file_name, write_table
from neurometamer.study.plan import Progress, Workspace

if TYPE_CHECKING:
    from stimuli_gen.matching import Match
    from stimuli_gen.models import StagedModel
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.photographs import Preprocessing
    from stimuli_gen.stimuli import StimulusSet


def photographs(work: Workspace) -> StimulusSet:
    """Load the regular images as the network under study wants them."""
    from neurometamer.zoo import model_entry

    return load_regular(work, model_entry(work.settings.model.name).preprocessing)


def load_regular(work: Workspace, wanted: Preprocessing) -> StimulusSet:
    """Load the regular images as a network wants them."""
    from stimuli_gen.photographs import load_photographs, packaged_photographs

    source = work.settings.images.source
    if source == "packaged":
        return packaged_photographs(wanted)
    return load_photographs(work.source(source), wanted, **_reading(work))


def _reading(work: Workspace) -> dict[str, Any]:
    """Say how the levels of photographs are read."""
    images = work.settings.images
    return {"bits": images.bits or None, "icc": images.icc}


def adversarial(work: Workspace, progress: Progress, *, kind: str) -> Iterable[Path]:
    """Make AN or AI images; each finished image is kept even when the step is interrupted."""
    from stimuli_gen.stimuli import write_records

    make, options = _generator(work, kind)
    made = make(
        work.model,
        photographs(work),
        **options,
        **only_asked(make, mode=getattr(work.settings, kind).mode, on_step=progress.watch),
        seed=work.settings.study.seed,
        batch_size=work.settings.run.batch_size,
        resume=work.state("finished", kind),
        progress=progress,
    )
    return [write_records(made, work.state(kind)) / "stimuli.h5"]


def _generator(work: Workspace, kind: str) -> tuple[Callable[..., StimulusSet], dict[str, Any]]:
    """Choose the procedure, and what of the settings it takes."""
    from stimuli_gen.adversarial import adversarial_interference, adversarial_noise
    from stimuli_gen.greedy import greedy_interference
    from stimuli_gen.synthesis.constraints import read_mask_file
    from stimuli_gen.synthesis.nguyen import Progress as ProgressRule

    chosen = getattr(work.settings, kind)
    target = str(work.source(chosen.target)) if chosen.target.endswith(".csv") else chosen.target
    options: dict[str, Any] = {"target": target, "confidence": chosen.confidence}
    if kind == "interference" and chosen.method == "greedy":
        options |= {
            name: getattr(chosen, name) for name in ("amplitude", "shared_channels", "max_tries")
        }
        return greedy_interference, options
    names = ("max_steps", "step_size", "pull", "objective", "step_rule")
    options |= {name: getattr(chosen, name) for name in names}
    if kind == "interference":
        options |= {"ball": chosen.ball, "radius": chosen.radius or None}
        options |= {"mask": read_mask_file(work.source(chosen.mask))} if chosen.mask else {}
        return adversarial_interference, options
    options |= {"noise_sd": chosen.noise_sd}
    if chosen.rule == "nguyen":
        rule = ProgressRule(decay=chosen.decay)
        options |= {"objective": "probability", "pull": 0.0, "progress_rule": rule}
    return adversarial_noise, options


def stimuli(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Write the images of the study: RE, AN and AI, judged on the PNG files, or ready ones."""
    from neurometamer.zoo import model_entry
    from stimuli_gen.adversarial import confirm_saved
    from stimuli_gen.photographs import load_photographs
    from stimuli_gen.stimuli import (
        concat_stimuli,
        read_stimuli,
        write_pictures,
        write_records,
        write_stimuli,
    )

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
            preprocessing = model_entry(work.settings.model.name).preprocessing
            images = load_photographs(source, preprocessing, **_reading(work))
        write_stimuli(named(work.model, images), folder)
    pictures = [folder / "png" / f"{image_id}.png" for image_id in images.ids]
    return [folder / "stimuli.h5", folder / "stimuli.csv", *pictures]


def named(model: StagedModel, given: StimulusSet) -> StimulusSet:
    """Add what the network says to images that do not carry it yet.

    This is its first class and the probability of it.
    """
    from stimuli_gen.models import predict

    if "top1_index" in given.table:
        return given
    probabilities = predict(model, given.as_shown().images).astype(float)
    top = probabilities.argmax(axis=1)
    columns = {
        "top1_index": top,
        "top1_name": [model.class_names[i] for i in top],
        "confidence_png": probabilities.max(axis=1),
    }
    return replace(
        given, table=given.table.assign(**columns, model=model.name, weights=model.weights)
    )


def transfer(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Ask other networks about the saved images, each through its own preprocessing."""
    from neurometamer.zoo import load_model
    from stimuli_gen.models import predict

    table = shown_stimuli(work).table
    judges = (
        [work.settings.model.name, *work.settings.transfer.models]
        if "target_index" in table
        else []
    )
    rows: list[dict[str, Any]] = []
    for number, name in enumerate(judges):
        judge = work.model if number == 0 else load_model(name, device=work.settings.run.device)
        probabilities = predict(
            judge, seen_by(judge, work).images, work.settings.run.batch_size
        ).astype(float)
        rows += _judgements(judge, probabilities, table)
        progress(number + 1, len(judges))
    columns = [
        "judge",
        "judge_weights",
        "kind",
        "n",
        "says_target",
        "target_probability",
        "says_as_photograph",
    ]
    found_table = pd.DataFrame(rows, columns=columns).assign(
        model=work.model.name, weights=work.model.weights, trained=work.model.trained
    )
    return [write_table(work.path("tables", "transfer.csv"), found_table)]


def _judgements(
    judge: StagedModel, probabilities: np.ndarray, table: pd.DataFrame
) -> list[dict[str, Any]]:
    """Summarize a judge's answers, one row a kind of image.

    The row says how often the judge names the target, how sure it is, and how often it agrees with
    its answer to the photograph.
    """
    top = pd.Series(probabilities.argmax(axis=1), index=table["id"])
    rows = []
    for kind, part in table[table["kind"] != "RE"].groupby("kind", sort=False):
        here = part.index.to_numpy()
        target = part["target_index"].to_numpy(dtype=int)
        own = top[part["reference_id"]].to_numpy()
        rows.append(
            {
                "judge": judge.name,
                "judge_weights": judge.weights,
                "kind": kind,
                "n": len(part),
                "says_target": float(np.mean(top.to_numpy()[here] == target)),
                "target_probability": float(np.mean(probabilities[here, target])),
                "says_as_photograph": float(np.mean(top.to_numpy()[here] == own)),
            }
        )
    return rows


def shown_stimuli(work: Workspace) -> StimulusSet:
    """Read the study's stimuli as people are shown them: rounded to 8 bits."""
    from stimuli_gen.stimuli import read_stimuli

    return read_stimuli(work.path("stimuli"), in_memory=None).as_shown()


def stimulus_table(work: Workspace) -> pd.DataFrame:
    """Read the table of the study's stimuli, without their pixels."""
    from stimuli_gen.stimuli import read_stimuli

    return read_stimuli(work.path("stimuli"), in_memory=False).table


def seen_by(model: StagedModel, work: Workspace) -> StimulusSet:
    """Present the saved images to a network.

    They are shown as they are where the size fits, else through its preprocessing.
    """
    from stimuli_gen.photographs import load_photographs

    ours = shown_stimuli(work)
    if tuple(ours.images.shape[2:]) == model.preprocessing.size:
        return ours
    return load_photographs(
        [work.path("stimuli", "png", f"{file_name(image_id)}.png") for image_id in ours.ids],
        model.preprocessing,
    )


# ----------------------------------------------------------------------------------------- metamers


def set_name(names: Iterable[str]) -> str:
    """Name a set of networks, and its folder."""
    return "+".join(names)


def make_set(work: Workspace, progress: Progress, *, number: int) -> Iterable[Path]:
    """Make the metamers of one set of networks.

    Each finished image is kept even when the step is interrupted.
    """
    from stimuli_gen.matching import match_stages
    from stimuli_gen.metamers import confirm_metamers, model_metamers
    from stimuli_gen.stimuli import concat_stimuli, write_pictures, write_records

    chosen, batch_size = work.settings.metamers, work.settings.run.batch_size
    names = chosen.sets[number]
    networks = _set_networks(work, names)
    photographs = _metamer_photographs(work, networks[0])
    stages = read_stages(chosen.stage)
    if isinstance(stages, dict):
        stages = {name: places for name, places in stages.items() if name in names}
    matches = match_stages(networks, stages)
    nulls = _nulls(work, networks, matches)
    options: dict[str, Any] = {
        **chosen.overrides,
        **({"steps": chosen.steps} if chosen.steps else {}),
    }
    made = model_metamers(
        networks,
        photographs,
        stage=stages,
        preset=chosen.preset,
        seed=work.settings.study.seed,
        batch_size=batch_size,
        resume=work.state("finished", "metamers"),
        progress=progress,
        **only_asked(model_metamers, mode=chosen.mode, on_step=progress.watch, nulls=nulls),
        **options,
    )
    folder = work.path("metamers", set_name(names))
    write_pictures(concat_stimuli([photographs, made]), folder)
    judged = confirm_metamers(
        networks, made, photographs, folder, **only_asked(confirm_metamers, nulls=nulls)
    )
    judged = with_validity(judged, networks, matches, photographs, folder, nulls, batch_size)
    both = concat_stimuli([photographs, judged])
    write_records(both, folder)
    return [folder / "stimuli.h5", folder / "stimuli.csv", *_pictures(folder, both)]


def ask_judges(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Ask networks that the metamers were not made for about the saved images.

    Each sees them through its own preprocessing.
    """
    from stimuli_gen.models import predict
    from stimuli_gen.stimuli import read_stimuli

    chosen = work.settings.metamers
    rows: list[dict[str, Any]] = []
    for count, name in enumerate(chosen.judges):
        judge = _load_network(work, name)
        for names in chosen.sets:
            folder = work.path("metamers", set_name(names))
            both = read_stimuli(folder, in_memory=None).as_shown()
            probabilities = predict(
                judge, _metamers_seen_by(judge, both, folder).images, work.settings.run.batch_size
            )
            rows += _metamer_judgements(judge, names, both.table, probabilities.astype(float))
        progress(count + 1, len(chosen.judges))
    return [write_table(work.path("tables", "metamers.csv"), pd.DataFrame(rows))]


def _metamer_judgements(
    judge: StagedModel, names: tuple[str, ...], table: pd.DataFrame, probabilities: np.ndarray
) -> list[dict[str, Any]]:
    """Say what its own networks and the judge say, one row a metamer.

    What the judge says to the photograph stands beside it.
    """
    place = {image_id: row for row, image_id in enumerate(table["id"])}
    rows = []
    for found_row in table[table["kind"] == "metamer"].to_dict("records"):
        row = {str(name): value for name, value in found_row.items()}
        here, photograph = (
            probabilities[place[row["id"]]],
            probabilities[place[row["reference_id"]]],
        )
        first = int(photograph.argmax())
        rows.append(
            {
                "set": set_name(names),
                "n_networks": len(names),
                "id": row["id"],
                "reference_id": row["reference_id"],
                "judge": judge.name,
                "judge_weights": judge.weights,
                "judge_says": judge.class_names[int(here.argmax())],
                "judge_says_photograph": judge.class_names[first],
                "p_photograph": float(photograph[first]),
                "same_class": bool(here.argmax() == first),
                "top5": bool(first in here.argsort()[-5:]),
                "p": float(here[first]),
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


def _set_networks(work: Workspace, names: tuple[str, ...]) -> list[StagedModel]:
    networks = [_load_network(work, name) for name in names]
    height, width = networks[0].preprocessing.size
    size = work.settings.metamers.image_size
    if not size and height != width:
        return networks
    return at_one_size(networks, size or height)


def _load_network(work: Workspace, name: str) -> StagedModel:
    """Load a network, with the weights of the settings where it is the one under study."""
    from neurometamer.zoo import load_model

    return (
        work.model
        if name == work.settings.model.name
        else load_model(name, device=work.settings.run.device)
    )


def _metamer_photographs(work: Workspace, network: StagedModel) -> StimulusSet:
    """Load the photographs that were chosen, as the networks of a set see them."""
    everyone, wanted = load_regular(work, network.preprocessing), work.settings.metamers.photographs
    if not isinstance(wanted, int):
        if unknown := [image_id for image_id in wanted if image_id not in everyone.ids]:
            raise unknown_name("photograph of [metamers]", unknown[0], everyone.ids)
        return everyone.select(ids=list(wanted))
    if wanted > len(everyone):
        raise InputError(f"[metamers] asks for {wanted} photographs; there are {len(everyone)}.")
    return everyone.select(ids=list(everyone.ids[: wanted or None]))


def _nulls(
    work: Workspace, networks: list[StagedModel], matches: Iterable[Match]
) -> list[NullDistribution]:
    """Measure how alike the responses to different photographs of the study are.

    This is done for each network of a set.
    """
    from stimuli_gen.nulls import null_distribution

    n_pairs = work.settings.metamers.null_pairs
    if not n_pairs:
        return []
    everyone = load_regular(work, networks[0].preprocessing)
    if len(everyone) < 2:
        raise InputError(
            f"a null needs two photographs, not {name_ids(everyone.ids)}; set [metamers] "
            "null_pairs = 0."
        )
    nulls = []
    for network, match in zip(networks, matches, strict=True):
        model = knows(network, match)
        size = "x".join(map(str, model.preprocessing.size))
        nulls.append(
            null_distribution(
                model,
                everyone,
                match.stages,
                n_pairs=n_pairs,
                seed=work.settings.study.seed,
                path=work.state("nulls", file_name(f"{model.name}-{size}.h5")),
                batch_size=work.settings.run.batch_size,
            )
        )
    return nulls


def _metamers_seen_by(judge: StagedModel, both: StimulusSet, folder: Path) -> StimulusSet:

    from stimuli_gen.photographs import load_photographs

    if tuple(both.images.shape[2:]) == judge.preprocessing.size:
        return both
    return load_photographs(_pictures(folder, both), judge.preprocessing)


def _pictures(folder: Path, both: StimulusSet) -> list[Path]:
    return [folder / "png" / f"{file_name(image_id)}.png" for image_id in both.ids]
