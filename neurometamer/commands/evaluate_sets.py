"""The whole evaluation of metamers in one call: tables, figures and a page, made piece by piece."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.evaluation import divergence as diverging
from neurometamer.evaluation import image_quality as looks
from neurometamer.evaluation import model_sets, observers
from neurometamer.evaluation import recognizability as recognizing
from neurometamer.evaluation.recognizability import chosen_evaluators
from neurometamer.evaluation.sets import (
    SET_COLUMNS,
    MetamerSet,
    pass_rates,
    states_of,
)
from neurometamer.provenance import digest, provenance
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
Progress = Callable[[int, int], None]


@short_repr
@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What to evaluate, and how.

    Examples
    --------
    >>> from neurometamer import EvaluationSettings
    >>> EvaluationSettings(parts=("recognizability", "quality"), seed=1)
    EvaluationSettings(parts=('recognizability', 'quality'), seed=1)
    """

    parts: Sequence[str] = PARTS[:3]
    """Of `PARTS`."""
    target: str = "own"
    """Whose class a metamer should have: see `neurometamer.evaluation.recognizability.TARGETS`."""
    ways: Sequence[int] = recognizing.WAYS
    """1000, 16 or both."""
    rules: Sequence[str] = ("first_mapped", "mean_prob")
    """How 1,000 classes become 16."""
    truth: Mapping[str, int | str] | None = None
    """Photograph id to ImageNet class or category, for the target ``truth``. Without it, the
    photographs' category is taken."""
    baseline: str = "unbounded"
    """Setting that others are compared with, where sets were made in several."""
    metrics: Sequence[str] = tuple(looks.METRICS)
    """Of image quality."""
    metric_weights: Mapping[str, Any] = field(default_factory=dict)
    """See `neurometamer.evaluation.image_quality.image_quality`."""
    read_at: Mapping[str, str | float] | str | float | None = None
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
    """Of all intervals."""
    seed: int = 0
    """Of all random numbers."""

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise unknown_name("part of the evaluation", part, PARTS)
        if not self.parts:
            raise InputError(f"nothing to evaluate; choose of {', '.join(PARTS)}.")
        for part in self.metrics:
            if part not in looks.METRICS:
                raise unknown_name("image metric", part, looks.METRICS)
        if set(MADE_OF_HITS) & set(self.parts) and "recognizability" not in self.parts:
            raise InputError(
                f"{name_ids(set(MADE_OF_HITS) & set(self.parts))} need the part recognizability "
                "too."
            )
        if self.n_resamples < 0 or self.n_permutations < 0 or not 0 < self.confidence < 1:
            raise InputError(
                "resamples and permutations must be 0 or more, the confidence between 0 and 1."
            )


@dataclass(kw_only=True)
class _Work:
    """What goes into an evaluation, and what it has found so far."""

    out: Path
    sets: Sequence[MetamerSet]
    judges: Sequence[StagedModel]
    generators: Sequence[StagedModel]
    settings: EvaluationSettings
    batch_size: int
    progress: Progress | None
    to_do: int
    done: int = 0
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def piece(
        self, name: str, metamers: MetamerSet, key: Sequence[Any], make: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """Make a table of one set, or take what an earlier run finished."""
        whole_key = [_identity(metamers), [judge.digest for judge in self.judges], *key]
        rows = kept_piece(self.out, name, whole_key, make, text=TEXT)
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.to_do)
        return (
            rows.assign(note=rows["note"].astype(object).fillna("").astype(str))
            if "note" in rows
            else rows
        )


