"""Recognizability: whether networks that took no part give a metamer the class of its photograph.

For an evaluator E, a photograph x and its metamer x', a hit is argmax E(x') = c. The wanted class c
is the evaluator's own, argmax E(x), the ground truth, or the generators'. Images are the saved
8-bit pictures, cut for each evaluator by its own preprocessing, photograph and metamer alike.

References
----------
Boehm et al. (2025). arXiv 2504.01739, section on recognizability, Fig. 3 (stages) and Fig. 6
(restricted images). It leaves open whose class counts, and what "the model it was generated on" is
for a set of networks; see `TARGETS`. Feather, J. et al. (2023). Nature Neuroscience 26, 2017-2034
(16 categories).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.evaluation.sets import (
    FLAGS,
    STAGE_ORDER,
    MetamerSet,
    chosen_evaluators,
    pass_rates,
    resampled_means,
    seen_by,
    states_of,
    summarize,
)
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stored_images import ImagesOnDisk

TARGETS = ("own", "truth", "generator")
"""Whose class of the photograph counts as the right one for the metamer.

It is the evaluator's own class; the ground truth; or the class of the networks that took part (of a
set of networks: the class of the largest mean probability).
"""
WAYS = (1000, 16)
MEASURES = ("evaluator", "evaluator_weights", "trained", "took_part", "target", "ways", "rule")
AVERAGE = "mean of evaluators"
_CHUNK = 64
Memory = dict[tuple[str, str], np.ndarray]
Seen = Callable[["StagedModel", "np.ndarray | ImagesOnDisk", str], np.ndarray]

# ----------------------------------------------------------------------------------- image by image


@checked
def recognition_table(
    evaluators: Sequence[StagedModel],
    sets: Sequence[MetamerSet],
    *,
    target: str = "own",
    ways: Sequence[int] = WAYS,
    rules: Sequence[str] = ("first_mapped", "mean_prob"),
    truth: Mapping[str, int | str] | None = None,
    generators: Sequence[StagedModel] = (),
    include_untrained: bool = False,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    memory: Memory | None = None,
) -> pd.DataFrame:
    """Ask every evaluator about every metamer.

    Parameters
    ----------
    evaluators : sequence of StagedModel
        Whom to ask, at least 2.
    sets : sequence of MetamerSet
        What to ask about.
    target : {"own", "truth", "generator"}
        See `TARGETS`.
    ways : sequence of int
        1000 (all classes of the evaluator) and 16 (categories, `stimuli_gen.categories`).
    rules : sequence of str
        How 1,000 classes become 16 categories, see `stimuli_gen.categories.RULES_16`.
    truth : mapping of str to int or str, optional
        Photograph id to ImageNet class (0 to 999) or, for 16 ways only, category. The photographs'
        column ``category`` by default.
    generators : sequence of StagedModel
        For the target ``generator``: networks that took part and are not among the evaluators.
    include_untrained : bool
        Ask networks with random weights too.
    batch_size : int
        Images a pass.
    progress : callable, optional
        Called with (evaluators done × sets, in all).
    memory : dict, optional
        Keeps what networks say to photographs, for further calls; empty at first.

    Returns
    -------
    pandas.DataFrame
        One row an evaluator, set, image, number of ways and rule: the set (`SET_COLUMNS`), id,
        reference_id, evaluator, evaluator_weights, trained, took_part, target, ways, rule (``all
        classes`` for 1,000), wanted, said, hit (0 or 1; NaN where the wanted class is in none of
        the 16 categories), same_class, above_null, valid.

    Raises
    ------
    InputError
        When there are fewer than 2 evaluators or no set, two sets have one name, a target, rule or
        category is unknown, or the ground truth or a generator is missing.
    """
    judges = chosen_evaluators(evaluators, include_untrained)
    measures = _measures(ways, rules)
    _check(sets, target, judges, ways)
    seen = _asked(batch_size, {} if memory is None else memory)
    parts = []
    for number, one in enumerate(sets):
        told = {
            **one.label,
            **{name: one.table[name].to_numpy() for name in ("id", "reference_id")},
        }
        flags = {flag: one.table[flag].array for flag in FLAGS}
        for at, judge in enumerate(judges):
            after = seen(judge, one.pictures, "")
            for n_ways, rule in measures:
                wanted = _wanted(
                    one, judge, n_ways, rule, target, truth, [*evaluators, *generators], seen
                )
                said = _classes(judge, after, n_ways, rule)
                hit = np.where(pd.isna(wanted), np.nan, (said == wanted).astype(float))
                parts.append(
                    pd.DataFrame(
                        {
                            **told,
                            "evaluator": judge.name,
                            "evaluator_weights": judge.weights,
                            "trained": judge.trained,
                            "took_part": one.took_part(judge),
                            "target": target,
                            "ways": n_ways,
                            "rule": rule,
                            "wanted": wanted,
                            "said": said,
                            "hit": hit,
                            **flags,
                        }
                    )
                )
            if progress is not None:
                progress(number * len(judges) + at + 1, len(sets) * len(judges))
    return pd.concat(parts, ignore_index=True)


def _measures(ways: Sequence[int], rules: Sequence[str]) -> list[tuple[int, str]]:
    from stimuli_gen.categories import RULES_16

    for one in ways:
        if one not in WAYS:
            raise unknown_name("number of ways", str(one), [str(known) for known in WAYS])
    for rule in rules:
        if rule not in RULES_16:
            raise unknown_name("16-category rule", rule, RULES_16)
    found = [
        pair
        for n in dict.fromkeys(ways)
        for pair in ([(n, one) for one in rules] if n == 16 else [(n, "all classes")])
    ]
    if not found:
        raise InputError(
            "recognition needs at least one number of ways (1000, 16), and for 16 ways a rule."
        )
    return found


def _check(
    sets: Sequence[MetamerSet], target: str, judges: Sequence[StagedModel], ways: Sequence[int]
) -> None:
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    if not sets:
        raise InputError("no metamers to evaluate; give at least one set.")
    if again := duplicates(" · ".join(one.label.values()) for one in sets):
        raise InputError(
            f"sets of metamers with the same name: {name_ids(again)}; name each its own way."
        )
    if 16 in ways and (wrong := [one.name for one in judges if one.n_classes != 1000]):
        raise InputError(
            f"16 categories are made of ImageNet's 1,000 classes, which {name_ids(wrong)} lack(s); "
            "use other evaluators, or only ways=(1000,)."
        )


def _asked(batch_size: int, kept: Memory) -> Seen:
    """Make the function that lets a network classify pictures.

    Its answers to the same photographs are kept.
    """
    from stimuli_gen.models import predict

    def _ask(model: StagedModel, pictures: np.ndarray | ImagesOnDisk, key: str) -> np.ndarray:
        if not key or (model.digest, key) not in kept:
            chunks = (pictures[start : start + _CHUNK] for start in range(0, len(pictures), _CHUNK))
            found = np.concatenate(
                [predict(model, seen_by(model, one), batch_size) for one in chunks]
            )
            if not np.isfinite(found).all():
                raise InputError(f"{model.name}: probabilities are not finite; check its weights.")
            if not key:
                return found
            kept[model.digest, key] = found
        return kept[model.digest, key]

    return _ask


def _classes(model: StagedModel, probabilities: np.ndarray, ways: int, rule: str) -> np.ndarray:
    """Name the classes: of 16, the category; else the network's own class name.

    Class names repeat, so that the number of the class follows.
    """
    from stimuli_gen.categories import to_sixteen

    if ways == 16:
        return to_sixteen(probabilities, rule).astype(object)
    return _named(model, probabilities.argmax(axis=1))


def _named(model: StagedModel, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.array([f"{one} {model.class_names[one]}" for one in indices], dtype=object)


def _wanted(
    one: MetamerSet,
    judge: StagedModel,
    ways: int,
    rule: str,
    target: str,
    truth: Mapping[str, int | str] | None,
    networks: Sequence[StagedModel],
    seen: Seen,
) -> np.ndarray:
    if target == "own":
        return _classes(judge, seen(judge, one.references, one.reference_digest), ways, rule)
    if target == "truth":
        return _true_classes(one, judge, ways, truth)
    takers = [
        model
        for model in {model.digest: model for model in networks}.values()
        if one.took_part(model)
    ]
    if (
        missing := [name for name in one.members if name not in [model.name for model in takers]]
        or not takers
    ):
        names = name_ids(missing) if isinstance(missing, list) else "unknown"
        raise InputError(
            f"{one.name}: the network(s) that took part ({names}) are needed for the target "
            "'generator'."
        )
    mean = np.mean([seen(model, one.references, one.reference_digest) for model in takers], axis=0)
    return _classes(judge, mean, ways, rule)


def _true_classes(
    one: MetamerSet, judge: StagedModel, ways: int, truth: Mapping[str, int | str] | None
) -> np.ndarray:
    from stimuli_gen.categories import CATEGORIES, sixteen_classes

    ids = one.table["reference_id"].tolist()
    given = dict(zip(ids, one.table["category"], strict=True)) if truth is None else dict(truth)
    if missing := [name for name in ids if name not in given or given[name] == ""]:
        raise InputError(
            f"no ground truth for {name_ids(missing)}; give truth, or the photographs a category."
        )
    values = [given[name] for name in ids]
    words = [name for name, value in zip(ids, values, strict=True) if isinstance(value, str)]
    if ways == 16:
        unknown = sorted({str(given[name]) for name in words} - set(CATEGORIES))
        if unknown:
            raise unknown_name("category", unknown[0], CATEGORIES)
        table = sixteen_classes()
        found = [value if isinstance(value, str) else table.get(int(value)) for value in values]
        return np.array(found, dtype=object)
    if words:
        raise InputError(
            f"1,000 ways need ImageNet classes as truth; {name_ids(words)} have a word. Use "
            "ways=(16,)."
        )
    if wrong := [
        name
        for name, value in zip(ids, values, strict=True)
        if not 0 <= int(value) < judge.n_classes
    ]:
        raise InputError(
            f"the true class of {name_ids(wrong)} is none of the {judge.n_classes} of {judge.name}."
        )
    return _named(judge, [int(value) for value in values])


# ------------------------------------------------------------------------------------------- tables


@checked
def recognizability(
    evaluators: Sequence[StagedModel],
    sets: Sequence[MetamerSet],
    *,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Measure how often evaluators recognize metamers.

    Parameters
    ----------
    evaluators : sequence of StagedModel
        Whom to ask, at least 2.
    sets : sequence of MetamerSet
        What to ask about.
    n_resamples : int
        Resamples of images, shared by all evaluators of a set.
    confidence : float
        Of the intervals.
    seed : int
        Of the resamples.
    **options : object
        See `recognition_table`.

    Returns
    -------
    pandas.DataFrame
        See `recognition_summary`.

    Raises
    ------
    InputError
        See `recognition_table`.
    """
    hits = recognition_table(evaluators, sets, **options)
    return recognition_summary(hits, n_resamples=n_resamples, confidence=confidence, seed=seed)


