"""Voxel encoding: ridge regression from a network stage to every voxel, trained on photographs, tested on all kinds.

Trained on the responses to regular images only; what it predicts for images that were made from the held-out
photographs says whether stage and voxel still agree where the images were built to pull them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.resampling import bootstrap_counts, percentile_interval
from neurometamer.rsa.rdm import MIN_CONDITIONS, match_ids, mean_responses
from neurometamer.store import InputError, generator, name_ids, unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns
    from neurometamer.activations import Activations

SCHEMES = {
    "by image": "each photograph held out in turn with the images made from it",
    "all": "trained on all photographs (Zhang et al. 2021); photographs themselves are not tested",
}
"""Scheme name to what is held out."""

ALPHAS = tuple(float(one) for one in np.logspace(-3, 4, 15))
"""Ridge penalties, in units of the mean squared length of the centered training features."""

LEAVE_ONE_OUT_UP_TO = 20
"""With as few photographs each fold holds out one; with more there are 10 folds."""

CHUNK = 16384
"""Units reduced at a time."""

EQUAL = 1e-12
"""Variances below this share of the whole are rounding."""


# --------------------------------------------------------------------------------------------- ridge on arrays


def reduce_features(features: np.ndarray) -> np.ndarray:
    """Turn many units into as many columns as there are images, with all inner products kept.

    With centered features X = Z Q', Q orthonormal, ridge on Z gives the predictions of ridge on X exactly, because
    the penalized weights lie in the span of the images.

    Parameters
    ----------
    features : ndarray, shape (n_images, n_units)
        All images, training and test together.

    Returns
    -------
    ndarray, shape (n_images, min(n_images, n_units))
        Z, float64; the mean over images is removed, which an intercept makes up for.

    References
    ----------
    Hastie & Tibshirani (2004), Biostatistics 5:329, section 3 (QR reduction for p >> n).
    """
    triangle = np.empty((0, len(features)))
    for start in range(0, features.shape[1], CHUNK):
        part = features[:, start : start + CHUNK].T.astype(np.float64)
        part -= part[:, :1]  # so that units that never change are exactly 0 and not rounding that ridge can fit
        part -= part.mean(axis=1, keepdims=True)
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, part]), mode="r"))
    return triangle.T


def ridge_fit(
    features: np.ndarray, responses: np.ndarray, alphas: Sequence[float] = ALPHAS
) -> tuple[np.ndarray, np.ndarray]:
    """Fit ridge with a penalty of its own for each voxel.

    Parameters
    ----------
    features : ndarray, shape (n_train, n_features)
        Centered here by their mean, not scaled.
    responses : ndarray, shape (n_train, n_voxels)
        Centered here by their mean.
    alphas : sequence of float
        Penalties in units of the mean squared length of the centered features, so that one grid serves all stages.

    Returns
    -------
    weights : ndarray, shape (n_features, n_voxels)
        Zero when the features do not vary.
    chosen : ndarray, shape (n_voxels,)
        Penalty of each voxel, by leave-one-image-out error (scikit-learn's `RidgeCV`, ``alpha_per_target=True``);
        NaN when the features do not vary.
    """
    from sklearn.linear_model import RidgeCV

    centered = features - features.mean(axis=0)
    scale = float(np.mean(np.sum(centered**2, axis=1)))
    n_voxels = responses.shape[1]
    if scale == 0 or n_voxels == 0:
        return np.zeros((features.shape[1], n_voxels)), np.full(n_voxels, np.nan)
    model = RidgeCV(alphas=scale * np.asarray(alphas), alpha_per_target=True).fit(centered, responses)
    return model.coef_.reshape(n_voxels, -1).T, np.broadcast_to(model.alpha_, n_voxels) / scale


def column_correlations(predicted: np.ndarray, measured: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Correlate prediction and measurement over images, voxel by voxel.

    Parameters
    ----------
    predicted, measured : ndarray, shape (n_images, n_voxels)
        What to correlate.
    counts : ndarray, shape (n_resamples, n_images), optional
        How often each image is drawn.

    Returns
    -------
    ndarray, shape (n_voxels,) or (n_resamples, n_voxels)
        Pearson correlation; NaN where one side is constant or a resample holds fewer than 3 distinct images.
    """
    drawn = np.ones((1, len(predicted))) if counts is None else counts.astype(np.float64)
    a, b = predicted - predicted.mean(axis=0), measured - measured.mean(axis=0)
    total = drawn.sum(axis=1, keepdims=True)
    mean_a, mean_b = drawn @ a / total, drawn @ b / total
    product = drawn @ (a * b) / total - mean_a * mean_b
    spread_a, spread_b = drawn @ a**2 / total - mean_a**2, drawn @ b**2 / total - mean_b**2
    enough = (drawn > 0).sum(axis=1, keepdims=True) >= 3
    # A resample may draw equal values only: what the subtraction leaves is rounding, not spread.
    varied = (spread_a > EQUAL * np.mean(a**2, axis=0)) & (spread_b > EQUAL * np.mean(b**2, axis=0))
    defined = enough & varied & (np.ptp(predicted, axis=0) > 0) & (np.ptp(measured, axis=0) > 0)
    spread = spread_a * spread_b
    result = np.full(spread.shape, np.nan)
    np.divide(product, np.sqrt(spread, where=defined, out=np.ones_like(spread)), out=result, where=defined)
    return result[0] if counts is None else result


# -------------------------------------------------------------------------------------------------- the design


@dataclass(frozen=True, kw_only=True)
class _Design:
    """Which rows of the stimulus table are trained on and tested, by photograph."""

    ids: list[str]
    references: list[str]
    rows: dict[str, dict[str, int]]
    folds: list[list[str]]
    tests: list[str]
    scheme: str

    def splits(self) -> Iterator[tuple[list[int], dict[str, list[str]]]]:
        """Give training rows and, for each tested kind, the photographs whose images are predicted."""
        for held_out in self.folds:
            kept = [one for one in self.references if self.scheme == "all" or one not in held_out]
            train = [self.rows["RE"][one] for one in kept]
            yield train, {test: [one for one in held_out if one in self.rows[test]] for test in self.tests}

    @property
    def n_train(self) -> int:
        """Photographs in the smallest training set."""
        return min(len(train) for train, _ in self.splits())


def _design(table: pd.DataFrame, tests: Sequence[str], scheme: str, n_folds: int | None, seed: int) -> _Design:
    if scheme not in SCHEMES:
        raise unknown_name("encoding scheme", scheme, SCHEMES)
    rows: dict[str, dict[str, int]] = {"RE": {}}
    for i, (kind, reference) in enumerate(zip(table["kind"].astype(str), table["reference_id"].astype(str))):
        if reference in rows.setdefault(kind, {}):
            raise InputError(f"encoding: two {kind} stimuli come from photograph '{reference}'; keep one of each kind.")
        rows[kind][reference] = i
    references = sorted(rows["RE"])
    if len(references) < MIN_CONDITIONS:
        raise InputError(f"encoding: {len(references)} photographs (RE); at least {MIN_CONDITIONS} are needed.")
    used = [test for test in tests if test in rows and (scheme != "all" or test != "RE")]
    orphans = [one for test in used for one in rows[test] if one not in rows["RE"]]
    if orphans:
        raise InputError(f"encoding: no photograph (RE) in the stimulus table for {name_ids(orphans)}; add it.")
    few = [f"{test} ({len(rows[test])})" for test in used if len(rows[test]) < MIN_CONDITIONS]
    if few or not used:
        raise InputError(f"encoding: too few stimuli to test: {name_ids(few) or 'none'}; {MIN_CONDITIONS} are needed.")
    return _Design(
        ids=list(table["id"].astype(str)),
        references=references,
        rows=rows,
        folds=[references] if scheme == "all" else _folds(references, n_folds, seed),
        tests=used,
        scheme=scheme,
    )


def _folds(references: Sequence[str], n_folds: int | None, seed: int) -> list[list[str]]:
    n = len(references)
    count = (n if n <= LEAVE_ONE_OUT_UP_TO else 10) if n_folds is None else n_folds
    if not 2 <= count <= n:
        raise InputError(f"n_folds must lie between 2 and the number of photographs ({n}), not {count}.")
    order = generator(seed, "encoding folds", n).permutation(n)
    return [[references[i] for i in order[k::count]] for k in range(count)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Targets:
    """Responses of all subjects side by side; which subject and ROI each column is of."""

    values: np.ndarray
    groups: dict[tuple[str, str], np.ndarray]


def _targets(patterns_by_subject: Mapping[str, Patterns], ids: Sequence[str]) -> _Targets:
    if not patterns_by_subject:
        raise InputError("encoding: no patterns were given; at least one subject is needed.")
    values = [mean_responses(patterns, ids, subject) for subject, patterns in patterns_by_subject.items()]
    labels = [
        (subject, str(roi)) for subject, patterns in patterns_by_subject.items() for roi in patterns.voxels["roi"]
    ]
    groups = {one: np.array([label == one for label in labels]) for one in dict.fromkeys(labels)}
    return _Targets(values=np.concatenate(values, axis=1), groups=groups)


def _predict(
    features: np.ndarray, responses: np.ndarray, design: _Design, alphas: Sequence[float]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predict every tested image from the fold that does not hold its photograph; pool the folds without bias.

    Two things that differ between folds would give a negative correlation where there is no relation at all (about
    -.5 with 16 photographs, one a fold; -.2 from the second alone). The intercept moves against the held-out
    response: predictions are taken relative to it. The penalty shrinks less, the worse the held-out image fits the
    rest: predictions are taken in units of the standard deviation of the fold's fitted values.
    """
    place = {test: {one: i for i, one in enumerate(_tested(design, test))} for test in design.tests}
    predicted = {test: np.empty((len(place[test]), responses.shape[1])) for test in design.tests}
    chosen = []
    for train, tested in design.splits():
        weights, alpha = ridge_fit(features[train], responses[train], alphas)
        center = features[train].mean(axis=0)
        spread = np.std((features[train] - center) @ weights, axis=0)
        # A voxel that answers to the held-out photograph only leaves nothing to fit: its prediction stays 0.
        fitted = spread > EQUAL * np.std(responses[list(design.rows["RE"].values())], axis=0)
        weights = np.where(fitted, weights, 0) / np.where(fitted, spread, 1)
        chosen.append(alpha)
        for test, references in tested.items():
            rows = [design.rows[test][one] for one in references]
            predicted[test][[place[test][one] for one in references]] = (features[rows] - center) @ weights
    return predicted, np.median(chosen, axis=0)


def _tested(design: _Design, test: str) -> list[str]:
    return [one for one in design.references if one in design.rows[test]]


# ------------------------------------------------------------------------------------------------------ table


def fit_encoding(
    activations: Activations,
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    *,
    scheme: str = "by image",
    tests: Sequence[str] = ("RE", "AI", "AN"),
    n_folds: int | None = None,
    alphas: Sequence[float] = ALPHAS,
    n_bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict voxels from each stage: trained on photographs, tested on held-out photographs and on AI and AN.

    Parameters
    ----------
    activations : Activations
        Responses of the network's stages to all stimuli of the table.
    patterns_by_subject : mapping of str to Patterns
        Responses of voxels to all stimuli of the table; presentations are averaged first.
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id.
    scheme : {"by image", "all"}
        ``"by image"``: an image is predicted by a model that never saw the photograph it was made from.
        ``"all"``: one model trained on all photographs, as in Zhang et al.; no row for RE, which would be in-sample.
    tests : sequence of str
        Kinds to test; those that the table does not hold give no rows.
    n_folds : int, optional
        Of ``"by image"``: one photograph a fold up to 20 photographs, else 10 folds.
    alphas : sequence of float
        Ridge penalties, in units of the mean squared length of the centered training features.
    n_bootstrap : int
        Resamples of the test images, the same for all rows; 0 for no interval.
    seed : int
        Of folds and resamples.
    confidence : float
        Of the interval.
    progress : callable, optional
        Called as ``progress(stages_done, stages)``.

    Returns
    -------
    pandas.DataFrame
        The table ``encoding.csv``: subject, roi, layer, test, r (Pearson over images, mean over voxels), ci_low,
        ci_high, n_voxels, n_constant (voxels whose correlation is undefined, left out of r), n_train, n_test, alpha
        (median over voxels of the median over folds), scheme, method.

    Raises
    ------
    InputError
        When stimuli, activations and patterns do not hold the same ids, a derived image has no photograph, or there
        are fewer than 4 photographs.

    Notes
    -----
    Differs from Zhang et al. (2021) in the solver (ridge, they used ROMP), in the interval (over images, they
    subsample vertices) and by default in holding out the photograph. An AI image resembles the photograph that it was
    made from; under ``"all"`` the model has seen the response to that photograph, and r on AI is high even where stage
    and voxels have nothing in common (.57 in a simulation with responses to AI and RE correlated at .6; 0 under
    ``"by image"``).

    The interval resamples test images of models that stay as they are. It leaves out what another training set would
    change and is too narrow: where voxels and stage had nothing in common it missed 0 in about a quarter of simulated
    ROIs (12 to 48 % over settings, with 16 or 40 photographs) instead of 5 %. It is no test against 0.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, Forward Encoding Modeling.
    """
    import pandas as pd

    design = _design(table, tests, scheme, n_folds, seed)
    rows_of = match_ids(activations.ids, design.ids, "activations", "the stimulus table")
    targets = _targets(patterns_by_subject, design.ids)
    varies = np.ptp(targets.values[list(design.rows["RE"].values())], axis=0) > 0
    found: list[dict[str, Any]] = []
    for done, layer in enumerate(activations.stages):
        features = _finite(activations.read(layer)[rows_of], design.ids, layer)
        predicted, alpha = _predict(reduce_features(features), targets.values[:, varies], design, alphas)
        for test, prediction in predicted.items():
            measured = targets.values[[design.rows[test][one] for one in _tested(design, test)]]
            whole = np.zeros_like(measured)
            whole[:, varies] = prediction
            chosen = np.full(len(varies), np.nan)
            chosen[varies] = alpha
            counts = bootstrap_counts(len(measured), n_bootstrap, seed)
            common = {"layer": layer, "test": test, "n_train": design.n_train, "n_test": len(measured)}
            common |= {"scheme": scheme, "method": _method(design, counts, confidence)}
            for (subject, roi), columns in targets.groups.items():
                score = _score(whole[:, columns], measured[:, columns], chosen[columns], counts, confidence)
                found.append({"subject": subject, "roi": roi} | common | score)
        if progress is not None:
            progress(done + 1, len(activations.stages))
    return pd.DataFrame(found)[list(COLUMNS)]


COLUMNS = (
    "subject", "roi", "layer", "test", "r", "ci_low", "ci_high", "n_voxels", "n_constant", "n_train", "n_test", "alpha",
    "scheme", "method",
)  # fmt: skip
"""Columns of ``encoding.csv``."""


def _finite(features: np.ndarray, ids: Sequence[str], layer: str) -> np.ndarray:
    broken = [name for name, row in zip(ids, features) if not np.isfinite(row).all()]
    if broken:
        raise InputError(f"stage '{layer}': NaN or infinite activations for {name_ids(broken)}; leave it out.")
    return features


def _score(
    predicted: np.ndarray, measured: np.ndarray, alpha: np.ndarray, counts: np.ndarray, confidence: float
) -> dict[str, float | int]:
    """Average the correlations of one ROI's voxels and resample the images."""
    r = column_correlations(predicted, measured)
    defined = np.isfinite(r)
    score: dict[str, float | int] = {"n_voxels": len(r), "n_constant": int((~defined).sum())}
    if not defined.any():
        return score | dict.fromkeys(("r", "ci_low", "ci_high", "alpha"), float("nan"))
    drawn = column_correlations(predicted[:, defined], measured[:, defined], counts)
    valid = np.isfinite(drawn)
    means = np.where(valid, drawn, 0).sum(axis=1) / np.where(valid.any(axis=1), valid.sum(axis=1), np.nan)
    low, high = percentile_interval(means, confidence)
    middle = float(np.median(alpha[defined]))
    return score | {"r": float(r[defined].mean()), "ci_low": float(low), "ci_high": float(high), "alpha": middle}


def _method(design: _Design, counts: np.ndarray, confidence: float) -> str:
    text = (
        "ridge on training-mean-centered features, alpha per voxel by leave-one-image-out within the training "
        "photographs, in units of the mean squared feature length; Pearson r over images, mean over voxels; "
    )
    if design.scheme == "all":
        text += "trained on all photographs"
    else:
        text += (
            f"{len(design.folds)} folds over photographs, predictions relative to mean and spread of each fold's fit"
        )
    if not len(counts):
        return text + "; no interval"
    n_resamples, n = counts.shape
    return (
        f"{text}; {confidence:.0%} percentile bootstrap over {n} test images, {n_resamples} resamples, "
        "models not fitted again (too narrow: no test against 0)"
    )
