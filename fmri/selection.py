"""The choice of voxels: criteria that score each voxel, and the best of each region."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fmri.noise import condition_types
from fmri.patterns import Patterns, voxel_names
from fmri.reliability import ADVISED_CONDITIONS, pattern_contributions, voxel_reliability
from fmri.variances import response_variances
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest
from neurometamer.summaries import short_repr

REGULAR = "RE"
"""Image type whose images may choose the voxels on which the others are tested."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Criterion:
    """A score of voxels, of which more is better.

    Parameters
    ----------
    score : callable
        ``score(patterns, conditions)`` gives one number a voxel; NaN where it is not defined.
    method : str
        What the score is, in words.
    reference : str
        Source; empty where there is none.
    advised : int
        Fewest conditions that are advised; 0: any number.
    baseline : bool
        Whether responses need a baseline, which z-scored ones lack.

    Examples
    --------
    >>> CRITERIA["split-half"].reference
    'Tarhan & Konkle 2020'
    """

    score: Callable[[Patterns, Sequence[str]], np.ndarray]
    method: str
    reference: str = ""
    advised: int = 0
    baseline: bool = False


def voxel_ncsnr(patterns: Patterns, conditions: Sequence[str]) -> np.ndarray:
    """Score voxels by the signal-to-noise ratio of single presentations.

    Parameters
    ----------
    patterns : Patterns
        Responses; some conditions have at least two presentations.
    conditions : sequence of str
        Conditions that count.

    Returns
    -------
    ndarray, shape (n_voxels,)
        See `fmri.noise.ResponseVariances.ncsnr`.
    """
    chosen = patterns.select(conditions=conditions)
    shown = chosen.observations["condition"]
    labels = shown.tolist()
    names = voxel_names(chosen.voxels)
    variances = response_variances(chosen.values, labels, voxels=names)
    return variances.ncsnr


def baseline_t(patterns: Patterns, conditions: Sequence[str]) -> np.ndarray:
    """Score voxels by t of the mean response to all conditions against baseline.

    Parameters
    ----------
    patterns : Patterns
        Responses that have a baseline.
    conditions : sequence of str
        Conditions that count alike.

    Returns
    -------
    ndarray, shape (n_voxels,)
        t of the contrast with weight 1 / n for each condition, in the linear model of one mean for
        each condition; its noise is the scatter between presentations.
    """
    means, errors, noise = _against_baseline(patterns, conditions)
    variance = noise * errors.sum()
    standard_error = np.sqrt(variance) / len(errors)
    mean = means.mean(axis=0)
    return np.asarray(mean / standard_error)


def baseline_f(patterns: Patterns, conditions: Sequence[str]) -> np.ndarray:
    """Score voxels by F of the responses to any condition against baseline.

    Parameters
    ----------
    patterns : Patterns
        Responses that have a baseline.
    conditions : sequence of str
        Conditions that count.

    Returns
    -------
    ndarray, shape (n_voxels,)
        F of the hypothesis that the response to every condition is 0, in the model of `baseline_t`.
    """
    means, errors, noise = _against_baseline(patterns, conditions)
    weights = 1 / errors[:, np.newaxis]
    squares = weights * means**2
    mean = squares.mean(axis=0)
    return np.asarray(mean / noise)


