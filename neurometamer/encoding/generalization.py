"""Train encoding models on photographs and test them on all image types, with permutation p.

The models see the responses to regular images only. What they predict for images that were made
from held-out photographs says whether stage and voxel still agree where the images pull them apart.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.patterns import Patterns
from neurometamer.activations import Activations
from neurometamer.arguments import checked
from neurometamer.encoding.design import (
    SCHEMES,
    Design,
    EncodingOptions,
    check_table,
    choose_options,
    make_design,
)
from neurometamer.encoding.solvers import (
    EQUAL,
    SOLVERS,
    TrainingSet,
    column_correlations,
    reduce_features,
)
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.compute import match_ids, mean_responses
from neurometamer.stats.families import correct_p
from neurometamer.stats.resampling import (
    count_orders,
    p_from_count,
    permutation_orders,
    permutation_p,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "SCHEMES", "EncodingOptions", "check_encoding", "fit_encoding"]

MANY_AT_THE_EDGE = 0.25
"""Share of a region's penalties at an end of the grid from which a warning names the region."""

COLUMNS = (
    "subject",
    "roi",
    "layer",
    "test",
    "r",
    "p",
    "p_corrected",
    "n_voxels",
    "n_constant",
    "n_train",
    "n_test",
    "alpha",
    "at_smallest_alpha",
    "at_largest_alpha",
    "scheme",
    "method",
)
"""Columns of ``encoding.csv``."""


