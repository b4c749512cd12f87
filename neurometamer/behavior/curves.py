"""Shares of correct answers: one a person, model and stage; curves over stages; confusion matrices.

Trials can be simulated from such shares, to try an analysis or to plan a study.

Units throughout: a proportion of correct answers in [0, 1]; with 16 categories chance is 1/16.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.behavior.trials import NATURAL, SHOWN, USABLE, spread_photographs
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval
from neurometamer.summaries import short_repr
from stimuli_gen.categories import CATEGORIES

CELL = ("observer", "network", "participant", "model", "stage")
CURVE = ("observer", "network", "model", "stage")
SEM_METHODS = ("between", "within")
SOME_NETWORK = "network"
"""Name of the network in tables of proportions, which do not name the network that answered."""


def model_rows(trials: pd.DataFrame) -> pd.DataFrame:
    """Add the model and the name of the network that answered to every trial.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials, `Screened.trials`.

    Returns
    -------
    pandas.DataFrame
        See `spread_photographs`; the column network is empty for people.
    """
    rows = spread_photographs(trials)
    return rows.assign(network=rows["participant"].where(rows["observer"] == "network", ""))


_CELLS = Columns(
    "the table of cells",
    "Make it with trial_cells or proportion_cells.",
    ("observer", "network", "model", "stage", "proportion"),
)


@checked_with(tables={"trials": USABLE})
def trial_cells(trials: pd.DataFrame) -> pd.DataFrame:
    """Average trials within each person (or network), model and stage.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials, `Screened.trials`.

    Returns
    -------
    pandas.DataFrame
        Columns observer, network (empty for people), participant, model, stage, n_trials and
        proportion. Photographs count in every model, see `spread_photographs`.

    Examples
    --------
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> cells = trial_cells(trials)
    >>> cells.groupby("observer", sort=False).size().to_dict()
    {'human': 12, 'network': 3}
    """
    return _average(model_rows(trials))


def _average(rows: pd.DataFrame) -> pd.DataFrame:
    means = rows.groupby(list(CELL), sort=False)["correct"].agg(["size", "mean"]).reset_index()
    return means.rename(columns={"size": "n_trials", "mean": "proportion"})


@checked_with(tables={"trials": SHOWN})
def cells_on_same_images(trials: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Compute the share of correct answers of each network on the images of each person.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials of people and networks, `Screened.trials`.

    Returns
    -------
    tuple of DataFrame and int
        Cells as from `trial_cells`, one "observer" of a network's a person, and how many answers
        were missing because a network did not see an image.

    Notes
    -----
    This is the data matrix of Feather et al. (2023): participants × stages × {human, network on the
    same images}. The units of the network group differ in images only, so tests between the groups
    speak of these images and this network, not of networks at large.

    Examples
    --------
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> cells, n_missing = cells_on_same_images(trials)
    >>> cells.groupby("observer", sort=False).size().to_dict(), n_missing
    ({'human': 12, 'network': 12}, 0)
    """
    rows = spread_photographs(trials)
    keys = ["model", "stage", "stimulus"]
    people = rows[rows["observer"] == "human"].assign(network="")
    parts, absent = [people], 0
    for name, own in rows[rows["observer"] == "network"].groupby("participant", sort=False):
        seen = people[["participant", *keys]].merge(own[[*keys, "correct"]], on=keys, how="left")
        absent += int(seen["correct"].isna().sum())
        seen = seen.dropna(subset=["correct"]).assign(observer="network", network=name)
        parts.append(seen.assign(correct=seen["correct"].astype(bool)))
    return _average(pd.concat(parts, ignore_index=True)), absent


