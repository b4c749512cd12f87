"""Similarity of the kinds of images: RE-AN, RE-AI and their difference, in each layer, ROI and subject.

RDMs are computed within one kind and compared photograph by photograph; responses to two kinds are never correlated
with each other directly (Zhang et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.resampling import bootstrap_counts, percentile_interval
from neurometamer.rsa.comparators import comparator
from neurometamer.rsa.compare import describe_method, join_rdms, resample_comparison, similarity_values
from neurometamer.rsa.rdm import place_name, select_kind, take_conditions
from neurometamer.store import InputError, generator

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


def name_place(rdms: RDMs, index: int) -> dict[str, str]:
    """Say of which system, subject and place (stage or region) one RDM is.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All RDMs.
    index : int
        Of the one.

    Returns
    -------
    dict of str to str
        system, subject, place; empty where nothing tells.
    """
    known = {name: str(column[index]) for name, column in rdms.rdm_descriptors.items()}
    place = known.get("stage") or known.get("roi") or place_name(rdms, index)
    return {"system": known.get("system", ""), "subject": known.get("subject", ""), "place": place}


def kind_samples(
    rdms: RDMs, pair: tuple[str, str], by: str, join: str, n_bootstrap: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Compare two kinds within each RDM.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds.
    by, join : str
        See `kind_similarity`.
    n_bootstrap, seed : int
        Resamples of photographs.

    Returns
    -------
    values : ndarray, shape (n_rdms,)
        Similarity of the two kinds.
    samples : ndarray, shape (n_bootstrap, n_rdms)
        The same in each resample.
    counts : ndarray, shape (n_bootstrap, n)
        The draws.
    left_out : str
        Photographs that one kind lacks, between commas.
    """
    compare = comparator(by)
    a, b, left_out = join_rdms(select_kind(rdms, pair[0]), select_kind(rdms, pair[1]), join)
    counts = bootstrap_counts(a.n_cond, n_bootstrap, seed)
    values, samples = [], []
    for one, other in zip(a.dissimilarities[:, np.newaxis], b.dissimilarities[:, np.newaxis]):
        values.append(compare(one, other)[0, 0])
        samples.append(resample_comparison(compare, one, other, counts)[:, 0, 0])
    return np.array(values), np.stack(samples, axis=1), counts, left_out