def recognition_summary(
    hits: pd.DataFrame, *, n_resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Average hits over images, and over the evaluators that took no part.

    Parameters
    ----------
    hits : pandas.DataFrame
        From `recognition_table`.
    n_resamples : int
        Resamples of images.
    confidence : float
        Of the intervals.
    seed : int
        Of the resamples.

    Returns
    -------
    pandas.DataFrame
        One row an evaluator × stage × set × ways × rule × validity: value (share recognized, 0 to
        1), low, high, n, and the pass rates of the set, see
        `neurometamer.evaluation.sets.summarize`. Rows with the evaluator ``mean of evaluators`` are
        over those that took no part (value, sd, n_averaged; the interval is over images).

    Raises
    ------
    InputError
        For a wrong confidence or number of resamples.
    """
    counted = hits.assign(counted=~hits["took_part"].astype(bool))
    return summarize(
        counted,
        MEASURES,
        "hit",
        average="evaluator",
        counted="counted",
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )


@checked_with(
    tables={
        "summary": Columns(
            "the summary",
            "Make it with recognition_summary.",
            (
                "set",
                "members",
                "stage",
                "setting",
                "evaluator",
                "ways",
                "rule",
                "validity",
                "value",
            ),
        )
    }
)
def recognizability_curves(
    summary: pd.DataFrame, *, ways: int = 1000, rule: str | None = None
) -> pd.DataFrame:
    """Compute the curves over stages: the mean of evaluators, one curve per set.

    See Boehm et al. (2025), Fig. 3.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `recognizability`.
    ways : int
        1000 or 16.
    rule : str, optional
        Of 16 ways; the first in the table by default.

    Returns
    -------
    pandas.DataFrame
        set, setting, validity, stage, place (0, 1, 2 for early, middle, late; then other stages as
        they come), n, value, low, high, sd, n_averaged, pass rates and note; ordered by set,
        setting, validity and place.

    Raises
    ------
    InputError
        When the table has no such rows.
    """
    rows = summary[(summary["evaluator"] == AVERAGE) & (summary["ways"] == ways)]
    if rule is not None or len(rows):
        rows = rows[rows["rule"] == (rows["rule"].iloc[0] if rule is None else rule)]
    if rows.empty:
        raise InputError(
            f"the table has no mean over evaluators with {ways} ways and the rule {rule}."
        )
    known = [*STAGE_ORDER, *(one for one in dict.fromkeys(rows["stage"]) if one not in STAGE_ORDER)]
    rows = rows.assign(place=rows["stage"].map(known.index))
    first = ["set", "members", "setting", "validity", "stage", "place"]
    dropped = [*MEASURES[:4], *first]
    others = [one for one in rows.columns if one not in dropped]
    order = {name: list(dict.fromkeys(rows[name])) for name in ("set", "setting", "validity")}
    ranks = rows.assign(**{name: rows[name].map(values.index) for name, values in order.items()})
    return rows.loc[
        ranks.sort_values(["set", "setting", "validity", "place"]).index, [*first, *others]
    ].reset_index(drop=True)


# ------------------------------------------------------------------------------------------ how far


@checked
def epsilon_settings(
    radii: Sequence[float | None] = (8 / 255, 0.3, None),
    *,
    ball: str = "linf",
    center: str = "start",
) -> dict[str, dict[str, Any]]:
    """Give the settings of metamers for the comparison of restricted images.

    See Boehm et al. (2025), Fig. 6.

    Parameters
    ----------
    radii : sequence of float or None
        How far a pixel in [0, 1] may move; None for images that are only kept in [0, 1].
    ball : {"linf", "l2"}
        Form of the ball. The paper says "typically L-inf".
    center : {"start", "reference"}
        Of the ball. The paper's formula has the photograph, its text the initial noise. Around a
        photograph, an image within 8/255 *is* the photograph, to a person; the noise is the
        default.

    Returns
    -------
    dict of str to dict
        Name of the setting, as `neurometamer.evaluation.sets.setting_name` gives it, to overrides
        of the recipe (`stimuli_gen.model_metamers` takes them as they are).

    Raises
    ------
    InputError
        When a radius is not above 0, or ball or center is unknown.

    Examples
    --------
    >>> list(epsilon_settings())
    ['linf 8/255 around start', 'linf 0.3 around start', 'unbounded']
    """
    from neurometamer.evaluation.sets import setting_name
    from stimuli_gen.presets import make_recipe

    found = {}
    for radius in radii:
        overrides = (
            {"ball": "none"}
            if radius is None
            else {"ball": ball, "radius": float(radius), "center": center}
        )
        make_recipe("boehm2025", overrides)  # checks the values
        found[setting_name(overrides)] = overrides
    return found


@checked_with(
    tables={
        "hits": Columns(
            "the table of hits",
            "Make it with recognition_table.",
            (
                "set",
                "members",
                "stage",
                "setting",
                "target",
                "reference_id",
                "ways",
                "rule",
                "took_part",
                "hit",
                *FLAGS,
            ),
        )
    }
)
def epsilon_comparison(
    hits: pd.DataFrame,
    *,
    baseline: str = "unbounded",
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare how far images could move, paired over photographs (Boehm et al. 2025, Fig. 6).

    Parameters
    ----------
    hits : pandas.DataFrame
        From `recognition_table`, of sets made in several settings.
    baseline : str
        Setting that the others are compared with.
    n_resamples : int
        Resamples of photographs, drawn once for both settings.
    confidence : float
        Of the intervals.
    seed : int
        Of the resamples.

    Returns
    -------
    pandas.DataFrame
        One row a set × stage × setting × ways × rule × validity: value (mean over evaluators that
        took no part), n, baseline_value, difference with low and high, over the n_paired
        photographs that are in this state in both settings, NaN where there are none; and the pass
        rates of the set in this setting.

    Raises
    ------
    InputError
        When no set was made in the baseline setting.
    """
    if baseline not in set(hits["setting"]):
        raise unknown_name("setting", baseline, sorted(set(hits["setting"])))
    counted = hits[~hits["took_part"].astype(bool)].assign(
        validity=states_of(hits["valid"])[~hits["took_part"].astype(bool)]
    )
    keys: list[str] = ["set", "members", "stage", "target", "ways", "rule", "validity"]
    per_image = counted.groupby([*keys, "setting", "reference_id"], sort=False, dropna=False)[
        "hit"
    ].mean()
    rates = {
        key: pass_rates(part.drop_duplicates("reference_id"))
        for key, part in counted.groupby(
            ["set", "members", "stage", "setting"], sort=False, dropna=False
        )
    }
    rows = []
    for key, part in per_image.reset_index().groupby(keys, sort=False, dropna=False):
        wide = part.pivot(index="reference_id", columns="setting", values="hit")
        for setting in wide.columns:
            rows.append(
                {
                    **dict(zip(keys, key, strict=True)),
                    "setting": setting,
                    **_paired(wide, setting, baseline, n_resamples, confidence, seed),
                    **rates[*key[:3], setting],
                }
            )
    return pd.DataFrame(rows)


def _paired(
    wide: pd.DataFrame, setting: str, baseline: str, n_resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Compare one setting with the baseline over the photographs that both have."""
    own = wide[setting].dropna()
    found: dict[str, Any] = {
        "n": len(own),
        "value": own.mean(),
        "baseline": baseline,
        "n_paired": 0,
    }
    found |= dict.fromkeys(("baseline_value", "difference", "low", "high"), np.nan)
    both = wide[[setting, baseline]].dropna() if baseline in wide else wide.iloc[:0]
    if setting == baseline or not len(both):
        return found
    change = (both[setting] - both[baseline]).to_numpy()[:, None]
    low, high = percentile_interval(
        resampled_means(change, bootstrap_counts(len(both), n_resamples, seed)), confidence
    )
    return found | {
        "n_paired": len(both),
        "baseline_value": both[baseline].mean(),
        "difference": float(change.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
    }
