"""Agreement of people and networks: errors on the same images, and stages hard for both."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.behavior.curves import draw_images
from neurometamer.behavior.trials import SHOWN, spread_photographs
from neurometamer.errors import InputError, name_ids
from neurometamer.stats.resampling import t_interval

PAIR_COLUMNS = (
    "model",
    "stage",
    "kind_a",
    "observer_a",
    "kind_b",
    "observer_b",
    "n_common",
    "accuracy_a",
    "accuracy_b",
    "observed",
    "expected",
    "kappa",
)
EVERYWHERE = "all stages"
COUNTS = ("n", "right", "same", "chance")
BLOCK = 1_000_000
"""Largest array, in numbers, while photographs are left out; it limits the pairs at once."""


@checked
def kappa(observed: np.ndarray | float, expected: np.ndarray | float) -> np.ndarray:
    """Error consistency: agreement beyond what two accuracies make likely by chance.

    Parameters
    ----------
    observed : ndarray
        Share of trials that both get right or both get wrong.
    expected : ndarray
        p_a p_b + (1 - p_a)(1 - p_b), the same of independent observers of these accuracies.

    Returns
    -------
    ndarray
        (observed - expected) / (1 - expected), at most 1; NaN where `expected` is 1 (both always
        right, or both always wrong), where agreement by chance is complete.

    References
    ----------
    Geirhos, R., Meding, K. & Wichmann, F. A. (2020). Beyond accuracy: quantifying trial-by-trial
    behaviour of CNNs and humans by measuring error consistency. NeurIPS 33, equations 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> kappa(np.array([0.75, 1.0]), np.array([0.5, 1.0])).tolist()
    [0.5, nan]
    """
    observed, expected = np.asarray(observed, dtype=float), np.asarray(expected, dtype=float)
    for name, share in (("observed", observed), ("expected", expected)):
        if ((share < -1e-12) | (share > 1 + 1e-12)).any():
            raise InputError(f"kappa: {name} leaves [0, 1]; give shares of trials.")
    open_ = 1 - expected > 1e-12
    return np.where(open_, (observed - expected) / np.where(open_, 1 - expected, 1.0), np.nan)


@checked_with(tables={"trials": SHOWN})
def error_consistency(trials: pd.DataFrame, *, min_common: int = 10) -> pd.DataFrame:
    """Compare the errors of every two observers on the trials that both had.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials, `Screened.trials`: a trial is common when stimulus, model and stage are the
        same.
    min_common : int
        Pairs with fewer common trials are left out; one kappa of few trials says little.

    Returns
    -------
    pandas.DataFrame
        `PAIR_COLUMNS`, one row a pair, model and stage, and one with the stage ``"all stages"`` a
        pair and model (the photographs are among them). Accuracies are those on the common trials.

    Raises
    ------
    InputError
        When there are fewer than two observers.

    Notes
    -----
    At one stage this is Geirhos et al. (2020). Over all stages agreement would exceed chance merely
    because some stages are hard for everybody; there, and this is ours, the expected agreement is
    that of observers whose errors are independent within each stage: the mean over common trials of
    p_a p_b + (1 - p_a)(1 - p_b), with each observer's accuracy over all of its trials at that
    stage. People who share few images at each stage can be compared by it.

    Examples
    --------
    >>> from neurometamer.behavior.curves import simulate_recognition
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> pairs = error_consistency(trials)
    >>> pairs.loc[0, ["observer_a", "observer_b", "stage"]].tolist()
    ['person_00', 'other', 'natural']
    """
    rows = _named(trials)
    if rows["name"].nunique() < 2:
        raise InputError(
            "error consistency needs two observers or more; add the answers of a network or of "
            "people."
        )
    out = []
    for model, own in rows.groupby("model", sort=False):
        everybody = list(dict.fromkeys(own["name"]))
        total = dict.fromkeys(COUNTS, np.zeros(1))
        counts = {}
        for stage, part in own.groupby("stage", sort=False):
            counts[str(stage)] = _count_pairs(part, everybody)
            total = {key: total[key] + counts[str(stage)][key] for key in COUNTS}
        counts[EVERYWHERE] = total
        for stage, numbers in counts.items():
            pairs = _pair_rows(numbers, everybody, min_common, within_stages=stage == EVERYWHERE)
            out.append(pairs.assign(model=str(model), stage=stage))
    return pd.concat(out, ignore_index=True).reindex(columns=list(PAIR_COLUMNS))


def _named(trials: pd.DataFrame) -> pd.DataFrame:
    rows = spread_photographs(trials)
    return rows.assign(name=rows["observer"] + "\x1f" + rows["participant"])


def _right_and_shown(
    own: pd.DataFrame, everybody: list[str]
) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Return right and shown, 0 or 1 each (observers × items), and the names of the items."""
    wide = own.pivot_table(
        index="name", columns="stimulus", values="correct", aggfunc="first", sort=False
    )
    right = wide.reindex(everybody).to_numpy(dtype=float)
    return np.nan_to_num(right), np.isfinite(right).astype(float), wide.columns


