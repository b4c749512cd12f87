"""Agreement of observers: errors on the same images, and stages that are hard for people and networks alike."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurometamer.behavior.trials import spread_photographs
from neurometamer.store import InputError

PAIR_COLUMNS = (
    "model", "stage", "kind_a", "observer_a", "kind_b", "observer_b", "n_common", "accuracy_a", "accuracy_b",
    "observed", "expected", "kappa",
)  # fmt: skip
EVERYWHERE = "all stages"
COUNTS = ("n", "right", "same", "chance")


def kappa(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
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
        (observed - expected) / (1 - expected), at most 1; NaN where `expected` is 1 (both always right, or both
        always wrong), since nothing can be said there.

    References
    ----------
    Geirhos, R., Meding, K. & Wichmann, F. A. (2020). Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and
    humans by measuring error consistency. NeurIPS 33, equations 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> kappa(np.array([0.75, 1.0]), np.array([0.5, 1.0])).tolist()
    [0.5, nan]
    """
    observed, expected = np.asarray(observed, dtype=float), np.asarray(expected, dtype=float)
    open_ = 1 - expected > 1e-12
    return np.where(open_, (observed - expected) / np.where(open_, 1 - expected, 1.0), np.nan)


def error_consistency(trials: pd.DataFrame, *, min_common: int = 10) -> pd.DataFrame:
    """Compare the errors of every two observers on the trials that both had.

    Parameters
    ----------
    trials : pandas.DataFrame
        Usable trials, `Screened.trials`: a trial is common when stimulus, model and stage are the same.
    min_common : int
        Pairs with fewer common trials are left out; one kappa of few trials says little.

    Returns
    -------
    pandas.DataFrame
        `PAIR_COLUMNS`, one row a pair, model and stage, and one with the stage ``"all stages"`` a pair and model (the
        photographs are among them). Accuracies are those on the common trials.

    Raises
    ------
    InputError
        When there are fewer than two observers.

    Notes
    -----
    At one stage this is Geirhos et al. (2020). Over all stages agreement would exceed chance merely because some stages
    are hard for everybody; there, and this is ours, the expected agreement is that of observers whose errors are
    independent within each stage: the mean over common trials of p_a p_b + (1 - p_a)(1 - p_b), with each observer's
    accuracy over all of its trials at that stage. People who share few images at each stage can be compared by it.
    """
    rows = spread_photographs(trials)
    names = rows["observer"] + "\x1f" + rows["participant"]
    if names.nunique() < 2:
        raise InputError("error consistency needs two observers or more; add the answers of a network or of people.")
    out = []
    for model, own in rows.assign(name=names).groupby("model", sort=False):
        everybody = list(dict.fromkeys(own["name"]))
        counts = {str(stage): _count_pairs(part, everybody) for stage, part in own.groupby("stage", sort=False)}
        counts[EVERYWHERE] = {key: np.sum([one[key] for one in counts.values()], axis=0) for key in COUNTS}
        for stage, one in counts.items():
            made = _pair_rows(one, everybody, min_common, within_stages=stage == EVERYWHERE)
            out.append(made.assign(model=str(model), stage=str(stage)))
    return pd.concat(out, ignore_index=True).reindex(columns=list(PAIR_COLUMNS))


def _count_pairs(own: pd.DataFrame, everybody: list[str]) -> dict[str, np.ndarray]:
    """Count over common trials, all pairs at once: with right R and shown S (observers × items), as products."""
    wide = own.pivot_table(index="name", columns="stimulus", values="correct", aggfunc="first", sort=False)
    right = wide.reindex(everybody).to_numpy(dtype=float)
    shown = np.isfinite(right).astype(float)
    right = np.nan_to_num(right)
    wrong = shown - right
    n = shown @ shown.T
    accuracy = right.sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
    chance = np.outer(accuracy, accuracy) + np.outer(1 - accuracy, 1 - accuracy)
    return {"n": n, "right": right @ shown.T, "same": right @ right.T + wrong @ wrong.T, "chance": n * chance}


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
            "kind_a": kinds[i], "observer_a": names[i], "kind_b": kinds[j], "observer_b": names[j],
            "n_common": common.astype(int), "accuracy_a": accuracy_a, "accuracy_b": accuracy_b, "observed": observed,
            "expected": expected, "kappa": kappa(observed, expected),
        }
    )  # fmt: skip


