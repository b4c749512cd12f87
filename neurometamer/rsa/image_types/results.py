"""Rows of the table of image types: intervals, p, bounds, families of tests, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.provenance import generator
from neurometamer.rsa.bootstrap import corrected_variance
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.rsa.image_types.ceilings import NOT_SPEARMAN, Bounds, pair_bound
from neurometamer.rsa.image_types.options import MAX_T, OVER_SUBJECTS, ImageTypeOptions, Pair
from neurometamer.rsa.image_types.similarity import name_representation
from neurometamer.rsa.jackknife import Projection
from neurometamer.rsa.sampling import Sampling
from neurometamer.rsa.subsample import SUBSAMPLE_WARNING
from neurometamer.stats.families import (
    COMBINATIONS,
    combine_p,
    correct_families,
    joint_p,
    joint_statistic,
)
from neurometamer.stats.resampling import Blocks, max_t_p, percentile_interval, permutation_p

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

MEAN = "mean"
"""In the column ``subject``: the mean over subjects, and their combined p."""

MOST = {"similarity": 1, "difference": 2}
"""No interval goes beyond what is possible: scaled resamples may."""

FALLBACK = "holm"
"""Correction where max-T is not defined."""

ONE_DRAW = ("stimuli", "projection", "none")
"""Intervals whose resamples are the same photographs in all places.

