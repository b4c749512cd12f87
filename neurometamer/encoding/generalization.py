"""Train encoding models on photographs and test them on all image types, with permutation p.

The models see the responses to regular images only. What they predict for images that were made
from held-out photographs says whether stage and voxel still agree where the images pull them apart.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.patterns import Patterns
from neurometamer.activations import Activations
from neurometamer.arguments import checked_with, fits, shown
from neurometamer.encoding.solvers import ALPHAS, EQUAL, Ridge, column_correlations, reduce_features
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.compute import MIN_CONDITIONS, match_ids, mean_responses
from neurometamer.stats.families import correct_p
from neurometamer.stats.permutation import (
    count_orders,
    p_from_count,
    permutation_orders,
    permutation_p,
)

if TYPE_CHECKING:
    import pandas as pd

SCHEMES = {
    "by image": "each photograph held out in turn with the images made from it",
    "all": "trained on all photographs (Zhang et al. 2021); photographs themselves are not tested",
}
"""Scheme name to what is held out."""

TESTS = ("RE", "AI", "AN")
"""Image types that are tested where the table holds them."""

LEAVE_ONE_OUT_UP_TO = 20
"""With as few photographs each fold holds out one; with more there are 10 folds."""

ALPHA_RANGE = (1e-100, 1e100)
"""Penalties outside of it are lost in the arithmetic."""

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


@checked_with(
    own=("activations", "patterns_by_subject", "table", "alphas", "tests", "seed", "n_folds")
)
def fit_encoding(
    activations: Activations,
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    *,
    scheme: str = "by image",
    tests: Sequence[str] | None = None,
    n_folds: int | None = None,
    alphas: Sequence[float] = ALPHAS,
    n_permutations: int = 200,
    correction: str = "fdr",
    allow_repeats: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
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
    scheme : {"by image", "all"}
        ``"by image"``: an image is predicted by a model that never saw the photograph it was made
        from. ``"all"``: one model trained on all photographs, as in Zhang et al.; it gives no row
        for RE, which would be in-sample.
    tests : sequence of str, optional
        Image types to test. All of RE, AI and AN that the table holds when not given.
    n_folds : int, optional
        Folds over photographs of ``"by image"``: one photograph a fold up to 20 photographs, else
        10 folds.
    alphas : sequence of float
        Ridge penalties above 0, in units of the mean squared length of the centered training
        features.
    n_permutations : int
        Permutations of the photographs, for p; 0 for no p. Every model is fitted again in each.
    correction : str
        How p is corrected over a family: ``"fdr"``, ``"holm"`` or ``"bonferroni"``. The family of a
        row is all stages, regions and subjects with its image type; rows of the mean over subjects
        are a family of their own.
    allow_repeats : bool
        Whether a test image may equal a training image, as in a control analysis.
    seed : int
        Seed of folds and permutations.
    progress : callable, optional
        Called as ``progress(fits_done, fits)``, one fit a stage and permutation.

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
        image equals a training image in every stage and `allow_repeats` is False.

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

    penalties = _check_arguments(
        alphas, n_permutations, n_folds, seed, correction, scheme, allow_repeats
    )
    _check_types(activations, patterns_by_subject, table)
    design = _make_design(table, tests, scheme, n_folds, seed)
    rows = match_ids(activations.ids, design.ids, "activations", "the stimulus table")
    if not allow_repeats:
        _refuse_repeats(activations, rows, design)
    targets = _Targets.of(patterns_by_subject, design)
    orders, p_method = _permutations(design, n_permutations, seed)
    n_fits = len(activations.stages) * (1 + len(orders))
    tables: list[dict[str, Any]] = []
    for stage, layer in enumerate(activations.stages):
        features = activations.read(layer)[rows]
        is_finite = np.isfinite(features).all(axis=1)
        if broken := [name for name, finite in zip(design.ids, is_finite) if not finite]:
            raise InputError(
                f"stage '{layer}': NaN or infinite activations for {name_ids(broken)}; leave it "
                "out."
            )
        folds = _decompose(reduce_features(features), design, penalties)
        score = _score_regions(folds, targets, design, None)
        null = np.empty((len(orders), *score.r.shape))
        if progress is not None:
            progress(stage * (1 + len(orders)) + 1, n_fits)
        for k, order in enumerate(orders):
            null[k] = _score_regions(folds, targets, design, order).r
            if progress is not None:
                progress(stage * (1 + len(orders)) + 2 + k, n_fits)
        tables += _layer_rows(layer, score, null, targets, design)
    result = pd.DataFrame(tables).assign(
        scheme=scheme, method=_method(design, p_method, correction)
    )
    _warn_at_the_edge(result, penalties)
    # all stages, regions and subjects of one image type are a family; means are another
    families = result.groupby([result["test"], result["subject"] == "mean"])["p"]
    corrected = families.transform(lambda p: correct_p(p.to_numpy(), correction))
    return result.assign(p_corrected=corrected)[list(COLUMNS)]


# ------------------------------------------------------------------------------- what can be asked


def check_encoding(
    table: pd.DataFrame,
    *,
    scheme: str = "by image",
    tests: Sequence[str] | None = None,
    n_folds: int | None = None,
    alphas: Sequence[float] = ALPHAS,
    n_permutations: int = 200,
    correction: str = "fdr",
    seed: int = 0,
) -> None:
    """Refuse what `fit_encoding` would refuse, before there are activations and responses.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id.
    scheme, tests, n_folds, alphas, n_permutations, correction, seed
        See `fit_encoding`.

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
    _check_arguments(alphas, n_permutations, n_folds, seed, correction, scheme, allow_repeats=False)
    _check_table(table)
    _make_design(table, tests, scheme, n_folds, seed)


