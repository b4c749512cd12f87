"""Does the preferred layer go up with the order of regions? A statistic, its exact null, and no verdict."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.rsa.compare import layer_by_roi
from neurometamer.rsa.model_brain import join_model_brain
from neurometamer.store import InputError, duplicates, generator, name_ids, unknown_name

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

PREFERENCES = {
    "center": "center of mass over layers, weights: similarities above 0",
    "best": "layer of highest similarity",
}
"""Name of a way to say which layer a region prefers to what it is; layers count 1, 2, …"""

STATISTICS = ("spearman", "kendall")
MAX_ARRANGEMENTS = 50_000
"""Up to this many orders of the regions (8! = 40,320) all are listed; beyond, they are drawn."""


def hierarchy_test(
    network: RDMs,
    brain: RDMs,
    rois: Sequence[str] = (),
    *,
    kind: str | None = None,
    by: str = "spearman",
    join: str = "exact",
    preferred: str = "center",
    statistic: str = "spearman",
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test whether later regions prefer later layers, in each subject and over subjects.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage, early to late.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi.
    rois : sequence of str
        Regions, early to late; when empty, the order of the file.
    kind : str or None
        Kind of stimuli compared, joined by photograph. None takes all stimuli as they are named, if they are of one
        kind; ``"all"`` takes them whatever their kinds (`take_kind`).
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    preferred : str
        One of `PREFERENCES`.
    statistic : str
        Rank correlation of the order of regions with their preferred layers: ``"spearman"`` or ``"kendall"`` (tau-b).
    n_permutations : int
        Draws, where not all orders of the regions can be listed.
    seed : int
        Of the draws.

    Returns
    -------
    pandas.DataFrame
        The table ``hierarchy.csv``: a row a subject and one, ``combined``, of the mean statistic over subjects. Columns
        kind, subject, order, preferred_layers, statistic, value, p (one-tailed: later regions prefer later layers),
        p_min (least p that these data could give), p_same_order, p_same_order_min, n_arrangements, reason, method.

    Raises
    ------
    InputError
        With fewer than 3 regions, a region that a subject lacks, fewer than 2 layers, or an unknown name.

    Notes
    -----
    ``p`` permutes the names of the regions within each subject, independently (exactly: the distribution of the sum is
    convolved). It takes subjects as independent; they saw the same stimuli, so a preference of these stimuli that all
    subjects share counts as evidence. ``p_same_order`` permutes the names alike in all subjects, which does not take
    them as independent; with R regions it cannot go below 1 / R!. Neither is a criterion for data or software to
    pass: Zhang et al. (2021) found layer 1 best in all regions, V1 to LO.
    """
    import pandas as pd

    if preferred not in PREFERENCES:
        raise unknown_name("preference", preferred, PREFERENCES)
    if statistic not in STATISTICS:
        raise unknown_name("statistic", statistic, STATISTICS)
    joined = join_model_brain(network, brain, kind=kind, join=join)
    order = _checked_order(list(rois) or list(joined.rois), list(joined.rois))
    subjects = _common_subjects({roi: joined.rois[roi][0] for roi in order})
    if len(joined.layers) < 2:
        raise InputError(f"{len(joined.layers)} layer ({name_ids(joined.layers)}); a hierarchy needs at least 2.")
    table = layer_by_roi(network, brain, kind=kind, by=by, join=join, n_bootstrap=0)
    scores = table.set_index(["subject", "roi", "layer"])["similarity"]
    profiles = np.array([[[scores[s, r, one] for one in joined.layers] for r in order] for s in subjects])
    layers = preferred_layers(profiles, preferred)
    arrangements, exact = _arrangements(len(order), n_permutations, seed)
    values = np.array([_rank_correlations(row, arrangements, statistic) for row in layers])
    count = "all" if exact else "drawn"
    method = (
        f"{statistic} of region order with preferred layer ({PREFERENCES[preferred]}; similarity by {by}); "
        f"names of regions permuted, {len(arrangements)} orders ({count})"
    )
    common = {"kind": joined.kind, "order": " < ".join(order)}
    rows = []
    for subject, row, null in zip(subjects, layers, values):
        p, least = _tail(null)
        rows.append(
            common | {"subject": subject, "preferred_layers": _tell_layers(order, row, joined.layers)}
            | {"statistic": statistic, "value": null[0], "p": p, "p_min": least, "p_same_order": p}
            | {"p_same_order_min": least, "n_arrangements": len(arrangements), "reason": _why_flat(row)}
            | {"method": method}
        )  # fmt: skip
    rows.append(common | _combined(values, layers, order, joined.layers, exact, seed) | {
        "statistic": statistic, "method": method + "; mean over subjects",
    })  # fmt: skip
    names = ["kind", "subject", "order", "preferred_layers", "statistic", "value", "p", "p_min", "p_same_order",
             "p_same_order_min", "n_arrangements", "reason", "method"]  # fmt: skip
    return pd.DataFrame(rows)[names]


def preferred_layers(profiles: np.ndarray, preferred: str = "center") -> np.ndarray:
    """Say which layer each profile prefers, layers counted from 1.

    Parameters
    ----------
    profiles : ndarray, shape (..., n_layers)
        Similarities with each layer.
    preferred : str
        One of `PREFERENCES`.

    Returns
    -------
    ndarray, shape (...)
        Layer number, a fraction for the center of mass; NaN for a center of mass where no similarity exceeds 0.

    Examples
    --------
    >>> preferred_layers(np.array([[0.0, 0.1, 0.3], [0.2, 0.2, -0.1]])).round(2).tolist()
    [2.75, 1.5]
    """
    if preferred == "best":
        return profiles.argmax(axis=-1) + 1.0
    weights = np.maximum(profiles, 0)
    total = weights.sum(axis=-1)
    mass = weights @ np.arange(1, profiles.shape[-1] + 1)
    return np.divide(mass, total, out=np.full(total.shape, np.nan), where=total > 0)


