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

import itertools
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
    setting_name,
    states_of,
    summarize,
)
from neurometamer.run_options import RunOptions
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
    run: RunOptions | None = None,
    memory: Memory | None = None,
) -> pd.DataFrame:
    """Classify every metamer by every evaluator.

    Parameters
    ----------
    evaluators : sequence of StagedModel
        The evaluators, at least 2.
    sets : sequence of MetamerSet
        The metamers and their photographs.
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
    run : RunOptions, optional
        Batch size and progress, which is called with the pairs of evaluator
        and set that are done, and all.
    memory : dict, optional
        Keeps the probabilities of photographs for further calls; empty at first.

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

    Examples
    --------
    >>> from neurometamer.evaluation.sets import metamer_set
    >>> from neurometamer.zoo import load_models
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 48, 48), dtype=np.float32)
    >>> photographs = StimulusSet(
    ...     images=images,
    ...     table=pd.DataFrame(
    ...         {"id": ["cat", "cup"], "kind": "RE", "reference_id": ["cat", "cup"]}
    ...     ),
    ... )
    >>> metamers = StimulusSet(
    ...     images=1 - images,
    ...     table=pd.DataFrame(
    ...         {"id": ["cat_m", "cup_m"], "kind": "metamer", "reference_id": ["cat", "cup"]}
    ...     ),
    ... )
    >>> evaluators = load_models(["squeezenet1_0", "squeezenet1_0_grey"], "random")
    >>> joined = metamer_set(photographs, metamers, members=["alexnet"], stage="late")
    >>> table = recognition_table(evaluators, [joined], ways=[1000], include_untrained=True)
    >>> table.groupby("evaluator")["id"].apply(list).to_dict()
    {'squeezenet1_0': ['cat_m', 'cup_m'], 'squeezenet1_0_grey': ['cat_m', 'cup_m']}
    """
    chosen = chosen_evaluators(evaluators, include_untrained)
    measures = _measures(ways, rules)
    _check(sets, target, chosen, ways)
    run = run or RunOptions()
    seen = _classifier(run.batch_size, {} if memory is None else memory)
    networks = [*evaluators, *generators]
    parts = []
    pairs = list(itertools.product(sets, chosen))
    for done, (metamers, evaluator) in enumerate(pairs, start=1):
        ids = metamers.table[["id", "reference_id"]].reset_index(drop=True)
        flags = {flag: metamers.table[flag].array for flag in FLAGS}
        probabilities = seen(evaluator, metamers.pictures, "")
        for n_ways, rule in measures:
            wanted = _wanted(metamers, evaluator, n_ways, rule, target, truth, networks, seen)
            said = _classes(evaluator, probabilities, n_ways, rule)
            hit = np.where(pd.isna(wanted), np.nan, (said == wanted).astype(float))
            part = ids.assign(
                evaluator=evaluator.name,
                evaluator_weights=evaluator.weights,
                trained=evaluator.trained,
                took_part=metamers.took_part(evaluator),
                target=target,
                ways=n_ways,
                rule=rule,
                wanted=wanted,
                said=said,
                hit=hit,
                **flags,
            )
            for position, (name, text) in enumerate(metamers.label.items()):
                part.insert(position, name, text)
            parts.append(part)
        if run.progress is not None:
            run.progress(done, len(pairs))
    return pd.concat(parts, ignore_index=True)


def _measures(ways: Sequence[int], rules: Sequence[str]) -> list[tuple[int, str]]:
    from stimuli_gen.categories import RULES_16

    measures = []
    for n in dict.fromkeys(ways):
        if n not in WAYS:
            raise unknown_name("number of ways", str(n), [str(known) for known in WAYS])
        measures += [(n, rule) for rule in (rules if n == 16 else ("all classes",))]
    for rule in rules:
        if rule not in RULES_16:
            raise unknown_name("16-category rule", rule, RULES_16)
    if not measures:
        raise InputError(
            "recognition needs at least one number of ways (1000, 16), and for 16 ways a rule."
        )
    return measures


def _check(
    sets: Sequence[MetamerSet], target: str, chosen: Sequence[StagedModel], ways: Sequence[int]
) -> None:
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    if not sets:
        raise InputError("no metamers to evaluate; give at least one set.")
    if again := duplicates(" · ".join(metamers.label.values()) for metamers in sets):
        raise InputError(
            f"sets of metamers with the same name: {name_ids(again)}; name each its own way."
        )
    wrong = [evaluator.name for evaluator in chosen if evaluator.n_classes != 1000]
    if 16 in ways and wrong:
        raise InputError(
            f"16 categories are made of ImageNet's 1,000 classes, which {name_ids(wrong)} lack(s); "
            "use other evaluators, or only ways=(1000,)."
        )