@checked_with(
    tables={
        "table": Columns(
            "the table of proportions",
            "Read it with read_recognition.",
            ("participant", "observer", "model", "stage", "proportion"),
        )
    }
)
def proportion_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Turn a table of proportions into cells.

    Parameters
    ----------
    table : pandas.DataFrame
        Proportions as from `neurometamer.behavior.read_recognition`.

    Returns
    -------
    pandas.DataFrame
        As from `trial_cells`, without n_trials; missing values are left out.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "participant": ["a", "b"],
    ...         "observer": "human",
    ...         "model": "resnet",
    ...         "stage": "late",
    ...         "proportion": [0.4, 0.6],
    ...     }
    ... )
    >>> proportion_cells(table)["proportion"].tolist()
    [0.4, 0.6]
    """
    rows = spread_photographs(table)
    rows = rows.assign(
        network=np.where(rows["observer"] == "network", SOME_NETWORK, ""),
        proportion=pd.to_numeric(rows["proportion"], errors="coerce"),
    )
    return rows[[*CELL, "proportion"]].dropna(subset=["proportion"]).reset_index(drop=True)


@checked_with(tables={"cells": replace(_CELLS, columns=_CELLS.columns[:4])})
def select_cells(cells: pd.DataFrame, models: Sequence[str], stages: Sequence[str]) -> pd.DataFrame:
    """Keep models and stages by name, in the order asked for.

    Parameters
    ----------
    cells : pandas.DataFrame
        As from `trial_cells`, or trials as from `model_rows`.
    models, stages : sequence of str
        Names; empty for all, in the order in which they come in the table.

    Returns
    -------
    pandas.DataFrame
        Rows sorted by the place of model and stage in the lists; their order in a table is the
        order everywhere.

    Raises
    ------
    InputError
        When a name has no rows.

    Examples
    --------
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> select_cells(trial_cells(trials), [], ["late", "early"])["stage"].unique().tolist()
    ['late', 'early']
    """
    order = {}
    for role, chosen in (("model", models), ("stage", stages)):
        known = list(dict.fromkeys(cells[role]))
        for name in chosen:
            if name not in known:
                raise unknown_name(f"{role} (no usable trial has it)", name, known)
        order[role] = {name: rank for rank, name in enumerate(chosen or known)}
    is_chosen = cells["model"].isin(list(order["model"])) & cells["stage"].isin(
        list(order["stage"])
    )
    kept = cells[is_chosen]
    if kept.empty:
        raise InputError(
            f"no rows of {name_ids(models or ['any model'])} at "
            f"{name_ids(stages or ['any stage'])}."
        )
    observers = dict.fromkeys(cells["observer"] + cells["network"])
    observer_ranks = {name: rank for rank, name in enumerate(observers)}
    ranks = pd.DataFrame(
        {
            "observer": (kept["observer"] + kept["network"]).map(observer_ranks),
            "model": kept["model"].map(order["model"]),
            "stage": kept["stage"].map(order["stage"]),
        }
    )
    ranks = ranks.sort_values(["observer", "model", "stage"], kind="stable")
    return kept.loc[ranks.index].reset_index(drop=True)


# ------------------------------------------------------------------------------------------- curves


@checked_with(tables={"cells": _CELLS})
def recognition_curves(cells: pd.DataFrame, *, sem: str = "between") -> pd.DataFrame:
    """Average over people (or over a network's image sets) at each model and stage.

    Parameters
    ----------
    cells : pandas.DataFrame
        As from `trial_cells` or `proportion_cells`.
    sem : {"between", "within"}
        Standard error of the mean over people as it is, or with differences between people removed:
        each person's mean is replaced by the mean over all, and the variance corrected by C / (C -
        1) for C cells (Cousineau 2005; Morey 2008, equation 2). People with missing cells are left
        out of the second.

    Returns
    -------
    pandas.DataFrame
        Columns observer, network, model, stage, n (people), proportion, sd, sem (NaN for one),
        sem_method.

    Raises
    ------
    InputError
        When `sem` is unknown.

    References
    ----------
    Cousineau, D. (2005). Tutorials in Quantitative Methods for Psychology 1:42-45.
    Morey, R. D. (2008). Tutorials in Quantitative Methods for Psychology 4:61-64.

    Examples
    --------
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> curves = recognition_curves(trial_cells(trials))
    >>> curves.loc[curves["observer"] == "human", ["stage", "n"]].values.tolist()
    [['natural', 4], ['late', 4], ['early', 4]]
    """
    if sem not in SEM_METHODS:
        raise unknown_name("standard error", sem, SEM_METHODS)
    groups = cells.groupby(list(CURVE), sort=False)["proportion"]
    out = groups.agg(n="size", proportion="mean", sd="std").reset_index()
    if sem == "between":
        return out.assign(sem=out["sd"] / np.sqrt(out["n"]), sem_method="between people")
    kinds = cells.groupby(["observer", "network"], sort=False)
    errors = [_within_sem(part) for _, own in kinds for part in _same_people(own)]
    out = out.merge(pd.concat(errors, ignore_index=True), on=list(CURVE), how="left")
    return out.assign(sem_method="within people (Cousineau 2005; Morey 2008)")


def _same_people(own: pd.DataFrame) -> list[pd.DataFrame]:
    """Divide models into sets such that no person saw two of them (different experiments)."""
    sets: list[tuple[set[str], set[str]]] = []
    for model, rows in own.groupby("model", sort=False):
        models, people = {str(model)}, set(rows["participant"])
        for known in [known for known in sets if known[1] & people]:
            models, people = models | known[0], people | known[1]
            sets.remove(known)
        sets.append((models, people))
    return [own[own["model"].isin(list(models))] for models, _ in sets]


def _within_sem(own: pd.DataFrame) -> pd.DataFrame:
    wide = own.pivot(index="participant", columns=["model", "stage"], values="proportion").dropna()
    values = wide.to_numpy(dtype=float)
    n, n_cells = values.shape
    centered = values - values.mean(axis=1, keepdims=True)
    variance = np.full(n_cells, np.nan)
    if n > 1 and n_cells > 1:
        variance = centered.var(axis=0, ddof=1) * n_cells / (n_cells - 1)
    names = wide.columns.to_frame(index=False)
    same = {name: own[name].iloc[0] for name in ("observer", "network")}
    return names.assign(sem=np.sqrt(variance / max(n, 1)), **same)


@checked_with(tables={"trials": SHOWN})
def bootstrap_curves(
    trials: pd.DataFrame, n_resamples: int = 1000, *, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Resample images and compute the interval of every point of the curves.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials; ``reference_id`` (else ``stimulus``) names the photograph, which is what is
        drawn.
    n_resamples : int
        Resamples.
    confidence : float
        Share inside the interval, in (0, 1).
    seed : int
        Seed of the draws, which are the same for all points.

    Returns
    -------
    pandas.DataFrame
        Columns observer, network, model, stage, n_trials, n_images, ci_low, ci_high, method. A
        point is the mean over people of their shares of correct answers, as in
        `recognition_curves`.

    Notes
    -----
    The intervals say what other images of the same kind would change, not what other people would.
    Feather et al. (2023) resample images for answers of networks (1,000 times).

    Examples
    --------
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> intervals = bootstrap_curves(trials, 100)
    >>> bool((intervals["ci_low"] <= intervals["ci_high"]).all())
    True
    """
    from scipy.sparse import csr_matrix

    rows = model_rows(trials)
    codes, drawn = draw_images(rows, n_resamples, seed)
    counts = drawn.T.astype(float)
    out = []
    for key, own in rows.assign(image=codes).groupby(list(CURVE), sort=False):
        person, people = pd.factorize(own["participant"])
        at, shape = (person, own["image"].to_numpy()), (len(people), len(counts))
        right = csr_matrix((own["correct"].to_numpy(dtype=float), at), shape=shape) @ counts
        shown = csr_matrix((np.ones(len(own)), at), shape=shape) @ counts
        known = shown > 0
        share = np.where(known, right, 0) / np.where(known, shown, 1)
        n_known = known.sum(axis=0)
        means = np.where(n_known > 0, share.sum(axis=0) / np.maximum(n_known, 1), np.nan)
        low, high = percentile_interval(means[:, None], confidence)
        out.append((*key, len(own), own["image"].nunique(), low[0], high[0]))
    made = pd.DataFrame(out, columns=[*CURVE, "n_trials", "n_images", "ci_low", "ci_high"])
    return made.assign(method=name_interval(confidence, n_resamples))


