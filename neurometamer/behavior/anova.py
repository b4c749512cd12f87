"""Analyses of variance of proportions correct: partial η², Greenhouse-Geisser, post-hoc tests.

They are computed with pingouin.

One row an effect, the same columns for every analysis. Permutation p values of the same F beside
them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.behavior.curves import Profiles
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.stats.resampling import p_from_count

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
    if len(models) < 3:
        return " vs ".join(models)
    return f"{len(models)} models"


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


def _long(profiles: Profiles, prefix: str = "") -> pd.DataFrame:
    """Unfold for pingouin; numbers keep the order of the levels."""
    person, model, stage = np.indices(profiles.values.shape).reshape(3, -1)
    people = [f"{prefix}{name}" for name in profiles.participants]
    return pd.DataFrame(
        {
            "participant": np.array(people, dtype=object)[person],
            "model": model,
            "stage": stage,
            "proportion": profiles.values.ravel(),
        }
    )


def _need_spread(values: np.ndarray, what: str) -> None:
    if np.ptp(values) == 0:
        raise InputError(
            f"{what}: all proportions are {values.flat[0]:g}; there is no variance to analyze. "
            "Give "
            "data that vary, or leave the analysis out."
        )


def _tidy(table: pd.DataFrame, n: int, n_stages: int, **same: Any) -> pd.DataFrame:
    """Rename the columns of pingouin's table.

    Mauchly's test is kept only where there are more people than contrasts.
    """
    # older versions of pingouin write p-unc where newer ones write p_unc
    older = {name.replace("_", "-"): name for name in _NAMES}
    out = table.rename(columns=older).rename(columns=_NAMES)
    out = out.reindex(columns=list(ANOVA_COLUMNS))
    out = out.assign(n=n, n_stages=n_stages, **same)
    sources = {
        "stage * model": "model x stage",
        "Interaction": "observer x stage",
    }
    out["source"] = out["source"].replace(sources)
    for name in ("p_gg", "epsilon_gg", "mauchly_w", "p_sphericity"):
        out[name] = out[name].astype(float)
    df = out["df1"].to_numpy()
    is_unknown = (df >= n - 1) | (df < 2)
    out.loc[is_unknown, ["mauchly_w", "p_sphericity"]] = np.nan
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
    >>> from neurometamer.behavior.curves import complete_profiles
    >>> cells = pd.DataFrame({"participant": list("aabbcc"), "model": "resnet"})
    >>> cells["stage"] = ["early", "late"] * 3
    >>> cells["proportion"] = [0.9, 0.4, 0.8, 0.5, 1.0, 0.3]
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> table = repeated_anova(profiles)
    >>> table[["source", "df1", "df2"]].values.tolist(), round(float(table["F"].iloc[0]), 2)
    ([['stage', 1, 2]], 18.75)
    """
    n, n_models, n_stages = profiles.values.shape
    if n_models < 2 and n_stages < 2:
        raise InputError(
            f"{analysis}: one model at one stage; an analysis of variance needs two levels of "
            "something: name more models or stages."
        )
    _need_spread(profiles.values, analysis)
    within = _factors(profiles)
    with _pingouin() as pingouin:
        try:
            made = pingouin.rm_anova(
                data=_long(profiles),
                dv="proportion",
                within=within,
                subject="participant",
                correction=True,
                detailed=True,
                effsize="np2",
            )
        except ZeroDivisionError:
            # its test of sphericity, for an effect of two degrees of freedom in two people
            raise InputError(
                f"{analysis}: pingouin cannot analyze this design with {n} people; add a third."
            ) from None
    if isinstance(within, str):
        df_error = made["DF"].iloc[-1]
        made = made.rename(columns={"DF": "DF1"}).assign(DF2=df_error).iloc[:1]
    return _tidy(
        made,
        n,
        n_stages,
        analysis=analysis,
        observer=observer,
        models=name_models(profiles.models),
        n_excluded=len(profiles.excluded),
        method=REPEATED_METHOD,
    )


