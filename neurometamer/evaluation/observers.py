"""Networks as observers of each other's metamers: all others evaluate those of one network.

Each generator's metamers are shown to every judge; what the generator says of its own metamers is
marked and never in a mean ("cross-validated"). Generators that differ in two factors of two levels,
such as training (standard or blur) and color (RGB or grayscale), give the main effects and the
interaction, tested over photographs and over generators. Judges are held fixed throughout: no p
value or interval says anything of networks that did not judge.

A grayscale view of a network (`stimuli_gen.greyscale_view`) is a network of its own here. As a
judge of the network it is a view of, it shares its weights: leave it out by naming the judges where
that matters.

References
----------
Jeon, Parde & Tong, abstract of the Vision Sciences Society 2025: metamers of the last convolutional
stage, of networks trained on clear or on blurred, on color or on grayscale images, classified by
people and by the other networks. The abstract gives neither numbers nor tests; all statistics here
are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, need_columns, unknown_name
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
    PermutationTest,
    relabel,
    sign_flips,
    spread_interval,
)
from neurometamer.stats.intervals import correct_p
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval

CONTEXT = ("stage", "setting", "target", "ways", "rule")
"""What is never averaged over."""
JUDGES = ("others", "outside")
"""Who evaluates: everybody but the generator, or only networks that generated nothing.

The second are the same for all generators.
"""
UNITS = ("images", "generators")
ALL_JUDGES = "all judges"
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
_MEASURES = ("judge", "judge_weights", "trained", "took_part", "target", "ways", "rule")
_LEVEL = 0.05

# --------------------------------------------------------------------------------------- the matrix


@checked
def observer_matrix(
    hits: pd.DataFrame,
    *,
    judges: str | Sequence[str] = "others",
    include_untrained: bool = False,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Tabulate how often each judge recognizes each network's metamers.

    Parameters
    ----------
    hits : pandas.DataFrame
        From `neurometamer.evaluation.recognizability.recognition_table`, of metamers of single
        networks. Rows in any order.
    judges : {"others", "outside"} or sequence of str
        See `JUDGES`; or the names of the judges. A generator's judgment of its own metamers has a
        row with ``self`` where it is among them.
    include_untrained : bool
        Keep judges with random weights.
    n_resamples : int
        Resamples of photographs, shared by all judges of a generator; 0 for none.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of the resamples.

    Returns
    -------
    pandas.DataFrame
        One row a generator × judge × stage × setting × target × ways × rule × validity: generator,
        judge, stage, setting, set, target, ways, rule, validity, value (share recognized, 0 to 1),
        low, high, n (images), self, judge_weights, trained, n_averaged, the pass rates of the
        generator's metamers (`neurometamer.evaluation.sets.pass_rates`), and note. Failed metamers
        and those that nobody judged have rows of their own; a generator without a valid metamer has
        rows with n = 0 and a note. The judge ``mean of judges`` is the mean over them without
        ``self`` (it needs two). Ordered by stage, setting, generator, validity and judge.

    Raises
    ------
    InputError
        When the table lacks columns, metamers are of several networks together, a network has two
        sets of one stage and setting, no judge is left, or a judge or a number is wrong.
    """
    table = _judged(hits, judges, include_untrained)
    everyone = set(table["members"])
    table = table[table["asked"]]
    if lost := sorted(everyone - set(table["members"])):
        raise InputError(f"no judge is left for the metamers of {name_ids(lost)}; choose others.")
    found = summarize(
        table.assign(counted=~table["took_part"]),
        _MEASURES,
        "hit",
        average="judge",
        counted="counted",
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )
    mean = found["judge"] == "mean of judges"
    found["judge_weights"] = found["judge_weights"].where(~mean, "")
    found["trained"] = found["trained"].astype("boolean")
    found["self"] = found["took_part"].astype("boolean").fillna(False).astype(bool)
    found = found.rename(columns={"members": "generator"})
    first = [
        "generator",
        "judge",
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
        "judge_weights",
        "trained",
        "n_averaged",
    ]
    return found[
        [*first, *(one for one in found.columns if one not in (*first, "took_part", "sd"))]
    ]


