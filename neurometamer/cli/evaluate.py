"""Commands that evaluate metamers: parse, call, print; nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurometamer.cli.options import (
    BatchSize,
    Confidence,
    DeviceName,
    Nulls,
    Seed,
    SetWeights,
    one_of,
    one_step,
)

if TYPE_CHECKING:
    import pandas as pd

evaluate_app = typer.Typer(
    no_args_is_help=True, help="Who recognizes metamers, how they look, what they do."
)

Evaluators = Annotated[
    str, typer.Option(help="Networks that judge, names between commas; at least 2.")
]
Photographs = Annotated[
    list[Path],
    typer.Option(
        "--images", help="Photographs of the metamers; not needed where their folders hold them."
    ),
]
Parts = Annotated[
    list[str],
    one_of(
        table="neurometamer.commands.evaluate_sets:PARTS",
        help="recognizability, quality, divergence, observers, sets; the first three by default.",
    ),
]
Target = Annotated[
    str,
    one_of(
        table="neurometamer.evaluation.recognizability:TARGETS",
        help="Whose class a metamer shall have: own (the evaluator's, of the photograph), truth, "
        "generator.",
    ),
]
Truth = Annotated[
    Path | None, typer.Option(help="CSV with id and truth (ImageNet class or category).")
]
Ways = Annotated[list[int], typer.Option(help="1000, 16, or both.")]
Metrics = Annotated[
    list[str],
    one_of(
        table="neurometamer.evaluation.image_quality:METRICS",
        help="Image metrics; all nine when not given.",
    ),
]
MetricWeights = Annotated[
    list[str],
    typer.Option(
        help="fid=FILE, lpips=FILE, clip_iqa=FOLDER: local weights of metrics that need them."
    ),
]
ReadAt = Annotated[
    list[str],
    typer.Option(help="Stage or depth at which evaluators are read, for all or NAME=STAGE."),
]
SizeOption = Annotated[
    int | None, typer.Option(min=1, help="Pixels that every network sees; else each its own.")
]
Untrained = Annotated[
    bool, typer.Option("--untrained", help="Ask networks with random weights, too.")
]
Resamples = Annotated[int, typer.Option(min=0, help="Resamples of images.")]
Permutations = Annotated[
    int, typer.Option(min=0, help="Permutations, and resamples, of the divergence.")
]


@evaluate_app.command("metamers")
def evaluate_metamers_command(
    metamers: Annotated[
        list[str],
        typer.Option(
            help="Folders of 'stimuli metamer', one a set and stage; also SET=, SET@STAGE=FOLDER."
        ),
    ],
    evaluators: Evaluators,
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and report.html.")],
    images: Photographs = [],  # noqa: B006
    parts: Parts = [],  # noqa: B006
    weights: SetWeights = "default",
    nulls: Nulls = [],  # noqa: B006
    target: Target = "own",
    truth: Truth = None,
    ways: Ways = [1000, 16],  # noqa: B006
    baseline: Annotated[
        str, typer.Option(help="Setting that others are compared with.")
    ] = "unbounded",
    metrics: Metrics = [],  # noqa: B006
    metric_weights: MetricWeights = [],  # noqa: B006
    read_at: ReadAt = [],  # noqa: B006
    network_table: Annotated[
        Path | None, typer.Option(help="CSV for observers: network, and a column for each factor.")
    ] = None,
    factors: Annotated[
        str, typer.Option(help="Two columns of --network-table, between commas.")
    ] = "training,color",
    held_out: Annotated[
        str, typer.Option(help="Of sets: evaluators that score them, between commas.")
    ] = "",
    image_size: SizeOption = None,
    untrained: Untrained = False,
    resamples: Resamples = 10_000,
    permutations: Permutations = 1_000,
    confidence: Confidence = 0.95,
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Evaluate metamers: tables, figures and one page.

    The parts are recognizability, image quality, divergence and observers.

    Python: neurometamer.evaluate_metamers.
    """
    from neurometamer.errors import InputError

    names = _names(factors)
    if len(names) != 2 or len(set(names)) != 2:
        raise InputError(f"--factors wants two columns between a comma, not '{factors}'.")
    two = names[0], names[1]
    chosen = {
        **_only_given(
            parts=parts, metrics=metrics, read_at=_read_stages(read_at), held_out=_names(held_out)
        ),
        "target": target,
        "ways": ways,
        "baseline": baseline,
        "metric_weights": _pairs(metric_weights),
        "factors": two,
        "include_untrained": untrained,
        "n_resamples": resamples,
        "n_permutations": permutations,
        "confidence": confidence,
        "seed": seed,
    }
    _evaluate(
        metamers,
        evaluators,
        out,
        chosen,
        images=images,
        weights=weights,
        nulls=nulls,
        networks=network_table,
        truth=truth,
        image_size=image_size,
        device=device,
        batch_size=batch_size,
    )


