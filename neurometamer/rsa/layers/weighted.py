"""Cross-validated models of a region: best layer, non-negative combination of layers, average."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.comparators.table import comparator_name, find_comparator
from neurometamer.rsa.layers.cross_validation import (
    MODELS,
    N_CV,
    Fits,
    Region,
    check_parts,
    corrected_covariance,
    default_folds,
)
from neurometamer.rsa.layers.matrix import ModelBrain, control_false_discoveries, join_model_brain
from neurometamer.rsa.sampling import Progress, Sampling, sample_images
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

TRAINING = {
    "stimuli": "the same subject's RDM of the training stimuli",
    "subjects": "the other subjects' RDMs of all stimuli (stimuli are not held out)",
    "both": "the other subjects' RDMs of the training stimuli",
}
"""Name of what a model is fitted to, to what it is."""


LEAST_VARIANCE = 0.1
"""Least share of the variance over resamples, whatever the correction for random folds would leave.

The corrected variance is a small difference of two large ones and came out below 0 in 11 to 36 % of
simulated studies; a p from one that is near 0 by chance says nothing.
"""


@short_repr
@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """How the data are parted into those that fit models of a region and those that test them.

    Parameters
    ----------
    train_on : str
        One of `TRAINING`. A region of a single subject takes ``"stimuli"`` instead of ``"both"``,
        and says so.
    n_folds : int, optional
        Parts of the stimuli, at least 4 stimuli each; by default 2 to 5, so that resamples fill
        them (`default_folds`).
    n_repeats : int
        Random assignments to folds over which scores are averaged, 1 or more.

    Raises
    ------
    InputError
        For an unknown name, or no assignment at all.

    Examples
    --------
    >>> CrossValidation(n_folds=2).train_on
    'both'
    """

    train_on: str = "both"
    n_folds: int | None = None
    n_repeats: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        if self.train_on not in TRAINING:
            raise unknown_name("training", self.train_on, TRAINING)
        if self.n_repeats < 1:
            raise InputError(f"n_repeats is {self.n_repeats}; give at least 1.")


@short_repr
@dataclass(frozen=True)
class FlexibleModels:
    """Tables of `flexible_models`.

    Parameters
    ----------
    best_layer : pandas.DataFrame
        The table ``best_layer.csv``: kind, roi, subject, layer (chosen most often), chosen (all,
        over folds), score (cross-validated), ci_low, ci_high, naive_layer, naive_score (chosen and
        scored on the same data: biased upward), optimism (naive minus cross-validated), reason,
        method, n.
    models : pandas.DataFrame
        The table ``weighted.csv``: kind, roi, subject, model, score, ci_low, ci_high, p, q, family,
        weights, reason, method, n.
    differences : pandas.DataFrame
        The table ``weighted_difference.csv``: kind, roi, subject, contrast, difference, ci_low,
        ci_high, p, q, family, reason, method, n.
    """

    best_layer: pd.DataFrame
    models: pd.DataFrame
    differences: pd.DataFrame


# --------------------------------------------------------------------------------------- evaluation


@checked
def flexible_models(
    network: RDMs,
    brain: RDMs,
    *,
    image_type: str | None = None,
    comparator: str = "spearman",
    join: str = "exact",
    folds: CrossValidation | None = None,
    n_resamples: int = 1000,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> FlexibleModels:
    """Choose the best layer and weigh layers on a part of the data; score both on the rest.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi.
    image_type : str or None
        Image type compared, joined by photograph. By default all stimuli as they are named, where
        they are of one type; ``"all"`` takes them whatever their types (`take_image_type`).
    comparator : str
        One of `COMPARATORS`: chooses the layer and scores. Weights are fitted by least squares to
        z-scored RDMs (Pearson), or for ``"cosine"`` to RDMs of unit length.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    folds : CrossValidation, optional
        On what models are fitted, and how stimuli are parted; the defaults of `CrossValidation`
        when not given.
    n_resamples : int
        Resamples of the stimuli, each cross-validated anew; 0 for no intervals and no p.
    classes : str
        One of `CLASS_CLAIMS`: where the RDMs know classes (pattern descriptor category), stimuli
        are resampled within them (``"fixed"``), or classes are resampled, and whole classes are
        held out (``"random"``, from 10 classes on).
    seed : int
        Seed of folds and resamples.
    confidence : float
        Share of intervals that hold the truth, in (0, 1).
    progress : callable, optional
        Receives (resamples done, resamples in all), over all regions.

    Returns
    -------
    FlexibleModels
        Tables of the best layer, of the three models (weighted, best layer, average) and of their
        paired differences. Rows with subject ``mean`` hold the mean over subjects (subjects are not
        resampled).

    Raises
    ------
    InputError
        When ids do not match, a name is unknown, or stimuli or subjects are too few for the folds.

    Notes
    -----
    Pairs of a training and a test stimulus are left out (`fold_pairs`). A score is the mean
    over folds and repeats of the similarity on the test pairs alone; it is of fewer pairs than a
    score of all stimuli and should be compared only with scores of the same folds.

    The interval is score ± t · SE with n - 1 degrees of freedom (n stimuli), SE from the bootstrap
    over stimuli with cross-validation inside, corrected for the random folds, as
    ``rsatoolbox.inference.bootstrap_crossval`` with ``boot_type="pattern"``. Its limits: a resample
    holds 63 % of the stimuli, so models are fitted on fewer and its level is too low, which is why
    only its variance is used; it speaks of other stimuli, not of other subjects; and p is
    two-tailed and approximate. It is held above a share of the uncorrected variance
    (`LEAST_VARIANCE`).

    Simulated: a network that sees other photographs than the 3 subjects, 3 layers, 40 photographs,
    100 voxels with correlated noise, 100 resamples. p <= .05 came in 2 to 6 % of 350 studies
    (``benchmarks/LEVELS.md``); the standard error was too wide by 1.1 to 1.5 times on average.

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566; Khaligh-Razavi & Kriegeskorte (2014), PLoS Comput Biol
    10:e1003915.

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random, ids = np.random.default_rng(0), [f"im{i}" for i in range(8)]
    >>> vectors = random.random((2, 28))
    >>> network = label_rdms(
    ...     vectors, conditions=ids, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    ... )
    >>> places = {"subject": ["S1", "S2"], "roi": ["V1", "V1"]}
    >>> responses = vectors[:1] + 0.5 * random.random((2, vectors.shape[1]))
    >>> brain = label_rdms(responses, conditions=ids, rdm_descriptors=places, measure="test")
    >>> folds = CrossValidation(n_folds=2, n_repeats=2)
    >>> models = flexible_models(network, brain, folds=folds, n_resamples=0).models
    >>> models[models["subject"] == "mean"][["model", "score"]].round(2).values.tolist()
    [['weighted', 0.81], ['best layer', 0.81], ['average', 0.54]]
    """
    joined = join_model_brain(network, brain, image_type=image_type, join=join)
    return fit_joined(
        joined,
        comparator=comparator,
        folds=folds,
        n_resamples=n_resamples,
        classes=classes,
        seed=seed,
        confidence=confidence,
        progress=progress,
    )


def fit_joined(
    joined: ModelBrain,
    *,
    comparator: str = "spearman",
    folds: CrossValidation | None = None,
    n_resamples: int = 1000,
    classes: str = "fixed",
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> FlexibleModels:
    """Fit models of regions that are joined with layers already: the tables of `flexible_models`.

    Parameters
    ----------
    joined : ModelBrain
        See `join_model_brain`.
    comparator, folds, n_resamples, classes, seed, confidence, progress : object
        See `flexible_models`.

    Returns
    -------
    FlexibleModels
        See `flexible_models`.

    Raises
    ------
    InputError
        See `flexible_models`.
    """
    import pandas as pd

    comparator = comparator_name(comparator)
    folds = folds or CrossValidation()
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1, not {confidence}.")
    sampling = sample_images(joined.labels, classes)
    n_folds = folds.n_folds
    if n_folds is None:
        n_folds = default_folds(len(sampling.strata))
    if folds.train_on != "subjects":
        check_parts(joined.labels, sampling, n_folds, classes)
    everything = np.ones(len(joined.ids), dtype=int)
    counts = sampling.counts(n_resamples, seed)
    n_rois = len(joined.rois)
    best, models, differences = [], [], []
    for number, (roi, (names, vectors)) in enumerate(joined.rois.items()):
        scheme = folds.train_on
        if len(names) == 1 and scheme == "subjects":
            raise InputError(
                f"ROI '{roi}' has one subject ({name_ids(names)}); training on other subjects "
                "needs at least 2; use train_on='stimuli'."
            )
        if len(names) == 1:
            scheme = "stimuli"
        holds_out_stimuli = scheme != "subjects"
        region = Region(
            layers=joined.layer_vectors,
            subjects=vectors,
            comparator=comparator,
            train_on=scheme,
            n_folds=n_folds if holds_out_stimuli else 1,
            clusters=sampling.clusters,
        )
        n_repeats = folds.n_repeats if holds_out_stimuli else 1
        fits = region.evaluate(everything, n_repeats, generator(seed, "folds", roi))

        def tell(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, n_rois * total)

        random = generator(seed, "folds of resamples", roi)
        drawn, left_out = region.resampled(counts, random, tell)
        tables = _RegionTables(
            joined=joined,
            roi=roi,
            names=names,
            region=region,
            fits=fits,
            drawn=drawn,
            left_out=left_out,
            confidence=confidence,
            sampling=sampling,
        )
        best += tables.best_rows(find_comparator(comparator)(joined.layer_vectors, vectors))
        models += tables.model_rows()
        differences += tables.difference_rows()
    return FlexibleModels(
        best_layer=pd.DataFrame(best),
        models=control_false_discoveries(pd.DataFrame(models), ("subject", "model")),
        differences=control_false_discoveries(pd.DataFrame(differences), ("subject", "contrast")),
    )


@checked
def best_layers(network: RDMs, brain: RDMs, **options: Any) -> pd.DataFrame:
    """Choose the best layer of each region on one part of the data and score it on the rest.

    Parameters
    ----------
    network, brain : rsatoolbox.rdm.RDMs
        RDMs as in `flexible_models`.
    **options : object
        Other parameters of `flexible_models`.

    Returns
    -------
    pandas.DataFrame
        `FlexibleModels.best_layer`: the cross-validated score beside the naive (circular) one.

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random, ids = np.random.default_rng(0), [f"im{i}" for i in range(8)]
    >>> vectors = random.random((2, 28))
    >>> network = label_rdms(
    ...     vectors, conditions=ids, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    ... )
    >>> places = {"subject": ["S1", "S2"], "roi": ["V1", "V1"]}
    >>> responses = vectors[:1] + 0.5 * random.random((2, vectors.shape[1]))
    >>> brain = label_rdms(responses, conditions=ids, rdm_descriptors=places, measure="test")
    >>> folds = CrossValidation(n_folds=2, n_repeats=2)
    >>> table = best_layers(network, brain, folds=folds, n_resamples=0)
    >>> table[["subject", "layer", "score", "naive_score"]].round(2).values.tolist()
    [['S1', 'conv1', 0.86, 0.91], ['S2', 'conv1', 0.77, 0.88], ['mean', 'conv1', 0.81, 0.9]]
    """
    return flexible_models(network, brain, **options).best_layer


# ------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, kw_only=True, eq=False)
class _RegionTables:
    """Rows of the tables for one region."""

    joined: ModelBrain
    roi: str
    names: tuple[str, ...]
    region: Region
    fits: Fits
    drawn: np.ndarray
    left_out: int
    confidence: float
    sampling: Sampling

    @property
    def method(self) -> str:
        """Say what was fitted, tested and resampled."""
        region = self.region
        over = "leave one subject out"
        if region.n_folds > 1:
            over = (
                f"{region.n_folds} folds of stimuli x {len(self.fits.scores)} random assignments, "
                "crossing pairs left out"
            )
        text = f"{region.comparator}; fitted to {TRAINING[region.train_on]}; {over}"
        if len(self.drawn):
            text += (
                f"; {self.confidence:.0%} interval and p: t with {self.sampling.dof} df, SE of "
                f"{len(self.drawn)} bootstrap resamples of {self.sampling.text}, cross-validated "
                f"anew, corrected for {N_CV} random assignments (rsatoolbox bootstrap_crossval)"
            )
        if self.joined.left_out:
            text += f"; held by one side only and left out: {self.joined.left_out}"
        return text

    def _subjects(self) -> list[tuple[str, list[int]]]:
        """Name each subject with its column, and the mean with all of them."""
        groups = []
        everyone = []
        for column, name in enumerate(self.names):
            groups.append((name, [column]))
            everyone.append(column)
        groups.append(("mean", everyone))
        return groups

    def _row(self, subject: str, columns: dict[str, Any]) -> dict[str, Any]:
        return {
            "kind": self.joined.image_type,
            "roi": self.roi,
            "subject": subject,
            **columns,
            "method": self.method,
            "n": len(self.joined.ids),
        }

    def _interval(self, value: float, contrast: np.ndarray, columns: list[int]) -> dict[str, Any]:
        """Compute interval, p and reason of a weighted sum of models, averaged over subjects."""
        from scipy.stats import t

        interval = {"ci_low": np.nan, "ci_high": np.nan, "p": np.nan, "reason": ""}
        if len(self.drawn) < 2:
            reason = "no resamples asked for"
            n_resamples = len(self.drawn) + self.left_out
            if n_resamples:
                reason = f"{self.left_out} of {n_resamples} resamples hold too few stimuli"
            return interval | {"reason": f"no interval: {reason}"}
        sums = np.einsum("m,bmsr->bsr", contrast, self.drawn[:, :, columns])
        values = sums.mean(axis=1, keepdims=True)
        variance = float(corrected_covariance(values)[0, 0])
        uncorrected = float(values.mean(axis=2).var(ddof=1))
        reasons = []
        if self.left_out:
            reasons.append(f"{self.left_out} resamples of too few stimuli left out")
        if variance < LEAST_VARIANCE * uncorrected:
            variance = LEAST_VARIANCE * uncorrected
            reasons.append(
                "the choice of folds varies more than that of stimuli: the variance is held up, "
                "too wide"
            )
        if variance == 0:
            return interval | {"reason": "no interval: all resamples gave the same"}
        if self.sampling.in_classes:
            variance *= self.sampling.small_samples
        error = np.sqrt(variance)
        dof = self.sampling.dof
        half = error * t.ppf(0.5 + self.confidence / 2, dof)
        return {
            "ci_low": value - half,
            "ci_high": value + half,
            "p": float(2 * t.sf(abs(value) / error, dof)),
            "reason": "; ".join(reasons),
        }

    def best_rows(self, naive: np.ndarray) -> list[dict[str, Any]]:
        """Make the rows of the best layer, naive beside cross-validated."""
        model = MODELS.index("best layer")
        contrast = np.eye(len(MODELS))[model]
        all_chosen = np.array(self.fits.chosen)
        layers = self.joined.layers
        rows = []
        for subject, columns in self._subjects():
            scores = self.fits.scores[:, model, columns]
            score = float(scores.mean())
            interval = self._interval(score, contrast, columns)
            chosen = all_chosen[:, columns]
            counts = Counter(chosen.ravel().tolist())
            ranked = counts.most_common()
            n_choices = counts.total()
            shares = [f"{layers[layer]} {times}/{n_choices}" for layer, times in ranked]
            # the mean row's naive choice is made for each subject, as the cross-validated one is
            naive_choice = naive[:, columns].argmax(axis=0)
            naive_counts = Counter(naive_choice.tolist())
            naive_layer, _ = naive_counts.most_common(1)[0]
            naive_scores = naive[naive_choice, columns]
            naive_score = float(naive_scores.mean())
            row = {
                "layer": layers[ranked[0][0]],
                "chosen": "; ".join(shares),
                "score": score,
                "ci_low": interval["ci_low"],
                "ci_high": interval["ci_high"],
                "naive_layer": layers[naive_layer],
                "naive_score": naive_score,
                "optimism": naive_score - score,
                "reason": interval["reason"],
            }
            rows.append(self._row(subject, row))
        return rows

    def model_rows(self) -> list[dict[str, Any]]:
        """Make the rows of the scores of the models, with the mean weights."""
        unit = np.eye(len(MODELS))
        weights = np.array(self.fits.weights)  # (splits, subjects, layers)
        rows = []
        for subject, columns in self._subjects():
            mean_weights = weights[:, columns].mean(axis=(0, 1))
            shares = []
            for layer, weight in zip(self.joined.layers, mean_weights):
                if weight > 0:
                    shares.append(f"{layer} {weight:.3f}")
            for i, model in enumerate(MODELS):
                scores = self.fits.scores[:, i, columns]
                score = float(scores.mean())
                text = "; ".join(shares) if model == "weighted" else ""
                row = {
                    "model": model,
                    "score": score,
                    **self._interval(score, unit[i], columns),
                    "weights": text,
                }
                rows.append(self._row(subject, row))
        return rows

    def difference_rows(self) -> list[dict[str, Any]]:
        """Make the rows of the differences between models, paired over folds and resamples."""
        unit = np.eye(len(MODELS))
        rows = []
        for subject, columns in self._subjects():
            scores = self.fits.scores[:, :, columns]
            for first, second in ((0, 1), (0, 2), (1, 2)):
                contrast = unit[first] - unit[second]
                differences = np.einsum("m,rms->rs", contrast, scores)
                value = float(differences.mean())
                row = {
                    "contrast": f"{MODELS[first]} minus {MODELS[second]}",
                    "difference": value,
                    **self._interval(value, contrast, columns),
                }
                rows.append(self._row(subject, row))
        return rows