@writes_into("out")
@checked
def evaluate_sets(
    sets: Sequence[MetamerSet],
    evaluators: Sequence[StagedModel],
    out: str | os.PathLike[str],
    settings: EvaluationSettings | None = None,
    *,
    networks: pd.DataFrame | None = None,
    generators: Sequence[StagedModel] = (),
    batch_size: int = 8,
    progress: Progress | None = None,
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
    batch_size : int
        Images at once.
    progress : callable, optional
        Called with (pieces done, pieces).

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
    >>> from neurometamer import InputError, evaluate_sets
    >>> try:
    ...     evaluate_sets([], [], "evaluation")
    ... except InputError as error:
    ...     print(error)
    0 evaluator(s) (none); at least 2 are needed. Left out for random weights: none.
    """
    settings = settings or EvaluationSettings()
    judges = chosen_evaluators(evaluators, settings.include_untrained)
    _check(sets, settings, networks)
    if "divergence" in settings.parts:
        diverging.check_stages(judges, sets, settings.read_at)
    recipe = _recipe(sets, judges, generators, settings, networks)
    work = _Work(
        out=Path(out),
        sets=sets,
        judges=judges,
        generators=generators,
        settings=settings,
        batch_size=batch_size,
        progress=progress,
        to_do=len(sets) * len([part for part in settings.parts if part not in MADE_OF_HITS]),
    )
    claim_folder(
        work.out, "metamers", recipe, inputs=("sets", "evaluators", "generators", "networks")
    )
    left_out = [evaluator.name for evaluator in evaluators if evaluator not in judges]
    work.notes += [f"left out for random weights: {name_ids(left_out)}"] if left_out else []
    work.tables["validity"] = validity_table(sets)
    makers = {"recognizability": _recognize, "quality": _look, "divergence": _diverge}
    for part in [part for part in PARTS if part in settings.parts and part in makers]:
        makers[part](work)
    if "observers" in settings.parts and networks is not None:
        _observe(work, networks)
    if "sets" in settings.parts:
        _compare_sets(work)
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
        One row a set: its names, and the columns of `neurometamer.evaluation.sets.pass_rates`.
    """
    return pd.DataFrame([{**metamers.label, **pass_rates(metamers.table)} for metamers in sets])


def _identity(metamers: MetamerSet) -> list[Any]:
    networks = {
        name: [*stages, *metamers.matched.get(name, ())]
        for name, stages in metamers.members.items()
    }
    return [
        metamers.label,
        metamers.reference_digest,
        metamers.picture_digest,
        digest(metamers.table),
        networks,
    ]


def _check(
    sets: Sequence[MetamerSet], settings: EvaluationSettings, networks: pd.DataFrame | None
) -> None:
    if not sets:
        raise InputError("no metamers to evaluate; give at least one set.")
    if again := duplicates(" · ".join(metamers.label.values()) for metamers in sets):
        raise InputError(
            f"sets of metamers with the same name: {name_ids(again)}; name each its own way."
        )
    if "observers" in settings.parts and networks is None:
        raise InputError(
            "observers are compared by what the networks were trained on: give a table with the "
            f"columns network, {' and '.join(settings.factors)}."
        )
    if "sets" in settings.parts and len({metamers.name for metamers in sets}) < MIN_SETS:
        raise InputError(
            f"{len({metamers.name for metamers in sets})} set(s) of networks; to compare them, "
            f"give {MIN_SETS}."
        )


def _recipe(
    sets: Sequence[MetamerSet],
    judges: Sequence[StagedModel],
    generators: Sequence[StagedModel],
    settings: EvaluationSettings,
    networks: pd.DataFrame | None,
) -> dict[str, Any]:
    weights_of = {name: _weights_word(given) for name, given in settings.metric_weights.items()}
    truth = None
    if settings.truth is not None:
        truth = digest({name: str(label) for name, label in settings.truth.items()})
    chosen = asdict(settings) | {"metric_weights": weights_of, "truth": truth}
    chosen = {
        name: list(value) if isinstance(value, (list, tuple)) else value
        for name, value in chosen.items()
    }
    names = [" · ".join(metamers.label.values()) for metamers in sets]
    return provenance(
        chosen,
        sets={
            name: digest(_identity(metamers)) for name, metamers in zip(names, sets, strict=True)
        },
        evaluators={network.name: _network_record(network) for network in judges},
        generators={network.name: _network_record(network) for network in generators},
        networks=None if networks is None else digest(networks),
        seed=settings.seed,
    )


def _network_record(model: StagedModel) -> dict[str, Any]:
    return {"weights": model.weights, "digest": model.digest, "trained": model.trained}


def _weights_word(given: Any) -> str:
    """Name local weights without their folder."""
    return Path(given).name if isinstance(given, (str, os.PathLike)) else type(given).__name__


# ---------------------------------------------------------------------------------------- the parts


def _recognize(work: _Work) -> None:
    chosen = work.settings
    memory: recognizing.Memory = {}
    questions: dict[str, Any] = {
        "target": chosen.target,
        "ways": list(chosen.ways),
        "rules": list(chosen.rules),
    }
    truth = (
        None
        if chosen.truth is None
        else {name: str(truth_of) for name, truth_of in chosen.truth.items()}
    )
    key = [questions, truth, [network.digest for network in work.generators]]
    make = partial(
        recognizing.recognition_table,
        work.judges,
        truth=chosen.truth,
        generators=work.generators,
        include_untrained=True,
        run=RunOptions(batch_size=work.batch_size),
        memory=memory,
        **questions,
    )
    hits = pd.concat(
        [
            work.piece("recognition", metamers, key, partial(make, [metamers]))
            for metamers in work.sets
        ],
        ignore_index=True,
    )
    work.tables["recognition"] = hits
    drawn: dict[str, Any] = {
        "n_resamples": chosen.n_resamples,
        "confidence": chosen.confidence,
        "seed": chosen.seed,
    }
    summary = recognizing.recognition_summary(hits, **drawn)
    work.tables["recognizability"] = summary
    curves = [
        recognizing.recognizability_curves(summary, ways=ways, rule=rule).assign(
            ways=ways, rule=rule
        )
        for ways, rule in hits[["ways", "rule"]]
        .drop_duplicates()
        .itertuples(index=False, name=None)
    ]
    work.tables["curves"] = pd.concat(curves, ignore_index=True)
    settings = list(dict.fromkeys(hits["setting"]))
    if len(settings) > 1 and chosen.baseline in settings:
        work.tables["epsilon"] = recognizing.epsilon_comparison(
            hits, baseline=chosen.baseline, **drawn
        )
    elif len(settings) > 1:
        work.notes.append(
            f"settings are not compared: no set is {chosen.baseline} (there are "
            f"{name_ids(settings)})"
        )


def _look(work: _Work) -> None:
    chosen = work.settings
    drawn: dict[str, Any] = {
        "n_resamples": chosen.n_resamples,
        "confidence": chosen.confidence,
        "seed": chosen.seed,
    }
    options = {
        "metrics": list(chosen.metrics),
        "weights": chosen.metric_weights,
        "run": RunOptions(batch_size=work.batch_size),
        **drawn,
    }
    words = {name: _weights_key(given) for name, given in chosen.metric_weights.items()}

    def _make(metamers: MetamerSet) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message=".*FID is biased.*", category=UserWarning
            )  # the note says it
            return looks.image_quality([metamers], **options)

    key = [list(chosen.metrics), words, drawn]
    parts = [
        work.piece("quality", metamers, key, partial(_make, metamers)) for metamers in work.sets
    ]
    quality = pd.concat(parts, ignore_index=True)
    work.tables["quality"] = quality
    remarks = quality.loc[quality["skipped"] | quality["biased"], ["name", "note"]]
    notes = [
        f"{name}: {note.split('; excluded')[0]}"
        for name, note in remarks.itertuples(index=False, name=None)
    ]
    work.notes += dict.fromkeys(notes)