def projection_samples(
    rdms: RDMs, pair: tuple[str, str], by: str, n_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Resample photographs such that each counts once in a pair: less noise of pairs than in the usual bootstrap.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds; each photograph has an image of both.
    by : str
        One of `COMPARATORS`.
    n_resamples : int
        Resamples.
    seed : int
        The draws are those of `bootstrap_counts`.

    Returns
    -------
    values : ndarray, shape (n_rdms,)
        Similarity of the two kinds.
    samples : ndarray, shape (n_resamples, n_rdms)
        Resampled, scaled about the value.

    Notes
    -----
    A similarity of RDMs is nearly a mean over pairs of images, with variance L + D: L from the images, D from what is
    particular to a pair. Where images i and j come w_i and w_j times, the usual bootstrap weighs the pair by
    w_i * w_j, whose variance is that of three independent pairs: it finds L + 3D, and covers 99 to 100 % where D
    matters (similarities near 0, differences). Weighed by w_i + w_j, the statistic moves half as far with the images:
    twice its deviations have the variance L + 2D. `deduct_pair_noise` takes off of the rest.
    """
    a, b = _joined(rdms, pair)
    counts = bootstrap_counts(a.n_cond, n_resamples, seed)
    first, second = np.triu_indices(a.n_cond, 1)
    return _moved(a, b, by, (counts[:, first] + counts[:, second]).astype(np.float64), 2.0)


PAIR_DRAWS = 400
"""For the variance from pairs: it needs no tails, so no more than these."""

PAIR_STEP = 0.25
"""How far the weights of pairs are moved: little, so that they stay positive and the statistic nearly linear."""


def pair_noise_samples(rdms: RDMs, pair: tuple[str, str], by: str, n_resamples: int, seed: int) -> np.ndarray:
    """Move the weights of pairs such that no image counts more than another: the noise of pairs alone.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds; each photograph has an image of both.
    by : str
        One of `COMPARATORS`.
    n_resamples : int
        Draws, at most `PAIR_DRAWS` of them.
    seed : int
        The same seed and number of photographs give the same draws everywhere.

    Returns
    -------
    ndarray, shape (n_draws, n_rdms)
        About the value, with the variance D of `projection_samples`.
    """
    a, b = _joined(rdms, pair)
    n = a.n_cond
    first, second = np.triu_indices(n, 1)
    moves = generator(seed, "pairs", n).uniform(-1, 1, (min(n_resamples, PAIR_DRAWS), first.size)) * np.sqrt(3)
    ends = np.zeros((first.size, n))  # pair x its two images
    ends[np.arange(first.size), first] = ends[np.arange(first.size), second] = 1
    of_image = moves @ ends / (n - 2)
    moves -= of_image[:, first] + of_image[:, second]
    moves += of_image.sum(axis=1, keepdims=True) / (n - 1)
    return _moved(a, b, by, np.maximum(1 + PAIR_STEP * moves, 0), 1 / PAIR_STEP)[1]


def _joined(rdms: RDMs, pair: tuple[str, str]) -> tuple[RDMs, RDMs]:
    a, b, _ = join_rdms(select_kind(rdms, pair[0]), select_kind(rdms, pair[1]), "exact")
    return a, b


def _moved(a: RDMs, b: RDMs, by: str, weights: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Compare with weighted pairs, and scale what that changes."""
    compare = comparator(by)
    values, samples = [], []
    for one, other in zip(a.dissimilarities[:, np.newaxis], b.dissimilarities[:, np.newaxis]):
        values.append(compare(one, other)[0, 0])
        samples.append(values[-1] + scale * (compare(one, other, weights)[:, 0, 0] - values[-1]))
    return np.array(values), np.stack(samples, axis=1)


DEDUCTED = 0.5
"""Share of the noise of pairs that is taken off the variance of `projection_samples`: see `deduct_pair_noise`."""


def deduct_pair_noise(
    value: float, samples: np.ndarray, noise: np.ndarray, n: int, confidence: float = 0.95
) -> np.ndarray:
    """Scale resamples about their value, so that the noise of pairs is not counted twice.

    Parameters
    ----------
    value : float
        Similarity, a difference of two, or a mean over subjects.
    samples : ndarray, shape (n_resamples,)
        The same of `projection_samples`: variance L + 2D.
    noise : ndarray, shape (n_draws,)
        The same of `pair_noise_samples`: variance D.
    n : int
        Photographs.
    confidence : float
        Of the interval that the samples are for; its ends are those of a t distribution with n - 1 degrees of freedom.

    Returns
    -------
    ndarray, shape (n_resamples,)
        Resamples with variance n / (n - 1) (L + 2D) - D / 2.

    Notes
    -----
    n / (n - 1) makes the bootstrap's variance unbiased; t stands for a variance that is itself estimated. The noise of
    pairs is at most half of L + 2D, so no more is taken off. Taking off all of D (after Efron & Stein 1981) is right
    where a similarity is 0, but covers only 88 to 94 % of those of RE and AI: from few photographs L itself comes out
    too small. Half of it is what simulated studies support: with 10, 20 and 40 photographs 95 % intervals covered 93
    to 99 % of RE-AN, RE-AI and their difference (``tests/neurometamer/test_kind_coverage.py``).

    References
    ----------
    Efron & Stein (1981), Ann Stat 9:586 (variance of pairs in the jackknife); Schütt et al. (2023), eLife 12:e82566
    (bootstraps of RDMs overestimate their variance).
    """
    from scipy.stats import norm, t

    whole = float(np.nanvar(samples))
    if not whole > 0:
        return samples
    share = min(float(np.nanvar(noise)) / whole, 0.5)
    tail = (1 + confidence) / 2
    scale = np.sqrt(n / (n - 1) - DEDUCTED * share) * t.ppf(tail, n - 1) / norm.ppf(tail)
    return value + scale * (samples - value)


def kind_similarity(
    rdms: RDMs,
    pairs: Sequence[tuple[str, str]] = (("RE", "AN"), ("RE", "AI")),
    *,
    by: str = "spearman",
    join: str = "exact",
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare the arrangement of the images of two kinds, in each layer or ROI.

    The RDM within one kind is compared with the RDM within the other, photograph by photograph; responses to the two
    kinds are never correlated with each other directly.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM, with ``pattern_descriptors`` kind and reference_id.
    pairs : sequence of (str, str)
        Kinds to compare.
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"``: each photograph has an image of both kinds; ``"inner"``: those that have.
    n_bootstrap : int
        Resamples of the photographs, the same for all rows; 0 for no interval.
    seed : int
        Of the resamples.
    confidence : float
        Of the interval.

    Returns
    -------
    pandas.DataFrame
        The table ``similarity.csv``: system, subject, place, pair (``RE-AN``), similarity, ci_low, ci_high, method,
        n (photographs).

    Raises
    ------
    InputError
        For an unknown kind or comparator, photographs without a counterpart, fewer than 4 photographs.

    Notes
    -----
    Zhang et al. subsample 80 % of the vertices; that interval ignores the choice of images and is about half as wide
    as it should be. Here the images are resampled.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, Representational Similarity Analysis.
    """
    import pandas as pd

    rows = []
    for pair in pairs:
        value, samples, counts, left_out = kind_samples(rdms, pair, by, join, n_bootstrap, seed)
        low, high = percentile_interval(samples, confidence)
        method = describe_method(by, counts, confidence, left_out)
        for i in range(rdms.n_rdm):
            row = {**name_place(rdms, i), "pair": "-".join(pair), **similarity_values(value[i], low[i], high[i])}
            rows.append({**row, "method": method, "n": counts.shape[1], "order": i})
    return pd.DataFrame(rows).sort_values("order", kind="stable", ignore_index=True).drop(columns="order")


def kind_difference(
    rdms: RDMs,
    first: tuple[str, str] = ("RE", "AI"),
    second: tuple[str, str] = ("RE", "AN"),
    *,
    by: str = "spearman",
    join: str = "exact",
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare two pairs of kinds in each layer or ROI: how much more alike is the first, in the same resamples.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM, with ``pattern_descriptors`` kind and reference_id.
    first, second : (str, str)
        The similarity of `second` is subtracted from that of `first`.
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"``: each photograph has an image of all kinds; ``"inner"``: those that have.
    n_bootstrap : int
        Resamples of the photographs, the same for all rows; 0 for no interval.
    seed : int
        Of the resamples.
    confidence : float
        Of the interval.

    Returns
    -------
    pandas.DataFrame
        The table ``similarity_difference.csv``: system, subject, place, pair (``RE-AI minus RE-AN``), difference,
        ci_low, ci_high, method, n (photographs).

    Raises
    ------
    InputError
        For an unknown kind or comparator, photographs without a counterpart, fewer than 4 photographs.
    """
    import pandas as pd

    rdms, left_out = shared_references(rdms, dict.fromkeys((*first, *second))) if join == "inner" else (rdms, "")
    value, samples, counts, _ = kind_samples(rdms, first, by, "exact", n_bootstrap, seed)
    other, other_samples, other_counts, _ = kind_samples(rdms, second, by, "exact", n_bootstrap, seed)
    if counts.shape != other_counts.shape:
        raise InputError(
            f"{'-'.join(first)} covers {counts.shape[1]} photographs and {'-'.join(second)} {other_counts.shape[1]}; "
            "a difference needs the same ones (or join='inner')."
        )
    low, high = percentile_interval(samples - other_samples, confidence)
    method = f"paired difference of {describe_method(by, counts, confidence, left_out)}"
    name = f"{'-'.join(first)} minus {'-'.join(second)}"
    rows = [
        {**name_place(rdms, i), "pair": name, "difference": float(value[i] - other[i]), "ci_low": float(low[i])}
        | {"ci_high": float(high[i]), "method": method, "n": counts.shape[1]}
        for i in range(rdms.n_rdm)
    ]
    return pd.DataFrame(rows)


def shared_references(rdms: RDMs, kinds: Sequence[str] | dict[str, None]) -> tuple[RDMs, str]:
    """Keep the photographs that have an image of every kind.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    kinds : sequence of str
        Kinds that each photograph must have.

    Returns
    -------
    rdms : rsatoolbox.rdm.RDMs
        Of those photographs.
    left_out : str
        The other photographs, between commas.
    """
    parts = [{str(one) for one in select_kind(rdms, kind).pattern_descriptors["condition"]} for kind in kinds]
    shared = set.intersection(*parts)
    references = [str(one) for one in rdms.pattern_descriptors["reference_id"]]
    kept = take_conditions(rdms, [i for i, one in enumerate(references) if one in shared])
    return kept, ", ".join(sorted(set.union(*parts) - shared))