@checked
def fit_encoding(
    activations: Activations,
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    *,
    options: EncodingOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """Predict voxels from each stage: trained on photographs, tested on all image types.

    Parameters
    ----------
    activations : Activations
        Responses of the network's stages to all stimuli of the table.
    patterns_by_subject : mapping of str to Patterns
        Responses of voxels to all stimuli of the table. Presentations are averaged first.
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id.
    options : EncodingOptions, optional
        Solver, scheme, folds, permutations and the rest.
    progress : callable, optional
        Called as ``progress(fits_done, fits)``, one fit a stage and permutation.
    **settings : object
        Fields of `EncodingOptions`, instead of or on top of `options`.

    Returns
    -------
    pandas.DataFrame
        The table ``encoding.csv``, a row for each subject (and ``"mean"`` of several subjects),
        region, stage and image type: r (Pearson over images, mean over voxels), p (one-tailed),
        p_corrected, n_voxels, n_constant (voxels whose correlation is undefined, left out of r),
        n_train, n_test, alpha (median over voxels of the median over folds), at_smallest_alpha and
        at_largest_alpha (share of voxels × folds whose penalty is an end of the grid), scheme,
        method.

    Raises
    ------
    InputError
        When an argument makes no sense; when stimuli, activations and patterns do not hold the same
        ids, a derived image has no photograph, or there are fewer than 4 photographs; when a test
        image equals a training image in every stage and ``allow_repeats`` is False.

    Warns
    -----
    UserWarning
        When a region has a quarter or more of its penalties at an end of the grid.

    Notes
    -----
    Differs from Zhang et al. (2021) in the solver (ridge, they used ROMP) and by default in holding
    out the photograph. An AI image resembles the photograph that it was made from. Under ``"all"``
    the model has seen the response to that photograph, and r on AI is high even where stage and
    voxels have nothing in common; under ``"by image"`` it is 0 on average. The permutations share
    that resemblance, so p holds under both schemes.

    p comes from permuting which photograph's responses belong to which photograph's features. The
    images made from a photograph move with it, so that what the responses to RE, AI and AN of one
    photograph share is kept; only photographs with the same image types change places. Penalties
    are chosen and models fitted again in each permutation, alike for all subjects, regions and
    stages. Simulated with voxels that have nothing in common with the stage (16 and 40 photographs,
    features of falling variance, correlated voxels, responses to AI and RE correlated at .6, both
    schemes), p was at most .05 in 4.0 to 5.6 % of 1,000 data sets each, also where r of AI under
    ``"all"`` was .23 (40 photographs) and .34 (16) on average.

    There is no interval. One that resamples the test images of fixed models leaves out what other
    training images would change: in the same simulations it missed the truth in 10 to 48 % of data
    sets instead of 5 %.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, Forward Encoding Modeling; Phipson & Smyth
    (2010), Stat Appl Genet Mol Biol 9:39 (p of permutations).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from fmri import Patterns
    >>> from neurometamer import Activations, fit_encoding
    >>> random, ids = np.random.default_rng(0), [f"photo{i}" for i in range(12)]
    >>> features = random.normal(size=(12, 30)).astype("f4")
    >>> stage = Activations(
    ...     ids=tuple(ids), stages=("conv1",), n_units={"conv1": 30}, arrays={"conv1": features}
    ... )
    >>> observations = {"condition": ids, "presentation": 1, "run": "1", "session": ""}
    >>> voxels = {"subject": "01", "roi": "V1", "i": range(5), "j": 0, "k": 0}
    >>> patterns = Patterns(
    ...     values=features @ random.normal(size=(30, 5)),
    ...     observations=pd.DataFrame(observations),
    ...     voxels=pd.DataFrame(voxels),
    ... )
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> rows = fit_encoding(stage, {"01": patterns}, table, alphas=[1.0], n_permutations=19)
    >>> rows[["roi", "test", "n_test"]]
      roi test  n_test
    0  V1   RE      12
    """
    import pandas as pd

    chosen = choose_options(options, settings)
    if not patterns_by_subject:
        raise InputError("patterns_by_subject: no subject is given; give Patterns of at least one.")
    check_table(table)
    design = make_design(table, chosen)
    rows = match_ids(activations.ids, design.ids, "activations", "the stimulus table")
    if not chosen.allow_repeats:
        _refuse_repeats(activations, rows, design)
    targets = _Targets.of(patterns_by_subject, design)
    orders, method = _permutations(design)
    n_done = 0
    n_fits = len(activations.stages) * (1 + len(orders))
    table_rows: list[dict[str, Any]] = []
    for layer in activations.stages:
        features = activations.read(layer)[rows]
        is_finite = np.isfinite(features).all(axis=1)
        if broken := [name for name, finite in zip(design.ids, is_finite) if not finite]:
            raise InputError(
                f"stage '{layer}': NaN or infinite activations for {name_ids(broken)}; leave it "
                "out."
            )
        reduced = reduce_features(features)
        folds = [_Fold.of(reduced, design, held_out) for held_out in design.folds]
        score = _score_regions(folds, targets, design, np.arange(len(design.references)))
        null = np.empty((len(orders), *score.r.shape))
        n_done += 1
        if progress is not None:
            progress(n_done, n_fits)
        for null_r, order in zip(null, orders):
            null_r[:] = _score_regions(folds, targets, design, order).r
            n_done += 1
            if progress is not None:
                progress(n_done, n_fits)
        table_rows += _layer_rows(layer, score, null, targets, design)
    result = pd.DataFrame(table_rows)
    result = result.assign(scheme=chosen.scheme, method=method)
    _warn_at_the_edge(result, chosen.penalties)
    # all stages, regions and subjects of one image type are a family; means are another
    is_mean = result["subject"] == "mean"
    families = result.groupby([result["test"], is_mean])["p"]
    corrected = families.transform(lambda p: correct_p(p.to_numpy(), chosen.correction))
    return result.assign(p_corrected=corrected)[list(COLUMNS)]


def check_encoding(
    table: pd.DataFrame, *, options: EncodingOptions | None = None, **settings: Any
) -> None:
    """Refuse what `fit_encoding` would refuse, before there are activations and responses.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id.
    options : EncodingOptions, optional
        See `fit_encoding`.
    **settings : object
        Fields of `EncodingOptions`, instead of or on top of `options`.

    Raises
    ------
    InputError
        When an argument makes no sense, or these stimuli cannot be trained on and tested.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer.encoding.generalization import check_encoding
    >>> ids = ["cat", "dog", "cup"]
    >>> try:
    ...     check_encoding(pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids}))
    ... except ValueError as error:
    ...     print(error)
    encoding: 3 photographs (RE); at least 4 are needed.
    """
    chosen = choose_options(options, settings)
    check_table(table)
    make_design(table, chosen)


def _refuse_repeats(activations: Activations, rows: np.ndarray, design: Design) -> None:
    """Refuse test images that a model was trained on under another id.

    Images with the same pixels have the same activations in every stage, whatever their ids.
    """
    signatures = [hashlib.sha256() for _ in rows]
    for stage in activations.stages:
        for signature, values in zip(signatures, activations.read(stage)[rows]):
            signature.update(np.ascontiguousarray(values).tobytes())
        contents = [signature.digest() for signature in signatures]
        if len(set(contents)) == len(contents):
            return
    repeats = []
    for held_out in design.folds:
        training_rows = design.rows_of("RE", design.training(held_out))
        training = {contents[row]: row for row in training_rows}
        for test in design.tests:
            for row in design.rows_of(test, held_out):
                original = training.get(contents[row])
                if original is not None:
                    repeats.append(f"{design.ids[row]} = {design.ids[original]}")
    if repeats:
        raise InputError(
            "encoding: test images equal training images in every stage, as images with the same "
            f"pixels do: {name_ids(sorted(repeats))}. Their r would be no prediction. Remove them "
            "from the stimuli, or ask for it: allow_repeats=True (--allow-repeats; in a study "
            "encoding.allow_repeats = true)."
        )


# ------------------------------------------------------------------------------ fits and scores


@dataclass(frozen=True, kw_only=True, eq=False)
class _Targets:
    """Responses of all subjects side by side, by image type and photograph."""

    values: dict[str, np.ndarray]
    """Image type to (n_photographs, n_voxels); NaN where a photograph has no image of that type."""
    varies: np.ndarray
    """Whether each voxel answers differently to the photographs."""
    groups: dict[tuple[str, str], np.ndarray]
    """Subject and region to the columns of their voxels."""

    @classmethod
    def of(cls, patterns_by_subject: Mapping[str, Patterns], design: Design) -> _Targets:
        """Average presentations and put photographs and subjects in order."""
        parts = []
        columns_of: dict[tuple[str, str], list[int]] = {}
        n_voxels = 0
        for subject, patterns in patterns_by_subject.items():
            parts.append(mean_responses(patterns, design.ids, subject))
            for roi in patterns.voxels["roi"]:
                label = (subject, str(roi))
                columns_of.setdefault(label, []).append(n_voxels)
                n_voxels += 1
        responses = np.concatenate(parts, axis=1)
        shape = (len(design.references), n_voxels)
        values = {}
        for kind in dict.fromkeys(("RE", *design.tests)):
            rows_of_kind = design.rows[kind]
            has_image = [reference in rows_of_kind for reference in design.references]
            rows = design.rows_of(kind, design.references)
            values[kind] = np.full(shape, np.nan)
            values[kind][has_image] = responses[rows]
        groups = {label: np.array(columns) for label, columns in columns_of.items()}
        varies = np.ptp(values["RE"], axis=0) > 0
        return cls(values=values, varies=varies, groups=groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """One training set with its prepared features, and the features to predict from."""

    train: np.ndarray
    """Index of each training photograph."""
    training_set: TrainingSet
    features: dict[str, np.ndarray]
    """Image type to the features of the held-out images."""
    test: dict[str, np.ndarray]
    """Image type to the index of each held-out image's photograph."""

    @classmethod
    def of(cls, features: np.ndarray, design: Design, held_out: Sequence[str]) -> _Fold:
        """Prepare the features of one stage for the photographs that are not held out."""
        index_of = {reference: index for index, reference in enumerate(design.references)}
        training = design.training(held_out)
        training_features = features[design.rows_of("RE", training)]
        solver = SOLVERS[design.options.solver]
        test_features, test_index = {}, {}
        for test in design.tests:
            tested = design.having(test, held_out)
            test_features[test] = features[design.rows_of(test, held_out)]
            test_index[test] = np.array([index_of[reference] for reference in tested], int)
        return cls(
            train=np.array([index_of[reference] for reference in training]),
            training_set=solver.prepare(training_features, design.options.penalties),
            features=test_features,
            test=test_index,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Score:
    """Correlations of one stage: a row an image type, a column a subject and region."""

    r: np.ndarray
    n_constant: np.ndarray
    alpha: np.ndarray
    at_smallest: np.ndarray
    at_largest: np.ndarray


def _score_regions(
    folds: Sequence[_Fold], targets: _Targets, design: Design, order: np.ndarray
) -> _Score:
    """Fit and test one stage, with the photographs' responses in the order given."""
    varies = targets.varies
    responses = {}
    for kind, values in targets.values.items():
        responses[kind] = values[order][:, varies]
    predicted, alphas = _predict(folds, responses, design)
    chosen = np.full((len(folds), len(varies)), np.nan)
    chosen[:, varies] = alphas
    penalties = design.options.penalties
    shape = (len(design.tests), len(targets.groups))
    score = _Score(
        r=np.full(shape, np.nan),
        n_constant=np.zeros(shape, dtype=np.int64),
        alpha=np.full(shape, np.nan),
        at_smallest=np.full(shape, np.nan),
        at_largest=np.full(shape, np.nan),
    )
    for row, test in enumerate(design.tests):
        has_image = ~np.isnan(responses[test][:, 0])
        measured = responses[test][has_image]
        r = np.full(len(varies), np.nan)
        r[varies] = column_correlations(predicted[test][has_image], measured)
        for column, voxels in enumerate(targets.groups.values()):
            defined = voxels[np.isfinite(r[voxels])]
            score.n_constant[row, column] = len(voxels) - len(defined)
            if not len(defined):
                continue
            score.r[row, column] = r[defined].mean()
            if not SOLVERS[design.options.solver].takes_alphas:
                continue
            alpha = chosen[:, defined]
            score.alpha[row, column] = np.median(np.median(alpha, axis=0))
            score.at_smallest[row, column] = np.mean(alpha == penalties[0])
            score.at_largest[row, column] = np.mean(alpha == penalties[-1])
    return score


def _predict(
    folds: Sequence[_Fold], responses: Mapping[str, np.ndarray], design: Design
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predict every tested image from its fold; pool the folds without bias.

    Two things that differ between folds would give a negative correlation where there is no
    relation at all (about -.5 with 16 photographs, one a fold; -.2 from the second alone). The
    intercept moves against the held-out response: predictions are taken relative to it. The penalty
    shrinks less, the worse the held-out image fits the rest: predictions are taken in units of the
    standard deviation of the fold's fitted values.
    """
    shape = responses["RE"].shape
    predicted = {test: np.zeros(shape) for test in design.tests}
    photographs = responses["RE"]
    rounding = EQUAL * np.std(photographs, axis=0)
    alphas = np.empty((len(folds), shape[1]))
    for chosen, fold in zip(alphas, folds):
        fit = fold.training_set.fit(photographs[fold.train])
        chosen[:] = fit.alphas
        # A voxel that answers to the held-out photograph only leaves nothing to fit: it predicts 0.
        spread = fit.spread
        # a strong penalty shrinks what is fitted, and its rounding
        least = rounding / np.fmax(1, fit.alphas)
        inverse = 1 / np.maximum(spread, np.finfo(float).tiny)
        scale = np.where(spread > least, inverse, 0)
        for test in design.tests:
            prediction = fit.predict(fold.features[test])
            held_out = fold.test[test]
            predicted[test][held_out] = prediction * scale
    return predicted, alphas


# --------------------------------------------------------------------------------- p and the table


def _permutations(design: Design) -> tuple[np.ndarray, str]:
    """Draw orders of the photographs, and describe how everything is fitted and tested.

    Only photographs with the same image types change places.
    """
    n = len(design.references)
    options = design.options
    trained = "trained on all photographs"
    if options.scheme != "all":
        trained = (
            f"{len(design.folds)} folds over photographs, predictions relative to mean and spread "
            "of each fold's fit"
        )
    label = SOLVERS[options.solver].label
    method = f"{label}; Pearson r over images, mean over voxels; {trained}"
    if options.n_permutations == 0:
        return np.empty((0, n), dtype=np.int64), f"{method}; no p"
    types = []
    for reference in design.references:
        held = []
        for test in design.tests:
            if reference in design.rows[test]:
                held.append(test)
        types.append(" ".join(held))
    blocks, where = None, "freely"
    if len(set(types)) > 1:
        blocks, where = types, "among those with the same image types"
    orders = permutation_orders(n, options.n_permutations, options.seed, blocks)
    exact = ""
    if count_orders(n, blocks) - 1 == len(orders):
        exact = ", all there are (exact)"
    least = p_from_count(0, len(orders))
    method += (
        f"; p one-tailed, photographs permuted {where} with the images made from them, models "
        f"fitted again, {len(orders)} orders{exact}, least p {least:.2g}; p_corrected: "
        f"{options.correction} over stages, regions and subjects of one image type"
    )
    return orders, method


def _layer_rows(
    layer: str, score: _Score, null: np.ndarray, targets: _Targets, design: Design
) -> list[dict[str, Any]]:
    """Write the rows of one stage: each subject and region, then the mean over subjects."""
    p = np.full(score.r.shape, np.nan)
    if len(null):
        p = permutation_p(score.r, null)
    subjects = {subject for subject, _ in targets.groups}
    sizes = [len(voxels) for voxels in targets.groups.values()]
    columns_of: dict[str, list[int]] = {}
    for column, (_, roi) in enumerate(targets.groups):
        columns_of.setdefault(roi, []).append(column)
    rows = []
    for i, test in enumerate(design.tests):
        common = {
            "layer": layer,
            "test": test,
            "n_train": design.n_train,
            "n_test": len(design.having(test, design.references)),
        }
        for j, (subject, roi) in enumerate(targets.groups):
            row = {
                "subject": subject,
                "roi": roi,
                "r": score.r[i, j],
                "p": p[i, j],
                "n_voxels": sizes[j],
                "n_constant": int(score.n_constant[i, j]),
                "alpha": score.alpha[i, j],
                "at_smallest_alpha": score.at_smallest[i, j],
                "at_largest_alpha": score.at_largest[i, j],
            }
            rows.append(common | row)
        if len(subjects) == 1:
            continue
        # the mean of each region over the subjects that have it; permutations are theirs jointly
        for roi, columns in columns_of.items():
            defined = [column for column in columns if np.isfinite(score.r[i, column])]
            mean = mean_p = math.nan
            if defined:
                mean = score.r[i, defined].mean()
            if defined and len(null):
                null_means = null[:, i, defined].mean(axis=1)
                mean_p = float(permutation_p(np.array(mean), null_means))
            row = {
                "subject": "mean",
                "roi": roi,
                "r": mean,
                "p": mean_p,
                "n_voxels": sum(sizes[column] for column in columns),
                "n_constant": int(score.n_constant[i, columns].sum()),
                "alpha": math.nan,
                "at_smallest_alpha": math.nan,
                "at_largest_alpha": math.nan,
            }
            rows.append(common | row)
    return rows


def _warn_at_the_edge(result: pd.DataFrame, penalties: np.ndarray) -> None:
    """Name the regions whose best penalty may lie outside the grid.

    At the smallest penalty any stage counts. The largest is what voxels get that a stage cannot
    predict, so there it is the stage with the fewest such voxels.
    """
    if len(penalties) == 1:
        return
    single = result[result["subject"] != "mean"]
    upward = "no stage predicts these voxels, or widen it upward"
    edges = [
        ("at_smallest_alpha", penalties[0], "max", "widen the grid downward"),
        ("at_largest_alpha", penalties[-1], "min", upward),
    ]
    parts = []
    for column, alpha, over_stages, advice in edges:
        by_stage = single.groupby(["subject", "roi", "layer"], sort=False)[column].mean()
        shares = by_stage.groupby(["subject", "roi"], sort=False).agg(over_stages)
        many = shares[shares >= MANY_AT_THE_EDGE].reset_index(name="share")
        regions = many.to_dict("records")
        names = [f"{region['subject']} {region['roi']} {region['share']:.0%}" for region in regions]
        if names:
            parts.append(f"at {alpha:g} {name_ids(names)} ({advice})")
    if parts:
        warnings.warn(
            "encoding: penalties at an end of the grid, share of voxels and folds by region: "
            f"{'; '.join(parts)}. The grid is alphas (--alphas, encoding.alphas); the table has "
            "the shares of each stage.",
            UserWarning,
            stacklevel=4,
        )
