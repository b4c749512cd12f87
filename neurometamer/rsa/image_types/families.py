"""Correct the p of `compare_image_types` for a family of places, also by max-T."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.rsa.image_types.options import MAX_T, ImageTypeOptions
from neurometamer.stats.families import correct_families, joint_statistic
from neurometamer.stats.permutation import max_t_p

if TYPE_CHECKING:
    import pandas as pd

FALLBACK = "holm"
"""Correction where max-T is not defined."""

ONE_DRAW = ("stimuli", "projection", "none")
"""Intervals whose resamples are the same photographs in all places.

Only then the largest resampled value over places has a meaning.
"""


@dataclass(frozen=True, eq=False)
class Draws:
    """Values behind one row of the table: of one RDM, or of several subjects' RDMs in one place.

    Parameters
    ----------
    values : ndarray, shape (n_rdms,)
        Observed.
    nulls : ndarray, shape (N, n_rdms), or None
        The same values with labels permuted.
    orders : tuple of int
        Numbers of the permuted orders: rows with the same ones share their permutations.
    resamples : ndarray, shape (R,), or None
        Resampled value of the row, about the observed one.
    """

    values: np.ndarray
    nulls: np.ndarray | None
    orders: tuple[int, ...]
    resamples: np.ndarray | None


def with_families(
    table: pd.DataFrame, draws: Sequence[Draws], chosen: ImageTypeOptions, mean: str
) -> pd.DataFrame:
    """Correct p within families; subjects and their mean are never in one.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns system, subject, place, pair, quantity, p.
    draws : sequence of Draws
        One a row of the table; for max-T.
    chosen : ImageTypeOptions
        Correction and family.
    mean : str
        Name of the mean over subjects in the column subject.

    Returns
    -------
    pandas.DataFrame
        The table with p_corrected, correction and family.

    Notes
    -----
    Max-T is single-step (Westfall & Young 1993). Similarities: their largest in each permutation of
    labels, over the places of the family; over subjects the largest of Fisher's joint statistic.
    Differences have no permutations: the largest distance of resampled from observed over the
    family, in standard errors, against the observed distance from 0 (two-sided). Where that is not
    defined (subjects with orders of their own, p combined other than jointly, resamples of subjects
    or of units) the correction is Holm's, and the column says so.
    """
    import pandas as pd

    parts = []
    for (system, is_mean), part in table.groupby(["system", table["subject"] == mean], sort=False):
        over = {"place": "layers" if system == "network" else "ROIs"}
        within = ["pair", "subject"]
        if chosen.family == "subjects" and not is_mean and system != "network":
            over, within = {**over, "subject": "subjects"}, ["pair"]
        if chosen.correction != MAX_T:
            parts.append(correct_families(part, over, within, how=chosen.correction))
            continue
        corrected = correct_families(part, over, within, how=FALLBACK)
        for places in corrected.groupby(within, sort=False).indices.values():
            rows = corrected.index[places]
            family = [draws[row] for row in rows]
            largest_p = _largest(family, corrected.loc[rows[0], "quantity"], chosen)
            if largest_p is not None:
                p = corrected.loc[rows, "p"].to_numpy(dtype=float)
                largest_p = np.where(np.isfinite(p), np.fmax(p, largest_p), np.nan)
                corrected.loc[rows, "p_corrected"] = largest_p
                corrected.loc[rows, "correction"] = MAX_T
        parts.append(corrected)
    return pd.concat(parts).sort_index()


def _largest(family: Sequence[Draws], quantity: str, chosen: ImageTypeOptions) -> np.ndarray | None:
    """Give p against the largest of the family; None where that has no meaning."""
    several = any(len(row.values) > 1 for row in family)
    if several and chosen.combine != "joint":
        return None
    if quantity == "difference":
        resamples = [row.resamples for row in family if row.resamples is not None]
        if chosen.interval not in ONE_DRAW or len(resamples) < len(family):
            return None
        means = np.array([row.values.mean() for row in family])
        drawn = np.stack(resamples, axis=1)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        errors = drawn.std(axis=0) if len(drawn) else np.zeros(len(means))
        if not (errors > 0).all():
            return None
        return max_t_p(means / errors, (drawn - means) / errors, "two-sided")[1]
    nulls = [row.nulls for row in family if row.nulls is not None]
    used = {order for row in family for order in row.orders}
    if len(nulls) < len(family) or len(used) > 1:
        return None
    defined = np.all([np.isfinite(null).all(axis=1) for null in nulls], axis=0)
    if not defined.any():
        return None
    if not several:
        values = np.concatenate([row.values for row in family])
        return max_t_p(values, np.concatenate(nulls, axis=1)[defined])[1]
    statistics = []
    for row, null in zip(family, nulls):
        statistics.append(joint_statistic(row.values, null[defined]))
    joint = np.stack(statistics, axis=1)
    return max_t_p(joint[0], joint[1:])[1]