@evaluate_app.command("plan-sets")
def plan_sets_command(
    networks: Annotated[str, typer.Option(help="Networks to choose from, names between commas.")],
    out: Annotated[Path, typer.Option(help="Folder of the jobs.")],
    sets: Annotated[int, typer.Option(min=1, help="How many sets.")] = 100,
    sizes: Annotated[str, typer.Option(help="LOW:HIGH, networks in a set.")] = "2:10",
    stage: Annotated[
        str, typer.Option(help="early, middle, late, or a fraction of depth.")
    ] = "middle",
    preset: Annotated[
        str,
        one_of(table="stimuli_gen.presets:PRESETS", help="feather2023, boehm2025, pixels or fast."),
    ] = "boehm2025",
    set_: Annotated[
        list[str], typer.Option("--set", help="NAME=VALUE: another number of the preset.")
    ] = [],  # noqa: B006
    seed: Seed = 0,
) -> None:
    """Draw random sets of networks, and write a job for each.

    Python: neurometamer.plan_model_sets.
    """
    from neurometamer.commands.metamers import read_overrides
    from neurometamer.commands.model_sets import plan_model_sets

    jobs = plan_model_sets(
        _names(networks),
        out,
        n_sets=sets,
        sizes=_range(sizes),
        stage=stage,
        preset=preset,
        seed=seed,
        **read_overrides(set_),
    )
    _tell_jobs(jobs)
    typer.echo(f"next: neurometamer evaluate run-sets {out} --images PHOTOGRAPHS")


@evaluate_app.command("run-sets")
def run_sets_command(
    folder: Annotated[Path, typer.Argument(help="Folder of 'evaluate plan-sets'.")],
    images: Annotated[list[Path], typer.Option(help="Photographs.")],
    weights: SetWeights = "default",
    image_size: SizeOption = None,
    nulls: Nulls = [],  # noqa: B006
    share: Annotated[str, typer.Option(help="I/N: do every N-th job from the I-th on.")] = "1/1",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
) -> None:
    """Make the metamers of planned sets; the same command goes on where it was stopped.

    Python: neurometamer.make_model_sets.
    """
    from neurometamer.commands.model_sets import make_model_sets

    part, _, parts = share.partition("/")
    with one_step("sets of networks") as progress:
        jobs = make_model_sets(
            folder,
            images,
            weights=weights,
            image_size=image_size,
            nulls=nulls,
            share=(_whole(part, "--share I/N"), _whole(parts, "--share I/N")),
            device=device,
            batch_size=batch_size,
            progress=progress,
        )
    _tell_jobs(jobs)
    if (jobs["state"] == "failed").any():
        raise typer.Exit(1)


