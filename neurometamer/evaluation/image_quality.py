"""How metamers look beside their photographs: the image metrics of Boehm et al. (2025, Fig. 4).

The definitions are torchmetrics', each with the scale that it needs. Six need no weights. FID,
LPIPS and CLIP-IQA use networks: they run where a local file (or the network itself) is given, and
otherwise have a row that says why not; nothing is downloaded.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Fig. 4. It does not state scales; those here are in
`image_metrics.METRICS`. Detlefsen, N. S. et al. (2022). TorchMetrics. JOSS 7(70), 4101.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.evaluation.image_metrics import METRICS, Measure, SkippedError, Weights, load_fid
from neurometamer.evaluation.sets import (
    FLAGS,
    SET_COLUMNS,
    MetamerSet,
    no_valid_note,
    pass_rates,
    reported_states,
    summarize,
)
from neurometamer.run_options import RunOptions
from stimuli_gen.stimuli import to_8bit

if TYPE_CHECKING:
    from stimuli_gen.stored_images import ImagesOnDisk

Images: TypeAlias = "np.ndarray | ImagesOnDisk"
FID_ENOUGH = 2049
"""Fewest images for which a covariance of 2,048 features can have full rank.

With fewer images, FID is biased upwards.
"""
_SMALLEST = 41


# ----------------------------------------------------------------------------------- image by image


@checked
def measure_images(
    images: Images,
    references: Images,
    metrics: Sequence[str] | None = None,
    *,
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Measure images beside their references by the metrics that need no weights.

    Parameters
    ----------
    images, references : ndarray or ImagesOnDisk
        (n, 3, height, width) float32 in [0, 1], row by row; at least 41 × 41 pixels.
    metrics : sequence of str, optional
        Keys of `METRICS` without weights; all six by default.
    run : RunOptions, optional
        Batch size; memory is about 60 float32 copies of a batch.

    Returns
    -------
    pandas.DataFrame
        (n, metrics) float64. Equal to each torchmetrics class called image by image, but for
        float32 rounding: within 5e-4 of SSIM and VIF, 1e-3 of SCC (in windows without contrast it
        divides one rounding error by another), and 1e-4 of the value of the others.

    Raises
    ------
    InputError
        When a metric is unknown or needs weights, sizes differ, are too small, or values leave [0,
        1].

    Examples
    --------
    >>> images = np.random.default_rng(0).random((1, 3, 48, 48), dtype=np.float32)
    >>> measure_images(images, images, ["ssim", "psnr"]).round(3).values.tolist()
    [[1.0, inf]]
    """
    free = {key: metric.measure for key, metric in METRICS.items() if metric.measure}
    measures = {}
    for key in free if metrics is None else metrics:
        if key not in free:
            raise unknown_name("image metric without weights", key, free)
        measures[key] = free[key]
    return pd.DataFrame(_measured(images, references, measures, run or RunOptions()))


def _measured(
    images: Images,
    references: Images,
    measures: Mapping[str, Measure],
    run: RunOptions,
) -> dict[str, np.ndarray]:
    """Measure images beside their references: key of a metric to (n,) values."""
    import torch

    from stimuli_gen.batches import CPU_BATCH

    if images.shape != references.shape or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images {tuple(images.shape)} and references {tuple(references.shape)} must be two "
            "arrays (n, 3, height, width) of one shape."
        )
    if min(images.shape[2:]) < _SMALLEST:
        raise InputError(
            f"images are {tuple(images.shape[2:])} pixels; these metrics need {_SMALLEST} x "
            f"{_SMALLEST}."
        )
    for what, arrays in (("images", images), ("references", references)):
        bad = []
        for row, image in enumerate(arrays):
            if not (image.min() >= 0 and image.max() <= 1):
                bad.append(row)
        if bad:
            raise InputError(
                f"{what} leave [0, 1] or are not finite in row(s) {name_ids(bad)}; give pixels "
                "from 0 to 1."
            )
    _need_torchmetrics()
    size = run.batch_size or CPU_BATCH
    values = {key: [np.zeros(0)] for key in measures}
    with torch.inference_mode():
        for start in range(0, len(images), size):
            rows = slice(start, start + size)
            x = torch.from_numpy(np.ascontiguousarray(images[rows], dtype=np.float32))
            y = torch.from_numpy(np.ascontiguousarray(references[rows], dtype=np.float32))
            for key, measure in measures.items():
                values[key].append(measure(x, y).cpu().double().numpy())
    return {key: np.concatenate(parts) for key, parts in values.items()}