def _count_pairs(own: pd.DataFrame, everybody: list[str]) -> dict[str, np.ndarray]:
    """Count over common trials for all pairs at once, as products of matrices.

    `right` and `shown` have the shape (observers, items).
    """
    right, shown, _ = _right_and_shown(own, everybody)
    wrong = shown - right
    n = shown @ shown.T
    accuracy = right.sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
    chance = np.outer(accuracy, accuracy) + np.outer(1 - accuracy, 1 - accuracy)
    return {
        "n": n,
        "right": right @ shown.T,
        "same": right @ right.T + wrong @ wrong.T,
        "chance": n * chance,
    }


def _pair_rows(
    counts: dict[str, np.ndarray], everybody: list[str], min_common: int, *, within_stages: bool
) -> pd.DataFrame:
    i, j = np.triu_indices(len(everybody), 1)
    keep = counts["n"][i, j] >= max(min_common, 1)
    i, j = i[keep], j[keep]
    common = counts["n"][i, j]
    accuracy_a, accuracy_b = counts["right"][i, j] / common, counts["right"][j, i] / common
    observed = counts["same"][i, j] / common
    expected = accuracy_a * accuracy_b + (1 - accuracy_a) * (1 - accuracy_b)
    expected = counts["chance"][i, j] / common if within_stages else expected
    parted = np.array([str(name).split("\x1f", 1) for name in everybody], dtype=object)
    kinds, names = parted[:, 0], parted[:, 1]
    return pd.DataFrame(
        {
            "kind_a": kinds[i],
            "observer_a": names[i],
            "kind_b": kinds[j],
            "observer_b": names[j],
            "n_common": common.astype(int),
            "accuracy_a": accuracy_a,
            "accuracy_b": accuracy_b,
            "observed": observed,
            "expected": expected,
            "kappa": kappa(observed, expected),
        }
    )


MIN_COINCIDENCES = 2.0
"""Fewest trials on which chance alone makes both of a pair give the rarer outcome.

Below this number there is no interval.
"""