def draw_images(rows: pd.DataFrame, n_resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Assign numbers to the photographs of trials, and draw resamples of them.

    The same rows and seed give the same draws everywhere.

    Parameters
    ----------
    rows : pandas.DataFrame
        Trials; ``reference_id`` (else ``stimulus``) names the photograph.
    n_resamples : int
        Resamples.
    seed : int
        Seed of the draws.

    Returns
    -------
    codes : ndarray of int
        (rows,), the number of each row's photograph, in the order of the rows.
    counts : ndarray of int
        (n_resamples, photographs), how often each was drawn.
    """
    image = rows["reference_id"].fillna("") if "reference_id" in rows.columns else rows["stimulus"]
    codes, names = pd.factorize(image.where(image != "", rows["stimulus"]))
    return codes, bootstrap_counts(len(names), n_resamples, seed)


def name_interval(confidence: float, n_resamples: int) -> str:
    """Name the method of intervals over images.

    Parameters
    ----------
    confidence : float
        Share inside, in (0, 1).
    n_resamples : int
        Resamples.

    Returns
    -------
    str
        For the column method.
    """
    return f"{confidence:.0%} percentile bootstrap over images, {n_resamples} resamples"


@checked_with(
    tables={
        "trials": replace(
            USABLE, columns=("participant", "observer", "model", "stage", "truth", "response")
        )
    }
)
def confusion_table(trials: pd.DataFrame, categories: Sequence[str] = CATEGORIES) -> pd.DataFrame:
    """Count every answer to every true category, at each model and stage.

    People are counted together, each network alone.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials.
    categories : sequence of str
        All that can be answered.

    Returns
    -------
    pandas.DataFrame
        Columns observer, network, model, stage, truth, response, n and share (of the trials of that
        true category; NaN where there were none). One row a cell of the matrix, zeros too; the
        order of `categories` throughout.

    Examples
    --------
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> table = confusion_table(trials)
    >>> len(table), int(table["n"].sum()) == len(trials)
    (1536, True)
    """
    rows = model_rows(trials)
    names = list(categories)
    numbers = pd.Series({name: number for number, name in enumerate(names)})
    out = []
    for key, own in rows.groupby(list(CURVE), sort=False):
        counts = np.zeros((len(names), len(names)), dtype=int)
        answered = own[own["response"].isin(names)]
        truth, response = numbers[answered["truth"]], numbers[answered["response"]]
        np.add.at(counts, (truth.to_numpy(), response.to_numpy()), 1)
        shown = own["truth"].map(numbers).value_counts()
        total = shown.reindex(range(len(names)), fill_value=0).to_numpy()[:, None]
        share = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
        part = {"truth": np.repeat(names, len(names)), "response": names * len(names)}
        part |= {"n": counts.ravel(), "share": share.ravel()}
        out.append(pd.DataFrame({**dict(zip(CURVE, key)), **part}))
    return pd.concat(out, ignore_index=True)


# ----------------------------------------------------------------------------------------- profiles


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


# --------------------------------------------------------------------------------- simulated trials


Curves = Mapping[str, Mapping[str, float]]


@checked
def simulate_recognition(
    people: Curves,
    networks: Mapping[str, Curves] | None = None,
    *,
    photographs: float = 0.95,
    n_people: int = 20,
    n_images: int = 400,
    shared: float = 0.5,
    spread: float = 0.25,
    careless: Sequence[float] = (),
    categories: Sequence[str] = CATEGORIES,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate the trials of a recognition experiment laid out as that of Feather et al. (2023).

    Parameters
    ----------
    people : mapping of str to mapping of str to float
        Model to stage to the share of its images that people recognize, in (0, 1).
    networks : mapping of str to curves, optional
        Network to the same for that network, which answers every image in every condition.
    photographs : float
        Share recognized of unchanged photographs, in (0, 1).
    n_people, n_images : int
        Numbers of people and images; each person sees each image once, in a condition drawn at
        random, after 12 screening trials, with 16 catch trials between.
    shared : float
        Share of the variance in difficulty that an image has for all observers, 0 to 1: errors are
        independent at 0, and on the same images at 1.
    spread : float
        Standard deviation of people's ability, in units of the latent normal variable.
    careless : sequence of float
        Shares of trials that further people answer at random, one person each.
    categories : sequence of str
        Possible answers; images take turns.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    pandas.DataFrame
        Columns participant, observer, phase, stimulus, reference_id, condition, model, stage,
        truth, response, rt (ms) and data, which is ``"simulated"``: figures and page then say so.

    Raises
    ------
    InputError
        When a share is not between 0 and 1.

    Notes
    -----
    An answer is right when √shared · (difficulty of image and condition) + √(1 - shared) · noise <
    Φ⁻¹(share) + ability, so that shares of correct answers are those asked for (of people: up to
    their spread). Wrong answers are spread evenly over the other categories.

    Examples
    --------
    >>> trials = simulate_recognition({"resnet": {"late": 0.3}}, n_people=2, n_images=16)
    >>> trials.groupby("phase", sort=False).size().to_dict()
    {'screening': 24, 'main': 32, 'catch': 32}
    """
    from scipy.stats import norm

    conditions = [("", NATURAL, photographs), *_flat(people)]
    given = list(conditions)
    for curves in (networks or {}).values():
        given += _flat(curves)
    if any(not 0 < share < 1 for *_, share in given) or not 0 <= shared <= 1:
        raise InputError("shares of recognized images must lie between 0 and 1, both excluded.")
    if n_people < 0 or n_images < 1 or not (n_people or careless or networks):
        raise InputError(
            f"{n_people} people and {n_images} images; give at least one observer and one image."
        )
    if spread < 0:
        raise InputError(f"spread is {spread}; a standard deviation is 0 or more.")
    hard = generator(seed, "difficulty").standard_normal((n_images, len(conditions)))
    images = [(f"image_{i:03d}", categories[i % len(categories)]) for i in range(n_images)]
    lapses = {f"person_{i:02d}": 0.0 for i in range(n_people)}
    lapses |= {f"careless_{i}": share for i, share in enumerate(careless)}
    parts = []
    for name, lapse in lapses.items():
        random = generator(seed, "person", name)
        which = random.integers(len(conditions), size=n_images)
        wanted = norm.ppf([share for *_, share in conditions]) + spread * random.standard_normal()
        latent = np.sqrt(shared) * hard[np.arange(n_images), which]
        right = latent + np.sqrt(1 - shared) * random.standard_normal(n_images) < wanted[which]
        main = _rows(images, [conditions[k] for k in which], right, lapse, random, categories)
        screening = _warm_up("screening", 12, lapse, random, categories)
        catch = _warm_up("catch", 16, lapse, random, categories)
        main = main.sample(frac=1, random_state=random)
        trials = pd.concat([screening, main, catch], ignore_index=True)
        times = np.round(300 + 500 * random.lognormal(0, 0.4, len(trials)), 1)
        parts.append(trials.assign(participant=name, observer="human", rt=times))
    for name, curves in (networks or {}).items():
        random = generator(seed, "network", name)
        own = {(model, stage): share for model, stage, share in _flat(curves)}
        for k, (model, stage, share) in enumerate(conditions):
            wanted = norm.ppf(own.get((model, stage), share))
            noise = random.standard_normal(n_images)
            right = np.sqrt(shared) * hard[:, k] + np.sqrt(1 - shared) * noise < wanted
            rows = _rows(images, [conditions[k]] * n_images, right, 0.0, random, categories)
            parts.append(rows.assign(participant=name, observer="network", rt=np.nan))
    return pd.concat(parts, ignore_index=True).assign(data="simulated")


def _flat(curves: Curves) -> list[tuple[str, str, float]]:
    return [(model, stage, share) for model, own in curves.items() for stage, share in own.items()]


def _rows(
    images: Sequence[tuple[str, str]],
    conditions: Sequence[tuple[str, str, float]],
    right: np.ndarray,
    lapse: float,
    random: np.random.Generator,
    categories: Sequence[str],
) -> pd.DataFrame:
    truth = np.array([category for _, category in images], dtype=object)
    answers = np.array(categories, dtype=object)
    numbers = np.array([list(categories).index(category) for category in truth])
    steps = random.integers(1, len(categories), len(images))
    wrong = answers[(numbers + steps) % len(categories)]
    guess = answers[random.integers(len(categories), size=len(images))]
    response = np.where(random.random(len(images)) < lapse, guess, np.where(right, truth, wrong))
    names = [f"{model or 'photograph'}/{stage}" for model, stage, _ in conditions]
    stimuli = [f"{name}/{image}" for name, (image, _) in zip(names, images)]
    models, stages, _ = zip(*conditions, strict=True)
    return pd.DataFrame(
        {
            "phase": "main",
            "stimulus": stimuli,
            "reference_id": [image for image, _ in images],
            "condition": names,
            "model": models,
            "stage": stages,
            "truth": truth,
            "response": response,
        }
    )


def _warm_up(
    phase: str, n: int, lapse: float, random: np.random.Generator, categories: Sequence[str]
) -> pd.DataFrame:
    truth = np.array(categories, dtype=object)[random.integers(len(categories), size=n)]
    guess = np.array(categories, dtype=object)[random.integers(len(categories), size=n)]
    response = np.where(random.random(n) < lapse, guess, truth)
    return pd.DataFrame(
        {
            "phase": phase,
            "stimulus": [f"{phase}_{i}" for i in range(n)],
            "truth": truth,
            "response": response,
        }
    ).assign(reference_id="", condition="", model="", stage="")