def _need_torchmetrics() -> None:
    if importlib.util.find_spec("torchmetrics") is None:
        raise InputError(
            "metrics of image quality need torchmetrics; run: pip install "
            "'neurometamer[evaluation]'"
        )


def _chosen_metrics(metrics: Sequence[str] | None) -> list[str]:
    if metrics is None:
        return list(METRICS)
    for key in metrics:
        if key not in METRICS:
            raise unknown_name("image metric", key, METRICS)
    return list(metrics)


def image_quality_table(
    sets: Sequence[MetamerSet],
    *,
    metrics: Sequence[str] | None = None,
    weights: Weights | None = None,
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Measure every metamer by every metric but FID.

    Parameters
    ----------
    sets : sequence of MetamerSet
        What to measure.
    metrics : sequence of str, optional
        Keys of `METRICS`.
    weights : mapping, optional
        See `image_quality`.
    run : RunOptions, optional
        Batch size.

    Returns
    -------
    pandas.DataFrame
        One row a set × image × metric: the set, id, reference_id, metric, value, photograph_value,
        the flags of validity, skipped (bool: the metric cannot run, and the value is NaN), and note
        (why).

    Raises
    ------
    InputError
        When a metric is unknown, images are too small, or a weights file holds something else.
    """
    run = run or RunOptions()
    keys = [key for key in _chosen_metrics(metrics) if METRICS[key].needs != "sets"]
    measures: dict[str, Measure] = {}
    reasons: dict[str, str] = {}
    for key in keys:
        metric = METRICS[key]
        if metric.measure is not None:
            measures[key] = metric.measure
        elif metric.load is not None:
            try:
                measures[key] = metric.load(dict(weights or {}))
            except SkippedError as skipped:
                reasons[key] = str(skipped)
    of_single = {key: measures[key] for key in measures if METRICS[key].needs == "image"}
    parts = []
    for metamers in sets:
        values = _measured(metamers.pictures, metamers.references, measures, run)
        before = _measured(metamers.references, metamers.references, of_single, run)
        for key in keys:
            part = metamers.table[["id", "reference_id"]].reset_index(drop=True)
            for position, (name, text) in enumerate(metamers.label.items()):
                part.insert(position, name, text)
            part["metric"] = key
            part["value"] = np.asarray(values.get(key, np.nan), dtype=float)
            part["photograph_value"] = np.asarray(before.get(key, np.nan), dtype=float)
            for flag in FLAGS:
                part[flag] = metamers.table[flag].array
            part["skipped"] = key in reasons
            part["note"] = reasons.get(key, "")
            parts.append(part)
    if not parts:
        columns = [*SET_COLUMNS, "id", "reference_id", "metric", "value", "photograph_value"]
        return pd.DataFrame(columns=[*columns, *FLAGS, "skipped", "note"])
    return pd.concat(parts, ignore_index=True)


# --------------------------------------------------------------------------------------- set by set


@checked
def image_quality(
    sets: Sequence[MetamerSet],
    *,
    metrics: Sequence[str] | None = None,
    weights: Mapping[str, str | os.PathLike[str] | Any] | None = None,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Measure how metamers look, each set by each metric.

    Parameters
    ----------
    sets : sequence of MetamerSet
        What to measure; photographs and metamers as 8-bit pictures.
    metrics : sequence of str, optional
        Keys of `METRICS`; all nine by default.
    weights : mapping, optional
        ``fid``: file of torch-fidelity's Inception, or a network from uint8 images to features.
        ``lpips``: file of torchvision's alexnet, vgg16 or squeezenet1_1, or a network.
        ``clip_iqa``: folder of a CLIP model of transformers, or (model, processor).
    n_resamples : int
        Resamples of images. FID, a number of a whole set, has no interval.
    confidence : float
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.
    run : RunOptions, optional
        Batch size.

    Returns
    -------
    pandas.DataFrame
        One row a set × metric × validity: better, arrow, scale, value, low, high, n,
        photograph_value (of the metrics that look at single images: the same of the photographs),
        pass rates, note, skipped (bool: the metric cannot run; the value is NaN, and note says why)
        and biased (bool: FID of fewer than 2,049 images).

    Raises
    ------
    InputError
        When there is no set, a metric is unknown, or images are too small.

    Warns
    -----
    UserWarning
        When FID is taken of fewer than 2,049 images.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.evaluation import image_quality, metamer_set
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 48, 48), dtype=np.float32)
    >>> table = pd.DataFrame({"id": ["cat", "cup"], "kind": "RE", "reference_id": ["cat", "cup"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> table = table.assign(id=["cat_m", "cup_m"], kind="metamer", valid=True)
    >>> metamers = StimulusSet(images=images / 2, table=table)
    >>> joined = metamer_set(photographs, metamers, members=["alexnet"], stage="late")
    >>> quality = image_quality([joined], metrics=["ssim", "psnr"], n_resamples=100)
    >>> quality[["name", "arrow", "value", "n"]].round(1).values.tolist()
    [['SSIM', '↑', 0.6, 2], ['PSNR', '↑', 10.8, 2]]
    """
    keys = _chosen_metrics(metrics)
    if not sets:
        raise InputError("no metamers to measure; give at least one set.")
    _need_torchmetrics()
    run = run or RunOptions()
    measured = image_quality_table(sets, metrics=keys, weights=weights, run=run)
    means = summarize(
        measured.drop(columns=["photograph_value", "skipped", "note"]),
        ["metric"],
        "value",
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )
    if not means.empty:
        # add the values of all photographs of a set, and why a metric has no number
        same = [*SET_COLUMNS, "metric"]
        photographs = measured.groupby(same, as_index=False)["photograph_value"].mean()
        means = means.merge(photographs, on=same, how="left")
        reasons = measured.groupby("metric")["note"].first()
        why = means["metric"].map(reasons)
        means["skipped"] = why != ""
        both = why + "; " + means["note"]
        means["note"] = both.str.strip("; ").where(means["skipped"], means["note"])
        means["n"] = means["n"].where(~means["skipped"], 0)
        means["biased"] = False
    for metamers in sets if "fid" in keys else ():
        means = pd.concat([means, _fid_rows(metamers, dict(weights or {}), run)])
    described = []
    for key in keys:
        metric = METRICS[key]
        described.append(
            {
                "metric": key,
                "name": metric.name,
                "better": metric.better,
                "arrow": metric.arrow,
                "scale": metric.scale,
            }
        )
    means = means.merge(pd.DataFrame(described), on="metric")
    means = means.drop(columns=["sd", "n_averaged"], errors="ignore")
    names = [" · ".join(metamers.label.values()) for metamers in sets]
    labels = means[list(SET_COLUMNS)].agg(" · ".join, axis=1)
    ranks = pd.DataFrame(
        {
            "set": labels.map(names.index),
            "metric": means["metric"].map(keys.index),
        }
    )
    order = ranks.sort_values(["set", "metric"], kind="stable").index
    return means.loc[order].reset_index(drop=True)


def _fid_rows(metamers: MetamerSet, weights: Weights, run: RunOptions) -> pd.DataFrame:
    """Compare photographs and metamers of one set, valid and failed apart."""
    import torch

    from stimuli_gen.batches import CPU_BATCH

    size = run.batch_size or CPU_BATCH
    rates = pass_rates(metamers.table)
    rows = []
    for state in reported_states(metamers.states):
        in_state = np.flatnonzero(metamers.states == state)
        value = np.nan
        note = no_valid_note(rates)
        skipped = is_biased = False
        if len(in_state):
            note = ""
            try:
                metric = load_fid(weights)
                if len(in_state) < 2:
                    raise SkippedError("skipped: FID needs at least 2 images")
                with torch.inference_mode():
                    for start in range(0, len(in_state), size):
                        part = in_state[start : start + size]
                        references = to_8bit(metamers.references[part])
                        pictures = to_8bit(metamers.pictures[part])
                        metric.update(torch.from_numpy(references), real=True)
                        metric.update(torch.from_numpy(pictures), real=False)
                    value = float(metric.compute())
                is_biased = len(in_state) < FID_ENOUGH
            except SkippedError as reason:
                skipped = True
                note = str(reason)
        if is_biased:
            note = f"{len(in_state)} images, fewer than {FID_ENOUGH}: FID is biased"
            warnings.warn(
                f"{metamers.name}, {metamers.stage}: {note}; compare only sets of one size.",
                UserWarning,
                stacklevel=4,
            )
        rows.append(
            {
                **metamers.label,
                "metric": "fid",
                "validity": state,
                "n": len(in_state) if np.isfinite(value) else 0,
                "value": value,
                "low": np.nan,
                "high": np.nan,
                **rates,
                "note": note,
                "photograph_value": np.nan,
                "skipped": skipped,
                "biased": is_biased,
            }
        )
    return pd.DataFrame(rows)
