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
    is_network = rows["observer"] == "network"
    names = rows["participant"]
    network = names.where(is_network, "")
    return rows.assign(network=network)


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
    keys = list(CELL)
    by_cell = rows.groupby(keys, sort=False)
    shares = by_cell["correct"]
    cells = shares.agg(n_trials="size", proportion="mean")
    return cells.reset_index()


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
    networks = rows[rows["observer"] == "network"]
    shown = people[["participant", *keys]]
    parts = [people]
    n_missing = 0
    for name, own in networks.groupby("participant", sort=False):
        answers = own[[*keys, "correct"]]
        seen = shown.merge(answers, on=keys, how="left")
        is_missing = seen["correct"].isna()
        n_missing += int(is_missing.sum())
        seen = seen[~is_missing].astype({"correct": bool})
        parts.append(seen.assign(observer="network", network=name))
    cells = _average(pd.concat(parts, ignore_index=True))
    return cells, n_missing


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
    is_network = rows["observer"] == "network"
    network = np.where(is_network, SOME_NETWORK, "")
    proportion = pd.to_numeric(rows["proportion"], errors="coerce")
    rows = rows.assign(
        network=network,
        proportion=proportion,
    )
    cells = rows[[*CELL, "proportion"]]
    cells = cells.dropna(subset=["proportion"])
    return cells.reset_index(drop=True)


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
    ranks = pd.DataFrame(index=cells.index)
    answerers = cells["observer"] + cells["network"]
    ranks["observer"] = pd.factorize(answerers)[0]
    for role, chosen in (("model", models), ("stage", stages)):
        known = list(cells[role].unique())
        for name in chosen:
            if name not in known:
                raise unknown_name(f"{role} (no usable trial has it)", name, known)
        order = {name: rank for rank, name in enumerate(chosen or known)}
        ranks[role] = cells[role].map(order)
    # those that were not chosen have no rank
    ranks = ranks.dropna().sort_values(["observer", "model", "stage"], kind="stable")
    if ranks.empty:
        raise InputError(
            f"no rows of {name_ids(models or ['any model'])} at "
            f"{name_ids(stages or ['any stage'])}; choose others."
        )
    return cells.loc[ranks.index].reset_index(drop=True)


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
    errors = []
    for (observer, network), own in cells.groupby(["observer", "network"], sort=False):
        # sets of models such that no person saw two of them (different experiments)
        sets: list[tuple[list[str], set[str]]] = []
        for model, rows in own.groupby("model", sort=False):
            models = [str(model)]
            people = set(rows["participant"])
            apart = []
            for known in sets:
                if known[1] & people:
                    models += known[0]
                    people |= known[1]
                else:
                    apart.append(known)
            sets = [*apart, (models, people)]
        for models, _ in sets:
            part = own[own["model"].isin(models)]
            wide = part.pivot(index="participant", columns=["model", "stage"], values="proportion")
            values = wide.dropna().to_numpy(dtype=float)
            n, n_cells = values.shape
            variance = np.full(n_cells, np.nan)
            if n > 1 and n_cells > 1:
                centered = values - values.mean(axis=1, keepdims=True)
                variance = centered.var(axis=0, ddof=1) * n_cells / (n_cells - 1)
            points = wide.columns.to_frame(index=False)
            points["sem"] = np.sqrt(variance / max(n, 1))
            errors.append(points.assign(observer=str(observer), network=str(network)))
    out = out.merge(pd.concat(errors, ignore_index=True), on=list(CURVE), how="left")
    return out.assign(sem_method="within people (Cousineau 2005; Morey 2008)")


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
    codes, drawn = sample_photographs(rows, n_resamples, seed)
    counts = drawn.T.astype(float)
    out = []
    for key, own in rows.assign(image=codes).groupby(list(CURVE), sort=False):
        person, people = pd.factorize(own["participant"])
        cells = (person, own["image"].to_numpy())
        shape = (len(people), len(counts))
        is_right = own["correct"].to_numpy(dtype=float)
        right = csr_matrix((is_right, cells), shape=shape) @ counts
        shown = csr_matrix((np.ones(len(own)), cells), shape=shape) @ counts
        known = shown > 0
        share = np.where(known, right, 0) / np.where(known, shown, 1)
        n_known = known.sum(axis=0)
        means = share.sum(axis=0) / np.maximum(n_known, 1)
        means = np.where(n_known > 0, means, np.nan)
        low, high = percentile_interval(means[:, None], confidence)
        n_images = own["image"].nunique()
        out.append((*key, len(own), n_images, low[0], high[0]))
    columns = [*CURVE, "n_trials", "n_images", "ci_low", "ci_high"]
    made = pd.DataFrame(out, columns=columns)
    return made.assign(method=name_interval(confidence, n_resamples))


