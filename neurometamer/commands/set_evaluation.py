"""The whole evaluation of metamers in one call: tables, figures and a page, made piece by piece."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.evaluation import model_sets, observers
from neurometamer.evaluation.divergence import Memory as DivergenceMemory
from neurometamer.evaluation.divergence import check_stages, divergence
from neurometamer.evaluation.image_quality import METRICS, image_quality
from neurometamer.evaluation.recognizability import (
    WAYS,
    Memory,
    chosen_evaluators,
    epsilon_comparison,
    recognition_summary,
    recognition_table,
    recognizability_curves,
)
from neurometamer.evaluation.sets import (
    SET_COLUMNS,
    MetamerSet,
    pass_rates,
    states_of,
)
from neurometamer.provenance import digest, digest_file, provenance
from neurometamer.report.evaluation import write_report
from neurometamer.resume import claim_folder, kept_piece, write_record, writes_into
from neurometamer.run_options import RunOptions
from neurometamer.store import write_table
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel

PARTS = ("recognizability", "quality", "divergence", "observers", "sets")
"""The parts of an evaluation. Observers compare networks by how they differ; sets compare them by
what they hold."""
MIN_SETS = 4
MADE_OF_HITS = ("observers", "sets")
TEXT = (
    *SET_COLUMNS,
    "id",
    "reference_id",
    "evaluator",
    "evaluator_weights",
    "evaluator_stage",
    "rule",
    "wanted",
    "said",
    "validity",
    "metric",
    "note",
    "comparison",
    "network",
)


Stages = Mapping[str, str | float] | str | float | None


@short_repr
@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What to evaluate, and how.

    Examples
    --------
    >>> from neurometamer.commands import EvaluationSettings
    >>> EvaluationSettings(parts=("recognizability", "quality"), seed=1)
    EvaluationSettings(parts=('recognizability', 'quality'), seed=1)
    """

    parts: Sequence[str] = PARTS[:3]
    """What is evaluated, of `PARTS`."""
    target: str = "own"
    """Whose class a metamer should have: see `neurometamer.evaluation.recognizability.TARGETS`."""
    ways: Sequence[int] = WAYS
    """1000, 16 or both."""
    rules: Sequence[str] = ("first_mapped", "mean_prob")
    """How 1,000 classes become 16."""
    truth: Mapping[str, int | str] | None = None
    """Photograph id to ImageNet class or category, for the target ``truth``. Without it, the
    photographs' category is taken."""
    baseline: str = "unbounded"
    """Setting that others are compared with, where sets were made in several."""
    metrics: Sequence[str] = tuple(METRICS)
    """Metrics of image quality."""
    metric_weights: Mapping[str, Any] = field(default_factory=dict)
    """See `neurometamer.evaluation.image_quality.image_quality`."""
    read_at: Stages = None
    """Where evaluators are read for the divergence; by default at the depth of the set."""
    factors: tuple[str, str] = ("training", "color")
    """Columns that say how networks differ, of the table of networks."""
    held_out: Sequence[str] = ()
    """Of the part ``sets``: evaluators that score them; by default those that are in no set."""
    include_untrained: bool = False
    """Ask networks with random weights, too."""
    n_resamples: int = 10_000
    """Resamples of images for shares and metrics."""
    n_permutations: int = 1_000
    """Permutations for the divergence and for differences between sets."""
    confidence: float = 0.95
    """Confidence level of all intervals, in (0, 1)."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        if isinstance(self.read_at, str) and "=" in self.read_at:
            stages: dict[str, str | float] = {}
            for text in self.read_at.split(","):
                name, _, stage = text.partition("=")
                if not (name.strip() and stage.strip()):
                    raise InputError(
                        f"read_at is '{self.read_at}'; give one stage for all, or NAME=STAGE for "
                        "each evaluator, between commas (--read-at)."
                    )
                stages[name.strip()] = stage.strip()
            object.__setattr__(self, "read_at", stages)
        if not self.parts:
            raise InputError(f"nothing to evaluate; choose of {', '.join(PARTS)}.")
        for what, given, known in (
            ("part of the evaluation", self.parts, PARTS),
            ("image metric", self.metrics, METRICS),
        ):
            for name in given:
                if name not in known:
                    raise unknown_name(what, name, known)
        if set(MADE_OF_HITS) & set(self.parts) and "recognizability" not in self.parts:
            raise InputError(
                f"{name_ids(set(MADE_OF_HITS) & set(self.parts))} need the part recognizability "
                "too; give it (--parts)."
            )
        if self.n_resamples < 0 or self.n_permutations < 0 or not 0 < self.confidence < 1:
            raise InputError(
                f"n_resamples is {self.n_resamples}, n_permutations {self.n_permutations} and "
                f"confidence {self.confidence:g}; give 0 or more, 0 or more, and a number between "
                "0 and 1."
            )


@dataclass(kw_only=True)
class _Work:
    """What goes into an evaluation, and what it has found so far."""

    out: Path
    sets: Sequence[MetamerSet]
    included: Sequence[StagedModel]
    generators: Sequence[StagedModel]
    networks: pd.DataFrame | None
    settings: EvaluationSettings
    run: RunOptions
    to_do: int
    done: int = 0
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def piece(
        self, name: str, metamers: MetamerSet, key: Sequence[Any], make: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """Make a table of one set, or take what an earlier run finished."""
        whole_key = [_identity(metamers), [network.digest for network in self.included], *key]
        rows = kept_piece(self.out, name, whole_key, make, text=TEXT)
        self.done += 1
        if self.run.progress is not None:
            self.run.progress(self.done, self.to_do)
        if "note" in rows:
            notes = rows["note"].astype(object).fillna("")
            rows = rows.assign(note=notes.astype(str))
        return rows

    def pieces(
        self,
        name: str,
        key: Sequence[Any],
        make: Callable[[Sequence[MetamerSet]], pd.DataFrame],
    ) -> pd.DataFrame:
        """Make a table of all sets, piece by piece."""
        parts = []
        for metamers in self.sets:
            parts.append(self.piece(name, metamers, key, partial(make, [metamers])))
        return pd.concat(parts, ignore_index=True)

    @property
    def drawn(self) -> dict[str, Any]:
        """How images are resampled."""
        return {
            "n_resamples": self.settings.n_resamples,
            "confidence": self.settings.confidence,
            "seed": self.settings.seed,
        }


@writes_into("out")
@checked
def evaluate_metamer_sets(
    sets: Sequence[MetamerSet],
    evaluators: Sequence[StagedModel],
    out: str | os.PathLike[str],
    settings: EvaluationSettings | None = None,
    *,
    networks: pd.DataFrame | None = None,
    generators: Sequence[StagedModel] = (),
    run: RunOptions | None = None,
) -> Path:
    """Evaluate sets of metamers, and write tables, figures and a page.

    Parameters
    ----------
    sets : sequence of MetamerSet
        What to evaluate, e.g. read by `read_metamer_set`.
    evaluators : sequence of StagedModel
        Networks that judge, at least 2; those that took part are marked and left out of means.
    out : path-like
        Folder: gets ``*.csv``, ``figures/``, ``report.html`` and ``provenance.json``.
    settings : EvaluationSettings, optional
        The default ones when not given.
    networks : pandas.DataFrame, optional
        For the part ``observers``: column network, and a column each of
        `EvaluationSettings.factors`.
    generators : sequence of StagedModel
        Networks that took part and do not judge; for the target ``generator``.
    run : RunOptions, optional
        Number of images at a time and callback for progress.

    Returns
    -------
    Path
        The page. Finished pieces are kept in ``.finished``: the same call goes on where it was
        stopped, and writes the same bytes.

    Raises
    ------
    InputError
        When there is no set, fewer than 2 evaluators are left, settings do not fit, or the folder
        holds another evaluation.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import evaluate_metamer_sets
    >>> try:
    ...     evaluate_metamer_sets([], [], "evaluation")
    ... except InputError as error:
    ...     print(error)
    0 evaluator(s) (none); at least 2 are needed. Left out for random weights: none.
    """
    settings = settings or EvaluationSettings()
    included = chosen_evaluators(evaluators, settings.include_untrained)
    _check(sets, settings, networks)
    if "divergence" in settings.parts:
        check_stages(included, sets, settings.read_at)
    recipe = _recipe(sets, included, generators, settings, networks)
    work = _Work(
        out=Path(out),
        sets=sets,
        included=included,
        generators=generators,
        networks=networks,
        settings=settings,
        run=run or RunOptions(),
        to_do=len(sets) * len([part for part in settings.parts if part not in MADE_OF_HITS]),
    )
    claim_folder(
        work.out, "metamers", recipe, inputs=("sets", "evaluators", "generators", "networks")
    )
    left_out = [evaluator.name for evaluator in evaluators if evaluator not in included]
    if left_out:
        work.notes.append(f"left out for random weights: {name_ids(left_out)}")
    work.tables["validity"] = validity_table(sets)
    for part, make in MAKERS.items():
        if part in settings.parts:
            make(work)
    for name, table in work.tables.items():
        write_table(work.out / f"{name}.csv", table)
    record = {
        **recipe,
        "analysis": "metamers",
        "notes": work.notes,
        "tables": {name: digest(table) for name, table in work.tables.items()},
    }
    page = write_report(work.out, work.tables, record, sets=sets)
    write_record(work.out / "provenance.json", {**record, "finished": True})
    return page


@checked
def validity_table(sets: Sequence[MetamerSet]) -> pd.DataFrame:
    """Count the metamers of each set that met the criteria of Feather et al. (2023).

    Parameters
    ----------
    sets : sequence of MetamerSet
        What to count.

    Returns
    -------
    pandas.DataFrame
        One row a set: its names, class_criterion (``16 categories`` where its networks have
        ImageNet's classes, ``own classes`` where they have others, ``none`` for an embedding, whose
        metamers are not judged by class and so neither valid nor failed; empty where nothing
        tells), and the columns of `neurometamer.evaluation.sets.pass_rates`.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.commands import validity_table
    >>> from neurometamer.evaluation import metamer_set
    >>> from stimuli_gen import StimulusSet
    >>> images = np.full((2, 3, 48, 48), 0.5, dtype=np.float32)
    >>> table = pd.DataFrame({"id": ["cat", "cup"], "kind": "RE", "reference_id": ["cat", "cup"]})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> table = table.assign(id=["cat_m", "cup_m"], kind="metamer", valid=[True, False])
    >>> metamers = StimulusSet(images=images, table=table)
    >>> joined = metamer_set(photographs, metamers, members=["alexnet"], stage="late")
    >>> counts = validity_table([joined])
    >>> counts[["set", "n_images", "n_valid", "n_failed", "pass_both"]].values.tolist()
    [['alexnet', 2, 1, 1, 0.5]]
    """
    rows = []
    for metamers in sets:
        criterion = {"class_criterion": metamers.class_criterion}
        rows.append({**metamers.label, **criterion, **pass_rates(metamers.table)})
    return pd.DataFrame(rows)


def _identity(metamers: MetamerSet) -> list[Any]:
    """Give what the results of a set depend on."""
    networks = {}
    for name, stages in metamers.members.items():
        networks[name] = [*stages, *metamers.matched.get(name, ())]
    return [
        metamers.label,
        metamers.reference_digest,
        metamers.picture_digest,
        digest(metamers.table),
        networks,
    ]


def _set_name(metamers: MetamerSet) -> str:
    return " · ".join(metamers.label.values())


def _check(
    sets: Sequence[MetamerSet], settings: EvaluationSettings, networks: pd.DataFrame | None
) -> None:
    if not sets:
        raise InputError("no metamers to evaluate; give at least one set.")
    if again := duplicates(_set_name(metamers) for metamers in sets):
        raise InputError(
            f"sets of metamers with the same name: {name_ids(again)}; name each its own way."
        )
    if "observers" in settings.parts and networks is None:
        raise InputError(
            "observers are compared by what the networks were trained on: give a table with the "
            f"columns network, {' and '.join(settings.factors)}."
        )
    n_sets = len({metamers.name for metamers in sets})
    if "sets" in settings.parts and n_sets < MIN_SETS:
        raise InputError(f"{n_sets} set(s) of networks; to compare them, give {MIN_SETS}.")


def _recipe(
    sets: Sequence[MetamerSet],
    included: Sequence[StagedModel],
    generators: Sequence[StagedModel],
    settings: EvaluationSettings,
    networks: pd.DataFrame | None,
) -> dict[str, Any]:
    truth = None
    if settings.truth is not None:
        truth = digest({name: str(label) for name, label in settings.truth.items()})
    chosen: dict[str, Any] = {}
    for name, value in asdict(settings).items():
        chosen[name] = list(value) if isinstance(value, (list, tuple)) else value
    chosen["truth"] = truth
    chosen["metric_weights"] = {}
    for name, given in settings.metric_weights.items():
        chosen["metric_weights"][name] = _weights_word(given)
    return provenance(
        chosen,
        sets={_set_name(metamers): digest(_identity(metamers)) for metamers in sets},
        evaluators={network.name: _network_record(network) for network in included},
        generators={network.name: _network_record(network) for network in generators},
        networks=None if networks is None else digest(networks),
        seed=settings.seed,
    )


def _network_record(model: StagedModel) -> dict[str, Any]:
    return {
        "weights": model.weights,
        "digest": model.digest,
        "trained": model.trained,
    }


def _weights_word(given: Any) -> str:
    """Name local weights without their folder."""
    if isinstance(given, (str, os.PathLike)):
        return Path(given).name
    return type(given).__name__


# ---------------------------------------------------------------------------------------- the parts


def _recognize(work: _Work) -> None:
    """Ask every evaluator what it sees."""
    chosen = work.settings
    questions: dict[str, Any] = {
        "target": chosen.target,
        "ways": list(chosen.ways),
        "rules": list(chosen.rules),
    }
    truth = None
    if chosen.truth is not None:
        truth = {name: str(label) for name, label in chosen.truth.items()}
    memory: Memory = {}

    recognize = partial(
        recognition_table,
        work.included,
        truth=chosen.truth,
        generators=work.generators,
        include_untrained=True,
        run=replace(work.run, progress=None),
        memory=memory,
        **questions,
    )
    key = [questions, truth, [network.digest for network in work.generators]]
    hits = work.pieces("recognition", key, recognize)
    summary = recognition_summary(hits, **work.drawn)
    curves = []
    measures = hits[["ways", "rule"]].drop_duplicates()
    for ways, rule in measures.itertuples(index=False, name=None):
        curve = recognizability_curves(summary, ways=ways, rule=rule)
        curves.append(curve.assign(ways=ways, rule=rule))
    work.tables["recognition"] = hits
    work.tables["recognizability"] = summary
    work.tables["curves"] = pd.concat(curves, ignore_index=True)
    settings = list(dict.fromkeys(hits["setting"]))
    if len(settings) < 2:
        return
    if chosen.baseline in settings:
        work.tables["epsilon"] = epsilon_comparison(hits, baseline=chosen.baseline, **work.drawn)
        return
    work.notes.append(
        f"settings are not compared: no set is {chosen.baseline} (there are {name_ids(settings)})"
    )


def _measure_quality(work: _Work) -> None:
    """Measure how metamers look."""
    chosen = work.settings

    def _measure(sets: Sequence[MetamerSet]) -> pd.DataFrame:
        with warnings.catch_warnings():
            # the note says it
            warnings.filterwarnings("ignore", message=".*FID is biased.*", category=UserWarning)
            return image_quality(
                sets,
                metrics=list(chosen.metrics),
                weights=chosen.metric_weights,
                run=replace(work.run, progress=None),
                **work.drawn,
            )

    weights: dict[str, Any] = {}
    for name, given in chosen.metric_weights.items():
        if isinstance(given, (str, os.PathLike)):  # local weights are identified by what they hold
            path = Path(given)
            files = [path] if path.is_file() else sorted(filter(Path.is_file, path.rglob("*")))
            contents = [[file.name, digest_file(file)] for file in files]
            weights[name] = contents or str(path)
            continue
        network = given[0] if isinstance(given, tuple) else given
        values = network.state_dict().values()
        digests = [digest(parameter.detach().cpu().numpy()) for parameter in values]
        weights[name] = [_weights_word(network), digests]
    quality = work.pieces("quality", [list(chosen.metrics), weights, work.drawn], _measure)
    work.tables["quality"] = quality
    is_remark = quality["skipped"] | quality["biased"]
    for name, note in zip(quality["name"][is_remark], quality["note"][is_remark], strict=True):
        remark = f"{name}: {note.split('; excluded')[0]}"
        if remark not in work.notes:
            work.notes.append(remark)


def _diverge(work: _Work) -> None:
    """Measure what metamers do to the representations of evaluators."""
    chosen = work.settings
    options: dict[str, Any] = {"n_permutations": chosen.n_permutations, "seed": chosen.seed}
    memory: DivergenceMemory = {}

    measure = partial(
        divergence,
        work.included,
        stages=chosen.read_at,
        include_untrained=True,
        run=replace(work.run, progress=None),
        memory=memory,
        **options,
    )
    work.tables["divergence"] = work.pieces("divergence", [options, chosen.read_at], measure)


def _state(hits: pd.DataFrame) -> str:
    """Choose the metamers that results speak of: the valid ones, unless nobody judged any."""
    states = states_of(hits["valid"])
    return "not judged" if (states == "not judged").all() else "valid"


def _compare_sets(work: _Work) -> None:
    """Score sets by evaluators that are in none, and by all but their own.

    The tables also say what each network adds.
    """
    chosen = work.settings
    hits = work.tables["recognition"]
    held_out = list(chosen.held_out)
    if not held_out:
        took_part = hits.groupby("evaluator", sort=False)["took_part"].any()
        held_out = took_part.index[~took_part.to_numpy(dtype=bool)].astype(str).tolist()
    rated: dict[str, dict[str, Any]] = {"held-out": {"held_out": held_out}, "others": {}}
    if not chosen.held_out and len(held_out) < 2:
        del rated["held-out"]
        work.notes.append(
            "sets are rated by all evaluators but their own networks: fewer than 2 are in no set"
        )
    tables: dict[str, list[pd.DataFrame]] = {
        "set_scores": [],
        "set_differences": [],
        "set_regression": [],
    }
    state = _state(hits)
    by_measure = hits.groupby(["stage", "setting", "ways"], sort=False)
    for measure, part in by_measure:
        stage, setting, ways = cast("tuple[str, str, int]", measure)
        for raters, who in rated.items():
            scores = model_sets.set_scores(part, raters=raters, validity=state, ways=ways, **who)
            about: dict[str, Any] = {
                "stage": stage,
                "setting": setting,
                "ways": ways,
                "raters": raters,
                "target": chosen.target,
                "validity": state,
            }
            names = "+".join(who.get("held_out", []))
            tables["set_scores"].append(scores.assign(**about, held_out=names))
            for name, table in _set_statistics(work, scores, about).items():
                tables[name].append(table)
    for name, parts in tables.items():
        if parts:
            work.tables[name] = pd.concat(parts, ignore_index=True)


def _set_statistics(
    work: _Work, scores: pd.DataFrame, about: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """Compute what can be computed of the sets' scores, and note what cannot."""
    chosen = work.settings
    drawn: dict[str, Any] = {"confidence": chosen.confidence, "seed": chosen.seed}
    makers = {
        "set_differences": partial(
            model_sets.difference_in_means, scores, n_resamples=chosen.n_resamples, **drawn
        ),
        "set_regression": partial(
            model_sets.membership_regression, scores, confidence=chosen.confidence
        ),
    }
    tables = {}
    for name, make in makers.items():
        try:
            tables[name] = make().assign(**about)
        except InputError as error:
            where = f"{about['stage']}, {about['ways']} ways, raters {about['raters']}"
            work.notes.append(f"{name.replace('_', ' ')} at {where}: not computed: {error}")
    return tables


