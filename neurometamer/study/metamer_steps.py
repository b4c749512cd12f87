"""Steps that make metamers of networks and of sets of networks.

Other networks are asked what the metamers show.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.run_options import RunOptions
from neurometamer.store import file_name, write_table
from neurometamer.study.image_steps import load_regular
from neurometamer.study.plan import Progress, Workspace

if TYPE_CHECKING:
    from stimuli_gen.matching import Match
    from stimuli_gen.models import StagedModel
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.stimuli import StimulusSet


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
    networks = _networks(work, names)
    photographs = _photographs(work, networks[0])
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
        judge = _load(work, name)
        for names in chosen.sets:
            folder = work.path("metamers", set_name(names))
            both = read_stimuli(folder, in_memory=None).as_shown()
            probabilities = predict(
                judge, _seen_by(judge, both, folder).images, work.settings.run.batch_size
            )
            rows += _judgements(judge, names, both.table, probabilities.astype(float))
        progress(count + 1, len(chosen.judges))
    return [write_table(work.path("tables", "metamers.csv"), pd.DataFrame(rows))]


def _judgements(
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


def _networks(work: Workspace, names: tuple[str, ...]) -> list[StagedModel]:
    networks = [_load(work, name) for name in names]
    height, width = networks[0].preprocessing.size
    size = work.settings.metamers.image_size
    if not size and height != width:
        return networks
    return at_one_size(networks, size or height)


def _load(work: Workspace, name: str) -> StagedModel:
    """Load a network, with the weights of the settings where it is the one under study."""
    from neurometamer.zoo import load_model

    return (
        work.model
        if name == work.settings.model.name
        else load_model(name, device=work.settings.run.device)
    )


def _photographs(work: Workspace, network: StagedModel) -> StimulusSet:
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


def _seen_by(judge: StagedModel, both: StimulusSet, folder: Path) -> StimulusSet:
    from stimuli_gen.photographs import load_photographs

    if tuple(both.images.shape[2:]) == judge.preprocessing.size:
        return both
    return load_photographs(_pictures(folder, both), judge.preprocessing)


def _pictures(folder: Path, both: StimulusSet) -> list[Path]:
    return [folder / "png" / f"{file_name(image_id)}.png" for image_id in both.ids]
