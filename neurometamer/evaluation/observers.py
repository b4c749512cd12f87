"""Networks as observers of each other's metamers: all others evaluate those of one network.

Each generator's metamers are shown to every evaluator; what the generator says of its own metamers
is marked and never in a mean ("cross-validated"). Generators that differ in two factors of two
levels, such as training (standard or blur) and color (RGB or grayscale), give the main effects and
the interaction, tested over photographs and over generators. Evaluators are held fixed throughout:
no p value or interval says anything of networks that did not evaluate.

A grayscale view of a network (`stimuli_gen.greyscale_view`) is a network of its own here. It
shares the weights of the network that it is a view of: where that matters, leave it out by naming
the evaluators.

References
----------
Jeon, Parde & Tong, abstract of the Vision Sciences Society 2025: metamers of the last convolutional
stage, of networks trained on clear or on blurred, on color or on grayscale images, classified by
people and by the other networks. The abstract gives neither numbers nor tests; all statistics here
are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, need_columns, unknown_name
from neurometamer.evaluation.model_sets import JOINT
from neurometamer.evaluation.sets import (
    FLAGS,
    STAGE_ORDER,
    STATES,
    no_valid_note,
    pass_rates,
    resampled_means,
    states_of,
    summarize,
)
from neurometamer.evaluation.two_by_two import (
    CONTRASTS,
    NO_TEST,
    Design,
    PermutationTest,
    read_design,
    relabel,
    sign_flips,
    spread_interval,
)
from neurometamer.stats.families import correct_p
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval

CONTEXT = ("stage", "setting", "target", "ways", "rule")
"""Columns that are never averaged over."""
EVALUATORS = ("others", "outside")
"""Who evaluates: everybody but the generator, or only networks that generated nothing.

The second are the same for all generators.
"""
UNITS = ("images", "generators")
ALL_EVALUATORS = "all evaluators"
_NEEDED = (
    "set",
    "members",
    *CONTEXT,
    "reference_id",
    "evaluator",
    "evaluator_weights",
    "trained",
    "took_part",
    "hit",
    *FLAGS,
)
_MEASURES = ("evaluator", "evaluator_weights", "trained", "took_part", "target", "ways", "rule")
_LEVEL = 0.05

# --------------------------------------------------------------------------------------- the matrix


@checked
def observer_matrix(
    hits: pd.DataFrame,
    *,
    evaluators: str | Sequence[str] = "others",
    include_untrained: bool = False,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate how often each evaluator recognizes each network's metamers.

    Parameters
    ----------
    hits : pandas.DataFrame
        From `neurometamer.evaluation.recognizability.recognition_table`, of metamers of single
        networks. Rows in any order.
    evaluators : {"others", "outside"} or sequence of str
        See `EVALUATORS`; or the names of the evaluators. Where a generator is among them, the row
        of its own metamers has ``self``.
    include_untrained : bool
        Keep evaluators with random weights.
    n_resamples : int
        Resamples of photographs, shared by all evaluators of a generator; 0 for none.
    confidence : float
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.

    Returns
    -------
    pandas.DataFrame
        One row a generator × evaluator × stage × setting × target × ways × rule × validity:
        generator, evaluator, stage, setting, set, target, ways, rule, validity, value (share
        recognized, 0 to 1), low, high, n (images), self, evaluator_weights, trained, n_averaged,
        the pass rates of the generator's metamers (`neurometamer.evaluation.sets.pass_rates`), and
        note. Failed metamers and those not judged have rows of their own; a generator without a
        valid metamer has rows with n = 0 and a note. The evaluator ``mean of evaluators`` is the
        mean over them without ``self`` (it needs two). Ordered by stage, setting, generator,
        validity and evaluator.

    Raises
    ------
    InputError
        When the table lacks columns, metamers are of several networks together, a network has two
        sets of one stage and setting, no evaluator is left, or an evaluator or a number is wrong.

    Examples
    --------
    >>> import itertools
    >>> generators = ["blur-gray", "blur-rgb", "sharp-gray", "sharp-rgb"]
    >>> cells = itertools.product(generators, ["vgg", "vit"], ["cat", "cup", "dog"])
    >>> hits = pd.DataFrame(cells, columns=["members", "evaluator", "reference_id"])
    >>> hits = hits.assign(
    ...     set=hits["members"],
    ...     stage="late",
    ...     setting="unbounded",
    ...     target="own",
    ...     ways=1000,
    ...     rule="all classes",
    ...     evaluator_weights="",
    ...     trained=True,
    ...     took_part=False,
    ...     same_class=True,
    ...     above_null=True,
    ...     valid=True,
    ...     hit=hits["members"].str.startswith("blur").astype(float),
    ... )
    >>> table = observer_matrix(hits, n_resamples=0)
    >>> table.loc[table["evaluator"] == "vgg", ["generator", "value"]].values.tolist()
    [['blur-gray', 1.0], ['blur-rgb', 1.0], ['sharp-gray', 0.0], ['sharp-rgb', 0.0]]
    """
    table = _checked_hits(hits, evaluators, include_untrained)
    everyone = set(table["members"])
    table = table[table["chosen"]]
    if lost := sorted(everyone - set(table["members"])):
        raise InputError(
            f"no evaluator is left for the metamers of {name_ids(lost)}; choose others."
        )
    means = summarize(
        table.assign(counted=~table["took_part"]),
        _MEASURES,
        "hit",
        average="evaluator",
        counted="counted",
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )
    over_evaluators = means["evaluator"] == "mean of evaluators"
    means["evaluator_weights"] = means["evaluator_weights"].where(~over_evaluators, "")
    means["trained"] = means["trained"].astype("boolean")
    means["self"] = means["took_part"].astype("boolean").fillna(False).astype(bool)
    means = means.rename(columns={"members": "generator"}).drop(columns=["took_part", "sd"])
    first = [
        "generator",
        "evaluator",
        "stage",
        "setting",
        "set",
        "target",
        "ways",
        "rule",
        "validity",
        "value",
        "low",
        "high",
        "n",
        "self",
        "evaluator_weights",
        "trained",
        "n_averaged",
    ]
    return means[[*first, *means.columns.drop(first)]]


