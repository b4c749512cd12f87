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
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from neurometamer.arguments import Columns, checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.evaluation.sets import (
    FLAGS,
    STAGE_ORDER,
    MetamerSet,
    pass_rates,
    resampled_means,
    setting_name,
    states_of,
    summarize,
)
from neurometamer.run_options import RunOptions
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval
from stimuli_gen.categories import CATEGORIES, N_IMAGENET, RULES_16, sixteen_classes, to_sixteen
from stimuli_gen.stimuli import to_8bit
from stimuli_gen.stored_images import ImagesOnDisk

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel

TARGETS = ("own", "truth", "generator")
"""Whose class of the photograph counts as the right one for the metamer.

It is the evaluator's own class; the ground truth; or the class of the networks that took part (of a
set of networks: the class of the largest mean probability).
"""
WAYS = (1000, 16)
MEASURES = ("evaluator", "evaluator_weights", "trained", "took_part", "target", "ways", "rule")
AVERAGE = "mean of evaluators"
Memory = dict[tuple[str, str], np.ndarray]

# --------------------------------------------------------------------------------------- evaluators


@checked_with(shapes={"pictures": "n 3 height width"})
def seen_by(model: StagedModel, pictures: np.ndarray) -> np.ndarray:
    """Present 8-bit pictures to a network.

    Pictures of its size stay as they are, others pass its preprocessing.

    Parameters
    ----------
    model : StagedModel
        The network.
    pictures : ndarray
        (n, 3, height, width) float32 in [0, 1], of 8 bits.

    Returns
    -------
    ndarray
        (n, 3, height, width) in the network's size.

    Examples
    --------
    >>> from neurometamer.zoo import load_model
    >>> model = load_model("squeezenet1_0", weights="random")
    >>> seen_by(model, np.zeros((1, 3, 64, 64), dtype=np.float32)).shape
    (1, 3, 224, 224)
    """
    preprocessing = model.preprocessing
    if tuple(pictures.shape[2:]) == preprocessing.size:
        return pictures
    seen = []
    for levels in to_8bit(pictures).transpose(0, 2, 3, 1):
        pixels = np.ascontiguousarray(levels)
        picture = Image.fromarray(pixels)
        seen.append(preprocessing.cut(picture))
    return np.stack(seen)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shown(ImagesOnDisk):
    """Pictures that pass a network's preprocessing when they are read."""

    model: StagedModel
    pictures: np.ndarray | ImagesOnDisk

    def _read(self, rows: np.ndarray) -> np.ndarray:
        return seen_by(self.model, self.pictures[rows])


def shown_to(model: StagedModel, pictures: np.ndarray | ImagesOnDisk) -> np.ndarray | ImagesOnDisk:
    """Present 8-bit pictures to a network batch by batch, as it asks for them.

    Parameters
    ----------
    model : StagedModel
        The network.
    pictures : ndarray or ImagesOnDisk
        (n, 3, height, width) float32 in [0, 1], of 8 bits.

    Returns
    -------
    ndarray or ImagesOnDisk
        (n, 3, height, width) in the network's size; what is indexed is what `seen_by` gives.

    Examples
    --------
    >>> from neurometamer.zoo import load_model
    >>> model = load_model("squeezenet1_0", weights="random")
    >>> pictures = shown_to(model, np.zeros((3, 3, 64, 64), dtype=np.float32))
    >>> pictures.shape, pictures[1:].shape
    ((3, 3, 224, 224), (2, 3, 224, 224))
    """
    size = model.preprocessing.size
    if tuple(pictures.shape[2:]) == size:
        return pictures
    return _Shown(model=model, pictures=pictures, shape=(len(pictures), 3, *size))


