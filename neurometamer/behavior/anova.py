"""Analyses of variance of proportions correct: partial η², Greenhouse-Geisser, post-hoc tests.

They are computed with pingouin.

One row an effect, the same columns for every analysis. People with a missing cell have no place in
an analysis of variance of complete profiles: they are left out, counted and named, or refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.behavior.permutation import permutation_p, permute_mixed, permute_repeated
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.summaries import short_repr

CORRECTIONS = {"holm": "holm", "fdr": "fdr_bh", "bonferroni": "bonf", "none": "none"}
"""Correction for multiple comparisons to pingouin's name of it."""

ANOVA_COLUMNS = (
    "analysis",
    "observer",
    "models",
    "source",
    "n",
    "n_excluded",
    "n_stages",
    "ss",
    "df1",
    "df2",
    "F",
    "p",
    "p_gg",
    "epsilon_gg",
    "mauchly_w",
    "p_sphericity",
    "eta2_p",
    "method",
)
_NAMES = {
    "Source": "source",
    "SS": "ss",
    "F": "F",
    "p_unc": "p",
    "p_GG_corr": "p_gg",
    "np2": "eta2_p",
    "eps": "epsilon_gg",
    "W_spher": "mauchly_w",
    "p_spher": "p_sphericity",
    "ddof1": "df1",
    "ddof2": "df2",
    "DF1": "df1",
    "DF2": "df2",
}


def name_models(models: Sequence[str]) -> str:
    """Name the models of an analysis in a table.

    Parameters
    ----------
    models : sequence of str
        Their names.

    Returns
    -------
    str
        ``"a"``, ``"a vs b"``, or ``"3 models"``.
    """
    return " vs ".join(models) if len(models) < 3 else f"{len(models)} models"


@short_repr
@dataclass(frozen=True, kw_only=True)
class Profiles:
    """Complete data of an analysis: `values` (n, n_models, n_stages).

    `excluded` names the people left out and the number of their missing cells.

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "a", "b", "b", "c", "c"],
    ...         "model": "resnet",
    ...         "stage": ["early", "late"] * 3,
    ...         "proportion": [0.9, 0.4, 0.8, 0.5, 1.0, 0.3],
    ...     }
    ... )
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> profiles.participants, profiles.values.shape
    (['a', 'b', 'c'], (3, 1, 2))
    """

    values: np.ndarray
    participants: Sequence[str]
    models: Sequence[str]
    stages: Sequence[str]
    excluded: pd.DataFrame


