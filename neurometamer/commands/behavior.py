"""The commands of ``neurometamer behavior``: pages of experiments, their answers, the analysis."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.behavior.agreement import (
    curve_correlation,
    error_consistency,
    summarize_consistency,
)
from neurometamer.behavior.anova import (
    CORRECTIONS,
    mixed_anova,
    name_models,
    permutation_table,
    post_hoc,
    repeated_anova,
)
from neurometamer.behavior.curves import (
    CURVE,
    SEM_METHODS,
    Profiles,
    bootstrap_curves,
    cells_on_same_images,
    complete_profiles,
    confusion_table,
    model_rows,
    proportion_cells,
    recognition_curves,
    select_cells,
    trial_cells,
)
from neurometamer.behavior.experiment import write_experiment_page
from neurometamer.behavior.trials import (
    EXCLUSION_COLUMNS,
    NATURAL,
    Screening,
    check_proportions,
    has_trials,
    join_key,
    read_recognition,
    screen_trials,
)
from neurometamer.commands.options import Progress
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest, digest_file, provenance
from neurometamer.reading import Files, reading
from neurometamer.report.behavior import write_report
from neurometamer.resume import claim_folder, write_record, writes_into
from neurometamer.store import write_table
from neurometamer.summaries import short_repr
from stimuli_gen.categories import CATEGORIES

if TYPE_CHECKING:
    import pandas as pd


TWO_WAY, ONE_WAY, MIXED = "stage x model", "stage", "observer x stage"


@short_repr
@dataclass(frozen=True, kw_only=True)
class AnalysisSettings:
    """Everything that changes the numbers of an analysis.

    Examples
    --------
    >>> from neurometamer.commands import AnalysisSettings
    >>> AnalysisSettings(seed=1)
    AnalysisSettings(seed=1)
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    """Role to column, see `neurometamer.behavior.trials.ROLES`."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Column to the value that its rows must have; other rows are not read."""
    models: Sequence[str] = ()
    """Models to analyze, in this order; all when empty."""
    stages: Sequence[str] = ()
    """Stages to analyze, in this order; all, in the order of the table, when empty."""
    contrasts: Sequence[tuple[str, str]] = ()
    """Pairs of models to compare; all pairs when empty."""
    screening: Screening = field(default_factory=Screening)
    """Who and what is left out."""
    categories: Sequence[str] = CATEGORIES
    """All possible answers; chance is one over their number."""
    rt_unit: str = "ms"
    """Unit of response times, ms or s."""
    missing: str = "exclude"
    """Trials without an answer: exclude or wrong."""
    sem: str = "between"
    """Standard errors between people, or within (Cousineau 2005; Morey 2008)."""
    correction: str = "holm"
    """Correction of post-hoc tests: holm, fdr, bonferroni or none."""
    n_permutations: int = 10_000
    """Shuffles of labels for each analysis of variance."""
    n_resamples: int = 1000
    """Resamples of images; 0 for no intervals."""
    confidence: float = 0.95
    """Confidence level of the intervals, in (0, 1)."""
    min_common: int = 10
    """Fewest common trials for an error consistency."""
    seed: int = 0
    """Seed of shuffles and resamples."""
    ignore_case: bool = False
    """Take answers that differ from a category in upper and lower case only for it."""
    strict: bool = False
    """Refuse trials that would be left out.

    These are repeated trials, unknown answers, missing times and missing cells.
    """

    def __post_init__(self) -> None:
        if self.sem not in SEM_METHODS:
            raise unknown_name("standard error", self.sem, SEM_METHODS)
        if self.correction not in CORRECTIONS:
            raise unknown_name("correction", self.correction, CORRECTIONS)
        if self.n_permutations < 1 or self.n_resamples < 0 or not 0 < self.confidence < 1:
            raise InputError(
                f"n_permutations is {self.n_permutations}, n_resamples {self.n_resamples} and "
                f"confidence {self.confidence:g}; give 1 or more, 0 or more, and a number between "
                "0 and 1."
            )