def _against_baseline(
    patterns: Patterns, conditions: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means of conditions, 1 / their numbers of presentations, and the variance of the noise."""
    chosen = patterns.select(conditions=conditions)
    labels = chosen.observations["condition"]
    voxels = voxel_names(chosen.voxels)
    variances = response_variances(chosen.values, labels.tolist(), voxels=voxels)
    names, means = chosen.means()
    counts = labels.value_counts()
    in_order = counts[list(names)].to_numpy()
    return means, 1 / in_order, variances.noise


CRITERIA: dict[str, Criterion] = {
    "split-half": Criterion(
        score=voxel_reliability,
        method="split-half (odd / even presentations) Pearson correlation of the response profile "
        "over conditions",
        reference="Tarhan & Konkle 2020",
        advised=ADVISED_CONDITIONS,
    ),
    "pattern": Criterion(
        score=pattern_contributions,
        method="contribution to the correlation of the region's patterns of the same condition "
        "between presentations",
        reference="after Zhang et al. 2018, who do not say how patterns choose voxels",
        advised=ADVISED_CONDITIONS,
    ),
    "ncsnr": Criterion(
        score=voxel_ncsnr,
        method="signal-to-noise ratio of single presentations (ncsnr)",
        reference="Allen et al. 2022",
        advised=ADVISED_CONDITIONS,
    ),
    "t": Criterion(
        score=baseline_t,
        method="t of the mean response to all conditions against baseline",
        baseline=True,
    ),
    "f": Criterion(
        score=baseline_f,
        method="F of the responses to any condition against baseline",
        baseline=True,
    ),
}
"""Name → score that chooses voxels. RDM reliability of searchlights, which needs distances between
voxels, is made by `neurometamer.rsa.searchlight_criterion`."""


@checked
def select_voxels(
    patterns: Patterns,
    *,
    conditions: Sequence[str],
    criterion: str | Criterion = "split-half",
    n_per_roi: int | None = None,
    threshold: float | None = None,
    image_types: Mapping[str, str] | None = None,
) -> Patterns:
    """Keep the best voxels of each region, hemisphere and subject.

    Parameters
    ----------
    patterns : Patterns
        Responses.
    conditions : sequence of str
        Conditions that voxels are judged on. It has no default on purpose: choose voxels on the
        regular images only, so that the images under test have no part in the choice (Zhang et al.,
        2021).
    criterion : str or Criterion
        Name of an entry of `CRITERIA`, or a criterion of your own: a correlation (``"split-half"``,
        ``"pattern"``), ``"ncsnr"``, or ``"t"`` or ``"f"`` against baseline.
    n_per_roi : int, optional
        Keep this many of the best voxels of each region, in each hemisphere where voxels have one;
        a region with fewer keeps all.
    threshold : float, optional
        Keep voxels with at least this score; with `n_per_roi`, both apply.
    image_types : mapping of str to str, optional
        Type of each condition. Where `conditions` are of other types than RE the record says so,
        and every page that shows these data.

    Returns
    -------
    Patterns
        All conditions, fewer voxels in their old order; ``voxels["reliability"]`` holds their
        scores and ``provenance["selection"]`` says how many each region kept, of how many, by what
        criterion and which image types.

    Raises
    ------
    InputError
        When neither or a senseless limit is given, the criterion is unknown, no voxel of a region
        passes, or the score cannot be measured.

    Warns
    -----
    UserWarning
        When a region has fewer voxels than `n_per_roi`, or there are fewer conditions than advised.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_patterns
    >>> patterns = simulate_patterns(
    ...     mkdtemp(),
    ...     subjects=["01"],
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )["sub-01"]
    >>> chosen = select_voxels(patterns, conditions=patterns.conditions, n_per_roi=3)
    >>> chosen.values.shape
    (8, 3)
    """
    if isinstance(criterion, str):
        if criterion not in CRITERIA:
            raise unknown_name("criterion for voxels", criterion, CRITERIA)
        judge = CRITERIA[criterion]
    else:
        judge = criterion
    named = {id(entry): name for name, entry in CRITERIA.items()}
    label = named.get(id(judge), judge.method)
    check_limits(label, n_per_roi, threshold)
    check_baseline(judge, patterns.provenance.get("zscore", "none"))
    names = list(dict.fromkeys(str(name) for name in conditions))
    types: list[str] = []
    if image_types is not None:
        known = condition_types(patterns.select(conditions=names), image_types)
        types = sorted(set(known.values()))
    scores = np.asarray(judge.score(patterns, names), dtype=np.float64)
    tell_few_conditions(len(names), judge.advised)
    keep, kept = best_voxels(patterns, scores, n_per_roi, threshold)
    small = []
    for row in kept:
        if n_per_roi is not None and row["of"] < n_per_roi:
            words = [row["subject"], row["roi"], row.get("hemisphere", "")]
            small.append(f"{' '.join(filter(None, words))} ({row['of']})")
    if small:
        warnings.warn(
            f"{n_per_roi} voxels of each region were asked for, and there are fewer in "
            f"{name_ids(small)}; all of these that have a score are kept.",
            stacklevel=2,
        )
    note = ""
    if len(names) < judge.advised:
        note = f"fewer than the {judge.advised} conditions advised for this measure"
    record = {
        "method": judge.method,
        "criterion": label,
        "reference": judge.reference,
        "n_conditions": len(names),
        "conditions_digest": digest(sorted(names)),
        "image_types": types,
        "not_regular": [name for name in types if name != REGULAR],
        "n_per_roi": n_per_roi,
        "threshold": threshold,
        "regions": kept,
        "note": note,
    }
    marked = replace(
        patterns,
        voxels=patterns.voxels.assign(reliability=scores),
        provenance={**patterns.provenance, "selection": record},
    )
    return marked.select(voxels=keep)


def check_baseline(criterion: Criterion, zscore: str) -> None:
    """Refuse a comparison with the baseline where responses have none.

    Parameters
    ----------
    criterion : Criterion
        Score of voxels.
    zscore : str
        Within what responses were z-scored.

    Raises
    ------
    InputError
        Where they were and the criterion needs a baseline.
    """
    if criterion.baseline and zscore != "none":
        raise InputError(
            f"responses z-scored within each {zscore} have no baseline, which the criterion needs "
            f"({criterion.method}); give zscore 'none' or criterion 'split-half'."
        )


def check_limits(criterion: str, n_per_roi: int | None, threshold: float | None) -> None:
    """Refuse limits that choose no voxels, or none that make sense.

    Parameters
    ----------
    criterion : str
        Name of the score.
    n_per_roi : int or None
        Number of voxels of each region.
    threshold : float or None
        Least score.

    Raises
    ------
    InputError
        Where both are None, or one has no meaning.
    """
    if n_per_roi is None and threshold is None:
        raise InputError("no criterion for voxels; give n_per_roi, threshold or both.")
    if n_per_roi is not None and n_per_roi < 1:
        raise InputError(f"n_per_roi is {n_per_roi}; give at least 1.")
    if threshold is None:
        return
    if not np.isfinite(threshold):
        raise InputError(f"threshold is {threshold}; give a number.")
    if criterion == "split-half" and not -1 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}; give a correlation between -1 and 1.")


def best_voxels(
    patterns: Patterns, scores: np.ndarray, n_per_roi: int | None, threshold: float | None
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Choose the best voxels of each region and hemisphere; voxels without a score never.

    Parameters
    ----------
    patterns : Patterns
        Responses.
    scores : ndarray, shape (n_voxels,)
        Score of each voxel, e.g. of a map; NaN for none.
    n_per_roi : int or None
        Number of voxels of each region.
    threshold : float or None
        Least score.

    Returns
    -------
    keep : ndarray of bool, shape (n_voxels,)
        True for the chosen voxels.
    regions : list of dict
        Numbers and scores of each region's.

    Raises
    ------
    InputError
        When no voxel of a region passes or has a score.
    """
    keep = np.zeros(len(scores), dtype=bool)
    kept = []
    voxels = patterns.voxels.reset_index(drop=True)
    columns = [name for name in ("subject", "roi", "hemisphere") if name in voxels.columns]
    for key, group in voxels.groupby(columns, sort=False):
        place: dict[str, Any] = dict(zip(columns, map(str, key), strict=True))
        rows = group.index.to_numpy()
        is_defined = np.isfinite(scores[rows])
        defined = rows[is_defined]
        order = np.argsort(-scores[defined], kind="stable")
        best = defined[order][:n_per_roi]
        if threshold is not None:
            reaches = scores[best] >= threshold
            best = best[reaches]
        where = f"ROI '{place['roi']}'"
        if side := place.get("hemisphere"):
            where += f", hemisphere {side}"
        if not len(defined):
            raise InputError(
                f"no voxel of {where} has a score; choose another criterion, or leave it out."
            )
        if not len(best):
            raise InputError(
                f"no voxel of {where} reaches reliability {threshold}; the best has "
                f"{scores[defined].max():.3f}; lower the threshold or use n_per_roi."
            )
        keep[best] = True
        chosen = scores[best]
        facts = {
            "kept": len(best),
            "of": len(rows),
            "fewer_than_asked": n_per_roi is not None and len(best) < n_per_roi,
            "lowest": float(chosen.min()),
            "median": float(np.median(chosen)),
        }
        kept.append(place | facts)
    return keep, kept


def tell_few_conditions(n_conditions: int, advised: int = ADVISED_CONDITIONS) -> None:
    """Warn where voxels are chosen by fewer conditions than is advised.

    Parameters
    ----------
    n_conditions : int
        Conditions that make up the response profile.
    advised : int
        Fewest that are advised.

    Warns
    -----
    UserWarning
        Below `advised`.
    """
    if n_conditions < advised:
        warnings.warn(
            f"voxels are chosen by the reliability of their responses to {n_conditions} "
            f"conditions; Tarhan & Konkle (2020) advise at least {advised}, with fewer "
            "the choice is largely chance.",
            stacklevel=2,
        )


def types_chosen_on(record: Any) -> set[str]:
    """Find the image types other than RE by which voxels were chosen.

    Parameters
    ----------
    record : object
        Provenance of patterns, as JSON holds it; that of its parts is looked through, too.

    Returns
    -------
    set of str
        Empty where voxels were chosen by regular images alone, or image types are not known.

    Examples
    --------
    >>> types_chosen_on({"parts": [{"selection": {"not_regular": ["AN"]}}]})
    {'AN'}
    """
    types: set[str] = set()
    waiting = [record]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            types.update(part.get("not_regular") or ())
            waiting += part.values()
        elif isinstance(part, (list, tuple)):
            waiting += part
    return types