def _factors(profiles: Profiles) -> str | list[str]:
    """Name the factors of two levels or more, as pingouin takes them."""
    _, n_models, n_stages = profiles.values.shape
    factors = []
    if n_stages > 1:
        factors.append("stage")
    if n_models > 1:
        factors.append("model")
    return factors if len(factors) > 1 else factors[0]


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
    >>> from neurometamer.behavior.curves import complete_profiles
    >>> cells = pd.DataFrame({"participant": list("aabbcc"), "model": "resnet"})
    >>> cells["stage"] = ["early", "late"] * 3
    >>> cells["proportion"] = [0.9, 0.4, 0.8, 0.5, 1.0, 0.3]
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> other = cells.assign(proportion=[0.9, 0.8, 0.7, 0.8, 0.8, 0.6])
    >>> network = complete_profiles(other, ["resnet"], ["early", "late"])
    >>> mixed_anova(profiles, network)["source"].tolist()
    ['observer', 'stage', 'observer x stage']
    """
    if list(first.models) != list(second.models) or list(first.stages) != list(second.stages):
        raise InputError(
            f"{analysis}: the groups have different models or stages ({name_ids(first.models)} at "
            f"{name_ids(first.stages)}; {name_ids(second.models)} at {name_ids(second.stages)}); "
            "give two groups of the same."
        )
    if len(first.stages) < 2:
        raise InputError(
            f"{analysis}: a mixed analysis of variance needs two stages, not only "
            f"{name_ids(first.stages)}; name more."
        )
    _need_spread(np.concatenate([first.values, second.values]), analysis)
    both = [
        _long(first, "a ").assign(observer="a"),
        _long(second, "b ").assign(observer="b"),
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
    table = _tidy(
        made,
        n - 1,
        len(first.stages),
        analysis=analysis,
        observer=observer,
        models=name_models(first.models),
        n_excluded=len(first.excluded) + len(second.excluded),
        method=MIXED_METHOD,
    )
    return table.assign(n=n)


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


FAMILIES = {
    "stage": "stages",
    "model": "models",
    "stage * model": "models at each stage",
}
"""Contrast of pingouin to the family of tests within which p is corrected."""


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
    >>> from neurometamer.behavior.curves import complete_profiles
    >>> cells = pd.DataFrame({"participant": list("aabbcc"), "model": "resnet"})
    >>> cells["stage"] = ["early", "late"] * 3
    >>> cells["proportion"] = [0.9, 0.4, 0.8, 0.5, 1.0, 0.3]
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> table = post_hoc(profiles)
    >>> table[["a", "b", "n_tests"]].values.tolist()
    [['early', 'late', 1]]
    >>> round(float(table["mean_difference"].iloc[0]), 2)
    0.5
    """
    if correction not in CORRECTIONS:
        raise unknown_name("correction", correction, CORRECTIONS)
    with _pingouin() as pingouin:
        made = pingouin.pairwise_tests(
            data=_long(profiles),
            dv="proportion",
            within=_factors(profiles),
            subject="participant",
            padjust=CORRECTIONS[correction],
        )
    made = made.rename(columns={"p-unc": "p_unc", "p-corr": "p_corr"})
    rows = []
    for pair in made.to_dict("records"):
        contrast = str(pair["Contrast"])
        values = profiles.values
        at = ""
        if contrast == "stage * model":
            stage = int(pair["stage"])
            at = profiles.stages[stage]
            values = values[:, :, stage : stage + 1]
        is_stage = contrast == "stage"
        names = profiles.stages if is_stage else profiles.models
        means = values.mean(axis=0).mean(axis=0 if is_stage else 1)
        a = int(pair["A"])
        b = int(pair["B"])
        t = pair["T"]
        p = pair["p_unc"]
        corrected = pair.get("p_corr", np.nan)
        if not np.isfinite(corrected):
            corrected = p
        if not np.isfinite(t):
            t = p = corrected = np.nan
        rows.append(
            {
                "family": FAMILIES[contrast],
                "at": at,
                "a": names[a],
                "b": names[b],
                "mean_difference": means[a] - means[b],
                "t": t,
                "df": pair["dof"],
                "p": p,
                "p_corrected": corrected,
                "hedges_g": pair["hedges"],
            }
        )
    table = pd.DataFrame(rows).assign(
        analysis=analysis,
        observer=observer,
        models=name_models(profiles.models),
        n=len(profiles.values),
        correction=correction,
    )
    table["n_tests"] = table.groupby("family")["p"].transform("count")
    return table.reindex(columns=list(POSTHOC_COLUMNS))