def _check_arguments(
    alphas: Sequence[float],
    n_permutations: int,
    n_folds: int | None,
    seed: int,
    correction: str,
    scheme: str,
    allow_repeats: bool,
) -> np.ndarray:
    """Refuse arguments that make no sense and return the penalties in rising order."""
    penalties = _checked_penalties(alphas)
    for name, value in (("n_permutations", n_permutations), ("seed", seed)):
        _check_whole(name, value, 0)
    if n_folds is not None:
        _check_whole("n_folds", n_folds, None)
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise unknown_name("encoding scheme", str(scheme), SCHEMES)
    if not isinstance(allow_repeats, (bool, np.bool_)):
        raise InputError(f"allow_repeats must be True or False, not {allow_repeats!r}.")
    correct_p(np.array([np.nan]), correction)
    return penalties


def _checked_penalties(alphas: Sequence[float]) -> np.ndarray:
    """Check the grid of penalties and put it in rising order."""
    try:
        given = [] if isinstance(alphas, (str, bytes)) else list(alphas)
    except TypeError:
        given = []
    is_number = [
        isinstance(alpha, numbers.Real) and not isinstance(alpha, (bool, np.bool_))
        for alpha in given
    ]
    if isinstance(alphas, (str, bytes)) or not hasattr(alphas, "__iter__") or not all(is_number):
        raise InputError(f"alphas: a list of penalties above 0 is needed, not {shown(alphas)}.")
    if not given:
        raise InputError(f"alphas: at least one penalty above 0 is needed, not {shown(alphas)}.")
    penalties = np.array(given, dtype=np.float64)
    if not (np.isfinite(penalties) & (penalties > 0)).all():
        raise InputError(f"alphas: penalties must be finite and above 0, not {penalties.tolist()}.")
    low, high = ALPHA_RANGE
    if not ((penalties >= low) & (penalties <= high)).all():
        raise InputError(
            f"alphas: penalties must lie between {low:g} and {high:g}, not {penalties.tolist()}."
        )
    if len(np.unique(penalties)) < len(penalties):
        raise InputError(f"alphas: {penalties.tolist()} names a penalty twice; keep it once.")
    return np.sort(penalties)


def _check_whole(name: str, value: object, least: int | None) -> None:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, not {shown(value)}.")
    if least is not None and value < least:
        raise InputError(f"{name} must be {least} or more, not {value}.")


