"""How reliable responses are: per voxel, per region and per image type."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.single_trials import check_independent_runs
from fmri.noise import CEILINGS, METHOD, ceiling_row, region_variances, typed_regions
from fmri.patterns import Patterns
from fmri.rdm_reliability import all_data_reliability, rdm_correlation, standard_rows
from fmri.variances import harmonic_mean
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids

MIN_CONDITIONS = 4
ADVISED_CONDITIONS = 15
"""Fewest conditions for selecting voxels by reliability, as Tarhan & Konkle (2020) advise."""


@checked
def voxel_reliability(patterns: Patterns, conditions: Sequence[str] | None = None) -> np.ndarray:
    """Correlate each voxel's response profile over conditions between odd and even presentations.

    Parameters
    ----------
    patterns : Patterns
        Responses; each condition needs at least two presentations.
    conditions : sequence of str, optional
        Conditions that make up the profile (default: all).

    Returns
    -------
    ndarray of float64, shape (n_voxels,)
        Pearson correlation in [-1, 1]; 0 for a voxel whose profile is flat in one half. Not
        corrected for the halved amount of data.

    Raises
    ------
    InputError
        When there are fewer than 4 conditions or a condition has only one presentation.

    References
    ----------
    Tarhan & Konkle (2020). Reliability-based voxel selection. NeuroImage 207, 116350.

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
    >>> voxel_reliability(patterns).shape
    (8,)
    """
    odd, even = _halves(patterns, conditions)
    odd_profiles = standard_rows(odd.T)
    even_profiles = standard_rows(even.T)
    correlations = (odd_profiles * even_profiles).sum(axis=1)
    return np.clip(correlations, -1, 1)


@checked
def split_half_reliability(
    patterns: Patterns, conditions: Sequence[str] | None = None
) -> pd.DataFrame:
    """Correlate the RDM of odd presentations with that of even presentations, by region.

    Parameters
    ----------
    patterns : Patterns
        Responses; each condition needs at least two presentations.
    conditions : sequence of str, optional
        Conditions of the RDM (default: all).

    Returns
    -------
    pandas.DataFrame
        One row a subject and region: ``subject``, ``roi``, ``reliability`` (Spearman correlation of
        the two 1 − Spearman RDMs), ``corrected`` and ``upper`` (those of two RDMs from all the
        data, and with half a standard error granted: `all_data_reliability`), ``n_conditions``,
        ``n_voxels``, ``method``.

    Raises
    ------
    InputError
        When there are fewer than 4 conditions, a condition has only one presentation, or a region
        has fewer than 3 voxels.

    Notes
    -----
    Voxels chosen by the reliability of these same conditions make this number too high.

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
    >>> table = split_half_reliability(patterns)
    >>> table[["subject", "roi", "n_conditions", "n_voxels"]].values.tolist()
    [['01', 'V1', 4, 8]]
    """
    odd, even = _halves(patterns, conditions)
    rows = []
    for subject, roi, columns in subject_regions(patterns):
        _check_voxels(roi, columns)
        reliability = rdm_correlation(odd[:, columns], even[:, columns])
        corrected, upper = all_data_reliability(odd[:, columns], even[:, columns])
        rows.append(
            {
                "subject": subject,
                "roi": roi,
                "reliability": reliability,
                "corrected": corrected,
                "upper": upper,
                "n_conditions": len(odd),
                "n_voxels": len(columns),
                "method": "Spearman of odd and even RDMs (1 - Spearman); corrected: simulated from "
                "signal and noise",
            }
        )
    return pd.DataFrame(rows)


@checked
def pattern_reliability(
    patterns: Patterns, conditions: Sequence[str] | None = None
) -> pd.DataFrame:
    """Correlate the patterns of the same condition between presentations, by region.

    Parameters
    ----------
    patterns : Patterns
        Responses; each condition needs at least two presentations.
    conditions : sequence of str, optional
        Conditions that count alike (default: all).

    Returns
    -------
    pandas.DataFrame
        One row a subject and region: ``subject``, ``roi``, ``reliability`` (mean over conditions
        and pairs of presentations of the Pearson correlation over voxels, in [-1, 1]),
        ``n_conditions``, ``n_voxels``, ``method``.

    Raises
    ------
    InputError
        When there are fewer than 4 conditions, a condition has only one presentation, or a region
        has fewer than 3 voxels.

    Notes
    -----
    Each voxel's mean over the conditions is taken away first: what all conditions share tells none
    from another, and would make patterns alike.

    References
    ----------
    Zhang et al. (2018). CCN (correlation of response patterns to the same picture across trials).

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
    >>> pattern_reliability(patterns)[["roi", "n_conditions", "n_voxels"]].values.tolist()
    [['V1', 4, 8]]
    """
    contributions = pattern_contributions(patterns, conditions)
    n_conditions = len(patterns.conditions if conditions is None else set(conditions))
    rows = []
    for subject, roi, columns in subject_regions(patterns):
        rows.append(
            {
                "subject": subject,
                "roi": roi,
                "reliability": float(contributions[columns].sum()),
                "n_conditions": n_conditions,
                "n_voxels": len(columns),
                "method": "Pearson correlation of patterns of the same condition, mean over pairs "
                "of presentations",
            }
        )
    return pd.DataFrame(rows)


@checked
def pattern_contributions(
    patterns: Patterns, conditions: Sequence[str] | None = None
) -> np.ndarray:
    """Split the pattern reliability of each region into what each voxel adds to it.

    Parameters
    ----------
    patterns, conditions
        See `pattern_reliability`.

    Returns
    -------
    ndarray, shape (n_voxels,)
        Sums to the `pattern_reliability` of the region.

    Raises
    ------
    InputError
        See `pattern_reliability`.

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
    >>> reliability = pattern_reliability(patterns)["reliability"][0]
    >>> bool(np.isclose(pattern_contributions(patterns).sum(), reliability))
    True
    """
    chosen = patterns if conditions is None else patterns.select(conditions=conditions)
    _halves(chosen, None)
    names, means = chosen.means()
    codes = pd.Categorical(chosen.observations["condition"], categories=names).codes
    counts = np.bincount(codes)
    contributions = np.zeros(len(chosen.voxels))
    for _, roi, columns in subject_regions(chosen):
        _check_voxels(roi, columns)
        responses = chosen.values[:, columns] - means[:, columns].mean(axis=0)
        rows = standard_rows(responses)
        of_condition = np.zeros((len(names), len(columns)))
        np.add.at(of_condition, codes, rows)
        own = np.zeros((len(names), len(columns)))
        np.add.at(own, codes, rows**2)
        # products of different presentations: all products minus those with themselves
        n_pairs = counts * (counts - 1)
        products = of_condition**2 - own
        products /= n_pairs[:, np.newaxis]
        contributions[columns] = products.mean(axis=0)
    return contributions


@checked
def reliability_table(
    patterns: Patterns, image_types: Mapping[str, str] | str | None = None
) -> pd.DataFrame:
    """Measure ceilings and reliability of each region, for each image type by itself.

    Parameters
    ----------
    patterns : Patterns
        Responses to single presentations.
    image_types : mapping of str to str, or str, optional
        Type of each condition, or the column of the observations that holds it; see
        `voxel_ceilings`.

    Returns
    -------
    pandas.DataFrame
        One row a subject, region and image type: the columns of `region_ceilings`, ``split_half``
        (median over voxels of `voxel_reliability`), ``pattern`` (`pattern_reliability`), and
        ``reason``: why numbers are missing (NaN), else empty.

    Raises
    ------
    InputError
        When conditions have no type.

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
    >>> table = reliability_table(patterns, {name: "RE" for name in patterns.conditions})
    >>> table[["roi", "image_type", "n_images", "repeats"]].values.tolist()
    [['V1', 'RE', 4, 2.0]]
    """
    rows = []
    for (subject, roi), part, image_type in typed_regions(patterns, image_types):
        row: dict[str, Any] = {"subject": subject, "roi": roi, "image_type": image_type}
        counts = part.observations["condition"].value_counts()
        row |= {"n_voxels": len(part.voxels), "n_images": len(counts)}
        row["repeats"] = harmonic_mean(counts.to_numpy())
        row |= dict.fromkeys([*CEILINGS, "split_half", "pattern"], np.nan)
        row["reason"] = ""
        try:
            row |= ceiling_row(region_variances(part, image_type))
            row["split_half"] = float(np.median(voxel_reliability(part)))
            row["pattern"] = float(pattern_contributions(part).sum())
        except InputError as error:
            row["reason"] = str(error)
        rows.append(row)
    of_chosen = check_independent_runs(patterns.provenance, "", allow_chosen=True)
    if of_chosen:
        warnings.warn(
            f"{patterns.subject}: noise ceilings and reliability{of_chosen}: what was chosen on "
            "all runs makes repeats alike, and counts as signal.",
            stacklevel=2,
        )
    return pd.DataFrame(rows).assign(method=METHOD + of_chosen)


@checked
def leave_one_run_out_accuracy(
    patterns: Patterns, conditions: Sequence[str] | None = None, *, standardize: bool = True
) -> pd.DataFrame:
    """Name the condition of each response in a left-out run.

    The name is that of the other runs' pattern with the highest correlation.

    Parameters
    ----------
    patterns : Patterns
        Responses of at least two runs.
    conditions : sequence of str, optional
        Conditions to tell apart (default: all); at least two.
    standardize : bool
        Divide each voxel by its standard deviation over the responses of the run, so that no voxel
        counts for more because its percent signal change is large, as at the edge of the brain.
        False: as in the source.

    Returns
    -------
    pandas.DataFrame
        One row a subject and region: ``subject``, ``roi``, ``accuracy`` (share of left-out
        responses named correctly), ``chance`` (1 / number of conditions), ``n_conditions``,
        ``n_runs``, ``n_tests``, ``n_voxels``.

    Raises
    ------
    InputError
        When there are fewer than two runs or conditions, or a condition occurs in one run only.

    Notes
    -----
    Within each run, each voxel's mean over the responses is taken away first (no labels are used),
    as in the source, which splits the runs in odd and even halves where here each run is left out
    once. Runs should show all conditions equally often.

    References
    ----------
    Haxby et al. (2001). Distributed and overlapping representations of faces and objects in ventral
    temporal cortex. Science 293, 2425-2430.

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
    >>> table = leave_one_run_out_accuracy(patterns)
    >>> table[["roi", "chance", "n_tests"]].values.tolist()
    [['V1', 0.25, 8]]
    """
    chosen = patterns if conditions is None else patterns.select(conditions=conditions)
    observations = chosen.observations
    labels = observations["session"] + "\x1f" + observations["run"]
    run_codes, run_names = pd.factorize(pd.Index(labels))
    codes, names = pd.factorize(pd.Index(observations["condition"]))
    if len(run_names) < 2 or len(names) < 2:
        raise InputError(
            f"{len(run_names)} run(s) and {len(names)} condition(s); give at least 2 of each."
        )
    once = []
    for code, name in enumerate(names):
        of_condition = run_codes[codes == code]
        if len(set(of_condition)) < 2:
            once.append(name)
    if once:
        raise InputError(
            f"conditions that occur in one run only: {name_ids(once)}; leave them out with "
            "conditions."
        )
    rows = []
    for subject, roi, columns in subject_regions(chosen):
        values = chosen.values[:, columns].astype(np.float64)
        for run in range(len(run_names)):
            rows_of_run = run_codes == run
            values[rows_of_run] -= values[rows_of_run].mean(axis=0)
            if standardize:
                spread = values[rows_of_run].std(axis=0)
                values[rows_of_run] /= np.where(spread > 0, spread, 1)
        correct = []
        for run in range(len(run_names)):
            test = run_codes == run
            rest = values[~test]
            rest_codes = codes[~test]
            means = [rest[rest_codes == code].mean(axis=0) for code in range(len(names))]
            own = standard_rows(values[test])
            others = standard_rows(np.stack(means))
            similarity = own @ others.T
            named = similarity.argmax(axis=1)
            correct.append(named == codes[test])
        rows.append(
            {
                "subject": subject,
                "roi": roi,
                "accuracy": float(np.concatenate(correct).mean()),
                "chance": 1 / len(names),
                "n_conditions": len(names),
                "n_runs": len(run_names),
                "n_tests": len(codes),
                "n_voxels": len(columns),
            }
        )
    return pd.DataFrame(rows)


def _check_voxels(roi: str, columns: np.ndarray) -> None:
    if len(columns) < 3:
        raise InputError(
            f"ROI '{roi}' has {len(columns)} voxel(s); an RDM needs at least 3: give a larger "
            "mask, or leave the region out."
        )


def _halves(patterns: Patterns, conditions: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean responses of odd and of even presentations, each (n_conditions, n_voxels)."""
    chosen = patterns if conditions is None else patterns.select(conditions=conditions)
    n_conditions = len(chosen.conditions)
    if n_conditions < MIN_CONDITIONS:
        raise InputError(
            f"{n_conditions} condition(s); reliability needs at least {MIN_CONDITIONS} "
            f"({ADVISED_CONDITIONS} or more are advised); give more conditions."
        )
    numbers = chosen.observations["presentation"]
    parity = numbers % 2
    n_halves = parity.groupby(chosen.observations["condition"], sort=False).nunique()
    single = n_halves.index[n_halves < 2].tolist()
    if single:
        raise InputError(
            f"conditions without both an odd and an even presentation: {name_ids(single)}; "
            "reliability needs each condition at least twice: give more runs, or leave these "
            "conditions out."
        )
    _, odd = chosen.means(sorted(set(numbers[parity == 1])))
    _, even = chosen.means(sorted(set(numbers[parity == 0])))
    return odd, even


def subject_regions(patterns: Patterns) -> Iterator[tuple[str, str, np.ndarray]]:
    """Give the voxels of each region.

    Parameters
    ----------
    patterns : Patterns
        Responses.

    Yields
    ------
    tuple of (str, str, ndarray of int)
        Subject, region, and its rows in the voxel table.
    """
    table = patterns.voxels.reset_index(drop=True)
    for key, rows in table.groupby(["subject", "roi"], sort=False):
        subject, roi = map(str, key)
        columns = rows.index.to_numpy()
        yield subject, roi, columns