# -------------------------------------------------------------------------------------- permutation
#
# F is computed for many labelings at once, by projection: an effect's part D of a person's profile
# is the profile, averaged over the factors that are not in the effect and centered over those that
# are. With the mean of D over people, SS_effect = n Σ mean(D)² and SS_error = Σ D² - SS_effect: the
# effect × person term of a repeated-measures analysis.

EFFECTS = ("model", "stage", "interaction")
BLOCK = 4_000_000
"""Largest array, in numbers; it limits the permutations at once and does not change results."""


def _ratio(
    effect: np.ndarray, error: np.ndarray, df1: int, df2: int, total: np.ndarray
) -> np.ndarray:
    """Compute F: 0 where there is no effect, infinite where there is no error, up to rounding."""
    floor = 1e-12 * np.maximum(total, 1e-300)
    has_effect = effect > floor
    has_error = error > floor
    without_error = np.where(has_effect, np.inf, 0.0)
    safe = np.where(has_error, error, 1.0)
    ratio = (effect / df1) / (safe / df2)
    return np.where(has_error, ratio, without_error)


@checked_with(finite=("values",), shapes={"values": "... people models stages"})
def repeated_f(values: np.ndarray, effect: str) -> np.ndarray:
    """Compute F of one effect of a repeated-measures analysis of variance.

    Any number of data sets is computed at once.

    Parameters
    ----------
    values : ndarray
        (..., n_people, n_models, n_stages).
    effect : {"model", "stage", "interaction"}
        Which.

    Returns
    -------
    ndarray
        (...). Degrees of freedom are d and d (n_people - 1), d the effect's.

    Examples
    --------
    >>> import numpy as np
    >>> profile = np.array([[[1.0, 2.0]], [[2.0, 4.0]], [[3.0, 4.0]]])
    >>> round(float(repeated_f(profile, "stage")), 3)  # the square of a paired t
    16.0
    """
    n, n_models, n_stages = values.shape[-3:]
    over_models = values.mean(axis=-2, keepdims=True)
    over_stages = values.mean(axis=-1, keepdims=True)
    if effect == "model":
        part = over_stages - over_stages.mean(axis=-2, keepdims=True)
        weight = n_stages
        df = n_models - 1
    elif effect == "stage":
        part = over_models - over_models.mean(axis=-1, keepdims=True)
        weight = n_models
        df = n_stages - 1
    elif effect == "interaction":
        centered = values - over_stages
        part = centered - centered.mean(axis=-2, keepdims=True)
        weight = 1
        df = (n_models - 1) * (n_stages - 1)
    else:
        raise unknown_name("effect", effect, EFFECTS)
    squares = np.square(part.mean(axis=-3)).sum(axis=(-2, -1))
    ss_effect = weight * n * squares
    ss_total = weight * np.square(part).sum(axis=(-3, -2, -1))
    axes = (-3, -2, -1)
    moves = values - values.mean(axis=axes, keepdims=True)
    scale = np.square(moves).sum(axis=axes)
    return _ratio(ss_effect, ss_total - ss_effect, df, df * (n - 1), scale)