def _check_types(activations: object, patterns_by_subject: object, table: object) -> None:
    import pandas as pd

    if not isinstance(activations, Activations):
        kind = type(activations).__name__
        raise InputError(f"activations: Activations are needed (compute_activations), not {kind}.")
    if not isinstance(patterns_by_subject, Mapping) or not patterns_by_subject:
        raise InputError(
            "patterns_by_subject: a mapping of subject to Patterns is needed, at least one subject."
        )
    for subject, patterns in patterns_by_subject.items():
        if not isinstance(patterns, Patterns):
            kind = type(patterns).__name__
            raise InputError(f"patterns_by_subject['{subject}']: Patterns are needed, not {kind}.")
    if not isinstance(table, pd.DataFrame):
        raise InputError(f"table: a DataFrame of stimuli is needed, not {type(table).__name__}.")
    _check_table(table)


def _check_table(table: pd.DataFrame) -> None:
    """Refuse a table of stimuli without the columns that are needed, or with gaps in them."""
    if missing := [name for name in ("id", "kind", "reference_id") if name not in table.columns]:
        raise InputError(
            f"table: no column {name_ids(missing)}; a table of stimuli has id, kind (RE, AN, AI …) "
            "and reference_id (the id of the photograph that an image was made from; of RE its "
            "own)."
        )
    for name in ("id", "kind", "reference_id"):
        empty = table["id"].astype(str)[table[name].isna()]
        if len(empty):
            raise InputError(f"table: no {name} for the stimuli {name_ids(empty)}; fill it in.")
    photographs = table[table["kind"].astype(str) == "RE"]
    names, references = photographs["id"].astype(str), photographs["reference_id"].astype(str)
    known = set(names)
    crossed = [
        f"{name} = {reference}"
        for name, reference in zip(names, references)
        if name != reference and reference in known
    ]
    if crossed:
        raise InputError(
            "table: photographs (RE) whose reference_id is another photograph: "
            f"{name_ids(crossed)}; the reference_id of a photograph is its own."
        )


# ------------------------------------------------------------------------------------- the design


@dataclass(frozen=True, kw_only=True)
class _Design:
    """Rows of the stimulus table that are trained on and tested, by photograph."""

    ids: list[str]
    references: list[str]
    rows: dict[str, dict[str, int]]
    folds: list[list[str]]
    tests: list[str]
    scheme: str

    def training(self, held_out: Sequence[str]) -> list[str]:
        """List the photographs that a fold's model is trained on."""
        if self.scheme == "all":
            return self.references
        return [reference for reference in self.references if reference not in held_out]

    def tested(self, test: str) -> list[str]:
        """List the photographs with an image of this type, in order."""
        return [reference for reference in self.references if reference in self.rows[test]]

    @property
    def n_train(self) -> int:
        """Photographs in the smallest training set."""
        return min(len(self.training(held_out)) for held_out in self.folds)


def _make_design(
    table: pd.DataFrame,
    tests: Sequence[str] | None,
    scheme: str,
    n_folds: int | None,
    seed: int,
) -> _Design:
    rows = _rows_by_type(table)
    references = sorted(rows["RE"])
    if len(references) < MIN_CONDITIONS:
        raise InputError(
            f"encoding: {len(references)} photographs (RE); at least {MIN_CONDITIONS} are needed."
        )
    used = _image_types(tests, rows, scheme)
    orphans = []
    for test in used:
        orphans += [reference for reference in rows[test] if reference not in rows["RE"]]
    if orphans:
        raise InputError(
            f"encoding: no photograph (RE) in the stimulus table for {name_ids(orphans)}; add it."
        )
    few = [f"{test} ({len(rows[test])})" for test in used if len(rows[test]) < MIN_CONDITIONS]
    if few or not used:
        raise InputError(
            f"encoding: too few stimuli to test: {name_ids(few) or 'none'}; {MIN_CONDITIONS} are "
            "needed."
        )
    folds = [references]
    if scheme != "all":
        n = len(references)
        default = n if n <= LEAVE_ONE_OUT_UP_TO else 10
        count = default if n_folds is None else n_folds
        if not 2 <= count <= n:
            raise InputError(
                f"n_folds must lie between 2 and the number of photographs ({n}), not {count}."
            )
        order = generator(seed, "encoding folds", n).permutation(n)
        shuffled = [references[i] for i in order]
        folds = [shuffled[k::count] for k in range(count)]
    return _Design(
        ids=list(table["id"].astype(str)),
        references=references,
        rows=rows,
        folds=folds,
        tests=used,
        scheme=scheme,
    )