Only then the largest resampled value over places has a meaning.
"""

COLUMNS = [
    "system",
    "subject",
    "representation",
    "pair",
    "quantity",
    "value",
    "ci_low",
    "ci_high",
    "interval",
    "p",
    "p_corrected",
    "correction",
    "family",
    "p_method",
    "null_low",
    "null_high",
    "ceiling_low",
    "ceiling_high",
    "ceiling",
    "expected",
    "follows",
    "answer",
    "method",
    "n",
    "n_subjects",
]
"""Columns of the table."""

FOLLOWS = {
    "perception": "images that look alike to people are the more similar",
    "decision": "images that the network calls the same are the more similar",
    "undecided": "neither: the interval holds 0, or p is too large",
    "not tested": "there is no interval and no p",
}
"""Value of the column ``follows`` to what it says of a difference."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """RDMs without offsets of sessions, the resampled objects, and labels of photographs.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All image types in one RDM.
    sampling : Sampling
        What is resampled.
    sessions : sequence of mapping of str to str
        Session of each image for each RDM, where known.
    blocks : mapping, optional
        Photograph to the session or class within which its label changes places.
    reason : str
        Why there is no interval; empty where there is one.
    note : str
        What else the column ``method`` tells.
    """

    rdms: RDMs
    sampling: Sampling
    sessions: Sequence[Mapping[str, str]]
    blocks: Blocks | None
    reason: str
    note: str

    def describe(self, chosen: ImageTypeOptions) -> str:
        """Describe what was compared, and how the interval over photographs came about.

        Parameters
        ----------
        chosen : ImageTypeOptions
            Comparator and interval.

        Returns
        -------
        str
            Text for the column ``method``.
        """
        name, sampling = chosen.comparator, self.sampling
        if self.reason:
            return f"{name}; no interval: {self.reason}"
        if chosen.interval == "none":
            return f"{name}; no interval{self.note}"
        if chosen.interval == "subsample":
            how = (
                f"percentile interval of {chosen.n_resamples} subsamples of {chosen.share:.0%} of "
                "the "
                f"units (Zhang 2021); {SUBSAMPLE_WARNING}"
            )
        elif chosen.interval == "projection":
            how = (
                f"t interval ({sampling.dof} dof), jackknife over {sampling.text}, noise of pairs "
                "corrected"
            )
        else:
            how = (
                f"percentile bootstrap over {sampling.text}, {chosen.n_resamples} resamples, "
                "same-image pairs dropped"
            )
        return f"{name}; {chosen.confidence:.0%} {how}{self.note}"


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

    def interval(self, chosen: ImageTypeOptions, quantity: str) -> tuple[float, float]:
        """Compute the interval of the resampled value.

        Parameters
        ----------
        chosen : ImageTypeOptions
            Interval and confidence.
        quantity : str
            ``similarity`` or ``difference``: says what values are possible.

        Returns
        -------
        tuple of float
            Ends; NaN without resamples.
        """
        most = MOST[quantity]
        if chosen.interval == "none" or self.resamples is None:
            return np.nan, np.nan
        if chosen.interval == "projection":  # normal by construction: no need of its percentiles
            mean = self.resamples.mean()
            half = _quantile(chosen) * self.resamples.std()
            low, high = mean - half, mean + half
        else:
            low, high = percentile_interval(self.resamples, chosen.confidence)
        low, high = np.clip((low, high), -most, most)
        return low, high

    def difference_p(self, chosen: ImageTypeOptions, sampling: Sampling) -> tuple[float, str]:
        """Test the resampled value against 0, two-sided.

        Parameters
        ----------
        chosen : ImageTypeOptions
            Interval and confidence.
        sampling : Sampling
            What was resampled.

        Returns
        -------
        p : float
            NaN without resamples.
        text : str
            What was done, for the column ``p_method``.
        """
        from scipy.stats import t

        if self.resamples is None:
            return float("nan"), "not tested: no resamples"
        named = chosen.interval
        if named == "none":
            named = "projection" if find_comparator(chosen.comparator).weighs_pairs else "stimuli"
        if named == "projection":
            dof = sampling.dof
            share = (1 + chosen.confidence) / 2
            scale = t.ppf(share, dof)
            spread = self.resamples.std() * _quantile(chosen)
            error = spread / scale
            p = float("nan")
            if error > 0:
                mean = abs(self.resamples.mean())
                distance = mean / error
                p = float(2 * t.sf(distance, dof))
            return p, f"t with {dof} dof (interval 'projection'), two-sided"
        text = f"share of the resamples beyond 0 (interval '{named}'), two-sided"
        if chosen.interval == "subsample":
            text += f"; {SUBSAMPLE_WARNING}"
        zero = np.array(0.0)
        share_beyond = permutation_p(zero, self.resamples, "two-sided")
        return float(share_beyond), text

    def similarity_p(self, how: str) -> tuple[float, str]:
        """Test a similarity against permuted labels, one-sided.

        Parameters
        ----------
        how : str
            One of `COMBINATIONS`: how the p of several subjects become one.

        Returns
        -------
        p : float
            NaN without permutations.
        text : str
            What was done, for the column ``p_method``; empty without permutations.
        """
        if self.nulls is None:
            return np.nan, ""
        text = ", one-sided"
        if len(self.values) == 1:
            value = self.values[0]
            null = self.nulls[:, 0]
            p = permutation_p(value, null)
            return float(p), text
        text += f"; {COMBINATIONS[how]}"
        if how == "joint":
            is_defined = np.isfinite(self.nulls).all(axis=1)
            nulls = self.nulls[is_defined]
            joint = joint_p(self.values, nulls)
            return joint, text
        each = permutation_p(self.values, self.nulls)
        combined = combine_p(each, how)
        return combined, text


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Result of one pair of image types, or of the difference of two, in each RDM.

    Parameters
    ----------
    name : str
        ``RE-AN``, or ``RE-AI minus RE-AN``.
    quantity : str
        ``similarity`` or ``difference``.
    values : ndarray, shape (n_rdms,)
        Observed.
    samples : ndarray, shape (n_resamples, n_rdms)
        Resampled; no rows where they are drawn from the projection, or not at all.
    projection : Projection, optional
        What resamples are drawn from.
    nulls : ndarray, shape (n_permutations, n_rdms), optional
        Values with labels permuted.
    null_text : str
        What was permuted.
    orders : tuple of int
        Which orders were permuted in each RDM.
    pair : (str, str), optional
        Image types of a similarity.
    """

    name: str
    quantity: str
    values: np.ndarray
    samples: np.ndarray
    projection: Projection | None
    nulls: np.ndarray | None = None
    null_text: str = ""
    orders: tuple[int, ...] = ()
    pair: Pair | None = None

    def resampled(self, members: Sequence[int], chosen: ImageTypeOptions) -> np.ndarray | None:
        """Resample the mean of some RDMs.

        Parameters
        ----------
        members : sequence of int
            Positions of the RDMs.
        chosen : ImageTypeOptions
            Number of resamples, seed, confidence.

        Returns
        -------
        ndarray, shape (n_resamples,), or None
            None where nothing is resampled.
        """
        index = list(members)
        if self.projection is not None:
            mean = self.projection.take(index).mean()
            samples = mean.samples(
                chosen.n_resamples,
                chosen.seed,
                chosen.confidence,
            )
            return samples[:, 0]
        if not len(self.samples):
            return None
        return self.samples[:, index].mean(axis=1)

    def draws(self, members: Sequence[int], chosen: ImageTypeOptions, context: Context) -> Draws:
        """Take what stands behind the row of some RDMs.

        Parameters
        ----------
        members : sequence of int
            Positions of the RDMs.
        chosen : ImageTypeOptions
            Number of resamples, seed, confidence.
        context : Context
            Says whether there is an interval.

        Returns
        -------
        Draws
            Values, permutations, resamples.
        """
        index = list(members)
        nulls = resamples = None
        orders: tuple[int, ...] = ()
        if self.nulls is not None:
            nulls = self.nulls[:, index]
        if self.orders:
            orders = tuple(self.orders[i] for i in index)
        if not context.reason:
            resamples = self.resampled(index, chosen)
        return Draws(
            values=self.values[index],
            nulls=nulls,
            orders=orders,
            resamples=resamples,
        )

    def combined_p(self, members: Sequence[int], chosen: ImageTypeOptions) -> float:
        """Combine the subjects' one-sided p of a difference in each direction; twice the smaller.

        Parameters
        ----------
        members : sequence of int
            Positions of the subjects' RDMs.
        chosen : ImageTypeOptions
            How p are combined.

        Returns
        -------
        float
            In (0, 1].
        """
        parts = []
        for member in members:
            part = self.resampled([member], chosen)
            if part is not None:
                parts.append(part)
        samples = np.stack(parts, axis=1)
        zero = np.zeros(len(parts))
        # resamples at or below 0 speak against a difference above it
        p_less = permutation_p(zero, samples, "less")
        p_greater = permutation_p(zero, samples, "greater")
        above = combine_p(p_less, chosen.combine)
        below = combine_p(p_greater, chosen.combine)
        smaller = min(above, below)
        return min(1.0, 2 * smaller)

    def over_subjects(
        self, members: Sequence[int], chosen: ImageTypeOptions, context: Context
    ) -> tuple[float, float, float, str, str]:
        """Resample subjects, perhaps with photographs: t interval and two-sided p of their mean.

        Parameters
        ----------
        members : sequence of int
            Positions of the subjects' RDMs.
        chosen : ImageTypeOptions
            Interval, number of resamples, seed, confidence.
        context : Context
            How photographs were resampled.

        Returns
        -------
        tuple of (float, float, float, str, str)
            Ends of the interval, p, and texts for the columns ``p_method`` and ``method``.
        """
        from scipy.stats import t as student

        values = self.values[list(members)]
        samples = self.samples[:, list(members)]
        size = len(values)
        random = generator(chosen.seed, "subjects", size)
        shares = np.full(size, 1 / size)
        draws = random.multinomial(size, shares, chosen.n_resamples)
        over_subjects = draws @ values / size
        if chosen.interval == "dual":
            over_both = (draws * samples).sum(axis=1) / size
            over_photographs = samples.mean(axis=1)
            defined = np.isfinite(over_both)
            parts = [part[defined] for part in (over_both, over_subjects, over_photographs)]
            clusters = context.sampling.dof + 1
            variance = corrected_variance(np.var(parts, axis=1, ddof=1), size, clusters)
            dof = min(size, clusters) - 1
            what = f"{context.sampling.text} and {size} subjects (rsatoolbox's dual bootstrap)"
        else:
            variance = size / (size - 1) * over_subjects.var(ddof=1)
            dof = size - 1
            what = f"{size} subjects"
        error = math.sqrt(variance)
        half = float(student.isf((1 - chosen.confidence) / 2, dof)) * error
        mean = float(values.mean())
        p = float("nan")
        if error > 0:
            p = float(2 * student.sf(abs(mean) / error, dof))
        p_text = f"t with {dof} dof from the bootstrap over {what}, two-sided"
        text = (
            f"{chosen.comparator}; {chosen.confidence:.0%} t interval ({dof} dof), bootstrap over "
            f"{what}, {len(draws)} resamples{context.note}"
        )
        return mean - half, mean + half, p, p_text, text

    def minus(self, other: Comparison) -> Comparison:
        """Subtract another comparison in the same resamples.

        Parameters
        ----------
        other : Comparison
            Similarity of another pair.

        Returns
        -------
        Comparison
            The difference.
        """
        projection = None
        if self.projection is not None and other.projection is not None:
            projection = self.projection.minus(other.projection)
        return Comparison(
            name=f"{self.name} minus {other.name}",
            quantity="difference",
            values=self.values - other.values,
            samples=self.samples - other.samples,
            projection=projection,
        )