def _checked_hits(
    hits: pd.DataFrame, evaluators: str | Sequence[str], include_untrained: bool
) -> pd.DataFrame:
    """Check the table, mark the chosen evaluators, and sort the rows.

    The order of the rows given never matters.
    """
    need_columns(hits, _NEEDED, "the table of hits", "Make it with recognition_table.")
    if hits.empty:
        raise InputError("the table of hits has no rows; give at least one set and evaluator.")
    table = hits[list(_NEEDED)]
    table = table.assign(
        members=table["members"].fillna(""),
        fewer=-table["ways"].astype(int),
    )
    table = table.astype({"trained": bool, "took_part": bool})
    sets = table[["set", "members", "stage", "setting"]].drop_duplicates()
    is_joint = sets["members"].str.contains(JOINT, regex=False)
    if is_joint.any():
        wrong = sets.loc[is_joint, "set"].unique()
        raise InputError(
            f"metamers of several networks together: {name_ids(wrong)}; evaluators see those of "
            "single networks here. Leave such sets out: hits[~hits['members'].str.contains("
            f"'{JOINT}', regex=False)]."
        )
    is_unknown = sets["members"] == ""
    if is_unknown.any():
        wrong = sets.loc[is_unknown, "set"].unique()
        raise InputError(
            f"metamers of an unknown network: {name_ids(wrong)}; name it (metamer_set(members=))."
        )
    again = table[["members", *CONTEXT, "evaluator", "reference_id"]].duplicated()
    if again.any():
        row = table[again].iloc[0]
        raise InputError(
            f"'{row['evaluator']}' saw several metamers of '{row['members']}' of the photograph "
            f"'{row['reference_id']}' at one stage and setting ({row['stage']}, {row['setting']}); "
            "give one set."
        )
    table["chosen"] = table["evaluator"].isin(_chosen(table, evaluators, include_untrained))
    if not include_untrained:
        table["chosen"] &= table["trained"]
    ranks = {stage: rank for rank, stage in enumerate(STAGE_ORDER)}
    table["rank"] = [ranks.get(stage, len(ranks)) for stage in table["stage"]]
    order = [
        "rank",
        "stage",
        "setting",
        "members",
        "evaluator",
        "evaluator_weights",
        "target",
        "fewer",
        "rule",
        "reference_id",
    ]
    table = table.sort_values(order, kind="stable").drop(columns=["rank", "fewer"])
    return table.reset_index(drop=True)


