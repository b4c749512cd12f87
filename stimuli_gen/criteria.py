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
from stimuli_gen.batches import batch_shape, images_at_once, rows_in_batches
from stimuli_gen.categories import N_IMAGENET, to_sixteen
from stimuli_gen.matching import Match
from stimuli_gen.models import StagedModel, predict
from stimuli_gen.similarity import CRITERIA, METRICS, finite_responses, inversion_loss
from stimuli_gen.stimuli import StimulusSet
from stimuli_gen.stored_images import ImagesOnDisk, from_8bit, read_png, to_8bit

if TYPE_CHECKING:
    import torch

    from stimuli_gen.nulls import NullDistribution

BATCH = 4
KINDS = ("float", "png")

# ------------------------------------------------------------------------------------------ classes


@checked_with(shapes={"references": "references 3 height width", "images": "images 3 height width"})
def same_class(
    model: StagedModel,
    references: np.ndarray | ImagesOnDisk,
    images: np.ndarray | ImagesOnDisk,
    batch_size: int | None = None,
) -> pd.DataFrame:
    """Tell whether a network gives each image the class of its reference.

    Parameters
    ----------
    model : StagedModel
        The network.
    references, images : ndarray or StoredImages
        (n, 3, height, width) float32 in [0, 1]; row by row.
    batch_size : int, optional
        Images a pass; by default 8 on a CPU, elsewhere as many as memory allows.

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
    before = predict(model, references, batch_size)
    after = predict(model, images, batch_size)
    return _class_columns(model, before, after)


def _class_columns(model: StagedModel, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    unknown = pd.array([pd.NA] * len(before), "boolean")
    columns = {
        "same_class_1000": unknown,
        "same_class_16": unknown,
        "same_class_16_mean_prob": unknown,
        "top1_reference": "",
        "top1": "",
        "category16_reference": "",
        "category16": "",
    }
    if not model.has_classes:
        return pd.DataFrame(columns)
    for probabilities in (before, after):
        rows = range(len(probabilities))
        finite_responses(probabilities, f"{model.name}, class probabilities", rows)
    first = before.argmax(axis=1)
    now = after.argmax(axis=1)
    names = np.array(model.class_names, dtype=object)
    columns["same_class_1000"] = first == now
    columns["top1_reference"] = names[first]
    columns["top1"] = names[now]
    if model.n_classes == N_IMAGENET:
        was, is_now = to_sixteen(before), to_sixteen(after)
        columns["same_class_16"] = was == is_now
        columns["category16_reference"] = was
        columns["category16"] = is_now
        rule = "mean_prob"
        columns["same_class_16_mean_prob"] = to_sixteen(before, rule) == to_sixteen(after, rule)
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
    batch_size: int | None = None,
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
    batch_size : int, optional
        Images a pass; by default 8 on a CPU, elsewhere as many as memory allows.
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
    if batch_size is not None:
        batch_shape(batch_size)  # refuses less than 1
    if not len(metamers):
        raise InputError("no metamers to judge; give at least one.")
    rows = references.rows_of(metamers.table["reference_id"], what="reference")
    matched = _match_nulls(models, nulls)
    pictures = shown_pictures(metamers, folder)
    total = len(models) * len(metamers)
    tables = []
    for number, ((model, stage), null) in enumerate(zip(models, matched, strict=True)):
        parts = []
        size = images_at_once(batch_size, model.device)
        for start in range(0, len(metamers), size):
            part = slice(start, min(start + size, len(metamers)))
            images = {"float": metamers.images[part], "png": pictures[part]}
            judged = _judge_batch(
                model,
                stage,
                null,
                quantile,
                references.images[rows[part]],
                images,
                metamers.ids[part],
                size,
            )
            parts.append(judged)
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
        numbers = pd.concat(parts, ignore_index=True)
        table = pd.concat([pd.DataFrame(identity), numbers], axis=1)
        tables.append(_with_validity(table, model))
    return pd.concat(tables, ignore_index=True)


def _match_nulls(
    models: Sequence[tuple[StagedModel, str]], nulls: Sequence[NullDistribution]
) -> list[NullDistribution | None]:
    """Join null distributions to networks and stages.

    Each null must belong to one of them, and no stage may have two.
    """
    if not models:
        raise InputError("no networks to judge with; give at least one with its stage.")
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
    matched = []
    again = []
    for model, stage in models:
        fitting = [null for null in nulls if null.stage_of(model, stage)]
        if len(fitting) > 1:
            again.append(f"{model.name} {stage}")
        matched.append(fitting[0] if fitting else None)
    if again:
        raise InputError(
            f"more than one null distribution for {name_ids(again)}; give one a network and stage."
        )
    return matched


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
        shown = metamers.as_shown()
        return shown.images
    pictures = np.empty(metamers.images.shape, np.float32)
    subfolder = Path(folder) / "png"
    for row, stimulus_id in enumerate(metamers.ids):
        name = file_name(stimulus_id)
        path = subfolder / f"{name}.png"
        picture = read_png(path)
        made = pictures.shape[1:]
        if picture.shape != made:
            raise InputError(
                f"{path} is {picture.shape[1:]} pixels, not {made[1:]} as made; write it again."
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
    rounded = expected
    if not np.array_equal(shown, references):
        rounded = _run(model, stage, shown, ids, batch_size)
    columns = []
    for prefix, (before, before_classes) in {"float": expected, "png": rounded}.items():
        after, after_classes = _run(model, stage, images[prefix], ids, batch_size)
        numbers: dict[str, Any] = {"loss": inversion_loss(before, after)}
        for name, metric in METRICS.items():
            values = metric(before, after)
            above = pd.Series([pd.NA] * len(values), dtype="boolean")
            exceedance = np.full(len(values), np.nan)
            if null is not None and of_null is not None:
                limit = null.limit(of_null, name, quantile)
                above = pd.Series(values > limit, dtype="boolean")
                exceedance = null.exceedance(of_null, name, values)
            numbers[name] = values
            numbers[f"{name}_above_null"] = above
            numbers[f"{name}_exceedance"] = exceedance
        classes = _class_columns(model, before_classes, after_classes)
        of_kind = pd.concat([pd.DataFrame(numbers), classes], axis=1)
        columns.append(of_kind.add_prefix(f"{prefix}_"))
    return pd.concat(columns, axis=1)


def _run(
    model: StagedModel, stage: str, images: np.ndarray, ids: Sequence[str], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute responses (n, units) and class probabilities of one batch.

    A network without classes has (n, 0) of these.
    """
    responses = rows_in_batches(
        lambda batch: model.activations(batch, [stage])[stage].flatten(1).float(),
        images,
        batch_size,
        model.device,
    )
    where = f"{model.name}, stage '{stage}'"
    finite_responses(responses, where, ids)
    if not model.has_classes:
        return responses, np.empty((len(images), 0), np.float32)
    probabilities = predict(model, images, batch_size)
    return responses, probabilities


