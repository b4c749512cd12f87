"""Steps that make images on which networks disagree, and the table of images that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from neurometamer.commands.disagreement import failed_images
from neurometamer.commands.metamers import at_one_size
from neurometamer.run_options import RunOptions
from neurometamer.store import write_table
from neurometamer.study.image_steps import (
    chosen_photographs,
    how_read,
    load_network,
    load_regular,
    load_together,
    measure_nulls,
    pictures_in,
    set_name,
    stages_of,
)
from neurometamer.study.plan import Progress, Workspace
from stimuli_gen.photographs import load_photographs
from stimuli_gen.stimuli import (
    StimulusSet,
    concat_stimuli,
    read_stimuli,
    write_pictures,
    write_records,
)

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel

SEARCH_KEYS = (
    "start",
    "start_level",
    "start_spread",
    "pull",
    "parametrization",
    "step_rule",
    "optimizer",
    "step_size",
    "max_steps",
)
"""Keys of ``[controversial]`` that say where an image begins and how it moves."""

SPECTRUM_KEYS = ("n_each", "method", "tolerance", "max_products")
"""Keys of ``[eigendistortion]`` that say how the ends of the spectrum are found."""


def distorted_networks(work: Workspace) -> list[tuple[str, str]]:
    """List the networks and stages of which the study makes eigendistortions.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    list of tuple of str
        Network and stage.
    """
    chosen = work.settings.eigendistortion
    networks = chosen.models or (work.settings.model.name,)
    return [(name, stage) for name in networks for stage in chosen.stages]


def controversial(work: Workspace, progress: Progress, *, number: int) -> Iterable[Path]:
    """Make the controversial images of a pair of networks.

    Each finished image is kept even when the step is interrupted.
    """
    from stimuli_gen.controversial import confirm_controversial, controversial_images
    from stimuli_gen.controversial_stages import (
        confirm_representations,
        controversial_representations,
    )

    chosen = work.settings.controversial
    names = chosen.pairs[number]
    networks = load_together(work, names, chosen.image_size)
    photographs = chosen_photographs(work, networks[0], "controversial")
    options = {name: getattr(chosen, name) for name in SEARCH_KEYS}
    options |= _common(work, progress, "controversial", names)
    out = work.path("controversial", set_name(names))
    if chosen.stage:
        bank = _bank(work, networks[0])
        made = controversial_representations(
            networks,
            photographs,
            stage=stages_of(chosen.stage, names, networks),
            bank=bank,
            max_agreement=chosen.max_agreement,
            **options,
        )
        pictures = write_pictures(concat_stimuli([photographs, made]), out)
        judged = confirm_representations(networks, made, photographs, pictures, bank=bank)
        return _written(judged, photographs, out)
    for name in ("target_a", "target_b"):
        target = getattr(chosen, name)
        options[name] = str(work.source(target)) if target.endswith(".csv") else target
    for name in ("confidence", "readout", "sharpness"):
        options[name] = getattr(chosen, name)
    made = controversial_images(networks, photographs, **options)
    pictures = write_pictures(concat_stimuli([photographs, made]), out)
    judged = confirm_controversial(networks, made, pictures)
    return _written(judged, photographs, out)


def divergent(work: Workspace, progress: Progress, *, number: int) -> Iterable[Path]:
    """Make the metamers of one network that are none of another.

    Each finished image is kept even when the step is interrupted.
    """
    from stimuli_gen.divergent import confirm_divergent, divergent_metamers
    from stimuli_gen.matching import match_stages

    chosen = work.settings.divergent
    names = chosen.pairs[number]
    networks = load_together(work, names, chosen.image_size)
    photographs = chosen_photographs(work, networks[0], "divergent")
    stages = stages_of(chosen.stage, names, networks)
    nulls = measure_nulls(work, networks, match_stages(networks, stages), "divergent")
    options: dict[str, Any] = dict(chosen.overrides)
    if chosen.steps:
        options["steps"] = chosen.steps
    made = divergent_metamers(
        networks,
        photographs,
        stage=stages,
        nulls=nulls,
        null_quantile=chosen.null_quantile,
        preset=chosen.preset,
        apart=chosen.apart,
        **options,
        **_common(work, progress, "divergent", names),
    )
    out = work.path("divergent", set_name(names))
    pictures = write_pictures(concat_stimuli([photographs, made]), out)
    judged = confirm_divergent(networks, made, photographs, pictures, nulls=nulls)
    return _written(judged, photographs, out)


def eigendistortion(work: Workspace, progress: Progress, *, number: int) -> Iterable[Path]:
    """Change photographs as a stage of a network sees best and least.

    Each finished photograph is kept even when the step is interrupted.
    """
    from stimuli_gen.eigendistortions import confirm_eigendistortions, eigendistortions

    chosen = work.settings.eigendistortion
    name, stage = distorted_networks(work)[number]
    network = load_network(work, name)
    if chosen.image_size:
        (network,) = at_one_size([network], chosen.image_size)
    photographs = chosen_photographs(work, network, "eigendistortion")
    made = eigendistortions(
        network,
        photographs,
        stage=stage,
        strength=chosen.strength,
        share=chosen.share,
        **{key: getattr(chosen, key) for key in SPECTRUM_KEYS},
        **_common(work, progress, "eigendistortion", (name, stage)),
    )
    out = work.path("eigendistortion", set_name((name, stage)))
    pictures = write_pictures(concat_stimuli([photographs, made]), out)
    judged = confirm_eigendistortions(network, made, photographs, pictures)
    return _written(judged, photographs, out)


def _bank(work: Workspace, network: StagedModel) -> StimulusSet:
    """Load the photographs with which images are compared, those of the study by default."""
    bank = work.settings.controversial.bank
    if not bank:
        return load_regular(work, network.preprocessing)
    return load_photographs(work.source(bank), network.preprocessing, **how_read(work))


def _common(
    work: Workspace, progress: Progress, section: str, names: Sequence[str]
) -> dict[str, Any]:
    """Give the seed, and how the loop is run."""
    return {
        "seed": work.settings.study.seed,
        "run": RunOptions(
            batch_size=work.settings.run.batch_size,
            mode=getattr(getattr(work.settings, section), "mode", "exact"),
            resume=work.state("finished", section, set_name(names)),
            progress=progress,
            on_step=progress.watch,
        ),
    }


def _written(judged: StimulusSet, photographs: StimulusSet, out: Path) -> list[Path]:
    """Write the records of judged images beside their pictures."""
    both = concat_stimuli([photographs, judged])
    write_records(both, out)
    return [out / "stimuli.h5", out / "stimuli.csv", *pictures_in(out, both)]


# ------------------------------------------------------------------------------------------- tables


def tables(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Gather what the networks say to all of these images, and which of them failed."""
    rows: dict[str, list[pd.DataFrame]] = {}
    failed = []
    for section, names in made_sets(work):
        stimuli = read_stimuli(work.path(section, names), in_memory=False)
        made = stimuli.table[stimuli.table["kind"] != "RE"].dropna(axis="columns", how="all")
        row_of = ROWS[section]
        part = pd.DataFrame([row_of(row) for row in made.to_dict("records")])
        part.insert(0, "made_for", names)
        rows.setdefault(section, []).append(part)
        failures = failed_images(made).assign(generator=section, made_for=names, n_made=len(made))
        failed.append(failures)
    written = []
    for section, parts in rows.items():
        table = pd.concat(parts, ignore_index=True)
        written.append(write_table(work.path("tables", f"{section}.csv"), table))
    failures = pd.concat(failed, ignore_index=True)
    ordered = ["generator", "made_for", "n_made", "id", "reference_id", "why_not", "what_to_try"]
    return [*written, write_table(work.path("tables", "failures.csv"), failures[ordered])]


