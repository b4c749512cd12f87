"""The analysis of a recognition experiment in one call.

It writes tables, figures, one page and provenance to a folder.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
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
from neurometamer.behavior.trials import (
    EXCLUSION_COLUMNS,
    NATURAL,
    Screening,
    check_proportions,
    has_trials,
    read_recognition,
    screen_trials,
)
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest, digest_file, provenance
from neurometamer.report.behavior import write_report
from neurometamer.resume import claim_folder, write_record, writes_into
from neurometamer.store import write_table
from neurometamer.summaries import short_repr
from stimuli_gen.categories import CATEGORIES

Progress = Callable[[int, int], None]
TWO_WAY, ONE_WAY, MIXED = "stage x model", "stage", "observer x stage"


@short_repr
@dataclass(frozen=True, kw_only=True)
class AnalysisSettings:
    """Everything that changes the numbers of an analysis.

    Examples
    --------
    >>> from neurometamer import AnalysisSettings
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
    """Of post-hoc tests: holm, fdr, bonferroni or none."""
    permutations: int = 10_000
    """Shuffles of labels for each analysis of variance."""
    bootstrap: int = 1000
    """Resamples of images; 0 for no intervals."""
    confidence: float = 0.95
    """Of the intervals."""
    min_common: int = 10
    """Fewest common trials for an error consistency."""
    seed: int = 0
    """Of shuffles and resamples."""
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
        if self.permutations < 1 or self.bootstrap < 0 or not 0 < self.confidence < 1:
            raise InputError(
                "permutations must be 1 or more, bootstrap 0 or more, confidence between 0 and 1."
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
def analyze_recognition(
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
    >>> from neurometamer import AnalysisSettings, analyze_recognition
    >>> from neurometamer.behavior import simulate_recognition
    >>> trials = simulate_recognition({"A": {"early": 0.9, "late": 0.3}}, n_people=4, n_images=64)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trials.to_csv(Path(folder) / "trials.csv", index=False)
    ...     page = analyze_recognition(
    ...         Path(folder) / "trials.csv",
    ...         Path(folder) / "out",
    ...         AnalysisSettings(permutations=20, bootstrap=20),
    ...     )
    >>> page.name
    'report.html'
    """
    settings = settings or AnalysisSettings()
    files = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
    table = read_recognition(files, settings.columns, settings.where)
    work = _Work(settings=settings)
    cells, paired = _collect(work, table)
    kind = _kind(cells)
    n = cells[cells["observer"] == kind]["participant"].nunique()
    if n < 2:
        left = work.tables["exclusions"]
        why = [f"{who}: {reason}" for who, reason in zip(left["participant"], left["reason"])]
        rest = f"; left out: {name_ids(why)}" if why else ""
        raise InputError(
            f"{n} {kind} observer is left, and statistics over observers need at least 2{rest}."
        )
    recipe = _recipe(settings, files)
    claim_folder(Path(out), "recognition", recipe)
    _analyze_variance(work, cells, paired, progress)
    made = {name: _joined(getattr(work, name)) for name in ("anova", "permutation", "posthoc")}
    work.tables |= {name: part for name, part in made.items() if len(part)}
    work.tables["exclusions"] = _joined([work.tables["exclusions"], *work.lost])
    for name, part in work.tables.items():
        write_table(Path(out) / f"{name}.csv", part)
    record = {
        **recipe,
        "notes": work.notes,
        "tables": {name: digest(part) for name, part in work.tables.items()},
    }
    simulated = "data" in table.columns and bool((table["data"] == "simulated").any())
    page = write_report(
        Path(out), work.tables, record, stamp="simulated observers" if simulated else ""
    )
    write_record(Path(out) / "provenance.json", {**record, "finished": True})
    return page


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return (
        pd.concat(filled, ignore_index=True) if filled else (parts[0] if parts else pd.DataFrame())
    )


# --------------------------------------------------------------------------------------- the folder


def _recipe(settings: AnalysisSettings, files: Sequence[Path]) -> dict[str, Any]:
    record = asdict(settings)
    record["contrasts"] = [list(pair) for pair in settings.contrasts]
    record["models"], record["stages"], record["categories"] = (
        list(names) for names in (settings.models, settings.stages, settings.categories)
    )
    digests = {path.name: digest_file(path) for path in files}
    return provenance(record, analysis="recognition", seed=settings.seed, digests=digests)


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
        empty = int(pd.to_numeric(table["proportion"], errors="coerce").isna().sum())
        work.notes += [f"{empty} missing proportions were left out"] if empty else []
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
    work.tables["screening"], work.tables["exclusions"] = screened.participants, screened.exclusions
    rows = model_rows(screened.trials)
    rows = select_cells(rows, settings.models, settings.stages or _stage_order(rows))
    if not settings.stages:
        work.notes.append(
            "stages are in the order in which the tables first name them; --stages sets another"
        )
    cells = trial_cells(rows)
    curves = recognition_curves(cells, sem=settings.sem)
    if settings.bootstrap:
        spans = bootstrap_curves(
            rows, settings.bootstrap, confidence=settings.confidence, seed=settings.seed
        )
        curves = curves.merge(spans, on=list(CURVE), how="left")
    work.tables["curves"] = curves
    work.tables["confusion"] = confusion_table(rows, settings.categories)
    _describe_agreement(work, rows, curves)
    paired, absent = cells_on_same_images(rows)
    work.notes += [f"networks lack answers to {absent} images that people saw"] if absent else []
    return cells, paired


def _stage_order(rows: pd.DataFrame) -> list[str]:
    """Photographs, then the order of the networks' rows: people see the stages shuffled."""
    parts = [rows[rows["stage"] == NATURAL], rows[rows["observer"] == "network"], rows]
    return list(dict.fromkeys(pd.concat(parts)["stage"]))


def _describe_agreement(work: _Work, rows: pd.DataFrame, curves: pd.DataFrame) -> None:
    settings = work.settings
    networks = rows[rows["observer"] == "network"]["participant"].nunique()
    if rows[["observer", "participant"]].drop_duplicates().shape[0] > 1:
        pairs = error_consistency(rows, min_common=settings.min_common)
        work.tables["error_consistency_pairs"] = pairs
        work.tables["error_consistency"] = summarize_consistency(
            pairs, rows if settings.bootstrap else None, confidence=settings.confidence
        )
    if networks and (rows["observer"] == "human").any():
        correlation = curve_correlation(curves)
        if len(correlation):
            work.tables["human_network"] = correlation


def _kind(cells: pd.DataFrame) -> str:
    """People are the observers; networks only where there are no people."""
    return "human" if (cells["observer"] == "human").any() else "network"


# ------------------------------------------------------------------------------------- the analyses


def _analyze_variance(
    work: _Work, cells: pd.DataFrame, paired: pd.DataFrame, progress: Progress | None
) -> None:
    """Make every analysis of variance; one that cannot be made is a note, unless none can."""
    kind = _kind(cells)
    units = cells[cells["observer"] == kind]
    models = list(dict.fromkeys(units["model"]))
    jobs = [*_model_jobs(work, units, models, kind), *_network_jobs(work, units, paired, models)]
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
        raise InputError(
            failures[0] if failures else "no analysis of variance can be made; give several stages."
        )
    work.notes += [f"not analyzed: {failure}" for failure in failures]


def _model_jobs(
    work: _Work, units: pd.DataFrame, models: list[str], kind: str
) -> list[Callable[[], None]]:
    for name in itertools.chain(*work.settings.contrasts):
        if name not in models:
            raise unknown_name("model of a contrast", name, models)
    pairs = [list(pair) for pair in work.settings.contrasts]
    if not pairs:
        every = [list(pair) for pair in itertools.combinations(models, 2)]
        pairs = [pair for pair in every if _shared(units, pair)]
        if rest := len(every) - len(pairs):
            work.notes.append(
                f"{rest} pairs of models are not compared, because fewer than 2 observers saw both"
            )
    # One family of post-hoc tests: over all models where the same people saw them all, else over
    # each pair.
    jointly = len(models) > 2 and _shared(units, models)
    sets = pairs + ([models] if jointly else [])
    singles = [[name] for name in models]

    def job(names: list[str], hoc: bool) -> Callable[[], None]:
        return lambda: _repeated(work, units, names, kind, hoc)

    jobs = [job(names, hoc=len(names) > 2 or not jointly) for names in sets]
    return jobs + [job(names, hoc=len(models) == 1) for names in singles]


def _shared(units: pd.DataFrame, models: Sequence[str]) -> bool:
    """Say whether two observers or more saw images of all these models.

    There must be a stage that all have.
    """
    seen = [set(units[units["model"] == name]["participant"]) for name in models]
    return len(set.intersection(*seen)) > 1 and bool(_common_stages(units, models))


def _common_stages(units: pd.DataFrame, models: Sequence[str]) -> list[str]:
    have = [set(units[units["model"] == name]["stage"]) for name in models]
    return [
        stage for stage in dict.fromkeys(units["stage"]) if all(stage in stages for stages in have)
    ]


def _repeated(work: _Work, units: pd.DataFrame, models: list[str], kind: str, hoc: bool) -> None:
    """Analyze the stages that all these models have; say which were left out."""
    analysis = TWO_WAY if len(models) > 1 else ONE_WAY
    what = f"{analysis}, {name_models(models)}"
    own = units[units["model"].isin(models)]
    stages = _common_stages(own, models)
    if rest := [stage for stage in dict.fromkeys(own["stage"]) if stage not in stages]:
        if work.settings.strict:
            raise InputError(
                f"--strict: {what}: no trials of every model at {name_ids(rest)}; choose --stages."
            )
        work.notes.append(f"{what}: without {name_ids(rest)}, where not every model has trials")
    if not stages:
        raise InputError(f"{what}: the models have no stage in common.")
    profiles = complete_profiles(own, models, stages, strict=work.settings.strict, what=what)
    _lose(work, profiles, kind)
    table = repeated_anova(profiles, analysis=analysis, observer=kind)
    work.anova.append(table)
    work.permutation.append(_permuted(work, table, profiles))
    if hoc:
        work.posthoc.append(
            post_hoc(
                profiles, correction=work.settings.correction, analysis=analysis, observer=kind
            )
        )


def _network_jobs(
    work: _Work, units: pd.DataFrame, paired: pd.DataFrame, models: list[str]
) -> list[Callable[[], None]]:
    """People against each network, one mixed analysis for each model whose images both saw."""
    if _kind(units) != "human":
        return []
    networks = paired[paired["observer"] == "network"]

    def job(model: str, network: str) -> Callable[[], None]:
        return lambda: _mixed(work, units, networks[networks["network"] == network], model, network)

    seen = networks[["model", "network"]].drop_duplicates().itertuples(index=False, name=None)
    return [job(model, network) for model, network in seen if model in models]


def _mixed(work: _Work, units: pd.DataFrame, own: pd.DataFrame, model: str, network: str) -> None:
    what = f"{MIXED}, {model}, human vs {network}"
    sides = [units[units["model"] == model], own[own["model"] == model]]
    stages = [
        stage for stage in dict.fromkeys(sides[0]["stage"]) if (sides[1]["stage"] == stage).any()
    ]
    both = []
    for kind, side in zip(("human", "network"), sides, strict=True):
        both.append(
            complete_profiles(side, [model], stages, strict=work.settings.strict, what=what)
        )
        _lose(work, both[-1], kind)
    table = mixed_anova(both[0], both[1], analysis=MIXED, observer=f"human vs {network}")
    work.anova.append(table)
    work.permutation.append(_permuted(work, table, (both[0], both[1])))


def _permuted(
    work: _Work, table: pd.DataFrame, data: Profiles | tuple[Profiles, Profiles]
) -> pd.DataFrame:
    return permutation_table(
        table, data, n_permutations=work.settings.permutations, seed=work.settings.seed
    )


def _lose(work: _Work, profiles: Profiles, kind: str) -> None:
    if len(profiles.excluded):
        rows = profiles.excluded.assign(what="analysis", observer=kind, n_trials=np.nan)
        work.lost.append(rows.reindex(columns=list(EXCLUSION_COLUMNS)))