@checked_with(
    finite=("values", "groups"), shapes={"values": "observers stages", "groups": "... observers"}
)
def mixed_f(values: np.ndarray, groups: np.ndarray, effect: str) -> np.ndarray:
    """Compute F of the group, or of group × stage, of a mixed analysis of variance.

    Many labelings are computed at once.

    Parameters
    ----------
    values : ndarray
        (n_observers, n_stages).
    groups : ndarray of int
        (..., n_observers), 0 to n_groups - 1: one labeling or many, each with all groups.
    effect : {"observer", "interaction"}
        Which.

    Returns
    -------
    ndarray
        (...).

    Examples
    --------
    >>> values = np.array([[1.0, 2.0], [2.0, 3.0], [4.0, 5.0], [5.0, 6.0]])
    >>> float(mixed_f(values, np.array([0, 0, 1, 1]), "observer"))
    18.0
    """
    n, n_stages = values.shape
    means = values.mean(axis=1, keepdims=True)
    if effect == "observer":
        part = np.repeat(means, n_stages, axis=1)
        width = 1
    elif effect == "interaction":
        part = values - means
        width = n_stages - 1
    else:
        raise unknown_name("effect", effect, ("observer", "interaction"))
    n_groups = int(groups.max()) + 1
    is_member = (groups[..., None] == np.arange(n_groups)).astype(float)
    size = is_member.sum(axis=-2)
    sums = np.swapaxes(is_member, -1, -2) @ part
    squares = np.square(sums) / size[..., None]
    between = squares.sum(axis=(-2, -1))
    ss_effect = between - n * np.square(part.mean(axis=0)).sum()
    ss_error = np.square(part).sum() - between
    moves = values - values.mean()
    scale = np.asarray(np.square(moves).sum())
    return _ratio(ss_effect, ss_error, (n_groups - 1) * width, (n - n_groups) * width, scale)


@checked_with(unbounded=("observed",), shapes={"null": "permutations"})
def permutation_p(null: np.ndarray, observed: float) -> tuple[float, int]:
    """Compute p = (1 + number of permuted F at least as large) / (1 + number of permutations).

    Parameters
    ----------
    null : ndarray
        (n_permutations,) permuted F.
    observed : float
        F of the data.

    Returns
    -------
    tuple of float and int
        p, and the number; differences within rounding count as equal.

    Examples
    --------
    >>> permutation_p(np.array([0.5, 1.0, 2.0]), 1.5)
    (0.5, 1)
    """
    n_missing = int(np.isnan(null).sum())
    if n_missing:
        raise InputError(
            f"null has {n_missing} values that are NaN; p would be too small. Give finite values."
        )
    n_reached = int((null >= observed * (1 - 1e-9)).sum())
    return p_from_count(n_reached, len(null)), n_reached