@evaluate_app.command("sets")
def evaluate_sets_command(
    folder: Annotated[Path, typer.Argument(help="Folder of 'evaluate run-sets'.")],
    evaluators: Evaluators,
    images: Annotated[list[Path], typer.Option(help="Photographs.")],
    out: Annotated[Path, typer.Option(help="Folder for tables, figures and report.html.")],
    held_out: Annotated[
        str,
        typer.Option(
            help="Evaluators that score all sets; those in none when not given. Beside it each set "
            "is scored by all "
            "evaluators but its own networks, as in Boehm et al. (2025)."
        ),
    ] = "",
    target: Target = "own",
    weights: SetWeights = "default",
    image_size: SizeOption = None,
    nulls: Nulls = [],  # noqa: B006
    ways: Ways = [1000, 16],  # noqa: B006
    resamples: Resamples = 10_000,
    confidence: Confidence = 0.95,
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Say which networks make a set's metamers recognizable.

    The tables are signed differences in means, and a regression.

    Python: neurometamer.evaluate_metamers(neurometamer.finished_sets(...)).
    """
    from neurometamer.commands.model_sets import finished_sets

    chosen = {
        **_only_given(held_out=_names(held_out)),
        "parts": ["recognizability", "sets"],
        "ways": ways,
        "target": target,
        "n_resamples": resamples,
        "confidence": confidence,
        "seed": seed,
    }
    _evaluate(
        finished_sets(folder),
        evaluators,
        out,
        chosen,
        images=images,
        weights=weights,
        nulls=nulls,
        image_size=image_size,
        device=device,
        batch_size=batch_size,
    )


@evaluate_app.command("check-table")
def check_table_command(
    table: Annotated[
        Path, typer.Argument(help="CSV with network, appearances and difference, as printed.")
    ],
    sets: Annotated[int, typer.Option(min=2, help="Sets that were drawn.")] = 100,
    sd: Annotated[float, typer.Option(help="Standard deviation of the scores over sets.")] = 0.101,
    sizes: Annotated[
        str, typer.Option(help="LOW:HIGH, networks in a set, as the text says.")
    ] = "2:10",
    out: Annotated[Path | None, typer.Option(help="CSV for the rows with standard errors.")] = None,
) -> None:
    """Check a printed table of differences in means: which exceed what chance gives.

    Python: neurometamer.evaluation.check_difference_table.
    """
    from neurometamer.evaluation.model_sets import check_difference_table
    from neurometamer.store import read_table, write_table

    rows, totals = check_difference_table(
        read_table(table, text=["network"]), n_sets=sets, sd=sd, sizes=_range(sizes)
    )
    for name, value in totals.items():
        typer.echo(f"{name.replace('_', ' ')}: {value:g}")
    typer.echo(
        "exceed 1.96 standard errors: "
        f"{', '.join(rows.loc[rows['exceeds'], 'network'].astype(str)) or 'none'}"
    )
    if out is not None:
        typer.echo(write_table(out, rows))


# ------------------------------------------------------------------------------------------ reading


def _evaluate(
    metamers: Sequence[str], evaluators: str, out: Path, chosen: dict[str, Any], **given: Any
) -> None:
    from neurometamer.commands.evaluate import evaluate_metamers
    from neurometamer.commands.evaluate_sets import EvaluationSettings
    from neurometamer.store import read_json

    settings = EvaluationSettings(**chosen)
    with one_step("evaluation of metamers") as progress:
        page = evaluate_metamers(
            metamers, _names(evaluators), out, settings=settings, progress=progress, **given
        )
    for note in read_json(out / "provenance.json")["notes"]:
        typer.echo(note, err=True)
    typer.echo(page)


def _tell_jobs(jobs: pd.DataFrame) -> None:
    counts = jobs["state"].value_counts()
    typer.echo(", ".join(f"{number} {state}" for state, number in counts.items()))
    for name, reason in jobs.loc[jobs["state"] == "failed", ["set", "reason"]].itertuples(
        index=False, name=None
    ):
        typer.echo(f"{name}: {reason}", err=True)


def _only_given(**given: Any) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value}


def _names(given: str) -> list[str]:
    return [name.strip() for name in given.split(",") if name.strip()]


def _pairs(given: Sequence[str]) -> dict[str, str]:
    from neurometamer.errors import InputError, name_ids

    pairs = [text.partition("=") for text in given]
    if bad := [
        text for text, (name, _, value) in zip(given, pairs, strict=True) if not (name and value)
    ]:
        raise InputError(f"--metric-weights wants NAME=FILE, not {name_ids(bad)}.")
    return {name: value for name, _, value in pairs}


def _read_stages(given: Sequence[str]) -> str | dict[str, str] | None:
    from neurometamer.errors import InputError

    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    if any("=" not in text for text in given):
        raise InputError("--read-at wants one stage for all, or NAME=STAGE for each evaluator.")
    return {name: stage for name, _, stage in (text.partition("=") for text in given)}


def _range(given: str) -> tuple[int, int]:
    low, _, high = given.partition(":")
    return _whole(low, "--sizes LOW:HIGH"), _whole(high or low, "--sizes LOW:HIGH")


def _whole(given: str, option: str) -> int:
    from neurometamer.errors import InputError

    if not given.strip().isdigit():
        raise InputError(f"{option} wants whole numbers, not '{given}'.")
    return int(given)
