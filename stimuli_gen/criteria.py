"""Judge metamers by the network's responses and classes, against a null distribution.

Feather et al. (2023) keep an image when the network that it was made for gives it the same of 16
categories as its reference, and its responses match the reference's better than those of any pair
of different images, by Spearman's rho, by Pearson's r and by the signal-to-noise ratio (`judge`).
Here the criteria are taken twice: of the float pixels, and of the 8-bit picture that people are
shown. The generator and the check of its files use the same functions (`judge_metamers`), in
batches of one size, whatever the generator's: so the picture in memory and the file read back get
the same numbers to the last digit, and what is reported as a success is one when the file is judged
again.

References
----------
Feather, J., Leclerc, G., Mądry, A. & McDermott, J. H. (2023). Model metamers reveal divergent
invariances between biological and artificial neural networks. Nature Neuroscience 26:2017-2034;
code: model_metamers_pytorch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.store import file_name
from neurometamer.summaries import short_repr
from stimuli_gen.batches import batch_shape, in_batches
from stimuli_gen.categories import N_IMAGENET, to_sixteen
from stimuli_gen.matching import Match
from stimuli_gen.models import StagedModel, predict
from stimuli_gen.similarity import CRITERIA, METRICS, finite_responses, inversion_loss
from stimuli_gen.stimuli import StimulusSet
from stimuli_gen.stored_images import ImagesOnDisk, from_8bit, read_png, to_8bit

if TYPE_CHECKING:
    from stimuli_gen.nulls import NullDistribution

BATCH = 4
KINDS = ("float", "png")

# ------------------------------------------------------------------------------------------ classes


@checked_with(shapes={"references": "references 3 height width", "images": "images 3 height width"})
def same_class(
    model: StagedModel,
    references: np.ndarray | ImagesOnDisk,
    images: np.ndarray | ImagesOnDisk,
    batch_size: int = 8,
) -> pd.DataFrame:
    """Tell whether a network gives each image the class of its reference.

    Parameters
    ----------
    model : StagedModel
        The network.
    references, images : ndarray or StoredImages
        (n, 3, height, width) float32 in [0, 1]; row by row.
    batch_size : int
        Images a pass.

    Returns
    -------
    pandas.DataFrame
        One row a pair: ``same_class_1000`` (same first of all the network's classes),
        ``same_class_16`` (same of 16 categories, rule ``first_mapped``, that of Feather et al.
        2023), ``same_class_16_mean_prob`` (rule ``mean_prob``); ``top1_reference`` and ``top1``
        class names; ``category16_reference`` and ``category16``. Where the network has not
        ImageNet's 1,000 classes, the columns of the 16 categories are missing values.

    Raises
    ------
    InputError
        When the numbers of images differ, or a probability is not finite.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import same_class, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> same_class(model, images, images)["same_class_1000"].tolist()
    [True, True]
    """
    if len(references) != len(images):
        raise InputError(
            f"{len(images)} images are compared with {len(references)} references; give one each."
        )
    return _class_columns(
        model, predict(model, references, batch_size), predict(model, images, batch_size)
    )


def _class_columns(model: StagedModel, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    for probabilities in (before, after):
        finite_responses(
            probabilities, f"{model.name}, class probabilities", range(len(probabilities))
        )
    first, now = before.argmax(axis=1), after.argmax(axis=1)
    columns: dict[str, Any] = {"same_class_1000": first == now}
    if model.n_classes == N_IMAGENET:
        names = {
            rule: (to_sixteen(before, rule), to_sixteen(after, rule))
            for rule in ("first_mapped", "mean_prob")
        }
        columns |= {"same_class_16": np.equal(*names["first_mapped"])}
        columns |= {"same_class_16_mean_prob": np.equal(*names["mean_prob"])}
        categories = names["first_mapped"]
    else:
        columns |= dict.fromkeys(
            ("same_class_16", "same_class_16_mean_prob"), pd.array([pd.NA] * len(first), "boolean")
        )
        categories = (np.full(len(first), ""), np.full(len(first), ""))
    columns["top1_reference"] = [model.class_names[index] for index in first]
    columns["top1"] = [model.class_names[index] for index in now]
    columns |= {"category16_reference": categories[0], "category16": categories[1]}
    flags = [name for name in columns if name.startswith("same_class")]
    return pd.DataFrame(columns).astype(dict.fromkeys(flags, "boolean"))


# ------------------------------------------------------------------------------------------ judging

ONLY_IN_FLOAT = "valid in float, but not once rounded to 8 bits"


@checked
def judge(
    models: Sequence[tuple[StagedModel, str]],
    references: StimulusSet,
    metamers: StimulusSet,
    *,
    nulls: Sequence[NullDistribution] = (),
    quantile: float = 1.0,
    folder: str | os.PathLike[str] | None = None,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Judge metamers by the criteria of Feather et al. (2023), on float and on 8-bit images.

    Parameters
    ----------
    models : sequence of (StagedModel, str)
        Each network with the stage to compare at; of an ensemble, all of its members.
    references : StimulusSet
        Holds the reference of every metamer, under its ``reference_id``.
    metamers : StimulusSet
        What to judge; images of the size that every network sees.
    nulls : sequence of NullDistribution
        Joined to the networks by their digest and stage. Without one, nothing is above it, and
        ``valid`` is missing.
    quantile : float
        Quantile of the null, in (0, 1], that a match must be above: 1, the maximum, in Feather et
        al. (2023).
    folder : path-like, optional
        Where `stimuli_gen.write_stimuli` wrote the metamers: the pictures are then the files, read
        back. Otherwise the images are rounded as the files would be.
    batch_size : int
        Images a pass.
    progress : callable, optional
        Called with (images judged, images in all), over all networks.

    Returns
    -------
    pandas.DataFrame
        One row a metamer and network, networks in the order given: id, reference_id, model,
        weights, stage, null_pairs (0 without a null); then, each with the prefix ``float_`` and
        ``png_``: loss (`inversion_loss`); spearman, pearson, snr_db_power and snr_db_amplitude,
        each also with the suffixes ``_above_null`` (larger than that quantile of the null) and
        ``_exceedance`` (`NullDistribution.exceedance`); same_class_1000, same_class_16,
        same_class_16_mean_prob (`same_class`); top1, category16 and those of the reference; valid,
        the two criteria together: same_class_16, and above the null in Spearman, Pearson and ratio.
        Last ``valid`` (that of the picture, which is what people see) and ``why_not``.

    Raises
    ------
    InputError
        When ids do not join, a stage is unknown, a null is of none of the networks, or a picture is
        missing.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from stimuli_gen import judge, stage_model
    >>> _ = torch.manual_seed(0)
    >>> layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    >>> model = stage_model(nn.Sequential(*layers))
    >>> import numpy as np
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype="float32")
    >>> table = pd.DataFrame({"id": ["a", "b"], "kind": "RE", "reference_id": ["a", "b"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> table["kind"], table["reference_id"] = "metamer", ["b", "a"]
    >>> table["id"] = ["b_metamer", "a_metamer"]
    >>> metamers = StimulusSet(images=images[::-1].copy(), table=table)
    >>> judged = judge([(model, "1")], photographs, metamers)
    >>> judged["float_loss"].tolist(), judged["null_pairs"].tolist()
    ([0.0, 0.0], [0, 0])
    """
    batch_shape(batch_size)  # refuses less than 1
    rows = _reference_rows(references, metamers)
    matched = _match_nulls(models, nulls)
    pictures = shown_pictures(metamers, folder)
    total = len(models) * len(metamers)
    tables = []
    for number, ((model, stage), null) in enumerate(zip(models, matched, strict=True)):
        parts = []
        for start in range(0, len(metamers), batch_size):
            part = slice(start, min(start + batch_size, len(metamers)))
            images = {"float": metamers.images[part], "png": pictures[part]}
            ids = metamers.ids[part]
            photographs = references.images[rows[part]]
            parts.append(
                _judge_batch(model, stage, null, quantile, photographs, images, ids, batch_size)
            )
            if progress is not None:
                progress(number * len(metamers) + part.stop, total)
        identity = {
            "id": metamers.ids,
            "reference_id": metamers.table["reference_id"].to_numpy(),
            "model": model.name,
            "weights": model.weights,
            "stage": stage,
            "null_pairs": 0 if null is None else len(null.pairs),
        }
        table = pd.concat([pd.DataFrame(identity), pd.concat(parts, ignore_index=True)], axis=1)
        tables.append(_with_validity(table, model))
    return pd.concat(tables, ignore_index=True)


def _reference_rows(references: StimulusSet, metamers: StimulusSet) -> np.ndarray:
    if not len(metamers):
        raise InputError("no metamers to judge.")
    row_of = {reference_id: row for row, reference_id in enumerate(references.ids)}
    wanted = metamers.table["reference_id"].tolist()
    if missing := [
        reference_id for reference_id in dict.fromkeys(wanted) if reference_id not in row_of
    ]:
        raise InputError(
            f"no reference has the id(s) {name_ids(missing)}; known: {name_ids(references.ids)}."
        )
    return np.array([row_of[reference_id] for reference_id in wanted])


def _match_nulls(
    models: Sequence[tuple[StagedModel, str]], nulls: Sequence[NullDistribution]
) -> list[NullDistribution | None]:
    """Join null distributions to networks and stages.

    Each null must belong to one of them, and no stage may have two.
    """
    if not models:
        raise InputError("no networks to judge with.")
    for model, stage in models:
        if stage not in model.stages:
            raise unknown_name(f"stage of {model.name}", stage, model.stages)
    for null in nulls:
        if not any(null.stage_of(model, stage) for model, stage in models):
            names = name_ids(f"{model.name} {stage}" for model, stage in models)
            raise InputError(
                f"a null distribution is of {null.provenance.get('model')} "
                f"({null.provenance.get('weights')}), {', '.join(null.stages)}, which is none of: "
                f"{names}; make one for each network and stage."
            )
    fitting = []
    for model, stage in models:
        fitting.append([null for null in nulls if null.stage_of(model, stage)])
    if again := [
        f"{model.name} {stage}"
        for (model, stage), own in zip(models, fitting, strict=True)
        if len(own) > 1
    ]:
        raise InputError(
            f"more than one null distribution for {name_ids(again)}; give one a network and stage."
        )
    return [own[0] if own else None for own in fitting]


def shown_pictures(metamers: StimulusSet, folder: str | os.PathLike[str] | None = None) -> Any:
    """Give the images as people are shown them.

    Parameters
    ----------
    metamers : StimulusSet
        Images.
    folder : path-like, optional
        Where `stimuli_gen.write_stimuli` wrote them: the PNG files are read back. Otherwise the
        images are rounded to 8 bits, which is the same.

    Returns
    -------
    ndarray or StoredImages
        (n, 3, height, width) float32 in [0, 1].

    Raises
    ------
    InputError
        When a PNG is missing, cannot be decoded or has another size.
    """
    if folder is None:
        return metamers.as_shown().images
    pictures = np.empty(metamers.images.shape, np.float32)
    for row, stimulus_id in enumerate(metamers.ids):
        path = Path(folder) / "png" / f"{file_name(stimulus_id)}.png"
        picture = read_png(path)
        if picture.shape != pictures.shape[1:]:
            size = tuple(metamers.images.shape[2:])
            raise InputError(
                f"{path} is {picture.shape[1:]} pixels, not {size} as made; write it again."
            )
        pictures[row] = picture
    return pictures


def _judge_batch(
    model: StagedModel,
    stage: str,
    null: NullDistribution | None,
    quantile: float,
    references: np.ndarray,
    images: Mapping[str, np.ndarray],
    ids: Sequence[str],
    batch_size: int,
) -> pd.DataFrame:
    """Judge up to `batch_size` images, in float and as pictures, beside their references."""
    expected = _run(model, stage, references, ids, batch_size)
    of_null = None if null is None else null.stage_of(model, stage)
    shown = from_8bit(to_8bit(references))
    rounded = (
        expected
        if np.array_equal(shown, references)
        else _run(model, stage, shown, ids, batch_size)
    )
    columns = []
    for prefix, (before, before_classes) in {"float": expected, "png": rounded}.items():
        after, after_classes = _run(model, stage, images[prefix], ids, batch_size)
        numbers: dict[str, Any] = {"loss": inversion_loss(before, after)}
        for name, metric in METRICS.items():
            numbers[name] = metric(before, after)
            above = pd.Series([pd.NA] * len(numbers[name]), dtype="boolean")
            exceedance = np.full(len(numbers[name]), np.nan)
            if null is not None and of_null is not None:
                limit = null.limit(of_null, name, quantile)
                above = pd.Series(numbers[name] > limit, dtype="boolean")
                exceedance = null.exceedance(of_null, name, numbers[name])
            numbers |= {f"{name}_above_null": above, f"{name}_exceedance": exceedance}
        classes = _class_columns(model, before_classes, after_classes)
        columns.append(pd.concat([pd.DataFrame(numbers), classes], axis=1).add_prefix(f"{prefix}_"))
    return pd.concat(columns, axis=1)


def _run(
    model: StagedModel, stage: str, images: np.ndarray, ids: Sequence[str], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute responses (n, units) and class probabilities of one batch."""
    batches = in_batches(
        lambda batch: model.activations(batch, [stage])[stage].flatten(1).float().cpu(),
        images,
        batch_size,
        model.device,
    )
    responses = np.concatenate(
        [values[: rows.stop - rows.start].numpy() for rows, values in batches]
    )
    finite_responses(responses, f"{model.name}, stage '{stage}'", ids)
    return responses, predict(model, images, batch_size)


def _with_validity(table: pd.DataFrame, model: StagedModel) -> pd.DataFrame:
    """Put the criteria together, and say which were not met."""
    reasons: dict[str, list[str]] = {}
    for prefix in ("float", "png"):
        wanted = ["same_class_16", *(f"{name}_above_null" for name in CRITERIA)]
        flags = table[[f"{prefix}_{name}" for name in wanted]]
        unknown = flags.isna().any(axis=1)
        valid = flags.fillna(False).astype(bool).all(axis=1).astype("boolean").mask(unknown)
        table = table.assign(**{f"{prefix}_valid": valid})
        reasons[prefix] = []
        for _, row in table.iterrows():
            parts = []
            if row["null_pairs"] == 0:
                parts.append("no null distribution was given for this network and stage")
            if pd.isna(row[f"{prefix}_same_class_16"]):
                parts.append(
                    f"{model.name} has not ImageNet's 1,000 classes, of which the 16 categories "
                    "are made"
                )
            reasons[prefix].append("; ".join([*parts, *unmet(row, prefix)]))
    explanations = [
        f"{ONLY_IN_FLOAT}: {shown}" if shown and not as_float else shown
        for as_float, shown in zip(reasons["float"], reasons["png"], strict=True)
    ]
    return table.assign(valid=table["png_valid"], why_not=explanations)


def unmet(row: pd.Series, kind: str) -> list[str]:
    """Say which criteria of Feather et al. (2023) an image does not meet.

    Criteria that cannot be judged are left out.

    Parameters
    ----------
    row : pandas.Series
        Row of the table of `judge`.
    kind : {"float", "png"}
        The float pixels or the picture.

    Returns
    -------
    list of str
        Reasons; empty when all are met.
    """
    reasons = []
    flags = [f"{kind}_same_class_16", *(f"{kind}_{name}_above_null" for name in CRITERIA)]
    failed = {name: bool(pd.notna(row[name]) and not row[name]) for name in flags}
    if below := [name for name in CRITERIA if failed[f"{kind}_{name}_above_null"]]:
        reasons.append(f"not above the null in {', '.join(below)}")
    if failed[f"{kind}_same_class_16"]:
        reasons.append(
            f"{row[f'{kind}_category16']} to the network, not {row[f'{kind}_category16_reference']}"
        )
    return reasons


# -------------------------------------------------------------------------- the table of a set


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
        Adds the criteria of Feather et al. (2023), see `judge`, for the
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
    """Take the columns of a stimulus table from what `judge` found.

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