def _blocks(n_permutations: int, size: int) -> Iterator[int]:
    step = max(1, BLOCK // size)
    for begin in range(0, n_permutations, step):
        left = n_permutations - begin
        n = min(step, left)
        yield n


@checked_with(finite=("values",), shapes={"values": "people models stages"})
def permute_repeated(
    values: np.ndarray, n_permutations: int = 10_000, *, seed: int = 0, name: str = ""
) -> Mapping[str, np.ndarray]:
    """Compute F under shuffled labels for the three effects of a stage × model analysis.

    Parameters
    ----------
    values : ndarray
        (n_people, n_models, n_stages).
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the shuffles.
    name : str
        Name of the analysis; each name has shuffles of its own.

    Returns
    -------
    mapping of str to ndarray
        ``"model"``, ``"stage"``, ``"interaction"`` to (n_permutations,) F; only effects with two
        levels or more.

    Raises
    ------
    InputError
        When `n_permutations` is below 1.

    Notes
    -----
    Feather et al. (2023), as in their scripts: for a main effect the other factor is averaged out
    and the labels are shuffled within each person; for the interaction all stage × model cells are
    shuffled within each person. The last breaks main effects too, so it tests that no cell differs
    from another, judged by the F of the interaction.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(5, 1, 3))
    >>> nulls = permute_repeated(values, 20)
    >>> {effect: null.shape for effect, null in nulls.items()}
    {'stage': (20,)}
    """
    if n_permutations < 1:
        raise InputError(f"permutations must be 1 or more, not {n_permutations}.")
    n, n_models, n_stages = values.shape
    flat = {}
    if n_models > 1:
        flat["model"] = (values.mean(axis=2), (n_models, 1))
    if n_stages > 1:
        flat["stage"] = (values.mean(axis=1), (1, n_stages))
    if n_models > 1 and n_stages > 1:
        flat["interaction"] = (values.reshape(n, -1), (n_models, n_stages))
    out = {}
    for effect, (cells, shape) in flat.items():
        random = generator(seed, "permutation", name, effect)
        parts = []
        for size in _blocks(n_permutations, cells.size):
            copies = np.broadcast_to(cells, (size, *cells.shape))
            shuffled = random.permuted(copies, axis=-1)
            parts.append(repeated_f(shuffled.reshape(size, n, *shape), effect))
        out[effect] = np.concatenate(parts)
    return out


@checked_with(
    finite=("values", "groups"), shapes={"values": "observers stages", "groups": "observers"}
)
def permute_mixed(
    values: np.ndarray,
    groups: np.ndarray,
    n_permutations: int = 10_000,
    *,
    seed: int = 0,
    name: str = "",
) -> Mapping[str, np.ndarray]:
    """Compute F under shuffled group labels for the group and for group × stage.

    Parameters
    ----------
    values : ndarray
        (n_observers, n_stages).
    groups : ndarray of int
        (n_observers,) the group of each.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the shuffles.
    name : str
        Name of the analysis.

    Returns
    -------
    mapping of str to ndarray
        ``"observer"`` and ``"interaction"`` to (n_permutations,) F.

    Raises
    ------
    InputError
        When `n_permutations` is below 1.

    Notes
    -----
    Whole profiles change their group. The F of the interaction does not depend on observers' means,
    so the second tests whether the groups' profiles differ in shape. The papers do not say how they
    shuffle here: this is ours.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(6, 3))
    >>> nulls = permute_mixed(values, np.array([0, 0, 0, 1, 1, 1]), 20)
    >>> {effect: null.shape for effect, null in nulls.items()}
    {'observer': (20,), 'interaction': (20,)}
    """
    if n_permutations < 1:
        raise InputError(f"permutations must be 1 or more, not {n_permutations}.")
    n = len(groups)
    random = generator(seed, "permutation", name, "observer")
    parts: dict[str, list[np.ndarray]] = {"observer": [], "interaction": []}
    for size in _blocks(n_permutations, 4 * values.size):
        copies = np.broadcast_to(groups, (size, n))
        shuffled = random.permuted(copies, axis=-1)
        for effect, made in parts.items():
            f_values = mixed_f(values, shuffled, effect)
            made.append(f_values)
    return {effect: np.concatenate(made) for effect, made in parts.items()}


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
    >>> from neurometamer.behavior.curves import complete_profiles
    >>> cells = pd.DataFrame({"participant": list("aabbcc"), "model": "resnet"})
    >>> cells["stage"] = ["early", "late"] * 3
    >>> cells["proportion"] = [0.9, 0.4, 0.8, 0.5, 1.0, 0.3]
    >>> profiles = complete_profiles(cells, ["resnet"], ["early", "late"])
    >>> anova = repeated_anova(profiles)
    >>> table = permutation_table(anova, profiles, n_permutations=99)
    >>> table[["source", "n_permutations"]].values.tolist()
    [['stage', 99]]
    """
    same = {column: anova[column].iloc[0] for column in ("analysis", "observer", "models")}
    name = f"{same['analysis']} {same['models']} {same['observer']}"
    if isinstance(data, Profiles):
        nulls = permute_repeated(data.values, n_permutations, seed=seed, name=name)
        names = {
            "model": "model",
            "stage": "stage",
            "interaction": "model x stage",
        }
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
        p, n_reached = permutation_p(null, float(observed[source]))
        rows.append(
            {
                "source": source,
                "F": observed[source],
                "p": p,
                "n_as_large": n_reached,
                "method": SHUFFLED[source],
            }
        )
    table = pd.DataFrame(rows).assign(**same, n_permutations=n_permutations, seed=seed)
    return table.reindex(columns=list(PERMUTATION_COLUMNS))