def _classifier(batch_size: int, kept: Memory) -> Seen:
    """Make the function that lets a network classify pictures.

    Its probabilities of the same photographs are kept.
    """
    from stimuli_gen.models import predict

    def _classify(model: StagedModel, pictures: np.ndarray | ImagesOnDisk, key: str) -> np.ndarray:
        if key and (model.digest, key) in kept:
            return kept[model.digest, key]
        parts = []
        for start in range(0, len(pictures), _CHUNK):
            chunk = seen_by(model, pictures[start : start + _CHUNK])
            parts.append(predict(model, chunk, batch_size))
        probabilities = np.concatenate(parts)
        if not np.isfinite(probabilities).all():
            raise InputError(f"{model.name}: probabilities are not finite; check its weights.")
        if key:
            kept[model.digest, key] = probabilities
        return probabilities

    return _classify


def _classes(model: StagedModel, probabilities: np.ndarray, ways: int, rule: str) -> np.ndarray:
    """Name the classes: of 16, the category; else the network's own class name.

    Class names repeat, so that the number of the class follows.
    """
    from stimuli_gen.categories import to_sixteen

    if ways == 16:
        return to_sixteen(probabilities, rule).astype(object)
    return _named(model, probabilities.argmax(axis=1))


def _named(model: StagedModel, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.array([f"{index} {model.class_names[index]}" for index in indices], dtype=object)


def _wanted(
    metamers: MetamerSet,
    evaluator: StagedModel,
    ways: int,
    rule: str,
    target: str,
    truth: Mapping[str, int | str] | None,
    networks: Sequence[StagedModel],
    seen: Seen,
) -> np.ndarray:
    references, key = metamers.references, metamers.reference_digest
    if target == "own":
        return _classes(evaluator, seen(evaluator, references, key), ways, rule)
    if target == "truth":
        return _true_classes(metamers, evaluator, ways, truth)
    different = {model.digest: model for model in networks}.values()
    makers = [model for model in different if metamers.took_part(model)]
    known = {model.name for model in makers}
    missing = [name for name in metamers.members if name not in known]
    if missing or not makers:
        raise InputError(
            f"{metamers.name}: the network(s) that took part ({name_ids(missing) or 'unknown'}) "
            "are needed for the target 'generator'; give them as generators."
        )
    mean = np.mean([seen(model, references, key) for model in makers], axis=0)
    return _classes(evaluator, mean, ways, rule)


def _true_classes(
    metamers: MetamerSet, evaluator: StagedModel, ways: int, truth: Mapping[str, int | str] | None
) -> np.ndarray:
    from stimuli_gen.categories import CATEGORIES, sixteen_classes

    ids = metamers.table["reference_id"].tolist()
    given: Mapping[str, Any] = dict(zip(ids, metamers.table["category"], strict=True))
    if truth is not None:
        given = truth
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
        categories = [
            value if isinstance(value, str) else table.get(int(value)) for value in values
        ]
        return np.array(categories, dtype=object)
    if words:
        raise InputError(
            f"1,000 ways need ImageNet classes as truth; {name_ids(words)} have a word. Use "
            "ways=(16,)."
        )
    numbers = [int(value) for value in values]
    pairs = zip(ids, numbers, strict=True)
    if wrong := [name for name, number in pairs if not 0 <= number < evaluator.n_classes]:
        raise InputError(
            f"the true class of {name_ids(wrong)} is none of the {evaluator.n_classes} of "
            f"{evaluator.name}; correct truth, or leave the evaluator out."
        )
    return _named(evaluator, numbers)


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
        The evaluators, at least 2.
    sets : sequence of MetamerSet
        The metamers and their photographs.
    n_resamples : int
        Resamples of images, shared by all evaluators of a set.
    confidence : float
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.
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
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.

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
        Rule of 16 ways; the first in the table by default.

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

    Examples
    --------
    >>> hits = pd.DataFrame(
    ...     {
    ...         "set": "a",
    ...         "members": "alexnet",
    ...         "stage": "late",
    ...         "setting": ["unbounded"] * 4 + ["linf 8/255 around start"] * 4,
    ...         "reference_id": ["cat", "cup"] * 4,
    ...         "evaluator": ["vgg", "vgg", "vit", "vit"] * 2,
    ...         "evaluator_weights": "",
    ...         "trained": True,
    ...         "took_part": False,
    ...         "target": "own",
    ...         "ways": 1000,
    ...         "rule": "all classes",
    ...         "same_class": True,
    ...         "above_null": True,
    ...         "valid": True,
    ...         "hit": [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ...     }
    ... )
    >>> curves = recognizability_curves(recognition_summary(hits, n_resamples=0))
    >>> curves[["setting", "stage", "value"]].values.tolist()
    [['unbounded', 'late', 0.5], ['linf 8/255 around start', 'late', 1.0]]
    """
    rows = summary[(summary["evaluator"] == AVERAGE) & (summary["ways"] == ways)]
    if rule is not None or len(rows):
        rows = rows[rows["rule"] == (rows["rule"].iloc[0] if rule is None else rule)]
    if rows.empty:
        raise InputError(
            f"the table has no mean over evaluators with {ways} ways and the rule {rule}."
        )
    known = list(dict.fromkeys([*STAGE_ORDER, *rows["stage"]]))
    rows = rows.assign(place=rows["stage"].map(known.index))
    first = ["set", "members", "setting", "validity", "stage", "place"]
    dropped = [*MEASURES[:4], *first]
    others = [name for name in rows.columns if name not in dropped]
    order = {name: list(dict.fromkeys(rows[name])) for name in ("set", "setting", "validity")}
    ranks = rows.assign(**{name: rows[name].map(values.index) for name, values in order.items()})
    ranks = ranks.sort_values(["set", "setting", "validity", "place"])
    return rows.loc[ranks.index, [*first, *others]].reset_index(drop=True)


# ------------------------------------------------------------------------------------------ how far


@checked
def epsilon_settings(
    radii: Sequence[float | None] = (8 / 255, 0.3, None),
    *,
    ball: str = "linf",
    center: str = "start",
) -> dict[str, dict[str, Any]]:
    """Make the settings of metamers for the comparison of restricted images.

    See Boehm et al. (2025), Fig. 6.

    Parameters
    ----------
    radii : sequence of float or None
        How far a pixel in [0, 1] may move; None for images that are only kept in [0, 1].
    ball : {"linf", "l2"}
        Form of the ball. The paper says "typically L-inf".
    center : {"start", "reference"}
        Center of the ball. The paper's formula has the photograph, its text the initial noise.
        Around a photograph, an image within 8/255 *is* the photograph, to a person; the noise is
        the default.

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
    from stimuli_gen.presets import make_recipe

    settings = {}
    for radius in radii:
        overrides: dict[str, Any] = {"ball": "none"}
        if radius is not None:
            overrides = {"ball": ball, "radius": float(radius), "center": center}
        make_recipe("boehm2025", overrides)  # checks the values
        settings[setting_name(overrides)] = overrides
    return settings


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
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.

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

    Examples
    --------
    >>> hits = pd.DataFrame(
    ...     {
    ...         "set": "a",
    ...         "members": "alexnet",
    ...         "stage": "late",
    ...         "setting": ["unbounded"] * 4 + ["linf 8/255 around start"] * 4,
    ...         "reference_id": ["cat", "cup"] * 4,
    ...         "evaluator": ["vgg", "vgg", "vit", "vit"] * 2,
    ...         "evaluator_weights": "",
    ...         "trained": True,
    ...         "took_part": False,
    ...         "target": "own",
    ...         "ways": 1000,
    ...         "rule": "all classes",
    ...         "same_class": True,
    ...         "above_null": True,
    ...         "valid": True,
    ...         "hit": [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    ...     }
    ... )
    >>> table = epsilon_comparison(hits, n_resamples=0)
    >>> table[["setting", "value", "difference"]].fillna(0).values.tolist()
    [['linf 8/255 around start', 1.0, 0.5], ['unbounded', 0.5, 0.0]]
    """
    if baseline not in set(hits["setting"]):
        raise unknown_name("setting", baseline, sorted(set(hits["setting"])))
    counted = hits[~hits["took_part"].astype(bool)]
    counted = counted.assign(validity=states_of(counted["valid"]))
    by_set = counted.groupby(["set", "members", "stage", "setting"], sort=False, dropna=False)
    rates = {key: pass_rates(part.drop_duplicates("reference_id")) for key, part in by_set}
    keys: list[str] = ["set", "members", "stage", "target", "ways", "rule", "validity"]
    by_image = counted.groupby([*keys, "setting", "reference_id"], sort=False, dropna=False)
    per_image = by_image["hit"].mean().reset_index()
    rows = []
    for key, part in per_image.groupby(keys, sort=False, dropna=False):
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
    numbers: dict[str, Any] = {
        "n": len(own),
        "value": own.mean(),
        "baseline": baseline,
        "n_paired": 0,
    }
    numbers |= dict.fromkeys(("baseline_value", "difference", "low", "high"), np.nan)
    both = wide[[setting, baseline]].dropna() if baseline in wide else wide.iloc[:0]
    if setting == baseline or not len(both):
        return numbers
    change = (both[setting] - both[baseline]).to_numpy()[:, None]
    counts = bootstrap_counts(len(both), n_resamples, seed)
    low, high = percentile_interval(resampled_means(change, counts), confidence)
    return numbers | {
        "n_paired": len(both),
        "baseline_value": both[baseline].mean(),
        "difference": float(change.mean()),
        "low": float(low[0]),
        "high": float(high[0]),
    }