@contextmanager
def _pingouin() -> Iterator[Any]:
    """Import pingouin without its warnings.

    They concern its own libraries and pairs without any difference.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pingouin
    except ImportError:
        raise InputError(
            "analyses of variance need pingouin; install it with pip install "
            "'neurometamer[behavior]'."
        ) from None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield pingouin


@checked_with(
    tables={
        "cells": Columns(
            "the table of cells",
            "Make it with trial_cells or proportion_cells.",
            ("participant", "model", "stage", "proportion"),
        )
    }
)
def complete_profiles(
    cells: pd.DataFrame,
    models: Sequence[str],
    stages: Sequence[str],
    *,
    strict: bool = False,
    what: str = "",
) -> Profiles:
    """Arrange cells as people × models × stages; leave out people with missing cells.

    Parameters
    ----------
    cells : pandas.DataFrame
        Cells of one kind of observer (and one network), see `trial_cells`.
    models, stages : sequence of str
        The levels, in order.
    strict : bool
        Refuse missing cells instead of leaving people out.
    what : str
        Name of the analysis, for messages and the list of exclusions.

    Returns
    -------
    Profiles
        At least two people; no value missing.

    Raises
    ------
    InputError
        When a cell is missing and `strict` holds, a stage has no trials, or fewer than two people
        are complete.

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "a", "b", "b", "c", "c"],
    ...         "model": "resnet",
    ...         "stage": ["early", "late"] * 3,
    ...         "proportion": [0.9, 0.4, 0.8, 0.5, 1.0, 0.3],
    ...     }
    ... )
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> profiles.values[:, 0].tolist()
    [[0.9, 0.4], [0.8, 0.5], [1.0, 0.3]]
    """
    if not models or not stages:
        raise InputError(
            f"{len(models)} models and {len(stages)} stages; name at least one of each."
        )
    wide = cells.pivot(index="participant", columns=["model", "stage"], values="proportion")
    wanted = pd.MultiIndex.from_product([models, stages], names=["model", "stage"])
    if nowhere := [" / ".join(cell) for cell in wanted if cell not in wide.columns]:
        raise InputError(
            f"{what}: no trials at {name_ids(nowhere)}; choose --models and --stages that all have "
            "trials."
        )
    wide = wide.reindex(index=list(dict.fromkeys(cells["participant"])), columns=wanted)
    gaps = wide.isna()
    lost = gaps.index[gaps.any(axis=1)]
    if strict and len(lost):
        cells_lost = name_ids(" / ".join(cell) for cell in wanted[gaps.loc[lost[0]].to_numpy()])
        raise InputError(
            f"--strict: {what}: {name_ids(lost)} have no trials in some cells, e.g. {cells_lost}; "
            "leave out --strict to analyze the others, or choose fewer --models or --stages."
        )
    complete = wide.drop(index=lost)
    if len(complete) < 2:
        raise InputError(
            f"{what}: {len(complete)} people have trials in every cell, and at least 2 are needed; "
            f"{len(lost)} lack cells. Choose fewer --models or --stages."
        )
    excluded = []
    for name in lost:
        n_gaps = int(gaps.loc[name].sum())
        reason = f"{what}: {n_gaps} of {len(wanted)} cells without trials"
        excluded.append({"participant": name, "reason": reason})
    return Profiles(
        values=complete.to_numpy(dtype=float).reshape(len(complete), len(models), len(stages)),
        participants=[str(name) for name in complete.index],
        models=list(models),
        stages=list(stages),
        excluded=pd.DataFrame(excluded, columns=["participant", "reason"]),
    )


def _long(profiles: Profiles, prefix: str = "") -> pd.DataFrame:
    """Unfold for pingouin; numbers keep the order of the levels."""
    n, n_models, n_stages = profiles.values.shape
    person, model, stage = np.indices((n, n_models, n_stages)).reshape(3, -1)
    people = np.array([f"{prefix}{name}" for name in profiles.participants], dtype=object)
    return pd.DataFrame(
        {
            "participant": people[person],
            "model": model,
            "stage": stage,
            "proportion": profiles.values.ravel(),
        }
    )


def _need_spread(values: np.ndarray, what: str) -> None:
    if np.ptp(values) == 0:
        raise InputError(
            f"{what}: all proportions are {values.flat[0]:g}; there is no variance to analyze."
        )


def _tidy(table: pd.DataFrame, n: int, n_levels: int, **same: Any) -> pd.DataFrame:
    """Rename the columns of pingouin's table.

    Mauchly's test is kept only where there are more people than contrasts.
    """
    # older versions of pingouin write p-unc where newer ones write p_unc
    older = {name.replace("_", "-"): name for name in _NAMES}
    out = table.rename(columns=older).rename(columns=_NAMES)
    out = out.reindex(columns=list(ANOVA_COLUMNS)).assign(n=n, **same)
    out["source"] = out["source"].replace(
        {"stage * model": "model x stage", "Interaction": "observer x stage"}
    )
    out["n_stages"] = n_levels
    unknown = (out["df1"] >= n - 1).to_numpy() | (out["df1"] < 2).to_numpy()
    numbers = ["p_gg", "epsilon_gg", "mauchly_w", "p_sphericity"]
    out[numbers] = out[numbers].astype(float)
    out.loc[unknown, ["mauchly_w", "p_sphericity"]] = np.nan
    # With one degree of freedom there is nothing to correct.
    out["p_gg"] = out["p_gg"].fillna(out["p"])
    return out


REPEATED_METHOD = "repeated measures, pingouin"
MIXED_METHOD = "mixed: observer between, stage within, pingouin"


@checked
def repeated_anova(
    profiles: Profiles, *, analysis: str = "", observer: str = "human"
) -> pd.DataFrame:
    """Compute a repeated-measures analysis of variance of model × stage.

    It has one way where the other factor has one level.

    Parameters
    ----------
    profiles : Profiles
        Complete data.
    analysis : str
        Its name in the table.
    observer : str
        Whose answers.

    Returns
    -------
    pandas.DataFrame
        `ANOVA_COLUMNS`, one row an effect. ``eta2_p`` is SS / (SS + SS_error); ``p_gg`` is
        corrected by Greenhouse and Geisser's ε, whether or not sphericity is rejected; Mauchly's
        test is missing where there are not more people than contrasts.

    Raises
    ------
    InputError
        When both factors have one level, or the data do not vary.

    Notes
    -----
    Feather et al. (2023): two-way repeated measures (stage × model), F of the main effect of model.

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "a", "b", "b", "c", "c"],
    ...         "model": "resnet",
    ...         "stage": ["early", "late"] * 3,
    ...         "proportion": [0.9, 0.4, 0.8, 0.5, 1.0, 0.3],
    ...     }
    ... )
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> table = repeated_anova(profiles)
    >>> table[["source", "df1", "df2"]].values.tolist(), round(float(table["F"].iloc[0]), 2)
    ([['stage', 1, 2]], 18.75)
    """
    n, n_models, n_stages = profiles.values.shape
    if n_models < 2 and n_stages < 2:
        raise InputError(
            f"{analysis}: one model at one stage; an analysis of variance needs two levels of "
            "something."
        )
    _need_spread(profiles.values, analysis)
    within = [name for name, levels in (("stage", n_stages), ("model", n_models)) if levels > 1]
    options: dict[str, Any] = {
        "dv": "proportion",
        "subject": "participant",
        "effsize": "np2",
        "detailed": True,
    }
    with _pingouin() as pingouin:
        factor = within if len(within) > 1 else within[0]
        try:
            made = pingouin.rm_anova(
                data=_long(profiles), within=factor, correction=True, **options
            )
        except ZeroDivisionError:
            # its test of sphericity, for an effect of two degrees of freedom in two people
            raise InputError(
                f"{analysis}: pingouin cannot analyze this design with {n} people; add a third."
            ) from None
    if len(within) == 1:
        made = made.rename(columns={"DF": "DF1"}).assign(DF2=made["DF"].iloc[-1]).iloc[:1]
    models = name_models(profiles.models)
    return _tidy(
        made,
        n,
        n_stages,
        analysis=analysis,
        observer=observer,
        models=models,
        n_excluded=len(profiles.excluded),
        method=REPEATED_METHOD,
    )


@checked
def mixed_anova(
    first: Profiles, second: Profiles, *, analysis: str = "", observer: str = ""
) -> pd.DataFrame:
    """Compute a mixed analysis of variance of the metamers of one model.

    Observer (two groups) is the factor between, stage the factor within.

    Parameters
    ----------
    first, second : Profiles
        Of the same model and stages: people, and a network for each person's images, for example.
    analysis : str
        Its name in the table.
    observer : str
        Names of the groups in the table.

    Returns
    -------
    pandas.DataFrame
        As from `repeated_anova`; ε and Mauchly's test from the covariance pooled within groups.

    Raises
    ------
    InputError
        When models or stages differ, there are fewer than two stages, or the data do not vary.

    Notes
    -----
    Feather et al. (2023): "human vs network". With groups of different size, sums of squares are
    those of pingouin (stages weighted by group size).

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "a", "b", "b", "c", "c"],
    ...         "model": "resnet",
    ...         "stage": ["early", "late"] * 3,
    ...         "proportion": [0.9, 0.4, 0.8, 0.5, 1.0, 0.3],
    ...     }
    ... )
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> other = cells.assign(proportion=[0.9, 0.8, 0.7, 0.8, 0.8, 0.6])
    >>> network = complete_profiles(other, ["resnet"], ["early", "late"])
    >>> mixed_anova(profiles, network)["source"].tolist()
    ['observer', 'stage', 'observer x stage']
    """
    if list(first.models) != list(second.models) or list(first.stages) != list(second.stages):
        raise InputError(f"{analysis}: the groups have different models or stages.")
    if len(first.stages) < 2:
        raise InputError(f"{analysis}: a mixed analysis of variance needs two stages.")
    _need_spread(np.concatenate([first.values, second.values]), analysis)
    both = [
        _long(group, f"{name} ").assign(observer=name)
        for name, group in (("a", first), ("b", second))
    ]
    with _pingouin() as pingouin:
        made = pingouin.mixed_anova(
            data=pd.concat(both, ignore_index=True),
            dv="proportion",
            within="stage",
            between="observer",
            subject="participant",
            effsize="np2",
            correction=True,
        )
    n = len(first.values) + len(second.values)
    excluded = len(first.excluded) + len(second.excluded)
    return _tidy(
        made,
        n - 1,
        len(first.stages),
        analysis=analysis,
        observer=observer,
        models=name_models(first.models),
        n_excluded=excluded,
        method=MIXED_METHOD,
    ).assign(n=n)


# ----------------------------------------------------------------------------------------- post hoc

POSTHOC_COLUMNS = (
    "analysis",
    "observer",
    "models",
    "family",
    "at",
    "a",
    "b",
    "n",
    "mean_difference",
    "t",
    "df",
    "p",
    "p_corrected",
    "n_tests",
    "correction",
    "hedges_g",
)


@checked
def post_hoc(
    profiles: Profiles, *, correction: str = "holm", analysis: str = "", observer: str = "human"
) -> pd.DataFrame:
    """Paired t tests between stages, between models, and between models at each stage.

    Parameters
    ----------
    profiles : Profiles
        Complete data.
    correction : {"holm", "fdr", "bonferroni", "none"}
        Within each family: stages (averaged over models), models (averaged over stages), models at
        each stage.
    analysis, observer : str
        Names in the table.

    Returns
    -------
    pandas.DataFrame
        `POSTHOC_COLUMNS`, one row a pair, two-sided; t and p are missing where nobody differs, and
        such pairs are not counted by the correction.

    Raises
    ------
    InputError
        When the correction is unknown.

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "a", "b", "b", "c", "c"],
    ...         "model": "resnet",
    ...         "stage": ["early", "late"] * 3,
    ...         "proportion": [0.9, 0.4, 0.8, 0.5, 1.0, 0.3],
    ...     }
    ... )
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> table = post_hoc(profiles)
    >>> table[["a", "b", "n_tests"]].values.tolist()
    [['early', 'late', 1]]
    >>> round(float(table["mean_difference"].iloc[0]), 2)
    0.5
    """
    if correction not in CORRECTIONS:
        raise unknown_name("correction", correction, CORRECTIONS)
    n, n_models, n_stages = profiles.values.shape
    long, rule = _long(profiles), CORRECTIONS[correction]
    within = [name for name, levels in (("stage", n_stages), ("model", n_models)) if levels > 1]
    with _pingouin() as pingouin:
        made = pingouin.pairwise_tests(
            data=long,
            dv="proportion",
            within=within if len(within) > 1 else within[0],
            subject="participant",
            padjust=rule,
        )
    made = made.rename(columns={"p-unc": "p_unc", "p-corr": "p_corr"})
    names: dict[str, Sequence[str]] = {
        "stage": list(profiles.stages),
        "model": list(profiles.models),
    }
    families = {"stage": "stages", "model": "models", "stage * model": "models at each stage"}
    out = [_pair(row, profiles, names, families) for row in made.to_dict("records")]
    table = pd.DataFrame(out).assign(
        analysis=analysis,
        observer=observer,
        models=name_models(profiles.models),
        n=n,
        correction=correction,
    )
    table["n_tests"] = table.groupby("family")["p"].transform("count")
    return table.reindex(columns=list(POSTHOC_COLUMNS))


def _pair(
    row: dict[Any, Any],
    profiles: Profiles,
    names: dict[str, Sequence[str]],
    families: dict[str, str],
) -> Any:
    contrast = str(row["Contrast"])
    factor = "stage" if contrast == "stage" else "model"
    a, b = int(row["A"]), int(row["B"])
    at = int(row["stage"]) if contrast == "stage * model" else None
    values = profiles.values if at is None else profiles.values[:, :, at : at + 1]
    means = values.mean(axis=0).mean(axis=0 if factor == "stage" else 1)
    t, p = row["T"], row["p_unc"]
    corrected = row.get("p_corr", np.nan)
    if not np.isfinite(corrected):
        corrected = p
    if not np.isfinite(t):
        t = p = corrected = np.nan
    return {
        "family": families[contrast],
        "at": "" if at is None else names["stage"][at],
        "a": names[factor][a],
        "b": names[factor][b],
        "mean_difference": means[a] - means[b],
        "t": t,
        "df": row["dof"],
        "p": p,
        "p_corrected": corrected,
        "hedges_g": row["hedges"],
    }


# -------------------------------------------------------------------------------------- permutation

PERMUTATION_COLUMNS = (
    "analysis",
    "observer",
    "models",
    "source",
    "F",
    "p",
    "n_as_large",
    "n_permutations",
    "method",
    "seed",
)
SHUFFLED = {
    "model": "models within person, averaged over stages",
    "stage": "stages within person, averaged over models",
    "model x stage": "model x stage cells within person",
    "observer": "groups of whole profiles",
    "observer x stage": "groups of whole profiles",
}


@checked_with(
    tables={
        "anova": Columns(
            "the table",
            "Give that of repeated_anova or mixed_anova.",
            ("analysis", "observer", "models", "source", "F"),
        )
    }
)
def permutation_table(
    anova: pd.DataFrame,
    data: Profiles | tuple[Profiles, Profiles],
    *,
    n_permutations: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test the effects of an analysis of variance with shuffled labels.

    Parameters
    ----------
    anova : pandas.DataFrame
        From `repeated_anova` or `mixed_anova`.
    data : Profiles or tuple of Profiles
        Data of the analysis.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the shuffles.

    Returns
    -------
    pandas.DataFrame
        `PERMUTATION_COLUMNS`; p = (1 + n_as_large) / (1 + n_permutations), so the smallest p is 1 /
        (1 + N).

    Notes
    -----
    Feather et al. (2023) shuffle 10,000 times; their scripts count ``>=`` in one place and ``>`` in
    another, and report 1 / N for none. The stage effect of a mixed analysis is not shuffled.

    Examples
    --------
    >>> cells = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "a", "b", "b", "c", "c"],
    ...         "model": "resnet",
    ...         "stage": ["early", "late"] * 3,
    ...         "proportion": [0.9, 0.4, 0.8, 0.5, 1.0, 0.3],
    ...     }
    ... )
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> anova = repeated_anova(profiles)
    >>> table = permutation_table(anova, profiles, n_permutations=99)
    >>> table[["source", "n_permutations"]].values.tolist()
    [['stage', 99]]
    """
    name = f"{anova['analysis'].iloc[0]} {anova['models'].iloc[0]} {anova['observer'].iloc[0]}"
    if isinstance(data, Profiles):
        nulls = permute_repeated(data.values, n_permutations, seed=seed, name=name)
        names = {"model": "model", "stage": "stage", "interaction": "model x stage"}
    else:
        first, second = (group.values[:, 0] for group in data)
        values = np.concatenate([first, second])
        groups = np.repeat([0, 1], [len(first), len(second)])
        nulls = permute_mixed(values, groups, n_permutations, seed=seed, name=name)
        names = {"observer": "observer", "interaction": "observer x stage"}
    observed = anova.set_index("source")["F"]
    rows = []
    for effect, null in nulls.items():
        source = names[effect]
        if source not in observed.index:
            continue
        p, large = permutation_p(null, float(observed[source]))
        rows.append(
            {
                "source": source,
                "F": observed[source],
                "p": p,
                "n_as_large": large,
                "method": SHUFFLED[source],
            }
        )
    same = {column: anova[column].iloc[0] for column in ("analysis", "observer", "models")}
    table = pd.DataFrame(rows).assign(**same, n_permutations=n_permutations, seed=seed)
    return table.reindex(columns=list(PERMUTATION_COLUMNS))