def _judged(
    hits: pd.DataFrame, judges: str | Sequence[str], include_untrained: bool
) -> pd.DataFrame:
    """Check the table, mark the chosen evaluators, and sort the rows.

    The order of the rows given never matters.
    """
    need_columns(hits, _NEEDED, "the table of hits", "Make it with recognition_table.")
    if hits.empty:
        raise InputError("the table of hits has no rows.")
    table = hits[list(_NEEDED)].rename(
        columns={"evaluator": "judge", "evaluator_weights": "judge_weights"}
    )
    table = table.assign(members=table["members"].fillna(""), fewer=-table["ways"].astype(int))
    table = table.assign(**{one: table[one].astype(bool) for one in ("trained", "took_part")})
    _check_sets(table)
    table["asked"] = table["judge"].isin(_chosen(table, judges, include_untrained))
    if not include_untrained:
        table["asked"] &= table["trained"]
    places = {one: at for at, one in enumerate(STAGE_ORDER)}
    table["place"] = [places.get(one, len(places)) for one in table["stage"]]
    order = [
        "place",
        "stage",
        "setting",
        "members",
        "judge",
        "judge_weights",
        "target",
        "fewer",
        "rule",
        "reference_id",
    ]
    return (
        table.sort_values(order, kind="stable")
        .drop(columns=["place", "fewer"])
        .reset_index(drop=True)
    )


def _check_sets(table: pd.DataFrame) -> None:
    sets = table[["set", "members", "stage", "setting"]].drop_duplicates()
    if wrong := sets.loc[sets["members"].str.contains(JOINT, regex=False), "set"].unique().tolist():
        raise InputError(
            f"metamers of several networks together: {name_ids(wrong)}; observers judge those of "
            f"single networks. Leave such sets out: hits[~hits['members'].str.contains('{JOINT}', "
            "regex=False)]."
        )
    if wrong := sets.loc[sets["members"] == "", "set"].unique().tolist():
        raise InputError(
            f"metamers of an unknown network: {name_ids(wrong)}; name it (metamer_set(members=))."
        )
    keys = ["members", *CONTEXT, "judge", "reference_id"]
    if (again := table[keys].duplicated()).any():
        one = table[again].iloc[0]
        raise InputError(
            f"'{one['judge']}' judged several metamers of '{one['members']}' of the photograph "
            f"'{one['reference_id']}' at one stage and setting ({one['stage']}, {one['setting']}); "
            "give one set."
        )


def _chosen(table: pd.DataFrame, judges: str | Sequence[str], include_untrained: bool) -> list[str]:
    """List the names of the judges asked for; at least one."""
    usable = sorted(set(table.loc[table["trained"] | include_untrained, "judge"]))
    if not usable:
        raise InputError(
            "all judges have random weights; ask trained networks, or include_untrained=True."
        )
    if not isinstance(judges, str):
        for one in judges:
            if one not in set(table["judge"]):
                raise unknown_name("judge", one, sorted(set(table["judge"])))
        if wrong := [one for one in judges if one not in usable]:
            raise InputError(
                f"judges with random weights: {name_ids(wrong)}; choose others, or "
                "include_untrained=True."
            )
        if not len(judges):
            raise InputError("name at least one judge.")
        return list(judges)
    if judges not in JUDGES:
        raise unknown_name("choice of judges", judges, JUDGES)
    generators = (
        {*table["members"], *table.loc[table["took_part"], "judge"]}
        if judges == "outside"
        else set()
    )
    if not (found := [one for one in usable if one not in generators]):
        raise InputError(
            f"all judges are generators ({name_ids(usable)}); ask other networks too, or use "
            "judges='others'."
        )
    return found


# --------------------------------------------------------------------------------------- the design