# --------------------------------------------------------------------------------------------- rows


def result_row(
    comparison: Comparison,
    drawn: Draws,
    members: Sequence[int],
    chosen: ImageTypeOptions,
    context: Context,
) -> dict[str, Any]:
    """Make the row of one RDM, or of the mean over the subjects of one place.

    Parameters
    ----------
    comparison : Comparison
        Similarity or difference.
    drawn : Draws
        What stands behind the row.
    members : sequence of int
        Positions of the RDMs: one, or those of several subjects.
    chosen : ImageTypeOptions
        Interval, null, combination of p.
    context : Context
        RDMs and what is resampled.

    Returns
    -------
    dict
        Columns of the table, up to those of families and bounds.
    """
    n = len(members)
    place = name_representation(context.rdms, members[0])
    n_subjects = 1 if place["subject"] else 0
    if n > 1:
        place["subject"] = MEAN
        n_subjects = n
    is_over_subjects = chosen.interval in OVER_SUBJECTS
    if is_over_subjects and n == 1:
        low = high = p = np.nan
        p_text = f"over subjects only: see subject '{MEAN}'"
        text = f"{chosen.comparator}; interval over subjects: see subject '{MEAN}'"
    elif is_over_subjects and not context.reason:
        low, high, p, p_text, text = comparison.over_subjects(members, chosen, context)
    else:
        low, high = drawn.interval(chosen, comparison.quantity)
        p, p_text = drawn.difference_p(chosen, context.sampling)
        text = context.describe(chosen)
        if n > 1 and drawn.resamples is not None and chosen.combine != "joint":
            p = comparison.combined_p(members, chosen)
            p_text += f"; {COMBINATIONS[chosen.combine]}"
    if comparison.quantity == "similarity":
        p, p_text = drawn.similarity_p(chosen.combine)
        p_text = comparison.null_text + p_text
    if n > 1:
        text += f"; mean over {n} subjects"
    null_low, null_high = np.full(2, np.nan)
    if drawn.nulls is not None:  # over subjects: of their mean in the same permutations
        null_means = drawn.nulls.mean(axis=1)
        null_low, null_high = percentile_interval(null_means, chosen.confidence)
    return {
        **place,
        "pair": comparison.name,
        "quantity": comparison.quantity,
        "value": float(drawn.values.mean()),
        "ci_low": float(low),
        "ci_high": float(high),
        "interval": chosen.interval,
        "p": p,
        "p_method": p_text,
        "null_low": float(null_low),
        "null_high": float(null_high),
        "method": text,
        "n_subjects": n_subjects,
    }