def chosen_evaluators(models: Sequence[StagedModel], include_untrained: bool) -> list[StagedModel]:
    """Leave out networks with random weights, and check that enough are left.

    Parameters
    ----------
    models : sequence of StagedModel
        Possible evaluators.
    include_untrained : bool
        Keep networks with random weights.

    Returns
    -------
    list of StagedModel
        The evaluators, at least 2.

    Raises
    ------
    InputError
        When fewer than 2 are left, or two have one name.
    """
    names = [model.name for model in models]
    again = duplicates(names)
    if again:
        raise InputError(
            f"evaluators with the same name: {name_ids(again)}; name each its own way."
        )
    kept = [model for model in models if model.trained or include_untrained]
    if len(kept) < 2:
        kept_names = [model.name for model in kept]
        left_out = [name for name in names if name not in kept_names]
        raise InputError(
            f"{len(kept)} evaluator(s) ({name_ids(kept_names) or 'none'}); at least 2 are needed. "
            f"Left out for random weights: {name_ids(left_out) or 'none'}."
        )
    return kept


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
        1000 (all classes of the evaluator) and 16 (categories, `stimuli_gen.categories`). Where no
        evaluator has ImageNet's classes, the 16 of both are left out, with a warning.
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
    if target not in TARGETS:
        raise unknown_name("target", target, TARGETS)
    if not sets:
        raise InputError("no metamers to evaluate; give at least one set.")
    names = [" · ".join(metamers.label.values()) for metamers in sets]
    again = duplicates(names)
    if again:
        raise InputError(
            f"sets of metamers with the same name: {name_ids(again)}; name each its own way."
        )
    measures = _measures(ways, rules, chosen)
    run = run or RunOptions()
    seen = _Classifier(batch_size=run.batch_size, kept={} if memory is None else memory)
    networks = [*evaluators, *generators]
    parts = []
    pairs = list(itertools.product(sets, chosen))
    for done, (metamers, evaluator) in enumerate(pairs, start=1):
        ids = metamers.table[["id", "reference_id"]].reset_index(drop=True)
        probabilities = seen(evaluator, metamers.pictures, "")
        for n_ways, rule in measures:
            wanted = _wanted(metamers, evaluator, n_ways, rule, target, truth, networks, seen)
            said = _classes(evaluator, probabilities, n_ways, rule)
            is_hit = (said == wanted).astype(float)
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
                hit=np.where(pd.isna(wanted), np.nan, is_hit),
            )
            for flag in FLAGS:
                part[flag] = metamers.table[flag].array
            for position, (name, text) in enumerate(metamers.label.items()):
                part.insert(position, name, text)
            parts.append(part)
        if run.progress is not None:
            run.progress(done, len(pairs))
    return pd.concat(parts, ignore_index=True)


def _measures(
    ways: Sequence[int], rules: Sequence[str], chosen: Sequence[StagedModel]
) -> list[tuple[int, str]]:
    """List the numbers of ways, each with its rules; check that the evaluators have them."""
    from stimuli_gen.models import refuse_embeddings

    for rule in rules:
        if rule not in RULES_16:
            raise unknown_name("16-category rule", rule, RULES_16)
    refuse_embeddings(*chosen)
    wrong = [evaluator.name for evaluator in chosen if evaluator.n_classes != N_IMAGENET]
    asked = list(dict.fromkeys(ways))
    if {*asked} == {*WAYS} and len(wrong) == len(chosen):
        asked = [N_IMAGENET]
        warnings.warn(
            f"{name_ids(wrong)} have classes of their own: 1000 ways are all of these, and the 16 "
            "categories, which are made of ImageNet's 1,000, are left out.",
            UserWarning,
            stacklevel=3,
        )
    measures = []
    for n_ways in asked:
        if n_ways not in WAYS:
            raise unknown_name("number of ways", str(n_ways), [str(known) for known in WAYS])
        for rule in rules if n_ways == 16 else ("all classes",):
            measures.append((n_ways, rule))
    if not measures:
        raise InputError(
            "recognition needs at least one number of ways (1000, 16), and for 16 ways a rule, "
            "not "
            f"{list(ways)} ways and {list(rules)}."
        )
    if 16 in asked and wrong:
        raise InputError(
            f"16 categories are made of ImageNet's 1,000 classes, which {name_ids(wrong)} lack(s); "
            "use other evaluators, or 1000 as the number of ways: all classes of a network."
        )
    return measures