def _rows_by_type(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Find the row of each image by its type and the photograph that it was made from."""
    rows: dict[str, dict[str, int]] = {"RE": {}}
    pairs = zip(table["kind"].astype(str), table["reference_id"].astype(str))
    for row, (kind, reference) in enumerate(pairs):
        if reference in rows.setdefault(kind, {}):
            raise InputError(
                f"encoding: two {kind} stimuli come from photograph '{reference}'; keep one of "
                "each kind."
            )
        rows[kind][reference] = row
    return rows


def _image_types(tests: Sequence[str] | None, rows: Mapping[str, object], scheme: str) -> list[str]:
    """Choose the image types to test; a type asked for by name must be there."""
    if tests is not None and not fits(tests, Sequence[str]):
        raise InputError(
            f"tests: a list of image types is needed, such as ['RE'], not {shown(tests)}."
        )
    if tests is None:
        return [test for test in TESTS if rows.get(test) and (scheme != "all" or test != "RE")]
    if not len(tests):
        raise InputError(
            f"tests: at least one image type is needed; the table has {name_ids(rows)}."
        )
    for test in tests:
        if not rows.get(test):
            raise unknown_name("image type in tests", test, rows)
    if scheme == "all" and "RE" in tests:
        raise InputError(
            "tests: 'RE' is in-sample under scheme 'all', which trains on all photographs; leave "
            "it out, or use scheme 'by image'."
        )
    return list(dict.fromkeys(tests))


def _refuse_repeats(activations: Activations, rows: np.ndarray, design: _Design) -> None:
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
        training = {contents[row]: row for row in _rows(design, "RE", design.training(held_out))}
        for test in design.tests:
            for row in _rows(design, test, held_out):
                if contents[row] in training:
                    repeats.append(f"{design.ids[row]} = {design.ids[training[contents[row]]]}")
    if repeats:
        raise InputError(
            "encoding: test images equal training images in every stage, as images with the same "
            f"pixels do: {name_ids(sorted(repeats))}. Their r would be no prediction. Remove them "
            "from the stimuli, or ask for it: allow_repeats=True (--allow-repeats; in a study "
            "encoding.allow_repeats = true)."
        )


def _rows(design: _Design, kind: str, references: Sequence[str]) -> list[int]:
    rows = design.rows[kind]
    return [rows[reference] for reference in references if reference in rows]


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
    def of(cls, patterns_by_subject: Mapping[str, Patterns], design: _Design) -> _Targets:
        """Average presentations and put photographs and subjects in order."""
        columns, labels = [], []
        for subject, patterns in patterns_by_subject.items():
            columns.append(mean_responses(patterns, design.ids, subject))
            labels += [(subject, str(roi)) for roi in patterns.voxels["roi"]]
        responses = np.concatenate(columns, axis=1)
        values = {}
        for kind in dict.fromkeys(("RE", *design.tests)):
            values[kind] = np.full((len(design.references), responses.shape[1]), np.nan)
            there = [reference in design.rows[kind] for reference in design.references]
            values[kind][there] = responses[_rows(design, kind, design.references)]
        columns_of: dict[tuple[str, str], list[int]] = {}
        for column, label in enumerate(labels):
            columns_of.setdefault(label, []).append(column)
        groups = {label: np.array(voxels) for label, voxels in columns_of.items()}
        return cls(values=values, varies=np.ptp(values["RE"], axis=0) > 0, groups=groups)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """One training set with its decomposed features, and the features to predict from."""

    train: np.ndarray
    """Index of each training photograph."""
    ridge: Ridge
    features: dict[str, np.ndarray]
    """Image type to the features of the held-out images."""
    test: dict[str, np.ndarray]
    """Image type to the index of each held-out image's photograph."""


def _decompose(features: np.ndarray, design: _Design, penalties: np.ndarray) -> list[_Fold]:
    position = {reference: i for i, reference in enumerate(design.references)}
    folds = []
    for held_out in design.folds:
        training = design.training(held_out)
        held_out_features, indices = {}, {}
        for test in design.tests:
            tested = [reference for reference in held_out if reference in design.rows[test]]
            held_out_features[test] = features[_rows(design, test, held_out)]
            indices[test] = np.array([position[reference] for reference in tested], int)
        folds.append(
            _Fold(
                train=np.array([position[reference] for reference in training]),
                ridge=Ridge(features[_rows(design, "RE", training)], penalties),
                features=held_out_features,
                test=indices,
            )
        )
    return folds


@dataclass(frozen=True, kw_only=True, eq=False)
class _Score:
    """Correlations of one stage: a row an image type, a column a subject and region."""

    r: np.ndarray
    n_constant: np.ndarray
    alpha: np.ndarray
    at_smallest: np.ndarray
    at_largest: np.ndarray


def _score_regions(
    folds: Sequence[_Fold], targets: _Targets, design: _Design, order: np.ndarray | None
) -> _Score:
    """Fit and test one stage, with the photographs' responses in the order given."""
    order = np.arange(len(design.references)) if order is None else order
    responses = {kind: values[order][:, targets.varies] for kind, values in targets.values.items()}
    predicted, alphas = _predict(folds, responses, design)
    shape = (len(design.tests), len(targets.groups))
    score = _Score(
        r=np.full(shape, np.nan),
        n_constant=np.zeros(shape, dtype=np.int64),
        alpha=np.full(shape, np.nan),
        at_smallest=np.full(shape, np.nan),
        at_largest=np.full(shape, np.nan),
    )
    ends = (folds[0].ridge.alphas[0], folds[0].ridge.alphas[-1])
    for row, test in enumerate(design.tests):
        there = ~np.isnan(responses[test][:, :1]).ravel()
        r = np.full(len(targets.varies), np.nan)
        r[targets.varies] = column_correlations(predicted[test][there], responses[test][there])
        chosen = np.full((len(alphas), len(targets.varies)), np.nan)
        chosen[:, targets.varies] = alphas
        for column, voxels in enumerate(targets.groups.values()):
            defined = voxels[np.isfinite(r[voxels])]
            score.n_constant[row, column] = len(voxels) - len(defined)
            if len(defined):
                score.r[row, column] = r[defined].mean()
                score.alpha[row, column] = np.median(np.median(chosen[:, defined], axis=0))
                score.at_smallest[row, column] = np.mean(chosen[:, defined] == ends[0])
                score.at_largest[row, column] = np.mean(chosen[:, defined] == ends[1])
    return score


def _predict(
    folds: Sequence[_Fold], responses: Mapping[str, np.ndarray], design: _Design
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predict every tested image from its fold; pool the folds without bias.

    Two things that differ between folds would give a negative correlation where there is no
    relation at all (about -.5 with 16 photographs, one a fold; -.2 from the second alone). The
    intercept moves against the held-out response: predictions are taken relative to it. The penalty
    shrinks less, the worse the held-out image fits the rest: predictions are taken in units of the
    standard deviation of the fold's fitted values.
    """
    n_photographs, n_voxels = responses["RE"].shape
    predicted = {test: np.zeros((n_photographs, n_voxels)) for test in design.tests}
    rounding = EQUAL * np.std(responses["RE"], axis=0)
    alphas = np.empty((len(folds), n_voxels))
    for k, fold in enumerate(folds):
        fit = fold.ridge.fit(responses["RE"][fold.train])
        alphas[k] = fit.alphas
        # A voxel that answers to the held-out photograph only leaves nothing to fit: it predicts 0.
        spread = fit.spread
        # a strong penalty shrinks what is fitted, and its rounding
        least = rounding / np.maximum(1, fit.alphas)
        scale = np.where(spread > least, 1 / np.maximum(spread, np.finfo(float).tiny), 0)
        for test in design.tests:
            predicted[test][fold.test[test]] = fit.predict(fold.features[test]) * scale
    return predicted, alphas


# --------------------------------------------------------------------------------- p and the table


def _permutations(design: _Design, n_permutations: int, seed: int) -> tuple[np.ndarray, str]:
    """Draw orders of the photographs; only those with the same image types change places."""
    n = len(design.references)
    if n_permutations == 0:
        return np.empty((0, n), dtype=np.int64), "no p"
    types = []
    for reference in design.references:
        types.append(" ".join(test for test in design.tests if reference in design.rows[test]))
    blocks = types if len(set(types)) > 1 else None
    orders = permutation_orders(n, n_permutations, seed, blocks)
    exact = ", all there are (exact)" if count_orders(n, blocks) - 1 == len(orders) else ""
    where = "among those with the same image types" if blocks else "freely"
    text = (
        f"p one-tailed, photographs permuted {where} with the images made from them, models fitted "
        f"again, {len(orders)} orders{exact}, least p {p_from_count(0, len(orders)):.2g}"
    )
    return orders, text


def _layer_rows(
    layer: str, score: _Score, null: np.ndarray, targets: _Targets, design: _Design
) -> Iterator[dict[str, Any]]:
    """Write the rows of one stage: each subject and region, then the mean over subjects."""
    p = permutation_p(score.r, null) if len(null) else np.full(score.r.shape, np.nan)
    groups = list(targets.groups)
    for row, test in enumerate(design.tests):
        common = {
            "layer": layer,
            "test": test,
            "n_train": design.n_train,
            "n_test": len(design.tested(test)),
        }
        for column, (subject, roi) in enumerate(groups):
            yield common | {
                "subject": subject,
                "roi": roi,
                "r": score.r[row, column],
                "p": p[row, column],
                "n_voxels": len(targets.groups[subject, roi]),
                "n_constant": int(score.n_constant[row, column]),
                "alpha": score.alpha[row, column],
                "at_smallest_alpha": score.at_smallest[row, column],
                "at_largest_alpha": score.at_largest[row, column],
            }
        if len({subject for subject, _ in groups}) > 1:
            yield from _mean_rows(
                common, score.r[row], null[:, row], score.n_constant[row], targets
            )


def _mean_rows(
    common: Mapping[str, Any],
    r: np.ndarray,
    null: np.ndarray,
    n_constant: np.ndarray,
    targets: _Targets,
) -> Iterator[dict[str, Any]]:
    """Average each region over the subjects that have it; the permutations are theirs jointly."""
    members: dict[str, list[int]] = {}
    for k, (_, roi) in enumerate(targets.groups):
        members.setdefault(roi, []).append(k)
    sizes = [len(voxels) for voxels in targets.groups.values()]
    for roi, all_columns in members.items():
        columns = [k for k in all_columns if np.isfinite(r[k])]
        mean = r[columns].mean() if columns else math.nan
        p = math.nan
        if len(null) and columns:
            p = float(permutation_p(np.array(mean), null[:, columns].mean(axis=1)))
        yield dict(common) | {
            "subject": "mean",
            "roi": roi,
            "r": mean,
            "p": p,
            "n_voxels": sum(sizes[k] for k in all_columns),
            "n_constant": int(n_constant[all_columns].sum()),
            "alpha": math.nan,
            "at_smallest_alpha": math.nan,
            "at_largest_alpha": math.nan,
        }


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
        regions = shares[shares >= MANY_AT_THE_EDGE].reset_index(name="share").to_dict("records")
        names = [f"{row['subject']} {row['roi']} {row['share']:.0%}" for row in regions]
        if names:
            parts.append(f"at {alpha:g} {name_ids(names)} ({advice})")
    if parts:
        warnings.warn(
            "encoding: penalties at an end of the grid, share of voxels and folds by region: "
            f"{'; '.join(parts)}. The grid is alphas (--alphas, encoding.alphas); the table has "
            "the shares of each stage.",
            UserWarning,
            stacklevel=3,
        )


def _method(design: _Design, p_method: str, correction: str) -> str:
    if design.scheme == "all":
        trained = "trained on all photographs"
    else:
        trained = (
            f"{len(design.folds)} folds over photographs, predictions relative to mean and spread "
            "of each fold's fit"
        )
    text = (
        "ridge on training-mean-centered features, alpha per voxel by leave-one-image-out within "
        "the training photographs, in units of the mean squared feature length; Pearson r over "
        f"images, mean over voxels; {trained}; {p_method}"
    )
    if p_method == "no p":
        return text
    return f"{text}; p_corrected: {correction} over stages, regions and subjects of one image type"