def _weights_key(given: Any) -> Any:
    """Identify local weights by what they hold."""
    from neurometamer.provenance import digest_file

    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        files = (
            [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        )
        return [[file.name, digest_file(file)] for file in files] or str(path)
    network = given[0] if isinstance(given, tuple) else given
    return [
        _weights_word(network),
        [digest(parameter.detach().cpu().numpy()) for parameter in network.state_dict().values()],
    ]


def _diverge(work: _Work) -> None:
    chosen = work.settings
    memory: diverging.Memory = {}
    options: dict[str, Any] = {"n_permutations": chosen.n_permutations, "seed": chosen.seed}
    make = partial(
        diverging.divergence,
        work.judges,
        stages=chosen.read_at,
        include_untrained=True,
        run=RunOptions(batch_size=work.batch_size),
        memory=memory,
        **options,
    )
    key = [options, chosen.read_at]
    parts = [
        work.piece("divergence", metamers, key, partial(make, [metamers])) for metamers in work.sets
    ]
    rows = pd.concat(parts, ignore_index=True)
    work.tables["divergence"] = rows


def _state(hits: pd.DataFrame) -> str:
    """Choose the metamers that results speak of: the valid ones, unless nobody judged any."""
    return "not judged" if (states_of(hits["valid"]) == "not judged").all() else "valid"


def _compare_sets(work: _Work) -> None:
    """Score sets by evaluators that are in none, and by all but their own.

    The tables also say what each network adds.
    """
    chosen, hits = work.settings, work.tables["recognition"]
    taken = hits.groupby("evaluator", sort=False)["took_part"].any()
    held_out = list(chosen.held_out) or [
        str(name) for name, members in taken.items() if not members
    ]
    rated: dict[str, dict[str, Any]] = {"held-out": {"held_out": held_out}, "others": {}}
    if not chosen.held_out and len(held_out) < 2:
        rated.pop("held-out")
        work.notes.append(
            "sets are rated by all evaluators but their own networks: fewer than 2 are in no set"
        )
    tables: dict[str, list[pd.DataFrame]] = {
        "set_scores": [],
        "set_differences": [],
        "set_regression": [],
    }
    state = _state(hits)
    measures = hits[["stage", "setting", "ways"]].drop_duplicates()
    for stage, setting, ways in measures.itertuples(index=False, name=None):
        part = hits[
            (hits["stage"] == stage) & (hits["setting"] == setting) & (hits["ways"] == ways)
        ]
        for raters, who in rated.items():
            about: dict[str, Any] = {
                "stage": stage,
                "setting": setting,
                "ways": ways,
                "raters": raters,
            }
            about |= {"target": chosen.target, "validity": state}
            scores = model_sets.set_scores(part, raters=raters, **who, validity=state, ways=ways)
            tables["set_scores"].append(
                scores.assign(**about, held_out="+".join(who.get("held_out", [])))
            )
            for name, table in _set_statistics(work, scores, about).items():
                tables[name].append(table)
    work.tables |= {
        name: pd.concat(parts, ignore_index=True) for name, parts in tables.items() if parts
    }


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


def _is_joint(members: str) -> bool:
    return model_sets.JOINT in members


def _observe(work: _Work, networks: pd.DataFrame) -> None:
    """Compare metamers of single networks by how the networks differ."""
    chosen, hits = work.settings, work.tables["recognition"]
    single = hits[~hits["members"].map(_is_joint)]
    if single.empty:
        raise InputError(
            "observers judge metamers of single networks, and there are none; give such sets, too."
        )
    known = set(networks["network"].astype(str))
    if unknown := sorted(set(single["members"]) - known):
        work.notes.append(
            f"observers: not in the table of networks, and left out: {name_ids(unknown)}"
        )
        single = single[single["members"].isin(known)]
    if left_out := sorted(set(hits["set"]) - set(hits.loc[~hits["members"].map(_is_joint), "set"])):
        work.notes.append(f"observers: sets of several networks are left out: {name_ids(left_out)}")
    if single.empty:
        raise InputError(
            f"the table of networks names none of the generators ({name_ids(unknown)}); name them."
        )
    drawn: dict[str, Any] = {
        "n_resamples": chosen.n_resamples,
        "confidence": chosen.confidence,
        "seed": chosen.seed,
        "include_untrained": chosen.include_untrained,
    }
    work.tables["observer_matrix"] = observers.observer_matrix(single, **drawn)
    drawn["validity"] = _state(hits)
    work.tables["observer_conditions"] = observers.observer_conditions(
        single, networks, chosen.factors, **drawn
    )
    drawn["n_permutations"] = max(chosen.n_permutations, 1)
    work.tables["observer_tests"] = observers.observer_tests(
        single, networks, chosen.factors, **drawn
    )