@dataclass(frozen=True, kw_only=True, eq=False)
class _Classifier:
    """Lets networks classify pictures, and keeps what they said of the same photographs."""

    batch_size: int | None
    kept: Memory

    def __call__(
        self, model: StagedModel, pictures: np.ndarray | ImagesOnDisk, key: str
    ) -> np.ndarray:
        """Return probabilities (n, classes); `key` names photographs that come again."""
        from stimuli_gen.models import predict

        if key and (model.digest, key) in self.kept:
            return self.kept[model.digest, key]
        probabilities = predict(model, shown_to(model, pictures), self.batch_size)
        if not np.isfinite(probabilities).all():
            raise InputError(f"{model.name}: probabilities are not finite; check its weights.")
        if key:
            self.kept[model.digest, key] = probabilities
        return probabilities


def _classes(model: StagedModel, probabilities: np.ndarray, ways: int, rule: str) -> np.ndarray:
    """Name the classes: of 16, the category; else the network's own class name.

    Class names repeat, so that the number of the class follows.
    """
    if ways == 16:
        categories = to_sixteen(probabilities, rule)
        return categories.astype(object)
    best = probabilities.argmax(axis=1)
    return _named(model, best)


def _named(model: StagedModel, indices: Sequence[int] | np.ndarray) -> np.ndarray:
    names = []
    for index in indices:
        name = model.class_names[index]
        names.append(f"{index} {name}")
    return np.array(names, dtype=object)


def _wanted(
    metamers: MetamerSet,
    evaluator: StagedModel,
    ways: int,
    rule: str,
    target: str,
    truth: Mapping[str, int | str] | None,
    networks: Sequence[StagedModel],
    seen: _Classifier,
) -> np.ndarray:
    """Name the class that each metamer should have."""
    if target == "truth":
        return _true_classes(metamers, evaluator, ways, truth)
    references = metamers.references
    key = metamers.reference_digest
    if target == "own":
        return _classes(evaluator, seen(evaluator, references, key), ways, rule)
    makers = {}
    for model in networks:
        if metamers.took_part(model):
            makers[model.digest] = model
    known = [model.name for model in makers.values()]
    missing = [name for name in metamers.members if name not in known]
    if missing or not makers:
        raise InputError(
            f"{metamers.name}: the network(s) that took part ({name_ids(missing) or 'unknown'}) "
            "are needed for the target 'generator'; give them as generators."
        )
    parts = [seen(model, references, key) for model in makers.values()]
    mean = np.mean(parts, axis=0)
    return _classes(evaluator, mean, ways, rule)