def made_sets(work: Workspace) -> list[tuple[str, str]]:
    """List the folders of such images.

    Parameters
    ----------
    work : Workspace
        The study.

    Returns
    -------
    list of tuple of str
        Section of the settings, and name of the folder.
    """
    settings = work.settings
    sets = [("controversial", set_name(pair)) for pair in settings.controversial.pairs]
    sets += [("divergent", set_name(pair)) for pair in settings.divergent.pairs]
    sets += [("eigendistortion", set_name(names)) for names in distorted_networks(work)]
    return sets


JUDGED = ("success", "why_not", "what_to_try", "note", "weights")
"""Columns that all of these tables end with."""


def controversial_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Take what two networks say to a controversial image out of its row.

    Parameters
    ----------
    row : mapping
        Row of a table of `stimuli_gen.controversial_images` or `controversial_representations`;
        names of networks end its columns.

    Returns
    -------
    dict
        Columns that end in a and b.
    """
    of_classes = "score_png" in row
    first_of = "target_name_" if of_classes else "stage_"
    networks = [key.removeprefix(first_of) for key in row if key.startswith(first_of)]
    columns = {"stage": "stage_{}"}
    known = ["agreement_float", "agreement_png", "agreement_reference"]
    if of_classes:
        columns = {
            "target": "target_name_{}",
            "p": "confidence_png_{}",
            "says": "top1_name_{}",
        }
        known = ["score_float", "score_png"]
    values = {
        "id": row["id"],
        "reference_id": row["reference_id"],
        "disagreement": "classes" if of_classes else "representations",
    }
    for letter, name in zip("ab", networks, strict=True):
        values[f"network_{letter}"] = name
        for key, column in columns.items():
            values[f"{key}_{letter}"] = row[column.format(name)]
    known += ["criterion", "steps", "start", "image_prior", "l2_8bit"]
    return values | {key: row.get(key, "") for key in (*known, *JUDGED)}


def divergent_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Take how an image matches in two networks out of its row.

    Parameters
    ----------
    row : mapping
        Row of a table of `stimuli_gen.divergent_metamers`.

    Returns
    -------
    dict
        Columns that end in a and b.
    """
    second = row["unlike_model"]
    values = {
        "id": row["id"],
        "reference_id": row["reference_id"],
        "network_a": row["model"],
        "stage_a": row["stage"],
        "network_b": second,
        "stage_b": row[f"stage_{second}"],
    }
    for metric in ("spearman", "pearson", "snr_db_power"):
        values[f"{metric}_a"] = row[f"{metric}_png"]
        values[f"{metric}_b"] = row[f"{metric}_png_{second}"]
    values["above_null_a"] = row["above_null_png"]
    values["same_class_a"] = row["same_class_1000"]
    values["unlike_b"] = row[f"unlike_{second}"]
    known = ("steps", "preset", "image_prior")
    return values | {key: row.get(key, "") for key in (*known, *JUDGED)}


DISTORTION_COLUMNS = (
    "id",
    "reference_id",
    "model",
    "stage",
    "end",
    "rank",
    "eigenvalue",
    "residual",
    "rayleigh_png",
    "rayleigh_random",
    "null_dimension",
    "null_dimension_is_exact",
    "n_units",
    "method",
    "strength",
    "l2_8bit",
)


def distortion_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Take what a stage sees of an eigendistortion out of its row.

    Parameters
    ----------
    row : mapping
        Row of a table of `stimuli_gen.eigendistortions`.

    Returns
    -------
    dict
        Columns; those that count are whole numbers, which a table that photographs share lost.
    """
    values = {key: row.get(key, "") for key in (*DISTORTION_COLUMNS, *JUDGED)}
    for key in ("rank", "null_dimension", "n_units"):
        values[key] = int(row[key])
    return values


ROWS: Mapping[str, Callable[[Mapping[Any, Any]], dict[str, Any]]] = {
    "controversial": controversial_row,
    "divergent": divergent_row,
    "eigendistortion": distortion_row,
}
"""Section of the settings → what of a row of its images the study's table holds."""