def _quantile(chosen: ImageTypeOptions) -> float:
    """Give the normal quantile to which resamples were scaled."""
    from scipy.stats import norm

    share = (1 + chosen.confidence) / 2
    return float(norm.ppf(share))


def bound_row(
    comparison: Comparison,
    members: Sequence[int],
    bounds: Bounds,
    chosen: ImageTypeOptions,
    rdms: RDMs,
) -> dict[str, Any]:
    """Bound a similarity by the reliability of both RDMs; over subjects by their mean bounds.

    Parameters
    ----------
    comparison : Comparison
        Similarity or difference.
    members : sequence of int
        Positions of the RDMs.
    bounds : mapping
        Reliabilities, see `bounds_of`.
    chosen : ImageTypeOptions
        Comparator.
    rdms : rsatoolbox.rdm.RDMs
        All RDMs.

    Returns
    -------
    dict
        ceiling_low, ceiling_high, ceiling; NaN and empty for a network, which answers without
        noise, and for a difference.
    """
    nothing = {"ceiling_low": np.nan, "ceiling_high": np.nan}
    places = [name_representation(rdms, i) for i in members]
    if comparison.pair is None or places[0]["system"] == "network":
        return {**nothing, "ceiling": ""}
    measure = str(rdms.dissimilarity_measure).lower()
    if chosen.comparator != "spearman" or "spearman" not in measure:
        return {**nothing, "ceiling": NOT_SPEARMAN}
    lows, highs, texts, reasons = [], [], [], []
    for place in places:
        bound = pair_bound(bounds, place["subject"], place["representation"], comparison.pair)
        lows.append(bound["ceiling_low"])
        highs.append(bound["ceiling_high"])
        texts.append(bound["ceiling"])
        if not np.isfinite(bound["ceiling_low"]):
            reasons.append(bound["ceiling"])
    return {
        "ceiling_low": float(np.mean(lows)),
        "ceiling_high": float(np.mean(highs)),
        "ceiling": str((reasons or texts)[0]),
    }


