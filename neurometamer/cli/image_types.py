"""The command that tests kinds of images: whether cortex, or network, follows perception."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurometamer.cli.options import (
    Classes,
    Confidence,
    Images,
    PatternFiles,
    Resamples,
    Seed,
    one_of,
    one_step,
)


def image_types(
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    patterns: PatternFiles = [],  # noqa: B006
    activations: Annotated[
        list[Path], typer.Option(help="Files of neurometamer.compute_activations.")
    ] = [],  # noqa: B006
    rdms: Annotated[
        list[Path], typer.Option(help="Or files of 'neurometamer rdm', all subjects in one.")
    ] = [],  # noqa: B006
    images: Images = [],  # noqa: B006
    interval: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.image_types.options:INTERVALS",
            help="projection, stimuli, subjects, dual, none, or subsample (the paper's; ignores "
            "images).",
        ),
    ] = "projection",
    null: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.image_types.options:NULLS",
            help="Labels permuted free, within session or class; auto: in sessions where they "
            "differ.",
        ),
    ] = "auto",
    classes: Classes = "fixed",
    combine: Annotated[
        str,
        one_of(
            table="neurometamer.stats.families:COMBINATIONS",
            help="One p of the subjects: joint, fisher, stouffer, all (each subject).",
        ),
    ] = "joint",
    correction: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.image_types.options:CORRECTIONS",
            help="fdr, bonferroni, holm, max-t or none.",
        ),
    ] = "fdr",
    family: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.image_types.options:FAMILIES",
            help="Corrected over places, or over places x subjects.",
        ),
    ] = "places",
    by: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.comparators.table:COMPARATORS,"
            "neurometamer.rsa.comparators.table:ALIASES",
            help="spearman, pearson, tau-a, rho-a, cosine.",
        ),
    ] = "spearman",
    measure: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.subsample:PARTS",
            help="RDMs are 1 - this correlation: spearman or pearson.",
        ),
    ] = "spearman",
    category: Annotated[str, typer.Option(help="Column of --images with the class.")] = "category",
    join: Annotated[
        str,
        one_of(
            "exact", "inner", help="exact: each photograph has every kind; inner: those that have."
        ),
    ] = "exact",
    trends: Annotated[
        Path | None, typer.Option(help="Also write trends over layers, as CSV.")
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            help="Also write a page with figures into this folder: SVG, PNG, and CSV of each."
        ),
    ] = None,
    resamples: Resamples = 1000,
    permutations: Annotated[
        int, typer.Option(min=0, help="Of labels; 0 for no p of similarities.")
    ] = 1000,
    confidence: Confidence = 0.95,
    seed: Seed = 0,
) -> None:
    """Test RE-AN, RE-AI and their difference in each layer, region and subject, and over subjects.

    Python: neurometamer.image_type_files.
    """
    from neurometamer.commands.image_types import image_type_files

    with one_step("image types"):
        table = image_type_files(
            out,
            rdms=rdms,
            patterns=patterns,
            activations=activations,
            images=images,
            measure=measure.lower(),
            category=category,
            trends=trends,
            figures=figures,
            interval=interval.lower(),
            null=null.lower(),
            classes=classes.lower(),
            combine=combine.lower(),
            correction=correction.lower(),
            family=family.lower(),
            by=by.lower(),
            join=join,
            n_resamples=resamples,
            n_permutations=permutations,
            confidence=confidence,
            seed=seed,
        )
    for row in table[table["quantity"] == "difference"].to_dict("records"):
        name = " ".join(word for word in (row["subject"], row["place"]) if word)
        typer.echo(
            f"{name}: {row['value']:+.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}] "
            f"{row['answer']}",
            err=True,
        )
    if interval.lower() == "subsample":
        from neurometamer.rsa.subsample import SUBSAMPLE_WARNING

        typer.echo(f"note: interval 'subsample': {SUBSAMPLE_WARNING}.", err=True)
    typer.echo(out)
    if figures is not None:
        typer.echo(figures / "index.html")