def _true_classes(
    metamers: MetamerSet, evaluator: StagedModel, ways: int, truth: Mapping[str, int | str] | None
) -> np.ndarray:
    ids = metamers.table["reference_id"].tolist()
    given: Mapping[str, Any] = dict(zip(ids, metamers.table["category"], strict=True))
    if truth is not None:
        given = truth
    missing = [name for name in ids if given.get(name, "") == ""]
    if missing:
        raise InputError(
            f"no ground truth for {name_ids(missing)}; give truth, or the photographs a category."
        )
    words = {name: given[name] for name in ids if isinstance(given[name], str)}
    if ways == 16:
        for word in sorted(words.values()):
            if word not in CATEGORIES:
                raise unknown_name("category", word, CATEGORIES)
        table = sixteen_classes()
        categories = []
        for name in ids:
            categories.append(words[name] if name in words else table.get(int(given[name])))
        return np.array(categories, dtype=object)
    if words:
        raise InputError(
            f"1,000 ways need ImageNet classes as truth; {name_ids(words)} have a word. Use "
            "ways=(16,)."
        )
    numbers = np.array([int(given[name]) for name in ids])
    is_wrong = (numbers < 0) | (numbers >= evaluator.n_classes)
    if is_wrong.any():
        wrong = np.array(ids)[is_wrong]
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

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import torch
    >>> from torch import nn
    >>> from neurometamer.evaluation import metamer_set, recognizability
    >>> from stimuli_gen import StimulusSet, stage_model
    >>> images = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    >>> table = pd.DataFrame({"id": ["cat", "cup"], "kind": "RE", "reference_id": ["cat", "cup"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> table = table.assign(id=["cat_m", "cup_m"], kind="metamer", valid=True)
    >>> metamers = StimulusSet(images=np.stack([images[0], 1 - images[1]]), table=table)
    >>> joined = metamer_set(photographs, metamers, members=["alexnet"], stage="late")
    >>> _ = torch.manual_seed(0)
    >>> evaluators = []
    >>> for name in ("one", "two"):
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     evaluators.append(stage_model(nn.Sequential(*layers), name=name))
    >>> options = {"ways": [1000], "include_untrained": True, "n_resamples": 100}
    >>> table = recognizability(evaluators, [joined], **options)
    >>> table[["evaluator", "value", "n"]].values.tolist()
    [['one', 0.5, 2], ['two', 0.5, 2], ['mean of evaluators', 0.5, 2]]
    """
    hits = recognition_table(evaluators, sets, **options)
    return recognition_summary(
        hits,
        n_resamples=n_resamples,
        confidence=confidence,
        seed=seed,
    )


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
    took_part = hits["took_part"].astype(bool)
    return summarize(
        hits.assign(counted=~took_part),
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
    is_mean = summary["evaluator"] == AVERAGE
    rows = summary[is_mean & (summary["ways"] == ways)]
    if rule is None and len(rows):
        rule = rows["rule"].iloc[0]
    rows = rows[rows["rule"] == rule]
    if rows.empty:
        raise InputError(
            f"the table has no mean over evaluators with {ways} ways and the rule {rule}; give "
            "those of a table that has one."
        )
    known = list(dict.fromkeys([*STAGE_ORDER, *rows["stage"]]))
    rows = rows.assign(place=rows["stage"].map(known.index))
    order = ["set", "setting", "validity"]
    ranks = rows[["place"]].copy()
    for name in order:
        values = list(dict.fromkeys(rows[name]))
        ranks[name] = rows[name].map(values.index)
    ranks = ranks.sort_values([*order, "place"])
    first = ["set", "members", "setting", "validity", "stage", "place"]
    dropped = [*MEASURES[:4], *first]
    others = [name for name in rows.columns if name not in dropped]
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
    known = sorted(set(hits["setting"]))
    if baseline not in known:
        raise unknown_name("setting", baseline, known)
    took_part = hits["took_part"].astype(bool)
    counted = hits[~took_part]
    counted = counted.assign(validity=states_of(counted["valid"]))
    by_set = counted.groupby(["set", "members", "stage", "setting"], sort=False, dropna=False)
    rates = {}
    for key, part in by_set:
        rates[key] = pass_rates(part.drop_duplicates("reference_id"))
    keys = ["set", "members", "stage", "target", "ways", "rule", "validity"]
    by_image = counted.groupby([*keys, "setting", "reference_id"], sort=False, dropna=False)
    per_image = by_image["hit"].mean().reset_index()
    rows = []
    for key, part in per_image.groupby(keys, sort=False, dropna=False):
        wide = part.pivot(index="reference_id", columns="setting", values="hit")
        for setting in wide.columns:
            row = dict(zip(keys, key, strict=True))
            row["setting"] = setting
            row |= _paired(wide, setting, baseline, n_resamples, confidence, seed)
            row |= rates[*key[:3], setting]
            rows.append(row)
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
        "baseline_value": np.nan,
        "difference": np.nan,
        "low": np.nan,
        "high": np.nan,
    }
    both = wide.iloc[:0]
    if baseline in wide:
        both = wide[[setting, baseline]].dropna()
    if setting == baseline or not len(both):
        return numbers
    change = (both[setting] - both[baseline]).to_numpy()
    counts = bootstrap_counts(len(both), n_resamples, seed)
    means = resampled_means(change[:, None], counts)
    low, high = percentile_interval(means, confidence)
    numbers["n_paired"] = len(both)
    numbers["baseline_value"] = both[baseline].mean()
    numbers["difference"] = float(change.mean())
    numbers["low"] = float(low[0])
    numbers["high"] = float(high[0])
    return numbers