def _observe(work: _Work) -> None:
    """Compare metamers of single networks by how the networks differ."""
    chosen, networks = work.settings, work.networks
    assert networks is not None  # `_check` refused that
    hits = work.tables["recognition"]
    is_joint = hits["members"].str.contains(model_sets.JOINT, regex=False)
    single = hits[~is_joint]
    if single.empty:
        raise InputError(
            "observers see metamers of single networks, and there are none; give such sets, too."
        )
    known = set(networks["network"].astype(str))
    if unknown := sorted(set(single["members"]) - known):
        work.notes.append(
            f"observers: not in the table of networks, and left out: {name_ids(unknown)}"
        )
        single = single[single["members"].isin(known)]
    if left_out := sorted(set(hits["set"]) - set(hits["set"][~is_joint])):
        work.notes.append(f"observers: sets of several networks are left out: {name_ids(left_out)}")
    if single.empty:
        raise InputError(
            f"the table of networks names none of the generators ({name_ids(unknown)}); name them."
        )
    drawn = {**work.drawn, "include_untrained": chosen.include_untrained}
    work.tables["observer_matrix"] = observers.observer_matrix(single, **drawn)
    drawn["validity"] = _state(hits)
    work.tables["observer_conditions"] = observers.observer_conditions(
        single, networks, chosen.factors, **drawn
    )
    drawn["n_permutations"] = max(chosen.n_permutations, 1)
    work.tables["observer_tests"] = observers.observer_tests(
        single, networks, chosen.factors, **drawn
    )


MAKERS: Mapping[str, Callable[[_Work], None]] = {
    "recognizability": _recognize,
    "quality": _measure_quality,
    "divergence": _diverge,
    "observers": _observe,
    "sets": _compare_sets,
}
"""Part of an evaluation to what makes its tables, in the order in which they are made."""