# ----------------------------------------------------------------------------------------- families


def with_families(
    table: pd.DataFrame, draws: Sequence[Draws], chosen: ImageTypeOptions, mean: str
) -> pd.DataFrame:
    """Correct p within families; subjects and their mean are never in one.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns system, subject, representation, pair, quantity, p.
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

    is_mean = table["subject"] == mean
    parts = []
    for (system, of_mean), part in table.groupby(["system", is_mean], sort=False):
        over = {"representation": "layers" if system == "network" else "ROIs"}
        within = ["pair", "subject"]
        if chosen.family == "subjects" and not of_mean and system != "network":
            over["subject"] = "subjects"
            within = ["pair"]
        if chosen.correction != MAX_T:
            parts.append(correct_families(part, over, within, how=chosen.correction))
            continue
        corrected = correct_families(part, over, within, how=FALLBACK)
        for positions in corrected.groupby(within, sort=False).indices.values():
            rows = corrected.index[positions]
            family = [draws[row] for row in rows]
            quantity = corrected.loc[rows[0], "quantity"]
            largest_p = _largest_p(family, quantity, chosen)
            if largest_p is None:
                continue
            p = corrected.loc[rows, "p"].to_numpy(dtype=float)
            at_least_p = np.fmax(p, largest_p)
            corrected.loc[rows, "p_corrected"] = np.where(np.isfinite(p), at_least_p, np.nan)
            corrected.loc[rows, "correction"] = MAX_T
        parts.append(corrected)
    return pd.concat(parts).sort_index()


def _largest_p(
    family: Sequence[Draws], quantity: str, chosen: ImageTypeOptions
) -> np.ndarray | None:
    """Give p against the largest of the family; None where that has no meaning."""
    has_several = any(len(row.values) > 1 for row in family)
    if has_several and chosen.combine != "joint":
        return None
    if quantity == "difference":
        if chosen.interval not in ONE_DRAW:
            return None
        resamples = [row.resamples for row in family if row.resamples is not None]
        if len(resamples) < len(family):
            return None
        means = np.array([row.values.mean() for row in family])
        drawn = np.stack(resamples, axis=1)
        drawn = drawn[np.isfinite(drawn).all(axis=1)]
        errors = drawn.std(axis=0) if len(drawn) else np.zeros(len(family))
        if not (errors > 0).all():
            return None
        # distances from 0, in standard errors, beside the largest of resampled distances
        distances = (drawn - means) / errors
        return max_t_p(means / errors, distances, "two-sided")[1]
    nulls = [row.nulls for row in family if row.nulls is not None]
    used = {order for row in family for order in row.orders}
    if len(nulls) < len(family) or len(used) > 1:
        return None
    defined = np.all([np.isfinite(null).all(axis=1) for null in nulls], axis=0)
    if not defined.any():
        return None
    if not has_several:
        values = np.concatenate([row.values for row in family])
        all_nulls = np.concatenate(nulls, axis=1)
        return max_t_p(values, all_nulls[defined])[1]
    statistics = []
    for row, null in zip(family, nulls):
        statistics.append(joint_statistic(row.values, null[defined]))
    joint = np.stack(statistics, axis=1)
    return max_t_p(joint[0], joint[1:])[1]


# ---------------------------------------------------------------------------------- what rows say


def expected_order(rdms: RDMs, chosen: ImageTypeOptions) -> list[str]:
    """Name what Zhang et al. expect: cortex follows perception, a network's output its names.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All RDMs, the stages of a network in their order.
    chosen : ImageTypeOptions
        Pairs of image types.

    Returns
    -------
    list of str
        Text for each RDM; empty where nothing is expected.
    """
    expected = [""] * rdms.n_rdm
    if len(chosen.pairs) < 2:
        return expected
    decision, perception = ("-".join(pair) for pair in chosen.pairs)
    last = None
    for i in range(rdms.n_rdm):
        system = name_representation(rdms, i)["system"]
        if system == "brain":
            expected[i] = f"{perception} above {decision} (perception)"
        if system == "network":
            last = i
    if last is not None:
        expected[last] = f"{decision} above {perception} (decision; last stage)"
    return expected


def what_follows(row: Mapping[Any, Any], chosen: ImageTypeOptions) -> tuple[str, str]:
    """Say what a difference follows.

    Parameters
    ----------
    row : mapping
        Row of the table, with p_corrected.
    chosen : ImageTypeOptions
        Pairs of image types, confidence.

    Returns
    -------
    follows : str
        One of `FOLLOWS`; empty for a similarity.
    answer : str
        The same in words.
    """
    if row["quantity"] != "difference":
        return "", ""
    decision, perception = ("-".join(pair) for pair in chosen.pairs)
    low, high, p = row["ci_low"], row["ci_high"], row["p_corrected"]
    alpha = 1 - chosen.confidence
    if not np.isfinite(p):
        missing = "no p" if np.isfinite(low) else "no interval"
        return "not tested", f"not tested: {missing}"
    if np.isfinite(low) and low <= 0 <= high:
        return "undecided", "undecided: the interval holds 0"
    if p >= alpha:
        return "undecided", f"undecided: corrected p not below {alpha:.2g}"
    if row["value"] > 0:
        return "perception", f"follows perception: {perception} above {decision}"
    return "decision", f"follows the network's decision: {decision} above {perception}"
