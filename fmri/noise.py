"""Noise ceilings of voxels and regions from repeated presentations, for each image type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from fmri.patterns import Patterns, voxel_key, voxel_names
from fmri.variances import ResponseVariances, response_variances
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name

ALL_TYPES = "all"
"""Name of the image type of patterns whose image types are not given."""


@checked
def voxel_ceilings(
    patterns: Patterns, image_types: Mapping[str, str] | str | None = None
) -> pd.DataFrame:
    """Estimate signal, noise and noise ceiling of each voxel, for each image type by itself.

    Parameters
    ----------
    patterns : Patterns
        Responses to single presentations.
    image_types : mapping of str to str, or str, optional
        Type of each condition (``{"img01": "RE", ...}``; further ids are ignored), or the column of
        the observations that holds it. By default all are of one type, ``"all"``.

    Returns
    -------
    pandas.DataFrame
        One row a voxel and image type: the columns that tell voxels apart, ``image_type``,
        ``n_images``, ``repeats`` (harmonic mean), ``signal_variance`` (unbiased, may be below 0)
        and ``noise_variance`` in squared units of the responses, ``ncsnr``, ``nc`` (noise ceiling
        of mean responses, % of variance in [0, 100)), ``r`` (the same as a correlation: root of
        nc / 100), and ``nc_unclipped`` (without bias, may be below 0; average this one).

    Raises
    ------
    InputError
        When conditions have no type, a type has fewer than 4 images or no image twice, or voxels
        have no noise; subject, ROI and type are named.

    Notes
    -----
    With k presentations NC % = 100 ncsnr² / (ncsnr² + 1 / k). A ceiling of an image type holds for
    images as they were shown: AN that drive a region less have a lower one, and a lower score there
    may be noise alone. Offsets between runs or sessions count as noise; see `zscore_patterns`.

    References
    ----------
    Allen et al. (2022), Nature Neuroscience 25, 116-126.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> shown = {"condition": [f"c{i}" for i in range(30)] * 2, "presentation": [1] * 30 + [2] * 30}
    >>> signal = np.tile(random.standard_normal((30, 4)), (2, 1))
    >>> patterns = Patterns(
    ...     values=signal + 0.5 * random.standard_normal((60, 4)),
    ...     observations=pd.DataFrame({**shown, "run": shown["presentation"], "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(4), "j": 0, "k": 0}),
    ... )
    >>> table = voxel_ceilings(patterns)
    >>> table["image_type"].tolist(), bool((table["r"] > 0.8).all())
    (['all', 'all', 'all', 'all'], True)
    """
    names = voxel_key(patterns.voxels)
    tables = []
    for _, part, image_type in typed_regions(patterns, image_types):
        variances = region_variances(part, image_type)
        columns = {
            "image_type": image_type,
            "n_images": variances.n_images,
            "repeats": variances.repeats,
            "signal_variance": variances.signal,
            "noise_variance": variances.noise,
            "ncsnr": variances.ncsnr,
            "nc": 100 * variances.ceiling,
            "r": np.sqrt(variances.ceiling),
            "nc_unclipped": 100 * variances.unclipped,
        }
        tables.append(part.voxels[names].assign(**columns))
    return pd.concat(tables, ignore_index=True)


@checked
def region_ceilings(
    patterns: Patterns, image_types: Mapping[str, str] | str | None = None
) -> pd.DataFrame:
    """Summarize the noise ceilings of each region's voxels, for each image type by itself.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.

    Returns
    -------
    pandas.DataFrame
        One row a subject, region and image type: ``n_voxels``, ``n_images``, ``repeats`` (harmonic
        mean), ``ncsnr_low``, ``ncsnr_median``, ``ncsnr_high`` (quartiles over voxels), ``nc``
        (noise ceiling of mean responses, % of variance, mean over voxels), ``r`` (the root of that
        mean, with its sign: the root mean square over voxels of the ceiling as a correlation),
        ``mean_r`` (mean over voxels of the ceiling as a correlation), ``method``.

    Raises
    ------
    InputError
        See `voxel_ceilings`.

    Notes
    -----
    Ceilings of voxels that are clipped at 0 are too high on average where there is little signal
    (two presentations of 40 images, no signal: 10 %, and .21 as a correlation). `nc` averages the
    unclipped ones, 1 - (n - 3) / (n - 1) / F, whose expectation is the truth for normal signal and
    noise (with unequal repeats n - 1 is Satterthwaite's approximation). `nc` and `r` are below 0
    where means vary less than the noise: in a region without signal they scatter around 0, and a
    mean over regions or subjects keeps no bias. Clip them for a picture, not before averaging.

    A mean over voxels of scores that are shares of variance (R²) is at most `nc`, its root at most
    `r`. A mean of scores that are correlations is at most `mean_r`, which is lower than `r` where
    voxels differ. It is the mean over the distribution of ceilings that makes the measured F most
    likely (F (1 - NC) follows an F distribution; expectation maximization), and never above `r`.

    Bias (``benchmarks`` F5; 40 and 200 images, 2 to 10 presentations, all, half or no voxels with
    signal): below .03 for `nc` and `r`, and for `mean_r` where all voxels have signal; where half
    have none `mean_r` is up to .05 too high, since roots of what noise leaves are above 0, and
    where none has up to .04 too low. Functions of F with a bias below .03 at every ceiling exist,
    but scatter by 3.7 (40 images, 2 presentations) to 0.5 (200, 10) in a voxel without signal;
    report `r` for such regions.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> shown = {"condition": [f"c{i}" for i in range(30)] * 2, "presentation": [1] * 30 + [2] * 30}
    >>> signal = np.tile(random.standard_normal((30, 40)), (2, 1))
    >>> patterns = Patterns(
    ...     values=signal + random.standard_normal((60, 40)),
    ...     observations=pd.DataFrame({**shown, "run": shown["presentation"], "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": "V1", "i": range(40), "j": 0, "k": 0}),
    ... )
    >>> row = region_ceilings(patterns).iloc[0]
    >>> bool(abs(row["nc"] - 100 * 2 / 3) < 5), bool(abs(row["r"] - (2 / 3) ** 0.5) < 0.05)
    (True, True)
    >>> bool(row["mean_r"] <= row["r"])
    True
    """
    rows = []
    for (subject, roi), part, image_type in typed_regions(patterns, image_types):
        variances = region_variances(part, image_type)
        row = {"subject": subject, "roi": roi, "image_type": image_type}
        rows.append(row | ceiling_row(variances))
    return pd.DataFrame(rows)


METHOD = (
    "ncsnr and noise ceiling as Allen et al. (2022), signal and noise variance from presentations; "
    "nc: mean over voxels of unclipped ceilings; r: its root; mean_r: most likely mean over voxels"
)
"""How ceilings were measured, for tables."""


CEILINGS = ("ncsnr_low", "ncsnr_median", "ncsnr_high", "nc", "r", "mean_r")
"""Columns of `region_ceilings` that hold what was measured."""


def ceiling_row(variances: ResponseVariances) -> dict[str, Any]:
    """Summarize the variances of a region's voxels.

    Parameters
    ----------
    variances : ResponseVariances
        Of all voxels of the region.

    Returns
    -------
    dict
        Columns of `region_ceilings` but for subject, roi and image_type.
    """
    low, median, high = np.quantile(variances.ncsnr, [0.25, 0.5, 0.75]).tolist()
    return {
        "n_voxels": len(variances.noise),
        "n_images": variances.n_images,
        "repeats": variances.repeats,
        "ncsnr_low": low,
        "ncsnr_median": median,
        "ncsnr_high": high,
        "nc": 100 * variances.nc,
        "r": variances.r,
        "mean_r": variances.mean_r,
        "method": METHOD,
    }


def region_variances(part: Patterns, image_type: str) -> ResponseVariances:
    """Estimate the variances of one region and image type, with messages that name them.

    Parameters
    ----------
    part : Patterns
        Of one region of one subject.
    image_type : str
        For messages.

    Returns
    -------
    ResponseVariances
        Of the voxels of the region.

    Raises
    ------
    InputError
        See `response_variances`.
    """
    conditions = part.observations["condition"].tolist()
    names = voxel_names(part.voxels)
    try:
        return response_variances(part.values, conditions, voxels=names)
    except InputError as error:
        roi = part.rois[0]
        raise InputError(f"ROI '{roi}', image type '{image_type}': {error}") from None


def typed_regions(
    patterns: Patterns, image_types: Mapping[str, str] | str | None
) -> Iterator[tuple[tuple[str, str], Patterns, str]]:
    """Give the patterns of each region of each subject, and of each image type in it.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.

    Yields
    ------
    tuple
        Subject and region; their patterns of one type; the type.

    Raises
    ------
    InputError
        When conditions have no type.
    """
    members: dict[str, list[str]] = {}
    for condition, image_type in condition_types(patterns, image_types).items():
        members.setdefault(image_type, []).append(condition)
    key = patterns.voxels[["subject", "roi"]]
    for row in key.drop_duplicates().itertuples(index=False):
        subject, roi = str(row.subject), str(row.roi)
        of_subject = key["subject"] == subject
        of_region = key["roi"] == roi
        inside = (of_subject & of_region).to_numpy()
        region = patterns.select(voxels=inside)
        for image_type, conditions in members.items():
            yield (subject, roi), region.select(conditions=conditions), image_type


def condition_types(
    patterns: Patterns, image_types: Mapping[str, str] | str | None
) -> dict[str, str]:
    """Find the image type of each condition.

    Parameters
    ----------
    patterns, image_types
        See `voxel_ceilings`.

    Returns
    -------
    dict of str to str
        Condition to type, in order of first appearance.

    Raises
    ------
    InputError
        When conditions have no type, or two.
    """
    if image_types is None:
        return dict.fromkeys(patterns.conditions, ALL_TYPES)
    if isinstance(image_types, str):
        observations = patterns.observations
        if image_types not in observations.columns:
            raise unknown_name("column of the observations", image_types, observations.columns)
        pairs = observations[["condition", image_types]].astype(str).drop_duplicates()
        again = pairs["condition"][pairs["condition"].duplicated()]
        if len(again):
            raise InputError(
                f"conditions of more than one image type in the column '{image_types}': "
                f"{name_ids(again)}; give each one type."
            )
        return dict(pairs.itertuples(index=False, name=None))
    lacking = [name for name in patterns.conditions if name not in image_types]
    if lacking:
        raise InputError(
            f"conditions without an image type: {name_ids(lacking)}; give the type of each, or "
            "leave those conditions out (patterns.select)."
        )
    return {name: str(image_types[name]) for name in patterns.conditions}
