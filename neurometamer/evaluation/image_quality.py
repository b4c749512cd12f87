"""How metamers look beside their photographs: the image metrics of Boehm et al. (2025, Fig. 4).

The definitions are torchmetrics', each with the scale that it needs. Six need no weights. FID,
LPIPS and CLIP-IQA use networks: they run where a local file (or the network itself) is given, and
otherwise have a row that says why not; nothing is downloaded.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Fig. 4. It does not state scales; those here are in
`METRICS`. Detlefsen, N. S. et al. (2022). TorchMetrics. JOSS 7(70), 4101.
"""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.evaluation.sets import (
    FLAGS,
    MetamerSet,
    no_valid_note,
    pass_rates,
    reported_states,
    summarize,
)
from neurometamer.run_options import RunOptions
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import torch

    from stimuli_gen.stored_images import ImagesOnDisk

Weights = Mapping[str, Any]
Images: TypeAlias = "np.ndarray | ImagesOnDisk"
FID_ENOUGH = 2049
"""Fewest images for which a covariance of 2,048 features can have full rank.

With fewer images, FID is biased upwards.
"""
CLIP_PROMPT = "natural"
_SMALLEST = 41


class _SkippedError(Exception):
    """A metric cannot run here; the text says why."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class ImageMetric:
    """Description of a metric.

    Attributes
    ----------
    name : str
        As in the paper.
    better : {"higher", "lower"}
        Direction.
    scale : str
        What goes in, and what comes out.
    needs : {"pair", "image", "sets"}
        Compares each metamer with its photograph, looks at single images, or compares the two sets.
    weights : bool
        Needs a network.
    """

    name: str
    better: str
    scale: str
    needs: str = "pair"
    weights: bool = False

    @property
    def arrow(self) -> str:
        """Arrow of the better direction.

        Returns
        -------
        str
            ``↑`` where higher is better, else ``↓``.
        """
        return "↑" if self.better == "higher" else "↓"


METRICS: Mapping[str, ImageMetric] = {
    "fid": ImageMetric(
        name="FID",
        better="lower",
        needs="sets",
        weights=True,
        scale="8-bit levels in, rounded, not cut off; 0 or more",
    ),
    "ssim": ImageMetric(name="SSIM", better="higher", scale="data range 1; at most 1"),
    "psnr": ImageMetric(
        name="PSNR",
        better="higher",
        scale="dB, peak 1 (the paper takes each image's maximum); infinite for equal images",
    ),
    "vif": ImageMetric(
        name="VIF",
        better="higher",
        scale="levels of 0 to 255, the unit of its noise variance 2; about 0 to 1, can exceed 1",
    ),
    "lpips": ImageMetric(
        name="LPIPS", better="lower", weights=True, scale="[-1, 1] in; about 0 to 1"
    ),
    "rase": ImageMetric(name="RASE", better="lower", scale="free of scale; 0 to thousands"),
    "scc": ImageMetric(
        name="SCC", better="higher", scale="-1 to 1; falls to 0 with the slightest noise"
    ),
    "tv": ImageMetric(
        name="TV",
        better="lower",
        needs="image",
        scale="sum of absolute differences per pixel and channel, pixels in [0, 1]",
    ),
    "clip_iqa": ImageMetric(
        name="CLIP-IQA",
        better="higher",
        needs="image",
        weights=True,
        scale="probability of the prompt 'Natural photo.' against 'Synthetic photo.'",
    ),
}
"""Key to description, in the order of the paper."""

# ---------------------------------------------------------------------------------- without weights


def _pair_measures() -> dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """Compute the metrics that need no weights: (b,) each.

    Images and references have the shape (b, 3, height, width) and lie in [0, 1].
    """
    _need("torchmetrics", "metrics of image quality")
    from torchmetrics.functional.image import peak_signal_noise_ratio, total_variation

    from neurometamer.evaluation import filters

    return {
        "ssim": filters.ssim,
        "psnr": lambda x, y: peak_signal_noise_ratio(
            x, y, data_range=1.0, reduction="none", dim=(1, 2, 3)
        ),
        "vif": lambda x, y: filters.vif(255 * x, 255 * y),
        "rase": filters.rase,
        "scc": filters.scc,
        "tv": lambda x, _: total_variation(x, reduction="none") / x[0].numel(),
    }


def _need(package: str, what: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{what} need {package}; run: pip install 'neurometamer[evaluation]'")


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
    import torch

    free = [key for key, metric in METRICS.items() if not metric.weights]
    keys = free if metrics is None else list(metrics)
    for key in keys:
        if key not in free:
            raise unknown_name("image metric without weights", key, free)
    _check_pairs(images, references)
    measures = _pair_measures()
    batch_size = (run or RunOptions()).batch_size
    values: dict[str, list[np.ndarray]] = {key: [np.zeros(0)] for key in keys}
    with torch.inference_mode():
        for x, y in _batches(images, references, batch_size):
            for key in keys:
                values[key].append(measures[key](x, y).double().cpu().numpy())
    return pd.DataFrame({key: np.concatenate(parts) for key, parts in values.items()})


def _check_pairs(images: Images, references: Images) -> None:
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
    for what, values in (("images", images), ("references", references)):
        bad = [
            row for row, image in enumerate(values) if not (image.min() >= 0 and image.max() <= 1)
        ]
        if bad:
            raise InputError(f"{what} leave [0, 1] or are not finite in row(s) {name_ids(bad)}.")


def _batches(images: Images, references: Images, batch_size: int) -> Any:
    import torch

    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        yield tuple(
            torch.from_numpy(np.ascontiguousarray(pictures[rows], dtype=np.float32))
            for pictures in (images, references)
        )


# ------------------------------------------------------------------------------------- with weights


def _file(weights: Weights, key: str) -> Path:
    given = weights.get(key)
    if given is None:
        raise _SkippedError(f"skipped: weights missing; give a local file for {key}")
    if not Path(given).exists():
        raise _SkippedError(f"skipped: weights missing at {given}")
    return Path(given)


def _package(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise _SkippedError(f"skipped: package {name.replace('_', '-')} missing")


def _lpips(weights: Weights) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Load LPIPS: the backbone from a file, the linear heads from torchmetrics.

    The backbone is AlexNet, VGG16 or SqueezeNet 1.1.
    """
    from torch import nn

    network = weights.get("lpips")
    if not isinstance(network, nn.Module):
        network = _lpips_network(_file(weights, "lpips"))
    # normalize: from [0, 1] to [-1, 1]
    return lambda x, y: network(x, y, normalize=True).reshape(-1)