@checked_with(
    tables={
        "trials": SHOWN,
        "pairs": Columns(
            "the table of pairs",
            "Make it with error_consistency.",
            (
                "model",
                "stage",
                "kind_a",
                "observer_a",
                "kind_b",
                "observer_b",
                "n_common",
                "accuracy_a",
                "accuracy_b",
                "kappa",
            ),
        ),
    }
)
def summarize_consistency(
    pairs: pd.DataFrame, trials: pd.DataFrame | None = None, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Average error consistency over the pairs of one kind.

    The kinds are people with people, people with each network, and network with network.

    Parameters
    ----------
    pairs : pandas.DataFrame
        From `error_consistency`.
    trials : pandas.DataFrame, optional
        The trials that `pairs` came of; ``reference_id`` (else ``stimulus``) names the photograph,
        which is what is left out in turn. Without them there are no intervals.
    confidence : float
        Share of intervals that hold the mean of other images, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        Columns model, stage, pair (``"human-human"``, ``"human-<network>"`` …), n_pairs,
        n_undefined (kappa without a value), kappa (mean), sd and, of trials, ci_low, ci_high (of
        the mean), method, coincidences (mean over pairs of the trials on which both would give the
        rarer outcome, right or wrong, by chance) and reason (why there is no interval). Pairs share
        observers, so no standard error is given.

    Raises
    ------
    InputError
        When `confidence` is not between 0 and 1, or the pairs are not of these trials.

    Notes
    -----
    The intervals say what other images of the same kind would change, not what other people or
    networks would. Each photograph is left out in turn, kappa, with the accuracies of the rest, is
    computed anew for every pair, and the variance of the mean is that of the jackknife. The
    interval is of t with 2n / (k - 1) degrees of freedom, at most n - 1, k being the kurtosis of
    the n values: few images on which both fail carry the variance where errors are rare.

    Simulated: people with people (5) and with a network (1 and 5), correlated normal difficulties,
    kappa 0, .25 and .6, 20 to 1,000 images, 50 to 98 % correct. 95 % intervals held the true mean
    in 92 to 98 % of studies in which `coincidences` is at least `MIN_COINCIDENCES`, and in as few
    as 41 % of the others, which therefore get none (``benchmarks/LEVELS.md``).

    References
    ----------
    Efron & Stein (1981), Ann Stat 9:586 (jackknife); Satterthwaite (1946), Biometrics Bull 2:110
    (degrees of freedom).

    Examples
    --------
    >>> from neurometamer.behavior.curves import simulate_recognition
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> summary = summarize_consistency(error_consistency(trials))
    >>> summary["pair"].unique().tolist()
    ['human-other', 'human-human']
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")
    # the names of the pairs: people come first
    first, second = (
        pairs[f"observer_{side}"].where(pairs[f"kind_{side}"] == "network", "human")
        for side in "ab"
    )
    swap = (second == "human") & (first != "human")
    coincidences = pairs["n_common"]
    for side in "ab":
        accuracy = pairs[f"accuracy_{side}"]
        coincidences = coincidences * np.minimum(accuracy, 1 - accuracy)
    rows = pairs.assign(
        pair=first.where(~swap, "human") + "-" + second.where(~swap, first),
        coincidences=coincidences,
    )
    groups = rows.groupby(["model", "stage", "pair"], sort=False)
    out = groups["kappa"].agg(n_pairs="size", n_known="count", kappa="mean", sd="std").reset_index()
    out.insert(4, "n_undefined", out["n_pairs"] - out["n_known"])
    out = out.drop(columns="n_known")
    if trials is None:
        return out
    means = _means_without(rows, _named(trials))
    keys = out[["model", "stage", "pair"]].itertuples(index=False, name=None)
    ends = [
        _jackknife_interval(value, means[key], confidence)
        for key, value in zip(keys, out["kappa"], strict=True)
    ]
    low, high = np.array(ends, dtype=float).reshape(-1, 2).T
    counts = groups["coincidences"].mean().to_numpy(dtype=float)
    held = (counts >= MIN_COINCIDENCES) & np.isfinite(low)
    reasons = [""] * len(counts)
    for row in np.flatnonzero(~held):
        reasons[row] = (
            f"no interval: too rare outcomes (coincidences {counts[row]:.2g}, "
            f"{MIN_COINCIDENCES:g} are needed)"
        )
    return out.assign(
        ci_low=np.where(held, low, np.nan),
        ci_high=np.where(held, high, np.nan),
        method=f"{confidence:.0%} jackknife over images, t",
        coincidences=counts,
        reason=reasons,
    )


def _jackknife_interval(
    value: float, without: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Compute the interval of a mean kappa from its values without each image.

    The interval is NaN where one of the values is undefined.
    """
    moves = without - without.mean()
    n = len(moves)
    if n < 2 or not np.isfinite(moves).all() or not moves.any():
        return np.nan, np.nan
    squares = np.square(moves)
    kurtosis = np.square(squares).mean() / np.square(squares.mean())
    dof = min(max(2 * n / (kurtosis - 1), 1), n - 1) if kurtosis > 1 else n - 1
    low, high = t_interval(np.array(value), (n - 1) / n * squares.sum(), dof, confidence)
    return float(low), min(float(high), 1.0)


Means = dict[tuple[str, str, str], np.ndarray]


def _means_without(pairs: pd.DataFrame, rows: pd.DataFrame) -> Means:
    """Return the mean kappa of each model, stage and kind of pair without each photograph."""
    codes, _ = draw_images(rows, 0, 0)
    _refuse_other_trials(pairs, rows)
    out: Means = {}
    for model, own in rows.assign(image=codes).groupby("model", sort=False):
        everybody = list(dict.fromkeys(own["name"]))
        numbers, names = pd.factorize(own["image"])
        own = own.assign(image=numbers)
        stages = [
            _Stage(str(stage), part, everybody, len(names))
            for stage, part in own.groupby("stage", sort=False)
        ]
        means = _model_means(pairs[pairs["model"] == str(model)], stages, everybody, len(names))
        out |= {(str(model), *key): mean for key, mean in means.items()}
    return out


def _refuse_other_trials(pairs: pd.DataFrame, rows: pd.DataFrame) -> None:
    known = {part: set(rows["model"] + "\x1f" + rows[part]) for part in ("name", "stage")}
    known["stage"] |= set(rows["model"] + "\x1f" + EVERYWHERE)
    lost: set[str] = set()
    for part, names in (*_pair_names(pairs), ("stage", pairs["stage"])):
        lost |= set(pairs["model"] + "\x1f" + names) - known[part]
    if lost:
        lacking = sorted(name.replace("\x1f", " ") for name in lost)
        raise InputError(
            f"the pairs are not of these trials, which lack {name_ids(lacking)}; give the trials "
            "that error_consistency got."
        )


def _pair_names(pairs: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    return [("name", pairs[f"kind_{side}"] + "\x1f" + pairs[f"observer_{side}"]) for side in "ab"]


class _Stage:
    """Answers at one stage: right and shown (observers × items).

    Items are the images shown at the stage, each made from one of the photographs.
    """

    def __init__(self, name: str, own: pd.DataFrame, everybody: list[str], n_images: int) -> None:
        from scipy.sparse import csr_matrix

        self.name = name
        self.right, self.shown, items = _right_and_shown(own, everybody)
        image_of = own.drop_duplicates("stimulus").set_index("stimulus")["image"]
        images = image_of.loc[items].to_numpy()
        columns = np.arange(len(images))
        self._of_image = csr_matrix(
            (np.ones(len(images)), (images, columns)), (n_images, len(images))
        )
        known = self._add(self.shown)
        self.accuracy = self._add(self.right) / np.maximum(known, 1)

    def _add(self, values: np.ndarray) -> np.ndarray:
        """Add values (n × items) up over the items of all photographs but one (photographs × n)."""
        return np.asarray(values.sum(axis=1) - self._of_image @ values.T)

    def count(self, i: np.ndarray, j: np.ndarray) -> dict[str, np.ndarray]:
        """Count over common trials of pairs i, j without each photograph.

        The shape is (photographs, pairs); the counts are those of `_count_pairs`.
        """
        n = self._add(self.shown[i] * self.shown[j])
        right_a = self._add(self.right[i] * self.shown[j])
        right_b = self._add(self.shown[i] * self.right[j])
        same = n - right_a - right_b + 2 * self._add(self.right[i] * self.right[j])
        a, b = self.accuracy[:, i], self.accuracy[:, j]
        chance = n * (a * b + (1 - a) * (1 - b))
        return {"n": n, "right_a": right_a, "right_b": right_b, "same": same, "chance": chance}


def _model_means(
    pairs: pd.DataFrame, stages: list[_Stage], everybody: list[str], n_images: int
) -> dict[tuple[str, str], np.ndarray]:
    """Add up the kappas of one model's pairs, some pairs at a time, by stage and kind."""
    positions = {name: position for position, name in enumerate(everybody)}
    ends = pd.MultiIndex.from_arrays([names.map(positions) for _, names in _pair_names(pairs)])
    every = ends.unique()
    at = every.get_indexer(ends)
    n_items = [stage.shown.shape[1] for stage in stages]
    step = max(1, BLOCK // max(n_images, *n_items))
    totals: dict[tuple[str, str], list[np.ndarray]] = {}
    for start in range(0, len(every), step):
        block = every[start : start + step]
        i, j = (block.get_level_values(side).to_numpy(dtype=int) for side in (0, 1))
        kappas = _kappas(stages, i, j)
        here = pairs.assign(at=at - start)[(at >= start) & (at < start + len(block))]
        for (stage, pair), own in here.groupby(["stage", "pair"], sort=False):
            values = kappas[str(stage)][:, own["at"]]
            known = np.isfinite(values)
            empty = [np.zeros(n_images), np.zeros(n_images)]
            total = totals.setdefault((str(stage), str(pair)), empty)
            total[0] += np.where(known, values, 0).sum(axis=1)
            total[1] += known.sum(axis=1)
    return {
        key: np.where(n > 0, total / np.maximum(n, 1), np.nan) for key, (total, n) in totals.items()
    }


def _kappas(stages: list[_Stage], i: np.ndarray, j: np.ndarray) -> dict[str, np.ndarray]:
    """Compute kappa (photographs × pairs) at each stage and over all stages.

    Over all stages, chance is taken within each stage.
    """
    out: dict[str, np.ndarray] = {}
    total = {name: np.zeros(1) for name in ("n", "same", "chance")}
    for stage in stages:
        counts = stage.count(i, j)
        total = {name: total[name] + counts[name] for name in total}
        n = np.where(counts["n"] > 0, counts["n"], np.nan)
        a, b = counts["right_a"] / n, counts["right_b"] / n
        out[stage.name] = kappa(counts["same"] / n, a * b + (1 - a) * (1 - b))
    n = np.where(total["n"] > 0, total["n"], np.nan)
    return {**out, EVERYWHERE: kappa(total["same"] / n, total["chance"] / n)}


CORRELATION_COLUMNS = (
    "network",
    "n_points",
    "n_models",
    "pearson_r",
    "r2",
    "spearman_rho",
    "kendall_tau",
    "method",
)
OTHERS = "mean of other networks"


@checked_with(
    tables={
        "curves": Columns(
            "the table of curves",
            "Make it with recognition_curves.",
            ("observer", "network", "model", "stage", "proportion"),
        )
    }
)
def curve_correlation(curves: pd.DataFrame) -> pd.DataFrame:
    """Correlate people's recognition over (model, stage) with that of networks.

    Parameters
    ----------
    curves : pandas.DataFrame
        From `recognition_curves`, of people and of networks known by name.

    Returns
    -------
    pandas.DataFrame
        `CORRELATION_COLUMNS`: one row a network, and one of the mean over networks at each point. A
        network's answers to images made for itself are left out. NaN where there are fewer than
        three points or one side does not vary.

    Notes
    -----
    Feather et al. (2023) plot the mean over all other networks against people, one point a model
    and stage; stages that are photographs are points too, once for each model. Points of one model
    are not independent, so no p value is given.

    Examples
    --------
    >>> from neurometamer.behavior.curves import simulate_recognition
    >>> from neurometamer.behavior.trials import name_columns, screen_trials
    >>> table = simulate_recognition(
    ...     {"resnet": {"early": 0.9, "late": 0.3}},
    ...     {"other": {"resnet": {"early": 0.9, "late": 0.4}}},
    ...     n_people=4,
    ...     n_images=60,
    ...     seed=1,
    ... )
    >>> trials = screen_trials(name_columns(table)).trials
    >>> from neurometamer.behavior.curves import recognition_curves, trial_cells
    >>> table = curve_correlation(recognition_curves(trial_cells(trials)))
    >>> table[["network", "n_points"]].values.tolist()
    [['other', 3], ['mean of other networks', 3]]
    """
    keys = ["model", "stage"]
    human = curves[curves["observer"] == "human"][[*keys, "proportion"]]
    others = curves[(curves["observer"] == "network") & (curves["network"] != curves["model"])]
    mean = others.groupby(keys, sort=False, as_index=False)["proportion"].mean()
    mean = mean.assign(network=OTHERS)
    rows = []
    for name, own in pd.concat([others, mean], ignore_index=True).groupby("network", sort=False):
        both = human.merge(own[[*keys, "proportion"]], on=keys, suffixes=("_human", "_network"))
        rows.append(
            {
                "network": name,
                "n_points": len(both),
                "n_models": both["model"].nunique(),
                **_correlate(both),
            }
        )
    table = pd.DataFrame(rows, columns=list(CORRELATION_COLUMNS))
    return table.assign(method="people's mean and the network's share, over (model, stage)")


def _correlate(both: pd.DataFrame) -> dict[str, float]:
    from scipy.stats import kendalltau, pearsonr, spearmanr

    x, y = (both[f"proportion_{side}"].to_numpy(dtype=float) for side in ("human", "network"))
    if len(both) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(("pearson_r", "r2", "spearman_rho", "kendall_tau"), np.nan)
    r = float(pearsonr(x, y).statistic)
    tau = float(kendalltau(x, y).statistic)
    return {
        "pearson_r": r,
        "r2": r**2,
        "spearman_rho": float(spearmanr(x, y).statistic),
        "kendall_tau": tau,
    }
