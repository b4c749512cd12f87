"""Agreement of people and networks: errors on the same images, and stages hard for both."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.behavior.curves import sample_photographs
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
SEPARATOR = "\x1f"
"""Character between the parts of a name that is made for joining; no table has it."""
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
    observed = np.asarray(observed, dtype=float)
    expected = np.asarray(expected, dtype=float)
    for name, share in (("observed", observed), ("expected", expected)):
        is_outside = (share < -1e-12) | (share > 1 + 1e-12)
        if is_outside.any():
            wrong = share[is_outside].flat[0]
            raise InputError(f"kappa: {name} leaves [0, 1] ({wrong:g}); give shares of trials.")
    left = 1 - expected
    is_open = left > 1e-12
    left = np.where(is_open, left, 1.0)
    ratio = (observed - expected) / left
    return np.where(is_open, ratio, np.nan)


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
        answered = name_ids(rows["participant"].unique())
        raise InputError(
            f"error consistency needs two observers or more, not only {answered}; add the answers "
            "of a network or of people."
        )
    out = []
    for model, own in rows.groupby("model", sort=False):
        everybody = list(own["name"].unique())
        total = dict.fromkeys(COUNTS, np.zeros(1))
        counts = {}
        for stage, part in own.groupby("stage", sort=False):
            right, shown, _ = _right_and_shown(part, everybody)
            wrong = shown - right
            n = shown @ shown.T
            accuracy = right.sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
            numbers = {
                "n": n,
                "right": right @ shown.T,
                "same": right @ right.T + wrong @ wrong.T,
                "chance": n * _by_chance(accuracy[:, None], accuracy),
            }
            for key in COUNTS:
                total[key] = total[key] + numbers[key]
            counts[str(stage)] = numbers
        counts[EVERYWHERE] = total
        for stage, numbers in counts.items():
            pairs = _pair_rows(numbers, everybody, min_common, within_stages=stage == EVERYWHERE)
            out.append(pairs.assign(model=str(model), stage=stage))
    return pd.concat(out, ignore_index=True).reindex(columns=list(PAIR_COLUMNS))


def _named(trials: pd.DataFrame) -> pd.DataFrame:
    rows = spread_photographs(trials)
    kinds = rows["observer"]
    names = kinds + SEPARATOR + rows["participant"]
    return rows.assign(name=names)


def _right_and_shown(
    own: pd.DataFrame, everybody: list[str]
) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """Return right and shown, 0 or 1 each (observers × items), and the names of the items."""
    wide = own.pivot_table(
        index="name",
        columns="stimulus",
        values="correct",
        aggfunc="first",
        sort=False,
    )
    right = wide.reindex(everybody).to_numpy(dtype=float)
    shown = np.isfinite(right).astype(float)
    return np.nan_to_num(right), shown, wide.columns


def _pair_rows(
    counts: dict[str, np.ndarray], everybody: list[str], min_common: int, *, within_stages: bool
) -> pd.DataFrame:
    i, j = np.triu_indices(len(everybody), 1)
    n = counts["n"]
    right = counts["right"]
    is_kept = n[i, j] >= max(min_common, 1)
    i = i[is_kept]
    j = j[is_kept]
    common = n[i, j]
    accuracy_a = right[i, j] / common
    accuracy_b = right[j, i] / common
    observed = counts["same"][i, j] / common
    expected = counts["chance"][i, j] / common
    if not within_stages:
        expected = _by_chance(accuracy_a, accuracy_b)
    parted = [name.split(SEPARATOR, 1) for name in everybody]
    columns = np.array(parted, dtype=object).reshape(-1, 2)
    kinds, names = columns.T
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


def _by_chance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the agreement that two accuracies make likely by chance."""
    both_right = a * b
    wrong_a = 1 - a
    wrong_b = 1 - b
    both_wrong = wrong_a * wrong_b
    return both_right + both_wrong


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
    sides = {}
    coincidences = pairs["n_common"]
    for side in "ab":
        is_network = pairs[f"kind_{side}"] == "network"
        sides[side] = pairs[f"observer_{side}"].where(is_network, "human")
        accuracy = pairs[f"accuracy_{side}"]
        coincidences = coincidences * np.minimum(accuracy, 1 - accuracy)
    first, second = sides.values()
    is_turned = (second == "human") & (first != "human")
    names = first.where(~is_turned, "human") + "-" + second.where(~is_turned, first)
    rows = pairs.assign(pair=names, coincidences=coincidences)
    groups = rows.groupby(["model", "stage", "pair"], sort=False)
    out = groups["kappa"].agg(n_pairs="size", n_known="count", kappa="mean", sd="std").reset_index()
    out.insert(4, "n_undefined", out["n_pairs"] - out["n_known"])
    out = out.drop(columns="n_known")
    if trials is None:
        return out
    means = _means_without(rows, _named(trials))
    counts = groups["coincidences"].mean().to_numpy(dtype=float)
    lows = []
    highs = []
    reasons = []
    keys = out[["model", "stage", "pair"]].itertuples(index=False, name=None)
    for key, value, count in zip(keys, out["kappa"], counts, strict=True):
        low, high = _jackknife_interval(value, means[key], confidence)
        reason = ""
        if not count >= MIN_COINCIDENCES or not np.isfinite(low):
            low = high = np.nan
            reason = (
                f"no interval: too rare outcomes (coincidences {count:.2g}, "
                f"{MIN_COINCIDENCES:g} are needed)"
            )
        lows.append(low)
        highs.append(high)
        reasons.append(reason)
    return out.assign(
        ci_low=np.array(lows, dtype=float),
        ci_high=np.array(highs, dtype=float),
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
    n = len(without)
    moves = without - without.mean()
    is_known = np.isfinite(moves).all()
    if n < 2 or not is_known or not moves.any():
        return np.nan, np.nan
    squares = np.square(moves)
    fourth = np.square(squares).mean()
    kurtosis = fourth / np.square(squares.mean())
    dof = n - 1
    if kurtosis > 1:
        by_kurtosis = 2 * n / (kurtosis - 1)
        dof = min(max(by_kurtosis, 1), n - 1)
    variance = (n - 1) / n * squares.sum()
    low, high = t_interval(np.array(value), variance, dof, confidence)
    return float(low), min(float(high), 1.0)


Means = dict[tuple[str, str, str], np.ndarray]


def _means_without(pairs: pd.DataFrame, rows: pd.DataFrame) -> Means:
    """Return the mean kappa of each model, stage and kind of pair without each photograph."""
    known = {}
    for column in ("name", "stage"):
        known[column] = set(rows["model"] + SEPARATOR + rows[column])
    known["stage"] |= set(rows["model"] + SEPARATOR + EVERYWHERE)
    asked = [("name", names) for names in _pair_names(pairs)]
    lost: set[str] = set()
    for column, names in (*asked, ("stage", pairs["stage"])):
        lost |= set(pairs["model"] + SEPARATOR + names) - known[column]
    if lost:
        lacking = sorted(name.replace(SEPARATOR, " ") for name in lost)
        raise InputError(
            f"the pairs are not of these trials, which lack {name_ids(lacking)}; give the trials "
            "that error_consistency got."
        )
    codes, _ = sample_photographs(rows, 0, 0)
    out: Means = {}
    for model, own in rows.assign(image=codes).groupby("model", sort=False):
        everybody = list(own["name"].unique())
        numbers, images = pd.factorize(own["image"])
        stages = []
        for stage, part in own.assign(image=numbers).groupby("stage", sort=False):
            stages.append(_Stage(str(stage), part, everybody, len(images)))
        own_pairs = pairs[pairs["model"] == str(model)]
        means = _model_means(own_pairs, stages, everybody, len(images))
        for (stage_name, pair), mean in means.items():
            out[str(model), stage_name, pair] = mean
    return out


def _pair_names(pairs: pd.DataFrame) -> list[pd.Series]:
    """Name the two of each pair, as in the column name of `_named`."""
    names = []
    for side in "ab":
        kinds = pairs[f"kind_{side}"]
        observers = pairs[f"observer_{side}"]
        names.append(kinds + SEPARATOR + observers)
    return names


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
        n_items = len(images)
        cells = (images, np.arange(n_items))
        self._of_image = csr_matrix((np.ones(n_items), cells), (n_images, n_items))
        n_shown = self._add(self.shown)
        self.accuracy = self._add(self.right) / np.maximum(n_shown, 1)

    def _add(self, values: np.ndarray) -> np.ndarray:
        """Add values (n × items) up over the items of all photographs but one (photographs × n)."""
        total = values.sum(axis=1)
        by_item = values.T
        of_image = self._of_image @ by_item
        rest = total - of_image
        return np.asarray(rest)

    def count(self, i: np.ndarray, j: np.ndarray) -> dict[str, np.ndarray]:
        """Count over common trials of pairs i, j without each photograph.

        The shape is (photographs, pairs); the counts are those of `error_consistency`.
        """
        shown_a = self.shown[i]
        shown_b = self.shown[j]
        is_right_a = self.right[i]
        is_right_b = self.right[j]
        n = self._add(shown_a * shown_b)
        right_a = self._add(is_right_a * shown_b)
        right_b = self._add(shown_a * is_right_b)
        both_right = self._add(is_right_a * is_right_b)
        accuracy_a = self.accuracy[:, i]
        accuracy_b = self.accuracy[:, j]
        chance = _by_chance(accuracy_a, accuracy_b)
        same = n - right_a - right_b + 2 * both_right
        return {
            "n": n,
            "right_a": right_a,
            "right_b": right_b,
            "same": same,
            "chance": n * chance,
        }


def _model_means(
    pairs: pd.DataFrame, stages: list[_Stage], everybody: list[str], n_images: int
) -> dict[tuple[str, str], np.ndarray]:
    """Add up the kappas of one model's pairs, some pairs at a time, by stage and kind."""
    positions = {name: position for position, name in enumerate(everybody)}
    ends = [names.map(positions) for names in _pair_names(pairs)]
    of_row = pd.MultiIndex.from_arrays(ends)
    every = of_row.unique()
    at = every.get_indexer(of_row)
    n_items = [stage.shown.shape[1] for stage in stages]
    step = max(1, BLOCK // max(n_images, *n_items))
    totals: dict[tuple[str, str], np.ndarray] = {}
    counts: dict[tuple[str, str], np.ndarray] = {}
    for start in range(0, len(every), step):
        block = every[start : start + step]
        i = block.get_level_values(0).to_numpy(dtype=int)
        j = block.get_level_values(1).to_numpy(dtype=int)
        kappas: dict[str, np.ndarray] = {}
        total = dict.fromkeys(("n", "same", "chance"), np.zeros(1))
        for at_stage in stages:
            numbers = at_stage.count(i, j)
            for name in total:
                total[name] = total[name] + numbers[name]
            n = _or_nan(numbers["n"])
            expected = _by_chance(numbers["right_a"] / n, numbers["right_b"] / n)
            kappas[at_stage.name] = kappa(numbers["same"] / n, expected)
        # over all stages, chance is taken within each stage
        n = _or_nan(total["n"])
        kappas[EVERYWHERE] = kappa(total["same"] / n, total["chance"] / n)
        is_here = (at >= start) & (at < start + len(block))
        here = pairs.assign(at=at - start)[is_here]
        for (stage, pair), own in here.groupby(["stage", "pair"], sort=False):
            key = (str(stage), str(pair))
            values = kappas[str(stage)][:, own["at"]]
            is_known = np.isfinite(values)
            sums = np.where(is_known, values, 0).sum(axis=1)
            totals[key] = totals.get(key, np.zeros(n_images)) + sums
            counts[key] = counts.get(key, np.zeros(n_images)) + is_known.sum(axis=1)
    means = {}
    for key, n in counts.items():
        means[key] = totals[key] / _or_nan(n)
    return means


def _or_nan(counts: np.ndarray) -> np.ndarray:
    """Replace counts of 0 by NaN, for divisions."""
    is_there = counts > 0
    return np.where(is_there, counts, np.nan)


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
    from scipy.stats import kendalltau, pearsonr, spearmanr

    keys = ["model", "stage"]
    shares = [*keys, "proportion"]
    human = curves.loc[curves["observer"] == "human", shares]
    is_other = (curves["observer"] == "network") & (curves["network"] != curves["model"])
    others = curves[is_other]
    mean = others.groupby(keys, sort=False, as_index=False)["proportion"].mean()
    everyone = pd.concat([others, mean.assign(network=OTHERS)], ignore_index=True)
    rows = []
    for name, own in everyone.groupby("network", sort=False):
        both = human.merge(own[shares], on=keys, suffixes=("_human", "_network"))
        x = both["proportion_human"].to_numpy(dtype=float)
        y = both["proportion_network"].to_numpy(dtype=float)
        row = {
            "network": name,
            "n_points": len(both),
            "n_models": both["model"].nunique(),
        }
        if len(both) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
            r = float(pearsonr(x, y).statistic)
            row["pearson_r"] = r
            row["r2"] = r**2
            row["spearman_rho"] = float(spearmanr(x, y).statistic)
            row["kendall_tau"] = float(kendalltau(x, y).statistic)
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(CORRELATION_COLUMNS))
    numbers = ["pearson_r", "r2", "spearman_rho", "kendall_tau"]
    table[numbers] = table[numbers].astype(float)
    return table.assign(method="people's mean and the network's share, over (model, stage)")