@dataclass(frozen=True, kw_only=True)
class _Design:
    """Two factors of the generators, and, where asked for, one of the judges."""

    factors: tuple[str, str]
    levels: tuple[tuple[str, str], tuple[str, str]]
    cells: Mapping[str, int]
    judge_factor: str = ""
    judge_levels: tuple[str, ...] = ()
    level_of: Mapping[str, str] = field(default_factory=dict)

    def names(self, cell: int) -> tuple[str, str]:
        return self.levels[0][cell // 2], self.levels[1][cell % 2]

    def effect(self, kind: str) -> tuple[str, str]:
        """Name an effect, and say what is subtracted from what."""
        (a1, a2), (b1, b2) = self.levels
        if kind == "interaction":
            return kind, f"({a1} {b1} - {a1} {b2}) - ({a2} {b1} - {a2} {b2})"
        return (
            (self.factors[0], f"{a1} - {a2}") if kind == "a" else (self.factors[1], f"{b1} - {b2}")
        )


def _design(
    table: pd.DataFrame,
    networks: pd.DataFrame,
    factors: Sequence[str] | Mapping[str, Sequence[str]],
    judge_factor: str | None,
) -> _Design:
    """Find each generator's cell and each judge's level."""
    names = _checked_names(factors)
    _check_networks(table, networks, [*names, *([judge_factor] if judge_factor else [])])
    generators, judges = (
        sorted(set(table["members"])),
        sorted(set(table.loc[table["asked"], "judge"])),
    )
    given = factors if isinstance(factors, Mapping) else {}
    values = [_values(networks, one, generators) for one in names]
    a, b = (_levels(one, found, given.get(one)) for one, found in zip(names, values, strict=True))
    cells = {one: 2 * a.index(values[0][one]) + b.index(values[1][one]) for one in generators}
    if empty := [f"{a[at // 2]} {b[at % 2]}" for at in range(4) if at not in cells.values()]:
        raise InputError(
            f"no generator is {', '.join(empty)} ({' and '.join(names)}); each cell needs one."
        )
    design = _Design(factors=names, levels=(a, b), cells=cells)
    if not judge_factor:
        return design
    level_of = _values(networks, judge_factor, judges)
    levels = _levels(judge_factor, level_of, given.get(judge_factor))
    return replace(design, judge_factor=judge_factor, judge_levels=levels, level_of=level_of)


def _checked_names(factors: Sequence[str] | Mapping[str, Sequence[str]]) -> tuple[str, str]:
    names = [] if isinstance(factors, str) else list(factors)
    if len(set(names)) != 2 or len(names) != 2 or {"interaction", "network"} & set(names):
        raise InputError(f"two factors are needed, such as ('training', 'color'), not {factors!r}.")
    return names[0], names[1]


def _check_networks(table: pd.DataFrame, networks: pd.DataFrame, columns: Sequence[str]) -> None:
    need_columns(
        networks, ["network", *columns], "the table of networks", "Give one row a network."
    )
    if again := duplicates(networks["network"]):
        raise InputError(
            f"networks named more than once in the table of networks: {name_ids(again)}."
        )
    known = {*table["members"], *table["judge"]}
    if unknown := [one for one in networks["network"] if one not in known]:
        raise InputError(
            f"networks that neither generated nor judged anything: {name_ids(unknown)}; correct "
            "the name."
        )


def _values(networks: pd.DataFrame, factor: str, names: Sequence[str]) -> dict[str, str]:
    """Read one factor of the networks named."""
    values = networks.set_index("network")[factor]
    if missing := [one for one in names if one not in values.index]:
        raise InputError(
            f"the table of networks does not name {name_ids(missing)}; say what they are "
            f"({factor})."
        )
    found = values.loc[list(names)]
    if empty := found.index[found.isna() | (found.astype(str).str.strip() == "")].tolist():
        raise InputError(f"{factor} is missing of {name_ids(empty)}; fill it in.")
    return {str(one): str(value) for one, value in found.items()}


def _levels(factor: str, values: Mapping[str, str], order: Sequence[str] | None) -> tuple[str, str]:
    """Find a factor's two levels, in the order asked for, else by the alphabet."""
    found = sorted(set(values.values()))
    if len(found) != 2:
        raise InputError(
            f"{factor} has {len(found)} level(s) ({name_ids(found)}) among the networks; two are "
            "needed."
        )
    if order is None:
        return found[0], found[1]
    wanted = [str(one) for one in order]
    if sorted(wanted) != found:
        raise InputError(f"{factor} has the levels {name_ids(found)}, not {name_ids(wanted)}.")
    return wanted[0], wanted[1]


# --------------------------------------------------------------------------------------- the scores


@dataclass(frozen=True, kw_only=True)
class _View:
    """Share of some evaluators that recognized each generator's metamer of each photograph."""

    level: str
    scores: pd.DataFrame
    n_judges: int

    def shared(self) -> np.ndarray:
        """Take the photographs that every generator has a score of: (photographs, generators)."""
        values = self.scores.to_numpy(dtype=float)
        return values[np.isfinite(values).all(axis=1)]

    def any(self) -> np.ndarray:
        """Select the photographs that some generator has a score of.

        The shape is (photographs, generators), with NaN where a generator has no score.
        """
        values = self.scores.to_numpy(dtype=float)
        return values[np.isfinite(values).any(axis=1)]


def _view(part: pd.DataFrame, rows: pd.DataFrame, level: str) -> _View:
    """Average over evaluators first.

    Photographs and generators are all those of `part`, with NaN where there is no row.
    """
    scores = rows.pivot_table(index="reference_id", columns="members", values="hit", aggfunc="mean")
    photographs, generators = sorted(set(part["reference_id"])), sorted(set(part["members"]))
    return _View(
        level=level,
        scores=scores.reindex(index=photographs, columns=generators),
        n_judges=rows["judge"].nunique(),
    )


def _views(part: pd.DataFrame, design: _Design, validity: str) -> list[_View]:
    """Take all judges, and those of each level of the judge factor."""
    rows = part[part["asked"] & ~part["took_part"] & (states_of(part["valid"]) == validity)]
    levels = rows["judge"].map(design.level_of)
    return [
        _view(part, rows, ALL_JUDGES),
        *(_view(part, rows[levels == one], one) for one in design.judge_levels),
    ]


def _contexts(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    for key, part in table.groupby(list(CONTEXT), sort=False, dropna=False):
        yield dict(zip(CONTEXT, key, strict=True)), part


def _lost(part: pd.DataFrame, view: _View, design: _Design, validity: str) -> str:
    """Say why no photograph has a score of every generator.

    The message names the generators that have no score at all.
    """
    if gone := [
        at for at in range(4) if at not in {design.cells[one] for one in view.scores.columns}
    ]:
        told = ", ".join(" ".join(design.names(at)) for at in gone)
        return f"no metamers of a network that is {told} at this stage; stages are joined by name"
    metamers = part.drop_duplicates(["members", "reference_id"])
    states = (
        pd.Series(states_of(metamers["valid"]) == validity)
        .groupby(metamers["members"].to_numpy())
        .any()
    )
    if none := states.index[~states].tolist():
        rates = pass_rates(metamers)
        told = (
            no_valid_note(rates)
            if validity == "valid" and not states.any()
            else f"no {validity} metamer"
        )
        return told if not states.any() else f"{told} of {name_ids(none)}"
    if unjudged := [one for one in view.scores.columns if view.scores[one].isna().all()]:
        return f"no judge is left for {name_ids(unjudged)}"
    return (
        f"no photograph has a {validity} metamer of every one of the {view.scores.shape[1]} "
        "networks"
    )


def _checked(
    hits: pd.DataFrame, judges: str | Sequence[str], include_untrained: bool, validity: str
) -> pd.DataFrame:
    if validity not in STATES:
        raise unknown_name("validity", validity, STATES)
    return _judged(hits, judges, include_untrained)


# ---------------------------------------------------------------------------------------- the cells


@checked
def observer_conditions(
    hits: pd.DataFrame,
    networks: pd.DataFrame,
    factors: Sequence[str] | Mapping[str, Sequence[str]] = ("training", "color"),
    *,
    judge_factor: str | None = None,
    judges: str | Sequence[str] = "others",
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
    judge_factor : str, optional
        A column with two levels among the judges: the same cells as seen by the judges of each
        level, too. All judges must then be in the table of networks.
    judges : {"others", "outside"} or sequence of str
        See `JUDGES`. With ``others``, as in the abstract, judges differ by generator: see the
        notes.
    validity : {"valid", "failed", "not judged"}
        Which metamers count.
    paired : bool
        Only photographs with such a metamer of every generator, so that cells differ by nothing
        else. Otherwise each generator counts by its own photographs.
    include_untrained : bool
        Keep judges with random weights.
    n_resamples : int
        Resamples of photographs, shared by the four cells; 0 for none.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of the resamples.

    Returns
    -------
    pandas.DataFrame
        Four rows a stage × setting × target × ways × rule (and × judges): these, validity,
        judge_factor, judge_level (``all judges``, or the level), factor_a, factor_b, a, b (the
        levels), value (share recognized, 0 to 1: mean over judges, then photographs, then
        generators, each as much as another), low, high, n_generators, generators (names, joined by
        ``+``), n_judges (of all cells), n_images, n_excluded (photographs left out), n_metamers,
        n_valid, n_failed, n_not_judged, pass_same_class, pass_above_null, pass_both (of all
        metamers of the cell's generators), note. A cell without a value has a row that says why.

    Raises
    ------
    InputError
        As `observer_matrix`; and when generators are not in the table of networks, networks of that
        table are not in the hits, a value is missing, a factor has not two levels, or a cell has no
        generator at any stage.

    Notes
    -----
    A generator never judges itself, so with ``others`` the judges of two generators differ in these
    two networks. If networks at one level of a factor are better judges of everybody by d, their
    own metamers lose d / (judges - 1) against those of the other level, the generators counted
    among the judges. ``outside`` is free of that.
    """
    table = _checked(hits, judges, include_untrained, validity)
    design = _design(table, networks, factors, judge_factor)
    rows = []
    for context, part in _contexts(table):
        for view in _views(part, design, validity):
            told = {
                **context,
                "validity": validity,
                "judge_factor": design.judge_factor,
                "judge_level": view.level,
                "factor_a": design.factors[0],
                "factor_b": design.factors[1],
            }
            for cell in range(4):
                rows.append(
                    {
                        **told,
                        **_cell(
                            cell,
                            part,
                            view,
                            design,
                            validity,
                            paired,
                            n_resamples,
                            confidence,
                            seed,
                        ),
                    }
                )
    return pd.DataFrame(rows)


def _cell(
    cell: int,
    part: pd.DataFrame,
    view: _View,
    design: _Design,
    validity: str,
    paired: bool,
    n_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, Any]:
    """Describe one cell."""
    own = [one for one in view.scores.columns if design.cells[one] == cell]
    places = np.flatnonzero([one in own for one in view.scores.columns])
    values = (view.shared() if paired else view.any())[:, places]
    there = np.isfinite(values).any(axis=1) if own else np.zeros(len(values), dtype=bool)
    value, low, high = _cell_mean(values, n_resamples, confidence, seed)
    metamers = part[part["members"].isin(own)].drop_duplicates(["members", "reference_id"])
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
        "n_judges": view.n_judges,
        "n_images": int(there.sum()),
        "n_excluded": len(view.scores) - int(there.sum()),
        "n_metamers": rates.pop("n_images"),
        **rates,
        "note": "" if np.isfinite(value) else _lost(part, view, design, validity),
    }


def _cell_mean(
    values: np.ndarray, n_resamples: int, confidence: float, seed: int
) -> tuple[float, float, float]:
    """Average (photographs, generators) over photographs, then generators.

    The interval is over photographs.
    """
    if not values.size:
        return np.nan, np.nan, np.nan
    counts = np.concatenate(
        [np.ones((1, len(values)), dtype=int), bootstrap_counts(len(values), n_resamples, seed)]
    )
    means = resampled_means(values, counts)
    found = resampled_means(means.T, np.ones((1, values.shape[1]), dtype=int))[
        0
    ]  # around generators without an image
    low, high = percentile_interval(found[1:, None], confidence)
    return float(found[0]), float(low[0]), float(high[0])


# -------------------------------------------------------------------------------------- the effects


@checked
def observer_tests(
    hits: pd.DataFrame,
    networks: pd.DataFrame,
    factors: Sequence[str] | Mapping[str, Sequence[str]] = ("training", "color"),
    *,
    judge_factor: str | None = None,
    judges: str | Sequence[str] = "others",
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
    judge_factor : str, optional
        A column with two levels among the judges: the same effects as seen by the judges of each
        level (are metamers of blur-trained networks better recognized by standard *and* by
        blur-trained judges?), and the difference between the two (the interaction of each effect
        with the judges' factor).
    judges : {"others", "outside"} or sequence of str
        See `JUDGES`, and the notes of `observer_conditions`.
    validity : {"valid", "failed", "not judged"}
        Which metamers count.
    paired : bool
        Over generators: score all by the photographs that have such a metamer of every generator.
        Otherwise each is scored by its own photographs. Over images only those photographs can be
        used in any case.
    include_untrained : bool
        Keep judges with random weights.
    n_permutations : int
        Relabelings drawn; all are tried where there are not more.
    n_resamples : int
        Resamples of photographs; 0 for none.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of both.

    Returns
    -------
    pandas.DataFrame
        Six rows (three effects × two units) a stage × setting × target × ways × rule (and ×
        judges): these, validity, judge_factor, judge_level (``all judges``, a level, or ``first -
        second``), effect (a factor's name, or ``interaction``), contrast (in words), unit, value
        (difference of proportions, -1 to 1; of an interaction up to ±2, and of a difference between
        judges twice as far), low, high, p, p_min, p_holm, exact, n_permutations, n_generators,
        n_judges, n_images, n_excluded (photographs left out), note. An effect that cannot be tested
        has a row that says why.

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
    by these judges in these photographs. With few networks p cannot be small: ``p_min`` is the
    least, and a note says so where it is above .05.

    ``p_holm`` is corrected (Holm) for the three effects of one unit, context and level of judges.
    """
    table = _checked(hits, judges, include_untrained, validity)
    design = _design(table, networks, factors, judge_factor)
    options = {
        "n_permutations": n_permutations,
        "n_resamples": n_resamples,
        "confidence": confidence,
        "seed": seed,
    }
    rows: list[dict[str, Any]] = []
    for context, part in _contexts(table):
        for view in _with_difference(_views(part, design, validity)):
            told = {
                **context,
                "validity": validity,
                "judge_factor": design.judge_factor,
                "judge_level": view.level,
            }
            for unit in UNITS:
                found = _effects(view, design, unit, paired, options)
                why = (
                    _lost(part, view, design, validity)
                    if not np.isfinite(found[0]["value"])
                    else ""
                )
                rows += [
                    {**told, **one, "note": "; ".join(filter(None, [why, one["note"]]))}
                    for one in found
                ]
    return pd.DataFrame(rows)


def _with_difference(views: list[_View]) -> list[_View]:
    """Add the difference between the two levels of judges."""
    if len(views) < 3:
        return views
    first, second = views[1:]
    return [
        *views,
        _View(
            level=f"{first.level} - {second.level}",
            scores=first.scores - second.scores,
            n_judges=first.n_judges + second.n_judges,
        ),
    ]


def _effects(
    view: _View, design: _Design, unit: str, paired: bool, options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Test the three effects of one view over one unit."""
    cells = np.array([design.cells[one] for one in view.scores.columns])
    values = view.shared() if paired or unit == "images" else view.any()
    usable = (
        values.size > 0
        and set(cells.tolist()) == set(range(4))
        and bool(np.isfinite(values).any(axis=0).all())
    )
    numbers = {
        "n_generators": len(cells),
        "n_judges": view.n_judges,
        "n_images": len(values),
        "n_excluded": len(view.scores) - len(values),
    }
    rows = []
    for kind in CONTRASTS:
        effect, contrast = design.effect(kind)
        found = (np.nan, np.nan, np.nan, NO_TEST)
        if usable:
            found = (_over_images if unit == "images" else _over_generators)(
                values, cells, kind, options
            )
        value, low, high, test = found
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
                "note": _few(test, unit, numbers) if usable else "",
            }
        )
    for row, p in zip(rows, correct_p(np.array([one["p"] for one in rows]), "holm"), strict=True):
        row["p_holm"] = p
    return rows


def _over_images(
    values: np.ndarray, cells: np.ndarray, kind: str, options: Mapping[str, Any]
) -> tuple[float, float, float, PermutationTest]:
    """Take the effect photograph by photograph."""
    weights = np.array(CONTRASTS[kind]) / np.bincount(cells, minlength=4)
    effects = values @ weights[cells]
    counts = bootstrap_counts(len(effects), options["n_resamples"], options["seed"])
    low, high = percentile_interval(
        resampled_means(effects[:, None], counts), options["confidence"]
    )
    test = sign_flips(effects, options["n_permutations"], seed=options["seed"])
    return float(effects.mean()), float(low[0]), float(high[0]), test


def _over_generators(
    values: np.ndarray, cells: np.ndarray, kind: str, options: Mapping[str, Any]
) -> tuple[float, float, float, PermutationTest]:
    """Score each generator, and compare the scores."""
    scores = resampled_means(values, np.ones((1, len(values)), dtype=int))[0]
    weights = np.array(CONTRASTS[kind]) / np.bincount(cells, minlength=4)
    low, high = spread_interval(scores, cells, kind, options["confidence"])
    test = relabel(scores, cells, kind, options["n_permutations"], seed=options["seed"])
    return float(scores @ weights[cells]), low, high, test


def _few(test: PermutationTest, unit: str, numbers: Mapping[str, int]) -> str:
    """Say so where p cannot be small."""
    if np.isnan(test.p):
        return (
            "one network in every cell: nothing tells the interaction from chance between networks"
        )
    if test.p_min <= _LEVEL:
        return ""
    return f"p cannot be below {test.p_min:.3g} with {numbers[f'n_{unit}']} {unit}"