def _checked_order(order: list[str], known: list[str]) -> list[str]:
    if again := duplicates(order):
        raise InputError(f"region(s) {name_ids(again)} named twice; give each region once, early to late.")
    for roi in order:
        if roi not in known:
            raise unknown_name("ROI", roi, known)
    if len(order) < 3:
        raise InputError(f"{len(order)} region(s) ({name_ids(order)}); a hierarchy needs at least 3.")
    return order


def _common_subjects(having: dict[str, tuple[str, ...]]) -> list[str]:
    everyone = list(dict.fromkeys(subject for subjects in having.values() for subject in subjects))
    lacking = [
        f"{subject} {roi}" for roi, subjects in having.items() for subject in everyone if subject not in subjects
    ]
    if lacking:
        raise InputError(f"no RDM for {name_ids(lacking)}; leave those subjects or regions out.")
    return everyone


def _arrangements(n: int, n_permutations: int, seed: int) -> tuple[np.ndarray, bool]:
    """List orders of the regions, the true one first; say whether these are all."""
    if math.factorial(n) <= MAX_ARRANGEMENTS:
        return np.array(list(itertools.permutations(range(n)))), True
    if n_permutations < 1:
        raise InputError(f"{n} regions have too many orders to list; n_permutations must be 1 or more.")
    random = generator(seed, "order of regions", n)
    return np.array([np.arange(n), *(random.permutation(n) for _ in range(n_permutations))]), False


def _rank_correlations(layers: np.ndarray, arrangements: np.ndarray, statistic: str) -> np.ndarray:
    """Correlate each arrangement with the preferred layers; 0 where all prefer the same (no order to be seen)."""
    from scipy.stats import rankdata

    if np.isnan(layers).any() or np.ptp(layers) == 0:
        return np.zeros(len(arrangements))
    if statistic == "spearman":
        ranks = rankdata(layers) - (len(layers) + 1) / 2
        places = np.arange(len(layers)) - (len(layers) - 1) / 2
        found = ranks[arrangements] @ places / np.sqrt((ranks**2).sum() * (places**2).sum())
    else:
        first, second = np.triu_indices(len(layers), 1)
        moved = layers[arrangements]
        signs = np.sign(moved[:, second] - moved[:, first])
        untied = (np.sign(layers[second] - layers[first]) != 0).sum()
        found = signs.sum(axis=1).astype(np.float64) / np.sqrt(float(untied) * len(first))
    return np.round(found, 12)  # equal in theory must be equal in numbers


def _tail(null: np.ndarray) -> tuple[float, float]:
    """Give the share of arrangements that reach the first (the true one is one of them), and the least such share."""
    return float((null >= null[0]).mean()), float((null >= null.max()).mean())


def _combined(
    values: np.ndarray, layers: np.ndarray, order: list[str], names: Sequence[str], exact: bool, seed: int
) -> dict[str, Any]:
    observed = float(values[:, 0].mean())
    same, same_least = _tail(np.round(values.mean(axis=0), 12))
    sums = _sum_distribution(values) if exact else None
    if sums is not None:
        total, chance = sums
        p = float(chance[total >= values[:, 0].sum() - 1e-9].sum())
        least = float(chance[-1])
    else:
        random = generator(seed, "order of regions, combined", values.shape)
        drawn = np.sum([random.choice(row, 10_000) for row in values], axis=0)
        p = float((1 + (drawn >= values[:, 0].sum() - 1e-9).sum()) / (1 + len(drawn)))
        least = 1 / (1 + len(drawn))
    flat = [why for why in map(_why_flat, layers) if why]
    return {
        "subject": "combined", "preferred_layers": _tell_layers(order, np.nanmean(layers, axis=0), names)
        if np.isfinite(layers).all() else "", "value": observed, "p": min(p, 1.0), "p_min": least,
        "p_same_order": same, "p_same_order_min": same_least, "n_arrangements": values.shape[1] ** len(values),
        "reason": f"{len(flat)} of {len(layers)} subjects without an order count as 0" if flat else "",
    }  # fmt: skip


def _sum_distribution(values: np.ndarray, limit: int = 200_000) -> tuple[np.ndarray, np.ndarray] | None:
    """Convolve the subjects' null distributions exactly; None where the sum takes too many values."""
    total: np.ndarray = np.zeros(1)
    chance: np.ndarray = np.ones(1)
    for row in values:
        steps, counts = np.unique(row, return_counts=True)
        if total.size * steps.size > limit * 10:
            return None
        sums = np.round(total[:, np.newaxis] + steps, 9).ravel()
        weights = (chance[:, np.newaxis] * (counts / counts.sum())).ravel()
        total, place = np.unique(sums, return_inverse=True)
        chance = np.bincount(place, weights=weights)
        if total.size > limit:
            return None
    return total, chance


def _tell_layers(order: Sequence[str], preferred: np.ndarray, names: Sequence[str]) -> str:
    parts = []
    for roi, at in zip(order, preferred):
        near = names[round(at) - 1] if np.isfinite(at) else "none"
        parts.append(f"{roi}: {at:.2f} ({near})")
    return "; ".join(parts)


def _why_flat(layers: np.ndarray) -> str:
    if np.isnan(layers).any():
        return "a region is like no layer (no similarity above 0); no order, the statistic is set to 0"
    if np.ptp(layers) == 0:
        return "all regions prefer the same layer; no order, the statistic is set to 0"
    return ""