def summarize_consistency(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average error consistency over pairs of one kind: people with people, with each network, network with network.

    Parameters
    ----------
    pairs : pandas.DataFrame
        From `error_consistency`.

    Returns
    -------
    pandas.DataFrame
        Columns model, stage, pair (``"human-human"``, ``"human-<network>"`` …), n_pairs, n_undefined (kappa without a
        value), kappa (mean), sd. Pairs share observers, so no standard error is given.
    """
    sides = [pairs[f"observer_{side}"].where(pairs[f"kind_{side}"] == "network", "human").rename(side) for side in "ab"]
    swap = (sides[1] == "human") & (sides[0] != "human")
    first = sides[0].where(~swap, "human")
    second = sides[1].where(~swap, sides[0])
    rows = pairs.assign(pair=first + "-" + second)
    groups = rows.groupby(["model", "stage", "pair"], sort=False)["kappa"]
    out = groups.agg(n_pairs="size", n_known="count", kappa="mean", sd="std").reset_index()
    out.insert(4, "n_undefined", out["n_pairs"] - out["n_known"])
    return out.drop(columns="n_known")


CORRELATION_COLUMNS = ("network", "n_points", "n_models", "pearson_r", "r2", "spearman_rho", "kendall_tau", "method")
OTHERS = "mean of other networks"


def curve_correlation(curves: pd.DataFrame) -> pd.DataFrame:
    """Correlate people's recognition over (model, stage) with that of networks that did not make the images.

    Parameters
    ----------
    curves : pandas.DataFrame
        From `recognition_curves`, of people and of networks known by name.

    Returns
    -------
    pandas.DataFrame
        `CORRELATION_COLUMNS`: one row a network, and one of the mean over networks at each point. A network's answers
        to images made for itself are left out. NaN where there are fewer than three points or one side does not vary.

    Notes
    -----
    Feather et al. (2023) plot the mean over all other networks against people, one point a model and stage; stages
    that are photographs are points too, once for each model. Points of one model are not independent, so no p value
    is given.
    """
    keys = ["model", "stage"]
    human = curves[curves["observer"] == "human"][[*keys, "proportion"]]
    others = curves[(curves["observer"] == "network") & (curves["network"] != curves["model"])]
    mean = others.groupby(keys, sort=False, as_index=False)["proportion"].mean().assign(network=OTHERS)
    rows = []
    for name, own in pd.concat([others, mean], ignore_index=True).groupby("network", sort=False):
        both = human.merge(own[[*keys, "proportion"]], on=keys, suffixes=("_human", "_network"))
        rows.append({"network": name, "n_points": len(both), "n_models": both["model"].nunique(), **_correlate(both)})
    table = pd.DataFrame(rows, columns=list(CORRELATION_COLUMNS))
    return table.assign(method="people's mean and the network's share, over (model, stage)")


def _correlate(both: pd.DataFrame) -> dict[str, float]:
    from scipy.stats import kendalltau, pearsonr, spearmanr

    x, y = (both[f"proportion_{side}"].to_numpy(dtype=float) for side in ("human", "network"))
    if len(both) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(("pearson_r", "r2", "spearman_rho", "kendall_tau"), np.nan)
    r = float(pearsonr(x, y).statistic)
    tau = float(kendalltau(x, y).statistic)
    return {"pearson_r": r, "r2": r**2, "spearman_rho": float(spearmanr(x, y).statistic), "kendall_tau": tau}