def _lpips_network(path: Path) -> torch.nn.Module:
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    from neurometamer.zoo import read_weights

    weights = read_weights(path)
    state = {name: value for name, value in weights.items() if name.startswith("features.")}
    kinds: dict[tuple[int, ...], Any] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
    first = tuple(state["features.0.weight"].shape) if "features.0.weight" in state else ()
    kind: Any = "squeeze" if any(".squeeze." in name for name in state) else kinds.get(first)
    if kind is None:
        raise InputError(
            f"{path} holds no backbone of LPIPS; give torchvision's alexnet, vgg16 or "
            "squeezenet1_1."
        )
    # random, so that nothing is downloaded; filled now
    network = _NoTrainLpips(net=kind, pnet_rand=True)
    # slice1.0.weight, or slices.0.0.weight of SqueezeNet: after the slice comes the position in
    # torchvision's features
    filled = {}
    for name in network.net.state_dict():
        own_name = re.sub(r"^(slices\.\d+|slice\d+)\.", "features.", name)
        filled[name] = state.get(own_name)
    if missing := [name for name, value in filled.items() if value is None]:
        raise InputError(f"{path} lacks {name_ids(missing)} of LPIPS' {kind} backbone.")
    network.net.load_state_dict(filled)
    return network.eval()


def _clip_iqa(weights: Weights) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Load CLIP-IQA: a folder with a CLIP model as transformers saves it, or (model, processor)."""
    from torchmetrics.functional.multimodal.clip_iqa import (
        _clip_iqa_compute,
        _clip_iqa_format_prompts,
        _clip_iqa_get_anchor_vectors,
        _clip_iqa_update,
    )

    given = weights.get("clip_iqa")
    name = "local"  # any other than "clip_iqa" is a model in transformers' form
    if isinstance(given, tuple):
        model, processor = given
    else:
        folder = _file(weights, "clip_iqa")
        _package("transformers")
        import transformers

        model = transformers.CLIPModel.from_pretrained(folder, local_files_only=True).eval()
        processor = transformers.CLIPProcessor.from_pretrained(folder, local_files_only=True)
    prompts, names = _clip_iqa_format_prompts((CLIP_PROMPT,))
    anchors = _clip_iqa_get_anchor_vectors(name, model, processor, prompts, "cpu")

    def _measure(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        features = _clip_iqa_update(name, x, model, processor, 1.0, "cpu")
        scores: Any = _clip_iqa_compute(features, anchors, names, format_as_dict=False)
        return scores.reshape(-1)

    return _measure


def _fid(weights: Weights) -> Any:
    """Load FID: a network from levels (b, 3, h, w) uint8 to features (b, d).

    Instead of a network, the file of torch-fidelity's network can be given.
    """
    from torch import nn
    from torchmetrics.image.fid import FrechetInceptionDistance

    given = weights.get("fid")
    if isinstance(given, nn.Module):
        return FrechetInceptionDistance(feature=given)
    path = _file(weights, "fid")
    _package("torch_fidelity")
    return FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=str(path))


_LOADERS = {"lpips": _lpips, "clip_iqa": _clip_iqa}

# ----------------------------------------------------------------------------------------- all nine


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
        pass rates, and note. A metric that cannot run has a row with NaN and ``skipped: …`` as
        note.

    Raises
    ------
    InputError
        When there is no set, a metric is unknown, or images are too small.

    Warns
    -----
    UserWarning
        When FID is taken of fewer than 2,049 images.
    """
    keys = list(METRICS) if metrics is None else list(metrics)
    for key in keys:
        if key not in METRICS:
            raise unknown_name("image metric", key, METRICS)
    if not sets:
        raise InputError("no metamers to measure; give at least one set.")
    _need("torchmetrics", "metrics of image quality")
    measured = image_quality_table(sets, metrics=keys, weights=weights, run=run)
    table = measured.drop(columns="photograph_value")
    means = summarize(
        table, ["metric"], "value", n_resamples=n_resamples, confidence=confidence, seed=seed
    )
    if not means.empty:
        # add the values of all photographs of a set
        same = ["set", "members", "stage", "setting", "metric"]
        photographs = measured.groupby(same, as_index=False)["photograph_value"].mean()
        means = means.merge(photographs, on=same, how="left")
    if "fid" in keys:
        batch_size = (run or RunOptions()).batch_size
        fid = [_fid_rows(metamers, dict(weights or {}), batch_size) for metamers in sets]
        means = pd.concat([means, *fid])
    about = pd.DataFrame(
        {
            "metric": keys,
            "name": [METRICS[key].name for key in keys],
            "better": [METRICS[key].better for key in keys],
            "arrow": [METRICS[key].arrow for key in keys],
            "scale": [METRICS[key].scale for key in keys],
        }
    )
    means = means.merge(about, on="metric").drop(columns=["sd", "n_averaged"], errors="ignore")
    names = [" · ".join(metamers.label.values()) for metamers in sets]
    labels = means[["set", "members", "stage", "setting"]].agg(" · ".join, axis=1)
    ranks = pd.DataFrame(
        {"set": labels.map(names.index), "metric": means["metric"].map(keys.index)}
    )
    order = ranks.sort_values(["set", "metric"], kind="stable").index
    return _with_skips(means.loc[order].reset_index(drop=True), measured)


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
        the flags of validity, and ``why_not`` (``skipped: …``, the value being NaN).

    Raises
    ------
    InputError
        When images are too small or a weights file holds something else.
    """
    run = run or RunOptions()
    chosen = METRICS if metrics is None else metrics
    keys = [key for key in chosen if METRICS[key].needs != "sets"]
    free = [key for key in keys if not METRICS[key].weights]
    networks: dict[str, Callable[..., Any]] = {}
    reasons: dict[str, str] = {}
    for key in keys:
        if METRICS[key].weights:
            try:
                networks[key] = _LOADERS[key](dict(weights or {}))
            except _SkippedError as skipped:
                reasons[key] = str(skipped)
    alone = [key for key in keys if METRICS[key].needs == "image"]
    parts = []
    for metamers in sets:
        pictures, references = metamers.pictures, metamers.references
        values = _measure_all(pictures, references, free, networks, run)
        free_alone = [key for key in free if key in alone]
        networks_alone = {key: networks[key] for key in alone if key in networks}
        before = _measure_all(references, references, free_alone, networks_alone, run)
        for key in keys:
            part = metamers.table[["id", "reference_id"]].reset_index(drop=True)
            for position, (name, text) in enumerate(metamers.label.items()):
                part.insert(position, name, text)
            part["metric"] = key
            part["value"] = np.asarray(values.get(key, np.nan), dtype=float)
            part["photograph_value"] = np.asarray(before.get(key, np.nan), dtype=float)
            for flag in FLAGS:
                part[flag] = metamers.table[flag].array
            part["why_not"] = reasons.get(key, "")
            parts.append(part)
    columns = [
        "set",
        "members",
        "stage",
        "setting",
        "id",
        "reference_id",
        "metric",
        "value",
        "photograph_value",
    ]
    if not parts:
        return pd.DataFrame(columns=[*columns, *FLAGS, "why_not"])
    return pd.concat(parts, ignore_index=True)


def _measure_all(
    images: Images,
    references: Images,
    free: Sequence[str],
    networks: Mapping[str, Callable[..., Any]],
    run: RunOptions,
) -> dict[str, Any]:
    """Measure images by metrics without weights and by networks: key to (n,) values."""
    import torch

    values: dict[str, Any] = dict(measure_images(images, references, free, run=run))
    for key, measure in networks.items():
        with torch.inference_mode():
            parts = [
                measure(x, y).double().cpu().numpy()
                for x, y in _batches(images, references, run.batch_size)
            ]
        values[key] = np.concatenate(parts)
    return values


def _with_skips(means: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """Add to the notes why a metric has no number."""
    skipped = measured.loc[measured["why_not"] != "", ["metric", "why_not"]].drop_duplicates()
    reason_of = dict(zip(skipped["metric"], skipped["why_not"], strict=True))
    reasons = [reason_of.get(metric, "") for metric in means["metric"]]
    notes = ["; ".join(filter(None, pair)) for pair in zip(reasons, means["note"], strict=True)]
    is_skipped = np.array(reasons, dtype=object) != ""
    return means.assign(note=notes, n=np.where(is_skipped, 0, means["n"]))


def _fid_rows(metamers: MetamerSet, weights: Weights, batch_size: int) -> pd.DataFrame:
    """Compare photographs and metamers of one set, valid and failed apart."""
    rates = pass_rates(metamers.table)
    rows = []
    for state in reported_states(metamers.states):
        in_state = np.flatnonzero(metamers.states == state)
        value, note = np.nan, no_valid_note(rates)
        if len(in_state):
            value, note = _fid_of(metamers, in_state, weights, batch_size)
        n = len(in_state) if np.isfinite(value) else 0
        rows.append(
            {
                **metamers.label,
                "metric": "fid",
                "validity": state,
                "n": n,
                "value": value,
                "low": np.nan,
                "high": np.nan,
                **rates,
                "note": note,
                "photograph_value": np.nan,
            }
        )
    return pd.DataFrame(rows)


def _fid_of(
    metamers: MetamerSet, rows: np.ndarray, weights: Weights, batch_size: int
) -> tuple[float, str]:
    import torch

    from stimuli_gen.stimuli import to_8bit

    try:
        metric = _fid(weights)
    except _SkippedError as skipped:
        return np.nan, str(skipped)
    if len(rows) < 2:
        return np.nan, "skipped: FID needs at least 2 images"
    note = ""
    if len(rows) < FID_ENOUGH:
        note = f"{len(rows)} images, fewer than {FID_ENOUGH}: FID is biased"
        warnings.warn(
            f"{metamers.name}, {metamers.stage}: {note}; compare only sets of one size.",
            UserWarning,
            stacklevel=4,
        )
    with torch.inference_mode():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            metric.update(torch.from_numpy(to_8bit(metamers.references[part])), real=True)
            metric.update(torch.from_numpy(to_8bit(metamers.pictures[part])), real=False)
        return float(metric.compute()), note
