"""Judge metamers on their float pixels and on their 8-bit pictures.

The generator and the check of its files use the same functions.

Batches have one size here, whatever the generator's: so the picture in memory and the file read
back get the same numbers to the last digit, and what is reported as a success is one when the file
is judged again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.summaries import short_repr
from stimuli_gen.batches import in_batches
from stimuli_gen.matching import Match
from stimuli_gen.models import StagedModel
from stimuli_gen.similarity import CRITERIA, METRICS
from stimuli_gen.stimuli import StimulusSet
from stimuli_gen.validity import ONLY_IN_FLOAT, judge, shown_pictures, unmet

if TYPE_CHECKING:
    from stimuli_gen.nulls import NullDistribution

BATCH = 4
KINDS = ("float", "png")


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Judgment:
    """What each network says to metamers, and which criteria they do not meet.

    Parameters
    ----------
    columns : mapping of str to sequence
        Columns of the stimulus table.
    reasons : mapping of str to list of list of str
        ``float`` and ``png`` → for each image what is not met.
    losses : mapping of str to ndarray
        Network's name → (n,) ‖a' - a‖ / ‖a‖ of the pictures.
    below_null : mapping of str to ndarray
        Network's name → (n,) bool, whether the picture is not above the null in some criterion.
    """

    columns: Mapping[str, Any]
    reasons: Mapping[str, list[list[str]]]
    losses: Mapping[str, np.ndarray]
    below_null: Mapping[str, np.ndarray]

    @property
    def only_in_float(self) -> list[bool]:
        """Tell which images meet every criterion until they are rounded.

        Returns
        -------
        list of bool
            One an image.
        """
        return [
            bool(shown and not exact)
            for exact, shown in zip(self.reasons["float"], self.reasons["png"])
        ]

    def on(self, stimuli: StimulusSet, *, confirmed: bool) -> StimulusSet:
        """Write the judgment into the table.

        Parameters
        ----------
        stimuli : StimulusSet
            The metamers.
        confirmed : bool
            Whether the pictures were read from files.

        Returns
        -------
        StimulusSet
            With the columns, ``success``, ``confirmed`` and ``why_not``.
        """
        steps = stimuli.table.get("file_steps", pd.Series(0, index=stimuli.table.index))
        success, why_not = [], []
        for reasons, only_in_float, taken in zip(
            self.reasons["png"], self.only_in_float, steps, strict=True
        ):
            text = "; ".join(reasons)
            if only_in_float:
                tried = f", nor after {taken} steps on rounded images" if taken else ""
                text = f"{ONLY_IN_FLOAT}{tried}: {text}"
            success.append(not reasons)
            why_not.append(text)
        table = stimuli.table.assign(
            **self.columns, success=success, confirmed=confirmed, why_not=why_not
        )
        return replace(stimuli, table=table)


def judge_metamers(
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    stimuli: StimulusSet,
    references: StimulusSet,
    *,
    folder: str | os.PathLike[str] | None = None,
    nulls: Sequence[NullDistribution] = (),
    quantile: float = 1.0,
) -> Judgment:
    """Judge metamers by every criterion that was asked for.

    Parameters
    ----------
    networks : sequence of StagedModel
        As they were given, so that their nulls are found.
    matches : sequence of Match
        What of each network was matched.
    stimuli : StimulusSet
        Metamers; the column ``max_error`` has the largest error, or is missing.
    references : StimulusSet
        Their photographs, row by row.
    folder : path-like, optional
        Where the PNG files are; otherwise the images are rounded as the files would be.
    nulls : sequence of NullDistribution
        Adds the criteria of Feather et al. (2023), see `stimuli_gen.validity.judge`, for the
        networks and stages that have one; the 16 categories where the network has ImageNet's
        classes.
    quantile : float
        Quantile of the nulls, in (0, 1].

    Returns
    -------
    Judgment
        Of several networks, columns end in the network's name; where several stages are matched,
        those of the criteria of Feather et al. in the stage, too.
    """
    images = {"float": stimuli.images, "png": shown_pictures(stimuli, folder)}
    reasons: dict[str, list[list[str]]] = {}
    for kind in KINDS:
        reasons[kind] = [[] for _ in stimuli.ids]
    limits = stimuli.table["max_error"].to_numpy(dtype=float)
    columns: dict[str, Any] = {}
    losses = {}
    for end, match in zip(ends(matches), matches, strict=True):
        own = top_class(match.model, references.images)
        seen = {kind: top_class(match.model, shown) for kind, shown in images.items()}
        loss = {kind: _errors(match, references.images, shown) for kind, shown in images.items()}
        columns |= {f"loss_{kind}{end}": loss[kind] for kind in KINDS}
        columns |= {
            f"same_class_1000{end}": own == seen["png"],
            f"same_class_1000_float{end}": own == seen["float"],
        }
        for kind in KINDS:
            _add_reasons(reasons[kind], match, own, seen[kind], loss[kind], limits)
        losses[match.model.name] = loss["png"]
    below = {match.model.name: np.zeros(len(stimuli), dtype=bool) for match in matches}
    if nulls:
        models_and_stages = judged_at(networks, matches)
        judged = judge(
            models_and_stages,
            references,
            stimuli,
            nulls=nulls,
            quantile=quantile,
            folder=folder,
            batch_size=BATCH,
        )
        columns |= validity_columns(judged, models_and_stages, stimuli.ids, len(matches))
        row_of = {stimulus_id: row for row, stimulus_id in enumerate(stimuli.ids)}
        for _, line in judged.iterrows():
            row, where = row_of[line["id"]], f"{line['model']} {line['stage']}"
            for kind in KINDS:
                reasons[kind][row] += [f"{where}: {reason}" for reason in unmet(line, kind)]
            not_above = [reason.startswith("not above") for reason in unmet(line, "png")]
            below[line["model"]][row] |= any(not_above)
    return Judgment(columns=columns, reasons=reasons, losses=losses, below_null=below)


def _add_reasons(
    reasons: list[list[str]],
    match: Match,
    own: np.ndarray,
    seen: np.ndarray,
    loss: np.ndarray,
    limits: np.ndarray,
) -> None:
    names = match.model.class_names
    for row, reason in enumerate(reasons):
        if own[row] != seen[row]:
            reason.append(
                f"{match.model.name} says {names[seen[row]]} instead of {names[own[row]]}"
            )
        if loss[row] > limits[row]:
            reason.append(f"{match.model.name}: loss {loss[row]:.4f} above {limits[row]:g}")


def ends(matches: Sequence[Match]) -> list[str]:
    """Name the ends of the columns of each network.

    Parameters
    ----------
    matches : sequence of Match
        Matches, one a network.

    Returns
    -------
    list of str
        Empty for one network alone.
    """
    return [""] if len(matches) == 1 else [f"_{match.model.name}" for match in matches]


def judged_at(
    networks: Sequence[StagedModel], matches: Sequence[Match]
) -> list[tuple[StagedModel, str]]:
    """List the networks and stages at which metamers are compared with a null.

    Parameters
    ----------
    networks : sequence of StagedModel
        As they were given.
    matches : sequence of Match
        Matches, one a network.

    Returns
    -------
    list of (StagedModel, str)
        The network itself where it names the stages, so that its nulls can be found; else the view
        of it that does.
    """
    return [
        (network if set(match.stages) <= set(network.stages) else match.model, stage)
        for network, match in zip(networks, matches, strict=True)
        for stage in match.stages
    ]


def validity_columns(
    judged: pd.DataFrame,
    models_and_stages: Sequence[tuple[StagedModel, str]],
    ids: Sequence[str],
    n_networks: int,
) -> dict[str, Any]:
    """Take the columns of a stimulus table from what `stimuli_gen.validity.judge` found.

    Parameters
    ----------
    judged : pandas.DataFrame
        One row a metamer, network and stage.
    models_and_stages : sequence of (StagedModel, str)
        See `judged_at`.
    ids : sequence of str
        Ids of the stimulus table.
    n_networks : int
        In the set.

    Returns
    -------
    dict of str to ndarray
        ``<metric>_float``, ``<metric>_png``, ``same_class_16_float``, ``same_class_16_png``,
        ``above_null_png`` (all of the paper's metrics) and ``valid``; the names end in network and
        stage where there are several.
    """
    columns: dict[str, Any] = {}
    for model, stage in models_and_stages:
        part = (
            judged[(judged["model"] == model.name) & (judged["stage"] == stage)]
            .set_index("id")
            .loc[list(ids)]
        )
        end = f"_{model.name}" if n_networks > 1 else ""
        end += f"_{stage}" if len(models_and_stages) > n_networks else ""
        for metric in (*METRICS, "same_class_16"):
            columns |= {
                f"{metric}_{kind}{end}": part[f"{kind}_{metric}"].to_numpy() for kind in KINDS
            }
        above = part[[f"png_{metric}_above_null" for metric in CRITERIA]]
        columns[f"above_null_png{end}"] = (
            above.astype("boolean").all(axis=1, skipna=False).to_numpy()
        )
        columns[f"valid{end}"] = part["valid"].to_numpy()
    return columns


def _errors(match: Match, references: Any, images: Any) -> np.ndarray:
    batches = in_batches(
        lambda photographs, batch: match.error(batch, match.anchors(photographs)).cpu(),
        (references, images),
        BATCH,
        match.model.device,
    )
    errors = [error[: rows.stop - rows.start].numpy() for rows, error in batches]
    return np.concatenate(errors).astype(np.float64)


def top_class(model: StagedModel, images: Any) -> np.ndarray:
    """Find the first class of each image.

    Parameters
    ----------
    model : StagedModel
        The network.
    images : ndarray or StoredImages
        (n, 3, height, width) float32 in [0, 1].

    Returns
    -------
    ndarray
        (n,) int, places in its class names.
    """
    batches = in_batches(
        lambda batch: model.logits(batch).argmax(dim=1).cpu(), images, BATCH, model.device
    )
    return np.concatenate([classes[: rows.stop - rows.start].numpy() for rows, classes in batches])
