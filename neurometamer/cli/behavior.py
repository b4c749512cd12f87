"""Commands of recognition experiments: parse, call, print; nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from neurometamer.cli.experiment import join, page
from neurometamer.cli.options import Confidence, one_of, one_step

behavior_app = typer.Typer(
    no_args_is_help=True, help="Recognition experiments with people and networks."
)
behavior_app.command()(page)
behavior_app.command()(join)


@behavior_app.command("analyze")
def behavior_analyze(
    trials: Annotated[
        list[Path],
        typer.Argument(help="CSV files: one row a trial, or one row a proportion correct."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the tables, the figures and report.html.")],
    column: Annotated[
        list[str],
        typer.Option(help="ROLE=NAME, for a column of another name, e.g. participant=subject."),
    ] = [],  # noqa: B006
    where: Annotated[
        list[str], typer.Option(help="COLUMN=VALUE: only rows with this value, e.g. experiment=E3.")
    ] = [],  # noqa: B006
    models: Annotated[
        str, typer.Option(help="Models between commas, in this order; all when not given.")
    ] = "",
    stages: Annotated[
        list[str], typer.Option(help="Stages, in this order; all when not given.")
    ] = [],  # noqa: B006
    contrast: Annotated[
        list[str], typer.Option(help="A:B, two models to compare; all pairs when not given.")
    ] = [],  # noqa: B006
    categories: Annotated[
        str, typer.Option(help="All answers between commas; the 16 when not given.")
    ] = "",
    min_screening: Annotated[
        float, typer.Option(help="Least share of correct screening trials.")
    ] = 7 / 12,
    min_catch: Annotated[float, typer.Option(help="Least share of correct catch trials.")] = 0.75,
    min_trials: Annotated[
        int, typer.Option(min=1, help="Least number of usable trials of a person.")
    ] = 1,
    max_missing: Annotated[
        float, typer.Option(help="Largest share of trials without a usable answer.")
    ] = 0.2,
    max_fast: Annotated[
        float, typer.Option(help="Largest share of trials that are too fast.")
    ] = 0.2,
    fastest: Annotated[float, typer.Option(help="Faster answers, in ms, are left out.")] = 150.0,
    rt_unit: Annotated[
        str,
        one_of(
            table="neurometamer.behavior.trials:RT_UNITS", help="Unit of the column rt: ms or s."
        ),
    ] = "ms",
    missing: Annotated[
        str, one_of("exclude", "wrong", help="Trials without an answer: exclude, or wrong.")
    ] = "exclude",
    sem: Annotated[
        str,
        one_of(
            table="neurometamer.behavior.curves:SEM_METHODS",
            help="Standard errors between people, or within.",
        ),
    ] = "between",
    correction: Annotated[
        str,
        one_of(
            table="neurometamer.behavior.anova:CORRECTIONS",
            help="Of post-hoc tests: holm, fdr, bonferroni, none.",
        ),
    ] = "holm",
    permutations: Annotated[int, typer.Option(min=1, help="Shuffles of labels.")] = 10_000,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples of images; 0 for no intervals.")
    ] = 1000,
    confidence: Confidence = 0.95,
    min_common: Annotated[
        int, typer.Option(min=1, help="Fewest common trials of two observers.")
    ] = 10,
    ignore_case: Annotated[
        bool,
        typer.Option("--ignore-case", help="'Dog' is the answer 'dog'; refused when not given."),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse what would be left out and counted.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="All random numbers derive from it.")] = 0,
) -> None:
    """Analyze a recognition experiment.

    The parts are screening, curves, analyses of variance, confusion and error consistency.

    Python: neurometamer.analyze_recognition.
    """
    from neurometamer.behavior.trials import Screening
    from neurometamer.commands.analyze import AnalysisSettings, analyze_recognition
    from stimuli_gen.categories import CATEGORIES

    rules = Screening(
        min_screening=min_screening,
        min_catch=min_catch,
        min_trials=min_trials,
        max_missing=max_missing,
        max_fast=max_fast,
        fastest_ms=fastest,
    )
    settings = AnalysisSettings(
        columns=dict(_pairs(column, "--column", "=", "ROLE=NAME")),
        where=dict(_pairs(where, "--where", "=", "COLUMN=VALUE")),
        models=_names(models),
        stages=stages,
        contrasts=_pairs(contrast, "--contrast", ":", "A:B"),
        screening=rules,
        categories=_names(categories) or CATEGORIES,
        rt_unit=rt_unit,
        missing=missing,
        sem=sem,
        correction=correction,
        permutations=permutations,
        bootstrap=resamples,
        confidence=confidence,
        min_common=min_common,
        seed=seed,
        strict=strict,
        ignore_case=ignore_case,
    )
    with one_step("analyses") as progress:
        report = analyze_recognition(trials, out, settings, progress=progress)
    typer.echo(report)


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _pairs(given: Sequence[str], option: str, mark: str, form: str) -> list[tuple[str, str]]:
    from neurometamer.errors import InputError, name_ids

    parts = [pair.partition(mark) for pair in given]
    if bad := [
        pair for pair, (left, _, right) in zip(given, parts, strict=True) if not (left and right)
    ]:
        raise InputError(f"{option} wants {form}, not {name_ids(bad)}.")
    return [(left, right) for left, _, right in parts]