def sample_photographs(
    rows: pd.DataFrame, n_resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Assign numbers to the photographs of trials, and sample them.

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
    image = rows["stimulus"]
    if "reference_id" in rows.columns:
        reference = rows["reference_id"].fillna("")
        is_named = reference != ""
        image = reference.where(is_named, image)
    codes, names = pd.factorize(image)
    n_images = len(names)
    counts = bootstrap_counts(n_images, n_resamples, seed)
    return codes, counts


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
    share = f"{confidence:.0%}"
    return f"{share} percentile bootstrap over images, {n_resamples} resamples"


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
    n = len(names)
    numbers = pd.Series(range(n), index=names)
    out = []
    for key, own in rows.groupby(list(CURVE), sort=False):
        is_answered = own["response"].isin(names)
        answered = own[is_answered]
        truth = numbers[answered["truth"]].to_numpy()
        response = numbers[answered["response"]].to_numpy()
        counts = np.zeros((n, n), dtype=int)
        np.add.at(counts, (truth, response), 1)
        shown = own["truth"].map(numbers).value_counts()
        shown = shown.reindex(range(n), fill_value=0)
        total = shown.to_numpy()[:, None]
        share = counts / np.maximum(total, 1)
        share = np.where(total > 0, share, np.nan)
        curve = dict(zip(CURVE, key))
        part = pd.DataFrame(
            {
                **curve,
                "truth": np.repeat(names, n),
                "response": names * n,
                "n": counts.ravel(),
                "share": share.ravel(),
            }
        )
        out.append(part)
    return pd.concat(out, ignore_index=True)


# ----------------------------------------------------------------------------------------- profiles


@short_repr
@dataclass(frozen=True, kw_only=True)
class Profiles:
    """Complete data of an analysis: `values` (n, n_models, n_stages).

    `excluded` names the people left out and the number of their missing cells.

    Examples
    --------
    >>> cells = pd.DataFrame({"participant": list("aabbcc"), "model": "resnet"})
    >>> cells["stage"] = ["early", "late"] * 3
    >>> cells["proportion"] = [0.9, 0.4, 0.8, 0.5, 1.0, 0.3]
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
    >>> cells = pd.DataFrame({"participant": list("aabbcc"), "model": "resnet"})
    >>> cells["stage"] = ["early", "late"] * 3
    >>> cells["proportion"] = [0.9, 0.4, 0.8, 0.5, 1.0, 0.3]
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
    nowhere = [" / ".join(cell) for cell in wanted if cell not in wide.columns]
    if nowhere:
        raise InputError(
            f"{what}: no trials at {name_ids(nowhere)}; choose --models and --stages that all have "
            "trials."
        )
    people = list(cells["participant"].unique())
    wide = wide.reindex(index=people, columns=wanted)
    gaps = wide.isna()
    n_gaps = gaps.sum(axis=1)
    lost = wide.index[n_gaps > 0]
    if strict and len(lost):
        cells_lost = wanted[gaps.loc[lost[0]].to_numpy()]
        words = name_ids(" / ".join(cell) for cell in cells_lost)
        raise InputError(
            f"--strict: {what}: {name_ids(lost)} have no trials in some cells, e.g. {words}; "
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
        reason = f"{what}: {n_gaps[name]} of {len(wanted)} cells without trials"
        excluded.append({"participant": name, "reason": reason})
    shape = (len(complete), len(models), len(stages))
    return Profiles(
        values=complete.to_numpy(dtype=float).reshape(shape),
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
    answerers = dict(networks or {})
    given = list(conditions)
    for curves in answerers.values():
        given += _flat(curves)
    shares = np.array([share for *_, share in given])
    if not ((shares > 0) & (shares < 1)).all() or not 0 <= shared <= 1:
        raise InputError(
            f"shares of recognized images lie between {shares.min()} and {shares.max()}, and "
            "shared "
            f"is {shared}; give shares between 0 and 1, both excluded."
        )
    if n_people < 0 or n_images < 1 or not (n_people or careless or networks):
        raise InputError(
            f"{n_people} people and {n_images} images; give at least one observer and one image."
        )
    if spread < 0:
        raise InputError(f"spread is {spread}; a standard deviation is 0 or more.")
    hard = generator(seed, "difficulty").standard_normal((n_images, len(conditions)))
    hard = np.sqrt(shared) * hard
    own_noise = np.sqrt(1 - shared)
    rows = np.arange(n_images)
    images = []
    for number in range(n_images):
        images.append((f"image_{number:03d}", categories[number % len(categories)]))
    usual = norm.ppf([share for *_, share in conditions])
    lapses = {f"person_{number:02d}": 0.0 for number in range(n_people)}
    for number, share in enumerate(careless):
        lapses[f"careless_{number}"] = share
    parts = []
    for name, lapse in lapses.items():
        random = generator(seed, "person", name)
        which = random.integers(len(conditions), size=n_images)
        wanted = usual + spread * random.standard_normal()
        latent = hard[rows, which] + own_noise * random.standard_normal(n_images)
        right = latent < wanted[which]
        shown = [conditions[condition] for condition in which]
        main = _rows(images, shown, right, lapse, random, categories)
        screening = _warm_up("screening", 12, lapse, random, categories)
        catch = _warm_up("catch", 16, lapse, random, categories)
        main = main.sample(frac=1, random_state=random)
        trials = pd.concat([screening, main, catch], ignore_index=True)
        times = 300 + 500 * random.lognormal(0, 0.4, len(trials))
        parts.append(trials.assign(participant=name, observer="human", rt=np.round(times, 1)))
    for name, curves in answerers.items():
        random = generator(seed, "network", name)
        own = {(model, stage): share for model, stage, share in _flat(curves)}
        for column, condition in enumerate(conditions):
            model, stage, share = condition
            wanted = norm.ppf(own.get((model, stage), share))
            latent = hard[:, column] + own_noise * random.standard_normal(n_images)
            trials = _rows(images, [condition] * n_images, latent < wanted, 0.0, random, categories)
            parts.append(trials.assign(participant=name, observer="network", rt=np.nan))
    return pd.concat(parts, ignore_index=True).assign(data="simulated")


def _flat(curves: Curves) -> list[tuple[str, str, float]]:
    conditions = []
    for model, own in curves.items():
        for stage, share in own.items():
            conditions.append((model, stage, share))
    return conditions


def _rows(
    images: Sequence[tuple[str, str]],
    conditions: Sequence[tuple[str, str, float]],
    right: np.ndarray,
    lapse: float,
    random: np.random.Generator,
    categories: Sequence[str],
) -> pd.DataFrame:
    names, truth = (np.array(part, dtype=object) for part in zip(*images, strict=True))
    models, stages, _ = zip(*conditions, strict=True)
    answers = np.array(categories, dtype=object)
    numbers = np.array([list(categories).index(category) for category in truth])
    steps = random.integers(1, len(answers), len(images))
    wrong = answers[(numbers + steps) % len(answers)]
    guess = answers[random.integers(len(answers), size=len(images))]
    is_lapse = random.random(len(images)) < lapse
    response = np.where(right, truth, wrong)
    shown = [f"{model or 'photograph'}/{stage}" for model, stage, _ in conditions]
    return pd.DataFrame(
        {
            "phase": "main",
            "stimulus": [f"{condition}/{name}" for condition, name in zip(shown, names)],
            "reference_id": names,
            "condition": shown,
            "model": models,
            "stage": stages,
            "truth": truth,
            "response": np.where(is_lapse, guess, response),
        }
    )


def _warm_up(
    phase: str, n: int, lapse: float, random: np.random.Generator, categories: Sequence[str]
) -> pd.DataFrame:
    answers = np.array(categories, dtype=object)
    truth = answers[random.integers(len(answers), size=n)]
    guess = answers[random.integers(len(answers), size=n)]
    is_lapse = random.random(n) < lapse
    rows = pd.DataFrame(
        {
            "phase": phase,
            "stimulus": [f"{phase}_{number}" for number in range(n)],
            "truth": truth,
            "response": np.where(is_lapse, guess, truth),
        }
    )
    return rows.assign(reference_id="", condition="", model="", stage="")