def _chosen(
    table: pd.DataFrame, evaluators: str | Sequence[str], include_untrained: bool
) -> list[str]:
    """List the names of the chosen evaluators; there is at least one."""
    is_usable = table["trained"] | include_untrained
    usable = sorted(set(table.loc[is_usable, "evaluator"]))
    if not usable:
        raise InputError(
            f"all evaluators have random weights ({name_ids(table['evaluator'].unique())}); give "
            "trained networks, or include_untrained=True."
        )
    if isinstance(evaluators, str):
        if evaluators not in EVALUATORS:
            raise unknown_name("choice of evaluators", evaluators, EVALUATORS)
        generators: set[str] = set()
        if evaluators == "outside":
            took_part = table.loc[table["took_part"], "evaluator"]
            generators = {*table["members"], *took_part}
        chosen = [name for name in usable if name not in generators]
        if not chosen:
            raise InputError(
                f"all evaluators are generators ({name_ids(usable)}); give other networks too, or "
                "use evaluators='others'."
            )
        return chosen
    if not len(evaluators):
        raise InputError("no evaluator is named; name at least one evaluator, or 'others'.")
    known = sorted(set(table["evaluator"]))
    for name in evaluators:
        if name not in known:
            raise unknown_name("evaluator", name, known)
    wrong = [name for name in evaluators if name not in usable]
    if wrong:
        raise InputError(
            f"evaluators with random weights: {name_ids(wrong)}; choose others, or "
            "include_untrained=True."
        )
    return list(evaluators)