@dataclass(kw_only=True)
class _Work:
    """What an analysis has found so far."""

    settings: AnalysisSettings
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    anova: list[pd.DataFrame] = field(default_factory=list)
    permutation: list[pd.DataFrame] = field(default_factory=list)
    posthoc: list[pd.DataFrame] = field(default_factory=list)
    lost: list[pd.DataFrame] = field(default_factory=list)


@writes_into("out")
@checked
def behavior_analyze(
    paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: AnalysisSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Path:
    """Analyze a recognition experiment and write tables, figures and a page.

    Parameters
    ----------
    paths : path-like or sequence of path-like
        Tables of trials or of proportions, see `read_recognition`.
    out : path-like
        Folder: gets ``*.csv``, ``figures/``, ``report.html`` and ``provenance.json``.
    settings : AnalysisSettings, optional
        The default ones when not given.
    progress : callable, optional
        Called with (analyses done, analyses).

    Returns
    -------
    Path
        The page. The same call writes the same bytes.

    Raises
    ------
    InputError
        When the tables cannot be used, fewer than two people (or networks) are left, no analysis
        can be made, or the folder holds another analysis or other files.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from neurometamer.commands import AnalysisSettings, behavior_analyze
    >>> from neurometamer.behavior import simulate_recognition
    >>> trials = simulate_recognition({"A": {"early": 0.9, "late": 0.3}}, n_people=4, n_images=64)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trials.to_csv(Path(folder) / "trials.csv", index=False)
    ...     page = behavior_analyze(
    ...         Path(folder) / "trials.csv",
    ...         Path(folder) / "out",
    ...         AnalysisSettings(n_permutations=20, n_resamples=20),
    ...     )
    >>> page.name
    'report.html'
    """
    settings = settings or AnalysisSettings()
    given = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    files = list(map(Path, given))
    table = read_recognition(files, settings.columns, settings.where)
    work = _Work(settings=settings)
    cells, paired = _collect(work, table)
    kind = _kind(cells)
    n = cells[cells["observer"] == kind]["participant"].nunique()
    if n < 2:
        left = work.tables["exclusions"]
        reasons = (left["participant"].astype(str) + ": " + left["reason"].astype(str)).tolist()
        rest = f"; left out: {name_ids(reasons)}" if reasons else ""
        raise InputError(
            f"{n} {kind} observer is left, and statistics over observers need at least 2{rest}. "
            "Give the answers of more observers, or other rules of screening."
        )
    chosen = asdict(settings)
    chosen["contrasts"] = [list(pair) for pair in settings.contrasts]
    for name in ("models", "stages", "categories"):
        chosen[name] = list(chosen[name])
    recipe = provenance(
        chosen,
        analysis="recognition",
        seed=settings.seed,
        digests={path.name: digest_file(path) for path in files},
    )
    claim_folder(Path(out), "recognition", recipe)
    _analyze_variance(work, cells, paired, progress)
    for name in ("anova", "permutation", "posthoc"):
        made = _joined(getattr(work, name))
        if len(made):
            work.tables[name] = made
    work.tables["exclusions"] = _joined([work.tables["exclusions"], *work.lost])
    for name, part in work.tables.items():
        write_table(Path(out) / f"{name}.csv", part)
    record = {
        **recipe,
        "notes": work.notes,
        "tables": {name: digest(part) for name, part in work.tables.items()},
    }
    stamp = ""
    if "data" in table.columns and (table["data"] == "simulated").any():
        stamp = "simulated observers"
    page = write_report(Path(out), work.tables, record, stamp=stamp)
    write_record(Path(out) / "provenance.json", {**record, "finished": True})
    return page


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables together; without rows, the columns are those of the first."""
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return parts[0] if parts else pd.DataFrame()


# ----------------------------------------------------------------------------------------- the data


def _collect(work: _Work, table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Screen, average and describe.

    The result is the cells, and the cells with networks on each person's images.
    """
    settings = work.settings
    if not has_trials(table):
        check_proportions(table)
        cells = select_cells(proportion_cells(table), settings.models, settings.stages)
        work.notes.append(
            "a table of proportions: no screening, confusion, error consistency or bootstrap over "
            "images"
        )
        n_empty = int(pd.to_numeric(table["proportion"], errors="coerce").isna().sum())
        if n_empty:
            work.notes.append(f"{n_empty} missing proportions were left out")
        work.tables["exclusions"] = pd.DataFrame(columns=list(EXCLUSION_COLUMNS))
        work.tables["curves"] = recognition_curves(cells, sem=settings.sem)
        return cells, cells
    screened = screen_trials(
        table,
        settings.screening,
        categories=settings.categories,
        rt_unit=settings.rt_unit,
        missing=settings.missing,
        strict=settings.strict,
        ignore_case=settings.ignore_case,
    )
    work.notes += screened.notes
    work.tables["screening"] = screened.participants
    work.tables["exclusions"] = screened.exclusions
    rows = model_rows(screened.trials)
    stages = list(settings.stages)
    if not stages:  # photographs, then the order of the networks: people see the stages shuffled
        is_natural, is_network = rows["stage"] == NATURAL, rows["observer"] == "network"
        ordered = pd.concat([rows[is_natural], rows[is_network], rows])
        stages = list(dict.fromkeys(ordered["stage"]))
    rows = select_cells(rows, settings.models, stages)
    if not settings.stages:
        work.notes.append(
            "stages are in the order in which the tables first name them; --stages sets another"
        )
    cells = trial_cells(rows)
    curves = recognition_curves(cells, sem=settings.sem)
    if settings.n_resamples:
        spans = bootstrap_curves(
            rows, settings.n_resamples, confidence=settings.confidence, seed=settings.seed
        )
        curves = curves.merge(spans, on=list(CURVE), how="left")
    work.tables["curves"] = curves
    work.tables["confusion"] = confusion_table(rows, settings.categories)
    _describe_agreement(work, rows, curves)
    paired, n_absent = cells_on_same_images(rows)
    if n_absent:
        work.notes.append(f"networks lack answers to {n_absent} images that people saw")
    return cells, paired


def _describe_agreement(work: _Work, rows: pd.DataFrame, curves: pd.DataFrame) -> None:
    """Compare the answers of observers, and the curves of people and networks."""
    settings = work.settings
    observers = rows[["observer", "participant"]].drop_duplicates()
    if len(observers) > 1:
        pairs = error_consistency(rows, min_common=settings.min_common)
        work.tables["error_consistency_pairs"] = pairs
        work.tables["error_consistency"] = summarize_consistency(
            pairs,
            rows if settings.n_resamples else None,
            confidence=settings.confidence,
        )
    if {"network", "human"} <= set(observers["observer"]):
        correlation = curve_correlation(curves)
        if len(correlation):
            work.tables["human_network"] = correlation


def _kind(cells: pd.DataFrame) -> str:
    """People are the observers; networks only where there are no people."""
    has_people = (cells["observer"] == "human").any()
    return "human" if has_people else "network"


# ------------------------------------------------------------------------------------- the analyses


def _analyze_variance(
    work: _Work, cells: pd.DataFrame, paired: pd.DataFrame, progress: Progress | None
) -> None:
    """Make every analysis of variance; one that cannot be made is a note, unless none can."""
    kind = _kind(cells)
    units = cells[cells["observer"] == kind]
    models = list(dict.fromkeys(units["model"]))
    jobs = _model_jobs(work, units, models, kind)
    if kind == "human":  # against each network, for each model whose images both saw
        networks = paired[paired["observer"] == "network"]
        seen = networks[["model", "network"]].drop_duplicates()
        for model, network in seen.itertuples(index=False, name=None):
            if model in models:
                own = networks[networks["network"] == network]
                jobs.append(partial(_mixed, work, units, own, model, network))
    failures = []
    for done, job in enumerate(jobs):
        try:
            job()
        except InputError as error:
            if work.settings.strict:
                raise
            failures.append(str(error))
        if progress is not None:
            progress(done + 1, len(jobs))
    if not work.anova:
        message = "no analysis of variance can be made; give several stages."
        raise InputError(failures[0] if failures else message)
    work.notes += [f"not analyzed: {failure}" for failure in failures]


def _model_jobs(
    work: _Work, units: pd.DataFrame, models: list[str], kind: str
) -> list[Callable[[], None]]:
    """List the analyses of models: pairs or all jointly, and each alone."""
    for name in itertools.chain(*work.settings.contrasts):
        if name not in models:
            raise unknown_name("model of a contrast", name, models)
    pairs = [list(pair) for pair in work.settings.contrasts]
    if not pairs:
        n_lost = 0
        for pair in itertools.combinations(models, 2):
            if _shared(units, pair):
                pairs.append(list(pair))
            else:
                n_lost += 1
        if n_lost:
            work.notes.append(
                f"{n_lost} pairs of models are not compared, because fewer than 2 observers saw "
                "both"
            )
    # One family of post-hoc tests: over all models where the same people saw them all, else over
    # each pair.
    jointly = len(models) > 2 and _shared(units, models)
    jobs: list[Callable[[], None]] = []
    for names in [*pairs, models] if jointly else pairs:
        with_post_hoc = len(names) > 2 or not jointly
        jobs.append(partial(_repeated, work, units, names, kind, with_post_hoc))
    for name in models:
        with_post_hoc = len(models) == 1
        jobs.append(partial(_repeated, work, units, [name], kind, with_post_hoc))
    return jobs


def _shared(units: pd.DataFrame, models: Sequence[str]) -> bool:
    """Say whether two observers or more saw images of all these models.

    There must be a stage that all have.
    """
    own = units[units["model"].isin(models)]
    n_seen = own.groupby("participant")["model"].nunique()
    n_common = (n_seen == len(models)).sum()
    stages = _common_stages(units, models)
    return n_common > 1 and bool(stages)


def _common_stages(units: pd.DataFrame, models: Sequence[str]) -> list[str]:
    common = list(dict.fromkeys(units["stage"]))
    for name in models:
        own = set(units["stage"][units["model"] == name])
        common = [stage for stage in common if stage in own]
    return common


def _repeated(
    work: _Work, units: pd.DataFrame, models: list[str], kind: str, with_post_hoc: bool
) -> None:
    """Analyze the stages that all these models have; say which were left out."""
    analysis = TWO_WAY if len(models) > 1 else ONE_WAY
    what = f"{analysis}, {name_models(models)}"
    own = units[units["model"].isin(models)]
    stages = _common_stages(own, models)
    rest = [stage for stage in dict.fromkeys(own["stage"]) if stage not in stages]
    if rest:
        if work.settings.strict:
            raise InputError(
                f"--strict: {what}: no trials of every model at {name_ids(rest)}; choose --stages."
            )
        work.notes.append(f"{what}: without {name_ids(rest)}, where not every model has trials")
    if not stages:
        raise InputError(
            f"{what}: the models have no stage in common; choose other --models or --stages."
        )
    profiles = complete_profiles(own, models, stages, strict=work.settings.strict, what=what)
    _lose(work, profiles, kind)
    table = repeated_anova(profiles, analysis=analysis, observer=kind)
    work.anova.append(table)
    work.permutation.append(_permuted(work, table, profiles))
    if with_post_hoc:
        work.posthoc.append(
            post_hoc(
                profiles, correction=work.settings.correction, analysis=analysis, observer=kind
            )
        )


def _mixed(work: _Work, units: pd.DataFrame, own: pd.DataFrame, model: str, network: str) -> None:
    """Compare people with one network, on the stages that both saw of a model."""
    what = f"{MIXED}, {model}, human vs {network}"
    people = units[units["model"] == model]
    answers = own[own["model"] == model]
    known = set(answers["stage"])
    stages = [stage for stage in dict.fromkeys(people["stage"]) if stage in known]
    strict = work.settings.strict
    human = complete_profiles(people, [model], stages, strict=strict, what=what)
    _lose(work, human, "human")
    artificial = complete_profiles(answers, [model], stages, strict=strict, what=what)
    _lose(work, artificial, "network")
    table = mixed_anova(human, artificial, analysis=MIXED, observer=f"human vs {network}")
    work.anova.append(table)
    work.permutation.append(_permuted(work, table, (human, artificial)))


def _permuted(
    work: _Work, table: pd.DataFrame, data: Profiles | tuple[Profiles, Profiles]
) -> pd.DataFrame:
    return permutation_table(
        table, data, n_permutations=work.settings.n_permutations, seed=work.settings.seed
    )


def _lose(work: _Work, profiles: Profiles, kind: str) -> None:
    """Note who could not be analyzed."""
    if not len(profiles.excluded):
        return
    rows = profiles.excluded.assign(what="analysis", observer=kind, n_trials=np.nan)
    work.lost.append(rows.reindex(columns=list(EXCLUSION_COLUMNS)))


PAGE_OPTIONS = (
    "title",
    "post_url",
    "fixation_ms",
    "image_ms",
    "mask_ms",
    "practice",
    "screening",
    "catch",
    "pass_mark",
    "block_length",
    "n_masks",
    "seed",
)
"""Settings of `neurometamer.behavior.experiment.PageSettings` that have no other name here."""


@checked
def behavior_page(
    images: Files,
    photographs: Files,
    out: str | Path,
    *,
    consent: str | Path | None = None,
    slow: bool = True,
    backward_mask: str = "phase",
    incomplete: str = "error",
    progress: Progress | None = None,
    **settings: Annotated[
        Any, KeywordsOf("neurometamer.behavior.experiment:PageSettings", PAGE_OPTIONS)
    ],
) -> pd.DataFrame:
    """Write a folder that runs a 16-way recognition experiment in the browser.

    It needs neither server nor network. Open page/index.html (?participant=P01), or put page/ on
    any web server. Keep key.csv: 'behavior join' needs it.

    Parameters
    ----------
    images : sequence of path-like
        Folders written by ``neurometamer stimuli``, or CSV files (file, id, category, condition).
    photographs : sequence of path-like
        Photographs of other images, for practice, screening and catch trials: folders or CSV files.
    out : path-like
        Folder that gets page/ (to be published) and key.csv (not to be published).
    consent : path-like, optional
        Text file for the first page.
    slow : bool
        Whether images of the first half of practice are shown for 500, 400 and 400 ms.
    backward_mask : str
        What masks an image, one of `neurometamer.behavior.experiment.MASKS`: scrambled images
        (phase), or noise.
    incomplete : {"error", "photograph"}
        What to do with an image that lacks a condition: refuse it, or show its photograph.
    progress : callable, optional
        Called with (images written, images).
    **settings : object
        Other settings of `neurometamer.behavior.experiment.PageSettings`.

    Returns
    -------
    pandas.DataFrame
        The key, see `neurometamer.behavior.write_experiment_page`.

    Raises
    ------
    InputError
        When the images cannot be used, or the folder holds another experiment.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     behavior_page(["images"], ["photographs"], "experiment", backward_mask="nois")
    ... except InputError as error:
    ...     print("did you mean 'noise'" in str(error))
    True
    """
    if consent is not None:
        with reading(Path(consent), "a consent text in UTF-8"):
            settings["consent"] = Path(consent).read_text(encoding="utf-8")
    if not slow:
        settings["slow_ms"] = None
    return write_experiment_page(
        images,
        photographs,
        out,
        mask=backward_mask,
        missing=incomplete,
        progress=progress,
        **settings,
    )


@checked
def behavior_join(
    answers: Files, key: str | Path, out: str | Path = Path("answers.csv")
) -> pd.DataFrame:
    """Put truth, condition, stage and model from the key into the answers of all participants.

    Parameters
    ----------
    answers : sequence of path-like
        CSV files that the page saved.
    key : path-like
        key.csv of that page.
    out : path-like
        CSV file for ``neurometamer behavior analyze``.

    Returns
    -------
    pandas.DataFrame
        What was written, see `neurometamer.behavior.join_key`.

    Raises
    ------
    InputError
        When a file is not of this page, or two files disagree about a trial.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     behavior_join([], "key.csv")
    ... except InputError as error:
    ...     print(error)
    no answers given; name the CSV files that the page saved.
    """
    table = join_key(answers, key)
    write_table(Path(out), table)
    return table
