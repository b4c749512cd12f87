"""What metamers need beside the generator: networks of one size, stages by name, the verdict of each network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError, name_ids

if TYPE_CHECKING:
    from stimuli_gen.matching import Match
    from stimuli_gen.models import StagedModel
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.stimuli import StimulusSet

Stage = str | float
StageAsked = Stage | Sequence[Stage] | Mapping[str, Stage | Sequence[Stage]]
LOWEST = ("spearman_png", "pearson_png", "snr_db_power_png", "snr_db_amplitude_png")
"""Measures of which a set has those of its worst network, where larger is better."""


def read_stages(texts: str | Sequence[Stage]) -> str | list[str] | dict[str, list[str]]:
    """Read stages as they are written: one, several, or ``NAME=STAGE`` for networks.

    Parameters
    ----------
    texts : str or sequence of str or float
        Stages, or ``NAME=STAGE`` (several between commas); a name may come more than once.

    Returns
    -------
    str, list of str or dict of str to list of str
        What `stimuli_gen.model_metamers` takes as ``stage``.

    Raises
    ------
    InputError
        When some are by network and others are not, or a name or a stage is missing.
    """
    listed = [texts] if isinstance(texts, str) else [str(one) for one in texts]
    if not any("=" in one for one in listed):
        return listed[0] if len(listed) == 1 else listed
    pairs = [one for text in listed for one in text.split(",")]
    found: dict[str, list[str]] = {}
    for one in pairs:
        name, _, place = (part.strip() for part in one.partition("="))
        if not (name and place):
            raise InputError(
                f"stages by network are NAME=STAGE between commas, not {name_ids([one])}."
            )
        found.setdefault(name, []).append(place)
    return found


def at_one_size(networks: Sequence[StagedModel], size: int) -> list[StagedModel]:
    """Let networks see images of one size; those that do anyhow are left as they are.

    Parameters
    ----------
    networks : sequence of StagedModel
        Of a set.
    size : int
        Height and width in pixels.

    Returns
    -------
    list of StagedModel
        In the same order.
    """
    from stimuli_gen.matching import at_size

    return [
        one if one.preprocessing.size == (size, size) else at_size(one, size) for one in networks
    ]


def knows(network: StagedModel, match: Match) -> StagedModel:
    """Take the network itself where it names the stages, so that its nulls can be found; else its view of them.

    Parameters
    ----------
    network : StagedModel
        As it was loaded.
    match : Match
        What of it is matched.

    Returns
    -------
    StagedModel
        One of the two.
    """
    return network if set(match.stages) <= set(network.stages) else match.model


def with_validity(
    judged: StimulusSet,
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    photographs: StimulusSet,
    folder: Path,
    nulls: Sequence[NullDistribution] = (),
    batch_size: int = 8,
) -> StimulusSet:
    """Add the criteria of Feather et al. for each network and matched stage, of the float images and of the files.

    Parameters
    ----------
    judged : StimulusSet
        Metamers.
    networks : sequence of StagedModel
        They were made for.
    matches : sequence of Match
        One a network.
    photographs : StimulusSet
        They were made of.
    folder : Path
        Where their PNG files are.
    nulls : sequence of NullDistribution
        Of these networks and stages; without one, ``valid`` stays empty.
    batch_size : int
        Images at once.

    Returns
    -------
    StimulusSet
        ``spearman_float``, ``spearman_png`` … and ``valid``; the names end in network and stage
        where there are several.
    """
    from stimuli_gen.similarity import METRICS
    from stimuli_gen.validity import judge

    places = [
        (knows(network, one), stage)
        for network, one in zip(networks, matches, strict=True)
        for stage in one.stages
    ]
    found = judge(places, photographs, judged, nulls=nulls, folder=folder, batch_size=batch_size)
    columns: dict[str, Any] = {}
    for model, stage in places:
        part = (
            found[(found["model"] == model.name) & (found["stage"] == stage)]
            .set_index("id")
            .loc[list(judged.ids)]
        )
        end = f"_{model.name}" if len(matches) > 1 else ""
        end += f"_{stage}" if len(places) > len(matches) else ""
        for metric in (*METRICS, "same_class_16"):
            columns |= {
                f"{metric}_{kind}{end}": part[f"{kind}_{metric}"].to_numpy()
                for kind in ("float", "png")
            }
        columns[f"valid{end}"] = part["valid"].to_numpy()
    return replace(judged, table=judged.table.assign(**columns))


def of_worst_network(row: Mapping[str, Any]) -> dict[str, Any]:
    """Sum up what the networks of a set say to one metamer: a set is as good as its worst network.

    Parameters
    ----------
    row : mapping
        Of the table of `with_validity`.

    Returns
    -------
    dict
        Lowest likeness, largest loss, and whether every network agrees; missing where nothing was
        judged.
    """

    def _of(name: str) -> list[Any]:
        values = [value for key, value in row.items() if key == name or key.startswith(f"{name}_")]
        return [
            value for value in values if value is not None and value == value
        ]  # NaN is not itself

    found: dict[str, Any] = {"loss_png": max(map(float, _of("loss_png")), default=None)}
    found |= {name: min(map(float, _of(name)), default=None) for name in LOWEST}
    for name in ("same_class_16_png", "valid"):
        told = [str(value) in ("True", "1", "1.0") for value in _of(name)]
        found[name] = all(told) if told else None
    return found