# --------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True, kw_only=True)
class _View:
    """Share of some evaluators that recognized each generator's metamer of each photograph."""

    level: str
    scores: pd.DataFrame
    n_evaluators: int

    def scored(self, *, by_all: bool) -> np.ndarray:
        """Select the photographs that some generator, or every one, has a score of.

        The shape is (photographs, generators), with NaN where a generator has no score.
        """
        values = self.scores.to_numpy(dtype=float)
        is_there = np.isfinite(values)
        is_scored = is_there.any(axis=1)
        if by_all:
            is_scored = is_there.all(axis=1)
        return values[is_scored]

    def effects(
        self, design: Design, unit: str, paired: bool, options: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Test the three effects over images, or over generators."""
        cells = np.array([design.cells[name] for name in self.scores.columns])
        values = self.scored(by_all=paired or unit == "images")
        is_usable = values.size > 0 and set(cells.tolist()) == set(range(4))
        if is_usable:
            is_usable = bool(np.isfinite(values).any(axis=0).all())
        numbers = {
            "n_generators": len(cells),
            "n_evaluators": self.n_evaluators,
            "n_images": len(values),
            "n_excluded": len(self.scores) - len(values),
        }
        rows = []
        for name in CONTRASTS:
            effect, contrast = design.effect(name)
            value = low = high = np.nan
            test = NO_TEST
            note = ""
            if is_usable:
                value, low, high, test = _tested(values, cells, name, unit, options)
                if np.isnan(test.p):
                    note = (
                        "one network in every cell: nothing tells the interaction from chance "
                        "between networks"
                    )
                elif test.p_min > _LEVEL:
                    n_units = numbers[f"n_{unit}"]
                    note = f"p cannot be below {test.p_min:.3g} with {n_units} {unit}"
            rows.append(
                {
                    "effect": effect,
                    "contrast": contrast,
                    "unit": unit,
                    "value": value,
                    "low": low,
                    "high": high,
                    "p": test.p,
                    "p_min": test.p_min,
                    "p_holm": np.nan,
                    "exact": test.exact,
                    "n_permutations": test.n_permutations,
                    **numbers,
                    "note": note,
                }
            )
        p_values = np.array([row["p"] for row in rows])
        for row, p in zip(rows, correct_p(p_values, "holm"), strict=True):
            row["p_holm"] = p
        return rows


def _view(part: pd.DataFrame, rows: pd.DataFrame, level: str) -> _View:
    """Average over evaluators first.

    Photographs and generators are all those of `part`, with NaN where there is no row.
    """
    scores = rows.pivot_table(
        index="reference_id",
        columns="members",
        values="hit",
        aggfunc="mean",
    )
    photographs = sorted(set(part["reference_id"]))
    generators = sorted(set(part["members"]))
    return _View(
        level=level,
        scores=scores.reindex(index=photographs, columns=generators),
        n_evaluators=rows["evaluator"].nunique(),
    )


def _views(part: pd.DataFrame, design: Design, validity: str) -> list[_View]:
    """Return the views of all evaluators, and of those of each level of the evaluator factor."""
    took_part = part["took_part"]
    is_counted = part["chosen"] & ~took_part
    states = states_of(part["valid"])
    in_state = states == validity
    rows = part[is_counted & in_state]
    views = [_view(part, rows, ALL_EVALUATORS)]
    levels = rows["evaluator"].map(design.level_of)
    for level in design.evaluator_levels:
        is_of_level = levels == level
        of_level = rows[is_of_level]
        view = _view(part, of_level, level)
        views.append(view)
    return views


def _contexts(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    names = list(CONTEXT)
    by_context = table.groupby(names, sort=False, dropna=False)
    for values, part in by_context:
        pairs = zip(names, values, strict=True)
        context = dict(pairs)
        yield context, part


def _lost(part: pd.DataFrame, view: _View, design: Design, validity: str) -> str:
    """Say why no photograph has a score of every generator.

    The message names the generators that have no score at all.
    """
    scores = view.scores
    present = [design.cells[name] for name in scores.columns]
    gone = [cell for cell in range(4) if cell not in present]
    if gone:
        words = ", ".join(" ".join(design.names(cell)) for cell in gone)
        return f"no metamers of a network that is {words} at this stage; stages are joined by name"
    metamers = part.drop_duplicates(["members", "reference_id"])
    counts = pd.Series(states_of(metamers["valid"]) == validity)
    has_some = counts.groupby(metamers["members"].to_numpy()).any()
    if not has_some.any() and validity == "valid":
        return no_valid_note(pass_rates(metamers))
    if not has_some.any():
        return f"no {validity} metamer"
    if not has_some.all():
        none = has_some.index[~has_some]
        return f"no {validity} metamer of {name_ids(none)}"
    is_unseen = scores.isna().all(axis=0)
    if is_unseen.any():
        unseen = scores.columns[is_unseen]
        return f"no evaluator is left for {name_ids(unseen)}"
    return f"no photograph has a {validity} metamer of every one of the {scores.shape[1]} networks"


# ---------------------------------------------------------------------------------------- the cells


@checked
def observer_conditions(
    hits: pd.DataFrame,
    networks: pd.DataFrame,
    factors: Sequence[str] | Mapping[str, Sequence[str]] = ("training", "color"),
    *,
    evaluator_factor: str | None = None,
    evaluators: str | Sequence[str] = "others",
    validity: str = "valid",
    paired: bool = True,
    include_untrained: bool = False,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Average recognition in the four cells of two factors of the generators.

    Parameters
    ----------
    hits : pandas.DataFrame
        From `neurometamer.evaluation.recognizability.recognition_table`, see `observer_matrix`.
    networks : pandas.DataFrame
        One row a network: column ``network`` (its name), and one column a factor. All generators
        must be in it; other networks of the table of hits may be.
    factors : sequence or mapping of str
        Two columns with two levels each among the generators. A mapping also gives the order of the
        levels, which is that of the alphabet otherwise: ``{"training": ("blur", "standard"),
        "color": ("rgb", "grayscale")}``.
    evaluator_factor : str, optional
        A column with two levels among the evaluators: the same cells as seen by the evaluators of
        each level, too. All evaluators must then be in the table of networks.
    evaluators : {"others", "outside"} or sequence of str
        See `EVALUATORS`. With ``others``, as in the abstract, evaluators differ by generator: see
        the notes.
    validity : {"valid", "failed", "not judged"}
        Which metamers count.
    paired : bool
        Only photographs with such a metamer of every generator, so that cells differ by nothing
        else. Otherwise each generator counts by its own photographs.
    include_untrained : bool
        Keep evaluators with random weights.
    n_resamples : int
        Resamples of photographs, shared by the four cells; 0 for none.
    confidence : float
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.

    Returns
    -------
    pandas.DataFrame
        Four rows a stage × setting × target × ways × rule (and × evaluators): these, validity,
        evaluator_factor, evaluator_level (``all evaluators``, or the level), factor_a, factor_b, a,
        b (the levels), value (share recognized, 0 to 1: mean over evaluators, then photographs,
        then generators, each as much as another), low, high, n_generators, generators (names,
        joined by ``+``), n_evaluators (of all cells), n_images, n_excluded (photographs left out),
        n_metamers, n_valid, n_failed, n_not_judged, pass_same_class, pass_above_null, pass_both (of
        all metamers of the cell's generators), note. A cell without a value has a row that says
        why.

    Raises
    ------
    InputError
        As `observer_matrix`; and when generators are not in the table of networks, networks of that
        table are not in the hits, a value is missing, a factor has not two levels, or a cell has no
        generator at any stage.

    Notes
    -----
    A generator never evaluates itself, so with ``others`` the evaluators of two generators differ
    in these two networks. If networks at one level of a factor recognize everybody better by d,
    their own metamers lose d / (evaluators - 1) against those of the other level, the generators
    counted among the evaluators. ``outside`` is free of that.

    Examples
    --------
    >>> import itertools
    >>> generators = ["blur-gray", "blur-rgb", "sharp-gray", "sharp-rgb"]
    >>> cells = itertools.product(generators, ["vgg", "vit"], ["cat", "cup", "dog"])
    >>> hits = pd.DataFrame(cells, columns=["members", "evaluator", "reference_id"])
    >>> hits = hits.assign(
    ...     set=hits["members"],
    ...     stage="late",
    ...     setting="unbounded",
    ...     target="own",
    ...     ways=1000,
    ...     rule="all classes",
    ...     evaluator_weights="",
    ...     trained=True,
    ...     took_part=False,
    ...     same_class=True,
    ...     above_null=True,
    ...     valid=True,
    ...     hit=hits["members"].str.startswith("blur").astype(float),
    ... )
    >>> networks = pd.DataFrame({"network": generators})
    >>> networks[["training", "color"]] = networks["network"].str.split("-", expand=True)
    >>> observer_conditions(hits, networks, n_resamples=0)[["a", "b", "value"]].values.tolist()
    [['blur', 'gray', 1.0], ['blur', 'rgb', 1.0], ['sharp', 'gray', 0.0], ['sharp', 'rgb', 0.0]]
    """
    if validity not in STATES:
        raise unknown_name("validity", validity, STATES)
    table = _checked_hits(hits, evaluators, include_untrained)
    design = read_design(table, networks, factors, evaluator_factor)
    rows = []
    for context, part in _contexts(table):
        for view in _views(part, design, validity):
            labels = {
                **context,
                "validity": validity,
                "evaluator_factor": design.evaluator_factor,
                "evaluator_level": view.level,
                "factor_a": design.factors[0],
                "factor_b": design.factors[1],
            }
            values = view.scored(by_all=paired)
            for cell in range(4):
                numbers = _cell(cell, part, view, design, values, n_resamples, confidence, seed)
                if not np.isfinite(numbers["value"]):
                    numbers["note"] = _lost(part, view, design, validity)
                rows.append({**labels, **numbers})
    return pd.DataFrame(rows)


def _cell(
    cell: int,
    part: pd.DataFrame,
    view: _View,
    design: Design,
    values: np.ndarray,
    n_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Describe one cell; `values` has the scores of all generators."""
    names = view.scores.columns
    in_cell = [design.cells[name] == cell for name in names]
    own = names[in_cell].tolist()
    values = values[:, np.array(in_cell, dtype=bool)]
    has_value = np.isfinite(values).any(axis=1)
    n_images = int(has_value.sum())
    value = low = high = np.nan
    if values.size:
        # over photographs, then over the generators that have an image; the first row is the data
        once = np.ones((1, len(values)), dtype=int)
        drawn = bootstrap_counts(len(values), n_resamples, seed)
        counts = np.concatenate([once, drawn])
        means = resampled_means(values, counts)
        generators = np.ones((1, values.shape[1]), dtype=int)
        overall = resampled_means(means.T, generators)[0]
        value = float(overall[0])
        resamples = overall[1:, None]
        ends = percentile_interval(resamples, confidence)
        low, high = (float(end[0]) for end in ends)
    is_own = part["members"].isin(own)
    metamers = part[is_own].drop_duplicates(["members", "reference_id"])
    rates = pass_rates(metamers)
    a, b = design.names(cell)
    return {
        "a": a,
        "b": b,
        "value": value,
        "low": low,
        "high": high,
        "n_generators": len(own),
        "generators": JOINT.join(own),
        "n_evaluators": view.n_evaluators,
        "n_images": n_images,
        "n_excluded": len(view.scores) - n_images,
        "n_metamers": rates.pop("n_images"),
        **rates,
        "note": "",
    }


# -------------------------------------------------------------------------------------- the effects


@checked
def observer_tests(
    hits: pd.DataFrame,
    networks: pd.DataFrame,
    factors: Sequence[str] | Mapping[str, Sequence[str]] = ("training", "color"),
    *,
    evaluator_factor: str | None = None,
    evaluators: str | Sequence[str] = "others",
    validity: str = "valid",
    paired: bool = True,
    include_untrained: bool = False,
    n_permutations: int = 10_000,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Test both factors of the generators and their interaction.

    The tests are over photographs and over generators.

    Parameters
    ----------
    hits : pandas.DataFrame
        From `neurometamer.evaluation.recognizability.recognition_table`, see `observer_matrix`.
    networks : pandas.DataFrame
        See `observer_conditions`.
    factors : sequence or mapping of str
        See `observer_conditions`. Effects are the first level minus the second.
    evaluator_factor : str, optional
        A column with two levels among the evaluators: the same effects as seen by the evaluators of
        each level (are metamers of blur-trained networks better recognized by standard *and* by
        blur-trained evaluators?), and the difference between the two (the interaction of each
        effect with the evaluators' factor).
    evaluators : {"others", "outside"} or sequence of str
        See `EVALUATORS`, and the notes of `observer_conditions`.
    validity : {"valid", "failed", "not judged"}
        Which metamers count.
    paired : bool
        Over generators: score all by the photographs that have such a metamer of every generator.
        Otherwise each is scored by its own photographs. Over images only those photographs can be
        used in any case.
    include_untrained : bool
        Keep evaluators with random weights.
    n_permutations : int
        Relabelings drawn; all are tried where there are not more.
    n_resamples : int
        Resamples of photographs; 0 for none.
    confidence : float
        Share of the intervals, in (0, 1).
    seed : int
        Seed of permutations and resamples.

    Returns
    -------
    pandas.DataFrame
        Six rows (three effects × two units) a stage × setting × target × ways × rule (and ×
        evaluators): these, validity, evaluator_factor, evaluator_level (``all evaluators``, a
        level, or ``first - second``), effect (a factor's name, or ``interaction``), contrast (in
        words), unit, value (difference of proportions, -1 to 1; of an interaction up to ±2, and of
        a difference between evaluators twice as far), low, high, p, p_min, p_holm, exact,
        n_permutations, n_generators, n_evaluators, n_images, n_excluded (photographs left out),
        note. An effect that cannot be tested has a row that says why.

    Raises
    ------
    InputError
        See `observer_conditions`.

    Notes
    -----
    With cell means m, of two levels each, the effects are ½(m11 + m12 - m21 - m22), ½(m11 + m21 -
    m12 - m22) and I = (m11 - m12) - (m21 - m22); a cell's mean is over generators, each as much as
    another, whatever their number.

    ``images``: the effect is taken for each photograph. The interval is a bootstrap over
    photographs, p is by random signs (`two_by_two.sign_flips`). It holds for other photographs and
    these networks, and says nothing of the factors as such: networks that differ for any reason
    make it small. (Simulated: of three networks a cell that differ by a standard deviation of .15
    and have no factor's effect, more than half of these p were below .05.)

    ``generators``: each generator has one score. The interval is Student's, from the spread within
    cells (n - 4 degrees of freedom). p is by labels: for a main effect they are shuffled within the
    levels of the other factor; for the interaction, residuals from the main effects are shuffled
    (Freedman-Lane), see `two_by_two.relabel`. It holds for other networks of these kinds, as seen
    by these evaluators in these photographs. With few networks p cannot be small: ``p_min`` is the
    least, and a note says so where it is above .05.

    ``p_holm`` is corrected (Holm) for the three effects of one unit, context and level of
    evaluators.

    Examples
    --------
    >>> import itertools
    >>> generators = ["blur-gray", "blur-rgb", "sharp-gray", "sharp-rgb"]
    >>> cells = itertools.product(generators, ["vgg", "vit"], ["cat", "cup", "dog"])
    >>> hits = pd.DataFrame(cells, columns=["members", "evaluator", "reference_id"])
    >>> hits = hits.assign(
    ...     set=hits["members"],
    ...     stage="late",
    ...     setting="unbounded",
    ...     target="own",
    ...     ways=1000,
    ...     rule="all classes",
    ...     evaluator_weights="",
    ...     trained=True,
    ...     took_part=False,
    ...     same_class=True,
    ...     above_null=True,
    ...     valid=True,
    ...     hit=hits["members"].str.startswith("blur").astype(float),
    ... )
    >>> networks = pd.DataFrame({"network": generators})
    >>> networks[["training", "color"]] = networks["network"].str.split("-", expand=True)
    >>> table = observer_tests(hits, networks, n_permutations=99, n_resamples=0)
    >>> table.loc[table["unit"] == "images", ["effect", "value"]].values.tolist()
    [['training', 1.0], ['color', 0.0], ['interaction', 0.0]]
    """
    if validity not in STATES:
        raise unknown_name("validity", validity, STATES)
    table = _checked_hits(hits, evaluators, include_untrained)
    design = read_design(table, networks, factors, evaluator_factor)
    options = {
        "n_permutations": n_permutations,
        "n_resamples": n_resamples,
        "confidence": confidence,
        "seed": seed,
    }
    rows: list[dict[str, Any]] = []
    for context, part in _contexts(table):
        views = _views(part, design, validity)
        if design.evaluator_levels:
            _, first, second = views
            difference = _View(
                level=f"{first.level} - {second.level}",
                scores=first.scores - second.scores,
                n_evaluators=first.n_evaluators + second.n_evaluators,
            )
            views.append(difference)
        for view in views:
            labels = {
                **context,
                "validity": validity,
                "evaluator_factor": design.evaluator_factor,
                "evaluator_level": view.level,
            }
            for unit in UNITS:
                effects = view.effects(design, unit, paired, options)
                # without a value there is no test, and so no note of a test
                if not np.isfinite(effects[0]["value"]):
                    reason = _lost(part, view, design, validity)
                    effects = [{**effect, "note": reason} for effect in effects]
                rows += [{**labels, **effect} for effect in effects]
    return pd.DataFrame(rows)


def _tested(
    values: np.ndarray, cells: np.ndarray, contrast: str, unit: str, options: Mapping[str, Any]
) -> tuple[float, float, float, PermutationTest]:
    """Compute one effect, its interval and its test.

    Over images, the effect is taken photograph by photograph; over generators, each generator is
    scored, and the scores are compared.
    """
    n_in_cell = np.bincount(cells, minlength=4)
    weights = np.array(CONTRASTS[contrast]) / n_in_cell
    seed, n_permutations = options["seed"], options["n_permutations"]
    if unit == "images":
        effects = values @ weights[cells]
        counts = bootstrap_counts(len(effects), options["n_resamples"], seed)
        means = resampled_means(effects[:, None], counts)
        ends = percentile_interval(means, options["confidence"])
        low, high = (float(end[0]) for end in ends)
        test = sign_flips(effects, n_permutations, seed=seed)
        return float(effects.mean()), low, high, test
    once = np.ones((1, len(values)), dtype=int)
    scores = resampled_means(values, once)[0]
    low, high = spread_interval(scores, cells, contrast, options["confidence"])
    test = relabel(scores, cells, contrast, n_permutations, seed=seed)
    return float(scores @ weights[cells]), low, high, test