def _with_validity(table: pd.DataFrame, model: StagedModel) -> pd.DataFrame:
    """Put the criteria together, and say which were not met."""
    reasons: dict[str, list[str]] = {}
    for prefix in ("float", "png"):
        wanted = ["same_class_16", *(f"{name}_above_null" for name in CRITERIA)]
        flags = table[[f"{prefix}_{name}" for name in wanted]]
        unknown = flags.isna().any(axis=1)
        meets_all = flags.fillna(False).astype(bool).all(axis=1)
        valid = meets_all.astype("boolean").mask(unknown)
        table = table.assign(**{f"{prefix}_valid": valid})
        reasons[prefix] = []
        for _, row in table.iterrows():
            parts = []
            if row["null_pairs"] == 0:
                parts.append("no null distribution was given for this network and stage")
            if not model.has_classes:
                parts.append(f"{model.name} has no classes: its output is an embedding")
            elif pd.isna(row[f"{prefix}_same_class_16"]):
                parts.append(
                    f"{model.name} has not ImageNet's 1,000 classes, of which the 16 categories "
                    "are made"
                )
            parts += unmet(row, prefix)
            reasons[prefix].append("; ".join(parts))
    explanations = []
    for as_float, shown in zip(reasons["float"], reasons["png"], strict=True):
        if shown and not as_float:
            shown = f"{ONLY_IN_FLOAT}: {shown}"
        explanations.append(shown)
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
    below = []
    for name in CRITERIA:
        above = row[f"{kind}_{name}_above_null"]
        if pd.notna(above) and not above:
            below.append(name)
    reasons = []
    if below:
        reasons.append(f"not above the null in {', '.join(below)}")
    same = row[f"{kind}_same_class_16"]
    if pd.notna(same) and not same:
        category = row[f"{kind}_category16"]
        wanted = row[f"{kind}_category16_reference"]
        reasons.append(f"{category} to the network, not {wanted}")
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
        only = []
        in_float = self.reasons["float"]
        in_png = self.reasons["png"]
        for exact, shown in zip(in_float, in_png, strict=True):
            only.append(bool(shown) and not exact)
        return only

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
        steps = pd.Series(0, index=stimuli.table.index)
        if "file_steps" in stimuli.table:
            steps = stimuli.table["file_steps"]
        success, why_not = [], []
        columns = (self.reasons["png"], self.only_in_float, steps)
        for reasons, only_in_float, taken in zip(*columns, strict=True):
            text = "; ".join(reasons)
            if only_in_float:
                tried = ""
                if taken:
                    tried = f", nor after {taken} steps on rounded images"
                text = f"{ONLY_IN_FLOAT}{tried}: {text}"
            success.append(not reasons)
            why_not.append(text)
        table = stimuli.table.assign(
            **self.columns,
            success=success,
            confirmed=confirmed,
            why_not=why_not,
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
        seen, loss = {}, {}
        for kind, shown in images.items():
            seen[kind] = top_class(match.model, shown)
            loss[kind] = _errors(match, references.images, shown)
            columns[f"loss_{kind}{end}"] = loss[kind]
        same: dict[str, Any] = {kind: own == seen[kind] for kind in KINDS}
        if not match.model.has_classes:
            same = dict.fromkeys(KINDS, pd.array([pd.NA] * len(own), "boolean"))
        columns[f"same_class_1000{end}"] = same["png"]
        columns[f"same_class_1000_float{end}"] = same["float"]
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
            batch_size=judged_at_once(networks[0].device),
        )
        columns |= validity_columns(judged, models_and_stages, stimuli.ids, len(matches))
        rows = stimuli.rows_of(judged["id"])
        for row, (_, line) in zip(rows, judged.iterrows(), strict=True):
            where = f"{line['model']} {line['stage']}"
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
    name, classes = match.model.name, match.model.class_names
    for row, reason in enumerate(reasons):
        wanted, now = own[row], seen[row]
        if wanted != now:
            reason.append(f"{name} says {classes[now]} instead of {classes[wanted]}")
        error, limit = loss[row], limits[row]
        if error > limit:
            reason.append(f"{name}: loss {error:.4f} above {limit:g}")


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
    if len(matches) == 1:
        return [""]
    return [f"_{match.model.name}" for match in matches]


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
    models_and_stages = []
    for network, match in zip(networks, matches, strict=True):
        known = set(network.stages)
        names_all = known.issuperset(match.stages)
        model = network if names_all else match.model
        for stage in match.stages:
            models_and_stages.append((model, stage))
    return models_and_stages


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
        is_own = (judged["model"] == model.name) & (judged["stage"] == stage)
        part = judged[is_own].set_index("id").loc[list(ids)]
        end = f"_{model.name}" if n_networks > 1 else ""
        end += f"_{stage}" if len(models_and_stages) > n_networks else ""
        for metric in (*METRICS, "same_class_16"):
            for kind in KINDS:
                columns[f"{metric}_{kind}{end}"] = part[f"{kind}_{metric}"].to_numpy()
        flags = [f"png_{metric}_above_null" for metric in CRITERIA]
        above = part[flags].astype("boolean")
        all_above = above.all(axis=1, skipna=False)
        columns[f"above_null_png{end}"] = all_above.to_numpy()
        columns[f"valid{end}"] = part["valid"].to_numpy()
    return columns


def _errors(match: Match, references: Any, images: Any) -> np.ndarray:
    errors = rows_in_batches(
        lambda photographs, batch: match.error(batch, match.anchors(photographs)),
        (references, images),
        judged_at_once(match.model.device),
        match.model.device,
    )
    return errors.astype(np.float64)


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
        (n,) int, places in its class names; -1 where the network has no classes.
    """
    if not model.has_classes:
        return np.full(len(images), -1)
    size = judged_at_once(model.device)
    return rows_in_batches(
        lambda batch: model.logits(batch).argmax(dim=1), images, size, model.device
    )


def judged_at_once(device: torch.device) -> int | None:
    """Choose how many images are judged at once where the caller does not say.

    Parameters
    ----------
    device : torch.device
        Of the network.

    Returns
    -------
    int or None
        As many as are made at once on a CPU, so that both get the same arithmetic; elsewhere as
        many as memory allows.
    """
    return BATCH if device.type == "cpu" else None
